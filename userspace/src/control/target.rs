//! What the user wants to connect to, taken apart.

use url::{Host, Url};

use super::Error;

/// A `ws://` or `wss://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is asked for (`wss`).
    pub tls: bool,
    /// The name or address, without brackets around IPv6.
    pub host: String,
    /// The port; 443 and 80 where the URL names none.
    pub port: u16,
    /// What goes into the request line: path and query.
    pub path_and_query: String,
    /// What goes into the `Host` header: the port is left out where it is the scheme's own (RFC 6455 section 4.1).
    pub authority: String,
}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// [`Error::Url`]: not a URL, another scheme, a fragment (RFC 6455 section 3 forbids it), or credentials (send them
    /// in a header).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Url { url: text.to_owned(), reason: reason.to_owned() };
        let url = Url::parse(text).map_err(|error| fail(&format!("not a URL: {error}")))?;
        let tls = match url.scheme() {
            "wss" => true,
            "ws" => false,
            other => return Err(fail(&format!("the scheme is {other}, and must be ws or wss"))),
        };
        if url.fragment().is_some() {
            return Err(fail("a WebSocket URL has no fragment (#...)"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("credentials do not belong into the URL: pass them with --header"));
        }
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        let (host, bracketed) = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => (name.to_owned(), name.to_owned()),
            Some(Host::Ipv4(address)) => (address.to_string(), address.to_string()),
            Some(Host::Ipv6(address)) => (address.to_string(), format!("[{address}]")),
            _ => return Err(fail("it names no host")),
        };
        let authority = match url.port() {
            Some(port) => format!("{bracketed}:{port}"),
            None => bracketed,
        };
        let path_and_query = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { tls, host, port, path_and_query, authority })
    }

    /// The host in the form `getaddrinfo` takes.
    pub(super) fn address_host(&self) -> &str {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("wss://stream.example.com/stream?streams=a@trade/b@depth").unwrap();
        assert_eq!((target.tls, target.port), (true, 443));
        assert_eq!(target.host, "stream.example.com");
        assert_eq!(target.authority, "stream.example.com");
        assert_eq!(target.path_and_query, "/stream?streams=a@trade/b@depth");
    }

    #[test]
    fn a_port_of_its_own_is_named_in_the_authority() {
        let target = Target::parse("ws://[2001:db8::1]:9443").unwrap();
        assert_eq!((target.host.as_str(), target.authority.as_str()), ("2001:db8::1", "[2001:db8::1]:9443"));
        assert_eq!((target.tls, target.port, target.path_and_query.as_str()), (false, 9443, "/"));
        assert_eq!(Target::parse("wss://h:443/x").unwrap().authority, "h", "443 is wss's own");
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused_with_the_reason() {
        for (url, reason) in [
            ("https://h/", "must be ws or wss"),
            ("h:443", "must be ws or wss"),
            ("", "not a URL"),
            ("wss://", "not a URL"),
            ("wss://h/#top", "no fragment"),
            ("wss://me:secret@h/", "--header"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
