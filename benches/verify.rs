//! The time of one verification, whole process, compared with `/bin/true`; and the throughput of a batch, compared with
//! the signature library alone.
//!
//! `cargo bench --bench verify -- --tokens 20000`; 20,000 by default. Needs `taskset`.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

#[path = "../tests/support/signing_keys.rs"]
mod signing_keys;
mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};

use signing_keys::SigningKey;
use support::table::{Bar, absent, bars, middle, ms, percentile, print, ratio};
use support::{Home, Running, ends_within, run};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://api.example";

/// The number of runs of each process with one token, after the warm-up.
const RUNS: usize = 300;
const WARM_UP: usize = 10;

/// The number of runs of each batch, and its number of tokens.
const ROUNDS: usize = 5;
const TOKENS: usize = 20_000;

/// Tokens of one algorithm, each with its number as its `jti`, and the key that verifies them.
struct Batch {
    name: &'static str,
    algorithm: Algorithm,
    key: DecodingKey,
    tokens: Vec<String>,
    /// The path of the file with the tokens, one per line.
    file: String,
    /// The path of the key file.
    jwks: String,
}

impl Batch {
    fn new(home: &Home, name: &'static str, algorithm: Algorithm, pair: &SigningKey, count: usize) -> Self {
        let jwk = pair.jwk("k");
        let key = DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).expect("a JWK")).expect("a key");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let header = json!({"alg": name, "kid": "k", "typ": "at+jwt"}).to_string();
        let token = |number: usize| {
            let claims = json!({
                "iss": ISSUER, "aud": AUDIENCE, "sub": "developer", "client_id": "authctl", "scope": "openid profile",
                "iat": now, "exp": now + 3600, "jti": number.to_string(),
            });
            pair.token(name, &header, claims.to_string())
        };
        let tokens: Vec<String> = (0..count).map(token).collect();
        let place = |ending: &str| home.path().join(format!("{name}{ending}")).to_str().expect("text").to_owned();
        let (file, jwks) = (place(".tokens"), place(".jwks"));
        fs::write(&file, tokens.join("\n") + "\n").expect("written");
        fs::write(&jwks, json!({"keys": [jwk]}).to_string()).expect("written");
        Self { name, algorithm, key, tokens, file, jwks }
    }

    fn command(&self, home: &Home, more: &[&str]) -> Command {
        let args = ["verify", "-", "--jwks", &self.jwks, "--issuer", ISSUER, "--audience", AUDIENCE];
        home.authctl(&[&args[..], more].concat())
    }

    /// Measures the library alone: only the signatures, with a key that is already parsed.
    fn time_library(&self) -> Duration {
        let parts: Vec<_> = self.tokens.iter().map(|token| token.rsplit_once('.').expect("a JWT")).collect();
        let started = Instant::now();
        for (signed, signature) in parts {
            let verified = jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm);
            assert!(matches!(verified, Ok(true)), "{}: the library denies a signature", self.name);
        }
        started.elapsed()
    }

    /// Measures one process for all tokens on these CPUs, from its start until it has exited and its output was read.
    fn time_process(&self, home: &Home, cpus: &[usize]) -> Duration {
        let batch = self.command(home, &["--batch"]);
        let mut command = home.command("taskset", &["-c", &list(cpus)]);
        command.arg(batch.get_program()).args(batch.get_args());
        command.stdin(File::open(&self.file).expect("the tokens")).stdout(Stdio::piped());
        let mut output = Vec::with_capacity(self.tokens.len() * 1024);
        let started = Instant::now();
        let mut running = Running::start(&mut command);
        running.0.stdout.take().expect("piped").read_to_end(&mut output).expect("read");
        let status = running.0.wait().expect("exited");
        let took = started.elapsed();
        assert!(status.success(), "{}: the batch ends with {status}", self.name);
        self.check(&output);
        took
    }

    /// Checks that each token has a verdict, in order, and is valid.
    fn check(&self, output: &[u8]) {
        let lines: Vec<&[u8]> = output.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), self.tokens.len(), "{}: one verdict per token", self.name);
        for (number, line) in lines.into_iter().enumerate() {
            let verdict: Value = serde_json::from_slice(line).expect("JSON");
            let right = verdict["valid"] == true && verdict["claims"]["jti"].as_str() == Some(&number.to_string());
            assert!(right, "{}: verdict {number} is {verdict}", self.name);
        }
    }
}

/// Returns the CPUs that this thread may use.
fn cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/thread-self/status").expect("readable");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list");
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let ranges = allowed.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    ranges.flat_map(|(first, last)| number(first)..=number(last)).collect()
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Pins the main thread, and the processes that it starts, to these CPUs.
fn pin_to(cpus: &[usize]) {
    let ran = run(Command::new("taskset").args(["-cp", &list(cpus), &std::process::id().to_string()]), "");
    assert_eq!(ran.code, 0, "taskset: {}", ran.stderr);
}

/// A process with one token on its stdin.
struct Competitor {
    name: String,
    command: Command,
    token: String,
    /// The start of the expected output.
    expected: String,
    took: Vec<Duration>,
}

impl Competitor {
    fn new(name: &str, command: Command, token: &str, expected: &str) -> Self {
        let (name, token, expected) = (name.to_owned(), token.to_owned(), expected.to_owned());
        Self { name, command, token, expected, took: Vec::with_capacity(RUNS) }
    }

