//! Asks the user to log in when a caller needs it: with a desktop notification, then in the browser.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;

use super::login_prompt::PromptState;
use super::state::Agent;
use crate::model::{Grant, Profile, ProfileName, Session};
use crate::text::sanitize_line;

impl Agent {
    /// Asks the user to log in to a profile whose session has ended, unless the user is being asked or has declined, and waits
    /// for the login for at most `patience`; returns whether there was one.
    pub(super) async fn wait_for_login(
        self: &Arc<Self>,
        profile: &Arc<Profile>,
        session: &Session,
        patience: Duration,
    ) -> bool {
        // Another grant needs a terminal.
        let Some(prompts) = self.prompts.as_ref().filter(|_| profile.grant == Grant::Browser) else { return false };
        let login = session.generation.login.clone();
        let (agent, asked) = (Arc::clone(self), Arc::clone(profile));
        let mut state = prompts.join(&profile.name, &session.generation.login, move |changed| async move {
            agent.ask_for_login(&asked, &login, &changed).await
        });
        tokio::select! {
            decided = state.wait_for(|state| *state != PromptState::Asking) => {
                decided.is_ok_and(|state| *state == PromptState::LoggedIn)
            }
            () = self.clock.sleep(patience) => false,
            () = self.stops() => false,
        }
    }

    /// Shows the notification, and logs in if the user agrees; returns whether there is a session of another login then.
    async fn ask_for_login(self: &Arc<Self>, profile: &Arc<Profile>, login: &str, changed: &Notify) -> bool {
        let name = profile.name.clone();
        let child = match tokio::task::spawn_blocking(move || notifier(&name).spawn()).await {
            Ok(Ok(child)) => child,
            _ => {
                tracing::warn!("{}: cannot show a notification", profile.name);
                return false;
            }
        };
        let id = Pid::from_child(&child);
        let agrees = tokio::task::spawn_blocking(move || agrees(child));
        tokio::pin!(agrees);
        let agrees = loop {
            tokio::select! {
                agrees = &mut agrees => break agrees.ok().flatten(),
                () = changed.notified() => {
                    if self.has_other_login(profile, login).await {
                        // It closes the notification.
                        let _ = kill_process(id, Signal::INT);
                        return true;
                    }
                }
                () = self.stops() => {
                    let _ = kill_process(id, Signal::INT);
                    return false;
                }
            }
        };
        if agrees.is_none() {
            tracing::warn!("{}: the notification failed; `notify-send --action` needs version 0.8", profile.name);
        }
        if agrees == Some(true) {
            self.log_in(&profile.name).await;
            self.forget(profile);
        }
        self.has_other_login(profile, login).await
    }

    /// Waits until the agent is stopped.
    async fn stops(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    async fn has_other_login(self: &Arc<Self>, profile: &Arc<Profile>, login: &str) -> bool {
        self.loaded(profile).await.is_ok_and(|session| session.generation.login != login)
    }

    async fn log_in(&self, name: &ProfileName) {
        let Some(command) = self.prompts.as_ref().map(|prompts| prompts.login_command(name)) else { return };
        let output = tokio::task::spawn_blocking(move || command.and_then(|mut command| command.output())).await;
        match output {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let error = text.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
                tracing::warn!("{name}: the login failed: {}", sanitize_line(error));
            }
            _ => tracing::warn!("{name}: cannot start the login"),
        }
    }
}

/// Returns the platform's notifier, which ends when the notification is closed, and prints the action that was chosen. A
/// profile's name is a plain word; nothing else is passed on.
fn notifier(name: &ProfileName) -> Command {
    let text = format!("{name}: login required");
    let mut command = if cfg!(target_os = "macos") {
        let mut command = Command::new("osascript");
        let dialog = format!("display dialog \"{text}\" with title \"authctl\" buttons {{\"Not now\", \"Log in\"}}");
        command.args(["-e", &dialog]);
        command
    } else {
        let mut command = Command::new("notify-send");
        command.args(["--app-name=authctl", "--urgency=critical", "--expire-time=0", "--action=login=Log in"]);
        command.args(["authctl: login required", &format!("{text}. Log in opens the browser.")]);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Waits for the user's answer; returns whether it is to log in, or `None` if the notification could not be shown.
fn agrees(child: Child) -> Option<bool> {
    let output = child.wait_with_output().ok()?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let agrees = matches!(answer.trim(), "login" | "button returned:Log in");
    // The dialog of macOS ends with 1 if it is declined, the notification of an ended agent by a signal.
    let was_shown = output.status.success() || output.status.code().is_none() || cfg!(target_os = "macos");
    was_shown.then_some(agrees)
}
