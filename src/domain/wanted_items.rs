//! The items that a whitelist names, for a quick look-up before a listing is read.

use std::{borrow::Cow, collections::HashSet};

use foldhash::fast::FixedState;

use crate::domain::{
    item_name::ItemName,
    whitelist_entry::{ItemPattern, WhitelistEntry},
};

/// Set of wanted items. A listing of an item outside the set is never ordered.
#[derive(Clone, Debug, Default)]
pub struct WantedItems {
    /// Base names. They come from the user's own settings, so the hash has to be fast, not
    /// resistant to collisions.
    names: HashSet<Box<str>, FixedState>,
    /// `true` if an entry matches every item.
    includes_all: bool,
}

impl WantedItems {
    pub fn of(entries: &[WhitelistEntry]) -> Self {
        let mut wanted = Self::default();
        for entry in entries {
            match &entry.item {
                ItemPattern::Named(item) => {
                    wanted.names.insert(item.as_str().into());
                }
                ItemPattern::Any => wanted.includes_all = true,
            }
        }
        wanted
    }

    /// Returns `true` if the set contains every item.
    pub const fn includes_all(&self) -> bool {
        self.includes_all
    }

    /// Returns `true` if the set contains the item with this base name.
    #[inline]
    pub fn contains_base(&self, base: &str) -> bool {
        self.includes_all || self.names.contains(base)
    }

    /// Returns `true` if the set contains the item of this market name. A name with redundant
    /// spaces counts as wanted, because its base is not a part of the text.
    #[inline]
    pub fn contains(&self, market_name: &str) -> bool {
        self.includes_all
            || match ItemName::parse(market_name).base {
                Cow::Borrowed(base) => self.names.contains(base),
                Cow::Owned(_) => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::tests::entry;

    fn named(item: &str) -> WhitelistEntry {
        WhitelistEntry { item: ItemPattern::Named(item.to_owned()), ..entry() }
    }

    #[test]
    fn an_item_is_wanted_in_every_wear_and_variant() {
        let wanted =
            WantedItems::of(&[named("AK-47 | Redline"), named("Karambit | Doppler Phase 3")]);
        for name in [
            "AK-47 | Redline (Field-Tested)",
            "StatTrak™ AK-47 | Redline (Well-Worn)",
            "★ Karambit | Doppler Phase 3 (Factory New)",
            "AK-47  |  Slate",
        ] {
            assert!(wanted.contains(name), "{name}");
        }
        for name in ["AK-47 | Redline Case", "AK-47", "", "★ Karambit | Doppler Phase 2"] {
            assert!(!wanted.contains(name), "{name}");
        }
    }

    #[test]
    fn an_entry_for_every_item_wants_all() {
        let any = WhitelistEntry { item: ItemPattern::Any, ..entry() };
        let wanted = WantedItems::of(&[named("AK-47 | Redline"), any]);
        assert!(wanted.includes_all() && wanted.contains("Fracture Case"));
        assert!(!WantedItems::of(&[]).contains("Fracture Case"));
    }
}
