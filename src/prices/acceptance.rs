//! Decides whether a new table may replace the last good one.
//!
//! A file that was cut, emptied or written in another unit parses well and would move every bound.
//! So a table is compared with the last good one, and the first with well-known items.

use std::fmt;

use super::{
    item_key::ItemKey,
    table::{PriceTable, Quote},
    value::RefPrice,
};
use crate::domain::percent_rule::QuoteSide;

/// Bounds of the median ratio to the last good table, in hundredths.
const RATIO_TO_LAST: (u64, u64) = (80, 125);
/// Bounds of the median ratio to the built-in prices, in hundredths.
const RATIO_TO_KNOWN: (u64, u64) = (20, 500);
/// Bounds of the median ratio of bids to the asks of the same table, in hundredths.
const BID_TO_ASK: (u64, u64) = (20, 125);
/// Minimum number of well-known items in a whole catalogue. Also the number of prices whose median
/// is compared even if they are a small part of the table.
const KNOWN_MIN: usize = 5;

/// Reason for which a table is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableRejection {
    /// Fewer than half of the last good table's prices of this side are present, or none of a few.
    Collapsed { side: QuoteSide, common: usize, last: usize },
    /// The prices differ from the last good ones as a whole.
    Moved { side: QuoteSide, median: MedianRatio },
    /// The prices differ from those of well-known items as a whole.
    Implausible { side: QuoteSide, median: MedianRatio },
    /// The prices of a side that the last good table lacks contradict those of the other side.
    Contradictory { side: QuoteSide, median: MedianRatio },
    /// A whole catalogue without well-known items.
    Unknown { present: usize },
}

/// Median of ratios, in hundredths, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MedianRatio(u64);

impl fmt::Display for MedianRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl fmt::Display for TableRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collapsed { side, common, last } => write!(
                f,
                "it has {common} of the {last} {}s of the last table, fewer than half",
                side.as_str()
            ),
            Self::Moved { side, median } => write!(
                f,
                "the median of its {}s is {median} times that of the last table, outside 0.80 to \
                 1.25",
                side.as_str()
            ),
            Self::Implausible { side, median } => write!(
                f,
                "the median {} of well-known items is {median} times the expected price, outside \
                 0.20 to 5.00; the unit may be wrong",
                side.as_str()
            ),
            Self::Contradictory { side, median } => write!(
                f,
                "its {}s are new, and the median of its bids is {median} times its own asks, \
                 outside 0.20 to 1.25; the unit may be wrong",
                side.as_str()
            ),
            Self::Unknown { present } => {
                write!(f, "it has {present} of the well-known items, fewer than {KNOWN_MIN}")
            }
        }
    }
}

/// Compares a table with the last good one, or without one with well-known items. `is_catalogue` is
/// `true` for a source that lists the whole market; a local file may be short.
///
/// # Errors
///
/// Returns the reason for which the table must not be used.
pub fn check(
    table: &PriceTable,
    last: Option<&PriceTable>,
    is_catalogue: bool,
) -> Result<(), TableRejection> {
    let known = known_quotes(table);
    let Some(last) = last else {
        if known.len() < KNOWN_MIN && is_catalogue {
            return Err(TableRejection::Unknown { present: known.len() });
        }
        return QuoteSide::ALL.into_iter().try_for_each(|side| check_known(&known, side));
    };
    QuoteSide::ALL.into_iter().try_for_each(|side| {
        let count = last.iter().filter(|(_, quote)| quote.side(side).is_some()).count();
        if is_enough(count, last) {
            return compare(table, last, side, count);
        }
        // A side without any price would change the default reference of every rule.
        if 0 < count && !table.has_side(side) {
            return Err(TableRejection::Collapsed { side, common: 0, last: count });
        }
        // The last table has too few prices of this side for a comparison.
        check_known(&known, side).and_then(|()| check_sides(table, side))
    })
}

/// Returns `true` if this number of prices represents one side of a table.
fn is_enough(count: usize, table: &PriceTable) -> bool {
    KNOWN_MIN <= count || table.len() <= count.saturating_mul(2)
}

fn compare(
    table: &PriceTable,
    last: &PriceTable,
    side: QuoteSide,
    count: usize,
) -> Result<(), TableRejection> {
    let pair = |(key, before): (&ItemKey<'static>, &Quote)| {
        Some((table.get(key)?.side(side)?.price, before.side(side)?.price))
    };
    let pairs: Vec<_> = last.iter().filter_map(pair).collect();
    if pairs.len().saturating_mul(2) < count {
        return Err(TableRejection::Collapsed { side, common: pairs.len(), last: count });
    }
    match median_outside(pairs, RATIO_TO_LAST) {
        Some(median) => Err(TableRejection::Moved { side, median }),
        None => Ok(()),
    }
}

/// Returns the well-known items of a table with their built-in prices.
fn known_quotes(table: &PriceTable) -> Vec<(Quote, RefPrice)> {
    let known = |(name, cents): &(&'static str, u64)| {
        let quote = table.get(&ItemKey::parse(name)?)?;
        Some((*quote, RefPrice::from_micros(cents.saturating_mul(10_000))?))
    };
    KNOWN_CENTS.iter().filter_map(known).collect()
}

fn check_known(known: &[(Quote, RefPrice)], side: QuoteSide) -> Result<(), TableRejection> {
    let pair = |(quote, expected): &(Quote, RefPrice)| Some((quote.side(side)?.price, *expected));
    let pairs: Vec<_> = known.iter().filter_map(pair).collect();
    let is_enough = KNOWN_MIN <= pairs.len();
    match median_outside(pairs, RATIO_TO_KNOWN).filter(|_| is_enough) {
        Some(median) => Err(TableRejection::Implausible { side, median }),
        None => Ok(()),
    }
}

