//! Where a ledger is kept: the side of it that the way from frame to order touches.
//!
//! Before a buy is approved its event is in the intent file: one write into the page cache.
//! Nothing here waits for a disk, a database, another thread or a lock.
//!
//! # Invariants
//!
//! 1. [`Journal::admit`] and then [`Journal::write`] succeed before a buy is approved.
//! 2. Whatever else happens is written at once, or kept and written before the next approval.
//! 3. Nothing is approved beyond the durable ceiling.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use super::{
    error::LedgerError,
    event::{HaltReason, LedgerEvent, Sequence},
    intent::ApprovedTotals,
    mark::MarkClaim,
    record::Record,
    rejection::RiskRejection,
    timeline::Timeline,
    write_ahead_log::{SLOTS, WriteAheadLog},
    writer::{WriterMessage, WriterState},
};
use crate::domain::time::UnixMs;

/// Slots that only what follows from earlier approvals may use.
const SLOTS_FOR_ANSWERS: u64 = 4_096;
/// How many events are kept while the intent file cannot be written.
const BACKLOG_MAX: usize = 16_384;
/// How long closing waits for the writer to come to its end.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// How much of what the marketplace said is kept, in bytes.
const WORDS_BYTES_MAX: usize = 500;

/// The hot side of a ledger that is kept in files.
#[derive(Debug)]
pub(super) struct Journal {
    ring: WriteAheadLog,
    shared: Arc<WriterState>,
    /// `None` only while closing.
    messages: Option<SyncSender<WriterMessage>>,
    stopped: Receiver<()>,
    /// The thread that watches the files; `None` only while closing.
    watch: Option<FileWatcher>,
    next: u64,
    /// What was written last.
    last: Option<Record>,
    backlog: VecDeque<(UnixMs, LedgerEvent)>,
    is_failing: bool,
    user: Option<String>,
    is_bound: bool,
    timeline: Timeline,
    /// What the account's mark is taken with; `None`: this ledger takes none.
    claim: Option<MarkClaim>,
    /// The bits of the alarm that were reported as halts.
    reported: u32,
}

/// The thread that watches the files: it ends when the sender is dropped.
#[derive(Debug)]
pub(super) struct FileWatcher {
    pub(super) until: SyncSender<()>,
    pub(super) stopped: Receiver<()>,
}

/// What a journal is made of.
#[derive(Debug)]
pub(super) struct JournalParts {
    pub(super) ring: WriteAheadLog,
    pub(super) shared: Arc<WriterState>,
    pub(super) messages: SyncSender<WriterMessage>,
    pub(super) stopped: Receiver<()>,
    pub(super) watch: FileWatcher,
    pub(super) user: Option<String>,
    pub(super) timeline: Timeline,
    pub(super) claim: Option<MarkClaim>,
}

impl Journal {
    pub(super) fn new(parts: JournalParts) -> Self {
        let JournalParts { ring, shared, messages, stopped, watch, user, timeline, claim } = parts;
        let written = shared.written.load(Ordering::Acquire);
        // Only to be written once more; where it cannot be read, the next one will do.
        let last = ring.read(written).ok().flatten();
        Self {
            ring,
            shared,
            messages: Some(messages),
            stopped,
            watch: Some(watch),
            next: written.saturating_add(1),
            last,
            backlog: VecDeque::new(),
            is_failing: false,
            user,
            is_bound: false,
            timeline,
            claim,
            reported: 0,
        }
    }

    /// The losses of files and threads since the last call.
    pub(super) fn take_losses(&mut self) -> Vec<HaltReason> {
        let bits = self.shared.alarm().bits();
        let new = bits & !self.reported;
        self.reported = bits;
        WriterState::losses(new).collect()
    }

    /// Reports every loss that lasts once more.
    pub(super) const fn report_losses_again(&mut self) {
        self.reported = 0;
    }

    /// Whether a buy that brings everything ever approved to this much could be kept.
    pub(super) fn admit(&mut self, exposure: ApprovedTotals) -> Result<(), RiskRejection> {
        if self.shared.has_failed() || !self.flush() {
            return Err(RiskRejection::Unwritable);
        }
        let is_within = exposure.is_within(self.shared.ceiling());
        let room = self.room();
        if is_within && SLOTS_FOR_ANSWERS < room { Ok(()) } else { Err(RiskRejection::Behind) }
    }

    /// Writes an event; once this returns, it survives the death of this process.
    pub(super) fn write(&mut self, at: UnixMs, event: LedgerEvent) -> io::Result<()> {
        if self.room() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let uptime_ms = self.timeline.uptime_ms(at);
        let record = Record { position: self.next, at, uptime_ms, event };
        self.ring.write(&record)?;
        self.last = Some(record);
        self.shared.written.store(self.next, Ordering::Release);
        self.next = self.next.saturating_add(1);
        if self.is_failing {
            self.is_failing = false;
            tracing::warn!("The ledger's intent file can be written again");
        }
        Ok(())
    }

