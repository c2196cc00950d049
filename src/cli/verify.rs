//! The arguments of `authctl verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::parse_pair;
use crate::model::parse_duration;

/// `authctl verify`
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if the token is valid, 4 if not. Needs no network and never uses it.\n\nExamples:\n  \
                        authctl verify\n  \
                        authctl verify - --jwks keys.json --issuer https://issuer.example --audience api < token")]
pub struct Verify {
    /// Profile whose stored token to verify, or `-` for a JWT on stdin, with the settings of --profile
    #[arg(value_name = "PROFILE|-")]
    pub profile_or_stdin: Option<String>,
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
    /// Allow for clocks that differ by this much
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub leeway: Duration,
    /// Accept this `typ`; repeatable [default: none, JWT or at+jwt]
    #[arg(long, value_name = "TYPE")]
    pub typ: Vec<String>,
    /// Require this scope; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ' ')]
    pub scopes: Vec<String>,
    /// Require this value of the claim; repeatable
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub claims: Vec<(String, String)>,
    /// Require that the user signed in no longer ago than this (`auth_time`)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_auth_age: Option<Duration>,
    /// Require one of these authentication context classes; repeatable
    #[arg(long, value_name = "ACR")]
    pub acr: Vec<String>,
    /// Require this authentication method; repeatable
    #[arg(long, value_name = "AMR")]
    pub amr: Vec<String>,
    /// Do not check the status list that the token names
    #[arg(long)]
    pub ignore_status: bool,
    /// Verify as of this time instead of now; with `-`
    #[arg(long, value_name = "UNIX_SECONDS", allow_negative_numbers = true)]
    pub at: Option<i64>,
    /// Print each check with the expected and the actual value
    #[arg(long, conflicts_with = "batch")]
    pub explain: bool,
    /// Read one JWT a line and print one line of JSON for each, in order; with `-`
    #[arg(long)]
    pub batch: bool,
}
