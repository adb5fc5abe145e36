//! Classifies the response to an order. No other module decides about the outcome.
//!
//! | response | outcome |
//! |---|---|
//! | 200 or 201, `data.skins[]` contains this listing, `custom_id` is that of the order | bought, at the price in it |
//! | the same with `status` `return` or an `error` | unknown: looked up, because a commission may be charged |
//! | 200 or 201 with an error, another purchase, or none | unknown |
//! | 400 or 422 with a code of [`REJECTIONS`] | as in the table; `custom_id_already_exists` is unknown and looked up |
//! | 400 or 422 with `unknown_error` or another code | unknown |
//! | other 401 or 403 without data | key rejected: it is invalid, or bound to another IP address |
//! | other 429 without data | rate limited, with `Retry-After` |
//! | 403, 429 or 503 with `cf-mitigated` and without data | challenge |
//! | everything else: 3xx, 404, 408, 5xx, HTML, truncated JSON | unknown |
//!
//! A rejection is final only once it is attributed to this order: see [`Attribution`].
//!
//! If in doubt, the amount counts as spent, and the order is looked up by its own id.
//!
//! Source: the market's documentation and public clients.
#![warn(clippy::wildcard_enum_match_arm)]

use super::{
    account::{RETURNED, error_of, error_text},
    listing,
};
use crate::{
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::TradeId,
    markets::{
        Attribution,
        json_object::{JsonObject, ObjectError},
        order_template::OrderFields,
    },
    net::http_head::WebPage,
    net::http_message::HttpResponse,
};

/// Meaning of an error code. Every other code is [`Unknown::UnknownError`].
const REJECTIONS: [(&str, Outcome); 16] = [
    ("skins_unavailable", Outcome::Rejected(RejectReason::Taken)),
    ("skins_price_higher_than_max_price", Outcome::Rejected(RejectReason::AbovePriceLimit)),
    ("custom_id_already_exists", Outcome::Unknown(Unknown::AlreadyOrdered)),
    ("insufficient_funds", Outcome::Rejected(RejectReason::InsufficientFunds)),
    ("invalid_trade_url", Outcome::Rejected(RejectReason::AccountRestricted)),
    ("user_trade_ban", Outcome::Rejected(RejectReason::AccountRestricted)),
    ("user_cant_trade", Outcome::Rejected(RejectReason::AccountRestricted)),
    ("private_inventory", Outcome::Rejected(RejectReason::AccountRestricted)),
    ("user_inventory_full", Outcome::Rejected(RejectReason::AccountRestricted)),
    ("too_many_failed_attempts_for_user", Outcome::Rejected(RejectReason::AccountRestricted)),
    ("invalid_ids_value", Outcome::Rejected(RejectReason::InvalidOrder)),
    ("invalid_max_price_value", Outcome::Rejected(RejectReason::InvalidOrder)),
    ("invalid_custom_id_value", Outcome::Rejected(RejectReason::InvalidOrder)),
    ("invalid_partner_value", Outcome::Rejected(RejectReason::InvalidOrder)),
    ("invalid_token_value", Outcome::Rejected(RejectReason::InvalidOrder)),
    ("unknown_error", Outcome::Unknown(Unknown::UnknownError)),
];

/// Returns the outcome of the order, and the relation of the response to it.
pub fn order_outcome(order: &OrderFields, response: &HttpResponse) -> (Outcome, Attribution) {
    let body = ResponseBody::read(response);
    let unknown = |reason| (Outcome::Unknown(reason), Attribution::Unnamed);
    let blocked = |reason| (Outcome::Rejected(reason), Attribution::Blocked);
    let is_without_data = !body.may_have_data();
    match (response.head.status, response.page()) {
        // HTML with 403 is no challenge without `cf-mitigated`: it is also sent if the address is
        // not bound to the key.
        (403 | 429 | 503, Some(WebPage::Challenge))
            if is_without_data && response.head.mitigated =>
        {
            blocked(RejectReason::Challenge)
        }
        (200 | 201, None) => match body {
            ResponseBody::Object(body) => accepted(order, &body),
            ResponseBody::NoObject | ResponseBody::Ambiguous => unknown(Unknown::Unreadable),
        },
        (200 | 201, Some(_)) => unknown(Unknown::Unreadable),
        (status @ (400 | 422), None) => match body {
            ResponseBody::Object(body) if is_without_data => classify_rejection(order, &body),
            ResponseBody::Object(_) | ResponseBody::NoObject | ResponseBody::Ambiguous => {
                unknown(Unknown::Status { status })
            }
        },
        (status @ (401 | 403), _) if is_without_data => {
            blocked(RejectReason::KeyRejected { status })
        }
        (429, _) if is_without_data => {
            blocked(RejectReason::RateLimited { retry_after: response.head.retry_after })
        }
        (status, _) => unknown(Unknown::Status { status }),
    }
}

