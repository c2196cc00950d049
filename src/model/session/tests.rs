use super::*;
use crate::model::ProfileName;
use crate::secret::SecretBytes;

fn work() -> ProfileName {
    "work".parse().expect("valid")
}

fn session() -> Session {
    let tokens = TokenSet {
        access_token: Secret::new("AT\"\\".into()),
        token_type: "Bearer".into(),
        refresh_token: Some(Secret::new("RT".into())),
        id_token: None,
        obtained_at: UnixTime(100),
        issuer_time: None,
        expires_at: Some(UnixTime(400)),
        refresh_expires_at: None,
        scope: Some("openid".into()),
    };
    let target = TokenTarget { audience: Some("api".into()), ..TokenTarget::default() };
    let (generation, issuer) =
        (Generation { login: "a1".into(), number: 7 }, "https://a.example".parse().expect("valid"));
    Session {
        subject: Some(Subject { sub: "1".into(), name: None }),
        others: vec![AnotherToken {
            target,
            tokens: TokenSet { refresh_token: None, ..tokens.clone() },
            is_replacement: false,
        }],
        refreshing_since: Some(UnixTime(5)),
        ..Session::new(generation, issuer, "cli".into(), Grant::Device, tokens, UnixTime(100))
    }
}

#[test]
fn session_can_refresh_until_it_has_ended_or_has_no_credentials() {
    let without = || Session { tokens: TokenSet { refresh_token: None, ..session().tokens }, ..session() };
    let failure = RefreshFailure {
        at: UnixTime(1),
        failures: 1,
        refusals: 0,
        other_target: false,
        code: ErrorCode::LoginRequired,
        message: "ended".into(),
        retry_at: None,
    };
    let client = || Session { grant: Grant::ClientCredentials, ..without() };
    assert!(session().can_refresh() && client().can_refresh() && !without().can_refresh());
    assert!(!Session { ended: Some(failure.clone()), ..session() }.can_refresh());
    assert!(!Session { ended: Some(failure), ..client() }.can_refresh());
}

#[test]
fn each_target_has_its_own_token() {
    let mut session = session();
    session.others[0].tokens.access_token = Secret::new("other".into());
    let token = |audience: Option<&str>| {
        let target = TokenTarget { audience: audience.map(str::to_owned), ..TokenTarget::default() };
        session.token_for(&target).map(|tokens| tokens.access_token.expose().to_owned())
    };
    assert_eq!(token(None).as_deref(), Some("AT\"\\"));
    assert_eq!((token(Some("api")).as_deref(), token(Some("apis"))), (Some("other"), None));
}

#[test]
fn stored_form_is_pinned() {
    let stored = session().to_stored(&work());
    let text = std::str::from_utf8(stored.expose()).expect("JSON is UTF-8");
    assert_eq!(
        text,
        r#"{"format":1,"profile":"work","generation":{"login":"a1","number":7},"issuer":"https://a.example","client_id":"cli","grant":"device","subject":{"sub":"1","name":null},"tokens":{"access_token":"AT\"\\","token_type":"Bearer","refresh_token":"RT","id_token":null,"obtained_at":100,"expires_at":400,"scope":"openid"},"others":[{"asked":{"audience":"api","scopes":[],"resources":[]},"tokens":{"access_token":"AT\"\\","token_type":"Bearer","refresh_token":null,"id_token":null,"obtained_at":100,"expires_at":400,"scope":"openid"}}],"client_secret":null,"logged_in_at":100,"refreshed_at":null,"refreshing_since":5,"last_failure":null,"ended":null}"#
    );
}

#[test]
fn stored_session_reads_back() {
    let stored = session().to_stored(&work());
    let back = Session::from_stored(&stored, &work()).expect("readable");
    assert_eq!(back.to_stored(&work()).expose(), stored.expose());
    let old = Session { issuer: "https://b.example".parse().expect("valid"), ..session() };
    let replacing = Session { logged_out: true, refreshing_lock: Some(7), replaces: Some(Box::new(old)), ..session() };
    let stored = replacing.to_stored(&work());
    let back = Session::from_stored(&stored, &work()).expect("readable");
    assert_eq!(back.to_stored(&work()).expose(), stored.expose());
    assert_eq!(back.replaces.expect("the old one").issuer.as_str(), "https://b.example");
}

