//! SQLite database with the complete, durable history of the ledger.
//!
//! WAL mode, every commit synced. One thread writes; readers may open it at the same time. The
//! append-only table `events` is authoritative; `intents`, `halts` and `corrections` are derived
//! from it in the same transaction. See `docs/ledger.md`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, ToSql, Transaction, config::DbConfig, params,
};

use super::{
    entries::{EntryKey, GroupNames},
    error::LedgerError,
    event::{EntrySlot, LedgerEvent, Sequence},
    intent::{ApprovedTotals, Intent},
    item::OrderedItem,
    item_rows,
    private::{self, TrackedFile},
    record::{LAYOUT, RECORD_BYTES, Record, Timeline},
    rules::{RenamedEntry, RulesMessage},
    schema::{
        GROUPS_SINCE, ITEMS_SINCE, KEY_PRICE_SINCE, MIGRATIONS, OWN_IDS_SINCE, StagedRows,
        THOUSANDTHS_SINCE, VERSION, integer,
    },
    state::LedgerState,
};
use crate::{
    config::Budget, domain::account::LedgerAccount, domain::money::Amount, domain::time::UnixMs,
    secret,
};

/// Maximum wait of a reader for a busy database.
const READER_WAIT: Duration = Duration::from_secs(5);
/// Maximum wait of the writer for another program that writes to the database.
const WRITER_WAIT: Duration = Duration::from_millis(250);

/// Size to which SQLite truncates its write-ahead log file after a checkpoint, in bytes.
const WAL_BYTES_KEPT: i64 = 4 * 1024 * 1024;

/// State that the previous run left in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PreviousRun {
    /// Last position of the intent file that the database contains.
    pub(super) applied: u64,
    /// Durable limit on all approvals.
    pub(super) durable_limit: ApprovedTotals,
    /// Boot id of the machine during that run.
    pub(super) boot: Option<String>,
    /// `true` after an orderly stop.
    pub(super) clean: bool,
    /// Host of the market of the ledger.
    pub(super) host: Option<String>,
    /// Account of the ledger.
    pub(super) user: Option<LedgerAccount>,
    pub(super) id: Option<String>,
    pub(super) last_order: u64,
    pub(super) last_event: Option<Record>,
    /// Purchases made outside of this ledger since then count against `total`, until the first
    /// complete reading of the account.
    pub(super) count_since: Option<UnixMs>,
    /// Longest time until the account's list of purchases contains an order; `None` without such a
    /// list, and after a run of an earlier version.
    pub(super) listed_within: Option<Duration>,
}

/// Rows that a start writes in addition to its first batch.
#[derive(Clone, Debug)]
pub(super) struct OpeningRecords<'a> {
    pub(super) entries: &'a [(EntrySlot, EntryKey)],
    pub(super) renamed: &'a [RenamedEntry],
    pub(super) groups: GroupNames,
    pub(super) host: &'a str,
    pub(super) boot: Option<&'a str>,
    pub(super) id: &'a str,
    /// Values of keys that are removed without a value.
    pub(super) optional: [(&'static str, Option<i64>); 2],
}

/// Rows that are written in one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteBatch {
    pub(super) staged: Vec<StagedRows>,
    pub(super) responses: Vec<(Sequence, String)>,
    /// Items of orders that are in `staged` or in the database.
    pub(super) items: Vec<(Sequence, OrderedItem)>,
    pub(super) user: Option<LedgerAccount>,
    pub(super) applied: u64,
    pub(super) durable_limit: ApprovedTotals,
    pub(super) clean: bool,
}

impl WriteBatch {
    pub(super) fn new(
        staged: Vec<StagedRows>,
        applied: u64,
        durable_limit: ApprovedTotals,
    ) -> Self {
        Self { staged, applied, durable_limit, ..Self::default() }
    }
}

/// Columns of an intent's row that its events determine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IntentRow {
    pub(super) number: i64,
    pub(super) listing: String,
    pub(super) state: String,
    pub(super) price: Amount,
    pub(super) approved: Amount,
    pub(super) key_price: Amount,
    pub(super) own_id: Option<String>,
}

