//! A listed item: its contents, its timing and its defects. Pure.

use std::time::Duration;

use super::arrivals::NextArrival;
use crate::{
    domain::item_name::{ItemName, Wear},
    domain::money::{Amount, Percent},
};

/// Time from the creation of a listing to its expiry.
pub const OPEN_FOR: Duration = Duration::from_secs(48 * 3_600);
/// Decimals of a float: its unit is 10⁻¹⁶.
const FLOAT_DECIMALS: usize = 16;
/// Float units per hundredth.
pub(super) const FLOAT_HUNDREDTH: u64 = 100_000_000_000_000;

/// An item with the price and the timing of its listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedItem {
    pub arrival: NextArrival,
    pub market_name: String,
    /// The part of the name before the bar, with its prefixes.
    pub brand: String,
    /// The part of the name after the bar, without the wear.
    pub name: String,
    /// The wear, or the finish of a sticker.
    pub color: Option<String>,
    pub rarity: &'static str,
    /// Price before the markup.
    pub base: Amount,
    /// Price of the listing.
    pub total: Amount,
    /// Markup of `total` over `base`, rounded as the marketplace does.
    pub markup: Percent,
    pub float: Option<Float>,
    pub stickers: Vec<Sticker>,
    /// Age of the listing when it appears on the feed.
    pub created_before: Duration,
    /// Time from creation to expiry.
    pub open_for: Duration,
    /// Time from creation until it can be joined; `None` for at once.
    pub can_join_after: Option<Duration>,
    /// Time from creation until flagged accounts can join it.
    pub suspected_can_join_after: Duration,
    /// Time from appearance until a rival buys it, if one does.
    pub rival_after: Option<Duration>,
    /// Name of the demo whitelist entry for which it was generated.
    pub wanted: Option<&'static str>,
    pub defect: Option<ListingDefect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Float {
    /// The exact decimal number.
    pub text: String,
    /// Range around it, in hundredths, if generation B sends only the range.
    pub only_range: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticker {
    pub name: String,
    /// The finish, such as Holo.
    pub color: &'static str,
    /// Share that is scraped off, in hundredths.
    pub wear: u64,
    pub value: Amount,
}

/// A defect of a listing. Such a listing cannot be bought, or should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingDefect {
    /// `tradeItems` is empty.
    NoItems,
    /// `tradeItems` is null.
    NullItems,
    /// Two items are sold together.
    TwoItems,
    /// The item has no `itemVariant`.
    NoVariant,
    /// Its status is not LISTED when it appears.
    NotListed,
    /// `canJoin` is false.
    CannotJoin,
    /// The seller is the account itself.
    Own,
}

impl ListingDefect {
    pub(super) const ALL: [Self; 7] = [
        Self::NoItems,
        Self::NullItems,
        Self::TwoItems,
        Self::NoVariant,
        Self::NotListed,
        Self::CannotJoin,
        Self::Own,
    ];
}

impl ListedItem {
    /// Creates an item without defects and rivals that is listed at once. `market_name` is the full
    /// name, with the wear.
    pub fn plain(market_name: &str, base: Amount, total: Amount) -> Self {
        let parsed = ItemName::parse(market_name);
        let (brand, name) = market_name.split_once(" | ").unwrap_or((market_name, ""));
        let wear = parsed.wear;
        let name = match wear.and_then(|_worn| name.rsplit_once(" (")) {
            Some((name, _wear)) => name,
            None => name,
        };
        Self {
            arrival: NextArrival { at: Duration::ZERO, group: 0 },
            market_name: market_name.to_owned(),
            brand: brand.to_owned(),
            name: name.to_owned(),
            color: wear.map(|wear| wear.as_str().to_owned()),
            rarity: "classified",
            base,
            total,
            markup: markup_of(total.cents(), base.cents()),
            float: wear.map(|wear| {
                let (low, high) = hundredths_of(wear);
                Float { text: float_text((low + high) * FLOAT_HUNDREDTH / 2), only_range: None }
            }),
            stickers: Vec::new(),
            created_before: Duration::ZERO,
            open_for: OPEN_FOR,
            can_join_after: None,
            suspected_can_join_after: Duration::from_secs(1),
            rival_after: None,
            wanted: None,
            defect: None,
        }
    }
}

/// Returns `round((total − base) / base × 100, 2)`, as the marketplace computes it.
pub(super) fn markup_of(total: i64, base: i64) -> Percent {
    let exact = (total - base) * 20_000;
    let rounded = exact.checked_div(base).unwrap_or(0);
    Percent::from_hundredths((rounded + 1).div_euclid(2))
}

/// Returns the float range of a wear in hundredths; the upper bound is exclusive.
pub(super) const fn hundredths_of(wear: Wear) -> (u64, u64) {
    match wear {
        Wear::FactoryNew => (0, 7),
        Wear::MinimalWear => (7, 15),
        Wear::FieldTested => (15, 38),
        Wear::WellWorn => (38, 45),
        Wear::BattleScarred => (45, 100),
    }
}

/// Formats a float given in units as a decimal number, with the digits that a JSON number of 64 bits
/// can keep.
pub(super) fn float_text(units: u64) -> String {
    let text = format!("0.{units:0FLOAT_DECIMALS$}");
    text.parse::<f64>().map_or(text, |float| float.to_string())
}
