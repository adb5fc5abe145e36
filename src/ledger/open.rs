//! Opening of a ledger: locking, recovery of the previous run, and start of the writer.
//!
//! # States at a start
//!
//! - **Orderly stop**: the database contains everything.
//! - **The process died** (same boot of the machine): the intent file contains every event without
//!   a gap; orders in flight become unknown. The slot of the database's last event must hold that
//!   event: every start writes its event to both. Otherwise the file was zeroed, replaced or rolled
//!   back, and the start is treated as after a power loss.
//! - **The machine lost power** (another boot, or an unknown one): the intent file contains the
//!   events that reached the disk. Missing approvals are bounded by the durable limit and count as
//!   spent. No listing created before this start is ordered any more.

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Ledger,
    database::{Database, OpeningRecords, PreviousRun, WriteBatch},
    entries::EntryKey,
    error::LedgerError,
    event::{BootId, EntrySlot, LedgerEvent, RecordedAnswer, Sequence},
    intent::Intent,
    journal::{Journal, JournalParts},
    mark::{AccountMark, MarkClaim, MarkState},
    private::{self, LedgerLock},
    record::{Record, Timeline},
    rules::{EntryPlan, RenamedEntry},
    schema::StagedRows,
    state::{INTENTS_MAX, LedgerState},
    status::loss_end,
    write_ahead_log::{OpenedLog, Recovered, Storage, WriteAheadLog},
    writer::WriterState,
};
use crate::{
    clock, config::Budget, config::load::make_directory, domain::money::Amount,
    domain::outcome::NotSent, domain::own_order_id::StartId, domain::time::UnixMs,
    domain::trade::TradeId, domain::whitelist_entry::WhitelistEntry, secret, text::counted,
    threads::Alarm,
};

/// File name of the database.
pub const DATABASE: &str = "ledger.db";
/// File name of the write-ahead log of the database, and of the log's index.
pub(super) const DATABASE_LOG: &str = "ledger.db-wal";
pub(super) const DATABASE_INDEX: &str = "ledger.db-shm";
/// File name of the intent file.
pub const INTENT_FILE: &str = "ledger.intents";
/// Assumed maximum lead of the market's clock, applied after a power loss.
pub const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// Maximum number of orders of earlier runs whose item names are read at a start.
pub const NAMES_MAX: usize = 2_048;

/// Period before a new ledger whose purchases count against its `total`.
pub const COUNTED_BACK: Duration = Duration::from_secs(86_400);

/// Additional settings of a live start.
#[derive(Clone, Debug, Default)]
pub struct LiveOpen {
    /// Directory for account marks, if there is one; see `docs/ledger.md`.
    pub state_dir: Option<PathBuf>,
    /// Replaces the existing ledger by a new one.
    pub new_ledger: Option<NewLedger>,
    /// Longest time until the account's list of purchases contains an order, if it is longer than
    /// [`SETTLE`](super::account::SETTLE); `None` on a market without such a list.
    pub listed_within: Option<Duration>,
    /// Stops ordering after the loss of a thread or a file.
    pub alarm: Alarm,
}

/// Whether a new ledger counts the account's purchases of the last [`COUNTED_BACK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewLedger {
    Counted,
    NotCounted,
}

/// Folder, market and machine of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLocation {
    /// `SNIPER_DATA`.
    pub folder: PathBuf,
    pub host: String,
    /// Boot id of the machine, if known.
    pub boot: Option<String>,
    /// Uptime of the machine in milliseconds including suspends, if known.
    pub uptime_ms: Option<u64>,
}

impl LedgerLocation {
    /// Creates the location for the current boot of this machine.
    pub fn new(folder: impl Into<PathBuf>, host: impl Into<String>) -> Self {
        let uptime_ms = clock::uptime_ms();
        Self { folder: folder.into(), host: host.into(), boot: boot_id(), uptime_ms }
    }
}

/// Reads the boot id of this machine, if the system provides one.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

impl Ledger {
    /// Opens the ledger at a location, or creates it there.
    ///
    /// Nothing is approved until [`Ledger::bind`] and a first [`Ledger::reconcile`] have succeeded.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerError`]; nothing may be ordered then.
    pub fn open(
        location: &LedgerLocation,
        budget: Budget,
        entries: &[WhitelistEntry],
        now: UnixMs,
    ) -> Result<Self, LedgerError> {
        Self::open_files(location, OpenSettings { budget, entries, now, live: None })
    }

