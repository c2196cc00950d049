//! `verify`: verdicts, the reasons for a denial, usage errors, and that no socket is opened.

use std::fs;

use authctl::clock::UnixTime;
use authctl::dev_issuer::Algorithm;
use serde_json::{Value, json};

use crate::hints::paste;
use crate::support::jwt::{AUDIENCE, ISSUER, Signer, now, valid_claims};
use crate::support::process::wait_until;
use crate::support::signing_keys::b64;
use crate::support::{CommandOutput, Sandbox, issuer, quick_issuer};

/// A home with a key file and no profile.
pub struct Setup {
    pub home: Sandbox,
    pub signer: Signer,
    pub keys: String,
}

impl Setup {
    pub fn new() -> Self {
        let (home, signer) = (Sandbox::new(), Signer::new());
        let keys = home.path().join("keys.json").to_str().unwrap().to_owned();
        fs::write(&keys, signer.jwks().to_string()).unwrap();
        Self { home, signer, keys }
    }

    pub fn run(&self, token: &str, more: &[&str]) -> CommandOutput {
        let args = ["verify", "-", "--jwks", &self.keys, "--issuer", ISSUER, "--audience", AUDIENCE];
        self.home.run_with(&[&args[..], more].concat(), token)
    }

    #[track_caller]
    pub fn granted(&self, token: &str, more: &[&str]) {
        let ran = self.run(token, &[more, &["--json"]].concat()).exits(0);
        assert_eq!(ran.json()["valid"], true);
    }

    /// Fails the test unless the token is denied; returns the reason codes.
    #[track_caller]
    pub fn denied(&self, token: &str, more: &[&str]) -> Vec<String> {
        let ran = self.run(token, &[more, &["--json"]].concat()).exits(4);
        codes(&ran.json())
    }
}

#[track_caller]
fn codes(verdict: &Value) -> Vec<String> {
    assert_eq!(verdict["valid"], false);
    let reasons = verdict["reasons"].as_array().unwrap();
    assert!(reasons.iter().all(|r| !r["message"].as_str().unwrap().is_empty()), "{verdict}");
    reasons.iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn valid_token_json_is_stable() {
    let setup = Setup::new();
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "developer", "exp": 1_800_000_300});
    let token = setup.signer.sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims);
    let ran = setup.run(&format!("{token}\n"), &["--json", "--at", "1800000000"]).exits(0);
    assert_eq!(
        ran.stdout,
        "{\"valid\":true,\"claims\":{\"aud\":\"https://api.example\",\"exp\":1800000300,\"iss\":\"https://issuer.example\",\
         \"sub\":\"developer\"},\"key\":{\"kid\":\"k\",\"alg\":\"EdDSA\",\"kty\":\"OKP\"},\"keys_age\":null}\n"
    );
    assert_eq!(ran.stderr, "");
}

#[test]
fn denied_token_json_is_stable() {
    let setup = Setup::new();
    let claims = json!({"iss": ISSUER, "aud": "other", "sub": "developer", "exp": 1_800_000_300});
    let token = setup.signer.sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims);
    let ran = setup.run(&token, &["--json", "--at", "1800000330"]).exits(4);
    assert_eq!(
        ran.stdout,
        "{\"valid\":false,\"reasons\":[{\"code\":\"expired\",\"message\":\"expired at 2027-01-15T08:05:00Z; it is \
         2027-01-15T08:05:30Z (leeway 30 s)\"},{\"code\":\"wrong_audience\",\"message\":\"expected audience \
         \\\"https://api.example\\\", found \\\"other\\\"\"}]}\n"
    );
    assert_eq!(ran.stderr, "");
}

