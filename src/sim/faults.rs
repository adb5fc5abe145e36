//! Faults that the simulator injects on demand. Pure.
//!
//! A fault is a kind, named as in `--fault`, and a chance. Faults are evaluated in the order given:
//! those of orders once per order, those of reads once per read of their channel, and those of the
//! feed once per second and connection.

use std::{fmt, str::FromStr, time::Duration};

use super::random::Rng;
use crate::{
    domain::money::Amount,
    text::{Escaped, nearest},
};

/// Part of the traffic that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultChannel {
    /// Orders and their responses.
    Orders,
    Feed,
    /// All reads: of the account, of its purchases and of the open listings.
    Reads,
    /// Reads of the account only.
    Account,
    /// Reads of the account's purchases only.
    Purchases,
}

/// Kind of a fault; [`description`](Self::description) explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    CutBeforeCommit,
    CutAfterCommit,
    Hang,
    HangBeforeCommit,
    ServerErrorAfterCommit,
    ServerErrorBeforeCommit,
    TooMany,
    Challenge,
    Captcha,
    Unauthenticated,
    DailyLimit,
    UnknownError,
    HalfBody,
    Slow,
    Doubled,
    LateRejection,
    Empty,
    Foreign,
    WrongPrice,
    PriceLow,
    PriceZero,
    PriceHigh,
    FeedCut,
    FeedSilence,
    FeedError,
    FeedComplete,
    FeedClose,
    FeedLie,
    PushLie,
    FeedRelist,
    FeedUnlist,
    ListStale,
    ListShort,
    ListUnknownStatus,
    ListNull,
    BalanceStale,
    ReadServerError,
    ReadCut,
    ReadSlow,
    AddressNotBound,
    TradeUrl,
    TradeBan,
    CannotTrade,
    PrivateInventory,
    InventoryFull,
    FailedAttempts,
    InvalidValue,
    SystemBusy,
    BuyingOff,
    MsBeforeNext,
    PriceMoves,
    RequestTimeout,
    PageInsteadOfAnswer,
    ReturnedAtOnce,
    FeedToken,
    FeedDisconnect,
    ListForeign,
    ReadPage,
}

impl FaultKind {
    pub const ALL: [Self; 58] = [
        Self::CutBeforeCommit,
        Self::CutAfterCommit,
        Self::Hang,
        Self::HangBeforeCommit,
        Self::ServerErrorAfterCommit,
        Self::ServerErrorBeforeCommit,
        Self::TooMany,
        Self::Challenge,
        Self::Captcha,
        Self::Unauthenticated,
        Self::DailyLimit,
        Self::UnknownError,
        Self::HalfBody,
        Self::Slow,
        Self::Doubled,
        Self::LateRejection,
        Self::Empty,
        Self::Foreign,
        Self::WrongPrice,
        Self::PriceLow,
        Self::PriceZero,
        Self::PriceHigh,
        Self::FeedCut,
        Self::FeedSilence,
        Self::FeedError,
        Self::FeedComplete,
        Self::FeedClose,
        Self::FeedLie,
        Self::PushLie,
        Self::FeedRelist,
        Self::FeedUnlist,
        Self::ListStale,
        Self::ListShort,
        Self::ListUnknownStatus,
        Self::ListNull,
        Self::BalanceStale,
        Self::ReadServerError,
        Self::ReadCut,
        Self::ReadSlow,
        Self::AddressNotBound,
        Self::TradeUrl,
        Self::TradeBan,
        Self::CannotTrade,
        Self::PrivateInventory,
        Self::InventoryFull,
        Self::FailedAttempts,
        Self::InvalidValue,
        Self::SystemBusy,
        Self::BuyingOff,
        Self::MsBeforeNext,
        Self::PriceMoves,
        Self::RequestTimeout,
        Self::PageInsteadOfAnswer,
        Self::ReturnedAtOnce,
        Self::FeedToken,
        Self::FeedDisconnect,
        Self::ListForeign,
        Self::ReadPage,
    ];

