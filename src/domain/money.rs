//! Exact amounts: integer hundredths of a coin, parsed from decimal text and never from a float.
//!
//! The marketplace sends coins and markups as JSON numbers with at most two decimals (measured on 559
//! recorded listings). [`Amount`] and [`Percent`] store hundredths in an `i64`, so sums are exact. Text
//! with more precision is an error. Only [`Amount::parse_floor`], for balances, rounds, and it rounds
//! down.
//!
//! # Invariants
//!
//! 1. Parsing and formatting are inverse: `Amount::parse(&c.to_string()) == Ok(c)`.
//! 2. No arithmetic wraps: sums saturate or are checked, and release builds keep overflow checks.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::fmt;

const HUNDREDTHS: i64 = 100;

/// Largest magnitude that the parsers accept, in hundredths: 10¹² units.
///
/// It exceeds every limit in the settings (10⁹), and a sum of a million prices still fits into an
/// `i64`.
const HUNDREDTHS_MAX: i64 = 100_000_000_000_000;

/// Maximum length of decimal text, in bytes.
const DECIMAL_BYTES_MAX: usize = 64;

/// Amount of the site's currency, in hundredths of a coin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Percentage, in hundredths of one percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(i64);

/// Error of parsing an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("is not a decimal number")]
    NotANumber,
    /// More than two decimals that are not zero.
    #[error("has more than two decimals")]
    TooPrecise,
    #[error("is out of range")]
    OutOfRange,
}

impl Amount {
    pub const ZERO: Self = Self(0);
    /// Largest amount that can be parsed.
    pub const MAX: Self = Self(HUNDREDTHS_MAX);

    /// Creates an amount from hundredths of a coin.
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    /// Returns the amount in hundredths of a coin.
    pub const fn cents(self) -> i64 {
        self.0
    }

    /// Parses a decimal number in the syntax of JSON and TOML.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] if the text is not a number, out of range, or not a whole number of
    /// hundredths.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        parse_hundredths(text, Rounding::Exact).map(Self)
    }

    /// Parses a decimal number and rounds it down to hundredths.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] if the text is not a number or out of range.
    pub fn parse_floor(text: &str) -> Result<Self, DecimalError> {
        parse_hundredths(text, Rounding::Floor).map(Self)
    }

    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Subtracts, saturating. The result may be negative.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl Percent {
    /// Creates a percentage from hundredths of one percent.
    pub const fn from_hundredths(hundredths: i64) -> Self {
        Self(hundredths)
    }

    /// Returns the percentage in hundredths of one percent.
    pub const fn hundredths(self) -> i64 {
        self.0
    }

    /// Parses a decimal number in the syntax of JSON and TOML.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] as [`Amount::parse`] does.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        parse_hundredths(text, Rounding::Exact).map(Self)
    }

    /// Returns `true` if this is the markup of `total` over `base`, rounded to two decimals.
    ///
    /// Ties may be rounded in either direction. For a base of zero or less the result is `false`.
    pub fn is_markup_of(self, total: Amount, base: Amount) -> bool {
        if base.0 <= 0 {
            return false;
        }
        let base = i128::from(base.0);
        let claimed = i128::from(self.0).saturating_mul(base);
        let exact = i128::from(total.0)
            .saturating_sub(base)
            .saturating_mul(i128::from(HUNDREDTHS.saturating_mul(HUNDREDTHS)));
        claimed.abs_diff(exact).saturating_mul(2) <= base.unsigned_abs()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hundredths(self.0, f)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hundredths(self.0, f)
    }
}

fn write_hundredths(value: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let magnitude = value.unsigned_abs();
    let (whole, part) = (magnitude / 100, magnitude % 100);
    let sign = if value < 0 { "-" } else { "" };
    f.pad_integral(true, "", &format_args!("{sign}{whole}.{part:02}").to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Exact,
    Floor,
}

/// Parts of a decimal number: `(-1)^negative × whole.fraction × 10^exponent`.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
}

