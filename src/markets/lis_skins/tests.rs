//! Requests and parameters of connections.

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Config, Endpoints, TradeUrl},
    domain::{money::Amount, own_order_id::StartId, time::UnixMs, trade::TradeId},
    execution::request::PreparedOrder,
    markets::{AccountQuery, OrderReference, order_template::OrderFields},
    net::{http_head::ResponseHead, http_message::Method},
    protocol::{ClientMessage, FeedProtocol as _, Opening},
};

const HOST: &str = "127.0.0.1:1";

pub(super) fn market() -> LisSkins {
    let endpoints =
        Endpoints::new("ws://127.0.0.1:1/connection/websocket", "http://127.0.0.1:1/v1").unwrap();
    let url = "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";
    let config = Config {
        trade_url: Some(TradeUrl::parse(url).unwrap()),
        account_id: Some("4711".to_owned()),
        ..Config::new(endpoints, "unused")
    };
    LisSkins::new(&config)
}

pub(super) fn order(id: u64, thousandths: i64) -> OrderFields {
    let (id, price_limit) = (TradeId::from_number(id), Amount::from_thousandths(thousandths));
    let own_id = Some(StartId::from_bits(0x00ff_ee11_u128.to_be_bytes()).order_id(7));
    OrderFields { id, price_limit, own_id }
}

pub(super) fn response(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    HttpResponse { head: ResponseHead::parse(status, headers), body: body.into() }
}

fn key() -> Credential {
    Credential::from_key("hunter2hunter2").unwrap()
}

