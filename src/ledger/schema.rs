//! Database tables, as migrations, and conversion of events into their rows.

use rusqlite::{Connection, Transaction, params};

use super::{
    event::{Evidence, EvidenceSource, LedgerEvent, RecordedAnswer, Sequence},
    intent::{Halt, Intent, InvalidTransition},
    record::Record,
    state::LedgerState,
};
use crate::domain::{own_order_id::OwnOrderId, time::UnixMs};

/// Migrations, which are applied once, in this order, and must never be changed. A database's
/// `user_version` is the number of migrations applied to it.
pub(super) const MIGRATIONS: [&str; 6] = [
    // 1: initial schema.
    "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT;
CREATE TABLE entries (
    slot INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE limits (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    max_price INTEGER NOT NULL,
    total INTEGER NOT NULL,
    min_balance INTEGER NOT NULL,
    max_buys_per_minute INTEGER NOT NULL,
    per_hour INTEGER,
    per_day INTEGER,
    max_in_flight INTEGER NOT NULL
) STRICT;
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    intent INTEGER,
    record BLOB NOT NULL
) STRICT;
CREATE TABLE intents (
    number INTEGER PRIMARY KEY,
    listing TEXT NOT NULL,
    entry INTEGER NOT NULL,
    limits INTEGER NOT NULL,
    approved INTEGER NOT NULL,
    price INTEGER NOT NULL,
    state TEXT NOT NULL,
    reserved_at INTEGER NOT NULL,
    sent_at INTEGER,
    answered_at INTEGER,
    settled_at INTEGER,
    answer TEXT,
    words TEXT
) STRICT;
CREATE UNIQUE INDEX one_request_for_a_listing ON intents (listing) WHERE state <> 'not_sent';
CREATE TABLE corrections (
    event INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    intent INTEGER,
    verdict TEXT NOT NULL
) STRICT;
CREATE TABLE halts (
    event INTEGER NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    ended_at INTEGER,
    ended_by TEXT
) STRICT;
",
    // 2: amounts in thousandths instead of hundredths. The records in `events` state their own
    // layout and stay. `key_price` is the price that belongs to the key of the listing, or 0 if
    // the id alone is the key.
    "
UPDATE limits SET
    max_price = max_price * 10,
    total = total * 10,
    min_balance = min_balance * 10,
    per_hour = per_hour * 10,
    per_day = per_day * 10;
UPDATE intents SET approved = approved * 10, price = price * 10;
UPDATE meta SET value = value * 10 WHERE key = 'ceiling_coins';
ALTER TABLE intents ADD COLUMN key_price INTEGER NOT NULL DEFAULT 0;
DROP INDEX one_request_for_a_listing;
CREATE UNIQUE INDEX one_request_for_a_key ON intents (listing, key_price)
    WHERE state <> 'not_sent';
",
    // 3: the items of orders. Informational, and not derived from `events`. `reference_price` is in
    // millionths of the currency, `coin` in ten-thousandths of it, percentages in hundredths.
    "
CREATE TABLE items (
    number INTEGER PRIMARY KEY,
    item TEXT NOT NULL,
    wear TEXT,
    float TEXT,
    entry TEXT NOT NULL,
    reference TEXT,
    reference_price INTEGER,
    currency TEXT,
    coin INTEGER,
    percent INTEGER,
    margin INTEGER
) STRICT;
",
    // 4: the group that each whitelist entry is in, or was last in.
    "
ALTER TABLE entries ADD COLUMN group_name TEXT;
",
    // 5: the own id of each order, which contains the random bits of its start. Earlier versions
    // derived it from the ledger and the listing.
    "
ALTER TABLE intents ADD COLUMN own_id TEXT;
",
    // 6: finds the starts without a scan of all events.
    "
CREATE INDEX starts ON events (number) WHERE kind = 'started';
",
];

/// Format that this version writes.
pub(super) const VERSION: u32 = 6;
/// First format with amounts in thousandths.
pub(super) const THOUSANDTHS_SINCE: u32 = 2;
/// First format with the column `key_price`.
pub(super) const KEY_PRICE_SINCE: u32 = 2;
/// First format with the table `items`.
pub(super) const ITEMS_SINCE: u32 = 3;
/// First format with the groups of entries.
pub(super) const GROUPS_SINCE: u32 = 4;
/// First format with the own ids of orders.
pub(super) const OWN_IDS_SINCE: u32 = 5;

/// Event with the rows that it changes.
#[derive(Clone, Debug)]
pub(super) struct StagedRows {
    record: Record,
    /// Changed intents, after the event.
    intents: Vec<Intent>,
    /// Halts that the event added.
    halts: Vec<Halt>,
}

impl StagedRows {
    /// Applies a record to the ledger state and collects the changes.
    pub(super) fn new(state: &mut LedgerState, record: Record) -> Result<Self, InvalidTransition> {
        Self::converted(state, record, (record.at, record.event))
    }

    /// Applies a record of an earlier run. `converted` is its time and event by the clock of this
    /// run.
    pub(super) fn converted(
        state: &mut LedgerState,
        record: Record,
        converted: (UnixMs, LedgerEvent),
    ) -> Result<Self, InvalidTransition> {
        let earlier = state.halts.clone();
        let interrupted: Vec<Sequence> = match record.event {
            LedgerEvent::Started { .. } => state.in_flight_sequences(),
            _ => Vec::new(),
        };
        let (at, event) = converted;
        state.apply(at, &event)?;
        let changed = record.event.sequence().into_iter().chain(interrupted);
        let intents = changed.filter_map(|sequence| state.at(sequence).copied()).collect();
        let mut halts = state.halts.clone();
        halts.retain(|halt| !earlier.iter().any(|it| it.reason.has_same_cause(&halt.reason)));
        Ok(Self { record, intents, halts })
    }

