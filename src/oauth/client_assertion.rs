//! The client's own signature in place of a secret: `private_key_jwt` (RFC 7523, section 2.2; OpenID Connect Core 1.0,
//! section 9).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::error::IssuerError;
use super::metadata::Metadata;
use super::random::random;
use crate::clock::{Clock, UnixTime};
use crate::fs::regular_file;
use crate::model::{AssertionAudience, ClientKey};
use crate::secret::{Secret, SecretBytes};
use crate::ui::sanitize_for_terminal;

/// The value of `client_assertion_type` (RFC 7523, section 2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good for: as long as a request may take, and no longer, since who sees it can use it.
const LIFE: Duration = Duration::from_secs(60);

/// A key file is no larger.
const MAX_BYTES: u64 = 64 * 1024;

/// Signs a new assertion for each request.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    header: Header,
    audience: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("header", &self.header).field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// What an assertion says (RFC 7523, section 3).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: UnixTime,
    exp: UnixTime,
}

impl Signer {
    /// Reads the client's private key: PEM (PKCS #8, or PKCS #1 for RSA) or a JWK, of RSA (signed with RS256, or PS256
    /// where the issuer lists only that), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA). A certificate beside the key in PEM
    /// is named in each assertion (`x5t#S256`; RFC 7515, section 4.1.8), by which some issuers know the key.
    ///
    /// # Errors
    /// [`IssuerError::ClientKey`] where there is none that can be used.
    pub fn open(key: &ClientKey, metadata: &Metadata, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        let Some(path) = &key.file else {
            return Err(IssuerError::ClientKey {
                path: PathBuf::new(),
                detail: "no file with its key is named".into(),
            });
        };
        let unusable =
            |detail: String| IssuerError::ClientKey { path: path.clone(), detail: sanitize_for_terminal(&detail, 200) };
        let bytes = regular_file::read(path, MAX_BYTES).map_err(unusable)?;
        let (material, algorithm, own_id) = load(&bytes).map_err(unusable)?;
        let offered = metadata.token_endpoint_auth_signing_alg_values_supported.as_ref();
        let offers = |name: &str| offered.is_none_or(|all| all.iter().any(|one| one == name));
        let algorithm = match algorithm {
            Algorithm::RS256 if !offers("RS256") && offers("PS256") => Algorithm::PS256,
            algorithm => algorithm,
        };
        let audience = match &key.audience {
            AssertionAudience::Issuer => metadata.issuer.to_string(),
            AssertionAudience::TokenEndpoint => {
                metadata.token_endpoint.as_ref().map_or_else(|| metadata.issuer.to_string(), ToString::to_string)
            }
            AssertionAudience::Other(text) => text.clone(),
        };
        let mut header = Header::new(algorithm);
        header.kid = key.id.clone().or(own_id);
        header.x5t_s256 = thumbprint(bytes.expose()).map_err(unusable)?;
        Ok(Self { key: material, header, audience, clock })
    }

