//! The records in a store other than sessions. Their names are no valid profile names.

use aws_lc_rs::digest;

use super::IssuerUrl;

/// The name of a record in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordName(String);

impl RecordName {
    /// Returns the name of the record of the latest time seen on this machine; see [`super::ClockMark`].
    #[must_use]
    pub fn clock() -> Self {
        Self("@clock".to_owned())
    }

    /// Returns the name of an issuer's trust record; see [`super::Trust`]. It contains a hash of the issuer, since a
    /// URL is not a valid file name.
    #[must_use]
    pub fn of_issuer(issuer: &IssuerUrl) -> Self {
        Self(format!("@{}", Self::issuer_lock_name(issuer)))
    }

    /// Returns the name of the record of the client that authctl has registered at the issuer; see [`super::Registration`].
    #[must_use]
    pub fn of_registration(issuer: &IssuerUrl) -> Self {
        Self(format!("@client-{}", Self::issuer_lock_name(issuer)))
    }

    /// Returns the name of the issuer's trust lock.
    #[must_use]
    pub fn issuer_lock_name(issuer: &IssuerUrl) -> String {
        let hash = digest::digest(&digest::SHA256, issuer.as_str().as_bytes());
        let hash: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("issuer-{hash}")
    }

    /// Returns the name of the record of the file store's passphrase, in the keychain.
    #[must_use]
    pub fn passphrase() -> Self {
        Self("@passphrase".to_owned())
    }

    /// Returns the record of this name; `None` if no record has such a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let rest = name.strip_prefix('@')?;
        let fits = (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| Self(name.to_owned()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProfileName;
    use super::*;

    #[test]
    fn no_profile_has_a_records_name_and_each_issuer_has_its_own() {
        let issuer = |url: &str| RecordName::of_issuer(&url.parse().expect("an issuer"));
        let names = [RecordName::clock(), issuer("https://a.example"), issuer("https://a.example/")];
        for name in &names {
            assert!(name.as_str().parse::<ProfileName>().is_err(), "{name:?}");
        }
        assert_ne!(names[1], names[2]);
    }
}
