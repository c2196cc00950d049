//! Requests to servers that redirect, hang up, have no TLS, or are where the issuer must not lead.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::error::{Delivery, Phase};
use super::super::testing::{TestServer, answer, fetch, http, json, unused_address};
use super::*;
use crate::clock::Clock as _;

#[tokio::test]
async fn unsent_request_is_distinguished_from_one_that_may_have_arrived() {
    let error =
        http().post_form(&unused_address().await, Bytes::from_static(b"a=b"), None).await.err().expect("refused");
    assert!(!error.is_in_doubt(), "{error}");
    assert!(matches!(error, IssuerError::Unreachable { phase: Phase::Connect, .. }), "{error:?}");

    let silent = TestServer::start(vec![String::new()]).await;
    let error = http().post_form(&silent.url, Bytes::from_static(b"a=b"), None).await.err().expect("hung up");
    assert!(error.is_in_doubt(), "{error}");
    assert_eq!(silent.requests().len(), 1, "sent again");

    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    let error = fetch(broken).await.err().expect("broken off");
    assert!(
        matches!(error, IssuerError::Unreachable { phase: Phase::Exchange, delivery: Delivery::ResponseLost, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn server_without_tls_receives_no_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/token", listener.local_addr().expect("bound"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut seen = vec![0; 4096];
        let length = stream.read(&mut seen).await.expect("a handshake");
        stream.write_all(answer(400, "", "").as_bytes()).await.expect("sent");
        let _ = stream.read_to_end(&mut seen).await;
        seen.truncate(length.max(seen.len()));
        seen
    });
    let url = Url::parse(&url).expect("valid");
    let error = http().post_form(&url, Bytes::from_static(b"refresh_token=hunter2"), None).await.err().expect("no TLS");
    assert!(
        matches!(error, IssuerError::Unreachable { phase: Phase::NoTls, delivery: Delivery::NotSent, .. }),
        "{error:?}"
    );
    let seen = server.await.expect("served");
    assert!(!seen.windows(7).any(|w| w == b"hunter2"));
}

#[tokio::test]
async fn each_request_has_a_new_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("sent");
            // The server leaves the connection open: the client closes it.
            open.push(stream);
        }
    });
    let http = http();
    http.get(&url, "*/*", None).await.expect("a response");
    http.post_form(&url, Bytes::from_static(b"a=1"), None).await.expect("a response");
    http.get(&url, "*/*", None).await.expect("a response");
    tokio::time::timeout(Duration::from_secs(20), server).await.expect("three connections").expect("served");
}

