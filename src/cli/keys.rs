//! The arguments of `authctl keys`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::model::ProfileName;

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
