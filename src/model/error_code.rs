//! The stable error codes, each with its word on the wire and its exit code.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Defines [`ErrorCode`] from one row per code: variant, word, exit code.
macro_rules! error_codes {
    ($($(#[$doc:meta])+ $variant:ident = $word:literal, $exit:literal;)+) => {
        /// A stable error code. The same word is used in `--json` errors, the agent's problem documents, `status` and
        /// stored sessions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the exit codes. The first of each exit code is its general one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the stable word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Returns the exit code of a command that fails with it.
            #[must_use]
            pub fn exit_code(self) -> u8 {
                match self {
                    $(Self::$variant => $exit,)+
                }
            }
        }
    };
}

error_codes! {
    /// A bug, or an error of the operating system.
    Unexpected = "unexpected", 1;

    /// The command line is wrong.
    Usage = "usage", 2;
    /// The configuration or the environment is wrong.
    Configuration = "configuration", 2;
    /// The platform has no usable identity token for a workload.
    WorkloadUnavailable = "workload_unavailable", 2;
    /// No profile has this name.
    UnknownProfile = "unknown_profile", 2;
    /// The profile was changed during a login.
    ProfileChanged = "profile_changed", 2;
    /// The login is another user's than the stored session.
    OtherSubject = "other_subject", 2;
    /// A request to the agent is malformed.
    InvalidRequest = "invalid_request", 2;
    /// The agent has no such path.
    UnknownPath = "unknown_path", 2;
    /// The agent does not allow this method on this path.
    MethodNotAllowed = "method_not_allowed", 2;
    /// The body of a request to the agent is too large.
    RequestTooLarge = "request_too_large", 2;
    /// The body of a request to the agent did not arrive in time.
    RequestTimedOut = "request_timed_out", 2;

    /// The user must log in.
    LoginRequired = "login_required", 3;

    /// A token was verified and is not valid.
    TokenDenied = "token_denied", 4;

    /// The issuer refused the request.
    IssuerRefused = "issuer_refused", 5;
    /// The metadata or the response is another issuer's.
    IssuerMismatch = "issuer_mismatch", 5;
    /// The issuer returned a token of a type that authctl cannot use.
    TokenType = "token_type", 5;
    /// Even a new session ends too early for `authctl ensure`.
    SessionTooShort = "session_too_short", 5;

    /// The issuer did not respond, or with an invalid response.
    IssuerUnreachable = "issuer_unreachable", 6;
    /// Another process holds a file lock, such as the profile lock, for too long.
    Busy = "busy", 6;
    /// The reply to the last refresh was lost; the refresh token may be spent.
    RefreshInDoubt = "refresh_in_doubt", 6;
    /// The refresh takes longer than the caller waits.
    RefreshInProgress = "refresh_in_progress", 6;

    /// A store cannot be read or written.
    StoreUnavailable = "store_unavailable", 7;
    /// There is no keychain.
    StoreAbsent = "store_absent", 7;
    /// The keychain is locked.
    StoreLocked = "store_locked", 7;
    /// The keychain did not respond in time.
    StoreTimedOut = "store_timed_out", 7;
    /// The keychain refused access.
    StoreRefused = "store_refused", 7;
    /// The disk is full.
    StoreFull = "store_full", 7;
    /// The file store's key is missing or unusable.
    StoreKey = "store_key", 7;
    /// The stored session cannot be read.
    SessionDamaged = "session_damaged", 7;
    /// The stored keys of an issuer cannot be read.
    TrustDamaged = "trust_damaged", 7;

    /// The agent cannot be used.
    AgentUnavailable = "agent_unavailable", 8;
    /// No agent is running, but one is required.
    AgentAbsent = "agent_absent", 8;
    /// The agent is locked.
    AgentLocked = "agent_locked", 8;
    /// The agent is stopping.
    AgentStopping = "agent_stopping", 8;
    /// An agent is running, but none may be.
    AgentRunning = "agent_running", 8;
    /// The agent at the socket serves another configuration or other sessions.
    AnotherHome = "another_home", 8;
    /// The agent serves another user.
    CallerNotPermitted = "caller_not_permitted", 8;
    /// Too many connections or attempts at once.
    TooManyRequests = "too_many_requests", 8;
    /// The file store is locked with a passphrase, and the user cannot be asked for it.
    PassphraseRequired = "passphrase_required", 8;
    /// The passphrase does not unlock the agent or the file store.
    WrongPassphrase = "wrong_passphrase", 8;

    /// `exec` found its command, and cannot run it.
    CommandNotExecutable = "command_not_executable", 126;

    /// `exec` did not find its command.
    CommandNotFound = "command_not_found", 127;

    /// The user pressed Ctrl-C or declined, or a signal ended the command.
    Interrupted = "interrupted", 130;
}

impl ErrorCode {
    /// Returns the code with this word; `None` if there is none.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }

    /// Returns the general code of an exit code; [`ErrorCode::Unexpected`] if no code has it.
    #[must_use]
    pub fn from_exit_code(exit: u8) -> Self {
        Self::ALL.iter().copied().find(|code| code.exit_code() == exit).unwrap_or(Self::Unexpected)
    }

    /// Returns the general code with the same exit code, to treat all codes of one group alike.
    #[must_use]
    pub fn general(self) -> Self {
        Self::from_exit_code(self.exit_code())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An unknown word, of a newer version, is read as [`ErrorCode::Unexpected`], so that the whole document can be read.
impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(Self::from_word(&word).unwrap_or(Self::Unexpected))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_is_unique_and_reads_back() {
        let words: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(code).expect("JSON");
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).expect("a code"), *code);
        }
    }

    #[test]
    fn unknown_word_reads_as_unexpected() {
        assert_eq!(serde_json::from_str::<ErrorCode>("\"from_the_future\"").expect("a code"), ErrorCode::Unexpected);
    }

    #[test]
    fn exit_code_gives_its_general_code() {
        for (exit, code) in [
            (1, ErrorCode::Unexpected),
            (2, ErrorCode::Usage),
            (3, ErrorCode::LoginRequired),
            (4, ErrorCode::TokenDenied),
            (5, ErrorCode::IssuerRefused),
            (6, ErrorCode::IssuerUnreachable),
            (7, ErrorCode::StoreUnavailable),
            (8, ErrorCode::AgentUnavailable),
            (9, ErrorCode::Unexpected),
            (130, ErrorCode::Interrupted),
        ] {
            assert_eq!(ErrorCode::from_exit_code(exit), code, "{exit}");
        }
    }
}
