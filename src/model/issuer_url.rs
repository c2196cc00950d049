//! URLs that tokens and secrets may be sent to: https, or plain http on this machine only.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The paths of metadata documents.
const METADATA: [&str; 2] = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];

/// Why a URL was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsecureUrl {
    /// Not an absolute URL.
    #[error("invalid URL `{0}` (it must begin with https://)")]
    NotAUrl(String),
    /// An address as people write it, such as `localhost:8080`.
    #[error("invalid URL `{typed}` (it has no scheme; write {url})")]
    NoScheme {
        /// The address.
        typed: String,
        /// The URL that it may be meant for: http on loopback, else https.
        url: String,
    },
    /// Plain http to another machine (RFC 9700, section 2.6).
    #[error("insecure URL `{0}` (it must be https; http is allowed only on loopback)")]
    NotHttps(String),
    /// A user name or password in the URL, or, for an issuer, a query or fragment (RFC 8414, section 2).
    #[error("invalid URL `{0}` (no user name, password, query or fragment is allowed)")]
    Decorated(String),
    /// An issuer or an API with characters that a URL cannot have, and that could change how it is shown.
    #[error(
        "invalid URL `{0}` (no white space, control character, backslash or character outside of ASCII is allowed)"
    )]
    Characters(String),
    /// A fragment in the URL of an API.
    #[error("invalid URL `{0}` (no fragment is allowed)")]
    Fragment(String),
    /// The URL of an issuer's metadata instead of the issuer's own (RFC 8414, section 3.1).
    #[error("`{0}` is the metadata URL; use the issuer URL, which ends before /.well-known/")]
    Metadata(String),
    /// An issuer or an API names an address in a network that is closer to this machine than its own.
    #[error("{host} has a {network} address, which only a server with a {network} address may name")]
    Internal {
        /// The host.
        host: String,
        /// `private`, `link-local` or `loopback`.
        network: &'static str,
    },
}

/// Parses a URL and rejects it unless it is https, or http on loopback.
///
/// Loopback means the parsed host: a literal of 127.0.0.0/8, `[::1]`, or exactly `localhost`; `127.0.0.1.example` is
/// not, whatever it resolves to. Neither user name nor password is allowed in it.
///
/// # Errors
/// [`InsecureUrl`], with the address but never its user information.
pub fn secure_url(text: &str) -> Result<Url, InsecureUrl> {
    if let Some(url) = with_scheme(text) {
        return Err(InsecureUrl::NoScheme { typed: shown(text), url });
    }
    let url = Url::parse(text).map_err(|_| InsecureUrl::NotAUrl(shown(text)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InsecureUrl::Decorated(shown(text)));
    }
    if is_secure(&url) { Ok(url) } else { Err(InsecureUrl::NotHttps(shown(text))) }
}

/// Returns whether the URL is https, or http on loopback.
pub(super) fn is_secure(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)
}

/// Parses a URL that is shown or compared as its text: [`secure_url`], and only characters that a URL may have (RFC 3986,
/// section 2). The parser would remove line breaks and take a backslash for a slash.
///
/// # Errors
/// [`InsecureUrl`].
pub(super) fn exact_url(text: &str) -> Result<Url, InsecureUrl> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(InsecureUrl::Characters(shown(text)));
    }
    secure_url(text)
}

/// Returns the URL for an address without a scheme: a host with a dot or a port, an IP address, or `localhost`.
#[must_use]
pub fn with_scheme(text: &str) -> Option<String> {
    let address = text.strip_prefix("//").unwrap_or(text);
    if address.contains("://") || address.contains('@') || address.contains(|c: char| c.is_whitespace()) {
        return None;
    }
    let address = match address.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => address.to_owned(),
    };
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let url = Url::parse(&format!("https://{address}")).ok()?;
    let host = url.host_str()?;
    if !has_port && !host.contains(['.', '[']) && host != "localhost" {
        return None;
    }
    Some(format!("{}://{address}", if is_loopback(&url) { "http" } else { "https" }))
}

/// Parses a URL in a response of `by`: [`secure_url`], and on loopback only if `by` is.
///
/// # Errors
/// [`InsecureUrl`].
pub(crate) fn named_url(by: &Url, text: &str) -> Result<Url, InsecureUrl> {
    let url = secure_url(text)?;
    if is_loopback(&url) && !is_loopback(by) {
        let host = url.host_str().unwrap_or_default().to_owned();
        return Err(InsecureUrl::Internal { host, network: "loopback" });
    }
    Ok(url)
}

