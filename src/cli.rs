//! The command line: every command and option, parsed and validated.

mod agent;
mod command_words;
mod completion;
mod deferred;
#[cfg(feature = "dev-issuer")]
mod dev_issuer;
mod exec;
mod guess;
mod help;
mod helper;
mod keys;
mod login;
mod profile;
mod proxy;
mod settings;
mod store;
mod token;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub use agent::{AgentCommand, AgentInstall, AgentLock, AgentLog, AgentRun, AgentStart, AgentUnlock, LoginMode};
pub use command_words::argument_positions;
pub use completion::{Completion, CompletionRequest, Shell};
pub use deferred::Deferred;
#[cfg(feature = "dev-issuer")]
pub use dev_issuer::{DevIssuer, SigningAlgorithm};
pub use exec::Exec;
pub use help::{COMMIT, ENVIRONMENT, FILES, TOPICS, VERSION};
pub use helper::{Helper, Tool};
pub use keys::KeysCommand;
pub use login::{Login, is_grant_option};
pub use profile::ProfileCommand;
pub use proxy::{Proxy, ProxyCommand, ProxyInstall, ProxyRules, ProxyRun};
pub use settings::SettingArgs;
pub use store::{StoreCommand, StorePassphrase};
pub use token::{Headers, TargetArgs, Token};
pub use verify::Verify;

use crate::model::{ApiUrl, ProfileName, parse_duration};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "authctl",
    version = help::VERSION,
    about = "Log in once, and every terminal, script and program gets a valid token",
    long_about = "A credential agent for the command line. Log in once at an OAuth 2.0 or OpenID Connect issuer; \
                  authctl stores the session in the keychain, refreshes it, issues valid access tokens and verifies \
                  them offline.",
    after_long_help = help::after_long_help(),
    after_help = help::START,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Command,
}

impl Cli {
    /// Replaces a word that users of other tools type with the command that it stands for, and the name by which a tool
    /// starts authctl with `helper`. Spaces and line breaks around a word, as pasted ones have, are removed.
    #[must_use]
    pub fn expand(args: Vec<OsString>) -> Vec<OsString> {
        guess::expand(trimmed(helper::expand(args)))
    }

    /// Returns the command line with the command that was probably meant, without the program's name; `None` if no command
    /// is similar.
    #[must_use]
    pub fn suggestion(args: &[OsString]) -> Option<Vec<String>> {
        guess::suggestion(&Self::command(), args)
    }

    /// Returns the names of the command and its subcommands in a command line, which starts with the program's name.
    #[must_use]
    pub fn named_command(line: &[OsString]) -> Vec<String> {
        command_words::named_command(&Self::command(), line).names.into_iter().map(str::to_owned).collect()
    }

    /// Returns the screen of `authctl` without arguments.
    #[must_use]
    pub fn overview() -> String {
        help::overview(&Self::command())
    }

    /// Returns the words after `authctl help` with a synonym replaced.
    #[must_use]
    pub fn explained(words: &[String]) -> Vec<String> {
        guess::explained(words)
    }

    /// Returns the command or topic that was probably meant by words after `authctl help`; no words if none is similar.
    #[must_use]
    pub fn explained_suggestion(words: &[String]) -> Vec<String> {
        guess::explained_suggestion(&Self::command(), words)
    }

