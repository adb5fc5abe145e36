//! Detects what the engine does not report: a feed that is down, a full disk, and the hour of the
//! daily summary. Pure: it compares observations.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::{
    event::{AlertEvent, FeedBlock, SessionFigures, printable},
    outbox::Moment,
};
use crate::config::alerts::AlertRules;
use crate::ledger::status::FREE_MB_MIN;

/// Free space from which it counts as restored, in MB.
const FREE_MB_RESTORED: u64 = 400;

/// A feed is reported as flapping when its [`AlertWatch::down_balance`] reaches this many times
/// `feed_down_after`.
const FLAPPING_FACTOR: u32 = 2;

/// Time for which the feed may be down before a heartbeat reports it, if no alert did so before.
const PENDING_MAX: Duration = Duration::from_secs(60);

/// Time without an iteration of the event loop after which a heartbeat reports the loop.
const LOOP_STALL: Duration = Duration::from_secs(15);

/// State of the feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedObservation {
    /// Listings can arrive.
    pub is_up: bool,
    /// The market rejects the connection until the user acts.
    pub block: Option<FeedBlock>,
    /// Time since the last listing, if it is connected and silent.
    pub silent: Option<Duration>,
    /// Number of gaps so far.
    pub gaps: u64,
    /// Total duration of the gaps.
    pub down: Duration,
    /// Number of iterations of the event loop so far.
    pub iterations: u64,
}

/// Health of the feed for a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedHealth {
    Healthy,
    /// With the reason.
    Unhealthy(String),
    /// The feed has been down for less than a minute, and no alert reported that.
    Pending,
}

/// Compares each observation with the ones before.
#[derive(Debug)]
pub struct AlertWatch {
    rules: AlertRules,
    down_since: Option<Instant>,
    /// Cause for which the feed is down, if it is known.
    cause: Option<String>,
    is_down_reported: bool,
    /// `true` if the report says that the user must act.
    is_block_reported: bool,
    observed_at: Instant,
    up_since: Option<Instant>,
    /// Grows while the feed is down, and shrinks at the same rate to zero while it is up.
    down_balance: Duration,
    /// `true` if the feed was reported because it is lost again and again.
    is_flapping: bool,
    /// `true` if the next observation of the feed must report again that it is down.
    repeats_down: bool,
    iterations: u64,
    /// Time at which `iterations` was last seen to change.
    iterated_at: Instant,
    is_disk_low: bool,
    /// `true` if the next observation of the disk must report again that it is almost full.
    repeats_disk_low: bool,
    summary: DailySummary,
}

/// Figures at the last summary.
#[derive(Debug)]
struct DailySummary {
    /// Local day of the next summary.
    next_day: i64,
    at: Instant,
    figures: SessionFigures,
    gaps: u64,
    down: Duration,
}

impl AlertWatch {
    pub fn new(rules: AlertRules, now: Moment) -> Self {
        let next_day = next_summary_day(rules, now);
        let (at, figures) = (now.instant, SessionFigures::default());
        Self {
            rules,
            down_since: Some(now.instant),
            cause: None,
            is_down_reported: false,
            is_block_reported: false,
            observed_at: now.instant,
            up_since: None,
            down_balance: Duration::ZERO,
            is_flapping: false,
            repeats_down: false,
            iterations: 0,
            iterated_at: now.instant,
            is_disk_low: false,
            repeats_disk_low: false,
            summary: DailySummary { next_day, at, figures, gaps: 0, down: Duration::ZERO },
        }
    }

    /// Uses other rules from now on.
    pub fn set_rules(&mut self, rules: AlertRules, now: Moment) {
        if rules.daily_summary_at != self.rules.daily_summary_at {
            self.summary.next_day = next_summary_day(rules, now);
        }
        self.rules = rules;
    }

    /// Reports the lasting conditions again, because a channel was added.
    pub const fn report_again(&mut self) {
        (self.repeats_down, self.repeats_disk_low) = (true, true);
    }

