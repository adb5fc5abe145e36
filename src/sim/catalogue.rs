//! What is listed: an endless sequence of offers that a seed decides entirely, with their contents,
//! their moments, and how soon a rival takes them. Pure.
//!
//! Prices, markups and shares follow what was measured on recorded listings: markups from 0 to
//! 47571 %, one of ten exactly 0, most near 12; totals from 1.02 to 17987.2 coins.

use std::time::Duration;

use super::{
    arrivals::{Arrivals, NextArrival},
    demo::{self, DemoEntry},
    dice::Dice,
    items::{CatalogueItem, ITEMS, ItemKind, Variants},
    offer::{
        FLOAT_HUNDREDTH, Float, ListedItem, ListingDefect, Sticker, float_text, hundredths_of,
        markup_of,
    },
    settings::SimSettings,
};
use crate::{
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
};

/// The lowest total that is listed, in hundredths of a coin.
const TOTAL_MIN: i64 = 102;
/// The highest.
const TOTAL_MAX: i64 = 1_798_720;
/// The sequence of offers of one market.
#[derive(Clone, Debug)]
pub struct Catalogue {
    arrivals: Arrivals,
    dice: Dice,
    wanted_permille: u32,
    odd_permille: u32,
    held_permille: u32,
    rivals: Option<super::settings::Rivals>,
}

impl Catalogue {
    /// The sequence that these settings decide.
    pub fn new(settings: &SimSettings) -> Self {
        Self {
            arrivals: Arrivals::new(settings.seed, settings.rate),
            dice: Dice::aside(settings.seed, 2),
            wanted_permille: settings.wanted_permille,
            odd_permille: settings.odd_permille,
            held_permille: settings.held_permille,
            rivals: settings.rivals,
        }
    }

    fn wanted(&mut self, wanted: &'static DemoEntry) -> Option<ListedItem> {
        let is_it = |item: &&CatalogueItem| (item.brand, item.name) == (wanted.brand, wanted.name);
        let item = ITEMS.iter().find(is_it)?;
        let dice = &mut self.dice;
        let wear = dice.pick(wanted.wears).copied();
        let base = dice.cents(wanted.cents.0, wanted.cents.1);
        let markup = if dice.permille(600) { 0 } else { dice.cents(0, wanted.markup_max) };
        let mut offer = offer(item, wear, wanted.variant, priced(base, markup));
        // Rounded to whole cents, a small markup may come out above what was aimed at.
        if offer.markup.hundredths() > wanted.markup_max {
            (offer.base, offer.total, offer.markup) = priced(base, 0);
        }
        offer.float = wear.map(|wear| {
            let (low, high) = wanted.floats.unwrap_or_else(|| hundredths_of(wear));
            Float { text: float_between(dice, low, high), only_range: None }
        });
        offer.wanted = Some(wanted.entry);
        Some(offer)
    }

    fn ordinary(&mut self) -> ListedItem {
        let dice = &mut self.dice;
        let mut draw = || dice.pick(ITEMS).copied();
        // Cheap things are listed more often than dear ones.
        let item = match (draw(), draw()) {
            (Some(one), Some(other)) if dice.permille(700) => {
                if one.cents <= other.cents {
                    one
                } else {
                    other
                }
            }
            (one, other) => one.or(other).unwrap_or(FALLBACK),
        };
        let wear = dice.pick(item.wears).copied();
        let variant = item.variants != Variants::None && dice.permille(180);
        let worth = worth(&item, wear, variant);
        let base = dice.cents(worth * 93 / 100, worth * 107 / 100).clamp(TOTAL_MIN, TOTAL_MAX);
        let is_wanted = |wanted: &DemoEntry| (wanted.brand, wanted.name) == (item.brand, item.name);
        let price = match markup(dice, demo::WANTED.iter().any(is_wanted)) {
            // The wildest markups stand on things that are worth next to nothing.
            markup if markup > 100_000 => priced(dice.cents(3, 30), markup),
            markup => priced(base, markup),
        };
        let price =
            if price.1.cents() > TOTAL_MAX { priced(TOTAL_MAX * 9 / 10, 1_000) } else { price };
        let price = if price.1.cents() < TOTAL_MIN { priced(TOTAL_MIN, 1_200) } else { price };
        let mut offer = offer(&item, wear, variant, price);
        offer.float = wear.map(|wear| float(dice, wear));
        offer
    }

