//! Logins at the pages of the embedded issuer in a real browser.

use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};

use crate::support::{self, PASSWORD, Sandbox, TOTP, USER};
use crate::webdriver::{self, BrowserSandbox, FlowResult, PageUser, Screen};

/// A user at the pages of the embedded issuer.
pub struct User {
    pub user: &'static str,
    pub allows: bool,
}

impl PageUser for User {
    async fn respond(&self, page: &Client) -> Result<Option<&'static str>, CmdError> {
        let has = |css: &'static str| page.find(Locator::Css(css));
        if let Ok(field) = has("#username").await {
            field.clear().await?;
            field.send_keys(self.user).await?;
            has("#password").await?.send_keys(PASSWORD).await?;
            Ok(Some("#login"))
        } else if let Ok(field) = has("#otp").await {
            field.send_keys(&one_time_code()).await?;
            Ok(Some("#login"))
        } else if has("#continue").await.is_ok() {
            Ok(Some("#continue"))
        } else if has("#allow").await.is_ok() {
            Ok(Some(if self.allows { "#allow" } else { "#deny" }))
        } else {
            Ok(None)
        }
    }
}

fn one_time_code() -> String {
    let secret = totp_rs::Secret::try_from_base32(TOTP).expect("base32");
    totp_rs::Builder::new().with_secret(secret).build().expect("a generator").generate_current().to_string()
}

/// Takes `user` from `url` to the last page.
fn complete(name: &'static str, screen: Screen, url: &str, user: &'static str, allows: bool) -> FlowResult {
    webdriver::complete(name, screen, url, &User { user, allows })
}

pub fn login(issuer: &str, grant: &'static str) -> Vec<String> {
    ["login", "work", "--issuer", issuer, "--client-id", "authctl", grant].map(str::to_owned).to_vec()
}

#[test]
fn browser_login_stores_a_session() {
    let issuer = support::issuer(|_| {});
    let browser = BrowserSandbox::new();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = browser.home.start(&args, "");
    let result = complete("code", Screen::Desktop, &browser.address(), USER, true);
    browser.home.finish(started, &args).exits(0).reports("Logged in to");
    assert!(result.text.contains("You are logged in"), "{}", result.text);
    assert!(result.text.contains("You can close this window"), "{}", result.text);
    assert_eq!(result.pages(), ["Log in", "Allow access?", "Logged in to work"]);
    // The issuer's `form-action` policy permits the redirect to authctl's port.
    assert_eq!((result.address.host_str(), result.address.path()), (Some("127.0.0.1"), "/callback"));
    assert!(!issuer.issuer().ends_with(&format!(":{}", result.address.port().expect("a port"))));
    browser.home.token("work");
    browser.home.run(&["verify", "work"]).exits(0);
    assert_eq!(issuer.stats().token_responses["authorization_code"], 1);
}

#[test]
fn browser_login_with_one_time_code() {
    let issuer = support::issuer(|_| {});
    let browser = BrowserSandbox::new();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = browser.home.start(&args, "");
    let result = complete("otp", Screen::Phone, &browser.address(), "second", true);
    browser.home.finish(started, &args).exits(0).reports("Logged in to");
    assert_eq!(result.pages(), ["Log in", "One-time code", "Allow access?", "Logged in to work"]);
    browser.home.token("work");
}

#[test]
fn denied_browser_login_stores_nothing() {
    let issuer = support::issuer(|_| {});
    let browser = BrowserSandbox::new();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = browser.home.start(&args, "");
    let result = complete("deny", Screen::Phone, &browser.address(), USER, false);
    browser.home.finish(started, &args).exits(5).reports("access_denied");
    assert_eq!(result.pages(), ["Log in", "Allow access?", "Login to work failed"]);
    assert!(result.text.contains("access_denied"), "{}", result.text);
    browser.home.run(&["token", "work"]).exits(2);
    assert_eq!(issuer.stats().access_tokens, 0);
}

#[test]
fn device_login_approved_in_the_browser() {
    let issuer = support::issuer(|options| options.device_interval = Duration::from_secs(1));
    let home = Sandbox::new();
    let args = login(issuer.issuer(), "--device");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let login = home.spawn(&args);
    let (address, code) = webdriver::shown(&login);
    let result = complete("device", Screen::Phone, &format!("{address}?user_code={code}"), USER, true);
    assert_eq!(result.pages(), ["Connect a device", "Log in", "Allow access?", "Connected"]);
    assert!(result.text.to_lowercase().contains("return to your device"), "{}", result.text);
    login.wait().exits(0);
    home.token("work");
    assert_eq!(issuer.stats().token_responses.values().sum::<u64>(), 1);
}
