//! The pages that the loopback listener serves. Nothing in them is from a request.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::text::html::{STYLE, error_message, escape, page};

/// The page that ends a login in the browser. All of it is text, not HTML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginPage {
    /// The heading.
    pub title: String,
    /// What the user needs to know.
    pub text: String,
    /// Why the login failed.
    pub error: Option<String>,
    /// Advice on what to do next.
    pub advice: Option<String>,
    /// The command to run next.
    pub next: Option<String>,
}

/// A title and a paragraph.
type Text = (&'static str, &'static str);

pub(super) const ANSWERED: Text = ("This login has its response", "Return to the terminal.");
pub(super) const UNRELATED: Text = (
    "This page does not belong to the login in progress",
    "Nothing has changed. Open the URL from the terminal again.",
);
pub(super) const NOT_FOUND: Text = ("Not found", "authctl is waiting here for a login to finish.");

impl From<Text> for LoginPage {
    fn from((title, text): Text) -> Self {
        Self { title: title.to_owned(), text: text.to_owned(), ..Self::default() }
    }
}

impl LoginPage {
    /// Builds the response, with strict security headers.
    pub(super) fn response(&self, status: StatusCode) -> Response<Full<Bytes>> {
        let mut main = self.error.as_deref().map(error_message).unwrap_or_default();
        main.extend(self.advice.as_ref().map(|advice| format!("<p>{}</p>", escape(advice))));
        if let Some(next) = &self.next {
            // On a phone it scrolls: a line broken after a hyphen would be copied wrongly. The keyboard scrolls what has the focus.
            let next = escape(next);
            main.push_str(&format!(r#"<p>Next, at the terminal:</p><pre class="command" tabindex="0">{next}</pre>"#));
        }
        main.push_str(&format!("<p>{}</p>", escape(&self.text)));
        let html = page(&self.title, "authctl", &main, "Sent by authctl on this machine");
        let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let mut response = Response::new(Full::new(Bytes::from(html)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}
