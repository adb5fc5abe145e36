//! GraphQL operations of the simulator: parses request bodies and builds response bodies. Pure.
//!
//! The operations are those that the marketplace is known to have: `joinTrades`, `currentUser` and
//! `trades`. A query is validated before it is executed, so an order whose query has an unknown
//! field buys nothing.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    faults::{self, STALE_MAX},
    listing::{Listing, complete_listing, global_id, number_of},
    market_state::{MarketEvent, MarketState, SaleRejection},
    query::{self, OperationKind, QueryField, number},
    random::{Rng, RngExt as _},
};
use crate::{config::Generation, domain::money::Amount, domain::trade::TradeStatus};

/// Maximum page size of `trades`. Source: client code of 2025.
pub const PAGE_MAX: u64 = 250;
/// Page size of a query without `first`.
const PAGE: u64 = 50;
/// Purchases per thousand on which a faulty page is wrong.
const FALSE_PERMILLE: u32 = 500;

/// A request that was validated by [`parse_request`].
#[derive(Clone, Debug)]
pub struct GraphqlRequest {
    pub call: GraphqlCall,
    field: QueryField,
}

/// The operation of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphqlCall {
    /// `joinTrades`, an order.
    Join {
        /// Requested ids; a correct order has exactly one.
        ids: Vec<String>,
        /// Value of `hasCompliedToAntiRWT`.
        complied: bool,
    },
    CurrentUser,
    /// `trades`: the open listings, or the purchases of a user.
    Trades(ListingQuery),
    /// `{ __typename }`, which clients send to keep a connection warm.
    Typename,
}

/// Arguments of `trades`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingQuery {
    first: u64,
    after: Option<u64>,
    by_id: bool,
    statuses: Vec<String>,
    user_id: Option<String>,
}

/// Response to an invalid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRejection {
    pub status: u16,
    pub body: String,
}

/// Parses and validates the body of a request.
///
/// # Errors
///
/// Returns a [`RequestRejection`] if the body is not a valid query of a known operation.
pub fn parse_request(body: &[u8]) -> Result<GraphqlRequest, RequestRejection> {
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
    let variables = body.get("variables").unwrap_or(&Value::Null);
    let (kind, field) = query::parse(text, variables).map_err(|error| bad(&error.to_string()))?;
    let call = match (kind, &*field.name) {
        (OperationKind::Mutation, "joinTrades") => parse_join(&field),
        (OperationKind::Query, "currentUser") => GraphqlCall::CurrentUser,
        (OperationKind::Query, "trades") => {
            GraphqlCall::Trades(parse_listing_query(&field).map_err(|error| bad(&error))?)
        }
        (_, "__typename") => GraphqlCall::Typename,
        (_, name) => return Err(bad(&format!("Cannot query field \"{name}\" on type \"Query\"."))),
    };
    let sample = match &call {
        GraphqlCall::Join { .. } => joined_json(&[complete_listing().json(Generation::B)]),
        GraphqlCall::CurrentUser => user_json(Amount::ZERO, None, (true, "x")),
        GraphqlCall::Trades(_) => {
            page_json(&[edge_json(complete_listing().json(Generation::B), 1)], false)
        }
        GraphqlCall::Typename => Value::Null,
    };
    match field.select(&sample, &mut String::new()) {
        Ok(()) => Ok(GraphqlRequest { call, field }),
        Err(error) => Err(bad(&error.to_string())),
    }
}

fn parse_join(field: &QueryField) -> GraphqlCall {
    let input = field.arg("input");
    let ids = input.get("tradeIds").and_then(Value::as_array);
    let ids = ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let complied = input.get("hasCompliedToAntiRWT").and_then(Value::as_bool) == Some(true);
    GraphqlCall::Join { ids, complied }
}

fn parse_listing_query(field: &QueryField) -> Result<ListingQuery, String> {
    let first = match field.arg("first") {
        Value::Null => PAGE,
        value => value.as_u64().filter(|first| *first <= PAGE_MAX).ok_or_else(|| {
            format!("PaginationAmount cannot represent a value above {PAGE_MAX}: {value}")
        })?,
    };
    let after = match field.arg("after") {
        Value::String(cursor) if !cursor.is_empty() => {
            Some(number_of("cursor", cursor).ok_or("Invalid cursor")?)
        }
        _ => None,
    };
    let strings = |name| match field.arg(name) {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let by_id = match strings("orderBy").first().map(String::as_str) {
        Some("ID_DESC") => true,
        None | Some("CREATED_AT_DESC") => false,
        Some(other) => return Err(format!("Value \"{other}\" does not exist in \"TradeOrderBy\"")),
    };
    let mut statuses = strings("status");
    statuses.extend(strings("statuses"));
    let user_id = field.arg("userId").as_str().map(str::to_owned);
    Ok(ListingQuery { first, after, by_id, statuses, user_id })
}

/// A valid request with its authentication and its fault.
#[derive(Clone, Debug)]
pub struct ParsedRequest<'a> {
    pub request: &'a GraphqlRequest,
    pub signed_in: bool,
    /// Fault of the response to a read, with the generator that chooses its values.
    pub fault: Option<(faults::FaultKind, Rng)>,
}

