//! A complete response of an authorization server: its size is limited, and none of its text reaches an error message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use url::Url;

use super::content_coding::{MAX_BODY_SIZE, decoded, from_utf16};
use super::error::{Delivery, IssuerError, Phase, is_refusal_status};
use super::form::repeats_secret;
use crate::clock::UnixTime;
use crate::secret::{Secret, SecretBytes};
use crate::text::excerpt;

/// The longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// With these words in it, JSON of a success refuses a refresh token. Other JSON may be a gateway's.
const REFUSAL_WORDS: [&str; 6] =
    ["refresh token", "refresh_token", "refreshToken", "invalid_grant", "expired", "revoked"];

/// A response of any status. Its body may hold secrets.
pub(super) struct HttpResponse {
    pub(super) host: String,
    pub(super) status: u16,
    /// `Content-Type` without parameters, in lower case.
    pub(super) content_type: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// Where a redirect leads, without its query, which may hold secrets.
    pub(super) location: Option<String>,
    /// The `Content-Encoding`, unless it was decoded. None is offered.
    pub(super) content_coding: Option<String>,
    /// The values of `WWW-Authenticate`.
    pub(super) challenges: Vec<String>,
    /// The server's time (`Date`).
    pub(super) date: Option<UnixTime>,
    /// The nonce that the next DPoP proof must have (`DPoP-Nonce`; RFC 9449, section 8.2).
    pub(super) dpop_nonce: Option<String>,
    pub(super) body: SecretBytes,
}

