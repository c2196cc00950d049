//! Sessions in the memory of the agent, and nowhere else. How a login gives its session to the agent: encrypted to a key that
//! the agent makes when it starts, so that no refresh token crosses its socket in a readable form.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use age::x25519::{Identity, Recipient};

use super::{Store, StoreError};
use crate::model::{ProfileName, RecordName, Session, StoreKind};
use crate::secret::SecretBytes;

/// The maximum number of sessions and records.
const MAX_ITEMS: usize = 1000;

/// The store of the agent's own process. It ends with it.
#[derive(Default)]
pub struct MemoryStore {
    items: Mutex<BTreeMap<String, SecretBytes>>,
}

impl MemoryStore {
    fn items(&self) -> MutexGuard<'_, BTreeMap<String, SecretBytes>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, name: &str, bytes: SecretBytes) -> Result<(), StoreError> {
        let mut items = self.items();
        if items.len() >= MAX_ITEMS && !items.contains_key(name) {
            return Err(StoreError::Refused { detail: format!("the agent holds at most {MAX_ITEMS} items in memory") });
        }
        items.insert(name.to_owned(), bytes);
        Ok(())
    }
}

impl Store for MemoryStore {
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        let stored = self.items().get(profile.as_str()).cloned();
        let read = |stored: SecretBytes| Session::from_stored(&stored, profile);
        stored.map(read).transpose().map_err(|e| StoreError::of_session(e, self.location(profile)))
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        self.put(profile.as_str(), session.to_stored(profile))
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        Ok(self.items().remove(profile.as_str()).is_some())
    }

    fn reserve(&self, _profile: &ProfileName, _bytes: usize) -> Result<(), StoreError> {
        Ok(())
    }

    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.items().get(record.as_str()).cloned())
    }

    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError> {
        self.put(record.as_str(), bytes.clone())
    }

    fn location(&self, _profile: &ProfileName) -> String {
        StoreKind::Memory.description().to_owned()
    }
}

impl MemoryStore {
    /// Returns all sessions and records by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, SecretBytes)> {
        self.items().iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }
}

/// The key to which logins encrypt what they give to this agent.
pub struct HandoverKey(Identity);

impl HandoverKey {
    /// Makes a key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Identity::generate())
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> String {
        self.0.to_public().to_string()
    }

    /// Decrypts what [`seal_for`] encrypted; `None` if that fails.
    #[must_use]
    pub fn open(&self, sealed: &[u8]) -> Option<SecretBytes> {
        age::decrypt(&self.0, sealed).ok().map(SecretBytes::new)
    }
}

/// Encrypts `plain` to the public key of an agent; `None` if that is invalid.
#[must_use]
pub fn seal_for(public: &str, plain: &SecretBytes) -> Option<Vec<u8>> {
    age::encrypt(&public.parse::<Recipient>().ok()?, plain.expose()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::session;
    use super::*;

    #[test]
    fn session_is_read_replaced_and_deleted() {
        let (store, name) = (MemoryStore::default(), "work".parse().expect("valid"));
        assert!(store.read(&name).expect("works").is_none() && !store.delete(&name).expect("works"));
        for token in ["first", "second"] {
            store.write(&name, &session(token)).expect("written");
            let read = store.read(&name).expect("readable").expect("there");
            assert_eq!(read.tokens.access_token.expose(), token);
        }
        assert!(store.delete(&name).expect("works") && store.read(&name).expect("works").is_none());
    }

    #[test]
    fn number_of_items_is_limited() {
        let store = MemoryStore::default();
        let write = |number: usize| store.write(&format!("p{number}").parse().expect("valid"), &session("t"));
        (0..MAX_ITEMS).for_each(|number| write(number).expect("written"));
        assert!(matches!(write(MAX_ITEMS), Err(StoreError::Refused { .. })));
        write(0).expect("replaced");
        assert_eq!(store.all().len(), MAX_ITEMS);
    }

    #[test]
    fn only_the_agent_opens_what_is_given_to_it() {
        let (agent, other) = (HandoverKey::generate(), HandoverKey::generate());
        let sealed = seal_for(&agent.public(), &SecretBytes::new(b"a session".to_vec())).expect("sealed");
        assert_eq!(agent.open(&sealed).expect("opened").expose(), b"a session");
        assert!(other.open(&sealed).is_none() && agent.open(b"something else").is_none());
        assert!(seal_for("no key", &SecretBytes::default()).is_none());
    }
}
