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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCount {
    /// Position in the new whitelist.
    pub entry: usize,
    /// Usage of the removed entries for its item.
    pub usage: EntryUsage,
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
        for LostCount { entry, usage } in plan.set_at_start(entries) {
            let label = entries.get(entry).map_or("?", WhitelistEntry::label);
            warn!(
                "Entry {} begins at 0: removed entries without a name for its item have bought {} \
                 for {}; lower its limits, or give entries names, which keep their counts",
                Escaped(label),
                usage.quantity,
                usage.total
            );
        }
        for RenamedEntry { slot, from, to } in &plan.renamed {
            let usage = plan.table.own_usage(*slot);
            warn!(
                "Entry {} continues the count of the removed entry {}: {} bought for {}",
                Escaped(to.label()),
                Escaped(from.label()),
                usage.quantity,
                usage.total
            );
        }
        state.entries.replace(plan.table);
        (plan.new, plan.renamed)
    }

    /// Assigns the entries of a new whitelist to the slots of the ledger.
    ///
    /// An entry that gets a name takes over the usage of the removed entry for the same item, if
    /// there is exactly one removed and one new entry for it and the ledger does not know the name.
    /// Returns the other new entries for an item of which a removed entry has bought something: its
    /// usage would no longer count. If `old` has no entry for the item, those without a name that
    /// were removed before count as removed, so that two reloads lose no count either.
    pub fn set(&mut self, old: &[WhitelistEntry], new: &[WhitelistEntry]) -> Vec<LostCount> {
        let keys: HashSet<EntryKey> = new.iter().map(EntryKey::of).collect();
        let mut removed: HashMap<&str, Vec<EntryKey>> = HashMap::new();
        for entry in old {
            let key = EntryKey::of(entry);
            if !keys.contains(&key) {
                removed.entry(entry.item.as_str()).or_default().push(key);
            }
        }
        // An entry that the ledger knows from an earlier whitelist is an added one too: it counts
        // from its own usage.
        let before: HashSet<EntryKey> = old.iter().map(EntryKey::of).collect();
        let is_added = |_table: &EntryTable, key: &EntryKey| !before.contains(key);
        self.assign(&removed, new, is_added, |to| to.name.is_some())
    }

    /// Assigns the entries of a start, as [`set`](Self::set) does for a reload. A start cannot ask
    /// the user, so an entry without a name takes over a usage too.
    pub(super) fn set_at_start(&mut self, new: &[WhitelistEntry]) -> Vec<LostCount> {
        let is_added = |table: &EntryTable, key: &EntryKey| table.slot(key).is_none();
        self.assign(&HashMap::new(), new, is_added, |_to| true)
    }

    fn assign(
        &mut self,
        removed: &HashMap<&str, Vec<EntryKey>>,
        new: &[WhitelistEntry],
        is_added: impl Fn(&EntryTable, &EntryKey) -> bool,
        takes_over: impl Fn(&WhitelistEntry) -> bool,
    ) -> Vec<LostCount> {
        let earlier = self.table.removed_unnamed(new);
        let mut added: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, entry) in new.iter().enumerate() {
            let (key, item) = (EntryKey::of(entry), entry.item.as_str());
            let slot = self.table.slot(&key);
            let continues = slot.is_some_and(|slot| {
                entry.name.is_some() || 0 < self.table.own_usage(slot).quantity
            });
            if is_added(&self.table, &key) && (removed.contains_key(item) || !continues) {
                added.entry(item).or_default().push(index);
            }
        }
        let mut lost = Vec::new();
        for (item, indices) in added {
            let Some(before) = removed.get(item).or_else(|| earlier.get(item)) else { continue };
            if let ([index], [from]) = (indices.as_slice(), before.as_slice())
                && let Some(to) = new.get(*index).filter(|to| takes_over(to))
                && !from.is_name()
                && self.table.slot(&EntryKey::of(to)).is_none()
            {
                self.rename(from, EntryKey::of(to));
                continue;
            }
            let slots = before.iter().filter_map(|key| self.table.slot(key));
            let used = slots.map(|slot| self.table.used(slot));
            let usage = used.fold(EntryUsage::default(), EntryUsage::plus);
            if 0 < usage.quantity {
                lost.extend(indices.into_iter().map(|entry| LostCount { entry, usage }));
            }
        }
        lost.sort_by_key(|lost| lost.entry);
        self.new = self.table.set(new);
        lost
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
        if let Some(journal) = &self.journal {
            journal.request_limit(self.state.limit_to_request(journal.sync_time()));
        }
        old
    }
}

