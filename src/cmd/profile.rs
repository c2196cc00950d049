//! `authctl profile`: shows and changes the configured profiles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::output;
use crate::app::{App, CONFIG_LOCK_LIMIT};
use crate::cli::ProfileCommand;
use crate::config;
use crate::error::{Error, ErrorCode};
use crate::model::{
    ClientAuth, DecidingToken, Grant, IssuerUrl, Profile, ProfileName, Requirements, StoreKind, duration, duration_text,
};
use crate::ui::{sanitize_for_terminal, shell_word};

#[derive(Serialize)]
struct Shown<'a> {
    profile: &'a ProfileName,
    default: bool,
    issuer: &'a IssuerUrl,
    client_id: &'a str,
    client_auth: ClientAuth,
    grant: Grant,
    scopes: &'a [String],
    audience: Option<&'a str>,
    resources: &'a [String],
    store: StoreKind,
    ca_cert: Option<&'a PathBuf>,
    #[serde(flatten)]
    server: BTreeMap<&'static str, String>,
    verify_token: DecidingToken,
    optional_claims: &'a [String],
    max_offline: Option<u64>,
    keys_max_age: u64,
    max_auth_age: Option<u64>,
    required_scopes: &'a [String],
    required_roles: &'a [String],
    required_claims: &'a [String],
    required_acr: &'a [String],
    required_amr: &'a [String],
}

impl<'a> Shown<'a> {
    fn of(profile: &'a Profile, default: Option<&ProfileName>) -> Self {
        let wants = &profile.requirements;
        Self {
            profile: &profile.name,
            default: default == Some(&profile.name),
            issuer: &profile.issuer,
            client_id: &profile.client_id,
            client_auth: profile.client_auth,
            grant: profile.grant,
            scopes: &profile.scopes,
            audience: profile.audience.as_deref(),
            resources: &profile.resources,
            store: profile.store,
            ca_cert: profile.ca_cert.as_ref(),
            server: profile.server.texts().collect(),
            verify_token: wants.token,
            optional_claims: &wants.optional_claims,
            max_offline: wants.max_offline.map(|age| age.as_secs()),
            keys_max_age: wants.keys_max_age().as_secs(),
            max_auth_age: wants.max_auth_age.map(|age| age.as_secs()),
            required_scopes: &wants.scopes,
            required_roles: &wants.roles,
            required_claims: &wants.claims,
            required_acr: &wants.acr,
            required_amr: &wants.amr,
        }
    }
}

/// Runs the command.
#[inline(never)]
pub fn run(app: &App, command: ProfileCommand) -> Result<u8, Error> {
    match command {
        ProfileCommand::List => list(app),
        ProfileCommand::Show { profile } => show(app, profile.as_ref()),
        ProfileCommand::Set { profile, settings } => app.run(set(app, &profile, &settings)),
        ProfileCommand::Remove { profile } => app.run(remove(app, &profile)),
        ProfileCommand::Rename { profile, to } => app.run(rename(app, &profile, &to)),
        ProfileCommand::Use { profile } => app.run(async {
            let _lock = app.lock_config(CONFIG_LOCK_LIMIT).await?;
            config::set_default(&app.paths()?.config_file, &profile)?;
            app.tell_agent(&profile);
            app.ui().tell(&format!("{profile} is the default now."));
            Ok(0)
        }),
    }
}

fn list(app: &App) -> Result<u8, Error> {
    let config = app.config()?;
    let default = config.choose(None).ok().map(|profile| &profile.name);
    if app.common.json {
        let all: Vec<Shown> = config.profiles.values().map(|profile| Shown::of(profile, default)).collect();
        output::json(&all)?;
        return Ok(0);
    }
    let width = config.profiles.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
    for profile in config.profiles.values() {
        let mark = if default == Some(&profile.name) { '*' } else { ' ' };
        output::line(&format!("{mark} {:<width$}  {}", profile.name.as_str(), profile.issuer))?;
    }
    Ok(0)
}

