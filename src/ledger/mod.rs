//! What was intended, what happened, and what may still be spent.
//!
//! Only an [`ApprovedOrder`] buy reaches the buyer, and only [`Ledger::reserve`] makes one. Whatever
//! was approved counts against every limit until it is proven not to have happened: **unknown
//! counts as spent**.
//!
//! The pure parts, in reading order:
//!
//! - [`event`]: what can happen, as plain values; [`rejection`]: why a buy is not approved.
//! - [`state`]: the sum of all events; deciding ([`order_request`]) takes constant time.
//! - [`account`]: what the balance should be. [`reconcile`]: what the marketplace says against
//!   what the book says.
//! - [`record`]: an event as bytes; `durable_limit`: how much may be approved before the disk knows.
//!
//! And the edge, where a ledger is kept:
//!
//! - [`write_ahead_log`]: the intent file. `journal`: what the way from frame to order touches, which is one
//!   write into the page cache. `writer`: the thread behind it; `database`: what it writes.
//! - [`open`]: recovering what the last run left. [`reader`]: reading a ledger from outside.
//! - `watch`: the thread that compares the files with their paths; [`fault`]: what it can find.
//!   `mark`: which ledger an account orders with, kept outside of its directory.
//!
//! `docs/ledger.md` has the whole argument.
//!
//! # Invariants
//!
//! 1. Reserved, spent and unknown together never exceed any limit, at any time, through the death
//!    of the process and through power loss.
//! 2. A listing is requested at most once in a ledger's life.
//! 3. A halt stays until a person has looked; while there is one, nothing is approved.
//! 4. An approval waits for no disk, no database and no lock.
//! 5. What cannot be kept is not approved.

pub mod account;
mod approved;
mod check;
pub mod cli;
pub mod control;
mod database;
mod durable_limit;
pub mod entries;
pub mod error;
pub mod event;
mod failpoint;
pub mod fault;
pub mod intent;
mod journal;
mod lock;
mod mark;
pub mod open;
pub mod order_request;
mod prealloc;
mod private;
pub mod reader;
pub mod reconcile;
pub mod record;
pub mod rejection;
mod rows;
mod schema;
pub mod snapshot;
pub mod standing;
pub mod state;
pub mod status;
mod steps;
pub mod storage;
mod timeline;
mod watch;
mod window;
pub mod write_ahead_log;
mod writer;

pub use self::{
    approved::ApprovedOrder,
    error::LedgerError,
    event::{Evidence, HaltReason, Operator, OrderState, Sequence},
    intent::{Halt, Intent, InvalidTransition, StateChange},
    open::{LedgerLocation, LiveOpen, NewLedger},
    order_request::OrderRequest,
    reconcile::{AccountReading, OwnTrade},
    rejection::RiskRejection,
    snapshot::{OrderTotals, Snapshot},
    state::LedgerState,
};

use self::{
    event::{EvidenceSource, LedgerEvent},
    journal::Journal,
};
use crate::{
    config::Budget,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeStatus},
    whitelist::WhitelistEntry,
};

/// What an event changed, beyond the intent that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a new halt is to be said loudly"]
pub struct Effects {
    /// The halts that are new.
    pub halts: Vec<Halt>,
    /// Until when buying pauses now, where that is new.
    pub paused_until: Option<UnixMs>,
    /// Orders that moved to another state other than by their own answer.
    pub changes: Vec<StateChange>,
}

/// The ledger: one book, and where it is kept.
#[derive(Debug)]
pub struct Ledger {
    book: LedgerState,
    /// Where it is kept, if it is.
    journal: Option<Journal>,
    /// Why nothing is approved at all: it should be kept and cannot be.
    closed: Option<String>,
    #[cfg(test)]
    events_for_tests: Vec<(UnixMs, LedgerEvent)>,
}

impl Ledger {
    /// A ledger that starts empty and is kept nowhere: for dry runs, and for practice.
    /// `balance_required` says whether an unknown balance forbids buying.
    pub fn in_memory(budget: Budget, entries: &[WhitelistEntry], balance_required: bool) -> Self {
        let mut book = LedgerState::new(budget, balance_required);
        book.set_entries(entries);
        Self {
            book,
            journal: None,
            closed: None,
            #[cfg(test)]
            events_for_tests: Vec::new(),
        }
    }

