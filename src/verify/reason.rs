//! Why a token is denied: a stable code for programs and a message for the user.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{format_duration, span};
use crate::text::excerpt;

/// A stable code for one kind of denial. Reasons are reported in the order of their codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Not a JWT.
    OpaqueToken,
    /// The signature is not by a trusted key.
    InvalidSignature,
    /// The token's key is not trusted, or several keys match.
    UnknownKey,
    /// Signatures of the key can be forged too easily.
    WeakKey,
    /// The `alg` is not allowed, or not for this key.
    AlgorithmNotAllowed,
    /// The header has an unsupported parameter, such as `crit` (RFC 7515, section 4.1.11).
    UnsupportedHeader,
    /// Not a well-formed JWT, or a claim has the wrong type.
    Malformed,
    /// The token is of another type (RFC 8725, section 3.11).
    WrongType,
    /// `exp` has passed.
    Expired,
    /// `nbf`, `iat` or `auth_time` is in the future.
    NotYetValid,
    /// `iss` is not the expected issuer.
    WrongIssuer,
    /// None of the expected audiences is in `aud`.
    WrongAudience,
    /// A required claim is missing.
    MissingClaim,
    /// A claim does not have the required value.
    ClaimMismatch,
    /// Revoked on this machine by a logout or the end of the session, or by the issuer's status list.
    Revoked,
    /// The clock was set back, so expiry cannot be checked.
    ClockRollback,
    /// The stored keys or the stored status list are too old.
    KeysStale,
    /// The issuer has been unreachable for longer than the profile allows.
    OfflineTooLong,
}

/// The stable code.
impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One reason for a denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs.
    pub code: ReasonCode,
    /// For the user: what was expected and what was found, on one line.
    pub message: String,
    /// The registered claim that is missing.
    #[serde(skip)]
    pub missing_claim: Option<String>,
}

impl Reason {
    /// The maximum length of a message, in characters.
    pub const MAX_LENGTH: usize = 400;

    /// Creates a reason. The message is sanitized for terminals and truncated to [`Reason::MAX_LENGTH`].
    #[must_use]
    pub fn new(code: ReasonCode, message: impl AsRef<str>) -> Self {
        Self { code, message: excerpt(message.as_ref(), Self::MAX_LENGTH), missing_claim: None }
    }

    /// Creates the reason for a token without a registered claim.
    #[must_use]
    pub fn missing_claim(name: &str) -> Self {
        let missing_claim = Some(name.to_owned());
        Self { missing_claim, ..Self::new(ReasonCode::MissingClaim, format!("claim `{name}` is missing")) }
    }

    /// Creates the reason for keys that are older than `max_age`.
    #[must_use]
    pub fn keys_stale(age: Duration, max_age: Duration) -> Self {
        let (age, max_age) = (span(age), format_duration(max_age));
        let message = format!("the issuer's keys were fetched {age} ago, more than keys_max_age ({max_age})");
        Self::new(ReasonCode::KeysStale, message)
    }

    /// Creates the reason for an issuer that was last reached longer than `max_offline` ago, or never.
    #[must_use]
    pub fn offline_too_long(offline: Option<Duration>, max_offline: Duration) -> Self {
        let reached =
            offline.map_or("never reached".to_owned(), |offline| format!("last reached {} ago", span(offline)));
        let message = format!("the issuer was {reached}, more than max_offline ({})", format_duration(max_offline));
        Self::new(ReasonCode::OfflineTooLong, message)
    }

    /// Creates the reason for a token that was revoked on this machine.
    #[must_use]
    pub fn revoked() -> Self {
        let message = "revoked on this machine, by a logout or because the issuer ended the session";
        Self::new(ReasonCode::Revoked, message)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Quotes a value from a token for a message: sanitized, and at most 80 characters.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text, 80))
}

/// Quotes several values, at most eight.
pub(super) fn quoted_list<S: AsRef<str>>(texts: &[S]) -> String {
    match texts {
        [] => "none".to_owned(),
        _ => {
            let mut shown: Vec<String> = texts.iter().take(8).map(|t| quoted(t.as_ref())).collect();
            if texts.len() > 8 {
                shown.push(format!("{} more", texts.len() - 8));
            }
            shown.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_one_truncated_line() {
        // Control characters are replaced where the message is written.
        assert_eq!(Reason::new(ReasonCode::Malformed, "a\nb").to_string(), "a b");
        let long = Reason::new(ReasonCode::Malformed, "x".repeat(100_000));
        assert_eq!(long.message.chars().count(), Reason::MAX_LENGTH + 1);
    }

    #[test]
    fn list_shows_eight_values() {
        let shown = |count: usize| quoted_list(&vec!["v"; count]);
        assert_eq!(shown(0), "none");
        assert_eq!(shown(8), ["\"v\""; 8].join(", "));
        assert_eq!(shown(10), format!("{}, 2 more", shown(8)));
    }

    #[test]
    fn codes_are_stable() {
        use ReasonCode::*;
        let all = [
            OpaqueToken,
            InvalidSignature,
            UnknownKey,
            WeakKey,
            AlgorithmNotAllowed,
            UnsupportedHeader,
            Malformed,
            WrongType,
            Expired,
            NotYetValid,
            WrongIssuer,
            WrongAudience,
            MissingClaim,
            ClaimMismatch,
            Revoked,
            ClockRollback,
            KeysStale,
        ];
        assert_eq!(
            serde_json::to_string(&all).expect("words"),
            r#"["opaque_token","invalid_signature","unknown_key","weak_key","algorithm_not_allowed","unsupported_header","malformed","wrong_type","expired","not_yet_valid","wrong_issuer","wrong_audience","missing_claim","claim_mismatch","revoked","clock_rollback","keys_stale"]"#
        );
        assert_eq!(KeysStale.to_string(), "keys_stale");
        assert_eq!(
            serde_json::to_string(&Reason::new(Expired, "late")).expect("reason"),
            r#"{"code":"expired","message":"late"}"#
        );
    }
}
