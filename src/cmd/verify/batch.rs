//! Many tokens at once: a line each on stdin, decided on every core, answered in order.
//!
//! One thread reads, as many as there are cores decide, one writes. What is under way is bounded: a reader of the answers
//! who does not read stops the reading of the tokens.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{MAX_BYTES, unreadable};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::verify::{Verdict, VerdictJson};

/// So many lines at most are decided by one thread in one go, and so many bytes, but for a last line that is longer: enough
/// that handing them around costs nothing beside the signatures.
const MAX_LINES: usize = 64;
const MAX_IN_ONE: usize = 256 * 1024;

/// How many such pieces are under way for each core, waiting, being decided, or waiting to be written.
const EACH_CORE: usize = 4;

/// Lines, each as long as it says.
struct Piece {
    /// When it was read: the moment as of which it is decided.
    at: UnixTime,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Piece {
    fn empty() -> Self {
        Self { at: UnixTime(0), bytes: Vec::new(), ends: Vec::new() }
    }
}

/// The decision on one line as of a moment.
type Decide<'d> = dyn Fn(&[u8], UnixTime) -> Verdict + Sync + 'd;

/// What is answered to a piece, and whether all of it was granted.
struct Answers {
    text: Vec<u8>,
    all_valid: bool,
}

/// Decides on each line of stdin as of when it came; whether all of them were granted. `look_again` is called when a second
/// has passed: a stream of tokens may go on for days.
///
/// # Errors
/// [`ErrorCode::Usage`] where stdin cannot be read, [`ErrorCode::Unexpected`] where stdout cannot take the answers; a reader that
/// has gone is no error.
pub(super) fn run(
    now: &dyn Fn() -> UnixTime,
    decide: &Decide<'_>,
    look_again: &dyn Fn(),
    keys_age: Option<Duration>,
) -> Result<bool, Error> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (to_decide, waiting) = mpsc::sync_channel::<(Piece, SyncSender<Answers>)>(cores * EACH_CORE);
    let (in_order, answers) = mpsc::sync_channel::<Receiver<Answers>>(cores * EACH_CORE);
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    // Apart from the match: the next piece is taken by one, and decided without the others waiting.
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((piece, answer)) = next else { return };
                    let _ = answer.send(decided(&piece, decide, keys_age));
                }
            });
        }
        let writer = scope.spawn(move || write(&answers));
        let mut looked = now();
        let read = read(|mut piece| {
            piece.at = now();
            if piece.at != looked {
                looked = piece.at;
                look_again();
            }
            let (answer, answers) = mpsc::sync_channel(1);
            // Who has gone, wants no more answers.
            match in_order.send(answers).is_ok() && to_decide.send((piece, answer)).is_ok() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        drop((to_decide, in_order));
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the answers were not written")));
        read.map_err(unreadable)?;
        written.map_err(|e| {
            let error = anyhow::Error::new(e).context("writing to stdout");
            Error::new(ErrorCode::Unexpected, error, "check where the output goes")
        })
    })
}

/// Reads stdin to its end in pieces: what is there is handed on at once, so that who waits for an answer gets it.
fn read(mut hand_on: impl FnMut(Piece) -> ControlFlow<()>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut piece = Piece::empty();
    loop {
        let begun = piece.bytes.len();
        let length = (&mut input).take(MAX_BYTES as u64 + 2).read_until(b'\n', &mut piece.bytes)?;
        if length > 0 {
            if piece.bytes.last() != Some(&b'\n') && piece.bytes.len() - begun > MAX_BYTES {
                skip_line(&mut input)?;
            }
            piece.ends.push(piece.bytes.len());
        }
        let full = piece.ends.len() >= MAX_LINES || piece.bytes.len() >= MAX_IN_ONE;
        // Another whole line that is here already goes along.
        let more = input.buffer().contains(&b'\n');
        if (length == 0 || full || !more)
            && !piece.ends.is_empty()
            && hand_on(std::mem::replace(&mut piece, Piece::empty())).is_break()
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

fn decided(piece: &Piece, decide: &Decide<'_>, keys_age: Option<Duration>) -> Answers {
    let mut answers = Answers { text: Vec::with_capacity(piece.bytes.len() * 2), all_valid: true };
    let mut begin = 0;
    for end in &piece.ends {
        let verdict = decide(&piece.bytes[begin..*end], piece.at);
        begin = *end;
        answers.all_valid &= verdict.is_granted();
        #[allow(clippy::expect_used, reason = "a verdict is always JSON, and a vector never fails to grow")]
        serde_json::to_writer(&mut answers.text, &VerdictJson::of(&verdict, keys_age)).expect("a verdict is JSON");
        answers.text.push(b'\n');
    }
    answers
}

/// Writes the answers in the order of their pieces; whether all were granted.
fn write(answers: &Receiver<Receiver<Answers>>) -> io::Result<bool> {
    let mut all_valid = true;
    for piece in answers {
        let Ok(answers) = piece.recv() else { return Err(io::Error::other("a token was not decided")) };
        all_valid &= answers.all_valid;
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&answers.text).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
            Err(e) => return Err(e),
        }
    }
    Ok(all_valid)
}
