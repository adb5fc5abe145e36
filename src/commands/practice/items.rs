//! The items of a practice run: those that the whitelist is about, each with the greatest price
//! that its entry pays. Pure.

use crate::{
    config::Config,
    domain::{
        item_filter::ItemCategory,
        item_name::{ItemName, Wear},
        money::Amount,
        time::UnixMs,
        trade::{PaintWear, RarityWord},
        whitelist_entry::{ItemPattern, WearSet, WhitelistEntry},
    },
    prices::{PriceBook, max_prices::wanted_items},
    sim::{
        items::{CatalogueItem, ITEMS, ItemKind, Variants},
        practice::PracticeItem,
    },
};

/// Maximum number of entries with listings. A longer whitelist is sampled evenly.
const ENTRIES_MAX: usize = 1_000;

/// Ends of the names of knives and gloves, which have a star.
const STAR_SUFFIXES: [&str; 6] = ["Knife", "Karambit", "Bayonet", "Daggers", "Gloves", "Wraps"];

/// Rarity of items that the simulated market does not know.
const DEFAULT_RARITY: &str = "classified";

/// Returns items for at most [`ENTRIES_MAX`] entries. The entry, the budget and the reference
/// prices limit their prices.
pub(super) fn practice_items(config: &Config, book: &PriceBook, now: UnixMs) -> Vec<PracticeItem> {
    let entries = &config.whitelist;
    let step = entries.len().div_ceil(ENTRIES_MAX).max(1);
    let context = Context { max_price: config.budget.max_price, book, now };
    entries.iter().step_by(step).flat_map(|entry| context.items_of(entry)).collect()
}

/// Item regardless of variant and wear.
struct BaseItem {
    /// Name without star, variant and wear.
    name: String,
    is_star: bool,
    has_wear: bool,
    rarity: &'static str,
}

struct Context<'a> {
    max_price: Amount,
    book: &'a PriceBook,
    now: UnixMs,
}

impl Context<'_> {
    fn items_of(&self, entry: &WhitelistEntry) -> Vec<PracticeItem> {
        let bases: Vec<BaseItem> = match &entry.item {
            ItemPattern::Named(base) => vec![from_entry_name(base, entry)],
            ItemPattern::Any => {
                ITEMS.iter().filter_map(|item| from_catalogue(item, entry)).collect()
            }
        };
        let worn = Wear::ALL.into_iter().filter(|wear| entry.wears.accepts(Some(*wear)));
        let without_wear = (entry.wears == WearSet::ANY).then_some(None);
        worn.map(Some)
            .chain(without_wear)
            .flat_map(|wear| self.items_in(entry, &bases, wear))
            .collect()
    }

    /// Returns the items in this wear; `None` stands for items without a wear.
    fn items_in(
        &self,
        entry: &WhitelistEntry,
        bases: &[BaseItem],
        wear: Option<Wear>,
    ) -> Vec<PracticeItem> {
        let floats = wear.and_then(|wear| float_range(entry, wear));
        let needs_float = wear.is_some() || entry.float_min.is_some() || entry.float_max.is_some();
        if needs_float && floats.is_none() {
            return Vec::new();
        }
        // With a percent rule, the maximum price differs by wear.
        let wanted = entry.percent.is_some().then(|| {
            let wears = wear.map_or(entry.wears, |wear| WearSet::ANY.with(wear));
            wanted_items(&[WhitelistEntry { wears, ..entry.clone() }], self.book, self.now)
        });
        let item = |base: &BaseItem| {
            let market_name = market_name(base, entry, wear);
            let max_price = match &wanted {
                Some(wanted) => wanted.max_price(&market_name)?,
                None => entry.max_price,
            };
            let max_price = max_price.min(self.max_price);
            let is_possible = Amount::ZERO < max_price && entry.min_price <= max_price;
            is_possible.then_some(PracticeItem {
                market_name,
                rarity: base.rarity,
                min_price: entry.min_price,
                max_price,
                floats,
                max_markup: entry.max_markup,
            })
        };
        let fitting = bases.iter().filter(|base| base.has_wear == wear.is_some());
        fitting.filter_map(item).collect()
    }
}

