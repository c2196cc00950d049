//! Decides which header fields are removed and which are passed on (RFC 9110, section 7.6).

use std::borrow::Cow;

use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, LINK, LOCATION, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFRESH, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use percent_encoding::{AsciiSet, percent_encode};
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

/// Credentials of the caller, what speaks for a browser's page, and what hyper has answered.
static CALLER: [HeaderName; 9] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("cookie2"),
    DPOP,
    KEY_HEADER,
    HOST,
    ORIGIN,
    EXPECT,
];

/// Credentials of the API for the caller, which the proxy has in its place.
static API: [HeaderName; 3] = [SET_COOKIE, HeaderName::from_static("set-cookie2"), DPOP_NONCE];

/// Addresses in a response, which are rewritten.
static ADDRESSES: [HeaderName; 4] = [LOCATION, CONTENT_LOCATION, LINK, REFRESH];

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
    match name.as_str().as_bytes().contains(&b'_') {
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

/// Removes the fields of one connection, and others.
fn remove_hop_by_hop_and(headers: &mut HeaderMap, is_other: impl Fn(&HeaderName) -> bool) {
    let upgrade = if upgrades(headers) { headers.get(UPGRADE).cloned() } else { None };
    let listed: Vec<HeaderName> = connection_options(headers).collect();
    let is_removed = |name: &&HeaderName| HOP_BY_HOP.contains(name) || listed.contains(name) || is_other(name);
    let removed: Vec<HeaderName> = headers.keys().filter(is_removed).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Leaves in the trailers of a request or response what could be a header of one. Fields that need more than that are removed: a
/// recipient may discard any (RFC 9110, section 6.5.1).
pub fn clean_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop_and(trailers, |name| {
        is_of_caller(name) || API.contains(name) || ADDRESSES.contains(name) || *name == CONTENT_LENGTH
    });
}

/// Leaves in a request what the server may have from the caller. No `Via` is added: nginx and others then send nothing compressed.
pub fn clean_request(headers: &mut HeaderMap) {
    let takes_trailers = headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    remove_hop_by_hop_and(headers, is_of_caller);
    if takes_trailers {
        // Not listed in Connection, as HTTP/1.1 asks for: the API may speak HTTP/2, and the client then removes what is listed.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Leaves in a response what the caller may have: no cookie, which would be a credential, and addresses of the API as those of
/// the proxy at `base`.
pub fn clean_response(headers: &mut HeaderMap, target: &Target, base: &str, requested: &Url) {
    remove_hop_by_hop_and(headers, |name| API.contains(name));
    let at_proxy = |reference: &[u8]| {
        // Clients escape other bytes too.
        let ascii = percent_encode(reference, &AsciiSet::EMPTY).to_string();
        let url = requested.join(&ascii).ok().filter(|url| target.is_same_origin(url))?;
        Some(format!("{base}{}", &url[url::Position::BeforePath..]))
    };
    for (name, value) in headers.iter_mut().filter(|(name, _)| ADDRESSES.contains(name)) {
        let rewritten = if *name == LINK {
            Some(rewrite_link(value.as_bytes(), at_proxy))
        } else if *name == REFRESH {
            rewrite_refresh(value.as_bytes(), at_proxy)
        } else {
            at_proxy(value.as_bytes()).map(String::into_bytes)
        };
        if let Some(rewritten) = rewritten.and_then(|value| HeaderValue::from_bytes(&value).ok()) {
            *value = rewritten;
        }
    }
}

/// Returns a value of `Refresh`, such as `5; url=https://api.example/v1`, with its address rewritten; `None` if it has none.
fn rewrite_refresh(value: &[u8], at_proxy: impl Fn(&[u8]) -> Option<String>) -> Option<Vec<u8>> {
    let (seconds, rest) = value.split_at(value.iter().position(|byte| matches!(byte, b';' | b','))?);
    let rest = rest[1..].trim_ascii();
    // The name is optional, as in HTML.
    let named = rest.get(..3).filter(|name| name.eq_ignore_ascii_case(b"url"));
    let address = named.and_then(|_| rest[3..].trim_ascii_start().strip_prefix(b"=")).unwrap_or(rest).trim_ascii();
    let quote = address.first().filter(|byte| matches!(byte, b'"' | b'\''));
    let address = match quote {
        Some(quote) => address[1..].split(|byte| byte == quote).next()?,
        None => address,
    };
    Some([seconds, b"; url=", at_proxy(address)?.as_bytes()].concat())
}

/// Returns a value of `Link` with the targets of its links rewritten (RFC 8288, section 3). Strings in quotes have none.
fn rewrite_link(value: &[u8], at_proxy: impl Fn(&[u8]) -> Option<String>) -> Vec<u8> {
    let (mut rewritten, mut rest, mut is_quoted) = (Vec::with_capacity(value.len()), value, false);
    while let Some((&byte, after)) = rest.split_first() {
        rewritten.push(byte);
        rest = after;
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => {
                rewritten.extend(rest.first());
                rest = rest.get(1..).unwrap_or_default();
            }
            b'<' if !is_quoted => {
                let end = rest.iter().position(|byte| *byte == b'>').unwrap_or(rest.len());
                let (target, after) = rest.split_at(end);
                match at_proxy(target) {
                    Some(address) => rewritten.extend_from_slice(address.as_bytes()),
                    None => rewritten.extend_from_slice(target),
                }
                rest = after;
            }
            _ => {}
        }
    }
    rewritten
}

/// Returns whether a message has a transfer coding other than a single `chunked`. The proxy does not pass it on, and without it
/// the body would be another one.
#[must_use]
pub fn has_other_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(|first| !is_chunked(first)) || codings.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (name.parse().expect("a name"), HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
            })
            .collect()
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
            ("https://api.example/v1/caf\u{e9}", "http://127.0.0.1:9/v1/caf%C3%A9"),
            ("/v1/\u{e9}?q=\u{e9}", "http://127.0.0.1:9/v1/%C3%A9?q=%C3%A9"),
            ("https://user@api.example/v1", "http://127.0.0.1:9/v1"),
        ] {
            let mut response = headers(&[("location", location), ("set-cookie", "session=1"), ("connection", "close")]);
            clean_response(&mut response, &target, "http://127.0.0.1:9", &requested);
            assert_eq!(shown(&response), [format!("location: {expected}")], "{location}");
        }
    }

    #[test]
    fn every_address_at_the_api_becomes_one_at_the_proxy() {
        let api = "https://api.example/v1".parse().expect("a URL");
        let target = Target::try_from(&api).expect("a target");
        let requested = Url::parse("https://api.example/v1/items").expect("a URL");
        for (field, value, expected) in [
            ("content-location", "https://api.example/v1/7", "http://127.0.0.1:9/v1/7"),
            ("content-location", "https://other.example/v1/7", "https://other.example/v1/7"),
            ("refresh", "5", "5"),
            ("refresh", "5; url=https://api.example/v1/7", "5; url=http://127.0.0.1:9/v1/7"),
            ("refresh", "0;URL = 'https://api.example/v1/7' x", "0; url=http://127.0.0.1:9/v1/7"),
            ("refresh", "0, https://api.example/v1/7", "0; url=http://127.0.0.1:9/v1/7"),
            ("refresh", "0;url=https://other.example/", "0;url=https://other.example/"),
            (
                "link",
                "<https://api.example/v1?page=2>; rel=\"next\", <https://other.example/>; rel=help, </v1?page=9>;rel=last",
                "<http://127.0.0.1:9/v1?page=2>; rel=\"next\", <https://other.example/>; rel=help, <http://127.0.0.1:9/v1?page=9>;rel=last",
            ),
            (
                "link",
                r#"<https://api.example/v1>; title="\"<https://api.example/>""#,
                r#"<http://127.0.0.1:9/v1>; title="\"<https://api.example/>""#,
            ),
            ("link", "<https://api.example/v1", "<http://127.0.0.1:9/v1"),
        ] {
            let mut response = headers(&[(field, value)]);
            clean_response(&mut response, &target, "http://127.0.0.1:9", &requested);
            assert_eq!(shown(&response), [format!("{field}: {expected}")], "{value}");
        }
        let mut two = headers(&[("location", "https://other.example/")]);
        two.append(LOCATION, HeaderValue::from_static("https://api.example/v1"));
        clean_response(&mut two, &target, "http://127.0.0.1:9", &requested);
        assert_eq!(shown(&two), ["location: http://127.0.0.1:9/v1", "location: https://other.example/"]);
    }

    #[test]
    fn trailers_have_nothing_that_no_header_may_have() {
        let removed = [
            "x-http-method-override",
            "X_Original_URL",
            "x-original-url",
            "forwarded",
            "cookie",
            "x-authctl-key",
            "host",
            "origin",
            "authorization",
            "proxy-authorization",
            "dpop",
            "dpop-nonce",
            "set-cookie",
            "set-cookie2",
            "location",
            "link",
            "refresh",
            "content-location",
            "connection",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "te",
            "expect",
        ];
        let mut trailers = headers(&removed.map(|name| (name, "x")));
        for name in ["grpc-status", "x-checksum"] {
            trailers.insert(name, HeaderValue::from_static("0"));
        }
        clean_trailers(&mut trailers);
        assert_eq!(shown(&trailers), ["grpc-status: 0", "x-checksum: 0"]);
    }

    #[test]
    fn chunked_is_the_only_transfer_coding() {
        for (value, expected) in [
            ("chunked", false),
            ("Chunked ", false),
            ("gzip, chunked", true),
            ("identity, chunked", true),
            ("identity", true),
            ("chunked,chunked", true),
            ("", true),
        ] {
            assert_eq!(has_other_coding(&headers(&[("transfer-encoding", value)])), expected, "{value}");
        }
        assert!(!has_other_coding(&HeaderMap::new()));
        let mut two = headers(&[("transfer-encoding", "chunked")]);
        two.append(TRANSFER_ENCODING, HeaderValue::from_static("gzip"));
        assert!(has_other_coding(&two));
    }
}
