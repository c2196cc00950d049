//! The broker of an agent: a process of the same program that is not confined and does the few things that a confined agent may
//! not do itself.
//!
//! A request names neither a program nor an arbitrary file: the broker reads the configuration itself, and runs and opens only
//! what is configured there. So an agent that has been taken over cannot use it to run or to read anything else.
//!
//! Each request has a socket of its own, whose other end goes to the broker; closing it cancels the request.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::secret::SecretBytes;

/// What an agent asks its broker to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum BrokerRequest {
    /// Open a file that the configuration names.
    Open {
        /// The file.
        path: String,
    },
    /// Write the token in the payload to a token file.
    WriteToken {
        /// The file.
        path: String,
    },
    /// Remove a token file.
    RemoveToken {
        /// The file.
        path: String,
    },
    /// Remove the agent's socket.
    RemoveSocket,
    /// Return the executables of a process and its parent.
    Identify {
        /// The process.
        pid: u32,
    },
    /// Run the hook of a profile, with the event in the payload.
    Hook {
        /// The profile.
        profile: String,
        /// Whether it is the hook for a session that has ended, else the one for a refresh.
        is_end: bool,
    },
    /// Run the command that prints the identity token of a workload.
    Workload {
        /// The profile.
        profile: String,
    },
    /// Show the notification that a profile needs a login.
    Notify {
        /// The profile.
        profile: String,
    },
    /// Ask the user, by a notification, whether to log in to a profile.
    Ask {
        /// The profile.
        profile: String,
    },
    /// Log in to a profile with the browser.
    LogIn {
        /// The profile.
        profile: String,
    },
}

/// How a request ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum BrokerOutcome {
    /// It is done; of `Open`, the file comes with it.
    Done,
    /// It failed, with the error number of the system, if there is one.
    Failed(Option<i32>, String),
    /// A program ended, with this status of wait(2), or none if it was killed at a limit, and this on stderr.
    Ended(Option<i32>, String),
    /// The executables of a process and its parent.
    Identified(Option<String>, Option<String>),
}

/// The response to a request.
#[derive(Debug)]
pub struct BrokerResponse {
    /// How it ended.
    pub outcome: BrokerOutcome,
    /// What a program printed.
    pub output: SecretBytes,
    /// The file that was opened.
    pub file: Option<File>,
}

/// The channel to this process's broker.
static CHANNEL: OnceLock<UnixStream> = OnceLock::new();

/// The maximum length of a message or of its payload, in bytes.
const MAX_LENGTH: u32 = 256 * 1024;

/// How long a broker may take for what needs no other program and no file.
const QUICK_LIMIT: Duration = Duration::from_secs(1);

/// How often a caller that waits is asked whether it still does.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a message of a request may take to arrive.
const MESSAGE_LIMIT: Duration = Duration::from_secs(10);

/// Sends the requests of this process to the broker at the other end of `channel`.
///
/// # Errors
/// Of the system.
pub fn connect(channel: UnixStream) -> io::Result<()> {
    channel.set_write_timeout(Some(QUICK_LIMIT))?;
    let _ = CHANNEL.set(channel);
    Ok(())
}

/// Waits until this process's broker has ended.
pub fn wait_for_end() {
    if let Some(channel) = CHANNEL.get() {
        // It sends nothing on the channel.
        let _ = (&mut &*channel).read(&mut [0]);
    }
}

/// Returns whether this process has a broker.
pub fn is_connected() -> bool {
    CHANNEL.get().is_some()
}

/// A request that the broker is working on.
#[derive(Debug)]
pub struct PendingRequest(UnixStream);

/// Cancels a request, even while another thread waits for its response.
#[derive(Debug)]
pub struct Canceller(UnixStream);

impl Canceller {
    /// Cancels the request. Has no effect once it has ended.
    pub fn cancel(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl PendingRequest {
    /// Sends a request.
    ///
    /// # Errors
    /// If there is no broker, or it does not take the request.
    pub fn start(request: &BrokerRequest, payload: &[u8]) -> io::Result<Self> {
        let channel = CHANNEL.get().ok_or(io::ErrorKind::NotConnected)?;
        let (ours, theirs) = UnixStream::pair()?;
        send_descriptor(channel, &theirs)?;
        drop(theirs);
        // Afterwards, so that a message that is longer than the buffer of a socket is read.
        ours.set_write_timeout(Some(MESSAGE_LIMIT))?;
        write_message(&ours, request, payload)?;
        Ok(Self(ours))
    }

    /// Does the same on a thread for blocking calls, for a request without a payload. Also returns what cancels it when it is
    /// dropped.
    ///
    /// # Errors
    /// As [`PendingRequest::start`] and [`PendingRequest::canceller`].
    pub async fn start_unblocked(request: BrokerRequest) -> io::Result<(Canceller, Self)> {
        let start = move || Self::start(&request, &[]).and_then(|pending| Ok((pending.canceller()?, pending)));
        tokio::task::spawn_blocking(start).await.map_err(io::Error::other).flatten()
    }

    /// Returns what cancels the request when it is dropped.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn canceller(&self) -> io::Result<Canceller> {
        self.0.try_clone().map(Canceller)
    }

    /// Waits for the response. An `Outcome::Failed` becomes the error.
    ///
    /// # Errors
    /// Of the request, or if the broker has ended.
    pub fn wait(self) -> io::Result<BrokerResponse> {
        let file = receive_descriptor(&self.0)?;
        let (outcome, output) = read_message(&self.0)?;
        match outcome {
            BrokerOutcome::Failed(Some(code), _) => Err(io::Error::from_raw_os_error(code)),
            BrokerOutcome::Failed(None, message) => Err(io::Error::other(message)),
            outcome => Ok(BrokerResponse { outcome, output, file: file.map(File::from) }),
        }
    }
}

impl PendingRequest {
    /// Does the same as [`PendingRequest::wait`], and cancels the request once `is_abandoned` returns true.
    ///
    /// # Errors
    /// As [`PendingRequest::wait`], or [`io::ErrorKind::TimedOut`] if it is cancelled.
    pub fn wait_unless(self, is_abandoned: impl Fn() -> bool) -> io::Result<BrokerResponse> {
        while !has_input(&self.0, CHECK_INTERVAL)? {
            if is_abandoned() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.wait()
    }
}

/// Returns whether the agent no longer waits for the response to a request that it has sent.
pub fn is_canceled(socket: &UnixStream) -> bool {
    // It sends nothing more on this socket, and then closes it.
    has_input(socket, Duration::ZERO).unwrap_or(true)
}

/// Waits until there is something to read or the other end is closed; returns whether that is so within `limit`.
///
/// # Errors
/// Of the system.
pub fn has_input(descriptor: &impl AsFd, limit: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let limit = Timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
    let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&limit)))?;
    Ok(ready > 0)
}

