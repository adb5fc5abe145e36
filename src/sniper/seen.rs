//! Which listings have been decided on already, in bounded memory. Pure.

use std::collections::{HashSet, VecDeque};

use crate::trade::TradeId;

/// A set of ids that forgets the oldest when it is full.
#[derive(Debug)]
pub struct Seen {
    ids: HashSet<TradeId>,
    order: VecDeque<TradeId>,
    max: usize,
}

impl Seen {
    /// Remembers this many ids. The memory is taken now, so that no listing waits for it later.
    pub fn new(max: usize) -> Self {
        Self { ids: HashSet::with_capacity(max), order: VecDeque::with_capacity(max), max }
    }

    /// Adds an id; `false` if it was there.
    pub fn insert(&mut self, id: TradeId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        if self.order.len() >= self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.order.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> TradeId {
        TradeId::new(&format!("id{number}")).unwrap()
    }

    #[test]
    fn an_id_is_new_once() {
        let mut seen = Seen::new(4);
        assert!(seen.insert(id(1)));
        assert!(!seen.insert(id(1)));
        assert!(seen.insert(id(2)));
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_memory_stays_bounded() {
        let mut seen = Seen::new(4);
        for number in 0..1_000 {
            assert!(seen.insert(id(number)));
            assert!(seen.ids.len() <= 4 && seen.order.len() <= 4);
        }
        assert!(!seen.insert(id(996)));
        assert!(seen.insert(id(995)));
    }
}
