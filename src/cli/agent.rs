//! What can be typed after `authctl agent`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::model::parse_duration;

/// `authctl agent`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Run in the foreground, as a service manager starts it
    Run(AgentRun),
    /// Start in the background; the agent is ready when this returns
    Start(AgentStart),
    /// Stop, once what is under way has ended
    Stop,
    /// Tell whether an agent runs here, and how it is
    Status,
    /// Lock: nothing is handed out until it is unlocked
    Lock(AgentLock),
    /// Unlock
    Unlock(AgentUnlock),
    /// Show which process got which profile's token, and when
    Log,
    /// Install the service that starts the agent when its socket is first used
    Install(AgentInstall),
    /// Remove that service
    Uninstall,
}

/// `authctl agent run`
#[derive(Debug, Args)]
#[command(after_help = "Serves HTTP/1.1 with JSON on a Unix socket that only this user's processes can use:
  curl                         --unix-socket \"$XDG_RUNTIME_DIR/authctl/agent.sock\" http://authctl/v1/token/work
                        /v1/openapi.json on it describes all that is answered.")]
pub struct AgentRun {
    /// Tell on the desktop when a session has ended
    #[arg(long)]
    pub notify: bool,
    /// Leave the terminal, and tell on stdout when requests are answered
    #[arg(long, hide = true)]
    pub detach: bool,
}

/// `authctl agent start`
#[derive(Debug, Args)]
pub struct AgentStart {
    /// Tell on the desktop when a session has ended
    #[arg(long)]
    pub notify: bool,
}

/// `authctl agent lock`
#[derive(Debug, Args)]
pub struct AgentLock {
    /// Lock whenever no token was asked for during this time, instead of now; 0 no longer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub after: Option<Duration>,
    /// Read the passphrase from stdin, as its first line
    #[arg(long)]
    pub passphrase_stdin: bool,
}

/// `authctl agent unlock`
#[derive(Debug, Args)]
pub struct AgentUnlock {
    /// Read the passphrase from stdin, as its first line
    #[arg(long)]
    pub passphrase_stdin: bool,
}

/// `authctl agent install`
#[derive(Debug, Args)]
pub struct AgentInstall {
    /// Only show what would be written
    #[arg(long)]
    pub print: bool,
}
