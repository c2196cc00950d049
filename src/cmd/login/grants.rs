//! The sign-in at the terminal: what each grant shows and asks.

use std::cell::RefCell;
use std::io::IsTerminal as _;

use super::browser::open_browser;
use super::qr;
use crate::app::App;
use crate::cli::Login;
use crate::error::{Error, ErrorCode, Hint};
use crate::login::SIGN_IN_LIMIT;
use crate::model::{Grant, Par, Profile, TokenSet, TokenTarget};
use crate::oauth::authorization_code::{
    AuthorizationCode, AuthorizationCodeLogin, AuthorizationRequest, BrowserResponse, ends_with_code,
};
use crate::oauth::password::PasswordResponse;
use crate::oauth::{
    Http, IssuerError, Metadata, OAuthClient, OAuthError, TokenEndpoint, WaitingBrowser, broken_jwt,
    client_credentials, device_code, login_api, parse_supplied_tokens, password,
};
use crate::secret::Secret;
use crate::session::NewLogin;
use crate::text::excerpt;

/// How many lines are joined to one pasted address.
const MAX_PASTED_LINES: usize = 8;

/// The number of attempts at a one-time code.
const MAX_CODE_ATTEMPTS: u32 = 3;

/// Adds the issuer's words, unless they are the same.
fn with_refusal(message: &str, refusal: &OAuthError) -> String {
    match &refusal.description {
        Some(same) if same.trim_end_matches('.').eq_ignore_ascii_case(message) => {
            format!("{message} ({})", refusal.code)
        }
        _ => format!("{message} ({refusal})"),
    }
}

/// The sign-in of one login, once the grant is chosen.
pub(super) struct SignIn<'a> {
    pub app: &'a App,
    pub args: &'a Login,
    pub profile: &'a Profile,
    pub metadata: &'a Metadata,
    pub client: &'a OAuthClient,
    pub http: &'a Http,
    pub browser: &'a RefCell<Option<WaitingBrowser>>,
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

    /// Names the profile and the issuer, before the browser or a prompt asks for the account.
    fn announce(&self) {
        self.notice(&format!("Logging in to {} at {}", self.profile.name, self.profile.issuer));
    }

    pub(super) async fn code(&self, open: bool) -> Result<NewLogin, Error> {
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
            } else if self.app.common.no_input {
                // The address may be read by no user, as where the agent starts the login.
                return Err(Error::msg(ErrorCode::Configuration, "cannot open a browser", Hint::login()));
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
            // What a copied address was broken into.
            let mut lines = Vec::new();
            loop {
                let Some(text) = self.app.ask_line("Paste the address: ").await else {
                    self.notice("Input is closed; waiting for a browser on this machine (Ctrl-C cancels)");
                    return std::future::pending().await;
                };
                if text.trim().is_empty() {
                    continue;
                }
                let whole = login.accept_pasted(&text);
                lines.push(text);
                lines.drain(..lines.len().saturating_sub(MAX_PASTED_LINES));
                let is_response =
                    |result: &Result<_, IssuerError>| !matches!(result, Err(IssuerError::InvalidResponse { .. }));
                let mut joined = (0..lines.len() - 1).map(|from| login.accept_pasted(&lines[from..].concat()));
                let result = if is_response(&whole) { None } else { joined.find(is_response) };
                let result = result.unwrap_or(whole);
                if result.is_ok() && ends_with_code(&lines.concat()) && self.is_followed_by_text().await {
                    let what = "the pasted address is broken into lines, so a part of its code may be missing";
                    if !self.app.ui().is_interactive() {
                        return Err(Error::msg(ErrorCode::Usage, what, Hint::login()));
                    }
                    self.notice(&format!("{what}; paste it again as one line"));
                    lines.clear();
                    continue;
                }
                match result {
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
                self.app.ui().prompt_unanswered();
                Ok(self.received(response?)?)
            }
            code = paste => code,
        }
    }

    /// Returns whether more was pasted than the address that was read.
    async fn is_followed_by_text(&self) -> bool {
        while self.app.has_more_input().await {
            match self.app.ask_line("").await {
                None => return false,
                Some(text) if text.trim().is_empty() => {}
                Some(_) => return true,
            }
        }
        false
    }

    pub(super) async fn device(&self) -> Result<NewLogin, Error> {
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

    pub(super) async fn password(&self, piped: Option<Secret>) -> Result<NewLogin, Error> {
        let api = &self.profile.server.api;
        let missing = |what: &str, added: &str| {
            let is_interactive = self.app.ui().is_interactive();
            let message =
                if is_interactive { format!("no {what} was entered") } else { format!("the {what} is missing") };
            Error::msg(ErrorCode::LoginRequired, message, Hint::login().or_add(is_interactive, added))
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
                .ok_or_else(|| missing("user name", "add --username NAME"))?,
        };
        let password = match piped {
            Some(password) => password,
            None => self
                .app
                .ask_secret("Password: ")
                .await
                .filter(|password| !password.is_empty())
                .ok_or_else(|| missing("password", "pipe it in with --password-stdin"))?,
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
                    let code = self
                        .app
                        .ask_secret("One-time code: ")
                        .await
                        .ok_or_else(|| missing("one-time code", "use another grant, such as --device"))?;
                    let code = code.ungrouped();
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

    pub(super) async fn client_credentials(&self) -> Result<NewLogin, Error> {
        let tokens = client_credentials::request(&self.endpoint()?, &self.target()).await?;
        Ok(self.new_login(tokens, None))
    }

    pub(super) async fn workload(&self) -> Result<NewLogin, Error> {
        let sessions = self.app.sessions()?;
        let tokens = sessions.request_as_workload(self.profile, self.metadata, self.client, &self.target()).await?;
        Ok(self.new_login(tokens, None))
    }

    pub(super) fn token(&self, piped: Option<Secret>) -> Result<NewLogin, Error> {
        let given = piped.ok_or_else(|| {
            Error::msg(ErrorCode::LoginRequired, "the token is missing", Hint::login().with_flag("--with-token"))
        })?;
        let tokens = parse_supplied_tokens(&given, self.app.clock().now()).map_err(|_| {
            let hint = Hint::login().or_add(self.app.ui().is_interactive(), "check the command before the pipe");
            let message = match broken_jwt(&given) {
                Some(problem) => format!("invalid token on stdin: {problem}"),
                None => "stdin is neither a token response nor a JWT".to_owned(),
            };
            Error::msg(ErrorCode::Usage, message, hint)
        })?;
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