fn show(app: &App, named: Option<&ProfileName>) -> Result<u8, Error> {
    let config = app.config()?;
    let named = app.named(named)?;
    let profile = config.choose(named.as_ref())?;
    let shown = Shown::of(profile, config.choose(None).ok().map(|profile| &profile.name));
    if app.common.json {
        output::json(&shown)?;
        return Ok(0);
    }
    let wants = &profile.requirements;
    let age = |age: Option<Duration>| age.map(duration_text).unwrap_or_default();
    let deciding = (wants.token != DecidingToken::default()).then(|| wants.token.word().to_owned());
    let lines = [
        ("profile", profile.name.to_string()),
        ("issuer", profile.issuer.to_string()),
        ("client_id", profile.client_id.clone()),
        ("client_auth", shown.client_auth.word().to_owned()),
        ("grant", profile.grant.to_string()),
        ("scopes", profile.scopes.join(" ")),
        ("audience", profile.audience.clone().unwrap_or_default()),
        ("resources", profile.resources.join(" ")),
        ("store", profile.store.to_string()),
        ("ca_cert", profile.ca_cert.as_ref().map(|path| path.display().to_string()).unwrap_or_default()),
        ("verify_token", deciding.unwrap_or_default()),
        ("optional_claims", wants.optional_claims.join(" ")),
        ("max_offline", age(wants.max_offline)),
        ("keys_max_age", age(wants.keys_max_age)),
        ("max_auth_age", age(wants.max_auth_age)),
        ("required_scopes", wants.scopes.join(" ")),
        ("required_roles", wants.roles.join(" ")),
        ("required_claims", wants.claims.join(" ")),
        ("required_acr", wants.acr.join(" ")),
        ("required_amr", wants.amr.join(" ")),
    ];
    let lines: Vec<_> =
        lines.into_iter().chain(profile.server.texts()).filter(|(_, value)| !value.is_empty()).collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(15);
    for (name, value) in lines {
        output::line(&format!("{name:<width$} {value}"))?;
    }
    Ok(0)
}

async fn set(app: &App, name: &ProfileName, settings: &[(String, String)]) -> Result<u8, Error> {
    let _lock = app.lock_config(CONFIG_LOCK_LIMIT).await?;
    let mut profile = app.config()?.profile(name)?.clone();
    // The issuer first: it takes its addresses along, and not those that are set with it.
    let (issuer, others): (Vec<_>, Vec<_>) = settings.iter().partition(|(key, _)| key == "issuer");
    let before = profile.server.clone();
    for (key, value) in issuer {
        apply(&mut profile, key, value)?;
    }
    let mut gone: Vec<&str> =
        before.texts().map(|(key, _)| key).filter(|key| profile.server.text(key).is_none()).collect();
    for (key, value) in others {
        apply(&mut profile, key, value)?;
    }
    gone.retain(|key| profile.server.text(key).is_none());
    config::save(&app.paths()?.config_file, &profile)?;
    app.tell_agent(name);
    if !gone.is_empty() {
        app.ui().tell(&format!("These were the other issuer's and are dropped with it: {}.", gone.join(", ")));
    }
    app.ui().tell(&format!("{name} is changed."));
    Ok(0)
}

