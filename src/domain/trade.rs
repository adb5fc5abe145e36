//! The market's vocabulary: one listing, as the rest of the program sees it.
//!
//! A [`Trade`] borrows from the frame that it came in and owns nothing, so reading one allocates
//! nothing. Fields that the marketplace left out are `None`; fields that were there but could not
//! be read are `None` too, and named in [`Trade::defects`]. Whoever decides about money treats
//! both as a reason not to buy and never as a default.

mod id;

use std::{borrow::Cow, fmt, time::Duration};

pub use self::id::{TRADE_ID_BYTES_MAX, TradeId};

use crate::{
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    latency::RxTimestamps,
};

/// Where a listing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TradeStatus {
    /// For sale.
    Listed,
    /// Somebody reserved it; the seller must confirm.
    Joined,
    /// The seller confirmed; Steam delivers.
    Processing,
    /// Delivered.
    Completed,
    /// Delivered, and still within Steam's trade protection.
    CompletedProtected,
    /// Fell through; the coins come back.
    Cooldown,
    /// Taken back; the coins come back.
    Cancelled,
    /// Ran out; the coins come back.
    Expired,
    /// Something this program does not know, or nothing at all.
    Other,
}

impl TradeStatus {
    /// Reads the marketplace's word. A new one is [`TradeStatus::Other`].
    pub fn from_market(word: &str) -> Self {
        match word {
            "LISTED" => Self::Listed,
            "JOINED" => Self::Joined,
            "PROCESSING" => Self::Processing,
            "COMPLETED" => Self::Completed,
            "COMPLETED_PROTECTED" => Self::CompletedProtected,
            "COOLDOWN" => Self::Cooldown,
            "CANCELLED" => Self::Cancelled,
            "EXPIRED" => Self::Expired,
            _ => Self::Other,
        }
    }

    /// The marketplace's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "LISTED",
            Self::Joined => "JOINED",
            Self::Processing => "PROCESSING",
            Self::Completed => "COMPLETED",
            Self::CompletedProtected => "COMPLETED_PROTECTED",
            Self::Cooldown => "COOLDOWN",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Other => "OTHER",
        }
    }
}

impl fmt::Display for TradeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the last of so many decimals is worth, in units of 10⁻¹⁸.
#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled, or not at all")]
const UNITS: [u64; 19] = {
    let mut units = [1; 19];
    let mut place = 18;
    while place > 0 {
        place -= 1;
        units[place] = units[place + 1] * 10;
    }
    units
};

/// An item's float, exactly, in units of 10⁻¹⁸; further digits are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaintWear(u64);

impl PaintWear {
    const DECIMALS: usize = 18;

    /// Reads a decimal number from 0 to 1, as JSON and TOML write it.
    #[inline]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_fraction(text.as_bytes()).or_else(|| Self::parse_any(text))
    }

    /// Reads what floats mostly are: `0.` and up to eighteen digits. `None` means only that
    /// somebody else must look.
    #[inline]
    fn parse_fraction(text: &[u8]) -> Option<Self> {
        let fraction = text.strip_prefix(b"0.").filter(|fraction| !fraction.is_empty())?;
        let unit = UNITS.get(fraction.len())?;
        let mut value = 0_u64;
        for byte in fraction {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        }
        Some(Self(value.wrapping_mul(*unit)))
    }

    #[cold]
    fn parse_any(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || text.len() > 64 {
            return None;
        }
        // The place of the first digit: 0 for the ones, 1 for the tenths.
        let mut place =
            1_i32.checked_sub(i32::try_from(whole.len()).ok()?)?.checked_sub(exponent)?;
        let mut value = 0_u64;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let digit = u64::from(digit.checked_sub(b'0')?);
            if digit != 0 {
                let power = u32::try_from(place).ok().filter(|place| *place <= 18);
                match power {
                    Some(power) => {
                        let unit = 10_u64.checked_pow(18_u32.checked_sub(power)?)?;
                        value = value.checked_add(digit.checked_mul(unit)?)?;
                    }
                    None if place < 0 => return None,
                    None => {}
                }
            }
            place = place.saturating_add(1);
        }
        (value <= 10_u64.pow(18)).then_some(Self(value))
    }
}

