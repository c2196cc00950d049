//! Messages and prompts for the user at the terminal.

mod input;
mod wrap;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::AtomicBool;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use crate::secret::Secret;
use crate::text::{hide_tokens, sanitize_for_terminal, sanitize_line};
pub use input::{
    AskInterrupted, BYTE_ORDER_MARK, Input, end_interrupted_line, has_more_input, read_stdin_line, read_stdin_secret,
    read_terminal, restore_terminal,
};
use input::{Echo, into_text, read_secret};
pub use wrap::{fill, wrap_after_label};
use wrap::{stderr_width, wrap};

/// Writes to stderr, and prompts if a user can answer. A closed stderr is not an error.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    interactive: bool,
    quiet: bool,
}

/// Set if stdout was closed when the program was started. The standard library then opens `/dev/null` in its place, to which
/// output would be lost without an error.
pub static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Lines for a thread that prints them on stderr, and `None` to end it.
static LINES: OnceLock<mpsc::SyncSender<Option<String>>> = OnceLock::new();

/// How many lines wait for it. More are dropped: a reader that has stopped does not stop the program.
const MAX_LINES: usize = 8192;

/// How long the last lines may take when the program ends.
const PRINT_LIMIT: Duration = Duration::from_secs(1);

impl Ui {
    /// Opens the terminal. It is interactive if stdin and stderr are terminals and input is allowed.
    #[must_use]
    pub fn open(no_input: bool, quiet: bool) -> Self {
        Self { interactive: !no_input && io::stdin().is_terminal() && io::stderr().is_terminal(), quiet }
    }

    /// Returns whether a user can answer.
    #[must_use]
    pub fn is_interactive(self) -> bool {
        self.interactive
    }

    /// Prints progress or a result, unless `--quiet` was given.
    pub fn notice(self, text: &str) {
        if !self.quiet {
            self.instruct(text);
        }
    }

    /// Prints a warning, unless `--quiet` was given. Tokens in it are hidden: it may repeat what was typed, as errors do.
    pub fn warn(self, text: &str) {
        if !self.quiet {
            self.warn_always(text);
        }
    }

    /// Prints a warning even with `--quiet`: of something that is lost, or of what the user has to do.
    pub fn warn_always(self, text: &str) {
        self.instruct(&format!("warning: {}", hide_tokens(text)));
    }

    /// Prints what the user has to do for the command to go on, even with `--quiet`.
    pub fn instruct(self, text: &str) {
        print_line(wrap(&sanitize_for_terminal(text), stderr_width()));
    }

    /// Shows a prompt; the user types on the same line.
    pub fn prompt(self, prompt: &str) {
        if self.interactive {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "{}", sanitize_line(prompt));
            let _ = stderr.flush();
        }
    }

    /// Ends the line of a prompt without an answer.
    pub fn prompt_unanswered(self) {
        if self.interactive {
            let _ = writeln!(io::stderr());
        }
    }

    /// Reads a typed line; `None` if no user can answer or the input has ended.
    #[must_use]
    pub fn read_line(self) -> Option<String> {
        let typed = if self.interactive { read_terminal(Input::Line, || ()) } else { None };
        typed.and_then(into_text)
    }

    /// Asks for a secret, without echo; `None` if no user can answer or the input has ended.
    #[must_use]
    pub fn ask_secret(self, prompt: &str) -> Option<Secret> {
        if !self.interactive {
            return None;
        }
        read_secret(Echo::Off, || self.prompt(prompt)).ok().flatten()
    }

    /// Does the same on any thread, also one that no runtime interrupts: Ctrl-C is read as a key.
    ///
    /// # Errors
    /// If the user pressed Ctrl-C.
    pub fn ask_secret_anywhere(self, prompt: &str) -> Result<Option<Secret>, AskInterrupted> {
        if !self.interactive {
            return Ok(None);
        }
        read_secret(Echo::OffWithoutSignals, || self.prompt(prompt))
    }
}

/// Prints a line on stderr, or has it printed after [`Background::start`].
pub fn print_line(line: impl Into<String>) {
    let line = line.into();
    let line = match LINES.get() {
        None => Some(line),
        Some(lines) => match lines.try_send(Some(line)) {
            // The thread has ended.
            Err(mpsc::TrySendError::Disconnected(line)) => line,
            Ok(()) | Err(mpsc::TrySendError::Full(_)) => None,
        },
    };
    if let Some(line) = line {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// The thread that prints lines on stderr. Dropped when the program ends, it has a moment for the last ones.
pub struct Background(Option<mpsc::Receiver<()>>);

impl Background {
    /// Starts a thread that prints all further lines, for programs that serve others. If stderr is not read, lines are dropped and
    /// the program continues.
    #[must_use]
    pub fn start() -> Self {
        let (lines, waiting) = mpsc::sync_channel::<Option<String>>(MAX_LINES);
        let (done, printed) = mpsc::channel();
        if LINES.set(lines).is_err() {
            return Self(None);
        }
        std::thread::spawn(move || {
            for line in waiting.iter().map_while(|line| line) {
                let _ = writeln!(io::stderr(), "{line}");
            }
            // From here on, lines are printed where they arise.
            drop(waiting);
            let _ = done.send(());
        });
        Self(Some(printed))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let (Some(printed), Some(lines)) = (&self.0, LINES.get())
            && lines.try_send(None).is_ok()
        {
            let _ = printed.recv_timeout(PRINT_LIMIT);
        }
    }
}

/// Returns the text with this style (a parameter of SGR), if `color`.
#[must_use]
pub fn style(sgr: &str, text: &str, color: bool) -> String {
    if color { format!("\u{1b}[{sgr}m{text}\u{1b}[0m") } else { text.to_owned() }
}
