//! A credential agent for the command line: log in once, and every script and program gets a valid token.
//!
//! `authctl` logs in at an OAuth 2.0 or OpenID Connect issuer, stores the session in the keychain or an encrypted file,
//! refreshes it when a token is requested, and verifies tokens offline. An optional agent keeps sessions in memory and
//! serves them over a Unix socket.
//!
//! # Layers
//!
//! A module imports only from layers below its own; `tests/layers.rs` checks it.
//!
//! ```text
//!  main, lib         this page, run(), reports errors
//!  cmd               one file or directory a command: its arguments, calls to services, its output
//!  app               builds the parts when first needed; signals; client of the agent; credentials for one API
//!  proxy             beside `app`: a reverse proxy that adds the session's credentials to requests for one API
//!  agent/server      beside `app`: accept, authorize the caller, route, respond; session cache; audit log; agent lock
//!  mcp               beside `app`: the bridge for MCP clients, which asks `cmd/mcp` for credentials
//!  login   status    the login service; the status of every profile
//!  error             code, message and hint of every error (the codes are in `model`)
//!  session   cli     sessions: token policy, refresh, logout, trusted keys, verifier; command-line types
//!  oauth   verify   store   config   agent/protocol   dev_issuer
//!     |       |       |       |           |               '-- the embedded issuer, which uses none of the others
//!     |       |       |       |           '-- wire types, socket, client without a runtime
//!     |       |       |       '-- the one table of settings, profiles, directory files
//!     |       |       '-- keychain, file store, key files, revocation list
//!     |       '-- offline verification: no I/O and no clock of its own
//!     '-- client of authorization servers: discovery, one file a grant, HTTP
//!  model   ui   paths   fs   profiles, tokens, sessions; the terminal; locations; file locks, atomic files
//!  broker            what a confined agent asks of the process that is not confined
//!  text   secret   clock   process       sanitizing; text that is wiped; time; other processes
//! ```
//!
//! Only `oauth` uses the HTTP client, `store` the keychain, `cli` and this file the argument parser.
//!
//! # Four walks
//!
//! *A token through the agent*: `main`, [`run`], `cli`, `cmd/token`, `app/agent`, `agent/protocol/client`; in the agent
//! `agent/server/accept`, `route`, `handlers`, `tokens`, `cache`, `response`. The client reads no `config.toml` and starts
//! no runtime. The agent decides with `session/refresh_policy`, as the command line does, and needs no disk or network for
//! a token that is fresh. A refresh goes through `session/refresh`: take the profile lock, read the session again, record
//! that the refresh token is about to be sent and send it (`session/send_refresh`), store the reply
//! (`session/commit_refresh`, or `session/unsaved` where the store fails), serve the token. `agent/server/background` refreshes
//! without a request, at the time that the same policy names (`refresh_policy/background`).
//!
//! *A device login*: `cmd/login`, `login/profile` (merges options, profile and provider), `login/mod` (the steps),
//! `login/concurrent` (waits for concurrent logins), `session/issuer` and `oauth/discovery` (the metadata), `cmd/login/grants`,
//! `oauth/device_code`, `session/login` (verifies the ID token), `login/commit` (saves the profile once `session/login/commit`
//! has stored the session). What depends on the user is behind the trait of `login/user`, which `cmd/login/user` implements:
//! `endpoints` before the metadata is fetched, `choose_grant` by the metadata, `sign_in`, and the questions.
//!
//! *A login for an API*: `cmd/login/api` asks `session/api` for the API's issuers (`oauth/resource`, `oauth/challenge`) and their
//! metadata, and adds what it finds to the options of a device or browser login; `login` takes the client from
//! `session/registration` where the profile has none of its own. `cmd/token/challenge` answers a refusal with the decision of
//! `session/remedy`.
//!
//! *An offline verification*: `cmd/verify`, `config`, `session/stores` (the token, unless it is piped), `session/verifier` (reads
//! the trusted keys, the status lists, the revocation list and the recorded time, and records the time), `verify`. No runtime,
//! no HTTP client.
//!
//! # Who can read a session
//!
//! *The file store with a passphrase*: its key file is sealed (`store/key_file`), and `store/keys` holds the key of a process
//! that has the passphrase: a command asks for it when it first reads a session (`app/passphrase`), the agent gets it with
//! `agent unlock` and starts locked. Locking the agent wipes the key; a refresh in flight has its own copy in what it has
//! reserved (`store/file`). A new passphrase comes with a new key: replacing the key file is the commit, the file has the
//! earlier keys too, and then each session is encrypted again under its profile lock (`session/store_key`).
//!
//! *The memory store*: the agent has `store/memory`; other programs have `app/agent_store`, to which only a login writes. It
//! gives what it wrote to the agent (`POST /v1/session`), encrypted to the agent's key, before the profile is saved. Status and
//! logout go through the agent.
//!
//! # Where to add
//!
//! | what | where |
//! | --- | --- |
//! | a grant | a file in `oauth`, a variant of [`model::Grant`] and what the compiler then asks for, such as branches in `cmd/login/user.rs` and what it shows and asks in `cmd/login/grants.rs`; what it does not ask for: the login lock in `login/mod.rs`, `can_join` in `login/concurrent.rs`, `is_secret_grant` in `login/client.rs`, the unattended grants in `session/send_refresh.rs`; an option in `cli/login.rs`, there also in `GRANTS` and `Login::grant`; the presets that support it in `model/provider/table.rs` |
//! | a setting | a row of the table in `config/settings`, a field of [`model::Profile`], a section of authctl.toml(5); `man/json/profile.json` |
//! | a store | an implementation of `store::Store`, a variant of [`model::StoreKind`], its place in `session/stores.rs`; what `app.rs` builds; the help of `AUTHCTL_STORE` in `cli/help.rs` |
//! | an agent endpoint | a variant in `agent/server/route.rs`, a branch in `handlers.rs`, its types in `agent/protocol/messages.rs` (of the state: `agent_status.rs`), `openapi.json`, authctl-agent(7) |
//! | a field of an agent response | its type in `agent/protocol/messages.rs` (of a token: `TokenResponse`, built in `session/token_response.rs`, and `ReceivedToken`), `handlers.rs`, `openapi.json` |
//! | an error | a row in `model/error_code.rs`; the layer's own type is converted, with its hint, in `error/conversions.rs` or `error/session.rs`; its HTTP status in `agent/server/response.rs`; `openapi.json`, authctl-agent(7) and authctl(1) list it |
//! | a helper for a tool | a variant of `cli::Tool`; a file in `cmd/helper` that implements `Protocol`, a branch in `cmd/helper/mod.rs`; `tests/cli/helper`, `tests/e2e` |
//! | a proxy rule | a variant of `Refusal` and of `RuleName` and a check in `model/request_rules.rs`; what it needs of a request in `proxy/exchange.rs`; the option in `cli/proxy.rs`, the setting `proxy_*` in `config/settings`; `openapi.json`, `man/json/agent-log-entry.json`, authctl-json(7) |
//! | an event | a variant of `EventKind` in `agent/server/events.rs`, published where it happens; `openapi.json`, authctl-agent(7) |
//! | a command | its arguments in `cli`, a file in `cmd`, a branch in `cmd/mod.rs` |
//! | a test of a login | `tests/cli`: `login.rs`, or the file of its grant or feature (`browser_login.rs`, `password_login.rs`, `supplied_tokens.rs`, `login_api.rs`, `presets.rs`, `sign_in_requirements.rs`, ...); `tests/README.md` |