    /// Observes the feed. `cause` returns why it is down.
    pub fn observe_feed(
        &mut self,
        feed: FeedObservation,
        cause: impl FnOnce() -> Option<String>,
        now: Moment,
    ) -> Option<AlertEvent> {
        if self.iterations != feed.iterations {
            (self.iterations, self.iterated_at) = (feed.iterations, now.instant);
        }
        let elapsed = now.instant.saturating_duration_since(self.observed_at);
        self.observed_at = now.instant;
        self.down_balance = match self.up_since {
            Some(_) => self.down_balance.saturating_sub(elapsed),
            None => self.down_balance.saturating_add(elapsed),
        };
        if feed.is_up {
            let up_since = *self.up_since.get_or_insert(now.instant);
            let is_short =
                now.instant.saturating_duration_since(up_since) < self.rules.feed_down_after;
            if self.is_flapping && is_short {
                return None;
            }
            (self.repeats_down, self.is_block_reported) = (false, false);
            let was_flapping = mem::take(&mut self.is_flapping);
            let since = self.down_since.take();
            let was_reported = mem::take(&mut self.is_down_reported);
            if was_reported {
                self.down_balance = Duration::ZERO;
            }
            let after = up_since.saturating_duration_since(since?);
            return was_reported.then_some(AlertEvent::FeedBack { after, was_flapping });
        }
        self.up_since = None;
        let silent_since = feed.silent.and_then(|silent| now.instant.checked_sub(silent));
        let since = *self.down_since.get_or_insert(silent_since.unwrap_or(now.instant));
        let cause = cause();
        self.cause = cause.as_deref().map(printable);
        let is_reported = match feed.block {
            Some(_) => self.is_block_reported,
            None => self.is_down_reported,
        };
        if is_reported && !self.repeats_down {
            return None;
        }
        let after = now.instant.saturating_duration_since(since);
        let event = match feed.block {
            Some(block) => AlertEvent::FeedBlocked { block, cause: cause.unwrap_or_default() },
            None if self.is_flapping => AlertEvent::FeedFlapping { cause },
            None if self.rules.feed_down_after <= after => AlertEvent::FeedDown { after, cause },
            None if self.rules.feed_down_after.saturating_mul(FLAPPING_FACTOR)
                <= self.down_balance =>
            {
                self.is_flapping = true;
                AlertEvent::FeedFlapping { cause }
            }
            None => return None,
        };
        (self.is_down_reported, self.repeats_down) = (true, false);
        self.is_block_reported |= feed.block.is_some();
        Some(event)
    }

    /// Returns the health that a heartbeat reports.
    pub fn health(&self, now: Instant) -> FeedHealth {
        let stalled = now.saturating_duration_since(self.iterated_at);
        if LOOP_STALL <= stalled {
            let seconds = stalled.as_secs();
            return FeedHealth::Unhealthy(format!(
                "the event loop has not run for {seconds} s; restart sniper and report its log"
            ));
        }
        let Some(since) = self.down_since else { return FeedHealth::Healthy };
        let after = now.saturating_duration_since(since);
        if !self.is_down_reported && after < PENDING_MAX {
            return FeedHealth::Pending;
        }
        let cause = self.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        FeedHealth::Unhealthy(if self.is_flapping {
            format!("the feed is lost again and again{cause}")
        } else {
            format!("the feed has been down for {} s{cause}", after.as_secs())
        })
    }

    /// Observes the free space below the data directory.
    pub const fn observe_disk(&mut self, free_mb: u64) -> Option<AlertEvent> {
        let repeats = mem::replace(&mut self.repeats_disk_low, false);
        let was_low = self.is_disk_low;
        self.is_disk_low = free_mb < if was_low { FREE_MB_RESTORED } else { FREE_MB_MIN };
        match (was_low, self.is_disk_low) {
            (true, false) => Some(AlertEvent::DiskRestored { free_mb }),
            (was_low, true) if repeats || !was_low => Some(AlertEvent::DiskLow { free_mb }),
            _ => None,
        }
    }

    /// Returns the daily summary when its time has come.
    pub fn observe_day(
        &mut self,
        figures: SessionFigures,
        feed: FeedObservation,
        now: Moment,
    ) -> Option<AlertEvent> {
        let next_day = next_summary_day(self.rules, now);
        let summary = &self.summary;
        if next_day <= summary.next_day {
            return None;
        }
        let day = figures.since(&summary.figures);
        let event = AlertEvent::DailySummary {
            day,
            period: now.instant.saturating_duration_since(summary.at),
            gaps: feed.gaps.saturating_sub(summary.gaps),
            down: feed.down.saturating_sub(summary.down),
        };
        let (at, gaps, down) = (now.instant, feed.gaps, feed.down);
        self.summary = DailySummary { next_day, at, figures, gaps, down };
        Some(event)
    }
}

