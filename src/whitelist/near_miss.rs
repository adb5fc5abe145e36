//! Listings that would have matched an entry with a slightly wider bound. Pure.

use super::{
    Mismatch, PriceView, Whitelist, WhitelistEntry, age_mismatch, filter_mismatch, float_mismatch,
    kind_mismatch, percent_mismatch,
};
use crate::{
    domain::money::Percent,
    domain::trade::{PaintWear, Trade},
};

/// A price or a percentage is close to its bound if it exceeds it by at most a tenth.
const PRICE_DIVISOR: i64 = 10;

/// Maximum distance of a markup from its bound: three percentage points.
const MARKUP_MAX: Percent = Percent::from_hundredths(300);

/// Maximum distance of a float from its bound.
const FLOAT_MAX: PaintWear = PaintWear::from_hundredths(2);

impl Whitelist {
    /// Returns `true` if this is the only condition of the entry that the listing does not meet,
    /// and the value is close to the bound.
    pub fn is_near_miss(
        &self,
        entry: usize,
        mismatch: &Mismatch,
        trade: &Trade<'_>,
        prices: PriceView<'_>,
    ) -> bool {
        let Some(entry) = self.entries.get(entry).filter(|_entry| is_near(mismatch)) else {
            return false;
        };
        let later = |entry: &WhitelistEntry| {
            age_mismatch(entry, trade)
                .or_else(|| filter_mismatch(entry.filter.as_deref()?, trade))
                .or_else(|| percent_mismatch(entry, trade, prices))
                .is_none()
        };
        match mismatch {
            // The other conditions are checked with the price at its limit, except the percent
            // rule, which compares the price of the listing.
            Mismatch::PriceAbove { max, .. } => {
                super::mismatch(entry, trade, *max, prices).is_none()
            }
            Mismatch::MarkupAbove { .. } => {
                trade.total_value.is_some_and(|price| kind_mismatch(entry, trade, price).is_none())
                    && float_mismatch(entry, trade).is_none()
                    && later(entry)
            }
            Mismatch::FloatAbove { .. } | Mismatch::FloatBelow { .. } => later(entry),
            // The percent rule is checked last, so every other condition is met.
            _ => true,
        }
    }
}

/// Returns `true` if the value is close to the bound.
fn is_near(mismatch: &Mismatch) -> bool {
    match *mismatch {
        Mismatch::PriceAbove { actual, max } => {
            actual.saturating_sub(max).thousandths() <= max.thousandths() / PRICE_DIVISOR
        }
        Mismatch::MarkupAbove { actual, max } => {
            actual.hundredths().saturating_sub(max.hundredths()) <= MARKUP_MAX.hundredths()
        }
        Mismatch::FloatAbove { actual, max } => actual.distance(max) <= FLOAT_MAX,
        Mismatch::FloatBelow { actual, min } => actual.distance(min) <= FLOAT_MAX,
        Mismatch::PercentAbove { share, max } => {
            let wider = max.hundredths().saturating_add(max.hundredths() / PRICE_DIVISOR);
            share.reference.allows(share.price, Percent::from_hundredths(wider))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::money::Amount,
        whitelist::{
            Decision,
            tests::{REDLINE, entry, trade},
        },
    };

    /// Changes a listing that matches, and returns whether the result is a near miss.
    fn near(change: impl FnOnce(&mut Trade<'_>)) -> Option<bool> {
        let mut entry = entry();
        entry.float_max = PaintWear::parse("0.2");
        entry.max_price = Amount::from_cents(2_000);
        entry.max_markup = Some(Percent::from_hundredths(200));
        let whitelist = Whitelist::new(vec![entry]);
        let mut trade = trade("a", REDLINE);
        trade.float = PaintWear::parse("0.18");
        change(&mut trade);
        match whitelist.decide(&trade) {
            Decision::Mismatched { entry, mismatch } => {
                Some(whitelist.is_near_miss(entry, &mismatch, &trade, PriceView::NONE))
            }
            _ => None,
        }
    }

    fn price(trade: &mut Trade<'_>, cents: i64) {
        trade.total_value = Some(Amount::from_cents(cents));
    }

    #[test]
    fn a_value_close_to_its_bound_is_a_near_miss() {
        assert_eq!(near(|_trade| {}), None);
        assert_eq!(near(|trade| price(trade, 2_200)), Some(true));
        assert_eq!(near(|trade| price(trade, 2_201)), Some(false));
        let markup = |hundredths| {
            near(|trade| trade.markup_percent = Some(Percent::from_hundredths(hundredths)))
        };
        assert_eq!((markup(500), markup(501)), (Some(true), Some(false)));
        let float = |text: &str| near(|trade| trade.float = PaintWear::parse(text));
        assert_eq!((float("0.22"), float("0.2201")), (Some(true), Some(false)));
    }

    #[test]
    fn a_listing_that_misses_another_condition_is_no_near_miss() {
        let also = |change: fn(&mut Trade<'_>)| {
            near(|trade| {
                price(trade, 2_100);
                change(trade);
            })
        };
        assert_eq!(also(|_trade| {}), Some(true));
        assert_eq!(also(|trade| trade.is_stattrak = true), Some(false));
        assert_eq!(also(|trade| trade.float = PaintWear::parse("0.21")), Some(false));
        assert_eq!(also(|trade| trade.is_souvenir = true), Some(false));
        let markup_and_kind = near(|trade| {
            trade.markup_percent = Some(Percent::from_hundredths(300));
            trade.is_souvenir = true;
        });
        assert_eq!(markup_and_kind, Some(false));
    }
}
