//! Test support: a server of fixed responses and a clock that does not wait.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::http_response::HttpResponse;
use super::{Delivery, Http, IssuerError, OAuthClient, Phase};
use crate::clock::{Clock, Sleep, SystemClock, UnixTime};

/// Sends one fixed response per connection, in order, and records the requests. After the last response it closes
/// connections.
pub(super) struct TestServer {
    pub(super) url: Url,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    /// Serves `answers`; an empty one closes the connection.
    pub(super) async fn start(answers: Vec<String>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), answers)
    }

    /// Serves `answers` on an existing listener.
    pub(super) fn on(listener: TcpListener, answers: Vec<String>) -> Self {
        let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                seen.lock().expect("unpoisoned").push(request);
                let _ = stream.write_all(answers.next().unwrap_or_default().as_bytes()).await;
            }
        });
        Self { url, requests }
    }

    /// Returns the requests so far, head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("unpoisoned").clone()
    }

    /// Returns the body of request `n`, counted from 0.
    pub(super) fn body(&self, n: usize) -> String {
        self.requests()[n].split_once("\r\n\r\n").expect("a head").1.to_owned()
    }
}

/// Requests a document from a server that sends `answer`.
pub(super) async fn fetch(answer: String) -> Result<HttpResponse, IssuerError> {
    let server = TestServer::start(vec![answer]).await;
    http().get(&server.url, "application/json", None).await
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse().expect("a number"));
            if body.len() >= length {
                return so_far;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return so_far,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Returns a response with JSON.
pub(super) fn json(status: u16, body: &str) -> String {
    answer(status, "content-type: application/json\r\n", body)
}

/// Returns a response with these header lines.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Returns an address of this machine that refuses connections.
pub(super) async fn unused_address() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid")
}

pub(super) fn http() -> Http {
    Http::new(None).expect("needs no file")
}

pub(super) fn cli() -> OAuthClient {
    OAuthClient::public("cli")
}

/// A clock that moves forward by each wait instead of waiting.
pub(crate) struct TestClock {
    start: Instant,
    waits: Mutex<Vec<Duration>>,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        Self { start: SystemClock.monotonic(), waits: Mutex::new(Vec::new()) }
    }

    /// Returns the waits so far, in seconds.
    pub(crate) fn waits(&self) -> Vec<u64> {
        self.waits.lock().expect("unpoisoned").iter().map(Duration::as_secs).collect()
    }

    fn passed(&self) -> Duration {
        self.waits.lock().expect("unpoisoned").iter().sum()
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime(1_700_000_000).plus(self.passed())
    }

    fn monotonic(&self) -> Instant {
        self.start + self.passed()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.waits.lock().expect("unpoisoned").push(duration);
        Box::pin(tokio::task::yield_now())
    }

    fn until(&self, moment: UnixTime) -> Sleep {
        self.sleep(self.now().until(moment))
    }
}

/// The JSON of a response and its status, or how far the request came.
pub(crate) type SimulatedReply = Result<(u16, String), Delivery>;

/// An issuer without a network: returns the response to the body of a request.
pub(crate) type SimulatedIssuer =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = SimulatedReply> + Send>> + Send + Sync>;

thread_local! {
    static ISSUER: RefCell<Option<SimulatedIssuer>> = const { RefCell::new(None) };
}

/// Makes `issuer` the receiver of all requests of this thread.
pub(crate) fn simulate_issuer(issuer: Option<SimulatedIssuer>) {
    ISSUER.set(issuer);
}

pub(super) fn simulated_issuer() -> Option<SimulatedIssuer> {
    ISSUER.with_borrow(Clone::clone)
}

/// Sends a request to `issuer`. One without a body is not delivered.
pub(super) async fn exchange(
    issuer: SimulatedIssuer,
    host: &str,
    url: &Url,
    body: Option<(&'static str, Bytes)>,
) -> Result<HttpResponse, IssuerError> {
    let reply = match body {
        Some((_, body)) => issuer(String::from_utf8_lossy(&body).into_owned()).await,
        None => Err(Delivery::NotSent),
    };
    let (status, json) = reply.map_err(|delivery| IssuerError::Unreachable {
        message: "no response".into(),
        proxy: None,
        phase: Phase::Exchange,
        delivery,
    })?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let mut response = HttpResponse::new(host, url, status, &headers);
    response.append(json.as_bytes())?;
    Ok(response)
}