    /// A ledger that approves nothing, because the one that should be there cannot be opened.
    pub fn closed(budget: Budget, entries: &[WhitelistEntry], why: impl Into<String>) -> Self {
        Self { closed: Some(why.into()), ..Self::in_memory(budget, entries, true) }
    }

    fn kept(mut book: LedgerState, journal: Journal) -> Self {
        book.make_room();
        Self {
            book,
            journal: Some(journal),
            closed: None,
            #[cfg(test)]
            events_for_tests: Vec::new(),
        }
    }

    /// Says whose account the ledger is about to buy for. One that is kept belongs to the first
    /// account it was ever bound to.
    ///
    /// # Errors
    ///
    /// [`LedgerError::OtherAccount`] if it belongs to another; nothing is bought then.
    pub fn bind(&mut self, user: &str) -> Result<(), LedgerError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.bind(user)?;
        journal.want(self.book.ceiling());
        Ok(())
    }

    /// Why the ledger cannot be written, if it cannot; then nothing is bought.
    pub fn failure(&self) -> Option<String> {
        self.closed.clone().or_else(|| self.journal.as_ref().and_then(Journal::why))
    }

    /// Whether everything that happened is durable by now.
    pub fn is_durable(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_settled)
    }

    /// Whether as much is leased as the limits allow by now.
    pub fn is_leased(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_leased)
    }

    /// Keeps what the marketplace said about a buy, for a person to read. Never waits; what finds
    /// no room is not kept.
    pub fn keep_words(&self, id: &TradeId, words: &str) -> bool {
        match (&self.journal, self.book.intent(id)) {
            (Some(journal), Some(intent)) => journal.words(intent.sequence, words),
            _ => false,
        }
    }

    /// Counts a buy against every limit, before it is sent.
    ///
    /// # Errors
    ///
    /// The limit that stands against it; then nothing was counted.
    pub fn reserve(
        &mut self,
        want: OrderRequest,
        now: UnixMs,
    ) -> Result<ApprovedOrder, RiskRejection> {
        if self.closed.is_some() {
            return Err(RiskRejection::Unwritable);
        }
        let event = self.book.approve(&want, now)?;
        let LedgerEvent::Reserved { sequence, id, price, .. } = event else {
            return Err(RiskRejection::Unwritable);
        };
        if let Some(journal) = &mut self.journal {
            if let Err(denied) = journal.admit(self.book.exposure().plus(price, 1)) {
                journal.want(self.book.ceiling());
                return Err(denied);
            }
            failpoint::pass(failpoint::OrderStep::Decided);
            if let Err(error) = journal.write(now, event) {
                journal.failed(&error);
                return Err(RiskRejection::Unwritable);
            }
            failpoint::pass(failpoint::OrderStep::Recorded);
        }
        let applied = self.apply(now, event);
        let _nothing_new = applied.map_err(|_contradiction| RiskRejection::AlreadyRequested)?;
        Ok(ApprovedOrder::new(sequence, id, price))
    }

    /// Goes the way of an approval without approving anything, so that it is warm in the caches
    /// when a buy comes. For who has a core to spare.
    pub fn rehearse(&mut self, want: &OrderRequest, now: UnixMs) {
        let _unused = std::hint::black_box(self.book.approve(want, now));
        if let Some(journal) = &self.journal {
            journal.rehearse();
        }
    }

    /// Notes that the request for this listing has begun to leave.
    ///
    /// # Errors
    ///
    /// A [`InvalidTransition`] if no such buy is in flight.
    pub fn sent(&mut self, id: &TradeId, now: UnixMs) -> Result<(), InvalidTransition> {
        failpoint::pass(failpoint::OrderStep::Left);
        let sequence = self.sequence_of(id)?;
        let _nothing_new = self.record(now, LedgerEvent::Sent { sequence })?;
        failpoint::pass(failpoint::OrderStep::LeftRecorded);
        Ok(())
    }

    /// Notes what became of the buy of this listing.
    ///
    /// # Errors
    ///
    /// A [`InvalidTransition`] if no answer was being waited for.
    pub fn settle(
        &mut self,
        id: &TradeId,
        outcome: &Outcome,
        now: UnixMs,
    ) -> Result<Effects, InvalidTransition> {
        failpoint::pass(failpoint::OrderStep::Answered);
        let sequence = self.sequence_of(id)?;
        let aftermath =
            self.record(now, LedgerEvent::Answered { sequence, answer: outcome.into() });
        failpoint::pass(failpoint::OrderStep::AnsweredRecorded);
        self.book.make_room();
        aftermath
    }

    /// Notes what the feed says of a listing, and returns whether the account should be read.
    ///
    /// The feed does not say whose a trade is, and may say anything. It moves a bought order to
    /// delivered; that an order was cancelled only asks for a read, and no price is taken from it.
    pub fn observe(&mut self, id: &TradeId, status: TradeStatus, now: UnixMs) -> bool {
        let Some(intent) = self.book.intent(id).filter(|intent| intent.state.is_charged()) else {
            return false;
        };
        let (sequence, from) = (intent.sequence, intent.state);
        match Evidence::from_status(status) {
            Some(Evidence::Completed) if from == OrderState::Bought => {
                let (proof, paid, by) = (Evidence::Completed, None, EvidenceSource::Feed);
                let _nothing_new =
                    self.record_sure(now, LedgerEvent::Proved { sequence, proof, paid, by });
                false
            }
            Some(Evidence::Returning) => from != OrderState::Returning,
            _ => false,
        }
    }

    /// Compares the book with what the marketplace says of our own trades, and with the balance
    /// that was read at the same time.
    pub fn reconcile(
        &mut self,
        reading: &AccountReading<'_>,
        balance: Option<Amount>,
        now: UnixMs,
    ) -> Effects {
        let mut aftermath = Effects::default();
        if let Some(coins) = balance {
            aftermath.merge(self.set_balance(coins, reading.started, now));
        }
        aftermath.merge(self.take_in(reading, now));
        if reading.complete && self.book.frozen_at.is_some_and(|frozen| frozen < reading.started) {
            self.book.frozen_at = None;
        }
        let is_bound = self.journal.as_ref().is_none_or(Journal::is_bound);
        if reading.complete && is_bound && self.book.account.last_reading().is_some() {
            self.book.reconciled = true;
        }
        aftermath
    }

    /// Takes in a balance. `as_of` is the earliest moment at which it can have been true: when the
    /// request for it was sent.
    pub fn set_balance(&mut self, coins: Amount, as_of: UnixMs, now: UnixMs) -> Effects {
        let event = LedgerEvent::Balance { coins, as_of };
        if self.book.is_unchanged_by(coins) {
            // A balance that says the same again is not written a thousand times a day.
            return self.apply(now, event).unwrap_or_default();
        }
        let mut aftermath = self.record_sure(now, event);
        for event in self.book.confirmed_prices() {
            aftermath.merge(self.record_sure(now, event));
        }
        for event in self.book.refunded() {
            aftermath.merge(self.record_sure(now, event));
        }
        aftermath
    }

    /// Takes a balance that the feed has pushed. It lowers what is available until the account is
    /// read, and does nothing else.
    pub fn push_balance(&mut self, coins: Amount) {
        self.book.account.push(coins);
    }

    /// The wall clock was set since the account was last read: until it is read again, nothing is
    /// freed by age.
    pub fn distrust_clock(&mut self, now: UnixMs) {
        self.book.frozen_at = Some(now);
    }

    /// Pauses buying until then.
    pub fn pause(&mut self, until: UnixMs, now: UnixMs) -> Effects {
        self.record_sure(now, LedgerEvent::Paused { until })
    }

    /// Stops buying until a person has looked.
    pub fn halt(&mut self, reason: HaltReason, now: UnixMs) -> Effects {
        self.record_sure(now, LedgerEvent::Halted(reason))
    }

    /// A person has looked: buying goes on.
    pub fn resume(&mut self, by: Operator, now: UnixMs) {
        let _nothing_new = self.record_sure(now, LedgerEvent::Resumed { by });
        if let Some(journal) = &mut self.journal {
            journal.report_losses_again();
        }
    }

    /// Halts buying if the ledger's files, or a thread of the bot, were lost since the last call.
    pub fn check_losses(&mut self, now: UnixMs) -> Effects {
        let losses = self.journal.as_mut().map(Journal::take_losses).unwrap_or_default();
        let mut aftermath = Effects::default();
        for reason in losses {
            aftermath.merge(self.halt(reason, now));
        }
        aftermath
    }

    /// A person says that `total` counts from now.
    pub fn new_budget(&mut self, by: Operator, now: UnixMs) {
        let _nothing_new = self.record_sure(now, LedgerEvent::NewBudget { by });
    }

    /// An operator says what became of an order that is unknown or returning.
    ///
    /// # Errors
    ///
    /// A [`InvalidTransition`] if there is no such order, or it is not open to that answer.
    pub fn resolve(
        &mut self,
        id: &TradeId,
        proof: Evidence,
        by: Operator,
        now: UnixMs,
    ) -> Result<Effects, InvalidTransition> {
        let sequence = self.sequence_of(id)?;
        self.record(
            now,
            LedgerEvent::Proved { sequence, proof, paid: None, by: EvidenceSource::Person(by) },
        )
    }

    /// Somebody found out that what power loss may have hidden did not happen.
    pub fn settle_loss(&mut self, by: EvidenceSource, now: UnixMs) {
        let _nothing_new = self.record_sure(now, LedgerEvent::LossSettled { by });
    }

    /// Where everything stands at `now`.
    pub fn snapshot(&mut self, now: UnixMs) -> Snapshot {
        self.book.snapshot(now)
    }

    /// When the oldest buy was approved of which the end is not known yet.
    pub fn oldest_open(&self) -> Option<UnixMs> {
        let counted = self.book.count_since.filter(|_since| !self.book.baselined);
        self.book.oldest_open().into_iter().chain(counted).min()
    }

    /// The book, to be read.
    pub const fn book(&self) -> &LedgerState {
        &self.book
    }

    fn take_in(&mut self, reading: &AccountReading<'_>, now: UnixMs) -> Effects {
        let mut aftermath = Effects::default();
        for event in self.book.findings(reading) {
            aftermath.merge(self.record_sure(now, event));
        }
        aftermath
    }

    fn change_of(&self, before: &Intent) -> Option<StateChange> {
        let after = self.book.at(before.sequence)?;
        let (id, from, to, price) = (after.id, before.state, after.state, after.price);
        (from != to).then_some(StateChange { id, from, to, price })
    }

    fn sequence_of(&self, id: &TradeId) -> Result<Sequence, InvalidTransition> {
        let intent = self.book.intent(id);
        intent.map(|intent| intent.sequence).ok_or(InvalidTransition::NoSuchIntent(Sequence(0)))
    }

    /// Records an event that always fits.
    fn record_sure(&mut self, now: UnixMs, event: LedgerEvent) -> Effects {
        self.record(now, event).unwrap_or_default()
    }

    fn record(&mut self, now: UnixMs, event: LedgerEvent) -> Result<Effects, InvalidTransition> {
        let aftermath = self.apply(now, event)?;
        if let Some(journal) = &mut self.journal {
            journal.note(now, event);
            journal.want(self.book.ceiling());
        }
        Ok(aftermath)
    }

    fn apply(&mut self, now: UnixMs, event: LedgerEvent) -> Result<Effects, InvalidTransition> {
        let (halts, paused) = (self.book.halts.len(), self.book.paused_until);
        let before = match event {
            LedgerEvent::Proved { sequence, .. } => self.book.at(sequence).copied(),
            _ => None,
        };
        self.book.apply(now, &event)?;
        #[cfg(test)]
        self.events_for_tests.push((now, event));
        let halts = self.book.halts.get(halts..).unwrap_or_default().to_vec();
        let until = self.book.paused_until;
        let paused_until = Some(until).filter(|until| paused < *until);
        let changes = before.and_then(|before| self.change_of(&before)).into_iter().collect();
        Ok(Effects { halts, paused_until, changes })
    }
}

impl Effects {
    fn merge(&mut self, other: Self) {
        self.halts.extend(other.halts);
        self.paused_until = self.paused_until.max(other.paused_until);
        self.changes.extend(other.changes);
    }
}

#[cfg(test)]
mod tests;
