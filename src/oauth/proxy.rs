//! Selects the proxy of a request from the environment. An invalid proxy address is an error: the proxy is never bypassed.

use std::ffi::OsStr;
use std::net::Ipv4Addr;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use super::error::IssuerError;
use crate::model::is_loopback;
use crate::paths::ProxyVariables;

/// The proxies, by the same rules as the HTTP client's own.
pub(super) struct Proxies {
    matcher: Matcher,
    /// The variable with an invalid proxy address, which the client would ignore, and the hosts that it applies to.
    invalid: Option<(&'static str, Matcher)>,
    /// The proxy and the hosts that need none, which the client does not read from the environment as other programs do.
    explicit: Option<(String, String)>,
}

impl Proxies {
    pub(super) fn new(variables: &ProxyVariables) -> Self {
        let no_proxy = no_proxy(&variables.none_for);
        let invalid = variables.https.as_ref().filter(|(_, value)| !is_proxy_address(value)).map(|(name, _)| {
            let any = Matcher::builder().https("http://proxy.invalid").no(no_proxy.as_str());
            (*name, any.build())
        });
        let explicit = variables.https.as_ref().filter(|_| invalid.is_none()).and_then(|(_, value)| {
            let proxy = value.to_str()?;
            let scheme = if proxy.contains("://") { "" } else { "http://" };
            Some((format!("{scheme}{proxy}"), no_proxy))
        });
        let matcher = match &explicit {
            Some((proxy, no_proxy)) => Matcher::builder().https(proxy.as_str()).no(no_proxy.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self { matcher, invalid, explicit }
    }

    /// Returns the proxy for https and the hosts that need none, if they must be passed to the client.
    pub(super) fn explicit(&self) -> Option<(&str, &str)> {
        self.explicit.as_ref().map(|(proxy, no_proxy)| (proxy.as_str(), no_proxy.as_str()))
    }

    /// Returns the proxy that the client uses for `url`.
    ///
    /// # Errors
    /// [`IssuerError::InvalidProxy`] if the address of that proxy is invalid.
    pub(super) fn for_url(&self, url: &Url) -> Result<Option<Intercept>, IssuerError> {
        let target = url.as_str().parse::<Uri>().ok().filter(|_| !is_loopback(url));
        let Some(target) = target else { return Ok(None) };
        match &self.invalid {
            Some((variable, any)) if any.intercept(&target).is_some() => Err(IssuerError::InvalidProxy { variable }),
            _ => Ok(self.matcher.intercept(&target)),
        }
    }
}

/// Returns the list of hosts in the client's form: `*.corp` and `.corp` are `corp` and everything below it, spaces separate
/// too, and an IPv6 address has no brackets. A name is listed with a trailing dot as well: the client does not take the name of
/// a host with one for the same.
fn no_proxy(text: &str) -> String {
    let hosts = text.split([',', ' ', '\t', '\n', '\r']).filter(|host| !host.is_empty()).map(|host| {
        let host = host.strip_prefix("*.").unwrap_or(host).trim_start_matches('.').trim_end_matches('.');
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = !host.contains([':', '/', '*']) && host.parse::<Ipv4Addr>().is_err();
        if is_name { format!("{host},{host}.") } else { host.to_owned() }
    });
    hosts.collect::<Vec<_>>().join(",")
}

/// Returns whether the client reads all of `value` as the address of a proxy.
fn is_proxy_address(value: &OsStr) -> bool {
    let Some(text) = value.to_str() else { return false };
    let proxy = Matcher::builder().https(text).build().intercept(&Uri::from_static("https://issuer.invalid/"));
    let Some(proxy) = proxy else { return false };
    let Some(authority) = proxy.uri().authority() else { return false };
    // For the client, a `/`, `?` or `#` in a password ends the address: it would take a part of the password for the proxy.
    let whole = !text.contains('@') || proxy.basic_auth().is_some() || proxy.raw_auth().is_some();
    let port = authority.port_u16().is_some() || authority.as_str().trim_end_matches(':') == authority.host();
    whole && port && !authority.host().is_empty() && !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn proxy_address_is_valid_only_as_a_whole() {
        for valid in [
            "http://proxy.example:3128",
            "https://proxy.example",
            "socks5://127.0.0.1:1080",
            "socks5h://[::1]:1080/",
            "proxy.example",
            "proxy.example:3128",
            "clerk@proxy.example:3128",
            "http://clerk:p%40ss%2F@proxy.example:3128/",
            "socks5h://clerk:pass@proxy.example",
        ] {
            assert!(is_proxy_address(OsStr::new(valid)), "{valid}");
        }
        for invalid in [
            "::::",
            "http://",
            "http://:3128",
            "http:///",
            "ftp://proxy.example",
            "socks://proxy.example",
            "http://proxy.example:port",
            "http://proxy.example:99999",
            "http://proxy example",
            "http://proxy.example:3128 ",
            "http://clerk:12/ss@proxy.example",
            "http://clerk:12#ss@proxy.example",
            "http://clerk:p@ss@proxy.example",
            "http://clerk:@",
        ] {
            assert!(!is_proxy_address(OsStr::new(invalid)), "{invalid}");
        }
        assert!(!is_proxy_address(OsStr::from_bytes(b"http://proxy\xff.example")));
    }

    #[test]
    fn hosts_without_proxy_are_listed_in_any_form() {
        for (none_for, url, direct) in [
            ("*.corp", "https://a.corp/", true),
            ("*.corp", "https://corp/", true),
            ("*.corp", "https://a.notcorp/", false),
            (".corp", "https://a.b.corp/", true),
            (".corp", "https://corp/", true),
            (".corp", "https://corp./", true),
            ("*..corp", "https://a.corp/", true),
            ("corp.", "https://a.corp/", true),
            ("*.corp.", "https://a.corp./", true),
            ("a.corp1.", "https://a.corp1/", true),
            ("corp1", "https://a.corp1./", true),
            ("corp.", "https://a.notcorp./", false),
            ("x.example *.corp", "https://a.corp/", true),
            ("x.example, *.corp", "https://a.corp/", true),
            ("*.CORP", "https://a.corp/", true),
            ("*.corp", "https://a.corp./", true),
            ("a.corp", "https://a.corp./", true),
            ("a.corp", "https://b.corp./", false),
            ("[2001:db8::1]", "https://[2001:db8::1]/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("*", "https://a.example/", true),
            ("", "https://a.example/", false),
        ] {
            let https = Some(("HTTPS_PROXY", "proxy.example:3128".into()));
            let proxies = Proxies::new(&ProxyVariables { https, none_for: none_for.into() });
            let proxy = proxies.for_url(&Url::parse(url).expect("valid")).expect("valid");
            assert_eq!(proxy.is_none(), direct, "{none_for}: {url}");
        }
    }

    #[test]
    fn proxy_and_hosts_are_passed_on_in_the_clients_form() {
        for (proxy, none_for, expected) in [
            ("proxy.example:3128", "corp", Some(("http://proxy.example:3128", "corp,corp."))),
            ("proxy.example:3128", "*.corp", Some(("http://proxy.example:3128", "corp,corp."))),
            ("proxy.example:3128", "10.0.0.0/8", Some(("http://proxy.example:3128", "10.0.0.0/8"))),
            ("socks5h://proxy.example", "", Some(("socks5h://proxy.example", ""))),
            ("::::", "*.corp", None),
        ] {
            let https = Some(("HTTPS_PROXY", proxy.into()));
            let proxies = Proxies::new(&ProxyVariables { https, none_for: none_for.into() });
            assert_eq!(proxies.explicit(), expected, "{proxy} {none_for}");
        }
    }

    #[test]
    fn invalid_proxy_is_an_error_except_for_hosts_that_need_none() {
        let variables = ProxyVariables { https: Some(("https_proxy", "::::".into())), none_for: "b.example,.c".into() };
        let proxies = Proxies::new(&variables);
        for (url, fails) in [
            ("https://a.example/", true),
            ("https://b.example/", false),
            ("https://a.c/", false),
            ("https://127.0.0.1/", false),
            ("http://localhost/", false),
        ] {
            let result = proxies.for_url(&Url::parse(url).expect("valid"));
            assert_eq!(matches!(result, Err(IssuerError::InvalidProxy { variable: "https_proxy" })), fails, "{url}");
        }
    }
}
