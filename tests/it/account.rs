//! Account reads over real sockets: results, failure causes, paging and back-fill.
#![expect(clippy::unwrap_used, reason = "an unexpected value fails the test")]

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sniper::{
    account::{
        AccountReader, AccountUpdate, IncompleteReason, LookBack, PollConfig, ReadFailure,
        ReadKind, RefreshRequests,
        backfill::{PAGES_MAX, SweepResult, sweep},
        fill_gaps, poll_account,
        purchases::PURCHASE_PAGES_MAX,
    },
    clock,
    config::{Budget, Config, Credential, Endpoints, Generation},
    domain::money::Amount,
    domain::outcome::RejectReason,
    domain::server_clock::ServerClock,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, Trade, TradeEvent, TradeStatus},
    execution::OrderClient,
    ledger::{Ledger, control, status::AccountFailure},
    markets::{MarketApi as _, csgoroll::Csgoroll},
    net::{http_client::pause_of_host, tls::Tls},
    sniper::{Engine, Executor, Now},
    ws::{self, policy::ReconnectPolicy},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::feed::feed_of;
use crate::{
    buyer::market::{Market, Reaction, Request, WAIT_MAX, answer},
    feed::{
        peer::{Server, batch},
        quick,
    },
};

const SECRET: &str = "s3cr3t-hunter2";
const DATE: &str = "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
const USER: &str = r#"{"data":{"currentUser":{"id":"VXNlcjox","suspectedTrader":true,
    "wallets":[{"id":"1","name":"MAIN","amount":12.34}]}}}"#;

fn reader(market: &Market) -> AccountReader<Csgoroll> {
    let credential = Credential::from_session(SECRET).unwrap();
    let site = Csgoroll::at(&market.endpoints, Generation::B);
    AccountReader::new(site, &market.endpoints.http, Some(&credential), &market.tls)
        .unwrap()
        .with_min_interval(Duration::ZERO)
}

fn anonymous_reader(market: &Market) -> AccountReader<Csgoroll> {
    let site = Csgoroll::at(&market.endpoints, Generation::B);
    AccountReader::new(site, &market.endpoints.http, None, &market.tls)
        .unwrap()
        .with_min_interval(Duration::ZERO)
}

/// Returns the time `seconds` after the market's `Date` header.
fn moment(seconds: i64) -> UnixMs {
    let UnixMs(date) = UnixMs::parse("2026-03-01T10:00:00Z").unwrap();
    UnixMs(date + seconds * 1_000)
}

/// Returns a page of trades with these ids and ages in seconds.
fn page(nodes: &[(String, i64)], next: Option<String>) -> String {
    let edges: Vec<Value> = nodes
        .iter()
        .map(|(id, age)| {
            let created = moment(-age).to_string();
            json!({"node": {"id": id, "status": "JOINED", "totalValue": 1.5, "createdAt": created}})
        })
        .collect();
    let info = json!({"hasNextPage": next.is_some(), "endCursor": next});
    json!({"data": {"trades": {"edges": edges, "pageInfo": info}}}).to_string()
}

/// Returns the number of the requested page, which the mock uses as its cursor.
fn page_number(request: &Request) -> i64 {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let after = body.pointer("/variables/after").and_then(Value::as_str).map(str::to_owned);
    after.map_or(0, |after| after.parse().unwrap())
}

/// Serves `pages` pages of two trades each, whose ages differ by `step_seconds`.
fn paged(pages: i64, step_seconds: i64) -> impl Fn(&Request) -> Reaction {
    move |request| {
        if request.body.contains("CurrentUser") {
            // Without a `Date`, the local clock is not compared with the times of the list.
            return Reaction::Answer(answer(200, "", USER));
        }
        let number = page_number(request);
        let node =
            |place: i64| (format!("t{}", number * 2 + place), (number * 2 + place) * step_seconds);
        let next = (number + 1 < pages).then(|| (number + 1).to_string());
        Reaction::Answer(answer(200, DATE, &page(&[node(0), node(1)], next)))
    }
}

#[tokio::test]
async fn the_current_user_is_read_with_the_credential() {
    let market = Market::plain(|_| Reaction::Answer(answer(200, DATE, USER))).await;
    let reading = reader(&market).current_user().await.unwrap();
    assert_eq!(reading.user.id, "VXNlcjox");
    assert_eq!(reading.user.balance, Some(Amount::from_cents(1_234)));
    assert_eq!(reading.user.is_flagged, Some(true));
    assert_eq!(reading.date, Some(moment(0)));
    assert!(reading.exchange.sent < reading.exchange.received);
    let requests = market.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.starts_with("POST /graphql HTTP/1.1"), "{requests:?}");
    assert!(requests[0].head.contains(&format!("cookie: session={SECRET}")), "{requests:?}");
    assert!(requests[0].head.contains("origin: https://www.csgoroll.com"), "{requests:?}");
}

