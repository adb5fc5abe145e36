//! Metrics of the feed for other threads, and the observer that records its raw messages.
//!
//! Between the changes of a connection the feed updates atomics only, so readers cannot delay it.
//! Locks are taken at dials, losses and recoveries, and at the first data after a gap.

use std::{
    collections::VecDeque,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    error::{FeedError, ProtocolViolation},
    lateness::Deliveries,
};
use crate::{
    config::CONNECTIONS_MAX,
    domain::{money::Amount, time::UnixMs},
    threads::lock,
};

/// Number of remembered gaps; older ones are only counted.
pub const GAPS_MAX: usize = 1_024;

/// An interval without listings: from the last time at which they could arrive to the time at which
/// they could again. A connection or subscription that is lost before it delivered anything and
/// before `stable_after` ends no gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last sign of life before the gap, by the wall clock.
    pub from: UnixMs,
    /// Time at which data could arrive again, by the wall clock; `None` while the gap is open.
    pub until: Option<UnixMs>,
    /// Time of the first data after it, by the wall clock.
    pub data_at: Option<UnixMs>,
    /// Duration by the monotonic clock; for an open gap, the time until its detection.
    pub duration: Duration,
    pub attempts: u32,
    /// Error that ended the connection before it.
    pub cause: String,
}

/// Whether listings can arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeedCondition {
    /// Before the first connection.
    Connecting,
    /// The default, for a session without a feed of its own.
    #[default]
    Connected,
    /// Connected, but no listing has arrived for `[alert_rules] silent_after_s`.
    Silent,
    /// Connected, but the subscription to the listings has ended.
    NoListings,
    Disconnected,
    /// The market rejects the connection until the user acts.
    Blocked,
}

impl FeedCondition {
    /// Returns the word for the user and for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Silent => "silent",
            Self::NoListings => "no listings",
            Self::Disconnected => "disconnected",
            Self::Blocked => "blocked",
        }
    }
}

/// Totals over all gaps of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downtime {
    /// Number of gaps, an open one included.
    pub gaps: u64,
    /// Total duration, up to now for an open gap.
    pub total: Duration,
    /// Duration of the longest gap.
    pub longest: Duration,
    pub is_open: bool,
}

/// The remembered gaps, and the totals over all.
#[derive(Debug, Default)]
struct GapLog {
    list: VecDeque<Gap>,
    total: Duration,
    longest: Duration,
    /// Start of the last gap, by the monotonic clock.
    since: Option<Instant>,
    is_open: bool,
}

/// Metrics of one of several connections.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    /// Listings that this connection delivered first.
    pub wins: AtomicU64,
    /// Listings that another connection delivered earlier.
    pub late: AtomicU64,
    /// Sum of the lateness in microseconds.
    pub late_us: AtomicU64,
    /// Maximum lateness in microseconds.
    pub late_us_max: AtomicU64,
    /// Number of connections that were replaced because they were always last.
    pub replaced: AtomicU64,
    /// The server's address of the current connection.
    address: Mutex<Option<IpAddr>>,
}

/// Deliveries of one of several connections, compared with the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// The server's address, if the transport has one.
    pub address: Option<IpAddr>,
    /// Listings that this connection delivered first.
    pub first: u64,
    /// Listings that another connection delivered earlier.
    pub late: u64,
    /// Mean lateness of these.
    pub late_mean: Duration,
    pub late_max: Duration,
    /// Number of connections that were replaced because they were always last.
    pub replaced: u64,
}

impl ConnectionMetrics {
    pub(super) fn set_address(&self, address: Option<IpAddr>) {
        *lock(&self.address) = address;
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        *lock(&self.address)
    }

    pub(super) fn deliveries(&self) -> Deliveries {
        Deliveries {
            first: self.wins.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            late_us: self.late_us.load(Ordering::Relaxed),
        }
    }

    fn counts(&self) -> ConnectionCounts {
        let Deliveries { first, late, late_us } = self.deliveries();
        ConnectionCounts {
            address: self.address(),
            first,
            late,
            late_mean: Duration::from_micros(late_us.checked_div(late).unwrap_or(0)),
            late_max: Duration::from_micros(self.late_us_max.load(Ordering::Relaxed)),
            replaced: self.replaced.load(Ordering::Relaxed),
        }
    }
}

