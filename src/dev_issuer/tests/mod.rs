//! Tests of the issuer over loopback HTTP: what each grant returns, and what is rejected.

mod authorize;
mod client;
mod control;
mod device;
mod faults;
mod metadata;
mod password;
mod refresh;
mod server;
mod status_list;
mod token_exchange;
mod workload;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client as Http, Response, StatusCode, redirect};
use serde_json::{Value, json};

use super::*;
use crate::clock::UnixTime;

const VERIFIER: &str = "a-verifier-that-is-long-enough-for-rfc-7636-0123";
const REDIRECT: &str = "http://127.0.0.1:4711/callback";
const TOTP: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
const ALL_SCOPES: &str = "openid profile offline_access";

struct TestIssuer {
    server: DevIssuer,
    http: Http,
}

fn http() -> Http {
    Http::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("a client")
}

fn options() -> Options {
    let mut otp = User::new("otp-user", Secret::new("right".into()));
    otp.totp = Some(Secret::new(TOTP.into()));
    Options {
        algorithm: Algorithm::ES256,
        users: vec![User::new("developer", Secret::new("right".into())), otp],
        ..Options::default()
    }
}

/// Starts an issuer in this process.
fn start(options: Options) -> TestIssuer {
    TestIssuer { server: DevIssuer::spawn(options).expect("started"), http: http() }
}

fn otp_now() -> String {
    let secret = totp_rs::Secret::try_from_base32(TOTP).expect("base32");
    let totp = totp_rs::Builder::new().with_secret(secret).build().expect("totp");
    let now = crate::clock::Clock::now(&crate::clock::SystemClock);
    totp.generate(u64::try_from(now.0).expect("after 1970")).to_string()
}

fn claims(jwt: &Value) -> Value {
    let payload = jwt.as_str().expect("a token").split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// Returns the value of a form field.
fn hidden(html: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let at = html.find(&start).unwrap_or_else(|| panic!("no {name} in {html}")) + start.len();
    html[at..].split('"').next().expect("closed").to_owned()
}

async fn json_reply(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// A user's way through the pages in one browser.
struct LoginPages<'a> {
    issuer: &'a TestIssuer,
    cookie: String,
    interaction: String,
    csrf: String,
    location: String,
    html: String,
}

impl<'a> LoginPages<'a> {
    async fn open(issuer: &'a TestIssuer, path: &str) -> Self {
        let empty = String::new;
        let mut pages =
            Self { issuer, cookie: empty(), interaction: empty(), csrf: empty(), location: empty(), html: empty() };
        pages.visit(&format!("{}{path}", issuer.url())).await;
        pages
    }

    async fn read(&mut self, response: Response) -> StatusCode {
        let status = response.status();
        if let Some(cookie) = response.headers().get("set-cookie") {
            let cookie = cookie.to_str().expect("text");
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
            self.cookie = cookie.split(';').next().expect("a pair").to_owned();
        }
        self.location = response
            .headers()
            .get("location")
            .map(|value| value.to_str().expect("text").to_owned())
            .unwrap_or_default();
        self.html = response.text().await.expect("a page");
        if self.html.contains("name=\"interaction\"") {
            self.interaction = hidden(&self.html, "interaction");
            self.csrf = hidden(&self.html, "csrf");
        }
        status
    }

    async fn visit(&mut self, url: &str) -> StatusCode {
        let request = self.issuer.http.get(url).header("cookie", &self.cookie);
        self.read(request.send().await.expect("sent")).await
    }

    async fn submit(&mut self, page: &str, fields: &[(&str, &str)]) -> StatusCode {
        let mut form = vec![("interaction", self.interaction.as_str()), ("csrf", self.csrf.as_str())];
        form.extend_from_slice(fields);
        let url = format!("{}/{page}", self.issuer.url());
        let request = self.issuer.http.post(url).header("cookie", &self.cookie).form(&form);
        let mut status = self.read(request.send().await.expect("sent")).await;
        if self.location.starts_with('/') {
            let host = url::Url::parse(self.issuer.url()).expect("url");
            let next = host.join(&self.location).expect("url").to_string();
            status = self.visit(&next).await;
        }
        status
    }

    async fn log_in(&mut self) -> StatusCode {
        self.submit("login", &[("username", "developer"), ("password", "right")]).await
    }

    /// Returns a parameter of the redirect URI.
    fn redirect_parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&self.location).expect("an address");
        url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

fn authorize_path(more: &str) -> String {
    let challenge = crypto::base64url(&crypto::sha256(VERIFIER.as_bytes()));
    let redirect: String = url::form_urlencoded::byte_serialize(REDIRECT.as_bytes()).collect();
    format!(
        "/authorize?response_type=code&client_id=authctl&redirect_uri={redirect}&code_challenge={challenge}\
         &code_challenge_method=S256&state=s1&nonce=n1&scope=openid+profile+offline_access{more}"
    )
}

impl TestIssuer {
    fn url(&self) -> &str {
        self.server.issuer()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/{path}", self.url());
        json_reply(self.http.post(url).form(form).send().await.expect("sent")).await
    }

    async fn token(&self, form: &[(&str, &str)]) -> (u16, Value) {
        self.post("token", &[&[("client_id", "authctl")], form].concat()).await
    }

    async fn password(&self, user: &str, password: &str, scope: &str) -> (u16, Value) {
        let form = [("grant_type", "password"), ("username", user), ("password", password), ("scope", scope)];
        self.token(&form).await
    }

    /// Returns the tokens of a new login.
    async fn login(&self) -> Value {
        let (status, tokens) = self.password("developer", "right", ALL_SCOPES).await;
        assert_eq!(status, 200, "{}", tokens["error"]);
        tokens
    }

    async fn refresh(&self, token: &Value) -> (u16, Value) {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token.as_str().expect("a token"))]).await
    }

    async fn exchange(&self, code: &str, redirect_uri: &str, verifier: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.token(&form).await
    }

    async fn code(&self) -> String {
        let mut pages = LoginPages::open(self, &authorize_path("")).await;
        pages.log_in().await;
        pages.submit("consent", &[("decision", "allow")]).await;
        pages.redirect_parameter("code").expect("a code")
    }

    /// Returns whether userinfo accepts the access token.
    async fn accepts(&self, access_token: &Value) -> bool {
        let url = format!("{}/userinfo", self.url());
        let request = self.http.get(url).bearer_auth(access_token.as_str().expect("a token"));
        request.send().await.expect("sent").status() == 200
    }
}

fn assert_error((status, body): (u16, Value), code: &str) {
    assert_eq!((status, body["error"].as_str()), (400, Some(code)));
    assert_eq!(body.get("access_token"), None);
}
