//! The demo, and the embedded issuer as a command.

use crate::support::{Sandbox, http};

#[test]
fn demo_succeeds_and_removes_its_files() {
    let mut home = Sandbox::new();
    let scratch = home.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    home.set("TMPDIR", &scratch);
    let ran = home.run(&["demo"]).exits(0);
    assert!(ran.stdout.contains("That is the lifecycle of a session"), "{}", ran.stdout);
    assert!(!home.config_file().exists(), "the demo writes nothing into the user's home");
    assert_eq!(scratch.read_dir().unwrap().count(), 0, "the temporary directory is removed");
}

#[test]
fn dev_issuer_prints_a_new_control_key_only_with_control() {
    let home = Sandbox::new();
    let start = |args: &[&str]| {
        let mut issuer = home.command(args).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(issuer.stdout.take().unwrap()), &mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let control = format!("{}/control/stats", ready["issuer"].as_str().unwrap());
        let status = |key: &str| http::get(&control, &[&format!("X-Dev-Issuer-Control: {key}")]).0;
        let key = ready["control_key"].as_str().unwrap_or("1").to_owned();
        let statuses = (status(&key), status("1"));
        issuer.kill().unwrap();
        issuer.wait().unwrap();
        (key, statuses)
    };
    assert_eq!(start(&["dev-issuer", "--json"]).1, (404, 404));
    let (first, statuses) = start(&["dev-issuer", "--json", "--control"]);
    assert_eq!((first.len(), statuses), (43, (200, 403)));
    assert_ne!(start(&["dev-issuer", "--json", "--control"]).0, first);
}
