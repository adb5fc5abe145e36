//! The greatest price that any whitelist entry pays for an item, for a quick look-up before a
//! listing is parsed.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use foldhash::fast::FixedState;

use crate::{
    domain::{
        item_filter::{ItemFilter, has_star},
        item_name::ItemName,
        money::Amount,
        trade::Trade,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    text::composed,
};

/// Set of wanted items, each with its maximum price: the greatest one that any entry pays. A
/// listing of an item outside the set, or above its maximum price, is never ordered.
///
/// A maximum price may be too high, because it ignores the conditions of entries that neither the
/// name nor the price shows.
#[derive(Clone, Debug, Default)]
pub struct WantedItems {
    /// Maximum prices by base name. The names come from the user's own settings and price sources,
    /// so the hash has to be fast, not resistant to collisions.
    max_prices: HashMap<Box<str>, MaxPrice, FixedState>,
    /// Entries for every item, without a percent rule.
    for_any: Box<[AnyItem]>,
    /// Base names of entries with a percent rule. An item without a reference price has no maximum
    /// price.
    by_percent: HashSet<Box<str>, FixedState>,
    /// `true` if there is no entry, or one for every item with a percent rule.
    names_all: bool,
}

/// Maximum price of one base name. Only the market name shows the star, on which the category
/// depends.
#[derive(Clone, Copy, Debug, Default)]
struct MaxPrice {
    with_star: Option<Amount>,
    without_star: Option<Amount>,
}

#[derive(Clone, Debug)]
struct AnyItem {
    max_price: Amount,
    filter: Option<Box<ItemFilter>>,
}

impl AnyItem {
    fn may_accept(&self, base: &str, is_star: bool) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_accept(base, is_star))
    }
}

impl WantedItems {
    /// Creates the set of the entries without a percent rule. The others match nothing without
    /// reference prices; [`raise`](Self::raise) adds the maximum prices that follow from those.
    pub fn of(entries: &[WhitelistEntry]) -> Self {
        let mut wanted = Self { names_all: entries.is_empty(), ..Self::default() };
        let mut for_any = Vec::new();
        for entry in entries {
            let max_price = entry.max_price;
            match (&entry.item, &entry.percent) {
                (ItemPattern::Named(item), None) => wanted.raise(item, entry, max_price),
                (ItemPattern::Named(item), Some(_)) => {
                    wanted.by_percent.insert(item.as_str().into());
                }
                (ItemPattern::Any, None) => {
                    for_any.push(AnyItem { max_price, filter: entry.filter.clone() });
                }
                (ItemPattern::Any, Some(_)) => wanted.names_all = true,
            }
        }
        wanted.for_any = for_any.into_boxed_slice();
        wanted
    }

    /// Raises the maximum price of a base name to the price that an entry pays at most.
    pub fn raise(&mut self, base: &str, entry: &WhitelistEntry, price: Amount) {
        let filter = entry.filter.as_deref();
        let [with_star, without_star] = [true, false].map(|is_star| {
            filter.is_none_or(|filter| filter.may_accept(base, is_star)).then_some(price)
        });
        if with_star.is_none() && without_star.is_none() {
            return;
        }
        if !self.max_prices.contains_key(base) {
            self.max_prices.insert(base.into(), MaxPrice::default());
        }
        if let Some(max_price) = self.max_prices.get_mut(base) {
            max_price.with_star = max_price.with_star.max(with_star);
            max_price.without_star = max_price.without_star.max(without_star);
        }
    }

    /// Frees the memory that [`raise`](Self::raise) has reserved for more items.
    #[must_use]
    pub fn shrunk(mut self) -> Self {
        self.max_prices.shrink_to_fit();
        self
    }

    /// Returns the maximum price of a market name in any form of Unicode; `None` if no entry wants
    /// the item. For a name with redundant spaces, returns [`Amount::MAX`], so that its listing is
    /// parsed and decided in full.
    #[inline]
    pub fn max_price(&self, market_name: &str) -> Option<Amount> {
        let name = composed(market_name);
        match ItemName::parse(&name).base {
            Cow::Borrowed(base) => self.max_price_of_base(base, &name),
            Cow::Owned(_) if name.contains("  ") => Some(Amount::MAX),
            Cow::Owned(base) => self.max_price_of_base(&base, &name),
        }
    }

    /// Returns `false` if no entry is about the item of a market name, regardless of conditions and
    /// prices. Without entries, returns `true`, because every listing is then shown to the user.
    #[inline]
    pub fn names(&self, market_name: &str) -> bool {
        if self.names_all || !self.for_any.is_empty() {
            return true;
        }
        let name = composed(market_name);
        let base = ItemName::parse(&name).base;
        let is_uncertain = matches!(base, Cow::Owned(_)) && name.contains("  ");
        is_uncertain
            || self.max_prices.contains_key(&*base)
            || (!self.by_percent.is_empty() && self.by_percent.contains(&*base))
    }

