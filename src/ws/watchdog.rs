//! Liveness of a connection, as a state machine. Pure: time is an argument.
//!
//! Two timers. The *transport* timer is reset by every frame: after `ping_interval` without one a
//! ping is sent, and after another `pong_timeout` the socket is dead; a server may set both times.
//! The *data* timer is reset by subscription data only, so it detects a server that answers pings
//! and delivers nothing. Its timeout follows the [`ArrivalStats`] of the feed.
//!
//! A quiet feed is no fault. Silence leads first to a new subscription on the same connection, then
//! once to a new connection, for which the statistics are reset. If that one is silent too, the
//! feed is quiet, and only new subscriptions follow, at growing intervals.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use super::policy::ReconnectionLimits;
use crate::{
    domain::time::{SuspendDetector, UnixMs},
    protocol::Heartbeat,
};

/// Intervals per window. The longest interval of the last two windows sets the data timeout.
const WINDOW: u32 = 64;
/// Minimum number of intervals for a data timeout below `idle_timeout`.
const INTERVALS_MIN: u32 = 16;
/// Minimum data timeout as a fraction of `idle_timeout`.
const IDLE_DIVISOR: u32 = 4;
/// Data timeout as a multiple of the longest recent interval.
const TIMEOUT_FACTOR: u32 = 4;
/// Maximum time between two new subscriptions of a quiet feed.
const QUIET_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Bounds of the times that a server may set for its heartbeat.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(120);

/// Statistics of the intervals between data of a feed. Kept across connections.
#[derive(Clone, Debug, Default)]
pub struct ArrivalStats {
    last: Option<Instant>,
    longest: Duration,
    longest_before: Duration,
    intervals: u32,
    has_window: bool,
}

