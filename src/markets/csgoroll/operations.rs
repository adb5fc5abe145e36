//! What is said to the site: GraphQL operations as text, made once and sent many times.
//!
//! Full query texts are sent, because hashes of persisted queries rot (source: public clients).
//! Only fields that decide something are asked for, which keeps frames short.

use serde_json::{Value, json};

use crate::{
    config::Generation,
    domain::money::{Amount, Percent},
    domain::trade::TradeId,
    whitelist::Whitelist,
};

/// How many open listings one page holds at most (source: public clients).
pub const PAGE_LISTINGS_MAX: u32 = 250;

/// The fields of a listing that decide, with what only one generation has.
macro_rules! listing_fields {
    ($more:literal) => {
        concat!(
            "{ id status markupPercent totalValue canJoinAfter suspectedTraderCanJoinAfter ",
            "createdAt expiresAt avgPaintWear depositor { id } ",
            "tradeItems { marketName value itemVariant { value } } ",
            $more,
            "}"
        )
    };
}

/// One GraphQL operation.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphqlOperation {
    /// Its name, which stands in the query too.
    pub name: &'static str,
    /// The whole query.
    pub query: String,
    /// Its variables, an object.
    pub variables: Value,
    /// Whether the feed is worth nothing without it. An error on another one is said once and
    /// then left alone.
    pub is_essential: bool,
    /// Whether it tells about the account, and not about the market.
    pub is_private: bool,
}

impl GraphqlOperation {
    fn new(name: &'static str, query: impl Into<String>, variables: Value) -> Self {
        Self { name, query: query.into(), variables, is_essential: true, is_private: false }
    }

    /// The operation as the body of an HTTP request or the payload of a `subscribe` message.
    pub fn to_json(&self) -> String {
        let Self { name, query, variables, .. } = self;
        json!({ "operationName": name, "query": query, "variables": variables }).to_string()
    }
}

/// The subscriptions of a feed: the listings first, then what is good to have.
pub fn subscriptions(generation: Generation) -> Vec<GraphqlOperation> {
    let listings = match generation {
        Generation::A => GraphqlOperation::new(
            "OnCreateTrade",
            concat!(
                "subscription OnCreateTrade($userId: ID) { createTrade(userId: $userId) { trade ",
                listing_fields!(""),
                " } }"
            ),
            json!({}),
        ),
        Generation::B => GraphqlOperation::new(
            "OnCreateTrades",
            concat!(
                "subscription OnCreateTrades { createTrades { trades ",
                listing_fields!("canJoin avgPaintWearRange { min max } "),
                " } }"
            ),
            json!({}),
        ),
    };
    let updates = GraphqlOperation::new(
        "OnUpdateTrade",
        concat!(
            "subscription OnUpdateTrade($status: TradeStatus, $userId: ID) ",
            "{ updateTrade(status: $status, userId: $userId) { trade ",
            listing_fields!(""),
            " } }"
        ),
        json!({}),
    );
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

/// What the site can be asked to leave out, for generation B (source: client code).
///
/// Only bounds whose meaning cannot be mistaken are used. The site knows others, of a name and of
/// a float, of which it is not known what they do to a listing that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionFilters {
    /// Nothing cheaper.
    pub min_price: Amount,
    /// Nothing dearer.
    pub max_price: Amount,
    /// Nothing with more added to its base price.
    pub max_markup: Percent,
}

impl SubscriptionFilters {
    /// The narrowest bounds that leave out nothing that any entry wants; `None` for a whitelist
    /// that wants nothing.
    pub fn of(whitelist: &Whitelist) -> Option<Self> {
        let entries = whitelist.entries();
        Some(Self {
            min_price: entries.iter().map(|entry| entry.min_price).min()?,
            max_price: entries.iter().map(|entry| entry.max_price).max()?,
            max_markup: entries.iter().map(|entry| entry.max_markup).max()?,
        })
    }
}

