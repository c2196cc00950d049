//! The file store (key, damaged sessions, full disk) and a missing keychain.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use authctl::dev_issuer::DevIssuer;
use serde_json::{Value, json};

use crate::support::{AUTHCTL, CommandOutput, PASSWORD, Sandbox, USER, issuer, quick_issuer};

fn logged_in() -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    (home, issuer)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs the command in the hint of an error.
fn run_hint(ran: &CommandOutput) {
    let hint = ran.error()["hint"].as_str().expect("a hint").to_owned();
    let shell = Command::new("sh").args(["-c", &hint]).status().expect("sh");
    assert!(shell.success(), "{hint}");
}

/// Runs a tool of the `age` package, which `tests/install` installs.
fn tool(program: &str, args: &[&std::ffi::OsStr]) -> Output {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect(program);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn decrypt_with_age(key: &Path, session: &Path) -> Value {
    let output = tool("age", &["-d".as_ref(), "-i".as_ref(), key.as_os_str(), session.as_os_str()]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn age_decrypts_a_session_with_the_key() {
    let (home, _issuer) = logged_in();
    let session = decrypt_with_age(&home.key_file(), &home.session_file("work"));
    assert_eq!(session["tokens"]["access_token"], home.token("work"));
    for file in [home.key_file(), home.session_file("work")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn key_readable_by_others_is_refused_until_chmod() {
    let (home, _issuer) = logged_in();
    let before = fs::read(home.session_file("work")).unwrap();
    for permissions in [0o644, 0o640, 0o666, 0o604] {
        set_mode(&home.key_file(), permissions);
        let ran = home.run(&["token", "work", "--json"]).exits(7);
        assert_eq!((ran.error()["code"].as_str(), ran.stdout.as_str()), (Some("store_key"), ""), "{permissions:o}");
        run_hint(&ran);
        home.token("work");
    }
    assert_eq!(fs::read(home.session_file("work")).unwrap(), before);
}

#[test]
fn missing_key_is_reported_and_login_creates_one() {
    let (home, issuer) = logged_in();
    let before = fs::read(home.session_file("work")).unwrap();
    let elsewhere = home.path().join("elsewhere");
    fs::rename(home.key_file(), &elsewhere).unwrap();
    for args in [&["token", "work"][..], &["refresh", "work"], &["verify", "work"], &["status"]] {
        let ran = home.run(args);
        assert_eq!(ran.code, 7, "{args:?}: {}", ran.stderr);
        assert!(!home.key_file().exists(), "only a login creates a key: {args:?}");
    }
    home.run(&["token", "work"]).reports("authctl login work");
    assert_eq!(fs::read(home.session_file("work")).unwrap(), before);
    // The key is restored.
    fs::rename(&elsewhere, home.key_file()).unwrap();
    home.token("work");
    // The key is lost: the hint's command recovers.
    fs::remove_file(home.key_file()).unwrap();
    home.log_in("work", &issuer);
    home.token("work");
}

#[test]
fn provided_key_is_used_and_none_is_created() {
    for variable in ["AUTHCTL_KEY_FILE", "CREDENTIALS_DIRECTORY"] {
        let (mut home, issuer) = (Sandbox::new(), issuer(|_| {}));
        let key = home.path().join("authctl.key");
        home.set(variable, if variable == "AUTHCTL_KEY_FILE" { key.clone() } else { home.path().to_owned() });
        if variable == "AUTHCTL_KEY_FILE" {
            // A configured key file is never created: the path may be mistyped, or the file lost.
            let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
            let password_args = ["--password", "--password-stdin", "--username", USER];
            home.run_with(&[&args[..], &password_args].concat(), PASSWORD).exits(7).reports("authctl.key");
            assert!(!key.exists());
            assert_eq!(issuer.stats().token_requests.len(), 0, "reported before the login");
        }
        tool("age-keygen", &["-o".as_ref(), key.as_os_str()]);
        set_mode(&key, 0o600);
        home.log_in("work", &issuer);
        assert!(!home.key_file().exists(), "{variable}");
        assert_eq!(decrypt_with_age(&key, &home.session_file("work"))["tokens"]["access_token"], home.token("work"));
        home.unset(variable);
        home.run(&["token", "work"]).exits(7);
    }
}

#[test]
fn damaged_session_is_reported_and_replaced_by_login() {
    let (home, issuer) = logged_in();
    let original = fs::read(home.session_file("work")).unwrap();
    let mut flipped = original.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&original[..original.len() / 2], b"", &flipped, b"not an age file"] {
        fs::write(home.session_file("work"), damaged).unwrap();
        for args in [&["token", "work"][..], &["refresh", "work"], &["verify", "work"], &["exec", "work", "--", "true"]]
        {
            let ran = home.run(&[&["--json"], args].concat()).exits(7);
            assert_eq!(ran.error()["code"], "session_damaged", "{args:?}");
        }
        let problem = home.run(&["status", "--json"]).exits(7).json()["profiles"][0]["problem"].clone();
        assert_eq!(problem["code"], "session_damaged");
        assert_eq!(fs::read(home.session_file("work")).unwrap(), damaged);
    }
    home.log_in("work", &issuer);
    home.token("work");
}

#[test]
fn session_in_a_newer_format_is_not_overwritten() {
    let (home, _issuer) = logged_in();
    let key = fs::read_to_string(home.key_file()).unwrap();
    let public = key.lines().find_map(|line| line.split_once("public key: ")).map(|(_, key)| key.to_owned());
    let public = public.unwrap_or_else(|| {
        let output = tool("age-keygen", &["-y".as_ref(), home.key_file().as_os_str()]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    let plain = home.path().join("plain");
    fs::write(&plain, r#"{"format":2,"something":"new"}"#).unwrap();
    let file = home.session_file("work");
    let args = ["-r".as_ref(), public.as_ref(), "-o".as_ref(), file.as_os_str(), plain.as_os_str()];
    tool("age", &args);
    let before = fs::read(&file).unwrap();
    home.run(&["token", "work"]).exits(7).reports("format 2");
    assert_eq!(fs::read(&file).unwrap(), before);
}

/// Runs authctl with a file size limit of `blocks` of 512 bytes, to simulate a full disk.
fn run_with_file_limit(home: &Sandbox, blocks: u32, args: &[&str], stdin: Stdio) -> Output {
    let plain = home.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""), AUTHCTL]).args(args);
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(home.path()).stdin(stdin).output().unwrap()
}

#[test]
fn failed_profile_write_leaves_the_old_session() {
    let (home, issuer) = logged_in();
    let token = home.token("work");
    // The session fits into the limit, the configuration does not.
    let long = format!("{}{}", fs::read_to_string(home.config_file()).unwrap(), "# a comment\n".repeat(20_000));
    fs::write(home.config_file(), &long).unwrap();
    let password_file = home.path().join("password");
    fs::write(&password_file, PASSWORD).unwrap();
    let login = ["login", "work", "--audience", "https://api.example", "--password", "--password-stdin"];
    let args = [&login[..], &["--username", USER]].concat();
    let output = run_with_file_limit(&home, 400, &args, fs::File::open(&password_file).unwrap().into());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("config.toml"), "{stderr}");
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), long);
    assert_eq!(issuer.stats().families_revoked, 1, "the tokens that were not stored");
    assert_eq!(home.token("work"), token);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn full_disk_is_detected_before_the_refresh_token_is_used() {
    let (home, issuer) = logged_in();
    home.advance_time("work", 301);
    let length = fs::metadata(home.session_file("work")).unwrap().len();
    // Not enough for the mark that a refresh began; for the mark only; for a reply of the same size; for a larger one.
    for blocks in [0, 1, u32::try_from(length / 512).unwrap() + 2, 64] {
        let output = run_with_file_limit(&home, blocks, &["token", "work"], Stdio::null());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b""[..]), "{blocks}: {stderr}");
        assert_eq!(issuer.stats().token_requests.get("refresh_token"), None, "{blocks}");
        assert_eq!(home.status("work")["can_refresh"], true, "{blocks}");
    }
    home.token("work");
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().families_revoked), (1, 0));
    let files = home.sessions();
    assert_eq!(files.len(), 1, "no temporary file remains: {files:?}");
}

