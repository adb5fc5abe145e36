//! Transitions of an intent between its states, and their effects on the sums and on ordering.
//!
//! Pure. The states: reserved → sent → bought | rejected | unknown, or not sent; bought →
//! completed; bought or completed → returning → returned; unknown → bought, completed, returning,
//! rejected or not bought. An order that stopped counting counts again, and halts, if the market
//! shows it as bought. Every halt and pause follows from the event itself, so that a replay reaches
//! the same halt even if the program died in between.
//!
//! An order stops counting only in `LedgerState::release_keeping`, which calls
//! [`Release::of`](super::event::Release::of).
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{collections::BTreeSet, time::Duration};

use super::{
    account::{Cost, Reservation},
    event::{EntrySlot, Evidence, HaltReason, OrderState, RecordedAnswer, Release, Sequence},
    intent::{CrashLoss, Halt, Intent, InvalidTransition},
    open::CLOCK_MARGIN,
    state::{
        HALTS_MAX, LedgerState, PAUSE, PAUSE_MAX, REJECTIONS_IN_A_ROW_MAX, SECOND,
        UNKNOWNS_IN_A_ROW_MAX,
    },
};
use crate::{
    domain::money::Amount,
    domain::outcome::{Consequence, RejectReason, Unknown},
    domain::own_order_id::StartId,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId},
};

/// Ratio between reported and approved price above which, or below whose inverse, a price is
/// implausible.
const IMPLAUSIBLE_FACTOR: i64 = 10;

/// Time before the last surviving event within which a lost one may have happened. The margin is
/// large: the writer lags by milliseconds, and nothing is approved while it cannot write.
const LOSS_MARGIN: Duration = Duration::from_secs(3_600);

/// Price that the market reported for an order, by its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paid {
    Unreported,
    /// In the response to the order.
    Answer(Amount),
    /// In the account's own list.
    List(Amount),
}

impl LedgerState {
    /// Records that the transmission of an order's request has begun.
    pub(super) fn on_sent(
        &mut self,
        sequence: Sequence,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        // The rate is updated here, because updating it at the approval would delay the request.
        if let Some((newest, orders)) = self.minute.newest_within(SECOND) {
            self.rate.record(newest, orders);
        }
        self.advance(sequence, OrderState::Sent, Paid::Unreported, at)
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
        let after = Intent { state: to, changed_at: at, ..with_price(before, paid) };
        self.replace(before, after, at)
    }

    /// Stops counting an order.
    fn release(
        &mut self,
        sequence: Sequence,
        release: Release,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        self.release_keeping(sequence, release, Amount::ZERO, at)
    }

    /// Stops counting an order, except for a commission that the market keeps.
    fn release_keeping(
        &mut self,
        sequence: Sequence,
        release: Release,
        kept: Amount,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let before = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let from = before.state;
        let to = release.of(from).ok_or(InvalidTransition::NotReleased { sequence, from })?;
        let kept = kept.max(Amount::ZERO).min(before.price);
        self.replace(before, Intent { state: to, kept, changed_at: at, ..before }, at)
    }

