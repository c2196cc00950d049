//! Merges the profile of a login from the configuration, the provider's defaults, the options and the issuer's metadata.

use std::path::{Path, PathBuf};

use super::provider;
use crate::cli::Login;
use crate::config::{self, Config, ConfigError};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ClientAuth, ClientRegistration, DEFAULT_SCOPES, Grant, Profile, ProfileName, Provider, StoreKind};
use crate::oauth::Metadata;

/// The client ID of a profile with a login API, which has no clients.
const API_CLIENT: &str = "authctl";

/// The name of the first profile if none is given.
const DEFAULT_NAME: &str = "default";

/// Returns the profile that a login is for, and whether it is new: then it gets the default scopes unless it has others. A profile
/// of a machine-wide file that sets none does too, at its first login.
///
/// # Errors
/// [`ErrorCode::Usage`] if the options contradict each other, the provider or the grant.
pub(super) fn merged_profile(
    args: &Login,
    named: Option<&ProfileName>,
    default_store: StoreKind,
    config: &Config,
) -> Result<(Profile, bool), Error> {
    let provider = provider::named(args)?;
    let name = target(args, named, config)?;
    let known = config.existing(&name)?;
    let profile = match (known, provider::issuer(args, provider, known)?) {
        (Some(profile), _) => profile.clone(),
        (None, Some(issuer)) => Profile { store: default_store, ..Profile::new(name.clone(), issuer) },
        (None, None) => {
            if named.or(config.default_profile.as_ref()).is_some() {
                config.profile(&name)?;
            }
            return Err(ConfigError::Empty.into());
        }
    };
    let profile = with_options(args, provider, profile)?;
    config.check_locks(&profile)?;
    check_options(args, profile.grant)?;
    provider::check_grant(provider, profile.grant)?;
    // A profile that had a login API before has no scopes.
    let had_api = known.is_some_and(|known| known.server.api.login.is_some()) && profile.server.api.login.is_none();
    let misses_scopes = !config.is_own(&name) && config.machine_source(&profile, config::setting("scopes")?).is_none();
    Ok((profile, known.is_none() || had_api || misses_scopes))
}

/// Returns the name of the profile that a login is for, which may not exist.
///
/// # Errors
/// [`ErrorCode::Usage`] if none is named and there are several.
pub(super) fn target(args: &Login, named: Option<&ProfileName>, config: &Config) -> Result<ProfileName, Error> {
    Ok(match (named, &config.default_profile, provider::named(args)?) {
        (Some(name), _, _) => name.clone(),
        (None, _, Some(provider)) => provider.name.parse()?,
        (None, Some(name), None) => name.clone(),
        (None, None, None)
            if config.profiles.is_empty() && (names_issuer(args) || config.errors().next().is_none()) =>
        {
            DEFAULT_NAME.parse()?
        }
        (None, None, None) => config.choose(None)?.name.clone(),
    })
}

/// Refuses options that the grant would silently ignore.
fn check_options(args: &Login, grant: Grant) -> Result<(), Error> {
    if grant == Grant::Browser || !needs_authorization_request(args) {
        return Ok(());
    }
    Err(Error::msg(
        ErrorCode::Usage,
        "--acr-values, --prompt and --login-hint require a login in the browser",
        Hint::login().with_flag("--browser"),
    ))
}

/// Returns whether an option is given that only an authorization request can carry (OpenID Connect Core 1.0, section
/// 3.1.2.1). `--max-age` is not one of them: any ID token is checked against it.
#[must_use]
pub fn needs_authorization_request(args: &Login) -> bool {
    args.acr_values.is_some() || args.prompt.is_some() || args.login_hint.is_some()
}

/// Returns whether the options choose the issuer, so that the profile of the directory is not meant.
#[must_use]
pub fn names_issuer(args: &Login) -> bool {
    args.settings.has("issuer") || args.settings.has("provider")
}

/// Returns the profile with the provider's defaults and the options applied.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub(super) fn with_options(args: &Login, provider: Option<&Provider>, mut profile: Profile) -> Result<Profile, Error> {
    let issuer = provider::issuer(args, provider, Some(&profile))?.unwrap_or_else(|| profile.issuer.clone());
    let is_of_provider =
        provider.is_some_and(|known| provider::was_applied(known, &profile)) && issuer == profile.issuer;
    config::change_issuer(&mut profile, issuer);
    match provider {
        Some(provider) if is_of_provider => provider::reapply(args, provider, &mut profile),
        Some(provider) => provider::apply(args, provider, &mut profile)?,
        None => {}
    }
    args.settings.apply(&mut profile)?;
    if args.settings.has("client_key") && !args.settings.has("client_auth") {
        profile.client_auth = ClientAuth::PrivateKeyJwt;
    }
    profile.grant = match args.grant() {
        Some(grant) => grant,
        None if args.settings.has("login_endpoint") => Grant::Password,
        None => profile.grant,
    };
    if profile.client_id.is_empty() && profile.server.api.login.is_some() {
        profile.client_id = API_CLIENT.to_owned();
    }
    if profile.client_id.is_empty() && profile.server.client_registration != ClientRegistration::Dynamic {
        let missing = provider::MissingSetting::ClientId(profile.issuer);
        return Err(Error::new(ErrorCode::Usage, missing, provider::client_id_hint(provider)));
    }
    Ok(profile)
}

/// Returns an absolute path, since the agent runs in another directory.
#[must_use]
pub fn absolute(path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Applies what only the issuer's metadata can decide: how the client authenticates, and the scopes of a new profile.
pub(super) fn apply_metadata(
    args: &Login,
    provider: Option<&Provider>,
    profile: &mut Profile,
    is_new: bool,
    metadata: &Metadata,
    has_client_secret: bool,
) {
    let client_credentials = profile.grant == Grant::ClientCredentials;
    let unattended = profile.grant.is_unattended();
    let needs_secret = provider.is_some_and(|provider| provider.needs_secret_for(profile.grant));
    let confidential = client_credentials || needs_secret || has_client_secret;
    if profile.client_auth == ClientAuth::None && !args.settings.has("client_auth") && confidential {
        let known = provider.and_then(|provider| provider.with_secret);
        profile.client_auth = known.unwrap_or_else(|| metadata.confidential_auth());
    }
    // A login API has no scopes.
    let api = profile.grant == Grant::Password && profile.server.api.login.is_some();
    if is_new && profile.scopes.is_empty() && !unattended && !api && args.api.is_none() {
        // An issuer that lists its scopes may refuse others.
        let offered = |scope: &str| match &metadata.scopes_supported {
            Some(all) => all.iter().any(|known| known == scope),
            None => true,
        };
        profile.scopes = DEFAULT_SCOPES.iter().filter(|scope| offered(scope)).map(|s| (*s).to_owned()).collect();
    }
}
