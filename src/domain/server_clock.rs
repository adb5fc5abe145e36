//! Estimates the server's clock as an interval. Pure: local times are arguments.
//!
//! No message contains the server's exact time. The `Date` header of a response gives the second at
//! some time between request and receipt, a timestamp in a response gives the millisecond, and a
//! received listing was created earlier. Each observation narrows the interval of the difference
//! between the two clocks. With time it widens again because of clock drift.
//!
//! # Invariants
//!
//! 1. If every observation is correct, the true difference is inside the interval, so an order that
//!    waits for [`ServerClock::earliest_certain`] is never early.
//! 2. An observation that contradicts the interval means that one of them is wrong. The newest
//!    exchange replaces the interval. The timestamp of a listing, which is not trusted, never does.
//! 3. A monotonic clock that stops while the machine is suspended makes orders late, not early.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use crate::domain::time::UnixMs;

/// Maximum drift between the clocks, in microseconds per second. Quartz clocks stay within 100; the
/// rest covers a clock that is being slewed.
const DRIFT_PPM: i64 = 200;

/// Maximum staleness of a `Date` beyond its second: servers cache the formatted text and renew it
/// with a timer. It affects only the upper bound of the server's time, so it can delay an order,
/// but never send it early.
const DATE_LAG: Duration = Duration::from_millis(100);

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MILLION: i64 = 1_000_000;

/// Interval estimate of the server's clock.
#[derive(Clone, Debug)]
pub struct ServerClock {
    /// Local times are counted from here.
    origin: Instant,
    known: Option<ClockBounds>,
    contradictions: u64,
}

/// Bounds of the server's time minus local time, in µs, at the local time `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClockBounds {
    at: i64,
    low: i64,
    /// `None` if all observations were listings, which give only a lower bound.
    high: Option<i64>,
}

/// Local times of one request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockExchange {
    /// Before the request's first byte was sent.
    pub sent: Instant,
    /// After the response's last byte was received.
    pub received: Instant,
}

impl ServerClock {
    /// Creates an estimate without observations. `origin` is any local time.
    pub const fn new(origin: Instant) -> Self {
        Self { origin, known: None, contradictions: 0 }
    }

    /// Observes the `Date` header of a response, which is truncated to the second.
    pub fn observe_date(&mut self, exchange: ClockExchange, date: UnixMs) {
        self.observe(exchange, date, SECOND.saturating_add(DATE_LAG));
    }

    /// Observes a timestamp that the server created during an exchange, to the millisecond.
    pub fn observe_stamp(&mut self, exchange: ClockExchange, stamp: UnixMs) {
        self.observe(exchange, stamp, MILLISECOND);
    }

    fn observe(&mut self, exchange: ClockExchange, stamp: UnixMs, unit: Duration) {
        let sent = self.local(exchange.sent.min(exchange.received));
        let received = self.local(exchange.received);
        let stamp = stamp.0.saturating_mul(1_000);
        // The stamp was created before the receipt and truncated by less than a unit. The bound at
        // the time of the request drifts until the response.
        let low = stamp.saturating_sub(received);
        let high = stamp.saturating_add(micros(unit)).saturating_sub(sent);
        let high = high.saturating_add(drift(received.saturating_sub(sent)));
        let fresh = ClockBounds { at: received, low, high: Some(high) };
        match self.known.map_or(fresh, |known| known.and(fresh)) {
            known if known.is_possible() => self.known = Some(known),
            _ => {
                self.contradictions = self.contradictions.saturating_add(1);
                self.known = Some(fresh);
            }
        }
    }

    /// Observes a listing that was created at this server time and received at `received`.
    pub fn observe_listing(&mut self, received: Instant, created_at: UnixMs) {
        let received = self.local(received);
        let low = created_at.0.saturating_mul(1_000).saturating_sub(received);
        let fresh = ClockBounds { at: received, low, high: None };
        match self.known.map_or(fresh, |known| known.and(fresh)) {
            known if known.is_possible() => self.known = Some(known),
            _ => self.contradictions = self.contradictions.saturating_add(1),
        }
    }

