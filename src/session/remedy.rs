//! What helps when an API refuses a token: the pure decision.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::model::{Profile, Session, TokenTarget};
use crate::oauth::ApiChallenge;
use crate::secret::Secret;

/// A token that a refresh brought so recently is not refreshed again: other callers had the one before refused, too.
const JUST_REFRESHED: Duration = Duration::from_secs(5);

/// A token that was refreshed so recently and is refused is not helped by another refresh.
const LATELY_REFRESHED: Duration = Duration::from_secs(60);

/// What helps against the refusal of a token. Each step is taken once for a request: after a login nothing is left to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The stored token, which is another one than was refused.
    StoredToken,
    /// A refresh, even if the token has not expired.
    Refresh,
    /// A login that requests this.
    Login(StepUp),
    /// Nothing: the session has what the API asks for.
    Nothing(String),
}

/// What a login has to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUp {
    /// All scopes: those of the profile and those of the challenge. Empty if the profile's are enough.
    pub scopes: Vec<String>,
    /// The authentication context classes, separated by spaces.
    pub acr_values: Option<String>,
    /// How long ago the sign-in may have been.
    pub max_age: Option<Duration>,
}

/// What is known of the token that an API refuses, and of its session.
#[derive(Clone, Debug)]
pub struct RefusedToken {
    /// The token that is stored now; `None` if only the agent can read it.
    pub stored: Option<Secret>,
    /// Its scope.
    pub scope: Option<String>,
    /// When it took the place of the one before; `None` if it is the first one.
    pub replaced_at: Option<UnixTime>,
    /// Whether it can be refreshed without a login.
    pub can_refresh: bool,
    /// Whether the issuer has ended the session.
    pub has_ended: bool,
}

impl RefusedToken {
    /// Returns what is known of the session's token for `target`.
    #[must_use]
    pub fn of(session: &Session, target: &TokenTarget) -> Self {
        let token = session.token_for(target).unwrap_or(&session.tokens);
        Self {
            stored: Some(token.access_token.clone()),
            scope: token.scope.clone(),
            replaced_at: session.replaced_at(target),
            can_refresh: session.can_refresh(),
            has_ended: session.ended.is_some(),
        }
    }
}

