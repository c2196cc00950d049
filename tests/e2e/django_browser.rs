//! Logins at the pages of django-oauth-toolkit in a real browser.

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};

use crate::django_site::Site;
use crate::support::{PASSWORD, USER};
use crate::webdriver::{BROWSER_LIMIT, BrowserSandbox, Driver, Screen};

/// Goes through the pages of the server and returns the text of the last one.
async fn sign_in(client: &Client, url: &str) -> Result<String, CmdError> {
    let found = async |css: &'static str| client.wait().at_most(BROWSER_LIMIT).for_element(Locator::Css(css)).await;
    client.goto(url).await?;
    found("#id_username").await?.send_keys(USER).await?;
    found("#id_password").await?.send_keys(PASSWORD).await?;
    found("#login-form input[type=submit]").await?.click().await?;
    let allow = found("#authorizationForm input[name=allow]").await?;
    assert_eq!(client.find(Locator::Css("h3")).await?.text().await?, "Authorize program?");
    allow.click().await?;
    found("main").await?.text().await
}

#[test]
fn browser_login_at_the_pages_of_django_oauth_toolkit() {
    let (site, browser) = (Site::start(), BrowserSandbox::new());
    let issuer = site.at("/o");
    let args = ["login", "work", "--issuer", &issuer, "--client-id", "program", "--browser"];
    let started = browser.home.start(&args, "");
    let address = browser.address();
    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (text, at) = runtime.block_on(async {
        let client = driver.browser(Screen::Desktop).await;
        let text = tokio::time::timeout(3 * BROWSER_LIMIT, sign_in(&client, &address))
            .await
            .expect("in time")
            .expect("the pages");
        let at = client.current_url().await.expect("an address");
        client.close().await.expect("closed");
        (text, at)
    });
    browser.home.finish(started, &args).exits(0).reports("Logged in to");
    assert!(text.contains("You are logged in"), "{text}");
    assert_eq!((at.host_str(), at.path()), (Some("127.0.0.1"), "/callback"));
    browser.home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    browser.home.run(&["verify", "work"]).exits(0);
    browser.home.token("work");
}