    /// Opens the ledger of a live bot. [`Ledger::bind`] takes its account's mark.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Ledger::open`], [`LedgerError::OthersMayWrite`],
    /// [`LedgerError::OtherOwner`], and if a new ledger is requested,
    /// [`LedgerError::LedgerComplete`] and [`LedgerError::NotCountable`].
    pub fn open_live(
        location: &LedgerLocation,
        live: &LiveOpen,
        budget: Budget,
        entries: &[WhitelistEntry],
        now: UnixMs,
    ) -> Result<Self, LedgerError> {
        Self::open_files(location, OpenSettings { budget, entries, now, live: Some(live) })
    }

    fn open_files(
        location: &LedgerLocation,
        settings: OpenSettings<'_>,
    ) -> Result<Self, LedgerError> {
        let folder = &location.folder;
        make_directory(folder).map_err(LedgerError::file("create", folder))?;
        if settings.live.is_some() {
            private::check_writers(folder, rustix::process::geteuid())?;
        }
        let lock = LedgerLock::take(folder)?;
        if let Some(live) = settings.live.filter(|live| live.new_ledger.is_some()) {
            move_aside(location, live, settings.now)?;
        }
        let path = folder.join(INTENT_FILE);
        let file = private::open(&path).map_err(LedgerError::file("open", &path))?;
        Self::open_on(location, Arc::new(file), lock, settings)
    }

    pub(super) fn open_on(
        location: &LedgerLocation,
        storage: Arc<dyn Storage>,
        lock: LedgerLock,
        settings: OpenSettings<'_>,
    ) -> Result<Self, LedgerError> {
        let OpenSettings { budget, entries, now, live } = settings;
        let mut database = Database::open(&location.folder.join(DATABASE), &location.host)?;
        let previous = database.previous_run()?;
        let path = location.folder.join(INTENT_FILE);
        let failed = |action| LedgerError::file(action, &path);
        let OpenedLog { intent_log, is_new } =
            WriteAheadLog::open(storage).map_err(failed("allocate"))?;
        let mut state = LedgerState::new(budget.clone(), true);
        state.set_budget(budget.clone(), database.limits(&budget, now)?);
        state.set_list(live.map_or(previous.listed_within, |live| live.listed_within));
        let boot = BootId::new(location.boot.as_deref());
        let mut timeline = Timeline::new(boot, location.uptime_ms, now);
        let (file_match, recovered) =
            read_intent_log(&intent_log, &previous).map_err(failed("read"))?;
        recovered.check_layout(&path)?;
        database.replay(&mut state, &mut timeline, &recovered.records)?;
        let last = recovered.records.last().map_or(previous.applied, |record| record.position);

        // Without its intent file, a run may have lost records even within one boot.
        let is_same_boot = location.boot.is_some() && previous.boot == location.boot;
        let mut recovery = Recovery { state, timeline, staged: Vec::new() };
        let is_complete =
            previous.clean || (is_same_boot && !is_new && file_match == IntentFileMatch::Matching);
        if let Some(record) = recovered.missing_record.filter(|_record| is_complete) {
            let damage = format!("record {record} is missing");
            return Err(LedgerError::Damaged { path, damage });
        }
        let cause =
            (!is_complete).then_some(if is_same_boot { INTENT_FILE_LOST } else { POWER_LOST });
        recovery
            .recover(&recovered.records, &previous, cause, now)
            .map_err(|error| database.contradiction(error))?;
        // A foreign file is cleared, so that the next start does not read its records as this
        // ledger's.
        if file_match == IntentFileMatch::Foreign {
            intent_log.clear().map_err(failed("clear"))?;
        }
        // The intent file is written first: after a crash in between, the next start recovers the
        // event.
        let (position, uptime_ms) = (last.saturating_add(1), recovery.timeline.uptime_ms(now));
        let bits = secret::random_bytes().map_err(failed("draw random bits for"))?;
        let event = LedgerEvent::Started { boot, start: Some(StartId::from_bits(bits)) };
        let started = Record { position, at: now, uptime_ms, event };
        intent_log.write(&started).map_err(failed("write"))?;
        recovery.add_record(started).map_err(|error| database.contradiction(error))?;
        let Recovery { mut state, timeline, staged } = recovery;
        let (new_entries, renamed) = EntryPlan::at_start(&mut state, entries);
        state.count_since = count_since(&previous, live, now).filter(|_since| !state.baselined);

        let durable_limit = match &previous.user {
            // A member of a group has no slice yet.
            Some(_) if !state.sharing.has_joined() => state.limit_to_request(Duration::ZERO).wanted,
            _ => state.approved_totals(),
        };
        let batch = WriteBatch::new(staged, started.position, durable_limit);
        // Unique among the ledgers of one account.
        let id = previous.id.clone().unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)));
        let opening = opening_records(location, (&new_entries, &renamed), &state, &id);
        // Waits for the disk, so the bits of this start are durable before its first order.
        database.start(&batch, &opening)?;
        let names = item_names(&database, &state)?;
        let claim = live.map(|live| mark_claim(location, live, id.clone()));
        let alarm = live.map(|live| live.alarm.clone()).unwrap_or_default();
        let shared = Arc::new(WriterState::new(lock, alarm, started.position));
        shared.set_durable_limit(durable_limit);
        shared.last_order.store(state.next_sequence().0.saturating_sub(1), Ordering::Release);
        let parts = JournalParts {
            folder: &location.folder,
            intent_log,
            shared,
            database,
            state: state.clone(),
            timeline,
            batch: WriteBatch { staged: Vec::new(), ..batch },
            user: previous.user,
            claim,
        };
        let journal = Journal::start(parts).map_err(failed("start the threads of"))?;
        state.reserve_capacity();
        Ok(Self { id: Some(id), names, ..Self::new(state, Some(journal)) })
    }
}

