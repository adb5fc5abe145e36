//! Parser of responses over HTTP: user and balance, open listings, own purchases.

use std::time::Duration;

use super::{DECIMALS, listing};
use crate::{
    config::Generation,
    domain::account::{
        BalanceError, NextPage, OwnPurchase, PAGE_CURSOR_BYTES_MAX, Page, STATUS_CHARS_MAX,
        USER_NAME_CHARS_MAX, User,
    },
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeId, TradeStatus},
    json::Cursor,
    markets::{
        ReadError,
        json_object::{JsonObject, is_number},
    },
    secret,
    text::Escaped,
};

/// Wallet from which orders are paid (source: recordings).
const MAIN_WALLET: &str = "MAIN";

/// Maximum length of an unreadable value in an error, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Error of reading a wallet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum WalletError {
    /// The list of wallets is missing.
    #[error("the response lists no wallets")]
    NoWallets,
    /// The list has no wallet `MAIN`.
    #[error("none of the listed wallets is named {MAIN_WALLET}")]
    NoMainWallet,
    /// The amount is missing or null.
    #[error("wallet {MAIN_WALLET} has no amount")]
    NoAmount,
    /// The amount is a string. It is not converted, because its unit is unknown.
    #[error("the amount of wallet {MAIN_WALLET} is the text '{0}', not a number")]
    Text(String),
    /// The amount is neither a number nor a string.
    #[error("the amount of wallet {MAIN_WALLET} is not a number")]
    NotNumber,
    /// The amount is a number beyond the range of [`Amount`].
    #[error("the amount of wallet {MAIN_WALLET} is out of range: {0}")]
    OutOfRange(String),
}

impl From<WalletError> for BalanceError {
    fn from(error: WalletError) -> Self {
        let text = error.to_string();
        match error {
            WalletError::Text(_) => Self::new("text", text),
            WalletError::OutOfRange(_) => Self::new("out of range", text),
            WalletError::NoWallets
            | WalletError::NoMainWallet
            | WalletError::NoAmount
            | WalletError::NotNumber => Self::new(text.clone(), text),
        }
    }
}

/// Parses the response to [`current_user`](super::operations::current_user).
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_current_user(body: &str) -> Result<User, ReadError> {
    let response = JsonObject::parse(body)?;
    let data = response.get::<JsonObject<'_>>("data");
    if data.as_ref().and_then(|data| data.text("currentUser")) == Some("null") {
        return Err(ReadError::SignedOut);
    }
    let user = data.and_then(|data| data.get::<JsonObject<'_>>("currentUser"));
    let user = user.ok_or_else(|| market_error(&response))?;
    // The ledger would store the id, so one that contains a credential is rejected.
    let id = user.get("id").filter(|id: &String| !id.is_empty() && !secret::appears_in(id));
    let (balance, balance_error) = match main_balance(&user) {
        Ok(balance) => (Some(balance), None),
        Err(error) => (None, Some(error.into())),
    };
    Ok(User {
        id: id.ok_or(ReadError::Shape)?,
        recipient: None,
        name: user.get("name").map(|name: String| name.chars().take(USER_NAME_CHARS_MAX).collect()),
        balance,
        balance_error,
        is_flagged: user.get("suspectedTrader"),
    })
}

/// Parses the response to [`open_listings`](super::operations::open_listings) of this generation.
/// The age of the listings is zero; the caller computes it from the server's time.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_open_listings(
    body: &str,
    generation: Generation,
) -> Result<Page<Trade<'_>>, ReadError> {
    let event = TradeEvent::BackFilled { age: Duration::ZERO };
    let mut page =
        read_page(body, |node| listing::read(&mut Cursor::new(node), event, generation).ok()?)?;
    listing::mark_conflicts(None, &mut page.nodes);
    Ok(page)
}

/// Parses the response to [`own_purchases`](super::operations::own_purchases).
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_own_purchases(body: &str) -> Result<Page<OwnPurchase>, ReadError> {
    read_page(body, purchase)
}

/// Returns the balance of a wallet that the feed pushed, rounded down, if orders are paid from it.
pub(super) fn pushed_balance(wallet: &str) -> Option<Amount> {
    let wallet = JsonObject::parse(wallet).ok().filter(is_main)?;
    wallet_amount(&wallet).ok()
}

fn is_main(wallet: &JsonObject<'_>) -> bool {
    wallet.get::<String>("name").is_some_and(|name| name == MAIN_WALLET)
}

