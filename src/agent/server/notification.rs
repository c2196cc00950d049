//! Shows a desktop notification when a session has ended, if the user asked for it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::events::EventKind;
use super::state::Agent;
use crate::broker::{self, Outcome, Request};
use crate::model::{Grant, ProfileName};

/// Shows a notification for each session that ends, unless the user is asked for a login where a caller needs one.
pub(super) fn start(agent: &Arc<Agent>) {
    let mut events = agent.events.subscribe();
    let agent = Arc::clone(agent);
    let is_asked = move |name: &ProfileName| {
        agent.prompts.is_some()
            && agent.profiles.choose(Some(name)).is_ok_and(|profile| profile.grant == Grant::Browser)
    };
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) if event.kind == EventKind::LoginRequired => {
                    if let Some(profile) = event.profile.filter(|name| !is_asked(name)) {
                        // The desktop may be slow: not waited for.
                        tokio::task::spawn_blocking(move || show(&profile));
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}

/// Has the broker show the notification.
fn show(profile: &ProfileName) {
    let shown = broker::call(&Request::Notify { profile: profile.to_string() }, &[]);
    if !shown.is_ok_and(|response| matches!(response.outcome, Outcome::Ended(Some(0), _))) {
        tracing::info!("cannot show a notification for {profile}");
    }
}

/// Returns the platform's notifier. A profile's name is a plain word; nothing else is passed on.
pub(super) fn notification(profile: &ProfileName) -> Command {
    let text = format!("{profile}: login required. Run: authctl login {profile}");
    let mut command = if cfg!(target_os = "macos") {
        let mut command = Command::new("osascript");
        command.args(["-e", &format!("display notification \"{text}\" with title \"authctl\"")]);
        command
    } else {
        let mut command = Command::new("notify-send");
        command.args(["--app-name=authctl", "--urgency=normal", "authctl: login required", &text]);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
