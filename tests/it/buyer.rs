//! The buyer over real sockets: whatever the server does, a request leaves once, and every request
//! that left is reported once.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what is not as expected fails the test"
)]

mod attribution;
pub(crate) mod market;
mod script;

use std::time::{Duration, Instant};

use sniper::{
    config::{Budget, Credential, Endpoints},
    domain::money::{Amount, Percent},
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::TradeId,
    execution::{
        ConnectionConfig, OrderClient, OrderClientConfig,
        answer::{ExchangeResult, HttpResponse, OrderReport, ResponseError, SentRequest},
        request::{BodyTemplate, RequestIdentity},
    },
    ledger::{ApprovedOrder, Ledger, OrderRequest},
    net::tls::Tls,
    whitelist::{ItemPattern, WearSet, WhitelistEntry},
};
use tokio::{sync::mpsc, time::timeout};

use self::market::{Market, PATIENCE, Reaction, Request, agree, answer, bought};

const SECRET: &str = "s3cr3t-hunter2";

/// A buyer at a market.
struct Bot {
    buyer: OrderClient,
    reports: mpsc::Receiver<OrderReport>,
}

impl Bot {
    fn start(market: &Market, connections: u32, habits: ConnectionConfig) -> Self {
        Self::connect((&market.endpoints, market.tls.clone()), connections, habits)
    }

    fn connect(
        (endpoints, tls): (&Endpoints, Tls),
        connections: u32,
        habits: ConnectionConfig,
    ) -> Self {
        let credential = Credential::from_session(SECRET).unwrap();
        let setup = OrderClientConfig {
            identity: RequestIdentity { endpoints, credential: &credential },
            body: BodyTemplate { before_id: "buy ", after_id: "" },
            warm_body: "harmless",
            tls,
            connections,
            habits,
        };
        let (buyer, reports) = OrderClient::start(setup).unwrap();
        Self { buyer, reports }
    }

    /// With all connections open.
    async fn ready(market: &Market, connections: u32) -> Self {
        let bot = Self::start(market, connections, ConnectionConfig::default());
        assert!(bot.buyer.warm(usize::try_from(connections).unwrap(), PATIENCE).await);
        bot
    }

    fn send(&self, id: &str) -> Result<SentRequest, NotSent> {
        self.buyer.send(approved(id)).map_err(|(approved, reason)| {
            assert_eq!(approved.id().as_str(), id);
            reason
        })
    }

    async fn report(&mut self) -> OrderReport {
        timeout(PATIENCE, self.reports.recv()).await.expect("no report").expect("no buyer")
    }

    async fn buy(&mut self, id: &str) -> OrderReport {
        self.send(id).unwrap();
        let report = self.report().await;
        assert_eq!(report.id.as_str(), id);
        report
    }

    async fn is_ready(&self) -> bool {
        self.buyer.warm(1, PATIENCE).await
    }
}

/// What a ledger without limits worth mentioning approves.
fn approved(id: &str) -> ApprovedOrder {
    let price = Amount::from_cents(1_000);
    let budget = Budget { max_price: price, total: price, ..Budget::default() };
    let entry = WhitelistEntry {
        name: None,
        item: ItemPattern::Any,
        wears: WearSet::ANY,
        stattrak: false,
        souvenir: false,
        float_min: None,
        float_max: None,
        min_price: Amount::ZERO,
        max_price: price,
        max_markup: Percent::from_hundredths(0),
        max_quantity: 1,
        max_total: None,
        max_age: None,
    };
    let mut ledger = Ledger::in_memory(budget, &[entry], false);
    let want = OrderRequest { id: TradeId::new(id).unwrap(), price, entry: 0, created_at: None };
    ledger.reserve(want, UnixMs(0)).unwrap()
}

fn impatient() -> ConnectionConfig {
    ConnectionConfig { answer_deadline: Duration::from_millis(100), ..ConnectionConfig::default() }
}

fn body(answer: &ExchangeResult) -> &str {
    match answer {
        ExchangeResult::Complete(HttpResponse { body, .. }) => str::from_utf8(body).unwrap(),
        ExchangeResult::Broken { .. } => panic!("{answer:?}"),
    }
}

