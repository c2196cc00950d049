//! The arguments of `authctl store`.

use clap::{Args, Subcommand};

/// `authctl store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Set or change the passphrase
    Passphrase(StorePassphrase),
}

/// `authctl store passphrase`
#[derive(Debug, Args)]
#[command(
    after_help = "Prompts for the passphrase, or reads it with --passphrase-stdin: a line with the current one if there is one, \
                        and a line with the new one. All profiles whose store is file have the same."
)]
pub struct StorePassphrase {
    /// Remove the passphrase: the key is then a file that only its mode protects
    #[arg(long, conflicts_with = "forgotten")]
    pub remove: bool,
    /// Start over with a new passphrase, and delete all sessions, keys of issuers and registrations in the file store
    #[arg(long)]
    pub forgotten: bool,
}
