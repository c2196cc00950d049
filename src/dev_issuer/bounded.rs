//! A table with a limit, whose oldest entry makes room for a new one, and the hashes that secrets are looked up by.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use aws_lc_rs::digest;

/// SHA-256 of a secret: what is kept of codes and tokens, so that the table itself opens nothing.
pub(super) type Digest = [u8; 32];

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-256 of text.
pub(super) fn hashed(text: &str) -> Digest {
    sha256(text.as_bytes())
}

/// A map of at most `most` entries.
pub(super) struct Bounded<K, V> {
    most: usize,
    entries: HashMap<K, V>,
    /// Keys in the order they came; may name some that have left.
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Copy, V> Bounded<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, entries: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        while self.entries.len() >= self.most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        if self.order.len() >= self.most.saturating_mul(2) {
            let entries = &self.entries;
            self.order.retain(|key| entries.contains_key(key));
        }
        self.entries.insert(key, value);
        self.order.push_back(key);
    }

    pub(super) fn find(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn find_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_the_order_does_not_grow_for_ever() {
        let mut table = Bounded::new(3);
        for n in 0..4 {
            table.insert(n, n);
        }
        assert_eq!((table.find(&0), table.find(&3)), (None, Some(&3)));
        for n in 4..1000 {
            table.insert(n, n);
            table.remove(&n);
        }
        assert!(table.order.len() <= 6, "{}", table.order.len());
        assert!(table.entries.len() <= 3);
    }
}
