//! APIs behind nginx, and behind HTTP/2 over TLS with a private authority.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Api, Proxy, parsed};
use crate::agent_support::{KillOnDrop, output_of};
use crate::oidc_provider::Authority;
use crate::support::free_port;
use crate::support::process::{LIMIT, wait_until};
use crate::support::{Sandbox, http, parts, quick_issuer};

/// Starts nginx as an API that takes tokens; returns its address.
fn nginx(home: &Sandbox) -> (KillOnDrop, String) {
    let (dir, port) = (home.path().join("nginx"), free_port());
    let files = dir.join("files/v1");
    fs::create_dir_all(&files).expect("made");
    fs::write(files.join("text"), "a line\n".repeat(100_000)).expect("written");
    let configuration = format!(
        "daemon off; master_process off; error_log stderr; pid nginx.pid;
         events {{}}
         http {{
             access_log off; client_body_temp_path body; proxy_temp_path a; fastcgi_temp_path b; uwsgi_temp_path c; scgi_temp_path d;
             gzip on; gzip_proxied any; gzip_types text/plain; default_type text/plain;
             keepalive_requests 3; client_max_body_size 2m;
             server {{
                 listen 127.0.0.1:{port};
                 root files;
                 if ($http_authorization !~ \"^Bearer .\") {{ return 401; }}
                 location /v1/moved {{ return 302 /v1/text; }}
                 location /v1/elsewhere {{ return 302 https://elsewhere.example/; }}
                 location /v1/uploads/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
                 location = /v1/ready {{ return 204; }}
             }}
         }}"
    );
    fs::write(dir.join("nginx.conf"), configuration).expect("written");
    let mut command = Command::new(parts::program("nginx"));
    command.arg("-p").arg(&dir).args(["-c", "nginx.conf", "-e", "stderr"]).stdin(Stdio::null()).stderr(Stdio::null());
    let process = KillOnDrop(command.spawn().expect("nginx"));
    let url = format!("http://127.0.0.1:{port}/v1");
    wait_until("nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    assert_eq!(http::get(&format!("{url}/ready"), &[]).0, 401, "it wants a token");
    (process, url)
}

#[test]
fn nginx_is_used_through_the_proxy() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    let (_nginx, url) = nginx(&home);
    let proxy = Proxy::start(&home, &url);
    let text = "a line\n".repeat(100_000);
    // Each connection ends after three requests.
    for _ in 0..10 {
        assert_eq!(proxy.curl(&["-o", "/dev/null", "-w", "%{http_code}"], "/ready"), "204");
    }
    assert!(proxy.curl(&[], "/text") == text);
    let compressed = proxy.curl(&["-H", "Accept-Encoding: gzip", "-o", "/dev/null", "-D", "-"], "/text");
    assert!(compressed.to_ascii_lowercase().contains("content-encoding: gzip"), "it comes as it is: {compressed}");
    assert!(proxy.curl(&["--compressed"], "/text") == text);
    assert_eq!(proxy.curl(&["-r", "7-12"], "/text"), "a line");
    let tag = proxy.curl(&["-I"], "/text").lines().find_map(|line| line.strip_prefix("etag: ").map(str::to_owned));
    let condition = format!("If-None-Match: {}", tag.expect("an ETag"));
    assert_eq!(proxy.curl(&["-H", &condition, "-w", "%{http_code}"], "/text"), "304");
    let file = home.path().join("upload");
    fs::write(&file, vec![7; 1_500_000]).expect("written");
    let file = file.to_str().expect("text");
    assert_eq!(proxy.curl(&["-T", file, "-w", "%{http_code}"], "/uploads/a/file"), "201");
    assert!(fs::read(home.path().join("nginx/files/v1/uploads/a/file")).expect("stored") == vec![7; 1_500_000]);
    // nginx refuses this one before it has arrived.
    fs::File::create(file).expect("made").set_len(64 << 20).expect("sized");
    let refused = proxy.curl(&["-T", file, "-o", "/dev/null", "-w", "%{http_code}"], "/uploads/a/large");
    assert_eq!(refused, "413");
    // A redirect on the same origin leads through the proxy again.
    assert!(proxy.curl(&["-L"], "/moved") == text);
    let elsewhere = proxy.curl(&["-w", "%{redirect_url}", "-o", "/dev/null"], "/elsewhere");
    assert_eq!(elsewhere, "https://elsewhere.example/");
}

/// Starts an API with HTTP/2 whose connections have at most 100 streams.
fn http2_api(authority: &Authority) -> Api {
    let tls = json!({"cert": authority.path("server.pem"), "key": authority.path("server.key")});
    Api::with_options(&json!({"tls": tls, "http2": {"maxConcurrentStreams": 100}}))
}

/// Starts a proxy for an API with HTTP/2. Its log is the file `log`.
fn http2_proxy() -> (Sandbox, impl Sized, Proxy) {
    let (home, idp, authority) = (Sandbox::new(), quick_issuer(), Authority::new());
    home.log_in("work", &idp);
    let authorities = format!("ca_cert={}", authority.path("ca.pem").display());
    home.run(&["profile", "set", "work", &authorities]).exits(0);
    let api = http2_api(&authority);
    let mut command = home.command(&["proxy", "work", "--for", &api.url]);
    command.stderr(fs::File::create(home.path().join("log")).expect("made"));
    (home, (idp, authority, api), Proxy::of(command))
}

#[test]
fn http2_api_of_a_private_authority_is_used() {
    let (home, idp, authority) = (Sandbox::new(), quick_issuer(), Authority::new());
    home.log_in("work", &idp);
    let mut api = http2_api(&authority);
    let proxy = Proxy::start(&home, &api.url);
    let refused = || assert_eq!(parsed(&proxy.curl(&[], "/item"))["code"], "api");
    refused();
    // A running proxy follows the profile, and the file that it names.
    let (file, another) = (home.path().join("authorities.pem"), Authority::new());
    fs::copy(another.path("ca.pem"), &file).expect("copied");
    home.run(&["profile", "set", "work", &format!("ca_cert={}", file.display())]).exits(0);
    refused();
    fs::copy(authority.path("ca.pem"), &file).expect("copied");
    wait_until("the new authority", || proxy.curl(&[], "/item").contains("\"version\":\"2.0\"").then_some(()));
    let seen = parsed(&proxy.curl(&["-d", "abc"], "/item?a=b"));
    assert_eq!(
        (&seen["version"], &seen["path"], &seen["length"]),
        (&"2.0".into(), &"/v1/item?a=b".into(), &3.into()),
        "{seen}"
    );
    assert_eq!(
        seen["headers"]["host"].as_str().or(seen["headers"][":authority"].as_str()),
        api.url[8..].split('/').next()
    );
    // What gRPC asks for, beside its status in a trailer (below).
    let with_trailers = parsed(&proxy.curl(&["-H", "TE: trailers", "-d", "abc"], "/item"));
    assert_eq!(with_trailers["headers"]["te"], "trailers", "{with_trailers}");
    assert_eq!(with_trailers["headers"]["connection"], serde_json::Value::Null, "{with_trailers}");
    // Many streams of one connection, in both directions at the same time.
    let size = 8 << 20;
    let upload = home.path().join("upload");
    fs::File::create(&upload).expect("made").set_len(size).expect("sized");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let path = format!("/download?bytes={size}");
                assert_eq!(proxy.curl(&["-o", "/dev/null", "-w", "%{size_download}"], &path), size.to_string());
                let uploaded = output_of(&mut proxy.curl_command(&["-T", upload.to_str().expect("text")], "/up"));
                assert_eq!(parsed(&uploaded.expect("a response"))["length"], size);
            });
        }
    });
    let trailers = proxy.curl(&["-i", "--raw", "-H", "TE: trailers"], "/trailers");
    assert!(trailers.to_ascii_lowercase().contains("x-digest: abc"), "{trailers}");
    let mut curl = KillOnDrop(proxy.curl_command(&["-N"], "/stream").stdout(Stdio::piped()).spawn().expect("curl"));
    let mut lines = crate::support::process::Lines::of(curl.0.stdout.take().expect("piped"));
    assert_eq!(lines.next().as_deref(), Some(": open"));
    api.order("event");
    assert_eq!(lines.find(|line| !line.is_empty()).as_deref(), Some("data: 0"));
}

