//! Interrupts each operation at its system calls, and checks that no session is lost and nothing is left half done.
//!
//! `cargo test --test crash` tries a sample, `cargo test --test crash -- --all` every call; [`USAGE`] lists the options.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod disk;
mod injector;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../support/keyring.rs"]
mod keyring;
mod operations;
mod power;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use injector::{FAULTS, Fault};
use operations::{OPERATIONS, Operation, Outcome, Trial};
use world::{StoreKind, World};

/// One row of the table.
#[derive(Clone, Copy)]
struct Row {
    operation: Operation,
    store: StoreKind,
    strict: bool,
}

impl Row {
    fn name(self) -> String {
        let issuer = match (self.operation.refreshes(), self.strict) {
            (false, _) => "",
            (true, true) => ", strict issuer",
            (true, false) => ", issuer with grace",
        };
        format!("{}, {}{issuer}", self.operation.name(), self.store.name())
    }

    fn all() -> Vec<Self> {
        let stores = [StoreKind::File, StoreKind::Keychain];
        let rows = OPERATIONS.iter().flat_map(|&operation| {
            let issuers = if operation.refreshes() { &[true, false][..] } else { &[true] };
            issuers.iter().flat_map(move |&strict| stores.map(move |store| Self { operation, store, strict }))
        });
        rows.filter(|row: &Self| row.store == StoreKind::File || row.operation.passphrases().is_none()).collect()
    }
}

const USAGE: &str = "\
--all          try as many calls as the time allows
--minutes N    the time for --all, 60 by default; each row gets its part, with the tries spread evenly over its calls
--seed N       repeat a run
--tries N      without --all, the number of tries of each row
--only WORDS   only the rows with WORDS in their names
--jobs N       run as many rows at once, 2 by default
--at FAULT N   only the Nth of the calls that the fault can hit";

struct Options {
    all: bool,
    minutes: u64,
    seed: u64,
    tries: usize,
    jobs: usize,
    only: Option<String>,
    at: Option<(String, usize)>,
    /// The name of a test, which is none of these.
    filter: Option<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self {
            all: false,
            minutes: 60,
            seed: RandomState::new().hash_one(0) % 1_000_000,
            tries: 4,
            jobs: 2,
            only: None,
            at: None,
            filter: None,
        };
        let mut args = std::env::args().skip(1);
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).expect("a number");
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                "--all" => options.all = true,
                "--minutes" => options.minutes = number(args.next()),
                "--seed" => options.seed = number(args.next()),
                "--tries" => options.tries = usize::try_from(number(args.next())).expect("a number"),
                "--jobs" => options.jobs = usize::try_from(number(args.next())).expect("a number"),
                "--only" => options.only = args.next(),
                "--at" => {
                    let fault = args.next().expect("a fault");
                    options.at = Some((fault, usize::try_from(number(args.next())).expect("a number")));
                }
                // Options of the usual test harness.
                option if option.starts_with('-') => {}
                filter => options.filter = Some(filter.to_owned()),
            }
        }
        options
    }
}

/// A generator of random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).expect("below")
    }
}

/// Returns the numbers below `len` in an order of which each beginning is spread evenly over them, from `start` on.
pub fn spread(len: usize, start: usize) -> impl Iterator<Item = usize> {
    let bits = (usize::BITS - len.leading_zeros()).max(1);
    let reversed = (0..1usize << bits).map(move |number| number.reverse_bits() >> (usize::BITS - bits));
    reversed.filter(move |number| *number < len).map(move |number| (number + start) % len)
}

/// Does the `work` of each item, `jobs` at a time, and returns the results in their order. Each gets its part of the time until
/// `end`.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    end: Option<Instant>,
    work: impl Fn(&T, Option<Instant>) -> R + Sync,
) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let (left, now) = (u32::try_from(items.len() - at).expect("few"), Instant::now());
                    let at_once = left.min(u32::try_from(jobs).expect("few"));
                    let until = end.map(|end| now + end.saturating_duration_since(now) * at_once / left);
                    let result = work(item, until);
                    results.lock().expect("ok").insert(at, result);
                }
            });
        }
    });
    results.into_inner().expect("ok").into_values().collect()
}

