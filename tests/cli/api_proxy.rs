//! `authctl proxy` and `authctl exec --proxy`: requests get the session's token, and their senders never do.

mod attacks;
mod bound;
mod command;
mod rules;
mod service;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::stub_server::{Reply, Request, StubServer};
use crate::support::{AUTHCTL, Sandbox, quick_issuer};

/// A running proxy.
struct Proxy {
    child: Child,
    /// Its URL with the API's path, or `unix:` and its socket.
    address: String,
    key: String,
    _stdout: BufReader<ChildStdout>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

/// Returns a home that is logged in to the profile `work`.
fn logged_in() -> (Sandbox, DevIssuer) {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    (home, idp)
}

impl Proxy {
    fn for_api(home: &Sandbox, api: &str) -> Self {
        Self::start(home, &["work", "--for", api])
    }

    fn start(home: &Sandbox, args: &[&str]) -> Self {
        Self::start_with(home, args, |mut stderr| {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        })
    }

    /// Starts a proxy whose stderr is read like this.
    fn start_with(home: &Sandbox, args: &[&str], read: impl FnOnce(ChildStderr) -> String + Send + 'static) -> Self {
        let mut command = home.command(&[&["proxy"], args].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let stderr = child.stderr.take().expect("piped");
        let stderr = std::thread::spawn(move || read(stderr));
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line");
            line.trim_end().to_owned()
        };
        let address = line();
        let key = match args.iter().position(|arg| arg.starts_with("--key-file")) {
            Some(at) => {
                let file = args[at].split_once('=').map_or_else(|| args[at + 1], |(_, file)| file);
                std::fs::read_to_string(file).expect("a key")
            }
            None => line(),
        };
        assert!(!key.is_empty(), "the proxy printed an address and a key");
        Self { child, address, key, _stdout: stdout, stderr: Some(stderr) }
    }

    /// Asks it to stop, and returns what it printed on stderr.
    fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("running");
        wait_until("the proxy to exit", || self.child.try_wait().expect("a child"));
        self.stderr.take().and_then(|stderr| stderr.join().ok()).expect("text")
    }

    fn host(&self) -> &str {
        self.address.trim_start_matches("http://").split('/').next().expect("a host")
    }

