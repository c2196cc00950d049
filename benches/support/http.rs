//! A minimal HTTP/1.1 client for the agent's socket and for servers on loopback.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::{LIMIT, connect};

/// The header of a form.
pub const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A complete reply.
pub struct Reply {
    pub status: u16,
    /// Status line and headers, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns a header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Returns the headers with lower-case names.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
    }

    /// Returns a string member of a JSON body.
    pub fn member(&self, name: &str) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body[name].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request to the agent on a new connection.
#[track_caller]
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Reply {
    let mut stream = connect(socket).expect("the agent's socket");
    exchange(&mut stream, &request(method, path, "authctl", "", body)).expect("a reply")
}

/// Sends a request to `origin`, such as `http://HOST:PORT`.
pub fn to_host(origin: &str, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Reply> {
    let host = origin.strip_prefix("http://").ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(LIMIT))?;
    exchange(&mut stream, &request(method, path, host, &format!("Connection: close\r\n{headers}"), body))
}

/// Sends a request to a URL.
pub fn to_url(url: &str, method: &str, headers: &str, body: &str) -> io::Result<Reply> {
    let host = url.strip_prefix("http://").ok_or(io::ErrorKind::InvalidInput)?;
    let end = host.find(['/', '?']).unwrap_or(host.len());
    let path = if host[end..].starts_with('/') { host[end..].to_owned() } else { format!("/{}", &host[end..]) };
    to_host(&format!("http://{}", &host[..end]), method, &path, headers, body)
}

/// Returns the bytes of a request.
pub fn request(method: &str, path: &str, host: &str, headers: &str, body: &str) -> Vec<u8> {
    let length =
        if body.is_empty() && method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}\r\n{body}").into_bytes()
}

/// Sends a request and reads its reply, up to its Content-Length or else to the end.
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<Reply> {
    stream.write_all(request)?;
    read(stream)
}

/// Reads one reply.
pub fn read(stream: &mut impl Read) -> io::Result<Reply> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
    let mut whole = None;
    while whole.is_none_or(|whole| bytes.len() < whole) {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            if whole.is_some_and(|whole| whole != usize::MAX) || head_end(&bytes).is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            break;
        }
        bytes.extend_from_slice(&piece[..length]);
        if whole.is_none() {
            whole = head_end(&bytes).map(|end| content_length(&bytes[..end]).map_or(usize::MAX, |body| end + body));
        }
    }
    let end = head_end(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&bytes[..end - 4]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Reply { status, head, body: bytes.split_off(end) })
}

/// Returns the offset of the body.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Returns the Content-Length in a head.
pub fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}
