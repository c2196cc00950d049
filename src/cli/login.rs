//! The arguments of `authctl login`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::settings::SettingArgs;
use crate::model::{ApiUrl, Grant, ProfileName, client_metadata_url, parse_duration};
use crate::oauth::ApiChallenge;

/// The arguments that choose a grant, and exclude each other.
const GRANTS: [&str; 7] =
    ["browser", "device", "password", "client_credentials", "workload", "with_token", "no_browser"];

/// Returns the arguments that choose a grant without user name and password.
fn grants_without_password() -> impl Iterator<Item = &'static str> {
    GRANTS.into_iter().filter(|grant| *grant != "password")
}

/// Returns whether an option of `login`, such as `--device`, chooses a grant.
#[must_use]
pub fn is_grant_option(option: &str) -> bool {
    option.strip_prefix("--").is_some_and(|name| GRANTS.iter().any(|grant| grant.replace('_', "-") == name))
}

/// `authctl login`
#[derive(Debug, Default, Args)]
#[command(
    group = ArgGroup::new("how").args(GRANTS),
    after_help = "Passwords and client secrets are prompted for or read from stdin, never taken from arguments.\n\nExamples:\n  authctl login work --issuer https://issuer.example --client-id my-cli\n  \
                  authctl login work\n  \
                  authctl login --for https://mcp.example/mcp\n  \
                  authctl login ci --client-credentials --client-secret-stdin < secret\n  \
                  authctl login api --issuer https://api.example --login-endpoint https://api.example/login"
)]
pub struct Login {
    /// Profile to log in to; created if --issuer or --provider is given
    pub profile: Option<ProfileName>,
    /// Log in with the browser on this machine (authorization code with PKCE); the default
    #[arg(long, alias = "web")]
    pub browser: bool,
    /// Log in with a browser on another device: print a URL and a code (RFC 8628)
    #[arg(long)]
    pub device: bool,
    /// Log in with a user name and a password, prompted for
    #[arg(long)]
    pub password: bool,
    /// Log in as the client itself (client credentials)
    #[arg(long)]
    pub client_credentials: bool,
    /// Read a token response (JSON) or a JWT from stdin
    #[arg(long)]
    pub with_token: bool,
    /// Print the URL to open, and prompt for the address that the browser is redirected to
    #[arg(long)]
    pub no_browser: bool,
    /// Log in for this API: find its issuer, its scopes and a client (RFC 9728)
    #[arg(long = "for", value_name = "URL", conflicts_with_all = ["with_token", "provider"])]
    pub api: Option<ApiUrl>,
    /// Log in at a new issuer without asking
    #[arg(long)]
    pub yes: bool,
    /// Use the client that this client ID metadata document describes, where the issuer takes one
    #[arg(long, value_name = "URL", requires = "api", conflicts_with = "client_id", value_parser = metadata_url)]
    pub client_metadata_url: Option<String>,
    /// Read what the API asks for from this file, as `token --challenge` does: what the bridge for MCP clients starts
    #[arg(long = "challenge", value_name = "FILE|-", requires = "api", hide = true)]
    pub challenge_file: Option<PathBuf>,
    /// What the API asks for, where the caller has its challenge.
    #[arg(skip)]
    pub challenge: Option<ApiChallenge>,
    /// Accept another issuer than at the first login for the API without naming it with --issuer
    #[arg(long)]
    pub accept_new_issuer: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub settings: SettingArgs,
    /// Read the client secret from the first line of stdin
    #[arg(long)]
    pub client_secret_stdin: bool,
    /// Log in with this user name instead of prompting for one
    #[arg(long, value_name = "NAME", conflicts_with_all = grants_without_password())]
    pub username: Option<String>,
    /// Read the password from a line of stdin
    #[arg(long, conflicts_with_all = grants_without_password())]
    pub password_stdin: bool,
    /// Lock the file store with a passphrase, prompted for (with --store file)
    #[arg(long)]
    pub passphrase: bool,
    /// Request one of these authentication context classes, separated by spaces (`acr_values`)
    #[arg(long, value_name = "VALUES")]
    pub acr_values: Option<String>,
    /// Request this prompt of the issuer: none, login, consent or select_account
    #[arg(long, value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// Suggest this user to the issuer (`login_hint`)
    #[arg(long, value_name = "NAME")]
    pub login_hint: Option<String>,
    /// Require that the user signed in no longer ago than this (`max_age`)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
    /// Replace the session of another user without prompting
    #[arg(long)]
    pub replace: bool,
    /// Trust only the keys in this file: a JWK Set or PEM public keys
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
}

fn metadata_url(text: &str) -> Result<String, String> {
    client_metadata_url(text).map(|()| text.to_owned())
}

impl Login {
    /// Returns the grant that an option chooses.
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
        } else if self.settings.has("workload") {
            Some(Grant::Workload)
        } else if self.with_token {
            Some(Grant::Token)
        } else {
            None
        }
    }
}
