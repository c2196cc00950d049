//! The redirect URI, to which the browser returns after the sign-in: an address of this machine (RFC 8252, section 7.3).

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// A loopback redirect URI. Without a port, a free one is used for each login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    host: RedirectHost,
    port: Option<u16>,
    path: String,
}

/// The host of a redirect URI, which issuers compare as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectHost {
    /// `127.0.0.1`, which no name server or hosts file can redirect.
    V4,
    /// `[::1]`.
    V6,
    /// `localhost`: the listener uses both addresses.
    Localhost,
}

/// Why a redirect URI is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid redirect URI `{0}` (it must be http on 127.0.0.1, [::1] or localhost, without a query and not on port 80)"
)]
pub struct InvalidRedirect(String);

impl Default for RedirectUri {
    /// Returns `http://127.0.0.1/callback`, on any port.
    fn default() -> Self {
        Self { host: RedirectHost::V4, port: None, path: "/callback".to_owned() }
    }
}

impl RedirectUri {
    /// Returns the host.
    #[must_use]
    pub fn host(&self) -> RedirectHost {
        self.host
    }

    /// Returns the port, if it is fixed.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the redirect URI to send, with this port.
    #[must_use]
    pub fn at(&self, port: u16) -> String {
        format!("http://{}:{port}{}", self.host, self.path)
    }
}

impl FromStr for RedirectUri {
    type Err = InvalidRedirect;

    fn from_str(text: &str) -> Result<Self, InvalidRedirect> {
        let invalid = || InvalidRedirect(text.chars().filter(|c| !c.is_control()).take(200).collect());
        let url = Url::parse(text).map_err(|_| invalid())?;
        let host = match url.host() {
            Some(Host::Ipv4(ip)) if ip == std::net::Ipv4Addr::LOCALHOST => RedirectHost::V4,
            Some(Host::Ipv6(ip)) if ip == std::net::Ipv6Addr::LOCALHOST => RedirectHost::V6,
            Some(Host::Domain("localhost")) => RedirectHost::Localhost,
            _ => return Err(invalid()),
        };
        let plain = url.scheme() == "http"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        // The parser drops a port of 80 as the scheme's own: it must not become any port.
        let authority = text.split('/').nth(2).unwrap_or_default();
        let eighty = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(80u16));
        if !plain || eighty {
            return Err(invalid());
        }
        Ok(Self { host, port: url.port().filter(|port| *port != 0), path: url.path().to_owned() })
    }
}

impl fmt::Display for RedirectHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "[::1]",
            Self::Localhost => "localhost",
        })
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => f.write_str(&self.at(port)),
            None => write!(f, "http://{}{}", self.host, self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_redirect_uris_are_valid() {
        for (text, at) in [
            ("http://127.0.0.1/callback", "http://127.0.0.1:5/callback"),
            ("http://[::1]/cb", "http://[::1]:5/cb"),
            ("http://localhost", "http://localhost:5/"),
            ("http://localhost:0/x/y/", "http://localhost:5/x/y/"),
        ] {
            let parsed: RedirectUri = text.parse().expect("valid");
            assert_eq!((parsed.at(5).as_str(), parsed.port()), (at, None), "{text}");
        }
        assert_eq!(RedirectUri::default().to_string(), "http://127.0.0.1/callback");
        let fixed: RedirectUri = "http://127.0.0.1:8400/cb".parse().expect("valid");
        assert_eq!((fixed.port(), fixed.to_string().as_str()), (Some(8400), "http://127.0.0.1:8400/cb"));
        for bad in [
            "",
            "callback",
            "https://127.0.0.1/cb",
            "http://127.0.0.2/cb",
            "http://0.0.0.0/cb",
            "http://a.example/cb",
            "http://localhost.evil.example/cb",
            "http://127.0.0.1/cb?x=1",
            "http://127.0.0.1/cb#x",
            "http://127.0.0.1:80/cb",
            "http://[::1]:080",
            "http://u@127.0.0.1/cb",
            "http://:p@127.0.0.1/cb",
            "http://[::2]/cb",
            "com.example.app:/cb",
        ] {
            assert!(bad.parse::<RedirectUri>().is_err(), "{bad}");
        }
        let error = "http://a.example/\u{1b}[31m".parse::<RedirectUri>().expect_err("not loopback").to_string();
        assert!(error.contains("a.example") && !error.contains('\u{1b}'), "{error:?}");
    }
}
