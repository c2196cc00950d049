//! Token files: what a program that reads one sees.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authctl::dev_issuer::{Algorithm, DevIssuer, Endpoint, Fault, FaultKind};
use serde_json::json;

use super::logged_in;
use crate::support::agent::Agent;
use crate::support::jwt::{claims, now};
use crate::support::process::wait_until;
use crate::support::{Sandbox, issuer};

const PASSPHRASE: &str = "a passphrase of the tests";

const NOT_OURS: &str = "it exists and holds a token that authctl did not write";

/// Returns a home whose profile has a token file, and its path.
fn with_file() -> (Sandbox, DevIssuer, PathBuf) {
    let (home, idp) = logged_in("");
    let file = home.path().join("made/token");
    home.run(&["helper", "file", file.to_str().unwrap(), "--write", "--profile", "work"]).exits(0);
    (home, idp, file)
}

fn content(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
}

/// Waits until the file has the session's token.
fn wait_for_token(home: &Sandbox, file: &Path) {
    wait_until("the token", || {
        let token = home.session("work").tokens.access_token.expose().to_owned();
        (content(file) == Some(token)).then_some(())
    });
}

#[test]
fn token_file_follows_login_refresh_and_logout() {
    let (home, idp, file) = with_file();
    let token = home.token("work");
    assert_eq!(content(&file), Some(token.clone()));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    home.run(&["refresh", "work"]).exits(0);
    let refreshed = home.token("work");
    assert_ne!(refreshed, token);
    assert_eq!(content(&file), Some(refreshed.clone()));
    home.expire("work");
    let served = home.token("work");
    assert_ne!(served, refreshed);
    assert_eq!(content(&file), Some(served), "a refresh by any command");
    let shown = json!([{"path": file, "current": true, "error": null}]);
    assert_eq!(home.status("work")["token_files"], shown);
    home.run(&["logout", "work"]).exits(0);
    assert_eq!(content(&file), None);
    assert_eq!(home.status("work")["token_files"], shown, "absent, as it should be");
    home.log_in("work", &idp);
    assert_eq!(content(&file), Some(home.token("work")));
    idp.revoke_everything();
    home.run(&["refresh", "work"]).exits(3);
    assert_eq!(content(&file), None, "the issuer has ended the session");
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn token_file_is_set_up_once_moved_and_undone() {
    let (home, _idp, file) = with_file();
    let setting = || home.run(&["profile", "show", "work", "--json"]).exits(0).json()["token_file"].clone();
    let helper = |words: &[&str]| home.run(&[&["helper", "file", "--profile", "work"][..], words].concat());
    assert_eq!(setting(), json!(file));
    helper(&["--write"]).exits(0).reports("already set up");
    let other = home.path().join("other");
    helper(&["--write", other.to_str().unwrap()]).exits(2).reports("authctl helper file --remove --profile work");
    let shown = helper(&["--setup"]).exits(0).stdout;
    assert!(shown.starts_with(&format!("authctl profile set work token_file={}\n", file.display())), "{shown}");
    helper(&[]).exits(2).reports("authctl helper file --setup");
    helper(&["--write", "one", "two"]).exits(2);
    home.run(&["profile", "set", "work", &format!("token_file={}", other.display())]).exits(0);
    assert_eq!((content(&file), content(&other)), (None, Some(home.token("work"))));
    home.run(&["profile", "rename", "work", "job"]).exits(0);
    assert!(other.exists());
    home.run(&["profile", "rename", "job", "work"]).exits(0);
    helper(&["--remove"]).exits(0);
    assert_eq!((content(&other), setting()), (None, json!(null)));
    helper(&["--remove"]).exits(0).reports("not set up");
    helper(&["--write", "--id-token"]).exits(0);
    let id_token = home.session("work").tokens.id_token.clone().unwrap();
    let default = home.path().join("run/authctl/work.id-token");
    assert_eq!(content(&default).as_deref(), Some(id_token.expose()));
    helper(&["--remove"]).exits(0).reports("not set up");
    helper(&["--remove", "--id-token"]).exits(0);
    assert!(!default.exists());
    for invalid in ["token_file=/tmp/", "id_token_file=/"] {
        home.run(&["profile", "set", "work", invalid]).exits(2).reports("absolute path");
    }
}

#[test]
fn what_is_not_a_token_file_of_the_user_is_left_alone() {
    let (home, _idp) = logged_in("");
    let dir = home.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let (file, target) = (dir.join("token"), home.path().join("target"));
    fs::write(&target, "").unwrap();
    let write = || home.run(&["helper", "file", "--write", "--profile", "work", file.to_str().unwrap()]);
    let set_mode = |mode| fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    set_mode(0o777);
    write().exits(2).reports("other users can write to").reports("mode 0777");
    set_mode(0o700);
    symlink(&target, &file).unwrap();
    write().exits(2).reports("symbolic link");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "export PATH=/bin\n").unwrap();
    write().exits(2).reports("other than a token");
    let setting = format!("token_file={}", file.display());
    home.run(&["profile", "set", "work", &setting]).exits(2).reports("other than a token");
    // Another program may write to it later: a refresh goes on, and the file stays as it is.
    fs::remove_file(&file).unwrap();
    home.run(&["profile", "set", "work", &setting]).exits(0);
    fs::write(&file, "export PATH=/bin\n").unwrap();
    home.run(&["refresh", "work"]).exits(0).reports("refreshed work").reports("other than a token");
    let status = home.run(&["status"]).exits(0).stdout;
    assert!(status.contains("work:") && status.contains("not up to date: it exists"), "{status}");
    home.run(&["logout", "work"]).exits(0);
    assert_eq!(content(&file).as_deref(), Some("export PATH=/bin\n"));
    assert_eq!(content(&target).as_deref(), Some(""));
}

