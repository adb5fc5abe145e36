//! Thread that moves events from the intent file into the database.
//!
//! It polls every [`WRITE_INTERVAL`], so that the order path need not wake it. One transaction
//! contains the new events, the rows they change, and the durable limit on approvals. After the
//! commit the thread publishes its progress. If a write fails, it logs that once, stops ordering,
//! and retries.
//!
//! The database's files must not change between two commits. If another program wrote to them, or
//! restored an older copy, nothing more is written and ordering stops.
//!
//! # Invariants
//!
//! 1. [`WriterState::applied`] and [`WriterState::durable_limit`] are published after the commit
//!    that made them durable.
//! 2. An approval obeys a limit that is durable until its event is. A durable limit is lowered only
//!    after approvals obey the lower one.
//! 3. No event is dropped: failed commits are retried.
//! 4. SQLite's write-ahead log stays below twice [`WAL_BYTES_MAX`], even with other readers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    database::{Database, WriteBatch},
    error::LedgerError,
    event::{HaltReason, Sequence, StorageFault},
    intent::{ApprovedTotals, LimitRequest},
    item::OrderedItem,
    mark::AccountMark,
    private::LedgerLock,
    rules::RulesMessage,
    schema::StagedRows,
    state::LedgerState,
    write_ahead_log::WriteAheadLog,
};
use crate::{
    domain::account::LedgerAccount,
    domain::money::Amount,
    text::error_chain,
    threads::{Alarm, ThreadGuard, ThreadName, abort_point, failpoint, slow_point},
};

/// Interval at which the writer polls for events.
pub(super) const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// Delay after a failed write.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Interval of the checks for changes by other programs.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Size of SQLite's write-ahead log at which ordering stops, in bytes. It is truncated at 4 MiB
/// unless another program keeps reading an older state of the database. At twice this size nothing
/// more is written to it.
const WAL_BYTES_MAX: u64 = if cfg!(test) { 6 } else { 64 } * 1024 * 1024;
/// Alarm bit of a failed write. The writer clears it after a successful one.
const WRITE_FAILED: u32 = 1;
/// Maximum number of events per transaction.
const BATCH_MAX: usize = 1_024;
/// Capacity of the queue to the writer, in messages.
pub(super) const MESSAGES_MAX: usize = 256;
/// Maximum number of items of orders in the queue to the writer, and of those that it keeps while
/// nothing can be written.
pub(super) const ITEMS_MAX: usize = 1_024;

/// Each commit lowers the remembered duration by one part in this many, so that a tenth of it is
/// left after 64 commits.
const SYNC_FORGETTING: u64 = 28;

/// Totals that are read and written without a lock.
#[derive(Debug, Default)]
struct AtomicTotals {
    /// In thousandths.
    coins: AtomicI64,
    count: AtomicU64,
}

impl AtomicTotals {
    fn load(&self) -> ApprovedTotals {
        ApprovedTotals {
            coins: Amount::from_thousandths(self.coins.load(Ordering::Acquire)),
            count: self.count.load(Ordering::Acquire),
        }
    }

    fn store(&self, totals: ApprovedTotals) {
        self.coins.store(totals.coins.thousandths(), Ordering::Release);
        self.count.store(totals.count, Ordering::Release);
    }
}

/// State shared by the order path, the writer and the watcher, lock-free on the order path. It owns
/// the ledger's locks, so that a panicking thread does not release them.
#[derive(Debug)]
pub(super) struct WriterState {
    /// Last position in the intent file.
    pub(super) written: AtomicU64,
    /// Last position in the database.
    pub(super) applied: AtomicU64,
    /// Durable limit on approvals.
    durable_limit: AtomicTotals,
    /// Requested limit on approvals.
    requested_limit: AtomicTotals,
    /// Number of requests that lower the durable limit, and of those that are durable.
    lowering: AtomicU64,
    lowered: AtomicU64,
    /// Duration of a commit in microseconds: the highest of the recent ones, which decays by
    /// [`SYNC_FORGETTING`].
    sync_micros: AtomicU64,
    /// Number of the last order in the database.
    pub(super) last_order: AtomicU64,
    /// First position in the intent file that this process wrote.
    first: u64,
    /// Stops approvals while raised.
    alarm: Alarm,
    /// Cause of the failed write.
    failure: Mutex<Option<String>>,
    mark: Mutex<Option<AccountMark>>,
    /// Set if the waker should be notified after the next commit.
    is_wake_requested: AtomicBool,
    waker: OnceLock<Arc<Notify>>,
    _lock: LedgerLock,
}

