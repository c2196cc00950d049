//! The agent's resident memory with few and with many profiles, and the cost of a request.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::time::{Duration, Instant};

use support::constant::Constant;
use support::load::{self, Client, LoadRequest, ReplyEnd, Target};
use support::sessions::name;
use support::table::{Bar, absent, bars, mb, middle, print, ratio, us};
use support::{Agent, Home, Issuer, ends_within, http, resident};

/// The numbers of profiles of the agents.
const COUNTS: [usize; 3] = [10, 1_000, 10_000];
/// Their limits of resident memory, in bytes.
const MAX: [Option<u64>; 3] = [Some(8_000_000), Some(32_000_000), None];

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
/// The maximum ratio of two medians that count as equal.
const MAX_RATIO: f64 = 1.15;

struct FilledAgent<'a> {
    agent: Agent<'a>,
    target: Target,
    /// The time of the first requests for all profiles.
    fill_time: Duration,
    at_rest: u64,
    medians: Vec<f64>,
}

impl<'a> FilledAgent<'a> {
    /// Starts the agent and requests each profile's token once.
    fn start(home: &'a Home, tokens: &[String]) -> Self {
        let agent = home.agent();
        let request = |(number, token): (usize, &String)| {
            let path = format!("/v1/token/{}", name(number));
            LoadRequest { bytes: http::request("GET", &path, "authctl", "", ""), expected: token.clone() }
        };
        let requests = tokens.iter().enumerate().map(request).collect();
        let target = Target { socket: home.socket(), ends: ReplyEnd::Length, reused: true, requests };
        let started = Instant::now();
        let mut client = Client::new(&target);
        for (number, request) in target.requests.iter().enumerate() {
            client.request(request).unwrap_or_else(|e| panic!("profile {number}: {e}"));
        }
        drop(client);
        let fill_time = started.elapsed();
        std::thread::sleep(Duration::from_secs(1));
        let (at_rest, _) = resident(agent.id);
        Self { agent, target, fill_time, at_rest, medians: Vec::new() }
    }
}

fn main() {
    support::constant::run_as_server_if_requested();
    ends_within(Duration::from_secs(900));
    let issuer = Issuer::start("1d");
    let homes = COUNTS.map(|count| {
        let home = Home::new();
        let tokens = home.fill(&issuer, count);
        (home, tokens)
    });
    let mut agents: Vec<FilledAgent<'_>> =
        homes.iter().map(|(home, tokens)| FilledAgent::start(home, tokens)).collect();
    let reply = agents[0].agent.request("GET", &format!("/v1/token/{}", name(0)));
    let constant = Constant::start(&homes[0].0, &reply);
    let floor = Target { socket: constant.socket.clone(), ..agents[0].target.clone() };
    let floor = Target { requests: floor.requests[..1].to_vec(), ..floor };
    let mut floors = Vec::new();
    for _ in 0..ROUNDS {
        floors.push(p50(&floor));
        for full in &mut agents {
            let median = p50(&full.target);
            full.medians.push(median);
        }
    }
    let floor_p50 = Duration::from_secs_f64(middle(floors));
    let costs: Vec<Duration> =
        agents.iter().map(|full| Duration::from_secs_f64(middle(full.medians.clone()))).collect();

    let columns = ["agent", "profiles", "resident", "peak", "processes", "a request, p50", "first request of each"];
    let (now, peak) = resident(constant.id());
    let row = |name: &str, count: &str, now: u64, peak: &str, processes: usize, p50: &str, once: &str| {
        [name, count, &mb(now), peak, &processes.to_string(), p50, once].map(str::to_owned).to_vec()
    };
    let mut rows = vec![row("bare hyper server", "", now, &mb(peak), 1, &us(floor_p50), "")];
    for ((full, count), cost) in agents.iter().zip(COUNTS).zip(&costs) {
        let (peak, once) = (mb(resident(full.agent.id).1), format!("{:.2} s", full.fill_time.as_secs_f64()));
        rows.push(row("authctl", &count.to_string(), full.at_rest, &peak, 1, &us(*cost), &once));
    }
    for found in support::peers::all(&issuer, COUNTS[0]) {
        rows.push(match found.peer.as_ref().map(support::peers::Peer::resident) {
            Ok(Some((now, processes))) => row(found.name, &COUNTS[0].to_string(), now, "", processes, "", ""),
            Ok(None) => absent(found.name, "has no agent", columns.len()),
            Err(why) => absent(found.name, why, columns.len()),
        });
    }
    print("Memory with every profile cached, and the cost of a request, one client", &columns, &rows);

    let mut results = Vec::new();
    for ((full, count), max) in agents.iter().zip(COUNTS).zip(MAX) {
        if let Some(max) = max {
            let what = format!("resident under {} with {count} profiles", mb(max));
            results.push(Bar::new(what, mb(full.at_rest), full.at_rest < max));
        }
    }
    for (cost, count) in costs.iter().zip(COUNTS).skip(1) {
        let what = format!("a request costs the same with {count} profiles as with 10 (within {MAX_RATIO})");
        results.push(Bar::at_most(what, ratio(*cost, costs[0]), MAX_RATIO));
    }
    bars(&results);
}

/// Returns the median latency of one client, in seconds.
fn p50(target: &Target) -> f64 {
    let mut seen = load::run(target, 1, ROUND);
    assert_eq!(seen.errors, 0, "{}", seen.first_error.unwrap_or_default());
    seen.at(0.5).as_secs_f64()
}
