//! What can be typed after `authctl login`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::settings::SettingArgs;
use crate::model::{Grant, ProfileName, parse_duration};

/// What a user name and a password are no part of.
const OTHER_GRANTS: [&str; 5] = ["browser", "device", "client_credentials", "with_token", "no_browser"];

/// `authctl login`
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("how").args(["browser", "device", "password", "client_credentials", "with_token", "no_browser"]),
    after_help = "No secret is ever taken from the command line: passwords and client secrets are asked for, or read from \
                  stdin.\n\nExamples:\n  authctl login work --issuer https://issuer.example --client-id my-cli\n  \
                  authctl login                       # again, as configured\n  \
                  authctl login ci --client-credentials --client-secret-stdin < secret\n  \
                  authctl login api --issuer https://api.example --login-endpoint https://api.example/login"
)]
pub struct Login {
    /// The profile to log in to; it is created if `--issuer` or `--provider` is given
    pub profile: Option<ProfileName>,
    /// Sign in with the browser on this machine (authorization code with PKCE); the default
    #[arg(long)]
    pub browser: bool,
    /// Sign in with a browser elsewhere: show a URL and a code (RFC 8628)
    #[arg(long)]
    pub device: bool,
    /// Sign in with user name and password, asked for here
    #[arg(long)]
    pub password: bool,
    /// Sign in as the client itself
    #[arg(long)]
    pub client_credentials: bool,
    /// Take a token response (JSON) or a bare JWT from stdin
    #[arg(long)]
    pub with_token: bool,
    /// Print the sign-in URL, and take the address that the browser ends at
    #[arg(long)]
    pub no_browser: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub settings: SettingArgs,
    /// Read the client's secret from stdin, as its first line
    #[arg(long)]
    pub client_secret_stdin: bool,
    /// The user name for `--password`; asked for otherwise
    #[arg(long, value_name = "NAME", conflicts_with_all = OTHER_GRANTS)]
    pub username: Option<String>,
    /// Read the password from stdin, as a line of its own
    #[arg(long, conflicts_with_all = OTHER_GRANTS)]
    pub password_stdin: bool,
    /// Ask for a level of authentication (`acr_values`)
    #[arg(long, value_name = "VALUES")]
    pub acr_values: Option<String>,
    /// Ask the issuer to prompt: none, login, consent or select_account
    #[arg(long, value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// Tell the issuer whom to expect
    #[arg(long, value_name = "NAME")]
    pub login_hint: Option<String>,
    /// Require that the user signed in within this time; the issuer asks again otherwise (`max_age`)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
    /// Replace a session that belongs to somebody else without asking
    #[arg(long)]
    pub replace: bool,
    /// Trust the keys in this file and no others: a JWK Set or PEM public keys
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
}

impl Login {
    /// The grant that an option names, if one does.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        if self.browser || self.no_browser {
            Some(Grant::Browser)
        } else if self.device {
            Some(Grant::Device)
        } else if self.password || self.password_stdin || self.username.is_some() {
            Some(Grant::Password)
        } else if self.client_credentials {
            Some(Grant::ClientCredentials)
        } else if self.with_token {
            Some(Grant::Token)
        } else {
            None
        }
    }
}
