//! The agent as a systemd user service, started by its socket.

use super::service::{Service, ServiceCommands, Unit};

/// Returns the units of the socket and the service.
pub(super) fn units(service: &Service) -> Vec<Unit> {
    let command = service.command.iter().map(|word| word_of_command(word)).collect::<Vec<_>>().join(" ");
    let socket = match &service.socket {
        Some(path) => path.replace('%', "%%"),
        None => "%t/authctl/agent.sock".to_owned(),
    };
    let variable =
        |(name, value): &(&str, String)| format!("Environment={}\n", word_of_setting(&format!("{name}={value}")));
    let environment: String = service.environment.iter().map(variable).collect();
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
    let service_unit = format!(
        "[Unit]\n\
         Description=authctl agent\n\
         Documentation=man:authctl-agent(1)\n\
         Requires=authctl.socket\n\
         After=authctl.socket\n\n\
         [Service]\n\
         Type=notify\n\
         ExecStart={command}\n\
         {environment}Restart=on-failure\n\
         # The agent finishes a running refresh before it stops.\n\
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
         # With what the agent needs to confine itself further.\n\
         SystemCallFilter=@system-service seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self\n\
         SystemCallErrorNumber=EPERM\n\n\
         [Install]\n\
         Also=authctl.socket\n"
    );
    vec![
        Unit { path: service.dir.join("authctl.socket"), text: socket_unit },
        Unit { path: service.dir.join("authctl.service"), text: service_unit },
    ]
}

/// Returns the commands for systemd (systemctl(1)).
pub(super) fn commands(units: &[Unit]) -> ServiceCommands {
    let systemctl = |words: &[&str]| ["systemctl", "--user"].iter().chain(words).map(|w| (*w).to_owned()).collect();
    let names = units.iter().filter_map(|unit| unit.path.file_name()?.to_str());
    let disable: Vec<&str> = ["disable", "--now"].into_iter().chain(names).collect();
    let reload = || systemctl(&["daemon-reload"]);
    ServiceCommands {
        disable: vec![systemctl(&disable)],
        unload: Vec::new(),
        enable: vec![reload(), systemctl(&["enable", "--now", "authctl.socket"])],
        enabled: "The agent starts with the first request, and again after each login to this machine.",
        reload: vec![reload()],
    }
}

/// Quotes a word of a command line, in which `$` would start a variable (systemd.service(5), "Command lines").
fn word_of_command(word: &str) -> String {
    word_of_setting(word).replace('$', "$$")
}

/// Quotes a word of another setting, in which `%` would start a specifier (systemd.unit(5), "Specifiers").
fn word_of_setting(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_systemd() {
        assert_eq!(word_of_command("/a b/c%h$X\"\\"), r#""/a b/c%%h$$X\"\\""#);
        assert_eq!(word_of_setting("/a b/c%h$X\"\\"), r#""/a b/c%%h$X\"\\""#);
    }
}
