//! Verifies many tokens, one per line on stdin, on all cores. Prints one verdict per line in the same order.
//!
//! One thread reads, one thread per core verifies, and one thread writes. The queues are bounded: if the verdicts are not
//! read, no more tokens are read.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::input::{MAX_LENGTH, unreadable};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::verify::{MAX_TOKEN_LENGTH, Verdict, VerdictJson};

/// The size of a chunk, in lines and in bytes; a last line may exceed it. It is large enough that passing chunks between
/// threads costs little compared with verifying signatures.
const MAX_CHUNK_LINES: usize = 64;
const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// The number of chunks in a queue, for each core.
const CHUNKS_PER_CORE: usize = 4;

/// Lines that one thread verifies.
struct Chunk {
    /// When they were read: they are verified as of this time.
    at: UnixTime,
    bytes: Vec<u8>,
    /// The end of each line in `bytes`.
    ends: Vec<usize>,
}

impl Chunk {
    fn empty() -> Self {
        Self { at: UnixTime(0), bytes: Vec::new(), ends: Vec::new() }
    }
}

/// Verifies a line as of a time.
type VerifyLine<'d> = dyn Fn(&[u8], UnixTime) -> Verdict + Sync + 'd;

/// The verdicts on a chunk, as JSON lines.
struct Verdicts {
    text: Vec<u8>,
    all_valid: bool,
}

/// Verifies each line of stdin as of the time when it was read; returns whether all tokens are valid. Calls `reload` at most
/// once a second, since a stream of tokens may last for days.
///
/// # Errors
/// [`ErrorCode::Usage`] if stdin cannot be read, [`ErrorCode::Unexpected`] if stdout cannot be written. A closed pipe is not an
/// error.
pub(super) fn run(
    now: &dyn Fn() -> UnixTime,
    verify: &VerifyLine<'_>,
    reload: &dyn Fn(),
    keys_age: Option<Duration>,
) -> Result<bool, Error> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (to_verify, queue) = mpsc::sync_channel::<(Chunk, SyncSender<Verdicts>)>(cores * CHUNKS_PER_CORE);
    let (in_order, verdicts) = mpsc::sync_channel::<Receiver<Verdicts>>(cores * CHUNKS_PER_CORE);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    // A separate statement, so that the mutex is released before the chunk is verified.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((chunk, reply)) = next else { return };
                    let _ = reply.send(verify_chunk(&chunk, verify, keys_age));
                }
            });
        }
        let writer = scope.spawn(move || write(&verdicts));
        let mut reloaded = now();
        let read = read(|mut chunk| {
            chunk.at = now();
            if chunk.at != reloaded {
                reloaded = chunk.at;
                reload();
            }
            let (reply, verdicts) = mpsc::sync_channel(1);
            match in_order.send(verdicts).is_ok() && to_verify.send((chunk, reply)).is_ok() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        drop((to_verify, in_order));
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the verdicts were not written")));
        read.map_err(unreadable)?;
        written.map_err(|e| {
            let error = anyhow::Error::new(e).context("writing to stdout");
            Error::new(ErrorCode::Unexpected, error, Hint::None)
        })
    })
}

/// Reads stdin in chunks. A chunk ends early if no more input is available, so that its verdicts are not delayed.
fn read(mut pass_on: impl FnMut(Chunk) -> ControlFlow<()>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut chunk = Chunk::empty();
    loop {
        let start = chunk.bytes.len();
        let length = (&mut input).take(MAX_LENGTH as u64).read_until(b'\n', &mut chunk.bytes)?;
        if length > 0 {
            if chunk.bytes.last() != Some(&b'\n') && chunk.bytes.len() - start > MAX_TOKEN_LENGTH {
                skip_line(&mut input)?;
            }
            chunk.ends.push(chunk.bytes.len());
        }
        let full = chunk.ends.len() >= MAX_CHUNK_LINES || chunk.bytes.len() >= MAX_CHUNK_BYTES;
        let has_line = input.buffer().contains(&b'\n');
        if (length == 0 || full || !has_line)
            && !chunk.ends.is_empty()
            && pass_on(std::mem::replace(&mut chunk, Chunk::empty())).is_break()
        {
            return Ok(());
        }
        if length == 0 {
            return Ok(());
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn verify_chunk(chunk: &Chunk, verify: &VerifyLine<'_>, keys_age: Option<Duration>) -> Verdicts {
    let mut verdicts = Verdicts { text: Vec::with_capacity(chunk.bytes.len() * 2), all_valid: true };
    let mut start = 0;
    for end in &chunk.ends {
        let verdict = verify(&chunk.bytes[start..*end], chunk.at);
        start = *end;
        verdicts.all_valid &= verdict.is_granted();
        #[allow(clippy::expect_used, reason = "a verdict is always JSON, and a vector never fails to grow")]
        serde_json::to_writer(&mut verdicts.text, &VerdictJson::of(&verdict, keys_age)).expect("a verdict is JSON");
        verdicts.text.push(b'\n');
    }
    verdicts
}

/// Writes the verdicts in the order of their chunks; returns whether all tokens are valid.
fn write(chunks: &Receiver<Receiver<Verdicts>>) -> io::Result<bool> {
    let mut all_valid = true;
    for chunk in chunks {
        let Ok(verdicts) = chunk.recv() else { return Err(io::Error::other("a token was not verified")) };
        all_valid &= verdicts.all_valid;
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&verdicts.text).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
            Err(e) => return Err(e),
        }
    }
    Ok(all_valid)
}
