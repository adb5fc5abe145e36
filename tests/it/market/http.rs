//! The HTTP answers of the simulated market.

use std::time::Duration;

use serde_json::{Value, json};
use sniper::{
    domain::money::Amount,
    domain::trade::TradeStatus,
    sim::{
        ListedItem, SimServer, SimServerError, SimSettings, faults::FaultKind,
        history::OrderDecision,
    },
};

use super::client::{DEADLINE, Http, open, quiet, redline, until};

const USER: &str = "{ currentUser { id suspectedTrader wallets { name amount } } }";

fn list_one(market: &SimServer) -> String {
    market.list_items(vec![redline(1_015)]).remove(0)
}

fn failing(fault: &str) -> SimServer {
    open(SimSettings { faults: vec![fault.parse().unwrap()], ..quiet() })
}

#[track_caller]
fn message(answer: &Value) -> &str {
    answer["errors"][0]["message"].as_str().unwrap()
}

#[test]
fn orders_share_a_keep_alive_connection() {
    let market = open(quiet());
    let mut http = Http::new(&market);
    for left in ["489.85", "479.70"] {
        let id = list_one(&market);
        let answer = http.join(&id).unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
        let trade = &answer.json()["data"]["joinTrades"]["trades"][0];
        assert_eq!((&trade["id"], &trade["totalValue"]), (&json!(id), &json!(10.15)));
        assert_eq!(market.history().balance.to_string(), left);
    }
    let history = market.history();
    assert_eq!((market.stats().connections, history.spent().cents()), (1, 2_030));
    assert!(history.orders().all(|(entry, request)| {
        request.decision == OrderDecision::Sold
            && entry.listed_at <= request.at
            && request.connection == 1
    }));
    assert_eq!(history.ordered_twice().count(), 0);
}

#[test]
fn the_history_distinguishes_orders_over_warm_and_cold_connections() {
    let market = open(quiet());
    let mut http = Http::new(&market);
    http.query(USER, Value::Null);
    http.join(&list_one(&market)).unwrap();
    assert_eq!(market.history().cold_orders().count(), 0);
    let id = list_one(&market);
    Http::new(&market).join(&id).unwrap();
    assert_eq!(market.history().cold_orders().count(), 1);
}

#[test]
fn answers_carry_the_date_of_the_market() {
    let market = open(SimSettings { clock_ahead_ms: -3_600_000, ..quiet() });
    let mut http = Http::new(&market);
    let before = sniper::clock::now();
    let answer = http.join(&list_one(&market)).unwrap();
    let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
    let date = date.duration_since(std::time::UNIX_EPOCH).unwrap();
    let behind = Duration::from_millis(before.0.try_into().unwrap()).saturating_sub(date);
    assert!((3_590..=3_610).contains(&behind.as_secs()), "{behind:?}");
    let stamp = answer.json()["data"]["joinTrades"]["trades"][0]["updatedAt"].clone();
    let stamp = sniper::domain::time::UnixMs::parse(stamp.as_str().unwrap()).unwrap();
    assert!(stamp.0.abs_diff(i64::try_from(date.as_millis()).unwrap()) < 2_000);
}

#[test]
fn a_signed_out_client_sees_no_account_and_buys_nothing() {
    let market = open(quiet());
    let id = list_one(&market);
    let mut signed_out = Http::signed_out(&market);
    assert_eq!(signed_out.query(USER, Value::Null), json!({"data": {"currentUser": null}}));
    let answer = signed_out.join(&id).unwrap();
    assert_eq!((answer.status, message(&answer.json())), (200, "unauthenticated"));
    let mut owner = Http::new(&market);
    assert_eq!(owner.query(USER, Value::Null)["data"]["currentUser"]["wallets"][0]["amount"], 500);
    market.replace_session("s%3Aanother");
    assert_eq!(message(&owner.join(&id).unwrap().json()), "unauthenticated");
    assert_eq!(market.history().purchases().count(), 0);
}