#[test]
fn file_that_authctl_did_not_write_is_not_taken_over() {
    let (home, _idp) = logged_in("");
    let file = home.path().join("key");
    let path = file.to_str().unwrap();
    let before = fs::read_to_string(home.config_file()).unwrap();
    for key in ["my-api-key\n", "my-api-key", "eyJhbGciOiJub25lIn0.e30.\n"] {
        fs::write(&file, key).unwrap();
        for tool in ["file", "azure"] {
            for options in [&[][..], &["--id-token"]] {
                let write = ["helper", tool, "--write", "--profile", "work", path];
                home.run(&[&write[..], options].concat()).exits(2).reports(NOT_OURS);
            }
        }
        for setting in ["token_file", "id_token_file"] {
            let setting = format!("{setting}={path}");
            home.run(&["profile", "set", "work", &setting]).exits(2).reports(NOT_OURS);
        }
        assert_eq!(content(&file).as_deref(), Some(key));
        assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
    }
    // An empty one has nothing to lose, and what authctl wrote is its own, even if the setting was lost.
    fs::write(&file, "").unwrap();
    home.run(&["helper", "file", "--write", "--profile", "work", path]).exits(0);
    assert_eq!(content(&file), Some(home.token("work")));
    home.configure(&before);
    home.run(&["helper", "file", "--write", "--profile", "work", path]).exits(0);
}

/// Returns the configuration with a setting of `work` that was written by hand.
fn with_setting(home: &Sandbox, key: &str, file: &Path) -> String {
    let before = fs::read_to_string(home.config_file()).unwrap();
    before.replace("[profiles.work]\n", &format!("[profiles.work]\n{key} = {:?}\n", file.display().to_string()))
}

#[test]
fn file_of_the_user_stays_where_a_setting_by_hand_names_it() {
    let (home, idp) = logged_in("");
    let file = home.path().join("key");
    for key in ["token_file", "id_token_file"] {
        fs::write(&file, "my-api-key").unwrap();
        let before = fs::read_to_string(home.config_file()).unwrap();
        home.configure(&with_setting(&home, key, &file));
        let warning = format!("warning: the token file {} is not up to date: {NOT_OURS}", file.display());
        for _ in 0..2 {
            home.run(&["refresh", "work"]).exits(0).reports(&warning);
        }
        let write = ["helper", "file", "--write", "--profile", "work"];
        let option = if key == "id_token_file" { &["--id-token"][..] } else { &[] };
        home.run(&[&write[..], option].concat()).exits(1).reports(NOT_OURS);
        let shown = json!([{"path": file, "current": false, "error": NOT_OURS}]);
        assert_eq!(home.status("work")["token_files"], shown);
        {
            home.register_secret(PASSPHRASE);
            let agent = Agent::run(&home);
            agent.post("/v1/refresh/work", "").expect_status(200);
            let line = format!("{PASSPHRASE}\n");
            home.run_with(&["agent", "lock", "--passphrase-stdin"], &line).exits(0);
            home.run_with(&["agent", "unlock", "--passphrase-stdin"], &line).exits(0);
        }
        home.run(&["logout", "work"]).exits(0).reports(NOT_OURS);
        home.log_in("work", &idp);
        assert_eq!(content(&file).as_deref(), Some("my-api-key"));
        // The user removes the other file.
        fs::remove_file(&file).unwrap();
        home.run(&["refresh", "work"]).exits(0);
        assert!(content(&file).is_some_and(|token| token.starts_with("eyJ")), "{key}");
        home.run(&["profile", "set", "work", &format!("{key}=")]).exits(0);
        assert!(!file.exists(), "removed with its setting");
        home.configure(&before);
    }
}

