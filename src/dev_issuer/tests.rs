//! The issuer over loopback HTTP: what each grant gives, and what an attacker is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client as Http, Response, StatusCode, redirect};
use serde_json::{Value, json};

use super::*;

const VERIFIER: &str = "a-verifier-that-is-long-enough-for-rfc-7636-0123";
const REDIRECT: &str = "http://127.0.0.1:4711/callback";
const TOTP: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
const ALL: &str = "openid profile offline_access";

struct Bench {
    issuer: DevIssuer,
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

async fn bench(options: Options) -> Bench {
    Bench { issuer: DevIssuer::spawn(options).expect("started"), http: http() }
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

fn hidden(html: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let at = html.find(&start).unwrap_or_else(|| panic!("no {name} in {html}")) + start.len();
    html[at..].split('"').next().expect("closed").to_owned()
}

async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// A person with a browser.
struct Person<'a> {
    bench: &'a Bench,
    cookie: String,
    walk: String,
    csrf: String,
    location: String,
    html: String,
}

impl<'a> Person<'a> {
    async fn opens(bench: &'a Bench, path: &str) -> Self {
        let empty = String::new;
        let mut person =
            Self { bench, cookie: empty(), walk: empty(), csrf: empty(), location: empty(), html: empty() };
        person.goes(&format!("{}{path}", bench.issuer.issuer())).await;
        person
    }

    async fn sees(&mut self, response: Response) -> StatusCode {
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
        if self.html.contains("name=\"walk\"") {
            self.walk = hidden(&self.html, "walk");
            self.csrf = hidden(&self.html, "csrf");
        }
        status
    }

    async fn goes(&mut self, url: &str) -> StatusCode {
        let request = self.bench.http.get(url).header("cookie", &self.cookie);
        self.sees(request.send().await.expect("sent")).await
    }

    async fn submits(&mut self, page: &str, fields: &[(&str, &str)]) -> StatusCode {
        let mut form = vec![("walk", self.walk.as_str()), ("csrf", self.csrf.as_str())];
        form.extend_from_slice(fields);
        let url = format!("{}/{page}", self.bench.issuer.issuer());
        let request = self.bench.http.post(url).header("cookie", &self.cookie).form(&form);
        let mut status = self.sees(request.send().await.expect("sent")).await;
        if self.location.starts_with('/') {
            let host = url::Url::parse(self.bench.issuer.issuer()).expect("url");
            let next = host.join(&self.location).expect("url").to_string();
            status = self.goes(&next).await;
        }
        status
    }

    async fn logs_in(&mut self) -> StatusCode {
        self.submits("login", &[("username", "developer"), ("password", "right")]).await
    }

    /// A parameter of the address that the browser was sent back to.
    fn returned(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&self.location).expect("an address");
        url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }
}

fn authorize_path(more: &str) -> String {
    let challenge = keys::encode(&bounded::sha256(VERIFIER.as_bytes()));
    let redirect: String = url::form_urlencoded::byte_serialize(REDIRECT.as_bytes()).collect();
    format!(
        "/authorize?response_type=code&client_id=authctl&redirect_uri={redirect}&code_challenge={challenge}\
         &code_challenge_method=S256&state=s1&nonce=n1&scope=openid+profile+offline_access{more}"
    )
}

impl Bench {
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/{path}", self.issuer.issuer());
        answer(self.http.post(url).form(form).send().await.expect("sent")).await
    }

    async fn token(&self, form: &[(&str, &str)]) -> (u16, Value) {
        self.post("token", &[&[("client_id", "authctl")], form].concat()).await
    }

    async fn password(&self, user: &str, password: &str, scope: &str) -> (u16, Value) {
        let form = [("grant_type", "password"), ("username", user), ("password", password), ("scope", scope)];
        self.token(&form).await
    }

    /// The tokens of a new login.
    async fn login(&self) -> Value {
        let (status, tokens) = self.password("developer", "right", ALL).await;
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
        let mut person = Person::opens(self, &authorize_path("")).await;
        person.logs_in().await;
        person.submits("consent", &[("decision", "allow")]).await;
        person.returned("code").expect("a code")
    }

    /// Whether userinfo takes the access token.
    async fn accepts(&self, access_token: &Value) -> bool {
        let url = format!("{}/userinfo", self.issuer.issuer());
        let request = self.http.get(url).bearer_auth(access_token.as_str().expect("a token"));
        request.send().await.expect("sent").status() == 200
    }
}

