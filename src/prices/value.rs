//! Reference prices as exact integers: millionths of a dollar, or of a coin.
//!
//! A price is read from the text of a number, never from a float, and rounded down: a reference
//! that is too low allows less than it should, never more.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{fmt, num::NonZeroU64};

/// Prices from this one on, in millionths, are placeholders: a million dollars.
const MICROS_END: u64 = 1_000_000_000_000;

/// Maximum length of the text of a number, in bytes.
const NUMBER_BYTES_MAX: usize = 64;

/// Maximum magnitude of an exponent, and of the shift that it causes.
const EXPONENT_MAX: i32 = 400;

/// A reference price above zero and below a million, in millionths of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefPrice(NonZeroU64);

/// Part of a currency unit in which a source writes its prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceUnit {
    /// Whole units with decimals: `31.4`.
    Whole,
    /// Hundredths: `3140`.
    Cents,
    /// Thousandths: `31400`.
    Mills,
}

impl PriceUnit {
    /// Returns the power of ten from this unit to millionths.
    const fn to_micros(self) -> i32 {
        match self {
            Self::Whole => 6,
            Self::Cents => 4,
            Self::Mills => 3,
        }
    }
}

impl RefPrice {
    /// Greatest price.
    pub const MAX: Self = match NonZeroU64::new(MICROS_END - 1) {
        Some(micros) => Self(micros),
        None => Self(NonZeroU64::MIN),
    };

    /// Creates a price from millionths. Returns `None` for zero and for a million units or more.
    pub const fn from_micros(micros: u64) -> Option<Self> {
        if micros >= MICROS_END {
            return None;
        }
        match NonZeroU64::new(micros) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// Returns the price in millionths.
    pub const fn micros(self) -> u64 {
        self.0.get()
    }

    /// Reads a decimal number, with or without an exponent, and rounds it down to millionths.
    ///
    /// Returns `None` for everything that is no price: zero, a negative number, a placeholder of a
    /// million or more, an empty text, `null`.
    pub fn parse(text: &str, unit: PriceUnit) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > NUMBER_BYTES_MAX {
            return None;
        }
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole_len = i32::try_from(whole.len()).ok()?;
        // Number of digits down to the millionths; further ones are dropped.
        let kept = whole_len.saturating_add(exponent).saturating_add(unit.to_micros());
        let kept = usize::try_from(kept).unwrap_or(0);
        let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat(b'0'));
        let mut micros = 0_u64;
        for digit in digits.take(kept) {
            let digit = u64::from(digit.saturating_sub(b'0'));
            micros = micros.saturating_mul(10).saturating_add(digit);
            if micros >= MICROS_END {
                return None;
            }
        }
        Self::from_micros(micros)
    }
}

fn parse_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse::<i32>().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
    Some(if text.starts_with('-') { magnitude.saturating_neg() } else { magnitude })
}

/// With two decimals, and more only where the price has them.
impl fmt::Display for RefPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.micros() / 1_000_000, self.micros() % 1_000_000);
        let part = format!("{part:06}");
        let trimmed = part.trim_end_matches('0').len().max(2);
        f.pad(&format!("{whole}.{}", part.get(..trimmed).unwrap_or(&part)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, unit: PriceUnit, expected: Option<&str>) {
        let price = RefPrice::parse(text, unit).map(|price| price.to_string());
        assert_eq!(price.as_deref(), expected, "{text:?} in {unit:?}");
    }

    #[test]
    fn the_unit_is_part_of_the_number() {
        check("31.4", PriceUnit::Whole, Some("31.40"));
        check("3140", PriceUnit::Cents, Some("31.40"));
        check("31400", PriceUnit::Mills, Some("31.40"));
        check("29.871", PriceUnit::Whole, Some("29.871"));
        check("0.03", PriceUnit::Whole, Some("0.03"));
        check("3.14e1", PriceUnit::Whole, Some("31.40"));
        check("3140E-2", PriceUnit::Whole, Some("31.40"));
    }

    #[test]
    fn values_that_floats_get_wrong_are_exact_and_the_rest_is_rounded_down() {
        check("1.005", PriceUnit::Whole, Some("1.005"));
        check("0.1", PriceUnit::Whole, Some("0.10"));
        check("4.35", PriceUnit::Whole, Some("4.35"));
        check("1.0000009", PriceUnit::Whole, Some("1.00"));
        check("30.999999999999996", PriceUnit::Whole, Some("30.999999"));
        check("999999.999999", PriceUnit::Whole, Some("999999.999999"));
    }

    #[test]
    fn what_is_no_price_is_none() {
        let none = [
            "0",
            "0.0",
            "0.0000009",
            "0e9",
            "",
            " ",
            "-1",
            "-0.5",
            "null",
            "NaN",
            "inf",
            "1e6",
            "1000000",
            "1e400",
            "1e99999999999",
            "1,5",
            "1.2.3",
            ".5",
            "e5",
            "1e",
            "0x10",
            "+1",
        ];
        for text in none {
            check(text, PriceUnit::Whole, None);
        }
        check("1e6", PriceUnit::Cents, Some("10000.00"));
        check("1e8", PriceUnit::Cents, None);
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,80}") {
            for unit in [PriceUnit::Whole, PriceUnit::Cents, PriceUnit::Mills] {
                if let Some(price) = RefPrice::parse(&text, unit) {
                    prop_assert!(price <= RefPrice::MAX);
                }
            }
        }

        #[test]
        fn a_shown_price_is_read_as_the_same_price(micros in 1..MICROS_END) {
            let price = RefPrice::from_micros(micros).unwrap();
            prop_assert_eq!(RefPrice::parse(&price.to_string(), PriceUnit::Whole), Some(price));
        }
    }
}
