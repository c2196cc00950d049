//! The first `authctl login`, which asks for provider, issuer and client ID.

use std::fs;

use crate::support::process::RunningCommand;
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, PASSWORD, Sandbox, USER, quick_issuer};

/// What ends the input, and what interrupts the program.
const CTRL_D: &str = "\u{4}";
const CTRL_C: &str = "\u{3}";

/// A login that no browser is needed for.
const LOGIN: [&str; 4] = ["login", "--password", "--username", USER];

/// Types each answer when its prompt is shown. A prompt is the number of its kind.
#[track_caller]
fn answer(login: &mut RunningCommand, answers: &[(&str, &str)]) {
    let mut seen: Vec<&str> = Vec::new();
    for (prompt, text) in answers {
        seen.push(prompt);
        let count = seen.iter().filter(|one| *one == prompt).count();
        login.wait_until(prompt, |output| (output.matches(prompt).count() >= count).then_some(()));
        login.type_text(text);
    }
}

/// Returns the command that was printed for the answers.
fn printed_command(stderr: &str) -> String {
    let lines = stderr.lines().skip_while(|line| !line.contains("The same without questions"));
    lines.map(str::trim).find(|line| line.starts_with("authctl ")).expect("a command").to_owned()
}

#[test]
fn first_login_asks_and_prints_the_same_command() {
    let issuer = quick_issuer();
    let domain = issuer.issuer().trim_start_matches("http://");
    for (args, provider, name) in
        [(&LOGIN[..], "Provider: ", "default"), (&[&LOGIN[..], &["work"]].concat(), "Provider for work: ", "work")]
    {
        let home = Sandbox::new();
        let mut login = home.spawn_in_terminal(args);
        answer(
            &mut login,
            &[
                (provider, " 9 \r"),
                (&format!("Issuer for {name}: "), &format!("\u{a0} {domain}\u{a0}\r")),
                (&format!("Client ID for {name} at {}: ", issuer.issuer()), " authctl \r"),
                ("Password: ", &format!("{PASSWORD}\r")),
            ],
        );
        let ran = login.wait().exits(0);
        for what in ["http://127.0.0.1/callback", "device flow", &format!("Found {}", issuer.issuer())] {
            assert!(ran.stderr.contains(what), "{what}: {}", ran.stderr);
        }
        home.run(&["token", name]).exits(0);
        let command = printed_command(&ran.stderr);
        assert!(command.split(' ').any(|word| word == name), "{command}");
        // In a home of its own, where no answer is stored.
        let other = Sandbox::new();
        let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; {command}");
        let mut pasted = other.spawn_program_in_terminal("sh", &["-c", &script], 0);
        answer(&mut pasted, &[("Password: ", &format!("{PASSWORD}\r"))]);
        let pasted = pasted.wait().exits(0);
        assert!(!pasted.stderr.contains("Provider"), "{}", pasted.stderr);
        assert_eq!(fs::read(other.config_file()).unwrap(), fs::read(home.config_file()).unwrap());
    }
}

#[test]
fn first_login_asks_only_for_what_is_missing() {
    let issuer = quick_issuer();
    let client = format!("Client ID for work at {}: ", issuer.issuer());
    let at = ["--issuer", issuer.issuer()];
    for (more, asked) in [
        (&at[..], &[(client.as_str(), "authctl\r")][..]),
        (&["--provider", "keycloak"], &[("Issuer for work: ", issuer.issuer()), ("", "\r"), (&client, "authctl\r")]),
        (
            &["--client-id", "authctl"],
            &[("Provider for work: ", "keycloak\r"), ("Issuer for work: ", issuer.issuer()), ("", "\r")],
        ),
    ] {
        let home = Sandbox::new();
        let mut login = home.spawn_in_terminal(&[&LOGIN[..], &["work"], more].concat());
        answer(&mut login, asked);
        answer(&mut login, &[("Password: ", &format!("{PASSWORD}\r"))]);
        let ran = login.wait().exits(0);
        assert_eq!(ran.stderr.contains("Provider for"), more[0] == "--client-id", "{}", ran.stderr);
        home.run(&["token", "work"]).exits(0);
    }
}