#[test]
fn valid_token_is_served_on_a_full_disk() {
    let (home, issuer) = logged_in();
    let token = home.token("work");
    home.advance_time("work", 260);
    let output = run_with_file_limit(&home, 0, &["token", "work"], Stdio::null());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, format!("{token}\n").into_bytes());
    assert_eq!(issuer.stats().refreshes_committed, 0);
}

#[test]
fn unwritable_store_is_reported_before_the_user_logs_in() {
    let (mut home, issuer) = (Sandbox::new(), issuer(|_| {}));
    // Not even root can create a directory in /proc.
    home.set("XDG_DATA_HOME", "/proc");
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let password_args = ["--password", "--password-stdin", "--username", USER];
    home.run_with(&[&args[..], &password_args].concat(), PASSWORD).exits(7).reports("/proc/authctl");
    assert_eq!(issuer.stats().requests.len(), 0);
    assert!(!home.config_file().exists());
}

#[test]
fn missing_keychain_does_not_fall_back_to_a_file() {
    let (home, issuer) = (Sandbox::with_store("keychain"), issuer(|_| {}));
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let password_args = ["--password", "--password-stdin", "--username", USER, "--json"];
    let ran = home.run_with(&[&args[..], &password_args].concat(), PASSWORD).exits(7);
    assert!(ran.error()["hint"].as_str().unwrap().contains("--store file"), "{}", ran.stderr);
    assert_eq!(issuer.stats().token_requests.len(), 0);
    assert!(!home.session_file("work").exists() && !home.key_file().exists() && !home.config_file().exists());
    home.run_with(&[&args[..], &password_args, &["--store", "file"]].concat(), PASSWORD).exits(0);
    assert_eq!(home.status("work")["store"], "file");
    assert_eq!(home.status("work")["location"], home.session_file("work").display().to_string());
}

