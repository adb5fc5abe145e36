//! From events to the rows that a person reads: what each event changes in the tables.

use rusqlite::{Connection, Transaction, params};

use super::{
    event::{Evidence, EvidenceSource, LedgerEvent, RecordedAnswer, Sequence},
    intent::{Halt, Intent, InvalidTransition},
    record::Record,
    state::LedgerState,
};
use crate::{domain::money::Amount, domain::time::UnixMs};

/// An event, and what it made of the book.
#[derive(Clone, Debug)]
pub(super) struct StagedRows {
    record: Record,
    /// The intents that it changed, as they are after it.
    intents: Vec<Intent>,
    /// The halts that it brought.
    halts: Vec<Halt>,
}

impl StagedRows {
    /// Applies a record to the book and keeps what changed.
    pub(super) fn new(book: &mut LedgerState, record: Record) -> Result<Self, InvalidTransition> {
        Self::placed(book, record, (record.at, record.event))
    }

    /// The same for a record of an earlier run: `placed` is when it happened, and its event, by the
    /// clock of this run.
    pub(super) fn placed(
        book: &mut LedgerState,
        record: Record,
        placed: (UnixMs, LedgerEvent),
    ) -> Result<Self, InvalidTransition> {
        let halted = match record.event {
            LedgerEvent::Resumed { .. } => 0,
            _ => book.halts.len(),
        };
        let lost: Vec<Sequence> = match record.event {
            LedgerEvent::Started { .. } => book.in_flight_sequences(),
            _ => Vec::new(),
        };
        let (at, event) = placed;
        book.apply(at, &event)?;
        let changed = sequence_of(&record.event).into_iter().chain(lost);
        let intents = changed.filter_map(|sequence| book.at(sequence).copied()).collect();
        let halts = book.halts.get(halted..).unwrap_or_default().to_vec();
        Ok(Self { record, intents, halts })
    }

    /// Writes the event and everything that it changed.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Record { at, event, .. } = self.record;
        let number: i64 = transaction
            .prepare_cached(
                "INSERT INTO events (at, kind, intent, record) VALUES (?1, ?2, ?3, ?4)",
            )?
            .insert(params![
                at.0,
                kind(&event),
                sequence_of(&event).map(integer),
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
    let (state, price) = (intent.state.as_str(), intent.price.cents());
    let update = |sql: &str| transaction.prepare_cached(sql);
    match event {
        LedgerEvent::Reserved { .. } | LedgerEvent::Adopted { .. } => update(
            "INSERT INTO intents (number, listing, entry, limits, approved, price, state, \
             reserved_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            number,
            intent.id.as_str(),
            intent.entry.0,
            intent.limits,
            intent.approved.cents(),
            price,
            state,
            at.0
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
    let (who, verdict) = match event {
        LedgerEvent::Proved {
            by: EvidenceSource::Person(who), proof: Evidence::NotBought, ..
        } => (who, "not bought"),
        LedgerEvent::Proved {
            by: EvidenceSource::Person(who), proof: Evidence::Returned, ..
        } => (who, "returned"),
        LedgerEvent::Proved { by: EvidenceSource::Person(who), .. } => (who, "bought"),
        LedgerEvent::LossSettled { by: EvidenceSource::Person(who) } => (who, "loss settled"),
        LedgerEvent::NewBudget { by } => (by, "new budget"),
        LedgerEvent::Resumed { by } => (by, "resumed"),
        _ => return Ok(()),
    };
    transaction
        .prepare_cached(
            "INSERT INTO corrections (event, at, who, intent, verdict) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![number, at.0, who.as_str(), sequence_of(event).map(integer), verdict])?;
    Ok(())
}

/// The intent that an event is about, if it is about one.
fn sequence_of(event: &LedgerEvent) -> Option<Sequence> {
    match *event {
        LedgerEvent::Reserved { sequence, .. }
        | LedgerEvent::Sent { sequence }
        | LedgerEvent::Answered { sequence, .. }
        | LedgerEvent::Proved { sequence, .. }
        | LedgerEvent::PriceConfirmed { sequence, .. }
        | LedgerEvent::Adopted { sequence, .. } => Some(sequence),
        _ => None,
    }
}

/// Numbers fit a signed integer for the next 292 million years of buying once a millisecond.
pub(super) fn integer(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}

/// The answer in words, for a person.
fn describe(answer: &RecordedAnswer) -> String {
    match answer {
        RecordedAnswer::Bought(Some(price)) => format!("bought for {price}"),
        RecordedAnswer::Bought(None) => "bought".to_owned(),
        RecordedAnswer::Refused(refusal) => refusal.to_string(),
        RecordedAnswer::NotSent(why) => why.to_string(),
        RecordedAnswer::Unknown(why) => why.to_string(),
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
        LedgerEvent::LossSettled { .. } => "loss_settled",
    }
}

/// An amount from a column.
pub(super) fn coins(cents: i64) -> Amount {
    Amount::from_cents(cents)
}
