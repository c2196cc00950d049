//! Asks the user to log in when a caller needs it: with a desktop notification, then in the browser.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::login_prompt::PromptState;
use super::notification;
use super::state::Agent;
use crate::broker::{self, BrokerOutcome, BrokerRequest, PendingRequest};
use crate::error::ErrorCode;
use crate::model::{Grant, Profile, ProfileName, Session, StoreKind};
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
        if !self.asks_for_login(profile).await {
            return false;
        }
        let Some(prompts) = &self.prompts else { return false };
        let login = session.generation.login.clone();
        let (agent, asked) = (Arc::clone(self), Arc::clone(profile));
        let ask = move |changed: Arc<Notify>, is_first| async move {
            if agent.sessions.is_login_declined(&asked, &login).await {
                return PromptState::Declined;
            }
            let state = agent.ask_for_login(&asked, &login, &changed).await;
            if matches!(state, PromptState::NotShown { .. }) && is_first {
                notification::show(&agent, &asked.name);
            }
            state
        };
        let now = self.clock.monotonic();
        let mut state = prompts.join(&profile.name, &session.generation.login, now, ask);
        tokio::select! {
            decided = state.wait_for(|state| *state != PromptState::Asking) => {
                decided.is_ok_and(|state| *state == PromptState::LoggedIn)
            }
            () = self.clock.sleep(patience) => false,
            () = self.stops() => false,
        }
    }

    /// Returns whether the user is asked to log in to the profile when a caller needs it: not where the login needs a terminal, or
    /// the passphrase of the file store.
    pub(super) async fn asks_for_login(&self, profile: &Profile) -> bool {
        self.prompts.is_some()
            && profile.grant == Grant::Browser
            && !(profile.store == StoreKind::File && self.sessions.is_file_sealed().await)
    }

    /// Shows the notification, and logs in if the user agrees.
    async fn ask_for_login(self: &Arc<Self>, profile: &Arc<Profile>, login: &str, changed: &Notify) -> PromptState {
        let request = BrokerRequest::Ask { profile: profile.name.to_string() };
        let Ok((_until_canceled, asked)) = PendingRequest::start_unblocked(request).await else {
            tracing::warn!("{}: cannot show a notification", profile.name);
            return self.not_shown();
        };
        let agrees = tokio::task::spawn_blocking(move || agrees(asked));
        tokio::pin!(agrees);
        let agrees = loop {
            tokio::select! {
                agrees = &mut agrees => break agrees.ok().flatten(),
                () = changed.notified() => {
                    if self.has_other_login(profile, login).await {
                        // The notification is closed.
                        return PromptState::LoggedIn;
                    }
                }
                () = self.stops() => return self.not_shown(),
            }
        };
        if agrees.is_none() && !*self.stop.borrow() {
            let reason = "the notification daemon does not respond, or `notify-send` is older than 0.8";
            tracing::warn!("{}: the notification failed: {reason}", profile.name);
        }
        if agrees == Some(true) {
            if !self.log_in(&profile.name).await {
                notification::show(self, &profile.name);
            }
            self.forget(profile);
        }
        match (self.has_other_login(profile, login).await, agrees) {
            (true, _) => PromptState::LoggedIn,
            (false, Some(agrees)) => {
                if !agrees {
                    self.sessions.decline_login(profile, login).await;
                }
                PromptState::Declined
            }
            (false, None) => self.not_shown(),
        }
    }

    fn not_shown(&self) -> PromptState {
        PromptState::not_shown(self.clock.monotonic())
    }

    /// Waits until the agent is stopped.
    pub(super) async fn stops(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    async fn has_other_login(self: &Arc<Self>, profile: &Arc<Profile>, login: &str) -> bool {
        self.loaded(profile).await.is_ok_and(|session| session.generation.login != login)
    }

    /// Logs in with the browser; returns whether a browser was opened, as far as the exit code shows: the user has seen how the
    /// login ended then.
    async fn log_in(&self, name: &ProfileName) -> bool {
        let request = BrokerRequest::LogIn { profile: name.to_string() };
        let ended = tokio::task::spawn_blocking(move || broker::call(&request, &[])).await;
        match ended.map(|ended| ended.map(|response| response.outcome)) {
            Ok(Ok(BrokerOutcome::Ended(Some(0), _))) => true,
            Ok(Ok(BrokerOutcome::Ended(status, stderr))) => {
                let error = stderr.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
                tracing::warn!("{name}: the login failed: {}", sanitize_line(error));
                status.and_then(|status| ExitStatus::from_raw(status).code())
                    != Some(i32::from(ErrorCode::Configuration.exit_code()))
            }
            _ => {
                tracing::warn!("{name}: cannot start the login");
                false
            }
        }
    }
}

/// Returns the platform's notifier, which ends when the notification is closed, and prints the action that was chosen. On
/// Linux, it first prints a line when the notification is shown. A profile's name is a plain word; nothing else is passed on.
pub(super) fn notifier(name: &ProfileName) -> Command {
    let text = format!("{name}: login required");
    let mut command = if cfg!(target_os = "macos") {
        let mut command = Command::new("osascript");
        let dialog = format!("display dialog \"{text}\" with title \"authctl\" buttons {{\"Not now\", \"Log in\"}}");
        command.args(["-e", &dialog]);
        command
    } else {
        let mut command = Command::new("notify-send");
        command.args(["--print-id", "--app-name=authctl", "--urgency=critical", "--expire-time=0"]);
        command.arg("--action=login=Log in");
        command.args(["authctl: login required", &format!("{text}. Log in opens the browser.")]);
        command
    };
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits for the user's answer; returns whether it is to log in, or `None` if the notification could not be shown.
fn agrees(asked: PendingRequest) -> Option<bool> {
    let response = asked.wait().ok()?;
    let BrokerOutcome::Ended(Some(status), _) = response.outcome else { return None };
    let status = ExitStatus::from_raw(status);
    let printed = response.output.expose().trim_ascii();
    let answer = printed.rsplit(|byte| *byte == b'\n').next().unwrap_or(printed);
    let agrees = [&b"login"[..], b"button returned:Log in"].contains(&answer);
    // The dialog of macOS ends with 1 if it is declined. A signal is no answer of the user.
    let was_shown = status.success() || status.code().is_some() && cfg!(target_os = "macos");
    was_shown.then_some(agrees)
}
