//! Serves each request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::audit::AuditAction;
use super::cache::CachedSession;
use super::events::EventKind;
use super::peer::Peer;
use super::response::{AgentResponse, document, json, ok, problem_with_retry, see_openapi, stream, text, to_json};
use super::route::{AgentRequest, VerifyBody, lock_body, proof_body, proxy_body, unlock_body, verify_body};
use super::state::Agent;
use super::tokens::IssuedToken;
use crate::agent::protocol::{
    ForgetResponse, LogoutResponse, OPENAPI, ProofResponse, ProxyReport, ProxyReported, RefreshResponse, StopResponse,
};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::fs::unblock;
use crate::model::{DecidingToken, Profile, ProfileName, Session, TokenTarget};
use crate::secret::SecretBytes;
use crate::session::{RequestedToken, Revocation, SessionError, SessionService, TokenRequest, TokenVerifier};
use crate::status::{StatusReport, profile_statuses};
use crate::text::excerpt;
use crate::verify::{KeySet, VerdictJson};

/// The maximum number of event subscribers.
const MAX_SUBSCRIBERS: usize = 64;

/// How often a subscriber gets a comment, which keeps the connection alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The longest text that a proxy reports, in characters.
const MAX_REPORTED: usize = 500;

/// The error of a request, shared by all callers that wait for the same.
type SharedError = Arc<Error>;

/// Serves `request` of `peer`, which waits at most as long as `wait`.
pub(super) async fn respond(
    agent: &Arc<Agent>,
    peer: &Peer,
    request: AgentRequest,
    body: &SecretBytes,
    wait: Option<Duration>,
) -> AgentResponse {
    let response = match request {
        AgentRequest::Token { profile, request } => {
            let action = if request.token == RequestedToken::Id { AuditAction::IdToken } else { AuditAction::Token };
            let issued = agent.token_request(peer, profile.as_ref(), request, wait).await;
            issued.inspect_err(|failure| agent.record_denied(peer, action, profile.as_ref(), failure))
        }
        AgentRequest::Status => {
            agent.with_file_limit(ErrorCode::StoreUnavailable, "a store", agent.status_request()).await
        }
        AgentRequest::Agent => Ok(json(&agent.state())),
        AgentRequest::Log => Ok(json(&agent.audit_log.all())),
        AgentRequest::Events => agent.events_request(),
        AgentRequest::Proof => {
            let proof = agent.proof_request(peer, body, wait).await;
            proof.inspect_err(|failure| agent.record_denied(peer, AuditAction::Proof, None, failure))
        }
        AgentRequest::ProxyReport => agent.proxy_request(peer, body),
        AgentRequest::Description => Ok(text(OPENAPI)),
        AgentRequest::Verify => {
            agent.with_file_limit(ErrorCode::StoreUnavailable, "a store", agent.verify_request(body)).await
        }
        AgentRequest::Refresh { profile, request } => {
            let refreshed = agent.refresh_request(peer, &profile, request, wait).await;
            refreshed.inspect_err(|failure| agent.record_denied(peer, AuditAction::Refresh, Some(&profile), failure))
        }
        AgentRequest::Forget { profile, revoke } => Ok(agent.forget_request(profile, revoke).await),
        AgentRequest::Lock => agent.lock_request(peer, body).await,
        AgentRequest::Unlock => agent.unlock_request(peer, body).await,
        AgentRequest::Handover => agent.handover_request(peer, body).await,
        AgentRequest::Logout { profile, revoke } => {
            let logged_out = agent.logout_request(peer, &profile, revoke).await;
            logged_out.inspect_err(|failure| agent.record_denied(peer, AuditAction::Logout, Some(&profile), failure))
        }
        AgentRequest::Stop => Ok(agent.stop_request(peer)),
    };
    response.unwrap_or_else(|failure| {
        let rest = match failure.code.general() {
            ErrorCode::IssuerUnreachable => agent.cache.retry_at(&failure).map(|at| agent.now().until(at).as_secs()),
            _ => None,
        };
        problem_with_retry(&failure, rest)
    })
}