#[test]
fn own_token_file_is_replaced_in_each_state_of_its_record() {
    let (home, _idp) = logged_in("");
    let (file, records) = (home.path().join("token"), home.path().join("data/authctl/token-files"));
    home.configure(&with_setting(&home, "token_file", &file));
    let refresh = || home.run(&["refresh", "work"]).exits(0);
    refresh();
    assert_eq!(content(&file), Some(home.token("work")));
    let recorded = fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
    assert!(!fs::read_to_string(recorded).unwrap().contains("eyJ"), "no token");
    // As after a reinstallation without the directory of the data, where the keychain has the session.
    fs::remove_dir_all(&records).unwrap();
    refresh();
    assert_eq!(content(&file), Some(home.token("work")));
    // The file was not up to date before.
    let old = content(&file).unwrap();
    refresh();
    fs::write(&file, &old).unwrap();
    refresh();
    assert_eq!(content(&file), Some(home.token("work")));
    // An agent records a file that is up to date.
    fs::remove_dir_all(&records).unwrap();
    {
        let _agent = Agent::run(&home);
        wait_until("the record", || records.exists().then_some(()));
    }
    fs::remove_dir_all(&records).unwrap();
    home.run(&["profile", "set", "work", "token_file="]).exits(0);
    assert!(!file.exists(), "removed with its setting");
    home.run(&["profile", "set", "work", &format!("token_file={}", file.display())]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    // What could not be removed later is not written.
    let away = records.with_extension("away");
    fs::rename(&records, &away).unwrap();
    fs::write(&records, "").unwrap();
    let old = content(&file);
    home.run(&["refresh", "work"]).exits(0).reports("is not up to date: what is written to it cannot be recorded");
    assert_eq!(content(&file), old);
    fs::remove_file(&records).unwrap();
    fs::rename(&away, &records).unwrap();
    home.run(&["logout", "work"]).exits(0);
    assert!(!file.exists());
}

#[test]
fn file_is_reported_as_written_only_if_it_has_a_token() {
    let (home, idp) = logged_in("");
    let (file, old) = (home.path().join("token"), home.token("work"));
    let write = || home.run(&["helper", "file", "--write", "--profile", "work", file.to_str().unwrap()]);
    let is_written = format!("the token of work is written to {}", file.display());
    // Refreshed first.
    home.expire("work");
    write().exits(0).reports(&is_written);
    let written = content(&file);
    assert_eq!(written, Some(home.token("work")));
    assert_ne!(written, Some(old));
    home.run(&["logout", "work"]).exits(0);
    for _ in 0..2 {
        let ran = write().exits(3).reports("has no valid token").reports("hint:  authctl login work");
        assert!(!ran.stderr.contains("is written") && !ran.stderr.contains("already"), "{}", ran.stderr);
    }
    home.run(&["helper", "file", "--remove", "--profile", "work"]).exits(0);
    let ran = write().exits(3).reports("is the token file of work, but has no valid token").reports("not logged in");
    assert!(!ran.stderr.contains("is written"), "{}", ran.stderr);
    assert!(!file.exists());
    home.log_in("work", &idp);
    assert_eq!(content(&file), Some(home.token("work")), "the setting is there");
    assert_eq!(write().exits(0).stderr, "already set up\n");
    home.expire("work");
    drop(idp);
    write().exits(6).reports("has no valid token");
}

#[test]
fn old_token_stays_whole_on_a_full_disk_and_in_a_read_only_directory() {
    let (home, _idp, file) = with_file();
    let (dir, old) = (file.parent().unwrap().display(), home.token("work"));
    let full = format!(
        "cp -p {0} copy && mount -t tmpfs -o size=4k,mode=700 tmpfs {dir} && cp -p copy {0} && \"$0\" \"$@\"; \
         code=$?; cp {0} seen; exit $code",
        file.display()
    );
    let read_only = format!("mount --bind {dir} {dir} && mount -o remount,bind,ro {dir} && exec \"$0\" \"$@\"");
    for (script, reason) in [(&full, "No space left on device"), (&read_only, "Read-only file system")] {
        let path = file.display();
        home.mounted(script, &["refresh", "work"], "")
            .exits(0)
            .reports(&format!("warning: the token file {path} is not up to date: {reason}"));
        assert_eq!(content(&file), Some(old.clone()));
    }
    assert_eq!(content(&home.path().join("seen")), Some(old));
    let status = home.mounted(&read_only, &["status", "--json"], "").exits(0).json();
    let shown = json!([{"path": file, "current": false, "error": "Read-only file system"}]);
    assert_eq!(status["profiles"][0]["token_files"], shown);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(content(&file), Some(home.token("work")));
}

#[test]
fn reader_never_sees_an_empty_half_or_expired_token_in_100_refreshes() {
    let idp = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(6);
    });
    let home = Sandbox::new();
    home.log_in("work", &idp);
    let file = home.path().join("token");
    home.run(&["helper", "file", "--write", file.to_str().unwrap(), "--profile", "work"]).exits(0);
    let agent = Agent::run(&home);
    // The login's token may have been about to expire.
    agent.post("/v1/refresh/work", "").expect_status(200);
    let is_done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen: Vec<String> = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                let read_at = now();
                let token = fs::read_to_string(&file).expect("the file is there");
                let expiry = claims(&token)["exp"].as_i64().expect("a whole token");
                assert!(expiry > read_at, "expired {} s ago", read_at - expiry);
                if seen.last() != Some(&token) {
                    seen.push(token);
                }
            }
            seen
        });
        for _ in 0..100 {
            if reader.is_finished() {
                break;
            }
            agent.post("/v1/refresh/work", "").expect_status(200);
        }
        // Then those that the agent makes by itself, before each token expires.
        let mut events = agent.events();
        for _ in 0..3 {
            events.until("refreshed");
        }
        is_done.store(true, Ordering::Relaxed);
        reader.join().expect("what it read was right")
    });
    assert!(seen.len() > 4, "{}", seen.len());
}

