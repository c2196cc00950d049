//! The stored form of a session: JSON with a version, in the keychain or an encrypted file.

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use super::{AnotherToken, Generation, RefreshFailure, Session, SessionHistory, Subject};
use crate::clock::UnixTime;
use crate::model::{Grant, IssuerUrl, ProfileName, TokenSet, TokenTarget};
use crate::secret::{Secret, SecretBytes};

/// A stored session that cannot be read. The error has the position, never the contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionFormatError {
    /// Written by a newer version of authctl.
    #[error("the stored session has format {0}, which this version of authctl does not know")]
    Version(u64),
    /// The session of another profile.
    #[error("the stored session belongs to the profile `{0}`")]
    OtherProfile(ProfileName),
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

/// The stored form. `S` is a secret: `&str` to write it without another copy in memory, [`Secret`] to read it.
#[derive(Serialize, Deserialize)]
struct StoredSession<S> {
    format: u64,
    /// Missing in what earlier versions have stored.
    profile: Option<ProfileName>,
    generation: Generation,
    issuer: IssuerUrl,
    client_id: String,
    grant: Grant,
    subject: Option<Subject>,
    tokens: StoredTokens<S>,
    others: Vec<StoredOther<S>>,
    client_secret: Option<S>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    dpop_key: Option<S>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
    logged_in_at: UnixTime,
    refreshed_at: Option<UnixTime>,
    refreshing_since: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refreshing_lock: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotates: Option<bool>,
    #[serde(default, alias = "id_token_kept", skip_serializing_if = "std::ops::Not::not")]
    has_older_id_token: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    offers_exchange: bool,
    #[serde(default, skip_serializing_if = "SessionHistory::is_empty")]
    history: SessionHistory,
    last_failure: Option<RefreshFailure>,
    ended: Option<RefreshFailure>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    logged_out: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<Box<StoredSession<S>>>,
}

impl<'a> StoredSession<&'a str> {
    fn of(session: &'a Session, profile: &ProfileName) -> Self {
        let other = |o: &'a AnotherToken| StoredOther {
            target: o.target.clone(),
            tokens: StoredTokens::from(&o.tokens),
            is_replacement: o.is_replacement,
        };
        Self {
            format: FORMAT,
            profile: Some(profile.clone()),
            generation: session.generation.clone(),
            issuer: session.issuer.clone(),
            client_id: session.client_id.clone(),
            grant: session.grant,
            subject: session.subject.clone(),
            tokens: StoredTokens::from(&session.tokens),
            others: session.others.iter().map(other).collect(),
            client_secret: session.client_secret.as_ref().map(Secret::expose),
            dpop_key: session.dpop_key.as_ref().map(Secret::expose),
            resources: session.resources.clone(),
            logged_in_at: session.logged_in_at,
            refreshed_at: session.refreshed_at,
            refreshing_since: session.refreshing_since,
            refreshing_lock: session.refreshing_lock,
            rotates: session.rotates,
            has_older_id_token: session.has_older_id_token,
            offers_exchange: session.offers_exchange,
            history: session.history.clone(),
            last_failure: session.last_failure.clone(),
            ended: session.ended.clone(),
            logged_out: session.logged_out,
            replaces: session.replaces.as_ref().map(|replaced| Box::new(Self::of(replaced, profile))),
        }
    }
}

impl From<StoredSession<Secret>> for Session {
    fn from(stored: StoredSession<Secret>) -> Self {
        let other = |o: StoredOther<Secret>| AnotherToken {
            target: o.target,
            tokens: o.tokens.into(),
            is_replacement: o.is_replacement,
        };
        Self {
            generation: stored.generation,
            issuer: stored.issuer,
            client_id: stored.client_id,
            grant: stored.grant,
            subject: stored.subject,
            tokens: stored.tokens.into(),
            others: stored.others.into_iter().map(other).collect(),
            client_secret: stored.client_secret,
            dpop_key: stored.dpop_key,
            resources: stored.resources,
            logged_in_at: stored.logged_in_at,
            refreshed_at: stored.refreshed_at,
            refreshing_since: stored.refreshing_since,
            refreshing_lock: stored.refreshing_lock,
            rotates: stored.rotates,
            has_older_id_token: stored.has_older_id_token,
            offers_exchange: stored.offers_exchange,
            history: stored.history,
            last_failure: stored.last_failure,
            ended: stored.ended,
            logged_out: stored.logged_out,
            replaces: stored.replaces.map(|replaced| Box::new(Self::from(*replaced))),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredTokens<S> {
    access_token: S,
    token_type: String,
    refresh_token: Option<S>,
    id_token: Option<S>,
    obtained_at: UnixTime,
    expires_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_expires_at: Option<UnixTime>,
    scope: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredOther<S> {
    #[serde(rename = "asked")]
    target: TokenTarget,
    tokens: StoredTokens<S>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_replacement: bool,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
    profile: Option<ProfileName>,
}

impl<'a> From<&'a TokenSet> for StoredTokens<&'a str> {
    fn from(tokens: &'a TokenSet) -> Self {
        Self {
            access_token: tokens.access_token.expose(),
            token_type: tokens.token_type.clone(),
            refresh_token: tokens.refresh_token.as_ref().map(Secret::expose),
            id_token: tokens.id_token.as_ref().map(Secret::expose),
            obtained_at: tokens.obtained_at,
            expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at,
            scope: tokens.scope.clone(),
        }
    }
}

impl From<StoredTokens<Secret>> for TokenSet {
    fn from(stored: StoredTokens<Secret>) -> Self {
        Self {
            access_token: stored.access_token,
            token_type: stored.token_type,
            refresh_token: stored.refresh_token,
            id_token: stored.id_token,
            obtained_at: stored.obtained_at,
            issuer_time: None,
            expires_at: stored.expires_at,
            refresh_expires_at: stored.refresh_expires_at,
            scope: stored.scope,
        }
    }
}

impl Session {
    /// Returns the stored form of the session of `profile`: JSON, with its version first.
    #[must_use]
    pub fn to_stored(&self, profile: &ProfileName) -> SecretBytes {
        let mut bytes = SecretBytes::default();
        #[allow(
            clippy::expect_used,
            reason = "no map has keys other than strings, and SecretBytes never fails to write"
        )]
        serde_json::to_writer(&mut bytes, &StoredSession::of(self, profile)).expect("a session is always JSON");
        let _ = bytes.flush();
        bytes
    }

    /// Reads the stored form of the session of `profile`. If the file system or the keychain does not distinguish two
    /// names, it may be another profile's.
    ///
    /// # Errors
    /// [`SessionFormatError`], which quotes nothing of what was stored.
    pub fn from_stored(bytes: &SecretBytes, profile: &ProfileName) -> Result<Self, SessionFormatError> {
        let damaged = |e: serde_json::Error| SessionFormatError::Damaged { line: e.line(), column: e.column() };
        let Format { format, profile: stored_for } = serde_json::from_slice(bytes.expose()).map_err(damaged)?;
        if format != FORMAT {
            return Err(SessionFormatError::Version(format));
        }
        match stored_for {
            Some(other) if other != *profile => Err(SessionFormatError::OtherProfile(other)),
            _ => Ok(serde_json::from_slice::<StoredSession<Secret>>(bytes.expose()).map_err(damaged)?.into()),
        }
    }
}
