//! `authctl token`: prints a valid access token and nothing else.

use super::output;
use super::own_frame::in_own_frame;
use crate::agent::protocol::{ReceivedToken, TokenResponse, token_query};
use crate::app::App;
use crate::cli::{TargetArgs, Token};
use crate::clock::UnixTime;
use crate::error::Error;
use crate::model::{Profile, TokenTarget, canonical_type};
use crate::secret::Secret;
use crate::session::{MinTtl, ServedToken, SessionError, TokenRequest};
use crate::verify::unverified_claims;

impl From<&TargetArgs> for TokenTarget {
    fn from(target: &TargetArgs) -> Self {
        Self::new(target.audience.clone(), &target.scopes, &target.resources)
    }
}

/// Runs the command.
pub fn run(app: &App, args: &Token) -> Result<u8, Error> {
    if args.refresh_only {
        return in_own_frame(refresh_only, app, args);
    }
    if !args.id_token
        && let Some(token) = app.supplied_token(args.profile.as_ref())?
    {
        let answer = TokenResponse {
            profile: None,
            access_token: Some(token.expose()),
            id_token: None,
            token_type: "Bearer",
            expires_at: expiry(token),
            expires_in: expiry(token).map(|end| app.clock().now().until(end).as_secs()),
            scope: None,
            issuer: None,
        };
        return print(app, args, token, &answer);
    }
    if let Some(done) = through_agent(app, args)? {
        return Ok(done);
    }
    in_own_frame(without_agent, app, args)
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
        app.sessions()?.wait_for_token(&profile, &request).await.map_err(|e| Error::from(e).about(&profile.name))
    })?;
    Ok(0)
}

/// Serves the token from the store, refreshed first if necessary.
fn without_agent(app: &App, args: &Token) -> Result<u8, Error> {
    let profile = app.profile(args.profile.as_ref())?;
    let request = request(&profile, args);
    let served = app.run(app.token_within_limit(&profile, &request))?;
    let tokens = served.session.token_for(&request.target()).unwrap_or(&served.session.tokens);
    let (token, expires_at) = match &served.session.tokens.id_token {
        Some(id_token) if args.id_token => (id_token, expiry(id_token)),
        _ => (&tokens.access_token, tokens.expires_at),
    };
    if !args.id_token {
        report_warning(app, &profile, &served);
    }
    let answer = TokenResponse {
        profile: Some(&profile.name),
        access_token: (!args.id_token).then(|| token.expose()),
        id_token: args.id_token.then(|| token.expose()),
        token_type: if args.id_token { "Bearer" } else { canonical_type(&tokens.token_type) },
        expires_at,
        expires_in: expires_at.map(|end| app.clock().now().until(end).as_secs()),
        scope: tokens.scope.as_deref(),
        issuer: Some(profile.issuer.as_str()),
    };
    print(app, args, token, &answer)
}

/// Asks the agent, which knows the default profile: neither the configuration nor a store is read here, and no runtime starts.
fn through_agent(app: &App, args: &Token) -> Result<Option<u8>, Error> {
    let named = app.profile_name(args.profile.as_ref())?;
    let path = if args.id_token { "id-token" } else { "token" };
    let name = named.map(|name| format!("/{name}")).unwrap_or_default();
    let query = token_query(&(&args.target).into(), args.min_ttl.map(|ttl| ttl.as_secs()));
    let reply: Option<ReceivedToken> = app.try_agent("GET", &format!("/v1/{path}{name}{query}"), None)?;
    let Some(reply) = reply else { return Ok(None) };
    let Some(token) = reply.access_token.as_ref().or(reply.id_token.as_ref()) else { return Ok(None) };
    let answer = TokenResponse {
        profile: reply.profile.as_ref(),
        access_token: reply.access_token.as_ref().map(Secret::expose),
        id_token: reply.id_token.as_ref().map(Secret::expose),
        token_type: &reply.token_type,
        expires_at: reply.expires_at,
        expires_in: reply.expires_in,
        scope: reply.scope.as_deref(),
        issuer: reply.issuer.as_deref(),
    };
    print(app, args, token, &answer).map(Some)
}

/// Returns the expiry that a JWT contains.
fn expiry(token: &Secret) -> Option<UnixTime> {
    unverified_claims(token.expose()).and_then(|claims| claims.exp)
}

/// Reports that a token is served though it could not be refreshed.
pub(super) fn report_warning(app: &App, profile: &Profile, served: &ServedToken) {
    let Some(warning) = &served.warning else { return };
    tracing::info!("{}: not refreshed, the token is still valid: {warning}", profile.name);
    if let SessionError::LoginRequired(reason) = warning {
        app.ui().notice(&format!(
            "warning: {reason}; the token is valid until it expires, then run `authctl login {}`",
            profile.name
        ));
    }
}

fn print(app: &App, args: &Token, token: &Secret, answer: &TokenResponse) -> Result<u8, Error> {
    if app.common.json {
        output::json(answer)?;
    } else if args.header {
        output::data(&format!("Authorization: {} {}", answer.token_type, token.expose()))?;
    } else {
        output::data(token.expose())?;
    }
    Ok(0)
}