#[test]
fn each_reason_has_its_code() {
    let setup = Setup::new();
    let s = &setup.signer;
    let header = |header: Value| s.sign(&header, &valid_claims(json!({})));
    setup.granted(&s.token(json!({})), &[]);
    for (token, code) in [
        ("not-a-jwt".to_owned(), "opaque_token"),
        ("a.b.c".to_owned(), "malformed"),
        (s.token(json!({"exp": "soon"})), "malformed"),
        (s.token(json!({"sub": 7})), "malformed"),
        (Signer::new().token(json!({})), "invalid_signature"),
        (header(json!({"alg": "EdDSA", "kid": "l"})), "unknown_key"),
        (header(json!({"alg": "none", "kid": "k"})), "algorithm_not_allowed"),
        (header(json!({"alg": "HS256", "kid": "k"})), "algorithm_not_allowed"),
        (header(json!({"alg": "ES256", "kid": "k"})), "algorithm_not_allowed"),
        (header(json!({"alg": "EdDSA", "kid": "k", "crit": ["exp"]})), "unsupported_header"),
        (header(json!({"alg": "EdDSA", "kid": "k", "typ": "logout+jwt"})), "wrong_type"),
        (s.token(json!({"exp": now() - 3600})), "expired"),
        (s.token(json!({"nbf": now() + 3600})), "not_yet_valid"),
        (s.token(json!({"iat": now() + 3600})), "not_yet_valid"),
        (s.token(json!({"iss": "https://issuer.example/"})), "wrong_issuer"),
        (s.token(json!({"aud": ["https://api.example/", "x"]})), "wrong_audience"),
        (s.token(json!({"exp": null})), "missing_claim"),
        (s.token(json!({"iss": null})), "missing_claim"),
        (s.token(json!({"aud": null})), "missing_claim"),
    ] {
        let mut codes = setup.denied(&token, &[]);
        codes.dedup();
        assert_eq!(codes, [code], "{token}");
    }
    let all = s.token(json!({"exp": now() - 3600, "iss": "x", "aud": "y"}));
    assert_eq!(setup.denied(&all, &[]), ["expired", "wrong_issuer", "wrong_audience"], "all reasons are reported");
    // A wrong signature and an empty one.
    let token = s.token(json!({}));
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(setup.denied(&format!("{signed}.{}", b64([7; 64])), &[]), ["invalid_signature"]);
    assert!(!setup.denied(&format!("{signed}."), &[]).is_empty());
}

#[test]
fn keys_in_the_token_are_not_trusted() {
    let setup = Setup::new();
    let attacker = Signer::new();
    let jwk = attacker.jwks()["keys"][0].clone();
    let url = "http://127.0.0.1:9/keys";
    for header in [
        json!({"alg": "EdDSA", "kid": "k", "jwk": jwk}),
        json!({"alg": "EdDSA", "kid": "k", "jku": url}),
        json!({"alg": "EdDSA", "kid": "k", "x5u": url}),
    ] {
        assert_eq!(setup.denied(&attacker.sign(&header, &valid_claims(json!({}))), &[]), ["invalid_signature"]);
    }
}

#[test]
fn weak_key_is_denied() {
    let setup = Setup::new();
    // A 1024-bit modulus. The key is rejected before the signature is checked.
    let mut modulus = [0xff; 128];
    modulus[127] = 0xfd;
    let keys = json!({"keys": [{"kty": "RSA", "kid": "k", "n": b64(modulus), "e": "AQAB"}]});
    fs::write(&setup.keys, keys.to_string()).unwrap();
    let token = setup.signer.sign(&json!({"alg": "RS256", "kid": "k"}), &valid_claims(json!({})));
    assert_eq!(setup.denied(&token, &[]), ["weak_key"]);
}

#[test]
fn each_option_restricts_the_granted_tokens() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({
        "scope": "read write", "team": "blue", "level": 3, "acr": "high", "amr": ["pwd", "otp"], "auth_time": now() - 100,
    }));
    for more in [
        &["--algorithms", "ES256,EdDSA"][..],
        &["--typ", "AT+JWT"],
        &["--scope", "read"],
        &["--scope", "write read"],
        &["--claim", "team=blue", "--claim", "level=3"],
        &["--max-auth-age", "5m"],
        &["--acr", "high"],
        &["--amr", "otp", "--amr", "pwd"],
        &["--audience", "another"],
        &["--leeway", "0s"],
    ] {
        setup.granted(&token, more);
    }
    for (more, code) in [
        (&["--algorithms", "ES256"][..], "algorithm_not_allowed"),
        (&["--typ", "JWT"], "wrong_type"),
        (&["--scope", "admin"], "claim_mismatch"),
        (&["--scope", "rea"], "claim_mismatch"),
        (&["--claim", "team=red"], "claim_mismatch"),
        (&["--claim", "colour=red"], "missing_claim"),
        (&["--acr", "higher"], "claim_mismatch"),
        (&["--amr", "hwk"], "claim_mismatch"),
    ] {
        assert_eq!(setup.denied(&token, more), [code], "{more:?}");
    }
    assert!(!setup.denied(&token, &["--max-auth-age", "10s", "--leeway", "0s"]).is_empty());
    let bare = setup.signer.token(json!({}));
    for more in [["--scope", "a"], ["--acr", "a"], ["--amr", "a"], ["--max-auth-age", "1h"], ["--claim", "a=b"]] {
        assert_eq!(setup.denied(&bare, &more), ["missing_claim"], "{more:?}");
    }
}

