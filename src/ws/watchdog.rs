//! Whether a connection still lives, decided without a clock.
//!
//! Two clocks. The *transport* clock is set back by every frame: after `ping_interval` without one
//! the server is asked, after `pong_timeout` more the socket is dead. The *data* clock is set back
//! only by what a subscription delivers, so a server that answers pings and delivers nothing is
//! found out too; how long it may be silent follows the feed's own [`ArrivalStats`].
//!
//! A quiet night is no fault: silence is first answered with a fresh subscription on the same link,
//! then with a fresh connection, once. If that one is just as silent the feed itself is quiet; the
//! rhythm is forgotten, and nothing but fresh subscriptions, ever more rarely, follows until
//! listings flow again.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use super::policy::ReconnectionLimits;
use crate::domain::time::UnixMs;

/// So many pauses make a window; the longest of the last two windows is the rhythm.
const WINDOW: u32 = 64;
/// With fewer pauses than this the rhythm is not trusted below `idle_timeout`.
const TRUSTED_AFTER: u32 = 16;
/// A silence is suspicious when it is so many times as long as the longest recent pause.
const SUSPICIOUS_TIMES: u32 = 4;
/// The longest silence between two fresh subscriptions of a feed that is taken to be quiet.
const QUIET_RENEWAL_MAX: Duration = Duration::from_secs(60 * 60);
/// The wall clock and the monotonic one may drift this far apart between two looks.
const WALL_JUMP: Duration = Duration::from_secs(5);

/// How long a feed's pauses usually are. Outlives a single connection.
#[derive(Clone, Debug, Default)]
pub struct ArrivalStats {
    last: Option<Instant>,
    longest: Duration,
    longest_before: Duration,
    pauses: u32,
    has_window: bool,
}

impl ArrivalStats {
    /// Data came.
    #[inline]
    pub fn beat(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now.saturating_duration_since(last));
            self.pauses = self.pauses.saturating_add(1);
            if self.pauses >= WINDOW {
                self.longest_before = self.longest;
                self.longest = Duration::ZERO;
                self.pauses = 0;
                self.has_window = true;
            }
        }
    }

    /// A new connection: the pause until its first data says nothing about the feed.
    pub fn interrupt(&mut self) {
        self.last = None;
    }

    /// A fresh connection was just as silent: the feed is quiet.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// How long a silence is suspicious; `None` while too little is known.
    fn threshold(&self, idle: Duration) -> Option<Duration> {
        if !self.has_window && self.pauses < 2 {
            return None;
        }
        let trusted = self.has_window || self.pauses >= TRUSTED_AFTER;
        let floor = if trusted { idle.checked_div(4).unwrap_or(idle) } else { idle };
        let longest = self.longest.max(self.longest_before);
        Some(longest.saturating_mul(SUSPICIOUS_TIMES).max(floor))
    }
}

/// What a look at the clocks asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogAction {
    /// Nothing.
    Nothing,
    /// Ask whether the server lives.
    Ping,
    /// It does not: silent for this long.
    Dead(Duration),
    /// Subscribe afresh on this link.
    Renew,
    /// Connect afresh: no data for this long.
    Idle(Duration),
}

/// The clocks of one connection.
#[derive(Clone, Debug)]
pub struct Watchdog {
    ping_interval: Duration,
    pong_timeout: Duration,
    idle: Option<Duration>,
    last_frame: Instant,
    asked_at: Option<Instant>,
    data_since: Instant,
    renewed: bool,
    quiet_wait: Duration,
    looked: (Instant, UnixMs),
}

impl Watchdog {
    /// A connection that was just made.
    pub fn new(limits: &ReconnectionLimits, now: Instant, wall: UnixMs) -> Self {
        let idle = Some(limits.idle_timeout).filter(|idle| !idle.is_zero());
        Self {
            ping_interval: limits.ping_interval,
            pong_timeout: limits.pong_timeout,
            idle,
            last_frame: now,
            asked_at: None,
            data_since: now,
            renewed: false,
            quiet_wait: limits.idle_timeout,
            looked: (now, wall),
        }
    }

    /// A frame came, whatever it is.
    #[inline]
    pub fn frame(&mut self, now: Instant) {
        self.last_frame = now;
        self.asked_at = None;
    }

    /// A subscription delivered.
    #[inline]
    pub fn data(&mut self, now: Instant) {
        self.data_since = now;
        self.renewed = false;
    }

    /// When the last frame came.
    pub const fn last_frame(&self) -> Instant {
        self.last_frame
    }

