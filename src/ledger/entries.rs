//! Whitelist entries as the ledger identifies them across edits, and the usage of each and of their
//! groups.
//!
//! Pure. An entry is identified by its `name`, or by its conditions if it has no name. The limits
//! `max_quantity` and `max_total` are not conditions: editing them changes the bound, not the
//! usage. Entries that share a name share their usage.
//!
//! The usage of a group is the sum of the usages of its entries. An entry that changes its group
//! takes its usage along. One that is removed from the whitelist stays in the group that it was
//! last in, which the database stores with its slot, so that no edit of the entries frees what a
//! group has bought.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Write as _},
    sync::Arc,
};

use super::{
    allowance::{EntryUse, SHARED_ENTRIES_MAX},
    event::EntrySlot,
};
use crate::{
    domain::item_filter::ItemFilter,
    domain::item_name::Wear,
    domain::money::Amount,
    domain::percent_rule::PercentRule,
    domain::whitelist_entry::{EntryGroup, WhitelistEntry},
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

    pub fn is_name(&self) -> bool {
        self.0.starts_with("name ")
    }

    /// Returns the item of an entry without a name.
    fn item(&self) -> Option<&str> {
        let (mut item, _rest) = self.0.strip_prefix("item ")?.split_once(" price=")?;
        let is_condition = |word: &str| {
            matches!(word, "stattrak" | "souvenir")
                || word.starts_with("float")
                || Wear::ALL.iter().any(|wear| wear.short() == word)
        };
        while let Some((before, word)) = item.rsplit_once(' ')
            && is_condition(word)
        {
            item = before;
        }
        Some(item)
    }

    /// Returns the display name of the entry: its name, or its conditions.
    pub fn label(&self) -> &str {
        self.0.strip_prefix("name ").unwrap_or(&self.0)
    }
}

/// Formats every condition that decides whether an entry matches a listing.
fn conditions(entry: &WhitelistEntry) -> String {
    let mut text = format!("item {}", entry.item.as_str());
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
    /// Number of orders in a state that [counts](super::event::OrderState::counts).
    pub quantity: u32,
    /// Sum of their prices, and of the commissions of returned orders.
    pub total: Amount,
}

impl EntryUsage {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            quantity: self.quantity.saturating_add(other.quantity),
            total: self.total.saturating_add(other.total),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            quantity: self.quantity.saturating_sub(other.quantity),
            total: self.total.saturating_sub(other.total),
        }
    }
}

/// Limits of one entry of the current whitelist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryLimits {
    pub(super) slot: EntrySlot,
    pub(super) max_quantity: u32,
    pub(super) max_total: Option<Amount>,
    /// Position of its group in the table.
    pub(super) group: Option<usize>,
    /// `true` if it has a name, by which its limits may be shared.
    pub(super) is_named: bool,
}

/// Limits of one group of the current whitelist.
#[derive(Clone, Debug)]
pub(super) struct GroupLimits {
    pub(super) group: Arc<EntryGroup>,
    /// Sum over its entries, without orders of unknown entry.
    used: EntryUsage,
}

/// Limits of the entries with one name.
#[derive(Clone, Debug)]
struct NamedLimits {
    slot: EntrySlot,
    name: Arc<str>,
    max_quantity: u32,
    max_total: Option<Amount>,
}

/// Name of the group of each slot, indexed by slot.
pub(super) type GroupNames = Arc<Vec<Option<Arc<str>>>>;

/// Number of slots in a block.
const BLOCK_SLOTS: usize = 256;

/// Usage of each slot, in blocks that a table shares with its successor: a reload copies and
/// replaces the table under the lock of the orders, which must not take longer with more entries.
#[derive(Debug)]
struct SlotUsage {
    blocks: Vec<Arc<[EntryUsage; BLOCK_SLOTS]>>,
    /// Number of slots.
    len: usize,
}