/// Executes a valid request and returns the body of the HTTP 200 response.
pub fn respond(
    market: &mut MarketState,
    now: Duration,
    parsed: ParsedRequest<'_>,
    events: &mut Vec<MarketEvent>,
) -> String {
    market.advance(now, events);
    let ParsedRequest { request, signed_in, fault } = parsed;
    let (data, rejection) = match &request.call {
        GraphqlCall::Typename => return r#"{"data":{"__typename":"Query"}}"#.to_owned(),
        GraphqlCall::CurrentUser if signed_in => {
            let who = (market.suspected_trader(), market.user_id());
            let balance = match fault {
                Some((faults::FaultKind::BalanceStale, mut rng)) => {
                    market.balance_before(now, rng.duration(Duration::ZERO, STALE_MAX))
                }
                _ => market.balance(),
            };
            (Some(user_json(balance, market.daily_remaining(), who)), None)
        }
        GraphqlCall::CurrentUser => (Some(Value::Null), None),
        GraphqlCall::Trades(query) => match trades(market, now, (query, signed_in), fault) {
            Ok(page) => (Some(page), None),
            Err(rejection) => (None, Some(rejection)),
        },
        GraphqlCall::Join { .. } => match execute_join(market, now, request, signed_in, events) {
            Ok(listing) => (Some(joined_json(&[listing.json(Generation::B)])), None),
            Err(rejection) => (None, Some(rejection)),
        },
    };
    match (data, rejection) {
        (Some(data), _) => request.response(&data),
        (None, rejection) => {
            rejected_body(rejection.unwrap_or(SaleRejection::NotFound), &request.field.key)
        }
    }
}

/// Executes the order of a `joinTrades` request.
///
/// # Errors
///
/// Returns a [`SaleRejection`] if nothing was bought.
pub fn execute_join(
    market: &mut MarketState,
    now: Duration,
    request: &GraphqlRequest,
    signed_in: bool,
    events: &mut Vec<MarketEvent>,
) -> Result<Arc<Listing>, SaleRejection> {
    match &request.call {
        GraphqlCall::Join { .. } if !signed_in => Err(SaleRejection::Unauthenticated),
        GraphqlCall::Join { complied: false, .. } => Err(SaleRejection::NotCompliant),
        GraphqlCall::Join { ids, .. } => match &ids[..] {
            [id] => market.join(now, id, events),
            _ => Err(SaleRejection::NotOne),
        },
        _ => Err(SaleRejection::NotFound),
    }
}

impl ListingQuery {
    /// Returns `true` if the query is for the purchases of this user.
    pub fn is_for_user(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
    }
}

impl GraphqlRequest {
    /// Returns the first requested id of an order, empty if it has none; `None` for a read.
    pub fn order_id(&self) -> Option<&str> {
        match &self.call {
            GraphqlCall::Join { ids, .. } => Some(ids.first().map_or("", String::as_str)),
            _ => None,
        }
    }

    /// Returns the response to an order that bought these listings, with the selected fields.
    pub fn join_response(&self, listings: &[&Listing]) -> String {
        let trades = listings.iter().map(|listing| listing.json(Generation::B));
        self.response(&joined_json(&trades.collect::<Vec<_>>()))
    }

    /// Returns the response to a rejected order.
    pub fn rejected_response(&self, rejection: SaleRejection) -> String {
        rejected_body(rejection, &self.field.key)
    }

    fn response(&self, data: &Value) -> String {
        let mut out = format!("{{\"data\":{{\"{}\":", self.field.key);
        // The selection was validated against a complete listing of the same shape.
        match self.field.select(data, &mut out) {
            Ok(()) => out + "}}",
            Err(error) => error_body(&error.to_string(), "INTERNAL_SERVER_ERROR"),
        }
    }
}

