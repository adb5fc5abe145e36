//! Part of a stored ledger that the order path uses.
//!
//! The event of an order is in the intent file before the order is approved: one write into the
//! page cache. Neither an approval nor a recorded event waits for a disk, a database, another
//! thread or a lock; opening, binding and closing do.
//!
//! # Invariants
//!
//! 1. [`Journal::check_limit`] and then [`Journal::write`] succeed before an order is approved.
//! 2. Every other event is written immediately, or queued and written before the next approval.
//! 3. Nothing is approved beyond the durable limit.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    database::{Database, WriteBatch},
    error::LedgerError,
    event::{HaltReason, LedgerEvent, Sequence},
    intent::{ApprovedTotals, LimitRequest},
    item::OrderedItem,
    mark::{AccountMark, MarkClaim},
    open::{DATABASE, DATABASE_INDEX, DATABASE_LOG, INTENT_FILE},
    order_request::RiskRejection,
    private::LOCK_FILE,
    record::{Record, Timeline},
    state::LedgerState,
    watch::FileWatch,
    write_ahead_log::{SLOTS, WriteAheadLog},
    writer::{ITEMS_MAX, LedgerWriter, MESSAGES_MAX, WriterMessage, WriterState},
};
use crate::{
    domain::account::{AccountIds, LedgerAccount},
    domain::time::UnixMs,
    text::{counted, truncated},
    threads::{ThreadGuard, ThreadName, priority},
};

/// Slots of the intent file that new approvals must leave free for the events that follow.
const ANSWER_SLOTS: u64 = 4_096;
/// Maximum number of queued events while the intent file cannot be written.
pub(super) const BACKLOG_MAX: usize = 16_384;
const EVENTS_LOST: &str = "the disk failed too long, and results are missing; restart the bot";
/// Maximum wait for the writer to finish when closing.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// Maximum length of a stored response, in bytes.
const RESPONSE_BYTES_MAX: usize = 500;

/// Access to a stored ledger from the order path.
#[derive(Debug)]
pub(super) struct Journal {
    intent_log: WriteAheadLog,
    shared: Arc<WriterState>,
    /// `None` only while closing.
    messages: Option<SyncSender<WriterMessage>>,
    /// Items of orders. The writer polls this queue, so that no message wakes it.
    items: SyncSender<(Sequence, OrderedItem)>,
    /// Is disconnected when the writer has ended.
    stopped: Receiver<()>,
    /// Thread that watches the files; `None` only while closing.
    watch: Option<FileWatcher>,
    /// Position of the next record.
    next: u64,
    /// Position of the last record that must be durable before an order.
    required: u64,
    /// `true` until the ledger's first complete reading of the account is recorded.
    lacks_first_reading: bool,
    /// The record written last.
    last: Option<Record>,
    /// Events that the intent file has not accepted yet.
    backlog: VecDeque<(UnixMs, LedgerEvent)>,
    /// `true` once an event was dropped. Nothing is recorded or approved after it, because the rest
    /// could contradict the record without it.
    has_lost: bool,
    is_failing: bool,
    user: Option<LedgerAccount>,
    is_bound: bool,
    /// Mark of the recipient, locked beside that of the account.
    recipient_mark: Option<File>,
    timeline: Timeline,
    /// Parameters of the account's mark; `None` if this ledger takes no mark.
    claim: Option<MarkClaim>,
    /// Alarm bits that were already reported as halts.
    reported: u32,
}

/// Thread that watches the files. It ends when `until` is dropped.
#[derive(Debug)]
struct FileWatcher {
    until: SyncSender<()>,
    stopped: Receiver<()>,
}

/// Parts of a ledger whose files are open.
#[derive(Debug)]
pub(super) struct JournalParts<'a> {
    pub(super) folder: &'a Path,
    pub(super) intent_log: WriteAheadLog,
    pub(super) shared: Arc<WriterState>,
    pub(super) database: Database,
    pub(super) state: LedgerState,
    pub(super) timeline: Timeline,
    pub(super) batch: WriteBatch,
    pub(super) user: Option<LedgerAccount>,
    pub(super) claim: Option<MarkClaim>,
}