/// Usage of every entry ever seen, and the limits of the current whitelist.
#[derive(Clone, Debug)]
pub(super) struct EntryTable {
    /// Shared with the table that replaces this one, which is built while this one is in use.
    slots: Arc<HashMap<EntryKey, EntrySlot>>,
    /// The first slot is [`EntrySlot::ANY`].
    used: SlotUsage,
    /// Indexed by position in the whitelist.
    limits: Vec<EntryLimits>,
    /// The first [`SHARED_ENTRIES_MAX`] names, each with the lowest limits of its entries.
    named: Vec<NamedLimits>,
    groups: Vec<GroupLimits>,
    /// Position in `groups`, indexed by slot; empty without groups.
    slot_groups: Vec<Option<usize>>,
    /// Groups of the slots, including those of removed entries. May be shorter than `used`.
    group_names: GroupNames,
}

impl Default for EntryTable {
    fn default() -> Self {
        Self {
            slots: Arc::default(),
            used: SlotUsage { blocks: Vec::new(), len: 1 },
            limits: Vec::new(),
            named: Vec::new(),
            groups: Vec::new(),
            slot_groups: Vec::new(),
            group_names: Arc::default(),
        }
    }
}

/// Copies the blocks, so that no later change has to.
impl Clone for SlotUsage {
    fn clone(&self) -> Self {
        Self { blocks: self.blocks.iter().map(|block| Arc::new(**block)).collect(), len: self.len }
    }
}

impl SlotUsage {
    fn get(&self, index: usize) -> EntryUsage {
        let block = self.blocks.get(index / BLOCK_SLOTS);
        block.and_then(|block| block.get(index % BLOCK_SLOTS)).copied().unwrap_or_default()
    }

