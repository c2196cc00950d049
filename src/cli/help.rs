//! What `authctl` prints by itself, and the help of a command by its name.

use clap::Command;

/// The version, with the commit if it is known.
pub const VERSION: &str = env!("AUTHCTL_VERSION");

/// The commit that authctl was built from. `src/build.rs` finds it in a Git checkout.
pub const COMMIT: Option<&str> = {
    let commit = env!("AUTHCTL_COMMIT");
    if commit.is_empty() { None } else { Some(commit) }
};

/// The first commands to run.
pub(super) const START: &str = "\
Start here:  authctl login work --issuer https://issuer.example --client-id ID
Try it out:  authctl demo";

/// The environment variables: a section of `--help`, and a topic.
pub const ENVIRONMENT: &str = "  AUTHCTL_PROFILE   profile to use if none is named, before .authctl.toml
  AUTHCTL_CONFIG    configuration file, like --config
  AUTHCTL_STORE     store of new profiles: keychain, file or memory
  AUTHCTL_KEY_FILE  age identity of the file store
  AUTHCTL_SOCK      socket of the agent
  AUTHCTL_NO_INPUT  never prompt, like --no-input
  AUTHCTL_TOKEN     token to use as it is if no profile is named
  SSL_CERT_FILE, SSL_CERT_DIR  certificate authorities instead of the platform's
  HTTPS_PROXY, ALL_PROXY, NO_PROXY  proxy, and the hosts without one
  BROWSER, NO_COLOR, CLICOLOR_FORCE  browser to open; colours";

/// The files: a section of `--help`, and a topic.
pub const FILES: &str = "  ~/.config/authctl/config.toml   profiles
  /etc/authctl/config.toml        machine-wide profiles; see authctl.toml(5)
  ~/.config/authctl/authctl.key   key of the file store, unless AUTHCTL_KEY_FILE is set
  ~/.local/share/authctl/         sessions of the file store, locks, hashes of logged-out tokens
  $XDG_RUNTIME_DIR/authctl/       socket of the agent
  .authctl.toml                   profile = \"NAME\": profile for a directory and those below it";

/// What `authctl help` explains beside the commands.
pub const TOPICS: [&str; 4] = ["environment", "files", "exit-codes", "json"];

/// The commands by purpose. One that this build does not have is left out.
pub(super) const GROUPS: [(&str, &[&str]); 4] = [
    ("Sign in", &["login", "status", "whoami", "refresh", "ensure", "logout"]),
    ("Use a token", &["token", "headers", "exec", "proxy", "helper", "mcp", "verify"]),
    ("Set up", &["profile", "keys", "store", "agent", "completion", "doctor"]),
    ("Try it", &["demo", "dev-issuer"]),
];

/// Returns the text after the options in `--help`.
pub(super) fn after_long_help() -> String {
    format!("{START}\n\nEnvironment:\n{ENVIRONMENT}\n\nFiles, on Linux:\n{FILES}")
}

/// Returns the screen of `authctl` without arguments.
pub(super) fn overview(command: &Command) -> String {
    let mut screen = String::new();
    for (purpose, names) in GROUPS {
        let names: Vec<&str> = names.iter().copied().filter(|name| command.find_subcommand(name).is_some()).collect();
        if !names.is_empty() {
            screen.push_str(&format!("{purpose:<13} {}\n", names.join("  ")));
        }
    }
    let topics = TOPICS.join(" | ");
    screen.push_str(&format!("\nFirst time:   authctl login\nMore:         authctl help [COMMAND | {topics}]"));
    screen
}
