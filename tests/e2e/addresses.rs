//! An issuer whose name stands for an IPv4 and an IPv6 address, of which one is dead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::network::{CompanyNetwork, NAME};
use crate::support::parts;

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// What a login may take. An address that is waited for takes 8 seconds or more.
const SOON: Duration = Duration::from_secs(5);

/// Listens where nobody answers the first packet any more: the queue for what is not accepted is full.
fn deaf(at: SocketAddr) -> impl Sized {
    let listener = TcpListener::bind(at).expect("the port");
    rustix::net::listen(&listener, 0).expect("a short queue");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(250)) {
        queued.push(stream);
    }
    (listener, queued)
}

/// Logs in and refreshes where the name's first address is `dead`: refuses, or is silent.
fn reaches(alive: IpAddr, dead: IpAddr, silent: bool) {
    parts::require(&["openssl"]);
    let mut company = CompanyNetwork::new();
    let port = company.port();
    let _front = (alive == IPV6).then(|| {
        company.stop_issuer();
        company.front(TcpListener::bind((alive, port)).expect("the port"), company.issuer.address())
    });
    let _deaf = silent.then(|| deaf((dead, port).into()));
    let hosts = format!("{dead} {NAME}\n{alive} {NAME}\n");
    std::fs::write(company.home.path().join("hosts"), hosts).expect("written");
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let start = Instant::now();
    company.log_in().exits(0);
    assert!(start.elapsed() < SOON, "the login took {:?}", start.elapsed());
    let start = Instant::now();
    company.refreshes();
    assert!(start.elapsed() < SOON, "the refresh took {:?}", start.elapsed());
}

#[test]
fn an_ipv6_address_that_refuses() {
    reaches(IPV4, IPV6, false);
}

#[test]
fn an_ipv6_address_that_never_answers() {
    reaches(IPV4, IPV6, true);
}

#[test]
fn an_ipv4_address_that_refuses() {
    reaches(IPV6, IPV4, false);
}

#[test]
fn an_ipv4_address_that_never_answers() {
    reaches(IPV6, IPV4, true);
}