impl HttpResponse {
    /// Returns a response of `url` with this status and these headers, whose body is still to be received.
    pub(super) fn new(host: &str, url: &Url, status: u16, headers: &HeaderMap) -> Self {
        let content_type = text(headers, CONTENT_TYPE)
            .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let retry_after = retry_after(headers);
        let location = text(headers, LOCATION).and_then(|location| url.join(location).ok()).map(|mut location| {
            location.set_query(None);
            location.set_fragment(None);
            let _ = location.set_password(None);
            let _ = location.set_username("");
            excerpt(location.as_str(), 200)
        });
        let codings = headers.get_all(CONTENT_ENCODING).iter().filter_map(|coding| coding.to_str().ok());
        let content_coding = Some(codings.collect::<Vec<_>>().join(", ")).filter(|codings| !codings.is_empty());
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenges.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        let date = date(headers).and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        Self {
            host: host.to_owned(),
            status,
            content_type,
            retry_after,
            location,
            content_coding,
            challenges,
            date: date.map(|since| UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))),
            dpop_nonce: text(headers, HeaderName::from_static("dpop-nonce")).map(str::to_owned),
            body: SecretBytes::default(),
        }
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

    /// Decodes the complete body, as far as it can be.
    pub(super) fn decode(&mut self) {
        if let Some(codings) = &self.content_coding
            && let Some(body) = decoded(self.body.expose(), codings)
        {
            (self.body, self.content_coding) = (body, None);
        }
        if let Some(body) = from_utf16(self.body.expose()) {
            self.body = body;
        }
    }

    /// Returns whether the status is 2xx.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the error for a server that cannot respond now (429 or 5xx), or to a request that was too slow or too early (408
    /// and 425; RFC 9110, section 15.5.9; RFC 8470, section 5.2), whatever the body contains.
    pub(super) fn unavailable(&self) -> Option<IssuerError> {
        let unavailable = matches!(self.status, 408 | 425 | 429 | 500..);
        unavailable.then(|| IssuerError::Unavailable {
            host: self.host.clone(),
            status: self.status,
            retry_after: self.retry_after,
        })
    }

    /// Returns the error for a response that is not `expected`.
    pub(super) fn unexpected(&self, expected: &str) -> IssuerError {
        let (host, status, kind) = (&self.host, self.status, self.kind());
        // Without a `Content-Length` the end of the connection ends the body.
        if self.is_success() && matches!(kind, BodyKind::Empty | BodyKind::CutOff) {
            let message = match kind {
                BodyKind::Empty => format!("{host} returned HTTP {status} with an empty body instead of {expected}"),
                _ => format!("the connection to {host} ended in the middle of the response"),
            };
            let (proxy, phase, delivery) = (None, Phase::Exchange, Delivery::ResponseLost);
            return IssuerError::Unreachable { message, proxy, phase, delivery };
        }
        // Only an issuer asks for authentication in plain text. With another status a proxy may be the author of a text that
        // shows more than the status.
        let is_own = match kind {
            BodyKind::Empty | BodyKind::Reason | BodyKind::OtherObject | BodyKind::OtherJson | BodyKind::CutOff => true,
            BodyKind::Text => status == 401,
            BodyKind::WebPage | BodyKind::Xml => false,
        };
        if is_own && is_refusal_status(status) {
            let message = match status {
                404 | 405 => format!("{host} returned HTTP {status} with {} instead of {expected}", kind.as_str()),
                _ => format!("{host} refused the request: HTTP {status} with {}", kind.as_str()),
            };
            return IssuerError::Rejected { message, status, is_refusal: true };
        }
        let what = match (status, &self.location, &self.content_coding) {
            (300..400, Some(location), _) => format!("HTTP {status} (a redirect to {location}) instead of {expected}"),
            (300..400, None, _) => format!("HTTP {status} (a redirect) instead of {expected}"),
            (_, _, Some(coding)) if kind == BodyKind::Text => {
                let coding = excerpt(coding, 40);
                format!("HTTP {status} with the content coding `{coding}`, which was not offered")
            }
            _ => format!("HTTP {status} with {} instead of {expected}", kind.as_str()),
        };
        let wrong_address = matches!(status, 300..400 | 404 | 405);
        IssuerError::InvalidResponse { from: host.clone(), what, wrong_address }
    }

    /// Returns the error for a response that is not the `expected` document, which is public: no client was refused.
    pub(super) fn no_document(&self, expected: &str) -> IssuerError {
        match self.unexpected(expected) {
            IssuerError::Rejected { message, status, .. } if !matches!(status, 404 | 405) => {
                IssuerError::NoDocument { message }
            }
            error => error,
        }
    }

    /// Returns the error for JSON of a success that is not `expected` and not empty: issuers also refuse with HTTP 200, and with
    /// members of their own.
    pub(super) fn own_refusal(&self, expected: &str) -> Option<IssuerError> {
        let text: Vec<u8> = self.content().iter().filter(|byte| !byte.is_ascii_whitespace()).take(5).copied().collect();
        let is_refusal = matches!(self.kind(), BodyKind::OtherObject | BodyKind::OtherJson)
            && !matches!(&*text, b"{}" | b"[]" | b"\"\"" | b"null" | b"true" | b"false");
        is_refusal.then(|| IssuerError::Rejected {
            message: format!(
                "{} refused the request: HTTP {} with JSON that is not {expected}",
                self.host, self.status
            ),
            status: self.status,
            is_refusal: REFUSAL_WORDS.iter().any(|word| self.has_word(word)),
        })
    }

    fn has_word(&self, word: &str) -> bool {
        self.text().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Leaves out what repeats one of the `secrets` of the request: the headers that an error shows.
    pub(super) fn leave_out(&mut self, secrets: &[Secret]) {
        for shown in [&mut self.location, &mut self.content_coding] {
            shown.take_if(|text| repeats_secret(secrets, text));
        }
    }

    fn is_html(&self) -> bool {
        matches!(self.content_type.as_deref(), Some("text/html" | "application/xhtml+xml"))
    }

    /// Returns the body without white space, and without the NUL bytes that stand for a lost part of it, around it.
    fn content(&self) -> &[u8] {
        let is_content = |byte: &u8| !byte.is_ascii_whitespace() && *byte != 0;
        let text = self.text();
        let begin = text.iter().position(is_content).unwrap_or(text.len());
        let end = text.iter().rposition(is_content).map_or(begin, |last| last + 1);
        &text[begin..end]
    }

    fn is_xml(&self) -> bool {
        let subtype = self.content_type.as_deref().unwrap_or_default();
        !self.is_html() && (subtype.ends_with("/xml") || subtype.ends_with("+xml"))
    }

    fn kind(&self) -> BodyKind {
        let text = self.content();
        match text.first() {
            None => BodyKind::Empty,
            Some(_) if !self.is_html() && is_reason(self.status, text) => BodyKind::Reason,
            Some(b'<') if self.is_xml() => BodyKind::Xml,
            Some(b'<') => BodyKind::WebPage,
            Some(first) => match serde_json::from_slice::<IgnoredAny>(text) {
                Ok(_) if *first == b'{' => BodyKind::OtherObject,
                Ok(_) => BodyKind::OtherJson,
                Err(error) if *first == b'{' && error.is_eof() => BodyKind::CutOff,
                Err(_) if self.is_html() => BodyKind::WebPage,
                Err(_) => BodyKind::Text,
            },
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

/// Returns whether a text is a status in words, which a server's framework writes where the issuer has nothing to add. An issuer
/// may also write `Unauthorized` with 403.
fn is_reason(status: u16, text: &[u8]) -> bool {
    let number = status.to_string();
    let text = text.strip_prefix(number.as_bytes()).unwrap_or(text).trim_ascii();
    let text = text.strip_suffix(b".").unwrap_or(text);
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let others: &[&str] =
        if matches!(status, 401 | 403) { &["Unauthorized", "Forbidden", "Access denied"] } else { &[] };
    reason.iter().chain(others).any(|reason| text.eq_ignore_ascii_case(reason.as_bytes()))
}

/// What a body is that is not what was expected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    Empty,
    /// The status in words.
    Reason,
    WebPage,
    Xml,
    Text,
    OtherObject,
    OtherJson,
    /// The beginning of a JSON object.
    CutOff,
}

impl BodyKind {
    /// Describes the body without quoting it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "an empty body",
            Self::Reason => "no more text than that",
            Self::WebPage => "a web page",
            Self::Xml => "XML",
            Self::Text => "text that is not JSON",
            Self::OtherObject => "other JSON",
            Self::OtherJson => "JSON that is not an object",
            Self::CutOff => "JSON that was cut off",
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the server's time (`Date`; RFC 9110, section 6.6.1).
fn date(headers: &HeaderMap) -> Option<SystemTime> {
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
    use super::super::testing::{TestServer, answer, fetch, http, json};
    use super::*;

    #[tokio::test]
    async fn body_larger_than_the_limit_is_rejected() {
        let response = fetch(json(200, &"x".repeat(MAX_BODY_SIZE))).await.expect("fits");
        assert_eq!(response.body.expose().len(), MAX_BODY_SIZE);
        let error = fetch(json(200, &"x".repeat(MAX_BODY_SIZE + 1))).await.err().expect("too long");
        assert!(matches!(error, IssuerError::InvalidResponse { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn only_an_issuers_own_words_are_a_refusal_and_a_wrong_address_is_one() {
        let (text, html) = ("content-type: text/plain\r\n", "content-type: text/html\r\n");
        for (status, headers, body, is_rejected, is_wrong_address) in [
            (400, text, "{}", true, false),
            (400, text, "7", true, false),
            (400, html, "", true, false),
            (401, text, "Unauthorized", true, false),
            (401, html, "Unauthorized", false, false),
            (401, text, "<p>", false, false),
            (403, text, "Forbidden", true, false),
            (403, html, "Forbidden", false, false),
            (403, text, "Forbidden by policy", false, false),
            (404, text, "{}", true, false),
            (404, html, "<p>", false, true),
            (405, text, "no", false, true),
            (302, text, "", false, true),
            (407, text, "{}", false, false),
            (200, text, "{}", false, false),
            (400, text, "{\"error\":\"a", true, false),
            (400, text, "{\"error\":1,\"error\":2}", true, false),
            (400, html, "{\"error\":\"a", true, false),
            (400, "content-type: application/xml\r\n", "<error/>", false, false),
        ] {
            let response = fetch(answer(status, headers, body)).await.expect("a response");
            let found = match response.unexpected("tokens") {
                IssuerError::Rejected { .. } => (true, false),
                IssuerError::InvalidResponse { wrong_address, .. } => (false, wrong_address),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, (is_rejected, is_wrong_address), "{status} {headers}{body}");
            assert!(response.unavailable().is_none(), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 599] {
            for (kind, body) in [("", "{}"), (html, "<p>"), ("", "")] {
                let response = fetch(answer(status, kind, body)).await.expect("a response");
                assert!(response.unavailable().is_some(), "{status} {body}");
            }
        }
    }

    #[tokio::test]
    async fn unexpected_response_is_described_without_its_text() {
        let gzip = "content-encoding: gzip\r\n";
        for (status, headers, body, expected) in [
            (403, "", "", "refused the request: HTTP 403 with an empty body"),
            (403, "", "Forbidden", "refused the request: HTTP 403 with no more text than that"),
            (403, "", " 403 forbidden.\n", "refused the request: HTTP 403 with no more text than that"),
            (403, "", "Unauthorized", "refused the request: HTTP 403 with no more text than that"),
            (400, "", "Bad Request", "refused the request: HTTP 400 with no more text than that"),
            (404, "", "404 Not Found", "returned HTTP 404 with no more text than that instead of tokens"),
            (403, "", "Forbidden by policy", "HTTP 403 with text that is not JSON instead of tokens"),
            (400, "", "Forbidden", "HTTP 400 with text that is not JSON instead of tokens"),
            (407, "", "Proxy Authentication Required", "HTTP 407 with no more text than that instead of tokens"),
            (200, "", "OK", "HTTP 200 with no more text than that instead of tokens"),
            (404, "", "{}", "returned HTTP 404 with other JSON instead of tokens"),
            (405, "", "7", "returned HTTP 405 with JSON that is not an object instead of tokens"),
            (200, "", "hunter2", "HTTP 200 with text that is not JSON instead of tokens"),
            (200, "", "<p>hunter2", "HTTP 200 with a web page instead of tokens"),
            (
                400,
                "content-type: application/xml; charset=utf-8\r\n",
                "<e>hunter2",
                "HTTP 400 with XML instead of tokens",
            ),
            (400, "content-type: application/problem+xml\r\n", "<e>hunter2", "HTTP 400 with XML instead of tokens"),
            (
                400,
                "content-type: application/xhtml+xml\r\n",
                "<p>hunter2",
                "HTTP 400 with a web page instead of tokens",
            ),
            (400, "", "{\"error\":\"hunter2", "refused the request: HTTP 400 with JSON that was cut off"),
            (200, "", "\0\0\0 ", "HTTP 200 with an empty body instead of tokens"),
            (200, "", "", "HTTP 200 with an empty body instead of tokens"),
            (200, gzip, "{}", "HTTP 200 with other JSON instead of tokens"),
            (302, "", "", "HTTP 302 (a redirect) instead of tokens"),
        ] {
            let response = fetch(answer(status, headers, body)).await.expect("a response");
            let error = response.unexpected("tokens").to_string();
            assert!(error.contains(&format!(" {expected}")) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn redirect_and_content_coding_are_named_without_secrets() {
        for (location, shown) in [
            ("https://login.example/sso?state=hunter2#hunter2", "(a redirect to https://login.example/sso) instead of"),
            ("https://me:hunter2@login.example/", "(a redirect to https://login.example/) instead of"),
            ("/portal", "/portal) instead of"),
            ("", "(a redirect"),
        ] {
            let response = fetch(answer(302, &format!("location: {location}\r\n"), "")).await.expect("a response");
            let error = response.unexpected("tokens").to_string();
            assert!(error.contains(shown) && !error.contains("hunter2"), "{location}: {error}");
        }
        let response = fetch(answer(200, "content-encoding: gzip\r\n", "hunter2")).await.expect("a response");
        let error = response.unexpected("tokens").to_string();
        assert!(error.contains("HTTP 200 with the content coding `gzip`, which was not offered"), "{error}");
        let server = TestServer::start(vec![json(200, "{}")]).await;
        http().get(&server.url, "application/json", None).await.expect("a response");
        assert!(server.requests()[0].contains("accept-encoding: identity\r\n"), "{:?}", server.requests());
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
