//! Which proxy a request goes by, as the environment says; never around one that it names and that is not understood.

use std::ffi::OsStr;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use super::error::IssuerError;
use crate::model::is_loopback;
use crate::paths::ProxyVariables;

/// The proxies, by the same rules as the HTTP client's own.
pub(super) struct Proxies {
    read: Matcher,
    /// The variable that names a proxy which the client does not understand, and would go around, and which hosts that
    /// proxy is for.
    unread: Option<(&'static str, Matcher)>,
    /// The proxy, and who needs none, where the client would not take them from the environment by itself.
    told: Option<(String, String)>,
}

impl Proxies {
    pub(super) fn new(variables: &ProxyVariables) -> Self {
        let unread = variables.https.as_ref().filter(|(_, value)| !names_a_proxy(value)).map(|(name, _)| {
            let any = Matcher::builder().https("http://proxy.invalid").no(variables.none_for.as_str());
            (*name, any.build())
        });
        // A request may name HTTP_PROXY to such a program, by a header; for https it cannot, and that one counts.
        let told = variables.https.as_ref().filter(|_| variables.for_a_request && unread.is_none());
        let told = told.and_then(|(_, value)| Some((value.to_str()?.to_owned(), variables.none_for.clone())));
        let read = match &told {
            Some((proxy, none_for)) => Matcher::builder().https(proxy.as_str()).no(none_for.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self { read, unread, told }
    }

    /// The proxy for https and who needs none, where the client is to be told.
    pub(super) fn told(&self) -> Option<(&str, &str)> {
        self.told.as_ref().map(|(proxy, none_for)| (proxy.as_str(), none_for.as_str()))
    }

    /// The proxy that the client asks for a way to `url`.
    ///
    /// # Errors
    /// [`IssuerError::Proxy`] where there is to be one, and it is not understood.
    pub(super) fn to(&self, url: &Url) -> Result<Option<Intercept>, IssuerError> {
        let target = url.as_str().parse::<Uri>().ok().filter(|_| !is_loopback(url));
        let Some(target) = target else { return Ok(None) };
        match &self.unread {
            Some((variable, any)) if any.intercept(&target).is_some() => Err(IssuerError::Proxy { variable }),
            _ => Ok(self.read.intercept(&target)),
        }
    }
}

/// Whether the client reads `value` as the address of a proxy, and all of it.
fn names_a_proxy(value: &OsStr) -> bool {
    let Some(text) = value.to_str() else { return false };
    let proxy = Matcher::builder().https(text).build().intercept(&Uri::from_static("https://issuer.invalid/"));
    let Some(proxy) = proxy else { return false };
    let Some(authority) = proxy.uri().authority() else { return false };
    // A `/`, `?` or `#` in a password ends the address for the client, which takes a part of the password for the proxy.
    let whole = !text.contains('@') || proxy.basic_auth().is_some() || proxy.raw_auth().is_some();
    let port = authority.port_u16().is_some() || authority.as_str().trim_end_matches(':') == authority.host();
    whole && port && !authority.host().is_empty() && !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn what_names_a_proxy() {
        for good in [
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
            assert!(names_a_proxy(OsStr::new(good)), "{good}");
        }
        for bad in [
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
            assert!(!names_a_proxy(OsStr::new(bad)), "{bad}");
        }
        assert!(!names_a_proxy(OsStr::from_bytes(b"http://proxy\xff.example")));
    }

    #[test]
    fn one_that_is_not_understood_is_nobodys_way_but_theirs_who_need_none() {
        let variables = ProxyVariables {
            https: Some(("https_proxy", "::::".into())),
            none_for: "b.example,.c".into(),
            for_a_request: false,
        };
        let proxies = Proxies::new(&variables);
        for (url, needs_one) in [
            ("https://a.example/", true),
            ("https://b.example/", false),
            ("https://a.c/", false),
            ("https://127.0.0.1/", false),
            ("http://localhost/", false),
        ] {
            let proxy = proxies.to(&Url::parse(url).expect("valid"));
            assert_eq!(matches!(proxy, Err(IssuerError::Proxy { variable: "https_proxy" })), needs_one, "{url}");
        }
    }
}
