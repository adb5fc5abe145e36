//! The answer to a buy → what is known about the money. The one table that decides it.
//!
//! | how far the request got, and what came back | outcome |
//! |---|---|
//! | no connection, failed TLS, nothing written | not sent |
//! | 200, JSON, `data.joinTrades.trades[].id` names this listing | bought |
//! | 200 or 400 without data, every error's text known | refused |
//! | 401, 403, 429 without data | refused |
//! | everything else after the first byte: cut, timeout, 3xx, 404, 408, 409, 5xx, HTML, half a JSON, an unknown text, an empty or foreign `trades` | unknown |
//!
//! A refusal is final only once it is known to be this order's answer: see [`Attribution`].
//!
//! In doubt the money has moved. A success that names this listing but comes with another status
//! than 200 is a doubt too, and is left to be looked up.
//!
//! Source of the texts: public clients; `errors[].message` contains them.
#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::{account::error_messages, array, number, object, string};
use crate::{
    domain::money::Amount,
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::TradeId,
    json::{Cursor, JsonError, ValueKind},
};

/// What became of one exchange with the site, as the transport saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportResult<'a> {
    /// Not one byte left.
    NotSent(NotSent),
    /// No answer came within the deadline.
    Timeout,
    /// The connection broke before the answer was whole.
    Cut,
    /// The bot stopped before the answer was whole.
    Stopped,
    /// What came back is not HTTP, or larger than any answer.
    Unreadable,
    /// A whole answer.
    Answered(OrderResponse<'a>),
}

/// The parts of an HTTP answer that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderResponse<'a> {
    /// The status.
    pub status: u16,
    /// `Retry-After`, read.
    pub retry_after: Option<Duration>,
    /// Whether a `cf-mitigated` header says that a challenge stands in the way.
    pub is_challenge: bool,
    /// The body.
    pub body: &'a [u8],
}

/// What is known about the money after an exchange about this listing.
pub fn outcome(id: &TradeId, exchange: &TransportResult<'_>) -> Outcome {
    match exchange {
        TransportResult::NotSent(reason) => Outcome::NotSent(*reason),
        TransportResult::Timeout => Outcome::Unknown(Unknown::Timeout),
        TransportResult::Cut => Outcome::Unknown(Unknown::Cut),
        TransportResult::Stopped => Outcome::Unknown(Unknown::Stopped),
        TransportResult::Unreadable => Outcome::Unknown(Unknown::Unreadable),
        TransportResult::Answered(answer) => answered(id, answer),
    }
}

/// How an answer shows which order it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// It names the order.
    Named,
    /// The API gave it and it names no order. It is the answer to the last request on its
    /// connection if that connection is in step.
    Unnamed,
    /// It was given in front of the API (no session, too many requests, a challenge page), where
    /// another request is unwelcome.
    Blocked,
}

/// How this answer, which means `outcome`, shows that it belongs to its order.
///
/// A success names the listing. A refusal of this site names nothing: that would take an alias for
/// each order, and so a GraphQL document for each. A site that echoes an order id of our own in its
/// refusals would return [`Attribution::Named`] for them.
pub const fn attribution(outcome: &Outcome, answer: &OrderResponse<'_>) -> Attribution {
    match outcome {
        Outcome::Bought { .. } => Attribution::Named,
        Outcome::Refused(_) | Outcome::NotSent(_) | Outcome::Unknown(_) => match answer.status {
            200 | 400 if !answer.is_challenge => Attribution::Unnamed,
            _ => Attribution::Blocked,
        },
    }
}

/// Whether this is the answer to [`current_user`](super::operations::current_user): `data` holds
/// `currentUser`, which may be null, and nothing else. No answer to an order looks like that.
pub fn is_current_user(answer: &OrderResponse<'_>) -> bool {
    let text = str::from_utf8(answer.body).ok();
    answer.status == 200
        && !answer.is_challenge
        && text.is_some_and(|text| has_current_user_alone(text).unwrap_or(false))
}

fn has_current_user_alone(text: &str) -> Result<bool, JsonError> {
    let (mut users, mut others) = (0_u32, 0_u32);
    let mut cursor = Cursor::new(text);
    object(&mut cursor, |key, cursor| match key {
        "data" => object(cursor, |key, cursor| {
            let is_user = key == "currentUser"
                && matches!(cursor.peek()?, ValueKind::Object | ValueKind::Null);
            let count = if is_user { &mut users } else { &mut others };
            *count = count.saturating_add(1);
            cursor.skip().map(drop)
        })
        .map(drop),
        _ => cursor.skip().map(drop),
    })?;
    cursor.end()?;
    Ok(users == 1 && others == 0)
}

