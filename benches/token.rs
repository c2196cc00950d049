//! The time to print a token, and the state for a shell prompt, whole process, compared with a minimal C client and with peers.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::table::{Bar, absent, bars, ms, percentile, print, ratio};
use support::{Home, Issuer, ends_within, run};

/// The number of runs of each, after the warm-up.
const ROUNDS: usize = 300;
const WARM_UP: usize = 10;

struct Competitor {
    name: String,
    command: Command,
    /// The expected output.
    expected: String,
    took: Vec<Duration>,
}

impl Competitor {
    fn new(name: &str, command: Command, expected: &str) -> Self {
        Self { name: name.to_owned(), command, expected: expected.to_owned(), took: Vec::with_capacity(ROUNDS) }
    }

    /// Measures the time from before the process is started until it has exited and its output was read.
    fn run_once(&mut self) -> Duration {
        let started = Instant::now();
        let mut child = self.command.spawn().expect("spawned");
        let mut output = String::with_capacity(4096);
        child.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
        let status = child.wait().expect("exited");
        let took = started.elapsed();
        assert!(status.success() && output.trim_end() == self.expected, "unexpected output of {}", self.name);
        took
    }
}

/// Compiles the C program.
fn floor(home: &Home) -> Command {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let program = home.path().join("floor");
    let mut compiler = Command::new("cc");
    let compiled = run(compiler.args(["-O2", "-o"]).arg(&program).arg(&source), "");
    assert_eq!(compiled.code, 0, "a C compiler is needed: {}", compiled.stderr);
    home.command(program, &[&home.socket().to_string_lossy()])
}

fn main() {
    ends_within(Duration::from_secs(600));
    let issuer = Issuer::start("1d");
    let home = Home::new();
    home.log_in("work", &issuer);
    let token = home.token("work");
    let in_prompt = "`authctl status --short`";
    let peers = support::peers::all(&issuer, 1);
    let agent = home.agent();
    assert_eq!(agent.request("GET", "/v1/token/work").member("access_token"), token, "the agent has the token");

    let mut all = vec![
        Competitor::new("`/bin/true`", home.command("/bin/true", &[]), ""),
        Competitor::new("minimal client in C", floor(&home), &token),
        Competitor::new("`authctl token work`", home.authctl(&["token", "work"]), &token),
        Competitor::new(in_prompt, home.authctl(&["status", "--short"]), "work"),
    ];
    for found in &peers {
        if let Ok(peer) = &found.peer {
            all.push(Competitor::new(&format!("`{}`", short_name(&peer.show)), peer.show_command(), &peer.token));
        }
    }
    for competitor in &mut all {
        competitor.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    }
    for round in 0..WARM_UP + ROUNDS {
        for turn in 0..all.len() {
            let at = (turn + round) % all.len();
            let took = all[at].run_once();
            if round >= WARM_UP {
                all[at].took.push(took);
            }
        }
    }

    let medians: Vec<Duration> = all.iter_mut().map(|one| percentile(&mut one.took, 0.5)).collect();
    let columns = ["whole process", "median", "min", "p90", "p99", "to C"];
    let mut rows = Vec::new();
    for (one, median) in all.iter_mut().zip(&medians) {
        let [min, p90, p99] = [0.0, 0.9, 0.99].map(|share| ms(percentile(&mut one.took, share)));
        rows.push(vec![one.name.clone(), ms(*median), min, p90, p99, format!("{:.2}", ratio(*median, medians[1]))]);
    }
    for found in &peers {
        if let Err(why) = &found.peer {
            rows.push(absent(found.name, why, columns.len()));
        }
    }
    print(&format!("Printing a token through the agent, {ROUNDS} alternating runs each"), &columns, &rows);

    let mut results = vec![Bar::at_most("at most 1.3 of the minimal client in C", ratio(medians[2], medians[1]), 1.3)];
    results.push(Bar::at_most(format!("{in_prompt} in ms"), medians[3].as_secs_f64() * 1e3, 5.0));
    for (one, median) in all.iter().zip(&medians).skip(4) {
        results.push(Bar::at_most(format!("less than {}", one.name), ratio(medians[2], *median), 1.0));
    }
    bars(&results);
}

/// Returns a command without its options.
fn short_name(words: &[String]) -> String {
    let words: Vec<&str> =
        words.iter().map(String::as_str).filter(|w| !w.starts_with('-') && !w.contains('/')).collect();
    words.join(" ")
}
