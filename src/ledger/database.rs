//! The database: everything that ever happened, durable, and readable with the usual tools.
//!
//! SQLite in WAL mode, every commit synced. One thread writes it; anybody may read it meanwhile.
//! `events` is the truth and only grows; `intents`, `halts` and `corrections` are what follows
//! from it, written in the same transaction. See `docs/ledger.md`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, ToSql, Transaction, config::DbConfig, params,
};

use super::{
    entries::EntryKey,
    error::LedgerError,
    event::{EntrySlot, Sequence},
    intent::ApprovedTotals,
    private::{self, PrivateFile},
    record::{RECORD_BYTES, Record},
    rows::{StagedRows, coins, integer},
    schema::{MIGRATIONS, VERSION},
    state::LedgerState,
    timeline::Timeline,
};
use crate::{config::Budget, domain::time::UnixMs, secret};

/// How long a reader waits while the database is busy.
const READER_WAIT: Duration = Duration::from_secs(5);
/// How long the writer waits for a foreign program that writes to the database.
const WRITER_WAIT: Duration = Duration::from_millis(250);

/// How long the write-ahead log's file stays after it was emptied, in bytes.
const LOG_BYTES_KEPT: i64 = 4 * 1024 * 1024;

/// What the program left when it last ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PreviousRun {
    /// The last position of the intent file that the database has.
    pub(super) applied: u64,
    /// The ceiling on everything ever approved.
    pub(super) ceiling: ApprovedTotals,
    /// Under which boot of the machine it ran.
    pub(super) boot: Option<String>,
    /// Whether it stopped in order.
    pub(super) clean: bool,
    /// The marketplace that the ledger belongs to.
    pub(super) host: Option<String>,
    /// The account that it belongs to.
    pub(super) user: Option<String>,
    /// The ledger's id.
    pub(super) id: Option<String>,
    /// The number of the last order.
    pub(super) last_order: u64,
    /// The last event.
    pub(super) last_event: Option<Record>,
    /// From when on purchases that the ledger did not make count against `total`, until its first
    /// complete reading of the account.
    pub(super) count_since: Option<UnixMs>,
}

/// What a start adds to a ledger beyond its first batch.
#[derive(Clone, Debug)]
pub(super) struct OpeningRecords<'a> {
    pub(super) entries: &'a [(EntrySlot, EntryKey)],
    pub(super) host: &'a str,
    pub(super) boot: Option<&'a str>,
    pub(super) id: &'a str,
    pub(super) count_since: Option<UnixMs>,
}

/// What is written at once.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteBatch {
    pub(super) staged: Vec<StagedRows>,
    pub(super) words: Vec<(Sequence, String)>,
    pub(super) user: Option<String>,
    pub(super) applied: u64,
    pub(super) ceiling: ApprovedTotals,
    pub(super) clean: bool,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    /// The database and its write-ahead log, where this connection writes them.
    written: Option<[PrivateFile; 2]>,
}

