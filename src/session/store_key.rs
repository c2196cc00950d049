//! What only some stores have: the passphrase of the file store, and the sessions that a login gives to the agent.

use std::sync::Arc;

use super::login::is_other_account;
use super::stores::session_of;
use super::{MAX_REFRESH, SessionError, SessionService};
use crate::fs::LockFile;
use crate::model::{Profile, ProfileName, RecordName, Session, StoreKind};
use crate::secret::{Secret, SecretBytes};
use crate::store::{Store, StoreError, StoreKey, UnlockedKey};

impl SessionService {
    /// Returns the key of the file store.
    #[must_use]
    pub fn file_key(&self) -> Option<&StoreKey> {
        self.stores.file.key()
    }

    /// Returns whether the file store is sealed with a passphrase.
    pub async fn is_file_sealed(&self) -> bool {
        self.with_key(|key| key.is_sealed().unwrap_or(false)).await
    }

    /// Returns whether the file store is sealed and this process does not hold its key.
    pub async fn is_file_locked(&self) -> bool {
        self.with_key(StoreKey::is_locked).await
    }

    async fn with_key(&self, ask: impl FnOnce(&StoreKey) -> bool + Send + 'static) -> bool {
        self.with_store(StoreKind::File, "@key", |store| Ok(store.key().is_some_and(ask))).await.unwrap_or(false)
    }

    /// Holds an unlocked key of the file store.
    pub fn hold_file_key(&self, key: Option<UnlockedKey>) {
        if let (Some(own), Some(key)) = (self.file_key(), key) {
            own.hold(key);
        }
    }

    /// Wipes the key of the file store.
    pub fn forget_file_key(&self) {
        self.file_key().into_iter().for_each(StoreKey::lock);
    }

