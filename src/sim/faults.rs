//! What can go wrong on a practice market, on demand. Pure.
//!
//! A fault has a name, as `--fault` takes it, and a chance. Faults of orders are tried in the order
//! given, once for each order; faults of reads once for each read that they can befall; faults of
//! the feed once for each second of each connection.

use std::{fmt, str::FromStr, time::Duration};

use super::dice::Dice;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultChannel {
    /// The request for an order, and its answer.
    Orders,
    /// The feed.
    Feed,
    /// Any read: the account, its purchases, the open listings.
    Reads,
    /// The read of the account.
    Account,
    /// The read of the account's own purchases.
    Purchases,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The connection is cut; nothing was bought.
    CutBeforeCommit,
    /// It was bought; then the connection is cut without an answer.
    CutAfterCommit,
    /// It was bought; no answer ever comes.
    Hang,
    /// Nothing was bought; no answer ever comes.
    HangBeforeCommit,
    /// It was bought; the answer is a 502.
    ServerErrorAfterCommit,
    /// Nothing was bought; the answer is a 503.
    ServerErrorBeforeCommit,
    /// Too many requests, with `Retry-After`.
    TooMany,
    /// A challenge page instead of an answer.
    Challenge,
    /// A captcha is demanded.
    Captcha,
    /// The session is not known any more.
    Unauthenticated,
    /// The daily limit is reached.
    DailyLimit,
    /// An error whose text nobody knows.
    UnknownError,
    /// It was bought; half of the answer comes, then the connection is cut.
    HalfBody,
    /// It was bought; the answer takes its time.
    Slow,
    /// It was bought; the answer comes twice.
    Doubled,
    /// It was bought; the answer comes, and a moment later a rejection that belongs to no request.
    LateRejection,
    /// It was bought; the answer names nothing.
    Empty,
    /// It was bought; the answer names another listing.
    Foreign,
    /// It was bought, for more than it was listed for.
    WrongPrice,
    /// It was bought; the answer names a price below the true one.
    PriceLow,
    /// It was bought; the answer names a price of zero.
    PriceZero,
    /// It was bought; the answer names a price above the true one.
    PriceHigh,
    /// The feed's connection is cut.
    FeedCut,
    /// The feed falls silent but for pongs, and stays so.
    FeedSilence,
    /// The subscriptions end with an error; the connection lives.
    FeedError,
    /// The subscriptions end; the connection lives.
    FeedComplete,
    /// The feed closes the connection, properly.
    FeedClose,
    /// The feed reports a false status of one of the newest purchases.
    FeedLie,
    /// The feed pushes a false balance.
    PushLie,
    /// The feed announces a listing again that it has announced before.
    FeedRelist,
    /// The feed reports that a listing is gone that is still open.
    FeedUnlist,
    /// The list shows the purchases as they were up to a minute ago.
    ListStale,
    /// The list leaves out some purchases, and says that there are no more.
    ListShort,
    /// The list shows some purchases with a status that is not among the known ones.
    ListUnknownStatus,
    /// The list holds `null` in the place of some purchases.
    ListNull,
    /// The balance is as it was up to a minute ago.
    BalanceStale,
    /// The answer to a read is a 502.
    ReadServerError,
    /// Half of the answer to a read comes, then the connection is cut.
    ReadCut,
    /// The answer to a read takes its time.
    ReadSlow,
}

impl FaultKind {
    /// Every fault.
    pub const ALL: [Self; 39] = [
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
    ];

    /// Its name on the command line.
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
        }
    }

    /// Where it strikes.
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
            | Self::FeedUnlist => FaultChannel::Feed,
            Self::ReadServerError | Self::ReadCut | Self::ReadSlow => FaultChannel::Reads,
            Self::BalanceStale => FaultChannel::Account,
            Self::ListStale | Self::ListShort | Self::ListUnknownStatus | Self::ListNull => {
                FaultChannel::Purchases
            }
            _ => FaultChannel::Orders,
        }
    }

    /// Whether the buy that it befalls is done all the same.
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
        )
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How often it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// In so many of a million cases.
    Ppm(u32),
    /// In exactly every so-manieth case.
    Every(u32),
}

/// One thing that goes wrong now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// How often.
    pub chance: Chance,
}

/// How long [`FaultKind::Slow`] and [`FaultKind::ReadSlow`] take to answer.
pub const SLOW_ANSWER: Duration = Duration::from_secs(2);

/// How long after the answer [`FaultKind::LateRejection`] sends another one, at least and at most: before
/// or after the next request on that connection.
pub const LATE_REJECTION_AFTER: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(40));
/// How old what [`FaultKind::ListStale`] and [`FaultKind::BalanceStale`] show can be.
pub const STALE_MAX: Duration = Duration::from_secs(60);
/// How long [`FaultKind::TooMany`] asks to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(3);
/// A fault of the feed whose chance is not given strikes once in so many seconds.
const FEED_FAULT_EVERY: u32 = 20;

