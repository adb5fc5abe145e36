//! Classifies the response to an order. No other module decides about the outcome.
//!
//! | request and response | outcome |
//! |---|---|
//! | 200, JSON, `data.joinTrades.trades[].id` contains this listing | bought |
//! | 200 or 400 without data, the text of every error known | rejected |
//! | 401, 403, 429 without data | rejected |
//! | a challenge page with 403, 429 or 503, or HTML with 200 | rejected |
//! | everything else: 3xx, 404, 408, 409, 5xx, truncated JSON, an unknown text, an empty or foreign `trades` | unknown |
//!
//! A rejection is final only once it is attributed to this order: see [`Attribution`].
//!
//! If in doubt, the coins count as spent. A success that contains this listing with another status
//! than 200 is unknown, too, and is resolved from the account.
//!
//! Source of the texts, which are parts of `errors[].message`: public clients.
#![warn(clippy::wildcard_enum_match_arm)]

use super::account::{error_messages, price};
use crate::{
    domain::money::Amount,
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::TradeId,
    markets::{
        Attribution,
        json_object::{JsonObject, ObjectError},
    },
    net::http_head::WebPage,
    net::http_message::HttpResponse,
};

/// Returns the outcome of the order for this listing, and the relation of the response to it.
pub fn order_outcome(id: &TradeId, response: &HttpResponse) -> (Outcome, Attribution) {
    let outcome = outcome(id, response);
    let attribution = attribution(&outcome, response);
    (outcome, attribution)
}

/// Returns the relation of a response with this outcome to its order.
///
/// A success contains the listing's id. A rejection by this site contains no id: that would need an
/// alias, and so another GraphQL document, for each order. For a site that echoes an order id in
/// its rejections this would be [`Attribution::Named`].
fn attribution(outcome: &Outcome, response: &HttpResponse) -> Attribution {
    match outcome {
        Outcome::Bought { .. } => Attribution::Named,
        Outcome::Rejected(_) | Outcome::NotSent(_) | Outcome::Unknown(_) => {
            match response.head.status {
                200 | 400 if response.page().is_none() => Attribution::Unnamed,
                _ => Attribution::Blocked,
            }
        }
    }
}

/// Returns `true` for the response to [`current_user`](super::operations::current_user): `data`
/// contains only `currentUser`, which may be null. No response to an order has this shape.
pub fn is_current_user(response: &HttpResponse) -> bool {
    response.head.status == 200
        && response.page().is_none()
        && response.text().is_ok_and(|text| contains_only_current_user(text) == Some(true))
}

/// Returns the first error message of a response, which is untrusted text.
pub fn first_error_message(body: &[u8]) -> Option<String> {
    let response = JsonObject::parse(str::from_utf8(body).ok()?).ok()?;
    error_messages(&response).into_iter().next()
}

fn contains_only_current_user(text: &str) -> Option<bool> {
    let data = JsonObject::parse(text).ok()?.get::<JsonObject<'_>>("data")?;
    let is_user = |(key, value)| {
        key == "currentUser" && (value == "null" || JsonObject::parse(value).is_ok())
    };
    Some(data.entries().count() == 1 && data.entries().all(is_user))
}

fn outcome(id: &TradeId, response: &HttpResponse) -> Outcome {
    let body = response.text().ok().and_then(|text| ResponseBody::read(text, id));
    let unknown = Outcome::Unknown;
    let reason = body.as_ref().and_then(ResponseBody::reject_reason);
    let is_without_data = body.as_ref().is_none_or(|body| !body.has_data);
    match (response.head.status, body, response.page()) {
        (200, Some(ResponseBody { ours: Some(receipt), .. }), _) => {
            Outcome::Bought { price: receipt.price, server_time: receipt.server_time }
        }
        (403 | 429 | 503, _, Some(WebPage::Challenge)) | (200, _, Some(WebPage::Html))
            if is_without_data =>
        {
            Outcome::Rejected(reason.unwrap_or(RejectReason::Challenge))
        }
        (200, Some(body), _) => match reason {
            Some(reason) => Outcome::Rejected(reason),
            None if body.errors.is_empty() => unknown(Unknown::Foreign),
            None => unknown(Unknown::UnknownError),
        },
        (200, None, _) => unknown(Unknown::Unreadable),
        (400, Some(_), _) => {
            reason.map_or(unknown(Unknown::Status { status: 400 }), Outcome::Rejected)
        }
        (429, ..) if is_without_data => {
            Outcome::Rejected(RejectReason::RateLimited { retry_after: response.head.retry_after })
        }
        (status @ (401 | 403), ..) if is_without_data => {
            Outcome::Rejected(reason.unwrap_or(RejectReason::Forbidden { status }))
        }
        (status, ..) => unknown(Unknown::Status { status }),
    }
}

