//! Snapshot of a session for other threads: the dashboard and its metrics.
//!
//! A reader requests one and is woken once the session's own thread has built it between two
//! listings. So no reader holds the lock of the engine, and without a request nothing is built.

use std::{
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use super::{
    OrderSender,
    activity::{
        InlineText, MatchResult, NearMiss, ORDERS_KEPT_MAX, OrderProgress, RecentMatch,
        RecentOrder, entry_label, item_name,
    },
    engine::{Candidate, Engine, Executor, Now},
    stats::SessionStats,
    trade_log::MatchedEntry,
};
use crate::{
    domain::latency::LatencyBuckets,
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::Trade,
    domain::whitelist_entry::EntryGroup,
    ledger::{
        ClosedEntries, Intent, OrderState, Snapshot,
        entries::EntryUsage,
        price_status::has_stale_prices,
        status::{FeedStatus, LedgerStatus},
    },
    prices::PriceBook,
    threads::lock,
    whitelist::Whitelist,
};

/// Maximum number of entries whose counts are in a snapshot.
pub const ENTRIES_MAX: usize = 200;

/// Maximum number of entries that one snapshot examines. A longer whitelist takes several.
const SCANNED_MAX: usize = 1_000;

/// Maximum number of groups in a snapshot.
const GROUPS_MAX: usize = 100;

/// State of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    Open,
    Paused,
    UsedUp,
    StalePrices,
}

/// Finds the used entries of a whitelist, and why no listing can be ordered for any entry. It
/// examines a part of a long whitelist with each snapshot, because a listing waits meanwhile.
#[derive(Debug)]
pub(super) struct EntryScan {
    next: usize,
    /// Number of entries that were examined since the last one in each [`EntryState`].
    since: [usize; 4],
    /// At most [`ENTRIES_MAX`], sorted.
    used: Vec<usize>,
}

impl Default for EntryScan {
    /// Allocates now, because a match must not.
    fn default() -> Self {
        let since = [0, usize::MAX, usize::MAX, usize::MAX];
        Self { next: 0, since, used: Vec::with_capacity(ENTRIES_MAX) }
    }
}

impl EntryScan {
    pub(super) fn add_used(&mut self, index: usize) {
        if self.used.len() < ENTRIES_MAX
            && let Err(place) = self.used.binary_search(&index)
        {
            self.used.insert(place, index);
        }
    }

    /// Examines the next entries: whether each is used, and its state. Returns the reason if none
    /// of the last `count` permits an order.
    fn advance(
        &mut self,
        count: usize,
        mut examine: impl FnMut(usize) -> (bool, EntryState),
    ) -> Option<ClosedEntries> {
        use EntryState::{Open, Paused, StalePrices, UsedUp};
        for _ in 0..count.min(SCANNED_MAX) {
            self.next = if self.next < count { self.next } else { 0 };
            let (is_used, state) = examine(self.next);
            if is_used {
                self.add_used(self.next);
            }
            let states = [Open, Paused, UsedUp, StalePrices];
            for (since, other) in self.since.iter_mut().zip(states) {
                *since = if other == state { 0 } else { since.saturating_add(1) };
            }
            self.next = self.next.saturating_add(1);
        }
        match self.since.map(|since| since < count) {
            [true, ..] => None,
            [_, _, _, true] => Some(ClosedEntries::StalePrices),
            [_, _, true, _] => Some(ClosedEntries::UsedUp),
            [_, true, ..] => Some(ClosedEntries::Paused),
            _ => None,
        }
    }

    /// Returns the used entries and the first others, sorted.
    fn shown(&self, count: usize) -> Vec<usize> {
        let others = (0..count).filter(|index| self.used.binary_search(index).is_err());
        let places = ENTRIES_MAX.saturating_sub(self.used.len());
        let mut shown: Vec<usize> = self.used.iter().copied().chain(others.take(places)).collect();
        shown.sort_unstable();
        shown
    }
}

/// Counts of one whitelist entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// Position in the whitelist.
    pub index: usize,
    /// Listings of this session that matched it.
    pub matched: u64,
    /// Orders over the life of the ledger.
    pub used: EntryUsage,
}

