//! Errors that prevent or end a connection, and their classification for the next attempt.
//!
//! [`FeedError::retry_decision`] is one exhaustive `match`, so a new error cannot be forgotten
//! there. A message never repeats [`std::error::Error::source`] and never contains the value of a
//! request header.
#![warn(clippy::wildcard_enum_match_arm)]

use std::{error::Error, fmt, io, time::Duration};

use super::{
    gaps::Seconds,
    policy::{self, RetryDecision},
};
use crate::{
    markets::{EnvironmentNames, Marketplace, PrepareError},
    net::{
        dial::DialError,
        http_client::HttpError,
        http_head::{ResponseHead, WebPage, block_remedy, rejection_meaning},
        http_message::InvalidHeader,
        tls::TlsError,
    },
    protocol::{FeedProtocol, is_about_access},
    text::Escaped,
};

/// Steps of a connection attempt, all within one deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectStep {
    #[default]
    Connect,
    Tls,
    /// HTTP request and response of the WebSocket upgrade.
    Upgrade,
    /// From `connection_init` to `connection_ack`.
    Ack,
    Subscribe,
}

impl fmt::Display for ConnectStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Tls => "TLS handshake",
            Self::Upgrade => "WebSocket upgrade",
            Self::Ack => "acknowledgment",
            Self::Subscribe => "subscribing",
        })
    }
}

/// Settings that hold the address and the credential of a feed, named in advice to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingNames {
    /// Setting or option that holds the address.
    pub address: &'static str,
    /// `true` if a cookie of the user is sent.
    pub has_cookie: bool,
    /// Setting that holds the API key, if there is one.
    pub key: Option<&'static str>,
}

impl SettingNames {
    /// Returns the names for the feed of a marketplace.
    pub const fn of<M: Marketplace>() -> Self {
        let EnvironmentNames { feed: address, credential, cookie, .. } =
            M::CAPABILITIES.environment;
        let has_cookie = cookie.is_some();
        Self { address, has_cookie, key: if has_cookie { None } else { Some(credential) } }
    }

    /// Returns what the user can do about a rejected credential. `page` follows for a key.
    fn credential_advice(self, page: &str) -> String {
        match self.key {
            Some(key) => format!(
                "check at the market that the key in {key} is valid and may be used from the IP \
                 address of this machine{page}"
            ),
            None if self.has_cookie => {
                "copy the `session` cookie from your browser again".to_owned()
            }
            None => format!("check {}", self.address),
        }
    }

    /// A feed whose address the caller of the library has chosen.
    pub const CALLER: Self = Self { address: "the address", has_cookie: false, key: None };
}

/// RFC 6455 rule that a server violated, by the close code.
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
    pub const fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
        }
    }
}

