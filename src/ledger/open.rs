//! Opening a ledger: taking the lock, recovering what the last run left, and starting the writer.
//!
//! # What a start finds
//!
//! - **A clean stop**: the database has everything.
//! - **The process died** (same boot of the machine): the intent file has every event that was
//!   ever written, without a hole; what was in flight becomes unknown. Its slot of the last event
//!   that the database has holds that very event: each start writes one to both. If it does not,
//!   the file was zeroed, replaced or rolled back, and the stop counts like power loss.
//! - **The machine lost power** (another boot, or one that cannot be told): the intent file has
//!   what reached the disk. What may be missing is bounded by the lease and counts as spent, and
//!   no listing created before this start is bought any more.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc::sync_channel},
    thread,
    time::Duration,
};

use super::{
    Ledger,
    account::SETTLE,
    database::{Database, OpeningRecords, PreviousRun, WriteBatch, beside},
    durable_limit::unrecorded,
    error::LedgerError,
    event::{BootId, LedgerEvent, RecordedAnswer, Sequence},
    intent::ApprovedTotals,
    journal::{FileWatcher, Journal, JournalParts},
    lock::{self, LedgerLock},
    mark::{AccountMark, MarkClaim, MarkState},
    private,
    record::Record,
    rows::StagedRows,
    state::LedgerState,
    storage::Storage,
    timeline::Timeline,
    watch::FileWatch,
    write_ahead_log::{OpenedLog, Recovered, WriteAheadLog},
    writer::{LedgerWriter, MESSAGES_MAX, WriterMessage, WriterState},
};
use crate::{
    clock,
    config::Budget,
    domain::outcome::NotSent,
    domain::time::UnixMs,
    threads::{Alarm, ThreadGuard, ThreadName},
    whitelist::WhitelistEntry,
};

/// The database's name in its folder.
pub const DATABASE: &str = "ledger.db";
/// The intent file's name in its folder.
pub const INTENT_FILE: &str = "ledger.intents";
/// By how much the marketplace's clock may run ahead of ours, after power was lost.
pub const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// How far back the account's purchases count against the `total` of a new ledger.
pub const COUNTED_BACK: Duration = Duration::from_secs(86_400);

/// What a live start says beyond its place.
#[derive(Clone, Debug, Default)]
pub struct LiveOpen {
    /// The directory for marks: see `docs/ledger.md`; `None`: none can be written.
    pub state: Option<PathBuf>,
    /// Whether the ledger of before is set aside.
    pub new_ledger: Option<NewLedger>,
    /// What stops ordering when a thread or a file is lost.
    pub alarm: Alarm,
}

/// What a new ledger makes of the account's purchases of the last [`COUNTED_BACK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewLedger {
    /// They count against `total`.
    Counted,
    /// They do not.
    NotCounted,
}

/// Where a ledger is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLocation {
    /// The folder that holds its files: `SNIPER_DATA`.
    pub folder: PathBuf,
    /// The marketplace's host.
    pub host: String,
    /// Which boot of the machine this is; `None`: it cannot be told.
    pub boot: Option<String>,
    /// How long the machine has run since, suspends included; `None`: it cannot be told.
    pub uptime_ms: Option<u64>,
}

impl LedgerLocation {
    /// The ledger of this marketplace in this folder, on this machine as it runs now.
    pub fn new(folder: impl Into<PathBuf>, host: impl Into<String>) -> Self {
        let uptime_ms = clock::uptime_ms();
        Self { folder: folder.into(), host: host.into(), boot: boot_id(), uptime_ms }
    }
}

/// What tells one boot of this machine from another, where the system says so.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

impl Ledger {
    /// Opens the ledger at a place, or begins one there.
    ///
    /// Buying is denied until [`Ledger::bind`] and a first [`Ledger::reconcile`] have succeeded.
    ///
    /// # Errors
    ///
    /// A [`LedgerError`]; nothing may be bought then.
    pub fn open(
        place: &LedgerLocation,
        budget: Budget,
        entries: &[WhitelistEntry],
        now: UnixMs,
    ) -> Result<Self, LedgerError> {
        Self::open_files(place, OpenSettings { budget, entries, now, live: None })
    }

