//! A stub HTTP server for behaviour that the embedded issuer does not have.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub body: String,
}

/// A response, with JSON unless its headers have another `content-type`. The headers are lines that end with CRLF.
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl From<(u16, String)> for Reply {
    fn from((status, body): (u16, String)) -> Self {
        Self { status, headers: String::new(), body }
    }
}

/// A server on loopback that stops when dropped.
pub struct StubServer {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StubServer {
    /// Starts an issuer that serves only metadata, without a device authorization endpoint.
    pub fn without_device_grant() -> Self {
        Self::start(|own, request| match request.path.as_str() {
            "/.well-known/openid-configuration" => {
                let at = |name: &str| format!("{own}/{name}");
                let metadata = serde_json::json!({
                    "issuer": own,
                    "authorization_endpoint": at("authorize"),
                    "token_endpoint": at("token"),
                    "jwks_uri": at("jwks"),
                });
                (200, metadata.to_string())
            }
            _ => (404, "{}".into()),
        })
    }

    /// Starts a server. `respond` returns the status and JSON for the server's URL and a request.
    pub fn start<R: Into<Reply>>(respond: impl Fn(&str, &Request) -> R + Send + 'static) -> Self {
        Self::start_with("connection: close\r\n", respond)
    }

    /// Starts a server whose responses have this `Date`.
    pub fn with_date(date: &str, respond: impl Fn(&str, &Request) -> (u16, String) + Send + 'static) -> Self {
        Self::start_with(&format!("date: {date}\r\nconnection: close\r\n"), respond)
    }

    /// Starts a server that does not announce when it closes a connection, and closes it at the moment when a second
    /// request arrives.
    pub fn closing_unannounced(respond: impl Fn(&str, &Request) -> (u16, String) + Send + 'static) -> Self {
        Self::start_with("", respond)
    }

    fn start_with<R: Into<Reply>>(headers: &str, respond: impl Fn(&str, &Request) -> R + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (own, seen, stopped) = (url.clone(), Arc::clone(&requests), Arc::clone(&stop));
        let headers = headers.to_owned();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = serve(stream, &headers, &own, &seen, &respond);
            }
        });
        Self { url, requests, stop, thread: Some(thread) }
    }

    /// Returns the received requests.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

fn serve<R: Into<Reply>>(
    stream: TcpStream,
    headers: &str,
    own: &str,
    seen: &Mutex<Vec<Request>>,
    respond: &impl Fn(&str, &Request) -> R,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let request = read(&mut reader)?;
    seen.lock().expect("not poisoned").push(request.clone());
    let Reply { status, headers: own_headers, body } = respond(own, &request).into();
    let json = if own_headers.contains("content-type:") { "" } else { "content-type: application/json\r\n" };
    let head = format!("HTTP/1.1 {status} x\r\n{json}content-length: {}\r\n{headers}{own_headers}\r\n", body.len());
    reader.get_mut().write_all(head.as_bytes())?;
    reader.get_mut().write_all(body.as_bytes())?;
    if headers.is_empty() {
        // Until the client closes the connection or sends a request.
        reader.fill_buf()?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, authorization, body: String::from_utf8_lossy(&body).into_owned() })
}

impl Drop for StubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
