//! Tests of the responses to each operation and to invalid requests.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    domain::time::UnixMs,
    sim::{
        offer::ListedItem,
        random::Rng,
        settings::{Rate, SimSettings},
    },
};

const JOIN: &str = "mutation JoinTrades($input: JoinTradesInput!) { joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }";
const USER: &str = "query CurrentUser { currentUser { id name suspectedTrader dailyWithdrawLimit wallets { id name amount } } }";
const LIST: &str = "query TradeList($first: PaginationAmount, $after: String, $orderBy: [TradeOrderBy], $status: TradeStatus, $userId: ID, $statuses: [TradeStatus!]) { trades(first: $first, after: $after, orderBy: $orderBy, status: $status, userId: $userId, statuses: $statuses) { edges { node { id status createdAt } } pageInfo { hasNextPage endCursor } } }";
const USER_ID: &str = "VXNlcjo0MjQyNDI";

struct TestMarket {
    market: MarketState,
    ids: Vec<String>,
}

fn market_with_purchases(items: usize) -> TestMarket {
    let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
    let mut market = MarketState::new(&settings, UnixMs(1_772_366_400_000));
    let price = Amount::from_cents(1_015);
    let item = |at: usize| ListedItem {
        // Created out of order, as on the real site.
        created_before: Duration::from_millis(if at.is_multiple_of(2) { 400 } else { 1 }),
        ..ListedItem::plain("AK-47 | Redline (Field-Tested)", Amount::from_cents(1_000), price)
    };
    let ids =
        market.list_items(Duration::from_secs(1), (0..items).map(item).collect(), &mut Vec::new());
    TestMarket { market, ids }
}

impl TestMarket {
    fn query(&mut self, query: &str, variables: Value, signed_in: bool) -> Value {
        self.query_at(2, (query, variables), signed_in, None)
    }

    /// Reads the account and its purchases under a fault. Returns the balance, the nodes of the
    /// page and `hasNextPage`.
    fn account(
        &mut self,
        second: u64,
        kind: faults::FaultKind,
        seed: u64,
    ) -> (Value, Vec<Value>, bool) {
        let fault = || Some((kind, Rng::with_seed(seed)));
        let user = self.query_at(second, (USER, Value::Null), true, fault());
        let own = json!({"first": 50, "userId": USER_ID, "orderBy": ["ID_DESC"]});
        let list = self.query_at(second, (LIST, own), true, fault());
        let page = &list["data"]["trades"];
        let edges = page["edges"].as_array().unwrap();
        let nodes = edges.iter().map(|edge| edge["node"].clone()).collect();
        let has_next = page["pageInfo"]["hasNextPage"] == true;
        (user["data"]["currentUser"]["wallets"][0]["amount"].clone(), nodes, has_next)
    }

    fn query_at(
        &mut self,
        second: u64,
        (query, variables): (&str, Value),
        signed_in: bool,
        fault: Option<(faults::FaultKind, Rng)>,
    ) -> Value {
        let body = json!({"operationName": null, "query": query, "variables": variables});
        let text = match parse_request(body.to_string().as_bytes()) {
            Ok(request) => {
                let now = Duration::from_secs(second);
                let parsed = ParsedRequest { request: &request, signed_in, fault };
                respond(&mut self.market, now, parsed, &mut Vec::new())
            }
            Err(rejected) => rejected.body,
        };
        serde_json::from_str(&text).unwrap()
    }

    fn join(&mut self, input: Value, signed_in: bool) -> Value {
        self.query(JOIN, json!({ "input": input }), signed_in)
    }
}

#[test]
fn the_response_to_a_purchase_has_its_id_and_price() {
    let mut test = market_with_purchases(1);
    let response =
        test.join(json!({"tradeIds": [test.ids[0]], "hasCompliedToAntiRWT": true}), true);
    let trade = &response["data"]["joinTrades"]["trades"][0];
    assert_eq!(trade["id"], test.ids[0]);
    assert_eq!((&trade["status"], &trade["totalValue"]), (&json!("JOINED"), &json!(10.15)));
    assert_eq!(trade["updatedAt"], "2026-03-01T12:00:02.000Z");
}

#[test]
fn a_rejected_order_has_the_marketplaces_message_and_buys_nothing() {
    let mut test = market_with_purchases(2);
    let (id, other) = (test.ids[0].clone(), test.ids[1].clone());
    let mut check = |input: Value, signed_in, expected: &str| {
        let response = test.join(input, signed_in);
        assert_eq!(response["errors"][0]["message"], expected);
        assert_eq!(response["data"], Value::Null);
    };
    check(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), false, "unauthenticated");
    check(json!({"tradeIds": [id]}), true, "You must agree to the terms of trading");
    check(
        json!({"tradeIds": [id, other], "hasCompliedToAntiRWT": true}),
        true,
        "Exactly one trade must be joined at a time",
    );
    check(json!({"tradeIds": ["x"], "hasCompliedToAntiRWT": true}), true, "Trade not found");
    assert_eq!(test.market.balance().cents(), 50_000);
}

#[test]
fn an_order_with_an_unknown_field_buys_nothing() {
    let mut test = market_with_purchases(1);
    let query = JOIN.replace("totalValue", "priceCeiling");
    let input = json!({"input": {"tradeIds": [test.ids[0]], "hasCompliedToAntiRWT": true}});
    let response = test.query(&query, input, true);
    let message = "Cannot query field \"priceCeiling\" on type \"Trade\".";
    assert_eq!(response["errors"][0]["message"], message);
    assert_eq!(test.market.history().purchases().count(), 0);
}

