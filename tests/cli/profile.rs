//! `profile`, and the configuration that it shows and changes.

use std::fs;

use authctl::store::ProfileLock;
use serde_json::json;

use crate::support::process::wait_until;
use crate::support::{AUTHCTL, Sandbox, quick_issuer};

const TWO: &str = "# comment: at the top
default_profile = \"a\" # comment: behind the default

[profiles.a] # comment: behind a
issuer = \"https://a.example\"
# comment: within a
client_id = \"cli\" # comment: behind a value
scopes = [ # comment: in a list
    \"openid\",
]
store = \"file\"

# comment: before b
[profiles.b]
issuer = \"https://b.example\"
client_id = \"cli\"
store = \"file\"
";

fn comments(text: &str) -> Vec<String> {
    let mut all: Vec<String> =
        text.lines().filter_map(|line| line.split_once("# comment")).map(|(_, rest)| rest.to_owned()).collect();
    all.sort();
    all
}

#[test]
fn list_and_show_print_the_configuration() {
    let home = Sandbox::new();
    assert_eq!(home.run(&["profile", "list"]).exits(0).stdout, "");
    assert_eq!(home.run(&["profile", "list", "--json"]).exits(0).stdout, "[]\n");
    home.configure(TWO);
    assert_eq!(home.run(&["profile", "list"]).exits(0).stdout, "* a  https://a.example\n  b  https://b.example\n");
    let b = json!({
        "profile": "b", "default": false, "issuer": "https://b.example", "client_id": "cli", "client_auth": "none",
        "grant": "browser", "scopes": [], "audience": null, "resources": [], "store": "file", "hosts": [],
        "token_file": null, "id_token_file": null, "ca_cert": null,
        "verify_token": "access_token", "optional_claims": [], "max_offline": null, "keys_max_age": 30 * 24 * 3600, "max_auth_age": null,
        "required_scopes": [], "required_roles": [], "required_claims": [], "required_acr": [], "required_amr": [],
    });
    assert_eq!(home.run(&["profile", "list", "--json"]).exits(0).json()[1], b);
    assert_eq!(home.run(&["profile", "show", "b", "--json"]).exits(0).json(), b);
    let shown = home.run(&["profile", "show"]).exits(0).stdout;
    assert!(shown.starts_with("profile         a\nissuer          https://a.example\n"), "{shown}");
    home.run(&["profile", "show", "c"]).exits(2).reports("unknown profile `c`");
    let error = home.run(&["profile", "show", "c", "--json"]).exits(2).error();
    assert_eq!(error["code"], "unknown_profile");
}

#[test]
fn list_is_aligned_only_where_the_terminal_is_wide_enough() {
    let home = Sandbox::new();
    let long = "a-name-of-thirty-characters-xx";
    home.configure(&TWO.replace("profiles.b", &format!("profiles.{long}")));
    let aligned = format!("* a{:31}https://a.example\n  {long}  https://b.example\n", "");
    let listed = home.run(&["profile", "list"]).exits(0).stdout;
    assert_eq!(listed, aligned);
    for (columns, expected) in
        [(80, aligned.as_str()), (40, &format!("* a  https://a.example\n  {long}  https://b.example\n"))]
    {
        let shown = home.spawn_program_in_terminal(AUTHCTL, &["profile", "list"], columns).wait().exits(0).stderr;
        assert_eq!(shown.replace("\r\n", "\n"), expected, "{columns} columns");
    }
}

