//! Which profile a command uses: argument, `--profile`, `AUTHCTL_PROFILE`, the directory's file, the default, the only one.

use super::App;
use crate::config::{self, Config};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{InvalidProfileName, Profile, ProfileName};
use crate::oauth::supplied_access_token;
use crate::secret::Secret;

impl App {
    /// Returns the profile's name from the command line, else from `AUTHCTL_PROFILE`, else from the directory's `.authctl.toml`.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if the variable or the file does not contain a valid name.
    pub fn profile_name(&self, argument: Option<&ProfileName>) -> Result<Option<ProfileName>, Error> {
        match self.requested_profile(argument)? {
            None => self.directory_profile(),
            requested => Ok(requested),
        }
    }

    /// Returns the profile that the command line names, as an argument or with `--profile`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if they name two.
    pub fn typed_profile<'a>(&'a self, argument: Option<&'a ProfileName>) -> Result<Option<&'a ProfileName>, Error> {
        match (argument, self.common.profile.as_ref()) {
            (Some(one), Some(other)) if one != other => {
                let message = format!("two profiles are named: `{one}` and `{other}`");
                let hint = Hint::command("profile list").or_correction(other.as_str(), one.as_str());
                Err(Error::msg(ErrorCode::Usage, message, hint))
            }
            (argument, option) => Ok(argument.or(option)),
        }
    }

    /// Returns the profile that the command line names, for a command that changes no other.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if it names none, or two.
    pub fn required_profile(&self, argument: Option<&ProfileName>) -> Result<ProfileName, Error> {
        let missing = || Error::msg(ErrorCode::Usage, "the profile is missing", Hint::command("profile list"));
        self.typed_profile(argument)?.cloned().ok_or_else(missing)
    }

    /// Refuses `--profile` beside `--all`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if it is given.
    pub fn refuse_profile_with_all(&self, command: &'static str) -> Result<(), Error> {
        let Some(name) = &self.common.profile else { return Ok(()) };
        let message = format!("--all is for every profile, and --profile for `{name}` only");
        let hint = Hint::profile_command(command).without_typed_options().about(name);
        Err(Error::msg(ErrorCode::Usage, message, hint))
    }

    /// Returns the profile that the caller requests: on the command line, else by `AUTHCTL_PROFILE`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if the command line names two, [`ErrorCode::Configuration`] if the variable does not contain a
    /// valid name.
    pub fn requested_profile(&self, argument: Option<&ProfileName>) -> Result<Option<ProfileName>, Error> {
        let variable = || {
            let text = self.environment.profile.as_deref()?;
            let _ = self.named_by.set("AUTHCTL_PROFILE".to_owned());
            Some(text.parse().map_err(|e: InvalidProfileName| {
                let error = anyhow::Error::new(e).context("AUTHCTL_PROFILE");
                Error::new(ErrorCode::Configuration, error, Hint::shell("unset AUTHCTL_PROFILE"))
            }))
        };
        self.typed_profile(argument)?.map(|name| Ok(name.clone())).or_else(variable).transpose()
    }

    /// Returns the profile that the directory's `.authctl.toml` names.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if it contains something else.
    pub fn directory_profile(&self) -> Result<Option<ProfileName>, Error> {
        let Some(directory) = &self.environment.directory else { return Ok(None) };
        Ok(config::directory_profile(directory)?.map(|(name, file)| {
            let _ = self.named_by.set(file.display().to_string());
            name
        }))
    }

    /// Returns the profile that commands use if none is named, and why; `None` if there is none.
    ///
    /// # Errors
    /// As [`App::profile_name`].
    pub fn effective_profile(&self, config: &Config) -> Result<Option<(ProfileName, String)>, Error> {
        if let Some(name) = self.profile_name(None)? {
            let source = self.named_by.get().cloned().unwrap_or_else(|| "--profile".to_owned());
            return Ok(Some((name, source)));
        }
        if let Some(default) = &config.default_profile {
            return Ok(Some((default.clone(), "default".to_owned())));
        }
        let source = "only profile";
        Ok(config.choose(None).ok().map(|profile| (profile.name.clone(), source.to_owned())))
    }

    /// Adds to the error about an unknown profile where its name comes from.
    #[must_use]
    pub fn with_profile_source(&self, failure: Error) -> Error {
        match self.named_by.get() {
            Some(what) if failure.code == ErrorCode::UnknownProfile => {
                let error = failure.error.context(what.clone());
                Error { error, ..failure }
            }
            _ => failure,
        }
    }

    /// Returns the token in `AUTHCTL_TOKEN`. An existing profile named on the command line takes precedence, so that a command
    /// run by `authctl exec` can request another profile's token.
    ///
    /// # Errors
    /// As [`App::config`], if both are given; [`ErrorCode::Configuration`] if it cannot be a token.
    pub fn supplied_token(&self, argument: Option<&ProfileName>) -> Result<Option<Secret>, Error> {
        let Some(token) = &self.environment.token else { return Ok(None) };
        let named = match self.typed_profile(argument)? {
            Some(name) => self.config()?.existing(name)?.is_some(),
            None => false,
        };
        if named {
            return Ok(None);
        }
        supplied_access_token(token, self.clock.now()).map(Some).map_err(|problem| {
            let message = format!("invalid AUTHCTL_TOKEN: {problem}");
            Error::msg(ErrorCode::Configuration, message, Hint::shell("unset AUTHCTL_TOKEN"))
        })
    }

    /// Returns the selected profile: argument, else `AUTHCTL_PROFILE`, else the directory's, else the default, else the only one.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`], or [`ErrorCode::LoginRequired`] if there is no profile.
    pub fn profile(&self, argument: Option<&ProfileName>) -> Result<Profile, Error> {
        let named = self.profile_name(argument)?;
        let config = self.config()?;
        let profile = config.choose(named.as_ref())?.clone();
        self.logged.get_or_init(|| {
            let source = match (named, &config.default_profile) {
                (Some(_), _) => self.named_by.get().map_or("the command line", String::as_str),
                (None, Some(_)) => "default_profile",
                (None, None) => "the only profile",
            };
            tracing::info!("profile {} ({source}), store {}", profile.name, profile.store);
        });
        // The command goes on: the user's profile is complete without it.
        for error in config.machine_errors() {
            self.ui.warn(&Error::from(error).message());
        }
        Ok(profile)
    }
}
