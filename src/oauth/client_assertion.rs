//! Client assertions: authentication with `private_key_jwt` (RFC 7523, section 2.2; OpenID Connect Core 1.0, section 9).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::client_key::{certificate_thumbprint, load};
use super::error::IssuerError;
use super::metadata::Metadata;
use super::random::random;
use crate::clock::{Clock, UnixTime};
use crate::fs::regular_file::{self, ReadError};
use crate::model::{AssertionAudience, ClientKey};
use crate::secret::Secret;
use crate::text::excerpt;

/// The value of `client_assertion_type` (RFC 7523, section 2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The lifetime of an assertion: about as long as a request may take, since it can be used by anyone who sees it.
const LIFETIME: Duration = Duration::from_secs(60);

/// The maximum size of a key file in bytes.
const MAX_KEY_FILE_SIZE: u64 = 64 * 1024;

/// Signs a new assertion for each request.
#[derive(Clone)]
pub struct AssertionSigner {
    key: EncodingKey,
    header: Header,
    audience: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for AssertionSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionSigner")
            .field("header", &self.header)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// The claims of an assertion (RFC 7523, section 3).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: UnixTime,
    exp: UnixTime,
}

impl AssertionSigner {
    /// Loads the client's private key from PEM (PKCS #8, or PKCS #1 for RSA) or a JWK: RSA (signs with RS256, or PS256 if the
    /// issuer lists only that), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA). If a PEM file holds the key's certificate, each
    /// assertion names its thumbprint, by which some issuers identify the key.
    ///
    /// # Errors
    /// [`IssuerError::ClientKey`] if there is no usable key; [`IssuerError::UntrustedFile`] if other users can write to the file.
    pub fn load(key: &ClientKey, metadata: &Metadata, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        let Some(path) = &key.file else {
            return Err(IssuerError::ClientKey { path: PathBuf::new(), detail: "no key file is configured".into() });
        };
        let unusable = |detail: String| IssuerError::ClientKey { path: path.clone(), detail: excerpt(&detail, 200) };
        let bytes = regular_file::read_trusted(path, MAX_KEY_FILE_SIZE).map_err(|error| match error {
            ReadError::Untrusted(error) => error.into(),
            error => unusable(error.to_string()),
        })?;
        let (encoding_key, algorithm, jwk_kid) = load(&bytes).map_err(unusable)?;
        let offered = metadata.token_endpoint_auth_signing_alg_values_supported.as_ref();
        let offers = |name: &str| offered.is_none_or(|all| all.iter().any(|one| one == name));
        let algorithm = match algorithm {
            Algorithm::RS256 if !offers("RS256") && offers("PS256") => Algorithm::PS256,
            algorithm => algorithm,
        };
        let audience = assertion_audience(&key.audience, metadata);
        let mut header = Header::new(algorithm);
        header.kid = key.id.clone().or(jwk_kid);
        header.x5t_s256 = certificate_thumbprint(bytes.expose()).map_err(unusable)?;
        Ok(Self { key: encoding_key, header, audience, clock })
    }

    /// Signs a new assertion for `client_id`. Each is valid for a minute and has its own `jti`.
    pub(super) fn sign(&self, client_id: &str) -> Result<Secret, IssuerError> {
        let now = self.clock.now();
        let claims = Claims {
            iss: client_id,
            sub: client_id,
            aud: &self.audience,
            jti: &random()?,
            iat: now,
            exp: now.plus(LIFETIME),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key).map(Secret::new).map_err(|_| IssuerError::Local {
            action: "sign the client assertion",
            detail: "the key does not sign".into(),
        })
    }
}

