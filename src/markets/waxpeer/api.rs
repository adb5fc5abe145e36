//! Orders and account of Waxpeer over HTTP.
//!
//! The key is a parameter of every request, and an order is a `GET`, so no address is ever logged.

use std::time::Duration;

use super::{Waxpeer, account, order_response};
use crate::{
    domain::account::{OwnPurchase, Page, User},
    domain::money::Decimals,
    domain::outcome::Outcome,
    domain::trade::{KeyedBy, Trade},
    markets::order_template::{OrderFields, OrderTemplate, Part, PriceFormat, Slot},
    markets::{
        AccountQuery, AccountQueryError, Attribution, Capabilities, EnvironmentNames, MarketApi,
        OrderReference, OwnOrderIdSupport, ReadError,
    },
    net::http_message::{Auth, HttpRequest, HttpResponse, JSON, RequestParts, percent_encode},
};

/// Range of the purchases that are read, which the market requires: all of them.
const FIRST_DAY: &str = "01-01-2015";
const LAST_DAY: &str = "12-31-2099";

impl Waxpeer {
    /// Returns a path below the configured base path.
    fn path(&self, endpoint: &str) -> String {
        let base = self.endpoints.http.path();
        let base = base.split('?').next().unwrap_or_default().trim_end_matches('/');
        format!("{base}{endpoint}")
    }

    fn with_headers<R: RequestParts>(&self, mut request: R) -> R {
        request.push_header("Accept", JSON);
        request.push_header("User-Agent", &self.endpoints.user_agent);
        request
    }

    fn get(&self, endpoint: &str) -> HttpRequest {
        self.with_headers(HttpRequest::get(self.path(endpoint)))
    }

    /// Returns the parameters that name the recipient.
    fn recipient(&self) -> String {
        let mut encoded = "&partner=".to_owned();
        if let Some(trade_url) = &self.trade_url {
            percent_encode(trade_url.partner(), &mut encoded);
            encoded.push_str("&token=");
            percent_encode(trade_url.token().reveal(), &mut encoded);
        }
        encoded
    }
}

/// Returns the number of skipped purchases that a cursor stands for.
fn skip_of(after: Option<&str>) -> usize {
    after.and_then(|after| after.parse().ok()).unwrap_or(0)
}

impl MarketApi for Waxpeer {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "waxpeer",
        decimals: Decimals::Three,
        has_markup: false,
        has_float: true,
        keyed_by: KeyedBy::IdAndPrice,
        // The documentation asks to wait a minute after a lost response.
        own_order_ids: Some(OwnOrderIdSupport {
            visible_within: Duration::from_secs(60),
            look_ups_min: 3,
        }),
        auth: Auth::ApiKeyQuery { name: "api" },
        environment: EnvironmentNames {
            feed: "WAXPEER_WS_URL",
            http: "WAXPEER_HTTP_URL",
            credential: "WAXPEER_KEY",
            cookie: None,
        },
    };

    fn order_template(&self) -> OrderTemplate {
        let text = |text: String| Part::Text(text.into());
        self.with_headers(OrderTemplate::get(vec![
            text(format!("{}?item_id=", self.path("/buy-one-p2p"))),
            Part::Slot(Slot::Id),
            text("&price=".to_owned()),
            Part::Slot(Slot::PriceLimit(PriceFormat::Thousandths)),
            text(format!("{}&project_id=", self.recipient())),
            Part::Slot(Slot::OwnId),
        ]))
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

    /// There is no list of open listings by age.
    fn account_request(&self, query: &AccountQuery<'_>) -> Result<HttpRequest, AccountQueryError> {
        Ok(match query {
            AccountQuery::User => self.get("/user"),
            AccountQuery::Purchases { after, .. } => {
                let body = serde_json::json!({
                    "skip": skip_of(*after), "start": FIRST_DAY, "end": LAST_DAY, "sort": "DESC",
                });
                let path = self.path("/my-history");
                self.with_headers(HttpRequest::post_json(path, body.to_string()))
            }
            AccountQuery::OpenListings { .. } => return Err(AccountQueryError::Unsupported),
            AccountQuery::Order { own_id } => {
                self.get("/check-many-project-id").with_query("id", own_id.as_str())
            }
        })
    }

    fn read_user(&self, response: &HttpResponse) -> Result<User, ReadError> {
        account::read_user(response.text()?)
    }

    fn read_purchases(
        &self,
        after: Option<&str>,
        response: &HttpResponse,
    ) -> Result<Page<OwnPurchase>, ReadError> {
        account::read_purchases(response.text()?, skip_of(after))
    }

    fn read_listings<'a>(&self, _response: &'a HttpResponse) -> Result<Page<Trade<'a>>, ReadError> {
        Err(ReadError::Shape)
    }

    fn read_order(
        &self,
        order: OrderReference<'_>,
        response: &HttpResponse,
    ) -> Result<Option<OwnPurchase>, ReadError> {
        account::read_order(response.text()?, order)
    }

    fn keep_warm_request(&self) -> HttpRequest {
        self.get("/user")
    }

    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool {
        order_response::is_user(response)
    }
}
