//! The arguments of `authctl proxy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Deferred;
use crate::model::{ApiUrl, ProfileName, RequestRule, RequestRules, parse_positive_duration};

/// `authctl proxy`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "authctl proxy [OPTIONS] [PROFILE] --for URL\n       authctl proxy list\n       authctl proxy stop [ADDRESS]\n       authctl proxy install [OPTIONS] [PROFILE] --for URL\n       authctl proxy uninstall PROFILE",
    after_help = "Prints its address and the caller's key on stdout as soon as it accepts requests. A caller sends the key as
`Authorization: Bearer KEY` or `X-Authctl-Key: KEY`; the proxy replaces it with the session's token.

A rule is a method (or several: GET,POST; or *) and a path. In the path, * is any part of one name, ** any number of
names. GET allows HEAD too."
)]
pub struct Proxy {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Option<ProxyCommand>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: ProxyRun,
}

/// `authctl proxy list` and `stop`
#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// List the running proxies
    #[command(alias = "ls")]
    List,
    /// Stop a proxy after its requests have ended
    Stop {
        /// Address or PID of the proxy [default: all]
        #[arg(value_name = "ADDRESS")]
        address: Option<String>,
    },
    /// Install a user service that runs a proxy, at a socket unless --listen names a port
    Install(Deferred<ProxyInstall>),
    /// Stop the user service of a profile's proxy and remove it
    Uninstall {
        /// Profile name
        profile: Option<ProfileName>,
    },
}

/// `authctl proxy install`
#[derive(Debug, Args)]
pub struct ProxyInstall {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: ProxyRun,
    /// Print the files instead of writing them
    #[arg(long)]
    pub print: bool,
}

/// How to run a proxy.
#[derive(Clone, Debug, Args)]
pub struct ProxyRun {
    /// Profile name [default: the profile for the API]
    pub profile: Option<ProfileName>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rules: ProxyRules,
    /// Listen at HOST:PORT on loopback, port 0 for any, or at unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Read the caller's key from this file, created with a new key if missing, and print only the address
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Stop after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub ttl: Option<Duration>,
}

/// What may pass a proxy.
#[derive(Clone, Debug, Default, Args)]
pub struct ProxyRules {
    /// API to pass requests on to: only this URL and what is below its path
    #[arg(id = "api", long = "for", value_name = "URL")]
    pub api: Option<ApiUrl>,
    /// Allow these requests and no others, such as 'GET /v1/*'; repeatable
    #[arg(long = "allow", value_name = "RULE", requires = "api")]
    pub allowed: Vec<RequestRule>,
    /// Allow only requests that change nothing: GET, HEAD, OPTIONS
    #[arg(long, requires = "api")]
    pub read_only: bool,
    /// Pass on no more than this number of requests
    #[arg(long, value_name = "NUMBER", requires = "api", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_requests: Option<u64>,
}

impl ProxyRules {
    /// Returns the rules.
    #[must_use]
    pub fn rules(&self) -> RequestRules {
        RequestRules { allowed: self.allowed.clone(), read_only: self.read_only }
    }
}
