//! The demo's whitelist, as a configuration file and as a table from which the simulator generates
//! matching listings. Pure.

use super::random::Rng;
use crate::domain::{item_name::Wear, money::Amount};

/// Contents of a `sniper.toml` for the simulated market.
pub const WHITELIST: &str = include_str!("demo.toml");

/// Name of the price file that [`with_prices`] refers to.
pub const PRICE_FILE: &str = "prices.csv";

/// Invented reference prices in the unit of the market, for the entries with a percent rule. Some
/// knives have none.
pub const PRICES: &str = "name,ask,bid,count
AK-47 | Slate (Minimal Wear),4.77,4.46,240
AK-47 | Slate (Field-Tested),4.69,4.43,610
★ Navaja Knife,101.54,95.38,35
★ Navaja Knife | Ultraviolet (Factory New),116.92,109.23,12
★ Navaja Knife | Ultraviolet (Minimal Wear),138.46,132.31,14
★ Navaja Knife | Ultraviolet (Field-Tested),101.54,93.85,40
★ Navaja Knife | Ultraviolet (Well-Worn),93.85,87.69,9
★ Navaja Knife | Ultraviolet (Battle-Scarred),86.15,80.00,21
★ Ursus Knife,232.31,224.62,18
★ Classic Knife,184.62,178.46,16
★ Karambit,1030.77,1000.00,22
★ Karambit | Doppler Phase 3 (Factory New),1084.62,1061.54,31
★ Butterfly Knife | Tiger Tooth (Factory New),1723.08,1661.54,27
";

/// Entry about any knife below a share of its reference.
const KNIVES: &str = "
[[whitelist]]
name = \"knives\"
item = \"*\"
category = \"knife\"
max_percent = 80
reference = \"example.bid\"
max_price = 400
max_quantity = 2
";

/// Keys of the entry with a percent rule. Every listing that is generated for the entry is below
/// its bound.
const PERCENT_RULE: &str = "\nmax_percent = 99\nreference = \"example.bid\"";

/// Section of the price source, without its unit.
const PRICE_SECTION: &str = "
[prices]
sell_on = \"example\"
sell_fee_percent = 5.00

[[prices.source]]
name = \"example\"
kind = \"file\"
path = \"prices.csv\"
";

/// Returns settings with [`WHITELIST`], with a percent rule for one entry, a further entry about
/// any knife, and the source of their prices in this unit.
pub fn with_prices(settings: &str, unit: &str) -> String {
    let entry = "name = \"slate\"";
    let settings = settings.replacen(entry, &format!("{entry}{PERCENT_RULE}"), 1);
    // Knives cost more than the items of the other entries.
    let settings = settings.replacen("max_price = 120.00", "max_price = 400.00", 1);
    format!("{settings}{KNIVES}{PRICE_SECTION}unit = \"{unit}\"\n")
}

