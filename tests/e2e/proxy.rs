//! HTTP and SOCKS proxies in front of an issuer with a certificate of a private CA.

use std::net::TcpListener;

use crate::agent_support::agent;
use crate::network::{CompanyNetwork, NAME, Proxy, listener, log_in};
use crate::support::free_port;
use crate::support::parts;
use crate::support::{self, Sandbox};

/// The variables that name a proxy.
const VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

const PROXY_USER: &str = "clerk";
const PROXY_PASSWORD: &str = "tr0ub4dor-and-3";

fn company() -> CompanyNetwork {
    parts::require(&["openssl"]);
    let company = CompanyNetwork::new();
    company.home.register_secret(PROXY_PASSWORD);
    company
}

/// Fails the test unless the error names the issuer, the proxy and the reason.
#[track_caller]
fn expect_proxy_error(ran: support::CommandOutput, proxy: &str, why: &str) {
    let ran = ran.exits(6).reports(NAME).reports(&format!("proxy {proxy}")).reports(why);
    // The variable at a login; later `doctor`, which names it.
    assert!(["HTTPS_PROXY", "authctl doctor work"].iter().any(|hint| ran.stderr.contains(hint)), "{}", ran.stderr);
    assert!(!ran.stderr.contains(PROXY_USER), "the user name of the proxy is printed: {}", ran.stderr);
}

#[test]
fn http_proxy_is_taken_from_each_variable() {
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
    // HTTP_PROXY does not apply to https, and only the proxy can resolve the name of the issuer.
    company.home.set("HTTP_PROXY", &url);
    company.home.advance_time("work", 301);
    company.home.run(&["refresh", "work"]).exits(6).reports("cannot resolve issuer.test");
    assert_eq!(proxy.used(), used);
}

#[test]
fn http_proxy_with_a_password() {
    let mut company = company();
    let proxy = Proxy::http(&company, Some((PROXY_USER, PROXY_PASSWORD)));
    company.home.set("HTTPS_PROXY", format!("http://{}", proxy.at));
    expect_proxy_error(company.log_in(), &proxy.at, "requires another user name and password");
    company.home.register_secret("wrong-words");
    company.home.set("HTTPS_PROXY", format!("http://{PROXY_USER}:wrong-words@{}", proxy.at));
    // tinyproxy responds with 401 instead of 407.
    expect_proxy_error(company.log_in(), &proxy.at, "did not connect to");
    assert_eq!(company.issuer.stats().requests.len(), 0);
    company.home.set("HTTPS_PROXY", format!("http://{PROXY_USER}:{PROXY_PASSWORD}@{}", proxy.at));
    company.log_in().exits(0);
    company.refreshes();
    assert!(company.home.leaks_in_files().iter().all(|file| file.ends_with("tinyproxy.conf")));
}

#[test]
fn https_proxy_is_used() {
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
    expect_proxy_error(company.home.run(&["refresh", "work"]), &format!("{NAME}:{port}"), "refused");
}