    /// Returns the usage of a slot, which is added if it does not exist, for modification.
    fn get_mut(&mut self, index: usize) -> &mut EntryUsage {
        self.len = self.len.max(index.saturating_add(1));
        let blocks = self.len.div_ceil(BLOCK_SLOTS);
        self.blocks.resize_with(blocks, || Arc::new([EntryUsage::default(); BLOCK_SLOTS]));
        #[expect(clippy::indexing_slicing, reason = "resized to hold the index above")]
        &mut Arc::make_mut(&mut self.blocks[index / BLOCK_SLOTS])[index % BLOCK_SLOTS]
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
            let is_named = entry.name.is_some();
            let limits = EntryLimits { slot, max_quantity, max_total, group: None, is_named };
            self.limits.push(limits);
        }
        self.set_named(entries);
        self.set_groups(entries);
        new
    }

    /// Collects the names of the current whitelist, whose limits are set.
    fn set_named(&mut self, entries: &[WhitelistEntry]) {
        self.named.clear();
        for (entry, limits) in entries.iter().zip(&self.limits) {
            let Some(name) = &entry.name else { continue };
            let EntryLimits { slot, max_quantity, max_total, .. } = *limits;
            if let Some(named) = self.named.iter_mut().find(|named| named.slot == slot) {
                named.max_quantity = named.max_quantity.min(max_quantity);
                named.max_total = named.max_total.into_iter().chain(max_total).min();
            } else if self.named.len() < SHARED_ENTRIES_MAX {
                let name = name.as_str().into();
                self.named.push(NamedLimits { slot, name, max_quantity, max_total });
            }
        }
    }

    /// Iterates over the first [`SHARED_ENTRIES_MAX`] names of the current whitelist.
    pub(super) fn named(&self) -> impl Iterator<Item = EntryUse> {
        self.named.iter().map(|named| EntryUse {
            slot: named.slot.0,
            name: Arc::clone(&named.name),
            used: self.used(named.slot),
            max_quantity: Some(named.max_quantity),
            max_total: named.max_total,
        })
    }

    /// Iterates over the first [`SHARED_ENTRIES_MAX`] groups of the current whitelist.
    pub(super) fn group_uses(&self) -> impl Iterator<Item = EntryUse> {
        self.groups().take(SHARED_ENTRIES_MAX).map(|(group, used)| EntryUse {
            slot: EntrySlot::ANY.0,
            name: Arc::clone(&group.name),
            used,
            max_quantity: group.max_quantity,
            max_total: group.max_total,
        })
    }

    /// Assigns the slots to the groups of the current whitelist, whose limits are set.
    fn set_groups(&mut self, entries: &[WhitelistEntry]) {
        self.groups.clear();
        self.slot_groups.clear();
        let has_groups = entries.iter().any(|entry| entry.group.is_some());
        if !has_groups && self.group_names.iter().all(Option::is_none) {
            return;
        }
        let mut positions: HashMap<Arc<str>, usize> = HashMap::new();
        let names = Arc::make_mut(&mut self.group_names);
        names.resize(names.len().max(self.used.len), None);
        for (entry, limits) in entries.iter().zip(&self.limits) {
            let name = entry.group.as_ref().map(|group| Arc::clone(&group.name));
            if let (Some(group), Some(name)) = (&entry.group, &name)
                && !positions.contains_key(name)
            {
                positions.insert(Arc::clone(name), self.groups.len());
                let used = EntryUsage::default();
                self.groups.push(GroupLimits { group: Arc::clone(group), used });
            }
            let slot = names.get_mut(index_of(limits.slot));
            slot.into_iter().for_each(|slot| slot.clone_from(&name));
        }
        let position = |name: &Option<Arc<str>>| positions.get(name.as_ref()?).copied();
        self.slot_groups = self.group_names.iter().map(position).collect();
        for limits in &mut self.limits {
            limits.group = self.slot_groups.get(index_of(limits.slot)).copied().flatten();
        }
        self.count_groups(&[]);
    }

    /// Counts for the groups by how much the usage differs from that in `before`. Skips the blocks
    /// that are the same ones.
    fn count_groups(&mut self, before: &[Arc<[EntryUsage; BLOCK_SLOTS]>]) {
        let blocks = self.used.blocks.iter().enumerate();
        let blocks = blocks.map(|(block, new)| (block, new, before.get(block)));
        let is_changed = |new, old: Option<_>| old.is_none_or(|old| !Arc::ptr_eq(new, old));
        for (block, new, old) in blocks.filter(|(_, new, old)| is_changed(new, *old)) {
            let first = block.saturating_mul(BLOCK_SLOTS);
            for (at, new) in new.iter().enumerate() {
                let old = old.and_then(|old| old.get(at)).copied().unwrap_or_default();
                let group = self.slot_groups.get(first.saturating_add(at)).copied().flatten();
                if let Some(group) = group.and_then(|group| self.groups.get_mut(group)) {
                    group.used = group.used.plus(*new).minus(old);
                }
            }
        }
    }

    /// Registers an entry under its recorded slot.
    pub(super) fn restore(&mut self, slot: EntrySlot, key: EntryKey) {
        self.used_mut(slot);
        Arc::make_mut(&mut self.slots).insert(key, slot);
    }

    /// Registers the recorded group of a slot.
    pub(super) fn restore_group(&mut self, slot: EntrySlot, name: &str) {
        let names = Arc::make_mut(&mut self.group_names);
        let index = index_of(slot).min(ENTRIES_MAX);
        names.resize(names.len().max(index.saturating_add(1)), None);
        if let Some(slot) = names.get_mut(index) {
            *slot = Some(name.into());
        }
    }

    /// Returns the group of each slot, to be recorded.
    pub(super) fn group_names(&self) -> GroupNames {
        Arc::clone(&self.group_names)
    }

    /// Returns a table without limits, to be [`set`](Self::set) and then to
    /// [`replace`](Self::replace) this one.
    pub(super) fn successor(&self) -> Self {
        Self {
            slots: Arc::clone(&self.slots),
            // A change of a block that both tables use copies it.
            used: SlotUsage { blocks: self.used.blocks.clone(), len: self.used.len },
            group_names: Arc::clone(&self.group_names),
            ..Self::default()
        }
    }

    /// Replaces the table by its successor, which takes over the current usage. Returns the old
    /// table.
    pub(super) fn replace(&mut self, mut successor: Self) -> Self {
        let added = successor.used.blocks.iter().skip(self.used.blocks.len()).cloned();
        self.used.blocks.extend(added);
        self.used.len = self.used.len.max(successor.used.len);
        std::mem::swap(&mut self.used, &mut successor.used);
        successor.count_groups(&self.used.blocks);
        std::mem::replace(self, successor)
    }

    /// Returns the slot of an entry that the ledger knows.
    pub(super) fn slot(&self, key: &EntryKey) -> Option<EntrySlot> {
        self.slots.get(key).copied()
    }

    /// Returns the keys of the entries without a name that have bought something and are not in
    /// this whitelist, by item.
    pub(super) fn removed_unnamed(
        &self,
        keys: &HashSet<EntryKey>,
    ) -> HashMap<String, Vec<EntryKey>> {
        let mut removed: HashMap<String, Vec<EntryKey>> = HashMap::new();
        for (key, slot) in self.slots.iter().filter(|(key, _slot)| !keys.contains(key)) {
            if let (Some(item), true) = (key.item(), 0 < self.own_usage(*slot).quantity) {
                removed.entry(item.to_owned()).or_default().push(key.clone());
            }
        }
        removed
    }

    /// Returns the slot of the next new entry.
    pub(super) fn next_slot(&self) -> EntrySlot {
        EntrySlot(u32::try_from(self.used.len).unwrap_or(u32::MAX))
    }

    /// Changes the key of a slot.
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
        let (any, own) = (self.own_usage(EntrySlot::ANY), self.own_usage(slot));
        if slot == EntrySlot::ANY {
            return any;
        }
        own.plus(any)
    }

    /// Returns the usage of an entry without the orders of unknown entry.
    pub(super) fn usage_of(&self, key: &EntryKey) -> EntryUsage {
        self.slot(key).map(|slot| self.own_usage(slot)).unwrap_or_default()
    }

    pub(super) fn own_usage(&self, slot: EntrySlot) -> EntryUsage {
        self.used.get(index_of(slot))
    }

    /// Returns the limits and the usage of the group at this position, including orders of unknown
    /// entry.
    pub(super) fn group(&self, position: usize) -> Option<(&EntryGroup, EntryUsage)> {
        let group = self.groups.get(position)?;
        Some((&group.group, group.used.plus(self.used(EntrySlot::ANY))))
    }

    /// Iterates over the groups of the current whitelist.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&EntryGroup, EntryUsage)> {
        (0..self.groups.len()).filter_map(|position| self.group(position))
    }

    /// Returns the position of the group of a slot.
    pub(super) fn group_of(&self, slot: EntrySlot) -> Option<usize> {
        self.slot_groups.get(index_of(slot)).copied().flatten()
    }

    /// Counts the usage of an order.
    pub(super) fn add(&mut self, slot: EntrySlot, usage: EntryUsage) {
        self.update(slot, |used| used.plus(usage));
    }

    /// Stops counting the usage of an order.
    pub(super) fn subtract(&mut self, slot: EntrySlot, usage: EntryUsage) {
        self.update(slot, |used| used.minus(usage));
    }

    /// Updates the usage of an entry and of its group.
    fn update(&mut self, slot: EntrySlot, update: impl Fn(EntryUsage) -> EntryUsage) {
        let used = self.used_mut(slot);
        *used = update(*used);
        if let Some(group) = self.group_of(slot).and_then(|group| self.groups.get_mut(group)) {
            group.used = update(group.used);
        }
    }

    /// Returns the entry's own usage for modification.
    fn used_mut(&mut self, slot: EntrySlot) -> &mut EntryUsage {
        self.used.get_mut(index_of(slot).min(ENTRIES_MAX))
    }

    /// Iterates over every key with its slot and usage.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&EntryKey, EntrySlot, EntryUsage)> {
        self.slots.iter().map(|(key, slot)| (key, *slot, self.used(*slot)))
    }
}

