//! What is known here of every profile, without asking anybody: told by `authctl status` and by the agent alike.

use std::borrow::Cow;

use serde::Serialize;

use crate::agent::protocol::AgentState;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::model::{
    Failed, Freshness, Grant, IssuerUrl, MinTtl, Profile, ProfileName, Session, StoreKind, Subject, freshness,
};
use crate::session::{SessionError, SessionService, Stores};

/// How a profile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The access token is valid.
    Valid,
    /// It is over, and will be refreshed when it is next asked for.
    Refreshable,
    /// Somebody must log in.
    LoginRequired,
    /// The store does not say.
    Unknown,
}

/// A profile, and what is known here of its session.
#[derive(Serialize)]
pub struct Row {
    /// Its name.
    pub profile: ProfileName,
    /// Whether it is meant where none is named.
    pub default: bool,
    /// How it stands.
    pub state: State,
    /// The issuer.
    pub issuer: IssuerUrl,
    /// The client's id.
    pub client_id: String,
    /// How the session was got, or will be.
    pub grant: Grant,
    /// Where it is kept.
    pub store: StoreKind,
    /// The same in words for people.
    pub location: String,
    /// Who signed in.
    pub subject: Option<Subject>,
    /// The scope granted.
    pub scope: Option<String>,
    /// As the issuer wrote it.
    pub token_type: Option<String>,
    /// When the access token ends.
    pub expires_at: Option<UnixTime>,
    /// The same in seconds from now.
    pub expires_in: Option<u64>,
    /// Whether a new token can be had without a login.
    pub can_refresh: bool,
    /// How many tokens for other requests are kept.
    pub other_tokens: usize,
    /// When the login was.
    pub logged_in_at: Option<UnixTime>,
    /// When it was last refreshed.
    pub refreshed_at: Option<UnixTime>,
    /// Since when a refresh is under way, or its reply lost.
    pub refreshing_since: Option<UnixTime>,
    /// The last refresh that failed since the last that did not.
    pub last_failure: Option<Failed>,
    /// When the issuer's keys were fetched.
    pub keys_fetched_at: Option<UnixTime>,
    /// Why the session cannot be used, or be read.
    pub problem: Option<Problem>,
    /// What a script must notice.
    #[serde(skip)]
    pub exit: Option<ErrorKind>,
}

/// Why a session cannot be used, or be read.
#[derive(Serialize)]
pub struct Problem {
    /// A stable word.
    pub code: Cow<'static, str>,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// What `status --json` prints, and the agent answers to `GET /v1/status`.
#[derive(Serialize)]
pub struct Report {
    /// Whether `AUTHCTL_TOKEN` is set.
    pub token_from_environment: bool,
    /// The agent, running or not.
    pub agent: AgentState,
    /// The profiles.
    pub profiles: Vec<Row>,
}

/// The rows of all profiles, or of the one named.
///
/// # Errors
/// Where no profile has that name.
pub fn rows(config: &Config, named: Option<&ProfileName>, stores: &Stores, now: UnixTime) -> Result<Vec<Row>, Error> {
    let shown: Vec<&Profile> = match named {
        Some(name) => vec![config.profile(name)?],
        None => config.profiles.values().collect(),
    };
    let default = config.choose(None).ok().map(|profile| profile.name.clone());
    Ok(shown.iter().map(|profile| row(stores, profile, default.as_ref() == Some(&profile.name), now)).collect())
}

/// What is known of `profile`: reads its store, and asks nobody else.
#[must_use]
pub fn row(stores: &Stores, profile: &Profile, default: bool, now: UnixTime) -> Row {
    let store = stores.of(profile.store);
    let read =
        store.read(&profile.name).map_err(SessionError::from).and_then(|found| SessionService::owned(profile, found));
    let mut row = Row {
        profile: profile.name.clone(),
        default,
        state: State::Unknown,
        issuer: profile.issuer.clone(),
        client_id: profile.client_id.clone(),
        grant: profile.grant,
        store: profile.store,
        location: store.location(&profile.name),
        subject: None,
        scope: None,
        token_type: None,
        expires_at: None,
        expires_in: None,
        can_refresh: false,
        other_tokens: 0,
        logged_in_at: None,
        refreshed_at: None,
        refreshing_since: None,
        last_failure: None,
        keys_fetched_at: None,
        problem: None,
        exit: None,
    };
    match read {
        Ok(session) => {
            fill(&mut row, session, now);
            // What is wrong with them is for `verify` to say: a session is refreshed all the same.
            let trust = SessionService::kept_trust(&**store, &profile.issuer).ok();
            row.keys_fetched_at = trust.and_then(|trust| trust.fetched).map(|keys| keys.fetched_at);
        }
        Err(error) => {
            let login = matches!(error, SessionError::LoginRequired(_));
            let failure = Error::from(error).about(&profile.name);
            row.state = if login { State::LoginRequired } else { State::Unknown };
            row.exit = (!login).then_some(failure.kind);
            row.problem =
                Some(Problem { code: failure.code.clone(), message: failure.message(), hint: failure.next() });
        }
    }
    row
}

fn fill(row: &mut Row, session: Session, now: UnixTime) {
    row.can_refresh = session.can_refresh();
    row.state = match (freshness(&session.tokens, now, MinTtl::Default), row.can_refresh) {
        (Freshness::Fresh | Freshness::Due, _) => State::Valid,
        (Freshness::Expired, true) => State::Refreshable,
        (Freshness::Expired, false) => State::LoginRequired,
    };
    row.expires_at = session.tokens.expires_at;
    row.expires_in = session.tokens.expires_at.map(|end| now.until(end).as_secs());
    row.other_tokens = session.others.len();
    row.logged_in_at = Some(session.logged_in_at);
    row.refreshed_at = session.refreshed_at;
    row.refreshing_since = session.refreshing_since;
    row.grant = session.grant;
    row.subject = session.subject;
    row.scope = session.tokens.scope;
    row.token_type = Some(session.tokens.token_type);
    if let Some(ended) = &session.ended {
        row.problem = Some(Problem {
            code: "login_required".into(),
            message: format!("the session has ended: {}", ended.message),
            hint: format!("run `authctl login {}`", row.profile),
        });
    }
    row.last_failure = session.last_failure;
}
