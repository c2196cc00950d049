//! `verify -` with tokens as they are pasted, and with those that are about to expire.

use serde_json::json;

use super::verify::Setup;
use crate::support::{Sandbox, quick_issuer};

#[test]
fn what_is_pasted_along_with_a_token_is_ignored() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({}));
    for pasted in [
        format!("Bearer {token}\n"),
        format!("Authorization: Bearer {token}\r\n"),
        format!("\"{token}\""),
        format!("\u{feff}'{token}'\n"),
        format!("\u{feff} bearer \"{token}\" \r\n"),
        format!(" {token} \r\n\n"),
    ] {
        setup.granted(&pasted, &[]);
        let lines = format!("{}\n", pasted.trim_end());
        let batch = setup.run(&lines, &["--batch"]).exits(0);
        assert_eq!(batch.json()["valid"], true, "{pasted:?}");
    }
    for other in [format!("{token} x"), format!("x {token}"), format!("Bearer{token}"), format!("\"{token}\"x")] {
        setup.denied(&other, &[]);
    }
}

#[test]
fn token_that_is_broken_into_lines_is_refused_clearly() {
    let (setup, home, issuer) = (Setup::new(), Sandbox::new(), quick_issuer());
    let mut token = setup.signer.token(json!({}));
    token.insert(40, '\n');
    token.insert_str(90, "\r\n");
    let problem = "the token has 3 lines; a token is one line";
    setup.run(&token, &[]).exits(4).reports(problem);
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--with-token"];
    home.run_with(&login, &format!("{token}\n")).exits(2).reports(&format!("invalid token on stdin: {problem}"));
    let mut command = home.command(&["token"]);
    command.env("AUTHCTL_TOKEN", &token);
    let ran = home.spawn_command(command, &["token"]).wait().exits(2);
    ran.reports(&format!("invalid AUTHCTL_TOKEN: {problem}"));
}

#[test]
fn longest_token_and_what_is_around_it_are_read_and_no_more() {
    let setup = Setup::new();
    let reason = |text: &str| setup.run(text, &["--json"]).exits(4).json()["reasons"][0]["message"].to_string();
    let long = "x".repeat(256 * 1024);
    for (text, is_too_long) in [
        (format!("Bearer \"{long}\"\n"), false),
        (format!("{long}x"), true),
        (format!("{}{long}", " ".repeat(64)), true),
    ] {
        assert_eq!(reason(&text).contains("longer than"), is_too_long, "{}", reason(&text));
    }
}

#[test]
fn token_that_is_valid_only_by_the_leeway_is_reported_so() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({"iat": 1000, "nbf": 1000, "exp": 2000}));
    for (at, words) in [("1999", "expires in 1 s"), ("2000", "expired"), ("2029", "expired")] {
        let ran = setup.run(&token, &["--at", at, "--leeway", "30s"]).exits(0);
        assert!(ran.stdout.contains(words) && !ran.stdout.contains(" 0 s"), "{at}: {}", ran.stdout);
    }
}

#[test]
fn token_in_place_of_a_profile_is_not_repeated() {
    let (home, setup) = (Sandbox::new(), Setup::new());
    let long = setup.signer.token(json!({}));
    let short = "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.";
    for token in [&long, short] {
        home.run(&["verify", token]).exits(2).reports("pass tokens on stdin").reports("hint:  authctl verify -\n");
        for words in [
            &["token", token][..],
            &["verify", "-", token],
            &["verify", "work", token],
            &["whoami", "--profile", token],
            &["exec", token, "ls"],
            &["profile", "show", token],
            &["profile", "set", token, "audience=a"],
            &["token", &format!("--header={token}")],
            &[token],
        ] {
            let ran = home.run(words).exits(2);
            assert!(!ran.stderr.contains("eyJ") && ran.stdout.is_empty(), "{words:?}: {}", ran.stderr);
        }
    }
    // Where no profile is wanted, and with an opaque secret.
    let secret = "v1Zq7-Rk3mX9_Tb2Nc8Lw5Hs4Jd6Gf0PyAaUuEe";
    for token in [long.as_str(), secret] {
        let url = format!("https://a.example/?access_token={token}");
        for words in [
            &["tokne", token][..],
            &["frobnicate", "--", token],
            &["help", token],
            &["auth", "rm", token],
            &["login", "--device", token],
            &["login", "work", "--issuer", &url],
            &["token", "--for", token],
            &["verify", "-", "--jwks", token],
            &["logout", &format!("--client-secret={token}")],
            &["status", "--config", token, "nothing"],
            &["profile", "import", token],
            &["exec", "work", "--file", token],
        ] {
            for json in [false, true] {
                let words: Vec<&str> = if json { [&["--json"], words].concat() } else { words.to_vec() };
                let ran = home.run(&words);
                assert!(ran.code != 0 && !ran.stderr.contains(&token[..20]), "{words:?}: {}", ran.stderr);
            }
        }
    }
    let ran = home.command(&["token"]).env("AUTHCTL_PROFILE", &long).output().expect("run");
    assert!(!String::from_utf8_lossy(&ran.stderr).contains("eyJ"));
}

#[test]
fn problem_of_several_parts_of_a_token_is_reported_once() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    for (token, parts, problem) in [
        ("a.b.c", "header, payload and signature are", "not canonical base64url without padding"),
        ("!!.@@.##", "header, payload and signature are", "not canonical base64url without padding"),
        ("..", "header, payload and signature are", "empty"),
        ("bm9wZQ.bm9wZQ.c2ln", "header and payload are", "not a JSON object"),
        ("eyJ0eXAiOiJKV1QifQ.e30.c2ln", "header is", "`alg` is missing"),
        ("eyJhbGciOiJSUzI1NiJ9.e30.", "signature is", "empty"),
    ] {
        for options in [&[][..], &["--explain"], &["--json"]] {
            let ran = home.run_with(&[&["verify", "-", "--profile", "work"], options].concat(), token).exits(4);
            let shown = format!("{}{}", ran.stdout, ran.stderr);
            let reason = format!("the token's {parts} malformed: {problem}");
            assert_eq!(
                (shown.matches(&reason).count(), shown.matches("malformed: ").count()),
                (1, 1),
                "{token}: {shown}"
            );
        }
    }
}
