//! Offline verification of tokens: checks the profile's requirements, the trusted keys, the revocation list of this machine,
//! and that the clock was not set back.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Map, Value};

use super::observed_time::{ObservedTime, read_observed_time, record_time};
use super::trust::{read_trust, trusted_keys};
use super::{SessionError, SessionService};
use crate::clock::{Clock, UnixTime};
use crate::model::{DecidingToken, Grant, Profile, Session, StoredStatusList, Trust, span};
use crate::store::{RevocationList, Store};
use crate::verify::{
    AcceptedTypes, CLOCK_TOLERANCE, CheckResult, Checks, KeySet, Policy, Reason, ReasonCode, StatusClaim, StatusList,
    StatusListPolicy, Verdict, Verification, check_status, clock_rollback, is_revoked, looks_like_jwt,
    verify_with_steps,
};

/// Verifies any number of tokens by one policy and one set of keys, without network access.
pub struct TokenVerifier {
    policy: Policy,
    keys: KeySet,
    keys_age: Option<Duration>,
    /// Where the keys are from, for `--explain`.
    source: String,
    revoked: RwLock<RevocationList>,
    /// The stored status lists, each verified when a token first names it.
    lists: Vec<(StoredStatusList, OnceLock<Option<StatusList>>)>,
    /// Reasons to deny every token: stale keys, a clock that was set back, too long offline.
    limits: Vec<Reason>,
}

/// The source of keys that came with the request.
const SUPPLIED: &str = "supplied with the request";

impl TokenVerifier {
    /// Creates a verifier that uses the supplied keys and no profile.
    fn with_keys(keys: KeySet, policy: Policy, revoked: RevocationList) -> Self {
        let (revoked, source) = (RwLock::new(revoked), SUPPLIED.to_owned());
        Self { policy, keys, keys_age: None, source, revoked, lists: Vec::new(), limits: Vec::new() }
    }

    /// Creates a verifier for the profile's tokens. The profile's issuer and audiences are expected if `policy` has
    /// none, and the profile's requirements are added to those of `policy`. `supplied` keys replace the stored ones.
    fn for_profile(
        store: &dyn Store,
        profile: &Profile,
        mut policy: Policy,
        supplied: Option<KeySet>,
        revoked: RevocationList,
        clock: &dyn Clock,
    ) -> Result<Self, SessionError> {
        add_requirements(profile, &mut policy);
        let trust = read_trust(store, &profile.issuer)?;
        let (keys, keys_age, source) = match supplied {
            Some(keys) => (keys, None, SUPPLIED.to_owned()),
            None => {
                let (keys, age) = trusted_keys(&trust, policy.now);
                (keys, age, source_of(&trust))
            }
        };
        let limits = offline_limits(profile, &policy, keys_age, &trust, &read_observed_time(store), clock);
        let lists = trust.lists.into_iter().map(|list| (list, OnceLock::new())).collect();
        Ok(Self { policy, keys, keys_age, source, revoked: RwLock::new(revoked), lists, limits })
    }

    /// Verifies a token; with `record_steps`, also returns the checks that were made.
    #[must_use]
    pub fn verify_token(&self, token: &str, record_steps: bool) -> Verification {
        self.verify_by(&self.policy, token, record_steps)
    }

    /// Verifies a token as of `now`, or as of the moment that the policy names (`--at`).
    #[must_use]
    pub fn verify_token_at(&self, token: &str, now: UnixTime) -> Verdict {
        if self.policy.as_of || self.policy.now == now {
            return self.verify_token(token, false).verdict;
        }
        self.verify_by(&Policy { now, ..self.policy.clone() }, token, false).verdict
    }

    /// Verifies a session: its access token or its ID token, according to the profile's `verify_token`.
    #[must_use]
    pub fn verify_session(&self, profile: &Profile, session: &Session, record_steps: bool) -> Verification {
        match (profile.requirements.token, &session.tokens.id_token) {
            (DecidingToken::AccessToken, _) => self.verify_token(session.tokens.access_token.expose(), record_steps),
            (DecidingToken::IdToken, Some(id_token)) => self.verify_token(id_token.expose(), record_steps),
            (DecidingToken::IdToken, None) => {
                let message = "the profile requires an ID token (verify_token), and the session has none";
                Verification::denied("parts", Reason::new(ReasonCode::OpaqueToken, message), record_steps)
            }
        }
    }