fn answered(id: &TradeId, answer: &OrderResponse<'_>) -> Outcome {
    let body = str::from_utf8(answer.body).ok().and_then(|text| ResponseBody::read(text, id).ok());
    let unknown = |reason| Outcome::Unknown(reason);
    match (answer.status, body) {
        (200, Some(body)) => match (body.ours, body.refusal()) {
            (Some(receipt), _) => {
                Outcome::Bought { price: receipt.price, server_time: receipt.server_time }
            }
            (None, Some(refusal)) => Outcome::Refused(refusal),
            (None, None) if body.errors.is_empty() => unknown(Unknown::Foreign),
            (None, None) => unknown(Unknown::UnknownError),
        },
        (200, None) => unknown(Unknown::Unreadable),
        (400, Some(body)) => {
            body.refusal().map_or(unknown(Unknown::Status { status: 400 }), Outcome::Refused)
        }
        (status @ (401 | 403 | 429), Some(body)) if body.has_data => {
            unknown(Unknown::Status { status })
        }
        (429, _) => Outcome::Refused(RejectReason::RateLimited { retry_after: answer.retry_after }),
        (status @ (401 | 403), body) => Outcome::Refused(forbidden(
            status,
            answer,
            body.as_ref().and_then(ResponseBody::refusal),
        )),
        (status, _) => unknown(Unknown::Status { status }),
    }
}

/// A 401 or 403 without data: a challenge page, a reason in words, or neither.
fn forbidden(status: u16, answer: &OrderResponse<'_>, said: Option<RejectReason>) -> RejectReason {
    let looks_like_html = answer.body.trim_ascii_start().first() == Some(&b'<');
    match said {
        Some(refusal) => refusal,
        None if status == 403 && (answer.is_challenge || looks_like_html) => {
            RejectReason::Challenge
        }
        None => RejectReason::Forbidden { status },
    }
}

/// What a success says about our listing.
#[derive(Clone, Copy)]
struct Receipt {
    price: Option<Amount>,
    server_time: Option<UnixMs>,
}

/// The answer's JSON, as far as it decides.
struct ResponseBody {
    /// `data` holds anything but nothing: not null, and not an object of nulls.
    has_data: bool,
    ours: Option<Receipt>,
    /// Each error, as far as the table knows it.
    errors: Vec<Option<RejectReason>>,
}

impl ResponseBody {
    fn read(text: &str, id: &TradeId) -> Result<Self, JsonError> {
        let mut body = Self { has_data: false, ours: None, errors: Vec::new() };
        let mut cursor = Cursor::new(text);
        object(&mut cursor, |key, cursor| match key {
            "data" => body.data(cursor, id),
            "errors" => {
                let is_array = cursor.peek()? == ValueKind::Array;
                let messages = error_messages(cursor)?;
                body.errors = messages.iter().map(|message| known(message)).collect();
                if !is_array {
                    body.errors.push(None);
                }
                Ok(())
            }
            _ => cursor.skip().map(drop),
        })?;
        cursor.end()?;
        Ok(body)
    }

    fn data(&mut self, cursor: &mut Cursor<'_>, id: &TradeId) -> Result<(), JsonError> {
        if cursor.peek()? == ValueKind::Null {
            return cursor.skip().map(drop);
        }
        let is_object = object(cursor, |key, cursor| {
            if cursor.peek()? == ValueKind::Null {
                return cursor.skip().map(drop);
            }
            self.has_data = true;
            match key {
                "joinTrades" => object(cursor, |key, cursor| match key {
                    "trades" => array(cursor, |cursor| self.trade(cursor, id)).map(drop),
                    _ => cursor.skip().map(drop),
                })
                .map(drop),
                _ => cursor.skip().map(drop),
            }
        })?;
        self.has_data |= !is_object;
        Ok(())
    }

    fn trade(&mut self, cursor: &mut Cursor<'_>, id: &TradeId) -> Result<(), JsonError> {
        let (mut is_ours, mut receipt) = (false, Receipt { price: None, server_time: None });
        object(cursor, |key, cursor| {
            match key {
                "id" => {
                    let named = string(cursor)?.and_then(|named| TradeId::new(&named));
                    is_ours = named.as_ref() == Some(id);
                }
                "totalValue" => {
                    receipt.price = number(cursor)?.and_then(|text| Amount::parse(text).ok());
                }
                "updatedAt" => {
                    receipt.server_time = string(cursor)?.and_then(|text| UnixMs::parse(&text));
                }
                _ => drop(cursor.skip()?),
            }
            Ok(())
        })?;
        if is_ours {
            self.ours = Some(receipt);
        }
        Ok(())
    }

