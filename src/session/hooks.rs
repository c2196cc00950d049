//! Runs the hooks of profiles. Each runs in a process of its own, `authctl exec --hook`, which limits it even if this process
//! has ended in the meantime.

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{LoginReason, SessionService};
use crate::clock::UnixTime;
use crate::fs::{create_private_dir, unblock};
use crate::model::{HookCommand, Profile, ProfileName, Session};
use crate::paths::TOKEN_VARIABLE;
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
        self.start_hook(&profile.hooks.on_refresh, &event).await;
    }

    /// Starts the hook for a session that has ended: once for each session, whichever process reports it first.
    pub async fn start_login_hook(self: &Arc<Self>, profile: &Profile, reason: &LoginReason) {
        if profile.hooks.on_login_required.words().is_empty() {
            return;
        }
        let Ok(session) = self.session(profile).await else { return };
        if !self.is_over(&session, reason) {
            return;
        }
        let (dir, name, login) = (self.hook_dir(), profile.name.clone(), session.generation.login);
        match unblock(self.hook_dir(), move || mark_once(&dir, &name, &login)).await.flatten() {
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
            message: Some(excerpt(&reason.to_string(), 400)),
        };
        self.start_hook(&profile.hooks.on_login_required, &event).await;
    }

    /// Returns whether a session of which no token could be served for `reason` has ended. One without a refresh token may
    /// still have a valid token of its own while another is requested.
    #[must_use]
    pub fn is_over(&self, session: &Session, reason: &LoginReason) -> bool {
        let is_expired = session.tokens.expires_at.is_some_and(|end| end <= self.clock.now());
        reason.ends_session() && (session.ended.is_some() || is_expired)
    }

    fn hook_dir(&self) -> PathBuf {
        self.locks.file.join("hooks")
    }

    /// Starts a hook. The agent then waits for its end in the background, to log a failure.
    async fn start_hook(&self, command: &HookCommand, event: &HookEvent<'_>) {
        if command.words().is_empty() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        event.profile.hash(&mut hasher);
        let slot = self.hook_dir().join(format!("{}.lock", hasher.finish() % MAX_HOOKS));
        let (words, name) = (command.words().to_vec(), event.profile.clone());
        let json = serde_json::to_string(event).unwrap_or_default();
        let (started, waits) = (move || spawn(&slot, &words, &json), self.serves_unsaved.load(Ordering::Relaxed));
        let subject = format!("@hook {name}");
        let run = async move {
            match unblock(subject, started).await.flatten() {
                Ok(child) if waits => {
                    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await;
                    if let Ok(Ok(output)) = output
                        && !output.status.success()
                    {
                        tracing::warn!("{name}: {}", sanitize_line(String::from_utf8_lossy(&output.stderr).trim_end()));
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("{name}: cannot start the hook: {error}"),
            }
        };
        if waits { drop(tokio::spawn(run)) } else { run.await }
    }
}

/// Starts the process that runs a hook, and gives it the event.
fn spawn(slot: &Path, words: &[String], event: &str) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["exec", "--no-input", "--hook"]).arg(slot).arg("--").args(words);
    // The token of `authctl exec`, if a command that it runs is refreshing.
    command.env_remove(TOKEN_VARIABLE);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{event}")?;
    }
    Ok(child)
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