/// Reads the item names of the unknown and of the newest orders. A look-up of an order compares its
/// item with the name.
fn item_names(
    database: &Database,
    state: &LedgerState,
) -> Result<HashMap<TradeId, String>, LedgerError> {
    // One transaction locks the file once for all names.
    let _transaction = database.snapshot()?;
    let orders = state.unknown_orders().chain(state.intents().iter().rev()).take(NAMES_MAX);
    let name =
        |order: &Intent| Ok(database.item(order.sequence)?.map(|item| (order.id, item.name)));
    orders.filter_map(|order| name(order).transpose()).collect()
}

/// Reads the records of the intent file that the database does not have. A foreign file has none.
fn read_intent_log(
    log: &WriteAheadLog,
    previous: &PreviousRun,
) -> io::Result<(IntentFileMatch, Recovered)> {
    let file_match = IntentFileMatch::of(log, previous)?;
    let recovered = match file_match {
        IntentFileMatch::Foreign => Recovered::default(),
        _ => log.recover(previous.applied)?,
    };
    Ok((file_match, recovered))
}

fn opening_records<'a>(
    location: &'a LedgerLocation,
    (entries, renamed): (&'a [(EntrySlot, EntryKey)], &'a [RenamedEntry]),
    state: &LedgerState,
    id: &'a str,
) -> OpeningRecords<'a> {
    let boot = location.boot.as_deref();
    let (groups, host) = (state.entries.group_names(), &location.host);
    let listed_within = state.has_list.then(|| UnixMs(0).plus(state.listed_within));
    let optional = [("count_since", state.count_since), ("listed_within", listed_within)];
    let optional = optional.map(|(key, time)| (key, time.map(|time| time.0)));
    OpeningRecords { entries, renamed, groups, host, boot, id, optional }
}

fn mark_claim(location: &LedgerLocation, live: &LiveOpen, ledger: String) -> MarkClaim {
    MarkClaim {
        state_dir: live.state_dir.clone(),
        host: location.host.clone(),
        data: location.folder.clone(),
        ledger,
        is_new: live.new_ledger.is_some(),
    }
}

/// Causes of a crash loss, for the log.
const POWER_LOST: &str = "the machine stopped or lost power while the bot ran";
const INTENT_FILE_LOST: &str = "the bot was killed, and its file ledger.intents was then deleted, \
                                zeroed, replaced or restored from an older copy";

/// Returns the time from which purchases outside of this ledger count against `total`.
fn count_since(previous: &PreviousRun, live: Option<&LiveOpen>, now: UnixMs) -> Option<UnixMs> {
    let is_unbound = previous.user.is_none();
    match live.and_then(|live| live.new_ledger).filter(|_new| is_unbound) {
        Some(NewLedger::Counted) => {
            tracing::warn!(
                "New ledger created: the account's purchases of the last 24 hours count against \
                 `total`, from the first complete read of the account"
            );
            Some(now.minus(COUNTED_BACK))
        }
        Some(NewLedger::NotCounted) => None,
        // A later time is of a start whose clock was ahead.
        None => previous.count_since.map(|since| since.min(now.minus(COUNTED_BACK))),
    }
}