fn refused((status, body): (u16, Value), code: &str) {
    assert_eq!((status, body["error"].as_str()), (400, Some(code)));
    assert_eq!(body.get("access_token"), None);
}

#[tokio::test]
async fn metadata_is_found_both_ways_and_each_algorithm_verifies_with_the_published_keys() {
    for (algorithm, name) in [(Algorithm::RS256, "RS256"), (Algorithm::ES256, "ES256"), (Algorithm::EdDSA, "EdDSA")] {
        let bench = bench(Options { algorithm, path: "/tenant".into(), ..options() }).await;
        let issuer = bench.issuer.issuer().to_owned();
        let base = issuer.strip_suffix("/tenant").expect("the path");
        for url in [
            format!("{issuer}/.well-known/openid-configuration"),
            format!("{base}/.well-known/oauth-authorization-server/tenant"),
        ] {
            let (status, metadata) = answer(bench.http.get(url).send().await.expect("sent")).await;
            assert_eq!((status, &metadata["issuer"]), (200, &json!(issuer)));
        }
        let (_, jwks) = answer(bench.http.get(format!("{issuer}/jwks")).send().await.expect("sent")).await;
        let tokens = bench.login().await;
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks).expect("a JWK Set");
        assert_eq!(set.keys.len(), 3);
        for token in ["id_token", "access_token"] {
            let jwt = tokens[token].as_str().expect("a JWT");
            let header = jsonwebtoken::decode_header(jwt).expect("a header");
            assert_eq!(format!("{:?}", header.alg), name);
            let key = set.find(header.kid.as_deref().expect("kid")).expect("published");
            let key = jsonwebtoken::DecodingKey::from_jwk(key).expect("a key");
            let mut validation = jsonwebtoken::Validation::new(header.alg);
            validation.set_audience(&["authctl"]);
            validation.set_issuer(&[&issuer]);
            jsonwebtoken::decode::<Value>(jwt, &key, &validation).expect("verifies");
        }
    }
}

#[tokio::test]
async fn a_code_gives_tokens_once_and_its_second_use_takes_them_back() {
    let bench = bench(options()).await;
    let mut person = Person::opens(&bench, &authorize_path("")).await;
    assert!(person.html.contains("id=\"username\""));
    assert_eq!(person.submits("login", &[("username", "developer"), ("password", "wrong")]).await, 403);
    assert!(person.html.contains("Wrong user name or password"));
    let before = person.cookie.clone();
    assert_eq!(person.logs_in().await, 200);
    assert_ne!(person.cookie, before, "a cookie from before the login must be worth nothing");
    assert!(person.html.contains("offline_access"));
    person.submits("consent", &[("decision", "allow")]).await;
    assert_eq!(person.returned("state").as_deref(), Some("s1"));
    assert_eq!(person.returned("iss").as_deref(), Some(bench.issuer.issuer()));
    let code = person.returned("code").expect("a code");
    let (status, tokens) = bench.exchange(&code, REDIRECT, VERIFIER).await;
    assert_eq!((status, &tokens["token_type"]), (200, &json!("Bearer")));
    let id = claims(&tokens["id_token"]);
    assert_eq!((&id["nonce"], &id["aud"]), (&json!("n1"), &json!("authctl")));
    assert_eq!(id["preferred_username"], "developer");
    assert_ne!(id["sub"], "developer");
    assert!(bench.accepts(&tokens["access_token"]).await);
    refused(bench.exchange(&code, REDIRECT, VERIFIER).await, "invalid_grant");
    assert!(!bench.accepts(&tokens["access_token"]).await);
    refused(bench.refresh(&tokens["refresh_token"]).await, "invalid_grant");
}

#[tokio::test]
async fn a_stolen_code_is_worth_nothing() {
    let bench = bench(options()).await;
    let wrong = "another-verifier-that-is-long-enough-0123456789";
    refused(bench.exchange(&bench.code().await, REDIRECT, wrong).await, "invalid_grant");
    let elsewhere = "http://127.0.0.1:4711/other";
    refused(bench.exchange(&bench.code().await, elsewhere, VERIFIER).await, "invalid_grant");
    let code = bench.code().await;
    let secret = bench.issuer.client_secret("authctl-service").expect("drawn");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", "authctl-service"),
        ("client_secret", secret.expose()),
    ];
    refused(bench.post("token", &form).await, "invalid_grant");
}

