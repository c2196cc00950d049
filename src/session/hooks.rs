//! Runs the hooks of profiles. Each runs in a process of its own, `authctl exec --hook`, which limits it even if this process
//! has ended in the meantime.

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use super::{LoginReason, SessionService};
use crate::broker::{self, BrokerOutcome, BrokerRequest, PendingRequest};
use crate::clock::UnixTime;
use crate::fs::{create_private_dir, unblock};
use crate::model::{HookCommand, Profile, ProfileName, Session};
use crate::paths::{CONFIG_VARIABLE, own_program, without_identity_tokens};
use crate::text::{excerpt, sanitize_line};

/// What happened, as the hook reads it. Never has a token.
#[derive(Serialize)]
struct HookEvent<'a> {
    event: &'static str,
    profile: &'a ProfileName,
    issuer: &'a str,
    at: UnixTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<UnixTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// A hook that has ended, or that was not run.
#[derive(Clone, Debug)]
pub struct HookOutcome {
    /// The profile of the hook.
    pub profile: ProfileName,
    /// Which one.
    pub hook: Hook,
    /// Why it failed, in one line, if it did.
    pub failure: Option<String>,
}

/// The maximum length of a message, in characters.
const MAX_MESSAGE: usize = 400;

/// The number of hooks that run at a time. Those of one profile run one after the other.
const MAX_HOOKS: u64 = 4;

impl SessionService {
    /// Starts the hook for a refresh that this process has stored.
    pub(super) async fn start_refresh_hook(&self, profile: &Profile, session: &Session) {
        let event = HookEvent {
            event: "refreshed",
            profile: &profile.name,
            issuer: profile.issuer.as_str(),
            at: self.clock.now(),
            expires_at: session.tokens.expires_at,
            message: None,
        };
        self.start_hook(profile, Hook::Refresh, &event).await;
    }

    /// Starts the hook for a session that has ended: once for each session, whichever process reports it first.
    pub async fn start_login_hook(self: &Arc<Self>, profile: &Profile, reason: &LoginReason) {
        if !Hook::LoginRequired.is_of(profile) {
            return;
        }
        let Ok(session) = self.session(profile).await else { return };
        if !self.has_ended(&session, reason) {
            return;
        }
        let (dir, name, login) = (hook_dir(&self.locks.file), profile.name.clone(), session.generation.login);
        match unblock(dir.clone(), move || mark_once(&dir, &name, &login)).await.flatten() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::warn!("{}: cannot record the end of the session: {error}", profile.name),
        }
        let event = HookEvent {
            event: "login_required",
            profile: &profile.name,
            issuer: profile.issuer.as_str(),
            at: self.clock.now(),
            expires_at: None,
            message: Some(excerpt(&reason.to_string(), MAX_MESSAGE)),
        };
        self.start_hook(profile, Hook::LoginRequired, &event).await;
    }

    /// Returns whether a session of which no token could be served for `reason` has ended. One without a refresh token may
    /// still have a valid token of its own while another is requested.
    #[must_use]
    pub fn has_ended(&self, session: &Session, reason: &LoginReason) -> bool {
        let is_expired = session.tokens.expires_at.is_some_and(|end| end <= self.clock.now());
        reason.ends_session() && (session.ended.is_some() || is_expired)
    }

    /// Returns how hooks end from now on, as far as this process learns of it.
    #[must_use]
    pub fn hook_outcomes(&self) -> broadcast::Receiver<HookOutcome> {
        self.hook_outcomes.subscribe()
    }

    /// Waits until the hooks that this process has started have ended, for at most `limit`. In an agent the broker starts hooks; this
    /// does not wait for them.
    pub async fn wait_for_hooks(&self, limit: Duration) {
        let mut running = self.running_hooks.subscribe();
        tokio::select! {
            _ = running.wait_for(|count| *count == 0) => {}
            () = self.clock.sleep(limit) => {}
        }
    }

    /// Starts a hook, and then waits for its end in the background, to report it. The agent has its broker start it.
    async fn start_hook(&self, profile: &Profile, hook: Hook, event: &HookEvent<'_>) {
        if !hook.is_of(profile) {
            return;
        }
        let (profile, name, locks) = (profile.clone(), profile.name.clone(), self.locks.file.clone());
        let outcomes = self.hook_outcomes.clone();
        let ended = move |failure: Option<String>| {
            if let Some(message) = &failure {
                tracing::warn!("{name}: {message}");
            }
            let _ = outcomes.send(HookOutcome { profile: name.clone(), hook, failure });
        };
        let not_started = |error: io::Error| Some(format!("cannot start the hook: {error}"));
        let event = serde_json::to_vec(event).unwrap_or_default();
        let subject = format!("@hook {}", profile.name);
        if !broker::is_connected() {
            let config = self.config.get().cloned();
            let start = move || start_hook_process(&locks, config.as_deref(), &profile, hook, &event);
            let started = unblock(subject, start).await.flatten();
            match started {
                Ok(child) => {
                    let running = self.running_hooks.clone();
                    running.send_modify(|count| *count += 1);
                    let report = ended.clone();
                    // Not a task: one would have to end before this process does.
                    let waiting = std::thread::Builder::new().spawn(move || {
                        report(match child.wait_with_output() {
                            Ok(output) if output.status.success() => None,
                            Ok(output) => Some(failure(&String::from_utf8_lossy(&output.stderr))),
                            Err(error) => Some(format!("cannot wait for the hook: {error}")),
                        });
                        running.send_modify(|count| *count -= 1);
                    });
                    if let Err(error) = waiting {
                        ended(Some(format!("cannot wait for the hook: {error}")));
                        self.running_hooks.send_modify(|count| *count -= 1);
                    }
                }
                Err(error) => ended(not_started(error)),
            }
            return;
        }
        let request = BrokerRequest::Hook { profile: profile.name.to_string(), is_end: hook == Hook::LoginRequired };
        tokio::spawn(async move {
            let response = match unblock(subject, move || PendingRequest::start(&request, &event)).await.flatten() {
                Ok(pending) => {
                    tokio::task::spawn_blocking(move || pending.wait()).await.map_err(io::Error::other).flatten()
                }
                Err(error) => Err(error),
            };
            ended(match response.map(|response| response.outcome) {
                Ok(BrokerOutcome::Ended(status, stderr)) if status != Some(0) => Some(failure(&stderr)),
                Ok(BrokerOutcome::Failed(_, error)) => Some(format!("cannot start the hook: {error}")),
                Ok(_) => None,
                Err(error) => not_started(error),
            });
        });
    }
}

