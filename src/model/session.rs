//! A session: all that a login leaves behind for a profile, and its form in a store.

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use super::{ErrorCode, Grant, IssuerUrl, TokenSet};
use crate::clock::UnixTime;
use crate::secret::{Secret, SecretBytes};

/// Which writing of a session this is. A refresh commits only over the generation that it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Drawn at random at each login, so that two logins are never taken for each other.
    pub login: String,
    /// Counts the refreshes since that login.
    pub number: u64,
}

impl Generation {
    /// The generation that a refresh of this one writes.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { login: self.login.clone(), number: self.number.saturating_add(1) }
    }
}

/// Who a session belongs to, from a verified ID token or userinfo, else from the access token's own claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The `sub` claim, unique at its issuer.
    pub sub: String,
    /// A name for people: `preferred_username`, `email` or `name`.
    pub name: Option<String>,
}

/// A refresh that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFailure {
    /// When it failed.
    pub at: UnixTime,
    /// How many refreshes in a row have failed, this one included.
    #[serde(default)]
    pub failures: u32,
    /// What failed; a caller that shares the failure exits with its exit code.
    pub code: ErrorCode,
    /// One line for people, without secrets.
    pub message: String,
    /// Not before this moment is another try of use (`Retry-After`, RFC 9110, section 10.2.3).
    pub retry_at: Option<UnixTime>,
}

/// What a token was asked for besides the profile's own request. Tokens for different requests are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenTarget {
    /// The `audience` parameter.
    pub audience: Option<String>,
    /// The scopes, sorted.
    pub scopes: Vec<String>,
    /// The resource indicators (RFC 8707), sorted.
    pub resources: Vec<String>,
}

impl TokenTarget {
    /// A request with its scopes and resources in order and without repetition, so that the same is asked for once.
    #[must_use]
    pub fn new(audience: Option<String>, scopes: &[String], resources: &[String]) -> Self {
        let sorted = |list: &[String]| {
            let mut list: Vec<String> = list.iter().filter(|item| !item.is_empty()).cloned().collect();
            list.sort();
            list.dedup();
            list
        };
        Self { audience, scopes: sorted(scopes), resources: sorted(resources) }
    }

    /// Whether nothing but the profile's own request is meant.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A token got from the same session for another audience, scope or resource.
#[derive(Clone, Debug)]
pub struct AnotherToken {
    /// What it was asked for.
    pub asked: TokenTarget,
    /// The token. Never holds a refresh token: that is the session's own.
    pub tokens: TokenSet,
}

/// What a login leaves behind.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which writing this is.
    pub generation: Generation,
    /// The issuer that gave it. A profile that names another issuer does not use it.
    pub issuer: IssuerUrl,
    /// The client it was given to.
    pub client_id: String,
    /// How it was got, which says how it is refreshed.
    pub grant: Grant,
    /// Whose it is, where known.
    pub subject: Option<Subject>,
    /// The tokens for the profile's own request.
    pub tokens: TokenSet,
    /// Tokens for other requests, the latest last; at most [`Session::MAX_OTHERS`].
    pub others: Vec<AnotherToken>,
    /// A confidential client's secret.
    pub client_secret: Option<Secret>,
    /// The resources that the login asked for (RFC 8707): a refresh token is good for these alone. Empty where it named
    /// none, which leaves it to the issuer.
    pub resources: Vec<String>,
    /// When the login was.
    pub logged_in_at: UnixTime,
    /// When it was last refreshed.
    pub refreshed_at: Option<UnixTime>,
    /// Set before a refresh token is sent and cleared once the reply is stored: where it is found set, nobody knows
    /// whether the issuer has spent the token.
    pub refreshing_since: Option<UnixTime>,
    /// The last refresh that failed since the last that did not.
    pub last_failure: Option<RefreshFailure>,
    /// Set when the issuer said that the session is over (`invalid_grant`). The access token may still have life.
    pub ended: Option<RefreshFailure>,
}

/// A stored session that cannot be read. Says where, never what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionFormatError {
    /// Written by a version of authctl that this one does not know.
    #[error("the stored session has format {0}, which this version of authctl does not know")]
    Version(u64),
    /// Not a session.
    #[error("the stored session is damaged at line {line}, column {column}")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
}

/// The stored form's version. A reader refuses any other.
const FORMAT: u64 = 1;

/// The stored form. Borrowed on the way out, so that no second copy of a secret is made besides the bytes themselves.
#[derive(Serialize)]
struct Out<'a> {
    format: u64,
    generation: &'a Generation,
    issuer: &'a IssuerUrl,
    client_id: &'a str,
    grant: Grant,
    subject: &'a Option<Subject>,
    tokens: TokensOut<'a>,
    others: Vec<OtherOut<'a>>,
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    resources: &'a [String],
    logged_in_at: UnixTime,
    refreshed_at: Option<UnixTime>,
    refreshing_since: Option<UnixTime>,
    last_failure: &'a Option<RefreshFailure>,
    ended: &'a Option<RefreshFailure>,
}

