//! A browser on the embedded issuer's login pages.

use std::time::Duration;

use authctl::dev_issuer::DevIssuer;
use url::Url;

use super::PASSWORD;

/// Returns the code that a device login shows, once its line is complete.
pub fn user_code(output: &str) -> Option<String> {
    let output = output.replace('\r', "");
    let mut lines = output[..output.rfind('\n')?].lines().skip_while(|line| !line.contains("enter the code"));
    lines.nth(1).map(|line| line.trim().to_owned())
}

/// A browser that opens the login pages and submits their forms.
pub struct LoginPages {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    issuer: Url,
    cookie: String,
    interaction: String,
    csrf: String,
    /// The redirect of the last reply.
    pub location: String,
    /// The HTML of the last reply.
    pub html: String,
}

fn hidden(html: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let at = html.find(&start).unwrap_or_else(|| panic!("no {name} in {html}")) + start.len();
    html[at..].split('"').next().expect("closed").to_owned()
}

/// Returns an HTTP client that follows no redirects.
pub fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).redirect(reqwest::redirect::Policy::none());
    client.timeout(Duration::from_secs(20)).build().expect("a client")
}

impl LoginPages {
    /// Opens a URL of the issuer.
    pub fn open(issuer: &DevIssuer, url: &str) -> Self {
        let http = client();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let empty = String::new;
        let mut pages = Self {
            runtime,
            http,
            issuer: issuer.issuer().parse().expect("an address"),
            cookie: empty(),
            interaction: empty(),
            csrf: empty(),
            location: empty(),
            html: empty(),
        };
        pages.visit(url);
        // The short address that a login in a terminal shows.
        if !url.starts_with(issuer.issuer()) && !pages.location.is_empty() {
            pages.follow_redirect();
        }
        pages
    }

    fn send(&mut self, request: reqwest::RequestBuilder) -> u16 {
        let request = request.header("cookie", &self.cookie);
        let (status, cookie, location, html) = self.runtime.block_on(async {
            let response = request.send().await.expect("sent");
            let header = |name: &str| {
                response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
            };
            let (status, cookie, location) = (response.status().as_u16(), header("set-cookie"), header("location"));
            (status, cookie, location, response.text().await.expect("a page"))
        });
        if !cookie.is_empty() {
            self.cookie = cookie.split(';').next().expect("a pair").to_owned();
        }
        (self.location, self.html) = (location, html);
        if self.html.contains("name=\"interaction\"") {
            self.interaction = hidden(&self.html, "interaction");
            self.csrf = hidden(&self.html, "csrf");
        }
        status
    }

    /// Opens any URL.
    pub fn visit(&mut self, url: &str) -> u16 {
        self.send(self.http.get(url))
    }

    /// Submits the form of a page and follows the issuer's own redirects.
    pub fn submit(&mut self, page: &str, fields: &[(&str, &str)]) -> u16 {
        let mut form = vec![("interaction", self.interaction.as_str()), ("csrf", self.csrf.as_str())];
        form.extend_from_slice(fields);
        let url = format!("{}/{page}", self.issuer.as_str().trim_end_matches('/'));
        let mut status = self.send(self.http.post(url).form(&form));
        if self.location.starts_with('/') {
            let next = self.issuer.join(&self.location).expect("an address");
            status = self.visit(next.as_str());
        }
        status
    }

    pub fn log_in(&mut self, user: &str) {
        assert_eq!(self.submit("login", &[("username", user), ("password", PASSWORD)]), 200, "{}", self.html);
    }

    pub fn allow(&mut self) {
        self.submit("consent", &[("decision", "allow")]);
    }

    pub fn deny(&mut self) {
        self.submit("consent", &[("decision", "deny")]);
    }

    /// Logs in and allows access, up to the redirect to the client.
    pub fn sign_in(issuer: &DevIssuer, url: &str, user: &str) -> Self {
        Self::sign_in_to(issuer, url, user, "http://127.0.0.1:")
    }

    /// Logs in and allows access, up to the redirect to a URI that starts with `back`.
    pub fn sign_in_to(issuer: &DevIssuer, url: &str, user: &str, back: &str) -> Self {
        let mut pages = Self::open(issuer, url);
        pages.log_in(user);
        pages.allow();
        assert!(pages.location.starts_with(back), "{:?} {}", pages.location, pages.html);
        pages
    }

    /// Follows the redirect of the last reply.
    pub fn follow_redirect(&mut self) -> u16 {
        let location = std::mem::take(&mut self.location);
        self.visit(&location)
    }
}

/// Returns the body of the issuer's reply at `path`.
pub fn get(issuer: &DevIssuer, path: &str) -> String {
    LoginPages::open(issuer, &format!("{}/{path}", issuer.issuer())).html
}

/// Sends a form to the issuer and returns the status and the JSON of the reply.
pub fn post(issuer: &DevIssuer, path: &str, form: &[(&str, &str)]) -> (u16, serde_json::Value) {
    let url = format!("{}/{path}", issuer.issuer());
    let mut pages = LoginPages::open(issuer, &format!("{}/jwks", issuer.issuer()));
    let status = pages.send(pages.http.post(url).form(form));
    (status, serde_json::from_str(&pages.html).unwrap_or_default())
}

/// Returns the token response of a password login made without authctl.
pub fn token_response(issuer: &DevIssuer, user: &str) -> serde_json::Value {
    let form = [
        ("grant_type", "password"),
        ("client_id", "authctl"),
        ("username", user),
        ("password", PASSWORD),
        ("scope", "openid profile offline_access"),
    ];
    let (status, tokens) = post(issuer, "token", &form);
    assert_eq!(status, 200, "{}", tokens["error"]);
    tokens
}
