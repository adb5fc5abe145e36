//! Parser of responses over HTTP: user and balance, and the look-up of an order.
//!
//! Source of the shapes: recordings.

use super::{balance, item_id, price, purchase_status};
use crate::{
    domain::account::{BalanceError, ITEM_NAME_CHARS_MAX, OwnPurchase, STATUS_CHARS_MAX, User},
    domain::money::Amount,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeStatus},
    markets::{OrderReference, ReadError, json_object::JsonObject},
    secret,
    text::Escaped,
};

/// Maximum length of an unreadable value in an error, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Parses the response to a read of the user. `recipient` identifies the account if the market does
/// not: its documentation shows only the wallet.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_user(body: &str, recipient: &str) -> Result<User, ReadError> {
    let response = success(body)?;
    let user = response.get::<JsonObject<'_>>("user").ok_or(ReadError::Shape)?;
    // The ledger would store the id, so one that contains a credential is rejected.
    let number = || user.text("id").filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    let id = user.get::<String>("id").or_else(|| number().map(str::to_owned));
    let id = id.filter(|id| !id.is_empty() && !secret::appears_in(id));
    let wallet = wallet(&user);
    let (balance, balance_error) = match wallet {
        Ok(balance) => (Some(balance), None),
        Err(error) => (None, Some(error)),
    };
    let id = id.unwrap_or_else(|| recipient.to_owned());
    let recipient = Some(recipient.to_owned());
    Ok(User { id, recipient, balance, balance_error, ..User::default() })
}

/// Returns the balance from which orders are paid, rounded down.
fn wallet(user: &JsonObject<'_>) -> Result<Amount, BalanceError> {
    let Some(text) = user.text("wallet").filter(|text| *text != "null") else {
        let text = "the response contains no wallet";
        return Err(BalanceError::new(text, text));
    };
    balance(text).ok_or_else(|| {
        // Masked before it is cut, because a cut credential might not be found.
        let value: String = secret::mask(text).chars().take(VALUE_CHARS_MAX).collect();
        let text = format!("the wallet is not an amount in thousandths: {value}");
        BalanceError::new("not an amount", text)
    })
}

/// Parses the look-up of an order by its own id. Returns `None` if the list has no entry with it.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response, if the list has several entries with
/// that own id, or if it has another entry although only this order was looked up.
pub fn read_order(body: &str, order: OrderReference<'_>) -> Result<Option<OwnPurchase>, ReadError> {
    let response = success(body)?;
    let trades = response.array("trades").ok_or(ReadError::Shape)?;
    let mut found = None;
    for trade in trades {
        let trade = JsonObject::parse(trade).map_err(|_error| ReadError::Shape)?;
        let own_id = trade.get::<String>("project_id").ok_or(ReadError::Shape)?;
        let is_other = OwnOrderId::of_record(&own_id) != *order.own_id;
        if is_other && order.is_alone || !is_other && found.replace(trade).is_some() {
            return Err(ReadError::Shape);
        }
    }
    let Some(trade) = found else { return Ok(None) };
    let id = match trade.text("item_id").filter(|id| *id != "null") {
        Some(_) => read_id(&trade).ok_or(ReadError::Shape)?,
        None => *order.id,
    };
    Ok(Some(purchase(&trade, id)))
}

/// Reads the id of an item: a string or a number. One that contains a credential is rejected,
/// because the ledger would store it.
fn read_id(trade: &JsonObject<'_>) -> Option<TradeId> {
    let text = match trade.number("item_id") {
        Some(number) => number.to_owned(),
        None => trade.get("item_id")?,
    };
    item_id(&text).filter(|_id| !secret::appears_in(&text))
}

/// Reads the fields of a purchase except its id.
fn purchase(trade: &JsonObject<'_>, id: TradeId) -> OwnPurchase {
    let code = trade.text("status").unwrap_or("none");
    let is_protected = trade.text("release_date").is_some_and(|date| date != "null")
        && trade.get("is_released") != Some(true);
    let status =
        code.parse().map_or(TradeStatus::Other, |code| purchase_status(code, is_protected));
    let masked = |text: &str, max| secret::mask(text).chars().take(max).collect();
    OwnPurchase {
        id,
        name: trade.get::<String>("name").map(|name| masked(&name, ITEM_NAME_CHARS_MAX)),
        status,
        unknown_status: (status == TradeStatus::Other).then(|| masked(code, STATUS_CHARS_MAX)),
        price: trade.paid("price", price),
        created_at: None,
        updated_at: epoch(trade, "last_updated"),
        joined_at: None,
        commission: None,
        own_id: None,
    }
}

/// Reads a time in seconds since 1970, as a number or a string.
fn epoch(trade: &JsonObject<'_>, key: &str) -> Option<UnixMs> {
    let seconds: i64 = match trade.number(key) {
        Some(number) => number.parse().ok()?,
        None => trade.get::<String>(key)?.parse().ok()?,
    };
    seconds.checked_mul(1_000).map(UnixMs)
}