    /// Sends these bytes and returns everything that comes back before the connection closes.
    fn send(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.host()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream.write_all(bytes.as_bytes()).expect("sent");
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// Sends a request with the key; returns its status and body.
    fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (host, key, length) = (self.host(), &self.key, body.len());
        let text = self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        (status(&text), text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// An API that answers each request with its path, and takes any token.
fn api() -> StubServer {
    StubServer::start(|_, request: &Request| Reply {
        status: 200,
        headers: String::new(),
        body: serde_json::json!({ "path": request.path }).to_string(),
    })
}

/// An API that refuses one token, which the test sets, or every token if that is `*`.
fn refusing_api() -> (StubServer, Arc<Mutex<String>>) {
    let refused = Arc::new(Mutex::new(String::new()));
    let token = Arc::clone(&refused);
    let server = StubServer::start(move |_, request: &Request| {
        let refused = token.lock().expect("not poisoned");
        let is_refused = *refused == "*" || request.authorization.as_deref() == Some(&format!("Bearer {refused}"));
        Reply {
            status: if is_refused { 401 } else { 200 },
            headers: if is_refused {
                "www-authenticate: Bearer error=\"invalid_token\"\r\n".into()
            } else {
                String::new()
            },
            body: serde_json::json!({ "body": request.body }).to_string(),
        }
    });
    (server, refused)
}

#[test]
fn api_gets_the_sessions_token_and_not_the_callers_credentials() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::start(&home, &["work", "--for", &format!("{}/v1", api.url)]);
    assert_eq!(proxy.get("/v1/items?x=1"), (200, r#"{"path":"/v1/items?x=1"}"#.into()));
    let (host, key) = (proxy.host(), &proxy.key);
    let bearer = proxy.send(&format!(
        "GET /v1/a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    ));
    assert_eq!(status(&bearer), 200);
    let token = format!("Bearer {}", home.token("work"));
    let seen: Vec<Option<String>> = api.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(seen, [Some(token.clone()), Some(token)]);
}

#[test]
fn only_the_api_can_be_reached() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::start(&home, &["work", "--for", &format!("{}/v1", api.url)]);
    for (path, expected) in [
        ("/v2", 403),
        ("/", 403),
        ("/v1/../v2", 403),
        ("/v1/%2e%2e/v2", 403),
        ("/v1/..%2fv2", 400),
        ("//v1", 400),
        ("/v1//evil.example", 400),
        ("/v1/%252e%252e/v2", 400),
        ("/v1/..;/v2", 400),
        ("/v1/..\\v2", 400),
        ("*", 400),
    ] {
        assert_eq!(proxy.get(path).0, expected, "{path}");
    }
    assert_eq!(proxy.request("TRACE", "/v1", "").0, 403, "the response would contain the token");
    assert!(api.requests().is_empty());
}

#[test]
fn printed_address_can_be_reached_where_the_url_ends_with_a_slash() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &format!("{}/v1/", api.url));
    assert!(proxy.address.ends_with("/v1"), "clients append paths to it: {}", proxy.address);
    for (path, expected) in [("/v1", 200), ("/v1/", 200), ("/v1/a", 200), ("/v10", 403)] {
        assert_eq!(proxy.get(path).0, expected, "{path}");
    }
    assert_eq!(proxy.request(&"M".repeat(3000), "/v10", "").0, 403);
    let log = proxy.stop();
    assert!(log.contains("/v10 -> 403"), "{log}");
    assert!(log.lines().all(|line| line.len() < 200), "a caller chooses the method: {log}");
}

#[test]
fn request_of_another_caller_is_refused() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    let (host, key) = (proxy.host(), &proxy.key);
    let own = format!("Host: {host}\r\n");
    let with_key = format!("{own}X-Authctl-Key: {key}\r\n");
    for (target, headers, expected) in [
        ("/", own.clone(), 401),
        ("/", format!("{own}X-Authctl-Key: wrong\r\n"), 401),
        ("/", format!("{own}Authorization: Bearer wrong\r\n"), 401),
        (&*format!("/?key={key}&X-Authctl-Key={key}"), own.clone(), 401),
        ("/", format!("Host: evil.example\r\nX-Authctl-Key: {key}\r\n"), 421),
        ("/", format!("{own}{with_key}"), 421),
        ("http://evil.example/", with_key.clone(), 421),
        ("/", format!("{with_key}Origin: null\r\n"), 403),
        ("/", format!("{with_key}Origin: http://evil.example\r\n"), 403),
    ] {
        let reply = proxy.send(&format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"));
        assert_eq!(status(&reply), expected, "{target} {headers}: {reply}");
        assert!(!reply.to_ascii_lowercase().contains("access-control"), "{reply}");
    }
    assert!(api.requests().is_empty());
    assert_eq!(proxy.get("/").0, 200);
}

#[test]
fn refused_token_is_refreshed_once_for_all_callers() {
    let (home, idp) = logged_in();
    let (api, refused) = refusing_api();
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/").0, 200);
    *refused.lock().unwrap() = home.token("work");
    let before = idp.stats().requests["token"];
    std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| proxy.request("POST", "/upload", "the whole body"))).collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), (200, r#"{"body":"the whole body"}"#.into()));
        }
    });
    assert_eq!(idp.stats().requests["token"] - before, 1);
}

#[test]
fn token_that_is_refused_although_new_is_not_refreshed_again() {
    let (home, idp) = logged_in();
    let (api, refused) = refusing_api();
    *refused.lock().unwrap() = "*".into();
    let proxy = Proxy::for_api(&home, &api.url);
    let before = idp.stats().requests["token"];
    for _ in 0..5 {
        assert_eq!(proxy.get("/").0, 401);
    }
    assert_eq!(idp.stats().requests["token"] - before, 1);
    assert_eq!(api.requests().len(), 6, "one request was sent again");
}

