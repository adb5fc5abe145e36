//! Parser of responses over HTTP: user and balance, open listings, own purchases.

use std::time::Duration;

use super::{DECIMALS, array, listing, number, object, string};
use crate::{
    config::Generation,
    domain::account::{
        BalanceError, NextPage, OwnPurchase, PAGE_CURSOR_BYTES_MAX, Page, STATUS_CHARS_MAX, User,
    },
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeId, TradeStatus},
    json::{Cursor, JsonError, ValueKind},
    markets::ReadError,
    secret,
    text::Escaped,
};

/// Wallet from which orders are paid (source: recordings).
const MAIN_WALLET: &str = "MAIN";

/// Maximum length of an unreadable value in an error, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Wallet of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wallet {
    name: String,
    /// Balance, rounded down; `None` if it cannot be read.
    pub amount: Option<Amount>,
    /// Set if `amount` is `None`.
    amount_error: Option<WalletError>,
}

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

impl Wallet {
    /// Returns `true` for the wallet from which orders are paid.
    pub fn is_main(&self) -> bool {
        self.name == MAIN_WALLET
    }
}

/// Parses the response to [`current_user`](super::operations::current_user).
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_current_user(body: &str) -> Result<User, ReadError> {
    let mut user = None;
    let errors = read_response(body, |cursor| {
        object(cursor, |key, cursor| match key {
            "currentUser" => current_user(cursor).map(|read| user = read),
            _ => cursor.skip().map(drop),
        })
        .map(drop)
    })?;
    match user {
        // The ledger would store the id, so one that contains a credential is rejected.
        Some(Some(user)) if user.id.is_empty() || secret::appears_in(&user.id) => {
            Err(ReadError::Shape)
        }
        Some(Some(user)) => Ok(user),
        Some(None) => Err(ReadError::SignedOut),
        None => Err(errors.map_or(ReadError::Shape, |words| market_error(&words))),
    }
}

/// Parses the response to [`open_listings`](super::operations::open_listings) of this generation. The
/// age of the listings is zero; the caller computes it from the server's time.
///
/// # Errors
///
/// Returns a [`ReadError`] if the body is not that response.
pub fn read_open_listings(
    body: &str,
    generation: Generation,
) -> Result<Page<Trade<'_>>, ReadError> {
    let event = TradeEvent::BackFilled { age: Duration::ZERO };
    let mut page = read_page(body, |cursor| listing::read(cursor, event, generation))?;
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