#[tokio::test]
async fn reads_over_tls_require_a_trusted_certificate() {
    let react = |_: &Request| Reaction::Answer(answer(200, DATE, USER));
    let market = Market::tls(true, react).await;
    assert!(reader(&market).current_user().await.is_ok());
    let market = Market::tls(false, react).await;
    assert!(matches!(reader(&market).current_user().await, Err(ReadFailure::Http(_))));
    assert!(market.requests().is_empty());
}

/// Returns the text of a failed read and the order rejection that corresponds to it.
async fn read_failure(status: u16, headers: &str, body: &str) -> (String, Option<RejectReason>) {
    let reply = answer(status, headers, body);
    let market = Market::plain(move |_| Reaction::Answer(reply.clone())).await;
    let failure = reader(&market).current_user().await.unwrap_err();
    assert_eq!(market.requests().len(), 1, "asked again after {failure:?}");
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    (failure.to_string(), failure.reject_reason(&Csgoroll::CAPABILITIES.environment))
}

#[tokio::test]
async fn a_403_html_page_is_a_challenge_and_is_not_retried_immediately() {
    let html = "Content-Type: text/html\r\n";
    let (text, rejection) = read_failure(403, html, "<html>Just a moment").await;
    assert_eq!(rejection, Some(RejectReason::Challenge), "{text}");
    let (text, rejection) = read_failure(401, "", "{}").await;
    assert_eq!(rejection, Some(RejectReason::Forbidden { status: 401 }), "{text}");
    let (text, rejection) = read_failure(429, "Retry-After: 9\r\n", "").await;
    let retry_after = Some(Duration::from_secs(9));
    assert_eq!(rejection, Some(RejectReason::RateLimited { retry_after }), "{text}");
    let (text, rejection) = read_failure(200, "", r#"{"data":{"currentUser":null}}"#).await;
    assert_eq!(rejection, Some(RejectReason::Unauthenticated), "{text}");
    let words = r#"{"errors":[{"message":"UNAUTHENTICATED"}],"data":null}"#;
    assert_eq!(read_failure(200, "", words).await.1, Some(RejectReason::Unauthenticated));
    for (status, headers, body) in [
        (200, html, "<html>"),
        (302, "Location: /x\r\n", ""),
        (500, "", ""),
        (200, "", "{\"data\":{"),
    ] {
        assert_eq!(read_failure(status, headers, body).await.1, None, "{status} {body}");
    }
}

#[tokio::test]
async fn without_a_credential_no_account_request_is_sent() {
    let market = Market::plain(paged(1, 10)).await;
    let reader = anonymous_reader(&market);
    let (sender, mut updates) = mpsc::channel(4);
    timeout(
        WAIT_MAX,
        poll_account(&reader, PollConfig::default(), &RefreshRequests::default(), &sender),
    )
    .await
    .unwrap();
    let update = updates.recv().await.unwrap();
    let AccountUpdate::Failed { read, cause, .. } = update else { panic!("{update:?}") };
    assert_eq!((read, cause.text()), (ReadKind::Balance, "no credential is set"));
    assert!(market.requests().is_empty());
}

#[tokio::test]
async fn purchases_are_read_back_to_the_look_back_limit() {
    const DAY: i64 = 86_400;
    let market = Market::plain(paged(100, DAY)).await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    // A purchase may be of a listing that is up to three days older.
    let reading = reader.own_purchases(&user, LookBack::back_to(moment(-DAY))).await.unwrap();
    assert!(reading.is_complete());
    let ids: Vec<&str> = reading.trades.iter().map(|trade| trade.id.as_str()).collect();
    assert_eq!(ids, ["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!(reading.trades[0].status, TradeStatus::Joined);
    assert_eq!(reading.trades[0].price, Some(Amount::from_cents(150)));
    assert_eq!(market.requests().len(), 1 + 3);
}

#[tokio::test]
async fn an_endless_purchase_list_stops_at_the_page_limit_and_is_incomplete() {
    let market = Market::plain(paged(i64::MAX, 0)).await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    let reading = reader.own_purchases(&user, LookBack::back_to(moment(0))).await.unwrap();
    let bound = IncompleteReason::TooManyPages { pages: PURCHASE_PAGES_MAX };
    assert_eq!(reading.incomplete, Some(bound));
    let pages = usize::try_from(PURCHASE_PAGES_MAX).unwrap();
    assert_eq!(reading.trades.len(), 2 * pages);
    assert_eq!(market.requests().len(), 1 + pages);
}

#[tokio::test]
async fn an_unreadable_purchase_makes_the_list_incomplete() {
    let nodes = r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"JOINED"}},{"node":{}}],
        "pageInfo":{"hasNextPage":false}}}}"#;
    let market = Market::plain(move |request| {
        let body = if request.body.contains("CurrentUser") { USER } else { nodes };
        Reaction::Answer(answer(200, DATE, body))
    })
    .await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    let reading = reader.own_purchases(&user, LookBack::back_to(moment(0))).await.unwrap();
    let unreadable = IncompleteReason::Unreadable { count: 1, message: None };
    assert_eq!((reading.trades.len(), reading.is_complete()), (1, false));
    assert_eq!(reading.incomplete, Some(unreadable));
}