    /// Returns the name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CutBeforeCommit => "cut-before-commit",
            Self::CutAfterCommit => "cut-after-commit",
            Self::Hang => "hang",
            Self::HangBeforeCommit => "hang-before-commit",
            Self::ServerErrorAfterCommit => "5xx-after-commit",
            Self::ServerErrorBeforeCommit => "5xx-before-commit",
            Self::TooMany => "429",
            Self::Challenge => "challenge",
            Self::Captcha => "captcha",
            Self::Unauthenticated => "unauthenticated",
            Self::DailyLimit => "daily-limit",
            Self::UnknownError => "unknown-error",
            Self::HalfBody => "half-body",
            Self::Slow => "slow",
            Self::Doubled => "doubled",
            Self::LateRejection => "late-rejection",
            Self::Empty => "empty",
            Self::Foreign => "foreign",
            Self::WrongPrice => "wrong-price",
            Self::PriceLow => "price-low",
            Self::PriceZero => "price-zero",
            Self::PriceHigh => "price-high",
            Self::FeedCut => "feed-cut",
            Self::FeedSilence => "feed-silence",
            Self::FeedError => "feed-error",
            Self::FeedComplete => "feed-complete",
            Self::FeedClose => "feed-close",
            Self::FeedLie => "feed-lie",
            Self::PushLie => "push-lie",
            Self::FeedRelist => "feed-relist",
            Self::FeedUnlist => "feed-unlist",
            Self::ListStale => "list-stale",
            Self::ListShort => "list-short",
            Self::ListUnknownStatus => "list-unknown-status",
            Self::ListNull => "list-null",
            Self::BalanceStale => "balance-stale",
            Self::ReadServerError => "read-5xx",
            Self::ReadCut => "read-cut",
            Self::ReadSlow => "read-slow",
            Self::AddressNotBound => "address-not-bound",
            Self::TradeUrl => "trade-url",
            Self::TradeBan => "trade-ban",
            Self::CannotTrade => "cannot-trade",
            Self::PrivateInventory => "private-inventory",
            Self::InventoryFull => "inventory-full",
            Self::FailedAttempts => "failed-attempts",
            Self::InvalidValue => "invalid-value",
            Self::SystemBusy => "system-busy",
            Self::BuyingOff => "buying-off",
            Self::MsBeforeNext => "ms-before-next",
            Self::PriceMoves => "price-moves",
            Self::RequestTimeout => "408",
            Self::PageInsteadOfAnswer => "html-200",
            Self::ReturnedAtOnce => "returned-at-once",
            Self::FeedToken => "feed-token",
            Self::FeedDisconnect => "feed-disconnect",
            Self::ListForeign => "list-foreign",
            Self::ReadPage => "read-html",
        }
    }

    /// Returns the effect of the fault in one line.
    pub const fn description(self) -> &'static str {
        match self {
            Self::CutBeforeCommit => "nothing bought, connection cut without a response",
            Self::CutAfterCommit => "bought, connection cut without a response",
            Self::Hang => "bought, no response",
            Self::HangBeforeCommit => "nothing bought, no response",
            Self::ServerErrorAfterCommit => "bought, response 502",
            Self::ServerErrorBeforeCommit => "nothing bought, response 503",
            Self::TooMany => "nothing bought, response 429 with Retry-After",
            Self::Challenge => "nothing bought, response 403 with a challenge page",
            Self::Captcha => "nothing bought, error that demands a captcha",
            Self::Unauthenticated => "nothing bought, error for an invalid session",
            Self::DailyLimit => "nothing bought, error for the daily withdrawal limit",
            Self::UnknownError => "nothing bought, error with an unknown message",
            Self::HalfBody => "bought, connection cut in the middle of the response",
            Self::Slow => "bought, response 2 s late",
            Self::Doubled => "bought, response sent twice",
            Self::LateRejection => "bought, response followed by a rejection of no request",
            Self::Empty => "bought, response without a trade",
            Self::Foreign => "bought, response with the id of another listing",
            Self::WrongPrice => "bought for more than the listed price",
            Self::PriceLow => "bought, response with a price below the one paid",
            Self::PriceZero => "bought, response with a price of 0",
            Self::PriceHigh => "bought, response with a price above the one paid",
            Self::FeedCut => "connection cut",
            Self::FeedSilence => "no more messages except pongs, connection stays open",
            Self::FeedError => "subscriptions end with an error, connection stays open",
            Self::FeedComplete => "subscriptions complete, connection stays open",
            Self::FeedClose => "connection closed with a close frame",
            Self::FeedLie => "wrong status of a recent purchase",
            Self::PushLie => "wrong balance",
            Self::FeedRelist => "a known listing announced again",
            Self::FeedUnlist => "an open listing reported as gone",
            Self::ListStale => "purchases as of up to 60 s ago",
            Self::ListShort => "some purchases missing, no next page announced",
            Self::ListUnknownStatus => "some purchases with an unknown status",
            Self::ListNull => "null in place of some purchases",
            Self::BalanceStale => "balance as of up to 60 s ago",
            Self::ReadServerError => "response 502",
            Self::ReadCut => "connection cut in the middle of the response",
            Self::ReadSlow => "response 2 s late",
            Self::AddressNotBound => {
                "nothing bought, response 403: the key is bound to another IP address"
            }
            Self::TradeUrl => "nothing bought, error for an invalid trade URL",
            Self::TradeBan => "nothing bought, error for a trade ban of the account",
            Self::CannotTrade => "nothing bought, error for an account that cannot trade",
            Self::PrivateInventory => "nothing bought, error for a private inventory",
            Self::InventoryFull => "nothing bought, error for a full inventory",
            Self::FailedAttempts => "nothing bought, error for too many failed attempts",
            Self::InvalidValue => "nothing bought, response 422 for an invalid value",
            Self::SystemBusy => "nothing bought, rejected because the system is busy",
            Self::BuyingOff => "nothing bought, rejected because buying is switched off",
            Self::MsBeforeNext => "nothing bought, response 429 with msBeforeNext in the body",
            Self::PriceMoves => "the price rises just before the order, which is rejected",
            Self::RequestTimeout => "bought, response 408",
            Self::PageInsteadOfAnswer => "bought, response 200 with a page",
            Self::ReturnedAtOnce => "bought and returned at once, response 200 with that status",
            Self::FeedToken => "connection closed because of its token",
            Self::FeedDisconnect => "disconnect announced by a message, then the connection closes",
            Self::ListForeign => "some purchases with the name of another item",
            Self::ReadPage => "response 200 with a page",
        }
    }

    /// Returns the part of the traffic that the fault affects.
    pub const fn channel(self) -> FaultChannel {
        match self {
            Self::FeedCut
            | Self::FeedSilence
            | Self::FeedError
            | Self::FeedComplete
            | Self::FeedClose
            | Self::FeedLie
            | Self::PushLie
            | Self::FeedRelist
            | Self::FeedUnlist
            | Self::FeedToken
            | Self::FeedDisconnect => FaultChannel::Feed,
            Self::ReadServerError | Self::ReadCut | Self::ReadSlow | Self::ReadPage => {
                FaultChannel::Reads
            }
            Self::BalanceStale => FaultChannel::Account,
            Self::ListStale
            | Self::ListShort
            | Self::ListUnknownStatus
            | Self::ListNull
            | Self::ListForeign => FaultChannel::Purchases,
            _ => FaultChannel::Orders,
        }
    }

    /// Returns `true` if an affected order is executed all the same.
    pub const fn commits(self) -> bool {
        matches!(
            self,
            Self::CutAfterCommit
                | Self::Hang
                | Self::ServerErrorAfterCommit
                | Self::HalfBody
                | Self::Slow
                | Self::Doubled
                | Self::LateRejection
                | Self::Empty
                | Self::Foreign
                | Self::WrongPrice
                | Self::PriceLow
                | Self::PriceZero
                | Self::PriceHigh
                | Self::RequestTimeout
                | Self::PageInsteadOfAnswer
                | Self::ReturnedAtOnce
        )
    }
}

