//! What the server's clock may show, known as an interval.
//!
//! Nobody tells us the server's time exactly. An answer's `Date` says which second it was at some
//! moment between send and receipt; a stamp in an answer says which millisecond; a listing that has
//! arrived was created before. Each narrows what the difference between the two clocks can be, and
//! the time that passes widens it again, because no two clocks run equally fast.
//!
//! Pure: moments on this machine's monotonic clock are arguments. When to act on what is known
//! here is for others to decide.
//!
//! # Invariants
//!
//! 1. As long as every observation is honest, the true difference lies inside the interval, so a
//!    buy that waits for [`ServerClock::when_surely`] is never early.
//! 2. An observation that contradicts the interval proves one of the two wrong. The newest exchange
//!    wins and starts afresh; a listing's stamp, which anybody may have set, never does.
//! 3. A monotonic clock that stood still, as in a suspended machine, makes us late and not early.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use crate::domain::time::UnixMs;

/// How much faster or slower one clock may run than the other, in microseconds per second. Quartz
/// keeps within a hundred; the rest is for a clock that is being slewed.
pub const DRIFT_PPM: i64 = 200;

/// How stale a `Date` may be beyond its second: servers keep the formatted text and renew it with
/// a timer. It bounds the server's time from above only, so it can make a buy late but not early.
pub const DATE_LAG: Duration = Duration::from_millis(100);

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MILLION: i64 = 1_000_000;

/// What is known about the server's clock.
#[derive(Clone, Debug)]
pub struct ServerClock {
    /// Where this machine's time is counted from.
    origin: Instant,
    known: Option<ClockBounds>,
    contradictions: u64,
}

/// Bounds of the server's time less ours, in µs, as they were at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClockBounds {
    at: i64,
    low: i64,
    /// `None`: only a listing has told us anything.
    high: Option<i64>,
}

/// One exchange with the server: when the request left, and when its answer was here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockExchange {
    /// Before the request's first byte left.
    pub sent: Instant,
    /// After the answer's last byte came.
    pub received: Instant,
}

impl ServerClock {
    /// Knows nothing yet. `origin` is any moment on this machine's monotonic clock.
    pub const fn new(origin: Instant) -> Self {
        Self { origin, known: None, contradictions: 0 }
    }

    /// An answer to this exchange carried this `Date`, which is cut to the second.
    pub fn observe_date(&mut self, exchange: ClockExchange, date: UnixMs) {
        self.observe(exchange, date, SECOND.saturating_add(DATE_LAG));
    }

    /// The server did something in the course of this exchange and stamped it, to the millisecond.
    pub fn observe_stamp(&mut self, exchange: ClockExchange, stamp: UnixMs) {
        self.observe(exchange, stamp, MILLISECOND);
    }

    fn observe(&mut self, exchange: ClockExchange, stamp: UnixMs, unit: Duration) {
        let sent = self.local(exchange.sent.min(exchange.received));
        let received = self.local(exchange.received);
        let stamp = stamp.0.saturating_mul(1_000);
        // The stamp was made before the receipt, and what it cut off is less than a unit. What
        // held when the request left has drifted until its answer came.
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

    /// A listing that was created at this moment of the server's clock was here at `received`.
    pub fn observe_listing(&mut self, received: Instant, created_at: UnixMs) {
        let received = self.local(received);
        let low = created_at.0.saturating_mul(1_000).saturating_sub(received);
        let fresh = ClockBounds { at: received, low, high: None };
        match self.known.map_or(fresh, |known| known.and(fresh)) {
            known if known.is_possible() => self.known = Some(known),
            _ => self.contradictions = self.contradictions.saturating_add(1),
        }
    }

    /// The least that the server's clock can show at this moment.
    pub fn earliest(&self, now: Instant) -> Option<UnixMs> {
        let now = self.local(now);
        let low = self.known?.after(now).low;
        Some(UnixMs(now.saturating_add(low).div_euclid(1_000)))
    }

    /// The most that the server's clock can show at this moment, where anything bounds it.
    pub fn latest(&self, now: Instant) -> Option<UnixMs> {
        let now = self.local(now);
        let high = self.known?.after(now).high?;
        let micros = now.saturating_add(high);
        Some(UnixMs(micros.saturating_add(999).div_euclid(1_000)))
    }

    /// How wide the interval is at this moment; `None` while it has no upper end.
    pub fn width(&self, now: Instant) -> Option<Duration> {
        let known = self.known?.after(self.local(now));
        u64::try_from(known.high?.saturating_sub(known.low)).ok().map(Duration::from_micros)
    }

    /// From when on the server's clock surely shows `mark` or more, as far as is known by now. Past
    /// marks give a past moment. A later observation can only bring it forward, unless it
    /// contradicts the earlier ones, so whoever waits for it should ask again before acting.
    pub fn when_surely(&self, mark: UnixMs) -> Option<Instant> {
        let known = self.known?;
        let missing =
            mark.0.saturating_mul(1_000).saturating_sub(known.low).saturating_sub(known.at).max(0);
        // While it waits the interval goes on widening: wait for that too, rounded up.
        let scaled = i128::from(missing).saturating_mul(i128::from(MILLION));
        let slower = i128::from(MILLION.saturating_sub(DRIFT_PPM));
        let wait = scaled.saturating_add(slower).saturating_sub(1).checked_div(slower)?;
        let local = known.at.saturating_add(i64::try_from(wait).ok()?).saturating_add(1);
        self.origin.checked_add(Duration::from_micros(u64::try_from(local).unwrap_or(0)))
    }

    /// How many observations contradicted what was known before.
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
    /// The same knowledge at a later moment, widened by what the clocks may have drifted.
    fn after(self, now: i64) -> Self {
        let drift = drift(now.saturating_sub(self.at));
        Self {
            at: self.at.max(now),
            low: self.low.saturating_sub(drift),
            high: self.high.map(|high| high.saturating_add(drift)),
        }
    }

    /// What both say, at the later of their moments.
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

/// How far two clocks may drift apart in this many µs, rounded up.
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
        assert_eq!(clock.when_surely(UnixMs(0)), None);
    }