impl Database {
    /// Opens the database in order to write it, creates it if need be, and brings its format up
    /// to date.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        make_private(path)?;
        let connection = Connection::open(path).map_err(said("opened", path))?;
        let mut database = Self { connection, path: path.to_owned(), written: None };
        database.prepare().map_err(said("set up", path))?;
        database.check()?;
        database.migrate()?;
        let log = beside(path, "-wal");
        database.written = Some([path.to_owned(), log].map(PrivateFile::at));
        Ok(database)
    }

    /// Opens the database in order to read it, beside whoever writes it.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags);
        let connection = opened.map_err(said("opened", path))?;
        connection.busy_timeout(READER_WAIT).map_err(said("set up", path))?;
        let database = Self { connection, path: path.to_owned(), written: None };
        database.known_version()?;
        Ok(database)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(WRITER_WAIT)?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        // In WAL mode, FULL is what makes a commit wait until it is on the disk.
        self.connection.pragma_update(None, "synchronous", "FULL")
    }

    /// Asks the database whether its file is whole.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        let asked = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        let answer: String = asked.map_err(said("checked", &self.path))?;
        if answer == "ok" { Ok(()) } else { Err(self.damaged(answer)) }
    }

    fn known_version(&self) -> Result<u32, LedgerError> {
        let asked = self.connection.pragma_query_value(None, "user_version", |row| row.get(0));
        let found: u32 = asked.map_err(said("read", &self.path))?;
        if found > VERSION {
            return Err(LedgerError::TooNew { path: self.path.clone(), found, known: VERSION });
        }
        Ok(found)
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
            migrated.map_err(said("brought up to date", &path))?;
        }
        Ok(())
    }

    /// What the program left when it last ran.
    pub(super) fn left(&self) -> Result<PreviousRun, LedgerError> {
        let read = (|| {
            let number = |key| self.meta::<i64>(key).map(Option::unwrap_or_default);
            let unsigned = |key| number(key).map(|value| u64::try_from(value).unwrap_or_default());
            Ok(PreviousRun {
                applied: unsigned("applied")?,
                ceiling: ApprovedTotals {
                    coins: coins(number("ceiling_coins")?),
                    count: unsigned("ceiling_count")?,
                },
                boot: self.meta("boot")?,
                clean: number("clean")? != 0,
                host: self.meta("host")?,
                user: self.meta("user")?,
                id: self.meta("ledger")?,
                last_order: self.last_order()?,
                last_event: self.last_event()?,
                count_since: self.meta("count_since")?.map(UnixMs),
            })
        })();
        read.map_err(said("read", &self.path))
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

    /// Whether another program changed the files since the last write of this connection.
    pub(super) fn is_changed(&self) -> bool {
        self.written.iter().flatten().any(PrivateFile::is_changed)
    }

    fn note_written(&mut self) {
        self.written.iter_mut().flatten().for_each(PrivateFile::note);
    }

    /// How long the write-ahead log is, in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        self.written.as_ref().map_or(0, |[_database, log]| log.len())
    }

    /// Tries to move everything from the write-ahead log into the database, and to cut it.
    pub(super) fn empty_log(&mut self) {
        let cut =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(())).is_ok();
        if !cut {
            tracing::debug!("the write-ahead log was not emptied");
        }
        self.note_written();
    }

    /// Writes all that the database has into another file, whole or not at all.
    pub(super) fn copy_to(&self, path: &Path) -> Result<(), LedgerError> {
        let part = beside(path, ".part");
        let failed = |what| {
            let path = path.to_owned();
            move |source| LedgerError::File { what, path, source }
        };
        if part.symlink_metadata().is_ok() {
            fs::remove_file(&part).map_err(failed("replace"))?;
        }
        // SQLite takes an empty file, and its mode stays.
        drop(private::open(&part).map_err(failed("create"))?);
        let name = part.to_string_lossy();
        self.connection
            .execute("VACUUM INTO ?1", [name.as_ref()])
            .map_err(said("written", path))?;
        fs::rename(&part, path).map_err(failed("create"))
    }

    /// Makes closing this connection leave the write-ahead log's path alone.
    pub(super) fn keep_log_on_close(&self) {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if let Err(error) = set {
            tracing::warn!("The ledger's write-ahead log may be removed at the end: {error}");
        }
    }

    fn meta<T: rusqlite::types::FromSql>(&self, key: &str) -> rusqlite::Result<Option<T>> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.connection.query_row(sql, [key], |row| row.get(0)).optional()
    }

    /// Makes the book again, from every event on file.
    pub(super) fn replay(
        &self,
        book: &mut LedgerState,
        timeline: &mut Timeline,
    ) -> Result<(), LedgerError> {
        let failed = || said("read", &self.path);
        let entries = "SELECT slot, key FROM entries ORDER BY slot";
        let mut statement = self.connection.prepare(entries).map_err(failed())?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
        for row in rows.map_err(failed())? {
            let (slot, key) = row.map_err(failed())?;
            book.restore_entry(EntrySlot(slot), EntryKey::from_text(key));
        }
        let events = "SELECT number, record FROM events ORDER BY number";
        let mut statement = self.connection.prepare(events).map_err(failed())?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; RECORD_BYTES]>(1)?)));
        for row in rows.map_err(failed())? {
            let (number, bytes) = row.map_err(failed())?;
            let record = Record::decode(&bytes)
                .ok_or_else(|| self.damaged(format!("event {number} cannot be read")))?;
            let (at, event) = timeline.place(&record);
            let applied = book.apply(at, &event);
            applied.map_err(|source| self.contradiction(source))?;
        }
        Ok(())
    }

    /// Replays everything and says what the program left, both as of one moment.
    pub(super) fn replay_at_once(
        &self,
        book: &mut LedgerState,
        timeline: &mut Timeline,
    ) -> Result<PreviousRun, LedgerError> {
        let failed = || said("read", &self.path);
        let transaction = self.connection.unchecked_transaction().map_err(failed())?;
        let left = self.left()?;
        self.replay(book, timeline)?;
        transaction.rollback().map_err(failed())?;
        Ok(left)
    }

    /// The limits of the last start.
    pub(super) fn last_limits(&self) -> Result<Option<Budget>, LedgerError> {
        let sql = "SELECT max_price, total, min_balance, max_buys_per_minute, per_hour, per_day, \
                   max_in_flight FROM limits JOIN meta ON number = value AND key = 'limits'";
        let read = self.connection.query_row(sql, [], |row| {
            let whole = |index| row.get::<_, Option<i64>>(index).map(Option::unwrap_or_default);
            let amount = |index| whole(index).map(coins);
            let count = |index| whole(index).map(|value| u32::try_from(value).unwrap_or_default());
            let optional = |index| row.get::<_, Option<i64>>(index).map(|cents| cents.map(coins));
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
        read.optional().map_err(said("read", &self.path))
    }

    /// The number of these limits: the one they had, or a new one.
    pub(super) fn limits(&mut self, budget: &Budget, at: UnixMs) -> Result<u32, LedgerError> {
        let number = self.number_of(budget, at).map_err(said("written", &self.path))?;
        set_meta(&self.connection, "limits", &number).map_err(said("written", &self.path))?;
        self.note_written();
        Ok(number)
    }

    fn number_of(&self, budget: &Budget, at: UnixMs) -> rusqlite::Result<u32> {
        let columns = limit_columns(budget);
        let values: Vec<&dyn ToSql> = columns.iter().map(|value| -> &dyn ToSql { value }).collect();
        let last = self
            .connection
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
        self.connection.execute(
            "INSERT INTO limits (max_price, total, min_balance, max_buys_per_minute, \
             per_hour, per_day, max_in_flight, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            values.as_slice(),
        )?;
        Ok(u32::try_from(self.connection.last_insert_rowid()).unwrap_or(u32::MAX))
    }

    /// Writes what a start is made of, all or nothing, and waits for the disk.
    pub(super) fn start(
        &mut self,
        batch: &WriteBatch,
        opening: &OpeningRecords<'_>,
    ) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let OpeningRecords { entries, host, boot, id, count_since } = opening;
        let started = (|| {
            let transaction = self.connection.transaction()?;
            for (slot, key) in *entries {
                transaction
                    .prepare_cached("INSERT INTO entries (slot, key) VALUES (?1, ?2)")?
                    .execute(params![slot.0, key.as_str()])?;
            }
            set_meta(&transaction, "host", host)?;
            set_meta(&transaction, "ledger", id)?;
            match count_since {
                Some(since) => set_meta(&transaction, "count_since", &since.0)?,
                None => unset_meta(&transaction, "count_since")?,
            }
            set_meta(&transaction, "boot", &boot.unwrap_or_default())?;
            write(&transaction, batch)?;
            transaction.commit()
        })();
        self.note_written();
        started.map_err(said("written", &path))
    }

    /// Writes a batch, all or nothing, and waits for the disk.
    pub(super) fn commit(&mut self, batch: &WriteBatch) -> Result<(), LedgerError> {
        let path = self.path.clone();
        let committed = (|| {
            let transaction = self.connection.transaction()?;
            write(&transaction, batch)?;
            transaction.commit()
        })();
        self.note_written();
        committed.map_err(said("written", &path))
    }

    /// The connection, for whoever reads tables.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where the database is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn unreadable(&self, source: rusqlite::Error) -> LedgerError {
        LedgerError::Database { what: "read", path: self.path.clone(), source }
    }

    pub(super) fn damaged(&self, what: String) -> LedgerError {
        LedgerError::Damaged { path: self.path.clone(), what }
    }

    pub(super) fn contradiction(&self, source: super::InvalidTransition) -> LedgerError {
        LedgerError::Contradiction { path: self.path.clone(), source }
    }
}