#[test]
fn configuration_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let issuer = quick_issuer();
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    let (file, dir) = (home.config_file(), home.config_file().parent().unwrap().to_owned());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (path, open) in [(&file, 0o666), (&file, 0o602), (&dir, 0o777)] {
        let before = mode(path);
        fs::set_permissions(path, fs::Permissions::from_mode(open)).unwrap();
        for args in
            [&["token", "work"][..], &["status"], &["logout", "work"], &["profile", "use", "work"], &["agent", "run"]]
        {
            let refused = home.run(args).exits(2).reports("other users can write").reports(&format!("{open:04o}"));
            let hint = refused.stderr.lines().find_map(|line| line.trim().strip_prefix("hint:")).unwrap().trim();
            assert_eq!(hint, format!("chmod go-w {}", path.display()), "{args:?}");
        }
        let hint = format!("chmod go-w '{}'", path.display());
        assert!(std::process::Command::new("sh").args(["-c", &hint]).status().unwrap().success());
        home.token("work");
        fs::set_permissions(path, fs::Permissions::from_mode(before)).unwrap();
    }
    // Only root can give a file away.
    if std::os::unix::fs::chown(&file, Some(4711), None).is_ok() {
        home.run(&["token", "work"]).exits(2).reports("is owned by user ID 4711").reports("sudo chown");
    }
}

#[test]
fn file_that_others_can_replace_by_a_link_or_directory_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let issuer = quick_issuer();
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    let requests = issuer.stats().token_requests;
    let place = home.path().canonicalize().unwrap();
    let (shared, safe) = (place.join("shared"), place.join("safe"));
    fs::create_dir(&shared).unwrap();
    fs::create_dir(&safe).unwrap();
    let open = |dir: &std::path::Path| fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let close = |dir: &std::path::Path| fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let check = |dir: &std::path::Path, exit| {
        home.run(&["token", "work"]).exits(0);
        open(dir);
        let error = format!("other users can write to {} (mode 0777)", dir.display());
        home.run(&["refresh", "work"]).exits(exit).reports(&error).reports("chmod go-w");
        close(dir);
    };
    check(home.config_file().parent().unwrap().parent().unwrap(), 2);
    // The configuration and the key file are links to links in a directory that is not their target's.
    let key = home.config_file().with_file_name("authctl.key");
    for (file, exit) in [(home.config_file(), 2), (key, 7)] {
        let name = file.file_name().unwrap();
        fs::rename(&file, safe.join(name)).unwrap();
        symlink(safe.join(name), shared.join(name)).unwrap();
        symlink(shared.join(name), &file).unwrap();
        check(&shared, exit);
        fs::remove_file(&file).unwrap();
        fs::rename(safe.join(name), &file).unwrap();
    }
    assert_eq!(issuer.stats().token_requests, requests, "no refresh token was sent");
}

#[test]
fn configuration_on_stdin_that_is_a_pipe_is_no_regular_file() {
    let mut home = Sandbox::new();
    home.set("AUTHCTL_CONFIG", "/dev/stdin");
    home.run(&["status"]).exits(2).reports("not a regular file");
}

#[test]
fn configuration_that_is_a_pipe_blocks_no_command() {
    let home = Sandbox::new();
    home.configure("");
    fs::remove_file(home.config_file()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(home.config_file()).status().unwrap().success());
    for args in [&["token"][..], &["status"], &["agent", "run"], &["profile", "list"]] {
        home.run(args).exits(2).reports("not a regular file");
    }
}

