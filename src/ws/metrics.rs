//! What can be seen of the feed from elsewhere while it runs.
//!
//! Counters and cells, never queues: the feed writes them without waiting and nobody who reads them
//! can hold it up. The one list, of gaps, is touched only when a connection or the subscription to
//! the listings was lost or came back.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::message_recorder::MessageRecorder;
use crate::{domain::money::Amount, domain::time::UnixMs};

/// How many gaps are remembered; older ones are only counted.
pub const GAPS_MAX: usize = 1_024;

/// How many connections a feed can have at once.
pub const CONNECTIONS_MAX: usize = 4;

/// A time without listings: from the last proof that they could arrive to the moment at which they
/// could again. A connection or subscription that came back and was lost before it had delivered
/// anything or lived for `stable_after` ends no gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last proof of life before it, by our wall clock.
    pub from: UnixMs,
    /// When data could flow again, by our wall clock; `None` while it lasts.
    pub until: Option<UnixMs>,
    /// When the first data came after it, by our wall clock.
    pub data_at: Option<UnixMs>,
    /// How long it lasted, by the monotonic clock; while it lasts, until its beginning was noticed.
    pub lasted: Duration,
    /// How many dials it took.
    pub attempts: u32,
    /// What ended the connection before it.
    pub cause: String,
}

/// All gaps of a feed taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downtime {
    /// How many gaps there were, one that still lasts included.
    pub gaps: u64,
    /// How long they lasted together, until now for one that still lasts.
    pub total: Duration,
    /// How long the longest lasted.
    pub longest: Duration,
    /// Whether one still lasts.
    pub is_open: bool,
}

/// The gaps that are remembered, and the sums over all.
#[derive(Debug, Default)]
struct GapBook {
    list: VecDeque<Gap>,
    total: Duration,
    longest: Duration,
    /// When the last one began, by the monotonic clock.
    since: Option<Instant>,
    is_open: bool,
}

/// What one of several connections was worth.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
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
pub struct FeedMetrics {
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
    pub connections: [ConnectionMetrics; CONNECTIONS_MAX],
    balance_cents: AtomicI64,
    balance_version: AtomicU64,
    gap_book: Mutex<GapBook>,
    /// Since when a connection is up, by our wall clock; 0: none is.
    connected_ms: AtomicI64,
    /// When the last listing came, by our wall clock; 0: none did.
    listing_ms: AtomicI64,
    witness: OnceLock<Box<dyn MessageRecorder>>,
}

impl FeedMetrics {
    /// The last pushed balance and the number of pushes so far: whoever remembers the number knows
    /// whether the balance is news. `None` until there was one.
    pub fn balance(&self) -> Option<(Amount, u64)> {
        match self.balance_version.load(Ordering::Acquire) {
            0 => None,
            version => {
                Some((Amount::from_cents(self.balance_cents.load(Ordering::Acquire)), version))
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
        self.gap_book().list.iter().cloned().collect()
    }

    /// All gaps together, at `now` by the monotonic clock.
    pub fn downtime(&self, now: Instant) -> Downtime {
        let book = self.gap_book();
        let since = book.since.filter(|_since| book.is_open);
        let open = since.map(|since| now.saturating_duration_since(since));
        let lasts = open.unwrap_or_default();
        Downtime {
            gaps: self.gaps.load(Ordering::Relaxed),
            total: book.total.saturating_add(lasts),
            longest: book.longest.max(lasts),
            is_open: open.is_some(),
        }
    }

    /// Since when a connection is up without a break, by our wall clock; `None`: none is.
    pub fn connected_since(&self) -> Option<UnixMs> {
        moment(&self.connected_ms)
    }

    /// When the last listing came, by our wall clock; `None`: none did yet.
    pub fn last_listing(&self) -> Option<UnixMs> {
        moment(&self.listing_ms)
    }

    /// A connection is up, or none is any more.
    pub(super) fn connected(&self, since: Option<UnixMs>) {
        self.connected_ms.store(since.map_or(0, |since| since.0), Ordering::Release);
    }

    /// A listing came.
    #[inline]
    pub(super) fn listing_came(&self, at: UnixMs) {
        self.listing_ms.store(at.0, Ordering::Relaxed);
    }

    fn gap_book(&self) -> MutexGuard<'_, GapBook> {
        // What is inside is whole between any two lines, whoever panicked.
        self.gap_book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody hear everything that the feed says. There is one such place; says whether it
    /// was free.
    pub fn let_hear(&self, witness: impl MessageRecorder + 'static) -> bool {
        self.witness.set(Box::new(witness)).is_ok()
    }

    /// Who hears everything.
    #[inline]
    pub(super) fn witness(&self) -> Option<&dyn MessageRecorder> {
        self.witness.get().map(|witness| &**witness)
    }

    pub(super) fn push_balance(&self, balance: Amount) {
        self.balance_cents.store(balance.cents(), Ordering::Release);
        self.balance_version.fetch_add(1, Ordering::AcqRel);
    }

    /// A gap begins; it lasts since `since` by the monotonic clock.
    pub(super) fn gap_begins(&self, gap: Gap, since: Instant) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        let mut book = self.gap_book();
        while book.list.len() >= GAPS_MAX {
            book.list.pop_front();
        }
        book.list.push_back(gap);
        book.since = Some(since);
        book.is_open = true;
    }

    /// One more dial belongs to the open gap, if there is one.
    pub(super) fn gap_attempts(&self, attempts: u32) {
        if let Some(last) = self.gap_book().list.back_mut().filter(|last| last.until.is_none()) {
            last.attempts = attempts;
        }
    }

    /// The open gap is over at `now`, by both clocks. Returns it.
    pub(super) fn gap_ends(&self, attempts: u32, now: (Instant, UnixMs)) -> Option<Gap> {
        let mut book = self.gap_book();
        if !std::mem::take(&mut book.is_open) {
            return None;
        }
        let lasted = now.0.saturating_duration_since(book.since?);
        book.total = book.total.saturating_add(lasted);
        book.longest = book.longest.max(lasted);
        let last = book.list.back_mut()?;
        last.until = Some(now.1);
        last.lasted = lasted;
        last.attempts = attempts;
        Some(last.clone())
    }

    /// The last gap goes on: what ended it delivered nothing. Returns it; `None`: there is none.
    pub(super) fn gap_goes_on(&self) -> Option<Gap> {
        let mut book = self.gap_book();
        let last = book.list.back_mut().filter(|last| last.until.is_some())?;
        last.until = None;
        let gap = last.clone();
        book.total = book.total.saturating_sub(gap.lasted);
        book.is_open = true;
        Some(gap)
    }

    pub(super) fn gap_sees_data(&self, at: UnixMs) {
        if let Some(last) = self.gap_book().list.back_mut() {
            last.data_at = Some(at);
        }
    }
}

/// A moment in a cell; 0 stands for none.
fn moment(cell: &AtomicI64) -> Option<UnixMs> {
    Some(cell.load(Ordering::Acquire)).filter(|ms| *ms != 0).map(UnixMs)
}

/// Adds to a counter that only this thread writes often.
#[inline]
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gap(from_ms: i64) -> Gap {
        Gap {
            from: UnixMs(from_ms),
            until: None,
            data_at: None,
            lasted: Duration::ZERO,
            attempts: 0,
            cause: String::new(),
        }
    }

