//! `authctl doctor`: checks what authctl depends on, one line a check, and shows the command that solves a problem.
//!
//! The parts decide what is wrong; this file asks them and prints.

mod examination;
mod issuer;

use std::sync::Arc;
use std::time::Duration;

use super::status::ask_agent;
use examination::{CheckStatus, Examination, ISSUER_CHECKS, limited};

use crate::agent::protocol::{AgentStatus, check_socket_path};
use crate::app::{App, StoreAccess};
use crate::cli::Doctor;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Profile, ProfileName, Trust};
use crate::session::SessionError;
use crate::status::profile_status;
use crate::store::StoreError;

/// How long the checks of the store may take together: longer than two calls to a keychain.
const STORE_LIMIT: Duration = Duration::from_secs(10);

/// Runs the command. The exit code is that of the first error; warnings do not count.
pub fn run(app: &App, args: &Doctor) -> Result<u8, Error> {
    app.use_stores(StoreAccess::NoPrompt);
    let mut examination = Examination::new(app);
    let profile = examination.check_config(args.profile.as_ref())?;
    examination.profile = profile.as_ref().map(|profile| profile.name.clone());
    // Without the profile, its store is not known.
    let unknown = examination.errors().next_back().filter(|_| profile.is_none()).map(|error| error.check);
    examination.check_agent()?;
    app.run(async {
        let trust = match unknown {
            Some(check) => examination.skip(&["store", "session"], &format!("see {check}")).map(|()| None)?,
            None => examination.check_store(profile.as_ref()).await?,
        };
        match &profile {
            Some(profile) => examination.check_issuer(profile, trust.as_ref()).await,
            None => examination.skip(&ISSUER_CHECKS, "no profile"),
        }
    })?;
    examination.finish()
}

