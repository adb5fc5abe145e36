//! Chance, by seed: whole numbers only, so a seed means the same market on every machine. Pure.

use std::time::Duration;

/// A stream of random numbers that a seed decides entirely.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for one of many things, independent of all others of the same seed.
    pub const fn aside(seed: u64, which: u64) -> Self {
        Self(mix(seed ^ mix(which.wrapping_add(0x5851_f42d_4c95_7f2d))))
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; zero for a bound of zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()).wrapping_mul(u128::from(bound)) >> 64;
        u64::try_from(wide).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let room = most.saturating_sub(least).saturating_add(1);
        least.saturating_add(self.below(room))
    }

    /// An amount from `least` to `most`, both included.
    pub fn cents(&mut self, least: i64, most: i64) -> i64 {
        let room = u64::try_from(most.saturating_sub(least)).unwrap_or(0);
        least.saturating_add(i64::try_from(self.below(room.saturating_add(1))).unwrap_or(0))
    }

    /// True in so many of a thousand cases.
    pub fn permille(&mut self, share: u32) -> bool {
        self.below(1_000) < u64::from(share)
    }

    /// True in so many of a million cases.
    pub fn ppm(&mut self, share: u32) -> bool {
        self.below(1_000_000) < u64::from(share)
    }

    /// One of several; `None` of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(of.len()).unwrap_or(0));
        of.get(usize::try_from(index).unwrap_or(0))
    }

    /// One of several words; empty of none.
    pub fn word<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.pick(of).copied().unwrap_or_default()
    }

    /// A wait from `least` to `most`, each length as likely as any other.
    pub fn wait(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_micros(self.between(micros(least), micros(most)))
    }

    /// A wait from `least` to `most`, each *order of magnitude* as likely as any other.
    pub fn wait_spread(&mut self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (micros(least).max(1), micros(most).max(1));
        let doublings = u64::from(most.checked_div(least).unwrap_or(1).max(1).ilog2());
        let floor = u32::try_from(self.between(0, doublings)).unwrap_or(0);
        let low = least.checked_shl(floor).unwrap_or(most);
        Duration::from_micros(self.between(low, low.saturating_mul(2).min(most)))
    }

    /// A wait until the next of events that come independently of each other, `mean` apart.
    ///
    /// Von Neumann's way: how long a run of uniform numbers falls decides, so nothing but
    /// comparisons of whole numbers is needed.
    pub fn wait_until_next(&mut self, mean: Duration) -> Duration {
        let mut whole = 0_u64;
        while whole < 64 {
            let first = self.next();
            let (mut last, mut falls) = (first, 0_u32);
            loop {
                let drawn = self.next();
                if drawn >= last {
                    break;
                }
                last = drawn;
                falls = falls.saturating_add(1);
            }
            if falls % 2 == 0 {
                let mean = u128::from(micros(mean));
                let part = mean.wrapping_mul(u128::from(first)) >> 64;
                let wait = mean.saturating_mul(u128::from(whole)).saturating_add(part);
                return Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX));
            }
            whole = whole.saturating_add(1);
        }
        mean.saturating_mul(64)
    }
}

/// Spreads the bits of a number over the whole word.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn micros(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_numbers() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.next()).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        assert_ne!(Dice::aside(7, 1).next(), Dice::aside(7, 2).next());
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut dice = Dice::new(1);
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|_| dice.between(3, 6)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
        assert!((0..1_000).all(|_| !dice.permille(0)));
        assert!((0..1_000).all(|_| dice.permille(1_000)));
    }

    #[test]
    fn independent_events_are_as_far_apart_as_asked_on_average() {
        let mut dice = Dice::new(7);
        let mean = Duration::from_millis(50);
        let waits: Vec<Duration> = (0..20_000).map(|_| dice.wait_until_next(mean)).collect();
        let average = waits.iter().sum::<Duration>() / 20_000;
        assert!((48..=52).contains(&average.as_millis()), "{average:?}");
        // Of an exponential distribution 13.5 % lie above twice the mean.
        let above = waits.iter().filter(|wait| **wait > mean * 2).count();
        assert!((2_500..2_900).contains(&above), "{above}");
    }

    #[test]
    fn spread_waits_stay_within_their_bounds() {
        let mut dice = Dice::new(7);
        let (least, most) = (Duration::from_micros(300), Duration::from_secs(5));
        for _ in 0..10_000 {
            let wait = dice.wait_spread(least, most);
            assert!(least <= wait && wait <= most, "{wait:?}");
        }
    }
}
