//! Which code and which hint each layer's error has.

use std::io::ErrorKind;

use super::{Error, ErrorCode, Hint};
use crate::agent::protocol::{ClientError, ListenError, Problem};
use crate::config::{ConfigError, InvalidSetting, UnknownSetting};
use crate::fs::UntrustedFile;
use crate::model::{ApiUrl, InsecureUrl, InvalidProfileName, is_dpop, span};
use crate::oauth::{IssuerError, Phase};
use crate::paths::NoHome;
use crate::store::{KeyProblem, LockError, RevocationListError, StoreError};
use crate::verify::InvalidOption;

impl From<NoHome> for Error {
    fn from(error: NoHome) -> Self {
        Self::new(ErrorCode::Configuration, error, Hint::shell(SET_HOME))
    }
}

impl From<InvalidProfileName> for Error {
    fn from(error: InvalidProfileName) -> Self {
        Self::new(ErrorCode::Usage, error, Hint::None)
    }
}

impl From<InsecureUrl> for Error {
    fn from(error: InsecureUrl) -> Self {
        Self::new(ErrorCode::Usage, error, Hint::command("login").with_flag("--help"))
    }
}

impl From<InvalidSetting> for Error {
    fn from(error: InvalidSetting) -> Self {
        Self::new(ErrorCode::Usage, error, Hint::command("profile set").with_flag("--help"))
    }
}

impl From<UnknownSetting> for Error {
    fn from(error: UnknownSetting) -> Self {
        Self::new(ErrorCode::Usage, error, Hint::command("profile set").with_flag("--help"))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let (code, hint) = match &error {
            ConfigError::Io { source, .. } if source.kind() == ErrorKind::ResourceBusy => {
                (ErrorCode::Configuration, Hint::advice("mount the directory of the file instead of the file"))
            }
            ConfigError::Io { path, source } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                (ErrorCode::Configuration, Hint::writable_copy(path))
            }
            ConfigError::Io { path, source } => (ErrorCode::Configuration, Hint::access(path, source.kind())),
            ConfigError::Invalid { path, .. } | ConfigError::Directory { path, .. } => {
                (ErrorCode::Configuration, Hint::edit(path))
            }
            ConfigError::Untrusted(error) => (ErrorCode::Configuration, Hint::untrusted(error)),
            ConfigError::Locked(_) => {
                let hint = Hint::advice("leave that setting out; only an administrator can unlock it");
                (ErrorCode::Configuration, hint)
            }
            ConfigError::SharedTokenFile { shared } => {
                (ErrorCode::Configuration, Hint::command("profile show").with_argument(shared.other.as_str()))
            }
            ConfigError::MachineWide { path, .. } => (ErrorCode::Usage, Hint::edit(path)),
            ConfigError::Exists(_) => (ErrorCode::Usage, Hint::command("profile list")),
            ConfigError::UnknownProfile { name, nearest, is_another } => {
                let hint = match nearest {
                    Some(nearest) => Hint::command("profile list").or_correction(name.as_str(), nearest.as_str()),
                    None if *is_another => Hint::command("profile list"),
                    None => Hint::login().about(name),
                };
                (ErrorCode::UnknownProfile, hint)
            }
            ConfigError::Ambiguous { first, .. } => {
                let set_default = Hint::profile_command("profile use").about(first);
                (ErrorCode::Usage, set_default.after_advice("add the profile's name to the command, or set a default"))
            }
            ConfigError::Empty => (ErrorCode::LoginRequired, Hint::command("login")),
        };
        Self::new(code, error, hint)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (code, hint) = of_store_error(&error);
        Self::new(code, error, hint)
    }
}

