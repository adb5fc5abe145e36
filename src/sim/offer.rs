//! Something that is listed: its contents, its moments, and what is odd about it. Pure.

use std::time::Duration;

use super::arrivals::NextArrival;
use crate::{
    domain::item_name::{ItemName, Wear},
    domain::money::{Amount, Percent},
};

/// How long a listing stays open.
pub const OPEN_FOR: Duration = Duration::from_secs(48 * 3_600);
/// A float's unit: 10⁻¹⁶.
const FLOAT_DECIMALS: usize = 16;
/// How many of these units one hundredth has.
pub(super) const FLOAT_HUNDREDTH: u64 = 100_000_000_000_000;

/// Something that is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedItem {
    /// When it appears, since the market opened, and with which others.
    pub arrival: NextArrival,
    /// The item's full market name.
    pub market_name: String,
    /// What stands before the bar, with its prefixes.
    pub brand: String,
    /// What stands after it, without the wear.
    pub name: String,
    /// The wear, or a sticker's finish.
    pub color: Option<String>,
    /// The site's word for how rare it is.
    pub rarity: &'static str,
    /// The base price.
    pub base: Amount,
    /// What it costs.
    pub total: Amount,
    /// What the seller claims to have added.
    pub markup: Percent,
    /// The float.
    pub float: Option<Float>,
    /// What sticks on it.
    pub stickers: Vec<Sticker>,
    /// How long before it appears it was created.
    pub created_before: Duration,
    /// How long after its creation it runs out.
    pub open_for: Duration,
    /// How long after its creation it can be joined; `None`: at once.
    pub can_join_after: Option<Duration>,
    /// How long after its creation flagged accounts can join it.
    pub suspected_can_join_after: Duration,
    /// How long after its appearance a rival takes it, if one does.
    pub rival_after: Option<Duration>,
    /// Which entry of the demo's whitelist it was made for.
    pub wanted: Option<&'static str>,
    /// What is odd about it.
    pub oddity: Option<ListingDefect>,
}

/// An item's float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Float {
    /// The decimal number.
    pub text: String,
    /// A range around it, in hundredths, where newer answers tell only that.
    pub only_range: Option<(u64, u64)>,
}

/// A sticker on an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticker {
    /// Its name.
    pub name: String,
    /// Its finish.
    pub color: &'static str,
    /// How much of it is scraped off, in hundredths; 0: nothing.
    pub wear: u64,
    /// What it is worth.
    pub value: Amount,
}

/// What may be odd about a listing. None of these can, or should, be bought.
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
    /// It appears with a status that is not LISTED.
    NotListed,
    /// `canJoin` is false.
    CannotJoin,
    /// It is one's own.
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
    /// A plain offer, for tests: of a complete market name, at these prices, now.
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
            oddity: None,
        }
    }
}

/// `round((total − base) / base × 100, 2)`, as the marketplace computes it.
pub(super) fn markup_of(total: i64, base: i64) -> Percent {
    let exact = (total - base) * 20_000;
    let rounded = exact.checked_div(base).unwrap_or(0);
    Percent::from_hundredths((rounded + 1).div_euclid(2))
}

/// The floats of a wear, in hundredths: from and below.
pub(super) const fn hundredths_of(wear: Wear) -> (u64, u64) {
    match wear {
        Wear::FactoryNew => (0, 7),
        Wear::MinimalWear => (7, 15),
        Wear::FieldTested => (15, 38),
        Wear::WellWorn => (38, 45),
        Wear::BattleScarred => (45, 100),
    }
}

/// A float of so many of its units, as a decimal number.
pub(super) fn float_text(units: u64) -> String {
    let text = format!("0.{units:0FLOAT_DECIMALS$}");
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}