impl IntentRow {
    pub(super) fn of(intent: &Intent, number: i64) -> Self {
        let (listing, state) = (intent.id.to_string(), intent.state.as_str().to_owned());
        let (price, approved) = (intent.price, intent.approved);
        let key_price = intent.key().price.unwrap_or_default();
        let own_id = intent.own_id.map(|own_id| own_id.to_string());
        Self { number, listing, state, price, approved, key_price, own_id }
    }
}

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    /// Database and write-ahead log files, if this connection writes them.
    tracked: Option<[TrackedFile; 2]>,
}

impl Database {
    /// Opens the database of this market for writing, creates it if missing, and migrates it to the
    /// current format. A database of another market stays as it is.
    pub(super) fn open(path: &Path, host: &str) -> Result<Self, LedgerError> {
        make_private(path)?;
        let connection = Connection::open(path).map_err(LedgerError::database("open", path))?;
        let mut database = Self { connection, path: path.to_owned(), tracked: None };
        database.prepare().map_err(LedgerError::database("set up", path))?;
        database.check()?;
        database.check_owner(host)?;
        database.migrate()?;
        let log = with_suffix(path, "-wal");
        database.tracked = Some([path.to_owned(), log].map(TrackedFile::at));
        Ok(database)
    }

    /// Opens the database read-only, next to a possible writer.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags);
        let connection = opened.map_err(LedgerError::database("open", path))?;
        connection.busy_timeout(READER_WAIT).map_err(LedgerError::database("set up", path))?;
        let database = Self { connection, path: path.to_owned(), tracked: None };
        database.known_version()?;
        Ok(database)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(WRITER_WAIT)?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        // In WAL mode, FULL makes a commit wait until it is on disk.
        self.connection.pragma_update(None, "synchronous", "FULL")
    }

    /// Runs SQLite's integrity check.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        let result = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        let answer: String = result.map_err(LedgerError::database("check", &self.path))?;
        if answer == "ok" { Ok(()) } else { Err(self.damaged(answer)) }
    }

    fn version(&self) -> rusqlite::Result<u32> {
        // Read for each item, so the statement is kept.
        let mut statement = self.connection.prepare_cached("PRAGMA user_version")?;
        statement.query_row([], |row| row.get(0))
    }

    /// Returns the function that converts a stored amount. Commands that only read do not migrate a
    /// database of an older version. Call it in the transaction that reads the amounts, because a
    /// bot may migrate the database at any time.
    fn amounts(&self) -> rusqlite::Result<fn(i64) -> Amount> {
        let is_current = THOUSANDTHS_SINCE <= self.version()?;
        Ok(if is_current { Amount::from_thousandths } else { Amount::from_cents })
    }

    fn known_version(&self) -> Result<u32, LedgerError> {
        let found = self.version().map_err(LedgerError::database("read", &self.path))?;
        if found > VERSION {
            return Err(LedgerError::TooNew { path: self.path.clone(), found, supported: VERSION });
        }
        Ok(found)
    }

    /// Fails if the database belongs to another market.
    pub(super) fn check_owner(&self, host: &str) -> Result<(), LedgerError> {
        if self.known_version()? == 0 {
            return Ok(());
        }
        let owner: Option<String> =
            self.meta("host").map_err(LedgerError::database("read", &self.path))?;
        match owner {
            Some(ledger) if ledger != host => Err(LedgerError::OtherHost {
                path: self.path.clone(),
                ledger,
                requested: host.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn migrate(&mut self) -> Result<(), LedgerError> {
        let found = usize::try_from(self.known_version()?).unwrap_or(usize::MAX);
        let path = self.path.clone();
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
            let migrated = (|| {
                let transaction = self.connection.transaction()?;
                transaction.execute_batch(migration)?;
                let version = index.saturating_add(1);
                transaction.pragma_update(None, "user_version", version.to_string())?;
                transaction.commit()
            })();
            migrated.map_err(LedgerError::database("migrate", &path))?;
        }
        Ok(())
    }

    /// Reads the state that the previous run left.
    pub(super) fn previous_run(&self) -> Result<PreviousRun, LedgerError> {
        let read = (|| {
            let amount = self.amounts()?;
            let number = |key| self.meta::<i64>(key).map(Option::unwrap_or_default);
            let unsigned = |key| number(key).map(|value| u64::try_from(value).unwrap_or_default());
            Ok(PreviousRun {
                applied: unsigned("applied")?,
                durable_limit: ApprovedTotals {
                    coins: amount(number("ceiling_coins")?),
                    count: unsigned("ceiling_count")?,
                },
                boot: self.meta("boot")?,
                clean: number("clean")? != 0,
                host: self.meta("host")?,
                user: self.user()?,
                id: self.meta("ledger")?,
                last_order: self.last_order()?,
                last_event: self.last_event()?,
                count_since: self.meta("count_since")?.map(UnixMs),
                listed_within: self.meta("listed_within")?.map(|ms| UnixMs(ms).since(UnixMs(0))),
            })
        })();
        read.map_err(LedgerError::database("read", &self.path))
    }

    /// Reads the account. Earlier versions stored the number of the recipient or the stated id.
    fn user(&self) -> rusqlite::Result<Option<LedgerAccount>> {
        let Some(id) = self.meta::<String>("user")? else { return Ok(None) };
        let is_stated = self.meta::<i64>("user_stated")?.map(|stated| stated != 0);
        let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Some(LedgerAccount { id, is_stated: is_stated.unwrap_or(!is_number) }))
    }

    fn last_order(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT max(number) FROM intents";
        let last: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or_default())
    }

    fn last_event(&self) -> rusqlite::Result<Option<Record>> {
        let sql = "SELECT record FROM events ORDER BY number DESC LIMIT 1";
        let bytes: Option<[u8; RECORD_BYTES]> =
            self.connection.query_row(sql, [], |row| row.get(0)).optional()?;
        Ok(bytes.as_ref().and_then(Record::decode))
    }

    /// Returns `true` if another program changed the files since the last write of this connection.
    pub(super) fn is_changed(&self) -> bool {
        self.tracked.iter().flatten().any(TrackedFile::is_changed)
    }

    fn note_written(&mut self) {
        self.tracked.iter_mut().flatten().for_each(TrackedFile::note);
    }

    /// Returns the size of the write-ahead log in bytes.
    pub(super) fn wal_bytes(&self) -> u64 {
        self.tracked.as_ref().map_or(0, |[_database, log]| log.len())
    }

    /// Tries to checkpoint and truncate the write-ahead log.
    pub(super) fn truncate_wal(&mut self) {
        // The first column is 0 unless a reader or writer was in the way.
        let blocked: rusqlite::Result<i64> =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        if !matches!(blocked, Ok(0)) {
            tracing::debug!("the write-ahead log was not truncated");
        }
        self.note_written();
    }

    /// Copies the database into another file atomically.
    pub(super) fn copy_to(&self, path: &Path) -> Result<(), LedgerError> {
        let part = with_suffix(path, ".part");
        let failed = |action| LedgerError::file(action, path);
        if part.symlink_metadata().is_ok() {
            fs::remove_file(&part).map_err(failed("replace"))?;
        }
        // SQLite accepts an empty file and keeps its mode.
        drop(private::open(&part).map_err(failed("create"))?);
        let name = part.to_string_lossy();
        self.connection
            .execute("VACUUM INTO ?1", [name.as_ref()])
            .map_err(LedgerError::database("write", path))?;
        fs::rename(&part, path).map_err(failed("create"))
    }

    /// Keeps SQLite from deleting the write-ahead log's path when this connection closes.
    pub(super) fn keep_wal_on_close(&self) {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if let Err(error) = set {
            tracing::debug!("SQLite may delete the ledger's write-ahead log at the end: {error}");
        }
    }

    fn meta<T: rusqlite::types::FromSql>(&self, key: &str) -> rusqlite::Result<Option<T>> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.connection.query_row(sql, [key], |row| row.get(0)).optional()
    }

    /// Rebuilds the ledger state from every recorded event. `later` are the records that follow, of
    /// which only the starts are needed.
    pub(super) fn replay(
        &self,
        state: &mut LedgerState,
        timeline: &mut Timeline,
        later: &[Record],
    ) -> Result<(), LedgerError> {
        self.restore_entries(state).map_err(LedgerError::database("read", &self.path))?;
        let starts = "WHERE number IN (SELECT number FROM events WHERE kind = 'started' \
                      UNION ALL SELECT number - 1 FROM events WHERE kind = 'started')";
        let is_start = |record: &Record| matches!(record.event, LedgerEvent::Started { .. });
        let (mut noted, mut starts_count) = (0_u64, 0_u64);
        self.each_record(starts, |record| {
            noted = noted.saturating_add(u64::from(is_start(record)));
            timeline.note_start(record);
            Ok(())
        })?;
        later.iter().for_each(|record| timeline.note_start(record));
        self.each_record("", |record| {
            starts_count = starts_count.saturating_add(u64::from(is_start(record)));
            let (at, event) = timeline.convert(record);
            state.apply(at, &event).map_err(|source| self.contradiction(source))
        })?;
        // A start that the index lacks would leave the orders before it at a wrong time.
        if noted == starts_count {
            return Ok(());
        }
        Err(self.damaged(format!("the index finds {noted} of {starts_count} starts")))
    }

    /// Reads the records that meet this condition, in their order.
    fn each_record(
        &self,
        condition: &str,
        mut on_record: impl FnMut(&Record) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let failed = LedgerError::database("read", &self.path);
        let events = format!("SELECT number, record FROM events {condition} ORDER BY number");
        let mut statement = self.connection.prepare(&events).map_err(&failed)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; RECORD_BYTES]>(1)?)));
        for row in rows.map_err(&failed)? {
            let (number, bytes) = row.map_err(&failed)?;
            on_record(&Record::decode(&bytes).ok_or_else(|| self.undecodable(number, &bytes))?)?;
        }
        Ok(())
    }

    fn restore_entries(&self, state: &mut LedgerState) -> rusqlite::Result<()> {
        let has_groups = GROUPS_SINCE <= self.version()?;
        let group = if has_groups { "group_name" } else { "NULL" };
        let entries = format!("SELECT slot, key, {group} FROM entries ORDER BY slot");
        let mut statement = self.connection.prepare(&entries)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let slot = EntrySlot(row.get(0)?);
            state.restore_entry(slot, EntryKey::from_text(row.get::<_, String>(1)?));
            if let Some(group) = row.get::<_, Option<String>>(2)? {
                state.restore_group(slot, &group);
            }
        }
        Ok(())
    }

    /// Begins a read transaction: until it is dropped, every read is of the same state of the
    /// database.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>, LedgerError> {
        let begun = self.connection.unchecked_transaction();
        begun.map_err(LedgerError::database("read", &self.path))
    }

    /// Replays all events and reads the previous run's state in one snapshot.
    pub(super) fn replay_in_snapshot(
        &self,
        state: &mut LedgerState,
        timeline: &mut Timeline,
    ) -> Result<PreviousRun, LedgerError> {
        let _snapshot = self.snapshot()?;
        let previous = self.previous_run()?;
        self.replay(state, timeline, &[])?;
        Ok(previous)
    }

    /// Reads the limits of the last start.
    pub(super) fn last_limits(&self) -> Result<Option<Budget>, LedgerError> {
        let sql = "SELECT max_price, total, min_balance, max_buys_per_minute, per_hour, per_day, \
                   max_in_flight FROM limits JOIN meta ON number = value AND key = 'limits'";
        let failed = LedgerError::database("read", &self.path);
        let _snapshot = self.snapshot()?;
        let converted = self.amounts().map_err(&failed)?;
        let read = self.connection.query_row(sql, [], |row| {
            let whole = |index| row.get::<_, Option<i64>>(index).map(Option::unwrap_or_default);
            let amount = |index| whole(index).map(converted);
            let count = |index| whole(index).map(|value| u32::try_from(value).unwrap_or_default());
            let optional = |index| row.get::<_, Option<i64>>(index).map(|it| it.map(converted));
            Ok(Budget {
                max_price: amount(0)?,
                total: amount(1)?,
                min_balance: amount(2)?,
                max_buys_per_minute: count(3)?,
                per_hour: optional(4)?,
                per_day: optional(5)?,
                max_in_flight: count(6)?,
            })
        });
        read.optional().map_err(failed)
    }

    /// Reads the row of every intent.
    pub(super) fn intent_rows(&self) -> Result<Vec<IntentRow>, LedgerError> {
        let _snapshot = self.snapshot()?;
        let read: rusqlite::Result<Vec<IntentRow>> = (|| {
            let amount = self.amounts()?;
            let version = self.version()?;
            let key_price = if KEY_PRICE_SINCE <= version { "key_price" } else { "0" };
            let own_id = if OWN_IDS_SINCE <= version { "own_id" } else { "NULL" };
            let mut statement = self.connection.prepare(&format!(
                "SELECT number, listing, state, price, approved, {key_price}, {own_id} \
                 FROM intents ORDER BY number"
            ))?;
            let rows = statement.query_map([], |row| {
                Ok(IntentRow {
                    number: row.get(0)?,
                    listing: row.get(1)?,
                    state: row.get(2)?,
                    price: amount(row.get(3)?),
                    approved: amount(row.get(4)?),
                    key_price: amount(row.get(5)?),
                    own_id: row.get(6)?,
                })
            })?;
            rows.collect()
        })();
        read.map_err(LedgerError::database("read", &self.path))
    }

    /// Reads the item of one order, if it is known.
    pub(super) fn item(&self, sequence: Sequence) -> Result<Option<OrderedItem>, LedgerError> {
        let read = match self.has_items() {
            Ok(true) => item_rows::read_one(&self.connection, sequence),
            has_none => has_none.map(|_no_table| None),
        };
        read.map_err(LedgerError::database("read", &self.path))
    }

    /// Reads the items of all orders, as far as they are known.
    pub(super) fn items(&self) -> Result<HashMap<Sequence, OrderedItem>, LedgerError> {
        let read = match self.has_items() {
            Ok(true) => item_rows::read_all(&self.connection),
            has_none => has_none.map(|_no_table| HashMap::new()),
        };
        read.map_err(LedgerError::database("read", &self.path))
    }

    /// Returns `true` if the database has the table `items`. One of an older version does not,
    /// because commands that only read do not migrate it.
    fn has_items(&self) -> rusqlite::Result<bool> {
        self.version().map(|version| ITEMS_SINCE <= version)
    }

    /// Returns the number of these limits. Inserts limits that the database does not have.
    pub(super) fn limits(&mut self, budget: &Budget, at: UnixMs) -> Result<u32, LedgerError> {
        let number = number_of(&self.connection, budget, at)
            .map_err(LedgerError::database("write", &self.path))?;
        set_meta(&self.connection, "limits", &number)
            .map_err(LedgerError::database("write", &self.path))?;
        self.note_written();
        Ok(number)
    }

    /// Writes the limits and the new entries of a reload in one transaction and waits for the disk.
    /// Returns the number of the limits.
    pub(super) fn register_rules(&mut self, rules: &RulesMessage) -> Result<u32, LedgerError> {
        let path = self.path.clone();
        if self.is_changed() {
            return Err(self.damaged("another program changed its files".to_owned()));
        }
        let registered = (|| {
            let transaction = self.connection.transaction()?;
            let number = number_of(&transaction, &rules.budget, rules.at)?;
            set_meta(&transaction, "limits", &number)?;
            // Removes the entries of an earlier reload that was not carried out.
            transaction.execute("DELETE FROM entries WHERE slot >= ?1", [rules.first_new.0])?;
            rename_entries(&transaction, rules.renamed.iter().map(|one| (one.slot, &one.to)))?;
            insert_entries(&transaction, &rules.new)?;
            write_groups(&transaction, &rules.groups)?;
            transaction.commit()?;
            Ok(number)
        })();
        self.note_written();
        registered.map_err(LedgerError::database("write", &path))
    }

    /// Gives the entries of a reload that was not carried out their former keys. With the new ones,
    /// the usage of an entry would not be found at the next start.
    pub(super) fn undo_renames(&mut self, renamed: &[RenamedEntry]) -> Result<(), LedgerError> {
        let undone = (|| {
            let transaction = self.connection.transaction()?;
            rename_entries(&transaction, renamed.iter().map(|one| (one.slot, &one.from)))?;
            transaction.commit()
        })();
        self.note_written();
        undone.map_err(LedgerError::database("write", &self.path))
    }

    /// Writes the rows of a start in one transaction and waits for the disk.
    pub(super) fn start(
        &mut self,
        batch: &WriteBatch,
        opening: &OpeningRecords<'_>,
    ) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let OpeningRecords { entries, renamed, groups, host, boot, id, optional } = opening;
        let started = (|| {
            let transaction = self.connection.transaction()?;
            rename_entries(&transaction, renamed.iter().map(|one| (one.slot, &one.to)))?;
            insert_entries(&transaction, entries)?;
            write_groups(&transaction, groups)?;
            set_meta(&transaction, "host", host)?;
            set_meta(&transaction, "ledger", id)?;
            for (key, value) in optional {
                match value {
                    Some(value) => set_meta(&transaction, key, value)?,
                    None => drop(transaction.execute("DELETE FROM meta WHERE key = ?1", [key])?),
                }
            }
            set_meta(&transaction, "boot", &boot.unwrap_or_default())?;
            write(&transaction, batch)?;
            transaction.commit()
        })();
        self.note_written();
        started.map_err(LedgerError::database("write", &path))
    }

    /// Writes a batch in one transaction and waits for the disk.
    pub(super) fn commit(&mut self, batch: &WriteBatch) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let committed = (|| {
            let transaction = self.connection.transaction()?;
            write(&transaction, batch)?;
            transaction.commit()
        })();
        self.note_written();
        committed.map_err(LedgerError::database("write", &path))
    }

    /// Returns the connection, for read-only queries.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn undecodable(&self, number: i64, bytes: &[u8; RECORD_BYTES]) -> LedgerError {
        match Record::layout_of(bytes).filter(|layout| LAYOUT < *layout) {
            Some(layout) => {
                let (found, supported) = (layout.into(), LAYOUT.into());
                LedgerError::TooNew { path: self.path.clone(), found, supported }
            }
            None => self.damaged(format!("event {number} cannot be decoded")),
        }
    }

    pub(super) fn damaged(&self, damage: String) -> LedgerError {
        LedgerError::Damaged { path: self.path.clone(), damage }
    }

    pub(super) fn contradiction(&self, source: super::InvalidTransition) -> LedgerError {
        LedgerError::Contradiction { path: self.path.clone(), source }
    }
}

