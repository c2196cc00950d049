//! `authctl login`: gets a session by any grant, checks it, asks before it replaces somebody else's, and keeps it.

mod grants;
mod input;
mod preset;
mod turn;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::output;
use super::verify::keys_in;
use crate::app::App;
use crate::broker::{Broker, BrokerError, NewLogin, PreparedLogin};
use crate::cli::Login;
use crate::clock::UnixTime;
use crate::config::{self, Config};
use crate::failure::{Failure, Kind};
use crate::issuer::{Client, Metadata};
use crate::model::{
    ClientAuth, Grant, PinnedKeys, Profile, ProfileName, Requirements, Server, Session, StoreKind, Subject,
};
use crate::secret::Secret;
use crate::ui::harmless;
use grants::How;
use input::Input;
use turn::Turn;

pub(super) use grants::open_end_session;
pub(super) use input::secret_line;

/// What a login asks for where nobody says: who the user is, a name to show, and a refresh token.
const DEFAULT_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

/// The client's id where there is no client: a login API knows users alone.
const API_CLIENT: &str = "authctl";

/// The profile that `login --issuer` makes where none is named.
const DEFAULT_NAME: &str = "default";

#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a ProfileName,
    issuer: &'a str,
    subject: &'a Option<Subject>,
    grant: Grant,
    scope: &'a Option<String>,
    expires_at: Option<UnixTime>,
    can_renew: bool,
    store: StoreKind,
}

/// Runs the command.
pub fn run(app: &App, args: Login) -> Result<u8, Failure> {
    let config = app.config()?;
    let (mut profile, new) = wanted_profile(app, &args, &config)?;
    let name = profile.name.clone();
    let about = |failure: Failure| failure.about(&name);
    if args.grant().is_none() && !app.ui().is_human() && !unattended(&args, &profile) {
        return Err(about(Failure::said(
            Kind::LoginRequired,
            format!("logging in to `{name}` needs a person, and there is no terminal"),
            "run `authctl login{profile}` in a terminal, or name a grant: --device, --no-browser, --client-credentials, \
             --password-stdin or --with-token",
        )));
    }
    let pinned = args.jwks.as_deref().map(keys_in).transpose()?.map(|(_, keys)| PinnedKeys {
        keys,
        source: absolute(args.jwks.as_deref()).unwrap_or_default().display().to_string(),
        pinned_at: app.clock().now(),
    });
    let input = Input::read(app, &args)?;
    app.run(async {
        let broker = app.broker()?;
        // A store that cannot keep the session is told before anybody signs in.
        let stored = match broker.stored(&profile).await {
            Ok(found) => found,
            Err(BrokerError::Store(error)) if error.session_lost() => None,
            Err(error) => return Err(error.into()),
        };
        let turn = Turn::take(app, &broker, &args, &profile, stored.as_ref()).await?;
        if let Some((profile, session)) = turn.joined() {
            app.ui().tell("The other login has got a session.");
            return tell(app, profile, session);
        }
        broker.reserve(&profile).await?;
        config::probe(&app.paths()?.config_file)?;
        let metadata = app.patiently(profile.issuer.as_str(), broker.metadata(&profile)).await?;
        let how = How::choose(app, &args, &profile, &metadata);
        profile.grant = how.grant();
        prepare_profile(&args, &mut profile, new, &metadata, &input)?;
        let client = client(app, &broker, &profile, &metadata, stored.as_ref(), &input).await?;
        let mut login = how.run(app, &args, &profile, &metadata, &client, input).await?;
        login.max_auth_age = args.max_age;
        login.pinned = match pinned {
            None => pins_elsewhere(&broker, &config, &profile).await,
            given => given,
        };
        let checks = broker.prepare_login(&profile, &metadata, login);
        let prepared = app.patiently(profile.issuer.as_str(), checks).await?;
        ask_before_replacing(app, &args, &broker, &profile, &prepared, stored.as_ref()).await?;
        tell_weaker(app, &args, &profile, &prepared);
        let lost = prepared.lost_trust();
        let session = broker.commit_login(&profile, prepared).await?;
        if lost {
            app.ui().tell(&format!(
                "What was kept of the keys of {} could not be read and is dropped: pin again what was pinned.",
                profile.issuer
            ));
        }
        keep_profile(app, &broker, &args, &config, &profile).await?;
        app.tell_agent(&profile.name);
        for note in preset::named(&args)?.map(|preset| preset.notes).unwrap_or_default() {
            app.ui().tell(note);
        }
        tell(app, &profile, &session)
    })
    .map_err(about)?;
    Ok(0)
}