impl Journal {
    /// Starts the threads of a ledger.
    pub(super) fn start(parts: JournalParts<'_>) -> io::Result<Self> {
        let JournalParts { intent_log, shared, timeline, user, claim, .. } = parts;
        let names = [DATABASE, DATABASE_LOG, DATABASE_INDEX, INTENT_FILE, LOCK_FILE];
        let watch = FileWatch::new(parts.folder, &names, intent_log.clone(), Arc::clone(&shared));
        let guard = |thread| ThreadGuard::new(thread, shared.alarm().clone());
        let builder = |thread: ThreadName| thread::Builder::new().name(thread.to_string());
        let (messages, received) = sync_channel::<WriterMessage>(MESSAGES_MAX);
        let (items, new_items) = sync_channel(ITEMS_MAX);
        let (ended, stopped) = sync_channel::<()>(1);
        let has_balance = parts.state.account.last_reading().is_some();
        let lacks_first_reading = !parts.state.baselined || !has_balance;
        let writer = LedgerWriter {
            shared: Arc::clone(&shared),
            intent_log: intent_log.clone(),
            database: parts.database,
            state: parts.state,
            messages: received,
            new_items,
            waiting_responses: Vec::new(),
            waiting_items: Vec::new(),
            batch: parts.batch,
            copy: claim.as_ref().and_then(MarkClaim::copy_path),
            copied: None,
        };
        let writer_guard = guard(ThreadName::Ledger);
        builder(ThreadName::Ledger).spawn(move || {
            priority::lower(ThreadName::Ledger);
            writer.run(writer_guard);
            drop(ended);
        })?;
        let (until, is_over) = sync_channel::<()>(1);
        let (watch_ended, watch_stopped) = sync_channel::<()>(1);
        let watch_guard = guard(ThreadName::Files);
        builder(ThreadName::Files).spawn(move || {
            priority::lower(ThreadName::Files);
            watch.run(&is_over, watch_guard);
            drop(watch_ended);
        })?;
        let written = shared.written.load(Ordering::Acquire);
        Ok(Self {
            // Needed only by `warm_caches`; if it cannot be read, the next record serves as well.
            last: intent_log.read(written).ok().flatten(),
            intent_log,
            shared,
            messages: Some(messages),
            items,
            stopped,
            watch: Some(FileWatcher { until, stopped: watch_stopped }),
            next: written.saturating_add(1),
            required: 0,
            lacks_first_reading,
            backlog: VecDeque::new(),
            has_lost: false,
            is_failing: false,
            user,
            is_bound: false,
            recipient_mark: None,
            timeline,
            claim,
            reported: 0,
        })
    }

    /// Returns the losses of files and threads since the last call.
    pub(super) fn take_new_losses(&mut self) -> Vec<HaltReason> {
        let alarm = self.shared.alarm();
        // A fault that ended before this call halts, too.
        let raised = alarm.take_raised();
        let bits = alarm.bits();
        let new = (raised | bits) & !self.reported;
        self.reported = bits;
        WriterState::losses(new).collect()
    }

    /// Reports every persisting loss again.
    pub(super) const fn reset_reported_losses(&mut self) {
        self.reported = 0;
    }

    /// Checks that an order that raises the approved totals to `approved` can be recorded.
    pub(super) fn check_limit(&mut self, approved: ApprovedTotals) -> Result<(), RiskRejection> {
        if self.shared.has_failed() || !self.flush() {
            self.shared.request_wake();
            return Err(RiskRejection::Unwritable);
        }
        if self.has_room(approved) {
            return Ok(());
        }
        self.shared.request_wake();
        // The writer may have made room before it could see the request.
        if self.has_room(approved) { Ok(()) } else { Err(RiskRejection::Behind) }
    }

    #[inline]
    fn has_room(&self, approved: ApprovedTotals) -> bool {
        approved.is_within(self.shared.limit_in_force())
            && ANSWER_SLOTS < self.free_slots()
            && self.has_required()
    }

    /// Rejects orders until the ledger's first complete reading, which was recorded now, is
    /// durable: a power loss must not leave orders without a balance and a list before them.
    pub(super) fn require_first_reading(&mut self) {
        if std::mem::take(&mut self.lacks_first_reading) {
            self.require_durable();
        }
    }

    /// Rejects orders until everything recorded so far is durable.
    pub(super) fn require_durable(&mut self) {
        let backlog = u64::try_from(self.backlog.len()).unwrap_or(u64::MAX);
        self.required = self.next.saturating_sub(1).saturating_add(backlog);
    }

    /// Returns the highest duration of the recent syncs.
    pub(super) fn sync_time(&self) -> Duration {
        self.shared.sync_time()
    }