/// Returns the request of an order, without its headers but those that matter.
fn order_request(order: &OrderFields) -> (String, String) {
    let template = LisSkins::authenticated(Some(&key()), market().order_template());
    let mut request = PreparedOrder::new(&template, HOST).unwrap();
    let bytes = request.bytes_for(order, UnixMs(0)).to_vec();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn an_order_names_listing_recipient_price_limit_and_own_id() {
    let order = order(900_000_123, 27_449);
    let own_id = order.own_id.unwrap();
    let (head, body) = order_request(&order);
    assert!(head.starts_with("POST /v1/market/buy HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"), "{head}");
    for header in [
        "Content-Type: application/json",
        "Accept: application/json",
        "Authorization: Bearer hunter2hunter2",
        &format!("Content-Length: {}", body.len()),
    ] {
        assert!(head.contains(&format!("\r\n{header}")), "{header}: {head}");
    }
    let expected = format!(
        r#"{{"ids":[900000123],"partner":"123456789","token":"AbCdEf12","max_price":27.44,"custom_id":"{own_id}","skip_unavailable":false}}"#
    );
    assert_eq!(body, expected);
    assert!(own_id.as_str().len() <= 36 && own_id.as_str().is_ascii());
}

proptest! {
    /// The limit in the request is the greatest amount in cents that is not above the order's.
    #[test]
    fn a_price_limit_is_never_above_that_of_the_order(id: u64, thousandths in 0_i64..10_000_000_000) {
        let order = order(id, thousandths);
        let (_, body) = order_request(&order);
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        prop_assert_eq!(json["ids"][0].as_u64(), Some(id));
        let limit = JsonObject::parse(&body).unwrap().number("max_price").unwrap();
        let limit = Amount::parse(limit, DECIMALS).unwrap();
        prop_assert!(limit <= order.price_limit);
        prop_assert!(order.price_limit < limit.saturating_add(Amount::from_cents(1)));
    }

    /// The price of a listing is rounded up, so a limit at the price of the listing covers it.
    #[test]
    fn a_listed_price_is_never_below_the_exact_one(cents in 1_i64..10_000_000, rest in 0_i64..1_000) {
        let text = format!("{}.{:02}{rest:03}", cents / 100, cents % 100);
        let price = listing::positive(&text).unwrap();
        let expected = if rest == 0 { cents } else { cents + 1 };
        prop_assert_eq!(price, Amount::from_cents(expected));
    }
}

#[test]
fn reads_go_to_the_documented_addresses() {
    let (id, own_id) = (TradeId::from_number(1), order(1, 1).own_id.unwrap());
    let order = OrderReference { id: &id, own_id: &own_id, is_alone: true };
    for (query, expected) in [
        (AccountQuery::User, "/v1/user/balance".to_owned()),
        (AccountQuery::Purchases { user: "4711", after: None }, "/v1/market/history?page=1".into()),
        (
            AccountQuery::Purchases { user: "4711", after: Some("2") },
            "/v1/market/history?page=2".into(),
        ),
        (
            AccountQuery::OpenListings { after: None },
            "/v1/market/search?game=csgo&sort_by=newest&only_unlocked=1&per_page=200".into(),
        ),
        (
            AccountQuery::OpenListings { after: Some("a=") },
            "/v1/market/search?game=csgo&sort_by=newest&only_unlocked=1&per_page=200&cursor=a%3D"
                .into(),
        ),
        (
            AccountQuery::CheapestListings {
                names: &["AWP | Asiimov (Field-Tested)".to_owned(), "x".to_owned()],
                max_price: Amount::from_thousandths(27_449),
            },
            "/v1/market/search?game=csgo&sort_by=lowest_price&only_unlocked=1&per_page=200\
             &price_to=27.44&names%5B%5D=AWP%20%7C%20Asiimov%20%28Field-Tested%29&names%5B%5D=x"
                .into(),
        ),
        (
            AccountQuery::Orders { orders: &[order] },
            format!("/v1/market/info?custom_ids%5B%5D={own_id}"),
        ),
    ] {
        let request = market().account_request(&query).unwrap();
        assert_eq!((request.method, request.path_and_query), (Method::Get, expected));
        assert!(request.headers.contains(&("Accept", "application/json".to_owned())));
    }
    let keep_warm = market().keep_warm_request();
    assert_eq!(keep_warm.path_and_query, "/v1/user/balance");
}

#[test]
fn the_token_is_requested_with_the_key_and_sent_in_the_connect_command() {
    let (market, key) = (market(), key());
    assert_eq!(market.token_request(None), None);
    let request = market.token_request(Some(&key)).unwrap();
    assert_eq!(request.path_and_query, "/v1/user/get-ws-token");
    let bearer = ("Authorization", "Bearer hunter2hunter2".to_owned());
    assert!(request.headers.contains(&bearer));
    let token = response(200, &[], r#"{"data":{"token":"a.b-c_d"}}"#);
    let DialPlan { upgrade, mut protocol } = market.dial(Some(&key), Some(&token)).unwrap();
    assert_eq!(upgrade.path_and_query, "/connection/websocket");
    assert!(!upgrade.headers.contains(&bearer), "the key goes to the API only");
    let Opening::AwaitAck(Some(ClientMessage::Text(connect))) = protocol.open() else {
        panic!("no connect command")
    };
    assert_eq!(connect, r#"{"id":1,"connect":{"token":"a.b-c_d","name":"sniper"}}"#);
}

#[test]
fn a_missing_key_or_token_prevents_the_connection() {
    let (market, key) = (market(), key());
    let missing = market.dial(None, None).unwrap_err();
    assert!(missing.to_string().ends_with("set LIS_SKINS_KEY"), "{missing}");
    let long = format!(r#"{{"data":{{"token":"{}"}}}}"#, "a".repeat(TOKEN_BYTES_MAX + 1));
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{"token":null}}"#,
        r#"{"data":{"token":7}}"#,
        r#"{"data":{"token":""}}"#,
        r#"{"data":{"token":"a b"}}"#,
        r#"{"data":{"token":"a\"b"}}"#,
        r#"{"error":"unauthorized"}"#,
        long.as_str(),
    ] {
        let error = market.dial(Some(&key), Some(&response(200, &[], body))).unwrap_err();
        assert!(matches!(error, PrepareError::Token { .. }), "{body}: {error}");
    }
    assert!(matches!(market.dial(Some(&key), None), Err(PrepareError::Token { .. })));
}

#[test]
fn the_purchases_are_subscribed_to_with_the_id_of_the_account_only() {
    let channels = |market: &LisSkins| {
        let subscriptions = market.subscriptions(None).into_iter();
        let channel = |it: MarketSubscription| {
            (it.subscription.topic, it.subscription.is_optional, it.is_private)
        };
        subscriptions.map(channel).collect::<Vec<_>>()
    };
    let listings = (LISTINGS_CHANNEL.to_owned(), false, false);
    let purchases = ("private:purchase-skins#4711".to_owned(), true, true);
    assert_eq!(channels(&market()), [listings.clone(), purchases]);
    let anonymous = LisSkins { account_id: None, ..market() };
    assert_eq!(channels(&anonymous), [listings]);
}

#[test]
fn nothing_prints_the_recipient_of_the_items() {
    let shown = format!("{:?} {:?}", market(), market().order_template());
    assert!(!shown.contains("AbCdEf12") && !shown.contains("123456789"), "{shown}");
}
