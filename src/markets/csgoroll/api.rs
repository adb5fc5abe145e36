//! Orders and account of CSGORoll over HTTP.

use super::{Csgoroll, answer, operations};
use crate::{
    domain::outcome::Outcome,
    markets::order_template::{OrderFields, OrderTemplate},
    markets::{Attribution, Capabilities, EnvironmentNames, MarketApi},
    net::http_message::{Auth, HttpRequest, HttpResponse},
};

impl MarketApi for Csgoroll {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "csgoroll",
        reprices: false,
        has_own_order_id: false,
        auth: Auth::Cookie,
        environment: EnvironmentNames {
            feed: "CSGOROLL_WS_URL",
            http: "CSGOROLL_HTTP_URL",
            credential: "CSGOROLL_SESSION",
            cookie: Some("CSGOROLL_COOKIE"),
        },
    };

    fn order_template(&self) -> OrderTemplate {
        operations::order_template(&self.endpoints)
    }

    fn order_outcome(
        &self,
        order: &OrderFields,
        response: &HttpResponse,
    ) -> (Outcome, Attribution) {
        answer::order_outcome(&order.id, response)
    }

    fn error_message(&self, response: &HttpResponse) -> Option<String> {
        answer::first_error_message(&response.body)
    }

    fn keep_warm_request(&self) -> HttpRequest {
        operations::request(&self.endpoints, operations::current_user().to_json())
    }

    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool {
        answer::is_current_user(response)
    }
}
