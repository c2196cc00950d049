//! The commands, one file or directory each: their arguments, calls to services, their output.

mod agent;
mod challenge;
mod completion;
#[cfg(feature = "dev-issuer")]
mod demo;
#[cfg(feature = "dev-issuer")]
mod dev_issuer;
mod doctor;
mod ensure;
mod exec;
mod headers;
mod help;
mod helper;
mod hook;
mod jwks;
mod keys;
mod login;
mod logout;
mod mcp;
pub mod output;
mod own_frame;
mod profile;
mod proxy;
mod refresh;
mod service;
mod status;
mod store;
mod token;
mod verify;
mod whoami;

use crate::app::App;
use crate::cli::Command;
use crate::error::{Error, ErrorCode, Hint};
pub use completion::complete;
pub use help::{overview, version};
use own_frame::in_own_frame;

/// Runs a command; returns its exit code.
///
/// # Errors
/// The error to be reported.
pub fn dispatch(app: &App, command: Command) -> Result<u8, Error> {
    let text_only = match command {
        Command::Helper(_) => Some("helper"),
        Command::Mcp(_) => Some("mcp"),
        #[cfg(feature = "dev-issuer")]
        Command::Demo => Some("demo"),
        _ => None,
    };
    if let Some(verb) = text_only.filter(|_| app.common.json) {
        let message = format!("`authctl {verb}` has no JSON output");
        return Err(Error::msg(ErrorCode::Usage, message, Hint::command(verb).with_flag("--help")));
    }
    if app.common.passphrase_stdin {
        // Before the command reads the rest.
        app.passphrase_from_stdin();
    }
    match command {
        Command::Login(args) => in_own_frame(login::run, app, *args.0),
        Command::Status(args) => in_own_frame(status::run, app, &args),
        Command::Whoami(args) => in_own_frame(whoami::run, app, &args),
        Command::Token(args) => in_own_frame(token::run, app, &args),
        Command::Headers(args) => in_own_frame(headers::run, app, args),
        Command::Verify(args) => in_own_frame(verify::run, app, *args.0),
        Command::Refresh(args) => in_own_frame(refresh::run, app, &args),
        Command::Ensure(args) => in_own_frame(ensure::run, app, &args),
        Command::Logout(args) => in_own_frame(logout::run, app, &args),
        Command::Exec(args) => in_own_frame(exec::run, app, *args.0),
        Command::Proxy(args) => in_own_frame(proxy::run, app, *args),
        Command::Helper(args) => in_own_frame(helper::run, app, *args.0),
        Command::Mcp(args) => in_own_frame(mcp::run, app, &args),
        Command::Agent(command) => in_own_frame(agent::run, app, command),
        Command::Keys(command) => in_own_frame(keys::run, app, command),
        Command::Profile(command) => in_own_frame(profile::run, app, command),
        Command::Store(command) => in_own_frame(store::run, app, command),
        Command::Doctor(args) => in_own_frame(doctor::run, app, &args),
        Command::Completion(args) => completion::run(app, &args),
        #[cfg(feature = "dev-issuer")]
        Command::Demo => in_own_frame(|app, ()| demo::run(app), app, ()),
        #[cfg(feature = "dev-issuer")]
        Command::DevIssuer(args) => in_own_frame(dev_issuer::run, app, *args.0),
        Command::Help(args) => help::run(app, &args),
        Command::Version => help::version(app.common.json),
    }
}
