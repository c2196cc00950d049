//! The API behind the proxy: an origin and a path.

use std::fmt;

use url::Url;

use crate::model::{ApiUrl, CleanPath, InvalidPath};

/// The URL of `--for`: only its origin, its path and what is below can be reached.
#[derive(Clone, Debug)]
pub struct Target {
    url: Url,
    prefix: CleanPath,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It has a query.
    #[error("the URL of an API behind a proxy has no query")]
    Query,
    /// Its path has more than one reading.
    #[error("the URL's path is not allowed: {0}")]
    Path(#[from] InvalidPath),
}

impl TryFrom<&ApiUrl> for Target {
    type Error = InvalidTarget;

    fn try_from(api: &ApiUrl) -> Result<Self, InvalidTarget> {
        let url = api.url().clone();
        if url.query().is_some() {
            return Err(InvalidTarget::Query);
        }
        CleanPath::parse(url.path())?;
        // Callers get an address without a slash at its end, to which clients append paths.
        let prefix = CleanPath::parse(match url.path().trim_end_matches('/') {
            "" => "/",
            path => path,
        })?;
        Ok(Self { prefix, url })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

impl Target {
    /// Returns the path, without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    /// Returns the URL that a request for `path` is sent to; `None` if the path is outside of the API.
    #[must_use]
    pub fn resolve(&self, path: &CleanPath, query: Option<&str>) -> Option<Url> {
        if !path.is_below(&self.prefix) {
            return None;
        }
        let mut url = self.url.clone();
        url.set_path(&path.to_string());
        url.set_query(query);
        // What the parser reads may differ from the text.
        self.is_same_origin(&url).then_some(url)
    }

    /// Returns whether `url` is at the same origin (RFC 6454, section 5).
    #[must_use]
    pub fn is_same_origin(&self, url: &Url) -> bool {
        // As `Url::origin` has it for these schemes, of which it would copy the host for each request.
        url.scheme() == self.url.scheme()
            && url.host() == self.url.host()
            && url.port_or_known_default() == self.url.port_or_known_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, InvalidTarget> {
        Target::try_from(&text.parse::<ApiUrl>().expect(text))
    }

    #[test]
    fn request_is_sent_to_the_same_path_of_the_api() {
        let target = target("https://api.example:8443/v1/").expect("a target");
        let sent =
            |path: &str, query| target.resolve(&CleanPath::parse(path).expect(path), query).map(|url| url.to_string());
        assert_eq!(sent("/v1/items", None).as_deref(), Some("https://api.example:8443/v1/items"));
        assert_eq!(
            sent("/v1/a%2Fb", Some("x=%2F..&y")).as_deref(),
            Some("https://api.example:8443/v1/a%2Fb?x=%2F..&y")
        );
        assert_eq!(sent("/v1", None).as_deref(), Some("https://api.example:8443/v1"), "the address that is printed");
        assert_eq!(sent("/v10", None), None);
        assert_eq!(sent("/v1/%41", None).as_deref(), Some("https://api.example:8443/v1/%41"));
        assert_eq!(sent("/v1/../v2", None), None);
        assert_eq!(sent("/", None), None);
    }

    #[test]
    fn target_is_an_origin_and_a_path() {
        for text in ["https://api.example", "https://api.example/v1", "http://127.0.0.1:8080/", "http://localhost:1/x"]
        {
            assert!(target(text).is_ok(), "{text}");
        }
        for text in ["https://api.example?x=y", "https://api.example//v1", "https://api.example/a%2f..%2fb"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
