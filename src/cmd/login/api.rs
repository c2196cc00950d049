//! `authctl login --for URL`: finds what a login for an API needs, and shows it before the first one.

use crate::app::App;
use crate::cli::Login;
use crate::config::{Config, setting};
use crate::error::{Error, ErrorCode, Hint};
use crate::login::first_request_error;
use crate::model::{ApiUrl, ClientRegistration, Dpop, IssuerUrl, Profile, ProfileName, ToolHost};
use crate::oauth::Metadata;
use crate::session::{DiscoveredApi, DiscoveredServer};

/// The scope that some issuers require for a refresh token (OpenID Connect Core 1.0, section 11).
const OFFLINE: &str = "offline_access";

/// Finds the issuer, the resource, the scopes and the client of a login for the API, and adds them to `args` as if they had been
/// typed. Returns the name of the profile. The issuer of a profile is the one of its first login: another one needs to be named.
///
/// # Errors
/// [`ErrorCode::IssuerMismatch`] if the API names another issuer than before; [`ErrorCode::LoginRequired`] if the user did not
/// confirm a new one.
pub(super) async fn prepare(app: &App, args: &mut Login, api: &ApiUrl) -> Result<ProfileName, Error> {
    let config = app.config()?;
    let typed = app.typed_profile(args.profile.as_ref())?.cloned();
    let name = match &typed {
        Some(name) => Some(name.clone()),
        None => {
            let serving = config.serving(api).into_iter().map(|profile| &profile.name).collect();
            app.profile_among(&config, serving, None, api)?
        }
    };
    let known = match &name {
        Some(name) => config.existing(name)?,
        None => None,
    };
    let name = name.unwrap_or_else(|| new_name(api, &config));
    let about = |error: Error| if typed.is_some() { error.about(&name) } else { error };
    prepare_for(app, args, api, &config, (&name, known)).await.map_err(about)?;
    Ok(name)
}

async fn prepare_for(
    app: &App,
    args: &mut Login,
    api: &ApiUrl,
    config: &Config,
    (name, known): (&ProfileName, Option<&Profile>),
) -> Result<(), Error> {
    let sessions = app.sessions()?;
    let origin = api.url().origin().ascii_serialization().parse()?;
    let mut profile = known.cloned().unwrap_or_else(|| Profile::new(name.clone(), origin));
    args.settings.apply(&mut profile)?;
    let about_api = api.to_string();
    let found = sessions.discover_api(&profile, api, args.challenge.clone());
    let found = app.with_progress(&about_api, found).await?;
    let issuer = choose_issuer(app, args, known, &found).await?;
    let is_new = known.is_none_or(|known| known.issuer != issuer);
    let server = match is_new || found.resource.is_some() {
        true => {
            let server = sessions.discover_server(&profile, &found, &issuer);
            Some(app.with_progress(issuer.as_str(), server).await.map_err(first_request_error)?)
        }
        // The API's metadata does not concern the issuer that was configured for it.
        false => None,
    };
    let is_spelled_alike =
        |known: &&Profile| known.issuer.as_str().trim_end_matches('/') == issuer.as_str().trim_end_matches('/');
    let is_new = known.filter(is_spelled_alike).is_none();
    add_target(args, known, &found)?;
    let Some(server) = server else { return Ok(()) };
    let of_issuer = known.filter(|_| !is_new);
    add_server(args, of_issuer, &found, &server)?;
    add_client(args, of_issuer, config.client_metadata_url.as_deref(), &server)?;
    if !is_new {
        return Ok(());
    }
    if known.is_some() {
        let is_chosen = ["client_id", "client_registration"].iter().any(|key| args.settings.has(key));
        if !is_chosen {
            let hint = Hint::advice("register a client at the new issuer, and give its ID with --client-id");
            return Err(Error::msg(ErrorCode::Usage, format!("no client ID at {issuer} was given"), hint));
        }
        // The session is another issuer's; the confirmation is for this one.
        args.replace = true;
    }
    confirm(app, args, &found, &server.metadata).await
}

/// Returns a name for the profile of an API: its host, with its port and a number where that is taken.
fn new_name(api: &ApiUrl, config: &Config) -> ProfileName {
    let host = api.url().host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = api.url().port().map(|port| format!("-{port}")).unwrap_or_default();
    let safe: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let base: String = safe.trim_start_matches(['-', '.']).chars().take(50).chain(port.chars()).collect();
    let is_free = |name: &ProfileName| !matches!(config.existing(name), Ok(Some(_)) | Err(_));
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered).filter_map(|name| name.parse().ok());
    #[allow(clippy::expect_used, reason = "there are more names than profiles")]
    names.find(is_free).expect("a name is free")
}