impl Agent {
    /// Returns the profile for a request. An unknown name may be that of a profile added a moment ago.
    pub(super) async fn choose_profile(
        self: &Arc<Self>,
        named: Option<&ProfileName>,
    ) -> Result<Arc<Profile>, SharedError> {
        match self.profiles.choose(named) {
            Ok(profile) => Ok(profile),
            Err(_) => {
                self.reread_configuration().await?;
                self.profiles.choose(named).map_err(|e| Arc::new(Error::from(e)))
            }
        }
    }

    /// Records a request for a token that was denied or failed, with the profile that it would have been of. Unknown names
    /// are left out: a process that makes them up would push all other entries out.
    pub(super) fn record_denied(&self, peer: &Peer, action: AuditAction, named: Option<&ProfileName>, failure: &Error) {
        let chosen = self.profiles.choose(named).ok();
        let profile = chosen.as_ref().map(|profile| &profile.name);
        self.audit_log.record_denied(peer, action, failure.code, profile, self.now());
    }

    async fn token_request(
        self: &Arc<Self>,
        peer: &Peer,
        named: Option<&ProfileName>,
        request: TokenRequest,
        wait: Option<Duration>,
    ) -> Result<AgentResponse, SharedError> {
        let now = self.now();
        self.agent_lock.check(now)?;
        let profile = self.choose_profile(named).await?;
        let is_id_token = request.token == RequestedToken::Id;
        let issued = self.shared_token(profile, request, wait).await?;
        let name = &issued.profile.name;
        let action = if is_id_token { AuditAction::IdToken } else { AuditAction::Token };
        self.audit_log.record(peer, action, Some(name), now);
        let at = self.now();
        // A warning depends on the lifetime that the caller requires.
        let is_usual =
            matches!(&issued.token, RequestedToken::Access(target) if target.is_plain()) && issued.warning.is_none();
        if is_usual && let Some(body) = self.cache.response(name, &issued.session, at) {
            return Ok(ok(body));
        }
        let IssuedToken { profile, session, token, warning, .. } = &issued;
        let response = SessionService::token_response(profile, session, token, warning.as_ref(), at);
        let body = to_json(&response.map_err(|e| Error::of_token(e, name))?)?;
        if is_usual {
            self.cache.put_response(name, session, at, &body);
        }
        Ok(ok(body))
    }

    /// Makes a proof for a request of the caller. The key stays here.
    async fn proof_request(
        self: &Arc<Self>,
        peer: &Peer,
        body: &SecretBytes,
        wait: Option<Duration>,
    ) -> Result<AgentResponse, SharedError> {
        self.agent_lock.check(self.now())?;
        let request = proof_body(body)?;
        let profile = self.choose_profile(request.profile.as_ref()).await?;
        let session = match request.access_token {
            Some(_) => self.session_to_verify(&profile).await?,
            None => {
                let own = TokenRequest::access(TokenTarget::default(), None);
                self.shared_token(Arc::clone(&profile), own, wait).await?.session
            }
        };
        let proof = self.sessions.proof(&profile, &session, &request).await;
        let proof = proof.map_err(|error| Error::from(error).about(&profile.name))?;
        self.audit_log.record(peer, AuditAction::Proof, Some(&profile.name), self.now());
        Ok(json(&ProofResponse { profile: profile.name.clone(), proof }))
    }

    /// Records what a proxy reports. The audit log shows its process beside it, since the report may be wrong.
    fn proxy_request(self: &Arc<Self>, peer: &Peer, body: &SecretBytes) -> Result<AgentResponse, SharedError> {
        let ProxyReport { profile, reported } = proxy_body(body)?;
        // Unknown names are left out, as in `record_denied`.
        let known = profile.and_then(|name| self.profiles.choose(Some(&name)).ok());
        let (name, now) = (known.as_ref().map(|profile| &profile.name), self.now());
        match reported {
            ProxyReported::Refused { rule, count, request } => {
                let refused = (rule, count.get().into(), excerpt(&request, MAX_REPORTED));
                self.audit_log.record_refused(peer, refused, name, now);
            }
            ProxyReported::SignInRequired { message } => {
                let message = Some(excerpt(&message, MAX_REPORTED));
                self.events.publish(EventKind::SignInRequired, name, now, message);
            }
        }
        Ok(json(&serde_json::json!({})))
    }

