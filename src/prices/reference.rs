//! The one inequality that decides about a price and its reference.
//!
//! A listing costs `P` thousandths of a coin, a coin is worth `C` ten-thousandths of a dollar, the
//! reference is `R` millionths of a dollar, and the rule allows `M` hundredths of a percent of it.
//! The listing is allowed if and only if
//!
//! ```text
//! P/10³ × C/10⁴  ≤  M/10⁴ × R/10⁶        that is        P × C × 10³  ≤  M × R
//! ```
//!
//! Both sides are exact in a `u128`: P, M < 2⁶³, C < 2³², R < 2⁴⁰, so no side reaches 2¹⁰⁶. The
//! reference was rounded down when it was read, so rounding never allows more.

use std::{cmp::Ordering, fmt};

use super::value::RefPrice;
use crate::domain::{
    money::{Amount, Percent},
    percent_rule::{CoinUsd, PriceCurrency, QuoteSide},
};

/// 100 % in hundredths of a percent.
const WHOLE: u128 = 10_000;

/// A reference price with the value of the coin in which listings are priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    price: RefPrice,
    coin: CoinUsd,
    /// Position among the references of the rule.
    position: u32,
}

impl Reference {
    /// Creates a reference. `coin` is the value of a coin in the currency of the price.
    pub const fn new(price: RefPrice, coin: CoinUsd) -> Self {
        Self { price, coin, position: 0 }
    }

    /// Sets the position among the references of a rule.
    pub(super) fn at_position(self, position: usize) -> Self {
        Self { position: u32::try_from(position).unwrap_or(u32::MAX), ..self }
    }

    /// Returns the position among the references of the rule that chose this one.
    pub fn position(self) -> usize {
        usize::try_from(self.position).unwrap_or(usize::MAX)
    }

    /// Returns the price in the currency of its source, and the value of a coin in that currency.
    pub const fn parts(self) -> (RefPrice, CoinUsd) {
        (self.price, self.coin)
    }

    fn coin(self) -> u128 {
        u128::from(self.coin.ten_thousandths())
    }

    fn micros(self) -> u128 {
        u128::from(self.price.micros())
    }

    /// Returns `true` if a price is at most `max` percent of the reference. A negative price or
    /// percentage is not allowed.
    #[inline]
    pub fn allows(self, price: Amount, max: Percent) -> bool {
        let (Ok(price), Ok(max)) =
            (u64::try_from(price.thousandths()), u64::try_from(max.hundredths()))
        else {
            return false;
        };
        let paid = u128::from(price).saturating_mul(self.coin()).saturating_mul(1_000);
        paid <= u128::from(max).saturating_mul(self.micros())
    }

    /// Returns the greatest price that [`allows`](Self::allows) accepts.
    pub fn max_price(self, max: Percent) -> Amount {
        let max = u128::from(u64::try_from(max.hundredths()).unwrap_or(0));
        let paid = max.saturating_mul(self.micros());
        let price = paid.checked_div(self.coin().saturating_mul(1_000)).unwrap_or(0);
        Amount::from_thousandths(i64::try_from(price).unwrap_or(i64::MAX))
    }

    /// Returns the reference in coins, rounded down.
    pub fn in_coins(self) -> Amount {
        let coins = self.micros().saturating_mul(10).checked_div(self.coin()).unwrap_or(0);
        Amount::from_thousandths(i64::try_from(coins).unwrap_or(i64::MAX))
    }

    /// Returns the reference less a fee, in coins, rounded down.
    pub fn in_coins_after(self, fee: Percent) -> Amount {
        let fee = u128::from(u64::try_from(fee.hundredths()).unwrap_or(0));
        let net = self.micros().saturating_mul(WHOLE.saturating_sub(fee));
        let coins = net.checked_div(self.coin().saturating_mul(1_000)).unwrap_or(0);
        Amount::from_thousandths(i64::try_from(coins).unwrap_or(i64::MAX))
    }

    /// Returns `true` if the reference is at least this many coins.
    pub fn is_at_least(self, min: Amount) -> bool {
        let min = u128::from(u64::try_from(min.thousandths()).unwrap_or(0));
        min.saturating_mul(self.coin()) <= self.micros().saturating_mul(10)
    }

    /// Returns a price as a percentage of the reference, rounded up.
    pub fn percent(self, price: Amount) -> Percent {
        let price = u128::from(u64::try_from(price.thousandths()).unwrap_or(0));
        let paid = price.saturating_mul(self.coin()).saturating_mul(1_000);
        let percent = paid.div_ceil(self.micros());
        Percent::from_hundredths(i64::try_from(percent).unwrap_or(i64::MAX))
    }

