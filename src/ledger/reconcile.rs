//! What the marketplace says about our own trades and our balance, compared with the book.
//!
//! Pure. A balance is applied first, with what follows from it ([`LedgerState::confirmed_prices`], then
//! [`LedgerState::refunded`]), then a list of our own trades ([`LedgerState::findings`]). The caller applies the
//! events in their order.
//!
//! 1. Whatever is open and listed as ours takes the state that the marketplace gives it. A status
//!    that is not known changes nothing, but the order is present. A cancelled order becomes
//!    *returning* and still counts.
//! 2. An unknown order that is not listed [`SETTLE`] after it became unknown is not bought, if no
//!    coins are missing by a balance as late; if coins are missing that nothing else explains, that
//!    is a disagreement and halts.
//! 3. A returning order is *returned* when a balance that was read after the list shows its coins.
//! 4. A trade of ours that the book never asked for halts, unless it was there when the ledger
//!    began, or power was lost and it may be one that was forgotten.
//! 5. What did not succeed by the book and yet is ours counts as bought, and halts.
//! 6. A price in the list counts at once where it is higher, and once a balance confirms it where
//!    it is lower.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::HashMap;

use super::{
    account::SETTLE,
    event::{Evidence, EvidenceSource, HaltReason, LedgerEvent, OrderState, Sequence},
    intent::Intent,
    state::LedgerState,
};
use crate::{
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeStatus},
};

/// One of our own trades, as the marketplace lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTrade {
    /// The listing.
    pub id: TradeId,
    /// Where it stands.
    pub status: TradeStatus,
    /// What it cost, where that is said.
    pub price: Option<Amount>,
    /// When it was bought, where that is said.
    pub joined_at: Option<UnixMs>,
}

/// What was read from the marketplace at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountReading<'a> {
    /// Our own trades.
    pub trades: &'a [OwnTrade],
    /// Whether they are all of them, back to before the oldest open intent; only then does
    /// absence say anything.
    pub complete: bool,
    /// When reading began, by our wall clock.
    pub started: UnixMs,
}

impl LedgerState {
    /// What follows from a list of our own trades.
    pub fn findings(&self, reading: &AccountReading<'_>) -> Vec<LedgerEvent> {
        let mut events = Vec::new();
        let mut listed: HashMap<TradeId, OwnTrade> = HashMap::with_capacity(reading.trades.len());
        let mut next = self.next_sequence();
        let mut loss = self.loss.count;
        for trade in reading.trades {
            if listed.insert(trade.id, *trade).is_some() {
                continue;
            }
            match self.intent(&trade.id) {
                // What happened since reading began is newer than what was read.
                Some(intent) if reading.started <= intent.changed_at => {}
                // It was asked for again, and that is what power loss has hidden.
                Some(intent) if intent.state == OrderState::NotSent && loss > 0 => {
                    events.extend(self.stranger(trade, &mut next, &mut loss));
                }
                Some(intent) => events.extend(proof_about(intent, trade, reading.started)),
                None => events.extend(self.stranger(trade, &mut next, &mut loss)),
            }
        }
        if reading.complete {
            self.judge_absent(reading, &listed, &mut events);
            if !self.baselined {
                events.push(LedgerEvent::Baselined);
            }
        }
        events
    }

    /// Lower prices in the list that the balance applied last confirms.
    pub fn confirmed_prices(&self) -> Vec<LedgerEvent> {
        let lower = self.repriced.iter().filter_map(|sequence| self.at(*sequence));
        let confirmed = lower.filter_map(|intent| {
            let (sequence, price) = (intent.sequence, intent.lower_price()?);
            let is_confirmed = !self.account.is_charge_pending(sequence)
                && self.account.agrees_since(intent.changed_at);
            is_confirmed.then_some(LedgerEvent::PriceConfirmed { sequence, price })
        });
        confirmed.collect()
    }