/// A reading can be true from the time of its request on, and a list from the time of its first
/// page.
#[tokio::test]
async fn a_reading_is_as_old_as_its_first_request() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&received);
    let pages = paged(2, 0);
    let market = Market::plain(move |request| {
        log.lock().unwrap().push(clock::now());
        std::thread::sleep(Duration::from_millis(5));
        pages(request)
    })
    .await;
    let reader = reader(&market);
    let reading = reader.current_user().await.unwrap();
    let purchases =
        reader.own_purchases(&reading.user, LookBack::back_to(moment(0))).await.unwrap();
    let received = received.lock().unwrap();
    let [user, first, _second] = received[..] else { panic!("{received:?}") };
    assert!(reading.as_of <= user, "{reading:?}, received at {user:?}");
    assert!((user..=first).contains(&purchases.started), "{purchases:?}, received at {first:?}");
}

/// Runs a sweep with a consumer. Returns its result and the delivered listings.
async fn run_sweep(
    reader: &AccountReader<Csgoroll>,
    back_to: Option<UnixMs>,
) -> (SweepResult, Vec<Trade<'static>>) {
    let (sender, mut listings) = mpsc::channel(1);
    let consumer = async {
        let mut received = Vec::new();
        while let Some(trade) = listings.recv().await {
            received.push(trade);
        }
        received
    };
    let sweep = async {
        let swept = sweep(reader, back_to, &sender).await.unwrap();
        drop(sender);
        swept
    };
    timeout(WAIT_MAX, async { tokio::join!(sweep, consumer) }).await.unwrap()
}

#[tokio::test]
async fn a_sweep_reads_back_to_the_gap_and_marks_each_listing_with_its_age() {
    let market = Market::plain(paged(100, 30)).await;
    // With and without a credential.
    for reader in [reader(&market), anonymous_reader(&market)] {
        let before = market.requests().len();
        let (swept, received) = run_sweep(&reader, Some(moment(-100))).await;
        let ids: Vec<&str> = received.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!(ids, ["t0", "t1", "t2", "t3"]);
        // `Date` has a resolution of one second, so the age is rounded up.
        let age = Duration::from_secs(31);
        assert_eq!(received[1].event, TradeEvent::BackFilled { age });
        assert_eq!((swept.listings, swept.pages, swept.complete), (4, 3, true));
        assert_eq!(market.requests().len(), before + 3);
    }
}

