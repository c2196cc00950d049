//! Messages and prompts for the user at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::text::{hide_tokens, sanitize_for_terminal, sanitize_line};

/// Writes to stderr, and prompts if a user can answer. A closed stderr is not an error.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    interactive: bool,
    quiet: bool,
}

/// The terminal's settings before a prompt changed them, to be restored if the program ends during the prompt.
static BEFORE_PROMPT: Mutex<Option<Termios>> = Mutex::new(None);

/// Set if stdout was closed when the program was started. The standard library then opens `/dev/null` in its place, to which
/// output would be lost without an error.
pub static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Notified when a prompt for a secret has restored the settings itself.
static ANSWERED: Condvar = Condvar::new();

/// Lines for a thread that prints them on stderr, and `None` to end it.
static LINES: OnceLock<mpsc::SyncSender<Option<String>>> = OnceLock::new();

/// How many lines wait for it. More are dropped: a reader that has stopped does not stop the program.
const MAX_LINES: usize = 8192;

/// How long the last lines may take when the program ends.
const PRINT_LIMIT: Duration = Duration::from_secs(1);

/// How long to wait for that after Ctrl-C: a prompt without input never restores them.
const RESTORE_LIMIT: Duration = Duration::from_millis(100);

/// The maximum length of typed text, in bytes.
const MAX_TYPED: usize = 1 << 20;

/// The maximum length of a line with a secret on stdin, in bytes.
const MAX_SECRET: usize = 4096;

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

    /// Prints progress, a result or a warning, unless `--quiet` was given. Warnings repeat what was typed, as errors do.
    pub fn notice(self, text: &str) {
        if !self.quiet {
            let is_warning = text.starts_with("warning:");
            self.instruct(&if is_warning { hide_tokens(text) } else { text.into() });
        }
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
        let typed = unbuffered(Echo::Off, |settings| self.type_secret(prompt, settings, &Arc::default()));
        // The Enter of the user is not shown.
        let _ = writeln!(io::stderr());
        typed.flatten().map(Secret::new)
    }

    /// Does the same on any thread, also one that no runtime interrupts: Ctrl-C is read as a key.
    ///
    /// # Errors
    /// If the user pressed Ctrl-C.
    pub fn ask_secret_anywhere(self, prompt: &str) -> Result<Option<Secret>, AskInterrupted> {
        if !self.interactive {
            return Ok(None);
        }
        let interrupted = Arc::default();
        let typed = unbuffered(Echo::OffWithoutSignals, |settings| self.type_secret(prompt, settings, &interrupted));
        let _ = writeln!(io::stderr());
        if interrupted.load(Ordering::Relaxed) { Err(AskInterrupted) } else { Ok(typed.flatten().map(Secret::new)) }
    }

    fn type_secret(self, prompt: &str, settings: &Termios, interrupted: &Arc<AtomicBool>) -> Option<String> {
        self.prompt(prompt);
        let key = |index| settings.special_codes[index];
        let (end, interrupt) = (key(SpecialCodeIndex::VEOF), key(SpecialCodeIndex::VINTR));
        let keys = Keys { end, interrupt, interrupted: Arc::clone(interrupted) };
        let config = rpassword::ConfigBuilder::new().input_reader(keys).output_discard().build();
        rpassword::read_password_with_config(config).ok()
    }
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
enum Echo {
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

fn into_text(typed: Zeroizing<Vec<u8>>) -> Option<String> {
    std::str::from_utf8(&typed).ok().map(str::to_owned)
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

/// Reads a line from stdin and nothing beyond it, which may be for another program; `None` without one.
#[must_use]
pub fn read_stdin_secret() -> Option<Secret> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_SECRET));
    let mut byte = [0];
    while let Ok(1) = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut byte)) {
        if byte[0] == b'\n' || line.len() == MAX_SECRET {
            break;
        }
        line.push(byte[0]);
    }
    let text = std::str::from_utf8(&line).ok()?.trim_end_matches('\r');
    (!text.is_empty()).then(|| Secret::new(text.to_owned()))
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

/// Returns the width of the terminal on stderr; [`usize::MAX`] if it is none.
fn stderr_width() -> usize {
    termios::tcgetwinsize(io::stderr()).map_or(usize::MAX, |size| usize::from(size.ws_col))
}

/// Returns the text with this style (a parameter of SGR), if `color`.
#[must_use]
pub fn style(sgr: &str, text: &str, color: bool) -> String {
    if color { format!("\u{1b}[{sgr}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Returns one line of text for stderr, broken at the width of the terminal, to follow the label of an error or a hint.
#[must_use]
pub fn wrap_after_label(text: &str) -> String {
    let text = sanitize_line(text);
    let width = stderr_width();
    if width < MIN_WIDTH { text.into_owned() } else { fill_after_label(&text, width) }
}

fn fill_after_label(text: &str, width: usize) -> String {
    let indent = " ".repeat(LABEL_WIDTH);
    let lines = fill(text, width, &indent, &indent);
    lines.join("\n").trim_start().to_owned()
}

/// The width of `error: ` and `hint:  `.
const LABEL_WIDTH: usize = 7;

/// Breaks long lines between words. Indented lines stay whole, so that an address in them can be copied.
fn wrap(text: &str, width: usize) -> String {
    let lines = text.split('\n').flat_map(|line| match line.starts_with(' ') || width < MIN_WIDTH {
        true => vec![line.to_owned()],
        false => fill(line, width, "", ""),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Breaks a line between words. It breaks no word, which may be an option or an address to be copied, no command between
/// backticks, and not between a number and its unit.
#[must_use]
pub fn fill(line: &str, width: usize, first_indent: &str, indent: &str) -> Vec<String> {
    let options = textwrap::Options::new(width).initial_indent(first_indent).subsequent_indent(indent);
    let options = options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(&with_hard_spaces(line), options).into_iter().map(|line| line.replace(HARD_SPACE, " ")).collect()
}

/// Stands for a space at which a line is not broken. Nothing that is displayed contains it: it is assigned to no character.
const HARD_SPACE: char = '\u{fdd0}';

/// Keeps a command between backticks, and a number and the unit after it, together.
fn with_hard_spaces(line: &str) -> String {
    let mut whole = String::with_capacity(line.len());
    let (mut after_number, mut in_command) = (false, false);
    let has_commands = line.matches('`').count().is_multiple_of(2);
    for (index, word) in line.split(' ').enumerate() {
        let is_unit = ["s", "min", "h", "d"].contains(&word.trim_end_matches([',', ';', ')', '.']));
        if index > 0 {
            whole.push(if in_command || (after_number && is_unit) { HARD_SPACE } else { ' ' });
        }
        whole.push_str(word);
        in_command ^= has_commands && word.matches('`').count() % 2 == 1;
        after_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    }
    whole
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

    #[test]
    fn commands_in_a_sentence_and_numbers_with_units_stay_whole() {
        let text = "wait 12 s, then run `authctl login work --device` again";
        assert_eq!(wrap(text, 20), "wait 12 s, then run\n`authctl login work --device`\nagain");
        assert_eq!(
            fill_after_label(text, 30),
            "wait 12 s, then run\n       `authctl login work --device`\n       again"
        );
        assert_eq!(wrap("1 s ago; expires in 4 min 12 s", 22), "1 s ago; expires in\n4 min 12 s");
    }
}