/// Returns the error code or message of a response, which is untrusted text.
pub fn error_message(response: &HttpResponse) -> Option<String> {
    error_text(&JsonObject::parse(response.text().ok()?).ok()?)
}

/// A body, as far as it can be read.
enum ResponseBody<'a> {
    Object(JsonObject<'a>),
    /// Not a JSON object, so without data.
    NoObject,
    /// An object with a repeated key, which may contain data.
    Ambiguous,
}

impl<'a> ResponseBody<'a> {
    fn read(response: &'a HttpResponse) -> Self {
        match response.text().map(JsonObject::parse) {
            Ok(Ok(object)) => Self::Object(object),
            Ok(Err(ObjectError::RepeatedKey)) => Self::Ambiguous,
            Ok(Err(ObjectError::NotJson | ObjectError::NotObject)) | Err(_) => Self::NoObject,
        }
    }

    fn may_have_data(&self) -> bool {
        match self {
            Self::Object(object) => object.text("data").is_some_and(|data| data != "null"),
            Self::NoObject => false,
            Self::Ambiguous => true,
        }
    }
}

/// Classifies a response that the market marks as a success.
fn accepted(order: &OrderFields, body: &JsonObject<'_>) -> (Outcome, Attribution) {
    let unknown = |reason| (Outcome::Unknown(reason), Attribution::Unnamed);
    let Some(data) = body.get::<JsonObject<'_>>("data") else {
        let has_error = body.text("error").is_some_and(|error| error != "null");
        return unknown(if has_error { Unknown::UnknownError } else { Unknown::Foreign });
    };
    let own_id = data.get::<String>("custom_id");
    let is_of_another =
        own_id.is_some_and(|own_id| order.own_id != Some(OwnOrderId::of_record(&own_id)));
    let skins = data.array("skins").unwrap_or_default().into_iter();
    let mut skins = skins.filter_map(|skin| JsonObject::parse(skin).ok());
    let ours = skins.find(|skin| is_listing(skin.text("id"), &order.id));
    let Some(skin) = ours.filter(|_skin| !is_of_another) else { return unknown(Unknown::Foreign) };
    let is_returned = skin.get::<String>("status").is_some_and(|status| status == RETURNED);
    if is_returned || error_of(&skin).is_some() {
        return (Outcome::Unknown(Unknown::Failed), Attribution::Named);
    }
    let price = skin.paid("price", listing::positive);
    let time = data.get::<String>("created_at");
    let server_time = time.and_then(|time| UnixMs::parse(&time));
    (Outcome::Bought { price, server_time }, Attribution::Named)
}

/// Classifies a rejection. It never names its order: rejections contain no own id, and one that
/// names the listing can belong to an earlier order for it at another price.
fn classify_rejection(order: &OrderFields, body: &JsonObject<'_>) -> (Outcome, Attribution) {
    let code = body.get::<String>("error").unwrap_or_default();
    let known = REJECTIONS.iter().find(|(known, _)| *known == code);
    let outcome =
        known.map_or(Outcome::Unknown(Unknown::UnknownError), |(_, outcome)| outcome.clone());
    let unavailable = body.array("unavailable_ids").unwrap_or_default().into_iter();
    let mut ids = unavailable.filter_map(|id| id.parse().ok()).map(TradeId::from_number).peekable();
    let is_of_another = ids.peek().is_some() && !ids.any(|id| id == order.id);
    let is_foreign = is_of_another && matches!(outcome, Outcome::Rejected(_));
    let outcome = if is_foreign { Outcome::Unknown(Unknown::Foreign) } else { outcome };
    (outcome, Attribution::Unnamed)
}

/// Returns `true` for the number of a listing.
fn is_listing(text: Option<&str>, id: &TradeId) -> bool {
    text.and_then(|text| text.parse().ok()).map(TradeId::from_number) == Some(*id)
}

#[cfg(test)]
mod tests;
