//! Answers each request by what it asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Agent;
use super::audit::AuditAction;
use super::cache::CachedSession;
use super::peer::Peer;
use super::response::{Answer, json, problem_for, ready, stream, text, written};
use super::route::{Ask, VerifyBody, lock_body, unlock_body, verify_body};
use super::tokens::expires_in;
use crate::agent::protocol::{Forgotten, OPENAPI, Refreshed, Stopping, TokenAnswer};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::model::{DecidingToken, Profile, ProfileName, Session, TokenTarget, canonical_type};
use crate::secret::{Secret, SecretBytes};
use crate::session::{Demand, MinTtl, RequestedToken, SessionError, TokenRequest, TokenVerifier};
use crate::status::{StatusReport, profile_statuses};
use crate::verify::{KeySet, VerdictAnswer, unverified_claims};

/// How many may listen to events.
const MAX_LISTENERS: usize = 64;

/// A listener is told at least so often that the agent lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Why a request was not granted, shared with all who wait for the same.
type Refused = Arc<Error>;

/// The answer.
pub(super) async fn respond(
    agent: &Arc<Agent>,
    peer: &Peer,
    ask: Ask,
    body: &SecretBytes,
    wait: Option<Duration>,
) -> Answer {
    let answer = match ask {
        Ask::Token { profile, request } => agent.token(peer, profile, request, wait).await,
        Ask::Status => agent.status().await,
        Ask::Agent => Ok(json(&agent.state())),
        Ask::Log => Ok(json(&agent.audit_log.all())),
        Ask::Events => agent.listen(),
        Ask::Description => Ok(text(OPENAPI)),
        Ask::Verify => agent.verify(body).await,
        Ask::Refresh { profile, if_expiring } => agent.refresh(peer, &profile, if_expiring, wait).await,
        Ask::Forget { profile } => Ok(agent.forget_named(profile)),
        Ask::Lock => agent.lock_asked(peer, body).await,
        Ask::Unlock => agent.unlock_asked(peer, body).await,
        Ask::Stop => Ok(agent.stop_asked(peer)),
    };
    answer.unwrap_or_else(|failure| {
        let rest = match failure.code.general() {
            ErrorCode::IssuerUnreachable => agent.cache.retry_at(&failure).map(|at| agent.now().until(at).as_secs()),
            _ => None,
        };
        problem_for(&failure, rest)
    })
}

impl Agent {
    /// The profile meant. A name that is not known may be of a profile that was made just now.
    fn chosen(self: &Arc<Self>, named: Option<&ProfileName>) -> Result<Arc<Profile>, Refused> {
        match self.profiles.choose(named) {
            Ok(profile) => Ok(profile),
            Err(_) => {
                self.reread_configuration();
                self.profiles.choose(named).map_err(|e| Arc::new(Error::from(e)))
            }
        }
    }

    async fn token(
        self: &Arc<Self>,
        peer: &Peer,
        named: Option<ProfileName>,
        request: TokenRequest,
        wait: Option<Duration>,
    ) -> Result<Answer, Refused> {
        let now = self.now();
        self.agent_lock.pass(now)?;
        let profile = self.chosen(named.as_ref())?;
        let is_id_token = request.token == RequestedToken::Id;
        let issued = self.issue(profile, request, wait).await?;
        let name = &issued.profile.name;
        let action = if is_id_token { AuditAction::IdToken } else { AuditAction::Token };
        self.audit_log.note(peer, action, Some(name), now);
        let at = self.now();
        let is_own = matches!(&issued.token, RequestedToken::Access(target) if target.is_plain());
        if is_own && let Some(body) = self.cache.response(name, &issued.session, at) {
            return Ok(ready(body));
        }
        let tokens = issued.tokens();
        let id_token = issued.session.tokens.id_token.as_ref().filter(|_| is_id_token);
        let expires_at = match id_token {
            Some(token) => unverified_claims(token.expose()).and_then(|claims| claims.exp),
            None => tokens.expires_at,
        };
        let body = written(&TokenAnswer {
            profile: Some(name),
            access_token: (!is_id_token).then(|| tokens.access_token.expose()),
            id_token: id_token.map(Secret::expose),
            token_type: if is_id_token { "Bearer" } else { canonical_type(&tokens.token_type) },
            expires_at,
            expires_in: expires_at.map(|end| at.until(end).as_secs()),
            scope: tokens.scope.as_deref(),
            issuer: Some(issued.profile.issuer.as_str()),
        })?;
        if is_own {
            self.cache.put_response(name, &issued.session, at, &body);
        }
        Ok(ready(body))
    }

    async fn refresh(
        self: &Arc<Self>,
        peer: &Peer,
        name: &ProfileName,
        if_expiring: Option<Duration>,
        wait: Option<Duration>,
    ) -> Result<Answer, Refused> {
        self.agent_lock.pass(self.now())?;
        let profile = self.chosen(Some(name))?;
        let demand = if_expiring.map_or(Demand::New, |left| Demand::ValidFor(MinTtl::AtLeast(left)));
        let issued = self.issue(profile, TokenRequest::own(demand), wait).await?;
        // The token was due for a refresh and was not refreshed: that is a failure of this request.
        if let Some(warning) = issued.warning {
            return Err(warning);
        }
        let now = self.now();
        self.audit_log.note(peer, AuditAction::Refresh, Some(name), now);
        let tokens = issued.tokens();
        Ok(json(&Refreshed {
            profile: name.clone(),
            refreshed: issued.refreshed,
            expires_at: tokens.expires_at,
            expires_in: expires_in(tokens, now),
        }))
    }