/// The results of a row.
#[derive(Default)]
struct Results {
    tries: [usize; FAULTS.len()],
    /// The calls of an undisturbed run that each fault can hit.
    counts: [usize; FAULTS.len()],
    not_received: usize,
    not_written: usize,
    wrong: Vec<String>,
    /// The calls between the reply and the write of an undisturbed run.
    between: Vec<String>,
    took: Duration,
}

/// The part of the time that is for the rows. The rest is for power failures.
const ROWS_PART: f64 = 0.75;

fn main() {
    let options = Options::parse();
    if let Some(filter) = &options.filter {
        return println!("the crash test is left out: only `{filter}` was to run");
    }
    let (what, time) = match options.all {
        true => ("the crash test", Some(Duration::from_secs(60 * options.minutes))),
        false => ("a sample of the crash test", None),
    };
    let all = if options.all { "--all " } else { "" };
    println!("{what}; repeat it with: cargo test --test crash -- {all}--seed {}", options.seed);
    let started = Instant::now();
    let chosen = |row: &Row| options.only.as_ref().is_none_or(|only| row.name().contains(only.as_str()));
    let rows: Vec<Row> = Row::all().into_iter().filter(chosen).collect();
    print_heading();
    let end = time.map(|time| started + time.mul_f64(ROWS_PART));
    let results = in_parallel(&rows, options.jobs, end, |row, until| {
        let result = run_row(*row, &options, until);
        print_row(*row, &result);
        result
    });
    print_sums(&rows, &results);
    print_power_heading();
    let end = time.map(|time| started + time);
    let power = in_parallel(&power::rows(&options), options.jobs, end, |(operation, store), until| {
        let result = power::run(*operation, *store, &options, until);
        print_power(&result);
        result
    });
    for result in &power {
        for wrong in result.wrong.iter().take(5) {
            println!("\npower failure during {}, {}, {wrong}", result.operation.name(), result.store.name());
        }
    }
    let wrong: usize = results.iter().map(|result| result.wrong.len()).sum();
    if wrong + power.iter().map(|result| result.wrong.len()).sum::<usize>() > 0 {
        std::process::exit(1);
    }
}

/// Runs the operation undisturbed, and then with each chosen fault, until the time is up.
fn run_row(row: Row, options: &Options, until: Option<Instant>) -> Results {
    let (started, mut results) = (Instant::now(), Results::default());
    let mut world = World::new(row.store, row.strict);
    let undisturbed = attempt(row, &mut world, None);
    record(row, &mut results, &undisturbed, "undisturbed".into());
    results.between.clone_from(&undisturbed.between);
    results.counts = undisturbed.counts;
    let mut random = Random(options.seed ^ u64::from(row.strict) << 32 ^ row.name().len() as u64);
    let plan: Vec<(usize, usize)> = if let Some((name, nth)) = &options.at {
        FAULTS.iter().position(|fault| fault.name() == name).map(|fault| (fault, *nth)).into_iter().collect()
    } else if options.all {
        // The calls of two runs differ a little: those after the last of the first run are tried as well.
        let counts = undisturbed.counts.iter().enumerate();
        let all: Vec<_> =
            counts.flat_map(|(fault, &count)| (1..=count + count / 20).map(move |nth| (fault, nth))).collect();
        spread(all.len(), random.below(all.len())).map(|at| all[at]).collect()
    } else {
        (0..options.tries)
            .map(|_| {
                // Half of them are kills.
                let fault = if random.below(2) == 0 { 0 } else { random.below(FAULTS.len()) };
                (fault, 1 + random.below(undisturbed.counts[fault]))
            })
            .collect()
    };
    for (fault, nth) in plan {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let trial = attempt(row, &mut world, Some((FAULTS[fault], nth)));
        let Some(hit) = &trial.hit else { continue };
        results.tries[fault] += 1;
        results.counts[fault] = results.counts[fault].max(nth);
        record(row, &mut results, &trial, format!("{} {nth}: {hit}", FAULTS[fault].name()));
        if matches!(trial.outcome, Outcome::Wrong(_)) {
            // What it left must not spoil the others.
            world = World::new(row.store, row.strict);
        }
    }
    results.took = started.elapsed();
    results
}

