//! What the practice market answers over HTTP: a request's body → what is asked → an answer. Pure.
//!
//! The operations are those of the table of wire facts: `joinTrades`, `currentUser`, `trades`.
//! A query is checked against what the marketplace has before anything is done, so a query that
//! asks for too much buys nothing.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    dice::Dice,
    faults::{self, STALE_MAX},
    listing::{Listing, base64, global_id, specimen},
    market_state::{MarketEvent, MarketState, SaleRejection},
    query::{self, OperationKind, QueryField},
    value::{JsonValue, quoted},
};
use crate::{config::Generation, domain::money::Amount, domain::trade::TradeStatus};

/// How many listings one page of `trades` has at most. Source: client code of 2025.
pub const PAGE_MAX: u64 = 250;
/// How many it has if the query does not say.
const PAGE: u64 = 50;
/// Of how many purchases of a thousand a false page says something false.
const FALSE_PERMILLE: u32 = 500;

/// A request that was understood.
#[derive(Clone, Debug)]
pub struct GraphqlRequest {
    /// What is asked.
    pub call: GraphqlCall,
    field: QueryField,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphqlCall {
    /// To buy.
    Join {
        /// What: exactly one id, where the request is as it should be.
        ids: Vec<String>,
        /// Whether `hasCompliedToAntiRWT` is true.
        complied: bool,
    },
    /// Who one is.
    CurrentUser,
    /// What is open, or what one bought.
    Trades(ListingQuery),
    /// Nothing: `{ __typename }`, which keeps a connection warm.
    Typename,
}

/// Which listings are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingQuery {
    first: u64,
    after: Option<u64>,
    by_id: bool,
    statuses: Vec<String>,
    user_id: Option<String>,
}

/// A request that was not understood, with the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRejection {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Reads the body of a request.
///
/// # Errors
///
/// An [`RequestRejection`] where it is not one of the operations that the market knows.
pub fn read(body: &[u8]) -> Result<GraphqlRequest, RequestRejection> {
    let bad =
        |message: &str| RequestRejection { status: 400, body: error_body(message, "BAD_REQUEST") };
    let body: Value =
        serde_json::from_slice(body).map_err(|_not_json| bad("POST body is not JSON"))?;
    let Some(text) = body.get("query").and_then(Value::as_str) else {
        let persisted = body.pointer("/extensions/persistedQuery").is_some();
        return Err(if persisted {
            let message = "PersistedQueryNotFound";
            RequestRejection { status: 200, body: error_body(message, "PERSISTED_QUERY_NOT_FOUND") }
        } else {
            bad("POST body missing a query")
        });
    };
    let document = query::parse(text).map_err(|error| bad(&error.to_string()))?;
    let variables = body.get("variables").unwrap_or(&Value::Null);
    let [field] = &document.fields[..] else { return Err(bad("expected one field")) };
    let call = match (document.kind, &*field.name) {
        (OperationKind::Mutation, "joinTrades") => join(field, variables),
        (OperationKind::Query, "currentUser") => GraphqlCall::CurrentUser,
        (OperationKind::Query, "trades") => {
            GraphqlCall::Trades(listed(field, variables).map_err(|error| bad(&error))?)
        }
        (_, "__typename") => GraphqlCall::Typename,
        (_, name) => return Err(bad(&format!("Cannot query field \"{name}\" on type \"Query\"."))),
    };
    let shape = match &call {
        GraphqlCall::Join { .. } => joined_json(vec![specimen().json(Generation::B)]),
        GraphqlCall::CurrentUser => user_json(Amount::ZERO, None, (true, "x")),
        GraphqlCall::Trades(_) => {
            page_json(vec![(specimen().json(Generation::B), String::new())], false)
        }
        GraphqlCall::Typename => JsonValue::Null,
    };
    let mut scratch = String::new();
    let fits = shape.select(&field.selection, &mut scratch);
    let bare = field.selection.is_empty() && call != GraphqlCall::Typename;
    match fits {
        Ok(()) if bare => Err(bad("expected a selection of subfields")),
        Ok(()) => Ok(GraphqlRequest { call, field: field.clone() }),
        Err(error) => Err(bad(&error.to_string())),
    }
}