/// Usage and limits of one group of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCounts {
    pub group: EntryGroup,
    /// Orders of all its entries over the life of the ledger, including those of removed entries.
    pub used: EntryUsage,
}

/// Counters of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    pub listings: u64,
    pub matched: u64,
    pub unreadable: u64,
    /// Bought orders, including unknown ones of any session that turned out to be bought.
    pub bought: u64,
    pub returned: u64,
    pub rejected: u64,
    pub unknown: u64,
    pub unknown_messages: u64,
    pub not_sent: u64,
    pub would_buy: u64,
    /// Matched listings that were not ordered, by reason.
    pub skipped: Vec<(&'static str, u64)>,
    /// Listings that wait until they open, or until an order can be sent.
    pub waiting: usize,
    /// Open order connections.
    pub connections: usize,
}

/// State of a session at one time.
#[derive(Clone, Debug)]
pub struct SessionView {
    pub at: UnixMs,
    pub is_live: bool,
    pub running: Duration,
    pub ledger: Snapshot,
    /// Status as for `sniper status`, but without prices, priorities and paused entries.
    pub status: LedgerStatus,
    pub counts: SessionCounts,
    pub latency: Arc<LatencyBuckets>,
    /// Newest first, like the next two.
    pub orders: Vec<RecentOrder>,
    pub matches: Vec<RecentMatch>,
    pub near_misses: Vec<NearMiss>,
    pub whitelist: Arc<Whitelist>,
    pub prices: Arc<PriceBook>,
    /// At most [`ENTRIES_MAX`] entries in the order of the whitelist. If it has more, those that
    /// matched or were ordered are chosen, then the first others.
    pub entries: Vec<EntryCounts>,
    /// The first [`GROUPS_MAX`] groups.
    pub groups: Vec<GroupCounts>,
}

/// Last snapshot, and the request for another one.
#[derive(Debug, Default)]
pub(super) struct ViewCell {
    is_requested: AtomicBool,
    /// Time of the session's last turn; `None` before the first.
    last_turn: Mutex<Option<Instant>>,
    view: Mutex<Option<Arc<SessionView>>>,
    is_published: Notify,
}

impl ViewCell {
    pub(super) fn is_requested(&self) -> bool {
        self.is_requested.load(Ordering::Acquire)
    }

    pub(super) fn on_turn(&self) {
        *self.last_turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Publishes a snapshot. Does not wait: if a reader holds the lock, the request stays.
    pub(super) fn publish(&self, view: SessionView) {
        let mut place = match self.view.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // The request is cleared first, so that one that arrives now leads to a newer snapshot.
        self.is_requested.store(false, Ordering::Release);
        *place = Some(Arc::new(view));
        drop(place);
        self.is_published.notify_one();
    }
}

/// Requests snapshots of a session. It keeps neither the session nor its ledger open.
#[derive(Clone, Debug)]
pub struct SessionWatch {
    pub(super) cell: Arc<ViewCell>,
    /// Wakes the session's thread.
    pub(super) changed: Arc<Notify>,
}

impl SessionWatch {
    /// Returns `true` if the session's thread has looked for work within `max`, which it does at
    /// least twice a second. Requests nothing of it.
    pub fn has_turned_within(&self, max: Duration) -> bool {
        let last = *self.cell.last_turn.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() <= max)
    }

    /// Returns a new snapshot, or `None` if the session did not build one within `max_wait`. Only
    /// one task may wait at a time.
    ///
    /// # Cancel safety
    ///
    /// Safe: a snapshot that is published later is replaced by the next one.
    pub async fn next(&self, max_wait: Duration) -> Option<Arc<SessionView>> {
        drop(lock(&self.cell.view).take());
        self.cell.is_requested.store(true, Ordering::Release);
        self.changed.notify_one();
        let published = async {
            loop {
                if let Some(view) = lock(&self.cell.view).clone() {
                    return view;
                }
                self.cell.is_published.notified().await;
            }
        };
        timeout(max_wait, published).await.ok()
    }
}

