//! Exact amounts: integer thousandths of a market's unit, parsed from decimal text and never from a
//! float.
//!
//! A market states prices with two or three decimals ([`Decimals`]), and a percentage has two.
//! [`Amount`] stores thousandths and [`Percent`] hundredths in an `i64`, so sums are exact. Text
//! with more decimals than the market has is an error. Only [`Amount::parse_floor`], for balances,
//! and [`Amount::parse_ceil`], for prices to pay, round.
//!
//! # Invariants
//!
//! 1. Parsing is the inverse of formatting up to [`Amount::MAX`]:
//!    `Amount::parse(&c.to_string(), Decimals::Three) == Ok(c)`.
//! 2. No arithmetic wraps: sums saturate or are checked, and release builds keep overflow checks.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::fmt;

const HUNDREDTHS: i64 = 100;
const THOUSANDTHS_PER_CENT: i64 = 10;

/// Largest magnitude that the parsers accept: 10¹² units.
///
/// It exceeds every sensible limit. A sum of a million amounts of 10⁹ units still fits into an
/// `i64`.
const HUNDREDTHS_MAX: i64 = 100_000_000_000_000;
const THOUSANDTHS_MAX: i64 = HUNDREDTHS_MAX * THOUSANDTHS_PER_CENT;

/// Maximum length of decimal text, in bytes.
const DECIMAL_BYTES_MAX: usize = 64;

/// Amount of a market's currency, in thousandths of its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Percentage, in hundredths of one percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(i64);

/// Number of decimals of a market's amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimals {
    Two,
    Three,
}

impl Decimals {
    /// Returns the power of ten of the last decimal.
    const fn last_place(self) -> i32 {
        match self {
            Self::Two => -2,
            Self::Three => -3,
        }
    }

    /// Returns the number of decimals.
    pub const fn count(self) -> u32 {
        self.last_place().unsigned_abs()
    }

    /// Returns the largest magnitude that the parsers accept, in units of the last decimal.
    const fn max(self) -> i64 {
        match self {
            Self::Two => HUNDREDTHS_MAX,
            Self::Three => THOUSANDTHS_MAX,
        }
    }
}

impl fmt::Display for Decimals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Two => "two decimals",
            Self::Three => "three decimals",
        })
    }
}

/// Error of parsing an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("is not a decimal number")]
    NotANumber,
    /// A decimal beyond the allowed ones is not zero.
    #[error("has more than {0}")]
    TooPrecise(Decimals),
    #[error("is out of range")]
    OutOfRange,
}

impl Amount {
    pub const ZERO: Self = Self(0);
    /// Largest amount that can be parsed.
    pub const MAX: Self = Self(THOUSANDTHS_MAX);

    /// Creates an amount from thousandths of a unit.
    pub const fn from_thousandths(thousandths: i64) -> Self {
        Self(thousandths)
    }

    /// Returns the amount in thousandths of a unit.
    pub const fn thousandths(self) -> i64 {
        self.0
    }

    /// Creates an amount from hundredths of a unit, saturating.
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents.saturating_mul(THOUSANDTHS_PER_CENT))
    }

    /// Returns the amount in hundredths of a unit, rounded down. Exact for amounts of a market with
    /// two decimals.
    pub const fn cents(self) -> i64 {
        self.0.div_euclid(THOUSANDTHS_PER_CENT)
    }

    /// Parses a decimal number in the syntax of JSON and TOML.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] if the text is not a number, is out of range, or has a decimal
    /// other than zero beyond `decimals`.
    #[inline]
    pub fn parse(text: &str, decimals: Decimals) -> Result<Self, DecimalError> {
        parse_amount(text, decimals, Rounding::Exact)
    }

    /// Parses a decimal number and rounds it down to `decimals`.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] if the text is not a number or out of range.
    pub fn parse_floor(text: &str, decimals: Decimals) -> Result<Self, DecimalError> {
        parse_amount(text, decimals, Rounding::Floor)
    }

    /// Parses a decimal number and rounds it up to `decimals`, for prices to pay.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] if the text is not a number or out of range.
    #[inline]
    pub fn parse_ceil(text: &str, decimals: Decimals) -> Result<Self, DecimalError> {
        parse_amount(text, decimals, Rounding::Ceil)
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

    #[must_use]
    pub const fn saturating_mul(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
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

    /// Parses a decimal number with at most two decimals, in the syntax of JSON and TOML.
    ///
    /// # Errors
    ///
    /// Returns a [`DecimalError`] as [`Amount::parse`] does.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        match short_hundredths(text.as_bytes()) {
            Some(hundredths) => Ok(Self(hundredths)),
            None => parse_any(text, Decimals::Two, Rounding::Exact).map(Self),
        }
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

/// Formats with two decimals, or with three if the third is not zero.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / 1_000, magnitude % 1_000);
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = match part % 10 {
            0 => format!("{sign}{whole}.{:02}", part / 10),
            _ => format!("{sign}{whole}.{part:03}"),
        };
        f.pad_integral(true, "", &text)
    }
}

