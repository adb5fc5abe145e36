//! Errors of reads of the account, their consequences for ordering, and the state of failing reads.
//!
//! A failing read is logged when it begins to fail, once for each further cause, and when it
//! succeeds again. `sniper status` lists the failing reads.

use std::{borrow::Cow, time::Duration};

use crate::{
    domain::account::BalanceError,
    domain::outcome::RejectReason,
    domain::time::UnixMs,
    markets::{AccountQueryError, EnvironmentNames, MarketApi, ReadError},
    net::{
        http_client::HttpError,
        http_head::{WebPage, block_remedy, rejection_meaning},
        http_message::HttpResponse,
    },
    secret,
    text::{Escaped, is_safe_to_print},
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
    Forbidden { status: u16, retry_after: Option<Duration> },
    /// 429 or 503.
    #[error("the market asks to wait (HTTP {status})")]
    Wait { status: u16, retry_after: Option<Duration> },
    /// HTML instead of JSON, with status 200.
    #[error("a web page (HTML) was sent instead of a JSON response")]
    Page,
    /// Any other status but 200.
    #[error("{}", describe_status(*.status))]
    Status { status: u16, retry_after: Option<Duration> },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Response(ReadError),
    /// The response has no readable balance.
    #[error(transparent)]
    Balance(#[from] BalanceError),
    #[error(transparent)]
    Query(#[from] AccountQueryError),
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::SignedOut => Self::SignedOut,
            other => Self::Response(other),
        }
    }
}

fn describe_status(status: u16) -> String {
    match rejection_meaning(status) {
        Some(meaning) => format!("HTTP {status}: {meaning}"),
        None => format!("the response has status HTTP {status}"),
    }
}

impl ReadFailure {
    /// Returns the error of a response that is no answer to the query; `None` for an answer.
    pub(crate) fn from_response<M: MarketApi>(response: &HttpResponse) -> Option<Self> {
        let head = response.head;
        let retry_after = head.retry_after;
        match (head.status, response.page()) {
            (_, Some(WebPage::Challenge)) => Some(Self::Challenge),
            (200, Some(WebPage::Html)) => Some(Self::Page),
            (200, None) => None,
            (status @ (401 | 403), _) => Some(Self::Forbidden { status, retry_after }),
            (429, _) => Some(Self::Wait { status: 429, retry_after: M::retry_after(response) }),
            (503, _) => Some(Self::Wait { status: 503, retry_after }),
            (status, _) => Some(Self::Status { status, retry_after }),
        }
    }

    /// Returns the rejection that an order would get for the same cause; a cause that halts
    /// ordering halts it here too.
    pub const fn reject_reason(&self, names: &EnvironmentNames) -> Option<RejectReason> {
        match self {
            Self::SignedOut => Some(RejectReason::Unauthenticated),
            // With a key, such a page usually means that the key is not bound to this address.
            Self::Challenge if names.cookie.is_none() => {
                Some(RejectReason::KeyRejected { status: 403 })
            }
            Self::Challenge => Some(RejectReason::Challenge),
            Self::Forbidden { status, .. } if names.cookie.is_none() => {
                Some(RejectReason::KeyRejected { status: *status })
            }
            Self::Forbidden { status, .. } => Some(RejectReason::Forbidden { status: *status }),
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
            | Self::Query(_) => None,
        }
    }