#[test]
fn request_that_an_http2_api_refuses_is_sent_again() {
    let (home, _api, proxy) = http2_proxy();
    for by in ["stream", "connection"] {
        for (args, length) in [(&["-X", "DELETE"][..], 0), (&["-d", "abc"], 3)] {
            let seen = parsed(&proxy.curl(args, &format!("/refused/{by}?{length}")));
            assert_eq!(seen["length"], length, "{by}: {seen}");
        }
        let upload = home.path().join("upload");
        fs::File::create(&upload).expect("made").set_len(2 << 20).expect("sized");
        let large = proxy.curl(&["-T", upload.to_str().expect("text")], &format!("/refused/{by}?large"));
        assert_eq!(parsed(&large)["code"], "api", "so much of a request is not recorded");
    }
}

#[test]
fn full_http2_connection_delays_no_request() {
    let (_home, _api, proxy) = http2_proxy();
    let host = proxy.url.trim_start_matches("http://").trim_end_matches("/v1");
    let streams: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(host).expect("connected");
            stream.set_read_timeout(Some(LIMIT)).expect("set");
            let request = format!("GET /v1/stream HTTP/1.1\r\nHost: {host}\r\n{}\r\n\r\n", proxy.key_header());
            stream.write_all(request.as_bytes()).expect("sent");
            let begins = BufReader::new(&stream).lines().any(|line| line.expect("a line") == ": open");
            assert!(begins);
            stream
        })
        .collect();
    assert_eq!(proxy.curl(&["--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}"], "/item"), "200");
    drop(streams);
}

#[test]
fn http2_response_that_breaks_off_is_logged() {
    let (home, _api, proxy) = http2_proxy();
    let curl = proxy.curl_command(&[], "/short").output().expect("curl");
    assert_eq!(curl.status.code(), Some(18), "the caller sees it too: {curl:?}");
    wait_until("the log", || {
        let log = fs::read_to_string(home.path().join("log")).expect("readable");
        log.contains("GET /v1/short -> 200 (failed: api)").then_some(())
    });
}