fn apply(profile: &mut Profile, key: &str, value: &str) -> Result<(), Error> {
    let invalid = |hint: String| Error::msg(ErrorCode::Usage, format!("`{value}` is no {key}"), hint);
    let wrong = |known: &str| invalid(format!("use one of: {known}"));
    let words = || value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let age = || match value {
        "" => Ok(None),
        _ => duration(value).map(Some).map_err(|_| invalid("write it like 90s, 5m, 1h30m or 30d".to_owned())),
    };
    match key {
        "issuer" => profile.lead_to(IssuerUrl::parse(value)?),
        "client_id" if value.is_empty() => {
            let hint = "give the client's id at the issuer, as in `client_id=my-cli`";
            return Err(Error::msg(ErrorCode::Usage, "a profile needs a client id", hint));
        }
        "client_id" => profile.client_id = value.to_owned(),
        "client_auth" => {
            let named = if value.is_empty() { "none" } else { value };
            let known = ClientAuth::ALL.into_iter().find(|auth| auth.word() == named);
            profile.client_auth =
                known.ok_or_else(|| wrong("none, client_secret_basic, client_secret_post, private_key_jwt"))?;
        }
        "grant" => {
            profile.grant = match value {
                "" | "browser" => Grant::Browser,
                "device" => Grant::Device,
                "password" => Grant::Password,
                "client-credentials" => Grant::ClientCredentials,
                "token" => Grant::Token,
                _ => return Err(wrong("browser, device, password, client-credentials, token")),
            };
        }
        "scopes" => profile.scopes = words(),
        "audience" => profile.audience = (!value.is_empty()).then(|| value.to_owned()),
        "resources" => profile.resources = words(),
        "store" => {
            let store = match value {
                "keychain" => StoreKind::Keychain,
                "file" => StoreKind::File,
                _ => return Err(wrong("keychain, file")),
            };
            if store != profile.store {
                return Err(Error::msg(
                    ErrorCode::Usage,
                    "a session does not move between stores",
                    format!("run `authctl login {} --store {value}`", profile.name),
                ));
            }
        }
        "ca_cert" if value.is_empty() => profile.ca_cert = None,
        // Read from anywhere, by the agent too.
        "ca_cert" => {
            let absolute = std::path::absolute(value)
                .map_err(|e| Error::new(ErrorCode::Usage, e, "give the whole path of a PEM file"))?;
            profile.ca_cert = Some(absolute);
        }
        "verify_token" => {
            profile.requirements.token = match value {
                "" | "access_token" => DecidingToken::AccessToken,
                "id_token" => DecidingToken::IdToken,
                _ => return Err(wrong("access_token, id_token")),
            };
        }
        "optional_claims" => {
            profile.requirements.optional_claims = words();
            if words().iter().any(|claim| !Requirements::OPTIONAL.contains(&claim.as_str())) {
                return Err(invalid("use iss, aud, or both, as in `optional_claims='iss aud'`".to_owned()));
            }
        }
        "max_offline" => profile.requirements.max_offline = age()?,
        "keys_max_age" => profile.requirements.keys_max_age = age()?,
        "max_auth_age" => profile.requirements.max_auth_age = age()?,
        "required_scopes" => profile.requirements.scopes = words(),
        "required_roles" => profile.requirements.roles = words(),
        "required_claims"
            if words().iter().any(|claim| claim.split_once('=').is_none_or(|(name, _)| name.is_empty())) =>
        {
            return Err(invalid("write each as NAME=VALUE, as in `required_claims=tenant=blue`".to_owned()));
        }
        "required_claims" => profile.requirements.claims = words(),
        "required_acr" => profile.requirements.acr = words(),
        "required_amr" => profile.requirements.amr = words(),
        // Read from anywhere, as the authorities are.
        "client_key" if !value.is_empty() => {
            let absolute = std::path::absolute(value)
                .map_err(|e| Error::new(ErrorCode::Usage, e, "give the whole path of a private key"))?;
            profile.server_mut().client_key.file = Some(absolute);
        }
        "provider" if !value.is_empty() => {
            let hint = format!(
                "run `authctl login {} --provider {}`",
                profile.name,
                shell_word(&sanitize_for_terminal(value, 40))
            );
            return Err(Error::msg(ErrorCode::Usage, "a provider's preset is more than its name", hint));
        }
        key if profile.server_mut().set(key, value)? => {}
        _ => {
            return Err(Error::msg(
                ErrorCode::Usage,
                format!("there is no setting `{key}`{}", config::nearest_setting(key)),
                "see `authctl profile set --help` for those there are",
            ));
        }
    }
    Ok(())
}

async fn remove(app: &App, name: &ProfileName) -> Result<u8, Error> {
    let _lock = app.lock_config(CONFIG_LOCK_LIMIT).await?;
    // Not before: a login that held the lock may have led it to another store.
    let config = app.config()?;
    let profile = config.profile(name)?;
    let file = app.paths()?.config_file;
    let removal = || config::remove(&file, name).map_err(Error::from);
    let removed =
        app.sessions()?.without_session(profile, removal).await.map_err(|failure: Error| failure.about(name))?;
    if !removed {
        return Err(Error::msg(
            ErrorCode::Usage,
            format!("`{name}` has a session"),
            format!("run `authctl logout {name}` first, so that its tokens are revoked"),
        ));
    }
    app.tell_agent(name);
    app.ui().tell(&format!("{name} is removed."));
    Ok(0)
}

async fn rename(app: &App, from: &ProfileName, to: &ProfileName) -> Result<u8, Error> {
    let _lock = app.lock_config(CONFIG_LOCK_LIMIT).await?;
    let profile = app.config()?.profile(from)?.clone();
    if app.config()?.profiles.contains_key(to) {
        return Err(config::ConfigError::Exists(to.clone()).into());
    }
    let file = app.paths()?.config_file;
    app.sessions()?.rename(&profile, to, || config::rename(&file, from, to).map_err(Error::from)).await?;
    app.tell_agent(from);
    app.tell_agent(to);
    app.ui().tell(&format!("{from} is {to} now."));
    Ok(0)
}