    #[test]
    fn a_date_says_which_second_it_was() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 100, 150), UnixMs(7_000));
        assert_eq!(clock.earliest(at(origin, 150)), Some(UnixMs(7_000)));
        // A second, the lag of a stale text, the way there and back, and ten µs of drift on it.
        assert_eq!(clock.latest(at(origin, 150)), Some(UnixMs(8_151)));
        assert_eq!(clock.width(at(origin, 150)), Some(Duration::from_micros(1_150_010)));
    }

    #[test]
    fn dates_on_both_sides_of_a_tick_narrow_the_interval() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 100, 110), UnixMs(7_000));
        clock.observe_date(exchange(origin, 120, 130), UnixMs(8_000));
        // The tick came between 100 and 130; the rest is for a stale text and for drift.
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
    fn a_listing_from_the_future_is_not_believed() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_date(exchange(origin, 10, 20), UnixMs(7_000));
        clock.observe_listing(at(origin, 20), UnixMs(900_000));
        assert_eq!(clock.earliest(at(origin, 20)), Some(UnixMs(7_000)));
        assert_eq!(clock.contradictions(), 1);
    }

    #[test]
    fn a_contradicting_exchange_starts_afresh() {
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
    fn the_interval_widens_while_nothing_is_heard() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_stamp(exchange(origin, 0, 0), UnixMs(7_000));
        assert_eq!(clock.width(origin), Some(Duration::from_millis(1)));
        let width = clock.width(at(origin, 60_000)).unwrap();
        assert_eq!(width, Duration::from_millis(1 + 2 * 12));
    }

    #[test]
    fn a_mark_that_has_passed_needs_no_wait() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.observe_stamp(exchange(origin, 100, 100), UnixMs(7_000));
        assert!(clock.when_surely(UnixMs(0)).unwrap() <= at(origin, 101));
        assert!(clock.when_surely(UnixMs(i64::MAX)).is_none_or(|when| when > at(origin, 1 << 40)));
    }

    /// A server whose clock runs at its own pace, and what it lets us observe.
    #[derive(Clone, Copy, Debug)]
    struct Server {
        offset_us: i64,
        pace_ppm: i64,
    }

    impl Server {
        fn shows_us(self, local_us: i64) -> i64 {
            local_us + self.offset_us + local_us * self.pace_ppm / MILLION
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Kind {
        Date,
        Stamp,
        Listing,
    }

    proptest! {
        /// Invariant 1: the truth stays inside, and nobody who waits is early.
        #[test]
        fn honest_observations_never_exclude_the_truth(
            offset_us in 1_000_000_000_000_000_i64..2_000_000_000_000_000,
            pace_ppm in -(DRIFT_PPM - 1)..DRIFT_PPM,
            steps in prop::collection::vec(
                (
                    0_u64..100_000_000,
                    0_u64..3_000_000,
                    0_u64..=100,
                    prop::sample::select(vec![Kind::Date, Kind::Stamp, Kind::Listing]),
                ),
                1..20,
            ),
            mark_in_us in -5_000_000_i64..100_000_000,
        ) {
            let server = Server { offset_us, pace_ppm };
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
            let mark = UnixMs((server.shows_us(now) + mark_in_us).div_euclid(1_000));
            let when = clock.when_surely(mark).unwrap();
            prop_assert!(clock.earliest(when).unwrap() >= mark);
            let when_us = i64::try_from((when - origin).as_micros()).unwrap();
            prop_assert!(server.shows_us(when_us) >= mark.0 * 1_000, "early");
        }

        #[test]
        fn any_observation_at_all_is_survived(
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
                let _any = clock.when_surely(UnixMs(stamp));
            }
        }
    }
}