/// Returns the least and the greatest float of a wear that the entry accepts; `None` if it accepts
/// none.
fn float_range(entry: &WhitelistEntry, wear: Wear) -> Option<(PaintWear, PaintWear)> {
    let (low, high) = wear.float_hundredths();
    let (low, high) = (PaintWear::from_hundredths(low), PaintWear::from_hundredths(high).before());
    let low = entry.float_min.map_or(low, |min| min.max(low));
    let high = entry.float_max.map_or(high, |max| max.min(high));
    (low <= high).then_some((low, high))
}

/// Describes the item of an entry: as the simulated market knows it, or as its name shows.
fn from_entry_name(name: &str, entry: &WhitelistEntry) -> BaseItem {
    let known = ITEMS.iter().find(|item| ItemName::parse(&name_of(item)).base == *name);
    let first = name.split(" | ").next().unwrap_or(name);
    let is_star = match known {
        Some(item) => is_star(item),
        None => STAR_SUFFIXES.iter().any(|end| first.ends_with(end)),
    };
    let is_worn = match known {
        Some(item) => !item.wears.is_empty(),
        None => name.contains(" | ") && has_wear(ItemCategory::of(name, is_star)),
    };
    let is_bounded =
        entry.wears != WearSet::ANY || entry.float_min.is_some() || entry.float_max.is_some();
    BaseItem {
        name: name.to_owned(),
        is_star,
        has_wear: is_worn || is_bounded,
        rarity: rarity(entry, known),
    }
}

/// Describes an item of the simulated market if an entry for every item accepts it.
fn from_catalogue(item: &CatalogueItem, entry: &WhitelistEntry) -> Option<BaseItem> {
    let has_variant = variant(entry).is_none_or(|variant| item.variants == variant);
    let (name, is_star) = (ItemName::parse(&name_of(item)).base.into_owned(), is_star(item));
    let filter = entry.filter.as_deref();
    let is_accepted = filter.is_none_or(|filter| {
        let is_rarity = |rarity: &RarityWord| Some(*rarity) == RarityWord::new(item.rarity);
        filter.may_accept(&name, is_star)
            && (filter.rarities.is_empty() || filter.rarities.iter().any(is_rarity))
    });
    let has_wear = !item.wears.is_empty();
    (has_variant && is_accepted).then_some(BaseItem {
        name,
        is_star,
        has_wear,
        rarity: item.rarity,
    })
}

/// Returns the variant that the entry names; `None` stands for no variant.
fn variant(entry: &WhitelistEntry) -> Option<Variants> {
    match (entry.stattrak, entry.souvenir) {
        (true, _) => Some(Variants::StatTrak),
        (false, true) => Some(Variants::Souvenir),
        (false, false) => None,
    }
}

/// Returns the rarity of the item if the entry accepts it, otherwise one that it accepts.
fn rarity(entry: &WhitelistEntry, known: Option<&CatalogueItem>) -> &'static str {
    let wanted = entry.filter.as_deref().map(|filter| filter.rarities.as_slice());
    let own = known.map_or(DEFAULT_RARITY, |item| item.rarity);
    let is_wanted = |word: &str| {
        wanted.is_none_or(|wanted| {
            wanted.is_empty() || RarityWord::new(word).is_some_and(|word| wanted.contains(&word))
        })
    };
    let all = std::iter::once(own).chain(ITEMS.iter().map(|item| item.rarity));
    all.into_iter().find(|word| is_wanted(word)).unwrap_or(own)
}

const fn has_wear(category: ItemCategory) -> bool {
    matches!(
        category,
        ItemCategory::Knife
            | ItemCategory::Gloves
            | ItemCategory::Pistol
            | ItemCategory::Rifle
            | ItemCategory::Smg
            | ItemCategory::Heavy
    )
}

