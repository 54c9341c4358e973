//! A certificate authority of our own, and what it signs: good certificates and each kind of bad one.
//!
//! What comes in are names; what goes out are certificates and keys, made anew at every start and held in memory. The
//! only thing that is ever written to a file is the authority's certificate, for a client to trust.

use std::fs;
use std::io;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// When a certificate may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// Now: from 2020 to 2120.
    #[default]
    Now,
    /// Not any more: from 2020 to 2021.
    Past,
    /// Not yet: from 2119 to 2120.
    Future,
}

/// A certificate authority whose key exists in this process only.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its key, as a TLS server needs it.
#[derive(Debug)]
pub struct Identity {
    /// The leaf. The authority's own certificate is not sent along, as is usual.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new authority with a new key (ECDSA, P-256).
    ///
    /// # Errors
    ///
    /// Where the cryptography library refuses, for want of randomness for instance.
    pub fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// A certificate for a server that is known under `names`: host names, wildcards or IP addresses.
    ///
    /// # Errors
    ///
    /// Where a name cannot stand in a certificate.
    pub fn issue<S: AsRef<str>>(&self, names: &[S], validity: Validity) -> Result<Identity, rcgen::Error> {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("nobody", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
            Validity::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::Future => (date_time_ymd(2119, 1, 1), date_time_ymd(2120, 1, 1)),
        };
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { chain: vec![leaf.der().clone()], key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }

    /// The authority's certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes the authority's certificate, and nothing else, to a file.
    ///
    /// # Errors
    ///
    /// Those of [`fs::write`].
    pub fn write_pem(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.pem)
    }

    /// The authority's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A store in which this authority is the only one trusted: what a client inside a test verifies against.
    ///
    /// # Panics
    ///
    /// Never: the certificate was made by [`Authority::new`].
    #[must_use]
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate made by rcgen parses");
        roots
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::{CertificateError, Error};
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;

    /// What a client that trusts `roots` says to `identity`, when it wanted to reach `name`, in 2026.
    fn verdict(roots: RootCertStore, identity: &Identity, name: &str) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
        verifier.verify_server_cert(&identity.chain[0], &[], &name, &[], now).map(|_| ())
    }

    #[test]
    fn a_good_certificate_is_good_for_each_of_its_names() {
        let authority = Authority::new("Testbed CA").unwrap();
        let names = ["exchange.test", "*.venue.test", "10.77.0.2", "fd77::2"];
        let identity = authority.issue(&names, Validity::Now).unwrap();
        for name in ["exchange.test", "stream.venue.test", "10.77.0.2", "fd77::2"] {
            assert_eq!(verdict(authority.roots(), &identity, name), Ok(()), "{name}");
        }
    }

    #[test]
    fn each_bad_certificate_is_bad_for_its_own_reason() {
        let authority = Authority::new("Testbed CA").unwrap();
        let stranger = Authority::new("Testbed CA").unwrap();
        let at = |validity| authority.issue(&["exchange.test"], validity).unwrap();
        let refusal = |roots, identity: &Identity, name| match verdict(roots, identity, name) {
            Err(Error::InvalidCertificate(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let roots = || authority.roots();
        assert!(matches!(
            refusal(roots(), &at(Validity::Past), "exchange.test"),
            CertificateError::ExpiredContext { .. }
        ));
        assert!(matches!(
            refusal(roots(), &at(Validity::Future), "exchange.test"),
            CertificateError::NotValidYetContext { .. }
        ));
        assert!(matches!(
            refusal(roots(), &at(Validity::Now), "other.test"),
            CertificateError::NotValidForNameContext { .. }
        ));
        // The same name, another key: the signature is what counts.
        assert!(matches!(
            refusal(stranger.roots(), &at(Validity::Now), "exchange.test"),
            CertificateError::BadSignature | CertificateError::UnknownIssuer
        ));
    }
}
