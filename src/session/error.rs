//! Why a session could not be had.

use crate::model::{IssuerUrl, RefreshFailure};
use crate::oauth::IssuerError;
use crate::store::{LockError, RevocationListError, StoreError};
use crate::verify::Reason;

/// Why somebody must log in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginReason {
    /// Nobody has, or somebody logged out.
    #[error("nobody is logged in")]
    NoSession,
    /// The stored session is another issuer's: the profile was changed after the login.
    #[error("the stored session is for {found}")]
    OtherIssuer {
        /// Whose it is.
        found: IssuerUrl,
    },
    /// The stored session is another client's.
    #[error("the stored session is for the client `{found}`")]
    OtherClient {
        /// Whose it is.
        found: String,
    },
    /// The issuer ended it.
    #[error("the session has ended: {}", .0.message)]
    Ended(RefreshFailure),
    /// The issuer gave nothing to refresh the token with.
    #[error("the token cannot be refreshed: the issuer gave no refresh token")]
    NoRefreshToken,
    /// The login was for other resources. A refresh token that is sent with one it is not for may be spent for nothing.
    #[error("the login was not for the resource `{asked}`")]
    OtherResource {
        /// What was asked for.
        asked: String,
    },
    /// There is a session, but no ID token in it.
    #[error("the session has no ID token")]
    NoIdToken,
    /// The ID token is over, and the issuer gives no new one with a refresh.
    #[error("the ID token has expired, and the issuer gives no new one with a refresh")]
    IdTokenOver,
}

/// Why the sessions could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Somebody must log in first.
    #[error("{0}")]
    LoginRequired(LoginReason),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process holds the profile's lock for too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The issuer, or the way to it.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A refresh by somebody else failed while this caller waited for it, or the issuer asked to be left alone for now.
    #[error("{}", .0.message)]
    FailedJustNow(RefreshFailure),
    /// The issuer's ID token or access token does not verify; nothing was stored.
    #[error("the issuer's {what} does not verify: {}", reasons.first().map(|r| r.message.as_str()).unwrap_or_default())]
    NotVerified {
        /// Which token.
        what: &'static str,
        /// Why not.
        reasons: Vec<Reason>,
    },
    /// The list of tokens logged out here.
    #[error(transparent)]
    RevocationList(#[from] RevocationListError),
    /// What was kept of an issuer cannot be read: changed by somebody, or sealed to another key.
    #[error("what was kept of the keys of {issuer} cannot be read")]
    Trust {
        /// Whose keys.
        issuer: IssuerUrl,
    },
    /// The program is ending.
    #[error("the program is ending")]
    Cut,
}
