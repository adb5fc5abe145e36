//! Outcome of an order: the types that the order client, the ledger and the reports share.
//!
//! Only the module of a market derives an [`Outcome`] from status codes and error texts.

use std::time::Duration;

use crate::{domain::money::Amount, domain::time::UnixMs};

/// Outcome of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The market confirmed the purchase of this listing, which is not delivered yet.
    Bought {
        /// Price in the response.
        price: Option<Amount>,
        /// Server time of the purchase.
        server_time: Option<UnixMs>,
    },
    /// The market rejected the order; no coins were spent.
    Rejected(RejectReason),
    /// No byte of the order was sent; no coins were spent.
    NotSent(NotSent),
    /// The order may have been executed. It counts as bought until there is evidence of the
    /// contrary, and is never sent again.
    Unknown(Unknown),
}

/// Reason for which an order was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotSent {
    #[error("no order connection was ready")]
    NoConnection,
    #[error("the connection was closed before the request was written")]
    Closed,
    #[error("the bot is stopping")]
    Stopping,
}

/// Reason for which the market rejected an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RejectReason {
    /// Another buyer was faster, or the listing is not open yet.
    #[error("another buyer was faster, or it is not open yet")]
    NotJoinable,
    #[error("another buyer was faster")]
    Taken,
    /// The price is no longer the one in the order.
    #[error("its price has changed")]
    PriceChanged,
    /// The price exceeds the price limit of the order.
    #[error("its price is above the limit of the order")]
    AbovePriceLimit,
    #[error("the daily withdrawal limit is reached")]
    DailyLimit,
    #[error("the session has expired")]
    Unauthenticated,
    #[error("the market requires a captcha")]
    Captcha,
    /// A challenge page in place of data, or an HTML page with status 200.
    #[error("the market sent a challenge page")]
    Challenge,
    /// 401 or 403 without data.
    #[error("HTTP {status} without data")]
    Forbidden { status: u16 },
    /// 401 or 403 from a market whose credential is an API key.
    #[error("the market does not accept the API key (HTTP {status})")]
    KeyRejected { status: u16 },
    #[error("the balance is too low")]
    InsufficientFunds,
    /// The account cannot receive items: trade URL, trade ban, private or full inventory.
    #[error("the account cannot receive items")]
    AccountRestricted,
    /// The market does not accept the values of the order.
    #[error("the market does not accept the values of the order")]
    InvalidOrder,
    /// 429 without data, or a response that states how long to wait.
    #[error("too many requests (HTTP 429)")]
    RateLimited { retry_after: Option<Duration> },
    /// The server does not know the hash of the query.
    #[error("the server does not know the query")]
    StaleQuery,
    #[error("the market is overloaded")]
    Busy,
    /// The market has switched off buying for everyone.
    #[error("the market has switched off buying")]
    BuyingDisabled,
}

/// Reason for which the outcome of an order is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unknown {
    /// No response arrived before the deadline.
    #[error("no response in time")]
    Timeout,
    /// The connection was lost after the first byte of the request was written.
    #[error("the connection was lost before the response")]
    Cut,
    #[error("the bot stopped before the response arrived")]
    Stopped,
    /// An HTTP status that does not show whether the order was executed.
    #[error("the market responded with HTTP {status}")]
    Status { status: u16 },
    /// The response is not the expected JSON: HTML, a truncated body or another shape.
    #[error("the response could not be read")]
    Unreadable,
    /// The market's table of errors does not contain the text of the error.
    #[error("the market responded with an unknown error")]
    UnknownError,
    /// The response contains no listing, or another one.
    #[error("the market responded without naming this listing")]
    Foreign,
    /// The market has seen the own id of the order before.
    #[error("the market already knows an order with this id")]
    AlreadyOrdered,
    /// The market accepted the order, and reports an error or a returned item in the same response.
    #[error("the market reports the purchase as failed")]
    Failed,
    /// The response is a rejection that names no order, and it is not (or not yet) certain that it
    /// is the response to this order and not to an earlier request on the connection. The
    /// [`Consequence`] of the rejection applies nevertheless.
    #[error("rejected, but the response cannot be attributed to this order: {0}")]
    Unconfirmed(RejectReason),
}

