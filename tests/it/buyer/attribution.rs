//! Attribution of answers to orders: an answer that may belong to another request, because it is
//! extra, late or out of order, never makes an order rejected.

use std::time::Duration;

use sniper::{
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    execution::{ConnectionConfig, connections_for, response::OrderReport},
};

use super::{
    Bot, WAIT_MAX, assert_bought,
    market::{account, answer, bought, gzipped, rejected},
    script::{Peer, Script},
    short_deadline,
};

const TAKEN: &str = "Trade no longer available";
/// Read buffer size of the order client.
const READ_BYTES: usize = 16 * 1024;

impl Bot {
    /// Starts a client with this many connections and returns the peer of each.
    async fn scripted(
        script: &Script,
        connections: u32,
        connection_config: ConnectionConfig,
    ) -> (Self, Vec<Peer>) {
        let identity = (&script.endpoints, script.tls.clone());
        let bot = Self::connect(identity, connections, connection_config);
        let mut peers = Vec::new();
        for _ in 0..connections {
            peers.push(script.accept().await);
        }
        assert!(bot.client.warm(usize::try_from(connections).unwrap(), WAIT_MAX).await);
        (bot, peers)
    }

    /// Starts a client with one connection, over which the peer has received an order for `a`.
    async fn with_order_sent(script: &Script) -> (Self, Peer) {
        let (bot, mut peers) = Self::scripted(script, 1, ConnectionConfig::default()).await;
        let mut peer = peers.remove(0);
        bot.send("a").unwrap();
        assert_eq!(peer.request().await, "buy a");
        (bot, peer)
    }

    /// Like `with_order_sent`, after the order was rejected and the peer received the keep-warm
    /// request that confirms the rejection.
    async fn with_confirmation_pending(script: &Script) -> (Self, Peer) {
        let (mut bot, mut peer) = Self::with_order_sent(script).await;
        peer.write(&rejected(TAKEN));
        assert_unconfirmed(&bot.report().await, false);
        assert_eq!(peer.request().await, "keep-warm");
        (bot, peer)
    }

    /// Returns the final outcome of order `a`. Asserts that its connection is then replaced and
    /// that the next order uses the new one.
    async fn final_outcome(mut self, script: &Script, peer: Peer) -> Outcome {
        let report = self.report().await;
        assert_eq!((report.key.id.as_str(), report.is_final), ("a", true));
        peer.wait_for_close().await;
        let mut next = script.accept().await;
        assert!(self.is_ready().await);
        assert_eq!(self.client.in_flight_count(), 0);
        self.send("b").unwrap();
        assert_eq!(next.request().await, "buy b");
        next.write(&bought("b"));
        assert_bought(&self.report().await, "b");
        report.outcome
    }
}

#[track_caller]
fn assert_unconfirmed(report: &OrderReport, is_final: bool) {
    let unconfirmed = Outcome::Unknown(Unknown::Unconfirmed(RejectReason::Taken));
    assert_eq!((&report.outcome, report.is_final), (&unconfirmed, is_final));
}

/// Pads an answer to exactly this many bytes.
fn padded(answer: &str, bytes: usize) -> String {
    let padding = "x".repeat(bytes - answer.len() - "X: \r\n".len());
    answer.replacen("\r\n", &format!("\r\nX: {padding}\r\n"), 1)
}

#[tokio::test]
async fn a_rejection_is_final_once_the_next_response_is_that_of_the_keep_warm_request() {
    for script in [Script::plain(), Script::tls()] {
        let (mut bot, mut peer) = Bot::with_confirmation_pending(&script).await;
        assert_eq!((bot.client.ready_count(), bot.client.in_flight_count()), (0, 1));
        assert_eq!(bot.send("b"), Err(NotSent::NoConnection));
        peer.write(&account());
        let report = bot.report().await;
        assert_eq!((report.key.id.as_str(), report.is_final), ("a", true));
        assert_eq!(report.outcome, Outcome::Rejected(RejectReason::Taken));
        assert!(bot.is_ready().await);
        assert_eq!(bot.client.in_flight_count(), 0);
        bot.send("b").unwrap();
        assert_eq!(peer.request().await, "buy b", "on the same connection");
        peer.write(&bought("b"));
        assert_bought(&bot.report().await, "b");
    }
}

