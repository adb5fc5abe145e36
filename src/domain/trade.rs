//! One listing of the market.
//!
//! A [`Trade`] borrows from its frame, so parsing one does not allocate. Missing fields are `None`;
//! unreadable fields are `None` too and are listed in [`Trade::defects`]. The decision treats both
//! as a reason not to order and never uses a default.

mod id;
mod key;
mod rarity;

use std::{borrow::Cow, fmt, time::Duration};

pub use self::{
    id::{TRADE_ID_BYTES_MAX, TradeId},
    key::{KeyedBy, TradeKey},
    rarity::RarityWord,
};

use crate::{
    domain::item_name::{ItemName, Wear},
    domain::latency::RxTimestamps,
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
};

/// Status of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TradeStatus {
    /// Available to buyers.
    Listed,
    /// Reserved by a buyer; the seller must confirm.
    Joined,
    /// Confirmed by the seller; Steam delivers.
    Processing,
    /// Delivered to the buyer.
    Completed,
    /// Delivered, within Steam's trade protection.
    CompletedProtected,
    /// Failed; the coins are returned.
    Cooldown,
    /// Cancelled; the coins are returned.
    Cancelled,
    /// Expired; the coins are returned.
    Expired,
    /// Unknown or missing status.
    Other,
}

impl TradeStatus {
    /// Parses the status on the wire. An unknown one is [`TradeStatus::Other`].
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

    /// Returns `true` if the coins of a purchase are returned.
    pub const fn gives_back(self) -> bool {
        matches!(self, Self::Cooldown | Self::Cancelled | Self::Expired)
    }

    /// Returns the status as on the wire.
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

/// Value of the last digit of a fraction, in units of 10⁻¹⁸, indexed by the number of its digits.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const UNITS: [u64; 19] = {
    let mut units = [1; 19];
    let mut place = 18;
    while place > 0 {
        place -= 1;
        units[place] = units[place + 1] * 10;
    }
    units
};

/// Exact float of an item, in units of 10⁻¹⁸. Further digits are truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaintWear(u64);

impl PaintWear {
    const DECIMALS: usize = 18;

    /// Creates a float from hundredths.
    pub const fn from_hundredths(hundredths: u64) -> Self {
        Self(hundredths.saturating_mul(10_000_000_000_000_000))
    }

    /// Returns the float in units of 10⁻¹⁸.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// Returns the next lower float; zero stays zero.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Returns the absolute difference.
    #[must_use]
    pub const fn distance(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }

    /// Parses a decimal number from 0 to 1 in the syntax of JSON and TOML.
    #[inline]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_fraction(text.as_bytes()).or_else(|| Self::parse_any(text))
    }

    /// Parses the usual form: `0.` and up to eighteen digits. After `None` the general parser must
    /// be used.
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
        // Place of the first digit: 0 for the ones, 1 for the tenths.
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

/// Kind of the event that delivered a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeEvent {
    /// The listing is new.
    Listed,
    /// The market changed the price under the same id.
    Repriced,
    /// The listing changed: taken, cancelled, delivered.
    Updated,
    /// The listing was read from the list of open listings, when it had this age.
    BackFilled { age: Duration },
}

/// Event about an id that is not a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeNotice {
    /// The listing is gone. It may have been sold, or return later under the same id.
    Removed { id: TradeId },
    /// A purchase of our own account has this status.
    Purchase { id: TradeId, status: TradeStatus },
    /// Our own account has changed; only a read of it shows how.
    AccountChanged,
}

/// Required field that is missing or unreadable. Each defect makes a listing unbuyable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Defect {
    /// `status` is missing or not a string.
    Status,
    /// `totalValue` is missing or not an amount.
    TotalValue,
    /// `markupPercent` is missing or not a percentage.
    MarkupPercent,
    /// `canJoin` is not a boolean, or missing in generation B.
    CanJoin,
    /// `canJoinAfter` is neither null nor a timestamp.
    CanJoinAfter,
    /// `suspectedTraderCanJoinAfter` is neither null nor a timestamp.
    SuspectedTraderCanJoinAfter,
    /// `expiresAt` is missing or not a timestamp.
    ExpiresAt,
    /// `createdAt` is not a timestamp.
    CreatedAt,
    /// `depositor` is missing, so the owner of the listing is unknown.
    Depositor,
    /// `tradeItems` is not a list of items.
    TradeItems,
    /// The item's `marketName` is missing or not a string.
    MarketName,
    /// The item's `itemVariant.value`, the base price, is missing or not an amount.
    BaseValue,
    /// `avgPaintWear` or `avgPaintWearRange` is neither null nor a float.
    PaintWear,
    /// A required key occurs twice.
    RepeatedKey,
    /// The same message or page contains a different listing with the same id.
    Conflict,
}

impl Defect {
    /// All defects, in the order of their bits.
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