#[test]
fn rejections_use_the_messages_of_the_marketplace() {
    let market = open(quiet());
    let mut http = Http::new(&market);
    let check = |http: &mut Http, offer: ListedItem, expected: &str| {
        let id = market.list_items(vec![offer]).remove(0);
        assert!(message(&http.join(&id).unwrap().json()).contains(expected));
    };
    let held = ListedItem { can_join_after: Some(Duration::from_secs(60)), ..redline(100) };
    check(&mut http, held, "not joinable");
    let taken = ListedItem { rival_after: Some(Duration::ZERO), ..redline(100) };
    check(&mut http, taken, "not joinable");
    check(&mut http, redline(50_001), "Insufficient balance");
    let bought = list_one(&market);
    http.join(&bought).unwrap();
    until("the purchase is old", || {
        message(&http.join(&bought).unwrap().json()).contains("no longer available")
    });
    assert_eq!(market.history().ordered_twice().count(), 1);
    let limited = open(SimSettings { daily_limit: Some(Amount::from_cents(500)), ..quiet() });
    let answer = Http::new(&limited).join(&list_one(&limited)).unwrap().json();
    assert!(message(&answer).contains("exceeds your daily withdrawal limit"));
}

/// Sends one order to a market with this fault. Returns the answer, `true` if the listing was
/// bought, and the market.
fn order_with_fault(fault: FaultKind) -> (Option<super::client::Answer>, bool, SimServer) {
    let market = failing(&fault.name());
    let id = list_one(&market);
    let mut http = Http::new(&market);
    http.set_read_limit(DEADLINE);
    let answer = http.join(&id);
    let history = market.history();
    let (_, request) = history.orders().next().unwrap();
    assert_eq!(request.fault, Some(fault));
    (answer, history.purchases().count() == 1, market)
}

#[test]
fn a_cut_connection_may_have_bought() {
    for (fault, bought) in [(FaultKind::CutBeforeCommit, false), (FaultKind::CutAfterCommit, true)]
    {
        let (answer, was_bought, _) = order_with_fault(fault);
        assert!(answer.is_none());
        assert_eq!(was_bought, bought, "{fault}");
    }
    let (answer, bought, _) = order_with_fault(FaultKind::HalfBody);
    assert!(answer.is_none() && bought);
}

