//! Screens: what a command shows in terminals of several widths and in a pipe, compared with a file in `tests/golden`.
//! `BLESS=1` rewrites the files.

use std::fs;
use std::path::Path;

use super::process::RunningCommand;
use super::{AUTHCTL, CommandOutput, Sandbox};

/// The widths of the terminals; `None` for a pipe.
const WIDTHS: [Option<u16>; 4] = [Some(40), Some(80), Some(200), None];

/// The units of times, whose numbers differ between runs.
const UNITS: [&str; 4] = ["s", "min", "h", "d"];

/// A screen to compare.
pub struct Screen<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// The command line.
    pub args: &'a [&'a str],
    /// The exit code.
    pub code: i32,
    /// The exit code in a pipe of a command that needs a terminal.
    pub code_in_pipe: Option<i32>,
    /// Texts that differ between runs, with what stands for them.
    pub varies: &'a [(String, &'a str)],
}

/// Compares a text with the file of that name.
#[track_caller]
pub fn assert_golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(&file, text).expect("written");
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(text == expected, "{}: run with BLESS=1 and look at the difference; now:\n{text}", file.display());
}

impl Sandbox {
    /// Compares the screens of a command with the file of that name.
    #[track_caller]
    pub fn assert_screens(&self, screen: &Screen<'_>) {
        self.assert_screens_while(screen, |_| {});
    }

    /// The same for a command that waits for what `during` does, unless it fails in a pipe.
    #[track_caller]
    pub fn assert_screens_while(&self, screen: &Screen<'_>, during: impl Fn(&mut RunningCommand<'_>)) {
        let mut text = String::new();
        for width in WIDTHS {
            let mut command = match width {
                Some(width) => self.spawn_program_in_terminal(AUTHCTL, screen.args, width),
                None => self.spawn(screen.args),
            };
            let code_in_pipe = screen.code_in_pipe.filter(|_| width.is_none());
            if code_in_pipe.is_none() {
                during(&mut command);
            }
            let code = code_in_pipe.unwrap_or(screen.code);
            let CommandOutput { stdout, stderr, .. } = command.wait().exits(code);
            let (stdout, stderr) = (self.stable(&stdout, screen.varies), self.stable(&stderr, screen.varies));
            text.push_str(&match width {
                Some(width) => format!("== {width} columns\n{stderr}\n"),
                None => format!("== pipe, stdout\n{stdout}\n== pipe, stderr\n{stderr}"),
            });
        }
        assert_golden(screen.name, &text);
    }

    /// Returns output without styles, and with placeholders for what differs between runs.
    fn stable(&self, output: &str, varies: &[(String, &str)]) -> String {
        let mut text = without_styles(&output.replace('\r', ""));
        text = text.replace(self.path().to_str().expect("text"), "/HOME");
        for (value, placeholder) in varies {
            text = text.replace(value, placeholder);
        }
        let lines = text.split('\n').map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number =
                |word: &str| !word.is_empty() && word.trim_start_matches('(').bytes().all(|b| b.is_ascii_digit());
            let unit = |word: &str| UNITS.contains(&word.trim_end_matches([',', ';', ')', '.']));
            let stable = |(at, word): (usize, &&str)| {
                let is_time = number(word) && words.get(at + 1).is_some_and(|next| unit(next));
                let is_pid = at > 0 && words[at - 1] == "(pid";
                match (is_time, is_pid) {
                    (true, _) => "N".to_owned(),
                    (_, true) => format!("PID{}", word.trim_start_matches(|c: char| c.is_ascii_digit())),
                    _ if is_timestamp(word) => {
                        "TIME".to_owned() + word.trim_end_matches(';').get(20..).unwrap_or_default()
                    }
                    _ if word.strip_suffix('s').is_some_and(number) => "Ns".to_owned(),
                    _ => without_ports(word),
                }
            };
            words.iter().enumerate().map(stable).collect::<Vec<_>>().join(" ")
        });
        lines.collect::<Vec<_>>().join("\n").replace("N min N s", "N min")
    }
}

/// Returns whether a word is a time such as `2026-11-26T22:24:59Z`.
fn is_timestamp(word: &str) -> bool {
    word.len() >= 20 && word.is_char_boundary(20) && word.as_bytes()[10] == b'T' && word.as_bytes()[19] == b'Z'
}

fn without_styles(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

/// Replaces the port of a loopback address, and the parameters of an authorization request.
fn without_ports(word: &str) -> String {
    let Some((before, after)) = word.split_once("127.0.0.1:") else { return word.to_owned() };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_short = rest.strip_prefix('/').is_some_and(|path| path.len() == 6);
    let rest = match rest {
        _ if rest.starts_with("/authorize?") => "/authorize?PARAMETERS",
        _ if is_short => "/PATH",
        _ => rest,
    };
    format!("{before}127.0.0.1:PORT{rest}")
}
