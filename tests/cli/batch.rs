//! `verify - --batch` (order, latency, back pressure, invalid lines) and `verify --explain`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use super::verify::Setup;
use crate::support::jwt::{AUDIENCE, ISSUER, Signer, valid_claims};
use crate::support::{CommandOutput, Sandbox};

impl Setup {
    fn batch_args(&self) -> [&str; 9] {
        ["verify", "-", "--batch", "--jwks", &self.keys, "--issuer", ISSUER, "--audience", AUDIENCE]
    }

    fn token(&self, number: usize) -> String {
        self.signer.token(json!({"jti": number.to_string()}))
    }

    /// Verifies `lines` as a batch. They are read from a file because they may exceed a pipe's capacity.
    fn run_batch(&self, lines: &str) -> CommandOutput {
        let file = self.home.path().join("tokens");
        std::fs::write(&file, lines).expect("written");
        let mut command = self.home.command(&self.batch_args());
        let stdin = std::fs::File::open(&file).expect("opened");
        let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        self.home.finish(child.expect("spawned"), &self.batch_args())
    }
}

#[track_caller]
fn verdicts(ran: &CommandOutput) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn verdicts_are_printed_in_the_order_of_the_lines() {
    let setup = Setup::new();
    // Long and invalid lines take more and less time to verify than the others.
    let line = |number: usize| match number % 7 {
        0 => "invalid".to_owned(),
        3 => setup.signer.token(json!({"jti": number.to_string(), "pad": "x".repeat(100_000)})),
        _ => setup.token(number),
    };
    let lines: String = (0..2000).map(|number| line(number) + "\n").collect();
    let ran = setup.run_batch(&lines).exits(4);
    let verdicts = verdicts(&ran);
    assert_eq!(verdicts.len(), 2000);
    for (number, verdict) in verdicts.iter().enumerate() {
        let expected = if number % 7 == 0 { Value::Null } else { number.to_string().into() };
        assert_eq!(verdict["claims"]["jti"], expected, "line {number}");
    }
}

#[test]
fn verdict_is_printed_while_stdin_is_open() {
    let setup = Setup::new();
    let mut command = setup.home.command(&setup.batch_args());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawned");
    let mut stdin = child.stdin.take().expect("piped");
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    for number in 0..20 {
        // A partial line must not be verified.
        let token = setup.token(number);
        stdin.write_all(&token.as_bytes()[..10]).expect("sent");
        stdin.write_all(format!("{}\n", &token[10..]).as_bytes()).expect("sent");
        let verdict = lines.recv_timeout(Duration::from_secs(20)).expect("a verdict while stdin is open");
        let verdict: Value = serde_json::from_str(&verdict).expect("JSON");
        assert_eq!(verdict["claims"]["jti"], number.to_string());
    }
    drop(stdin);
    assert!(child.wait().expect("exited").success());
}

#[test]
fn each_line_is_verified_at_the_time_it_arrives() {
    let (home, issuer) = (Sandbox::new(), crate::support::quick_issuer());
    home.log_in("work", &issuer);
    home.log_in_as("other", &issuer, "other");
    let token = home.token("work");
    let mut command = home.command(&["verify", "-", "--profile", "other", "--batch", "--leeway", "0s"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawned");
    let mut stdin = child.stdin.take().expect("piped");
    let mut lines = crate::support::process::Lines::of(child.stdout.take().expect("piped"));
    let mut verify_line = || -> Value {
        stdin.write_all(format!("{token}\n").as_bytes()).expect("sent");
        serde_json::from_str(&lines.next().expect("a line")).expect("JSON")
    };
    assert_eq!(verify_line()["valid"], true);
    home.run(&["logout", "work"]).exits(0);
    let denied =
        crate::support::process::wait_until("the logout", || Some(verify_line()).filter(|v| v["valid"] == false));
    assert_eq!(denied["reasons"][0]["code"], "revoked");
    drop(stdin);
    assert_eq!(child.wait().expect("exited").code(), Some(4));
}

#[test]
fn batch_stops_reading_stdin_while_stdout_is_full() {
    let setup = Setup::new();
    let mut command = setup.home.command(&setup.batch_args());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawned");
    let mut stdin = child.stdin.take().expect("piped");
    let (token, lines) = (setup.token(1) + "\n", 30_000);
    let total = token.len() * lines;
    let (sender, sent) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        for _ in 0..lines {
            if stdin.write_all(token.as_bytes()).is_err() {
                return;
            }
            let _ = sender.send(token.len());
        }
    });
    // Count the bytes written until a write blocks for two seconds.
    let mut written = 0;
    while let Ok(length) = sent.recv_timeout(Duration::from_secs(2)) {
        written += length;
    }
    assert!(written < total, "all {total} bytes were read");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("running");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("peak memory");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 64 * 1024, "{peak} KiB for {written} bytes");
    // Reading stdout unblocks the batch.
    let mut stdout = child.stdout.take().expect("piped");
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).expect("read");
    writer.join().expect("all lines are written");
    assert!(child.wait().expect("exited").success());
    assert_eq!(all.iter().filter(|byte| **byte == b'\n').count(), lines);
}