pub(super) fn of_store_error(error: &StoreError) -> (ErrorCode, Hint) {
    match error {
        StoreError::Absent { .. } => (ErrorCode::StoreAbsent, Hint::login().with_option("--store", "file")),
        StoreError::Locked => (ErrorCode::StoreLocked, unlock_keychain()),
        StoreError::TimedOut { .. } => (
            ErrorCode::StoreTimedOut,
            Hint::advice("answer the keychain's prompt, or restart its service, and try again"),
        ),
        StoreError::Refused { .. } => (ErrorCode::StoreRefused, Hint::doctor("check the keychain with its own tools")),
        StoreError::Untrusted(error) => (ErrorCode::StoreRefused, Hint::untrusted(error)),
        StoreError::Damaged { .. } => (ErrorCode::SessionDamaged, Hint::login()),
        StoreError::OtherProfile { .. } => {
            let hint = Hint::advice("choose a profile name that differs in more than upper and lower case");
            (ErrorCode::StoreUnavailable, hint)
        }
        StoreError::AgentRequired => (ErrorCode::AgentAbsent, Hint::command("agent start")),
        // It also fetches the issuer's keys, and shows whether the session still lasts.
        StoreError::HeldByAgent => (ErrorCode::AgentUnavailable, Hint::profile_command("refresh")),
        StoreError::RefusedByAgent { code, hint, .. } => (*code, Hint::reported(hint.clone(), None)),
        StoreError::AgentSilent => (ErrorCode::AgentUnavailable, Hint::command("agent stop")),
        StoreError::AgentLocked => (ErrorCode::AgentLocked, Hint::command("agent unlock")),
        StoreError::Sealed => (ErrorCode::PassphraseRequired, Hint::command("agent start")),
        StoreError::WrongPassphrase => (ErrorCode::WrongPassphrase, forgotten_passphrase()),
        StoreError::Interrupted => (ErrorCode::Interrupted, Hint::None),
        StoreError::KeyFile { problem, path } => {
            let hint = match problem {
                KeyProblem::TooOpen { .. } => Hint::chmod("600", path),
                KeyProblem::Missing => Hint::login()
                    .after_advice("restore it, since all sessions of the file store need it; or log in again"),
                KeyProblem::NotOurs { .. } => Hint::chown(path),
                KeyProblem::NotAKey | KeyProblem::TooLarge => {
                    Hint::advice("name an age identity file in AUTHCTL_KEY_FILE")
                }
                KeyProblem::Unreadable { kind, .. } => Hint::access(path, *kind),
                KeyProblem::NamedMissing | KeyProblem::NotAFile => Hint::list(path),
                // Another agent has no sessions that the replaced key protects.
                KeyProblem::Replaced => Hint::command("agent stop"),
                KeyProblem::Named => Hint::shell("unset AUTHCTL_KEY_FILE"),
                KeyProblem::WorkFactor { .. } => {
                    Hint::advice("seal the key again with `age -p`, which uses a work factor of 18")
                }
            };
            (ErrorCode::StoreKey, hint)
        }
        StoreError::NoSpace { path } => (ErrorCode::StoreFull, Hint::on_nearest("df -h", path)),
        StoreError::Io { path, source, .. } => (ErrorCode::StoreUnavailable, Hint::access(path, source.kind())),
    }
}

impl From<Problem> for Error {
    /// Reports the agent's error as the command's own.
    fn from(problem: Problem) -> Self {
        Self::msg(problem.code, problem.title, Hint::reported(problem.hint, problem.note))
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let hint = match &error {
            ClientError::WrongOwner(_) => Hint::shell(OWN_SOCKET),
            ClientError::NoResponse | ClientError::InvalidResponse => Hint::command("agent stop"),
        };
        Self::new(ErrorCode::AgentUnavailable, error, hint)
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        let hint = match &error {
            ListenError::Running(_) => Hint::command("agent status"),
            ListenError::Untrusted(error @ UntrustedFile::Writable { .. }) => Hint::untrusted(error),
            ListenError::Occupied(path) => Hint::list(path),
            ListenError::Untrusted(UntrustedFile::NotOurs { .. })
            | ListenError::TooLong(_)
            | ListenError::Lock(_)
            | ListenError::Io { .. } => Hint::shell(OWN_SOCKET),
        };
        let code = match &error {
            ListenError::Occupied(_) => ErrorCode::Usage,
            _ => ErrorCode::AgentUnavailable,
        };
        Self::new(code, error, hint)
    }
}

impl From<InvalidOption> for Error {
    fn from(error: InvalidOption) -> Self {
        let hint = match &error {
            InvalidOption::Algorithm(_) => Hint::command("verify").with_flag("--help"),
            InvalidOption::Leeway => Hint::shell(SET_CLOCK),
        };
        Self::new(ErrorCode::Usage, error, hint)
    }
}

impl From<RevocationListError> for Error {
    fn from(error: RevocationListError) -> Self {
        let hint = match &error {
            // Tokens that were revoked on this machine would be accepted again without it.
            RevocationListError::Damaged(path) => Hint::list(path),
            RevocationListError::Lock(error) => of_lock_error(error),
            RevocationListError::Io { path, source } => Hint::access(path, source.kind()),
        };
        Self::new(ErrorCode::StoreUnavailable, error, hint)
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        let (code, hint) = match &error {
            LockError::TimedOut { .. } => (ErrorCode::Busy, of_lock_error(&error)),
            LockError::Unsupported { .. } | LockError::Io { .. } => {
                (ErrorCode::StoreUnavailable, of_lock_error(&error))
            }
        };
        Self::new(code, error, hint)
    }
}

