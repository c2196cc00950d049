//! The prompts for a login: one for each session that has ended, which all callers share.
//!
//! A user who dismisses the notification, or does not finish the login, is not asked again about that session.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::model::ProfileName;
use crate::paths::{AGENT_SOCKET_VARIABLE, own_program, without_tokens};

/// How long no notification is tried after one that could not be shown: a notification daemon that does not reply would make
/// each caller wait.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The prompts of all profiles.
#[derive(Default)]
pub(super) struct LoginPrompts {
    prompts: Mutex<HashMap<ProfileName, Prompt>>,
}

/// A prompt for a session that has ended.
struct Prompt {
    /// The login of that session.
    login: String,
    state: watch::Receiver<PromptState>,
    /// Notified when another process has changed the session.
    changed: Arc<Notify>,
}

/// The state of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptState {
    /// The notification is shown, or the login in the browser is not finished.
    Asking,
    /// There is a new session.
    LoggedIn,
    /// The user has dismissed the notification, or the login has failed.
    Declined,
    /// The notification could not be shown: the first caller after this time has it tried again.
    NotShown { until: Instant },
}

impl PromptState {
    /// Returns the state of a prompt whose notification could not be shown.
    pub(super) fn not_shown(now: Instant) -> Self {
        Self::NotShown { until: now + RETRY_INTERVAL }
    }
}

impl LoginPrompts {
    /// Returns the state of the prompt for the session of `login`. If there is none, `ask` asks the user, and returns the outcome;
    /// it is called with what is notified when another process has changed the session, and whether it is the first attempt.
    pub(super) fn join<F>(
        &self,
        name: &ProfileName,
        login: &str,
        now: Instant,
        ask: impl FnOnce(Arc<Notify>, bool) -> F,
    ) -> watch::Receiver<PromptState>
    where
        F: Future<Output = PromptState> + Send + 'static,
    {
        let mut prompts = self.prompts.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = prompts.get(name).filter(|prompt| prompt.login == login);
        let may_retry = |state: PromptState| matches!(state, PromptState::NotShown { until } if until <= now);
        if let Some(prompt) = earlier.filter(|prompt| !may_retry(*prompt.state.borrow())) {
            return prompt.state.clone();
        }
        let is_first = earlier.is_none();
        let (sender, state) = watch::channel(PromptState::Asking);
        let changed: Arc<Notify> = Arc::default();
        let asking = ask(Arc::clone(&changed), is_first);
        prompts.insert(name.clone(), Prompt { login: login.to_owned(), state: state.clone(), changed });
        tokio::spawn(async move {
            sender.send_replace(asking.await);
        });
        state
    }

    /// Has the prompt of a profile check whether the user has logged in otherwise.
    pub(super) fn check_again(&self, name: &ProfileName) {
        if let Some(prompt) = self.prompts.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            prompt.changed.notify_one();
        }
    }
}

/// Returns the command that logs in with the browser.
pub(super) fn login_command(config: &Path, socket: &Path, name: &str) -> std::io::Result<Command> {
    let mut command = Command::new(own_program()?);
    command.args(["login", name, "--browser", "--no-input", "--config"]).arg(config);
    without_tokens(&mut command).env(AGENT_SOCKET_VARIABLE, socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[tokio::test]
    async fn notification_that_failed_is_tried_again_after_a_minute() {
        let (prompts, name, start) = (LoginPrompts::default(), "work".parse().expect("valid"), SystemClock.monotonic());
        for (after, is_asked) in [(0, true), (59, false), (60, true), (61, false), (130, true)] {
            let now = start + Duration::from_secs(after);
            let asked = Arc::new(Mutex::new(false));
            let here = Arc::clone(&asked);
            let mut state = prompts.join(&name, "login", now, move |_, is_first| {
                *here.lock().unwrap_or_else(PoisonError::into_inner) = true;
                assert_eq!(is_first, after == 0);
                std::future::ready(PromptState::not_shown(now))
            });
            let ended = state.wait_for(|state| *state != PromptState::Asking).await;
            assert!(matches!(*ended.expect("a state"), PromptState::NotShown { .. }));
            assert_eq!(*asked.lock().expect("no panic"), is_asked, "after {after} s");
        }
    }
}