#[derive(Serialize)]
struct TokensOut<'a> {
    access_token: &'a str,
    token_type: &'a str,
    refresh_token: Option<&'a str>,
    id_token: Option<&'a str>,
    obtained_at: UnixTime,
    expires_at: Option<UnixTime>,
    scope: Option<&'a str>,
}

#[derive(Serialize)]
struct OtherOut<'a> {
    asked: &'a TokenTarget,
    tokens: TokensOut<'a>,
}

impl<'a> TokensOut<'a> {
    fn of(tokens: &'a TokenSet) -> Self {
        Self {
            access_token: tokens.access_token.expose(),
            token_type: &tokens.token_type,
            refresh_token: tokens.refresh_token.as_ref().map(Secret::expose),
            id_token: tokens.id_token.as_ref().map(Secret::expose),
            obtained_at: tokens.obtained_at,
            expires_at: tokens.expires_at,
            scope: tokens.scope.as_deref(),
        }
    }
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

#[derive(Deserialize)]
struct In {
    generation: Generation,
    issuer: IssuerUrl,
    client_id: String,
    grant: Grant,
    subject: Option<Subject>,
    tokens: TokensIn,
    others: Vec<OtherIn>,
    client_secret: Option<Secret>,
    #[serde(default)]
    resources: Vec<String>,
    logged_in_at: UnixTime,
    refreshed_at: Option<UnixTime>,
    refreshing_since: Option<UnixTime>,
    last_failure: Option<RefreshFailure>,
    ended: Option<RefreshFailure>,
}

#[derive(Deserialize)]
struct TokensIn {
    access_token: Secret,
    token_type: String,
    refresh_token: Option<Secret>,
    id_token: Option<Secret>,
    obtained_at: UnixTime,
    expires_at: Option<UnixTime>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct OtherIn {
    asked: TokenTarget,
    tokens: TokensIn,
}

impl From<TokensIn> for TokenSet {
    fn from(stored: TokensIn) -> Self {
        Self {
            access_token: stored.access_token,
            token_type: stored.token_type,
            refresh_token: stored.refresh_token,
            id_token: stored.id_token,
            obtained_at: stored.obtained_at,
            expires_at: stored.expires_at,
            scope: stored.scope,
        }
    }
}

impl Session {
    /// How many tokens for other requests are kept; the oldest goes first.
    pub const MAX_OTHERS: usize = 32;

    /// The stored form: JSON, with its version first.
    #[must_use]
    pub fn to_stored(&self) -> SecretBytes {
        let out = Out {
            format: FORMAT,
            generation: &self.generation,
            issuer: &self.issuer,
            client_id: &self.client_id,
            grant: self.grant,
            subject: &self.subject,
            tokens: TokensOut::of(&self.tokens),
            others: self
                .others
                .iter()
                .map(|o| OtherOut { asked: &o.asked, tokens: TokensOut::of(&o.tokens) })
                .collect(),
            client_secret: self.client_secret.as_ref().map(Secret::expose),
            resources: &self.resources,
            logged_in_at: self.logged_in_at,
            refreshed_at: self.refreshed_at,
            refreshing_since: self.refreshing_since,
            last_failure: &self.last_failure,
            ended: &self.ended,
        };
        let mut bytes = SecretBytes::default();
        #[allow(
            clippy::expect_used,
            reason = "no map has keys other than strings, and SecretBytes never fails to write"
        )]
        serde_json::to_writer(&mut bytes, &out).expect("a session is always JSON");
        let _ = bytes.flush();
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`SessionFormatError`], which quotes nothing of what was stored.
    pub fn from_stored(bytes: &SecretBytes) -> Result<Self, SessionFormatError> {
        let damaged = |e: serde_json::Error| SessionFormatError::Damaged { line: e.line(), column: e.column() };
        let Format { format } = serde_json::from_slice(bytes.expose()).map_err(damaged)?;
        if format != FORMAT {
            return Err(SessionFormatError::Version(format));
        }
        let stored: In = serde_json::from_slice(bytes.expose()).map_err(damaged)?;
        Ok(Self {
            generation: stored.generation,
            issuer: stored.issuer,
            client_id: stored.client_id,
            grant: stored.grant,
            subject: stored.subject,
            tokens: stored.tokens.into(),
            others: stored
                .others
                .into_iter()
                .map(|o| AnotherToken { asked: o.asked, tokens: o.tokens.into() })
                .collect(),
            client_secret: stored.client_secret,
            resources: stored.resources,
            logged_in_at: stored.logged_in_at,
            refreshed_at: stored.refreshed_at,
            refreshing_since: stored.refreshing_since,
            last_failure: stored.last_failure,
            ended: stored.ended,
        })
    }

    /// The token kept for `asked`: the session's own, or another; `None` where there is none yet.
    #[must_use]
    pub fn token_for(&self, asked: &TokenTarget) -> Option<&TokenSet> {
        if asked.is_plain() {
            return Some(&self.tokens);
        }
        self.others.iter().find(|o| o.asked == *asked).map(|o| &o.tokens)
    }

