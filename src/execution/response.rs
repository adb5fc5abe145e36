//! Results of an order request, as plain data. Pure.
//!
//! The market's [`order_outcome`](crate::markets::MarketApi::order_outcome) derives the outcome
//! from a response.

use std::time::Instant;

use crate::{
    domain::outcome::{Outcome, Unknown},
    domain::trade::TradeKey,
    net::http_head::ResponseHead,
    net::http_message::HttpResponse,
};

/// Response to one request, or the cause of its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeResult {
    /// A complete HTTP response.
    Complete(HttpResponse),
    /// No complete response. The head may have been received.
    Broken {
        error: ResponseError,
        /// Response head, if it was received. It proves nothing about the order.
        head: Option<ResponseHead>,
    },
}

/// Cause of a missing or incomplete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ResponseError {
    #[error("no response in time")]
    Timeout,
    /// The connection ended before the response was complete.
    #[error("the connection was cut")]
    Cut,
    /// The bot stopped before the response was complete.
    #[error("the bot stopped before the response arrived")]
    Stopped,
    /// The response is not HTTP/1.x, or contradicts itself.
    #[error("the response is not valid HTTP")]
    Malformed,
    /// The response exceeds a bound of [`response_reader`](super::response_reader).
    #[error("the response is too long")]
    TooLong,
}

/// Report on a sent order.
///
/// Each order of which at least one byte was sent has exactly one final report. A rejection that is
/// still to be confirmed has a provisional one before it. An order of which no byte was sent is an
/// error of [`send`](super::OrderClient::send) instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderReport {
    pub key: TradeKey,
    pub outcome: Outcome,
    /// `true` for the order's last report. Otherwise `outcome` is
    /// [`Unconfirmed`](crate::domain::outcome::Unknown::Unconfirmed).
    pub is_final: bool,
    /// Response that `outcome` was derived from.
    pub response: ExchangeResult,
    /// Error message in the response, which is untrusted text.
    pub market_error: Option<String>,
    pub sent: SentRequest,
    /// Time at which the response was complete, or the request was abandoned.
    pub received: Instant,
}

/// Times of a sent request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// Time at which TCP and TLS were done. An order is cold if this is later than the arrival of
    /// its listing.
    pub ready: Instant,
    /// Time just before the request was passed to the system.
    pub begun: Instant,
    /// Time just after the request was passed to the system.
    pub written: Instant,
}

impl From<ResponseError> for Unknown {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Timeout => Self::Timeout,
            ResponseError::Cut => Self::Cut,
            ResponseError::Stopped => Self::Stopped,
            ResponseError::Malformed | ResponseError::TooLong => Self::Unreadable,
        }
    }
}
