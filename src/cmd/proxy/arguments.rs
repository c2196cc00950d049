//! The arguments of a proxy: where it listens, and for which API of which profile it is.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::app::App;
use crate::cli::ProxyRules;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName};
use crate::proxy::Target;

/// Where to listen.
pub enum ListenAddress {
    /// At this address of the loopback interface.
    Tcp(SocketAddr),
    /// At this path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Parses the address of `--listen`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if it is invalid, or can be reached from other machines.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let usage = |message: String| Error::msg(ErrorCode::Usage, message, Hint::command("proxy").with_flag("--help"));
        if let Some(path) = text.strip_prefix("unix:") {
            return std::path::absolute(path).map(Self::Unix).map_err(|e| usage(format!("invalid path `{path}`: {e}")));
        }
        let address = text.replacen("localhost:", "127.0.0.1:", 1);
        match address.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(_) => Err(usage(format!("`{text}` can be reached from other machines; a proxy listens on loopback"))),
            Err(_) => {
                Err(usage(format!("invalid address `{text}` (example: 127.0.0.1:0 or unix:/run/user/1000/api.sock)")))
            }
        }
    }
}

/// Checks the arguments; returns the profile and the API. The token in AUTHCTL_TOKEN is never used: it is not known which API it is
/// for.
///
/// # Errors
/// [`ErrorCode::Usage`] if an argument is invalid; if there is no such profile, or if it is for other APIs.
pub(super) fn check<'r>(
    app: &App,
    profile: Option<&ProfileName>,
    rules: &'r ProxyRules,
) -> Result<(Profile, &'r ApiUrl, Target), Error> {
    let help = || Hint::command("proxy").with_flag("--help");
    let api = rules.api.as_ref();
    let api = api.ok_or_else(|| Error::msg(ErrorCode::Usage, "the API is missing: --for URL", help()))?;
    if let Some(rule) = rules.rules().contradiction() {
        return Err(Error::msg(ErrorCode::Usage, format!("--read-only excludes --allow '{rule}'"), help()));
    }
    let target = Target::try_from(api).map_err(|error| Error::new(ErrorCode::Usage, error, help()))?;
    Ok((app.profile_for(api, profile)?, api, target))
}
