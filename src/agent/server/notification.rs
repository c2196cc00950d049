//! Tells on the desktop that a session has ended, once, where the person asked for it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::Agent;
use super::events::What;
use crate::model::ProfileName;

/// Shows a notification for each session that ends.
pub(super) fn start(agent: &Arc<Agent>) {
    let mut events = agent.events.listen();
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) if event.what == What::LoginRequired => {
                    if let Some(profile) = event.profile {
                        // The desktop may be slow, and is waited for by nobody.
                        tokio::task::spawn_blocking(move || show(&profile));
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}

/// Runs the platform's own notifier. A profile's name is a plain word, and nothing else of what happened is passed on.
fn show(profile: &ProfileName) {
    let text = format!("The session of {profile} has ended. Run: authctl login {profile}");
    let mut command = if cfg!(target_os = "macos") {
        let mut command = Command::new("osascript");
        command.args(["-e", &format!("display notification \"{text}\" with title \"authctl\"")]);
        command
    } else {
        let mut command = Command::new("notify-send");
        command.args(["--app-name=authctl", "--urgency=normal", "authctl: login required", &text]);
        command
    };
    let shown = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !shown.is_ok_and(|status| status.success()) {
        tracing::info!("the notification for {profile} was not shown");
    }
}