    pub(super) fn wake_on_progress(&self, waker: Arc<Notify>) {
        self.shared.set_waker(waker);
    }

    /// Writes an event. After this returns, the event survives the death of this process.
    pub(super) fn write(&mut self, at: UnixMs, event: LedgerEvent) -> io::Result<()> {
        if self.free_slots() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let uptime_ms = self.timeline.uptime_ms(at);
        let record = Record { position: self.next, at, uptime_ms, event };
        self.intent_log.write(&record)?;
        self.last = Some(record);
        self.shared.written.store(self.next, Ordering::Release);
        self.next = self.next.saturating_add(1);
        if self.is_failing && !self.has_lost {
            self.is_failing = false;
            tracing::warn!("The ledger can be written again. Ordering continues");
        }
        Ok(())
    }

    /// Writes an event now, or as soon as the intent file accepts it. After an event was dropped,
    /// nothing more is recorded.
    pub(super) fn append(&mut self, at: UnixMs, event: LedgerEvent) {
        if BACKLOG_MAX <= self.backlog.len() {
            self.flush();
        }
        if !self.has_lost && self.backlog.len() < BACKLOG_MAX {
            self.backlog.push_back((at, event));
        } else if !std::mem::replace(&mut self.has_lost, true) {
            // Without its outcome, an order in flight becomes unknown at the next start.
            tracing::error!("The ledger cannot be written: {EVENTS_LOST}. Nothing is ordered");
        }
        self.flush();
    }

    /// Writes the last record again at its place, to keep the write path in the CPU caches.
    pub(super) fn warm_caches(&self) {
        let _warm = std::hint::black_box(self.shared.has_failed());
        // A failed write may destroy the record, so the database must contain it already.
        let applied = self.shared.applied.load(Ordering::Acquire);
        if let Some(last) = self.last.as_ref().filter(|last| last.position <= applied) {
            // The database contains the record, so a failure has no effect.
            let _same = self.intent_log.write(last).is_ok();
        }
    }

    /// Logs once that the intent file cannot be written.
    #[cold]
    pub(super) fn on_write_error(&mut self, error: &io::Error) {
        if !self.is_failing {
            self.is_failing = true;
            tracing::error!(
                "The ledger cannot be written: {error}. What to do: check the free space and the \
                 permissions of SNIPER_DATA. Nothing is ordered until a write succeeds"
            );
        }
    }

    #[inline]
    fn flush(&mut self) -> bool {
        if self.backlog.is_empty() { !self.has_lost } else { self.flush_backlog() }
    }

    fn flush_backlog(&mut self) -> bool {
        while let Some((at, event)) = self.backlog.front().copied() {
            if let Err(error) = self.write(at, event) {
                self.on_write_error(&error);
                return false;
            }
            self.backlog.pop_front();
        }
        !self.has_lost
    }

    fn free_slots(&self) -> u64 {
        let pending = self.next.saturating_sub(1);
        let pending = pending.saturating_sub(self.shared.applied.load(Ordering::Acquire));
        SLOTS.saturating_sub(pending)
    }

    /// Requests a new durable limit. It takes effect once the writer has committed it.
    pub(super) fn request_limit(&self, request: LimitRequest) {
        if self.is_bound {
            self.shared.request_limit(request);
        }
    }

    /// Returns `true` until a lower limit is durable that was requested.
    pub(super) fn is_lowering(&self) -> bool {
        self.shared.is_lowering()
    }

    /// Queues the response to an order for storage. Returns `false` if the queue is full.
    pub(super) fn record_response(&self, sequence: Sequence, response: &str) -> bool {
        let response = truncated(response, RESPONSE_BYTES_MAX).to_owned();
        self.send(WriterMessage::Response(sequence, response)).is_ok()
    }

    /// Queues the item of an order for storage. Returns `false` if the queue is full.
    pub(super) fn record_item(&self, sequence: Sequence, item: OrderedItem) -> bool {
        self.items.try_send((sequence, item)).is_ok()
    }

