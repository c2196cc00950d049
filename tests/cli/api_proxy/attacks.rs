//! Requests that try to get past the proxy: smuggled ones, other paths, other protocols, other users, and other readings of a
//! header.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Proxy, logged_in, status};
use crate::support::process::LIMIT;

/// What arrived on one connection: the head and the body of a request, and whatever followed them.
#[derive(Clone, Debug, Default)]
struct Arrived {
    head: String,
    body: String,
    rest: String,
}

impl Arrived {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server that reads one request with the framing that it has, responds, and then records everything else that arrives.
struct Recorder {
    url: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Recorder {
    fn start(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let seen = Arc::clone(&arrived);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || record(stream, response, &seen));
            }
        });
        Self { url, arrived }
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().expect("not poisoned").clone()
    }
}

fn record(stream: TcpStream, response: &str, seen: &Mutex<Vec<Arrived>>) -> Option<()> {
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut arrived = Arrived::default();
    while !arrived.head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut arrived.head).ok()? == 0 {
            return None;
        }
    }
    let length = arrived.header("content-length").map(|text| text.parse::<usize>().expect("a length"));
    if arrived.header("transfer-encoding").is_some() {
        // Trailers may follow the last chunk.
        while !(arrived.body.ends_with("\r\n\r\n") && format!("\r\n{}", arrived.body).contains("\r\n0\r\n")) {
            if reader.read_line(&mut arrived.body).ok()? == 0 {
                return None;
            }
        }
    } else {
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        arrived.body = String::from_utf8_lossy(&body).into_owned();
    }
    let number = {
        let mut seen = seen.lock().expect("not poisoned");
        seen.push(arrived);
        seen.len() - 1
    };
    reader.get_mut().write_all(response.as_bytes()).ok()?;
    reader.get_mut().shutdown(std::net::Shutdown::Write).ok()?;
    let mut rest = String::new();
    let _ = reader.read_to_string(&mut rest);
    seen.lock().expect("not poisoned")[number].rest = rest;
    Some(())
}

