//! When listings arrive: singly and independently most of the time, and in bursts when somebody
//! lists an inventory. Pure: the seed decides.

use std::time::Duration;

use super::{dice::Dice, settings::Rate};

/// One visit in so many lists an inventory.
const INVENTORY_EVERY: u64 = 30;
/// How many items an inventory has, at least and at most.
const INVENTORY: (u64, u64) = (6, 40);
/// The mean number of listings in so many visits: all single but for one of 23 on average.
const LISTINGS_PER_INVENTORY_EVERY: u32 = 29 + 23;
/// How many items of an inventory appear in the same instant, at least and at most.
const TOGETHER: (u64, u64) = (1, 8);
/// The pause between two such groups, in hundredths of the mean time between visits.
const PAUSE: (u64, u64) = (1, 40);
/// A hundredth of that mean counts as this at most: no inventory takes seconds to appear.
const PAUSE_UNIT_MAX: Duration = Duration::from_millis(1);

/// When something is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextArrival {
    /// Since the market opened.
    pub at: Duration,
    /// Which group of listings it appears with, counted from one.
    pub group: u64,
}

/// The endless sequence of arrivals of one seed.
#[derive(Clone, Debug)]
pub struct Arrivals {
    dice: Dice,
    mean_between_visits: Option<Duration>,
    visit_at: Duration,
    last: NextArrival,
    left_of_inventory: u64,
    left_of_group: u64,
}

impl Arrivals {
    /// The sequence of this seed, at this rate on average.
    pub fn new(seed: u64, rate: Rate) -> Self {
        let mean = rate.mean_between(LISTINGS_PER_INVENTORY_EVERY);
        let visits = u32::try_from(INVENTORY_EVERY).unwrap_or(1);
        Self {
            dice: Dice::aside(seed, 1),
            mean_between_visits: mean.and_then(|mean| mean.checked_div(visits)),
            visit_at: Duration::ZERO,
            last: NextArrival { at: Duration::ZERO, group: 0 },
            left_of_inventory: 0,
            left_of_group: 0,
        }
    }

    fn of_inventory(&mut self, mean: Duration) -> NextArrival {
        if self.left_of_group == 0 {
            let pauses = u32::try_from(self.dice.between(PAUSE.0, PAUSE.1)).unwrap_or(1);
            let unit = mean.checked_div(100).unwrap_or_default().min(PAUSE_UNIT_MAX);
            self.last.at = self.last.at.saturating_add(unit.saturating_mul(pauses));
            self.last.group = self.last.group.saturating_add(1);
            self.left_of_group = self.dice.between(TOGETHER.0, TOGETHER.1);
        }
        self.left_of_group = self.left_of_group.saturating_sub(1);
        self.left_of_inventory = self.left_of_inventory.saturating_sub(1);
        self.last
    }
}

impl Iterator for Arrivals {
    type Item = NextArrival;

    fn next(&mut self) -> Option<NextArrival> {
        let mean = self.mean_between_visits?;
        if self.left_of_inventory > 0 {
            return Some(self.of_inventory(mean));
        }
        self.visit_at = self.visit_at.saturating_add(self.dice.wait_until_next(mean));
        self.last.at = self.last.at.max(self.visit_at);
        self.last.group = self.last.group.saturating_add(1);
        if self.dice.below(INVENTORY_EVERY) == 0 {
            let items = self.dice.between(INVENTORY.0, INVENTORY.1);
            self.left_of_inventory = items.saturating_sub(1);
            self.left_of_group = self.dice.between(TOGETHER.0, TOGETHER.1).saturating_sub(1);
        }
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_lists_at_the_same_moments() {
        let moments =
            |seed| Arrivals::new(seed, Rate::per_second(20)).take(500).collect::<Vec<_>>();
        assert_eq!(moments(7), moments(7));
        assert_ne!(moments(7), moments(8));
    }

    #[test]
    fn the_rate_is_kept_on_average() {
        for rate in [1, 20, 5_000] {
            let last = Arrivals::new(7, Rate::per_second(rate)).nth(49_999).unwrap();
            let seconds = last.at.as_millis() * u128::from(rate) / 50_000;
            assert!((900..1_100).contains(&seconds), "{rate}: {seconds}");
        }
    }

    #[test]
    fn listings_come_in_order_and_now_and_then_in_bursts() {
        let arrivals: Vec<NextArrival> =
            Arrivals::new(7, Rate::per_second(20)).take(5_000).collect();
        assert!(arrivals.is_sorted_by_key(|arrival| (arrival.at, arrival.group)));
        let most =
            arrivals.windows(10).filter(|ten| ten[9].at - ten[0].at < Duration::from_millis(100));
        assert!(most.count() > 50, "bursts");
        let groups: std::collections::BTreeSet<u64> =
            arrivals.iter().map(|one| one.group).collect();
        assert!(groups.len() < 4_500, "groups");
    }

    #[test]
    fn a_rate_of_zero_lists_nothing() {
        assert_eq!(Arrivals::new(7, Rate::NONE).next(), None);
    }
}