#[tokio::test]
async fn a_sweep_ends_only_at_a_page_without_a_new_listing() {
    let market = Market::plain(|request| {
        let node = |id: &str, age| (id.to_owned(), age);
        let (nodes, next) = match page_number(request) {
            0 => (vec![node("a", 10), node("old", 500), node("b", 20)], "1"),
            1 => (vec![node("c", 30), node("older", 600)], "2"),
            _ => (vec![node("oldest", 700)], "3"),
        };
        Reaction::Answer(answer(200, DATE, &page(&nodes, Some(next.to_owned()))))
    })
    .await;
    let (swept, received) = run_sweep(&reader(&market), Some(moment(-100))).await;
    let ids: Vec<&str> = received.iter().map(|trade| trade.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!((swept.pages, swept.complete), (3, true));
}

#[tokio::test]
async fn a_full_sweep_ends_at_the_last_page_or_at_the_page_limit() {
    let market = Market::plain(paged(3, 30)).await;
    let (swept_all, _) = run_sweep(&reader(&market), None).await;
    assert_eq!((swept_all.listings, swept_all.pages, swept_all.complete), (6, 3, true));
    let market = Market::plain(paged(i64::MAX, 0)).await;
    let (swept, _) = run_sweep(&reader(&market), None).await;
    assert_eq!((swept.pages, swept.complete), (PAGES_MAX, false));
}

#[tokio::test]
async fn a_sweep_waits_for_a_slow_consumer_and_stops_when_dropped() {
    let market = Market::plain(paged(i64::MAX, 0)).await;
    let reader = reader(&market);
    let (sender, mut listings) = mpsc::channel(1);
    {
        let sweep = sweep(&reader, None, &sender);
        tokio::pin!(sweep);
        let waited = timeout(Duration::from_millis(100), &mut sweep).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    drop(sender);
    let mut received = 0;
    while listings.recv().await.is_some() {
        received += 1;
    }
    assert_eq!((received, market.requests().len()), (1, 1));
    // The dropped sweep holds no lock of the rate limiter.
    assert!(reader.current_user().await.is_ok());
}

#[tokio::test]
async fn the_account_poller_reads_again_on_request_and_ends_with_its_receiver() {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let market = Market::plain(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        paged(1, 10)(request)
    })
    .await;
    let reader = reader(&market);
    let requests = RefreshRequests::default();
    let (sender, mut updates) = mpsc::channel(16);
    let poll_config = PollConfig { interval_min: Duration::ZERO, ..PollConfig::default() };
    let consumer = async {
        for round in 1..=3 {
            let AccountUpdate::User(reading) = updates.recv().await.unwrap() else {
                panic!("no user")
            };
            assert_eq!(reading.user.balance, Some(Amount::from_cents(1_234)));
            let AccountUpdate::Purchases(reading) = updates.recv().await.unwrap() else {
                panic!("none")
            };
            assert!(reading.is_complete());
            assert_eq!(reads.load(Ordering::Relaxed), 2 * round);
            requests.request_refresh();
        }
        drop(updates);
    };
    let watched = poll_account(&reader, poll_config, &requests, &sender);
    timeout(WAIT_MAX, async { tokio::join!(watched, consumer) }).await.unwrap();
}

#[tokio::test]
async fn an_urgent_request_does_not_wait_for_the_minimum_interval() {
    let market = Market::plain(paged(1, 10)).await;
    let reader = reader(&market);
    let (sender, mut updates) = mpsc::channel(16);
    let hour = Duration::from_secs(3_600);
    let poll_config = PollConfig { interval: hour, interval_min: hour, reads_purchases: false };
    let requests = RefreshRequests::default();
    let consumer = async {
        assert!(matches!(updates.recv().await, Some(AccountUpdate::User(_))));
        requests.request_refresh();
        let waited = timeout(Duration::from_millis(100), updates.recv()).await;
        assert!(waited.is_err(), "{waited:?}");
        requests.request_refresh_now();
        assert!(matches!(updates.recv().await, Some(AccountUpdate::User(_))));
        drop(updates);
    };
    let watched = poll_account(&reader, poll_config, &requests, &sender);
    let both = async {
        tokio::select! { () = watched => {}, () = consumer => {} }
    };
    timeout(WAIT_MAX, both).await.unwrap();
}

#[tokio::test]
async fn a_failed_read_is_reported_and_retried_after_a_delay() {
    let market = Market::plain(|_| Reaction::Answer(answer(403, "", "no"))).await;
    let reader = reader(&market);
    let (sender, mut updates) = mpsc::channel(16);
    let poll_config = PollConfig {
        interval_min: Duration::ZERO,
        reads_purchases: false,
        ..PollConfig::default()
    };
    let requests = RefreshRequests::default();
    let watched = poll_account(&reader, poll_config, &requests, &sender);
    let consumer = async {
        let update = updates.recv().await.unwrap();
        let AccountUpdate::Failed { reject_reason, .. } = update else { panic!("{update:?}") };
        assert_eq!(reject_reason, Some(RejectReason::Forbidden { status: 403 }));
        // A refresh request does not shorten the delay after a failure.
        requests.request_refresh();
        let waited = timeout(Duration::from_millis(100), updates.recv()).await;
        assert!(waited.is_err(), "{waited:?}");
        drop(updates);
    };
    let both = async {
        tokio::select! { () = watched => {}, () = consumer => {} }
    };
    timeout(WAIT_MAX, both).await.unwrap();
    assert_eq!(market.requests().len(), 1);
}

/// Answers with open listings of these ids and ages in seconds, by this machine's clock.
fn open_listings(nodes: &[(&str, i64)]) -> Reaction {
    let now = clock::now();
    let edges: Vec<Value> = nodes
        .iter()
        .map(|(id, age)| {
            let created = UnixMs(now.0 - age * 1_000).to_string();
            json!({"node": {"id": id, "status": "LISTED", "createdAt": created}})
        })
        .collect();
    let info = json!({"hasNextPage": false, "endCursor": null});
    let body = json!({"data": {"trades": {"edges": edges, "pageInfo": info}}}).to_string();
    Reaction::Answer(answer(200, "", &body))
}

/// Runs the feed with its back-fill until `listings` listings were delivered. Returns the id of
/// each, and `true` if it was back-filled.
async fn run_feed(
    server: &Server,
    market: &Market,
    (sweep_at_start, lag): (bool, Option<Duration>),
    listings: usize,
) -> Vec<(String, bool)> {
    let endpoints = Endpoints::new(&server.address, &market.endpoints.http.to_string()).unwrap();
    let mut config = Config {
        reconnection: ReconnectPolicy::new(quick()).unwrap(),
        ..Config::new(endpoints, "unused")
    };
    config.feed.sweep_at_start = sweep_at_start;
    let mut feed = feed_of(config);
    let filler = feed.fill_gaps();
    let reader = anonymous_reader(market);
    let delivered = std::cell::RefCell::new(Vec::new());
    let enough = tokio::sync::Notify::new();
    let on_trade = |trade: Trade<'_>| {
        let is_back_filled = matches!(trade.event, TradeEvent::BackFilled { .. });
        delivered.borrow_mut().push((trade.id.to_string(), is_back_filled));
        if delivered.borrow().len() == listings {
            enough.notify_one();
        }
    };
    let all = async {
        tokio::select! {
            gave_up = ws::run_with_reconnect(&feed, on_trade) => unreachable!("{gave_up}"),
            () = fill_gaps(&reader, lag, filler) => unreachable!("the feed is gone"),
            () = enough.notified() => {}
        }
    };
    assert!(timeout(WAIT_MAX, all).await.is_ok(), "delivered: {:?}", delivered.borrow());
    delivered.into_inner()
}