    /// An assertion that `client_id` is who asks, good for a minute and for once.
    pub(super) fn sign(&self, client_id: &str) -> Result<Secret, IssuerError> {
        let now = self.clock.now();
        let claims = Claims {
            iss: client_id,
            sub: client_id,
            aud: &self.audience,
            jti: &random()?,
            iat: now,
            exp: now.plus(LIFE),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map(Secret::new)
            .map_err(|_| IssuerError::Local { what: "signature", detail: "the client's key cannot sign".into() })
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";

type Loaded = (EncodingKey, Algorithm, Option<String>);

/// The key in a file, what it signs with, and its own `kid`. Whether it can sign is tried out.
fn load(bytes: &SecretBytes) -> Result<Loaded, String> {
    if bytes.expose().trim_ascii_start().starts_with(b"{") {
        return load_jwk(bytes.expose());
    }
    let pem = bytes.expose();
    let pem = private_key(pem);
    if contains(pem, b"ENCRYPTED") {
        return Err("it is encrypted with a passphrase; take that off and keep the file yours alone".into());
    }
    if contains(pem, b"BEGIN EC PRIVATE KEY") {
        return Err(
            "it is in the old form for elliptic curves; `openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW_FILE` makes the usual one".into()
        );
    }
    let candidates = [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
        (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
        (Algorithm::ES384, EncodingKey::from_ec_pem(pem)),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
    ];
    for (algorithm, key) in candidates {
        if let Ok(key) = key
            && signs(&key, algorithm)
        {
            return Ok((key, algorithm, None));
        }
    }
    Err("it holds no private key of RSA, P-256, P-384 or Ed25519 in PEM, and no JWK".into())
}

/// The private key's part of a PEM file, which may hold certificates as well; the whole where that cannot be told.
fn private_key(pem: &[u8]) -> &[u8] {
    const KIND: &[u8] = b"PRIVATE KEY-----";
    let place = |text: &[u8], word: &[u8]| text.windows(word.len()).position(|window| window == word);
    let found = || {
        let kind = place(pem, KIND)?;
        let start = pem[..kind].windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
        let end = kind + KIND.len() + place(&pem[kind + KIND.len()..], KIND)? + KIND.len();
        pem.get(start..end)
    };
    found().unwrap_or(pem)
}

/// The thumbprint of the key's own certificate in a PEM file, where it holds any.
fn thumbprint(pem: &[u8]) -> Result<Option<String>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    if certificates.is_empty() {
        return Ok(None);
    }
    let own = public_half(pem).and_then(|public| certificates.iter().find(|one| contains(one, &public)));
    let own = own.ok_or("none of the certificates in it is the key's")?;
    Ok(Some(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, own))))
}

/// What a certificate of the private key in a PEM file holds as it is here: a point of a curve, or an RSA key's modulus.
fn public_half(pem: &[u8]) -> Option<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(private_key(pem)).ok()?;
    let der = key.secret_der();
    let ec = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).ok().map(|pair| pair.public_key().as_ref().to_vec());
    let rsa = || {
        let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()?;
        Some(pair.public_key().modulus().big_endian_without_leading_zero().to_vec())
    };
    ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
        .or_else(|| ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING))
        .or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(|pair| pair.public_key().as_ref().to_vec()))
        .or_else(rsa)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn signs(key: &EncodingKey, algorithm: Algorithm) -> bool {
    jsonwebtoken::crypto::sign(b"", key, algorithm).is_ok()
}

/// The members of a private JWK (RFC 7517; RFC 7518, section 6; RFC 8037) that are needed.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    kid: Option<String>,
    x: Option<Secret>,
    y: Option<Secret>,
    d: Option<Secret>,
}