    /// Inserts the event and updates the rows that it changed.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Record { at, event, .. } = self.record;
        let number: i64 = transaction
            .prepare_cached(
                "INSERT INTO events (at, kind, intent, record) VALUES (?1, ?2, ?3, ?4)",
            )?
            .insert(params![
                at.0,
                kind(&event),
                event.sequence().map(integer),
                self.record.encode()
            ])?;
        for intent in &self.intents {
            write_intent(transaction, intent, &event, at)?;
        }
        for halt in &self.halts {
            transaction
                .prepare_cached("INSERT INTO halts (event, at, reason) VALUES (?1, ?2, ?3)")?
                .execute(params![number, halt.at.0, halt.reason.to_string()])?;
        }
        if let LedgerEvent::Resumed { by } = event {
            transaction
                .prepare_cached(
                    "UPDATE halts SET ended_at = ?1, ended_by = ?2 WHERE ended_at IS NULL",
                )?
                .execute(params![at.0, by.as_str()])?;
        }
        write_correction(transaction, number, at, &event)
    }
}

fn write_intent(
    transaction: &Connection,
    intent: &Intent,
    event: &LedgerEvent,
    at: UnixMs,
) -> rusqlite::Result<()> {
    let number = integer(intent.sequence);
    let (state, price) = (intent.state.as_str(), intent.price.thousandths());
    let update = |sql: &str| transaction.prepare_cached(sql);
    match event {
        LedgerEvent::Reserved { .. } | LedgerEvent::Adopted { .. } => update(
            "INSERT INTO intents (number, listing, entry, limits, approved, price, state, \
             reserved_at, key_price, own_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            number,
            intent.id.as_str(),
            intent.entry.0,
            intent.limits,
            intent.approved.thousandths(),
            price,
            state,
            at.0,
            intent.key().price.unwrap_or_default().thousandths(),
            intent.own_id.as_ref().map(OwnOrderId::as_str)
        ])?,
        LedgerEvent::Sent { .. } => {
            update("UPDATE intents SET state = ?2, price = ?3, sent_at = ?4 WHERE number = ?1")?
                .execute(params![number, state, price, at.0])?
        }
        LedgerEvent::Answered { answer, .. } => update(
            "UPDATE intents SET state = ?2, price = ?3, answered_at = ?4, answer = ?5 \
             WHERE number = ?1",
        )?
        .execute(params![number, state, price, at.0, describe(answer)])?,
        _ => {
            update("UPDATE intents SET state = ?2, price = ?3, settled_at = ?4 WHERE number = ?1")?
                .execute(params![number, state, price, at.0])?
        }
    };
    Ok(())
}

fn write_correction(
    transaction: &Connection,
    number: i64,
    at: UnixMs,
    event: &LedgerEvent,
) -> rusqlite::Result<()> {
    let (operator, verdict) = match event {
        LedgerEvent::Proved { by: EvidenceSource::Operator(operator), evidence, .. } => {
            let verdict = match evidence {
                Evidence::NotBought => "not bought",
                Evidence::Returned => "returned",
                _ => "bought",
            };
            (operator, verdict)
        }
        LedgerEvent::LossCleared { by: EvidenceSource::Operator(operator) } => {
            (operator, "loss settled")
        }
        LedgerEvent::NewBudget { by } => (by, "new budget"),
        LedgerEvent::Resumed { by } => (by, "resumed"),
        _ => return Ok(()),
    };
    transaction
        .prepare_cached(
            "INSERT INTO corrections (event, at, who, intent, verdict) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            number,
            at.0,
            operator.as_str(),
            event.sequence().map(integer),
            verdict
        ])?;
    Ok(())
}

/// Converts a sequence number to the integer type of SQLite.
pub(super) fn integer(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}

/// Describes the response for display.
fn describe(answer: &RecordedAnswer) -> String {
    match answer {
        RecordedAnswer::Bought(Some(price)) => format!("bought for {price}"),
        RecordedAnswer::Bought(None) => "bought".to_owned(),
        RecordedAnswer::Rejected(reason) => reason.to_string(),
        RecordedAnswer::NotSent(cause) => cause.to_string(),
        RecordedAnswer::Unknown(cause) => cause.to_string(),
    }
}

const fn kind(event: &LedgerEvent) -> &'static str {
    match event {
        LedgerEvent::Reserved { .. } => "reserved",
        LedgerEvent::Sent { .. } => "sent",
        LedgerEvent::Answered { .. } => "answered",
        LedgerEvent::Proved { .. } => "proved",
        LedgerEvent::Adopted { .. } => "adopted",
        LedgerEvent::Accepted { .. } => "accepted",
        LedgerEvent::Baselined => "baselined",
        LedgerEvent::Halted(_) => "halted",
        LedgerEvent::Resumed { .. } => "resumed",
        LedgerEvent::Paused { .. } => "paused",
        LedgerEvent::NewBudget { .. } => "new_budget",
        LedgerEvent::Balance { .. } => "balance",
        LedgerEvent::Started { .. } => "started",
        LedgerEvent::PriceConfirmed { .. } => "price_confirmed",
        LedgerEvent::Lost { .. } => "lost",
        LedgerEvent::LossCleared { .. } => "loss_settled",
        LedgerEvent::Joined { .. } => "joined",
        LedgerEvent::AccountShared { .. } => "account_shared",
    }
}
