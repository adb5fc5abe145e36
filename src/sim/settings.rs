//! Settings of the simulated market.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use super::{faults::Fault, practice::PracticeItem};
use crate::domain::money::{Amount, Decimals};

/// Maximum average rate of listings per second.
const RATE_PER_SECOND_MAX: u32 = 100_000;

/// Settings of a simulated market. The default is that of `sniper sim`, but on a port chosen by the
/// system.
#[derive(Clone, Debug)]
pub struct SimSettings {
    /// Listening address. With port 0 the system chooses the port.
    pub listen: SocketAddr,
    /// Serves `wss` and `https` if set, else plain TCP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Determines the listings, the rivals and the outcomes of purchases.
    pub seed: u64,
    /// Average rate of listings.
    pub rate: Rate,
    /// Listings per thousand that match the demo's whitelist.
    pub wanted_permille: u32,
    /// Items of a practice run, which are listed instead of those that match the demo's whitelist.
    pub practice: Option<Arc<[PracticeItem]>>,
    /// Listings per thousand with a [`ListingDefect`](super::catalogue::ListingDefect).
    pub defect_permille: u32,
    /// Listings per thousand that can be joined only some time after they appear.
    pub held_permille: u32,
    /// Rival buyers; `None` for a market without rivals.
    pub rivals: Option<Rivals>,
    /// Initial balance of the account.
    pub balance: Amount,
    /// Withdrawal limit of the account; `None` for no limit.
    pub daily_limit: Option<Amount>,
    /// Timing and outcomes of purchases.
    pub delivery: Delivery,
    /// Faults that are injected.
    pub faults: Vec<Fault>,
    /// Sets the account's `suspectedTrader` flag, which delays when it may join a listing.
    pub suspected_trader: bool,
    pub user_id: String,
    /// Lead of the market's clock over this machine's, in milliseconds; negative if behind.
    pub clock_ahead_ms: i64,
    /// Idle time after which the market closes an HTTP connection.
    pub http_idle: Duration,
    /// Interval of the feed's protocol-level pings.
    pub ping_every: Duration,
    /// Settings of markets that change prices under one id and know the buyer's own order ids.
    pub repricing: RepricingSettings,
}

/// Settings of a market that changes prices under one id and knows the buyer's own order ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepricingSettings {
    /// Average number of price changes for each listing.
    pub price_changes: u32,
    /// Listings per thousand that are locked for some days.
    pub locked_permille: u32,
    /// Listings of other games for a thousand listings, on a feed with several games.
    pub foreign_permille: u32,
    /// Removed listings per thousand that return under the same id.
    pub relisted_permille: u32,
    /// Minimum and maximum time from a purchase until a look-up finds it.
    pub visible_after: (Duration, Duration),
    /// Delivered purchases per thousand that are rolled back.
    pub rollback_permille: u32,
    /// Minimum and maximum time from the delivery until it is rolled back.
    pub rollback_after: (Duration, Duration),
    /// Part of the price that the market keeps of a returned purchase, in thousandths.
    pub commission_permille: u32,
    /// Time after a ping within which the client must answer.
    pub pong_timeout: Duration,
    /// Time for which a token of the feed is valid.
    pub token_valid_for: Duration,
    /// Age below which a search does not find a listing.
    pub search_behind: Duration,
    /// Rejects requests beyond the documented rates.
    pub limits_requests: bool,
}

/// An average rate of listings, in hundredths of a listing per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u32);

/// The text is not a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number of listings per second from 0 to {RATE_PER_SECOND_MAX}, such as 20 or 0.5"
)]
pub struct RateError;

/// The text is not a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 0 to {}", u64::MAX)]
pub struct SeedError;

/// Parses a seed.
///
/// # Errors
///
/// Returns a [`SeedError`] if the text is not a whole number of 64 bits.
pub fn parse_seed(text: &str) -> Result<u64, SeedError> {
    text.parse().map_err(|_not_a_number| SeedError)
}

/// Other buyers on the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rivals {
    /// Minimum time from listing to a rival's purchase.
    pub delay_min: Duration,
    /// Maximum time from listing to a rival's purchase.
    pub delay_max: Duration,
    /// Listings per thousand that a rival buys.
    pub share_permille: u32,
}

/// Timing and outcomes of purchases. Times are a minimum and a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Time from the purchase until the seller confirms or the purchase is cancelled.
    pub confirm: (Duration, Duration),
    /// Time from the confirmation until the item is delivered.
    pub deliver: (Duration, Duration),
    /// Purchases per thousand that are cancelled.
    pub fail_permille: u32,
    /// Time from a cancellation until the coins are credited again.
    pub refund: (Duration, Duration),
}

impl Rate {
    /// No generated listings: only those of `list_items` of the simulator appear.
    pub const NONE: Self = Self(0);

    /// Creates a rate, capped at [`RATE_PER_SECOND_MAX`].
    pub const fn per_second(listings: u32) -> Self {
        if listings > RATE_PER_SECOND_MAX {
            Self(RATE_PER_SECOND_MAX * 100)
        } else {
            Self(listings * 100)
        }
    }

    /// Returns this rate multiplied by a number, which may exceed [`RATE_PER_SECOND_MAX`].
    #[must_use]
    pub const fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// Returns the mean time in which this number of listings appears; `None` at a rate of zero.
    pub fn mean_between(self, listings: u32) -> Option<Duration> {
        let ns = u64::from(listings).saturating_mul(100_000_000_000).checked_div(self.0.into())?;
        Some(Duration::from_nanos(ns))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let number = Amount::parse(text, Decimals::Two).map_err(|_not_a_number| RateError)?;
        let rate = u32::try_from(number.cents()).map_err(|_negative| RateError)?;
        if rate <= RATE_PER_SECOND_MAX * 100 { Ok(Self(rate)) } else { Err(RateError) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Amount::from_cents(self.0.into()).to_string();
        f.pad(text.strip_suffix(".00").unwrap_or(&text))
    }
}

impl Default for Rivals {
    /// Delays from faster than any bot to slower than a human; rivals buy about two of three
    /// listings.
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

impl Default for RepricingSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            price_changes: 2,
            locked_permille: 60,
            foreign_permille: 800,
            relisted_permille: 200,
            visible_after: (seconds(1), seconds(8)),
            rollback_permille: 20,
            commission_permille: 0,
            rollback_after: (seconds(5), seconds(60)),
            pong_timeout: seconds(7),
            token_valid_for: seconds(3_600),
            search_behind: seconds(60),
            limits_requests: true,
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
            practice: None,
            defect_permille: 12,
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
            repricing: RepricingSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_may_be_whole_or_decimal() {
        assert_eq!("20".parse(), Ok(Rate::per_second(20)));
        assert_eq!("0.5".parse::<Rate>().unwrap().mean_between(1), Some(Duration::from_secs(2)));
        assert_eq!(Rate::NONE.mean_between(1), None);
        assert_eq!([Rate::per_second(20).to_string(), Rate(50).to_string()], ["20", "0.50"]);
        for text in ["", "-1", "many", "NaN", "1e9", "0.001"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
    }
}
