//! Tests of [`super`]: every row of the table, and arbitrary responses.

use proptest::prelude::*;

use super::*;
use crate::{
    domain::own_order_id::{OwnOrderId, StartId},
    domain::trade::TradeId,
    net::http_head::ResponseHead,
};

const BOUGHT: &str = r#"{"success":true,"id":30717149,"price":912340}"#;
const LIMIT: Amount = Amount::from_thousandths(912_340);

fn own_id() -> OwnOrderId {
    StartId::from_bits(0x00ff_ee11_u128.to_be_bytes()).order_id(7)
}

fn order() -> OrderFields {
    OrderFields { id: TradeId::from_number(7), price_limit: LIMIT, own_id: Some(own_id()) }
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    HttpResponse { head: ResponseHead::parse(status, headers), body: body.into() }
}

fn classify(status: u16, body: &str) -> Outcome {
    order_outcome(&order(), &response(status, &[], body)).0
}

fn rejection_body(message: &str) -> String {
    serde_json::json!({ "success": false, "msg": message }).to_string()
}

#[track_caller]
fn bought(body: &str, thousandths: i64) {
    let price = Some(Amount::from_thousandths(thousandths));
    assert_eq!(classify(200, body), Outcome::Bought { price, server_time: None }, "{body}");
}

#[track_caller]
fn rejected(status: u16, body: &str, reason: RejectReason) {
    assert_eq!(classify(status, body), Outcome::Rejected(reason), "{status} {body}");
}

#[track_caller]
fn unknown(status: u16, body: &str, reason: Unknown) {
    assert_eq!(classify(status, body), Outcome::Unknown(reason), "{status} {body}");
}

