//! Errors of reads of the account, and their consequences for buying.

use std::time::Duration;

use super::health::FailureCause;
use crate::{
    domain::outcome::RejectReason,
    markets::csgoroll::account::{BalanceError, ReadError},
    net::{http_client::HttpError, http_head::WebPage, http_message::HttpResponse},
};

/// Length of the prefix of a site message that identifies the cause, in characters.
const MESSAGE_CHARS_MAX: usize = 60;

/// Error of a read. Displays the cause; [`remedy`](Self::remedy) returns what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// No credential is set.
    #[error("no credential is set")]
    NoCredential,
    /// The site does not accept the credential.
    #[error("the session has expired or is not known to the site")]
    SignedOut,
    /// The site sent a challenge page.
    #[error("a challenge page was sent instead of an answer")]
    Challenge,
    /// 401 or 403 without a challenge.
    #[error("access was denied (HTTP {status})")]
    Forbidden { status: u16 },
    /// 429 or 503.
    #[error("the site asks to wait (HTTP {status})")]
    Wait { status: u16, retry_after: Option<Duration> },
    /// HTML instead of JSON, with status 200.
    #[error("a web page (HTML) was sent instead of an answer in JSON")]
    Page,
    /// Another status than 200.
    #[error("the answer has status HTTP {status}")]
    Status { status: u16 },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Answer(#[from] ReadError),
    /// The answer has no readable balance.
    #[error(transparent)]
    Balance(#[from] BalanceError),
    /// The account's id cannot be inserted into a query.
    #[error("the account's id is of an unknown form; this version cannot read its purchases")]
    UserId,
}

impl ReadFailure {
    /// Returns the error that a response without an answer indicates.
    pub(crate) fn from_response(response: &HttpResponse) -> Option<Self> {
        let head = response.head;
        match (head.status, response.page()) {
            (_, Some(WebPage::Challenge)) => Some(Self::Challenge),
            (200, Some(WebPage::Html)) => Some(Self::Page),
            (200, None) => None,
            (status @ (401 | 403), _) => Some(Self::Forbidden { status }),
            (status @ (429 | 503), _) => Some(Self::Wait { status, retry_after: head.retry_after }),
            (status, _) => Some(Self::Status { status }),
        }
    }

    /// Returns the reason for which an order would be rejected. If it halts buying, the failed read
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
            | Self::Answer(_)
            | Self::Balance(_)
            | Self::UserId => None,
        }
    }

    /// Returns what the user can do.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoCredential => "set CSGOROLL_SESSION in .env",
            Self::SignedOut => {
                "log in at the site with your browser, copy the new `session` cookie into \
                 CSGOROLL_SESSION in .env, and restart the bot"
            }
            Self::Challenge => {
                "open the site in your browser, pass the challenge, copy the whole Cookie header \
                 into CSGOROLL_COOKIE in .env, and restart the bot"
            }
            Self::Forbidden { .. } => {
                "check in your browser that you are logged in, copy the cookie into .env again, \
                 and restart the bot"
            }
            Self::Wait { .. } => {
                "the bot retries after the wait; close other programs that use this account"
            }
            Self::Page => {
                "check CSGOROLL_HTTP_URL; if it is right, open the site in your browser and see \
                 whether it is under maintenance or shows a challenge"
            }
            Self::Status { status: 500.. } => {
                "the site has a fault, and the bot retries; if it persists, check in your browser \
                 whether the site is up"
            }
            Self::Status { .. } => {
                "check CSGOROLL_HTTP_URL; if it is right, the site has changed and this version \
                 cannot read it"
            }
            Self::Http(error) => error.remedy(),
            Self::Answer(ReadError::SiteError(_)) => {
                "check the site in your browser; if it works there, the site has changed and this \
                 version cannot read it"
            }
            Self::Answer(_) => {
                "check CSGOROLL_HTTP_URL with `sniper doctor`; if it is right, the site has \
                 changed and this version cannot read it"
            }
            Self::Balance(_) => {
                "check your balance at the site; if it is shown there, the site has changed and \
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
            Self::Answer(ReadError::SiteError(message)) => {
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
            | Self::Answer(_)
            | Self::Balance(_)
            | Self::UserId => false,
        }
    }

    /// Returns the wait that the site requested.
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
    use crate::net::http_head::{ResponseHead, tests::PAGES};

    fn site_error(message: &str) -> FailureCause {
        ReadFailure::Answer(ReadError::SiteError(message.to_owned())).cause()
    }

    #[test]
    fn changing_figures_are_the_same_cause_and_other_statuses_are_not() {
        assert!(site_error("busy (request 17)").is_same(&site_error("busy (request 18)")));
        assert!(!site_error("busy").is_same(&site_error("closed")));
        let text = |text: &str| ReadFailure::Balance(BalanceError::Text(text.to_owned())).cause();
        assert!(text("1000.0").is_same(&text("990.0")));
        let status = |status| ReadFailure::Status { status }.cause();
        assert!(!status(500).is_same(&status(502)));
        let wait = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            ReadFailure::Wait { status: 429, retry_after }.cause()
        };
        assert!(wait(9).is_same(&wait(8)));
        assert_eq!(wait(9).text(), "the site asks to wait (HTTP 429): 9 s");
    }

    #[test]
    fn a_web_page_is_classified_like_everywhere_else() {
        for (status, headers, page) in PAGES {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            let head = ResponseHead::parse(status, headers);
            let failure = ReadFailure::from_response(&HttpResponse { head, body: Vec::new() });
            let is_challenge = matches!(failure, Some(ReadFailure::Challenge));
            assert_eq!(is_challenge, page == Some(WebPage::Challenge), "{head:?} {failure:?}");
            let is_page = matches!(failure, Some(ReadFailure::Page));
            assert_eq!(is_page, (status, page) == (200, Some(WebPage::Html)), "{head:?}");
        }
    }

    #[test]
    fn site_text_is_escaped_and_truncated() {
        let cause = site_error(&"\u{1b}[2J".repeat(1_000));
        assert!(cause.text().chars().all(crate::text::is_safe_to_print), "{cause:?}");
        assert!(cause.text().len() < 4_000, "{cause:?}");
    }
}
