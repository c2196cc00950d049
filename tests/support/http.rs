//! A minimal HTTP client, independent of the one in authctl.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Sends a GET request and returns status and body.
#[track_caller]
pub fn get(url: &str, headers: &[&str]) -> (u16, String) {
    send("GET", url, headers, "")
}

/// Sends a form with POST and returns status and body.
#[track_caller]
pub fn post(url: &str, form: &str) -> (u16, String) {
    send("POST", url, &["Content-Type: application/x-www-form-urlencoded"], form)
}

#[track_caller]
fn send(method: &str, url: &str, headers: &[&str], body: &str) -> (u16, String) {
    let (status, _, body) = exchange(method, url, headers, body);
    (status, body)
}

/// Sends a request and returns status, head and body.
#[track_caller]
pub fn exchange(method: &str, url: &str, headers: &[&str], body: &str) -> (u16, String, String) {
    let (host, path) = url.strip_prefix("http://").expect("http").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("connected");
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a body");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    assert!(!chunked, "the response is in chunks, which this client does not decode: {reply}");
    (status, head.to_owned(), body.to_owned())
}
