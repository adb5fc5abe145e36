//! Whitelist entries as the ledger identifies them across edits, and the usage of each.
//!
//! Pure. An entry is identified by its `name`, or by its conditions if it has no name. The limits
//! `max_quantity` and `max_total` are not conditions: editing them changes the bound, not the
//! usage. Entries that share a name share their usage.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use super::event::EntrySlot;
use crate::{
    domain::item_filter::ItemFilter,
    domain::money::Amount,
    domain::percent_rule::PercentRule,
    domain::whitelist_entry::{ItemPattern, WhitelistEntry},
};

/// Identity of an entry across edits of the whitelist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(String);

impl EntryKey {
    pub fn of(entry: &WhitelistEntry) -> Self {
        match &entry.name {
            Some(name) => Self(format!("name {name}")),
            None => Self(conditions(entry)),
        }
    }

    /// Restores a key from its stored form.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the stored form of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the display name of the entry: its name, or its conditions.
    pub fn label(&self) -> &str {
        self.0.strip_prefix("name ").unwrap_or(&self.0)
    }
}

/// Formats every condition that decides whether an entry matches a listing.
fn conditions(entry: &WhitelistEntry) -> String {
    let mut text = String::from("item ");
    match &entry.item {
        ItemPattern::Any => text.push('*'),
        ItemPattern::Named(name) => text.push_str(name),
    }
    for wear in entry.wears.iter() {
        text.push(' ');
        text.push_str(wear.short());
    }
    if entry.stattrak {
        text.push_str(" stattrak");
    }
    if entry.souvenir {
        text.push_str(" souvenir");
    }
    // Writing to a `String` cannot fail.
    let _infallible = (|| {
        if let Some(min) = entry.float_min {
            write!(text, " float>={min}")?;
        }
        if let Some(max) = entry.float_max {
            write!(text, " float<={max}")?;
        }
        write!(text, " price={}..{}", entry.min_price, entry.max_price)?;
        if let Some(max) = entry.max_markup {
            write!(text, " markup<={max}")?;
        }
        if let Some(age) = entry.max_age {
            write!(text, " age<={}ms", age.as_millis())?;
        }
        if let Some(percent) = &entry.percent {
            percent_conditions(&mut text, percent)?;
        }
        match &entry.filter {
            Some(filter) => filter_conditions(&mut text, filter),
            None => Ok(()),
        }
    })();
    text
}

fn percent_conditions(text: &mut String, rule: &PercentRule) -> fmt::Result {
    write!(text, " percent<={} of {}", rule.max_percent, rule.rule.as_str())?;
    for reference in &rule.references {
        write!(text, " {reference}")?;
    }
    if let Some(min) = rule.min_count {
        write!(text, " count>={min}")?;
    }
    match rule.min_reference {
        Some(min) => write!(text, " reference>={min}"),
        None => Ok(()),
    }
}

fn filter_conditions(text: &mut String, filter: &ItemFilter) -> fmt::Result {
    for category in filter.categories.iter() {
        write!(text, " category={}", category.as_str())?;
    }
    for rarity in &filter.rarities {
        write!(text, " rarity={rarity}")?;
    }
    filter.exclude.iter().try_for_each(|pattern| write!(text, " exclude={}", pattern.as_str()))
}

/// Usage of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryUsage {
    /// Number of orders that are bought, reserved or unknown.
    pub quantity: u32,
    pub total: Amount,
}

impl EntryUsage {
    pub(super) fn add(&mut self, price: Amount) {
        self.quantity = self.quantity.saturating_add(1);
        self.total = self.total.saturating_add(price);
    }

    pub(super) fn subtract(&mut self, price: Amount) {
        self.quantity = self.quantity.saturating_sub(1);
        self.total = self.total.saturating_sub(price);
    }
}

/// Limits of one entry of the current whitelist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryLimits {
    pub(super) slot: EntrySlot,
    pub(super) max_quantity: u32,
    pub(super) max_total: Option<Amount>,
}

/// Usage of every entry ever seen, and the limits of the current whitelist.
#[derive(Clone, Debug)]
pub(super) struct EntryTable {
    /// Shared with the table that replaces this one, which is built while this one is in use.
    slots: Arc<HashMap<EntryKey, EntrySlot>>,
    /// Indexed by slot. The first is [`EntrySlot::ANY`].
    used: Vec<EntryUsage>,
    /// Indexed by position in the whitelist.
    limits: Vec<EntryLimits>,
}

impl Default for EntryTable {
    fn default() -> Self {
        Self { slots: Arc::default(), used: vec![EntryUsage::default()], limits: Vec::new() }
    }
}

impl EntryTable {
    /// Replaces the current whitelist and returns the entries that are new to the ledger.
    pub(super) fn set(&mut self, entries: &[WhitelistEntry]) -> Vec<(EntrySlot, EntryKey)> {
        let mut new = Vec::new();
        self.limits.clear();
        for entry in entries {
            let key = EntryKey::of(entry);
            let slot = match self.slots.get(&key) {
                Some(slot) => *slot,
                None => {
                    let slot = self.next_slot();
                    new.push((slot, key.clone()));
                    self.restore(slot, key);
                    slot
                }
            };
            let (max_quantity, max_total) = (entry.max_quantity, entry.max_total);
            self.limits.push(EntryLimits { slot, max_quantity, max_total });
        }
        new
    }

    /// Registers an entry under its recorded slot.
    pub(super) fn restore(&mut self, slot: EntrySlot, key: EntryKey) {
        self.used_mut(slot);
        Arc::make_mut(&mut self.slots).insert(key, slot);
    }

