//! Asks at the terminal for what a first login needs: provider, issuer and client ID.

use crate::app::App;
use crate::cli::Login;
use crate::config::{ConfigError, setting};
use crate::error::{Error, ErrorCode, Hint};
use crate::login::{LoginPlan, LoginRequest, LoginService, MissingSetting, first_request_error, provider};
use crate::model::{Grant, IssuerSearch, IssuerUrl, PROVIDERS, Profile, ProfileName, Provider, ProviderIssuer};

/// The number of attempts at an answer.
const MAX_ATTEMPTS: u32 = 3;

/// What a user who knows no URL can type.
const ISSUER_HELP: &str = "Type the issuer's URL, or a domain or an e-mail address to find it from.";

/// What is missing.
enum Question {
    /// The provider, and the issuer if the provider has no fixed one.
    Provider,
    Issuer,
    /// The client ID at this issuer.
    ClientId(IssuerUrl),
}

impl Question {
    /// Returns the question about what the login still needs. A misspelt profile is corrected instead.
    fn of(error: &Error) -> Option<Self> {
        match (error.error.downcast_ref(), error.error.downcast_ref()) {
            (Some(ConfigError::Empty | ConfigError::UnknownProfile { nearest: None, .. }), _) => Some(Self::Provider),
            (_, Some(MissingSetting::Issuer(_))) => Some(Self::Issuer),
            (_, Some(MissingSetting::ClientId(issuer))) => Some(Self::ClientId(issuer.clone())),
            _ => None,
        }
    }
}

/// Plans the login, and asks for what is missing if a user can answer. The answers are then in `args`.
///
/// # Errors
/// As [`LoginService::plan`]; the error of the last attempt at an answer.
pub(super) async fn plan(
    app: &App,
    service: &LoginService,
    args: &mut Login,
    name: Option<&ProfileName>,
) -> Result<LoginPlan, Error> {
    let mut answers = Vec::new();
    loop {
        let request = LoginRequest { args, name: name.cloned(), default_store: app.default_store()? };
        let error = match service.plan(&request) {
            Ok(plan) if answers.is_empty() => return Ok(plan),
            Ok(plan) => {
                app.add_answers(answers);
                let command = app.next_command(Hint::login().about(&plan.profile.name));
                app.ui().instruct(&format!("The same without questions:\n\n  {command}\n"));
                return Ok(plan);
            }
            Err(error) => error,
        };
        let profile = service.profile_name(&request)?;
        let Some(question) = Question::of(&error).filter(|_| app.ui().is_interactive()) else {
            return Err(unasked(error, &profile).about(&profile));
        };
        if answers.is_empty() {
            service.check_store(&request).await?;
        }
        // Without a name the provider's is used.
        let is_named = matches!(error.error.downcast_ref(), Some(ConfigError::UnknownProfile { .. }));
        let mut asking = Asking { app, args, profile: profile.clone(), is_named, answered: Vec::new() };
        let asked = match question {
            Question::Provider => asking.provider().await,
            Question::Issuer => asking.issuer(provider(args)?).await,
            Question::ClientId(issuer) => asking.client_id(&issuer, provider(args)?).await,
        };
        for (key, value) in asking.answered {
            let setting = setting(key)?;
            answers.extend([format!("--{}", setting.option.unwrap_or(key)), value.clone()]);
            args.settings.add(setting, value);
        }
        let failed = match asked {
            Ok(true) => continue,
            Ok(false) => unasked(error, &profile),
            Err(error) => error,
        };
        if answers.is_empty() {
            return Err(failed.about(&profile));
        }
        // The login with the answers so far: it asks only for the rest.
        app.add_answers(answers);
        return Err(Error { hint: Hint::login(), ..failed }.about(&profile));
    }
}

struct Asking<'a> {
    app: &'a App,
    args: &'a Login,
    profile: ProfileName,
    /// Whether the user has named the profile.
    is_named: bool,
    /// The settings that the user has answered.
    answered: Vec<(&'static str, String)>,
}

