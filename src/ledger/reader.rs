//! A ledger, to be read: beside a running bot or without one.
//!
//! Reading changes nothing and takes no lock. What the intent file holds beyond the database is
//! read as well, so that after a crash nothing is hidden before the next start.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Row;

use super::{
    database::{Database, PreviousRun, beside},
    error::LedgerError,
    event::{BootId, OrderState, Sequence},
    intent::Intent,
    mark::copy_path,
    open::{DATABASE, INTENT_FILE, boot_id},
    rows::integer,
    state::LedgerState,
    timeline::Timeline,
    write_ahead_log::{Recovered, WriteAheadLog},
};
use crate::{clock, config::Budget, domain::money::Amount, domain::time::UnixMs};

/// A ledger as its files have it.
#[derive(Debug)]
pub struct LedgerReader {
    database: Database,
    book: LedgerState,
    left: PreviousRun,
    /// The entry of each slot, in words.
    labels: HashMap<u32, String>,
}

/// What the database says about an intent beyond what the book knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderDetails {
    /// When its request began to leave.
    pub sent_at: Option<UnixMs>,
    /// When its answer came.
    pub answered_at: Option<UnixMs>,
    /// When it was found out what became of it.
    pub settled_at: Option<UnixMs>,
    /// The answer in words.
    pub answer: Option<String>,
    /// The marketplace's own words.
    pub words: Option<String>,
}

/// A correction that a person made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// When.
    pub at: UnixMs,
    /// Who.
    pub who: String,
    /// About which intent, if about one.
    pub intent: Option<Sequence>,
    /// What they said.
    pub verdict: String,
}

