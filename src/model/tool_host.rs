//! A host to which helpers give tokens.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::issuer_url::is_secure;

/// A host as tools name it: in lower case, with the port unless it is 443, such as `git.example` or `localhost:5000`. Reached
/// over https, or over http on loopback.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolHost(String);

/// Why a text names no host for tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToolHost {
    /// It is neither a host nor an address.
    #[error("invalid host `{0}` (example: git.example or localhost:5000)")]
    Invalid(String),
    /// It has the name of a user.
    #[error("invalid host `{0}`: a user is named before it (example: git.example or localhost:5000)")]
    WithUser(String),
    /// The token would be sent unencrypted.
    #[error("`{0}` is not https, so a token would be sent unencrypted")]
    NotHttps(String),
}

impl ToolHost {
    /// Returns the host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ToolHost {
    type Err = InvalidToolHost;

    /// Parses a host with or without a port, or an address, of which the user information and the path are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidToolHost> {
        // Nothing before an `@`: it may be a password.
        let shown = || {
            let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
            text.chars().filter(|c| !c.is_control()).take(100).collect::<String>()
        };
        let invalid = || InvalidToolHost::Invalid(shown());
        let is_address = text.contains("://");
        let url = match is_address {
            true => Url::parse(text),
            false => Url::parse(&format!("https://{text}")),
        };
        let url = url.map_err(|_| invalid())?;
        // What a URL parser repairs or ignores: other programs may read another host.
        let is_repaired = text.contains(|c: char| c == '\\' || c == '*' || c.is_control() || c.is_whitespace());
        if !is_repaired && !is_address && text.contains('@') {
            return Err(InvalidToolHost::WithUser(shown()));
        }
        if is_repaired || !is_address && text.contains(['/', '?', '#']) {
            return Err(invalid());
        }
        if !is_secure(&url) {
            let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
            return Err(InvalidToolHost::NotHttps(shown));
        }
        let host = url.host_str().ok_or_else(invalid)?;
        // The same for escapes, numbers that are an IPv4 address, and characters that become ASCII.
        let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
        let typed = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        if !typed.starts_with(host) && !host.starts_with('[') && !host.contains("xn--") {
            return Err(invalid());
        }
        Ok(Self(match url.port_or_known_default() {
            None | Some(443) => host.to_owned(),
            Some(port) => format!("{host}:{port}"),
        }))
    }
}

impl fmt::Display for ToolHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_one_host_are_equal() {
        for (text, host) in [
            ("git.example", "git.example"),
            ("GIT.example:443", "git.example"),
            ("https://user:password@Git.Example/team/project.git", "git.example"),
            ("https://git.example:8443", "git.example:8443"),
            ("git.example:8443", "git.example:8443"),
            ("sparse+https://x", "NotHttps"),
            ("http://localhost/v2/", "localhost:80"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("http://git.example", "NotHttps"),
            ("http://localhost.evil.example:5000", "NotHttps"),
            ("git.example/path", "Invalid"),
            ("git.example/", "Invalid"),
            ("user@git.example", "WithUser"),
            ("git.example?x", "Invalid"),
            ("git.example:99999", "Invalid"),
            ("", "Invalid"),
            ("https://", "Invalid"),
            ("a b", "Invalid"),
            ("git.example\\.evil.example", "Invalid"),
            ("https://git.example\\.evil.example", "Invalid"),
            ("git.exa\tmple", "Invalid"),
            ("https://git.example\n", "Invalid"),
            ("*.example", "Invalid"),
            ("https://*.example", "Invalid"),
            ("git%2eexample", "Invalid"),
            ("https://git%2Eexample/", "Invalid"),
            ("\u{ff47}it.example", "Invalid"),
            ("git.ex\u{ad}ample", "Invalid"),
            ("2130706433", "Invalid"),
            ("https://0x7f.1/127.0.0.1", "Invalid"),
            ("https:///git.example", "Invalid"),
            ("0x7f.1:5000", "Invalid"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("[0:0:0:0:0:0:0:1]:5000", "[::1]:5000"),
        ] {
            let parsed = match text.parse::<ToolHost>() {
                Ok(parsed) => parsed.to_string(),
                Err(InvalidToolHost::Invalid(_)) => "Invalid".to_owned(),
                Err(InvalidToolHost::WithUser(_)) => "WithUser".to_owned(),
                Err(InvalidToolHost::NotHttps(_)) => "NotHttps".to_owned(),
            };
            assert_eq!(parsed, host, "{text}");
        }
    }

    #[test]
    fn error_shows_no_password() {
        let error = "user:secret@git.example".parse::<ToolHost>().expect_err("a host only");
        assert_eq!(
            error.to_string(),
            "invalid host `git.example`: a user is named before it (example: git.example or localhost:5000)"
        );
    }
}