/// Returns the `aud` of an assertion for the issuer.
#[must_use]
pub fn assertion_audience(audience: &AssertionAudience, metadata: &Metadata) -> String {
    match audience {
        AssertionAudience::Issuer => metadata.issuer.to_string(),
        AssertionAudience::TokenEndpoint => {
            metadata.token_endpoint.as_ref().map_or_else(|| metadata.issuer.to_string(), ToString::to_string)
        }
        AssertionAudience::Other(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;
    use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::super::client_auth::OAuthClient;
    use super::super::form::{Form, repeats_secret};
    use super::super::testing::TestClock;
    use super::*;
    use crate::model::ClientAuth;

    fn metadata() -> Metadata {
        let mut metadata = Metadata::new("https://a.example/t".parse().expect("valid"));
        metadata.token_endpoint = "https://a.example/t/token".parse().ok();
        metadata
    }

    fn opened(
        text: &str,
        metadata: &Metadata,
        change: impl FnOnce(&mut ClientKey),
    ) -> Result<AssertionSigner, IssuerError> {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("key");
        std::fs::write(&file, text).expect("written");
        let mut key = ClientKey { file: Some(file), ..ClientKey::default() };
        change(&mut key);
        AssertionSigner::load(&key, metadata, Arc::new(TestClock::new()))
    }

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
    }

    fn part(token: &str, at: usize) -> Value {
        let text = token.split('.').nth(at).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
    }

    fn holds(token: &str, algorithm: &'static dyn VerificationAlgorithm, public: &[u8]) -> bool {
        let (signed, signature) = token.rsplit_once('.').expect("signed");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &signature).is_ok()
    }

    #[test]
    fn each_kind_of_key_signs_the_required_claims() {
        let random = SystemRandom::new();
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref()).expect("a key");
            (pem(der.as_ref()), pair.public_key().as_ref().to_vec())
        };
        let (p256, p256_public) = ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let (p384, p384_public) = ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING);
        let ed = Ed25519KeyPair::generate().expect("a key");
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let rsa_pem = pem(AsDer::<Pkcs8V1Der<'_>>::as_der(&rsa).expect("its form").as_ref());
        let cases: [(&str, String, &'static dyn VerificationAlgorithm, Vec<u8>); 4] = [
            ("ES256", p256, &signature::ECDSA_P256_SHA256_FIXED, p256_public),
            ("ES384", p384, &signature::ECDSA_P384_SHA384_FIXED, p384_public),
            (
                "EdDSA",
                pem(ed.to_pkcs8v1().expect("its form").as_ref()),
                &signature::ED25519,
                ed.public_key().as_ref().to_vec(),
            ),
            ("RS256", rsa_pem, &signature::RSA_PKCS1_2048_8192_SHA256, rsa.public_key().as_ref().to_vec()),
        ];
        for (name, text, algorithm, public) in &cases {
            let signer = opened(text, &metadata(), |key| key.id = Some("k1".into())).expect(name);
            let (first, second) = (signer.sign("cli").expect("signed"), signer.sign("cli").expect("signed"));
            assert!(holds(first.expose(), *algorithm, public), "{name}");
            let (header, claims) = (part(first.expose(), 0), part(first.expose(), 1));
            assert_eq!((&header["alg"], &header["kid"]), (&json!(name), &json!("k1")));
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!("cli"), &json!("cli")));
            assert_eq!(claims["aud"], json!("https://a.example/t"));
            assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(60));
            assert_ne!(claims["jti"], part(second.expose(), 1)["jti"], "each has its own jti");
            assert!(!format!("{signer:?}").contains(&text[30..60]), "the key is not shown");
        }
        let mut only_pss = metadata();
        only_pss.token_endpoint_auth_signing_alg_values_supported = Some(vec!["PS256".into()]);
        let signer = opened(&cases[3].1, &only_pss, |_| {}).expect("an RSA key");
        assert_eq!(part(signer.sign("cli").expect("signed").expose(), 0)["alg"], json!("PS256"));
    }

    #[test]
    fn certificate_of_the_key_is_named_in_the_header() {
        let der = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let der = der.expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).expect("a key");
        let key = format!("Bag Attributes: of an ENCRYPTED one\n{}", pem(der.as_ref()));
        let block =
            |der: &[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
        let certified = [b"subject".as_slice(), pair.public_key().as_ref(), b"signature"].concat();
        let (own, authority) = (block(&certified), block(b"the authority's"));
        let named = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &certified));
        let x5t = |text: &str| {
            let signer = opened(text, &metadata(), |_| {}).map_err(|error| error.to_string())?;
            Ok::<_, String>(part(signer.sign("cli").expect("signed").expose(), 0).get("x5t#S256").cloned())
        };
        assert_eq!(x5t(&key), Ok(None));
        for text in
            [format!("{key}{own}{authority}"), format!("{authority}{key}{own}"), format!("{authority}{own}{key}")]
        {
            assert_eq!(x5t(&text), Ok(Some(json!(named))), "{text}");
        }
        let error = x5t(&format!("{key}{authority}")).expect_err("another's certificate");
        assert!(error.contains("none of the certificates in it belongs to the key"), "{error}");
    }

    #[test]
    fn p256_jwk_signs() {
        let random = SystemRandom::new();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref()).expect("a key");
        let point = pair.public_key().as_ref();
        let private = AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&pair.private_key()).expect("its number");
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": "own", "d": URL_SAFE_NO_PAD.encode(private.as_ref()),
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        });
        let signer = opened(&jwk.to_string(), &metadata(), |_| {}).expect("a key");
        let token = signer.sign("cli").expect("signed");
        assert!(holds(token.expose(), &signature::ECDSA_P256_SHA256_FIXED, point));
        assert_eq!(part(token.expose(), 0)["kid"], json!("own"));
    }

    #[test]
    fn p384_and_ed25519_jwks_sign() {
        let algorithm = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref()).expect("a key");
        let point = pair.public_key().as_ref().to_vec();
        let private = AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&pair.private_key()).expect("its number");
        let ed = Ed25519KeyPair::generate().expect("a key");
        let seed = ed.seed().and_then(|seed| seed.as_be_bytes()).expect("its number");
        let public = ed.public_key().as_ref().to_vec();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let p384 = json!({
            "kty": "EC", "crv": "P-384", "kid": "own", "d": text(private.as_ref()),
            "x": text(&point[1..49]), "y": text(&point[49..]),
        });
        let ed25519 =
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "own", "d": text(seed.as_ref()), "x": text(&public)});
        let cases: [(Value, &'static dyn VerificationAlgorithm, &[u8], &str); 2] = [
            (p384, &signature::ECDSA_P384_SHA384_FIXED, &point, "ES384"),
            (ed25519, &signature::ED25519, &public, "EdDSA"),
        ];
        for (jwk, algorithm, public, name) in cases {
            // The issuer's name for the key goes before the key's own.
            let signer = opened(&jwk.to_string(), &metadata(), |key| key.id = Some("k1".into())).expect("a key");
            let token = signer.sign("cli").expect("signed");
            assert!(holds(token.expose(), algorithm, public), "{name}");
            let header = part(token.expose(), 0);
            assert_eq!((&header["alg"], &header["kid"]), (&json!(name), &json!("k1")));
        }
    }

    #[test]
    fn large_key_file_is_rejected() {
        let der = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let text = pem(der.expect("a key").as_ref());
        opened(&text, &metadata(), |_| {}).expect("a key");
        let error = opened(&(text + &"\n".repeat(64 * 1024)), &metadata(), |_| {}).expect_err("long");
        assert!(error.to_string().contains("64 KiB"), "{error}");
    }

    #[test]
    fn request_of_a_client_names_it_and_has_one_assertion() {
        let der = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let signer = opened(&pem(der.expect("a key").as_ref()), &metadata(), |_| {}).expect("a key");
        let client =
            OAuthClient { auth: ClientAuth::PrivateKeyJwt, signer: Some(signer), ..OAuthClient::public("cli") };
        let mut form = Form::default();
        assert!(client.authenticate(&mut form).expect("signed").is_none(), "no header");
        let (body, secrets) = form.into_parts();
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["client_id", "client_assertion_type", "client_assertion"]);
        assert_eq!((pairs[0].1.as_str(), &part(&pairs[2].1, 1)["sub"]), ("cli", &json!("cli")));
        assert_eq!(pairs[1].1, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert!(repeats_secret(&secrets, &pairs[2].1), "it is not shown in an error response");
    }

    #[test]
    fn audience_is_configurable() {
        let der = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let text = pem(der.expect("a key").as_ref());
        for (audience, expected) in [
            (AssertionAudience::Issuer, "https://a.example/t"),
            (AssertionAudience::TokenEndpoint, "https://a.example/t/token"),
            (AssertionAudience::Other("x".into()), "x"),
        ] {
            let signer = opened(&text, &metadata(), |key| key.audience = audience).expect("a key");
            assert_eq!(part(signer.sign("cli").expect("signed").expose(), 1)["aud"], json!(expected));
        }
    }

    #[test]
    fn unusable_key_is_reported_without_its_content() {
        for (text, word) in [
            ("", "no private key"),
            ("hunter2", "no private key"),
            ("{\"kty\":\"hunter2\"}", "not supported"),
            ("{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":\"hunter2\"}", "not a private key"),
            ("{hunter2", "not a JWK"),
            ("{\"kty\":\"RSA\"}", "PEM"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2", "passphrase"),
            ("-----BEGIN EC PRIVATE KEY-----\nhunter2", "openssl pkcs8"),
            ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----", "no private key"),
        ] {
            let error = opened(text, &metadata(), |_| {}).expect_err(text);
            assert!(matches!(error, IssuerError::ClientKey { .. }) && !error.is_in_doubt());
            let message = error.to_string();
            assert!(message.contains(word) && !message.contains("hunter2"), "{text}: {message}");
        }
        let error =
            AssertionSigner::load(&ClientKey::default(), &metadata(), Arc::new(TestClock::new())).expect_err("no file");
        assert!(error.to_string().contains("private_key_jwt needs a client key: no key file"), "{error}");
    }
}
