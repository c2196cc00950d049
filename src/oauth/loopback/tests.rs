//! Tests of the loopback listener.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::clock::SystemClock;
use crate::oauth::testing::TestClock;

const RIGHT: &str = "GET /callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n";

/// Accepts the query `right`.
fn classify() -> Classify {
    Arc::new(|query| match query {
        "right" => RedirectRequest::AuthorizationResponse(Ok(Secret::new("C".into()))),
        "refused" => RedirectRequest::AuthorizationResponse(Err(IssuerError::Unsupported { what: "anything" })),
        _ => RedirectRequest::Unrelated,
    })
}

struct Browser {
    host: String,
}

impl Browser {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.host).await.expect("listening")
    }

    /// Sends `request` and reads the whole answer. `HOST` is replaced by the listener's own.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        let _ = stream.write_all(request.replace("HOST", &self.host).as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }
}

/// The page that ends the login.
fn last_page() -> LoginPage {
    LoginPage { title: "Logged in to work".into(), text: "You are ann & co".into(), ..LoginPage::default() }
}

/// Runs the listener while `visit` sends requests to it, and shows [`last_page`].
async fn listening<F: Future<Output = ()>>(visit: impl FnOnce(Browser) -> F) -> Outcome {
    let loopback = LoopbackListener::bind(&RedirectUri::default()).await.expect("a port");
    let browser = Browser { host: loopback.redirect_uri().authority().to_owned() };
    tokio::join!(answered(&loopback), visit(browser)).0
}

/// Waits for the authorization response, and shows [`last_page`].
async fn answered(loopback: &LoopbackListener) -> Outcome {
    let (outcome, browser) = loopback.wait_for_response(classify(), &SystemClock).await;
    browser.show(last_page()).await;
    outcome
}

