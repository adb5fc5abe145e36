//! Faults that the simulator injects on demand. Pure.
//!
//! A fault is a kind, named as in `--fault`, and a chance. Faults are evaluated in the order given:
//! those of orders once per order, those of reads once per read of their channel, and those of the
//! feed once per second and connection.

use std::{fmt, str::FromStr, time::Duration};

use clap::{ValueEnum, builder::PossibleValue};

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

/// Kind of a fault. Its name on the command line is the variant in kebab case, unless an attribute
/// states another one, and its comment is the description that `--fault list` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum FaultKind {
    /// nothing bought, connection cut without a response
    CutBeforeCommit,
    /// bought, connection cut without a response
    CutAfterCommit,
    /// bought, no response
    Hang,
    /// nothing bought, no response
    HangBeforeCommit,
    /// bought, response 502
    #[value(name = "5xx-after-commit")]
    ServerErrorAfterCommit,
    /// nothing bought, response 503
    #[value(name = "5xx-before-commit")]
    ServerErrorBeforeCommit,
    /// nothing bought, response 429 with Retry-After
    #[value(name = "429")]
    TooMany,
    /// nothing bought, response 403 with a challenge page
    Challenge,
    /// nothing bought, error that demands a captcha
    Captcha,
    /// nothing bought, error for an invalid session
    Unauthenticated,
    /// nothing bought, error for the daily withdrawal limit
    DailyLimit,
    /// nothing bought, error with an unknown message
    UnknownError,
    /// bought, connection cut in the middle of the response
    HalfBody,
    /// bought, response 2 s late
    Slow,
    /// bought, response sent twice
    Doubled,
    /// bought, response followed by a rejection of no request
    LateRejection,
    /// bought, response without a trade
    Empty,
    /// bought, response with the id of another listing
    Foreign,
    /// bought for more than the listed price
    WrongPrice,
    /// bought, response with a price below the one paid
    PriceLow,
    /// bought, response with a price of 0
    PriceZero,
    /// bought, response with a price above the one paid
    PriceHigh,
    /// connection cut
    FeedCut,
    /// no more messages except pongs, connection stays open
    FeedSilence,
    /// subscriptions end with an error, connection stays open
    FeedError,
    /// subscriptions complete, connection stays open
    FeedComplete,
    /// connection closed with a close frame
    FeedClose,
    /// wrong status of a recent purchase
    FeedLie,
    /// wrong balance
    PushLie,
    /// a known listing announced again
    FeedRelist,
    /// an open listing reported as gone
    FeedUnlist,
    /// purchases as of up to 60 s ago
    ListStale,
    /// some purchases missing, no next page announced
    ListShort,
    /// some purchases with an unknown status
    ListUnknownStatus,
    /// null in place of some purchases
    ListNull,
    /// balance as of up to 60 s ago
    BalanceStale,
    /// response 502
    #[value(name = "read-5xx")]
    ReadServerError,
    /// connection cut in the middle of the response
    ReadCut,
    /// response 2 s late
    ReadSlow,
    /// nothing bought, response 403: the key is bound to another IP address
    AddressNotBound,
    /// nothing bought, error for an invalid trade URL
    TradeUrl,
    /// nothing bought, error for a trade ban of the account
    TradeBan,
    /// nothing bought, error for an account that cannot trade
    CannotTrade,
    /// nothing bought, error for a private inventory
    PrivateInventory,
    /// nothing bought, error for a full inventory
    InventoryFull,
    /// nothing bought, error for too many failed attempts
    FailedAttempts,
    /// nothing bought, response 422 for an invalid value
    InvalidValue,
    /// nothing bought, rejected because the system is busy
    SystemBusy,
    /// nothing bought, rejected because buying is switched off
    BuyingOff,
    /// nothing bought, response 429 with msBeforeNext in the body
    MsBeforeNext,
    /// the price rises just before the order, which is rejected
    PriceMoves,
    /// bought, response 408
    #[value(name = "408")]
    RequestTimeout,
    /// bought, response 200 with a page
    #[value(name = "html-200")]
    PageInsteadOfAnswer,
    /// bought and returned at once, response 200 with that status
    ReturnedAtOnce,
    /// connection closed because of its token
    FeedToken,
    /// disconnect announced by a message, then the connection closes
    FeedDisconnect,
    /// some purchases with the name of another item
    ListForeign,
    /// response 200 with a page
    #[value(name = "read-html")]
    ReadPage,
}