    /// Returns the help of a command, with colours if `color`; `None` if there is no such command.
    #[must_use]
    pub fn help_of(words: &[String], color: bool) -> Option<String> {
        let command = Self::command();
        words.iter().try_fold(&command, |command, word| command.find_subcommand(word))?;
        let line = ["authctl"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
        let text = Self::try_parse_from(line).err()?.render();
        Some(if color { text.ansi().to_string() } else { text.to_string() })
    }

    /// Parses `token` and `status --short`, each with or without a profile, and nothing else. Scripts and shell prompts run these
    /// most, and building the full definition takes longer than the rest of a request to the agent.
    #[must_use]
    pub fn parse_shortcut(args: &[OsString]) -> Option<Self> {
        let words: Vec<&str> = args.get(1..)?.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
        let named = |name: &&str| name.parse::<ProfileName>().ok();
        let command = match words.as_slice() {
            ["token"] => Command::Token(Token::default()),
            ["token", name] => Command::Token(Token { profile: Some(named(name)?), ..Token::default() }),
            ["status", "--short"] => Command::Status(Status { short: true, ..Status::default() }),
            ["status", "--short", name] | ["status", name, "--short"] => {
                Command::Status(Status { profile: Some(named(name)?), short: true, ..Status::default() })
            }
            _ => return None,
        };
        let common = Common {
            json: false,
            quiet: false,
            verbose: 0,
            no_input: false,
            passphrase_stdin: false,
            color: Color::Auto,
            config: None,
            profile: None,
        };
        Some(Self { common, command })
    }
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_display_order = 900)]
pub struct Common {
    /// Write data and errors as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only errors and login instructions
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more on stderr; twice to print every request, never a secret
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Never prompt; fail instead
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Read the passphrase of the agent or the file store from the first line of stdin
    #[arg(long, global = true)]
    pub passphrase_stdin: bool,
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Use this configuration file instead of the default one
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use this profile, as the argument PROFILE does
    #[arg(id = "profile_option", long = "profile", global = true, value_name = "PROFILE")]
    pub profile: Option<ProfileName>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// If the output is a terminal with colours
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in and store the session
    Login(Deferred<Login>),
    /// Show the state, account and expiry of each profile's session
    Status(Status),
    /// Print the account of a session
    Whoami(Whoami),
    /// Print a valid access token, refreshed first if necessary
    Token(Token),
    /// Print the headers that a request to an API needs
    Headers(Headers),
    /// Verify a token offline: signature, expiry, issuer, audience
    Verify(Deferred<Verify>),
    /// Refresh a session now
    Refresh(Refresh),
    /// Make sure that a long job will not need a login: log in now if it would
    Ensure(Ensure),
    /// Revoke a session's tokens and delete the session
    Logout(Logout),
    /// Verify a session's token, then run a command with it
    Exec(Deferred<Exec>),
    /// Pass requests on to an API, with a token that the caller never has
    Proxy(Box<Proxy>),
    /// Give another tool tokens in its own protocol: git, docker, kubectl, cargo, pip and others
    Helper(Deferred<Helper>),
    /// Connect an MCP client to a server that requires tokens
    Mcp(Mcp),
    /// Run the agent, which caches tokens and serves them over a Unix socket
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Show and change the trusted issuer keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show and change the configured profiles
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Lock the file store with a passphrase
    #[command(subcommand)]
    Store(StoreCommand),
    /// Check the configuration, the store, the agent and the connection to the issuer
    Doctor(Doctor),
    /// Print a script for completion in a shell
    #[command(
        after_help = "The script completes commands, options, and the profiles, settings and scopes of the configuration.\n\n\
                      Examples:\n  \
                      authctl completion bash > ~/.local/share/bash-completion/completions/authctl\n  \
                      authctl completion zsh > ~/.zfunc/_authctl\n  \
                      authctl completion fish > ~/.config/fish/completions/authctl.fish\n  \
                      authctl completion powershell | Out-String | Invoke-Expression\n  \
                      eval (authctl completion elvish | slurp)"
    )]
    Completion(Completion),
    /// Run through a session's lifecycle against the embedded issuer
    #[cfg(feature = "dev-issuer")]
    Demo,
    /// Run the embedded issuer by itself, on loopback, for trying and testing
    #[cfg(feature = "dev-issuer")]
    DevIssuer(Deferred<DevIssuer>),
    /// Explain a command or a topic
    Help(Help),
    /// Print the version
    Version,
}

