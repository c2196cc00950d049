use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::model::{ErrorCode, Generation, Grant, RefreshFailure};

const HOUR: u64 = 3600;

fn jwt(claims: &str) -> Secret {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    Secret::new(format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(claims), part("signature")))
}

/// Returns a session of time 0 with an access token of an hour.
fn session(refresh_token: Option<&str>, refresh_expires_at: Option<i64>) -> Session {
    let tokens = TokenSet {
        access_token: jwt(r#"{"auth_time":0}"#),
        token_type: "Bearer".into(),
        refresh_token: refresh_token.map(|token| Secret::new(token.into())),
        id_token: None,
        obtained_at: UnixTime(0),
        issuer_time: None,
        expires_at: Some(UnixTime(3600)),
        refresh_expires_at: refresh_expires_at.map(UnixTime),
        scope: None,
    };
    let generation = Generation { login: "login".into(), number: 0 };
    let issuer = "https://issuer.example".parse().expect("valid");
    Session::new(generation, issuer, "client".into(), Grant::Browser, tokens, UnixTime(0))
}

fn profile() -> Profile {
    Profile::new("work".parse().expect("valid"), "https://issuer.example".parse().expect("valid"))
}

fn limit_of(session: &Session, change: impl FnOnce(&mut Profile)) -> Option<(SessionLimit, i64)> {
    let mut profile = profile();
    change(&mut profile);
    let end = SessionEnd::of(session, &profile, Some(UnixTime(0)), None);
    end.limit.map(|(limit, at)| (limit, at.0))
}

#[test]
fn session_ends_with_the_first_limit_that_is_known() {
    use SessionLimit::{AccessToken, IdToken, MaxAuthAge, MaxOffline, RefreshToken};
    let (refreshable, stated) = (session(Some("r"), None), session(Some("r"), Some(9000)));
    assert_eq!(limit_of(&refreshable, |_| ()), None);
    assert_eq!(limit_of(&session(None, None), |_| ()), Some((AccessToken, 3600)));
    assert_eq!(limit_of(&session(None, Some(9000)), |_| ()), Some((AccessToken, 3600)));
    assert_eq!(limit_of(&stated, |_| ()), Some((RefreshToken, 9000)));
    let jwt_token = |claims| session(Some(jwt(claims).expose()), None);
    assert_eq!(limit_of(&jwt_token(r#"{"exp":8000}"#), |_| ()), Some((RefreshToken, 8000)));
    assert_eq!(limit_of(&jwt_token(r#"{"exp":0}"#), |_| ()), None, "Keycloak has written 0 for no expiry");
    let hours = |hours: u64| Some(Duration::from_secs(hours * HOUR));
    assert_eq!(limit_of(&stated, |p| p.requirements.max_auth_age = hours(1)), Some((MaxAuthAge, 3600)));
    assert_eq!(limit_of(&stated, |p| p.requirements.max_auth_age = hours(9)), Some((RefreshToken, 9000)));
    // A refresh is a response of the issuer, so only a session that is not refreshed reaches this limit.
    let offline = |p: &mut Profile| p.requirements.max_offline = Some(Duration::from_secs(60));
    assert_eq!(limit_of(&session(None, None), offline), Some((MaxOffline, 60)));
    assert_eq!(limit_of(&refreshable, offline), None);
    let by_id_token = |p: &mut Profile| p.requirements.token = DecidingToken::IdToken;
    let mut old_id_token = session(Some("r"), None);
    old_id_token.tokens.id_token = Some(jwt(r#"{"iat":0,"exp":700}"#));
    assert_eq!(limit_of(&old_id_token, by_id_token), None, "the first refresh may bring a new one");
    old_id_token.refreshed_at = Some(UnixTime(600));
    assert_eq!(limit_of(&old_id_token, by_id_token), Some((IdToken, 700)));
    let client = Session { grant: Grant::ClientCredentials, ..session(None, None) };
    assert_eq!(limit_of(&client, |_| ()), None, "a client logs in by itself");
    let workload = Session { grant: Grant::Workload, ..session(None, None) };
    let identity = |end| SessionEnd::of(&workload, &profile(), None, Some(UnixTime(end)));
    assert_eq!(identity(9000).limit, Some((SessionLimit::IdentityToken, UnixTime(9000))));
    assert_eq!(identity(1000).limit, Some((SessionLimit::IdentityToken, UnixTime(3600))), "the access token is valid");
    assert_eq!(identity(9000).new_session_lasts, None, "a login uses the same identity token");
}

#[test]
fn new_session_is_as_long_as_its_limit() {
    let lasts = |session: &Session, change: &dyn Fn(&mut Profile)| {
        let mut profile = profile();
        change(&mut profile);
        SessionEnd::of(session, &profile, None, None).new_session_lasts.map(|lasts| lasts.as_secs())
    };
    let mut old = session(Some("r"), Some(9000));
    (old.logged_in_at, old.refreshed_at) = (UnixTime(1000), Some(UnixTime(5000)));
    assert_eq!(lasts(&old, &|_| ()), Some(8000), "counted from the login");
    let max_auth_age = |p: &mut Profile| p.requirements.max_auth_age = Some(Duration::from_secs(7300));
    assert_eq!(lasts(&old, &max_auth_age), Some(7300), "counted from a new sign-in, not from the old one");
    assert_eq!(lasts(&session(Some("r"), None), &|_| ()), None);
}

#[test]
fn refresh_shows_whether_it_extends_the_refresh_token() {
    let before = session(Some("r"), Some(1800));
    for (at, end, extends) in [
        (600, 2400, Some(true)),
        (600, 1800, Some(false)),
        (600, 1801, Some(false)),
        (4, 1804, Some(true)),
        (4, 1801, Some(false)),
        (3, 1803, None),
    ] {
        assert_eq!(refreshes_extend(&before, &session(Some("s"), Some(end)), UnixTime(at)), extends, "{at}: {end}");
    }
    assert_eq!(refreshes_extend(&before, &session(Some("s"), None), UnixTime(600)), None);
    let mut extended = Session { refreshed_at: Some(UnixTime(600)), ..session(Some("s"), Some(2400)) };
    let end = |session: &Session| SessionEnd::of(session, &profile(), None, None);
    assert_eq!(end(&extended).observable_at, Some(UnixTime(604)));
    assert_eq!(end(&extended).limit, Some((SessionLimit::RefreshToken, UnixTime(2400))));
    extended.history.refreshes_extend = Some(true);
    let end = end(&extended);
    assert_eq!((end.limit, end.extended_by, end.observable_at), (None, Some(Duration::from_secs(1800)), None));
}

#[test]
fn session_is_expected_to_last_as_long_as_the_one_before() {
    let ended = |refreshed_at, at| {
        let failure = RefreshFailure {
            at: UnixTime(at),
            failures: 1,
            refusals: 1,
            other_target: false,
            code: ErrorCode::LoginRequired,
            message: "ended".into(),
            retry_at: None,
        };
        Session { refreshed_at: Some(UnixTime(refreshed_at)), ended: Some(failure), ..session(Some("r"), None) }
    };
    let before = ended(28_800, 32_400);
    let history = history_after(&before);
    assert_eq!(history.previous_lasted, Some(28_800));
    assert_eq!(
        history_after(&ended(28_800, 200_000)).previous_lasted,
        None,
        "it may have ended because it was not used"
    );

    let mut next = Session { history, ..session(Some("r"), None) };
    assert_eq!(limit_of(&next, |_| ()), Some((SessionLimit::PreviousSession, 28_800)));
    assert_eq!(history_after(&next).previous_lasted, Some(28_800), "also if it is replaced early");
    next.refreshed_at = Some(UnixTime(30_000));
    assert_eq!(limit_of(&next, |_| ()), None, "it has lasted longer");
    assert_eq!(history_after(&next).previous_lasted, None);
}
