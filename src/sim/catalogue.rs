//! Generates listings from a seed: their items, arrival times, defects and rival buyers. Pure.
//!
//! Arrivals are a Poisson process of sellers. Most list one item, some list a whole inventory in
//! bursts.
//!
//! The distribution of prices and markups is that of recorded listings: markups from 0 to 47571 %,
//! one of ten exactly 0 and most near 12 %; totals from 1.02 to 17987.2 coins.

use std::{sync::Arc, time::Duration};

use super::{
    demo::{self, DemoEntry},
    items::{CatalogueItem, ITEMS, ItemKind, Variants},
    practice::{self, PracticeItem},
    random::{self, Rng, RngExt as _},
    settings::{Rate, Rivals, SimSettings},
};
use crate::domain::{
    item_name::{ItemName, Wear},
    money::{Amount, Percent},
};

/// One in this many sellers lists an inventory.
const INVENTORY_EVERY: u64 = 30;
/// Minimum and maximum number of items in an inventory.
const INVENTORY_ITEMS: (u64, u64) = (6, 40);
/// Mean number of listings of [`INVENTORY_EVERY`] sellers: 29 single items and an inventory of 23.
const LISTINGS_PER_CYCLE: u32 = 29 + 23;
/// Minimum and maximum number of items of an inventory that appear at the same time.
const BURST_ITEMS: (u64, u64) = (1, 8);
/// Minimum and maximum pause between two bursts of an inventory, in hundredths of the mean time
/// between sellers.
const BURST_PAUSE: (u64, u64) = (1, 40);
/// Upper bound of a hundredth of that mean, so that an inventory appears within 1.6 s.
const PAUSE_UNIT_MAX: Duration = Duration::from_millis(1);

/// Minimum total, in hundredths of a coin.
const TOTAL_MIN: i64 = 102;
/// Maximum total, in hundredths of a coin.
const TOTAL_MAX: i64 = 1_798_720;

/// Time from the creation of a listing to its expiry.
pub const OPEN_FOR: Duration = Duration::from_secs(48 * 3_600);
/// Decimals of a float: its unit is 10⁻¹⁶.
const FLOAT_DECIMALS: usize = 16;
/// Float units per hundredth.
const FLOAT_HUNDREDTH: u64 = 100_000_000_000_000;

/// Arrival of one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextArrival {
    /// Time since the market opened.
    pub at: Duration,
    /// Number of the group of listings that appear together, from 1.
    pub group: u64,
}

/// Infinite iterator over the arrivals of a seed.
#[derive(Clone, Debug)]
pub struct Arrivals {
    rng: Rng,
    mean_between_sellers: Option<Duration>,
    seller_at: Duration,
    last: NextArrival,
    left_of_inventory: u64,
    left_of_group: u64,
}

impl Arrivals {
    /// Creates the arrivals of a seed with an average rate.
    pub fn new(seed: u64, rate: Rate) -> Self {
        let mean = rate.mean_between(LISTINGS_PER_CYCLE);
        let sellers = u32::try_from(INVENTORY_EVERY).unwrap_or(1);
        Self {
            rng: random::stream(seed, 1),
            mean_between_sellers: mean.and_then(|mean| mean.checked_div(sellers)),
            seller_at: Duration::ZERO,
            last: NextArrival { at: Duration::ZERO, group: 0 },
            left_of_inventory: 0,
            left_of_group: 0,
        }
    }

    fn next_of_inventory(&mut self, mean: Duration) -> NextArrival {
        if self.left_of_group == 0 {
            let pauses = u32::try_from(self.rng.u64(BURST_PAUSE.0..=BURST_PAUSE.1)).unwrap_or(1);
            let unit = mean.checked_div(100).unwrap_or_default().min(PAUSE_UNIT_MAX);
            self.last.at = self.last.at.saturating_add(unit.saturating_mul(pauses));
            self.last.group = self.last.group.saturating_add(1);
            self.left_of_group = self.rng.u64(BURST_ITEMS.0..=BURST_ITEMS.1);
        }
        self.left_of_group = self.left_of_group.saturating_sub(1);
        self.left_of_inventory = self.left_of_inventory.saturating_sub(1);
        self.last
    }
}

impl Iterator for Arrivals {
    type Item = NextArrival;

