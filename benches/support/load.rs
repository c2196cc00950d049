//! A load generator: clients on blocking threads that repeat the same requests for every server under test.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::connect;
use super::http::{content_length, head_end};
use super::table::percentile;

/// How much of a reply is looked at, in bytes.
const BEGINNING: usize = 1 << 16;

/// How a reply ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReplyEnd {
    /// HTTP: after its Content-Length.
    Length,
    /// The server closes the connection.
    Close,
    /// The same, and the client closes its sending side first.
    HalfClose,
}

/// One request.
#[derive(Clone)]
pub struct LoadRequest {
    pub bytes: Vec<u8>,
    /// What the reply must contain: the token.
    pub expected: String,
}

/// A server and the requests to send to it.
#[derive(Clone)]
pub struct Target {
    pub socket: PathBuf,
    pub ends: ReplyEnd,
    /// Whether to reuse the connection for the next request.
    pub reused: bool,
    /// Sent in turn.
    pub requests: Vec<LoadRequest>,
}

/// The measurements of the clients.
#[derive(Default)]
pub struct LoadResult {
    /// The latency of each reply, in nanoseconds.
    pub latencies: Vec<u64>,
    pub errors: u64,
    pub first_error: Option<String>,
    pub elapsed: Duration,
}

impl LoadResult {
    pub fn at(&mut self, share: f64) -> Duration {
        Duration::from_nanos(percentile(&mut self.latencies, share))
    }

    pub fn worst(&self) -> Duration {
        Duration::from_nanos(self.latencies.iter().copied().max().unwrap_or_default())
    }

    #[allow(clippy::cast_precision_loss, reason = "for a table")]
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// One client with its connection and the shape of earlier replies.
pub struct Client<'a> {
    target: &'a Target,
    stream: Option<UnixStream>,
    buffer: Vec<u8>,
    /// The last head and the length of its body. The next reply usually has the same.
    head: Vec<u8>,
    body: usize,
    /// Where the token was in the last reply.
    at: usize,
}

impl<'a> Client<'a> {
    pub fn new(target: &'a Target) -> Self {
        Self { target, stream: None, buffer: vec![0; 2 * BEGINNING], head: Vec::new(), body: 0, at: 0 }
    }

    /// Sends a request and checks the reply.
    ///
    /// # Errors
    /// The connection broke, or the reply is not the expected one.
    pub fn request(&mut self, request: &LoadRequest) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.target.socket)?,
        };
        stream.write_all(&request.bytes)?;
        if self.target.ends == ReplyEnd::HalfClose {
            stream.shutdown(Shutdown::Write)?;
        }
        let (mut length, mut whole) = (0, usize::MAX);
        while length < whole {
            // Of a long reply, the first half of the buffer has the beginning, and the rest passes through the second.
            let more = stream.read(&mut self.buffer[length.min(BEGINNING)..])?;
            if more == 0 {
                if self.target.ends == ReplyEnd::Length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                break;
            }
            length += more;
            if whole == usize::MAX && self.target.ends == ReplyEnd::Length {
                whole = self.whole(length);
            }
        }
        self.check(length, &request.expected)?;
        if self.target.reused {
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Returns the length of the reply, or `usize::MAX` until its head is complete.
    fn whole(&mut self, length: usize) -> usize {
        let got = &self.buffer[..length.min(BEGINNING)];
        if !self.head.is_empty() && got.starts_with(&self.head) {
            return self.head.len() + self.body;
        }
        let Some(end) = head_end(got) else { return usize::MAX };
        self.head = got[..end].to_vec();
        self.body = content_length(&self.head).unwrap_or_default();
        end + self.body
    }

    fn check(&mut self, length: usize, expected: &str) -> io::Result<()> {
        let (got, expected) = (&self.buffer[..length.min(BEGINNING)], expected.as_bytes());
        if got.get(self.at..self.at + expected.len()) == Some(expected) {
            return Ok(());
        }
        let found = got.windows(expected.len()).position(|part| part == expected);
        self.at = found.ok_or_else(|| {
            let first = String::from_utf8_lossy(got).lines().next().unwrap_or_default().to_owned();
            io::Error::other(format!("unexpected token: {first}"))
        })?;
        Ok(())
    }
}

/// Runs `clients` threads for `duration`.
pub fn run(target: &Target, clients: usize, duration: Duration) -> LoadResult {
    let start = Barrier::new(clients + 1);
    let (mut all, started) = std::thread::scope(|scope| {
        let send = |client: usize| {
            let start = &start;
            move || {
                start.wait();
                send_until(target, client, Instant::now() + duration)
            }
        };
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(send(client))).collect();
        start.wait();
        let started = Instant::now();
        let mut all = LoadResult::default();
        for client in clients {
            all.add(client.join().expect("a client"));
        }
        (all, started)
    });
    all.elapsed = started.elapsed();
    all
}

fn send_until(target: &Target, first: usize, end: Instant) -> LoadResult {
    let (mut seen, mut client) = (LoadResult::default(), Client::new(target));
    // 7919 is prime, so each request is reached; consecutive requests are for distant profiles.
    let (count, mut next) = (target.requests.len(), first % target.requests.len());
    loop {
        let started = Instant::now();
        if started >= end {
            return seen;
        }
        match client.request(&target.requests[next]) {
            Ok(()) => seen.latencies.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            Err(error) => {
                seen.errors += 1;
                seen.first_error.get_or_insert_with(|| error.to_string());
            }
        }
        next = (next + 7919) % count;
    }
}