/// Parses a wallet; returns `None` for any other value.
///
/// # Errors
///
/// Returns a [`JsonError`] if the text is not JSON.
pub fn wallet(cursor: &mut Cursor<'_>) -> Result<Option<Wallet>, JsonError> {
    let (mut name, mut amount) = (None, Err(WalletError::NoAmount));
    object(cursor, |key, cursor| {
        match key {
            "name" => name = string(cursor)?,
            "amount" => amount = read_amount(cursor)?,
            _ => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    let (amount, amount_error) = match amount {
        Ok(amount) => (Some(amount), None),
        Err(error) => (None, Some(error)),
    };
    Ok(name.map(|name| Wallet { name, amount, amount_error }))
}

fn read_amount(cursor: &mut Cursor<'_>) -> Result<Result<Amount, WalletError>, JsonError> {
    // Masked before it is cut, because a cut credential might not be found.
    let beginning = |text: &str| secret::mask(text).chars().take(VALUE_CHARS_MAX).collect();
    Ok(match cursor.peek()? {
        ValueKind::Number => {
            let text = cursor.number()?;
            Amount::parse_floor(text, DECIMALS)
                .map_err(|_error| WalletError::OutOfRange(beginning(text)))
        }
        ValueKind::String => Err(WalletError::Text(beginning(&cursor.string()?.decode()))),
        ValueKind::Null => cursor.skip().map(|_null| Err(WalletError::NoAmount))?,
        _ => cursor.skip().map(|_other| Err(WalletError::NotNumber))?,
    })
}

/// A message of the market may mean that the session is signed out.
fn market_error(words: &str) -> ReadError {
    if words.to_ascii_lowercase().contains("unauthenticated") {
        return ReadError::SignedOut;
    }
    ReadError::MarketError(Escaped(words).to_string())
}

/// Parses a response: `on_data` reads `data`. Returns the message of the first error.
pub(super) fn read_response<'a>(
    body: &'a str,
    mut on_data: impl FnMut(&mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<Option<String>, JsonError> {
    let mut errors = None;
    let mut cursor = Cursor::new(body);
    object(&mut cursor, |key, cursor| match key {
        "data" => on_data(cursor),
        "errors" => error_messages(cursor).map(|messages| errors = messages.into_iter().next()),
        _ => cursor.skip().map(drop),
    })?;
    cursor.end()?;
    Ok(errors)
}

/// Returns the message of each error, or an empty string for an error without one.
pub(super) fn error_messages(cursor: &mut Cursor<'_>) -> Result<Vec<String>, JsonError> {
    let mut messages = Vec::new();
    array(cursor, |cursor| {
        let mut message = None;
        object(cursor, |key, cursor| match key {
            "message" => string(cursor).map(|text| message = text),
            _ => cursor.skip().map(drop),
        })?;
        messages.push(message.unwrap_or_default());
        Ok(())
    })?;
    Ok(messages)
}

/// Parses the user; the inner `None` is null, which means signed out.
fn current_user(cursor: &mut Cursor<'_>) -> Result<Option<Option<User>>, JsonError> {
    if cursor.peek()? == ValueKind::Null {
        return cursor.skip().map(|_null| Some(None));
    }
    let mut user = User { balance_error: Some(WalletError::NoWallets.into()), ..User::default() };
    let is_object = object(cursor, |key, cursor| {
        match key {
            "id" => user.id = string(cursor)?.unwrap_or_default(),
            "suspectedTrader" if cursor.peek()? == ValueKind::Bool => {
                user.is_flagged = Some(cursor.boolean()?);
            }
            "dailyWithdrawLimit" => {
                let limit = number(cursor)?;
                user.daily_withdraw_limit =
                    limit.and_then(|text| Amount::parse_floor(text, DECIMALS).ok());
            }
            "wallets" => read_wallets(cursor, &mut user)?,
            _ => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    Ok(is_object.then_some(Some(user)))
}

fn read_wallets(cursor: &mut Cursor<'_>, user: &mut User) -> Result<(), JsonError> {
    let mut main = None;
    let is_list = array(cursor, |cursor| {
        let found = wallet(cursor)?.filter(Wallet::is_main);
        main = main.take().or(found);
        Ok(())
    })?;
    (user.balance, user.balance_error) = match main {
        Some(Wallet { amount, amount_error, .. }) => (amount, amount_error.map(Into::into)),
        None if is_list => (None, Some(WalletError::NoMainWallet.into())),
        None => (None, Some(WalletError::NoWallets.into())),
    };
    Ok(())
}

fn purchase(cursor: &mut Cursor<'_>) -> Result<Option<OwnPurchase>, JsonError> {
    let (mut id, mut status, mut price) = (None, None, None);
    let (mut created_at, mut updated_at, mut joined_at) = (None, None, None);
    object(cursor, |key, cursor| {
        match key {
            "createdAt" => created_at = string(cursor)?.and_then(|text| UnixMs::parse(&text)),
            // The ledger would store the id, so one that contains a credential is rejected.
            "id" => {
                let text = string(cursor)?.filter(|text| !secret::appears_in(text));
                id = text.and_then(|text| TradeId::new(&text));
            }
            "status" => status = string(cursor)?,
            "totalValue" => {
                price = number(cursor)?.and_then(|text| Amount::parse(text, DECIMALS).ok());
            }
            "updatedAt" => updated_at = string(cursor)?.and_then(|text| UnixMs::parse(&text)),
            "joinedAt" => joined_at = string(cursor)?.and_then(|text| UnixMs::parse(&text)),
            _ => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    let purchase = |(id, word): (TradeId, String)| {
        let status = TradeStatus::from_market(&word);
        let is_unknown = matches!(status, TradeStatus::Other | TradeStatus::Listed);
        let unknown_status =
            is_unknown.then(|| secret::mask(&word).chars().take(STATUS_CHARS_MAX).collect());
        OwnPurchase { id, status, unknown_status, price, created_at, updated_at, joined_at }
    };
    Ok(id.zip(status).map(purchase))
}

/// Parses `data.trades` with nodes of any type.
fn read_page<'a, T>(
    body: &'a str,
    mut node: impl FnMut(&mut Cursor<'a>) -> Result<Option<T>, JsonError>,
) -> Result<Page<T>, ReadError> {
    let mut page = Page { nodes: Vec::new(), unreadable: 0, next: NextPage::Unclear, error: None };
    let mut has_edges = false;
    let errors = read_response(body, |cursor| {
        object(cursor, |key, cursor| match key {
            "trades" => object(cursor, |key, cursor| match key {
                "edges" => array(cursor, |cursor| edge(cursor, &mut node, &mut page))
                    .map(|is_array| has_edges = is_array),
                "pageInfo" => page_info(cursor).map(|next| page.next = next),
                _ => cursor.skip().map(drop),
            })
            .map(drop),
            _ => cursor.skip().map(drop),
        })
        .map(drop)
    })?;
    match errors {
        error if has_edges => {
            // Cut and masked before any other use.
            let error = error.map(|words| Escaped(&words).to_string());
            Ok(Page { error, ..page })
        }
        Some(message) => Err(market_error(&message)),
        None => Err(ReadError::Shape),
    }
}

fn edge<'a, T>(
    cursor: &mut Cursor<'a>,
    node: &mut impl FnMut(&mut Cursor<'a>) -> Result<Option<T>, JsonError>,
    page: &mut Page<T>,
) -> Result<(), JsonError> {
    let mut found = None;
    object(cursor, |key, cursor| match key {
        "node" => node(cursor).map(|read| found = read),
        _ => cursor.skip().map(drop),
    })?;
    match found {
        Some(found) => page.nodes.push(found),
        None => page.unreadable = page.unreadable.saturating_add(1),
    }
    Ok(())
}

fn page_info(cursor: &mut Cursor<'_>) -> Result<NextPage, JsonError> {
    let (mut has_more, mut end) = (None, None);
    object(cursor, |key, cursor| {
        match key {
            "hasNextPage" if cursor.peek()? == ValueKind::Bool => {
                has_more = Some(cursor.boolean()?);
            }
            "endCursor" => end = string(cursor)?,
            _ => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    let end = end.filter(|end| !end.is_empty() && end.len() <= PAGE_CURSOR_BYTES_MAX);
    Ok(match (has_more, end) {
        (Some(false), _) => NextPage::End,
        (Some(true), Some(end)) => NextPage::After(end),
        (Some(true), None) | (None, _) => NextPage::Unclear,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trade::Defect;

    #[test]
    fn a_signed_in_user_has_an_id_and_the_main_balance_rounded_down() {
        let body = r#"{"data":{"currentUser":{"id":"VXNlcjox","name":"x","suspectedTrader":true,
            "dailyWithdrawLimit":1000.5,"wallets":[{"id":"1","name":"VAULT","amount":9},
            {"id":"2","name":"MAIN","amount":12.349}]}}}"#;
        let user = read_current_user(body).unwrap();
        assert_eq!(user.id, "VXNlcjox");
        assert_eq!(user.balance, Some(Amount::from_cents(1_234)));
        assert_eq!(user.is_flagged, Some(true));
        assert_eq!(user.daily_withdraw_limit, Some(Amount::from_cents(100_050)));
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
        assert!(matches!(read("<html>"), Err(ReadError::NotJson(_))));
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
