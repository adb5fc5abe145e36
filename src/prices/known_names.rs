//! Names of the items that price sources or a recording have, to find misspelled ones.

use std::collections::HashMap;

use super::{
    PriceBook,
    item_key::{ItemKey, ItemVariant, Phase, listing_bases, split_phase},
};
use crate::{
    domain::{
        item_filter::NamePattern,
        item_name::{ItemName, Wear},
    },
    text::{composed, nearest},
};

/// Minimum number of names from which an unknown one is probably wrong. A list of the user's own
/// prices may have a few items only.
const NAMES_MIN: usize = 1_000;

/// Maximum difference in length of two names that differ in one character.
const TYPO_BYTES_MAX: usize = 3;

/// Base names of items, as [`ItemName`] returns them, with the variants of each.
#[derive(Clone, Debug)]
pub struct KnownNames {
    /// By the name in lower case.
    items: HashMap<String, KnownItem>,
    /// `true` if there are so many names that an unknown one is probably wrong.
    are_all: bool,
}

#[derive(Clone, Debug)]
struct KnownItem {
    name: String,
    variants: Vec<ItemVariant>,
    /// `true` if only a recording has the item, so further variants of it may exist.
    is_only_recorded: bool,
}

impl KnownNames {
    /// Collects the names of a book.
    pub fn of(book: &PriceBook) -> Self {
        Self::with_recorded(book, [])
    }

