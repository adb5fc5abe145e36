//! Orders and account of LIS-SKINS over HTTP.

use std::time::Duration;

use super::{DECIMALS, LisSkins, account, order_response};
use crate::{
    config::TradeUrl,
    domain::account::{OwnPurchase, Page, User},
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::trade::{KeyedBy, Trade},
    markets::order_template::{OrderFields, OrderTemplate, Part, PriceFormat, Slot},
    markets::{
        AccountQuery, AccountQueryError, Attribution, Capabilities, EnvironmentNames, MarketApi,
        OrderReference, OwnOrderIdSupport, ReadError, ReadRate,
    },
    net::http_message::{Auth, HttpRequest, HttpResponse},
};

/// Number of listings per page, the most that the market sends.
pub(super) const LISTINGS_PER_PAGE: &str = "200";

/// Id of an account whose id is not configured. The market's responses do not state the id.
const UNKNOWN_ACCOUNT: &str = "unknown";

/// Longest time until the market shows an executed order. Its documentation states none; a public
/// client waits this long.
const VISIBLE_WITHIN: Duration = Duration::from_secs(600);

/// Time by which the search is behind: minutes, according to the market's documentation, which
/// states no number.
const SEARCH_LAG: Duration = Duration::from_secs(300);

/// Requests per minute that the market documents, for all endpoints but that of orders, which has
/// 500. Orders are limited by the settings, far below it.
const REQUESTS_PER_MINUTE: u32 = 200;

/// Part of the limit that is left to `sniper doctor` and the measurements of addresses.
const REQUEST_MARGIN: u32 = 20;

/// Part of the limit that reads leave to tokens of the feed, keep-warm requests and confirmations.
const REQUEST_RESERVE: u32 = 30;

/// Reads per minute.
const READS_PER_MINUTE: u32 = REQUESTS_PER_MINUTE - REQUEST_MARGIN - REQUEST_RESERVE;

/// Reads without a wait: the balance, and all pages of the purchases of a week.
const READ_BURST: u32 = 30;

impl LisSkins {
    fn account_id(&self) -> &str {
        self.account_id.as_deref().unwrap_or(UNKNOWN_ACCOUNT)
    }
}

impl MarketApi for LisSkins {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "lis-skins",
        decimals: DECIMALS,
        has_markup: false,
        has_float: true,
        has_rarity: false,
        keyed_by: KeyedBy::IdAndPrice,
        own_order_ids: Some(OwnOrderIdSupport {
            visible_within: VISIBLE_WITHIN,
            look_ups_min: 1,
            // Bought orders are in the list of purchases.
            look_ups_per_request: 1,
        }),
        has_price_limit: true,
        has_purchases: true,
        has_open_listings: true,
        auth: Auth::Bearer,
        environment: EnvironmentNames {
            feed: "LIS_SKINS_WS_URL",
            http: "LIS_SKINS_HTTP_URL",
            credential: "LIS_SKINS_KEY",
            cookie: None,
        },
        reads: ReadRate::per_minute(READS_PER_MINUTE, READ_BURST, REQUEST_RESERVE),
        listings_lag: Some(SEARCH_LAG),
        // Its clients wait 20 to 35 s: a purchase can be slow.
        order_timeout: Duration::from_secs(35),
    };

    fn order_template(&self) -> OrderTemplate {
        // Without a recipient the market rejects the order. Only a dry run has none.
        let trade_url = self.trade_url.as_ref();
        let partner = trade_url.map_or("", TradeUrl::partner);
        let token = trade_url.map_or("", |url| url.token().reveal());
        let recipient = format!(r#"],"partner":"{partner}","token":"{token}","max_price":"#);
        let body = vec![
            Part::Text(r#"{"ids":["#.into()),
            Part::Slot(Slot::Id),
            Part::Text(recipient.into()),
            Part::Slot(Slot::PriceLimit(PriceFormat::Decimal2)),
            Part::Text(r#","custom_id":""#.into()),
            Part::Slot(Slot::OwnId),
            Part::Text(r#"","skip_unavailable":false}"#.into()),
        ];
        self.with_headers(OrderTemplate::post_json(self.path("/market/buy"), body))
    }

    fn order_outcome(
        &self,
        order: &OrderFields,
        response: &HttpResponse,
    ) -> (Outcome, Attribution) {
        order_response::order_outcome(order, response)
    }

    fn error_message(&self, response: &HttpResponse) -> Option<String> {
        order_response::error_message(response)
    }

    fn account_request(&self, query: &AccountQuery<'_>) -> Result<HttpRequest, AccountQueryError> {
        Ok(match query {
            AccountQuery::User => self.get("/user/balance"),
            AccountQuery::Purchases { after, .. } => {
                self.get("/market/history").with_query("page", after.unwrap_or("1"))
            }
            AccountQuery::OpenListings { after } => {
                let newest = self.search("newest");
                match after {
                    Some(cursor) => newest.with_query("cursor", cursor),
                    None => newest,
                }
            }
            AccountQuery::CheapestListings { names, max_price } => {
                // Prices have two decimals.
                let max_price = Amount::from_cents(max_price.cents()).to_string();
                let cheapest = self.search("lowest_price").with_query("price_to", &max_price);
                names.iter().fold(cheapest, |search, name| search.with_query("names[]", name))
            }
            AccountQuery::Orders { orders } => {
                let info = self.get("/market/info");
                orders
                    .iter()
                    .fold(info, |all, order| all.with_query("custom_ids[]", order.own_id.as_str()))
            }
        })
    }

    fn read_user(&self, response: &HttpResponse) -> Result<User, ReadError> {
        account::read_balance(response.text()?, self.account_id())
    }

    fn read_purchases(&self, response: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError> {
        account::read_purchases(response.text()?)
    }

    fn read_listings<'a>(&self, response: &'a HttpResponse) -> Result<Page<Trade<'a>>, ReadError> {
        account::read_listings(response.text()?)
    }

    fn read_order(
        &self,
        order: OrderReference<'_>,
        response: &HttpResponse,
    ) -> Result<Option<OwnPurchase>, ReadError> {
        account::read_order(response.text()?, order.own_id)
    }

    fn keep_warm_request(&self) -> HttpRequest {
        self.get("/user/balance")
    }

    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool {
        response.head.status == 200
            && response.page().is_none()
            && response.text().is_ok_and(account::is_balance)
    }
}