    /// Opens the ledger of a live bot. Its account's mark is taken by [`Ledger::bind`].
    ///
    /// # Errors
    ///
    /// As for [`Ledger::open`]; also [`LedgerError::OthersMayWrite`], and
    /// [`LedgerError::NotNeeded`] if a new ledger is asked for and the old one is complete.
    pub fn open_live(
        place: &LedgerLocation,
        live: &LiveOpen,
        budget: Budget,
        entries: &[WhitelistEntry],
        now: UnixMs,
    ) -> Result<Self, LedgerError> {
        Self::open_files(place, OpenSettings { budget, entries, now, live: Some(live) })
    }

    fn open_files(place: &LedgerLocation, wish: OpenSettings<'_>) -> Result<Self, LedgerError> {
        let folder = &place.folder;
        let file_error = |what, path: &Path, source| {
            let path = path.to_owned();
            LedgerError::File { what, path, source }
        };
        private::make_directory(folder).map_err(|error| file_error("create", folder, error))?;
        if wish.live.is_some() && private::others_may_write(folder).unwrap_or(true) {
            return Err(LedgerError::OthersMayWrite { folder: folder.clone() });
        }
        let lock = LedgerLock::take(folder)?;
        if let Some(live) = wish.live.filter(|live| live.new_ledger.is_some()) {
            set_aside(place, live, wish.now)?;
        }
        let path = folder.join(INTENT_FILE);
        let file = private::open(&path).map_err(|error| file_error("open", &path, error))?;
        Self::open_on(place, Arc::new(file), lock, wish)
    }

    pub(super) fn open_on(
        place: &LedgerLocation,
        storage: Arc<dyn Storage>,
        lock: LedgerLock,
        wish: OpenSettings<'_>,
    ) -> Result<Self, LedgerError> {
        let OpenSettings { budget, entries, now, live } = wish;
        let mut database = Database::open(&place.folder.join(DATABASE))?;
        let left = database.left()?;
        belongs(&left, place, &database)?;
        let path = place.folder.join(INTENT_FILE);
        let failed = |what| {
            let path = path.clone();
            move |source| LedgerError::File { what, path, source }
        };
        let OpenedLog { ring, is_new } =
            WriteAheadLog::open(storage).map_err(failed("allocate"))?;
        let number = database.limits(&budget, now)?;
        let mut book = LedgerState::new(budget.clone(), true);
        book.set_budget(budget, number);
        let boot = BootId::new(place.boot.as_deref());
        let mut timeline = Timeline::new(boot, place.uptime_ms, now);
        database.replay(&mut book, &mut timeline)?;
        let written = IntentFileMatch::of(&ring, &left).map_err(failed("read"))?;
        let survivors = match written {
            IntentFileMatch::Foreign => Recovered { records: Vec::new(), hole: None },
            _ => ring.survivors(left.applied).map_err(failed("read"))?,
        };
        let last = survivors.records.last().map_or(left.applied, |record| record.position);

        // An intent file that is gone tells nothing, whatever the boot.
        let is_same_boot = place.boot.is_some() && left.boot == place.boot;
        let mut recovery = Recovery { book, timeline, staged: Vec::new() };
        if left.clean || (is_same_boot && !is_new && written == IntentFileMatch::Ours) {
            if let Some(hole) = survivors.hole {
                let what = format!("record {hole} is missing");
                return Err(LedgerError::Damaged { path, what });
            }
            recovery.take(&survivors.records).map_err(|error| database.contradiction(error))?;
        } else {
            recovery.salvage(&survivors.records);
            let what = if is_same_boot { LOST_FILE } else { LOST_POWER };
            recovery.lose(&left, what, now).map_err(|error| database.contradiction(error))?;
        }
        if written == IntentFileMatch::Foreign {
            // The next start would take its records for those of this ledger.
            ring.clear().map_err(failed("clear"))?;
        }
        // In the file first: a crash in between leaves one event more to recover.
        let position = last.saturating_add(1);
        let uptime_ms = recovery.timeline.uptime_ms(now);
        let started = Record { position, at: now, uptime_ms, event: LedgerEvent::Started { boot } };
        ring.write(&started).map_err(failed("write"))?;
        recovery.add_record(started).map_err(|error| database.contradiction(error))?;
        let Recovery { mut book, timeline: recovered, staged } = recovery;
        let new_entries = book.set_entries(entries);
        book.count_since = count_since(&left, live, now).filter(|_since| !book.baselined);

        let ceiling = if left.user.is_some() { book.ceiling() } else { book.exposure() };
        let batch =
            WriteBatch { staged, applied: started.position, ceiling, ..WriteBatch::default() };
        let id = left.id.clone().unwrap_or_else(new_id);
        let opening = OpeningRecords {
            entries: &new_entries,
            host: &place.host,
            boot: place.boot.as_deref(),
            id: &id,
            count_since: book.count_since,
        };
        database.start(&batch, &opening)?;
        let claim = live.map(|live| claim(place, live, id));
        let alarm = live.map(|live| live.alarm.clone()).unwrap_or_default();
        let shared = Arc::new(WriterState::new(lock, alarm, started.position));
        shared.set_ceiling(ceiling);
        shared.last_order.store(book.next_sequence().0.saturating_sub(1), Ordering::Release);
        let batch = WriteBatch { staged: Vec::new(), ..batch };
        let (writers_book, timeline) = (book.clone(), recovered);
        let threads =
            ThreadConfig { place, ring, shared, database, book: writers_book, timeline, batch };
        let parts = threads.start(left.user, claim).map_err(failed("start the threads of"))?;
        Ok(Self::kept(book, Journal::new(parts)))
    }
}