#[test]
fn expiry_and_leeway_are_exact_to_the_second() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({"iat": 1000, "nbf": 1000, "exp": 2000}));
    let at = |moment: i64, leeway: &str| {
        let moment = moment.to_string();
        setup.run(&token, &["--at", &moment, "--leeway", leeway]).code
    };
    assert_eq!([at(999, "0s"), at(1000, "0s"), at(1999, "0s"), at(2000, "0s")], [4, 0, 0, 4]);
    assert_eq!([at(969, "30s"), at(970, "30s"), at(2029, "30s"), at(2030, "30s")], [4, 0, 0, 4]);
    assert_eq!(at(-1, "30s"), 4);
    setup.run(&token, &["--leeway", "2d"]).exits(2);
}

#[test]
fn invalid_or_missing_options_are_usage_errors() {
    let setup = Setup::new();
    for more in [
        &["--algorithms", "none"][..],
        &["--algorithms", "HS256"],
        &["--algorithms", "EdDSA,hs256"],
        &["--algorithms", "ES256K"],
        &["--leeway", "much"],
        &["--claim", "team"],
        &["--at", "noon"],
        &["--jwks", "/does/not/exist"],
    ] {
        let ran = setup.run("", more).exits(2);
        assert_eq!(ran.stdout, "", "{more:?}");
    }
    // Empty stdin usually means that the command before the pipe failed.
    for empty in ["", "\n"] {
        setup.run(empty, &[]).exits(2).reports("stdin is empty");
    }
    let home = &setup.home;
    for args in [&["verify", "--at", "5"][..], &["verify", "--batch"]] {
        home.run(args).exits(2).reports("stdin");
    }
    home.run(&["verify", "--profile", "a"]).exits(2).reports("unknown profile `a`");
    // Without a profile, issuer, audience and keys are required.
    let token = setup.signer.token(json!({}));
    for omitted in 0..3 {
        let mut options = vec![["--jwks", setup.keys.as_str()], ["--issuer", ISSUER], ["--audience", AUDIENCE]];
        options.remove(omitted);
        home.run_with(&[&["verify", "-"], &options.concat()[..]].concat(), &token).exits(2).reports("--issuer");
    }
}

#[test]
fn keys_may_be_pem_and_must_be_public() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({}));
    fs::write(&setup.keys, setup.signer.pem()).unwrap();
    setup.granted(&token, &[]);
    fs::write(&setup.keys, Signer::new().pem()).unwrap();
    assert_eq!(setup.denied(&token, &[]), ["invalid_signature"]);
    let mut private = setup.signer.jwks();
    private["keys"][0]["d"] = json!("c2VjcmV0LXBhcnQ");
    setup.home.register_secret("c2VjcmV0LXBhcnQ");
    for unusable in [private.to_string(), "{}".into(), String::new(), "{\"keys\":[]}".into(), "-----BEGIN".into()] {
        fs::write(&setup.keys, &unusable).unwrap();
        setup.run(&token, &[]).exits(2).reports("--jwks");
    }
}

#[test]
fn batch_prints_a_verdict_for_each_line_in_order() {
    let setup = Setup::new();
    let first = setup.signer.token(json!({"sub": "first"}));
    let last = setup.signer.token(json!({"sub": "last"}));
    let expired = setup.signer.token(json!({"exp": 1}));
    let long = "x".repeat(1024 * 1024 + 7);
    // The last line has no line end.
    let ran = setup.run(&format!("{first}\n{expired}\n\n{long}\r\n{last}\r\n{first}"), &["--batch"]).exits(4);
    let verdicts: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(verdicts.len(), 6);
    assert_eq!(verdicts[0]["claims"]["sub"], "first");
    assert_eq!(codes(&verdicts[1]), ["expired"]);
    assert_eq!(codes(&verdicts[2]), ["opaque_token"]);
    assert_eq!(codes(&verdicts[3]), ["malformed"]);
    assert_eq!(verdicts[4]["claims"]["sub"], "last");
    assert_eq!(verdicts[5], verdicts[0]);
    assert_eq!(setup.run(&format!("{first}\n{last}\n"), &["--batch"]).exits(0).stdout.lines().count(), 2);
    assert_eq!(setup.run("", &["--batch"]).exits(0).stdout, "");
}

