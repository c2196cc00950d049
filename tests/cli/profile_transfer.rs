//! `profile export` and `import`.

use std::fs;
use std::process::Command;

use crate::support::{Sandbox, quick_issuer};

const TWO: &str = "default_profile = \"a\"
[profiles.a]
issuer = \"https://a.example\"
client_id = \"cli\"
scopes = [\"openid\", \"offline_access\"]
store = \"file\"
redirect_uri = \"http://localhost:18252/callback\"
authorization_parameters = [\"prompt=consent\"]
required_claims = [\"tenant=a b\"]
max_offline = \"7d\"
[profiles.b]
issuer = \"https://b.example/\"
client_id = \"it's\"
client_auth = \"private_key_jwt\"
client_key = \"/keys/b\\nissuer = 'x'.pem\"
grant = \"client-credentials\"
store = \"keychain\"
[profiles.c]
issuer = \"https://c.example/\"
client_id = \"c\"
client_auth = \"client_secret_basic\"
";

fn profiles(home: &Sandbox) -> serde_json::Value {
    let mut list = home.run(&["profile", "list", "--json"]).exits(0).json();
    for profile in list.as_array_mut().unwrap() {
        profile["default"] = false.into();
        profile.as_object_mut().unwrap().retain(|key, _| key != "sources" && key != "locked");
    }
    list
}

#[test]
fn exported_profiles_are_imported_as_they_were() {
    let (mut from, to) = (Sandbox::new(), Sandbox::new());
    from.configure(TWO);
    // Settings of a machine-wide file are part of the profile.
    let machine = from.path().join("machine/authctl");
    fs::create_dir_all(&machine).unwrap();
    fs::write(machine.join("config.toml"), "[profiles.a]\naudience = \"x\"\nlocked = [\"audience\"]\n").unwrap();
    from.set("XDG_CONFIG_DIRS", machine.parent().unwrap());
    let text = from.run(&["profile", "export"]).exits(0).stdout;
    let imported = to.run_with(&["profile", "import", "-"], &text).exits(0);
    for name in ["a", "b", "c"] {
        assert!(
            imported.stderr.contains(&format!("imported {name}; next: authctl login {name}\n")),
            "{}",
            imported.stderr
        );
    }
    assert_eq!(profiles(&to), profiles(&from));
    assert_eq!(profiles(&to)[0]["audience"], "x");
    assert!(text.contains("# b: the file that `client_key` names is not included.\n"), "{text}");
    assert!(text.contains("# c: the client secret is not included; the login asks for it.\n"), "{text}");
    assert!(!text.contains("locked") && !text.contains("default_profile"), "{text}");
    assert_eq!(to.run(&["profile", "export"]).exits(0).stdout, text);
    let one = from.run(&["profile", "export", "b", "--profile", "c"]).exits(0).stdout;
    assert!(one.contains("[profiles.b]") && one.contains("[profiles.c]") && !one.contains("[profiles.a]"), "{one}");
    from.run(&["profile", "export", "d"]).exits(2).reports("unknown profile `d`");
    let exported = from.run(&["profile", "export"]).exits(0).stdout;
    assert_eq!(from.run(&["profile", "export", "--json"]).exits(0).json()["text"], exported.trim_end());
    Sandbox::new().run(&["profile", "export"]).exits(3).reports("no profile configured");
}

#[test]
fn export_has_no_secret_of_the_session() {
    let home = Sandbox::new();
    home.log_in("work", &quick_issuer());
    let session = home.session("work");
    assert!(session.tokens.refresh_token.is_some());
    let text = home.run(&["profile", "export", "work"]).exits(0).stdout;
    assert!(text.contains("[profiles.work]") && text.contains("client_id = \"authctl\""), "{text}");
    // Nor the secret of a client, which is in the session too.
    let issuer = quick_issuer();
    let secret = issuer.client_secret("authctl-service").expect("drawn").expose().to_owned();
    let login = ["login", "ci", "--issuer", issuer.issuer(), "--client-id", "authctl-service", "--client-credentials"];
    home.run_with(&[&login[..], &["--client-secret-stdin"]].concat(), &secret).exits(0);
    assert!(home.session("ci").client_secret.is_some());
    let all = home.run(&["profile", "export"]).exits(0).stdout;
    assert!(all.contains("[profiles.ci]") && !all.contains(&secret), "{all}");
}

#[test]
fn import_replaces_a_profile_only_on_request() {
    let home = Sandbox::new();
    let issuer = quick_issuer();
    home.log_in("work", &issuer);
    let before = fs::read_to_string(home.config_file()).unwrap();
    let file = home.path().join("it's.toml");
    let text = home.run(&["profile", "export", "work"]).exits(0).stdout;
    fs::write(&file, format!("{text}audience = \"https://api.example\"\n[profiles.new]\nissuer = \"https://n.example\"\nclient_id = \"n\"\n")).unwrap();
    let file = file.to_str().unwrap();
    let refused = home.run(&["profile", "import", file]).exits(2).reports("profile `work` already exists");
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
    let hint = refused.stderr.lines().find_map(|line| line.trim().strip_prefix("hint:")).unwrap().trim().to_owned();
    assert!(hint.starts_with("authctl profile import ") && hint.ends_with(" --replace"), "{hint}");
    let command = home.command(&[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &hint.replacen("authctl", "\"$0\"", 1)]).arg(command.get_program()).current_dir(home.path());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(shell.status().unwrap().success(), "{hint}");
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!((&shown["audience"], &shown["default"]), (&"https://api.example".into(), &true.into()));
    home.run(&["profile", "show", "new"]).exits(0);
    home.run(&["status", "work", "--check"]).exits(0);
    // The session would be left behind in the old store.
    let moved = text.replace("store = \"file\"", "store = \"keychain\"");
    home.run_with(&["profile", "import", "-", "--replace"], &moved).exits(2).reports("only a login can change it");
    // `--profile` selects one.
    let others = "[profiles.x]\nissuer = \"https://x.example\"\nclient_id = \"x\"\n[profiles.y]\nissuer = \"https://y.example\"\nclient_id = \"y\"\n";
    home.run_with(&["profile", "import", "-", "--profile", "z"], others).exits(2).reports("it has no profile `z`");
    let only = home.run_with(&["profile", "import", "-", "--profile", "y", "--json"], others).exits(0).json();
    assert_eq!((only.as_array().unwrap().len(), &only[0]["profile"]), (1, &"y".into()));
    home.run(&["profile", "show", "x"]).exits(2);
}

#[test]
fn hostile_file_is_refused_and_nothing_changed() {
    let home = Sandbox::new();
    home.configure(TWO);
    let good = "[profiles.good]\nissuer = \"https://g.example\"\nclient_id = \"g\"\n";
    let long = format!("{good}#{}", "x".repeat(1 << 20));
    for (text, reason) in [
        (format!("{good}token_endpoint = \"http://g.example/token\"\n"), "insecure URL"),
        (format!("{good}[profiles.evil]\nissuer = \"http://e.example\"\nclient_id = \"e\"\n"), "insecure URL"),
        (format!("{good}frobnicate = \"x\"\n"), "unknown setting `frobnicate`"),
        (format!("{good}client_secret = \"hunter2\"\n"), "unknown setting `client_secret`"),
        (format!("{good}locked = [\"issuer\"]\n"), "only in a machine-wide configuration"),
        (format!("{good}token_file = \"/tmp/x/.profile\"\n"), "would run a command or write a file"),
        (
            format!("{good}grant = \"workload\"\nworkload = \"github\"\nclient_assertion_audience = \"sts.example\"\n"),
            "another service",
        ),
        (
            format!(
                "{good}grant = \"workload\"\nworkload = \"gitlab\"\ntoken_endpoint = \"https://e.example/token\"\n"
            ),
            "not from the issuer's metadata",
        ),
        (format!("{good}authorization_parameters = [\"redirect_uri=https://e.example\"]\n"), "is set by authctl"),
        (format!("future = 1\n{good}"), "expected only profiles, not `future`"),
        (format!("default_profile = \"good\"\n{good}"), "expected only profiles, not `default_profile`"),
        (
            format!("{good}[profiles.\"../../evil\"]\nissuer = \"https://e.example\"\nclient_id = \"e\"\n"),
            "invalid profile name",
        ),
        (format!("{good}[profiles.\"\\u001b[2Je\"]\nissuer = \"https://e.example\"\n"), "invalid profile name"),
        (format!("{good}[profiles.half]\nissuer = \"https://h.example\"\n"), "missing setting `client_id`"),
        (
            format!("{good}[profiles.a]\nissuer = \"https://a.example\"\nclient_id = \"x\"\nstore = \"file\"\n"),
            "profile `a` already exists",
        ),
        (long, "larger than 1024 KiB"),
        (String::new(), "it has no profile"),
        ("[profiles".to_owned(), "line 1"),
    ] {
        let file = home.path().join("hostile.toml");
        fs::write(&file, &text).unwrap();
        for (args, stdin) in [(["profile", "import", file.to_str().unwrap()], ""), (["profile", "import", "-"], &*text)]
        {
            let refused = home.run_with(&args, stdin).exits(2).reports(reason);
            assert!(!refused.stderr.contains('\u{1b}') && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
            assert_eq!(fs::read_to_string(home.config_file()).unwrap(), TWO, "{reason}");
        }
    }
    let pipe = home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::write(home.path().join("binary"), b"\xff\xfe").unwrap();
    for (file, reason) in
        [("pipe", "not a regular file"), (".", "not a regular file"), ("binary", "not text"), ("none", "No such file")]
    {
        home.run(&["profile", "import", file]).exits(2).reports(&format!("cannot import {file}: ")).reports(reason);
    }
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), TWO);
}

/// A rename that was killed leaves the session under its old name too: two profiles must not send one refresh token.
#[test]
fn import_takes_no_session_that_another_profile_has() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let exported = home.run(&["profile", "export", "work"]).exits(0).stdout;
    let left_behind = fs::read(home.session_file("work")).unwrap();
    home.run(&["profile", "rename", "work", "home"]).exits(0);
    fs::write(home.session_file("work"), &left_behind).unwrap();
    home.run_with(&["profile", "import", "-"], &exported).exits(0);
    home.run(&["status", "work", "--check"]).exits(3);
    home.run(&["refresh", "home"]).exits(0);
    assert_eq!(issuer.stats().families_revoked, 0);
    // A session that no other profile has is still the profile's, for example after a lost configuration.
    home.log_in("other", &issuer);
    let [config, rest] = ["home", "other"].map(|name| home.run(&["profile", "export", name]).exits(0).stdout);
    fs::write(home.config_file(), rest).unwrap();
    home.run_with(&["profile", "import", "-"], &config).exits(0);
    home.run(&["token", "home"]).exits(0);
}

#[test]
fn import_that_a_lock_refuses_does_not_suggest_to_replace() {
    let mut home = Sandbox::new();
    home.configure(TWO);
    let text =
        home.run(&["profile", "export"]).exits(0).stdout.replace("[profiles.b]", "[profiles.b]\naudience = \"y\"");
    let machine = home.path().join("machine/authctl");
    fs::create_dir_all(&machine).unwrap();
    // Of the second profile: the first one exists too.
    fs::write(machine.join("config.toml"), "[profiles.b]\naudience = \"x\"\nlocked = [\"audience\"]\n").unwrap();
    home.set("XDG_CONFIG_DIRS", machine.parent().unwrap());
    for more in [&[][..], &["--replace"]] {
        let refused = home.run_with(&[&["profile", "import", "-"][..], more].concat(), &text).exits(2);
        refused.reports("cannot set `audience`");
    }
}
