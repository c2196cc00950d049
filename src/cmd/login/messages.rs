//! The messages of `authctl login` on stderr.

use crate::app::App;
use crate::cli::Login;
use crate::cmd::output::span;
use crate::error::{Error, Hint};
use crate::login::{CompletedLogin, LoginNotice};
use crate::model::{Grant, Profile, ProfileName, Session, StoreKind};
use crate::oauth::LoginPage;
use crate::session::is_unverified;
use crate::status::account;
use crate::text::{excerpt, shell_word};

/// Shows a notice.
pub(super) fn show_notice(app: &App, notice: &LoginNotice<'_>) {
    let ui = app.ui();
    let pin = |profile: &Profile| {
        app.next_command(Hint::profile_command("keys pin").with_option("--jwks", "FILE").about(&profile.name))
    };
    match notice {
        LoginNotice::OtherLoginRunning(profile) => ui.notice(&format!(
            "Waiting for another login to {profile}; finish or cancel it there, or press Ctrl-C to cancel this one"
        )),
        LoginNotice::ClientKeyExposed(file) => {
            let file = shell_word(&excerpt(&file.display().to_string(), 400));
            ui.warn(&format!("other users can read the client's private key; run `chmod 600 {file}`"));
        }
        LoginNotice::PinnedKeysLost(profile, StoreKind::Memory) => ui.warn_always(&format!(
            "pinned keys of {} do not move out of the agent's memory; pin them again with `{}`",
            profile.issuer,
            pin(profile)
        )),
        LoginNotice::PinnedKeysLost(profile, store) => ui.warn_always(&format!(
            "cannot read the keys of {} in the {store} store; pin them again with `{}`",
            profile.issuer,
            pin(profile)
        )),
        LoginNotice::OtherAccount { profile, stored, new } => {
            ui.notice(&format!("{profile} is logged in as {stored}; this login is for {new}"));
        }
        LoginNotice::PreviousSessionRemains(store, error) => {
            ui.warn(&format!("the previous session remains in the {store} store: {error}"));
        }
        LoginNotice::TrustReset(profile) => ui.warn_always(&format!(
            "the stored keys of {} were damaged and are removed; if they were pinned, pin them again with `{}`",
            profile.issuer,
            pin(profile)
        )),
    }
}

/// Reports a sign-in that was weaker than requested: an issuer may ignore `acr_values` (OpenID Connect Core 1.0, section
/// 3.1.2.1).
pub(super) fn report_weaker_acr(app: &App, args: &Login, login: &CompletedLogin) {
    let Some(requested) = &args.acr_values else { return };
    let acr = login.acr.as_deref();
    if acr.is_some_and(|acr| requested.split_whitespace().any(|one| one == acr)) {
        return;
    }
    let found = acr.map_or_else(|| "none".to_owned(), |acr| format!("`{}`", excerpt(acr, 80)));
    let requested = excerpt(requested, 80);
    let set = Hint::profile_command("profile set").about(&login.profile.name);
    app.ui().warn(&format!(
        "requested acr `{requested}`, the issuer confirms {found}; to require it of every token, run `{}`",
        app.next_command(set.with_argument(format!("required_acr={requested}")))
    ));
}

/// Reports a successful login, and what to do next.
pub(super) fn report_login(app: &App, args: &Login, login: &CompletedLogin) {
    let (profile, session) = (&login.profile, &login.session);
    let account = match (session.subject.as_ref(), session.grant) {
        (None, Grant::ClientCredentials | Grant::Workload) => format!(" as client {}", excerpt(&profile.client_id, 80)),
        (subject, grant) => account(subject, grant, &profile.client_id)
            .map_or_else(|| ", account unknown".to_owned(), |account| format!(" as {}", excerpt(account, 80))),
    };
    let joined = if login.joined { ", by the other login" } else { "" };
    let store = profile.store.description();
    let until = if profile.store == StoreKind::Memory { " until it stops" } else { "" };
    let refreshes = if session.can_refresh() { "; refreshes automatically" } else { "" };
    app.ui()
        .notice(&format!("Logged in to {}{account}{joined}. Saved in the {store}{until}{refreshes}.", profile.name));
    if is_unverified(session) {
        app.ui().warn("the token is not verified: it is not a JWT, so only an API that accepts it can check it");
    }
    if !session.can_refresh() {
        let left = session.tokens.expires_at.map(|end| format!(" in {}", span(app.clock().now().until(end))));
        let left = left.unwrap_or_default();
        app.ui().notice(&format!("The issuer sent no refresh token: log in again when the token expires{left}."));
        if misses_consent(args, login) {
            // OpenID Connect Core 1.0, section 11. Not sent by default: at some issuers only an administrator can consent.
            let consent = Hint::login().about(&profile.name).without_typed_options();
            let consent = app.next_command(consent.with_option("--authorization-parameter", "prompt=consent"));
            app.ui().notice(&format!("Some issuers send one only after consent: {consent}"));
        }
    }
    app.ui().notice(&format!("Try: {}", app.next_command(next_step(args, profile, session).about(&profile.name))));
}

/// Returns the command that shows the token, or of a token that is bound to a key the headers of a request: it is of no use alone.
fn next_step(args: &Login, profile: &Profile, session: &Session) -> Hint {
    if session.dpop_key.is_none() {
        return Hint::profile_command("token");
    }
    let api = args.api.as_ref().map(ToString::to_string);
    let api = api.or_else(|| profile.resources.first().cloned()).unwrap_or_else(|| "URL".to_owned());
    Hint::profile_command("headers").with_option("--for", api)
}

/// Returns the page that ends the login in the browser.
pub(super) fn result_page(app: &App, profile: &ProfileName, login: &Result<CompletedLogin, Error>) -> LoginPage {
    match login {
        Ok(CompletedLogin { profile, session, .. }) => {
            let account = account(session.subject.as_ref(), session.grant, &profile.client_id);
            let account = account.map(|account| format!(" as {}", excerpt(account, 80))).unwrap_or_default();
            LoginPage {
                title: format!("Logged in to {}", profile.name),
                text: format!(
                    "You are logged in{account} at {}. You can close this window and return to the terminal.",
                    profile.issuer
                ),
                ..LoginPage::default()
            }
        }
        Err(error) => {
            let (advice, next) = app.with_typed_options(error.hint.clone()).parts();
            LoginPage {
                title: format!("Login to {profile} failed"),
                text: "You can close this window.".to_owned(),
                error: Some(error.message()),
                advice,
                next,
            }
        }
    }
}

/// Returns the page of a login that goes on with a question at the terminal.
pub(super) fn question_page() -> LoginPage {
    LoginPage {
        title: "Return to the terminal".to_owned(),
        text: "It asks whether to replace the session of another account. You can close this window.".to_owned(),
        ..LoginPage::default()
    }
}

/// Returns whether a refresh token was requested without asking the user to consent.
fn misses_consent(args: &Login, login: &CompletedLogin) -> bool {
    let profile = &login.profile;
    let parameters = &profile.server.authorization_parameters;
    let prompts = args.prompt.is_some() || parameters.iter().any(|(name, _)| name == "prompt");
    let offline = profile.scopes.iter().any(|scope| scope == "offline_access");
    login.session.grant == Grant::Browser && offline && !prompts
}
