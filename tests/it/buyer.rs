//! The order client over real sockets: however the server behaves, each order is sent at most once
//! and each sent order is reported.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "an unexpected value fails the test"
)]

mod attribution;
mod harness;
pub(crate) mod market;
mod script;

use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use sniper::{
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::time::UnixMs,
    execution::{
        ConnectionConfig,
        response::{ExchangeResult, OrderReport, ResponseError},
    },
};

use tokio::time::timeout;

use self::harness::{Bot, SECRET, approved, body, error_of, short_deadline};
use self::market::{Market, Reaction, Request, WAIT_MAX, answer, bought, confirm_all};

/// Asserts that the report is final and that the order was bought.
#[track_caller]
fn assert_bought(report: &OrderReport, id: &str) {
    assert_eq!((report.key.id.as_str(), report.is_final), (id, true), "{report:?}");
    assert!(matches!(report.outcome, Outcome::Bought { .. }), "{report:?}");
}

/// Sends one order to a market with this reaction and waits until the client is ready again.
/// Asserts that there was exactly one request and one report.
async fn report_for(reaction: Reaction, connection_config: ConnectionConfig) -> OrderReport {
    let market = Market::plain(move |_| reaction.clone()).await;
    let mut bot = Bot::start(&market, 1, connection_config);
    assert!(bot.is_ready().await);
    let report = bot.order("a").await;
    assert!(bot.is_ready().await, "the connection was not replaced");
    assert_eq!(market.ordered_ids(), ["a"]);
    assert!(bot.reports.try_recv().is_err(), "a second report");
    assert_eq!(bot.client.in_flight_count(), 0);
    report
}

#[tokio::test]
async fn a_server_that_hangs_up_after_reading_sees_exactly_one_request() {
    let report =
        report_for(Reaction::AnswerAndClose(Vec::new()), ConnectionConfig::default()).await;
    assert_eq!(report.response, ExchangeResult::Broken { error: ResponseError::Cut, head: None });
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Cut));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer = answer(302, "Location: /elsewhere\r\n", "");
    let report = report_for(Reaction::Answer(answer), ConnectionConfig::default()).await;
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Status { status: 302 }));
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let report = report_for(Reaction::Silence, short_deadline()).await;
    assert_eq!(error_of(&report.response), Some(ResponseError::Timeout));
    assert!(report.received - report.sent.written >= short_deadline().order_timeout);
}

#[tokio::test]
async fn a_slow_response_is_read_only_if_it_ends_before_the_deadline() {
    let pieces = |text: &str| text.chars().map(String::from).collect();
    let dribble = Reaction::Dribble(pieces(&bought("a")), Duration::ZERO);
    assert_bought(&report_for(dribble, ConnectionConfig::default()).await, "a");
    let dribble = Reaction::Dribble(pieces(&"x".repeat(100_000)), Duration::from_millis(1));
    assert_eq!(
        error_of(&report_for(dribble, short_deadline()).await.response),
        Some(ResponseError::Timeout)
    );
}

#[tokio::test]
async fn chunked_and_close_delimited_responses_are_read_completely() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n";
    let report =
        report_for(Reaction::Answer(chunked.to_owned()), ConnectionConfig::default()).await;
    assert_eq!(body(&report.response), "yes");
    let unmeasured = b"HTTP/1.1 200 OK\r\n\r\nyes".to_vec();
    let report =
        report_for(Reaction::AnswerAndClose(unmeasured), ConnectionConfig::default()).await;
    assert_eq!(body(&report.response), "yes");
}

#[tokio::test]
async fn a_truncated_response_is_unknown_but_its_head_is_kept() {
    let half =
        b"HTTP/1.1 403 No\r\nCF-Mitigated: challenge\r\nContent-Length: 9\r\n\r\n<h".to_vec();
    let report = report_for(Reaction::AnswerAndClose(half), ConnectionConfig::default()).await;
    let ExchangeResult::Broken { error: ResponseError::Cut, head: Some(head) } = report.response
    else {
        panic!("{report:?}");
    };
    assert_eq!((head.status, head.mitigated), (403, true));
}

#[tokio::test]
async fn a_non_http_response_is_unknown() {
    for nonsense in
        ["nonsense\n\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let report =
            report_for(Reaction::Answer(nonsense.to_owned()), ConnectionConfig::default()).await;
        assert_eq!(error_of(&report.response), Some(ResponseError::Malformed), "{nonsense:?}");
        assert_eq!(report.outcome, Outcome::Unknown(Unknown::Unreadable));
    }
}