const fn is_star(item: &CatalogueItem) -> bool {
    matches!(item.kind, ItemKind::Knife | ItemKind::Vanilla | ItemKind::Gloves)
}

/// Returns the name of an item of the simulated market, without variant and wear.
fn name_of(item: &CatalogueItem) -> String {
    match (item.brand, item.name) {
        ("", name) => name.to_owned(),
        (brand, "") => brand.to_owned(),
        (brand, name) => format!("{brand} | {name}"),
    }
}

fn market_name(base: &BaseItem, entry: &WhitelistEntry, wear: Option<Wear>) -> String {
    let (is_stattrak, is_souvenir) = (entry.stattrak, entry.souvenir && !entry.stattrak);
    let (base, is_star) = (base.name.as_str().into(), base.is_star);
    ItemName { base, is_star, is_stattrak, is_souvenir, wear }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Endpoints,
        domain::item_filter::{CategorySet, ItemFilter},
        whitelist::tests::entry,
    };

    fn items(entries: Vec<WhitelistEntry>) -> Vec<PracticeItem> {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/").unwrap();
        let config = Config { whitelist: entries.into(), ..Config::new(endpoints, "data") };
        practice_items(&config, &PriceBook::default(), UnixMs(0))
    }

    fn names(entries: Vec<WhitelistEntry>) -> Vec<String> {
        items(entries).into_iter().map(|item| item.market_name).collect()
    }

    fn any_wear(item: &str) -> WhitelistEntry {
        let item = ItemPattern::Named(item.to_owned());
        WhitelistEntry { item, wears: WearSet::ANY, float_min: None, float_max: None, ..entry() }
    }

    #[test]
    fn each_item_has_the_prefixes_and_wears_that_its_entry_is_about() {
        assert_eq!(names(vec![any_wear("Glove Case")]), ["Glove Case"]);
        assert_eq!(names(vec![any_wear("Kukri Knife")]), ["★ Kukri Knife"]);
        assert_eq!(names(vec![any_wear("Sticker | Unknown (Holo)")]), ["Sticker | Unknown (Holo)"]);
        assert_eq!(names(vec![any_wear("AWP | Asiimov")]).len(), 5);
        let wears = WearSet::ANY.with(Wear::FieldTested);
        let stattrak = WhitelistEntry { stattrak: true, wears, ..any_wear("Kukri Knife | Fade") };
        assert_eq!(names(vec![stattrak]), ["★ StatTrak™ Kukri Knife | Fade (Field-Tested)"]);
        let low =
            WhitelistEntry { float_max: PaintWear::parse("0.05"), ..any_wear("AWP | Asiimov") };
        assert_eq!(names(vec![low]), ["AWP | Asiimov (Factory New)"]);
    }

    #[test]
    fn an_entry_for_every_item_has_the_items_that_its_filter_accepts() {
        let categories = CategorySet::default().with(ItemCategory::Knife);
        let filter = Some(Box::new(ItemFilter { categories, ..ItemFilter::default() }));
        let names = names(vec![WhitelistEntry { item: ItemPattern::Any, filter, ..any_wear("") }]);
        assert!(names.contains(&"★ Ursus Knife".to_owned()), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with('★') && !name.contains("Gloves")));
    }

    #[test]
    fn the_budget_limits_the_prices_and_a_rule_without_prices_has_no_items() {
        let expensive =
            WhitelistEntry { max_price: Amount::from_cents(1_000_000), ..any_wear("Glove Case") };
        let [item] = &items(vec![expensive])[..] else { panic!("one item") };
        assert_eq!(item.max_price, crate::config::Budget::default().max_price);
        let many = (0..3_000).map(|number| any_wear(&format!("Case {number} Case"))).collect();
        assert_eq!(items(many).len(), ENTRIES_MAX);
    }
}
