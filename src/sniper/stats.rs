//! What a session counts and keeps, for its log lines and its summary. Pure.
//!
//! # Invariants
//!
//! 1. Each listing that an entry wants ends in exactly one of *bought*, *refused*, *unknown*,
//!    *not sent*, *would buy* and *skipped*, or is still under way:
//!    `matched = bought + refused + unknown + not_sent + would_buy + skipped + under way`.
//! 2. Memory is bounded, whatever comes.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::trade::TradeId,
    latency::{LatencyBreakdown, LatencyHistogram},
    ledger::{OrderState, StateChange},
};

/// How many purchases a session keeps for its summary; all are counted.
pub const PURCHASES_KEPT_MAX: usize = 1_000;

/// One thing that was bought in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoughtItem {
    /// The listing.
    pub id: TradeId,
    /// What it is: foreign text.
    pub market_name: String,
    /// What it cost.
    pub price: Amount,
    /// From the read that brought the listing to the request written, step by step.
    pub steps: LatencyBreakdown,
    /// From request written to answer read.
    pub answered: Duration,
}

/// The counts of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionStats {
    /// Listings that reached the decision.
    pub listings: u64,
    /// Listings that an entry wants, repetitions not counted.
    pub matched: u64,
    /// Repetitions of listings that were decided on before.
    pub repeated: u64,
    /// Listings of which something that decides could not be read.
    pub unreadable: u64,
    /// Buys that the marketplace confirmed.
    pub bought: u64,
    /// Buys that it refused.
    pub refused: u64,
    /// Buys of which nobody knows.
    pub unknown: u64,
    /// Buys that never left.
    pub not_sent: u64,
    /// Dry run: what would have been bought.
    pub would_buy: u64,
    /// Wanted, but not asked for; why, and how often.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Refusals by kind.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Unknown orders, of this session or an earlier one, that turned out bought.
    pub resolved_bought: u64,
    /// Unknown orders that turned out not bought.
    pub resolved_not_bought: u64,
    /// Dry run: what would have been spent.
    pub would_spend: Amount,
    /// From the read that brought the listing to the request written.
    pub latency: LatencyHistogram,
    /// The first of what was bought.
    pub purchases: Vec<BoughtItem>,
    /// Answers to buys that could not be read.
    pub unreadable_answers: u64,
    /// Failures of this program's own making.
    pub internal_errors: u64,
}

impl SessionStats {
    /// Counts a wanted listing that was not asked for.
    pub fn skip(&mut self, why: &'static str) {
        let count = self.skipped.entry(why).or_default();
        *count = count.saturating_add(1);
    }

    /// How many wanted listings were not asked for.
    pub fn skipped_total(&self) -> u64 {
        self.skipped.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts how a buy ended.
    pub fn settle(&mut self, outcome: &Outcome) {
        let one_more = |count: &mut u64| *count = count.saturating_add(1);
        match outcome {
            Outcome::Bought { .. } => one_more(&mut self.bought),
            Outcome::Refused(refusal) => {
                one_more(&mut self.refused);
                one_more(self.refusals.entry(refusal.name()).or_default());
            }
            Outcome::NotSent(_) => one_more(&mut self.not_sent),
            Outcome::Unknown(_) => one_more(&mut self.unknown),
        }
    }

    /// Counts an unknown order that was resolved by the account.
    pub const fn resolve(&mut self, change: &StateChange) {
        match (change.from, change.to) {
            (OrderState::Unknown, OrderState::NotBought) => {
                self.resolved_not_bought = self.resolved_not_bought.saturating_add(1);
            }
            (OrderState::Unknown, to) if to.is_charged() => {
                self.resolved_bought = self.resolved_bought.saturating_add(1);
            }
            _ => {}
        }
    }

    /// Keeps a purchase for the summary, while there is room.
    pub fn keep(&mut self, purchase: BoughtItem) {
        if self.purchases.len() < PURCHASES_KEPT_MAX {
            self.purchases.push(purchase);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::domain::outcome::{NotSent, RejectReason, Unknown};
    use crate::latency::RxTimestamps;

    const TEN: Amount = Amount::from_cents(1_000);

    #[test]
    fn each_outcome_is_counted_once() {
        let mut tally = SessionStats::default();
        tally.settle(&Outcome::Bought { price: None, server_time: None });
        tally.settle(&Outcome::Bought { price: Some(TEN), server_time: None });
        tally.settle(&Outcome::Refused(RejectReason::Taken));
        tally.settle(&Outcome::NotSent(NotSent::Closed));
        tally.settle(&Outcome::Unknown(Unknown::Cut));
        assert_eq!((tally.bought, tally.refused, tally.not_sent, tally.unknown), (2, 1, 1, 1));
        assert_eq!(tally.refusals.into_iter().collect::<Vec<_>>(), [("taken", 1)]);
    }

    #[test]
    fn purchases_are_kept_up_to_their_bound() {
        let mut tally = SessionStats::default();
        let now = Instant::now();
        let bought = BoughtItem {
            id: TradeId::new("a").unwrap(),
            market_name: String::new(),
            price: TEN,
            steps: LatencyBreakdown {
                arrival: RxTimestamps::at(now),
                parsed: now,
                decided: now,
                reserved: now,
                serialised: now,
                written: now,
            },
            answered: Duration::ZERO,
        };
        for _ in 0..PURCHASES_KEPT_MAX + 10 {
            tally.keep(bought.clone());
        }
        assert_eq!(tally.purchases.len(), PURCHASES_KEPT_MAX);
    }

    #[test]
    fn skips_are_counted_by_their_reason() {
        let mut tally = SessionStats::default();
        tally.skip("expired");
        tally.skip("expired");
        tally.skip("own");
        assert_eq!(tally.skipped_total(), 3);
        assert_eq!(tally.skipped.get("expired"), Some(&2));
    }
}
