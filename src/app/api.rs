//! Which profile's tokens are for a host or an API.

use std::fmt::Display;

use super::App;
use crate::config::Config;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName};

impl App {
    /// Returns the profile whose tokens are for `api`: the one with the longest resource that covers the URL, else one that lists
    /// its host. `argument` is the profile that the command line names, if it does.
    ///
    /// # Errors
    /// [`ErrorCode::LoginRequired`] with the command to log in if there is none, and as [`App::profile_among`].
    pub fn profile_for(&self, api: &ApiUrl, argument: Option<&ProfileName>) -> Result<Profile, Error> {
        let config = self.config()?;
        let named = self.typed_profile(argument)?;
        let serving = config.serving(api).into_iter().map(|profile| &profile.name).collect();
        match self.profile_among(&config, serving, named, api)? {
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
                self.ui().notice(&format!("warning: {error}"));
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
