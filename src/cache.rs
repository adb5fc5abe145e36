//! What came by last, in bounded memory that is laid out once. Pure.
//!
//! A hash chooses a row, and the row holds the last [`WAYS`] keys that chose it: one line of the
//! processor's cache. So asking costs one line, however much is remembered; nothing grows, moves or
//! is tidied up, and no listing ever pays for another one.

use std::hash::{BuildHasher as _, Hash, RandomState};

/// How many keys a row holds.
const WAYS: usize = 8;
/// What stands where there is no key yet. No zero: zeros would be handed out by the system only
/// when they are first written to, which costs more than all the rest, and at the wrong moment.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct CacheRow([u64; WAYS]);

/// The keys that came by last, each with what is known of it.
///
/// Keys are told apart by 64 bits of a hash under a key of its own.
#[derive(Debug)]
pub struct SetAssocCache<T> {
    hasher: RandomState,
    rows: Box<[CacheRow]>,
    known: Box<[[T; WAYS]]>,
    /// Per row, where the next key goes: over the oldest.
    turns: Box<[u8]>,
}

impl<T: Copy> SetAssocCache<T> {
    /// Remembers about this many keys. `filler` stands where nothing is known yet.
    pub fn new(max: usize, filler: T) -> Self {
        let rows = max.div_ceil(WAYS).max(1);
        Self {
            hasher: RandomState::new(),
            rows: vec![CacheRow([NONE; WAYS]); rows].into(),
            known: vec![[filler; WAYS]; rows].into(),
            turns: vec![0; rows].into(),
        }
    }

    /// Remembers a key and what is known of it, unless it is there already: then what has been
    /// known of it since. Allocates nothing.
    #[inline]
    pub fn insert(&mut self, key: &impl Hash, known: T) -> Option<T> {
        let (hash, chosen) = self.place(key)?;
        let (row, facts) = (self.rows.get_mut(chosen)?, self.known.get_mut(chosen)?);
        if let Some(way) = row.0.iter().position(|key| *key == hash) {
            return facts.get(way).copied();
        }
        let turn = self.turns.get_mut(chosen)?;
        let way = usize::from(*turn) % WAYS;
        *row.0.get_mut(way)? = hash;
        *facts.get_mut(way)? = known;
        *turn = turn.wrapping_add(1);
        None
    }

    /// Forgets a key, so that it is new again.
    pub fn remove(&mut self, key: &impl Hash) {
        let Some((hash, chosen)) = self.place(key) else { return };
        let row = self.rows.get_mut(chosen).into_iter().flat_map(|row| &mut row.0);
        row.filter(|key| **key == hash).for_each(|key| *key = NONE);
    }

    /// The hash of a key, and its row.
    #[inline]
    fn place(&self, key: &impl Hash) -> Option<(u64, usize)> {
        let hash = self.hasher.hash_one(key).min(NONE - 1);
        let rows = u64::try_from(self.rows.len()).unwrap_or(u64::MAX);
        let chosen = usize::try_from((hash >> 32).checked_rem(rows)?).ok()?;
        Some((hash, chosen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_and_then_what_was_known_of_it_first() {
        let mut recent = SetAssocCache::new(64, 0);
        assert_eq!(recent.insert(&"a", 1), None);
        assert_eq!(recent.insert(&"b", 2), None);
        assert_eq!(recent.insert(&"a", 3), Some(1));
        assert_eq!(recent.insert(&"a", 4), Some(1));
    }

    #[test]
    fn a_removed_key_is_new_again_and_no_other_is() {
        let mut recent = SetAssocCache::new(64, 0);
        (0..8).for_each(|key| assert_eq!(recent.insert(&key, key), None));
        recent.remove(&3);
        recent.remove(&99);
        (0..8).for_each(|key| assert_eq!(recent.insert(&key, 9), (key != 3).then_some(key)));
    }

    #[test]
    fn the_oldest_of_a_row_is_forgotten_first() {
        let mut recent = SetAssocCache::new(WAYS, ());
        for key in 0..1_000_u32 {
            assert_eq!(recent.insert(&key, ()), None);
        }
        for key in 992..1_000 {
            assert_eq!(recent.insert(&key, ()), Some(()), "{key}");
        }
        assert_eq!(recent.insert(&991, ()), None);
        assert_eq!(recent.insert(&992, ()), None);
    }

    #[test]
    fn the_last_thousands_are_remembered_and_what_is_old_is_forgotten() {
        const MAX: usize = 32_768;
        let mut recent = SetAssocCache::new(MAX, ());
        for key in 0..MAX * 6 {
            assert_eq!(recent.insert(&key, ()), None);
        }
        for key in MAX * 6 - 1_000..MAX * 6 {
            assert_eq!(recent.insert(&key, ()), Some(()), "{key}");
        }
        assert_eq!(recent.insert(&0, ()), None);
    }
}