#[test]
fn each_fault_has_its_status_body_and_effect() {
    let check = |fault: FaultKind, status: u16, contains: &str, bought: bool| {
        let (answer, was_bought, _) = order_with_fault(fault);
        let answer = answer.unwrap();
        assert_eq!((answer.status, was_bought), (status, bought), "{fault}");
        assert!(answer.body.contains(contains), "{fault}: {}", answer.body);
    };
    check(FaultKind::ServerErrorAfterCommit, 502, "<html>", true);
    check(FaultKind::ServerErrorBeforeCommit, 503, "<html>", false);
    check(FaultKind::Captcha, 200, "captcha", false);
    check(FaultKind::Unauthenticated, 200, "unauthenticated", false);
    check(FaultKind::DailyLimit, 200, "exceeds your daily withdrawal limit", false);
    check(FaultKind::UnknownError, 200, "Something went wrong", false);
    check(FaultKind::Empty, 200, r#"{"trades":[]}"#, true);
    check(FaultKind::WrongPrice, 200, "11.15", true);
    check(FaultKind::PriceZero, 200, r#""totalValue":0,"#, true);
    check(FaultKind::Doubled, 200, "joinTrades", true);
    check(FaultKind::LateRejection, 200, "joinTrades", true);
}

#[test]
fn a_late_rejection_follows_the_answer_and_belongs_to_no_request() {
    let market = failing("late-rejection");
    let id = list_one(&market);
    let mut http = Http::new(&market);
    assert!(http.join(&id).unwrap().body.contains(&id));
    assert!(http.answer().unwrap().body.contains("not joinable"));
    assert_eq!(market.history().orders().count(), 1);
}

#[test]
fn a_false_price_in_an_answer_does_not_change_the_history() {
    let check = |kind: FaultKind, is_false: fn(f64) -> bool| {
        let (answer, _, market) = order_with_fault(kind);
        let trade = answer.unwrap().json()["data"]["joinTrades"]["trades"][0].clone();
        assert!(is_false(trade["totalValue"].as_f64().unwrap()), "{kind}: {trade}");
        let history = market.history();
        assert_eq!((history.spent().cents(), history.balance.cents()), (1_015, 48_985), "{kind}");
    };
    check(FaultKind::PriceLow, |price| 0.0 < price && price < 10.15);
    check(FaultKind::PriceZero, |price| price <= 0.0);
    check(FaultKind::PriceHigh, |price| 10.15 < price);
}

#[test]
fn read_faults_do_not_affect_orders() {
    let check = |fault: &str| {
        let market = failing(fault);
        assert!(Http::new(&market).join(&list_one(&market)).is_some(), "{fault}");
        let mut http = Http::new(&market);
        let started = std::time::Instant::now();
        http.post(&json!({"query": USER}));
        (http.answer(), started.elapsed())
    };
    let (answer, _) = check("read-5xx");
    assert_eq!(answer.map(|answer| answer.status), Some(502));
    assert!(check("read-cut").0.is_none());
    let (answer, lasted) = check("read-slow");
    assert!(answer.is_some() && Duration::from_secs(2) <= lasted);
}

#[test]
fn faults_can_be_changed_while_the_market_runs() {
    let market = open(SimSettings {
        faults: ["captcha", "read-5xx"].map(|fault| fault.parse().unwrap()).to_vec(),
        ..quiet()
    });
    let mut http = Http::new(&market);
    assert!(http.join(&list_one(&market)).unwrap().body.contains("captcha"));
    market.set_faults(&[]);
    assert!(http.join(&list_one(&market)).unwrap().body.contains("JOINED"));
    assert!(http.query(USER, Value::Null)["data"]["currentUser"].is_object());
    market.set_faults(&["captcha".parse().unwrap()]);
    assert!(http.join(&list_one(&market)).unwrap().body.contains("captcha"));
}

#[test]
fn rate_limits_and_challenges_have_their_headers() {
    let (answer, bought, _) = order_with_fault(FaultKind::TooMany);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.header("retry-after"), bought), (429, Some("3"), false));
    let (answer, bought, _) = order_with_fault(FaultKind::Challenge);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.header("cf-mitigated")), (403, Some("challenge")));
    assert!(answer.header("content-type").unwrap().starts_with("text/html") && !bought);
}

#[test]
fn a_hang_fault_buys_and_never_answers() {
    let market = failing("hang");
    let id = list_one(&market);
    let mut http = Http::new(&market);
    http.post_join(&id);
    until("it is bought", || market.history().purchases().count() == 1);
    http.set_read_limit(Duration::from_millis(100));
    assert!(http.answer().is_none());
    let answered_at = || market.history().orders().next().unwrap().1.answered_at;
    assert_eq!(answered_at(), None);
    drop(http);
    until("the market sees that its client is gone", || answered_at().is_some());
}

#[test]
fn a_foreign_answer_names_another_listing() {
    let market = failing("foreign");
    let id = list_one(&market);
    let answer = Http::new(&market).join(&id).unwrap().json();
    let named = &answer["data"]["joinTrades"]["trades"][0]["id"];
    assert!(named.is_string() && *named != json!(id));
}

#[test]
fn a_fault_occurs_at_its_configured_rate() {
    let market = failing("captcha:1/3");
    let mut http = Http::new(&market);
    let occurred: Vec<bool> = (0..6)
        .map(|_| {
            let id = market.list_items(vec![redline(100)]).remove(0);
            http.join(&id).unwrap().body.contains("captcha")
        })
        .collect();
    assert_eq!(occurred, [false, false, true, false, false, true]);
}

#[test]
fn order_faults_do_not_affect_reads() {
    let market = failing("cut-before-commit");
    assert!(Http::new(&market).query(USER, Value::Null)["data"]["currentUser"].is_object());
}

