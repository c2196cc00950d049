//! Profile files in directories of another user, as where `sudo -u` runs authctl.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use crate::agent_access::{as_nobody, home_of_nobody};
use crate::agent_support::output_of;

const PROFILE_FILE: &str = ".authctl.toml";

#[test]
fn unreadable_directories_of_another_user_are_skipped() {
    let (home, _issuer, program) = home_of_nobody();
    // As with `sudo -u` in a home directory: the current directory is open, its parent is not accessible.
    let closed = tempfile::tempdir().expect("a directory");
    let within = closed.path().join("within");
    std::fs::create_dir(&within).expect("made");
    std::fs::write(closed.path().join(PROFILE_FILE), "profile = \"another\"").expect("written");
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).expect("closed");
    let run = |args: &[&str]| output_of(as_nobody(&home, &program).args(args).current_dir(&within));
    let token = run(&["token"]).expect("a token");
    assert!(token.trim_end().split('.').count() == 3, "{token}");
    run(&["verify"]).expect("a decision");
    // A readable profile file of another user is an error with a hint.
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o755)).expect("opened");
    std::os::unix::fs::chown(closed.path().join(PROFILE_FILE), Some(4711), None).expect("given away");
    let refused = run(&["token"]).expect_err("whose word counts is not guessed");
    assert!(refused.contains("another user") && refused.contains("AUTHCTL_PROFILE"), "{refused}");
    run(&["token", "work"]).expect("a token");
    // A profile file in a directory that everyone can write to is ignored.
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o1777)).expect("opened");
    run(&["token"]).expect("a token");
}

#[test]
fn files_that_every_user_can_write_to_are_not_obeyed() {
    let (home, _issuer, program) = home_of_nobody();
    let dir = tempfile::tempdir().expect("a directory");
    let profile = dir.path().join(PROFILE_FILE);
    std::fs::write(&profile, "profile = \"work\"").expect("written");
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("opened");
    let config = home.config_file();
    let key = home.key_file();
    let sessions = home.session_file("work").parent().expect("a directory").to_owned();
    let token = || output_of(as_nobody(&home, &program).arg("token").current_dir(dir.path()));
    token().expect("a token");
    for (path, wide) in [
        (profile.as_path(), 0o666),
        (profile.as_path(), 0o646),
        (dir.path(), 0o777),
        (config.as_path(), 0o666),
        (config.as_path(), 0o602),
        (config.parent().expect("a directory"), 0o777),
        (key.as_path(), 0o644),
        (key.as_path(), 0o620),
    ] {
        let before = std::fs::metadata(path).expect("there").permissions();
        std::fs::set_permissions(path, Permissions::from_mode(wide)).expect("chmod");
        let refused = token().expect_err(&format!("{} {wide:o}", path.display()));
        assert!(refused.contains(&format!("mode {wide:04o}")) && refused.contains("chmod"), "{refused}");
        std::fs::set_permissions(path, before).expect("chmod");
        token().expect("a token");
    }
    std::fs::set_permissions(&sessions, Permissions::from_mode(0o777)).expect("chmod");
    let refused = output_of(as_nobody(&home, &program).args(["refresh", "work"])).expect_err("others could replace it");
    assert!(refused.contains("mode 0777"), "{refused}");
}
