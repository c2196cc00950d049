//! The offline decision on a token: by what its profile demands, the keys that are trusted, what was logged out here, and
//! a clock that nobody has set back.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Map, Value};

use super::trust::{Mark, keys_of, mark_in, trust_in};
use super::{SessionError, SessionService};
use crate::clock::{Clock, UnixTime};
use crate::model::{DecidingToken, Profile, Session, StoredStatusList, TokenSet, Trust, duration_text};
use crate::store::Store;
use crate::ui::sanitize_for_terminal;
use crate::verify::{
    AcceptedTypes, CLOCK_TOLERANCE, Findings, KeySet, Outcome, Policy, Reason, ReasonCode, RevocationList, StatusClaim,
    StatusList, StatusListPolicy, Step, Verdict, clock_rollback, explain, judge_status,
};

/// Decides on tokens, any number of them: by one policy, one set of keys, and what is known here of both.
pub struct TokenVerifier {
    policy: Policy,
    keys: KeySet,
    keys_age: Option<Duration>,
    /// Where the keys are from, in words.
    source: String,
    revoked: RwLock<RevocationList>,
    /// The kept status lists, each verified when it is first asked.
    lists: Vec<(StoredStatusList, OnceLock<Option<StatusList>>)>,
    /// Why nothing of the issuer's is to be believed offline any more, whatever the token.
    limits: Vec<Reason>,
}

/// Where keys are from that came with the question.
const GIVEN: &str = "given with the question";

/// Where the keys that decide are from.
fn source_of(trust: &Trust) -> String {
    match (&trust.pinned, &trust.fetched) {
        (Some(pinned), _) => format!("pinned from {}", sanitize_for_terminal(&pinned.source, 200)),
        (None, Some(fetched)) => format!("fetched from {}", sanitize_for_terminal(&fetched.source, 200)),
        (None, None) => "from nowhere".to_owned(),
    }
}

impl TokenVerifier {
    /// One who knows nothing but the keys that are given, and what was logged out here.
    #[must_use]
    pub fn by_given(keys: KeySet, policy: Policy, revoked: RevocationList) -> Self {
        let (revoked, source) = (RwLock::new(revoked), GIVEN.to_owned());
        Self { policy, keys, keys_age: None, source, revoked, lists: Vec::new(), limits: Vec::new() }
    }

    /// One for the profile's tokens. An empty issuer or no audience in `policy` stands for the profile's, and what the
    /// profile demands comes to what `policy` does; keys that are `given` stand for those that are kept. Reads what
    /// `store` keeps, for as long as its own limit; no network.
    ///
    /// # Errors
    /// [`SessionError::Store`] or [`SessionError::Trust`].
    pub fn of_profile(
        store: &dyn Store,
        profile: &Profile,
        mut policy: Policy,
        given: Option<KeySet>,
        revoked: RevocationList,
        clock: &dyn Clock,
    ) -> Result<Self, SessionError> {
        expect_the_profiles(profile, &mut policy);
        let trust = trust_in(store, &profile.issuer)?;
        let (keys, keys_age, source) = match given {
            Some(keys) => (keys, None, GIVEN.to_owned()),
            None => {
                let (keys, age) = keys_of(&trust, policy.now);
                (keys, age, source_of(&trust))
            }
        };
        let limits = limits(profile, &policy, keys_age, &trust, &mark_in(store), clock);
        let lists = trust.lists.into_iter().map(|list| (list, OnceLock::new())).collect();
        Ok(Self { policy, keys, keys_age, source, revoked: RwLock::new(revoked), lists, limits })
    }

    /// The decision. No network, whatever the token says.
    #[must_use]
    pub fn decide(&self, token: &str) -> Verdict {
        self.explain(token, false).0
    }

    /// The same, and where it is wanted the way to it.
    #[must_use]
    pub fn explain(&self, token: &str, explained: bool) -> (Verdict, Vec<Step>) {
        self.explain_by(&self.policy, token, explained)
    }

    /// The decision as of `now`, for who goes on deciding; where another moment was asked for, as of that.
    #[must_use]
    pub fn decide_now(&self, token: &str, now: UnixTime) -> Verdict {
        if self.policy.as_of || self.policy.now == now {
            return self.decide(token);
        }
        self.explain_by(&Policy { now, ..self.policy.clone() }, token, false).0
    }

