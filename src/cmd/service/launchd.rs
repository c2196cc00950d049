//! Launchd user agents: the agent and proxies, which launchd starts at each login to the machine.

use super::unit::{Kind, PROXY_ENABLED, Service, ServiceCommands, Unit};
use crate::agent::protocol::STOP_LIMIT;
use crate::paths::AGENT_SOCKET_VARIABLE;

/// Returns the label of the service in launchd.
fn label(service: &Service) -> String {
    match &service.kind {
        Kind::Agent(_) => "authctl.agent".to_owned(),
        Kind::Proxy(name, _) => format!("authctl.proxy.{name}"),
    }
}

/// Returns the property list (launchd.plist(5)).
pub(super) fn units(service: &Service) -> Vec<Unit> {
    let string = |word: &str| format!("<string>{}</string>", escaped(word));
    let words: String = service.command.iter().map(|word| format!("    {}\n", string(word))).collect();
    let (socket, stop_limit) = match &service.kind {
        Kind::Agent(socket) => (socket.as_ref().map(|path| (AGENT_SOCKET_VARIABLE, path)), STOP_LIMIT.as_secs()),
        Kind::Proxy(..) => (None, 30),
    };
    let label = label(service);
    let variables: String = socket
        .into_iter()
        .chain(service.environment.iter().map(|(name, value)| (*name, value)))
        .map(|(name, value)| format!("    <key>{name}</key>{}\n", string(value)))
        .collect();
    let environment = match variables.as_str() {
        "" => String::new(),
        some => format!("  <key>EnvironmentVariables</key>\n  <dict>\n{some}  </dict>\n"),
    };
    // `ExitTimeOut` leaves time to finish a running refresh, or requests. A property list has no octal numbers: 63 is 0077.
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\
         \x20 <key>Label</key><string>{label}</string>\n\
         \x20 <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n\
         {environment}\
         \x20 <key>RunAtLoad</key><true/>\n\
         \x20 <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n\
         \x20 <key>ExitTimeOut</key><integer>{stop_limit}</integer>\n\
         \x20 <key>Umask</key><integer>63</integer>\n\
         \x20 <key>HardResourceLimits</key><dict><key>Core</key><integer>0</integer></dict>\n\
         </dict>\n</plist>\n"
    );
    vec![Unit { path: service.dir.join(format!("{label}.plist")), text }]
}

/// Returns the commands for launchd (launchctl(1)). A service that was stopped is still loaded, so it is unloaded first.
pub(super) fn commands(service: &Service, units: &[Unit]) -> ServiceCommands {
    let domain = format!("gui/{}", rustix::process::getuid().as_raw());
    let enabled = match service.kind {
        Kind::Agent(_) => "The agent is running, and starts again after each login to this machine.",
        Kind::Proxy(..) => PROXY_ENABLED,
    };
    let service = format!("{domain}/{}", label(service));
    let launchctl = |words: &[&str]| ["launchctl"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let paths = units.iter().map(|unit| unit.path.display().to_string());
    let enable = launchctl(&["enable", &service]);
    let bootout = || vec![launchctl(&["bootout", &service])];
    ServiceCommands {
        disable: bootout(),
        unload: bootout(),
        enable: [enable].into_iter().chain(paths.map(|path| launchctl(&["bootstrap", &domain, &path]))).collect(),
        enabled,
        reload: Vec::new(),
    }
}

/// Escapes `text` for use between two tags (XML 1.0, section 2.4).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use plist::{Dictionary, Value};

    use super::*;

    fn service(socket: Option<&str>, environment: Vec<(&'static str, String)>) -> Service {
        Service {
            dir: "/Users/a b/Library/LaunchAgents".into(),
            command: ["/opt/R&D <1>/authctl", "agent", "run"].map(str::to_owned).to_vec(),
            kind: Kind::Agent(socket.map(str::to_owned)),
            environment,
        }
    }

    fn read(service: &Service) -> Dictionary {
        let [unit] = units(service).try_into().unwrap_or_else(|_| panic!("one file"));
        assert_eq!(unit.path.to_str(), Some("/Users/a b/Library/LaunchAgents/authctl.agent.plist"));
        let value = Value::from_reader_xml(unit.text.as_bytes()).expect("a property list");
        value.into_dictionary().expect("a dictionary")
    }

    #[test]
    fn launchd_reads_the_property_list() {
        let read = read(&service(None, Vec::new()));
        let words: Vec<&str> =
            read["ProgramArguments"].as_array().expect("a list").iter().filter_map(Value::as_string).collect();
        assert_eq!(words, ["/opt/R&D <1>/authctl", "agent", "run"]);
        assert_eq!(read["Label"].as_string(), Some("authctl.agent"));
        assert_eq!(read["RunAtLoad"].as_boolean(), Some(true));
        let alive = read["KeepAlive"].as_dictionary().expect("conditions");
        assert_eq!(alive["SuccessfulExit"].as_boolean(), Some(false), "a stopped agent is not restarted");
        assert_eq!(read["ExitTimeOut"].as_unsigned_integer(), Some(180));
        assert_eq!(read["Umask"].as_unsigned_integer(), Some(0o077));
        assert_eq!(read["HardResourceLimits"].as_dictionary().expect("limits")["Core"].as_unsigned_integer(), Some(0));
        assert!(!read.contains_key("EnvironmentVariables"));
    }

    #[test]
    fn agent_finds_the_same_socket_and_key() {
        let read = read(&service(Some("/tmp/<a>.sock"), vec![("AUTHCTL_KEY_FILE", "/k&k".to_owned())]));
        let variables = read["EnvironmentVariables"].as_dictionary().expect("variables");
        assert_eq!(variables["AUTHCTL_SOCK"].as_string(), Some("/tmp/<a>.sock"));
        assert_eq!(variables["AUTHCTL_KEY_FILE"].as_string(), Some("/k&k"));
    }

    #[test]
    fn service_is_loaded_for_this_user() {
        let uid = rustix::process::getuid().as_raw();
        let service = service(None, Vec::new());
        let commands = commands(&service, &units(&service));
        let lines = |commands: &[Vec<String>]| commands.iter().map(|words| words.join(" ")).collect::<Vec<_>>();
        assert_eq!(
            lines(&commands.enable),
            [
                format!("launchctl enable gui/{uid}/authctl.agent"),
                format!("launchctl bootstrap gui/{uid} /Users/a b/Library/LaunchAgents/authctl.agent.plist"),
            ]
        );
        assert_eq!(commands.disable, commands.unload);
        assert_eq!(lines(&commands.disable), [format!("launchctl bootout gui/{uid}/authctl.agent")]);
        assert!(commands.reload.is_empty());
    }
}
