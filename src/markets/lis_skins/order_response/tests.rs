//! Every row of the outcome table of the parent module, and hostile responses.

use std::time::Duration;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    domain::money::Amount,
    markets::lis_skins::tests::{order, response},
    net::http_head::tests::PAGES,
};

const ID: u64 = 900_000_123;

fn ours() -> OrderFields {
    order(ID, 27_440)
}

/// A purchase of this listing.
fn success() -> String {
    let own_id = ours().own_id.unwrap();
    format!(
        r#"{{"data":{{"purchase_id":5501,"steam_id":"76561190000000000","created_at":"2026-03-01T10:00:00.120000Z","custom_id":"{own_id}","skins":[{{"id":900000123,"name":"AK-47 | Redline (Field-Tested)","price":27.1,"status":"processing","return_reason":null,"return_charged_commission":null,"error":null,"steam_trade_offer_id":null}}]}}}}"#
    )
}

fn outcome_of(response: &HttpResponse) -> Outcome {
    order_outcome(&ours(), response).0
}

fn classify(status: u16, body: &str) -> Outcome {
    outcome_of(&response(status, &[], body))
}

#[track_caller]
fn assert_unknown(status: u16, body: &str, expected: Unknown) {
    assert_eq!(classify(status, body), Outcome::Unknown(expected), "{status} {body}");
}

#[track_caller]
fn assert_rejected(status: u16, body: &str, expected: RejectReason) {
    assert_eq!(classify(status, body), Outcome::Rejected(expected), "{status} {body}");
}

#[test]
fn a_success_is_bought_at_the_charged_price_which_may_be_lower() {
    for status in [200, 201] {
        for (price, cents) in [("27.44", 2_744), ("27.1", 2_710), ("9", 900), ("27.441", 2_745)] {
            let body = success().replace("27.1", price);
            let expected = Outcome::Bought {
                price: Some(Amount::from_cents(cents)),
                server_time: UnixMs::parse("2026-03-01T10:00:00.120Z"),
            };
            let found = order_outcome(&ours(), &response(status, &[], &body));
            assert_eq!(found, (expected, Attribution::Named), "{status} {body}");
        }
    }
}

#[test]
fn a_success_without_a_readable_price_or_time_is_bought() {
    for text in ["null", "\"27.1\"", "-1", "0", "1e99"] {
        let body = success().replace("27.1", text).replace("2026-03", "never");
        // A price of zero halts.
        let price = (text != "null").then_some(Amount::ZERO);
        assert_eq!(classify(200, &body), Outcome::Bought { price, server_time: None }, "{text}");
    }
}

#[test]
fn a_success_without_the_own_id_is_recognized_by_the_listing() {
    let own_id = format!("\"{}\"", ours().own_id.unwrap());
    let body = success().replace(&own_id, "null");
    assert!(matches!(classify(200, &body), Outcome::Bought { .. }), "{body}");
}