    /// Returns `false` if no entry can match a listing. An unreadable price counts as low enough.
    #[inline]
    pub fn wants(&self, trade: &Trade<'_>) -> bool {
        let max_price = self.max_price_of_base(&trade.item, &trade.market_name);
        max_price.is_some_and(|max_price| trade.total_value.is_none_or(|price| price <= max_price))
    }

    #[inline]
    fn max_price_of_base(&self, base: &str, market_name: &str) -> Option<Amount> {
        let max_price = self.max_prices.get(base).and_then(|max_price| {
            if has_star(market_name) { max_price.with_star } else { max_price.without_star }
        });
        if self.for_any.is_empty() {
            return max_price;
        }
        let is_star = has_star(market_name);
        let accepting = self.for_any.iter().filter(|any| any.may_accept(base, is_star));
        accepting.map(|any| any.max_price).max().max(max_price)
    }

    /// Iterates over the items with a maximum price of their own: base name and maximum price.
    pub fn max_prices(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.max_prices.iter().filter_map(|(base, max_price)| {
            Some((base.as_ref(), max_price.with_star.max(max_price.without_star)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::item_filter::{CategorySet, ItemCategory, NamePattern},
        whitelist::tests::{entry, trade},
    };

    fn named(item: &str, cents: i64) -> WhitelistEntry {
        let max_price = Amount::from_cents(cents);
        WhitelistEntry { item: ItemPattern::Named(item.to_owned()), max_price, ..entry() }
    }

    fn any(filter: Option<ItemFilter>, cents: i64) -> WhitelistEntry {
        let max_price = Amount::from_cents(cents);
        WhitelistEntry {
            item: ItemPattern::Any,
            max_price,
            filter: filter.map(Box::new),
            ..entry()
        }
    }

    #[track_caller]
    fn check(wanted: &WantedItems, name: &str, cents: Option<i64>) {
        assert_eq!(wanted.max_price(name), cents.map(Amount::from_cents), "{name}");
    }

    #[test]
    fn an_item_is_wanted_in_every_wear_and_variant_up_to_the_greatest_price_of_its_entries() {
        let wanted = WantedItems::of(&[
            named("AK-47 | Redline", 900),
            named("AK-47 | Redline", 1_000),
            named("Karambit | Doppler Phase 3", 50_000),
        ]);
        check(&wanted, "AK-47 | Redline (Field-Tested)", Some(1_000));
        check(&wanted, "StatTrak™ AK-47 | Redline (Well-Worn)", Some(1_000));
        check(&wanted, "★ Karambit | Doppler Phase 3 (Factory New)", Some(50_000));
        assert_eq!(wanted.max_price("AK-47  |  Slate"), Some(Amount::MAX));
        for name in ["AK-47 | Redline Case", "AK-47", "", "★ Karambit | Doppler Phase 2"] {
            check(&wanted, name, None);
        }
        check(&WantedItems::of(&[]), "Fracture Case", None);
    }

    #[test]
    fn an_entry_for_every_item_has_its_own_price_where_the_name_is_accepted() {
        let knives = ItemFilter {
            categories: CategorySet::default().with(ItemCategory::Knife),
            exclude: vec![
                NamePattern::parse("Gut Knife | *").unwrap(),
                NamePattern::parse("Karambit | Night (Field-Tested)").unwrap(),
            ],
            ..ItemFilter::default()
        };
        let wanted = WantedItems::of(&[any(Some(knives), 70_000), named("AK-47 | Redline", 900)]);
        check(&wanted, "★ Karambit | Night (Field-Tested)", Some(70_000));
        check(&wanted, "★ StatTrak™ Karambit | Night (Well-Worn)", Some(70_000));
        check(&wanted, "★ Gut Knife | Night (Well-Worn)", None);
        check(&wanted, "★ Driver Gloves | Lunar Weave (Well-Worn)", None);
        check(&wanted, "AK-47 | Redline (Field-Tested)", Some(900));
        let both = WantedItems::of(&[any(None, 100), named("AK-47 | Redline", 900)]);
        check(&both, "AK-47 | Redline (Field-Tested)", Some(900));
        check(&both, "Fracture Case", Some(100));
    }

    #[test]
    fn a_listing_is_wanted_up_to_the_maximum_price_and_at_an_unreadable_price() {
        let wanted = WantedItems::of(&[named("AK-47 | Redline", 1_000)]);
        let at = |price: Option<i64>| Trade {
            total_value: price.map(Amount::from_thousandths),
            ..trade("a", "AK-47 | Redline (Field-Tested)")
        };
        assert!(wanted.wants(&at(Some(10_000))) && wanted.wants(&at(None)));
        assert!(!wanted.wants(&at(Some(10_001))));
        assert!(!wanted.wants(&trade("a", "Fracture Case")));
    }
}
