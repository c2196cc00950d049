//! Shows a desktop notification when a session has ended, if the user asked for it.

use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::events::EventKind;
use super::state::Agent;
use crate::broker::{BrokerOutcome, BrokerRequest, PendingRequest};
use crate::model::{Grant, ProfileName};

/// Shows a notification for each session that ends, unless the user is asked for a login where a caller needs one. Without
/// `notify`, only for those of which the user cannot be asked.
pub(super) fn start(agent: &Arc<Agent>, notify: bool) {
    let mut events = agent.events.subscribe();
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) if event.kind == EventKind::LoginRequired => {
                    // The desktop and the store may be slow: not waited for.
                    let agent = Arc::clone(&agent);
                    tokio::spawn(async move {
                        if let Some(profile) = event.profile
                            && is_wanted(&agent, &profile, notify).await
                        {
                            show(&agent, &profile);
                        }
                    });
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}

/// Returns whether to show a notification that the session of a profile has ended.
async fn is_wanted(agent: &Agent, name: &ProfileName, notify: bool) -> bool {
    match agent.profiles.choose(Some(name)) {
        Ok(profile) if agent.asks_for_login(&profile).await => false,
        Ok(profile) => notify || agent.prompts.is_some() && profile.grant == Grant::Browser,
        Err(_) => notify,
    }
}

/// Has the broker show the notification in the background, until the agent is stopped: a notification daemon may not reply, and
/// `notify-send` then waits for minutes.
pub(super) fn show(agent: &Arc<Agent>, profile: &ProfileName) {
    let (agent, profile) = (Arc::clone(agent), profile.clone());
    tokio::spawn(async move { show_until_stopped(&agent, &profile).await });
}

async fn show_until_stopped(agent: &Agent, profile: &ProfileName) {
    if *agent.stop.borrow() {
        return;
    }
    let request = BrokerRequest::Notify { profile: profile.to_string() };
    let shown = async {
        let (_until_canceled, pending) = PendingRequest::start_unblocked(request).await.ok()?;
        let response = tokio::task::spawn_blocking(move || pending.wait()).await;
        response.ok()?.ok()
    };
    tokio::select! {
        response = shown => {
            if !response.is_some_and(|response| matches!(response.outcome, BrokerOutcome::Ended(Some(0), _))) {
                tracing::info!("cannot show a notification for {profile}");
            }
        }
        () = agent.stops() => {}
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
