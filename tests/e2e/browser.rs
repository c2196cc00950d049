//! The sign-ins that need a browser, through the embedded issuer's own pages in a real one.

use std::time::Duration;

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};

use crate::driver::{self, Desk, Response, Screen, Walked};
use crate::support::{self, PASSWORD, Sandbox, TOTP, USER};

/// A person at the embedded issuer's pages.
pub struct Person {
    pub user: &'static str,
    pub allows: bool,
}

impl Response for Person {
    async fn to(&self, page: &Client) -> Result<Option<&'static str>, CmdError> {
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

/// Has `user` walk from `url` to the end.
fn walk(name: &'static str, screen: Screen, url: &str, user: &'static str, allows: bool) -> Walked {
    driver::walk(name, screen, url, &Person { user, allows })
}

pub fn login(issuer: &str, grant: &'static str) -> Vec<String> {
    ["login", "work", "--issuer", issuer, "--client-id", "authctl", grant].map(str::to_owned).to_vec()
}

#[test]
fn signing_in_with_the_browser() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let walked = walk("code", Screen::Desktop, &desk.address(), USER, true);
    desk.home.finish(started, &args).exits(0).reports("Logged in as");
    assert!(walked.said.contains("You are signed in"), "{}", walked.said);
    assert!(walked.said.contains("You can close this window"), "{}", walked.said);
    assert_eq!(walked.pages(), ["Log in", "Allow access?", "You are signed in"]);
    // The issuer's policy for its forms let the answer lead out to authctl's own port.
    assert_eq!((walked.address.host_str(), walked.address.path()), (Some("127.0.0.1"), "/callback"));
    assert!(!issuer.issuer().ends_with(&format!(":{}", walked.address.port().expect("a port"))));
    desk.home.token("work");
    desk.home.run(&["verify", "work"]).exits(0);
    assert_eq!(issuer.stats().token_responses["authorization_code"], 1);
}

#[test]
fn signing_in_with_the_browser_and_a_one_time_code() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let walked = walk("otp", Screen::Phone, &desk.address(), "second", true);
    desk.home.finish(started, &args).exits(0).reports("Logged in as");
    assert_eq!(walked.pages(), ["Log in", "One-time code", "Allow access?", "You are signed in"]);
    desk.home.token("work");
}

#[test]
fn saying_no_in_the_browser() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let walked = walk("deny", Screen::Phone, &desk.address(), USER, false);
    desk.home.finish(started, &args).exits(5).reports("access_denied");
    assert_eq!(walked.pages(), ["Log in", "Allow access?", "Not signed in"]);
    assert!(walked.said.contains("was refused"), "{}", walked.said);
    desk.home.run(&["token", "work"]).exits(2);
    assert_eq!(issuer.stats().access_tokens, 0);
}

#[test]
fn approving_a_device_in_the_browser() {
    let issuer = support::issuer(|options| options.device_interval = Duration::from_secs(1));
    let home = Sandbox::new();
    let args = login(issuer.issuer(), "--device");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let login = home.spawn(&args);
    let (address, code) = driver::shown(&login);
    let walked = walk("device", Screen::Phone, &format!("{address}?user_code={code}"), USER, true);
    assert_eq!(walked.pages(), ["Connect a device", "Log in", "Allow access?", "Connected"]);
    assert!(walked.said.to_lowercase().contains("go back"), "{}", walked.said);
    login.wait().exits(0);
    home.token("work");
    assert_eq!(issuer.stats().token_responses.values().sum::<u64>(), 1);
}