    async fn refresh_request(
        self: &Arc<Self>,
        peer: &Peer,
        name: &ProfileName,
        request: TokenRequest,
        wait: Option<Duration>,
    ) -> Result<AgentResponse, SharedError> {
        self.agent_lock.check(self.now())?;
        let profile = self.choose_profile(Some(name)).await?;
        let issued = self.shared_token(profile, request, wait).await?;
        let now = self.now();
        self.audit_log.record(peer, AuditAction::Refresh, Some(name), now);
        let tokens = issued.tokens();
        Ok(json(&RefreshResponse {
            profile: name.clone(),
            refreshed: issued.refreshed,
            expires_at: tokens.expires_at,
            expires_in: tokens.expires_in(now),
        }))
    }

    /// Verifies a token as `authctl verify` does, by the profile's keys and the revocation list.
    async fn verify_request(self: &Arc<Self>, body: &SecretBytes) -> Result<AgentResponse, SharedError> {
        let now = self.now();
        self.agent_lock.check(now)?;
        let VerifyBody { token, profile: named, jwks, options, .. } = verify_body(body)?;
        let policy = options.policy(now).map_err(Error::from)?;
        let given = match jwks {
            None => None,
            Some(jwks) => Some(
                KeySet::from_jwks(jwks.get()).map_err(|e| Error::new(ErrorCode::InvalidRequest, e, see_openapi()))?,
            ),
        };
        let complete = !policy.issuer.is_empty() && !policy.audiences.is_empty();
        let (verdict, age) = match given {
            Some(keys) if complete && named.is_none() => {
                let sessions = Arc::clone(&self.sessions);
                let verified = unblock("@verify", move || {
                    let verifier = sessions.verifier_with_keys(keys, policy)?;
                    Ok::<_, SessionError>(verifier.verify_token(token.expose(), false).verdict)
                });
                let verdict =
                    verified.await.map_err(|_| Error::from(SessionError::Interrupted))?.map_err(Error::from)?;
                (verdict, None)
            }
            given => {
                let profile = self.choose_profile(named.as_ref()).await?;
                let about = |e: SessionError| Error::from(e).about(&profile.name);
                // The profile may have the ID token decide about the session's own access token.
                let own = match profile.requirements.token {
                    DecidingToken::IdToken => Some(self.session_to_verify(&profile).await?),
                    DecidingToken::AccessToken => None,
                };
                let own = own.filter(|session| session.tokens.access_token.expose() == token.expose());
                let verified_profile = Arc::clone(&profile);
                let decide = move |verifier: &TokenVerifier| {
                    let verification = match own {
                        Some(session) => verifier.verify_session(&verified_profile, &session, false),
                        None => verifier.verify_token(token.expose(), false),
                    };
                    (verification.verdict, verifier.keys_age())
                };
                self.sessions.with_verifier(&profile, policy, given, decide).await.map_err(about)?
            }
        };
        Ok(json(&VerdictJson::of(&verdict, age)))
    }

    /// Returns the profile's session, valid or not.
    async fn session_to_verify(self: &Arc<Self>, profile: &Arc<Profile>) -> Result<Arc<Session>, SharedError> {
        if let (CachedSession::Session(session), _) = self.cache.get(&profile.name, &TokenTarget::default()) {
            return Ok(session);
        }
        self.loaded(profile).await
    }

    /// Returns what `authctl status --json` prints. A locked agent reports only that it is locked.
    async fn status_request(self: &Arc<Self>) -> Result<AgentResponse, SharedError> {
        let state = self.state();
        let (config, sessions) = (self.profiles.config(), Arc::clone(&self.sessions));
        let profiles = if state.locked {
            Vec::new()
        } else {
            // All reports have one subject, so they run one at a time: a report reads every store and may hang.
            let read = unblock("@status", move || profile_statuses(&sessions, &config, None));
            read.await.map_err(|_| Error::from(SessionError::Interrupted))??
        };
        let report = StatusReport { token_from_environment: false, agent: state, profiles, effective_profile: None };
        Ok(json(&report))
    }