#[tokio::test]
async fn bad_authorization_requests_go_nowhere_or_back_with_an_error() {
    let bench = bench(options()).await;
    let evil = authorize_path("").replace("127.0.0.1%3A4711", "attacker.example");
    let person = Person::opens(&bench, &evil).await;
    assert_eq!(person.location, "");
    let twice = Person::opens(&bench, &authorize_path("&state=s2")).await;
    assert_eq!(twice.location, "");
    let plain = authorize_path("").replace("S256", "plain");
    let person = Person::opens(&bench, &plain).await;
    assert_eq!(person.returned("error").as_deref(), Some("invalid_request"));
    let mut person = Person::opens(&bench, &authorize_path("&prompt=none")).await;
    assert_eq!(person.returned("error").as_deref(), Some("login_required"));
    person.goes(&format!("{}{}", bench.issuer.issuer(), authorize_path(""))).await;
    person.logs_in().await;
    person.submits("consent", &[("decision", "deny")]).await;
    assert_eq!(person.returned("error").as_deref(), Some("access_denied"));
    let again = format!("{}{}", bench.issuer.issuer(), authorize_path("&prompt=none"));
    person.goes(&again).await;
    assert_eq!(person.returned("error").as_deref(), Some("consent_required"));
}

#[tokio::test]
async fn forms_of_another_browser_or_without_the_token_are_refused() {
    let bench = bench(options()).await;
    let mut person = Person::opens(&bench, &authorize_path("")).await;
    let (cookie, csrf) = (person.cookie.clone(), person.csrf.clone());
    person.csrf = "guessed".into();
    assert_eq!(person.logs_in().await, 400);
    person.csrf = csrf;
    person.cookie = String::new();
    assert_eq!(person.logs_in().await, 400);
    person.cookie = cookie;
    // Consent cannot come before the login.
    assert_eq!(person.submits("consent", &[("decision", "allow")]).await, 400);
    assert_eq!(person.logs_in().await, 200);
}

#[tokio::test]
async fn refresh_rotates_and_a_spent_token_revokes_the_family() {
    let bench = bench(options()).await;
    let first = bench.login().await;
    let (status, second) = bench.refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(claims(&first["id_token"])["sub"], claims(&second["id_token"])["sub"]);
    refused(bench.refresh(&first["refresh_token"]).await, "invalid_grant");
    refused(bench.refresh(&second["refresh_token"]).await, "invalid_grant");
    assert!(!bench.accepts(&second["access_token"]).await);
    let stats = bench.issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 1, 1));
}

#[tokio::test]
async fn of_a_hundred_simultaneous_uses_of_one_token_one_wins() {
    let bench = Arc::new(bench(options()).await);
    let tokens = bench.login().await;
    let all = (0..100).map(|_| {
        let (bench, token) = (Arc::clone(&bench), tokens["refresh_token"].clone());
        tokio::spawn(async move { bench.refresh(&token).await.0 })
    });
    let mut won = 0;
    for one in all.collect::<Vec<_>>() {
        won += usize::from(one.await.expect("ran") == 200);
    }
    let stats = bench.issuer.stats();
    assert_eq!((won, stats.refreshes_committed, stats.families_revoked), (1, 1, 1));
}

#[tokio::test]
async fn scope_narrows_never_widens_and_a_refusal_spends_nothing() {
    let bench = bench(options()).await;
    let tokens = bench.login().await;
    let token = tokens["refresh_token"].as_str().expect("a token");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", token)];
    refused(bench.token(&[&refresh[..], &[("scope", "openid admin")]].concat()).await, "invalid_scope");
    refused(bench.token(&[&refresh[..], &[("resource", "not a uri")]].concat()).await, "invalid_target");
    let narrow = [("scope", "profile"), ("audience", "https://api.example")];
    let (status, tokens) = bench.token(&[&refresh[..], &narrow].concat()).await;
    assert_eq!((status, &tokens["scope"], tokens.get("id_token")), (200, &json!("profile"), None));
    assert_eq!(claims(&tokens["access_token"])["aud"], "https://api.example");
    let (_, tokens) = bench.refresh(&tokens["refresh_token"]).await;
    assert_eq!((&tokens["scope"], &claims(&tokens["access_token"])["aud"]), (&json!(ALL), &json!("authctl")));
}

