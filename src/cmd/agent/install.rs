//! `authctl agent install` and `uninstall`: the user's own service, by systemd with socket activation or by launchd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::start::lock_is_held;
use crate::app::App;
use crate::cli::AgentInstall;
use crate::cmd::output;
use crate::failure::{Failure, Kind};
#[cfg(not(target_os = "macos"))]
use crate::paths::KEY_FILE_VARIABLE;

/// A file of the service.
struct Unit {
    path: PathBuf,
    text: String,
}

/// Writes the service's files, or shows them, and has the service manager read them.
pub(super) fn install(app: &App, args: &AgentInstall) -> Result<u8, Failure> {
    let units = units(app)?;
    if args.print {
        for unit in &units {
            output::line(&format!("# {}\n{}", unit.path.display(), unit.text))?;
        }
        return Ok(0);
    }
    if lock_is_held(&app.agent_socket()?) {
        // Whose it is decides what is to be done about it.
        app.agent_state()?;
        let message = "an agent is running, which the service would have to take the socket from";
        return Err(
            Failure::said(Kind::Agent, message, "run `authctl agent stop`, then install again").coded("agent_running")
        );
    }
    for unit in &units {
        write(unit)?;
        app.ui().tell(&format!("Written: {}", unit.path.display()));
    }
    let [enable, _, _] = manager(&units);
    tell_manager(app, &enable, "The agent starts when it is first asked, and again after each login.");
    Ok(0)
}

/// Has the service manager forget the service, and removes its files.
pub(super) fn uninstall(app: &App) -> Result<u8, Failure> {
    let units = units(app)?;
    if !units.iter().any(|unit| unit.path.exists()) {
        app.ui().tell("No service of authctl is installed.");
        return Ok(0);
    }
    let [_, disable, reload] = manager(&units);
    tell_manager(app, &disable, "The service manager has let go of it.");
    for unit in units.iter().filter(|unit| unit.path.exists()) {
        fs::remove_file(&unit.path).map_err(|e| not_ours(&unit.path, e))?;
        app.ui().tell(&format!("Removed: {}", unit.path.display()));
    }
    tell_manager(app, &reload, "");
    Ok(0)
}

fn not_ours(path: &Path, error: std::io::Error) -> Failure {
    let context = format!("cannot change {}", path.display());
    Failure::new(Kind::Usage, anyhow::Error::new(error).context(context), "make the directory yours to write")
}

