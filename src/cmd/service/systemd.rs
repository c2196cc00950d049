//! Systemd user services: the agent, started by its socket, and proxies.

use super::unit::{Kind, PROXY_ENABLED, Service, ServiceCommands, Unit};
use crate::agent::protocol::STOP_LIMIT;

/// What a service may do, whatever it runs.
const CONFINEMENT: &str = "\
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
# With what the agent needs to confine itself further.
SystemCallFilter=@system-service seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM
";

/// Returns the unit of the service, and the one of its socket if it is started by that.
pub(super) fn units(service: &Service) -> Vec<Unit> {
    let command = service.command.iter().map(|word| word_of_command(word)).collect::<Vec<_>>().join(" ");
    let variable =
        |(name, value): &(&str, String)| format!("Environment={}\n", word_of_setting(&format!("{name}={value}")));
    let environment: String = service.environment.iter().map(variable).collect();
    let unit = |name: &str, text: String| Unit { path: service.dir.join(name), text };
    let socket = match &service.kind {
        Kind::Agent(Some(path)) => path.replace('%', "%%"),
        Kind::Agent(None) => "%t/authctl/agent.sock".to_owned(),
        Kind::Proxy(name, api) => {
            let api = api.to_string().replace('%', "%%");
            let text = format!(
                "[Unit]\n\
                 Description=authctl proxy of {name} for {api}\n\
                 Documentation=man:authctl-proxy(1)\n\
                 After=authctl.socket\n\n\
                 [Service]\n\
                 Type=exec\n\
                 ExecStart={command}\n\
                 {environment}Restart=on-failure\n\
                 # The callers' key is not for the journal.\n\
                 StandardOutput=null\n\
                 # The proxy finishes its requests before it stops.\n\
                 TimeoutStopSec=30\n\
                 {CONFINEMENT}\n\
                 [Install]\n\
                 WantedBy=default.target\n"
            );
            return vec![unit(&format!("authctl-proxy-{name}.service"), text)];
        }
    };
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
    let stop_limit = STOP_LIMIT.as_secs();
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
         TimeoutStopSec={stop_limit}\n\
         {CONFINEMENT}\n\
         [Install]\n\
         Also=authctl.socket\n"
    );
    vec![unit("authctl.socket", socket_unit), unit("authctl.service", service_unit)]
}

/// Returns the commands for systemd (systemctl(1)).
pub(super) fn commands(service: &Service, units: &[Unit]) -> ServiceCommands {
    let systemctl = |words: &[&str]| ["systemctl", "--user"].iter().chain(words).map(|w| (*w).to_owned()).collect();
    let names = || units.iter().filter_map(|unit| unit.path.file_name()?.to_str());
    let disable: Vec<&str> = ["disable", "--now"].into_iter().chain(names()).collect();
    let reload = || systemctl(&["daemon-reload"]);
    let with_names = |verb| systemctl(&[verb].into_iter().chain(names()).collect::<Vec<_>>());
    let (enable, enabled) = match service.kind {
        Kind::Agent(_) => (
            vec![reload(), systemctl(&["enable", "--now", "authctl.socket"])],
            "The agent starts with the first request, and again after each login to this machine.",
        ),
        // One that runs is started again with its new unit.
        Kind::Proxy(..) => (vec![reload(), with_names("enable"), with_names("restart")], PROXY_ENABLED),
    };
    ServiceCommands { disable: vec![systemctl(&disable)], unload: Vec::new(), enable, enabled, reload: vec![reload()] }
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
