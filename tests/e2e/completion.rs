//! Completion in real shells: what a user types, with the tab key, in a terminal.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::process::RunningCommand;
use crate::support::{AUTHCTL, Sandbox, parts};

/// Returns a home with two profiles, with authctl in `PATH` and with a file that is not to be offered.
fn home(shell: &str) -> Sandbox {
    parts::require(&[shell]);
    let mut home = Sandbox::new();
    home.configure(
        "default_profile = \"work\"\n\
         [profiles.work]\nissuer = \"https://issuer.example\"\nclient_id = \"my-cli\"\nstore = \"file\"\n\
         [profiles.home]\nissuer = \"https://home.example\"\nclient_id = \"home\"\nstore = \"file\"\n",
    );
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("made");
    symlink(AUTHCTL, bin.join("authctl")).expect("linked");
    fs::write(home.path().join("afile"), "").expect("written");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    home.set("PATH", path);
    home
}

/// Types a line and waits for what is printed after it.
fn type_line(shell: &mut RunningCommand, line: &str, enter: &str, printed: &str) {
    shell.type_text(&format!("{line}{enter}"));
    shell.reports(printed);
}

/// Completes a profile and a setting, and shows what is offered for an empty word; `clear` empties the line.
fn complete_words(shell: &mut RunningCommand, enter: &str, clear: &str, offered: &str) {
    type_line(shell, "authctl profile show h\t", enter, "https://home.example");
    type_line(shell, "authctl profile set work verify_t\tid\t", enter, "updated profile work");
    shell.type_text("authctl status \t\t");
    shell.reports(offered);
    shell.type_text(clear);
}

/// Ends the shell, and checks that neither a file name nor an error was printed.
fn leave(mut shell: RunningCommand, enter: &str) {
    shell.type_text(&format!("exit{enter}"));
    let printed = shell.wait().stderr;
    assert!(!printed.contains("afile"), "a file is no profile: {printed}");
    assert!(!printed.contains("not found"), "{printed}");
}

#[test]
fn bash_completes_profiles_and_settings() {
    let home = home("bash");
    let mut shell = home.spawn_program_in_terminal("bash", &["--norc", "--noprofile", "-i"], 0);
    type_line(&mut shell, "PS1='re''ady> '; . <(authctl completion bash)", "\n", "ready> ");
    complete_words(&mut shell, "\n", "\u{15}", "home  work");
    // Without authctl nothing is offered, and no error appears.
    type_line(&mut shell, "PATH=/x; echo with''out", "\n", "without");
    shell.type_text("authctl status w\t\u{15}");
    leave(shell, "\n");
}

#[test]
fn zsh_completes_profiles_and_settings() {
    let home = home("zsh");
    fs::create_dir(home.path().join("functions")).expect("made");
    let script = home.run(&["completion", "zsh"]).exits(0).stdout;
    fs::write(home.path().join("functions/_authctl"), script).expect("written");
    for setup in ["fpath=(~/functions $fpath); compinit -u -D", "compinit -u -D; . <(authctl completion zsh)"] {
        let mut shell = home.spawn_program_in_terminal("zsh", &["-f", "-i"], 0);
        type_line(&mut shell, &format!("autoload -U compinit; {setup}; echo re''ady"), "\n", "ready");
        complete_words(&mut shell, "\n", "\u{15}", "home  -- https://home.example");
        type_line(&mut shell, "path=(/x); echo with''out", "\n", "without");
        shell.type_text("authctl status w\t\u{15}");
        leave(shell, "\n");
    }
}

#[test]
fn elvish_completes_profiles_and_settings() {
    let home = home("elvish");
    let mut shell = home.spawn_program_in_terminal("elvish", &["-norc"], 0);
    type_line(&mut shell, "eval (authctl completion elvish | slurp); echo re''ady", "\r", "ready");
    type_line(&mut shell, "authctl profile show h\t", "\r", "https://home.example");
    shell.type_text("authctl status \t");
    shell.reports("COMPLETING");
    shell.wait_until("the profiles", |output| {
        let menu = output.rsplit("COMPLETING").next()?;
        assert!(!menu.contains("afile"), "a file is no profile: {menu}");
        (menu.contains("home") && menu.contains("work")).then_some(())
    });
}

#[test]
fn fish_completes_profiles_and_settings() {
    let mut home = home("fish");
    let offered = |home: &Sandbox, words: &str| {
        let mut command = home.command(&[]);
        let mut fish = std::process::Command::new(parts::program("fish"));
        fish.env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(home.path());
        command = fish;
        command.args(["--no-config", "-c"]).arg(format!("source script; complete -C '{words}'"));
        let output = command.output().expect("fish runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    fs::write(home.path().join("script"), home.run(&["completion", "fish"]).exits(0).stdout).expect("written");
    assert_eq!(offered(&home, "authctl status "), "home\thttps://home.example\nwork\thttps://issuer.example\n");
    assert_eq!(offered(&home, "authctl profile set work verify_token=id"), "verify_token=id_token\n");
    assert_eq!(offered(&home, "authctl verify - --jwks af"), "afile\n");
    home.set("PATH", "/usr/bin:/bin");
    assert_eq!(offered(&home, "authctl status "), "");
}

/// A script must not wait for a keychain, the network or the agent.
#[test]
fn completion_reads_only_the_configuration() {
    parts::require(&["strace"]);
    let mut home = home("bash");
    home.set("AUTHCTL_COMPLETE", "bash");
    home.set("_CLAP_COMPLETE_INDEX", "2");
    let (ran, calls) = home.trace("socket,connect", &["--", "authctl", "status", ""], "");
    assert_eq!((ran.stdout.trim_end(), ran.stderr.as_str()), ("home\u{b}work", ""));
    assert_eq!(calls, Vec::<String>::new());
    home.configure("not toml");
    let ran = home.run(&["--", "authctl", "status", "--che"]).exits(0);
    assert_eq!((ran.stdout.trim_end(), ran.stderr.as_str()), ("--check", ""), "an invalid file is no error here");
}
