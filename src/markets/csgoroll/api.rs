//! Orders and account of CSGORoll over HTTP.

use std::time::Duration;

use super::{
    Csgoroll, DECIMALS, account,
    operations::{self, PAGE_LISTINGS_MAX},
    order_response,
};
use crate::{
    domain::account::{OwnPurchase, Page, User},
    domain::outcome::Outcome,
    domain::trade::{KeyedBy, Trade},
    markets::order_template::{OrderFields, OrderTemplate},
    markets::{
        AccountQuery, AccountQueryError, Attribution, Capabilities, EnvironmentNames, MarketApi,
        ReadError, ReadRate,
    },
    net::http_message::{Auth, HttpRequest, HttpResponse},
};

impl MarketApi for Csgoroll {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "csgoroll",
        decimals: DECIMALS,
        has_markup: true,
        has_float: true,
        has_rarity: true,
        // A listing with a new price has a new id.
        keyed_by: KeyedBy::Id,
        own_order_ids: None,
        has_price_limit: false,
        has_purchases: true,
        has_open_listings: true,
        auth: Auth::Cookie,
        environment: EnvironmentNames {
            feed: "CSGOROLL_WS_URL",
            http: "CSGOROLL_HTTP_URL",
            credential: "CSGOROLL_SESSION",
            cookie: Some("CSGOROLL_COOKIE"),
        },
        reads: ReadRate::UNDOCUMENTED,
        listings_lag: None,
        order_timeout: Duration::from_secs(10),
    };

    fn order_template(&self) -> OrderTemplate {
        operations::order_template(&self.endpoints)
    }

    fn order_outcome(
        &self,
        order: &OrderFields,
        response: &HttpResponse,
    ) -> (Outcome, Attribution) {
        order_response::order_outcome(&order.id, response)
    }

    fn error_message(&self, response: &HttpResponse) -> Option<String> {
        order_response::first_error_message(&response.body)
    }

    fn account_request(&self, query: &AccountQuery<'_>) -> Result<HttpRequest, AccountQueryError> {
        let operation = match query {
            AccountQuery::User => operations::current_user(),
            AccountQuery::Purchases { user, after } => {
                operations::own_purchases(user, PAGE_LISTINGS_MAX, *after)
                    .ok_or(AccountQueryError::UserId)?
            }
            AccountQuery::OpenListings { after } => {
                operations::open_listings(self.generation, PAGE_LISTINGS_MAX, *after)
            }
            AccountQuery::CheapestListings { .. } | AccountQuery::Orders { .. } => {
                return Err(AccountQueryError::Unsupported);
            }
        };
        Ok(operations::request(&self.endpoints, operation.to_json()))
    }

    fn read_user(&self, response: &HttpResponse) -> Result<User, ReadError> {
        account::read_current_user(response.text()?)
    }

    fn read_purchases(&self, response: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError> {
        account::read_own_purchases(response.text()?)
    }

    fn read_listings<'a>(&self, response: &'a HttpResponse) -> Result<Page<Trade<'a>>, ReadError> {
        account::read_open_listings(response.text()?, self.generation)
    }

    fn keep_warm_request(&self) -> HttpRequest {
        operations::request(&self.endpoints, operations::current_user().to_json())
    }

    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool {
        order_response::is_current_user(response)
    }
}
