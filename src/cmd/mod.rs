//! The verbs, one file each: they ask the rooms below and print what came of it.

mod agent;
#[cfg(feature = "dev-issuer")]
mod demo;
#[cfg(feature = "dev-issuer")]
mod dev_issuer;
mod exec;
mod keys;
mod login;
mod logout;
mod output;
mod profile;
mod refresh;
mod status;
mod token;
mod verify;

use crate::app::App;
use crate::cli::Command;
use crate::error::Error;

/// Runs a command; the number is the exit code of one that has said all there is to say. The verbs are never inlined: in
/// one frame they make a stack of 70 KB, whose pages cost `token` more than its request does.
///
/// # Errors
/// What is still to be told.
pub fn dispatch(app: &App, command: Command) -> Result<u8, Error> {
    match command {
        Command::Login(args) => login::run(app, *args),
        Command::Status(args) => status::run(app, &args),
        Command::Token(args) => token::run(app, &args),
        Command::Verify(args) => verify::run(app, *args),
        Command::Refresh(args) => refresh::run(app, &args),
        Command::Logout(args) => logout::run(app, &args),
        Command::Exec(args) => exec::run(app, args),
        Command::Agent(command) => agent::run(app, command),
        Command::Keys(command) => keys::run(app, command),
        Command::Profile(command) => profile::run(app, command),
        #[cfg(feature = "dev-issuer")]
        Command::Demo => demo::run(app),
        #[cfg(feature = "dev-issuer")]
        Command::DevIssuer(args) => dev_issuer::run(app, args),
    }
}