fn trades(
    market: &MarketState,
    now: Duration,
    (query, signed_in): (&ListingQuery, bool),
    mut fault: Option<(faults::FaultKind, Rng)>,
) -> Result<Value, SaleRejection> {
    let of_status =
        |listing: &Listing| query.statuses.iter().any(|status| status == listing.status.as_str());
    let fits = |listing: &Listing| query.statuses.is_empty() || of_status(listing);
    let mut found: Vec<Listing> = match (&query.user_id, &mut fault) {
        (None, _) => market.open().filter(|listing| fits(listing)).cloned().collect(),
        (Some(_), _) if !signed_in => return Err(SaleRejection::Unauthenticated),
        (Some(id), _) if id != market.user_id() => Vec::new(),
        (Some(_), Some((faults::FaultKind::ListStale, rng))) => {
            market.bought_before(now, rng.duration(Duration::ZERO, STALE_MAX))
        }
        (Some(_), _) => market.bought().cloned().collect(),
    };
    found.retain(fits);
    if query.by_id {
        found.sort_by_key(|listing| std::cmp::Reverse(listing.number));
    } else {
        found.sort_by_key(|listing| std::cmp::Reverse((listing.created_at, listing.number)));
    }
    // The cursor is the number of the last listing of the previous page, which may be closed by now.
    let start = match query.after {
        None => 0,
        Some(after) => match found.iter().position(|listing| listing.number == after) {
            Some(at) => at.saturating_add(1),
            None => found.iter().position(|listing| listing.number < after).unwrap_or(found.len()),
        },
    };
    let rest = found.get(start..).unwrap_or_default();
    let first = usize::try_from(query.first).unwrap_or(0);
    let mut edges = Vec::new();
    for listing in rest.iter().take(first) {
        edges.extend(edge(listing, fault.as_mut()));
    }
    let is_cut_short = matches!(fault, Some((faults::FaultKind::ListShort, _)));
    Ok(page_json(&edges, first < rest.len() && !is_cut_short))
}

/// Returns a listing with its cursor as a page contains it, or `None` if it is left out. A fault of
/// the page affects each of its purchases with a probability of [`FALSE_PERMILLE`].
fn edge(listing: &Listing, fault: Option<&mut (faults::FaultKind, Rng)>) -> Option<Value> {
    let fault = fault.and_then(|(kind, rng)| rng.chance_permille(FALSE_PERMILLE).then_some(*kind));
    let node = match fault {
        Some(faults::FaultKind::ListShort) => return None,
        Some(faults::FaultKind::ListNull) => Value::Null,
        Some(faults::FaultKind::ListUnknownStatus) => {
            Listing { status: TradeStatus::Other, ..listing.clone() }.json(Generation::B)
        }
        _ => listing.json(Generation::B),
    };
    Some(edge_json(node, listing.number))
}

fn edge_json(node: Value, number: u64) -> Value {
    json!({"__typename": "TradeEdge", "node": node, "cursor": global_id("cursor", number)})
}

fn page_json(edges: &[Value], has_next: bool) -> Value {
    let end = edges.last().and_then(|edge| edge.get("cursor"));
    let info = json!({"__typename": "PageInfo", "hasNextPage": has_next, "endCursor": end});
    json!({"__typename": "TradeConnection", "edges": edges, "pageInfo": info})
}

fn joined_json(trades: &[Value]) -> Value {
    json!({"__typename": "JoinTradesPayload", "trades": trades})
}

/// Returns the account's wallet, as queries and events contain it.
pub fn wallet_json(balance: Amount) -> Value {
    json!({
        "__typename": "Wallet",
        "id": global_id("Wallet", 1),
        "name": "MAIN",
        "amount": number(&balance.to_string()),
    })
}

fn user_json(balance: Amount, daily_remaining: Option<Amount>, who: (bool, &str)) -> Value {
    let (suspected, id) = who;
    json!({
        "__typename": "User",
        "id": id,
        "name": "practice",
        "displayName": "practice",
        "suspectedTrader": suspected,
        "dailyWithdrawLimit": daily_remaining.map(|left| number(&left.to_string())),
        "wallets": [wallet_json(balance)],
    })
}

/// Returns the body of an error response.
pub fn error_body(message: &str, code: &str) -> String {
    let (message, code) = (json!(message), json!(code));
    format!(r#"{{"errors":[{{"message":{message},"extensions":{{"code":{code}}}}}]}}"#)
}

/// Returns the body of a response that rejects an operation.
fn rejected_body(rejection: SaleRejection, key: &str) -> String {
    let message = json!(rejection.message());
    let code = if rejection == SaleRejection::Unauthenticated {
        "UNAUTHENTICATED"
    } else {
        "BAD_USER_INPUT"
    };
    format!(
        r#"{{"errors":[{{"message":{message},"path":["{key}"],"extensions":{{"code":"{code}"}}}}],"data":null}}"#
    )
}

#[cfg(test)]
mod tests;
