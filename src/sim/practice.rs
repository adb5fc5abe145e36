//! Listings about the whitelist of a practice run: most at a price that an entry pays, the others a
//! little above. Pure.

use super::{
    catalogue::{Float, ListedItem, float_text, markup_of},
    random::{Rng, RngExt as _},
};
use crate::domain::{
    money::{Amount, Percent},
    trade::PaintWear,
};

/// Listings per thousand that are about the whitelist.
pub const PERMILLE: u32 = 250;

/// Value of [`ListedItem::wanted`] of the listings that an entry pays for.
const WANTED: &str = "practice";

/// Listings per thousand of these that an entry pays for.
const WANTED_PERMILLE: u32 = 650;
/// Maximum discount on the greatest price that an entry pays, in percent.
const DISCOUNT_MAX: i64 = 12;
/// Maximum amount above that price, in percent.
const ABOVE_MAX: i64 = 10;
/// Maximum markup where the entry accepts any, in hundredths of a percent.
const MARKUP_MAX: i64 = 1_200;

/// An item that an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PracticeItem {
    /// Full name, with prefixes and wear.
    pub market_name: String,
    pub rarity: &'static str,
    /// Lowest price that the entry accepts.
    pub min_price: Amount,
    /// Greatest price that the entry pays.
    pub max_price: Amount,
    /// Floats that the entry accepts; `None` for an entry without bounds, and for items without a
    /// wear.
    pub floats: Option<(PaintWear, PaintWear)>,
    /// Greatest markup that the entry accepts; `None` for any.
    pub max_markup: Option<Percent>,
}

impl PracticeItem {
    /// Generates a listing of this item.
    pub fn listed(&self, rng: &mut Rng) -> ListedItem {
        let max = self.max_price.cents().max(1);
        let min = self.min_price.cents().clamp(1, max);
        let is_wanted = rng.chance_permille(WANTED_PERMILLE);
        let total = if is_wanted {
            rng.i64(min.max(max - max * DISCOUNT_MAX / 100)..=max)
        } else {
            max + 1 + rng.i64(0..=max * ABOVE_MAX / 100)
        };
        let markup_max = self.max_markup.map_or(MARKUP_MAX, Percent::hundredths).clamp(0, 10_000);
        let markup = rng.i64(0..=markup_max);
        let base = (total * 10_000).checked_div(10_000 + markup).unwrap_or(total).max(1);
        // Rounding to whole cents can raise a small markup above the maximum.
        let is_above = markup_max < markup_of(total, base).hundredths();
        let base = if is_above { total } else { base };
        let plain = ListedItem::plain(
            &self.market_name,
            Amount::from_cents(base),
            Amount::from_cents(total),
        );
        let float = match self.floats {
            Some(bounds) => Some(Float { text: float_within(rng, bounds), only_range: None }),
            None => plain.float.clone(),
        };
        let wanted = is_wanted.then_some(WANTED);
        ListedItem { rarity: self.rarity, float, wanted, ..plain }
    }
}

/// Returns a float between the bounds, with the digits of the market.
fn float_within(rng: &mut Rng, (min, max): (PaintWear, PaintWear)) -> String {
    // A float of the market has 16 decimals, two fewer than a `PaintWear`.
    let (min, max) = (min.units().div_ceil(100), max.units() / 100);
    float_text(rng.u64(min.min(max)..=max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redline() -> PracticeItem {
        PracticeItem {
            market_name: "AK-47 | Redline (Field-Tested)".to_owned(),
            rarity: "classified",
            min_price: Amount::from_cents(900),
            max_price: Amount::from_cents(1_000),
            floats: PaintWear::parse("0.15").zip(PaintWear::parse("0.1501")),
            max_markup: Some(Percent::from_hundredths(150)),
        }
    }

    #[test]
    fn listings_that_count_as_wanted_are_within_every_bound_and_the_others_cost_more() {
        let (item, mut rng) = (redline(), Rng::with_seed(7));
        let (mut wanted, mut other) = (0, 0);
        for _ in 0..2_000 {
            let listed = item.listed(&mut rng);
            assert!(listed.markup.is_markup_of(listed.total, listed.base), "{listed:?}");
            assert!(listed.markup <= item.max_markup.unwrap(), "{listed:?}");
            let float = PaintWear::parse(&listed.float.as_ref().unwrap().text).unwrap();
            let (low, high) = item.floats.unwrap();
            assert!(low <= float && float <= high, "{listed:?}");
            let is_paid = item.min_price <= listed.total && listed.total <= item.max_price;
            assert_eq!(listed.wanted.is_some(), is_paid, "{listed:?}");
            *if is_paid { &mut wanted } else { &mut other } += 1;
        }
        assert!(1_000 < wanted && 500 < other, "{wanted} {other}");
    }

    #[test]
    fn the_lowest_price_gives_a_valid_listing() {
        let item = PracticeItem {
            min_price: Amount::ZERO,
            max_price: Amount::from_cents(1),
            floats: None,
            ..redline()
        };
        let mut rng = Rng::with_seed(7);
        assert!((0..100).all(|_| Amount::ZERO < item.listed(&mut rng).total));
    }
}
