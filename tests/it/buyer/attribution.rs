//! Which order an answer belongs to: whatever a server sends too much, too late or in another order,
//! no order is refused by an answer that may be another's.

use std::time::Duration;

use sniper::{
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    execution::{ConnectionConfig, answer::OrderReport, connections_for},
};

use super::{
    Bot, PATIENCE, impatient, is_bought,
    market::{account, answer, bought, rejected},
    script::{Peer, Script},
};

const TAKEN: &str = "Trade no longer available";
/// As much as the buyer reads at once.
const READ_BYTES: usize = 16 * 1024;

impl Bot {
    /// With this many connections, and the peers of all of them.
    async fn scripted(
        script: &Script,
        connections: u32,
        habits: ConnectionConfig,
    ) -> (Self, Vec<Peer>) {
        let identity = (&script.endpoints, script.tls.clone());
        let bot = Self::connect(identity, connections, habits);
        let mut peers = Vec::new();
        for _ in 0..connections {
            peers.push(script.accept().await);
        }
        assert!(bot.buyer.warm(usize::try_from(connections).unwrap(), PATIENCE).await);
        (bot, peers)
    }

    /// With one connection, over which an order for `a` was written and read.
    async fn asking(script: &Script) -> (Self, Peer) {
        let (bot, mut peers) = Self::scripted(script, 1, ConnectionConfig::default()).await;
        let mut peer = peers.remove(0);
        bot.send("a").unwrap();
        assert_eq!(peer.request().await, "buy a");
        (bot, peer)
    }

    /// The same, and the order was refused and the harmless request read.
    async fn confirming(script: &Script) -> (Self, Peer) {
        let (mut bot, mut peer) = Self::asking(script).await;
        peer.write(&rejected(TAKEN));
        is_unconfirmed(&bot.report().await, false);
        assert_eq!(peer.request().await, "harmless");
        (bot, peer)
    }

    /// The last report of the order, after which its connection is replaced and nothing else comes.
    async fn ends(mut self, script: &Script, peer: Peer) -> Outcome {
        let report = self.report().await;
        assert_eq!((report.id.as_str(), report.is_final), ("a", true));
        peer.closed().await;
        let mut next = script.accept().await;
        assert!(self.is_ready().await);
        assert_eq!(self.buyer.in_flight_count(), 0);
        self.send("b").unwrap();
        assert_eq!(next.request().await, "buy b");
        next.write(&bought("b"));
        is_bought(&self.report().await, "b");
        report.outcome
    }
}

#[track_caller]
fn is_unconfirmed(report: &OrderReport, is_final: bool) {
    let unconfirmed = Outcome::Unknown(Unknown::Unconfirmed(RejectReason::Taken));
    assert_eq!((&report.outcome, report.is_final), (&unconfirmed, is_final));
}

/// An answer of exactly this many bytes.
fn padded(answer: &str, bytes: usize) -> String {
    let padding = "x".repeat(bytes - answer.len() - "X: \r\n".len());
    answer.replacen("\r\n", &format!("\r\nX: {padding}\r\n"), 1)
}

#[tokio::test]
async fn a_refusal_is_final_once_the_harmless_request_is_answered_next() {
    for script in [Script::plain(), Script::tls()] {
        let (mut bot, mut peer) = Bot::confirming(&script).await;
        assert_eq!((bot.buyer.ready_count(), bot.buyer.in_flight_count()), (0, 1));
        assert_eq!(bot.send("b"), Err(NotSent::NoConnection));
        peer.write(&account());
        let report = bot.report().await;
        assert_eq!((report.id.as_str(), report.is_final), ("a", true));
        assert_eq!(report.outcome, Outcome::Refused(RejectReason::Taken));
        assert!(bot.is_ready().await);
        assert_eq!(bot.buyer.in_flight_count(), 0);
        bot.send("b").unwrap();
        assert_eq!(peer.request().await, "buy b", "on the same connection");
        peer.write(&bought("b"));
        is_bought(&bot.report().await, "b");
    }
}