#[tokio::test]
async fn an_endless_response_is_cut_off() {
    let flood = Reaction::Flood(b"HTTP/1.1 200 OK\r\n\r\n".repeat(1_000));
    assert_eq!(
        error_of(&report_for(flood, ConnectionConfig::default()).await.response),
        Some(ResponseError::TooLong)
    );
}

#[tokio::test]
async fn a_challenge_page_is_recognized() {
    let headers = "Content-Type: text/html\r\nCF-Mitigated: challenge\r\n";
    let page = answer(403, headers, "<!DOCTYPE html><title>Just a moment...</title>");
    let report = report_for(Reaction::Answer(page), ConnectionConfig::default()).await;
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Unconfirmed(RejectReason::Challenge)));
    assert!(report.is_final);
}

#[tokio::test]
async fn a_429_response_carries_the_retry_after_delay() {
    let rejection = answer(429, "Retry-After: 7\r\n", "slow down");
    let report = report_for(Reaction::Answer(rejection), ConnectionConfig::default()).await;
    let retry_after = Some(Duration::from_secs(7));
    let rejection = RejectReason::RateLimited { retry_after };
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Unconfirmed(rejection)));
    assert!(report.is_final);
}

#[tokio::test]
async fn a_retry_after_date_is_relative_to_date_or_to_the_local_clock() {
    let wait = async |headers: String| {
        let rejection = Reaction::Answer(answer(429, &headers, "slow down"));
        let report = report_for(rejection, ConnectionConfig::default()).await;
        match report.outcome {
            Outcome::Unknown(Unknown::Unconfirmed(RejectReason::RateLimited {
                retry_after: Some(wait),
            })) => wait.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    let date = "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
    let until = "Retry-After: Sun, 01 Mar 2026 10:01:30 GMT\r\n";
    assert_eq!(wait(format!("{until}{date}")).await, 90);
    let now = Duration::from_millis(u64::try_from(sniper::clock::wall().0).unwrap());
    let until = httpdate::fmt_http_date(UNIX_EPOCH + now + Duration::from_secs(1_000));
    let local = wait(format!("Retry-After: {until}\r\n")).await;
    assert!((900..=1_000).contains(&local), "{local}");
}

#[tokio::test]
async fn one_connection_carries_consecutive_orders() {
    let market = Market::plain(confirm_all).await;
    let mut bot = Bot::ready(&market, 1).await;
    for id in ["a", "bb", "ccc"] {
        let report = bot.order(id).await;
        assert_bought(&report, id);
        assert!(report.sent.ready < report.sent.begun);
        assert!(bot.is_ready().await);
    }
    assert_eq!(market.connections(), 1);
    assert_eq!(market.ordered_ids(), ["a", "bb", "ccc"]);
}

#[tokio::test]
async fn cache_warming_sends_nothing_and_changes_no_later_request() {
    let market = Market::plain(confirm_all).await;
    let mut bot = Bot::ready(&market, 1).await;
    for (id, ordered) in [("a", &["a"][..]), ("bb", &["a", "bb"]), ("c", &["a", "bb", "c"])] {
        bot.client.warm_caches();
        bot.client.warm_caches();
        assert_bought(&bot.order(id).await, id);
        assert!(bot.is_ready().await);
        bot.client.warm_caches();
        assert_eq!(market.ordered_ids(), ordered);
    }
    assert_eq!(market.connections(), 1);
}

#[tokio::test]
async fn sending_an_order_allocates_nothing() {
    let market = Market::plain(confirm_all).await;
    let mut bot = Bot::ready(&market, 2).await;
    for id in ["a", "a-longer-one", "b"] {
        let approved = approved(id);
        let mut sent = None;
        let counted = allocation_counter::measure(|| sent = Some(bot.client.send(approved)));
        assert!(sent.is_some_and(|sent| sent.is_ok()));
        assert_eq!(counted.count_total, 0, "{counted:?}");
        bot.report().await;
        assert!(bot.client.warm(2, WAIT_MAX).await);
    }
}

#[tokio::test]
async fn an_idle_connection_closed_by_the_server_is_reopened_before_the_next_order() {
    let market = Market::plain(confirm_all).await;
    let mut bot = Bot::ready(&market, 2).await;
    let before = market.connections();
    market.close_idle();
    market.wait_until(|market| market.connections() >= before + 2).await;
    assert!(bot.client.warm(2, WAIT_MAX).await);
    let report = bot.order("a").await;
    assert_bought(&report, "a");
    assert!(report.sent.ready < report.sent.begun, "a cold connection");
}

#[tokio::test]
async fn connections_are_renewed_on_request_without_interrupting_an_order_in_flight() {
    let market = Market::plain(|request: &Request| match request.id() {
        Some("slow") => {
            Reaction::Dribble(vec![String::new(), bought("slow")], Duration::from_millis(300))
        }
        _ => confirm_all(request),
    })
    .await;
    let mut bot = Bot::ready(&market, 2).await;
    bot.send("slow").unwrap();
    bot.client.renew();
    assert_eq!(bot.send("a"), Err(NotSent::NoConnection));
    market.wait_until(|market| market.connections() >= 3).await;
    assert!(bot.is_ready().await);
    bot.send("b").unwrap();
    let mut answers = [bot.report().await, bot.report().await];
    answers.sort_by_key(|report| report.key.id);
    for (report, id) in answers.iter().zip(["b", "slow"]) {
        assert_bought(report, id);
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_open_by_keep_warm_requests() {
    let market = Market::plain(|request| {
        assert_eq!(request.body, "keep-warm");
        let date = "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
        Reaction::Answer(answer(200, date, r#"{"data":{"currentUser":null}}"#))
    })
    .await;
    let keep_warm = Duration::from_millis(30);
    let bot = Bot::start(&market, 2, ConnectionConfig { keep_warm, ..ConnectionConfig::default() });
    market.wait_until(|market| market.requests().len() >= 6).await;
    assert_eq!(market.connections(), 2);
    assert!(bot.client.warm(1, WAIT_MAX).await);
    let (exchange, date) = bot.client.take_date().unwrap();
    assert_eq!(Some(date), UnixMs::parse("2026-03-01T10:00:00Z"));
    assert!(exchange.sent < exchange.received);
}

#[tokio::test]
async fn a_connection_whose_keep_warm_request_is_unanswered_is_replaced() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let keep_warm = Duration::from_millis(10);
    let response_timeout = Duration::from_millis(300);
    let began = Instant::now();
    let _bot = Bot::start(
        &market,
        1,
        ConnectionConfig { keep_warm, response_timeout, ..ConnectionConfig::default() },
    );
    market.wait_until(|market| market.connections() >= 2).await;
    assert!(began.elapsed() >= response_timeout, "replaced before the deadline");
    let requests = market.requests();
    assert!(!requests.is_empty(), "replaced without a keep-warm request");
    assert!(requests.iter().all(|request| request.body == "keep-warm"), "{requests:?}");
}

#[tokio::test]
async fn a_host_that_asked_to_wait_gets_no_keep_warm_requests() {
    let market =
        Market::plain(|_| Reaction::Answer(answer(429, "Retry-After: 60\r\n", "{}"))).await;
    let keep_warm = Duration::from_millis(30);
    let _bot =
        Bot::start(&market, 1, ConnectionConfig { keep_warm, ..ConnectionConfig::default() });
    // The rejected request ends its connection, and another one is opened.
    market.wait_until(|market| market.connections() >= 2).await;
    tokio::time::sleep(keep_warm * 10).await;
    assert_eq!(market.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_is_replaced_before_its_keep_alive_timeout() {
    const HINT: &str = "\r\nKeep-Alive: timeout=3\r\n\r\n";
    let market = Market::plain(|_| Reaction::Answer(bought("a").replace("\r\n\r\n", HINT))).await;
    let mut bot = Bot::ready(&market, 1).await;
    assert_bought(&bot.order("a").await, "a");
    // The market closes no connection, and no keep-warm request is due.
    market.wait_until(|market| market.connections() >= 2).await;
    assert!(bot.is_ready().await);
    assert_eq!(market.requests().len(), 1);
}

#[tokio::test]
async fn orders_in_flight_are_limited_to_the_number_of_connections() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let mut bot = Bot::start(&market, 8, short_deadline());
    assert!(bot.client.warm(8, WAIT_MAX).await);
    for number in 0..8 {
        bot.send(&format!("id{number}")).unwrap();
    }
    assert_eq!(bot.send("id8"), Err(NotSent::NoConnection));
    assert_eq!(bot.client.in_flight_count(), 8);
    let mut reported = Vec::new();
    for _ in 0..8 {
        reported.push(bot.report().await.key.id.to_string());
    }
    reported.sort();
    let expected: Vec<String> = (0..8).map(|number| format!("id{number}")).collect();
    assert_eq!(reported, expected);
    let mut bought = market.ordered_ids();
    bought.sort();
    assert_eq!(bought, expected);
}

#[tokio::test]
async fn a_wait_for_a_connection_ends_when_an_order_can_be_sent() {
    let market = Market::plain(|request| match request.id() {
        Some("a") => Reaction::Silence,
        _ => confirm_all(request),
    })
    .await;
    let mut bot = Bot::start(&market, 1, short_deadline());
    timeout(WAIT_MAX, bot.client.ready()).await.unwrap();
    bot.send("a").unwrap();
    let mut ready = Box::pin(bot.client.ready());
    assert!((&mut ready).now_or_never().is_none(), "the only connection is busy");
    assert_eq!(bot.send("b"), Err(NotSent::NoConnection));
    // After the deadline the connection is replaced.
    timeout(WAIT_MAX, ready).await.unwrap();
    assert!(matches!(bot.report().await.outcome, Outcome::Unknown(_)));
    assert_bought(&bot.order("b").await, "b");
}

#[tokio::test]
async fn in_a_long_burst_every_listing_is_ordered_and_reported_once() {
    let market = Market::plain(confirm_all).await;
    let mut bot = Bot::ready(&market, 8).await;
    let mut expected = Vec::new();
    for number in 0..500 {
        let id = format!("id{number}");
        while bot.client.ready_count() == 0 {
            let report = bot.report().await;
            assert_bought(&report, report.key.id.as_str());
            bot.client.warm(1, WAIT_MAX).await;
        }
        bot.send(&id).unwrap();
        expected.push(id);
        while let Ok(report) = bot.reports.try_recv() {
            assert_bought(&report, report.key.id.as_str());
        }
    }
    market.wait_until(|market| market.ordered_ids().len() == 500).await;
    let mut bought = market.ordered_ids();
    bought.sort();
    expected.sort();
    assert_eq!(bought, expected);
    assert_eq!(market.connections(), 8);
}

#[tokio::test]
async fn dials_to_a_server_that_accepts_and_closes_are_limited() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let bot = Bot::start(&market, 4, ConnectionConfig::default());
    assert!(bot.is_ready().await);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(900) {
        market.close_idle();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!((5..=4 * 5).contains(&market.connections()), "{} dials", market.connections());
}

#[tokio::test]
async fn no_order_is_sent_without_a_listening_server() {
    let market = Market::plain(confirm_all).await;
    let bot = Bot::ready(&market, 2).await;
    let (endpoints, tls) = (market.endpoints.clone(), market.tls.clone());
    market.stop().await;
    let deadline = Instant::now() + WAIT_MAX;
    while bot.client.ready_count() > 0 {
        assert!(Instant::now() < deadline, "the closed connections are still in use");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let never_connected = Bot::connect((&endpoints, tls), 2, ConnectionConfig::default());
    for bot in [bot, never_connected] {
        assert_eq!(bot.send("a"), Err(NotSent::NoConnection));
        assert!(!bot.client.warm(1, Duration::from_millis(50)).await);
    }
}

#[tokio::test]
async fn orders_are_sent_over_tls_to_a_trusted_server() {
    let market = Market::tls(true, confirm_all).await;
    let mut bot = Bot::ready(&market, 2).await;
    for id in ["a", "b", "c", "d"] {
        assert_bought(&bot.order(id).await, id);
        assert!(bot.is_ready().await);
    }
    assert_eq!(market.connections(), 2);
    assert_eq!(market.ordered_ids(), ["a", "b", "c", "d"]);
    let head = market.requests()[0].head.clone();
    assert!(head.contains(&format!("\r\nCookie: session={SECRET}\r\n")), "{head}");
}

#[tokio::test]
async fn nothing_is_sent_over_tls_to_an_untrusted_server() {
    let market = Market::tls(false, confirm_all).await;
    let bot = Bot::start(&market, 1, ConnectionConfig::default());
    market.wait_until(|market| market.connections() > 0).await;
    assert!(!bot.client.warm(1, Duration::from_millis(100)).await);
    assert_eq!(bot.send("a"), Err(NotSent::NoConnection));
    assert!(market.requests().is_empty());
}

#[tokio::test]
async fn a_close_delimited_response_over_tls_is_read_up_to_close_notify() {
    let unmeasured = || Reaction::AnswerAndClose(b"HTTP/1.1 200 OK\r\n\r\nyes".to_vec());
    let market = Market::tls(true, move |_| unmeasured()).await;
    let mut bot = Bot::ready(&market, 1).await;
    assert_eq!(body(&bot.order("a").await.response), "yes");
}

#[tokio::test]
async fn stopping_waits_for_pending_responses() {
    let slow = |request: &Request| {
        let answer = bought(request.id().unwrap());
        Reaction::Dribble(vec![String::new(), answer], Duration::from_millis(50))
    };
    let market = Market::plain(slow).await;
    let mut bot = Bot::ready(&market, 2).await;
    bot.send("a").unwrap();
    bot.client.stop(WAIT_MAX).await;
    assert_eq!(bot.send("b"), Err(NotSent::Stopping));
    assert_bought(&bot.report().await, "a");
    assert!(bot.reports.recv().await.is_none(), "the report channel is still open");
    assert_eq!(market.ordered_ids(), ["a"]);
}

#[tokio::test]
async fn stopping_gives_up_on_responses_after_the_grace_period() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let mut bot = Bot::ready(&market, 2).await;
    bot.send("a").unwrap();
    let began = Instant::now();
    bot.client.stop(Duration::from_millis(50)).await;
    assert!(began.elapsed() < ConnectionConfig::default().order_timeout);
    assert_eq!(error_of(&bot.report().await.response), Some(ResponseError::Stopped));
}

#[tokio::test]
async fn stopping_is_prompt_while_dials_fail() {
    let market = Market::plain(confirm_all).await;
    let (endpoints, tls) = (market.endpoints.clone(), market.tls.clone());
    market.stop().await;
    let bot = Bot::connect((&endpoints, tls), 8, ConnectionConfig::default());
    tokio::task::yield_now().await;
    let began = Instant::now();
    bot.client.stop(WAIT_MAX).await;
    assert!(began.elapsed() < WAIT_MAX);
}

#[tokio::test]
async fn no_output_of_the_order_client_contains_the_credential() {
    let market = Market::plain(|_| Reaction::AnswerAndClose(SECRET.as_bytes().to_vec())).await;
    let mut bot = Bot::ready(&market, 1).await;
    let report = bot.order("a").await;
    let unsent = bot.client.send(approved("b"));
    let shown = format!("{:?} {report:?} {unsent:?} {:?}", bot.client, market.endpoints);
    assert!(!shown.contains(SECRET), "{shown}");
}

/// Forwards one connection to the market, and keeps the size of each read from the client and the
/// types of the TLS records in it.
async fn recording_proxy(
    market: std::net::SocketAddr,
) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<(usize, Vec<u8>)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reads, recorded) = tokio::sync::mpsc::channel(1_000);
    tokio::spawn(async move {
        let (client, _peer) = listener.accept().await.unwrap();
        let server = tokio::net::TcpStream::connect(market).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let mut records = Vec::new();
            let mut rest = buffer.get(..count).unwrap();
            while let [kind, _, _, high, low, more @ ..] = rest {
                records.push(*kind);
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = more.get(length..).unwrap_or_default();
            }
            reads.send((count, records)).await.unwrap();
            to_server.write_all(buffer.get(..count).unwrap()).await.unwrap();
        }
    });
    (address, recorded)
}

#[tokio::test]
async fn an_order_and_a_keep_warm_request_arrive_in_one_read_and_one_tls_record() {
    const APPLICATION_DATA: u8 = 23;
    let market = Market::tls(true, confirm_all).await;
    let direct = market.endpoints.http.authority().parse().unwrap();
    let (proxy, mut recorded) = recording_proxy(direct).await;
    let url = format!("https://{proxy}/graphql");
    let endpoints = sniper::config::Endpoints::new("ws://127.0.0.1:1/", &url).unwrap();
    let keep_warm = Duration::from_millis(300);
    let config = ConnectionConfig { keep_warm, ..ConnectionConfig::default() };
    let mut bot = Bot::connect((&endpoints, market.tls.clone()), 1, config);
    assert!(bot.is_ready().await);
    // The first keep-warm request ends the records of the handshake.
    market.wait_until(|market| !market.requests().is_empty()).await;
    assert!(bot.is_ready().await);
    while recorded.try_recv().is_ok() {}
    let warm_before = market.requests().len();
    for id in ["a", "b", "c"] {
        assert_bought(&bot.order(id).await, id);
        assert!(bot.is_ready().await);
    }
    market.wait_until(|market| market.requests().len() > warm_before + 3).await;
    let reads: Vec<(usize, Vec<u8>)> = std::iter::from_fn(|| recorded.try_recv().ok()).collect();
    assert!(reads.len() >= 4, "{reads:?}");
    for (bytes, records) in &reads {
        assert_eq!(*records, [APPLICATION_DATA], "{reads:?}");
        assert!(*bytes <= sniper::execution::request_size::SEGMENT_BYTES, "{reads:?}");
    }
    // A keep-warm request may be on its way at the start and at the end.
    let requests = market.requests().len() - warm_before;
    assert!((requests..=requests + 2).contains(&reads.len()), "{requests} requests: {reads:?}");
}