#[test]
fn the_account_is_readable_only_with_its_session() {
    let mut test = market_with_purchases(0);
    let response = test.query(USER, Value::Null, true);
    let user = &response["data"]["currentUser"];
    assert_eq!(user["id"], USER_ID);
    assert_eq!(user["suspectedTrader"], false);
    assert_eq!(user["wallets"][0]["name"], "MAIN");
    assert_eq!(user["wallets"][0]["amount"], 500);
    assert_eq!(test.query(USER, Value::Null, false), json!({"data": {"currentUser": null}}));
}

#[test]
fn pages_contain_every_open_listing_once_newest_first() {
    for order in ["CREATED_AT_DESC", "ID_DESC"] {
        let mut test = market_with_purchases(25);
        let (mut seen, mut created, mut after) = (Vec::new(), Vec::new(), Value::Null);
        loop {
            let variables =
                json!({"first": 10, "after": after, "orderBy": [order], "status": "LISTED"});
            let response = test.query(LIST, variables, false);
            let page = &response["data"]["trades"];
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
        test.ids.sort();
        assert_eq!(seen, test.ids, "{order}");
    }
}

#[test]
fn a_page_above_the_size_limit_is_an_error() {
    let response = market_with_purchases(0).query(LIST, json!({"first": 251}), false);
    assert!(response["errors"][0]["message"].as_str().unwrap().contains("250"));
}

#[test]
fn purchases_are_listed_by_status_and_only_with_the_session() {
    let mut test = market_with_purchases(3);
    let id = test.ids[1].clone();
    test.join(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), true);
    let own = |statuses: Value| json!({"first": 50, "userId": USER_ID, "statuses": statuses});
    let ids = |response: &Value| response["data"]["trades"]["edges"].as_array().map(Vec::len);
    assert_eq!(ids(&test.query(LIST, own(json!(["JOINED", "PROCESSING"])), true)), Some(1));
    assert_eq!(ids(&test.query(LIST, own(json!(["COMPLETED"])), true)), Some(0));
    let unauthenticated = test.query(LIST, own(json!(["JOINED"])), false);
    assert_eq!(unauthenticated["errors"][0]["message"], "unauthenticated");
    let open = test.query(LIST, json!({"status": "LISTED"}), true);
    assert_eq!(ids(&open), Some(2));
}

/// A market with ten purchases at 2 s.
fn with_purchases() -> TestMarket {
    let mut test = market_with_purchases(10);
    for id in test.ids.clone() {
        test.join(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), true);
    }
    test
}

#[test]
fn a_stale_read_has_a_state_of_the_last_minute() {
    let mut test = with_purchases();
    let (mut balances, mut counts) = (Vec::new(), Vec::new());
    for seed in 0..60 {
        let (balance, _, _) = test.account(3, faults::FaultKind::BalanceStale, seed);
        let (_, nodes, _) = test.account(3, faults::FaultKind::ListStale, seed);
        balances.push(balance == 500);
        counts.push(nodes.len());
    }
    // Each read is from before the purchases or from after them.
    assert!(balances.contains(&true) && balances.contains(&false));
    assert!(counts.contains(&0) && counts.contains(&10));
    assert!(counts.iter().all(|count| [0, 10].contains(count)), "{counts:?}");
    for seed in 0..60 {
        let (_, nodes, _) = test.account(120, faults::FaultKind::ListStale, seed);
        assert_eq!(nodes.len(), 10, "older than a minute");
    }
}

#[test]
fn a_faulty_page_is_wrong_about_some_purchases_and_claims_to_be_the_last() {
    let mut test = with_purchases();
    let mut check = |kind, count: usize, is_false: fn(&Value) -> bool| {
        let (balance, nodes, has_next) = test.account(3, kind, 7);
        assert_eq!((balance, has_next), (json!(398.5), false), "{kind}");
        assert_eq!(nodes.len() == 10, count == 10, "{kind}: {nodes:?}");
        let affected = nodes.iter().filter(|node| is_false(node)).count();
        assert!((1..10).contains(&affected), "{kind}: {nodes:?}");
    };
    check(faults::FaultKind::ListShort, 0, |node| node["status"] == "JOINED");
    check(faults::FaultKind::ListNull, 10, Value::is_null);
    check(faults::FaultKind::ListUnknownStatus, 10, |node| node["status"] == "OTHER");
}

#[test]
fn a_persisted_query_without_its_text_is_not_found() {
    let body = json!({"operationName": "JoinTrades", "extensions": {"persistedQuery": {"sha256Hash": "0"}}});
    let response = parse_request(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(response.status, 200);
    assert!(response.body.contains("PersistedQueryNotFound"));
}

#[test]
fn a_typename_query_returns_the_query_type() {
    let response = market_with_purchases(0).query("{ __typename }", Value::Null, false);
    assert_eq!(response, json!({"data": {"__typename": "Query"}}));
}

proptest! {
    #[test]
    fn parsing_a_request_never_panics(body in prop::collection::vec(any::<u8>(), 0..80), query in "\\PC{0,60}") {
        let framed = json!({ "query": query }).to_string();
        for bytes in [&body[..], framed.as_bytes()] {
            if let Err(rejected) = parse_request(bytes) {
                prop_assert!(serde_json::from_str::<Value>(&rejected.body).is_ok());
            }
        }
    }
}
