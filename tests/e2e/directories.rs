//! A program that another user starts in a directory of his: what may not be looked at there says nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use crate::agent_guarded::{as_nobody, home_of_nobody};
use crate::agent_support::output_of;

const PROFILE_FILE: &str = ".authctl.toml";

#[test]
fn directories_of_the_user_who_starts_it_keep_nobody_from_anything() {
    let (home, _issuer, program) = home_of_nobody();
    // As `sudo -u` does from one's own home: the place is open already, and the way there is closed.
    let closed = tempfile::tempdir().expect("a directory");
    let within = closed.path().join("within");
    std::fs::create_dir(&within).expect("made");
    std::fs::write(closed.path().join(PROFILE_FILE), "profile = \"another\"").expect("written");
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).expect("closed");
    let run = |args: &[&str]| output_of(as_nobody(&home, &program).args(args).current_dir(&within));
    let token = run(&["token"]).expect("a token");
    assert!(token.trim_end().split('.').count() == 3, "{token}");
    run(&["verify"]).expect("a decision");
    // What can be seen and is another's stops it, with the way on.
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o755)).expect("opened");
    std::os::unix::fs::chown(closed.path().join(PROFILE_FILE), Some(4711), None).expect("given away");
    let refused = run(&["token"]).expect_err("whose word counts is not guessed");
    assert!(refused.contains("another user's") && refused.contains("AUTHCTL_PROFILE"), "{refused}");
    run(&["token", "work"]).expect("a token");
    // Where anybody may put files it is passed over.
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o1777)).expect("opened");
    run(&["token"]).expect("a token");
}