#[test]
fn profile_of_a_newer_version_blocks_no_other() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    let newer = "\n[profiles.newer]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nfuture = \"x\"\n";
    home.configure(&(fs::read_to_string(home.config_file()).unwrap() + newer));
    let unknown = "profiles.newer: unknown setting `future`";
    home.token("work");
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    assert!(home.run(&["status"]).exits(2).reports(unknown).stdout.contains("* work     signed in"));
    assert!(home.run(&["profile", "list"]).exits(2).reports(unknown).stdout.contains("* work"));
    home.run(&["profile", "set", "work", "audience=api"]).exits(0);
    for args in [&["token", "newer"][..], &["profile", "show", "newer"], &["profile", "use", "newer"]] {
        home.run(args).exits(2).reports(unknown);
    }
    home.run(&["login", "newer", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device"])
        .exits(2)
        .reports(unknown);
    home.run(&["logout", "--all"]).exits(2).reports(unknown);
    home.run(&["status", "work", "--check"]).exits(3);
}

#[test]
fn unknown_key_of_a_newer_version_is_ignored_with_a_warning() {
    let home = Sandbox::new();
    let issuer = quick_issuer();
    home.log_in("work", &issuer);
    let newer = "future = [\"x\"] # by a newer version\n[agent]\nnotify = true\n";
    let profiles = fs::read_to_string(home.config_file()).unwrap();
    let (own, tables) = profiles.split_once('[').unwrap();
    home.configure(&format!("{own}{newer}\n[{tables}"));
    for args in [&["token"][..], &["verify"], &["status"], &["profile", "list"], &["refresh", "--all"]] {
        let ran = home.run(args).exits(0).reports("warning: unknown setting `agent` in ");
        assert_eq!(ran.stderr.matches("unknown setting `future` in ").count(), 1, "{args:?}: {}", ran.stderr);
    }
    assert_eq!(home.run(&["token", "--quiet"]).exits(0).stderr, "");
    home.run(&["profile", "set", "work", "audience=api"]).exits(0).reports("`future`");
    home.run(&["profile", "rename", "work", "home"]).exits(0);
    let text = fs::read_to_string(home.config_file()).unwrap();
    assert!(text.contains("future = [\"x\"] # by a newer version\n[agent]\nnotify = true\n"), "{text}");
    // A token requirement that is ignored would let tokens pass that it denies.
    for restriction in ["required_roles = [\"admin\"]", "[defaults]\nmax_offline = \"1h\""] {
        home.configure(&format!("{restriction}\n{profiles}"));
        let error = home.run(&["verify", "work"]).exits(2).reports("is a setting of a profile").stderr;
        let setting = if restriction.contains("max_offline") { "max_offline" } else { "required_roles" };
        assert_eq!(error.matches(setting).count(), 1, "{error}");
    }
}

#[test]
fn invalid_value_is_reported_with_its_setting() {
    let home = Sandbox::new();
    home.configure(TWO);
    for (setting, message) in [
        ("max_offline=soon", "cannot set `max_offline`: invalid duration `soon` (examples: 90s, 15m, 2h)\n"),
        ("required_claims=tenant", "cannot set `required_claims`: invalid pair `tenant` (expected NAME=VALUE)\n"),
        ("client_id=", "cannot set `client_id`: it cannot be removed\n"),
        ("grant=magic", "cannot set `grant`: unknown value `magic` (possible values: browser, device, "),
        ("token_endpont=x", "unknown setting `token_endpont`; did you mean `token_endpoint`?\n"),
        ("zzz=x", "unknown setting `zzz`\n"),
    ] {
        let ran = home.run(&["profile", "set", "a", setting]).exits(2).reports(message).reports("profile set --help");
        assert!(!ran.stderr.contains("config.toml"), "nothing is wrong with the file: {}", ran.stderr);
    }
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), TWO);
}

#[test]
fn set_changes_only_the_named_settings_and_keeps_comments() {
    let home = Sandbox::new();
    home.configure(TWO);
    let settings = ["audience=https://api.example", "client_id=other", "resources=https://r.example/", "grant=device"];
    home.run(&[&["profile", "set", "a"][..], &settings].concat()).exits(0);
    let shown = home.run(&["profile", "show", "a", "--json"]).exits(0).json();
    assert_eq!(shown["audience"], "https://api.example");
    assert_eq!((&shown["scopes"], &shown["client_id"]), (&json!(["openid"]), &json!("other")));
    assert_eq!((&shown["resources"], &shown["grant"]), (&json!(["https://r.example/"]), &json!("device")));
    assert_eq!(comments(&fs::read_to_string(home.config_file()).unwrap()), comments(TWO));
    home.run(&["profile", "set", "a", "scopes=openid  mail"]).exits(0);
    assert_eq!(home.run(&["profile", "show", "a", "--json"]).exits(0).json()["scopes"], json!(["openid", "mail"]));
    home.run(&["profile", "set", "a", "audience=", "scopes="]).exits(0);
    let shown = home.run(&["profile", "show", "a", "--json"]).exits(0).json();
    assert_eq!((&shown["audience"], &shown["scopes"]), (&json!(null), &json!([])));
}

