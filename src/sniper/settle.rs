//! What an answer changes: the ledger, the counts, the server's clock.

use super::{
    Buys,
    core::{Core, Hand, Now},
    say,
    tally::Bought,
};
use crate::{
    buyer::answer::{Answer, Report},
    ledger::{HaltReason, State},
    outcome::{Outcome, Unknown},
    server_clock::Exchange,
};

/// How much of an answer that was no purchase is kept for a person to read, in bytes.
const WORDS_BYTES_MAX: usize = 512;

impl<B: Buys> Core<B> {
    /// Takes in how one order went on the wire. Of an order with two reports the first tells the
    /// ledger alone; the last is counted and shown.
    pub fn settle(&mut self, report: &Report, now: Now) {
        self.observe_clock(report);
        self.note_outcome(report, now);
        // The words of a refusal are kept while it is unconfirmed.
        if let Answer::Complete(response) = &report.answer
            && matches!(report.outcome, Outcome::Unknown(_))
        {
            let said = response.body.get(..WORDS_BYTES_MAX).unwrap_or(&response.body);
            self.ledger.keep_words(&report.id, &String::from_utf8_lossy(said));
        }
        if !report.is_final {
            return say::unconfirmed(&report.id, &report.outcome);
        }
        let Some(pending) = self.pending.remove(&report.id) else { return };
        self.tally.settle(&report.outcome, pending.price);
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
        say::outcome(&report.outcome, &pending.market_name, pending.price, answered);
        if let Outcome::Bought { price, .. } = report.outcome {
            self.tally.keep(Bought {
                id: report.id,
                market_name: pending.market_name,
                price: price.unwrap_or(pending.price),
                steps: pending.steps,
                answered,
            });
        }
    }

    /// Tells the ledger. Between the two reports of an order the account's own list, or a person,
    /// may have settled it; then the last report changes nothing, and if it contradicts a purchase
    /// that is known by then, buying halts.
    fn note_outcome(&mut self, report: &Report, now: Now) {
        let state = self.ledger.book().intent(&report.id).map(|intent| intent.state);
        match state {
            Some(state) if !state.is_in_flight() && state != State::Unknown => {
                if state.counts() && matches!(report.outcome, Outcome::Refused(_)) {
                    let reason = HaltReason::Contradiction { id: report.id };
                    self.note(|ledger| Ok(ledger.halt(reason, now.wall)));
                }
            }
            Some(_) | None => {
                self.note(|ledger| ledger.settle(&report.id, &report.outcome, now.wall));
            }
        }
    }

    /// An answer carries the server's time: to the second in its head, and to the millisecond in
    /// the stamp of a purchase. One that may belong to an earlier request tells an earlier time.
    fn observe_clock(&self, report: &Report) {
        if !matches!(report.outcome, Outcome::Bought { .. } | Outcome::Refused(_)) {
            return;
        }
        let exchange = Exchange { sent: report.written.begun, received: report.answered };
        if let Answer::Complete(response) = &report.answer
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
        if let Hand::Live(buyer) = &self.hand
            && let Some((exchange, date)) = buyer.take_date()
        {
            self.clock().observe_date(exchange, date);
        }
    }
}