/// Returns whether the URL's host is `localhost` or a loopback address, without a name lookup.
#[must_use]
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Returns the part of a rejected URL that may be shown: nothing before an `@`, no control characters, and only the
/// start.
fn shown(text: &str) -> String {
    let text = match text.rsplit_once('@') {
        Some((_, after)) => after,
        None => text,
    };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// An issuer identifier (RFC 8414, section 2; OpenID Connect Discovery 1.0, section 3).
///
/// Compared as text, character by character: `https://a.example` and `https://a.example/` are two issuers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IssuerUrl {
    text: String,
    url: Url,
}

impl IssuerUrl {
    /// Parses an issuer identifier: [`secure_url`], only characters of a URL, and no query or fragment.
    ///
    /// # Errors
    /// [`InsecureUrl`].
    pub fn parse(text: &str) -> Result<Self, InsecureUrl> {
        let text = text.trim();
        let url = exact_url(text)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InsecureUrl::Decorated(shown(text)));
        }
        if METADATA.iter().any(|end| url.path().ends_with(end)) {
            return Err(InsecureUrl::Metadata(shown(text)));
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// Parses a URL in a response of this issuer: [`secure_url`], and on loopback only if the issuer is.
    ///
    /// # Errors
    /// [`InsecureUrl`].
    pub(crate) fn named_url(&self, text: &str) -> Result<Url, InsecureUrl> {
        named_url(&self.url, text)
    }

    /// Returns the identifier exactly as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the identifier as a URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// What a user types to name an issuer: its URL, or a domain or an e-mail address to find it from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSearch {
    /// The URL, or that of the domain.
    pub at: IssuerUrl,
    /// What to ask WebFinger at the domain for (OpenID Connect Discovery 1.0, section 2.1); `None` for a URL.
    pub resource: Option<String>,
}

/// Why a text names no issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIssuerSearch {
    /// It is an invalid URL.
    #[error(transparent)]
    Url(#[from] InsecureUrl),
    /// It is something else.
    #[error("`{0}` is not a URL, a domain or an e-mail address")]
    Other(String),
}

impl std::str::FromStr for IssuerSearch {
    type Err = InvalidIssuerSearch;

    fn from_str(text: &str) -> Result<Self, InvalidIssuerSearch> {
        let text = text.trim();
        if text.contains("://") {
            return Ok(Self { at: text.parse()?, resource: None });
        }
        let (user, domain) = text.rsplit_once('@').map_or((None, text), |(user, domain)| (Some(user), domain));
        let is_word = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
        // A name without a dot is more likely a slip of the pen than a host.
        let is_domain = is_word(domain) && (domain.contains(['.', '[']) || domain.starts_with("localhost"));
        let other = || InvalidIssuerSearch::Other(shown(text));
        if !is_domain || !user.is_none_or(is_word) {
            return Err(other());
        }
        let secure: IssuerUrl = format!("https://{domain}").parse().map_err(|_| other())?;
        let at = if is_loopback(&secure.url) { format!("http://{domain}").parse()? } else { secure };
        let resource = Some(user.map_or_else(|| at.to_string(), |user| format!("acct:{user}@{domain}")));
        Ok(Self { at, resource })
    }
}

impl std::str::FromStr for IssuerUrl {
    type Err = InsecureUrl;