#[tokio::test]
async fn refreshes_can_be_limited_left_unrotated_and_given_grace() {
    let limited = bench(Options { refresh_token_uses: Some(1), ..options() }).await;
    let tokens = limited.login().await;
    let (_, tokens) = limited.refresh(&tokens["refresh_token"]).await;
    refused(limited.refresh(&tokens["refresh_token"]).await, "invalid_grant");

    let fixed = bench(Options { rotate_refresh_tokens: false, ..options() }).await;
    let tokens = fixed.login().await;
    for _ in 0..3 {
        let (status, refreshed) = fixed.refresh(&tokens["refresh_token"]).await;
        assert_eq!((status, refreshed.get("refresh_token")), (200, None));
    }

    let kind = bench(Options { reuse_grace: Duration::from_secs(60), ..options() }).await;
    let tokens = kind.login().await;
    assert_eq!(kind.refresh(&tokens["refresh_token"]).await.0, 200);
    assert_eq!(kind.refresh(&tokens["refresh_token"]).await.0, 200);

    let short = bench(Options { refresh_token_ttl: Duration::ZERO, ..options() }).await;
    let tokens = short.login().await;
    refused(short.refresh(&tokens["refresh_token"]).await, "invalid_grant");
}

#[tokio::test]
async fn a_new_password_ends_everything_and_only_for_that_user() {
    let bench = bench(options()).await;
    let tokens = bench.login().await;
    assert!(!bench.issuer.change_password("nobody", &Secret::new("new".into())));
    assert!(bench.accepts(&tokens["access_token"]).await);
    assert!(bench.issuer.change_password("developer", &Secret::new("new".into())));
    assert!(!bench.accepts(&tokens["access_token"]).await);
    refused(bench.refresh(&tokens["refresh_token"]).await, "invalid_grant");
    refused(bench.password("developer", "right", "openid").await, "invalid_grant");
    assert_eq!(bench.password("developer", "new", "openid").await.0, 200);
}

#[tokio::test]
async fn the_second_factor_is_asked_for_and_each_code_works_once() {
    let bench = bench(options()).await;
    let (status, body) = bench.password("otp-user", "right", ALL).await;
    assert_eq!((status, &body["error"], body.get("access_token")), (403, &json!("mfa_required"), None));
    let mfa_token = body["mfa_token"].as_str().expect("an mfa_token").to_owned();
    let grant = [("grant_type", "http://auth0.com/oauth/grant-type/mfa-otp"), ("mfa_token", &mfa_token)];
    refused(bench.token(&[&grant[..], &[("otp", "abcdef")]].concat()).await, "invalid_grant");
    let otp = otp_now();
    let (status, tokens) = bench.token(&[&grant[..], &[("otp", &otp)]].concat()).await;
    assert_eq!(status, 200);
    assert_eq!(claims(&tokens["id_token"])["amr"], json!(["pwd", "otp", "mfa"]));
    refused(bench.token(&[&grant[..], &[("otp", &otp)]].concat()).await, "invalid_grant");
    // The same code in a new login, through the pages.
    let mut person = Person::opens(&bench, &authorize_path("")).await;
    person.submits("login", &[("username", "otp-user"), ("password", "right")]).await;
    assert!(person.html.contains("id=\"otp\""));
    assert_eq!(person.submits("consent", &[("decision", "allow")]).await, 400);
    assert_eq!(person.submits("otp", &[("otp", &otp)]).await, 403);
}

#[tokio::test]
async fn guessing_passwords_is_stopped_for_known_and_unknown_names_alike() {
    let bench = bench(options()).await;
    for name in ["developer", "nobody"] {
        for _ in 0..5 {
            refused(bench.password(name, "wrong", "").await, "invalid_grant");
        }
        assert_eq!(bench.password(name, "right", "").await.0, 429, "{name}");
    }
    let mut person = Person::opens(&bench, &authorize_path("")).await;
    assert_eq!(person.logs_in().await, 429);
}