/// Sends a request and waits for its response.
///
/// # Errors
/// As [`PendingRequest::start`] and [`PendingRequest::wait`].
pub fn call(request: &BrokerRequest, payload: &[u8]) -> io::Result<BrokerResponse> {
    PendingRequest::start(request, payload)?.wait()
}

/// Opens a file for reading that this process may not open itself.
///
/// # Errors
/// As opening it, or if the configuration does not name it.
pub fn open(path: &Path) -> io::Result<File> {
    let path = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    call(&BrokerRequest::Open { path }, &[])?.file.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns the executables of a process and its parent, if the system shows them.
#[cfg(target_os = "linux")]
pub fn identify(pid: u32) -> (Option<String>, Option<String>) {
    let identified = PendingRequest::start(&BrokerRequest::Identify { pid }, &[]).and_then(|pending| {
        pending.0.set_read_timeout(Some(QUICK_LIMIT))?;
        pending.wait()
    });
    match identified.map(|response| response.outcome) {
        Ok(BrokerOutcome::Identified(executable, parent)) => (executable, parent),
        _ => (None, None),
    }
}

/// Waits for the next request. Returns `None` when the agent has ended.
///
/// # Errors
/// Of the system.
pub fn accept(channel: &UnixStream) -> io::Result<Option<UnixStream>> {
    loop {
        match receive_descriptor(channel) {
            Ok(Some(socket)) => return Ok(Some(UnixStream::from(socket))),
            // The system drops a descriptor for which this process has too many: that request fails.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the request on a socket of its own.
///
/// # Errors
/// If it is malformed.
pub fn read_request(socket: &UnixStream) -> io::Result<(BrokerRequest, SecretBytes)> {
    socket.set_read_timeout(Some(MESSAGE_LIMIT))?;
    let request = read_message(socket)?;
    socket.set_read_timeout(None)?;
    Ok(request)
}

/// Responds to a request.
///
/// # Errors
/// If the agent no longer waits.
pub fn respond(socket: &UnixStream, outcome: &BrokerOutcome, output: &[u8], file: Option<&File>) -> io::Result<()> {
    match file {
        Some(file) => send_descriptor(socket, file)?,
        None => (&mut &*socket).write_all(&[0])?,
    }
    write_message(socket, outcome, output)
}

/// Writes the lengths of a JSON text and of its payload, and then both.
fn write_message(mut socket: &UnixStream, message: &impl Serialize, payload: &[u8]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_LENGTH);
    let lengths = length(&text).zip(length(payload)).ok_or(io::ErrorKind::InvalidInput)?;
    socket.write_all(&lengths.0.to_le_bytes())?;
    socket.write_all(&lengths.1.to_le_bytes())?;
    socket.write_all(&text)?;
    socket.write_all(payload)
}

fn read_message<T: for<'a> Deserialize<'a>>(mut socket: &UnixStream) -> io::Result<(T, SecretBytes)> {
    let mut lengths = [[0; 4]; 2];
    for length in &mut lengths {
        socket.read_exact(length)?;
    }
    let read = |length: [u8; 4]| {
        let length = u32::from_le_bytes(length);
        let mut bytes = SecretBytes::with_capacity(length.min(MAX_LENGTH) as usize);
        let read = io::copy(&mut socket.take(u64::from(length.min(MAX_LENGTH))), &mut bytes)?;
        if read == u64::from(length) { Ok(bytes) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
    };
    let (text, payload) = (read(lengths[0])?, read(lengths[1])?);
    Ok((serde_json::from_slice(text.expose())?, payload))
}

/// Sends one byte, with a descriptor.
fn send_descriptor(socket: &UnixStream, descriptor: &impl AsFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives one byte, with the descriptor that came with it, if any.
fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    #[cfg(not(target_os = "macos"))]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(target_os = "macos")]
    let flags = RecvFlags::empty();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received =
        rustix::io::retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags))?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let descriptor = descriptors.next();
    if let Some(descriptor) = &descriptor {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(descriptor)
}
