//! Loads the private key of a client from PEM or a JWK.

use aws_lc_rs::digest;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode as _, SliceReader};
use jsonwebtoken::{Algorithm, EncodingKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use crate::secret::{Secret, SecretBytes};

const BEGIN: &[u8] = b"-----BEGIN ";

/// The key, its algorithm, and the `kid` of a JWK.
type LoadedKey = (EncodingKey, Algorithm, Option<String>);

/// Loads the key in a file, and signs with it once to make sure that it can.
pub(super) fn load(bytes: &SecretBytes) -> Result<LoadedKey, String> {
    if bytes.expose().trim_ascii_start().starts_with(b"{") {
        return load_jwk(bytes.expose());
    }
    let pem = bytes.expose();
    let pem = private_key(pem);
    if contains(pem, b"ENCRYPTED") {
        return Err("it is encrypted with a passphrase; remove that and restrict the file to your user".into());
    }
    if contains(pem, b"BEGIN EC PRIVATE KEY") {
        return Err(
            "it is in SEC 1 format; convert it with `openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW_FILE`".into()
        );
    }
    let key = PrivateKeyDer::from_pem_slice(pem).ok();
    let der = key.as_ref().map(PrivateKeyDer::secret_der).unwrap_or_default();
    let candidates = [
        (Algorithm::RS256, EncodingKey::from_rsa_der(rsa_key(der).unwrap_or(der))),
        (Algorithm::ES256, EncodingKey::from_ec_der(der)),
        (Algorithm::ES384, EncodingKey::from_ec_der(der)),
        (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
    ];
    let usable = candidates.into_iter().find(|(algorithm, key)| can_sign(key, *algorithm));
    let (algorithm, key) =
        usable.ok_or("it contains no private key for RSA, P-256, P-384 or Ed25519 in PEM, and no JWK")?;
    Ok((key, algorithm, None))
}

/// Returns the RSA private key of RFC 8017 (appendix A.1.2) that a PKCS #8 structure holds (RFC 5958, section 2).
fn rsa_key(pkcs8: &[u8]) -> Option<&[u8]> {
    let structure = AnyRef::from_der(pkcs8).ok()?;
    let mut members = SliceReader::new(structure.value()).ok()?;
    let _version = u8::decode(&mut members).ok()?;
    let _algorithm = AnyRef::decode(&mut members).ok()?;
    Some(OctetStringRef::decode(&mut members).ok()?.as_bytes())
}

/// Returns the block of the private key in a PEM file, which may hold certificates as well; the whole file if there is none.
fn private_key(pem: &[u8]) -> &[u8] {
    const KIND: &[u8] = b"PRIVATE KEY-----";
    let find = |text: &[u8], word: &[u8]| text.windows(word.len()).position(|window| window == word);
    let found = || {
        let kind = find(pem, KIND)?;
        let start = pem[..kind].windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
        let end = kind + KIND.len() + find(&pem[kind + KIND.len()..], KIND)? + KIND.len();
        pem.get(start..end)
    };
    found().unwrap_or(pem)
}

/// Returns the thumbprint of the key's certificate in a PEM file that holds certificates (`x5t#S256`; RFC 7515, section 4.1.8).
pub(super) fn certificate_thumbprint(pem: &[u8]) -> Result<Option<String>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    if certificates.is_empty() {
        return Ok(None);
    }
    let own = public_key_bytes(pem).and_then(|public| certificates.iter().find(|one| contains(one, &public)));
    let own = own.ok_or("none of the certificates in it belongs to the key")?;
    Ok(Some(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, own))))
}

/// Returns the bytes that a certificate of the private key contains: a point of a curve, or an RSA modulus.
fn public_key_bytes(pem: &[u8]) -> Option<Vec<u8>> {
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

fn can_sign(key: &EncodingKey, algorithm: Algorithm) -> bool {
    jsonwebtoken::crypto::sign(b"", key, algorithm).is_ok()
}

/// The members of a private JWK (RFC 7517; RFC 7518, section 6; RFC 8037).
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

fn load_jwk(text: &[u8]) -> Result<LoadedKey, String> {
    let jwk: Jwk = serde_json::from_slice(text).map_err(|_| "it is not a JWK".to_owned())?;
    let part = |member: &Option<Secret>| {
        let text = member.as_ref().map(Secret::expose).unwrap_or_default();
        let mut bytes = SecretBytes::default();
        bytes.extend(&URL_SAFE_NO_PAD.decode(text).unwrap_or_default());
        bytes
    };
    let (x, y, d) = (part(&jwk.x), part(&jwk.y), part(&jwk.d));
    let unusable = |_| "its members are not a private key".to_owned();
    let curve = |algorithm: &'static EcdsaSigningAlgorithm| {
        let mut point = vec![4u8];
        point.extend(x.expose());
        point.extend(y.expose());
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, d.expose(), &point).map_err(unusable)?;
        let der = pair.to_pkcs8v1().map_err(|_| "it cannot be encoded".to_owned())?;
        Ok::<_, String>(EncodingKey::from_ec_der(der.as_ref()))
    };
    let (key, algorithm) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("EC", "P-256") => (curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?, Algorithm::ES256),
        ("EC", "P-384") => (curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?, Algorithm::ES384),
        ("OKP", "Ed25519") => {
            let pair = Ed25519KeyPair::from_seed_and_public_key(d.expose(), x.expose()).map_err(unusable)?;
            let der = pair.to_pkcs8v1().map_err(|_| "it cannot be encoded".to_owned())?;
            (EncodingKey::from_ed_der(der.as_ref()), Algorithm::EdDSA)
        }
        ("RSA", _) => return Err("RSA keys are supported as PEM only".into()),
        _ => return Err("its `kty` and `crv` are not supported".into()),
    };
    if can_sign(&key, algorithm) { Ok((key, algorithm, jwk.kid)) } else { Err("it cannot sign".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_key_is_found_between_certificates() {
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        let certificate = block("CERTIFICATE");
        for kind in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            let key = block(kind);
            let file = [&*certificate, &key, &certificate].concat();
            assert_eq!(private_key(file.as_bytes()), key.trim_end().as_bytes(), "{kind}");
        }
        for without in [&*certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n", ""] {
            assert_eq!(private_key(without.as_bytes()), without.as_bytes());
        }
    }
}