fn join(field: &QueryField, variables: &Value) -> GraphqlCall {
    let input = field.arg("input", variables);
    let ids = input.get("tradeIds").and_then(Value::as_array);
    let ids = ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let complied = input.get("hasCompliedToAntiRWT").and_then(Value::as_bool) == Some(true);
    GraphqlCall::Join { ids, complied }
}

fn listed(field: &QueryField, variables: &Value) -> Result<ListingQuery, String> {
    let first = match field.arg("first", variables) {
        Value::Null => PAGE,
        value => value.as_u64().filter(|first| *first <= PAGE_MAX).ok_or_else(|| {
            format!("PaginationAmount cannot represent a value above {PAGE_MAX}: {value}")
        })?,
    };
    let after = match field.arg("after", variables) {
        Value::String(cursor) if !cursor.is_empty() => {
            Some(number_of_cursor(cursor).ok_or("Invalid cursor")?)
        }
        _ => None,
    };
    let words = |name| match field.arg(name, variables) {
        Value::String(word) => vec![word.clone()],
        Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let by_id = match words("orderBy").first().map(String::as_str) {
        Some("ID_DESC") => true,
        None | Some("CREATED_AT_DESC") => false,
        Some(other) => return Err(format!("Value \"{other}\" does not exist in \"TradeOrderBy\"")),
    };
    let mut statuses = words("status");
    statuses.extend(words("statuses"));
    let user_id = field.arg("userId", variables).as_str().map(str::to_owned);
    Ok(ListingQuery { first, after, by_id, statuses, user_id })
}

/// A request that was understood, with what decides the answer.
#[derive(Clone, Debug)]
pub struct ParsedRequest<'a> {
    /// What is asked.
    pub request: &'a GraphqlRequest,
    /// Whether the client is signed in.
    pub signed_in: bool,
    /// In which way the answer to a read is false, and what decides the rest of it.
    pub lie: Option<(faults::FaultKind, Dice)>,
}

/// Answers a request that was understood: the body of an HTTP 200.
pub fn answer(
    exchange: &mut MarketState,
    now: Duration,
    asked: ParsedRequest<'_>,
    events: &mut Vec<MarketEvent>,
) -> String {
    exchange.advance(now, events);
    let ParsedRequest { request, signed_in, lie } = asked;
    let (data, refused) = match &request.call {
        GraphqlCall::Typename => return r#"{"data":{"__typename":"Query"}}"#.to_owned(),
        GraphqlCall::CurrentUser if signed_in => {
            let who = (exchange.suspected_trader(), exchange.user_id());
            let balance = match lie {
                Some((faults::FaultKind::BalanceStale, mut dice)) => {
                    exchange.balance_before(now, dice.wait(Duration::ZERO, STALE_MAX))
                }
                _ => exchange.balance(),
            };
            (Some(user_json(balance, exchange.daily_left(), who)), None)
        }
        GraphqlCall::CurrentUser => (Some(JsonValue::Null), None),
        GraphqlCall::Trades(listed) => match trades(exchange, now, (listed, signed_in), lie) {
            Ok(page) => (Some(page), None),
            Err(refusal) => (None, Some(refusal)),
        },
        GraphqlCall::Join { .. } => match joins(exchange, now, request, signed_in, events) {
            Ok(listing) => (Some(joined_json(vec![listing.json(Generation::B)])), None),
            Err(refusal) => (None, Some(refusal)),
        },
    };
    match (data, refused) {
        (Some(data), _) => request.wrap(&data),
        (None, refusal) => {
            refused_body(refusal.unwrap_or(SaleRejection::NotFound), &request.field.key)
        }
    }
}

