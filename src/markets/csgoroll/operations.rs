//! GraphQL operations that are sent to the market.
//!
//! They contain the full query text, because hashes of persisted queries become stale (source:
//! public clients). They request only the fields that the decision uses, which keeps frames short.

use serde_json::{Value, json};

use crate::{
    config::{Endpoints, Generation},
    domain::money::{Amount, Percent},
    domain::trade::TradeId,
    domain::whitelist_entry::WhitelistEntry,
    markets::order_template::{OrderTemplate, Part, Slot},
    net::http_message::{HttpRequest, JSON, RequestParts},
    protocol::Topic,
};

/// Maximum number of listings on a page (source: public clients).
pub const PAGE_LISTINGS_MAX: u32 = 250;

/// Returns the selection of the fields of a listing that are read.
fn selection_of(generation: Generation) -> String {
    let more = match generation {
        Generation::A => "",
        Generation::B => "canJoin avgPaintWearRange { min max } ",
    };
    format!(
        "{{ id status markupPercent totalValue canJoinAfter suspectedTraderCanJoinAfter createdAt \
         expiresAt avgPaintWear depositor {{ id }} tradeItems {{ marketName itemVariant {{ value \
         rarity }} }} {more}}}"
    )
}

/// GraphQL query, mutation or subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphqlOperation {
    /// Operation name, which the query contains, too.
    pub name: &'static str,
    pub query: String,
    /// JSON object of the variables.
    pub variables: Value,
    /// `true` for a subscription that the feed requires.
    pub is_essential: bool,
    /// `true` for a subscription to data of the account, which requires a credential.
    pub is_private: bool,
}

impl GraphqlOperation {
    fn new(name: &'static str, query: impl Into<String>, variables: Value) -> Self {
        Self { name, query: query.into(), variables, is_essential: true, is_private: false }
    }

    /// Serializes the operation as the body of an HTTP request or the payload of `subscribe`.
    pub fn to_json(&self) -> String {
        let Self { name, query, variables, .. } = self;
        json!({ "operationName": name, "query": query, "variables": variables }).to_string()
    }
}

impl Topic for GraphqlOperation {
    fn topic(&self) -> String {
        self.to_json()
    }
}

/// Returns the subscriptions of a feed: the listings first, then the optional ones.
pub fn subscriptions(generation: Generation) -> Vec<GraphqlOperation> {
    let fields = selection_of(generation);
    let (name, listings) = match generation {
        Generation::A => (
            "OnCreateTrade",
            format!(
                "subscription OnCreateTrade($userId: ID) {{ createTrade(userId: $userId) {{ trade \
                 {fields} }} }}"
            ),
        ),
        Generation::B => (
            "OnCreateTrades",
            format!("subscription OnCreateTrades {{ createTrades {{ trades {fields} }} }}"),
        ),
    };
    let listings = GraphqlOperation::new(name, listings, json!({}));
    let updates = format!(
        "subscription OnUpdateTrade($status: TradeStatus, $userId: ID) {{ updateTrade(status: \
         $status, userId: $userId) {{ trade {fields} }} }}"
    );
    let updates = GraphqlOperation::new("OnUpdateTrade", updates, json!({}));
    let wallet = GraphqlOperation::new(
        "OnUpdateWallet",
        "subscription OnUpdateWallet { updateWallet { wallet { id amount name } \
         walletChange { id type externalId valueChange } } }",
        json!({}),
    );
    let optional = |operation| GraphqlOperation { is_essential: false, ..operation };
    let wallet = GraphqlOperation { is_private: true, ..wallet };
    vec![listings, optional(updates), optional(wallet)]
}

/// Server-side filters of the listing subscription, for generation B (source: client code).
///
/// Only filters of unambiguous meaning are used. The market has others, for the name and the float,
/// whose effect on listings without these fields is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionFilters {
    pub min_price: Amount,
    pub max_price: Amount,
    pub max_markup: Percent,
}

