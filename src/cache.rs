//! Fixed-size, allocation-free cache of recently seen keys. Pure.
//!
//! A hash selects a row of [`WAYS`] keys, which are one cache line and are followed by their
//! values, so a look-up reads one place in memory for any size. Nothing grows, moves or is cleaned
//! up, so every insertion takes the same time.

use std::hash::{BuildHasher as _, Hash, RandomState};

/// Number of keys in a row.
const WAYS: usize = 7;
/// Marks an unused slot. Not zero: the system provides zeroed pages only on the first write, and
/// that page fault would happen during a decision.
const EMPTY: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct CacheRow<T> {
    keys: [u64; WAYS],
    /// Number of insertions, which selects the slot of the next one.
    insertions: usize,
    values: [T; WAYS],
}

/// Cache of recently seen keys, each with a value.
///
/// Keys are compared by a 64-bit hash with a random key.
#[derive(Debug)]
pub struct SetAssocCache<T> {
    hasher: RandomState,
    rows: Box<[CacheRow<T>]>,
}

impl<T: Copy> SetAssocCache<T> {
    /// Creates a cache for about `max` keys. `empty` fills the unused values.
    pub fn new(max: usize, empty: T) -> Self {
        let rows = max.div_ceil(WAYS).max(1);
        let row = CacheRow { keys: [EMPTY; WAYS], insertions: 0, values: [empty; WAYS] };
        Self { hasher: RandomState::new(), rows: vec![row; rows].into() }
    }

    /// Inserts a key and its value. If the key is present, returns its value and changes nothing.
    /// Does not allocate.
    #[inline]
    pub fn insert(&mut self, key: &impl Hash, value: T) -> Option<T> {
        let (hash, row) = self.locate(key)?;
        let row = self.rows.get_mut(row)?;
        if let Some(present) = row.get(hash) {
            return Some(present);
        }
        let way = row.insertions % WAYS;
        *row.keys.get_mut(way)? = hash;
        *row.values.get_mut(way)? = value;
        row.insertions = row.insertions.wrapping_add(1);
        None
    }

    /// Returns the value of a key.
    #[inline]
    pub fn get(&self, key: &impl Hash) -> Option<T> {
        let (hash, row) = self.locate(key)?;
        self.rows.get(row)?.get(hash)
    }

    /// Inserts a key or replaces its value, at the place of the old one. Does not allocate.
    pub fn replace(&mut self, key: &impl Hash, value: T) {
        if self.insert(key, value).is_none() {
            return;
        }
        let Some((hash, row)) = self.locate(key) else { return };
        let Some(row) = self.rows.get_mut(row) else { return };
        let way = row.keys.iter().position(|key| *key == hash);
        let place = way.and_then(|way| row.values.get_mut(way));
        place.into_iter().for_each(|place| *place = value);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &impl Hash) {
        let Some((hash, row)) = self.locate(key) else { return };
        let keys = self.rows.get_mut(row).into_iter().flat_map(|row| &mut row.keys);
        keys.filter(|key| **key == hash).for_each(|key| *key = EMPTY);
    }

    /// Returns the hash of a key and its row.
    #[inline]
    fn locate(&self, key: &impl Hash) -> Option<(u64, usize)> {
        let hash = self.hasher.hash_one(key).min(EMPTY - 1);
        let rows = u64::try_from(self.rows.len()).unwrap_or(u64::MAX);
        let chosen = usize::try_from((hash >> 32).checked_rem(rows)?).ok()?;
        Some((hash, chosen))
    }
}

impl<T: Copy> CacheRow<T> {
    #[inline]
    fn get(&self, hash: u64) -> Option<T> {
        let way = self.keys.iter().position(|key| *key == hash)?;
        self.values.get(way).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_returns_its_first_value() {
        let mut cache = SetAssocCache::new(64, 0);
        assert_eq!(cache.insert(&"a", 1), None);
        assert_eq!(cache.insert(&"b", 2), None);
        assert_eq!(cache.insert(&"a", 3), Some(1));
        assert_eq!(cache.insert(&"a", 4), Some(1));
    }

    #[test]
    fn a_removed_key_is_new_again_and_others_stay() {
        let mut cache = SetAssocCache::new(64, 0);
        (0..8).for_each(|key| assert_eq!(cache.insert(&key, key), None));
        assert_eq!((cache.get(&3), cache.get(&99)), (Some(3), None));
        cache.remove(&3);
        cache.remove(&99);
        assert_eq!(cache.get(&3), None);
        (0..8).for_each(|key| assert_eq!(cache.insert(&key, 9), (key != 3).then_some(key)));
    }

    #[test]
    fn a_value_that_is_replaced_often_evicts_no_other_key() {
        let mut cache = SetAssocCache::new(WAYS, 0);
        (0..WAYS).for_each(|key| assert_eq!(cache.insert(&key, key), None));
        (0..100).for_each(|value| cache.replace(&3_usize, value));
        (0..WAYS)
            .for_each(|key| assert_eq!(cache.get(&key), Some(if key == 3 { 99 } else { key })));
    }

    #[test]
    fn the_oldest_key_of_a_row_is_evicted_first() {
        let mut cache = SetAssocCache::new(WAYS, ());
        for key in 0..1_000_usize {
            assert_eq!(cache.insert(&key, ()), None);
        }
        let oldest = 1_000 - WAYS;
        for key in oldest..1_000 {
            assert_eq!(cache.insert(&key, ()), Some(()), "{key}");
        }
        assert_eq!(cache.insert(&(oldest - 1), ()), None);
        assert_eq!(cache.insert(&oldest, ()), None);
    }

    #[test]
    fn recent_keys_are_kept_and_old_ones_evicted() {
        const MAX: usize = 32_768;
        let mut cache = SetAssocCache::new(MAX, ());
        for key in 0..MAX * 6 {
            assert_eq!(cache.insert(&key, ()), None);
        }
        for key in MAX * 6 - 1_000..MAX * 6 {
            assert_eq!(cache.insert(&key, ()), Some(()), "{key}");
        }
        assert_eq!(cache.insert(&0, ()), None);
    }
}
