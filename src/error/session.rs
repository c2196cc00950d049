//! Which code and which hint the errors of the session service have.

use super::conversions::{CHECK_NETWORK, of_store_error};
use super::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::oauth::IssuerError;
use crate::paths::WorkloadVariables;
use crate::session::{LoginReason, SessionError, WorkloadError, WorkloadProblem};
use crate::verify::{Reason, ReasonCode};

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::LoginRequired(reason) => {
                let hint = match &reason {
                    // Options replace the profile's values, so all resources are repeated.
                    LoginReason::OtherResource { resource, resources } => {
                        let all = resources.iter().chain([resource]);
                        all.fold(Hint::login(), |hint, resource| hint.with_option("--resource", resource))
                    }
                    LoginReason::NoIdToken { scopes } => Hint::login_with_openid(scopes),
                    _ => Hint::login(),
                };
                Self::new(ErrorCode::LoginRequired, reason, hint)
            }
            SessionError::Store(error) => error.into(),
            SessionError::Lock(error) => error.into(),
            SessionError::Issuer(error) => error.into(),
            SessionError::Exchange { target, error } => {
                let own_hint = exchange_hint(&error);
                let Self { code, error, hint } = error.into();
                Self { code, error: error.context(format!("no token for {target}")), hint: own_hint.unwrap_or(hint) }
            }
            SessionError::Workload(error) => error.into(),
            SessionError::RefreshReply(error) => {
                let hint = Hint::login().after_advice(
                    "check whether a proxy or a network's sign-in page answers in the issuer's place, and try again; if the \
                     issuer itself does, log in again",
                );
                Self { hint, ..error.into() }
            }
            SessionError::RecentFailure(failed) => {
                let hint = match (failed.code.general(), failed.retry_at) {
                    (ErrorCode::IssuerUnreachable, Some(at)) => {
                        Hint::profile_command("refresh").after_advice(format!("try again after {at}"))
                    }
                    (ErrorCode::IssuerUnreachable, None) => Hint::doctor(CHECK_NETWORK),
                    _ => Hint::profile_command("status"),
                };
                Self::msg(failed.code, failed.message, hint)
            }
            SessionError::NotVerified { ref reasons, .. } => {
                let by_key =
                    |reason: &Reason| matches!(reason.code, ReasonCode::UnknownKey | ReasonCode::InvalidSignature);
                let advice = if reasons.iter().any(by_key) {
                    "check --issuer, and --jwks or --jwks-uri: one is required if the metadata names no keys; then log in again"
                } else {
                    "check --issuer, --client-id and this machine's clock; then log in again"
                };
                Self::msg(ErrorCode::TokenDenied, error.to_string(), Hint::login().after_advice(advice))
            }
            SessionError::Unsaved { error: ref cause, is_lost } => {
                let (code, hint) = match &**cause {
                    SessionError::Store(cause) => of_store_error(cause),
                    _ => (ErrorCode::StoreUnavailable, Hint::profile_command("status")),
                };
                Self::msg(code, error.to_string(), if is_lost { Hint::login() } else { hint })
            }
            SessionError::NotBound(_) => {
                Self::msg(ErrorCode::InvalidRequest, error.to_string(), Hint::profile_command("status"))
            }
            SessionError::InvalidProofRequest(_) => Self::msg(ErrorCode::InvalidRequest, error.to_string(), Hint::None),
            SessionError::RevocationList(error) => error.into(),
            SessionError::Trust { .. } => {
                Self::msg(ErrorCode::TrustDamaged, error.to_string(), Hint::profile_command("keys unpin"))
            }
            SessionError::LockLost => Self::msg(ErrorCode::Busy, error.to_string(), Hint::profile_command("refresh")),
            SessionError::Interrupted => {
                Self::msg(ErrorCode::Interrupted, error.to_string(), Hint::profile_command("status"))
            }
        }
    }
}

impl Error {
    /// Creates the error of a profile that gets no token. It names the profile if a refresh has failed.
    #[must_use]
    pub fn of_token(error: SessionError, profile: &ProfileName) -> Self {
        let is_of_refresh = error.is_of_refresh();
        let error = Self::from(error).about(profile);
        if is_of_refresh { error.of_refresh(profile) } else { error }
    }

    /// Names the profile in the error, as one that cannot be refreshed; once, and unless the refresh was interrupted.
    #[must_use]
    pub fn of_refresh(self, profile: &ProfileName) -> Self {
        let context = format!("cannot refresh `{profile}`");
        let message = self.message();
        let is_named = message.starts_with(&context) || message == LoginReason::NoSession(profile.clone()).to_string();
        if self.code == ErrorCode::Interrupted || is_named {
            return self;
        }
        Self { error: self.error.context(context), ..self }
    }
}

/// Returns the hint for a token exchange that failed, where another one than that of the same error in a login is right.
fn exchange_hint(error: &IssuerError) -> Option<Hint> {
    let allow =
        || Hint::advice("ask the issuer's operator to allow this client token exchange for that audience (RFC 8693)");
    match error {
        IssuerError::OtherAudience { .. } => Some(allow()),
        IssuerError::Refused(refusal) => match refusal.code.as_str() {
            "unauthorized_client" | "unsupported_grant_type" | "access_denied" => Some(allow()),
            "invalid_request" | "invalid_grant" => Some(
                Hint::profile_command("refresh")
                    .after_advice("if the issuer has revoked the access token, refresh it and try again"),
            ),
            _ => None,
        },
        _ => None,
    }
}

impl From<WorkloadError> for Error {
    fn from(error: WorkloadError) -> Self {
        let hint = match &error.problem {
            WorkloadProblem::NoVariable(WorkloadVariables::GITLAB) => Hint::advice(format!(
                "add an entry {} to `id_tokens` of the job, with the issuer as `aud`",
                WorkloadVariables::GITLAB
            )),
            WorkloadProblem::NoVariable(_) => Hint::advice("give the job the permission `id-token: write`"),
            WorkloadProblem::File { .. } => Hint::advice("run this where the platform provides the file"),
            WorkloadProblem::Command(_) => Hint::advice("run the command by itself to see its own messages"),
            WorkloadProblem::Request(_) => Hint::advice("check the platform's status, and whether the job has ended"),
            WorkloadProblem::NotJwt => Hint::advice("name a source of a JWT with --workload"),
            WorkloadProblem::Audience { .. } => Hint::advice(
                "have the platform issue it for the issuer, or name its audience with --client-assertion-audience",
            ),
            WorkloadProblem::Expired => {
                Hint::advice("run this where the platform issues a new one, or correct this machine's clock")
            }
        };
        Self::new(error.code(), error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::RefreshFailure;

    #[test]
    fn shared_refresh_failure_keeps_its_code() {
        for code in ErrorCode::ALL {
            let failed = RefreshFailure {
                at: UnixTime(0),
                code: *code,
                message: "m".into(),
                retry_at: None,
                failures: 1,
                refusals: 0,
                other_target: false,
            };
            assert_eq!(Error::from(SessionError::RecentFailure(failed)).code, *code);
        }
    }
}