impl SubscriptionFilters {
    /// Returns the narrowest filters that exclude no listing that an entry could match; `None` for
    /// an empty whitelist, and if an entry accepts any markup.
    pub fn of(entries: &[WhitelistEntry]) -> Option<Self> {
        let markups: Option<Vec<Percent>> = entries.iter().map(|entry| entry.max_markup).collect();
        Some(Self {
            min_price: entries.iter().map(|entry| entry.min_price).min()?,
            max_price: entries.iter().map(|entry| entry.max_price).max()?,
            max_markup: markups?.into_iter().max()?,
        })
    }
}

/// Returns the filtered subscription to listings of generation B.
pub fn filtered_listings(filters: SubscriptionFilters) -> GraphqlOperation {
    let query = format!(
        "subscription OnCreateTrades($maxMarkupPercent: Float, $maxPrice: UnsignedFloat, $minPrice: \
         UnsignedFloat) {{ createTrades(maxMarkupPercent: $maxMarkupPercent, maxPrice: $maxPrice, \
         minPrice: $minPrice) {{ trades {} }} }}",
        selection_of(Generation::B)
    );
    let variables = json!({
        "maxMarkupPercent": decimal(&filters.max_markup.to_string()),
        "maxPrice": decimal(&filters.max_price.to_string()),
        "minPrice": decimal(&filters.min_price.to_string()),
    });
    GraphqlOperation::new("OnCreateTrades", query, variables)
}

