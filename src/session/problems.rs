//! The problems that a command reports at its end.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What has a problem, such as a file, each with the reason.
pub(super) struct Problems<K>(Mutex<BTreeMap<K, String>>);

impl<K> Default for Problems<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> Problems<K> {
    /// Records a problem; returns whether it is a new one.
    pub(super) fn add(&self, of: K, reason: String) -> bool {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        problems.get(&of) != Some(&reason) && {
            problems.insert(of, reason);
            true
        }
    }

    /// Records that a problem is solved.
    pub(super) fn remove<Q: Ord + ?Sized>(&self, of: &Q)
    where
        K: Borrow<Q>,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(of);
    }

    /// Returns all, which are then reported and not returned again.
    pub(super) fn take(&self) -> BTreeMap<K, String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_reported_once_and_not_after_it_is_solved() {
        let problems = Problems::default();
        assert!(problems.add("a", "x".to_owned()) && !problems.add("a", "x".to_owned()));
        assert!(problems.add("a", "y".to_owned()) && problems.add("b", "x".to_owned()));
        problems.remove("b");
        assert_eq!(problems.take(), BTreeMap::from([("a", "y".to_owned())]));
        assert!(problems.take().is_empty() && problems.add("a", "y".to_owned()));
    }
}
