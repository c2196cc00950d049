//! Decides offline whether a JWT is to be believed: its signature by trusted keys, its header and claims by a policy.
//!
//! A token walks one way: `header` takes it apart, `keys` finds the key that may have signed it, the signature is
//! verified over its exact bytes, `claims` judges what it says. Nothing here asks the network, whatever the token
//! says (RFC 8725, section 3.10), and all reasons for a denial are told at once.

mod claims;
mod clock_guard;
mod der;
mod findings;
mod header;
mod id_token;
mod keys;
mod options;
mod policy;
#[cfg(test)]
mod properties;
mod reason;
mod revocation;
mod rsa;
mod status_list;
mod strict_json;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use serde_json::{Map, Value};

pub use clock_guard::{CLOCK_TOLERANCE, clock_rollback};
pub use findings::{Findings, Outcome, Step};
pub use id_token::{IdTokenPolicy, verify_id_token};
pub use keys::{KeyInfo, KeySet, ListedKey};
pub use options::{InvalidOption, PolicyOptions, VerdictAnswer};
pub use policy::{AcceptedTypes, Algorithm, InvalidAlgorithm, Policy};
pub use reason::{Reason, ReasonCode};
pub use revocation::{is_revoked, mark_revoked};
#[cfg(fuzzing)]
pub use status_list::Statuses;
#[cfg(test)]
pub use status_list::{Status, StatusListError};
pub use status_list::{StatusClaim, StatusList, StatusListPolicy, judge_status, unverified_status};

use crate::clock::UnixTime;
use header::Parts;
use reason::{quoted, quoted_list};

/// A token that is believed, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    /// Every claim.
    pub claims: Map<String, Value>,
    /// The header's `typ`, as it was written.
    pub typ: Option<String>,
    /// The key that signed it.
    pub key: KeyInfo,
}

/// The decision on one token.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Believed.
    Granted(Granted),
    /// Not believed; at least one reason, in the order of [`ReasonCode`].
    Denied(Vec<Reason>),
}

impl Verdict {
    /// This verdict with one more reason for a denial, such as a local revocation; claims are then no longer told.
    #[must_use]
    pub fn denied_for(self, reason: Reason) -> Self {
        let mut reasons = match self {
            Self::Granted(_) => Vec::new(),
            Self::Denied(reasons) => reasons,
        };
        reasons.push(reason);
        reasons.sort_by_key(|r| r.code);
        Self::Denied(reasons)
    }

    /// Whether the token is believed.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }
}

/// Judges `token` by `keys` and `policy`. Reads no clock, no file and no network.
#[must_use]
pub fn verify(token: &str, keys: &KeySet, policy: &Policy) -> Verdict {
    explain(token, keys, policy, false).0
}

/// The same, and where it is wanted the way to the verdict.
#[must_use]
pub fn explain(token: &str, keys: &KeySet, policy: &Policy, explained: bool) -> (Verdict, Vec<Step>) {
    let Judged { claims, key, mut findings } =
        judge_by(token, header::MAX_TOKEN, keys, policy, claims::judge, Findings::new(explained));
    if policy.types == AcceptedTypes::IdToken
        && let Some((claims, _)) = &claims
    {
        id_token::rules(claims, policy, &mut findings);
    }
    let steps = findings.steps.take().unwrap_or_default();
    let verdict = match (claims, key) {
        (Some((claims, typ)), Some(key)) if findings.reasons.is_empty() => {
            Verdict::Granted(Granted { claims, typ, key })
        }
        _ => Verdict::Denied(findings.sorted()),
    };
    (verdict, steps)
}

/// What there is to say about a token. Claims are believed only where a key is told and there are no reasons.
struct Judged {
    claims: Option<(Map<String, Value>, Option<String>)>,
    key: Option<KeyInfo>,
    findings: Findings,
}

fn judge(token: &str, keys: &KeySet, policy: &Policy) -> Judged {
    judge_by(token, header::MAX_TOKEN, keys, policy, claims::judge, Findings::default())
}

