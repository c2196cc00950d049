//! A credential agent for the command line: log in once, and every script and program gets a valid token.
//!
//! # The house
//!
//! A file imports only from floors below its own; `tests/house.rs` checks it.
//!
//! | floor | rooms | |
//! | --- | --- | --- |
//! | 9 | `lib.rs` | this page, and [`run`] |
//! | 8 | `cmd` | one file a verb: asks the rooms below and prints |
//! | 7 | `app` | the composition root: builds each part when it is first asked for; signals; the way to the agent |
//! | 7 | `serve` | the agent itself: accept, look at the peer, decode, hand out, encode; keeps sessions cache and alive |
//! | 6 | `login` | the login service: merges profiles, joins concurrent logins, stores session and profile together |
//! | 6 | `status` | the status of every profile, for the command and for the agent |
//! | 5 | `failure` | what went wrong, its exit code and its hint: the one table |
//! | 4 | `sessions` | the only place where sessions are made, refreshed and ended; joins `store`, `issuer` and `verify` |
//! | 3 | `agent`, `cli`, `config`, `store`, `issuer`, `verify`, `dev_issuer` | six rooms that do not know each other, and the embedded issuer, which knows none of them; `agent` is the agent from outside: its words, its socket, and a client of the standard library alone |
//! | 2 | `model`, `ui`, `paths`, `fs` | profile, tokens, session, freshness; the terminal; the environment and the places of files; locks and atomic replacement |
//! | 1 | `secret`, `clock` | text that wipes itself; time |
//!
//! Only `issuer` names the HTTP client, `store` the keychain, `cli` the parser of arguments, and `verify`,
//! `dev_issuer` and `issuer`, where a client signs for itself, the JWT library. There is no mock of an issuer: an issuer is a URL, and the tests give the embedded one's.
//!
//! # Four walks
//!
//! *`authctl token`, an agent running*: `main`, [`run`], `cli`, `cmd/token`, `app/agent`, `agent/client`, and in the agent
//! `serve/accept`, `serve/route`, `agent/server/tokens`, `serve/cache`, `serve/answer`: no configuration, no store, no runtime on
//! the one side, and neither store, disk nor network on the other.
//!
//! *`authctl token`, alone and fresh*: `main`, [`run`], `cli`, `cmd/token`, `app`, `config`, `sessions`, `store`, and back.
//!
//! *`authctl token`, over*: the same to `session/refresh`, which the agent calls too: take the profile's lock, read again
//! under it, write down that the refresh token is about to be sent, send it (`issuer/refresh`), store the reply, leave a
//! mark for those who keep copies, and only then hand the token out.
//!
//! *`authctl verify`*: `main`, [`run`], `cli`, `cmd/verify`, `app`, `config`, `store` (unless the token is on stdin),
//! `session/verdict`, which reads what `session/trust` has kept of the issuer and the clock, `verify`: no runtime, no HTTP
//! client. `cmd/exec` and the agent's `serve/respond` ask the same `session/verdict`.

mod agent;
mod app;
pub mod cli;
pub mod clock;
mod cmd;
pub mod config;
#[cfg(feature = "dev-issuer")]
pub mod dev_issuer;
pub mod error;
mod fs;
mod login;
pub mod model;
mod oauth;
mod paths;
pub mod secret;
mod session;
mod status;
pub mod store;
mod text;
mod ui;
mod verify;

/// What the fuzz targets in `tests/fuzz` call, in a build that cargo-fuzz makes: they are a package of their own, and
/// these rooms are the program's alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use crate::config::{Config, save, set_default};
    pub use crate::verify::{KeySet, Policy, Reason, Statuses, Verdict, looks_like_jwt, unverified_claims, verify};
}

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};

use clap::error::ErrorKind as UsageKind;
use clap::{CommandFactory as _, Parser as _};

use app::App;
use cli::Cli;
use error::{Error, ErrorCode, Format};
use paths::Environment;

/// Runs the program with these arguments, the first its own name; gives its exit code.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = Cli::usual(&args).map_or_else(|| Cli::try_parse_from(&args), Ok);
    let Cli { common, command } = match parsed {
        Ok(cli) => cli,
        // What follows `--` is another program's.
        Err(error) => return usage(&error, args.split(|arg| arg == "--").next().unwrap_or_default()),
    };
    log_to_stderr(common.verbose);
    let typed = args.iter().filter_map(|arg| arg.to_str().map(str::to_owned)).collect();
    let app = App::new(common, Environment::capture(), typed);
    match cmd::dispatch(&app, command) {
        Ok(code) => code,
        Err(error) => {
            let error = app.with_profile_source(error);
            app.report(&error);
            error.code.exit_code()
        }
    }
}