    /// Returns the lower bound of the server's time.
    pub fn earliest(&self, now: Instant) -> Option<UnixMs> {
        let now = self.local(now);
        let low = self.known?.after(now).low;
        Some(UnixMs(now.saturating_add(low).div_euclid(1_000)))
    }

    /// Returns the upper bound of the server's time, if there is one.
    pub fn latest(&self, now: Instant) -> Option<UnixMs> {
        let now = self.local(now);
        let high = self.known?.after(now).high?;
        let micros = now.saturating_add(high);
        Some(UnixMs(micros.saturating_add(999).div_euclid(1_000)))
    }

    /// Returns the width of the interval; `None` without an upper bound.
    pub fn width(&self, now: Instant) -> Option<Duration> {
        let known = self.known?.after(self.local(now));
        u64::try_from(known.high?.saturating_sub(known.low)).ok().map(Duration::from_micros)
    }

    /// Returns the earliest local time at which the server's clock has certainly reached `target`,
    /// by the observations so far. It is in the past for a past target. A later observation can
    /// only move it to an earlier time, unless it contradicts the earlier ones, so a caller that
    /// has waited must check again.
    pub fn earliest_certain(&self, target: UnixMs) -> Option<Instant> {
        let known = self.known?;
        let missing = target
            .0
            .saturating_mul(1_000)
            .saturating_sub(known.low)
            .saturating_sub(known.at)
            .max(0);
        // The interval widens during the wait, so the wait includes the drift, rounded up.
        let scaled = i128::from(missing).saturating_mul(i128::from(MILLION));
        let slower = i128::from(MILLION.saturating_sub(DRIFT_PPM));
        let wait = scaled.saturating_add(slower).saturating_sub(1).checked_div(slower)?;
        let local = known.at.saturating_add(i64::try_from(wait).ok()?).saturating_add(1);
        self.origin.checked_add(Duration::from_micros(u64::try_from(local).unwrap_or(0)))
    }

    /// Returns the number of observations that contradicted the interval.
    pub const fn contradictions(&self) -> u64 {
        self.contradictions
    }

    fn local(&self, moment: Instant) -> i64 {
        match moment.checked_duration_since(self.origin) {
            Some(since) => micros(since),
            None => micros(self.origin.saturating_duration_since(moment)).saturating_neg(),
        }
    }
}

impl ClockBounds {
    /// Returns the bounds at a later time, widened by the maximum drift.
    fn after(self, now: i64) -> Self {
        let drift = drift(now.saturating_sub(self.at));
        Self {
            at: self.at.max(now),
            low: self.low.saturating_sub(drift),
            high: self.high.map(|high| high.saturating_add(drift)),
        }
    }

    /// Returns the intersection of both, at the later of their times.
    fn and(self, other: Self) -> Self {
        let (one, other) = (self.after(other.at), other.after(self.at));
        let high = match (one.high, other.high) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { at: one.at, low: one.low.max(other.low), high }
    }

    fn is_possible(&self) -> bool {
        self.high.is_none_or(|high| self.low <= high)
    }
}