/// The rejection was another request's, and the connection seemed to be in step.
#[tokio::test]
async fn an_answer_that_names_a_rejected_order_late_is_reported_as_a_purchase() {
    for during in ["nothing", "an order"] {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::confirming(&script).await;
        peer.write(&account());
        assert_eq!(bot.report().await.outcome, Outcome::Refused(RejectReason::Taken));
        assert!(bot.is_ready().await);
        if during == "an order" {
            bot.send("b").unwrap();
            assert_eq!(peer.request().await, "buy b");
        }
        peer.write(&bought("a"));
        let late = bot.report().await;
        assert_eq!((late.id.as_str(), late.is_final), ("a", true), "{during}");
        assert!(matches!(late.outcome, Outcome::Bought { .. }), "{during}: {late:?}");
        if during == "an order" {
            let next = bot.report().await;
            assert_eq!(next.id.as_str(), "b");
            assert!(matches!(next.outcome, Outcome::Unknown(_)), "{next:?}");
        }
        peer.closed().await;
    }
}

#[tokio::test]
async fn a_refusal_and_its_confirmation_may_arrive_byte_by_byte() {
    let script = Script::plain();
    let (mut bot, mut peer) = Bot::asking(&script).await;
    for byte in rejected(TAKEN).bytes() {
        peer.write_raw(&[byte]);
        tokio::task::yield_now().await;
    }
    is_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "harmless");
    for byte in account().bytes() {
        peer.write_raw(&[byte]);
        tokio::task::yield_now().await;
    }
    assert_eq!(bot.report().await.outcome, Outcome::Refused(RejectReason::Taken));
    assert!(bot.is_ready().await);
}

/// The answer to an earlier order comes once more, as a refusal, just before the next order.
#[tokio::test]
async fn no_order_is_written_where_an_answer_has_arrived_that_the_runtime_has_not_seen_yet() {
    for script in [Script::plain(), Script::tls()] {
        let (mut bot, mut peer) = Bot::asking(&script).await;
        peer.write(&bought("a"));
        is_bought(&bot.report().await, "a");
        assert!(bot.is_ready().await);
        peer.write(&rejected(TAKEN));
        assert_eq!(bot.send("b"), Err(NotSent::Closed));
        peer.closed().await;
        let mut next = script.accept().await;
        assert!(bot.is_ready().await);
        bot.send("b").unwrap();
        assert_eq!(next.request().await, "buy b");
        assert!(bot.reports.try_recv().is_err(), "an answer to no order is no report");
    }
}

#[tokio::test]
async fn an_order_goes_to_another_connection_where_one_has_something_to_read() {
    let script = Script::plain();
    let (mut bot, mut peers) = Bot::scripted(&script, 2, ConnectionConfig::default()).await;
    // Both are idle; whichever it would be, the other one is taken.
    let mut stray = peers.remove(0);
    stray.write(&rejected(TAKEN));
    bot.send("a").unwrap();
    assert_eq!(peers[0].request().await, "buy a");
    peers[0].write(&bought("a"));
    is_bought(&bot.report().await, "a");
    stray.closed().await;
}

#[tokio::test]
async fn a_timeout_or_the_end_of_an_idle_connection_concerns_no_order() {
    let timeout = answer(408, "Connection: close\r\n", "");
    for last_words in [timeout.as_str(), "garbage", ""] {
        let script = Script::plain();
        let (mut bot, mut peers) = Bot::scripted(&script, 1, ConnectionConfig::default()).await;
        let mut peer = peers.remove(0);
        peer.write(last_words);
        peer.end();
        assert_eq!(bot.send("a"), Err(NotSent::Closed), "{last_words}");
        let mut next = script.accept().await;
        assert!(bot.is_ready().await);
        bot.send("a").unwrap();
        assert_eq!(next.request().await, "buy a");
        next.write(&bought("a"));
        is_bought(&bot.report().await, "a");
    }
}

#[tokio::test]
async fn session_tickets_are_no_answer_and_stand_in_no_orders_way() {
    let script = Script::tls();
    let (mut bot, mut peers) = Bot::scripted(&script, 1, ConnectionConfig::default()).await;
    let mut peer = peers.remove(0);
    assert!(peer.send_tickets() > 0, "the server has no tickets");
    bot.send("a").unwrap();
    assert_eq!(peer.request().await, "buy a");
    peer.write(&bought("a"));
    is_bought(&bot.report().await, "a");
    assert!(bot.is_ready().await);
}

