use std::path::Path;

use super::*;

const CONFIG: &str = r#"
default_profile = "work"
[profiles.work]
issuer = "https://issuer.example"
client_id = "my-cli"
store = "file"
scopes = ["openid", "api:read"]
[profiles.home]
issuer = "https://home.example"
client_id = "home"
store = "file"
"#;

/// Returns the candidates for the last of these words, one a line.
fn offered(shell: Shell, words: &[&str]) -> Vec<String> {
    let words: Vec<OsString> = std::iter::once(&"authctl").chain(words).map(OsString::from).collect();
    let request = CompletionRequest { index: words.len() - 1, words, search_path: OsString::new() };
    let config = Config::parse(CONFIG, Path::new("config.toml")).expect("valid");
    shell.candidates(request, config).split(['\n', '\u{b}']).map(str::to_owned).collect()
}

#[test]
fn profiles_are_offered_where_one_is_wanted() {
    for words in [
        &["status", ""][..],
        &["token", ""],
        &["exec", ""],
        &["verify", ""],
        &["verify", "-", "--profile", ""],
        &["keys", "show", ""],
        &["profile", "rename", ""],
        &["--config", "x", "login", ""],
        &["use", ""],
        &["auth", "use", ""],
        &["remove", ""],
        &["--profile", "use", "rm", ""],
    ] {
        assert_eq!(offered(Shell::Elvish, words), ["home", "work"], "{words:?}");
    }
    assert_eq!(offered(Shell::Elvish, &["status", "w"]), ["work"]);
    assert_eq!(offered(Shell::Zsh, &["status", "w"]), [r"work:https://issuer.example"]);
    assert_eq!(offered(Shell::Fish, &["status", "w"]), ["work\thttps://issuer.example"]);
    assert!(!offered(Shell::Elvish, &["profile", "rename", "work", ""]).contains(&"home".to_owned()), "a new name");
}

#[test]
fn settings_and_scopes_come_from_the_configuration() {
    assert_eq!(offered(Shell::Elvish, &["token", "work", "--scope", ""]), ["api:read", "openid"]);
    assert_eq!(offered(Shell::Elvish, &["login", "--issuer", ""]), ["https://home.example", "https://issuer.example"]);
    assert_eq!(offered(Shell::Elvish, &["login", "--store", ""]), ["keychain", "file", "memory"]);
    let keys = offered(Shell::Elvish, &["profile", "set", "work", ""]);
    assert!(SETTINGS.iter().all(|setting| keys.contains(&format!("{}=", setting.key))), "{keys:?}");
    assert_eq!(
        offered(Shell::Elvish, &["profile", "set", "work", "store="]),
        ["store=file", "store=keychain", "store=memory"]
    );
    assert_eq!(offered(Shell::Zsh, &["profile", "set", "work", "scopes=a"]), [r"scopes=api\:read"]);
}

#[test]
fn commands_and_topics_are_offered_after_help() {
    let first = offered(Shell::Elvish, &["help", ""]);
    for word in ["login", "agent", "profile", "environment", "exit-codes"] {
        assert!(first.contains(&word.to_owned()), "{word}: {first:?}");
    }
    assert_eq!(offered(Shell::Elvish, &["help", "lo"]), ["login", "logout"]);
    assert_eq!(offered(Shell::Elvish, &["--profile", "help", "help", "ex"]), ["exec", "exit-codes"]);
    assert_eq!(offered(Shell::Elvish, &["help", "agent", "sta"]), ["start", "status"]);
    for nothing in [&["help", "login", ""][..], &["help", "nonsense", ""]] {
        assert_eq!(offered(Shell::Elvish, nothing), [""], "{nothing:?}");
    }
    assert!(offered(Shell::Fish, &["help", "agent", "stop"])[0].starts_with("stop\t"));
}

/// Bash splits words at `=` and `:`, and replaces only the last part.
#[test]
fn words_that_bash_splits_are_completed() {
    assert_eq!(offered(Shell::Bash, &["profile", "set", "work", "store", "="]), ["file", "keychain", "memory"]);
    assert_eq!(offered(Shell::Bash, &["profile", "set", "work", "store", "=", "f"]), ["file"]);
    assert_eq!(offered(Shell::Bash, &["login", "--store", "=", "k"]), ["keychain"]);
    assert_eq!(offered(Shell::Bash, &["login", "--issuer", "https", ":", "//h"]), ["//home.example"]);
    assert_eq!(offered(Shell::Bash, &["token", "--scope", "=", "api", ":"]), ["read"]);
}

#[test]
fn options_are_offered_once_one_is_begun() {
    let options = offered(Shell::Elvish, &["status", "--c"]);
    assert_eq!(options, ["--check", "--color", "--config"]);
    assert!(offered(Shell::Elvish, &["agent", "stop", ""]).contains(&"--json".to_owned()), "nothing else to offer");
}

#[test]
fn other_programs_are_completed_after_a_double_dash() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("deploy-it"), "").expect("written");
    for (words, index) in [(&["exec", "--", "dep"][..], 3), (&["exec", "work", "--", "dep"], 4)] {
        let words = std::iter::once(&"authctl").chain(words).map(OsString::from).collect();
        let request = CompletionRequest { words, index, search_path: dir.path().into() };
        assert_eq!(Shell::Elvish.candidates(request, Config::default()), "deploy-it");
    }
}

/// A name with shell syntax must not become part of a command line.
#[test]
fn hostile_value_is_quoted_or_left_out() {
    let text = CONFIG.replace("api:read", "$(id)").replace("my-cli", "a\\u001bb");
    let candidates = |shell: Shell, option: &str| {
        let words = ["authctl", "login", option, ""].map(OsString::from).to_vec();
        let request = CompletionRequest { index: words.len() - 1, words, search_path: OsString::new() };
        shell.candidates(request, Config::parse(&text, Path::new("config.toml")).expect("valid"))
    };
    assert!(candidates(Shell::Bash, "--scope").contains("'$(id)'"));
    assert!(!candidates(Shell::Powershell, "--scope").contains("$(id)"));
    assert_eq!(candidates(Shell::Fish, "--client-id"), "home");
}

/// The changes to the scripts of `clap_complete` apply: each script has what they put there.
#[test]
fn every_script_hides_errors() {
    for (shell, part) in [
        (Shell::Bash, "\"authctl\" -- \"${words[@]}\" 2> /dev/null \\\n"),
        (Shell::Bash, "[[ -z \"$2\" ]] || words[COMP_CWORD]=\"$2\"\n"),
        (Shell::Zsh, "2>/dev/null"),
        (Shell::Zsh, "$funcstack[1]"),
        (Shell::Zsh, "_COMPLETE_INDEX=$((CURRENT - 1))"),
        (Shell::Zsh, "local -a other=() keys=()"),
        (Shell::Zsh, "elif [[ \"$value\" == *= ]]; then\n"),
        (Shell::Zsh, "_describe -V 'values' keys -S ''\n"),
        (Shell::Fish, "command -q authctl; and "),
        (Shell::Fish, "2>/dev/null)\""),
        (Shell::Elvish, "$@words 2>/dev/null)"),
        (Shell::Powershell, "Register-ArgumentCompleter"),
    ] {
        let script = shell.script();
        assert!(script.contains(part) && script.contains("AUTHCTL_COMPLETE"), "{shell:?}: {script}");
    }
}
