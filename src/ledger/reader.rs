//! Read access to a ledger, with or without a running bot.
//!
//! Reading changes nothing and takes no lock. Events that are only in the intent file are included,
//! so that the result is complete after a crash.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Row;

use super::{
    database::{Database, IntentRow, PreviousRun, with_suffix},
    error::LedgerError,
    event::{BootId, LedgerEvent, Sequence},
    intent::Intent,
    item::OrderedItem,
    mark::copy_path,
    open::{DATABASE, INTENT_FILE, boot_id},
    record::{Record, Timeline},
    schema::integer,
    state::LedgerState,
    status::LastRun,
    write_ahead_log::{Recovered, WriteAheadLog},
};
use crate::{clock, config::Budget, domain::money::Amount, domain::time::UnixMs};

/// Ledger as read from its files.
#[derive(Debug)]
pub struct LedgerReader {
    database: Database,
    state: LedgerState,
    previous: PreviousRun,
    /// `false` if the intent file contains a change of an intent that the database lacks.
    is_up_to_date: bool,
}

/// Columns of an intent's row that the ledger state does not contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderDetails {
    /// Time at which the transmission of the request began.
    pub sent_at: Option<UnixMs>,
    pub answered_at: Option<UnixMs>,
    /// Time of the last change that did not come from the response: evidence of another source, or
    /// a start that found the order in flight.
    pub settled_at: Option<UnixMs>,
    pub answer: Option<String>,
    /// Response body of the market.
    pub response: Option<String>,
}

/// Manual correction by an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    pub at: UnixMs,
    pub operator: String,
    /// Intent that the correction refers to, if any.
    pub intent: Option<Sequence>,
    /// Result that the operator recorded.
    pub verdict: String,
}

