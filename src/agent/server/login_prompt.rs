//! The prompts for a login: one for each session that has ended, which all callers share.
//!
//! A user who dismisses the notification, or does not finish the login, is not asked again about that session.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::model::ProfileName;
use crate::paths::{AGENT_SOCKET_VARIABLE, own_program, without_tokens};

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
}

impl LoginPrompts {
    /// Returns the state of the prompt for the session of `login`. If there is none, `ask` asks the user, and returns whether
    /// the user has logged in; it is called with what is notified when another process has changed the session.
    pub(super) fn join<F>(
        &self,
        name: &ProfileName,
        login: &str,
        ask: impl FnOnce(Arc<Notify>) -> F,
    ) -> watch::Receiver<PromptState>
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let mut prompts = self.prompts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prompt) = prompts.get(name).filter(|prompt| prompt.login == login) {
            return prompt.state.clone();
        }
        let (sender, state) = watch::channel(PromptState::Asking);
        let changed: Arc<Notify> = Arc::default();
        let asking = ask(Arc::clone(&changed));
        prompts.insert(name.clone(), Prompt { login: login.to_owned(), state: state.clone(), changed });
        tokio::spawn(async move {
            let outcome = if asking.await { PromptState::LoggedIn } else { PromptState::Declined };
            sender.send_replace(outcome);
        });
        state
    }

    /// Has the prompt of a profile check whether the user has logged in otherwise.
    pub(super) fn look_again(&self, name: &ProfileName) {
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