/// `authctl help`
#[derive(Debug, Args)]
pub struct Help {
    /// Command, or `environment`, `files`, `exit-codes` or `json`
    #[arg(value_name = "COMMAND|TOPIC")]
    pub words: Vec<String>,
}

/// `authctl status`
#[derive(Debug, Default, Args)]
pub struct Status {
    /// Profile to show instead of all
    pub profile: Option<ProfileName>,
    /// Print nothing, or with --json the status or error; exit 0 if a token is available without a login, else 3
    #[arg(long)]
    pub check: bool,
    /// Show every detail: issuer, scopes, refreshes, store, and why a profile is used if none is named
    #[arg(long, conflicts_with = "check")]
    pub long: bool,
    /// Print one word or phrase for a shell prompt: the profile, and its state unless it is signed in
    #[arg(long, conflicts_with_all = ["check", "json", "long", "watch"])]
    pub short: bool,
    /// Redraw every two seconds until Ctrl-C
    #[arg(long, conflicts_with_all = ["check", "json"])]
    pub watch: bool,
}

/// `authctl whoami`
#[derive(Debug, Args)]
pub struct Whoami {
    /// Profile name
    pub profile: Option<ProfileName>,
}

/// `authctl doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Profile to check instead of the default one
    pub profile: Option<ProfileName>,
}

/// `authctl refresh`
#[derive(Debug, Args)]
pub struct Refresh {
    /// Profile name
    #[arg(conflicts_with = "all")]
    pub profile: Option<ProfileName>,
    /// Refresh every profile that has a session
    #[arg(long)]
    pub all: bool,
    /// Refresh only if the token expires within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub if_expiring: Option<Duration>,
}

/// `authctl ensure`
#[derive(Debug, Args)]
pub struct Ensure {
    /// Profile name
    pub profile: Option<ProfileName>,
    /// Make sure that no login is needed for this time
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Duration,
}

/// `authctl logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// Profile name
    #[arg(conflicts_with = "all")]
    pub profile: Option<ProfileName>,
    /// Log out of every profile that has a session
    #[arg(long)]
    pub all: bool,
    /// Do not revoke the tokens at the issuer
    #[arg(long)]
    pub no_revoke: bool,
    /// Sign out of the issuer in the browser too (RP-initiated logout)
    #[arg(long)]
    pub end_session: bool,
}

/// `authctl mcp`
#[derive(Debug, Args)]
#[command(
    after_help = "The MCP client starts this command and talks to it over stdin and stdout.\n\nExample of its configuration:\n  \
                  {\"mcpServers\": {\"api\": {\"command\": \"authctl\", \"args\": [\"mcp\", \"https://api.example/mcp\"]}}}"
)]
pub struct Mcp {
    /// URL of the MCP server
    #[arg(value_name = "URL")]
    pub url: ApiUrl,
    /// Open the browser when a login is required, instead of returning an error
    #[arg(long)]
    pub browser: bool,
    /// Log in at a new issuer without asking
    #[arg(long, requires = "browser")]
    pub yes: bool,
}

/// Removes white space around the words and around the values after `=`, but not from the words of another program.
fn trimmed(mut args: Vec<OsString>) -> Vec<OsString> {
    let verb = argument_positions(&args).next();
    let others = verb.filter(|at| args[*at] == "exec" || args[*at] == "helper");
    let end = args.iter().position(|arg| arg == "--").into_iter().chain(others).min().unwrap_or(args.len());
    for arg in args[..end].iter_mut().skip(1) {
        let Some(text) = arg.to_str() else { continue };
        let trimmed = match text.trim().split_once('=') {
            Some((name, value)) if name.starts_with("--") => format!("{name}={}", value.trim_start()),
            _ => text.trim().to_owned(),
        };
        if trimmed != text {
            *arg = trimmed.into();
        }
    }
    args
}

#[cfg(test)]
mod tests;
