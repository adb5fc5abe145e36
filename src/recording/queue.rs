//! Buffer between a feed and the recording thread.
//!
//! Appending copies the message into a buffer that grows during a burst only; the lock is held for
//! that copy or for the exchange of the buffer, never during disk access. The thread polls the
//! buffer, so nothing has to wake it. Connection histories have their own lock, which is taken only
//! when a connection is lost or established.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::{
    RecordingError,
    manifest::{ConnectionCounts, RecordedGap},
    prices::{WAITING_MAX, WaitingPrices},
};
use crate::{
    clock,
    config::prices::PriceSource,
    prices::PriceBook,
    threads::lock,
    ws::{HandledMessage, MessageRecorder},
};

/// Capacity of the queue, in bytes: some 20,000 listings.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Memory that an empty buffer keeps for texts, and again for entries, in bytes.
const RETAINED_BYTES: usize = 1024 * 1024;

/// A queued message without its text.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedMessage {
    /// Index of the source.
    pub(super) source: usize,
    pub(super) conn: u32,
    /// Time of receipt, in nanoseconds since 1970.
    pub(super) ns: u64,
    /// `true` if the next message of the connection arrived in the same read.
    pub(super) has_successor: bool,
    /// Length of the text in bytes.
    len: usize,
}

/// Queued messages, whose texts follow each other.
#[derive(Default)]
pub(super) struct MessageBatch {
    entries: Vec<QueuedMessage>,
    text: String,
}

impl MessageBatch {
    fn bytes(&self) -> usize {
        let entries = self.entries.len().saturating_mul(size_of::<QueuedMessage>());
        self.text.len().saturating_add(entries)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the messages in the order of arrival.
    pub(super) fn messages(&self) -> impl Iterator<Item = (QueuedMessage, &str)> {
        let mut rest = self.text.as_str();
        self.entries.iter().map(move |entry| {
            let (message, behind) = rest.split_at_checked(entry.len).unwrap_or((rest, ""));
            rest = behind;
            (*entry, message)
        })
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        // Releases the memory of a burst.
        self.text.shrink_to(RETAINED_BYTES);
        self.entries.shrink_to(RETAINED_BYTES / size_of::<QueuedMessage>());
    }
}

/// Queued messages. A closed queue rejects messages.
#[derive(Default)]
struct QueueContent {
    batch: MessageBatch,
    is_closed: bool,
}

/// Counters of one source.
#[derive(Debug, Default)]
pub(super) struct SourceCounters {
    /// Messages that fitted into the queue.
    pub(super) accepted: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) binary_skipped: AtomicU64,
    pub(super) too_long: AtomicU64,
    /// Time of the last message.
    last_ns: AtomicU64,
    /// `true` during a gap, so that the next data message closes it.
    is_down: AtomicBool,
    connections: Mutex<ConnectionCounts>,
}

impl SourceCounters {
    pub(super) fn connections(&self) -> MutexGuard<'_, ConnectionCounts> {
        lock(&self.connections)
    }
}

/// State shared by the recorders of all sources, the recording thread and its handle.
pub(super) struct RecorderState {
    queue: Mutex<QueueContent>,
    bytes_max: usize,
    pub(super) sources: Box<[SourceCounters]>,
    pub(super) is_stopping: AtomicBool,
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) disk_bytes: AtomicU64,
    pub(super) failure: watch::Sender<Option<Arc<RecordingError>>>,
    prices: Mutex<WaitingPrices>,
}

impl RecorderState {
    pub(super) fn new(sources: usize, bytes_max: usize) -> Self {
        let text = String::with_capacity(RETAINED_BYTES.min(bytes_max));
        Self {
            queue: Mutex::new(QueueContent {
                batch: MessageBatch { entries: Vec::new(), text },
                is_closed: false,
            }),
            bytes_max,
            sources: (0..sources).map(|_source| SourceCounters::default()).collect(),
            is_stopping: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            prices: Mutex::default(),
        }
    }

    /// Takes the queued messages and leaves `empty` in their place.
    pub(super) fn swap_batch(&self, empty: &mut MessageBatch) {
        mem::swap(&mut lock(&self.queue).batch, empty);
    }

    /// Takes the queued messages and closes the queue.
    pub(super) fn close(&self, empty: &mut MessageBatch) {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        mem::swap(&mut queue.batch, empty);
    }

    /// Queues a message. Returns `false` if the queue is full or closed.
    fn append(&self, entry: QueuedMessage, text: &str) -> bool {
        let needed = text.len().saturating_add(size_of::<QueuedMessage>());
        let mut queue = lock(&self.queue);
        if queue.is_closed || queue.batch.bytes().saturating_add(needed) > self.bytes_max {
            return false;
        }
        queue.batch.entries.push(entry);
        queue.batch.text.push_str(text);
        true
    }

    /// Sets the price sources of the session.
    pub(super) fn set_price_sources(&self, sources: &[PriceSource]) {
        lock(&self.prices).sources = sources.into();
    }

    /// Queues a snapshot of the reference prices.
    pub(super) fn add_prices(&self, ns: u64, book: &Arc<PriceBook>) {
        let mut prices = lock(&self.prices);
        if prices.changes.len() < WAITING_MAX {
            prices.changes.push((ns, Arc::clone(book)));
        } else {
            prices.is_incomplete = true;
        }
    }

    /// Takes the queued snapshots.
    pub(super) fn take_prices(&self) -> WaitingPrices {
        let mut prices = lock(&self.prices);
        let changes = mem::take(&mut prices.changes);
        let is_incomplete = prices.is_incomplete;
        WaitingPrices { sources: Arc::clone(&prices.sources), changes, is_incomplete }
    }

