//! Suggests entries: finds the items that were listed below a share of their reference, counts how
//! often, and computes the profit of buying them within a budget. Pure.
//!
//! The typical listing of an item is the one with the median price. At most [`SAMPLES_MAX`]
//! listings of an item are kept: once there are more, every other one is dropped, so that the rest
//! is spread over the whole recording. The same listings in the same order give the same
//! suggestions.

use std::collections::BTreeMap;

use crate::{
    domain::money::{Amount, Percent},
    prices::table::ITEMS_MAX,
};

/// Maximum number of listings that are kept of one item.
const SAMPLES_MAX: usize = 64;

/// A listing of an item that has a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PricedListing {
    pub price: Amount,
    /// Price as a share of the reference.
    pub percent: Percent,
    /// Expected margin of selling it; `None` without a price where it is sold.
    pub margin: Option<Percent>,
}

/// An item worth an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// Market name.
    pub name: String,
    /// Listings at or below the share.
    pub matches: u64,
    /// All listings with a reference.
    pub listings: u64,
    /// The listing with the median price among the matches.
    pub typical: PricedListing,
    /// Highest price among the matches.
    pub price_max: Amount,
    /// Number of listings to buy at the typical price from the rest of the budget.
    pub quantity: u64,
    /// Expected profit of this number.
    pub profit: Amount,
}

/// Listings of one item.
#[derive(Clone, Debug, Default)]
struct ItemListings {
    listings: u64,
    matches: u64,
    price_max: Amount,
    samples: Vec<PricedListing>,
    /// Number of matches per kept sample; zero before the first match.
    stride: u64,
}

/// Collects the listings of a recording.
#[derive(Clone, Debug)]
pub struct SuggestionCollector {
    max_percent: Percent,
    items: BTreeMap<String, ItemListings>,
    left_out: u64,
}

impl ItemListings {
    fn add(&mut self, listing: PricedListing) {
        self.stride = self.stride.max(1);
        if self.matches.checked_rem(self.stride) == Some(0) {
            if self.samples.len() >= SAMPLES_MAX {
                let mut position = 0_usize;
                self.samples.retain(|_| {
                    position = position.saturating_add(1);
                    position % 2 == 1
                });
                self.stride = self.stride.saturating_mul(2);
            }
            // The number of this match is also a multiple of the doubled stride.
            self.samples.push(listing);
        }
        self.matches = self.matches.saturating_add(1);
        self.price_max = self.price_max.max(listing.price);
    }

    fn typical(&self) -> Option<PricedListing> {
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        samples.get(samples.len().saturating_sub(1) / 2).copied()
    }
}

impl SuggestionCollector {
    /// Creates a collector that counts listings up to this share of their reference as matches.
    pub const fn new(max_percent: Percent) -> Self {
        Self { max_percent, items: BTreeMap::new(), left_out: 0 }
    }

    /// Adds a listing by its market name.
    pub fn add(&mut self, name: &str, listing: PricedListing) {
        if self.items.len() >= ITEMS_MAX && !self.items.contains_key(name) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let item = match self.items.get_mut(name) {
            Some(item) => item,
            None => self.items.entry(name.to_owned()).or_default(),
        };
        item.listings = item.listings.saturating_add(1);
        if listing.percent <= self.max_percent {
            item.add(listing);
        }
    }

    /// Returns the number of listings that were not collected, because there were too many items.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Returns the items with a match, sorted by the profit that each would give with the whole
    /// budget, and divides the budget in this order.
    pub fn finish(self, budget: Amount) -> Vec<Suggestion> {
        let mut found: Vec<Suggestion> = self
            .items
            .into_iter()
            .filter_map(|(name, item)| {
                let typical = item.typical()?;
                let mut suggestion = Suggestion {
                    name,
                    matches: item.matches,
                    listings: item.listings,
                    typical,
                    price_max: item.price_max,
                    quantity: 0,
                    profit: Amount::ZERO,
                };
                suggestion.allot(budget);
                Some(suggestion)
            })
            .collect();
        // The names are sorted and unique, so items of the same profit keep a fixed order.
        found.sort_by_key(|suggestion| std::cmp::Reverse(suggestion.profit));
        let mut remaining = budget;
        for suggestion in &mut found {
            remaining = suggestion.allot(remaining);
        }
        found
    }
}

