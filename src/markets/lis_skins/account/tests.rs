//! Responses of each read, and hostile ones.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::trade::Defect,
    markets::{
        MarketApi as _,
        lis_skins::tests::{market, order, response},
    },
};

fn own_id() -> OwnOrderId {
    order(900_000_123, 27_440).own_id.unwrap()
}

fn look_up(body: &str) -> Result<Option<OwnPurchase>, ReadError> {
    read_order(body, &own_id())
}

fn user(body: &str) -> Result<User, ReadError> {
    read_balance(body, "4711")
}

#[test]
fn a_balance_is_rounded_down_and_belongs_to_the_configured_account() {
    let body = r#"{"data":{"balance":99.969,"balance_locked":1.5,"trade_protection_balance":0}}"#;
    let read = user(body).unwrap();
    assert_eq!(read.id, "4711");
    assert_eq!((read.balance, read.balance_error), (Some(Amount::from_cents(9_996)), None));
    assert_eq!(read.is_flagged, None);
    let from_api = market().read_user(&response(200, &[], body)).unwrap();
    assert_eq!(from_api.id, "4711");
}

#[test]
fn an_unreadable_balance_has_a_specific_error() {
    for (balance, expected) in [
        ("null", "the response has no balance"),
        ("\"99.96\"", "the balance is not a number"),
        ("[]", "the balance is not a number"),
        ("1e99", "the balance is out of range"),
    ] {
        let read = user(&format!(r#"{{"data":{{"balance":{balance}}}}}"#)).unwrap();
        assert_eq!(read.balance, None);
        assert_eq!(read.balance_error.map(|error| error.to_string()).as_deref(), Some(expected));
    }
    assert!(user(r#"{"data":{}}"#).unwrap().balance_error.is_some());
}

#[test]
fn a_response_without_data_is_an_error_with_the_text_of_the_market() {
    for read in [
        |body: &str| user(body).map(drop),
        |body: &str| read_purchases(body).map(drop),
        |body: &str| look_up(body).map(drop),
        |body: &str| read_listings(body).map(drop),
    ] {
        for (body, expected) in [
            (
                r#"{"error":"slow\u001b down"}"#,
                ReadError::MarketError(r"slow\u{1b} down".to_owned()),
            ),
            (r#"{"message":"Too Many"}"#, ReadError::MarketError("Too Many".to_owned())),
            (r#"{"data":null}"#, ReadError::Shape),
            (r#"{"data":7}"#, ReadError::Shape),
            ("{}", ReadError::Shape),
            ("[]", ReadError::Shape),
            (r#"{"data":[],"data":[]}"#, ReadError::Shape),
            ("<html>", ReadError::NotJson),
            ("", ReadError::NotJson),
        ] {
            assert_eq!(read(body), Err(expected), "{body}");
        }
    }
}

#[test]
fn the_response_to_the_keep_warm_request_is_a_balance() {
    let is_balance =
        |status, body: &str| market().is_keep_warm_response(&response(status, &[], body));
    let balance = r#"{"data":{"balance":99.96,"balance_locked":1.5}}"#;
    assert!(is_balance(200, balance));
    assert!(!is_balance(201, balance) && !is_balance(500, balance));
    for body in [
        "{}",
        r#"{"data":[]}"#,
        r#"{"data":{"purchase_id":1,"skins":[]}}"#,
        r#"{"data":{"purchase_id":1,"balance":1}}"#,
        r#"{"error":"skins_unavailable"}"#,
        "<html>",
    ] {
        assert!(!is_balance(200, body), "{body}");
    }
}

fn skin(status: &str) -> Value {
    json!({"id": 900_000_123_u64, "name": "AK-47 | Redline (Field-Tested)", "price": 27.44,
        "status": status, "return_reason": null, "return_charged_commission": null, "error": null,
        "steam_trade_offer_id": null, "steam_trade_offer_finished_at": null})
}

fn purchase(skins: Value) -> Value {
    json!({"purchase_id": 5501, "steam_id": "7656", "created_at": "2026-03-01T10:00:00.000000Z",
        "custom_id": own_id().as_str(), "skins": skins})
}

fn info(purchases: Value) -> String {
    json!({"data": purchases}).to_string()
}

#[test]
fn each_status_of_a_purchase_has_a_meaning() {
    for (status, expected) in [
        ("processing", TradeStatus::Joined),
        ("wait_unlock", TradeStatus::Joined),
        ("wait_accept", TradeStatus::Processing),
        ("wait_withdraw", TradeStatus::Processing),
        ("accepted", TradeStatus::CompletedProtected),
        ("return", TradeStatus::Cancelled),
    ] {
        let found = look_up(&info(json!([purchase(json!([skin(status)]))]))).unwrap().unwrap();
        assert_eq!((found.status, found.unknown_status), (expected, None), "{status}");
        assert_eq!(found.id, TradeId::from_number(900_000_123));
        assert_eq!(found.price, Some(Amount::from_cents(2_744)));
        assert_eq!(found.joined_at, UnixMs::parse("2026-03-01T10:00:00Z"));
    }
}

#[test]
fn each_reason_of_a_return_gives_the_money_back() {
    for (reason, expected) in [
        (json!("trade_timeout"), TradeStatus::Expired),
        (json!("trade_canceled"), TradeStatus::Cancelled),
        (json!("trade_create_error"), TradeStatus::Cancelled),
        (json!("manual_cancel"), TradeStatus::Cancelled),
        (json!("wait_withdraw_timeout"), TradeStatus::Cancelled),
        (json!("rollback_user"), TradeStatus::Cancelled),
        (json!("rollback_supplier"), TradeStatus::Cancelled),
        (json!("new"), TradeStatus::Cancelled),
        (json!(null), TradeStatus::Cancelled),
    ] {
        let mut returned = skin("return");
        returned["return_reason"] = reason.clone();
        returned["error"] = json!("x");
        let found = look_up(&info(json!([purchase(json!([returned]))]))).unwrap().unwrap();
        assert_eq!(found.status, expected, "{reason}");
    }
}

#[test]
fn an_unknown_status_is_no_evidence_and_is_shown() {
    for (status, shown) in [(json!("frozen"), "frozen"), (json!(null), ""), (json!(7), "")] {
        let mut entry = skin("");
        entry["status"] = status;
        let found = look_up(&info(json!([purchase(json!([entry]))]))).unwrap().unwrap();
        assert_eq!(found.status, TradeStatus::Other);
        assert_eq!(found.unknown_status.as_deref(), Some(shown));
    }
    let long = look_up(&info(json!([purchase(json!([skin(&"x".repeat(1_000))]))])));
    assert_eq!(long.unwrap().unwrap().unknown_status.unwrap().len(), STATUS_CHARS_MAX);
}

#[test]
fn a_commission_of_a_returned_item_is_rounded_up() {
    for (commission, expected) in
        [(json!(1.371), Some(138)), (json!(2), Some(200)), (json!(0), None), (json!(null), None)]
    {
        let mut returned = skin("return");
        returned["return_charged_commission"] = commission.clone();
        let found = look_up(&info(json!([purchase(json!([returned]))]))).unwrap().unwrap();
        assert_eq!(found.commission, expected.map(Amount::from_cents), "{commission}");
    }
}

/// Its money counts until the balance shows it.
#[test]
fn an_item_with_an_error_is_a_cancelled_purchase() {
    for status in ["processing", "accepted", ""] {
        let mut entry = skin(status);
        entry["error"] = json!("trade_ban");
        let found = look_up(&info(json!([purchase(json!([entry]))]))).unwrap().unwrap();
        assert_eq!(
            (found.status, found.unknown_status),
            (TradeStatus::Cancelled, None),
            "{status}"
        );
    }
}

#[test]
fn a_list_is_read_in_any_order() {
    let at = |time: &str| {
        let mut one = purchase(json!([skin("accepted")]));
        one["created_at"] = json!(time);
        one
    };
    let (newer, older) = (at("2026-03-02T10:00:00.000000Z"), at("2026-03-01T10:00:00.000000Z"));
    let list = |purchases: Value| read_purchases(&json!({ "data": purchases }).to_string());
    assert_eq!(list(json!([newer, older])).unwrap().nodes.len(), 2);
    assert_eq!(list(json!([older, newer])).unwrap().nodes.len(), 2);
}

#[test]
fn a_look_up_finds_one_item_or_none() {
    assert_eq!(look_up(&info(json!([]))), Ok(None));
    let (one, mut nameless) = (purchase(json!([skin("accepted")])), skin("accepted"));
    nameless["id"] = json!("900000123");
    let (mut other, mut anonymous) = (one.clone(), one.clone());
    other["custom_id"] = json!("00ffee1122334455-0000000000000000");
    anonymous["custom_id"] = json!(null);
    for data in [
        json!([other]),
        json!([anonymous]),
        json!([one, one]),
        json!([purchase(json!([]))]),
        json!([purchase(json!([skin("accepted"), skin("accepted")]))]),
        json!([purchase(json!(null))]),
        json!([purchase(json!([nameless]))]),
        json!([7]),
        json!([null]),
    ] {
        assert_eq!(look_up(&info(data.clone())), Err(ReadError::Shape), "{data}");
    }
}

fn history(purchases: Value, meta: Value) -> Page<OwnPurchase> {
    read_purchases(&json!({"data": purchases, "meta": meta}).to_string()).unwrap()
}

#[test]
fn every_item_of_every_purchase_is_listed_and_unreadable_ones_are_counted() {
    let mut other = skin("return");
    other["id"] = json!(2);
    let purchases = json!([
        purchase(json!([skin("accepted"), other])),
        purchase(json!([])),
        purchase(json!([{"status": "accepted"}, 7])),
        purchase(json!(null)),
        7,
    ]);
    let page = history(purchases, json!({"current_page": 1, "last_page": 1}));
    let ids: Vec<_> = page.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!((ids, page.unreadable), (vec!["900000123", "2"], 4));
    assert!(page.nodes.iter().all(|node| node.created_at.is_some()));
}

#[test]
fn each_purchase_has_the_own_id_that_its_record_states() {
    let foreign = Some(OwnOrderId::of_record(""));
    let uuid = "7f0c1b9e-0000-4000-8000-00000000abcd";
    for (custom_id, expected) in [
        (json!(own_id().as_str()), Some(own_id())),
        (json!(own_id().as_str().to_uppercase()), Some(own_id())),
        (json!(uuid), Some(OwnOrderId::of_record(uuid))),
        (json!("x".repeat(100_000)), foreign),
        (json!(4_711), foreign),
        (json!(["a"]), foreign),
        (json!("\u{0}"), foreign),
        (json!(""), None),
        (json!(null), None),
    ] {
        let mut one = purchase(json!([skin("accepted")]));
        one["custom_id"] = custom_id;
        let page = history(json!([one]), json!(null));
        assert_eq!(page.nodes[0].own_id, expected, "{}", page.nodes[0].status);
    }
}

#[test]
fn pages_of_purchases_are_numbered() {
    let next = |meta| history(json!([]), meta).next;
    let after = |page: &str| NextPage::After(page.to_owned());
    assert_eq!(
        next(json!({"current_page": 1, "last_page": 3, "per_page": 50, "total": 130})),
        after("2")
    );
    assert_eq!(next(json!({"current_page": 3, "last_page": 3})), NextPage::End);
    assert_eq!(next(json!({"current_page": 1, "last_page": 0})), NextPage::End);
    for meta in [
        json!(null),
        json!({}),
        json!({"current_page": 1}),
        json!({"last_page": 1}),
        json!({"current_page": "1", "last_page": 1}),
        json!({"current_page": -1, "last_page": 1}),
    ] {
        assert_eq!(next(meta.clone()), NextPage::Unclear, "{meta}");
    }
}

#[test]
fn open_listings_are_of_this_game_and_have_a_cursor() {
    let page = |listings: Value, meta: Value| {
        let body = json!({"data": listings, "meta": meta}).to_string();
        let page = read_listings(&body).unwrap();
        let nodes: Vec<Trade<'static>> = page.nodes.into_iter().map(Trade::into_owned).collect();
        (nodes, page.unreadable, page.next)
    };
    let mut listing = listing::tests::listing();
    listing["name"] = json!("A name without parts");
    listing.as_object_mut().unwrap().remove("event");
    let mut other_game = listing.clone();
    other_game["game_id"] = json!(2);
    let mut incomplete = listing.clone();
    incomplete["price"] = json!(null);
    let listings = json!([listing, other_game, incomplete, {"id": null}, 7]);
    let (nodes, unreadable, next) = page(listings, json!({"next_cursor": "c", "per_page": 200}));
    assert_eq!((nodes.len(), unreadable, next), (3, 2, NextPage::After("c".to_owned())));
    assert!(matches!(nodes[0].event, TradeEvent::BackFilled { .. }) && nodes[0].can_join.is_none());
    assert_eq!(nodes[1].can_join, Some(false));
    assert!(nodes[2].defects.contains(Defect::TotalValue));
    let long = "c".repeat(PAGE_CURSOR_BYTES_MAX + 1);
    for (meta, expected) in [
        (json!({"next_cursor": null}), NextPage::End),
        (json!({"next_cursor": 7}), NextPage::After("7".to_owned())),
        (json!({"next_cursor": ""}), NextPage::Unclear),
        (json!({"next_cursor": long}), NextPage::Unclear),
        (json!({"next_cursor": []}), NextPage::Unclear),
        (json!({}), NextPage::Unclear),
        (json!(null), NextPage::Unclear),
    ] {
        assert_eq!(page(json!([]), meta.clone()).2, expected, "{meta}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,80}") {
        let results =
            [user(&text).is_ok(), read_purchases(&text).is_ok(), read_listings(&text).is_ok()];
        prop_assert!(results == [false; 3] && look_up(&text).is_err());
        prop_assert!(!is_balance(&text));
    }
}
