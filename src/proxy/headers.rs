//! Decides which header fields are removed and which are passed on (RFC 9110, section 7.6).

use std::borrow::Cow;

use hyper::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, ORIGIN, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use url::Url;

use super::target::Target;

/// The header with the caller's key, for clients whose `Authorization` is taken.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-authctl-key");

/// Fields that belong to one connection whether `Connection` lists them or not.
static HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A proof for a bound token, and its nonce (RFC 9449, sections 4.1 and 8.1).
pub const DPOP: HeaderName = HeaderName::from_static("dpop");
/// See [`DPOP`].
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Credentials of the caller, and what speaks for a browser's page.
static CALLER: [HeaderName; 8] =
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, HeaderName::from_static("cookie2"), DPOP, KEY_HEADER, HOST, ORIGIN];

/// Fields by which some servers take a request for one with another method, path or host than its request line has. What the rules
/// have checked would not be what the server does. They are removed, and a request with one of [`OTHER_PATH`] or, where rules limit
/// methods, of [`OTHER_METHOD`] is refused.
const OVERRIDES: [&str; 18] = [
    "forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-original-host",
    "x-override-url",
    "x-rewrite-url",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-host",
];

/// Those by which a caller can name another path.
const OTHER_PATH: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// Those by which a caller can name another method.
const OTHER_METHOD: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// Returns the name as many servers read it: they take `_` for `-`, as CGI does (RFC 3875, section 4.1.18).
fn as_read(name: &HeaderName) -> Cow<'_, str> {
    match name.as_str().contains('_') {
        true => Cow::Owned(name.as_str().replace('_', "-")),
        false => Cow::Borrowed(name.as_str()),
    }
}

/// Returns whether a request must not have the field.
fn is_of_caller(name: &HeaderName) -> bool {
    let name = as_read(name);
    OVERRIDES.contains(&&*name) || CALLER.iter().any(|field| *field == *name)
}

fn one_of(headers: &HeaderMap, names: &[&'static str]) -> Option<&'static str> {
    headers.keys().find_map(|own| {
        let own = as_read(own);
        names.iter().copied().find(|name| own == *name)
    })
}

/// Returns the field by which some servers take a request for one with another path.
#[must_use]
pub fn other_path(headers: &HeaderMap) -> Option<&'static str> {
    one_of(headers, &OTHER_PATH)
}

/// Returns the field by which some servers take a request for one with another method.
#[must_use]
pub fn other_method(headers: &HeaderMap) -> Option<&'static str> {
    one_of(headers, &OTHER_METHOD)
}