/// Returns the issuer of the login: the profile's own if the API still names it, else the named one, else the only one, else the
/// one that the user chooses.
async fn choose_issuer(
    app: &App,
    args: &Login,
    known: Option<&Profile>,
    found: &DiscoveredApi,
) -> Result<IssuerUrl, Error> {
    let servers = found.servers();
    let is_named = |issuer: &IssuerUrl| {
        let same = |server: &IssuerUrl| server.as_str().trim_end_matches('/') == issuer.as_str().trim_end_matches('/');
        found.resource.is_none() || servers.iter().any(same)
    };
    let list = || servers.iter().map(IssuerUrl::as_str).collect::<Vec<_>>().join(", ");
    // An address that a stranger may have sent is not put into a command.
    let with_issuer = || {
        let hint = Hint::login().without_typed_options().with_option("--for", found.api.to_string());
        hint.after_advice("choose one of them, and add --issuer URL to")
    };
    if let Some(given) = args.settings.issuer() {
        return match is_named(&given) {
            true => Ok(given),
            false => {
                let message = format!("{} takes tokens of {}, not of {given}", found.api, list());
                Err(Error::msg(ErrorCode::IssuerMismatch, message, with_issuer()))
            }
        };
    }
    if let Some(known) = known {
        if is_named(&known.issuer) {
            return Ok(known.issuer.clone());
        }
        if !args.accept_new_issuer {
            let message = format!("the issuer of {} was {}, and the API now names {}", found.api, known.issuer, list());
            let hint = Hint::login().with_flag("--accept-new-issuer");
            let hint = hint.after_advice("if the API's operator has announced the change, accept the new issuer");
            return Err(Error::msg(ErrorCode::IssuerMismatch, message, hint));
        }
    }
    match &servers[..] {
        [] => Err(Error::msg(ErrorCode::Usage, format!("{} has no origin", found.api), Hint::login())),
        [only] => Ok(only.clone()),
        [first, ..] => {
            let ambiguous = || {
                let message = format!("{} takes tokens of several issuers: {}", found.api, list());
                Error::msg(ErrorCode::Usage, message, with_issuer())
            };
            if !app.ui().is_interactive() {
                return Err(ambiguous());
            }
            app.ui().instruct(&format!("{} takes tokens of several issuers:\n", found.api));
            for (index, server) in servers.iter().enumerate() {
                app.ui().instruct(&format!("  {}  {server}", index + 1));
            }
            let typed =
                app.ask(&format!("Issuer [1-{}; 1 is {first}]: ", servers.len())).await.ok_or_else(ambiguous)?;
            let number = if typed.is_empty() { Some(1) } else { typed.parse::<usize>().ok() };
            number.and_then(|number| servers.get(number.checked_sub(1)?)).cloned().ok_or_else(ambiguous)
        }
    }
}

/// Adds what the tokens are for: the resource that the API publishes, else its host, and the scopes.
fn add_target(args: &mut Login, known: Option<&Profile>, found: &DiscoveredApi) -> Result<(), Error> {
    let covers = |profile: &Profile| profile.coverage(&found.api).is_some();
    if !args.settings.has("resources") && !known.is_some_and(covers) {
        match &found.resource {
            Some(resource) => {
                let others = known.map(|known| known.resources.clone()).unwrap_or_default();
                args.settings
                    .set(setting("resources")?, others.into_iter().chain([resource.resource.clone()]).collect());
            }
            None => {
                let hosts = known.map(|known| known.hosts.clone()).unwrap_or_default();
                let own = found.api.url().as_str().parse::<ToolHost>();
                let own = own.map_err(|error| Error::new(ErrorCode::Usage, error, Hint::None))?;
                let hosts = hosts.iter().chain([&own]).map(ToString::to_string).collect();
                args.settings.set(setting("hosts")?, hosts);
            }
        }
    }
    if !args.settings.has("scopes") {
        let before = known.map(|known| known.scopes.clone()).unwrap_or_default();
        let challenged = found.challenge.as_ref().map(|challenge| challenge.scopes.as_slice()).unwrap_or_default();
        let wanted = if known.is_some() { challenged } else { found.scopes() };
        let new: Vec<String> = wanted.iter().filter(|scope| !before.contains(scope)).cloned().collect();
        if !new.is_empty() {
            args.settings.set(setting("scopes")?, before.into_iter().chain(new).collect());
        }
    }
    Ok(())
}

