//! Waits for tokens as the command line does: until a refresh ends if it is needed, and only briefly if a valid token is
//! stored.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::error::Error;
use crate::model::Profile;
use crate::paths::own_program;
use crate::session::{
    Decision, Demand, MinTtl, RequestedToken, ServedToken, SessionError, SessionService, TokenRequest,
};

impl App {
    /// Returns the token for `request`, refreshed first if the policy requires it.
    ///
    /// If a valid token is stored, another process refreshes, and this one waits no longer than the policy allows. If this
    /// process refreshed and ended before the reply, the reply would be lost.
    ///
    /// # Errors
    /// As [`SessionService::wait_for_token`].
    pub async fn token_within_limit(&self, profile: &Profile, request: &TokenRequest) -> Result<ServedToken, Error> {
        let sessions = self.sessions()?;
        let served = self.token_or_error(&sessions, profile, request).await;
        if let Err(SessionError::LoginRequired(reason)) = &served {
            sessions.start_login_hook(profile, reason).await;
        }
        served.map_err(|error| Error::of_token(error, &profile.name))
    }

    async fn token_or_error(
        &self,
        sessions: &Arc<SessionService>,
        profile: &Profile,
        request: &TokenRequest,
    ) -> Result<ServedToken, SessionError> {
        let mut session = sessions.session(profile).await?;
        let mut decision = sessions.decide(&session, request);
        let seen = session.generation.clone();
        if let Decision::Refresh { wait_at_most: Some(limit) } = decision {
            self.refresh_in_background(profile, request, limit).await;
            match sessions.session(profile).await {
                Ok(now) => {
                    session = now;
                    decision = sessions.decide(&session, request);
                }
                Err(ended @ SessionError::LoginRequired(_)) => return Err(ended),
                // The token is valid, whatever has happened to its store.
                Err(error) => tracing::warn!("{}: {error}", profile.name),
            }
        }
        let served = if decision == (Decision::Refresh { wait_at_most: None }) {
            let refresh = sessions.refresh(profile, request, &session);
            self.with_progress(profile.issuer.as_str(), refresh).await?
        } else {
            let refreshed = session.generation != seen;
            let served = SessionService::serve_or_fail(profile, session, request, decision)?;
            ServedToken { refreshed, ..served }
        };
        if let Some(warning) = &served.warning {
            tracing::info!("{}: not refreshed, the token is still valid: {warning}", profile.name);
        }
        Ok(served)
    }

    /// Starts a process that refreshes, and waits for it for at most `limit`.
    async fn refresh_in_background(&self, profile: &Profile, request: &TokenRequest, limit: Duration) {
        let mut child = match self.start_refresh(profile, request) {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!("cannot start a refresh in the background: {error}");
                return;
            }
        };
        let finished = tokio::task::spawn_blocking(move || child.wait());
        tokio::select! {
            _ = finished => {}
            () = self.clock.sleep(limit) => {
                tracing::info!("{}: the refresh takes longer and continues in the background", profile.name);
            }
        }
    }

    fn start_refresh(&self, profile: &Profile, request: &TokenRequest) -> std::io::Result<Child> {
        let mut command = Command::new(own_program()?);
        if let Some(config) = &self.common.config {
            command.arg("--config").arg(config);
        }
        command.args(["token", profile.name.as_str(), "--refresh-only", "--no-input"]);
        match &request.token {
            RequestedToken::Id => {
                command.arg("--id-token");
            }
            RequestedToken::Access(target) => {
                command.args(target.audience.iter().map(|audience| format!("--audience={audience}")));
                command.args(target.scopes.iter().map(|scope| format!("--scope={scope}")));
                command.args(target.resources.iter().map(|resource| format!("--resource={resource}")));
            }
        }
        if let Demand::ValidFor(MinTtl::AtLeast(required)) = request.demand {
            command.arg(format!("--min-ttl={}s", required.as_secs()));
        }
        // The passphrase that unlocked the store goes through a pipe.
        let sessions = self.sessions.get();
        let passphrase = sessions.and_then(|sessions| sessions.file_key()?.passphrase());
        let stdin = if passphrase.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(passphrase.as_ref().map(|_| "--passphrase-stdin"));
        let mut child = command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        if let (Some(passphrase), Some(mut pipe)) = (passphrase, child.stdin.take()) {
            pipe.write_all(passphrase.expose().as_bytes())?;
        }
        Ok(child)
    }
}