#[tokio::test]
async fn a_device_waits_is_slowed_down_and_gets_its_tokens_once() {
    let bench = bench(Options { device_interval: Duration::ZERO, ..options() }).await;
    let form = [("client_id", "authctl"), ("scope", ALL)];
    let (_, device) = bench.post("device_authorization", &form).await;
    let code = device["device_code"].as_str().expect("a code").to_owned();
    let poll = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code.as_str())];
    refused(bench.token(&poll).await, "authorization_pending");
    let complete = device["verification_uri_complete"].as_str().expect("an address");
    let path = complete.strip_prefix(bench.issuer.issuer()).expect("its own");
    let mut person = Person::opens(&bench, path).await;
    let typed = hidden(&person.html, "user_code").to_lowercase().replace('-', " ");
    assert_eq!(person.submits("device", &[("user_code", "BBBB-BBBB")]).await, 404);
    assert_eq!(person.submits("device", &[("user_code", &typed)]).await, 200);
    assert_eq!(person.logs_in().await, 200);
    assert!(person.html.contains("Only continue if you started this yourself"));
    person.submits("consent", &[("decision", "allow")]).await;
    assert!(person.html.contains("Connected"));
    let (status, tokens) = bench.token(&poll).await;
    assert_eq!((status, &tokens["scope"]), (200, &json!(ALL)));
    refused(bench.token(&poll).await, "invalid_grant");

    let (_, device) = bench.post("device_authorization", &form).await;
    assert!(bench.issuer.deny_device(device["user_code"].as_str().expect("a code")));
    let code = device["device_code"].as_str().expect("a code").to_owned();
    let poll = [poll[0], ("device_code", code.as_str())];
    refused(bench.token(&poll).await, "access_denied");
}

#[tokio::test]
async fn a_device_that_polls_too_fast_is_slowed_down_and_an_old_code_has_expired() {
    let fast = bench(options()).await;
    let (_, device) = fast.post("device_authorization", &[("client_id", "authctl")]).await;
    let code = device["device_code"].as_str().expect("a code");
    let poll = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code)];
    refused(fast.token(&poll).await, "authorization_pending");
    refused(fast.token(&poll).await, "slow_down");
    let old = bench(Options { device_code_ttl: Duration::ZERO, ..options() }).await;
    let (_, device) = old.post("device_authorization", &[("client_id", "authctl")]).await;
    let code = device["device_code"].as_str().expect("a code");
    refused(old.token(&[poll[0], ("device_code", code)]).await, "expired_token");
}

#[tokio::test]
async fn confidential_clients_prove_themselves() {
    let bench = bench(options()).await;
    let secret = bench.issuer.client_secret("authctl-service").expect("drawn");
    let url = format!("{}/token", bench.issuer.issuer());
    let form = [("grant_type", "client_credentials"), ("scope", "read openid offline_access")];
    let request = |secret: &str| bench.http.post(&url).basic_auth("authctl-service", Some(secret)).form(&form);
    let (status, tokens) = answer(request(secret.expose()).send().await.expect("sent")).await;
    assert_eq!((status, &tokens["scope"]), (200, &json!("read")));
    assert_eq!((tokens.get("refresh_token"), tokens.get("id_token")), (None, None));
    let wrong = request("wrong").send().await.expect("sent");
    assert!(wrong.headers().contains_key("www-authenticate"));
    assert_eq!(answer(wrong).await.0, 401);
    let bare = [("grant_type", "client_credentials"), ("client_id", "authctl-service")];
    assert_eq!(bench.post("token", &bare).await.0, 401);
    refused(bench.token(&[("grant_type", "client_credentials")]).await, "unauthorized_client");
}

#[tokio::test]
async fn revocation_and_introspection_agree() {
    let bench = bench(Options { opaque_access_tokens: true, ..options() }).await;
    let tokens = bench.login().await;
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (text("access_token"), text("refresh_token"));
    let ask = |token: String| {
        let bench = &bench;
        async move { bench.post("introspect", &[("client_id", "authctl"), ("token", &token)]).await.1 }
    };
    assert_eq!(ask(access.clone()).await["username"], "developer");
    assert_eq!(ask("unknown".into()).await, json!({"active": false}));
    let revoke = |token: &str| vec![("client_id", "authctl".to_owned()), ("token", token.to_owned())];
    let url = format!("{}/revoke", bench.issuer.issuer());
    let unknown = bench.http.post(&url).form(&revoke("unknown")).send().await.expect("sent");
    assert_eq!(unknown.status(), 200);
    assert_eq!(bench.http.post(&url).form(&revoke(&refresh)).send().await.expect("sent").status(), 200);
    assert_eq!(ask(access).await, json!({"active": false}));
    refused(bench.refresh(&tokens["refresh_token"]).await, "invalid_grant");
}

