//! The one place where what went wrong becomes an exit code, a stable word and a line on what to do next.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::agent::protocol::{ClientError, ListenError, Problem};
use crate::config::{ConfigError, InvalidSetting, UnknownSetting};
pub use crate::model::ErrorCode;
use crate::model::{InsecureUrl, InvalidProfileName, ProfileName};
use crate::oauth::{IssuerError, Phase};
use crate::paths::NoHome;
use crate::session::{LoginReason, SessionError};
use crate::store::{KeyProblem, LockError, RevocationListError, StoreError};
use crate::text::{escape_json, sanitize_for_terminal};
use crate::verify::{InvalidOption, Reason, ReasonCode};

/// Every exit code, and what it means; manual and README are made from this table.
pub const EXIT_CODES: [(u8, &str); 10] = [
    (0, "Done, or granted"),
    (1, "Unexpected failure"),
    (2, "Wrong usage or configuration"),
    (3, "Login required"),
    (4, "Token denied"),
    (5, "The issuer refused"),
    (6, "The issuer cannot be reached; try again"),
    (7, "The store is locked, absent or refuses"),
    (8, "The agent is locked, absent where required, or does not permit the caller"),
    (130, "Interrupted"),
];

/// What went wrong, and what to do next.
#[derive(Debug)]
pub struct Error {
    /// The stable code, which decides the exit code.
    pub code: ErrorCode,
    /// What failed.
    pub error: anyhow::Error,
    /// What to do next. `{profile}` in it stands for a space and the profile's name, once [`Error::about`] knows it.
    pub hint: String,
}

impl Error {
    /// Returns a failure with this code.
    #[must_use]
    pub fn new(code: ErrorCode, error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self { code, error: error.into(), hint: hint.into() }
    }

    /// One that only a message tells.
    #[must_use]
    pub fn msg(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(code, anyhow::Error::msg(message.into()), hint)
    }

    /// The same, with the profile that it is about in the hint.
    #[must_use]
    pub fn about(mut self, profile: &ProfileName) -> Self {
        self.hint = self.hint.replace("{profile}", &format!(" {profile}"));
        self
    }