    /// The refusal, where there is no data and the table knows every error; of several the one
    /// with the gravest consequence.
    fn refusal(&self) -> Option<RejectReason> {
        if self.has_data || self.errors.is_empty() {
            return None;
        }
        let all: Option<Vec<RejectReason>> = self.errors.iter().copied().collect();
        all?.into_iter().max_by_key(|refusal| gravity(*refusal))
    }
}

/// How much a refusal asks of a person; of two in one answer the graver one counts.
const fn gravity(refusal: RejectReason) -> u8 {
    match refusal {
        RejectReason::NotJoinable | RejectReason::Taken => 0,
        RejectReason::RateLimited { .. } => 1,
        RejectReason::StaleQuery => 2,
        RejectReason::DailyLimit => 3,
        RejectReason::Forbidden { .. } => 4,
        RejectReason::Unauthenticated => 5,
        RejectReason::Captcha | RejectReason::Challenge => 6,
    }
}

/// What an error's text means, if the table knows it.
fn known(message: &str) -> Option<RejectReason> {
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
    TABLE.iter().find(|(text, _)| message.contains(text)).map(|(_, refusal)| *refusal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: &str = r#"{"data":{"joinTrades":{"trades":[{"id":"mine","status":"JOINED","totalValue":10.15,"updatedAt":"2026-03-01T10:00:00.120Z"}]}}}"#;

    fn mine() -> TradeId {
        TradeId::new("mine").unwrap()
    }

    fn answer(status: u16, body: &str) -> Outcome {
        let answer =
            OrderResponse { status, retry_after: None, is_challenge: false, body: body.as_bytes() };
        outcome(&mine(), &TransportResult::Answered(answer))
    }

    fn error(message: &str) -> String {
        format!(r#"{{"data":null,"errors":[{{"message":"{message}"}}]}}"#)
    }

    #[track_caller]
    fn refused(status: u16, body: &str, expected: RejectReason) {
        assert_eq!(answer(status, body), Outcome::Refused(expected), "{status} {body}");
    }

    #[track_caller]
    fn unknown(status: u16, body: &str, expected: Unknown) {
        assert_eq!(answer(status, body), Outcome::Unknown(expected), "{status} {body}");
    }

    #[test]
    fn a_success_that_names_this_listing_is_bought() {
        assert_eq!(
            answer(200, OURS),
            Outcome::Bought {
                price: Some(Amount::from_cents(1_015)),
                server_time: UnixMs::parse("2026-03-01T10:00:00.120Z"),
            }
        );
    }

    #[test]
    fn a_success_may_spell_this_listing_in_another_way() {
        let body = OURS.replace(r#""id":"mine""#, r#""id":"VHJhZGU6MQ==""#);
        let answer = OrderResponse {
            status: 200,
            retry_after: None,
            is_challenge: false,
            body: body.as_bytes(),
        };
        let outcome = |id| outcome(&TradeId::new(id).unwrap(), &TransportResult::Answered(answer));
        assert!(matches!(outcome("VHJhZGU6MQ"), Outcome::Bought { .. }));
        assert_eq!(outcome("VHJhZGU6Mg"), Outcome::Unknown(Unknown::Foreign));
    }

    #[test]
    fn a_success_stands_beside_errors() {
        let body = OURS.replace(r#"{"data""#, r#"{"errors":[{"message":"not joinable"}],"data""#);
        assert!(matches!(answer(200, &body), Outcome::Bought { .. }));
    }

    #[test]
    fn the_texts_of_the_table_are_refusals() {
        refused(200, &error("Trade is not joinable"), RejectReason::NotJoinable);
        refused(200, &error("Trade no longer available"), RejectReason::Taken);
        refused(200, &error("This exceeds your daily withdrawal limit."), RejectReason::DailyLimit);
        refused(200, &error("Unauthenticated"), RejectReason::Unauthenticated);
        refused(200, &error("please turn off incognito"), RejectReason::Captcha);
        refused(200, &error("Captcha required"), RejectReason::Captcha);
        refused(200, &error("PersistedQueryNotFound"), RejectReason::StaleQuery);
        refused(400, &error("PersistedQueryNotFound"), RejectReason::StaleQuery);
        refused(
            200,
            r#"{"data":{"joinTrades":null},"errors":[{"message":"not joinable"}]}"#,
            RejectReason::NotJoinable,
        );
    }

    #[test]
    fn of_several_known_errors_the_gravest_counts() {
        let body = r#"{"errors":[{"message":"not joinable"},{"message":"captcha"},{"message":"no longer available"}]}"#;
        refused(200, body, RejectReason::Captcha);
    }

    #[test]
    fn one_unknown_error_among_known_ones_is_a_doubt() {
        let body = r#"{"errors":[{"message":"not joinable"},{"message":"internal"}]}"#;
        unknown(200, body, Unknown::UnknownError);
        unknown(200, r#"{"errors":[{}]}"#, Unknown::UnknownError);
        unknown(200, r#"{"errors":"not joinable"}"#, Unknown::UnknownError);
    }

    #[test]
    fn a_known_error_beside_data_about_another_listing_is_a_doubt() {
        let body = r#"{"errors":[{"message":"not joinable"}],"data":{"joinTrades":{"trades":[{"id":"other"}]}}}"#;
        unknown(200, body, Unknown::UnknownError);
    }

    #[test]
    fn an_empty_or_foreign_answer_is_a_doubt() {
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
    fn what_cannot_be_read_is_a_doubt() {
        for body in ["", "<html>", &OURS[..OURS.len() - 1], "not joinable"] {
            unknown(200, body, Unknown::Unreadable);
        }
    }

    #[test]
    fn forbidden_and_too_many_are_refusals_only_without_data() {
        refused(401, "", RejectReason::Forbidden { status: 401 });
        refused(403, "{}", RejectReason::Forbidden { status: 403 });
        refused(401, &error("unauthenticated"), RejectReason::Unauthenticated);
        refused(403, &error("captcha"), RejectReason::Captcha);
        refused(403, " <!DOCTYPE html>", RejectReason::Challenge);
        refused(429, "<html>", RejectReason::RateLimited { retry_after: None });
        for status in [401, 403, 429] {
            unknown(status, OURS, Unknown::Status { status });
        }
    }

    #[test]
    fn a_challenge_is_known_by_its_header_too() {
        let answer =
            OrderResponse { status: 403, retry_after: None, is_challenge: true, body: b"x" };
        let outcome = outcome(&mine(), &TransportResult::Answered(answer));
        assert_eq!(outcome, Outcome::Refused(RejectReason::Challenge));
    }

    #[test]
    fn the_wait_that_is_asked_for_is_kept() {
        let retry_after = Some(Duration::from_secs(7));
        let answer = OrderResponse { status: 429, retry_after, is_challenge: false, body: b"" };
        let outcome = outcome(&mine(), &TransportResult::Answered(answer));
        assert_eq!(outcome, Outcome::Refused(RejectReason::RateLimited { retry_after }));
    }

    #[test]
    fn every_other_status_is_a_doubt_whatever_the_body_says() {
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
        let answer =
            OrderResponse { status, retry_after: None, is_challenge, body: body.as_bytes() };
        let outcome = outcome(&mine(), &TransportResult::Answered(answer));
        assert_eq!(attribution(&outcome, &answer), expected, "{status} {body}");
    }

    #[test]
    fn only_a_success_names_its_order_and_no_second_request_follows_a_closed_door() {
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
    fn an_orders_answer_is_never_taken_for_the_account() {
        let is_user = |status, body: &str| {
            let body = body.as_bytes();
            is_current_user(&OrderResponse { status, retry_after: None, is_challenge: false, body })
        };
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

    #[test]
    fn the_transport_decides_where_there_is_no_answer() {
        let of = |exchange| outcome(&mine(), &exchange);
        assert_eq!(of(TransportResult::Timeout), Outcome::Unknown(Unknown::Timeout));
        assert_eq!(of(TransportResult::Cut), Outcome::Unknown(Unknown::Cut));
        assert_eq!(of(TransportResult::Stopped), Outcome::Unknown(Unknown::Stopped));
        assert_eq!(of(TransportResult::Unreadable), Outcome::Unknown(Unknown::Unreadable));
        let not_sent = NotSent::NoConnection;
        assert_eq!(of(TransportResult::NotSent(not_sent)), Outcome::NotSent(not_sent));
    }

    proptest! {
        /// Whatever a server makes up: only an answer that names this listing is bought.
        #[test]
        fn nothing_is_bought_that_the_answer_does_not_name(status in 100_u16..600, body in "\\PC{0,80}") {
            let bought = matches!(answer(status, &body), Outcome::Bought { .. });
            prop_assert!(!bought);
        }

        #[test]
        fn a_cut_success_is_never_a_refusal(cut in 0..OURS.len(), status in prop::sample::select(vec![200_u16, 400, 500])) {
            let outcome = answer(status, &OURS[..cut]);
            prop_assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        }
    }
}
