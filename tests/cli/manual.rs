//! The commands in the sections TROUBLESHOOTING and UNINSTALL of authctl(1), run in the order in which they are there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{AUTHCTL, PASSWORD, Sandbox, USER, quick_issuer};

/// Returns the commands of authctl in a section of the page, which are bold as all code is: all, or those that begin an item.
fn commands(section: &str, only_items: bool) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/authctl.1")).unwrap();
    let (_, text) = page.split_once(&format!(".SH {section}\n")).expect("the section");
    let text = text.split("\n.SH ").next().unwrap().replace("\\-", "-");
    let begin = if only_items { ".TP\n\\fB" } else { "\\fB" };
    // A line of the page may end within a command.
    let bold = text.split(begin).skip(1).map(|part| part.split("\\fR").next().unwrap().replace('\n', " "));
    bold.filter(|code| code.starts_with("authctl ")).collect()
}

#[test]
fn commands_to_solve_problems_and_to_uninstall_work() {
    let home = Sandbox::new();
    let issuer = quick_issuer();
    home.log_in("work", &issuer);
    home.session("work");
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(AUTHCTL, bin.join("authctl")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let (solving, uninstalling) = (commands("TROUBLESHOOTING", false), commands("UNINSTALL", true));
    assert!(solving.len() >= 8 && uninstalling.len() >= 3, "{solving:?} {uninstalling:?}");
    for code in solving.iter().chain(&uninstalling) {
        // A login needs the user's password here.
        let code = match code.strip_prefix("authctl login ") {
            Some(options) => {
                format!("echo {PASSWORD} | authctl login {options} --username {USER} --password-stdin --password")
            }
            None => code.clone(),
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", &code]).env_clear().current_dir(home.path()).stdin(Stdio::null());
        shell.envs(home.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        home.finish(child, &["exec", &code]).exits(0);
    }
    assert_eq!(issuer.stats().families_revoked, 1);
    assert!(home.sessions().is_empty());
}
