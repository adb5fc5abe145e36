//! Cold reads over real sockets: what the account shows, what it does not, and how little is asked.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as expected fails the test")]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use sniper::{
    account::{
        BackFills, Found, Habits, News, ReadFailure, Reader, Requests, back_fill,
        reader::PURCHASE_PAGES_MAX, sweep, sweep::PAGES_MAX, watch,
    },
    config::{Credential, Generation},
    money::Coins,
    outcome::Refusal,
    time::UnixMs,
    trade::{Event, Status, Trade},
};
use tokio::{sync::mpsc, time::timeout};

use crate::buyer::market::{Market, PATIENCE, Reaction, Request, answer};

const SECRET: &str = "s3cr3t-hunter2";
const DATE: &str = "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
const USER: &str = r#"{"data":{"currentUser":{"id":"VXNlcjox","suspectedTrader":true,
    "dailyWithdrawLimit":500,"wallets":[{"id":"1","name":"MAIN","amount":12.34}]}}}"#;

fn reader(market: &Market) -> Reader {
    let credential = Credential::from_session(SECRET).unwrap();
    Reader::new(&market.endpoints, Some(&credential), Generation::B, &market.tls)
        .unwrap()
        .with_distance(Duration::ZERO)
}

fn nobody(market: &Market) -> Reader {
    Reader::new(&market.endpoints, None, Generation::B, &market.tls)
        .unwrap()
        .with_distance(Duration::ZERO)
}

/// A moment so many seconds after the market's `Date`.
fn moment(seconds: i64) -> UnixMs {
    let UnixMs(date) = UnixMs::parse("2026-03-01T10:00:00Z").unwrap();
    UnixMs(date + seconds * 1_000)
}

/// A page of what the request asks for: nodes with these ids and ages in seconds.
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

/// Which page is asked for: the cursor is its number.
fn page_number(request: &Request) -> i64 {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let after = body.pointer("/variables/after").and_then(Value::as_str).map(str::to_owned);
    after.map_or(0, |after| after.parse().unwrap())
}

/// Two nodes a page, ten seconds apart, for as many pages as there are.
fn paged(pages: i64, step_seconds: i64) -> impl Fn(&Request) -> Reaction {
    move |request| {
        if request.body.contains("CurrentUser") {
            return Reaction::Answer(answer(200, DATE, USER));
        }
        let number = page_number(request);
        let node =
            |place: i64| (format!("t{}", number * 2 + place), (number * 2 + place) * step_seconds);
        let next = (number + 1 < pages).then(|| (number + 1).to_string());
        Reaction::Answer(answer(200, DATE, &page(&[node(0), node(1)], next)))
    }
}

#[tokio::test]
async fn who_we_are_is_read_with_our_credential() {
    let market = Market::plain(|_| Reaction::Answer(answer(200, DATE, USER))).await;
    let reading = reader(&market).current_user().await.unwrap();
    assert_eq!(reading.user.id, "VXNlcjox");
    assert_eq!(reading.user.balance, Some(Coins::from_cents(1_234)));
    assert_eq!(reading.user.suspected_trader, Some(true));
    assert_eq!(reading.date, Some(moment(0)));
    assert!(reading.exchange.sent < reading.exchange.received);
    let requests = market.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.starts_with("POST /graphql HTTP/1.1"), "{requests:?}");
    assert!(requests[0].head.contains(&format!("cookie: session={SECRET}")), "{requests:?}");
    assert!(requests[0].head.contains("origin: https://www.csgoroll.com"), "{requests:?}");
}

#[tokio::test]
async fn over_tls_reads_go_only_to_a_server_that_proves_who_it_is() {
    let react = |_: &Request| Reaction::Answer(answer(200, DATE, USER));
    let market = Market::tls(true, react).await;
    assert!(reader(&market).current_user().await.is_ok());
    let market = Market::tls(false, react).await;
    assert!(matches!(reader(&market).current_user().await, Err(ReadFailure::Http(_))));
    assert!(market.requests().is_empty());
}

