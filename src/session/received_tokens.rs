//! Checks tokens that an issuer has returned, before they are stored: their type, key, subject, audience and expiry.

use std::time::Duration;

use super::SessionError;
use super::refresh_policy::TokenRequest;
use crate::clock::UnixTime;
use crate::model::{Profile, Session, TokenSet, TokenTarget};
use crate::oauth::{DpopKey, IssuerError, repeats_secret};
use crate::secret::Secret;
use crate::text::excerpt;
use crate::verify::unverified_claims;

/// Returns the tokens of a reply unless they are another subject's than the session's: those of another user must not be used
/// under this one's name (OpenID Connect Core 1.0, section 12.2). Unverified claims are enough for that: they come from the token
/// endpoint, and can only cause a refusal.
pub(super) fn of_same_subject(
    session: &Session,
    request: &TokenRequest,
    tokens: TokenSet,
) -> Result<TokenSet, SessionError> {
    let claims = |token: &Secret| unverified_claims(token.expose());
    let sub = |token: &Secret| claims(token).and_then(|claims| claims.sub);
    let user = session.subject.as_ref().map(|subject| subject.sub.clone());
    // The subject of an access token may differ from the ID token's (RFC 9068, section 2.2), but not from the one before. The
    // first token for a target is of the user, or of the subject of the session's own token.
    let before = match session.token_for(&request.target()) {
        Some(before) => [sub(&before.access_token), None],
        None => [sub(&session.tokens.access_token), user.clone()],
    };
    // Another issuer has its own names for the user.
    let is_own = |iss: &String| {
        *iss == session.issuer.as_str()
            || claims(&session.tokens.access_token).and_then(|own| own.iss).as_ref() == Some(iss)
    };
    let found = claims(&tokens.access_token).filter(|found| found.iss.as_ref().is_none_or(is_own));
    let id_token = tokens.id_token.as_ref().and_then(sub);
    for (expected, found) in [([user, None], id_token), (before, found.and_then(|found| found.sub))] {
        let mut expected = expected.into_iter().flatten().peekable();
        if let (Some(first), Some(found)) = (expected.peek().cloned(), found)
            && expected.all(|expected| expected != found)
        {
            let (expected, found) = (shown(session, &tokens, &first), shown(session, &tokens, &found));
            return Err(IssuerError::OtherSubject { expected, found }.into());
        }
    }
    Ok(tokens)
}

/// Returns a subject for a message, one line of at most 80 characters, unless it repeats a token.
fn shown(session: &Session, tokens: &TokenSet, sub: &str) -> String {
    let secrets = [&session.tokens, tokens].into_iter().flat_map(|of| {
        [Some(&of.access_token), of.refresh_token.as_ref(), of.id_token.as_ref()].into_iter().flatten().cloned()
    });
    let secrets: Vec<Secret> = secrets.chain(session.client_secret.clone()).collect();
    if repeats_secret(&secrets, sub) { "<redacted>".to_owned() } else { excerpt(sub, 80) }
}

/// Returns the error for `tokens` that cannot be used: of another type than was requested, or bound to another key than the
/// stored `key`, of which proofs were sent (RFC 9449, section 6). An opaque token does not show its key; only its use does.
pub(super) fn unusable_tokens(profile: &Profile, tokens: &TokenSet, key: Option<&Secret>) -> Option<IssuerError> {
    let unusable = IssuerError::for_token_type(tokens, key.is_some(), profile.server.dpop);
    if unusable.is_some() || !tokens.is_bound() {
        return unusable;
    }
    let bound_to = unverified_claims(tokens.access_token.expose())?.jkt?;
    match DpopKey::from_stored(key?) {
        Ok(key) => (key.thumbprint() != bound_to).then_some(IssuerError::BoundElsewhere),
        Err(error) => Some(error),
    }
}

/// Rejects a JWT that names audiences, but none of the requested ones: an issuer may ignore a parameter, and the token would
/// give the service that receives it access to another. The claims are unverified, and can only cause a refusal.
pub(super) fn check_audience(tokens: &TokenSet, target: &TokenTarget) -> Result<(), IssuerError> {
    let found = unverified_claims(tokens.access_token.expose()).map(|claims| claims.audiences).unwrap_or_default();
    let requested: Vec<&String> = target.audience.iter().chain(&target.resources).collect();
    match found.is_empty() || requested.is_empty() || requested.iter().any(|name| found.contains(name)) {
        true => Ok(()),
        false => Err(IssuerError::OtherAudience { found: quote_names(found.iter()) }),
    }
}

/// Returns names for a message, one line of at most 200 characters.
pub(super) fn quote_names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    excerpt(&quoted.join(", "), 200)
}

/// A `Date` has whole seconds, and servers cache it for one.
const DATE_PRECISION: Duration = Duration::from_secs(2);

