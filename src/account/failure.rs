//! Why something about the account could not be read, and what that means for buying.

use std::time::Duration;

use crate::{
    csgoroll::account::ReadError,
    net::http_client::{HttpError, Reply},
    outcome::Refusal,
};

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// Nobody is signed in: no credential is set.
    #[error(
        "no credential is set, so balance and purchases cannot be seen; set CSGOROLL_SESSION in .env"
    )]
    NoCredential,
    /// A credential is set, and the site does not take it.
    #[error(
        "the session has expired; log in with your browser and copy the new `session` cookie into .env"
    )]
    SignedOut,
    /// A page for people stands in the way.
    #[error(
        "a challenge page stands in the way; open the site in your browser and pass it, then copy the whole Cookie header into CSGOROLL_COOKIE"
    )]
    Challenge,
    /// 401 or 403 without a challenge.
    #[error("HTTP {status}; check in your browser that you are logged in")]
    Forbidden {
        /// 401 or 403.
        status: u16,
    },
    /// 429 or 503.
    #[error("the site asks to wait (HTTP {status})")]
    Wait {
        /// 429 or 503.
        status: u16,
        /// For how long, where it says so.
        retry_after: Option<Duration>,
    },
    /// Another status than 200.
    #[error("HTTP {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// No answer.
    #[error("no answer")]
    Http(#[from] HttpError),
    /// An answer of no use.
    #[error("an answer of no use")]
    Answer(#[from] ReadError),
    /// The account's id could not stand in a query.
    #[error("the account's id is of an unknown form; this version cannot read its purchases")]
    UserId,
}

impl ReadFailure {
    /// What stands in the way of reading this answer, judged by its status.
    pub(crate) const fn of(reply: &Reply) -> Option<Self> {
        let head = reply.head;
        match head.status {
            200 => None,
            _ if head.is_challenge() => Some(Self::Challenge),
            status @ (401 | 403) => Some(Self::Forbidden { status }),
            status @ (429 | 503) => Some(Self::Wait { status, retry_after: head.retry_after }),
            status => Some(Self::Status { status }),
        }
    }

    /// How a buy would be refused for the same reason. Where this halts buying, so does the read.
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::SignedOut => Some(Refusal::Unauthenticated),
            Self::Challenge => Some(Refusal::Challenge),
            Self::Forbidden { status } => Some(Refusal::Forbidden { status: *status }),
            Self::Wait { status: 429, retry_after } => {
                Some(Refusal::RateLimited { retry_after: *retry_after })
            }
            Self::NoCredential
            | Self::Wait { .. }
            | Self::Status { .. }
            | Self::Http(_)
            | Self::Answer(_)
            | Self::UserId => None,
        }
    }

    /// Whether the same read may succeed a little later, without a person.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Http(_) | Self::Wait { .. } => true,
            Self::Status { status } => 500 <= *status,
            Self::NoCredential
            | Self::SignedOut
            | Self::Challenge
            | Self::Forbidden { .. }
            | Self::Answer(_)
            | Self::UserId => false,
        }
    }

    /// How long the site asks to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Wait { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