impl<B: OrderSender> Engine<B> {
    /// Returns the state of the session. `feed` is the state of its feed.
    pub fn view(&mut self, feed: FeedStatus, running: Duration, now: Now) -> SessionView {
        let ledger = self.ledger.snapshot(now.wall);
        let (mode, failure) = (self.executor.mode(), self.ledger.failure());
        let mut status = LedgerStatus::from_snapshot(&ledger, mode, failure, now.wall);
        self.complete_status(&mut status, feed, Some(running), (&ledger, now));
        let groups = self.ledger.state().groups();
        let groups = groups.map(|(group, used)| GroupCounts { group: group.clone(), used });
        SessionView {
            at: now.wall,
            is_live: self.executor.is_live(),
            running,
            entries: self.shown_entries(),
            groups: groups.take(GROUPS_MAX).collect(),
            counts: self.counts(),
            latency: self.stats.latency.buckets(),
            orders: self.activity.orders(),
            matches: self.activity.matches(),
            near_misses: self.activity.near_misses(),
            whitelist: Arc::clone(&self.whitelist),
            prices: Arc::clone(&self.prices),
            ledger,
            status,
        }
    }

    /// Begins to record the recent events, with the purchases of earlier runs before them.
    pub(super) fn observe(&mut self) {
        if self.activity.is_observed() {
            return;
        }
        self.activity.observe();
        let state = self.ledger.state();
        let orders = state.intents().iter().rev().filter(|order| {
            order.state.is_open()
                || matches!(order.state, OrderState::Completed | OrderState::Returned)
        });
        let recent = |order: &Intent| RecentOrder {
            key: order.key(),
            at: order.reserved_at,
            item: InlineText::new(self.item_name(&order.id).unwrap_or(order.id.as_str())),
            entry: InlineText::new(state.label(order)),
            price: order.price,
            latency: None,
            response_time: None,
            result: OrderProgress::Resolved(order.state),
        };
        let past: Vec<RecentOrder> = orders.take(ORDERS_KEPT_MAX).map(recent).collect();
        past.into_iter().rev().for_each(|order| self.activity.add_purchase(order));
    }

    /// Records a match for the dashboard, after its order.
    pub(super) fn remember_match(&mut self, trade: &Trade<'_>, entry: usize, now: Now) {
        if !self.activity.is_observed() {
            return;
        }
        self.entry_scan.add_used(entry);
        let is_deferred =
            self.held.get(&trade.id).is_some() || self.queue.with_id(trade.id).next().is_some();
        let result = match (self.stats.last_skip, &self.executor) {
            (Some(reason), _) => MatchResult::Skipped(reason.text),
            (None, _) if is_deferred => MatchResult::Waiting,
            (None, Executor::Dry) => MatchResult::WouldBuy,
            (None, Executor::Live(_)) => MatchResult::Ordered,
        };
        let MatchedEntry { entry, reference, .. } = self.matched(trade, entry, now);
        let found = RecentMatch {
            at: now.wall,
            item: item_name(trade),
            entry: entry_label(entry),
            price: trade.total_value,
            limit: entry.map_or(Amount::ZERO, |entry| entry.max_price),
            share: reference.map(|decided| decided.share),
            result,
        };
        self.activity.add_match(found);
    }

    /// Records an order for the dashboard and the obstacles, after it was sent.
    pub(super) fn remember_order(
        &mut self,
        Candidate { trade, entry, .. }: Candidate<'_, '_>,
        price: Amount,
        latency: Option<Duration>,
        now: Now,
    ) {
        if !self.activity.is_observed() {
            return;
        }
        self.activity.add_order(RecentOrder {
            key: self.keyed_by.key(trade.id, Some(price)),
            at: now.wall,
            item: item_name(trade),
            entry: entry_label(self.whitelist.entries().get(entry)),
            price,
            latency,
            response_time: None,
            result: match latency {
                Some(_) => OrderProgress::Sent,
                None => OrderProgress::WouldBuy,
            },
        });
    }

