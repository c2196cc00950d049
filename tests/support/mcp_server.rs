//! An MCP server on loopback whose responses a test writes itself.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{LIMIT, wait_until};

/// A received request.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Received {
    /// Returns the message, or null without one.
    pub fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the method of the message, else that of HTTP.
    pub fn what(&self) -> String {
        self.message()["method"].as_str().map_or_else(|| self.method.clone(), str::to_owned)
    }

    /// Returns a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// The open connection of a request, which is closed when this is dropped.
pub struct Reply(TcpStream);

impl Reply {
    /// Sends a whole response with these additional header lines.
    pub fn send(mut self, status: u16, headers: &str, kind: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} x\r\n{headers}content-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let _ = self.0.write_all(head.as_bytes()).and_then(|()| self.0.write_all(body.as_bytes()));
    }

    /// Sends a JSON body.
    pub fn json(self, status: u16, body: &Value) {
        self.send(status, "", "application/json", &body.to_string());
    }

    /// Begins a stream of events.
    pub fn stream(mut self) -> Stream {
        let head = "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        let _ = self.0.write_all(head.as_bytes());
        Stream(self.0)
    }
}

/// A stream of events. It breaks off unless it is ended.
pub struct Stream(TcpStream);

impl Stream {
    /// Sends text of the stream; returns whether the client still reads it.
    pub fn send(&mut self, text: &str) -> bool {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(chunk.as_bytes()).is_ok()
    }

    /// Sends a message.
    pub fn message(&mut self, message: &Value) -> bool {
        self.send(&format!("data: {message}\n\n"))
    }

    /// Ends the stream.
    pub fn end(mut self) {
        let _ = self.0.write_all(b"0\r\n\r\n");
    }

    /// Waits until the client closes the connection.
    pub fn wait_until_closed(&mut self) {
        self.0.set_read_timeout(Some(LIMIT)).expect("set");
        let read = self.0.read(&mut [0; 64]);
        assert!(matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
}

/// A server that stops when dropped.
pub struct McpServer {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    stop: Arc<AtomicBool>,
}

impl McpServer {
    /// Starts a server. `respond` is called on a thread for each request, with how many there were before.
    pub fn start(respond: impl Fn(usize, &Received, Reply) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
        let (received, stop) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, respond) = (Arc::clone(&received), Arc::clone(&stop), Arc::new(respond));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, respond) = (Arc::clone(&seen), Arc::clone(&respond));
                std::thread::spawn(move || {
                    let Some((request, reply)) = read(stream) else { return };
                    let before = {
                        let mut seen = seen.lock().expect("not poisoned");
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    respond(before, &request, reply);
                });
            }
        });
        Self { url, received, stop }
    }

    /// Starts a server that takes any token, begins the session `s1`, offers no stream, and answers requests with `{}`.
    pub fn simple() -> Self {
        Self::start(|_, request, reply| answer(request, reply))
    }

    /// Returns the requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// Returns what the requests so far were, in order.
    pub fn log(&self) -> Vec<String> {
        self.received().iter().map(Received::what).collect()
    }

    /// Waits for a request, and returns the first.
    #[track_caller]
    pub fn wait_for(&self, what: &str) -> Received {
        wait_until(what, || self.received().into_iter().find(|request| request.what() == what))
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://").trim_end_matches("/mcp"));
    }
}

/// Answers as [`McpServer::simple`].
pub fn answer(request: &Received, reply: Reply) {
    let message = request.message();
    match (request.method.as_str(), message["method"].as_str()) {
        ("GET", _) => reply.send(405, "", "text/plain", "no stream"),
        ("DELETE", _) => reply.send(200, "", "text/plain", ""),
        (_, Some("initialize")) => {
            let version = message["params"]["protocolVersion"].as_str().unwrap_or("2025-11-25");
            let result =
                json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
            let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
            reply.send(200, "mcp-session-id: s1\r\n", "application/json", &body.to_string());
        }
        _ if message["id"].is_null() || message["method"].is_null() => reply.send(202, "", "text/plain", ""),
        _ => reply.json(200, &json!({"jsonrpc": "2.0", "id": message["id"], "result": {}})),
    }
}

fn read(stream: TcpStream) -> Option<(Received, Reply)> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text: &String| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some((Received { method, path, headers, body }, Reply(reader.into_inner())))
}
