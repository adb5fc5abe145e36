//! Why a connection failed or ended, and what that says about the next one.
//!
//! The error carries the decision: [`FeedError::verdict`] is one exhaustive `match`, and nobody
//! else looks at close codes, statuses or error kinds. A message never repeats what
//! [`std::error::Error::source`] returns, and never holds a header of ours.
#![warn(clippy::wildcard_enum_match_arm)]

use std::{error::Error, fmt, io, time::Duration};

use super::policy::{self, RetryDecision};
use crate::{
    net::{dial::DialError, tls::TlsError},
    text::Escaped,
};

/// The steps of making a connection, all within one deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectStep {
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

impl fmt::Display for ConnectStep {
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
pub struct UpgradeRejection {
    /// The HTTP status.
    pub status: u16,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether it is a challenge for a browser: `cf-mitigated`, or a 403 in HTML.
    pub is_challenge: bool,
    /// Whether it is a web page.
    pub is_html: bool,
}

/// Where the address and the credential of a feed come from, so that advice names what the user can
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingNames {
    /// The setting or option that holds the address.
    pub address: &'static str,
    /// Whether a cookie of the user's is sent.
    pub has_cookie: bool,
}

impl SettingNames {
    /// The marketplace's feed.
    pub const MARKETPLACE: Self = Self { address: "CSGOROLL_WS_URL", has_cookie: true };
    /// A feed whose address the caller of the library has chosen.
    pub const CALLER: Self = Self { address: "the address", has_cookie: false };
}

/// Which rule of RFC 6455 a server broke, by the code that the socket is closed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// 1002: framing.
    Protocol,
    /// 1007: text that is not UTF-8.
    NotUtf8,
    /// 1009: a message over the size limit.
    TooBig,
}

impl ProtocolViolation {
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
        step: ConnectStep,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke on the way to the WebSocket.
    #[error("the connection broke during {step}")]
    Broken {
        /// Where.
        step: ConnectStep,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server did not grant the upgrade.
    #[error("{}", describe_refusal(.0))]
    Refused(UpgradeRejection),
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
        violation: ProtocolViolation,
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

fn describe_refusal(refusal: &UpgradeRejection) -> String {
    let status = refusal.status;
    let what = match (status, refusal.is_html) {
        _ if refusal.is_challenge => "blocked: a challenge page instead of a WebSocket",
        (401, _) => "not signed in",
        (418, _) => "this IP address is banned for too many requests (\"I'm a teapot\")",
        (429, _) => "too many requests (rate limit)",
        (451, _) => "unavailable for legal reasons or in this region",
        (403, _) => "blocked",
        (500..=599, true) => "a web page (maintenance or an error page) instead of a WebSocket",
        (_, true) => "a web page instead of a WebSocket",
        (300..=399, _) => "redirected elsewhere: there is no feed at this address",
        (404 | 410 | 426, _) => "there is no feed at this address",
        (503, _) => "the service is unavailable",
        _ => return format!("HTTP {status} instead of a WebSocket"),
    };
    format!("HTTP {status}: {what}")
}

/// What an empty reason of a close is shown as: what its code means by RFC 6455.
const fn meaning_of(code: u16) -> &'static str {
    match code {
        1000 => "clean close",
        1001 => "going away",
        NO_CODE => "no code given",
        1008 => "policy violation",
        1011 => "internal error",
        1012 => "service restart",
        1013 => "try again later",
        _ => "no reason given",
    }
}

/// How a close without a code is shown, after RFC 6455 7.1.5.
const NO_CODE: u16 = 1005;

impl FeedError {
    /// A server's close.
    pub(crate) fn from_close(code: Option<u16>, reason: &str) -> Self {
        let reason =
            if reason.is_empty() { String::new() } else { format!(": {}", Escaped(reason)) };
        Self::Closed { code: code.unwrap_or(NO_CODE), reason }
    }

    /// Whether the server closed the connection without a complaint: 1000, 1001 or without a code.
    pub const fn is_clean_close(&self) -> bool {
        matches!(self, Self::Closed { code: 1000 | 1001 | NO_CODE, .. })
    }

