//! Sessions from oidc-provider, a certified OpenID provider, with its pages in a real browser.

mod bound;
mod client_key;
mod keys;
mod login;
mod refresh;
mod registration;
mod resources;
mod tls;

pub use tls::Authority;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent_support::KillOnDrop;
use crate::support::process::LIMIT;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, http};
use crate::webdriver::{self, BrowserSandbox, FlowResult, PageUser, Screen};

/// The secret of the confidential clients, with characters that form encoding escapes.
pub const SECRET: &str = "a secret: with / and +, & %41";

/// A running provider; killed when dropped.
pub struct Provider {
    _process: KillOnDrop,
    orders: ChildStdin,
    answers: Receiver<String>,
    pub issuer: String,
}

/// The counters of a provider.
#[derive(Debug, Deserialize)]
pub struct Counts {
    /// Successful refreshes.
    pub refreshes: u64,
    /// Exchanged tokens.
    exchanges: u64,
    /// Redeemed authorization codes.
    codes: u64,
    /// Pushed authorization requests.
    pushed: u64,
    /// Registered clients.
    registered: u64,
    /// Deleted registrations.
    deleted: u64,
    /// The error descriptions of refused token requests.
    pub refused: Vec<String>,
    /// Revoked grants.
    pub revoked_grants: u64,
    /// Token requests with the client's secret in the header.
    by_header: u64,
    /// Token requests with it in the form.
    by_form: u64,
    /// How often the keys were fetched.
    keys: u64,
    /// Internal errors of the provider.
    faults: Vec<String>,
}

impl Provider {
    /// Starts a provider with the options that `server.js` documents.
    pub fn start(options: &Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let place = root.join("target/oidc-provider");
        let installed = place.join("node_modules/oidc-provider").is_dir();
        assert!(installed, "not installed: {}; `tests/run` installs what the tests drive", place.display());
        let own = place.join("node_modules/.bin/node");
        let mut command = Command::new(if own.is_file() { own.as_os_str() } else { "node".as_ref() });
        command.arg(root.join("tests/e2e/oidc_provider/server.js")).arg(options.to_string()).current_dir(place);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = KillOnDrop(command.spawn().expect("node starts"));
        let orders = process.0.stdin.take().expect("piped");
        let lines = BufReader::new(process.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let (sender, answers) = channel();
        std::thread::spawn(move || lines.into_iter().for_each(|line| drop(sender.send(line))));
        let mut provider = Self { _process: process, orders, answers, issuer: String::new() };
        let output: BTreeMap<String, String> = serde_json::from_str(&provider.response()).expect("an issuer");
        provider.issuer = output["issuer"].clone();
        provider
    }

    fn response(&mut self) -> String {
        self.answers.recv_timeout(LIMIT).expect("the provider answers")
    }

    /// Sends a command and waits until it is carried out.
    #[track_caller]
    fn command(&mut self, order: &str) -> Counts {
        writeln!(self.orders, "{order}").expect("output");
        let counts: Counts = serde_json::from_str(&self.response()).expect("counts");
        assert_eq!(counts.faults, Vec::<String>::new());
        counts
    }

    pub fn counts(&mut self) -> Counts {
        self.command("counts")
    }

    /// Sends a form to the provider directly.
    #[track_caller]
    fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let (status, body) = http::post(&format!("{}/{path}", self.issuer), &form);
        (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
    }

    /// Returns whether the provider reports a token as active (RFC 7662).
    #[track_caller]
    fn is_active(&self, token: &str) -> bool {
        let form = [("token", token), ("client_id", "post"), ("client_secret", SECRET)];
        let (status, answer) = self.post("token/introspection", &form);
        assert_eq!(status, 200, "{answer}");
        answer["active"].as_bool().expect("active or not")
    }

    /// Returns the arguments of `login work` as the client `id`.
    fn login<'a>(&'a self, id: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let plain = ["login", "work", "--issuer", self.issuer.as_str(), "--client-id", id];
        [&plain[..], more].concat()
    }

    /// Logs in to `work` in the browser, with a session that can be refreshed.
    #[track_caller]
    pub fn sign_in(&self, browser: &BrowserSandbox, more: &[&str]) -> FlowResult {
        let more = [&["--prompt", "consent"], more].concat();
        let (ran, result) = self.try_login(browser, &self.login("native", &more), &User::allowing());
        ran.exits(0).reports("Logged in to work as developer");
        assert!(browser.home.session("work").can_refresh());
        result
    }

    /// Runs a login that opens the browser, and has `user` go through the pages.
    #[track_caller]
    fn try_login(&self, browser: &BrowserSandbox, login: &[&str], user: &User) -> (CommandOutput, FlowResult) {
        let login = [login, &["--browser"]].concat();
        let started = browser.home.start(&login, "");
        let result = webdriver::complete("oidc-provider", Screen::Desktop, &browser.address(), user);
        (browser.home.finish(started, &login), result)
    }

    /// Logs in to `work` with client credentials.
    #[track_caller]
    fn log_in_client(&self, home: &Sandbox, id: &str, more: &[&str]) -> CommandOutput {
        home.register_secret(SECRET);
        let more = [&["--client-credentials", "--client-secret-stdin"], more].concat();
        home.run_with(&self.login(id, &more), &format!("{SECRET}\n"))
    }
}

/// Starts a provider with default options.
fn provider() -> Provider {
    Provider::start(&json!({}))
}

/// A user at the pages of the provider.
struct User {
    allows: bool,
    /// The user code of a device login, which is typed in once.
    code: Option<String>,
    typed: Cell<bool>,
}

impl User {
    fn new(allows: bool, code: Option<String>) -> Self {
        Self { allows, code, typed: Cell::new(false) }
    }

    fn allowing() -> Self {
        Self::new(true, None)
    }

    fn to_type(&self) -> Option<&str> {
        self.code.as_deref().filter(|_| !self.typed.get())
    }
}

impl PageUser for User {
    async fn respond(&self, page: &Client) -> Result<Option<&'static str>, CmdError> {
        let has = |css: &'static str| page.find(Locator::Css(css));
        if let Ok(field) = has("input[name=login]").await {
            field.send_keys(USER).await?;
            has("input[name=password]").await?.send_keys(PASSWORD).await?;
            Ok(Some(".login-submit"))
        } else if let (Some(code), Ok(field)) = (self.to_type(), has("input[name=user_code][type=text]").await) {
            field.send_keys(code).await?;
            self.typed.set(true);
            Ok(Some("button[type=submit]"))
        } else if has("[id='op.deviceConfirmForm']").await.is_ok() {
            Ok(Some(if self.allows { "button[autofocus]" } else { "button[name=abort]" }))
        } else if has("input[name=prompt][value=consent]").await.is_ok() {
            Ok(Some(if self.allows { ".login-submit" } else { ".login-help a" }))
        } else {
            Ok(None)
        }
    }
}