/// Returns the price in the response to a purchase under this fault.
pub fn reported_price(kind: FaultKind, price: Amount, rng: &mut Rng) -> Amount {
    let cents = price.cents();
    match kind {
        FaultKind::PriceLow => Amount::from_cents(rng.i64(1..=cents.saturating_sub(1).max(1))),
        FaultKind::PriceZero => Amount::ZERO,
        FaultKind::PriceHigh => {
            let least = cents.saturating_add(1);
            Amount::from_cents(rng.i64(least..=cents.saturating_mul(3).max(least)))
        }
        _ => price,
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Frequency of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Random, with this probability in parts per million.
    Ppm(u32),
    /// Exactly every n-th case.
    Every(u32),
}

/// A kind of fault and its frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub chance: Chance,
}

/// Delay of the response under [`FaultKind::Slow`] and [`FaultKind::ReadSlow`].
pub const SLOW_ANSWER: Duration = Duration::from_secs(2);

/// Minimum and maximum delay of the second response of [`FaultKind::LateRejection`], so that it
/// arrives before or after the next request on that connection.
pub const LATE_REJECTION_AFTER: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(40));
/// Maximum age of the data under [`FaultKind::ListStale`] and [`FaultKind::BalanceStale`].
pub const STALE_MAX: Duration = Duration::from_secs(60);
/// Increase of the price under [`FaultKind::WrongPrice`].
pub const SURCHARGE: Amount = Amount::from_cents(100);
/// Body of the response under [`FaultKind::Challenge`].
pub const CHALLENGE_PAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser.</body></html>";
/// Default interval of a fault of the feed, in seconds.
const FEED_FAULT_EVERY: u32 = 20;
/// Channels as the user sees them: the reads of one object count as reads.
const GROUPS: [(&str, &[FaultChannel]); 3] = [
    ("Orders", &[FaultChannel::Orders]),
    ("Feed", &[FaultChannel::Feed]),
    ("Reads", &[FaultChannel::Reads, FaultChannel::Account, FaultChannel::Purchases]),
];