    /// A clean close as a success.
    pub(crate) fn unless_clean(self) -> Result<(), Self> {
        if self.is_clean_close() { Ok(()) } else { Err(self) }
    }

    /// What the user can do about it, where that is not waiting.
    pub fn advice(&self, origins: SettingNames) -> Option<String> {
        let Self::Refused(refusal) = self else {
            let is_other = matches!(self, Self::Handshake { .. } | Self::Subprotocol { .. });
            return is_other.then(|| format!("check {}", origins.address));
        };
        let SettingNames { address, has_cookie } = origins;
        let browser = || {
            format!(
                "open the site in your browser, pass the challenge there if there is one, and copy \
                 the cookie again; if the site works there, check {address}"
            )
        };
        Some(match (refusal.status, refusal.is_html) {
            _ if refusal.is_challenge && has_cookie => browser(),
            (401, _) if has_cookie => {
                "copy the `session` cookie from your browser again".to_owned()
            }
            (418, _) => {
                "wait until the ban is over; every request before then may prolong it".to_owned()
            }
            (451, _) => format!("if another address serves this region, set {address} to it"),
            (429 | 500..=599, _) => return None,
            (403, _) | (_, true) if has_cookie => browser(),
            _ => format!("check {address}"),
        })
    }

    /// What it says about trying again.
    pub fn verdict(&self) -> RetryDecision {
        match self {
            Self::Closed { code, .. } => policy::of_close(Some(*code)),
            Self::Refused(UpgradeRejection { is_challenge: true, retry_after, .. }) => {
                policy::of_status(403, *retry_after)
            }
            Self::Refused(UpgradeRejection { status, retry_after, .. }) => {
                policy::of_status(*status, *retry_after)
            }
            Self::TlsSetUp(_)
            | Self::Handshake { .. }
            | Self::Subprotocol { .. }
            | Self::SessionRefused { .. } => RetryDecision::Park,
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
            | Self::Congested => RetryDecision::Retry,
        }
    }

    /// How long the server asks to wait, in `Retry-After`.
    pub const fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused(refusal) = self { refusal.retry_after } else { None }
    }