/// Fields of a success for our listing.
#[derive(Clone, Copy)]
struct Receipt {
    price: Option<Amount>,
    server_time: Option<UnixMs>,
}

impl Receipt {
    /// Reads a trade of the response; returns `None` for another listing.
    fn read(trade: &str, id: &TradeId) -> Option<Self> {
        let trade = JsonObject::parse(trade).ok()?;
        let named = trade.get::<String>("id").and_then(|named| TradeId::new(&named));
        let price = trade.paid("totalValue", price);
        let time = trade.get::<String>("updatedAt");
        (named.as_ref() == Some(id))
            .then(|| Self { price, server_time: time.and_then(|text| UnixMs::parse(&text)) })
    }
}

/// Fields of the response's JSON that determine the outcome.
struct ResponseBody {
    /// `true` if `data` is neither null nor an object of nulls.
    has_data: bool,
    ours: Option<Receipt>,
    /// Errors; `None` for an unknown text.
    errors: Vec<Option<RejectReason>>,
}

impl ResponseBody {
    /// Returns `None` if the text is not JSON.
    fn read(text: &str, id: &TradeId) -> Option<Self> {
        let response = match JsonObject::parse(text) {
            Ok(response) => response,
            Err(ObjectError::NotJson) => return None,
            // An object that cannot be read may contain data.
            Err(error) => {
                let has_data = error == ObjectError::RepeatedKey;
                return Some(Self { has_data, ours: None, errors: Vec::new() });
            }
        };
        let data = response.text("data").filter(|data| *data != "null").map(JsonObject::parse);
        // Unreadable data counts as data, so that the response is no rejection.
        let has_data = data.as_ref().is_some_and(|data| {
            data.as_ref().map_or(true, |data| data.entries().any(|(_key, value)| value != "null"))
        });
        let join = data.and_then(|data| data.ok()?.get::<JsonObject<'_>>("joinTrades"));
        let trades = join.and_then(|join| join.array("trades")).unwrap_or_default();
        let ours = trades.into_iter().rev().find_map(|trade| Receipt::read(trade, id));
        let mut errors: Vec<_> =
            error_messages(&response).iter().map(|message| classify_error(message)).collect();
        if response.text("errors").is_some_and(|text| !text.starts_with('[')) {
            errors.push(None);
        }
        Some(Self { has_data, ours, errors })
    }

    /// Returns the rejection if there is no data and every error is known; of several the most
    /// severe one.
    fn reject_reason(&self) -> Option<RejectReason> {
        if self.has_data || self.errors.is_empty() {
            return None;
        }
        let all: Option<Vec<RejectReason>> = self.errors.iter().copied().collect();
        all?.into_iter().max_by_key(|reason| severity(*reason))
    }
}

/// Returns the severity of a rejection; a greater number is more severe.
const fn severity(reason: RejectReason) -> u8 {
    match reason {
        RejectReason::NotJoinable
        | RejectReason::Taken
        | RejectReason::PriceChanged
        | RejectReason::AbovePriceLimit
        | RejectReason::Busy => 0,
        RejectReason::RateLimited { .. } | RejectReason::BuyingDisabled => 1,
        RejectReason::StaleQuery => 2,
        RejectReason::DailyLimit
        | RejectReason::InsufficientFunds
        | RejectReason::AccountRestricted
        | RejectReason::InvalidOrder => 3,
        RejectReason::Forbidden { .. } | RejectReason::KeyRejected { .. } => 4,
        RejectReason::Unauthenticated => 5,
        RejectReason::Captcha | RejectReason::Challenge => 6,
    }
}

/// Classifies the text of an error; returns `None` for an unknown text.
fn classify_error(message: &str) -> Option<RejectReason> {
    const TABLE: [(&str, RejectReason); 7] = [
        ("not joinable", RejectReason::NotJoinable),
        ("no longer available", RejectReason::Taken),
        ("exceeds your daily withdrawal limit", RejectReason::DailyLimit),
        ("unauthenticated", RejectReason::Unauthenticated),
        ("incognito", RejectReason::Captcha),
        ("captcha", RejectReason::Captcha),
        ("persistedquerynotfound", RejectReason::StaleQuery),
    ];
    let message = message.to_ascii_lowercase();
    TABLE.iter().find(|(text, _)| message.contains(text)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::net::http_head::{ResponseHead, tests::PAGES};

    const OURS: &str = r#"{"data":{"joinTrades":{"trades":[{"id":"mine","status":"JOINED","totalValue":10.15,"updatedAt":"2026-03-01T10:00:00.120Z"}]}}}"#;

    fn mine() -> TradeId {
        TradeId::new("mine").unwrap()
    }

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        HttpResponse { head: ResponseHead::parse(status, headers), body: body.into() }
    }

    fn outcome_of(response: &HttpResponse) -> Outcome {
        outcome(&mine(), response)
    }

    fn classify(status: u16, body: &str) -> Outcome {
        outcome_of(&response(status, &[], body))
    }

    fn error(message: &str) -> String {
        format!(r#"{{"data":null,"errors":[{{"message":"{message}"}}]}}"#)
    }

    #[track_caller]
    fn rejected(status: u16, body: &str, expected: RejectReason) {
        assert_eq!(classify(status, body), Outcome::Rejected(expected), "{status} {body}");
    }

    #[track_caller]
    fn unknown(status: u16, body: &str, expected: Unknown) {
        assert_eq!(classify(status, body), Outcome::Unknown(expected), "{status} {body}");
    }

    #[test]
    fn a_success_for_this_listing_is_bought() {
        assert_eq!(
            classify(200, OURS),
            Outcome::Bought {
                price: Some(Amount::from_cents(1_015)),
                server_time: UnixMs::parse("2026-03-01T10:00:00.120Z"),
            }
        );
    }

    #[test]
    fn a_success_may_spell_the_listing_id_differently() {
        let body = OURS.replace(r#""id":"mine""#, r#""id":"VHJhZGU6MQ==""#);
        let response = response(200, &[], &body);
        let outcome = |id| outcome(&TradeId::new(id).unwrap(), &response);
        assert!(matches!(outcome("VHJhZGU6MQ"), Outcome::Bought { .. }));
        assert_eq!(outcome("VHJhZGU6Mg"), Outcome::Unknown(Unknown::Foreign));
    }

    #[test]
    fn a_success_beside_errors_is_bought() {
        let body = OURS.replace(r#"{"data""#, r#"{"errors":[{"message":"not joinable"}],"data""#);
        assert!(matches!(classify(200, &body), Outcome::Bought { .. }));
    }

    #[test]
    fn known_error_texts_are_rejections() {
        rejected(200, &error("Trade is not joinable"), RejectReason::NotJoinable);
        rejected(200, &error("Trade no longer available"), RejectReason::Taken);
        rejected(
            200,
            &error("This exceeds your daily withdrawal limit."),
            RejectReason::DailyLimit,
        );
        rejected(200, &error("Unauthenticated"), RejectReason::Unauthenticated);
        rejected(200, &error("please turn off incognito"), RejectReason::Captcha);
        rejected(200, &error("Captcha required"), RejectReason::Captcha);
        rejected(200, &error("PersistedQueryNotFound"), RejectReason::StaleQuery);
        rejected(400, &error("PersistedQueryNotFound"), RejectReason::StaleQuery);
        rejected(
            200,
            r#"{"data":{"joinTrades":null},"errors":[{"message":"not joinable"}]}"#,
            RejectReason::NotJoinable,
        );
    }

    #[test]
    fn the_most_severe_of_several_known_errors_wins() {
        let body = r#"{"errors":[{"message":"not joinable"},{"message":"captcha"},{"message":"no longer available"}]}"#;
        rejected(200, body, RejectReason::Captcha);
    }

    #[test]
    fn one_unknown_error_among_known_ones_is_unknown() {
        let body = r#"{"errors":[{"message":"not joinable"},{"message":"internal"}]}"#;
        unknown(200, body, Unknown::UnknownError);
        unknown(200, r#"{"errors":[{}]}"#, Unknown::UnknownError);
        unknown(200, r#"{"errors":"not joinable"}"#, Unknown::UnknownError);
    }

    #[test]
    fn a_known_error_beside_data_about_another_listing_is_unknown() {
        let body = r#"{"errors":[{"message":"not joinable"}],"data":{"joinTrades":{"trades":[{"id":"other"}]}}}"#;
        unknown(200, body, Unknown::UnknownError);
    }

    #[test]
    fn an_empty_or_foreign_response_is_unknown() {
        for body in [
            "{}",
            "[]",
            "null",
            r#"{"data":null}"#,
            r#"{"errors":[]}"#,
            r#"{"data":{"joinTrades":{"trades":[]}}}"#,
            r#"{"data":{"joinTrades":{"trades":[{"id":"other"}]}}}"#,
            r#"{"data":{"joinTrades":{"trades":[{"id":["mine"]}]}}}"#,
        ] {
            unknown(200, body, Unknown::Foreign);
        }
    }

    #[test]
    fn a_response_with_a_repeated_key_is_unknown() {
        for status in [200, 400, 401, 403, 429] {
            for body in [
                format!(r#"{},"data":null}}"#, OURS.strip_suffix('}').unwrap()),
                OURS.replace(r#"{"data""#, r#"{"data":null,"data""#),
                OURS.replace(r#"{"joinTrades""#, r#"{"joinTrades":null,"joinTrades""#),
            ] {
                let outcome = classify(status, &body);
                assert!(matches!(outcome, Outcome::Unknown(_)), "{status} {body}: {outcome:?}");
            }
        }
        let body = OURS.replace(r#"{"id""#, r#"{"id":"other","id""#);
        unknown(200, &body, Unknown::Foreign);
    }

    #[test]
    fn an_unreadable_response_is_unknown() {
        for body in ["", &OURS[..OURS.len() - 1], "not joinable"] {
            unknown(200, body, Unknown::Unreadable);
        }
    }

    #[test]
    fn http_401_403_and_429_are_rejections_only_without_data() {
        rejected(401, "", RejectReason::Forbidden { status: 401 });
        rejected(403, "{}", RejectReason::Forbidden { status: 403 });
        rejected(401, &error("unauthenticated"), RejectReason::Unauthenticated);
        rejected(403, &error("captcha"), RejectReason::Captcha);
        rejected(403, " <!DOCTYPE html>", RejectReason::Challenge);
        rejected(429, "<html>", RejectReason::RateLimited { retry_after: None });
        for status in [401, 403, 429] {
            unknown(status, OURS, Unknown::Status { status });
        }
    }

    #[test]
    fn a_challenge_page_with_the_status_of_one_and_html_with_200_are_challenges() {
        let challenge = Outcome::Rejected(RejectReason::Challenge);
        for (status, headers, page) in PAGES {
            let is_challenge = match page {
                Some(WebPage::Challenge) => matches!(status, 403 | 429 | 503),
                page => (status, page) == (200, Some(WebPage::Html)),
            };
            let response = response(status, headers, "x");
            let outcome = outcome_of(&response);
            assert_eq!(outcome == challenge, is_challenge, "{status} {headers:?}");
            if is_challenge {
                assert_eq!(attribution(&outcome, &response), Attribution::Blocked);
            }
        }
        assert_eq!(classify(200, "<html>"), challenge);
        let mitigated = [("cf-mitigated", "challenge")];
        assert!(matches!(outcome_of(&response(200, &mitigated, OURS)), Outcome::Bought { .. }));
        for status in [200, 408, 500, 502] {
            let outcome = outcome_of(&response(status, &mitigated, "x"));
            assert!(matches!(outcome, Outcome::Unknown(_)), "{status}: {outcome:?}");
        }
    }

    #[test]
    fn retry_after_is_kept() {
        let retry_after = Some(Duration::from_secs(7));
        let outcome = outcome_of(&response(429, &[("Retry-After", "7")], ""));
        assert_eq!(outcome, Outcome::Rejected(RejectReason::RateLimited { retry_after }));
    }

    #[test]
    fn every_other_status_is_unknown_regardless_of_the_body() {
        for status in [
            100, 201, 204, 301, 302, 307, 404, 408, 409, 410, 422, 499, 500, 502, 503, 504, 520,
            599,
        ] {
            for body in ["", OURS, &error("not joinable"), "<html>"] {
                unknown(status, body, Unknown::Status { status });
            }
        }
        unknown(400, OURS, Unknown::Status { status: 400 });
        unknown(400, &error("syntax"), Unknown::Status { status: 400 });
    }

    #[track_caller]
    fn attributed(status: u16, is_challenge: bool, body: &str, expected: Attribution) {
        let mitigated = [("cf-mitigated", "challenge")];
        let response = response(status, if is_challenge { &mitigated } else { &[] }, body);
        assert_eq!(attribution(&outcome_of(&response), &response), expected, "{status} {body}");
    }

    #[test]
    fn only_a_success_names_its_order_and_blocked_responses_allow_no_second_request() {
        attributed(200, false, OURS, Attribution::Named);
        attributed(200, false, &error("not joinable"), Attribution::Unnamed);
        attributed(400, false, &error("PersistedQueryNotFound"), Attribution::Unnamed);
        attributed(200, true, &error("not joinable"), Attribution::Blocked);
        for status in [401, 403, 429] {
            attributed(status, false, &error("unauthenticated"), Attribution::Blocked);
        }
        attributed(403, true, "<html>", Attribution::Blocked);
    }

    #[test]
    fn an_order_response_is_never_read_as_current_user() {
        let is_user = |status, body: &str| is_current_user(&response(status, &[], body));
        assert!(is_user(200, r#"{"data":{"currentUser":{"id":"u","name":"n"}}}"#));
        assert!(is_user(200, r#"{"errors":[{"message":"x"}],"data":{"currentUser":null}}"#));
        for body in [
            OURS,
            &error("not joinable"),
            &error("unauthenticated"),
            "",
            "{}",
            "null",
            r#"{"data":null}"#,
            r#"{"data":{}}"#,
            r#"{"data":{"currentUser":"u"}}"#,
            r#"{"currentUser":{"id":"u"}}"#,
            r#"{"data":{"currentUser":null,"joinTrades":null}}"#,
            r#"{"data":{"currentUser":null},"data":{"joinTrades":null}}"#,
            r#"{"data":{"currentUser":null}"#,
            r#"{"data":{"currentUser":null}}{"#,
            "<html>",
        ] {
            assert!(!is_user(200, body), "{body}");
        }
        for status in [201, 400, 401, 403, 408, 429, 500] {
            assert!(!is_user(status, r#"{"data":{"currentUser":null}}"#), "{status}");
        }
    }

    proptest! {
        /// For any response, the outcome is bought only if the response contains this listing.
        #[test]
        fn only_a_response_that_names_the_listing_is_bought(status in 100_u16..600, body in "\\PC{0,80}") {
            let bought = matches!(classify(status, &body), Outcome::Bought { .. });
            prop_assert!(!bought);
        }

        #[test]
        fn a_truncated_success_is_never_a_rejection(cut in 0..OURS.len(), status in prop::sample::select(vec![200_u16, 400, 500])) {
            let outcome = classify(status, &OURS[..cut]);
            prop_assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        }
    }
}