/// A body that does not match its head is an error of the caller, and not of the API.
#[test]
fn broken_body_is_a_fault_of_the_caller() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let proxy = Proxy::start(&home, &["work", "--for", &format!("{}/v1", api.url)]);
    let head = format!("Host: {}\r\nX-Authctl-Key: {}\r\n", proxy.host(), proxy.key);
    let mut answered = Vec::new();
    for (name, rest, ends) in [
        ("size", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", false),
        ("no-size", "Transfer-Encoding: chunked\r\n\r\n\r\n", false),
        ("long-chunk", "Transfer-Encoding: chunked\r\n\r\n2\r\nlong\r\n0\r\n\r\n", false),
        ("trailer", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nno trailer\r\n\r\n", false),
        ("short-chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nshort", true),
        ("no-last-chunk", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", true),
        ("short-length", "Content-Length: 9\r\n\r\nshort", true),
    ] {
        let mut stream = TcpStream::connect(proxy.host()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("POST /v1/{name} HTTP/1.1\r\n{head}{rest}").as_bytes()).unwrap();
        if ends {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        // A caller that has closed the connection may get no response.
        let is_answered = reply.starts_with("HTTP/1.1 400 ") && reply.contains("connection: close\r\n");
        assert!(is_answered || ends && reply.is_empty(), "{name}: {reply}");
        answered.extend(is_answered.then_some(name));
    }
    let log = proxy.stop();
    assert!(!log.contains("failed: api"), "{log}");
    for name in answered {
        assert!(log.contains(&format!("/v1/{name} -> 400 (failed: request)")), "{name}: {log}");
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Requests that two servers could split in different ways (RFC 9112, sections 6.3 and 11.2).
#[test]
fn request_is_framed_again_or_refused() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let proxy = Proxy::start(&home, &["work", "--for", &format!("{}/v1", api.url)]);
    let (host, key) = (proxy.host(), &proxy.key);
    let head = format!("Host: {host}\r\nX-Authctl-Key: {key}\r\n");
    // It would even be let through if it was a request of its own.
    let inner = format!("GET /v1/smuggled HTTP/1.1\r\n{head}\r\n").replace(&**key, "wrong");
    let chunked = format!("0\r\n\r\n{inner}");
    let lengths = (chunked.len(), inner.len());
    for (name, request) in [
        ("cl-te", format!("{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}", lengths.0)),
        ("te-cl", format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{chunked}")),
        ("two-lengths", format!("{head}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}", lengths.1)),
        ("length-list", format!("{head}Content-Length: 0, {}\r\n\r\n{inner}", lengths.1)),
        ("signed-length", format!("{head}Content-Length: +{}\r\n\r\n{inner}", lengths.1)),
        ("hex-length", format!("{head}Content-Length: 0x10\r\n\r\n{inner}")),
        ("unknown-coding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n{chunked}")),
        ("coding-after", format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}")),
        ("two-codings", format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{chunked}")),
        ("tab-coding", format!("{head}Transfer-Encoding:\tchunked\x0b\r\n\r\n{chunked}")),
        ("obs-fold", format!("{head}Transfer-Encoding:\r\n chunked\r\n\r\n{chunked}")),
        ("folded-field", format!("{head}X-Folded: a\r\n Transfer-Encoding: chunked\r\n\r\n{chunked}")),
        ("space-before-colon", format!("{head}Content-Length : {}\r\n\r\n{inner}", lengths.1)),
        ("bare-cr", format!("{head}X-Bare: a\rTransfer-Encoding: chunked\r\n\r\n{chunked}")),
        ("nul", format!("{head}X-Nul: a\0b\r\nContent-Length: 0\r\n\r\n{inner}")),
        ("listed-length", format!("{head}Connection: content-length\r\nContent-Length: {}\r\n\r\n{inner}", lengths.1)),
        (
            "listed-coding",
            format!("{head}Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        ),
        ("chunk-extension", format!("{head}Transfer-Encoding: chunked\r\n\r\n0;a=\r\nb\r\n\r\n{inner}")),
        ("big-chunk", format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{inner}")),
    ] {
        let before = api.arrived().len();
        let reply = proxy.send(&format!("POST /v1/{name} HTTP/1.1\r\nConnection: close\r\n{request}"));
        let arrived = api.arrived();
        // What follows is the caller's next request, without the key.
        assert!(matches!(status(&reply), 200 | 400 | 401 | 0), "{name}: {reply}");
        for request in &arrived[before..] {
            assert!(request.head.starts_with(&format!("POST /v1/{name} HTTP/1.1\r\n")), "{name}: {request:?}");
            assert_eq!(request.rest, "", "{name}: {request:?}");
            let framings = ["content-length", "transfer-encoding"]
                .map(|field| request.head.lines().filter(|line| line.to_ascii_lowercase().starts_with(field)).count());
            assert!(framings[0] + framings[1] <= 1, "{name}: {request:?}");
            assert!(!request.head.contains("a\rT") && !request.head.contains("\r\n "), "{name}: {request:?}");
        }
    }
    assert_eq!(proxy.get("/v1/still").0, 200);
}

#[test]
fn other_headers_for_path_method_and_host_do_not_get_past_the_rules() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let target = format!("{}/v1", api.url);
    let proxy = Proxy::start(&home, &["work", "--for", &target, "--read-only"]);
    let (host, key) = (proxy.host(), &proxy.key);
    let own = format!("Host: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n");
    for (line, headers, expected) in [
        ("GET /v1/a", "X-Original-URL: /admin\r\n", 400),
        ("GET /v1/a", "X-Rewrite-URL: /admin\r\n", 400),
        ("GET /v1/a", "X-HTTP-Method-Override: DELETE\r\n", 403),
        ("GET /v1/a", "X-HTTP-Method: DELETE\r\n", 403),
        ("GET /v1/a", "X-Method-Override: DELETE\r\n", 403),
        ("GET /v1/a", "X_Original_URL: /admin\r\n", 400),
        ("GET /v1/a", "X_HTTP_Method_Override: DELETE\r\n", 403),
        ("GET http://evil.example/v1/a", "", 421),
        ("GET https://evil.example/v1/a", "", 421),
        ("GET //evil.example/v1/a", "", 400),
        ("GET /v1/a", "Host: evil.example\r\n", 421),
        ("GET /v1/a", "Origin: null\r\n", 403),
        ("GET /v1/a", "Origin:\r\n", 403),
        ("CONNECT evil.example:443", "", 421),
        ("OPTIONS *", "", 400),
        ("TRACE /v1/a", "", 403),
        ("get /v1/a", "", 403),
    ] {
        let reply = proxy.send(&format!("{line} HTTP/1.1\r\n{own}{headers}\r\n"));
        assert_eq!(status(&reply), expected, "{line} {headers}: {reply}");
        assert!(!reply.to_ascii_lowercase().contains("access-control"), "{reply}");
    }
    assert!(api.arrived().is_empty(), "{:?}", api.arrived());
    let free = Proxy::start(&home, &["work", "--for", &target]);
    let (host, key) = (free.host(), &free.key);
    let request = format!("POST /v1/a HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n");
    let reply = free.send(&format!("{request}X-HTTP-Method-Override: PATCH\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(status(&reply), 200, "without a rule about methods it is removed");
    assert_eq!(api.arrived()[0].header("x-http-method-override"), None);
    assert_eq!(api.arrived()[0].header("host"), Some(api.url.trim_start_matches("http://")));
}

/// Some servers merge trailers into the headers (RFC 9110, section 6.5.1).
#[test]
fn trailers_are_filtered_as_headers_are() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-checksum, dpop-nonce, set-cookie2, location\r\n\
         Connection: close\r\n\r\n2\r\nok\r\n0\r\nX-Checksum: 1\r\nDPoP-Nonce: n\r\nSet-Cookie2: a=b\r\nLocation: /\r\n\r\n",
    );
    let proxy = Proxy::start(&home, &["work", "--for", &api.url, "--read-only"]);
    let (host, key) = (proxy.host(), &proxy.key);
    let names = "X-HTTP-Method-Override, X-Original-URL, Cookie, X-Authctl-Key, Proxy-Authorization, DPoP, X-Checksum";
    let trailers: String = names.split(", ").map(|name| format!("{name}: {key}\r\n")).collect();
    let head =
        format!("GET /a HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\nTE: trailers\r\n");
    let reply = proxy
        .send(&format!("{head}Transfer-Encoding: chunked\r\nTrailer: {names}\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n"));
    assert!(reply.ends_with("2\r\nok\r\n0\r\nx-checksum: 1\r\n\r\n"), "{reply}");
    assert_eq!(api.arrived()[0].body, format!("2\r\nok\r\n0\r\nx-checksum: {key}\r\n\r\n"));
    let reply = proxy.send(&format!(
        "{head}Transfer-Encoding: chunked\r\nTrailer: Cookie\r\n\r\n2\r\nok\r\n0\r\nCookie: a=b\r\n\r\n"
    ));
    assert_eq!(status(&reply), 200, "{reply}");
    assert_eq!(api.arrived()[1].body, "2\r\nok\r\n0\r\n\r\n");
}

/// The body would be passed on without the coding that it still has (RFC 9112, section 6.1).
#[test]
fn transfer_coding_other_than_chunked_is_not_passed_on() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let proxy = Proxy::for_api(&home, &api.url);
    let head = format!("Host: {}\r\nX-Authctl-Key: {}\r\n", proxy.host(), proxy.key);
    for coding in ["gzip, chunked", "identity, chunked", "chunked,chunked"] {
        let body = "\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let reply = proxy.send(&format!("POST /a HTTP/1.1\r\n{head}Transfer-Encoding: {coding}{body}"));
        assert_eq!(status(&reply), 501, "{coding}: {reply}");
    }
    assert!(api.arrived().is_empty());
    let api = Recorder::start("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let proxy = Proxy::for_api(&home, &api.url);
    let (status, body) = proxy.get("/a");
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("a transfer coding other than chunked"), "{body}");
}

#[test]
fn invalid_response_of_the_api_is_not_called_a_closed_connection() {
    let (home, _idp) = logged_in();
    let reply = |response: String| {
        let api = Recorder::start(response.leak());
        let proxy = Proxy::for_api(&home, &api.url);
        let (host, key) = (proxy.host(), &proxy.key);
        let reply = proxy
            .send(&format!("GET /a HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n\r\n"));
        (reply, proxy.stop())
    };
    let (two_lengths, _) = reply("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok".into());
    assert!(two_lengths.contains("invalid content-length"), "{two_lengths}");
    assert!(!two_lengths.contains("retry-after"), "it would be invalid again: {two_lengths}");
    let (none, _) = reply(String::new());
    assert!(none.contains("closed before the response was complete") && none.contains("retry-after: 1"), "{none}");
    let fields: String = (0..200).map(|number| format!("X-Limit-{number}: 1\r\n")).collect();
    let (many, _) = reply(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"));
    assert_eq!(status(&many), 200, "{many}");
    let (short, log) = reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".into());
    assert_eq!(status(&short), 200, "{short}");
    assert!(log.contains("GET /a -> 200 (failed: api)"), "{log}");
}

/// HTTP/1.0 has no Host field, and no browser speaks it.
#[test]
fn caller_with_http_1_0_needs_the_key_but_no_host() {
    let (home, _idp) = logged_in();
    let api = Recorder::start("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let proxy = Proxy::for_api(&home, &api.url);
    let (host, key) = (proxy.host(), format!("X-Authctl-Key: {}\r\n", proxy.key));
    for (version, headers, expected) in [
        ("1.0", key.clone(), 200),
        ("1.0", format!("{key}Host: {host}\r\n"), 200),
        ("1.0", String::new(), 401),
        ("1.0", format!("{key}Host: evil.example\r\n"), 421),
        ("1.0", format!("{key}Host: \u{e9}.example\r\n"), 421),
        ("1.0", format!("{key}Origin: null\r\n"), 403),
        ("1.1", key.clone(), 421),
    ] {
        let reply = proxy.send(&format!("GET /a HTTP/{version}\r\n{headers}Connection: close\r\n\r\n"));
        assert_eq!(status(&reply), expected, "{version} {headers}: {reply}");
        // It cannot read chunks either.
        let body = reply.split_once("\r\n\r\n").map(|(_, body)| body);
        assert!(expected != 200 || body == Some("ok"), "{reply}");
    }
}

#[test]
fn head_of_a_request_is_limited_to_64_kib() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let proxy = Proxy::for_api(&home, &api.url);
    let own = format!("Host: {}\r\nX-Authctl-Key: {}\r\nConnection: close\r\n", proxy.host(), proxy.key);
    let with_length = |target: &str, length: usize| {
        let start = format!("GET {target} HTTP/1.1\r\n{own}X-Long: ");
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    let query = format!("/a?{}", "x".repeat(40_000));
    for target in ["/a", &query] {
        for (length, expected) in [(65_536, 200), (65_537, 431), (80_000, 431)] {
            let mut stream = TcpStream::connect(proxy.host()).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // The proxy does not read it to its end.
            let _ = stream.write_all(with_length(target, length).as_bytes());
            let mut line = String::new();
            let _ = BufReader::new(stream).read_line(&mut line);
            assert!(status(&line) == expected || expected == 431 && line.is_empty(), "{length}: {line}");
        }
    }
    assert_eq!(api.arrived().len(), 2);
}

/// With HTTP/2 in a tunnel the caller could send requests that the proxy does not see.
#[test]
fn only_websocket_changes_the_protocol() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let proxy = Proxy::for_api(&home, &api.url);
    let (host, key) = (proxy.host(), &proxy.key);
    let connection = "Connection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for protocol in ["h2c", "websocket, h2c", "TLS/1.2"] {
        let reply = proxy.send(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\n{connection}Upgrade: {protocol}\r\n\r\n"
        ));
        assert_eq!(status(&reply), 200, "{reply}");
    }
    for request in api.arrived() {
        assert_eq!((request.header("upgrade"), request.header("http2-settings")), (None, None), "{request:?}");
    }
}

#[test]
fn protocol_that_the_request_does_not_name_is_an_error_of_the_api() {
    let (home, _idp) = logged_in();
    for (response, asked) in [
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", ""),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "websocket"),
    ] {
        let api = Recorder::start(response);
        let proxy = Proxy::for_api(&home, &api.url);
        let upgrade =
            if asked.is_empty() { String::new() } else { format!("Connection: upgrade\r\nUpgrade: {asked}\r\n") };
        let mut stream = TcpStream::connect(proxy.host()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nX-Authctl-Key: {}\r\n", proxy.host(), proxy.key);
        stream.write_all(format!("{head}{upgrade}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert_eq!(status(&line), 502, "{response}");
        assert!(proxy.stop().contains("502 (failed: api)"), "{response}");
    }
}

#[test]
fn cookies_and_addresses_do_not_pass_in_either_direction() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(
        "HTTP/1.1 302 Found\r\nLocation: /v1/caf\u{e9}?a=b\r\nLink: </v1?page=2>; rel=next\r\nSet-Cookie: session=1\r\nSet-Cookie2: session=2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = Proxy::start(&home, &["work", "--for", &format!("{}/v1", api.url)]);
    let (host, key) = (proxy.host(), &proxy.key);
    let reply = proxy.send(&format!(
        "GET /v1/a HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nCookie: a=b\r\nCookie2: c=d\r\nProxy-Authorization: Basic x\r\n\
         Authorization: Bearer mine\r\nConnection: close\r\n\r\n"
    ));
    assert!(reply.contains(&format!("location: http://{host}/v1/caf%C3%A9?a=b\r\n")), "{reply}");
    assert!(reply.contains(&format!("link: <http://{host}/v1?page=2>; rel=next\r\n")), "{reply}");
    assert!(!reply.to_ascii_lowercase().contains("cookie"), "{reply}");
    let arrived = api.arrived();
    assert_eq!(arrived.len(), 1, "the redirect is not followed");
    let head = arrived[0].head.to_ascii_lowercase();
    for field in ["cookie", "proxy-authorization", "forwarded", "x-authctl-key", "origin", "mine"] {
        assert!(!head.contains(field), "{field}: {head}");
    }
    assert_eq!(arrived[0].header("authorization"), Some(&*format!("Bearer {}", home.token("work"))));
}

/// The peer's user is checked, even where the socket's permissions let others connect.
#[test]
fn another_user_gets_no_response_on_the_socket() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let directory = tempfile::Builder::new().prefix("authctl-test-").tempdir_in("/tmp").unwrap();
    let socket = directory.path().join("api.sock");
    let proxy = Proxy::start(&home, &["work", "--for", &api.url, "--listen", &format!("unix:{}", socket.display())]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket) & 0o077, 0, "no other user may connect");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let key = &proxy.key;
    let request = format!("GET / HTTP/1.1\r\nHost: any\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n\r\n");
    let program = "import socket, sys\ns = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])\n\
                   try: s.sendall(sys.argv[2].encode()); print(repr(s.recv(100)))\n\
                   except (BrokenPipeError, ConnectionResetError): print(repr(b''))";
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", program]);
    let output = other.arg(&socket).arg(&request).stdin(Stdio::null()).output().expect("setpriv");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "b''", "{output:?}");
    assert!(api.arrived().is_empty());
    let mut own = UnixStream::connect(&socket).unwrap();
    own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    own.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    own.read_to_string(&mut reply).unwrap();
    assert_eq!(status(&reply), 200, "{reply}");
}

/// Whatever is written in place of the path, the server gets one that the rule allows, in every reading.
#[test]
fn no_spelling_of_a_path_gets_past_a_rule() {
    let (home, _idp) = logged_in();
    let api = Recorder::start(OK);
    let proxy = Proxy::start(&home, &["work", "--for", &format!("{}/v1", api.url), "--allow", "GET /v1/public/**"]);
    let steps = [
        "..",
        "%2e%2e",
        ".%2E",
        "%252e%252e",
        "..%2f",
        "..%5c",
        "..\\",
        "..;",
        "..;a=b",
        "..%3b",
        "..%20",
        "..%00",
        "..%3f",
        "..%23",
        "%c0%ae%c0%ae",
        "..%c0%af",
        "%e0%80%ae.",
        "%u002e.",
        "%ef%bc%8e.",
        "%e2%80%a5",
        "..%e2%88%95",
        ".",
        "",
    ];
    for step in steps {
        for path in [
            format!("/v1/public/{step}/admin"),
            format!("/v1/public/{step}admin"),
            format!("/v1/public/a/{step}/{step}/admin"),
            format!("/v1/public{step}/admin"),
            format!("/v1/{step}/public/{step}/admin"),
        ] {
            let (status, body) = proxy.get(&path);
            assert!(matches!(status, 200 | 400 | 403), "{path}: {status} {body}");
        }
    }
    for request in api.arrived() {
        let path = request.head.split(' ').nth(1).unwrap();
        assert!(path.starts_with("/v1/public/"), "{path}");
        // However often a server decodes it.
        let mut read = path.to_owned();
        for _ in 0..4 {
            let names: Vec<&str> = read.split(['/', '\\', ';', '?', '#']).map(str::trim_end).collect();
            assert!(names.iter().all(|name| !matches!(*name, "." | "..")), "{path} as {read}");
            read = percent_encoding::percent_decode_str(&read).decode_utf8_lossy().into_owned();
        }
        assert!(
            !["%c0", "%e0", "%ef", "%e2", "%u"].iter().any(|other| path.to_ascii_lowercase().contains(other)),
            "{path}"
        );
    }
}