/// Judges length, header and signature by the rules for every token, and the claims by `rules`.
fn judge_by(
    token: &str,
    longest: usize,
    keys: &KeySet,
    policy: &Policy,
    rules: fn(&Map<String, Value>, &Policy, &mut Findings),
    mut findings: Findings,
) -> Judged {
    let parts = match header::take_apart_within(token, longest) {
        Ok(parts) => parts,
        Err(reasons) => {
            reasons.into_iter().for_each(|reason| findings.deny("parts", reason));
            return Judged { claims: None, key: None, findings };
        }
    };
    findings.pass("parts", || format!("a signed JWT of {} bytes", token.len()));
    match parts.header.unsupported {
        Some(what) => {
            let message = format!("the token's header has {what}");
            findings.deny("header", Reason::new(ReasonCode::UnsupportedHeader, message));
        }
        None => findings.pass("header", || "nothing that is not supported"),
    }
    let typ = parts.header.typ.as_deref();
    let shown = || typ.map_or_else(|| "none".to_owned(), quoted);
    if !policy.types.accept(typ) {
        let message = format!("expected the type {}, found {}", policy.types.described(), shown());
        findings.deny("typ", Reason::new(ReasonCode::WrongType, message));
    } else if policy.types == AcceptedTypes::AccessToken
        && let Some(mark) = id_token::mark(typ, &parts.claims)
    {
        let message = format!("expected an access token, found an ID token: it has {mark}");
        findings.deny("typ", Reason::new(ReasonCode::WrongType, message));
    } else {
        findings.pass("typ", || format!("expected {}, found {}", policy.types.described(), shown()));
    }
    let key = signer(&parts, keys, policy, &mut findings);
    rules(&parts.claims, policy, &mut findings);
    Judged { claims: Some((parts.claims, parts.header.typ)), key, findings }
}

/// The trusted key that made the signature: the algorithm is looked at first, then which key it can have been, and then the
/// signature; each only where the one before it is as it must be.
fn signer(parts: &Parts<'_>, keys: &KeySet, policy: &Policy, findings: &mut Findings) -> Option<KeyInfo> {
    let alg = &parts.header.alg;
    let algorithm = match alg.parse::<Algorithm>() {
        Ok(algorithm) if policy.algorithms.contains(&algorithm) => algorithm,
        refused => {
            let message = match refused {
                Err(InvalidAlgorithm::None) => "the token is not signed (alg `none`)".to_owned(),
                _ => format!(
                    "the algorithm {} is not accepted; accepted: {}",
                    quoted(alg),
                    quoted_list(&policy.algorithms.iter().map(|a| a.name()).collect::<Vec<_>>())
                ),
            };
            findings.deny("alg", Reason::new(ReasonCode::AlgorithmNotAllowed, message));
            return None;
        }
    };
    findings.pass("alg", || format!("{algorithm} is accepted"));
    let candidates = match keys.candidates(parts.header.kid.as_deref(), algorithm) {
        Ok(candidates) => candidates,
        Err(reason) => {
            findings.deny("key", reason);
            return None;
        }
    };
    findings.pass("key", || match (candidates.as_slice(), parts.header.kid.as_deref()) {
        ([_], Some(kid)) => format!("the token names {}, which is trusted and for {algorithm}", quoted(kid)),
        ([_], None) => format!("the token names none, and one trusted key is for {algorithm}"),
        (several, _) => format!("{} trusted keys have the name that the token says", several.len()),
    });
    let Some(key) = candidates.into_iter().find(|key| key.made(parts.signature, parts.signed.as_bytes(), algorithm))
    else {
        let message = "no trusted key made the token's signature";
        findings.deny("signature", Reason::new(ReasonCode::BadSignature, message));
        return None;
    };
    findings.pass("signature", || "made by that key over exactly this token");
    Some(KeyInfo { kid: key.kid.clone(), alg: algorithm, kty: key.kty })
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Whether `token` has a JWT's shape: three parts, the first two of which are JSON objects. Says nothing about whether
/// it is to be believed.
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    header::take_apart(token).is_ok()
}

/// What a token says of itself, believed by nobody: for display, and for the end of a token that was handed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// `iss`.
    pub iss: Option<String>,
    /// `sub`.
    pub sub: Option<String>,
    /// `client_id`, else `azp`.
    pub client_id: Option<String>,
    /// `aud`, one or several.
    pub aud: Vec<String>,
    /// `scope` or `scp`, space-separated.
    pub scope: Option<String>,
    /// `exp`.
    pub exp: Option<UnixTime>,
    /// `iat`.
    pub iat: Option<UnixTime>,
    /// The header's `kid`.
    pub kid: Option<String>,
}

/// Reads a JWT's claims without verifying anything; `None` where it is no JWT. Never base a decision on them.
#[must_use]
pub fn unverified_claims(token: &str) -> Option<UnverifiedClaims> {
    let Parts { claims, header, .. } = header::take_apart(token).ok()?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let texts = |name: &str| claims.get(name).and_then(claims::strings);
    Some(UnverifiedClaims {
        iss: text("iss"),
        sub: text("sub"),
        client_id: text("client_id").or_else(|| text("azp")),
        aud: texts("aud").unwrap_or_default().into_iter().map(str::to_owned).collect(),
        scope: texts("scope").or_else(|| texts("scp")).map(|scopes| scopes.join(" ")),
        exp: claims.get("exp").and_then(claims::numeric_date),
        iat: claims.get("iat").and_then(claims::numeric_date),
        kid: header.kid,
    })
}