    /// Returns a table without limits, to be [`set`](Self::set) and then to
    /// [`replace`](Self::replace) this one.
    pub(super) fn successor(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), used: self.used.clone(), limits: Vec::new() }
    }

    /// Replaces the table by its successor, with the usage of this moment. Returns the old one.
    pub(super) fn replace(&mut self, mut successor: Self) -> Self {
        let common = self.used.len().min(successor.used.len());
        let (head, tail) = self.used.split_at(common);
        if let Some(used) = successor.used.get_mut(..common) {
            used.copy_from_slice(head);
        }
        successor.used.extend_from_slice(tail);
        std::mem::replace(self, successor)
    }

    /// Returns the slot of an entry that the ledger knows.
    pub(super) fn slot(&self, key: &EntryKey) -> Option<EntrySlot> {
        self.slots.get(key).copied()
    }

    /// Returns the slot of the next new entry.
    pub(super) fn next_slot(&self) -> EntrySlot {
        EntrySlot(u32::try_from(self.used.len()).unwrap_or(u32::MAX))
    }

    /// Gives the slot of an entry another key.
    pub(super) fn rename(&mut self, slot: EntrySlot, from: &EntryKey, to: EntryKey) {
        let slots = Arc::make_mut(&mut self.slots);
        slots.remove(from);
        slots.insert(to, slot);
    }

    /// Returns the limits of the entry at this position of the whitelist.
    pub(super) fn limits(&self, index: usize) -> Option<EntryLimits> {
        self.limits.get(index).copied()
    }

    /// Returns the usage of the entry, including orders of unknown entry.
    pub(super) fn used(&self, slot: EntrySlot) -> EntryUsage {
        let of = |slot: EntrySlot| {
            let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
            self.used.get(index).copied().unwrap_or_default()
        };
        let (any, own) = (of(EntrySlot::ANY), of(slot));
        if slot == EntrySlot::ANY {
            return any;
        }
        EntryUsage {
            quantity: own.quantity.saturating_add(any.quantity),
            total: own.total.saturating_add(any.total),
        }
    }

    /// Returns the entry's own usage for modification.
    pub(super) fn used_mut(&mut self, slot: EntrySlot) -> &mut EntryUsage {
        let index = usize::try_from(slot.0).unwrap_or(usize::MAX).min(ENTRIES_MAX);
        if self.used.len() <= index {
            self.used.resize(index.saturating_add(1), EntryUsage::default());
        }
        // The vector was just resized.
        #[expect(clippy::indexing_slicing, reason = "resized to hold the index one line above")]
        &mut self.used[index]
    }

    /// Iterates over every key with its slot and usage.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&EntryKey, EntrySlot, EntryUsage)> {
        self.slots.iter().map(|(key, slot)| (key, *slot, self.used(*slot)))
    }
}

/// Maximum number of entries over the life of a ledger.
const ENTRIES_MAX: usize = 4_000_000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{domain::money::Percent, domain::whitelist_entry::WearSet};

    /// Creates an entry that matches everything and has no effective limits.
    pub(crate) fn entry(name: Option<&str>) -> WhitelistEntry {
        WhitelistEntry {
            name: name.map(str::to_owned),
            item: ItemPattern::Any,
            wears: WearSet::ANY,
            stattrak: false,
            souvenir: false,
            float_min: None,
            float_max: None,
            min_price: Amount::ZERO,
            max_price: Amount::MAX,
            max_markup: Some(Percent::from_hundredths(0)),
            max_quantity: u32::MAX,
            max_total: None,
            max_age: None,
            percent: None,
            filter: None,
        }
    }

    #[test]
    fn a_named_entry_keeps_its_identity_when_its_conditions_change() {
        let mut edited = entry(Some("redline"));
        edited.max_price = Amount::from_cents(1);
        edited.max_quantity = 1;
        assert_eq!(EntryKey::of(&edited), EntryKey::of(&entry(Some("redline"))));
        assert_ne!(EntryKey::of(&edited), EntryKey::of(&entry(Some("other"))));
    }

    #[test]
    fn an_unnamed_entry_is_identified_by_its_conditions_not_by_its_limits() {
        let plain = entry(None);
        let mut limited = entry(None);
        limited.max_quantity = 1;
        limited.max_total = Some(Amount::ZERO);
        assert_eq!(EntryKey::of(&plain), EntryKey::of(&limited));
        let mut stattrak = entry(None);
        stattrak.stattrak = true;
        assert_ne!(EntryKey::of(&plain), EntryKey::of(&stattrak));
        let mut cheap = entry(None);
        cheap.max_price = Amount::from_cents(1);
        assert_ne!(EntryKey::of(&plain), EntryKey::of(&cheap));
    }

    #[test]
    fn a_name_never_equals_conditions() {
        let conditions = EntryKey::of(&entry(None));
        assert_ne!(EntryKey::of(&entry(Some(conditions.as_str()))), conditions);
    }

    #[test]
    fn an_entry_keeps_its_slot_when_the_whitelist_changes() {
        let mut entries = EntryTable::default();
        let [a, b] = [entry(Some("a")), entry(Some("b"))];
        assert_eq!(entries.set(&[a.clone(), b.clone()]).len(), 2);
        let slot = entries.limits(1).unwrap().slot;
        assert_eq!(entries.set(&[b, a]), []);
        assert_eq!(entries.limits(0).unwrap().slot, slot);
    }
}
