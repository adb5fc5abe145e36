//! One source's prices by item, as read from its file.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    item_key::{ItemKey, Phase},
    value::RefPrice,
};
use crate::{
    domain::{percent_rule::QuoteSide, time::UnixMs},
    secret,
};

/// Maximum number of items of one source. The largest known has 30,000.
pub const ITEMS_MAX: usize = 200_000;

/// Count of an offer whose source states none.
const NO_COUNT: u32 = u32::MAX;

/// A price of one side, with the number of offers behind it and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub price: RefPrice,
    count: u32,
    /// Seconds since 1970; zero if the source states no time for this item.
    at_s: u32,
}

/// Prices of one item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    pub ask: Option<Offer>,
    pub bid: Option<Offer>,
}

/// Prices of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTable {
    quotes: BTreeMap<ItemKey<'static>, Quote>,
    /// Time that the file states for all its prices.
    pub at: Option<UnixMs>,
}

impl Offer {
    pub const fn new(price: RefPrice) -> Self {
        Self { price, count: NO_COUNT, at_s: 0 }
    }

    /// Sets the number of offers; `None` if it is unknown.
    #[must_use]
    pub fn with_count(self, count: Option<u32>) -> Self {
        Self { count: count.map_or(NO_COUNT, |count| count.min(NO_COUNT - 1)), ..self }
    }

    /// Sets the time of the price, to the second. A time before 1970 becomes one second after it,
    /// and one after 2106 that year, so that neither counts as no time.
    #[must_use]
    pub fn with_time(self, at: Option<UnixMs>) -> Self {
        let seconds = |at: UnixMs| u32::try_from(at.0.div_euclid(1_000).max(1)).unwrap_or(u32::MAX);
        Self { at_s: at.map_or(0, seconds), ..self }
    }

    /// Returns the number of offers behind the price, if the source states it.
    pub const fn count(self) -> Option<u32> {
        if self.count == NO_COUNT { None } else { Some(self.count) }
    }

    /// Returns the time of the price, if the source states one for each item.
    pub fn at(self) -> Option<UnixMs> {
        (self.at_s != 0).then(|| UnixMs(i64::from(self.at_s).saturating_mul(1_000)))
    }

    /// Returns the time of the price in a table of this time: the older of both.
    #[inline]
    pub fn time_in(self, table: UnixMs) -> UnixMs {
        self.at().map_or(table, |at| at.min(table))
    }

    /// Returns the preferred one of two offers for the same item: the one with the higher count, or
    /// the lower one if a count is unknown or both are equal.
    fn preferred(self, other: Self) -> Self {
        let is_other = match (self.count(), other.count()) {
            (Some(count), Some(others)) if count != others => count < others,
            _ => other.price < self.price,
        };
        if is_other { other } else { self }
    }
}

impl Quote {
    pub const fn side(&self, side: QuoteSide) -> Option<Offer> {
        match side {
            QuoteSide::Ask => self.ask,
            QuoteSide::Bid => self.bid,
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.ask.is_none() && self.bid.is_none()
    }

    fn merge(&mut self, other: Self) {
        let preferred = |one: Option<Offer>, other: Option<Offer>| match (one, other) {
            (Some(one), Some(other)) => Some(one.preferred(other)),
            (one, other) => one.or(other),
        };
        self.ask = preferred(self.ask, other.ask);
        self.bid = preferred(self.bid, other.bid);
    }
}

impl PriceTable {
    /// Adds the prices of an item by its name, or of one of its phases. A name that no item has and
    /// a quote without a price are dropped. If the item has a price of a side already, the one with
    /// more offers is kept.
    pub fn add(&mut self, name: &str, phase: Option<Phase>, quote: Quote) {
        if quote.is_empty() {
            return;
        }
        let name = unescape_html(name);
        let Some(key) = ItemKey::parse(&name) else { return };
        let key = match (phase, key.variant.phase()) {
            (None, _) => key,
            (Some(phase), None) => key.with_phase(phase),
            (Some(phase), Some(within)) if phase == within => key,
            // Two different phases: the row contradicts itself.
            (Some(_), Some(_)) => return,
        };
        self.insert(key.into_owned(), quote);
    }