#[test]
fn file_setting_is_stored_as_an_absolute_path() {
    let home = Sandbox::new();
    home.configure(TWO);
    let ca_cert = || home.run(&["profile", "show", "a", "--json"]).exits(0).json()["ca_cert"].clone();
    home.run(&["profile", "set", "a", "ca_cert=certs/ca.pem"]).exits(0);
    assert_eq!(ca_cert(), json!(home.path().join("certs/ca.pem")));
    home.run(&["profile", "set", "a", "ca_cert="]).exits(0);
    assert_eq!(ca_cert(), json!(null));
}

#[test]
fn file_that_cannot_be_read_is_reported_when_it_is_set() {
    let home = Sandbox::new();
    home.configure(TWO);
    let set = |setting: &str| home.run(&["profile", "set", "a", setting]).exits(0).stderr;
    for key in ["ca_cert", "client_key", "workload"] {
        let value = |path: &str| format!("{key}={}{path}", if key == "workload" { "file:" } else { "" });
        let missing = home.path().join("missing");
        let warning = format!("warning: cannot read {}: No such file or directory\n", missing.display());
        assert_eq!(set(&value(missing.to_str().unwrap())), format!("{warning}updated profile a\n"));
        assert_eq!(set("audience=x"), "updated profile a\n", "only for what is changed");
        assert_eq!(set(&value(home.config_file().to_str().unwrap())), "updated profile a\n");
        let directory = set(&value(home.path().to_str().unwrap()));
        assert!(directory.starts_with(&format!("warning: cannot read {}: ", home.path().display())), "{directory}");
        set(&format!("{key}="));
    }
}

#[test]
fn invalid_setting_changes_nothing() {
    let home = Sandbox::new();
    home.configure(TWO);
    for setting in [
        "issuer=http://a.example",
        "issuer=nonsense",
        "client_auth=magic",
        "grant=magic",
        "store=memory",
        "store=keychain",
        "colour=red",
        "client_secret=x",
        "audience",
    ] {
        let ran = home.run(&["profile", "set", "a", "scopes=openid", setting]).exits(2);
        assert!(!ran.stderr.is_empty());
        assert_eq!(fs::read_to_string(home.config_file()).unwrap(), TWO, "{setting}");
    }
    home.run(&["profile", "set", "c", "scopes=a"]).exits(2);
    home.run(&["profile", "set", "a"]).exits(2);
}

#[test]
fn use_names_the_default() {
    let home = Sandbox::new();
    home.configure(TWO);
    home.run(&["profile", "use", "b"]).exits(0);
    assert_eq!(home.run(&["profile", "show", "--json"]).exits(0).json()["profile"], "b");
    assert_eq!(comments(&fs::read_to_string(home.config_file()).unwrap()), comments(TWO));
    home.run(&["profile", "use", "c"]).exits(2);
    assert_eq!(home.run(&["profile", "show", "--json"]).exits(0).json()["profile"], "b");
}

#[test]
fn renamed_profile_keeps_its_session() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("old", &idp);
    let token = home.token("old");
    home.run(&["profile", "rename", "old", "new"]).exits(0);
    assert_eq!(home.token("new"), token);
    assert_eq!(home.token("new"), home.run(&["token"]).exits(0).line(), "it still is the default");
    assert!(!home.session_file("old").exists());
    home.run(&["token", "old"]).exits(2);
    home.expire("new");
    assert_ne!(home.token("new"), token);
    home.run(&["verify", "new"]).exits(0);
    home.run(&["logout", "new"]).exits(0);
    assert_eq!(idp.stats().families_revoked, 1);
}

