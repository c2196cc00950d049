//! `authctl status`: what is known here of every profile, without asking anybody.

use serde::Serialize;

use super::output::{self, ago, span};
use crate::app::App;
use crate::broker::{Broker, BrokerError, Stores};
use crate::cli::Status;
use crate::clock::UnixTime;
use crate::failure::{Failure, Kind};
use crate::model::{
    Failed, Freshness, Grant, IssuerUrl, MinTtl, Profile, ProfileName, Session, StoreKind, Subject, freshness,
};
use crate::ui::harmless;

/// How a profile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The access token is valid.
    Valid,
    /// It is over, and will be renewed when it is next asked for.
    Renewable,
    /// Somebody must log in.
    LoginRequired,
    /// The store does not say.
    Unknown,
}

#[derive(Serialize)]
struct Row {
    profile: ProfileName,
    default: bool,
    state: State,
    issuer: IssuerUrl,
    client_id: String,
    grant: Grant,
    store: StoreKind,
    location: String,
    subject: Option<Subject>,
    scope: Option<String>,
    token_type: Option<String>,
    expires_at: Option<UnixTime>,
    expires_in: Option<u64>,
    can_renew: bool,
    other_tokens: usize,
    logged_in_at: Option<UnixTime>,
    renewed_at: Option<UnixTime>,
    renewing_since: Option<UnixTime>,
    last_failure: Option<Failed>,
    keys_fetched_at: Option<UnixTime>,
    problem: Option<Problem>,
    #[serde(skip)]
    exit: Option<Kind>,
}

/// Why a session cannot be used, or be read.
#[derive(Serialize)]
struct Problem {
    code: &'static str,
    message: String,
    hint: String,
}

#[derive(Serialize)]
struct Report {
    token_from_environment: bool,
    profiles: Vec<Row>,
}

/// Runs the command.
pub fn run(app: &App, args: &Status) -> Result<u8, Failure> {
    let config = app.config()?;
    let named = app.named(args.profile.as_ref())?;
    let handed_in = app.environment.token.is_some();
    if args.check {
        if handed_in && named.is_none() {
            return Ok(0);
        }
        let profile = config.choose(named.as_ref())?;
        let row = row(app, &app.stores()?, profile, false);
        return match (row.state, row.exit) {
            (State::Valid | State::Renewable, _) => Ok(0),
            (_, Some(kind)) => Ok(kind.exit_code()),
            (_, None) => Ok(Kind::LoginRequired.exit_code()),
        };
    }
    let shown: Vec<&Profile> = match &named {
        Some(name) => vec![config.profile(name)?],
        None => config.profiles.values().collect(),
    };
    let stores = app.stores()?;
    let default = config.choose(None).ok().map(|profile| profile.name.clone());
    let rows: Vec<Row> =
        shown.iter().map(|profile| row(app, &stores, profile, default.as_ref() == Some(&profile.name))).collect();
    // What could not be read is shown, and still is a failure that a script must notice.
    let exit = rows.iter().find_map(|row| row.exit).map_or(0, Kind::exit_code);
    if app.common.json {
        output::json(&Report { token_from_environment: handed_in, profiles: rows })?;
        return Ok(exit);
    }
    if handed_in {
        output::line("AUTHCTL_TOKEN is set: `authctl token` and `authctl exec` hand out that token as it is.")?;
    }
    if rows.is_empty() {
        output::line("No profile yet. Run `authctl login NAME --issuer URL --client-id ID`.")?;
    }
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            output::line("")?;
        }
        show(app, row)?;
    }
    Ok(exit)
}

fn row(app: &App, stores: &Stores, profile: &Profile, default: bool) -> Row {
    let store = stores.of(profile.store);
    let read = store.read(&profile.name).map_err(BrokerError::from).and_then(|found| Broker::owned(profile, found));
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
        can_renew: false,
        other_tokens: 0,
        logged_in_at: None,
        renewed_at: None,
        renewing_since: None,
        last_failure: None,
        keys_fetched_at: None,
        problem: None,
        exit: None,
    };
    match read {
        Ok(session) => fill(&mut row, session, app.clock().now()),
        Err(error) => {
            let login = matches!(error, BrokerError::LoginRequired(_));
            let failure = Failure::from(error).about(&profile.name);
            row.state = if login { State::LoginRequired } else { State::Unknown };
            row.exit = (!login).then_some(failure.kind);
            row.problem = Some(Problem { code: failure.code, message: failure.message(), hint: failure.next() });
        }
    }
    row
}