fn borrowed(delivered: &[(String, bool)]) -> Vec<(&str, bool)> {
    delivered.iter().map(|(id, is_back_filled)| (id.as_str(), *is_back_filled)).collect()
}

#[tokio::test]
async fn listings_missed_during_a_gap_are_delivered_once() {
    let server = Server::closing_once().await;
    let market = Market::plain(|_| {
        open_listings(&[("after", 0), ("hidden", 0), ("before", 1), ("long-known", 3_600)])
    })
    .await;
    let mut delivered = run_feed(&server, &market, (false, None), 3).await;
    assert_eq!(delivered.remove(0), ("before".to_owned(), false));
    // The feed and the page race to deliver the newest listing, and either may win.
    delivered.sort();
    assert_eq!((delivered[0].0.as_str(), borrowed(&delivered)[1]), ("after", ("hidden", true)));
    assert_eq!(market.requests().len(), 1, "the gap was read more than once");
}

#[tokio::test]
async fn a_gap_is_swept_again_where_the_market_lists_late() {
    let server = Server::closing_once().await;
    let reads = AtomicUsize::new(0);
    let market = Market::plain(move |_| {
        let first = reads.fetch_add(1, Ordering::Relaxed) == 0;
        let late: &[(&str, i64)] = if first { &[] } else { &[("late", 0)] };
        open_listings(&[late, &[("after", 0), ("long-known", 3_600)]].concat())
    })
    .await;
    let lag = Some(Duration::from_millis(50));
    let delivered = run_feed(&server, &market, (false, lag), 3).await;
    assert_eq!(delivered[2], ("late".to_owned(), true));
    assert_eq!(market.requests().len(), 2);
}

#[tokio::test]
async fn open_listings_are_read_at_start_if_configured() {
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.read_until_close().await;
    })
    .await;
    let market = Market::plain(|_| open_listings(&[("new", 0), ("old", 86_400)])).await;
    let delivered = run_feed(&server, &market, (true, None), 2).await;
    assert_eq!(borrowed(&delivered), [("new", true), ("old", true)]);
}

