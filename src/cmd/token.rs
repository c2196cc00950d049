//! `authctl token`: prints a valid access token and nothing else.

mod challenge;

use std::time::Duration;

use super::output::{self, span};
use super::own_frame::in_own_frame;
use crate::agent::protocol::{ReceivedToken, TokenResponse, token_query};
use crate::app::App;
use crate::cli::{TargetArgs, Token};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName, TokenTarget, is_dpop};
use crate::secret::Secret;
use crate::session::{MinTtl, SessionService, TokenRequest};
use crate::verify::unverified_claims;

impl From<&TargetArgs> for TokenTarget {
    fn from(target: &TargetArgs) -> Self {
        Self::new(target.audience.clone(), &target.scopes, &target.resources)
    }
}

/// What is done with the token: printed, or given to a tool.
type Use<'a> = &'a dyn Fn(&App, &Token, &TokenResponse<'_>) -> Result<u8, Error>;

/// Runs the command.
pub fn run(app: &App, args: &Token) -> Result<u8, Error> {
    if args.refresh_only {
        return in_own_frame(refresh_only, app, args);
    }
    match &args.api {
        Some(api) => for_api(app, args, api, &print),
        None => with_token(app, args, &print),
    }
}

/// Calls `usage` with a valid token for `api`, after what helps if the API has refused one; returns its exit code.
///
/// # Errors
/// As `authctl token --for`.
pub(super) fn for_api(app: &App, args: &Token, api: &ApiUrl, usage: Use<'_>) -> Result<u8, Error> {
    let profile = app.profile_for(api, args.profile.as_ref())?;
    let typed = TokenTarget::from(&args.target);
    let target = profile.narrowed(if typed.is_plain() { profile.request_for(api) } else { typed });
    if let Some(file) = &args.challenge {
        challenge::answer(app, &profile, api, &target, &super::challenge::read(file)?)?;
    }
    let TokenTarget { audience, scopes, resources } = target;
    let target = TargetArgs { audience, scopes, resources };
    let args =
        Token { profile: Some(profile.name), target, min_ttl: args.min_ttl, header: args.header, ..Token::default() };
    with_token(app, &args, usage)
}

/// Returns the token of a response, if it can be sent.
///
/// # Errors
/// [`ErrorCode::Unexpected`] if it has characters that a header or a tool's protocol cannot contain.
pub(super) fn sendable<'a>(response: &TokenResponse<'a>) -> Result<&'a str, Error> {
    let token = response.access_token.or(response.id_token).unwrap_or_default();
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token),
        false => Err(Error::msg(ErrorCode::Unexpected, "the token has characters that no tool can send", Hint::None)),
    }
}

/// Calls `usage` with a valid token, refreshed first if necessary; returns its exit code.
///
/// # Errors
/// As `authctl token`.
pub(super) fn with_token(app: &App, args: &Token, usage: Use<'_>) -> Result<u8, Error> {
    if !args.id_token
        && let Some(token) = app.supplied_token(args.profile.as_ref())?
    {
        let response = TokenResponse {
            profile: None,
            access_token: Some(token.expose()),
            id_token: None,
            token_type: "Bearer",
            expires_at: expiry(&token),
            expires_in: expiry(&token).map(|end| app.clock().now().until(end).as_secs()),
            scope: None,
            issuer: None,
            warning: None,
        };
        return usage(app, args, &response);
    }
    if let Some(done) = through_agent(app, args, usage)? {
        return Ok(done);
    }
    in_own_frame(without_agent, app, (args, usage))
}

fn request(profile: &Profile, args: &Token) -> TokenRequest {
    let min_ttl = args.min_ttl.map(MinTtl::AtLeast);
    match args.id_token {
        true => TokenRequest::id_token(min_ttl),
        false => TokenRequest::access(profile.narrowed((&args.target).into()), min_ttl),
    }
}

/// Refreshes to the end, detached from the terminal and the process group of the command that started this one.
fn refresh_only(app: &App, args: &Token) -> Result<u8, Error> {
    let _ = rustix::process::setsid();
    let profile = app.profile(args.profile.as_ref())?;
    let request = request(&profile, args);
    app.run(async {
        app.sessions()?.wait_for_token(&profile, &request).await.map_err(|e| Error::of_token(e, &profile.name))
    })?;
    Ok(0)
}