#[inline]
fn parse_hundredths(text: &str, rounding: Rounding) -> Result<i64, DecimalError> {
    match short_hundredths(text.as_bytes()) {
        Some(hundredths) => Ok(hundredths),
        None => parse_any_hundredths(text, rounding),
    }
}

/// Parses the usual form of prices: a few digits, a point, one or two digits. For `None` the general
/// parser must be used.
#[inline]
fn short_hundredths(text: &[u8]) -> Option<i64> {
    const WHOLE_DIGITS_MAX: usize = 9;
    let (whole, tenths, hundredths) = match text {
        [whole @ .., b'.', tenths, hundredths] => (whole, *tenths, *hundredths),
        [whole @ .., b'.', tenths] => (whole, *tenths, b'0'),
        whole => (whole, b'0', b'0'),
    };
    if whole.is_empty() || whole.len() > WHOLE_DIGITS_MAX {
        return None;
    }
    if whole.len() > 1 && whole.first() == Some(&b'0') {
        return None;
    }
    let mut value = 0_u64;
    for &byte in whole.iter().chain(&[tenths, hundredths]) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    i64::try_from(value).ok()
}

#[cold]
fn parse_any_hundredths(text: &str, rounding: Rounding) -> Result<i64, DecimalError> {
    let decimal = split_decimal(text)?;
    let digits = || decimal.whole.iter().chain(decimal.fraction);
    if digits().all(|&digit| digit == b'0') {
        return Ok(0);
    }
    // Place of the first digit as a power of ten. Places below -2 are dropped.
    let whole_len =
        i32::try_from(decimal.whole.len()).map_err(|_too_long| DecimalError::OutOfRange)?;
    let mut place = whole_len.saturating_sub(1).saturating_add(decimal.exponent);
    let (mut value, mut lost) = (0_i64, false);
    for &digit in digits() {
        let digit = i64::from(digit.saturating_sub(b'0'));
        if place < -2 {
            lost |= digit != 0;
        } else {
            value = value.saturating_mul(10).saturating_add(digit);
            if value > HUNDREDTHS_MAX {
                return Err(DecimalError::OutOfRange);
            }
        }
        place = place.saturating_sub(1);
    }
    // Omitted zeros down to the second decimal.
    while place >= -2 && value != 0 {
        value = value.saturating_mul(10);
        if value > HUNDREDTHS_MAX {
            return Err(DecimalError::OutOfRange);
        }
        place = place.saturating_sub(1);
    }
    match (lost, rounding, decimal.negative) {
        (true, Rounding::Exact, _) => Err(DecimalError::TooPrecise),
        (true, Rounding::Floor, true) => Ok(value.saturating_add(1).saturating_neg()),
        (_, _, true) => Ok(value.saturating_neg()),
        (_, _, false) => Ok(value),
    }
}

/// Splits a number such as `-12.340e2`. Accepts only the syntax of JSON.
fn split_decimal(text: &str) -> Result<Decimal<'_>, DecimalError> {
    const NOT: DecimalError = DecimalError::NotANumber;
    if text.len() > DECIMAL_BYTES_MAX {
        return Err(DecimalError::OutOfRange);
    }
    let bytes = text.as_bytes();
    let (negative, rest) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let (whole, rest) = take_digits(rest);
    if whole.is_empty() || (whole.len() > 1 && whole.first() == Some(&b'0')) {
        return Err(NOT);
    }
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) => {
            let (fraction, rest) = take_digits(rest);
            if fraction.is_empty() {
                return Err(NOT);
            }
            (fraction, rest)
        }
        _ => (&[][..], rest),
    };
    let exponent = match rest.split_first() {
        None => 0,
        Some((b'e' | b'E', rest)) => {
            let text = str::from_utf8(rest).map_err(|_split_inside| NOT)?;
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(NOT);
            }
            text.parse::<i32>().map_err(|_too_large| DecimalError::OutOfRange)?
        }
        Some(_) => return Err(NOT),
    };
    Ok(Decimal { negative, whole, fraction, exponent })
}