#[test]
fn a_success_with_the_number_and_the_price_is_bought() {
    bought(BOUGHT, 912_340);
    bought(r#"{"success":true,"id":1,"price":1,"msg":null,"extra":{}}"#, 1);
    // The ledger halts if more was paid than the limit.
    bought(r#"{"success":true,"id":1,"price":912341}"#, 912_341);
}

#[test]
fn a_success_without_a_readable_number_and_price_is_unknown() {
    for body in [
        r#"{"success":true}"#,
        r#"{"success":true,"id":1}"#,
        r#"{"success":true,"price":912340}"#,
        r#"{"success":true,"id":"x","price":912340}"#,
        r#"{"success":true,"id":0,"price":912340}"#,
        r#"{"success":true,"id":1,"price":"912340"}"#,
        r#"{"success":true,"id":1,"price":912.34}"#,
        r#"{"success":true,"id":1,"price":-1}"#,
        r#"{"success":true,"id":1,"msg":"buy_csgo"}"#,
        r#"{"success":"true","id":1,"price":912340}"#,
        r#"{"id":1,"price":912340}"#,
        "{}",
        "[]",
        "null",
        "",
        &BOUGHT[..BOUGHT.len() - 1],
        r#"{"success":true,"id":1,"price":1,"price":2}"#,
        "Item sold",
    ] {
        unknown(200, body, Unknown::Unreadable);
    }
}

#[test]
fn each_known_message_is_a_rejection_however_it_is_worded() {
    for (message, reason) in [
        ("Item sold", RejectReason::Taken),
        ("Item is already SOLD", RejectReason::Taken),
        ("Item sold or delisted", RejectReason::Taken),
        ("This item is no longer available", RejectReason::Taken),
        ("Item not available", RejectReason::Taken),
        ("Price changed", RejectReason::PriceChanged),
        ("Item price has changed", RejectReason::PriceChanged),
        ("System busy", RejectReason::Busy),
        ("System busy, please try again later", RejectReason::Busy),
        ("buy_csgo", RejectReason::BuyingDisabled),
        ("buy_csgo is disabled", RejectReason::BuyingDisabled),
        ("Low balance", RejectReason::InsufficientFunds),
        ("Not enough balance", RejectReason::InsufficientFunds),
        ("Insufficient funds", RejectReason::InsufficientFunds),
        ("not enough money", RejectReason::InsufficientFunds),
        ("Your trade link is invalid", RejectReason::AccountRestricted),
        (
            "We couldn't validate your trade link, either your inventory is private or you can't trade",
            RejectReason::AccountRestricted,
        ),
        ("Wrong tradelink", RejectReason::AccountRestricted),
    ] {
        rejected(200, &rejection_body(message), reason);
    }
}

#[test]
fn a_moved_price_is_compared_with_the_limit() {
    let moved =
        |price: &str| format!(r#"{{"success":false,"msg":"Price changed","new_price":{price}}}"#);
    rejected(200, &moved("912341"), RejectReason::AbovePriceLimit);
    rejected(200, &moved("\"912341\""), RejectReason::AbovePriceLimit);
    rejected(200, &moved("912340"), RejectReason::PriceChanged);
    rejected(200, &moved("1"), RejectReason::PriceChanged);
    for unreadable in ["null", "\"x\"", "-5", "0", "[1]", "9e99"] {
        rejected(200, &moved(unreadable), RejectReason::PriceChanged);
    }
    rejected(200, r#"{"success":false,"new_price":912341}"#, RejectReason::AbovePriceLimit);
}

#[test]
fn an_own_id_that_exists_is_looked_up() {
    for message in [
        "projectId already exists",
        "project_id already exists",
        "Project ID exists",
        "This projectId was already used; item sold",
    ] {
        unknown(200, &rejection_body(message), Unknown::AlreadyOrdered);
    }
    let body = r#"{"success":false,"msg":"projectId already exists","new_price":5}"#;
    unknown(200, body, Unknown::AlreadyOrdered);
}

#[test]
fn an_unknown_message_is_unknown_and_shown() {
    let messages = [
        "Something unexpected happened (7)",
        "",
        "sold",
        "price",
        "project",
        "Could not update balance",
        "Purchase is not allowed while balance is being checked",
        "The item was resold at another price, unchanged",
    ];
    for message in messages {
        let body = rejection_body(message);
        unknown(200, &body, Unknown::UnknownError);
        assert_eq!(error_message(&response(200, &[], &body)).as_deref(), Some(message));
    }
    unknown(200, r#"{"success":false}"#, Unknown::UnknownError);
    unknown(200, r#"{"success":false,"msg":7}"#, Unknown::UnknownError);
    unknown(200, r#"{"success":false,"msg":"Item sold","id":5}"#, Unknown::UnknownError);
    unknown(200, r#"{"success":false,"success":false,"msg":"Item sold"}"#, Unknown::Unreadable);
    unknown(200, r#"{"msg":"Item sold"}"#, Unknown::Unreadable);
}

#[test]
fn a_rejected_key_halts_and_the_message_names_the_fix() {
    let key = |status| RejectReason::KeyRejected { status };
    for body in ["Please whitelist your IP", &rejection_body("whitelist your IP"), "", "{}", "null"]
    {
        rejected(403, body, key(403));
        rejected(401, body, key(401));
    }
    let html = "<html>Please whitelist your IP</html>";
    rejected(403, html, key(403));
    rejected(403, "<html>Forbidden</html>", key(403));
    let text = response(403, &[], "Please whitelist your IP");
    assert_eq!(error_message(&text).as_deref(), Some("Please whitelist your IP"));
    assert_eq!(error_message(&response(403, &[], html)), None);
    assert_eq!(error_message(&response(403, &[], &"x".repeat(TEXT_BYTES_MAX + 1))), None);
}

#[test]
fn a_rate_limit_is_read_from_the_header_or_the_body() {
    let limited = |headers: &[(&str, &str)], body: &str| {
        let (outcome, attribution) = order_outcome(&order(), &response(429, headers, body));
        assert_eq!(attribution, Attribution::Blocked);
        let Outcome::Rejected(RejectReason::RateLimited { retry_after }) = outcome else {
            panic!("{outcome:?}")
        };
        retry_after.map(|wait| wait.as_millis())
    };
    assert_eq!(limited(&[], r#"{"msBeforeNext":1500}"#), Some(1_500));
    assert_eq!(limited(&[], r#"{"msBeforeNext":1500.7}"#), Some(1_500));
    assert_eq!(limited(&[("Retry-After", "3")], r#"{"msBeforeNext":1500}"#), Some(3_000));
    for body in ["", "{}", "<html>", r#"{"msBeforeNext":-1}"#, r#"{"msBeforeNext":"1500"}"#] {
        assert_eq!(limited(&[], body), None, "{body}");
    }
    let wait = Some(Duration::from_millis(1_500));
    let body = r#"{"success":false,"msg":"slow down","msBeforeNext":1500}"#;
    rejected(200, body, RejectReason::RateLimited { retry_after: wait });
}

#[test]
fn a_purchase_with_another_status_is_unknown() {
    for status in [401, 403, 429] {
        unknown(status, BOUGHT, Unknown::Status { status });
        unknown(status, r#"{"a":1,"a":2}"#, Unknown::Status { status });
    }
}

#[test]
fn every_other_status_is_unknown_regardless_of_the_body() {
    for status in [
        100, 201, 204, 301, 302, 307, 400, 404, 408, 409, 410, 422, 499, 500, 502, 503, 504, 520,
        599,
    ] {
        for body in ["", BOUGHT, &rejection_body("Item sold"), "<html>", r#"{"msBeforeNext":1}"#] {
            unknown(status, body, Unknown::Status { status });
        }
    }
}

#[test]
fn a_web_page_with_200_is_unknown_and_a_challenge_halts() {
    unknown(200, " <!DOCTYPE html>", Unknown::Unreadable);
    let html = [("Content-Type", "text/html")];
    let page =
        |headers: &[(&str, &str)], body| order_outcome(&order(), &response(200, headers, body));
    let unreadable = Outcome::Unknown(Unknown::Unreadable);
    assert_eq!(page(&html, BOUGHT), (unreadable, Attribution::Blocked));
    let challenge = Outcome::Rejected(RejectReason::Challenge);
    let mitigated = [("cf-mitigated", "challenge")];
    for status in [403, 429, 503] {
        let (outcome, attribution) = order_outcome(&order(), &response(status, &mitigated, "x"));
        assert_eq!((outcome, attribution), (challenge.clone(), Attribution::Blocked), "{status}");
    }
    for status in [200, 408, 500, 502] {
        let (outcome, _) = order_outcome(&order(), &response(status, &mitigated, "x"));
        assert!(matches!(outcome, Outcome::Unknown(_)), "{status}: {outcome:?}");
    }
    assert_eq!(page(&mitigated, BOUGHT).0, Outcome::Unknown(Unknown::Unreadable));
}

#[test]
fn a_response_names_its_order_only_by_the_own_id() {
    let of = |body: &str| order_outcome(&order(), &response(200, &[], body));
    assert_eq!(of(BOUGHT).1, Attribution::Unnamed);
    assert_eq!(of(&rejection_body("Item sold")).1, Attribution::Unnamed);
    let text = own_id().to_string();
    for text in [text.to_uppercase(), text] {
        let named = BOUGHT.replace('}', &format!(r#","project_id":"{text}"}}"#));
        assert!(matches!(of(&named), (Outcome::Bought { .. }, Attribution::Named)), "{named}");
    }
    let null = BOUGHT.replace('}', r#","project_id":null}"#);
    assert!(matches!(of(&null), (Outcome::Bought { .. }, Attribution::Unnamed)));
    let other = BOUGHT.replace('}', r#","project_id":"another"}"#);
    assert_eq!(of(&other), (Outcome::Unknown(Unknown::Foreign), Attribution::Unnamed));
}

#[test]
fn an_order_response_is_never_read_as_the_user() {
    let is_user = |status, body: &str| is_user(&response(status, &[], body));
    assert!(is_user(200, r#"{"success":true,"user":{"wallet":53300,"id":"u"}}"#));
    for body in [
        BOUGHT,
        &rejection_body("Item sold"),
        "",
        "{}",
        r#"{"success":true}"#,
        r#"{"success":true,"user":"u"}"#,
        r#"{"success":false,"user":{}}"#,
        r#"{"success":true,"user":{},"id":1}"#,
        r#"{"success":true,"user":{},"price":1}"#,
        r#"{"success":true,"user":{},"user":{}}"#,
        r#"{"success":true,"user":{}"#,
        "<html>",
    ] {
        assert!(!is_user(200, body), "{body}");
    }
    assert!(!is_user(401, r#"{"success":true,"user":{}}"#));
}

proptest! {
    #[test]
    fn no_text_but_a_success_is_bought_and_nothing_panics(status in 100_u16..600, body in "\\PC{0,80}") {
        let outcome = classify(status, &body);
        prop_assert!(!matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
    }

    /// Random members, far more often nearly valid than random text is.
    #[test]
    fn a_response_that_may_report_a_purchase_never_releases_the_money(
        status in prop::sample::select(vec![200_u16, 200, 200, 401, 403, 429, 500]),
        members in prop::collection::vec(prop::sample::select(vec![
            r#""success":true"#, r#""success":false"#, r#""id":5"#, r#""price":5"#, r#""id":null"#,
            r#""msg":"Item sold""#, r#""new_price":7"#, r#""msBeforeNext":9"#, r#""project_id":"x""#,
        ]), 0..6),
    ) {
        let body = format!("{{{}}}", members.join(","));
        let outcome = classify(status, &body);
        let may_be_purchase = members.contains(&r#""success":true"#) || members.contains(&r#""id":5"#);
        let is_released = matches!(outcome, Outcome::Rejected(_));
        prop_assert!(!(may_be_purchase && is_released), "{}: {:?}", body, outcome);
    }

    #[test]
    fn a_truncated_success_is_never_a_rejection(cut in 0..BOUGHT.len(), status in prop::sample::select(vec![200_u16, 400, 500])) {
        let outcome = classify(status, &BOUGHT[..cut]);
        prop_assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    }

    #[test]
    fn the_charged_price_is_read_exactly(price in 1_i64..=Amount::MAX.thousandths()) {
        let body = format!(r#"{{"success":true,"id":1,"price":{price}}}"#);
        let expected = Outcome::Bought { price: Some(Amount::from_thousandths(price)), server_time: None };
        prop_assert_eq!(classify(200, &body), expected);
    }
}
