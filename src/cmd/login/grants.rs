//! The sign-in at the terminal: what each grant shows and asks, and which grant is chosen without an option.

use std::cell::RefCell;
use std::io::IsTerminal as _;

use super::browser::open_browser;
use super::messages::{self, show_notice};
use super::qr;
use crate::app::App;
use crate::cli::Login;
use crate::error::{Error, ErrorCode, Hint};
use crate::login::{LoginNotice, LoginUser, SIGN_IN_LIMIT, needs_authorization_request};
use crate::model::{Grant, Par, Profile, TokenSet, TokenTarget};
use crate::oauth::authorization_code::{
    AuthorizationCode, AuthorizationCodeLogin, AuthorizationRequest, BrowserResponse,
};
use crate::oauth::password::PasswordResponse;
use crate::oauth::{
    Endpoint, Http, IssuerError, LoginPage, Metadata, OAuthClient, OAuthError, TokenEndpoint, WaitingBrowser,
    client_credentials, device_code, login_api, parse_supplied_tokens, password,
};
use crate::paths::Elsewhere;
use crate::secret::Secret;
use crate::session::NewLogin;
use crate::text::excerpt;

/// The number of attempts at a one-time code.
const MAX_CODE_ATTEMPTS: u32 = 3;

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

/// Adds the issuer's words, unless they are the same.
fn with_refusal(message: &str, refusal: &OAuthError) -> String {
    match &refusal.description {
        Some(same) if same.trim_end_matches('.').eq_ignore_ascii_case(message) => {
            format!("{message} ({})", refusal.code)
        }
        _ => format!("{message} ({refusal})"),
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
        self.app.ask_secret(&format!("Client secret of {client_id} for {name} at {issuer}: ")).await
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

    async fn wait_for<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        self.app.with_progress(what, work).await
    }
}

struct SignIn<'a> {
    app: &'a App,
    args: &'a Login,
    profile: &'a Profile,
    metadata: &'a Metadata,
    client: &'a OAuthClient,
    http: &'a Http,
    browser: &'a RefCell<Option<WaitingBrowser>>,
}

