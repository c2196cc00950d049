//! The refreshed ID tokens that are invalid, so that the one before stays in use.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::{ProfileName, Session};
use crate::oauth::repeats_secret;
use crate::secret::Secret;

/// The profiles, each with the reason.
#[derive(Default)]
pub(super) struct IgnoredIdTokens(Mutex<BTreeMap<ProfileName, String>>);

impl IgnoredIdTokens {
    /// Records why the new ID token of `session` is ignored. A reason quotes claims, which may repeat a token.
    pub(super) fn record(&self, session: &Session, name: &ProfileName, id_token: &Secret, why: &str) {
        let tokens = &session.tokens;
        let secrets = [Some(&tokens.access_token), tokens.refresh_token.as_ref(), Some(id_token)];
        let secrets: Vec<Secret> = secrets.into_iter().flatten().cloned().collect();
        let why = if repeats_secret(&secrets, why) { "a claim is invalid" } else { why };
        let mut ignored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ignored.insert(name.clone(), why.to_owned()).as_deref() != Some(why) {
            tracing::warn!("{name}: the refreshed ID token is ignored: {why}");
        }
    }

    /// Returns all.
    pub(super) fn all(&self) -> Vec<(ProfileName, String)> {
        let ignored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ignored.iter().map(|(name, why)| (name.clone(), why.clone())).collect()
    }
}