/// The text is not a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("unknown fault \"{}\"{}\n`--fault list` describes all faults:{}", Escaped(.name), suggestion(.name), names())]
    Name { name: String },
    #[error("the chance must be from 0 to 1, a percentage or a fraction, such as 0.1, 10% or 1/10")]
    Chance,
}

impl Fault {
    /// Creates a fault that occurs in every case.
    pub const fn always(kind: FaultKind) -> Self {
        Self { kind, chance: Chance::Every(1) }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    /// Parses `NAME` or `NAME:CHANCE`. Without a chance, a fault of the feed occurs every 20 s and
    /// any other fault always.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, chance) = match text.split_once(':') {
            Some((name, chance)) => (name, Some(chance)),
            None => (text, None),
        };
        let kind = FaultKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| FaultError::Name { name: name.to_owned() })?;
        let chance = match chance {
            Some(text) => Chance::parse(text).ok_or(FaultError::Chance)?,
            None if kind.channel() == FaultChannel::Feed => Chance::Every(FEED_FAULT_EVERY),
            None => Chance::Every(1),
        };
        Ok(Self { kind, chance })
    }
}

fn suggestion(name: &str) -> String {
    let known = FaultKind::ALL.map(FaultKind::name);
    nearest(name, &known)
        .map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"))
}

/// Returns the names of all faults, one line per group.
fn names() -> String {
    let lines = GROUPS.map(|(group, channels)| {
        let kinds = FaultKind::ALL.into_iter().filter(|kind| channels.contains(&kind.channel()));
        let names: Vec<&str> = kinds.map(FaultKind::name).collect();
        format!("\n  {group}: {}", names.join(", "))
    });
    lines.concat()
}

/// Returns a table of all faults with their descriptions.
pub fn table() -> String {
    table_of(&FaultKind::ALL)
}

/// Returns a table of these faults with their descriptions.
pub fn table_of(kinds: &[FaultKind]) -> String {
    let mut out = String::new();
    for (group, channels) in GROUPS {
        out.push_str(&format!("{group}:\n"));
        for kind in kinds.iter().filter(|kind| channels.contains(&kind.channel())) {
            out.push_str(&format!("  {:<21}{}\n", kind.name(), kind.description()));
        }
        out.push('\n');
    }
    out.push_str(
        "A chance follows the name: hang:0.1, hang:10% or, for every 10th case, hang:1/10.\n",
    );
    out
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.chance {
            Chance::Every(1) => write!(f, "{}", self.kind),
            Chance::Every(n) => write!(f, "{}:1/{n}", self.kind),
            Chance::Ppm(ppm) => {
                let share = format!("{}.{:06}", ppm / 1_000_000, ppm % 1_000_000);
                let share = share.trim_end_matches('0').trim_end_matches('.');
                write!(f, "{}:{share}", self.kind)
            }
        }
    }
}

impl Chance {
    fn parse(text: &str) -> Option<Self> {
        if let Some(every) = text.strip_prefix("1/") {
            return every.parse().ok().filter(|every| *every != 0).map(Self::Every);
        }
        let (text, decimals) = match text.strip_suffix('%') {
            Some(text) => (text, 4),
            None => (text, 6),
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > decimals || !is_number(whole) || !is_number(part) {
            return None;
        }
        let ppm = format!("{whole}{part:0<decimals$}").parse().ok()?;
        (ppm <= 1_000_000).then_some(Self::Ppm(ppm))
    }
}

/// Evaluates faults case by case.
#[derive(Clone, Debug)]
pub struct FaultInjector {
    /// Faults with the number of cases seen so far.
    faults: Vec<(Fault, u32)>,
    rng: Rng,
}

impl FaultInjector {
    /// Creates an injector of these faults only.
    pub fn new(faults: &[Fault], rng: Rng) -> Self {
        Self { faults: faults.iter().map(|fault| (*fault, 0)).collect(), rng }
    }

