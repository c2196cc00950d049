//! Input at the terminal and on stdin: typed lines and secrets.

use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Programs on Windows begin text with it.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// The terminal's settings before a prompt changed them, to be restored if the program ends during the prompt.
static BEFORE_PROMPT: Mutex<Option<Termios>> = Mutex::new(None);

/// Notified when a prompt for a secret has restored the settings itself.
static ANSWERED: Condvar = Condvar::new();

/// How long to wait for that after Ctrl-C: a prompt without input never restores them.
const RESTORE_LIMIT: Duration = Duration::from_millis(100);

/// How long the rest of what was pasted may take to arrive.
const PASTE_LIMIT: Duration = Duration::from_millis(200);

/// The maximum length of typed text, in bytes.
const MAX_TYPED: usize = 1 << 20;

/// The maximum length of a line with a secret on stdin, in bytes.
const MAX_SECRET: usize = 4096;

/// Reads a secret without echo; `None` at the end of the input. Calls `prompt` when the terminal is ready.
pub(super) fn read_secret(echo: Echo, prompt: impl FnOnce()) -> Result<Option<Secret>, AskInterrupted> {
    let interrupted = Arc::default();
    let typed = unbuffered(echo, |settings| {
        prompt();
        let key = |index| settings.special_codes[index];
        let (end, interrupt) = (key(SpecialCodeIndex::VEOF), key(SpecialCodeIndex::VINTR));
        let keys = Keys { end, interrupt, interrupted: Arc::clone(&interrupted) };
        let config = rpassword::ConfigBuilder::new().input_reader(keys).output_discard().build();
        rpassword::read_password_with_config(config).ok()
    });
    // The Enter of the user is not shown.
    let _ = writeln!(io::stderr());
    if interrupted.load(Ordering::Relaxed) { Err(AskInterrupted) } else { Ok(typed.flatten().map(Secret::new)) }
}

/// The keys typed at the terminal. rpassword itself would leave the line mode only after its prompt: Ctrl-D typed before that
/// arrives as 0, which it ignores.
struct Keys {
    /// The key that ends the input, which rpassword expects to be Ctrl-D.
    end: u8,
    /// The key that interrupts, which arrives where the terminal sends no signal for it, and whether it was pressed.
    interrupt: u8,
    interrupted: Arc<AtomicBool>,
}

/// The user pressed Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskInterrupted;

impl Read for Keys {
    /// Reads one key: what follows the line is not this prompt's.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const CTRL_D: u8 = 4;
        let Some(key) = buffer.first_mut() else { return Ok(0) };
        let length = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut *std::slice::from_mut(key)))?;
        let is_interrupt = length > 0 && *key == self.interrupt;
        self.interrupted.fetch_or(is_interrupt, Ordering::Relaxed);
        if is_interrupt {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length > 0 && (*key == 0 || *key == self.end) {
            *key = CTRL_D;
        }
        Ok(length)
    }
}

/// What is read at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A line.
    Line,
    /// Everything up to Ctrl-D, without echo.
    Everything,
}

/// Reads what is typed at the terminal, a line without its line break; `None` at the end of the input. Calls `begin` when the
/// terminal is ready: what is typed from then on, by a program for example, is not shown if it may not be.
///
/// The terminal's own line mode would cut a line after 4,095 bytes, which addresses and token responses exceed.
#[must_use]
pub fn read_terminal(input: Input, begin: impl FnOnce()) -> Option<Zeroizing<Vec<u8>>> {
    let is_shown = input == Input::Line;
    unbuffered(if is_shown { Echo::On } else { Echo::Off }, |settings| {
        let key = |index| settings.special_codes[index];
        let (erase, kill) = (key(SpecialCodeIndex::VERASE), key(SpecialCodeIndex::VKILL));
        let end = key(SpecialCodeIndex::VEOF);
        begin();
        // Never moved to a larger allocation, which would leave a copy.
        let mut typed = Zeroizing::new(Vec::with_capacity(MAX_TYPED));
        let mut byte = [0];
        let ended = loop {
            match rustix::io::read(io::stdin(), &mut byte) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => break true,
                // Typed before the line mode was left, Ctrl-D arrives as 0.
                Ok(_) if byte[0] == end || byte[0] == 0 => break true,
                Ok(_) if matches!(byte[0], b'\n' | b'\r') && is_shown => break false,
                Ok(_) if [erase, 8, 127].contains(&byte[0]) => {
                    let text = String::from_utf8_lossy(&typed);
                    if let Some(last) = text.chars().next_back() {
                        let left = typed.len().saturating_sub(last.len_utf8());
                        typed.truncate(left);
                    }
                    // The terminal has shown the key as two characters.
                    if is_shown {
                        let _ = write!(io::stderr(), "\u{8}\u{8}\u{8}   \u{8}\u{8}\u{8}");
                    }
                }
                Ok(_) if byte[0] == kill => {
                    typed.clear();
                    let _ = writeln!(io::stderr());
                }
                Ok(_) if typed.len() < MAX_TYPED => typed.push(byte[0]),
                Ok(_) => {}
            }
        };
        if ended && typed.is_empty() { None } else { Some(typed) }
    })
    .flatten()
}

