//! The embedded issuer as a process of its own, used through its control endpoint and its login pages.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Home, Running, http};

/// The name of the issuer's user.
pub const USER: &str = "developer";
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// The embedded issuer as a process of its own.
pub struct Issuer {
    running: Running,
    home: Home,
    pub url: String,
    control_key: String,
}

impl Issuer {
    /// Starts an issuer whose access tokens have the lifetime `ttl`, such as `1d`.
    #[track_caller]
    pub fn start(ttl: &str) -> Self {
        Self::start_with(ttl, &[])
    }

    /// Starts an issuer with further options.
    #[track_caller]
    pub fn start_with(ttl: &str, options: &[&str]) -> Self {
        Self::start_in(ttl, options, &[])
    }

    /// Starts an issuer with further options and environment variables.
    #[track_caller]
    pub fn start_in(ttl: &str, options: &[&str], environment: &[(&str, PathBuf)]) -> Self {
        let home = Home::new();
        let users = home.path().join("users");
        fs::write(&users, format!("{USER}:{PASSWORD}\n")).expect("written");
        let users = users.to_str().expect("text");
        let args = ["dev-issuer", "--control", "--json", "--access-token-ttl", ttl, "--users", users];
        let mut command = home.authctl(&args);
        command.args(options).envs(environment.iter().map(|(name, value)| (*name, value)));
        let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let ready: Value = serde_json::from_str(&running.line()).expect("JSON");
        let text = |name: &str| ready[name].as_str().expect("text").to_owned();
        Self { running, home, url: text("issuer"), control_key: text("control_key") }
    }

    fn control(&self, method: &str, name: &str, body: &Value) -> Value {
        let (path, body) = (format!("/control/{name}"), if body.is_null() { String::new() } else { body.to_string() });
        let headers = format!("X-Dev-Issuer-Control: {}\r\n", self.control_key);
        let reply = http::to_host(&self.url, method, &path, &headers, &body).expect("a reply");
        assert!(reply.status < 300, "{name}: {}", reply.status);
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// Returns the counters.
    pub fn stats(&self) -> Value {
        self.control("GET", "stats", &Value::Null)
    }

    /// Applies a fault to every request to `endpoint` until the faults are cleared.
    pub fn fault(&self, endpoint: &str, kind: &str) {
        self.control("POST", "fault", &json!({"endpoint": endpoint, "kind": kind, "times": 0}));
    }

    pub fn clear_faults(&self) {
        self.control("POST", "clear-faults", &Value::Null);
    }

    /// Returns the token response of a password login made without authctl.
    pub fn token_response(&self) -> Value {
        let form = format!(
            "grant_type=password&client_id=authctl&username={USER}&password={PASSWORD}&scope=openid+profile+offline_access"
        );
        let reply = http::to_host(&self.url, "POST", "/token", http::FORM, &form).expect("a reply");
        assert_eq!(reply.status, 200, "the issuer returns tokens");
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    /// Logs in and allows access on the issuer's pages, from an authorization request up to the client's redirect URI.
    pub fn sign_in(&self, authorization: &str) -> Result<(), String> {
        let mut cookie = String::new();
        let mut page = self.page("GET", authorization, &mut cookie, "")?;
        for (to, fields) in
            [("login", format!("username={USER}&password={PASSWORD}")), ("consent", "decision=allow".to_owned())]
        {
            let form = format!(
                "interaction={}&csrf={}&{fields}",
                hidden(&page.body, "interaction")?,
                hidden(&page.body, "csrf")?
            );
            page = self.page("POST", &format!("{}/{to}", self.url), &mut cookie, &form)?;
        }
        let back = page.header("location").ok_or("the issuer did not redirect")?;
        http::to_url(&back, "GET", "", "").map_err(|e| format!("redirect URI: {e}"))?;
        Ok(())
    }

    /// Returns a page after following the issuer's own redirects.
    fn page(&self, method: &str, url: &str, cookie: &mut String, form: &str) -> Result<http::Reply, String> {
        let (mut method, mut url, mut form) = (method, url.to_owned(), form);
        for _ in 0..4 {
            let kind = if form.is_empty() { "" } else { http::FORM };
            let headers = format!("{kind}Cookie: {cookie}\r\n");
            let reply = http::to_url(&url, method, &headers, form).map_err(|e| e.to_string())?;
            if let Some(given) = reply.header("set-cookie") {
                *cookie = given.split(';').next().unwrap_or_default().to_owned();
            }
            match reply.header("location") {
                Some(next) if next.starts_with('/') => {
                    (method, url, form) = ("GET", format!("{}{next}", self.url), "");
                }
                _ => return Ok(reply),
            }
        }
        Err("too many redirects".into())
    }
}

fn hidden(html: &[u8], name: &str) -> Result<String, String> {
    let html = String::from_utf8_lossy(html);
    let (_, rest) =
        html.split_once(&format!("name=\"{name}\" value=\"")).ok_or(format!("no field {name} on the page"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}