/// Counters and state of a feed.
#[derive(Debug, Default)]
pub struct FeedMetrics {
    pub frames: AtomicU64,
    /// Messages without a wanted listing that were handled after others of the same read.
    pub waited: AtomicU64,
    /// Messages about items that no entry names, which were counted without being read.
    pub counted: AtomicU64,
    /// Size of the received messages in bytes.
    pub bytes: AtomicU64,
    /// Listings delivered, without duplicates.
    pub listings: AtomicU64,
    pub duplicates: AtomicU64,
    /// Listings without a usable id.
    pub unreadable: AtomicU64,
    /// Messages that are not JSON or not of the protocol, binary ones included.
    pub malformed: AtomicU64,
    /// Messages and events of an unknown type.
    pub unknown: AtomicU64,
    /// Sockets closed because of an RFC 6455 violation.
    pub violations: AtomicU64,
    /// Subscriptions that ended on a live connection.
    pub ended: AtomicU64,
    pub graphql_errors: AtomicU64,
    pub dials: AtomicU64,
    /// Reconnects after an outage, without rotations.
    pub reconnects: AtomicU64,
    /// Connections replaced because of their age or of new subscriptions.
    pub rotations: AtomicU64,
    /// Listings that a back-fill found.
    pub backfilled: AtomicU64,
    pub gaps: AtomicU64,
    /// `true` while the market blocks access until the user acts.
    pub is_blocked: AtomicBool,
    /// `true` if a challenge is the cause of that.
    pub is_challenged: AtomicBool,
    /// `true` if another web page is the cause of that.
    pub is_web_page: AtomicBool,
    /// Cause of the last failed connection, and what the user can do about it.
    last_failure: Mutex<Option<(String, Option<String>)>>,
    /// `true` while a connection can deliver listings.
    pub is_up: AtomicBool,
    /// `true` once a connection was up and subscribed.
    pub has_connected: AtomicBool,
    pub connections: [ConnectionMetrics; CONNECTIONS_MAX],
    /// Number of parallel connections; 0 before the feed runs.
    connection_count: AtomicUsize,
    /// Last pushed balance in thousandths.
    balance: AtomicI64,
    balance_version: AtomicU64,
    gap_log: Mutex<GapLog>,
    /// Time since which a connection is up, by the wall clock; 0 if none is.
    connected_ms: AtomicI64,
    /// Time of the last listing, by the wall clock; 0 before the first.
    listing_ms: AtomicI64,
    /// `[alert_rules] silent_after_s` in milliseconds; 0 if silence has no meaning.
    silent_after_ms: AtomicI64,
    /// `true` from the time at which the feed counts as silent until the next listing, so that a
    /// reconnect does not look like its end.
    is_silent: AtomicBool,
    /// Listings of items that no entry names, without duplicates, that the consumer has not counted
    /// yet.
    unnamed: AtomicU64,
    has_unnamed: Notify,
    recorder: OnceLock<Arc<dyn MessageRecorder>>,
}

impl FeedMetrics {
    /// Returns the last pushed balance and the number of pushes, by which a reader detects a new
    /// one. `None` before the first push.
    pub fn balance(&self) -> Option<(Amount, u64)> {
        match self.balance_version.load(Ordering::Acquire) {
            0 => None,
            version => {
                Some((Amount::from_thousandths(self.balance.load(Ordering::Acquire)), version))
            }
        }
    }

    /// Returns the feed errors of the summary: the number of listings without a usable id, of
    /// malformed or unknown messages, and of sockets closed because of a violation of RFC 6455.
    pub fn errors(&self) -> u64 {
        [&self.unreadable, &self.malformed, &self.unknown, &self.violations]
            .iter()
            .fold(0_u64, |sum, counter| sum.saturating_add(counter.load(Ordering::Relaxed)))
    }

    /// Returns the last [`GAPS_MAX`] gaps, oldest first; an open one is the last.
    pub fn gap_list(&self) -> Vec<Gap> {
        lock(&self.gap_log).list.iter().cloned().collect()
    }

    pub fn set_last_failure(&self, cause: String, remedy: Option<String>) {
        *lock(&self.last_failure) = Some((cause, remedy));
    }

    /// Returns the cause of the last failed connection, and what the user can do about it.
    pub fn last_failure(&self) -> Option<(String, Option<String>)> {
        lock(&self.last_failure).clone()
    }

    /// Returns the cause of the last gap.
    pub fn last_gap_cause(&self) -> Option<String> {
        lock(&self.gap_log).list.back().map(|gap| gap.cause.clone())
    }