    fn from_str(text: &str) -> Result<Self, InsecureUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for IssuerUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for IssuerUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_pass() {
        for good in [
            "https://a.example",
            "https://a.example/t/",
            "http://127.0.0.1:8080",
            "http://[::1]:1/x",
            "http://localhost:9",
            "http://0x7f.1/",
        ] {
            assert!(IssuerUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "http://a.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://evillocalhost",
            "http://evil.localhost",
            "http://localhost.",
            "http://localhost@evil.example",
            "http://128.0.0.1",
            "http://[::ffff:8.8.8.8]",
            "ftp://a.example",
            "file:///etc/passwd",
            "https://u:p@a.example",
            "https://u@a.example",
            "https://:p@a.example",
            "https://",
            "https:///",
            "https://a.example?x=1",
            "https://a.example#f",
            "javascript:alert(1)",
            "http://[::2]/",
            "https://a.example/.well-known/openid-configuration",
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/\n  issuer    https://b.example",
            "https://a.example\r",
            "https://a.exa\tmple",
            "https://a.example/ b",
            "https://a.example/\u{a0}b",
            "https://a.example/\u{202e}b",
            "https://a.example/\u{7f}",
            "https:\\\\a.example",
            "https://a.example\\@b.example",
            "https://\u{430}.example",
        ] {
            let bad = if bad.ends_with('\r') { &format!("{bad}x") } else { bad };
            assert!(IssuerUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn address_without_scheme_is_answered_with_the_url() {
        for (typed, url) in [
            ("localhost:1234", "http://localhost:1234"),
            ("LOCALHOST:1/realms/x", "http://LOCALHOST:1/realms/x"),
            ("localhost", "http://localhost"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("[::1]:80", "http://[::1]:80"),
            ("::1", "http://[::1]"),
            ("//localhost:1", "http://localhost:1"),
            ("a.example", "https://a.example"),
            ("a.example:8443/t", "https://a.example:8443/t"),
            ("idp:8443", "https://idp:8443"),
            ("10.0.0.1", "https://10.0.0.1"),
            ("evil.localhost:80", "https://evil.localhost:80"),
        ] {
            let error = IssuerUrl::parse(typed).expect_err(typed).to_string();
            assert_eq!(error, format!("invalid URL `{typed}` (it has no scheme; write {url})"));
        }
        for other in
            ["", "example", "ann@a.example", "u:p@localhost:1", "localhost:99999", "a b.example", "javascript:x"]
        {
            assert!(!matches!(IssuerUrl::parse(other), Err(InsecureUrl::NoScheme { .. })), "{other}");
        }
    }

    #[test]
    fn only_a_loopback_issuer_may_name_loopback_addresses() {
        let issuers = ["https://a.example", "https://10.0.0.1", "https://localhost.a.example", "http://localhost:1"];
        for url in
            ["http://127.0.0.1:9/x", "http://localhost/", "http://[::1]/", "https://127.1.2.3/", "https://localhost/"]
        {
            let allowed = issuers.map(|issuer| IssuerUrl::parse(issuer).expect("valid").named_url(url).is_ok());
            assert_eq!(allowed, [false, false, false, true], "{url}");
        }
        assert!(IssuerUrl::parse("https://a.example").expect("valid").named_url("https://b.example/").is_ok());
    }

    #[test]
    fn rejected_address_is_repeated_without_password_and_control_characters() {
        let error = IssuerUrl::parse("http://user:hunter2@a.example/\u{1b}[31m").expect_err("refused").to_string();
        assert!(error.starts_with("invalid URL `a.example/[31m` ("), "{error:?}");
    }

    #[test]
    fn issuer_is_searched_at_a_domain_or_an_account() {
        for (text, at, resource) in [
            (" https://a.example/t \n", "https://a.example/t", None),
            ("a.example", "https://a.example", Some("https://a.example")),
            ("a.example:8443/t", "https://a.example:8443/t", Some("https://a.example:8443/t")),
            ("ann@a.example", "https://a.example", Some("acct:ann@a.example")),
            ("localhost:9", "http://localhost:9", Some("http://localhost:9")),
            ("127.0.0.1:9", "http://127.0.0.1:9", Some("http://127.0.0.1:9")),
            ("[::1]:9", "http://[::1]:9", Some("http://[::1]:9")),
        ] {
            let search: IssuerSearch = text.parse().expect(text);
            assert_eq!((search.at.as_str(), search.resource.as_deref()), (at, resource), "{text}");
        }
        for text in ["", " ", "9", "example", "a example.com", "@a.example", "a b@a.example", "ann@", "a.example?x=1"] {
            let error = text.parse::<IssuerSearch>().expect_err(text).to_string();
            assert!(error.ends_with("is not a URL, a domain or an e-mail address"), "{error}");
        }
        assert!("http://a.example".parse::<IssuerSearch>().expect_err("insecure").to_string().contains("https"));
    }

    #[test]
    fn trailing_slash_is_preserved() {
        assert_ne!(IssuerUrl::parse("https://a.example"), IssuerUrl::parse("https://a.example/"));
        assert_eq!(IssuerUrl::parse("https://a.example").map(|i| i.to_string()), Ok("https://a.example".into()));
    }
}
