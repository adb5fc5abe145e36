//! Counts and purchases of a session, for its log lines and its summary. Pure.
//!
//! # Invariants
//!
//! 1. Each matched listing ends in exactly one of *bought*, *rejected*, *unknown*, *not sent*,
//!    *would buy* and *skipped*, or is still in progress:
//!    `matched = bought + rejected + unknown + not_sent + would_buy + skipped + in progress`.
//! 2. Memory is bounded for any input.

use std::{borrow::Borrow, collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

use super::eligibility::SkipReason;
use crate::{
    domain::latency::{LatencyBreakdown, LatencyHistogram},
    domain::money::{Amount, Percent},
    domain::outcome::{Outcome, Unknown},
    domain::time::UnixMs,
    domain::trade::TradeId,
    ledger::{OrderState, OrderedReference, RiskRejection, StateChange},
};

/// Maximum number of purchases that a session keeps for its summary. All are counted.
const PURCHASES_KEPT_MAX: usize = 1_000;

/// Reason of a skipped listing: its name in JSON and metrics, and its description in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountedReason {
    pub name: &'static str,
    pub text: &'static str,
}

impl CountedReason {
    pub(super) const TAKEN: Self =
        Self { name: "taken while held", text: "another buyer took it before it could be ordered" };
    pub(super) const CHANGED: Self =
        Self { name: "changed while held", text: "its price changed before it could be ordered" };
    pub(super) const REMOVED: Self =
        Self { name: "removed while held", text: "it was removed before it could be ordered" };
    pub(super) const NOT_HELD: Self =
        Self { name: "too many held", text: "too many listings are held" };
    pub(super) const STOPPING: Self = Self { name: "stopping", text: "the bot was stopping" };
    pub(super) const CREDENTIAL: Self =
        Self { name: "its id repeats a credential", text: "its id contains a credential" };
}

impl From<&'static str> for CountedReason {
    fn from(name: &'static str) -> Self {
        let text = match name {
            "entry paused" => "its entry is paused",
            "no price" => "it has no price",
            "reference changed while held" => "its reference changed before it could be ordered",
            _ => name,
        };
        Self { name, text }
    }
}

impl From<SkipReason> for CountedReason {
    fn from(reason: SkipReason) -> Self {
        let (name, text) = reason.name_and_text();
        Self { name, text }
    }
}

impl From<RiskRejection> for CountedReason {
    fn from(rejection: RiskRejection) -> Self {
        Self { name: rejection.name(), text: rejection.summary() }
    }
}

impl Borrow<str> for CountedReason {
    fn borrow(&self) -> &str {
        self.name
    }
}

impl Serialize for CountedReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

/// Item that was bought in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoughtItem {
    pub id: TradeId,
    /// Time of the final response to its order.
    pub at: UnixMs,
    /// Label of the whitelist entry.
    pub entry: String,
    /// Untrusted text of the market.
    pub market_name: String,
    pub price: Amount,
    /// The reference that the percent rule compared, at the time of the order.
    pub reference: Option<OrderedReference>,
    /// Margin expected at the time of the order.
    pub margin: Option<Percent>,
    /// Receive-to-order latency by step.
    pub steps: LatencyBreakdown,
    /// Time from the written request to its response.
    pub response_time: Duration,
    /// `true` if the purchase was cancelled.
    pub is_cancelled: bool,
}