impl WriterState {
    /// Creates the state of an open ledger. `position` is the last one in the intent file and in
    /// the database.
    pub(super) fn new(lock: LedgerLock, alarm: Alarm, position: u64) -> Self {
        Self {
            written: AtomicU64::new(position),
            applied: AtomicU64::new(position),
            durable_limit: AtomicTotals::default(),
            requested_limit: AtomicTotals::default(),
            lowering: AtomicU64::default(),
            lowered: AtomicU64::default(),
            sync_micros: AtomicU64::default(),
            last_order: AtomicU64::default(),
            first: position,
            alarm,
            failure: Mutex::default(),
            mark: Mutex::default(),
            is_wake_requested: AtomicBool::default(),
            waker: OnceLock::new(),
            _lock: lock,
        }
    }

    /// Sets the notification for [`request_wake`](Self::request_wake). Only the first call has an
    /// effect.
    pub(super) fn set_waker(&self, waker: Arc<Notify>) {
        let _first = self.waker.set(waker).is_ok();
    }

    /// Requests a notification after the next commit.
    pub(super) fn request_wake(&self) {
        self.is_wake_requested.store(true, Ordering::Relaxed);
        // With the fence in `wake`, either the caller sees the progress of the writer, or the
        // writer sees this request.
        fence(Ordering::SeqCst);
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_wake_requested.swap(false, Ordering::Relaxed)
            && let Some(waker) = self.waker.get()
        {
            waker.notify_one();
        }
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) const fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Holds the mark, and returns the one that was held before.
    pub(super) fn hold_mark(&self, mark: Option<AccountMark>) -> Option<AccountMark> {
        std::mem::replace(&mut *self.mark.lock().unwrap_or_else(PoisonError::into_inner), mark)
    }