impl LedgerReader {
    /// Reads the ledger in this folder.
    ///
    /// # Errors
    ///
    /// A [`LedgerError`]; [`LedgerError::Missing`] where there is none yet.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(DATABASE);
        if !path.exists() {
            return Err(LedgerError::Missing { folder: folder.to_owned() });
        }
        Self::read(&path, &folder.join(INTENT_FILE))
    }

    /// Where the copy is that a bot saved when this directory was lost, if there is one and no
    /// ledger in the directory.
    pub fn copy_of(folder: &Path, state: Option<&Path>) -> Option<PathBuf> {
        let copy = state.map(|state| copy_path(state, folder));
        copy.filter(|copy| copy.exists() && !folder.join(DATABASE).exists())
    }

    /// Reads the ledger in this folder, or the copy that a bot saved when the folder was lost.
    ///
    /// # Errors
    ///
    /// As for [`LedgerReader::open`].
    pub fn open_or_copy(folder: &Path, state: Option<&Path>) -> Result<Self, LedgerError> {
        match Self::copy_of(folder, state) {
            // Everything is in the copy: it has no intents file of its own.
            Some(copy) => Self::read(&copy, &beside(&copy, ".intents")),
            None => Self::open(folder),
        }
    }

    fn read(path: &Path, intents: &Path) -> Result<Self, LedgerError> {
        let database = Database::open_to_read(path)?;
        // The database first: what it has not yet is then still in the intent file.
        let mut book = LedgerState::new(database.last_limits()?.unwrap_or_else(no_budget), true);
        let boot = BootId::new(boot_id().as_deref());
        let mut timeline = Timeline::new(boot, clock::uptime_ms(), clock::now());
        let left = database.replay_at_once(&mut book, &mut timeline)?;
        let path = intents.to_owned();
        let survivors = match File::open(&path) {
            Ok(file) => WriteAheadLog::over(Arc::new(file)).survivors(left.applied),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Recovered { records: Vec::new(), hole: None })
            }
            Err(error) => Err(error),
        };
        let what = "read";
        let survivors =
            survivors.map_err(|source| LedgerError::File { what, path: path.clone(), source })?;
        if let Some(hole) = survivors.hole {
            // Power loss leaves holes, and the next start deals with them.
            tracing::warn!("record {hole} of {path:?} is missing");
        }
        for record in &survivors.records {
            let (at, event) = timeline.place(record);
            if book.apply(at, &event).is_err() && survivors.hole.is_none() {
                let what = format!("record {} does not fit", record.position);
                return Err(LedgerError::Damaged { path, what });
            }
        }
        let labels = book.entries.iter();
        let labels = labels.map(|(key, slot, _used)| (slot.0, key.label().to_owned())).collect();
        Ok(Self { database, book, left, labels })
    }

    /// The book.
    pub const fn book(&self) -> &LedgerState {
        &self.book
    }

    /// The book, to be asked how things stand at some moment.
    pub const fn book_mut(&mut self) -> &mut LedgerState {
        &mut self.book
    }

    /// The marketplace and the account that the ledger belongs to.
    pub fn owner(&self) -> (Option<&str>, Option<&str>) {
        (self.left.host.as_deref(), self.left.user.as_deref())
    }

    /// What to call the entry that an intent was for.
    pub fn label(&self, intent: &Intent) -> &str {
        self.labels.get(&intent.entry.0).map_or("?", String::as_str)
    }

    /// What the database knows about an intent.
    ///
    /// # Errors
    ///
    /// A [`LedgerError`] when it cannot be read.
    pub fn details(&self, sequence: Sequence) -> Result<OrderDetails, LedgerError> {
        let sql = "SELECT sent_at, answered_at, settled_at, answer, words FROM intents \
                   WHERE number = ?1";
        let read = self.database.connection().prepare_cached(sql).and_then(|mut statement| {
            let mut rows = statement.query([integer(sequence)])?;
            rows.next()?.map_or_else(|| Ok(OrderDetails::default()), details)
        });
        read.map_err(|source| self.database.unreadable(source))
    }

    /// Every correction that a person made, the first first.
    ///
    /// # Errors
    ///
    /// A [`LedgerError`] when they cannot be read.
    pub fn corrections(&self) -> Result<Vec<Correction>, LedgerError> {
        let sql = "SELECT at, who, intent, verdict FROM corrections ORDER BY event";
        let read = self.database.connection().prepare(sql).and_then(|mut statement| {
            let rows = statement.query_map([], |row| {
                let intent: Option<i64> = row.get(2)?;
                Ok(Correction {
                    at: UnixMs(row.get(0)?),
                    who: row.get(1)?,
                    intent: intent.and_then(|number| u64::try_from(number).ok()).map(Sequence),
                    verdict: row.get(3)?,
                })
            })?;
            rows.collect()
        });
        read.map_err(|source| self.database.unreadable(source))
    }

    /// Looks everything over: the database file, every event, every sum, every row.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<(), LedgerError> {
        self.database.check()?;
        self.book.check().map_err(|source| self.database.contradiction(source))?;
        let sql = "SELECT number, listing, state, price, approved FROM intents ORDER BY number";
        let rows = self.database.connection().prepare(sql).and_then(|mut statement| {
            let rows = statement.query_map([], row_of_intent)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let rows = rows.map_err(|source| self.database.unreadable(source))?;
        let is_fresh = self.is_wholly_applied()?;
        for row in &rows {
            let intent =
                u64::try_from(row.0).ok().and_then(|number| self.book.at(Sequence(number)));
            let expected = intent.map(|intent| {
                let (listing, state) = (intent.id.to_string(), intent.state.to_string());
                (row.0, listing, state, intent.price.cents(), intent.approved.cents())
            });
            // While events wait in the intent file, a row may lag behind the book.
            let agrees = expected.is_some_and(|expected| {
                expected == *row || (!is_fresh && expected.1 == row.1 && expected.4 == row.4)
            });
            if !agrees {
                let what = format!("intent {} is not what its events say", row.0);
                return Err(self.database.damaged(what));
            }
        }
        if is_fresh && rows.len() != self.book.intents().len() {
            return Err(self.database.damaged("an intent has no row".to_owned()));
        }
        Ok(())
    }

    /// Whether the intent file held nothing that the database did not have.
    fn is_wholly_applied(&self) -> Result<bool, LedgerError> {
        let mut book = LedgerState::new(no_budget(), true);
        let boot = BootId::default();
        self.database.replay(&mut book, &mut Timeline::new(boot, None, UnixMs(0)))?;
        let standing = |book: &LedgerState| -> Vec<(OrderState, Amount)> {
            book.intents().iter().map(|intent| (intent.state, intent.price)).collect()
        };
        Ok(standing(&book) == standing(&self.book))
    }
}

type IntentRow = (i64, String, String, i64, i64);

fn row_of_intent(row: &Row<'_>) -> rusqlite::Result<IntentRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn details(row: &Row<'_>) -> rusqlite::Result<OrderDetails> {
    Ok(OrderDetails {
        sent_at: row.get::<_, Option<i64>>(0)?.map(UnixMs),
        answered_at: row.get::<_, Option<i64>>(1)?.map(UnixMs),
        settled_at: row.get::<_, Option<i64>>(2)?.map(UnixMs),
        answer: row.get(3)?,
        words: row.get(4)?,
    })
}

const fn no_budget() -> Budget {
    Budget {
        max_price: Amount::ZERO,
        total: Amount::ZERO,
        min_balance: Amount::ZERO,
        max_buys_per_minute: 0,
        per_hour: None,
        per_day: None,
        max_in_flight: 0,
    }
}
