//! What can be set about a practice market.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use super::faults::Fault;
use crate::domain::money::Amount;

/// The most listings a second that a practice market offers.
pub const RATE_PER_SECOND_MAX: i64 = 100_000;

/// Everything that can be set. [`SimSettings::default`] is what `sniper sim` starts with, on a port
/// that the system chooses.
#[derive(Clone)]
pub struct SimSettings {
    /// Where to listen. Port 0: the system chooses.
    pub listen: SocketAddr,
    /// Speak TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What decides the listings, their rivals and the fate of purchases.
    pub seed: u64,
    /// How often something is listed, on average.
    pub rate: Rate,
    /// How many listings of a thousand fit the demo's whitelist.
    pub wanted_permille: u32,
    /// How many listings of a thousand are odd: empty, doubled, not for sale, one's own.
    pub odd_permille: u32,
    /// How many listings of a thousand can be joined only some time after they appear.
    pub held_permille: u32,
    /// Who else buys; `None`: nobody.
    pub rivals: Option<Rivals>,
    /// What the account holds at first.
    pub balance: Amount,
    /// What the account may withdraw a day; `None`: as much as it likes.
    pub daily_limit: Option<Amount>,
    /// How purchases go on.
    pub delivery: Delivery,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Whether the site has flagged the account.
    pub suspected_trader: bool,
    /// Who the account is.
    pub user_id: String,
    /// How far the market's clock is ahead of this machine's, in milliseconds; negative: behind.
    pub clock_ahead_ms: i64,
    /// How long an HTTP connection may be idle before the market closes it.
    pub http_idle: Duration,
    /// How often the feed sends a ping of its protocol.
    pub ping_every: Duration,
}

/// How often something is listed, in hundredths of listings a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(i64);

/// A rate that the market cannot keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a number of listings a second from 0 to {RATE_PER_SECOND_MAX}, such as 20 or 0.5")]
pub struct RateError;

/// A seed that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a whole number from 0 to {}", u64::MAX)]
pub struct SeedError;

/// Reads a seed.
///
/// # Errors
///
/// A [`SeedError`] that says what may be written.
pub fn parse_seed(text: &str) -> Result<u64, SeedError> {
    text.parse().map_err(|_not_a_number| SeedError)
}

/// Who else buys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rivals {
    /// The fastest rival's time from listing to purchase.
    pub delay_min: Duration,
    /// The slowest rival's.
    pub delay_max: Duration,
    /// How many listings of a thousand a rival wants.
    pub share_permille: u32,
}

/// How purchases go on after they were joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The shortest and longest time until the seller confirms, or does not.
    pub confirm: (Duration, Duration),
    /// The shortest and longest time from then until the item arrives, or does not.
    pub deliver: (Duration, Duration),
    /// How many purchases of a thousand are cancelled.
    pub fail_permille: u32,
    /// The shortest and longest time from a cancellation until the coins are back.
    pub refund: (Duration, Duration),
}

impl Rate {
    /// Nothing is listed but what a test lists.
    pub const NONE: Self = Self(0);

    /// So many listings a second.
    pub const fn per_second(listings: u32) -> Self {
        #[expect(clippy::as_conversions, reason = "widening; From is not const")]
        let listings = listings as i64;
        Self(if listings > RATE_PER_SECOND_MAX {
            RATE_PER_SECOND_MAX * 100
        } else {
            listings * 100
        })
    }

    /// The mean time between so many listings; `None` if nothing is listed.
    pub fn mean_between(self, listings: u32) -> Option<Duration> {
        let hundredths = u64::try_from(self.0).ok().filter(|rate| *rate != 0)?;
        let ns = u64::from(listings).saturating_mul(100_000_000_000).checked_div(hundredths)?;
        Some(Duration::from_nanos(ns))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let hundredths = Amount::parse(text).map_err(|_not_a_number| RateError)?.cents();
        let fits = (0..=RATE_PER_SECOND_MAX * 100).contains(&hundredths);
        if fits { Ok(Self(hundredths)) } else { Err(RateError) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Amount::from_cents(self.0).to_string();
        f.pad(text.strip_suffix(".00").unwrap_or(&text))
    }
}

impl Default for Rivals {
    /// From faster than any bot to slower than a person; two listings of three are wanted.
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(400),
            delay_max: Duration::from_secs(8),
            share_permille: 650,
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            confirm: (seconds(2), seconds(6)),
            deliver: (seconds(5), seconds(15)),
            fail_permille: 80,
            refund: (seconds(1), seconds(8)),
        }
    }
}

impl Default for SimSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            seed: 7,
            rate: Rate::per_second(20),
            wanted_permille: 50,
            odd_permille: 12,
            held_permille: 30,
            rivals: Some(Rivals::default()),
            balance: Amount::from_cents(50_000),
            daily_limit: None,
            delivery: Delivery::default(),
            faults: Vec::new(),
            suspected_trader: false,
            user_id: "VXNlcjo0MjQyNDI".to_owned(),
            clock_ahead_ms: 0,
            http_idle: Duration::from_secs(75),
            ping_every: Duration::from_secs(12),
        }
    }
}

impl fmt::Debug for SimSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("tls", &self.tls.is_some())
            .field("seed", &self.seed)
            .field("rate", &self.rate)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_or_decimal() {
        assert_eq!("20".parse(), Ok(Rate::per_second(20)));
        assert_eq!("0.5".parse::<Rate>().unwrap().mean_between(1), Some(Duration::from_secs(2)));
        assert_eq!(Rate::NONE.mean_between(1), None);
        assert_eq!([Rate::per_second(20).to_string(), Rate(50).to_string()], ["20", "0.50"]);
        for text in ["", "-1", "many", "NaN", "1e9", "0.001"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
    }
}