    /// Reads the revocation list again. If it cannot be read, the previous one stays in use.
    pub fn reload_revocation_list(&self) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = revoked.reload() {
            tracing::warn!("{error}");
        }
    }

    fn verify_by(&self, policy: &Policy, token: &str, record_steps: bool) -> Verification {
        let Verification { verdict, mut steps } = verify_with_steps(token, &self.keys, policy, record_steps);
        for step in steps.iter_mut().flatten().filter(|step| step.check == "key" && step.outcome == CheckResult::Ok) {
            step.message = format!("{}; keys {}", step.message, self.source);
        }
        let mut checks = Checks { reasons: Vec::new(), steps };
        let claims = match &verdict {
            Verdict::Granted(granted) => Some(&granted.claims),
            Verdict::Denied(_) => None,
        };
        let list = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        let revoked = is_revoked(list.tokens(), token, claims);
        drop(list);
        if revoked {
            checks.deny("revoked", Reason::revoked());
        } else if claims.is_some() {
            // Without trusted claims only this copy of the token was looked up.
            checks.pass("revoked", || "not revoked on this machine");
        }
        match claims.map(|claims| self.status(claims, policy.now)) {
            Some(Some(reason)) => checks.deny("status", reason),
            Some(None) if claims.is_some_and(|claims| matches!(StatusClaim::read(claims), Ok(Some(_)))) => {
                checks.pass("status", || {
                    if self.policy.ignore_status { "not checked" } else { "valid by the stored status list" }
                });
            }
            _ => {}
        }
        for limit in &self.limits {
            let check = match limit.code {
                ReasonCode::ClockRollback => "clock",
                ReasonCode::KeysStale => "keys_max_age",
                _ => "max_offline",
            };
            checks.deny(check, limit.clone());
        }
        if self.limits.is_empty()
            && let Some(age) = self.keys_age
        {
            checks.pass("trust", || format!("keys fetched {} ago; the clock was not set back", span(age)));
        }
        let Checks { reasons, steps } = checks;
        Verification { verdict: reasons.into_iter().fold(verdict, Verdict::denied_for), steps }
    }

    /// Returns the reason to deny a token by the status list that it names, which is verified with the same keys.
    fn status(&self, claims: &Map<String, Value>, now: UnixTime) -> Option<Reason> {
        if self.policy.ignore_status {
            return None;
        }
        let claim = match StatusClaim::read(claims) {
            Ok(claim) => claim?,
            Err(invalid) => return Some(invalid.into()),
        };
        let stored = self.lists.iter().find(|(stored, _)| stored.uri == claim.uri);
        let list = stored.and_then(|(stored, verified)| {
            verified
                .get_or_init(|| {
                    let policy = StatusListPolicy::new(&stored.uri, &self.policy.issuer, stored.fetched_at);
                    StatusList::read(&stored.jwt, &self.keys, &policy).ok()
                })
                .as_ref()
        });
        check_status(&claim, list, now)
    }

    /// Returns the age of the stored keys, if tokens are verified with fetched keys.
    #[must_use]
    pub fn keys_age(&self) -> Option<Duration> {
        self.keys_age
    }
}

/// Describes where the trusted keys are from.
fn source_of(trust: &Trust) -> String {
    match (&trust.pinned, &trust.fetched) {
        (Some(pinned), _) => format!("pinned from {}", pinned.source),
        (None, Some(fetched)) => format!("fetched from {}", fetched.source),
        (None, None) => "missing".to_owned(),
    }
}

/// Returns the reasons to deny every token offline.
fn offline_limits(
    profile: &Profile,
    policy: &Policy,
    keys_age: Option<Duration>,
    trust: &Trust,
    observed: &ObservedTime,
    clock: &dyn Clock,
) -> Vec<Reason> {
    let (now, required) = (clock.now(), &profile.requirements);
    let mut limits = Vec::new();
    if !policy.as_of {
        let unknown = |what: &str| {
            let message =
                format!("the record of the latest time seen {what}, so the clock may have been set back unnoticed");
            Some(Reason::new(ReasonCode::ClockRollback, message))
        };
        limits.extend(match observed {
            ObservedTime::At(mark) => {
                clock_rollback([mark].into_iter().chain(&trust.issuer_time), now, clock.uptime().as_ref())
            }
            ObservedTime::Unreadable => unknown("cannot be read"),
            // It is written whenever the issuer responds.
            ObservedTime::None if trust.contact_at.is_some() => unknown("is missing"),
            ObservedTime::None => None,
        });
    }
    // A time in the future was recorded while the clock was wrong, so the age is unknown.
    let in_future = |at: UnixTime| at > now.plus(CLOCK_TOLERANCE);
    let fetched = trust.fetched.as_ref().filter(|_| keys_age.is_some());
    if fetched.is_some_and(|keys| in_future(keys.fetched_at)) {
        let message = "the time at which the issuer's keys were fetched is in the future, so their age is unknown";
        limits.push(Reason::new(ReasonCode::KeysStale, message));
    }
    let stale = keys_age.filter(|age| *age > required.keys_max_age());
    limits.extend(stale.map(|age| Reason::keys_stale(age, required.keys_max_age())));
    if let Some(max_offline) = required.max_offline {
        let offline = trust.contact_at.filter(|at| !in_future(*at)).map(|at| at.until(now));
        if offline.is_none_or(|offline| offline > max_offline) {
            limits.push(Reason::offline_too_long(offline, max_offline));
        }
    }
    limits
}

