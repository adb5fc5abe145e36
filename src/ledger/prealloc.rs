//! Preallocation of collections. Pure.
//!
//! Growing a collection delays the insertion that triggers it. So does the first write to each page
//! of new memory, which costs a microsecond or more, because the system maps the page only then.
//! Therefore collections grow in advance, outside of the order path, and the new memory is written
//! once.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Reserves capacity for `more` elements of a vector.
pub(super) fn list<T: Clone>(list: &mut Vec<T>, more: usize, filler: T) {
    let len = list.len();
    if list.capacity().saturating_sub(len) < more {
        list.reserve_exact(more.saturating_mul(2));
        list.resize(list.capacity(), filler);
        list.truncate(len);
    }
}

/// Reserves capacity for `more` elements of a queue.
pub(super) fn queue<T: Clone>(queue: &mut VecDeque<T>, more: usize, filler: T) {
    let len = queue.len();
    if queue.capacity().saturating_sub(len) < more {
        queue.reserve_exact(more.saturating_mul(2));
        queue.resize(queue.capacity(), filler);
        queue.truncate(len);
    }
}

/// Reserves capacity for `more` entries of a map. `filler` returns distinct keys.
pub(super) fn table<K: Hash + Eq, V: Clone>(
    table: &mut HashMap<K, V>,
    more: usize,
    filler: impl Fn(usize) -> Option<K>,
    value: &V,
) {
    if more <= table.capacity().saturating_sub(table.len()) {
        return;
    }
    table.reserve(more.saturating_mul(2));
    // A map that is not empty needs no filler: growing it moves its entries, which touches all of
    // its memory.
    if table.is_empty() {
        table.extend((0..table.capacity()).filter_map(filler).map(|key| (key, value.clone())));
        table.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_capacity_is_reserved_and_the_elements_are_kept() {
        for held in [0, 1, 5, 1_000] {
            let mut a_list: Vec<usize> = (0..held).collect();
            let mut a_queue: VecDeque<usize> = (0..held).collect();
            let mut a_table: HashMap<usize, usize> = (0..held).map(|key| (key, key)).collect();
            list(&mut a_list, 100, 7);
            queue(&mut a_queue, 100, 7);
            table(&mut a_table, 100, Some, &7);
            assert!(a_list.iter().copied().eq(0..held) && a_queue.iter().copied().eq(0..held));
            assert_eq!(a_table.len(), held);
            assert!((0..held).all(|key| a_table.get(&key) == Some(&key)));
            let room = [
                a_list.capacity() - a_list.len(),
                a_queue.capacity() - a_queue.len(),
                a_table.capacity() - a_table.len(),
            ];
            assert!(room.iter().all(|room| *room >= 100), "{room:?}");
        }
    }

    #[test]
    fn sufficient_capacity_is_not_reallocated() {
        let mut full = Vec::with_capacity(64);
        full.push(1);
        let before = full.as_ptr();
        list(&mut full, 63, 0);
        assert_eq!((full.as_ptr(), full.capacity()), (before, 64));
    }
}
