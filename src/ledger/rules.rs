//! Replacement of the limits and the whitelist of an open ledger.
//!
//! The slow steps are not done by the thread of the orders: an [`EntryPlan`] compares the
//! whitelists, and the writer's thread makes the new limits and entries durable
//! ([`RulesRecorder`]). Only then does the ledger use them, so that no event refers to an entry
//! that is not in the database.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use tracing::warn;

use super::{
    Ledger,
    entries::{EntryKey, EntryTable, EntryUsage, GroupNames},
    event::EntrySlot,
    state::LedgerState,
    writer::WriterMessage,
};
use crate::{
    config::Budget, domain::time::UnixMs, domain::whitelist_entry::WhitelistEntry, text::Escaped,
};

/// Maximum time until the writer has made new rules durable. A disk may be slow.
const RECORD_MAX: Duration = Duration::from_secs(60);

/// Entries of a new whitelist with their slots, before the ledger uses them.
#[derive(Clone, Debug)]
pub struct EntryPlan {
    table: EntryTable,
    /// Slots from here on are new.
    first_new: EntrySlot,
    new: Vec<(EntrySlot, EntryKey)>,
    renamed: Vec<RenamedEntry>,
}

/// Entry whose slot, and so its usage, is kept under another key.
#[derive(Clone, Debug)]
pub(super) struct RenamedEntry {
    pub(super) slot: EntrySlot,
    pub(super) from: EntryKey,
    pub(super) to: EntryKey,
}

/// New entry for an item of which removed entries have bought something. Their usage would no
/// longer count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostCount {
    /// Position in the new whitelist.
    pub entry: usize,
    /// Usage of the removed entries for its item.
    pub usage: EntryUsage,
    /// The removed entry; `None` if there are several.
    pub removed: Option<EntryKey>,
}

impl EntryPlan {
    fn of(state: &LedgerState) -> Self {
        let table = state.entries.successor();
        let first_new = table.next_slot();
        Self { table, first_new, new: Vec::new(), renamed: Vec::new() }
    }

    /// Uses the entries of a start, and reports each whose count is not its own. Returns the rows
    /// for the database.
    pub(super) fn at_start(
        state: &mut LedgerState,
        entries: &[WhitelistEntry],
    ) -> (Vec<(EntrySlot, EntryKey)>, Vec<RenamedEntry>) {
        let mut plan = Self::of(state);
        for LostCount { entry, usage, .. } in plan.set_at_start(entries) {
            let label = entries.get(entry).map_or("?", WhitelistEntry::label);
            warn!(
                "Entry {} begins at 0: removed entries without a name for its item have bought {} \
                 for {}; lower its limits, or give entries names, which keep their counts",
                Escaped(label),
                usage.quantity,
                usage.total
            );
        }
        plan.continued().for_each(|line| warn!("{line}"));
        state.entries.replace(plan.table);
        (plan.new, plan.renamed)
    }

    /// Assigns the entries of a new whitelist to the slots of the ledger.
    ///
    /// An entry that gets a name takes over the usage of the removed entry for the same item, if
    /// there is exactly one removed and one new entry for it and the ledger does not know the name.
    /// Returns the other new entries for an item of which a removed entry has bought something: its
    /// usage would no longer count. Unless `from_zero`, entries without a name that were removed
    /// before count as removed, so that two reloads lose no count either.
    pub fn set(
        &mut self,
        old: &[WhitelistEntry],
        new: &[WhitelistEntry],
        from_zero: bool,
    ) -> Vec<LostCount> {
        let keys = |entries: &[WhitelistEntry]| entries.iter().map(EntryKey::of).collect();
        let (before, after): (HashSet<EntryKey>, HashSet<EntryKey>) = (keys(old), keys(new));
        let mut removed =
            if from_zero { HashMap::new() } else { self.table.removed_unnamed(&after) };
        let mut replaced = HashSet::new();
        for entry in old {
            let (key, item) = (EntryKey::of(entry), entry.item.as_str());
            let has_bought = 0 < self.table.usage_of(&key).quantity;
            if after.contains(&key) {
                continue;
            }
            if has_bought {
                replaced.insert(item);
            }
            // The others are removed ones already.
            if from_zero || key.is_name() || !has_bought {
                removed.entry(item.to_owned()).or_default().push(key);
            }
        }
        // An entry that the ledger knows from an earlier whitelist is an added one too if it
        // replaces another: it counts from its own usage.
        let is_added = |table: &EntryTable, entry: &WhitelistEntry| {
            let key = EntryKey::of(entry);
            let continues =
                (key.is_name() && table.slot(&key).is_some()) || 0 < table.usage_of(&key).quantity;
            !before.contains(&key) && (replaced.contains(entry.item.as_str()) || !continues)
        };
        self.assign(removed, new, is_added, |to| to.name.is_some())
    }