/// Counts of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionStats {
    /// Listings that reached the decision.
    pub listings: u64,
    /// Listings that matched an entry, repetitions excluded.
    pub matched: u64,
    /// Repetitions of matched listings.
    pub repeated: u64,
    /// Listings with a field that could not be read.
    pub unreadable: u64,
    /// Orders that the market confirmed.
    pub bought: u64,
    pub rejected: u64,
    /// Orders whose final response left the outcome unknown.
    pub unknown: u64,
    /// Unknown orders with an error message that this version does not know.
    pub unknown_messages: u64,
    pub not_sent: u64,
    /// Orders that a dry run would have sent.
    pub would_buy: u64,
    /// Matched listings that were not ordered, by reason.
    pub skipped: BTreeMap<CountedReason, u64>,
    /// Reason of the last skipped listing. Reset before each match.
    pub last_skip: Option<CountedReason>,
    /// Rejected orders by reason.
    pub rejections: BTreeMap<&'static str, u64>,
    /// Unknown orders of any session that the account showed as bought.
    pub resolved_bought: u64,
    /// Unknown orders of any session that turned out not to be bought.
    pub resolved_not_bought: u64,
    /// Purchases of any session whose coins are back.
    pub returned: u64,
    /// Coins that a dry run would have spent.
    pub would_spend: Amount,
    /// Receive-to-order latency.
    pub latency: LatencyHistogram,
    /// The first [`PURCHASES_KEPT_MAX`] purchases.
    pub purchases: Vec<BoughtItem>,
    /// Responses to orders that could not be read.
    pub unreadable_responses: u64,
    /// Updates that the ledger rejected.
    pub internal_errors: u64,
}

