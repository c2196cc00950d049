//! Machine-wide configuration files: what is inherited, locked, written and reported.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

const CORP: &str = "default_profile = \"corp\"
[profiles.corp]
issuer = \"https://corp.example\"
client_id = \"corp-cli\"
scopes = [\"openid\", \"deploy\"]
audience = \"https://api.example\"
token_endpoint = \"https://corp.example/token\"
store = \"file\"
required_roles = [\"admin\"]
locked = [\"issuer\", \"store\", \"required_roles\", \"required_acr\"]
";

/// Returns a home with two machine-wide files, the first above the second.
fn home() -> (Sandbox, PathBuf, PathBuf) {
    let mut home = Sandbox::new();
    let [first, second] = ["first", "second"].map(|dir| home.path().join(dir).join("authctl/config.toml"));
    for file in [&first, &second] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    let dirs = ["first", "relative", "second"].map(|dir| match dir {
        "relative" => dir.to_owned(),
        dir => home.path().join(dir).display().to_string(),
    });
    home.set("XDG_CONFIG_DIRS", dirs.join(":"));
    (home, first, second)
}

fn show(home: &Sandbox, name: &str) -> serde_json::Value {
    home.run(&["profile", "show", name, "--json"]).exits(0).json()
}

fn written(home: &Sandbox) -> String {
    fs::read_to_string(home.config_file()).unwrap_or_default()
}

#[test]
fn user_values_are_above_machine_wide_ones_in_their_order() {
    let (home, first, second) = home();
    fs::write(&second, CORP.replace("locked", "#")).unwrap();
    assert_eq!(home.run(&["profile", "show", "--json"]).exits(0).json()["profile"], "corp");
    fs::write(&first, "[profiles.corp]\naudience = \"first\"\nclient_id = \"first\"\n").unwrap();
    home.configure(
        "[profiles.corp]\nclient_id = \"mine\"\n[profiles.own]\nissuer = \"https://own.example\"\nclient_id = \"x\"\n",
    );
    let shown = show(&home, "corp");
    let members = ["client_id", "audience", "scopes", "default"].map(|key| shown[key].clone());
    assert_eq!(members, [json!("mine"), json!("first"), json!(["openid", "deploy"]), json!(true)]);
    assert_eq!(shown["sources"]["audience"], json!(first));
    assert_eq!(shown["sources"]["scopes"], json!(second));
    assert_eq!((shown["sources"].get("client_id"), &shown["locked"]), (None, &json!([])));
    assert!(show(&home, "own").get("sources").is_none());
    let list = home.run(&["profile", "list"]).exits(0).stdout;
    assert_eq!(list, format!("* corp  https://corp.example  ({})\n  own   https://own.example\n", first.display()));
    let text = home.run(&["profile", "show", "corp"]).exits(0).stdout;
    assert!(text.contains(&format!("https://corp.example  ({})\n", second.display())), "{text}");
    let long = home.run(&["status", "corp"]).exits(0).stdout;
    let shown = first.display().to_string().replace(home.path().to_str().unwrap(), "~");
    assert!(long.contains(&format!("set in     {shown}")), "{long}");
    let doctor = home.run(&["doctor", "own"]).stdout;
    assert!(
        doctor.contains(&format!("{}: sets 1 of them", second.display()).replace(home.path().to_str().unwrap(), "~")),
        "{doctor}"
    );
    // The user's default is above the machine's.
    home.run(&["profile", "use", "own"]).exits(0);
    assert_eq!(home.run(&["profile", "show", "--json"]).exits(0).json()["profile"], "own");
}

#[test]
fn profile_without_scopes_gets_the_default_ones_at_its_first_login() {
    let issuer = quick_issuer();
    let login = ["login", "corp", "--password", "--username", USER, "--password-stdin"];
    let corp =
        format!("[profiles.corp]\nissuer = \"{}\"\nclient_id = \"authctl\"\nstore = \"file\"\n", issuer.issuer());
    for (machine, scopes) in [
        (corp.clone(), json!(["openid", "profile", "offline_access"])),
        (format!("{corp}locked = [\"scopes\"]\n"), json!([])),
        (format!("{corp}scopes = [\"openid\"]\n"), json!(["openid"])),
    ] {
        let (home, _, second) = home();
        fs::write(&second, machine).unwrap();
        home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
        assert_eq!(show(&home, "corp")["scopes"], scopes);
        // Only the first login decides.
        home.run(&["profile", "set", "corp", "audience=https://api.example"]).exits(0);
        if scopes.as_array().unwrap().len() > 1 {
            home.run(&["profile", "set", "corp", "scopes="]).exits(0);
            home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
            assert_eq!(show(&home, "corp")["scopes"], json!([]));
        }
    }
}

#[test]
fn issuer_at_another_origin_inherits_no_endpoint() {
    let (home, _, second) = home();
    fs::write(&second, CORP.replace("locked", "#")).unwrap();
    assert_eq!(show(&home, "corp")["token_endpoint"], "https://corp.example/token");
    home.configure("[profiles.corp]\nissuer = \"https://other.example\"\n");
    let shown = show(&home, "corp");
    assert_eq!((&shown["issuer"], shown.get("token_endpoint")), (&json!("https://other.example"), None));
    assert_eq!(shown["audience"], "https://api.example");
    home.configure("[profiles.corp]\nissuer = \"https://other.example\"\njwks_uri = \"https://other.example/jwks\"\n");
    assert_eq!(show(&home, "corp")["jwks_uri"], "https://other.example/jwks");
    // The same value as that of the issuer below is the user's own now.
    let endpoint = "https://corp.example/token";
    home.run(&["profile", "set", "corp", &format!("token_endpoint={endpoint}")]).exits(0);
    assert_eq!(show(&home, "corp")["token_endpoint"], endpoint);
}

#[test]
fn locked_settings_cannot_be_changed_anywhere() {
    let (home, first, second) = home();
    let lock = format!("{} locks it to", second.display());
    fs::write(&second, CORP).unwrap();
    let shown = home.run(&["profile", "show", "corp"]).exits(0).stdout;
    assert!(shown.contains(&format!("admin  (locked by {})", second.display())), "{shown}");
    assert!(shown.contains(&format!("required_acr      (locked by {})", second.display())), "{shown}");
    assert_eq!(show(&home, "corp")["locked"], json!(["issuer", "store", "required_roles", "required_acr"]));
    for setting in ["issuer=https://evil.example", "required_roles=", "required_roles=user", "required_acr=1"] {
        home.run(&["profile", "set", "corp", "client_id=x", setting]).exits(2).reports(&lock);
        assert_eq!(written(&home), "", "{setting}");
    }
    home.run(&["login", "corp", "--store", "keychain", "--device"]).exits(2).reports("`store`").reports(&lock);
    home.run(&["login", "corp", "--issuer", "https://evil.example", "--device"])
        .exits(2)
        .reports("`issuer`")
        .reports(&lock);
    let import = "[profiles.corp]\nissuer = \"https://corp.example\"\nclient_id = \"x\"\nstore = \"file\"\n";
    home.run_with(&["profile", "import", "-", "--replace"], import).exits(2).reports("`required_roles`").reports(&lock);
    assert_eq!(written(&home), "");
    let other = "[profiles.own]\nissuer = \"https://own.example\"\nclient_id = \"x\"\nstore = \"file\"\n";
    for line in ["store = \"keychain\"", "required_roles = []", "issuer = \"https://corp.example/\"", "locked = []"] {
        home.configure(&format!("{other}[profiles.corp]\n{line}\n"));
        let refused = home.run(&["token", "corp"]).exits(2).reports("profiles.corp: ");
        let is_named =
            refused.stderr.contains(&lock) || refused.stderr.contains("only in a machine-wide configuration");
        assert!(is_named, "{line}: {}", refused.stderr);
        home.run(&["status"]).exits(2).reports("profiles.corp: ");
        assert_eq!(show(&home, "own")["client_id"], "x", "the other profile can be used");
    }
    // The same value is no change. A machine-wide file is bound by the locks of those below it.
    home.configure("[profiles.corp]\nstore = \"file\"\nrequired_acr = []\n");
    home.run(&["profile", "set", "corp", "audience=other"]).exits(0);
    fs::write(&first, "[profiles.corp]\nstore = \"keychain\"\n").unwrap();
    home.run(&["token", "corp"]).exits(2).reports(&lock).reports(first.to_str().unwrap());
    fs::write(&second, CORP.replace("required_acr", "required_arc")).unwrap();
    home.run(&["token", "corp"])
        .exits(2)
        .reports("locked: unknown setting `required_arc`; did you mean `required_acr`?");
}

#[test]
fn only_what_differs_is_written_to_the_users_file() {
    let (home, _, second) = home();
    fs::write(&second, CORP.replace("locked", "#")).unwrap();
    home.run(&["profile", "set", "corp", "client_id=mine", "scopes=", "audience=", "grant=device"]).exits(0);
    let expected = "[profiles.corp]\nclient_id = \"mine\"\ngrant = \"device\"\nscopes = []\naudience = \"\"\n";
    assert_eq!(written(&home), expected);
    let shown = show(&home, "corp");
    assert_eq!((&shown["scopes"], &shown["audience"]), (&json!([]), &json!(null)));
    assert_eq!(shown["required_roles"], json!(["admin"]));
    home.run(&["profile", "set", "corp", "client_id=corp-cli", "scopes=openid deploy", "grant=browser"]).exits(0);
    assert_eq!(written(&home), "[profiles.corp]\naudience = \"\"\n");
    home.run(&["profile", "set", "corp", "audience=https://api.example"]).exits(0);
    assert_eq!(written(&home).trim(), "");
    assert_eq!(fs::read_to_string(&second).unwrap(), CORP.replace("locked", "#"));
}

#[test]
fn machine_wide_profile_is_logged_in_to_without_being_copied() {
    let (home, _, second) = home();
    let issuer = quick_issuer();
    let text = format!(
        "[profiles.corp]\nissuer = \"{}\"\nclient_id = \"authctl\"\nscopes = [\"openid\", \"offline_access\"]\n\
         store = \"file\"\ngrant = \"password\"\nlocked = [\"grant\"]\n",
        issuer.issuer()
    );
    fs::write(&second, &text).unwrap();
    let login = ["login", "corp", "--username", USER, "--password-stdin"];
    home.run_with(&login, PASSWORD).exits(0);
    assert_eq!(written(&home), "");
    let token = home.token("corp");
    home.run(&["verify", "corp"]).exits(0);
    let requests = issuer.stats().token_requests;
    home.run(&["login", "corp", "--device"]).exits(2).reports("`grant`").reports("locks it to `password`");
    assert_eq!(issuer.stats().token_requests, requests);
    home.run(&["profile", "remove", "corp"]).exits(2).reports("configures it for the whole machine");
    home.run(&["profile", "rename", "corp", "mine"]).exits(2).reports("configures it for the whole machine");
    home.configure("[profiles.own]\nissuer = \"https://own.example\"\nclient_id = \"x\"\n");
    home.run(&["profile", "rename", "own", "corp"]).exits(2).reports("profile `corp` already exists");
    assert_eq!(home.token("corp"), token);
    // What the user changed can be removed.
    home.run(&["logout", "corp"]).exits(0);
    home.run(&["profile", "set", "corp", "audience=x"]).exits(0);
    home.run(&["profile", "remove", "corp"]).exits(0).reports(second.to_str().unwrap());
    assert_eq!(show(&home, "corp")["audience"], json!(null));
}

/// What is reported of a file, and what makes it so.
type Breakage<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn machine_wide_file_that_cannot_be_read_may_lock_every_profile() {
    let (home, first, _) = home();
    let issuer = quick_issuer();
    home.log_in("own", &issuer);
    let locks = "[profiles.own]\nrequired_roles = [\"admin\"]\nlocked = [\"required_roles\"]\n";
    let breakages: [Breakage<'_>; 5] = [
        ("other users can write", &|file| {
            fs::write(file, locks).unwrap();
            fs::set_permissions(file, PermissionsExt::from_mode(0o666)).unwrap();
        }),
        ("not a regular file", &|file| {
            assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        ("larger than", &|file| fs::write(file, format!("{locks}{}", "#".repeat(1 << 21))).unwrap()),
        ("not UTF-8", &|file| fs::write(file, [locks.as_bytes(), b"# \xff"].concat()).unwrap()),
        ("directory", &|file| fs::create_dir(file).unwrap()),
    ];
    for (reason, breaks) in breakages {
        let _ = fs::remove_file(&first);
        breaks(&first);
        for args in [
            &["token", "own"][..],
            &["token"],
            &["verify", "own"],
            &["exec", "own", "true"],
            &["refresh", "own"],
            &["login", "own", "--device"],
            &["login", "new", "--issuer", issuer.issuer(), "--client-id", "x", "--device"],
            &["profile", "set", "own", "required_roles="],
        ] {
            home.run(args).exits(2).reports(first.to_str().unwrap());
        }
        let status = home.run(&["status"]).exits(2).reports(first.to_str().unwrap());
        assert!(status.stdout.contains("own"), "{reason}: {}", status.stdout);
    }
    fs::remove_dir(&first).unwrap();
    home.run(&["token", "own"]).exits(0);
    fs::write(&first, locks).unwrap();
    home.run(&["verify", "own"]).exits(4);
}

#[test]
fn broken_machine_wide_file_costs_no_other_profile() {
    let (home, first, second) = home();
    let issuer = quick_issuer();
    home.log_in("own", &issuer);
    fs::write(&second, CORP).unwrap();
    let breakages: [Breakage<'_>; 3] = [
        ("line 1, column 8", &|file| fs::write(file, "[broken").unwrap()),
        ("did you mean `profiles`", &|file| fs::write(file, "[profile.x]\n").unwrap()),
        ("is a setting of a profile", &|file| fs::write(file, "required_roles = [\"x\"]\n").unwrap()),
    ];
    for (reason, breaks) in breakages {
        let _ = fs::remove_file(&first);
        breaks(&first);
        let (place, file) = (reason, first.to_str().unwrap());
        let used = home.run(&["token", "own"]).exits(0).reports("warning: ").reports(file);
        home.register_secret(used.line());
        home.run(&["verify", "own"]).exits(0).reports(place);
        home.run(&["profile", "set", "own", "grant=device"]).exits(0);
        let status = home.run(&["status"]).exits(2).reports(file).reports(place);
        assert!(status.stdout.contains("own") && status.stdout.contains("corp"), "{}", status.stdout);
        // It may have the profile, or name the default.
        home.run(&["token", "missing"]).exits(2).reports(file).reports(place);
        let doctor = home.run(&["doctor", "own"]);
        assert!(doctor.stdout.contains("error") && doctor.stdout.contains(place), "{}", doctor.stdout);
    }
    // It may restrict the profiles that it names.
    fs::remove_file(&first).unwrap();
    fs::write(&first, "[profiles.own]\nrequired_roles = [\"admin\"\n").unwrap();
    for args in [
        &["token", "own"][..],
        &["verify", "own"],
        &["exec", "own", "true"],
        &["profile", "set", "own", "grant=browser"],
    ] {
        home.run(args).exits(2).reports(first.to_str().unwrap());
    }
    // An invalid profile costs only itself.
    fs::write(&first, "[profiles.bad]\nissuer = \"http://bad.example\"\nclient_id = \"x\"\n").unwrap();
    home.run(&["token", "own"]).exits(0);
    home.run(&["token", "bad"]).exits(2).reports(first.to_str().unwrap()).reports("insecure URL");
    home.run(&["status"]).exits(2).reports("profiles.bad");
    home.run(&["profile", "remove", "bad"]).exits(2).reports(first.to_str().unwrap());
}

#[test]
fn agent_notices_changes_of_machine_wide_files() {
    let (home, first, second) = home();
    let issuer = quick_issuer();
    home.log_in("own", &issuer);
    fs::remove_dir(first.parent().unwrap()).unwrap();
    let agent = Agent::run(&home);
    let valid = |token: &str| {
        let body = json!({"profile": "own", "token": token}).to_string();
        agent.post("/v1/verify", &body).expect_status(200)["valid"] == json!(true)
    };
    let token = home.token("own");
    assert!(valid(&token));
    let error = || agent.get("/v1/agent").expect_status(200).get("config_error").cloned();
    // The directory is made after the agent has started.
    fs::create_dir(first.parent().unwrap()).unwrap();
    let restriction = "[profiles.own]\nrequired_roles = [\"admin\"]\n";
    for file in [&first, &second] {
        fs::write(file, restriction).unwrap();
        wait_until("the restriction", || (!valid(&token)).then_some(()));
        // The last valid version stays in effect while the file is broken.
        fs::write(file, format!("{restriction}[")).unwrap();
        wait_until("the error", || error().filter(|text| text.to_string().contains(file.to_str().unwrap())));
        assert!(!valid(&token));
        fs::remove_file(file).unwrap();
        wait_until("its end", || valid(&token).then_some(()));
        assert_eq!(error(), None);
    }
}

#[test]
fn file_in_etc_is_below_all_others() {
    let (home, first, _) = home();
    let etc = home.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("config.toml"), CORP).unwrap();
    fs::write(&first, "[profiles.corp]\naudience = \"first\"\n").unwrap();
    // As root in a namespace of its own, over a copy of the names in /etc.
    let script = "mount -t tmpfs etc /etc && mkdir /etc/authctl && mount --bind etc /etc/authctl && exec \"$0\" \"$@\"";
    let shown = home.mounted(script, &["profile", "show", "--json"], "").exits(0).json();
    assert_eq!((&shown["profile"], &shown["audience"]), (&json!("corp"), &json!("first")));
    assert_eq!(shown["sources"]["client_id"], "/etc/authctl/config.toml");
    let locked = home.mounted(script, &["profile", "set", "corp", "store=keychain"], "").exits(2);
    locked.reports("/etc/authctl/config.toml locks it to `file`");
}
