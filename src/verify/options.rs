//! The options of a verification and the JSON of its verdict, for the command line and the agent's socket.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::keys::KeyInfo;
use super::policy::{AcceptedTypes, InvalidAlgorithm, Policy};
use super::reason::Reason;
use super::{Verdict, VerifiedToken};
use crate::clock::UnixTime;
use crate::model::deserialize_whole_number;

/// The options of a verification. Missing ones have the default of [`Policy::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PolicyOptions {
    /// The accepted `iss`.
    pub issuer: Option<String>,
    /// The accepted audiences.
    pub audience: Vec<String>,
    /// The accepted `alg` values.
    pub algorithms: Vec<String>,
    /// The tolerated difference between two clocks, in seconds.
    #[serde(deserialize_with = "deserialize_whole_number")]
    pub leeway: Option<u64>,
    /// The accepted `typ` values.
    pub typ: Vec<String>,
    /// Scopes that must all be granted.
    pub scope: Vec<String>,
    /// Claims that must be present, with their values.
    pub claim: BTreeMap<String, String>,
    /// How many seconds ago the user may have authenticated.
    #[serde(deserialize_with = "deserialize_whole_number")]
    pub max_auth_age: Option<u64>,
    /// The accepted authentication context classes.
    pub acr: Vec<String>,
    /// Authentication methods that must all have been used.
    pub amr: Vec<String>,
    /// Whether a token's status list is ignored.
    pub ignore_status: bool,
    /// The time at which the token must be valid, instead of now.
    #[serde(deserialize_with = "unix_time")]
    pub at: Option<UnixTime>,
}

fn unix_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<UnixTime>, D::Error> {
    Ok(deserialize_whole_number(deserializer)?.map(UnixTime))
}

/// An invalid option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOption {
    /// An algorithm.
    #[error(transparent)]
    Algorithm(#[from] InvalidAlgorithm),
    /// More than [`Policy::MAX_LEEWAY`].
    #[error("leeway is more than a day")]
    Leeway,
}

impl PolicyOptions {
    /// Builds the policy. The caller fills in the profile's issuer and audiences if they are empty.
    ///
    /// # Errors
    /// [`InvalidOption`].
    pub fn policy(&self, now: UnixTime) -> Result<Policy, InvalidOption> {
        let issuer = self.issuer.clone().unwrap_or_default();
        let mut policy = Policy::new(issuer, self.audience.clone(), self.at.unwrap_or(now));
        policy.as_of = self.at.is_some();
        if !self.algorithms.is_empty() {
            policy.algorithms =
                self.algorithms.iter().map(|name| name.trim().parse()).collect::<Result<_, InvalidAlgorithm>>()?;
        }
        policy.leeway = self.leeway.map_or(Policy::LEEWAY, Duration::from_secs);
        if policy.leeway > Policy::MAX_LEEWAY {
            return Err(InvalidOption::Leeway);
        }
        if !self.typ.is_empty() {
            policy.types = AcceptedTypes::Only(self.typ.clone());
        }
        policy.scopes = self.scope.iter().filter(|scope| !scope.is_empty()).cloned().collect();
        policy.claims = self.claim.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        policy.max_auth_age = self.max_auth_age.map(Duration::from_secs);
        policy.acr.clone_from(&self.acr);
        policy.amr.clone_from(&self.amr);
        policy.ignore_status = self.ignore_status;
        Ok(policy)
    }
}

/// A verdict as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the members are those of the verdict")]
pub enum VerdictJson<'a> {
    /// Granted, with the age in seconds of the stored keys.
    Granted { valid: bool, claims: &'a Map<String, Value>, key: &'a KeyInfo, keys_age: Option<u64> },
    /// Denied.
    Denied { valid: bool, reasons: &'a [Reason] },
}

/// A verdict as a client reads it.
#[derive(Debug, Deserialize)]
pub struct ReceivedVerdict {
    /// Whether the token is valid.
    pub valid: bool,
    /// Why it is denied.
    #[serde(default)]
    pub reasons: Vec<Reason>,
}

impl<'a> VerdictJson<'a> {
    /// Creates the JSON of a verdict.
    #[must_use]
    pub fn of(verdict: &'a Verdict, keys_age: Option<Duration>) -> Self {
        match verdict {
            Verdict::Granted(VerifiedToken { claims, key, .. }) => {
                Self::Granted { valid: true, claims, key, keys_age: keys_age.map(|age| age.as_secs()) }
            }
            Verdict::Denied(reasons) => Self::denied(reasons),
        }
    }

    /// Creates the JSON of a denial.
    #[must_use]
    pub fn denied(reasons: &'a [Reason]) -> Self {
        Self::Denied { valid: false, reasons }
    }
}
