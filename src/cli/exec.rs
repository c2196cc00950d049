//! The arguments of `authctl exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::proxy::ProxyRules;

/// `authctl exec`
#[derive(Debug, Args)]
#[command(
    // What the rules restrict is the proxy: without it the command would get the token.
    mut_arg("api", |arg| arg.requires("proxy")),
    mut_arg("allowed", |arg| arg.requires("proxy")),
    mut_arg("read_only", |arg| arg.requires("proxy")),
    mut_arg("max_requests", |arg| arg.requires("proxy")),
    override_usage = "authctl exec [OPTIONS] [PROFILE] -- CMD [ARG]...\n       authctl exec [OPTIONS] PROFILE CMD [ARG]..."
)]
pub struct Exec {
    /// Profile name; required without `--`
    #[arg(value_name = "PROFILE")]
    pub first: Option<OsString>,
    /// Set this environment variable to the token, or with --file to its path [default: AUTHCTL_TOKEN, AUTHCTL_TOKEN_FILE]; with
    /// --proxy, set NAME=TEXT, where {url}, {key} and {socket} in the text are the proxy's; repeatable then
    #[arg(long, value_name = "NAME", value_parser = variable)]
    pub env: Vec<(String, Option<String>)>,
    /// Keep the token fresh in this file while the command runs, instead of passing it
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Run the command with a proxy for the API of --for instead of a token: AUTHCTL_PROXY_URL and AUTHCTL_PROXY_KEY
    #[arg(long, requires = "api", conflicts_with_all = ["file", "hook"])]
    pub proxy: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rules: ProxyRules,
    /// Run the command under bubblewrap: no network but the proxy, home read-only, no agent and no keychain
    #[arg(long, requires = "proxy")]
    pub sandbox: bool,
    /// With --sandbox, a file or directory that the command may write; repeatable
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    pub bind: Vec<PathBuf>,
    /// Run the command beside a port that leads to this socket: what runs in the sandbox
    #[arg(long, hide = true, value_name = "SOCKET", requires = "command")]
    pub inside: Option<PathBuf>,
    /// Run a hook, without a token, once this file can be locked: what a refresh starts
    #[arg(long, hide = true, value_name = "FILE", requires = "command")]
    pub hook: Option<PathBuf>,
    /// Command and its arguments
    #[arg(allow_hyphen_values = true, hide = true, value_name = "CMD")]
    pub words: Vec<OsString>,
    /// Command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Parses the name of a variable, and its value if there is one.
fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let fits = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits {
        Ok((name.to_owned(), value.map(str::to_owned)))
    } else {
        Err(format!("invalid variable name `{name}` (letters, digits and `_`, not starting with a digit)"))
    }
}