fn load_jwk(text: &[u8]) -> Result<Loaded, String> {
    let jwk: Jwk = serde_json::from_slice(text).map_err(|_| "it is no JWK".to_owned())?;
    let part = |member: &Option<Secret>| {
        let text = member.as_ref().map(Secret::expose).unwrap_or_default();
        let mut bytes = SecretBytes::default();
        bytes.extend(&URL_SAFE_NO_PAD.decode(text).unwrap_or_default());
        bytes
    };
    let (x, y, d) = (part(&jwk.x), part(&jwk.y), part(&jwk.d));
    let unusable = |_| "its numbers are no private key of its kind".to_owned();
    let curve = |algorithm: &'static EcdsaSigningAlgorithm| {
        let mut point = vec![4u8];
        point.extend(x.expose());
        point.extend(y.expose());
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, d.expose(), &point).map_err(unusable)?;
        let der = pair.to_pkcs8v1().map_err(|_| "it cannot be used".to_owned())?;
        Ok::<_, String>(EncodingKey::from_ec_der(der.as_ref()))
    };
    let (key, algorithm) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("EC", "P-256") => (curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?, Algorithm::ES256),
        ("EC", "P-384") => (curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?, Algorithm::ES384),
        ("OKP", "Ed25519") => {
            let pair = Ed25519KeyPair::from_seed_and_public_key(d.expose(), x.expose()).map_err(unusable)?;
            let der = pair.to_pkcs8v1().map_err(|_| "it cannot be used".to_owned())?;
            (EncodingKey::from_ed_der(der.as_ref()), Algorithm::EdDSA)
        }
        ("RSA", _) => return Err("it is an RSA key as a JWK; give it as PEM".into()),
        _ => return Err("it is a JWK of a kind that does not sign".into()),
    };
    if signs(&key, algorithm) { Ok((key, algorithm, jwk.kid)) } else { Err("it cannot sign".into()) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{UnparsedPublicKey, VerificationAlgorithm};
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::super::testing::Quick;
    use super::*;

    fn metadata() -> Metadata {
        let mut metadata = Metadata::bare("https://a.example/t".parse().expect("valid"));
        metadata.token_endpoint = "https://a.example/t/token".parse().ok();
        metadata
    }

    fn opened(text: &str, metadata: &Metadata, change: impl FnOnce(&mut ClientKey)) -> Result<Signer, IssuerError> {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("key");
        std::fs::write(&file, text).expect("written");
        let mut key = ClientKey { file: Some(file), ..ClientKey::default() };
        change(&mut key);
        Signer::open(&key, metadata, Arc::new(Quick::new()))
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
    fn a_key_of_each_kind_signs_what_the_rfc_wants() {
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
            assert_ne!(claims["jti"], part(second.expose(), 1)["jti"], "each is good for once");
            assert!(!format!("{signer:?}").contains(&text[30..60]), "the key is not shown");
        }
        let mut only_pss = metadata();
        only_pss.token_endpoint_auth_signing_alg_values_supported = Some(vec!["PS256".into()]);
        let signer = opened(&cases[3].1, &only_pss, |_| {}).expect("an RSA key");
        assert_eq!(part(signer.sign("cli").expect("signed").expose(), 0)["alg"], json!("PS256"));
    }

    #[test]
    fn the_keys_own_certificate_beside_it_is_named() {
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
        assert!(error.contains("none of the certificates in it is the key's"), "{error}");
    }

    #[test]
    fn a_jwk_signs_too() {
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
    fn jwks_of_the_other_kinds_sign_too() {
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
    fn a_file_that_is_no_key_is_not_read_to_its_end() {
        let der = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let text = pem(der.expect("a key").as_ref());
        opened(&text, &metadata(), |_| {}).expect("a key");
        let error = opened(&(text + &"\n".repeat(64 * 1024)), &metadata(), |_| {}).expect_err("long");
        assert!(error.to_string().contains("64 KiB"), "{error}");
    }

    #[test]
    fn whom_it_is_for_can_be_said() {
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
    fn what_cannot_sign_is_told_without_its_text() {
        for (text, word) in [
            ("", "no private key"),
            ("hunter2", "no private key"),
            ("{\"kty\":\"hunter2\"}", "does not sign"),
            ("{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":\"hunter2\"}", "no private key"),
            ("{hunter2", "no JWK"),
            ("{\"kty\":\"RSA\"}", "PEM"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2", "passphrase"),
            ("-----BEGIN EC PRIVATE KEY-----\nhunter2", "openssl pkcs8"),
            ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----", "no private key"),
        ] {
            let error = opened(text, &metadata(), |_| {}).expect_err(text);
            assert!(matches!(error, IssuerError::ClientKey { .. }) && error.never_sent());
            let told = error.to_string();
            assert!(told.contains(word) && !told.contains("hunter2"), "{text}: {told}");
        }
        let error = Signer::open(&ClientKey::default(), &metadata(), Arc::new(Quick::new())).expect_err("no file");
        assert!(error.to_string().contains("(private_key_jwt): no file"), "{error}");
    }
}
