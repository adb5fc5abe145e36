//! A buy of which nobody knows what became of it: asked for once, and spent until proven otherwise.

use sniper::{
    outcome::Unknown,
    sim::{Fault, Market, Settings, faults::Kind},
};

use super::{PLENTY, Trader, agree, cents, counted, quiet, ready, redline, skipped};
use crate::feed::Log;

#[tokio::test]
async fn what_ends_unknown_is_never_sent_again_and_counts_as_spent() {
    let log = Log::capture();
    let all = [
        Kind::CutBeforeCommit,
        Kind::CutAfterCommit,
        Kind::ServerErrorBeforeCommit,
        Kind::ServerErrorAfterCommit,
        Kind::UnknownError,
        Kind::HalfBody,
        Kind::Empty,
        Kind::Foreign,
    ]
    .map(async |kind| {
        let faults = vec![Fault::always(kind)];
        let market = Market::start(Settings { faults, ..quiet() }).unwrap();
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
        assert_eq!(summary.tally.in_doubt, cents(1_015), "{kind}");
        assert_eq!(skipped(&summary, "total"), 1, "{kind}: it counts as spent");
        assert_eq!(market.books().purchases().count(), usize::from(kind.commits()), "{kind}");
        assert_eq!(summary.balance, Some(cents(50_000 - 1_015)), "{kind}: in doubt it is gone");
    });
    futures_util::future::join_all(all).await;
    assert_eq!(log.text().matches("WARN [buy] UNKNOWN, ").count(), 8);
}

/// Nothing but the end of the bot decides about an answer that does not come within its deadline.
#[tokio::test]
async fn a_stopping_bot_waits_for_answers_and_then_says_that_it_does_not_know() {
    let faults =
        vec![Fault { kind: Kind::Hang, chance: "hang:1/2".parse::<Fault>().unwrap().chance }];
    let market = Market::start(Settings { faults, ..quiet() }).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![redline(1_015), redline(1_016)]);
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
    let reason = Unknown::Stopped;
    assert_eq!(summary.tally.unknown, 1, "{reason}");
    assert!(summary.lasted >= sniper::app::session::GRACE, "{:?}", summary.lasted);
    assert!(summary.lasted < sniper::app::session::GRACE * 2, "{:?}", summary.lasted);
}
