//! An issuer with an IPv4 and an IPv6 address, of which one cannot be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::network::{CompanyNetwork, NAME};
use crate::support::parts;

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How long a login may take. Waiting for a silent address to time out takes 8 seconds.
const LOGIN_LIMIT: Duration = Duration::from_millis(7500);

/// Listens with a full backlog, so that the kernel drops SYN packets.
fn silent_listener(at: SocketAddr) -> impl Sized {
    let listener = TcpListener::bind(at).expect("the port");
    rustix::net::listen(&listener, 0).expect("a short queue");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(250)) {
        queued.push(stream);
    }
    (listener, queued)
}

/// Logs in and refreshes with a first address that refuses connections or, if `silent`, does not respond.
fn reaches(alive: IpAddr, dead: IpAddr, silent: bool) {
    parts::require(&["openssl"]);
    let mut company = CompanyNetwork::new();
    let port = company.port();
    let _front = (alive == IPV6).then(|| {
        company.stop_issuer();
        company.front(TcpListener::bind((alive, port)).expect("the port"), company.issuer.address())
    });
    let _silent = silent.then(|| silent_listener((dead, port).into()));
    let hosts = format!("{dead} {NAME}\n{alive} {NAME}\n");
    std::fs::write(company.home.agent_readable("hosts"), hosts).expect("written");
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let start = Instant::now();
    company.log_in().exits(0);
    assert!(start.elapsed() < LOGIN_LIMIT, "the login took {:?}", start.elapsed());
    let start = Instant::now();
    company.refreshes();
    assert!(start.elapsed() < LOGIN_LIMIT, "the refresh took {:?}", start.elapsed());
}

#[test]
fn refused_ipv6_address_falls_back_to_ipv4() {
    reaches(IPV4, IPV6, false);
}

#[test]
fn silent_ipv6_address_falls_back_to_ipv4() {
    reaches(IPV4, IPV6, true);
}

#[test]
fn refused_ipv4_address_falls_back_to_ipv6() {
    reaches(IPV6, IPV4, false);
}

#[test]
fn silent_ipv4_address_falls_back_to_ipv6() {
    reaches(IPV6, IPV4, true);
}
