//! The sessions in the memory store: taken over from a login, and removed when no profile uses them.

use std::sync::Arc;

use super::login::is_other_account;
use super::stores::current_session;
use super::{SessionError, SessionService};
use crate::model::{Profile, ProfileName, RecordName, Session, StoreKind};
use crate::secret::SecretBytes;
use crate::store::{Store, StoreError};

impl SessionService {
    /// Puts the session and the records of a login into memory, unless another account's session is there and not to be
    /// replaced. Returns whether it did. `holds_lock` is whether the caller holds the profile lock.
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
            let differs = !stored.has_same_client(new);
            // If a login before was not saved, that is still the one which that had replaced.
            new.replaces = stored.replaces.clone().or_else(|| differs.then(|| Box::new(stored)));
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
        let used = current_session(&profile, used).ok();
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
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{LockDirectories, Stores};
    use super::*;
    use crate::clock::Clock;
    use crate::oauth::testing::TestClock;
    use crate::store::MemoryStore;
    use crate::store::tests::session;

    fn service(dir: &Path) -> Arc<SessionService> {
        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
        let locks = LockDirectories { keychain: dir.join("locks"), file: dir.join("locks") };
        SessionService::new(clock, stores, locks, dir.join("revoked"))
    }

    #[tokio::test]
    async fn logins_that_were_not_saved_leave_the_session_of_the_profile() {
        let dir = tempfile::tempdir().expect("tempdir");
        let service = service(dir.path());
        let issuers = ["https://a.example", "https://b.example", "https://c.example"];
        let [saved, ..] = issuers.map(|issuer| issuer.parse().expect("valid"));
        let profile = Profile {
            store: StoreKind::Memory,
            client_id: session("any").client_id,
            ..Profile::new("work".parse().expect("valid"), saved)
        };
        let name = &profile.name;
        for issuer in issuers {
            let mut login = Session { issuer: issuer.parse().expect("valid"), ..session(issuer) };
            issuer.clone_into(&mut login.generation.login);
            let items = vec![(name.to_string(), login.to_stored(name))];
            assert!(service.take_over(name, items, true, false).await.expect("taken"));
            let served = service.session(&profile).await.expect("a session");
            assert_eq!(served.tokens.access_token.expose(), issuers[0], "after a login to {issuer}");
        }
        let of_profile = async { Some(Arc::new(profile.clone())) };
        assert!(service.remove_unused_from_memory(name, of_profile).await.expect("changed"));
        let stored = service.stored(&profile).await.expect("readable").expect("there");
        assert!(stored.replaces.is_none() && stored.tokens.access_token.expose() == issuers[0], "{stored:?}");
    }
}
