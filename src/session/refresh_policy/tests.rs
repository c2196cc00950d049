//! The policy as a table: each row is a situation and the decision about it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::model::{ErrorCode, Grant, RefreshFailure, TokenSet};
use crate::secret::Secret;

/// A token obtained at 1000 that expires at 4600, and a session that can refresh it.
const HOUR: Validity = Validity { obtained_at: UnixTime(1000), expires_at: Some(UnixTime(4600)) };
const HEALTHY: SessionView = SessionView {
    token: Some(HOUR),
    own: HOUR,
    can_refresh: true,
    ended: false,
    refusals: 0,
    is_exchanged: false,
    is_resource_granted: true,
    refresh_brings_token: true,
    replaced_while_waiting: false,
    reply_lost_since: None,
};

const NO_TOKEN: SessionView = SessionView { token: None, ..HEALTHY };
const NO_REFRESH: SessionView = SessionView { can_refresh: false, ..HEALTHY };
const ENDED: SessionView = SessionView { can_refresh: false, ended: true, ..HEALTHY };
const REFUSED: SessionView = SessionView { refusals: 2, ..HEALTHY };
const REPLACED: SessionView = SessionView { replaced_while_waiting: true, ..HEALTHY };
const NOT_GRANTED: SessionView = SessionView { token: None, is_resource_granted: false, ..HEALTHY };
const EXCHANGED: SessionView = SessionView { token: None, is_exchanged: true, ..HEALTHY };
const NO_NEW_ID: SessionView = SessionView { refresh_brings_token: false, ..HEALTHY };
const UNKNOWN_EXPIRY: SessionView = with_expiry(None);
const SHORT: SessionView = with_expiry(Some(UnixTime(1010)));

const fn with_expiry(expires_at: Option<UnixTime>) -> SessionView {
    let token = Validity { obtained_at: UnixTime(1000), expires_at };
    SessionView { token: Some(token), own: token, ..HEALTHY }
}

const fn reply_lost(since: i64) -> SessionView {
    SessionView { reply_lost_since: Some(UnixTime(since)), ..HEALTHY }
}

const fn failed(at: i64, failures: u32) -> Option<LastFailure> {
    Some(LastFailure { at: UnixTime(at), failures, retry_at: None, source: FailureSource::Stored })
}

const fn failed_here(at: i64) -> Option<LastFailure> {
    Some(LastFailure { at: UnixTime(at), failures: 9, retry_at: None, source: FailureSource::ThisProcess })
}

const fn retry_at(at: i64, retry_at: i64) -> Option<LastFailure> {
    Some(LastFailure {
        at: UnixTime(at),
        failures: 1,
        retry_at: Some(UnixTime(retry_at)),
        source: FailureSource::Stored,
    })
}

const fn failed_while_waiting(at: i64) -> Option<LastFailure> {
    Some(LastFailure { at: UnixTime(at), failures: 1, retry_at: None, source: FailureSource::Awaited })
}

fn usual() -> TokenRequest {
    TokenRequest::access(TokenTarget::default(), None)
}

fn at_least(seconds: u64) -> TokenRequest {
    TokenRequest::access(TokenTarget::default(), Some(MinTtl::AtLeast(Duration::from_secs(seconds))))
}

fn new() -> TokenRequest {
    TokenRequest::own(Demand::New)
}

fn new_unless(seconds: u64) -> TokenRequest {
    TokenRequest::own(Demand::NewUnless(MinTtl::AtLeast(Duration::from_secs(seconds))))
}

fn id() -> TokenRequest {
    TokenRequest::id_token(None)
}

const SERVE: Decision = Decision::Serve { not_refreshed: None };
const REFRESH: Decision = Decision::Refresh { wait_at_most: None };
const REFRESH_BRIEFLY: Decision = Decision::Refresh { wait_at_most: Some(Duration::from_secs(2)) };

const fn serve_despite(obstacle: Obstacle) -> Decision {
    Decision::Serve { not_refreshed: Some(obstacle) }
}

const fn fail(obstacle: Obstacle) -> Decision {
    Decision::Fail(obstacle)
}