    /// Returning orders whose coins the balance applied last shows, the oldest first as far as they
    /// are covered in full. Prices are to be confirmed before.
    pub fn refunded(&self) -> Vec<LedgerEvent> {
        let Some(reading) = self.account.last_reading() else { return Vec::new() };
        let (proof, by) = (Evidence::Returned, EvidenceSource::Marketplace);
        let mut events = Vec::new();
        let mut account = self.account.clone();
        let returning = self.open.iter().filter_map(|sequence| self.at(*sequence));
        let returning = returning.filter(|intent| {
            // The balance must have been read after the list that cancelled it.
            intent.state == OrderState::Returning && intent.changed_at < reading.as_of
        });
        for intent in returning {
            let Intent { sequence, price, reserved_at, .. } = *intent;
            // By too high a price it would claim coins that belong to another.
            if intent.lower_price().is_some() || !account.covers(price, reserved_at) {
                break;
            }
            account.claim(price, reserved_at);
            events.push(LedgerEvent::Proved { sequence, proof, paid: None, by });
        }
        events
    }

    /// Returning orders of which no balance has shown the coins since `moment`.
    pub fn returning_since(&self, moment: UnixMs) -> impl Iterator<Item = &Intent> {
        let open = self.open.iter().filter_map(|sequence| self.at(*sequence));
        open.filter(move |intent| {
            intent.state == OrderState::Returning && intent.changed_at <= moment
        })
    }

    /// A trade of ours that the book does not hold.
    fn stranger(
        &self,
        trade: &OwnTrade,
        next: &mut Sequence,
        loss: &mut u32,
    ) -> Option<LedgerEvent> {
        let id = trade.id;
        // What is still for sale is no purchase.
        if trade.status == TradeStatus::Listed {
            return None;
        }
        let is_cancelled = Evidence::from_status(trade.status) == Some(Evidence::Returning);
        let is_known = self.accepted.contains(&id);
        let is_halted = self.halts.iter().any(|halt| halt.reason == HaltReason::Unintended { id });
        if is_known || is_halted {
            return None;
        }
        let counts = self.counts_before_its_time(trade, is_cancelled);
        if !counts && (!self.baselined || is_cancelled) {
            return Some(LedgerEvent::Accepted { id });
        }
        if counts || *loss > 0 {
            *loss = loss.saturating_sub(1);
            let sequence = *next;
            *next = sequence.next();
            // Without a price, the dearest that may have been approved.
            let price = trade.price.filter(|price| Amount::ZERO < *price);
            let price = price.unwrap_or(self.budget.max_price);
            return Some(LedgerEvent::Adopted { sequence, id, price });
        }
        Some(LedgerEvent::Halted(HaltReason::Unintended { id }))
    }

    /// Whether a purchase from before this ledger counts against `total`. One of unknown age does.
    fn counts_before_its_time(&self, trade: &OwnTrade, is_cancelled: bool) -> bool {
        let since = self.count_since.filter(|_since| !self.baselined && !is_cancelled);
        since.is_some_and(|since| trade.joined_at.is_none_or(|joined| since <= joined))
    }

    fn judge_absent(
        &self,
        reading: &AccountReading<'_>,
        listed: &HashMap<TradeId, OwnTrade>,
        events: &mut Vec<LedgerEvent>,
    ) {
        // While the wall clock cannot be trusted, nothing is freed by age.
        let is_over = |since: UnixMs| {
            self.frozen_at.is_none()
                && since.plus(SETTLE) <= reading.started
                && self.account.shows(since)
        };
        let (mut absent, mut elsewhere) = (Vec::new(), Amount::ZERO);
        for intent in self.open.iter().filter_map(|sequence| self.at(*sequence)) {
            if intent.state != OrderState::Unknown {
                continue;
            }
            if !listed.contains_key(&intent.id) && is_over(intent.changed_at) {
                absent.push(intent);
            } else {
                elsewhere = elsewhere.saturating_add(intent.price);
            }
        }
        // What is in flight may explain missing coins as well; then it is too early to say.
        let waiting = self.in_flight > 0;
        let lost = Amount::ZERO < self.loss.coins || self.loss.count > 0;
        let is_loss_over = lost && is_over(self.loss.since);
        // So does what power loss has hidden: what of it was found just now, or may yet be.
        elsewhere = if lost && !is_loss_over {
            elsewhere.saturating_add(self.loss.coins)
        } else {
            events.iter().fold(elsewhere, |sum, event| match event {
                LedgerEvent::Adopted { price, .. } => sum.saturating_add(*price),
                _ => sum,
            })
        };
        let can_hide = self.refund_can_hide_a_charge(events);
        let is_uncharged = |since: UnixMs| match can_hide {
            None => self.account.agrees_about(since, None),
            Some(false) => self.account.agrees_about(since, Some(reading.started.minus(SETTLE))),
            Some(true) => false,
        };
        for intent in absent.iter().filter(|intent| is_uncharged(intent.changed_at)) {
            events.push(LedgerEvent::Proved {
                sequence: intent.sequence,
                proof: Evidence::NotBought,
                paid: None,
                by: EvidenceSource::Marketplace,
            });
        }
        if is_loss_over && !waiting && is_uncharged(self.loss.since) {
            events.push(LedgerEvent::LossSettled { by: EvidenceSource::Marketplace });
        }
        let missing = self.account.missing_beyond(elsewhere);
        if (is_loss_over || !absent.is_empty()) && Amount::ZERO < missing && !waiting {
            let listed = self.listed_without_known_status(listed);
            events.push(LedgerEvent::Halted(HaltReason::Disagreement { missing, listed }));
        }
    }

