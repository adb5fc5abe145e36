//! The whitelist: `Trade` → [`Decision`]. Pure.
//!
//! Eligibility of a listing and limits of the budget are checked elsewhere.
//!
//! # Invariants
//!
//! 1. The first entry that matches decides.
//! 2. A listing with an unreadable required field never matches.
//! 3. A decision takes one look-up and one comparison per entry for that item; other entries cost
//!    nothing.

mod decision;

use std::collections::HashMap;

pub use self::decision::{Decision, Mismatch};
use foldhash::fast::FixedState;

use crate::domain::trade::Trade;
pub use crate::domain::whitelist_entry::{ItemPattern, WearSet, WhitelistEntry};

/// Compiled whitelist: entries indexed by item.
#[derive(Clone, Debug, Default)]
pub struct Whitelist {
    entries: Vec<WhitelistEntry>,
    /// Entries that can match an item, those for `"*"` included, in order.
    ///
    /// The keys come from the user's own settings, so the hash has to be fast, not resistant to
    /// collisions.
    by_item: HashMap<Box<str>, Box<[usize]>, FixedState>,
    /// Entries for `"*"`, used for items that no other entry names.
    for_any: Box<[usize]>,
}

impl Whitelist {
    /// Compiles validated entries. Their order is their precedence.
    pub fn new(entries: Vec<WhitelistEntry>) -> Self {
        let mut named: HashMap<Box<str>, Vec<usize>, FixedState> = HashMap::default();
        let mut for_any = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match &entry.item {
                ItemPattern::Named(item) => {
                    named.entry(item.as_str().into()).or_default().push(index);
                }
                ItemPattern::Any => for_any.push(index),
            }
        }
        let merged = |mut indices: Vec<usize>| {
            indices.extend_from_slice(&for_any);
            indices.sort_unstable();
            indices.into_boxed_slice()
        };
        let by_item = named.into_iter().map(|(item, indices)| (item, merged(indices))).collect();
        Self { entries, by_item, for_any: for_any.into_boxed_slice() }
    }

    pub fn entries(&self) -> &[WhitelistEntry] {
        &self.entries
    }

    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Matches a listing against the entries for its item.
    #[inline]
    pub fn decide(&self, trade: &Trade<'_>) -> Decision {
        let candidates = self.by_item.get(trade.item.as_ref()).unwrap_or(&self.for_any);
        if candidates.is_empty() {
            return Decision::NotListed;
        }
        let (Some(price), true) = (trade.total_value, trade.defects.is_empty()) else {
            return Decision::Unreadable(trade.defects);
        };
        let mut decision = Decision::NotListed;
        for &index in candidates {
            let Some(entry) = self.entries.get(index) else { continue };
            match decision::mismatch(entry, trade, price) {
                None => return Decision::Matched(index),
                Some(mismatch) => decision = Decision::Mismatched { entry: index, mismatch },
            }
        }
        decision
    }
}

#[cfg(test)]
pub(crate) mod tests;
