//! Applies the defaults of `--provider` to a profile, before the other options.

use std::sync::Arc;

use crate::cli::Login;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{
    AssertionAudience, Grant, IssuerUrl, LoginApi, Profile, Provider, ProviderEndpoints, ProviderIssuer,
    provider as known_provider,
};

/// What a login needs and was not given.
#[derive(Debug, thiserror::Error)]
pub enum MissingSetting {
    /// The issuer.
    #[error("no issuer was given{0}")]
    Issuer(String),
    /// The client ID at this issuer.
    #[error("no client ID was given")]
    ClientId(IssuerUrl),
}

/// Returns the provider that `--provider` names.
///
/// # Errors
/// [`ErrorCode::Usage`] if the provider supports no login from a command line.
pub fn named(args: &Login) -> Result<Option<&'static Provider>, Error> {
    let name = args.settings.get("provider").and_then(|items| items.first());
    let Some(provider) = name.and_then(|name| known_provider(name)) else { return Ok(None) };
    match provider.unsupported {
        None => Ok(Some(provider)),
        Some(why) => {
            let message =
                format!("{} supports no login from a command line: {}", provider.title, why.trim_end_matches('.'));
            Err(Error::msg(ErrorCode::Usage, message, Hint::command("login").with_flag("--help")))
        }
    }
}

/// Returns the hint for a missing client ID: where to register a client.
pub(super) fn client_id_hint(provider: Option<&Provider>) -> Hint {
    let advice = match provider.filter(|provider| provider.name != "generic") {
        None => "register a public (native) client at the issuer".to_owned(),
        Some(provider) => {
            let redirect = match provider.registers_redirect {
                true => format!(" Register the redirect URI {}", provider.redirect()),
                false => String::new(),
            };
            format!("register a client at {}: {}{redirect}", provider.title, provider.register)
        }
    };
    let advice = advice.trim_end_matches('.');
    Hint::login().after_advice(format!("{advice}; then add --client-id ID"))
}

/// Refuses a grant that the provider does not support. Tokens that are supplied may be from any grant.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub(super) fn check_grant(provider: Option<&Provider>, grant: Grant) -> Result<(), Error> {
    match provider {
        Some(provider) if grant != Grant::Token && !provider.grants.contains(&grant) => {
            let options: Vec<String> = provider.grants.iter().map(|grant| format!("--{grant}")).collect();
            let message =
                format!("{} does not support the grant {grant}; it supports {}", provider.title, options.join(" and "));
            let hint = options.first().map_or(Hint::None, |option| Hint::login().with_flag(option));
            Err(Error::msg(ErrorCode::Usage, message, hint))
        }
        _ => Ok(()),
    }
}

/// Returns whether the provider's defaults were applied to the profile before.
pub(super) fn was_applied(provider: &Provider, profile: &Profile) -> bool {
    profile.server.provider == Some(provider.name)
}

/// Returns the issuer: of the option, else of a profile of the same provider, else the provider's own.
///
/// # Errors
/// [`ErrorCode::Usage`] if only the user knows it.
pub(super) fn issuer(
    args: &Login,
    provider: Option<&Provider>,
    known: Option<&Profile>,
) -> Result<Option<IssuerUrl>, Error> {
    if let Some(given) = args.settings.issuer() {
        return match provider.map(|provider| (provider, provider.issuer)) {
            // The provider's endpoints are fixed as well, so credentials for another issuer would go there.
            Some((provider, ProviderIssuer::Fixed(own))) if given != IssuerUrl::parse(own)? => Err(Error::msg(
                ErrorCode::Usage,
                format!("the issuer of {} is {own}, not the given one", provider.title),
                Hint::login().with_option("--issuer", own).after_advice(
                    "omit --provider and name the endpoints of your server, or use the provider's own issuer",
                ),
            )),
            _ => Ok(Some(given)),
        };
    }
    let Some(provider) = provider else { return Ok(None) };
    if let Some(profile) = known.filter(|profile| was_applied(provider, profile)) {
        return Ok(Some(profile.issuer.clone()));
    }
    match provider.issuer {
        ProviderIssuer::Fixed(known) | ProviderIssuer::Default(known) => Ok(Some(IssuerUrl::parse(known)?)),
        ProviderIssuer::Yours { example } => {
            let reason = match provider.name {
                "generic" => String::new(),
                _ => format!("; {} has one for each customer", provider.title),
            };
            let advice = format!("add --issuer URL, for example --issuer {example}");
            Err(Error::new(ErrorCode::Usage, MissingSetting::Issuer(reason), Hint::login().after_advice(advice)))
        }
    }
}

/// Applies the provider's defaults to the profile.
pub(super) fn apply(args: &Login, provider: &Provider, profile: &mut Profile) -> Result<(), Error> {
    profile.client_auth = provider.client_auth;
    profile.grant = provider.grant;
    profile.scopes = provider.scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let endpoints = &provider.endpoints;
    let address = |endpoint: Option<&str>| endpoint.map(|e| ProviderEndpoints::address(e, &profile.issuer)).transpose();
    // Endpoints of another server are removed, since tokens of this one would be sent there.
    let server = Arc::make_mut(&mut profile.server);
    server.provider = Some(provider.name);
    server.api = LoginApi::default();
    let given = &mut server.endpoints;
    given.end_session = None;
    given.authorization = address(endpoints.authorization)?;
    given.token = address(endpoints.token)?;
    given.device_authorization = address(endpoints.device_authorization)?;
    given.revocation = address(endpoints.revocation)?;
    given.userinfo = address(endpoints.userinfo)?;
    given.jwks = address(endpoints.jwks)?;
    if let Some(redirect) = provider.redirect_uri {
        server.redirect_uri = redirect.parse().unwrap_or_default();
    }
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    server.authorization_parameters = provider.parameters.iter().map(own).collect();
    server.client_key.audience =
        if provider.assertion_for_endpoint { AssertionAudience::TokenEndpoint } else { AssertionAudience::Issuer };
    profile.requirements.token = provider.deciding_token(requests_audience(args) || has_audience(profile));
    Ok(())
}

/// Updates a profile to which the defaults were applied before: its other settings may have been changed since. A new
/// audience changes which token is verified, unless the user has set that.
pub(super) fn reapply(args: &Login, provider: &Provider, profile: &mut Profile) {
    let before = has_audience(profile);
    if profile.requirements.token == provider.deciding_token(before) {
        profile.requirements.token = provider.deciding_token(before || requests_audience(args));
    }
}

fn requests_audience(args: &Login) -> bool {
    args.settings.has("audience") || args.settings.has("resources")
}

fn has_audience(profile: &Profile) -> bool {
    profile.audience.is_some() || !profile.resources.is_empty()
}