fn of_lock_error(error: &LockError) -> Hint {
    match error {
        LockError::TimedOut { .. } => Hint::shell("pgrep -l authctl"),
        LockError::Unsupported { path } => Hint::on_nearest("df -h", path),
        LockError::Io { path, source } => Hint::access(path, source.kind()),
    }
}

impl From<IssuerError> for Error {
    fn from(error: IssuerError) -> Self {
        let hint = match &error {
            IssuerError::Insecure(InsecureUrl::Internal { .. }) => Hint::advice(
                "report it to the issuer's operator; an endpoint that is right can be named in the profile, as with \
                 --token-endpoint",
            ),
            IssuerError::Insecure(_) => {
                Hint::advice("report to the issuer's operator that its metadata has a URL without https")
            }
            IssuerError::IssuerMismatch { expected, found } => mismatch_hint(expected, found),
            // At the origin that the user has named, so that it is no stranger's.
            IssuerError::ResourceMismatch { api, found } if is_same_origin(api, found) => {
                Hint::login().with_option("--for", found)
            }
            IssuerError::ResourceMismatch { .. } => {
                Hint::advice("give the URL of the API as its operator documents it, or report the metadata to them")
            }
            IssuerError::Unsupported { what: "device_authorization_endpoint" } => Hint::login().with_flag("--browser"),
            IssuerError::Unsupported { what: "authorization_endpoint" } => Hint::login().with_flag("--device"),
            IssuerError::Unsupported { what } if what.ends_with("_endpoint") => {
                Hint::advice(format!("give the endpoint with --{}, or use another grant", what.replace('_', "-")))
            }
            IssuerError::Unsupported { .. } => Hint::command("login").with_flag("--help"),
            IssuerError::Unreachable { phase: Phase::Tls, .. } => Hint::doctor(
                "check the address and this machine's clock, or report the certificate to the issuer's operator",
            ),
            IssuerError::Unreachable { phase: Phase::UnknownAuthority, .. } => Hint::advice(
                "if it is your company's, name the PEM file of its certificate authority: in SSL_CERT_FILE, with --ca-cert of \
                 login, or as ca_cert with profile set",
            ),
            IssuerError::Unreachable { phase: Phase::NoTls, .. } => Hint::doctor(
                "give the address with the port that is for https; http is accepted only on this machine (127.0.0.1, [::1])",
            ),
            IssuerError::Unreachable { phase: Phase::Dns | Phase::Connect | Phase::Proxy, proxy: Some(_), .. } => {
                Hint::doctor(
                    "check the proxy in HTTPS_PROXY or ALL_PROXY, its user name and password; NO_PROXY lists the hosts \
                     that need none",
                )
            }
            IssuerError::Unreachable { phase: Phase::Dns, .. } => {
                Hint::doctor("check the network and the address; if only a proxy can resolve it, set HTTPS_PROXY")
            }
            IssuerError::Unreachable { .. } => Hint::doctor(CHECK_NETWORK),
            IssuerError::Unavailable { retry_after: Some(wait), .. } => {
                Hint::advice(format!("try again in {}", span(*wait)))
            }
            IssuerError::Unavailable { .. } => Hint::advice("try again in a minute"),
            IssuerError::Refused(refusal) => match refusal.code.as_str() {
                "invalid_client" | "unauthorized_client" => {
                    Hint::login().after_advice("check --client-id, --client-auth and the client secret, and log in again")
                }
                "invalid_scope" => Hint::advice("give a --scope that the issuer grants to this client"),
                "invalid_target" => Hint::advice("give an --audience or --resource that the issuer knows"),
                "access_denied" | "invalid_grant" | "expired_token" | "unsupported_grant_type" => Hint::login(),
                _ => Hint::advice("ask the issuer's operator what this means for your client"),
            },
            IssuerError::InvalidKeys { .. } => {
                Hint::doctor("report the keys to the issuer's operator, or give their address with --jwks-uri")
            }
            IssuerError::OtherSubject { .. } => Hint::login(),
            // Of a client without a user: the same login would have the same result.
            IssuerError::OtherAudience { .. } => Hint::advice(
                "ask the issuer's operator to allow this client that audience, or request another one with --audience",
            ),
            IssuerError::Rejected { status: 404 | 405, .. }
            | IssuerError::NoDocument { .. }
            | IssuerError::InvalidResponse { wrong_address: true, .. }
            | IssuerError::NotAnIssuer { .. } => Hint::check_settings(WRONG_ADDRESS),
            IssuerError::Rejected { .. } => Hint::login().after_advice(
                "check --client-id, --client-auth and the client secret, or ask the issuer's operator; then log in again",
            ),
            IssuerError::NotBound => Hint::login().with_option("--dpop", "auto"),
            IssuerError::BoundElsewhere => Hint::advice("ask the issuer's operator what this means for your client"),
            IssuerError::TokenType { found } if is_dpop(found) => {
                Hint::login().with_option("--dpop", "always")
            }
            IssuerError::TokenType { .. } => {
                Hint::advice("have the client registered for bearer tokens at the issuer, without DPoP")
            }
            IssuerError::InvalidResponse { .. } => {
                Hint::doctor("check whether a proxy or a captive portal responds instead of the issuer")
            }
            IssuerError::NoJwt { .. } => {
                Hint::advice("give the member that contains it with --access-token-field, such as data.token")
            }
            IssuerError::LoginTimedOut { .. } => Hint::login(),
            IssuerError::CaCertificates { path, .. } => Hint::list(path),
            IssuerError::UntrustedFile(error) => Hint::untrusted(error),
            IssuerError::InvalidProxy { variable } => Hint::advice(format!(
                "set {variable} to a URL such as http://proxy.example:3128, with special characters as in %40"
            )),
            IssuerError::ClientKey { .. } => {
                Hint::advice("give with --client-key the private key whose public key is registered at the issuer")
            }
            IssuerError::Local { .. } => Hint::login().with_flag("--device"),
        };
        Self::new(error.code(), error, hint)
    }
}

