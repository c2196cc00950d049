//! A service: what it runs, its files, and the commands for the service manager.

use std::path::PathBuf;

use crate::model::{ApiUrl, ProfileName};

/// The message after a proxy was enabled.
pub(super) const PROXY_ENABLED: &str = "The proxy is running, and starts again after each login to this machine.";

/// What a service runs.
pub enum Kind {
    /// The agent, at this socket if it is not the default one.
    Agent(Option<String>),
    /// A proxy, by its profile and API.
    Proxy(ProfileName, #[cfg_attr(target_os = "macos", allow(dead_code, reason = "only systemd shows it"))] ApiUrl),
}

/// The service to install.
pub struct Service {
    /// The directory of its files.
    pub dir: PathBuf,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it runs.
    pub kind: Kind,
    /// Variables that it needs to find the same sessions.
    pub environment: Vec<(&'static str, String)>,
}

/// A file that defines the service: a systemd unit or a launchd property list.
pub struct Unit {
    pub path: PathBuf,
    pub text: String,
}

/// The commands for the service manager, each a list of words. A step may have none.
pub struct ServiceCommands {
    /// Stop and disable the service.
    pub disable: Vec<Vec<String>>,
    /// Unload an earlier installation. These fail if there is none.
    pub unload: Vec<Vec<String>>,
    /// Load and enable the service.
    pub enable: Vec<Vec<String>>,
    /// The message after `enable`.
    pub enabled: &'static str,
    /// Reload after the files were removed.
    pub reload: Vec<Vec<String>>,
}
