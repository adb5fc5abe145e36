//! What came back for a buy, as plain data.
//!
//! Nothing here says what an answer means for the money; that table is [`answer`].

use std::{fmt, time::Instant};

use crate::{
    domain::outcome::Outcome,
    domain::trade::TradeId,
    http_head::ResponseHead,
    markets::csgoroll::answer::{self, TransportResult},
};

/// What came back for one request, or instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeResult {
    /// A whole HTTP answer.
    Complete(HttpResponse),
    /// No whole answer. The head may still have come.
    Broken {
        /// Why.
        why: ResponseError,
        /// What the head said, if it came. It proves nothing about the money.
        head: Option<ResponseHead>,
    },
}

/// A whole HTTP answer.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Its head.
    pub head: ResponseHead,
    /// Its body, decoded from chunks, at most
    /// [`BODY_BYTES_MAX`](super::answer_reader::BODY_BYTES_MAX) long.
    pub body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ResponseError {
    /// The deadline passed.
    #[error("no answer in time")]
    Timeout,
    /// The connection ended first.
    #[error("the connection was cut")]
    Cut,
    /// The bot stopped first.
    #[error("the bot stopped before the answer came")]
    Stopped,
    /// It is not HTTP/1.x, or contradicts itself.
    #[error("the answer is not proper HTTP")]
    Malformed,
    /// It is longer than any answer that is meant for us.
    #[error("the answer is too long")]
    TooLong,
}

/// How one order went on the wire.
///
/// Each order of which at least one byte was handed to the system has exactly one final report. A
/// refusal that is still to be confirmed has a provisional one before it. A request that never left
/// is an error of [`send`](super::Buyer::send) instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderReport {
    /// The listing.
    pub id: TradeId,
    /// What it means for the money.
    pub outcome: Outcome,
    /// Whether this is the order's last report. If not, `outcome` is
    /// [`Unconfirmed`](crate::domain::outcome::Unknown::Unconfirmed).
    pub is_final: bool,
    /// The evidence.
    pub answer: ExchangeResult,
    /// When the request left.
    pub written: SentRequest,
    /// When the answer was complete, or given up.
    pub answered: Instant,
}

/// When a request left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRequest {
    /// The connection became ready: TCP and TLS done. A buy is cold if this is later than the
    /// moment at which its listing came.
    pub ready: Instant,
    /// Just before the request was handed to the system.
    pub begun: Instant,
    /// Just after.
    pub written: Instant,
}

impl ExchangeResult {
    /// The same in the words of the table that decides what it means for the money.
    pub fn as_exchange(&self) -> TransportResult<'_> {
        match self {
            Self::Complete(HttpResponse { head, body }) => {
                TransportResult::Answered(answer::OrderResponse {
                    status: head.status,
                    retry_after: head.retry_after,
                    is_challenge: head.mitigated || head.html,
                    body,
                })
            }
            Self::Broken { why, .. } => match why {
                ResponseError::Timeout => TransportResult::Timeout,
                ResponseError::Cut => TransportResult::Cut,
                ResponseError::Stopped => TransportResult::Stopped,
                ResponseError::Malformed | ResponseError::TooLong => TransportResult::Unreadable,
            },
        }
    }
}

/// The body may hold anything; its length is enough.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("head", &self.head)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
