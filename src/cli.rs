//! What can be typed: every command and option, parsed and validated, and nothing done yet.

mod agent;
#[cfg(feature = "dev-issuer")]
mod dev_issuer;
mod login;
mod settings;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use agent::{AgentCommand, AgentInstall, AgentLock, AgentRun, AgentStart, AgentUnlock};
#[cfg(feature = "dev-issuer")]
pub use dev_issuer::{DevIssuer, SigningAlgorithm};
pub use login::Login;
pub use settings::SettingArgs;

use crate::config::{SETTINGS, Section};
use crate::model::{ProfileName, parse_duration};

/// What `--help` and the manual say after the commands.
const AFTER_HELP: &str = "\
Start here:  authctl login work --issuer https://issuer.example --client-id ID
Try it out:  authctl demo

Environment:
  AUTHCTL_PROFILE   the profile where none is named; before a directory's .authctl.toml
  AUTHCTL_CONFIG    the configuration file, like --config
  AUTHCTL_STORE     the store of new profiles: keychain or file
  AUTHCTL_KEY_FILE  the age identity that the file store seals to
  AUTHCTL_SOCK      the agent's socket
  AUTHCTL_NO_INPUT  never ask anything, like --no-input
  AUTHCTL_TOKEN     a token handed in, used as it is where no profile is named
  SSL_CERT_FILE, HTTPS_PROXY, NO_PROXY, BROWSER, NO_COLOR and CLICOLOR_FORCE are honoured

Files, on Linux:
  ~/.config/authctl/config.toml   the profiles
  ~/.config/authctl/authctl.key   the file store's key, where none was given
  ~/.local/share/authctl/         sessions of the file store, locks, hashes of logged-out tokens
  $XDG_RUNTIME_DIR/authctl/       the agent's socket
  .authctl.toml                   profile = \"NAME\": the profile meant in a directory and below it";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "authctl",
    version,
    about = "Log in once, and every terminal, script and program gets a valid token",
    long_about = "A credential agent for the command line. Log in once at an OAuth 2.0 or OpenID Connect issuer; \
                  authctl keeps the session in the keychain, refreshes it, hands out valid access tokens and checks \
                  them offline.",
    after_long_help = AFTER_HELP,
    after_help = "Start here:  authctl login work --issuer https://issuer.example --client-id ID\n\
                  Try it out:  authctl demo",
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
    /// What `authctl token` and `authctl token PROFILE` mean, and nothing else: scripts call them most, and parsing them
    /// by the full definition takes longer than all the rest of what an agent's answer needs.
    #[must_use]
    pub fn usual(args: &[OsString]) -> Option<Self> {
        let profile = match args {
            [_, verb] if verb == "token" => None,
            [_, verb, name] if verb == "token" => Some(name.to_str()?.parse().ok()?),
            _ => return None,
        };
        let common =
            Common { json: false, quiet: false, verbose: 0, no_input: false, color: Color::Auto, config: None };
        let token = Token {
            profile,
            min_ttl: None,
            asked: For::default(),
            id_token: false,
            header: false,
            refresh_only: false,
        };
        Some(Self { common, command: Command::Token(token) })
    }
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_display_order = 900)]
pub struct Common {
    /// Write data and errors as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell nothing but errors, and what somebody has to do to log in
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell more on stderr; twice for every request, never a secret
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Never ask anything; fail instead
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Use this configuration file instead of the usual one
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Where the output is a terminal that can
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in and keep the session
    Login(Box<Login>),
    /// Show every profile: who, how long the token lasts, where it is kept
    Status(Status),
    /// Print a valid access token, refreshed first if need be
    Token(Token),
    /// Check a token offline: signature, expiry, issuer, audience
    Verify(Box<Verify>),
    /// Refresh a session now
    Refresh(Refresh),
    /// Revoke a session at its issuer and delete it here
    Logout(Logout),
    /// Check the session as `verify` does, then run a command with the token
    Exec(Exec),
    /// Run the agent that keeps tokens cache and serves them over a Unix socket
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Show and change the issuer keys that are trusted offline
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show and change the configured profiles
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// See the whole life of a session against the embedded issuer
    #[cfg(feature = "dev-issuer")]
    Demo,
    /// Run the embedded issuer by itself, on loopback, for trying and testing
    #[cfg(feature = "dev-issuer")]
    DevIssuer(DevIssuer),
}

/// `authctl status`
#[derive(Debug, Args)]
pub struct Status {
    /// Only this profile
    pub profile: Option<ProfileName>,
    /// Print nothing; exit 0 if a token can be had without logging in, 3 otherwise
    #[arg(long)]
    pub check: bool,
}

/// What a token is for, where that is not the profile's own request.
#[derive(Debug, Default, Args)]
pub struct For {
    /// Ask for a token for this audience, kept apart from the others
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// Ask for a token with this scope, kept apart from the others; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ' ')]
    pub scopes: Vec<String>,
    /// Ask for a token for this resource (RFC 8707), kept apart from the others; repeatable
    #[arg(long = "resource", value_name = "URL")]
    pub resources: Vec<String>,
}

/// `authctl token`
#[derive(Debug, Args)]
pub struct Token {
    /// The profile
    pub profile: Option<ProfileName>,
    /// Refresh first if less than this is left; by default a minute, or half the life of a token that lives less than two
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub min_ttl: Option<Duration>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub asked: For,
    /// Print the ID token instead
    #[arg(long, conflicts_with_all = ["audience", "scopes", "resources"])]
    pub id_token: bool,
    /// Print a whole `Authorization: Bearer ...` header
    #[arg(long, conflicts_with = "json")]
    pub header: bool,
    /// Refresh if necessary and print nothing: what `token` starts in the background
    #[arg(long, hide = true)]
    pub refresh_only: bool,
}

