//! `authctl helper`

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::model::{ToolHost, parse_duration};

/// `authctl helper`
#[derive(Clone, Debug, Args)]
#[command(override_usage = "authctl helper [OPTIONS] <TOOL> --setup|--write|--remove [--host <HOST>]...\n       \
                      authctl helper [OPTIONS] file|azure [FILE] --setup|--write|--remove\n       \
                      authctl helper [OPTIONS] <TOOL> [ARG]...")]
pub struct Helper {
    /// Tool that gets the token
    pub tool: Tool,
    /// Print how the tool is set up
    #[arg(long, group = "mode")]
    pub setup: bool,
    /// Set the tool up
    #[arg(long, group = "mode")]
    pub write: bool,
    /// Undo the set-up
    #[arg(long, group = "mode")]
    pub remove: bool,
    /// Set the tool up for this host, such as git.example or localhost:5000; repeatable
    #[arg(long = "host", value_name = "HOST", requires = "mode")]
    pub hosts: Vec<ToolHost>,
    /// Give the tool the ID token instead of the access token
    #[arg(long)]
    pub id_token: bool,
    /// aws: assume this role
    #[arg(long, value_name = "ARN")]
    pub role_arn: Option<String>,
    /// aws: name the session of the role [default: authctl-PROFILE]
    #[arg(long, value_name = "NAME")]
    pub role_session_name: Option<String>,
    /// aws: have the credentials last this long, 15m to 12h [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub role_duration: Option<Duration>,
    /// aws: use the STS of this region instead of AWS_REGION's
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// aws: set this profile of AWS up [default: PROFILE]
    #[arg(long, value_name = "NAME", requires = "mode")]
    pub aws_profile: Option<String>,
    /// What the tool asks
    #[arg(value_name = "ARG")]
    pub words: Vec<String>,
}

/// A tool with a protocol of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// git: a credential helper
    Git,
    /// Docker, Podman and Skopeo: a credential helper
    Docker,
    /// kubectl and the Kubernetes clients: an exec credential plugin
    Kubernetes,
    /// cargo: a credential provider for registries
    Cargo,
    /// pip and uv: the `keyring` command
    Keyring,
    /// Terraform and OpenTofu: a credentials helper
    Terraform,
    /// Google Cloud clients: an executable-sourced credential
    Google,
    /// AWS clients: a credential process
    Aws,
    /// Azure clients: a workload identity token file
    Azure,
    /// Programs that read a token from a file
    File,
}

impl Tool {
    /// Returns the name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Tool {
    /// Returns every tool.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }
}

/// The names under which tools start authctl, and the tool of each.
const LINKS: [(&str, &str); 3] =
    [("docker-credential-authctl", "docker"), ("keyring", "keyring"), ("terraform-credentials-authctl", "terraform")];

/// Returns the command line `authctl helper TOOL ...` for a program that a tool has started by another name, or with cargo's
/// only argument.
pub(super) fn expand(mut args: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let name = args.first().and_then(|program| std::path::Path::new(program).file_name());
    let link = LINKS.iter().find(|(link, _)| name.is_some_and(|name| name == *link));
    if let Some((_, tool)) = link {
        args.splice(0..1, ["authctl", "helper", tool, "--"].map(Into::into));
    } else if args.len() == 2 && args[1] == "--cargo-plugin" {
        args.splice(1..2, ["helper", "cargo"].map(Into::into));
    }
    args
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn tools_start_the_helper_by_their_own_names() {
        for (typed, meant) in [
            ("/usr/local/bin/docker-credential-authctl get", "authctl helper docker -- get"),
            (
                "keyring --mode creds get https://a.example",
                "authctl helper keyring -- --mode creds get https://a.example",
            ),
            ("authctl --cargo-plugin", "authctl helper cargo"),
            ("authctl --cargo-plugin more", "authctl --cargo-plugin more"),
            ("docker-credential-authctl-old get", "docker-credential-authctl-old get"),
        ] {
            let line = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
            assert_eq!(expand(line(typed)), line(meant), "{typed}");
        }
    }
}
