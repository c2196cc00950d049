//! The throughput of the agent with 16 clients, compared with a bare hyper server and with peers.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::time::Duration;

use support::constant::Constant;
use support::load::{self, LoadRequest, LoadResult, ReplyEnd, Target};
use support::table::{Bar, absent, bars, middle, ms, print, us};
use support::{Home, Issuer, ends_within, http};

const CLIENTS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);

const REUSED: &str = "reused";
const PER_REQUEST: &str = "one per request";

struct Competitor {
    name: String,
    connections: &'static str,
    target: Target,
    rounds: Vec<LoadResult>,
}

impl Competitor {
    fn rate(&self) -> f64 {
        middle(self.rounds.iter().map(LoadResult::rate).collect())
    }

    /// Returns the median over the rounds of a percentile.
    fn at(&mut self, share: f64) -> Duration {
        Duration::from_secs_f64(middle(self.rounds.iter_mut().map(|seen| seen.at(share).as_secs_f64()).collect()))
    }

    /// Returns the maximum latency of all rounds.
    fn worst(&self) -> Duration {
        self.rounds.iter().map(LoadResult::worst).max().unwrap_or_default()
    }

    fn errors(&self) -> u64 {
        self.rounds.iter().map(|seen| seen.errors).sum()
    }
}

fn main() {
    support::constant::run_as_server_if_requested();
    ends_within(Duration::from_secs(600));
    let issuer = Issuer::start("1d");
    let home = Home::new();
    home.log_in("work", &issuer);
    let token = home.token("work");
    let peers = support::peers::all(&issuer, 1);
    let agent = home.agent();
    let reply = agent.request("GET", "/v1/token/work");
    assert_eq!(reply.member("access_token"), token, "the agent has the token");
    let constant = Constant::start(&home, &reply);

    let request = LoadRequest { bytes: http::request("GET", "/v1/token/work", "authctl", "", ""), expected: token };
    let mut all = Vec::new();
    for (connections, reused) in [(REUSED, true), (PER_REQUEST, false)] {
        for (name, socket) in [("bare hyper server", constant.socket.clone()), ("authctl agent", home.socket())] {
            let target = Target { socket, ends: ReplyEnd::Length, reused, requests: vec![request.clone()] };
            all.push(Competitor { name: name.to_owned(), connections, target, rounds: Vec::new() });
        }
    }
    for found in &peers {
        if let Ok(target) = found.peer.as_ref().map(|peer| &peer.target)
            && let Some(target) = target
        {
            let (name, target) = (found.name.to_owned(), target.clone());
            all.push(Competitor { name, connections: PER_REQUEST, target, rounds: Vec::new() });
        }
    }
    for one in &mut all {
        load::run(&one.target, CLIENTS, WARM_UP);
    }
    for _ in 0..ROUNDS {
        for one in &mut all {
            one.rounds.push(load::run(&one.target, CLIENTS, ROUND));
        }
    }

    let columns = ["server", "connections", "req/s", "p50", "p99", "worst", "errors"];
    let mut rows = Vec::new();
    for one in &mut all {
        let (p50, p99) = (one.at(0.5), one.at(0.99));
        rows.push(vec![
            one.name.clone(),
            one.connections.to_owned(),
            format!("{:.0}", one.rate()),
            us(p50),
            us(p99),
            ms(one.worst()),
            one.errors().to_string(),
        ]);
    }
    for found in &peers {
        match &found.peer {
            Ok(peer) if peer.target.is_none() => rows.push(absent(found.name, "has no agent", columns.len())),
            Ok(_) => {}
            Err(why) => rows.push(absent(found.name, why, columns.len())),
        }
    }
    let title = format!("{CLIENTS} clients, medians of {ROUNDS} alternating rounds of {} s", ROUND.as_secs());
    print(&title, &columns, &rows);
    judge(&mut all);
}

fn judge(all: &mut [Competitor]) {
    let mut results = Vec::new();
    let rate = |all: &[Competitor], name: &str, connections: &str| {
        all.iter().find(|one| one.name == name && one.connections == connections).map(Competitor::rate)
    };
    let own = |connections| rate(all, "authctl agent", connections).unwrap_or_default();
    for connections in [REUSED, PER_REQUEST] {
        let floor = rate(all, "bare hyper server", connections).unwrap_or(f64::MAX);
        let what = format!("{connections}: at least 0.85 of a bare hyper server");
        results.push(Bar::at_least(what, own(connections) / floor, 0.85));
    }
    for (name, minimum) in [("oidc-agent", 3.0), ("pizauth", 1.5)] {
        if let Some(rate) = rate(all, name, PER_REQUEST) {
            results.push(Bar::at_least(format!("at least {minimum} times {name}"), own(PER_REQUEST) / rate, minimum));
        }
    }
    for one in all.iter_mut().filter(|one| one.name == "authctl agent") {
        let (p99, worst, errors) = (one.at(0.99), one.worst(), one.errors());
        let what = |text: &str| format!("{}: {text}", one.connections);
        results.push(Bar::new(what("p99 under 2 ms"), ms(p99), p99 < Duration::from_millis(2)));
        results.push(Bar::new(what("worst under 50 ms"), ms(worst), worst < Duration::from_millis(50)));
        let first = one.rounds.iter().find_map(|seen| seen.first_error.clone()).unwrap_or_default();
        results.push(Bar::new(what("no error"), format!("{errors} {first}").trim().to_owned(), errors == 0));
    }
    bars(&results);
}