    /// Returns the margin of buying at `price` and selling at the reference less `fee`, rounded
    /// down. Returns `None` for a price of zero or less.
    pub fn margin(self, price: Amount, fee: Percent) -> Option<Percent> {
        let price = u128::from(u64::try_from(price.thousandths()).ok()?);
        let fee = u128::from(u64::try_from(fee.hundredths()).unwrap_or(0));
        let net = self.micros().saturating_mul(WHOLE.saturating_sub(fee)).saturating_mul(10);
        let gross = net.checked_div(price.saturating_mul(self.coin()))?;
        let gross = i64::try_from(gross).unwrap_or(i64::MAX);
        Some(Percent::from_hundredths(gross.saturating_sub(10_000)))
    }

    /// Compares two references by their value in coins.
    pub fn cmp_value(self, other: Self) -> Ordering {
        let one = self.micros().saturating_mul(other.coin());
        one.cmp(&other.micros().saturating_mul(self.coin()))
    }
}

/// The reference that a percent rule compared with the price of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedReference {
    pub share: PercentOfReference,
    pub side: QuoteSide,
    pub currency: PriceCurrency,
}

/// A price and its share of the reference: `2.31 = 84.1 % of reference 2.75`. The share is rounded
/// up to one decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentOfReference {
    pub price: Amount,
    pub reference: Reference,
}

impl fmt::Display for PercentOfReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of(&"reference"))
    }
}

impl PercentOfReference {
    /// Formats the share with the name of the reference: `2.31 = 84.1 % of buff.bid 2.75`.
    pub fn of(&self, name: &dyn fmt::Display) -> String {
        let percent = self.reference.percent(self.price).rounded_up();
        let reference = Amount::from_cents(self.reference.in_coins().cents());
        format!("{} = {percent} % of {name} {reference}", self.price)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::money::Decimals, prices::value::PriceUnit};

    fn reference(price: &str, coin: u32) -> Reference {
        let price = RefPrice::parse(price, PriceUnit::Whole).unwrap();
        Reference::new(price, CoinUsd::from_ten_thousandths(coin).unwrap())
    }

    fn amount(text: &str) -> Amount {
        Amount::parse(text, Decimals::Three).unwrap()
    }

    fn percent(text: &str) -> Percent {
        Percent::parse(text).unwrap()
    }

    /// `bound` is allowed, and one hundredth and one thousandth more are not.
    #[track_caller]
    fn check_bound(reference: Reference, max: &str, bound: &str) {
        let (bound, max) = (amount(bound), percent(max));
        let next = |more| Amount::from_thousandths(bound.thousandths() + more);
        assert_eq!(reference.max_price(max), bound);
        assert!(reference.allows(bound, max) && reference.allows(next(-10), max));
        assert!(!reference.allows(next(1), max) && !reference.allows(next(10), max));
    }

    #[test]
    fn prices_at_and_beside_the_bound_are_decided_exactly() {
        check_bound(reference("10", 10_000), "88", "8.80");
        // 88 % of 4.35 dollars at 0.65 a coin: 5.8892…
        check_bound(reference("4.35", 6_500), "88", "5.889");
        // Values that binary floats get wrong: 0.07 × 100, 1.1 × 1.1, 0.1 + 0.2.
        check_bound(reference("0.07", 10_000), "100", "0.07");
        check_bound(reference("1.10", 10_000), "110", "1.21");
        check_bound(reference("0.30", 10_000), "100", "0.30");
        check_bound(reference("1.005", 10_000), "100", "1.005");
        check_bound(reference("29.871", 6_142), "92.5", "44.986");
    }

