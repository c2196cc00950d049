//! The errors of the session service.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{ErrorCode, IssuerUrl, ProfileName, RefreshFailure};
use crate::oauth::IssuerError;
use crate::store::{LockError, RevocationListError, StoreError};
use crate::verify::Reason;

/// Why a login is required.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginReason {
    /// There was no login, or a logout since.
    #[error("not logged in to {0}")]
    NoSession(ProfileName),
    /// The stored session is another issuer's: the profile was changed after the login.
    #[error("the profile was changed: its session is for the issuer {found}")]
    OtherIssuer {
        /// The session's issuer.
        found: IssuerUrl,
    },
    /// The stored session is another client's.
    #[error("the profile was changed: its session is for the client `{found}`")]
    OtherClient {
        /// The session's client ID.
        found: String,
    },
    /// The issuer has ended the session.
    #[error("the session has ended: {}", .0.message)]
    Ended(RefreshFailure),
    /// The access token has expired, and the issuer keeps refusing to refresh it.
    #[error("the issuer refuses to refresh the session: {}", .0.message)]
    Refused(RefreshFailure),
    /// The issuer returned no refresh token.
    #[error("the issuer returned no refresh token")]
    NoRefreshToken,
    /// The login was for other resources. A refresh token sent with a resource it does not cover may be used up for nothing.
    #[error("the login was not for the resource `{resource}`")]
    OtherResource {
        /// The requested resource.
        resource: String,
        /// The resources that the profile requests.
        resources: Vec<String>,
    },
    /// The session has no ID token.
    #[error("the session has no ID token")]
    NoIdToken {
        /// The scopes that the profile requests.
        scopes: Vec<String>,
    },
    /// The ID token has expired, and refreshes bring no new one.
    #[error("the ID token has expired, and the issuer sends no new one with a refresh")]
    IdTokenExpired,
}

impl SessionError {
    /// Returns whether the store is sealed with a passphrase, and this process does not hold its key.
    #[must_use]
    pub fn is_sealed_store(&self) -> bool {
        matches!(self, Self::Store(StoreError::Sealed))
    }

    /// Returns whether it is the error of a refresh. Only for an error of a request for a token, which may also be one of access to
    /// the stored session.
    #[must_use]
    pub fn is_of_refresh(&self) -> bool {
        match self {
            Self::LoginRequired(reason) => reason.ends_session(),
            Self::Issuer(_)
            | Self::RefreshReply(_)
            | Self::RecentFailure(_)
            | Self::NotVerified { .. }
            | Self::Workload(_)
            | Self::LockLost => true,
            _ => false,
        }
    }
}

impl LoginReason {
    /// Returns whether a session that was usable is no longer so. Other reasons concern another session, or a token that this
    /// one cannot have.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Refused(_) | Self::NoRefreshToken)
    }
}

/// Why there is no identity token.
#[derive(Debug, thiserror::Error)]
#[error("no identity token from {workload}: {problem}")]
pub struct WorkloadError {
    /// The source, as configured.
    pub workload: String,
    /// What is wrong.
    pub problem: WorkloadProblem,
}

impl WorkloadError {
    /// Returns the code that users and callers see.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match &self.problem {
            WorkloadProblem::Request(error) => error.code(),
            _ => ErrorCode::WorkloadUnavailable,
        }
    }

    /// Returns how long the platform asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.problem {
            WorkloadProblem::Request(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// What is wrong with an identity token or its source.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadProblem {
    /// The platform has not set a variable.
    #[error("{0} is not set")]
    NoVariable(&'static str),
    /// The file cannot be read.
    #[error("cannot read {}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// The command failed.
    #[error("the command {0}")]
    Command(String),
    /// The request to the platform failed.
    #[error("{0}")]
    Request(IssuerError),
    /// The text is not a JWT.
    #[error("it is not a JWT")]
    NotJwt,
    /// The token is for another server, which could be impersonated with it.
    #[error("it is for {found}, not for `{expected}`")]
    Audience {
        /// The audiences in the token, one line.
        found: String,
        /// The audience that it must have.
        expected: String,
    },
    /// The token has expired.
    #[error("it has expired")]
    Expired,
}

/// An error of the session service.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A login is required.
    #[error("{0}")]
    LoginRequired(LoginReason),
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An error of a file lock, or another process holds it for too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An error of the issuer or of the connection to it.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The issuer does not exchange the session's token (RFC 8693). The session is unchanged.
    #[error("no token for {target}: {error}")]
    Exchange {
        /// The audience and the resources that were requested, one line.
        target: String,
        /// Why.
        error: IssuerError,
    },
    /// The platform has no usable identity token for the workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A refresh was answered with something that is not of an authorization server, such as a web page.
    #[error(transparent)]
    RefreshReply(IssuerError),
    /// A refresh failed while this caller waited for it, or a moment ago, or the issuer asked to wait.
    #[error("{}", .0.message)]
    RecentFailure(RefreshFailure),
    /// The issuer's ID token or access token does not verify; nothing was stored.
    #[error("the issuer's {what} does not verify: {}", reasons.first().map(|r| r.message.as_str()).unwrap_or_default())]
    NotVerified {
        /// Which token.
        what: &'static str,
        /// Why not.
        reasons: Vec<Reason>,
    },
    /// The session has no key to prove possession of.
    #[error("the tokens of `{0}` are not bound to a key (DPoP), so they need no proof")]
    NotBound(ProfileName),
    /// A proof was requested for something that is no HTTP request.
    #[error("cannot make a DPoP proof: {0}")]
    InvalidProofRequest(String),
    /// A refreshed session is not stored.
    #[error("cannot store the refreshed session: {error}{}", if *.is_lost { "; the session is lost" } else { "" })]
    Unsaved {
        /// The store's error.
        error: Arc<SessionError>,
        /// Whether it exists nowhere else, and no further attempt is made to store it.
        is_lost: bool,
    },
    /// An error of the revocation list.
    #[error(transparent)]
    RevocationList(#[from] RevocationListError),
    /// The stored keys of an issuer cannot be read: modified, or encrypted to another key.
    #[error("the stored keys of {issuer} are damaged; keys pinned among them have to be pinned again")]
    Trust {
        /// The issuer.
        issuer: IssuerUrl,
    },
    /// The file of the profile's lock was removed while the lock was held, so another process may change the session.
    #[error("the lock file of the session was removed during the refresh")]
    LockLost,
    /// The program exits before the operation has finished.
    #[error("interrupted before the operation finished")]
    Interrupted,
}