/// The order was bought, and its report is the only one.
#[track_caller]
fn is_bought(report: &OrderReport, id: &str) {
    assert_eq!((report.id.as_str(), report.is_final), (id, true), "{report:?}");
    assert!(matches!(report.outcome, Outcome::Bought { .. }), "{report:?}");
}

fn why(answer: &ExchangeResult) -> Option<ResponseError> {
    match answer {
        ExchangeResult::Complete(_) => None,
        ExchangeResult::Broken { why, .. } => Some(*why),
    }
}

/// Sends one buy to a market that reacts so, waits until the buyer is ready again or has given up,
/// and shows that the request came exactly once.
async fn once(reaction: Reaction, habits: ConnectionConfig) -> OrderReport {
    let market = Market::plain(move |_| reaction.clone()).await;
    let mut bot = Bot::start(&market, 1, habits);
    assert!(bot.is_ready().await);
    let report = bot.buy("a").await;
    assert!(bot.is_ready().await, "the connection was not replaced");
    assert_eq!(market.bought(), ["a"]);
    assert!(bot.reports.try_recv().is_err(), "a second report");
    assert_eq!(bot.buyer.in_flight_count(), 0);
    report
}

#[tokio::test]
async fn a_server_that_hangs_up_after_reading_sees_exactly_one_request() {
    let report = once(Reaction::AnswerAndClose(Vec::new()), ConnectionConfig::default()).await;
    assert_eq!(report.answer, ExchangeResult::Broken { why: ResponseError::Cut, head: None });
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Cut));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer = answer(302, "Location: /elsewhere\r\n", "");
    let report = once(Reaction::Answer(answer), ConnectionConfig::default()).await;
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Status { status: 302 }));
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let report = once(Reaction::Silence, impatient()).await;
    assert_eq!(why(&report.answer), Some(ResponseError::Timeout));
    assert!(report.answered - report.written.written >= impatient().answer_deadline);
}

#[tokio::test]
async fn an_answer_that_dribbles_in_is_read_if_it_ends_in_time_and_given_up_if_not() {
    let pieces = |text: &str| text.chars().map(String::from).collect();
    let dribble = Reaction::Dribble(pieces(&bought("a")), Duration::ZERO);
    is_bought(&once(dribble, ConnectionConfig::default()).await, "a");
    let dribble = Reaction::Dribble(pieces(&"x".repeat(100_000)), Duration::from_millis(1));
    assert_eq!(why(&once(dribble, impatient()).await.answer), Some(ResponseError::Timeout));
}

#[tokio::test]
async fn chunked_and_unmeasured_answers_are_read_whole() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n";
    let report = once(Reaction::Answer(chunked.to_owned()), ConnectionConfig::default()).await;
    assert_eq!(body(&report.answer), "yes");
    let unmeasured = b"HTTP/1.1 200 OK\r\n\r\nyes".to_vec();
    let report = once(Reaction::AnswerAndClose(unmeasured), ConnectionConfig::default()).await;
    assert_eq!(body(&report.answer), "yes");
}

#[tokio::test]
async fn half_an_answer_is_unknown_but_its_head_is_kept() {
    let half =
        b"HTTP/1.1 403 No\r\nCF-Mitigated: challenge\r\nContent-Length: 9\r\n\r\n<h".to_vec();
    let report = once(Reaction::AnswerAndClose(half), ConnectionConfig::default()).await;
    let ExchangeResult::Broken { why: ResponseError::Cut, head: Some(head) } = report.answer else {
        panic!("{report:?}");
    };
    assert_eq!((head.status, head.mitigated), (403, true));
}

#[tokio::test]
async fn what_is_not_http_is_unknown() {
    for nonsense in
        ["nonsense\n\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let report = once(Reaction::Answer(nonsense.to_owned()), ConnectionConfig::default()).await;
        assert_eq!(why(&report.answer), Some(ResponseError::Malformed), "{nonsense:?}");
        assert_eq!(report.outcome, Outcome::Unknown(Unknown::Unreadable));
    }
}

