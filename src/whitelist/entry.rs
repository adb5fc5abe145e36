//! One entry of a whitelist: what a person wants, and for how much at most.

use std::time::Duration;

use crate::{
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
    domain::trade::PaintWear,
};

/// Which items an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ItemPattern {
    /// `"*"`: every item.
    Any,
    /// The item with this name, which has no star, StatTrak, Souvenir or wear, single-spaced, as
    /// [`ItemName::base`](crate::domain::item_name::ItemName::base) gives it.
    Named(String),
}

/// A set of wears; empty means any, items without wear included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WearSet(u8);

impl WearSet {
    /// Any wear, or none at all.
    pub const ANY: Self = Self(0);

    /// Adds one.
    #[must_use]
    pub const fn with(self, wear: Wear) -> Self {
        Self(self.0 | Self::bit(wear))
    }

    /// Whether an item of this wear (`None`: it has none) is in the set.
    pub const fn accepts(self, wear: Option<Wear>) -> bool {
        match wear {
            _ if self.0 == 0 => true,
            Some(wear) => self.0 & Self::bit(wear) != 0,
            None => false,
        }
    }

    /// The wears named, best first; empty where any will do.
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

/// What a person wants, checked: every bound is possible and every limit is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WhitelistEntry {
    /// What the person calls it, for logs and reports.
    pub name: Option<String>,
    /// Which items.
    pub item: ItemPattern,
    /// In which wear.
    pub wears: WearSet,
    /// StatTrak™ or not.
    pub stattrak: bool,
    /// Souvenir or not.
    pub souvenir: bool,
    /// The least float. A listing whose float is unknown, or whose range crosses the bound, is
    /// refused.
    pub float_min: Option<PaintWear>,
    /// The greatest float.
    pub float_max: Option<PaintWear>,
    /// The least price; guards against listings that are too good to be true.
    pub min_price: Amount,
    /// The greatest price.
    pub max_price: Amount,
    /// The greatest markup over the base price.
    pub max_markup: Percent,
    /// How many may be bought in all.
    pub max_quantity: u32,
    /// How much may be spent on it in all; `None`: no limit of its own.
    pub max_total: Option<Amount>,
    /// How old a back-filled listing may be; `None`: any age.
    pub max_age: Option<Duration>,
}

impl WhitelistEntry {
    /// What to call it: its name, or what it is about.
    pub fn label(&self) -> &str {
        match (&self.name, &self.item) {
            (Some(name), _) => name,
            (None, ItemPattern::Named(item)) => item,
            (None, ItemPattern::Any) => "*",
        }
    }
}