/// How a failure reads, and which refusal of a buy it amounts to.
async fn failure(status: u16, headers: &str, body: &str) -> (String, Option<Refusal>) {
    let reply = answer(status, headers, body);
    let market = Market::plain(move |_| Reaction::Answer(reply.clone())).await;
    let failure = reader(&market).current_user().await.unwrap_err();
    assert_eq!(market.requests().len(), 1, "asked again after {failure:?}");
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    (failure.to_string(), failure.refusal())
}

#[tokio::test]
async fn what_stands_in_the_way_is_said_and_never_tried_again_at_once() {
    let html = "Content-Type: text/html\r\n";
    let (text, refusal) = failure(403, html, "<html>Just a moment").await;
    assert_eq!(refusal, Some(Refusal::Challenge), "{text}");
    let (text, refusal) = failure(401, "", "{}").await;
    assert_eq!(refusal, Some(Refusal::Forbidden { status: 401 }), "{text}");
    let (text, refusal) = failure(429, "Retry-After: 9\r\n", "").await;
    let retry_after = Some(Duration::from_secs(9));
    assert_eq!(refusal, Some(Refusal::RateLimited { retry_after }), "{text}");
    let (text, refusal) = failure(200, "", r#"{"data":{"currentUser":null}}"#).await;
    assert_eq!(refusal, Some(Refusal::Unauthenticated), "{text}");
    let words = r#"{"errors":[{"message":"UNAUTHENTICATED"}],"data":null}"#;
    assert_eq!(failure(200, "", words).await.1, Some(Refusal::Unauthenticated));
    for (status, headers, body) in [
        (200, html, "<html>"),
        (302, "Location: /x\r\n", ""),
        (500, "", ""),
        (200, "", "{\"data\":{"),
    ] {
        assert_eq!(failure(status, headers, body).await.1, None, "{status} {body}");
    }
}

#[tokio::test]
async fn without_a_credential_nothing_is_asked_about_an_account() {
    let market = Market::plain(paged(1, 10)).await;
    let reader = nobody(&market);
    let (sender, mut news) = mpsc::channel(4);
    timeout(PATIENCE, watch(&reader, Habits::default(), &Requests::default(), &sender))
        .await
        .unwrap();
    let said = news.recv().await.unwrap();
    assert!(matches!(said, News::Failed(ReadFailure::NoCredential)), "{said:?}");
    assert!(market.requests().is_empty());
}

#[tokio::test]
async fn purchases_are_read_back_to_where_they_matter() {
    const DAY: i64 = 86_400;
    let market = Market::plain(paged(100, DAY)).await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    // What was listed three days before may still have been bought since.
    let reading = reader.own_purchases(&user, moment(-DAY)).await.unwrap();
    assert!(reading.complete);
    let ids: Vec<&str> = reading.trades.iter().map(|trade| trade.id.as_str()).collect();
    assert_eq!(ids, ["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!(reading.trades[0].status, Status::Joined);
    assert_eq!(reading.trades[0].price, Some(Coins::from_cents(150)));
    assert_eq!(market.requests().len(), 1 + 3);
}

#[tokio::test]
async fn a_list_of_purchases_without_end_is_read_in_part_and_called_incomplete() {
    let market = Market::plain(paged(i64::MAX, 0)).await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    let reading = reader.own_purchases(&user, moment(0)).await.unwrap();
    assert!(!reading.complete);
    let pages = usize::try_from(PURCHASE_PAGES_MAX).unwrap();
    assert_eq!(reading.trades.len(), 2 * pages);
    assert_eq!(market.requests().len(), 1 + pages);
}

#[tokio::test]
async fn a_purchase_that_cannot_be_read_makes_the_list_incomplete() {
    let nodes =
        r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"JOINED"}},{"node":{}}]}}}"#;
    let market = Market::plain(move |request| {
        let body = if request.body.contains("CurrentUser") { USER } else { nodes };
        Reaction::Answer(answer(200, DATE, body))
    })
    .await;
    let reader = reader(&market);
    let user = reader.current_user().await.unwrap().user;
    let reading = reader.own_purchases(&user, moment(0)).await.unwrap();
    assert_eq!((reading.trades.len(), reading.unreadable, reading.complete), (1, 1, false));
}

