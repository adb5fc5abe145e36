//! Classifies the response to an order. No other module decides about the outcome.
//!
//! | response | outcome |
//! |---|---|
//! | 200, `success` true with `id` and `price` | bought |
//! | 200, `success` false with `new_price`, `msBeforeNext` or a known `msg` | rejected |
//! | 200, `success` false, and `msg` says that the own id exists | unknown: look it up |
//! | 401, 403 and 429 without a purchase, 503 with `cf-mitigated` and without a purchase | rejected |
//! | everything else: another `msg`, HTML with 200, 3xx, 4xx, 5xx, truncated JSON, both an `id` and a rejection | unknown |
//!
//! A rejection is prose with status 200. Its texts come from the documentation and the tests of a
//! public client, may be paraphrased, and are matched by their words. A rejection is final only
//! once it is attributed to this order: see [`Attribution`]. If in doubt, the money counts as
//! spent.
#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use crate::{
    domain::money::Amount,
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::own_order_id::OwnOrderId,
    markets::{
        Attribution,
        json_object::{JsonObject, ObjectError},
        order_template::OrderFields,
    },
    net::http_head::WebPage,
    net::http_message::HttpResponse,
};

/// Maximum length of a response that is an error message although it is not JSON, in bytes.
const TEXT_BYTES_MAX: usize = 400;

/// Meaning of the words of a rejection; the first row whose words occur applies, for a rejection as
/// whole words. `None`: the own id was seen before, so its order may have been executed.
const REJECTIONS: [(&[&str], Option<RejectReason>); 13] = [
    (&["project", "exist"], None),
    (&["project", "used"], None),
    (&["buy_csgo"], Some(RejectReason::BuyingDisabled)),
    (&["low", "balance"], Some(RejectReason::InsufficientFunds)),
    (&["busy"], Some(RejectReason::Busy)),
    (&["insufficient"], Some(RejectReason::InsufficientFunds)),
    (&["not enough"], Some(RejectReason::InsufficientFunds)),
    (&["trade link"], Some(RejectReason::AccountRestricted)),
    (&["tradelink"], Some(RejectReason::AccountRestricted)),
    (&["price", "changed"], Some(RejectReason::PriceChanged)),
    (&["item", "sold"], Some(RejectReason::Taken)),
    (&["item", "not available"], Some(RejectReason::Taken)),
    (&["item", "no longer"], Some(RejectReason::Taken)),
];

/// Returns the outcome of an order, and the relation of the response to it.
///
/// The response contains neither the listing's id nor the own id, unless the market repeats the own
/// id.
pub fn order_outcome(order: &OrderFields, response: &HttpResponse) -> (Outcome, Attribution) {
    let body = Body::of(response);
    let outcome = outcome(order, response, &body);
    let attribution = match (response.head.status, response.page()) {
        (200, None) if body.names(order) == Some(true) => Attribution::Named,
        (200, None) => Attribution::Unnamed,
        _ => Attribution::Blocked,
    };
    (outcome, attribution)
}

/// Returns `true` for the response to a read of the user, which no response to an order resembles.
pub fn is_user(response: &HttpResponse) -> bool {
    let Body::Object(body) = Body::of(response) else { return false };
    let is_absent = |key| body.text(key).is_none();
    response.head.status == 200
        && response.page().is_none()
        && body.get("success") == Some(true)
        && body.get::<JsonObject<'_>>("user").is_some()
        && ["id", "price", "new_price", "project_id", "trades"].into_iter().all(is_absent)
}

/// Returns the message of a rejection, or a short text that is no JSON, such as that of a 403. Both
/// are untrusted.
pub fn error_message(response: &HttpResponse) -> Option<String> {
    match Body::of(response) {
        Body::Object(body) => body.get("msg"),
        Body::Repeated => None,
        Body::Other => {
            let text = response.text().ok()?.trim();
            let is_shown =
                !text.is_empty() && text.len() <= TEXT_BYTES_MAX && response.page().is_none();
            is_shown.then(|| text.to_owned())
        }
    }
}

/// Body of a response.
enum Body<'a> {
    Object(JsonObject<'a>),
    /// An object with a repeated key, which may report a purchase.
    Repeated,
    /// Anything else.
    Other,
}

impl<'a> Body<'a> {
    fn of(response: &'a HttpResponse) -> Self {
        let Ok(text) = response.text() else { return Self::Other };
        match JsonObject::parse(text) {
            Ok(object) => Self::Object(object),
            Err(ObjectError::RepeatedKey) => Self::Repeated,
            Err(ObjectError::NotJson | ObjectError::NotObject) => Self::Other,
        }
    }