/// Carries a request to buy out.
///
/// # Errors
///
/// A [`SaleRejection`] where nothing was bought.
pub fn joins(
    exchange: &mut MarketState,
    now: Duration,
    request: &GraphqlRequest,
    signed_in: bool,
    events: &mut Vec<MarketEvent>,
) -> Result<Arc<Listing>, SaleRejection> {
    match &request.call {
        GraphqlCall::Join { .. } if !signed_in => Err(SaleRejection::Unauthenticated),
        GraphqlCall::Join { complied: false, .. } => Err(SaleRejection::NotCompliant),
        GraphqlCall::Join { ids, .. } => match &ids[..] {
            [id] => exchange.join(now, id, events),
            _ => Err(SaleRejection::NotOne),
        },
        _ => Err(SaleRejection::NotFound),
    }
}

impl ListingQuery {
    /// Whether these are the purchases of this account.
    pub fn is_of(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
    }
}

impl GraphqlRequest {
    /// The first id that a request to buy names.
    pub fn wanted_id(&self) -> Option<&str> {
        match &self.call {
            GraphqlCall::Join { ids, .. } => Some(ids.first().map_or("", String::as_str)),
            _ => None,
        }
    }

    /// The answer to a purchase of these listings, as the query selects it.
    pub fn joined(&self, listings: &[&Listing]) -> String {
        let trades = listings.iter().map(|listing| listing.json(Generation::B)).collect();
        self.wrap(&joined_json(trades))
    }

    /// The answer to a request that was refused.
    pub fn refused(&self, refusal: SaleRejection) -> String {
        refused_body(refusal, &self.field.key)
    }

    fn wrap(&self, data: &JsonValue) -> String {
        let mut out = format!("{{\"data\":{{{}:", quoted(&self.field.key));
        // The query was checked against a specimen of the same shape.
        match data.select(&self.field.selection, &mut out) {
            Ok(()) => {
                out.push_str("}}");
                out
            }
            Err(error) => error_body(&error.to_string(), "INTERNAL_SERVER_ERROR"),
        }
    }
}

fn trades(
    exchange: &MarketState,
    now: Duration,
    (asked, signed_in): (&ListingQuery, bool),
    mut lie: Option<(faults::FaultKind, Dice)>,
) -> Result<JsonValue, SaleRejection> {
    let of_status =
        |listing: &Listing| asked.statuses.iter().any(|word| word == listing.status.as_str());
    let fits = |listing: &Listing| asked.statuses.is_empty() || of_status(listing);
    let mut found: Vec<Listing> = match (&asked.user_id, &mut lie) {
        (None, _) => exchange.open().filter(|listing| fits(listing)).cloned().collect(),
        (Some(_), _) if !signed_in => return Err(SaleRejection::Unauthenticated),
        (Some(id), _) if id != exchange.user_id() => Vec::new(),
        (Some(_), Some((faults::FaultKind::ListStale, dice))) => {
            exchange.bought_before(now, dice.wait(Duration::ZERO, STALE_MAX))
        }
        (Some(_), _) => exchange.bought().cloned().collect(),
    };
    found.retain(fits);
    if asked.by_id {
        found.sort_by_key(|listing| std::cmp::Reverse(listing.number));
    } else {
        found.sort_by_key(|listing| std::cmp::Reverse((listing.created_at, listing.number)));
    }
    // The cursor is the last number seen. If that listing is gone, it stands where it would.
    let start = match asked.after {
        None => 0,
        Some(after) => match found.iter().position(|listing| listing.number == after) {
            Some(at) => at.saturating_add(1),
            None => found.iter().position(|listing| listing.number < after).unwrap_or(found.len()),
        },
    };
    let rest = found.get(start..).unwrap_or_default();
    let first = usize::try_from(asked.first).unwrap_or(0);
    let mut edges = Vec::new();
    for listing in rest.iter().take(first) {
        edges.extend(edge(listing, lie.as_mut()));
    }
    let is_cut_short = matches!(lie, Some((faults::FaultKind::ListShort, _)));
    Ok(page_json(edges, first < rest.len() && !is_cut_short))
}

