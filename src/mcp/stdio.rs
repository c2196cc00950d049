//! The client's side: lines on stdin and stdout, each moved by a thread of its own, since reads and writes may block.

use std::io::{self, BufRead, Write as _};

use tokio::sync::{mpsc, oneshot};

use super::MAX_MESSAGE;

/// A line of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its line break.
    Complete(Vec<u8>),
    /// A line longer than [`MAX_MESSAGE`], which is not held.
    TooLong,
}

/// Reads the next line; `None` at the end of the input. What follows the last line break is a line too.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let (mut line, mut is_too_long) = (Vec::new(), false);
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() && line.is_empty() && !is_too_long {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        is_too_long |= line.len() + part.len() > MAX_MESSAGE;
        match is_too_long {
            true => line = Vec::new(),
            false => line.extend_from_slice(part),
        }
        let (length, is_end) = (part.len() + usize::from(end.is_some()), end.is_some() || available.is_empty());
        input.consume(length);
        if is_end {
            return Ok(Some(if is_too_long { Line::TooLong } else { Line::Complete(line) }));
        }
    }
}

/// Starts to read stdin: a line ahead of the last one that was taken. Returns the lines, and what ends with the input.
pub(super) fn read_stdin() -> (mpsc::Receiver<Line>, oneshot::Receiver<()>) {
    let (sender, lines) = mpsc::channel(1);
    let (open, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _open = open;
        let mut input = io::BufReader::with_capacity(64 * 1024, io::stdin().lock());
        while let Ok(Some(line)) = read_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    (lines, end)
}

/// What the thread that writes is sent.
enum Job {
    Line(Vec<u8>),
    /// To be answered when everything before it is written.
    Flushed(oneshot::Sender<()>),
}

/// The client's stdin, to which one message is written at a time.
#[derive(Clone)]
pub(super) struct Output(mpsc::Sender<Job>);

impl Output {
    /// Starts to write to stdout.
    pub(super) fn to_stdout() -> Self {
        let (sender, mut jobs) = mpsc::channel(1);
        std::thread::spawn(move || {
            let mut stdout = io::stdout();
            while let Some(job) = jobs.blocking_recv() {
                match job {
                    Job::Line(mut line) => {
                        line.push(b'\n');
                        if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
                            return;
                        }
                    }
                    Job::Flushed(done) => drop(done.send(())),
                }
            }
        });
        Self(sender)
    }

    /// Writes a line when those before it are written: a sender waits here if the client does not read.
    pub(super) async fn send(&self, line: Vec<u8>) {
        let _ = self.0.send(Job::Line(line)).await;
    }

    /// Waits until everything is written.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.0.send(Job::Flushed(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }

    /// Waits until the client reads no more.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_one_at_a_time_and_long_ones_are_skipped() {
        let mut input = b"a\n\r\n".to_vec();
        input.extend(vec![b'x'; MAX_MESSAGE]);
        input.push(b'\n');
        input.extend(vec![b'y'; MAX_MESSAGE + 1]);
        input.extend(b"\nlast");
        let mut input = io::BufReader::with_capacity(1000, &input[..]);
        let mut next = || read_line(&mut input).expect("readable");
        assert_eq!(next(), Some(Line::Complete(b"a".to_vec())));
        assert_eq!(next(), Some(Line::Complete(b"\r".to_vec())));
        assert!(matches!(next(), Some(Line::Complete(line)) if line.len() == MAX_MESSAGE));
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), Some(Line::Complete(b"last".to_vec())));
        assert_eq!(next(), None);
    }
}