/// Compares the bids of a table with its asks.
fn check_sides(table: &PriceTable, side: QuoteSide) -> Result<(), TableRejection> {
    let pair = |(_, quote): (_, &Quote)| Some((quote.bid?.price, quote.ask?.price));
    let pairs: Vec<_> = table.iter().filter_map(pair).collect();
    let is_enough = is_enough(pairs.len(), table);
    match median_outside(pairs, BID_TO_ASK).filter(|_| is_enough) {
        Some(median) => Err(TableRejection::Contradictory { side, median }),
        None => Ok(()),
    }
}

/// Returns the median of the ratios if it is outside the bounds. Of an even number, the lower of
/// the two in the middle is compared with the lower bound, and the upper with the upper one.
fn median_outside(
    mut pairs: Vec<(RefPrice, RefPrice)>,
    (min, max): (u64, u64),
) -> Option<MedianRatio> {
    let product = |one: RefPrice, other: u64| u128::from(one.micros()).saturating_mul(other.into());
    pairs.sort_unstable_by(|one, other| {
        product(one.0, other.1.micros()).cmp(&product(other.0, one.1.micros()))
    });
    let lower = *pairs.get(pairs.len().checked_sub(1)? / 2)?;
    let upper = *pairs.get(pairs.len() / 2)?;
    let ratio = |(is, of): (RefPrice, RefPrice)| {
        let ratio = product(is, 100).checked_div(u128::from(of.micros())).unwrap_or(0);
        MedianRatio(u64::try_from(ratio).unwrap_or(u64::MAX))
    };
    if product(lower.0, 100) < product(lower.1, min) {
        return Some(ratio(lower));
    }
    (product(upper.0, 100) > product(upper.1, max)).then(|| ratio(upper))
}

/// Well-known items with rough prices in cents of a dollar. They only detect a wrong unit or
/// currency, so they need no update. A source that lists only Dopplers has the last ones.
const KNOWN_CENTS: [(&str, u64); 57] = [
    ("Fracture Case", 60),
    ("Recoil Case", 45),
    ("Dreams & Nightmares Case", 180),
    ("Snakebite Case", 70),
    ("Revolution Case", 60),
    ("Kilowatt Case", 50),
    ("Clutch Case", 90),
    ("Prisma Case", 140),
    ("Prisma 2 Case", 120),
    ("Danger Zone Case", 130),
    ("Horizon Case", 160),
    ("Gamma Case", 250),
    ("Gamma 2 Case", 220),
    ("Chroma 2 Case", 280),
    ("Chroma 3 Case", 250),
    ("Spectrum Case", 260),
    ("Spectrum 2 Case", 240),
    ("Falchion Case", 130),
    ("Shadow Case", 140),
    ("Revolver Case", 250),
    ("Operation Breakout Weapon Case", 800),
    ("Glove Case", 900),
    ("CS20 Case", 110),
    ("AK-47 | Redline (Field-Tested)", 3_200),
    ("AK-47 | Slate (Field-Tested)", 500),
    ("AK-47 | Asiimov (Field-Tested)", 4_500),
    ("AK-47 | Vulcan (Field-Tested)", 18_000),
    ("AK-47 | Bloodsport (Field-Tested)", 7_000),
    ("AK-47 | Elite Build (Field-Tested)", 250),
    ("AK-47 | Safari Mesh (Field-Tested)", 60),
    ("AWP | Asiimov (Field-Tested)", 14_000),
    ("AWP | Neo-Noir (Field-Tested)", 2_600),
    ("AWP | Atheris (Field-Tested)", 550),
    ("AWP | Fever Dream (Field-Tested)", 900),
    ("AWP | Safari Mesh (Field-Tested)", 60),
    ("M4A4 | Neo-Noir (Field-Tested)", 2_200),
    ("M4A4 | Desolate Space (Field-Tested)", 2_500),
    ("M4A4 | Evil Daimyo (Field-Tested)", 450),
    ("M4A1-S | Decimator (Field-Tested)", 1_200),
    ("M4A1-S | Hyper Beast (Field-Tested)", 2_600),
    ("M4A1-S | Nightmare (Field-Tested)", 1_400),
    ("USP-S | Cortex (Field-Tested)", 500),
    ("USP-S | Kill Confirmed (Field-Tested)", 4_500),
    ("USP-S | Cyrex (Field-Tested)", 550),
    ("Glock-18 | Water Elemental (Field-Tested)", 700),
    ("Desert Eagle | Mecha Industries (Field-Tested)", 900),
    ("Desert Eagle | Conspiracy (Minimal Wear)", 900),
    ("P250 | Asiimov (Field-Tested)", 450),
    ("Five-SeveN | Monkey Business (Field-Tested)", 900),
    ("P90 | Asiimov (Field-Tested)", 900),
    ("★ Bayonet | Doppler Phase 2 (Factory New)", 55_000),
    ("★ Falchion Knife | Doppler Phase 2 (Factory New)", 25_000),
    ("★ Flip Knife | Doppler Phase 2 (Factory New)", 45_000),
    ("★ Gut Knife | Doppler Phase 2 (Factory New)", 22_000),
    ("★ Huntsman Knife | Doppler Phase 2 (Factory New)", 35_000),
    ("★ Karambit | Doppler Phase 2 (Factory New)", 130_000),
    ("★ M9 Bayonet | Doppler Phase 2 (Factory New)", 130_000),
];

#[cfg(test)]
mod tests;
