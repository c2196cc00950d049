//! Signing in at django-oauth-toolkit's own pages in a real browser.

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};

use crate::driver::{Desk, Driver, PATIENCE, Screen};
use crate::site::Site;
use crate::support::{PASSWORD, USER};

/// Goes through the server's pages as they come; what the last one says.
async fn walk(client: &Client, url: &str) -> Result<String, CmdError> {
    let found = async |css: &'static str| client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
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
fn signing_in_at_the_toolkits_pages() {
    let (site, desk) = (Site::start(), Desk::set());
    let issuer = site.at("/o");
    let args = ["login", "work", "--issuer", &issuer, "--client-id", "program", "--browser"];
    let started = desk.home.start(&args, "");
    let address = desk.address();
    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (said, at) = runtime.block_on(async {
        let client = driver.browser(Screen::Desktop).await;
        let said = tokio::time::timeout(3 * PATIENCE, walk(&client, &address)).await.expect("in time").expect("a walk");
        let at = client.current_url().await.expect("an address");
        client.close().await.expect("closed");
        (said, at)
    });
    desk.home.finish(started, &args).exits(0).reports("Logged in as");
    assert!(said.contains("You are signed in"), "{said}");
    assert_eq!((at.host_str(), at.path()), (Some("127.0.0.1"), "/callback"));
    desk.home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    desk.home.run(&["verify", "work"]).exits(0);
    desk.home.token("work");
}
