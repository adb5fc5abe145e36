//! The buffer between whoever hears a feed and the thread that writes it.
//!
//! Appending copies the message into memory that is there already; the lock is held for that or for
//! exchanging the buffer, never while a disk is busy, and nothing wakes the thread: it looks by
//! itself. Connections have a book of their own, which is touched only when one is lost or found.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::{
    error::RecordingError,
    manifest::{ConnectionCounts, RecordedGap},
};
use crate::{clock, ws::MessageRecorder};

/// How much may wait to be written, in bytes: some 20,000 listings.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How much memory a buffer keeps when it is empty.
const KEPT_BYTES: usize = 1024 * 1024;

/// One message that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedMessage {
    pub(super) source: usize,
    pub(super) conn: u32,
    pub(super) ns: u64,
    len: usize,
}

/// Messages that wait.
#[derive(Default)]
pub(super) struct MessageBatch {
    entries: Vec<QueuedMessage>,
    text: String,
}

impl MessageBatch {
    fn bytes(&self) -> usize {
        let heads = self.entries.len().saturating_mul(size_of::<QueuedMessage>());
        self.text.len().saturating_add(heads)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The messages in the order in which they came.
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
        // After a burst the memory goes back.
        self.text.shrink_to(KEPT_BYTES);
        self.entries.shrink_to(KEPT_BYTES / size_of::<QueuedMessage>());
    }
}

/// What waits, and whether anybody will take it.
#[derive(Default)]
struct QueueContent {
    batch: MessageBatch,
    is_closed: bool,
}

/// What one source adds to without waiting.
#[derive(Debug, Default)]
pub(super) struct SourceCounters {
    /// Messages that fitted in.
    pub(super) accepted: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) binary_skipped: AtomicU64,
    pub(super) too_long: AtomicU64,
    /// Whether a gap lasts, so that the first data after it closes it.
    is_down: AtomicBool,
    connections: Mutex<ConnectionCounts>,
}

impl SourceCounters {
    pub(super) fn connections(&self) -> MutexGuard<'_, ConnectionCounts> {
        lock(&self.connections)
    }
}

/// What recorders, the thread and the owner share.
pub(super) struct RecorderState {
    waiting: Mutex<QueueContent>,
    bytes_max: usize,
    pub(super) sources: Box<[SourceCounters]>,
    pub(super) is_stopping: AtomicBool,
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) disk_bytes: AtomicU64,
    pub(super) failure: watch::Sender<Option<Arc<RecordingError>>>,
}

