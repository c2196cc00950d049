//! The offline decision on a token, by what its profile expects and what was logged out here.

use std::time::Duration;

use super::Broker;
use crate::clock::UnixTime;
use crate::model::{Profile, Session, TokenSet};
use crate::verify::{KeySet, Policy, Reason, ReasonCode, RevokedList, Verdict, verify};

impl Broker {
    /// Decides on a stored token. An empty issuer or no audience in `policy` stands for the profile's, and no `keys` for
    /// the session's. No network, whatever the token says. Also says how old the kept keys are, where they decided.
    #[must_use]
    pub fn judge(
        profile: &Profile,
        session: &Session,
        tokens: &TokenSet,
        mut policy: Policy,
        keys: Option<KeySet>,
        revoked: &RevokedList,
    ) -> (Verdict, Option<Duration>) {
        Self::expect_the_profiles(profile, &mut policy);
        let (keys, age) = keys.map_or_else(|| Self::kept_keys(session, policy.now), |keys| (keys, None));
        (judge_token(tokens.access_token.expose(), &keys, &policy, revoked), age)
    }

    /// Puts the profile's issuer and audiences where `policy` has none of its own.
    pub fn expect_the_profiles(profile: &Profile, policy: &mut Policy) {
        if policy.issuer.is_empty() {
            policy.issuer = profile.issuer.to_string();
        }
        if policy.audiences.is_empty() {
            policy.audiences = profile.expected_audiences();
        }
    }

    /// The keys that a session keeps, none where it has none, and how old they are.
    #[must_use]
    pub fn kept_keys(session: &Session, now: UnixTime) -> (KeySet, Option<Duration>) {
        let kept = session.keys.as_ref();
        let keys = kept.and_then(|keys| KeySet::from_jwks(&keys.jwks).ok()).unwrap_or_default();
        (keys, kept.map(|keys| keys.fetched_at.until(now)))
    }
}

/// Decides on any token: the verifier's verdict, and whether the token was logged out here.
#[must_use]
pub fn judge_token(token: &str, keys: &KeySet, policy: &Policy, revoked: &RevokedList) -> Verdict {
    let verdict = verify(token, keys, policy);
    if revoked.contains(token) { verdict.denied_for(Reason::revoked()) } else { verdict }
}

/// Whether the verifier lacked the key, which fetching the keys again may mend.
pub(super) fn is_unknown_key(reason: &Reason) -> bool {
    reason.code == ReasonCode::UnknownKey
}
