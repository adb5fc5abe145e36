//! Parser of responses over HTTP: balance, own purchases, one order, open listings.
//!
//! A purchase contains the items that were bought together; each is an entry of its own. The bot
//! buys one item at a time.

use std::time::Duration;

use super::{DECIMALS, listing, listing::Skin};
use crate::{
    domain::account::{
        BalanceError, ITEM_NAME_CHARS_MAX, NextPage, OwnPurchase, PAGE_CURSOR_BYTES_MAX, Page,
        STATUS_CHARS_MAX, User,
    },
    domain::money::Amount,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeId, TradeStatus},
    json::Cursor,
    markets::{ReadError, json_object::JsonObject},
    secret,
    text::Escaped,
};

/// Status of a purchase that was given back.
pub(super) const RETURNED: &str = "return";

/// Reason of a return because the buyer did not accept the offer in time.
const TRADE_TIMEOUT: &str = "trade_timeout";

/// Returns the status that a word of the market means.
///
/// An accepted item is delivered, but Steam may roll the trade back for some days. The market does
/// not show when they end.
pub(super) fn status_of(word: &str) -> TradeStatus {
    match word {
        "processing" | "wait_unlock" => TradeStatus::Joined,
        "wait_accept" | "wait_withdraw" => TradeStatus::Processing,
        "accepted" => TradeStatus::CompletedProtected,
        RETURNED => TradeStatus::Cancelled,
        _ => TradeStatus::Other,
    }
}

/// Parses the balance of the account with this id, which the response does not contain.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_balance(body: &str, account_id: &str) -> Result<User, ReadError> {
    let response = JsonObject::parse(body)?;
    let data = response.get::<JsonObject<'_>>("data").ok_or_else(|| market_error(&response))?;
    let balance = match data.text("balance") {
        None | Some("null") => Err(BalanceError::new("no balance", "the response has no balance")),
        Some(_) => match data.number("balance").map(|text| Amount::parse_floor(text, DECIMALS)) {
            None => Err(BalanceError::new("not a number", "the balance is not a number")),
            Some(Err(error)) => {
                Err(BalanceError::new("unreadable", format!("the balance {error}")))
            }
            Some(Ok(balance)) => Ok(balance),
        },
    };
    let id = account_id.to_owned();
    Ok(match balance {
        Ok(balance) => User { id, balance: Some(balance), ..User::default() },
        Err(error) => User { id, balance_error: Some(error), ..User::default() },
    })
}

/// Returns `true` for the response to a request for the balance. No response to an order has this
/// shape.
pub fn is_balance(body: &str) -> bool {
    let response = JsonObject::parse(body).ok();
    let data = response.and_then(|response| response.get::<JsonObject<'_>>("data"));
    data.is_some_and(|data| data.number("balance").is_some() && data.text("purchase_id").is_none())
}

/// Parses one page of own purchases.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body has no list.
pub fn read_purchases(body: &str) -> Result<Page<OwnPurchase>, ReadError> {
    let response = JsonObject::parse(body)?;
    let purchases = response.array("data").ok_or_else(|| market_error(&response))?;
    let mut page =
        Page { nodes: Vec::new(), unreadable: 0, next: next_number(&response), error: None };
    for purchase in purchases {
        let Some(skins) = skins_of(purchase) else {
            page.unreadable = page.unreadable.saturating_add(1);
            continue;
        };
        for skin in skins {
            match skin {
                Some(skin) => page.nodes.push(skin),
                None => page.unreadable = page.unreadable.saturating_add(1),
            }
        }
    }
    Ok(page)
}

/// Parses the response to a look-up of the order with this own id. Returns `None` for an empty
/// list.
///
/// # Errors
///
/// Returns a [`ReadError`] if the response has neither one purchase of one item with that own id
/// nor an empty list.
pub fn read_order(body: &str, own_id: &OwnOrderId) -> Result<Option<OwnPurchase>, ReadError> {
    let response = JsonObject::parse(body)?;
    let purchases = response.array("data").ok_or_else(|| market_error(&response))?;
    match purchases.as_slice() {
        [] => Ok(None),
        [purchase] if has_own_id(purchase, own_id) => {
            match skins_of(purchase).ok_or(ReadError::Shape)?.as_mut_slice() {
                [skin] => skin.take().map(Some).ok_or(ReadError::Shape),
                _ => Err(ReadError::Shape),
            }
        }
        // The market has not filtered by the own id.
        _ => Err(ReadError::Shape),
    }
}

/// Parses one page of open listings of this game. The age of the listings is zero; the caller
/// computes it from the server's time.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body has no list.
pub fn read_listings(body: &str) -> Result<Page<Trade<'_>>, ReadError> {
    let response = JsonObject::parse(body)?;
    let skins = response.array("data").ok_or_else(|| market_error(&response))?;
    let mut page = Page {
        nodes: Vec::with_capacity(skins.len()),
        unreadable: 0,
        next: next_cursor(&response),
        error: None,
    };
    let event = TradeEvent::BackFilled { age: Duration::ZERO };
    for skin in skins {
        let skin = Skin::read(&mut Cursor::new(skin)).ok().flatten();
        match skin.and_then(|skin| skin.into_trade(event, true)) {
            Some(trade) => page.nodes.push(trade),
            None => page.unreadable = page.unreadable.saturating_add(1),
        }
    }
    Ok(page)
}

