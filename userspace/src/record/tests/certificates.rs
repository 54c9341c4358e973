//! Whom the client believes, and how it says that it does not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConnection;

use super::rig::{self, AES128, AUTHORITY, Authority, HOST, Identity, ecdsa, for_host, give, take};
use crate::floor::Limits;
use crate::record::{Client, Error, Handshake, Progress, Trust};

/// A handshake with `name` at a server that has `identity`, by a client that trusts `trust`.
fn handshake(trust: &str, identity: Identity, name: &str) -> Result<(), Error> {
    let client = Client::new(Trust::from_pem(trust.as_bytes()).unwrap(), false).unwrap();
    let mut server = ServerConnection::new(Arc::new(rig::server_with(AES128, identity))).unwrap();
    let mut handshake = Handshake::new(&client, rig::host(name), &Limits::default()).unwrap();
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    give(&mut server, &out).unwrap();
    let progress = handshake.push(&take(&mut server), &mut out)?;
    assert_eq!(progress, Progress::Complete);
    Ok(())
}

/// As above, with a certificate from the trusted authority.
fn with(params: &CertificateParams, name: &str) -> Result<(), Error> {
    handshake(&AUTHORITY.pem(), AUTHORITY.sign(params, &ecdsa()), name)
}

#[test]
fn a_good_certificate_is_believed() {
    with(&for_host(HOST), HOST).unwrap();
    with(&for_host("*.feed.example"), "stream.feed.example").unwrap();
    with(&for_host("10.1.2.3"), "10.1.2.3").unwrap();
}

#[test]
fn an_unknown_authority_is_not() {
    let stranger = Authority::new("somebody else");
    let error = handshake(&stranger.pem(), AUTHORITY.sign(&for_host(HOST), &ecdsa()), HOST).unwrap_err();
    assert!(matches!(&error, Error::UnknownAuthority { host } if host == HOST), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the certificate of feed.example is signed by an unknown authority: pass its certificate with --ca-file"
    );
    // The same name does not make it the same authority.
    let impostor = Authority::new("wiretick test authority");
    assert!(handshake(&AUTHORITY.pem(), impostor.sign(&for_host(HOST), &ecdsa()), HOST).is_err());
    // A file of one's own replaces the public authorities, it does not add to them.
    assert_eq!(Trust::from_pem(AUTHORITY.pem().as_bytes()).unwrap().len(), 1);
    assert!(Trust::web_pki().len() > 50);
    assert!(!Trust::web_pki().is_empty());
}

#[test]
fn a_certificate_that_signed_itself_is_not() {
    let key = ecdsa();
    let leaf = for_host(HOST).self_signed(&key).unwrap();
    let error = handshake(&AUTHORITY.pem(), rig::identity(leaf.der().clone(), &key), HOST).unwrap_err();
    assert!(matches!(error, Error::UnknownAuthority { .. }), "{error:?}");
    // Unless it is handed over as the authority that it is.
    handshake(&leaf.pem(), rig::identity(leaf.der().clone(), &key), HOST).unwrap();

    // Made as an authority and put on a host: a frequent mistake, with a remedy of its own.
    let mut params = for_host(HOST);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let leaf = params.self_signed(&key).unwrap();
    let error = handshake(&leaf.pem(), rig::identity(leaf.der().clone(), &key), HOST).unwrap_err();
    assert!(error.to_string().contains("an authority's own certificate"), "{error}");
}

#[test]
fn dates_are_looked_at() {
    let mut params = for_host(HOST);
    params.not_after = date_time_ymd(2020, 2, 29);
    let error = with(&params, HOST).unwrap_err();
    assert!(matches!(error, Error::CertificateExpired { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the certificate of feed.example has expired on 2020-02-29 00:00:00 UTC: \
         it must be renewed there, or this machine's clock is wrong"
    );
    let mut params = for_host(HOST);
    params.not_before = date_time_ymd(3000, 1, 1);
    let error = with(&params, HOST).unwrap_err();
    assert!(matches!(error, Error::CertificateNotYetValid { not_before: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("is not valid yet, only from 3000-01-01"), "{error}");
}

#[test]
fn the_name_is_looked_at_and_both_are_named() {
    let params = CertificateParams::new(["other.example".to_owned(), "*.third.example".to_owned()]).unwrap();
    let error = with(&params, HOST).unwrap_err();
    assert!(matches!(&error, Error::WrongHost { host, .. } if host == HOST), "{error:?}");
    assert_eq!(error.to_string(), "the certificate is not for feed.example: it names other.example, *.third.example");
    let error = with(&for_host(HOST), "10.1.2.3").unwrap_err();
    assert_eq!(error.to_string(), "the certificate is not for 10.1.2.3: it names feed.example");
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)).to_string();
    let error = with(&for_host(&address), HOST).unwrap_err();
    assert!(error.to_string().contains("it names 10.1.2.3"), "{error}");
    let error = with(&CertificateParams::default(), HOST).unwrap_err();
    assert!(error.to_string().contains("it names no host at all"), "{error}");
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    let mut params = for_host(HOST);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let error = with(&params, HOST).unwrap_err();
    assert!(
        matches!(&error, Error::CertificateRefused { why, .. } if why.contains("server authentication")),
        "{error:?}"
    );
}

#[test]
fn a_file_without_certificates_is_named_for_what_it_is() {
    let found = |pem: &[u8]| match Trust::from_pem(pem).unwrap_err() {
        Error::PemWithoutCertificate { found } => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found(b""), "an empty file");
    assert_eq!(found(b"hello"), "5 bytes of something else");
    assert_eq!(found(KeyPair::generate().unwrap().serialize_pem().as_bytes()), "a \"PRIVATE KEY\" section");
    let der = for_host(HOST).self_signed(&ecdsa()).unwrap().der().to_vec();
    assert_eq!(found(&der), "DER: convert it with `openssl x509 -inform der`");
}

#[test]
fn a_damaged_file_is_refused_as_a_whole_and_the_damage_named() {
    let good = AUTHORITY.pem();
    let (first, rest) = good.split_at(good.len() / 2);

    let error = Trust::from_pem([&good, first].concat().as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the PEM file is damaged after 1 certificate(s): \"-----END CERTIFICATE-----\" is missing"
    );
    let error = Trust::from_pem([first, "!!", rest].concat().as_bytes()).unwrap_err();
    assert!(matches!(&error, Error::PemDamaged { certificates: 0, why } if why.contains("base64")), "{error:?}");
    let error = Trust::from_pem(good.replace("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE--").as_bytes()).unwrap_err();
    assert!(error.to_string().contains("\"-----BEGIN CERTIFICATE--\" begins no section"), "{error}");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = Trust::from_pem([&good, nonsense].concat().as_bytes()).unwrap_err();
    assert!(error.to_string().starts_with("certificate 2 of the PEM file cannot be parsed"), "{error}");
    // Text around the sections, as `openssl x509 -text` writes it, is no damage; nor are other sections.
    let key = KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(Trust::from_pem(["Issuer: x\n", &good, &key, &good].concat().as_bytes()).unwrap().len(), 2);
}

#[test]
fn a_client_shows_none_of_its_secrets() {
    assert_eq!(format!("{:?}", rig::client()), "Client { .. }");
}
