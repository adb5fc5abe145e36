//! What is answered to each operation, and to what is none.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    domain::time::UnixMs,
    sim::{
        offer::ListedItem,
        settings::{Rate, SimSettings},
    },
};

const JOIN: &str = "mutation JoinTrades($input: JoinTradesInput!) { joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }";
const USER: &str = "query CurrentUser { currentUser { id name suspectedTrader dailyWithdrawLimit wallets { id name amount } } }";
const LIST: &str = "query TradeList($first: PaginationAmount, $after: String, $orderBy: [TradeOrderBy], $status: TradeStatus, $userId: ID, $statuses: [TradeStatus!]) { trades(first: $first, after: $after, orderBy: $orderBy, status: $status, userId: $userId, statuses: $statuses) { edges { node { id status createdAt } } pageInfo { hasNextPage endCursor } } }";
const USER_ID: &str = "VXNlcjo0MjQyNDI";

struct Bench {
    exchange: MarketState,
    ids: Vec<String>,
}

fn bench(offers: usize) -> Bench {
    let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
    let mut exchange = MarketState::new(&settings, UnixMs(1_772_366_400_000));
    let price = Amount::from_cents(1_015);
    let offer = |at: usize| ListedItem {
        // Created out of order, as on the real site.
        created_before: Duration::from_millis(if at.is_multiple_of(2) { 400 } else { 1 }),
        ..ListedItem::plain("AK-47 | Redline (Field-Tested)", Amount::from_cents(1_000), price)
    };
    let ids =
        exchange.offer(Duration::from_secs(1), (0..offers).map(offer).collect(), &mut Vec::new());
    Bench { exchange, ids }
}

impl Bench {
    fn asks(&mut self, query: &str, variables: Value, signed_in: bool) -> Value {
        self.asks_at(2, (query, variables), signed_in, None)
    }

    /// Asks for the account and for its purchases so many seconds after the market opened, and is
    /// told what is false in this way.
    fn account(
        &mut self,
        second: u64,
        kind: faults::FaultKind,
        seed: u64,
    ) -> (Value, Vec<Value>, bool) {
        let lie = || Some((kind, Dice::new(seed)));
        let user = self.asks_at(second, (USER, Value::Null), true, lie());
        let own = json!({"first": 50, "userId": USER_ID, "orderBy": ["ID_DESC"]});
        let list = self.asks_at(second, (LIST, own), true, lie());
        let page = &list["data"]["trades"];
        let edges = page["edges"].as_array().unwrap();
        let nodes = edges.iter().map(|edge| edge["node"].clone()).collect();
        let has_next = page["pageInfo"]["hasNextPage"] == true;
        (user["data"]["currentUser"]["wallets"][0]["amount"].clone(), nodes, has_next)
    }

    fn asks_at(
        &mut self,
        second: u64,
        (query, variables): (&str, Value),
        signed_in: bool,
        lie: Option<(faults::FaultKind, Dice)>,
    ) -> Value {
        let body = json!({"operationName": null, "query": query, "variables": variables});
        let text = match read(body.to_string().as_bytes()) {
            Ok(request) => {
                let now = Duration::from_secs(second);
                let asked = ParsedRequest { request: &request, signed_in, lie };
                answer(&mut self.exchange, now, asked, &mut Vec::new())
            }
            Err(unreadable) => unreadable.body,
        };
        serde_json::from_str(&text).unwrap()
    }

    fn joins(&mut self, input: Value, signed_in: bool) -> Value {
        self.asks(JOIN, json!({ "input": input }), signed_in)
    }
}

#[test]
fn a_purchase_names_the_listing_and_what_it_cost() {
    let mut bench = bench(1);
    let answer =
        bench.joins(json!({"tradeIds": [bench.ids[0]], "hasCompliedToAntiRWT": true}), true);
    let trade = &answer["data"]["joinTrades"]["trades"][0];
    assert_eq!(trade["id"], bench.ids[0]);
    assert_eq!((&trade["status"], &trade["totalValue"]), (&json!("JOINED"), &json!(10.15)));
    assert_eq!(trade["updatedAt"], "2026-03-01T12:00:02.000Z");
}

#[test]
fn refusals_have_the_markets_words_and_buy_nothing() {
    let mut bench = bench(2);
    let (id, other) = (bench.ids[0].clone(), bench.ids[1].clone());
    let mut check = |input: Value, signed_in, expected: &str| {
        let answer = bench.joins(input, signed_in);
        assert_eq!(answer["errors"][0]["message"], expected);
        assert_eq!(answer["data"], Value::Null);
    };
    check(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), false, "unauthenticated");
    check(json!({"tradeIds": [id]}), true, "You must agree to the terms of trading");
    check(
        json!({"tradeIds": [id, other], "hasCompliedToAntiRWT": true}),
        true,
        "Exactly one trade must be joined at a time",
    );
    check(json!({"tradeIds": ["x"], "hasCompliedToAntiRWT": true}), true, "Trade not found");
    assert_eq!(bench.exchange.balance().cents(), 50_000);
}

#[test]
fn a_query_that_asks_for_too_much_buys_nothing() {
    let mut bench = bench(1);
    let query = JOIN.replace("totalValue", "priceCeiling");
    let input = json!({"input": {"tradeIds": [bench.ids[0]], "hasCompliedToAntiRWT": true}});
    let answer = bench.asks(&query, input, true);
    let message = "Cannot query field \"priceCeiling\" on type \"Trade\".";
    assert_eq!(answer["errors"][0]["message"], message);
    assert_eq!(bench.exchange.books().purchases().count(), 0);
}

