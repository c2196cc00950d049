//! Metadata, and keys that verify what they sign.

use super::*;

#[tokio::test]
async fn tokens_of_each_algorithm_verify_with_published_keys() {
    for (algorithm, name) in [(Algorithm::RS256, "RS256"), (Algorithm::ES256, "ES256"), (Algorithm::EdDSA, "EdDSA")] {
        let issuer = start(Options { algorithm, path: "/tenant".into(), ..options() });
        let base = issuer.url().strip_suffix("/tenant").expect("the path");
        for url in [
            format!("{}/.well-known/openid-configuration", issuer.url()),
            format!("{base}/.well-known/oauth-authorization-server/tenant"),
        ] {
            let (status, metadata) = json_reply(issuer.http.get(url).send().await.expect("sent")).await;
            assert_eq!((status, &metadata["issuer"]), (200, &json!(issuer.url())));
        }
        let (_, jwks) = json_reply(issuer.http.get(format!("{}/jwks", issuer.url())).send().await.expect("sent")).await;
        let tokens = issuer.login().await;
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks).expect("a JWK Set");
        assert_eq!(set.keys.len(), 3);
        for token in ["id_token", "access_token"] {
            let jwt = tokens[token].as_str().expect("a JWT");
            let header = jsonwebtoken::decode_header(jwt).expect("a header");
            assert_eq!(format!("{:?}", header.alg), name);
            let key = set.find(header.kid.as_deref().expect("kid")).expect("published");
            let key = jsonwebtoken::DecodingKey::from_jwk(key).expect("a key");
            let mut validation = jsonwebtoken::Validation::new(header.alg);
            validation.set_audience(&["authctl"]);
            validation.set_issuer(&[issuer.url()]);
            jsonwebtoken::decode::<Value>(jwt, &key, &validation).expect("verifies");
        }
    }
}
