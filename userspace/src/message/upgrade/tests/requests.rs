//! The request, and the caller's mistakes.

use super::*;

fn build(host: &str, path: &str, headers: &[(&str, &str)]) -> Result<String, Error> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Upgrade::new(host, path, &headers, KEY, &Limits::default())
        .map(|(_, request)| String::from_utf8(request.to_vec()).unwrap())
}

/// Why a header is refused.
fn refused(name: &str, value: &str) -> &'static str {
    match build("h", "/", &[(name, value)]) {
        Err(error @ Error::BadHeader { why, .. }) => {
            assert_eq!(error.culprit(), Culprit::Caller);
            why
        }
        other => panic!("{name}: {value} led to {other:?}"),
    }
}

#[test]
fn the_request_is_the_rfcs_with_the_callers_headers_behind() {
    let request =
        build("exchange.example:9443", "/ws?streams=a/b", &[("Origin", "https://me.example"), ("X-Key", "k")]);
    assert_eq!(
        request.unwrap(),
        "GET /ws?streams=a/b HTTP/1.1\r\nHost: exchange.example:9443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Origin: https://me.example\r\nX-Key: k\r\n\r\n"
    );
}

#[test]
fn a_header_that_would_end_its_line_is_refused() {
    for value in ["a\r\nHost: evil", "a\nb", "a\rb", "a\0b", "\x1b[31m", "\x7f"] {
        assert_eq!(refused("X-Key", value), "has a control character in its value");
    }
    assert!(build("h", "/", &[("X-Key", "tab\tand space \u{e4}")]).is_ok());
    assert!(build("h", "/", &[("X-Key", "")]).is_ok());
}

#[test]
fn a_header_whose_name_is_not_a_token_is_refused() {
    for name in ["", "a b", "a:", "a\r\n", "\u{e4}", "(a)", "a\0"] {
        assert_eq!(refused(name, "v"), "has a name that is not a token");
    }
    assert!(build("h", "/", &[("!#$%&'*+-.^_`|~09azAZ", "v")]).is_ok());
}

#[test]
fn a_header_that_is_the_upgrades_own_is_refused_in_any_case() {
    for name in [
        "Host",
        "hOST",
        "Upgrade",
        "connection",
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "SEC-WEBSOCKET-EXTENSIONS",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Anything",
        "Sec-WebSocket-",
        "Content-Length",
        "transfer-encoding",
        "Expect",
    ] {
        assert_eq!(refused(name, "v"), "is the upgrade's own to set");
    }
    for name in ["User-Agent", "Origin", "Authorization", "Cookie", "Sec-Fetch-Mode", "Hosting"] {
        assert!(build("h", "/", &[(name, "v")]).is_ok(), "{name}");
    }
}

#[test]
fn subprotocols_are_tokens_and_offered_once() {
    let name = "sec-websocket-PROTOCOL";
    assert!(build("h", "/", &[(name, "a, b ,\tc"), (name, "d")]).is_ok());
    for value in ["", "a,,b", "a b", "a/b", "a,"] {
        assert_eq!(refused(name, value), "offers a subprotocol that is not a token");
    }
    assert_eq!(refused(name, "a, b, a"), "offers a subprotocol twice");
    assert!(build("h", "/", &[(name, "a"), (name, "a")]).is_err());
}

#[test]
fn a_secret_in_a_header_or_a_path_is_not_in_the_error() {
    let error = build("h", "/", &[("Authorization", "secret\r\n")]).unwrap_err();
    assert_eq!(error.to_string(), "caller: header \"Authorization\" has a control character in its value");
    let error = build("h", "/?token=secret value", &[]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[test]
fn a_host_or_path_that_would_change_the_request_is_refused() {
    for host in ["", "a b", "a\r\nX: y", "a/b", "user@a", "a?b", "a#b", "\u{e4}.example", "a,b"] {
        let error = build(host, "/", &[]).unwrap_err();
        assert!(matches!(error, Error::BadHost { .. }), "{host:?} led to {error:?}");
        assert_eq!(error.culprit(), Culprit::Caller);
    }
    for path in ["", "ws", "/a b", "/a\r\nX: y", "/a#b", "/\u{e4}", "*", "http://h/"] {
        let error = build("h", path, &[]).unwrap_err();
        assert!(matches!(error, Error::BadPath { .. }), "{path:?} led to {error:?}");
        assert_eq!(error.culprit(), Culprit::Caller);
    }
    for host in ["a.example", "127.0.0.1:80", "[::1]:443"] {
        assert!(build(host, "/a;b=%20?c=[d]", &[]).is_ok());
    }
}