    /// Returns what the user can do.
    pub fn remedy(&self, names: &EnvironmentNames) -> String {
        let EnvironmentNames { http, credential, cookie, .. } = names;
        match self {
            Self::NoCredential => format!("set {credential} in .env"),
            Self::SignedOut if cookie.is_some() => format!(
                "log in at the market with your browser, copy the new `session` cookie into \
                 {credential} in .env, and restart the bot"
            ),
            Self::SignedOut => format!(
                "create a new key at the market, write it into {credential} in .env, and restart the \
                 bot"
            ),
            Self::Challenge => {
                let pass = "open the market in your browser, pass the challenge";
                match cookie {
                    Some(cookie) => format!(
                        "{pass}, copy the whole Cookie header into {cookie} in .env, and restart \
                         the bot"
                    ),
                    None => format!("{pass}, and restart the bot"),
                }
            }
            Self::Forbidden { .. } if cookie.is_some() => {
                "check in your browser that you are logged in, copy the cookie into .env again, \
                 and restart the bot"
                    .to_owned()
            }
            Self::Forbidden { .. } => format!(
                "check at the market that the key in {credential} is valid and may be used from this \
                 address, and restart the bot"
            ),
            Self::Wait { .. } => {
                "the bot retries after the wait; close other programs that use this account"
                    .to_owned()
            }
            Self::Page => format!(
                "check {http}; if it is right, open the market in your browser and see whether it is \
                 under maintenance or shows a challenge"
            ),
            Self::Status { status: 500.., .. } => {
                "the market has a fault, and the bot retries; if it persists, check in your browser \
                 whether the market is up"
                    .to_owned()
            }
            Self::Status { status, .. } => block_remedy(*status, http).unwrap_or_else(|| format!(
                "check {http}; if it is right, the market has changed and this version cannot read it"
            )),
            Self::Http(error) => error.remedy(http),
            Self::Response(ReadError::MarketError(_)) => {
                "check the market in your browser; if it works there, the market has changed and this \
                 version cannot read it"
                    .to_owned()
            }
            Self::Response(_) => format!(
                "check {http} with `sniper doctor`; if it is right, the market has changed and this \
                 version cannot read it"
            ),
            Self::Balance(_) => {
                "check your balance at the market; if it is shown there, the market has changed and \
                 this version cannot read it"
                    .to_owned()
            }
            Self::Query(AccountQueryError::Unsupported) => {
                "no action needed; this market has no such read".to_owned()
            }
            Self::Query(AccountQueryError::UserId) => "report this as a bug: the user id cannot be used in a query".to_owned(),
        }
    }

    /// Returns the cause for the user.
    pub fn cause(&self, names: &EnvironmentNames) -> FailureCause {
        let text = match self.retry_after() {
            Some(wait) => format!("{self}: {} s", wait.as_secs()),
            None => self.to_string(),
        };
        let key = match self {
            Self::Response(ReadError::MarketError(message)) => {
                // A request id or a time in the message does not change the cause.
                let message = message.chars().filter(|char| !char.is_ascii_digit());
                message.take(MESSAGE_CHARS_MAX).collect()
            }
            Self::Balance(error) => error.key().to_owned(),
            _ => self.to_string(),
        };
        FailureCause::new(key, &text, self.remedy(names))
    }

    /// Returns `true` if the same read may succeed later without intervention by the user.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::Http(_) | Self::Wait { .. } => true,
            Self::Status { status, .. } => 500 <= *status,
            Self::NoCredential
            | Self::SignedOut
            | Self::Challenge
            | Self::Forbidden { .. }
            | Self::Page
            | Self::Response(_)
            | Self::Balance(_)
            | Self::Query(_) => false,
        }
    }

    /// Returns the wait that the market requested.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Wait { retry_after, .. }
            | Self::Forbidden { retry_after, .. }
            | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Maximum length of a cause, in characters.
const CAUSE_CHARS_MAX: usize = 400;

/// Kind of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// The user and the balance.
    Balance,
    /// The list of own purchases back to the oldest open order.
    Purchases,
    /// The prices in that list.
    Prices,
    /// The rest of the list, for purchases of the last days.
    History,
    /// Orders by their own ids.
    Orders,
}

/// Cause of a failed read, safe to print, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCause {
    /// Identifies the cause, without figures that change with every read.
    pub(super) key: String,
    text: String,
    remedy: Cow<'static, str>,
}

/// Read whose last attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingRead {
    pub since: UnixMs,
    pub cause: FailureCause,
    /// Keys of the causes that were reported since then, at most [`REPORTED_MAX`].
    reported: Vec<String>,
}

