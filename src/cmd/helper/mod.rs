//! `authctl helper`: gives other tools tokens in their own protocols, one file a tool.
//!
//! A tool that names the host for which it needs a credential gets the token of the profile that lists the host in `hosts`; no
//! other host gets one. A helper never prompts and opens no browser: it fails in the form in which the tool shows errors.

mod aws;
mod azure;
mod call;
mod cargo;
mod docker;
mod file;
mod git;
mod google;
mod keyring;
mod kubeconfig;
mod kubernetes;
mod program;
mod protocol;
mod setup;
mod terraform;

use super::output;
use crate::app::App;
use crate::cli::{Helper, Tool};
use crate::error::Error;
use crate::model::ProfileName;
use call::Call;
use protocol::Protocol;

fn protocol(tool: Tool) -> &'static dyn Protocol {
    match tool {
        Tool::Git => &git::Git,
        Tool::Docker => &docker::Docker,
        Tool::Kubernetes => &kubernetes::Kubernetes,
        Tool::Cargo => &cargo::Cargo,
        Tool::Keyring => &keyring::Keyring,
        Tool::Terraform => &terraform::Terraform,
        Tool::Google => &google::Google,
        Tool::Aws => &aws::Aws,
        Tool::Azure => &azure::Azure,
        Tool::File => &file::File,
    }
}

/// Returns where the set-up of tools names the profile `old`, which was renamed to `new` or removed, each with the command that
/// changes it.
pub(super) fn places_of(app: &App, old: &ProfileName, new: Option<&ProfileName>) -> Vec<(String, String)> {
    // What cannot be read is reported by the tool.
    let of = |tool: &Tool| protocol(*tool).places_of(app, old, new).unwrap_or_default();
    Tool::all().iter().flat_map(of).collect()
}

/// Runs the command.
pub fn run(app: &App, args: Helper) -> Result<u8, Error> {
    let call = Call { app, args: &args };
    let protocol = protocol(args.tool);
    if args.setup || args.write || args.remove {
        return setup::run(&call, &protocol.setup(&call)?, &|call| self::protocol(call.args.tool).setup(call));
    }
    let error = match protocol.answer(&call) {
        Ok(code) => return Ok(code),
        // Some tools show it in a reply of their own.
        Err(error) => Error { hint: app.with_typed_options(error.hint.clone()), ..error },
    };
    let failure = protocol.failure(&error);
    if failure.on_stderr {
        app.report(&error);
    }
    if let Some(text) = failure.stdout {
        output::data(&text)?;
    }
    Ok(failure.code)
}