/// The keys that were pinned for the profile in the store that it was kept in before: they are the user's word, and move with
/// it.
async fn pins_elsewhere(broker: &Broker, before: &Config, profile: &Profile) -> Option<PinnedKeys> {
    let old = before.profiles.get(&profile.name)?;
    if old.store == profile.store || old.issuer != profile.issuer {
        return None;
    }
    match broker.trust(old).await {
        Ok(trust) => trust.pinned,
        Err(error) => {
            tracing::warn!("what was pinned in the {} store cannot be read: {error}", old.store);
            None
        }
    }
}

/// Whether the configured grant needs nobody.
fn unattended(args: &Login, profile: &Profile) -> bool {
    let has_proof = args.client_secret_stdin || profile.client_auth == ClientAuth::PrivateKeyJwt;
    profile.grant == Grant::ClientCredentials && has_proof
}

/// The profile as configured with the options laid over it, and whether it is new.
fn wanted_profile(app: &App, args: &Login, config: &Config) -> Result<(Profile, bool), Failure> {
    let preset = preset::named(args)?;
    let issuer = preset::issuer(args, preset)?;
    let named = app.named(args.profile.as_ref())?;
    let name = match (&named, &config.default_profile, preset) {
        (Some(name), _, _) => name.clone(),
        // Whoever names a provider and no profile means a profile of that provider.
        (None, _, Some(preset)) => preset.name.parse()?,
        (None, Some(name), None) => name.clone(),
        (None, None, None) if config.profiles.is_empty() && issuer.is_some() => DEFAULT_NAME.parse()?,
        (None, None, None) => config.choose(None)?.name.clone(),
    };
    let known = config.profiles.get(&name);
    let mut profile = match (known, &issuer) {
        (Some(profile), _) => profile.clone(),
        (None, Some(issuer)) => Profile {
            name: name.clone(),
            issuer: issuer.clone(),
            client_id: String::new(),
            client_auth: ClientAuth::None,
            grant: Grant::Browser,
            scopes: Vec::new(),
            audience: None,
            resources: Vec::new(),
            store: app.default_store()?,
            ca_cert: None,
            server: Server::default(),
            requirements: Requirements::default(),
        },
        (None, None) => {
            config.profile(&name)?;
            return Err(config::ConfigError::Empty.into());
        }
    };
    if let (Some(preset), Some(issuer)) = (preset, issuer) {
        profile.issuer = issuer;
        preset::lay_over(args, preset, &mut profile)?;
    }
    Ok((laid_over(args, profile)?, known.is_none()))
}

/// A profile with the options laid over it.
fn laid_over(args: &Login, mut profile: Profile) -> Result<Profile, Failure> {
    if let Some(issuer) = &args.issuer {
        profile.issuer = issuer.clone();
    }
    if let Some(id) = &args.client_id {
        profile.client_id = id.clone();
    }
    lay_server_over(args, &mut profile)?;
    if profile.client_id.is_empty() && profile.server.api.login.is_some() {
        profile.client_id = API_CLIENT.to_owned();
    }
    if profile.client_id.is_empty() {
        return Err(Failure::said(
            Kind::Usage,
            "no client id was given",
            "register a client at the issuer (a public or native one) and give its id with --client-id",
        ));
    }
    if let Some(auth) = args.client_auth {
        profile.client_auth = auth.into();
    }
    let scopes: Vec<String> = args.scopes.iter().filter(|s| !s.is_empty()).cloned().collect();
    if !scopes.is_empty() {
        profile.scopes = scopes;
    }
    if let Some(audience) = &args.audience {
        profile.audience = Some(audience.clone());
    }
    if !args.resources.is_empty() {
        profile.resources = args.resources.clone();
    }
    if let Some(store) = args.store {
        profile.store = store.into();
    }
    if let Some(ca_cert) = absolute(args.ca_cert.as_deref()) {
        profile.ca_cert = Some(ca_cert);
    }
    Ok(profile)
}