/// Returns the local day of the first summary after this moment.
fn next_summary_day(rules: AlertRules, now: Moment) -> i64 {
    let is_over = rules.daily_summary_at <= now.minute();
    now.local().day().saturating_add(i64::from(is_over))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::time::UnixMs, ledger::Obstacle};

    const SECOND: Duration = Duration::from_secs(1);
    /// 2026-03-01T05:30:00Z.
    const START: UnixMs = UnixMs(1_772_343_000_000);

    fn moment(after: Duration, start: Instant) -> Moment {
        Moment { instant: start + after, wall: START.plus(after), utc_offset_s: 2 * 3_600 }
    }

    /// Observes a feed after some seconds, whose event loop runs.
    struct Observer(AlertWatch, Instant);

    impl Observer {
        fn new() -> Self {
            let start = Instant::now();
            Self(AlertWatch::new(AlertRules::default(), moment(Duration::ZERO, start)), start)
        }

        fn feed(
            &mut self,
            seconds: u64,
            is_up: bool,
            block: Option<FeedBlock>,
        ) -> Option<AlertEvent> {
            let feed =
                FeedObservation { is_up, block, iterations: seconds + 1, ..Default::default() };
            self.0.observe_feed(feed, || Some("cause".to_owned()), self.at(seconds))
        }

        fn at(&self, seconds: u64) -> Moment {
            moment(Duration::from_secs(seconds), self.1)
        }

        fn health(&self, seconds: u64) -> FeedHealth {
            self.0.health(self.at(seconds).instant)
        }
    }

    #[test]
    fn a_short_gap_is_waited_out_and_a_long_one_is_reported_once_with_its_end() {
        let mut watch = Observer::new();
        assert_eq!(watch.feed(0, true, None), None);
        assert_eq!(watch.health(1), FeedHealth::Healthy);
        assert_eq!(watch.feed(10, false, None), None);
        assert_eq!(watch.health(10), FeedHealth::Pending);
        assert_eq!(watch.feed(30, true, None), None);
        assert_eq!(watch.feed(40, false, None), None);
        assert_eq!(watch.feed(99, false, None), None);
        let down = AlertEvent::FeedDown { after: 60 * SECOND, cause: Some("cause".to_owned()) };
        assert_eq!(watch.feed(100, false, None), Some(down));
        let reason = "the feed has been down for 61 s: cause".to_owned();
        assert_eq!(watch.health(101), FeedHealth::Unhealthy(reason));
        assert_eq!(watch.feed(110, false, None), None);
        let back = AlertEvent::FeedBack { after: 90 * SECOND, was_flapping: false };
        assert_eq!(watch.feed(130, true, None), Some(back));
        assert_eq!(watch.health(130), FeedHealth::Healthy);
    }

    #[test]
    fn a_feed_that_is_connected_and_silent_is_reported_at_once_and_unhealthy() {
        let mut watch = Observer::new();
        assert_eq!(watch.feed(0, true, None), None);
        let after = 900 * SECOND;
        watch.1 = watch.1.checked_add(after).unwrap();
        let feed = FeedObservation { silent: Some(after), iterations: 1_000, ..Default::default() };
        let event = watch.0.observe_feed(feed, || None, watch.at(1));
        assert_eq!(event, Some(AlertEvent::FeedDown { after, cause: None }));
        let reason = "the feed has been down for 900 s".to_owned();
        assert_eq!(watch.health(1), FeedHealth::Unhealthy(reason));
        let back = AlertEvent::FeedBack { after: after + 9 * SECOND, was_flapping: false };
        assert_eq!(watch.feed(10, true, None), Some(back));
    }

    #[test]
    fn a_feed_that_is_lost_again_and_again_is_reported_once_until_it_stays_up() {
        let mut watch = Observer::new();
        watch.feed(0, true, None);
        // Up for 2 s of each minute.
        let events: Vec<_> =
            (1..3_600).filter_map(|at| watch.feed(at, at % 60 < 2, None)).collect();
        let flapping = AlertEvent::FeedFlapping { cause: Some("cause".to_owned()) };
        assert_eq!(events, std::slice::from_ref(&flapping));
        assert_eq!(
            flapping.text(),
            "The feed keeps disconnecting: cause\nIf it lasts, run: sniper doctor"
        );
        let reason = "the feed is lost again and again: cause".to_owned();
        assert_eq!(watch.health(3_601), FeedHealth::Unhealthy(reason));
        watch.0.report_again();
        assert_eq!(watch.feed(3_599, false, None), Some(flapping), "for a new channel");
        assert_eq!(watch.feed(3_600, true, None), None);
        assert_eq!(watch.feed(3_659, true, None), None);
        let back = watch.feed(3_660, true, None).unwrap();
        assert_eq!(back.text(), "It was lost again and again for 57 min 58 s");
        assert_eq!(watch.health(3_661), FeedHealth::Healthy);
        assert_eq!(watch.feed(3_670, false, None), None);
    }

    #[test]
    fn short_losses_of_a_feed_that_is_up_for_longer_are_not_reported() {
        let mut watch = Observer::new();
        watch.feed(0, true, None);
        for at in 1..3_600 {
            assert_eq!(watch.feed(at, at % 60 < 55, None), None, "{at}");
        }
    }

    #[test]
    fn a_block_is_reported_once_also_of_a_feed_that_was_reported_before() {
        // Up for 2 s of each minute, or not at all.
        for up in [2, 0] {
            let mut watch = Observer::new();
            let block = |at| (900 <= at && 2 <= at % 60).then_some(FeedBlock::Challenge);
            let events = (1..3_600).filter_map(|at| watch.feed(at, at % 60 < up, block(at)));
            let kinds: Vec<_> = events.map(|event| event.kind().name()).collect();
            assert_eq!(kinds, ["feed_down", "challenge"]);
        }
    }

    #[test]
    fn a_rejected_connection_is_reported_at_once_by_its_cause() {
        let mut watch = Observer::new();
        let event = watch.feed(1, false, Some(FeedBlock::Challenge)).unwrap();
        assert_eq!(event.kind().name(), "challenge");
        assert_eq!(watch.feed(100, false, Some(FeedBlock::Challenge)), None);
        watch.feed(101, true, None).unwrap();
        let event = watch.feed(102, false, Some(FeedBlock::Credential)).unwrap();
        assert_eq!(event.kind().name(), "credential_refused");
        watch.0.report_again();
        assert!(watch.feed(103, true, None).is_some(), "the other channels await the end");
    }

    #[test]
    fn an_event_loop_that_stands_still_is_trouble() {
        let mut watch = Observer::new();
        watch.feed(0, true, None);
        assert_eq!(watch.health(14), FeedHealth::Healthy);
        let reason = "the event loop has not run for 15 s; restart sniper and report its log";
        assert_eq!(watch.health(15), FeedHealth::Unhealthy(reason.to_owned()));
    }

    #[test]
    fn a_full_disk_is_reported_once_until_it_has_space_again() {
        let mut watch = Observer::new().0;
        assert_eq!(watch.observe_disk(FREE_MB_MIN), None);
        assert_eq!(watch.observe_disk(50), Some(AlertEvent::DiskLow { free_mb: 50 }));
        assert_eq!(watch.observe_disk(40), None);
        assert_eq!(watch.observe_disk(FREE_MB_MIN + 1), None);
        watch.report_again();
        assert_eq!(watch.observe_disk(300), Some(AlertEvent::DiskLow { free_mb: 300 }));
        assert_eq!(watch.observe_disk(300), None);
        watch.report_again();
        assert_eq!(watch.observe_disk(500), Some(AlertEvent::DiskRestored { free_mb: 500 }));
    }

    #[test]
    fn the_summary_comes_once_a_day_at_its_local_time_with_the_counts_since_the_last() {
        // The start is 07:30 local time.
        let mut watch = Observer::new();
        let mut at = |minutes: u64, bought| {
            let figures = SessionFigures { bought, ..SessionFigures::default() };
            let now = watch.at(minutes * 60);
            match watch.0.observe_day(figures, FeedObservation::default(), now) {
                Some(AlertEvent::DailySummary { day, .. }) => Some(day.bought),
                other => {
                    assert_eq!(other, None);
                    None
                }
            }
        };
        assert_eq!(at(29, 1), None);
        assert_eq!(at(30, 2), Some(2));
        assert_eq!(at(31, 2), None);
        assert_eq!(at(30 + 23 * 60, 7), None);
        assert_eq!(at(30 + 24 * 60, 7), Some(5));
        // After a suspend of more than a day.
        assert_eq!(at(40 + 72 * 60, 9), Some(2));
        assert_eq!(at(50 + 72 * 60, 9), None);
    }

    #[test]
    fn the_summary_says_why_no_order_is_sent() {
        for (obstacle, expected) in
            [(None, "Buying. "), (Some(Obstacle::Standby), "Not buying: on standby. ")]
        {
            let mut watch = Observer::new();
            let figures = SessionFigures { is_live: true, obstacle, ..SessionFigures::default() };
            let feed = FeedObservation::default();
            let text = watch.0.observe_day(figures, feed, watch.at(30 * 60)).unwrap().text();
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn a_start_after_the_time_of_the_summary_waits_for_the_next_day() {
        let start = Instant::now();
        let hours = |hours: u64| moment(Duration::from_secs(hours * 3_600), start);
        let mut watch = AlertWatch::new(AlertRules::default(), hours(2));
        let mut due = |at| {
            let figures = SessionFigures::default();
            watch.observe_day(figures, FeedObservation::default(), hours(at)).is_some()
        };
        assert!(!due(2) && !due(24) && due(25));
    }

    #[test]
    fn a_heartbeat_reports_a_gap_of_a_minute_with_its_cause_whatever_the_alerts_wait_for() {
        let mut watch = Observer::new();
        watch.0.rules.feed_down_after = Duration::from_secs(3_600);
        assert_eq!(watch.feed(0, true, None), None);
        assert_eq!(watch.feed(10, false, None), None);
        assert_eq!(watch.feed(69, false, None), None);
        assert_eq!(watch.health(69), FeedHealth::Pending);
        assert_eq!(watch.feed(70, false, None), None);
        let reason = "the feed has been down for 60 s: cause".to_owned();
        assert_eq!(watch.health(70), FeedHealth::Unhealthy(reason));
    }
}
