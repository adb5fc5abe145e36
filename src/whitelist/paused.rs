//! Entries or groups that are paused, by position. Pure.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Set of paused entries. A change takes no lock. A decision reads one counter, and reads the flags
/// of its entries only while any entry is paused.
#[derive(Debug, Default)]
pub(super) struct PausedEntries {
    count: AtomicUsize,
    flags: Box<[AtomicBool]>,
}

impl PausedEntries {
    /// Creates a set for this number of entries, none of which is paused.
    pub(super) fn new(entries: usize) -> Self {
        let flags = std::iter::repeat_with(AtomicBool::default).take(entries).collect();
        Self { count: AtomicUsize::new(0), flags }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(super) fn contains(&self, index: usize) -> bool {
        self.flags.get(index).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, index: usize, is_paused: bool) {
        let Some(flag) = self.flags.get(index) else { return };
        if flag.swap(is_paused, Ordering::Relaxed) != is_paused {
            if is_paused {
                self.count.fetch_add(1, Ordering::Relaxed);
            } else {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Copies the flags, so that the copy changes independently.
impl Clone for PausedEntries {
    fn clone(&self) -> Self {
        let copy = Self::new(self.flags.len());
        (0..self.flags.len())
            .filter(|index| self.contains(*index))
            .for_each(|index| copy.set(index, true));
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_counted_once_however_often_it_is_paused() {
        let paused = PausedEntries::new(3);
        assert!(paused.is_empty() && !paused.contains(1));
        for _ in 0..2 {
            paused.set(1, true);
        }
        paused.set(9, true);
        let copy = paused.clone();
        assert!(copy.contains(1) && !copy.contains(0));
        paused.set(1, false);
        assert!(paused.is_empty() && !copy.is_empty());
    }
}
