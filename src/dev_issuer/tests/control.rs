//! The control endpoint, which exists only with a control key.

use super::*;

impl TestIssuer {
    /// Runs a control command with the key and returns the status.
    pub(super) async fn control(&self, name: &str, body: &str) -> u16 {
        let key = self.server.issuer.options.control_key.as_ref().expect("control is enabled");
        let request = self.http.post(format!("{}/control/{name}", self.url())).body(body.to_owned());
        let reply = request.header("x-dev-issuer-control", key.expose()).send().await.expect("sent");
        reply.status().as_u16()
    }

    async fn stats_with_key(&self, key: Option<&str>) -> u16 {
        let mut request = self.http.get(format!("{}/control/stats", self.url()));
        if let Some(key) = key {
            request = request.header("x-dev-issuer-control", key);
        }
        request.send().await.expect("sent").status().as_u16()
    }
}

#[tokio::test]
async fn control_does_not_exist_without_a_key() {
    let issuer = start(options());
    for key in [None, Some(""), Some("1")] {
        assert_eq!(issuer.stats_with_key(key).await, 404, "{key:?}");
    }
    let fault = issuer.http.post(format!("{}/control/fault", issuer.url())).body("{}");
    assert_eq!(fault.send().await.expect("sent").status(), 404);
}

#[tokio::test]
async fn control_rejects_a_missing_or_wrong_key() {
    let mut options = options();
    let key = options.enable_control().expect("random").expose().to_owned();
    let issuer = start(options);
    for wrong in [None, Some(""), Some("1"), Some(&key[1..]), Some(&*key.to_lowercase())] {
        assert_eq!(issuer.stats_with_key(wrong).await, 403, "{wrong:?}");
    }
    assert_eq!(issuer.stats_with_key(Some(&key)).await, 200);
}

#[tokio::test]
async fn control_sets_faults_with_the_key() {
    let mut options = options();
    let _ = options.enable_control();
    let issuer = start(options);
    let fault = r#"{"endpoint":"jwks","kind":"empty_body","status":503,"times":1}"#;
    assert_eq!(issuer.control("fault", fault).await, 204);
    let jwks = format!("{}/jwks", issuer.url());
    assert_eq!(issuer.http.get(&jwks).send().await.expect("sent").status(), 503);
    assert_eq!(issuer.control("fault", "{}").await, 400);
    assert_eq!(issuer.control("unknown", "").await, 404);
}