#[tokio::test]
async fn a_flood_is_cut_off() {
    let flood = Reaction::Flood(b"HTTP/1.1 200 OK\r\n\r\n".repeat(1_000));
    assert_eq!(
        why(&once(flood, ConnectionConfig::default()).await.answer),
        Some(ResponseError::TooLong)
    );
}

#[tokio::test]
async fn a_challenge_page_is_told_apart() {
    let headers = "Content-Type: text/html\r\nCF-Mitigated: challenge\r\n";
    let page = answer(403, headers, "<!DOCTYPE html><title>Just a moment...</title>");
    let report = once(Reaction::Answer(page), ConnectionConfig::default()).await;
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Unconfirmed(RejectReason::Challenge)));
    assert!(report.is_final);
}

#[tokio::test]
async fn too_many_requests_says_how_long_to_wait() {
    let refusal = answer(429, "Retry-After: 7\r\n", "slow down");
    let report = once(Reaction::Answer(refusal), ConnectionConfig::default()).await;
    let retry_after = Some(Duration::from_secs(7));
    let refusal = RejectReason::RateLimited { retry_after };
    assert_eq!(report.outcome, Outcome::Unknown(Unknown::Unconfirmed(refusal)));
    assert!(report.is_final);
}

#[tokio::test]
async fn one_connection_carries_buy_after_buy() {
    let market = Market::plain(agree).await;
    let mut bot = Bot::ready(&market, 1).await;
    for id in ["a", "bb", "ccc"] {
        let report = bot.buy(id).await;
        is_bought(&report, id);
        assert!(report.written.ready < report.written.begun);
        assert!(bot.is_ready().await);
    }
    assert_eq!(market.connections(), 1);
    assert_eq!(market.bought(), ["a", "bb", "ccc"]);
}