    /// Assigns the entries of a start, as [`set`](Self::set) does for a reload. A start cannot ask
    /// the user, so an entry without a name takes over a usage too.
    pub(super) fn set_at_start(&mut self, new: &[WhitelistEntry]) -> Vec<LostCount> {
        let removed = self.table.removed_unnamed(&new.iter().map(EntryKey::of).collect());
        let is_added =
            |table: &EntryTable, entry: &WhitelistEntry| table.slot(&EntryKey::of(entry)).is_none();
        self.assign(removed, new, is_added, |_to| true)
    }

    fn assign(
        &mut self,
        mut removed: HashMap<String, Vec<EntryKey>>,
        new: &[WhitelistEntry],
        is_added: impl Fn(&EntryTable, &WhitelistEntry) -> bool,
        takes_over: impl Fn(&WhitelistEntry) -> bool,
    ) -> Vec<LostCount> {
        let mut added: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, entry) in new.iter().enumerate() {
            if is_added(&self.table, entry) {
                added.entry(entry.item.as_str()).or_default().push(index);
            }
        }
        let mut lost = Vec::new();
        for (item, indices) in added {
            let Some(mut before) = removed.remove(item) else { continue };
            // Entries may share a name.
            before.sort_unstable();
            before.dedup();
            let used = before.iter().map(|key| self.table.usage_of(key));
            let usage = used.fold(EntryUsage::default(), EntryUsage::plus);
            if 0 < usage.quantity {
                before.retain(|key| 0 < self.table.usage_of(key).quantity);
            }
            let removed = before.pop().filter(|_key| before.is_empty());
            if let ([index], Some(from)) = (indices.as_slice(), &removed)
                && let Some(to) = new.get(*index).filter(|to| takes_over(to))
                && !from.is_name()
                && self.table.slot(&EntryKey::of(to)).is_none()
            {
                self.rename(from, EntryKey::of(to));
            } else if 0 < usage.quantity {
                let count = |entry| LostCount { entry, usage, removed: removed.clone() };
                lost.extend(indices.into_iter().map(count));
            }
        }
        lost.sort_by_key(|lost| lost.entry);
        self.new = self.table.set(new);
        lost
    }

    /// Describes the entries that continue the count of a removed one.
    pub fn continued(&self) -> impl Iterator<Item = String> {
        self.renamed.iter().filter_map(|RenamedEntry { slot, from, to }| {
            let EntryUsage { quantity, total } = self.table.own_usage(*slot);
            let (from, to) = (Escaped(from.label()), Escaped(to.label()));
            (0 < quantity).then(|| {
                format!(
                    "Entry {to} continues the count of the removed entry {from}: {quantity} bought \
                     for {total}"
                )
            })
        })
    }

    fn rename(&mut self, from: &EntryKey, to: EntryKey) {
        if let Some(slot) = self.table.slot(from) {
            self.table.rename(slot, from, to.clone());
            self.renamed.push(RenamedEntry { slot, from: from.clone(), to });
        }
    }
}

/// Limits and whitelist, durable and ready to be used.
#[derive(Clone, Debug)]
pub struct LedgerRules {
    budget: Budget,
    /// Number of the limits in the database.
    number: u32,
    table: EntryTable,
}

/// Rows of new rules for the database, and the sender for the result.
#[derive(Clone, Debug)]
pub(super) struct RulesMessage {
    pub(super) budget: Budget,
    pub(super) at: UnixMs,
    pub(super) first_new: EntrySlot,
    pub(super) new: Vec<(EntrySlot, EntryKey)>,
    pub(super) renamed: Vec<RenamedEntry>,
    pub(super) groups: GroupNames,
    /// Receives the number of the limits, or the reason of a failure. Has no buffer: a failed send
    /// means that the reload has given up.
    pub(super) done: SyncSender<Result<u32, String>>,
}