    /// Calls `f` with the mark, if one is held.
    pub(super) fn with_mark<T>(&self, f: impl FnOnce(&mut AccountMark) -> T) -> Option<T> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(f)
    }

    pub(super) fn durable_limit(&self) -> ApprovedTotals {
        self.durable_limit.load()
    }

    pub(super) fn set_durable_limit(&self, limit: ApprovedTotals) {
        self.durable_limit.store(limit);
    }

    /// Requests a limit. Only the thread that approves calls it. Until a lower limit is durable,
    /// the request does not change, and approvals obey it: the writer may make it durable at any
    /// moment.
    pub(super) fn request_limit(&self, request: LimitRequest) {
        if self.is_lowering() {
            return;
        }
        let highest = self.requested_limit();
        match request.max {
            Some(max) if !highest.is_within(max) => {
                self.requested_limit.store(request.wanted);
                self.lowering.fetch_add(1, Ordering::Release);
            }
            // The writer may be making the earlier request durable.
            Some(_) => self.requested_limit.store(highest.max(request.wanted)),
            None => self.requested_limit.store(request.wanted),
        }
    }

    /// Returns the requested limit, but at least the durable one.
    fn requested_limit(&self) -> ApprovedTotals {
        self.requested_limit.load().max(self.durable_limit())
    }

    /// Returns `true` until a lower limit is durable that was requested.
    pub(super) fn is_lowering(&self) -> bool {
        self.lowered.load(Ordering::Acquire) != self.lowering.load(Ordering::Relaxed)
    }

    /// Returns the limit that approvals obey.
    #[inline]
    pub(super) fn limit_in_force(&self) -> ApprovedTotals {
        // Is read before the durable limit, which is the lower one afterwards.
        let is_lowering = self.is_lowering();
        let durable = self.durable_limit();
        if is_lowering { durable.min(self.requested_limit.load()) } else { durable }
    }

    /// Returns the limit to make durable, and the number for [`on_durable`](Self::on_durable).
    pub(super) fn limit_to_commit(&self) -> (ApprovedTotals, u64) {
        let lowering = self.lowering.load(Ordering::Acquire);
        let is_lowering = lowering != self.lowered.load(Ordering::Relaxed);
        let requested = self.requested_limit.load();
        (if is_lowering { requested } else { requested.max(self.durable_limit()) }, lowering)
    }

    /// Publishes that the limit with this number is durable.
    pub(super) fn on_durable(&self, lowering: u64) {
        self.lowered.store(lowering, Ordering::Release);
    }

    /// Returns the highest duration of the recent commits.
    pub(super) fn sync_time(&self) -> Duration {
        Duration::from_micros(self.sync_micros.load(Ordering::Relaxed))
    }

    /// Records the duration of a commit. Only the writer calls it.
    pub(super) fn record_sync(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.sync_micros.load(Ordering::Relaxed);
        let forgotten = before.saturating_sub(before.div_ceil(SYNC_FORGETTING));
        self.sync_micros.store(took.max(forgotten), Ordering::Relaxed);
    }

    /// Returns `true` if the requested limit is durable.
    pub(super) fn is_limit_durable(&self) -> bool {
        !self.is_lowering() && self.requested_limit() == self.durable_limit()
    }

    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        self.alarm.is_raised()
    }

    /// Returns the halts for the alarm bits of lost files and threads.
    pub(super) fn losses(bits: u32) -> impl Iterator<Item = HaltReason> {
        let faults = StorageFault::among(bits).map(HaltReason::Storage);
        faults.chain(Alarm::lost_threads(bits).map(HaltReason::Thread))
    }

    /// Returns the reason if nothing may be approved.
    pub(super) fn failure(&self) -> Option<String> {
        let loss = Self::losses(self.alarm.bits()).next();
        let failure = || self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loss.map(|loss| loss.to_string()).or_else(failure)
    }

    /// Stops ordering because of a fault at `path`, and logs it once.
    pub(super) fn raise(&self, fault: StorageFault, path: &Path) {
        if self.alarm.raise(fault.bit()) {
            tracing::error!("Ordering halted: {fault}: {path:?}. What to do: {}", fault.remedy());
        }
    }

    /// Stops ordering until a write succeeds, and logs it once.
    pub(super) fn fail(&self, reason: String) {
        if self.alarm.raise(WRITE_FAILED) {
            tracing::error!(
                "The ledger cannot be written: {reason}. What to do: check the free space and the \
                 permissions of SNIPER_DATA. Nothing is ordered until a write succeeds"
            );
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn clear_failure(&self) {
        if self.alarm.clear(WRITE_FAILED) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::warn!("The ledger can be written again. Ordering continues");
        }
    }
}

/// Message to the writer.
#[derive(Debug)]
pub(super) enum WriterMessage {
    /// Response of the market to an order.
    Response(Sequence, String),
    /// Account of the ledger.
    User(LedgerAccount),
    /// Limits and entries of a reload.
    Rules(Box<RulesMessage>),
}

/// State of the writer's thread.
#[derive(Debug)]
pub(super) struct LedgerWriter {
    pub(super) shared: Arc<WriterState>,
    pub(super) intent_log: WriteAheadLog,
    pub(super) database: Database,
    /// Ledger state of the database plus `batch`.
    pub(super) state: LedgerState,
    pub(super) messages: Receiver<WriterMessage>,
    pub(super) new_items: Receiver<(Sequence, OrderedItem)>,
    /// Responses to orders that are not staged yet, or that wait for the next commit.
    pub(super) waiting_responses: Vec<(Sequence, String)>,
    /// The same for their items.
    pub(super) waiting_items: Vec<(Sequence, OrderedItem)>,
    pub(super) batch: WriteBatch,
    /// Path of the copy to keep while the database's own files are lost.
    pub(super) copy: Option<PathBuf>,
    /// Last position for which a copy was attempted; `None` while the files are not lost.
    pub(super) copied: Option<u64>,
}