fn index_of(slot: EntrySlot) -> usize {
    usize::try_from(slot.0).unwrap_or(usize::MAX)
}

/// Maximum number of entries over the life of a ledger.
const ENTRIES_MAX: usize = 4_000_000;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::money::Percent,
        domain::trade::PaintWear,
        domain::whitelist_entry::{ItemPattern, WearSet},
    };

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
            group: None,
        }
    }

    /// Puts an entry into a group with these limits.
    pub(crate) fn grouped(
        entry: WhitelistEntry,
        name: &str,
        (max_quantity, max_total): (Option<u32>, Option<Amount>),
    ) -> WhitelistEntry {
        let group = EntryGroup { name: name.into(), max_quantity, max_total };
        WhitelistEntry { group: Some(Arc::new(group)), ..entry }
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
    fn the_item_of_an_unnamed_entry_is_found_in_its_key() {
        // A new condition does not compile here: the key must still end the item before it.
        let named = |name: &str| WhitelistEntry {
            name: None,
            item: ItemPattern::Named(name.to_owned()),
            wears: Wear::ALL.into_iter().fold(WearSet::ANY, WearSet::with),
            stattrak: true,
            souvenir: true,
            float_min: Some(PaintWear::from_hundredths(10)),
            float_max: Some(PaintWear::from_hundredths(20)),
            min_price: Amount::ZERO,
            max_price: Amount::MAX,
            max_markup: Some(Percent::from_hundredths(0)),
            max_quantity: 1,
            max_total: None,
            max_age: Some(Duration::from_secs(1)),
            percent: None,
            filter: None,
            group: None,
        };
        for name in ["AK-47 | Redline", "Karambit | Doppler Phase 2"] {
            assert_eq!(EntryKey::of(&named(name)).item(), Some(name));
        }
        assert_eq!(EntryKey::of(&entry(None)).item(), Some("*"));
        assert_eq!(EntryKey::of(&entry(Some("a"))).item(), None);
    }

    #[test]
    fn a_name_never_equals_conditions() {
        let conditions = EntryKey::of(&entry(None));
        assert_ne!(EntryKey::of(&entry(Some(conditions.as_str()))), conditions);
    }

    #[test]
    fn a_successor_takes_over_what_was_counted_while_it_was_made() {
        let all = |count: usize| {
            let of =
                |n: usize| grouped(entry(Some(&n.to_string())), ["a", "b"][n % 2], (Some(9), None));
            (0..count).map(of).collect::<Vec<_>>()
        };
        let one = EntryUsage { quantity: 1, total: Amount::from_cents(100) };
        let mut table = EntryTable::default();
        table.set(&all(BLOCK_SLOTS));
        let slots: Vec<EntrySlot> =
            [0, 1, BLOCK_SLOTS - 1].map(|n| table.limits(n).unwrap().slot).to_vec();
        table.add(slots[0], one);
        table.add(slots[2], one);
        let mut successor = table.successor();
        successor.set(&all(3 * BLOCK_SLOTS));
        table.add(slots[0], one);
        table.add(slots[1], one);
        table.subtract(slots[2], one);
        let next = successor.next_slot();
        let _old = table.replace(successor);
        let quantity = |slot: &EntrySlot| table.own_usage(*slot).quantity;
        assert_eq!(slots.iter().map(quantity).collect::<Vec<_>>(), [2, 1, 0]);
        let groups: Vec<u32> = table.groups().map(|(_, used)| used.quantity).collect();
        assert_eq!((groups, table.next_slot()), (vec![2, 1], next));
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