impl ArrivalStats {
    /// Records the arrival of data.
    #[inline]
    pub fn record(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now.saturating_duration_since(last));
            self.intervals = self.intervals.saturating_add(1);
            if self.intervals >= WINDOW {
                self.longest_before = self.longest;
                self.longest = Duration::ZERO;
                self.intervals = 0;
                self.has_window = true;
            }
        }
    }

    /// Ignores the interval until the next data, which a new connection would distort.
    pub fn interrupt(&mut self) {
        self.last = None;
    }

    /// Resets the statistics of a feed that turned out to be quiet.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Returns the data timeout, or `None` if there are too few intervals.
    fn data_timeout(&self, idle: Duration) -> Option<Duration> {
        if !self.has_window && self.intervals < 2 {
            return None;
        }
        let is_reliable = self.has_window || self.intervals >= INTERVALS_MIN;
        let shortest = idle.checked_div(IDLE_DIVISOR).filter(|_| is_reliable).unwrap_or(idle);
        let longest = self.longest.max(self.longest_before);
        Some(longest.saturating_mul(TIMEOUT_FACTOR).max(shortest))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogAction {
    Nothing,
    /// Send a ping to the server.
    Ping,
    /// Close the dead socket: no frame for this long.
    Abort(Duration),
    /// Subscribe again on this connection: no data for this long.
    Resubscribe(Duration),
    /// Reconnect: no data for this long.
    Reconnect(Duration),
}

/// The timers of one connection.
#[derive(Clone, Debug)]
pub struct Watchdog {
    ping_interval: Duration,
    pong_timeout: Duration,
    idle: Option<Duration>,
    last_frame: Instant,
    pinged_at: Option<Instant>,
    data_since: Instant,
    resubscribed: bool,
    /// Time of the last new subscription of a quiet feed.
    quiet_since: Instant,
    /// Time until the next new subscription of a quiet feed. Doubled by each.
    quiet_timeout: Duration,
    suspend: SuspendDetector,
}

impl Watchdog {
    pub fn new(limits: &ReconnectionLimits, now: Instant, steady: UnixMs) -> Self {
        let idle = Some(limits.idle_timeout).filter(|idle| !idle.is_zero());
        Self {
            ping_interval: limits.ping_interval,
            pong_timeout: limits.pong_timeout,
            idle,
            last_frame: now,
            pinged_at: None,
            data_since: now,
            resubscribed: false,
            quiet_since: now,
            quiet_timeout: limits.idle_timeout,
            suspend: SuspendDetector::new(now, steady),
        }
    }

    /// Uses the times that the server has set, within bounds, instead of the configured ones.
    #[must_use]
    pub fn with_heartbeat(mut self, heartbeat: Option<Heartbeat>) -> Self {
        if let Some(Heartbeat { interval, timeout }) = heartbeat {
            self.ping_interval = interval.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
            self.pong_timeout = timeout.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        }
        self
    }

    /// Handles a frame of any kind.
    #[inline]
    pub fn on_frame(&mut self, now: Instant) {
        self.last_frame = now;
        self.pinged_at = None;
    }

    /// Handles data of a subscription.
    #[inline]
    pub fn on_data(&mut self, now: Instant) {
        self.data_since = now;
        self.resubscribed = false;
    }

    pub const fn last_frame(&self) -> Instant {
        self.last_frame
    }

    /// Returns the time of the last data, or of the start of the connection.
    pub const fn data_since(&self) -> Instant {
        self.data_since
    }

    /// Checks the timers. `Abort` is returned by every further check, `Ping` and `Reconnect` once
    /// per silence, `Resubscribe` once, or at growing intervals if the feed is quiet.
    pub fn check(
        &mut self,
        arrival_stats: &mut ArrivalStats,
        now: Instant,
        steady: UnixMs,
    ) -> WatchdogAction {
        let was_suspended = self.suspend.check(now, steady);
        match self.pinged_at {
            Some(pinged_at) if now.saturating_duration_since(pinged_at) >= self.pong_timeout => {
                return WatchdogAction::Abort(now.saturating_duration_since(self.last_frame));
            }
            Some(_) => {}
            None if was_suspended || now >= after(self.last_frame, self.ping_interval) => {
                self.pinged_at = Some(now);
                return WatchdogAction::Ping;
            }
            None => {}
        }
        let Some((at, has_stats)) = self.data_deadline(arrival_stats) else {
            return WatchdogAction::Nothing;
        };
        if now < at {
            return WatchdogAction::Nothing;
        }
        let silent = now.saturating_duration_since(self.data_since);
        match (has_stats, self.resubscribed) {
            (true, true) => {
                arrival_stats.reset();
                WatchdogAction::Reconnect(silent)
            }
            (true, false) => {
                self.resubscribed = true;
                WatchdogAction::Resubscribe(silent)
            }
            (false, _) => {
                self.quiet_since = now;
                self.quiet_timeout = self.quiet_timeout.saturating_mul(2).min(QUIET_INTERVAL_MAX);
                WatchdogAction::Resubscribe(silent)
            }
        }
    }

    /// Returns the time at which the next check is due.
    pub fn next_check(&self, arrival_stats: &ArrivalStats) -> Instant {
        let transport = match self.pinged_at {
            Some(pinged_at) => after(pinged_at, self.pong_timeout),
            None => after(self.last_frame, self.ping_interval),
        };
        self.data_deadline(arrival_stats).map_or(transport, |(data, _)| data.min(transport))
    }

    /// Returns the data deadline, and `true` if it is based on the statistics.
    fn data_deadline(&self, arrival_stats: &ArrivalStats) -> Option<(Instant, bool)> {
        let idle = self.idle?;
        Some(match arrival_stats.data_timeout(idle) {
            Some(timeout) => {
                let times = if self.resubscribed { 2 } else { 1 };
                (after(self.data_since, timeout.saturating_mul(times)), true)
            }
            None => (after(self.data_since.max(self.quiet_since), self.quiet_timeout), false),
        })
    }
}

fn after(instant: Instant, wait: Duration) -> Instant {
    instant.checked_add(wait).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        watchdog: Watchdog,
        arrival_stats: ArrivalStats,
        start: Instant,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let start = Instant::now();
            let watchdog = Watchdog::new(&ReconnectionLimits::DEFAULT, start, UnixMs(0));
            Self { watchdog, arrival_stats: ArrivalStats::default(), start, now: start }
        }

        fn check(&mut self) -> WatchdogAction {
            let steady = UnixMs(0).plus(self.now - self.start);
            self.watchdog.check(&mut self.arrival_stats, self.now, steady)
        }

        fn on_data(&mut self) {
            self.watchdog.on_frame(self.now);
            self.watchdog.on_data(self.now);
            self.arrival_stats.record(self.now);
        }

        fn reconnect_if(&mut self, is_idle: bool) {
            if is_idle {
                let steady = UnixMs(0).plus(self.now - self.start);
                self.watchdog = Watchdog::new(&ReconnectionLimits::DEFAULT, self.now, steady);
                self.arrival_stats.interrupt();
            }
        }

        /// Advances time with a server that answers pings at once. Returns the other actions with
        /// their times in seconds.
        fn run_answering_pings(&mut self, seconds: u64) -> Vec<(u64, WatchdogAction)> {
            let mut seen = Vec::new();
            for _ in 0..seconds {
                self.now += SECOND;
                loop {
                    match self.check() {
                        WatchdogAction::Nothing => break,
                        WatchdogAction::Ping => self.watchdog.on_frame(self.now),
                        action => {
                            seen.push(((self.now - self.start).as_secs(), action));
                            self.reconnect_if(matches!(action, WatchdogAction::Reconnect(_)));
                        }
                    }
                }
            }
            seen
        }
    }

    #[test]
    fn a_silent_socket_is_detected_within_ten_seconds() {
        let mut fixture = Fixture::new();
        fixture.now += 5 * SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Ping);
        assert_eq!(fixture.check(), WatchdogAction::Nothing);
        fixture.now += 4 * SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Abort(9 * SECOND));
    }

    #[test]
    fn the_times_of_the_server_replace_the_configured_ones_within_bounds() {
        let with_heartbeat = |interval, timeout| {
            let mut fixture = Fixture::new();
            let heartbeat = Heartbeat { interval, timeout };
            fixture.watchdog = fixture.watchdog.with_heartbeat(Some(heartbeat));
            fixture
        };
        let mut fixture = with_heartbeat(25 * SECOND, 10 * SECOND);
        fixture.now += 24 * SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Nothing);
        fixture.now += SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Ping);
        fixture.now += 10 * SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Abort(35 * SECOND));
        let mut endless = with_heartbeat(Duration::MAX, Duration::MAX);
        endless.now += HEARTBEAT_MAX;
        assert_eq!(endless.check(), WatchdogAction::Ping);
        let mut instant = with_heartbeat(Duration::ZERO, Duration::ZERO);
        assert_eq!(instant.check(), WatchdogAction::Nothing);
    }

    #[test]
    fn any_frame_resets_the_transport_timer() {
        let mut fixture = Fixture::new();
        fixture.now += 5 * SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Ping);
        fixture.now += 3 * SECOND;
        fixture.watchdog.on_frame(fixture.now);
        fixture.now += 4 * SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Nothing);
        fixture.now += SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Ping);
    }

    #[test]
    fn a_silent_feed_is_resubscribed_and_then_reconnected_within_the_idle_timeout() {
        let mut fixture = Fixture::new();
        for _ in 0..100 {
            fixture.now += SECOND;
            fixture.on_data();
        }
        assert_eq!(
            fixture.run_answering_pings(120),
            [
                (115, WatchdogAction::Resubscribe(15 * SECOND)),
                (130, WatchdogAction::Reconnect(30 * SECOND)),
                (190, WatchdogAction::Resubscribe(60 * SECOND))
            ]
        );
    }

    #[test]
    fn a_silent_new_connection_marks_the_feed_as_quiet() {
        let mut fixture = Fixture::new();
        for _ in 0..100 {
            fixture.now += SECOND;
            fixture.on_data();
        }
        let seen = fixture.run_answering_pings(36_000);
        let idle = seen
            .iter()
            .filter(|(_, action)| matches!(action, WatchdogAction::Reconnect(_)))
            .count();
        assert_eq!(idle, 1, "{seen:?}");
        assert!(seen.len() < 20, "{seen:?}");
    }

    #[test]
    fn ten_quiet_hours_from_the_start_cause_no_reconnect() {
        let mut fixture = Fixture::new();
        let seen = fixture.run_answering_pings(36_000);
        assert!(
            seen.iter().all(|(_, action)| matches!(action, WatchdogAction::Resubscribe(_))),
            "{seen:?}"
        );
        assert!(seen.len() < 20, "{seen:?}");
        // The silence lasts since the start, not since the last new subscription.
        let total = |at: u64| WatchdogAction::Resubscribe(Duration::from_secs(at));
        assert!(seen.iter().all(|(at, action)| *action == total(*at)), "{seen:?}");
        assert_eq!(fixture.watchdog.data_since(), fixture.start);
    }

    #[test]
    fn a_slow_feed_may_be_silent_for_longer_than_the_idle_timeout() {
        let mut fixture = Fixture::new();
        for _ in 0..20 {
            fixture.now += 120 * SECOND;
            fixture.on_data();
        }
        assert_eq!(fixture.run_answering_pings(479), []);
        assert_eq!(
            fixture.run_answering_pings(1),
            [(20 * 120 + 480, WatchdogAction::Resubscribe(480 * SECOND))]
        );
    }

    #[test]
    fn bursts_do_not_shorten_the_data_timeout() {
        let mut fixture = Fixture::new();
        for round in 0..10 {
            for _ in 0..50 {
                fixture.now += Duration::from_millis(2);
                fixture.on_data();
            }
            fixture.now += 30 * SECOND;
            fixture.watchdog.on_frame(fixture.now);
            // No statistics exist for the first pause.
            let is_resubscribed = matches!(fixture.check(), WatchdogAction::Resubscribe(_));
            assert_eq!(is_resubscribed, round == 0);
        }
    }

    #[test]
    fn zero_disables_the_data_timer() {
        let mut fixture = Fixture::new();
        let limits =
            ReconnectionLimits { idle_timeout: Duration::ZERO, ..ReconnectionLimits::DEFAULT };
        fixture.watchdog = Watchdog::new(&limits, fixture.start, UnixMs(0));
        for _ in 0..100 {
            fixture.now += SECOND;
            fixture.on_data();
        }
        assert_eq!(fixture.run_answering_pings(36_000), []);
    }

    #[test]
    fn a_suspend_of_the_system_triggers_a_ping() {
        let mut fixture = Fixture::new();
        fixture.now += SECOND;
        assert_eq!(fixture.check(), WatchdogAction::Nothing);
        fixture.now += SECOND;
        let steady = UnixMs(0).plus(3_600 * SECOND);
        assert_eq!(
            fixture.watchdog.check(&mut fixture.arrival_stats, fixture.now, steady),
            WatchdogAction::Ping
        );
    }

    #[test]
    fn the_next_check_is_never_later_than_a_deadline() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.watchdog.next_check(&fixture.arrival_stats), fixture.start + 5 * SECOND);
        fixture.now += 5 * SECOND;
        fixture.check();
        assert_eq!(fixture.watchdog.next_check(&fixture.arrival_stats), fixture.start + 9 * SECOND);
    }
}
