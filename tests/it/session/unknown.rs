//! A buy of which nobody knows what became of it: asked for once, and spent until proven otherwise.

use sniper::sim::{Fault, SimServer, SimSettings, faults::FaultKind};

use super::{PLENTY, Trader, agree, cents, counted, quiet, ready, redline, skipped};
use crate::feed::Log;

#[tokio::test]
async fn what_ends_unknown_is_never_sent_again_and_counts_as_spent() {
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
        let policy = PLENTY.replace("total = 100000", "total = 15");
        let summary = Trader::live(&market, &policy)
            .trades(async |sniper| {
                ready(sniper, &market).await;
                market.offer(vec![redline(1_015)]);
                counted(sniper, |tally| tally.unknown == 1).await;
                market.offer(vec![redline(600)]);
                counted(sniper, |tally| tally.matched == 2).await;
            })
            .await;
        agree(&summary, &market);
        assert_eq!(summary.orders.unknown_coins, cents(1_015), "{kind}");
        assert_eq!(skipped(&summary, "total"), 1, "{kind}: it counts as spent");
        assert_eq!(market.books().purchases().count(), usize::from(kind.commits()), "{kind}");
        assert_eq!(summary.balance, Some(cents(50_000 - 1_015)), "{kind}: in doubt it is gone");
    });
    futures_util::future::join_all(all).await;
    assert_eq!(log.text().matches("WARN [buy] UNKNOWN, ").count(), 8);
}
