//! The steps of an intent through its states, and what each does to the sums and to buying.
//!
//! Pure. The states: reserved → sent → bought | refused | unknown, or not sent; bought →
//! completed; bought or completed → returning → returned; unknown → any of those, by proof.
//! Whatever halts or pauses buying follows from the event itself, so that a replay comes to the
//! same halt even if the program died in between.
//!
//! An order stops counting only in [`LedgerState::release`], which asks
//! [`Release::of`](super::event::Release::of).
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeSet;

use super::{
    account::{Cost, Reservation},
    event::{EntrySlot, Evidence, HaltReason, OrderState, RecordedAnswer, Release, Sequence},
    intent::{Halt, Intent, InvalidTransition},
    state::{
        HALTS_MAX, LedgerState, PAUSE, PAUSE_MAX, REFUSALS_IN_A_ROW_MAX, UNKNOWNS_IN_A_ROW_MAX,
    },
};
use crate::{
    domain::money::Amount,
    domain::outcome::{Consequence, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::TradeId,
};

/// A price beyond this many times what was approved, or below that part of it, is absurd.
const ABSURD_FACTOR: i64 = 10;

/// A price that the marketplace names for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paid {
    /// None.
    Untold,
    /// In the answer to the order.
    Answer(Amount),
    /// In the account's own list.
    List(Amount),
}

impl LedgerState {
    /// Notes that the request of an order has begun to leave.
    pub(super) fn sent(&mut self, sequence: Sequence, at: UnixMs) -> Result<(), InvalidTransition> {
        self.advance(sequence, OrderState::Sent, Paid::Untold, at)
    }

    /// Moves an order to a state in which it counts.
    fn advance(
        &mut self,
        sequence: Sequence,
        to: OrderState,
        paid: Paid,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let before = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        if !to.counts() {
            return Err(InvalidTransition::NoSuchStep { sequence, from: before.state, to });
        }
        let after = Intent { state: to, changed_at: at, ..priced(before, paid) };
        self.replace(before, after, at)
    }

    /// Stops counting an order. Nothing else does.
    fn release(
        &mut self,
        sequence: Sequence,
        why: Release,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let before = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let from = before.state;
        let to = why.of(from).ok_or(InvalidTransition::NotReleased { sequence, from })?;
        self.replace(before, Intent { state: to, changed_at: at, ..before }, at)
    }

    /// Puts an intent in the place of its former self, and moves every sum with it.
    fn replace(
        &mut self,
        before: Intent,
        after: Intent,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let sequence = before.sequence;
        *self.at_mut(sequence)? = after;
        let in_budget = self.budget_from <= sequence;
        if before.state.counts() {
            self.entries.used_mut(before.entry).take_off(before.price);
            if in_budget {
                self.spent = self.spent.saturating_sub(before.price);
            }
        }
        if after.state.counts() {
            self.entries.used_mut(after.entry).add(after.price);
            if in_budget {
                self.spent = self.spent.saturating_add(after.price);
            }
            self.hour.restore(sequence, after.price);
            self.day.restore(sequence, after.price);
        } else {
            self.hour.free(sequence);
            self.day.free(sequence);
        }
        if after.state == OrderState::NotSent {
            self.minute.free(sequence);
        }
        self.account_for(before, after, at);
        if before.state.is_in_flight() && !after.state.is_in_flight() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        put(&mut self.open, sequence, after.state.is_open());
        put(&mut self.repriced, sequence, after.lower_price().is_some());
        Ok(())
    }

    /// Tells the account what a step means for the balance.
    fn account_for(&mut self, before: Intent, after: Intent, at: UnixMs) {
        let is_unsettled = |state: OrderState| state.is_in_flight() || state == OrderState::Unknown;
        let cost = |intent: Intent| Cost { counted: intent.price, charged: intent.charged };
        let Intent { sequence, reserved_at, .. } = after;
        if !before.state.is_charged() && after.state.is_charged() {
            let price = is_unsettled(before.state).then_some(before.price);
            // What turns up without a loss was bought before the ledger's first reading.
            let is_found = after.entry == EntrySlot::ANY && self.loss.count == 0;
            let reserved_at = if is_found { UnixMs(i64::MIN) } else { reserved_at };
            let reserved = Reservation { at: reserved_at, price };
            self.account.charge(sequence, cost(after), reserved, at);
        } else if before.state.is_charged() && after.state == OrderState::Returned {
            self.account.claim(before.price, reserved_at);
        } else if before.state.is_charged() {
            self.account.reprice(sequence, cost(before), cost(after));
        } else if is_unsettled(before.state) && !after.state.counts() {
            self.account.cancel(before.price);
        } else if is_unsettled(before.state) && before.price != after.price {
            self.account.cancel(before.price);
            self.account.reserve(after.price);
        }
    }