/// Parses a response with `success` true.
pub(super) fn success(body: &str) -> Result<JsonObject<'_>, ReadError> {
    let response = JsonObject::parse(body)?;
    match (response.get("success"), response.get::<String>("msg")) {
        (Some(true), _) => Ok(response),
        (Some(false), Some(message)) => Err(ReadError::MarketError(Escaped(&message).to_string())),
        (Some(false), None) | (None, _) => Err(ReadError::Shape),
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::own_order_id::StartId;

    fn own_id() -> OwnOrderId {
        StartId::from_bits(0x00ff_u128.to_be_bytes()).order_id(7)
    }

    fn look_up(body: &str) -> Result<Option<OwnPurchase>, ReadError> {
        let (id, own_id) = (TradeId::from_number(40_000_000_123), own_id());
        read_order(body, OrderReference { id: &id, own_id: &own_id, is_alone: true })
    }

    fn trade() -> Value {
        json!({
            "id": 30_717_201, "project_id": own_id().to_string(),
            "name": "AK-47 | Redline (Field-Tested)", "price": 6, "status": 4,
            "trade_id": "9393511289", "done": false, "reason": null, "release_date": null,
            "is_released": false, "send_until": "1790636153", "last_updated": "1790634353",
            "counter": "564", "for_steamid64": "7656", "seller_name": "s",
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut trade = trade();
        trade[key] = value;
        trade
    }

    fn listed(trades: &[Value]) -> String {
        json!({ "success": true, "trades": trades }).to_string()
    }

    #[test]
    fn a_user_has_an_id_and_a_wallet_in_thousandths() {
        let user =
            read_user(r#"{"success":true,"user":{"wallet":53300,"id":"11d6f117"}}"#, "76561")
                .unwrap();
        assert_eq!(user.id, "11d6f117");
        let number = read_user(r#"{"success":true,"user":{"wallet":1,"id":"4711"}}"#, "76561");
        assert_eq!(number.unwrap().id, "4711", "an earlier ledger is bound to it");
        for (id, expected) in [("", "76561"), (r#","id":4711"#, "4711"), (r#","id":"""#, "76561")] {
            let body = format!(r#"{{"success":true,"user":{{"wallet":1{id}}}}}"#);
            assert_eq!(read_user(&body, "76561").unwrap().id, expected, "{body}");
        }
        assert_eq!(user.balance, Some(Amount::from_thousandths(53_300)));
        assert_eq!(user.is_flagged, None);
    }

    #[test]
    fn an_unreadable_wallet_has_a_specific_error() {
        let error = |wallet: &str| {
            let body = format!(r#"{{"success":true,"user":{{"id":"a"{wallet}}}}}"#);
            let user = read_user(&body, "76561").unwrap();
            assert_eq!(user.balance, None);
            user.balance_error.unwrap().to_string()
        };
        assert_eq!(error(""), "the response contains no wallet");
        assert_eq!(error(r#","wallet":null"#), "the response contains no wallet");
        for wallet in ["-1", "\"53300\"", "[]", "1e3"] {
            let text = error(&format!(r#","wallet":{wallet}"#));
            assert_eq!(text, format!("the wallet is not an amount in thousandths: {wallet}"));
        }
        assert!(error(&format!(r#","wallet":{}"#, "9".repeat(500))).len() < 120);
    }

    #[test]
    fn a_response_without_the_requested_data_is_an_error() {
        for body in ["[]", "{}", r#"{"success":true}"#, r#"{"success":true,"user":1}"#] {
            assert_eq!(read_user(body, "76561"), Err(ReadError::Shape), "{body}");
        }
        assert_eq!(read_user("<html>", "76561"), Err(ReadError::NotJson));
        let rejected = r#"{"success":false,"msg":"wrong api\u001b"}"#;
        let error = Err(ReadError::MarketError("wrong api\\u{1b}".to_owned()));
        assert_eq!(read_user(rejected, "76561"), error);
        assert_eq!(look_up(rejected).map(drop), error.map(drop));
    }

    #[test]
    fn an_order_is_found_by_its_own_id_and_absent_otherwise() {
        assert_eq!(look_up(r#"{"success":true,"trades":[]}"#), Ok(None));
        let found = look_up(&listed(&[trade()])).unwrap().unwrap();
        let upper = json!(own_id().to_string().to_uppercase());
        let in_upper_case = look_up(&listed(&[with("project_id", upper)]));
        assert_eq!(in_upper_case.unwrap(), Some(found.clone()));
        // The response does not name the listing.
        assert_eq!(found.id, TradeId::from_number(40_000_000_123));
        assert_eq!(found.name.as_deref(), Some("AK-47 | Redline (Field-Tested)"));
        assert_eq!(found.status, TradeStatus::Processing);
        assert_eq!(found.price, Some(Amount::from_thousandths(6)));
        assert_eq!(found.updated_at, Some(UnixMs(1_790_634_353_000)));
        assert_eq!(found.unknown_status, None);
    }

    #[test]
    fn a_named_item_is_returned_so_that_another_one_is_noticed() {
        let id = |value| look_up(&listed(&[with("item_id", value)])).map(|found| found.unwrap().id);
        assert_eq!(id(json!("40000000999")), Ok(TradeId::from_number(40_000_000_999)));
        assert_eq!(id(json!(40_000_000_999_u64)), Ok(TradeId::from_number(40_000_000_999)));
        assert_eq!(id(json!(null)), Ok(TradeId::from_number(40_000_000_123)));
        assert_eq!(id(json!("x")), Err(ReadError::Shape));
    }

    #[test]
    fn an_unreadable_list_is_no_absence() {
        let duplicate = listed(&[trade()]).replace(r#""price":6"#, r#""price":6,"price":7"#);
        for body in [
            r#"{"success":true}"#.to_owned(),
            r#"{"success":true,"trades":null}"#.to_owned(),
            r#"{"success":true,"trades":{}}"#.to_owned(),
            listed(&[json!(null)]),
            listed(&[json!("x")]),
            listed(&[json!({ "id": "?", "project_id": null, "price": null, "status": null })]),
            listed(&[with("project_id", json!("another"))]),
            listed(&[trade(), trade()]),
            listed(&[trade(), json!(null)]),
            duplicate,
        ] {
            assert_eq!(look_up(&body), Err(ReadError::Shape), "{body}");
        }
    }

    #[test]
    fn a_release_date_protects_a_purchase_until_it_is_released() {
        let status = |status: Value, date: Value, is_released: bool| {
            let mut trade = with("status", status);
            trade["release_date"] = date;
            trade["is_released"] = json!(is_released);
            look_up(&listed(&[trade])).unwrap().unwrap().status
        };
        let date = json!("2026-03-09T10:00:00.000Z");
        assert_eq!(status(json!(4), date.clone(), false), TradeStatus::CompletedProtected);
        assert_eq!(status(json!(5), date.clone(), false), TradeStatus::CompletedProtected);
        assert_eq!(status(json!(5), date.clone(), true), TradeStatus::Completed);
        assert_eq!(status(json!(5), json!(null), false), TradeStatus::Completed);
        assert_eq!(status(json!(6), date, false), TradeStatus::Cancelled);
    }

    #[test]
    fn an_unknown_status_is_kept_as_text() {
        for (status, shown) in [(json!(3), "3"), (json!("4"), "\"4\""), (json!(null), "null")] {
            let found = look_up(&listed(&[with("status", status)])).unwrap().unwrap();
            assert_eq!(found.status, TradeStatus::Other);
            assert_eq!(found.unknown_status.as_deref(), Some(shown));
        }
        let long = json!("x".repeat(1_000));
        let found = look_up(&listed(&[with("status", long.clone())])).unwrap().unwrap();
        assert_eq!(found.unknown_status.unwrap().len(), STATUS_CHARS_MAX);
        let found = look_up(&listed(&[with("name", long)])).unwrap().unwrap();
        assert_eq!(found.name.unwrap().len(), ITEM_NAME_CHARS_MAX);
        let unpriced = look_up(&listed(&[with("price", json!("6"))])).unwrap().unwrap();
        assert_eq!(unpriced.price, Some(Amount::ZERO), "halts");
        let unpriced = look_up(&listed(&[with("price", json!(null))])).unwrap().unwrap();
        assert_eq!(unpriced.price, None);
    }

    #[test]
    fn of_several_orders_each_is_found_by_its_own_id_and_an_unreadable_entry_proves_nothing() {
        let other = StartId::from_bits([1; 16]).order_id(7).to_string();
        let (id, own_id) = (TradeId::from_number(40_000_000_123), own_id());
        let read = |trades: &[Value]| {
            let order = OrderReference { id: &id, own_id: &own_id, is_alone: false };
            read_order(&listed(trades), order).map(|found| found.is_some())
        };
        let other = with("project_id", json!(other));
        assert_eq!(read(&[other.clone(), trade()]), Ok(true));
        assert_eq!(read(slice::from_ref(&other)), Ok(false));
        assert_eq!(look_up(&listed(&[other.clone(), trade()])), Err(ReadError::Shape));
        assert_eq!(look_up(&listed(slice::from_ref(&other))), Err(ReadError::Shape));
        for unreadable in [with("project_id", json!(null)), json!("?")] {
            assert_eq!(read(&[other.clone(), unreadable]), Err(ReadError::Shape));
        }
        assert_eq!(read(&[trade(), trade()]), Err(ReadError::Shape));
    }

    proptest! {
        #[test]
        fn no_text_is_read_as_an_absence_but_an_empty_list(text in "\\PC{0,60}") {
            prop_assert!(look_up(&text).is_err());
            prop_assert!(read_user(&text, "76561").is_err());
            let body = format!(r#"{{"success":true,"trades":[{text}]}}"#);
            prop_assert_eq!(look_up(&body) == Ok(None), text.trim().is_empty());
        }
    }
}
