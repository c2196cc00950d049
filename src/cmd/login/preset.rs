//! What `--provider` puts into a profile before the other options are laid over it.

use std::sync::Arc;

use crate::cli::Login;
use crate::error::{Error, ErrorCode};
use crate::model::{
    AssertionAudience, Grant, IssuerUrl, LoginApi, Profile, Provider, ProviderEndpoints, ProviderIssuer, provider,
};

/// The preset that is named.
///
/// # Errors
/// [`ErrorCode::Usage`] where a command line cannot log in there.
pub(super) fn named(args: &Login) -> Result<Option<&'static Provider>, Error> {
    let name = args.settings.get("provider").and_then(|items| items.first());
    let Some(preset) = name.and_then(|name| provider(name)) else { return Ok(None) };
    match preset.unsupported {
        None => Ok(Some(preset)),
        Some(why) => Err(Error::msg(
            ErrorCode::Usage,
            format!("{} cannot be logged in to from a command line", preset.title),
            why,
        )),
    }
}

/// What to do where no client id was given: a provider's client is registered at a place that the preset knows.
pub(super) fn client_id_hint(preset: Option<&Provider>) -> String {
    let Some(preset) = preset.filter(|preset| preset.name != "generic") else {
        return "register a client at the issuer (a public or native one) and give its id with --client-id".to_owned();
    };
    let redirect = match preset.registers_redirect {
        true => format!(" The redirect to register is {}.", preset.redirect()),
        false => String::new(),
    };
    format!("register a client and give its id with --client-id. {}: {}{redirect}", preset.title, preset.register)
}

/// Refuses a way of signing in that the preset's server does not have; tokens from elsewhere it may have given.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub(super) fn offers(preset: Option<&Provider>, grant: Grant) -> Result<(), Error> {
    match preset {
        Some(preset) if grant != Grant::Token && !preset.grants.contains(&grant) => {
            let ways: Vec<String> = preset.grants.iter().map(|grant| format!("`--{grant}`")).collect();
            Err(Error::msg(
                ErrorCode::Usage,
                format!("{} has no login by {grant}", preset.title),
                format!("use {}", ways.join(" or ")),
            ))
        }
        _ => Ok(()),
    }
}

/// Whether the profile is of the preset already.
pub(super) fn is_of(preset: &Provider, profile: &Profile) -> bool {
    profile.server.provider == Some(preset.name)
}

/// The issuer: the one that is given, else that of a profile of the preset's, else the preset's own.
///
/// # Errors
/// [`ErrorCode::Usage`] where only the user knows it.
pub(super) fn issuer(
    args: &Login,
    preset: Option<&Provider>,
    known: Option<&Profile>,
) -> Result<Option<IssuerUrl>, Error> {
    if let Some(given) = args.settings.issuer() {
        return match preset.map(|preset| (preset, preset.issuer)) {
            // Its endpoints are fixed as well: what is meant for the given one would go there.
            Some((preset, ProviderIssuer::Fixed(own))) if given != IssuerUrl::parse(own)? => Err(Error::msg(
                ErrorCode::Usage,
                format!("{} is at {own}, and another issuer was given", preset.title),
                "leave out --issuer; or leave out --provider, and give the endpoints of a server of your own",
            )),
            _ => Ok(Some(given)),
        };
    }
    let Some(preset) = preset else { return Ok(None) };
    if let Some(profile) = known.filter(|profile| is_of(preset, profile)) {
        return Ok(Some(profile.issuer.clone()));
    }
    match preset.issuer {
        ProviderIssuer::Fixed(known) | ProviderIssuer::Default(known) => Ok(Some(IssuerUrl::parse(known)?)),
        ProviderIssuer::Yours { example } => {
            let message = match preset.name {
                "generic" => "no issuer was given".to_owned(),
                _ => format!("{} has an issuer for each customer, and none was given", preset.title),
            };
            Err(Error::msg(ErrorCode::Usage, message, format!("give yours with --issuer, as in --issuer {example}")))
        }
    }
}

/// Lays the preset over the profile.
pub(super) fn lay_over(args: &Login, preset: &Provider, profile: &mut Profile) -> Result<(), Error> {
    profile.client_auth = preset.client_auth;
    profile.grant = preset.grant;
    profile.scopes = preset.scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let endpoints = &preset.endpoints;
    let address = |endpoint: Option<&str>| endpoint.map(|e| ProviderEndpoints::address(e, &profile.issuer)).transpose();
    // Nothing of another server's stays: what this one gives would go there.
    let server = Arc::make_mut(&mut profile.server);
    server.provider = Some(preset.name);
    server.api = LoginApi::default();
    let given = &mut server.endpoints;
    given.end_session = None;
    given.authorization = address(endpoints.authorization)?;
    given.token = address(endpoints.token)?;
    given.device_authorization = address(endpoints.device_authorization)?;
    given.revocation = address(endpoints.revocation)?;
    given.userinfo = address(endpoints.userinfo)?;
    given.jwks = address(endpoints.jwks)?;
    if let Some(redirect) = preset.redirect_uri {
        server.redirect_uri = redirect.parse().unwrap_or_default();
    }
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    server.authorization_parameters = preset.parameters.iter().map(own).collect();
    server.client_key.audience =
        if preset.assertion_for_endpoint { AssertionAudience::TokenEndpoint } else { AssertionAudience::Issuer };
    profile.requirements.token = preset.deciding_token(says_audience(args) || has_audience(profile));
    Ok(())
}

/// What is left to say of a profile that is of the preset already: the rest may have been set since. An audience that is
/// asked for now changes which token decides, unless somebody has decided that.
pub(super) fn lay_over_again(args: &Login, preset: &Provider, profile: &mut Profile) {
    let before = has_audience(profile);
    if profile.requirements.token == preset.deciding_token(before) {
        profile.requirements.token = preset.deciding_token(before || says_audience(args));
    }
}

fn says_audience(args: &Login) -> bool {
    args.settings.has("audience") || args.settings.has("resources")
}

fn has_audience(profile: &Profile) -> bool {
    profile.audience.is_some() || !profile.resources.is_empty()
}