impl SignIn<'_> {
    fn endpoint(&self) -> Result<TokenEndpoint<'_>, IssuerError> {
        TokenEndpoint::of(self.http, self.metadata, self.client, self.app.clock())
    }

    fn target(&self) -> TokenTarget {
        self.profile.own_request()
    }

    fn notice(&self, text: &str) {
        self.app.ui().notice(text);
    }

    /// Shows what the user needs to log in safely, also with `--quiet`.
    fn show(&self, text: &str) {
        self.app.ui().instruct(text);
    }

    /// Ends the line of a prompt that has no answer.
    fn end_prompt(&self) {
        if self.app.ui().is_interactive() {
            self.notice("");
        }
    }

    /// Names the profile and the issuer, before the browser or a prompt asks for the account.
    fn announce(&self) {
        self.notice(&format!("Logging in to {} at {}", self.profile.name, self.profile.issuer));
    }

    async fn code(&self, open: bool) -> Result<NewLogin, Error> {
        let request = AuthorizationRequest {
            target: self.target(),
            acr_values: self.args.acr_values.clone(),
            prompt: self.args.prompt.clone(),
            login_hint: self.args.login_hint.clone(),
            max_age: self.args.max_age.map(|age| age.as_secs()),
            redirect_uri: self.profile.server.redirect_uri.clone(),
            parameters: self.profile.server.authorization_parameters.clone(),
        };
        let endpoint = self.endpoint()?;
        let mut login = AuthorizationCodeLogin::start(self.metadata, self.client, &request).await?;
        let expires_in = login.push(&endpoint, self.metadata, self.profile.server.par == Par::Always).await?;
        let url = login.authorization_url().clone();
        self.announce();
        let code = if open {
            // A terminal breaks the issuer's address into lines, of which only one would be copied.
            let shown = if std::io::stderr().is_terminal() { login.short_url()? } else { url.clone() };
            if open_browser(self.app, &url) {
                self.show(&format!("Opened your browser. If it did not open, visit:\n\n  {shown}\n"));
            } else {
                self.show(&format!("Cannot open a browser: set BROWSER to its name, or visit:\n\n  {shown}\n"));
            }
            self.notice("Waiting for you to finish there (Ctrl-C cancels)");
            self.received(login.wait(self.app.clock(), SIGN_IN_LIMIT).await?)?
        } else {
            self.show(&format!("Open this address in a browser, on this machine or another:\n\n  {url}\n"));
            self.show(&format!(
                "After the login the browser is redirected to an address that begins with http://{}. If it is on another \
                 machine, it cannot connect there: copy the whole address and paste it here.",
                self.profile.server.redirect_uri.host()
            ));
            if let Some(expires_in) = expires_in {
                self.show(&format!("Open the address within {}.", crate::cmd::output::span(expires_in)));
            }
            self.redirect_or_pasted(&login).await?
        };
        let (tokens, nonce) = login.redeem(&endpoint, code).await?;
        Ok(self.new_login(tokens, nonce))
    }

    /// Returns the code of a response. The browser waits until the login has ended.
    fn received(&self, response: BrowserResponse) -> Result<AuthorizationCode, IssuerError> {
        self.browser.replace(Some(response.browser));
        response.code
    }

    /// Waits for the redirect, which arrives here if the browser is on this machine, or for its pasted address.
    async fn redirect_or_pasted(&self, login: &AuthorizationCodeLogin) -> Result<AuthorizationCode, Error> {
        let wait = login.wait(self.app.clock(), SIGN_IN_LIMIT);
        let paste = async {
            loop {
                let Some(text) = self.app.ask_line("Paste the address: ").await else {
                    self.end_prompt();
                    self.notice("Input is closed; waiting for a browser on this machine (Ctrl-C cancels)");
                    return std::future::pending().await;
                };
                if text.trim().is_empty() {
                    continue;
                }
                match login.accept_pasted(&text) {
                    Err(IssuerError::InvalidResponse { from, what, .. }) if self.app.ui().is_interactive() => {
                        self.notice(&format!(
                            "{from} is {what}; log in at the address above and copy the whole address"
                        ));
                    }
                    Err(IssuerError::InvalidResponse { from, what, .. }) => {
                        let hint = Hint::login();
                        return Err(Error::msg(ErrorCode::Usage, format!("{from} is {what}"), hint));
                    }
                    result => return Ok(result?),
                }
            }
        };
        tokio::select! {
            response = wait => {
                self.end_prompt();
                Ok(self.received(response?)?)
            }
            code = paste => code,
        }
    }

    async fn device(&self) -> Result<NewLogin, Error> {
        let endpoint = self.endpoint()?;
        let started = device_code::request(&endpoint, self.metadata, &self.target()).await?;
        self.show(&self.request_summary());
        self.show("Never enter a code that you were sent: its sender would be logged in as you.\n");
        let instructions = format!(
            "To log in to {} at {}, open this address on any device:\n  {}\nand enter the code\n  {}",
            self.profile.name, self.profile.issuer, started.verification_uri, started.user_code
        );
        let valid_for = crate::cmd::output::span(started.expires_in);
        let waiting = format!("The code is valid for {valid_for}; waiting for the login (Ctrl-C cancels)");
        if let Some(complete) = &started.verification_uri_complete {
            qr::show(self.app, complete, &[&instructions, &waiting]);
        }
        self.show(&instructions);
        self.notice(&waiting);
        let tokens = device_code::poll(&endpoint, &started).await?;
        Ok(self.new_login(tokens, None))
    }

    /// Describes the request, for the user to compare with the issuer's page (RFC 8628, section 5.4).
    fn request_summary(&self) -> String {
        let target = self.target();
        let list = |words: &[String]| excerpt(&words.join(" "), 400);
        let scopes = match target.scopes.as_slice() {
            [] => "no particular scope".to_owned(),
            scopes => format!("scope {}", list(scopes)),
        };
        let audiences: Vec<String> = target.audience.into_iter().chain(target.resources).collect();
        let audiences = if audiences.is_empty() { String::new() } else { format!(" for {}", list(&audiences)) };
        let client = &self.profile.client_id;
        format!("Requesting {scopes}{audiences} from {}, as client {client}\n", self.profile.issuer)
    }

    async fn password(&self, piped: Option<Secret>) -> Result<NewLogin, Error> {
        let api = &self.profile.server.api;
        let missing = |what: &str, option: &str| {
            let message = match self.app.ui().is_interactive() {
                true => format!("no {what} was entered"),
                false => format!("the {what} is missing; type it in a terminal{option}"),
            };
            Error::msg(ErrorCode::LoginRequired, message, Hint::login().at_terminal(self.app.ui().is_interactive()))
        };
        if self.app.ui().is_interactive() {
            self.announce();
        }
        let user = match &self.args.username {
            Some(user) => user.clone(),
            None => self
                .app
                .ask("User name: ")
                .await
                .filter(|user| !user.is_empty())
                .ok_or_else(|| missing("user name", ", or add --username"))?,
        };
        let password = match piped {
            Some(password) => password,
            None => self
                .app
                .ask_secret("Password: ")
                .await
                .filter(|password| !password.is_empty())
                .ok_or_else(|| missing("password", ", or pipe it in with --password-stdin"))?,
        };
        let reply = match api.login {
            Some(_) => {
                login_api::login(self.http, api, &user, &password, self.app.clock()).await.map(PasswordResponse::Tokens)
            }
            None => password::request(&self.endpoint()?, &user, &password, &self.target()).await,
        };
        let reply = match reply {
            Err(IssuerError::Refused(refusal)) if refusal.code == "invalid_grant" => {
                let message = with_refusal("wrong user name or password", &refusal);
                let hint = match api.login {
                    // A login API responds in the same way to unknown field names.
                    Some(_) => Hint::login().after_advice(
                        "check both, and what the API calls them (--username-field NAME, --password-field NAME); then log in again",
                    ),
                    None => Hint::login(),
                };
                return Err(Error::msg(ErrorCode::IssuerRefused, message, hint));
            }
            reply => reply?,
        };
        drop(password);
        let tokens = match reply {
            PasswordResponse::Tokens(tokens) => tokens,
            PasswordResponse::OneTimeCodeRequired { mfa_token } => {
                self.notice("The issuer requires a one-time code");
                let mut attempts = 0;
                loop {
                    let code =
                        self.app.ask_secret("One-time code: ").await.ok_or_else(|| missing("one-time code", ""))?;
                    attempts += 1;
                    match password::one_time_code(&self.endpoint()?, &mfa_token, &code).await {
                        Err(IssuerError::Refused(refusal))
                            if refusal.code == "invalid_grant" && attempts < MAX_CODE_ATTEMPTS =>
                        {
                            self.notice(&format!("{}; try again", with_refusal("wrong one-time code", &refusal)));
                        }
                        result => break result?,
                    }
                }
            }
        };
        Ok(self.new_login(tokens, None))
    }

    async fn client_credentials(&self) -> Result<NewLogin, Error> {
        let tokens = client_credentials::request(&self.endpoint()?, &self.target()).await?;
        Ok(self.new_login(tokens, None))
    }

    async fn workload(&self) -> Result<NewLogin, Error> {
        let sessions = self.app.sessions()?;
        let tokens = sessions.request_as_workload(self.profile, self.metadata, self.client, &self.target()).await?;
        Ok(self.new_login(tokens, None))
    }

    fn token(&self, piped: Option<Secret>) -> Result<NewLogin, Error> {
        let given = piped.ok_or_else(|| {
            Error::msg(ErrorCode::LoginRequired, "the token is missing", Hint::login().with_flag("--with-token"))
        })?;
        let tokens = parse_supplied_tokens(&given, self.app.clock().now())
            .map_err(|_| Error::msg(ErrorCode::Usage, "stdin is neither a token response nor a JWT", Hint::login()))?;
        Ok(self.new_login(tokens, None))
    }

    fn new_login(&self, tokens: TokenSet, nonce: Option<String>) -> NewLogin {
        NewLogin {
            grant: self.profile.grant,
            tokens,
            nonce: nonce.map(Secret::new),
            client_secret: self.client.secret.clone(),
            // No proof was sent for supplied tokens.
            dpop_key: self.client.dpop.key().filter(|_| self.profile.grant != Grant::Token).cloned(),
            max_auth_age: None,
            pinned: None,
        }
    }
}
