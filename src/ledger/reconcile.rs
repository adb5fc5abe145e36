//! What the marketplace says about our own trades, compared with the book.
//!
//! Pure: from a list of trades and a balance to the events that follow. The caller applies the
//! balance first and then these events, in their order.
//!
//! 1. Whatever is open and listed as ours takes the state that the marketplace gives it.
//! 2. An unknown buy that is not listed once [`SETTLE`] has passed is not bought, if no coins are
//!    missing; if some are that nothing else explains, that is a disagreement and halts.
//! 3. A trade of ours that the book never asked for halts, unless it was there when the ledger
//!    began, or power was lost and it may be one that was forgotten.
//! 4. What did not succeed by the book and yet is ours counts as bought, and halts.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::HashMap;

use super::{
    account::SETTLE,
    book::Book,
    event::{Event, HaltReason, Proof, Sequence, Source, State},
};
use crate::{
    money::Coins,
    time::UnixMs,
    trade::{Status, TradeId},
};

/// One of our own trades, as the marketplace lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTrade {
    /// The listing.
    pub id: TradeId,
    /// Where it stands.
    pub status: Status,
    /// What it cost, where that is said.
    pub price: Option<Coins>,
    /// When it was bought, where that is said.
    pub joined_at: Option<UnixMs>,
}

/// What was read from the marketplace at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    /// Our own trades.
    pub trades: &'a [OwnTrade],
    /// Whether they are all of them, back to before the oldest open intent; only then does
    /// absence say anything.
    pub complete: bool,
    /// When reading began, by our wall clock.
    pub started: UnixMs,
}

impl Book {
    /// What follows from a reading.
    pub fn findings(&self, reading: &Reading<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut listed: HashMap<TradeId, Proof> = HashMap::with_capacity(reading.trades.len());
        let mut next = self.next_sequence();
        let mut loss = self.loss.count;
        for trade in reading.trades {
            let Some(proof) = Proof::from_status(trade.status) else { continue };
            if listed.insert(trade.id, proof).is_some() {
                continue;
            }
            match self.intent(&trade.id) {
                // What happened since reading began is newer than what was read.
                Some(intent) if reading.started <= intent.changed_at => {}
                // It was asked for again, and that is what power loss has hidden.
                Some(intent) if intent.state == State::NotSent && loss > 0 => {
                    events.extend(self.stranger(trade, proof, &mut next, &mut loss));
                }
                Some(intent) => {
                    events.extend(proof_about(intent.sequence, intent.state, proof, trade.price));
                }
                None => events.extend(self.stranger(trade, proof, &mut next, &mut loss)),
            }
        }
        if reading.complete {
            self.judge_absent(reading, &listed, &mut events);
            if !self.baselined {
                events.push(Event::Baselined);
            }
        }
        events
    }

    /// A trade of ours that the book does not hold.
    fn stranger(
        &self,
        trade: &OwnTrade,
        proof: Proof,
        next: &mut Sequence,
        loss: &mut u32,
    ) -> Option<Event> {
        let id = trade.id;
        let is_known = self.accepted.contains(&id);
        let is_halted = self.halts.iter().any(|halt| halt.reason == HaltReason::Unintended { id });
        if is_known || is_halted {
            return None;
        }
        let counts = self.counts_before_its_time(trade, proof);
        if !counts && (!self.baselined || proof == Proof::Returned) {
            return Some(Event::Accepted { id });
        }
        if counts || *loss > 0 {
            *loss = loss.saturating_sub(1);
            let sequence = *next;
            *next = sequence.next();
            // Without a price, the dearest that may have been approved.
            let price = trade.price.unwrap_or(self.budget.max_price);
            return Some(Event::Adopted { sequence, id, price });
        }
        Some(Event::Halted(HaltReason::Unintended { id }))
    }

    /// Whether a purchase from before this ledger counts against `total`. One of unknown age does.
    fn counts_before_its_time(&self, trade: &OwnTrade, proof: Proof) -> bool {
        let since = self.count_since.filter(|_since| !self.baselined && proof != Proof::Returned);
        since.is_some_and(|since| trade.joined_at.is_none_or(|joined| since <= joined))
    }

    fn judge_absent(
        &self,
        reading: &Reading<'_>,
        listed: &HashMap<TradeId, Proof>,
        events: &mut Vec<Event>,
    ) {
        // Both the list and the balance must be younger than that.
        let is_over =
            |since: UnixMs| since.plus(SETTLE) <= reading.started && self.account.shows(since);
        let (mut absent, mut elsewhere) = (Vec::new(), Coins::ZERO);
        for intent in self.open.iter().filter_map(|sequence| self.at(*sequence)) {
            if intent.state != State::Unknown {
                continue;
            }
            if !listed.contains_key(&intent.id) && is_over(intent.changed_at) {
                absent.push(intent.sequence);
            } else {
                elsewhere = elsewhere.saturating_add(intent.price);
            }
        }
        // What is in flight may explain missing coins as well; then it is too early to say.
        let waiting = self.in_flight > 0;
        let lost = Coins::ZERO < self.loss.coins || self.loss.count > 0;
        // So does what power loss has hidden: what of it was found just now, or may yet be.
        elsewhere = if lost && !is_over(self.loss.since) {
            elsewhere.saturating_add(self.loss.coins)
        } else {
            events.iter().fold(elsewhere, |sum, event| match event {
                Event::Adopted { price, .. } => sum.saturating_add(*price),
                _ => sum,
            })
        };
        let missing = self.account.missing_beyond(elsewhere);
        if self.account.agrees() {
            events.extend(absent.into_iter().map(|sequence| Event::Proved {
                sequence,
                proof: Proof::NotBought,
                paid: None,
                by: Source::Marketplace,
            }));
            if lost && is_over(self.loss.since) && !waiting {
                events.push(Event::LossSettled { by: Source::Marketplace });
            }
        } else if (lost && is_over(self.loss.since) || !absent.is_empty())
            && Coins::ZERO < missing
            && !waiting
        {
            events.push(Event::Halted(HaltReason::Disagreement { missing }));
        }
    }
}

/// What the marketplace's word means for an intent of ours, if it is news.
fn proof_about(
    sequence: Sequence,
    state: State,
    proof: Proof,
    paid: Option<Coins>,
) -> Option<Event> {
    let is_news = match (state, proof) {
        // Its own answer is on its way.
        (State::Reserved | State::Sent, _) => false,
        (State::Bought, Proof::Bought) | (State::Completed, Proof::Bought | Proof::Completed) => {
            false
        }
        // Neither bought nor charged: they agree.
        (from, Proof::Returned) => from.counts(),
        _ => true,
    };
    is_news.then_some(Event::Proved { sequence, proof, paid, by: Source::Marketplace })
}