    /// Since when no data has come: from the last, or from the beginning of the connection.
    pub const fn data_since(&self) -> Instant {
        self.data_since
    }

    /// Looks at the clocks. Each answer but [`WatchdogAction::Nothing`] is given once.
    pub fn look(
        &mut self,
        rhythm: &mut ArrivalStats,
        now: Instant,
        wall: UnixMs,
    ) -> WatchdogAction {
        let jumped = self.wall_jumped(now, wall);
        match self.asked_at {
            Some(asked) if now.saturating_duration_since(asked) >= self.pong_timeout => {
                return WatchdogAction::Dead(now.saturating_duration_since(self.last_frame));
            }
            Some(_) => {}
            None if jumped || now >= later(self.last_frame, self.ping_interval) => {
                self.asked_at = Some(now);
                return WatchdogAction::Ping;
            }
            None => {}
        }
        let Some((at, known)) = self.data_due(rhythm) else { return WatchdogAction::Nothing };
        if now < at {
            return WatchdogAction::Nothing;
        }
        let silent = now.saturating_duration_since(self.data_since);
        match (known, self.renewed) {
            (true, true) => {
                rhythm.forget();
                WatchdogAction::Idle(silent)
            }
            (true, false) => {
                self.renewed = true;
                WatchdogAction::Renew
            }
            (false, _) => {
                self.data_since = now;
                self.quiet_wait = self.quiet_wait.saturating_mul(2).min(QUIET_RENEWAL_MAX);
                WatchdogAction::Renew
            }
        }
    }

    /// When to look again at the latest.
    pub fn next(&self, rhythm: &ArrivalStats) -> Instant {
        let transport = match self.asked_at {
            Some(asked) => later(asked, self.pong_timeout),
            None => later(self.last_frame, self.ping_interval),
        };
        self.data_due(rhythm).map_or(transport, |(data, _)| data.min(transport))
    }

    /// When the data clock strikes, and whether the feed's rhythm is known.
    fn data_due(&self, rhythm: &ArrivalStats) -> Option<(Instant, bool)> {
        let idle = self.idle?;
        Some(match rhythm.threshold(idle) {
            Some(threshold) => {
                let times = if self.renewed { 2 } else { 1 };
                (later(self.data_since, threshold.saturating_mul(times)), true)
            }
            None => (later(self.data_since, self.quiet_wait), false),
        })
    }

    /// Whether the machine slept: the wall clock ran ahead of the monotonic one, or back.
    fn wall_jumped(&mut self, now: Instant, wall: UnixMs) -> bool {
        let (then, wall_then) = std::mem::replace(&mut self.looked, (now, wall));
        let expected = wall_then.plus(now.saturating_duration_since(then));
        wall.since(expected).max(expected.since(wall)) > WALL_JUMP
    }
}

