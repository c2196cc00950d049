//! The server: hosts, limits, paths, and its thread.

use std::net::Ipv4Addr;

use super::*;

#[test]
fn port_is_free_after_drop() {
    let handle = DevIssuer::spawn(options()).expect("started");
    let port = handle.issuer.address.port();
    let url = format!("{}/.well-known/openid-configuration", handle.issuer());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let status = runtime.block_on(async { http().get(url).send().await.expect("sent").status() });
    assert_eq!(status, 200);
    drop(handle);
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
}

#[test]
fn invalid_issuer_paths_are_rejected() {
    for path in ["tenant", "/", "/a/", "/a//b", "/a?b", "/../b", "/ä"] {
        let options = Options { path: path.into(), ..Options::default() };
        assert!(matches!(DevIssuer::spawn(options), Err(DevIssuerError::Path(_))), "{path}");
    }
}

#[tokio::test]
async fn foreign_hosts_and_large_bodies_are_rejected() {
    let issuer = start(options());
    let foreign = issuer.http.get(format!("{}/jwks", issuer.url())).header("host", "attacker.example");
    assert_eq!(foreign.send().await.expect("sent").status(), 421);
    let large = issuer.http.post(format!("{}/token", issuer.url())).body(vec![b'a'; 65 * 1024]);
    assert_eq!(large.send().await.expect("sent").status(), 413);
}
