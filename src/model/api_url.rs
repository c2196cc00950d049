//! The URL of a protected API, and which URLs a resource identifier covers.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::issuer_url::{InsecureUrl, exact_url};

/// The URL of an API that takes tokens: https, or http on loopback, without user information and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl(Url);

impl ApiUrl {
    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Returns how many characters of the path `resource` covers, or `None` if it does not cover this URL: it must have the
    /// same origin, and its path must be the same or end at a `/` of this one. One with a query covers only that query.
    #[must_use]
    pub fn covered_by(&self, resource: &str) -> Option<usize> {
        let resource: Self = resource.parse().ok()?;
        let directory = |url: &Url| format!("{}/", url.path().trim_end_matches('/'));
        let (own, prefix) = (directory(&self.0), directory(&resource.0));
        let is_covered = self.0.origin() == resource.0.origin()
            && match resource.0.query() {
                None => own.starts_with(&prefix),
                query => own == prefix && self.0.query() == query,
            };
        is_covered.then_some(prefix.len())
    }
}

impl FromStr for ApiUrl {
    type Err = InsecureUrl;

    fn from_str(text: &str) -> Result<Self, InsecureUrl> {
        let text = text.trim();
        let url = exact_url(text)?;
        match url.fragment() {
            None => Ok(Self(url)),
            Some(_) => Err(InsecureUrl::Fragment(text.chars().filter(|c| !c.is_control()).take(200).collect())),
        }
    }
}

/// The longest HTTP method, in bytes.
const MAX_METHOD: usize = 32;

/// The text is not an HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid HTTP method (examples: GET, POST)")]
pub struct InvalidMethod;

/// Parses an HTTP method (RFC 9110, sections 5.6.2 and 9.1).
///
/// # Errors
/// [`InvalidMethod`].
pub fn parse_method(text: &str) -> Result<String, InvalidMethod> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_method = (1..=MAX_METHOD).contains(&text.len()) && text.bytes().all(is_allowed);
    if is_method { Ok(text.to_owned()) } else { Err(InvalidMethod) }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_covers_its_own_path_and_what_is_below() {
        for (resource, api, covered) in [
            ("https://a.example", "https://a.example/", Some(1)),
            ("https://a.example", "https://a.example/mcp?x=1", Some(1)),
            ("https://A.example:443/mcp", "https://a.example/mcp", Some(5)),
            ("https://a.example/mcp/", "https://a.example/mcp", Some(5)),
            ("https://a.example/mcp", "https://a.example/mcp/", Some(5)),
            ("https://a.example/mcp", "https://a.example/mcp/v1/x", Some(5)),
            ("https://a.example/mcp/v1", "https://a.example/mcp/v1/x", Some(8)),
            ("https://a.example/mcp", "https://a.example/mcp2", None),
            ("https://a.example/mcp", "https://a.example/", None),
            ("https://a.example/mcp", "https://a.example/x/../mcp", Some(5)),
            ("https://a.example/mcp", "https://a.example/mcp/../x", None),
            ("https://a.example/mcp", "https://a.example/mcp/%2e%2e/x", None),
            ("https://a.example/MCP", "https://a.example/mcp", None),
            ("https://a.example", "https://a.example:8443/", None),
            ("https://a.example", "https://a.example.evil.example/", None),
            ("https://b.example", "https://a.example/", None),
            ("https://localhost", "http://localhost/", None),
            ("https://a.example/m?t=1", "https://a.example/m?t=1", Some(3)),
            ("https://a.example/m?t=1", "https://a.example/m?t=2", None),
            ("https://a.example/m?t=1", "https://a.example/m", None),
            ("https://a.example/m?t=1", "https://a.example/m/x?t=1", None),
            ("http://a.example", "https://a.example/", None),
            ("https://user@a.example", "https://a.example/", None),
            ("https://a.example#f", "https://a.example/", None),
            ("urn:a", "https://a.example/", None),
            ("", "https://a.example/", None),
        ] {
            let api: ApiUrl = api.parse().expect(api);
            assert_eq!(api.covered_by(resource), covered, "{resource} {api}");
        }
    }

    #[test]
    fn api_is_https_or_loopback_without_user_and_fragment() {
        for text in ["https://a.example/mcp?x=1", "http://127.0.0.1:8080/", "http://localhost:3000/mcp"] {
            assert_eq!(text.parse::<ApiUrl>().map(|api| api.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "a.example",
            "http://a.example/",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "ws://a.example",
            "https://a.example/\nx",
            "https://a.example/a b",
            "https://a.example\\x",
            "https://a.example/\u{e9}",
        ] {
            assert!(text.parse::<ApiUrl>().is_err(), "{text}");
        }
    }
}