/// What the account's mark is taken with.
fn claim(place: &LedgerLocation, live: &LiveOpen, ledger: String) -> MarkClaim {
    MarkClaim {
        state: live.state.clone(),
        host: place.host.clone(),
        data: place.folder.clone(),
        ledger,
        is_new: live.new_ledger.is_some(),
    }
}

/// Why a loss is counted, for the log.
const LOST_POWER: &str = "the machine stopped, or lost power, while the bot ran";
const LOST_FILE: &str = "the bot was killed, and its intents file was since deleted, zeroed, replaced or restored from \
     an older copy";

/// A random id for a ledger. It need only differ from every other one of the same account.
fn new_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// From when on purchases of the account count, although the ledger did not make them.
fn count_since(left: &PreviousRun, live: Option<&LiveOpen>, now: UnixMs) -> Option<UnixMs> {
    let is_begun = left.user.is_none();
    match live.and_then(|live| live.new_ledger).filter(|_new| is_begun) {
        Some(NewLedger::Counted) => {
            tracing::warn!(
                "A new ledger begins: the account's purchases of the last 24 hours count against \
                 `total`, as its first complete reading shows them"
            );
            Some(now.minus(COUNTED_BACK))
        }
        Some(NewLedger::NotCounted) => None,
        None => left.count_since,
    }
}

/// Whether the intent file is the one that the database was written beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IntentFileMatch {
    /// It holds the last event that the database has.
    Ours,
    /// It does not: it was zeroed or rolled back, or did not reach the disk before power was lost.
    Older,
    /// It holds another event with that event's position.
    Foreign,
}

impl IntentFileMatch {
    fn of(ring: &WriteAheadLog, left: &PreviousRun) -> io::Result<Self> {
        if left.applied == 0 {
            return Ok(Self::Ours);
        }
        let found = ring.in_slot_of(left.applied)?;
        // Events that an older version recovered have no position in the database.
        let known = left.last_event.filter(|event| event.position == left.applied);
        Ok(match (found, known) {
            (Some(found), Some(known)) if found == known => Self::Ours,
            (Some(found), Some(known)) if found.position == known.position => Self::Foreign,
            (Some(found), None) if found.position == left.applied => Self::Ours,
            // The slot was written again before the database noted what it had read.
            (Some(found), _) if left.applied < found.position => Self::Ours,
            _ => Self::Older,
        })
    }
}

/// What the threads of a ledger begin with.
struct ThreadConfig<'a> {
    place: &'a LedgerLocation,
    ring: WriteAheadLog,
    shared: Arc<WriterState>,
    database: Database,
    book: LedgerState,
    timeline: Timeline,
    batch: WriteBatch,
}

