//! Secret Service items (Linux).

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::CredentialStore;
use keyring_core::{Entry, Error as KeyringError};

use super::error::store_error;
use super::{SERVICE, StoreError, label};

/// The items found for a profile.
pub(super) struct Items {
    /// Those with exactly our attributes.
    pub(super) ours: Vec<Entry>,
    /// Those with our attributes and more, from another program.
    pub(super) others: Vec<Entry>,
}

pub(super) fn connect() -> Result<Arc<CredentialStore>, StoreError> {
    match dbus_secret_service_keyring_store::Store::new() {
        Ok(store) => Ok(store),
        Err(e) => Err(match store_error(e) {
            StoreError::Refused { detail } => StoreError::Absent { detail },
            other => other,
        }),
    }
}

pub(super) fn entry(connection: &Arc<CredentialStore>, user_name: &str) -> Result<Entry, StoreError> {
    let label = label(user_name);
    let modifiers = HashMap::from([("label", label.as_str())]);
    connection.build(SERVICE, user_name, Some(&modifiers)).map_err(store_error)
}

pub(super) fn items(connection: &Arc<CredentialStore>, name: &str) -> Result<Items, StoreError> {
    let wanted = HashMap::from([("service", SERVICE), ("username", name)]);
    let mut items = Items { ours: Vec::new(), others: Vec::new() };
    for entry in connection.search(&wanted).map_err(store_error)? {
        let attributes = match entry.get_attributes() {
            Ok(attributes) => attributes,
            Err(KeyringError::NoEntry) => continue,
            Err(e) => return Err(store_error(e)),
        };
        // A service may find items whatever the case of their attributes.
        if !wanted.iter().all(|(name, value)| attributes.get(*name).is_some_and(|found| found == value)) {
            continue;
        }
        // Services and other programs add their schema under `xdg:`.
        let exact = attributes.keys().all(|k| wanted.contains_key(k.as_str()) || k.starts_with("xdg:"));
        if exact { items.ours.push(entry) } else { items.others.push(entry) }
    }
    Ok(items)
}