/// Converts decimal text to a JSON number.
fn decimal(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Body of the order mutation up to the listing's id. The inputs `recaptcha` and `visualRecaptcha`
/// exist and are not sent.
pub const ORDER_BEFORE_ID: &str = concat!(
    r#"{"operationName":"JoinTrades","query":"mutation JoinTrades($input: JoinTradesInput!) "#,
    r#"{ joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }","#,
    r#""variables":{"input":{"tradeIds":[""#
);
/// Body of the order mutation after the listing's id.
pub const ORDER_AFTER_ID: &str = r#""],"hasCompliedToAntiRWT":true}}}"#;

/// Returns the order request.
pub fn order_template(endpoints: &Endpoints) -> OrderTemplate {
    let body = vec![
        Part::Text(ORDER_BEFORE_ID.into()),
        Part::Slot(Slot::Id),
        Part::Text(ORDER_AFTER_ID.into()),
    ];
    with_headers(OrderTemplate::post_json(endpoints.http.path().to_owned(), body), endpoints)
}

/// Returns the request with this body.
pub fn request(endpoints: &Endpoints, body: impl Into<Vec<u8>>) -> HttpRequest {
    with_headers(HttpRequest::post_json(endpoints.http.path(), body), endpoints)
}

fn with_headers<R: RequestParts>(mut request: R, endpoints: &Endpoints) -> R {
    let Endpoints { origin, user_agent, .. } = endpoints;
    request.push_header("User-Agent", user_agent);
    request.push_header("Accept", JSON);
    request.push_header("Origin", origin);
    request.push_header("Referer", &format!("{origin}/"));
    request
}

/// Queries the user and the balance.
pub fn current_user() -> GraphqlOperation {
    let query = "query CurrentUser { currentUser { id name suspectedTrader wallets { id name \
                 amount } } }";
    GraphqlOperation::new("CurrentUser", query, json!({}))
}

/// Queries one page of open listings, newest first. `after`: the cursor of the previous page.
pub fn open_listings(generation: Generation, first: u32, after: Option<&str>) -> GraphqlOperation {
    let fields = selection_of(generation);
    let query = format!(
        "query TradeList($first: PaginationAmount, $after: String, $orderBy: [TradeOrderBy], \
         $status: TradeStatus) {{ trades(first: $first, after: $after, orderBy: $orderBy, \
         status: $status) {{ edges {{ node {fields} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    );
    let variables = json!({
        "first": first.min(PAGE_LISTINGS_MAX),
        "after": after,
        "orderBy": ["CREATED_AT_DESC"],
        "status": "LISTED",
    });
    GraphqlOperation::new("TradeList", query, variables)
}

/// Statuses of own purchases.
const PURCHASE_STATUSES: &str =
    "JOINED, PROCESSING, COMPLETED, COMPLETED_PROTECTED, COOLDOWN, CANCELLED, EXPIRED";

/// Queries one page of own purchases, newest first.
///
/// The query text contains the user and the statuses, because the types of variables for them are
/// unknown. Returns `None` for a user id that would need escaping.
pub fn own_purchases(user_id: &str, first: u32, after: Option<&str>) -> Option<GraphqlOperation> {
    let user_id = TradeId::new(user_id)?;
    let fields = "{ id status totalValue createdAt updatedAt joinedAt }";
    let query = format!(
        "query TradeList($first: PaginationAmount, $after: String, $orderBy: [TradeOrderBy]) \
         {{ trades(first: $first, after: $after, orderBy: $orderBy, userId: \"{user_id}\", \
         statuses: [{PURCHASE_STATUSES}]) {{ edges {{ node {fields} }} pageInfo {{ hasNextPage \
         endCursor }} }} }}"
    );
    let variables = json!({
        "first": first.min(PAGE_LISTINGS_MAX),
        "after": after,
        "orderBy": ["ID_DESC"],
    });
    Some(GraphqlOperation::new("TradeList", query, variables))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::{WhitelistEntry, tests::entry};

    #[test]
    fn the_order_body_is_json_with_exactly_this_listing() {
        let body = format!("{ORDER_BEFORE_ID}VHJhZGU6OTAwMDAwMDE{ORDER_AFTER_ID}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body.pointer("/variables/input").unwrap(),
            &json!({"tradeIds": ["VHJhZGU6OTAwMDAwMDE"], "hasCompliedToAntiRWT": true})
        );
        assert_eq!(body.pointer("/operationName").unwrap(), "JoinTrades");
        let query = body.pointer("/query").unwrap().as_str().unwrap();
        assert!(query.starts_with("mutation JoinTrades("));
    }

    #[test]
    fn the_listings_are_subscribed_to_first_and_only_they_are_essential() {
        for (generation, name) in
            [(Generation::A, "OnCreateTrade"), (Generation::B, "OnCreateTrades")]
        {
            let subscriptions = subscriptions(generation);
            let essential: Vec<_> =
                subscriptions.iter().map(|operation| operation.is_essential).collect();
            assert_eq!(essential, [true, false, false]);
            assert_eq!(subscriptions[0].name, name);
            for operation in subscriptions {
                assert!(operation.query.starts_with(&format!("subscription {}", operation.name)));
                let states_can_join = operation.query.contains(" canJoin ");
                let is_b = generation == Generation::B;
                assert_eq!(states_can_join, is_b && operation.name != "OnUpdateWallet");
                let open = operation.query.matches('{').count();
                assert_eq!(open, operation.query.matches('}').count());
            }
        }
    }

    #[test]
    fn filters_exclude_no_listing_that_an_entry_could_match() {
        let bounds = |min, max, markup| WhitelistEntry {
            min_price: Amount::from_cents(min),
            max_price: Amount::from_cents(max),
            max_markup: Some(Percent::from_hundredths(markup)),
            ..entry()
        };
        let entries = [bounds(100, 1_250, 0), bounds(50, 900, 150)];
        let filters = SubscriptionFilters::of(&entries).unwrap();
        assert_eq!(filters.min_price, Amount::from_cents(50));
        assert_eq!(filters.max_price, Amount::from_cents(1_250));
        assert_eq!(filters.max_markup, Percent::from_hundredths(150));
        assert_eq!(SubscriptionFilters::of(&[]), None);
        let operation = filtered_listings(filters);
        assert_eq!(
            operation.variables,
            json!({"maxMarkupPercent": 1.5, "maxPrice": 12.5, "minPrice": 0.5})
        );
        assert!(operation.is_essential);
    }

    #[test]
    fn the_page_size_is_capped_at_the_site_maximum() {
        let page = open_listings(Generation::B, 1_000, Some("cursor"));
        assert_eq!(page.variables.pointer("/first").unwrap(), 250);
        assert_eq!(page.variables.pointer("/after").unwrap(), "cursor");
        let first = open_listings(Generation::B, 10, None);
        assert!(first.variables.pointer("/after").unwrap().is_null());
    }

    #[test]
    fn a_user_id_cannot_break_out_of_the_query() {
        assert!(own_purchases("\") { evil }", 10, None).is_none());
        let query = own_purchases("VXNlcjox", 10, None).unwrap().query;
        assert!(query.contains("userId: \"VXNlcjox\""));
    }
}