#[tokio::test]
async fn request_on_a_connection_that_closes_is_not_sent_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
        drop(stream);
        listener
    });
    let error = http().post_form(&url, Bytes::from_static(b"a=2"), None).await.err().expect("hung up");
    assert!(error.is_in_doubt(), "{error:?}");
    let listener = server.await.expect("served");
    tokio::select! {
        biased;
        _ = listener.accept() => panic!("sent again"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn plain_http_is_rejected_except_on_loopback() {
    let url = Url::parse("http://issuer.example/token").expect("valid");
    let error = http().get(&url, "application/json", None).await.err().expect("refused");
    assert!(matches!(error, IssuerError::Insecure(_)), "{error:?}");
}

/// Resolves names like `10-0-0-1.test` and `203-0-113-1.10-0-0-1.test` to the addresses in them.
fn addresses_in_name(name: &str) -> std::io::Result<Vec<std::net::SocketAddr>> {
    let labels = name.trim_end_matches(".test").split('.');
    Ok(labels.map(|label| (label.replace('-', ".").parse::<std::net::IpAddr>().expect(name), 0).into()).collect())
}

/// Requests `url`, which `issuer` names. Connections are given up quickly.
async fn requested(issuer: &str, url: &str, server: &Arc<Server>) -> IssuerError {
    let limits = Limits { connect: Duration::from_millis(200), ..Limits::DEFAULT };
    let http = Http::with_limits(Vec::new(), limits, addresses_in_name);
    let http = http.for_issuer(&issuer.parse().expect("valid"), server);
    let url = Url::parse(url).expect("valid");
    http.post_form(&url, Bytes::from_static(b"a=b"), None).await.err().expect("no server")
}

#[tokio::test]
async fn issuer_leads_into_no_network_closer_than_its_own() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let targets = ["10-0-0-1.test", "10.0.0.1", "[fd00::1]", "169-254-1-1.test", "169.254.1.1", "127-0-0-1.test"];
    for (issuer, allowed) in [
        ("203-0-113-1.test", [false; 6]),
        ("203.0.113.1", [false; 6]),
        // One public address is enough to be a public issuer.
        ("10-9-9-9.203-0-113-1.test", [false; 6]),
        ("10-9-9-9.test", [true, true, true, false, false, false]),
        ("192.168.1.1", [true, true, true, false, false, false]),
        ("169-254-9-9.test", [true, true, true, true, true, false]),
        ("127-0-0-9.test", [true; 6]),
        ("127.0.0.9", [true; 6]),
    ] {
        for (target, allowed) in targets.into_iter().zip(allowed) {
            let url = format!("https://{target}:{port}/x");
            let error = requested(&format!("https://{issuer}"), &url, &Arc::default()).await;
            let refused = matches!(error, IssuerError::Insecure(InsecureUrl::Internal { .. }));
            assert_eq!(refused, !allowed, "{issuer} names {target}: {error:?}");
            if let (false, Ok(Ok(_))) = (allowed, tokio::time::timeout(Duration::ZERO, listener.accept()).await) {
                panic!("{issuer} names {target}: connected");
            }
        }
    }
}

#[tokio::test]
async fn api_leads_into_no_network_closer_than_its_own() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let limits = Limits { connect: Duration::from_millis(200), ..Limits::DEFAULT };
    let http = Http::with_limits(Vec::new(), limits, addresses_in_name);
    let targets = [
        "10-0-0-1.test",
        "100-64-0-1.test",
        "169-254-169-254.test",
        "127-0-0-1.test",
        "[::ffff:a00:1]",
        "[64:ff9b::a00:1]",
    ];
    for (api, allowed) in [
        ("203-0-113-1.test", [false; 6]),
        ("10-9-9-9.test", [true, true, false, false, true, true]),
        ("127.0.0.9", [true; 6]),
    ] {
        let http = http.for_api(&format!("https://{api}/mcp").parse().expect("an API"));
        for (target, allowed) in targets.into_iter().zip(allowed) {
            let url = Url::parse(&format!("https://{target}:{port}/m")).expect("valid");
            let error = http.get(&url, "application/json", None).await.err().expect("no server");
            let refused = matches!(error, IssuerError::Insecure(InsecureUrl::Internal { .. }));
            assert_eq!(refused, !allowed, "{api} names {target}: {error:?}");
            if let (false, Ok(Ok(_))) = (allowed, tokio::time::timeout(Duration::ZERO, listener.accept()).await) {
                panic!("{api} names {target}: connected");
            }
        }
    }
}

#[tokio::test]
async fn host_with_public_and_internal_address_uses_the_public_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let url = format!("https://127-0-0-1.203-0-113-9.test:{port}/x");
    let error = requested("https://203-0-113-1.test", &url, &Arc::default()).await;
    assert!(matches!(error, IssuerError::Unreachable { phase: Phase::Connect, .. }), "{error:?}");
    let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(accepted.is_err(), "connected to the internal address");
}

#[tokio::test]
async fn addresses_of_the_user_and_at_the_issuer_may_be_anywhere() {
    let url = "https://127-0-0-1.test:9/token";
    let mut server = Server::default();
    server.endpoints.token = Some(Url::parse(url).expect("valid"));
    let server = Arc::new(server);
    for (issuer, url, allowed) in [
        ("https://203-0-113-1.test", url, true),
        ("https://203-0-113-1.test", "https://127-0-0-1.test:9/other", false),
        ("https://127-0-0-1.203-0-113-1.test", "https://127-0-0-1.203-0-113-1.test:9/x", true),
        ("https://localhost:1", "https://10-0-0-1.test/x", true),
    ] {
        let error = requested(issuer, url, &server).await;
        assert_eq!(!matches!(error, IssuerError::Insecure(_)), allowed, "{issuer} {url}: {error:?}");
    }
}

#[tokio::test]
async fn localhost_is_this_machine_whatever_the_resolver_returns() {
    let server = TestServer::start(vec![json(200, "{}")]).await;
    let mut url = server.url.clone();
    url.set_host(Some("localhost")).expect("a host");
    // An address of documentation networks (RFC 5737), as a hosts file could name one.
    let http = Http::with_limits(Vec::new(), Limits::DEFAULT, |_| Ok(vec![([192, 0, 2, 1], 0).into()]));
    http.get(&url, "*/*", None).await.expect("a response");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let other = TestServer::start(vec![json(200, "{}")]).await;
    let reply = fetch(answer(307, &format!("location: {}\r\n", other.url), "")).await.expect("an answer");
    assert_eq!((reply.status, other.requests().len()), (307, 0));
}