#[test]
fn several_proxies_refresh_a_refused_token_once() {
    let (home, idp) = logged_in();
    let _agent = Agent::start(&home);
    let (api, refused) = refusing_api();
    let proxies = [0; 3].map(|_| Proxy::for_api(&home, &api.url));
    let all = || proxies.iter().map(|proxy| proxy.get("/").0).collect::<Vec<_>>();
    let token = home.token("work");
    assert_eq!(all(), [200; 3]);
    *refused.lock().unwrap() = token;
    let before = idp.stats().requests["token"];
    assert_eq!(all(), [200; 3]);
    assert_eq!(idp.stats().requests["token"] - before, 1, "the others take the new token");
    *refused.lock().unwrap() = "*".into();
    for _ in 0..3 {
        assert_eq!(all(), [401; 3]);
    }
    let refreshes = idp.stats().requests["token"] - before;
    assert!(refreshes <= 3, "{refreshes} refreshes: at most one of each proxy");
}

#[test]
fn slow_refresh_delays_no_request_with_a_valid_token() {
    let (home, idp) = logged_in();
    let api = StubServer::start(|_, request: &Request| Reply {
        status: if request.path == "/refused" { 401 } else { 200 },
        headers: String::new(),
        body: String::new(),
    });
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/").0, 200);
    let before = idp.stats().requests["token"];
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Hold, times: 1 });
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| proxy.get("/refused").0);
        wait_until("the refresh", || (idp.stats().requests["token"] > before).then_some(()));
        // The cached token is asked for again after a second.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(2) {
            assert_eq!(proxy.get("/").0, 200);
        }
        assert!(!refused.is_finished(), "it still waits");
        idp.clear_faults();
        assert_eq!(refused.join().unwrap(), 401);
    });
}

#[test]
fn waiting_requests_share_the_failure_of_a_refresh() {
    let (home, idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    home.expire("work");
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Hang, times: 100 });
    let before = idp.stats().requests["token"];
    let (host, key) = (proxy.host(), &proxy.key);
    let started = Instant::now();
    let callers = [0; 5].map(|_| {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n\r\n").unwrap();
        stream
    });
    for mut caller in callers {
        let mut reply = String::new();
        caller.read_to_string(&mut reply).unwrap();
        assert!(matches!(status(&reply), 502 | 503), "{reply}");
    }
    // One after another they would take 100 s.
    assert!(started.elapsed() < Duration::from_secs(50), "{:?}", started.elapsed());
    assert_eq!(idp.stats().requests["token"] - before, 1);
}

#[test]
fn unread_log_does_not_stop_the_proxy() {
    let (home, _idp) = logged_in();
    let api = api();
    for (log, key, expected) in [("--verbose", "", 200), ("-vv", "", 200), ("--color=never", "wrong", 401)] {
        let (end, ended) = mpsc::channel::<()>();
        let proxy = Proxy::start_with(&home, &["work", "--for", &api.url, log], move |_unread| {
            let _ = ended.recv();
            String::new()
        });
        // More than a pipe holds.
        let path = "x".repeat(5_000);
        let (host, key) = (proxy.host(), format!("{}{key}", proxy.key));
        for _ in 0..300 {
            let reply = proxy.send(&format!(
                "GET /{path} HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n\r\n"
            ));
            assert_eq!(status(&reply), expected, "{log}");
        }
        assert_eq!(proxy.get("/").0, 200);
        kill_process(Pid::from_child(&proxy.child), Signal::TERM).unwrap();
        let mut proxy = proxy;
        assert!(wait_until("the proxy to exit", || proxy.child.try_wait().unwrap()).success(), "{log}");
        drop(end);
    }
}

#[test]
fn request_for_another_sign_in_is_passed_on() {
    let (home, idp) = logged_in();
    let api = StubServer::start(|_, _: &Request| Reply {
        status: 401,
        headers: "www-authenticate: Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\"\r\n".into(),
        body: "{}".into(),
    });
    let proxy = Proxy::for_api(&home, &api.url);
    let before = idp.stats().requests["token"];
    let (host, key) = (proxy.host(), &proxy.key);
    let reply =
        proxy.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: close\r\n\r\n"));
    assert!(reply.contains("acr_values=\"gold\""), "{reply}");
    assert_eq!((idp.stats().requests["token"], api.requests().len()), (before, 1));
}

#[test]
fn session_that_needs_a_login_is_a_problem_with_the_command() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    home.run(&["logout", "work"]).exits(0);
    let answer = wait_until("the logout to take effect", || Some(proxy.get("/")).filter(|(status, _)| *status != 200));
    assert_eq!(answer.0, 503);
    let problem: serde_json::Value = serde_json::from_str(&answer.1).unwrap();
    assert_eq!(
        (problem["code"].as_str(), problem["hint"].as_str()),
        (Some("login_required"), Some("authctl login work"))
    );
}

