//! The pages that the loopback listener serves: fixed text without anything from the request.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

/// A title and a paragraph.
type Text = (&'static str, &'static str);

pub(super) const SUCCESS: Text =
    ("You are signed in", "Login complete. You can close this window and return to the terminal.");
pub(super) const REFUSED: Text =
    ("Not signed in", "The sign-in was refused. The terminal shows the reason. You can close this window.");
pub(super) const UNRELATED: Text = (
    "This sign-in does not belong to the login in progress",
    "Nothing has changed. Open the URL from the terminal again.",
);
pub(super) const NOT_FOUND: Text = ("Not found", "authctl is waiting here for a sign-in to finish.");

const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;\
font:1rem/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}main{max-width:28rem;padding:2rem}\
h1{font-size:1.5rem;font-weight:600;margin:0 0 .5rem}p{margin:0;opacity:.8}";

/// Builds a page with strict security headers.
pub(super) fn page(status: StatusCode, (title, text): Text) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} - authctl</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\">\
         <style>{STYLE}</style><main><h1>{title}</h1><p>{text}</p></main></html>\n"
    );
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