/// Decides what helps against `challenge`, with which an API refused a token of the profile: `refused`, if that is known. `known`
/// is `None` without a session.
#[must_use]
pub fn remedy(
    profile: &Profile,
    known: Option<&RefusedToken>,
    challenge: &ApiChallenge,
    refused: Option<&Secret>,
    now: UnixTime,
) -> Remedy {
    let step_up = |scopes| {
        Remedy::Login(StepUp {
            scopes,
            acr_values: challenge.acr_values.clone(),
            max_age: challenge.max_age.map(Duration::from_secs),
        })
    };
    let granted: Vec<&str> = known.and_then(|known| known.scope.as_deref()).unwrap_or_default().split(' ').collect();
    let missing: Vec<&String> = challenge.scopes.iter().filter(|scope| !granted.contains(&scope.as_str())).collect();
    let with_missing = || match missing.is_empty() {
        true => Vec::new(),
        false => {
            let new = challenge.scopes.iter().filter(|scope| !profile.scopes.contains(scope));
            profile.scopes.iter().chain(new).cloned().collect()
        }
    };
    let Some(known) = known.filter(|known| !known.has_ended) else { return step_up(with_missing()) };
    let is_replaced =
        refused.zip(known.stored.as_ref()).is_some_and(|(refused, stored)| refused.expose() != stored.expose());
    match challenge.error.as_deref() {
        Some("insufficient_scope") if !missing.is_empty() => step_up(with_missing()),
        Some("insufficient_scope") if is_replaced => Remedy::StoredToken,
        Some("insufficient_scope") => {
            let scopes = challenge.scopes.join(" ");
            let what = if scopes.is_empty() { "another scope".to_owned() } else { format!("the scope `{scopes}`") };
            Remedy::Nothing(format!("the API requires {what}, which the token of `{}` has", profile.name))
        }
        Some("insufficient_user_authentication") => step_up(with_missing()),
        _ if challenge.acr_values.is_some() || challenge.max_age.is_some() => step_up(with_missing()),
        _ if is_replaced => Remedy::StoredToken,
        _ if !known.can_refresh => step_up(with_missing()),
        _ => match known.replaced_at.filter(|at| *at <= now).map(|at| at.until(now)) {
            Some(age) if age <= JUST_REFRESHED && refused.is_none() => Remedy::StoredToken,
            Some(age) if age <= LATELY_REFRESHED => step_up(with_missing()),
            _ => Remedy::Refresh,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Profile;
    use crate::store::tests::session;

    /// The profile requests `a`; its session has the token `T` with the scope `a b`, and was refreshed at 1000.
    fn decided(challenge: &str, refused: Option<&str>, now: i64, change: impl FnOnce(&mut Session)) -> Remedy {
        let mut profile =
            Profile::new("work".parse().expect("a name"), "https://a.example".parse().expect("an issuer"));
        profile.scopes = vec!["a".into()];
        let mut session = session("T");
        session.tokens.scope = Some("a b".into());
        session.tokens.refresh_token = Some(Secret::new("R".into()));
        session.refreshed_at = Some(UnixTime(1000));
        change(&mut session);
        let challenge = ApiChallenge::parse([challenge]).expect("a challenge");
        let refused = refused.map(|token| Secret::new(token.into()));
        remedy(
            &profile,
            Some(&RefusedToken::of(&session, &TokenTarget::default())),
            &challenge,
            refused.as_ref(),
            UnixTime(now),
        )
    }

    fn login(scopes: &[&str]) -> Remedy {
        Remedy::Login(StepUp { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(), ..StepUp::default() })
    }

    #[test]
    fn refused_token_is_refreshed_once_and_then_replaced_by_a_login() {
        for challenge in ["Bearer", "Bearer error=invalid_token", "DPoP error=invalid_token", r#"Bearer scope="a""#] {
            for (refused, now, expected) in [
                (None, 5000, Remedy::Refresh),
                (Some("T"), 5000, Remedy::Refresh),
                (Some("OLD"), 5000, Remedy::StoredToken),
                (None, 1003, Remedy::StoredToken),
                (Some("OLD"), 1003, Remedy::StoredToken),
                (Some("T"), 1003, login(&[])),
                (None, 1030, login(&[])),
                (Some("T"), 1030, login(&[])),
                // The clock was set back.
                (None, 10, Remedy::Refresh),
            ] {
                assert_eq!(decided(challenge, refused, now, |_| ()), expected, "{challenge} {refused:?} {now}");
            }
            let cannot_refresh = |session: &mut Session| session.tokens.refresh_token = None;
            assert_eq!(decided(challenge, Some("T"), 5000, cannot_refresh), login(&[]), "{challenge}");
            assert_eq!(decided(challenge, Some("OLD"), 5000, cannot_refresh), Remedy::StoredToken, "{challenge}");
        }
    }

    #[test]
    fn missing_scope_is_requested_beside_the_others_unless_it_is_granted() {
        let wants = |scope: &str| format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
        assert_eq!(decided(&wants("c"), Some("T"), 5000, |_| ()), login(&["a", "c"]));
        assert_eq!(decided(&wants("b c"), Some("T"), 5000, |_| ()), login(&["a", "b", "c"]));
        assert_eq!(decided(&wants("a b"), Some("OLD"), 5000, |_| ()), Remedy::StoredToken);
        for granted in [wants("a b"), wants("")] {
            let nothing = decided(&granted, Some("T"), 5000, |_| ());
            assert!(matches!(&nothing, Remedy::Nothing(reason) if reason.contains("`work`")), "{nothing:?}");
        }
    }

    #[test]
    fn stronger_sign_in_is_requested_as_the_challenge_says() {
        for error in [r#"error="insufficient_user_authentication", "#, ""] {
            let found = decided(&format!(r#"Bearer {error}acr_values="gold", max_age=5"#), Some("T"), 5000, |_| ());
            let max_age = Some(Duration::from_secs(5));
            let expected = StepUp { acr_values: Some("gold".into()), max_age, ..StepUp::default() };
            assert_eq!(found, Remedy::Login(expected), "{error}");
        }
    }
}