#[test]
fn agent_uses_the_proxy_it_was_started_with() {
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
fn socks_proxy_is_used() {
    let mut company = company();
    let proxy = Proxy::socks(&company, None);
    company.home.set("ALL_PROXY", format!("socks5h://{}", proxy.at));
    company.log_in().exits(0);
    let used = proxy.used();
    assert!(used > 0, "the proxy was used");
    company.refreshes();
    assert!(proxy.used() > used, "the proxy was used for the refresh");
    // With socks5 the client resolves the name, which fails at first.
    company.home.set("ALL_PROXY", format!("socks5://{}", proxy.at));
    company.home.advance_time("work", 301);
    let ran = company.home.run(&["refresh", "work"]).exits(6).reports("cannot resolve issuer.test");
    assert!(!ran.stderr.contains("the proxy"), "{}", ran.stderr);
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let used = proxy.used();
    company.home.run(&["refresh", "work"]).exits(0);
    assert!(proxy.used() > used, "the proxy was used");
}

#[test]
fn socks_proxy_with_a_password() {
    let mut company = company();
    let proxy = Proxy::socks(&company, Some((PROXY_USER, PROXY_PASSWORD)));
    company.home.set("HTTPS_PROXY", format!("socks5h://{}", proxy.at));
    expect_proxy_error(company.log_in(), &proxy.at, "requires another user name and password");
    company.home.register_secret("wrong-words");
    company.home.set("HTTPS_PROXY", format!("socks5h://{PROXY_USER}:wrong-words@{}", proxy.at));
    expect_proxy_error(company.log_in(), &proxy.at, "requires another user name and password");
    company.home.set("HTTPS_PROXY", format!("socks5h://{PROXY_USER}:{PROXY_PASSWORD}@{}", proxy.at));
    company.log_in().exits(0);
    company.refreshes();
    assert_eq!(company.home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn no_proxy_bypasses_the_proxy() {
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
    // As curl reads them: the lower case first, unless it is empty.
    for (lower, upper) in [("issuer.test", "other.test"), ("", "issuer.test")] {
        company.home.set("no_proxy", lower);
        company.home.set("NO_PROXY", upper);
        company.log_in().exits(0);
        assert_eq!(proxy.used(), 0, "{lower} {upper}");
    }
    company.home.set("no_proxy", "other.test");
    company.log_in().exits(0);
    assert!(proxy.used() > 0);
}

#[test]
fn unreachable_proxy_is_reported_without_its_password() {
    let mut company = company();
    let good = Proxy::http(&company, None);
    company.home.set("HTTPS_PROXY", format!("http://{}", good.at));
    company.log_in().exits(0);
    let unused = format!("127.0.0.1:{}", free_port());
    for (scheme, why) in [("http", "refused"), ("socks5h", "failed")] {
        company.home.set("HTTPS_PROXY", format!("{scheme}://{PROXY_USER}:{PROXY_PASSWORD}@{unused}"));
        expect_proxy_error(company.log_in(), &unused, why);
    }
    company.home.set("HTTPS_PROXY", format!("http://{PROXY_USER}:{PROXY_PASSWORD}@proxy.invalid:3128"));
    expect_proxy_error(company.log_in(), "proxy.invalid:3128", "cannot resolve the proxy");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("bound").to_string();
    company.home.set("HTTPS_PROXY", format!("http://{PROXY_USER}:{PROXY_PASSWORD}@{at}"));
    expect_proxy_error(company.home.run(&["refresh", "work", "-vvv"]), &at, "timed out");
    // The session is intact.
    company.home.set("HTTPS_PROXY", format!("http://{}", good.at));
    company.home.run(&["refresh", "work"]).exits(0);
    assert_eq!(company.issuer.stats().token_requests["refresh_token"], 1);
}

#[test]
fn proxy_that_cannot_reach_the_issuer_is_reported() {
    let mut company = company();
    let proxy = Proxy::http(&company, None);
    company.home.set("HTTPS_PROXY", format!("http://{}", proxy.at));
    company.log_in().exits(0);
    company.stop_issuer();
    company.home.advance_time("work", 301);
    expect_proxy_error(company.home.run(&["refresh", "work"]), &proxy.at, "did not connect to");
    drop(proxy);
    let proxy = Proxy::socks(&company, None);
    company.home.set("HTTPS_PROXY", format!("socks5h://{}", proxy.at));
    expect_proxy_error(company.home.run(&["refresh", "work"]), &proxy.at, "did not connect to");
}

#[test]
fn loopback_issuer_bypasses_the_proxy() {
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
fn private_ca_is_trusted_only_where_it_is_configured() {
    let mut company = company();
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let ran = company.login(&[]).exits(6).reports("certificate signed by an unknown authority");
    assert!(ran.stderr.contains("--ca-cert") && ran.stderr.contains("SSL_CERT_FILE"), "{}", ran.stderr);
    assert_eq!(company.issuer.stats().requests.len(), 0);
    company.home.set("SSL_CERT_FILE", company.authority());
    company.login(&[]).exits(0);
    company.refreshes();
    company.home.unset("SSL_CERT_FILE");
    company.home.advance_time("work", 301);
    company.home.run(&["refresh", "work"]).exits(6).reports("certificate signed by an unknown authority");
    // `--ca-cert` is stored in the profile.
    company.log_in().exits(0);
    company.refreshes();
}
