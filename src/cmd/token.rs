//! `authctl token`: prints a valid access token and nothing else.

use super::output;
use crate::agent::protocol::{TokenAnswer, TokenReply, query_of};
use crate::app::App;
use crate::cli::{For, Token};
use crate::clock::UnixTime;
use crate::error::Error;
use crate::model::{MinTtl, Profile, Session, TokenTarget, canonical_type};
use crate::secret::Secret;
use crate::session::{Demand, IdTokenStanding, LoginReason, ServedToken, SessionError, SessionService};
use crate::verify::unverified_claims;

impl From<&For> for TokenTarget {
    fn from(asked: &For) -> Self {
        Self::new(asked.audience.clone(), &asked.scopes, &asked.resources)
    }
}

/// Runs the command.
#[inline(never)]
pub fn run(app: &App, args: &Token) -> Result<u8, Error> {
    if !args.id_token
        && let Some(token) = app.handed_in(args.profile.as_ref())?
    {
        let answer = TokenAnswer {
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
    alone(app, args)
}

/// Without an agent. Apart from what is done with one, which has no use for so large a stack.
#[inline(never)]
fn alone(app: &App, args: &Token) -> Result<u8, Error> {
    let profile = app.profile(args.profile.as_ref())?;
    let sessions = app.sessions()?;
    if args.id_token {
        let (token, session) = app.run(id_token(app, &profile, args))?;
        let ends = expiry(&token);
        let answer = TokenAnswer {
            profile: Some(&profile.name),
            access_token: None,
            id_token: Some(token.expose()),
            token_type: "Bearer",
            expires_at: ends,
            expires_in: ends.map(|end| app.clock().now().until(end).as_secs()),
            scope: session.tokens.scope.as_deref(),
            issuer: Some(profile.issuer.as_str()),
        };
        return print(app, args, &token, &answer);
    }
    let asked = profile.narrowed((&args.asked).into());
    let min_ttl = args.min_ttl.map_or(MinTtl::Default, MinTtl::AtLeast);
    let served = app.run(async {
        let refresh = sessions.token(&profile, &asked, Demand::ValidFor(min_ttl));
        app.patiently(profile.issuer.as_str(), refresh).await.map_err(|e| Error::from(e).about(&profile.name))
    })?;
    tell_trouble(app, &profile, &served);
    let tokens = &served.tokens;
    let answer = TokenAnswer {
        profile: Some(&profile.name),
        access_token: Some(tokens.access_token.expose()),
        id_token: None,
        token_type: canonical_type(&tokens.token_type),
        expires_at: tokens.expires_at,
        expires_in: tokens.expires_at.map(|end| app.clock().now().until(end).as_secs()),
        scope: tokens.scope.as_deref(),
        issuer: Some(profile.issuer.as_str()),
    };
    print(app, args, &tokens.access_token, &answer)
}

/// Asks the agent, which knows the default profile itself: no configuration is read here, no store and no runtime.
fn through_agent(app: &App, args: &Token) -> Result<Option<u8>, Error> {
    let named = app.named(args.profile.as_ref())?;
    let verb = if args.id_token { "id-token" } else { "token" };
    let name = named.map(|name| format!("/{name}")).unwrap_or_default();
    let query = query_of(&(&args.asked).into(), args.min_ttl.map(|ttl| ttl.as_secs()));
    let reply: Option<TokenReply> = app.ask_agent("GET", &format!("/v1/{verb}{name}{query}"), None)?;
    let Some(reply) = reply else { return Ok(None) };
    let Some(token) = reply.access_token.as_ref().or(reply.id_token.as_ref()) else { return Ok(None) };
    let answer = TokenAnswer {
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

/// The ID token, refreshed first if it is over.
async fn id_token(app: &App, profile: &Profile, args: &Token) -> Result<(Secret, Session), Error> {
    let sessions = app.sessions()?;
    let about = |e: SessionError| Error::from(e).about(&profile.name);
    let standing = |session: &Session| {
        SessionService::id_token_standing(session, app.clock().now(), args.min_ttl.unwrap_or_default())
    };
    let mut session = sessions.session(profile).await.map_err(about)?;
    let mut trouble = None;
    if let IdTokenStanding::Due(_) = standing(&session) {
        let plain = TokenTarget::default();
        let refresh = sessions.token(profile, &plain, Demand::New);
        match app.patiently(profile.issuer.as_str(), refresh).await {
            Ok(served) => session = served.session,
            Err(error) => trouble = Some(about(error)),
        }
    }
    match standing(&session) {
        IdTokenStanding::Good(_) | IdTokenStanding::Last(_) | IdTokenStanding::Due(Some(_)) => {}
        IdTokenStanding::Absent => return Err(about(SessionError::LoginRequired(LoginReason::NoIdToken))),
        IdTokenStanding::Due(None) | IdTokenStanding::Over => {
            return Err(trouble.unwrap_or_else(|| about(SessionError::LoginRequired(LoginReason::IdTokenOver))));
        }
    }
    match session.tokens.id_token.clone() {
        Some(token) => Ok((token, session)),
        None => Err(about(SessionError::LoginRequired(LoginReason::NoIdToken))),
    }
}

/// When a token ends by its own words.
fn expiry(token: &Secret) -> Option<UnixTime> {
    unverified_claims(token.expose()).and_then(|claims| claims.exp)
}

/// Tells that a token is handed out though its refresh failed.
pub(super) fn tell_trouble(app: &App, profile: &Profile, served: &ServedToken) {
    if let Some(trouble) = &served.trouble {
        tracing::info!("{}: not refreshed, still valid: {trouble}", profile.name);
        if let SessionError::LoginRequired(reason) = trouble {
            app.ui().tell(&format!(
                "authctl: {reason}; this token is valid until it expires, then run `authctl login {}`",
                profile.name
            ));
        }
    }
}

fn print(app: &App, args: &Token, token: &Secret, answer: &TokenAnswer) -> Result<u8, Error> {
    if app.common.json {
        output::json(answer)?;
    } else if args.header {
        output::line(&format!("Authorization: {} {}", answer.token_type, token.expose()))?;
    } else {
        output::line(token.expose())?;
    }
    Ok(0)
}