    /// Ctrl-C, or a request to end.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::msg(
            ErrorCode::Interrupted,
            "interrupted",
            "nothing was changed; run the command again when you are ready",
        )
    }

    /// The same, once what was under way has ended as it should.
    #[must_use]
    pub fn settled() -> Self {
        Self::msg(ErrorCode::Interrupted, "interrupted", "what was under way was finished first; nothing is lost")
    }

    /// The same, with something under way that was cut short.
    #[must_use]
    pub fn cut() -> Self {
        Self::msg(
            ErrorCode::Interrupted,
            "interrupted while the issuer was being asked",
            "run `authctl status{profile}` to see how the session stands",
        )
    }

    /// Tells it on stderr: what failed and what to do next, a line each, or as JSON. A closed stderr is no error.
    pub fn report(&self, json: bool) {
        #[derive(Serialize)]
        struct Report<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'a str,
            message: String,
            hint: String,
        }
        let (message, hint) = (self.message(), self.next());
        let told = if json {
            serde_json::to_string(&Report { error: Error { code: self.code.as_str(), message, hint } })
                .unwrap_or_default()
        } else if hint.is_empty() {
            format!("authctl: {message}")
        } else {
            format!("authctl: {message}\n  next: {hint}")
        };
        let _ = writeln!(
            io::stderr(),
            "{}",
            if json { escape_json(told) } else { sanitize_for_terminal(&told).into_owned() }
        );
    }

    /// What failed, in one line.
    #[must_use]
    pub fn message(&self) -> String {
        one_line(&format!("{:#}", self.error))
    }

    /// What to do next, in one line.
    #[must_use]
    pub fn next(&self) -> String {
        one_line(&self.hint.replace("{profile}", ""))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl From<NoHome> for Error {
    fn from(error: NoHome) -> Self {
        Self::new(ErrorCode::Configuration, error, "set HOME to a directory that you can write to")
    }
}

impl From<InvalidProfileName> for Error {
    fn from(error: InvalidProfileName) -> Self {
        Self::new(ErrorCode::Usage, error, "choose another name")
    }
}

impl From<InsecureUrl> for Error {
    fn from(error: InsecureUrl) -> Self {
        Self::new(ErrorCode::Usage, error, "give the issuer's https address")
    }
}

impl From<InvalidSetting> for Error {
    fn from(error: InvalidSetting) -> Self {
        Self::new(ErrorCode::Usage, error, "see `authctl profile set --help`")
    }
}

impl From<UnknownSetting> for Error {
    fn from(error: UnknownSetting) -> Self {
        Self::new(ErrorCode::Usage, error, "see `authctl profile set --help`")
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let (hint, code) = match &error {
            ConfigError::Io { .. } => (
                "make the file and its directory yours to read and write, or name another with --config",
                ErrorCode::Configuration,
            ),
            ConfigError::Invalid { .. } => {
                ("correct the file in an editor; `authctl profile set` writes it for you", ErrorCode::Configuration)
            }
            ConfigError::Directory { .. } => (
                "name the profile: as an argument, or with AUTHCTL_PROFILE; or make the file yours, and say profile = \"NAME\" and nothing else",
                ErrorCode::Configuration,
            ),
            ConfigError::UnknownProfile { .. } => (
                "run `authctl profile list` to see those there are, or `authctl login NAME --issuer URL --client-id ID` to make one",
                ErrorCode::UnknownProfile,
            ),
            ConfigError::Ambiguous { .. } => {
                ("name one, set AUTHCTL_PROFILE, or choose a default with `authctl profile use NAME`", ErrorCode::Usage)
            }
            ConfigError::Empty => {
                return Self::new(
                    ErrorCode::LoginRequired,
                    error,
                    "run `authctl login NAME --issuer URL --client-id ID`, or `authctl demo` to see how it works",
                );
            }
            ConfigError::Exists(_) => ("choose another name, or remove that profile first", ErrorCode::Usage),
        };
        Self::new(code, error, hint)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (hint, code) = match &error {
            StoreError::Absent { .. } => (
                "start a keychain (gnome-keyring, KWallet, KeePassXC) in this session, or keep sessions in an encrypted file: \
                 `authctl login{profile} --store file`",
                ErrorCode::StoreAbsent,
            ),
            StoreError::Locked => (
                "unlock the keychain and try again (at a desktop, open its password manager), or keep sessions in an \
                 encrypted file: `authctl login{profile} --store file`",
                ErrorCode::StoreLocked,
            ),
            StoreError::TimedOut { .. } => (
                "answer the keychain's question if one is on the screen, or restart its service, and try again",
                ErrorCode::StoreTimedOut,
            ),
            StoreError::Refused { .. } => {
                ("look at the keychain with its own tools, and try again", ErrorCode::StoreRefused)
            }
            StoreError::Damaged { .. } => (
                "restore it and its key from a backup, or log in again with `authctl login{profile}`",
                ErrorCode::SessionDamaged,
            ),
            StoreError::KeyFile { problem, .. } => match problem {
                KeyProblem::TooOpen { .. } => ("make it yours alone, as said, and try again", ErrorCode::StoreKey),
                KeyProblem::Missing => (
                    "restore the key from a backup, or name it with AUTHCTL_KEY_FILE; without it, log in again with \
                     `authctl login{profile}`",
                    ErrorCode::StoreKey,
                ),
                _ => ("name an age identity file of your own with AUTHCTL_KEY_FILE", ErrorCode::StoreKey),
            },
            StoreError::NoSpace { .. } => ("free some space and try again; nothing is lost", ErrorCode::StoreFull),
            StoreError::Io { .. } => {
                ("make the file and its directory yours to read and write", ErrorCode::StoreUnavailable)
            }
        };
        Self::new(code, error, hint)
    }
}

impl From<Problem> for Error {
    /// What the agent told, as the command itself would have told it.
    fn from(problem: Problem) -> Self {
        Self::msg(problem.code, problem.title, problem.hint)
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let hint = match &error {
            ClientError::WrongOwner(_) => "set AUTHCTL_SOCK to a socket of your own, or unset it",
            ClientError::NoResponse | ClientError::InvalidResponse => {
                "look at it with `ps -C authctl`; end it and run `authctl agent start`"
            }
        };
        Self::new(ErrorCode::AgentUnavailable, error, hint)
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        let hint = match &error {
            ListenError::Running(_) => "`authctl agent status` shows it, `authctl agent stop` ends it",
            ListenError::TooOpen { .. } => {
                "run `chmod 700` on it, or set AUTHCTL_SOCK to a path in a directory of yours"
            }
            ListenError::NotOurs { .. } | ListenError::TooLong(_) => {
                "set AUTHCTL_SOCK to a short path in a directory of yours"
            }
            ListenError::Lock(_) | ListenError::Io { .. } => {
                "make the directory yours to read and write, or set AUTHCTL_SOCK to another path"
            }
        };
        Self::new(ErrorCode::AgentUnavailable, error, hint)
    }
}

impl From<InvalidOption> for Error {
    fn from(error: InvalidOption) -> Self {
        let hint = match &error {
            InvalidOption::Algorithm(_) => "name some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
            InvalidOption::Leeway => "correct this machine's clock instead",
        };
        Self::new(ErrorCode::Usage, error, hint)
    }
}

impl From<RevocationListError> for Error {
    fn from(error: RevocationListError) -> Self {
        Self::new(
            ErrorCode::StoreUnavailable,
            error,
            "make the file yours to read and write, or remove it if it is damaged",
        )
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::TimedOut { .. } => Self::new(
                ErrorCode::Busy,
                error,
                "try again; if it stays so, look for an authctl that hangs with `ps -C authctl`",
            ),
            LockError::Unsupported { .. } | LockError::Io { .. } => Self::new(
                ErrorCode::StoreUnavailable,
                error,
                "make the directory yours to read and write, on a file system with locks",
            ),
        }
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::LoginRequired(reason) => {
                let hint = match &reason {
                    LoginReason::NoSession
                    | LoginReason::Ended(_)
                    | LoginReason::NoRefreshToken
                    | LoginReason::IdTokenOver => "run `authctl login{profile}`",
                    LoginReason::OtherIssuer { .. } | LoginReason::OtherClient { .. } => {
                        "run `authctl login{profile}` to log in anew, or undo the change to the profile"
                    }
                    LoginReason::OtherResource { .. } => {
                        "ask for one that the login named, or run `authctl login{profile}` with a --resource for each"
                    }
                    LoginReason::NoIdToken => "run `authctl login{profile} --scope openid`",
                };
                Self::new(ErrorCode::LoginRequired, reason, hint)
            }
            SessionError::Store(error) => error.into(),
            SessionError::Lock(error) => error.into(),
            SessionError::Issuer(error) => error.into(),
            SessionError::FailedJustNow(failed) => {
                let hint = match (failed.code.general(), failed.retry_at) {
                    (ErrorCode::IssuerUnreachable, Some(at)) => format!("try again after {at}"),
                    (ErrorCode::IssuerUnreachable, None) => "try again".to_owned(),
                    _ => "run `authctl status{profile}`".to_owned(),
                };
                Self::msg(failed.code, failed.message, hint)
            }
            SessionError::NotVerified { ref reasons, .. } => {
                let by_key =
                    |reason: &Reason| matches!(reason.code, ReasonCode::UnknownKey | ReasonCode::InvalidSignature);
                let hint = if reasons.iter().any(by_key) {
                    "nothing was stored; check --issuer, and --jwks or --jwks-uri if one was given: a server whose metadata \
                     names no keys needs one of them"
                } else {
                    "nothing was stored; check --issuer and --client-id with whoever runs the issuer, and this machine's clock"
                };
                Self::msg(ErrorCode::TokenDenied, error.to_string(), hint)
            }
            SessionError::RevocationList(error) => error.into(),
            SessionError::Trust { .. } => Self::msg(
                ErrorCode::TrustDamaged,
                error.to_string(),
                "find out who changed it; `authctl keys unpin{profile}` drops it, pinned keys too, and `authctl keys update{profile}` fetches the keys anew",
            ),
            SessionError::Cut => Self::interrupted(),
        }
    }
}