#[test]
fn empty_long_and_non_utf8_lines_get_verdicts() {
    let setup = Setup::new();
    let valid = setup.token(1);
    let long = "a".repeat(1024 * 1024 + 1);
    let lines = format!("{valid}\r\n\n  \n{long}\n{valid}\n{}", setup.token(2));
    let ran = setup.run_batch(&lines).exits(4);
    let codes: Vec<Value> = verdicts(&ran)
        .into_iter()
        .map(|verdict| if verdict["valid"] == true { true.into() } else { verdict["reasons"][0]["code"].clone() })
        .collect();
    let expected = json!([true, "opaque_token", "opaque_token", "malformed", true, true]);
    assert_eq!(Value::Array(codes), expected);
    assert_eq!(setup.run_batch("").exits(0).stdout, "");
    assert_eq!(verdicts(&setup.run_batch(&valid).exits(0)).len(), 1, "a line without a line end");
    let mut child = setup.home.command(&setup.batch_args());
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawned");
    child.stdin.take().expect("piped").write_all(b"\xff\xfe\n").expect("sent");
    let output = child.wait_with_output().expect("exited");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not text"));
}

#[test]
fn batch_exits_without_error_when_stdout_is_closed() {
    let setup = Setup::new();
    let mut command = setup.home.command(&setup.batch_args());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("spawned");
    drop(child.stdout.take());
    let (mut stdin, token) = (child.stdin.take().expect("piped"), setup.token(1) + "\n");
    // The batch must exit although stdin is still open.
    while stdin.write_all(token.as_bytes()).is_ok() {}
    let output = child.wait_with_output().expect("exited");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn explain_cannot_be_combined_with_batch() {
    let setup = Setup::new();
    setup.home.run(&[&setup.batch_args()[..], &["--explain"]].concat()).exits(2);
}

/// Returns the check and the outcome of each step of an explanation, and its screen.
#[track_caller]
fn explain(setup: &Setup, token: &str, args: &[&str], code: i32) -> (Vec<(String, String)>, CommandOutput) {
    let all = [&setup.batch_args()[..2], &setup.batch_args()[3..], &["--explain"], args].concat();
    let ran = setup.home.run_with(&all, token).exits(code);
    let json = setup.home.run_with(&[&all[..], &["--json"]].concat(), token).exits(code).json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let steps = json["steps"].as_array().expect("steps");
    (steps.iter().map(|step| (text(&step["check"]), text(&step["outcome"]))).collect(), ran)
}

#[test]
fn explain_lists_the_checks_in_order() {
    let setup = Setup::new();
    let (steps, ran) = explain(&setup, &setup.signer.token(json!({"scope": "a b"})), &["--scope", "a"], 0);
    let ok = |checks: &[&str]| checks.iter().map(|check| ((*check).to_owned(), "ok".to_owned())).collect::<Vec<_>>();
    let checks: Vec<_> = steps.iter().filter(|(_, outcome)| outcome == "ok").cloned().collect();
    let all =
        ["parts", "header", "typ", "alg", "key", "signature", "exp", "iat", "iss", "aud", "sub", "scope", "revoked"];
    let found: Vec<_> = checks.into_iter().filter(|(check, _)| check != "nbf" && check != "jti").collect();
    assert_eq!(found, ok(&all), "{}", ran.stdout);
    assert!(ran.stdout.starts_with("valid: "), "{}", ran.stdout);
    for word in [ISSUER, AUDIENCE, "EdDSA", "leeway 30 s", "keys supplied with the request"] {
        assert!(ran.stdout.contains(word), "{word} in {}", ran.stdout);
    }

    let denied_token = setup.signer.token(json!({"exp": 1, "iss": "https://evil.example"}));
    let (steps, ran) = explain(&setup, &denied_token, &["--claim", "tenant=blue"], 4);
    assert!(steps.iter().all(|(check, _)| check != "revoked"), "a copy by its claims was not looked for: {steps:?}");
    let denied: Vec<&str> = steps.iter().filter(|(_, o)| o == "denied").map(|(check, _)| check.as_str()).collect();
    assert_eq!(denied, ["exp", "iss", "claim"], "{}", ran.stdout);
    assert!(
        ran.stdout.starts_with("DENIED  expired, wrong issuer, missing claim\n\nx expiry     expired at "),
        "{}",
        ran.stdout
    );
    let signature = denied_token.rsplit('.').next().expect("a signature");
    assert!(!ran.stdout.contains(signature) && !ran.stdout.contains(&denied_token));

    // An invalid signature is reported at the check that failed, and later signature checks are skipped.
    let header = |changes: Value| crate::support::signing_keys::changed(json!({"alg": "EdDSA", "kid": "k"}), changes);
    let signed = |changes: Value| setup.signer.sign(&header(changes), &valid_claims(json!({})));
    let signature_checks = ["alg", "key", "signature"];
    for (token, denied) in [
        (signed(json!({"alg": "none"})), 0),
        (signed(json!({"kid": "another"})), 1),
        (Signer::new().sign(&header(json!({})), &valid_claims(json!({}))), 2),
    ] {
        let (steps, ran) = explain(&setup, &token, &[], 4);
        let all_steps = steps.clone();
        let found: Vec<_> = steps.into_iter().filter(|(check, _)| signature_checks.contains(&check.as_str())).collect();
        let outcome = |at: usize| if at < denied { "ok" } else { "denied" };
        let expected: Vec<_> =
            (0..=denied).map(|at| (signature_checks[at].to_owned(), outcome(at).to_owned())).collect();
        assert_eq!(found, expected, "{}", ran.stdout);
        // No claim passes that no trusted key has signed.
        let claims = ["exp", "iat", "iss", "aud", "sub"];
        let ok = all_steps.iter().find(|(check, outcome)| claims.contains(&check.as_str()) && outcome == "ok");
        assert_eq!(ok, None, "{}", ran.stdout);
        assert!(ran.stdout.contains("\n- claims     not trusted: iss \"https://issuer.example\", "), "{}", ran.stdout);
    }

    // `--explain` must not change the verdict. `--at` makes both runs use the same time.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs().to_string();
    let args = [&setup.batch_args()[..2], &setup.batch_args()[3..], &["--json", "--at", &now]].concat();
    for token in [denied_token, setup.signer.sign(&json!({"alg": "none"}), &valid_claims(json!({}))), "opaque".into()] {
        let plain = setup.home.run_with(&args, &token).exits(4).json();
        let mut explained = setup.home.run_with(&[&args[..], &["--explain"]].concat(), &token).exits(4).json();
        let steps = explained.as_object_mut().and_then(|members| members.remove("steps")).expect("steps");
        assert_eq!(explained, plain);
        let denied = steps.as_array().expect("steps").iter().filter(|step| step["outcome"] == "denied");
        let mut denied: Vec<&str> = denied.map(|step| step["message"].as_str().expect("text")).collect();
        let mut reasons: Vec<&str> = plain["reasons"]
            .as_array()
            .expect("reasons")
            .iter()
            .map(|r| r["message"].as_str().expect("text"))
            .collect();
        denied.sort_unstable();
        reasons.sort_unstable();
        assert_eq!(denied, reasons);
    }
}
