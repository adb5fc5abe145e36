//! The greatest prices that percent rules allow, by item: built off the hot path for each snapshot
//! of the prices, so that a scan can compare name and price before a listing is read.
//!
//! A maximum price is never below a price at which a listing can be ordered with these prices, now
//! or while they become older. It may be above it: it covers all variants of a name that the entry
//! accepts.

use std::sync::Arc;

use super::{
    book::PriceBook,
    item_key::{ItemVariant, listing_bases, split_phase},
    table::Quote,
};
use crate::domain::{
    percent_rule::PercentRule,
    time::UnixMs,
    wanted_items::WantedItems,
    whitelist_entry::{ItemPattern, WhitelistEntry},
};

/// Reference prices with the maximum prices that follow from them. Both are replaced together.
#[derive(Clone, Debug, Default)]
pub struct PriceSnapshot {
    pub book: Arc<PriceBook>,
    pub wanted: Arc<WantedItems>,
}

impl PriceSnapshot {
    /// Builds the maximum prices of these entries, which takes a time proportional to the prices
    /// for each entry for `"*"`.
    pub fn new(book: PriceBook, entries: &[WhitelistEntry], now: UnixMs) -> Self {
        let wanted = Arc::new(wanted_items(entries, &book, now));
        Self { book: Arc::new(book), wanted }
    }

    /// Returns `true` if no other thread uses this snapshot.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.book) == 1 && Arc::strong_count(&self.wanted) == 1
    }
}

/// Returns the wanted items with the maximum prices of all entries.
pub fn wanted_items(entries: &[WhitelistEntry], book: &PriceBook, now: UnixMs) -> WantedItems {
    let mut wanted = WantedItems::of(entries);
    for entry in entries {
        let Some(rule) = &entry.percent else { continue };
        let mut rows = EntryRows { entry, rule, book, now, wanted: &mut wanted };
        match &entry.item {
            ItemPattern::Named(item) => {
                let (base, phase) = split_phase(item);
                for (variant, quotes) in book.variants(base) {
                    if variant.phase() == phase {
                        rows.add(std::slice::from_ref(item), variant, quotes);
                    }
                }
            }
            ItemPattern::Any => {
                for (base, variant, quotes) in book.rows() {
                    rows.add(&listing_bases(base, variant.phase()), variant, quotes);
                }
            }
        }
    }
    wanted.shrunk()
}

/// Adds the maximum prices of one entry.
struct EntryRows<'e> {
    entry: &'e WhitelistEntry,
    rule: &'e PercentRule,
    book: &'e PriceBook,
    now: UnixMs,
    wanted: &'e mut WantedItems,
}

impl EntryRows<'_> {
    fn add(&mut self, names: &[String], variant: ItemVariant, quotes: &[Quote]) {
        let Self { entry, .. } = self;
        let is_accepted = variant.is_stattrak() == entry.stattrak
            && variant.is_souvenir() == entry.souvenir
            && entry.wears.accepts(variant.wear());
        if !is_accepted {
            return;
        }
        let Some(allowed) = self.book.max_price(self.rule, quotes, self.now) else { return };
        let max_price = allowed.min(entry.max_price);
        if entry.min_price <= max_price {
            for name in names {
                self.wanted.raise(name, entry, max_price);
            }
        }
    }
}

#[cfg(test)]
mod tests;
