//! Orders and account of Waxpeer over HTTP.
//!
//! The key is a parameter of every request, and an order is a `GET`, so no address is ever logged.

use std::time::Duration;

use super::{Waxpeer, account, order_response};
use crate::{
    config::TradeUrl,
    domain::account::{OwnPurchase, Page, User},
    domain::money::Decimals,
    domain::outcome::Outcome,
    domain::trade::{KeyedBy, Trade},
    markets::order_template::{OrderFields, OrderTemplate, Part, PriceFormat, Slot},
    markets::{
        AccountQuery, AccountQueryError, Attribution, Capabilities, EnvironmentNames, MarketApi,
        OrderReference, OwnOrderIdSupport, ReadError, ReadRate,
    },
    net::http_message::{Auth, HttpRequest, HttpResponse, JSON, RequestParts, percent_encode},
};

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

impl MarketApi for Waxpeer {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "waxpeer",
        decimals: Decimals::Three,
        has_markup: false,
        has_float: true,
        has_rarity: false,
        keyed_by: KeyedBy::IdAndPrice,
        // The documentation asks to wait a minute after a lost response.
        own_order_ids: Some(OwnOrderIdSupport {
            visible_within: Duration::from_secs(60),
            look_ups_min: 3,
            look_ups_per_request: 100,
        }),
        has_price_limit: true,
        has_purchases: false,
        has_open_listings: false,
        auth: Auth::ApiKeyQuery { name: "api" },
        environment: EnvironmentNames {
            feed: "WAXPEER_WS_URL",
            http: "WAXPEER_HTTP_URL",
            credential: "WAXPEER_KEY",
            cookie: None,
        },
        // Only searches and prices have a documented limit, and neither is read.
        reads: ReadRate::UNDOCUMENTED,
        listings_lag: None,
        order_timeout: Duration::from_secs(10),
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

    fn retry_after(response: &HttpResponse) -> Option<Duration> {
        order_response::retry_after(response)
    }

    /// Creates the request of the user or of orders. The shape of the list of purchases is not
    /// documented, so orders are looked up by their own ids. There is no list of open listings by
    /// age.
    fn account_request(&self, query: &AccountQuery<'_>) -> Result<HttpRequest, AccountQueryError> {
        Ok(match query {
            AccountQuery::User => self.get("/user"),
            AccountQuery::Purchases { .. }
            | AccountQuery::OpenListings { .. }
            | AccountQuery::CheapestListings { .. } => {
                return Err(AccountQueryError::Unsupported);
            }
            AccountQuery::Orders { orders } => {
                let look_up = self.get("/check-many-project-id");
                orders
                    .iter()
                    .fold(look_up, |all, order| all.with_query("id", order.own_id.as_str()))
            }
        })
    }

    fn read_user(&self, response: &HttpResponse) -> Result<User, ReadError> {
        let account = self.trade_url.as_ref().map_or("unknown", TradeUrl::partner);
        account::read_user(response.text()?, account)
    }

    fn read_purchases(&self, _response: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError> {
        Err(ReadError::Shape)
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

    fn recipient_check(&self) -> Option<HttpRequest> {
        let address = self.trade_url.as_ref()?.address();
        let body = serde_json::json!({ "tradelink": address }).to_string();
        Some(self.with_headers(HttpRequest::post_json(self.path("/check-tradelink"), body)))
    }

    fn read_recipient_check(&self, response: &HttpResponse) -> Result<(), ReadError> {
        account::success(response.text()?).map(drop)
    }

    fn keep_warm_request(&self) -> HttpRequest {
        self.get("/user")
    }

    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool {
        order_response::is_user(response)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::market, *};
    use crate::{
        config::Credential,
        domain::{money::Amount, own_order_id::StartId, time::UnixMs, trade::TradeId},
        execution::request::PreparedOrder,
        net::http_message::Method,
    };

    fn key() -> Credential {
        Credential::from_key("hunter2/key").unwrap()
    }

    #[test]
    fn an_order_is_a_get_with_the_limit_the_recipient_and_the_own_id() {
        let template = Waxpeer::authenticated(Some(&key()), market().order_template());
        assert_eq!(template.method, Method::Get);
        let id = TradeId::from_number(40_000_000_123);
        let price_limit = Amount::from_thousandths(912_340);
        let own_id = StartId::from_bits(0x00ff_u128.to_be_bytes()).order_id(7);
        let order = OrderFields { id, price_limit, own_id: Some(own_id) };
        let mut prepared = PreparedOrder::new(&template, "api.example.com").unwrap();
        let text = str::from_utf8(prepared.bytes_for(&order, UnixMs(0))).unwrap().to_owned();
        let line = format!(
            "GET /v1/buy-one-p2p?item_id=40000000123&price=912340&partner=123456789&token=AbCdEf12\
             &project_id={own_id}&api=hunter2%2Fkey HTTP/1.1\r\nHost: api.example.com\r\n"
        );
        assert!(text.starts_with(&line), "{text}");
        assert!(!text.contains("Content-Length") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(own_id.as_str().len() <= 36);
        let shown = format!("{template:?} {:?}", market());
        assert!(!shown.contains("hunter2") && !shown.contains("AbCdEf12"), "{shown}");
    }

    #[test]
    fn each_read_is_a_request_below_the_configured_path() {
        let own_id = StartId::from_bits(0x00ff_u128.to_be_bytes()).order_id(7);
        let path = |query: &AccountQuery<'_>| {
            let request = market().account_request(query)?;
            assert_eq!(request.method, Method::Get);
            let request = Waxpeer::authenticated(Some(&key()), request);
            assert!(!format!("{request:?}").contains("hunter2"));
            Ok(request.path_and_query)
        };
        assert_eq!(path(&AccountQuery::User).as_deref(), Ok("/v1/user?api=hunter2%2Fkey"));
        let id = TradeId::from_number(7);
        let order = OrderReference { id: &id, own_id: &own_id, is_alone: false };
        let order = path(&AccountQuery::Orders { orders: &[order, order] });
        let expected =
            format!("/v1/check-many-project-id?id={own_id}&id={own_id}&api=hunter2%2Fkey");
        assert_eq!(order.as_deref(), Ok(expected.as_str()));
        for unsupported in [
            AccountQuery::Purchases { user: "u", after: None },
            AccountQuery::OpenListings { after: None },
        ] {
            assert_eq!(path(&unsupported), Err(AccountQueryError::Unsupported));
        }
        assert_eq!(market().keep_warm_request().path_and_query, "/v1/user");
    }
}