#[test]
fn batch_prints_a_verdict_before_the_next_line_arrives() {
    use std::io::Write as _;
    use std::process::Stdio;

    use crate::support::process::Lines;

    let setup = Setup::new();
    let args = ["verify", "-", "--batch", "--jwks", &setup.keys, "--issuer", ISSUER, "--audience", AUDIENCE];
    let mut child =
        setup.home.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut verdicts = Lines::of(child.stdout.take().unwrap());
    for sub in ["a", "b"] {
        writeln!(stdin, "{}", setup.signer.token(json!({"sub": sub}))).unwrap();
        let verdict: Value = serde_json::from_str(&verdicts.next().unwrap()).unwrap();
        assert_eq!(verdict["claims"]["sub"], sub);
    }
    drop(stdin);
    assert!(verdicts.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn output_is_one_line_and_quiet_prints_nothing() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({"preferred_username": "al\u{1b}[31mice\u{202e}"}));
    let ran = setup.run(&token, &[]).exits(0);
    assert!(ran.line().starts_with("valid: al\u{fffd}[31mice\u{fffd}, expires in "), "{}", ran.stdout);
    assert!(ran.line().ends_with("signed with EdDSA"), "{}", ran.stdout);
    let expired = setup.run(&setup.signer.token(json!({"exp": 1})), &[]).exits(4).reports("token denied: expired at");
    assert_eq!(expired.stdout, "");
    assert_eq!(expired.stderr.lines().count(), 2, "{}", expired.stderr);
    let quiet = setup.run(&token, &["-q"]).exits(0);
    assert_eq!((quiet.stdout, quiet.stderr), (String::new(), String::new()));
}

#[test]
fn stored_token_of_each_algorithm_is_verified_offline() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let home = Sandbox::new();
        let mut idp = issuer(|options| options.algorithm = algorithm);
        home.log_in("work", &idp);
        idp.pause();
        let verdict = home.run(&["verify", "work", "--json"]).exits(0).json();
        assert_eq!(verdict["key"]["alg"], format!("{algorithm:?}"));
        assert_eq!(verdict["claims"]["iss"], idp.issuer());
        assert!(verdict["keys_age"].as_u64().unwrap() < 60, "{verdict}");
        let text = home.run(&["verify"]).exits(0);
        assert!(text.line().starts_with("valid: ") && text.line().contains("keys fetched"), "{}", text.stdout);
        // The same token from stdin, verified with the profile's issuer, audience and keys.
        let token = home.token("work");
        home.run_with(&["verify", "-", "--profile", "work"], &token).exits(0);
        home.run_with(&["verify", "-"], &token).exits(0);
        home.run_with(&["verify", "-", "--audience", "other"], &token).exits(4);
        let other = match algorithm {
            Algorithm::EdDSA => "RS256",
            _ => "EdDSA",
        };
        home.run(&["verify", "--algorithms", other]).exits(4);
    }
}

#[test]
fn missing_session_requires_login_and_opaque_token_is_denied() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.opaque_access_tokens = true);
    home.run(&["verify"]).exits(3);
    home.log_in("work", &idp);
    assert_eq!(codes(&home.run(&["verify", "--json"]).exits(4).json()), ["opaque_token"]);
    home.run(&["verify"]).exits(4).reports("opaque");
    home.run(&["logout"]).exits(0);
    home.run(&["verify"]).exits(3).reports("authctl login work");
}