/// Takes the expiry from the JWT itself if the reply has no `expires_in`, or a later one: APIs go by the token. The claim is
/// unverified, and can only shorten the lifetime. In a token that was received expired it shows that one of the two clocks is
/// wrong, and the next refresh would bring the same: then `expires_in` counts.
///
/// The claim is a time of the issuer. If this machine's clock is ahead of it, the token expires later by this clock: without that,
/// each token would seem to expire soon. Its own length does not show this, since an issuer may return an older token again.
pub(super) fn fill_expiry(tokens: &mut TokenSet) {
    let claims = unverified_claims(tokens.access_token.expose());
    // An issuer whose `Date` is before the token's issue has stated a wrong one.
    let issued_at = claims.as_ref().and_then(|claims| claims.iat);
    let issuer_time = tokens.issuer_time.map(|time| time.max(issued_at.unwrap_or(time)).plus(DATE_PRECISION));
    let ahead = issuer_time.map_or(Duration::ZERO, |time| time.until(tokens.obtained_at));
    let own = claims.and_then(|claims| claims.exp).map(|exp| exp.plus(ahead));
    let is_usable = |own: &UnixTime| tokens.expires_at.is_none() || *own > tokens.obtained_at;
    tokens.expires_at = own.filter(is_usable).into_iter().chain(tokens.expires_at).min();
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::tests::session;

    fn jwt(claims: &Value) -> String {
        let [header, claims] = [&json!({"alg": "ES256"}), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode("a signature"))
    }

    #[test]
    fn earlier_of_the_two_expiries_counts() {
        for (stated, own, expected) in [
            (Some(1300), json!({"exp": 1200}), Some(1200)),
            (Some(1300), json!({"exp": 1400}), Some(1300)),
            (None, json!({"exp": 1200}), Some(1200)),
            (Some(1300), json!({}), Some(1300)),
            (Some(1300), json!({"exp": "soon"}), Some(1300)),
            // Received expired: by the other clock it is valid.
            (Some(1300), json!({"exp": 1000}), Some(1300)),
            (None, json!({"exp": 900}), Some(900)),
            (None, json!({}), None),
        ] {
            let mut tokens = session(&jwt(&own)).tokens;
            (tokens.obtained_at, tokens.expires_at) = (UnixTime(1000), stated.map(UnixTime));
            fill_expiry(&mut tokens);
            assert_eq!(tokens.expires_at, expected.map(UnixTime), "{stated:?} {own}");
        }
    }

    #[test]
    fn expiry_counts_by_the_issuers_clock_if_the_local_one_is_ahead() {
        for (stated, own, date, expected) in [
            // 290 s ahead: `exp` is 10 s away.
            (Some(1300), json!({"iat": 710, "exp": 1010}), Some(710), Some(1298)),
            (None, json!({"iat": 710, "exp": 1010}), Some(710), Some(1298)),
            (None, json!({"exp": 1010}), Some(710), Some(1298)),
            // 400 s ahead: `exp` is past.
            (None, json!({"iat": 600, "exp": 900}), Some(600), Some(1298)),
            // The same token again, 200 s later.
            (Some(1300), json!({"iat": 510, "exp": 810}), Some(710), Some(1098)),
            // A clock that is right, and a token that is 290 s old.
            (Some(1300), json!({"iat": 710, "exp": 1010}), Some(1000), Some(1010)),
            (Some(1300), json!({"iat": 710, "exp": 1010}), Some(999), Some(1010)),
            (Some(1300), json!({"iat": 710, "exp": 1010}), None, Some(1010)),
            // A clock that is behind.
            (Some(1300), json!({"iat": 1290, "exp": 1590}), Some(1290), Some(1300)),
            // A `Date` that is wrong.
            (Some(1300), json!({"iat": 999, "exp": 1200}), Some(0), Some(1200)),
        ] {
            let mut tokens = session(&jwt(&own)).tokens;
            (tokens.obtained_at, tokens.expires_at) = (UnixTime(1000), stated.map(UnixTime));
            tokens.issuer_time = date.map(UnixTime);
            fill_expiry(&mut tokens);
            assert_eq!(tokens.expires_at, expected.map(UnixTime), "{stated:?} {own} {date:?}");
        }
    }

    #[test]
    fn bound_token_is_used_only_with_its_key() {
        let [own, other] = [(); 2].map(|()| DpopKey::generate().expect("a key"));
        let to = |key: &DpopKey| jwt(&json!({"cnf": {"jkt": key.thumbprint()}}));
        let profile = Profile::new("work".parse().expect("a name"), "https://a.example".parse().expect("an issuer"));
        let damaged = Secret::new("AAAA".into());
        for (token, token_type, key, is_usable) in [
            (to(&own), "DPoP", Some(own.to_stored()), true),
            (to(&other), "DPoP", Some(own.to_stored()), false),
            (to(&other), "dpop", Some(own.to_stored()), false),
            (to(&own), "DPoP", None, false),
            (to(&own), "DPoP", Some(damaged), false),
            // What it is bound to does not show.
            ("opaque".to_owned(), "DPoP", Some(own.to_stored()), true),
            (jwt(&json!({})), "DPoP", Some(own.to_stored()), true),
            (jwt(&json!({"cnf": "text"})), "DPoP", Some(own.to_stored()), true),
            (to(&other), "Bearer", None, true),
        ] {
            let mut tokens = session(&token).tokens;
            tokens.token_type = token_type.to_owned();
            let unusable = unusable_tokens(&profile, &tokens, key.as_ref());
            assert_eq!(unusable.is_none(), is_usable, "{token_type} {token}: {unusable:?}");
        }
    }
}