/// Adds the issuer, its endpoints if it publishes none, and whether its tokens are bound to a key. `known` is the profile if it
/// has this issuer.
fn add_server(
    args: &mut Login,
    known: Option<&Profile>,
    found: &DiscoveredApi,
    server: &DiscoveredServer,
) -> Result<(), Error> {
    let metadata = &server.metadata;
    let issuer = known.map_or(&metadata.issuer, |known| &known.issuer).to_string();
    args.settings.set(setting("issuer")?, vec![issuer]);
    if server.has_default_endpoints && !args.settings.has("token_endpoint") {
        for (key, url) in
            [("authorization_endpoint", &metadata.authorization_endpoint), ("token_endpoint", &metadata.token_endpoint)]
        {
            args.settings.set(setting(key)?, url.iter().map(ToString::to_string).collect());
        }
    }
    // Of an issuer that lists no usable algorithm, tokens cannot be bound (RFC 9449, section 5.1).
    let takes_only_bound =
        found.challenge.as_ref().is_some_and(|challenge| challenge.takes_only_dpop) && metadata.supports_dpop;
    let wants_bound = found.resource.as_ref().is_some_and(|resource| resource.requires_dpop) || takes_only_bound;
    let is_open = known.is_none_or(|known| known.server.dpop == Dpop::Auto);
    if wants_bound && is_open && !args.settings.has("dpop") {
        args.settings.set(setting("dpop")?, vec![Dpop::Always.to_string()]);
    }
    let offers_offline = metadata.scopes_supported.as_ref().is_some_and(|all| all.iter().any(|scope| scope == OFFLINE));
    if offers_offline
        && known.is_none()
        && let Some(scopes) = args.settings.get("scopes").map(<[String]>::to_vec)
        && !scopes.iter().any(|scope| scope == OFFLINE)
        && scopes == found.scopes()
    {
        args.settings.set(setting("scopes")?, scopes.into_iter().chain([OFFLINE.to_owned()]).collect());
    }
    let requests_offline = args.settings.get("scopes").is_some_and(|all| all.iter().any(|scope| scope == OFFLINE));
    if requests_offline && known.is_none() && args.prompt.is_none() && !args.settings.has("authorization_parameters") {
        // Without it the scope is ignored (OpenID Connect Core 1.0, section 11).
        args.settings.set(setting("authorization_parameters")?, vec!["prompt=consent".to_owned()]);
    }
    Ok(())
}

/// Chooses the client: the user's or the profile's own; else the one of a client ID metadata document, where the issuer takes one;
/// else one that is registered dynamically. Without any of them the plan of the login asks for the client ID.
fn add_client(
    args: &mut Login,
    known: Option<&Profile>,
    metadata_url: Option<&str>,
    server: &DiscoveredServer,
) -> Result<(), Error> {
    let document = args.client_metadata_url.as_deref().or(metadata_url);
    if args.settings.has("client_id") || known.is_some() && args.client_metadata_url.is_none() {
        return Ok(());
    }
    match document.filter(|_| server.metadata.client_id_metadata_document_supported) {
        Some(url) => args.settings.set(setting("client_id")?, vec![url.to_owned()]),
        None if server.metadata.registration_endpoint.is_some() => {
            args.settings.set(setting("client_registration")?, vec![ClientRegistration::Dynamic.to_string()]);
        }
        None => {}
    }
    Ok(())
}

/// Shows what the first login for an API is about, and asks whether to go on.
async fn confirm(app: &App, args: &Login, found: &DiscoveredApi, metadata: &Metadata) -> Result<(), Error> {
    let issuer = &metadata.issuer;
    if !args.yes && !app.ui().is_interactive() {
        let message = format!("the first login for {} at {issuer} has to be confirmed", found.api);
        return Err(Error::msg(ErrorCode::LoginRequired, message, Hint::login().with_flag("--yes")));
    }
    let scopes = args.settings.get("scopes").map(|scopes| scopes.join(" ")).unwrap_or_default();
    let redirect = args.settings.get("redirect_uri").and_then(|items| items.first().cloned());
    let redirect = redirect.unwrap_or_else(|| crate::model::RedirectUri::default().to_string());
    let client = match args.settings.get("client_id").and_then(<[String]>::first) {
        Some(id) => id.clone(),
        None if args.settings.has("client_registration") => "registered at the issuer by this login".to_owned(),
        None if app.ui().is_interactive() => "your client ID, asked for next".to_owned(),
        None => "missing".to_owned(),
    };
    let rows = [
        ("API", found.api.to_string()),
        ("issuer", issuer.to_string()),
        ("scopes", if scopes.is_empty() { "none; the issuer decides".to_owned() } else { scopes }),
        ("redirect", redirect),
        ("client", client),
    ];
    app.ui().instruct("First login for this API:\n");
    for (label, value) in rows {
        app.ui().instruct(&format!("  {label:<9} {value}"));
    }
    app.ui().instruct("");
    if args.yes || app.confirm("Log in there?").await == Some(true) {
        return Ok(());
    }
    Err(Error::msg(ErrorCode::Interrupted, format!("not logged in for {}", found.api), Hint::None))
}
