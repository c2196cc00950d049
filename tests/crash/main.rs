//! Interrupts each operation at its system calls, and checks that no session is lost and nothing is left half done.
//!
//! `cargo test --test crash` tries a sample; `cargo test --test crash -- --all` tries every call. Options: `--seed N` repeats a
//! sample, `--tries N` sets its size for each row, `--only WORDS` selects rows, `--jobs N` runs as many rows at once, `--at FAULT N` tries one call.
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

struct Options {
    all: bool,
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
                "--all" => options.all = true,
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

/// The results of a row.
#[derive(Default)]
struct Results {
    tries: [usize; FAULTS.len()],
    not_received: usize,
    not_written: usize,
    wrong: Vec<String>,
    /// The calls between the reply and the write of an undisturbed run.
    between: Vec<String>,
    took: Duration,
}

fn main() {
    let options = Options::parse();
    if let Some(filter) = &options.filter {
        return println!("the crash test is left out: only `{filter}` was to run");
    }
    if !options.all {
        println!("a sample of the crash test; repeat it with: cargo test --test crash -- --seed {}", options.seed);
    }
    let chosen = |row: &Row| options.only.as_ref().is_none_or(|only| row.name().contains(only.as_str()));
    let rows: Vec<Row> = Row::all().into_iter().filter(chosen).collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = rows.get(at) else { return };
                    let result = run_row(*row, &options);
                    results.lock().expect("ok").insert(at, result);
                }
            });
        }
    });
    let results = results.into_inner().expect("ok");
    print_table(&rows, &results);
    let power = power::run(&options);
    print_power(&power);
    let wrong: usize = results.values().map(|result| result.wrong.len()).sum();
    if wrong + power.iter().map(|result| result.wrong.len()).sum::<usize>() > 0 {
        std::process::exit(1);
    }
}

/// Runs the operation undisturbed, and then with each chosen fault.
fn run_row(row: Row, options: &Options) -> Results {
    let (started, mut results) = (Instant::now(), Results::default());
    let mut world = World::new(row.store, row.strict);
    let undisturbed = attempt(row, &mut world, None);
    record(&mut results, &undisturbed, "undisturbed".into());
    results.between.clone_from(&undisturbed.between);
    // The calls of two runs differ a little: those after the last of the first run are tried as well.
    let mut random = Random(options.seed ^ u64::from(row.strict) << 32 ^ row.name().len() as u64);
    let plan: Vec<(usize, usize)> = if let Some((name, nth)) = &options.at {
        FAULTS.iter().position(|fault| fault.name() == name).map(|fault| (fault, *nth)).into_iter().collect()
    } else if options.all {
        let counts = undisturbed.counts.iter().enumerate();
        counts.flat_map(|(fault, &count)| (1..=count + count / 20).map(move |nth| (fault, nth))).collect()
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
        let trial = attempt(row, &mut world, Some((FAULTS[fault], nth)));
        let Some(hit) = &trial.hit else { continue };
        results.tries[fault] += 1;
        record(&mut results, &trial, format!("{} {nth}: {hit}", FAULTS[fault].name()));
        if matches!(trial.outcome, Outcome::Wrong(_)) {
            // What it left must not spoil the others.
            world = World::new(row.store, row.strict);
        }
    }
    results.took = started.elapsed();
    let (tried, wrong) = (results.tries.iter().sum::<usize>(), results.wrong.len());
    eprintln!("{}: {tried} tries, {wrong} avoidable losses, {} s", row.name(), results.took.as_secs());
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

fn record(results: &mut Results, trial: &Trial, at: String) {
    match &trial.outcome {
        Outcome::Kept => {}
        Outcome::NotReceived => results.not_received += 1,
        Outcome::NotWritten => results.not_written += 1,
        Outcome::Wrong(why) => {
            eprintln!("{at}: {why}");
            results.wrong.push(format!("{at}: {why}"));
        }
    }
}

fn print_table(rows: &[Row], results: &BTreeMap<usize, Results>) {
    let faults: Vec<&str> = FAULTS.iter().map(|fault| fault.name()).collect();
    println!("\n| operation | {} | not received | not written | avoidable | s |", faults.join(" | "));
    println!("|{}", " --- |".repeat(FAULTS.len() + 5));
    let mut sums = [0; 4];
    for (at, result) in results {
        let tries: Vec<String> = result.tries.iter().map(ToString::to_string).collect();
        let (lost, unwritten, wrong) = (result.not_received, result.not_written, result.wrong.len());
        let took = result.took.as_secs();
        println!("| {} | {} | {lost} | {unwritten} | {wrong} | {took} |", rows[*at].name(), tries.join(" | "));
        let tried = result.tries.iter().sum();
        for (sum, more) in sums.iter_mut().zip([tried, lost, unwritten, wrong]) {
            *sum += more;
        }
    }
    println!(
        "\n{} tries. Sessions lost because the reply was not received: {}; received and not written: {}.",
        sums[0], sums[1], sums[2]
    );
    println!("Avoidable losses: {}.", sums[3]);
    for (at, result) in results {
        if rows[*at].operation == Operation::Refresh && !result.between.is_empty() {
            let mut calls = BTreeMap::<&str, usize>::new();
            for call in &result.between {
                *calls.entry(call.split('(').next().unwrap_or(call)).or_default() += 1;
            }
            let calls: Vec<String> = calls.iter().map(|(call, times)| format!("{times} {call}")).collect();
            let (name, count) = (rows[*at].name(), result.between.len());
            println!("\n{count} calls between the reply and the written session, {name}: {}.", calls.join(", "));
        }
        for wrong in &result.wrong {
            println!("\n{}, {wrong}", rows[*at].name());
        }
    }
}

fn print_power(results: &[power::PowerResults]) {
    println!("\n| power failure during | changes | states | given to the program | neither old nor new | s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for result in results {
        let power::PowerResults { operation, store, calls, states, run, wrong, seconds } = result;
        println!(
            "| {}, {} | {calls} | {states} | {run} | {} | {seconds} |",
            operation.name(),
            store.name(),
            wrong.len()
        );
    }
    for result in results {
        for wrong in result.wrong.iter().take(5) {
            println!("\npower failure during {}, {}, {wrong}", result.operation.name(), result.store.name());
        }
    }
}
