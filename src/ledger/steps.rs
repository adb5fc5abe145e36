//! The steps of an intent through its states, and what each does to the sums and to buying.
//!
//! Pure. The states: reserved → sent → bought | refused | unknown, or not sent; bought →
//! completed | returned; unknown → any of those, by proof. Whatever halts or pauses buying follows
//! from the event itself, so that a replay comes to the same halt even if the program died in
//! between.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{
    book::{Book, HALTS_MAX, PAUSE, PAUSE_MAX, REFUSALS_IN_A_ROW_MAX, UNKNOWNS_IN_A_ROW_MAX},
    event::{Answer, EntrySlot, HaltReason, Proof, Sequence, State},
    intent::{Contradiction, Halt, Intent},
};
use crate::{
    money::Coins,
    outcome::{Consequence, Refusal},
    time::UnixMs,
    trade::TradeId,
};

impl Book {
    /// Moves an intent to another state, and every sum with it.
    pub(super) fn step(
        &mut self,
        sequence: Sequence,
        to: State,
        paid: Option<Coins>,
        at: UnixMs,
    ) -> Result<(), Contradiction> {
        let in_budget = self.budget_from <= sequence;
        let intent = self.at_mut(sequence)?;
        let before = *intent;
        intent.state = to;
        intent.price = paid.unwrap_or(before.price);
        intent.changed_at = at;
        let after = *intent;
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
        if after.state == State::NotSent {
            self.minute.free(sequence);
        }
        self.account_for(before, after, at);
        if before.state.is_in_flight() && !after.state.is_in_flight() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        if after.state.is_open() {
            self.open.insert(sequence);
        } else {
            self.open.remove(&sequence);
        }
        Ok(())
    }

    /// Tells the account what a step means for the balance.
    fn account_for(&mut self, before: Intent, after: Intent, at: UnixMs) {
        let uncertain = |state: State| state.is_in_flight() || state == State::Unknown;
        let charged = |state: State| matches!(state, State::Bought | State::Completed);
        if uncertain(before.state) && !uncertain(after.state) {
            self.account.close(before.price);
        }
        if !charged(before.state) && charged(after.state) {
            self.account.charge(after.price, at);
        }
    }

    pub(super) fn answered(
        &mut self,
        sequence: Sequence,
        answer: Answer,
        at: UnixMs,
    ) -> Result<(), Contradiction> {
        let intent = *self.at(sequence).ok_or(Contradiction::NoSuchIntent(sequence))?;
        let (to, paid) = match answer {
            Answer::Bought(paid) => (State::Bought, paid),
            Answer::Refused(_) => (State::Refused, None),
            Answer::NotSent(_) => (State::NotSent, None),
            Answer::Unknown(_) => (State::Unknown, None),
        };
        // A late answer to an unknown buy is proof; that it stays unknown is no news.
        let late = intent.state == State::Unknown && to != State::Unknown && to != State::NotSent;
        if !intent.state.is_in_flight() && !late {
            return Err(Contradiction::NoSuchStep { sequence, from: intent.state, to });
        }
        self.step(sequence, to, paid, at)?;
        match answer {
            Answer::Bought(paid) => {
                self.all_is_well();
                self.compare_price(intent, paid, at);
            }
            Answer::Refused(refusal) => self.refused(refusal, at),
            Answer::NotSent(_) => {}
            Answer::Unknown(_) => {
                self.unknowns_in_a_row = self.unknowns_in_a_row.saturating_add(1);
                if self.unknowns_in_a_row >= UNKNOWNS_IN_A_ROW_MAX {
                    self.halt(HaltReason::Unknowns { count: self.unknowns_in_a_row }, at);
                }
            }
        }
        Ok(())
    }

    fn refused(&mut self, refusal: Refusal, at: UnixMs) {
        match refusal.consequence() {
            Consequence::None => self.all_is_well(),
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

    fn compare_price(&mut self, intent: Intent, paid: Option<Coins>, at: UnixMs) {
        if let Some(paid) = paid.filter(|paid| *paid != intent.approved) {
            let (id, approved) = (intent.id, intent.approved);
            self.halt(HaltReason::Price { id, approved, paid }, at);
        }
    }

    pub(super) fn proved(
        &mut self,
        sequence: Sequence,
        proof: Proof,
        paid: Option<Coins>,
        at: UnixMs,
    ) -> Result<(), Contradiction> {
        let intent = *self.at(sequence).ok_or(Contradiction::NoSuchIntent(sequence))?;
        let (from, to) = (intent.state, proof.state());
        let possible = match from {
            State::Unknown => true,
            State::Bought => matches!(to, State::Completed | State::Returned),
            // What is delivered may still fall through while Steam protects the trade.
            State::Completed => to == State::Returned,
            // The marketplace contradicts what it said, or what we inferred. Coins first.
            State::Refused | State::NotSent | State::NotBought => to != State::NotBought,
            State::Returned => matches!(to, State::Bought | State::Completed),
            State::Reserved | State::Sent => false,
        };
        if !possible {
            return Err(Contradiction::NoSuchStep { sequence, from, to });
        }
        self.step(sequence, to, paid, at)?;
        if !from.counts() {
            self.halt(HaltReason::Contradiction { id: intent.id }, at);
        }
        self.compare_price(intent, paid, at);
        Ok(())
    }

    pub(super) fn adopted(
        &mut self,
        sequence: Sequence,
        id: TradeId,
        price: Coins,
        at: UnixMs,
    ) -> Result<(), Contradiction> {
        let (entry, state, limits) = (EntrySlot::ANY, State::Reserved, self.limits);
        self.add(Intent {
            sequence,
            id,
            approved: price,
            price,
            entry,
            limits,
            state,
            reserved_at: at,
            changed_at: at,
        })?;
        self.step(sequence, State::Bought, None, at)?;
        self.loss.coins = self.loss.coins.saturating_sub(price).max(Coins::ZERO);
        self.loss.count = self.loss.count.saturating_sub(1);
        self.account.lose(self.loss.coins);
        Ok(())
    }

    pub(super) fn started(&mut self, at: UnixMs) -> Result<(), Contradiction> {
        for sequence in self.in_flight_sequences() {
            self.step(sequence, State::Unknown, None, at)?;
        }
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
        let is_same = |halt: &Halt| halt.reason == reason;
        if self.halts.len() < HALTS_MAX && !self.halts.iter().any(is_same) {
            self.halts.push(Halt { at, reason });
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