#[test]
fn stored_session_is_read_for_its_own_profile_only() {
    let stored = session().to_stored(&work());
    let other: ProfileName = "Work".parse().expect("valid");
    assert_eq!(Session::from_stored(&stored, &other).err(), Some(SessionFormatError::OtherProfile(work())));
    // What earlier versions stored names no profile.
    let text = String::from_utf8(stored.expose().to_vec()).expect("UTF-8").replace(r#""profile":"work","#, "");
    assert!(Session::from_stored(&SecretBytes::new(text.into_bytes()), &other).is_ok());
}

#[test]
fn login_for_one_resource_is_refreshed_for_it() {
    let read = |stored: &SecretBytes| Session::from_stored(stored, &work()).expect("readable");
    let plain = TokenTarget::default();
    let other = TokenTarget { resources: vec!["https://b.example".into()], ..TokenTarget::default() };
    let scoped = TokenTarget { scopes: vec!["read".into()], ..TokenTarget::default() };
    let mut session = read(&session().to_stored(&work()));
    assert_eq!((session.request_for(&plain), session.not_granted(&other)), (plain.clone(), None), "none was named");

    session.resources = vec!["https://a.example".into()];
    let mut session = read(&session.to_stored(&work()));
    assert_eq!(session.request_for(&plain).resources, session.resources);
    assert_eq!(session.request_for(&scoped), TokenTarget { resources: session.resources.clone(), ..scoped });
    assert_eq!((session.request_for(&other), session.not_granted(&other)), (other.clone(), Some("https://b.example")));
    let audience = TokenTarget { audience: Some("api".into()), ..TokenTarget::default() };
    assert_eq!(session.request_for(&audience), audience);

    session.resources.push("https://b.example".into());
    assert_eq!((session.request_for(&plain), session.not_granted(&other)), (plain, None), "the issuer chooses");
}

#[test]
fn damaged_session_is_reported_without_its_contents() {
    let stored = session().to_stored(&work());
    let cut = SecretBytes::new(stored.expose()[..stored.expose().len() / 2].to_vec());
    let error = Session::from_stored(&cut, &work()).expect_err("cut short").to_string();
    assert!(error.starts_with("the stored session is damaged at line 1"), "{error}");
    let newer = SecretBytes::new(br#"{"format":2}"#.to_vec());
    assert_eq!(Session::from_stored(&newer, &work()).err(), Some(SessionFormatError::Version(2)));
}

#[test]
fn refreshed_token_keeps_the_refresh_token_the_id_token_and_the_scope() {
    let target = TokenTarget { audience: Some("api".into()), scopes: vec!["read".into()], ..TokenTarget::default() };
    let new = |token: &str, scope: Option<&str>| TokenSet {
        access_token: Secret::new(token.into()),
        scope: scope.map(str::to_owned),
        refresh_token: None,
        id_token: None,
        ..session().tokens
    };
    let mut session = session();
    session.tokens.id_token = Some(Secret::new("ID".into()));
    session.apply_tokens(&TokenTarget::default(), new("A2", None));
    let tokens = &session.tokens;
    assert_eq!((tokens.access_token.expose(), tokens.scope.as_deref()), ("A2", Some("openid")));
    assert_eq!(tokens.refresh_token.as_ref().map(Secret::expose), Some("RT"));
    assert_eq!(tokens.id_token.as_ref().map(Secret::expose), Some("ID"));
    session.apply_tokens(&TokenTarget::default(), new("A3", Some("less")));
    assert_eq!(session.tokens.scope.as_deref(), Some("less"));

    for token in ["B1", "B2"] {
        session.apply_tokens(&target, new(token, None));
    }
    assert_eq!(session.tokens.access_token.expose(), "A3");
    let others: Vec<_> = session.others.iter().filter(|other| other.target == target).collect();
    assert_eq!(others.len(), 1);
    assert_eq!((others[0].tokens.access_token.expose(), others[0].tokens.scope.as_deref()), ("B2", Some("read")));
}

#[test]
fn oldest_token_for_another_target_is_dropped() {
    let mut session = session();
    let target = |n: usize| TokenTarget { audience: Some(n.to_string()), ..TokenTarget::default() };
    for n in 0..Session::MAX_OTHERS + 8 {
        session.apply_tokens(&target(n), session.tokens.clone());
    }
    let stored: Vec<&TokenTarget> = session.others.iter().map(|other| &other.target).collect();
    assert_eq!(stored, (8..Session::MAX_OTHERS + 8).map(target).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

#[test]
fn refresh_tokens_of_two_sessions_are_compared() {
    let with = |refresh_token: Option<&str>| {
        let refresh_token = refresh_token.map(|token| Secret::new(token.into()));
        Session { tokens: TokenSet { refresh_token, ..session().tokens }, ..session() }
    };
    for (own, other, same) in [
        (Some("RT"), Some("RT"), true),
        (Some("RT"), Some("RT2"), false),
        (Some("RT"), None, false),
        (None, Some("RT"), false),
        (None, None, true),
    ] {
        assert_eq!(with(own).has_refresh_token_of(&with(other)), same, "{own:?} and {other:?}");
    }
}

#[test]
fn display_name_is_the_first_claim_that_is_not_blank() {
    let name = |claims: [Option<&'static str>; 3]| {
        Subject::display_name(|claim| match claim {
            "preferred_username" => claims[0],
            "email" => claims[1],
            "name" => claims[2],
            _ => None,
        })
    };
    assert_eq!(name([Some("p"), Some("e"), Some("n")]).as_deref(), Some("p"));
    assert_eq!(name([Some(""), Some(" "), Some("n")]).as_deref(), Some("n"));
    assert_eq!(name([None, Some("e"), Some("n")]).as_deref(), Some("e"));
    assert_eq!(name([None, None, Some("\t")]), None);
    assert!(name([Some("é".repeat(1000).leak()), None, None]).expect("a name").len() <= 255 * 2 + 3);
}
