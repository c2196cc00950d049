//! Fifty clients of one proxy when the token expires, at a provider that rotates refresh tokens and revokes the session when one
//! is used twice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Api, Proxy, duration};
use crate::agent_support::agent;
use crate::oidc_provider::{Provider, SECRET};
use crate::support::process::{LIMIT, wait_until};
use crate::support::{AUTHCTL, Sandbox, http, quick_issuer};
use crate::webdriver::BrowserSandbox;

const CLIENTS: usize = 50;

/// Has all clients send requests from the same moment on, for this long but at least one each; returns how many were sent.
/// Fails the test unless all succeed.
#[track_caller]
fn crowd(proxy: &Proxy, time: Duration) -> usize {
    let together = Barrier::new(CLIENTS);
    let client = || {
        together.wait();
        let (started, mut sent) = (Instant::now(), 0);
        loop {
            let (status, body) = http::get(&format!("{}/item", proxy.url), &[&proxy.key_header()]);
            assert_eq!(status, 200, "{body}");
            sent += 1;
            if started.elapsed() >= time {
                return sent;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("no refusal")).sum()
    })
}

/// Most shells allow 1024 descriptors, of which each connection needs one, and one more while it is used.
#[test]
fn limit_of_the_shell_does_not_limit_connections() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    let api = Api::start();
    let limited = ["-c", "ulimit -S -n 64; exec \"$0\" \"$@\"", AUTHCTL, "proxy", "work", "--for", &api.url];
    let proxy = Proxy::of(home.command_for("sh", &limited));
    let host = proxy.url.trim_start_matches("http://").trim_end_matches("/v1");
    let request = format!("GET /v1/item HTTP/1.1\r\nHost: {host}\r\n{}\r\n\r\n", proxy.key_header());
    let connections: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(host).expect("connected");
            stream.set_read_timeout(Some(LIMIT)).expect("set");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap_or_else(|error| panic!("connection {number}: {error}"));
            assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 200", "connection {number}");
            stream
        })
        .collect();
    drop(connections);
}

/// Returns the options of an API that asks the provider about each token.
fn asking(provider: &Provider) -> Value {
    let url = format!("{}/token/introspection", provider.issuer);
    json!({"introspection": {"url": url, "client_id": "post", "client_secret": SECRET}})
}

#[test]
fn fifty_clients_share_one_refresh() {
    let mut provider = Provider::start(&json!({}));
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &[]);
    let (home, api) = (&browser.home, Api::with_options(&asking(&provider)));
    let proxy = Proxy::start(home, &api.url);
    for refreshes in 1..=3 {
        home.expire("work");
        // The proxy uses a token for a moment before it asks for one again.
        let counts = wait_until("a refresh", || {
            assert_eq!(crowd(&proxy, Duration::ZERO), CLIENTS);
            Some(provider.counts()).filter(|counts| counts.refreshes >= refreshes)
        });
        assert_eq!((counts.refreshes, counts.refused.len(), counts.revoked_grants), (refreshes, 0, 0), "{counts:?}");
    }
}

/// The tokens live for ten seconds, longer than a request takes beside other tests. The clients work for `AUTHCTL_PROXY_SECONDS`.
#[test]
fn fifty_clients_see_no_refusal_while_tokens_expire() {
    let mut provider = Provider::start(&json!({"life": 10}));
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &[]);
    let (home, api) = (&browser.home, Api::with_options(&asking(&provider)));
    for with_agent in [false, true] {
        let _agent = with_agent.then(|| agent(home, &[]));
        let proxy = Proxy::start(home, &api.url);
        let (started, before) = (Instant::now(), provider.counts().refreshes);
        let sent = crowd(&proxy, duration() * 2);
        let (counts, elapsed) = (provider.counts(), started.elapsed().as_secs());
        let refreshes = counts.refreshes - before;
        println!("with an agent: {with_agent}; {sent} requests and {refreshes} refreshes in {elapsed} s");
        assert!(refreshes >= 1, "the token has expired");
        // A token is refreshed when it is a second old at the earliest.
        assert!(refreshes <= elapsed + 2, "{refreshes} refreshes in {elapsed} s");
        assert_eq!((counts.refused.len(), counts.revoked_grants), (0, 0), "{counts:?}");
    }
}