#[test]
fn token_is_revoked_by_logout() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let token = home.token("work");
    let id_token = home.session("work").tokens.id_token.unwrap();
    let keys = home.path().join("keys.json").to_str().unwrap().to_owned();
    fs::write(&keys, home.trust(&idp).fetched.unwrap().jwks).unwrap();
    let args = ["verify", "-", "--json", "--jwks", &keys, "--issuer", idp.issuer(), "--audience", "authctl"];
    home.run_with(&args, &token).exits(0);
    // An ID token is accepted only where its type is requested (RFC 9068, section 5).
    assert_eq!(codes(&home.run_with(&args, id_token.expose()).exits(4).json()), ["wrong_type"]);
    let typed = [&args[..], &["--typ", "JWT"]].concat();
    home.run_with(&typed, id_token.expose()).exits(0);
    home.run(&["logout", "--no-revoke"]).exits(0);
    assert_eq!(codes(&home.run_with(&args, &token).exits(4).json()), ["revoked"]);
    assert_eq!(codes(&home.run_with(&typed, id_token.expose()).exits(4).json()), ["revoked"]);
    let batch = [&args[..], &["--batch"]].concat();
    assert_eq!(codes(&home.run_with(&batch, &token).exits(4).json()), ["revoked"]);
}

#[test]
fn remaining_lifetime_is_shown() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({"iat": 1_000_000_000, "exp": 1_000_000_090}));
    let ran = setup.run(&token, &["--at", "1000000030"]).exits(0);
    assert!(ran.stdout.contains("expires in 1 min;"), "{}", ran.stdout);
}

#[test]
fn verify_opens_no_socket() {
    let setup = Setup::new();
    let args = ["verify", "-", "--jwks", &setup.keys, "--issuer", ISSUER, "--audience", AUDIENCE];
    let header = json!({"alg": "EdDSA", "kid": "x", "jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/"});
    setup.home.run_offline(&args, &setup.signer.sign(&header, &valid_claims(json!({})))).exits(4);
    let home = &setup.home;
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.run_offline(&["verify", "work"], "").exits(0);
    idp.rotate_keys(None).unwrap();
    home.change_trust(&idp, |trust| trust.fetched = None);
    let ran = home.run_offline(&["verify", "work"], "");
    assert_eq!(ran.exits(4).stdout, "", "missing keys are not fetched");
}

#[test]
fn pasted_lines_are_reported_as_such() {
    let setup = Setup::new();
    let token = setup.signer.token(json!({}));
    for (text, reason) in [
        (format!("{token}\n{token}\n"), "the token has 2 lines; a token is one line"),
        (format!("{}\n{}", &token[..80], &token[80..]), "the token has 2 lines"),
        (format!("{} {}", &token[..80], &token[80..]), "the token has white space in it"),
    ] {
        let ran = setup.run(&text, &[]).exits(4).reports(reason);
        assert!(!ran.stderr.contains("encrypted"), "{}", ran.stderr);
    }
}

#[test]
fn token_that_was_received_expired_shows_a_wrong_clock() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.access_token_ttl = std::time::Duration::from_secs(1));
    home.log_in("work", &idp);
    let verify = || home.run(&["verify", "work", "--leeway", "0s"]);
    let denied = wait_until("the token to expire", || Some(verify()).filter(|ran| ran.code == 4));
    denied.reports("hint:  authctl refresh work\n");
    let expired_at = home.session("work").tokens.obtained_at.0 + 1;
    // By a clock that is ahead of the issuer's, a new token is as expired as the last one.
    home.change_session("work", |session| session.tokens.obtained_at = UnixTime(expired_at + 1));
    verify().exits(4).reports("hint:  sudo timedatectl set-ntp true\n");
}

#[test]
fn file_in_place_of_a_profile_has_a_hint_that_reads_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    fs::write(home.path().join("my token"), home.token("work")).unwrap();
    fs::write(home.path().join("token.jwt"), home.token("work")).unwrap();
    for (words, expected) in [
        (&["verify", "./my token"][..], "authctl verify - < './my token'"),
        (&["verify", "token.jwt"], "authctl verify - < token.jwt"),
        (&["verify", "./token.jwt", "--explain"], "authctl verify - --explain < ./token.jwt"),
        (&["verify", "--profile", "work", "./token.jwt"], "authctl verify --profile work - < ./token.jwt"),
    ] {
        let ran = home.run(words).exits(2);
        assert_eq!(ran.stderr.lines().last(), Some(&*format!("hint:  {expected}")), "{}", ran.stderr);
        paste(&home, expected, "").exits(0);
    }
    // Neither is a file whose content can be read again.
    for other in ["./nothing", "/dev/null", "."] {
        assert!(!home.run(&["verify", other]).exits(2).stderr.contains(" < "), "{other}");
    }
}
