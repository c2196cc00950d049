//! `authctl agent install` and `uninstall`: a service of the user, run by systemd with socket activation or by launchd.

use super::start::lock_is_held;
use crate::app::App;
use crate::cli::AgentInstall;
use crate::cmd::service::{self, Kind, Service, absolute};
use crate::error::{Error, ErrorCode, Hint};

/// Writes the service's files and enables the service, or prints the files.
pub(super) fn install(app: &App, args: &AgentInstall) -> Result<u8, Error> {
    let service = service(app)?;
    if args.print {
        return service::print(app, &service);
    }
    if lock_is_held(&app.agent_socket()?) {
        // Returns a different error if the agent belongs to another configuration.
        app.agent_status()?;
        let message = "an agent is running at the socket of the service";
        return Err(Error::msg(ErrorCode::AgentRunning, message, Hint::command("agent stop")));
    }
    service::install(app, &service)
}

/// Stops and disables the service, and removes its files.
pub(super) fn uninstall(app: &App) -> Result<u8, Error> {
    service::uninstall(app, &service(app)?)
}

fn service(app: &App) -> Result<Service, Error> {
    let socket = app.environment.agent_socket.as_deref().map(absolute).transpose()?;
    Service::new(app, Kind::Agent(socket), &["agent".to_owned(), "run".to_owned()])
}
