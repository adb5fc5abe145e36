//! What an answer changes: the ledger, the counts, the server's clock.

use super::{
    Buys,
    core::{Core, Hand, NAMES_MAX, Now},
    say,
    tally::Bought,
};
use crate::{
    buyer::answer::{Answer, Report},
    csgoroll::answer,
    outcome::{Outcome, Unknown},
    server_clock::Exchange,
};

/// How much of an answer that was no purchase is kept for a person to read, in bytes.
const WORDS_BYTES_MAX: usize = 512;

impl<B: Buys> Core<B> {
    /// Takes in how one buy went on the wire.
    pub fn settle(&mut self, report: &Report, now: Now) {
        let outcome = answer::outcome(&report.id, &report.answer.as_exchange());
        self.observe_clock(report, &outcome);
        self.note(|ledger| ledger.settle(&report.id, &outcome, now.wall));
        if let Answer::Complete(response) = &report.answer
            && !matches!(outcome, Outcome::Bought { .. })
        {
            let said = response.body.get(..WORDS_BYTES_MAX).unwrap_or(&response.body);
            self.ledger.keep_words(&report.id, &String::from_utf8_lossy(said));
        }
        let Some(pending) = self.pending.remove(&report.id) else { return };
        self.tally.settle(&outcome);
        if self.names.len() < NAMES_MAX {
            self.names.insert(report.id, pending.market_name.clone());
        }
        // What was spent, and what may have been, should be seen in the account soon.
        self.wishes_to_know |= matches!(outcome, Outcome::Bought { .. } | Outcome::Unknown(_));
        if outcome == Outcome::Unknown(Unknown::Unreadable) {
            self.tally.unreadable_answers = self.tally.unreadable_answers.saturating_add(1);
        }
        let answered = report.answered.saturating_duration_since(pending.steps.written);
        say::outcome(&outcome, &pending.market_name, pending.price, answered);
        if let Outcome::Bought { price, .. } = outcome {
            self.tally.keep(Bought {
                id: report.id,
                market_name: pending.market_name,
                price: price.unwrap_or(pending.price),
                steps: pending.steps,
                answered,
            });
        }
    }

    /// An answer carries the server's time: to the second in its head, and to the millisecond in
    /// the stamp of a purchase.
    fn observe_clock(&self, report: &Report, outcome: &Outcome) {
        let exchange = Exchange { sent: report.written.begun, received: report.answered };
        if let Answer::Complete(response) = &report.answer
            && let Some(date) = response.head.date
        {
            self.clock().observe_date(exchange, date);
        }
        if let Outcome::Bought { server_time: Some(stamp), .. } = outcome {
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
