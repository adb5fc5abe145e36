//! The part of a marketplace that is reached over HTTP: orders and the account.
//!
//! An implementation makes no connection and reads no clock. It builds requests and reads responses,
//! which `execution` and `account` send and receive within the rate limits.

use std::fmt;

use super::{
    Capabilities,
    order_template::{OrderFields, OrderTemplate},
};
use crate::{
    config::Credential,
    domain::outcome::Outcome,
    net::http_message::{HttpRequest, HttpResponse, RequestParts},
};

/// Relation of a response to its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// The response contains the listing's id or the own id of the order.
    Named,
    /// A response of the API without an id. It belongs to the last request on its connection if the
    /// responses on that connection are in step with the requests.
    Unnamed,
    /// A response from in front of the API (no session, too many requests, a challenge page), where
    /// another request should not be sent.
    Blocked,
}

/// Orders and account of a marketplace. A value is built from the configuration and is cheap to
/// clone. Its requests contain no credential: see [`authenticated`](Self::authenticated).
pub trait MarketApi: Clone + fmt::Debug + Send + Sync + 'static {
    const CAPABILITIES: Capabilities;

    /// Puts the credential, if there is one, where the marketplace expects it.
    #[must_use]
    fn authenticated<R: RequestParts>(credential: Option<&Credential>, request: R) -> R {
        match credential {
            Some(credential) => Self::CAPABILITIES.auth.apply(credential, request),
            None => request,
        }
    }

    fn order_template(&self) -> OrderTemplate;

    /// Returns what a response says about the money of an order, and whether it is certain that the
    /// response belongs to the order.
    ///
    /// If in doubt, the outcome is unknown and counts as spent.
    fn order_outcome(&self, order: &OrderFields, response: &HttpResponse)
    -> (Outcome, Attribution);

    /// Returns the first error message of a response, which is untrusted text.
    fn error_message(&self, response: &HttpResponse) -> Option<String>;

    /// Returns a request without side effects, whose response differs from every response to an
    /// order.
    fn keep_warm_request(&self) -> HttpRequest;

    /// Returns `true` for the response to [`keep_warm_request`](Self::keep_warm_request).
    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool;
}
