//! What can be seen of the feed from elsewhere while it runs.
//!
//! Counters and cells, never queues: the feed writes them without waiting and nobody who reads them
//! can hold it up. The one list, of gaps, is touched only when a connection was lost.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::witness::Witness;
use crate::{money::Coins, time::UnixMs};

/// How many gaps are remembered; older ones are only counted.
pub const GAPS_MAX: usize = 1_024;

/// How many connections a feed can have at once.
pub const CONNECTIONS_MAX: usize = 4;

/// A time in which nothing could arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last proof of life before it, by our wall clock.
    pub from: UnixMs,
    /// When data could flow again, by our wall clock; `None` while it lasts.
    pub until: Option<UnixMs>,
    /// When the first data came after it, by our wall clock.
    pub data_at: Option<UnixMs>,
    /// How long it lasted, by the monotonic clock; until now, while it lasts.
    pub lasted: Duration,
    /// How many dials it took.
    pub attempts: u32,
    /// What ended the connection before it.
    pub cause: String,
}

/// What one of several connections was worth.
#[derive(Debug, Default)]
pub struct ConnectionTap {
    /// Listings that it was the first to deliver.
    pub wins: AtomicU64,
    /// Listings that another had delivered already.
    pub late: AtomicU64,
    /// By how much it was late in all, in microseconds.
    pub late_us: AtomicU64,
    /// By how much it was late at most, in microseconds.
    pub late_us_max: AtomicU64,
}

/// What can be seen of the feed.
#[derive(Debug, Default)]
pub struct Taps {
    /// Messages received.
    pub frames: AtomicU64,
    /// Bytes of messages received.
    pub bytes: AtomicU64,
    /// Listings delivered, duplicates apart.
    pub listings: AtomicU64,
    /// Listings that had arrived before, by id.
    pub duplicates: AtomicU64,
    /// Listings that could not be read at all.
    pub unreadable: AtomicU64,
    /// Messages that were not JSON or not of the protocol, binary ones included.
    pub malformed: AtomicU64,
    /// Messages and events of an unknown kind.
    pub unknown: AtomicU64,
    /// Sockets closed because the server broke RFC 6455.
    pub violations: AtomicU64,
    /// Subscriptions that ended on a live link.
    pub ended: AtomicU64,
    /// Events that carried GraphQL errors.
    pub graphql_errors: AtomicU64,
    /// Attempts to connect.
    pub dials: AtomicU64,
    /// Times that the feed was up again after it had been down, rotations apart.
    pub reconnects: AtomicU64,
    /// Connections replaced because of their age.
    pub rotations: AtomicU64,
    /// Listings that a gap had hidden and that were found afterwards.
    pub backfilled: AtomicU64,
    /// Times in which nothing could arrive.
    pub gaps: AtomicU64,
    /// Whether the marketplace keeps the feed out until a person has acted.
    pub is_blocked: AtomicBool,
    /// Whether the feed is up.
    pub is_up: AtomicBool,
    /// Each connection's share.
    pub connections: [ConnectionTap; CONNECTIONS_MAX],
    balance_cents: AtomicI64,
    balance_version: AtomicU64,
    gap_list: Mutex<VecDeque<Gap>>,
    witness: OnceLock<Box<dyn Witness>>,
}

impl Taps {
    /// The last pushed balance and the number of pushes so far: whoever remembers the number knows
    /// whether the balance is news. `None` until there was one.
    pub fn balance(&self) -> Option<(Coins, u64)> {
        match self.balance_version.load(Ordering::Acquire) {
            0 => None,
            version => {
                Some((Coins::from_cents(self.balance_cents.load(Ordering::Acquire)), version))
            }
        }
    }

    /// Frames and messages that could not be read, or of which nobody knows what they mean: what the
    /// summary calls errors of the feed.
    pub fn errors(&self) -> u64 {
        [&self.unreadable, &self.malformed, &self.unknown, &self.violations]
            .iter()
            .fold(0_u64, |sum, counter| sum.saturating_add(counter.load(Ordering::Relaxed)))
    }

    /// The last [`GAPS_MAX`] gaps, oldest first; one that still lasts is the last.
    pub fn gap_list(&self) -> Vec<Gap> {
        self.gap_list.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Lets somebody hear everything that the feed says. There is one such place; says whether it
    /// was free.
    pub fn let_hear(&self, witness: impl Witness + 'static) -> bool {
        self.witness.set(Box::new(witness)).is_ok()
    }

    /// Who hears everything.
    #[inline]
    pub(super) fn witness(&self) -> Option<&dyn Witness> {
        self.witness.get().map(|witness| &**witness)
    }

    pub(super) fn push_balance(&self, balance: Coins) {
        self.balance_cents.store(balance.cents(), Ordering::Release);
        self.balance_version.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn gap_begins(&self, gap: Gap) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        let mut list = self.gap_list.lock().unwrap_or_else(PoisonError::into_inner);
        while list.len() >= GAPS_MAX {
            list.pop_front();
        }
        list.push_back(gap);
    }

    pub(super) fn gap_changes(&self, change: impl FnOnce(&mut Gap)) {
        let mut list = self.gap_list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = list.back_mut().filter(|last| last.until.is_none()) {
            change(last);
        }
    }

    pub(super) fn gap_sees_data(&self, at: UnixMs) {
        let mut list = self.gap_list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = list.back_mut() {
            last.data_at = Some(at);
        }
    }
}

/// Adds to a counter that only this thread writes often.
#[inline]
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_knows_whether_a_balance_is_new() {
        let taps = Taps::default();
        assert_eq!(taps.balance(), None);
        taps.push_balance(Coins::from_cents(-5));
        assert_eq!(taps.balance(), Some((Coins::from_cents(-5), 1)));
        taps.push_balance(Coins::from_cents(-5));
        assert_eq!(taps.balance(), Some((Coins::from_cents(-5), 2)));
    }

    #[test]
    fn gaps_are_remembered_within_bounds() {
        let taps = Taps::default();
        for number in 0..GAPS_MAX + 10 {
            taps.gap_begins(Gap {
                from: UnixMs(i64::try_from(number).unwrap()),
                until: None,
                data_at: None,
                lasted: Duration::ZERO,
                attempts: 0,
                cause: String::new(),
            });
            taps.gap_changes(|gap| gap.until = Some(gap.from));
        }
        let list = taps.gap_list();
        assert_eq!(list.len(), GAPS_MAX);
        assert_eq!(list.first().unwrap().from, UnixMs(10));
        taps.gap_changes(|_| panic!("a closed gap must not change"));
    }
}
