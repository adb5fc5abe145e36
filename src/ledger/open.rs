//! Opening a ledger: taking the lock, recovering what the last run left, and starting the writer.
//!
//! # What a start finds
//!
//! - **A clean stop**: the database has everything.
//! - **The process died** (same boot of the machine): the intent file has every event that was
//!   ever written, without a hole; what was in flight becomes unknown.
//! - **The machine lost power** (another boot, or one that cannot be told): the intent file has
//!   what reached the disk. What may be missing is bounded by the lease and counts as spent, and
//!   no listing created before this start is bought any more.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc::sync_channel},
    thread,
    time::Duration,
};

use super::{
    Ledger,
    book::Book,
    database::{Batch, Database, Left},
    error::LedgerError,
    event::{Answer, BootId, Event, Sequence},
    intent::Exposure,
    journal::{Journal, Parts},
    lease::unrecorded,
    lock::Lock,
    record::Record,
    ring::{Opened, Ring},
    rows::Staged,
    storage::Storage,
    timeline::Timeline,
    writer::{MESSAGES_MAX, Message, Shared, Writer},
};
use crate::{clock, config::Budget, outcome::NotSent, time::UnixMs, whitelist::Entry};

/// The database's name in its folder.
pub const DATABASE: &str = "ledger.db";
/// The intent file's name in its folder.
pub const INTENT_FILE: &str = "ledger.intents";
/// By how much the marketplace's clock may run ahead of ours, after power was lost.
pub const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// Where a ledger is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder that holds its files: `SNIPER_DATA`.
    pub folder: PathBuf,
    /// The marketplace's host.
    pub host: String,
    /// Which boot of the machine this is; `None`: it cannot be told.
    pub boot: Option<String>,
    /// How long the machine has run since, suspends included; `None`: it cannot be told.
    pub uptime_ms: Option<u64>,
}

impl Place {
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
        place: &Place,
        budget: Budget,
        entries: &[Entry],
        now: UnixMs,
    ) -> Result<Self, LedgerError> {
        make_folder(&place.folder)?;
        let lock = Lock::take(&place.folder)?;
        let path = place.folder.join(INTENT_FILE);
        let file = open_file(&path);
        let file = file.map_err(|source| LedgerError::File { what: "open", path, source })?;
        Self::open_on(place, Arc::new(file), lock, Wish { budget, entries, now })
    }

    pub(super) fn open_on(
        place: &Place,
        storage: Arc<dyn Storage>,
        lock: Lock,
        wish: Wish<'_>,
    ) -> Result<Self, LedgerError> {
        let Wish { budget, entries, now } = wish;
        let mut database = Database::open(&place.folder.join(DATABASE))?;
        let left = database.left()?;
        belongs(&left, place, &database)?;
        let path = place.folder.join(INTENT_FILE);
        let failed = |what| {
            let path = path.clone();
            move |source| LedgerError::File { what, path, source }
        };
        let Opened { ring, is_new } = Ring::open(storage).map_err(failed("allocate"))?;
        let number = database.limits(&budget, now)?;
        let mut book = Book::new(budget.clone(), true);
        book.set_budget(budget, number);
        let boot = BootId::new(place.boot.as_deref());
        let mut timeline = Timeline::new(boot, place.uptime_ms, now);
        database.replay(&mut book, &mut timeline)?;
        let survivors = ring.survivors(left.applied).map_err(failed("read"))?;
        let last = survivors.records.last().map_or(left.applied, |record| record.position);

        // An intent file that is gone tells nothing, whatever the boot.
        let is_same_boot = place.boot.is_some() && left.boot == place.boot && !is_new;
        let mut recovery = Recovery { book, timeline, staged: Vec::new() };
        if left.clean || is_same_boot {
            if let Some(hole) = survivors.hole {
                let what = format!("record {hole} is missing");
                return Err(LedgerError::Damaged { path, what });
            }
            recovery.take(&survivors.records).map_err(|error| database.contradiction(error))?;
        } else {
            recovery.salvage(&survivors.records);
            recovery.lose(&left, now).map_err(|error| database.contradiction(error))?;
        }
        let started = recovery.add(now, Event::Started { boot });
        started.map_err(|error| database.contradiction(error))?;
        let Recovery { mut book, timeline, staged } = recovery;
        let new_entries = book.set_entries(entries);

        let ceiling = if left.user.is_some() { book.ceiling() } else { book.exposure() };
        let batch = Batch { staged, applied: last, ceiling, ..Batch::default() };
        database.start(&batch, &new_entries, &place.host, place.boot.as_deref())?;
        let batch = Batch { staged: Vec::new(), ..batch };
        let shared = Arc::new(Shared::default());
        shared.written.store(last, Ordering::Release);
        shared.applied.store(last, Ordering::Release);
        shared.set_ceiling(ceiling);
        let (messages, received) = sync_channel::<Message>(MESSAGES_MAX);
        let (ended, stopped) = sync_channel::<()>(1);
        let writer = Writer {
            shared: Arc::clone(&shared),
            ring: ring.clone(),
            database,
            book: book.clone(),
            messages: received,
            batch,
        };
        let spawned = thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            writer.run();
            // The next process may have it before whoever waits for this one hears of it.
            drop(lock);
            drop(ended);
        });
        spawned.map_err(failed("start the writer of"))?;
        let user = left.user;
        let journal = Journal::new(Parts { ring, shared, messages, stopped, user, timeline });
        Ok(Self::kept(book, journal))
    }
}