impl LedgerReader {
    /// Reads the ledger in this folder.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerError`]; it is [`LedgerError::Missing`] if there is no ledger yet.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(DATABASE);
        if !path.exists() {
            return Err(LedgerError::Missing { folder: folder.to_owned() });
        }
        Self::read(&path, &folder.join(INTENT_FILE))
    }

    /// Returns the path of the copy that a bot saved when this folder was lost, if the copy exists
    /// and the folder contains no ledger.
    pub fn copy_of(folder: &Path, state: Option<&Path>) -> Option<PathBuf> {
        let copy = state.map(|state| copy_path(state, folder));
        copy.filter(|copy| copy.exists() && !folder.join(DATABASE).exists())
    }

    /// Reads the ledger in this folder, or the copy that a bot saved when the folder was lost.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`LedgerReader::open`].
    pub fn open_or_copy(folder: &Path, state: Option<&Path>) -> Result<Self, LedgerError> {
        match Self::copy_of(folder, state) {
            // The copy contains everything and has no intent file.
            Some(copy) => Self::read(&copy, &with_suffix(&copy, ".intents")),
            None => Self::open(folder),
        }
    }

    fn read(path: &Path, intents: &Path) -> Result<Self, LedgerError> {
        let database = Database::open_to_read(path)?;
        // The database is read first: an event that it does not contain yet is then still in the
        // intent file.
        let none = Budget { total: Amount::ZERO, max_buys_per_minute: 0, ..Budget::default() };
        let mut state = LedgerState::new(database.last_limits()?.unwrap_or(none), true);
        let boot = BootId::new(boot_id().as_deref());
        let mut timeline = Timeline::new(boot, clock::uptime_ms(), clock::now());
        let previous = database.replay_in_snapshot(&mut state, &mut timeline)?;
        state.set_list(previous.listed_within);
        let path = intents.to_owned();
        let recovered = match File::open(&path) {
            Ok(file) => WriteAheadLog::open_to_read(Arc::new(file)).recover(previous.applied),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recovered::default()),
            Err(error) => Err(error),
        };
        let recovered = recovered.map_err(LedgerError::file("read", &path))?;
        recovered.check_layout(&path)?;
        if let Some(missing_record) = recovered.missing_record {
            // Power loss leaves gaps, which the next start resolves.
            tracing::warn!("Orders may be missing from {path:?}: no record {missing_record}");
        }
        for record in &recovered.records {
            let (at, event) = timeline.convert(record);
            if state.apply(at, &event).is_err() && recovered.missing_record.is_none() {
                let damage = format!("record {} does not apply", record.position);
                return Err(LedgerError::Damaged { path, damage });
            }
        }
        let changes_intents = |record: &Record| {
            record.event.sequence().is_some() || matches!(record.event, LedgerEvent::Started { .. })
        };
        let is_up_to_date = !recovered.records.iter().any(changes_intents);
        Ok(Self { database, state, previous, is_up_to_date })
    }

    /// Returns the ledger state.
    pub const fn state(&self) -> &LedgerState {
        &self.state
    }

    /// Returns the ledger state for queries that advance its time windows.
    pub const fn state_mut(&mut self) -> &mut LedgerState {
        &mut self.state
    }

    /// Returns how the last run ended, and when the ledger was last changed.
    pub fn last_run(&self, now: UnixMs) -> LastRun {
        let last_record = self.previous.last_event.as_ref().map(|record| record.at);
        let age = last_record.map(|at| now.since(at).as_millis());
        LastRun {
            is_clean: self.previous.clean,
            last_record: last_record.as_ref().map(UnixMs::to_string),
            last_record_ms: age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
        }
    }

    /// Returns the market and the account that the ledger belongs to.
    pub fn owner(&self) -> (Option<&str>, Option<&str>) {
        (self.previous.host.as_deref(), self.previous.user.as_ref().map(|user| &*user.id))
    }

    /// Returns the display name of the entry that matched the intent.
    pub fn label(&self, intent: &Intent) -> &str {
        self.state.label(intent)
    }

    /// Reads the additional columns of an intent.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerError`] if they cannot be read.
    pub fn details(&self, sequence: Sequence) -> Result<OrderDetails, LedgerError> {
        let sql = "SELECT sent_at, answered_at, settled_at, answer, words FROM intents \
                   WHERE number = ?1";
        let read = self.database.connection().prepare_cached(sql).and_then(|mut statement| {
            let mut rows = statement.query([integer(sequence)])?;
            rows.next()?.map_or_else(|| Ok(OrderDetails::default()), details)
        });
        read.map_err(LedgerError::database("read", self.database.path()))
    }

    /// Reads the item of an order, if it is known.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerError`] if it cannot be read.
    pub fn item(&self, sequence: Sequence) -> Result<Option<OrderedItem>, LedgerError> {
        self.database.item(sequence)
    }

    /// Reads the items of all orders, as far as they are known.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerError`] if they cannot be read.
    pub fn items(&self) -> Result<HashMap<Sequence, OrderedItem>, LedgerError> {
        self.database.items()
    }

    /// Reads every manual correction, oldest first.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerError`] if they cannot be read.
    pub fn corrections(&self) -> Result<Vec<Correction>, LedgerError> {
        let sql = "SELECT at, who, intent, verdict FROM corrections ORDER BY event";
        let read = self.database.connection().prepare(sql).and_then(|mut statement| {
            let rows = statement.query_map([], |row| {
                let intent: Option<i64> = row.get(2)?;
                Ok(Correction {
                    at: UnixMs(row.get(0)?),
                    operator: row.get(1)?,
                    intent: intent.and_then(|number| u64::try_from(number).ok()).map(Sequence),
                    verdict: row.get(3)?,
                })
            })?;
            rows.collect()
        });
        read.map_err(LedgerError::database("read", self.database.path()))
    }

    /// Verifies the database file, every event, the sums of [`LedgerState::check`] and every row of
    /// `intents`.
    ///
    /// # Errors
    ///
    /// Returns the first inconsistency.
    pub fn verify(&self) -> Result<(), LedgerError> {
        self.database.check()?;
        self.state.check().map_err(|source| self.database.contradiction(source))?;
        let rows = self.database.intent_rows()?;
        // A running bot may have written since the ledger was read.
        let is_up_to_date =
            self.is_up_to_date && self.database.previous_run()?.applied == self.previous.applied;
        for row in &rows {
            let number = u64::try_from(row.number).ok();
            let intent = number.and_then(|number| self.state.at(Sequence(number)));
            let expected = intent.map(|intent| IntentRow::of(intent, row.number));
            // While events wait in the intent file, a row may lag behind the state.
            let agrees = expected.is_some_and(|expected| {
                let is_same_order = expected.listing == row.listing
                    && expected.approved == row.approved
                    && expected.key_price == row.key_price
                    && expected.own_id == row.own_id;
                expected == *row || (!is_up_to_date && is_same_order)
            });
            if !agrees {
                let damage = format!("the row of intent {} differs from its events", row.number);
                return Err(self.database.damaged(damage));
            }
        }
        if is_up_to_date && rows.len() != self.state.intents().len() {
            return Err(self.database.damaged("an intent has no row".to_owned()));
        }
        Ok(())
    }
}

fn details(row: &Row<'_>) -> rusqlite::Result<OrderDetails> {
    Ok(OrderDetails {
        sent_at: row.get::<_, Option<i64>>(0)?.map(UnixMs),
        answered_at: row.get::<_, Option<i64>>(1)?.map(UnixMs),
        settled_at: row.get::<_, Option<i64>>(2)?.map(UnixMs),
        answer: row.get(3)?,
        response: row.get(4)?,
    })
}