impl SessionStats {
    /// Counts a matched listing that was not ordered.
    pub fn skip(&mut self, reason: impl Into<CountedReason>) {
        let reason = reason.into();
        self.last_skip = Some(reason);
        let count = self.skipped.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns the number of orders that are known to be bought.
    pub const fn bought_in_all(&self) -> u64 {
        self.bought.saturating_add(self.resolved_bought)
    }

    pub fn skipped_total(&self) -> u64 {
        self.skipped.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts the final outcome of an order.
    pub fn record_outcome(&mut self, outcome: &Outcome) {
        let increment = |count: &mut u64| *count = count.saturating_add(1);
        match outcome {
            Outcome::Bought { .. } => increment(&mut self.bought),
            Outcome::Rejected(reason) => {
                increment(&mut self.rejected);
                increment(self.rejections.entry(reason.name()).or_default());
            }
            Outcome::NotSent(_) => {
                self.last_skip = Some("not sent".into());
                increment(&mut self.not_sent);
            }
            Outcome::Unknown(reason) => {
                increment(&mut self.unknown);
                if *reason == Unknown::UnknownError {
                    increment(&mut self.unknown_messages);
                }
            }
        }
    }

    /// Counts an unknown order that the account has resolved, and marks a cancelled purchase.
    pub fn record_change(&mut self, change: &StateChange) {
        if let Some(purchase) = self.purchases.iter_mut().find(|bought| bought.id == change.id) {
            purchase.is_cancelled =
                matches!(change.to, OrderState::Returning | OrderState::Returned);
        }
        match (change.from, change.to) {
            (OrderState::Unknown, OrderState::NotBought) => {
                self.resolved_not_bought = self.resolved_not_bought.saturating_add(1);
            }
            (OrderState::Unknown, to) if to.is_charged() => {
                self.resolved_bought = self.resolved_bought.saturating_add(1);
            }
            (_, OrderState::Returned) => self.returned = self.returned.saturating_add(1),
            _ => {}
        }
    }

    /// Keeps a purchase for the summary, up to [`PURCHASES_KEPT_MAX`].
    pub fn add_purchase(&mut self, purchase: BoughtItem) {
        if self.purchases.len() < PURCHASES_KEPT_MAX {
            self.purchases.push(purchase);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::domain::latency::RxTimestamps;
    use crate::domain::outcome::{NotSent, RejectReason};
    use crate::domain::trade::TradeStatus;
    use crate::ledger::allowance::SharedLimit;

    const TEN: Amount = Amount::from_cents(1_000);

    #[test]
    fn each_outcome_is_counted_once() {
        let mut stats = SessionStats::default();
        stats.record_outcome(&Outcome::Bought { price: None, server_time: None });
        stats.record_outcome(&Outcome::Bought { price: Some(TEN), server_time: None });
        stats.record_outcome(&Outcome::Rejected(RejectReason::Taken));
        stats.record_outcome(&Outcome::NotSent(NotSent::Closed));
        stats.record_outcome(&Outcome::Unknown(Unknown::Cut));
        stats.record_outcome(&Outcome::Unknown(Unknown::UnknownError));
        assert_eq!((stats.bought, stats.rejected, stats.not_sent, stats.unknown), (2, 1, 1, 2));
        assert_eq!(stats.unknown_messages, 1);
        assert_eq!(stats.rejections.into_iter().collect::<Vec<_>>(), [("taken", 1)]);
    }

    #[test]
    fn purchases_are_kept_up_to_their_bound() {
        let mut stats = SessionStats::default();
        let now = Instant::now();
        let bought = BoughtItem {
            id: TradeId::new("a").unwrap(),
            at: UnixMs(0),
            entry: String::new(),
            market_name: String::new(),
            price: TEN,
            reference: None,
            margin: None,
            steps: LatencyBreakdown {
                arrival: RxTimestamps::at(now),
                parsed: now,
                decided: now,
                reserved: now,
                serialized: now,
                written: now,
            },
            response_time: Duration::ZERO,
            is_cancelled: false,
        };
        for _ in 0..PURCHASES_KEPT_MAX + 10 {
            stats.add_purchase(bought.clone());
        }
        assert_eq!(stats.purchases.len(), PURCHASES_KEPT_MAX);
    }

    #[test]
    fn a_reason_has_a_name_for_json_and_a_text_for_users() {
        let mut stats = SessionStats::default();
        stats.skip(RiskRejection::Standby);
        stats.skip(RiskRejection::OrderedTooOften { max: 3 });
        stats.skip(RiskRejection::SharedQuantity {
            limit: SharedLimit::GroupQuantity,
            bought: 1,
            slice: 1,
        });
        stats.skip(SkipReason::CannotJoin);
        stats.skip(CountedReason::STOPPING);
        let json = serde_json::to_value(&stats.skipped).unwrap();
        assert_eq!((&json["standby"], &json["repriced_too_often"]), (&1.into(), &1.into()));
        let texts: Vec<&str> = stats.skipped.keys().map(|reason| reason.text).collect();
        assert_eq!(
            texts,
            [
                "the market does not allow this account to buy it now",
                "ordered too often",
                "over the slice of max_quantity of its group",
                "this bot was on standby",
                "the bot was stopping",
            ]
        );
    }

    #[test]
    fn the_summary_repeats_the_reason_of_the_log() {
        let amount = Some(Amount::from_cents(1_015));
        let [full, partial] = [Some(Percent::from_hundredths(150)), None]
            .map(|claimed| SkipReason::Markup { claimed, total: amount, base: amount });
        for reason in [
            SkipReason::Status(TradeStatus::Joined),
            SkipReason::CannotJoin,
            SkipReason::Own,
            SkipReason::Items(0),
            SkipReason::Items(2),
            SkipReason::Expired,
            full,
            partial,
        ] {
            // Only figures may follow.
            let text = CountedReason::from(reason).text;
            let figures = reason.to_string().strip_prefix(text).map(str::to_owned);
            let is_set_off = |rest: String| rest.is_empty() || rest.starts_with([' ', ',', ':']);
            assert!(figures.is_some_and(is_set_off), "{reason}: {text}");
        }
    }

    #[test]
    fn skips_are_counted_by_their_reason() {
        let mut stats = SessionStats::default();
        stats.skip("expired");
        stats.skip("expired");
        stats.skip("own");
        assert_eq!(stats.skipped_total(), 3);
        assert_eq!(stats.skipped.get("expired"), Some(&2));
    }

    #[test]
    fn an_order_that_turns_out_bought_and_one_that_is_returned_are_counted() {
        let mut stats = SessionStats::default();
        stats.record_outcome(&Outcome::Bought { price: None, server_time: None });
        let id = TradeId::new("a").unwrap();
        use OrderState::{Bought, Returned, Returning, Unknown};
        for (from, to) in [(Unknown, Bought), (Bought, Returning), (Returning, Returned)] {
            stats.record_change(&StateChange { id, from, to, price: TEN });
        }
        assert_eq!((stats.bought, stats.bought_in_all(), stats.returned), (1, 2, 1));
    }
}
