//! Who may use the proxy: programs that have its key, or on a Unix socket the user's own, and no page in a browser.

use std::future::{Future, pending};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use hyper::{Uri, Version};
use tokio::sync::OwnedSemaphorePermit;

use super::headers::KEY_HEADER;
use crate::secret::Secret;

/// What the proxy listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAddress {
    /// A TCP port, open to every program of this machine.
    Tcp(SocketAddr),
    /// A Unix socket, open to the user.
    Unix,
}

/// A connection of a client, which others wait for until this is dropped.
#[derive(Debug)]
pub struct ClientConnection {
    _slot: OwnedSemaphorePermit,
    /// Whether a request came from a caller that may use the proxy.
    has_caller: AtomicBool,
}

impl ClientConnection {
    /// Returns a connection that has this slot.
    #[must_use]
    pub fn new(slot: OwnedSemaphorePermit) -> Self {
        Self { _slot: slot, has_caller: AtomicBool::new(false) }
    }

    /// Remembers that a caller with the key uses the connection.
    pub fn accept_caller(&self) {
        self.has_caller.store(true, Ordering::Relaxed);
    }

    /// Returns when `limit` has passed without such a caller; never if there is one.
    pub async fn without_caller(&self, limit: impl Future<Output = ()>) {
        limit.await;
        if self.has_caller.load(Ordering::Relaxed) {
            pending().await
        }
    }
}

/// Why a request is refused before its path is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCaller {
    /// It has no key, or another.
    #[error("the proxy's key is missing or wrong")]
    Key,
    /// It was meant for another server. A page could use a name of its own that resolves to this machine (DNS rebinding).
    #[error("the request is not addressed to this proxy")]
    Host,
    /// It comes from a page in a browser.
    #[error("the request comes from a page of another origin")]
    Origin,
}

/// Checks the header of a request.
///
/// # Errors
/// [`InvalidCaller`].
pub fn check(
    listening: &ProxyAddress,
    key: &Secret,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), InvalidCaller> {
    if let ProxyAddress::Tcp(address) = listening {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Some(host.to_str().map_err(|_| InvalidCaller::Host)?),
            // HTTP/1.0 has no such field. No browser speaks it.
            (None, None) if version == Version::HTTP_10 => None,
            _ => return Err(InvalidCaller::Host),
        };
        // A target with an authority takes precedence (RFC 9112, section 3.2.2), so neither may be another's.
        let named = uri.authority().map(hyper::http::uri::Authority::as_str);
        if !host.into_iter().chain(named).all(|host| is_own(host, *address)) {
            return Err(InvalidCaller::Host);
        }
        if uri.scheme_str().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
            return Err(InvalidCaller::Host);
        }
        let is_own_page = |origin: &str| origin.strip_prefix("http://").is_some_and(|host| is_own(host, *address));
        if !headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(is_own_page)) {
            return Err(InvalidCaller::Origin);
        }
    } else if headers.contains_key(ORIGIN) {
        return Err(InvalidCaller::Origin);
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let own = headers.get(KEY_HEADER).and_then(|value| value.to_str().ok());
    let has_key = own.or(bearer).is_some_and(|given| is_same(given.as_bytes(), key.expose().as_bytes()));
    // The socket's directory and the peer's user are checked when it connects.
    if has_key || *listening == ProxyAddress::Unix { Ok(()) } else { Err(InvalidCaller::Key) }
}

/// Compares in a time that depends on the lengths alone.
fn is_same(given: &[u8], key: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(given, key).is_ok()
}

/// Returns whether `host` names this proxy: a loopback name or its address, with its port.
fn is_own(host: &str, address: SocketAddr) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    let is_name = name.eq_ignore_ascii_case("localhost") || matches!(name, "127.0.0.1" | "[::1]");
    let is_address = match address.ip() {
        IpAddr::V4(ip) => name.parse() == Ok(ip),
        IpAddr::V6(ip) => {
            let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            inner.is_some_and(|name| name.parse() == Ok(ip))
        }
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_number && port.parse() == Ok(address.port()) && (is_name || is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(target: &str, headers: &[(&str, &str)]) -> Result<(), InvalidCaller> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        let listening = ProxyAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let key = Secret::new("right".to_owned());
        check(&listening, &key, Version::HTTP_11, &target.parse().expect("a target"), &headers)
    }

    #[test]
    fn only_a_program_with_the_key_is_served() {
        const HOST: (&str, &str) = ("host", "127.0.0.1:8080");
        for (headers, expected) in [
            (vec![HOST, ("authorization", "Bearer right")], Ok(())),
            (vec![HOST, ("authorization", "bearer right")], Ok(())),
            (vec![HOST, ("x-authctl-key", "right")], Ok(())),
            (vec![HOST, ("x-authctl-key", "right"), ("authorization", "Bearer mine")], Ok(())),
            (vec![("host", "localhost:8080"), ("x-authctl-key", "right")], Ok(())),
            (vec![("host", "LOCALHOST:8080"), ("x-authctl-key", "right")], Ok(())),
            (vec![HOST, ("x-authctl-key", "right"), ("origin", "http://127.0.0.1:8080")], Ok(())),
            (vec![HOST], Err(InvalidCaller::Key)),
            (vec![HOST, ("authorization", "Bearer wrong")], Err(InvalidCaller::Key)),
            (vec![HOST, ("authorization", "Basic right")], Err(InvalidCaller::Key)),
            (vec![HOST, ("x-authctl-key", "wrong"), ("authorization", "Bearer right")], Err(InvalidCaller::Key)),
            (vec![HOST, ("x-authctl-key", "righ")], Err(InvalidCaller::Key)),
            (vec![HOST, ("x-authctl-key", "")], Err(InvalidCaller::Key)),
            (vec![("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![HOST, HOST, ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![("host", "127.0.0.1"), ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![("host", "127.0.0.1:8081"), ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![("host", "127.0.0.1:+8080"), ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![("host", "[127.0.0.1]:8080"), ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![("host", "rebound.example:8080"), ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![("host", "127.0.0.1.rebound.example:8080"), ("x-authctl-key", "right")], Err(InvalidCaller::Host)),
            (vec![HOST, ("x-authctl-key", "right"), ("origin", "null")], Err(InvalidCaller::Origin)),
            (vec![HOST, ("x-authctl-key", "right"), ("origin", "http://evil.example")], Err(InvalidCaller::Origin)),
            (vec![HOST, ("x-authctl-key", "right"), ("origin", "https://127.0.0.1:8080")], Err(InvalidCaller::Origin)),
        ] {
            assert_eq!(checked("/v1", &headers), expected, "{headers:?}");
        }
        assert_eq!(
            checked("/v1?key=right&x-authctl-key=right", &[HOST]),
            Err(InvalidCaller::Key),
            "a key in the query"
        );
    }

    #[test]
    fn whole_url_must_be_the_proxys_own() {
        let headers = [("host", "127.0.0.1:8080"), ("x-authctl-key", "right")];
        assert_eq!(checked("http://127.0.0.1:8080/v1", &headers), Ok(()));
        for target in ["http://api.example/v1", "https://127.0.0.1:8080/v1", "http://127.0.0.1:9/v1"] {
            assert_eq!(checked(target, &headers), Err(InvalidCaller::Host), "{target}");
        }
    }
}