    pub(super) fn answered(
        &mut self,
        sequence: Sequence,
        answer: RecordedAnswer,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let intent = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let from = intent.state;
        let refused = |to| InvalidTransition::NoSuchStep { sequence, from, to };
        match answer {
            RecordedAnswer::Bought(paid) => {
                // An answer may come late; to an order that counts as not bought it is proof
                // against that.
                let is_news = from.is_in_flight() || from == OrderState::Unknown || !from.counts();
                if !is_news {
                    return Err(refused(OrderState::Bought));
                }
                let paid = paid.map_or(Paid::Untold, Paid::Answer);
                self.advance(sequence, OrderState::Bought, paid, at)?;
                self.all_is_well();
                if !from.counts() {
                    self.halt(HaltReason::Contradiction { id: intent.id }, at);
                }
                self.judge_price(intent, paid, at);
            }
            RecordedAnswer::Refused(refusal) => {
                self.release(sequence, Release::Rejected, at)?;
                self.refused(refusal, at);
            }
            RecordedAnswer::NotSent(_) => self.release(sequence, Release::NotSent, at)?,
            // What it asks of the bot lowers no exposure, so it does not wait for a confirmation.
            // It says nothing about the connection, so it neither counts as unknown in a row nor
            // ends such a row.
            RecordedAnswer::Unknown(Unknown::Unconfirmed(refusal)) => {
                self.become_unknown(intent, at)?;
                self.heed(refusal, at);
            }
            RecordedAnswer::Unknown(_) => {
                self.become_unknown(intent, at)?;
                self.unknowns_in_a_row = self.unknowns_in_a_row.saturating_add(1);
                if self.unknowns_in_a_row >= UNKNOWNS_IN_A_ROW_MAX {
                    self.halt(HaltReason::Unknowns { count: self.unknowns_in_a_row }, at);
                }
            }
        }
        Ok(())
    }

    /// The outcome of an order is not known. One whose rejection was not confirmed is unknown
    /// already, and its last answer may be that it stays so.
    fn become_unknown(&mut self, intent: Intent, at: UnixMs) -> Result<(), InvalidTransition> {
        let Intent { sequence, state: from, .. } = intent;
        match from {
            OrderState::Reserved | OrderState::Sent => {
                self.advance(sequence, OrderState::Unknown, Paid::Untold, at)
            }
            OrderState::Unknown => Ok(()),
            _ => Err(InvalidTransition::NoSuchStep { sequence, from, to: OrderState::Unknown }),
        }
    }

    fn refused(&mut self, refusal: RejectReason, at: UnixMs) {
        if refusal.consequence() == Consequence::None {
            self.all_is_well();
        }
        self.heed(refusal, at);
    }

    /// Halts or pauses as a refusal asks for.
    fn heed(&mut self, refusal: RejectReason, at: UnixMs) {
        match refusal.consequence() {
            Consequence::None => {}
            Consequence::Halt => self.halt(HaltReason::Refused(refusal), at),
            Consequence::Pause(wait) => {
                // Several in flight are refused together; that is one refusal, not several.
                if self.paused_until <= at {
                    self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
                }
                let until = at.plus(wait.unwrap_or(PAUSE).min(PAUSE_MAX));
                self.paused_until = self.paused_until.max(until);
                if self.refusals_in_a_row >= REFUSALS_IN_A_ROW_MAX {
                    self.halt(HaltReason::Refusals { count: self.refusals_in_a_row }, at);
                }
            }
        }
    }

    const fn all_is_well(&mut self) {
        self.unknowns_in_a_row = 0;
        self.refusals_in_a_row = 0;
    }

    /// Halts on a price that is above the one approved, or cannot be true.
    fn judge_price(&mut self, intent: Intent, paid: Paid, at: UnixMs) {
        let (Paid::Answer(paid) | Paid::List(paid)) = paid else { return };
        let Intent { id, approved, .. } = intent;
        if is_absurd(paid, approved) {
            self.halt(HaltReason::AbsurdPrice { id, approved, paid }, at);
        } else if approved < paid {
            self.halt(HaltReason::Price { id, approved, paid }, at);
        }
    }

    pub(super) fn proved(
        &mut self,
        sequence: Sequence,
        proof: Evidence,
        paid: Option<Amount>,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let intent = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let (from, to) = (intent.state, proof.state());
        match proof {
            Evidence::NotBought => return self.release(sequence, Release::NotBought, at),
            Evidence::Returned => return self.release(sequence, Release::Returned, at),
            Evidence::ReturnedByStatus => {
                // Version 0.1.0 freed the coins on the status alone, and has bought with them.
                if from != OrderState::Returning {
                    self.advance(sequence, OrderState::Returning, Paid::Untold, at)?;
                }
                return self.release(sequence, Release::Returned, at);
            }
            Evidence::Bought | Evidence::Completed | Evidence::Returning => {}
        }
        if from.is_in_flight() {
            return Err(InvalidTransition::NoSuchStep { sequence, from, to });
        }
        let paid = paid.map_or(Paid::Untold, Paid::List);
        // That an unknown order was cancelled says first that it was bought.
        if from == OrderState::Unknown && to == OrderState::Returning {
            self.advance(sequence, OrderState::Bought, Paid::Untold, at)?;
        }
        self.advance(sequence, to, paid, at)?;
        // The marketplace contradicts what it said, or what was inferred.
        if !from.counts() {
            self.halt(HaltReason::Contradiction { id: intent.id }, at);
        }
        if intent.listed != self.at(sequence).and_then(|intent| intent.listed) {
            self.judge_price(intent, paid, at);
        }
        Ok(())
    }