    /// Returns the passphrase of the file store that the user has put into the keychain.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn passphrase_in_keychain(&self) -> Result<Option<Secret>, SessionError> {
        let read = |store: &dyn Store| store.read_record(&RecordName::passphrase());
        let bytes = self.with_store(StoreKind::Keychain, "@passphrase", read).await?;
        Ok(bytes.and_then(|bytes| Some(Secret::new(std::str::from_utf8(bytes.expose()).ok()?.to_owned()))))
    }

    /// Puts the passphrase of the file store into the keychain.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn put_passphrase_in_keychain(&self, passphrase: &Secret) -> Result<(), SessionError> {
        let bytes = SecretBytes::new(passphrase.expose().as_bytes().to_vec());
        let write = move |store: &dyn Store| store.write_record(&RecordName::passphrase(), &bytes);
        self.with_store(StoreKind::Keychain, "@passphrase", write).await
    }

    /// Puts the session and the records of a login into memory, unless another account's session is there and not to be
    /// replaced. Returns whether it did. `is_locked` says that the caller holds the profile lock.
    ///
    /// # Errors
    /// [`SessionError::Store`] if the session is invalid, or [`SessionError::Lock`].
    pub async fn take_over(
        &self,
        name: &ProfileName,
        items: Vec<(String, SecretBytes)>,
        replace: bool,
        holds_lock: bool,
    ) -> Result<bool, SessionError> {
        let _lock = if holds_lock { None } else { Some(self.lock_session(StoreKind::Memory, name).await?) };
        let (mut new, mut records) = (None, Vec::new());
        for (item, bytes) in items {
            if let Some(record) = RecordName::of_name(&item) {
                records.push((record, bytes));
            } else if item == name.as_str() {
                let location = self.stores.memory.location(name);
                let session = Session::from_stored(&bytes, name);
                new = Some(session.map_err(|e| StoreError::Damaged { location, damage: e.into() })?);
            }
        }
        let own = name.clone();
        let stored = self.with_store(StoreKind::Memory, name.as_str(), move |store| store.read(&own)).await?;
        if let (Some(new), Some(stored)) = (&mut new, stored.filter(|stored| !stored.logged_out)) {
            if stored.generation.login == new.generation.login {
                // Taken already, and maybe refreshed since.
                return Ok(true);
            }
            if !replace && is_other_account(&stored, new) {
                return Ok(false);
            }
            // Until the profile is saved, it uses the session that this one replaces.
            if (&stored.issuer, &stored.client_id) != (&new.issuer, &new.client_id) {
                new.replaces = Some(Box::new(Session { replaces: None, ..stored }));
            }
        }
        let own = name.clone();
        let write = move |store: &dyn Store| {
            records.iter().try_for_each(|(record, bytes)| store.write_record(record, bytes))?;
            new.map_or(Ok(()), |session| store.write(&own, &session))
        };
        self.change(StoreKind::Memory, name, write).await?;
        Ok(true)
    }

    /// Removes the session of a profile from memory unless the profile uses it, and else the session that a login has replaced.
    /// Returns whether anything was removed.
    ///
    /// `profile` is read under the profile lock, which a login holds from when it gives its session to the agent until the
    /// profile is saved.
    ///
    /// # Errors
    /// [`SessionError::Lock`].
    pub async fn remove_unused_from_memory(
        &self,
        name: &ProfileName,
        profile: impl Future<Output = Option<Arc<Profile>>>,
    ) -> Result<bool, SessionError> {
        let own = name.clone();
        let read = move |store: &dyn Store| store.read(&own);
        if self.with_store(StoreKind::Memory, name.as_str(), read.clone()).await?.is_none() {
            return Ok(false);
        }
        let _lock = self.lock_session(StoreKind::Memory, name).await?;
        let Some(profile) = profile.await else { return Ok(false) };
        let stored = self.with_store(StoreKind::Memory, name.as_str(), read).await?;
        // What a logout has begun to delete, it deletes itself, or when it is repeated.
        let Some(stored) = stored.filter(|stored| !stored.logged_out) else { return Ok(false) };
        let has_replaced = stored.replaces.is_some();
        let used = Some(stored).filter(|_| profile.store == StoreKind::Memory);
        let used = session_of(&profile, used).ok();
        if used.is_some() && !has_replaced {
            return Ok(false);
        }
        let own = name.clone();
        let change = move |store: &dyn Store| match used {
            Some(session) => store.write(&own, &session),
            None => store.delete(&own).map(drop),
        };
        self.change(StoreKind::Memory, name, change).await?;
        Ok(true)
    }

    /// Seals the file store with `passphrase`, or removes the passphrase it has; or starts over if it `is_forgotten`. Returns the
    /// items of the store, for [`SessionService::follow_key`]. Call both under the configuration lock.
    ///
    /// Replacing the key file is the one commit: before it only the old passphrase opens the sessions, after it only the new one.
    /// The new file has the earlier key too, so it does not matter how many sessions are encrypted again when this is interrupted.
    ///
    /// # Errors
    /// [`SessionError::Store`]; nothing has changed then.
    pub async fn change_passphrase(
        &self,
        passphrase: Option<Secret>,
        is_forgotten: bool,
    ) -> Result<Vec<String>, SessionError> {
        let change = move |store: &dyn Store| match store.key() {
            Some(key) => key.change(passphrase.as_ref(), is_forgotten).and_then(|()| store.items()),
            None => Ok(Vec::new()),
        };
        self.with_store(StoreKind::File, "@key", change).await
    }

    /// Encrypts these items to the new key, or removes them if the passphrase of the earlier one `is_forgotten`. Returns those
    /// that stay encrypted to the earlier key.
    pub async fn follow_key(&self, items: Vec<String>, is_forgotten: bool) -> Vec<String> {
        let mut left = Vec::new();
        for item in items {
            if let Err(error) = self.follow_key_with(&item, is_forgotten).await {
                tracing::warn!("{item} is not encrypted to the new key: {error}");
                left.push(item);
            }
        }
        left
    }

    /// Encrypts a session or a record to the new key, under its lock: a refresh that is running stores its session first.
    async fn follow_key_with(&self, item: &str, is_forgotten: bool) -> Result<(), SessionError> {
        let own = item.to_owned();
        if let Ok(name) = item.parse::<ProfileName>() {
            let _lock = self.lock_session(StoreKind::File, &name).await?;
            if is_forgotten {
                return self.change(StoreKind::File, &name, move |store| store.remove_item(&own)).await;
            }
            return self.with_store(StoreKind::File, item, move |store| again(store.encrypt_again(&own))).await;
        }
        let (kind, name) = match item.strip_prefix("@client-") {
            Some(issuer) => ("clients", issuer),
            None => ("trust", item.trim_start_matches('@')),
        };
        let lock = self.locks.of(StoreKind::File).join(kind).join(name).with_extension("lock");
        let _lock = LockFile::lock(lock, &*self.clock, MAX_REFRESH).await?;
        let follow = move |store: &dyn Store| match is_forgotten {
            true => store.remove_item(&own),
            false => again(store.encrypt_again(&own)),
        };
        self.with_store(StoreKind::File, item, follow).await
    }
}

/// An item that was damaged before is left as it is.
fn again(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(StoreError::Damaged { .. }) => Ok(()),
        result => result,
    }
}
