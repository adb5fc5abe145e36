//! What can go wrong on a practice market, on demand. Pure.
//!
//! A fault has a name, as `--fault` takes it, and a chance. Faults of buys are tried in the order
//! given, once for each buy; faults of the feed once for each second of each connection.

use std::{fmt, str::FromStr, time::Duration};

use super::dice::Dice;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
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
}

impl Kind {
    /// Every fault.
    pub const ALL: [Self; 24] = [
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
        Self::FeedCut,
        Self::FeedSilence,
        Self::FeedError,
        Self::FeedComplete,
        Self::FeedClose,
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
            Self::FeedCut => "feed-cut",
            Self::FeedSilence => "feed-silence",
            Self::FeedError => "feed-error",
            Self::FeedComplete => "feed-complete",
            Self::FeedClose => "feed-close",
        }
    }

    /// Whether it befalls the feed; otherwise it befalls buys.
    pub const fn is_of_feed(self) -> bool {
        matches!(
            self,
            Self::FeedCut
                | Self::FeedSilence
                | Self::FeedError
                | Self::FeedComplete
                | Self::FeedClose
        )
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
        )
    }
}

impl fmt::Display for Kind {
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
    pub kind: Kind,
    /// How often.
    pub chance: Chance,
}

/// How long [`Kind::Slow`] takes to answer.
pub const SLOW_ANSWER: Duration = Duration::from_secs(2);

/// How long after the answer [`Kind::LateRejection`] sends another one.
pub const LATE_REJECTION_AFTER: Duration = Duration::from_millis(2);
/// How long [`Kind::TooMany`] asks to wait.
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
    pub const fn always(kind: Kind) -> Self {
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
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| FaultError::Name { names: Kind::ALL.map(Kind::name).join(", ") })?;
        let chance = match chance {
            Some(text) => Chance::parse(text).ok_or(FaultError::Chance)?,
            None if kind.is_of_feed() => Chance::Every(FEED_FAULT_EVERY),
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
pub struct Fate {
    faults: Vec<(Fault, u32)>,
    dice: Dice,
}

impl Fate {
    /// Takes the faults that are to strike; all others never do.
    pub fn new(faults: impl Iterator<Item = Fault>, dice: Dice) -> Self {
        Self { faults: faults.map(|fault| (fault, 0)).collect(), dice }
    }

    /// What goes wrong in this case: the first of the faults that strikes.
    pub fn strikes(&mut self) -> Option<Kind> {
        let mut struck = None;
        for (fault, cases) in &mut self.faults {
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
    fn check(text: &str, expected: Option<(Kind, Chance)>) {
        let read = text.parse::<Fault>().ok().map(|fault| (fault.kind, fault.chance));
        assert_eq!(read, expected, "text: {text:?}");
    }

    #[test]
    fn faults_are_read_as_the_command_line_has_them() {
        check("hang", Some((Kind::Hang, Chance::Every(1))));
        check("429:0.25", Some((Kind::TooMany, Chance::Ppm(250_000))));
        check("half-body:10%", Some((Kind::HalfBody, Chance::Ppm(100_000))));
        check("half-body:0.5%", Some((Kind::HalfBody, Chance::Ppm(5_000))));
        check("slow:1/3", Some((Kind::Slow, Chance::Every(3))));
        check("slow:1", Some((Kind::Slow, Chance::Ppm(1_000_000))));
        check("feed-cut", Some((Kind::FeedCut, Chance::Every(20))));
        for text in ["", "nonsense", "hang:", "hang:2", "hang:-1", "hang:1/0", "hang:x", "hang:NaN"]
        {
            check(text, None);
        }
    }

    #[test]
    fn an_unknown_fault_is_answered_with_the_names_of_all() {
        let error = "hangs".parse::<Fault>().unwrap_err().to_string();
        for kind in Kind::ALL {
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
        let fate = |text: &str| Fate::new(std::iter::once(text.parse().unwrap()), Dice::new(7));
        let mut third = fate("slow:1/3");
        let struck: Vec<bool> = (0..6).map(|_| third.strikes().is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false, true]);
        let mut tenth = fate("slow:0.1");
        let count = (0..10_000).filter(|_| tenth.strikes().is_some()).count();
        assert!((900..1_100).contains(&count), "{count}");
    }

    #[test]
    fn the_first_of_several_faults_strikes() {
        let faults = [Fault::always(Kind::Hang), Fault::always(Kind::Slow)];
        assert_eq!(Fate::new(faults.into_iter(), Dice::new(7)).strikes(), Some(Kind::Hang));
    }
}