    #[test]
    fn a_reader_knows_whether_a_balance_is_new() {
        let taps = FeedMetrics::default();
        assert_eq!(taps.balance(), None);
        taps.push_balance(Amount::from_cents(-5));
        assert_eq!(taps.balance(), Some((Amount::from_cents(-5), 1)));
        taps.push_balance(Amount::from_cents(-5));
        assert_eq!(taps.balance(), Some((Amount::from_cents(-5), 2)));
    }

    #[test]
    fn gaps_are_remembered_within_bounds() {
        let taps = FeedMetrics::default();
        let start = Instant::now();
        for number in 0..GAPS_MAX + 10 {
            taps.gap_begins(gap(i64::try_from(number).unwrap()), start);
            assert!(taps.gap_ends(1, (start + SECOND, UnixMs(0))).is_some());
        }
        let list = taps.gap_list();
        assert_eq!(list.len(), GAPS_MAX);
        assert_eq!(list.first().unwrap().from, UnixMs(10));
        let seconds = u64::try_from(GAPS_MAX + 10).unwrap();
        let all = taps.downtime(start + 5 * SECOND);
        assert_eq!((all.gaps, all.total), (seconds, Duration::from_secs(seconds)));
        taps.gap_attempts(7);
        assert!(
            taps.gap_list().iter().all(|gap| gap.attempts == 1),
            "a closed gap must not change"
        );
        assert_eq!(taps.gap_ends(1, (start, UnixMs(0))), None, "none is open");
    }

    #[test]
    fn a_gap_that_goes_on_is_one_gap_and_counts_from_its_beginning() {
        let taps = FeedMetrics::default();
        let start = Instant::now();
        let at = |seconds: u32| (start + seconds * SECOND, UnixMs(i64::from(seconds) * 1_000));
        taps.gap_begins(gap(0), start);
        assert_eq!(
            taps.downtime(at(2).0),
            Downtime { gaps: 1, total: 2 * SECOND, longest: 2 * SECOND, is_open: true }
        );
        assert_eq!(taps.gap_ends(1, at(3)).unwrap().lasted, 3 * SECOND);
        assert_eq!(taps.gap_goes_on().unwrap().attempts, 1);
        assert_eq!(taps.gap_goes_on(), None, "it is open already");
        assert_eq!(taps.downtime(at(6).0).total, 6 * SECOND);
        assert_eq!(taps.gap_ends(2, at(7)).unwrap().lasted, 7 * SECOND);
        taps.gap_begins(gap(10_000), at(10).0);
        taps.gap_ends(1, at(11));
        assert_eq!(
            taps.downtime(at(60).0),
            Downtime { gaps: 2, total: 8 * SECOND, longest: 7 * SECOND, is_open: false }
        );
    }
}