/// Returns whether a request or response changes the protocol of its connection to WebSocket (RFC 9110, section 7.8). To no other:
/// with HTTP/2 (`h2c`), a caller could send the server requests that the proxy does not see.
#[must_use]
pub fn upgrades(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    protocols.next().is_some_and(is_websocket)
        && protocols.next().is_none()
        && connection_options(headers).any(|option| option == UPGRADE)
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|option| HeaderName::from_bytes(option.trim().as_bytes()).ok())
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = connection_options(headers).collect();
    let upgrade = if upgrades(headers) { headers.get(UPGRADE).cloned() } else { None };
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Leaves in a request what the server may have from the caller. No `Via` is added: nginx and others then send nothing compressed.
pub fn clean_request(headers: &mut HeaderMap) {
    let takes_trailers = headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    remove_hop_by_hop(headers);
    let of_caller: Vec<HeaderName> = headers.keys().filter(|name| is_of_caller(name)).cloned().collect();
    for name in of_caller {
        headers.remove(name);
    }
    // hyper has answered it.
    headers.remove(hyper::header::EXPECT);
    if takes_trailers {
        // Not listed in Connection, as HTTP/1.1 asks for: the API may speak HTTP/2, and the client then removes what is listed.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Leaves in a response what the caller may have: no cookie, which would be a credential, and addresses of the API as those of
/// the proxy at `base`.
pub fn clean_response(headers: &mut HeaderMap, target: &Target, base: &str, requested: &Url) {
    remove_hop_by_hop(headers);
    headers.remove(SET_COOKIE);
    headers.remove(HeaderName::from_static("set-cookie2"));
    headers.remove(DPOP_NONCE);
    let Some(location) = headers.get(LOCATION).and_then(|value| requested.join(value.to_str().ok()?).ok()) else {
        return;
    };
    if target.is_same_origin(&location) {
        let path = &location[url::Position::BeforePath..];
        if let Ok(value) = HeaderValue::from_str(&format!("{base}{path}")) {
            headers.insert(LOCATION, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn request_keeps_what_is_for_the_server() {
        let mut request = headers(&[
            ("host", "127.0.0.1:1"),
            ("authorization", "Bearer key"),
            ("proxy-authorization", "Basic x"),
            ("cookie", "a=b"),
            ("cookie2", "a=b"),
            ("dpop", "a.b.c"),
            ("x-authctl-key", "key"),
            ("origin", "http://127.0.0.1:1"),
            ("connection", "keep-alive, X-Private"),
            ("x-private", "for this connection"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("range", "bytes=0-9"),
            ("content-type", "text/plain"),
        ]);
        clean_request(&mut request);
        let expected = ["content-type: text/plain", "range: bytes=0-9", "te: trailers"];
        assert_eq!(shown(&request), expected);
    }

    #[test]
    fn request_names_no_other_method_path_or_host() {
        for name in [
            "x-http-method-override",
            "X-HTTP-Method",
            "x-method-override",
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-prefix",
            "x-forwarded-host",
            "X_HTTP_Method_Override",
            "x_original-url",
            "proxy_authorization",
            "dpop",
            "cookie2",
        ] {
            let mut request = headers(&[(name, "DELETE"), (name, "/admin"), ("x-forwarded-for", "192.0.2.1")]);
            clean_request(&mut request);
            assert_eq!(shown(&request), ["x-forwarded-for: 192.0.2.1"], "{name}");
        }
    }

    #[test]
    fn connection_cannot_list_away_the_protection() {
        // Fields that a server relies on, named as connection options (a known way to remove them).
        let mut request = headers(&[("connection", "close, authorization, via"), ("via", "1.1 other")]);
        clean_request(&mut request);
        assert_eq!(shown(&request), [""; 0]);
    }

    #[test]
    fn change_of_protocol_is_passed_on() {
        let mut request =
            headers(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]);
        clean_request(&mut request);
        let expected = ["connection: upgrade", "sec-websocket-version: 13", "upgrade: websocket"];
        assert_eq!(shown(&request), expected);
        let mut without = headers(&[("upgrade", "h2c")]);
        clean_request(&mut without);
        assert_eq!(shown(&without), [""; 0], "an upgrade that Connection does not list");
        for protocol in ["h2c", "websocket, h2c", "TLS/1.0", ""] {
            let mut other = headers(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", protocol)]);
            other.insert("http2-settings", HeaderValue::from_static("AAMAAABk"));
            clean_request(&mut other);
            assert_eq!(shown(&other), [""; 0], "{protocol}");
        }
        let mut two = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        two.append(UPGRADE, HeaderValue::from_static("h2c"));
        clean_request(&mut two);
        assert_eq!(shown(&two), [""; 0]);
    }

    #[test]
    fn location_at_the_api_becomes_one_at_the_proxy() {
        let api = "https://api.example/v1".parse().expect("a URL");
        let target = Target::try_from(&api).expect("a target");
        let requested = Url::parse("https://api.example/v1/items?x=y").expect("a URL");
        for (location, expected) in [
            ("https://api.example/v1/items/7?a=b#c", "http://127.0.0.1:9/v1/items/7?a=b#c"),
            ("https://api.example:443/login", "http://127.0.0.1:9/login"),
            ("/v1/items/7", "http://127.0.0.1:9/v1/items/7"),
            ("7", "http://127.0.0.1:9/v1/7"),
            ("//api.example/v1/7", "http://127.0.0.1:9/v1/7"),
            ("https://other.example/v1", "https://other.example/v1"),
            ("http://api.example/v1", "http://api.example/v1"),
            ("https://api.example:8443/v1", "https://api.example:8443/v1"),
            ("//other.example/v1", "//other.example/v1"),
        ] {
            let mut response = headers(&[("location", location), ("set-cookie", "session=1"), ("connection", "close")]);
            clean_response(&mut response, &target, "http://127.0.0.1:9", &requested);
            assert_eq!(shown(&response), [format!("location: {expected}")], "{location}");
        }
    }
}