#[cfg(test)]
mod tests {
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
        let lost = plan.set(old, new);
        let rules = ledger.rules_recorder().record(plan, budget, T0).unwrap();
        let _old = ledger.replace_rules(rules);
        lost
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
        assert_eq!(plan.set(&old, &[priced(None, 6)]), [], "nothing was bought");
        buy(&mut ledger, 1, 0);
        let mut plan = ledger.entry_plan();
        let usage = EntryUsage { quantity: 1, total: coins(1) };
        assert_eq!(plan.set(&old, &[priced(None, 6)]), [LostCount { entry: 0, usage }]);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &[priced(None, 5), priced(None, 6)]), [], "both are kept");
    }

    #[test]
    fn a_count_is_never_lost_silently_however_entries_are_renamed() {
        let old = [priced(None, 5), priced(None, 6), priced(Some("c"), 7)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        (0..3).for_each(|n| buy(&mut ledger, n + 1, usize::try_from(n).unwrap()));
        let lost = |new: &[WhitelistEntry]| -> Vec<usize> {
            let lost = ledger.entry_plan().set(&old, new);
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
        let usage = EntryUsage { quantity: 3, total: coins(3) };
        let lost = ledger.entry_plan().set(&six, &five);
        assert_eq!(lost, [LostCount { entry: 0, usage }]);
        // An entry with a name that the ledger knows counts from the usage of that name.
        let named = [priced(Some("a"), 5)];
        assert_eq!(reload(&mut ledger, budget(), &six, &[six[0].clone(), named[0].clone()]), []);
        assert_eq!(reload(&mut ledger, budget(), &[], &named), []);
        (4..=5).for_each(|n| buy(&mut ledger, n, 0));
        assert_eq!(reload(&mut ledger, budget(), &[], &six), []);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&six, &named), [LostCount { entry: 0, usage }]);
        let slot = plan.table.slot(&EntryKey::of(&named[0])).unwrap();
        assert_eq!(plan.table.used(slot), EntryUsage { quantity: 2, total: coins(2) });
    }

    #[test]
    fn two_reloads_lose_no_count_either() {
        let old = [priced(None, 5)];
        let mut ledger = Ledger::in_memory(budget(), &old, false);
        (1..=3).for_each(|n| buy(&mut ledger, n, 0));
        assert_eq!(reload(&mut ledger, budget(), &old, &[]), []);
        let usage = EntryUsage { quantity: 3, total: coins(3) };
        let lost = LostCount { entry: 0, usage };
        assert_eq!(ledger.entry_plan().set(&[], &[priced(None, 6)]), [lost]);
        // Two names for one count.
        let two = [priced(Some("a"), 6), priced(Some("b"), 7)];
        assert_eq!(ledger.entry_plan().set(&[], &two), [lost, LostCount { entry: 1, usage }]);
        // The same entry, and another item, count from their own usage.
        assert_eq!(ledger.entry_plan().set(&[], &old), []);
        let other = ItemPattern::Named("Other".to_owned());
        let other = [WhitelistEntry { item: other, ..priced(None, 6) }];
        assert_eq!(ledger.entry_plan().set(&[], &other), []);
        let named = [WhitelistEntry { max_quantity: 3, ..priced(Some("a"), 6) }];
        assert_eq!(reload(&mut ledger, budget(), &[], &named), []);
        assert_eq!(
            ledger.reserve(order_request(4, 1), T0).unwrap_err(),
            RiskRejection::EntryQuantity { bought: 3, max: 3 }
        );
    }

    #[test]
    fn an_entry_that_was_edited_before_a_start_keeps_its_count() {
        let folder = tempfile::tempdir().unwrap();
        let start = |entries: &[WhitelistEntry], now| {
            let place = disk::place(folder.path(), "boot");
            let mut ledger = Ledger::open(&place, disk::limits(), entries, now).unwrap();
            disk::ready(&mut ledger, now);
            ledger
        };
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
        assert_eq!(plan.set(&entries, &limited), []);
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
        let open = |path: &std::path::Path, now| {
            let mut ledger =
                Ledger::open(&disk::place(path, "boot"), disk::limits(), &old, now).unwrap();
            disk::ready(&mut ledger, now);
            ledger
        };
        let mut ledger = open(folder.path(), T0);
        buy(&mut ledger, 1, 0);
        let mut plan = ledger.entry_plan();
        assert_eq!(plan.set(&old, &[priced(Some("a"), 5)]), []);
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
        let ledger = open(image.path(), after(60));
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
        let _lost = plan.set(&old, &[entry(Some("given up")), entry(None)]);
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
        let place = disk::place(image.path(), "boot");
        let mut ledger = Ledger::open(&place, limits, &new, after(60)).unwrap();
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
