//! What is known about a buy: the words that buyer, ledger and reports share.
//!
//! The table that turns an answer into an [`Outcome`] is `csgoroll::answer`; nobody else looks at
//! status codes or error texts.

use std::time::Duration;

use crate::{domain::money::Amount, domain::time::UnixMs};

/// How far a buy request got before its answer, or instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendProgress {
    /// No connection was made, or none was ready: not one byte left.
    NotSent,
    /// At least one byte was handed to the system.
    Sent,
}

/// What became of one buy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The marketplace named this listing as ours. A reservation, not yet a delivery.
    Bought {
        /// What it says it cost, where it says so.
        price: Option<Amount>,
        /// The server's clock when it was done, where it says so.
        server_time: Option<UnixMs>,
    },
    /// The marketplace said no; no money moved.
    Refused(RejectReason),
    /// It was never sent; no money can have moved.
    NotSent(NotSent),
    /// It may have been done. Counts as bought until proven otherwise, and is never sent again.
    Unknown(Unknown),
}

/// Why a request never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotSent {
    /// No connection was open.
    #[error("no connection to the marketplace was ready")]
    NoConnection,
    /// The connection was found closed before a byte was written.
    #[error("the connection was closed before the request was written")]
    Closed,
    /// The bot is stopping.
    #[error("the bot is stopping")]
    Stopping,
}

/// How the marketplace says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RejectReason {
    /// Somebody else was faster, or it cannot be joined yet.
    #[error("not joinable: taken, or too early")]
    NotJoinable,
    /// Somebody else was faster.
    #[error("no longer available: taken")]
    Taken,
    /// No more buys today.
    #[error("the daily withdrawal limit is reached")]
    DailyLimit,
    /// The session has expired.
    #[error("the session has expired")]
    Unauthenticated,
    /// A captcha is demanded.
    #[error("a captcha is demanded")]
    Captcha,
    /// A challenge page stands in the way (403 with HTML or `cf-mitigated`).
    #[error("a challenge page stands in the way")]
    Challenge,
    /// HTTP 401 or 403 without data.
    #[error("HTTP {status} without data")]
    Forbidden {
        /// 401 or 403.
        status: u16,
    },
    /// HTTP 429 without data.
    #[error("too many requests")]
    RateLimited {
        /// How long the server asks to wait, where it says so.
        retry_after: Option<Duration>,
    },
    /// The server does not know the query's hash.
    #[error("the server does not know the query")]
    StaleQuery,
}

/// Why nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unknown {
    /// No answer came within the deadline.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke after the request had begun to leave.
    #[error("the connection was cut")]
    Cut,
    /// The bot stopped before the answer came.
    #[error("the bot stopped before the answer came")]
    Stopped,
    /// An HTTP status that does not say whether it was done.
    #[error("HTTP {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The answer is not the JSON that was expected: HTML, half a body, another shape.
    #[error("an answer that could not be read")]
    Unreadable,
    /// An error whose text is not in the table.
    #[error("an error that this program does not know")]
    UnknownError,
    /// The answer names no listing, or another one.
    #[error("an answer about another listing, or none")]
    Foreign,
    /// The marketplace said no in an answer that names no order, and the connection was not (or
    /// not yet) shown to be in step. What the refusal asks of the bot applies all the same.
    #[error("rejected, but not shown to be this order's answer: {0}")]
    Unconfirmed(RejectReason),
}

/// What a refusal asks of the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing: a race was lost.
    None,
    /// Pause buying for as long as told, or a default.
    Pause(Option<Duration>),
    /// Stop buying until a person has looked.
    Halt,
}

impl RejectReason {
    /// A short name, for counters and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotJoinable => "not joinable",
            Self::Taken => "taken",
            Self::DailyLimit => "daily limit",
            Self::Unauthenticated => "unauthenticated",
            Self::Captcha => "captcha",
            Self::Challenge => "challenge",
            Self::Forbidden { .. } => "forbidden",
            Self::RateLimited { .. } => "rate limited",
            Self::StaleQuery => "stale query",
        }
    }

    /// What follows from it for the next buy.
    pub const fn consequence(self) -> Consequence {
        match self {
            Self::NotJoinable | Self::Taken => Consequence::None,
            Self::RateLimited { retry_after } => Consequence::Pause(retry_after),
            Self::DailyLimit
            | Self::Unauthenticated
            | Self::Captcha
            | Self::Challenge
            | Self::Forbidden { .. }
            | Self::StaleQuery => Consequence::Halt,
        }
    }

    /// What the person must do, where only a person can.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::NotJoinable | Self::Taken | Self::RateLimited { .. } => None,
            Self::DailyLimit => Some(
                "wait until the site's daily limit resets, or raise it there, then run `sniper resume`",
            ),
            Self::Unauthenticated => Some(
                "log in with your browser and copy the new `session` cookie into .env, then run `sniper resume` and start the bot again",
            ),
            Self::Captcha => {
                Some("open the site in your browser, solve the captcha, then run `sniper resume`")
            }
            Self::Challenge => Some(
                "open the site in your browser and pass the challenge, then copy the whole Cookie header into CSGOROLL_COOKIE in .env, run `sniper resume` and start the bot again",
            ),
            Self::Forbidden { .. } => Some(
                "check in your browser that you are logged in and allowed to withdraw, then copy the `session` cookie into .env again, run `sniper resume` and start the bot again",
            ),
            Self::StaleQuery => {
                Some("the site has changed its interface; this version cannot buy there any more")
            }
        }
    }
}