fn take_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.split_at(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<i64, DecimalError>) {
        assert_eq!(Amount::parse(text).map(Amount::cents), expected, "text: {text:?}");
    }

    #[test]
    fn integers_and_decimals_are_read_exactly() {
        check("0", Ok(0));
        check("10", Ok(1_000));
        check("10.1", Ok(1_010));
        check("10.15", Ok(1_015));
        check("-0.07", Ok(-7));
        check("17987.2", Ok(1_798_720));
        check("10.150000", Ok(1_015));
        check("1e3", Ok(100_000));
        check("1.015E+1", Ok(1_015));
        check("1015e-2", Ok(1_015));
        check("0e999", Ok(0));
    }

    #[test]
    fn what_is_not_exactly_an_amount_is_refused() {
        check("10.155", Err(DecimalError::TooPrecise));
        check("1e-3", Err(DecimalError::TooPrecise));
        check("1e400", Err(DecimalError::OutOfRange));
        check("1e99999999999", Err(DecimalError::OutOfRange));
        check("10000000000000", Err(DecimalError::OutOfRange));
        for text in ["", "-", "+1", "01", ".5", "5.", "1e", "1e+", "NaN", "inf", "1,5", " 1", "0x1"]
        {
            check(text, Err(DecimalError::NotANumber));
        }
    }

    #[test]
    fn a_balance_is_rounded_against_the_user() {
        assert_eq!(Amount::parse_floor("10.159"), Ok(Amount(1_015)));
        assert_eq!(Amount::parse_floor("-10.151"), Ok(Amount(-1_016)));
        assert_eq!(Amount::parse_floor("0.001"), Ok(Amount(0)));
    }

    #[test]
    fn amounts_are_printed_with_two_decimals() {
        assert_eq!(Amount(1_015).to_string(), "10.15");
        assert_eq!(Amount(-7).to_string(), "-0.07");
        assert_eq!(Percent(150).to_string(), "1.50");
        assert_eq!(format!("[{:>8}]", Amount(1_015)), "[   10.15]");
    }

    #[test]
    fn a_markup_agrees_only_with_the_prices_it_came_from() {
        let agrees = |claim, total, base| Percent(claim).is_markup_of(Amount(total), Amount(base));
        assert!(agrees(150, 1_015, 1_000));
        assert!(agrees(0, 2_635, 2_635));
        assert!(!agrees(0, 2_636, 2_635));
        assert!(!agrees(149, 1_015, 1_000));
        assert!(!agrees(0, 0, 0));
    }

    /// 100/300 = 33.333… %, claimed as 33.33.
    #[test]
    fn a_rounded_markup_agrees() {
        assert!(Percent(3_333).is_markup_of(Amount(400), Amount(300)));
        assert!(!Percent(3_334).is_markup_of(Amount(400), Amount(300)));
    }

    proptest! {
        /// Any text that the fast parser accepts has the same value in the general parser.
        #[test]
        fn the_fast_number_parser_agrees_with_the_general_one(text in "-?[0-9]{0,10}(\\.[0-9]{0,3})?([eE][0-9])?") {
            if let Some(hundredths) = short_hundredths(text.as_bytes()) {
                prop_assert_eq!(parse_any_hundredths(&text, Rounding::Exact), Ok(hundredths));
                prop_assert_eq!(parse_any_hundredths(&text, Rounding::Floor), Ok(hundredths));
            }
        }

        #[test]
        fn printing_and_parsing_are_inverse(cents in -HUNDREDTHS_MAX..=HUNDREDTHS_MAX) {
            prop_assert_eq!(Amount::parse(&Amount(cents).to_string()), Ok(Amount(cents)));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let parsed = Amount::parse(&text);
            prop_assert!(parsed.is_err() || Amount::parse_floor(&text) == parsed);
        }

        #[test]
        fn the_rounded_markup_of_any_price_agrees(base in 1_i64..10_000_000, total in 1_i64..10_000_000) {
            let exact = (i128::from(total) - i128::from(base)) * 10_000;
            let rounded = (exact * 2 + i128::from(base)).div_euclid(i128::from(base) * 2);
            let claim = Percent(i64::try_from(rounded).unwrap());
            prop_assert!(claim.is_markup_of(Amount(total), Amount(base)));
        }
    }
}
