//! Messages, streams and large bodies in both directions.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Api, Proxy, Setup, chosen, duration, parsed};
use crate::agent_support::{KillOnDrop, output_of};
use crate::support::process::Lines;
use crate::support::{Sandbox, issuer, parts};

#[test]
fn messages_pass_in_both_directions_as_they_are() {
    let Setup { proxy, .. } = &Setup::new();
    let posted = parsed(&proxy.curl(&["-d", "a=b", "-H", "Cookie: c=d", "-H", "X-Own: e"], "/form?x=y"));
    assert_eq!(
        (&posted["method"], &posted["path"], &posted["length"]),
        (&"POST".into(), &"/v1/form?x=y".into(), &3.into())
    );
    let headers = &posted["headers"];
    assert_eq!(
        (&headers["x-own"], &headers["cookie"], &headers["x-authctl-key"]),
        (&"e".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(headers["forwarded"], Value::Null);
    assert!(!proxy.curl(&["-i"], "/cookie").to_ascii_lowercase().contains("set-cookie"));
    assert_eq!(proxy.curl(&["-N"], "/events?count=3"), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    assert_eq!(proxy.curl(&["-r", "0-3"], "/range"), "bytes=0-3");
    let head = proxy.curl(&["-I"], "/download?bytes=12345");
    assert!(head.to_ascii_lowercase().contains("content-length: 12345"), "{head}");
    let trailers = proxy.curl(&["-i", "--raw", "-H", "TE: trailers"], "/trailers");
    assert!(trailers.to_ascii_lowercase().contains("x-digest: abc"), "{trailers}");
    let continued = parsed(&proxy.curl(&["-H", "Expect: 100-continue", "-d", "body"], "/continue"));
    assert_eq!(continued["length"], 4);
}

/// 256 MiB, or `AUTHCTL_PROXY_MIB`.
#[test]
fn large_bodies_pass_in_little_memory() {
    let size = chosen("AUTHCTL_PROXY_MIB", 256) << 20;
    let Setup { home, proxy, .. } = &Setup::new();
    proxy.curl(&[], "/item");
    let before = proxy.memory();
    let received = proxy.curl(&["-o", "/dev/null", "-w", "%{size_download}"], &format!("/download?bytes={size}"));
    assert_eq!(received, size.to_string());
    let file = home.path().join("upload");
    // A file without content takes no space.
    std::fs::File::create(&file).expect("made").set_len(size).expect("sized");
    let uploaded = proxy.curl(&["-T", file.to_str().expect("text")], "/upload");
    assert_eq!(parsed(&uploaded)["length"], size);
    let grown = proxy.memory() - before;
    assert!(grown < 16 << 20, "the proxy grew by {grown} bytes");
}

/// The events come one by one, each after it is ordered, over several lifetimes of a token (`AUTHCTL_PROXY_SECONDS`).
#[test]
fn events_arrive_at_once_and_outlive_the_token() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.access_token_ttl = Duration::from_secs(2));
    home.log_in("work", &idp);
    let mut api = Api::start();
    let proxy = Proxy::start(&home, &api.url);
    let mut command = proxy.curl_command(&["-N"], "/stream");
    let mut curl = KillOnDrop(command.stdout(Stdio::piped()).spawn().expect("curl"));
    let mut lines = Lines::of(curl.0.stdout.take().expect("piped"));
    assert_eq!(lines.next().as_deref(), Some(": open"));
    let (started, mut sent) = (Instant::now(), 0);
    while started.elapsed() < duration() || sent < 3 {
        api.order("event");
        let event = lines.find(|line| !line.is_empty());
        assert_eq!(event, Some(format!("data: {sent}")));
        sent += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    api.order("end");
    assert_eq!(lines.find(|line| !line.is_empty()), None, "the stream has ended");
    assert!(curl.0.wait().expect("ended").success());
    assert_eq!(parsed(&proxy.curl(&[], "/item"))["path"], "/v1/item");
    println!("{sent} events in {} s", started.elapsed().as_secs());
}

/// The client of PyPI's `websocket-client`. It stays connected for `AUTHCTL_PROXY_SECONDS`.
#[test]
fn websocket_passes_through() {
    const CLIENT: &str = "
import os, time, websocket
socket = websocket.create_connection(os.environ['URL'].replace('http', 'ws', 1), timeout=60, header=[os.environ['KEY']],
                                     suppress_origin=True)
end = time.monotonic() + float(os.environ['SECONDS'])
count = 0
while time.monotonic() < end or count < 3:
    text = 'x' * (count % 100) + str(count)
    socket.send(text)
    assert socket.recv() == text
    count += 1
    time.sleep(0.2)
socket.close()
print('echoed')
";
    let Setup { proxy, .. } = &Setup::new();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python-tools/bin/python");
    if !python.is_file() {
        parts::not_installed("websocket-client");
    }
    let mut command = Command::new(python);
    command.args(["-c", CLIENT]).env("URL", format!("{}/socket", proxy.url)).env("KEY", proxy.key_header());
    command.env("SECONDS", duration().as_secs().to_string());
    assert_eq!(output_of(&mut command).expect("echoes").trim(), "echoed");
}