fn main_balance(user: &JsonObject<'_>) -> Result<Amount, WalletError> {
    let wallets = user.array("wallets").ok_or(WalletError::NoWallets)?;
    let mut wallets = wallets.into_iter().filter_map(|wallet| JsonObject::parse(wallet).ok());
    wallet_amount(&wallets.find(is_main).ok_or(WalletError::NoMainWallet)?)
}

/// Returns the balance of a wallet, rounded down.
fn wallet_amount(wallet: &JsonObject<'_>) -> Result<Amount, WalletError> {
    // Masked before it is cut, because a cut credential might not be found.
    let beginning = |text: &str| secret::mask(text).chars().take(VALUE_CHARS_MAX).collect();
    match wallet.text("amount") {
        None | Some("null") => Err(WalletError::NoAmount),
        Some(text) if is_number(text) => Amount::parse_floor(text, DECIMALS)
            .map_err(|_error| WalletError::OutOfRange(beginning(text))),
        Some(_) => Err(match wallet.get::<String>("amount") {
            Some(text) => WalletError::Text(beginning(&text)),
            None => WalletError::NotNumber,
        }),
    }
}

/// Returns the error of a response without the requested data. A message of the market may mean
/// that the session is signed out.
fn market_error(response: &JsonObject<'_>) -> ReadError {
    match error_messages(response).into_iter().next() {
        None => ReadError::Shape,
        Some(message) if message.to_ascii_lowercase().contains("unauthenticated") => {
            ReadError::SignedOut
        }
        Some(message) => ReadError::MarketError(Escaped(&message).to_string()),
    }
}

/// Returns the message of each error, or an empty string for an error without one.
pub(super) fn error_messages(response: &JsonObject<'_>) -> Vec<String> {
    let errors = response.array("errors").unwrap_or_default().into_iter();
    let message = |error| JsonObject::parse(error).ok().and_then(|error| error.get("message"));
    errors.map(|error| message(error).unwrap_or_default()).collect()
}

/// Parses the price of a purchase and rounds it up.
pub(super) fn price(text: &str) -> Option<Amount> {
    Amount::parse_ceil(text, DECIMALS).ok()
}

fn purchase(node: &str) -> Option<OwnPurchase> {
    let node = JsonObject::parse(node).ok()?;
    let text = |key| node.get::<String>(key);
    let time = |key| text(key).and_then(|text| UnixMs::parse(&text));
    // The ledger would store the id, so one that contains a credential is rejected.
    let id = TradeId::new(&text("id").filter(|id| !secret::appears_in(id))?)?;
    let word = text("status")?;
    let status = TradeStatus::from_market(&word);
    let is_unknown = matches!(status, TradeStatus::Other | TradeStatus::Listed);
    Some(OwnPurchase {
        id,
        name: None,
        status,
        unknown_status: is_unknown
            .then(|| secret::mask(&word).chars().take(STATUS_CHARS_MAX).collect()),
        price: node.paid("totalValue", price),
        created_at: time("createdAt"),
        updated_at: time("updatedAt"),
        joined_at: time("joinedAt"),
        commission: None,
        own_id: None,
    })
}

