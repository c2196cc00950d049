//! `authctl doctor` with an issuer whose certificate a private authority has signed.

use serde_json::Value;

use crate::network::{CompanyNetwork, NAME, Proxy};
use crate::support::parts;

/// Returns the status and the message of a check.
#[track_caller]
fn found(report: &Value, check: &str) -> (String, String) {
    let all = report["checks"].as_array().expect("checks");
    let finding = all.iter().find(|finding| finding["check"] == check).expect("found");
    let text = |member: &str| finding[member].as_str().expect("text").to_owned();
    (text("status"), text("message"))
}

#[test]
fn doctor_shows_a_certificate_that_is_not_trusted() {
    parts::require(&["openssl"]);
    let mut company = CompanyNetwork::new();
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    company.log_in().exits(0);
    let report = company.home.run(&["doctor", "--json"]).exits(0).json();
    assert_eq!(found(&report, "tls").0, "ok", "{report}");
    company.home.run(&["profile", "set", "work", "ca_cert="]).exits(0);
    let report = company.home.run(&["doctor", "--json"]).exits(6).json();
    let (status, message) = found(&report, "tls");
    assert_eq!((status.as_str(), found(&report, "connection").0.as_str()), ("error", "ok"), "{report}");
    assert!(message.contains(NAME) && message.contains("certificate signed by an unknown authority"), "{message}");
    assert_eq!(found(&report, "metadata").0, "skipped");
}

#[test]
fn doctor_names_the_proxy_without_its_password() {
    parts::require(&["openssl"]);
    let mut company = CompanyNetwork::new();
    company.home.register_secret("tr0ub4dor-and-3");
    let proxy = Proxy::http(&company, Some(("clerk", "tr0ub4dor-and-3")));
    company.home.set("HTTPS_PROXY", format!("http://clerk:tr0ub4dor-and-3@{}", proxy.at));
    company.log_in().exits(0);
    let ran = company.home.run(&["doctor", "--json"]).exits(0);
    assert!(!ran.stdout.contains("clerk"), "{}", ran.stdout);
    let report = ran.json();
    assert_eq!(found(&report, "proxy"), ("ok".to_owned(), proxy.at.clone()));
    assert_eq!(found(&report, "dns").0, "skipped");
    assert_eq!(found(&report, "tls").0, "ok");
}
