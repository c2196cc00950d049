//! A Django site with django-oauth-toolkit and djangorestframework-simplejwt, and a client for its pages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use crate::support::login_pages::client;
use crate::support::process::Lines;
use crate::support::{PASSWORD, Sandbox, USER};

/// The secret of the client `service`, with characters that form encoding escapes (RFC 6749, section 2.3.1).
pub const SECRET: &str = "s p+a/r%20e:né&=?";

/// A running site; killed when dropped.
pub struct Site {
    process: Child,
    /// `http://127.0.0.1:PORT`
    pub address: String,
    dir: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Site {
    pub fn start() -> Self {
        Self::with(json!({}))
    }

    /// Starts the site with the options that `tests/e2e/django/settings.py` and `serve.py` read.
    pub fn with(options: Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/django/bin/python");
        assert!(python.is_file(), "not installed: {}; `tests/run` installs what the tests drive", python.display());
        let dir = tempfile::Builder::new().prefix("authctl-django-").tempdir().expect("a temporary directory");
        let own = json!({"dir": dir.path(), "password": PASSWORD, "secret": SECRET});
        let options = crate::support::signing_keys::changed(own, options);
        let mut process = Command::new(python)
            .arg(root.join("tests/e2e/django/serve.py"))
            .env_clear()
            .env("DJANGO_OPTIONS", options.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("stderr")).expect("made"))
            .spawn()
            .expect("python starts");
        let address = Lines::of(process.stdout.take().expect("piped"))
            .find_map(|line| Some(line.strip_prefix("listening at ")?.to_owned()));
        let output = || std::fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
        let address = address.unwrap_or_else(|| panic!("the site did not start: {}", output()));
        Self { process, address, dir }
    }

    /// Returns the URL of a path of the site.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Returns the PEM file of the public key of the authorization server (`oidc`) or the login API (`api`).
    pub fn key(&self, of: &str) -> PathBuf {
        self.dir.path().join(format!("{of}.pem"))
    }

    /// Counts the logged requests that match: method, path, status and grant.
    pub fn requests(&self, note: &str) -> usize {
        let notes = std::fs::read_to_string(self.dir.path().join("requests")).unwrap_or_default();
        notes.lines().filter(|line| *line == note).count()
    }

    /// Fails the test if a requested URL contained a secret: servers and proxies log URLs.
    #[track_caller]
    pub fn expect_no_secret_in_urls(&self, home: &Sandbox) {
        let notes = std::fs::read_to_string(self.dir.path().join("requests")).expect("noted");
        assert!(home.secrets().iter().all(|secret| !notes.contains(secret.as_str())), "a secret in an address");
    }
}

/// A browser with cookies and without scripts.
pub struct Visitor {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
    /// The current page.
    pub url: Url,
    pub html: String,
    pub status: u16,
    /// The redirect to another site that ended the last request.
    pub external_redirect: Option<String>,
}

impl Visitor {
    /// Opens a URL and follows redirects within the site.
    pub fn open(url: &str) -> Self {
        let http = client();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (url, cookies) = (Url::parse(url).expect("an address"), BTreeMap::new());
        let mut visitor = Self { runtime, http, cookies, url, html: String::new(), status: 0, external_redirect: None };
        visitor.visit(visitor.http.get(visitor.url.clone()));
        visitor
    }

    fn visit(&mut self, request: reqwest::RequestBuilder) {
        let home = self.url.origin();
        let mut request = request;
        for _ in 0..10 {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let sent = request.header("cookie", cookies.join("; ")).header("referer", self.url.as_str());
            let (status, headers, html) = self.runtime.block_on(async {
                let response = sent.send().await.expect("sent");
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                (status, headers, response.text().await.expect("a page"))
            });
            for cookie in headers.get_all("set-cookie") {
                let pair = cookie.to_str().expect("text").split(';').next().expect("a pair");
                let (name, value) = pair.split_once('=').expect("a pair");
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            (self.status, self.html) = (status, html);
            let Some(location) = headers.get("location").map(|to| to.to_str().expect("text").to_owned()) else {
                return;
            };
            let next = self.url.join(&location).expect("an address");
            if next.origin() != home {
                self.external_redirect = Some(location);
                return;
            }
            self.url = next;
            request = self.http.get(self.url.clone());
        }
        panic!("redirected without end: {}", self.url);
    }

    /// Submits the form of the page with its hidden fields and `fields`.
    pub fn submit(&mut self, fields: &[(&str, &str)]) -> &mut Self {
        let mut form: Vec<(String, String)> = inputs(&self.html);
        form.retain(|(name, _)| !fields.iter().any(|(filled, _)| filled == name));
        form.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.visit(self.http.post(self.url.clone()).form(&form));
        self
    }

    pub fn sign_in(&mut self) -> &mut Self {
        assert!(self.html.contains("id_password"), "no page to sign in at: {} {}", self.status, self.html);
        self.submit(&[("username", USER), ("password", PASSWORD)])
    }

    /// Signs in, allows the request of the client and returns the redirect.
    #[track_caller]
    pub fn allow(url: &str) -> String {
        let mut visitor = Self::open(url);
        visitor.sign_in().submit(&[("allow", "Authorize")]);
        visitor.external_redirect.take().unwrap_or_else(|| panic!("led nowhere: {} {}", visitor.status, visitor.html))
    }
}

/// Returns the hidden fields of a page.
fn inputs(html: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\""))?.1;
        let text = rest.split_once('"')?.0;
        Some(
            [("&quot;", "\""), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
                .iter()
                .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain)),
        )
    };
    let tags = html.split("<input ").skip(1).filter_map(|rest| rest.split_once('>'));
    let tags = tags.map(|(tag, _)| format!(" {tag}"));
    let hidden = tags.filter(|tag| attribute(tag, "type").as_deref() == Some("hidden"));
    hidden.filter_map(|tag| Some((attribute(&tag, "name")?, attribute(&tag, "value").unwrap_or_default()))).collect()
}

/// Sends JSON and returns the status and JSON of the response.
#[track_caller]
pub fn post_json(url: &str, body: &Value) -> (u16, Value) {
    send(|http| http.post(url).json(body))
}

/// Sends a GET request with a bearer token.
#[track_caller]
pub fn get_with(url: &str, token: &str) -> (u16, Value) {
    send(|http| http.get(url).bearer_auth(token))
}

/// Sends a form, with HTTP Basic authentication of the client.
#[track_caller]
pub fn post_form(url: &str, client: Option<(&str, &str)>, form: &[(&str, &str)]) -> (u16, Value) {
    send(|http| {
        let request = http.post(url).form(form);
        match client {
            Some((id, secret)) => {
                let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
                request.basic_auth(id, Some(encoded))
            }
            None => request,
        }
    })
}

fn send(request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(20)).build();
    let request = request(&http.expect("a client"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let response = request.send().await.expect("sent");
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
    })
}