    /// Examines the next entries, and remembers the reason if no entry permits an order.
    pub(super) fn scan_entries(&mut self, now: UnixMs) {
        let now = self.price_time(now);
        let Self { whitelist, ledger, match_counts, entry_scan, prices, .. } = self;
        let (entries, state) = (whitelist.entries(), ledger.state());
        self.alerting.blocked_entries = entry_scan.advance(entries.len(), |index| {
            let is_ordered = state.entry_usage(index).is_some_and(|used| 0 < used.quantity);
            let slot = state.entry_slot(index);
            let is_used = is_ordered || slot.is_some_and(|slot| match_counts.contains_key(&slot));
            let entry = entries.get(index);
            let min = entry.map_or(Amount::ZERO, |entry| entry.min_price);
            let state = if whitelist.is_paused(index) {
                EntryState::Paused
            } else if !state.can_order(index, min) {
                EntryState::UsedUp
            } else if entry.is_some_and(|entry| has_stale_prices(entry, prices, now)) {
                EntryState::StalePrices
            } else {
                EntryState::Open
            };
            (is_used, state)
        });
    }

    fn shown_entries(&self) -> Vec<EntryCounts> {
        let count = |index| EntryCounts {
            index,
            matched: self.match_count(index),
            used: self.ledger.state().entry_usage(index).unwrap_or_default(),
        };
        self.entry_scan.shown(self.entries_count()).into_iter().map(count).collect()
    }

    fn counts(&self) -> SessionCounts {
        let SessionStats { listings, matched, unreadable, returned, rejected, .. } = self.stats;
        let SessionStats { unknown, unknown_messages, not_sent, would_buy, .. } = self.stats;
        let skipped = &self.stats.skipped;
        SessionCounts {
            listings,
            matched,
            unreadable,
            bought: self.stats.bought_in_all(),
            returned,
            rejected,
            unknown,
            unknown_messages,
            not_sent,
            would_buy,
            skipped: skipped.iter().map(|(reason, count)| (reason.name, *count)).collect(),
            waiting: self.held.len().saturating_add(self.queue.len()),
            connections: self.alerting.connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_a_long_whitelist_examines_a_bounded_number_of_entries() {
        let (count, mut scan) = (100_000, EntryScan::default());
        let mut examined = Vec::new();
        let mut open = Some(99_999);
        for snapshot in 1..=300 {
            let before = examined.len();
            let closed = scan.advance(count, |index| {
                examined.push(index);
                let states = [EntryState::Paused, EntryState::Open];
                (index % 1_000 == 7, states[usize::from(open == Some(index))])
            });
            assert_eq!(examined.len() - before, SCANNED_MAX);
            assert_eq!(scan.shown(count).len(), ENTRIES_MAX);
            // The whitelist was seen once with an entry that permits an order, and once without.
            let expected = (200 <= snapshot).then_some(ClosedEntries::Paused);
            assert_eq!(closed, expected, "{snapshot}");
            open = open.filter(|_open| snapshot < 100);
        }
        assert_eq!(examined[..count], (0..count).collect::<Vec<_>>());
        let used: Vec<usize> = (0..count).filter(|index| index % 1_000 == 7).collect();
        assert!(used.iter().all(|index| scan.shown(count).contains(index)));
        assert!(scan.shown(count).contains(&(ENTRIES_MAX - used.len() - 1)));
    }

    #[test]
    fn no_entry_permits_an_order_for_the_reason_of_those_that_are_not_paused() {
        use EntryState::{Open, Paused, StalePrices, UsedUp};
        let mut scan = EntryScan::default();
        let mut scan =
            |states: [EntryState; 3]| scan.advance(states.len(), |index| (false, states[index]));
        assert_eq!(scan([Paused, UsedUp, Open]), None);
        assert_eq!(scan([Paused; 3]), Some(ClosedEntries::Paused));
        assert_eq!(scan([Paused, UsedUp, Paused]), Some(ClosedEntries::UsedUp));
        assert_eq!(scan([Paused, UsedUp, StalePrices]), Some(ClosedEntries::StalePrices));
        assert_eq!(scan([Paused; 3]), Some(ClosedEntries::Paused), "the others have ended");
        assert_eq!(scan([Open; 3]), None);
    }
}