#[tokio::test]
async fn half_a_record_decrypts_to_nothing_and_what_it_becomes_is_not_the_orders_answer() {
    let script = Script::tls();
    let (mut bot, mut peers) = Bot::scripted(&script, 1, ConnectionConfig::default()).await;
    let mut peer = peers.remove(0);
    assert!(peer.send_tickets() > 0);
    let stray = peer.encrypt(&rejected(TAKEN));
    let (first, second) = stray.split_at(stray.len() / 2);
    peer.write_raw(first);
    bot.send("a").unwrap();
    assert_eq!(peer.request().await, "buy a");
    peer.write_raw(second);
    is_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "harmless");
    peer.write(&bought("a"));
    let outcome = bot.ends(&script, peer).await;
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_that_names_the_order_behind_a_refusal_that_does_not_is_the_orders_own() {
    let script = Script::plain();
    let (bot, mut peer) = Bot::confirming(&script).await;
    peer.write(&bought("a"));
    let outcome = bot.ends(&script, peer).await;
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
    // Both answers in one piece: there is no harmless request to answer then.
    let (mut bot, mut peer) = Bot::asking(&script).await;
    peer.write(&format!("{}{}", rejected(TAKEN), bought("a")));
    is_unconfirmed(&bot.report().await, false);
    let outcome = bot.ends(&script, peer).await;
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
}