fn later(instant: Instant, wait: Duration) -> Instant {
    instant.checked_add(wait).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        clocks: Watchdog,
        rhythm: ArrivalStats,
        start: Instant,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            let clocks = Watchdog::new(&ReconnectionLimits::DEFAULT, start, UnixMs(0));
            Self { clocks, rhythm: ArrivalStats::default(), start, now: start }
        }

        fn look(&mut self) -> WatchdogAction {
            let wall = UnixMs(0).plus(self.now - self.start);
            self.clocks.look(&mut self.rhythm, self.now, wall)
        }

        fn data(&mut self) {
            self.clocks.frame(self.now);
            self.clocks.data(self.now);
            self.rhythm.beat(self.now);
        }

        fn connect_afresh_if(&mut self, is_idle: bool) {
            if is_idle {
                let wall = UnixMs(0).plus(self.now - self.start);
                self.clocks = Watchdog::new(&ReconnectionLimits::DEFAULT, self.now, wall);
                self.rhythm.interrupt();
            }
        }

        /// Lets time pass; the server answers pings at once. Returns what else was due, and when.
        fn answering(&mut self, seconds: u64) -> Vec<(u64, WatchdogAction)> {
            let mut seen = Vec::new();
            for _ in 0..seconds {
                self.now += SECOND;
                loop {
                    match self.look() {
                        WatchdogAction::Nothing => break,
                        WatchdogAction::Ping => self.clocks.frame(self.now),
                        due => {
                            seen.push(((self.now - self.start).as_secs(), due));
                            self.connect_afresh_if(matches!(due, WatchdogAction::Idle(_)));
                        }
                    }
                }
            }
            seen
        }
    }

    #[test]
    fn a_silent_socket_is_found_within_ten_seconds() {
        let mut bench = Bench::new();
        bench.now += 5 * SECOND;
        assert_eq!(bench.look(), WatchdogAction::Ping);
        assert_eq!(bench.look(), WatchdogAction::Nothing);
        bench.now += 4 * SECOND;
        assert_eq!(bench.look(), WatchdogAction::Dead(9 * SECOND));
    }

    #[test]
    fn any_frame_proves_life() {
        let mut bench = Bench::new();
        bench.now += 5 * SECOND;
        assert_eq!(bench.look(), WatchdogAction::Ping);
        bench.now += 3 * SECOND;
        bench.clocks.frame(bench.now);
        bench.now += 4 * SECOND;
        assert_eq!(bench.look(), WatchdogAction::Nothing);
        bench.now += SECOND;
        assert_eq!(bench.look(), WatchdogAction::Ping);
    }

    #[test]
    fn a_brisk_feed_that_falls_silent_is_renewed_and_then_replaced_within_the_idle_timeout() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.now += SECOND;
            bench.data();
        }
        assert_eq!(
            bench.answering(120),
            [
                (115, WatchdogAction::Renew),
                (130, WatchdogAction::Idle(30 * SECOND)),
                (190, WatchdogAction::Renew)
            ]
        );
    }

    #[test]
    fn a_fresh_connection_that_is_just_as_silent_means_a_quiet_feed() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            bench.now += SECOND;
            bench.data();
        }
        let seen = bench.answering(36_000);
        let idle = seen.iter().filter(|(_, due)| matches!(due, WatchdogAction::Idle(_))).count();
        assert_eq!(idle, 1, "{seen:?}");
        assert!(seen.len() < 20, "{seen:?}");
    }

    #[test]
    fn ten_quiet_hours_from_the_start_replace_nothing() {
        let mut bench = Bench::new();
        let seen = bench.answering(36_000);
        assert!(seen.iter().all(|(_, due)| *due == WatchdogAction::Renew), "{seen:?}");
        assert!(seen.len() < 20, "{seen:?}");
    }

    #[test]
    fn a_slow_feed_may_be_silent_for_longer_than_the_idle_timeout() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            bench.now += 120 * SECOND;
            bench.data();
        }
        assert_eq!(bench.answering(479), []);
        assert_eq!(bench.answering(1), [(20 * 120 + 480, WatchdogAction::Renew)]);
    }

    #[test]
    fn bursts_do_not_make_a_pause_suspicious() {
        let mut bench = Bench::new();
        for round in 0..10 {
            for _ in 0..50 {
                bench.now += Duration::from_millis(2);
                bench.data();
            }
            bench.now += 30 * SECOND;
            bench.clocks.frame(bench.now);
            // Of the first pause nothing could be known.
            let expected = if round == 0 { WatchdogAction::Renew } else { WatchdogAction::Nothing };
            assert_eq!(bench.look(), expected);
        }
    }

    #[test]
    fn zero_turns_the_data_clock_off() {
        let mut bench = Bench::new();
        let limits =
            ReconnectionLimits { idle_timeout: Duration::ZERO, ..ReconnectionLimits::DEFAULT };
        bench.clocks = Watchdog::new(&limits, bench.start, UnixMs(0));
        for _ in 0..100 {
            bench.now += SECOND;
            bench.data();
        }
        assert_eq!(bench.answering(36_000), []);
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_answered_with_a_probe() {
        let mut bench = Bench::new();
        bench.now += SECOND;
        assert_eq!(bench.look(), WatchdogAction::Nothing);
        bench.now += SECOND;
        let wall = UnixMs(0).plus(3_600 * SECOND);
        assert_eq!(bench.clocks.look(&mut bench.rhythm, bench.now, wall), WatchdogAction::Ping);
        bench.clocks.frame(bench.now);
        bench.now += SECOND;
        let back = UnixMs(0).plus(60 * SECOND);
        assert_eq!(bench.clocks.look(&mut bench.rhythm, bench.now, back), WatchdogAction::Ping);
    }

    #[test]
    fn the_next_look_is_never_later_than_what_is_due() {
        let mut bench = Bench::new();
        assert_eq!(bench.clocks.next(&bench.rhythm), bench.start + 5 * SECOND);
        bench.now += 5 * SECOND;
        bench.look();
        assert_eq!(bench.clocks.next(&bench.rhythm), bench.start + 9 * SECOND);
    }
}