impl Examination<'_> {
    /// Checks the configuration; returns the profile to check.
    fn check_config(&mut self, argument: Option<&ProfileName>) -> Result<Option<Profile>, Error> {
        let app = self.app;
        match app.paths().and_then(|paths| Ok((app.config()?, paths.config.user))) {
            Err(error) => self.error("config", error)?,
            Ok((config, file)) => {
                let before = self.number();
                config.errors().try_for_each(|error| self.error("config", error))?;
                if let Err(error) = app.default_store() {
                    self.error("config", error)?;
                }
                if self.number() == before {
                    let profiles = match config.profiles.len() {
                        1 => "1 profile".to_owned(),
                        number => format!("{number} profiles"),
                    };
                    self.ok("config", &format!("{}: {profiles}", file.display()))?;
                    for (path, number) in config.machine_files() {
                        self.ok("config", &format!("{}: sets {number} of them for the whole machine", path.display()))?;
                    }
                }
            }
        }
        if app.environment.token.is_some() {
            let message = "AUTHCTL_TOKEN is set: `authctl token` and `authctl exec` use that token";
            self.warning("config", Error::msg(ErrorCode::Configuration, message, Hint::shell("unset AUTHCTL_TOKEN")))?;
        }
        match app.profile(argument) {
            Ok(profile) => {
                self.ok("profile", &format!("{}: {}", profile.name, profile.issuer))?;
                Ok(Some(profile))
            }
            Err(error) => {
                // Before the first login there is none, and nothing is wrong.
                let status = match error.code {
                    ErrorCode::LoginRequired => CheckStatus::Warning,
                    _ => CheckStatus::Error,
                };
                self.problem("profile", status, app.with_profile_source(error)).map(|()| None)
            }
        }
    }

    fn check_agent(&mut self) -> Result<(), Error> {
        let app = self.app;
        let socket = match app.agent_socket() {
            Ok(socket) => socket,
            Err(error) => return self.error("socket", error).and_then(|()| self.skip(&["agent"], "see socket")),
        };
        let usable = match check_socket_path(&socket) {
            Ok(()) => self.ok("socket", &socket.display().to_string()).map(|()| true)?,
            Err(error) => self.error("socket", error).map(|()| false)?,
        };
        match app.running_agent() {
            Ok(Some(state)) => self.check_running_agent(&state),
            Ok(None) if !usable => self.skip(&["agent"], "see socket"),
            Ok(None) => self.warning("agent", app.agent_absent()?),
            // Commands go on without the agent of another home.
            Err(error) if error.code == ErrorCode::AnotherHome => self.warning("agent", error),
            Err(error) => self.error("agent", error),
        }
    }

    fn check_running_agent(&mut self, state: &AgentStatus) -> Result<(), Error> {
        let before = self.number();
        let [stop, start] = ["agent stop", "agent start"].map(|verbs| self.app.next_command(Hint::command(verbs)));
        let unavailable =
            |message| Error::msg(ErrorCode::AgentUnavailable, message, Hint::shell(format!("{stop} && {start}")));
        let (running, own) = (state.version.as_deref().unwrap_or("unknown"), env!("CARGO_PKG_VERSION"));
        if running != own {
            let message = format!("the running agent has version {running}, this is {own}");
            self.warning("agent", unavailable(message))?;
        }
        if state.locked {
            let message = "the agent is locked";
            self.warning("agent", Error::msg(ErrorCode::AgentLocked, message, Hint::command("agent unlock")))?;
        }
        if let Some(error) = &state.config_error {
            let message = format!("the agent uses the last valid configuration: {error}");
            let hint = Hint::command("profile list");
            self.warning("agent", Error::msg(ErrorCode::Configuration, message, hint))?;
        }
        for unsaved in &state.unsaved {
            let message = format!("the refreshed session of {} is only in memory: {}", unsaved.profile, unsaved.error);
            let error = Error::msg(ErrorCode::StoreUnavailable, message, Hint::profile_command("status"));
            self.error("agent", error.about(&unsaved.profile))?;
        }
        match state.pid {
            _ if self.number() > before => Ok(()),
            Some(pid) => self.ok("agent", &format!("running as process {pid}")),
            None => self.ok("agent", "running"),
        }
    }

    /// Checks the store and the session; returns the stored keys of the issuer.
    async fn check_store(&mut self, profile: Option<&Profile>) -> Result<Option<Trust>, Error> {
        let kind = match profile {
            Some(profile) => profile.store,
            None => self.app.default_store().unwrap_or_default(),
        };
        let sessions = match self.app.sessions() {
            Ok(sessions) => sessions,
            Err(error) => {
                self.error("store", error)?;
                return self.skip(&["session"], "see store").map(|()| None);
            }
        };
        let mut limit = self.app.clock().sleep(STORE_LIMIT);
        let timed_out = || StoreError::TimedOut { limit: STORE_LIMIT }.into();
        let none: ProfileName = "default".parse()?;
        let name = profile.map_or(&none, |profile| &profile.name);
        match limited(&mut limit, sessions.check_store(kind, name)).await.unwrap_or_else(|| Err(timed_out())) {
            Ok(()) => {
                let location = profile.map(|profile| sessions.location(profile));
                let location = location.unwrap_or_else(|| kind.description().to_owned());
                self.ok("store", &location)?;
            }
            Err(SessionError::Store(StoreError::HeldByAgent | StoreError::Sealed))
                if self.app.is_held_by_agent(kind)? && profile.is_some() =>
            {
                self.ok("store", &profile.map_or_else(String::new, |profile| sessions.location(profile)))?;
            }
            Err(error @ SessionError::Store(StoreError::Sealed)) => {
                self.warning("store", self.app.with_agent_hint(error.into()))?;
                return self.skip(&["session"], "see store").map(|()| None);
            }
            Err(error) => {
                self.error("store", error)?;
                return self.skip(&["session"], "see store").map(|()| None);
            }
        }
        let Some(profile) = profile else { return self.skip(&["session"], "no profile").map(|()| None) };
        let (theirs, of) = (Arc::clone(&sessions), profile.clone());
        let status = tokio::task::spawn_blocking(move || profile_status(&theirs, &of, false));
        let mut status = limited(&mut limit, status).await;
        if let Some(Ok(status)) = &mut status {
            ask_agent(self.app, std::slice::from_mut(status));
        }
        match status {
            None => self.error("session", timed_out())?,
            Some(Err(_)) => self.error("session", SessionError::Interrupted)?,
            Some(Ok(status)) => match (status.problem, status.last_failure) {
                (Some(problem), _) => {
                    let error = Error::msg(problem.code, problem.message, Hint::reported(problem.hint, None));
                    self.warning("session", error)?;
                }
                (None, Some(failure)) => self.warning("session", SessionError::RecentFailure(failure))?,
                (None, None) if status.unverified => {
                    let message = format!("the token of {} is not verified", profile.name);
                    let hint = Hint::login().with_flag("--browser").about(&profile.name);
                    self.warning("session", Error::msg(ErrorCode::LoginRequired, message, hint))?;
                }
                (None, None) => self.ok("session", "logged in")?,
            },
        }
        match limited(&mut limit, sessions.trust(profile)).await.unwrap_or_else(|| Err(timed_out())) {
            Ok(trust) => Ok(Some(trust)),
            Err(SessionError::Store(StoreError::HeldByAgent | StoreError::Sealed)) => Ok(None),
            Err(error) => self.error("keys", error).map(|()| None),
        }
    }
}
