//! The user at the terminal, as the login service sees them: which grant is chosen without an option, and the sign-in.

use std::cell::RefCell;

use super::grants::SignIn;
use super::messages::{self, show_notice};
use crate::app::App;
use crate::cli::Login;
use crate::error::{Error, Hint};
use crate::login::{LoginNotice, LoginUser, needs_authorization_request};
use crate::model::{Grant, Profile, ProfileName};
use crate::oauth::{Endpoint, IssuerError, LoginPage, Metadata, OAuthClient, WaitingBrowser};
use crate::paths::Elsewhere;
use crate::secret::Secret;
use crate::session::NewLogin;

/// Ends the login in the browser that waits for it, if there is one.
pub(super) async fn show_in_browser(browser: &RefCell<Option<WaitingBrowser>>, page: LoginPage) {
    if let Some(browser) = browser.take() {
        browser.show(page).await;
    }
}

/// The user at the terminal, or a script.
pub(super) struct TerminalUser<'a> {
    app: &'a App,
    args: &'a Login,
    password: Option<Secret>,
    token: Option<Secret>,
    /// The browser that waits for the end of the login.
    browser: &'a RefCell<Option<WaitingBrowser>>,
}

impl<'a> TerminalUser<'a> {
    /// Creates the user with the password and the token that were read from stdin.
    pub(super) fn new(
        app: &'a App,
        args: &'a Login,
        password: Option<Secret>,
        token: Option<Secret>,
        browser: &'a RefCell<Option<WaitingBrowser>>,
    ) -> Self {
        Self { app, args, password, token, browser }
    }

    /// Returns why no browser is opened here, unless an option decides it.
    fn browser_elsewhere(&self) -> Option<Elsewhere> {
        if self.args.browser || self.args.no_browser { None } else { self.app.environment.surroundings.elsewhere() }
    }
}

impl LoginUser for TerminalUser<'_> {
    fn can_answer(&self) -> bool {
        self.app.ui().is_interactive()
    }

    fn endpoints(&self, profile: &Profile) -> Vec<Endpoint> {
        let mut endpoints = match profile.grant {
            Grant::Token => Vec::new(),
            Grant::Password | Grant::ClientCredentials | Grant::Workload => vec![Endpoint::Token],
            Grant::Device => vec![Endpoint::Token, Endpoint::Device],
            Grant::Browser if self.browser_elsewhere().is_none() => vec![Endpoint::Token, Endpoint::Authorization],
            Grant::Browser => vec![Endpoint::Token, Endpoint::Authorization, Endpoint::Device],
        };
        endpoints.push(Endpoint::Jwks);
        endpoints
    }

    fn choose_grant(&self, profile: &Profile, metadata: &Metadata) -> Grant {
        let Some(reason) = self.browser_elsewhere().filter(|_| profile.grant == Grant::Browser) else {
            return profile.grant;
        };
        let offers_device = metadata.device_authorization_endpoint.is_some();
        let no_device = if offers_device { "" } else { ", and the issuer offers no device login" };
        self.app.ui().notice(&format!("{reason}, so no browser is opened here{no_device}; --browser opens one"));
        if offers_device && !needs_authorization_request(self.args) { Grant::Device } else { Grant::Browser }
    }

    async fn sign_in(
        &mut self,
        profile: &Profile,
        metadata: &Metadata,
        client: &OAuthClient,
    ) -> Result<NewLogin, Error> {
        let http = self.app.sessions()?.http(profile).await?;
        let sign_in =
            SignIn { app: self.app, args: self.args, profile, metadata, client, http: &http, browser: self.browser };
        let signed_in = match profile.grant {
            Grant::Browser => sign_in.code(!self.args.no_browser && self.browser_elsewhere().is_none()).await,
            Grant::Device => sign_in.device().await,
            Grant::Password => sign_in.password(self.password.take()).await,
            Grant::ClientCredentials => sign_in.client_credentials().await,
            Grant::Workload => sign_in.workload().await,
            Grant::Token => sign_in.token(self.token.take()),
        };
        signed_in.map_err(|error| match error.error.downcast_ref() {
            Some(IssuerError::Refused(refusal))
                if matches!(refusal.code.as_str(), "unsupported_grant_type" | "unauthorized_client") =>
            {
                Error { hint: alternative(profile.grant, metadata), ..error }
            }
            Some(IssuerError::Refused(refusal)) if refusal.code == "invalid_scope" => {
                let hint = other_scopes(profile, metadata).unwrap_or(error.hint);
                Error { hint, ..error }
            }
            _ => error,
        })
    }

    async fn ask_client_secret(&self, profile: &Profile) -> Option<Secret> {
        let Profile { name, client_id, issuer, .. } = profile;
        let prompt = format!("Client secret of {client_id} for {name} at {issuer}: ");
        self.app.ask_secret(&prompt).await.map(|secret| secret.trimmed())
    }

    async fn confirm_replacement(&self) -> Option<bool> {
        if self.can_answer() {
            show_in_browser(self.browser, messages::question_page()).await;
        }
        self.app.confirm("Replace it?").await
    }

    fn notify(&self, notice: &LoginNotice<'_>) {
        show_notice(self.app, notice);
    }

    fn release_unsaved(&self, profile: &ProfileName) {
        self.app.release_unsaved(profile, true);
    }

    async fn wait_for<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        self.app.with_progress(what, work).await
    }
}

/// Suggests another login where the issuer does not allow this client to use `grant`.
fn alternative(grant: Grant, metadata: &Metadata) -> Hint {
    if grant != Grant::Browser && metadata.authorization_endpoint.is_some() {
        Hint::login().with_flag("--browser")
    } else if grant != Grant::Device && metadata.device_authorization_endpoint.is_some() {
        Hint::login().with_flag("--device")
    } else {
        Hint::advice("ask the issuer's operator which grants this client may use, or log in with another --client-id")
    }
}

/// Suggests the scopes that the issuer's metadata lists, else `openid` alone.
fn other_scopes(profile: &Profile, metadata: &Metadata) -> Option<Hint> {
    let is_listed = |scope: &&String| metadata.scopes_supported.as_ref().is_none_or(|all| all.contains(*scope));
    let listed: Vec<&String> = profile.scopes.iter().filter(is_listed).collect();
    let openid = "openid".to_owned();
    let scopes = if listed.len() < profile.scopes.len() { listed } else { vec![&openid] };
    let is_new = !scopes.is_empty() && scopes.len() < profile.scopes.len() && scopes.iter().all(is_listed);
    is_new.then(|| scopes.into_iter().fold(Hint::login(), |hint, scope| hint.with_option("--scope", scope)))
}
