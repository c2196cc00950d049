//! The tokens that were revoked on this machine before they expired.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use crate::clock::UnixTime;

/// The maximum leeway for clock differences in a verification: a day. A revocation is stored for this long after the token
/// has expired, so that no leeway makes a revoked token valid again.
pub const MAX_LEEWAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The SHA-256 digest of what identifies a token.
pub type TokenDigest = [u8; 32];

/// A revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedToken {
    /// When the token expires.
    pub expires_at: UnixTime,
    /// For a revoked login: only its tokens that were issued until then are revoked, since the same session at the issuer
    /// may be used for another login.
    pub issued_until: Option<UnixTime>,
}

/// A set of revocations, by the digest of what identifies the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedTokens {
    by_digest: HashMap<TokenDigest, RevokedToken>,
}

impl RevokedTokens {
    /// The maximum number of revocations. If there are more, those that expire first are dropped.
    pub const MAX: usize = 10_000;

    /// Returns whether there is no revocation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// Returns the number of revocations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Returns the revocation of `digest`.
    #[must_use]
    pub fn get(&self, digest: &TokenDigest) -> Option<&RevokedToken> {
        self.by_digest.get(digest)
    }

    /// Adds a revocation. Of two for the same digest, the later times apply.
    pub fn insert(&mut self, digest: TokenDigest, revoked: RevokedToken) {
        match self.by_digest.entry(digest) {
            Entry::Vacant(entry) => drop(entry.insert(revoked)),
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.expires_at = known.expires_at.max(revoked.expires_at);
                known.issued_until = known.issued_until.max(revoked.issued_until);
            }
        }
    }

    /// Drops the tokens that expired more than [`MAX_LEEWAY`] ago, and those beyond [`RevokedTokens::MAX`].
    pub fn prune(&mut self, now: UnixTime) {
        self.by_digest.retain(|_, revoked| revoked.expires_at.plus(MAX_LEEWAY) >= now);
        if self.by_digest.len() > Self::MAX {
            let mut all: Vec<(TokenDigest, RevokedToken)> = self.by_digest.drain().collect();
            all.sort_by_key(|(_, revoked)| std::cmp::Reverse(revoked.expires_at));
            all.truncate(Self::MAX);
            self.by_digest.extend(all);
        }
    }

    /// Returns all revocations, unordered.
    pub fn iter(&self) -> impl Iterator<Item = (&TokenDigest, &RevokedToken)> {
        self.by_digest.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u16) -> TokenDigest {
        let mut digest = TokenDigest::default();
        digest[..2].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn expiring(at: i64) -> RevokedToken {
        RevokedToken { expires_at: UnixTime(at), issued_until: None }
    }

    #[test]
    fn revocation_outlasts_every_leeway() {
        let day = 24 * 60 * 60;
        let mut tokens = RevokedTokens::default();
        tokens.insert(digest(1), expiring(1000));
        tokens.prune(UnixTime(1000 + day));
        assert!(tokens.get(&digest(1)).is_some());
        tokens.prune(UnixTime(1001 + day));
        assert!(tokens.is_empty());
    }

    #[test]
    fn later_times_hold_for_the_same_digest() {
        let mut tokens = RevokedTokens::default();
        let revoked = |at, until: i64| RevokedToken { expires_at: UnixTime(at), issued_until: Some(UnixTime(until)) };
        for (at, until) in [(10, 5), (20, 4), (15, 6)] {
            tokens.insert(digest(1), revoked(at, until));
        }
        assert_eq!((tokens.len(), tokens.get(&digest(1))), (1, Some(&revoked(20, 6))));
    }

    #[test]
    fn tokens_that_expire_first_are_forgotten_beyond_the_limit() {
        let mut tokens = RevokedTokens::default();
        for number in 0..10_005u16 {
            tokens.insert(digest(number), expiring(1000 + i64::from(number)));
        }
        tokens.prune(UnixTime(0));
        assert_eq!(tokens.len(), RevokedTokens::MAX);
        assert!(tokens.get(&digest(4)).is_none() && tokens.get(&digest(5)).is_some());
    }
}