/// A text that is not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No fault has this name.
    #[error("no fault is called so; there are {names}")]
    Name {
        /// The names that there are.
        names: String,
    },
    /// The chance is not one.
    #[error("the chance is not a share from 0 to 1, a percentage or a fraction: 0.1, 10% and 1/10")]
    Chance,
}

impl Fault {
    /// A fault that always strikes.
    pub const fn always(kind: FaultKind) -> Self {
        Self { kind, chance: Chance::Every(1) }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    /// `NAME` or `NAME:CHANCE`. Without a chance a buy always fails so, and the feed once in
    /// twenty seconds.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, chance) = match text.split_once(':') {
            Some((name, chance)) => (name, Some(chance)),
            None => (text, None),
        };
        let kind =
            FaultKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                FaultError::Name { names: FaultKind::ALL.map(FaultKind::name).join(", ") }
            })?;
        let chance = match chance {
            Some(text) => Chance::parse(text).ok_or(FaultError::Chance)?,
            None if kind.channel() == FaultChannel::Feed => Chance::Every(FEED_FAULT_EVERY),
            None => Chance::Every(1),
        };
        Ok(Self { kind, chance })
    }
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

/// Decides, case by case, whether something goes wrong.
#[derive(Clone, Debug)]
pub struct FaultInjector {
    faults: Vec<(Fault, u32)>,
    dice: Dice,
}

impl FaultInjector {
    /// Takes the faults that are to strike; all others never do.
    pub fn new(faults: &[Fault], dice: Dice) -> Self {
        Self { faults: faults.iter().map(|fault| (*fault, 0)).collect(), dice }
    }

    /// What goes wrong in one of these channels in this case: the first of the faults that strikes.
    pub fn strikes(&mut self, channels: &[FaultChannel]) -> Option<FaultKind> {
        let mut struck = None;
        let faults = self.faults.iter_mut();
        for (fault, cases) in faults.filter(|(fault, _)| channels.contains(&fault.kind.channel())) {
            *cases = cases.wrapping_add(1);
            let strikes = match fault.chance {
                Chance::Ppm(share) => self.dice.ppm(share),
                Chance::Every(n) => cases.checked_rem(n) == Some(0),
            };
            if strikes && struck.is_none() {
                struck = Some(fault.kind);
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(FaultKind, Chance)>) {
        let read = text.parse::<Fault>().ok().map(|fault| (fault.kind, fault.chance));
        assert_eq!(read, expected, "text: {text:?}");
    }

    #[test]
    fn faults_are_read_as_the_command_line_has_them() {
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
    fn an_unknown_fault_is_answered_with_the_names_of_all() {
        let error = "hangs".parse::<Fault>().unwrap_err().to_string();
        for kind in FaultKind::ALL {
            assert!(error.contains(kind.name()), "{kind}");
        }
    }

    #[test]
    fn a_fault_is_printed_as_it_is_read() {
        for text in ["hang", "429:0.25", "slow:1/3", "slow:1", "slow:0", "slow:0.000001"] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn every_so_manieth_case_is_exact_and_a_share_is_about_right() {
        let fate = |text: &str| FaultInjector::new(&[text.parse().unwrap()], Dice::new(7));
        let mut third = fate("slow:1/3");
        let struck: Vec<bool> =
            (0..6).map(|_| third.strikes(&[FaultChannel::Orders]).is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false, true]);
        let mut tenth = fate("slow:0.1");
        let count =
            (0..10_000).filter(|_| tenth.strikes(&[FaultChannel::Orders]).is_some()).count();
        assert!((900..1_100).contains(&count), "{count}");
    }

    #[test]
    fn the_first_of_several_faults_strikes() {
        let faults = [Fault::always(FaultKind::Hang), Fault::always(FaultKind::Slow)];
        let mut fate = FaultInjector::new(&faults, Dice::new(7));
        assert_eq!(fate.strikes(&[FaultChannel::Orders]), Some(FaultKind::Hang));
    }

    #[test]
    fn a_fault_strikes_in_its_own_channel_and_counts_no_case_of_another() {
        let faults: Vec<Fault> =
            ["list-short:1/2", "read-cut:0"].map(|text| text.parse().unwrap()).to_vec();
        let mut fate = FaultInjector::new(&faults, Dice::new(7));
        for _ in 0..5 {
            assert_eq!(fate.strikes(&[FaultChannel::Reads, FaultChannel::Account]), None);
        }
        let own = [FaultChannel::Reads, FaultChannel::Purchases];
        assert_eq!((fate.strikes(&own), fate.strikes(&own)), (None, Some(FaultKind::ListShort)));
    }
}
