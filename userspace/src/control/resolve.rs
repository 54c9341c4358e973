//! From a name to addresses, as every other program on the host does it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::{Error, Target};

/// The addresses of the target, in the order `getaddrinfo` gives them: /etc/hosts, nsswitch.conf, resolv.conf and
/// RFC 6724 are honoured because it is libc that answers.
///
/// # Errors
///
/// [`Error::Resolve`]; also where the answer is empty.
pub fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Error> {
    let fail = |source| Error::Resolve { host: target.host.clone(), source };
    let found: Vec<_> = (target.address_host(), target.port).to_socket_addrs().map_err(fail)?.collect();
    if found.is_empty() {
        return Err(fail(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_resolves_to_itself() {
        for (url, address) in [("ws://127.0.0.1:9000/", "127.0.0.1:9000"), ("ws://[::1]:9000/", "[::1]:9000")] {
            let target = Target::parse(url).unwrap();
            assert_eq!(addresses(&target).unwrap(), [address.parse().unwrap()]);
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_named_in_the_error() {
        let target = Target::parse("wss://feed.invalid/ws").unwrap();
        let error = addresses(&target).unwrap_err();
        assert!(error.to_string().starts_with("feed.invalid: cannot be resolved"), "{error}");
    }
}