fn fill(row: &mut Row, session: Session, now: UnixTime) {
    row.can_renew = session.can_renew();
    row.state = match (freshness(&session.tokens, now, MinTtl::Default), row.can_renew) {
        (Freshness::Fresh | Freshness::Due, _) => State::Valid,
        (Freshness::Expired, true) => State::Renewable,
        (Freshness::Expired, false) => State::LoginRequired,
    };
    row.expires_at = session.tokens.expires_at;
    row.expires_in = session.tokens.expires_at.map(|end| now.until(end).as_secs());
    row.other_tokens = session.others.len();
    row.logged_in_at = Some(session.logged_in_at);
    row.renewed_at = session.renewed_at;
    row.renewing_since = session.renewing_since;
    row.keys_fetched_at = session.keys.map(|keys| keys.fetched_at);
    row.grant = session.grant;
    row.subject = session.subject;
    row.scope = session.tokens.scope;
    row.token_type = Some(session.tokens.token_type);
    if let Some(ended) = &session.ended {
        row.problem = Some(Problem {
            code: "login_required",
            message: format!("the session has ended: {}", ended.message),
            hint: format!("run `authctl login {}`", row.profile),
        });
    }
    row.last_failure = session.last_failure;
}

fn show(app: &App, row: &Row) -> Result<(), Failure> {
    let now = app.clock().now();
    let word = match row.state {
        State::Valid => app.paint(32, "valid"),
        State::Renewable => app.paint(32, "renews when next asked for"),
        State::LoginRequired => app.paint(31, "login required"),
        State::Unknown => app.paint(31, "cannot be read"),
    };
    let default = if row.default { " (default)" } else { "" };
    output::line(&format!("{}{default}: {word}", app.paint(1, row.profile.as_str())))?;
    let field = |name: &str, value: &str| output::line(&format!("  {name:<10} {value}"));
    field("issuer", row.issuer.as_str())?;
    if let Some(at) = row.logged_in_at {
        let who = match &row.subject {
            Some(Subject { sub, name: Some(name) }) => format!("{} ({})", harmless(name, 80), harmless(sub, 80)),
            Some(Subject { sub, name: None }) => harmless(sub, 80),
            None if row.grant == Grant::ClientCredentials => format!("the client {}", harmless(&row.client_id, 80)),
            None => "somebody (the issuer did not say who)".into(),
        };
        field("signed in", &format!("{who}, {}, by {}", ago(at, now), row.grant))?;
        let life = match (row.expires_at, row.state) {
            (None, _) => "does not say when it ends".into(),
            (Some(end), State::Valid) => format!("valid for another {}", span(now.until(end))),
            (Some(end), _) => format!("expired {}", ago(end, now)),
        };
        let scope = row.scope.as_deref().map(|s| format!(", scope {}", harmless(s, 200))).unwrap_or_default();
        let others = match row.other_tokens {
            0 => String::new(),
            n => format!(", and {n} more for other requests"),
        };
        field("token", &format!("{life}{scope}{others}"))?;
        let renewal = match (row.can_renew, row.renewed_at) {
            (true, Some(at)) => format!("when needed; last {}", ago(at, now)),
            (true, None) => "when needed; not yet".into(),
            (false, Some(at)) => format!("not possible; last {}", ago(at, now)),
            (false, None) => "not possible".into(),
        };
        field("renewal", &renewal)?;
        if let Some(since) = row.renewing_since {
            field("", &format!("under way, or its reply was lost, {}", ago(since, now)))?;
        }
        if let Some(failed) = &row.last_failure {
            field("failed", &format!("{}: {}", ago(failed.at, now), harmless(&failed.message, 300)))?;
        }
    }
    field("kept in", &row.location)?;
    if let Some(problem) = &row.problem {
        field("problem", &harmless(&problem.message, 400))?;
        field("next", &problem.hint)?;
    }
    Ok(())
}