impl fmt::Display for PaintWear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u64.pow(18);
        let digits = format!("{}.{:0width$}", self.0 / unit, self.0 % unit, width = Self::DECIMALS);
        let digits = digits.trim_end_matches('0');
        f.pad(digits.strip_suffix('.').unwrap_or(digits))
    }
}

/// What brought a listing to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeEvent {
    /// It was just listed.
    Listed,
    /// It changed: taken, cancelled, delivered.
    Updated,
    /// It was read from the open listings, this long after it was created.
    BackFilled {
        /// Its age when it was read.
        age: Duration,
    },
}

/// A field that was missing or could not be read. Each makes a listing unbuyable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Defect {
    /// No `status`, or it is not a string.
    Status,
    /// No `totalValue`, or it is not an amount.
    TotalValue,
    /// No `markupPercent`, or it is not a percentage.
    MarkupPercent,
    /// `canJoin` is not a boolean, or generation B left it out.
    CanJoin,
    /// `canJoinAfter` is neither null nor a moment.
    CanJoinAfter,
    /// `suspectedTraderCanJoinAfter` is neither null nor a moment.
    SuspectedTraderCanJoinAfter,
    /// No `expiresAt`, or it is not a moment.
    ExpiresAt,
    /// `createdAt` is not a moment.
    CreatedAt,
    /// `depositor` is missing: whose listing it is cannot be told.
    Depositor,
    /// `tradeItems` is not a list of items.
    TradeItems,
    /// The item's `marketName` is missing or no string.
    MarketName,
    /// The item's `itemVariant.value`, the base price, is missing or not an amount.
    BaseValue,
    /// `avgPaintWear` or `avgPaintWearRange` is neither null nor a float.
    PaintWear,
    /// A key that decides stands twice.
    RepeatedKey,
    /// The same message or page shows a different listing under the same id.
    Conflict,
}

impl Defect {
    /// Every defect, in the order of its bit.
    pub const ALL: [Self; 15] = [
        Self::Status,
        Self::TotalValue,
        Self::MarkupPercent,
        Self::CanJoin,
        Self::CanJoinAfter,
        Self::SuspectedTraderCanJoinAfter,
        Self::ExpiresAt,
        Self::CreatedAt,
        Self::Depositor,
        Self::TradeItems,
        Self::MarketName,
        Self::BaseValue,
        Self::PaintWear,
        Self::RepeatedKey,
        Self::Conflict,
    ];

    /// The field's name on the wire.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::TotalValue => "totalValue",
            Self::MarkupPercent => "markupPercent",
            Self::CanJoin => "canJoin",
            Self::CanJoinAfter => "canJoinAfter",
            Self::SuspectedTraderCanJoinAfter => "suspectedTraderCanJoinAfter",
            Self::ExpiresAt => "expiresAt",
            Self::CreatedAt => "createdAt",
            Self::Depositor => "depositor",
            Self::TradeItems => "tradeItems",
            Self::MarketName => "marketName",
            Self::BaseValue => "itemVariant.value",
            Self::PaintWear => "avgPaintWear",
            Self::RepeatedKey => "a repeated key",
            Self::Conflict => "which of its versions in one message is current",
        }
    }

    const fn bit(self) -> u16 {
        #[expect(clippy::as_conversions, reason = "a discriminant has no other way out")]
        let index = self as u8;
        1 << index
    }
}

/// A set of [`Defect`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects(u16);

impl Defects {
    /// None: the listing was read whole.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub const fn add(&mut self, defect: Defect) {
        self.0 |= defect.bit();
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    pub const fn contains(self, defect: Defect) -> bool {
        self.0 & defect.bit() != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        Defect::ALL.into_iter().filter(move |defect| self.contains(*defect))
    }
}

