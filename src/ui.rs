//! Messages and prompts for the user at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use crate::secret::Secret;
use crate::text::{sanitize_for_terminal, sanitize_line};

/// Writes to stderr, and prompts if a user can answer. A closed stderr is not an error.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    interactive: bool,
    quiet: bool,
}

/// The terminal's settings before a prompt changed them, to be restored if the program ends during the prompt.
static BEFORE_PROMPT: Mutex<Option<Termios>> = Mutex::new(None);

/// Notified when a prompt for a secret has restored the settings itself.
static ANSWERED: Condvar = Condvar::new();

/// How long to wait for that after Ctrl-C: a prompt without input never restores them.
const RESTORE_LIMIT: Duration = Duration::from_millis(100);

/// The maximum length of typed text, in bytes.
const MAX_TYPED: usize = 1 << 20;

/// A terminal narrower than this gets its lines unwrapped.
const MIN_WIDTH: usize = 20;

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

    /// Prints what the user has to do for the command to go on, even with `--quiet`.
    pub fn instruct(self, text: &str) {
        let stderr = io::stderr();
        let width = termios::tcgetwinsize(&stderr).map_or(usize::MAX, |size| usize::from(size.ws_col));
        let _ = writeln!(stderr.lock(), "{}", wrap(&sanitize_for_terminal(text), width));
    }

    /// Shows a prompt; the user types on the same line.
    pub fn prompt(self, prompt: &str) {
        if self.interactive {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "{}", sanitize_line(prompt));
            let _ = stderr.flush();
        }
    }

    /// Reads a typed line; `None` if no user can answer or the input has ended.
    #[must_use]
    pub fn read_line(self) -> Option<String> {
        let typed = if self.interactive { read_terminal(false, || ()) } else { None };
        typed.and_then(|typed| String::from_utf8(typed).ok())
    }

    /// Asks for a secret, without echo; `None` if no user can answer or the input has ended.
    #[must_use]
    pub fn ask_secret(self, prompt: &str) -> Option<Secret> {
        if !self.interactive {
            return None;
        }
        // The echo is off before the prompt shows: what is typed at once, by a program for example, stays unseen.
        if let (Ok(mut before), Ok(settings)) = (BEFORE_PROMPT.lock(), termios::tcgetattr(io::stdin())) {
            let mut silent = settings.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &silent);
            before.get_or_insert(settings);
        }
        let answer = rpassword::prompt_password(&*sanitize_line(prompt));
        if let Ok(mut before) = BEFORE_PROMPT.lock()
            && let Some(settings) = before.take()
        {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        }
        ANSWERED.notify_all();
        if matches!(&answer, Err(e) if e.kind() == io::ErrorKind::Interrupted) {
            // Ctrl-C was typed: the pending signal ends the program, not the missing input.
            loop {
                std::thread::park();
            }
        }
        answer.ok().map(Secret::new)
    }
}

/// Reads a line at the terminal, without its line break, or everything up to Ctrl-D without echo; `None` at the end of the input.
/// Calls `begin` when the terminal is ready.
///
/// The terminal's own line mode would cut a line after 4,095 bytes, which addresses and token responses exceed.
#[must_use]
pub fn read_terminal(everything: bool, begin: impl FnOnce()) -> Option<Vec<u8>> {
    let stdin = io::stdin();
    let settings = termios::tcgetattr(&stdin).ok()?;
    let mut unbuffered = settings.clone();
    unbuffered.local_modes.remove(LocalModes::ICANON);
    unbuffered.local_modes.set(LocalModes::ECHO, !everything);
    unbuffered.special_codes[SpecialCodeIndex::VMIN] = 1;
    unbuffered.special_codes[SpecialCodeIndex::VTIME] = 0;
    let key = |index| settings.special_codes[index];
    let (erase, kill, end) = (key(SpecialCodeIndex::VERASE), key(SpecialCodeIndex::VKILL), key(SpecialCodeIndex::VEOF));
    if let Ok(mut before) = BEFORE_PROMPT.lock() {
        let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &unbuffered);
        before.get_or_insert(settings);
    }
    begin();
    let mut typed = Vec::new();
    let mut byte = [0];
    let ended = loop {
        match rustix::io::read(&stdin, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => break true,
            // Typed before the line mode was left, Ctrl-D arrives as 0.
            Ok(_) if byte[0] == end || byte[0] == 0 => break true,
            Ok(_) if byte[0] == b'\n' && !everything => break false,
            Ok(_) if [erase, 8, 127].contains(&byte[0]) => {
                let text = String::from_utf8_lossy(&typed);
                if let Some(last) = text.chars().next_back() {
                    typed.truncate(typed.len().saturating_sub(last.len_utf8()));
                }
                // The terminal has shown the key as two characters.
                if !everything {
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
    if let Ok(mut before) = BEFORE_PROMPT.lock()
        && let Some(settings) = before.take()
    {
        let _ = termios::tcsetattr(&stdin, OptionalActions::Now, &settings);
    }
    ANSWERED.notify_all();
    if ended && typed.is_empty() { None } else { Some(typed) }
}

/// Reads a line from stdin, typed or piped, without its line break; `None` at the end of the input.
#[must_use]
pub fn read_stdin_line() -> Option<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// Restores the terminal's echo if a question for a secret was interrupted.
pub fn restore_terminal() {
    let Ok(before) = BEFORE_PROMPT.lock() else { return };
    if let Ok((mut before, _)) = ANSWERED.wait_timeout_while(before, RESTORE_LIMIT, |before| before.is_some())
        && let Some(settings) = before.take()
    {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        let _ = writeln!(io::stderr());
    }
}

/// Breaks long lines between words. Indented lines stay whole, so that an address in them can be copied.
fn wrap(text: &str, width: usize) -> String {
    let line = |line: &str| {
        if line.starts_with(' ') || width < MIN_WIDTH {
            line.to_owned()
        } else {
            textwrap::fill(line, whole_words(width))
        }
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Breaks no word, which may be a command, an option or an address to be copied.
fn whole_words<'a>(width: usize) -> textwrap::Options<'a> {
    textwrap::Options::new(width).break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_between_words_and_addresses_stay_whole() {
        let address = format!("  https://a.example/{}", "x".repeat(60));
        let text = format!("one two three four five six\n\n{address}\n");
        assert_eq!(wrap(&text, 20), format!("one two three four\nfive six\n\n{address}\n"));
        assert_eq!(wrap(&text, usize::MAX), text);
    }
}