/// Error that prevented or ended a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The token of the connection could not be requested.
    #[error("no token for the connection")]
    Token(#[source] HttpError),
    /// The server sent no token.
    #[error("HTTP {} instead of a token for the connection", .0.status)]
    TokenRejected(ResponseHead),
    /// The marketplace could not prepare the connection.
    #[error("the connection could not be prepared")]
    Prepare(#[source] PrepareError),
    /// DNS or TCP failed.
    #[error("dial failed")]
    Dial(#[source] DialError),
    /// A custom [`Dial`](super::connect::Dial) failed to connect.
    #[error("dial failed")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
    /// The TLS configuration could not be built.
    #[error("TLS could not be set up")]
    TlsSetUp(#[source] TlsError),
    #[error("TLS handshake failed; check the address and any proxy in between")]
    Tls(#[source] io::Error),
    /// `connect_timeout` passed.
    #[error("timed out after {after:?} during {step}")]
    Deadline {
        /// Step that was in progress.
        step: ConnectStep,
        after: Duration,
    },
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// I/O error during the upgrade.
    #[error("the connection broke during {step}")]
    Broken {
        step: ConnectStep,
        #[source]
        source: io::Error,
    },
    /// The server rejected the upgrade.
    #[error("{}", describe_rejection(.0))]
    UpgradeRejected(ResponseHead),
    /// The response to the upgrade is not valid.
    #[error("invalid upgrade response: {what}")]
    Handshake { what: &'static str },
    /// The server did not select the requested subprotocol.
    #[error("the server does not support the subprotocol {requested:?}")]
    Subprotocol { requested: &'static str },
    /// The server rejected the session with a message of the subprotocol.
    #[error("the server rejected the session: {reason}")]
    SessionRejected {
        /// Text of the server, escaped.
        reason: String,
    },
    /// The server closed the connection.
    #[error("closed by the server with {code}{reason}")]
    Closed {
        code: u16,
        /// Text of the server, escaped, with a leading colon; or empty.
        reason: String,
        /// Whether a new connection may succeed, by the rules of the subscription protocol; `None`
        /// if they do not say.
        can_reconnect: Option<bool>,
    },
    /// The connection ended without a close frame.
    #[error("the connection was dropped")]
    Cut,
    /// I/O error of an established connection.
    #[error("the connection broke")]
    Lost(#[source] io::Error),
    /// The server violated RFC 6455.
    #[error("WebSocket protocol violation by the server; closed with {}", .violation.code())]
    Violation {
        violation: ProtocolViolation,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No frame arrived, not even an answer to a ping.
    #[error("silent for {}, ping not answered", Seconds(*.0))]
    Silent(Duration),
    /// Pings are answered but no data arrives, even after resubscribing.
    #[error("no data for {}, even after resubscribing", Seconds(*.0))]
    Idle(Duration),
    /// The server does not read.
    #[error("a write did not complete within {0:?}")]
    WriteStalled(Duration),
    /// The outbox is full.
    #[error("the server does not read: too many messages queued for writing")]
    Congested,
}

fn is_challenge(rejection: &ResponseHead) -> bool {
    rejection.page() == Some(WebPage::Challenge)
}

fn describe_rejection(rejection: &ResponseHead) -> String {
    let status = rejection.status;
    let meaning = rejection_meaning(status).filter(|_meaning| !is_challenge(rejection));
    if let Some(meaning) = meaning {
        return format!("HTTP {status}: {meaning}");
    }
    let what = match (status, rejection.html) {
        _ if is_challenge(rejection) => "blocked: a challenge page instead of a WebSocket",
        (401, _) => "not signed in",
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

/// Returns the meaning of a close code by RFC 6455, shown when the close has no reason.
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

/// Code that stands for a close without a code, RFC 6455 7.1.5.
const NO_CODE: u16 = 1005;

impl FeedError {
    /// Converts a received close frame.
    pub(crate) fn from_close(code: Option<u16>, reason: &str) -> Self {
        let reason =
            if reason.is_empty() { String::new() } else { format!(": {}", Escaped(reason)) };
        Self::Closed { code: code.unwrap_or(NO_CODE), reason, can_reconnect: None }
    }

    /// Converts a received close of a subscription protocol, whose codes may have a meaning of
    /// their own.
    pub(crate) fn from_close_of<P: FeedProtocol>(code: Option<u16>, reason: &str) -> Self {
        match (code.and_then(P::can_reconnect_after), Self::from_close(code, reason)) {
            (Some(can_reconnect), Self::Closed { code, reason, .. }) => {
                Self::Closed { code, reason, can_reconnect: Some(can_reconnect) }
            }
            (_, error) => error,
        }
    }

    /// Returns `true` for a close without a complaint: 1000, 1001 or no code.
    pub const fn is_clean_close(&self) -> bool {
        matches!(self, Self::Closed { code: 1000 | 1001 | NO_CODE, .. })
    }

    /// Converts a clean close to `Ok`.
    pub(crate) fn unless_clean(self) -> Result<(), Self> {
        if self.is_clean_close() { Ok(()) } else { Err(self) }
    }

    /// Returns what the user can do, or `None` if waiting is enough.
    pub fn advice(&self, setting_names: SettingNames) -> Option<String> {
        let Some(rejection) = self.rejection() else {
            if matches!(self, Self::Header(_)) {
                return Some("correct the setting of this header".to_owned());
            }
            if self.is_blocked() {
                return Some(setting_names.credential_advice(""));
            }
            let is_no_feed = matches!(self, Self::Handshake { .. } | Self::Subprotocol { .. });
            return is_no_feed.then(|| format!("check {}", setting_names.address));
        };
        let SettingNames { address, has_cookie, key } = setting_names;
        // A web page, too, is sent if the address is not bound to the key.
        if key.is_some() && (matches!(rejection.status, 401 | 403) || is_challenge(rejection)) {
            let page = match rejection.page() {
                Some(_) => "; if it is, see in your browser whether the market shows a challenge",
                None => "",
            };
            return Some(setting_names.credential_advice(page));
        }
        let browser = || {
            format!(
                "open the market in your browser, pass the challenge there if there is one, and \
                 copy the cookie again; if the market works there, check {address}"
            )
        };
        Some(match (rejection.status, rejection.html) {
            _ if is_challenge(rejection) && has_cookie => browser(),
            (401, _) => setting_names.credential_advice(""),
            (418 | 451, _) => return block_remedy(rejection.status, address),
            (429 | 500..=599, _) => return None,
            (403, _) | (_, true) if has_cookie => browser(),
            _ => format!("check {address}"),
        })
    }

    /// Classifies the error for the next attempt.
    pub fn retry_decision(&self) -> RetryDecision {
        match self {
            Self::Closed { can_reconnect: Some(true), .. } => RetryDecision::Retry,
            Self::Closed { can_reconnect: Some(false), .. } => RetryDecision::Suspend,
            Self::Closed { code, .. } => policy::of_close(Some(*code)),
            Self::UpgradeRejected(rejection) | Self::TokenRejected(rejection) => {
                let status = if is_challenge(rejection) { 403 } else { rejection.status };
                policy::of_status(status, rejection.retry_after)
            }
            Self::Prepare(PrepareError::Token { .. }) => RetryDecision::RetryLater,
            Self::Token(HttpError::SetUp(_) | HttpError::Header(_))
            | Self::Prepare(PrepareError::Setting { .. })
            | Self::TlsSetUp(_)
            | Self::Header(_)
            | Self::Handshake { .. }
            | Self::Subprotocol { .. }
            | Self::SessionRejected { .. } => RetryDecision::Suspend,
            Self::Token(_)
            | Self::Dial(_)
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

    /// Returns the value of `Retry-After`.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.rejection() {
            Some(rejection) => rejection.retry_after,
            None => None,
        }
    }

    /// Returns the response that rejected the upgrade or the token request.
    const fn rejection(&self) -> Option<&ResponseHead> {
        if let Self::UpgradeRejected(rejection) | Self::TokenRejected(rejection) = self {
            Some(rejection)
        } else {
            None
        }
    }

    /// Returns `true` if the market blocks access until the user acts. Ordering must stop too.
    pub fn is_blocked(&self) -> bool {
        if let Some(rejection) = self.rejection() {
            return rejection.page().is_some() || matches!(rejection.status, 401 | 403 | 451);
        }
        // A protocol that says whether to reconnect uses these close codes for something else.
        matches!(self, Self::Closed { code: 4401 | 4403, can_reconnect: None, .. })
            || matches!(self, Self::SessionRejected { reason } if is_about_access(reason))
    }

    /// Returns `true` if the market requires that a challenge be solved.
    pub fn is_challenge(&self) -> bool {
        self.rejection().is_some_and(is_challenge)
    }

    /// Returns `true` for HTML that is neither a challenge nor a rejected credential.
    pub fn is_web_page(&self) -> bool {
        matches!(self, Self::UpgradeRejected(rejection)
            if rejection.page() == Some(WebPage::Html) && !matches!(rejection.status, 401 | 451))
    }

    /// Returns the error with all its sources, on one line.
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

    /// Returns close code and reason for log lines; 1006 if there was no close frame.
    pub(crate) fn code_and_reason(&self) -> (u16, String) {
        if let Self::Closed { code, reason, .. } = self {
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
    use crate::protocol::{Centrifugo, GraphqlTransportWs};

    fn rejected(status: u16, is_html: bool) -> FeedError {
        let html: (&str, &[u8]) = ("Content-Type", b"text/html");
        let head = ResponseHead::parse(status, is_html.then_some(html).into_iter());
        FeedError::UpgradeRejected(head)
    }

    #[test]
    fn a_message_does_not_repeat_its_source() {
        let io = || io::Error::other("source text");
        for error in [
            FeedError::Dial(DialError::Connect(io())),
            FeedError::Tls(io()),
            FeedError::Lost(io()),
            FeedError::Broken { step: ConnectStep::Upgrade, source: io() },
        ] {
            assert!(!error.to_string().contains("source text"), "{error}");
            assert_eq!(error.chain().matches("source text").count(), 1, "{error:?}");
        }
    }

    #[test]
    fn a_credential_that_is_rejected_within_the_connection_blocks_and_has_the_advice_for_it() {
        let cookie = SettingNames { address: "SNIPER_WS_URL", has_cookie: true, key: None };
        let key = SettingNames { has_cookie: false, key: Some("SNIPER_KEY"), ..cookie };
        for error in [
            FeedError::SessionRejected { reason: "Not authorized".to_owned() },
            FeedError::from_close_of::<GraphqlTransportWs>(Some(4401), "Unauthorized"),
            FeedError::from_close_of::<GraphqlTransportWs>(Some(4403), "Forbidden"),
        ] {
            assert!(error.is_blocked(), "{error}");
            assert_eq!(error.advice(cookie), rejected(401, false).advice(cookie), "{error}");
            assert_eq!(error.advice(key), rejected(401, false).advice(key), "{error}");
        }
        for error in [
            FeedError::from_close_of::<Centrifugo>(Some(4403), ""),
            FeedError::SessionRejected { reason: "Internal server error".to_owned() },
            FeedError::SessionRejected { reason: "Too many connections for this key".to_owned() },
            FeedError::from_close_of::<GraphqlTransportWs>(Some(4400), ""),
            FeedError::Cut,
        ] {
            assert!(!error.is_blocked() && error.advice(key).is_none(), "{error}");
        }
    }

    #[test]
    fn an_html_page_suspends_retries_and_blocks() {
        for status in [200, 403, 400] {
            assert_eq!(rejected(status, true).retry_decision(), RetryDecision::Suspend);
            assert!(rejected(status, true).is_blocked());
            assert_eq!(rejected(status, true).is_web_page(), status != 403);
        }
        assert_eq!(rejected(502, true).retry_decision(), RetryDecision::Retry);
        assert!(!rejected(502, true).is_blocked());
        assert!(!rejected(429, true).is_blocked());
    }

    #[test]
    fn a_violation_is_retried_but_a_close_with_its_code_suspends_retries() {
        let violation = FeedError::Violation {
            violation: ProtocolViolation::TooBig,
            source: io::Error::other("too big").into(),
        };
        assert_eq!(violation.retry_decision(), RetryDecision::Retry);
        let complaint = FeedError::from_close(Some(1009), "");
        assert_eq!(complaint.retry_decision(), RetryDecision::Suspend);
    }

    #[test]
    fn a_protocol_may_give_close_codes_a_meaning_of_its_own() {
        let centrifugo = |code| FeedError::from_close_of::<Centrifugo>(Some(code), "");
        let graphql = |code| FeedError::from_close_of::<GraphqlTransportWs>(Some(code), "");
        for code in [3_000, 3_012, 3_499, 3_500, 4_000, 4_403, 4_499] {
            assert_eq!(centrifugo(code).retry_decision(), RetryDecision::Retry, "{code}");
        }
        for code in [3_501, 3_999, 4_500, 4_999] {
            assert_eq!(centrifugo(code).retry_decision(), RetryDecision::Suspend, "{code}");
        }
        for code in (1_000..=2_999).chain(5_000..=5_001) {
            assert_eq!(centrifugo(code).retry_decision(), policy::of_close(Some(code)), "{code}");
        }
        for code in 1_000..=5_000 {
            assert_eq!(graphql(code).retry_decision(), policy::of_close(Some(code)), "{code}");
        }
    }

    #[test]
    fn text_of_the_server_is_escaped() {
        let error = FeedError::from_close(Some(4999), "a\u{1b}[2Jb");
        assert_eq!(error.to_string(), "closed by the server with 4999: a\\u{1b}[2Jb");
        assert_eq!(error.code_and_reason(), (4999, "a\\u{1b}[2Jb".to_owned()));
    }

    #[test]
    fn clean_closes_are_not_errors() {
        for code in [None, Some(1000), Some(1001)] {
            assert!(FeedError::from_close(code, "bye").unless_clean().is_ok());
        }
        assert!(FeedError::from_close(Some(1008), "bye").unless_clean().is_err());
    }

    #[test]
    fn every_close_keeps_its_code_and_reason() {
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
    fn an_upgrade_rejection_is_described_by_status_and_content() {
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
            let text = rejected(status, is_html).to_string();
            assert!(text.contains(named) && text.contains(&status.to_string()), "{text}");
        }
    }

    #[test]
    fn advice_names_the_setting_of_the_rejected_feed() {
        let spot = SettingNames { address: "--binance-spot", has_cookie: false, key: None };
        let mut rejections: Vec<FeedError> = Vec::new();
        for status in (200..600).filter(|status| *status != 101) {
            rejections.extend([rejected(status, false), rejected(status, true)]);
        }
        rejections.push(FeedError::Subprotocol { requested: "x" });
        rejections.push(FeedError::Handshake { what: "x" });
        for error in rejections {
            let public = error.advice(spot).unwrap_or_default() + &error.to_string();
            for other in ["SNIPER", "cookie", "browser"] {
                assert!(!public.contains(other), "{public}");
            }
        }
        let advice = |status, setting_names| rejected(status, false).advice(setting_names);
        assert_eq!(advice(404, spot).as_deref(), Some("check --binance-spot"));
        let market = SettingNames { address: "SNIPER_WS_URL", has_cookie: true, key: None };
        assert_eq!(advice(404, market).as_deref(), Some("check SNIPER_WS_URL"));
        assert!(advice(401, market).is_some_and(|advice| advice.contains("cookie")));
        assert_eq!(advice(429, market), None);
        let with_key = SettingNames { has_cookie: false, key: Some("SNIPER_KEY"), ..market };
        for status in [401, 403] {
            for is_html in [false, true] {
                let advice = rejected(status, is_html).advice(with_key).unwrap();
                assert!(advice.contains("SNIPER_KEY") && !advice.contains("cookie"), "{advice}");
                assert_eq!(advice.contains("browser"), is_html, "{advice}");
            }
        }
        assert_eq!(advice(404, with_key).as_deref(), Some("check SNIPER_WS_URL"));
    }
}
