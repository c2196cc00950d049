//! Services of the user, run by systemd or by launchd: the agent, and proxies.

#[cfg(any(target_os = "macos", test))]
mod launchd;
#[cfg(not(target_os = "macos"))]
mod systemd;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::app::App;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::paths::{AGENT_SOCKET_VARIABLE, KEY_FILE_VARIABLE, stable_link};
use crate::text::shell_line;
#[cfg(target_os = "macos")]
use launchd as service_manager;
#[cfg(not(target_os = "macos"))]
use systemd as service_manager;
use unit::Unit;
pub(super) use unit::{Kind, Service};

impl Service {
    /// Returns the service that runs this program with these arguments, for this configuration and environment.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if a path cannot be used in a service file.
    pub(super) fn new(app: &App, kind: Kind, arguments: &[String]) -> Result<Self, Error> {
        let environment = &app.environment;
        let key = environment.key_file.as_ref().map(|path| (KEY_FILE_VARIABLE, path));
        let socket = environment.agent_socket.as_ref().filter(|_| matches!(kind, Kind::Proxy(..)));
        let socket = socket.map(|path| (AGENT_SOCKET_VARIABLE, path));
        let directories = environment.base_directories.iter().map(|(name, path)| (*name, path));
        let variable = |(name, path): (&'static str, &PathBuf)| Ok((name, absolute(path)?));
        Ok(Self {
            dir: app.paths()?.services,
            command: command_line(app, arguments)?,
            kind,
            environment: key
                .into_iter()
                .chain(socket)
                .chain(directories)
                .map(variable)
                .collect::<Result<_, Error>>()?,
        })
    }
}

/// Prints the files of a service.
pub(super) fn print(app: &App, service: &Service) -> Result<u8, Error> {
    let units = service_manager::units(service);
    if app.common.json {
        return print_files(app, units.iter().map(|unit| (unit, Some(&unit.text))));
    }
    for unit in &units {
        output::data(&format!("# {}\n{}", unit.path.display(), unit.text))?;
    }
    Ok(0)
}

/// Writes the files of a service, and enables it.
pub(super) fn install(app: &App, service: &Service) -> Result<u8, Error> {
    let units = service_manager::units(service);
    for unit in &units {
        write(unit)?;
        app.ui().notice(&format!("wrote {}", unit.path.display()));
    }
    let commands = service_manager::commands(service, &units);
    for command in &commands.unload {
        run_command(command);
    }
    run_commands(app, &commands.enable, commands.enabled);
    print_files(app, units.iter().map(|unit| (unit, Some(&unit.text))))
}

/// Prints the files of the service, with `--json`. A file that was removed has no text.
fn print_files<'a>(app: &App, files: impl Iterator<Item = (&'a Unit, Option<&'a String>)>) -> Result<u8, Error> {
    if app.common.json {
        let files: Vec<_> = files.map(|(unit, text)| json!({ "path": unit.path, "text": text })).collect();
        output::json(&json!({ "files": files }))?;
    }
    Ok(0)
}

/// Stops and disables a service, and removes its files.
pub(super) fn uninstall(app: &App, service: &Service) -> Result<u8, Error> {
    let units = service_manager::units(service);
    if !units.iter().any(|unit| unit.path.exists()) {
        app.ui().notice("no service is installed");
        return print_files(app, std::iter::empty());
    }
    let commands = service_manager::commands(service, &units);
    let stopped = run_commands(app, &commands.disable, "service stopped");
    let installed: Vec<&Unit> = units.iter().filter(|unit| unit.path.exists()).collect();
    for unit in &installed {
        fs::remove_file(&unit.path).map_err(|e| cannot_change(&unit.path, e))?;
        app.ui().notice(&format!("removed {}", unit.path.display()));
    }
    // The same warning is enough once.
    if stopped {
        run_commands(app, &commands.reload, "");
    }
    print_files(app, installed.into_iter().map(|unit| (unit, None)))
}

/// Returns a file of the service, if it is installed.
pub(super) fn installed_file(service: &Service) -> Option<PathBuf> {
    service_manager::units(service).into_iter().map(|unit| unit.path).find(|path| path.exists())
}

fn cannot_change(path: &Path, error: std::io::Error) -> Error {
    let (context, kind) = (format!("cannot change {}", path.display()), error.kind());
    Error::new(ErrorCode::Usage, anyhow::Error::new(error).context(context), Hint::access(path, kind))
}

/// Writes the unit's file atomically.
fn write(unit: &Unit) -> Result<(), Error> {
    let written = unit.path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = written.and_then(|()| crate::fs::replace(&unit.path, unit.text.as_bytes(), 0o644));
    written.map_err(|e| cannot_change(&unit.path, e))
}

/// Runs commands of the service manager. If one fails, prints all of them for the user to run elsewhere, and returns false.
fn run_commands(app: &App, commands: &[Vec<String>], done: &str) -> bool {
    let succeeded = commands.iter().all(|command| run_command(command));
    if !succeeded {
        let words = |command: &Vec<String>| shell_line(command);
        let lines: String = commands.iter().map(|command| format!("\n  {}", words(command))).collect();
        app.ui().warn(&format!("the service manager is not available; in a session that has one, run:{lines}"));
    } else if !done.is_empty() {
        app.ui().notice(done);
    }
    succeeded
}

/// Runs a command. Returns whether it succeeded.
fn run_command(words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return true };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns this program with these arguments, and the configuration.
fn command_line(app: &App, arguments: &[String]) -> Result<Vec<String>, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::shell("command -v authctl"));
    let (program, started_as) = (std::env::current_exe().map_err(unexpected)?, std::env::args_os().next());
    let program = stable_link(program, &app.environment.surroundings.search_path, started_as.map(PathBuf::from));
    let mut words = vec![absolute(&program)?];
    words.extend_from_slice(arguments);
    let config = app.common.config.as_ref().or(app.environment.config.as_ref());
    if let Some(config) = config {
        words.push("--config".to_owned());
        words.push(absolute(config)?);
    }
    Ok(words)
}

/// Returns the absolute path, because the service has another working directory.
///
/// # Errors
/// If the path has control characters, which would break the lines of a service file.
pub(super) fn absolute(path: &Path) -> Result<String, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::shell("pwd"));
    let path = std::path::absolute(path).map_err(unexpected)?.display().to_string();
    if path.chars().any(char::is_control) {
        return Err(Error::msg(
            ErrorCode::Usage,
            format!("`{path}` contains a control character and cannot be used in a service file"),
            Hint::advice("rename the file"),
        ));
    }
    Ok(path)
}