    /// Reads again what was logged out here; what cannot be read leaves what was.
    pub fn look_again(&self) {
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        match revoked.again() {
            Ok(again) => *revoked = again,
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn explain_by(&self, policy: &Policy, token: &str, explained: bool) -> (Verdict, Vec<Step>) {
        let (verdict, mut steps) = explain(token, &self.keys, policy, explained);
        for step in steps.iter_mut().filter(|step| step.check == "key" && step.outcome == Outcome::Ok) {
            step.message = format!("{}; keys {}", step.message, self.source);
        }
        let mut findings = Findings { reasons: Vec::new(), steps: explained.then_some(steps) };
        let claims = match &verdict {
            Verdict::Granted(granted) => Some(&granted.claims),
            Verdict::Denied(_) => None,
        };
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        let over = revoked.contains(token) || claims.is_some_and(|claims| revoked.names(claims));
        drop(revoked);
        if over {
            findings.deny("revoked", Reason::revoked());
        } else {
            findings.pass("revoked", || "not ended on this machine");
        }
        match claims.map(|claims| self.status(claims, policy.now)) {
            Some(Some(reason)) => findings.deny("status", reason),
            Some(None) if claims.is_some_and(|claims| matches!(StatusClaim::read(claims), Ok(Some(_)))) => {
                let ignored = if self.policy.ignore_status { "not asked" } else { "valid by the kept list" };
                findings.pass("status", || ignored);
            }
            _ => {}
        }
        for limit in &self.limits {
            let check = match limit.code {
                ReasonCode::ClockRollback => "clock",
                ReasonCode::KeysStale => "keys_max_age",
                _ => "max_offline",
            };
            findings.deny(check, limit.clone());
        }
        if self.limits.is_empty()
            && let Some(age) = self.keys_age
        {
            findings.pass("trust", || format!("keys fetched {} ago; the clock was not set back", duration_text(age)));
        }
        let Findings { reasons, steps } = findings;
        let verdict = reasons.into_iter().fold(verdict, Verdict::denied_for);
        (verdict, steps.unwrap_or_default())
    }

    /// What the status list that a token names says against it. A list is believed by the keys that tokens are.
    fn status(&self, claims: &Map<String, Value>, now: UnixTime) -> Option<Reason> {
        if self.policy.ignore_status {
            return None;
        }
        let claim = match StatusClaim::read(claims) {
            Ok(claim) => claim?,
            Err(invalid) => return Some(invalid.into()),
        };
        let kept = self.lists.iter().find(|(kept, _)| kept.uri == claim.uri);
        let list = kept.and_then(|(kept, read)| {
            read.get_or_init(|| {
                let policy = StatusListPolicy::new(&kept.uri, &self.policy.issuer, kept.fetched_at);
                StatusList::read(&kept.jwt, &self.keys, &policy).ok()
            })
            .as_ref()
        });
        judge_status(&claim, list, now)
    }

    /// The decision on one of a session's tokens, by the token that decides for the profile.
    #[must_use]
    pub fn decide_on(&self, profile: &Profile, session: &Session, tokens: &TokenSet) -> Verdict {
        self.explain_on(profile, session, tokens, false).0
    }

    /// The same, and where it is wanted the way to it.
    #[must_use]
    pub fn explain_on(
        &self,
        profile: &Profile,
        session: &Session,
        tokens: &TokenSet,
        explained: bool,
    ) -> (Verdict, Vec<Step>) {
        match (profile.requirements.token, &session.tokens.id_token) {
            (DecidingToken::AccessToken, _) => self.explain(tokens.access_token.expose(), explained),
            (DecidingToken::IdToken, Some(id_token)) => self.explain(id_token.expose(), explained),
            (DecidingToken::IdToken, None) => {
                let message = "the profile decides by the ID token (verify_token), and the session has none";
                let mut findings = Findings::new(explained);
                findings.deny("parts", Reason::new(ReasonCode::OpaqueToken, message));
                let steps = findings.steps.take().unwrap_or_default();
                (Verdict::Denied(findings.sorted()), steps)
            }
        }
    }

    /// How old the kept keys are, where they decide.
    #[must_use]
    pub fn keys_age(&self) -> Option<Duration> {
        self.keys_age
    }
}

fn limits(
    profile: &Profile,
    policy: &Policy,
    keys_age: Option<Duration>,
    trust: &Trust,
    mark: &Mark,
    clock: &dyn Clock,
) -> Vec<Reason> {
    let (now, wants) = (clock.now(), &profile.requirements);
    let mut limits = Vec::new();
    if !policy.as_of {
        let lost = |what: &str| {
            let message =
                format!("the note of the latest moment seen {what}, so nobody knows whether the clock was set back");
            Some(Reason::new(ReasonCode::ClockRollback, message))
        };
        limits.extend(match mark {
            Mark::Kept(mark) => clock_rollback([mark].into_iter().chain(&trust.told), now, clock.uptime().as_ref()),
            Mark::Unreadable => lost("cannot be read"),
            // Whoever was answered by the issuer had one.
            Mark::None if trust.contact_at.is_some() => lost("is gone"),
            Mark::None => None,
        });
    }
    // A moment in the future was noted by a clock that was wrong: how long ago it was, nobody knows.
    let future = |at: UnixTime| at > now.plus(CLOCK_TOLERANCE);
    let fetched = trust.fetched.as_ref().filter(|_| keys_age.is_some());
    if fetched.is_some_and(|keys| future(keys.fetched_at)) {
        let message =
            "the issuer's keys were fetched in the future, by a clock that was wrong: nobody knows how old they are";
        limits.push(Reason::new(ReasonCode::KeysStale, message));
    }
    let stale = keys_age.filter(|age| *age > wants.keys_max_age());
    limits.extend(stale.map(|age| Reason::keys_stale(age, wants.keys_max_age())));
    if let Some(most) = wants.max_offline {
        let silent = trust.contact_at.filter(|at| !future(*at)).map(|at| at.until(now));
        if silent.is_none_or(|silent| silent > most) {
            limits.push(Reason::offline_too_long(silent, most));
        }
    }
    limits
}

impl SessionService {
    /// Has a judge for the profile's tokens do `work`, away from the runtime's own threads.
    ///
    /// # Errors
    /// As [`TokenVerifier::of_profile`], and [`SessionError::RevocationList`].
    pub async fn with_verifier<T: Send + 'static>(
        &self,
        profile: &Profile,
        policy: Policy,
        given: Option<KeySet>,
        work: impl FnOnce(&TokenVerifier) -> T + Send + 'static,
    ) -> Result<T, SessionError> {
        let (profile, clock, kind) = (profile.clone(), Arc::clone(&self.clock), profile.store);
        let revoked = self.revoked.clone();
        self.with_store(kind, move |store| {
            let judge = || {
                let revoked = RevocationList::open(&revoked)?;
                TokenVerifier::of_profile(store, &profile, policy, given, revoked, &*clock)
            };
            Ok(judge().map(|judge| work(&judge)))
        })
        .await?
    }
}

/// Puts the profile's issuer and audiences where `policy` has none of its own, and adds what the profile demands.
fn expect_the_profiles(profile: &Profile, policy: &mut Policy) {
    let wants = &profile.requirements;
    let id_token = wants.token == DecidingToken::IdToken;
    // Who says which issuer or audience they expect expects one.
    let unsaid = |claim: &&String| match claim.as_str() {
        "iss" => policy.issuer.is_empty(),
        "aud" => policy.audiences.is_empty(),
        _ => false,
    };
    if !id_token {
        policy.optional_claims = wants.optional_claims.iter().filter(unsaid).cloned().collect();
    }
    if policy.issuer.is_empty() {
        policy.issuer = profile.issuer.to_string();
    }
    if policy.audiences.is_empty() {
        policy.audiences = if id_token { vec![profile.client_id.clone()] } else { profile.expected_audiences() };
    }
    if id_token && policy.types == AcceptedTypes::default() {
        policy.types = AcceptedTypes::IdToken;
    }
    policy.scopes.extend(wants.scopes.iter().cloned());
    policy.claims.extend(wants.wanted_claims());
    policy.max_auth_age = [policy.max_auth_age, wants.max_auth_age].into_iter().flatten().min();
    policy.acr_too.clone_from(&wants.acr);
    policy.amr.extend(wants.amr.iter().cloned());
}

/// Whether the verifier lacked the key, which fetching the keys again may mend.
pub(super) fn is_unknown_key(reason: &Reason) -> bool {
    reason.code == ReasonCode::UnknownKey
}