fn write(transaction: &Transaction<'_>, batch: &WriteBatch) -> rusqlite::Result<()> {
    for staged in &batch.staged {
        staged.write(transaction)?;
    }
    for (sequence, words) in &batch.words {
        transaction
            .prepare_cached("UPDATE intents SET words = ?2 WHERE number = ?1")?
            .execute(params![integer(*sequence), secret::mask(words)])?;
    }
    if let Some(user) = &batch.user {
        set_meta(transaction, "user", user)?;
    }
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    set_meta(transaction, "applied", &signed(batch.applied))?;
    set_meta(transaction, "ceiling_coins", &batch.ceiling.coins.cents())?;
    set_meta(transaction, "ceiling_count", &signed(batch.ceiling.count))?;
    set_meta(transaction, "clean", &i64::from(batch.clean))
}

fn set_meta(connection: &Connection, key: &str, value: &dyn ToSql) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

fn unset_meta(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM meta WHERE key = ?1", [key]).map(drop)
}

/// The path of a file that SQLite keeps beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Creates the database's file if there is none, and makes it readable for its owner alone; SQLite
/// gives the files that it keeps beside it the same mode.
fn make_private(path: &Path) -> Result<(), LedgerError> {
    let mut paths = vec![path.to_owned()];
    paths.extend(["-wal", "-shm"].map(|suffix| beside(path, suffix)).into_iter().filter(|path| {
        // A link that leads nowhere is there as well.
        path.symlink_metadata().is_ok()
    }));
    for path in paths {
        let opened = private::open(&path);
        opened.map_err(|source| LedgerError::File { what: "open", path, source })?;
    }
    Ok(())
}

fn limit_columns(budget: &Budget) -> [Option<i64>; 7] {
    [
        Some(budget.max_price.cents()),
        Some(budget.total.cents()),
        Some(budget.min_balance.cents()),
        Some(i64::from(budget.max_buys_per_minute)),
        budget.per_hour.map(crate::domain::money::Amount::cents),
        budget.per_day.map(crate::domain::money::Amount::cents),
        Some(i64::from(budget.max_in_flight)),
    ]
}

fn said(what: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> LedgerError + use<> {
    let path = path.to_owned();
    move |source| LedgerError::Database { what, path: path.clone(), source }
}