impl Suggestion {
    /// Sets the quantity that a budget pays for and its profit. Returns the remaining budget. An
    /// item without an expected profit gets none of it.
    fn allot(&mut self, budget: Amount) -> Amount {
        let price = self.typical.price;
        let affordable = budget.thousandths().checked_div(price.thousandths()).unwrap_or(0);
        let affordable = u64::try_from(affordable).unwrap_or(0);
        let margin = self.typical.margin.unwrap_or_default();
        let is_profitable = margin > Percent::default();
        self.quantity = if is_profitable { self.matches.min(affordable) } else { 0 };
        let quantity = i64::try_from(self.quantity).unwrap_or(i64::MAX);
        let spent = price.saturating_mul(quantity);
        // The margin is in hundredths of a percent; the profit is rounded down.
        let profit = i128::from(spent.thousandths())
            .saturating_mul(i128::from(margin.hundredths()))
            .div_euclid(10_000);
        self.profit = Amount::from_thousandths(i64::try_from(profit).unwrap_or(i64::MAX));
        budget.saturating_sub(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(cents: i64, percent: i64, margin: i64) -> PricedListing {
        PricedListing {
            price: Amount::from_cents(cents),
            percent: Percent::from_hundredths(percent * 100),
            margin: Some(Percent::from_hundredths(margin * 100)),
        }
    }

    fn collect(rows: &[(&str, PricedListing)]) -> SuggestionCollector {
        let mut collector = SuggestionCollector::new(Percent::from_hundredths(8_500));
        for (name, listing) in rows {
            collector.add(name, *listing);
        }
        collector
    }

    /// Formats name, matches, listings, typical price, quantity and profit.
    fn shown(suggestions: &[Suggestion]) -> Vec<String> {
        let row = |row: &Suggestion| {
            let Suggestion { name, matches, listings, typical, quantity, profit, .. } = row;
            format!("{name} {matches}/{listings} {} x{quantity} {profit}", typical.price)
        };
        suggestions.iter().map(row).collect()
    }

    #[test]
    fn items_are_sorted_by_their_profit_and_the_budget_is_divided_in_this_order() {
        let collector = collect(&[
            ("a", listing(1_000, 80, 10)),
            ("b", listing(4_000, 60, 50)),
            ("a", listing(1_200, 85, 5)),
            ("a", listing(1_100, 82, 8)),
            ("a", listing(1_300, 86, 4)),
            ("c", listing(100, 84, -3)),
            ("d", listing(100, 99, 9)),
        ]);
        let suggestions = collector.finish(Amount::from_cents(6_500));
        let expected = ["b 1/1 40.00 x1 20.00", "a 3/4 11.00 x2 1.76", "c 1/1 1.00 x0 0.00"];
        assert_eq!(shown(&suggestions), expected);
        assert_eq!(suggestions[1].price_max, Amount::from_cents(1_200));
        assert_eq!(suggestions[1].typical, listing(1_100, 82, 8));
    }

    #[test]
    fn items_of_the_same_profit_are_sorted_by_name() {
        let rows = ["c", "a", "b"].map(|name| (name, listing(1_000, 80, 10)));
        let suggestions = collect(&rows).finish(Amount::from_cents(2_000));
        assert_eq!(
            shown(&suggestions),
            ["a 1/1 10.00 x1 1.00", "b 1/1 10.00 x1 1.00", "c 1/1 10.00 x0 0.00"]
        );
        assert_eq!(collect(&[]).finish(Amount::MAX), []);
    }

    #[test]
    fn the_kept_listings_of_an_item_are_bounded_and_spread_over_all() {
        let mut item = ItemListings::default();
        for cents in 0..10_000 {
            item.add(listing(cents, 80, 10));
            assert!(item.samples.len() <= SAMPLES_MAX);
        }
        assert!(item.samples.len() > SAMPLES_MAX / 2 && item.matches == 10_000, "{item:?}");
        let typical = item.typical().unwrap().price.cents();
        assert!((4_500..5_500).contains(&typical), "{typical}");
        let steps =
            item.samples.windows(2).map(|pair| pair[1].price.cents() - pair[0].price.cents());
        assert!(steps.into_iter().all(|step| step == 256), "{item:?}");
    }

    #[test]
    fn extremes_do_not_overflow() {
        let most = PricedListing {
            price: Amount::MAX,
            percent: Percent::from_hundredths(1),
            margin: Some(Percent::from_hundredths(i64::MAX)),
        };
        let free = PricedListing { price: Amount::ZERO, ..most };
        let suggestions = collect(&[("a", most), ("b", free)]).finish(Amount::MAX);
        assert_eq!((suggestions[0].quantity, suggestions[1].quantity), (1, 0));
    }
}
