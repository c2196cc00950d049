//! The passphrase of the file store: whether it has one, and changing it.

use super::{MAX_REFRESH, SessionError, SessionService};
use crate::fs::LockFile;
use crate::model::{ProfileName, RecordName, StoreKind};
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