fn attempt(row: Row, world: &mut World, fault: Option<(Fault, usize)>) -> Trial {
    catch_unwind(AssertUnwindSafe(|| row.operation.run(world, fault))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let outcome = Outcome::Wrong(text.unwrap_or_else(|| "panic".into()));
        Trial { hit: Some("unknown".into()), counts: Default::default(), outcome, between: Vec::new() }
    })
}

fn record(row: Row, results: &mut Results, trial: &Trial, at: String) {
    match &trial.outcome {
        Outcome::Intact => {}
        Outcome::NotReceived => results.not_received += 1,
        Outcome::NotWritten => results.not_written += 1,
        Outcome::Wrong(why) => {
            eprintln!("{}, {at}: {why}", row.name());
            results.wrong.push(format!("{at}: {why}"));
        }
    }
}

fn print_heading() {
    let faults: Vec<&str> = FAULTS.iter().map(|fault| fault.name()).collect();
    println!(
        "\nTries of the calls that each fault can hit, inherent losses (not received, not written), and avoidable ones.\n"
    );
    println!("| operation | {} | not received | not written | avoidable | s |", faults.join(" | "));
    println!("|{}", " --- |".repeat(FAULTS.len() + 5));
}

fn print_row(row: Row, result: &Results) {
    let tries: Vec<String> =
        result.tries.iter().zip(result.counts).map(|(tries, count)| format!("{tries}/{count}")).collect();
    let (lost, unwritten, wrong) = (result.not_received, result.not_written, result.wrong.len());
    let took = result.took.as_secs();
    println!("| {} | {} | {lost} | {unwritten} | {wrong} | {took} |", row.name(), tries.join(" | "));
}

fn print_sums(rows: &[Row], results: &[Results]) {
    let sum = |count: fn(&Results) -> usize| results.iter().map(count).sum::<usize>();
    println!(
        "\n{} tries of {}. Sessions lost because the reply was not received: {}; received and not written: {}.",
        sum(|result| result.tries.iter().sum()),
        sum(|result| result.counts.iter().sum()),
        sum(|result| result.not_received),
        sum(|result| result.not_written)
    );
    println!("Avoidable losses: {}.", sum(|result| result.wrong.len()));
    for (row, result) in rows.iter().zip(results) {
        if row.operation == Operation::Refresh && !result.between.is_empty() {
            let mut calls = BTreeMap::<&str, usize>::new();
            for call in &result.between {
                *calls.entry(call.split('(').next().unwrap_or(call)).or_default() += 1;
            }
            let calls: Vec<String> = calls.iter().map(|(call, times)| format!("{times} {call}")).collect();
            let (name, count) = (row.name(), result.between.len());
            println!("\n{count} calls between the reply and the written session, {name}: {}.", calls.join(", "));
        }
        for wrong in &result.wrong {
            println!("\n{}, {wrong}", row.name());
        }
    }
}

fn print_power_heading() {
    println!("\nStates of the disk that a power failure may leave, all of which are read.\n");
    println!("| power failure during | changes | given to the program | neither old nor new | s |");
    println!("| --- | --- | --- | --- | --- |");
}

fn print_power(result: &power::PowerResults) {
    let power::PowerResults { operation, store, changes, states, run, wrong, seconds } = result;
    let (name, store, wrong) = (operation.name(), store.name(), wrong.len());
    println!("| {name}, {store} | {changes} | {run}/{states} | {wrong} | {seconds} |");
}