#[tokio::test]
async fn a_newer_gap_cancels_an_older_backfill_and_covers_its_range() {
    let reads = Arc::new(AtomicUsize::new(0));
    let reads_so_far = Arc::clone(&reads);
    let server = Server::play(move |number, mut peer| {
        let reads = Arc::clone(&reads_so_far);
        async move {
            let ids = peer.subscribed().await;
            if number == 0 {
                peer.send_text(&batch(&ids[0], &["before"])).await;
            }
            if number < 2 {
                // The second gap begins while the first one is read.
                while reads.load(Ordering::Relaxed) < number {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                peer.close(1_001, "").await;
            } else {
                peer.read_until_close().await;
            }
        }
    })
    .await;
    // The first read is never answered. Its gap is the longer one.
    let market = Market::plain(move |_| match reads.fetch_add(1, Ordering::Relaxed) {
        0 => Reaction::Silence,
        _ => open_listings(&[("hidden", 0)]),
    })
    .await;
    let delivered = run_feed(&server, &market, (false, None), 2).await;
    assert_eq!(borrowed(&delivered), [("before", false), ("hidden", true)]);
    assert_eq!(market.requests().len(), 2);
}

/// Answers with these headers and this body, byte for byte, and closes the connection.
fn raw(headers: &str, body: &[u8]) -> Reaction {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Reaction::AnswerAndClose([head.as_bytes(), body].concat())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_unrequested_compressed_response_is_read() {
    let market = Market::plain(|_| raw("Content-Encoding: gzip\r\n", &gzip(USER.as_bytes()))).await;
    let reading = reader(&market).current_user().await.unwrap();
    assert_eq!(reading.user.balance, Some(Amount::from_cents(1_234)));
    let head = &market.requests()[0].head;
    assert!(head.contains("accept-encoding: identity"), "{head}");
}

#[tokio::test]
async fn a_compressed_error_page_is_classified_by_its_status() {
    let market = Market::plain(|_| {
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Encoding: lzma\r\n\
                    Content-Length: 3\r\n\r\n";
        Reaction::AnswerAndClose([head.as_bytes(), &[0xff, 0xfe, 0xfd]].concat())
    })
    .await;
    let failure = reader(&market).current_user().await.unwrap_err();
    assert!(matches!(failure, ReadFailure::Challenge), "{failure:?}");
}

#[tokio::test]
async fn after_a_ban_no_reader_of_this_process_asks_again_before_its_end() {
    let market =
        Market::plain(|_| Reaction::Answer(answer(418, "Retry-After: 7200\r\n", ""))).await;
    let banned = reader(&market);
    let (text, remedy) = cause(&banned).await;
    assert!(text.contains("this IP address is banned for too many requests"), "{text}");
    assert!(remedy.contains("wait until the ban is over"), "{remedy}");
    let paused = pause_of_host(&market.endpoints.http.origin());
    assert!(Duration::from_secs(3_500) < paused, "the longest wait of a read: {paused:?}");
    for reader in [banned, reader(&market)] {
        let read = timeout(Duration::from_millis(300), reader.current_user()).await;
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(market.requests().len(), 1);
}

/// Returns the cause and the remedy of a read that fails with this reaction.
async fn cause_of(
    react: impl Fn(&Request) -> Reaction + Send + Sync + 'static,
) -> (String, String) {
    let market = Market::plain(react).await;
    cause(&reader(&market)).await
}

async fn cause(reader: &AccountReader<Csgoroll>) -> (String, String) {
    let failure = timeout(WAIT_MAX, reader.current_user()).await.unwrap().unwrap_err();
    let cause = failure.cause(&Csgoroll::CAPABILITIES.environment);
    (cause.text().to_owned(), cause.remedy().to_owned())
}

fn reader_at(http: &str) -> AccountReader<Csgoroll> {
    let endpoints = Endpoints::new("ws://127.0.0.1:1/ws", http).unwrap();
    let credential = Credential::from_session(SECRET).unwrap();
    let (site, tls) = (Csgoroll::at(&endpoints, Generation::B), Tls::new().unwrap());
    AccountReader::new(site, &endpoints.http, Some(&credential), &tls).unwrap()
}

#[tokio::test]
async fn an_unusable_body_is_reported_with_its_remedy() {
    let zeros = gzip(&vec![0; 8 << 20]);
    let (text, _) = cause_of(move |_| raw("Content-Encoding: gzip\r\n", &zeros)).await;
    assert_eq!(text, "the response is longer than 4194304 bytes");
    let (text, remedy) = cause_of(|_| raw("Content-Encoding: lzma\r\n", b"x")).await;
    assert!(text.ends_with("Content-Encoding 'lzma' is not supported"), "{text}");
    assert!(remedy.contains("proxy"), "{remedy}");
    let (text, _) = cause_of(|_| raw("Content-Encoding: gzip\r\n", b"<html>")).await;
    assert!(text.ends_with("could not be decompressed as gzip"), "{text}");
    let (text, _) = cause_of(|_| raw("", &[0xff])).await;
    assert_eq!(text, "the response is not UTF-8 text");
    let (text, _) = cause_of(|_| raw("", b"nonsense")).await;
    assert_eq!(text, "the response is not JSON");
    let (text, remedy) = cause_of(|_| raw("Content-Type: text/html\r\n", b"<html>")).await;
    assert!(text.contains("a web page (HTML)"), "{text}");
    assert!(remedy.contains("open the market in your browser"), "{remedy}");
    let (text, _) = cause_of(|_| raw("", br#"{"errors":[{"message":"no such field"}]}"#)).await;
    assert_eq!(text, "the market reports: no such field");
}

#[tokio::test]
async fn an_unreachable_server_is_distinguished_from_a_dropped_connection() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (text, remedy) = cause(&reader_at(&format!("http://{gone}/graphql"))).await;
    assert_eq!(text, "connection refused");
    assert!(remedy.contains("host and port"), "{remedy}");

    // Without a response of the name server, the lookup lasts until the connect deadline.
    let (text, _) = cause(&reader_at("https://sniper.invalid/graphql")).await;
    let no_name = "the host name could not be resolved (DNS)";
    assert!([no_name, "no connection to the market within 5 s"].contains(&&*text), "{text}");

    let closed = "the connection was closed before the response was complete";
    let (text, _) = cause_of(|_| Reaction::AnswerAndClose(Vec::new())).await;
    assert_eq!(text, closed);
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
    let (text, _) = cause_of(|_| Reaction::AnswerAndClose(cut.to_vec())).await;
    assert_eq!(text, closed);
    let (text, _) = cause_of(|_| Reaction::AnswerAndClose(b"220 mail\r\n\r\n".to_vec())).await;
    assert_eq!(text, "the response is not HTTP");
}

#[tokio::test]
async fn an_untrusted_certificate_is_distinguished_from_a_port_without_tls() {
    let market = Market::tls(false, |_| Reaction::Answer(answer(200, DATE, USER))).await;
    let (text, remedy) = cause(&reader(&market)).await;
    assert!(text.starts_with("certificate rejected: "), "{text}");
    assert!(remedy.contains("the date of this machine"), "{remedy}");

    // A plain HTTP server answers the TLS ClientHello with 400.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reader = reader_at(&format!("https://{}/graphql", listener.local_addr().unwrap()));
    let plain = async {
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let rejection = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(rejection).await.unwrap();
        // Waits until the client closes the connection.
        let _end = stream.read_to_end(&mut Vec::new()).await;
    };
    let ((text, remedy), ()) = tokio::join!(cause(&reader), plain);
    assert!(text.starts_with("TLS failed: "), "{text}");
    assert!(remedy.contains("serves TLS"), "{remedy}");
}

#[tokio::test]
async fn a_repeated_cursor_ends_paging_at_the_second_page() {
    let stuck = page(&[], Some("same".to_owned()));
    let market = Market::plain(move |request| {
        let body = if request.body.contains("CurrentUser") { USER } else { &stuck };
        Reaction::Answer(answer(200, DATE, body))
    })
    .await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    let reading = reader.own_purchases(&user, LookBack::back_to(moment(0))).await.unwrap();
    assert_eq!(reading.incomplete, Some(IncompleteReason::CursorRepeated { page: 2 }));
    assert_eq!(market.requests().len(), 1 + 2);
    let (swept, _) = run_sweep(&reader, None).await;
    assert_eq!((swept.pages, swept.complete), (2, false));
}

/// The engine receives the account updates and answers the `status` request.
#[tokio::test]
async fn status_names_the_failing_read() {
    let stuck = page(&[], Some("same".to_owned()));
    let null = r#"{"data":{"trades":{"edges":[null,{"node":null}],"pageInfo":{"hasNextPage":false}}},
        "errors":[{"message":"Cannot return null"}]}"#;
    let text = USER.replace("12.34", "\"12.34\"");
    let whole = page(&[], None);
    for (user, list, read, cause) in [
        (USER, &*stuck, "own purchases", "the pages repeat"),
        (
            USER,
            null,
            "own purchases",
            "2 entries of the list could not be read; the market reports: Canno",
        ),
        (&*text, &*whole, "balance", "is the text '12.34', not a number"),
        (USER, r#"{"data":{"trades":null}}"#, "own purchases", "has an unexpected shape"),
    ] {
        let (user, list) = (user.to_owned(), list.to_owned());
        let market = Market::plain(move |request| {
            let body = if request.body.contains("CurrentUser") { &user } else { &list };
            Reaction::Answer(answer(200, DATE, body))
        })
        .await;
        let failures = failures_after_one_poll(&market).await;
        let [failure] = failures.as_slice() else { panic!("{read}, {cause}: {failures:?}") };
        assert_eq!(failure.read, read, "{failure:?}");
        assert!(failure.cause.contains(cause), "{failure:?}");
        assert!(!failure.remedy.is_empty(), "{failure:?}");
    }
    // A successful read reports no failure.
    assert_eq!(failures_after_one_poll(&Market::plain(paged(1, 10)).await).await, []);
}

async fn failures_after_one_poll(market: &Market) -> Vec<AccountFailure> {
    let reader = reader(market);
    let (sender, mut updates) = mpsc::channel(16);
    let requests = RefreshRequests::default();
    let ledger = Ledger::in_memory(Budget::default(), &[], true);
    let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
    let mut engine: Engine<Arc<OrderClient>> =
        Engine::new(Arc::default(), ledger, Executor::Dry, KeyedBy::Id, clock);
    let consumer = async {
        for _ in 0..2 {
            engine.on_account_update(updates.recv().await.unwrap(), Now::read());
        }
    };
    tokio::select! {
        () = poll_account(&reader, PollConfig::default(), &requests, &sender) => {}
        () = consumer => {}
        () = tokio::time::sleep(WAIT_MAX) => panic!("nothing was read"),
    }
    let (reply, answered) = std::sync::mpsc::sync_channel(1);
    let request = control::PendingRequest { request: control::ControlRequest::Status, reply };
    engine.handle_control_request(
        &request,
        sniper::ledger::status::FeedStatus::default(),
        None,
        Now::read(),
    );
    let reply = answered.recv().unwrap();
    match reply {
        control::ControlReply::Done(status) => Some(status.account_failures),
        _ => None,
    }
    .unwrap()
}

#[tokio::test]
async fn only_the_first_purchase_read_goes_back_eight_days() {
    const DAY: i64 = 86_400;
    // Two purchases per page, listed a day apart, by this machine's clock.
    let market = Market::plain(|request| {
        if request.body.contains("CurrentUser") {
            return Reaction::Answer(answer(200, "", USER));
        }
        let number = page_number(request);
        let edge = |place: i64| {
            let age = Duration::from_secs(u64::try_from((number * 2 + place) * DAY + DAY / 2).unwrap());
            let created = clock::now().minus(age).to_string();
            let id = format!("t{}", number * 2 + place);
            json!({"node": {"id": id, "status": "COMPLETED", "totalValue": 1, "createdAt": created}})
        };
        let info = json!({"hasNextPage": true, "endCursor": (number + 1).to_string()});
        let list = json!({"data": {"trades": {"edges": [edge(0), edge(1)], "pageInfo": info}}});
        Reaction::Answer(answer(200, DATE, &list.to_string()))
    })
    .await;
    let reader = reader(&market);
    let (sender, mut updates) = mpsc::channel(16);
    let requests = RefreshRequests::default();
    let poll_config = PollConfig { interval_min: Duration::ZERO, ..PollConfig::default() };
    let consumer = async {
        let mut pages = Vec::new();
        for _ in 0..3 {
            assert!(matches!(updates.recv().await.unwrap(), AccountUpdate::User(_)));
            let AccountUpdate::Purchases(reading) = updates.recv().await.unwrap() else {
                panic!("no list")
            };
            assert!(reading.is_complete(), "{reading:?}");
            pages.push((reading.pages, reading.history.is_some()));
            requests.request_refresh();
        }
        drop(updates);
        pages
    };
    let watched = poll_account(&reader, poll_config, &requests, &sender);
    let ((), pages) = timeout(WAIT_MAX, async { tokio::join!(watched, consumer) }).await.unwrap();
    // Eight days plus the three days that a listing may be old, or the three days alone.
    assert_eq!(pages, [(6, true), (2, false), (2, false)]);
}
