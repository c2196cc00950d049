//! The agent as a service: what it runs, its files, and the commands for the service manager.

use std::path::PathBuf;

/// The service to install.
pub(super) struct Service {
    /// The directory of its files.
    pub(super) dir: PathBuf,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// The socket, if it is not the default one.
    pub(super) socket: Option<String>,
    /// Variables that the agent needs to find the same sessions.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// A file that defines the service: a systemd unit or a launchd property list.
pub(super) struct Unit {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The commands for the service manager, each a list of words. A step may have none.
pub(super) struct ServiceCommands {
    /// Stop and disable the service.
    pub(super) disable: Vec<Vec<String>>,
    /// Unload an earlier installation. These fail if there is none.
    pub(super) unload: Vec<Vec<String>>,
    /// Load and enable the service.
    pub(super) enable: Vec<Vec<String>>,
    /// The message after `enable`.
    pub(super) enabled: &'static str,
    /// Reload after the files were removed.
    pub(super) reload: Vec<Vec<String>>,
}