#[tokio::test]
async fn faults_do_what_they_say_and_no_more() {
    let bench = bench(options()).await;
    let tokens = bench.login().await;
    let fault = |kind| bench.issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
    let url = format!("{}/token", bench.issuer.issuer());
    let token = tokens["refresh_token"].as_str().expect("a token");
    let send = || {
        let form = [("client_id", "authctl"), ("grant_type", "refresh_token"), ("refresh_token", token)];
        bench.http.post(&url).form(&form).send()
    };
    for (kind, status) in [
        (FaultKind::Html, 200),
        (FaultKind::InvalidJson, 200),
        (FaultKind::EmptyBody { status: 204 }, 204),
        (FaultKind::ServerError, 500),
        (FaultKind::TooManyRequests { retry_after: 7 }, 429),
        (FaultKind::OAuthError { status: 400, code: "invalid_grant".into() }, 400),
    ] {
        fault(kind.clone());
        let (seen, body) = answer(send().await.expect("a reply")).await;
        assert_eq!((seen, body.get("access_token")), (status, None), "{kind:?}");
    }
    fault(FaultKind::HugeBody);
    assert_eq!(send().await.expect("a reply").bytes().await.expect("a body").len(), 64 << 20);
    fault(FaultKind::Reset);
    assert!(send().await.is_err());
    assert_eq!(bench.issuer.stats().refreshes_committed, 0);
    fault(FaultKind::LostReply);
    assert!(send().await.is_err());
    assert_eq!(bench.issuer.stats().refreshes_committed, 1);
    // The client that did not see the reply and sends again has lost its session.
    refused(bench.refresh(&tokens["refresh_token"]).await, "invalid_grant");
    let metadata = format!("{}/.well-known/openid-configuration", bench.issuer.issuer());
    bench.issuer.fault(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::IssuerMismatch, times: 1 });
    let (_, body) = answer(bench.http.get(&metadata).send().await.expect("sent")).await;
    assert_ne!(body["issuer"], bench.issuer.issuer());
    let (_, body) = answer(bench.http.get(&metadata).send().await.expect("sent")).await;
    assert_eq!(body["issuer"], bench.issuer.issuer());
}

#[tokio::test]
async fn what_a_fault_holds_goes_on_when_the_faults_are_cleared() {
    let bench = Arc::new(bench(options()).await);
    for (kind, committed_while_held) in [(FaultKind::Hold, 0), (FaultKind::HoldReply, 1)] {
        let tokens = bench.login().await;
        let before = bench.issuer.stats();
        bench.issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
        let held = {
            let (bench, token) = (Arc::clone(&bench), tokens["refresh_token"].clone());
            tokio::spawn(async move { bench.refresh(&token).await.0 })
        };
        let committed = || bench.issuer.stats().refreshes_committed - before.refreshes_committed;
        let held_back = async {
            while bench.issuer.stats().faults == before.faults || committed() < committed_while_held {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), held_back).await.expect("the request is held");
        assert_eq!(committed(), committed_while_held);
        assert!(!held.is_finished());
        bench.issuer.clear_faults();
        assert_eq!(held.await.expect("ran"), 200);
    }
}

#[tokio::test]
async fn control_needs_its_header_and_other_hosts_are_misdirected() {
    let bench = bench(options()).await;
    let stats = format!("{}/control/stats", bench.issuer.issuer());
    assert_eq!(bench.http.get(&stats).send().await.expect("sent").status(), 403);
    let request = bench.http.get(&stats).header("x-dev-issuer-control", "1");
    assert_eq!(answer(request.send().await.expect("sent")).await.0, 200);
    let fault = bench
        .http
        .post(format!("{}/control/fault", bench.issuer.issuer()))
        .header("x-dev-issuer-control", "1")
        .body(r#"{"endpoint":"jwks","kind":"empty_body","status":503,"times":1}"#);
    assert_eq!(fault.send().await.expect("sent").status(), 204);
    let jwks = format!("{}/jwks", bench.issuer.issuer());
    assert_eq!(bench.http.get(&jwks).send().await.expect("sent").status(), 503);
    let rebound = bench.http.get(&jwks).header("host", "attacker.example");
    assert_eq!(rebound.send().await.expect("sent").status(), 421);
    let large = bench.http.post(format!("{}/token", bench.issuer.issuer())).body(vec![b'a'; 65 * 1024]);
    assert_eq!(large.send().await.expect("sent").status(), 413);
}

#[tokio::test]
async fn pages_are_locked_down_and_show_no_markup_of_others() {
    let bench = bench(options()).await;
    let url = format!("{}{}", bench.issuer.issuer(), authorize_path("&login_hint=%22%3E%3Cscript%3E"));
    let reply = bench.http.get(url).send().await.expect("sent");
    let policy = reply.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!reply.text().await.expect("a page").contains("<script"));
}