mod agent;
mod app;
mod broker;
pub mod cli;
pub mod clock;
mod cmd;
pub mod config;
#[cfg(feature = "dev-issuer")]
pub mod dev_issuer;
pub mod error;
mod fs;
mod login;
mod mcp;
pub mod model;
mod oauth;
mod paths;
mod process;
mod proxy;
pub mod secret;
mod session;
mod status;
pub mod store;
mod text;
mod ui;
mod verify;

/// What the fuzz targets in `tests/fuzz` call. They are a package of their own, and these modules are private.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use crate::config::{Config, save, set_default};
    pub use crate::paths::ConfigFiles;
    pub use crate::verify::{KeySet, Policy, Reason, Statuses, Verdict, looks_like_jwt, unverified_claims, verify};
}

use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::sync::atomic::Ordering;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind as UsageKind};

use app::App;
use cli::Cli;
use error::{Error, ErrorCode, Format, Hint};
pub use paths::missing_runtime_directory;
use paths::{CompletionVariables, Environment};
pub use ui::STDOUT_WAS_CLOSED;

/// Runs the program with these arguments, the first its own name; returns its exit code.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    if CompletionVariables::capture().is_some_and(|variables| cmd::complete(&variables, &args)) {
        return 0;
    }
    let args = Cli::expand(args);
    let parsed = Cli::parse_shortcut(&args).map_or_else(|| Cli::try_parse_from(&args), Ok);
    let Cli { mut common, command } = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    // A tool that asks for a token does not show a prompt.
    common.no_input |=
        matches!(&command, cli::Command::Helper(cli::Deferred(args)) if !(args.setup || args.write || args.remove));
    // The agent's warnings appear nowhere else.
    let is_agent = matches!(command, cli::Command::Agent(cli::AgentCommand::Run(_)));
    log_to_stderr(common.verbose, is_agent);
    let typed = args.iter().filter_map(|arg| arg.to_str().map(str::to_owned)).collect();
    let app = App::new(common, Environment::capture(), typed);
    secret::limit_core_dumps(true);
    match cmd::dispatch(&app, command) {
        Ok(code) => {
            ui::restore_terminal();
            code
        }
        Err(error) => {
            let error = app.with_agent_hint(app.with_profile_source(error));
            app.report(&error);
            error.code.exit_code()
        }
    }
}