impl Percent {
    /// Formats the percentage with one decimal, rounded up.
    pub fn rounded_up(self) -> String {
        let tenths = self.0.saturating_add(9).div_euclid(10);
        let (magnitude, sign) = (tenths.unsigned_abs(), if tenths < 0 { "-" } else { "" });
        format!("{sign}{}.{}", magnitude / 10, magnitude % 10)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / 100, magnitude % 100);
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad_integral(true, "", &format_args!("{sign}{whole}.{part:02}").to_string())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Exact,
    Floor,
    Ceil,
}

/// Parts of a decimal number: `(-1)^negative × whole.fraction × 10^exponent`.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
}

#[inline]
fn parse_amount(
    text: &str,
    decimals: Decimals,
    rounding: Rounding,
) -> Result<Amount, DecimalError> {
    let short = match decimals {
        Decimals::Two => short_hundredths(text.as_bytes()).map(Amount::from_cents),
        Decimals::Three => short_thousandths(text.as_bytes()).map(Amount),
    };
    match short {
        Some(amount) => Ok(amount),
        None => parse_any(text, decimals, rounding).map(|value| match decimals {
            Decimals::Two => Amount::from_cents(value),
            Decimals::Three => Amount(value),
        }),
    }
}

/// Parses the usual forms of prices: a few digits, or a few digits, a point, and one or two digits.
/// After `None` the general parser must be used.
#[inline]
fn short_hundredths(text: &[u8]) -> Option<i64> {
    let (whole, decimals) = match text {
        [whole @ .., b'.', tenths, hundredths] => (whole, [*tenths, *hundredths]),
        [whole @ .., b'.', tenths] => (whole, [*tenths, b'0']),
        whole => (whole, [b'0', b'0']),
    };
    short_number(whole, &decimals)
}

/// Parses a few digits, or a few digits, a point, and at most three digits. After `None` the
/// general parser must be used.
#[inline]
fn short_thousandths(text: &[u8]) -> Option<i64> {
    match text {
        [whole @ .., b'.', tenths, hundredths, thousandths] => {
            short_number(whole, &[*tenths, *hundredths, *thousandths])
        }
        text => short_hundredths(text).map(|value| value.saturating_mul(THOUSANDTHS_PER_CENT)),
    }
}

#[inline]
fn short_number(whole: &[u8], decimals: &[u8]) -> Option<i64> {
    const WHOLE_DIGITS_MAX: usize = 9;
    if whole.is_empty() || whole.len() > WHOLE_DIGITS_MAX {
        return None;
    }
    if whole.len() > 1 && whole.first() == Some(&b'0') {
        return None;
    }
    let mut value = 0_u64;
    for &byte in whole.iter().chain(decimals) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    i64::try_from(value).ok()
}

