//! Where the user is, by the environment: at this machine's screen or elsewhere.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the environment reveals about the user's location, and what can open a browser.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `BROWSER` is set. It is used in a container and in WSL too, where editors set it.
    pub browser_named: bool,
    /// There is a graphical session.
    pub display: bool,
    /// `SSH_CONNECTION` or `SSH_TTY`: the user is at another machine.
    pub ssh: bool,
    /// `WSL_DISTRO_NAME` or `WSL_INTEROP`: this is Linux inside Windows.
    pub wsl: bool,
    /// `container`, which Podman, systemd-nspawn and others set.
    pub container_named: bool,
    /// `PATH`.
    pub search_path: OsString,
}

/// Why no browser is opened on this machine without an option. The messages begin a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Elsewhere {
    /// The user is at another machine.
    #[error("Connected over SSH")]
    Ssh,
    /// WSL, and nothing opens a browser in Windows.
    #[error("Running in WSL without BROWSER, wslview or rundll32.exe")]
    Wsl,
    /// A container without a display.
    #[error("Running in a container without a display")]
    Container,
    /// No graphical session.
    #[error("No display available")]
    NoDisplay,
}

/// What opens a URL in a Windows browser from WSL, with the arguments before the URL, in order of preference.
const WINDOWS_OPENERS: [(&str, &[&str]); 2] = [("wslview", &[]), ("rundll32.exe", &["url.dll,FileProtocolHandler"])];

impl Surroundings {
    /// Returns why no browser can be opened here, or `None` if one can.
    #[must_use]
    pub fn elsewhere(&self) -> Option<Elsewhere> {
        // Docker and Podman create these in each container.
        self.elsewhere_if(|| ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists()))
    }

    pub(super) fn elsewhere_if(&self, marked_as_container: impl Fn() -> bool) -> Option<Elsewhere> {
        if self.ssh {
            return Some(Elsewhere::Ssh);
        }
        if self.browser_named || self.display || self.windows_opener().is_some() {
            return None;
        }
        Some(if self.wsl {
            Elsewhere::Wsl
        } else if self.container_named || marked_as_container() {
            Elsewhere::Container
        } else {
            Elsewhere::NoDisplay
        })
    }

    /// Returns the program that opens a URL in a Windows browser from WSL, and its arguments before the URL. `None` if
    /// `BROWSER` is set.
    #[must_use]
    pub fn windows_opener(&self) -> Option<(PathBuf, &'static [&'static str])> {
        if !self.wsl || self.browser_named {
            return None;
        }
        WINDOWS_OPENERS.into_iter().find_map(|(program, arguments)| {
            let found = env::split_paths(&self.search_path).map(|dir| dir.join(program)).find(|path| path.is_file());
            found.map(|path| (path, arguments))
        })
    }
}