    /// Returns the totals over all gaps at `now`, by the monotonic clock.
    pub fn downtime(&self, now: Instant) -> Downtime {
        let log = lock(&self.gap_log);
        let since = log.since.filter(|_since| log.is_open);
        let open = since.map(|since| now.saturating_duration_since(since));
        let lasts = open.unwrap_or_default();
        Downtime {
            gaps: self.gaps.load(Ordering::Relaxed),
            total: log.total.saturating_add(lasts),
            longest: log.longest.max(lasts),
            is_open: open.is_some(),
        }
    }

    /// Returns the time since which a connection is up without interruption, by the wall clock.
    pub fn connected_since(&self) -> Option<UnixMs> {
        moment(&self.connected_ms)
    }

    /// Returns the time of the last listing, by the wall clock.
    pub fn last_listing(&self) -> Option<UnixMs> {
        moment(&self.listing_ms)
    }

    /// Sets the time without listings after which a feed that has delivered some counts as silent.
    pub fn set_silent_after(&self, after: Duration) {
        let ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        self.silent_after_ms.store(ms, Ordering::Relaxed);
    }

    /// Returns how long no listing has arrived, if the feed is connected and counts as silent.
    pub fn silence(&self, now: UnixMs) -> Option<Duration> {
        let (last, connected) = (self.last_listing()?, self.connected_since()?);
        let after = self.silent_after_ms.load(Ordering::Relaxed);
        if after == 0 {
            return None;
        }
        if after <= now.0.saturating_sub(last.max(connected).0) {
            self.is_silent.store(true, Ordering::Relaxed);
        }
        self.is_silent.load(Ordering::Relaxed).then(|| now.since(last))
    }

    /// Returns whether listings can arrive.
    pub fn state(&self, now: UnixMs) -> FeedCondition {
        match (self.connected_since(), lock(&self.gap_log).is_open) {
            (Some(_), false) if self.silence(now).is_some() => FeedCondition::Silent,
            (Some(_), false) => FeedCondition::Connected,
            (Some(_), true) => FeedCondition::NoListings,
            (None, _) if self.is_blocked.load(Ordering::Acquire) => FeedCondition::Blocked,
            (None, true) => FeedCondition::Disconnected,
            (None, false) => FeedCondition::Connecting,
        }
    }

    /// Returns the deliveries of each of several connections; nothing for a single one.
    pub fn connection_counts(&self) -> Vec<ConnectionCounts> {
        match self.connection_count.load(Ordering::Relaxed) {
            0 | 1 => Vec::new(),
            count => self.connections.iter().take(count).map(ConnectionMetrics::counts).collect(),
        }
    }

    pub(super) fn set_connection_count(&self, count: usize) {
        self.connection_count.store(count, Ordering::Relaxed);
    }

    pub(super) fn set_connected_since(&self, since: Option<UnixMs>) {
        self.connected_ms.store(since.map_or(0, |since| since.0), Ordering::Release);
    }

    #[inline]
    pub(super) fn set_last_listing(&self, at: UnixMs) {
        self.listing_ms.store(at.0, Ordering::Relaxed);
        if self.is_silent.load(Ordering::Relaxed) {
            self.is_silent.store(false, Ordering::Relaxed);
        }
    }

    /// Counts a listing of an item that no entry names.
    #[inline]
    pub(super) fn add_unnamed(&self) {
        if self.unnamed.fetch_add(1, Ordering::Relaxed) == 0 {
            self.has_unnamed.notify_one();
        }
    }

    /// Returns the number of listings that no entry names since the last call.
    pub fn take_unnamed(&self) -> u64 {
        self.unnamed.swap(0, Ordering::Relaxed)
    }

    /// Waits until [`take_unnamed`](Self::take_unnamed) has something to return.
    ///
    /// # Cancel safety
    ///
    /// Safe: a notification that arrived before is kept.
    pub async fn has_unnamed(&self) {
        self.has_unnamed.notified().await;
    }

    /// Returns metrics with this recorder, which receives every message.
    pub fn recorded(recorder: Arc<dyn MessageRecorder>) -> Self {
        Self { recorder: OnceLock::from(recorder), ..Self::default() }
    }

    /// Sets the recorder, which receives every message. Returns `false` if one is set already.
    pub fn set_recorder(&self, recorder: Arc<dyn MessageRecorder>) -> bool {
        self.recorder.set(recorder).is_ok()
    }

