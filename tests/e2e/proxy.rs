//! Through proxies that nobody here wrote, to an issuer whose certificate is by an authority of one's own.

use std::net::TcpListener;

use crate::agent_support::agent;
use crate::network::{CompanyNetwork, NAME, Proxy, free_port, listener, log_in};
use crate::support::parts;
use crate::support::{self, Sandbox};

/// Everything that says where a proxy is.
const VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

const CLERK: &str = "clerk";
const CLERKS_PASSWORD: &str = "tr0ub4dor-and-3";

fn company() -> CompanyNetwork {
    parts::require(&["openssl"]);
    let company = CompanyNetwork::new();
    company.home.register_secret(CLERKS_PASSWORD);
    company
}

/// Fails unless it says that nothing was reached, and which proxy it was that did not do.
#[track_caller]
fn blames(ran: support::CommandOutput, proxy: &str, why: &str) {
    let ran = ran.exits(6).reports(NAME).reports(&format!("the proxy {proxy} ")).reports(why).reports("HTTPS_PROXY");
    assert!(!ran.stderr.contains(CLERK), "the user of the proxy is nobody's business: {}", ran.stderr);
}

#[test]
fn through_an_http_proxy_by_each_of_its_variables() {
    let mut company = company();
    let proxy = Proxy::http(&company, None);
    let url = format!("http://{}", proxy.at);
    company.home.set("HTTPS_PROXY", &url);
    company.log_in().exits(0);
    company.home.unset("HTTPS_PROXY");
    let mut used = proxy.used();
    assert!(used > 0, "the proxy was used");
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        company.home.set(variable, &url);
        company.refreshes();
        company.home.unset(variable);
        assert!(proxy.used() > used, "{variable}");
        used = proxy.used();
    }
    // The issuer is https, and only the proxy finds it.
    company.home.set("HTTP_PROXY", &url);
    company.home.advance_time("work", 301);
    company.home.run(&["refresh", "work"]).exits(6).reports("its name could not be resolved");
    assert_eq!(proxy.used(), used);
}

#[test]
fn through_an_http_proxy_that_wants_a_password() {
    let mut company = company();
    let proxy = Proxy::http(&company, Some((CLERK, CLERKS_PASSWORD)));
    company.home.set("HTTPS_PROXY", format!("http://{}", proxy.at));
    blames(company.log_in(), &proxy.at, "407");
    company.home.register_secret("wrong-words");
    company.home.set("HTTPS_PROXY", format!("http://{CLERK}:wrong-words@{}", proxy.at));
    // This proxy says 401 then, where 407 is meant.
    blames(company.log_in(), &proxy.at, "maybe the user name and password");
    assert_eq!(company.issuer.stats().requests.len(), 0);
    company.home.set("HTTPS_PROXY", format!("http://{CLERK}:{CLERKS_PASSWORD}@{}", proxy.at));
    company.log_in().exits(0);
    company.refreshes();
    assert!(company.home.leaks_in_files().iter().all(|file| file.ends_with("tinyproxy.conf")));
}

#[test]
fn through_a_proxy_that_speaks_tls_itself() {
    let mut company = company();
    let proxy = Proxy::http(&company, None);
    let (listener, port) = listener();
    let front = company.front(listener, proxy.at.parse().expect("an address"));
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    company.home.set("HTTPS_PROXY", format!("https://{NAME}:{port}"));
    company.log_in().exits(0);
    let used = proxy.used();
    assert!(used > 0, "the proxy was used");
    company.refreshes();
    assert!(proxy.used() > used, "the proxy was used for the refresh");
    drop(front);
    company.home.advance_time("work", 301);
    blames(company.home.run(&["refresh", "work"]), &format!("{NAME}:{port}"), "no connection to or through the proxy");
}

#[test]
fn the_agent_refreshes_through_the_proxy_that_it_was_started_with() {
    let mut company = company();
    let proxy = Proxy::http(&company, None);
    company.home.set("HTTPS_PROXY", format!("http://{}", proxy.at));
    company.log_in().exits(0);
    let _agent = agent(&company.home, &[]);
    company.home.unset("HTTPS_PROXY");
    let used = proxy.used();
    company.home.run(&["refresh", "work"]).exits(0);
    assert!(proxy.used() > used, "the proxy was used");
    assert_eq!(company.issuer.stats().token_requests["refresh_token"], 1);
}

#[test]
fn through_a_socks_proxy() {
    let mut company = company();
    let proxy = Proxy::socks(&company, None);
    company.home.set("ALL_PROXY", format!("socks5h://{}", proxy.at));
    company.log_in().exits(0);
    let used = proxy.used();
    assert!(used > 0, "the proxy was used");
    company.refreshes();
    assert!(proxy.used() > used, "the proxy was used for the refresh");
    // socks5 looks the name up here, where nobody knows it, until somebody does.
    company.home.set("ALL_PROXY", format!("socks5://{}", proxy.at));
    company.home.advance_time("work", 301);
    let ran = company.home.run(&["refresh", "work"]).exits(6).reports("its name could not be resolved");
    assert!(!ran.stderr.contains("of the proxy"), "{}", ran.stderr);
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let used = proxy.used();
    company.home.run(&["refresh", "work"]).exits(0);
    assert!(proxy.used() > used, "the proxy was used");
}

