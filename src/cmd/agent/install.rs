//! `authctl agent install` and `uninstall`: the user's own service, by systemd with socket activation or by launchd.

#[cfg(any(target_os = "macos", test))]
mod launchd;
#[cfg(not(target_os = "macos"))]
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::start::lock_is_held;
use crate::app::App;
use crate::cli::AgentInstall;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::paths::KEY_FILE_VARIABLE;
#[cfg(target_os = "macos")]
use launchd as service_manager;
#[cfg(not(target_os = "macos"))]
use systemd as service_manager;

/// What a service manager is to run.
struct Service {
    /// Where its files are.
    dir: PathBuf,
    /// The program and its arguments.
    command: Vec<String>,
    /// The socket, where it is not the usual one.
    socket: Option<String>,
    /// Variables that the agent needs to find the same sessions.
    environment: Vec<(&'static str, String)>,
}

/// A file of the service.
struct Unit {
    path: PathBuf,
    text: String,
}

/// What is said to the service manager; a step may have nothing to say.
struct Manager {
    /// Let go of the service.
    drop: Vec<Vec<String>>,
    /// Forget what an earlier one left: it refuses where there is nothing.
    clear: Vec<Vec<String>>,
    /// Take the service.
    take: Vec<Vec<String>>,
    /// What that means, once it has.
    taken: &'static str,
    /// See that the files are gone.
    look: Vec<Vec<String>>,
}

/// Writes the service's files, or shows them, and has the service manager read them.
pub(super) fn install(app: &App, args: &AgentInstall) -> Result<u8, Error> {
    let service = service(app)?;
    let units = service_manager::units(&service);
    if args.print {
        for unit in &units {
            output::data(&format!("# {}\n{}", unit.path.display(), unit.text))?;
        }
        return Ok(0);
    }
    if lock_is_held(&app.agent_socket()?) {
        // Whose it is decides what is to be done about it.
        app.agent_status()?;
        let message = "an agent is running at the socket of the service";
        return Err(Error::msg(ErrorCode::AgentRunning, message, Hint::command("agent stop")));
    }
    for unit in &units {
        write(unit)?;
        app.ui().notice(&format!("wrote {}", unit.path.display()));
    }
    let manager = service_manager::manager(&units);
    manager.clear.iter().for_each(|words| {
        run_command(words);
    });
    run_manager(app, &manager.take, manager.taken);
    Ok(0)
}

/// Has the service manager forget the service, and removes its files.
pub(super) fn uninstall(app: &App) -> Result<u8, Error> {
    let units = service_manager::units(&service(app)?);
    if !units.iter().any(|unit| unit.path.exists()) {
        app.ui().notice("no service is installed");
        return Ok(0);
    }
    let manager = service_manager::manager(&units);
    run_manager(app, &manager.drop, "service stopped");
    for unit in units.iter().filter(|unit| unit.path.exists()) {
        fs::remove_file(&unit.path).map_err(|e| cannot_change(&unit.path, e))?;
        app.ui().notice(&format!("removed {}", unit.path.display()));
    }
    run_manager(app, &manager.look, "");
    Ok(0)
}

fn cannot_change(path: &Path, error: std::io::Error) -> Error {
    let context = format!("cannot change {}", path.display());
    Error::new(ErrorCode::Usage, anyhow::Error::new(error).context(context), "make the directory writable")
}

/// Writes the unit's file atomically.
fn write(unit: &Unit) -> Result<(), Error> {
    let written = unit.path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = written.and_then(|()| crate::fs::replace(&unit.path, unit.text.as_bytes(), 0o644));
    written.map_err(|e| cannot_change(&unit.path, e))
}

/// Runs the service manager's commands, or names them where it is not there to take them.
fn run_manager(app: &App, commands: &[Vec<String>], done: &str) {
    for words in commands {
        if !run_command(words) {
            let typed = |words: &Vec<String>| {
                words.iter().map(|word| crate::text::shell_word(word)).collect::<Vec<_>>().join(" ")
            };
            let rest = commands.iter().map(|words| format!("  {}", typed(words))).collect::<Vec<_>>().join("\n");
            app.ui().notice(&format!(
                "warning: the service manager is not available; in a session that has one, run:\n{rest}"
            ));
            return;
        }
    }
    if !done.is_empty() {
        app.ui().notice(done);
    }
}

/// Runs a command; whether it did what it is for.
fn run_command(words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return true };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What is to be run, from what is set here.
fn service(app: &App) -> Result<Service, Error> {
    let environment = &app.environment;
    let key = environment.key_file.as_ref().map(|path| (KEY_FILE_VARIABLE, path));
    let directories = environment.base_directories.iter().map(|(name, path)| (*name, path));
    let variable = |(name, path): (&'static str, &PathBuf)| Ok((name, in_a_file(path)?));
    Ok(Service {
        dir: app.paths()?.services,
        command: command_line(app)?,
        socket: environment.agent_socket.as_deref().map(in_a_file).transpose()?,
        environment: key.into_iter().chain(directories).map(variable).collect::<Result<_, Error>>()?,
    })
}

/// The program and its arguments.
fn command_line(app: &App) -> Result<Vec<String>, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, "check that the program still exists");
    let program = std::env::current_exe().map_err(unexpected)?;
    let mut words = vec![in_a_file(&program)?, "agent".to_owned(), "run".to_owned()];
    let config = app.common.config.as_ref().or(app.environment.config.as_ref());
    if let Some(config) = config {
        words.push("--config".to_owned());
        words.push(in_a_file(config)?);
    }
    Ok(words)
}

/// The whole path, since a service runs elsewhere, of one that can stand in a line of a file.
fn in_a_file(path: &Path) -> Result<String, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, "name the file by its whole path");
    let path = std::path::absolute(path).map_err(unexpected)?.display().to_string();
    if path.chars().any(char::is_control) {
        return Err(Error::msg(
            ErrorCode::Usage,
            format!("`{path}` contains a control character and cannot be used in a service file"),
            "rename the file",
        ));
    }
    Ok(path)
}
