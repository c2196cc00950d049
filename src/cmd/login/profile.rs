//! The profile that a login is for: as it is configured, with a preset, the options and the issuer's metadata laid over it.

use std::path::{Path, PathBuf};

use super::grants::fits;
use super::input::Input;
use super::preset;
use crate::app::App;
use crate::cli::Login;
use crate::config::{self, Config};
use crate::error::{Error, ErrorCode};
use crate::model::{ClientAuth, Grant, Profile, ProfileName, Provider};
use crate::oauth::Metadata;
use crate::ui::sanitize_for_terminal;

/// The preset that was named, where one was.
pub(super) type Preset = Option<&'static Provider>;

/// What a login asks for where nobody says: who the user is, a name to show, and a refresh token.
const DEFAULT_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

/// The client's id where there is no client: a login API knows users alone.
const API_CLIENT: &str = "authctl";

/// The profile that `login --issuer` makes where none is named.
const DEFAULT_NAME: &str = "default";

/// The profile as configured with the options laid over it, and whether it is new.
pub(super) fn wanted_profile(
    app: &App,
    args: &Login,
    preset: Preset,
    config: &Config,
) -> Result<(Profile, bool), Error> {
    // What a directory says does not choose which profile is led to another issuer.
    let named = if leads(args) { app.asked_for(args.profile.as_ref())? } else { app.named(args.profile.as_ref())? };
    let name = match (&named, &config.default_profile, preset) {
        (Some(name), _, _) => name.clone(),
        // Whoever names a provider and no profile means a profile of that provider.
        (None, _, Some(preset)) => preset.name.parse()?,
        (None, Some(name), None) => name.clone(),
        (None, None, None) if config.profiles.is_empty() && args.settings.has("issuer") => DEFAULT_NAME.parse()?,
        (None, None, None) => config.choose(None)?.name.clone(),
    };
    let known = config.profiles.get(&name);
    let profile = match (known, preset::issuer(args, preset, known)?) {
        (Some(profile), _) => profile.clone(),
        (None, Some(issuer)) => Profile { store: app.default_store()?, ..Profile::new(name.clone(), issuer) },
        (None, None) => {
            config.profile(&name)?;
            return Err(config::ConfigError::Empty.into());
        }
    };
    let profile = laid_over(args, preset, profile)?;
    let grant = args.grant().unwrap_or(profile.grant);
    fits(args, grant)?;
    preset::offers(preset, grant)?;
    // One that was a login API's has no scopes yet.
    let was_api = known.is_some_and(|known| known.server.api.login.is_some()) && profile.server.api.login.is_none();
    Ok((profile, known.is_none() || was_api))
}

/// Whether the profile is led to an issuer that is said.
fn leads(args: &Login) -> bool {
    args.settings.has("issuer") || args.settings.has("provider")
}

/// Tells where the login is for another profile than the one that the directory means, which whoever works there expects.
pub(super) fn tell_of_directory(app: &App, args: &Login, name: &ProfileName) -> Result<(), Error> {
    let Some(directory) = app.environment.directory.as_ref().filter(|_| leads(args)) else { return Ok(()) };
    if app.asked_for(args.profile.as_ref())?.is_some() {
        return Ok(());
    }
    // A file that cannot be used has no say here.
    if let Ok(Some((meant, file))) = config::directory_profile(directory)
        && meant != *name
    {
        app.ui().tell(&format!(
            "This login is for the profile `{name}`; {} names `{meant}`, which `authctl login {meant}` with the same options \
             would change.",
            sanitize_for_terminal(&file.display().to_string(), 200)
        ));
    }
    Ok(())
}

/// A profile with the preset and the other options laid over it.
pub(super) fn laid_over(args: &Login, preset: Preset, mut profile: Profile) -> Result<Profile, Error> {
    let issuer = preset::issuer(args, preset, Some(&profile))?.unwrap_or_else(|| profile.issuer.clone());
    let again = preset.filter(|preset| preset::is_of(preset, &profile) && issuer == profile.issuer);
    config::change_issuer(&mut profile, issuer);
    match (preset, again) {
        (_, Some(preset)) => preset::lay_over_again(args, preset, &mut profile),
        (Some(preset), None) => preset::lay_over(args, preset, &mut profile)?,
        (None, None) => {}
    }
    args.settings.apply(&mut profile)?;
    if args.settings.has("client_key") && !args.settings.has("client_auth") {
        profile.client_auth = ClientAuth::PrivateKeyJwt;
    }
    if args.settings.has("login_endpoint") && args.grant().is_none() {
        profile.grant = Grant::Password;
    }
    if profile.client_id.is_empty() && profile.server.api.login.is_some() {
        profile.client_id = API_CLIENT.to_owned();
    }
    if profile.client_id.is_empty() {
        return Err(Error::msg(ErrorCode::Usage, "no client id was given", preset::client_id_hint(preset)));
    }
    Ok(profile)
}

/// A path as it is read from anywhere, by the agent too.
pub(super) fn absolute(path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// What only the issuer's metadata can decide.
pub(super) fn prepare_profile(
    args: &Login,
    preset: Preset,
    profile: &mut Profile,
    new: bool,
    metadata: &Metadata,
    input: &Input,
) {
    let client_alone = profile.grant == Grant::ClientCredentials;
    // A client that logs in by itself has a secret, whether it was piped or is still to be typed.
    let needs_one = preset.is_some_and(|preset| preset.needs_secret_for(profile.grant));
    let confidential = client_alone || needs_one || input.client_secret.is_some();
    if profile.client_auth == ClientAuth::None && !args.settings.has("client_auth") && confidential {
        let usual = preset.and_then(|preset| preset.with_secret);
        profile.client_auth = usual.unwrap_or_else(|| metadata.confidential_auth());
    }
    // A login API knows no scopes.
    let api = profile.grant == Grant::Password && profile.server.api.login.is_some();
    if new && profile.scopes.is_empty() && !client_alone && !api {
        // An issuer that lists its scopes may refuse a login that asks for others.
        let offered = |scope: &str| match &metadata.scopes_supported {
            Some(all) => all.iter().any(|known| known == scope),
            None => true,
        };
        profile.scopes = DEFAULT_SCOPES.iter().filter(|scope| offered(scope)).map(|s| (*s).to_owned()).collect();
    }
}
