//! The key of the file store where it belongs to another user.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};

use crate::agent_access::{as_nobody, home_of_nobody};
use crate::agent_support::output_of;

#[test]
fn key_of_another_user_is_refused_unless_it_is_roots() {
    let (home, _issuer, program) = home_of_nobody();
    let key = home.key_file();
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&key).expect("there"));
    // Readable by the group alone, as a credential that systemd provides shows itself.
    let given_to = |owner: u32, mode: u32| {
        chown(&key, Some(owner), Some(group)).expect("given away");
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).expect("chmod");
        output_of(as_nobody(&home, &program).args(["token", "work"]))
    };
    let refused = given_to(4711, 0o440).expect_err("its owner could read the sessions");
    assert!(refused.contains("owned by user ID 4711"), "{refused}");
    given_to(0, 0o440).expect("a token");
    for mode in [0o444, 0o460] {
        let refused = given_to(0, mode).expect_err("others could read or replace it");
        assert!(refused.contains(&format!("mode {mode:04o}")), "{refused}");
    }
}