#[test]
fn rules_limit_methods_paths_and_numbers() {
    let (home, _idp) = logged_in();
    let api = api();
    let url = &api.url;
    let rules = ["work", "--for", url, "--allow", "GET /v1/*", "--allow", "POST /v1/search", "--max-requests", "3"];
    let proxy = Proxy::start(&home, &rules);
    for (method, path, expected) in [
        ("GET", "/v1/items", 200),
        ("POST", "/v1/search", 200),
        ("POST", "/v1/items", 403),
        ("DELETE", "/v1/search", 403),
        ("GET", "/v1/a/b", 403),
        ("GET", "/v1/items", 200),
        ("GET", "/v1/items", 429),
    ] {
        assert_eq!(proxy.request(method, path, "").0, expected, "{method} {path}");
    }
    let read_only = Proxy::start(&home, &["work", "--for", url, "--read-only"]);
    assert_eq!((read_only.get("/").0, read_only.request("POST", "/", "").0), (200, 403));
    for (args, text) in [
        (&["--for", "http://api.example"][..], "https"),
        (&["--for", url, "--listen", "0.0.0.0:0"], "other machines"),
        (&["--for", url, "--allow", "GET"], "invalid rule"),
        (&["--listen", "127.0.0.1:0"], "--for"),
    ] {
        home.run(&[&["proxy", "work"], args].concat()).exits(2).reports(text);
    }
}

#[test]
fn proxies_are_listed_and_stopped() {
    let (home, _idp) = logged_in();
    let api = api();
    let mut one = Proxy::for_api(&home, &api.url);
    let socket = home.path().join("api.sock");
    let listen = format!("unix:{}", socket.display());
    let mut two = Proxy::start(&home, &["work", "--for", &api.url, "--listen", &listen]);
    let listed = home.run(&["proxy", "list", "--json"]).exits(0).json();
    let addresses: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|entry| entry["address"].as_str()).collect();
    assert_eq!(addresses, [&*one.address, &listen]);
    assert!(!listed.to_string().contains(&one.key));
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"GET /by-socket HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("/by-socket"), "{reply}");
    home.run(&["proxy", "stop", &listen]).exits(0);
    wait_until("the proxy to exit", || two.child.try_wait().unwrap());
    assert!(!socket.exists());
    home.run(&["proxy", "stop", "http://127.0.0.1:1"]).exits(2).reports("no proxy runs at");
    // Two in containers, where both know themselves by the same PID.
    let container = ["--user", "--map-root-user", "--pid", "--fork"];
    let inside = |args: &[&str]| {
        let args = [&container[..], args].concat();
        home.spawn_command(home.command_for("unshare", &args), &args)
    };
    let others = [(); 2].map(|()| inside(&[AUTHCTL, "proxy", "work", "--for", &api.url]));
    for other in &others {
        other.wait_for_output("its address", |text| text.contains("http://").then_some(()));
    }
    // The processes outside have no PID in a container, or another process has theirs.
    let refused = inside(&[AUTHCTL, "proxy", "stop", &one.address, "--json"]).wait().exits(1);
    refused.reports(&format!("may be in another container: {}", one.address));
    let stopped = home.run(&["proxy", "stop", "--json"]).exits(0).json();
    assert_eq!(stopped.as_array().map(Vec::len), Some(3), "{stopped}");
    wait_until("the proxy to exit", || one.child.try_wait().unwrap());
    for other in others {
        other.wait().exits(0);
    }
    assert_eq!(home.run(&["proxy", "stop", "--json"]).exits(0).json(), serde_json::json!([]));
    home.run(&["proxy", "stop"]).exits(0).reports("no proxy is running");
    home.run(&["proxy", "list"]).exits(0).reports("no proxy is running");
}

#[test]
fn killed_proxy_is_not_listed() {
    let (home, _idp) = logged_in();
    let api = api();
    let mut proxy = Proxy::for_api(&home, &api.url);
    kill_process(Pid::from_child(&proxy.child), Signal::KILL).unwrap();
    proxy.child.wait().unwrap();
    home.run(&["proxy", "list"]).exits(0).reports("no proxy is running");
}