    /// Replaces an intent and updates every sum.
    fn replace(
        &mut self,
        before: Intent,
        after: Intent,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let sequence = before.sequence;
        let state_since = if before.state == after.state { before.state_since } else { at };
        *self.at_mut(sequence)? = Intent { state_since, ..after };
        self.sharing.on_changed(sequence);
        if self.budget_from <= sequence {
            let others = self.spent.saturating_sub(before.counted());
            self.spent = others.saturating_add(after.counted());
        }
        self.sharing.subtract(sequence, before.counted());
        self.sharing.add(sequence, after.counted());
        self.entries.subtract(before.entry, before.usage());
        self.entries.add(after.entry, after.usage());
        let in_windows = |intent: &Intent| {
            (intent.state.counts() || Amount::ZERO < intent.kept).then(|| intent.counted())
        };
        match in_windows(&after) {
            unchanged if unchanged == in_windows(&before) => {}
            Some(counted) => {
                self.hour.restore(sequence, counted);
                self.day.restore(sequence, counted);
            }
            None => {
                self.hour.free(sequence);
                self.day.free(sequence);
            }
        }
        if after.state == OrderState::NotSent {
            self.minute.free(sequence);
        }
        self.update_account(before, after, at);
        if before.state.is_in_flight() && !after.state.is_in_flight() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        let states = [before.state, after.state];
        set_member(&mut self.open, sequence, states.map(OrderState::is_open));
        self.open_totals.subtract(&before);
        self.open_totals.add(&after);
        let approved = (after.reserved_at, sequence);
        set_member(&mut self.followed_up, approved, states.map(OrderState::is_followed_up));
        let is_lower = [before, after].map(|intent| intent.lower_price().is_some());
        set_member(&mut self.repriced, sequence, is_lower);
        Ok(())
    }

    /// Updates the account balance for a transition.
    fn update_account(&mut self, before: Intent, after: Intent, at: UnixMs) {
        let is_unsettled = |state: OrderState| state.is_in_flight() || state == OrderState::Unknown;
        let cost = |intent: Intent| Cost { counted: intent.price, charged: intent.charged };
        let Intent { sequence, reserved_at, refund_since, .. } = after;
        if !before.state.is_charged() && after.state.is_charged() {
            let price = is_unsettled(before.state).then_some(before.price);
            // A purchase that was adopted without a crash loss precedes the ledger's first reading.
            let is_found = after.entry == EntrySlot::ANY && self.loss.count == 0;
            let reserved_at = if is_found { UnixMs(i64::MIN) } else { reserved_at };
            let reserved = Reservation { at: reserved_at, price };
            self.account.charge(sequence, cost(after), reserved, at);
        } else if before.state.is_charged() && after.state == OrderState::Returned {
            self.account.assign_inflows(before.price.saturating_sub(after.kept), refund_since);
        } else if before.state.is_charged() {
            self.account.reprice(sequence, cost(before), cost(after));
        } else if is_unsettled(before.state) && !after.state.counts() {
            self.account.cancel(before.price);
        } else if is_unsettled(before.state) && before.price != after.price {
            self.account.cancel(before.price);
            self.account.reserve(after.price);
        }
    }