impl From<IssuerError> for Error {
    fn from(error: IssuerError) -> Self {
        match &error {
            IssuerError::Insecure(_) => Self::new(
                ErrorCode::IssuerRefused,
                error,
                "tell whoever runs the issuer that it names an address without https",
            ),
            IssuerError::IssuerMismatch { expected, found } => {
                let hint = name_to_use(expected, found);
                Self::new(ErrorCode::IssuerMismatch, error, hint)
            }
            IssuerError::Unsupported { what } => {
                let another = "use another grant; `authctl login --help` lists them";
                let hint = if what.ends_with("_endpoint") {
                    let option = what.replace('_', "-");
                    format!(
                        "if the server has one that its metadata does not name, give it to `authctl login` with --{option}; else {another}"
                    )
                } else {
                    another.to_owned()
                };
                Self::new(ErrorCode::IssuerRefused, error, hint)
            }
            IssuerError::Unreachable { phase, proxy, .. } => {
                let hint = match (phase, proxy) {
                    (Phase::Tls, _) => {
                        "if an authority of your company's signs for it, give its certificate with --ca-cert or SSL_CERT_FILE; \
                         check this machine's clock too"
                    }
                    (Phase::Dns | Phase::Connect | Phase::Proxy, Some(_)) => {
                        "check the proxy in HTTPS_PROXY or ALL_PROXY, its address, user name and password; NO_PROXY names the \
                         hosts that need none"
                    }
                    (Phase::Dns, None) => {
                        "check the network and the address; if only a proxy knows this name, set HTTPS_PROXY to it"
                    }
                    (Phase::Connect | Phase::Proxy | Phase::Exchange, _) => {
                        "check the network, the proxy (HTTPS_PROXY, NO_PROXY) and the address, and try again"
                    }
                };
                Self::new(ErrorCode::IssuerUnreachable, error, hint)
            }
            IssuerError::Unavailable { retry_after, .. } => {
                let hint = match retry_after {
                    Some(wait) => format!("try again in {} seconds", wait.as_secs()),
                    None => "try again in a minute".into(),
                };
                Self::new(ErrorCode::IssuerUnreachable, error, hint)
            }
            IssuerError::Refused(refusal) => {
                let hint = match refusal.code.as_str() {
                    "invalid_client" | "unauthorized_client" => {
                        "check --client-id, --client-auth and the client's secret, and log in again"
                    }
                    "invalid_scope" => "ask for a scope that the issuer grants this client, with --scope",
                    "invalid_target" => "ask for an --audience or --resource that the issuer knows",
                    "access_denied" => "sign in again and allow the access",
                    "invalid_grant" => "check what was typed, or log in again",
                    "expired_token" => "run the login again, and enter the code sooner",
                    _ => "ask whoever runs the issuer what this means for your client",
                };
                Self::new(ErrorCode::IssuerRefused, error, hint)
            }
            IssuerError::TokenType { .. } => Self::new(
                ErrorCode::TokenType,
                error,
                "have the client registered for bearer tokens at the issuer, without DPoP or another proof",
            ),
            IssuerError::InvalidResponse { wrong_address, .. } => {
                let hint = if *wrong_address {
                    "check the issuer's address and those of its endpoints, path and slash at the end included; if they are \
                     right, something between here and it answers in its place (a proxy, a sign-in page of the network)"
                } else {
                    "something between here and the issuer answers in its place (a proxy, a sign-in page of the network), or \
                     it is out of order; try again"
                };
                Self::new(ErrorCode::IssuerUnreachable, error, hint)
            }
            IssuerError::NoJwt { .. } => Self::new(
                ErrorCode::IssuerUnreachable,
                error,
                "say where it is with `authctl login{profile} --access-token-field NAME`, with dots between the names of nested \
                 members, such as data.token",
            ),
            IssuerError::LoginTimedOut { .. } => {
                Self::new(ErrorCode::LoginRequired, error, "run `authctl login{profile}` again")
            }
            IssuerError::CaCertificates { .. } => Self::new(
                ErrorCode::Configuration,
                error,
                "give a PEM file of certificates with --ca-cert or SSL_CERT_FILE",
            ),
            IssuerError::InvalidProxy { variable } => {
                let hint = format!(
                    "set {variable} to http://HOST:PORT, or the same with https, socks5 or socks5h; in a user name or password \
                     before it, write special characters as in %40 for @. An agent goes by what it was started with"
                );
                Self::new(ErrorCode::Configuration, error, hint)
            }
            IssuerError::ClientKey { .. } => Self::new(
                ErrorCode::Configuration,
                error,
                "name the private key that belongs to the public one at the issuer, with --client-key FILE",
            ),
            IssuerError::Local { .. } => {
                Self::new(ErrorCode::Unexpected, error, "try again, or use `authctl login{profile} --device`")
            }
        }
    }
}