    fn adorn(&mut self, mut offer: ListedItem, arrival: NextArrival) -> ListedItem {
        let dice = &mut self.dice;
        offer.arrival = arrival;
        let can_bear = offer.float.is_some() && !offer.market_name.starts_with('★');
        if can_bear && dice.permille(350) {
            let count = dice.between(1, 4);
            offer.stickers = (0..count).map(|_| sticker(dice)).collect();
        }
        offer.created_before = Duration::from_millis(dice.between(2, 430));
        offer.suspected_can_join_after = Duration::from_millis(dice.between(1_000, 2_000));
        if dice.permille(self.held_permille) {
            let most = if dice.permille(100) { 40_000 } else { 8_000 };
            offer.can_join_after = Some(Duration::from_millis(dice.between(1_500, most)));
        }
        if let Some(rivals) = self.rivals
            && dice.permille(rivals.share_permille)
        {
            offer.rival_after = Some(dice.wait_spread(rivals.delay_min, rivals.delay_max));
        }
        if offer.wanted.is_none() && dice.permille(self.odd_permille) {
            offer.oddity = dice.pick(&ListingDefect::ALL).copied();
        }
        offer
    }
}

impl Iterator for Catalogue {
    type Item = ListedItem;

    fn next(&mut self) -> Option<ListedItem> {
        let arrival = self.arrivals.next()?;
        let wanted = self.dice.permille(self.wanted_permille);
        let wanted = if wanted { demo::pick(&mut self.dice) } else { None };
        let offer = match wanted.and_then(|wanted| self.wanted(wanted)) {
            Some(offer) => offer,
            None => self.ordinary(),
        };
        Some(self.adorn(offer, arrival))
    }
}

/// Something to list if the table of items were empty.
const FALLBACK: CatalogueItem = CatalogueItem {
    kind: ItemKind::Plain,
    brand: "",
    name: "Clutch Case",
    rarity: "base",
    cents: 108,
    wears: &[],
    variants: Variants::None,
};

fn offer(
    item: &CatalogueItem,
    wear: Option<Wear>,
    variant: bool,
    price: (Amount, Amount, Percent),
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
    let (base, total, markup) = price;
    ListedItem {
        brand,
        name,
        color,
        rarity: item.rarity,
        markup,
        ..ListedItem::plain(&market_name, base, total)
    }
}

/// What an item is worth, in hundredths of a coin.
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

/// A markup, in hundredths of a percent. Whoever lists something that is wanted without meaning it
/// to be bought asks for more than any entry allows.
fn markup(dice: &mut Dice, above_all_entries: bool) -> i64 {
    if !above_all_entries && dice.permille(125) {
        return 0;
    }
    let floor = demo::MARKUP_MAX + 100;
    match dice.below(1_000) {
        0..=3 => dice.cents(100_001, 4_757_100),
        4..=20 => dice.cents(10_000, 60_000),
        21..=180 => dice.cents(1_500, 5_000),
        181..=300 => dice.cents(floor, 1_000),
        _ => dice.cents(1_000, 1_400) / 50 * 50,
    }
}

/// Base, total and the markup that truly lies between them.
fn priced(base: i64, markup: i64) -> (Amount, Amount, Percent) {
    let total = base + (base * markup + 5_000) / 10_000;
    (Amount::from_cents(base), Amount::from_cents(total), markup_of(total, base))
}

fn float(dice: &mut Dice, wear: Wear) -> Float {
    let (low, high) = hundredths_of(wear);
    let units = dice.between(low * FLOAT_HUNDREDTH, high * FLOAT_HUNDREDTH - 1);
    let at = units / FLOAT_HUNDREDTH;
    let range = (at.saturating_sub(1).max(low), (at + 2).min(high));
    let only_range = dice.permille(150).then_some(range);
    Float { text: float_text(units), only_range }
}

fn float_between(dice: &mut Dice, low: u64, high: u64) -> String {
    float_text(dice.between(low * FLOAT_HUNDREDTH, high * FLOAT_HUNDREDTH - 1))
}

