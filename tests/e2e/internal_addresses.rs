//! An issuer elsewhere that names addresses on this machine.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use authctl::dev_issuer::Fault;
use serde_json::json;

use crate::network::CompanyNetwork;
use crate::support::parts;

/// Reports each connection to a free port of this machine.
fn local_service() -> (u16, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, connected) = mpsc::channel();
    std::thread::spawn(move || listener.incoming().take_while(|_| sender.send(()).is_ok()).for_each(drop));
    (port, connected)
}

#[test]
fn issuer_elsewhere_sends_no_request_to_a_local_service() {
    parts::require(&["openssl"]);
    let mut company = CompanyNetwork::new();
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let (port, connected) = local_service();
    for (endpoint, host) in [
        ("token_endpoint", "127.0.0.1"),
        ("jwks_uri", "localhost"),
        ("revocation_endpoint", "[::1]"),
        ("authorization_endpoint", "127.0.0.1"),
    ] {
        let set = json!({endpoint: format!("http://{host}:{port}/private")});
        let fault = json!({"endpoint": "metadata", "kind": "edited", "times": 0, "set": set});
        company.issuer.fault(serde_json::from_value::<Fault>(fault).expect("a fault"));
        let refused = company.log_in().exits(5);
        let refused = refused.reports(&format!("{host} has a loopback address")).reports("--token-endpoint");
        assert!(!company.home.session_file("work").exists(), "{endpoint}: {}", refused.stderr);
        company.issuer.clear_faults();
    }
    assert!(connected.recv_timeout(Duration::ZERO).is_err(), "the local service received a request");
    company.log_in().exits(0);
}