fn write(transaction: &Transaction<'_>, batch: &WriteBatch) -> rusqlite::Result<()> {
    for staged in &batch.staged {
        staged.write(transaction)?;
    }
    for (sequence, response) in &batch.responses {
        transaction
            .prepare_cached("UPDATE intents SET words = ?2 WHERE number = ?1")?
            .execute(params![integer(*sequence), secret::mask(response)])?;
    }
    for (sequence, item) in &batch.items {
        item_rows::write(transaction, *sequence, item)?;
    }
    if let Some(user) = &batch.user {
        set_meta(transaction, "user", &user.id)?;
        set_meta(transaction, "user_stated", &i64::from(user.is_stated))?;
    }
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    set_meta(transaction, "applied", &signed(batch.applied))?;
    set_meta(transaction, "ceiling_coins", &batch.durable_limit.coins.thousandths())?;
    set_meta(transaction, "ceiling_count", &signed(batch.durable_limit.count))?;
    set_meta(transaction, "clean", &i64::from(batch.clean))
}

/// Returns the number of these limits. Inserts limits that the database does not have.
fn number_of(connection: &Connection, budget: &Budget, at: UnixMs) -> rusqlite::Result<u32> {
    let columns = limit_columns(budget);
    let values: Vec<&dyn ToSql> = columns.iter().map(|value| -> &dyn ToSql { value }).collect();
    let last = connection
        .prepare(
            "SELECT number FROM limits WHERE max_price IS ?1 AND total IS ?2 \
             AND min_balance IS ?3 AND max_buys_per_minute IS ?4 AND per_hour IS ?5 \
             AND per_day IS ?6 AND max_in_flight IS ?7",
        )?
        .query_row(values.as_slice(), |row| row.get(0))
        .optional()?;
    if let Some(number) = last {
        return Ok(number);
    }
    let mut values = values;
    values.push(&at.0);
    connection.execute(
        "INSERT INTO limits (max_price, total, min_balance, max_buys_per_minute, \
         per_hour, per_day, max_in_flight, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        values.as_slice(),
    )?;
    Ok(u32::try_from(connection.last_insert_rowid()).unwrap_or(u32::MAX))
}