#[test]
fn agent_writes_the_file_again_after_a_start_and_an_unlock() {
    let (home, _idp, file) = with_file();
    home.register_secret(PASSPHRASE);
    fs::remove_file(&file).unwrap();
    let agent = Agent::run(&home);
    wait_for_token(&home, &file);
    let line = format!("{PASSPHRASE}\n");
    home.run_with(&["agent", "lock", "--passphrase-stdin"], &line).exits(0);
    wait_until("removed", || (!file.exists()).then_some(()));
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &line).exits(0);
    wait_for_token(&home, &file);
    // Another process refreshes, and the setting is edited by hand.
    home.run_without_agent(&["refresh", "work"]).exits(0);
    wait_for_token(&home, &file);
    let (other, text) = (home.path().join("other"), fs::read_to_string(home.config_file()).unwrap());
    home.configure(&text.replace(file.to_str().unwrap(), other.to_str().unwrap()));
    wait_for_token(&home, &other);
    wait_until("removed", || (!file.exists()).then_some(()));
    drop(agent);
    assert!(other.exists(), "it stays when the agent stops");
}

#[test]
fn agent_removes_the_token_that_it_cannot_replace_when_it_expires() {
    let idp = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(3);
    });
    let home = Sandbox::new();
    home.log_in("work", &idp);
    let file = home.path().join("token");
    home.run(&["helper", "file", "--write", file.to_str().unwrap(), "--profile", "work"]).exits(0);
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Unavailable, times: 0 });
    let agent = Agent::run(&home);
    wait_until("removed", || (!file.exists()).then_some(()));
    idp.clear_faults();
    // The next attempt is delayed after failures.
    wait_until("refreshed", || (agent.post("/v1/refresh/work", "").status == 200).then_some(()));
    assert!(file.exists());
}