/// Relation of the intent file to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IntentFileMatch {
    /// Contains the last event of the database.
    Matching,
    /// Does not contain it: zeroed, rolled back, or not on disk before the power loss.
    Older,
    /// Contains another event at the position of the last event of the database.
    Foreign,
}

impl IntentFileMatch {
    fn of(intent_log: &WriteAheadLog, previous: &PreviousRun) -> io::Result<Self> {
        if previous.applied == 0 {
            return Ok(Self::Matching);
        }
        let found = intent_log.read_slot(previous.applied)?;
        // Events that an older version recovered have no position in the database.
        let known = previous.last_event.filter(|event| event.position == previous.applied);
        Ok(match (found, known) {
            (Some(found), Some(known)) if found == known => Self::Matching,
            (Some(found), Some(known)) if found.position == known.position => Self::Foreign,
            (Some(found), None) if found.position == previous.applied => Self::Matching,
            // The slot was reused before the database recorded its progress.
            (Some(found), _) if previous.applied < found.position => Self::Matching,
            _ => Self::Older,
        })
    }
}

/// Moves the ledger's files into a subfolder if it is unreadable, full, or lacks an order that its
/// account's mark records.
///
/// # Errors
///
/// Returns [`LedgerError::LedgerComplete`] if the ledger is none of these, and
/// [`LedgerError::NotCountable`] if the new one cannot count purchases that it should count.
fn move_aside(location: &LedgerLocation, live: &LiveOpen, now: UnixMs) -> Result<(), LedgerError> {
    let path = location.folder.join(DATABASE);
    let mut is_unused = false;
    if path.exists() {
        let read = Database::open_to_read(&path).and_then(|database| {
            database.check_owner(&location.host)?;
            database.previous_run()
        });
        match read {
            // A ledger that was never bound to an account has placed no order.
            Ok(PreviousRun { user: None, .. }) => is_unused = true,
            Ok(previous)
                if previous.last_order < u64::from(INTENTS_MAX)
                    && contains_every_order(&previous, location, live) =>
            {
                return Err(LedgerError::LedgerComplete { folder: location.folder.clone() });
            }
            Err(error @ (LedgerError::TooNew { .. } | LedgerError::OtherHost { .. })) => {
                return Err(error);
            }
            Ok(_older) => {}
            Err(error) => tracing::warn!("The previous ledger cannot be read: {error}"),
        }
    }
    if live.new_ledger == Some(NewLedger::Counted) && live.listed_within.is_none() {
        return Err(LedgerError::NotCountable);
    }
    if is_unused {
        return Ok(());
    }
    let stamp: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let to = location.folder.join(format!("ledger-{stamp}"));
    // The database is moved last: without it, the next start would read the other files, whose
    // records are of the old ledger, into a new database.
    let names = [INTENT_FILE, DATABASE_LOG, DATABASE_INDEX, DATABASE];
    let files = names.into_iter().map(|name| location.folder.join(name));
    for file in files.filter(|file| file.symlink_metadata().is_ok()) {
        make_directory(&to).map_err(LedgerError::file("create", &to))?;
        let name = file.file_name().unwrap_or_default();
        fs::rename(&file, to.join(name)).map_err(LedgerError::file("move", &file))?;
    }
    if to.exists() {
        tracing::warn!("Previous ledger moved to {to:?}; keep it until its orders are resolved");
    }
    Ok(())
}

/// Returns `true` unless the account's mark records an order that this ledger lacks.
fn contains_every_order(
    previous: &PreviousRun,
    location: &LedgerLocation,
    live: &LiveOpen,
) -> bool {
    let (Some(state), Some(user)) = (&live.state_dir, &previous.user) else { return true };
    match AccountMark::read(state, &location.host, &user.id) {
        Ok(MarkState::Content(mark)) => {
            previous.id.as_ref() == Some(&mark.ledger) && mark.last <= previous.last_order
        }
        Ok(MarkState::Absent) | Err(_) => true,
        Ok(MarkState::Damaged) => false,
    }
}

/// Settings that apply when a ledger is opened.
#[derive(Clone, Debug)]
pub(super) struct OpenSettings<'a> {
    pub(super) budget: Budget,
    pub(super) entries: &'a [WhitelistEntry],
    pub(super) now: UnixMs,
    pub(super) live: Option<&'a LiveOpen>,
}

/// Recovery in progress: the ledger state, and the rows of the recovered events.
struct Recovery {
    state: LedgerState,
    timeline: Timeline,
    staged: Vec<StagedRows>,
}