impl SessionService {
    /// Returns a verifier for the profile's tokens, and records the current time. Blocks for at most the store's own
    /// limit; no network access.
    ///
    /// # Errors
    /// [`SessionError::Store`], [`SessionError::Trust`] or [`SessionError::RevocationList`].
    pub fn verifier(
        &self,
        profile: &Profile,
        policy: Policy,
        supplied: Option<KeySet>,
    ) -> Result<TokenVerifier, SessionError> {
        let store = &**self.stores.of(profile.store);
        let revoked = self.revoked.open()?;
        let verifier = TokenVerifier::for_profile(store, profile, policy, supplied, revoked, &*self.clock)?;
        record_time(store, &*self.clock);
        Ok(verifier)
    }

    /// Returns a verifier that uses the supplied keys and no profile. Blocks while it reads the revocation list.
    ///
    /// # Errors
    /// [`SessionError::RevocationList`].
    pub fn verifier_with_keys(&self, keys: KeySet, policy: Policy) -> Result<TokenVerifier, SessionError> {
        Ok(TokenVerifier::with_keys(keys, policy, self.revoked.open()?))
    }

    /// Calls `work` with a verifier for the profile's tokens, on a thread for blocking calls.
    ///
    /// # Errors
    /// As [`SessionService::verifier`].
    pub async fn with_verifier<T: Send + 'static>(
        &self,
        profile: &Profile,
        policy: Policy,
        supplied: Option<KeySet>,
        work: impl FnOnce(&TokenVerifier) -> T + Send + 'static,
    ) -> Result<T, SessionError> {
        let (profile, clock, kind) = (profile.clone(), Arc::clone(&self.clock), profile.store);
        let (revoked, name) = (self.revoked.clone(), profile.name.clone());
        self.with_store(kind, name.as_str(), move |store| {
            let verifier = || {
                let revoked = revoked.open()?;
                TokenVerifier::for_profile(store, &profile, policy, supplied, revoked, &*clock)
            };
            Ok(verifier().map(|verifier| work(&verifier)))
        })
        .await?
    }
}

/// Fills in the profile's issuer and audiences if `policy` has none, and adds the profile's requirements.
fn add_requirements(profile: &Profile, policy: &mut Policy) {
    let required = &profile.requirements;
    let by_id_token = required.token == DecidingToken::IdToken;
    // A claim is required even if the profile makes it optional, if the caller expects a value for it.
    let optional = |claim: &&String| match claim.as_str() {
        "iss" => policy.issuer.is_empty(),
        "aud" => policy.audiences.is_empty(),
        _ => false,
    };
    if !by_id_token {
        policy.optional_claims = required.optional_claims.iter().filter(optional).cloned().collect();
    }
    if policy.issuer.is_empty() {
        policy.issuer = profile.issuer.to_string();
    }
    if policy.audiences.is_empty() {
        policy.audiences = if by_id_token { vec![profile.client_id.clone()] } else { profile.expected_audiences() };
    }
    if by_id_token && policy.types == AcceptedTypes::default() {
        policy.types = AcceptedTypes::IdToken;
    }
    policy.scopes.extend(required.scopes.iter().cloned());
    policy.claims.extend(required.required_claims());
    policy.max_auth_age = [policy.max_auth_age, required.max_auth_age].into_iter().flatten().min();
    policy.required_acr.clone_from(&required.acr);
    policy.amr.extend(required.amr.iter().cloned());
}

/// Returns whether the session has a supplied token that nothing has verified: neither a signature nor the issuer's userinfo
/// endpoint.
#[must_use]
pub fn is_unverified(session: &Session) -> bool {
    let tokens = &session.tokens;
    session.grant == Grant::Token
        && session.subject.is_none()
        && tokens.id_token.is_none()
        && !looks_like_jwt(tokens.access_token.expose())
}