const WRONG_ADDRESS: &str = "check the issuer's address and those of its endpoints, path and slash at the end included";

pub(super) const CHECK_NETWORK: &str = "check the network, the proxy (HTTPS_PROXY, NO_PROXY) and the address";

/// The command that sets HOME to the user's home directory.
const SET_HOME: &str = if cfg!(target_os = "macos") {
    "export HOME=\"/Users/$(id -un)\""
} else {
    "export HOME=\"$(getent passwd \"$(id -u)\" | cut -d: -f6)\""
};

/// The command that sets the clock.
pub const SET_CLOCK: &str =
    if cfg!(target_os = "macos") { "sudo sntp -sS time.apple.com" } else { "sudo timedatectl set-ntp true" };

/// The command that moves the agent's socket to a directory that only this user can write to.
const OWN_SOCKET: &str = "export AUTHCTL_SOCK=\"$HOME/.authctl.sock\"";

/// Suggests what to do if the passphrase was not just mistyped.
#[must_use]
pub fn forgotten_passphrase() -> Hint {
    Hint::command("store passphrase").with_flag("--forgotten").after_advice(
        "try again; nothing decrypts sessions whose passphrase is forgotten: then start over, and log in again",
    )
}

fn unlock_keychain() -> Hint {
    if cfg!(target_os = "macos") {
        Hint::shell("security unlock-keychain")
    } else {
        Hint::advice("unlock the keychain in your desktop's password manager, and try again")
    }
}

/// Returns the hint if the issuer is configured as `expected` but names itself `found`. `found` comes from the issuer, so it
/// is put into a command only if it has the same origin and no special characters.
fn mismatch_hint(expected: &str, found: &str) -> Hint {
    let origin = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
    let plain = found.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/%".contains(&b));
    if !found.contains("://") && !found.contains(' ') {
        return Hint::advice("report to the issuer's operator that its metadata has an issuer that is not a URL");
    }
    if !found.contains("://") {
        return Hint::advice(
            "report to the issuer's operator that its metadata promises `iss` in its responses (RFC 9207)",
        );
    }
    if plain && origin(expected) == origin(found) {
        return Hint::login().with_option("--issuer", found);
    }
    Hint::advice(format!("if that is the issuer you mean, use exactly `{found}`; if not, do not sign in there"))
}

/// Returns whether both are URLs of APIs at the same origin.
fn is_same_origin(api: &str, other: &str) -> bool {
    let origin = |text: &str| text.parse::<ApiUrl>().ok().map(|api| api.url().origin());
    origin(api).is_some_and(|own| origin(other) == Some(own))
}

#[cfg(test)]
mod tests;