/// Prints help and version on stdout, and an error in the arguments like every other error.
fn usage(error: &clap::Error, line: &[OsString]) -> u8 {
    // What follows `--` belongs to another program.
    let args = line.split(|arg| arg == "--").next().unwrap_or_default();
    let is_json = args.iter().any(|arg| arg == "--json");
    if matches!(error.kind(), UsageKind::DisplayHelp | UsageKind::DisplayVersion) {
        if is_json {
            let is_version = error.kind() == UsageKind::DisplayVersion;
            let text = || cmd::output::text(true, error.render().to_string().trim_end());
            return printed(if is_version { cmd::version(true) } else { text() }.map(drop));
        }
        if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) {
            return printed(cmd::output::data(""));
        }
        let _ = error.print();
        return 0;
    }
    let command = Cli::named_command(args);
    let no_command =
        matches!(error.kind(), UsageKind::DisplayHelpOnMissingArgumentOrSubcommand | UsageKind::MissingSubcommand);
    if no_command && command.is_empty() && !is_json {
        return printed(cmd::overview());
    }
    let words = ["authctl"].into_iter().chain(command.iter().map(String::as_str)).chain(["--help"]);
    let mut hint = Hint::shell(words.collect::<Vec<_>>().join(" "));
    let message = match (error.kind(), error.source(), error.get(ContextKind::InvalidArg)) {
        _ if no_command => "no command was given".to_owned(),
        (UsageKind::InvalidSubcommand, ..) => {
            let typed = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
            if let Some(words) = Cli::suggestion(line) {
                let words: Vec<String> = words.iter().map(|word| text::shell_word(word)).collect();
                hint = Hint::shell(format!("authctl {}", words.join(" ")));
            }
            format!("unknown command `{typed}`")
        }
        // The reason names the invalid value.
        (UsageKind::ValueValidation, Some(reason), Some(ContextValue::String(option))) => {
            let value = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) => value.as_str(),
                _ => "",
            };
            if let Some(url) = model::with_scheme(value).filter(|url| reason.to_string().contains(url)) {
                hint = Hint::shell(corrected(args, value, &url));
            }
            if command == ["login"] && option == "[PROFILE]" && model::IssuerUrl::parse(value).is_ok() {
                hint = Hint::shell(corrected(args, value, &format!("--issuer={value}")));
            }
            // An argument is known by its place.
            if option.starts_with(['[', '<']) { reason.to_string() } else { format!("'{option}': {reason}") }
        }
        _ => {
            let text = error.render().to_string();
            let lines = text.trim_start_matches("error: ").lines();
            let lines =
                lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
            let lines = lines.map(str::trim).filter(|line| !line.is_empty() && is_tip_right(line, error));
            lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ")
        }
    };
    reported(&Error::msg(ErrorCode::Usage, message, hint), is_json)
}