#[test]
fn invalid_answers_are_asked_for_again_with_a_reason() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let empty = StubServer::start(|_, _| (404, "{}".into()));
    let mut login = home.spawn_in_terminal(&[&LOGIN[..], &["work"]].concat());
    let (provider, at) = ("Provider for work: ", "Issuer for work: ");
    let client = format!("Client ID for work at {}: ", issuer.issuer());
    answer(
        &mut login,
        &[
            (provider, "\r"),
            (provider, "10\r"),
            (provider, "generic\r"),
            (at, "not a domain\r"),
            (at, &format!("{}\r", empty.url.trim_start_matches("http://"))),
            (at, &format!("{}/\r", issuer.issuer())),
            (&client, "\r"),
            (&client, "caf\u{e9}\r"),
            (&client, "authctl\r"),
            ("Password: ", &format!("{PASSWORD}\r")),
        ],
    );
    let ran = login.wait().exits(0);
    for reason in [
        "type a number from 1 to 9",
        "`not a domain` is not a URL, a domain or an e-mail address",
        "HTTP 404",
        "the client ID is missing",
        "letters, digits and punctuation",
    ] {
        assert!(ran.stderr.contains(reason), "{reason}: {}", ran.stderr);
    }
    // The metadata spells the issuer without the slash.
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["issuer"], issuer.issuer());
}

#[test]
fn first_login_fails_after_three_invalid_answers() {
    for (answers, code, reason) in [
        (&[("Provider for work: ", "x\r"); 3][..], 2, "type a number"),
        (
            &[
                ("Provider for work: ", "9\r"),
                ("Issuer for work: ", "\r"),
                ("Issuer for work: ", "http://a.example\r"),
                ("Issuer for work: ", "x\r"),
            ],
            2,
            "not a URL",
        ),
        (
            &[
                ("Provider for work: ", "1\r"),
                ("Client ID for work", "\r"),
                ("Client ID for work", "\r"),
                ("Client ID for work", "\r"),
            ],
            2,
            "the client ID is missing",
        ),
    ] {
        let home = Sandbox::new();
        let mut login = home.spawn_in_terminal(&["login", "work"]);
        answer(&mut login, answers);
        login.wait().exits(code).reports(reason);
        assert!(!home.config_file().exists());
    }
}

#[test]
fn first_login_ends_with_the_input_or_ctrl_c() {
    let home = Sandbox::new();
    let without_terminal = home.run(&["login"]).exits(3).reports("hint:  authctl login --help");
    for (answers, code) in [
        (&[("Provider: ", CTRL_D)][..], 3),
        (&[("Provider: ", CTRL_C)], 130),
        (&[("Provider: ", "9\r"), ("Issuer for default: ", CTRL_D)], 3),
        (&[("Provider: ", "9\r"), ("Issuer for default: ", CTRL_C)], 130),
        (&[("Provider: ", "1\r"), ("Client ID for google", CTRL_D)], 2),
        (&[("Provider: ", "1\r"), ("Client ID for google", CTRL_C)], 130),
    ] {
        let mut login = home.spawn_in_terminal(&["login"]);
        answer(&mut login, answers);
        let ran = login.wait().exits(code);
        if code == 3 {
            for line in without_terminal.stderr.lines() {
                let (_, text) = line.split_once(": ").unwrap();
                assert!(ran.stderr.contains(text.trim_start()), "{text}: {}", ran.stderr);
            }
        }
        assert!(!home.config_file().exists());
    }
    home.spawn_in_terminal(&["login", "--no-input"]).wait().exits(3);
}

#[test]
fn answers_before_a_question_that_fails_are_in_its_hint() {
    let issuer = quick_issuer();
    let at = format!("{}\r", issuer.issuer());
    let (provider, question) = ("Provider for work: ", "Issuer for work: ");
    let client = format!("Client ID for work at {}: ", issuer.issuer());
    let so_far = format!("authctl login work --issuer {}", issuer.issuer());
    for (answers, code, hint) in [
        (vec![(provider, "9\r"), (question, at.as_str()), (&client, CTRL_D)], 2, so_far.as_str()),
        (
            vec![(provider, "9\r"), (question, at.as_str()), (&client, "\r"), (&client, "\r"), (&client, "\r")],
            2,
            &so_far,
        ),
        (vec![(provider, "okta\r"), (question, CTRL_D)], 2, "authctl login work --provider okta"),
    ] {
        let home = Sandbox::new();
        let mut login = home.spawn_in_terminal(&["login", "work"]);
        answer(&mut login, &answers);
        login.wait().exits(code).reports(&format!("  {hint}\r\n"));
    }
    // The command asks only for the rest.
    let home = Sandbox::new();
    let words: Vec<&str> = so_far.split(' ').skip(1).collect();
    let mut login = home.spawn_in_terminal(&[&words[..], &LOGIN[1..]].concat());
    answer(&mut login, &[(&client, "authctl\r"), ("Password: ", &format!("{PASSWORD}\r"))]);
    assert!(!login.wait().exits(0).stderr.contains("Provider"));
}