/// Returns why a hook has failed, from what its process printed on stderr.
fn failure(stderr: &str) -> String {
    excerpt(&sanitize_line(stderr.trim().trim_start_matches("error: ")), MAX_MESSAGE)
}

/// A hook of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// After a refresh.
    Refresh,
    /// When a session has ended.
    LoginRequired,
}

impl Hook {
    /// Returns the setting that has the hook.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Refresh => "on_refresh",
            Self::LoginRequired => "on_login_required",
        }
    }

    /// Returns whether the profile has this hook.
    #[must_use]
    pub fn is_of(self, profile: &Profile) -> bool {
        !self.command(profile).words().is_empty()
    }

    fn command(self, profile: &Profile) -> &HookCommand {
        match self {
            Self::Refresh => &profile.hooks.on_refresh,
            Self::LoginRequired => &profile.hooks.on_login_required,
        }
    }
}

/// Starts the process that runs a hook, and gives it the event. `locks` is the directory of the locks of session files, `config`
/// the configuration that what the hook starts reads too.
///
/// # Errors
/// The system's error.
pub fn start_hook_process(
    locks: &Path,
    config: Option<&Path>,
    profile: &Profile,
    hook: Hook,
    event: &[u8],
) -> io::Result<Child> {
    let mut hasher = DefaultHasher::new();
    profile.name.hash(&mut hasher);
    let slot = hook_dir(locks).join(format!("{}.lock", hasher.finish() % MAX_HOOKS));
    let mut command = Command::new(own_program()?);
    command.args(["exec", "--no-input", "--hook"]).arg(slot).arg("--").args(hook.command(profile).words());
    // A hook gets no token: neither that of `authctl exec`, if a command that it runs is refreshing, nor the platform's.
    without_identity_tokens(&mut command);
    // The hook has another working directory.
    let config = config.map(std::path::absolute).transpose()?;
    command.envs(config.map(|config| (CONFIG_VARIABLE, config)));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(event)?;
        stdin.write_all(b"\n")?;
    }
    Ok(child)
}

fn hook_dir(locks: &Path) -> PathBuf {
    locks.join("hooks")
}

/// Records the end of the session of a login; returns whether it was not recorded before.
fn mark_once(dir: &Path, name: &ProfileName, login: &str) -> io::Result<bool> {
    create_private_dir(dir)?;
    // No profile has an `@` in its name.
    let (prefix, file) = (format!("{name}@"), format!("{name}@{login}"));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(&file)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        let other = entry.file_name();
        if other.to_str().is_some_and(|other| other.starts_with(&prefix) && other != file) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(true)
}