    pub(super) fn events_request(self: &Arc<Self>) -> Result<AgentResponse, SharedError> {
        if self.events.subscribers() >= MAX_SUBSCRIBERS {
            let failure = Error::msg(ErrorCode::TooManyRequests, "too many event subscribers", see_openapi());
            return Err(Arc::new(failure));
        }
        let (sender, receiver) = mpsc::channel(16);
        let mut events = self.events.subscribe();
        let (agent, mut stopped) = (Arc::clone(self), self.stop.subscribe());
        tokio::spawn(async move {
            // hyper sends the head together with the first piece.
            let mut piece = ": subscribed\n\n".to_owned();
            loop {
                if sender.send(piece).await.is_err() {
                    return;
                }
                piece = tokio::select! {
                    event = events.recv() => match event {
                        Ok(event) => event.to_sse(),
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                            format!(": {missed} events missed\n\n")
                        }
                        Err(_) => return,
                    },
                    () = agent.clock.sleep(HEARTBEAT) => ": alive\n\n".to_owned(),
                    () = sender.closed() => return,
                    _ = stopped.wait_for(|stop| *stop) => return,
                };
            }
        });
        Ok(stream(receiver))
    }

    pub(super) async fn forget_request(self: &Arc<Self>, name: ProfileName, revoke: bool) -> AgentResponse {
        if let Err(error) = self.reread_configuration().await {
            tracing::warn!("{}", error.message());
        }
        let forgotten = match self.profiles.choose(Some(&name)) {
            Ok(profile) => {
                // A login has stored another session, or is about to. In a task: the client may not wait for the store.
                let (sessions, released) = (Arc::clone(&self.sessions), Arc::clone(&profile));
                let _ = tokio::spawn(async move { sessions.release_unsaved(&released, revoke).await }).await;
                self.forget(&profile)
            }
            Err(_) => self.cache.forget_removed_profile(&name),
        };
        json(&ForgetResponse { profile: name, forgotten })
    }

    async fn lock_request(self: &Arc<Self>, peer: &Peer, body: &SecretBytes) -> Result<AgentResponse, SharedError> {
        let request = lock_body(body)?;
        self.lock(peer.pid, request.passphrase, request.after).await?;
        self.audit_log.record(peer, AuditAction::Lock, None, self.now());
        Ok(json(&self.state()))
    }

    async fn unlock_request(self: &Arc<Self>, peer: &Peer, body: &SecretBytes) -> Result<AgentResponse, SharedError> {
        let request = unlock_body(body)?;
        if let Err((failure, delay)) = self.unlock(peer.pid, request.passphrase).await {
            if let Some(delay) = delay {
                self.audit_log.record(peer, AuditAction::WrongPassphrase, None, self.now());
                self.clock.sleep(delay).await;
            }
            return Err(failure.into());
        }
        self.audit_log.record(peer, AuditAction::Unlock, None, self.now());
        Ok(json(&self.state()))
    }

    /// Logs out of a profile whose session only the agent can read.
    async fn logout_request(
        self: &Arc<Self>,
        peer: &Peer,
        name: &ProfileName,
        revoke: bool,
    ) -> Result<AgentResponse, SharedError> {
        self.agent_lock.check(self.now())?;
        let profile = self.choose_profile(Some(name)).await?;
        let result = self.sessions.logout(&profile, revoke).await;
        self.forget(&profile);
        let revocation = result.map_err(|e| Error::from(e).about(name))?;
        self.audit_log.record(peer, AuditAction::Logout, Some(name), self.now());
        let word = revocation.as_ref().map(|revocation| revocation.word().to_owned());
        let error = match revocation {
            Some(Revocation::Failed(error) | Revocation::Partial(error)) => {
                Some(document(&Error::from(error).about(name)))
            }
            _ => None,
        };
        Ok(json(&LogoutResponse { profile: name.clone(), deleted: word.is_some(), revocation: word, error }))
    }

    fn stop_request(self: &Arc<Self>, peer: &Peer) -> AgentResponse {
        let now: UnixTime = self.now();
        self.audit_log.record(peer, AuditAction::Stop, None, now);
        self.stop.send_replace(true);
        json(&StopResponse { pid: std::process::id() })
    }
}