/// Parses any number. Returns it in units of the last decimal.
#[cold]
fn parse_any(text: &str, decimals: Decimals, rounding: Rounding) -> Result<i64, DecimalError> {
    let (last_place, max) = (decimals.last_place(), decimals.max());
    let decimal = split_decimal(text)?;
    let digits = || decimal.whole.iter().chain(decimal.fraction);
    if digits().all(|&digit| digit == b'0') {
        return Ok(0);
    }
    // Place of the first digit as a power of ten. Places after the last decimal are dropped.
    let whole_len =
        i32::try_from(decimal.whole.len()).map_err(|_too_long| DecimalError::OutOfRange)?;
    let mut place = whole_len.saturating_sub(1).saturating_add(decimal.exponent);
    let (mut value, mut lost) = (0_i64, false);
    for &digit in digits() {
        let digit = i64::from(digit.saturating_sub(b'0'));
        if place < last_place {
            lost |= digit != 0;
        } else {
            value = value.saturating_mul(10).saturating_add(digit);
            if value > max {
                return Err(DecimalError::OutOfRange);
            }
        }
        place = place.saturating_sub(1);
    }
    // Appends the omitted zeros down to the last decimal.
    while place >= last_place && value != 0 {
        value = value.saturating_mul(10);
        if value > max {
            return Err(DecimalError::OutOfRange);
        }
        place = place.saturating_sub(1);
    }
    match (lost, rounding, decimal.negative) {
        (true, Rounding::Exact, _) => Err(DecimalError::TooPrecise(decimals)),
        (true, Rounding::Floor, true) => Ok(value.saturating_add(1).saturating_neg()),
        (true, Rounding::Ceil, false) => Ok(value.saturating_add(1)),
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
    fn check(text: &str, decimals: Decimals, expected: Result<i64, DecimalError>) {
        let parsed = Amount::parse(text, decimals).map(Amount::thousandths);
        assert_eq!(parsed, expected, "text: {text:?}, {decimals}");
    }

    #[test]
    fn integers_and_decimals_are_read_exactly() {
        for decimals in [Decimals::Two, Decimals::Three] {
            check("0", decimals, Ok(0));
            check("10", decimals, Ok(10_000));
            check("10.1", decimals, Ok(10_100));
            check("10.15", decimals, Ok(10_150));
            check("-0.07", decimals, Ok(-70));
            check("17987.2", decimals, Ok(17_987_200));
            check("10.150000", decimals, Ok(10_150));
            check("1e3", decimals, Ok(1_000_000));
            check("1.015E+1", decimals, Ok(10_150));
            check("1015e-2", decimals, Ok(10_150));
            check("0e999", decimals, Ok(0));
            check("1000000000000", decimals, Ok(THOUSANDTHS_MAX));
        }
        check("10.155", Decimals::Three, Ok(10_155));
        check("-0.007", Decimals::Three, Ok(-7));
        check("10.1550", Decimals::Three, Ok(10_155));
        check("1e-3", Decimals::Three, Ok(1));
        assert_eq!(Amount::from_cents(1_015), Amount(10_150));
        assert_eq!((Amount(10_159).cents(), Amount(-10_151).cents()), (1_015, -1_016));
    }

    #[test]
    fn what_is_not_exactly_an_amount_is_rejected() {
        for decimals in [Decimals::Two, Decimals::Three] {
            check("10.1555", decimals, Err(DecimalError::TooPrecise(decimals)));
            check("1e-4", decimals, Err(DecimalError::TooPrecise(decimals)));
            check("1e400", decimals, Err(DecimalError::OutOfRange));
            check("1e99999999999", decimals, Err(DecimalError::OutOfRange));
            check("10000000000000", decimals, Err(DecimalError::OutOfRange));
            for text in
                ["", "-", "+1", "01", ".5", "5.", "1e", "1e+", "NaN", "inf", "1,5", " 1", "0x1"]
            {
                check(text, decimals, Err(DecimalError::NotANumber));
            }
        }
        check("10.155", Decimals::Two, Err(DecimalError::TooPrecise(Decimals::Two)));
        check("1e-3", Decimals::Two, Err(DecimalError::TooPrecise(Decimals::Two)));
        let error = DecimalError::TooPrecise(Decimals::Two);
        assert_eq!(error.to_string(), "has more than two decimals");
    }

    #[test]
    fn a_balance_is_rounded_against_the_user() {
        let floor = |text, decimals| Amount::parse_floor(text, decimals).map(Amount::thousandths);
        assert_eq!(floor("10.159", Decimals::Two), Ok(10_150));
        assert_eq!(floor("-10.151", Decimals::Two), Ok(-10_160));
        assert_eq!(floor("0.001", Decimals::Two), Ok(0));
        assert_eq!(floor("10.1599", Decimals::Three), Ok(10_159));
        assert_eq!(floor("-10.1511", Decimals::Three), Ok(-10_152));
    }

    #[test]
    fn a_price_is_rounded_up() {
        let ceil = |text| Amount::parse_ceil(text, Decimals::Two).map(Amount::thousandths);
        assert_eq!(ceil("10.15"), Ok(10_150));
        assert_eq!(ceil("10.1500"), Ok(10_150));
        assert_eq!(ceil("10.151"), Ok(10_160));
        assert_eq!(ceil("10.999"), Ok(11_000));
        assert_eq!(ceil("1e-9"), Ok(10));
        assert_eq!(ceil("-10.159"), Ok(-10_150));
        assert_eq!(ceil("0.000"), Ok(0));
    }

    #[test]
    fn amounts_are_printed_with_two_decimals_or_three_if_needed() {
        assert_eq!(Amount::from_cents(1_015).to_string(), "10.15");
        assert_eq!(Amount::from_cents(-7).to_string(), "-0.07");
        assert_eq!(Amount(10_155).to_string(), "10.155");
        assert_eq!(Amount(-5).to_string(), "-0.005");
        assert_eq!(Percent(150).to_string(), "1.50");
        assert_eq!(format!("[{:>8}]", Amount::from_cents(1_015)), "[   10.15]");
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

    /// The markup of 100/300 is 33.333… %, and is claimed as 33.33 %.
    #[test]
    fn a_rounded_markup_agrees() {
        assert!(Percent(3_333).is_markup_of(Amount(400), Amount(300)));
        assert!(!Percent(3_334).is_markup_of(Amount(400), Amount(300)));
    }

    proptest! {
        /// Any text that the fast parser accepts has the same value in the general parser.
        #[test]
        fn the_fast_number_parser_agrees_with_the_general_one(text in "-?[0-9]{0,10}(\\.[0-9]{0,4})?([eE][0-9])?") {
            for rounding in [Rounding::Exact, Rounding::Floor] {
                if let Some(hundredths) = short_hundredths(text.as_bytes()) {
                    prop_assert_eq!(parse_any(&text, Decimals::Two, rounding), Ok(hundredths));
                }
                if let Some(thousandths) = short_thousandths(text.as_bytes()) {
                    prop_assert_eq!(parse_any(&text, Decimals::Three, rounding), Ok(thousandths));
                }
            }
        }

        /// A rounded price is the nearest one that is not below the exact one.
        #[test]
        fn the_rounded_bounds_enclose_the_exact_number(whole in 0_i64..1_000_000, fraction in 0_i64..100_000) {
            let text = format!("{whole}.{fraction:05}");
            let exact = whole * 100_000 + fraction;
            let [floor, ceil] = [Amount::parse_floor, Amount::parse_ceil]
                .map(|parse| parse(&text, Decimals::Two).unwrap().cents() * 1_000);
            prop_assert!(floor <= exact && exact <= ceil && ceil - floor <= 1_000, "{}", text);
            prop_assert_eq!(floor == ceil, exact % 1_000 == 0);
        }

        #[test]
        fn printing_and_parsing_are_inverse(thousandths in -THOUSANDTHS_MAX..=THOUSANDTHS_MAX) {
            let amount = Amount(thousandths);
            prop_assert_eq!(Amount::parse(&amount.to_string(), Decimals::Three), Ok(amount));
            let is_whole_cents = thousandths % 10 == 0;
            let with_two = Amount::parse(&amount.to_string(), Decimals::Two);
            prop_assert_eq!(with_two.ok(), is_whole_cents.then_some(amount));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            for decimals in [Decimals::Two, Decimals::Three] {
                let parsed = Amount::parse(&text, decimals);
                prop_assert!(parsed.is_err() || Amount::parse_floor(&text, decimals) == parsed);
            }
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
