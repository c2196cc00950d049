//! A map with a limit on its entries: the oldest one is dropped for a new one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map of at most `max_entries` entries.
pub(super) struct BoundedMap<K, V> {
    max_entries: usize,
    entries: HashMap<K, V>,
    /// Keys in the order of insertion; may contain keys that were removed.
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Copy, V> BoundedMap<K, V> {
    pub(super) fn new(max_entries: usize) -> Self {
        Self { max_entries, entries: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        while self.entries.len() >= self.max_entries {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        if self.order.len() >= self.max_entries.saturating_mul(2) {
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
    fn full_map_drops_its_oldest_entry_and_stays_bounded() {
        let mut map = BoundedMap::new(3);
        for n in 0..4 {
            map.insert(n, n);
        }
        assert_eq!((map.find(&0), map.find(&3)), (None, Some(&3)));
        for n in 4..1000 {
            map.insert(n, n);
            map.remove(&n);
        }
        assert!(map.order.len() <= 6, "{}", map.order.len());
        assert!(map.entries.len() <= 3);
    }
}