/// Prints help and version on stdout, and an error in the arguments like every other error.
fn usage(error: &clap::Error, args: &[OsString]) -> u8 {
    if matches!(error.kind(), UsageKind::DisplayHelp | UsageKind::DisplayVersion) {
        let _ = error.print();
        return 0;
    }
    let message = match error.kind() {
        UsageKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command was given".to_owned(),
        _ => {
            let text = error.render().to_string();
            let lines = text.trim_start_matches("error: ").lines();
            let lines =
                lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
            let lines = lines.map(str::trim).filter(|line| !line.is_empty());
            lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ")
        }
    };
    let format = if args.iter().any(|arg| arg == "--json") {
        Format::Json
    } else {
        Format::Text { color: !Environment::capture().no_color && io::stderr().is_terminal() }
    };
    Error::msg(ErrorCode::Usage, message, format!("authctl{} --help", verbs(args))).report(format, &[]);
    ErrorCode::Usage.exit_code()
}

/// The commands that `args` go down to, a space before each.
fn verbs(args: &[OsString]) -> String {
    let mut command = Cli::command();
    let mut verbs = String::new();
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    while let Some(arg) = words.next() {
        if ["--config", "--color"].contains(&arg) {
            // What follows is its value.
            words.next();
        } else if let Some(inner) = command.find_subcommand(arg).cloned() {
            verbs.push(' ');
            verbs.push_str(inner.get_name());
            command = inner;
        }
    }
    verbs
}

/// With `-v` authctl's own log goes to stderr. Libraries' logs never do: they may hold what they send.
fn log_to_stderr(verbose: u8) {
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
    use tracing_subscriber::util::SubscriberInitExt as _;

    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let own = filter_fn(move |about| *about.level() <= level && about.target().starts_with("authctl"));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| LogLines).with_ansi(false).without_time();
    let _ = tracing_subscriber::registry().with(lines.with_filter(own)).try_init();
}

/// Stderr for log lines, each of which arrives in one piece.
struct LogLines;

impl io::Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        writeln!(io::stderr(), "{}", text::sanitize_line(text.trim_end_matches('\n')))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Hint;

    /// Every command hint in the sources, with the options that follow it.
    fn hints_in(source: &str) -> Vec<Hint> {
        let starts = ["Hint::command(\"", "Hint::profile_command(\"", "Hint::login()"];
        let quoted = |text: &str| text.split('"').nth(1).map(str::to_owned);
        let mut hints = Vec::new();
        for start in starts {
            for (at, _) in source.match_indices(start) {
                let mut rest = &source[at..];
                let verbs: &'static str = quoted(rest).unwrap_or_default().leak();
                let mut hint = match start {
                    "Hint::login()" => Hint::login(),
                    "Hint::command(\"" => Hint::command(verbs),
                    _ => Hint::profile_command(verbs),
                };
                rest = &rest[rest.find(')').map_or(0, |end| end + 1)..];
                while let Some(next) = rest.strip_prefix(".") {
                    let call = next.split_inclusive(')').next().unwrap_or_default();
                    let name = quoted(call).filter(|name| name.starts_with("--"));
                    hint = match (call.split('(').next(), name) {
                        (Some("with_flag"), Some(name)) => hint.with_flag(name),
                        (Some("with_option"), Some(name)) => {
                            let literal = call.split('"').nth(3).map(str::to_owned);
                            hint.with_option(name, literal.unwrap_or_else(|| "https://a.example".to_owned()))
                        }
                        _ => break,
                    };
                    rest = &next[call.len()..];
                }
                hints.push(hint.about(&"work".parse().expect("a name")));
            }
        }
        hints
    }

    #[test]
    fn every_command_hint_is_a_valid_command_line() {
        let mut paths = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut count = 0;
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("readable");
            for hint in hints_in(source.split("#[cfg(test)]").next().unwrap_or_default()) {
                let line = hint.to_string();
                let parsed = Cli::try_parse_from(line.split(' '));
                let help = parsed.as_ref().is_err_and(|e| e.kind() == clap::error::ErrorKind::DisplayHelp);
                assert!(parsed.is_ok() || help, "{}: {line}", path.display());
                count += 1;
            }
        }
        assert!(count >= 20, "only {count} hints were found");
    }
}