    /// Writes an event, now or as soon as it can be.
    pub(super) fn note(&mut self, at: UnixMs, event: LedgerEvent) {
        if self.backlog.len() < BACKLOG_MAX {
            self.backlog.push_back((at, event));
        } else {
            // What is in flight becomes unknown at the next start, which is safe.
            self.shared.fail("too many events wait for the intent file; start again".to_owned());
        }
        self.flush();
    }

    /// Writes the last record once more where it stands, which changes nothing but keeps the way
    /// there warm in the caches.
    pub(super) fn rehearse(&self) {
        let _warm = std::hint::black_box(self.shared.has_failed());
        // Not before the database has it: a write that fails may spoil what is in its place.
        let applied = self.shared.applied.load(Ordering::Acquire);
        if let Some(last) = self.last.as_ref().filter(|last| last.position <= applied) {
            // The same bytes at the same place; whether they arrive is of no account.
            let _same = self.ring.write(last).is_ok();
        }
    }

    /// Says loudly, once, that the intent file cannot be written.
    pub(super) fn failed(&mut self, error: &io::Error) {
        if !self.is_failing {
            self.is_failing = true;
            tracing::error!(
                "The ledger's intent file cannot be written, nothing is bought until it can: {error}"
            );
        }
    }

    fn flush(&mut self) -> bool {
        while let Some((at, event)) = self.backlog.front().copied() {
            if let Err(error) = self.write(at, event) {
                self.failed(&error);
                return false;
            }
            self.backlog.pop_front();
        }
        true
    }

    fn room(&self) -> u64 {
        let pending = self.next.saturating_sub(1);
        let pending = pending.saturating_sub(self.shared.applied.load(Ordering::Acquire));
        SLOTS.saturating_sub(pending)
    }

    /// Asks for a ceiling; it holds once it is durable.
    pub(super) fn want(&self, ceiling: ApprovedTotals) {
        if self.is_bound {
            self.shared.want(ceiling);
        }
    }

    /// Keeps what the marketplace said about an intent, if there is room for it.
    pub(super) fn words(&self, sequence: Sequence, words: &str) -> bool {
        let ends = (0..=WORDS_BYTES_MAX.min(words.len())).rev();
        let words = ends.filter_map(|end| words.get(..end)).next().unwrap_or_default().to_owned();
        self.send(WriterMessage::Words(sequence, words)).is_ok()
    }

    /// Binds the ledger to an account, or finds that it belongs to another.
    pub(super) fn bind(&mut self, user: &str) -> Result<(), LedgerError> {
        match &self.user {
            Some(ledger) if ledger == user => {}
            Some(ledger) => {
                let (ledger, asked) = (ledger.clone(), user.to_owned());
                return Err(LedgerError::OtherAccount { ledger, asked });
            }
            None => {}
        }
        if let Some(claim) = self.claim.as_ref().filter(|_claim| !self.is_bound) {
            let last = self.shared.last_order.load(Ordering::Acquire);
            self.shared.hold_mark(claim.make(user, last)?);
        }
        if self.user.is_none() {
            self.send(WriterMessage::User(user.to_owned()))?;
            self.user = Some(user.to_owned());
        }
        self.is_bound = true;
        Ok(())
    }

    pub(super) const fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// Why the ledger cannot be written, if it cannot.
    pub(super) fn why(&self) -> Option<String> {
        let failing = self.is_failing.then(|| "the intent file cannot be written".to_owned());
        self.shared.why().or(failing)
    }

    /// Whether the database has everything.
    pub(super) fn is_settled(&self) -> bool {
        self.backlog.is_empty()
            && self.shared.applied.load(Ordering::Acquire)
                == self.shared.written.load(Ordering::Acquire)
    }

    /// Whether the ceiling that was last asked for is durable.
    pub(super) fn is_leased(&self) -> bool {
        self.shared.is_leased()
    }

    fn send(&self, message: WriterMessage) -> Result<(), LedgerError> {
        let sender = self.messages.as_ref().ok_or(LedgerError::Stopped)?;
        sender.try_send(message).map_err(|_full_or_gone| LedgerError::Stopped)
    }
}

/// Lets the writer come to its end: everything is written, and the ledger closed in order.
impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
        if let Some(FileWatcher { until, stopped }) = self.watch.take() {
            drop(until);
            // It ends within one look at the files.
            let _ended = stopped.recv_timeout(CLOSE_MAX);
        }
        self.messages = None;
        // The writer never sends: that its end is gone says that it has ended.
        let ended = self.stopped.recv_timeout(CLOSE_MAX);
        if ended == Err(RecvTimeoutError::Timeout) && !std::thread::panicking() {
            tracing::error!("The ledger was not closed in time; the next start will look it over");
        }
        let last = self.shared.last_order.load(Ordering::Acquire);
        if let Some(Err(error)) = self.shared.with_mark(|mark| mark.advance(last)) {
            tracing::debug!("the account's mark was not brought up to date: {error}");
        }
    }
}
