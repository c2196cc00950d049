//! The grants as a person meets them: what is shown, what is asked, and which one fits where nobody said.

use std::time::Duration;

use super::browser::open_browser;
use super::input::Input;
use super::{new_login, qr};
use crate::app::App;
use crate::cli::Login;
use crate::error::{Error, ErrorCode};
use crate::model::{Grant, Profile, TokenTarget};
use crate::oauth::code::{CodeLogin, CodeRequest};
use crate::oauth::password::PasswordReply;
use crate::oauth::{
    Client, Endpoint, Http, IssuerError, Metadata, TokenEndpoint, client_credentials, device, json_api, password,
    token_response,
};
use crate::paths::Elsewhere;
use crate::secret::Secret;
use crate::session::NewLogin;
use crate::ui::sanitize_for_terminal;

/// How long somebody may take to sign in.
pub(super) const SIGN_IN_LIMIT: Duration = Duration::from_secs(600);

/// How often a mistyped one-time code may be typed again.
const CODE_TRIES: u32 = 3;

/// A grant, and for the code grant who opens the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Browser,
    NoBrowser,
    Device,
    Password,
    ClientCredentials,
    Token,
}

impl How {
    /// The option's grant, else the profile's; where no browser is opened here, one that needs none, and tells why.
    pub(super) fn choose(app: &App, args: &Login, profile: &Profile, metadata: &Metadata) -> Self {
        match args.grant().unwrap_or(profile.grant) {
            Grant::Browser if args.no_browser => Self::NoBrowser,
            Grant::Browser => {
                let Some(why) = elsewhere(app, args) else { return Self::Browser };
                let offered = metadata.device_authorization_endpoint.is_some();
                let device = offered && !only_in_a_browser(args);
                let no_code = if offered { "" } else { ", and the issuer has no codes for other devices" };
                app.ui().tell(&format!(
                    "{why}, so no browser is opened here{no_code}; `--browser` opens one all the same."
                ));
                if device { Self::Device } else { Self::NoBrowser }
            }
            Grant::Device => Self::Device,
            Grant::Password => Self::Password,
            Grant::ClientCredentials => Self::ClientCredentials,
            Grant::Token => Self::Token,
        }
    }

    /// The endpoints that the login needs, before the metadata has decided which one it is.
    pub(super) fn needed(app: &App, args: &Login, profile: &Profile) -> Vec<Endpoint> {
        let mut needed = match args.grant().unwrap_or(profile.grant) {
            Grant::Token => Vec::new(),
            Grant::Password | Grant::ClientCredentials => vec![Endpoint::Token],
            Grant::Device => vec![Endpoint::Token, Endpoint::Device],
            Grant::Browser if elsewhere(app, args).is_none() => vec![Endpoint::Token, Endpoint::Authorization],
            Grant::Browser => vec![Endpoint::Token, Endpoint::Authorization, Endpoint::Device],
        };
        needed.push(Endpoint::Jwks);
        needed
    }

    pub(super) fn grant(self) -> Grant {
        match self {
            Self::Browser | Self::NoBrowser => Grant::Browser,
            Self::Device => Grant::Device,
            Self::Password => Grant::Password,
            Self::ClientCredentials => Grant::ClientCredentials,
            Self::Token => Grant::Token,
        }
    }

    pub(super) async fn run(
        self,
        app: &App,
        args: &Login,
        profile: &Profile,
        metadata: &Metadata,
        client: &Client,
        input: Input,
    ) -> Result<NewLogin, Error> {
        let http = app.sessions()?.http(profile)?;
        let sign_in = SignIn { app, args, profile, metadata, client, http: &http };
        match self {
            Self::Browser => sign_in.code(true).await,
            Self::NoBrowser => sign_in.code(false).await,
            Self::Device => sign_in.device().await,
            Self::Password => sign_in.password(input.password).await,
            Self::ClientCredentials => sign_in.client_credentials().await,
            Self::Token => sign_in.token(input.token),
        }
    }
}

/// Why a browser that nobody named is not opened here, where it is not.
fn elsewhere(app: &App, args: &Login) -> Option<Elsewhere> {
    if args.browser || args.no_browser { None } else { app.environment.surroundings.elsewhere() }
}

/// Refuses options that a grant has no place for: they would be left out without a word. A browser that is elsewhere is one
/// all the same.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub(super) fn fits(args: &Login, grant: Grant) -> Result<(), Error> {
    if grant == Grant::Browser || !only_in_a_browser(args) {
        return Ok(());
    }
    Err(Error::msg(
        ErrorCode::Usage,
        "--acr-values, --prompt and --login-hint can be asked of a sign-in in the browser only",
        "add --browser, or --no-browser where the browser is elsewhere; or leave them out",
    ))
}