fn sticker(dice: &mut Dice) -> Sticker {
    let name =
        dice.word(&["Example Five", "Nobody", "Team Void", "Loopback", "Ninth Place", "Crown"]);
    let event = dice.word(&["Katowice 2019", "Boston 2018", "2020 RMR", "Stockholm 2021"]);
    let scraped = dice.permille(400);
    Sticker {
        name: format!("{name} | {event}"),
        color: dice.word(&["Holo", "Foil", "Gold", "Paper", "Glitter"]),
        wear: if scraped { dice.between(1, 95) } else { 0 },
        value: Amount::from_cents(dice.cents(3, 900)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(count: usize, seed: u64) -> Vec<ListedItem> {
        Catalogue::new(&SimSettings { seed, ..SimSettings::default() }).take(count).collect()
    }

    #[test]
    fn the_same_seed_lists_the_same_things_at_the_same_moments_with_the_same_rivals() {
        assert_eq!(offers(2_000, 7), offers(2_000, 7));
        assert_ne!(offers(50, 7), offers(50, 8));
    }

    #[test]
    fn prices_and_markups_are_those_of_a_real_market() {
        let offers = offers(20_000, 7);
        for offer in &offers {
            let total = offer.total.cents();
            assert!((TOTAL_MIN..=TOTAL_MAX).contains(&total), "{offer:?}");
            assert!((0..=4_757_200).contains(&offer.markup.hundredths()), "{offer:?}");
            assert!(offer.markup.is_markup_of(offer.total, offer.base), "{offer:?}");
        }
        let share = |fits: fn(i64) -> bool| {
            offers.iter().filter(|offer| fits(offer.markup.hundredths())).count() * 100
                / offers.len()
        };
        assert!((9..=16).contains(&share(|markup| markup == 0)), "{}", share(|markup| markup == 0));
        assert!(share(|markup| (1_000..1_500).contains(&markup)) > 45);
        assert!(offers.iter().any(|offer| offer.markup.hundredths() > 1_000_000));
        assert!(offers.iter().any(|offer| offer.total.cents() > 1_000_000));
    }

    #[test]
    fn every_trap_of_the_names_is_set() {
        let offers = offers(20_000, 7);
        let has = |fits: &dyn Fn(&ListedItem) -> bool| assert!(offers.iter().any(fits));
        has(&|offer| offer.market_name.starts_with("★ StatTrak™ ") && offer.color.is_some());
        has(&|offer| offer.market_name == "★ Ursus Knife" && offer.name.is_empty());
        has(&|offer| offer.market_name == "★ StatTrak™ Ursus Knife");
        has(&|offer| offer.market_name.starts_with("StatTrak™ "));
        has(&|offer| offer.market_name.starts_with("Souvenir P250"));
        has(&|offer| offer.market_name.ends_with("Souvenir Package") && offer.float.is_none());
        has(&|offer| offer.market_name == "Michael Syfers  | FBI Sniper");
        has(&|offer| {
            offer.market_name == "Sticker | Crown (Foil)" && offer.color.as_deref() == Some("Foil")
        });
        has(&|offer| offer.market_name == "M4A4 | 龍王 (Dragon King) (Factory New)");
        has(&|offer| offer.market_name == "★ Karambit | Doppler Phase 3 (Factory New)");
        has(&|offer| offer.market_name == "★ Karambit | Sapphire (Factory New)");
        has(&|offer| !offer.stickers.is_empty());
        has(&|offer| offer.float.as_ref().is_some_and(|float| float.only_range.is_some()));
        for oddity in ListingDefect::ALL {
            has(&|offer| offer.oddity == Some(oddity));
        }
    }

    #[test]
    fn a_float_lies_within_its_wear() {
        for offer in offers(5_000, 7) {
            let (Some(float), Some(color)) = (&offer.float, &offer.color) else { continue };
            let (low, high) = hundredths_of(Wear::from_market(color).unwrap());
            let wear = |text: &str| crate::domain::trade::PaintWear::parse(text).unwrap();
            let bound =
                |hundredths: u64| wear(&format!("{}.{:02}", hundredths / 100, hundredths % 100));
            assert!(
                bound(low) <= wear(&float.text) && wear(&float.text) < bound(high),
                "{offer:?}"
            );
        }
    }

    #[test]
    fn about_as_many_fit_the_whitelist_as_were_asked_for_and_nothing_else_does() {
        let offers = offers(20_000, 7);
        let wanted = offers.iter().filter(|offer| offer.wanted.is_some()).count();
        assert!((900..1_100).contains(&wanted), "{wanted}");
        for offer in offers.iter().filter(|offer| offer.wanted.is_none()) {
            let sold = |wanted: &&DemoEntry| {
                offer.brand.ends_with(wanted.brand)
                    && crate::domain::item_name::ItemName::parse(&offer.market_name)
                        .base
                        .ends_with(wanted.name)
                    && !wanted.name.is_empty()
            };
            if demo::WANTED.iter().any(|wanted| sold(&wanted)) && offer.brand.len() > 3 {
                assert!(offer.markup.hundredths() > demo::MARKUP_MAX, "{offer:?}");
            }
        }
    }
}
