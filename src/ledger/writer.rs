//! The thread that carries events from the intent file into the database.
//!
//! It looks every [`PERIOD`], so that nobody has to wake it on the way from frame to order. In one
//! transaction it writes the events that are new, what follows from them, and the ceiling of the
//! lease; then it publishes how far it has come. When the disk refuses, it says so once, buying
//! stops, and it keeps trying.
//!
//! Between two commits nothing may change the database's files. If another program wrote to them,
//! or restored an older copy in place, nothing more is written and buying stops.
//!
//! # Invariants
//!
//! 1. [`WriterState::applied`] and [`WriterState::ceiling`] are published after the commit that made them
//!    durable.
//! 2. Nothing is dropped: what could not be committed is tried again.
//! 3. The database's write-ahead log stays below twice [`LOG_BYTES_MAX`], whoever reads it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    database::{Database, WriteBatch},
    error::LedgerError,
    event::{HaltReason, Sequence},
    failpoint,
    fault::StorageFault,
    intent::ApprovedTotals,
    lock::LedgerLock,
    mark::AccountMark,
    rows::StagedRows,
    state::LedgerState,
    write_ahead_log::WriteAheadLog,
};
use crate::{
    domain::money::Amount,
    text::error_chain,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

/// How often the writer looks for events.
pub(super) const PERIOD: Duration = Duration::from_millis(10);
/// How long the writer waits after the disk has refused.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the writer looks whether another program changed the database.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the database's write-ahead log may become before buying stops, in bytes. It is emptied
/// at 4 MiB unless another program keeps reading an older state of the database. At twice this
/// length nothing more is written to it.
const LOG_BYTES_MAX: u64 = if cfg!(test) { 6 } else { 64 } * 1024 * 1024;
/// The bit of the alarm that says that the disk refuses. The writer clears it when it accepts again.
const REFUSED: u32 = 1;
/// How many events are written at once.
const BATCH_MAX: usize = 1_024;
/// How many messages to the writer may wait.
pub(super) const MESSAGES_MAX: usize = 256;

/// What the hot path, the writer and the watch tell each other, without a lock on the hot path.
/// The locks of the ledger belong to it, and not to a thread that may panic.
#[derive(Debug)]
pub(super) struct WriterState {
    /// The last position in the intent file.
    pub(super) written: AtomicU64,
    /// The last position that the database has.
    pub(super) applied: AtomicU64,
    /// The durable ceiling.
    ceiling_coins: AtomicI64,
    ceiling_count: AtomicU64,
    /// The ceiling that is asked for.
    wanted_coins: AtomicI64,
    wanted_count: AtomicU64,
    /// The number of the last order that the database has.
    pub(super) last_order: AtomicU64,
    /// The first position that this process wrote to the intent file.
    first: u64,
    /// Why nothing may be approved.
    alarm: Alarm,
    /// Why the disk refuses.
    why: Mutex<Option<String>>,
    mark: Mutex<Option<AccountMark>>,
    _lock: LedgerLock,
}

impl WriterState {
    /// The state of a ledger that was opened: `position` is the last one in the intent file, which
    /// this process wrote and the database has.
    pub(super) fn new(lock: LedgerLock, alarm: Alarm, position: u64) -> Self {
        Self {
            written: AtomicU64::new(position),
            applied: AtomicU64::new(position),
            ceiling_coins: AtomicI64::default(),
            ceiling_count: AtomicU64::default(),
            wanted_coins: AtomicI64::default(),
            wanted_count: AtomicU64::default(),
            last_order: AtomicU64::default(),
            first: position,
            alarm,
            why: Mutex::default(),
            mark: Mutex::default(),
            _lock: lock,
        }
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) const fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    pub(super) fn hold_mark(&self, mark: Option<AccountMark>) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Does something with the mark; `None`: none is held.
    pub(super) fn with_mark<T>(&self, does: impl FnOnce(&mut AccountMark) -> T) -> Option<T> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(does)
    }

    pub(super) fn ceiling(&self) -> ApprovedTotals {
        ApprovedTotals {
            coins: Amount::from_cents(self.ceiling_coins.load(Ordering::Acquire)),
            count: self.ceiling_count.load(Ordering::Acquire),
        }
    }

    pub(super) fn set_ceiling(&self, ceiling: ApprovedTotals) {
        self.ceiling_coins.store(ceiling.coins.cents(), Ordering::Release);
        self.ceiling_count.store(ceiling.count, Ordering::Release);
    }

    pub(super) fn want(&self, ceiling: ApprovedTotals) {
        self.wanted_coins.store(ceiling.coins.cents(), Ordering::Release);
        self.wanted_count.store(ceiling.count, Ordering::Release);
    }

    /// The ceiling asked for, but never below the one that is durable.
    fn wanted(&self) -> ApprovedTotals {
        let now = self.ceiling();
        let coins = Amount::from_cents(self.wanted_coins.load(Ordering::Acquire));
        let count = self.wanted_count.load(Ordering::Acquire);
        ApprovedTotals { coins: coins.max(now.coins), count: count.max(now.count) }
    }

    /// Whether the ceiling that was last asked for is durable.
    pub(super) fn is_leased(&self) -> bool {
        self.wanted() == self.ceiling()
    }

    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        self.alarm.is_raised()
    }

    /// The halts that the alarm asks for: what no clean write can make good.
    pub(super) fn losses(bits: u32) -> impl Iterator<Item = HaltReason> {
        let faults = StorageFault::among(bits).map(HaltReason::Storage);
        faults.chain(Alarm::lost(bits).map(HaltReason::Thread))
    }

    /// Why nothing may be approved, if so.
    pub(super) fn why(&self) -> Option<String> {
        let loss = Self::losses(self.alarm.bits()).next();
        let why = || self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loss.map(|loss| loss.to_string()).or_else(why)
    }

    /// Stops buying because of what `path` shows, and logs that once.
    pub(super) fn raise(&self, fault: StorageFault, path: &Path) {
        if self.alarm.raise(fault.bit()) {
            tracing::error!("Buying stopped: {fault}: {path:?}. What to do: {}", fault.remedy());
        }
    }

    /// Stops buying until the disk accepts a write, and says so once.
    pub(super) fn fail(&self, why: String) {
        if self.alarm.raise(REFUSED) {
            tracing::error!("The ledger cannot be written, nothing is bought until it can: {why}");
        }
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn heal(&self) {
        if self.alarm.clear(REFUSED) {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::warn!("The ledger can be written again, buying goes on");
        }
    }
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum WriterMessage {
    /// What the marketplace said about an intent.
    Words(Sequence, String),
    /// Whose account this is.
    User(String),
}

/// The writer.
#[derive(Debug)]
pub(super) struct LedgerWriter {
    pub(super) shared: Arc<WriterState>,
    pub(super) ring: WriteAheadLog,
    pub(super) database: Database,
    /// The book as the database has it, with what is in `batch`.
    pub(super) book: LedgerState,
    pub(super) messages: Receiver<WriterMessage>,
    pub(super) batch: WriteBatch,
    /// Where a copy of the database is kept while its own files are lost; `None`: nowhere.
    pub(super) copy: Option<PathBuf>,
    /// The last position that the copy has; `None`: there is no copy.
    pub(super) copied: Option<u64>,
}

impl LedgerWriter {
    /// Writes until the ledger is closed.
    pub(super) fn run(mut self, guard: ThreadGuard) {
        let (mut wait, mut looked) = (PERIOD, Instant::now());
        loop {
            failpoint(ThreadName::Ledger);
            let is_last = match self.messages.recv_timeout(wait) {
                Ok(message) => {
                    self.take(message);
                    self.messages.try_iter().collect::<Vec<_>>().into_iter().for_each(|message| {
                        self.take(message);
                    });
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look();
            }
            let written = self.write(is_last);
            wait = match &written {
                Ok(()) => PERIOD,
                Err(error) => {
                    self.shared.fail(error_chain(error));
                    PAUSE
                }
            };
            if is_last {
                self.close();
                return guard.finished();
            }
        }
    }

    /// Looks at the database's files: whether another program changed them, and whether the
    /// write-ahead log has become too long.
    fn look(&mut self) {
        if self.database.is_changed() {
            self.shared.raise(StorageFault::Changed, self.database.path());
        }
        self.look_after_copy();
        if self.is_frozen() {
            return;
        }
        let full = StorageFault::LogFull;
        if self.shared.alarm().bits() & full.bit() != 0 {
            self.database.empty_log();
            if self.database.log_bytes() <= LOG_BYTES_MAX {
                self.shared.alarm().clear(full.bit());
                tracing::warn!(
                    "The ledger's write-ahead log was emptied. Buying stays halted until \
                     `sniper resume`"
                );
            }
        } else if self.database.log_bytes() > LOG_BYTES_MAX {
            self.shared.raise(full, self.database.path());
        }
    }

    /// Whether nothing may be written any more, because other contents are there than were written.
    fn is_frozen(&self) -> bool {
        self.shared.alarm().bits() & StorageFault::Changed.bit() != 0
    }

    /// Keeps a copy of the database for as long as its own files are lost: what is written to files
    /// that no path names ends with this process.
    fn look_after_copy(&mut self) {
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
                tracing::error!("No copy of the ledger was saved: {}", error_chain(&error));
            }
        }
    }

    /// Leaves the files alone if they are not those that were opened: closing the database would
    /// otherwise remove a write-ahead log by its path.
    fn close(&mut self) {
        self.copied = self.copied.map(|_copied| 0);
        self.look_after_copy();
        let foreign = [StorageFault::Gone, StorageFault::Replaced, StorageFault::Changed];
        let foreign = foreign.iter().fold(0, |bits, fault| bits | fault.bit());
        if self.shared.alarm().bits() & foreign != 0 {
            self.database.keep_log_on_close();
        }
    }

    fn commit(&mut self) -> Result<(), LedgerError> {
        if self.database.log_bytes() > LOG_BYTES_MAX.saturating_mul(2) {
            return Err(LedgerError::LogFull { path: self.database.path().to_owned() });
        }
        self.database.commit(&self.batch)
    }

    fn take(&mut self, message: WriterMessage) {
        match message {
            // Words are for people; while the disk refuses, the latest of them may go.
            WriterMessage::Words(..) if self.batch.words.len() >= MESSAGES_MAX => {}
            WriterMessage::Words(sequence, words) => self.batch.words.push((sequence, words)),
            WriterMessage::User(user) => self.batch.user = Some(user),
        }
    }

    fn write(&mut self, is_last: bool) -> Result<(), LedgerError> {
        loop {
            if self.is_frozen() {
                return Ok(());
            }
            let is_whole = self.stage()?;
            // Words are about intents that must be there first.
            let wanted =
                if is_last && is_whole { self.book.exposure() } else { self.shared.wanted() };
            let is_news = !self.batch.staged.is_empty()
                || !self.batch.words.is_empty()
                || self.batch.user.is_some()
                || wanted != self.batch.ceiling
                || is_last;
            if is_news || self.has_refused() {
                if self.database.is_changed() {
                    self.shared.raise(StorageFault::Changed, self.database.path());
                    return Ok(());
                }
                self.batch.ceiling = wanted;
                self.batch.clean = is_last && is_whole;
                let is_about_events = !self.batch.staged.is_empty();
                if is_about_events {
                    failpoint::pass(failpoint::OrderStep::Staged);
                }
                self.commit()?;
                if is_about_events {
                    failpoint::pass(failpoint::OrderStep::Committed);
                }
                self.published();
            }
            if is_whole {
                return Ok(());
            }
        }
    }

    fn has_refused(&self) -> bool {
        self.shared.alarm().bits() & REFUSED != 0
    }

    /// Reads what is new in the intent file; true: all of it.
    fn stage(&mut self) -> Result<bool, LedgerError> {
        let written = self.shared.written.load(Ordering::Acquire);
        while self.batch.applied < written {
            if self.batch.staged.len() >= BATCH_MAX {
                return Ok(false);
            }
            let position = self.batch.applied.saturating_add(1);
            let what = "read the intent file beside";
            let path = self.database.path().to_owned();
            let read = self.ring.read(position);
            let read = read.map_err(|source| LedgerError::File { what, path, source })?;
            let record = read.ok_or_else(|| {
                self.database.damaged(format!("record {position} of the intent file is not there"))
            })?;
            let staged = StagedRows::new(&mut self.book, record);
            self.batch.staged.push(staged.map_err(|source| self.database.contradiction(source))?);
            self.batch.applied = position;
        }
        Ok(true)
    }

    fn published(&mut self) {
        self.batch.staged.clear();
        self.batch.words.clear();
        self.batch.user = None;
        self.shared.applied.store(self.batch.applied, Ordering::Release);
        self.shared.set_ceiling(self.batch.ceiling);
        let last_order = self.book.next_sequence().0.saturating_sub(1);
        self.shared.last_order.store(last_order, Ordering::Release);
        self.shared.heal();
    }
}