    /// Returns `true` if the body may report a purchase.
    fn may_be_purchase(&self) -> bool {
        match self {
            Self::Object(body) => {
                body.get("success") == Some(true) || body.text("id").is_some_and(|id| id != "null")
            }
            Self::Repeated => true,
            Self::Other => false,
        }
    }

    /// Returns `true` if the body repeats the own id of the order, `false` if it contains another
    /// one.
    fn names(&self, order: &OrderFields) -> Option<bool> {
        let Self::Object(body) = self else { return None };
        let own_id = order.own_id?;
        match body.text("project_id")? {
            "null" => None,
            _ => {
                let stated = body.get::<String>("project_id").unwrap_or_default();
                Some(OwnOrderId::of_record(&stated) == own_id)
            }
        }
    }
}

fn outcome(order: &OrderFields, response: &HttpResponse, body: &Body<'_>) -> Outcome {
    let rejected = Outcome::Rejected;
    let unknown = Outcome::Unknown;
    let is_rejected = !body.may_be_purchase();
    match (response.head.status, response.page(), body) {
        (403, ..) if is_rejected && asks_for_address(response) => {
            rejected(RejectReason::KeyRejected { status: 403 })
        }
        (403 | 429 | 503, Some(WebPage::Challenge), _)
            if is_rejected && response.head.mitigated =>
        {
            rejected(RejectReason::Challenge)
        }
        (status @ (401 | 403), ..) if is_rejected => rejected(RejectReason::KeyRejected { status }),
        (429, ..) if is_rejected => {
            rejected(RejectReason::RateLimited { retry_after: retry_after(response) })
        }
        (200, None, Body::Object(object)) => match object.get("success") {
            _ if body.names(order) == Some(false) => unknown(Unknown::Foreign),
            Some(true) => bought(object).unwrap_or(unknown(Unknown::Unreadable)),
            Some(false) if is_rejected => classify_rejection(order, object),
            Some(false) => unknown(Unknown::UnknownError),
            None => unknown(Unknown::Unreadable),
        },
        (200, ..) => unknown(Unknown::Unreadable),
        (status, ..) => unknown(Unknown::Status { status }),
    }
}

/// Reads a purchase: the market's own number and the charged price.
fn bought(body: &JsonObject<'_>) -> Option<Outcome> {
    let digits = |key| body.number(key).and_then(super::price);
    digits("id")?;
    Some(Outcome::Bought { price: Some(digits("price")?), server_time: None })
}

/// Classifies a rejection.
fn classify_rejection(order: &OrderFields, body: &JsonObject<'_>) -> Outcome {
    let message = body.get::<String>("msg").unwrap_or_default().to_ascii_lowercase();
    let row = REJECTIONS.iter().find(|(words, reason)| {
        let occurs = |word: &str| {
            if reason.is_some() { has_word(&message, word) } else { message.contains(word) }
        };
        words.iter().copied().all(occurs)
    });
    if let Some((_, None)) = row {
        return Outcome::Unknown(Unknown::AlreadyOrdered);
    }
    if let Some(price) = new_price(body) {
        let is_above = order.price_limit < price;
        return Outcome::Rejected(if is_above {
            RejectReason::AbovePriceLimit
        } else {
            RejectReason::PriceChanged
        });
    }
    if let Some(wait) = milliseconds(body) {
        return Outcome::Rejected(RejectReason::RateLimited { retry_after: Some(wait) });
    }
    match row {
        Some((_, Some(reason))) => Outcome::Rejected(*reason),
        Some((_, None)) | None => Outcome::Unknown(Unknown::UnknownError),
    }
}

/// Returns `true` if the text contains `word` with no letter or digit next to it.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _word)| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        let after = rest.get(word.len()..).unwrap_or_default();
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    })
}

/// Reads the current price in a rejection: a number or a string of digits.
fn new_price(body: &JsonObject<'_>) -> Option<Amount> {
    match body.number("new_price") {
        Some(number) => super::price(number),
        None => super::price(&body.get::<String>("new_price")?),
    }
}

/// Returns the wait that a response with 429 requests: in its header, or else in its body.
pub fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let of_body = || match Body::of(response) {
        Body::Object(body) => milliseconds(&body),
        Body::Repeated | Body::Other => None,
    };
    response.head.retry_after.or_else(of_body)
}

/// Reads the wait in a rejection.
fn milliseconds(body: &JsonObject<'_>) -> Option<Duration> {
    let ms = body.number("msBeforeNext")?.split('.').next()?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

/// Returns `true` if a response says that the key may not be used from this address.
fn asks_for_address(response: &HttpResponse) -> bool {
    response.text().is_ok_and(|text| text.to_ascii_lowercase().contains("whitelist"))
}

#[cfg(test)]
mod tests;
