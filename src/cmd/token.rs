//! `authctl token`: prints a valid access token and nothing else.

use super::output;
use crate::agent::{TokenAnswer, TokenReply, query_of};
use crate::app::App;
use crate::broker::{Broker, BrokerError, IdTokenStanding, LoginReason, Need, Served};
use crate::cli::{For, Token};
use crate::clock::UnixTime;
use crate::failure::Failure;
use crate::model::{MinTtl, Profile, Session, TokenFor, canonical_type};
use crate::secret::Secret;
use crate::verify::unverified_claims;

impl From<&For> for TokenFor {
    fn from(asked: &For) -> Self {
        Self::new(asked.audience.clone(), &asked.scopes, &asked.resources)
    }
}

/// Runs the command.
#[inline(never)]
pub fn run(app: &App, args: &Token) -> Result<u8, Failure> {
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
fn alone(app: &App, args: &Token) -> Result<u8, Failure> {
    let profile = app.profile(args.profile.as_ref())?;
    let broker = app.broker()?;
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
        let renewal = broker.token(&profile, &asked, Need::Life(min_ttl));
        app.patiently(profile.issuer.as_str(), renewal).await.map_err(|e| Failure::from(e).about(&profile.name))
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
fn through_agent(app: &App, args: &Token) -> Result<Option<u8>, Failure> {
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

/// The ID token, renewed first if it is over.
async fn id_token(app: &App, profile: &Profile, args: &Token) -> Result<(Secret, Session), Failure> {
    let broker = app.broker()?;
    let about = |e: BrokerError| Failure::from(e).about(&profile.name);
    let standing =
        |session: &Session| Broker::id_token_standing(session, app.clock().now(), args.min_ttl.unwrap_or_default());
    let mut session = broker.session(profile).await.map_err(about)?;
    let mut trouble = None;
    if let IdTokenStanding::Due(_) = standing(&session) {
        let plain = TokenFor::default();
        let renewal = broker.token(profile, &plain, Need::New);
        match app.patiently(profile.issuer.as_str(), renewal).await {
            Ok(served) => session = served.session,
            Err(error) => trouble = Some(about(error)),
        }
    }
    match standing(&session) {
        IdTokenStanding::Good(_) | IdTokenStanding::Last(_) | IdTokenStanding::Due(Some(_)) => {}
        IdTokenStanding::Absent => return Err(about(BrokerError::LoginRequired(LoginReason::NoIdToken))),
        IdTokenStanding::Due(None) | IdTokenStanding::Over => {
            return Err(trouble.unwrap_or_else(|| about(BrokerError::LoginRequired(LoginReason::IdTokenOver))));
        }
    }
    match session.tokens.id_token.clone() {
        Some(token) => Ok((token, session)),
        None => Err(about(BrokerError::LoginRequired(LoginReason::NoIdToken))),
    }
}

/// When a token ends by its own words.
fn expiry(token: &Secret) -> Option<UnixTime> {
    unverified_claims(token.expose()).and_then(|claims| claims.exp)
}

/// Tells that a token is handed out though its renewal failed.
pub(super) fn tell_trouble(app: &App, profile: &Profile, served: &Served) {
    if let Some(trouble) = &served.trouble {
        tracing::info!("{}: not renewed, still valid: {trouble}", profile.name);
        if let BrokerError::LoginRequired(reason) = trouble {
            app.ui().tell(&format!(
                "authctl: {reason}; this token is valid until it expires, then run `authctl login {}`",
                profile.name
            ));
        }
    }
}

fn print(app: &App, args: &Token, token: &Secret, answer: &TokenAnswer) -> Result<u8, Failure> {
    if app.common.json {
        output::json(answer)?;
    } else if args.header {
        output::line(&format!("Authorization: {} {}", answer.token_type, token.expose()))?;
    } else {
        output::line(token.expose())?;
    }
    Ok(0)
}
