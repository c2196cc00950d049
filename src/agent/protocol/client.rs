//! A client of the agent that uses only the standard library: one connection, one request, one reply of limited size.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::de::DeserializeOwned;

use super::messages::Problem;
use super::socket::owner_of;
use crate::clock::{Clock as _, SystemClock, TimeLimit};
use crate::secret::SecretBytes;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Another user listens on the socket.
    #[error("the agent's socket belongs to the user with ID {0}")]
    WrongOwner(u32),
    /// The agent did not reply in time.
    #[error("the agent does not respond")]
    NoResponse,
    /// The reply is incomplete or invalid.
    #[error("the agent sent an invalid reply")]
    InvalidResponse,
}

/// A connection to the agent.
#[derive(Debug)]
pub struct AgentClient {
    stream: UnixStream,
    home_id: String,
}

/// A reply of any status. Its body may contain a token.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: SecretBytes,
}

/// How long a busy agent may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The maximum size of a reply with its headers, in bytes.
const MAX_BYTES: usize = 4 << 20;

impl AgentClient {
    /// Connects to the agent at `path`; returns `None` if none listens. `home_id` identifies the home, see
    /// [`super::home_id`].
    ///
    /// # Errors
    /// [`ClientError`] if another user listens, or the agent is too busy to accept.
    pub fn connect(path: &Path, home_id: String) -> Result<Option<Self>, ClientError> {
        let Ok(address) = SocketAddrUnix::new(path) else { return Ok(None) };
        let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
        else {
            return Ok(None);
        };
        let _ = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
        // On a Unix socket the send timeout also limits connect.
        let _ = set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_LIMIT));
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::TIMEDOUT) => return Err(ClientError::NoResponse),
            Err(_) => return Ok(None),
        }
        let owner = owner_of(&socket).map_err(|_| ClientError::InvalidResponse)?;
        if owner != rustix::process::geteuid().as_raw() {
            return Err(ClientError::WrongOwner(owner));
        }
        Ok(Some(Self { stream: UnixStream::from(socket), home_id }))
    }

    /// Sends a request and reads the reply. If there is none after `delay`, calls `waiting` once, which decides whether to
    /// wait for `limit` more.
    ///
    /// # Errors
    /// [`ClientError::NoResponse`] or [`ClientError::InvalidResponse`].
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&SecretBytes>,
        delay: Duration,
        limit: Duration,
        waiting: impl FnOnce() -> bool,
    ) -> Result<Reply, ClientError> {
        let length =
            body.map(|body| format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.expose().len()));
        let mut request = SecretBytes::new(
            format!(
                "{method} {target} HTTP/1.1\r\nHost: authctl\r\nAuthctl-Home: {}\r\n{}\r\n",
                self.home_id,
                length.as_deref().unwrap_or_default()
            )
            .into_bytes(),
        );
        if let Some(body) = body {
            request.extend(body.expose());
        }
        // An agent that refuses connections may have replied and closed before it read the request.
        let _ = self.stream.write_all(request.expose());
        let mut received = SecretBytes::default();
        let mut waiting = Some(waiting);
        // For the whole reply, however slowly it arrives.
        let mut time = TimeLimit::new(delay, SystemClock.monotonic());
        loop {
            if let Some(reply) = complete(received.expose())? {
                return Ok(reply);
            }
            let mut piece = [0u8; 4096];
            let Some(step) = time.next_step(SystemClock.monotonic()) else {
                let go_on = waiting.take().is_some_and(|waiting| waiting());
                if !go_on {
                    return Err(ClientError::NoResponse);
                }
                time = TimeLimit::new(limit, SystemClock.monotonic());
                continue;
            };
            match self.stream.set_read_timeout(Some(step)).and_then(|()| self.stream.read(&mut piece)) {
                Ok(0) => return Err(ClientError::InvalidResponse),
                Ok(length) => {
                    received.extend(&piece[..length]);
                    zeroize::Zeroize::zeroize(&mut piece[..length]);
                    if received.expose().len() > MAX_BYTES {
                        return Err(ClientError::InvalidResponse);
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(_) => return Err(ClientError::InvalidResponse),
            }
        }
    }
}