    #[inline]
    pub(super) fn recorder(&self) -> Option<&dyn MessageRecorder> {
        self.recorder.get().map(|recorder| &**recorder)
    }

    /// Reports a message above the size limit to the recorder, if it ended the connection.
    pub(super) fn record_end(&self, ended: &FeedError) {
        if let FeedError::Violation { violation: ProtocolViolation::TooBig, .. } = ended
            && let Some(recorder) = self.recorder()
        {
            recorder.on_oversized();
        }
    }

    pub(super) fn push_balance(&self, balance: Amount) {
        self.balance.store(balance.thousandths(), Ordering::Release);
        self.balance_version.fetch_add(1, Ordering::AcqRel);
    }

    /// Opens a gap that began at `since`, by the monotonic clock.
    pub(super) fn open_gap(&self, gap: Gap, since: Instant) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        let mut log = lock(&self.gap_log);
        while log.list.len() >= GAPS_MAX {
            log.list.pop_front();
        }
        log.list.push_back(gap);
        log.since = Some(since);
        log.is_open = true;
    }

    /// Sets the number of dials of the open gap, if there is one.
    pub(super) fn set_gap_attempts(&self, attempts: u32) {
        if let Some(last) = lock(&self.gap_log).list.back_mut().filter(|last| last.until.is_none())
        {
            last.attempts = attempts;
        }
    }

    /// Closes the open gap at `now`, by both clocks, and returns it.
    pub(super) fn close_gap(&self, attempts: u32, now: (Instant, UnixMs)) -> Option<Gap> {
        let mut log = lock(&self.gap_log);
        if !std::mem::take(&mut log.is_open) {
            return None;
        }
        let duration = now.0.saturating_duration_since(log.since?);
        log.total = log.total.saturating_add(duration);
        log.longest = log.longest.max(duration);
        let last = log.list.back_mut()?;
        last.until = Some(now.1);
        last.duration = duration;
        last.attempts = attempts;
        Some(last.clone())
    }

    /// Reopens the last gap, because nothing was delivered since its end. Returns it, if there is
    /// one.
    pub(super) fn reopen_gap(&self) -> Option<Gap> {
        let mut log = lock(&self.gap_log);
        let last = log.list.back_mut().filter(|last| last.until.is_some())?;
        last.until = None;
        let gap = last.clone();
        log.total = log.total.saturating_sub(gap.duration);
        log.is_open = true;
        Some(gap)
    }

    pub(super) fn mark_gap_data(&self, at: UnixMs) {
        if let Some(last) = lock(&self.gap_log).list.back_mut() {
            last.data_at = Some(at);
        }
    }
}

/// Reads a time; 0 means none.
fn moment(cell: &AtomicI64) -> Option<UnixMs> {
    Some(cell.load(Ordering::Acquire)).filter(|ms| *ms != 0).map(UnixMs)
}

#[inline]
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Properties of a handled message.
#[derive(Clone, Copy, Debug)]
pub struct HandledMessage {
    /// Time at which it was complete.
    pub at: Instant,
    /// `true` if it reset the data timer: it belongs to a subscription.
    pub is_data: bool,
    /// `true` if the next message was returned by the same read.
    pub has_successor: bool,
}

impl HandledMessage {
    pub const fn new(at: Instant, is_data: bool) -> Self {
        Self { at, is_data, has_successor: false }
    }
}

/// Receives every message and every change of the connection. It is called in the feed's task after
/// the message was handled, and must not block.
pub trait MessageRecorder: fmt::Debug + Send + Sync {
    /// Records a text message of the connection with this number, counted from 1.
    fn on_message(&self, connection: u32, text: &str, handled: HandledMessage);

    /// Records that a binary message arrived; its content is not passed on.
    fn on_binary(&self);

    /// Records that a message exceeded the size limit, which closed the connection.
    fn on_oversized(&self);

    fn on_dial(&self);

    /// Records that the connection is up, for the first time or again.
    fn on_connected(&self);

    /// Records that no data can arrive from now on; `alive` is the last time at which the
    /// connection was known to work. Repeated calls during the same outage have no effect.
    fn on_disconnected(&self, alive: Instant, cause: &str);

    /// Records that the server ended an essential subscription on a live connection: no data can
    /// arrive until it is subscribed to again.
    fn on_unsubscribed(&self, at: Instant, cause: &str) {
        self.on_disconnected(at, cause);
    }