    /// Adds the prices of an item by its key.
    pub fn insert(&mut self, key: ItemKey<'static>, quote: Quote) {
        if quote.is_empty() {
            return;
        }
        match self.quotes.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(quote);
            }
            Entry::Occupied(mut slot) => slot.get_mut().merge(quote),
        }
    }

    /// Removes items whose names contain a secret, which a site may repeat.
    pub fn remove_secrets(&mut self) {
        self.quotes.retain(|key, _quote| !secret::appears_in(&key.base));
    }

    /// Returns the number of items with a price.
    pub fn len(&self) -> usize {
        self.quotes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.quotes.is_empty()
    }

    pub fn get(&self, key: &ItemKey<'static>) -> Option<&Quote> {
        self.quotes.get(key)
    }

    /// Iterates over the items, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&ItemKey<'static>, &Quote)> {
        self.quotes.iter()
    }

    /// Returns the time of the newest price if the table is of the time `at`. If the table has asks
    /// and bids, returns that of the side whose newest price is older.
    pub fn newest(&self, at: UnixMs) -> UnixMs {
        let newest = |side| {
            let offers = self.quotes.values().filter_map(move |quote| quote.side(side));
            offers.map(|offer| offer.time_in(at)).max()
        };
        QuoteSide::ALL.into_iter().filter_map(newest).min().unwrap_or(at)
    }

    /// Returns `true` if any item has a price of this side.
    pub fn has_side(&self, side: QuoteSide) -> bool {
        self.quotes.values().any(|quote| quote.side(side).is_some())
    }
}

/// Replaces the HTML escapes that some sources write in names.
fn unescape_html(name: &str) -> std::borrow::Cow<'_, str> {
    if !name.contains('&') {
        return name.into();
    }
    const ESCAPES: [(&str, &str); 6] = [
        ("&#39;", "'"),
        ("&#39", "'"),
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    let replace = |name: String, (from, to): (&str, &str)| name.replace(from, to);
    ESCAPES.into_iter().fold(name.to_owned(), replace).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn ask(micros: u64, count: Option<u32>) -> Quote {
        let offer = Offer::new(RefPrice::from_micros(micros).unwrap()).with_count(count);
        Quote { ask: Some(offer), bid: None }
    }

    fn only(rows: &[(&str, Quote)]) -> Quote {
        let mut table = PriceTable::default();
        rows.iter().for_each(|(name, quote)| table.add(name, None, *quote));
        assert_eq!(table.len(), 1, "{table:?}");
        *table.iter().next().unwrap().1
    }

    #[test]
    fn of_two_rows_for_one_item_the_one_with_more_offers_is_kept() {
        let (few, many) = (ask(900_000, Some(1)), ask(1_000_000, Some(40)));
        assert_eq!(only(&[("Fracture Case", few), ("Fracture  Case", many)]), many);
        assert_eq!(only(&[("Fracture Case", many), ("Fracture Case ", few)]), many);
    }

    #[test]
    fn of_two_rows_without_counts_the_lower_price_is_kept() {
        let (low, high) = (ask(900_000, None), ask(1_000_000, None));
        assert_eq!(only(&[("Fracture Case", high), ("Fracture Case", low)]), low);
        let (low, high) = (ask(900_000, Some(2)), ask(1_000_000, Some(2)));
        assert_eq!(only(&[("Fracture Case", low), ("Fracture Case", high)]), low);
    }

    #[test]
    fn names_with_html_escapes_are_those_of_the_items() {
        let mut table = PriceTable::default();
        table.add("MAG-7 | Navy &amp; Gold", None, ask(1_000_000, None));
        table.add("Sticker | Who&#39s Next", None, ask(1_000_000, None));
        table.add("Sticker | Who&#39;s First", None, ask(1_000_000, None));
        let names: Vec<String> = table.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(names, ["MAG-7 | Navy & Gold", "Sticker | Who's First", "Sticker | Who's Next"]);
    }

    #[test]
    fn rows_without_price_or_with_two_phases_are_dropped() {
        let mut table = PriceTable::default();
        table.add("Fracture Case", None, Quote::default());
        table.add("★ Karambit | Doppler Ruby", Some(Phase::Two), ask(1_000_000, None));
        assert!(table.is_empty());
        table.add("★ Karambit | Doppler Ruby", Some(Phase::Ruby), ask(1_000_000, None));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn counts_and_times_are_kept_to_their_bounds() {
        let offer = Offer::new(RefPrice::MAX);
        assert_eq!((offer.count(), offer.at()), (None, None));
        assert_eq!(offer.with_count(Some(u32::MAX)).count(), Some(u32::MAX - 1));
        assert_eq!(
            offer.with_time(Some(UnixMs(1_772_352_000_999))).at(),
            Some(UnixMs(1_772_352_000_000))
        );
        for (at, kept_s) in [(i64::MAX, u32::MAX), (0, 1), (i64::MIN, 1)] {
            let kept = UnixMs(i64::from(kept_s) * 1_000);
            assert_eq!(offer.with_time(Some(UnixMs(at))).at(), Some(kept), "{at}");
        }
    }
}
