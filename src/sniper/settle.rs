//! Handles the responses to orders: updates the ledger, the counts and the server clock.

use super::{
    OrderSender,
    engine::{Engine, Executor, NAMES_MAX, Now},
    stats::BoughtItem,
    trade_log,
};
use crate::{
    domain::outcome::{Outcome, Unknown},
    domain::server_clock::ClockExchange,
    execution::response::{ExchangeResult, OrderReport},
    ledger::{HaltReason, OrderState},
    secret,
    text::truncated,
};

/// Maximum length of a response body that the ledger keeps for the operator, in bytes.
const RESPONSE_BYTES_MAX: usize = 512;

impl<B: OrderSender> Engine<B> {
    /// Handles the report about one order. If an order has two reports, the first updates only the
    /// ledger; the last one is also counted and logged.
    pub fn on_order_report(&mut self, report: &OrderReport, now: Now) {
        self.observe_clock(report);
        self.apply_outcome(report, now);
        // The response is kept while the outcome is unknown, which includes unconfirmed rejections.
        if let ExchangeResult::Complete(response) = &report.response
            && matches!(report.outcome, Outcome::Unknown(_))
        {
            // Masked before it is cut, because a cut credential might not be found.
            let body = String::from_utf8_lossy(&response.body);
            let body = secret::mask(&body);
            self.ledger.record_response(&report.key, truncated(&body, RESPONSE_BYTES_MAX));
        }
        if !report.is_final {
            return trade_log::unconfirmed(&report.key.id, &report.outcome);
        }
        let Some(pending) = self.pending.remove(&report.key) else { return };
        self.has_unknown_changed |= matches!(report.outcome, Outcome::Unknown(_));
        self.stats.record_outcome(&report.outcome);
        if self.names.len() < NAMES_MAX {
            self.names.insert(report.key.id, pending.market_name.clone());
        }
        // The account should soon show what was or may have been spent. After a rejection it is read
        // at the usual interval.
        self.needs_refresh |= match report.outcome {
            Outcome::Unknown(Unknown::Unconfirmed(_))
            | Outcome::Rejected(_)
            | Outcome::NotSent(_) => false,
            Outcome::Bought { .. } | Outcome::Unknown(_) => true,
        };
        if report.outcome == Outcome::Unknown(Unknown::Unreadable) {
            self.stats.unreadable_responses = self.stats.unreadable_responses.saturating_add(1);
        }
        let response_time = report.received.saturating_duration_since(pending.steps.written);
        let snapshot = matches!(report.outcome, Outcome::Bought { .. })
            .then(|| self.ledger.snapshot(now.wall));
        let order = trade_log::OrderResult {
            id: report.key.id,
            name: &pending.market_name,
            price: pending.price,
            response_time,
            market_error: report.market_error.clone(),
        };
        trade_log::outcome(&report.outcome, &order, snapshot.as_ref());
        if let Outcome::Bought { price, .. } = report.outcome {
            self.stats.add_purchase(BoughtItem {
                id: report.key.id,
                market_name: pending.market_name,
                price: price.unwrap_or(pending.price),
                steps: pending.steps,
                response_time,
                is_cancelled: false,
            });
        }
    }

    /// Passes a report to the ledger. Between the two reports of an order, the account's own list or
    /// an operator may have settled it. The last report then changes nothing unless it contradicts
    /// that: a purchase counts again, and a rejection of a bought order halts ordering.
    fn apply_outcome(&mut self, report: &OrderReport, now: Now) {
        let state = self.ledger.state().order(&report.key).map(|intent| intent.state);
        let is_settled =
            state.is_some_and(|state| !state.is_in_flight() && state != OrderState::Unknown);
        let counts = state.is_some_and(OrderState::counts);
        match &report.outcome {
            Outcome::Rejected(_) if is_settled && counts => {
                let reason = HaltReason::Contradiction { id: report.key.id };
                self.update_ledger(|ledger| Ok(ledger.halt(reason, now.wall)));
            }
            Outcome::Bought { .. } if is_settled && !counts => {
                self.update_ledger(|ledger| ledger.settle(&report.key, &report.outcome, now.wall));
            }
            _ if is_settled => {}
            outcome => self.update_ledger(|ledger| ledger.settle(&report.key, outcome, now.wall)),
        }
    }

    /// Observes the server's time in a response: to the second in its `Date` header, to the
    /// millisecond in the stamp of a purchase. Unknown outcomes are ignored, because their response may
    /// belong to an earlier request.
    fn observe_clock(&self, report: &OrderReport) {
        if !matches!(report.outcome, Outcome::Bought { .. } | Outcome::Rejected(_)) {
            return;
        }
        let exchange = ClockExchange { sent: report.sent.begun, received: report.received };
        if let ExchangeResult::Complete(response) = &report.response
            && let Some(date) = response.head.date
        {
            self.clock().observe_date(exchange, date);
        }
        if let Outcome::Bought { server_time: Some(stamp), .. } = &report.outcome {
            self.clock().observe_stamp(exchange, *stamp);
        }
    }

    /// Observes the `Date` of responses that were not an order's.
    pub(super) fn observe_server_date(&self) {
        if let Executor::Live(client) = &self.executor
            && let Some((exchange, date)) = client.take_date()
        {
            self.clock().observe_date(exchange, date);
        }
    }
}