/// Returns whether a line of clap's error is right where it is a tip: no tip explains how to pass a mistyped option as a value,
/// and a similar option is one that was mistyped or not finished.
fn is_tip_right(line: &str, error: &clap::Error) -> bool {
    if !line.starts_with("tip: ") {
        return true;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.trim_start_matches('-').to_owned(),
        _ => String::new(),
    };
    let (typed, similar) = (text(ContextKind::InvalidArg), text(ContextKind::SuggestedArg));
    let is_beginning = similar.starts_with(&format!("{typed}-"));
    !similar.is_empty() && (is_beginning || strsim::normalized_damerau_levenshtein(&typed, &similar) > 0.6)
}

/// Returns the exit code after text was printed on stdout.
fn printed(result: Result<(), Error>) -> u8 {
    result.map_or_else(|error| reported(&error, false), |()| 0)
}

/// Reports an error before the options are known; returns its exit code.
fn reported(error: &Error, is_json: bool) -> u8 {
    let format = if is_json {
        Format::Json
    } else {
        Format::Text { color: !Environment::capture().no_color && io::stderr().is_terminal() }
    };
    error.report(format, &[]);
    error.code.exit_code()
}

/// Returns the command line with `correct` in place of a value.
fn corrected(args: &[OsString], value: &str, correct: &str) -> String {
    let words = args.iter().skip(1).map(|arg| {
        let arg = arg.to_string_lossy();
        let option = arg.strip_suffix(value).filter(|option| option.is_empty() || option.ends_with('='));
        text::shell_word(&option.map_or_else(|| arg.to_string(), |option| format!("{option}{correct}")))
    });
    std::iter::once("authctl".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Sends authctl's own log to stderr with `-v`, and `warnings` without. Libraries' logs never go there: they may contain secrets.
fn log_to_stderr(verbose: u8, warnings: bool) {
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
    use tracing_subscriber::util::SubscriberInitExt as _;

    let level = match verbose {
        0 if warnings => LevelFilter::WARN,
        0 => return,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
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
        ui::print_line(text::sanitize_line(text.trim_end_matches('\n')));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every command hint in the sources, with the options that follow it.
    fn hints_in(source: &str) -> Vec<Hint> {
        let starts = ["Hint::command(\"", "Hint::profile_command(\"", "Hint::login()", "Hint::doctor("];
        let quoted = |text: &str| text.split('"').nth(1).map(str::to_owned);
        let mut hints = Vec::new();
        for start in starts {
            for (at, _) in source.match_indices(start) {
                let mut rest = &source[at..];
                let verbs: &'static str = quoted(rest).unwrap_or_default().leak();
                let mut hint = match start {
                    "Hint::login()" => Hint::login(),
                    "Hint::doctor(" => Hint::doctor(""),
                    "Hint::command(\"" => Hint::command(verbs),
                    _ => Hint::profile_command(verbs),
                };
                rest = &rest[rest.find(')').map_or(0, |end| end + 1)..];
                while let Some(next) = rest.strip_prefix(".") {
                    let call = next.split_inclusive(')').next().unwrap_or_default();
                    let name = quoted(call).filter(|name| name.starts_with("--") || name.contains('='));
                    hint = match (call.split('(').next(), name) {
                        (Some("with_flag"), Some(name)) => hint.with_flag(name),
                        (Some("with_argument"), _) => hint.with_argument("file"),
                        (Some("with_option"), Some(name)) => {
                            let literal = call.split('"').nth(3).map(str::to_owned);
                            let example = if name == "--max-age" { "1h" } else { "https://a.example" };
                            hint.with_option(name, literal.unwrap_or_else(|| example.to_owned()))
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