impl Reply {
    /// Returns whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the body as `T`, or the problem document in it.
    ///
    /// # Errors
    /// [`ClientError::InvalidResponse`] if it is neither.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Result<T, Problem>, ClientError> {
        let body = self.body.expose();
        if self.is_success() {
            return serde_json::from_slice(body).map(Ok).map_err(|_| ClientError::InvalidResponse);
        }
        serde_json::from_slice(body).map(Err).map_err(|_| ClientError::InvalidResponse)
    }
}

/// Returns the response once it is complete (RFC 9112, sections 4 to 6). The agent always sends `Content-Length`.
fn complete(received: &[u8]) -> Result<Option<Reply>, ClientError> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..end]).map_err(|_| ClientError::InvalidResponse)?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or(ClientError::InvalidResponse)?;
    let length: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or(ClientError::InvalidResponse)?;
    let body = &received[end + 4..];
    match body.len() {
        there if there < length => Ok(None),
        _ => Ok(Some(Reply { status, body: SecretBytes::new(body[..length].to_vec()) })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_is_complete_only_with_its_whole_body() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-LENGTH: 2\r\n\r\n{}";
        for cut in 0..whole.len() {
            assert!(complete(&whole[..cut]).expect("so far it is an answer").is_none(), "{cut}");
        }
        let reply = complete(whole).expect("an answer").expect("whole");
        assert_eq!((reply.status, reply.body.expose()), (200, b"{}".as_slice()));
    }

    #[test]
    fn invalid_reply_is_an_error() {
        for bad in [
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 2",
            "HTTP/1.1 20x\r\ncontent-length: 0\r\n\r\n",
        ] {
            let text = format!("{bad}\r\n\r\n");
            assert!(complete(text.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn reply_that_arrives_a_byte_at_a_time_is_limited_as_a_whole() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let (limit, mut client) = (Duration::from_millis(200), AgentClient { stream: near, home_id: String::new() });
        let dripping = std::thread::spawn(move || {
            while far.write_all(b"x").is_ok() {
                std::thread::park_timeout(limit / 10);
            }
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut asked = 0;
            let reply = client.request("GET", "/v1/agent", None, limit, limit, || {
                asked += 1;
                true
            });
            sender.send((asked, reply.map(|reply| reply.status)))
        });
        let (asked, reply) = receiver.recv_timeout(Duration::from_secs(30)).expect("it ends");
        assert!(asked == 1 && matches!(reply, Err(ClientError::NoResponse)), "{asked}, {reply:?}");
        dripping.join().expect("ended");
    }

    #[test]
    fn reply_longer_than_the_limit_is_invalid() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("agent.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let mut client = AgentClient::connect(&path, String::new()).expect("connected").expect("listens");
        let (sender, receiver) = std::sync::mpsc::channel();
        let limit = Duration::from_secs(10);
        std::thread::spawn(move || sender.send(client.request("GET", "/v1/token", None, limit, limit, || true).err()));
        let error = receiver.recv_timeout(Duration::from_secs(30)).expect("it does not read for ever");
        assert!(matches!(error, Some(ClientError::InvalidResponse)), "{error:?}");
    }

    /// With a full backlog, connecting neither succeeds nor fails.
    #[cfg(target_os = "linux")]
    #[test]
    fn connecting_to_an_agent_that_does_not_accept_times_out() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("agent.sock");
        let address = SocketAddrUnix::new(&path).expect("short");
        let socket = |flags| rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let listener = socket(SocketFlags::CLOEXEC).expect("made");
        rustix::net::bind(&listener, &address).expect("bound");
        rustix::net::listen(&listener, 0).expect("listens");
        let mut waiting = Vec::new();
        let full = loop {
            let one = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).expect("made");
            match rustix::net::connect(&one, &address) {
                Ok(()) => waiting.push(one),
                Err(error) => break error,
            }
        };
        assert_eq!(full, Errno::AGAIN);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(AgentClient::connect(&path, String::new())));
        let result = receiver.recv_timeout(Duration::from_secs(30)).expect("it does not wait for ever");
        assert!(matches!(result, Err(ClientError::NoResponse)), "{result:?}");
    }
}