    /// Records that a back-fill found a listing of the last gap.
    fn on_backfilled(&self);
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
            duration: Duration::ZERO,
            attempts: 0,
            cause: String::new(),
        }
    }

    #[test]
    fn a_connected_feed_without_listings_is_silent_once_it_has_delivered_some() {
        let metrics = FeedMetrics::default();
        let at = |seconds: i64| UnixMs(1_000_000 + seconds * 1_000);
        metrics.set_silent_after(Duration::from_secs(900));
        assert_eq!(metrics.state(at(0)), FeedCondition::Connecting);
        metrics.set_connected_since(Some(at(0)));
        assert_eq!(metrics.state(at(9_000)), FeedCondition::Connected, "it has delivered nothing");
        metrics.set_last_listing(at(10));
        assert_eq!(metrics.state(at(909)), FeedCondition::Connected);
        assert_eq!(metrics.state(at(910)), FeedCondition::Silent);
        assert_eq!(metrics.silence(at(910)), Some(Duration::from_secs(900)));
        metrics.set_connected_since(Some(at(911)));
        assert_eq!(metrics.state(at(912)), FeedCondition::Silent, "no listing has arrived since");
        metrics.set_last_listing(at(913));
        assert_eq!(metrics.state(at(914)), FeedCondition::Connected);
        metrics.set_connected_since(Some(at(5_000)));
        assert_eq!(metrics.state(at(5_899)), FeedCondition::Connected, "it has just reconnected");
        metrics.set_silent_after(Duration::ZERO);
        assert_eq!(metrics.state(at(50_000)), FeedCondition::Connected, "silence is ordinary");
        metrics.set_connected_since(None);
        metrics.is_blocked.store(true, Ordering::Release);
        assert_eq!(metrics.state(at(9_000)), FeedCondition::Blocked);
    }

    #[test]
    fn a_new_balance_is_detected_by_its_version() {
        let metrics = FeedMetrics::default();
        assert_eq!(metrics.balance(), None);
        metrics.push_balance(Amount::from_cents(-5));
        assert_eq!(metrics.balance(), Some((Amount::from_cents(-5), 1)));
        metrics.push_balance(Amount::from_cents(-5));
        assert_eq!(metrics.balance(), Some((Amount::from_cents(-5), 2)));
    }

    #[test]
    fn remembered_gaps_are_bounded() {
        let metrics = FeedMetrics::default();
        let start = Instant::now();
        for number in 0..GAPS_MAX + 10 {
            metrics.open_gap(gap(i64::try_from(number).unwrap()), start);
            assert!(metrics.close_gap(1, (start + SECOND, UnixMs(0))).is_some());
        }
        let list = metrics.gap_list();
        assert_eq!(list.len(), GAPS_MAX);
        assert_eq!(list.first().unwrap().from, UnixMs(10));
        let seconds = u64::try_from(GAPS_MAX + 10).unwrap();
        let all = metrics.downtime(start + 5 * SECOND);
        assert_eq!((all.gaps, all.total), (seconds, Duration::from_secs(seconds)));
        metrics.set_gap_attempts(7);
        assert!(
            metrics.gap_list().iter().all(|gap| gap.attempts == 1),
            "a closed gap must not change"
        );
        assert_eq!(metrics.close_gap(1, (start, UnixMs(0))), None, "none is open");
    }

    #[test]
    fn a_reopened_gap_counts_once_from_its_start() {
        let metrics = FeedMetrics::default();
        let start = Instant::now();
        let at = |seconds: u32| (start + seconds * SECOND, UnixMs(i64::from(seconds) * 1_000));
        metrics.open_gap(gap(0), start);
        assert_eq!(
            metrics.downtime(at(2).0),
            Downtime { gaps: 1, total: 2 * SECOND, longest: 2 * SECOND, is_open: true }
        );
        assert_eq!(metrics.close_gap(1, at(3)).unwrap().duration, 3 * SECOND);
        assert_eq!(metrics.reopen_gap().unwrap().attempts, 1);
        assert_eq!(metrics.reopen_gap(), None, "it is open already");
        assert_eq!(metrics.downtime(at(6).0).total, 6 * SECOND);
        assert_eq!(metrics.close_gap(2, at(7)).unwrap().duration, 7 * SECOND);
        metrics.open_gap(gap(10_000), at(10).0);
        metrics.close_gap(1, at(11));
        assert_eq!(
            metrics.downtime(at(60).0),
            Downtime { gaps: 2, total: 8 * SECOND, longest: 7 * SECOND, is_open: false }
        );
    }
}
