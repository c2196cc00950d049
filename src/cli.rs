//! The command line: every command and option, parsed and validated.

mod agent;
mod command_words;
mod completion;
#[cfg(feature = "dev-issuer")]
mod dev_issuer;
mod guess;
mod help;
mod helper;
mod login;
mod proxy;
mod settings;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub use agent::{AgentCommand, AgentInstall, AgentLock, AgentLog, AgentRun, AgentStart, AgentUnlock, LoginMode};
pub use command_words::argument_positions;
pub use completion::{Completion, Request as CompletionRequest, Shell};
#[cfg(feature = "dev-issuer")]
pub use dev_issuer::{DevIssuer, SigningAlgorithm};
pub use help::{COMMIT, ENVIRONMENT, FILES, TOPICS, VERSION};
pub use helper::{Helper, Tool};
pub use login::{Login, is_grant_option};
pub use proxy::{Proxy, ProxyCommand, ProxyInstall, ProxyRules, ProxyRun};
pub use settings::SettingArgs;
pub use verify::Verify;

use crate::config::{SETTINGS, Section, parse_pair};
use crate::model::{ApiUrl, ProfileName, parse_duration, parse_method};

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
    /// starts authctl with `helper`.
    #[must_use]
    pub fn expand(args: Vec<OsString>) -> Vec<OsString> {
        guess::expand(helper::expand(args))
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

/// `authctl store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Set or change the passphrase
    Passphrase(StorePassphrase),
}

/// `authctl store passphrase`
#[derive(Debug, Args)]
#[command(
    after_help = "Prompts for the passphrase, or reads it with --passphrase-stdin: a line with the current one if there is one, \
                        and a line with the new one. All profiles whose store is file have the same."
)]
pub struct StorePassphrase {
    /// Remove the passphrase: the key is then a file that only its mode protects
    #[arg(long, conflicts_with = "forgotten")]
    pub remove: bool,
    /// Start over with a new passphrase, and delete all sessions, keys of issuers and registrations in the file store
    #[arg(long)]
    pub forgotten: bool,
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
    Login(Box<Login>),
    /// Show the state, account and expiry of each profile's session
    Status(Status),
    /// Print the account of a session
    Whoami(Whoami),
    /// Print a valid access token, refreshed first if necessary
    Token(Token),
    /// Print the headers that a request to an API needs
    Headers(Headers),
    /// Verify a token offline: signature, expiry, issuer, audience
    Verify(Box<Verify>),
    /// Refresh a session now
    Refresh(Refresh),
    /// Make sure that a long job will not need a login: log in now if it would
    Ensure(Ensure),
    /// Revoke a session's tokens and delete the session
    Logout(Logout),
    /// Verify a session's token, then run a command with it
    Exec(Exec),
    /// Pass requests on to an API, with a token that the caller never has
    Proxy(Box<Proxy>),
    /// Give another tool tokens in its own protocol: git, docker, kubectl, cargo, pip and others
    Helper(Box<Helper>),
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
    DevIssuer(DevIssuer),
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

/// Options that request a token other than the profile's own.
#[derive(Debug, Default, Args)]
pub struct TargetArgs {
    /// Request a token for this audience
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// Request a token with this scope; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ' ')]
    pub scopes: Vec<String>,
    /// Request a token for this resource (RFC 8707); repeatable
    #[arg(long = "resource", value_name = "URL")]
    pub resources: Vec<String>,
}

/// `authctl token`
#[derive(Debug, Default, Args)]
pub struct Token {
    /// Profile name
    pub profile: Option<ProfileName>,
    /// Refresh first if the token expires within this time [default: 60s, at most half its lifetime; 0 for an ID token]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub min_ttl: Option<Duration>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: TargetArgs,
    /// Print the ID token instead of the access token
    #[arg(long, conflicts_with_all = ["audience", "scopes", "resources"])]
    pub id_token: bool,
    /// Print an `Authorization: Bearer ...` header
    #[arg(long, conflicts_with = "json")]
    pub header: bool,
    /// Print a token for this API: of the profile with the longest resource that covers the URL
    #[arg(long = "for", value_name = "URL", conflicts_with = "id_token")]
    pub api: Option<ApiUrl>,
    /// Answer the API's refusal: read its WWW-Authenticate header from this file, and refresh or log in as it asks
    #[arg(long, value_name = "FILE|-", requires = "api")]
    pub challenge: Option<PathBuf>,
    /// Refresh if necessary and print nothing: what `token` starts in the background
    #[arg(long, hide = true)]
    pub refresh_only: bool,
}

/// `authctl headers`
#[derive(Debug, Args)]
pub struct Headers {
    /// Profile name
    pub profile: Option<ProfileName>,
    /// Print the headers for a request to this URL of an API
    #[arg(long = "for", value_name = "URL")]
    pub api: ApiUrl,
    /// Print the headers for a request with this method
    #[arg(long, value_name = "METHOD", default_value = "GET", value_parser = parse_method)]
    pub method: String,
    /// Prove this nonce of the API's DPoP-Nonce header, if the token is bound to a key (DPoP)
    #[arg(long, value_name = "NONCE")]
    pub nonce: Option<String>,
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

/// `authctl exec`
#[derive(Debug, Args)]
#[command(
    // What the rules restrict is the proxy: without it the command would get the token.
    mut_arg("api", |arg| arg.requires("proxy")),
    mut_arg("allowed", |arg| arg.requires("proxy")),
    mut_arg("read_only", |arg| arg.requires("proxy")),
    mut_arg("max_requests", |arg| arg.requires("proxy")),
    override_usage = "authctl exec [OPTIONS] [PROFILE] -- CMD [ARG]...\n       authctl exec [OPTIONS] PROFILE CMD [ARG]..."
)]
pub struct Exec {
    /// Profile name; required without `--`
    #[arg(value_name = "PROFILE")]
    pub first: Option<OsString>,
    /// Set this environment variable to the token, or with --file to its path [default: AUTHCTL_TOKEN, AUTHCTL_TOKEN_FILE]; with
    /// --proxy, set NAME=TEXT, where {url}, {key} and {socket} in the text are the proxy's; repeatable then
    #[arg(long, value_name = "NAME", value_parser = variable)]
    pub env: Vec<(String, Option<String>)>,
    /// Keep the token fresh in this file while the command runs, instead of passing it
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Run the command with a proxy for the API of --for instead of a token: AUTHCTL_PROXY_URL and AUTHCTL_PROXY_KEY
    #[arg(long, requires = "api", conflicts_with_all = ["file", "hook"])]
    pub proxy: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rules: ProxyRules,
    /// Run the command under bubblewrap: no network but the proxy, home read-only, no agent and no keychain
    #[arg(long, requires = "proxy")]
    pub sandbox: bool,
    /// With --sandbox, a file or directory that the command may write; repeatable
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    pub bind: Vec<PathBuf>,
    /// Run the command beside a port that leads to this socket: what runs in the sandbox
    #[arg(long, hide = true, value_name = "SOCKET", requires = "command")]
    pub inside: Option<PathBuf>,
    /// Run a hook, without a token, once this file can be locked: what a refresh starts
    #[arg(long, hide = true, value_name = "FILE", requires = "command")]
    pub hook: Option<PathBuf>,
    /// Command and its arguments
    #[arg(allow_hyphen_values = true, hide = true, value_name = "CMD")]
    pub words: Vec<OsString>,
    /// Command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
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

/// `authctl keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show the trusted keys, their source and their age
    #[command(alias = "list")]
    Show {
        /// Profile of the issuer
        profile: Option<ProfileName>,
    },
    /// Fetch the issuer's keys now
    #[command(alias = "fetch")]
    Update {
        /// Profile of the issuer
        profile: Option<ProfileName>,
    },
    /// Trust only the keys in a file, until `unpin`
    Pin {
        /// Profile of the issuer
        profile: Option<ProfileName>,
        /// Trust the keys in this file: a JWK Set or PEM public keys
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
    },
    /// Trust the keys that the issuer publishes again
    Unpin {
        /// Profile of the issuer
        profile: Option<ProfileName>,
    },
}