/// One listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade<'a> {
    /// The listing's id.
    pub id: TradeId,
    /// What brought it.
    pub event: TradeEvent,
    /// Where it stands.
    pub status: TradeStatus,
    /// The first item's full market name, as sent; empty when it is missing.
    pub market_name: Cow<'a, str>,
    /// The first item's name without star, StatTrak, Souvenir and wear.
    pub item: Cow<'a, str>,
    /// Whether the first item is StatTrak™.
    pub is_stattrak: bool,
    /// Whether the first item is a Souvenir.
    pub is_souvenir: bool,
    /// The first item's wear, for what has one.
    pub wear: Option<Wear>,
    /// How many items are sold together. Only listings of exactly one are bought.
    pub items: u32,
    /// What the seller added to the base price, as claimed.
    pub markup_percent: Option<Percent>,
    /// The price.
    pub total_value: Option<Amount>,
    /// The item's base price.
    pub base_value: Option<Amount>,
    /// Whether it can be bought at all, where the marketplace says so.
    pub can_join: Option<bool>,
    /// Nobody can buy it before this moment of the server's clock.
    pub can_join_after: Option<UnixMs>,
    /// An account that the site has flagged cannot buy it before this moment.
    pub suspected_trader_can_join_after: Option<UnixMs>,
    /// When it was listed, by the server's clock.
    pub created_at: Option<UnixMs>,
    /// When it runs out, by the server's clock.
    pub expires_at: Option<UnixMs>,
    /// The item's float, for what has one.
    pub float: Option<PaintWear>,
    /// The range that the float lies in, where only that is told: least and greatest.
    pub float_range: Option<(PaintWear, PaintWear)>,
    /// Whether it is one's own.
    pub is_own: bool,
    /// What was missing or could not be read.
    pub defects: Defects,
    /// How its frame came in, by our monotonic clock. Decides nothing; it is where the latency of a
    /// buy is measured from. The feed sets it.
    pub arrival: Option<RxTimestamps>,
}

impl Trade<'_> {
    /// The same listing, borrowing nothing: for whoever keeps one.
    pub fn into_owned(self) -> Trade<'static> {
        Trade {
            market_name: Cow::Owned(self.market_name.into_owned()),
            item: Cow::Owned(self.item.into_owned()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_taken_over_to_the_letter_or_not_at_all() {
        assert_eq!(TradeId::new("VHJhZGU6OTAwMDAwMDE").unwrap().as_str(), "VHJhZGU6OTAwMDAwMDE");
        for text in ["", "a b", "a\"b", "a\\b", "ä", "a\n", &"x".repeat(TRADE_ID_BYTES_MAX + 1)] {
            assert_eq!(TradeId::new(text), None, "{text:?}");
        }
        assert!(TradeId::new(&"x".repeat(TRADE_ID_BYTES_MAX)).is_some());
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let shown = PaintWear::parse(text).map(|wear| wear.to_string());
        assert_eq!(shown.as_deref(), expected, "text: {text:?}");
    }

    #[test]
    fn floats_are_read_exactly() {
        check("0.215", Some("0.215"));
        check("0", Some("0"));
        check("1", Some("1"));
        check("1.0", Some("1"));
        check("0.15000000596046448", Some("0.15000000596046448"));
        check("1.5e-5", Some("0.000015"));
        check("21.5E-2", Some("0.215"));
        check("0.00000000000000000019", Some("0"));
    }

    #[test]
    fn what_is_not_a_float_is_refused() {
        for text in ["", "-0.1", "1.1", "2", "1e400", "1e2", "NaN", "0,5", "0x1", "1e-99999999999"]
        {
            check(text, None);
        }
    }

    #[test]
    fn each_defect_has_a_bit_of_its_own() {
        for defect in Defect::ALL {
            let mut defects = Defects::NONE;
            defects.add(defect);
            assert_eq!(defects.iter().collect::<Vec<_>>(), [defect]);
        }
    }

    proptest! {
        /// What the short way reads, the long way reads alike.
        #[test]
        fn short_floats_are_read_as_long_ones_are(text in "0\\.[0-9]{0,20}[eE]?") {
            if let Some(wear) = PaintWear::parse_fraction(text.as_bytes()) {
                prop_assert_eq!(PaintWear::parse_any(&text), Some(wear));
            }
        }

        #[test]
        fn floats_are_ordered_as_their_text_is(a in 0_u32..=1_000_000_000, b in 0_u32..=1_000_000_000) {
            let wear = |n: u32| PaintWear::parse(&format!("{}.{:09}", n / 1_000_000_000, n % 1_000_000_000)).unwrap();
            prop_assert_eq!(wear(a).cmp(&wear(b)), a.cmp(&b));
        }

        #[test]
        fn parsing_a_float_never_panics(text in "\\PC{0,70}") {
            prop_assert!(PaintWear::parse(&text).is_none_or(|wear| wear.0 <= 10_u64.pow(18)));
        }
    }
}
