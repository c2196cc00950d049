//! Which code and which hint each layer's error has.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Error, ErrorCode, Hint};
use crate::agent::protocol::{ClientError, ListenError, Problem};
use crate::config::{ConfigError, InvalidSetting, UnknownSetting};
use crate::fs::directory_of;
use crate::fs::regular_file::UntrustedFile;
use crate::model::{InsecureUrl, InvalidProfileName};
use crate::oauth::{IssuerError, Phase};
use crate::paths::NoHome;
use crate::store::{KeyProblem, LockError, RevocationListError, StoreError};
use crate::text::shell_word;
use crate::verify::InvalidOption;

impl From<NoHome> for Error {
    fn from(error: NoHome) -> Self {
        Self::new(ErrorCode::Configuration, error, "set HOME to a directory that you can write to")
    }
}

impl From<InvalidProfileName> for Error {
    fn from(error: InvalidProfileName) -> Self {
        Self::new(ErrorCode::Usage, error, Hint::None)
    }
}

impl From<InsecureUrl> for Error {
    fn from(error: InsecureUrl) -> Self {
        Self::new(ErrorCode::Usage, error, "use an https URL")
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
            ConfigError::Io { source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy => {
                (ErrorCode::Configuration, "mount the directory of the file instead of the file".into())
            }
            ConfigError::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => (
                ErrorCode::Configuration,
                "change the file where it comes from, or name a writable one with --config FILE".into(),
            ),
            ConfigError::Io { .. } => {
                (ErrorCode::Configuration, "check the permissions of the file and its directory".into())
            }
            ConfigError::Invalid { path, .. } => {
                let editor = if is_ours(path) { "${EDITOR:-vi}" } else { "sudoedit" };
                let path = shell_word(&path.display().to_string());
                (ErrorCode::Configuration, format!("{editor} {path}").into())
            }
            ConfigError::Untrusted(error) => (ErrorCode::Configuration, untrusted_hint(error)),
            ConfigError::Locked(_) => {
                (ErrorCode::Configuration, "leave that setting out; only an administrator can unlock it".into())
            }
            ConfigError::MachineWide { .. } => (ErrorCode::Usage, "only an administrator can change that file".into()),
            ConfigError::Directory { .. } => {
                (ErrorCode::Configuration, "name the profile as an argument or in AUTHCTL_PROFILE".into())
            }
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
                (ErrorCode::Usage, set_default.after_advice("add the profile's name to the command, or set a default:"))
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
        StoreError::Locked => (ErrorCode::StoreLocked, "unlock the keychain and try again".into()),
        StoreError::TimedOut { .. } => {
            (ErrorCode::StoreTimedOut, "answer the keychain's prompt, or restart its service, and try again".into())
        }
        StoreError::Refused { .. } => (ErrorCode::StoreRefused, "check the keychain with its own tools".into()),
        StoreError::TooOpen { path, .. } => (ErrorCode::StoreRefused, chmod("700", path)),
        StoreError::Damaged { .. } => (ErrorCode::SessionDamaged, Hint::login()),
        StoreError::OtherProfile { .. } => {
            (ErrorCode::StoreUnavailable, "choose a profile name that differs in more than upper and lower case".into())
        }
        StoreError::KeyFile { problem, path } => {
            let hint = match problem {
                KeyProblem::TooOpen { .. } => chmod("600", path),
                KeyProblem::Missing => Hint::login()
                    .after_advice("restore it, since all sessions of the file store need it; or log in again:"),
                KeyProblem::NamedMissing => "correct AUTHCTL_KEY_FILE".into(),
                _ => "name an age identity file in AUTHCTL_KEY_FILE".into(),
            };
            (ErrorCode::StoreKey, hint)
        }
        StoreError::NoSpace { .. } => (ErrorCode::StoreFull, "free some space and try again".into()),
        StoreError::Io { .. } => {
            (ErrorCode::StoreUnavailable, "check the permissions of the file and its directory".into())
        }
    }
}

impl From<Problem> for Error {
    /// Reports the agent's error as the command's own.
    fn from(problem: Problem) -> Self {
        Self::msg(problem.code, problem.title, problem.hint)
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let hint = match &error {
            ClientError::WrongOwner(_) => "set AUTHCTL_SOCK to a socket of your own, or unset it",
            ClientError::NoResponse | ClientError::InvalidResponse => "stop the agent's process and start it again",
        };
        Self::new(ErrorCode::AgentUnavailable, error, hint)
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        let hint = match &error {
            ListenError::Running(_) => Hint::command("agent status"),
            ListenError::TooOpen { path, .. } => chmod("go-w", path),
            ListenError::NotOurs { .. } | ListenError::TooLong(_) => {
                "set AUTHCTL_SOCK to a short path in a directory of yours".into()
            }
            ListenError::Lock(_) | ListenError::Io { .. } => {
                "check the permissions of the directory, or set AUTHCTL_SOCK to another path".into()
            }
        };
        Self::new(ErrorCode::AgentUnavailable, error, hint)
    }
}

impl From<InvalidOption> for Error {
    fn from(error: InvalidOption) -> Self {
        let hint = match &error {
            InvalidOption::Algorithm(_) => "use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA",
            InvalidOption::Leeway => "correct this machine's clock",
        };
        Self::new(ErrorCode::Usage, error, hint)
    }
}

impl From<RevocationListError> for Error {
    fn from(error: RevocationListError) -> Self {
        let hint = "check the permissions of the file, or remove it if it is damaged";
        Self::new(ErrorCode::StoreUnavailable, error, hint)
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::TimedOut { .. } => Self::new(
                ErrorCode::Busy,
                error,
                "try again; if it still fails, look for an authctl process that hangs",
            ),
            LockError::Unsupported { .. } | LockError::Io { .. } => {
                let hint = "check the permissions of the directory, and that its file system supports file locks";
                Self::new(ErrorCode::StoreUnavailable, error, hint)
            }
        }
    }
}