type Row = (&'static str, SessionView, TokenRequest, i64, Option<LastFailure>, Decision);

#[rustfmt::skip]
fn table() -> Vec<Row> {
    use Obstacle::{
        RecentFailure, NoIdToken, NoNewIdToken, NoRefreshToken, RefreshRefused, ReplyLost, ResourceNotGranted, SessionEnded,
    };
    vec![
        // By default a token is refreshed a minute before it expires, or halfway through a short lifetime.
        ("a token with more than a minute left", HEALTHY, usual(), 4539, None, SERVE),
        ("a token with exactly a minute left", HEALTHY, usual(), 4540, None, SERVE),
        ("a token with less than a minute left", HEALTHY, usual(), 4541, None, REFRESH_BRIEFLY),
        ("a token in its last second", HEALTHY, usual(), 4599, None, REFRESH_BRIEFLY),
        ("a token at its expiry", HEALTHY, usual(), 4600, None, REFRESH),
        ("a token long expired", HEALTHY, usual(), 9000, None, REFRESH),
        ("a short token in its first half", SHORT, usual(), 1005, None, SERVE),
        ("a short token in its second half", SHORT, usual(), 1006, None, REFRESH_BRIEFLY),
        ("a token without a known expiry", UNKNOWN_EXPIRY, usual(), i64::MAX, None, SERVE),
        ("no token for this target", NO_TOKEN, usual(), 1000, None, REFRESH),
        // What the caller requires.
        ("as much left as required", HEALTHY, at_least(3000), 1600, None, SERVE),
        ("a second less left than required", HEALTHY, at_least(3000), 1601, None, REFRESH_BRIEFLY),
        ("more required than the token ever has, first half", HEALTHY, at_least(7200), 2800, None, SERVE),
        ("more required than the token ever has, second half", HEALTHY, at_least(7200), 2801, None, REFRESH_BRIEFLY),
        ("nothing required of an unexpired token", HEALTHY, at_least(0), 4599, None, SERVE),
        ("nothing required of an expired token", HEALTHY, at_least(0), 4600, None, REFRESH),
        ("a new token, though this one is fresh", HEALTHY, new(), 1000, None, REFRESH),
        ("a new token, and another process has just brought one", REPLACED, new(), 1000, None, SERVE),
        ("a new token unless as much is left", HEALTHY, new_unless(3000), 1600, None, SERVE),
        ("a new token since less is left", HEALTHY, new_unless(3000), 1601, None, REFRESH),
        ("a new token since less is left, no refresh token", NO_REFRESH, new_unless(3000), 1601, None, fail(NoRefreshToken)),
        ("less left than required, but just replaced", REPLACED, at_least(3600), 1601, None, SERVE),
        ("the whole lifetime required, first half", HEALTHY, at_least(3600), 2800, None, SERVE),
        ("the whole lifetime required, second half", HEALTHY, at_least(3600), 2801, None, REFRESH_BRIEFLY),
        ("replaced while waiting by one that has expired", REPLACED, usual(), 4600, None, REFRESH),
        // A session that the issuer has ended is ended for every request.
        ("ended, and the token has not expired", ENDED, usual(), 1000, None, fail(SessionEnded)),
        ("ended, and the token has expired", ENDED, usual(), 9000, None, fail(SessionEnded)),
        ("ended, a new token", ENDED, new(), 1000, None, fail(SessionEnded)),
        ("ended, the ID token", ENDED, id(), 1000, None, fail(SessionEnded)),
        ("ended, though just replaced", SessionView { ended: true, ..REPLACED }, usual(), 1000, None, fail(SessionEnded)),
        // Two refusals in other words require a login once the access token has expired; a new token is still tried for.
        ("refused once, expired", SessionView { refusals: 1, ..HEALTHY }, usual(), 4600, failed(4600, 1), REFRESH),
        ("refused twice, fresh", REFUSED, usual(), 4539, failed(4539, 2), SERVE),
        ("refused twice, in its last second", REFUSED, usual(), 4599, failed(4000, 2), REFRESH_BRIEFLY),
        ("refused twice, expired", REFUSED, usual(), 4600, None, fail(RefreshRefused)),
        ("refused many times, expired", SessionView { refusals: 9, ..HEALTHY }, usual(), 9000, failed(4600, 9), fail(RefreshRefused)),
        ("refused twice, expired, and then unreachable", REFUSED, usual(), 4700, failed(4690, 3), fail(RefreshRefused)),
        ("refused twice while waiting, expired", REFUSED, usual(), 4600, failed_while_waiting(4600), fail(RefreshRefused)),
        ("refused twice, expired, a new token", REFUSED, new(), 4600, None, REFRESH),
        ("refused twice, expired, a new token unless enough is left", REFUSED, new_unless(60), 4600, None, REFRESH),
        ("refused twice, valid, a new token", REFUSED, new(), 4000, None, REFRESH),
        ("refused while waiting, expired, a new token", REFUSED, new(), 4600, failed_while_waiting(4600), fail(RefreshRefused)),
        ("refused twice, expired, the ID token", REFUSED, id(), 4600, None, fail(RefreshRefused)),
        ("refused twice, expired, another token is fresh",
            SessionView { own: SHORT.own, ..REFUSED }, usual(), 4000, None, SERVE),
        ("refused twice, expired, another token expires soon",
            SessionView { own: SHORT.own, ..REFUSED }, usual(), 4590, None, serve_despite(RefreshRefused)),
        ("refused twice, no known expiry", SessionView { refusals: 2, ..UNKNOWN_EXPIRY }, usual(), i64::MAX, None, SERVE),
        ("refused twice, no refresh token", SessionView { refusals: 2, ..NO_REFRESH }, usual(), 4600, None, fail(NoRefreshToken)),
        // A session that cannot refresh serves its token to the end.
        ("no refresh token, and the token is fresh", NO_REFRESH, usual(), 1000, None, SERVE),
        ("no refresh token, and the token expires soon", NO_REFRESH, usual(), 4599, None, serve_despite(NoRefreshToken)),
        ("no refresh token, and the token has expired", NO_REFRESH, usual(), 4600, None, fail(NoRefreshToken)),
        ("no refresh token, a new token", NO_REFRESH, new(), 1000, None, fail(NoRefreshToken)),
        ("a resource that the login does not cover", NOT_GRANTED, usual(), 1000, None, fail(ResourceNotGranted)),
        // A token exchange sends the session's own access token, and so needs that to be valid or to be refreshed.
        ("exchanged, no token", EXCHANGED, usual(), 1000, None, REFRESH),
        ("exchanged, for any resource", SessionView { is_resource_granted: false, ..EXCHANGED }, usual(), 1000, None, REFRESH),
        ("exchanged, no refresh token", SessionView { can_refresh: false, ..EXCHANGED }, usual(), 4599, None, REFRESH),
        ("exchanged, no refresh token, and the own token has expired",
            SessionView { can_refresh: false, ..EXCHANGED }, usual(), 4600, None, fail(NoRefreshToken)),
        ("exchanged, the own token has expired", EXCHANGED, usual(), 4600, None, REFRESH),
        ("exchanged, refused twice, and the own token is valid", SessionView { refusals: 2, ..EXCHANGED }, usual(), 4599, None, REFRESH),
        ("exchanged, reply lost", SessionView { reply_lost_since: Some(UnixTime(2000)), ..EXCHANGED }, usual(), 2010, None, REFRESH),
        ("exchanged, the session has ended", SessionView { ended: true, ..EXCHANGED }, usual(), 1000, None, fail(SessionEnded)),
        // After a failure the issuer is left alone by callers that have a valid token: 4 s, doubled up to 5 min.
        ("valid, the first failure was just now", HEALTHY, usual(), 4545, failed(4545, 1), serve_despite(RecentFailure)),
        ("valid, 3 s after the first failure", HEALTHY, usual(), 4548, failed(4545, 1), serve_despite(RecentFailure)),
        ("valid, 4 s after the first failure", HEALTHY, usual(), 4549, failed(4545, 1), REFRESH_BRIEFLY),
        ("valid, 15 s after the third failure", HEALTHY, usual(), 4560, failed(4545, 3), serve_despite(RecentFailure)),
        ("valid, 16 s after the third failure", HEALTHY, usual(), 4561, failed(4545, 3), REFRESH_BRIEFLY),
        ("valid, 299 s after many failures", HEALTHY, at_least(600), 4299, failed(4000, 40), serve_despite(RecentFailure)),
        ("valid, 300 s after many failures", HEALTHY, at_least(600), 4300, failed(4000, 40), REFRESH_BRIEFLY),
        ("fresh, and a failure just now", HEALTHY, usual(), 2000, failed(2000, 1), SERVE),
        // Callers without one share a failure of their process for a second; a command that is run again tries again.
        ("expired, in the second of the failure", HEALTHY, usual(), 5000, failed_here(5000), fail(RecentFailure)),
        ("expired, a second after the failure", HEALTHY, usual(), 5001, failed_here(5000), REFRESH),
        ("expired, in the second of a stored failure", HEALTHY, usual(), 5000, failed(5000, 9), REFRESH),
        ("a new token, in the second of the failure", HEALTHY, new(), 2000, failed_here(2000), REFRESH),
        ("a new token since less is left, just failed", HEALTHY, new_unless(3000), 2000, failed_here(2000), REFRESH),
        ("valid, in the second of the failure", HEALTHY, usual(), 4545, failed_here(4545), serve_despite(RecentFailure)),
        // Retry-After holds for every caller.
        ("valid, before Retry-After", HEALTHY, usual(), 4598, retry_at(4545, 4599), serve_despite(RecentFailure)),
        ("valid, at Retry-After", HEALTHY, usual(), 4599, retry_at(4545, 4599), REFRESH_BRIEFLY),
        ("expired, before Retry-After", HEALTHY, usual(), 5029, retry_at(5000, 5030), fail(RecentFailure)),
        ("expired, at Retry-After", HEALTHY, usual(), 5030, retry_at(5000, 5030), REFRESH),
        ("a new token, before Retry-After", HEALTHY, new(), 2010, retry_at(2000, 2030), fail(RecentFailure)),
        ("a new token since less is left, before Retry-After",
            HEALTHY, new_unless(3000), 2010, retry_at(2000, 2030), fail(RecentFailure)),
        // A failure that the caller waited for is its own.
        ("valid, failed while waiting", HEALTHY, usual(), 4599, failed_while_waiting(4550), serve_despite(RecentFailure)),
        ("expired, failed while waiting", HEALTHY, usual(), 5060, failed_while_waiting(5000), fail(RecentFailure)),
        ("a new token, failed while waiting", HEALTHY, new(), 2060, failed_while_waiting(2000), fail(RecentFailure)),
        // A lost reply keeps the refresh token back until the access token has expired.
        ("reply lost, valid", reply_lost(4545), usual(), 4590, None, serve_despite(ReplyLost)),
        ("reply lost, a new token", reply_lost(2000), new(), 2010, None, fail(ReplyLost)),
        ("reply lost, expired", reply_lost(4545), usual(), 4600, None, REFRESH),
        ("reply lost, no expiry, within an hour",
            SessionView { reply_lost_since: Some(UnixTime(2000)), ..UNKNOWN_EXPIRY }, new(), 5599, None, fail(ReplyLost)),
        ("reply lost, no expiry, after an hour",
            SessionView { reply_lost_since: Some(UnixTime(2000)), ..UNKNOWN_EXPIRY }, new(), 5600, None, REFRESH),
        ("reply lost, another target has no token",
            SessionView { token: None, ..reply_lost(2000) }, usual(), 2010, None, fail(ReplyLost)),
        // Clocks that were set back.
        ("a minute in the future is an ordinary correction", HEALTHY, usual(), 940, None, SERVE),
        ("obtained in the future", HEALTHY, usual(), 939, None, REFRESH_BRIEFLY),
        ("obtained in the far future", HEALTHY, usual(), i64::MIN, None, REFRESH_BRIEFLY),
        ("a failure in the future", HEALTHY, usual(), 4545, failed(9000, 1), REFRESH_BRIEFLY),
        ("Retry-After from the future", HEALTHY, usual(), 4545, retry_at(9000, 9030), REFRESH_BRIEFLY),
        ("a lost reply from the future", reply_lost(9000), usual(), 4590, None, REFRESH_BRIEFLY),
        // ID tokens.
        ("an unexpired ID token", HEALTHY, id(), 4599, None, SERVE),
        ("an expired ID token", HEALTHY, id(), 4600, None, REFRESH),
        ("no ID token", NO_TOKEN, id(), 1000, None, fail(NoIdToken)),
        ("no ID token and no refresh token", SessionView { token: None, ..NO_REFRESH }, id(), 1000, None, fail(NoIdToken)),
        ("expired, and refreshes bring no ID token", NO_NEW_ID, id(), 4600, None, fail(NoNewIdToken)),
        ("expires soon, and refreshes bring no ID token",
            NO_NEW_ID, TokenRequest::id_token(Some(MinTtl::AtLeast(Duration::from_secs(600)))), 4500, None,
            serve_despite(NoNewIdToken)),
        ("an expired ID token and no refresh token", NO_REFRESH, id(), 4600, None, fail(NoNewIdToken)),
    ]
}

#[test]
fn decisions_are_those_of_the_table() {
    let rows = table();
    assert!(rows.len() >= 40);
    let mut wrong = Vec::new();
    for (name, session, request, now, last_failure, expected) in rows {
        let decision = decide(Some(&session), &request, UnixTime(now), last_failure.as_ref());
        if decision != expected {
            wrong.push(format!("{name}: {decision:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_session_every_request_fails() {
    for request in [usual(), new(), id()] {
        assert_eq!(decide(None, &request, UnixTime(1000), None), fail(Obstacle::NoSession));
    }
}

#[test]
fn valid_token_is_never_refused_unless_the_session_has_ended() {
    let views = [HEALTHY, REFUSED, NO_REFRESH, REPLACED, NOT_GRANTED, NO_NEW_ID, SHORT, reply_lost(1001)];
    let failures = [None, failed(1003, 1), failed_here(1003), retry_at(1003, 9000), failed_while_waiting(1003)];
    for view in views {
        for failure in failures {
            for now in 1000..1010 {
                let view = SessionView { token: SHORT.token, ..view };
                let decision = decide(Some(&view), &usual(), UnixTime(now), failure.as_ref());
                assert!(!matches!(decision, Decision::Fail(_)), "{view:?} {failure:?} at {now}");
                let waits_for_ever = Decision::Refresh { wait_at_most: None };
                assert_ne!(decision, waits_for_ever, "{view:?} {failure:?} at {now}");
            }
        }
    }
}

#[test]
fn view_under_lock_sees_replaced_tokens_and_lost_replies() {
    let seen = session();
    let request = usual();
    assert!(SessionView::new(&seen, &request).reply_lost_since.is_none());
    let mut stored = session();
    assert!(!SessionView::under_lock(&stored, &request, &seen).replaced_while_waiting);
    stored.tokens.access_token = Secret::new("another".into());
    stored.refreshing_since = Some(UnixTime(1001));
    let view = SessionView::under_lock(&stored, &request, &seen);
    assert!(view.replaced_while_waiting && view.reply_lost_since == Some(UnixTime(1001)));
    assert!(SessionView::new(&stored, &request).reply_lost_since.is_none(), "another process may be refreshing");
    stored.rotates = Some(true);
    assert!(SessionView::under_lock(&stored, &request, &seen).reply_lost_since.is_some());
    stored.rotates = Some(false);
    assert!(
        SessionView::under_lock(&stored, &request, &seen).reply_lost_since.is_none(),
        "sending it twice is no harm"
    );
    assert!(!SessionView::under_lock(&stored, &id(), &seen).replaced_while_waiting, "the ID token is the same");
}

#[test]
fn id_token_is_valid_by_its_own_claims() {
    let mut stored = session();
    assert_eq!(SessionView::new(&stored, &id()).token, None);
    for (claims, obtained, expires) in [
        (r#"{"iat":2000,"exp":3000}"#, 2000, 3000),
        (r#"{"exp":3000}"#, 1000, 3000),
        (r#"{"iat":2000}"#, 2000, 2000),
        ("no claims", 1000, 1000),
    ] {
        stored.tokens.id_token = Some(id_token(claims));
        let expected = Validity { obtained_at: UnixTime(obtained), expires_at: Some(UnixTime(expires)) };
        assert_eq!(SessionView::new(&stored, &id()).token, Some(expected), "{claims}");
        assert_eq!(SessionView::new(&stored, &usual()).token, Some(HOUR), "the access token has its own");
    }
}

#[test]
fn refresh_brings_an_id_token_if_the_last_one_did() {
    let mut stored = session();
    stored.tokens.id_token = Some(id_token(r#"{"iat":2000,"exp":3000}"#));
    for (refreshed_at, expected) in [(None, true), (Some(2000), true), (Some(2120), true), (Some(2121), false)] {
        stored.refreshed_at = refreshed_at.map(UnixTime);
        let view = SessionView::new(&stored, &id());
        assert_eq!(view.refresh_brings_token, expected, "refreshed at {refreshed_at:?}");
        let expired = if expected { REFRESH } else { fail(Obstacle::NoNewIdToken) };
        assert_eq!(decide(Some(&view), &id(), UnixTime(3000), None), expired, "refreshed at {refreshed_at:?}");
    }
}

#[test]
fn id_token_replaced_while_waiting_is_served() {
    let mut seen = session();
    let mut stored = session();
    stored.tokens.id_token = Some(id_token(r#"{"exp":3000}"#));
    assert!(SessionView::under_lock(&stored, &id(), &seen).replaced_while_waiting, "there was none");
    seen.tokens.id_token = stored.tokens.id_token.clone();
    assert!(!SessionView::under_lock(&stored, &id(), &seen).replaced_while_waiting);
    stored.tokens.id_token = Some(id_token(r#"{"exp":4000}"#));
    assert!(SessionView::under_lock(&stored, &id(), &seen).replaced_while_waiting);
    assert!(!SessionView::under_lock(&stored, &usual(), &seen).replaced_while_waiting, "the access token is the same");
}

#[test]
fn login_decides_which_resources_can_be_requested() {
    let resource =
        |name: &str| TokenRequest::access(TokenTarget { resources: vec![name.into()], ..TokenTarget::default() }, None);
    let mut stored = session();
    stored.resources = vec!["https://one.example".into()];
    assert!(SessionView::new(&stored, &resource("https://one.example")).is_resource_granted);
    assert!(!SessionView::new(&stored, &resource("https://two.example")).is_resource_granted);
    stored.grant = Grant::ClientCredentials;
    assert!(
        SessionView::new(&stored, &resource("https://two.example")).is_resource_granted,
        "it has no user who was asked"
    );
}

#[test]
fn only_the_issuer_makes_a_login_necessary() {
    let mut stored = session();
    let at = |stored: &Session, now| required_login(stored, UnixTime(now));
    assert_eq!((at(&stored, 1000), at(&stored, 9000)), (None, None), "it can be refreshed");
    stored.last_failure = Some(RefreshFailure { refusals: 2, ..failure() });
    assert_eq!((at(&stored, 4599), at(&stored, 4600)), (None, Some(Obstacle::RefreshRefused)));
    stored.ended = Some(failure());
    assert_eq!(at(&stored, 1000), Some(Obstacle::SessionEnded));
    stored = session();
    stored.tokens.refresh_token = None;
    assert_eq!(at(&stored, 9000), None, "an expired token is no refusal of the issuer");
}

#[test]
fn last_error_is_shared_with_callers_that_waited_for_it() {
    let seen = session();
    let mut stored = session();
    stored.last_failure = Some(failure());
    let last = LastFailure::of(&stored, Some(&seen)).expect("a failure");
    assert_eq!((last.at, last.failures, last.retry_at), (UnixTime(1), 2, Some(UnixTime(3))));
    assert_eq!(last.source, FailureSource::Awaited);
    for seen in [Some(&stored), None] {
        assert_eq!(LastFailure::of(&stored, seen).expect("a failure").source, FailureSource::Stored);
    }
    assert_eq!(LastFailure::of(&seen, None), None);
}

fn failure() -> RefreshFailure {
    RefreshFailure {
        at: UnixTime(1),
        failures: 2,
        refusals: 0,
        other_target: false,
        code: ErrorCode::IssuerUnreachable,
        message: "m".into(),
        retry_at: Some(UnixTime(3)),
    }
}

/// Returns an unsigned ID token with these claims.
fn id_token(claims: &str) -> Secret {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    Secret::new(format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(claims), part("signature")))
}

fn session() -> Session {
    let tokens = TokenSet {
        access_token: Secret::new("token".into()),
        token_type: "Bearer".into(),
        refresh_token: Some(Secret::new("refresh".into())),
        id_token: None,
        obtained_at: UnixTime(1000),
        issuer_time: None,
        expires_at: Some(UnixTime(4600)),
        refresh_expires_at: None,
        scope: None,
    };
    let generation = crate::model::Generation { login: "login".into(), number: 0 };
    let issuer = "https://issuer.example".parse().expect("valid");
    Session::new(generation, issuer, "client".into(), Grant::default(), tokens, UnixTime(1000))
}