#[test]
fn issuer_is_found_by_the_domain_of_an_email_address() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let named = issuer.issuer().to_owned();
    let domain = StubServer::start(move |_, request| match request.path.split('?').next() {
        Some("/.well-known/webfinger") => {
            let link = serde_json::json!({"rel": "http://openid.net/specs/connect/1.0/issuer", "href": named});
            (200, serde_json::json!({"subject": "acct:ann", "links": [link]}).to_string())
        }
        _ => (404, "{}".into()),
    });
    let address = format!("ann@{}", domain.url.trim_start_matches("http://"));
    let mut login = home.spawn_in_terminal(&[&LOGIN[..], &["work"]].concat());
    answer(
        &mut login,
        &[
            ("Provider for work: ", "9\r"),
            ("Issuer for work: ", &format!("{address}\r")),
            ("Client ID for work", "authctl\r"),
            ("Password: ", &format!("{PASSWORD}\r")),
        ],
    );
    login.wait().exits(0);
    let asked = &domain.requests()[0].path;
    assert!(asked.contains(&format!("resource=acct%3A{}", address.replace('@', "%40").replace(':', "%3A"))), "{asked}");
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["issuer"], issuer.issuer());
}

#[test]
fn client_id_with_spaces_is_quoted_in_the_printed_command() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let mut login = home.spawn_in_terminal(&[&LOGIN[..], &["work", "--issuer", issuer.issuer()]].concat());
    answer(&mut login, &[("Client ID for work", "it's my client\r"), ("Password: ", &format!("{PASSWORD}\r"))]);
    let ran = login.wait().exits(5);
    let command = printed_command(&ran.stderr);
    assert!(command.ends_with(r"--client-id 'it'\''s my client'"), "{command}");
}

/// As of a manager of dotfiles, on a new machine.
#[test]
fn first_login_writes_through_links_to_what_is_missing() {
    for link in [
        "config",
        "config/authctl",
        "config/authctl/authctl.key",
        "config/authctl/config.toml",
        "data",
        "data/authctl",
        "data/authctl/sessions",
        "data/authctl/locks",
    ] {
        let (home, idp) = (Sandbox::new(), quick_issuer());
        let (path, target) = (home.path().join(link), home.path().join("dotfiles/new/target"));
        let _ = std::fs::remove_dir(&path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        home.log_in("work", &idp);
        assert!(path.is_symlink() && target.exists(), "{link}");
        home.run(&["refresh", "work"]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        assert_eq!(idp.stats().families_revoked, 0, "{link}");
    }
    // A link that leads to itself is an error before the sign-in.
    for link in ["config/authctl/authctl.key", "data/authctl"] {
        let (home, idp) = (Sandbox::new(), quick_issuer());
        let path = home.path().join(link);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let login = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl", "--password"];
        let args = [&login[..], &["--username", crate::support::USER, "--password-stdin"]].concat();
        let ran = home.run_with(&args, &format!("{}\n", crate::support::PASSWORD));
        assert!(matches!(ran.code, 2 | 7), "{link}: {} {}", ran.code, ran.stderr);
        assert!(ran.stderr.contains(path.to_str().unwrap()), "{link}: {}", ran.stderr);
        assert!(!idp.stats().requests.contains_key("token"), "{link}");
    }
}

#[test]
fn misspelt_profile_is_corrected_without_questions() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.spawn_in_terminal(&["login", "wrok"]).wait().exits(2).reports("authctl login work");
    // Another name is another profile.
    let mut login = home.spawn_in_terminal(&["login", "home"]);
    answer(&mut login, &[("Provider for home: ", CTRL_D)]);
    login.wait().exits(2);
}

#[test]
fn pasted_answers_and_options_may_have_spaces_around_them() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    let url = format!("--issuer={}\n", issuer.issuer());
    let options = ["login", "work ", &url, "--client-id", " authctl\r\n", "--audience", " authctl ", "--password"];
    let mut login = home.spawn_in_terminal(&options);
    answer(&mut login, &[("User name: ", &format!(" {USER} \r")), ("Password: ", &format!("{PASSWORD}\r"))]);
    login.wait().exits(0);
    let settings = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!((&settings["client_id"], &settings["audience"]), (&"authctl".into(), &"authctl".into()));
    home.run(&["profile", "set", "work", "audience= other "]).exits(0);
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["audience"], "other");
    let secret = issuer.client_secret("authctl-service").expect("a client with a secret");
    home.run_with(
        &["login", "service", &url, "--client-id", "authctl-service", "--client-credentials", "--client-secret-stdin"],
        &format!(" {} \n", secret.expose()),
    )
    .exits(0);
}
