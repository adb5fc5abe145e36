//! Arrival times of listings: a Poisson process of sellers. Most list one item, some list a whole
//! inventory in bursts. Determined by the seed. Pure.

use std::time::Duration;

use super::{
    random::{self, Rng, RngExt as _},
    settings::Rate,
};

/// One in this many sellers lists an inventory.
const INVENTORY_EVERY: u64 = 30;
/// Minimum and maximum number of items in an inventory.
const INVENTORY: (u64, u64) = (6, 40);
/// Mean number of listings of [`INVENTORY_EVERY`] sellers: 29 single items and an inventory of 23.
const LISTINGS_PER_INVENTORY_EVERY: u32 = 29 + 23;
/// Minimum and maximum number of items of an inventory that appear at the same time.
const TOGETHER: (u64, u64) = (1, 8);
/// Minimum and maximum pause between two such groups, in hundredths of the mean time between
/// sellers.
const PAUSE: (u64, u64) = (1, 40);
/// Upper bound of a hundredth of that mean, so that an inventory appears within a second.
const PAUSE_UNIT_MAX: Duration = Duration::from_millis(1);

/// Arrival of one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextArrival {
    /// Time since the market opened.
    pub at: Duration,
    /// Number of the group of listings that appear together, from 1.
    pub group: u64,
}

/// Infinite iterator over the arrivals of a seed.
#[derive(Clone, Debug)]
pub struct Arrivals {
    rng: Rng,
    mean_between_sellers: Option<Duration>,
    seller_at: Duration,
    last: NextArrival,
    left_of_inventory: u64,
    left_of_group: u64,
}

impl Arrivals {
    /// Creates the arrivals of a seed with an average rate.
    pub fn new(seed: u64, rate: Rate) -> Self {
        let mean = rate.mean_between(LISTINGS_PER_INVENTORY_EVERY);
        let sellers = u32::try_from(INVENTORY_EVERY).unwrap_or(1);
        Self {
            rng: random::stream(seed, 1),
            mean_between_sellers: mean.and_then(|mean| mean.checked_div(sellers)),
            seller_at: Duration::ZERO,
            last: NextArrival { at: Duration::ZERO, group: 0 },
            left_of_inventory: 0,
            left_of_group: 0,
        }
    }

    fn next_of_inventory(&mut self, mean: Duration) -> NextArrival {
        if self.left_of_group == 0 {
            let pauses = u32::try_from(self.rng.u64(PAUSE.0..=PAUSE.1)).unwrap_or(1);
            let unit = mean.checked_div(100).unwrap_or_default().min(PAUSE_UNIT_MAX);
            self.last.at = self.last.at.saturating_add(unit.saturating_mul(pauses));
            self.last.group = self.last.group.saturating_add(1);
            self.left_of_group = self.rng.u64(TOGETHER.0..=TOGETHER.1);
        }
        self.left_of_group = self.left_of_group.saturating_sub(1);
        self.left_of_inventory = self.left_of_inventory.saturating_sub(1);
        self.last
    }
}

impl Iterator for Arrivals {
    type Item = NextArrival;

    fn next(&mut self) -> Option<NextArrival> {
        let mean = self.mean_between_sellers?;
        if self.left_of_inventory > 0 {
            return Some(self.next_of_inventory(mean));
        }
        self.seller_at = self.seller_at.saturating_add(self.rng.exponential_duration(mean));
        self.last.at = self.last.at.max(self.seller_at);
        self.last.group = self.last.group.saturating_add(1);
        if self.rng.u64(..INVENTORY_EVERY) == 0 {
            let items = self.rng.u64(INVENTORY.0..=INVENTORY.1);
            self.left_of_inventory = items.saturating_sub(1);
            self.left_of_group = self.rng.u64(TOGETHER.0..=TOGETHER.1).saturating_sub(1);
        }
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let times = |seed| Arrivals::new(seed, Rate::per_second(20)).take(500).collect::<Vec<_>>();
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }

    #[test]
    fn the_average_rate_is_the_given_one() {
        for rate in [1, 20, 5_000] {
            let last = Arrivals::new(7, Rate::per_second(rate)).nth(49_999).unwrap();
            let seconds = last.at.as_millis() * u128::from(rate) / 50_000;
            assert!((900..1_100).contains(&seconds), "{rate}: {seconds}");
        }
    }

    #[test]
    fn arrivals_are_ordered_and_include_bursts() {
        let arrivals: Vec<NextArrival> =
            Arrivals::new(7, Rate::per_second(20)).take(5_000).collect();
        assert!(arrivals.is_sorted_by_key(|arrival| (arrival.at, arrival.group)));
        let bursts =
            arrivals.windows(10).filter(|ten| ten[9].at - ten[0].at < Duration::from_millis(100));
        assert!(bursts.count() > 50, "bursts");
        let groups: std::collections::BTreeSet<u64> =
            arrivals.iter().map(|one| one.group).collect();
        assert!(groups.len() < 4_500, "groups");
    }

    #[test]
    fn a_rate_of_zero_has_no_arrivals() {
        assert_eq!(Arrivals::new(7, Rate::NONE).next(), None);
    }
}