/// `authctl profile`
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles
    #[command(alias = "ls")]
    List,
    /// Show a profile's settings
    Show {
        /// Profile name
        profile: Option<ProfileName>,
    },
    /// Change a profile's settings
    #[command(
        after_help = settings_help(),
        override_usage = "authctl profile set [OPTIONS] PROFILE KEY=VALUE..."
    )]
    Set {
        /// Profile name
        #[arg(required = true, value_name = "PROFILE")]
        first: String,
        /// Setting and its new value; empty to remove it
        #[arg(value_name = "KEY=VALUE", value_parser = parse_pair)]
        settings: Vec<(String, String)>,
    },
    /// Remove a profile that has no session
    #[command(aliases = ["rm", "delete"])]
    Remove {
        /// Profile name
        profile: Option<ProfileName>,
    },
    /// Rename a profile together with its session
    #[command(override_usage = "authctl profile rename [OPTIONS] PROFILE TO")]
    Rename {
        /// Profile name
        #[arg(required = true, value_name = "PROFILE")]
        first: ProfileName,
        /// New name
        to: Option<ProfileName>,
    },
    /// Print profiles for another machine or user, without secrets
    Export {
        /// Profiles to print instead of all
        #[arg(value_name = "PROFILE")]
        profiles: Vec<ProfileName>,
    },
    /// Add the profiles that `export` printed
    Import {
        /// File to read, `-` for stdin
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
        /// Replace profiles that exist
        #[arg(long)]
        replace: bool,
    },
    /// Make a profile the default
    #[command(alias = "switch")]
    Use {
        /// Profile name
        profile: Option<ProfileName>,
    },
}

/// Lists the keys of `profile set` by section.
fn settings_help() -> String {
    let mut help = String::from("A list is separated by spaces; an empty value removes a setting.\n");
    for section in Section::ALL {
        let keys: Vec<&str> = SETTINGS.iter().filter(|s| s.section == section).map(|s| s.key).collect();
        help.push_str(&format!("\n{}:\n  {}\n", section.heading(), keys.join(", ")));
    }
    help.push_str("\nExample:\n  authctl profile set work audience=https://api.example scopes='openid offline_access'");
    help
}

/// Parses the name of a variable, and its value if there is one.
fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let fits = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits {
        Ok((name.to_owned(), value.map(str::to_owned)))
    } else {
        Err(format!("invalid variable name `{name}` (letters, digits and `_`, not starting with a digit)"))
    }
}

#[cfg(test)]
mod tests;