/// Maximum number of causes of one failing read that are remembered.
const REPORTED_MAX: usize = 16;

/// State of all reads.
#[derive(Debug, Default)]
pub struct ReadHealth {
    failing: [Option<FailingRead>; ReadKind::ALL.len()],
}

impl ReadKind {
    pub const ALL: [Self; 5] =
        [Self::Balance, Self::Purchases, Self::Prices, Self::History, Self::Orders];

    /// Returns `true` if orders need it.
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Balance | Self::Purchases)
    }

    /// Returns the name that messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Purchases => "own purchases",
            Self::Prices => "prices of own purchases",
            Self::History => "history of own purchases",
            Self::Orders => "orders by their own ids",
        }
    }
}

impl FailureCause {
    /// Creates a cause. Masks credentials in `text`, and cuts it, or escapes it if it is not safe
    /// to print.
    pub fn new(key: String, text: &str, remedy: impl Into<Cow<'static, str>>) -> Self {
        let masked = secret::mask(text);
        let text = if masked.chars().all(is_safe_to_print) {
            masked.chars().take(CAUSE_CHARS_MAX).collect()
        } else {
            Escaped(&masked).to_string()
        };
        Self { key, text, remedy: remedy.into() }
    }

    /// Appends a detail to the text.
    #[must_use]
    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.text.push_str(detail);
        self
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl ReadHealth {
    /// Records a failed read. Returns `true` if it should be reported, because the read has not
    /// failed for this cause since its last success.
    pub fn on_failure(&mut self, read: ReadKind, cause: FailureCause, now: UnixMs) -> bool {
        let slot = self.slot(read);
        let (since, mut reported) =
            slot.take().map_or((now, Vec::new()), |before| (before.since, before.reported));
        let is_new = !reported.contains(&cause.key);
        if is_new && reported.len() < REPORTED_MAX {
            reported.push(cause.key.clone());
        }
        *slot = Some(FailingRead { since, cause, reported });
        is_new
    }

    /// Records a successful read. Returns the duration of the failure that it ends.
    pub fn on_success(&mut self, read: ReadKind, now: UnixMs) -> Option<Duration> {
        self.slot(read).take().map(|failing| now.since(failing.since))
    }

    /// Returns the failing reads.
    pub fn failing(&self) -> impl Iterator<Item = (ReadKind, &FailingRead)> {
        let slots = ReadKind::ALL.into_iter().zip(&self.failing);
        slots.filter_map(|(read, slot)| Some((read, slot.as_ref()?)))
    }

    fn slot(&mut self, read: ReadKind) -> &mut Option<FailingRead> {
        let [balance, purchases, prices, history, orders] = &mut self.failing;
        match read {
            ReadKind::Balance => balance,
            ReadKind::Purchases => purchases,
            ReadKind::Prices => prices,
            ReadKind::History => history,
            ReadKind::Orders => orders,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::time::UnixMs,
        markets::{csgoroll::Csgoroll, waxpeer::Waxpeer},
        net::http_head::ResponseHead,
        net::http_head::tests::PAGES,
    };

    const NAMES: EnvironmentNames = EnvironmentNames {
        feed: "SITE_WS_URL",
        http: "SITE_URL",
        credential: "SITE_KEY",
        cookie: None,
    };

    fn status(status: u16) -> ReadFailure {
        ReadFailure::Status { status, retry_after: None }
    }

    #[test]
    fn a_remedy_names_the_variables_of_the_marketplace() {
        let with_cookie = EnvironmentNames { cookie: Some("SITE_COOKIE"), ..NAMES };
        for (failure, names, expected) in [
            (ReadFailure::NoCredential, NAMES, "set SITE_KEY in .env"),
            (ReadFailure::SignedOut, NAMES, "write it into SITE_KEY"),
            (ReadFailure::SignedOut, with_cookie, "`session` cookie into SITE_KEY"),
            (ReadFailure::Challenge, with_cookie, "Cookie header into SITE_COOKIE"),
            (ReadFailure::Challenge, NAMES, "pass the challenge, and restart"),
            (
                ReadFailure::Forbidden { status: 403, retry_after: None },
                NAMES,
                "the key in SITE_KEY",
            ),
            (status(404), NAMES, "check SITE_URL;"),
            (status(418), NAMES, "wait until the ban is over"),
            (status(451), NAMES, "set SITE_URL to it"),
            (ReadFailure::Http(HttpError::TooLong), NAMES, "that SITE_URL is the address"),
        ] {
            let remedy = failure.cause(&names).remedy().to_owned();
            assert!(remedy.contains(expected), "{failure:?}: {remedy}");
        }
    }

    fn market_error(message: &str) -> FailureCause {
        ReadFailure::Response(ReadError::MarketError(message.to_owned())).cause(&NAMES)
    }

    #[test]
    fn changing_figures_are_the_same_cause_and_other_statuses_are_not() {
        let of_message = |message: &str| market_error(message).key;
        assert_eq!(of_message("busy (request 17)"), of_message("busy (request 18)"));
        assert_ne!(of_message("busy"), of_message("closed"));
        let text = |text| ReadFailure::Balance(BalanceError::new("text", text)).cause(&NAMES);
        assert_eq!(text("1000.0").key, text("990.0").key);
        let cause = |number| status(number).cause(&NAMES);
        assert_ne!(cause(500).key, cause(502).key);
        let wait = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            ReadFailure::Wait { status: 429, retry_after }.cause(&NAMES)
        };
        assert_eq!(wait(9).key, wait(8).key);
        assert_eq!(wait(9).text(), "the market asks to wait (HTTP 429): 9 s");
    }

    #[test]
    fn a_web_page_is_classified_like_everywhere_else() {
        for (status, headers, page) in PAGES {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            let head = ResponseHead::parse(status, headers);
            let response = HttpResponse { head, body: Vec::new() };
            let failure = ReadFailure::from_response::<Csgoroll>(&response);
            let is_challenge = matches!(failure, Some(ReadFailure::Challenge));
            assert_eq!(is_challenge, page == Some(WebPage::Challenge), "{head:?} {failure:?}");
            let is_page = matches!(failure, Some(ReadFailure::Page));
            assert_eq!(is_page, (status, page) == (200, Some(WebPage::Html)), "{head:?}");
        }
    }

    #[test]
    fn the_wait_of_a_read_is_read_in_the_form_of_the_market() {
        let response = |headers: &[(&str, &str)]| HttpResponse {
            head: ResponseHead::parse(
                429,
                headers.iter().map(|(name, value)| (*name, value.as_bytes())),
            ),
            body: br#"{"msBeforeNext":90500}"#.to_vec(),
        };
        let header = [("Retry-After", "7")];
        let ms = |failure: Option<ReadFailure>| {
            failure.and_then(|failure| failure.retry_after()).map(|wait| wait.as_millis())
        };
        assert_eq!(ms(ReadFailure::from_response::<Waxpeer>(&response(&[]))), Some(90_500));
        assert_eq!(ms(ReadFailure::from_response::<Waxpeer>(&response(&header))), Some(7_000));
        assert_eq!(ms(ReadFailure::from_response::<Csgoroll>(&response(&[]))), None);
    }

    #[test]
    fn the_wait_that_a_response_requests_is_kept_with_every_status() {
        for status in [400, 401, 403, 404, 408, 418, 425, 426, 429, 451, 500, 502, 503, 504] {
            let headers = [("Retry-After", &b"7200"[..])];
            let head = ResponseHead::parse(status, headers.into_iter());
            let response = HttpResponse { head, body: Vec::new() };
            let failure = ReadFailure::from_response::<Csgoroll>(&response).unwrap();
            assert_eq!(failure.retry_after(), Some(Duration::from_secs(7_200)), "{status}");
            let text = failure.cause(&NAMES).text().to_owned();
            assert!(text.contains(&format!("HTTP {status}")), "{text}");
            assert!(text.ends_with(": 7200 s"), "{text}");
            let meaning = rejection_meaning(status).filter(|_meaning| status != 429);
            assert!(meaning.is_none_or(|meaning| text.contains(meaning)), "{text}");
        }
    }

    #[test]
    fn a_read_waits_until_the_date_of_retry_after() {
        let wait = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            let now = UnixMs::parse("2026-03-01T10:01:00Z").unwrap();
            let head = ResponseHead::parse_at(429, headers, now);
            let response = HttpResponse { head, body: Vec::new() };
            ReadFailure::from_response::<Csgoroll>(&response).unwrap().retry_after()
        };
        let until = ("Retry-After", "Sun, 01 Mar 2026 10:01:30 GMT");
        let date = ("Date", "Sun, 01 Mar 2026 10:00:00 GMT");
        assert_eq!(wait(&[until]), Some(Duration::from_secs(30)), "by the local clock");
        assert_eq!(wait(&[until, date]), Some(Duration::from_secs(90)), "by the server's clock");
    }