/// A proxy may compress although the requests accept `identity` only.
#[tokio::test]
async fn compressed_responses_are_read_like_others() {
    let script = Script::plain();
    let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
    peer.write_raw(&gzipped(&bought("a")));
    assert_bought(&bot.report().await, "a");
    assert!(bot.is_ready().await);
    bot.send("b").unwrap();
    assert_eq!(peer.request().await, "buy b", "on the same connection");
    peer.write_raw(&gzipped(&rejected(TAKEN)));
    assert_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "keep-warm");
    peer.write_raw(&gzipped(&account()));
    let report = bot.report().await;
    assert_eq!((report.key.id.as_str(), report.is_final), ("b", true));
    assert_eq!(report.outcome, Outcome::Rejected(RejectReason::Taken));
    assert!(bot.is_ready().await, "the keep-warm response was expected");
    bot.send("c").unwrap();
    assert_eq!(peer.request().await, "buy c", "on the same connection");
}

/// The confirmed rejection belonged to another request, although the connection seemed in sync.
#[tokio::test]
async fn a_late_response_that_names_a_rejected_order_is_reported_as_bought() {
    for during in ["nothing", "an order", "nothing, in two segments"] {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::with_confirmation_pending(&script).await;
        peer.write(&account());
        assert_eq!(bot.report().await.outcome, Outcome::Rejected(RejectReason::Taken));
        assert!(bot.is_ready().await);
        if during == "an order" {
            bot.send("b").unwrap();
            assert_eq!(peer.request().await, "buy b");
        }
        if during == "nothing, in two segments" {
            let response = bought("a");
            let (first, rest) = response.split_once("\"a\"").unwrap();
            peer.write(&format!("{first}\""));
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.write(&format!("a\"{rest}"));
        } else {
            peer.write(&bought("a"));
        }
        let late = bot.report().await;
        assert_eq!((late.key.id.as_str(), late.is_final), ("a", true), "{during}");
        assert!(matches!(late.outcome, Outcome::Bought { .. }), "{during}: {late:?}");
        if during == "an order" {
            let next = bot.report().await;
            assert_eq!(next.key.id.as_str(), "b");
            assert!(matches!(next.outcome, Outcome::Unknown(_)), "{next:?}");
        }
        peer.wait_for_close().await;
    }
}