/// Sweeps with a taker, and returns what came out.
async fn swept(reader: &Reader, back_to: Option<UnixMs>) -> (sweep::Swept, Vec<Trade<'static>>) {
    let (sender, mut listings) = mpsc::channel(1);
    let taker = async {
        let mut taken = Vec::new();
        while let Some(found) = listings.recv().await {
            let Found::Listing(trade) = found else { panic!("{found:?}") };
            taken.push(*trade);
        }
        taken
    };
    let sweep = async {
        let swept = sweep(reader, back_to, &sender).await.unwrap();
        drop(sender);
        swept
    };
    timeout(PATIENCE, async { tokio::join!(sweep, taker) }).await.unwrap()
}

#[tokio::test]
async fn a_sweep_reads_back_to_the_gap_and_marks_each_listing_with_its_age() {
    let market = Market::plain(paged(100, 30)).await;
    // With and without a credential.
    for reader in [reader(&market), nobody(&market)] {
        let asked = market.requests().len();
        let (swept, taken) = swept(&reader, Some(moment(-100))).await;
        let ids: Vec<&str> = taken.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!(ids, ["t0", "t1", "t2", "t3"]);
        // The market's clock showed this second, and perhaps almost the next.
        let age = Duration::from_secs(31);
        assert_eq!(taken[1].event, Event::BackFilled { age });
        assert_eq!((swept.listings, swept.pages, swept.complete), (4, 3, true));
        assert_eq!(market.requests().len(), asked + 3);
    }
}

#[tokio::test]
async fn a_sweep_of_everything_ends_with_the_last_page_or_with_its_bound() {
    let market = Market::plain(paged(3, 30)).await;
    let (swept_all, _) = swept(&reader(&market), None).await;
    assert_eq!((swept_all.listings, swept_all.pages, swept_all.complete), (6, 3, true));
    let market = Market::plain(paged(i64::MAX, 0)).await;
    let (swept, _) = swept(&reader(&market), None).await;
    assert_eq!((swept.pages, swept.complete), (PAGES_MAX, false));
}

#[tokio::test]
async fn a_sweep_that_nobody_takes_from_waits_and_stops_when_it_is_dropped() {
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
    let mut taken = 0;
    while listings.recv().await.is_some() {
        taken += 1;
    }
    assert_eq!((taken, market.requests().len()), (1, 1));
    // The pace is not left locked.
    assert!(reader.current_user().await.is_ok());
}

/// Takes what is found until the sweep for this request has ended; returns the listings' ids.
async fn taken(found: &mut mpsc::Receiver<Found>, request: u64) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        match timeout(PATIENCE, found.recv()).await.unwrap().unwrap() {
            Found::Listing(trade) => ids.push(trade.id.to_string()),
            Found::Ended { request: ended, swept } => {
                assert_eq!(ended, request);
                assert!(swept.unwrap().complete);
                return ids;
            }
        }
    }
}

#[tokio::test]
async fn each_back_fill_that_is_asked_for_is_done() {
    let market = Market::plain(paged(100, 30)).await;
    let (reader, requests) = (nobody(&market), BackFills::default());
    let (sender, mut found) = mpsc::channel(1);
    let taker = async {
        let first = requests.ask(Some(moment(-45)));
        assert_eq!(taken(&mut found, first).await, ["t0", "t1"]);
        let second = requests.ask(Some(moment(-15)));
        assert_eq!(taken(&mut found, second).await, ["t0"]);
        drop(found);
    };
    let filled = back_fill(&reader, &requests, &sender);
    timeout(PATIENCE, async { tokio::join!(filled, taker) }).await.unwrap();
}