/// The subscription to the listings of generation B within bounds.
pub fn filtered_listings(filters: SubscriptionFilters) -> GraphqlOperation {
    let query = concat!(
        "subscription OnCreateTrades($maxMarkupPercent: Float, $maxPrice: UnsignedFloat, ",
        "$minPrice: UnsignedFloat) { createTrades(maxMarkupPercent: $maxMarkupPercent, ",
        "maxPrice: $maxPrice, minPrice: $minPrice) { trades ",
        listing_fields!("canJoin avgPaintWearRange { min max } "),
        " } }"
    );
    let variables = json!({
        "maxMarkupPercent": decimal(&filters.max_markup.to_string()),
        "maxPrice": decimal(&filters.max_price.to_string()),
        "minPrice": decimal(&filters.min_price.to_string()),
    });
    GraphqlOperation::new("OnCreateTrades", query, variables)
}

/// A decimal text as a JSON number.
fn decimal(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// The mutation that buys, cut where the listing's id belongs.
///
/// An id holds nothing that a JSON string would have to escape (see [`TradeId::new`]), so the body
/// is `before + id + after`. `recaptcha` and `visualRecaptcha` exist as inputs; neither is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderTemplate {
    /// The body up to the id.
    pub before_id: &'static str,
    /// The body from the id on.
    pub after_id: &'static str,
}

/// The body of a buy, prepared but for the id.
pub const fn buy_template() -> OrderTemplate {
    OrderTemplate {
        before_id: concat!(
            r#"{"operationName":"JoinTrades","query":"mutation JoinTrades($input: JoinTradesInput!) "#,
            r#"{ joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }","#,
            r#""variables":{"input":{"tradeIds":[""#
        ),
        after_id: r#""],"hasCompliedToAntiRWT":true}}}"#,
    }
}

impl OrderTemplate {
    /// The whole body for one listing.
    pub fn body(&self, id: &TradeId) -> String {
        format!("{}{id}{}", self.before_id, self.after_id)
    }
}

/// Who we are and what we have. Harmless: it changes nothing.
pub fn current_user() -> GraphqlOperation {
    let query = "query CurrentUser { currentUser { id name suspectedTrader dailyWithdrawLimit \
                 wallets { id name amount } } }";
    GraphqlOperation::new("CurrentUser", query, json!({}))
}

/// One page of the open listings, newest first. `after` is the cursor of the page before.
pub fn open_listings(generation: Generation, first: u32, after: Option<&str>) -> GraphqlOperation {
    let fields = match generation {
        Generation::A => listing_fields!(""),
        Generation::B => listing_fields!("canJoin avgPaintWearRange { min max } "),
    };
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

/// The statuses that one's own purchase can have.
const PURCHASE_STATUSES: &str =
    "JOINED, PROCESSING, COMPLETED, COMPLETED_PROTECTED, COOLDOWN, CANCELLED, EXPIRED";

/// One page of one's own purchases, newest first.
///
/// The user and the statuses stand in the query itself, because the types of variables for them
/// are not known. `None` for a user id that could not stand in a string as it is.
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
    fn the_buy_is_json_that_names_exactly_this_listing() {
        let id = TradeId::new("VHJhZGU6OTAwMDAwMDE").unwrap();
        let body: Value = serde_json::from_str(&buy_template().body(&id)).unwrap();
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
                let open = operation.query.matches('{').count();
                assert_eq!(open, operation.query.matches('}').count());
            }
        }
    }

    #[test]
    fn filters_leave_out_nothing_that_any_entry_wants() {
        let bounds = |min, max, markup| WhitelistEntry {
            min_price: Amount::from_cents(min),
            max_price: Amount::from_cents(max),
            max_markup: Percent::from_hundredths(markup),
            ..entry()
        };
        let whitelist = Whitelist::new(vec![bounds(100, 1_250, 0), bounds(50, 900, 150)]);
        let filters = SubscriptionFilters::of(&whitelist).unwrap();
        assert_eq!(filters.min_price, Amount::from_cents(50));
        assert_eq!(filters.max_price, Amount::from_cents(1_250));
        assert_eq!(filters.max_markup, Percent::from_hundredths(150));
        assert_eq!(SubscriptionFilters::of(&Whitelist::default()), None);
        let operation = filtered_listings(filters);
        assert_eq!(
            operation.variables,
            json!({"maxMarkupPercent": 1.5, "maxPrice": 12.5, "minPrice": 0.5})
        );
        assert!(operation.is_essential);
    }

    #[test]
    fn a_page_asks_for_no_more_than_the_site_gives() {
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