/// Puts the whole file in place in one step.
fn write(unit: &Unit) -> Result<(), Failure> {
    let failed = |e| not_ours(&unit.path, e);
    let dir = unit.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    std::io::Write::write_all(&mut file, unit.text.as_bytes()).map_err(failed)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(file.path(), readable).map_err(failed)?;
    file.persist(&unit.path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Runs the service manager's commands, or names them where it is not there to take them.
fn tell_manager(app: &App, commands: &[Vec<String>], done: &str) {
    for words in commands {
        let Some((program, arguments)) = words.split_first() else { continue };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            let rest = commands.iter().map(|words| format!("  {}", words.join(" "))).collect::<Vec<_>>().join("\n");
            app.ui().tell(&format!("The service manager did not take it. In a session that has one, run:\n{rest}"));
            return;
        }
    }
    if !done.is_empty() {
        app.ui().tell(done);
    }
}

/// What has the service manager take the files, let go of them, and look again.
#[cfg(not(target_os = "macos"))]
fn manager(units: &[Unit]) -> [Vec<Vec<String>>; 3] {
    let systemctl = |words: &[&str]| ["systemctl", "--user"].iter().chain(words).map(|w| (*w).to_owned()).collect();
    let names = units.iter().filter_map(|unit| unit.path.file_name()?.to_str());
    let disable: Vec<&str> = ["disable", "--now"].into_iter().chain(names).collect();
    let reload = || systemctl(&["daemon-reload"]);
    [vec![reload(), systemctl(&["enable", "--now", "authctl.socket"])], vec![systemctl(&disable)], vec![reload()]]
}

/// What has the service manager take the files, let go of them, and look again.
#[cfg(target_os = "macos")]
fn manager(units: &[Unit]) -> [Vec<Vec<String>>; 3] {
    let launchctl = |verb: &str| -> Vec<Vec<String>> {
        let path = |unit: &Unit| unit.path.display().to_string();
        units.iter().map(|unit| vec!["launchctl".into(), verb.into(), "-w".into(), path(unit)]).collect()
    };
    [launchctl("load"), launchctl("unload"), Vec::new()]
}

/// The program and its arguments.
fn command_line(app: &App) -> Result<Vec<String>, Failure> {
    let unexpected = |e: std::io::Error| Failure::new(Kind::Unexpected, e, "look whether the program is still there");
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
fn in_a_file(path: &Path) -> Result<String, Failure> {
    let unexpected = |e: std::io::Error| Failure::new(Kind::Unexpected, e, "name the file by its whole path");
    let path = std::path::absolute(path).map_err(unexpected)?.display().to_string();
    if path.chars().any(char::is_control) {
        let path = crate::ui::harmless(&path, 200);
        return Err(Failure::said(Kind::Usage, format!("`{path}` cannot stand in a service's file"), "rename it"));
    }
    Ok(path)
}

/// A word of a command for systemd: variables mean nothing in it (systemd.service(5), "Command lines").
#[cfg(any(not(target_os = "macos"), test))]
fn systemd_word(word: &str) -> String {
    systemd_value(word).replace('$', "$$")
}

/// A word of a setting other than a command, in which no variable means anything: nor do specifiers in this one.
#[cfg(any(not(target_os = "macos"), test))]
fn systemd_value(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(not(target_os = "macos"))]
fn units(app: &App) -> Result<Vec<Unit>, Failure> {
    let dir = app.paths()?.services;
    let command = command_line(app)?.iter().map(|word| systemd_word(word)).collect::<Vec<_>>().join(" ");
    let socket = match &app.environment.agent_socket {
        Some(path) => in_a_file(path)?.replace('%', "%%"),
        None => "%t/authctl/agent.sock".to_owned(),
    };
    let key = app.environment.key_file.as_ref().map(|path| (KEY_FILE_VARIABLE, path));
    let directories = app.environment.base_directories.iter().map(|(name, path)| (*name, path));
    let mut environment = String::new();
    for (name, path) in key.into_iter().chain(directories) {
        environment.push_str(&format!("Environment={}\n", systemd_value(&format!("{name}={}", in_a_file(path)?))));
    }
    let socket_unit = format!(
        "[Unit]\n\
         Description=Socket of the authctl agent\n\
         Documentation=man:authctl-agent(1)\n\n\
         [Socket]\n\
         ListenStream={socket}\n\
         SocketMode=0600\n\
         DirectoryMode=0700\n\n\
         [Install]\n\
         WantedBy=sockets.target\n"
    );
    let service = format!(
        "[Unit]\n\
         Description=authctl agent\n\
         Documentation=man:authctl-agent(1)\n\
         Requires=authctl.socket\n\
         After=authctl.socket\n\n\
         [Service]\n\
         Type=notify\n\
         ExecStart={command}\n\
         {environment}Restart=on-failure\n\
         # A renewal under way is finished before the agent ends.\n\
         TimeoutStopSec=180\n\
         UMask=0077\n\
         LimitCORE=0\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         SystemCallArchitectures=native\n\
         SystemCallFilter=@system-service\n\
         SystemCallErrorNumber=EPERM\n\n\
         [Install]\n\
         Also=authctl.socket\n"
    );
    Ok(vec![
        Unit { path: dir.join("authctl.socket"), text: socket_unit },
        Unit { path: dir.join("authctl.service"), text: service },
    ])
}

#[cfg(target_os = "macos")]
fn units(app: &App) -> Result<Vec<Unit>, Failure> {
    let escape = |word: &String| word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let words: String =
        command_line(app)?.iter().map(|word| format!("    <string>{}</string>\n", escape(word))).collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\
         \x20 <key>Label</key><string>authctl.agent</string>\n\
         \x20 <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n\
         \x20 <key>RunAtLoad</key><true/>\n\
         \x20 <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n\
         \x20 <key>ExitTimeOut</key><integer>180</integer>\n\
         \x20 <key>Umask</key><integer>63</integer>\n\
         \x20 <key>HardResourceLimits</key><dict><key>Core</key><integer>0</integer></dict>\n\
         </dict>\n</plist>\n"
    );
    Ok(vec![Unit { path: app.paths()?.services.join("authctl.agent.plist"), text }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_itself_to_systemd() {
        assert_eq!(systemd_word("/a b/c%h$X\"\\"), r#""/a b/c%%h$$X\"\\""#);
        assert_eq!(systemd_value("/a b/c%h$X\"\\"), r#""/a b/c%%h$X\"\\""#);
    }
}