#[test]
fn remove_needs_logout_and_rename_needs_a_free_name() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("a", &idp);
    home.log_in("b", &idp);
    let (a, b) = (home.token("a"), home.token("b"));
    home.run(&["profile", "rename", "a", "b"]).exits(2).reports("already");
    home.run(&["profile", "rename", "a", "a"]).exits(2);
    home.run(&["profile", "rename", "c", "d"]).exits(2);
    home.run(&["profile", "rename", "a", "../x"]).exits(2);
    home.run(&["profile", "remove", "a"]).exits(2).reports("authctl logout a");
    home.run(&["profile", "remove", "c"]).exits(2);
    assert_eq!((home.token("a"), home.token("b")), (a, b));
    home.run(&["logout", "a"]).exits(0);
    home.run(&["profile", "remove", "a"]).exits(0);
    home.run(&["profile", "show", "a"]).exits(2);
    // The removed profile was the default; the remaining one is now the only profile.
    assert_eq!(home.run(&["profile", "show", "--json"]).exits(0).json()["profile"], "b");
}

#[test]
fn removal_waits_for_a_login_that_moves_the_session() {
    let home = Sandbox::new();
    home.log_in("work", &quick_issuer());
    let now = fs::read_to_string(home.config_file()).unwrap();
    let before = now.replace("store = \"file\"", "store = \"keychain\"");
    assert_ne!(before, now);
    fs::write(home.config_file(), &before).unwrap();
    // A login that holds the configuration lock, and has stored a session in the other store.
    let beside = home.config_file().parent().unwrap().to_owned();
    let lock = ProfileLock::try_acquire(&beside, &"authctl-config".parse().unwrap()).unwrap();
    assert!(lock.is_some());
    let removal = home.spawn(&["profile", "remove", "work"]);
    wait_until("the wait for the lock", || removal.has_lock_file_open("authctl-config").then_some(()));
    fs::write(home.config_file(), &now).unwrap();
    drop(lock);
    removal.wait().exits(2).reports("authctl logout work");
    assert!(home.session_file("work").exists());
}

#[test]
fn unknown_key_is_an_error_that_names_the_nearest() {
    let home = Sandbox::new();
    for (text, table, key, nearest) in [
        ("defualt_profile = \"a\"\n", "", "defualt_profile", "default_profile"),
        ("[profiles.a]\nisuer = \"https://a.example\"\nclient_id = \"c\"\n", "profiles.a: ", "isuer", "issuer"),
        ("[profiles.a]\nissuer = \"https://a.example\"\nclientid = \"c\"\n", "profiles.a: ", "clientid", "client_id"),
    ] {
        home.configure(text);
        for args in [&["token"][..], &["status"], &["profile", "list"], &["logout", "--all"]] {
            home.run(args).exits(2).reports(&format!("{table}unknown setting `{key}`; did you mean `{nearest}`?"));
        }
        assert_eq!(home.run(&["status", "--json"]).exits(2).error()["code"], "configuration");
    }
    for text in ["=", "[profiles", "profiles = 1", "[profiles.a]\nissuer = 1", "[profiles.\"../a\"]\nissuer='x'"] {
        home.configure(text);
        home.run(&["status"]).exits(2);
    }
    fs::write(home.config_file(), b"\xff\xfe").unwrap();
    home.run(&["status"]).exits(2).reports("config.toml");
}

#[test]
fn another_configuration_may_be_named() {
    let mut home = Sandbox::new();
    home.configure(TWO);
    let (option, variable) = (home.path().join("option.toml"), home.path().join("variable.toml"));
    let named = |name: &str| TWO.replace("profiles.b", &format!("profiles.{name}"));
    fs::write(&option, named("by_option")).unwrap();
    fs::write(&variable, named("by_variable")).unwrap();
    home.set("AUTHCTL_CONFIG", &variable);
    assert!(home.run(&["profile", "list"]).exits(0).stdout.contains("by_variable"));
    let args = ["profile", "list", "--config", option.to_str().unwrap()];
    assert!(home.run(&args).exits(0).stdout.contains("by_option"), "the option goes before the variable");
    home.run(&["profile", "use", "by_option", "--config", option.to_str().unwrap()]).exits(0);
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), TWO);
    assert_eq!(fs::read_to_string(&variable).unwrap(), named("by_variable"));
    assert!(fs::read_to_string(&option).unwrap().contains("default_profile = \"by_option\""));
}