    #[test]
    fn the_same_price_in_each_unit_has_the_same_bound() {
        for (texts, coin, max, bound) in [
            (["4.35", "435", "4350"], 6_500, "88", "5.889"),
            // Values that binary floats get wrong.
            (["0.07", "7", "70"], 10_000, "100", "0.07"),
            (["1.10", "110", "1100"], 10_000, "110", "1.21"),
            (["0.30", "30", "300"], 10_000, "100", "0.30"),
            (["1.005", "100.5", "1005"], 10_000, "100", "1.005"),
            (["0.29", "29", "290"], 6_500, "100", "0.446"),
            (["2.675", "267.5", "2675"], 10_000, "80", "2.14"),
        ] {
            let coin = CoinUsd::from_ten_thousandths(coin).unwrap();
            for (text, unit) in
                texts.into_iter().zip([PriceUnit::Whole, PriceUnit::Cents, PriceUnit::Mills])
            {
                let price = RefPrice::parse(text, unit).unwrap();
                check_bound(Reference::new(price, coin), max, bound);
            }
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_are_allowed_by_mistake() {
        let coin = CoinUsd::from_ten_thousandths(u32::MAX).unwrap();
        let one = CoinUsd::from_ten_thousandths(1).unwrap();
        let (most, least) = (RefPrice::MAX, RefPrice::from_micros(1).unwrap());
        let (price, max) = (Amount::from_thousandths(i64::MAX), Percent::from_hundredths(i64::MAX));
        assert!(!Reference::new(least, coin).allows(price, max));
        assert!(Reference::new(most, one).allows(Amount::from_cents(1), max));
        assert!(Reference::new(most, one).allows(price, max));
        assert!(!Reference::new(most, one).allows(Amount::from_thousandths(-1), max));
        assert!(!Reference::new(most, one).allows(Amount::ZERO, Percent::from_hundredths(-1)));
        assert_eq!(Reference::new(most, one).max_price(max).thousandths(), i64::MAX);
        assert_eq!(Reference::new(least, coin).in_coins(), Amount::ZERO);
        assert_eq!(Reference::new(least, coin).percent(price).hundredths(), i64::MAX);
    }

    #[test]
    fn the_margin_is_what_remains_of_the_price_after_the_fee() {
        let reference = reference("10", 5_000);
        let margin = |price, fee| {
            let margin = reference.margin(amount(price), percent(fee));
            margin.map(|margin| margin.to_string())
        };
        // Ten dollars are 20 coins.
        assert_eq!(margin("10", "0").as_deref(), Some("100.00"));
        assert_eq!(margin("20", "0").as_deref(), Some("0.00"));
        assert_eq!(margin("20", "2.5").as_deref(), Some("-2.50"));
        assert_eq!(margin("15", "12").as_deref(), Some("17.33"));
        assert_eq!(margin("0", "12"), None);
    }

    #[test]
    fn what_remains_after_the_fee_is_rounded_down() {
        let left =
            |price, coin, fee| reference(price, coin).in_coins_after(percent(fee)).to_string();
        assert_eq!(left("10", 5_000, "0"), "20.00");
        assert_eq!(left("10", 5_000, "2.5"), "19.50");
        assert_eq!(left("1.7855", 6_500, "0"), "2.746");
        assert_eq!(left("0.01", 6_500, "12"), "0.013");
        assert_eq!(left("10", 10_000, "100"), "0.00");
        let most = Reference::new(RefPrice::MAX, CoinUsd::from_ten_thousandths(1).unwrap());
        assert_eq!(most.in_coins_after(Percent::from_hundredths(-1)), most.in_coins());
    }

    #[test]
    fn a_price_is_shown_with_its_share_of_the_reference() {
        let shown =
            PercentOfReference { price: amount("2.31"), reference: reference("1.7855", 6_500) };
        assert_eq!(shown.to_string(), "2.31 = 84.1 % of reference 2.74");
        // Rounded up, so that a share above a whole maximum never looks like the maximum.
        let shown =
            PercentOfReference { price: amount("8.801"), reference: reference("10", 10_000) };
        assert_eq!(shown.to_string(), "8.801 = 88.1 % of reference 10.00");
        let shown =
            PercentOfReference { price: amount("8.80"), reference: reference("10", 10_000) };
        assert_eq!(shown.to_string(), "8.80 = 88.0 % of reference 10.00");
    }

    proptest! {
        #[test]
        fn the_maximum_price_is_the_greatest_allowed_price(micros in 1_u64..1_000_000_000_000, coin in 1_u32.., max in 0_i64..1_000_000) {
            let coin = CoinUsd::from_ten_thousandths(coin).unwrap();
            let reference = Reference::new(RefPrice::from_micros(micros).unwrap(), coin);
            let max = Percent::from_hundredths(max);
            let max_price = reference.max_price(max);
            prop_assert!(reference.allows(max_price, max));
            prop_assert!(!reference.allows(Amount::from_thousandths(max_price.thousandths() + 1), max));
            prop_assert!(reference.percent(max_price) <= max);
            prop_assert!(reference.is_at_least(reference.in_coins()));
            prop_assert!(!reference.is_at_least(Amount::from_thousandths(reference.in_coins().thousandths() + 1)));
        }

        #[test]
        fn a_share_is_above_the_maximum_exactly_if_the_price_is_not_allowed(price in 0_i64..10_000_000, micros in 1_u64..1_000_000_000, max in 0_i64..100_000) {
            let reference = Reference::new(RefPrice::from_micros(micros).unwrap(), CoinUsd::ONE);
            let (price, max) = (Amount::from_thousandths(price), Percent::from_hundredths(max));
            prop_assert_eq!(reference.allows(price, max), reference.percent(price) <= max);
        }
    }
}