    /// A balance has confirmed what the account's own list says that an order cost.
    pub(super) fn confirm_price(
        &mut self,
        sequence: Sequence,
        price: Amount,
    ) -> Result<(), InvalidTransition> {
        let before = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let after = Intent { price, charged: price.min(before.charged), ..before };
        self.replace(before, after, before.changed_at)
    }

    pub(super) fn adopted(
        &mut self,
        sequence: Sequence,
        id: TradeId,
        price: Amount,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let (entry, state, limits) = (EntrySlot::ANY, OrderState::Reserved, self.limits);
        self.add(Intent {
            sequence,
            id,
            approved: price,
            price,
            charged: price,
            listed: None,
            entry,
            limits,
            state,
            reserved_at: at,
            changed_at: at,
        })?;
        self.advance(sequence, OrderState::Bought, Paid::Untold, at)?;
        self.loss.coins = self.loss.coins.saturating_sub(price).max(Amount::ZERO);
        self.loss.count = self.loss.count.saturating_sub(1);
        self.account.set_lost(self.loss.coins);
        Ok(())
    }

    pub(super) fn started(&mut self, at: UnixMs) -> Result<(), InvalidTransition> {
        for sequence in self.in_flight_sequences() {
            self.advance(sequence, OrderState::Unknown, Paid::Untold, at)?;
        }
        // What lies after this start happened under a clock that stood ahead.
        for sequence in self.open.clone() {
            let intent = self.at_mut(sequence)?;
            intent.changed_at = intent.changed_at.min(at);
        }
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.clamp(at);
        }
        self.account.clamp(at);
        self.loss.since = self.loss.since.min(at);
        self.paused_until = self.paused_until.min(at.plus(PAUSE_MAX));
        self.reconciled = !self.balance_required;
        Ok(())
    }

    /// Everything that waits for an answer. Looks at every intent, unless there is nothing.
    pub(super) fn in_flight_sequences(&self) -> Vec<Sequence> {
        if self.in_flight == 0 {
            return Vec::new();
        }
        let in_flight = self.intents.iter().filter(|intent| intent.state.is_in_flight());
        in_flight.map(|intent| intent.sequence).collect()
    }

    pub(super) fn halt(&mut self, reason: HaltReason, at: UnixMs) {
        let is_same = |halt: &&mut Halt| halt.reason.has_cause_of(&reason);
        if let Some(halt) = self.halts.iter_mut().find(is_same) {
            halt.reason = reason;
            halt.count = halt.count.saturating_add(1);
        } else if self.halts.len() < HALTS_MAX {
            self.halts.push(Halt { at, reason, count: 1 });
        }
    }

    pub(super) fn resumed(&mut self) {
        for halt in self.halts.drain(..) {
            if let HaltReason::Unintended { id } = halt.reason {
                self.accepted.insert(id);
            }
        }
        self.unknowns_in_a_row = 0;
        self.refusals_in_a_row = 0;
        self.paused_until = UnixMs(i64::MIN);
    }
}

/// Sees to it that a set has this member, or has it not.
fn put(set: &mut BTreeSet<Sequence>, sequence: Sequence, is_member: bool) {
    if is_member {
        set.insert(sequence);
    } else {
        set.remove(&sequence);
    }
}

/// What an order costs by a price that was named. A higher price counts at once, a lower one not
/// before a balance has confirmed what the account's own list says.
fn priced(intent: Intent, paid: Paid) -> Intent {
    match paid {
        Paid::Answer(paid) if Amount::ZERO < paid => {
            Intent { price: intent.price.max(paid), charged: intent.charged.min(paid), ..intent }
        }
        // A price that cannot be true says nothing about what was charged.
        Paid::Answer(_) => Intent { charged: Amount::ZERO, ..intent },
        Paid::List(paid) => {
            let intent = Intent { listed: Some(paid), ..intent };
            if paid <= Amount::ZERO {
                return intent;
            }
            Intent { price: intent.price.max(paid), charged: paid, ..intent }
        }
        Paid::Untold => intent,
    }
}

fn is_absurd(paid: Amount, approved: Amount) -> bool {
    let times = |coins: Amount| Amount::from_cents(coins.cents().saturating_mul(ABSURD_FACTOR));
    paid <= Amount::ZERO || times(approved) < paid || times(paid) < approved
}