impl ThreadConfig<'_> {
    fn start(self, user: Option<String>, claim: Option<MarkClaim>) -> io::Result<JournalParts> {
        let Self { place, ring, shared, database, book, timeline, batch } = self;
        let names = [DATABASE, INTENT_FILE, lock::NAME];
        let watch = FileWatch::new(&place.folder, &names, ring.clone(), Arc::clone(&shared));
        let guard = |thread| ThreadGuard::new(thread, shared.alarm().clone());
        let builder = |thread: ThreadName| thread::Builder::new().name(thread.to_string());
        let (messages, received) = sync_channel::<WriterMessage>(MESSAGES_MAX);
        let (ended, stopped) = sync_channel::<()>(1);
        let writer = LedgerWriter {
            shared: Arc::clone(&shared),
            ring: ring.clone(),
            database,
            book,
            messages: received,
            batch,
            copy: claim.as_ref().and_then(MarkClaim::copy),
            copied: None,
        };
        let writer_guard = guard(ThreadName::Ledger);
        builder(ThreadName::Ledger).spawn(move || {
            writer.run(writer_guard);
            drop(ended);
        })?;
        let (until, is_over) = sync_channel::<()>(1);
        let (watch_ended, watch_stopped) = sync_channel::<()>(1);
        let watch_guard = guard(ThreadName::Files);
        builder(ThreadName::Files).spawn(move || {
            watch.run(&is_over, watch_guard);
            drop(watch_ended);
        })?;
        let watch = FileWatcher { until, stopped: watch_stopped };
        Ok(JournalParts { ring, shared, messages, stopped, watch, user, timeline, claim })
    }
}

/// Moves the files of a ledger that is lost or older than its mark into a directory beside them.
///
/// # Errors
///
/// [`LedgerError::NotNeeded`] if the ledger is neither.
fn set_aside(place: &LedgerLocation, live: &LiveOpen, now: UnixMs) -> Result<(), LedgerError> {
    let path = place.folder.join(DATABASE);
    if path.exists() {
        let read = Database::open_to_read(&path).and_then(|database| {
            let left = database.left()?;
            belongs(&left, place, &database)?;
            Ok(left)
        });
        match read {
            // It was never bound to an account, so nothing was ordered with it.
            Ok(PreviousRun { user: None, .. }) => return Ok(()),
            Ok(left) if knows_every_order(&left, place, live) => {
                return Err(LedgerError::NotNeeded { folder: place.folder.clone() });
            }
            Err(error @ (LedgerError::TooNew { .. } | LedgerError::OtherHost { .. })) => {
                return Err(error);
            }
            Ok(_older) => {}
            Err(error) => tracing::warn!("The ledger of before cannot be read: {error}"),
        }
    }
    let stamp: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let to = place.folder.join(format!("ledger-{stamp}"));
    let failed = |what, path: &Path, source| {
        let path = path.to_owned();
        LedgerError::File { what, path, source }
    };
    let files = [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")];
    let files = files.into_iter().chain([place.folder.join(INTENT_FILE)]);
    for file in files.filter(|file| file.symlink_metadata().is_ok()) {
        private::make_directory(&to).map_err(|error| failed("create", &to, error))?;
        let name = file.file_name().unwrap_or_default();
        fs::rename(&file, to.join(name)).map_err(|error| failed("move", &file, error))?;
    }
    if to.exists() {
        tracing::warn!("The ledger of before was moved: {to:?}. Keep it until it is settled");
    }
    Ok(())
}

/// Whether the account's mark, if there is one, knows of no order that this ledger lacks.
fn knows_every_order(left: &PreviousRun, place: &LedgerLocation, live: &LiveOpen) -> bool {
    let (Some(state), Some(user)) = (&live.state, &left.user) else { return true };
    match AccountMark::look(state, &place.host, user) {
        Ok(MarkState::Content(mark)) => {
            left.id.as_ref() == Some(&mark.ledger) && mark.last <= left.last_order
        }
        Ok(MarkState::Nothing) | Err(_) => true,
        Ok(MarkState::Garbled) => false,
    }
}

/// What a person has set, at the moment of opening.
#[derive(Clone, Debug)]
pub(super) struct OpenSettings<'a> {
    pub(super) budget: Budget,
    pub(super) entries: &'a [WhitelistEntry],
    pub(super) now: UnixMs,
    pub(super) live: Option<&'a LiveOpen>,
}

/// What the last run left, brought into the book.
struct Recovery {
    book: LedgerState,
    timeline: Timeline,
    staged: Vec<StagedRows>,
}

