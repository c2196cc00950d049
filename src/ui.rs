//! The person at the terminal, if there is one: what they are told, and what they are asked.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::secret::Secret;

/// Whoever may be watching. Where `None` comes back, no human is there to answer.
pub trait Ui: Send + Sync {
    /// Tells something on stderr: progress, or what to do next.
    fn tell(&self, text: &str);

    /// Shows what somebody has to do for anything to go on, however little they want to be told.
    fn show(&self, text: &str);

    /// Shows a question, on whose line the answer is typed.
    fn prompt(&self, prompt: &str);

    /// Takes a line of text; `None` where nobody is there or the input has ended.
    fn line(&self) -> Option<String>;

    /// Asks for a secret, without echo; `None` where nobody is there or the input has ended.
    fn ask_secret(&self, prompt: &str) -> Option<Secret>;

    /// Whether anybody can answer.
    fn is_human(&self) -> bool;
}

/// A person at a terminal.
#[derive(Debug)]
pub struct Terminal {
    quiet: bool,
}

/// Nobody: questions have no answer. What is told still goes to stderr.
#[derive(Debug)]
pub struct NoUi {
    quiet: bool,
}

/// The terminal's settings from before a secret was asked for, to be put back if the program ends meanwhile.
static BEFORE_SECRET: Mutex<Option<Termios>> = Mutex::new(None);

/// Tells that a question for a secret has put the settings back by itself.
static ANSWERED: Condvar = Condvar::new();

/// How long a question may take for that once Ctrl-C was typed. One that was not answered never does.
const PUT_BACK_LIMIT: Duration = Duration::from_millis(100);

/// Opens the person's end: a [`Terminal`] where stdin and stderr are one and input is allowed, else [`NoUi`].
#[must_use]
pub fn open(no_input: bool, quiet: bool) -> Box<dyn Ui> {
    if !no_input && io::stdin().is_terminal() && io::stderr().is_terminal() {
        Box::new(Terminal { quiet })
    } else {
        Box::new(NoUi { quiet })
    }
}

/// Puts the terminal's echo back if a question for a secret was cut short. Harmless otherwise.
pub fn restore_terminal() {
    let Ok(before) = BEFORE_SECRET.lock() else { return };
    if let Ok((mut before, _)) = ANSWERED.wait_timeout_while(before, PUT_BACK_LIMIT, |before| before.is_some())
        && let Some(settings) = before.take()
    {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        let _ = writeln!(io::stderr());
    }
}

/// Writes a line to stderr; a closed one is not an error.
fn tell(quiet: bool, text: &str) {
    if quiet {
        return;
    }
    let stderr = io::stderr();
    let width = termios::tcgetwinsize(&stderr).map_or(usize::MAX, |size| usize::from(size.ws_col));
    let _ = writeln!(stderr.lock(), "{}", wrapped(text, width));
}

/// `text` with its lines broken between words. What is indented stays whole: it is there to be copied.
fn wrapped(text: &str, width: usize) -> String {
    let line =
        |line: &str| if line.starts_with(' ') || width < 20 { line.to_owned() } else { textwrap::fill(line, width) };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

impl Ui for Terminal {
    fn tell(&self, text: &str) {
        tell(self.quiet, text);
    }

    fn show(&self, text: &str) {
        tell(false, text);
    }

    fn prompt(&self, prompt: &str) {
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{prompt}");
        let _ = stderr.flush();
    }

    fn line(&self) -> Option<String> {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    fn ask_secret(&self, prompt: &str) -> Option<Secret> {
        // The echo goes before the prompt comes: what is typed the moment it shows, by a program at that, stays unseen.
        if let (Ok(mut before), Ok(settings)) = (BEFORE_SECRET.lock(), termios::tcgetattr(io::stdin())) {
            let mut unseen = settings.clone();
            unseen.local_modes.remove(LocalModes::ECHO);
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &unseen);
            *before = Some(settings);
        }
        let answer = rpassword::prompt_password(prompt);
        if let Ok(mut before) = BEFORE_SECRET.lock()
            && let Some(settings) = before.take()
        {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        }
        ANSWERED.notify_all();
        if matches!(&answer, Err(e) if e.kind() == io::ErrorKind::Interrupted) {
            // Ctrl-C was typed, and the signal is on its way: that ends the program, and not a missing answer.
            loop {
                std::thread::park();
            }
        }
        answer.ok().map(Secret::new)
    }

    fn is_human(&self) -> bool {
        true
    }
}

impl Ui for NoUi {
    fn tell(&self, text: &str) {
        tell(self.quiet, text);
    }

    fn show(&self, text: &str) {
        tell(false, text);
    }

    fn prompt(&self, _prompt: &str) {}

    fn line(&self) -> Option<String> {
        None
    }

    fn ask_secret(&self, _prompt: &str) -> Option<Secret> {
        None
    }

    fn is_human(&self) -> bool {
        false
    }
}

/// `text` as one word of a command that is to be typed.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/%+,@".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Text from elsewhere made sanitize_for_terminal for a terminal: control characters become `�`, and it is cut at `most` characters.
#[must_use]
pub fn sanitize_for_terminal(text: &str, most: usize) -> String {
    let mut safe: String =
        text.chars().take(most).map(|c| if c.is_control() || is_deceptive(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        safe.push('…');
    }
    safe
}

/// The characters that reorder text on a screen (Unicode Standard Annex 9) or show nothing, which could make one name
/// look like another.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_addresses_not_at_all() {
        let address = format!("  https://a.example/{}", "x".repeat(60));
        let text = format!("one two three four five six\n\n{address}\n");
        assert_eq!(wrapped(&text, 20), format!("one two three four\nfive six\n\n{address}\n"));
        assert_eq!(wrapped(&text, usize::MAX), text);
    }

    #[test]
    fn nothing_from_elsewhere_moves_the_cursor() {
        assert_eq!(
            sanitize_for_terminal("a\u{1b}[2Jb\nc\u{202e}d\u{9b}e", 20),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e"
        );
        assert_eq!(sanitize_for_terminal("abcdef", 3), "abc…");
        assert_eq!(sanitize_for_terminal("abc", 3), "abc");
    }
}
