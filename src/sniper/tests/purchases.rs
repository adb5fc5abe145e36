//! Tests of purchases that another source than the response to their order has shown.

use super::*;

impl TestSession {
    /// Reads a complete list of the account's purchases with order `a` in this status.
    fn list(&mut self, status: TradeStatus) {
        self.after += Duration::from_secs(1);
        let (now, id) = (self.now(), TradeId::new("a").unwrap());
        let trades = [OwnTrade::bare(id, status)];
        let reading = AccountReading { trades: &trades, complete: true, started: now.wall };
        self.engine.update_ledger(|ledger| Ok(ledger.reconcile(&reading, None, now.wall)));
    }

    /// Returns the entry, the price and the cancellation of each listed purchase.
    fn purchases(&self) -> Vec<(&str, i64, bool)> {
        let purchases = self.engine.stats().purchases.iter();
        purchases.map(|item| (&*item.entry, item.price.cents(), item.is_cancelled)).collect()
    }
}

#[test]
fn an_unknown_order_that_turns_out_bought_is_listed_with_its_item() {
    let entry = entry().label().to_owned();
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(Outcome::Unknown(Unknown::Cut), true);
    assert_eq!(session.purchases(), []);
    session.list(TradeStatus::Joined);
    assert_eq!(session.purchases(), [(&*entry, 1_015, false)]);
    assert!(session.engine.unresolved.is_empty(), "its item is not needed any more");
    assert_eq!(session.engine.stats().purchases[0].market_name, REDLINE);
    session.list(TradeStatus::Completed);
    assert_eq!(session.purchases().len(), 1, "it is delivered, not bought again");
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(Outcome::Unknown(Unknown::Cut), true);
    session.list(TradeStatus::Cancelled);
    assert_eq!(session.purchases(), [(&*entry, 1_015, true)]);
}

#[test]
fn an_order_that_was_resolved_before_its_last_report_is_listed_once() {
    for last in [Outcome::Unknown(Unknown::Foreign), BOUGHT] {
        let mut session = TestSession::live(ample_budget());
        session.consider(trade("a", REDLINE));
        session.settle(unconfirmed(RejectReason::Taken), false);
        session.list(TradeStatus::Joined);
        assert_eq!(session.purchases(), []);
        session.settle(last, true);
        assert_eq!(session.purchases().len(), 1);
        session.list(TradeStatus::Joined);
        assert_eq!(session.purchases().len(), 1);
    }
}