    /// Whether the marketplace keeps us out until a person has acted: buying must stop too.
    pub const fn is_blocked(&self) -> bool {
        if let Self::Refused(refusal) = self {
            let is_told_to_wait = matches!(refusal.status, 418 | 429 | 500..=599);
            return refusal.is_challenge
                || matches!(refusal.status, 401 | 403 | 451)
                || refusal.is_html && !is_told_to_wait;
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
            let reason = reason.strip_prefix(": ").unwrap_or(meaning_of(*code));
            return (*code, reason.to_owned());
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

    fn refused(status: u16, is_html: bool) -> FeedError {
        let is_challenge = is_html && status == 403;
        FeedError::Refused(UpgradeRejection { status, retry_after: None, is_challenge, is_html })
    }

    #[test]
    fn a_message_does_not_repeat_its_source() {
        let io = || io::Error::other("the very words");
        for error in [
            FeedError::Dial(DialError::Connect(io())),
            FeedError::Tls(io()),
            FeedError::Lost(io()),
            FeedError::Broken { step: ConnectStep::Upgrade, source: io() },
        ] {
            assert!(!error.to_string().contains("very words"), "{error}");
            assert_eq!(error.chain().matches("very words").count(), 1, "{error:?}");
        }
    }

    #[test]
    fn a_page_where_a_websocket_should_be_is_parked_and_blocks() {
        for status in [200, 403, 400] {
            assert_eq!(refused(status, true).verdict(), RetryDecision::Park);
            assert!(refused(status, true).is_blocked());
        }
        assert_eq!(refused(502, true).verdict(), RetryDecision::Retry);
        assert!(!refused(502, true).is_blocked());
        assert!(!refused(429, true).is_blocked());
    }

    #[test]
    fn a_broken_rule_is_retried_but_a_servers_complaint_is_parked() {
        let violation = FeedError::Violation {
            violation: ProtocolViolation::TooBig,
            source: io::Error::other("too big").into(),
        };
        assert_eq!(violation.verdict(), RetryDecision::Retry);
        let complaint = FeedError::from_close(Some(1009), "");
        assert_eq!(complaint.verdict(), RetryDecision::Park);
    }

    #[test]
    fn what_the_server_says_is_made_harmless() {
        let error = FeedError::from_close(Some(4999), "a\u{1b}[2Jb");
        assert_eq!(error.to_string(), "closed by the server with 4999: a\\u{1b}[2Jb");
        assert_eq!(error.code_and_reason(), (4999, "a\\u{1b}[2Jb".to_owned()));
    }

    #[test]
    fn clean_closes_are_no_errors() {
        for code in [None, Some(1000), Some(1001)] {
            assert!(FeedError::from_close(code, "bye").unless_clean().is_ok());
        }
        assert!(FeedError::from_close(Some(1008), "bye").unless_clean().is_err());
    }

    #[test]
    fn every_close_keeps_its_own_code_and_reason_also_a_clean_one() {
        for (code, reason, shown, is_clean) in [
            (Some(1000), "", (1000, "clean close"), true),
            (Some(1000), "bye", (1000, "bye"), true),
            (Some(1001), "", (1001, "going away"), true),
            (Some(1001), "see you", (1001, "see you"), true),
            (None, "", (1005, "no code given"), true),
            (Some(1008), "Pong timeout", (1008, "Pong timeout"), false),
            (Some(4999), "", (4999, "no reason given"), false),
        ] {
            let close = FeedError::from_close(code, reason);
            assert_eq!(close.code_and_reason(), (shown.0, shown.1.to_owned()));
            assert_eq!(close.is_clean_close(), is_clean, "{close}");
            assert_eq!(close.unless_clean().is_ok(), is_clean);
        }
        let close = FeedError::from_close(Some(1001), "see you");
        assert_eq!(close.to_string(), "closed by the server with 1001: see you");
    }

    #[test]
    fn a_refusal_is_named_as_what_it_is() {
        for (status, is_html, named) in [
            (401, false, "not signed in"),
            (403, true, "a challenge page"),
            (403, false, "blocked"),
            (404, false, "there is no feed at this address"),
            (418, false, "this IP address is banned"),
            (418, true, "this IP address is banned"),
            (429, true, "too many requests (rate limit)"),
            (451, false, "legal reasons or in this region"),
            (200, true, "a web page instead of a WebSocket"),
            (503, true, "a web page (maintenance"),
            (503, false, "the service is unavailable"),
            (302, false, "redirected elsewhere"),
            (400, false, "HTTP 400 instead of a WebSocket"),
        ] {
            let text = refused(status, is_html).to_string();
            assert!(text.contains(named) && text.contains(&status.to_string()), "{text}");
        }
    }

    #[test]
    fn advice_names_the_setting_of_the_feed_that_was_refused() {
        let spot = SettingNames { address: "--binance-spot", has_cookie: false };
        let mut refusals: Vec<FeedError> = Vec::new();
        for status in (200..600).filter(|status| *status != 101) {
            refusals.extend([refused(status, false), refused(status, true)]);
        }
        refusals.push(FeedError::Subprotocol { wanted: "x" });
        refusals.push(FeedError::Handshake { what: "x" });
        for error in refusals {
            let public = error.advice(spot).unwrap_or_default() + &error.to_string();
            for other in ["CSGOROLL", "cookie", "browser"] {
                assert!(!public.contains(other), "{public}");
            }
        }
        let advice = |status, origins| refused(status, false).advice(origins);
        assert_eq!(advice(404, spot).as_deref(), Some("check --binance-spot"));
        let market = SettingNames::MARKETPLACE;
        assert_eq!(advice(404, market).as_deref(), Some("check CSGOROLL_WS_URL"));
        assert!(advice(401, market).is_some_and(|advice| advice.contains("cookie")));
        assert_eq!(advice(429, market), None);
    }
}