#[test]
fn file_of_another_setting_is_refused_however_it_is_written() {
    let (home, idp, file) = with_file();
    home.log_in("other", &idp);
    let dir = file.parent().unwrap();
    symlink(dir, home.path().join("link")).unwrap();
    symlink(&file, home.path().join("token-link")).unwrap();
    let token = home.token("work");
    let before = fs::read_to_string(home.config_file()).unwrap();
    let spellings = [
        file.clone(),
        dir.join("./token"),
        dir.join("../made/token"),
        home.path().join("link/token"),
        home.path().join("token-link"),
        PathBuf::from(format!("{}//token", dir.display())),
    ];
    for path in spellings.iter().map(|path| path.display()) {
        for setting in [format!("token_file={path}"), format!("id_token_file={path}")] {
            let refused = home.run(&["profile", "set", "other", &setting]).exits(2);
            refused.reports("and `token_file` of `work` are the same file").reports("authctl profile show work");
        }
        home.run(&["profile", "set", "work", &format!("id_token_file={path}")])
            .exits(2)
            .reports("cannot change `work`: `token_file` and `id_token_file` are the same file: ");
        home.run(&["helper", "file", "--write", "--profile", "other", &path.to_string()]).exits(2).reports("of `work`");
        home.run(&["helper", "file", "--write", "--id-token", "--profile", "work", &path.to_string()]).exits(2);
        assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
        // By hand: which of the two is meant is not known, so no token is written.
        home.configure(&format!("{before}token_file = \"{path}\"\n"));
        for name in ["work", "other"] {
            home.run(&["refresh", name]).exits(2).reports("are the same file: ");
        }
        home.run(&["status"]).exits(2).reports("profiles.other: ").reports("profiles.work: ");
        home.run(&["login", "other", "--device"]).exits(2).reports("are the same file");
        assert_eq!(content(&file), Some(token.clone()));
        home.run(&["profile", "set", "other", "token_file="]).exits(0);
        home.run(&["status"]).exits(0);
        home.configure(&before);
    }
    // Two that exchange their files in one edit, while the agent runs.
    let other = home.path().join("other");
    home.run(&["profile", "set", "other", &format!("token_file={}", other.display())]).exits(0);
    let text = fs::read_to_string(home.config_file()).unwrap();
    let _agent = Agent::run(&home);
    let (one, two) = (format!("{:?}", file.display().to_string()), format!("{:?}", other.display().to_string()));
    home.configure(&text.replace(&one, "ONE").replace(&two, &one).replace("ONE", &two));
    wait_for_token(&home, &other);
    wait_until("the other token", || (content(&file) == Some(home.token("other"))).then_some(()));
}

#[test]
fn mode_that_the_file_system_cannot_change_makes_no_file_outdated() {
    let (home, _idp, file) = with_file();
    let set_mode = || fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    set_mode();
    let inode = fs::metadata(&file).unwrap().ino();
    // As on vfat, where a change of the mode has no effect.
    let injected = ["-e", "trace=chmod,fchmod,fchmodat", "-e", "inject=chmod,fchmod,fchmodat:retval=0"];
    let status = home.run_traced(&injected, &["status", "work", "--json"], "").0.exits(0).json();
    assert_eq!(status["profiles"][0]["token_files"][0]["current"], true, "{status}");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    let write = ["profile", "set", "work", &format!("id_token_file={}.id", file.display())];
    home.run_traced(&injected, &write, "").0.exits(0);
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode, "it is not written again");
    // Elsewhere, the mode is corrected.
    let _agent = Agent::run(&home);
    wait_until("the mode", || (fs::metadata(&file).unwrap().mode() & 0o777 == 0o600).then_some(()));
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
}

#[test]
fn locking_removes_every_file_at_once_however_slow_a_profile_is() {
    let (home, idp, file) = with_file();
    home.register_secret(PASSPHRASE);
    let (other, others) = (home.path().join("other"), issuer(|_| {}));
    home.log_in("other", &others);
    home.run(&["profile", "set", "other", &format!("token_file={}", other.display())]).exits(0);
    let agent = Agent::run(&home);
    for name in ["work", "other"] {
        agent.get(&format!("/v1/token/{name}")).token();
    }
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Hold, times: 0 });
    let _slow = agent.start_request("POST", "/v1/refresh/work");
    wait_until("the request", || (idp.stats().faults == 1).then_some(()));
    // Its update waits for the refresh.
    fs::remove_file(&file).unwrap();
    let text = fs::read_to_string(home.config_file()).unwrap();
    home.configure(&format!("{text}# changed\n"));
    home.run(&["profile", "set", "work", "audience=https://a.example"]).exits(0);
    fs::write(&file, home.session("work").tokens.access_token.expose()).unwrap();
    let started = std::time::Instant::now();
    home.run_with(&["agent", "lock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    wait_until("removed", || (!file.exists() && !other.exists()).then_some(()));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(idp.stats().refreshes_committed, 0, "the refresh is still in progress");
}

#[test]
fn empty_path_is_refused() {
    let (home, _idp) = logged_in("");
    for (tool, mode) in [("file", "--write"), ("file", "--setup"), ("azure", "--write"), ("google", "--setup")] {
        home.run(&["helper", tool, "", mode]).exits(2).reports("error: the path of the file is empty\n");
    }
}
