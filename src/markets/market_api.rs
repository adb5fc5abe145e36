//! The part of a marketplace that is reached over HTTP: orders and the account.
//!
//! An implementation makes no connection and reads no clock. It builds requests and reads
//! responses, which `execution` and `account` send and receive within the rate limits.

use std::{fmt, time::Duration};

use super::{
    Capabilities,
    json_object::ObjectError,
    order_template::{OrderFields, OrderTemplate},
};
use crate::{
    config::Credential,
    domain::account::{OwnPurchase, Page, User},
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::own_order_id::OwnOrderId,
    domain::trade::{Trade, TradeId},
    net::http_message::{HttpRequest, HttpResponse, RequestParts},
};

/// Relation of a response to its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// The response contains the own id of the order, or reports a purchase of its listing.
    Named,
    /// Another response of the API. It belongs to the last request on its connection if the
    /// responses on that connection are in step with the requests.
    Unnamed,
    /// A response from in front of the API (no session, too many requests, a challenge page), where
    /// another request should not be sent.
    Blocked,
}

/// A read of the account, or of the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountQuery<'a> {
    /// The user and the balance.
    User,
    /// One page of own purchases, newest first.
    Purchases {
        /// Id of the account.
        user: &'a str,
        /// Cursor of the previous page.
        after: Option<&'a str>,
    },
    /// One page of open listings, newest first.
    OpenListings {
        /// Cursor of the previous page.
        after: Option<&'a str>,
    },
    /// The cheapest open listings with one of these market names, up to a price.
    CheapestListings { names: &'a [String], max_price: Amount },
    /// Orders of the account, by their own ids. Sent only to markets with
    /// [own order ids](Capabilities::own_order_ids), and with at most
    /// [`look_ups_per_request`](super::OwnOrderIdSupport::look_ups_per_request) orders.
    Orders { orders: &'a [OrderReference<'a>] },
}

/// Order that is looked up by its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderReference<'a> {
    /// The listing that was ordered, for a market whose answer does not name it.
    pub id: &'a TradeId,
    pub own_id: &'a OwnOrderId,
    /// `true` if no other order is looked up in the same request. Only then may its absence be
    /// evidence, unless the response has another entry.
    pub is_alone: bool,
}

/// A read for which a market has no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountQueryError {
    #[error("the market does not offer this read")]
    Unsupported,
    /// The account's id cannot be inserted into the request.
    #[error("the account's id is of an unknown form; this version cannot read its purchases")]
    UserId,
}

/// A response to a read without the expected content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the session has expired or is not known to the market")]
    SignedOut,
    #[error("the response is not JSON")]
    NotJson,
    #[error("the response is not UTF-8 text")]
    NotText(#[from] std::str::Utf8Error),
    /// Error message of the market, escaped.
    #[error("the market reports: {0}")]
    MarketError(String),
    #[error("the response has an unexpected shape")]
    Shape,
}

impl From<ObjectError> for ReadError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotJson => Self::NotJson,
            ObjectError::NotObject | ObjectError::RepeatedKey => Self::Shape,
        }
    }
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

    /// Returns the effect of a response on the money of an order, and whether it is certain that
    /// the response belongs to the order.
    ///
    /// If in doubt, the outcome is unknown and counts as spent.
    fn order_outcome(&self, order: &OrderFields, response: &HttpResponse)
    -> (Outcome, Attribution);

    /// Returns the first error message of a response, which is untrusted text.
    fn error_message(&self, response: &HttpResponse) -> Option<String>;

    /// Returns the wait that a response with 429 requests.
    fn retry_after(response: &HttpResponse) -> Option<Duration> {
        response.head.retry_after
    }

    /// Returns the request for a read.
    ///
    /// # Errors
    ///
    /// Returns an [`AccountQueryError`] if the market does not offer the read, or the id of the
    /// account cannot be inserted.
    fn account_request(&self, query: &AccountQuery<'_>) -> Result<HttpRequest, AccountQueryError>;

    /// Reads the response to [`AccountQuery::User`].
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the response has no user.
    fn read_user(&self, response: &HttpResponse) -> Result<User, ReadError>;

    /// Reads the response to [`AccountQuery::Purchases`].
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the response has no list.
    fn read_purchases(&self, response: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError>;

    /// Reads the response to [`AccountQuery::OpenListings`]. The age of the listings is zero; the
    /// caller computes it from the server's time.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the response has no list.
    fn read_listings<'a>(&self, response: &'a HttpResponse) -> Result<Page<Trade<'a>>, ReadError>;

    /// Reads one order of the response to [`AccountQuery::Orders`]. Returns `None` if the market
    /// does not know the own id, which is no evidence within
    /// [`visible_within`](super::OwnOrderIdSupport::visible_within).
    ///
    /// A market without own order ids has no such response.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the response neither shows the order nor its absence.
    fn read_order(
        &self,
        _order: OrderReference<'_>,
        _response: &HttpResponse,
    ) -> Result<Option<OwnPurchase>, ReadError> {
        Err(ReadError::Shape)
    }

    /// Returns the request that checks the recipient of the items; `None` without a recipient, or
    /// if the market offers no check.
    fn recipient_check(&self) -> Option<HttpRequest> {
        None
    }

    /// Reads the response to [`recipient_check`](Self::recipient_check).
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the market does not accept the recipient.
    fn read_recipient_check(&self, _response: &HttpResponse) -> Result<(), ReadError> {
        Ok(())
    }

    /// Returns a request without side effects, whose response differs from every response to an
    /// order.
    fn keep_warm_request(&self) -> HttpRequest;

    /// Returns `true` for the response to [`keep_warm_request`](Self::keep_warm_request).
    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool;
}