#[tokio::test]
async fn sending_a_buy_allocates_nothing() {
    let market = Market::plain(agree).await;
    let mut bot = Bot::ready(&market, 2).await;
    for id in ["a", "a-longer-one", "b"] {
        let approved = approved(id);
        let mut sent = None;
        let counted = allocation_counter::measure(|| sent = Some(bot.buyer.send(approved)));
        assert!(sent.is_some_and(|sent| sent.is_ok()));
        assert_eq!(counted.count_total, 0, "{counted:?}");
        bot.report().await;
        assert!(bot.buyer.warm(2, PATIENCE).await);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closes_while_idle_is_opened_again_before_it_is_needed() {
    let market = Market::plain(agree).await;
    let mut bot = Bot::ready(&market, 2).await;
    let first = market.connections();
    // Long enough for the connections to count as stable, so that they are replaced at once.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    market.hang_up_idle();
    market.sees(|market| market.connections() == first + 2).await;
    assert!(bot.buyer.warm(2, PATIENCE).await);
    let report = bot.buy("a").await;
    is_bought(&report, "a");
    assert!(report.written.ready < report.written.begun, "a cold buy");
}

#[tokio::test]
async fn of_ten_thousand_buys_none_is_cold_and_none_is_lost() {
    let market = Market::plain(agree).await;
    let mut bot = Bot::ready(&market, 4).await;
    let started = Instant::now();
    for number in 0..10_000_u32 {
        if number % 3_000 == 2_999 {
            // The server closes what is idle, as it may after a night; the next listing comes once
            // that has been noticed. Connections that lived shorter are replaced less eagerly.
            let stable = Duration::from_millis(1_100).saturating_sub(started.elapsed());
            tokio::time::sleep(stable).await;
            let before = market.connections();
            market.hang_up_idle();
            market.sees(|market| market.connections() >= before + 4).await;
            assert!(bot.buyer.warm(4, PATIENCE).await);
        }
        let listed = Instant::now();
        let written = bot.send(&format!("id{number}")).unwrap();
        assert!(written.ready < listed, "a cold buy");
        assert_eq!(why(&bot.report().await.answer), None);
    }
    assert_eq!(market.bought().len(), 10_000);
}

#[tokio::test]
async fn connections_are_renewed_when_asked_and_a_buy_in_flight_is_left_alone() {
    let market = Market::plain(|request: &Request| match request.id() {
        Some("slow") => {
            Reaction::Dribble(vec![String::new(), bought("slow")], Duration::from_millis(300))
        }
        _ => agree(request),
    })
    .await;
    let mut bot = Bot::ready(&market, 2).await;
    bot.send("slow").unwrap();
    bot.buyer.renew();
    assert_eq!(bot.send("a"), Err(NotSent::NoConnection));
    market.sees(|market| market.connections() == 3).await;
    assert!(bot.is_ready().await);
    bot.send("b").unwrap();
    let mut answers = [bot.report().await, bot.report().await];
    answers.sort_by_key(|report| report.id);
    for (report, id) in answers.iter().zip(["b", "slow"]) {
        is_bought(report, id);
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_warm_by_a_harmless_request() {
    let market = Market::plain(|request| {
        assert_eq!(request.body, "harmless");
        let date = "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
        Reaction::Answer(answer(200, date, r#"{"data":{"currentUser":null}}"#))
    })
    .await;
    let keep_warm = Duration::from_millis(30);
    let bot = Bot::start(&market, 2, ConnectionConfig { keep_warm, ..ConnectionConfig::default() });
    market.sees(|market| market.requests().len() >= 6).await;
    assert_eq!(market.connections(), 2);
    assert!(bot.buyer.warm(1, PATIENCE).await);
    let (exchange, date) = bot.buyer.take_date().unwrap();
    assert_eq!(Some(date), UnixMs::parse("2026-03-01T10:00:00Z"));
    assert!(exchange.sent < exchange.received);
}

#[tokio::test]
async fn a_connection_on_which_the_harmless_request_stays_unanswered_is_replaced() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let keep_warm = Duration::from_millis(10);
    let answer_deadline = Duration::from_millis(50);
    let _bot = Bot::start(&market, 1, ConnectionConfig { keep_warm, answer_deadline });
    market.sees(|market| market.connections() >= 2).await;
}

#[tokio::test]
async fn a_server_with_little_patience_never_closes_a_connection_that_waits() {
    const HINT: &str = "\r\nKeep-Alive: timeout=3\r\n\r\n";
    let market = Market::plain(|_| Reaction::Answer(bought("a").replace("\r\n\r\n", HINT))).await;
    let mut bot = Bot::ready(&market, 1).await;
    is_bought(&bot.buy("a").await, "a");
    // Replaced before its three seconds are over.
    market.sees(|market| market.connections() == 2).await;
    assert!(bot.is_ready().await);
    assert_eq!(market.requests().len(), 1);
}

#[tokio::test]
async fn as_many_buys_are_in_flight_as_there_are_connections_and_not_one_more() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let mut bot = Bot::start(&market, 8, impatient());
    assert!(bot.buyer.warm(8, PATIENCE).await);
    for number in 0..8 {
        bot.send(&format!("id{number}")).unwrap();
    }
    assert_eq!(bot.send("id8"), Err(NotSent::NoConnection));
    assert_eq!(bot.buyer.in_flight_count(), 8);
    let mut reported = Vec::new();
    for _ in 0..8 {
        reported.push(bot.report().await.id.to_string());
    }
    reported.sort();
    let expected: Vec<String> = (0..8).map(|number| format!("id{number}")).collect();
    assert_eq!(reported, expected);
    let mut bought = market.bought();
    bought.sort();
    assert_eq!(bought, expected);
}

#[tokio::test]
async fn in_a_long_burst_every_listing_is_asked_for_once_and_reported_once() {
    let market = Market::plain(agree).await;
    let mut bot = Bot::ready(&market, 8).await;
    let mut expected = Vec::new();
    for number in 0..500 {
        let id = format!("id{number}");
        while bot.buyer.ready_count() == 0 {
            let report = bot.report().await;
            is_bought(&report, report.id.as_str());
            bot.buyer.warm(1, PATIENCE).await;
        }
        bot.send(&id).unwrap();
        expected.push(id);
        while let Ok(report) = bot.reports.try_recv() {
            is_bought(&report, report.id.as_str());
        }
    }
    market.sees(|market| market.bought().len() == 500).await;
    let mut bought = market.bought();
    bought.sort();
    expected.sort();
    assert_eq!(bought, expected);
    assert_eq!(market.connections(), 8);
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_not_hammered() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let bot = Bot::start(&market, 4, ConnectionConfig::default());
    assert!(bot.is_ready().await);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(900) {
        market.hang_up_idle();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(market.connections() <= 4 * 5, "{} dials", market.connections());
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_sent() {
    let market = Market::plain(agree).await;
    let bot = Bot::start(&market, 2, ConnectionConfig::default());
    drop(market);
    let deadline = Instant::now() + PATIENCE;
    // Either it was never opened, or it is found closed.
    while bot.buyer.ready_count() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(bot.send("a"), Err(NotSent::NoConnection));
    assert!(!bot.buyer.warm(1, Duration::from_millis(50)).await);
}

#[tokio::test]
async fn over_tls_buys_go_to_a_server_that_proves_who_it_is() {
    let market = Market::tls(true, agree).await;
    let mut bot = Bot::ready(&market, 2).await;
    for id in ["a", "b", "c", "d"] {
        is_bought(&bot.buy(id).await, id);
        assert!(bot.is_ready().await);
    }
    assert_eq!(market.connections(), 2);
    assert_eq!(market.bought(), ["a", "b", "c", "d"]);
    let head = market.requests()[0].head.clone();
    assert!(head.contains(&format!("\r\nCookie: session={SECRET}\r\n")), "{head}");
}

#[tokio::test]
async fn over_tls_nothing_is_sent_to_a_server_that_cannot_prove_who_it_is() {
    let market = Market::tls(false, agree).await;
    let bot = Bot::start(&market, 1, ConnectionConfig::default());
    market.sees(|market| market.connections() > 0).await;
    assert!(!bot.buyer.warm(1, Duration::from_millis(100)).await);
    assert_eq!(bot.send("a"), Err(NotSent::NoConnection));
    assert!(market.requests().is_empty());
}

#[tokio::test]
async fn over_tls_an_unmeasured_answer_needs_a_proper_end() {
    let unmeasured = || Reaction::AnswerAndClose(b"HTTP/1.1 200 OK\r\n\r\nyes".to_vec());
    let market = Market::tls(true, move |_| unmeasured()).await;
    let mut bot = Bot::ready(&market, 1).await;
    assert_eq!(body(&bot.buy("a").await.answer), "yes");
}

#[tokio::test]
async fn stopping_waits_for_answers_that_come() {
    let slowly = |request: &Request| {
        let answer = bought(request.id().unwrap());
        Reaction::Dribble(vec![String::new(), answer], Duration::from_millis(50))
    };
    let market = Market::plain(slowly).await;
    let mut bot = Bot::ready(&market, 2).await;
    bot.send("a").unwrap();
    bot.buyer.stop(PATIENCE).await;
    assert_eq!(bot.send("b"), Err(NotSent::Stopping));
    is_bought(&bot.report().await, "a");
    assert!(bot.reports.recv().await.is_none(), "somebody still reports");
    assert_eq!(market.bought(), ["a"]);
}

#[tokio::test]
async fn stopping_gives_up_on_answers_that_do_not_come() {
    let market = Market::plain(|_| Reaction::Silence).await;
    let mut bot = Bot::ready(&market, 2).await;
    bot.send("a").unwrap();
    let began = Instant::now();
    bot.buyer.stop(Duration::from_millis(50)).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(why(&bot.report().await.answer), Some(ResponseError::Stopped));
}

#[tokio::test]
async fn stopping_is_prompt_where_nobody_answers_the_dial() {
    let market = Market::plain(agree).await;
    let bot = Bot::start(&market, 8, ConnectionConfig::default());
    drop(market);
    let began = Instant::now();
    bot.buyer.stop(PATIENCE).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn no_output_of_the_buyer_shows_the_credential() {
    let market = Market::plain(|_| Reaction::AnswerAndClose(SECRET.as_bytes().to_vec())).await;
    let mut bot = Bot::ready(&market, 1).await;
    let report = bot.buy("a").await;
    let left = bot.buyer.send(approved("b"));
    let shown = format!("{:?} {report:?} {left:?} {:?}", bot.buyer, market.endpoints);
    assert!(!shown.contains(SECRET), "{shown}");
}
