//! What can be typed after `authctl dev-issuer`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::model::duration;

/// `authctl dev-issuer`
#[derive(Debug, Args)]
#[command(
    after_help = "Without --users there is one user, `developer`, whose password is made up and printed. It is for \
                        trying and testing on this machine only, and forgets everything when it stops."
)]
pub struct DevIssuer {
    /// Listen on this port of 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Serve below this path, such as /tenant
    #[arg(long, value_name = "PATH", default_value = "")]
    pub path: String,
    /// Read users from this file: a line each, NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET (base32)
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// How long access tokens live
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    pub access_token_ttl: Duration,
    /// How long a session can be refreshed at all
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30d")]
    pub refresh_token_ttl: Duration,
    /// How often a session can be refreshed at all
    #[arg(long, value_name = "N")]
    pub refresh_token_uses: Option<u32>,
    /// How long a refresh token may be used again after its first use; 0 revokes the session at the first reuse
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
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
    /// Give each JWT access token a place in a status list, and serve the list
    #[arg(long, conflicts_with = "opaque")]
    pub status_list: bool,
    /// How long devices are told to wait between polls
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub device_interval: Duration,
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
