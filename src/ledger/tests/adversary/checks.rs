//! Checks of single steps: what may change the ledger, and how.

use super::*;

/// Orders and available coins before a step.
pub(super) struct BeforeStep {
    intents: Vec<Intent>,
    available: Option<Amount>,
    is_frozen: bool,
    /// The read that arrives if this step delivers one, and its begin.
    read: Option<(Read, UnixMs)>,
}

impl AdversaryMarket {
    pub(super) fn before_step(&self) -> BeforeStep {
        let LedgerState { intents, account, .. } = &self.ledger.state;
        let (intents, available) = (intents.clone(), account.available_min());
        let is_frozen = self.clocks.frozen_at.is_some();
        BeforeStep { intents, available, is_frozen, read: self.next_read() }
    }

    pub(super) fn check_step(&self, step: AdversaryStep, before: &BeforeStep) {
        if matches!(step, AdversaryStep::Restart | AdversaryStep::PowerLoss { .. }) {
            return;
        }
        let LedgerState { intents, account, halts, .. } = &self.ledger.state;
        for (before_step, after) in before.intents.iter().zip(intents) {
            let (from, to) = (before_step.state, after.state);
            let is_counted_again = !from.counts() && to.counts();
            assert!(!is_counted_again || !halts.is_empty(), "a contradiction halts: {after:#?}");
            let is_freed = from != to && to == OrderState::NotBought;
            assert!(!is_freed || !before.is_frozen, "freed by age after a clock jump: {after:#?}");
            let is_from_feed = matches!(step, AdversaryStep::Feed { .. });
            let is_delivered = from == OrderState::Bought && to == OrderState::Completed;
            assert!(!is_from_feed || from == to || is_delivered, "from the feed: {after:#?}");
            let is_price_kept = before_step.price == after.price;
            assert!(!is_from_feed || is_price_kept, "from the feed: {after:#?}");
        }
        if let (AdversaryStep::Deliver { .. }, Some((read, begun))) = (step, before.read) {
            self.check_evidence(read, begun, &before.intents);
        } else {
            let is_lowered = |(before, after): (&Intent, &Intent)| after.price < before.price;
            assert!(!before.intents.iter().zip(intents).any(is_lowered), "lowered by {step:?}");
        }
        let is_unread = matches!(step, AdversaryStep::Feed { .. } | AdversaryStep::Push { .. });
        assert!(!is_unread || account.available_min() <= before.available, "raised by the feed");
    }

    /// Checks that a read that began at this time changed nothing that it cannot prove.
    fn check_evidence(&self, read: Read, begun: UnixMs, intents: &[Intent]) {
        let changes = intents.iter().zip(&self.ledger.state.intents);
        let mut is_older_kept = false;
        for (before, after) in changes {
            let (from, to, since) = (before.state, after.state, before.changed_at);
            let is_later = if from == OrderState::Returning && to == OrderState::Returned {
                assert_eq!(read, Read::Balance, "{after:#?}");
                assert!(!is_older_kept, "released before an older order: {after:#?}");
                since < begun
            } else if from != to && matches!(from, OrderState::Returning | OrderState::Returned) {
                since.plus(SETTLE) <= begun
            } else if after.price < before.price {
                assert_eq!(read, Read::Balance, "{after:#?}");
                since < begun
            } else {
                from == to || since < begun
            };
            assert!(is_later, "changed by a read that began before: {before:#?} {after:#?}");
            is_older_kept |= to == OrderState::Returning && since < begun && from == to;
        }
        let returned = |intent: &&Intent| intent.state == OrderState::Returned;
        let returned = self.ledger.state.intents.iter().filter(returned);
        let claimed: i64 = returned.map(|it| it.price.saturating_sub(it.kept).cents()).sum();
        let refunded = self.orders.iter().filter(|order| order.refunded_at.is_some());
        let refunded: i64 = refunded.map(|it| it.price.saturating_sub(it.commission).cents()).sum();
        assert!(claimed <= refunded || self.understates || self.has_lost, "coins claimed twice");
    }

    /// Checks that a price in a response lowers nothing, that a higher one counts at once, and that
    /// one that is implausible or above the limit halts.
    pub(super) fn check_reported(&self, before: &Intent, paid: Amount) {
        let after = self.ledger.state.at(before.sequence).unwrap();
        assert!(before.price.max(paid) <= after.price, "{after:#?}");
        let is_odd = paid <= Amount::ZERO
            || before.approved < paid
            || paid.saturating_mul(10) < before.approved;
        assert!(!is_odd || !self.ledger.state.halts.is_empty(), "{paid}: {after:#?}");
    }
}