    /// Whether coins that came back unnoticed may stand where the charge of an unknown order should
    /// be missing. `None`: there is nothing that could come back. `Some(true)`: a cancelled order
    /// waits for its coins. Else a list that was read [`SETTLE`] after the balance shows that
    /// nothing was cancelled by then.
    fn refund_can_hide_a_charge(&self, found: &[LedgerEvent]) -> Option<bool> {
        let is_returning = |intent: &&Intent| intent.state == OrderState::Returning;
        let open = self.open.iter().filter_map(|sequence| self.at(*sequence));
        let is_cancelled_now = found
            .iter()
            .any(|event| matches!(event, LedgerEvent::Proved { proof: Evidence::Returning, .. }));
        if is_cancelled_now || open.filter(is_returning).count() > 0 {
            return Some(true);
        }
        self.intents.iter().any(|intent| intent.state.is_charged()).then_some(false)
    }

    /// An unknown order that is listed with a status that this version does not know.
    fn listed_without_known_status(&self, listed: &HashMap<TradeId, OwnTrade>) -> Option<TradeId> {
        let open = self.open.iter().filter_map(|sequence| self.at(*sequence));
        let mut unknown = open.filter(|intent| intent.state == OrderState::Unknown);
        let is_other = |intent: &&Intent| {
            listed.get(&intent.id).is_some_and(|trade| trade.status == TradeStatus::Other)
        };
        unknown.find(is_other).map(|intent| intent.id)
    }
}

/// What the marketplace's word means for an intent of ours, if it is news.
fn proof_about(intent: &Intent, trade: &OwnTrade, started: UnixMs) -> Option<LedgerEvent> {
    let Intent { sequence, state, .. } = *intent;
    let proof = match (Evidence::from_status(trade.status), state) {
        (Some(proof), _) => proof,
        // Whatever the unknown status means, what does not count was bought all the same.
        (None, OrderState::Refused | OrderState::NotSent | OrderState::NotBought)
            if trade.status == TradeStatus::Other =>
        {
            Evidence::Bought
        }
        (None, _) => return None,
    };
    let price = trade.price.filter(|price| Some(*price) != intent.listed);
    // A list may show what was true a whole SETTLE before it was read.
    let is_later = intent.changed_at.plus(SETTLE) <= started;
    let is_news = match (state, proof) {
        // Its own answer is on its way.
        (OrderState::Reserved | OrderState::Sent, _) => return None,
        (OrderState::Bought, Evidence::Bought)
        | (OrderState::Completed, Evidence::Bought | Evidence::Completed)
        | (OrderState::Returning, Evidence::Returning) => false,
        (OrderState::Returning | OrderState::Returned, Evidence::Bought | Evidence::Completed) => {
            is_later
        }
        // Neither bought nor charged: they agree.
        (from, Evidence::Returning) => from.counts(),
        _ => true,
    };
    let by = EvidenceSource::Marketplace;
    if is_news {
        return Some(LedgerEvent::Proved { sequence, proof, paid: trade.price, by });
    }
    // The same state, and another price.
    let same = match state {
        OrderState::Bought => Evidence::Bought,
        OrderState::Completed => Evidence::Completed,
        OrderState::Returning => Evidence::Returning,
        _ => return None,
    };
    price.map(|price| LedgerEvent::Proved { sequence, proof: same, paid: Some(price), by })
}