    pub(super) fn status(&self) -> RecordingStatus {
        let sum = |of: fn(&SourceCounters) -> u64| {
            self.sources.iter().fold(0_u64, |sum, counters| sum.saturating_add(of(counters)))
        };
        RecordingStatus {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            lost: sum(|counters| counters.lost.load(Ordering::Relaxed)),
            binary_skipped: sum(|counters| counters.binary_skipped.load(Ordering::Relaxed)),
            too_long: sum(|counters| counters.too_long.load(Ordering::Relaxed)),
            gaps: sum(|counters| counters.connections().gap_count()),
            open_gaps: sum(|counters| u64::from(counters.connections().is_down())),
            reconnects: sum(|counters| counters.connections().reconnects),
        }
    }
}

/// Omits the messages, which can be long.
impl fmt::Debug for RecorderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecorderState").finish_non_exhaustive()
    }
}

/// Progress of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingStatus {
    pub messages: u64,
    /// Bytes of the written messages.
    pub bytes: u64,
    /// Bytes of the files.
    pub disk_bytes: u64,
    /// Messages lost on the way to the disk.
    pub lost: u64,
    /// Binary messages, which are not recorded.
    pub binary_skipped: u64,
    /// Messages above the size limit: each closed its connection.
    pub too_long: u64,
    /// Interruptions of all sources.
    pub gaps: u64,
    pub open_gaps: u64,
    /// Connections of all sources, without the first of each.
    pub reconnects: u64,
}

/// Records one source. Never waits.
#[derive(Clone, Debug)]
pub struct SourceRecorder {
    pub(super) shared: Arc<RecorderState>,
    pub(super) source: usize,
}

impl MessageRecorder for SourceRecorder {
    fn on_message(&self, connection: u32, text: &str, handled: HandledMessage) {
        let HandledMessage { at, is_data, has_successor } = handled;
        let Some(counters) = self.counters() else { return };
        // Each conversion has its own small error, so the times of a source could decrease.
        let ns = to_wall_ns(at);
        let ns = ns.max(counters.last_ns.fetch_max(ns, Ordering::Relaxed));
        let (source, len) = (self.source, text.len());
        let entry = QueuedMessage { source, conn: connection, ns, has_successor, len };
        let queued = self.shared.append(entry, text);
        let counter = if queued { &counters.accepted } else { &counters.lost };
        counter.fetch_add(1, Ordering::Relaxed);
        if is_data && counters.is_down.load(Ordering::Relaxed) {
            self.close_gap(counters, ns);
        }
    }

    fn on_binary(&self) {
        if let Some(counters) = self.counters() {
            counters.binary_skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_oversized(&self) {
        if let Some(counters) = self.counters() {
            counters.too_long.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_dial(&self) {
        let Some(counters) = self.counters() else { return };
        counters.connections().on_dial();
    }

    fn on_connected(&self) {
        let Some(counters) = self.counters() else { return };
        counters.connections().on_connected();
    }

    /// Begins a gap. It lasts until data arrives, not until the connection is established.
    fn on_disconnected(&self, alive: Instant, cause: &str) {
        let Some(counters) = self.counters() else { return };
        let from_ns = to_wall_ns(alive);
        let cause = cause.to_owned();
        let mut connections = counters.connections();
        // Failed dials before the first connection belong to the first gap.
        let attempts = connections.take_first_dials();
        connections.begin_gap(RecordedGap {
            from_ns,
            to_ns: None,
            attempts,
            cause,
            back_filled: 0,
        });
        counters.is_down.store(true, Ordering::Relaxed);
    }

    fn on_backfilled(&self) {
        let Some(counters) = self.counters() else { return };
        if let Some(gap) = counters.connections().gaps.last_mut() {
            gap.back_filled = gap.back_filled.saturating_add(1);
        }
    }
}

impl SourceRecorder {
    /// Returns the gaps and reconnects of this source so far.
    pub fn connections(&self) -> ConnectionCounts {
        self.counters().map(|counters| counters.connections().clone()).unwrap_or_default()
    }

    #[cold]
    fn close_gap(&self, counters: &SourceCounters, ns: u64) {
        let mut connections = counters.connections();
        if let Some(gap) = connections.open_gap() {
            gap.to_ns = Some(ns.max(gap.from_ns));
        }
        counters.is_down.store(false, Ordering::Relaxed);
    }

    fn counters(&self) -> Option<&SourceCounters> {
        self.shared.sources.get(self.source)
    }
}

/// Maximum number of attempts to read both clocks within [`CLOCK_READ_MAX_NS`].
const CLOCK_READS_MAX: u32 = 4;
/// Maximum time between the readings of the two clocks.
const CLOCK_READ_MAX_NS: u64 = 1_000;

/// Converts a recent instant to wall clock time.
///
/// Messages of several sources are ordered by the result, so the clocks are read again if the
/// thread was suspended between two readings. The wall clock is read first, so that the remaining
/// error makes the result too early: a time that is too late could follow a change of the prices
/// that came after the message.
fn to_wall_ns(instant: Instant) -> u64 {
    let mut read = 0;
    loop {
        let now_ns = clock::now_ns();
        let ago = u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX);
        read += 1;
        if read == CLOCK_READS_MAX || clock::now_ns().saturating_sub(now_ns) < CLOCK_READ_MAX_NS {
            return now_ns.saturating_sub(ago);
        }
    }
}