/// Effect of a rejection on later orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The rejection concerns only this listing, which is skipped.
    None,
    /// Ordering pauses for this time, or for the ledger's default.
    Pause(Option<Duration>),
    /// Ordering halts until the operator resumes it.
    Halt,
}

impl RejectReason {
    /// Returns a short name for counters and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotJoinable => "not joinable",
            Self::Taken => "taken",
            Self::PriceChanged => "price changed",
            Self::AbovePriceLimit => "above price limit",
            Self::DailyLimit => "daily limit",
            Self::Unauthenticated => "unauthenticated",
            Self::Captcha => "captcha",
            Self::Challenge => "challenge",
            Self::Forbidden { .. } => "forbidden",
            Self::KeyRejected { .. } => "key rejected",
            Self::InsufficientFunds => "insufficient funds",
            Self::AccountRestricted => "account restricted",
            Self::InvalidOrder => "invalid order",
            Self::RateLimited { .. } => "rate limited",
            Self::StaleQuery => "stale query",
            Self::Busy => "market busy",
            Self::BuyingDisabled => "buying disabled",
        }
    }

    pub const fn consequence(self) -> Consequence {
        match self {
            Self::NotJoinable
            | Self::Taken
            | Self::PriceChanged
            | Self::AbovePriceLimit
            | Self::Busy => Consequence::None,
            Self::RateLimited { retry_after } => Consequence::Pause(retry_after),
            Self::BuyingDisabled => Consequence::Pause(None),
            Self::DailyLimit
            | Self::Unauthenticated
            | Self::Captcha
            | Self::Challenge
            | Self::Forbidden { .. }
            | Self::KeyRejected { .. }
            | Self::InsufficientFunds
            | Self::AccountRestricted
            | Self::InvalidOrder
            | Self::StaleQuery => Consequence::Halt,
        }
    }

    /// Returns what the user must do, for a rejection that halts ordering.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::NotJoinable
            | Self::Taken
            | Self::PriceChanged
            | Self::AbovePriceLimit
            | Self::RateLimited { .. }
            | Self::Busy
            | Self::BuyingDisabled => None,
            Self::DailyLimit => Some(
                "wait until the market's daily limit resets, or raise it there, then run `sniper resume`",
            ),
            Self::Unauthenticated => Some(
                "log in with your browser and copy the new `session` cookie into .env, then run `sniper resume` and start the bot again",
            ),
            Self::Captcha => {
                Some("open the market in your browser, solve the captcha, then run `sniper resume`")
            }
            Self::Challenge => Some(
                "open the market in your browser and pass the challenge; where a cookie is the credential, copy the whole Cookie header into .env; then run `sniper resume` and start the bot again",
            ),
            Self::Forbidden { .. } => Some(
                "check in your browser that you are logged in and allowed to withdraw, then copy the `session` cookie into .env again, run `sniper resume` and start the bot again",
            ),
            Self::KeyRejected { .. } => Some(
                "check at the market that the API key is valid and bound to the IP address of this machine, correct it there or in .env, then run `sniper resume` and start the bot again",
            ),
            Self::InsufficientFunds => {
                Some("add funds at the market or lower the limits, then run `sniper resume`")
            }
            Self::AccountRestricted => Some(
                "check the trade URL in .env, and on Steam that the account may trade and its inventory is public and not full, then run `sniper resume`",
            ),
            Self::InvalidOrder => Some(
                "check the trade URL in .env, then run `sniper resume`; if it is right, update the bot, because the market has changed its interface",
            ),
            Self::StaleQuery => Some(
                "update the bot: the market has changed its interface, and this version cannot buy there",
            ),
        }
    }
}
