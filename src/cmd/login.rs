//! `authctl login`: reads what is supplied on stdin, logs in, and prints the result.

mod api;
mod browser;
mod grants;
mod messages;
mod qr;
mod questions;
mod stdin;
mod user;

use std::cell::RefCell;

use serde::Serialize;

use super::{challenge, jwks, output};
use crate::app::{App, StoreAccess};
use crate::cli::Login;
use crate::clock::UnixTime;
use crate::config;
use crate::error::{Error, ErrorCode, Hint};
use crate::login::{CompletedLogin, LoginPlan, LoginRequest, LoginService, Supplied, absolute, names_issuer, provider};
use crate::model::{Grant, PinnedKeys, Profile, ProfileName, Session, StoreKind, Subject};
use crate::session::is_unverified;
use messages::{report_login, report_weaker_acr, result_page};
use stdin::StdinSecrets;
use user::{TerminalUser, show_in_browser};

pub(super) use browser::open_end_session;

/// The output of `login --json`.
#[derive(Serialize)]
struct LoginOutput<'a> {
    profile: &'a ProfileName,
    issuer: &'a str,
    subject: &'a Option<Subject>,
    grant: Grant,
    scope: &'a Option<String>,
    expires_at: Option<UnixTime>,
    can_refresh: bool,
    unverified: bool,
    store: StoreKind,
}

/// Runs the command.
pub fn run(app: &App, mut args: Login) -> Result<u8, Error> {
    let login = log_in(app, &mut args)?;
    print(app, &args, &login)?;
    Ok(0)
}

/// Logs in again to a profile for `ensure`, with these options.
///
/// # Errors
/// As `authctl login`.
pub(super) fn log_in_again(app: &App, mut args: Login) -> Result<(), Error> {
    let login = log_in(app, &mut args)?;
    report_login(app, &args, &login);
    Ok(())
}

fn log_in(app: &App, args: &mut Login) -> Result<CompletedLogin, Error> {
    app.use_stores(StoreAccess::Login);
    if let Some(file) = args.challenge_file.take() {
        args.challenge = Some(challenge::read(&file)?);
    }
    // The profile of the directory is not the one to be changed to another issuer.
    let name = match (args.api.clone(), names_issuer(args)) {
        (Some(api), _) => Some(app.run(api::prepare(app, args, &api))?),
        (None, true) => app.requested_profile(args.profile.as_ref())?,
        (None, false) => app.profile_name(args.profile.as_ref())?,
    };
    let service = LoginService::new(app.sessions()?, app.paths()?);
    let before = match (&args.api, &name) {
        (Some(_), Some(name)) => app.config()?.profiles.remove(name),
        _ => None,
    };
    let plan = app.run(questions::plan(app, &service, args, name.as_ref()))?;
    let args: &Login = args;
    let request = LoginRequest { args, name, default_store: app.default_store()? };
    let name = plan.profile.name.clone();
    let with_profile = |error: Error| error.about(&name);
    require_terminal(app, args, &plan).map_err(with_profile)?;
    report_directory_profile(app, args, &name)?;
    seal_store(app, args, &plan).map_err(with_profile)?;
    let pinned = pinned_keys(app, args)?;
    if args.with_token && app.ui().is_interactive() {
        // Check the store before the user pastes a token.
        app.run(service.check_store(&request)).map_err(with_profile)?;
    }
    let StdinSecrets { client_secret, password, token } = app.run(StdinSecrets::read(app, args))?;
    let browser = RefCell::default();
    let mut user = TerminalUser::new(app, args, password, token, &browser);
    let supplied = Supplied { client_secret, pinned };
    let work = async { service.log_in(&request, plan, supplied, &mut user).await.map_err(with_profile) };
    // After Ctrl-C too: the browser would show that the connection was closed.
    let login = app
        .run_then(work, async |login| show_in_browser(&browser, result_page(app, &name, login)).await)
        .map_err(with_profile)?;
    if !login.joined
        && login.profile.store == StoreKind::Memory
        && let Err(error) = app.hand_over_keys(&login.profile.name)
    {
        app.ui().warn(&format!("the agent does not have the issuer's keys: {}", error.message()));
    }
    if let Some(before) = before.filter(|before| before.issuer != login.profile.issuer) {
        app.run(super::logout::delete_registration(app, &before))?;
    }
    if !login.joined {
        app.notify_agent(&login.profile.name);
        report_weaker_acr(app, args, &login);
        for note in provider(args)?.map(|provider| provider.notes).unwrap_or_default() {
            app.ui().notice(note);
        }
    }
    Ok(login)
}

/// Refuses a login without a terminal, unless an option names a grant or the client logs in by itself.
fn require_terminal(app: &App, args: &Login, plan: &LoginPlan) -> Result<(), Error> {
    let profile = &plan.profile;
    if args.grant().is_some() || args.yes || profile.grant.is_unattended() || app.ui().is_interactive() {
        return Ok(());
    }
    Err(Error::msg(
        ErrorCode::LoginRequired,
        format!("cannot log in to `{}` without a terminal", profile.name),
        Hint::login().with_flag("--device"),
    ))
}

/// Locks the file store with a passphrase, if that is wanted. With a passphrase on stdin it is: the session must not be stored
/// without it.
fn seal_store(app: &App, args: &Login, plan: &LoginPlan) -> Result<(), Error> {
    match plan.profile.store {
        StoreKind::File if args.passphrase || app.common.passphrase_stdin => super::store::seal(app),
        StoreKind::Keychain | StoreKind::Memory if args.passphrase => {
            let message = "--passphrase is for the file store";
            Err(Error::msg(ErrorCode::Usage, message, Hint::login().with_option("--store", "file")))
        }
        _ => Ok(()),
    }
}

/// Reports if the login is for another profile than the one that the directory's `.authctl.toml` names.
fn report_directory_profile(app: &App, args: &Login, name: &ProfileName) -> Result<(), Error> {
    let Some(directory) = app.environment.directory.as_ref().filter(|_| names_issuer(args)) else { return Ok(()) };
    if app.requested_profile(args.profile.as_ref())?.is_some() {
        return Ok(());
    }
    // An invalid file does not concern this login.
    if let Ok(Some((named, file))) = config::directory_profile(directory)
        && named != *name
    {
        app.ui().notice(&format!(
            "note: this login is for the profile `{name}`; {} names `{named}`: add that name to the command to log in to it",
            file.display()
        ));
    }
    Ok(())
}

/// Reads the keys of `--jwks`.
fn pinned_keys(app: &App, args: &Login) -> Result<Option<PinnedKeys>, Error> {
    let Some(path) = args.jwks.as_deref() else { return Ok(None) };
    let (_, keys) = jwks::read(path)?;
    let source = absolute(Some(path)).unwrap_or_default().display().to_string();
    Ok(Some(PinnedKeys { keys, source, pinned_at: app.clock().now() }))
}

fn print(app: &App, args: &Login, login: &CompletedLogin) -> Result<(), Error> {
    let (profile, session): (&Profile, &Session) = (&login.profile, &login.session);
    if !app.common.json {
        report_login(app, args, login);
        return Ok(());
    }
    output::json(&LoginOutput {
        profile: &profile.name,
        issuer: profile.issuer.as_str(),
        subject: &session.subject,
        grant: session.grant,
        scope: &session.tokens.scope,
        expires_at: session.tokens.expires_at,
        can_refresh: session.can_refresh(),
        unverified: is_unverified(session),
        store: profile.store,
    })
}
