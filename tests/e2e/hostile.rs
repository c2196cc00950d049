//! A page that wants to be in on a sign-in: whatever a web page can send to the listener, in a real browser, while the
//! right person signs in; and what else finds its way there.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::{Client, Locator};
use serde_json::json;
use url::Url;

use crate::browser::{Person, login};
use crate::driver::{Desk, Driver, EVIL, PATIENCE, Screen, Walker};
use crate::support::{self, USER, login_pages};

/// How many answers the first volley of the page draws at least: one a fetch that is sent without asking first.
const VOLLEY: u64 = 400;

/// Where authctl waits, and what only the right browser knows.
struct Place {
    host: String,
    port: u16,
    state: String,
}

impl Place {
    fn of(authorization_url: &str) -> Self {
        let url = Url::parse(authorization_url).expect("an address");
        let parameter = |name: &str| url.query_pairs().find(|(n, _)| n == name).expect("there").1.into_owned();
        let back = Url::parse(&parameter("redirect_uri")).expect("an address");
        Self { host: back.authority().to_owned(), port: back.port().expect("a port"), state: parameter("state") }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).expect("listening");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// Sends a request's head and gives the whole answer. `STATE` and `HOST` stand for the right ones.
    fn ask(&self, head: &str) -> String {
        let mut stream = self.connect();
        let head =
            head.replace("STATE", &self.state).replace("HOST", &self.host).replace("PORT", &self.port.to_string());
        let _ = stream.write_all(format!("{head}\r\n\r\n").as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

/// How many requests authctl says it has turned away.
fn turned_away(stderr: &str) -> u64 {
    let line = stderr.lines().find(|line| line.contains("were turned away")).expect("told with -v");
    line.split_whitespace().find_map(|word| word.parse().ok()).expect("a number")
}

/// Serves one page to whoever asks, from a port of its own, for as long as the test runs.
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

/// Waits until the page's `words` are true.
async fn wait_until(client: &Client, words: &str) -> Result<(), CmdError> {
    let end = Instant::now() + 4 * PATIENCE;
    while client.execute(&format!("return {words}"), Vec::new()).await? != json!(true) {
        assert!(Instant::now() < end, "`{words}` does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Opens the hostile page, lets it do its worst once, and looks into its frames and at what it opened.
async fn attacked(client: &Client, page: &str) -> Result<(), CmdError> {
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
    // A person sees what it is; the page that opened it sees nothing.
    let title = client.find(Locator::Css("h1")).await?.text().await?;
    assert_eq!(title, "This is not the sign-in that authctl waits for");
    client.switch_to_window(before[0].clone()).await?;
    assert_eq!(client.execute("return peek()", Vec::new()).await?, json!(null));
    Ok(())
}

#[test]
fn a_hostile_page_changes_nothing_and_sees_nothing() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = [login(issuer.issuer(), "--browser"), vec!["-vvv".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let waiting = desk.home.spawn(&args);
    let address = desk.address();
    let place = Place::of(&address);
    let page = include_str!("hostile.html")
        .replace("LISTENER", &format!("http://{}", place.host))
        .replace("REBOUND", &format!("http://{EVIL}:{}", place.port));
    let page = format!("http://{EVIL}:{}/", serve(page));

    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let said = runtime.block_on(async {
        let client = driver.browser(Screen::Desktop).await;
        attacked(&client, &page).await.expect("an attack");
        // It goes on while the right person signs in, in the same browser.
        let hostile = client.window().await.expect("a window");
        let tab = client.new_window(true).await.expect("another").handle;
        client.switch_to_window(tab).await.expect("switched");
        let (mut walker, person) = (Walker::new(&client, "hostile"), Person { user: USER, allows: true });
        let walk = walker.walk(&address, &person);
        let said = tokio::time::timeout(6 * PATIENCE, walk).await.expect("in time").expect("a walk");
        client.switch_to_window(hostile).await.expect("switched");
        wait_until(&client, "volleys > 1").await.expect("it went on");
        let seen = client.execute("return seen", Vec::new()).await.expect("a list");
        assert_eq!(seen, json!([]), "the page came to see something");
        client.close().await.expect("closed");
        said
    });
    assert!(said.contains("You are signed in"), "{said}");
    let ran = waiting.wait().exits(0).reports("Logged in as");
    let count = turned_away(&ran.stderr);
    assert!(count >= VOLLEY, "{count} requests were turned away");
    assert!(!ran.stderr.contains("stolen") && !ran.stderr.contains("guess"), "{}", ran.stderr);
    desk.home.token("work");
    desk.home.run(&["verify", "work"]).exits(0);
    let stats = issuer.stats();
    assert_eq!(stats.token_requests["authorization_code"], 1, "no other code was redeemed");
    assert!(stats.refusals.is_empty(), "{:?}", stats.refusals);
}

/// What may come to the listener before the right browser does, each with the status it gets.
const STRANGERS: [(&str, u16); 17] = [
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
    // DNS rebinding: even somebody who knows the state has to come to the right name.
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: evil.test:PORT", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: localhost:PORT", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: 127.0.0.1", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: HOST.evil.test", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: [::1]:PORT", 400),
    ("GET http://evil.test/callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: HOST", 400),
    ("GET /callback?error=access_denied&state=STATE HTTP/1.1\r\nHost: HOST\r\nHost: evil.test", 400),
];

#[test]
fn what_comes_before_the_right_browser_changes_nothing() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = [login(issuer.issuer(), "--browser"), vec!["-v".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let address = desk.address();
    let place = Place::of(&address);
    // Connections opened ahead and never used, and one that never comes to the end of its words.
    let ahead: Vec<TcpStream> = (0..20).map(|_| place.connect()).collect();
    let mut slow = place.connect();
    let words = format!("GET /callback?error=access_denied&state={} HTTP/1.1\r\nHost: ", place.state);
    slow.write_all(words.as_bytes()).expect("sent");
    for (head, status) in STRANGERS {
        let answer = place.ask(head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        let answer = answer.to_ascii_lowercase();
        assert!(!answer.contains("access-control-"), "{head}: a page could read {answer}");
        assert!(answer.contains("frame-ancestors 'none'") && answer.contains("cache-control: no-store"), "{answer}");
        assert!(!answer.contains("stolen") && !answer.contains(&place.state.to_ascii_lowercase()), "{head}: {answer}");
    }
    let mut right = login_pages::LoginPages::sign_in(&issuer, &address, USER);
    assert_eq!(right.follow_redirect(), 200);
    assert!(right.html.contains("You are signed in"), "{}", right.html);
    drop((ahead, slow));
    let ran = desk.home.finish(started, &args).exits(0).reports("Logged in as");
    assert_eq!(turned_away(&ran.stderr), STRANGERS.len() as u64, "{}", ran.stderr);
    assert_eq!(issuer.stats().token_requests["authorization_code"], 1);
    desk.home.token("work");
}

#[test]
fn where_nobody_strange_came_nothing_is_said_of_it() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = [login(issuer.issuer(), "--browser"), vec!["-v".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    assert_eq!(login_pages::LoginPages::sign_in(&issuer, &desk.address(), USER).follow_redirect(), 200);
    let ran = desk.home.finish(started, &args).exits(0);
    assert!(!ran.stderr.contains("turned away"), "{}", ran.stderr);
    desk.home.token("work");
}