/// A purchase or listing with its cursor, as a page shows it. What is false about a page is false
/// about each of its purchases by chance; `None`: it is left out.
fn edge(
    listing: &Listing,
    lie: Option<&mut (faults::FaultKind, Dice)>,
) -> Option<(JsonValue, String)> {
    let struck = lie.and_then(|(kind, dice)| dice.permille(FALSE_PERMILLE).then_some(*kind));
    let node = match struck {
        Some(faults::FaultKind::ListShort) => return None,
        Some(faults::FaultKind::ListNull) => JsonValue::Null,
        Some(faults::FaultKind::ListUnknownStatus) => {
            Listing { status: TradeStatus::Other, ..listing.clone() }.json(Generation::B)
        }
        _ => listing.json(Generation::B),
    };
    Some((node, cursor_of(listing.number)))
}

fn cursor_of(number: u64) -> String {
    base64(format!("cursor:{number}").as_bytes())
}

fn number_of_cursor(cursor: &str) -> Option<u64> {
    super::listing::number_of("cursor", cursor)
}

fn page_json(edges: Vec<(JsonValue, String)>, has_next: bool) -> JsonValue {
    let end = edges.last().map_or(JsonValue::Null, |(_, cursor)| JsonValue::text(&**cursor));
    let edge = |(node, cursor): (JsonValue, String)| {
        JsonValue::Object("TradeEdge", vec![("node", node), ("cursor", JsonValue::Text(cursor))])
    };
    let info = vec![("hasNextPage", JsonValue::Bool(has_next)), ("endCursor", end)];
    let fields = vec![
        ("edges", JsonValue::List(edges.into_iter().map(edge).collect())),
        ("pageInfo", JsonValue::Object("PageInfo", info)),
    ];
    JsonValue::Object("TradeConnection", fields)
}

fn joined_json(trades: Vec<JsonValue>) -> JsonValue {
    JsonValue::Object("JoinTradesPayload", vec![("trades", JsonValue::List(trades))])
}

/// The account's wallet, as queries and events show it.
pub fn wallet_json(balance: Amount) -> JsonValue {
    let fields = vec![
        ("id", JsonValue::text(global_id("Wallet", 1))),
        ("name", JsonValue::text("MAIN")),
        ("amount", JsonValue::coins(balance)),
    ];
    JsonValue::Object("Wallet", fields)
}

fn user_json(balance: Amount, daily_left: Option<Amount>, who: (bool, &str)) -> JsonValue {
    let (suspected, id) = who;
    let fields = vec![
        ("id", JsonValue::text(id)),
        ("name", JsonValue::text("practice")),
        ("displayName", JsonValue::text("practice")),
        ("suspectedTrader", JsonValue::Bool(suspected)),
        ("dailyWithdrawLimit", daily_left.map_or(JsonValue::Null, JsonValue::coins)),
        ("wallets", JsonValue::List(vec![wallet_json(balance)])),
    ];
    JsonValue::Object("User", fields)
}

/// The body of an answer that is nothing but an error.
pub fn error_body(message: &str, code: &str) -> String {
    format!(
        r#"{{"errors":[{{"message":{},"extensions":{{"code":{}}}}}]}}"#,
        quoted(message),
        quoted(code)
    )
}

/// The body of an answer that refuses what was asked.
fn refused_body(refusal: SaleRejection, key: &str) -> String {
    let code = if refusal == SaleRejection::Unauthenticated {
        "UNAUTHENTICATED"
    } else {
        "BAD_USER_INPUT"
    };
    format!(
        r#"{{"errors":[{{"message":{},"path":[{}],"extensions":{{"code":"{code}"}}}}],"data":null}}"#,
        quoted(refusal.message()),
        quoted(key)
    )
}

#[cfg(test)]
mod tests;
