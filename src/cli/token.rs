//! The arguments of `authctl token` and `authctl headers`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::model::{ApiUrl, ProfileName, parse_duration, parse_method};

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