#[test]
fn on_its_own_thread_it_answers_and_leaves_the_port_behind() {
    let handle = DevIssuer::spawn(options()).expect("started");
    let port = handle.core.address.port();
    let url = format!("{}/.well-known/openid-configuration", handle.issuer());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let status = runtime.block_on(async { http().get(url).send().await.expect("sent").status() });
    assert_eq!(status, 200);
    drop(handle);
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
}

#[test]
fn odd_paths_are_refused() {
    for path in ["tenant", "/", "/a/", "/a//b", "/a?b", "/../b", "/ä"] {
        let options = Options { path: path.into(), ..Options::default() };
        assert!(matches!(DevIssuer::spawn(options), Err(DevIssuerError::Path(_))), "{path}");
    }
}

mod status_lists {
    use super::*;
    use crate::verify::{
        KeySet, Reason, ReasonCode, Status, StatusClaim, StatusList, StatusListError, StatusListPolicy, judge_status,
    };

    const TTL: Duration = Duration::from_secs(120);

    async fn listing(options: Options) -> Bench {
        bench(Options { status_list_ttl: Some(TTL), ..options }).await
    }

    fn place(access_token: &Value) -> StatusClaim {
        let claims = claims(access_token);
        StatusClaim::read(claims.as_object().expect("object")).expect("well-formed").expect("there")
    }

    impl Bench {
        fn now(&self) -> UnixTime {
            self.issuer.core.now()
        }

        /// The list as a verifier sees it.
        async fn list(&self) -> Result<StatusList, StatusListError> {
            let issuer = self.issuer.issuer();
            let text = async |path: &str| {
                let reply = self.http.get(format!("{issuer}/{path}")).send().await.expect("sent");
                assert_eq!(reply.status(), 200);
                reply.text().await.expect("text")
            };
            let keys = KeySet::from_jwks(&text("jwks").await).expect("keys");
            let uri = format!("{issuer}/statuslists/1");
            StatusList::read(&text("statuslists/1").await, &keys, &StatusListPolicy::new(&uri, issuer, self.now()))
        }

        async fn status(&self, tokens: &Value) -> Status {
            self.list().await.expect("believed").status(place(&tokens["access_token"]).index)
        }

        async fn revokes(&self, token: &Value) {
            let form = [("client_id", "authctl"), ("token", token.as_str().expect("a token"))];
            assert_eq!(self.post("revoke", &form).await.0, 200);
        }
    }