#[test]
fn symbolic_link_to_the_configuration_is_preserved() {
    let home = Sandbox::new();
    let real = home.path().join("dotfiles.toml");
    fs::write(&real, TWO).unwrap();
    fs::create_dir_all(home.config_file().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, home.config_file()).unwrap();
    home.run(&["profile", "use", "b"]).exits(0);
    assert!(fs::symlink_metadata(home.config_file()).unwrap().is_symlink(), "the link is still one");
    assert!(fs::read_to_string(&real).unwrap().contains("default_profile = \"b\""));
}

#[test]
fn invalid_profile_can_be_removed() {
    let home = Sandbox::new();
    home.configure(&format!(
        "{TWO}\n[profiles.bad]\nissuer = \"https://c.example\"\nclient_id = \"c\"\nscope = \"x\"\n"
    ));
    home.run(&["profile", "remove", "bad"]).exits(0).reports("the profile was invalid").reports("removed profile bad");
    assert_eq!(home.run(&["profile", "list"]).exits(0).stdout.lines().count(), 2);
}

#[test]
fn missing_configuration_that_was_named_is_reported() {
    let mut home = Sandbox::new();
    let ran = home.run(&["--config", "confg.toml", "profile", "list"]).exits(0);
    assert!(ran.stderr.starts_with("warning: the configuration confg.toml does not exist\n"), "{}", ran.stderr);
    home.set("AUTHCTL_CONFIG", "other.toml");
    home.run(&["token"]).reports("warning: the configuration other.toml does not exist");
    // Only a login and an import create it, whatever the words of another program are.
    home.run(&["exec", "work", "--", "login"]).reports("warning: the configuration other.toml does not exist");
    home.run(&["token", "login"]).reports("warning: the configuration other.toml does not exist");
    for args in [&["profile", "import", "none"][..], &["--color", "never", "login", "work", "--no-input"]] {
        let ran = home.run(args);
        assert!(
            !ran.stderr.contains("does not exist\nwarning") && !ran.stderr.contains("other.toml does"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn invalid_value_is_repaired_with_profile_set() {
    let home = Sandbox::new();
    let valid = "# a comment\n[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"cli\"\n";
    let other = "[profiles.broken]\nissuer = \"\"\n";
    for (line, setting, fixed) in [
        ("client_auth = \"nonsense\"", "client_auth=client_secret_post", "client_secret_post"),
        ("keys_max_age = \"soon\"", "keys_max_age=2h", "2h"),
        ("scopes = \"openid\"", "scopes=openid profile", "openid profile"),
        ("scopes = 7", "scopes=", ""),
        ("store = \"floppy\"", "store=file", "file"),
    ] {
        home.configure(&format!("{valid}{line}\n\n{other}"));
        home.run(&["profile", "show", "work"]).exits(2);
        home.run(&["profile", "set", "work", "audience=https://api.example"]).exits(2).reports("invalid configuration");
        home.run(&["profile", "set", "work", setting]).exits(0).reports("updated profile work");
        let shown = home.run(&["profile", "show", "work"]).exits(0).stdout;
        let key = setting.split('=').next().unwrap();
        let found =
            shown.lines().find(|line| line.starts_with(&format!("{key} "))).map(|line| line[key.len()..].trim());
        assert_eq!(found.unwrap_or_default(), fixed, "{shown}");
        let text = fs::read_to_string(home.config_file()).unwrap();
        assert!(text.starts_with("# a comment") && text.contains("[profiles.broken]"), "{text}");
    }
    // A wrong issuer and a missing client ID, together; a value that is invalid too changes nothing.
    home.configure("[profiles.work]\nissuer = \"a.example\"\n");
    let before = fs::read_to_string(home.config_file()).unwrap();
    for refused in [&["issuer=ftp://a.example", "client_id=cli"][..], &["issuer=https://a.example"]] {
        home.run(&[&["profile", "set", "work"], refused].concat()).exits(2);
        assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
    }
    home.run(&["profile", "set", "work", "issuer=https://a.example", "client_id=cli"]).exits(0);
    home.run(&["profile", "show", "work"]).exits(0);
}