/// Faults that every simulated market can inject.
pub const COMMON_FAULTS: [FaultKind; 35] = [
    FaultKind::CutBeforeCommit,
    FaultKind::CutAfterCommit,
    FaultKind::Hang,
    FaultKind::HangBeforeCommit,
    FaultKind::ServerErrorAfterCommit,
    FaultKind::ServerErrorBeforeCommit,
    FaultKind::TooMany,
    FaultKind::Challenge,
    FaultKind::Unauthenticated,
    FaultKind::UnknownError,
    FaultKind::HalfBody,
    FaultKind::Slow,
    FaultKind::Doubled,
    FaultKind::LateRejection,
    FaultKind::Empty,
    FaultKind::Foreign,
    FaultKind::WrongPrice,
    FaultKind::PriceLow,
    FaultKind::PriceZero,
    FaultKind::PriceHigh,
    FaultKind::FeedCut,
    FaultKind::FeedSilence,
    FaultKind::FeedError,
    FaultKind::FeedClose,
    FaultKind::FeedLie,
    FaultKind::FeedRelist,
    FaultKind::FeedUnlist,
    FaultKind::ListStale,
    FaultKind::ListShort,
    FaultKind::ListUnknownStatus,
    FaultKind::ListNull,
    FaultKind::BalanceStale,
    FaultKind::ReadServerError,
    FaultKind::ReadCut,
    FaultKind::ReadSlow,
];

impl FaultKind {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Returns the name used on the command line.
    pub fn name(self) -> String {
        self.value().get_name().to_owned()
    }

    /// Returns the effect of the fault in one line.
    pub fn description(self) -> String {
        self.value().get_help().map(ToString::to_string).unwrap_or_default()
    }

    fn value(self) -> PossibleValue {
        // No variant is skipped.
        self.to_possible_value().unwrap_or_else(|| PossibleValue::new(""))
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
        f.pad(&self.name())
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
        let kind = <FaultKind as ValueEnum>::from_str(name, false)
            .map_err(|_unknown| FaultError::Name { name: name.to_owned() })?;
        let chance = match chance {
            Some(text) => Chance::parse(text).ok_or(FaultError::Chance)?,
            None if kind.channel() == FaultChannel::Feed => Chance::Every(FEED_FAULT_EVERY),
            None => Chance::Every(1),
        };
        Ok(Self { kind, chance })
    }
}

fn suggestion(name: &str) -> String {
    let known: Vec<String> = FaultKind::all().iter().map(|kind| kind.name()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    nearest(name, &known)
        .map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"))
}

/// Returns the names of all faults, one line per group.
fn names() -> String {
    let lines = GROUPS.map(|(group, channels)| {
        let kinds = FaultKind::all().iter().filter(|kind| channels.contains(&kind.channel()));
        let names: Vec<String> = kinds.map(|kind| kind.name()).collect();
        format!("\n  {group}: {}", names.join(", "))
    });
    lines.concat()
}

/// Returns a table of these faults with their descriptions.
pub fn table(kinds: &[FaultKind]) -> String {
    let mut out = String::new();
    for (group, channels) in GROUPS {
        out.push_str(&format!("{group}:\n"));
        let is_in = |kind: &&FaultKind| kinds.contains(kind) && channels.contains(&kind.channel());
        for kind in FaultKind::all().iter().filter(is_in) {
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
        for kind in FaultKind::all() {
            assert!(error.contains(&kind.name()), "{kind}");
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