#[test]
fn invalid_requests_are_rejected() {
    let market = open(quiet());
    let check = |text: &str, expected: Option<u16>| {
        let mut http = Http::new(&market);
        http.send(text);
        assert_eq!(http.answer().map(|answer| answer.status), expected, "{text:?}");
    };
    check("GET /graphql HTTP/1.1\r\nHost: m\r\n\r\n", Some(405));
    check("POST /elsewhere HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n", Some(404));
    check("OPTIONS /graphql HTTP/1.1\r\nHost: m\r\n\r\n", Some(204));
    check("POST /graphql HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n\r\nnone", Some(400));
    check("POST /graphql HTTP/1.1\r\nHost: m\r\nContent-Length: 999999999\r\n\r\n", Some(413));
    check("POST /graphql HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n", Some(411));
    check("POST /graphql HTTP/1.1\r\nContent-Length: -1\r\n\r\n", None);
    check("nonsense\r\n\r\n", None);
}

#[test]
fn pipelined_requests_are_answered() {
    let market = open(quiet());
    let mut http = Http::new(&market);
    for _ in 0..3 {
        http.post(&json!({ "query": USER }));
    }
    for _ in 0..3 {
        assert!(http.answer().unwrap().json()["data"]["currentUser"].is_object());
    }
}

#[test]
fn an_idle_connection_is_closed_by_the_market() {
    let market = open(SimSettings { http_idle: Duration::from_millis(50), ..quiet() });
    let mut http = Http::new(&market);
    http.query(USER, Value::Null);
    assert!(http.answer().is_none());
}

#[test]
fn open_listings_are_paged() {
    let market = open(quiet());
    market.list_items(vec![redline(1_000); 600]);
    let query = "query TradeList($first: PaginationAmount, $after: String, $orderBy: [TradeOrderBy], $status: TradeStatus) { trades(first: $first, after: $after, orderBy: $orderBy, status: $status) { edges { node { id status createdAt } } pageInfo { hasNextPage endCursor } } }";
    let mut http = Http::new(&market);
    let (mut seen, mut after) = (std::collections::BTreeSet::new(), Value::Null);
    for _ in 0..2 {
        let variables =
            json!({"first": 250, "after": after, "orderBy": ["ID_DESC"], "status": "LISTED"});
        let answer = http.query(query, variables);
        let page = &answer["data"]["trades"];
        for edge in page["edges"].as_array().unwrap() {
            assert!(seen.insert(edge["node"]["id"].as_str().unwrap().to_owned()));
        }
        assert_eq!(page["pageInfo"]["hasNextPage"], true);
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(seen.len(), 500);
}

#[test]
fn a_delivered_purchase_is_in_the_own_trades() {
    let at_once = (Duration::ZERO, Duration::ZERO);
    let mut settings = quiet();
    settings.delivery.confirm = at_once;
    settings.delivery.deliver = at_once;
    settings.delivery.fail_permille = 0;
    let market = open(settings);
    let id = list_one(&market);
    Http::new(&market).join(&id).unwrap();
    let state = || market.history().listing(&id).and_then(|entry| entry.purchase).unwrap().status;
    until("it is delivered", || state() == TradeStatus::Completed);
    let query = "query Own($userId: ID, $statuses: [TradeStatus!]) { trades(userId: $userId, statuses: $statuses) { edges { node { id status } } pageInfo { hasNextPage } } }";
    let variables = json!({"userId": "VXNlcjo0MjQyNDI", "statuses": ["COMPLETED"]});
    let answer = Http::new(&market).query(query, variables);
    assert_eq!(
        answer["data"]["trades"]["edges"][0]["node"],
        json!({"id": id, "status": "COMPLETED"})
    );
}

#[test]
fn a_purchase_without_a_request_can_be_injected() {
    let market = open(quiet());
    let id = market.inject_purchase(redline(1_000)).unwrap();
    market.adjust_balance(Amount::from_cents(-2_500));
    let history = market.history();
    assert_eq!(history.balance.cents(), 46_500);
    assert!(history.listing(&id).unwrap().orders.is_empty());
}

#[test]
fn a_market_on_an_occupied_port_fails_with_a_remedy() {
    let market = open(quiet());
    let Err(error) = SimServer::start(SimSettings { listen: market.address(), ..quiet() }) else {
        panic!("two markets on one port");
    };
    assert!(matches!(error, SimServerError::AddressInUse { .. }));
    let shown = error.to_string();
    assert!(shown.contains(&market.address().to_string()) && shown.contains("--listen"), "{shown}");
}