    /// Collects the names of a book, and the market names of a recording.
    pub fn with_recorded<'n>(
        book: &PriceBook,
        recorded: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let mut items: HashMap<String, KnownItem> = HashMap::new();
        let mut add = |base: &str, variant: ItemVariant, is_only_recorded| {
            for name in listing_bases(base, variant.phase()) {
                let item = items.entry(name.to_lowercase());
                let variants = Vec::new();
                let item = item.or_insert(KnownItem { name, variants, is_only_recorded });
                item.variants.push(variant);
            }
        };
        for (base, variant, _quotes) in book.rows() {
            add(base, variant, false);
        }
        for ItemKey { base, variant } in recorded.into_iter().filter_map(ItemKey::parse) {
            add(&base, variant, true);
        }
        Self { are_all: NAMES_MIN <= items.len(), items }
    }

    /// Returns `true` if an unknown name is probably wrong.
    pub const fn are_all(&self) -> bool {
        self.are_all
    }

    fn item(&self, name: &str) -> Option<&KnownItem> {
        self.items.get(&composed(name).to_lowercase())
    }

    /// Returns the variants of an item; `None` if the item is unknown. For a phase that no source
    /// names, returns those of the Doppler without a phase.
    fn variants(&self, name: &str) -> Option<&[ItemVariant]> {
        let item = self.item(name).or_else(|| match split_phase(name) {
            (base, Some(_phase)) => self.item(base),
            (_, None) => None,
        });
        item.map(|item| item.variants.as_slice())
    }

    /// Returns the exact name of an item that is written in another case. `None` if the name is
    /// unknown, or right already.
    pub fn corrected(&self, name: &str) -> Option<&str> {
        let known = self.item(name)?.name.as_str();
        (known != composed(name)).then_some(known)
    }

    /// Returns `true` if a pattern matches no item. The phases of a Doppler are unknown to many
    /// sources, so a pattern with one counts as right.
    pub fn is_without_match(&self, pattern: &NamePattern) -> bool {
        let has_phase = Phase::ALL.iter().any(|phase| pattern.as_str().contains(phase.as_str()));
        let matches = |item: &KnownItem, variant: &ItemVariant| {
            let (is_stattrak, is_souvenir) = (variant.is_stattrak(), variant.is_souvenir());
            let wear = variant.wear();
            let variant = ItemVariant::new(is_stattrak, is_souvenir, wear, None);
            let name = ItemKey { base: item.name.as_str().into(), variant }.to_string();
            // The key does not show whether the name has a star.
            let base = ItemName::parse(&item.name).base;
            let mut item = ItemName { base, is_star: false, is_stattrak, is_souvenir, wear };
            pattern.matches_item(&item, &name) || {
                item.is_star = true;
                pattern.matches_item(&item, &format!("★ {name}"))
            }
        };
        let mut items = self.items.values();
        !has_phase && !items.any(|item| item.variants.iter().any(|it| matches(item, it)))
    }

    pub fn is_known(&self, name: &str) -> bool {
        self.variants(name).is_some()
    }

    /// Returns `true` if only a recording has the item, so further variants of it may exist.
    pub fn is_only_recorded(&self, name: &str) -> bool {
        self.item(name).is_some_and(|item| item.is_only_recorded)
    }

    /// Returns the most similar name, if one is similar enough. Compares with every name.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let known: Vec<&str> = self.items.values().map(|item| item.name.as_str()).collect();
        nearest(name, &known)
    }

    /// Returns the name that differs from an unknown one by one typing error. Names that differ in
    /// a digit are different items.
    pub fn typo_of(&self, name: &str) -> Option<&str> {
        let name = composed(name).to_lowercase();
        let is_typo = |known: &str| {
            known.len().abs_diff(name.len()) <= TYPO_BYTES_MAX
                && strsim::osa_distance(known, &name) == 1
                && known
                    .chars()
                    .filter(char::is_ascii_digit)
                    .eq(name.chars().filter(char::is_ascii_digit))
        };
        self.items.iter().find(|(known, _)| is_typo(known)).map(|(_, item)| item.name.as_str())
    }

    /// Returns the wears of an item that is StatTrak™ and a Souvenir as `like` is, best first; none
    /// if it has no wear. `None` if the item is unknown or has no such variant at all.
    pub fn wears(&self, name: &str, like: ItemVariant) -> Option<Vec<Wear>> {
        let variants = self.variants(name)?;
        let is_meant = |variant: &&ItemVariant| {
            variant.is_stattrak() == like.is_stattrak()
                && variant.is_souvenir() == like.is_souvenir()
        };
        let wears: Vec<Option<Wear>> =
            variants.iter().filter(is_meant).map(|variant| variant.wear()).collect();
        if wears.is_empty() {
            return None;
        }
        let is_known = |wear: &Wear| wears.contains(&Some(*wear));
        Some(Wear::ALL.into_iter().filter(is_known).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::{percent_rule::CoinUsd, time::UnixMs},
        prices::{BookTable, Offer, PriceTable, Quote, RefPrice},
    };

    /// A book with these market names, and enough others.
    pub(crate) fn book_of(names: &[&str]) -> PriceBook {
        let offer = Offer::new(RefPrice::from_micros(1_000_000).unwrap());
        let quote = Quote { ask: Some(offer), bid: None };
        let mut table = PriceTable::default();
        for name in names {
            table.add(name, None, quote);
        }
        for number in 0..NAMES_MIN {
            table.add(&format!("Sticker | Number {number}"), None, quote);
        }
        let coin = CoinUsd::from_ten_thousandths(10_000);
        let max_age = Duration::from_secs(60);
        PriceBook::new(&[BookTable { table: Some(&table), at: UnixMs(0), max_age, coin }])
    }

    #[test]
    fn a_recording_adds_names_but_not_which_variants_exist() {
        let recorded =
            ["★ StatTrak™ Kukri Knife | Fade (Factory New)", "AK-47 | Redline (Well-Worn)"];
        let book = book_of(&["AK-47 | Redline (Field-Tested)"]);
        let names = KnownNames::with_recorded(&book, recorded);
        assert!(
            names.is_known("Kukri Knife | Fade") && names.is_only_recorded("Kukri Knife | Fade")
        );
        assert_eq!(names.nearest("Kukri Knife | Fada"), Some("Kukri Knife | Fade"));
        assert!(!names.is_only_recorded("AK-47 | Redline"));
        let wears = [Wear::FieldTested, Wear::WellWorn];
        let plain = ItemVariant::new(false, false, None, None);
        assert_eq!(names.wears("AK-47 | Redline", plain).as_deref(), Some(&wears[..]));
        let few = KnownNames::with_recorded(&PriceBook::default(), recorded);
        assert!(names.are_all() && !few.are_all(), "two names are not all items");
        assert_eq!(few.typo_of("AK-47 | Redlien"), Some("AK-47 | Redline"));
        assert_eq!(few.typo_of("AK-48 | Redline").or(few.typo_of("AK-47 | Redwood")), None);
        assert_eq!(few.corrected("ak-47 | redline"), Some("AK-47 | Redline"));
    }

    #[test]
    fn names_are_found_in_any_case_and_with_phases() {
        let names = KnownNames::of(&book_of(&[
            "AK-47 | Redline (Field-Tested)",
            "★ Karambit | Doppler Phase 2 (Factory New)",
            "★ Bayonet | Doppler (Factory New)",
            "★ Karambit | Doppler Sapphire (Factory New)",
        ]));
        assert_eq!(names.corrected("ak-47 | REDLINE"), Some("AK-47 | Redline"));
        assert_eq!(names.corrected("AK-47 | Redline"), None);
        assert_eq!(names.corrected("AK-47 | Redlien"), None);
        assert_eq!(names.nearest("AK-47 | Redlien"), Some("AK-47 | Redline"));
        for known in
            ["Karambit | Doppler Phase 2", "Karambit | Sapphire", "Bayonet | Doppler Phase 3"]
        {
            assert!(names.is_known(known), "{known}");
        }
        assert!(!names.is_known("Karambit | Doppler") && !names.is_known("AK-47"));
    }

    #[test]
    fn a_pattern_is_compared_with_every_variant_of_every_item() {
        let names = KnownNames::of(&book_of(&[
            "StatTrak™ AK-47 | Redline (Field-Tested)",
            "★ Karambit | Doppler Sapphire (Factory New)",
        ]));
        let has_match =
            |pattern: &str| !names.is_without_match(&NamePattern::parse(pattern).unwrap());
        for known in [
            "sticker|*",
            "ak-47|redline",
            "StatTrak™*",
            "*(Field-Tested)",
            "★ Karambit*",
            "StatTrak™ AK-47 | Redline (Field-Tested)",
            "* | Doppler Phase 2",
        ] {
            assert!(has_match(known), "{known}");
        }
        for unknown in ["Stickers | *", "AK-47 | Redline (Field-Tested)", "karambit | doppler ruby"]
        {
            assert!(!has_match(unknown), "{unknown}");
        }
    }

    #[test]
    fn wears_are_those_of_the_variant() {
        let names = KnownNames::of(&book_of(&[
            "AK-47 | Redline (Field-Tested)",
            "AK-47 | Redline (Minimal Wear)",
            "StatTrak™ AK-47 | Redline (Well-Worn)",
            "★ Karambit",
        ]));
        let wears = |name, (is_stattrak, is_souvenir)| {
            names.wears(name, ItemVariant::new(is_stattrak, is_souvenir, None, None))
        };
        let expected = vec![Wear::MinimalWear, Wear::FieldTested];
        assert_eq!(wears("AK-47 | Redline", (false, false)), Some(expected));
        assert_eq!(wears("AK-47 | Redline", (true, false)), Some(vec![Wear::WellWorn]));
        assert_eq!(wears("AK-47 | Redline", (false, true)), None);
        assert_eq!(wears("Karambit", (false, false)), Some(vec![]));
    }

    #[test]
    fn a_short_list_is_no_list_of_all_items() {
        assert!(!KnownNames::of(&PriceBook::default()).are_all());
    }
}