/// Returns the error code or message of a response without data, which is untrusted text.
pub(super) fn error_text(response: &JsonObject<'_>) -> Option<String> {
    response.get::<String>("error").or_else(|| response.get("message"))
}

fn has_own_id(purchase: &str, own_id: &OwnOrderId) -> bool {
    let purchase = JsonObject::parse(purchase).ok();
    purchase.and_then(|purchase| own_id_of(&purchase)) == Some(*own_id)
}

/// Returns the items of a purchase, each `None` if it is unreadable. An empty list has none; a
/// missing one is `None`.
fn skins_of(purchase: &str) -> Option<Vec<Option<OwnPurchase>>> {
    let purchase = JsonObject::parse(purchase).ok()?;
    Some(purchase.array("skins")?.into_iter().map(|skin| skin_of(skin, &purchase)).collect())
}

/// Returns the own id of a purchase. A value that is not text is that of another program.
fn own_id_of(purchase: &JsonObject<'_>) -> Option<OwnOrderId> {
    purchase.text("custom_id").filter(|text| !matches!(*text, "null" | "\"\""))?;
    Some(OwnOrderId::of_record(&purchase.get::<String>("custom_id").unwrap_or_default()))
}

fn skin_of(skin: &str, purchase: &JsonObject<'_>) -> Option<OwnPurchase> {
    let created_at = purchase.get::<String>("created_at").and_then(|text| UnixMs::parse(&text));
    let skin = JsonObject::parse(skin).ok()?;
    let id = skin.number("id")?.parse().ok().map(TradeId::from_number)?;
    let time = |key| skin.get::<String>(key).and_then(|text| UnixMs::parse(&text));
    let word = skin.get::<String>("status").unwrap_or_default();
    let status = match status_of(&word) {
        TradeStatus::Cancelled => match skin.get::<String>("return_reason").as_deref() {
            Some(TRADE_TIMEOUT) => TradeStatus::Expired,
            _ => TradeStatus::Cancelled,
        },
        // An item with an error is no purchase, and counts until the balance shows its money.
        _ if error_of(&skin).is_some() => TradeStatus::Cancelled,
        status => status,
    };
    let unknown = || secret::mask(word.trim()).chars().take(STATUS_CHARS_MAX).collect();
    let name = skin.get::<String>("name");
    Some(OwnPurchase {
        id,
        name: name.map(|name| secret::mask(&name).chars().take(ITEM_NAME_CHARS_MAX).collect()),
        status,
        unknown_status: (status == TradeStatus::Other).then(unknown),
        price: skin.paid("price", listing::positive),
        // The market does not state when the item was listed; that was earlier.
        created_at,
        updated_at: time("steam_trade_offer_finished_at"),
        joined_at: created_at,
        commission: skin.number("return_charged_commission").and_then(listing::positive),
        own_id: own_id_of(purchase),
    })
}

/// Returns the error of an item, as it is written.
pub(super) fn error_of<'a>(skin: &JsonObject<'a>) -> Option<&'a str> {
    skin.text("error").filter(|error| *error != "null")
}

fn market_error(response: &JsonObject<'_>) -> ReadError {
    let error = error_text(response);
    error.map_or(ReadError::Shape, |text| ReadError::MarketError(Escaped(&text).to_string()))
}

/// Returns the next page of a list whose pages are numbered.
fn next_number(response: &JsonObject<'_>) -> NextPage {
    let meta = response.get::<JsonObject<'_>>("meta");
    let number = |key| meta.as_ref()?.get::<u32>(key);
    match (number("current_page"), number("last_page")) {
        (Some(current), Some(last)) if last <= current => NextPage::End,
        (Some(current), Some(_)) => NextPage::After(current.saturating_add(1).to_string()),
        _ => NextPage::Unclear,
    }
}

/// Returns the next page of a list with a cursor, which is null on the last page.
fn next_cursor(response: &JsonObject<'_>) -> NextPage {
    let Some(meta) = response.get::<JsonObject<'_>>("meta") else { return NextPage::Unclear };
    let cursor =
        meta.get::<String>("next_cursor").or_else(|| meta.number("next_cursor").map(str::to_owned));
    let cursor =
        cursor.filter(|cursor| !cursor.is_empty() && cursor.len() <= PAGE_CURSOR_BYTES_MAX);
    match (meta.text("next_cursor"), cursor) {
        (Some("null"), _) => NextPage::End,
        (_, Some(cursor)) => NextPage::After(cursor),
        _ => NextPage::Unclear,
    }
}

#[cfg(test)]
mod tests;