/// Whether the terminal shows what is typed, and whether Ctrl-C sends a signal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    On,
    Off,
    OffWithoutSignals,
}

/// Calls `read` with the terminal in the mode in which each key arrives at once, and with its settings before that, which are
/// restored afterwards. Returns `None` if stdin is no terminal.
fn unbuffered<T>(echo: Echo, read: impl FnOnce(&Termios) -> T) -> Option<T> {
    let stdin = io::stdin();
    let settings = termios::tcgetattr(&stdin).ok()?;
    let mut unbuffered = settings.clone();
    unbuffered.local_modes.remove(LocalModes::ICANON);
    unbuffered.local_modes.set(LocalModes::ECHO, echo == Echo::On);
    if echo == Echo::OffWithoutSignals {
        unbuffered.local_modes.remove(LocalModes::ISIG);
    }
    unbuffered.special_codes[SpecialCodeIndex::VMIN] = 1;
    unbuffered.special_codes[SpecialCodeIndex::VTIME] = 0;
    if let Ok(mut before) = BEFORE_PROMPT.lock() {
        let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &unbuffered);
        before.get_or_insert_with(|| settings.clone());
    }
    let result = read(&settings);
    if let Ok(mut before) = BEFORE_PROMPT.lock()
        && let Some(settings) = before.take()
    {
        let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &settings);
    }
    ANSWERED.notify_all();
    Some(result)
}

pub(super) fn into_text(typed: Zeroizing<Vec<u8>>) -> Option<String> {
    std::str::from_utf8(&typed).ok().map(str::to_owned)
}

/// Returns whether more has arrived at the terminal or on stdin than what was read. Waits a moment for it: what was pasted
/// together does not arrive at once.
#[must_use]
pub fn has_more_input() -> bool {
    let has_arrived = || {
        let stdin = io::stdin();
        let limit = Timespec { tv_sec: 0, tv_nsec: PASTE_LIMIT.subsec_nanos().into() };
        // Ready at the end of the input too.
        let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&limit));
        rustix::io::ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0)
    };
    unbuffered(Echo::On, |_| has_arrived()).unwrap_or_else(has_arrived)
}

/// Reads a line from stdin, typed or piped, without its line break and nothing beyond it; `None` at the end of the input.
#[must_use]
pub fn read_stdin_line() -> Option<String> {
    let line = read_stdin_bytes(MAX_TYPED)?;
    Some(std::str::from_utf8(&line).ok()?.trim_end_matches('\r').to_owned())
}

/// Reads the bytes of a line on stdin, at most `max`; `None` at the end of the input.
fn read_stdin_bytes(max: usize) -> Option<Zeroizing<Vec<u8>>> {
    // Never moved to a larger allocation, which would leave a copy.
    let mut line = Zeroizing::new(Vec::with_capacity(max));
    let mut byte = [0];
    while let Ok(1) = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut byte)) {
        if byte[0] == b'\n' || line.len() == max {
            return Some(line);
        }
        line.push(byte[0]);
    }
    (!line.is_empty()).then_some(line)
}

/// Reads a line from stdin and nothing beyond it, which may be for another program; `None` without one.
#[must_use]
pub fn read_stdin_secret() -> Option<Secret> {
    let line = read_stdin_bytes(MAX_SECRET)?;
    let text = std::str::from_utf8(&line).ok()?.trim_start_matches(BYTE_ORDER_MARK).trim_end_matches('\r');
    (!text.is_empty()).then(|| Secret::new(text.to_owned()))
}

/// Restores the terminal's echo if a question was interrupted; returns whether one was, whose line is then ended.
pub fn restore_terminal() -> bool {
    let Ok(before) = BEFORE_PROMPT.lock() else { return false };
    if let Ok((mut before, _)) = ANSWERED.wait_timeout_while(before, RESTORE_LIMIT, |before| before.is_some())
        && let Some(settings) = before.take()
    {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        let _ = writeln!(io::stderr());
        return true;
    }
    false
}

/// Does the same after a signal, and ends the line on which the terminal has shown Ctrl-C as `^C`.
pub fn end_interrupted_line(is_interactive: bool) {
    if !restore_terminal() && is_interactive {
        let _ = writeln!(io::stderr());
    }
}