    #[test]
    fn site_text_is_escaped_and_truncated() {
        let cause = market_error(&"\u{1b}[2J".repeat(1_000));
        assert!(cause.text().chars().all(is_safe_to_print), "{cause:?}");
        assert!(cause.text().len() < 4_000, "{cause:?}");
    }

    fn cause(key: &str, text: &str) -> FailureCause {
        FailureCause::new(key.to_owned(), text, "do something")
    }

    #[test]
    fn a_failure_is_reported_once_and_again_only_with_another_cause() {
        let mut health = ReadHealth::default();
        assert!(health.on_failure(ReadKind::Balance, cause("a", "3 of 4"), UnixMs(1_000)));
        assert!(!health.on_failure(ReadKind::Balance, cause("a", "5 of 6"), UnixMs(2_000)));
        assert!(health.on_failure(ReadKind::Balance, cause("b", "other"), UnixMs(3_000)));
        for key in ["a", "b", "a", "b"] {
            assert!(!health.on_failure(ReadKind::Balance, cause(key, "x"), UnixMs(4_000)), "{key}");
        }
        let failing: Vec<_> =
            health.failing().map(|(read, of)| (read, of.since, of.cause.clone())).collect();
        assert_eq!(failing, [(ReadKind::Balance, UnixMs(1_000), cause("b", "x"))]);
        assert_eq!(
            health.on_success(ReadKind::Balance, UnixMs(5_000)),
            Some(Duration::from_secs(4))
        );
        assert!(health.on_failure(ReadKind::Balance, cause("a", "x"), UnixMs(6_000)));
    }

    #[test]
    fn a_success_ends_the_failure_of_that_read_only() {
        let mut health = ReadHealth::default();
        assert_eq!(health.on_success(ReadKind::Balance, UnixMs(0)), None);
        for read in ReadKind::ALL {
            assert!(health.on_failure(read, cause("a", "a"), UnixMs(1_000)));
        }
        let lasted = health.on_success(ReadKind::Balance, UnixMs(66_000));
        assert_eq!(lasted, Some(Duration::from_secs(65)));
        let left: Vec<ReadKind> = health.failing().map(|(read, _)| read).collect();
        assert_eq!(left, ReadKind::ALL[1..]);
        assert!(
            health.on_failure(ReadKind::Balance, cause("a", "a"), UnixMs(70_000)),
            "a new failure"
        );
    }

    #[test]
    fn a_failure_lasts_zero_seconds_after_the_clock_was_set_back() {
        let mut health = ReadHealth::default();
        assert!(health.on_failure(ReadKind::Balance, cause("a", "a"), UnixMs(10_000)));
        assert_eq!(health.on_success(ReadKind::Balance, UnixMs(0)), Some(Duration::ZERO));
    }
}
