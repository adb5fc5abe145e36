//! Parser of responses over HTTP: user and balance, own purchases, the look-up of an order.
//!
//! Source of the shapes: the documentation, recordings (user, look-up) and a public client
//! (purchases).

use super::{balance, item_id, price, purchase_status};
use crate::{
    domain::account::{BalanceError, NextPage, OwnPurchase, Page, STATUS_CHARS_MAX, User},
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeStatus},
    markets::{
        OrderReference, ReadError,
        json_object::{JsonObject, ObjectError},
    },
    secret,
    text::Escaped,
};

/// Number of purchases from which the market returns no more.
const SKIP_MAX: usize = 1_000;

/// Maximum length of the name of an item, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Maximum length of an unreadable value in an error, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Parses the response to a read of the user.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_user(body: &str) -> Result<User, ReadError> {
    let response = success(body)?;
    let user = response.get::<JsonObject<'_>>("user").ok_or(ReadError::Shape)?;
    // The ledger would store the id, so one that contains a credential is rejected.
    let id = user.get("id").filter(|id: &String| !id.is_empty() && !secret::appears_in(id));
    let wallet = wallet(&user);
    let (balance, balance_error) = match wallet {
        Ok(balance) => (Some(balance), None),
        Err(error) => (None, Some(error)),
    };
    let id = id.ok_or(ReadError::Shape)?;
    Ok(User { id, balance, balance_error, ..User::default() })
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

/// Parses a page of purchases, of which `skip` were skipped. Sales are not among them.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_purchases(body: &str, skip: usize) -> Result<Page<OwnPurchase>, ReadError> {
    let response = success(body)?;
    let data = response.get::<JsonObject<'_>>("data").ok_or(ReadError::Shape)?;
    let trades = data.array("trades").ok_or(ReadError::Shape)?;
    // Both lists share the position.
    let transactions = data.array("transactions").unwrap_or_default().len();
    let next = match trades.len().max(transactions) {
        0 => NextPage::End,
        count => match skip.saturating_add(count) {
            skip if skip <= SKIP_MAX => NextPage::After(skip.to_string()),
            _ => NextPage::Unclear,
        },
    };
    let mut page = Page { nodes: Vec::new(), unreadable: 0, next, error: None };
    for trade in trades {
        match Listed::read(trade) {
            Some(Listed::Purchase(purchase)) => page.nodes.push(purchase),
            Some(Listed::Sale) => {}
            None => page.unreadable = page.unreadable.saturating_add(1),
        }
    }
    Ok(page)
}

/// Parses the look-up of an order by its own id. Returns `None` if the list is empty.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response, or if the list contains anything but one
/// entry with that own id.
pub fn read_order(body: &str, order: OrderReference<'_>) -> Result<Option<OwnPurchase>, ReadError> {
    let response = success(body)?;
    let trades = response.array("trades").ok_or(ReadError::Shape)?;
    let Some((first, others)) = trades.split_first() else { return Ok(None) };
    if !others.is_empty() {
        return Err(ReadError::Shape);
    }
    let trade = JsonObject::parse(first).map_err(|_error| ReadError::Shape)?;
    if trade.get::<String>("project_id").as_deref() != Some(order.own_id.as_str()) {
        return Err(ReadError::Shape);
    }
    let id = match trade.text("item_id") {
        Some(_) => read_id(&trade).ok_or(ReadError::Shape)?,
        None => *order.id,
    };
    Ok(Some(purchase(&trade, id)))
}

/// Entry of the account's history.
enum Listed {
    Purchase(OwnPurchase),
    Sale,
}

impl Listed {
    fn read(trade: &str) -> Option<Self> {
        let trade = JsonObject::parse(trade).ok()?;
        let action = trade.get::<String>("action")?;
        match action.as_str() {
            "buy" => {
                let id = read_id(&trade)?;
                Some(Self::Purchase(purchase(&trade, id)))
            }
            "sell" => Some(Self::Sale),
            _ => None,
        }
    }
}

/// Reads the id of an item: a string or a number. One that contains a credential is rejected, because
/// the ledger would store it.
fn read_id(trade: &JsonObject<'_>) -> Option<TradeId> {
    let text = match trade.number("item_id") {
        Some(number) => number.to_owned(),
        None => trade.get("item_id")?,
    };
    item_id(&text).filter(|_id| !secret::appears_in(&text))
}

/// Reads the fields of a purchase except its id.
fn purchase(trade: &JsonObject<'_>, id: TradeId) -> OwnPurchase {
    let time = |key| trade.get::<String>(key).and_then(|text| UnixMs::parse(&text));
    let code = trade.text("status").unwrap_or("none");
    let is_protected = trade.text("release_date").is_some_and(|date| date != "null")
        && trade.get("is_released") != Some(true);
    let status =
        code.parse().map_or(TradeStatus::Other, |code| purchase_status(code, is_protected));
    let masked = |text: &str, max| secret::mask(text).chars().take(max).collect();
    let created_at = time("created");
    OwnPurchase {
        id,
        name: trade.get::<String>("name").map(|name| masked(&name, NAME_CHARS_MAX)),
        status,
        unknown_status: (status == TradeStatus::Other).then(|| masked(code, STATUS_CHARS_MAX)),
        price: trade.number("price").and_then(price),
        created_at,
        updated_at: time("date").or_else(|| epoch(trade, "last_updated")),
        joined_at: created_at,
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
fn success(body: &str) -> Result<JsonObject<'_>, ReadError> {
    let response = JsonObject::parse(body).map_err(|error| match error {
        ObjectError::NotJson => ReadError::NotJson,
        ObjectError::NotObject | ObjectError::RepeatedKey => ReadError::Shape,
    })?;
    match (response.get("success"), response.get::<String>("msg")) {
        (Some(true), _) => Ok(response),
        (Some(false), Some(message)) => Err(ReadError::MarketError(Escaped(&message).to_string())),
        (Some(false), None) | (None, _) => Err(ReadError::Shape),
    }
}
