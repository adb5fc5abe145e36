//! Orders with an unknown outcome: they are sent once and count as spent until proven otherwise.

use sniper::sim::{Fault, SimServer, SimSettings, faults::FaultKind};

use super::{
    AMPLE_LIMITS, TestBot, assert_agrees, cents, quiet, ready, redline, skipped, wait_for_stats,
};
use crate::feed::Log;

#[tokio::test]
async fn an_unknown_order_is_never_resent_and_counts_as_spent() {
    let log = Log::capture();
    let all = [
        FaultKind::CutBeforeCommit,
        FaultKind::CutAfterCommit,
        FaultKind::ServerErrorBeforeCommit,
        FaultKind::ServerErrorAfterCommit,
        FaultKind::UnknownError,
        FaultKind::HalfBody,
        FaultKind::Empty,
        FaultKind::Foreign,
    ]
    .map(async |kind| {
        let faults = vec![Fault::always(kind)];
        let market = SimServer::start(SimSettings { faults, ..quiet() }).unwrap();
        let policy = AMPLE_LIMITS.replace("total = 100000", "total = 15");
        let summary = TestBot::live(&market, &policy)
            .run(async |sniper| {
                ready(sniper, &market).await;
                market.list_items(vec![redline(1_015)]);
                wait_for_stats(sniper, |stats| stats.unknown == 1).await;
                market.list_items(vec![redline(600)]);
                wait_for_stats(sniper, |stats| stats.matched == 2).await;
            })
            .await;
        assert_agrees(&summary, &market);
        assert_eq!(summary.orders.unknown_coins, cents(1_015), "{kind}");
        assert_eq!(skipped(&summary, "total"), 1, "{kind}: the order counts as spent");
        assert_eq!(market.history().purchases().count(), usize::from(kind.commits()), "{kind}");
        // A later read of the account may already show that nothing was deducted.
        let lowered = summary.balance == Some(cents(50_000 - 1_015));
        let is_read_again = !kind.commits() && summary.balance == Some(cents(50_000));
        assert!(lowered || is_read_again, "{kind}: {:?}", summary.balance);
    });
    futures_util::future::join_all(all).await;
    assert_eq!(log.text().matches("WARN UNKNOWN  ").count(), 8);
}