#[tokio::test]
async fn whatever_else_follows_a_refusal_makes_the_order_unknown_and_ends_the_connection() {
    let foreign = Unknown::Foreign;
    let cases = [
        (rejected(TAKEN), foreign),
        (rejected("something else"), foreign),
        (bought("another"), foreign),
        (answer(200, "", r#"{"data":{"currentUser":null,"joinTrades":null}}"#), foreign),
        (format!("{}{}", account(), rejected(TAKEN)), foreign),
        (format!("{}x", account()), foreign),
        (padded(&account(), READ_BYTES) + &rejected(TAKEN), foreign),
        (answer(200, "", "<html>"), Unknown::Unreadable),
        ("garbage\n\n".to_owned(), Unknown::Unreadable),
        (answer(502, "", "{}"), Unknown::Status { status: 502 }),
    ];
    for (next, expected) in cases {
        let script = Script::plain();
        let (bot, mut peer) = Bot::confirming(&script).await;
        peer.write(&next);
        assert_eq!(bot.ends(&script, peer).await, Outcome::Unknown(expected), "{next}");
    }
}

#[tokio::test]
async fn what_comes_right_behind_a_refusal_is_never_its_confirmation() {
    let cases = [
        rejected(TAKEN) + &rejected(TAKEN),
        rejected(TAKEN) + &account(),
        // What lies behind it is in the socket, and not yet read.
        padded(&rejected(TAKEN), READ_BYTES) + &rejected(TAKEN),
        padded(&rejected(TAKEN), READ_BYTES) + &account(),
    ];
    for both in cases {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::asking(&script).await;
        peer.write(&both);
        is_unconfirmed(&bot.report().await, false);
        // `ends` sees that no harmless request was written.
        let outcome = bot.ends(&script, peer).await;
        assert_eq!(outcome, Outcome::Unknown(Unknown::Foreign));
    }
}

#[tokio::test]
async fn an_end_or_silence_behind_a_refusal_leaves_the_order_unknown() {
    let script = Script::plain();
    let (mut bot, peer) = Bot::confirming(&script).await;
    peer.end();
    let report = bot.report().await;
    assert_eq!((report.outcome, report.is_final), (Outcome::Unknown(Unknown::Cut), true));

    let script = Script::plain();
    let (mut bot, mut peers) = Bot::scripted(&script, 1, impatient()).await;
    let mut peer = peers.remove(0);
    bot.send("a").unwrap();
    assert_eq!(peer.request().await, "buy a");
    peer.write(&rejected(TAKEN));
    is_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "harmless");
    let report = bot.report().await;
    assert_eq!((report.outcome, report.is_final), (Outcome::Unknown(Unknown::Timeout), true));
    peer.closed().await;
}

#[tokio::test]
async fn a_market_that_turns_a_request_away_gets_no_other_one() {
    let limited = RejectReason::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    let html = "Content-Type: text/html\r\n";
    let cases = [
        (answer(429, "Retry-After: 7\r\n", ""), limited),
        (answer(401, "", "{}"), RejectReason::Forbidden { status: 401 }),
        (answer(403, "", "{}"), RejectReason::Forbidden { status: 403 }),
        (answer(403, html, "<html>"), RejectReason::Challenge),
        (rejected(TAKEN).replacen("\r\n", "\r\nConnection: close\r\n", 1), RejectReason::Taken),
    ];
    for (last_words, refusal) in cases {
        let script = Script::plain();
        let (bot, mut peer) = Bot::asking(&script).await;
        peer.write(&last_words);
        // One report, and `ends` sees that nothing was written after the order.
        let outcome = bot.ends(&script, peer).await;
        assert_eq!(outcome, Outcome::Unknown(Unknown::Unconfirmed(refusal)), "{last_words}");
    }
    // The same if it is the harmless request that is turned away.
    let script = Script::plain();
    let (bot, mut peer) = Bot::confirming(&script).await;
    peer.write(&answer(429, "Retry-After: 7\r\n", ""));
    let outcome = bot.ends(&script, peer).await;
    assert_eq!(outcome, Outcome::Unknown(Unknown::Unconfirmed(limited)));
}

#[tokio::test]
async fn an_answer_about_another_listing_leaves_the_order_unknown() {
    let script = Script::plain();
    let (bot, mut peer) = Bot::asking(&script).await;
    peer.write(&bought("another"));
    assert_eq!(bot.ends(&script, peer).await, Outcome::Unknown(Unknown::Foreign));
}

#[tokio::test]
async fn a_second_answer_ends_the_connection_and_concerns_no_order() {
    for (at_once, later) in [(bought("a"), ""), (String::new(), "later")] {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::asking(&script).await;
        peer.write(&(bought("a") + &at_once));
        is_bought(&bot.report().await, "a");
        if later == "later" {
            assert!(bot.is_ready().await);
            peer.write(&bought("a"));
        }
        peer.closed().await;
        let mut next = script.accept().await;
        assert!(bot.is_ready().await);
        bot.send("b").unwrap();
        assert_eq!(next.request().await, "buy b");
        next.write(&bought("b"));
        is_bought(&bot.report().await, "b");
    }
}

#[tokio::test]
async fn a_harmless_request_with_another_answer_than_its_own_ends_the_connection() {
    let script = Script::plain();
    let habits =
        ConnectionConfig { keep_warm: Duration::from_millis(20), ..ConnectionConfig::default() };
    let (mut bot, mut peers) = Bot::scripted(&script, 1, habits).await;
    let mut peer = peers.remove(0);
    for _ in 0..3 {
        assert_eq!(peer.request().await, "harmless");
        peer.write(&account());
    }
    assert_eq!(peer.request().await, "harmless");
    peer.write(&rejected(TAKEN));
    peer.closed().await;
    assert!(bot.reports.try_recv().is_err(), "it is about no order");
}

#[tokio::test]
async fn stopping_lets_a_confirmation_finish_within_the_grace_and_no_longer() {
    let script = Script::plain();
    let (mut bot, mut peer) = Bot::asking(&script).await;
    let answers = async {
        peer.write(&rejected(TAKEN));
        assert_eq!(peer.request().await, "harmless");
        peer.write(&account());
    };
    tokio::join!(bot.buyer.stop(PATIENCE), answers);
    is_unconfirmed(&bot.report().await, false);
    assert_eq!(bot.report().await.outcome, Outcome::Refused(RejectReason::Taken));

    let (mut bot, _peer) = Bot::confirming(&script).await;
    bot.buyer.stop(Duration::from_millis(50)).await;
    is_unconfirmed(&bot.report().await, true);
    assert!(bot.reports.recv().await.is_none());
}

#[tokio::test]
async fn while_as_many_refusals_are_confirmed_as_may_be_in_flight_as_many_orders_can_be_sent() {
    const IN_FLIGHT: usize = 8;
    let script = Script::plain();
    let connections = connections_for(u32::try_from(IN_FLIGHT).unwrap());
    let (mut bot, peers) = Bot::scripted(&script, connections, ConnectionConfig::default()).await;
    for number in 0..IN_FLIGHT {
        bot.send(&format!("lost{number}")).unwrap();
    }
    let (mut asked, _idle): (Vec<_>, Vec<_>) = peers.into_iter().partition(Peer::has_request);
    assert_eq!(asked.len(), IN_FLIGHT);
    for peer in &mut asked {
        assert!(peer.request().await.starts_with("buy lost"));
        peer.write(&rejected(TAKEN));
    }
    for _ in 0..IN_FLIGHT {
        is_unconfirmed(&bot.report().await, false);
    }
    for number in 0..IN_FLIGHT {
        bot.send(&format!("id{number}")).unwrap();
    }
    for peer in &mut asked {
        assert_eq!(peer.request().await, "harmless");
        peer.write(&account());
    }
    for _ in 0..IN_FLIGHT {
        assert_eq!(bot.report().await.outcome, Outcome::Refused(RejectReason::Taken));
    }
}
