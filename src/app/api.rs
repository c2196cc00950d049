//! Which profile's tokens are for a host or an API.

use std::fmt::Display;

use super::App;
use crate::config::Config;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName};

impl App {
    /// Returns the profile whose tokens are for `api`: the one with the longest resource that covers the URL, else one that lists
    /// its host. `argument` is the profile that the command line names, if it does: it may be one whose tokens are for no API in
    /// particular, too.
    ///
    /// # Errors
    /// [`ErrorCode::LoginRequired`] with the command to log in if there is none, or if the named one is for other APIs, and as
    /// [`App::profile_among`].
    pub fn profile_for(&self, api: &ApiUrl, argument: Option<&ProfileName>) -> Result<Profile, Error> {
        let config = self.config()?;
        if let Some(name) = self.typed_profile(argument)? {
            let profile = config.profile(name)?;
            if profile.is_for_any_api() || profile.coverage(api).is_some() {
                return Ok(profile.clone());
            }
            let hint = Hint::login().without_typed_options().about(name).with_option("--for", api.to_string());
            return Err(Error::msg(ErrorCode::LoginRequired, format!("`{name}` is not for {api}"), hint));
        }
        let serving = config.serving(api).into_iter().map(|profile| &profile.name).collect();
        match self.profile_among(&config, serving, None, api)? {
            Some(name) => Ok(config.profile(&name)?.clone()),
            None => {
                let hint = Hint::command("login").with_option("--for", api.to_string());
                Err(Error::msg(ErrorCode::LoginRequired, format!("no profile is for {api}"), hint))
            }
        }
    }

    /// Returns the profile among those that are for `subject`: the named one, the only one, or the effective one.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if there are several.
    pub fn profile_among(
        &self,
        config: &Config,
        listing: Vec<&ProfileName>,
        named: Option<&ProfileName>,
        subject: &impl Display,
    ) -> Result<Option<ProfileName>, Error> {
        if let Some(named) = named {
            return Ok(listing.contains(&named).then(|| named.clone()));
        }
        if listing.is_empty() {
            // One of them may be for it.
            for error in config.errors() {
                self.ui().warn(&error.to_string());
            }
        }
        if let [] | [_] = listing[..] {
            return Ok(listing.first().copied().cloned());
        }
        let effective = self.effective_profile(config)?.map(|(name, _)| name).filter(|name| listing.contains(&name));
        effective.map(Some).ok_or_else(|| {
            let names = listing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("several profiles are for {subject}: {names}");
            // Another profile is effective: the variable overrides what chooses it.
            Error::msg(ErrorCode::Configuration, message, Hint::shell(format!("export AUTHCTL_PROFILE={}", listing[0])))
        })
    }
}