    /// Measures the time from the start of the process until it has exited and its output was read. The token is in the
    /// pipe before the start.
    fn run_once(&mut self) -> Duration {
        let (stdin, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(self.token.as_bytes()).expect("written");
        drop(writer);
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut output = String::with_capacity(4096);
        let started = Instant::now();
        let mut child = self.command.spawn().expect("spawned");
        child.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
        let status = child.wait().expect("exited");
        let took = started.elapsed();
        assert!(status.success() && output.starts_with(&self.expected), "unexpected output of {}", self.name);
        took
    }
}

/// Measures processes that verify one token, and processes that do nothing with it.
fn one_token(home: &Home, batches: &[Batch]) -> Vec<Bar> {
    let token = &batches[0].tokens[0];
    let mut all = vec![
        Competitor::new("`/bin/true`", home.command("/bin/true", &[]), token, ""),
        Competitor::new("`cat`, which prints the token", home.command("cat", &[]), token, token),
    ];
    let others = all.len();
    for batch in batches {
        let name = format!("`authctl verify -`, {}", batch.name);
        all.push(Competitor::new(&name, batch.command(home, &[]), &batch.tokens[0], "valid: "));
    }
    for round in 0..WARM_UP + RUNS {
        for turn in 0..all.len() {
            let at = (turn + round) % all.len();
            let took = all[at].run_once();
            if round >= WARM_UP {
                all[at].took.push(took);
            }
        }
    }

    let medians: Vec<Duration> = all.iter_mut().map(|one| percentile(&mut one.took, 0.5)).collect();
    let times = |median: Duration| ratio(median, medians[0]);
    let mut rows = Vec::new();
    for (one, median) in all.iter_mut().zip(&medians) {
        let [min, p90, p99] = [0.0, 0.9, 0.99].map(|share| ms(percentile(&mut one.took, share)));
        rows.push(vec![one.name.clone(), ms(*median), min, p90, p99, format!("{:.2}", times(*median))]);
    }
    let columns = ["whole process", "median", "min", "p90", "p99", "to `/bin/true`"];
    print(&format!("A verdict on one token from stdin, {RUNS} alternating runs each"), &columns, &rows);
    let mut results = Vec::new();
    for (batch, median) in batches.iter().zip(&medians[others..]) {
        results.push(Bar::at_most(format!("{}: less than 3 times `/bin/true`", batch.name), times(*median), 3.0));
    }
    results
}

/// Tokens per second of the library on one CPU, of `--batch` on the same CPU, and of `--batch` on all CPUs.
#[derive(Default)]
struct Rates {
    library: Vec<f64>,
    one: Vec<f64>,
    all: Vec<f64>,
}

/// Measures batches of many tokens, and the library alone.
fn many_tokens(home: &Home, batches: &[Batch], cpus: &[usize], count: usize) -> Vec<Bar> {
    let (first, rest) = cpus.split_at(1);
    let mut rates: Vec<Rates> = batches.iter().map(|_| Rates::default()).collect();
    #[allow(clippy::cast_precision_loss, reason = "a count")]
    let rate = |took: Duration| count as f64 / took.as_secs_f64().max(1e-9);
    for _ in 0..ROUNDS {
        for (batch, rates) in batches.iter().zip(&mut rates) {
            pin_to(first);
            rates.library.push(rate(batch.time_library()));
            // The output is read on another CPU than the batch.
            pin_to(if rest.is_empty() { first } else { rest });
            rates.one.push(rate(batch.time_process(home, first)));
            pin_to(cpus);
            if !rest.is_empty() {
                rates.all.push(rate(batch.time_process(home, cpus)));
            }
        }
    }

    let (mut rows, mut results) = (Vec::new(), Vec::new());
    for (batch, Rates { library, one, all }) in batches.iter().zip(rates) {
        let (library, one, whole) = (middle(library), middle(one), middle(all));
        let name = batch.name;
        let row = |what: &str, rate: f64| {
            let to = |other: f64| format!("{:.2}", rate / other);
            vec![name.to_owned(), what.to_owned(), format!("{rate:.0}"), to(library), to(one)]
        };
        rows.push(row("the library alone, one core", library));
        rows.push(row("`authctl verify - --batch`, one core", one));
        results.push(Bar::at_least(format!("{name}: one core at least 0.9 of the library's"), one / library, 0.9));
        if rest.is_empty() {
            let mut row = vec![name.to_owned()];
            row.extend(absent("`authctl verify - --batch`, all cores", "only one core", 4));
            rows.push(row);
        } else {
            rows.push(row(&format!("`authctl verify - --batch`, all {} cores", cpus.len()), whole));
            results.push(Bar::at_least(format!("{name}: all cores at least 1.7 times one"), whole / one, 1.7));
        }
    }
    let title = format!("{count} tokens, medians of {ROUNDS} alternating rounds, whole processes");
    print(&title, &["signatures", "by", "tokens/s", "to the library", "to one core"], &rows);
    results
}

fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--tokens");
    let count: usize = args.nth(1).map_or(TOKENS, |text| text.parse().expect("--tokens NUMBER"));
    assert!(count > 0, "--tokens NUMBER");
    ends_within(Duration::from_secs(900));
    let home = Home::new();
    let cpus = cpus();
    let batches = [
        Batch::new(&home, "RS256", Algorithm::RS256, &SigningKey::rsa(), count),
        Batch::new(&home, "ES256", Algorithm::ES256, &SigningKey::ec("P-256"), count),
        Batch::new(&home, "EdDSA", Algorithm::EdDSA, &SigningKey::ed25519(), count),
    ];
    let mut results = one_token(&home, &batches);
    results.extend(many_tokens(&home, &batches, &cpus, count));
    bars(&results);
}