impl LedgerWriter {
    /// Runs until the ledger is closed.
    pub(super) fn run(mut self, guard: ThreadGuard) {
        let (mut wait, mut checked_at) = (WRITE_INTERVAL, Instant::now());
        loop {
            if failpoint(ThreadName::Ledger) {
                return;
            }
            let is_last = match self.messages.recv_timeout(wait) {
                Ok(message) => {
                    self.on_message(message);
                    self.messages.try_iter().collect::<Vec<_>>().into_iter().for_each(|message| {
                        self.on_message(message);
                    });
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            self.take_new_items();
            if checked_at.elapsed() >= CHECK_INTERVAL {
                checked_at = Instant::now();
                self.check_database();
            }
            let written = self.write(is_last);
            wait = match &written {
                Ok(()) => WRITE_INTERVAL,
                Err(error) => {
                    self.shared.fail(error_chain(error));
                    RETRY_DELAY
                }
            };
            if is_last {
                self.close();
                return guard.finished();
            }
        }
    }

    /// Checks for changes of the database's files by other programs, and the size of the
    /// write-ahead log.
    fn check_database(&mut self) {
        if self.database.is_changed() {
            self.shared.raise(StorageFault::Changed, self.database.path());
        }
        self.update_copy();
        if self.is_frozen() {
            return;
        }
        let full = StorageFault::LogFull;
        if self.shared.alarm().bits() & full.bit() != 0 {
            self.database.truncate_wal();
            if self.database.wal_bytes() <= WAL_BYTES_MAX {
                self.shared.alarm().clear(full.bit());
                tracing::warn!("The ledger's log has space again; halted until `sniper resume`");
            }
        } else if self.database.wal_bytes() > WAL_BYTES_MAX {
            self.shared.raise(full, self.database.path());
        }
    }

    /// Returns `true` if nothing may be written because another program changed the files.
    fn is_frozen(&self) -> bool {
        self.shared.alarm().bits() & StorageFault::Changed.bit() != 0
    }

    /// Keeps a copy of the database while its own files are lost, because the data of unlinked
    /// files is gone when this process ends.
    fn update_copy(&mut self) {
        let Some(copy) = &self.copy else { return };
        let lost = StorageFault::Gone.bit() | StorageFault::Replaced.bit();
        if self.shared.alarm().bits() & lost == 0 {
            if self.copied.take().is_some() {
                drop(fs::remove_file(copy));
            }
            return;
        }
        if self.copied == Some(self.batch.applied) {
            return;
        }
        let is_first = self.copied.is_none();
        self.copied = Some(self.batch.applied);
        match self.database.copy_to(copy) {
            Ok(()) if is_first => tracing::warn!("A copy of the ledger was saved: {copy:?}"),
            Ok(()) => {}
            Err(error) => {
                tracing::error!("Saving a copy of the ledger failed: {}", error_chain(&error));
            }
        }
    }

    /// Updates the copy, and preserves files that are not the ones opened: SQLite could otherwise
    /// delete another write-ahead log by its path.
    fn close(&mut self) {
        self.copied = self.copied.map(|_copied| 0);
        self.update_copy();
        let foreign = [StorageFault::Gone, StorageFault::Replaced, StorageFault::Changed];
        let foreign = foreign.iter().fold(0, |bits, fault| bits | fault.bit());
        if self.shared.alarm().bits() & foreign != 0 {
            self.database.keep_wal_on_close();
        }
    }

    fn commit(&mut self) -> Result<(), LedgerError> {
        if self.database.wal_bytes() > WAL_BYTES_MAX.saturating_mul(2) {
            return Err(LedgerError::LogFull { path: self.database.path().to_owned() });
        }
        let begun = Instant::now();
        slow_point("sync");
        self.database.commit(&self.batch)?;
        self.shared.record_sync(begun.elapsed());
        Ok(())
    }

    /// Commits the batch with the items of its orders. If that fails, the items are dropped and the
    /// rest is committed without them, so that no order depends on an item. `has_changes` is `true`
    /// if the batch contains more than items.
    fn commit_with_items(&mut self, has_changes: bool) -> Result<(), LedgerError> {
        match self.commit() {
            Err(error) if !self.batch.items.is_empty() => {
                let count = self.batch.items.len();
                tracing::debug!("the items of {count} orders were not stored: {error}");
                self.batch.items.clear();
                if has_changes { self.commit() } else { Ok(()) }
            }
            result => result,
        }
    }

    fn take_new_items(&mut self) {
        for item in self.new_items.try_iter() {
            if self.waiting_items.len() < ITEMS_MAX {
                self.waiting_items.push(item);
            }
        }
    }

    /// Moves the responses and the items of known orders into the batch. Others wait: an order that
    /// is not in the database may be lost, and its number given to another order.
    fn stage_waiting(&mut self) {
        let next = self.state.next_sequence();
        move_known(next, &mut self.waiting_responses, &mut self.batch.responses);
        move_known(next, &mut self.waiting_items, &mut self.batch.items);
    }

    fn on_message(&mut self, message: WriterMessage) {
        match message {
            WriterMessage::Response(sequence, response) => {
                let (waiting, staged) = (&mut self.waiting_responses, &self.batch.responses);
                // Responses are informational; they may be dropped while writes fail.
                if waiting.len().saturating_add(staged.len()) < MESSAGES_MAX {
                    waiting.push((sequence, response));
                } else {
                    tracing::debug!("the response to order {sequence} was not stored");
                }
            }
            WriterMessage::User(user) => self.batch.user = Some(user),
            WriterMessage::Rules(message) => {
                let result = if self.is_frozen() {
                    Err("another program changed its files".to_owned())
                } else {
                    self.database.register_rules(&message).map_err(|error| error_chain(&error))
                };
                let is_written = result.is_ok();
                let has_given_up = message.done.send(result).is_err();
                if is_written
                    && has_given_up
                    && let Err(error) = self.database.undo_renames(&message.renamed)
                {
                    tracing::error!(
                        "Reload failed halfway: {}. Run it again, or renamed entries restart at 0",
                        error_chain(&error)
                    );
                }
            }
        }
    }

    fn write(&mut self, is_last: bool) -> Result<(), LedgerError> {
        loop {
            if self.is_frozen() {
                return Ok(());
            }
            let is_complete = self.stage()?;
            let (requested, lowering) = self.shared.limit_to_commit();
            let limit =
                if is_last && is_complete { self.state.approved_totals() } else { requested };
            self.stage_waiting();
            let has_changes = !self.batch.staged.is_empty()
                || !self.batch.responses.is_empty()
                || self.batch.user.is_some()
                || limit != self.batch.durable_limit
                || is_last
                || self.shared.alarm().bits() & WRITE_FAILED != 0;
            if has_changes || !self.batch.items.is_empty() {
                if self.database.is_changed() {
                    self.shared.raise(StorageFault::Changed, self.database.path());
                    return Ok(());
                }
                self.batch.durable_limit = limit;
                self.batch.clean = is_last && is_complete;
                let has_events = !self.batch.staged.is_empty();
                if has_events {
                    abort_point("staged");
                }
                self.commit_with_items(has_changes)?;
                if has_events {
                    abort_point("committed");
                }
                self.publish();
            }
            self.shared.on_durable(lowering);
            if is_complete {
                return Ok(());
            }
        }
    }

    /// Adds the new records of the intent file to the batch. Returns `true` if none is left.
    fn stage(&mut self) -> Result<bool, LedgerError> {
        let written = self.shared.written.load(Ordering::Acquire);
        while self.batch.applied < written {
            if self.batch.staged.len() >= BATCH_MAX {
                return Ok(false);
            }
            let position = self.batch.applied.saturating_add(1);
            let failed = LedgerError::file("read the intent file of", self.database.path());
            let read = self.intent_log.read(position).map_err(failed)?;
            let record = read.ok_or_else(|| {
                self.shared.raise(StorageFault::Changed, self.database.path());
                self.database.damaged(format!("record {position} of ledger.intents is missing"))
            })?;
            let staged = StagedRows::new(&mut self.state, record);
            self.batch.staged.push(staged.map_err(|source| self.database.contradiction(source))?);
            self.batch.applied = position;
        }
        Ok(true)
    }

    fn publish(&mut self) {
        self.batch.staged.clear();
        self.batch.responses.clear();
        self.batch.items.clear();
        self.batch.user = None;
        self.shared.applied.store(self.batch.applied, Ordering::Release);
        self.shared.set_durable_limit(self.batch.durable_limit);
        let last_order = self.state.next_sequence().0.saturating_sub(1);
        self.shared.last_order.store(last_order, Ordering::Release);
        self.shared.clear_failure();
        self.shared.wake();
    }
}

/// Moves the elements of orders before `next` from `waiting` to `staged`.
fn move_known<T>(
    next: Sequence,
    waiting: &mut Vec<(Sequence, T)>,
    staged: &mut Vec<(Sequence, T)>,
) {
    staged.extend(waiting.extract_if(.., |(sequence, _)| *sequence < next));
}