/// Returns [`WHITELIST`] for a market whose listings have no markup.
pub fn without_markup() -> String {
    let lines = WHITELIST.lines().filter(|line| !line.starts_with("max_markup_percent"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// An entry of [`WHITELIST`], with the ranges from which matching listings are generated.
#[derive(Clone, Copy, Debug)]
pub struct DemoEntry {
    pub entry: &'static str,
    /// The part of the item's name before the bar.
    pub brand: &'static str,
    /// The part of the item's name after the bar.
    pub name: &'static str,
    /// `true` if the entry is about the StatTrak™ or Souvenir variant.
    pub variant: bool,
    /// Matching wears; empty for an item without wear.
    pub wears: &'static [Wear],
    /// Matching floats in hundredths, if the entry limits them.
    pub floats: Option<(u64, u64)>,
    /// Range of the base price, in hundredths of a coin.
    pub cents: (i64, i64),
    /// Maximum matching markup, in hundredths of a percent.
    pub markup_max: i64,
    /// Relative frequency of listings for this entry.
    weight: u64,
}

/// Maximum markup of all entries, in hundredths of a percent. Listings of the same items that must
/// not match have a higher one.
pub const MARKUP_MAX: i64 = 200;

const FT: &[Wear] = &[Wear::FieldTested];
const ALL: &[Wear] = &Wear::ALL;

/// The entries of [`WHITELIST`].
pub const WANTED: &[DemoEntry] = &[
    row("redline", ("AK-47", "Redline"), FT, (950, 1_240), 8).floats(15, 22),
    row("slate", ("AK-47", "Slate"), &[Wear::MinimalWear, Wear::FieldTested], (260, 430), 8)
        .markup(200),
    row("dragon king", ("M4A4", "龍王 (Dragon King)"), FT, (1_200, 1_750), 4).variant().markup(100),
    row("gut doppler", ("Gut Knife", "Doppler Phase 2"), &[Wear::FactoryNew], (9_600, 11_200), 1)
        .variant()
        .markup(200),
    row("vanilla navaja", ("Navaja Knife", ""), &[], (7_100, 7_990), 1),
    row("glove case", ("", "Glove Case"), &[], (790, 880), 8).markup(150),
    row("fbi sniper", ("Michael Syfers ", "FBI Sniper"), &[], (540, 650), 6).markup(200),
    row("holo", ("Sticker", "Battle Scarred (Holo)"), &[], (600, 699), 6),
    row("sand dune", ("P250", "Sand Dune"), ALL, (130, 190), 8).variant().markup(200),
];

const fn row(
    entry: &'static str,
    names: (&'static str, &'static str),
    wears: &'static [Wear],
    cents: (i64, i64),
    weight: u64,
) -> DemoEntry {
    let (brand, name) = names;
    DemoEntry {
        entry,
        brand,
        name,
        variant: false,
        wears,
        floats: None,
        cents,
        markup_max: 0,
        weight,
    }
}

impl DemoEntry {
    const fn floats(self, min: u64, max: u64) -> Self {
        Self { floats: Some((min, max)), ..self }
    }

    const fn markup(self, hundredths: i64) -> Self {
        Self { markup_max: hundredths, ..self }
    }

    const fn variant(self) -> Self {
        Self { variant: true, ..self }
    }

    /// Returns the highest price of a matching listing with its markup, in hundredths of a coin.
    const fn cents_max(&self) -> i64 {
        self.cents.1 * (10_000 + self.markup_max) / 10_000
    }
}

/// Chooses the entry for the next matching listing.
pub fn pick(rng: &mut Rng) -> Option<&'static DemoEntry> {
    let all: u64 = WANTED.iter().map(|wanted| wanted.weight).sum();
    let mut left = rng.u64(..all);
    WANTED.iter().find(|wanted| match left.checked_sub(wanted.weight) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    })
}

/// Returns a price above which no entry of [`WANTED`] matches an item of this name, in any wear. An
/// entry without a name counts for every item of its brand.
pub fn max_price(market_name: &str) -> Option<Amount> {
    let is_same = |wanted: &&DemoEntry| {
        market_name.contains(wanted.brand.trim_end()) && market_name.contains(wanted.name)
    };
    WANTED.iter().filter(is_same).map(DemoEntry::cents_max).max().map(Amount::from_cents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::money::Decimals, sim::items::ITEMS};

    #[test]
    fn the_table_agrees_with_the_whitelist_file() {
        let file: toml::Table = WHITELIST.parse().unwrap();
        let entries = file["whitelist"].as_array().unwrap();
        assert_eq!(entries.len(), WANTED.len());
        for (entry, wanted) in entries.iter().zip(WANTED) {
            assert_eq!(entry["name"].as_str(), Some(wanted.entry));
            let amount =
                |key: &str| Amount::parse(&entry[key].to_string(), Decimals::Two).unwrap().cents();
            assert!(wanted.cents_max() <= amount("max_price"), "{wanted:?}");
            assert_eq!(amount("max_markup_percent"), wanted.markup_max, "{wanted:?}");
            assert!(wanted.markup_max <= MARKUP_MAX);
        }
    }

    #[test]
    fn the_percent_rule_allows_every_listing_that_is_generated_for_its_entry() {
        let file: toml::Table = with_prices(WHITELIST, "coins").parse().unwrap();
        let entries = file["whitelist"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry.get("max_percent").is_some()).unwrap();
        let wanted =
            WANTED.iter().find(|wanted| Some(wanted.entry) == entry["name"].as_str()).unwrap();
        let dearest = wanted.cents_max();
        for line in PRICES.lines().filter(|line| line.contains("Slate")) {
            let bid: i64 = line.split(',').nth(2).unwrap().replace('.', "").parse().unwrap();
            assert!(dearest * 100 <= bid * 99, "{line}");
        }
        assert_eq!(file["prices"]["source"][0]["path"].as_str(), Some(PRICE_FILE));
        assert_eq!(file["budget"]["max_price"].as_float(), Some(400.0));
    }

    #[test]
    fn the_catalogue_has_every_wanted_item() {
        for wanted in WANTED {
            let matches = |item: &&crate::sim::items::CatalogueItem| {
                (item.brand, item.name) == (wanted.brand, wanted.name)
            };
            let item = ITEMS.iter().find(matches).unwrap();
            assert!(wanted.wears.iter().all(|wear| item.wears.contains(wear)), "{wanted:?}");
        }
    }

    #[test]
    fn every_entry_is_chosen() {
        let mut rng = Rng::with_seed(7);
        let seen: std::collections::BTreeSet<&str> =
            (0..2_000).filter_map(|_| pick(&mut rng)).map(|wanted| wanted.entry).collect();
        assert_eq!(seen.len(), WANTED.len());
    }
}
