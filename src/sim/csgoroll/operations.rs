//! GraphQL operations of the simulator: parses request bodies and builds response bodies. Pure.
//!
//! The operations are those that the marketplace is known to have: `joinTrades`, `currentUser` and
//! `trades`. A query is validated before it is executed, so an order whose query has an unknown
//! field buys nothing. As in GraphQL, a response contains exactly the requested fields in the
//! requested order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apollo_parser::{
    Parser, SyntaxKind,
    cst::{self, CstNode as _},
};
use serde_json::{Map, Value, json};

use super::{
    global_id,
    listing::{Listing, complete_listing},
    market::{MarketEvent, MarketState, SaleRejection},
    number_of, wallet_json,
};
use crate::{
    config::Generation,
    domain::{money::Amount, trade::TradeStatus},
    sim::{
        faults::{FaultKind, STALE_MAX},
        model::MarketModel as _,
        random::{Rng, RngExt as _},
    },
};

/// Maximum page size of `trades`. Source: client code of 2025.
const PAGE_MAX: u64 = 250;
/// Page size of a query without `first`.
const PAGE_DEFAULT: u64 = 50;
/// Purchases per thousand on which a faulty page is wrong.
const FALSE_PERMILLE: u32 = 500;
/// Maximum nesting of selections and fragments.
const DEPTH_MAX: usize = 24;
/// Maximum number of tokens of a query.
const TOKENS_MAX: usize = 10_000;
/// Maximum number of fields of a query after the expansion of its fragments.
const FIELDS_MAX: usize = 2_000;

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
    let text = body.get("query").and_then(Value::as_str);
    let text = text.ok_or_else(|| bad("POST body missing a query"))?;
    let variables = body.get("variables").unwrap_or(&Value::Null);
    let (kind, field) = parse_query(text, variables).map_err(|error| bad(&error.to_string()))?;
    let call = match (kind, &*field.name) {
        (OperationKind::Mutation, "joinTrades") => parse_join(&field),
        (OperationKind::Query, "currentUser") => GraphqlCall::CurrentUser,
        (OperationKind::Query, "trades") => {
            GraphqlCall::Trades(parse_listing_query(&field).map_err(|error| bad(&error))?)
        }
        (_, name) => return Err(bad(&format!("Cannot query field \"{name}\" on type \"Query\"."))),
    };
    let sample = match &call {
        GraphqlCall::Join { .. } => joined_json(&[complete_listing().json(Generation::B)]),
        GraphqlCall::CurrentUser => current_user_json(Amount::ZERO, true, "x"),
        GraphqlCall::Trades(_) => {
            page_json(&[edge_json(complete_listing().json(Generation::B), 1)], false)
        }
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
        Value::Null => PAGE_DEFAULT,
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
    pub fault: Option<(FaultKind, Rng)>,
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
    let data = match &request.call {
        GraphqlCall::CurrentUser if signed_in => {
            let balance = match fault {
                Some((FaultKind::BalanceStale, mut rng)) => {
                    market.balance_before(now, rng.duration((Duration::ZERO, STALE_MAX)))
                }
                _ => market.balance(),
            };
            let (is_flagged, id) = (market.suspected_trader(), market.user_id());
            Ok(current_user_json(balance, is_flagged, id))
        }
        GraphqlCall::CurrentUser => Ok(Value::Null),
        GraphqlCall::Trades(query) => trades(market, now, query, signed_in, fault),
        GraphqlCall::Join { .. } => execute_join(market, now, request, signed_in, events)
            .map(|listing| joined_json(&[listing.json(Generation::B)])),
    };
    match data {
        Ok(data) => request.response(&data),
        Err(rejection) => request.rejected_response(rejection),
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
    query: &ListingQuery,
    signed_in: bool,
    mut fault: Option<(FaultKind, Rng)>,
) -> Result<Value, SaleRejection> {
    let of_status =
        |listing: &Listing| query.statuses.iter().any(|status| status == listing.status_name());
    let fits = |listing: &Listing| query.statuses.is_empty() || of_status(listing);
    let mut found: Vec<Listing> = match (&query.user_id, &mut fault) {
        (None, _) => market.open().filter(|listing| fits(listing)).cloned().collect(),
        (Some(_), _) if !signed_in => return Err(SaleRejection::Unauthenticated),
        (Some(id), _) if id != market.user_id() => Vec::new(),
        (Some(_), Some((FaultKind::ListStale, rng))) => {
            market.bought_before(now, rng.duration((Duration::ZERO, STALE_MAX)))
        }
        (Some(_), _) => market.bought().cloned().collect(),
    };
    found.retain(fits);
    if query.by_id {
        found.sort_by_key(|listing| std::cmp::Reverse(listing.number));
    } else {
        found.sort_by_key(|listing| std::cmp::Reverse((listing.created_at, listing.number)));
    }
    // The cursor is the number of the last listing of the previous page, which may be closed by
    // now.
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
    let is_cut_short = matches!(fault, Some((FaultKind::ListShort, _)));
    Ok(page_json(&edges, first < rest.len() && !is_cut_short))
}

/// Returns a listing with its cursor as a page contains it, or `None` if it is left out. A fault of
/// the page affects each of its purchases with a probability of [`FALSE_PERMILLE`].
fn edge(listing: &Listing, fault: Option<&mut (FaultKind, Rng)>) -> Option<Value> {
    let fault = fault.and_then(|(kind, rng)| rng.chance_permille(FALSE_PERMILLE).then_some(*kind));
    let node = match fault {
        Some(FaultKind::ListShort) => return None,
        Some(FaultKind::ListNull) => Value::Null,
        Some(FaultKind::ListUnknownStatus) => {
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

fn current_user_json(balance: Amount, is_flagged: bool, id: &str) -> Value {
    json!({
        "__typename": "User",
        "id": id,
        "name": "practice",
        "suspectedTrader": is_flagged,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    Query,
    Mutation,
    Subscription,
}

/// A field of a query with expanded fragments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryField {
    /// Name in the response: the alias, if there is one.
    pub key: String,
    /// Name in the schema.
    pub name: String,
    args: Map<String, Value>,
    pub selection: Vec<QueryField>,
}

/// Cause of a failed parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error: {0}")]
pub struct QueryError(String);

/// A selection that does not fit the tree. The texts are those of GraphQL servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("Cannot query field \"{field}\" on type \"{of}\".")]
    Field { field: String, of: String },
    #[error("Field \"{0}\" of an object type must have a selection of subfields.")]
    Bare(String),
    #[error("Field \"{0}\" must not have a selection since it has no subfields.")]
    Leaf(String),
}

/// Parses a query of one operation with one top-level field. Variables are replaced by their
/// values.
///
/// # Errors
///
/// Returns a [`QueryError`] if the text is not such a query or exceeds a limit.
pub fn parse_query(
    text: &str,
    variables: &Value,
) -> Result<(OperationKind, QueryField), QueryError> {
    let tree = Parser::new(text).recursion_limit(DEPTH_MAX).token_limit(TOKENS_MAX).parse();
    if let Some(error) = tree.errors().next() {
        return Err(QueryError(error.message().to_owned()));
    }
    let document = tree.document();
    if document.syntax().descendants().any(|node| node.kind() == SyntaxKind::DIRECTIVE) {
        return Err(error("directives are not supported."));
    }
    let mut expansion = Expansion { fragments: BTreeMap::new(), variables, fields: FIELDS_MAX };
    let mut operations = Vec::new();
    for definition in document.definitions() {
        match definition {
            cst::Definition::OperationDefinition(operation) => operations.push(operation),
            cst::Definition::FragmentDefinition(fragment) => {
                let name = text_of(fragment.fragment_name().and_then(|name| name.name()));
                expansion.fragments.insert(name, fragment.selection_set());
            }
            _ => return Err(error("expected an operation.")),
        }
    }
    let [operation] = &operations[..] else { return Err(error("expected one operation.")) };
    let kind = match operation.operation_type() {
        Some(of) if of.mutation_token().is_some() => OperationKind::Mutation,
        Some(of) if of.subscription_token().is_some() => OperationKind::Subscription,
        _ => OperationKind::Query,
    };
    let mut fields = expansion.fields(operation.selection_set(), DEPTH_MAX)?;
    match (fields.pop(), fields.is_empty()) {
        (Some(field), true) => Ok((kind, field)),
        _ => Err(error("expected one top-level field.")),
    }
}

fn error(message: &str) -> QueryError {
    QueryError(message.to_owned())
}

fn text_of(name: Option<cst::Name>) -> String {
    name.map(|name| name.text().to_string()).unwrap_or_default()
}

/// Replaces fragments by their fields, and variables by their values.
struct Expansion<'a> {
    fragments: BTreeMap<String, Option<cst::SelectionSet>>,
    variables: &'a Value,
    /// Number of further fields that the query may have.
    fields: usize,
}

impl Expansion<'_> {
    fn fields(
        &mut self,
        set: Option<cst::SelectionSet>,
        depth: usize,
    ) -> Result<Vec<QueryField>, QueryError> {
        let depth = depth.checked_sub(1).ok_or_else(|| error("nested too deeply."))?;
        let mut fields = Vec::new();
        for selection in set.iter().flat_map(cst::SelectionSet::selections) {
            self.fields = self.fields.checked_sub(1).ok_or_else(|| error("too many fields."))?;
            match selection {
                cst::Selection::Field(field) => fields.push(self.field(&field, depth)?),
                cst::Selection::FragmentSpread(spread) => {
                    let name = text_of(spread.fragment_name().and_then(|name| name.name()));
                    let set = self.fragments.get(&name).cloned();
                    let set = set.ok_or_else(|| error("unknown fragment."))?;
                    fields.extend(self.fields(set, depth)?);
                }
                cst::Selection::InlineFragment(inline) => {
                    fields.extend(self.fields(inline.selection_set(), depth)?);
                }
            }
        }
        Ok(fields)
    }

    fn field(&mut self, field: &cst::Field, depth: usize) -> Result<QueryField, QueryError> {
        let name = text_of(field.name());
        let mut args = Map::new();
        for arg in field.arguments().iter().flat_map(cst::Arguments::arguments) {
            args.insert(text_of(arg.name()), self.value(arg.value())?);
        }
        Ok(QueryField {
            key: field.alias().map_or_else(|| name.clone(), |alias| text_of(alias.name())),
            name,
            args,
            selection: self.fields(field.selection_set(), depth)?,
        })
    }

    fn value(&self, value: Option<cst::Value>) -> Result<Value, QueryError> {
        Ok(match value {
            Some(cst::Value::Variable(variable)) => {
                self.variables.get(text_of(variable.name())).cloned().unwrap_or_default()
            }
            Some(cst::Value::EnumValue(value)) => Value::String(text_of(value.name())),
            Some(cst::Value::ListValue(list)) => {
                let values = list.values().map(|value| self.value(Some(value)));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            Some(cst::Value::ObjectValue(object)) => {
                let field = |field: cst::ObjectField| {
                    Ok((text_of(field.name()), self.value(field.value())?))
                };
                Value::Object(object.object_fields().map(field).collect::<Result<_, _>>()?)
            }
            // Other values are written as in JSON, block strings excepted.
            Some(value) => serde_json::from_str(&value.source_string())
                .map_err(|_not_json| error("expected a value."))?,
            None => return Err(error("expected a value.")),
        })
    }
}

impl QueryField {
    /// Returns the value of an argument, or null if it is missing.
    pub fn arg(&self, name: &str) -> &Value {
        self.args.get(name).unwrap_or(&Value::Null)
    }

    /// Appends the selected fields of a value as JSON. An object names its type in `__typename`.
    ///
    /// # Errors
    ///
    /// Returns a [`SelectError`] if the selection does not fit the value.
    pub fn select(&self, value: &Value, out: &mut String) -> Result<(), SelectError> {
        let is_bare = self.selection.is_empty();
        match value {
            Value::Object(_) if is_bare => return Err(SelectError::Bare(self.name.clone())),
            Value::Object(fields) => {
                let mut separator = '{';
                for field in &self.selection {
                    out.push(separator);
                    separator = ',';
                    out.push('"');
                    out.push_str(&field.key);
                    out.push_str("\":");
                    let value = fields.get(&field.name).ok_or_else(|| {
                        let of = fields.get("__typename").and_then(Value::as_str);
                        let of = of.unwrap_or_default().to_owned();
                        SelectError::Field { field: field.name.clone(), of }
                    })?;
                    field.select(value, out)?;
                }
                out.push('}');
            }
            Value::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.select(value, out)?;
                }
                out.push(']');
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) if !is_bare => {
                return Err(SelectError::Leaf(self.name.clone()));
            }
            leaf => out.push_str(&leaf.to_string()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::time::UnixMs,
        sim::{
            catalogue::ListedItem,
            random::Rng,
            settings::{Rate, SimSettings},
        },
    };

    const JOIN: &str = "mutation JoinTrades($input: JoinTradesInput!) { joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }";
    const USER: &str =
        "query CurrentUser { currentUser { id name suspectedTrader wallets { id name amount } } }";
    const LIST: &str = "query TradeList($first: PaginationAmount, $after: String, $orderBy: [TradeOrderBy], $status: TradeStatus, $userId: ID, $statuses: [TradeStatus!]) { trades(first: $first, after: $after, orderBy: $orderBy, status: $status, userId: $userId, statuses: $statuses) { edges { node { id status createdAt } } pageInfo { hasNextPage endCursor } } }";
    const USER_ID: &str = "VXNlcjo0MjQyNDI";

    struct TestMarket {
        market: MarketState,
        ids: Vec<String>,
    }

    fn market_with_purchases(items: usize) -> TestMarket {
        let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
        let mut market = MarketState::new(&settings, UnixMs(1_772_366_400_000));
        let price = Amount::from_cents(1_015);
        let item = |at: usize| ListedItem {
            // Created out of order, as on the real site.
            created_before: Duration::from_millis(if at.is_multiple_of(2) { 400 } else { 1 }),
            ..ListedItem::plain("AK-47 | Redline (Field-Tested)", Amount::from_cents(1_000), price)
        };
        let ids = market.list_items(
            Duration::from_secs(1),
            (0..items).map(item).collect(),
            &mut Vec::new(),
        );
        TestMarket { market, ids }
    }

    impl TestMarket {
        fn query(&mut self, query: &str, variables: Value, signed_in: bool) -> Value {
            self.query_at(2, (query, variables), signed_in, None)
        }

        /// Reads the account and its purchases under a fault. Returns the balance, the nodes of the
        /// page and `hasNextPage`.
        fn account(
            &mut self,
            second: u64,
            kind: FaultKind,
            seed: u64,
        ) -> (Value, Vec<Value>, bool) {
            let fault = || Some((kind, Rng::with_seed(seed)));
            let user = self.query_at(second, (USER, Value::Null), true, fault());
            let own = json!({"first": 50, "userId": USER_ID, "orderBy": ["ID_DESC"]});
            let list = self.query_at(second, (LIST, own), true, fault());
            let page = &list["data"]["trades"];
            let edges = page["edges"].as_array().unwrap();
            let nodes = edges.iter().map(|edge| edge["node"].clone()).collect();
            let has_next = page["pageInfo"]["hasNextPage"] == true;
            (user["data"]["currentUser"]["wallets"][0]["amount"].clone(), nodes, has_next)
        }

        fn query_at(
            &mut self,
            second: u64,
            (query, variables): (&str, Value),
            signed_in: bool,
            fault: Option<(FaultKind, Rng)>,
        ) -> Value {
            let body = json!({"operationName": null, "query": query, "variables": variables});
            let text = match parse_request(body.to_string().as_bytes()) {
                Ok(request) => {
                    let now = Duration::from_secs(second);
                    let parsed = ParsedRequest { request: &request, signed_in, fault };
                    respond(&mut self.market, now, parsed, &mut Vec::new())
                }
                Err(rejected) => rejected.body,
            };
            serde_json::from_str(&text).unwrap()
        }

        fn join(&mut self, input: Value, signed_in: bool) -> Value {
            self.query(JOIN, json!({ "input": input }), signed_in)
        }
    }

    #[test]
    fn the_response_to_a_purchase_has_its_id_and_price() {
        let mut test = market_with_purchases(1);
        let response =
            test.join(json!({"tradeIds": [test.ids[0]], "hasCompliedToAntiRWT": true}), true);
        let trade = &response["data"]["joinTrades"]["trades"][0];
        assert_eq!(trade["id"], test.ids[0]);
        assert_eq!((&trade["status"], &trade["totalValue"]), (&json!("JOINED"), &json!(10.15)));
        assert_eq!(trade["updatedAt"], "2026-03-01T12:00:02.000Z");
    }

    #[test]
    fn a_rejected_order_has_the_marketplaces_message_and_buys_nothing() {
        let mut test = market_with_purchases(2);
        let (id, other) = (test.ids[0].clone(), test.ids[1].clone());
        let mut check = |input: Value, signed_in, expected: &str| {
            let response = test.join(input, signed_in);
            assert_eq!(response["errors"][0]["message"], expected);
            assert_eq!(response["data"], Value::Null);
        };
        check(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), false, "unauthenticated");
        check(json!({"tradeIds": [id]}), true, "You must agree to the terms of trading");
        check(
            json!({"tradeIds": [id, other], "hasCompliedToAntiRWT": true}),
            true,
            "Exactly one trade must be joined at a time",
        );
        check(json!({"tradeIds": ["x"], "hasCompliedToAntiRWT": true}), true, "Trade not found");
        assert_eq!(test.market.balance().cents(), 50_000);
    }

    #[test]
    fn an_order_with_an_unknown_field_buys_nothing() {
        let mut test = market_with_purchases(1);
        let query = JOIN.replace("totalValue", "priceCeiling");
        let input = json!({"input": {"tradeIds": [test.ids[0]], "hasCompliedToAntiRWT": true}});
        let response = test.query(&query, input, true);
        let message = "Cannot query field \"priceCeiling\" on type \"Trade\".";
        assert_eq!(response["errors"][0]["message"], message);
        assert_eq!(test.market.history().purchases().count(), 0);
    }

    #[test]
    fn the_account_is_readable_only_with_its_session() {
        let mut test = market_with_purchases(0);
        let response = test.query(USER, Value::Null, true);
        let user = &response["data"]["currentUser"];
        assert_eq!(user["id"], USER_ID);
        assert_eq!(user["suspectedTrader"], false);
        assert_eq!(user["wallets"][0]["name"], "MAIN");
        assert_eq!(user["wallets"][0]["amount"], 500);
        assert_eq!(test.query(USER, Value::Null, false), json!({"data": {"currentUser": null}}));
    }

    #[test]
    fn pages_contain_every_open_listing_once_newest_first() {
        for order in ["CREATED_AT_DESC", "ID_DESC"] {
            let mut test = market_with_purchases(25);
            let (mut seen, mut created, mut after) = (Vec::new(), Vec::new(), Value::Null);
            loop {
                let variables =
                    json!({"first": 10, "after": after, "orderBy": [order], "status": "LISTED"});
                let response = test.query(LIST, variables, false);
                let page = &response["data"]["trades"];
                for edge in page["edges"].as_array().unwrap() {
                    seen.push(edge["node"]["id"].as_str().unwrap().to_owned());
                    created.push(edge["node"]["createdAt"].as_str().unwrap().to_owned());
                }
                after = page["pageInfo"]["endCursor"].clone();
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
            }
            let newest_first = created.is_sorted_by(|newer, older| newer >= older);
            assert!(order == "ID_DESC" || newest_first, "{order}: {created:?}");
            seen.sort();
            test.ids.sort();
            assert_eq!(seen, test.ids, "{order}");
        }
    }

    #[test]
    fn a_page_above_the_size_limit_is_an_error() {
        let response = market_with_purchases(0).query(LIST, json!({"first": 251}), false);
        assert!(response["errors"][0]["message"].as_str().unwrap().contains("250"));
    }

    #[test]
    fn purchases_are_listed_by_status_and_only_with_the_session() {
        let mut test = market_with_purchases(3);
        let id = test.ids[1].clone();
        test.join(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), true);
        let own = |statuses: Value| json!({"first": 50, "userId": USER_ID, "statuses": statuses});
        let ids = |response: &Value| response["data"]["trades"]["edges"].as_array().map(Vec::len);
        assert_eq!(ids(&test.query(LIST, own(json!(["JOINED", "PROCESSING"])), true)), Some(1));
        assert_eq!(ids(&test.query(LIST, own(json!(["COMPLETED"])), true)), Some(0));
        let unauthenticated = test.query(LIST, own(json!(["JOINED"])), false);
        assert_eq!(unauthenticated["errors"][0]["message"], "unauthenticated");
        let open = test.query(LIST, json!({"status": "LISTED"}), true);
        assert_eq!(ids(&open), Some(2));
    }

    /// A market with ten purchases at 2 s.
    fn with_purchases() -> TestMarket {
        let mut test = market_with_purchases(10);
        for id in test.ids.clone() {
            test.join(json!({"tradeIds": [id], "hasCompliedToAntiRWT": true}), true);
        }
        test
    }

    #[test]
    fn a_stale_read_has_a_state_of_the_last_minute() {
        let mut test = with_purchases();
        let (mut balances, mut counts) = (Vec::new(), Vec::new());
        for seed in 0..60 {
            let (balance, _, _) = test.account(3, FaultKind::BalanceStale, seed);
            let (_, nodes, _) = test.account(3, FaultKind::ListStale, seed);
            balances.push(balance == 500);
            counts.push(nodes.len());
        }
        // Each read is from before the purchases or from after them.
        assert!(balances.contains(&true) && balances.contains(&false));
        assert!(counts.contains(&0) && counts.contains(&10));
        assert!(counts.iter().all(|count| [0, 10].contains(count)), "{counts:?}");
        for seed in 0..60 {
            let (_, nodes, _) = test.account(120, FaultKind::ListStale, seed);
            assert_eq!(nodes.len(), 10, "older than a minute");
        }
    }

    #[test]
    fn a_faulty_page_is_wrong_about_some_purchases_and_claims_to_be_the_last() {
        let mut test = with_purchases();
        let mut check = |kind, count: usize, is_false: fn(&Value) -> bool| {
            let (balance, nodes, has_next) = test.account(3, kind, 7);
            assert_eq!((balance, has_next), (json!(398.5), false), "{kind}");
            assert_eq!(nodes.len() == 10, count == 10, "{kind}: {nodes:?}");
            let affected = nodes.iter().filter(|node| is_false(node)).count();
            assert!((1..10).contains(&affected), "{kind}: {nodes:?}");
        };
        check(FaultKind::ListShort, 0, |node| node["status"] == "JOINED");
        check(FaultKind::ListNull, 10, Value::is_null);
        check(FaultKind::ListUnknownStatus, 10, |node| node["status"] == "OTHER");
    }

    fn names(fields: &[QueryField]) -> String {
        let each = fields.iter().map(|field| {
            let children = names(&field.selection);
            if children.is_empty() {
                field.name.clone()
            } else {
                format!("{}{{{children}}}", field.name)
            }
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_operation_with_fragments_is_parsed() {
        let (kind, field) = parse_query(
            "subscription OnCreateTrades($maxPrice: UnsignedFloat) {\n  createTrades(maxPrice: $maxPrice) { trades { ...T } } }
             fragment T on Trade { id tradeItems { marketName, itemVariant { value } } ... on Trade { status } }",
            &Value::Null,
        )
        .unwrap();
        assert_eq!(kind, OperationKind::Subscription);
        assert_eq!(
            names(&[field]),
            "createTrades{trades{id tradeItems{marketName itemVariant{value}} status}}"
        );
    }

    #[test]
    fn an_argument_is_a_literal_or_a_variable() {
        let variables = json!({"n": 5});
        let text = "query Q($n: Int) { trades(first: $n, orderBy: [ID_DESC], status: LISTED, x: -1.5, y: \"a\\\"b\", z: {a: $n, b: null}) { a } }";
        let (_, field) = parse_query(text, &variables).unwrap();
        let arg = |name| field.arg(name).clone();
        assert_eq!(
            [
                arg("first"),
                arg("orderBy"),
                arg("status"),
                arg("x"),
                arg("y"),
                arg("z"),
                arg("none")
            ],
            [
                json!(5),
                json!(["ID_DESC"]),
                json!("LISTED"),
                json!(-1.5),
                json!("a\"b"),
                json!({"a": 5, "b": null}),
                Value::Null
            ]
        );
    }

    #[test]
    fn an_invalid_query_is_an_error() {
        for text in [
            "",
            "{",
            "{}",
            "query",
            "{ a b }",
            "{ a } { b }",
            "query A { a } query B { b }",
            "type T { a: Int }",
            "{ a @include(if: true) }",
            "{ ...F }",
            "{ ...F } fragment F on T { ...F }",
            "nonsense { a }",
            "{ a(b: ) }",
            "{ \"a\" }",
            "query ($a: ",
            "{ a(b: \"",
            &"{ a".repeat(100),
            &format!("{{ a(b: {}1{}) }}", "[".repeat(9_000), "]".repeat(9_000)),
            &format!("{{ {}}}", "a ".repeat(20_000)),
        ] {
            assert!(parse_query(text, &Value::Null).is_err(), "{text:?}");
        }
    }

    /// Nested fragments must not turn a small query into a large response.
    #[test]
    fn the_expansion_of_fragments_is_bounded() {
        let mut text = String::from("{ ...F0 }");
        for level in 0..20 {
            text.push_str(&format!(" fragment F{level} on T {{ ...F{0} ...F{0} }}", level + 1));
        }
        text.push_str(" fragment F20 on T { a }");
        assert!(parse_query(&text, &Value::Null).is_err());
    }

    #[track_caller]
    fn check(query: &str, expected: Result<&str, &str>) {
        let (_, field) = parse_query(query, &Value::Null).unwrap();
        let tree = json!({
            "__typename": "Trade",
            "id": "x",
            "items": [{"__typename": "Item", "name": "a \"b\"\n", "n": null}],
            "open": true,
            "none": [],
        });
        let mut out = String::new();
        let result = field.select(&tree, &mut out);
        let shown = result.map(|()| out).map_err(|error| error.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "query: {query}");
    }

    #[test]
    fn a_response_has_the_selected_fields_in_the_selected_order() {
        check("{ a { open id none } }", Ok(r#"{"open":true,"id":"x","none":[]}"#));
        check(
            "{ a { items { __typename called: name } } }",
            Ok(r#"{"items":[{"__typename":"Item","called":"a \"b\"\n"}]}"#),
        );
        check("{ a { items { n } } }", Ok(r#"{"items":[{"n":null}]}"#));
    }

    #[test]
    fn a_selection_that_does_not_fit_is_an_error() {
        check("{ a { price } }", Err("Cannot query field \"price\" on type \"Trade\"."));
        let bare = "Field \"items\" of an object type must have a selection of subfields.";
        check("{ a { items } }", Err(bare));
        let leaf = "Field \"id\" must not have a selection since it has no subfields.";
        check("{ a { id { x } } }", Err(leaf));
        check("{ a }", Err("Field \"a\" of an object type must have a selection of subfields."));
    }

    proptest! {
        #[test]
        fn parsing_a_request_never_panics(body in prop::collection::vec(any::<u8>(), 0..80), query in "\\PC{0,60}") {
            let framed = json!({ "query": query }).to_string();
            for bytes in [&body[..], framed.as_bytes()] {
                if let Err(rejected) = parse_request(bytes) {
                    prop_assert!(serde_json::from_str::<Value>(&rejected.body).is_ok());
                }
            }
        }

        #[test]
        fn parsing_a_query_never_panics(text in "[{}()$:.a\" \\[\\]1-]{0,60}|\\PC{0,60}") {
            if let Ok((_, field)) = parse_query(&text, &Value::Null) {
                prop_assert!(!field.name.is_empty());
            }
        }
    }
}