    /// Decides on a token as `authctl verify` does, by the profile's keys and what was logged out here.
    async fn verify(self: &Arc<Self>, body: &SecretBytes) -> Result<Answer, Refused> {
        let now = self.now();
        self.agent_lock.pass(now)?;
        let VerifyBody { token, profile: named, jwks, options, .. } = verify_body(body)?;
        let policy = options.policy(now).map_err(Error::from)?;
        let given = match jwks {
            None => None,
            Some(jwks) => Some(KeySet::from_jwks(jwks.get()).map_err(|e| {
                Error::new(ErrorCode::InvalidRequest, e, "give a JWK Set (RFC 7517, section 5) as `jwks`")
            })?),
        };
        let complete = !policy.issuer.is_empty() && !policy.audiences.is_empty();
        let (verdict, age) = match given {
            Some(keys) if complete && named.is_none() => {
                let sessions = Arc::clone(&self.sessions);
                let verified = tokio::task::spawn_blocking(move || {
                    let verifier = sessions.verifier_with_keys(keys, policy)?;
                    Ok::<_, SessionError>(verifier.verify(token.expose()))
                });
                let verdict = verified.await.map_err(|_| Error::from(SessionError::Cut))?.map_err(Error::from)?;
                (verdict, None)
            }
            given => {
                let profile = self.chosen(named.as_ref())?;
                let about = |e: SessionError| Error::from(e).about(&profile.name);
                // Of the session's own access token another may decide, as the profile has it.
                let own = match profile.requirements.token {
                    DecidingToken::IdToken => Some(self.session_of(&profile).await?),
                    DecidingToken::AccessToken => None,
                };
                let own = own.filter(|session| session.tokens.access_token.expose() == token.expose());
                let its = Arc::clone(&profile);
                let decide = move |verifier: &TokenVerifier| {
                    let verdict = match own {
                        Some(session) => verifier.verify_session(&its, &session),
                        None => verifier.verify(token.expose()),
                    };
                    (verdict, verifier.keys_age())
                };
                self.sessions.with_verifier(&profile, policy, given, decide).await.map_err(about)?
            }
        };
        Ok(json(&VerdictAnswer::of(&verdict, age)))
    }

    /// The profile's session, valid or not.
    async fn session_of(self: &Arc<Self>, profile: &Arc<Profile>) -> Result<Arc<Session>, Refused> {
        if let (CachedSession::Session(session), _) = self.cache.look(&profile.name, &TokenTarget::default()) {
            return Ok(session);
        }
        self.loaded(profile).await
    }

    /// What `authctl status --json` prints. A locked agent says no more than that it is locked.
    async fn status(self: &Arc<Self>) -> Result<Answer, Refused> {
        let state = self.state();
        let (config, sessions) = (self.profiles.config(), Arc::clone(&self.sessions));
        let profiles = if state.locked {
            Vec::new()
        } else {
            let cut = |_| Error::from(SessionError::Cut);
            let turn = Arc::clone(&self.reporting).acquire_owned().await.map_err(cut)?;
            let read = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                profile_statuses(&sessions, &config, None)
            });
            read.await.map_err(|_| Error::from(SessionError::Cut))??
        };
        Ok(json(&StatusReport { token_from_environment: false, agent: state, profiles }))
    }

    fn listen(self: &Arc<Self>) -> Result<Answer, Refused> {
        if self.events.listeners() >= MAX_LISTENERS {
            let failure =
                Error::msg(ErrorCode::TooManyRequests, "too many listen to events already", "listen with fewer");
            return Err(Arc::new(failure));
        }
        let (sender, receiver) = mpsc::channel(16);
        let mut events = self.events.listen();
        let (agent, mut stopped) = (Arc::clone(self), self.stop.subscribe());
        tokio::spawn(async move {
            // The head of an answer goes out with its first piece.
            let mut piece = ": listening\n\n".to_owned();
            loop {
                if sender.send(piece).await.is_err() {
                    return;
                }
                piece = tokio::select! {
                    event = events.recv() => match event {
                        Ok(event) => event.on_the_wire(),
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                            format!(": {missed} events were missed\n\n")
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

    fn forget_named(self: &Arc<Self>, name: ProfileName) -> Answer {
        self.reread_configuration();
        let forgotten = match self.profiles.choose(Some(&name)) {
            Ok(profile) => self.forget(&profile),
            Err(_) => self.cache.forget_gone(&name),
        };
        json(&Forgotten { profile: name, forgotten })
    }

    async fn lock_asked(self: &Arc<Self>, peer: &Peer, body: &SecretBytes) -> Result<Answer, Refused> {
        let asked = lock_body(body)?;
        self.lock(peer.pid, asked.passphrase, asked.after).await?;
        self.audit_log.note(peer, AuditAction::Lock, None, self.now());
        Ok(json(&self.state()))
    }

    async fn unlock_asked(self: &Arc<Self>, peer: &Peer, body: &SecretBytes) -> Result<Answer, Refused> {
        let asked = unlock_body(body)?;
        if let Err((failure, delay)) = self.unlock(peer.pid, asked.passphrase).await {
            if let Some(delay) = delay {
                self.audit_log.note(peer, AuditAction::WrongPassphrase, None, self.now());
                self.clock.sleep(delay).await;
            }
            return Err(failure.into());
        }
        self.audit_log.note(peer, AuditAction::Unlock, None, self.now());
        Ok(json(&self.state()))
    }

    fn stop_asked(self: &Arc<Self>, peer: &Peer) -> Answer {
        let now: UnixTime = self.now();
        self.audit_log.note(peer, AuditAction::Stop, None, now);
        self.stop.send_replace(true);
        json(&Stopping { pid: std::process::id() })
    }
}