#[tokio::test]
async fn short_address_redirects_to_the_issuer_and_no_other_path_does() {
    let mut loopback = LoopbackListener::bind(&RedirectUri::default()).await.expect("a port");
    let issuer: Url = "https://issuer.example/authorize?state=S&code_challenge=C".parse().expect("an address");
    let short = loopback.redirect_to(&issuer).expect("an address");
    assert!(short.as_str().len() < 30 && short.path().len() == 7 && short.query().is_none(), "{short}");
    let browser = Browser { host: loopback.redirect_uri().authority().to_owned() };
    let visit = async {
        for _ in 0..2 {
            let answer = browser.ask(&format!("GET {} HTTP/1.1\r\nHost: HOST\r\n\r\n", short.path())).await;
            assert!(
                answer.starts_with("HTTP/1.1 302 ") && answer.contains(&format!("location: {issuer}\r\n")),
                "{answer}"
            );
        }
        for (path, host) in [("/", "HOST"), ("/guess1", "HOST"), (short.path(), "evil.example")] {
            let answer = browser.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 40") && !answer.contains("state="), "{path} {host}: {answer}");
        }
        browser.ask(RIGHT).await
    };
    let (outcome, _) = tokio::join!(answered(&loopback), visit);
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn unrelated_requests_are_rejected_and_change_nothing() {
    let outcome = listening(async |browser| {
        for (request, status) in [
            ("GET /favicon.ico HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET /callback/?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET //callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET /Callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET /c%61llback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET /x/../callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
            ("GET /callback?wrong HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
            ("GET /callback HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
            ("GET /callback?right HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
            ("GET /callback?right HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
            ("GET /callback?right HTTP/1.1\r\nHost: HOST.evil.example\r\n\r\n", 400),
            ("GET /callback?right HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", 400),
            ("GET /callback?right HTTP/1.1\r\n\r\n", 400),
            ("GET http://HOST/callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
            ("HEAD /callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
            ("POST /callback?right HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n", 405),
            ("OPTIONS /callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
            ("\x16\x03\x01 no HTTP\r\n\r\n", 400),
        ] {
            let answer = browser.ask(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            let allowed = answer.to_ascii_lowercase().contains("\r\nallow: get\r\n");
            assert_eq!(allowed, status == 405, "{request}: {answer}");
        }
        let long = format!("GET /callback?{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "x".repeat(2 * MAX_HEAD_SIZE));
        assert!(!browser.ask(&long).await.starts_with("HTTP/1.1 200"));
        assert!(browser.ask(RIGHT).await.starts_with("HTTP/1.1 200 "));
    })
    .await;
    assert_eq!(outcome.expect("the right one").expose(), "C");
}

#[tokio::test]
async fn browser_receives_its_page_before_the_listener_closes() {
    let outcome = listening(async |browser| {
        let answer = browser.ask(RIGHT).await;
        assert!(answer.contains("You are ann &amp; co") && answer.ends_with("</html>"), "{answer}");
        let head = answer.split_once("\r\n\r\n").expect("a head").0.to_ascii_lowercase();
        for line in [
            "content-type: text/html; charset=utf-8",
            "cache-control: no-store",
            "content-security-policy: default-src 'none'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "connection: close",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
        assert!(!head.contains("access-control-"), "no page may read it: {head}");
    })
    .await;
    outcome.expect("the right one");
}

#[tokio::test]
async fn browser_waits_until_the_login_has_ended() {
    let loopback = LoopbackListener::bind(&RedirectUri::default()).await.expect("a port");
    let browser = Browser { host: loopback.redirect_uri().authority().to_owned() };
    for (query, is_ok) in [("right", true), ("refused", false)] {
        let request = format!("GET /callback?{query} HTTP/1.1\r\nHost: HOST\r\n\r\n");
        let mut answer = std::pin::pin!(browser.ask(&request));
        let (outcome, waiting) = tokio::select! {
            arrived = loopback.wait_for_response(classify(), &SystemClock) => arrived,
            answer = &mut answer => panic!("before the end of the login: {answer}"),
        };
        assert_eq!(outcome.is_ok(), is_ok);
        let (answer, ()) = tokio::join!(answer, waiting.show(last_page()));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Logged in to work"), "{answer}");
    }
}

#[tokio::test]
async fn second_response_is_not_used() {
    let loopback = LoopbackListener::bind(&RedirectUri::default()).await.expect("a port");
    let browser = Browser { host: loopback.redirect_uri().authority().to_owned() };
    let mut second = browser.connect().await;
    // Accepted before the response, read after it.
    second.write_all(b"GET /callback?right HTTP/1.1\r\nHost: ").await.expect("sent");
    let first = browser.ask(RIGHT);
    let ((outcome, waiting), first) = {
        let arrived = loopback.wait_for_response(classify(), &SystemClock);
        let mut first = Box::pin(first);
        let arrived = tokio::select! {
            arrived = arrived => arrived,
            answer = &mut first => panic!("before the end of the login: {answer}"),
        };
        (arrived, first)
    };
    outcome.expect("the right one");
    second.write_all(format!("{}\r\n\r\n", browser.host).as_bytes()).await.expect("sent");
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.contains("This login has its response"), "{answer}");
    drop(waiting);
    let _closed = first.await;
}

#[tokio::test]
async fn silent_connections_do_not_block_the_response() {
    let outcome = listening(async |browser| {
        let mut held = Vec::new();
        for n in 0..3 * MAX_CONNECTIONS {
            let mut stream = browser.connect().await;
            if n % 2 == 0 {
                let _ = stream.write_all(b"GET /callback?right HTTP/1.1\r\nHost").await;
            }
            held.push(stream);
        }
        let first = tokio::time::timeout(HEAD_TIMEOUT / 2, held[0].read(&mut [0; 1])).await;
        assert!(!matches!(first.expect("the first has to go"), Ok(1..)));
        assert!(browser.ask(RIGHT).await.starts_with("HTTP/1.1 200 "));
    })
    .await;
    outcome.expect("the right one");
}

#[tokio::test]
async fn incomplete_response_is_closed_after_silent_connections() {
    let outcome = listening(async |browser| {
        let unrelated = "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n";
        let request = RIGHT.replace("HOST", &browser.host);
        let (first, rest) = request.split_at(20);
        let mut slow = browser.connect().await;
        slow.write_all(first.as_bytes()).await.expect("sent");
        // When these are answered, the listener has read what was sent before.
        for _ in 0..2 {
            assert!(browser.ask(unrelated).await.contains(" 404 "));
        }
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            silent.push(browser.connect().await);
        }
        assert!(browser.ask(unrelated).await.contains(" 404 "));
        slow.write_all(rest.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    })
    .await;
    outcome.expect("the right one");
}

#[tokio::test]
async fn connection_opened_in_advance_can_carry_the_response() {
    let outcome = listening(async |browser| {
        let mut ahead = browser.connect().await;
        let mut others = Vec::new();
        for _ in 1..MAX_CONNECTIONS {
            others.push(browser.connect().await);
            tokio::task::yield_now().await;
        }
        ahead.write_all(RIGHT.replace("HOST", &browser.host).as_bytes()).await.expect("sent");
        let mut answer = String::new();
        ahead.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    })
    .await;
    outcome.expect("the right one");
}

#[tokio::test]
async fn response_is_not_dropped_for_later_connections() {
    // The whole request, parts of it, and connections that send something before and after it.
    let all = usize::MAX;
    for (count, before, first) in [(0, "", all), (0, "", 1), (16, "", 20), (16, "GET /cal", all), (16, "GET", 20)] {
        let outcome = listening(async |browser| {
            let connect = |count: usize, data: &'static [u8]| {
                let host = browser.host.clone();
                (0..count).map(move |_| {
                    let mut stream = std::net::TcpStream::connect(&host).expect("listening");
                    let _ = std::io::Write::write_all(&mut stream, data);
                    stream
                })
            };
            // Without a pause: the listener accepts all of these, which its queue of 128 holds, before it can read from any.
            let mut others: Vec<_> = connect(count, before.as_bytes()).collect();
            let mut stream = std::net::TcpStream::connect(&browser.host).expect("listening");
            let request = RIGHT.replace("HOST", &browser.host).into_bytes();
            let first = first.min(request.len());
            std::io::Write::write_all(&mut stream, &request[..first]).expect("sent");
            others.extend(connect(100, b""));
            stream.set_nonblocking(true).expect("set");
            let mut stream = TcpStream::from_std(stream).expect("a stream");
            // The listener answers this one after it has accepted all others, unless the response is complete.
            let answer = browser.ask("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
            assert!(answer.contains(" 404 ") || first == request.len(), "{answer}");
            stream.write_all(&request[first..]).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{count} x {before:?}, {first}: {answer}");
            drop(others);
        });
        let outcome = tokio::time::timeout(CONNECTION_TIMEOUT, outcome).await;
        outcome.expect("in time").expect("the right one");
    }
}

/// Fails instead of hanging: a loop without a pause would not let the runtime end the test.
#[test]
fn listener_pauses_until_it_can_read_from_one_of_too_many_connections() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let loopback = LoopbackListener::bind(&RedirectUri::default()).await.expect("a port");
            let host = loopback.redirect_uri().authority().to_owned();
            let send = |request: &str| {
                let mut stream = std::net::TcpStream::connect(&host).expect("listening");
                std::io::Write::write_all(&mut stream, request.as_bytes()).expect("sent");
                stream
            };
            let mut open: Vec<_> = (0..=MAX_CONNECTIONS).map(|_| send("GET /")).collect();
            let right = send(&RIGHT.replace("HOST", &host));
            let clock = TestClock::new();
            let (outcome, browser) = loopback.wait_for_response(classify(), &clock).await;
            outcome.expect("the right one");
            assert!(!clock.waits().is_empty(), "a pause to read");
            // The oldest was closed, and its browser is notified.
            let oldest = open.remove(0);
            oldest.set_read_timeout(Some(HEAD_TIMEOUT / 2)).expect("set");
            assert!(std::io::Read::read(&mut &oldest, &mut [0; 1]).is_ok_and(|length| length == 0));
            drop((right, browser));
        });
        let _ = done.send(());
    });
    ended.recv_timeout(CONNECTION_TIMEOUT).expect("no failure, in time");
}

#[tokio::test]
async fn failed_accept_closes_an_idle_connection_and_pauses() {
    let loopback = LoopbackListener::bind(&RedirectUri::default()).await.expect("a port");
    let browser = Browser { host: loopback.redirect_uri().authority().to_owned() };
    let clock = TestClock::new();
    let paused = async {
        let mut idle = browser.connect().await;
        assert!(browser.ask("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n").await.contains(" 404 "));
        // From now on, each accept fails at once.
        rustix::net::shutdown(&loopback.listener, rustix::net::Shutdown::Both).expect("shut down");
        assert!(idle.read(&mut [0; 1]).await.is_ok_and(|length| length == 0), "its descriptor is free again");
        while clock.waits().len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    let waiting = async {
        tokio::select! {
            () = paused => {}
            _ = loopback.wait_for_response(classify(), &clock) => panic!("no request was sent"),
        }
    };
    tokio::time::timeout(CONNECTION_TIMEOUT / 2, waiting).await.expect("three pauses");
}

#[tokio::test]
async fn response_sent_byte_by_byte_is_accepted() {
    let outcome = listening(async |browser| {
        let mut stream = browser.connect().await;
        for byte in RIGHT.replace("HOST", &browser.host).bytes() {
            stream.write_all(&[byte]).await.expect("sent");
            stream.flush().await.expect("sent");
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    })
    .await;
    outcome.expect("the right one");
}

#[test]
fn listener_is_bound_to_loopback() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let loopback = runtime.block_on(LoopbackListener::bind(&RedirectUri::default())).expect("a port");
    assert!(loopback.listener.local_addr().expect("bound").ip().is_loopback());
    assert!(loopback.redirect_uri().as_str().starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn redirect_uri_has_the_requested_host_and_path() {
    for (text, begins, ends) in [
        ("http://localhost/back/", "http://localhost:", "/back/"),
        ("http://[::1]/cb", "http://[::1]:", "/cb"),
        ("http://127.0.0.1", "http://127.0.0.1:", "/"),
    ] {
        let bound = LoopbackListener::bind(&text.parse().expect("valid")).await.expect("a port");
        let at = bound.redirect_uri().as_str();
        assert!(at.starts_with(begins) && at.ends_with(ends), "{text}: {at}");
        let mut all = std::iter::once(&bound.listener).chain(&bound.ipv6);
        assert!(all.all(|listener| listener.local_addr().expect("bound").ip().is_loopback()));
    }
}

#[tokio::test]
async fn localhost_listens_on_both_addresses() {
    let bound = LoopbackListener::bind(&"http://localhost/callback".parse().expect("valid")).await.expect("a port");
    let port = bound.redirect_uri().port().expect("a port");
    let visit = async {
        for address in ["127.0.0.1", "[::1]"] {
            let browser = Browser { host: format!("{address}:{port}") };
            let request = |host: &str| format!("GET /callback?wrong HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = browser.ask(&request(&format!("localhost:{port}"))).await;
            assert!(answer.contains("does not belong to the login"), "{address}: {answer}");
            // The Host header must be that of the redirect URI.
            assert!(browser.ask(&request(&browser.host)).await.contains("Not found"));
        }
        let browser = Browser { host: format!("localhost:{port}") };
        browser.ask(RIGHT).await
    };
    let (outcome, answer) = tokio::join!(answered(&bound), visit);
    assert!(answer.contains("Logged in to work"), "{answer}");
    outcome.expect("the right one");
}

#[tokio::test]
async fn used_port_is_named_in_the_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let wanted = format!("http://127.0.0.1:{port}/cb").parse().expect("valid");
    let error = LoopbackListener::bind(&wanted).await.err().expect("taken").to_string();
    assert!(error.contains(&format!("127.0.0.1 port {port}")), "{error}");
}

/// Another program with the port on one of the addresses would get the responses that are meant for this one.
#[tokio::test]
async fn localhost_needs_its_port_on_both_addresses() {
    let Ok(other) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else { return };
    let port = other.local_addr().expect("bound").port();
    let wanted: RedirectUri = format!("http://localhost:{port}/callback").parse().expect("valid");
    let error = LoopbackListener::bind(&wanted).await.err().expect("the port is in use");
    assert!(error.to_string().contains("in use"), "{error}");
    drop(other);
    let bound = LoopbackListener::bind(&wanted).await.expect("free");
    assert!(bound.ipv6.is_some());
}