/// Parses `data.trades` with nodes of any type.
fn read_page<'a, T>(
    body: &'a str,
    read_node: impl Fn(&'a str) -> Option<T>,
) -> Result<Page<T>, ReadError> {
    let response = JsonObject::parse(body)?;
    let data = response.get::<JsonObject<'_>>("data");
    let trades = data.and_then(|data| data.get::<JsonObject<'_>>("trades"));
    let edges = trades.as_ref().and_then(|trades| trades.array("edges"));
    let (Some(trades), Some(edges)) = (trades, edges) else { return Err(market_error(&response)) };
    let mut page = Page {
        nodes: Vec::with_capacity(edges.len()),
        unreadable: 0,
        next: next_page(&trades),
        // Cut and masked before any other use.
        error: error_messages(&response).first().map(|words| Escaped(words).to_string()),
    };
    for edge in edges {
        let node = JsonObject::parse(edge).ok().and_then(|edge| edge.text("node"));
        match node.and_then(&read_node) {
            Some(node) => page.nodes.push(node),
            None => page.unreadable = page.unreadable.saturating_add(1),
        }
    }
    Ok(page)
}

fn next_page(trades: &JsonObject<'_>) -> NextPage {
    let info = trades.get::<JsonObject<'_>>("pageInfo");
    let end = info.as_ref().and_then(|info| info.get::<String>("endCursor"));
    let end = end.filter(|end| !end.is_empty() && end.len() <= PAGE_CURSOR_BYTES_MAX);
    match (info.and_then(|info| info.get("hasNextPage")), end) {
        (Some(false), _) => NextPage::End,
        (Some(true), Some(end)) => NextPage::After(end),
        (Some(true), None) | (None, _) => NextPage::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trade::Defect;

    #[test]
    fn a_signed_in_user_has_an_id_and_the_main_balance_rounded_down() {
        let body = r#"{"data":{"currentUser":{"id":"VXNlcjox","name":"x","suspectedTrader":true,
            "wallets":[{"id":"1","name":"VAULT","amount":9},
            {"id":"2","name":"MAIN","amount":12.349}]}}}"#;
        let user = read_current_user(body).unwrap();
        assert_eq!((&*user.id, user.name.as_deref()), ("VXNlcjox", Some("x")));
        assert_eq!(user.balance, Some(Amount::from_cents(1_234)));
        assert_eq!(user.is_flagged, Some(true));
    }

    #[test]
    fn a_signed_out_response_differs_from_a_response_without_data() {
        let read = read_current_user;
        assert_eq!(read(r#"{"data":{"currentUser":null}}"#), Err(ReadError::SignedOut));
        let words = r#"{"errors":[{"message":"Unauthenticated"}],"data":null}"#;
        assert_eq!(read(words), Err(ReadError::SignedOut));
        assert_eq!(read(r#"{"data":{}}"#), Err(ReadError::Shape));
        assert_eq!(read(r#"{"data":{"currentUser":{"name":"x"}}}"#), Err(ReadError::Shape));
        let market_error = r#"{"errors":[{"message":"slow down"}],"data":null}"#;
        assert_eq!(read(market_error), Err(ReadError::MarketError("slow down".to_owned())));
        assert!(matches!(read("<html>"), Err(ReadError::NotJson)));
    }

    #[test]
    fn a_page_of_listings_has_the_cursor_of_the_next() {
        let body = r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"LISTED"}},{"node":null},
            {"node":{"id":"b"}}],"pageInfo":{"hasNextPage":true,"endCursor":"c"}}}}"#;
        let page = read_open_listings(body, Generation::B).unwrap();
        let ids: Vec<_> = page.nodes.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!((ids, page.unreadable), (vec!["a", "b"], 1));
        assert_eq!(page.next, NextPage::After("c".to_owned()));
    }

    #[test]
    fn a_page_that_shows_a_listing_both_for_sale_and_taken_makes_it_unbuyable() {
        let body = r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"LISTED"}},
            {"node":{"id":"b","status":"LISTED"}},{"node":{"id":"a","status":"JOINED"}}]}}}"#;
        let page = read_open_listings(body, Generation::A).unwrap();
        let marked = page.nodes.iter().map(|trade| trade.defects.contains(Defect::Conflict));
        assert_eq!(marked.collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_page_of_generation_b_must_state_can_join() {
        let body = r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"LISTED"}}]}}}"#;
        let lacks = |generation| {
            let page = read_open_listings(body, generation).unwrap();
            page.nodes.iter().all(|trade| trade.defects.contains(Defect::CanJoin))
        };
        assert!(lacks(Generation::B) && !lacks(Generation::A));
    }

    #[test]
    fn the_last_page_has_no_next() {
        let body =
            r#"{"data":{"trades":{"pageInfo":{"hasNextPage":false,"endCursor":"c"},"edges":[]}}}"#;
        assert_eq!(read_own_purchases(body).unwrap().next, NextPage::End);
        assert_eq!(read_own_purchases(r#"{"data":{"trades":null}}"#), Err(ReadError::Shape));
    }

    #[test]
    fn a_purchase_is_read_with_its_price() {
        let body = r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"JOINED","totalValue":10.15,
            "updatedAt":"2026-03-01T10:00:00.120Z","joinedAt":null}}]}}}"#;
        let page = read_own_purchases(body).unwrap();
        let [purchase] = page.nodes.as_slice() else { panic!("{page:?}") };
        assert_eq!(purchase.status, TradeStatus::Joined);
        assert_eq!(purchase.price, Some(Amount::from_cents(1_015)));
        assert!(purchase.updated_at.is_some() && purchase.joined_at.is_none());
    }

    #[test]
    fn a_price_that_cannot_be_read_is_zero_and_a_finer_one_is_rounded_up() {
        for (text, cents) in [
            ("10.151", Some(1_016)),
            ("1.0151e1", Some(1_016)),
            ("-1", Some(-100)),
            ("1e30", Some(0)),
            (r#""10.15""#, Some(0)),
            ("{}", Some(0)),
            ("null", None),
        ] {
            let node = format!(r#"{{"id":"a","status":"JOINED","totalValue":{text}}}"#);
            assert_eq!(purchase(&node).unwrap().price, cents.map(Amount::from_cents), "{text}");
        }
        assert_eq!(purchase(r#"{"id":"a","status":"JOINED"}"#).unwrap().price, None);
    }

    #[test]
    fn a_page_without_clear_page_info_is_not_the_last() {
        let next = |info: &str| {
            let body = format!(r#"{{"data":{{"trades":{{"edges":[]{info}}}}}}}"#);
            read_own_purchases(&body).unwrap().next
        };
        let long = "c".repeat(PAGE_CURSOR_BYTES_MAX + 1);
        for info in [
            String::new(),
            r#","pageInfo":null"#.to_owned(),
            r#","pageInfo":{"endCursor":"c"}"#.to_owned(),
            r#","pageInfo":{"hasNextPage":null,"endCursor":"c"}"#.to_owned(),
            r#","pageInfo":{"hasNextPage":"false","endCursor":"c"}"#.to_owned(),
            r#","pageInfo":{"hasNextPage":true,"endCursor":null}"#.to_owned(),
            r#","pageInfo":{"hasNextPage":true,"endCursor":""}"#.to_owned(),
            format!(r#","pageInfo":{{"hasNextPage":true,"endCursor":"{long}"}}"#),
        ] {
            assert_eq!(next(&info), NextPage::Unclear, "{info}");
        }
        assert_eq!(next(r#","pageInfo":{"hasNextPage":false}"#), NextPage::End);
    }

    #[test]
    fn an_error_beside_the_list_is_kept_verbatim() {
        let body = r#"{"data":{"trades":{"edges":[null,{"node":null}],"pageInfo":{"hasNextPage":
            false,"endCursor":null}}},"errors":[{"message":"Cannot return null"}]}"#;
        let page = read_own_purchases(body).unwrap();
        assert_eq!((page.nodes.len(), page.unreadable), (0, 2));
        assert_eq!(page.error.as_deref(), Some("Cannot return null"));
    }

    #[test]
    fn an_unreadable_balance_has_a_specific_error() {
        let error = |wallets: &str| {
            let body = format!(r#"{{"data":{{"currentUser":{{"id":"a"{wallets}}}}}}}"#);
            let user = read_current_user(&body).unwrap();
            assert_eq!(user.balance.is_none(), user.balance_error.is_some());
            user.balance_error
        };
        let amount =
            |amount: &str| error(&format!(r#","wallets":[{{"name":"MAIN","amount":{amount}}}]"#));
        assert_eq!(error(""), Some(WalletError::NoWallets.into()));
        assert_eq!(error(r#","wallets":null"#), Some(WalletError::NoWallets.into()));
        assert_eq!(
            error(r#","wallets":[{"name":"VAULT"}]"#),
            Some(WalletError::NoMainWallet.into())
        );
        assert_eq!(error(r#","wallets":[{"name":"MAIN"}]"#), Some(WalletError::NoAmount.into()));
        assert_eq!(amount("null"), Some(WalletError::NoAmount.into()));
        assert_eq!(amount("[]"), Some(WalletError::NotNumber.into()));
        assert_eq!(amount(r#""1000.0""#), Some(WalletError::Text("1000.0".to_owned()).into()));
        assert_eq!(amount("1e99"), Some(WalletError::OutOfRange("1e99".to_owned()).into()));
        assert_eq!(amount("1000.0"), None);
    }

    #[test]
    fn a_purchase_of_unknown_status_keeps_the_site_status() {
        let body = r#"{"data":{"trades":{"edges":[{"node":{"id":"a","status":"AWAITING_SELLER"}},
            {"node":{"id":"b","status":"LISTED"}},{"node":{"id":"c","status":"JOINED"}}]}}}"#;
        let page = read_own_purchases(body).unwrap();
        let read = page.nodes.iter().map(|node| (node.status, node.unknown_status.as_deref()));
        let expected = [
            (TradeStatus::Other, Some("AWAITING_SELLER")),
            (TradeStatus::Listed, Some("LISTED")),
            (TradeStatus::Joined, None),
        ];
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }
}