impl RecorderState {
    pub(super) fn new(sources: usize, bytes_max: usize) -> Self {
        let text = String::with_capacity(KEPT_BYTES.min(bytes_max));
        Self {
            waiting: Mutex::new(QueueContent {
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
        }
    }

    /// Exchanges the buffer for an empty one.
    pub(super) fn take(&self, empty: &mut MessageBatch) {
        mem::swap(&mut lock(&self.waiting).batch, empty);
    }

    /// Takes what waits, and nothing is accepted any more.
    pub(super) fn close(&self, empty: &mut MessageBatch) {
        let mut waiting = lock(&self.waiting);
        waiting.is_closed = true;
        mem::swap(&mut waiting.batch, empty);
    }

    /// Whether it fitted in.
    fn append(&self, entry: QueuedMessage, text: &str) -> bool {
        let needed = text.len().saturating_add(size_of::<QueuedMessage>());
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed || waiting.batch.bytes().saturating_add(needed) > self.bytes_max {
            return false;
        }
        waiting.batch.entries.push(entry);
        waiting.batch.text.push_str(text);
        true
    }

    /// What can be said while it runs.
    pub(super) fn status(&self) -> RecordingStatus {
        let sum = |of: fn(&SourceCounters) -> u64| {
            self.sources.iter().fold(0_u64, |sum, tally| sum.saturating_add(of(tally)))
        };
        RecordingStatus {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            lost: sum(|tally| tally.lost.load(Ordering::Relaxed)),
            binary_skipped: sum(|tally| tally.binary_skipped.load(Ordering::Relaxed)),
            too_long: sum(|tally| tally.too_long.load(Ordering::Relaxed)),
            gaps: sum(|tally| tally.connections().gap_count()),
            open_gaps: sum(|tally| u64::from(tally.connections().is_down())),
            reconnects: sum(|tally| tally.connections().reconnects),
        }
    }
}

/// Never the messages that wait.
impl fmt::Debug for RecorderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// How a recording goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingStatus {
    /// Messages written.
    pub messages: u64,
    /// Bytes of these messages.
    pub bytes: u64,
    /// Bytes of the files.
    pub disk_bytes: u64,
    /// Messages that were lost on the way to the disk.
    pub lost: u64,
    /// Binary messages, which are not recorded.
    pub binary_skipped: u64,
    /// Messages that were longer than may be: each closed its connection.
    pub too_long: u64,
    /// Times in which a source could not be heard.
    pub gaps: u64,
    /// Those that still last.
    pub open_gaps: u64,
    /// How often a source was up again.
    pub reconnects: u64,
}

/// Records one source. Neither waits nor blocks.
#[derive(Clone, Debug)]
pub struct SourceRecorder {
    pub(super) shared: Arc<RecorderState>,
    pub(super) source: usize,
}

impl MessageRecorder for SourceRecorder {
    fn message(&self, connection: u32, text: &str, at: Instant, is_data: bool) {
        let ns = ns_at(at);
        let Some(tally) = self.tally() else { return };
        let entry = QueuedMessage { source: self.source, conn: connection, ns, len: text.len() };
        let fitted = self.shared.append(entry, text);
        let counter = if fitted { &tally.accepted } else { &tally.lost };
        counter.fetch_add(1, Ordering::Relaxed);
        if is_data && tally.is_down.load(Ordering::Relaxed) {
            self.heard(tally, ns);
        }
    }

    fn binary(&self) {
        if let Some(tally) = self.tally() {
            tally.binary_skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn too_long(&self) {
        if let Some(tally) = self.tally() {
            tally.too_long.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn dials(&self) {
        let Some(tally) = self.tally() else { return };
        tally.connections().dials();
    }

    fn up(&self) {
        let Some(tally) = self.tally() else { return };
        tally.connections().up();
    }

    /// A gap lasts until data comes, not until the connection is up.
    fn down(&self, alive: Instant, cause: &str) {
        let Some(tally) = self.tally() else { return };
        let from_ns = ns_at(alive);
        let cause = cause.to_owned();
        let mut connections = tally.connections();
        // Before the first connection, the dials that led to nothing belong to the gap.
        let attempts = connections.take_first_dials();
        connections.begin(RecordedGap { from_ns, to_ns: None, attempts, cause, back_filled: 0 });
        tally.is_down.store(true, Ordering::Relaxed);
    }

    fn back_filled(&self) {
        let Some(tally) = self.tally() else { return };
        if let Some(gap) = tally.connections().gaps.last_mut() {
            gap.back_filled = gap.back_filled.saturating_add(1);
        }
    }
}

impl SourceRecorder {
    /// The gaps and reconnects of this source so far.
    pub fn connections(&self) -> ConnectionCounts {
        self.tally().map(|tally| tally.connections().clone()).unwrap_or_default()
    }

    #[cold]
    fn heard(&self, tally: &SourceCounters, ns: u64) {
        let mut connections = tally.connections();
        if let Some(gap) = connections.open() {
            gap.to_ns = Some(ns.max(gap.from_ns));
        }
        tally.is_down.store(false, Ordering::Relaxed);
    }

    fn tally(&self) -> Option<&SourceCounters> {
        self.shared.sources.get(self.source)
    }
}

/// What the wall clock said at a moment that has just been.
fn ns_at(moment: Instant) -> u64 {
    let ago = u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX);
    clock::now_ns().saturating_sub(ago)
}

/// A poisoned lock only says that a panic happened elsewhere; what it guards is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
