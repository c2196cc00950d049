//! A complete response of an authorization server: its size is limited, and none of its text reaches an error message.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::IssuerError;
use crate::secret::SecretBytes;

/// The maximum size of a response body in bytes.
pub(super) const MAX_BODY_SIZE: usize = 1024 * 1024;
/// The longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A response of any status. Its body may hold secrets.
pub(super) struct HttpResponse {
    pub(super) host: String,
    pub(super) status: u16,
    /// `Content-Type` without parameters, in lower case.
    pub(super) content_type: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: SecretBytes,
}

impl HttpResponse {
    /// Returns a response with this status and these headers, whose body is still to be received.
    pub(super) fn new(host: &str, status: u16, headers: &HeaderMap) -> Self {
        let content_type = text(headers, CONTENT_TYPE)
            .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let retry_after = retry_after(headers);
        Self { host: host.to_owned(), status, content_type, retry_after, body: SecretBytes::default() }
    }

    /// Appends a part of the body.
    ///
    /// # Errors
    /// [`IssuerError::InvalidResponse`] if the body is larger than [`MAX_BODY_SIZE`].
    pub(super) fn append(&mut self, chunk: &[u8]) -> Result<(), IssuerError> {
        if self.body.expose().len() + chunk.len() > MAX_BODY_SIZE {
            return Err(IssuerError::InvalidResponse {
                from: self.host.clone(),
                what: "a response of more than 1 MiB".into(),
                wrong_address: false,
            });
        }
        self.body.extend(chunk);
        Ok(())
    }

    /// Returns whether the status is 2xx.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the error for a server that cannot respond now (429 or 5xx), whatever the body contains.
    pub(super) fn unavailable(&self) -> Option<IssuerError> {
        let unavailable = self.status == 429 || self.status >= 500;
        unavailable.then(|| IssuerError::Unavailable {
            host: self.host.clone(),
            status: self.status,
            retry_after: self.retry_after,
        })
    }

    /// Returns the error for a response that is not `expected`.
    pub(super) fn unexpected(&self, expected: &str) -> IssuerError {
        let what = match self.status {
            status @ 300..400 => format!("HTTP {status} (a redirect) instead of {expected}"),
            status => format!("HTTP {status} with {} instead of {expected}", self.kind()),
        };
        let wrong_address = matches!(self.status, 300..400 | 404 | 405);
        IssuerError::InvalidResponse { from: self.host.clone(), what, wrong_address }
    }

    /// Describes the body without quoting it.
    fn kind(&self) -> &'static str {
        let text = self.text().trim_ascii();
        match text.first() {
            None => "an empty body",
            Some(b'<') => "a web page",
            Some(_) if serde_json::from_slice::<IgnoredAny>(text).is_err() => "text that is not JSON",
            Some(b'{') => "other JSON",
            Some(_) => "JSON that is not an object",
        }
    }

    /// Returns the body without a byte order mark.
    pub(super) fn text(&self) -> &[u8] {
        let bytes = self.body.expose();
        bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
    }

    /// Parses the body as a JSON object; `None` if it is anything else. The parser's message is dropped, since it quotes
    /// the text.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Option<T> {
        let text = self.text().trim_ascii_start();
        // Derived implementations accept an array for an object.
        if text.first() != Some(&b'{') {
            return None;
        }
        serde_json::from_slice(text).ok()
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the server's time (`Date`; RFC 9110, section 6.6.1).
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, DATE)?).ok()
}

/// Returns `Retry-After`, which is in seconds or a date (RFC 9110, section 10.2.3) that counts from the response's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(value).ok()?;
            until.duration_since(date(headers)?).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, fetch, json};
    use super::*;

    #[tokio::test]
    async fn body_larger_than_the_limit_is_rejected() {
        let response = fetch(json(200, &"x".repeat(MAX_BODY_SIZE))).await.expect("fits");
        assert_eq!(response.body.expose().len(), MAX_BODY_SIZE);
        let error = fetch(json(200, &"x".repeat(MAX_BODY_SIZE + 1))).await.err().expect("too long");
        assert!(matches!(error, IssuerError::InvalidResponse { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn retry_after_is_seconds_or_a_date_of_at_most_an_hour() {
        let date = "date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
        for (headers, expected) in [
            ("retry-after: 7\r\n".to_owned(), Some(7)),
            ("retry-after: 99999999999\r\n".to_owned(), Some(3600)),
            (format!("{date}retry-after: Tue, 14 Nov 2023 22:13:50 GMT\r\n"), Some(30)),
            (format!("{date}retry-after: Tue, 14 Nov 2023 22:00:00 GMT\r\n"), Some(0)),
            ("retry-after: soon\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            let response = fetch(answer(503, &headers, "")).await.expect("a response");
            let Some(IssuerError::Unavailable { retry_after, .. }) = response.unavailable() else { panic!("busy") };
            assert_eq!(retry_after, expected.map(Duration::from_secs), "{headers}");
        }
    }
}