impl Recovery {
    fn add(&mut self, at: UnixMs, event: LedgerEvent) -> Result<(), super::InvalidTransition> {
        let uptime_ms = self.timeline.uptime_ms(at);
        self.add_record(Record { position: 0, at, uptime_ms, event })
    }

    fn add_record(&mut self, record: Record) -> Result<(), super::InvalidTransition> {
        self.staged.push(StagedRows::new(&mut self.state, record)?);
        Ok(())
    }

    /// Applies the recovered records. With a `cause`, further records may be lost, and their coins
    /// are reserved.
    fn recover(
        &mut self,
        records: &[Record],
        previous: &PreviousRun,
        cause: Option<&'static str>,
        now: UnixMs,
    ) -> Result<(), super::InvalidTransition> {
        let Some(cause) = cause else { return self.replay(records) };
        self.recover_partial(records);
        self.reserve_crash_loss(previous, cause, now)
    }

    /// Applies every record unchanged.
    fn replay(&mut self, records: &[Record]) -> Result<(), super::InvalidTransition> {
        records.iter().try_for_each(|record| {
            let converted = self.timeline.convert(record);
            self.staged.push(StagedRows::converted(&mut self.state, *record, converted)?);
            Ok(())
        })
    }

    /// Applies the records that survived a power loss. Records before them may be missing, so
    /// intents may get new numbers, and records of a lost intent are dropped.
    fn recover_partial(&mut self, records: &[Record]) {
        let known = self.state.next_sequence();
        let mut moved: HashMap<Sequence, Sequence> = HashMap::new();
        for record in records {
            let mut event = record.event;
            match &mut event {
                LedgerEvent::Reserved { sequence, .. } => {
                    self.close_earlier(record);
                    let new = self.state.next_sequence();
                    moved.insert(*sequence, new);
                    *sequence = new;
                }
                LedgerEvent::Adopted { sequence, .. } => *sequence = self.state.next_sequence(),
                // A purchase that was adopted or accepted before may be missing: it would not
                // count, or would be unexpected.
                LedgerEvent::LossCleared { .. } | LedgerEvent::Baselined => continue,
                // An order that explains the reading may be missing.
                LedgerEvent::Balance { .. } => continue,
                event => {
                    if let Some(sequence) = event.sequence_mut().filter(|found| known <= **found) {
                        let Some(new) = moved.get(sequence) else { continue };
                        *sequence = *new;
                    }
                }
            }
            // An event that does not apply refers to a lost record, and is dropped.
            let _fits = self.add_record(Record { position: 0, event, ..*record }).is_ok();
        }
    }

    /// Closes an earlier intent for the same listing: a second approval implies that the first
    /// request was not sent. An earlier intent at another price may have been sent and rejected; it
    /// stays in flight and becomes unknown.
    fn close_earlier(&mut self, record: &Record) {
        let LedgerEvent::Reserved { id, keyed_by, price, .. } = record.event else { return };
        let earlier = self.state.order(&keyed_by.key(id, Some(price)));
        let earlier = earlier.filter(|earlier| earlier.state.is_in_flight());
        if let Some(sequence) = earlier.map(|earlier| earlier.sequence) {
            let answer = RecordedAnswer::NotSent(NotSent::Closed);
            let event = LedgerEvent::Answered { sequence, answer };
            let _fits = self.add_record(Record { position: 0, event, ..*record }).is_ok();
        }
    }

    /// Reserves the coins of orders that may have been approved without being recorded.
    fn reserve_crash_loss(
        &mut self,
        previous: &PreviousRun,
        cause: &str,
        now: UnixMs,
    ) -> Result<(), super::InvalidTransition> {
        let (limit, recorded) = (previous.durable_limit, self.state.approved_totals());
        let coins = limit.coins.saturating_sub(recorded.coins);
        let count = u32::try_from(limit.count.saturating_sub(recorded.count)).unwrap_or(u32::MAX);
        // A missing order would need both.
        if coins <= Amount::ZERO || count == 0 {
            return Ok(());
        }
        let latest = self.state.intents().iter().map(|intent| intent.changed_at).max();
        let barrier = latest.unwrap_or(now).max(now).plus(CLOCK_MARGIN);
        self.add(now, LedgerEvent::Lost { coins, count, barrier })?;
        let barrier = clock::format_local(barrier);
        tracing::warn!(
            "Orders may be missing from the ledger: {cause}. Up to {} for {coins} counted as spent \
             {}; listings created before {barrier}, or at an unknown time, are not ordered",
            counted(count, "order", "orders"),
            loss_end(self.state.loss_until().map(clock::format_local))
        );
        Ok(())
    }
}