#[tokio::test]
async fn a_rejection_that_names_an_earlier_rejected_listing_is_no_late_purchase() {
    let script = Script::plain();
    let (mut bot, mut peer) = Bot::with_confirmation_pending(&script).await;
    peer.write(&account());
    assert_eq!(bot.report().await.outcome, Outcome::Rejected(RejectReason::Taken));
    assert!(bot.is_ready().await);
    bot.send("b").unwrap();
    assert_eq!(peer.request().await, "buy b");
    let body = format!(r#"{{"data":null,"errors":[{{"message":"{TAKEN}","listing":"a"}}]}}"#);
    peer.write(&answer(200, "Connection: close\r\n", &body));
    let report = bot.report().await;
    assert_eq!(report.key.id.as_str(), "b", "{report:?}");
    assert!(matches!(report.outcome, Outcome::Unknown(Unknown::Unconfirmed(_))), "{report:?}");
    peer.wait_for_close().await;
}

/// The server repeats a confirmed rejection although nothing was requested since.
#[tokio::test]
async fn a_repeated_rejection_on_an_idle_connection_is_no_late_purchase() {
    let body = format!(r#"{{"data":null,"errors":[{{"message":"{TAKEN}","listing":"a"}}]}}"#);
    let repeated = answer(200, "", &body);
    let unavailable = answer(400, "", r#"{"error":"skins_unavailable","listing":"a"}"#);
    let (head, end) = repeated.split_at(repeated.len() - 3);
    let cut = unavailable.strip_suffix('}').unwrap();
    let cases = [
        (vec![repeated.clone()], false),
        (vec![head.to_owned(), end.to_owned()], false),
        (vec![unavailable.clone()], false),
        (vec![cut.to_owned()], false),
        (vec![repeated.clone() + &unavailable], false),
        (vec![repeated.clone() + &bought("a") + &bought("a")], true),
        (vec![repeated.clone(), bought("a")], true),
    ];
    for (segments, is_bought) in cases {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::with_confirmation_pending(&script).await;
        peer.write(&account());
        assert_eq!(bot.report().await.outcome, Outcome::Rejected(RejectReason::Taken));
        assert!(bot.is_ready().await);
        for segment in &segments {
            peer.write(segment);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peer.wait_for_close().await;
        let late = bot.reports.try_recv().ok().map(|late| late.outcome);
        assert_eq!(late.is_some(), is_bought, "{segments:?}: {late:?}");
        assert!(bot.reports.try_recv().is_err(), "one report at most: {segments:?}");
    }
}

#[tokio::test]
async fn a_rejection_and_its_confirmation_may_arrive_byte_by_byte() {
    let script = Script::plain();
    let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
    for byte in rejected(TAKEN).bytes() {
        peer.write_raw(&[byte]);
        tokio::task::yield_now().await;
    }
    assert_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "keep-warm");
    for byte in account().bytes() {
        peer.write_raw(&[byte]);
        tokio::task::yield_now().await;
    }
    assert_eq!(bot.report().await.outcome, Outcome::Rejected(RejectReason::Taken));
    assert!(bot.is_ready().await);
}

/// A second answer to an earlier order, a rejection, arrives just before the next order.
#[tokio::test]
async fn no_order_is_sent_on_a_connection_with_unread_data() {
    for script in [Script::plain(), Script::tls()] {
        let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
        peer.write(&bought("a"));
        assert_bought(&bot.report().await, "a");
        assert!(bot.is_ready().await);
        peer.write(&rejected(TAKEN));
        assert_eq!(bot.send("b"), Err(NotSent::Closed));
        peer.wait_for_close().await;
        let mut next = script.accept().await;
        assert!(bot.is_ready().await);
        bot.send("b").unwrap();
        assert_eq!(next.request().await, "buy b");
        assert!(bot.reports.try_recv().is_err(), "an answer without an order is not reported");
    }
}

#[tokio::test]
async fn an_order_uses_another_connection_if_one_has_unread_data() {
    let script = Script::plain();
    let (mut bot, mut peers) = Bot::scripted(&script, 2, ConnectionConfig::default()).await;
    // Both connections are idle, but one of them has unread data.
    let mut stray = peers.remove(0);
    stray.write(&rejected(TAKEN));
    bot.send("a").unwrap();
    assert_eq!(peers[0].request().await, "buy a");
    peers[0].write(&bought("a"));
    assert_bought(&bot.report().await, "a");
    stray.wait_for_close().await;
}

#[tokio::test]
async fn the_end_of_an_idle_connection_affects_no_order() {
    let timeout = answer(408, "Connection: close\r\n", "");
    for last_response in [timeout.as_str(), "garbage", ""] {
        let script = Script::plain();
        let (mut bot, mut peers) = Bot::scripted(&script, 1, ConnectionConfig::default()).await;
        let mut peer = peers.remove(0);
        peer.write(last_response);
        peer.close();
        assert_eq!(bot.send("a"), Err(NotSent::Closed), "{last_response}");
        let mut next = script.accept().await;
        assert!(bot.is_ready().await);
        bot.send("a").unwrap();
        assert_eq!(next.request().await, "buy a");
        next.write(&bought("a"));
        assert_bought(&bot.report().await, "a");
    }
}

#[tokio::test]
async fn tls_session_tickets_do_not_block_an_order() {
    let script = Script::tls();
    let (mut bot, mut peers) = Bot::scripted(&script, 1, ConnectionConfig::default()).await;
    let mut peer = peers.remove(0);
    assert!(peer.send_tickets() > 0, "the server has no tickets");
    bot.send("a").unwrap();
    assert_eq!(peer.request().await, "buy a");
    peer.write(&bought("a"));
    assert_bought(&bot.report().await, "a");
    assert!(bot.is_ready().await);
}

#[tokio::test]
async fn a_tls_record_that_began_before_an_order_is_not_its_response() {
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
    assert_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "keep-warm");
    peer.write(&bought("a"));
    let outcome = bot.final_outcome(&script, peer).await;
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_response_that_names_the_order_overrides_an_earlier_rejection() {
    let script = Script::plain();
    let (bot, mut peer) = Bot::with_confirmation_pending(&script).await;
    peer.write(&bought("a"));
    let outcome = bot.final_outcome(&script, peer).await;
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
    // If both answers arrive together, no keep-warm request is sent.
    let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
    peer.write(&format!("{}{}", rejected(TAKEN), bought("a")));
    assert_unconfirmed(&bot.report().await, false);
    let outcome = bot.final_outcome(&script, peer).await;
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_unexpected_response_after_a_rejection_makes_the_order_unknown() {
    let foreign = Unknown::Foreign;
    let cases = [
        (rejected(TAKEN), foreign),
        (rejected("something else"), foreign),
        (bought("another"), foreign),
        (answer(200, "", r#"{"data":{"currentUser":null,"joinTrades":null}}"#), foreign),
        (format!("{}{}", account(), rejected(TAKEN)), foreign),
        (format!("{}x", account()), foreign),
        (padded(&account(), READ_BYTES) + &rejected(TAKEN), foreign),
        (answer(200, "", "<html>"), Unknown::Unconfirmed(RejectReason::Challenge)),
        ("garbage\n\n".to_owned(), Unknown::Unreadable),
        (answer(502, "", "{}"), Unknown::Status { status: 502 }),
    ];
    for (next, expected) in cases {
        let script = Script::plain();
        let (bot, mut peer) = Bot::with_confirmation_pending(&script).await;
        peer.write(&next);
        assert_eq!(bot.final_outcome(&script, peer).await, Outcome::Unknown(expected), "{next}");
    }
}

#[tokio::test]
async fn data_that_arrives_together_with_a_rejection_is_not_its_confirmation() {
    let cases = [
        rejected(TAKEN) + &rejected(TAKEN),
        rejected(TAKEN) + &account(),
        // The second answer is in the socket and not yet read.
        padded(&rejected(TAKEN), READ_BYTES) + &rejected(TAKEN),
        padded(&rejected(TAKEN), READ_BYTES) + &account(),
    ];
    for both in cases {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
        peer.write(&both);
        assert_unconfirmed(&bot.report().await, false);
        // `final_outcome` asserts that no keep-warm request was sent.
        let outcome = bot.final_outcome(&script, peer).await;
        assert_eq!(outcome, Outcome::Unknown(Unknown::Foreign));
    }
}

#[tokio::test]
async fn a_close_or_silence_after_a_rejection_leaves_it_unconfirmed() {
    for script in [Script::plain(), Script::tls()] {
        let (mut bot, peer) = Bot::with_confirmation_pending(&script).await;
        peer.close();
        assert_unconfirmed(&bot.report().await, true);
    }

    let script = Script::plain();
    let (mut bot, mut peers) = Bot::scripted(&script, 1, short_deadline()).await;
    let mut peer = peers.remove(0);
    bot.send("a").unwrap();
    assert_eq!(peer.request().await, "buy a");
    peer.write(&rejected(TAKEN));
    assert_unconfirmed(&bot.report().await, false);
    assert_eq!(peer.request().await, "keep-warm");
    assert_unconfirmed(&bot.report().await, true);
    peer.wait_for_close().await;
}

#[tokio::test]
async fn a_part_of_a_response_after_a_rejection_makes_the_order_unknown() {
    for part in
        ["H", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"]
    {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::with_confirmation_pending(&script).await;
        peer.write(part);
        peer.close();
        let report = bot.report().await;
        assert_eq!((report.outcome, report.is_final), (Outcome::Unknown(Unknown::Cut), true));
    }
}

#[tokio::test]
async fn no_confirmation_is_requested_after_a_rate_limit_or_a_block() {
    let limited = RejectReason::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    let html = "Content-Type: text/html\r\n";
    let cases = [
        (answer(429, "Retry-After: 7\r\n", ""), limited),
        (answer(401, "", "{}"), RejectReason::Forbidden { status: 401 }),
        (answer(403, "", "{}"), RejectReason::Forbidden { status: 403 }),
        (answer(403, html, "<html>"), RejectReason::Challenge),
        (rejected(TAKEN).replacen("\r\n", "\r\nConnection: close\r\n", 1), RejectReason::Taken),
    ];
    for (last_response, rejection) in cases {
        let script = Script::plain();
        let (bot, mut peer) = Bot::with_order_sent(&script).await;
        peer.write(&last_response);
        // There is one report, and `final_outcome` asserts that nothing was sent after the order.
        let outcome = bot.final_outcome(&script, peer).await;
        assert_eq!(outcome, Outcome::Unknown(Unknown::Unconfirmed(rejection)), "{last_response}");
    }
    // The same applies if the keep-warm request is turned down.
    let script = Script::plain();
    let (bot, mut peer) = Bot::with_confirmation_pending(&script).await;
    peer.write(&answer(429, "Retry-After: 7\r\n", ""));
    let outcome = bot.final_outcome(&script, peer).await;
    assert_eq!(outcome, Outcome::Unknown(Unknown::Unconfirmed(limited)));
}

#[tokio::test]
async fn a_response_about_another_listing_leaves_the_order_unknown() {
    let script = Script::plain();
    let (bot, mut peer) = Bot::with_order_sent(&script).await;
    peer.write(&bought("another"));
    assert_eq!(bot.final_outcome(&script, peer).await, Outcome::Unknown(Unknown::Foreign));
}

#[tokio::test]
async fn a_second_response_ends_the_connection_and_affects_no_order() {
    for (at_once, later) in [(bought("a"), ""), (String::new(), "later")] {
        let script = Script::plain();
        let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
        peer.write(&(bought("a") + &at_once));
        assert_bought(&bot.report().await, "a");
        if later == "later" {
            assert!(bot.is_ready().await);
            peer.write(&bought("a"));
        }
        peer.wait_for_close().await;
        let mut next = script.accept().await;
        assert!(bot.is_ready().await);
        bot.send("b").unwrap();
        assert_eq!(next.request().await, "buy b");
        next.write(&bought("b"));
        assert_bought(&bot.report().await, "b");
    }
}

#[tokio::test]
async fn an_unexpected_response_to_a_keep_warm_request_ends_the_connection() {
    let script = Script::plain();
    let connection_config =
        ConnectionConfig { keep_warm: Duration::from_millis(20), ..ConnectionConfig::default() };
    let (mut bot, mut peers) = Bot::scripted(&script, 1, connection_config).await;
    let mut peer = peers.remove(0);
    for _ in 0..3 {
        assert_eq!(peer.request().await, "keep-warm");
        peer.write(&account());
    }
    assert_eq!(peer.request().await, "keep-warm");
    peer.write(&rejected(TAKEN));
    peer.wait_for_close().await;
    assert!(bot.reports.try_recv().is_err(), "the answer belongs to no order");
}

#[tokio::test]
async fn stopping_waits_for_a_confirmation_up_to_the_grace_period() {
    let script = Script::plain();
    let (mut bot, mut peer) = Bot::with_order_sent(&script).await;
    let answers = async {
        peer.write(&rejected(TAKEN));
        assert_eq!(peer.request().await, "keep-warm");
        peer.write(&account());
    };
    tokio::join!(bot.client.stop(WAIT_MAX), answers);
    assert_unconfirmed(&bot.report().await, false);
    assert_eq!(bot.report().await.outcome, Outcome::Rejected(RejectReason::Taken));

    let (mut bot, _peer) = Bot::with_confirmation_pending(&script).await;
    bot.client.stop(Duration::from_millis(50)).await;
    assert_unconfirmed(&bot.report().await, true);
    assert!(bot.reports.recv().await.is_none());
}

#[tokio::test]
async fn pending_confirmations_do_not_reduce_the_orders_in_flight() {
    const IN_FLIGHT: usize = 8;
    let script = Script::plain();
    let connections = connections_for(u32::try_from(IN_FLIGHT).unwrap());
    let (mut bot, peers) = Bot::scripted(&script, connections, ConnectionConfig::default()).await;
    for number in 0..IN_FLIGHT {
        bot.send(&format!("rejected{number}")).unwrap();
    }
    let (mut with_order, _idle): (Vec<_>, Vec<_>) = peers.into_iter().partition(Peer::has_request);
    assert_eq!(with_order.len(), IN_FLIGHT);
    for peer in &mut with_order {
        assert!(peer.request().await.starts_with("buy rejected"));
        peer.write(&rejected(TAKEN));
    }
    for _ in 0..IN_FLIGHT {
        assert_unconfirmed(&bot.report().await, false);
    }
    for number in 0..IN_FLIGHT {
        bot.send(&format!("id{number}")).unwrap();
    }
    for peer in &mut with_order {
        assert_eq!(peer.request().await, "keep-warm");
        peer.write(&account());
    }
    for _ in 0..IN_FLIGHT {
        assert_eq!(bot.report().await.outcome, Outcome::Rejected(RejectReason::Taken));
    }
}