#[test]
fn latest_time_of_each_host_is_remembered_up_to_a_limit() {
    let http = http();
    let record = |host: &str, seconds| http.remember_server_time(host, UnixTime(seconds));
    let time = |host: &str| http.server_time(&format!("https://{host}").parse().expect("valid")).map(|time| time.0);
    for (host, seconds) in [("a.example", 30), ("b.example", 10), ("a.example", 20)] {
        record(host, seconds);
    }
    assert_eq!([time("a.example"), time("b.example"), time("c.example")], [Some(20), Some(10), None]);
    for other in 0..MAX_SERVER_CLOCKS - 1 {
        record(&format!("{other}.example"), 40);
    }
    assert_eq!([time("a.example"), time("b.example"), time("0.example")], [Some(20), None, Some(40)]);
    assert_eq!(http.shared.server_clocks.lock().expect("unpoisoned").len(), MAX_SERVER_CLOCKS);
}

#[tokio::test]
async fn time_of_an_issuer_is_that_of_its_last_response() {
    let date = |time| format!("date: Tue, 14 Nov 2023 22:13:{time} GMT\r\n");
    let server =
        TestServer::start(vec![answer(404, &date("20"), ""), answer(200, &date("21"), ""), json(200, "")]).await;
    let issuer = server.url.origin().ascii_serialization().parse().expect("valid");
    let http = http();
    for expected in [1_700_000_000, 1_700_000_001, 1_700_000_001] {
        http.get(&server.url, "*/*", None).await.expect("a response");
        assert_eq!(http.server_time(&issuer), Some(UnixTime(expected)));
    }
}

/// `localhost` is not resolved, so its addresses are never compared with the issuer's network.
#[tokio::test]
async fn public_issuer_does_not_lead_to_localhost() {
    let server = TestServer::start(vec![json(200, "{}")]).await;
    let issuer: IssuerUrl = "https://issuer.example".parse().expect("an issuer");
    let http = http().for_issuer(&issuer, &Arc::default());
    for host in ["localhost", "127.0.0.1"] {
        let mut url = server.url.clone();
        url.set_host(Some(host)).expect("a host");
        let error = http.get(&url, "*/*", None).await.err().expect("refused");
        assert!(matches!(error, IssuerError::Insecure(InsecureUrl::Internal { .. })), "{host}: {error:?}");
    }
    assert_eq!(server.requests().len(), 0);
}

/// The thread is blocked beyond all limits while the response arrives, as in a process that is stopped.
#[tokio::test]
async fn response_that_arrives_while_the_process_is_stopped_is_read() {
    const LIMIT: Duration = Duration::from_secs(1);
    let (mut responses, mut servers) = (Vec::new(), Vec::new());
    for (first, rest) in [
        ("", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", "}"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "ngth: 2\r\n\r\n{}"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
        let (requested, request) = tokio::sync::oneshot::channel();
        let (stop, stopped) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            assert!(stream.read(&mut [0; 4096]).expect("a request") > 0);
            stream.write_all(first.as_bytes()).expect("sent");
            requested.send(()).expect("received");
            stopped.recv().expect("stopped");
            stream.write_all(rest.as_bytes()).expect("sent");
            stream
        });
        let limits = Limits { read: LIMIT, total: LIMIT, ..Limits::DEFAULT };
        let http = Http::with_limits(Vec::new(), limits, system_lookup);
        let response = tokio::spawn(async move { http.post_form(&url, Bytes::from_static(b"a=b"), None).await });
        request.await.expect("a request");
        responses.push((rest, response));
        servers.push((stop, server));
    }
    // Each time, the runtime looks for what has arrived: the clients have read what was sent.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let start = SystemClock.monotonic();
    let stop = |(stop, server): (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<std::net::TcpStream>)| {
        stop.send(()).expect("received");
        server.join().expect("ended")
    };
    let _streams: Vec<std::net::TcpStream> = servers.into_iter().map(stop).collect();
    while start.elapsed() < 2 * LIMIT {
        std::thread::park_timeout(LIMIT);
    }
    for (rest, response) in responses {
        assert_eq!(response.await.expect("ended").expect("a response").status, 200, "{rest}");
    }
}

#[tokio::test]
async fn response_that_does_not_end_is_cut_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        // Each part arrives within the limit for one.
        let mut parts = tokio::time::interval(Duration::from_millis(50));
        while stream.write_all(b"x").await.is_ok() {
            parts.tick().await;
        }
    });
    let limits = Limits { total: Duration::from_secs(1), ..Limits::DEFAULT };
    let http = Http::with_limits(Vec::new(), limits, system_lookup);
    let cut = tokio::time::timeout(Duration::from_secs(20), http.get(&url, "*/*", None)).await.expect("an end");
    let error = cut.err().expect("no whole response");
    assert!(error.is_in_doubt(), "{error:?}");
    serving.abort();
}