    pub(super) fn on_answered(
        &mut self,
        sequence: Sequence,
        answer: RecordedAnswer,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let intent = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let from = intent.state;
        let invalid = |to| InvalidTransition::NoSuchStep { sequence, from, to };
        match answer {
            RecordedAnswer::Bought(paid) => {
                // A late response shows that an order that counts as not bought was bought.
                let is_new = from.is_in_flight() || from == OrderState::Unknown || !from.counts();
                if !is_new {
                    return Err(invalid(OrderState::Bought));
                }
                let paid = paid.map_or(Paid::Unreported, Paid::Answer);
                self.advance(sequence, OrderState::Bought, paid, at)?;
                self.reset_failure_counts();
                if !from.counts() {
                    self.halt(HaltReason::Contradiction { id: intent.id }, at);
                }
                self.check_price(intent, paid, at);
            }
            RecordedAnswer::Rejected(reason) => {
                self.release(sequence, Release::Rejected, at)?;
                if reason.consequence() == Consequence::None {
                    self.reset_failure_counts();
                }
                self.apply_consequence(sequence, reason, at);
            }
            RecordedAnswer::NotSent(_) => self.release(sequence, Release::NotSent, at)?,
            // The consequence lowers no exposure, so it applies before the rejection is confirmed.
            // The rejection is no evidence about the connection, so it neither extends nor ends a
            // row of unknown outcomes.
            RecordedAnswer::Unknown(Unknown::Unconfirmed(reason)) => {
                self.become_unknown(intent, at)?;
                self.apply_consequence(sequence, reason, at);
            }
            // The market has answered this order, so it neither extends nor ends a row either.
            RecordedAnswer::Unknown(Unknown::Failed | Unknown::AlreadyOrdered) => {
                self.become_unknown(intent, at)?;
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

    /// Moves an order to unknown. An order whose rejection was not confirmed is unknown already,
    /// and its last response may leave it so.
    fn become_unknown(&mut self, intent: Intent, at: UnixMs) -> Result<(), InvalidTransition> {
        let Intent { sequence, state: from, .. } = intent;
        match from {
            OrderState::Reserved | OrderState::Sent => {
                self.advance(sequence, OrderState::Unknown, Paid::Unreported, at)
            }
            OrderState::Unknown => Ok(()),
            _ => Err(InvalidTransition::NoSuchStep { sequence, from, to: OrderState::Unknown }),
        }
    }

    /// Halts or pauses ordering as the rejection requires. The last report of an order may repeat
    /// or confirm a rejection that has paused already.
    fn apply_consequence(&mut self, sequence: Sequence, reason: RejectReason, at: UnixMs) {
        match reason.consequence() {
            Consequence::None => {}
            Consequence::Pause(_) if self.last_pause == Some((sequence, reason)) => {}
            Consequence::Halt => self.halt(HaltReason::Rejected(reason), at),
            Consequence::Pause(wait) => {
                self.last_pause = Some((sequence, reason));
                // Several orders in flight are rejected together; that counts as one rejection.
                if self.paused_until <= at {
                    self.rejections_in_a_row = self.rejections_in_a_row.saturating_add(1);
                }
                let until = at.plus(wait.unwrap_or(PAUSE).min(PAUSE_MAX));
                self.paused_until = self.paused_until.max(until);
                if self.rejections_in_a_row >= REJECTIONS_IN_A_ROW_MAX {
                    self.halt(HaltReason::Rejections { count: self.rejections_in_a_row }, at);
                }
            }
        }
    }

    const fn reset_failure_counts(&mut self) {
        self.unknowns_in_a_row = 0;
        self.rejections_in_a_row = 0;
    }

    /// Halts if the price is above the approved one, or implausible.
    fn check_price(&mut self, intent: Intent, paid: Paid, at: UnixMs) {
        let (Paid::Answer(paid) | Paid::List(paid)) = paid else { return };
        let Intent { id, approved, .. } = intent;
        if is_implausible(paid, approved) {
            self.halt(HaltReason::ImplausiblePrice { id, approved, paid }, at);
        } else if approved < paid {
            self.halt(HaltReason::Price { id, approved, paid }, at);
        }
    }

    pub(super) fn on_proved(
        &mut self,
        sequence: Sequence,
        evidence: Evidence,
        paid: Option<Amount>,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let intent = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        let (from, to) = (intent.state, evidence.state());
        match evidence {
            Evidence::NotBought => return self.release(sequence, Release::NotBought, at),
            Evidence::Returned => {
                let kept = paid.unwrap_or_default();
                // A commission that became known after the release.
                if from == OrderState::Returned && intent.kept < kept {
                    let kept = kept.min(intent.price);
                    return self.replace(intent, Intent { kept, ..intent }, at);
                }
                return self.release_keeping(sequence, Release::Returned, kept, at);
            }
            Evidence::ReturnedByStatus => {
                // Version 0.1.0 released the coins because of the status alone, and may have spent
                // them since.
                if from != OrderState::Returning {
                    self.advance(sequence, OrderState::Returning, Paid::Unreported, at)?;
                }
                return self.release(sequence, Release::Returned, at);
            }
            Evidence::Bought | Evidence::Completed | Evidence::Returning => {}
        }
        if from.is_in_flight() {
            return Err(InvalidTransition::NoSuchStep { sequence, from, to });
        }
        let paid = paid.map_or(Paid::Unreported, Paid::List);
        // The cancellation of an unknown order implies that it was bought.
        if from == OrderState::Unknown && to == OrderState::Returning {
            self.advance(sequence, OrderState::Bought, Paid::Unreported, at)?;
        }
        self.advance(sequence, to, paid, at)?;
        // The market contradicts its earlier response, or the inference from it.
        if !from.counts() {
            self.halt(HaltReason::Contradiction { id: intent.id }, at);
        }
        if intent.listed != self.at(sequence).and_then(|intent| intent.listed) {
            self.check_price(intent, paid, at);
        }
        Ok(())
    }

    /// Applies a price of the account's list that a balance has confirmed. The price of an unknown
    /// order is not confirmed, and counts only if it is higher.
    pub(super) fn confirm_price(
        &mut self,
        sequence: Sequence,
        price: Amount,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        let before = *self.at(sequence).ok_or(InvalidTransition::NoSuchIntent(sequence))?;
        if before.state == OrderState::Unknown {
            let paid = Paid::List(price);
            self.replace(before, with_price(before, paid), at)?;
            self.check_price(before, paid, at);
            return Ok(());
        }
        let after = Intent { price, charged: price.min(before.charged), ..before };
        self.replace(before, after, before.changed_at)
    }

    pub(super) fn on_adopted(
        &mut self,
        sequence: Sequence,
        id: TradeId,
        price: Amount,
        at: UnixMs,
    ) -> Result<(), InvalidTransition> {
        // With the id as its key, the listing is never ordered again at any price.
        let reserved = Intent::reserved(sequence, id, KeyedBy::Id, price, at);
        self.add(Intent { limits: self.limits, ..reserved })?;
        self.advance(sequence, OrderState::Bought, Paid::Unreported, at)
    }

    pub(super) fn on_lost(&mut self, coins: Amount, count: u32, barrier: UnixMs, at: UnixMs) {
        self.is_barrier_confirmed = coins == Amount::ZERO && count == 0;
        if self.is_barrier_confirmed {
            self.barrier = Some(barrier);
            return;
        }
        self.barrier = self.barrier.max(Some(barrier));
        // A last event after the loss is of a run whose clock was ahead. In a replay, both times
        // may be later than they were, but not the barrier.
        let earliest = barrier.minus(CLOCK_MARGIN).minus(LOSS_MARGIN);
        self.loss = CrashLoss {
            coins: self.loss.coins.saturating_add(coins),
            count: self.loss.count.saturating_add(count),
            since: at,
            not_before: self.last_at.min(at).minus(LOSS_MARGIN).max(self.first_at).min(earliest),
        };
        self.account.set_crash_reserve(self.loss.coins);
        self.approved_totals = self.approved_totals.plus(coins, count);
    }

    /// Removes an order that was found from the upper bound of the lost orders.
    pub(super) fn lower_loss(&mut self, price: Amount) {
        self.loss.coins = self.loss.coins.saturating_sub(price).max(Amount::ZERO);
        self.loss.count = self.loss.count.saturating_sub(1);
        self.account.set_crash_reserve(self.loss.coins);
    }

    pub(super) fn on_started(
        &mut self,
        at: UnixMs,
        start: Option<StartId>,
    ) -> Result<(), InvalidTransition> {
        self.start = start;
        for sequence in self.in_flight_sequences() {
            self.advance(sequence, OrderState::Unknown, Paid::Unreported, at)?;
        }
        // A moment after the start was recorded by a run whose clock was ahead.
        if at < self.last_at {
            self.clamp_intents(at);
        }
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.clamp(at);
        }
        self.account.clamp(at);
        self.loss.since = self.loss.since.min(at);
        self.loss_cleared_at = self.loss_cleared_at.map(|cleared| cleared.min(at));
        self.paused_until = self.paused_until.min(at.plus(PAUSE_MAX));
        self.reconciled = !self.balance_required;
        // A balance of an earlier run permits no order.
        self.read_from = at;
        Ok(())
    }

    /// Moves moments after `now` back to `now`.
    fn clamp_intents(&mut self, now: UnixMs) {
        self.followed_up.clear();
        for intent in &mut self.intents {
            intent.reserved_at = intent.reserved_at.min(now);
            intent.changed_at = intent.changed_at.min(now);
            intent.state_since = intent.state_since.min(now);
            intent.refund_since = intent.refund_since.min(now);
            if intent.state.is_followed_up() {
                self.followed_up.insert((intent.reserved_at, intent.sequence));
            }
        }
    }

    /// Returns every order that waits for a response. Scans all intents unless there is none.
    pub(super) fn in_flight_sequences(&self) -> Vec<Sequence> {
        if self.in_flight == 0 {
            return Vec::new();
        }
        let in_flight = self.intents.iter().filter(|intent| intent.state.is_in_flight());
        in_flight.map(|intent| intent.sequence).collect()
    }

    /// Returns `true` if a drop of the balance has the same cause as the halt because of the only
    /// unexpected purchase so far, whose price it equals. The price explains one drop.
    pub(super) fn is_price_of_unexpected(&mut self, drop: Amount) -> bool {
        self.halts.iter_mut().any(|halt| match &mut halt.reason {
            HaltReason::UnexpectedPurchase { price, .. } if halt.count == 1 => {
                price.take_if(|price| *price == drop).is_some()
            }
            _ => false,
        })
    }

    pub(super) fn halt(&mut self, mut reason: HaltReason, at: UnixMs) {
        if let HaltReason::UnexpectedPurchase { id, price } = &mut reason {
            self.unexpected.insert(*id);
            // Purchase and drop are one cause if the amounts are equal: this halt replaces that of
            // the drop, which leaves room for it.
            let is_drop = |halt: &Halt| match halt.reason {
                HaltReason::BalanceDrop { expected, actual } if halt.count == 1 => {
                    *price == Some(expected.saturating_sub(actual))
                }
                _ => false,
            };
            if let Some(explained) = self.halts.iter().position(is_drop) {
                self.halts.remove(explained);
                *price = None;
            }
        }
        let is_same = |halt: &&mut Halt| halt.reason.has_same_cause(&reason);
        if let Some(halt) = self.halts.iter_mut().find(is_same) {
            halt.reason = reason;
            halt.count = halt.count.saturating_add(1);
        } else if self.halts.len() < HALTS_MAX {
            self.halts.push(Halt { at, reason, count: 1 });
        }
    }

    pub(super) fn on_resumed(&mut self) {
        self.halts.clear();
        self.accepted.extend(self.unexpected.drain());
        self.reset_failure_counts();
        self.paused_until = UnixMs(i64::MIN);
    }
}

/// Inserts or removes a member of a set, if that changes the set.
fn set_member<T: Ord>(set: &mut BTreeSet<T>, order: T, [was_member, is_member]: [bool; 2]) {
    if is_member && !was_member {
        set.insert(order);
    } else if was_member && !is_member {
        set.remove(&order);
    }
}

/// Applies a reported price. A higher price counts immediately, a lower one in the account's list
/// after a balance has confirmed it.
fn with_price(intent: Intent, paid: Paid) -> Intent {
    match paid {
        Paid::Answer(paid) if Amount::ZERO < paid => {
            Intent { price: intent.price.max(paid), charged: intent.charged.min(paid), ..intent }
        }
        // An implausible price is no evidence of the charge.
        Paid::Answer(_) => Intent { charged: Amount::ZERO, ..intent },
        Paid::List(paid) => {
            let intent = Intent { listed: Some(paid), ..intent };
            if paid <= Amount::ZERO {
                return intent;
            }
            Intent { price: intent.price.max(paid), charged: paid, ..intent }
        }
        Paid::Unreported => intent,
    }
}

fn is_implausible(paid: Amount, approved: Amount) -> bool {
    let times = |coins: Amount| coins.saturating_mul(IMPLAUSIBLE_FACTOR);
    paid <= Amount::ZERO || times(approved) < paid || times(paid) < approved
}