#[test]
fn a_returned_or_faulty_item_is_no_purchase_and_is_looked_up() {
    for (from, to) in [
        (r#""status":"processing""#, r#""status":"return""#),
        (r#""error":null"#, r#""error":"skins_unavailable""#),
        (r#""error":null"#, r#""error":{"code":1}"#),
    ] {
        let body = success().replacen(from, to, 1);
        for status in [200, 201] {
            let found = order_outcome(&ours(), &response(status, &[], &body));
            assert_eq!(found, (Outcome::Unknown(Unknown::Failed), Attribution::Named), "{body}");
        }
    }
}

#[test]
fn an_own_id_in_upper_case_is_the_same() {
    let own_id = ours().own_id.unwrap();
    let body = success().replace(own_id.as_str(), &own_id.as_str().to_uppercase());
    assert_ne!(body, success());
    let (outcome, attribution) = order_outcome(&ours(), &response(200, &[], &body));
    assert!(matches!(outcome, Outcome::Bought { .. }), "{outcome:?}");
    assert_eq!(attribution, Attribution::Named);
}

#[test]
fn a_success_that_does_not_name_this_order_is_unknown() {
    let own_id = ours().own_id.unwrap();
    for body in [
        "{}".to_owned(),
        r#"{"data":null}"#.to_owned(),
        r#"{"data":[]}"#.to_owned(),
        r#"{"data":{"purchase_id":5501}}"#.to_owned(),
        success().replace("900000123", "900000124"),
        success().replace("900000123", "\"900000123\""),
        success().replace(own_id.as_str(), "another"),
        success().replace(r#""skins":["#, r#""skins":[],"x":["#),
    ] {
        assert_unknown(200, &body, Unknown::Foreign);
        assert_unknown(201, &body, Unknown::Foreign);
    }
    assert_unknown(200, r#"{"error":"skins_unavailable"}"#, Unknown::UnknownError);
    for body in ["", "not json", "[]", "null", "<html></html>", &success()[..200]] {
        assert_unknown(200, body, Unknown::Unreadable);
    }
}

#[test]
fn every_documented_rejection_has_its_outcome() {
    use RejectReason::{
        AbovePriceLimit, AccountRestricted, InsufficientFunds, InvalidOrder, Taken,
    };
    for (status, code, expected) in [
        (400, "skins_unavailable", Outcome::Rejected(Taken)),
        (400, "skins_price_higher_than_max_price", Outcome::Rejected(AbovePriceLimit)),
        (400, "custom_id_already_exists", Outcome::Unknown(Unknown::AlreadyOrdered)),
        (400, "insufficient_funds", Outcome::Rejected(InsufficientFunds)),
        (400, "invalid_trade_url", Outcome::Rejected(AccountRestricted)),
        (400, "user_trade_ban", Outcome::Rejected(AccountRestricted)),
        (400, "user_cant_trade", Outcome::Rejected(AccountRestricted)),
        (400, "private_inventory", Outcome::Rejected(AccountRestricted)),
        (400, "user_inventory_full", Outcome::Rejected(AccountRestricted)),
        (400, "too_many_failed_attempts_for_user", Outcome::Rejected(AccountRestricted)),
        (422, "invalid_ids_value", Outcome::Rejected(InvalidOrder)),
        (422, "invalid_max_price_value", Outcome::Rejected(InvalidOrder)),
        (422, "invalid_custom_id_value", Outcome::Rejected(InvalidOrder)),
        (422, "invalid_partner_value", Outcome::Rejected(InvalidOrder)),
        (422, "invalid_token_value", Outcome::Rejected(InvalidOrder)),
        (400, "unknown_error", Outcome::Unknown(Unknown::UnknownError)),
        (400, "a_new_code", Outcome::Unknown(Unknown::UnknownError)),
        (422, "Insufficient_Funds", Outcome::Unknown(Unknown::UnknownError)),
    ] {
        let body = format!(r#"{{"error":"{code}"}}"#);
        let found = order_outcome(&ours(), &response(status, &[], &body));
        assert_eq!(found, (expected, Attribution::Unnamed), "{status} {code}");
        assert_eq!(error_message(&response(status, &[], &body)).as_deref(), Some(code));
        for status in [404, 408, 409, 500, 502, 503] {
            assert_unknown(status, &body, Unknown::Status { status });
        }
    }
}

/// An earlier order for the listing at another price can have caused the rejection.
#[test]
fn a_rejection_that_contains_the_listing_does_not_name_its_order() {
    let taken = || Outcome::Rejected(RejectReason::Taken);
    for (ids, expected) in [
        ("[900000123]", taken()),
        ("[7,900000123]", taken()),
        ("[900000124]", Outcome::Unknown(Unknown::Foreign)),
        ("[\"900000124\"]", taken()),
        ("[]", taken()),
        ("null", taken()),
    ] {
        let body = format!(r#"{{"error":"skins_unavailable","unavailable_ids":{ids}}}"#);
        let found = order_outcome(&ours(), &response(400, &[], &body));
        assert_eq!(found, (expected, Attribution::Unnamed), "{ids}");
    }
}

#[test]
fn a_rejection_that_cannot_be_read_is_unknown() {
    assert_unknown(400, r#"{"error":7}"#, Unknown::UnknownError);
    assert_unknown(400, r#"{"message":"The given data was invalid."}"#, Unknown::UnknownError);
    for status in [400, 422] {
        for body in [
            "",
            "skins_unavailable",
            "[]",
            r#"{"error":"skins_unavailable""#,
            r#"{"error":"skins_unavailable","error":"x"}"#,
            r#"{"error":"skins_unavailable","data":{"purchase_id":1}}"#,
        ] {
            assert_unknown(status, body, Unknown::Status { status });
        }
    }
}

#[test]
fn http_401_403_and_429_are_rejections_only_without_data() {
    for status in [401, 403] {
        for body in ["", "{}", r#"{"message":"Unauthenticated."}"#, r#"{"data":null}"#] {
            assert_rejected(status, body, RejectReason::KeyRejected { status });
        }
    }
    let blocked = order_outcome(&ours(), &response(403, &[], "{}"));
    assert_eq!(blocked.1, Attribution::Blocked);
    let wait = response(429, &[("Retry-After", "7")], r#"{"message":"Too Many Attempts."}"#);
    let retry_after = Some(Duration::from_secs(7));
    let limited = Outcome::Rejected(RejectReason::RateLimited { retry_after });
    assert_eq!(order_outcome(&ours(), &wait), (limited, Attribution::Blocked));
    assert_rejected(429, "<html>", RejectReason::RateLimited { retry_after: None });
    for status in [401, 403, 429] {
        assert_unknown(status, &success(), Unknown::Status { status });
        let repeated = success().replacen(r#"{"data""#, r#"{"data":null,"data""#, 1);
        assert_unknown(status, &repeated, Unknown::Status { status });
    }
}

#[test]
fn every_other_status_is_unknown() {
    for status in [100, 204, 301, 302, 404, 408, 409, 410, 418, 425, 500, 502, 503, 504, 599] {
        for body in ["", "{}", "<html>", &*success()] {
            assert_unknown(status, body, Unknown::Status { status });
        }
    }
}

#[test]
fn a_web_page_is_never_a_purchase() {
    for (status, headers, page) in PAGES {
        let outcome = outcome_of(&response(status, headers, ""));
        let is_mitigated = response(status, headers, "").head.mitigated;
        match (page, status) {
            (Some(WebPage::Challenge), 403 | 429 | 503) if is_mitigated => {
                assert_eq!(outcome, Outcome::Rejected(RejectReason::Challenge), "{status}");
            }
            (Some(_), 401 | 403) => {
                let reason = RejectReason::KeyRejected { status };
                assert_eq!(outcome, Outcome::Rejected(reason), "{status}");
            }
            (Some(_), _) => {
                assert!(matches!(outcome, Outcome::Unknown(_)), "{status}: {outcome:?}");
            }
            (None, _) => assert!(!matches!(outcome, Outcome::Bought { .. }), "{status}"),
        }
    }
    assert_unknown(200, " <!DOCTYPE html>", Unknown::Unreadable);
    let as_html = response(200, &[("Content-Type", "text/html")], &success());
    assert_eq!(outcome_of(&as_html), Outcome::Unknown(Unknown::Unreadable));
}

proptest! {
    /// No response that lacks this listing's id is a purchase, and a purchase needs a success.
    #[test]
    fn a_changed_response_is_never_a_purchase_of_another_order(
        status in select(vec![200_u16, 201, 400, 401, 403, 408, 422, 429, 500, 503]),
        cut in 0_usize..600,
        from in select(vec!["900000123", "data", "skins", "null", "}", "custom_id", "id"]),
        to in select(vec!["900000124", "x", "1", "\"", "{", "data", ""]),
    ) {
        let body = success().replacen(from, to, 1);
        let body: String = body.chars().take(cut).collect();
        if let Outcome::Bought { .. } = classify(status, &body) {
            prop_assert!(status == 200 || status == 201);
            prop_assert!(body.contains("\"id\":900000123"));
        }
    }

    #[test]
    fn any_text_is_classified_without_panic(status: u16, body in "\\PC{0,80}") {
        let is_bought = matches!(classify(status, &body), Outcome::Bought { .. });
        prop_assert!(!is_bought);
        let _message = error_message(&response(status, &[], &body));
    }
}
