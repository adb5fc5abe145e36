//! Errors of reads of the account, and their consequences for ordering.

use std::time::Duration;

use super::health::FailureCause;
use crate::{
    domain::outcome::RejectReason,
    markets::csgoroll::account::{BalanceError, ReadError},
    net::http_client::{HttpError, HttpReply},
};

/// Length of the prefix of a market message that identifies the cause, in characters.
const MESSAGE_CHARS_MAX: usize = 60;

/// Error of a read. Displays the cause; [`remedy`](Self::remedy) returns what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// No credential is set.
    #[error("no credential is set")]
    NoCredential,
    /// The market does not accept the credential.
    #[error("the session has expired or is not known to the market")]
    SignedOut,
    /// The market sent a challenge page.
    #[error("a challenge page was sent instead of a response")]
    Challenge,
    /// 401 or 403 without a challenge.
    #[error("access was denied (HTTP {status})")]
    Forbidden { status: u16 },
    /// 429 or 503.
    #[error("the market asks to wait (HTTP {status})")]
    Wait { status: u16, retry_after: Option<Duration> },
    /// HTML instead of JSON, with status 200.
    #[error("a web page (HTML) was sent instead of a JSON response")]
    Page,
    /// Another status than 200.
    #[error("the response has status HTTP {status}")]
    Status { status: u16 },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Response(#[from] ReadError),
    /// The response has no readable balance.
    #[error(transparent)]
    Balance(#[from] BalanceError),
    /// The account's id cannot be inserted into a query.
    #[error("the account's id is of an unknown form; this version cannot read its purchases")]
    UserId,
}

impl ReadFailure {
    /// Returns the error that the status and headers of a reply indicate.
    pub(crate) const fn from_reply(reply: &HttpReply) -> Option<Self> {
        let head = reply.head;
        match head.status {
            200 if head.html && head.mitigated => Some(Self::Challenge),
            200 if head.html => Some(Self::Page),
            200 => None,
            _ if head.is_challenge() => Some(Self::Challenge),
            status @ (401 | 403) => Some(Self::Forbidden { status }),
            status @ (429 | 503) => Some(Self::Wait { status, retry_after: head.retry_after }),
            status => Some(Self::Status { status }),
        }
    }

    /// Returns the reason for which an order would be rejected. If it halts ordering, the failed read
    /// does so, too.
    pub const fn reject_reason(&self) -> Option<RejectReason> {
        match self {
            Self::SignedOut => Some(RejectReason::Unauthenticated),
            Self::Challenge => Some(RejectReason::Challenge),
            Self::Forbidden { status } => Some(RejectReason::Forbidden { status: *status }),
            Self::Wait { status: 429, retry_after } => {
                Some(RejectReason::RateLimited { retry_after: *retry_after })
            }
            Self::NoCredential
            | Self::Wait { .. }
            | Self::Page
            | Self::Status { .. }
            | Self::Http(_)
            | Self::Response(_)
            | Self::Balance(_)
            | Self::UserId => None,
        }
    }

    /// Returns what the user can do.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoCredential => "set CSGOROLL_SESSION in .env",
            Self::SignedOut => {
                "log in at the market with your browser, copy the new `session` cookie into \
                 CSGOROLL_SESSION in .env, and restart the bot"
            }
            Self::Challenge => {
                "open the market in your browser, pass the challenge, copy the whole Cookie \
                 header into CSGOROLL_COOKIE in .env, and restart the bot"
            }
            Self::Forbidden { .. } => {
                "check in your browser that you are logged in, copy the cookie into .env again, \
                 and restart the bot"
            }
            Self::Wait { .. } => {
                "the bot retries after the wait; close other programs that use this account"
            }
            Self::Page => {
                "check CSGOROLL_HTTP_URL; if it is right, open the market in your browser and \
                 see whether it is under maintenance or shows a challenge"
            }
            Self::Status { status: 500.. } => {
                "the market has a fault, and the bot retries; if it persists, check in your browser \
                 whether the market is up"
            }
            Self::Status { .. } => {
                "check CSGOROLL_HTTP_URL; if it is right, the market has changed and this version \
                 cannot read it"
            }
            Self::Http(error) => error.remedy(),
            Self::Response(ReadError::MarketError(_)) => {
                "check the market in your browser; if it works there, the market has changed \
                 and this version cannot read it"
            }
            Self::Response(_) => {
                "check CSGOROLL_HTTP_URL with `sniper doctor`; if it is right, the market has \
                 changed and this version cannot read it"
            }
            Self::Balance(_) => {
                "check your balance at the market; if it is shown there, the market has changed and \
                 this version cannot read it"
            }
            Self::UserId => "please report this",
        }
    }

    /// Returns the cause for the user.
    pub fn cause(&self) -> FailureCause {
        let text = match self {
            Self::Wait { retry_after: Some(wait), .. } => {
                format!("{self}: {} s", wait.as_secs())
            }
            _ => self.to_string(),
        };
        let key = match self {
            Self::Response(ReadError::MarketError(message)) => {
                // A request id or a time in the message does not change the cause.
                let message = message.chars().filter(|char| !char.is_ascii_digit());
                message.take(MESSAGE_CHARS_MAX).collect()
            }
            Self::Balance(BalanceError::Text(_)) => "text".to_owned(),
            Self::Balance(BalanceError::OutOfRange(_)) => "out of range".to_owned(),
            _ => self.to_string(),
        };
        FailureCause::new(key, &text, self.remedy())
    }

    /// Returns `true` if the same read may succeed later without intervention by the user.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::Http(_) | Self::Wait { .. } => true,
            Self::Status { status } => 500 <= *status,
            Self::NoCredential
            | Self::SignedOut
            | Self::Challenge
            | Self::Forbidden { .. }
            | Self::Page
            | Self::Response(_)
            | Self::Balance(_)
            | Self::UserId => false,
        }
    }

    /// Returns the wait that the market requested.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Wait { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn market_error(message: &str) -> FailureCause {
        ReadFailure::Response(ReadError::MarketError(message.to_owned())).cause()
    }

    #[test]
    fn changing_figures_are_the_same_cause_and_other_statuses_are_not() {
        assert!(market_error("busy (request 17)").is_same(&market_error("busy (request 18)")));
        assert!(!market_error("busy").is_same(&market_error("closed")));
        let text = |text: &str| ReadFailure::Balance(BalanceError::Text(text.to_owned())).cause();
        assert!(text("1000.0").is_same(&text("990.0")));
        let status = |status| ReadFailure::Status { status }.cause();
        assert!(!status(500).is_same(&status(502)));
        let wait = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            ReadFailure::Wait { status: 429, retry_after }.cause()
        };
        assert!(wait(9).is_same(&wait(8)));
        assert_eq!(wait(9).text(), "the market asks to wait (HTTP 429): 9 s");
    }

    #[test]
    fn site_text_is_escaped_and_truncated() {
        let cause = market_error(&"\u{1b}[2J".repeat(1_000));
        assert!(cause.text().chars().all(crate::text::is_safe_to_print), "{cause:?}");
        assert!(cause.text().len() < 4_000, "{cause:?}");
    }
}
