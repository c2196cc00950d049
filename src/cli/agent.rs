//! The arguments of `authctl agent`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::model::parse_duration;

/// `authctl agent`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Run in the foreground, as a service manager starts it
    Run(AgentRun),
    /// Start in the background, and return once the agent accepts connections
    Start(AgentStart),
    /// Stop, after running refreshes have finished
    Stop,
    /// Show whether the agent is running, and its state
    Status,
    /// Lock, so that no token is issued until the agent is unlocked; wipe the key of a file store with a passphrase
    Lock(AgentLock),
    /// Unlock with the passphrase
    Unlock(AgentUnlock),
    /// Show which process got a token of which profile or was denied one, and when
    Log(AgentLog),
    /// Install a user service that starts the agent when its socket is first used
    Install(AgentInstall),
    /// Remove the user service
    Uninstall,
}

/// `authctl agent run`
#[derive(Debug, Args)]
#[command(after_help = "Serves HTTP/1.1 with JSON on a Unix socket that only this user's processes can use:
  curl --unix-socket \"$XDG_RUNTIME_DIR/authctl/agent.sock\" http://authctl/v1/token/work
Its description is at /v1/openapi.json.")]
pub struct AgentRun {
    /// Show a desktop notification when a session needs a login
    #[arg(long)]
    pub notify: bool,
    /// What to do when a caller needs a login
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub login: LoginMode,
    /// Detach from the terminal, and report on stdout once connections are accepted
    #[arg(long, hide = true)]
    pub detach: bool,
    /// Serve an agent that has started this process and is confined
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub broker: bool,
}

/// `authctl agent start`
#[derive(Debug, Args)]
pub struct AgentStart {
    /// Show a desktop notification when a session needs a login
    #[arg(long)]
    pub notify: bool,
    /// What to do when a caller needs a login
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub login: LoginMode,
}

/// What the agent does when a caller needs a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoginMode {
    /// Fail: the caller reports that a login is required
    Never,
    /// Ask the user with a desktop notification, and log in with the browser
    Ask,
}

/// `authctl agent lock`
#[derive(Debug, Args)]
#[command(
    after_help = "A file store with a passphrase is locked with the agent, and the same passphrase unlocks both: no program gets a \
                        token of it in between. The keychain and a file store without a passphrase are not locked: programs of \
                        this user can still read them."
)]
pub struct AgentLock {
    /// Lock after this long without a request for a token, instead of now; 0s turns it off
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub after: Option<Duration>,
}

/// `authctl agent unlock`
#[derive(Debug, Args)]
pub struct AgentUnlock {
    /// Take the passphrase of the file store from the keychain, and store it there when it is first entered: programs that can
    /// read the keychain can then unlock the store
    #[arg(long)]
    pub keychain: bool,
}

/// `authctl agent log`
#[derive(Debug, Args)]
pub struct AgentLog {
    /// Wait for new entries and print them until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Show times in UTC instead of local time
    #[arg(long)]
    pub utc: bool,
}

/// `authctl agent install`
#[derive(Debug, Args)]
pub struct AgentInstall {
    /// Print the files instead of writing them
    #[arg(long)]
    pub print: bool,
}
