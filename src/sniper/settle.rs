//! What an answer changes: the ledger, the counts, the server's clock.

use super::{
    OrderSender,
    engine::{Engine, Executor, NAMES_MAX, Now},
    stats::BoughtItem,
    trade_log,
};
use crate::{
    domain::outcome::{Outcome, Unknown},
    domain::server_clock::ClockExchange,
    execution::answer::{ExchangeResult, OrderReport},
    ledger::{HaltReason, OrderState},
    secret,
    text::beginning,
};

/// How much of an answer that was no purchase is kept for a person to read, in bytes.
const WORDS_BYTES_MAX: usize = 512;

impl<B: OrderSender> Engine<B> {
    /// Takes in how one order went on the wire. Of an order with two reports the first tells the
    /// ledger alone; the last is counted and shown.
    pub fn settle(&mut self, report: &OrderReport, now: Now) {
        self.observe_clock(report);
        self.note_outcome(report, now);
        // The words of a refusal are kept while it is unconfirmed.
        if let ExchangeResult::Complete(response) = &report.answer
            && matches!(report.outcome, Outcome::Unknown(_))
        {
            // Before it is cut: a cut credential might not be found any more.
            let said = String::from_utf8_lossy(&response.body);
            let said = secret::mask(&said);
            self.ledger.keep_words(&report.id, beginning(&said, WORDS_BYTES_MAX));
        }
        if !report.is_final {
            return trade_log::unconfirmed(&report.id, &report.outcome);
        }
        let Some(pending) = self.pending.remove(&report.id) else { return };
        self.tally.settle(&report.outcome);
        if self.names.len() < NAMES_MAX {
            self.names.insert(report.id, pending.market_name.clone());
        }
        // What was spent, and what may have been, should be seen in the account soon. A market that
        // turned an order away is not asked sooner than planned.
        self.wishes_to_know |= match report.outcome {
            Outcome::Unknown(Unknown::Unconfirmed(_))
            | Outcome::Refused(_)
            | Outcome::NotSent(_) => false,
            Outcome::Bought { .. } | Outcome::Unknown(_) => true,
        };
        if report.outcome == Outcome::Unknown(Unknown::Unreadable) {
            self.tally.unreadable_answers = self.tally.unreadable_answers.saturating_add(1);
        }
        let answered = report.answered.saturating_duration_since(pending.steps.written);
        trade_log::outcome(&report.outcome, &pending.market_name, pending.price, answered);
        if let Outcome::Bought { price, .. } = report.outcome {
            self.tally.keep(BoughtItem {
                id: report.id,
                market_name: pending.market_name,
                price: price.unwrap_or(pending.price),
                steps: pending.steps,
                answered,
            });
        }
    }

    /// Passes a report to the ledger. Between the two reports of an order the account's own list or
    /// an operator may have settled it; then the last report changes nothing, unless it contradicts
    /// that: a purchase counts again, and a rejection of what is bought halts.
    fn note_outcome(&mut self, report: &OrderReport, now: Now) {
        let state = self.ledger.book().intent(&report.id).map(|intent| intent.state);
        let is_settled =
            state.is_some_and(|state| !state.is_in_flight() && state != OrderState::Unknown);
        let counts = state.is_some_and(OrderState::counts);
        match &report.outcome {
            Outcome::Refused(_) if is_settled && counts => {
                let reason = HaltReason::Contradiction { id: report.id };
                self.note(|ledger| Ok(ledger.halt(reason, now.wall)));
            }
            Outcome::Bought { .. } if is_settled && !counts => {
                self.note(|ledger| ledger.settle(&report.id, &report.outcome, now.wall));
            }
            _ if is_settled => {}
            outcome => self.note(|ledger| ledger.settle(&report.id, outcome, now.wall)),
        }
    }

    /// An answer carries the server's time: to the second in its head, and to the millisecond in
    /// the stamp of a purchase. One that may belong to an earlier request tells an earlier time.
    fn observe_clock(&self, report: &OrderReport) {
        if !matches!(report.outcome, Outcome::Bought { .. } | Outcome::Refused(_)) {
            return;
        }
        let exchange = ClockExchange { sent: report.written.begun, received: report.answered };
        if let ExchangeResult::Complete(response) = &report.answer
            && let Some(date) = response.head.date
        {
            self.clock().observe_date(exchange, date);
        }
        if let Outcome::Bought { server_time: Some(stamp), .. } = &report.outcome {
            self.clock().observe_stamp(exchange, *stamp);
        }
    }

    /// Harmless requests carry the server's time too.
    pub(super) fn learn_the_time(&self) {
        if let Executor::Live(buyer) = &self.hand
            && let Some((exchange, date)) = buyer.take_date()
        {
            self.clock().observe_date(exchange, date);
        }
    }
}