    /// Binds the ledger to an account and requests the durable limit, or fails if the ledger
    /// belongs to another account.
    pub(super) fn bind(
        &mut self,
        ids: AccountIds<'_>,
        request: LimitRequest,
    ) -> Result<(), LedgerError> {
        let user =
            ids.of_ledger(self.user.as_ref()).map_err(|requested| LedgerError::OtherAccount {
                ledger: self.user().unwrap_or_default().to_owned(),
                requested,
            })?;
        let recipient = ids.recipient.filter(|recipient| *recipient != user.id);
        if !self.is_bound || self.user().is_none_or(|bound| bound != user.id) {
            self.take_marks(&user.id, recipient)?;
        }
        // The request precedes the message, so that one commit contains both.
        self.shared.request_limit(request);
        if self.user.as_ref() != Some(&user) {
            self.send(WriterMessage::User(user.clone()))?;
            self.user = Some(user);
        }
        self.is_bound = true;
        Ok(())
    }

    /// Takes the account's mark, and locks that of the recipient: a bot that knows no id of its
    /// account, as earlier versions did, takes only the latter.
    fn take_marks(&mut self, user: &str, recipient: Option<&str>) -> Result<(), LedgerError> {
        let Some(claim) = &self.claim else { return Ok(()) };
        let last = self.shared.last_order.load(Ordering::Acquire);
        // A session that learns the id holds the mark of the recipient already.
        if let Some(recipient) = recipient.filter(|_recipient| !self.is_bound) {
            let may_be_bound = self.user.as_ref().is_none_or(|user| !user.is_stated);
            self.recipient_mark = claim.share(recipient, may_be_bound.then_some(last))?;
        }
        let mark = claim.acquire(user, last)?;
        let is_marked = mark.is_some();
        let held = self.shared.hold_mark(mark);
        self.recipient_mark = self.recipient_mark.take().or(held.map(AccountMark::into_file));
        if let Some(file) = self.recipient_mark.as_mut().filter(|_file| is_marked) {
            claim.clear(file);
        }
        Ok(())
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| &*user.id)
    }

    /// Returns a sender to the writer. While it exists, the writer does not end.
    pub(super) fn sender(&self) -> Option<SyncSender<WriterMessage>> {
        self.messages.clone()
    }

    pub(super) const fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// Returns the reason if the ledger cannot be written.
    pub(super) fn failure(&self) -> Option<String> {
        let failing = if self.has_lost { EVENTS_LOST } else { "its files cannot be written" };
        let failing = (self.has_lost || self.is_failing).then(|| failing.to_owned());
        self.shared.failure().or(failing)
    }

    /// Returns `true` if the files contain every event.
    pub(super) fn is_recorded(&self) -> bool {
        self.backlog.is_empty() && !self.has_lost
    }

    /// Returns `true` if the database contains every event.
    pub(super) fn is_durable(&self) -> bool {
        self.backlog.is_empty()
            && self.shared.applied.load(Ordering::Acquire)
                == self.shared.written.load(Ordering::Acquire)
    }

    /// Returns `true` if the requested limit and what must precede an order are durable.
    pub(super) fn is_limit_durable(&self) -> bool {
        self.shared.is_limit_durable() && self.has_required()
    }

    fn has_required(&self) -> bool {
        self.required <= self.shared.applied.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn shared_for_tests(&self) -> Arc<WriterState> {
        Arc::clone(&self.shared)
    }

    fn send(&self, message: WriterMessage) -> Result<(), LedgerError> {
        let sender = self.messages.as_ref().ok_or(LedgerError::Stopped)?;
        sender.try_send(message).map_err(|_full_or_gone| LedgerError::Stopped)
    }
}

/// Waits until the writer has stored everything and closed the ledger.
impl Drop for Journal {
    fn drop(&mut self) {
        if !self.flush() {
            let events = match self.has_lost {
                true => "events".to_owned(),
                false => counted(self.backlog.len(), "event", "events"),
            };
            tracing::error!(
                "Not recorded, because the ledger cannot be written: {events} of this run, halts \
                 included"
            );
        }
        if let Some(FileWatcher { until, stopped }) = self.watch.take() {
            drop(until);
            // The thread ends after its current check of the files.
            let _ended = stopped.recv_timeout(CLOSE_MAX);
        }
        self.messages = None;
        // The writer sends nothing on this channel, so the channel closes when the writer ends.
        let ended = self.stopped.recv_timeout(CLOSE_MAX);
        if ended == Err(RecvTimeoutError::Timeout) && !thread::panicking() {
            tracing::error!(
                "The ledger was not closed within 10 s; the next start will recover it"
            );
        }
        let last = self.shared.last_order.load(Ordering::Acquire);
        if let Some(Err(error)) = self.shared.with_mark(|mark| mark.advance(last)) {
            tracing::debug!("the account's mark was not updated: {error}");
        }
    }
}