    /// Names the unreadable part for the user. The name of the field depends on the market.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Status => "its status",
            Self::TotalValue => "its price",
            Self::MarkupPercent => "its markup",
            Self::CanJoin => "whether it can be bought",
            Self::CanJoinAfter => "its opening time",
            Self::SuspectedTraderCanJoinAfter => "its opening time for flagged accounts",
            Self::ExpiresAt => "its expiry",
            Self::CreatedAt => "its creation time",
            Self::Depositor => "its seller",
            Self::TradeItems => "its items",
            Self::MarketName => "its name",
            Self::BaseValue => "its base price",
            Self::PaintWear => "its float",
            Self::RepeatedKey => "a repeated key",
            Self::Conflict => "the current version (one message contains several)",
        }
    }

    const fn bit(self) -> u16 {
        #[expect(clippy::as_conversions, reason = "there is no other way to read a discriminant")]
        let index = self as u8;
        1 << index
    }
}

/// Set of [`Defect`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects(u16);

impl Defects {
    pub const NONE: Self = Self(0);

    pub const fn add(&mut self, defect: Defect) {
        self.0 |= defect.bit();
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, defect: Defect) -> bool {
        self.0 & defect.bit() != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Defect> {
        Defect::ALL.into_iter().filter(move |defect| self.contains(*defect))
    }
}

/// Listing of one or more items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade<'a> {
    pub id: TradeId,
    pub event: TradeEvent,
    pub status: TradeStatus,
    /// Full market name of the first item, as received; empty if it is missing.
    pub market_name: Cow<'a, str>,
    /// Name of the first item without star, StatTrak, Souvenir and wear.
    pub item: Cow<'a, str>,
    pub is_stattrak: bool,
    pub is_souvenir: bool,
    pub wear: Option<Wear>,
    /// Rarity of the first item; `None` if the market does not name it.
    pub rarity: Option<RarityWord>,
    /// Number of items sold together. Only listings of exactly one item are ordered.
    pub items: u32,
    /// Markup over the base price that the listing claims.
    pub markup_percent: Option<Percent>,
    /// Price of the listing.
    pub total_value: Option<Amount>,
    /// Base price of the item.
    pub base_value: Option<Amount>,
    /// `canJoin` on the wire; generation A omits it.
    pub can_join: Option<bool>,
    /// Server time before which the listing cannot be bought.
    pub can_join_after: Option<UnixMs>,
    /// Server time before which an account that the market has flagged cannot buy the listing.
    pub suspected_trader_can_join_after: Option<UnixMs>,
    /// Server time at which the listing was created.
    pub created_at: Option<UnixMs>,
    /// Server time of the expiry; `None` if the market states none. Its absence is a [`Defect`] on
    /// a market that always states it.
    pub expires_at: Option<UnixMs>,
    pub float: Option<PaintWear>,
    /// Minimum and maximum of the float, for listings without the exact value.
    pub float_range: Option<(PaintWear, PaintWear)>,
    /// `true` for a listing of our own account.
    pub is_own: bool,
    pub defects: Defects,
    /// Times at which the frame was received, for latency statistics only. Set by the feed.
    pub arrival: Option<RxTimestamps>,
}

impl Trade<'_> {
    /// Returns the market name with the phase, which some markets state only beside it. It is the
    /// name of the item in records, log lines and alerts. Allocates only to add a phase.
    pub fn full_name(&self) -> Cow<'_, str> {
        let name = ItemName::parse(&self.market_name);
        if name.base == self.item {
            return Cow::Borrowed(&self.market_name);
        }
        ItemName { base: Cow::Borrowed(&self.item), ..name }.to_string().into()
    }

    /// Converts the listing into one that owns its text.
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
    fn an_id_is_kept_verbatim_or_rejected() {
        assert_eq!(TradeId::new("VHJhZGU6OTAwMDAwMDE").unwrap().as_str(), "VHJhZGU6OTAwMDAwMDE");
        for text in ["", "a b", "a\"b", "a\\b", "ä", "a\n", &"x".repeat(TRADE_ID_BYTES_MAX + 1)] {
            assert_eq!(TradeId::new(text), None, "{text:?}");
        }
        assert!(TradeId::new(&"x".repeat(TRADE_ID_BYTES_MAX)).is_some());
    }

    #[test]
    fn a_number_is_the_same_id_as_its_digits() {
        for number in [0, 7, 10, 900_000_123, u64::MAX] {
            let id = TradeId::from_number(number);
            assert_eq!(id.as_str(), number.to_string());
            assert_eq!(Some(id), TradeId::new(&number.to_string()));
        }
        assert_ne!(TradeId::from_number(1), TradeId::from_number(10));
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
    fn text_that_is_not_a_float_is_rejected() {
        for text in ["", "-0.1", "1.1", "2", "1e400", "1e2", "NaN", "0,5", "0x1", "1e-99999999999"]
        {
            check(text, None);
        }
    }

    #[test]
    fn each_defect_has_its_own_bit() {
        for defect in Defect::ALL {
            let mut defects = Defects::NONE;
            defects.add(defect);
            assert_eq!(defects.iter().collect::<Vec<_>>(), [defect]);
        }
    }

    proptest! {
        /// Any text that the fast parser accepts has the same value in the general parser.
        #[test]
        fn the_fast_float_parser_agrees_with_the_general_one(text in "0\\.[0-9]{0,20}[eE]?") {
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