    fn next(&mut self) -> Option<NextArrival> {
        let mean = self.mean_between_sellers?;
        if self.left_of_inventory > 0 {
            return Some(self.next_of_inventory(mean));
        }
        self.seller_at = self.seller_at.saturating_add(self.rng.exponential_duration(mean));
        self.last.at = self.last.at.max(self.seller_at);
        self.last.group = self.last.group.saturating_add(1);
        if self.rng.u64(..INVENTORY_EVERY) == 0 {
            let items = self.rng.u64(INVENTORY_ITEMS.0..=INVENTORY_ITEMS.1);
            self.left_of_inventory = items.saturating_sub(1);
            self.left_of_group = self.rng.u64(BURST_ITEMS.0..=BURST_ITEMS.1).saturating_sub(1);
        }
        Some(self.last)
    }
}

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
    /// Time from when it can be joined until a rival buys it, if one does.
    pub rival_after: Option<Duration>,
    /// Name of the demo whitelist entry for which it was generated; `practice` in a practice run.
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
    const ALL: [Self; 7] = [
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
const fn hundredths_of(wear: Wear) -> (u64, u64) {
    match wear {
        Wear::FactoryNew => (0, 7),
        Wear::MinimalWear => (7, 15),
        Wear::FieldTested => (15, 38),
        Wear::WellWorn => (38, 45),
        Wear::BattleScarred => (45, 100),
    }
}

/// Formats a float given in units as a decimal number, with the digits that a JSON number of 64
/// bits can keep.
pub(super) fn float_text(units: u64) -> String {
    let text = format!("0.{units:0FLOAT_DECIMALS$}");
    text.parse::<f64>().map_or(text, |float| float.to_string())
}

/// Infinite iterator over the listings of a market.
#[derive(Clone, Debug)]
pub struct Catalogue {
    arrivals: Arrivals,
    rng: Rng,
    wanted_permille: u32,
    practice: Option<Arc<[PracticeItem]>>,
    defect_permille: u32,
    held_permille: u32,
    rivals: Option<Rivals>,
}

impl Catalogue {
    pub fn new(settings: &SimSettings) -> Self {
        Self {
            arrivals: Arrivals::new(settings.seed, settings.rate),
            rng: random::stream(settings.seed, 2),
            wanted_permille: settings.wanted_permille,
            practice: settings.practice.clone(),
            defect_permille: settings.defect_permille,
            held_permille: settings.held_permille,
            rivals: settings.rivals,
        }
    }

    /// Generates a listing for the demo's whitelist, if it is time for one.
    fn of_demo(&mut self) -> Option<ListedItem> {
        let is_due = self.rng.chance_permille(self.wanted_permille);
        let wanted = if is_due { demo::pick(&mut self.rng) } else { None };
        self.wanted(wanted?)
    }

    /// Generates a listing about the whitelist of a practice run, if it is time for one.
    fn practice(&mut self, items: &[PracticeItem]) -> Option<ListedItem> {
        let is_due = self.rng.chance_permille(practice::PERMILLE);
        let item = if is_due { self.rng.choice(items) } else { None };
        Some(item?.listed(&mut self.rng))
    }

    /// Generates a listing that matches an entry of the demo's whitelist.
    fn wanted(&mut self, wanted: &'static DemoEntry) -> Option<ListedItem> {
        let is_wanted =
            |item: &&CatalogueItem| (item.brand, item.name) == (wanted.brand, wanted.name);
        let item = ITEMS.iter().find(is_wanted)?;
        let rng = &mut self.rng;
        let wear = rng.choice(wanted.wears).copied();
        let base = rng.i64(wanted.cents.0..=wanted.cents.1);
        let markup = if rng.chance_permille(600) { 0 } else { rng.i64(0..=wanted.markup_max) };
        let mut listed = listed_item(item, wear, wanted.variant, ItemPrice::new(base, markup));
        // Rounding to whole cents can raise a small markup above the maximum.
        if listed.markup.hundredths() > wanted.markup_max {
            let ItemPrice { base, total, markup } = ItemPrice::new(base, 0);
            (listed.base, listed.total, listed.markup) = (base, total, markup);
        }
        listed.float = wear.map(|wear| {
            let (low, high) = wanted.floats.unwrap_or_else(|| hundredths_of(wear));
            Float { text: float_between(rng, low, high), only_range: None }
        });
        listed.wanted = Some(wanted.entry);
        Some(listed)
    }

    /// Generates a listing that does not match the demo's whitelist.
    fn ordinary(&mut self) -> ListedItem {
        let rng = &mut self.rng;
        let [first, ..] = &ITEMS;
        let mut draw = || *rng.choice(&ITEMS).unwrap_or(first);
        // Cheap items are listed more often than expensive ones.
        let (one, other) = (draw(), draw());
        let is_cheaper = rng.chance_permille(700) && other.cents < one.cents;
        let item = if is_cheaper { other } else { one };
        let wear = rng.choice(item.wears).copied();
        let variant = item.variants != Variants::None && rng.chance_permille(180);
        let worth = worth(&item, wear, variant);
        let base = rng.i64(worth * 93 / 100..=worth * 107 / 100).clamp(TOTAL_MIN, TOTAL_MAX);
        let is_wanted = |wanted: &DemoEntry| (wanted.brand, wanted.name) == (item.brand, item.name);
        let price = match markup(rng, demo::WANTED.iter().any(is_wanted)) {
            // Extreme markups occur on items that are almost worthless.
            markup if markup > 100_000 => ItemPrice::new(rng.i64(3..=30), markup),
            markup => ItemPrice::new(base, markup),
        };
        let price = if price.total.cents() > TOTAL_MAX {
            ItemPrice::new(TOTAL_MAX * 9 / 10, 1_000)
        } else {
            price
        };
        let price =
            if price.total.cents() < TOTAL_MIN { ItemPrice::new(TOTAL_MIN, 1_200) } else { price };
        let mut listed = listed_item(&item, wear, variant, price);
        listed.float = wear.map(|wear| float(rng, wear));
        listed
    }

    /// Adds the stickers, the timing, the rival and the defect.
    fn finish(&mut self, mut listed: ListedItem, arrival: NextArrival) -> ListedItem {
        let rng = &mut self.rng;
        listed.arrival = arrival;
        let can_have_stickers = listed.float.is_some() && !listed.market_name.starts_with('★');
        if can_have_stickers && rng.chance_permille(350) {
            let count = rng.u64(1..=4);
            listed.stickers = (0..count).map(|_| sticker(rng)).collect();
        }
        listed.created_before = Duration::from_millis(rng.u64(2..=430));
        listed.suspected_can_join_after = Duration::from_millis(rng.u64(1_000..=2_000));
        if rng.chance_permille(self.held_permille) {
            let max = if rng.chance_permille(100) { 40_000 } else { 8_000 };
            listed.can_join_after = Some(Duration::from_millis(rng.u64(1_500..=max)));
        }
        if let Some(rivals) = self.rivals
            && rng.chance_permille(rivals.share_permille)
        {
            listed.rival_after = Some(rng.log_uniform_duration(rivals.delay_min, rivals.delay_max));
        }
        if listed.wanted.is_none() && rng.chance_permille(self.defect_permille) {
            listed.defect = rng.choice(&ListingDefect::ALL).copied();
        }
        listed
    }
}

impl Iterator for Catalogue {
    type Item = ListedItem;

    fn next(&mut self) -> Option<ListedItem> {
        let arrival = self.arrivals.next()?;
        let listed = match self.practice.clone() {
            Some(items) => self.practice(&items),
            None => self.of_demo(),
        };
        let listed = listed.unwrap_or_else(|| self.ordinary());
        Some(self.finish(listed, arrival))
    }
}

fn listed_item(
    item: &CatalogueItem,
    wear: Option<Wear>,
    variant: bool,
    price: ItemPrice,
) -> ListedItem {
    let prefix = match (variant, item.variants) {
        (true, Variants::StatTrak) => "StatTrak™ ",
        (true, Variants::Souvenir) => "Souvenir ",
        _ => "",
    };
    let star = if matches!(item.kind, ItemKind::Knife | ItemKind::Vanilla | ItemKind::Gloves) {
        "★ "
    } else {
        ""
    };
    let brand = format!("{star}{prefix}{}", item.brand);
    let mut market_name = match (item.brand, item.name) {
        ("", name) => name.to_owned(),
        (_, "") => brand.clone(),
        (_, name) => format!("{brand} | {name}"),
    };
    let (mut name, mut color) = (item.name.to_owned(), None);
    if let Some(wear) = wear {
        market_name = format!("{market_name} ({})", wear.as_str());
        color = Some(wear.as_str().to_owned());
    } else if item.kind == ItemKind::Sticker
        && let Some((before, rest)) = item.name.split_once(" (")
        && let Some((finish, after)) = rest.split_once(')')
    {
        color = Some(finish.to_owned());
        name = format!("{before}{after}");
    }
    let ItemPrice { base, total, markup } = price;
    ListedItem {
        brand,
        name,
        color,
        rarity: item.rarity,
        markup,
        ..ListedItem::plain(&market_name, base, total)
    }
}

/// Returns the typical price of an item, in hundredths of a coin.
fn worth(item: &CatalogueItem, wear: Option<Wear>, variant: bool) -> i64 {
    let knife = matches!(item.kind, ItemKind::Knife | ItemKind::Gloves);
    let percent = match wear {
        Some(Wear::FactoryNew) if knife => 115,
        Some(Wear::FactoryNew) => 220,
        Some(Wear::MinimalWear) => 140,
        Some(Wear::FieldTested) | None => 100,
        Some(Wear::WellWorn) => 93,
        Some(Wear::BattleScarred) => 86,
    };
    let variant = if variant { 170 } else { 100 };
    (item.cents * percent / 100 * variant / 100).min(TOTAL_MAX)
}

/// Returns a random markup in hundredths of a percent; with `above_all_entries`, more than any
/// entry of the demo's whitelist allows.
fn markup(rng: &mut Rng, above_all_entries: bool) -> i64 {
    if !above_all_entries && rng.chance_permille(125) {
        return 0;
    }
    let floor = demo::MARKUP_MAX + 100;
    match rng.u64(..1_000) {
        0..=3 => rng.i64(100_001..=4_757_100),
        4..=20 => rng.i64(10_000..=60_000),
        21..=180 => rng.i64(1_500..=5_000),
        181..=300 => rng.i64(floor..=1_000),
        _ => rng.i64(1_000..=1_400) / 50 * 50,
    }
}

/// Prices of a listing before and with its markup.
struct ItemPrice {
    base: Amount,
    total: Amount,
    /// Markup of the rounded total.
    markup: Percent,
}

impl ItemPrice {
    /// Creates a price of this many cents with a markup in hundredths of a percent.
    fn new(base: i64, markup: i64) -> Self {
        let total = base + (base * markup + 5_000) / 10_000;
        let markup = markup_of(total, base);
        Self { base: Amount::from_cents(base), total: Amount::from_cents(total), markup }
    }
}

fn float(rng: &mut Rng, wear: Wear) -> Float {
    let (low, high) = hundredths_of(wear);
    let units = rng.u64(low * FLOAT_HUNDREDTH..=high * FLOAT_HUNDREDTH - 1);
    let at = units / FLOAT_HUNDREDTH;
    let range = (at.saturating_sub(1).max(low), (at + 2).min(high));
    let only_range = rng.chance_permille(150).then_some(range);
    Float { text: float_text(units), only_range }
}

fn float_between(rng: &mut Rng, low: u64, high: u64) -> String {
    float_text(rng.u64(low * FLOAT_HUNDREDTH..=high * FLOAT_HUNDREDTH - 1))
}

fn sticker(rng: &mut Rng) -> Sticker {
    let name = rng
        .choice(["Example Five", "Nobody", "Team Void", "Loopback", "Ninth Place", "Crown"])
        .unwrap_or_default();
    let event = rng
        .choice(["Katowice 2019", "Boston 2018", "2020 RMR", "Stockholm 2021"])
        .unwrap_or_default();
    let scraped = rng.chance_permille(400);
    Sticker {
        name: format!("{name} | {event}"),
        color: rng.choice(["Holo", "Foil", "Gold", "Paper", "Glitter"]).unwrap_or_default(),
        wear: if scraped { rng.u64(1..=95) } else { 0 },
        value: Amount::from_cents(rng.i64(3..=900)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(count: usize, seed: u64) -> Vec<ListedItem> {
        Catalogue::new(&SimSettings { seed, ..SimSettings::default() }).take(count).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_listings_arrivals_and_rivals() {
        assert_eq!(generate(2_000, 7), generate(2_000, 7));
        assert_ne!(generate(50, 7), generate(50, 8));
    }

    #[test]
    fn prices_and_markups_are_distributed_like_recorded_ones() {
        let listed_items = generate(20_000, 7);
        for listed in &listed_items {
            let total = listed.total.cents();
            assert!((TOTAL_MIN..=TOTAL_MAX).contains(&total), "{listed:?}");
            assert!((0..=4_757_200).contains(&listed.markup.hundredths()), "{listed:?}");
            assert!(listed.markup.is_markup_of(listed.total, listed.base), "{listed:?}");
        }
        let share = |fits: fn(i64) -> bool| {
            listed_items.iter().filter(|listed| fits(listed.markup.hundredths())).count() * 100
                / listed_items.len()
        };
        assert!((9..=16).contains(&share(|markup| markup == 0)), "{}", share(|markup| markup == 0));
        assert!(share(|markup| (1_000..1_500).contains(&markup)) > 45);
        assert!(listed_items.iter().any(|listed| listed.markup.hundredths() > 1_000_000));
        assert!(listed_items.iter().any(|listed| listed.total.cents() > 1_000_000));
    }

    #[test]
    fn every_difficult_kind_of_name_occurs() {
        let listed_items = generate(20_000, 7);
        let has = |fits: &dyn Fn(&ListedItem) -> bool| assert!(listed_items.iter().any(fits));
        has(&|listed| listed.market_name.starts_with("★ StatTrak™ ") && listed.color.is_some());
        has(&|listed| listed.market_name == "★ Ursus Knife" && listed.name.is_empty());
        has(&|listed| listed.market_name == "★ StatTrak™ Ursus Knife");
        has(&|listed| listed.market_name.starts_with("StatTrak™ "));
        has(&|listed| listed.market_name.starts_with("Souvenir P250"));
        has(&|listed| listed.market_name.ends_with("Souvenir Package") && listed.float.is_none());
        has(&|listed| listed.market_name == "Michael Syfers  | FBI Sniper");
        has(&|listed| {
            listed.market_name == "Sticker | Crown (Foil)"
                && listed.color.as_deref() == Some("Foil")
        });
        has(&|listed| listed.market_name == "M4A4 | 龍王 (Dragon King) (Factory New)");
        has(&|listed| listed.market_name == "★ Karambit | Doppler Phase 3 (Factory New)");
        has(&|listed| listed.market_name == "★ Karambit | Sapphire (Factory New)");
        has(&|listed| !listed.stickers.is_empty());
        has(&|listed| listed.float.as_ref().is_some_and(|float| float.only_range.is_some()));
        for defect in ListingDefect::ALL {
            has(&|listed| listed.defect == Some(defect));
        }
    }

    #[test]
    fn each_float_is_within_the_range_of_its_wear() {
        for listed in generate(5_000, 7) {
            let (Some(float), Some(color)) = (&listed.float, &listed.color) else { continue };
            let (low, high) = hundredths_of(Wear::from_market(color).unwrap());
            let wear = |text: &str| crate::domain::trade::PaintWear::parse(text).unwrap();
            let bound =
                |hundredths: u64| wear(&format!("{}.{:02}", hundredths / 100, hundredths % 100));
            assert!(
                bound(low) <= wear(&float.text) && wear(&float.text) < bound(high),
                "{listed:?}"
            );
        }
    }

    #[test]
    fn the_share_of_wanted_listings_is_kept_and_no_other_listing_matches() {
        let listed_items = generate(20_000, 7);
        let wanted = listed_items.iter().filter(|listed| listed.wanted.is_some()).count();
        assert!((900..1_100).contains(&wanted), "{wanted}");
        for listed in listed_items.iter().filter(|listed| listed.wanted.is_none()) {
            let is_same_item = |wanted: &&DemoEntry| {
                listed.brand.ends_with(wanted.brand)
                    && ItemName::parse(&listed.market_name).base.ends_with(wanted.name)
                    && !wanted.name.is_empty()
            };
            if demo::WANTED.iter().any(|wanted| is_same_item(&wanted)) && listed.brand.len() > 3 {
                assert!(listed.markup.hundredths() > demo::MARKUP_MAX, "{listed:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let times = |seed| Arrivals::new(seed, Rate::per_second(20)).take(500).collect::<Vec<_>>();
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }

    #[test]
    fn the_average_rate_is_the_given_one() {
        for rate in [1, 20, 5_000] {
            let last = Arrivals::new(7, Rate::per_second(rate)).nth(49_999).unwrap();
            let seconds = last.at.as_millis() * u128::from(rate) / 50_000;
            assert!((900..1_100).contains(&seconds), "{rate}: {seconds}");
        }
    }

    #[test]
    fn arrivals_are_ordered_and_include_bursts() {
        let arrivals: Vec<NextArrival> =
            Arrivals::new(7, Rate::per_second(20)).take(5_000).collect();
        assert!(arrivals.is_sorted_by_key(|arrival| (arrival.at, arrival.group)));
        let bursts =
            arrivals.windows(10).filter(|ten| ten[9].at - ten[0].at < Duration::from_millis(100));
        assert!(bursts.count() > 50, "bursts");
        let groups: std::collections::BTreeSet<u64> =
            arrivals.iter().map(|one| one.group).collect();
        assert!(groups.len() < 4_500, "groups");
    }

    #[test]
    fn a_rate_of_zero_has_no_arrivals() {
        assert_eq!(Arrivals::new(7, Rate::NONE).next(), None);
    }
}
