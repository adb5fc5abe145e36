//! Why a connection failed or ended, and what that says about the next one.
//!
//! The error carries the decision: [`FeedError::verdict`] is one exhaustive `match`, and nobody
//! else looks at close codes, statuses or error kinds. A message never repeats what
//! [`std::error::Error::source`] returns, and never holds a header of ours.
#![warn(clippy::wildcard_enum_match_arm)]

use std::{error::Error, fmt, io, time::Duration};

use super::policy::{self, Verdict};
use crate::{
    net::{dial::DialError, tls::TlsError},
    text::Escaped,
};

/// The steps of making a connection, all within one deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Name server and TCP.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The HTTP request that becomes a WebSocket.
    Upgrade,
    /// `connection_init` until `connection_ack`.
    Ack,
    /// Writing the subscriptions.
    Subscribe,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "reaching the server",
            Self::Tls => "the TLS handshake",
            Self::Upgrade => "the upgrade to a WebSocket",
            Self::Ack => "the acknowledgement",
            Self::Subscribe => "writing the subscriptions",
        })
    }
}

/// How a server answered an upgrade that it did not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether it is a challenge page, or any page where a WebSocket should be.
    pub is_page: bool,
}

/// Which rule of RFC 6455 a server broke, by the code that the socket is closed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// 1002: framing.
    Protocol,
    /// 1007: text that is not UTF-8.
    NotUtf8,
    /// 1009: a message over the size limit.
    TooBig,
}

impl Violation {
    /// The close code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
        }
    }
}