/// A path as it is read from anywhere, by the agent too.
fn absolute(path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// What the options say of the server.
fn lay_server_over(args: &Login, profile: &mut Profile) -> Result<(), Failure> {
    for (key, text) in args.server.given() {
        if !profile.server.set(&key, &text)? {
            let field = key.trim_end_matches("_field");
            return Err(Failure::said(
                Kind::Usage,
                format!("`{}` is no field of a login API", harmless(field, 40)),
                "use one of: username, password, access_token, refresh_token, expires_in",
            ));
        }
    }
    if !args.server.authorization_parameters.is_empty() {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&args.server.authorization_parameters);
        profile.server.set("authorization_parameters", &query.finish())?;
    }
    if let Some(key) = absolute(args.server.client_key.as_deref()) {
        profile.server.client_key.file = Some(key);
        if args.client_auth.is_none() {
            profile.client_auth = ClientAuth::PrivateKeyJwt;
        }
    }
    let api = profile.server.api.login.is_some();
    if api && args.server.login_endpoint.is_some() && args.grant().is_none() {
        profile.grant = Grant::Password;
    }
    Ok(())
}

/// Tells of a sign-in that was weaker than what was asked for: an issuer may do less than `acr_values` say (OpenID Connect
/// Core 1.0, section 3.1.2.1).
fn tell_weaker(app: &App, args: &Login, profile: &Profile, prepared: &PreparedLogin) {
    let Some(asked) = &args.acr_values else { return };
    if prepared.acr().is_some_and(|acr| asked.split_whitespace().any(|one| one == acr)) {
        return;
    }
    let found = prepared.acr().map_or_else(|| "none".to_owned(), |acr| format!("`{}`", harmless(acr, 80)));
    app.ui().tell(&format!(
        "The issuer was asked for `{}` and says {found} of this sign-in. To demand it of every token: authctl profile set \
         {} required_acr={}",
        harmless(asked, 80),
        profile.name,
        harmless(asked, 80)
    ));
}

/// What only the issuer's metadata can decide.
fn prepare_profile(
    args: &Login,
    profile: &mut Profile,
    new: bool,
    metadata: &Metadata,
    input: &Input,
) -> Result<(), Failure> {
    let preset = preset::named(args)?;
    let client_alone = profile.grant == Grant::ClientCredentials;
    // A client that logs in by itself has a secret, whether it was piped or is still to be typed.
    let needs_one = preset.is_some_and(|preset| preset.needs_secret_for(profile.grant));
    let confidential = client_alone || needs_one || input.client_secret.is_some();
    if profile.client_auth == ClientAuth::None && args.client_auth.is_none() && confidential {
        let usual = preset.and_then(|preset| preset.with_secret);
        profile.client_auth = usual.unwrap_or_else(|| metadata.confidential_auth());
    }
    if new && profile.scopes.is_empty() && !client_alone {
        // An issuer that lists its scopes may refuse a login that asks for others.
        let offered = |scope: &str| match &metadata.scopes_supported {
            Some(all) => all.iter().any(|known| known == scope),
            None => true,
        };
        profile.scopes = DEFAULT_SCOPES.iter().filter(|scope| offered(scope)).map(|s| (*s).to_owned()).collect();
    }
    Ok(())
}

/// The client, with its secret from stdin, else from the present session, else asked for; or with the key that it signs with.
async fn client(
    app: &App,
    broker: &Broker,
    profile: &Profile,
    metadata: &Metadata,
    stored: Option<&Session>,
    input: &Input,
) -> Result<Client, Failure> {
    let alone = profile.grant == Grant::ClientCredentials && profile.client_auth != ClientAuth::PrivateKeyJwt;
    let needs_secret = profile.client_auth.needs_secret() || alone;
    let kept = stored.filter(|session| session.client_id == profile.client_id && session.issuer == profile.issuer);
    let secret = match (&input.client_secret, kept.and_then(|session| session.client_secret.as_ref())) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(kept)) if needs_secret => Some(kept.clone()),
        (None, _) if needs_secret && profile.grant != Grant::Token => {
            let asked = app.ask_secret(&format!("Secret of the client {}: ", harmless(&profile.client_id, 80))).await;
            Some(asked.filter(|secret| !secret.is_empty()).ok_or_else(|| {
                Failure::said(
                    Kind::LoginRequired,
                    "the client's secret is needed, and nobody typed it",
                    "type it when asked, or pipe it to the same command with --client-secret-stdin",
                )
            })?)
        }
        (None, _) => None,
    };
    Ok(broker.client(profile, metadata, secret)?)
}

