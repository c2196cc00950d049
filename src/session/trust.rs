//! The trust record of an issuer: its keys and status lists for offline verification, stored beside the sessions.

use std::time::Duration;

use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::fs::{FileLock, LockFile};
use crate::model::{IssuerUrl, PinnedKeys, Profile, RecordName, Trust};
use crate::store::{Store, StoreError};
use crate::verify::KeySet;

/// How long to wait for another process that changes the trust record.
const TRUST_LOCK_LIMIT: Duration = Duration::from_secs(10);

impl SessionService {
    /// Returns the trust record of the profile's issuer.
    ///
    /// # Errors
    /// [`SessionError::Store`], or [`SessionError::Trust`] if the stored record is damaged.
    pub async fn trust(&self, profile: &Profile) -> Result<Trust, SessionError> {
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| Ok(read_trust(store, &issuer))).await?
    }

    /// Returns the trust record of the profile's issuer. Blocks for at most the store's own limit.
    ///
    /// # Errors
    /// As [`SessionService::trust`].
    pub fn trust_blocking(&self, profile: &Profile) -> Result<Trust, SessionError> {
        read_trust(&**self.stores.of(profile.store), &profile.issuer)
    }

    /// Changes the trust record of the profile's issuer, under the issuer's trust lock.
    ///
    /// # Errors
    /// As [`SessionService::trust`], and [`SessionError::Lock`].
    pub async fn change_trust(
        &self,
        profile: &Profile,
        change: impl FnOnce(&mut Trust) + Send + 'static,
    ) -> Result<Trust, SessionError> {
        let lock = self.lock_trust(profile).await?;
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| {
            let _lock = lock;
            let before = match read_trust(store, &issuer) {
                Ok(trust) => trust,
                Err(error) => return Ok(Err(error)),
            };
            let mut trust = before.clone();
            change(&mut trust);
            if trust != before {
                store.write_record(&RecordName::of_issuer(&issuer), &trust.to_stored())?;
            }
            Ok(Ok(trust))
        })
        .await?
    }

    /// Pins keys: from now on no others are trusted.
    ///
    /// # Errors
    /// As [`SessionService::change_trust`].
    pub async fn pin_keys(&self, profile: &Profile, keys: String, source: String) -> Result<Trust, SessionError> {
        let pinned = PinnedKeys { keys, source, pinned_at: self.clock.now() };
        self.change_trust(profile, move |trust| trust.pinned = Some(pinned)).await
    }

    /// Unpins the keys; returns whether any were pinned, or `None` if the record was damaged and is replaced by an empty
    /// one.
    ///
    /// # Errors
    /// As [`SessionService::change_trust`].
    pub async fn unpin_keys(&self, profile: &Profile) -> Result<Option<bool>, SessionError> {
        match self.trust(profile).await {
            Ok(trust) => {
                self.change_trust(profile, |trust| trust.pinned = None).await?;
                Ok(Some(trust.pinned.is_some()))
            }
            Err(error) if is_damaged(&error) => {
                self.reset_damaged_trust(profile).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces a damaged record by an empty one. A record that another process has repaired in the meantime stays.
    pub(super) async fn reset_damaged_trust(&self, profile: &Profile) -> Result<(), SessionError> {
        let lock = self.lock_trust(profile).await?;
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| {
            let _lock = lock;
            match read_trust(store, &issuer) {
                Ok(_) => Ok(()),
                Err(_) => store.write_record(&RecordName::of_issuer(&issuer), &Trust::none(issuer.clone()).to_stored()),
            }
        })
        .await
    }

    /// Returns the trust record for a login, and whether the stored one is damaged, which does not stop a login.
    pub(super) async fn trust_at_login(&self, profile: &Profile) -> Result<(Trust, bool), SessionError> {
        match self.trust(profile).await {
            Ok(trust) => Ok((trust, false)),
            Err(error) if is_damaged(&error) => Ok((Trust::none(profile.issuer.clone()), true)),
            Err(error) => Err(error),
        }
    }

    async fn lock_trust(&self, profile: &Profile) -> Result<FileLock, SessionError> {
        let path = self.locks.of(profile.store).join("trust").join(RecordName::issuer_lock_name(&profile.issuer));
        Ok(LockFile::lock(path.with_extension("lock"), &*self.clock, TRUST_LOCK_LIMIT).await?)
    }
}

/// Returns the trust record of an issuer in `store`; an empty one if there is none.
///
/// # Errors
/// [`SessionError::Store`] or [`SessionError::Trust`].
pub(super) fn read_trust(store: &dyn Store, issuer: &IssuerUrl) -> Result<Trust, SessionError> {
    let damaged = || SessionError::Trust { issuer: issuer.clone() };
    match store.read_record(&RecordName::of_issuer(issuer)) {
        Ok(None) => Ok(Trust::none(issuer.clone())),
        Ok(Some(bytes)) => match Trust::from_stored(&bytes) {
            Ok(trust) if trust.issuer == *issuer => Ok(trust),
            _ => Err(damaged()),
        },
        Err(StoreError::Damaged { .. }) => Err(damaged()),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether there is a record that reading again will not make readable.
fn is_damaged(error: &SessionError) -> bool {
    match error {
        SessionError::Trust { .. } => true,
        SessionError::Store(error) => error.is_session_lost(),
        _ => false,
    }
}

/// Returns the trusted keys, and the age of fetched ones. Pinned keys have no age.
#[must_use]
pub fn trusted_keys(trust: &Trust, now: UnixTime) -> (KeySet, Option<Duration>) {
    match (&trust.pinned, &trust.fetched) {
        (Some(pinned), _) => (KeySet::parse(&pinned.keys).unwrap_or_default(), None),
        (None, Some(fetched)) => {
            (KeySet::from_jwks(&fetched.jwks).unwrap_or_default(), Some(fetched.fetched_at.until(now)))
        }
        (None, None) => (KeySet::default(), None),
    }
}