/// Serves the token from the store, refreshed first if necessary.
fn without_agent(app: &App, (args, usage): (&Token, Use<'_>)) -> Result<u8, Error> {
    let profile = app.profile(args.profile.as_ref())?;
    let request = request(&profile, args);
    let served = app.run(app.token_within_limit(&profile, &request))?;
    let response = SessionService::token_response(
        &profile,
        &served.session,
        &request.token,
        served.warning.as_ref(),
        app.clock().now(),
    );
    usage(app, args, &response.map_err(|e| Error::of_token(e, &profile.name))?)
}

/// Asks the agent, which knows the default profile: neither the configuration nor a store is read here, and no runtime starts.
fn through_agent(app: &App, args: &Token, usage: Use<'_>) -> Result<Option<u8>, Error> {
    let named = app.profile_name(args.profile.as_ref())?;
    let path = if args.id_token { "id-token" } else { "token" };
    let name = named.map(|name| format!("/{name}")).unwrap_or_default();
    let query = token_query(&(&args.target).into(), args.min_ttl.map(|ttl| ttl.as_secs()));
    let reply: Option<ReceivedToken> = app.try_agent("GET", &format!("/v1/{path}{name}{query}"), None)?;
    let Some(reply) = reply else { return Ok(None) };
    if reply.access_token.is_none() && reply.id_token.is_none() {
        return Ok(None);
    }
    let response = TokenResponse {
        profile: reply.profile.as_ref(),
        access_token: reply.access_token.as_ref().map(Secret::expose),
        id_token: reply.id_token.as_ref().map(Secret::expose),
        token_type: &reply.token_type,
        expires_at: reply.expires_at,
        expires_in: reply.expires_in,
        scope: reply.scope.as_deref(),
        issuer: reply.issuer.as_deref(),
        warning: reply.warning,
    };
    usage(app, args, &response).map(Some)
}

/// Returns an error for an access token that is bound to a key: no server accepts it without proofs of the key.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub(super) fn require_bearer(app: &App, profile: Option<&ProfileName>, token_type: &str) -> Result<(), Error> {
    let Some(profile) = profile.filter(|_| is_dpop(token_type)) else { return Ok(()) };
    let message =
        format!("the access token of `{profile}` is bound to a key (DPoP), so a program cannot send it by itself");
    let configured = app.profile(Some(profile)).ok();
    let hint = match configured.as_ref().and_then(|configured| configured.resources.first()) {
        Some(resource) => Hint::profile_command("headers").with_option("--for", resource).about(profile),
        None => Hint::profile_command("token").about(profile).with_flag("--json"),
    };
    Err(Error::msg(ErrorCode::Usage, message, hint))
}

/// Returns the expiry that a JWT contains.
fn expiry(token: &Secret) -> Option<UnixTime> {
    unverified_claims(token.expose()).and_then(|claims| claims.exp)
}

/// Reports that a login is required soon: a token is served that cannot be refreshed.
pub(super) fn report_warning(app: &App, profile: &ProfileName, warning: &str) {
    let login = app.next_command(Hint::login().about(profile));
    app.ui().warn(&format!("{warning}; the token is valid until it expires, then run `{login}`"));
}

fn print(app: &App, args: &Token, response: &TokenResponse) -> Result<u8, Error> {
    if let (Some(profile), Some(warning)) = (response.profile, &response.warning) {
        report_warning(app, profile, warning);
    } else if let (Some(wanted), Some(left)) = (args.min_ttl, response.expires_in)
        && left < wanted.as_secs()
    {
        let (left, wanted) = (span(Duration::from_secs(left)), span(wanted));
        app.ui().warn(&format!("the token expires in {left}, sooner than --min-ttl requires ({wanted})"));
    }
    let token = response.access_token.or(response.id_token).unwrap_or_default();
    if app.common.json {
        output::json(response)?;
        return Ok(0);
    }
    require_bearer(app, response.profile, response.token_type)?;
    if args.header {
        output::data(&format!("Authorization: {} {token}", response.token_type))?;
    } else {
        output::data(token)?;
    }
    Ok(0)
}