impl Recovery {
    fn add(&mut self, at: UnixMs, event: LedgerEvent) -> Result<(), super::InvalidTransition> {
        let uptime_ms = self.timeline.uptime_ms(at);
        self.add_record(Record { position: 0, at, uptime_ms, event })
    }

    fn add_record(&mut self, record: Record) -> Result<(), super::InvalidTransition> {
        self.staged.push(StagedRows::new(&mut self.book, record)?);
        Ok(())
    }

    /// Takes over every record, as it is.
    fn take(&mut self, records: &[Record]) -> Result<(), super::InvalidTransition> {
        records.iter().try_for_each(|record| {
            let placed = self.timeline.place(record);
            self.staged.push(StagedRows::placed(&mut self.book, *record, placed)?);
            Ok(())
        })
    }

    /// Takes over what power loss has left. Records may be missing before any of these, so the
    /// numbers of intents may have moved, and what speaks of a lost one says nothing.
    fn salvage(&mut self, records: &[Record]) {
        let known = self.book.next_sequence();
        let mut moved: HashMap<Sequence, Sequence> = HashMap::new();
        for record in records {
            let find = |sequence: Sequence| {
                if sequence < known { Some(sequence) } else { moved.get(&sequence).copied() }
            };
            let event = match record.event {
                LedgerEvent::Reserved { sequence, id, price, entry, limits } => {
                    self.close_earlier(record);
                    let new = self.book.next_sequence();
                    moved.insert(sequence, new);
                    Some(LedgerEvent::Reserved { sequence: new, id, price, entry, limits })
                }
                LedgerEvent::Sent { sequence } => {
                    find(sequence).map(|sequence| LedgerEvent::Sent { sequence })
                }
                LedgerEvent::Answered { sequence, answer } => {
                    find(sequence).map(|sequence| LedgerEvent::Answered { sequence, answer })
                }
                LedgerEvent::Proved { sequence, proof, paid, by } => {
                    find(sequence).map(|sequence| LedgerEvent::Proved { sequence, proof, paid, by })
                }
                LedgerEvent::PriceConfirmed { sequence, price } => {
                    find(sequence).map(|sequence| LedgerEvent::PriceConfirmed { sequence, price })
                }
                LedgerEvent::Adopted { id, price, .. } => {
                    Some(LedgerEvent::Adopted { sequence: self.book.next_sequence(), id, price })
                }
                other => Some(other),
            };
            if let Some(event) = event {
                // One that no longer fits speaks of something that was lost.
                let _fits = self.add(record.at, event).is_ok();
            }
        }
    }

    /// A listing is approved again only after its first request was not sent: so it was.
    fn close_earlier(&mut self, record: &Record) {
        let LedgerEvent::Reserved { id, .. } = record.event else { return };
        let earlier = self.book.intent(&id).filter(|earlier| earlier.state.is_in_flight());
        if let Some(sequence) = earlier.map(|earlier| earlier.sequence) {
            let answer = RecordedAnswer::NotSent(NotSent::Closed);
            let _fits = self.add(record.at, LedgerEvent::Answered { sequence, answer }).is_ok();
        }
    }

    /// Counts what may have been approved and is not on record.
    fn lose(
        &mut self,
        left: &PreviousRun,
        because: &str,
        now: UnixMs,
    ) -> Result<(), super::InvalidTransition> {
        let (coins, count) = unrecorded(left.ceiling, self.book.exposure());
        if left.ceiling == ApprovedTotals::default() {
            return Ok(());
        }
        let latest = self.book.intents().iter().map(|intent| intent.changed_at).max();
        let barrier = latest.unwrap_or(now).max(now).plus(CLOCK_MARGIN);
        tracing::warn!(
            "The ledger may have lost orders: {because}. Up to {count} orders for {coins} count as \
             spent until the account shows that they were not sent, at the earliest from {}; no \
             listing from before {barrier} is ordered",
            now.plus(SETTLE)
        );
        self.add(now, LedgerEvent::Lost { coins, count, barrier })
    }
}

fn belongs(
    left: &PreviousRun,
    place: &LedgerLocation,
    database: &Database,
) -> Result<(), LedgerError> {
    match &left.host {
        Some(ledger) if *ledger != place.host => Err(LedgerError::OtherHost {
            path: database.path().to_owned(),
            ledger: ledger.clone(),
            asked: place.host.clone(),
        }),
        _ => Ok(()),
    }
}
