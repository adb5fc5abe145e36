//! Why an entry does or does not want a listing: each condition with its value and its bound.

use std::{fmt, time::Duration};

use super::{WearSet, WhitelistEntry};
use crate::{
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
    domain::trade::{Defects, PaintWear, Trade, TradeEvent},
};

/// What the whitelist says of one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The entry at this index wants it.
    Wanted(usize),
    /// No entry is about this item.
    NotListed,
    /// Entries are about this item; the last of them that was asked has this against it.
    Refused {
        /// The index of that entry.
        entry: usize,
        /// The first of its conditions that is not met.
        because: Mismatch,
    },
    /// Something that decides could not be read, so nothing is decided.
    Unreadable(Defects),
}

/// A condition that is not met, with the listing's value and the entry's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is StatTrak™ and should not be, or the other way round.
    StatTrak {
        /// Whether the listing is.
        is: bool,
    },
    /// It is a Souvenir and should not be, or the other way round.
    Souvenir {
        /// Whether the listing is.
        is: bool,
    },
    /// It has another wear, or none.
    Wear {
        /// The listing's wear.
        is: Option<Wear>,
        /// What is wanted.
        wanted: WearSet,
    },
    /// It costs more.
    PriceAbove {
        /// The listing's price.
        is: Amount,
        /// The bound.
        max: Amount,
    },
    /// It costs less.
    PriceBelow {
        /// The listing's price.
        is: Amount,
        /// The bound.
        min: Amount,
    },
    /// The seller added more.
    MarkupAbove {
        /// The listing's markup.
        is: Percent,
        /// The bound.
        max: Percent,
    },
    /// The float is not told, though there is a bound.
    FloatUnknown,
    /// The float, or a part of its range, is greater.
    FloatAbove {
        /// The greatest that it may be.
        is: PaintWear,
        /// The bound.
        max: PaintWear,
    },
    /// The float, or a part of its range, is less.
    FloatBelow {
        /// The least that it may be.
        is: PaintWear,
        /// The bound.
        min: PaintWear,
    },
    /// It was found late.
    TooOld {
        /// The listing's age.
        is: Duration,
        /// The bound.
        max: Duration,
    },
}

/// The first condition of an entry that a readable listing does not meet. Whether the entry is
/// about the item at all has been asked before.
#[inline]
pub(super) fn mismatch(
    entry: &WhitelistEntry,
    trade: &Trade<'_>,
    price: Amount,
    markup: Percent,
) -> Option<Mismatch> {
    if price > entry.max_price {
        return Some(Mismatch::PriceAbove { is: price, max: entry.max_price });
    }
    if markup > entry.max_markup {
        return Some(Mismatch::MarkupAbove { is: markup, max: entry.max_markup });
    }
    if trade.is_stattrak != entry.stattrak {
        return Some(Mismatch::StatTrak { is: trade.is_stattrak });
    }
    if trade.is_souvenir != entry.souvenir {
        return Some(Mismatch::Souvenir { is: trade.is_souvenir });
    }
    if !entry.wears.accepts(trade.wear) {
        return Some(Mismatch::Wear { is: trade.wear, wanted: entry.wears });
    }
    if price < entry.min_price {
        return Some(Mismatch::PriceBelow { is: price, min: entry.min_price });
    }
    float_mismatch(entry, trade).or_else(|| age_mismatch(entry, trade))
}

fn float_mismatch(entry: &WhitelistEntry, trade: &Trade<'_>) -> Option<Mismatch> {
    if entry.float_min.is_none() && entry.float_max.is_none() {
        return None;
    }
    let range = trade.float.map(|float| (float, float)).or(trade.float_range);
    let Some((least, greatest)) = range else {
        return Some(Mismatch::FloatUnknown);
    };
    let above = |max: &PaintWear| *max < greatest;
    let below = |min: &PaintWear| least < *min;
    let above = entry.float_max.filter(above).map(|max| Mismatch::FloatAbove { is: greatest, max });
    let below = entry.float_min.filter(below).map(|min| Mismatch::FloatBelow { is: least, min });
    above.or(below)
}

fn age_mismatch(entry: &WhitelistEntry, trade: &Trade<'_>) -> Option<Mismatch> {
    match (trade.event, entry.max_age) {
        (TradeEvent::BackFilled { age }, Some(max)) if max < age => {
            Some(Mismatch::TooOld { is: age, max })
        }
        _ => None,
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_or_not = |is: bool| if is { "is" } else { "is not" };
        match self {
            Self::StatTrak { is } => write!(f, "{} StatTrak™", is_or_not(*is)),
            Self::Souvenir { is } => write!(f, "{} a Souvenir", is_or_not(*is)),
            Self::Wear { is, wanted } => {
                write!(f, "wear {} is not among", is.map_or("none", Wear::as_str))?;
                wanted.iter().try_for_each(|wear| write!(f, " {}", wear.short()))
            }
            Self::PriceAbove { is, max } => write!(f, "price {is} is above {max}"),
            Self::PriceBelow { is, min } => write!(f, "price {is} is below {min}"),
            Self::MarkupAbove { is, max } => write!(f, "markup {is}% is above {max}%"),
            Self::FloatUnknown => f.write_str("float is not known"),
            Self::FloatAbove { is, max } => write!(f, "float {is} is above {max}"),
            Self::FloatBelow { is, min } => write!(f, "float {is} is below {min}"),
            Self::TooOld { is, max } => {
                write!(f, "age {}s is above {}s", is.as_secs(), max.as_secs())
            }
        }
    }
}