/// Why a connection was not made, or ended otherwise than by a clean close.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// DNS or TCP.
    #[error("no connection")]
    Dial(#[source] DialError),
    /// A transport of the caller's own failed to connect.
    #[error("no connection")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
    /// TLS cannot even be tried.
    #[error("TLS is not possible")]
    TlsSetUp(#[source] TlsError),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed; if the address is right, something between is in the way")]
    Tls(#[source] io::Error),
    /// The one deadline on the whole way passed.
    #[error("{step} was not done within {after:?}")]
    Deadline {
        /// Where it got stuck.
        step: Step,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke on the way to the WebSocket.
    #[error("the connection broke during {step}")]
    Broken {
        /// Where.
        step: Step,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server did not grant the upgrade.
    #[error("{}", describe_refusal(.0))]
    Refused(Refusal),
    /// An answer to the upgrade that is not one.
    #[error("the answer to the upgrade is not a WebSocket's: {what}")]
    Handshake {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The server did not choose the protocol that was asked for.
    #[error("the server does not speak the protocol {wanted:?}")]
    Subprotocol {
        /// What was asked for.
        wanted: &'static str,
    },
    /// The server refused the session in the language of the protocol.
    #[error("the server refused the session: {reason}")]
    SessionRefused {
        /// Its words, made harmless.
        reason: String,
    },
    /// The server closed the connection with a code other than a clean one.
    #[error("closed by the server with {code}{reason}")]
    Closed {
        /// Its code.
        code: u16,
        /// Its words, made harmless, with a leading colon; or empty.
        reason: String,
    },
    /// The connection ended without a close.
    #[error("the connection was cut")]
    Cut,
    /// The connection broke.
    #[error("the connection broke")]
    Lost(#[source] io::Error),
    /// The server broke a rule of RFC 6455.
    #[error("the server broke the WebSocket protocol; closed with {}", .violation.code())]
    Violation {
        /// Which.
        violation: Violation,
        /// The details.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Not a frame, not even an answer to a ping.
    #[error("silent for {0:?}, and a ping was not answered")]
    Silent(Duration),
    /// Pings are answered but the subscription delivers nothing, also after a fresh one.
    #[error("no data for {0:?}, also after subscribing again")]
    Idle(Duration),
    /// The server does not take what is written.
    #[error("a write was not done within {0:?}")]
    WriteStalled(Duration),
    /// More is waiting to be written than may.
    #[error("the server takes nothing, and too much is waiting to be written")]
    Congested,
}

fn describe_refusal(refusal: &Refusal) -> String {
    let status = refusal.status;
    match (status, refusal.is_page) {
        (401, _) => format!(
            "HTTP {status}: not signed in; copy the `session` cookie from your browser again"
        ),
        (403, _) | (200..=299 | 400..=499, true) => format!(
            "HTTP {status}: blocked; open the site in your browser, pass the challenge there if there is one, and copy the cookie again"
        ),
        (300..=399 | 404 | 426, _) => {
            format!("HTTP {status}: there is no feed at this address; check CSGOROLL_WS_URL")
        }
        (429, _) => format!("HTTP {status}: too many requests"),
        _ => format!("HTTP {status} instead of a WebSocket"),
    }
}

impl FeedError {
    /// A server's close, unless it is a clean one: 1000, 1001 or without a code.
    pub(crate) fn from_close(code: Option<u16>, reason: &str) -> Result<(), Self> {
        match code {
            None | Some(1000 | 1001 | 1005) => Ok(()),
            Some(code) => {
                let reason = if reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", Escaped(reason))
                };
                Err(Self::Closed { code, reason })
            }
        }
    }

    /// What it says about trying again.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Closed { code, .. } => policy::of_close(Some(*code)),
            Self::Refused(refusal) if refusal.is_page && refusal.status < 429 => Verdict::Park,
            Self::Refused(refusal) => policy::of_status(refusal.status, refusal.retry_after),
            Self::TlsSetUp(_)
            | Self::Handshake { .. }
            | Self::Subprotocol { .. }
            | Self::SessionRefused { .. } => Verdict::Park,
            Self::Dial(_)
            | Self::Transport(_)
            | Self::Tls(_)
            | Self::Deadline { .. }
            | Self::Broken { .. }
            | Self::Cut
            | Self::Lost(_)
            | Self::Violation { .. }
            | Self::Silent(_)
            | Self::Idle(_)
            | Self::WriteStalled(_)
            | Self::Congested => Verdict::Retry,
        }
    }

    /// Whether the marketplace keeps us out until a person has acted: buying must stop too.
    pub const fn is_blocked(&self) -> bool {
        if let Self::Refused(refusal) = self {
            return matches!(refusal.status, 401 | 403) || refusal.is_page && refusal.status < 429;
        }
        false
    }

    /// The error with everything behind it, on one line.
    pub fn chain(&self) -> String {
        use fmt::Write as _;
        let mut line = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            // Writing to a string cannot fail.
            let _infallible = write!(line, ": {error}");
            next = error.source();
        }
        line
    }

    /// The code and the reason of the line `Disconnected (code, reason)`.
    pub(crate) fn code_and_reason(&self) -> (u16, String) {
        if let Self::Closed { code, reason } = self {
            return (*code, reason.strip_prefix(": ").unwrap_or("no reason given").to_owned());
        }
        if let Self::Violation { violation, .. } = self {
            return (violation.code(), self.to_string());
        }
        (1006, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, is_page: bool) -> FeedError {
        FeedError::Refused(Refusal { status, retry_after: None, is_page })
    }

    #[test]
    fn a_message_does_not_repeat_its_source() {
        let io = || io::Error::other("the very words");
        for error in [
            FeedError::Dial(DialError::Connect(io())),
            FeedError::Tls(io()),
            FeedError::Lost(io()),
            FeedError::Broken { step: Step::Upgrade, source: io() },
        ] {
            assert!(!error.to_string().contains("very words"), "{error}");
            assert_eq!(error.chain().matches("very words").count(), 1, "{error:?}");
        }
    }

    #[test]
    fn a_page_where_a_websocket_should_be_is_parked_and_blocks() {
        for status in [200, 403, 400] {
            assert_eq!(refused(status, true).verdict(), Verdict::Park);
            assert!(refused(status, true).is_blocked());
        }
        assert_eq!(refused(502, true).verdict(), Verdict::Retry);
        assert!(!refused(502, true).is_blocked());
        assert!(!refused(429, true).is_blocked());
    }

    #[test]
    fn a_broken_rule_is_retried_but_a_servers_complaint_is_parked() {
        let violation = FeedError::Violation {
            violation: Violation::TooBig,
            source: io::Error::other("too big").into(),
        };
        assert_eq!(violation.verdict(), Verdict::Retry);
        let complaint = FeedError::from_close(Some(1009), "").unwrap_err();
        assert_eq!(complaint.verdict(), Verdict::Park);
    }

    #[test]
    fn what_the_server_says_is_made_harmless() {
        let error = FeedError::from_close(Some(4999), "a\u{1b}[2Jb").unwrap_err();
        assert_eq!(error.to_string(), "closed by the server with 4999: a\\u{1b}[2Jb");
        assert_eq!(error.code_and_reason(), (4999, "a\\u{1b}[2Jb".to_owned()));
    }

    #[test]
    fn clean_closes_are_no_errors() {
        for code in [None, Some(1000), Some(1001)] {
            assert!(FeedError::from_close(code, "bye").is_ok());
        }
    }
}