/// Makes new rules durable.
#[derive(Clone, Debug)]
pub struct RulesRecorder {
    /// `None` if the ledger is only in memory.
    messages: Option<SyncSender<WriterMessage>>,
}

impl RulesRecorder {
    /// Writes the limits and the new entries, and waits for the disk. Must not be called by the
    /// thread of the orders.
    ///
    /// # Errors
    ///
    /// Returns the reason if they are not durable.
    pub fn record(
        &self,
        plan: EntryPlan,
        budget: Budget,
        at: UnixMs,
    ) -> Result<LedgerRules, String> {
        let EntryPlan { table, first_new, new, renamed } = plan;
        let Some(messages) = &self.messages else {
            return Ok(LedgerRules { budget, number: 0, table });
        };
        let (done, result) = sync_channel(0);
        let (limits, groups) = (budget.clone(), table.group_names());
        let message = RulesMessage { budget: limits, at, first_new, new, renamed, groups, done };
        let closed = || "the ledger is closed".to_owned();
        messages.send(WriterMessage::Rules(Box::new(message))).map_err(|_closed| closed())?;
        let number = match result.recv_timeout(RECORD_MAX) {
            Ok(number) => number?,
            Err(RecvTimeoutError::Disconnected) => return Err(closed()),
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("the disk takes longer than {} s", RECORD_MAX.as_secs()));
            }
        };
        Ok(LedgerRules { budget, number, table })
    }
}

impl Ledger {
    /// Returns a plan for another whitelist, with the slots and the usage of the entries.
    pub fn entry_plan(&self) -> EntryPlan {
        EntryPlan::of(&self.state)
    }

    pub fn rules_recorder(&self) -> RulesRecorder {
        RulesRecorder { messages: self.journal.as_ref().and_then(super::journal::Journal::sender) }
    }

    /// Uses other limits and another whitelist from now on. The usage of the entries stays. Returns
    /// the old rules, so that another thread can free them.
    pub fn replace_rules(&mut self, rules: LedgerRules) -> LedgerRules {
        let LedgerRules { budget, number, table } = rules;
        let old = LedgerRules {
            budget: std::mem::replace(&mut self.state.budget, budget),
            number: std::mem::replace(&mut self.state.limits, number),
            table: self.state.entries.replace(table),
        };
        self.request_limit();
        old
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        domain::{outcome::Outcome, whitelist_entry::ItemPattern},
        ledger::{
            entries::tests::entry,
            order_request::{OrderRequest, RiskRejection},
            reader::LedgerReader,
            tests::{T0, after, budget, coins, disk, order_request},
        },
    };

    fn priced(name: Option<&str>, max: i64) -> WhitelistEntry {
        WhitelistEntry { max_price: coins(max), ..entry(name) }
    }

    /// Replaces the rules as a reload does. Returns the entries whose counts would be lost.
    fn reload(
        ledger: &mut Ledger,
        budget: Budget,
        old: &[WhitelistEntry],
        new: &[WhitelistEntry],
    ) -> Vec<LostCount> {
        let mut plan = ledger.entry_plan();
        let lost = plan.set(old, new, false);
        let rules = ledger.rules_recorder().record(plan, budget, T0).unwrap();
        let _old = ledger.replace_rules(rules);
        lost
    }

    /// Returns the count that an entry would lose, of this many orders for 1 coin each.
    fn lost(entry: usize, quantity: u32, removed: Option<&WhitelistEntry>) -> LostCount {
        let usage = EntryUsage { quantity, total: coins(quantity.into()) };
        LostCount { entry, usage, removed: removed.map(EntryKey::of) }
    }

    fn buy(ledger: &mut Ledger, n: u32, entry: usize) {
        let request = OrderRequest { entry, ..order_request(n, 1) };
        let approved = disk::reserve(ledger, request, T0);
        ledger.sent(approved.key(), T0).unwrap();
        let bought = Outcome::Bought { price: None, server_time: None };
        let _effects = ledger.settle(approved.key(), &bought, T0).unwrap();
    }