    #[tokio::test]
    async fn a_list_verifies_with_each_algorithm_and_shows_the_revoked_token_alone() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let bench = listing(Options { algorithm, path: "/tenant".into(), ..options() }).await;
            let (one, two) = (bench.login().await, bench.login().await);
            let (first, second) = (place(&one["access_token"]), place(&two["access_token"]));
            assert_eq!(first.uri, format!("{}/statuslists/1", bench.issuer.issuer()));
            assert_eq!((&first.uri, first.index), (&second.uri, second.index - 1), "each its own");
            let list = bench.list().await.expect("believed");
            assert_eq!(judge_status(&first, Some(&list), bench.now()), None);
            let left = bench.now().until(list.fresh_until());
            assert!(left <= TTL && left + Duration::from_secs(60) > TTL, "{left:?}");
            bench.revokes(&one["access_token"]).await;
            let list = bench.list().await.expect("believed");
            let code = |place| judge_status(place, Some(&list), bench.now()).map(|reason: Reason| reason.code);
            assert_eq!((code(&first), code(&second)), (Some(ReasonCode::Revoked), None));
        }
    }

    #[tokio::test]
    async fn whatever_ends_a_session_ends_each_of_its_access_tokens() {
        let bench = listing(options()).await;
        let other = bench.login().await;
        let one = bench.login().await;
        let (_, two) = bench.refresh(&one["refresh_token"]).await;
        assert_eq!((bench.status(&one).await, bench.status(&two).await), (Status::Valid, Status::Valid));
        bench.revokes(&two["refresh_token"]).await;
        assert_eq!((bench.status(&one).await, bench.status(&two).await), (Status::Invalid, Status::Invalid));

        let one = bench.login().await;
        let (_, two) = bench.refresh(&one["refresh_token"]).await;
        refused(bench.refresh(&one["refresh_token"]).await, "invalid_grant");
        assert_eq!((bench.status(&one).await, bench.status(&two).await), (Status::Invalid, Status::Invalid), "reuse");

        assert_eq!(bench.status(&other).await, Status::Valid);
        bench.issuer.revoke_everything();
        assert_eq!(bench.status(&other).await, Status::Invalid);

        let last = bench.login().await;
        assert!(bench.issuer.change_password("developer", &Secret::new("new".into())));
        assert_eq!(bench.status(&last).await, Status::Invalid);
    }

    #[tokio::test]
    async fn a_token_can_be_suspended_and_let_go_again() {
        let bench = listing(options()).await;
        let tokens = bench.login().await;
        let token = tokens["access_token"].as_str().expect("a token");
        let control = async |suspended: bool, token: &str| {
            let request = bench
                .http
                .post(format!("{}/control/suspend", bench.issuer.issuer()))
                .header("x-dev-issuer-control", "1")
                .body(json!({"token": token, "suspended": suspended}).to_string());
            request.send().await.expect("sent").status().as_u16()
        };
        assert_eq!(control(true, token).await, 204);
        assert_eq!(bench.status(&tokens).await, Status::Suspended);
        assert!(!bench.accepts(&tokens["access_token"]).await, "and everywhere else");
        assert!(bench.issuer.suspend(&Secret::new(token.to_owned()), false));
        assert_eq!(bench.status(&tokens).await, Status::Valid);
        assert!(bench.accepts(&tokens["access_token"]).await);
        assert_eq!(control(true, "unknown").await, 404);
        assert!(!bench.issuer.suspend(&Secret::new("unknown".into()), true));
    }

    #[tokio::test]
    async fn a_bad_list_is_bad_once_and_for_the_reason_that_was_asked_for() {
        let bench = listing(options()).await;
        bench.login().await;
        for (defect, error) in [
            (StatusListDefect::Truncated, StatusListError::Damaged),
            (StatusListDefect::WrongSignature, StatusListError::Refused(vec![ReasonCode::BadSignature])),
            (StatusListDefect::Expired, StatusListError::Refused(vec![ReasonCode::Expired])),
            (StatusListDefect::DecompressionBomb, StatusListError::TooLong),
            (StatusListDefect::WrongSubject, StatusListError::OtherList),
            (StatusListDefect::WrongType, StatusListError::Refused(vec![ReasonCode::WrongType])),
        ] {
            let kind = FaultKind::InvalidStatusList { defect };
            bench.issuer.fault(Fault { endpoint: Endpoint::StatusList, kind, times: 1 });
            assert_eq!(bench.list().await, Err(error), "{defect:?}");
            assert!(bench.list().await.is_ok(), "{defect:?}");
        }
        assert_eq!(bench.issuer.stats().requests["status_list"], 12);
    }

    #[tokio::test]
    async fn a_list_is_served_as_what_it_is_and_only_where_there_is_one() {
        let serving = listing(options()).await;
        let ask = async |bench: &Bench, path: &str| {
            bench.http.get(format!("{}/{path}", bench.issuer.issuer())).send().await.expect("sent")
        };
        let reply = ask(&serving, "statuslists/1").await;
        assert_eq!(reply.headers()["content-type"], "application/statuslist+jwt");
        for path in ["statuslists/0", "statuslists/2", "statuslists/x", "statuslists/", "statuslists"] {
            assert_eq!(ask(&serving, path).await.status(), 404, "{path}");
        }
        assert_eq!(serving.post("statuslists/1", &[]).await.0, 405);
        let without = bench(options()).await;
        assert_eq!(claims(&without.login().await["access_token"]).get("status"), None);
        assert_eq!(ask(&without, "statuslists/1").await.status(), 404);
        let opaque = listing(Options { opaque_access_tokens: true, ..options() }).await;
        assert_eq!(opaque.login().await["access_token"].as_str().map(str::len), Some(43));
        assert_eq!(opaque.issuer.core.state().next_serial, 0);
    }
}