impl Asking<'_> {
    fn show(&self, text: &str) {
        self.app.ui().instruct(text);
    }

    /// Returns whether the user has answered; else the input has ended.
    async fn provider(&mut self) -> Result<bool, Error> {
        let usable: Vec<&'static Provider> = PROVIDERS.iter().filter(|known| known.unsupported.is_none()).collect();
        let (intro, prompt) = match self.is_named {
            true => (format!("Setting up the profile {}.", self.profile), format!("Provider for {}: ", self.profile)),
            false => ("Setting up the first profile.".to_owned(), "Provider: ".to_owned()),
        };
        self.show(&format!("{intro} Where does it log in?\n"));
        for (index, known) in usable.iter().enumerate() {
            self.show(&format!("  {}  {}", index + 1, known.title));
        }
        self.show("");
        let find = async |text: &str| {
            let mut named = usable.iter().enumerate();
            let found = named.find(|(index, known)| text == (index + 1).to_string() || text == known.name);
            found.map(|(_, known)| *known).ok_or_else(|| invalid(format!("type a number from 1 to {}", usable.len())))
        };
        let Some(chosen) = self.ask(&prompt, find).await? else { return Ok(false) };
        if chosen.name != "generic" {
            self.answered.push(("provider", chosen.name.to_owned()));
            if !self.is_named {
                self.profile = chosen.name.parse()?;
            }
        }
        if matches!(chosen.issuer, ProviderIssuer::Fixed(_)) || self.args.settings.has("issuer") {
            return Ok(true);
        }
        self.issuer(Some(chosen)).await
    }

    async fn issuer(&mut self, provider: Option<&Provider>) -> Result<bool, Error> {
        let (help, usual) = match provider.map(|provider| (provider, provider.issuer)) {
            Some((_, ProviderIssuer::Default(usual))) => (format!("Press Enter for {usual}."), Some(usual)),
            Some((known, ProviderIssuer::Yours { example })) if known.name != "generic" => {
                (format!("The issuer of {} is a URL such as {example}", known.title), None)
            }
            _ => (ISSUER_HELP.to_owned(), None),
        };
        self.show(&help);
        let find = async |text: &str| {
            let text = if text.is_empty() { usual.unwrap_or(text) } else { text };
            if text.is_empty() {
                return Err(invalid("the issuer is missing".into()));
            }
            let search: IssuerSearch = text.parse().map_err(|error| Error::new(ErrorCode::Usage, error, Hint::None))?;
            let mut profile = Profile::new(self.profile.clone(), search.at.clone());
            self.args.settings.apply(&mut profile)?;
            let sessions = self.app.sessions()?;
            let found = self.app.with_progress(search.at.as_str(), sessions.find_issuer(&profile, &search)).await;
            let found = found.map_err(first_request_error)?;
            if found.as_str() != text {
                self.show(&format!("Found {found}"));
            }
            Ok(found)
        };
        let found = self.ask(&format!("Issuer for {}: ", self.profile), find).await?;
        self.answered.extend(found.iter().map(|issuer| ("issuer", issuer.to_string())));
        Ok(found.is_some())
    }

    async fn client_id(&mut self, issuer: &IssuerUrl, provider: Option<&Provider>) -> Result<bool, Error> {
        self.show("");
        for line in self.registration(issuer, provider) {
            self.show(&line);
        }
        let check = async |text: &str| match text {
            "" => Err(invalid("the client ID is missing".into())),
            // RFC 6749, appendix A.1.
            _ if !text.chars().all(|c| matches!(c, ' '..='~')) => {
                Err(invalid("a client ID consists of letters, digits and punctuation (ASCII)".into()))
            }
            _ => Ok(text.to_owned()),
        };
        let id = self.ask(&format!("Client ID for {} at {issuer}: ", self.profile), check).await?;
        let is_answered = id.is_some();
        self.answered.extend(id.map(|id| ("client_id", id)));
        Ok(is_answered)
    }

    /// Returns what to register at the provider.
    fn registration(&self, issuer: &IssuerUrl, provider: Option<&Provider>) -> Vec<String> {
        let mut lines = vec![format!("Register a client at {issuer}, unless you have one:")];
        let preset = provider.filter(|provider| provider.name != "generic");
        let grant = self.args.grant().unwrap_or(preset.map_or(Grant::Browser, |preset| preset.grant));
        match (preset, grant) {
            (Some(preset), _) => lines.push(format!("- {}", preset.register)),
            (None, Grant::ClientCredentials) => lines.push("- type confidential, with a client secret".into()),
            (None, _) => lines.push("- type native or public, with PKCE and without a client secret".into()),
        }
        if preset.is_none_or(|preset| preset.registers_redirect) && !grant.is_unattended() {
            let given = self.args.settings.get("redirect_uri").and_then(|items| items.first()).map(String::as_str);
            let redirect = given.or(preset.map(Provider::redirect)).unwrap_or(Provider::LOOPBACK);
            let port = if has_port(redirect) { "" } else { " (a port is added at each login)" };
            lines.push(format!("- redirect URI {redirect}{port}"));
        }
        if preset.is_none() && !grant.is_unattended() {
            lines.push("- device flow, to log in from machines without a browser".into());
        }
        lines
    }

    /// Asks until `accept` takes the answer, a limited number of times; returns `None` if the input has ended.
    async fn ask<T>(&self, prompt: &str, accept: impl AsyncFn(&str) -> Result<T, Error>) -> Result<Option<T>, Error> {
        let mut attempts = 0;
        while let Some(text) = self.app.ask(prompt).await {
            attempts += 1;
            match accept(&text).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if attempts == MAX_ATTEMPTS => return Err(error.about(&self.profile)),
                Err(error) => {
                    let error = error.about(&self.profile);
                    let hint = match error.hint {
                        Hint::Advice(_) | Hint::AdviceAndCommand(..) => self.app.next_command(error.hint.clone()),
                        _ => String::new(),
                    };
                    let separator = if hint.is_empty() { "" } else { "; " };
                    self.show(&format!("{}{separator}{hint}", error.message()));
                }
            }
        }
        Ok(None)
    }
}

/// Names the options in place of questions that could not be asked: the same command would fail again.
fn unasked(error: Error, profile: &ProfileName) -> Error {
    let help = || Hint::command("login").with_flag("--help");
    match (error.error.downcast_ref(), error.error.downcast_ref()) {
        (Some(ConfigError::Empty), _) => Error { hint: help(), ..error },
        (Some(ConfigError::UnknownProfile { is_another: false, .. }), _) => {
            Error::msg(error.code, format!("no issuer was given for the new profile `{profile}`"), help())
        }
        (_, Some(MissingSetting::Issuer(_) | MissingSetting::ClientId(_))) => {
            Error { hint: Hint::reported(String::new(), error.hint.parts().0), ..error }
        }
        _ => error,
    }
}

fn invalid(message: String) -> Error {
    Error::msg(ErrorCode::Usage, message, Hint::command("login").with_flag("--help"))
}

/// Returns whether a redirect URI has a port.
fn has_port(redirect: &str) -> bool {
    redirect.parse().is_ok_and(|redirect: crate::model::RedirectUri| redirect.port().is_some())
}
