//! The listener for the redirect URI under attack: by a hostile web page in the browser that the user signs in with, and
//! by direct requests.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};
use serde_json::json;
use url::Url;

use crate::browser_login::{User, login};
use crate::support::{self, USER, login_pages};
use crate::webdriver::{ATTACKER_HOST, BROWSER_LIMIT, BrowserSandbox, Driver, PageFlow, Screen};

/// How many requests of the hostile page the listener rejects at least: one a fetch that needs no preflight request.
const MIN_REJECTED: u64 = 400;

/// The address of authctl's listener, and the `state` that only the user's browser knows.
struct RedirectListener {
    host: String,
    port: u16,
    state: String,
}

impl RedirectListener {
    fn from_url(authorization_url: &str) -> Self {
        let url = Url::parse(authorization_url).expect("an address");
        let parameter = |name: &str| url.query_pairs().find(|(n, _)| n == name).expect("there").1.into_owned();
        let back = Url::parse(&parameter("redirect_uri")).expect("an address");
        Self { host: back.authority().to_owned(), port: back.port().expect("a port"), state: parameter("state") }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).expect("listening");
        stream.set_read_timeout(Some(BROWSER_LIMIT)).expect("set");
        stream
    }

    /// Sends a request head and returns the whole response. `STATE`, `HOST` and `PORT` are replaced by the expected ones.
    fn send(&self, head: &str) -> String {
        let mut stream = self.connect();
        let head =
            head.replace("STATE", &self.state).replace("HOST", &self.host).replace("PORT", &self.port.to_string());
        let _ = stream.write_all(format!("{head}\r\n\r\n").as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

/// Returns how many rejected requests authctl reports.
fn rejected_requests(stderr: &str) -> u64 {
    let line = stderr.lines().find(|line| line.contains("unrelated requests")).expect("output with -v");
    line.split_whitespace().find_map(|word| word.parse().ok()).expect("a number")
}

/// Serves one page on a free port until the test ends.
fn serve(page: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.read(&mut [0; 8192]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n", page.len());
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{page}").as_bytes());
        }
    });
    port
}