#[test]
fn login_to_another_store_warns_of_keys_pinned_in_the_old_one() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.configure(&format!(
        "[profiles.work]\nissuer = \"{}\"\nclient_id = \"authctl\"\nstore = \"keychain\"\n",
        issuer.issuer()
    ));
    let args = ["login", "work", "--store", "file", "--password", "--password-stdin", "--username", USER];
    let ran = home.run_with(&args, PASSWORD).exits(0).reports("in the keychain store");
    assert!(ran.stderr.contains("`authctl keys pin work --jwks FILE`"), "{}", ran.stderr);
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn unknown_store_is_a_configuration_error() {
    for store in ["plaintext", "FILE", "Memory"] {
        let (home, issuer) = (Sandbox::with_store(store), issuer(|_| {}));
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
        let password_args = ["--password", "--password-stdin", "--username", USER];
        let ran = home.run_with(&[&args[..], &password_args, &["--json"]].concat(), PASSWORD).exits(2);
        let error = ran.error();
        assert_eq!((&error["code"], &error["hint"]), (&json!("configuration"), &json!("unset AUTHCTL_STORE")));
        home.run_with(&[&args[..], &password_args, &["--store", store]].concat(), PASSWORD).exits(2);
        assert_eq!(issuer.stats().token_requests.len(), 0);
    }
}

#[test]
fn session_directory_writable_by_others_is_refused() {
    let (home, _issuer) = logged_in();
    let dir = home.session_file("work").parent().unwrap().to_owned();
    set_mode(&dir, 0o777);
    run_hint(&home.run(&["refresh", "work", "--json"]).exits(7));
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn session_of_a_name_in_other_case_is_neither_served_nor_replaced() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("Work", &issuer);
    let token = home.token("Work");
    home.log_in("work", &issuer);
    // What a file system that does not distinguish upper and lower case does.
    std::fs::remove_file(home.session_file("work")).unwrap();
    std::fs::hard_link(home.session_file("Work"), home.session_file("work")).unwrap();
    home.run(&["token", "work"]).exits(3);
    home.run(&["verify", "work"]).exits(3);
    home.run(&["logout", "work"]).exits(0).reports("not logged in");
    let args = ["login", "work", "--password", "--username", USER, "--password-stdin"];
    home.run_with(&args, PASSWORD).exits(7).reports("session of the profile `Work`").reports("differs in more than");
    assert_eq!(home.token("Work"), token);
    home.run(&["profile", "remove", "work"]).exits(0);
    home.run(&["refresh", "Work"]).exits(0);
    // The file system of this test distinguishes them again.
    std::fs::remove_file(home.session_file("work")).unwrap();
    home.run(&["profile", "rename", "Work", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    assert!(!home.session_file("Work").exists());
}

#[test]
fn key_that_cannot_be_created_is_reported_before_the_login() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password"];
    let login = [&login[..], &["--username", USER, "--password-stdin"]].concat();
    let link = ["-e", "inject=?link,linkat:error=EIO"];
    let ran = home.run_traced(&link, &login, PASSWORD).0.exits(7);
    ran.reports("cannot create").reports(home.key_file().to_str().unwrap());
    assert_eq!(issuer.stats().token_requests.len(), 0);
    assert!(!home.key_file().exists());
}

#[test]
fn missing_key_file_is_to_be_restored() {
    let (mut home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    std::fs::rename(home.key_file(), home.path().join("saved")).unwrap();
    home.run(&["token"]).exits(7).reports("restore it").reports("authctl login work");
    std::fs::rename(home.path().join("saved"), home.key_file()).unwrap();
    home.token("work");
    home.set("AUTHCTL_KEY_FILE", "/does/not/exist");
    home.run(&["token"]).exits(7).reports("hint:  ls -la /\n");
}