/// Returns the maximum drift over this time, in µs, rounded up.
fn drift(micros: i64) -> i64 {
    let scaled = i128::from(micros.max(0)).saturating_mul(i128::from(DRIFT_PPM));
    let drift = scaled.saturating_add(999_999).checked_div(i128::from(MILLION));
    drift.and_then(|drift| i64::try_from(drift).ok()).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(origin: Instant, ms: u64) -> Instant {
        origin + Duration::from_millis(ms)
    }

    fn exchange(origin: Instant, sent_ms: u64, received_ms: u64) -> ClockExchange {
        ClockExchange { sent: at(origin, sent_ms), received: at(origin, received_ms) }
    }

    #[test]
    fn nothing_is_known_at_first() {
        let origin = Instant::now();
        let clock = ServerClock::new(origin);
        assert_eq!(clock.earliest(origin), None);
        assert_eq!(clock.width(origin), None);
        assert_eq!(clock.earliest_certain(UnixMs(0)), None);
    }

    #[test]
    fn a_date_bounds_the_clock_to_about_a_second() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 100, 150), UnixMs(7_000));
        assert_eq!(clock.earliest(at(origin, 150)), Some(UnixMs(7_000)));
        // The bound adds one second, the maximum staleness, the round trip, and 10 µs of drift.
        assert_eq!(clock.latest(at(origin, 150)), Some(UnixMs(8_151)));
        assert_eq!(clock.width(at(origin, 150)), Some(Duration::from_micros(1_150_010)));
    }

    #[test]
    fn dates_on_both_sides_of_a_tick_narrow_the_interval() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 100, 110), UnixMs(7_000));
        clock.observe_date(exchange(origin, 120, 130), UnixMs(8_000));
        // The second began between 100 and 130 ms; the rest is staleness and drift.
        let width = clock.width(at(origin, 130)).unwrap();
        assert!(width <= Duration::from_millis(131), "{width:?}");
        clock.observe_stamp(exchange(origin, 140, 150), UnixMs(8_020));
        let width = clock.width(at(origin, 150)).unwrap();
        assert!(width <= Duration::from_millis(12), "{width:?}");
    }

    #[test]
    fn a_listing_bounds_the_clock_from_below() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_listing(at(origin, 10), UnixMs(6_900));
        assert_eq!(clock.earliest(at(origin, 10)), Some(UnixMs(6_900)));
        assert_eq!(clock.latest(at(origin, 10)), None);
        clock.observe_date(exchange(origin, 10, 20), UnixMs(7_000));
        clock.observe_listing(at(origin, 30), UnixMs(7_400));
        assert_eq!(clock.earliest(at(origin, 30)), Some(UnixMs(7_400)));
    }

    #[test]
    fn a_listing_created_in_the_future_is_ignored() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 10, 20), UnixMs(7_000));
        clock.observe_listing(at(origin, 20), UnixMs(900_000));
        assert_eq!(clock.earliest(at(origin, 20)), Some(UnixMs(7_000)));
        assert_eq!(clock.contradictions(), 1);
    }

    #[test]
    fn a_contradicting_exchange_replaces_the_interval() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 10, 20), UnixMs(7_000));
        clock.observe_date(exchange(origin, 30, 40), UnixMs(60_000));
        assert_eq!(clock.earliest(at(origin, 40)), Some(UnixMs(60_000)));
        clock.observe_date(exchange(origin, 50, 60), UnixMs(7_000));
        assert_eq!(clock.earliest(at(origin, 60)), Some(UnixMs(7_000)));
        assert_eq!(clock.contradictions(), 2);
    }

    #[test]
    fn the_interval_widens_without_observations() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_stamp(exchange(origin, 0, 0), UnixMs(7_000));
        assert_eq!(clock.width(origin), Some(Duration::from_millis(1)));
        let width = clock.width(at(origin, 60_000)).unwrap();
        assert_eq!(width, Duration::from_millis(1 + 2 * 12));
    }

    #[test]
    fn a_past_moment_needs_no_wait() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_stamp(exchange(origin, 100, 100), UnixMs(7_000));
        assert!(clock.earliest_certain(UnixMs(0)).unwrap() <= at(origin, 101));
        assert!(
            clock.earliest_certain(UnixMs(i64::MAX)).is_none_or(|when| when > at(origin, 1 << 40))
        );
    }

    /// Server whose clock drifts against the local one.
    #[derive(Clone, Copy, Debug)]
    struct Server {
        offset_us: i64,
        drift_ppm: i64,
    }

    impl Server {
        fn shows_us(self, local_us: i64) -> i64 {
            local_us + self.offset_us + local_us * self.drift_ppm / MILLION
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Kind {
        Date,
        Stamp,
        Listing,
    }

    proptest! {
        /// Invariant 1: the true time is inside the interval, and no wait ends early.
        #[test]
        fn honest_observations_never_exclude_the_truth(
            offset_us in 1_000_000_000_000_000_i64..2_000_000_000_000_000,
            drift_ppm in -(DRIFT_PPM - 1)..DRIFT_PPM,
            steps in prop::collection::vec(
                (
                    0_u64..100_000_000,
                    0_u64..3_000_000,
                    0_u64..=100,
                    prop::sample::select(vec![Kind::Date, Kind::Stamp, Kind::Listing]),
                ),
                1..20,
            ),
            target_in_us in -5_000_000_i64..100_000_000,
        ) {
            let server = Server { offset_us, drift_ppm };
            let origin = Instant::now();
            let moment = |us: u64| origin + Duration::from_micros(us);
            let mut clock = ServerClock::new(origin);
            let mut now = 0_u64;
            for (pause, trip, share, kind) in steps {
                let sent = now + pause;
                let received = sent + trip;
                let done = sent + trip * share / 100;
                let stamp_ms = server.shows_us(i64::try_from(done).unwrap()).div_euclid(1_000);
                let exchange = ClockExchange { sent: moment(sent), received: moment(received) };
                match kind {
                    Kind::Date => {
                        let second = stamp_ms.div_euclid(1_000) * 1_000;
                        clock.observe_date(exchange, UnixMs(second));
                    }
                    Kind::Stamp => clock.observe_stamp(exchange, UnixMs(stamp_ms)),
                    Kind::Listing => clock.observe_listing(moment(received), UnixMs(stamp_ms)),
                }
                now = received;
                let truth = UnixMs(server.shows_us(i64::try_from(now).unwrap()).div_euclid(1_000));
                prop_assert!(clock.earliest(moment(now)).unwrap() <= truth);
                prop_assert!(clock.latest(moment(now)).is_none_or(|latest| truth <= latest));
            }
            prop_assert_eq!(clock.contradictions(), 0);

            let now = i64::try_from(now).unwrap();
            let target = UnixMs((server.shows_us(now) + target_in_us).div_euclid(1_000));
            let when = clock.earliest_certain(target).unwrap();
            prop_assert!(clock.earliest(when).unwrap() >= target);
            let when_us = i64::try_from((when - origin).as_micros()).unwrap();
            prop_assert!(server.shows_us(when_us) >= target.0 * 1_000, "early");
        }

        /// A listing that a burst passes over is observed after later ones were decided. Each
        /// observation rounds the drift up, by at most a microsecond.
        #[test]
        fn a_listing_that_is_observed_late_only_raises_the_lower_bound(
            stamps in prop::collection::vec((0_i64..10_000, 0_u32..5_000), 1..10),
            listings in prop::collection::vec((0_i64..10_000, 0_u32..5_000), 1..10),
            later in 5_000_u64..10_000,
        ) {
            let origin = Instant::now();
            let mut clock = ServerClock::new(origin);
            for (stamp, received) in stamps {
                let exchange = exchange(origin, u64::from(received / 2), u64::from(received));
                clock.observe_stamp(exchange, UnixMs(stamp));
            }
            for (created, received) in listings {
                let now = at(origin, later);
                let bounds = |clock: &ServerClock| (clock.earliest(now).unwrap().0, clock.latest(now).unwrap().0);
                let (earliest, latest) = bounds(&clock);
                clock.observe_listing(at(origin, u64::from(received)), UnixMs(created));
                let (raised, same) = bounds(&clock);
                prop_assert!(earliest - 1 <= raised && (latest..=latest + 1).contains(&same));
            }
        }

        #[test]
        fn arbitrary_observations_never_panic(
            observations in prop::collection::vec((any::<i64>(), any::<u32>(), any::<u32>(), 0..3), 0..20)
        ) {
            let origin = Instant::now();
            let mut clock = ServerClock::new(origin);
            for (stamp, sent, received, kind) in observations {
                let exchange = exchange(origin, u64::from(sent), u64::from(received));
                match kind {
                    0 => clock.observe_date(exchange, UnixMs(stamp)),
                    1 => clock.observe_stamp(exchange, UnixMs(stamp)),
                    _ => clock.observe_listing(exchange.received, UnixMs(stamp)),
                }
                let (earliest, latest) = (clock.earliest(origin), clock.latest(origin));
                prop_assert!(latest.is_none_or(|latest| earliest.unwrap() <= latest));
                let _any = clock.earliest_certain(UnixMs(stamp));
            }
        }
    }
}
