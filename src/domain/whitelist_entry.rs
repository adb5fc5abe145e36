//! One whitelist entry: an item, its conditions and its limits.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::item_filter::ItemFilter,
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
    domain::percent_rule::PercentRule,
    domain::trade::PaintWear,
};

/// Items that an entry matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ItemPattern {
    /// `"*"`: every item.
    #[default]
    Any,
    /// One item by its [base name](crate::domain::item_name::ItemName::base).
    Named(String),
}

impl ItemPattern {
    /// Returns the item, or `"*"`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Named(item) => item,
        }
    }
}

/// Set of wears. The empty set accepts any wear, and items without wear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WearSet(u8);

impl WearSet {
    pub const ANY: Self = Self(0);

    #[must_use]
    pub const fn with(self, wear: Wear) -> Self {
        Self(self.0 | Self::bit(wear))
    }

    /// Returns `true` if the set accepts this wear; `None` is an item without wear.
    pub const fn accepts(self, wear: Option<Wear>) -> bool {
        match wear {
            _ if self.0 == 0 => true,
            Some(wear) => self.0 & Self::bit(wear) != 0,
            None => false,
        }
    }

    /// Iterates over the wears in the set, best first; yields nothing for [`ANY`](Self::ANY).
    pub fn iter(self) -> impl Iterator<Item = Wear> {
        Wear::ALL.into_iter().filter(move |wear| self.0 & Self::bit(*wear) != 0)
    }

    const fn bit(wear: Wear) -> u8 {
        match wear {
            Wear::FactoryNew => 1,
            Wear::MinimalWear => 2,
            Wear::FieldTested => 4,
            Wear::WellWorn => 8,
            Wear::BattleScarred => 16,
        }
    }
}

/// Group of entries, with limits on all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryGroup {
    pub name: Arc<str>,
    /// Maximum number bought by all its entries over the life of the ledger; `None` means no such
    /// limit.
    pub max_quantity: Option<u32>,
    /// Maximum spent by all its entries over the life of the ledger; `None` means no such limit.
    pub max_total: Option<Amount>,
}

/// Validated entry: its minima do not exceed its maxima.
///
/// The default matches every item but StatTrak and Souvenir ones, and buys nothing: its maximum
/// price and quantity are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WhitelistEntry {
    /// Label chosen by the user, for logs and the ledger.
    pub name: Option<String>,
    pub item: ItemPattern,
    pub wears: WearSet,
    /// `true` matches only StatTrak items, `false` only others.
    pub stattrak: bool,
    /// `true` matches only Souvenir items, `false` only others.
    pub souvenir: bool,
    /// Minimum float, inclusive. With a bound, a listing whose float is unknown, or whose range is
    /// not within the bounds, does not match.
    pub float_min: Option<PaintWear>,
    /// Maximum float, inclusive.
    pub float_max: Option<PaintWear>,
    /// Minimum price, a guard against faulty listings.
    pub min_price: Amount,
    /// Maximum price. It applies in addition to a percent rule.
    pub max_price: Amount,
    /// Maximum markup over the base price; `None` accepts any, and listings without a markup.
    pub max_markup: Option<Percent>,
    /// Maximum number bought over the life of the ledger.
    pub max_quantity: u32,
    /// Maximum spent on this entry over the life of the ledger; `None` means no such limit.
    pub max_total: Option<Amount>,
    /// Maximum age of a back-filled listing; `None` means any age.
    pub max_age: Option<Duration>,
    /// Bound by a percentage of a reference price; `None` means no such bound.
    pub percent: Option<PercentRule>,
    /// Conditions on the kind of the item; `None` accepts any.
    pub filter: Option<Box<ItemFilter>>,
    /// Group whose limits apply besides those of the entry.
    pub group: Option<Arc<EntryGroup>>,
}

impl WhitelistEntry {
    /// Returns the name, or the item if the entry has none.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.item.as_str())
    }

    pub fn group_name(&self) -> Option<&str> {
        self.group.as_ref().map(|group| &*group.name)
    }
}