impl From<IssuerError> for Error {
    fn from(error: IssuerError) -> Self {
        let hint = match &error {
            IssuerError::Insecure(InsecureUrl::Internal { .. }) => {
                "report it to the issuer's operator; an endpoint that is right can be named in the profile, as with --token-endpoint"
                    .into()
            }
            IssuerError::Insecure(_) => "report to the issuer's operator that its metadata has a URL without https".into(),
            IssuerError::IssuerMismatch { expected, found } => mismatch_hint(expected, found),
            IssuerError::Unsupported { what } if what.ends_with("_endpoint") => {
                format!("give the endpoint with --{}, or use another grant", what.replace('_', "-")).into()
            }
            IssuerError::Unsupported { .. } => Hint::command("login").with_flag("--help"),
            IssuerError::Unreachable { phase: Phase::Tls, .. } => {
                "check the address and this machine's clock, or report the certificate to the issuer's operator".into()
            }
            IssuerError::Unreachable { phase: Phase::UnknownAuthority, .. } => Hint::setting("ca_cert", "FILE")
                .after_advice("if it is your company's, trust it with --ca-cert or SSL_CERT_FILE:"),
            IssuerError::Unreachable { phase: Phase::NoTls, .. } => {
                "give the address with the port that is for https; http is accepted only on this machine (127.0.0.1, [::1])"
                    .into()
            }
            IssuerError::Unreachable { phase: Phase::Dns | Phase::Connect | Phase::Proxy, proxy: Some(_), .. } => {
                "check the proxy in HTTPS_PROXY or ALL_PROXY, its user name and password; NO_PROXY lists the hosts that need none"
                    .into()
            }
            IssuerError::Unreachable { phase: Phase::Dns, .. } => {
                "check the network and the address; if only a proxy can resolve it, set HTTPS_PROXY".into()
            }
            IssuerError::Unreachable { .. } => {
                "check the network, the proxy (HTTPS_PROXY, NO_PROXY) and the address, and try again".into()
            }
            IssuerError::Unavailable { retry_after: Some(wait), .. } => format!("try again in {} seconds", wait.as_secs()).into(),
            IssuerError::Unavailable { .. } => "try again in a minute".into(),
            IssuerError::Refused(refusal) => match refusal.code.as_str() {
                "invalid_client" | "unauthorized_client" => {
                    "check --client-id, --client-auth and the client secret, and log in again".into()
                }
                "invalid_scope" => "give a --scope that the issuer grants to this client".into(),
                "invalid_target" => "give an --audience or --resource that the issuer knows".into(),
                "access_denied" | "invalid_grant" | "expired_token" | "unsupported_grant_type" => Hint::login(),
                _ => "ask the issuer's operator what this means for your client".into(),
            },
            IssuerError::OtherSubject { .. } | IssuerError::OtherAudience { .. } => Hint::login(),
            IssuerError::Rejected { status: 404 | 405, .. } => WRONG_ADDRESS.into(),
            IssuerError::Rejected { .. } => {
                "check --client-id, --client-auth and the client secret; if they are right, ask the issuer's operator".into()
            }
            IssuerError::TokenType { .. } => {
                "have the client registered for bearer tokens at the issuer, without DPoP".into()
            }
            IssuerError::InvalidResponse { wrong_address: true, .. } => WRONG_ADDRESS.into(),
            IssuerError::InvalidResponse { .. } => {
                "check whether a proxy or a captive portal responds instead of the issuer, and try again".into()
            }
            IssuerError::NoJwt { .. } => {
                "give the member that contains it with --access-token-field, such as data.token".into()
            }
            IssuerError::LoginTimedOut { .. } => Hint::login(),
            IssuerError::CaCertificates { .. } => "give a PEM file of certificates with --ca-cert or SSL_CERT_FILE".into(),
            IssuerError::UntrustedFile(error) => untrusted_hint(error),
            IssuerError::InvalidProxy { variable } => {
                format!("set {variable} to a URL such as http://proxy.example:3128, with special characters as in %40")
                    .into()
            }
            IssuerError::ClientKey { .. } => {
                "give with --client-key the private key whose public key is registered at the issuer".into()
            }
            IssuerError::Local { .. } => Hint::login().with_flag("--device"),
        };
        Self::new(error.code(), error, hint)
    }
}