fn insert_entries(
    connection: &Connection,
    entries: &[(EntrySlot, EntryKey)],
) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO entries (slot, key) VALUES (?1, ?2)")?;
    entries
        .iter()
        .try_for_each(|(slot, key)| insert.execute(params![slot.0, key.as_str()]).map(drop))
}

fn rename_entries<'k>(
    connection: &Connection,
    mut keys: impl Iterator<Item = (EntrySlot, &'k EntryKey)>,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE entries SET key = ?2 WHERE slot = ?1")?;
    keys.try_for_each(|(slot, key)| update.execute(params![slot.0, key.as_str()]).map(drop))
}

/// Writes the groups that differ from those in the database, which may be those of a reload that
/// was not carried out.
fn write_groups(connection: &Connection, groups: &GroupNames) -> rusqlite::Result<()> {
    let mut stored: HashMap<u32, String> = HashMap::new();
    let sql = "SELECT slot, group_name FROM entries WHERE group_name IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        stored.insert(row.get(0)?, row.get(1)?);
    }
    let mut update =
        connection.prepare_cached("UPDATE entries SET group_name = ?2 WHERE slot = ?1")?;
    for (slot, group) in (0_u32..).zip(groups.iter()) {
        let (group, before) = (group.as_deref(), stored.remove(&slot));
        if group != before.as_deref() {
            update.execute(params![slot, group])?;
        }
    }
    stored.keys().try_for_each(|slot| update.execute(params![slot, None::<&str>]).map(drop))
}

fn set_meta(connection: &Connection, key: &str, value: &dyn ToSql) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

/// Appends a suffix to the database's path, as SQLite does for its companion files.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Creates the database file if missing and restricts it to its owner. SQLite gives its companion
/// files the same mode.
fn make_private(path: &Path) -> Result<(), LedgerError> {
    let mut paths = vec![path.to_owned()];
    paths.extend(["-wal", "-shm"].map(|suffix| with_suffix(path, suffix)).into_iter().filter(
        |path| {
            // Unlike `exists`, this finds a dangling symbolic link.
            path.symlink_metadata().is_ok()
        },
    ));
    for path in paths {
        let opened = private::open(&path);
        opened.map_err(|source| LedgerError::File { action: "open", path, source })?;
    }
    Ok(())
}

fn limit_columns(budget: &Budget) -> [Option<i64>; 7] {
    [
        Some(budget.max_price.thousandths()),
        Some(budget.total.thousandths()),
        Some(budget.min_balance.thousandths()),
        Some(i64::from(budget.max_buys_per_minute)),
        budget.per_hour.map(Amount::thousandths),
        budget.per_day.map(Amount::thousandths),
        Some(i64::from(budget.max_in_flight)),
    ]
}
