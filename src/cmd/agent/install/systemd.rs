//! The agent as a user's service of systemd, started by its socket.

use super::{Manager, Service, Unit};

/// The socket and the service.
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
         # A refresh under way is finished before the agent ends.\n\
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
    vec![
        Unit { path: service.dir.join("authctl.socket"), text: socket_unit },
        Unit { path: service.dir.join("authctl.service"), text: service_unit },
    ]
}

/// The commands that it takes.
pub(super) fn manager(units: &[Unit]) -> Manager {
    let systemctl = |words: &[&str]| ["systemctl", "--user"].iter().chain(words).map(|w| (*w).to_owned()).collect();
    let names = units.iter().filter_map(|unit| unit.path.file_name()?.to_str());
    let disable: Vec<&str> = ["disable", "--now"].into_iter().chain(names).collect();
    let reload = || systemctl(&["daemon-reload"]);
    Manager {
        drop: vec![systemctl(&disable)],
        clear: Vec::new(),
        take: vec![reload(), systemctl(&["enable", "--now", "authctl.socket"])],
        taken: "The agent starts when it is first asked, and again after each login.",
        look: vec![reload()],
    }
}

/// A word of a command: variables mean nothing in it (systemd.service(5), "Command lines").
fn word_of_command(word: &str) -> String {
    word_of_setting(word).replace('$', "$$")
}

/// A word of a setting other than a command, in which no variable means anything: nor do specifiers in this one.
fn word_of_setting(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_itself_to_systemd() {
        assert_eq!(word_of_command("/a b/c%h$X\"\\"), r#""/a b/c%%h$$X\"\\""#);
        assert_eq!(word_of_setting("/a b/c%h$X\"\\"), r#""/a b/c%%h$X\"\\""#);
    }
}
