//! The arguments of `authctl profile`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{SETTINGS, Section, parse_pair};
use crate::model::ProfileName;

/// `authctl profile`
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles
    #[command(alias = "ls")]
    List,
    /// Show a profile's settings
    Show {
        /// Profile name
        profile: Option<ProfileName>,
    },
    /// Change a profile's settings
    #[command(
        after_help = settings_help(),
        override_usage = "authctl profile set [OPTIONS] PROFILE KEY=VALUE..."
    )]
    Set {
        /// Profile name
        #[arg(required = true, value_name = "PROFILE")]
        first: String,
        /// Setting and its new value; empty to remove it
        #[arg(value_name = "KEY=VALUE", value_parser = parse_pair)]
        settings: Vec<(String, String)>,
    },
    /// Remove a profile that has no session
    #[command(aliases = ["rm", "delete"])]
    Remove {
        /// Profile name
        profile: Option<ProfileName>,
    },
    /// Rename a profile together with its session
    #[command(override_usage = "authctl profile rename [OPTIONS] PROFILE TO")]
    Rename {
        /// Profile name
        #[arg(required = true, value_name = "PROFILE")]
        first: ProfileName,
        /// New name
        to: Option<ProfileName>,
    },
    /// Print profiles for another machine or user, without secrets
    Export {
        /// Profiles to print instead of all
        #[arg(value_name = "PROFILE")]
        profiles: Vec<ProfileName>,
    },
    /// Add the profiles that `export` printed
    Import {
        /// File to read, `-` for stdin
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
        /// Replace profiles that exist
        #[arg(long)]
        replace: bool,
    },
    /// Make a profile the default
    #[command(alias = "switch")]
    Use {
        /// Profile name
        profile: Option<ProfileName>,
    },
}

/// Lists the keys of `profile set` by section.
fn settings_help() -> String {
    let mut help =
        String::from("A list is separated by spaces, with quotes as in a shell; an empty value removes a setting.\n");
    for section in Section::ALL {
        let keys: Vec<&str> = SETTINGS.iter().filter(|s| s.section == section).map(|s| s.key).collect();
        help.push_str(&format!("\n{}:\n  {}\n", section.heading(), keys.join(", ")));
    }
    help.push_str("\nExample:\n  authctl profile set work audience=https://api.example scopes='openid offline_access'");
    help
}