/// `authctl verify`
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if the token is valid, 4 if not. Needs no network and never uses it.\n\nExamples:\n  \
                        authctl verify\n  \
                        authctl verify - --jwks keys.json --issuer https://issuer.example --audience api < token")]
pub struct Verify {
    /// The profile whose stored token to check, or `-` for a JWT on stdin
    #[arg(value_name = "PROFILE|-")]
    pub subject: Option<String>,
    /// With `-`: use this profile's issuer, audience and keys
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<ProfileName>,
    /// Expect this issuer, compared exactly
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// Accept this audience; repeatable
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub audiences: Vec<String>,
    /// Trust the keys in this file: a JWK Set or PEM public keys
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Accept only these algorithms, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub algorithms: Vec<String>,
    /// Forgive clocks that differ by this much
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub leeway: Duration,
    /// Accept this `typ`; repeatable. By default none, JWT or at+jwt
    #[arg(long, value_name = "TYPE")]
    pub typ: Vec<String>,
    /// Require this scope; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ' ')]
    pub scopes: Vec<String>,
    /// Require a claim to have this value; repeatable
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    pub claims: Vec<(String, String)>,
    /// Require that the user signed in within this time (`auth_time`)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_auth_age: Option<Duration>,
    /// Require this authentication context class
    #[arg(long, value_name = "ACR")]
    pub acr: Vec<String>,
    /// Require this authentication method; repeatable
    #[arg(long, value_name = "AMR")]
    pub amr: Vec<String>,
    /// Do not ask the status list that the token names
    #[arg(long)]
    pub ignore_status: bool,
    /// With `-`: decide as of this moment instead of now
    #[arg(long, value_name = "UNIX_SECONDS", allow_negative_numbers = true)]
    pub at: Option<i64>,
    /// Tell each check in the order in which it was made, what was expected and what was found
    #[arg(long, conflicts_with = "batch")]
    pub explain: bool,
    /// With `-`: take one JWT a line and answer one JSON line each, in order, on every core
    #[arg(long)]
    pub batch: bool,
}

/// `authctl refresh`
#[derive(Debug, Args)]
pub struct Refresh {
    /// The profile
    #[arg(conflicts_with = "all")]
    pub profile: Option<ProfileName>,
    /// Every profile that has a session
    #[arg(long)]
    pub all: bool,
    /// Only if less than this is left
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub if_expiring: Option<Duration>,
}

/// `authctl logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The profile
    #[arg(conflicts_with = "all")]
    pub profile: Option<ProfileName>,
    /// Every profile that has a session
    #[arg(long)]
    pub all: bool,
    /// Do not tell the issuer
    #[arg(long)]
    pub no_revoke: bool,
    /// Sign out of the issuer in the browser too (RP-initiated logout)
    #[arg(long)]
    pub end_session: bool,
}

/// `authctl exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// The profile
    pub profile: Option<ProfileName>,
    /// Put the token in this variable
    #[arg(long, value_name = "NAME", default_value = "AUTHCTL_TOKEN", value_parser = variable)]
    pub env: String,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `authctl keys`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show which keys are trusted, where they are from and how old they may get
    Show {
        /// The profile whose issuer is meant
        profile: Option<ProfileName>,
    },
    /// Fetch the issuer's keys now
    Update {
        /// The profile whose issuer is meant
        profile: Option<ProfileName>,
    },
    /// Trust the keys in a file and no others, until `unpin`
    Pin {
        /// The profile whose issuer is meant
        profile: Option<ProfileName>,
        /// A JWK Set or PEM public keys
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
    },
    /// Trust what the issuer publishes again
    Unpin {
        /// The profile whose issuer is meant
        profile: Option<ProfileName>,
    },
}

/// `authctl profile`
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles
    List,
    /// Show a profile's settings
    Show {
        /// The profile
        profile: Option<ProfileName>,
    },
    /// Change a profile's settings
    #[command(
        after_help = settings_help()
    )]
    Set {
        /// The profile
        profile: ProfileName,
        /// What to change
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = claim)]
        settings: Vec<(String, String)>,
    },
    /// Remove a profile that has no session
    Remove {
        /// The profile
        profile: ProfileName,
    },
    /// Give a profile another name, session included
    Rename {
        /// The profile
        profile: ProfileName,
        /// Its new name
        to: ProfileName,
    },
    /// Make a profile the default
    Use {
        /// The profile
        profile: ProfileName,
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

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

fn variable(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits { Ok(text.to_owned()) } else { Err(format!("`{text}` is no variable's name")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_usual_is_what_the_definition_makes_of_it() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for words in [&["authctl", "token"][..], &["authctl", "token", "work"]] {
            let parsed = Cli::try_parse_from(words).expect("parsed");
            assert_eq!(format!("{:?}", Cli::usual(&args(words)).expect("usual")), format!("{parsed:?}"));
        }
        for words in [
            &["authctl"][..],
            &["authctl", "token", "--json"],
            &["authctl", "token", "-h"],
            &["authctl", "token", "a", "b"],
            &["authctl", "status"],
            &["authctl", "token", "--"],
        ] {
            assert!(Cli::usual(&args(words)).is_none(), "{words:?}");
        }
    }

    #[test]
    fn no_option_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let takes_text = arg.get_action().takes_values();
                let name = arg.get_id().as_str();
                let is_secret = name.contains("secret") || name.contains("password") && name != "password_field";
                assert!(!(takes_text && is_secret), "{name}");
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