/// Tells whose session would be replaced, and asks; without somebody to ask, only `--replace` goes on.
async fn ask_before_replacing(
    app: &App,
    args: &Login,
    broker: &Broker,
    profile: &Profile,
    prepared: &PreparedLogin,
    stored: Option<&Session>,
) -> Result<(), Failure> {
    let Some(stored) = stored.filter(|stored| prepared.replaces_another(stored)) else { return Ok(()) };
    let old = named(&stored.subject, stored.issuer.as_str());
    let new = named(&prepared.session().subject, profile.issuer.as_str());
    app.ui().tell(&format!("The profile `{}` holds a session of {old}. You have signed in as {new}.", profile.name));
    if args.replace {
        return Ok(());
    }
    match app.confirm("Replace it?").await {
        Some(true) => Ok(()),
        answer => {
            // Tokens that were handed in are somebody else's to end.
            if prepared.session().grant != Grant::Token {
                broker.discard(profile, prepared.session()).await;
            }
            let message = format!("the session of {old} was kept");
            Err(match answer {
                Some(_) => Failure::said(Kind::Interrupted, message, "use another profile name for the other account"),
                None => Failure::said(
                    Kind::Usage,
                    format!("signed in as {new}, but {message}"),
                    "add --replace to replace it, or use another profile name for the other account",
                )
                .coded("other_subject"),
            })
        }
    }
}

fn named(subject: &Option<Subject>, issuer: &str) -> String {
    match subject {
        Some(Subject { name: Some(name), .. }) => format!("{} at {issuer}", harmless(name, 80)),
        Some(Subject { sub, name: None }) => format!("{} at {issuer}", harmless(sub, 80)),
        None => format!("somebody at {issuer}"),
    }
}

/// Saves the profile, and removes what the login left behind in a store that it is no longer kept in.
async fn keep_profile(
    app: &App,
    broker: &Broker,
    args: &Login,
    before: &Config,
    profile: &Profile,
) -> Result<(), Failure> {
    let old = before.profiles.get(&profile.name);
    {
        let _lock = app.lock_config().await?;
        let now = app.config()?;
        // Somebody signed in for minutes: what was set meanwhile is kept, and what was removed is there again.
        let saved = match now.profiles.get(&profile.name) {
            Some(set) if old.is_some_and(|old| old != set) => {
                let (grant, client_auth, store) = (profile.grant, profile.client_auth, profile.store);
                Profile { grant, client_auth, store, ..laid_over(args, set.clone())? }
            }
            _ => profile.clone(),
        };
        if now.profiles.get(&profile.name) != Some(&saved) {
            config::save(&app.paths()?.config_file, &saved)?;
        }
    }
    if let Some(old) = old.filter(|old| old.store != profile.store)
        && let Err(error) = broker.forget(old).await
    {
        app.ui().tell(&format!("The old session is still in the {} store: {error}", old.store));
    }
    Ok(())
}

fn tell(app: &App, profile: &Profile, session: &Session) -> Result<(), Failure> {
    if app.common.json {
        return output::json(&Answer {
            profile: &profile.name,
            issuer: profile.issuer.as_str(),
            subject: &session.subject,
            grant: session.grant,
            scope: &session.tokens.scope,
            expires_at: session.tokens.expires_at,
            can_renew: session.can_renew(),
            store: profile.store,
        });
    }
    let who = match (&session.subject, session.grant) {
        (None, Grant::ClientCredentials) => {
            format!("the client {} at {}", harmless(&profile.client_id, 80), profile.issuer)
        }
        (subject, _) => named(subject, profile.issuer.as_str()),
    };
    app.ui().tell(&format!("Logged in as {who}. The session is kept in the {} store.", profile.store));
    if !session.can_renew() {
        app.ui().tell("The issuer gave nothing to renew it with: when the token expires, log in again.");
    }
    app.ui()
        .tell(&format!("`authctl token {}` prints a valid token, `authctl status` shows how it stands.", profile.name));
    Ok(())
}

/// A grant's outcome as the broker takes it.
fn new_login(grant: Grant, tokens: crate::model::TokenSet, nonce: Option<String>, client: &Client) -> NewLogin {
    NewLogin {
        grant,
        tokens,
        nonce: nonce.map(Secret::new),
        client_secret: client.secret.clone(),
        max_auth_age: None,
        pinned: None,
    }
}