/// What a person has set, at the moment of opening.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    pub(super) budget: Budget,
    pub(super) entries: &'a [Entry],
    pub(super) now: UnixMs,
}

/// What the last run left, brought into the book.
struct Recovery {
    book: Book,
    timeline: Timeline,
    staged: Vec<Staged>,
}

impl Recovery {
    fn add(&mut self, at: UnixMs, event: Event) -> Result<(), super::Contradiction> {
        let uptime_ms = self.timeline.uptime_ms(at);
        let record = Record { position: 0, at, uptime_ms, event };
        self.staged.push(Staged::new(&mut self.book, record)?);
        Ok(())
    }

    /// Takes over every record, as it is.
    fn take(&mut self, records: &[Record]) -> Result<(), super::Contradiction> {
        records.iter().try_for_each(|record| {
            let placed = self.timeline.place(record);
            self.staged.push(Staged::placed(&mut self.book, *record, placed)?);
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
                Event::Reserved { sequence, id, price, entry, limits } => {
                    self.close_earlier(record);
                    let new = self.book.next_sequence();
                    moved.insert(sequence, new);
                    Some(Event::Reserved { sequence: new, id, price, entry, limits })
                }
                Event::Sent { sequence } => find(sequence).map(|sequence| Event::Sent { sequence }),
                Event::Answered { sequence, answer } => {
                    find(sequence).map(|sequence| Event::Answered { sequence, answer })
                }
                Event::Proved { sequence, proof, paid, by } => {
                    find(sequence).map(|sequence| Event::Proved { sequence, proof, paid, by })
                }
                Event::PriceConfirmed { sequence, price } => {
                    find(sequence).map(|sequence| Event::PriceConfirmed { sequence, price })
                }
                Event::Adopted { id, price, .. } => {
                    Some(Event::Adopted { sequence: self.book.next_sequence(), id, price })
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
        let Event::Reserved { id, .. } = record.event else { return };
        let earlier = self.book.intent(&id).filter(|earlier| earlier.state.is_in_flight());
        if let Some(sequence) = earlier.map(|earlier| earlier.sequence) {
            let answer = Answer::NotSent(NotSent::Closed);
            let _fits = self.add(record.at, Event::Answered { sequence, answer }).is_ok();
        }
    }

    /// Counts what may have been approved and is not on record.
    fn lose(&mut self, left: &Left, now: UnixMs) -> Result<(), super::Contradiction> {
        let (coins, count) = unrecorded(left.ceiling, self.book.exposure());
        if left.ceiling == Exposure::default() {
            return Ok(());
        }
        let latest = self.book.intents().iter().map(|intent| intent.changed_at).max();
        let barrier = latest.unwrap_or(now).max(now).plus(CLOCK_MARGIN);
        self.add(now, Event::Lost { coins, count, barrier })
    }
}

fn belongs(left: &Left, place: &Place, database: &Database) -> Result<(), LedgerError> {
    match &left.host {
        Some(ledger) if *ledger != place.host => Err(LedgerError::OtherHost {
            path: database.path().to_owned(),
            ledger: ledger.clone(),
            asked: place.host.clone(),
        }),
        _ => Ok(()),
    }
}

fn make_folder(folder: &Path) -> Result<(), LedgerError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.create(folder);
    made.map_err(|source| LedgerError::File { what: "create", path: folder.to_owned(), source })
}

fn open_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