    /// Evaluates one case in these channels and returns the first fault that occurs.
    pub fn next_fault(&mut self, channels: &[FaultChannel]) -> Option<FaultKind> {
        let mut first = None;
        let faults = self.faults.iter_mut();
        for (fault, cases) in faults.filter(|(fault, _)| channels.contains(&fault.kind.channel())) {
            *cases = cases.wrapping_add(1);
            let occurs = match fault.chance {
                Chance::Ppm(ppm) => self.rng.u32(..1_000_000) < ppm,
                Chance::Every(n) => cases.checked_rem(n) == Some(0),
            };
            if occurs && first.is_none() {
                first = Some(fault.kind);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(FaultKind, Chance)>) {
        let parsed = text.parse::<Fault>().ok().map(|fault| (fault.kind, fault.chance));
        assert_eq!(parsed, expected, "text: {text:?}");
    }

    #[test]
    fn a_fault_is_parsed_from_a_name_and_an_optional_chance() {
        check("hang", Some((FaultKind::Hang, Chance::Every(1))));
        check("429:0.25", Some((FaultKind::TooMany, Chance::Ppm(250_000))));
        check("half-body:10%", Some((FaultKind::HalfBody, Chance::Ppm(100_000))));
        check("half-body:0.5%", Some((FaultKind::HalfBody, Chance::Ppm(5_000))));
        check("slow:1/3", Some((FaultKind::Slow, Chance::Every(3))));
        check("slow:1", Some((FaultKind::Slow, Chance::Ppm(1_000_000))));
        check("feed-cut", Some((FaultKind::FeedCut, Chance::Every(20))));
        for text in ["", "nonsense", "hang:", "hang:2", "hang:-1", "hang:1/0", "hang:x", "hang:NaN"]
        {
            check(text, None);
        }
    }

    #[test]
    fn the_error_for_an_unknown_fault_lists_all_names_and_suggests_one() {
        let error = "hangs".parse::<Fault>().unwrap_err().to_string();
        for kind in FaultKind::ALL {
            assert!(error.contains(kind.name()), "{kind}");
        }
        assert!(error.contains("did you mean \"hang\"?"), "{error}");
    }

    #[test]
    fn a_displayed_fault_parses_to_itself() {
        for text in ["hang", "429:0.25", "slow:1/3", "slow:1", "slow:0", "slow:0.000001"] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn every_nth_case_is_exact_and_a_probability_is_approximate() {
        let new_injector =
            |text: &str| FaultInjector::new(&[text.parse().unwrap()], Rng::with_seed(7));
        let mut third = new_injector("slow:1/3");
        let occurred: Vec<bool> =
            (0..6).map(|_| third.next_fault(&[FaultChannel::Orders]).is_some()).collect();
        assert_eq!(occurred, [false, false, true, false, false, true]);
        let mut tenth = new_injector("slow:0.1");
        let count =
            (0..10_000).filter(|_| tenth.next_fault(&[FaultChannel::Orders]).is_some()).count();
        assert!((900..1_100).contains(&count), "{count}");
    }

    #[test]
    fn the_first_of_several_faults_occurs() {
        let faults = [Fault::always(FaultKind::Hang), Fault::always(FaultKind::Slow)];
        let mut injector = FaultInjector::new(&faults, Rng::with_seed(7));
        assert_eq!(injector.next_fault(&[FaultChannel::Orders]), Some(FaultKind::Hang));
    }

    #[test]
    fn a_fault_occurs_in_its_own_channel_and_counts_only_its_cases() {
        let faults: Vec<Fault> =
            ["list-short:1/2", "read-cut:0"].map(|text| text.parse().unwrap()).to_vec();
        let mut injector = FaultInjector::new(&faults, Rng::with_seed(7));
        for _ in 0..5 {
            assert_eq!(injector.next_fault(&[FaultChannel::Reads, FaultChannel::Account]), None);
        }
        let own = [FaultChannel::Reads, FaultChannel::Purchases];
        assert_eq!(
            (injector.next_fault(&own), injector.next_fault(&own)),
            (None, Some(FaultKind::ListShort))
        );
    }
}