    #[test]
    fn named_entries_keep_their_counts_and_lowered_limits_stop_buying() {
        let old = [entry(Some("a")), entry(Some("b"))];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        (1..=3).for_each(|n| buy(&mut ledger, n, 1));
        let other = ItemPattern::Named("Other".to_owned());
        let new = [
            WhitelistEntry { max_quantity: 2, ..priced(Some("b"), 9) },
            WhitelistEntry { item: other, ..entry(Some("c")) },
        ];
        assert_eq!(reload(&mut ledger, budget(), &old, &new), []);
        assert_eq!(
            ledger.reserve(order_request(4, 1), T0).unwrap_err(),
            RiskRejection::EntryQuantity { bought: 3, max: 2 }
        );
        buy(&mut ledger, 5, 1);
        let less = Budget { total: coins(3), ..budget() };
        assert_eq!(reload(&mut ledger, less, &new, &new), []);
        let request = OrderRequest { entry: 1, ..order_request(6, 1) };
        assert_eq!(
            ledger.reserve(request, T0).unwrap_err(),
            RiskRejection::Total { spent: coins(4), price: coins(1), max: coins(3) }
        );
        assert_eq!(ledger.state().spent(), coins(4));
        ledger.state().check().unwrap();
    }

    #[test]
    fn a_changed_entry_without_a_name_is_reported_if_it_has_purchases() {
        let old = [priced(None, 5)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &[priced(None, 6)], false), [], "nothing was bought");
        buy(&mut ledger, 1, 0);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &[priced(None, 6)], false), [lost(0, 1, old.first())]);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &[priced(None, 5), priced(None, 6)], false), [], "both are kept");
    }

    #[test]
    fn a_count_is_never_lost_silently_however_entries_are_renamed() {
        let old = [priced(None, 5), priced(None, 6), priced(Some("c"), 7)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        (0..3).for_each(|n| buy(&mut ledger, n + 1, usize::try_from(n).unwrap()));
        let lost = |new: &[WhitelistEntry]| -> Vec<usize> {
            let lost = ledger.entry_plan().set(&old, new, false);
            lost.into_iter().map(|lost| lost.entry).collect()
        };
        // Both get a name at once, so it is not known which one each was before.
        let named = [priced(Some("a"), 5), priced(Some("b"), 6), old[2].clone()];
        assert_eq!(lost(&named), [0, 1]);
        // One named entry gets another name, and one loses its name.
        assert_eq!(lost(&[old[0].clone(), old[1].clone(), priced(Some("d"), 7)]), [2]);
        assert_eq!(lost(&[old[0].clone(), old[1].clone(), priced(None, 7)]), [2]);
        // One entry at a time takes over its usage.
        assert_eq!(lost(&[priced(Some("a"), 9), old[1].clone(), old[2].clone()]), [0_usize; 0]);
        // Neither a further entry nor a removed one loses a count.
        let more = [old[0].clone(), old[1].clone(), old[2].clone(), priced(Some("e"), 1)];
        assert_eq!(lost(&more), [0_usize; 0]);
        assert_eq!(lost(&old[..1]), [0_usize; 0]);
    }

    #[test]
    fn an_entry_that_was_replaced_before_is_not_replaced_back_silently() {
        let (five, six) = ([priced(None, 5)], [priced(None, 6)]);
        let mut ledger = Ledger::in_memory(budget(), &five, false);
        assert_eq!(reload(&mut ledger, budget(), &five, &six), [], "nothing was bought");
        (1..=3).for_each(|n| buy(&mut ledger, n, 0));
        let replaced = ledger.entry_plan().set(&six, &five, false);
        assert_eq!(replaced, [lost(0, 3, six.first())]);
        // An entry with a name that the ledger knows counts from the usage of that name.
        let named = [priced(Some("a"), 5)];
        assert_eq!(reload(&mut ledger, budget(), &six, &[six[0].clone(), named[0].clone()]), []);
        assert_eq!(reload(&mut ledger, budget(), &[], &named), []);
        (4..=5).for_each(|n| buy(&mut ledger, n, 0));
        assert_eq!(reload(&mut ledger, budget(), &[], &six), []);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&six, &named, false), [lost(0, 3, six.first())]);
        let slot = plan.table.slot(&EntryKey::of(&named[0])).unwrap();
        assert_eq!(plan.table.used(slot), EntryUsage { quantity: 2, total: coins(2) });
    }

    #[test]
    fn two_reloads_lose_no_count_either() {
        let old = [priced(None, 5)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        (1..=3).for_each(|n| buy(&mut ledger, n, 0));
        assert_eq!(reload(&mut ledger, budget(), &old, &[]), []);
        let [first, second] = [0, 1].map(|entry| lost(entry, 3, old.first()));
        assert_eq!(
            ledger.entry_plan().set(&[], &[priced(None, 6)], false),
            std::slice::from_ref(&first)
        );
        // Two names for one count.
        let two = [priced(Some("a"), 6), priced(Some("b"), 7)];
        assert_eq!(ledger.entry_plan().set(&[], &two, false), [first, second]);
        // The same entry, and another item, count from their own usage.
        assert_eq!(ledger.entry_plan().set(&[], &old, false), []);
        let other = ItemPattern::Named("Other".to_owned());
        let other = [WhitelistEntry { item: other, ..priced(None, 6) }];
        assert_eq!(ledger.entry_plan().set(&[], &other, false), []);
        let named = [WhitelistEntry { max_quantity: 3, ..priced(Some("a"), 6) }];
        assert_eq!(reload(&mut ledger, budget(), &[], &named), []);
        assert_eq!(
            ledger.reserve(order_request(4, 1), T0).unwrap_err(),
            RiskRejection::EntryQuantity { bought: 3, max: 3 }
        );
    }

    #[test]
    fn a_removed_count_that_a_name_continues_is_reported_and_dropped_on_request() {
        let old = [priced(None, 5)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        (1..=3).for_each(|n| buy(&mut ledger, n, 0));
        assert_eq!(reload(&mut ledger, budget(), &old, &[]), []);
        let named = [priced(Some("a"), 5)];
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&[], &named, false), []);
        let continued: Vec<String> = plan.continued().collect();
        let label = EntryKey::of(&old[0]);
        let label = label.label();
        let text = "continues the count of the removed entry";
        assert_eq!(continued, [format!("Entry a {text} {label}: 3 bought for 3.00")]);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&[], &named, true), []);
        assert_eq!(plan.continued().next(), None);
        assert_eq!(plan.table.usage_of(&EntryKey::of(&named[0])), EntryUsage::default());
        // The entry that this reload replaces is continued nevertheless.
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &named, true), []);
        assert_eq!(plan.continued().count(), 1);
    }

    #[test]
    fn the_count_of_removed_entries_with_one_name_is_reported_once() {
        let old = [priced(Some("a"), 5), priced(Some("a"), 6)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        buy(&mut ledger, 1, 0);
        let reported = ledger.entry_plan().set(&old, &[priced(None, 7)], false);
        assert_eq!(reported, [lost(0, 1, old.first())]);
    }

    #[test]
    fn a_removed_entry_without_purchases_hides_no_earlier_one() {
        let [first, second, third] = [5, 6, 7].map(|max| [priced(None, max)]);
        let mut ledger = Ledger::in_memory(budget(), &first, false);
        (1..=3).for_each(|n| buy(&mut ledger, n, 0));
        assert_eq!(reload(&mut ledger, budget(), &first, &second), [lost(0, 3, first.first())]);
        assert_eq!(ledger.entry_plan().set(&second, &third, false), [lost(0, 3, first.first())]);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&second, &[priced(Some("a"), 7)], false), []);
        assert_eq!(plan.continued().count(), 1);
        assert_eq!(ledger.entry_plan().set(&second, &first, false), [], "it has its own count");
        buy(&mut ledger, 4, 0);
        assert_eq!(ledger.entry_plan().set(&second, &third, false), [lost(0, 4, None)]);
    }

    /// Opens the ledger in this folder for orders.
    fn start(folder: &Path, entries: &[WhitelistEntry], now: UnixMs) -> Ledger {
        let location = disk::location(folder, "boot");
        let mut ledger = Ledger::open(&location, disk::limits(), entries, now).unwrap();
        disk::ready(&mut ledger, now);
        ledger
    }

    #[test]
    fn an_entry_that_was_edited_before_a_start_keeps_its_count() {
        let folder = tempfile::tempdir().unwrap();
        let start = |entries: &[WhitelistEntry], now| start(folder.path(), entries, now);
        let mut ledger = start(&[priced(None, 5)], T0);
        buy(&mut ledger, 1, 0);
        drop(ledger);
        let count = |ledger: &Ledger| ledger.state().entry_usage(0).map(|used| used.quantity);
        let edits = [priced(None, 6), priced(Some("a"), 7), priced(Some("a"), 8)];
        for (minutes, edited) in (1..).zip(edits) {
            let ledger = start(&[edited], after(60 * minutes));
            assert_eq!(count(&ledger), Some(1), "edit {minutes}");
        }
        // The count of a name is not that of another entry.
        assert_eq!(count(&start(&[priced(None, 5)], after(600))), Some(0));
    }

    #[test]
    fn purchases_while_a_reload_is_prepared_are_counted() {
        let entries = [entry(Some("a"))];
        let mut ledger = Ledger::in_memory(budget(), &entries, false);
        let limited = [WhitelistEntry { max_quantity: 1, ..entry(Some("a")) }];
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&entries, &limited, false), []);
        let rules = ledger.rules_recorder().record(plan, budget(), T0).unwrap();
        buy(&mut ledger, 1, 0);
        let _old = ledger.replace_rules(rules);
        assert_eq!(
            ledger.reserve(order_request(2, 1), T0).unwrap_err(),
            RiskRejection::EntryQuantity { bought: 1, max: 1 }
        );
        ledger.state().check().unwrap();
    }

    #[test]
    fn an_entry_that_gets_a_name_keeps_its_count() {
        let old = [priced(None, 5)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        buy(&mut ledger, 1, 0);
        let named = [WhitelistEntry { max_quantity: 1, ..priced(Some("one"), 6) }];
        assert_eq!(reload(&mut ledger, budget(), &old, &named), []);
        assert_eq!(
            ledger.reserve(order_request(2, 1), T0).unwrap_err(),
            RiskRejection::EntryQuantity { bought: 1, max: 1 }
        );
    }

    #[test]
    fn a_reload_that_gave_up_waiting_for_the_disk_renames_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        let old = [priced(None, 5)];
        let mut ledger = start(folder.path(), &old, T0);
        buy(&mut ledger, 1, 0);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &[priced(Some("a"), 5)], false), []);
        let EntryPlan { table, first_new, new, renamed } = plan;
        assert_eq!(renamed.len(), 1);
        let (done, result) = sync_channel(0);
        drop(result);
        let (budget, groups) = (disk::limits(), table.group_names());
        let message = RulesMessage { budget, at: T0, first_new, new, renamed, groups, done };
        let messages = ledger.rules_recorder().messages.unwrap();
        messages.send(WriterMessage::Rules(Box::new(message))).unwrap();
        // Answered after the message before it.
        let plan = ledger.entry_plan();
        let _rules = ledger.rules_recorder().record(plan, disk::limits(), T0).unwrap();
        let image = disk::crash_image(folder.path());
        let ledger = start(image.path(), &old, after(60));
        assert_eq!(ledger.state().entry_usage(0).map(|used| used.quantity), Some(1));
    }

    #[test]
    fn reloaded_entries_and_limits_are_in_the_database_before_the_first_order() {
        let folder = tempfile::tempdir().unwrap();
        let old = disk::entries();
        let mut ledger = disk::open(folder.path(), "boot", T0);
        buy(&mut ledger, 1, 0);
        // A reload that was not carried out leaves rows that the next one replaces.
        let mut plan = ledger.entry_plan();
        let _lost = plan.set(&old, &[entry(Some("given up")), entry(None)], false);
        drop(ledger.rules_recorder().record(plan, disk::limits(), T0).unwrap());
        let new = [entry(Some("third")), old[0].clone(), entry(Some("given up"))];
        let limits = Budget { max_price: coins(7), ..disk::limits() };
        assert_eq!(reload(&mut ledger, limits.clone(), &old, &new), []);
        buy(&mut ledger, 2, 0);
        buy(&mut ledger, 3, 2);
        // The image has the files that a killed process leaves.
        let image = disk::crash_image(folder.path());
        let reader = LedgerReader::open(image.path()).unwrap();
        assert_eq!(reader.state().budget(), &limits);
        let labels: Vec<&str> =
            reader.state().intents().iter().map(|intent| reader.label(intent)).collect();
        assert_eq!(labels, ["first", "third", "given up"]);
        drop(reader);
        let location = disk::location(image.path(), "boot");
        let mut ledger = Ledger::open(&location, limits, &new, after(60)).unwrap();
        disk::ready(&mut ledger, after(60));
        ledger.state().check().unwrap();
        let used: Vec<(String, u32)> = ledger
            .state()
            .entries()
            .map(|(key, used)| (key.label().to_owned(), used.quantity))
            .collect();
        for label in ["first", "third", "given up"] {
            assert!(used.contains(&(label.to_owned(), 1)), "{label}: {used:?}");
        }
    }
}
