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
        match has_only(&attributes, &wanted) {
            Some(true) => items.ours.push(entry),
            Some(false) => items.others.push(entry),
            None => {}
        }
    }
    Ok(items)
}

/// Returns whether an item has the `wanted` attributes and no others. Returns `None` if one is missing: a service may find items
/// whatever the case of their attributes.
fn has_only(attributes: &HashMap<String, String>, wanted: &HashMap<&str, &str>) -> Option<bool> {
    let has_all = wanted.iter().all(|(name, value)| attributes.get(*name).is_some_and(|found| found == value));
    // Services and other programs add their schema under `xdg:`.
    let has_no_other = || attributes.keys().all(|name| wanted.contains_key(name.as_str()) || name.starts_with("xdg:"));
    has_all.then(has_no_other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_by_exactly_their_attributes() {
        let wanted = HashMap::from([("service", SERVICE), ("username", "work")]);
        for (attributes, expected) in [
            (&[("service", SERVICE), ("username", "work")][..], Some(true)),
            (&[("service", SERVICE), ("username", "work"), ("xdg:schema", "org.example")], Some(true)),
            (&[("service", SERVICE), ("username", "work"), ("target", "default")], Some(false)),
            (&[("service", SERVICE), ("username", "Work")], None),
            (&[("service", "Authctl"), ("username", "work")], None),
            (&[("service", SERVICE), ("Username", "work")], None),
            (&[("service", SERVICE)], None),
        ] {
            let attributes = attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(has_only(&attributes, &wanted), expected, "{attributes:?}");
        }
    }
}
