//! Why a token is denied: a stable word for programs and a sentence for people.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::format_duration;
use crate::ui::sanitize_for_terminal;

/// A stable word for one kind of denial. The order here is the order in which reasons are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Not a JWT at all.
    OpaqueToken,
    /// No trusted key made this signature.
    BadSignature,
    /// No trusted key is the one that the token names, or none can be singled out.
    UnknownKey,
    /// The key is too easily forged to be trusted.
    WeakKey,
    /// The `alg` is not accepted, or not for this key.
    AlgorithmNotAllowed,
    /// The header asks for something that is not supported, such as `crit` (RFC 7515, section 4.1.11).
    UnsupportedHeader,
    /// Broken as a JWT, or a claim does not have the shape that its RFC gives it.
    Malformed,
    /// The `typ` says that the token is for something else (RFC 8725, section 3.11).
    WrongType,
    /// `exp` has passed.
    Expired,
    /// `nbf`, `iat` or `auth_time` lies in the future.
    NotYetValid,
    /// Another `iss` than the expected one.
    WrongIssuer,
    /// None of the expected audiences is in `aud`.
    WrongAudience,
    /// A claim that must be there is not.
    MissingClaim,
    /// A claim does not say what was asked for.
    ClaimMismatch,
    /// Revoked: on this machine by a logout or the end of the session, or by the issuer's status list.
    Revoked,
    /// The clock was set back, so expiry cannot be judged.
    ClockRollback,
    /// The trusted keys are older than they may get.
    KeysStale,
    /// The issuer has not answered for longer than the profile allows.
    OfflineTooLong,
}

/// The stable word.
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
    /// For people: what was expected and what was found, on one line.
    pub message: String,
}

impl Reason {
    /// The longest message, in characters.
    pub const MAX_LENGTH: usize = 400;

    /// Makes a reason whose message is safe to print: control and direction-changing characters are replaced, and it
    /// ends after [`Reason::MAX_LENGTH`] characters.
    #[must_use]
    pub fn new(code: ReasonCode, message: impl AsRef<str>) -> Self {
        Self { code, message: sanitize_for_terminal(message.as_ref(), Self::MAX_LENGTH) }
    }

    /// The reason for keys that are older than they may get.
    #[must_use]
    pub fn keys_stale(age: Duration, most: Duration) -> Self {
        let (age, most) = (format_duration(age), format_duration(most));
        let message = format!("the issuer's keys were fetched {age} ago, and may be {most} old (keys_max_age)");
        Self::new(ReasonCode::KeysStale, message)
    }

    /// The reason for an issuer that has been out of reach for too long.
    #[must_use]
    pub fn offline_too_long(silent: Option<Duration>, most: Duration) -> Self {
        let seen = silent
            .map_or("never answered".to_owned(), |silent| format!("last answered {} ago", format_duration(silent)));
        let message = format!("the issuer {seen}, and may be out of reach for {} (max_offline)", format_duration(most));
        Self::new(ReasonCode::OfflineTooLong, message)
    }

    /// The reason for a token of a login that was ended here.
    #[must_use]
    pub fn revoked() -> Self {
        let message =
            "the token's login was ended on this machine, by a logout or because the issuer ended the session";
        Self::new(ReasonCode::Revoked, message)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A value from a token, quoted for a message: sanitize_for_terminal and at most 80 characters.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", sanitize_for_terminal(text, 80))
}

/// Several of them, at most eight.
pub(super) fn quoted_list<S: AsRef<str>>(texts: &[S]) -> String {
    match texts {
        [] => "nothing".to_owned(),
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
    fn a_message_cannot_write_on_the_terminal() {
        let reason = Reason::new(ReasonCode::Malformed, "a\u{1b}[2Jb\n\u{202e}c");
        assert_eq!(reason.message, "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        let long = Reason::new(ReasonCode::Malformed, "x".repeat(100_000));
        assert_eq!(long.message.chars().count(), Reason::MAX_LENGTH + 1);
    }

    #[test]
    fn the_words_are_pinned() {
        use ReasonCode::*;
        let all = [
            OpaqueToken,
            BadSignature,
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
            r#"["opaque_token","bad_signature","unknown_key","weak_key","algorithm_not_allowed","unsupported_header","malformed","wrong_type","expired","not_yet_valid","wrong_issuer","wrong_audience","missing_claim","claim_mismatch","revoked","clock_rollback","keys_stale"]"#
        );
        assert_eq!(KeysStale.to_string(), "keys_stale");
        assert_eq!(
            serde_json::to_string(&Reason::new(Expired, "late")).expect("reason"),
            r#"{"code":"expired","message":"late"}"#
        );
    }
}
