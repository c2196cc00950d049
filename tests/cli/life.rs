//! The demo, which is a session's whole life.

use crate::support::Sandbox;

#[test]
fn the_demo_does_what_it_says_and_leaves_nothing() {
    let mut home = Sandbox::new();
    let scratch = home.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    home.set("TMPDIR", &scratch);
    let ran = home.run(&["demo"]).exits(0);
    assert!(ran.stdout.contains("That was the whole life of a session"), "{}", ran.stdout);
    assert!(!home.config_file().exists(), "the demo keeps out of its user's home");
    assert_eq!(scratch.read_dir().unwrap().count(), 0, "the scratch directory is gone");
}