const WRONG_ADDRESS: &str = "check the issuer's address and those of its endpoints, path and slash at the end included";

/// Suggests to change the mode of a file or directory.
fn untrusted_hint(error: &UntrustedFile) -> Hint {
    match error {
        UntrustedFile::Writable { path, .. } => chmod("go-w", path),
        UntrustedFile::NotOurs { path, .. } => {
            // The owner of its directory: a machine-wide file belongs to root.
            let owner = if is_ours(directory_of(path)) { "\"$(id -u)\"" } else { "root" };
            let path = shell_word(&path.display().to_string());
            format!("sudo chown {owner} {path}").into()
        }
    }
}

fn chmod(mode: &str, path: &Path) -> Hint {
    let sudo = if is_ours(path) { "" } else { "sudo " };
    format!("{sudo}chmod {mode} {}", shell_word(&path.display().to_string())).into()
}

/// Returns whether this user may change the mode of the file. One that is missing counts as the user's.
fn is_ours(path: &Path) -> bool {
    let us = rustix::process::geteuid();
    us.is_root() || std::fs::metadata(path).map_or(true, |about| about.uid() == us.as_raw())
}

/// Returns the hint if the issuer is configured as `expected` but names itself `found`. `found` comes from the issuer, so it
/// is put into a command only if it has the same origin and no special characters.
fn mismatch_hint(expected: &str, found: &str) -> Hint {
    let origin = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
    let plain = found.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/%".contains(&b));
    if !found.contains("://") {
        return "report to the issuer's operator that its metadata promises `iss` in its responses (RFC 9207)".into();
    }
    if plain && origin(expected) == origin(found) {
        return Hint::login().with_option("--issuer", found);
    }
    format!("if that is the issuer you mean, use exactly `{found}`; if not, do not sign in there").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_own_name_is_put_into_a_command_only_at_the_same_host() {
        for (expected, found, hint) in [
            ("https://a.example/", "https://a.example", "authctl login --issuer https://a.example"),
            ("https://a.example", "https://a.example/", "authctl login --issuer https://a.example/"),
            ("https://a.example/T", "https://a.example/t", "authctl login --issuer https://a.example/t"),
            ("https://a.example", "https://evil.example", "use exactly `https://evil.example`; if not, do not sign in"),
            ("https://a.example", "https://a.example.evil.example", "use exactly"),
            ("https://a.example", "https://a.example/$(rm -rf .)", "use exactly"),
            ("https://a.example", "no `iss` from the browser", "RFC 9207"),
        ] {
            let text = mismatch_hint(expected, found).to_string();
            assert!(text.contains(hint), "{expected} {found}: {text}");
        }
    }
}