    /// What the issuer is asked for to get `asked`. A login for one resource is refreshed for that one: some issuers give a
    /// token for it only where the token request says so again (RFC 8707, section 2.2). Of several the issuer chooses.
    #[must_use]
    pub fn request_for(&self, asked: &TokenTarget) -> TokenTarget {
        let mut request = asked.clone();
        if let ([one], [], None) = (&self.resources[..], &asked.resources[..], &asked.audience) {
            request.resources.push(one.clone());
        }
        request
    }

    /// A resource among those `asked` for that the login did not name, where it named some.
    #[must_use]
    pub fn not_granted<'a>(&self, asked: &'a TokenTarget) -> Option<&'a str> {
        let granted = |resource: &String| self.resources.is_empty() || self.resources.contains(resource);
        asked.resources.iter().find(|resource| !granted(resource)).map(String::as_str)
    }

    /// Whether a new access token can be had without anybody logging in. A client by itself asks again with its secret, or
    /// with its key, which is not kept here.
    #[must_use]
    pub fn can_refresh(&self) -> bool {
        self.ended.is_none()
            && match self.grant {
                Grant::ClientCredentials => true,
                _ => self.tokens.refresh_token.is_some(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let tokens = TokenSet {
            access_token: Secret::new("AT\"\\".into()),
            token_type: "Bearer".into(),
            refresh_token: Some(Secret::new("RT".into())),
            id_token: None,
            obtained_at: UnixTime(100),
            expires_at: Some(UnixTime(400)),
            scope: Some("openid".into()),
        };
        let asked = TokenTarget { audience: Some("api".into()), ..TokenTarget::default() };
        Session {
            generation: Generation { login: "a1".into(), number: 7 },
            issuer: "https://a.example".parse().expect("valid"),
            client_id: "cli".into(),
            grant: Grant::Device,
            subject: Some(Subject { sub: "1".into(), name: None }),
            others: vec![AnotherToken { asked, tokens: TokenSet { refresh_token: None, ..tokens.clone() } }],
            tokens,
            client_secret: None,
            resources: Vec::new(),
            logged_in_at: UnixTime(100),
            refreshed_at: None,
            refreshing_since: Some(UnixTime(5)),
            last_failure: None,
            ended: None,
        }
    }

    #[test]
    fn the_stored_form_is_pinned() {
        let stored = session().to_stored();
        let text = std::str::from_utf8(stored.expose()).expect("JSON is UTF-8");
        assert_eq!(
            text,
            r#"{"format":1,"generation":{"login":"a1","number":7},"issuer":"https://a.example","client_id":"cli","grant":"device","subject":{"sub":"1","name":null},"tokens":{"access_token":"AT\"\\","token_type":"Bearer","refresh_token":"RT","id_token":null,"obtained_at":100,"expires_at":400,"scope":"openid"},"others":[{"asked":{"audience":"api","scopes":[],"resources":[]},"tokens":{"access_token":"AT\"\\","token_type":"Bearer","refresh_token":null,"id_token":null,"obtained_at":100,"expires_at":400,"scope":"openid"}}],"client_secret":null,"logged_in_at":100,"refreshed_at":null,"refreshing_since":5,"last_failure":null,"ended":null}"#
        );
    }

    #[test]
    fn what_is_stored_comes_back() {
        let stored = session().to_stored();
        let back = Session::from_stored(&stored).expect("readable");
        assert_eq!(back.to_stored().expose(), stored.expose());
    }

    #[test]
    fn a_login_for_one_resource_is_refreshed_for_it() {
        let read = |stored: &SecretBytes| Session::from_stored(stored).expect("readable");
        let plain = TokenTarget::default();
        let other = TokenTarget { resources: vec!["https://b.example".into()], ..TokenTarget::default() };
        let scoped = TokenTarget { scopes: vec!["read".into()], ..TokenTarget::default() };
        let mut session = read(&session().to_stored());
        assert_eq!((session.request_for(&plain), session.not_granted(&other)), (plain.clone(), None), "none was named");

        session.resources = vec!["https://a.example".into()];
        let mut session = read(&session.to_stored());
        assert_eq!(session.request_for(&plain).resources, session.resources);
        assert_eq!(session.request_for(&scoped), TokenTarget { resources: session.resources.clone(), ..scoped });
        assert_eq!(
            (session.request_for(&other), session.not_granted(&other)),
            (other.clone(), Some("https://b.example"))
        );
        let audience = TokenTarget { audience: Some("api".into()), ..TokenTarget::default() };
        assert_eq!(session.request_for(&audience), audience);

        session.resources.push("https://b.example".into());
        assert_eq!((session.request_for(&plain), session.not_granted(&other)), (plain, None), "the issuer chooses");
    }

    #[test]
    fn damage_is_told_without_quoting() {
        let stored = session().to_stored();
        let cut = SecretBytes::new(stored.expose()[..stored.expose().len() / 2].to_vec());
        let error = Session::from_stored(&cut).expect_err("cut short").to_string();
        assert!(error.starts_with("the stored session is damaged at line 1"), "{error}");
        let newer = SecretBytes::new(br#"{"format":2}"#.to_vec());
        assert_eq!(Session::from_stored(&newer).err(), Some(SessionFormatError::Version(2)));
    }
}
