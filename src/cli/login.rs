//! What can be typed after `authctl login`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, ValueEnum};

use super::claim;
use crate::model::{ClientAuth, Grant, IssuerUrl, PROVIDERS, ProfileName, StoreKind, duration};

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
    /// The issuer, https except on loopback
    #[arg(long, value_name = "URL")]
    pub issuer: Option<IssuerUrl>,
    /// The client's id at the issuer
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// How the client proves itself
    #[arg(long, value_name = "METHOD")]
    pub client_auth: Option<ClientAuthArg>,
    /// Read the client's secret from stdin, as its first line
    #[arg(long)]
    pub client_secret_stdin: bool,
    /// The user name for `--password`; asked for otherwise
    #[arg(long, value_name = "NAME", conflicts_with_all = OTHER_GRANTS)]
    pub username: Option<String>,
    /// Read the password from stdin, as a line of its own
    #[arg(long, conflicts_with_all = OTHER_GRANTS)]
    pub password_stdin: bool,
    /// Ask for this scope; repeat it, or separate scopes by spaces
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ' ')]
    pub scopes: Vec<String>,
    /// Ask for tokens for this audience
    #[arg(long, value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// Ask for tokens for this resource (RFC 8707); repeatable
    #[arg(long = "resource", value_name = "URL")]
    pub resources: Vec<String>,
    /// Where to keep the session
    #[arg(long, value_name = "STORE")]
    pub store: Option<StoreArg>,
    /// Trust the certificate authorities in this PEM file besides the platform's
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
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
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Replace a session that belongs to somebody else without asking
    #[arg(long)]
    pub replace: bool,
    /// Trust the keys in this file and no others: a JWK Set or PEM public keys
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: ServerArgs,
}

/// What a server does not say of itself; kept in the profile.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What the issuer does not say itself")]
pub struct ServerArgs {
    /// Begin with what is known of a provider
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PROVIDERS.iter().map(|known| known.name)))]
    pub provider: Option<String>,
    /// The token endpoint; with it no metadata is asked for
    #[arg(long, value_name = "URL")]
    pub token_endpoint: Option<String>,
    /// The authorization endpoint
    #[arg(long, value_name = "URL")]
    pub authorization_endpoint: Option<String>,
    /// The device authorization endpoint
    #[arg(long, value_name = "URL")]
    pub device_authorization_endpoint: Option<String>,
    /// The revocation endpoint
    #[arg(long, value_name = "URL")]
    pub revocation_endpoint: Option<String>,
    /// The end of the session in the browser
    #[arg(long, value_name = "URL")]
    pub end_session_endpoint: Option<String>,
    /// The userinfo endpoint
    #[arg(long, value_name = "URL")]
    pub userinfo_endpoint: Option<String>,
    /// Where the issuer publishes its keys
    #[arg(long, value_name = "URL")]
    pub jwks_uri: Option<String>,
    /// Where the browser comes back to, as registered: on 127.0.0.1, ::1 or localhost, with a port if it must be that one
    #[arg(long, value_name = "URL")]
    pub redirect_uri: Option<String>,
    /// Add a parameter to the authorization request; repeatable
    #[arg(long = "authorization-parameter", value_name = "NAME=VALUE", value_parser = claim)]
    pub authorization_parameters: Vec<(String, String)>,
    /// Sign in as the client with this private key (`private_key_jwt`): PEM, with its certificate where the issuer knows it by
    /// that, or a JWK
    #[arg(long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// The key's id at the issuer (`kid`)
    #[arg(long, value_name = "KID")]
    pub client_key_id: Option<String>,
    /// Whom the client's signature is for: issuer, token_endpoint, or a text
    #[arg(long, value_name = "AUDIENCE")]
    pub client_assertion_audience: Option<String>,
    /// A login API that takes user name and password as JSON and answers with a JWT
    #[arg(long, value_name = "URL")]
    pub login_endpoint: Option<String>,
    /// Where that API refreshes
    #[arg(long, value_name = "URL")]
    pub refresh_endpoint: Option<String>,
    /// Where that API is told of a logout
    #[arg(long, value_name = "URL")]
    pub logout_endpoint: Option<String>,
    /// What that API calls a field: username, password, access_token, refresh_token or expires_in; repeatable
    #[arg(long = "field", value_name = "FIELD=NAME", value_parser = claim)]
    pub fields: Vec<(String, String)>,
}

impl ServerArgs {
    /// Each setting that was given, by its key in the configuration.
    pub fn given(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let texts = [
            ("token_endpoint", &self.token_endpoint),
            ("authorization_endpoint", &self.authorization_endpoint),
            ("device_authorization_endpoint", &self.device_authorization_endpoint),
            ("revocation_endpoint", &self.revocation_endpoint),
            ("end_session_endpoint", &self.end_session_endpoint),
            ("userinfo_endpoint", &self.userinfo_endpoint),
            ("jwks_uri", &self.jwks_uri),
            ("redirect_uri", &self.redirect_uri),
            ("client_key_id", &self.client_key_id),
            ("client_assertion_audience", &self.client_assertion_audience),
            ("login_endpoint", &self.login_endpoint),
            ("refresh_endpoint", &self.refresh_endpoint),
            ("logout_endpoint", &self.logout_endpoint),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text.clone()?)));
        texts.chain(self.fields.iter().map(|(field, name)| (format!("{field}_field"), name.clone())))
    }
}

/// `--store`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreArg {
    /// The platform's keychain
    Keychain,
    /// A file encrypted in the age format
    File,
}

impl From<StoreArg> for StoreKind {
    fn from(arg: StoreArg) -> Self {
        match arg {
            StoreArg::Keychain => Self::Keychain,
            StoreArg::File => Self::File,
        }
    }
}

/// `--client-auth`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientAuthArg {
    /// A public client
    None,
    /// The secret in the Authorization header
    #[value(name = "client_secret_basic", alias = "basic")]
    Basic,
    /// The secret in the form
    #[value(name = "client_secret_post", alias = "post")]
    Post,
    /// A signature with the client's own key, see --client-key
    #[value(name = "private_key_jwt")]
    PrivateKeyJwt,
}

impl From<ClientAuthArg> for ClientAuth {
    fn from(arg: ClientAuthArg) -> Self {
        match arg {
            ClientAuthArg::None => Self::None,
            ClientAuthArg::Basic => Self::ClientSecretBasic,
            ClientAuthArg::Post => Self::ClientSecretPost,
            ClientAuthArg::PrivateKeyJwt => Self::PrivateKeyJwt,
        }
    }
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