#[test]
fn the_account_is_shown_to_its_owner_only() {
    let mut bench = bench(0);
    let answer = bench.asks(USER, Value::Null, true);
    let user = &answer["data"]["currentUser"];
    assert_eq!(user["id"], USER_ID);
    assert_eq!(user["suspectedTrader"], false);
    assert_eq!(user["wallets"][0]["name"], "MAIN");
    assert_eq!(user["wallets"][0]["amount"], 500);
    assert_eq!(bench.asks(USER, Value::Null, false), json!({"data": {"currentUser": null}}));
}

#[test]
fn pages_show_every_open_listing_once_newest_first() {
    for order in ["CREATED_AT_DESC", "ID_DESC"] {
        let mut bench = bench(25);
        let (mut seen, mut created, mut after) = (Vec::new(), Vec::new(), Value::Null);
        loop {
            let variables =
                json!({"first": 10, "after": after, "orderBy": [order], "status": "LISTED"});
            let answer = bench.asks(LIST, variables, false);
            let page = &answer["data"]["trades"];
            for edge in page["edges"].as_array().unwrap() {
                seen.push(edge["node"]["id"].as_str().unwrap().to_owned());
                created.push(edge["node"]["createdAt"].as_str().unwrap().to_owned());
            }
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        let newest_first = created.is_sorted_by(|newer, older| newer >= older);
        assert!(order == "ID_DESC" || newest_first, "{order}: {created:?}");
        seen.sort();
        bench.ids.sort();
        assert_eq!(seen, bench.ids, "{order}");
    }
}

#[test]
fn a_page_has_a_limit() {
    let answer = bench(0).asks(LIST, json!({"first": 251}), false);
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("250"));
}

#[test]
fn ones_own_purchases_are_listed_with_their_status_and_for_oneself_only() {
    let mut bench = bench(3);
    let id = bench.ids[1].clone();
    bench.joins(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), true);
    let own = |statuses: Value| json!({"first": 50, "userId": USER_ID, "statuses": statuses});
    let ids = |answer: &Value| answer["data"]["trades"]["edges"].as_array().map(Vec::len);
    assert_eq!(ids(&bench.asks(LIST, own(json!(["JOINED", "PROCESSING"])), true)), Some(1));
    assert_eq!(ids(&bench.asks(LIST, own(json!(["COMPLETED"])), true)), Some(0));
    let stranger = bench.asks(LIST, own(json!(["JOINED"])), false);
    assert_eq!(stranger["errors"][0]["message"], "unauthenticated");
    let open = bench.asks(LIST, json!({"status": "LISTED"}), true);
    assert_eq!(ids(&open), Some(2));
}

/// A market with ten purchases, made two seconds after it opened.
fn with_purchases() -> Bench {
    let mut bench = bench(10);
    for id in bench.ids.clone() {
        bench.joins(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), true);
    }
    bench
}

#[test]
fn a_stale_read_shows_what_was_true_within_the_last_minute() {
    let mut bench = with_purchases();
    let (mut balances, mut counts) = (Vec::new(), Vec::new());
    for seed in 0..60 {
        let (balance, _, _) = bench.account(3, faults::FaultKind::BalanceStale, seed);
        let (_, nodes, _) = bench.account(3, faults::FaultKind::ListStale, seed);
        balances.push(balance == 500);
        counts.push(nodes.len());
    }
    // Each read is from before the purchases, or from after them.
    assert!(balances.contains(&true) && balances.contains(&false));
    assert!(counts.contains(&0) && counts.contains(&10));
    assert!(counts.iter().all(|count| [0, 10].contains(count)), "{counts:?}");
    for seed in 0..60 {
        let (_, nodes, _) = bench.account(120, faults::FaultKind::ListStale, seed);
        assert_eq!(nodes.len(), 10, "older than a minute");
    }
}

#[test]
fn a_false_page_is_false_about_some_purchases_and_says_that_it_is_the_last() {
    let mut bench = with_purchases();
    let mut check = |kind, count: usize, is_false: fn(&Value) -> bool| {
        let (balance, nodes, has_next) = bench.account(3, kind, 7);
        assert_eq!((balance, has_next), (json!(398.5), false), "{kind}");
        assert_eq!(nodes.len() == 10, count == 10, "{kind}: {nodes:?}");
        let struck = nodes.iter().filter(|node| is_false(node)).count();
        assert!((1..10).contains(&struck), "{kind}: {nodes:?}");
    };
    check(faults::FaultKind::ListShort, 0, |node| node["status"] == "JOINED");
    check(faults::FaultKind::ListNull, 10, Value::is_null);
    check(faults::FaultKind::ListUnknownStatus, 10, |node| node["status"] == "OTHER");
}

#[test]
fn a_hash_without_a_query_is_stale() {
    let body = json!({"operationName": "JoinTrades", "extensions": {"persistedQuery": {"sha256Hash": "0"}}});
    let answer = read(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("PersistedQueryNotFound"));
}

#[test]
fn a_connection_can_be_kept_warm_without_doing_anything() {
    let answer = bench(0).asks("{ __typename }", Value::Null, false);
    assert_eq!(answer, json!({"data": {"__typename": "Query"}}));
}

proptest! {
    #[test]
    fn reading_a_request_never_panics(body in prop::collection::vec(any::<u8>(), 0..80), query in "\\PC{0,60}") {
        let framed = json!({ "query": query }).to_string();
        for bytes in [&body[..], framed.as_bytes()] {
            if let Err(unreadable) = read(bytes) {
                prop_assert!(serde_json::from_str::<Value>(&unreadable.body).is_ok());
            }
        }
    }
}