/// What to do where an issuer calls itself `found` and was asked as `expected`. What is to be typed comes from the
/// issuer: only a plain address at the same place is put into a command.
fn name_to_use(expected: &str, found: &str) -> String {
    let place = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
    let plain = found.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/%".contains(&b));
    if !found.contains("://") {
        return "log in again; if it stays so, tell whoever runs the issuer that its metadata promises `iss` in its answers \
                (RFC 9207)"
            .to_owned();
    }
    if !plain || place(expected) != place(found) {
        return format!("if that is the issuer you mean, use exactly `{found}`; if not, do not sign in there");
    }
    let slash = expected.trim_end_matches('/') == found.trim_end_matches('/');
    let why = if slash { "the slash at the end counts" } else { "the whole name counts" };
    format!("{why}: if that is the issuer you mean, log in with `--issuer {found}`; if not, do not sign in there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::RefreshFailure;

    #[test]
    fn shared_refresh_failure_keeps_its_code() {
        for code in ErrorCode::ALL {
            let failed =
                RefreshFailure { at: UnixTime(0), failures: 1, code: *code, message: "m".into(), retry_at: None };
            assert_eq!(Error::from(SessionError::FailedJustNow(failed)).code, *code);
        }
    }

    #[test]
    fn exit_code_table_has_every_exit_code() {
        let mut codes: Vec<u8> = ErrorCode::ALL.iter().map(|code| code.exit_code()).collect();
        codes.dedup();
        let table: Vec<u8> = EXIT_CODES[1..].iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, table);
    }

    #[test]
    fn an_issuers_own_name_is_put_into_a_command_only_where_it_can_do_no_harm() {
        for (expected, found, hint) in [
            (
                "https://a.example/",
                "https://a.example",
                "the slash at the end counts: if that is the issuer you mean, log in with `--issuer https://a.example`; if not",
            ),
            ("https://a.example", "https://a.example/", "log in with `--issuer https://a.example/`;"),
            ("https://a.example/T", "https://a.example/t", "the whole name counts: "),
            ("https://a.example", "https://evil.example", "use exactly `https://evil.example`; if not, do not sign in"),
            ("https://a.example", "https://a.example.evil.example", "use exactly"),
            ("https://a.example", "https://a.example/$(rm -rf .)", "use exactly"),
            ("https://a.example", "no `iss` from the browser", "RFC 9207"),
        ] {
            let told = name_to_use(expected, found);
            assert!(told.contains(hint), "{expected} {found}: {told}");
        }
    }

    #[test]
    fn messages_and_hints_are_one_line_and_name_the_profile() {
        let failure = Error::msg(ErrorCode::LoginRequired, "a\nb\r\n c", "run `authctl login{profile}`");
        assert_eq!((failure.message().as_str(), failure.next().as_str()), ("a b c", "run `authctl login`"));
        let failure = failure.about(&"work".parse().expect("name"));
        assert_eq!(failure.next(), "run `authctl login work`");
    }
}
