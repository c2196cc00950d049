//! `authctl token`: prints a valid access token and nothing else.

use serde::Serialize;

use super::output;
use crate::app::App;
use crate::broker::{BrokerError, LoginReason, Need, Served};
use crate::cli::{For, Token};
use crate::clock::UnixTime;
use crate::failure::Failure;
use crate::model::{IssuerUrl, MinTtl, Profile, ProfileName, TokenFor};
use crate::secret::Secret;
use crate::verify::unverified_claims;

/// `token --json`, and the agent's answer.
#[derive(Serialize)]
struct Answer<'a> {
    profile: Option<&'a ProfileName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    token_type: &'a str,
    expires_at: Option<UnixTime>,
    expires_in: Option<u64>,
    scope: Option<&'a str>,
    issuer: Option<&'a IssuerUrl>,
}

impl From<&For> for TokenFor {
    fn from(asked: &For) -> Self {
        let sorted = |list: &[String]| {
            let mut list: Vec<String> = list.iter().filter(|item| !item.is_empty()).cloned().collect();
            list.sort();
            list.dedup();
            list
        };
        Self { audience: asked.audience.clone(), scopes: sorted(&asked.scopes), resources: sorted(&asked.resources) }
    }
}

/// Runs the command.
pub fn run(app: &App, args: &Token) -> Result<u8, Failure> {
    if !args.id_token
        && let Some(token) = app.handed_in(args.profile.as_ref())?
    {
        let answer = Answer {
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
    let profile = app.profile(args.profile.as_ref())?;
    let broker = app.broker()?;
    if args.id_token {
        let (token, served) = app.run(id_token(app, &profile, args))?;
        let ends = expiry(&token);
        let answer = Answer {
            profile: Some(&profile.name),
            access_token: None,
            id_token: Some(token.expose()),
            token_type: "Bearer",
            expires_at: ends,
            expires_in: ends.map(|end| app.clock().now().until(end).as_secs()),
            scope: served.tokens.scope.as_deref(),
            issuer: Some(&profile.issuer),
        };
        return print(app, args, &token, &answer);
    }
    let asked = narrowed(&profile, &args.asked);
    let min_ttl = args.min_ttl.map_or(MinTtl::Default, MinTtl::AtLeast);
    let served = app.run(async {
        let renewal = broker.token(&profile, &asked, Need::Life(min_ttl));
        app.patiently(profile.issuer.as_str(), renewal).await.map_err(|e| Failure::from(e).about(&profile.name))
    })?;
    tell_trouble(app, &profile, &served);
    let tokens = &served.tokens;
    let answer = Answer {
        profile: Some(&profile.name),
        access_token: Some(tokens.access_token.expose()),
        id_token: None,
        token_type: canonical(&tokens.token_type),
        expires_at: tokens.expires_at,
        expires_in: tokens.expires_at.map(|end| app.clock().now().until(end).as_secs()),
        scope: tokens.scope.as_deref(),
        issuer: Some(&profile.issuer),
    };
    print(app, args, &tokens.access_token, &answer)
}

/// What is asked for beyond the profile's own request; asking for just that is asking for nothing more.
fn narrowed(profile: &Profile, asked: &For) -> TokenFor {
    let asked = TokenFor::from(asked);
    let mut own = profile.own_request();
    own.scopes.sort();
    own.resources.sort();
    let same = asked.audience.as_ref().is_none_or(|a| Some(a) == own.audience.as_ref())
        && (asked.scopes.is_empty() || asked.scopes == own.scopes)
        && (asked.resources.is_empty() || asked.resources == own.resources);
    if same { TokenFor::default() } else { asked }
}

/// The ID token, renewed first if it is over.
async fn id_token(app: &App, profile: &Profile, args: &Token) -> Result<(Secret, Served), Failure> {
    let broker = app.broker()?;
    let about = |e: BrokerError| Failure::from(e).about(&profile.name);
    let needed = args.min_ttl.unwrap_or_default();
    let alive = |served: &Served| {
        let token = served.session.tokens.id_token.as_ref()?;
        let end = expiry(token)?;
        (end > app.clock().now().plus(needed)).then(|| token.clone())
    };
    let plain = TokenFor::default();
    let served = broker.token(profile, &plain, Need::Life(MinTtl::Default)).await.map_err(about)?;
    if served.session.tokens.id_token.is_none() {
        return Err(about(BrokerError::LoginRequired(LoginReason::NoIdToken)));
    }
    if let Some(token) = alive(&served) {
        return Ok((token, served));
    }
    let served =
        app.patiently(profile.issuer.as_str(), broker.token(profile, &plain, Need::New)).await.map_err(about)?;
    match alive(&served) {
        Some(token) => Ok((token, served)),
        None => Err(about(BrokerError::LoginRequired(LoginReason::IdTokenOver))),
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

/// `bearer` in any case is `Bearer` (RFC 6749, section 5.1).
fn canonical(token_type: &str) -> &str {
    if token_type.eq_ignore_ascii_case("bearer") { "Bearer" } else { token_type }
}

fn print(app: &App, args: &Token, token: &Secret, answer: &Answer) -> Result<u8, Failure> {
    if app.common.json {
        output::json(answer)?;
    } else if args.header {
        output::line(&format!("Authorization: {} {}", answer.token_type, token.expose()))?;
    } else {
        output::line(token.expose())?;
    }
    Ok(0)
}