#[test]
fn through_a_socks_proxy_that_wants_a_password() {
    let mut company = company();
    let proxy = Proxy::socks(&company, Some((CLERK, CLERKS_PASSWORD)));
    company.home.set("HTTPS_PROXY", format!("socks5h://{}", proxy.at));
    blames(company.log_in(), &proxy.at, "it may want a user name and password");
    company.home.register_secret("wrong-words");
    company.home.set("HTTPS_PROXY", format!("socks5h://{CLERK}:wrong-words@{}", proxy.at));
    blames(company.log_in(), &proxy.at, "it does not accept the user name and password");
    company.home.set("HTTPS_PROXY", format!("socks5h://{CLERK}:{CLERKS_PASSWORD}@{}", proxy.at));
    company.log_in().exits(0);
    company.refreshes();
    assert_eq!(company.home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn no_proxy_is_a_way_around_it() {
    let mut company = company();
    let proxy = Proxy::http(&company, None);
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    company.home.set("HTTPS_PROXY", format!("http://{}", proxy.at));
    for none in ["issuer.test", ".test", "*"] {
        company.home.set("NO_PROXY", none);
        company.log_in().exits(0);
        assert_eq!(proxy.used(), 0, "{none}");
    }
    company.home.set("NO_PROXY", "other.test");
    company.log_in().exits(0);
    assert!(proxy.used() > 0);
}

#[test]
fn a_proxy_that_is_down_unknown_or_silent_is_named_without_its_password() {
    let mut company = company();
    let good = Proxy::http(&company, None);
    company.home.set("HTTPS_PROXY", format!("http://{}", good.at));
    company.log_in().exits(0);
    let nobody = format!("127.0.0.1:{}", free_port());
    for scheme in ["http", "socks5h"] {
        company.home.set("HTTPS_PROXY", format!("{scheme}://{CLERK}:{CLERKS_PASSWORD}@{nobody}"));
        blames(company.log_in(), &nobody, "no connection to or through the proxy");
    }
    company.home.set("HTTPS_PROXY", format!("http://{CLERK}:{CLERKS_PASSWORD}@proxy.invalid:3128"));
    blames(company.log_in(), "proxy.invalid:3128", "could not be resolved");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("bound").to_string();
    company.home.set("HTTPS_PROXY", format!("http://{CLERK}:{CLERKS_PASSWORD}@{at}"));
    blames(company.home.run(&["refresh", "work", "-vvv"]), &at, "nothing within 8 seconds");
    // Nothing has happened to the session.
    company.home.set("HTTPS_PROXY", format!("http://{}", good.at));
    company.home.run(&["refresh", "work"]).exits(0);
    assert_eq!(company.issuer.stats().token_requests["refresh_token"], 1);
}

#[test]
fn a_proxy_that_does_not_reach_the_issuer_is_told_from_one_that_is_not_reached() {
    let mut company = company();
    let proxy = Proxy::http(&company, None);
    company.home.set("HTTPS_PROXY", format!("http://{}", proxy.at));
    company.log_in().exits(0);
    company.stop_issuer();
    company.home.advance_time("work", 301);
    blames(
        company.home.run(&["refresh", "work"]),
        &proxy.at,
        "gives no connection to it (it refused, or could not connect",
    );
    drop(proxy);
    let proxy = Proxy::socks(&company, None);
    company.home.set("HTTPS_PROXY", format!("socks5h://{}", proxy.at));
    blames(company.home.run(&["refresh", "work"]), &proxy.at, "gives no connection to it (");
}

#[test]
fn an_issuer_on_this_machine_is_never_asked_through_a_proxy() {
    for ipv6 in [false, true] {
        let issuer = support::issuer(|options| {
            options.algorithm = authctl::dev_issuer::Algorithm::ES256;
            options.ipv6 = ipv6;
        });
        assert_eq!(issuer.issuer().starts_with("http://[::1]:"), ipv6);
        let mut home = Sandbox::new();
        for variable in VARIABLES {
            home.set(variable, format!("http://127.0.0.1:{}", free_port()));
        }
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let first = home.token("work");
        home.advance_time("work", 301);
        assert_ne!(home.token("work"), first);
        home.run(&["verify", "work"]).exits(0);
        home.run(&["logout", "work"]).exits(0);
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named_and_nowhere_else() {
    let mut company = company();
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let ran = company.login(&[]).exits(6).reports("no trusted TLS connection").reports("UnknownIssuer");
    assert!(ran.stderr.contains("--ca-cert") && ran.stderr.contains("SSL_CERT_FILE"), "{}", ran.stderr);
    assert_eq!(company.issuer.stats().requests.len(), 0);
    company.home.set("SSL_CERT_FILE", company.authority());
    company.login(&[]).exits(0);
    company.refreshes();
    company.home.unset("SSL_CERT_FILE");
    company.home.advance_time("work", 301);
    company.home.run(&["refresh", "work"]).exits(6).reports("UnknownIssuer");
    // In the profile it is kept.
    company.log_in().exits(0);
    company.refreshes();
}