/// Whether something is asked for that only an authorization request can say (OpenID Connect Core 1.0, section 3.1.2.1).
/// `--max-age` is none of it: the answer is held against it however it came.
fn only_in_a_browser(args: &Login) -> bool {
    args.acr_values.is_some() || args.prompt.is_some() || args.login_hint.is_some()
}

struct SignIn<'a> {
    app: &'a App,
    args: &'a Login,
    profile: &'a Profile,
    metadata: &'a Metadata,
    client: &'a Client,
    http: &'a Http,
}

impl SignIn<'_> {
    fn endpoint(&self) -> Result<TokenEndpoint<'_>, IssuerError> {
        TokenEndpoint::of(self.http, self.metadata, self.client, self.app.clock())
    }

    fn asked(&self) -> TokenTarget {
        self.profile.own_request()
    }

    fn tell(&self, text: &str) {
        self.app.ui().tell(text);
    }

    /// Shows what the login waits for, with `--quiet` too: without it nobody could sign in, or not safely.
    fn show(&self, text: &str) {
        self.app.ui().show(text);
    }

    async fn code(&self, open: bool) -> Result<NewLogin, Error> {
        let request = CodeRequest {
            asked: self.asked(),
            acr_values: self.args.acr_values.clone(),
            prompt: self.args.prompt.clone(),
            login_hint: self.args.login_hint.clone(),
            max_age: self.args.max_age.map(|age| age.as_secs()),
            redirect_uri: self.profile.server.redirect_uri.clone(),
            parameters: self.profile.server.authorization_parameters.clone(),
        };
        let endpoint = self.endpoint()?;
        let login = CodeLogin::begin(self.metadata, self.client, &request).await?;
        let url = login.authorization_url();
        let code = if open {
            self.tell(&format!("Opening your browser to sign in at {}.", self.profile.issuer));
            self.tell(&format!("If no page opens, open this address yourself:\n\n  {url}\n"));
            if !open_browser(self.app, url) {
                if self.app.common.quiet {
                    self.show(&format!("Open this address in a browser to sign in:\n\n  {url}\n"));
                }
                self.tell("No browser could be started here; BROWSER can name one. `--device` needs none.");
            }
            self.tell("Waiting for you to sign in there; Ctrl-C gives up.");
            login.wait(self.app.clock(), SIGN_IN_LIMIT).await?
        } else {
            self.show(&format!("Open this address in a browser, on this machine or another:\n\n  {url}\n"));
            self.show(&format!(
                "After you have signed in, the browser ends at an address that begins with http://{}. If it is on \
                     another machine it says that it cannot connect: copy that whole address and paste it here.",
                self.profile.server.redirect_uri.host()
            ));
            self.pasted_or_called(&login).await?
        };
        self.tell("Signed in; getting the tokens.");
        let (tokens, nonce) = login.redeem(&endpoint, code).await?;
        Ok(new_login(Grant::Browser, tokens, nonce, self.client))
    }

    /// Whichever comes first: the browser at the listener, where it is on this machine, or a pasted address.
    async fn pasted_or_called(&self, login: &CodeLogin) -> Result<crate::oauth::code::Code, Error> {
        let wait = login.wait(self.app.clock(), SIGN_IN_LIMIT);
        let paste = async {
            loop {
                let Some(text) = self.app.ask_line("Paste the address here: ").await else {
                    // The listener is still there.
                    self.tell("Nothing more can be pasted; waiting for a browser on this machine, Ctrl-C gives up.");
                    return std::future::pending().await;
                };
                if text.trim().is_empty() {
                    continue;
                }
                match login.pasted(&text) {
                    Err(IssuerError::Malformed { from, what, .. }) if self.app.ui().is_human() => {
                        self.tell(&format!(
                            "Not taken: {from} is {what}. Copy it again, whole. One of an earlier login is of no use: sign in at \
                             the address above."
                        ));
                    }
                    Err(IssuerError::Malformed { from, what, .. }) => {
                        let hint = "pipe the whole address that the browser ended at";
                        return Err(Error::msg(ErrorCode::Usage, format!("{from} is {what}"), hint));
                    }
                    result => return Ok(result?),
                }
            }
        };
        tokio::select! {
            code = wait => {
                if self.app.ui().is_human() {
                    // The prompt still stands on its line.
                    self.tell("");
                }
                Ok(code?)
            }
            code = paste => code,
        }
    }

    async fn device(&self) -> Result<NewLogin, Error> {
        let endpoint = self.endpoint()?;
        let started = device::request(&endpoint, self.metadata, &self.asked()).await?;
        self.show(&self.what_is_asked());
        self.show(&format!(
            "To sign in at {}, open this address on any device:\n\n  {}\n\nand enter the code\n\n  {}\n",
            self.profile.issuer, started.verification_uri, started.user_code
        ));
        if let Some(complete) = &started.verification_uri_complete {
            qr::show(self.app, complete);
        }
        self.show("Never enter a code that somebody else sent you: it would sign them in as you.");
        self.tell(&format!(
            "This one is good for {}; waiting for you to finish, Ctrl-C gives up.",
            crate::cmd::output::span(started.expires_in)
        ));
        let tokens = device::poll(&endpoint, &started).await?;
        Ok(new_login(Grant::Device, tokens, None, self.client))
    }

    /// Who asks for what, so that it can be compared with what the issuer's page says (RFC 8628, section 5.4).
    fn what_is_asked(&self) -> String {
        let asked = self.asked();
        let listed = |words: &[String]| sanitize_for_terminal(&words.join(" "), 400);
        let scopes = match asked.scopes.as_slice() {
            [] => "no scope in particular".to_owned(),
            [scope] => format!("the scope {}", sanitize_for_terminal(scope, 400)),
            scopes => format!("the scopes {}", listed(scopes)),
        };
        let places: Vec<String> = asked.audience.into_iter().chain(asked.resources).collect();
        let places = if places.is_empty() { String::new() } else { format!(", for {}", listed(&places)) };
        let client = sanitize_for_terminal(&self.profile.client_id, 80);
        format!("This login asks {} for {scopes}{places}, as the client {client}.\n", self.profile.issuer)
    }

    async fn password(&self, piped: Option<Secret>) -> Result<NewLogin, Error> {
        let api = &self.profile.server.api;
        let nobody = |what: &str, hint: &str| {
            Error::msg(ErrorCode::LoginRequired, format!("the {what} is needed, and nobody typed it"), hint)
        };
        let user = match &self.args.username {
            Some(user) => user.clone(),
            None => self
                .app
                .ask("User name: ")
                .await
                .filter(|user| !user.is_empty())
                .ok_or_else(|| nobody("user name", "give it with --username"))?,
        };
        let password = match piped {
            Some(password) => password,
            None => self
                .app
                .ask_secret("Password: ")
                .await
                .filter(|password| !password.is_empty())
                .ok_or_else(|| nobody("password", "pipe it to the same command with --password-stdin"))?,
        };
        let reply = match api.login {
            Some(_) => {
                json_api::login(self.http, api, &user, &password, self.app.clock()).await.map(PasswordReply::Tokens)
            }
            None => password::request(&self.endpoint()?, &user, &password, &self.asked()).await,
        };
        let reply = match reply {
            Err(IssuerError::Refused(refusal)) if refusal.code == "invalid_grant" => {
                let message = format!("the issuer does not accept this user name and password ({refusal})");
                let hint = match api.login {
                    // Its answer to a field that it does not know is the same.
                    Some(_) => {
                        "check both, and what the API calls them (--username-field NAME, --password-field NAME), and run the \
                         login again"
                    }
                    None => "check both, and run the login again",
                };
                return Err(Error::msg(ErrorCode::IssuerRefused, message, hint));
            }
            reply => reply?,
        };
        drop(password);
        let tokens = match reply {
            PasswordReply::Tokens(tokens) => tokens,
            PasswordReply::OneTimeCode { mfa_token } => {
                self.tell("The issuer asks for a one-time code as well.");
                let mut tries = 0;
                loop {
                    let code = self.app.ask_secret("One-time code: ").await.ok_or_else(|| {
                        nobody("one-time code", "run `authctl login{profile} --password` in a terminal")
                    })?;
                    tries += 1;
                    match password::one_time_code(&self.endpoint()?, &mfa_token, &code).await {
                        Err(IssuerError::Refused(refusal)) if refusal.code == "invalid_grant" && tries < CODE_TRIES => {
                            self.tell(&format!("That was not accepted ({refusal}). Try again."));
                        }
                        result => break result?,
                    }
                }
            }
        };
        Ok(new_login(Grant::Password, tokens, None, self.client))
    }

    async fn client_credentials(&self) -> Result<NewLogin, Error> {
        let tokens = client_credentials::request(&self.endpoint()?, &self.asked()).await?;
        Ok(new_login(Grant::ClientCredentials, tokens, None, self.client))
    }

    fn token(&self, piped: Option<Secret>) -> Result<NewLogin, Error> {
        let given = piped.ok_or_else(|| {
            Error::msg(
                ErrorCode::LoginRequired,
                "a token is needed",
                "pipe it to `authctl login{profile} --with-token`",
            )
        })?;
        let tokens = token_response(&given, self.app.clock().now()).map_err(|_| {
            Error::msg(
                ErrorCode::Usage,
                "stdin holds neither a token response nor a JWT",
                "pipe the token endpoint's JSON, or the access token alone",
            )
        })?;
        Ok(new_login(Grant::Token, tokens, None, self.client))
    }
}