/// Waits until the script expression `words` is true on the page.
async fn wait_until(client: &Client, words: &str) -> Result<(), CmdError> {
    let end = Instant::now() + 4 * BROWSER_LIMIT;
    while client.execute(&format!("return {words}"), Vec::new()).await? != json!(true) {
        assert!(Instant::now() < end, "`{words}` does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Opens the hostile page, waits for its first round of requests, and checks its frames and the window that it opened.
async fn attack(client: &Client, page: &str) -> Result<(), CmdError> {
    client.goto(page).await?;
    wait_until(client, "volleys > 0").await?;
    for frame in 0..2 {
        client.enter_frame(frame).await?;
        let shown = client.source().await?;
        assert!(!shown.contains("authctl"), "a frame shows authctl's page: {shown}");
        client.enter_parent_frame().await?;
    }
    let before = client.windows().await?;
    client.find(Locator::Css("#open")).await?.click().await?;
    wait_until(client, "opened !== null").await?;
    let all = client.windows().await?;
    let opened = all.iter().find(|window| !before.contains(window)).expect("a window was opened").clone();
    client.switch_to_window(opened).await?;
    // The user sees an explanation. The page that opened the window can read nothing of it.
    let title = client.find(Locator::Css("h1")).await?.text().await?;
    assert_eq!(title, "This page does not belong to the login in progress");
    client.switch_to_window(before[0].clone()).await?;
    assert_eq!(client.execute("return peek()", Vec::new()).await?, json!(null));
    Ok(())
}

#[test]
fn hostile_page_cannot_interfere_with_a_login() {
    let issuer = support::issuer(|_| {});
    let browser = BrowserSandbox::new();
    let args = [login(issuer.issuer(), "--browser"), vec!["-vvv".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let waiting = browser.home.spawn(&args);
    let address = browser.address();
    let listener = RedirectListener::from_url(&address);
    let page = include_str!("hostile_page.html")
        .replace("LISTENER", &format!("http://{}", listener.host))
        .replace("REBOUND", &format!("http://{ATTACKER_HOST}:{}", listener.port));
    let page = format!("http://{ATTACKER_HOST}:{}/", serve(page));

    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let text = runtime.block_on(async {
        let client = driver.browser(Screen::Desktop).await;
        attack(&client, &page).await.expect("an attack");
        // The page keeps sending requests while the user signs in, in the same browser.
        let hostile = client.window().await.expect("a window");
        let tab = client.new_window(true).await.expect("another").handle;
        client.switch_to_window(tab).await.expect("switched");
        let (mut flow, user) = (PageFlow::new(&client, "hostile"), User { user: USER, allows: true });
        let pages = flow.complete(&address, &user);
        let text = tokio::time::timeout(6 * BROWSER_LIMIT, pages).await.expect("in time").expect("the pages");
        client.switch_to_window(hostile).await.expect("switched");
        wait_until(&client, "volleys > 1").await.expect("it went on");
        let seen = client.execute("return seen", Vec::new()).await.expect("a list");
        assert_eq!(seen, json!([]), "the page came to see something");
        client.close().await.expect("closed");
        text
    });
    assert!(text.contains("You are logged in"), "{text}");
    let ran = waiting.wait().exits(0).reports("Logged in to");
    let count = rejected_requests(&ran.stderr);
    assert!(count >= MIN_REJECTED, "{count} requests unrelated requests");
    assert!(!ran.stderr.contains("stolen") && !ran.stderr.contains("guess"), "{}", ran.stderr);
    browser.home.token("work");
    browser.home.run(&["verify", "work"]).exits(0);
    let stats = issuer.stats();
    assert_eq!(stats.token_requests["authorization_code"], 1, "no other code was redeemed");
    assert!(stats.token_errors.is_empty(), "{:?}", stats.token_errors);
}

/// Requests that the listener rejects, each with its status.
const REJECTED_REQUESTS: [(&str, u16); 17] = [
    ("GET /favicon.ico HTTP/1.1\r\nHost: HOST", 404),
    ("HEAD / HTTP/1.1\r\nHost: HOST", 404),
    ("HEAD /callback?code=stolen&state=STATE HTTP/1.1\r\nHost: HOST", 405),
    ("OPTIONS /callback HTTP/1.1\r\nHost: HOST\r\nOrigin: http://evil.test\r\nAccess-Control-Request-Method: GET", 405),
    ("POST /callback?code=stolen&state=STATE HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0", 405),
    ("GET /callback HTTP/1.1\r\nHost: HOST", 400),
    ("GET /callback?error=access_denied HTTP/1.1\r\nHost: HOST", 400),
    ("GET /callback?error=access_denied&state= HTTP/1.1\r\nHost: HOST", 400),
    ("GET /callback?error=access_denied&state=guessed HTTP/1.1\r\nHost: HOST", 400),
    ("GET /callback?code=stolen&state=guessed&state=STATE HTTP/1.1\r\nHost: HOST", 400),
    // DNS rebinding: a request with the right state is rejected under another host name.
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: evil.test:PORT", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: localhost:PORT", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: 127.0.0.1", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: HOST.evil.test", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: [::1]:PORT", 400),
    ("GET http://evil.test/callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: HOST", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: HOST\r\nHost: evil.test", 400),
];

#[test]
fn listener_rejects_requests_with_wrong_state_host_or_method() {
    let issuer = support::issuer(|_| {});
    let browser = BrowserSandbox::new();
    let args = [login(issuer.issuer(), "--browser"), vec!["-v".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = browser.home.start(&args, "");
    let address = browser.address();
    let listener = RedirectListener::from_url(&address);
    // Connections without a request, and one with an unfinished request.
    let ahead: Vec<TcpStream> = (0..20).map(|_| listener.connect()).collect();
    let mut slow = listener.connect();
    let words = format!("GET /callback?error=access_denied&state={} HTTP/1.1\r\nHost: ", listener.state);
    slow.write_all(words.as_bytes()).expect("sent");
    for (head, status) in REJECTED_REQUESTS {
        let answer = listener.send(head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        let answer = answer.to_ascii_lowercase();
        assert!(!answer.contains("access-control-"), "{head}: a page could read {answer}");
        assert!(answer.contains("frame-ancestors 'none'") && answer.contains("cache-control: no-store"), "{answer}");
        assert!(
            !answer.contains("stolen") && !answer.contains(&listener.state.to_ascii_lowercase()),
            "{head}: {answer}"
        );
    }
    let mut right = login_pages::LoginPages::sign_in(&issuer, &address, USER);
    assert_eq!(right.follow_redirect(), 200);
    assert!(right.html.contains("You are logged in"), "{}", right.html);
    drop((ahead, slow));
    let ran = browser.home.finish(started, &args).exits(0).reports("Logged in to");
    assert_eq!(rejected_requests(&ran.stderr), REJECTED_REQUESTS.len() as u64, "{}", ran.stderr);
    assert_eq!(issuer.stats().token_requests["authorization_code"], 1);
    browser.home.token("work");
}

#[test]
fn login_without_rejected_requests_reports_none() {
    let issuer = support::issuer(|_| {});
    let browser = BrowserSandbox::new();
    let args = [login(issuer.issuer(), "--browser"), vec!["-v".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = browser.home.start(&args, "");
    assert_eq!(login_pages::LoginPages::sign_in(&issuer, &browser.address(), USER).follow_redirect(), 200);
    let ran = browser.home.finish(started, &args).exits(0);
    assert!(!ran.stderr.contains("unrelated requests"), "{}", ran.stderr);
    browser.home.token("work");
}
