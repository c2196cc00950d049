//! The arguments of `authctl dev-issuer`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::model::parse_duration;

/// `authctl dev-issuer`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --users there is one user, `developer`, with a random password that is printed at start. The \
                  issuer is for testing on this machine only. It keeps its state in memory and loses it when it stops."
)]
pub struct DevIssuer {
    /// Listen on this port of 127.0.0.1; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Path of the issuer identifier, such as /tenant
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    pub path: String,
    /// Read users from this file, one NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET (base32) per line
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// Accept identity tokens signed with a key of this JWK Set, by JWT bearer and token exchange
    #[arg(long, value_name = "FILE")]
    pub workload_jwks: Option<PathBuf>,
    /// Lifetime of access tokens and ID tokens
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5m")]
    pub access_token_ttl: Duration,
    /// Lifetime of a session, however often it is refreshed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30d")]
    pub refresh_token_ttl: Duration,
    /// Limit on refreshes of a session
    #[arg(long, value_name = "N")]
    pub refresh_token_uses: Option<u32>,
    /// How long a rotated refresh token is still accepted; reuse after that revokes the session
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    pub reuse_grace: Duration,
    /// Never rotate refresh tokens
    #[arg(long)]
    pub no_rotation: bool,
    /// Sign with this algorithm
    #[arg(long, value_name = "ALG", default_value = "RS256")]
    pub algorithm: SigningAlgorithm,
    /// Issue opaque access tokens instead of JWTs
    #[arg(long)]
    pub opaque: bool,
    /// List revoked and suspended access tokens in a status list
    #[arg(long, conflicts_with = "opaque")]
    pub status_list: bool,
    /// Refuse authorization requests that are not pushed (PAR)
    #[arg(long)]
    pub require_par: bool,
    /// Refuse requests for tokens without a DPoP proof
    #[arg(long)]
    pub require_dpop: bool,
    /// Require nonces in DPoP proofs
    #[arg(long)]
    pub dpop_nonces: bool,
    /// Polling interval of device logins
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    pub device_interval: Duration,
    /// Enable the control endpoint for test scripts and print its random key
    #[arg(long)]
    pub control: bool,
}

/// `--algorithm`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SigningAlgorithm {
    /// RSA with SHA-256
    #[value(name = "RS256", alias = "rs256")]
    Rs256,
    /// ECDSA on P-256
    #[value(name = "ES256", alias = "es256")]
    Es256,
    /// Ed25519
    #[value(name = "EdDSA", alias = "eddsa")]
    EdDsa,
}
