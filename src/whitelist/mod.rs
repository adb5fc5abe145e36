//! What a person wants: `Trade` → [`Decision`], each condition with its value and its bound. Pure.
//!
//! Whether a listing may be bought at all, and whether there is money for it, is asked elsewhere;
//! this room only knows what is wanted.
//!
//! # Invariants
//!
//! 1. Of several entries that fit, the first in the order given decides.
//! 2. A listing of which anything that decides could not be read is never wanted.
//! 3. Asking takes one look-up and the entries about that item, however many others there are.

mod entry;
mod verdict;

use std::collections::HashMap;

pub use entry::{ItemPattern, WearSet, WhitelistEntry};
use foldhash::fast::FixedState;
pub use verdict::{Decision, Mismatch};

use crate::domain::trade::Trade;

/// The entries of a whitelist, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Whitelist {
    entries: Vec<WhitelistEntry>,
    /// For each item the entries that could want it, `"*"` among them, in the order given.
    ///
    /// The names in it are the user's own, so its hash need not withstand an attack, only be fast.
    by_item: HashMap<Box<str>, Box<[usize]>, FixedState>,
    /// The entries for `"*"`, for items that no other entry names.
    for_any: Box<[usize]>,
}

impl Whitelist {
    /// Takes checked entries; their order decides which of several that fit is used.
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

    /// The entries, in the order given.
    pub fn entries(&self) -> &[WhitelistEntry] {
        &self.entries
    }

    /// Whether nothing is wanted.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Asks whether a listing is wanted, and by which entry.
    #[inline]
    pub fn decide(&self, trade: &Trade<'_>) -> Decision {
        let candidates = self.by_item.get(trade.item.as_ref()).unwrap_or(&self.for_any);
        if candidates.is_empty() {
            return Decision::NotListed;
        }
        let (Some(price), Some(markup), true) =
            (trade.total_value, trade.markup_percent, trade.defects.is_empty())
        else {
            return Decision::Unreadable(trade.defects);
        };
        let mut verdict = Decision::NotListed;
        for &index in candidates {
            let Some(entry) = self.entries.get(index) else { continue };
            match verdict::mismatch(entry, trade, price, markup) {
                None => return Decision::Wanted(index),
                Some(because) => verdict = Decision::Refused { entry: index, because },
            }
        }
        verdict
    }
}

#[cfg(test)]
pub(crate) mod tests;