#[tokio::test]
async fn a_newer_gap_cancels_the_back_fill_of_an_older_one_and_reads_what_it_left() {
    let market = Market::plain(paged(100, 30)).await;
    let (reader, requests) = (nobody(&market), BackFills::default());
    let (sender, mut found) = mpsc::channel(1);
    let taker = async {
        requests.ask(Some(moment(-100)));
        let first = timeout(PATIENCE, found.recv()).await.unwrap();
        assert!(matches!(first, Some(Found::Listing(_))), "{first:?}");
        let second = requests.ask(Some(moment(-20)));
        let ids = taken(&mut found, second).await;
        // One more of the older sweep may have been on its way.
        assert!(ids.ends_with(&["t0", "t1", "t2", "t3"].map(str::to_owned)), "{ids:?}");
        assert!(ids.len() <= 5, "{ids:?}");
        drop(found);
    };
    let filled = back_fill(&reader, &requests, &sender);
    timeout(PATIENCE, async { tokio::join!(filled, taker) }).await.unwrap();
}

#[tokio::test]
async fn a_back_fill_that_needs_a_person_is_given_up_at_once() {
    let market = Market::plain(|_| Reaction::Answer(answer(403, "", "no"))).await;
    let (reader, requests) = (nobody(&market), BackFills::default());
    let (sender, mut found) = mpsc::channel(1);
    let request = requests.ask(None);
    let taker = async {
        let ended = found.recv().await.unwrap();
        let Found::Ended { request: number, swept } = ended else { panic!("{ended:?}") };
        assert_eq!(number, request);
        assert!(matches!(swept, Err(ReadFailure::Forbidden { status: 403 })), "{swept:?}");
        drop(found);
    };
    let filled = back_fill(&reader, &requests, &sender);
    timeout(PATIENCE, async { tokio::join!(filled, taker) }).await.unwrap();
    assert_eq!(market.requests().len(), 1);
}

#[tokio::test]
async fn the_watch_reads_again_when_asked_and_ends_with_its_listener() {
    let reads = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&reads);
    let market = Market::plain(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        paged(1, 10)(request)
    })
    .await;
    let reader = reader(&market);
    let requests = Requests::default();
    let (sender, mut news) = mpsc::channel(16);
    let habits = Habits { distance: Duration::ZERO, ..Habits::default() };
    let listener = async {
        for round in 1..=3 {
            let News::User(reading) = news.recv().await.unwrap() else { panic!("no user") };
            assert_eq!(reading.user.balance, Some(Coins::from_cents(1_234)));
            let News::Purchases(reading) = news.recv().await.unwrap() else { panic!("none") };
            assert!(reading.complete);
            assert_eq!(reads.load(Ordering::Relaxed), 2 * round);
            requests.soon();
        }
        drop(news);
    };
    let watched = watch(&reader, habits, &requests, &sender);
    timeout(PATIENCE, async { tokio::join!(watched, listener) }).await.unwrap();
}

#[tokio::test]
async fn a_failed_reading_is_news_and_is_tried_again_later() {
    let market = Market::plain(|_| Reaction::Answer(answer(403, "", "no"))).await;
    let reader = reader(&market);
    let (sender, mut news) = mpsc::channel(16);
    let habits = Habits { distance: Duration::ZERO, purchases: false, ..Habits::default() };
    let requests = Requests::default();
    let watched = watch(&reader, habits, &requests, &sender);
    let listener = async {
        let said = news.recv().await.unwrap();
        assert!(matches!(said, News::Failed(ReadFailure::Forbidden { status: 403 })), "{said:?}");
        // Asked at once, it still waits its turn.
        requests.soon();
        let waited = timeout(Duration::from_millis(100), news.recv()).await;
        assert!(waited.is_err(), "{waited:?}");
        drop(news);
    };
    let both = async {
        tokio::select! { () = watched => {}, () = listener => {} }
    };
    timeout(PATIENCE, both).await.unwrap();
    assert_eq!(market.requests().len(), 1);
}
