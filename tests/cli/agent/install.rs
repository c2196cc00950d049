//! The service files that `agent install --print` shows: paths are absolute and escaped.

use crate::support::{CommandOutput, Sandbox};

fn print_units(home: &Sandbox) -> CommandOutput {
    home.run(&["agent", "install", "--print"])
}

/// Returns the values of a unit setting, in order.
fn settings(home: &Sandbox, name: &str) -> Vec<String> {
    let units = print_units(home).exits(0).stdout;
    units.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned).collect()
}

#[test]
fn installed_service_gets_the_callers_environment() {
    let mut home = Sandbox::new();
    let below = |home: &Sandbox, name: &str| home.path().join(name).display().to_string();
    let xdg = |home: &Sandbox| {
        [("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")]
            .map(|(name, dir)| format!("\"{name}={}\"", below(home, dir)))
            .to_vec()
    };
    assert_eq!(settings(&home, "ListenStream"), ["%t/authctl/agent.sock"]);
    assert_eq!(settings(&home, "Environment"), xdg(&home));
    // Relative paths become absolute. systemd expands `$` only in `ExecStart=`, and `%` everywhere.
    home.set("AUTHCTL_SOCK", "run/a$b%h.sock");
    home.set("AUTHCTL_KEY_FILE", "keys/a$b%h.key");
    assert_eq!(settings(&home, "ListenStream"), [below(&home, "run/a$b%%h.sock")]);
    let key = format!("\"AUTHCTL_KEY_FILE={}\"", below(&home, "keys/a$b%%h.key"));
    assert_eq!(settings(&home, "Environment"), [vec![key.clone()], xdg(&home)].concat());
    home.set("AUTHCTL_CONFIG", "c$d.toml");
    assert!(settings(&home, "ExecStart")[0].ends_with(&format!("\"{}\"", below(&home, "c$$d.toml"))));
    home.unset("XDG_CONFIG_HOME");
    // XDG variables with relative paths are ignored (XDG Base Directory Specification).
    home.set("XDG_DATA_HOME", "data");
    assert_eq!(settings(&home, "Environment"), [key]);
}

#[test]
fn install_refuses_a_path_with_a_newline() {
    for name in ["AUTHCTL_SOCK", "AUTHCTL_KEY_FILE", "AUTHCTL_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        let mut home = Sandbox::new();
        home.set(name, home.path().join("a\nExecStartPre=b"));
        let refused = print_units(&home).exits(2).reports("contains a control character");
        assert_eq!(refused.stdout, "", "{name}");
    }
}
