//! Why something about the account could not be read, and what that means for buying.

use std::time::Duration;

use super::health::FailureCause;
use crate::{
    domain::outcome::RejectReason,
    markets::csgoroll::account::{BalanceError, ReadError},
    net::http_client::{HttpError, HttpReply},
};

/// How many characters of the site's words tell one refusal from another.
const WORDS_CHARS_MAX: usize = 60;

/// Why a read failed. It displays the cause; [`remedy`](Self::remedy) says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// Nobody is signed in: no credential is set.
    #[error("no credential is set")]
    NoCredential,
    /// A credential is set, and the site does not take it.
    #[error("the session has expired or is not known to the site")]
    SignedOut,
    /// A page for people stands in the way.
    #[error("a challenge page was sent instead of an answer")]
    Challenge,
    /// 401 or 403 without a challenge.
    #[error("access was denied (HTTP {status})")]
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
    /// HTML where JSON should be, with status 200.
    #[error("a web page (HTML) was sent instead of an answer in JSON")]
    Page,
    /// Another status than 200.
    #[error("the answer has status HTTP {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer of no use.
    #[error(transparent)]
    Answer(#[from] ReadError),
    /// The answer does not tell the balance.
    #[error(transparent)]
    Balance(#[from] BalanceError),
    /// The account's id could not stand in a query.
    #[error("the account's id is of an unknown form; this version cannot read its purchases")]
    UserId,
}

impl ReadFailure {
    /// What stands in the way of reading this answer, judged by its status.
    pub(crate) const fn of(reply: &HttpReply) -> Option<Self> {
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

    /// How a buy would be refused for the same reason. Where this halts buying, so does the read.
    pub const fn refusal(&self) -> Option<RejectReason> {
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

    /// What the user can do about it.
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
                "it is read again after the wait; close other programs that use this account"
            }
            Self::Page => {
                "check CSGOROLL_HTTP_URL; if it is right, open the site in your browser and see \
                 whether it is under maintenance or shows a challenge"
            }
            Self::Status { status: 500.. } => {
                "the site has a fault of its own, and it is tried again; if it stays so, check in \
                 your browser whether the site is up"
            }
            Self::Status { .. } => {
                "check CSGOROLL_HTTP_URL; if it is right, the site has changed and this version \
                 cannot read it"
            }
            Self::Http(error) => error.remedy(),
            Self::Answer(ReadError::Refused(_)) => {
                "look at the site in your browser; if all is well there, the site has changed and \
                 this version cannot read it"
            }
            Self::Answer(_) => {
                "check CSGOROLL_HTTP_URL with `sniper doctor`; if it is right, the site has \
                 changed and this version cannot read it"
            }
            Self::Balance(_) => {
                "look at your balance at the site; if it is shown there, the site has changed and \
                 this version cannot read it"
            }
            Self::UserId => "please report this",
        }
    }

    /// The cause, for the user.
    pub fn cause(&self) -> FailureCause {
        let text = match self {
            Self::Wait { retry_after: Some(wait), .. } => {
                format!("{self}: {} s", wait.as_secs())
            }
            _ => self.to_string(),
        };
        let key = match self {
            Self::Answer(ReadError::Refused(words)) => {
                // A request id or a time in the words makes no other cause.
                let words = words.chars().filter(|char| !char.is_ascii_digit());
                words.take(WORDS_CHARS_MAX).collect()
            }
            Self::Balance(BalanceError::Text(_)) => "text".to_owned(),
            Self::Balance(BalanceError::OutOfRange(_)) => "out of range".to_owned(),
            _ => self.to_string(),
        };
        FailureCause::new(key, &text, self.remedy())
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
            | Self::Page
            | Self::Answer(_)
            | Self::Balance(_)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> FailureCause {
        ReadFailure::Answer(ReadError::Refused(words.to_owned())).cause()
    }

    #[test]
    fn figures_that_change_make_no_other_cause_and_other_statuses_do() {
        assert!(refused("busy (request 17)").is_same(&refused("busy (request 18)")));
        assert!(!refused("busy").is_same(&refused("closed")));
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
    fn the_words_of_the_site_are_shown_escaped_and_cut() {
        let cause = refused(&"\u{1b}[2J".repeat(1_000));
        assert!(cause.text().chars().all(crate::text::is_harmless), "{cause:?}");
        assert!(cause.text().len() < 4_000, "{cause:?}");
    }
}
