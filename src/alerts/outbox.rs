//! Queue of one channel: digests, quiet hours and retries. Pure: the time and random numbers are
//! arguments.
//!
//! Many events about orders can arrive at once, so they are collected for [`BATCH_WINDOW`], and
//! more than one of them become one digest. The window doubles with each digest of orders. Every
//! other event is sent at once; if more than a few of them wait, they become one digest too.
//!
//! A message that could not be delivered is tried again with growing waits, during which later
//! events wait. If the condition of a waiting event ends, its message states that.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::event::{Alert, AlertCondition, AlertTransition};
use crate::{
    backoff::{ExponentialBackoff, with_jitter},
    config::{
        alerts::{QuietHours, TimeOfDay},
        reconnection::Thousandths,
    },
    domain::unit,
    domain::{
        alert_kind::{AlertKind, Loudness},
        money::Amount,
        time::{OffsetTime, UnixMs},
    },
};

/// Time for which events about orders are collected at first.
const BATCH_WINDOW: Duration = Duration::from_secs(2);
/// Maximum of this time, which doubles with each digest of orders.
const BATCH_WINDOW_MAX: Duration = Duration::from_secs(300);
/// Maximum number of waiting other events that are sent one by one, not as a digest.
const SINGLE_MAX: usize = 3;
/// Maximum number of other events that wait. A further one replaces a less important one, or is
/// only counted.
pub const WAITING_MAX: usize = 32;
/// Maximum number of orders that a digest names.
const NAMED_MAX: usize = 10;
/// Waits between the tries of a message.
const BACKOFF: ExponentialBackoff =
    ExponentialBackoff::doubling(Duration::from_secs(2), Duration::from_secs(300));
const JITTER: Thousandths = Thousandths(200);
/// Maximum wait that a channel may ask for.
const WAIT_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Requested wait from which the channel counts as failing: only the user can remove the cause.
const LONG_WAIT: Duration = Duration::from_secs(600);
/// Age from which the title of a message states the time of its event.
const LATE: Duration = Duration::from_secs(60);
/// Number of tries after which a message counts as rejected that the channel rejects, but not for
/// good.
const REJECTIONS_MAX: u32 = 3;
/// Age from which a message is no longer tried.
const MESSAGE_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Kind of a message about several events.
const DIGEST: &str = "digest";

/// A moment on both clocks, with the offset of the local time from UTC.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub instant: Instant,
    pub wall: UnixMs,
    pub utc_offset_s: i32,
}

/// A message to send: one event, a digest or a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMessage {
    /// Name of the event, `digest` or `test`.
    pub kind: &'static str,
    pub at: UnixMs,
    pub title: String,
    pub text: String,
    pub is_silent: bool,
    /// Fields for programs.
    pub data: Map<String, Value>,
    /// Number of events in it.
    pub events: u64,
}

/// Result of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// Try again after this wait; `None` stands for one that grows with each failure.
    /// `is_requested` is `true` if the response asked for the wait.
    Retry {
        after: Option<Duration>,
        is_requested: bool,
        why: String,
    },
    /// The channel does not accept this message, which may be a temporary fault.
    PossiblyRejected {
        why: String,
    },
    /// The channel does not accept this message.
    Rejected {
        why: String,
    },
    /// The channel accepts no message until its settings are changed.
    Disabled {
        why: String,
    },
}

/// Change of a channel's state for the log. `Failing` and `Undelivered` are reported once until a
/// message is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelStateChange {
    Failing { why: String },
    Recovered { undelivered: u64 },
    Undelivered { why: String },
    Disabled { why: String },
}

/// Event that waits to be sent by itself.
#[derive(Clone, Debug)]
struct WaitingAlert {
    alert: Alert,
    is_loud: bool,
    /// Time at which its condition ended.
    resolved_at: Option<UnixMs>,
}

/// Collected events about orders.
#[derive(Clone, Debug, Default)]
struct OrderBatch {
    /// Name, number and coins of each kind of event, in the order of arrival.
    counts: Vec<(&'static str, u64, Amount)>,
    /// The first events, at most [`NAMED_MAX`].
    first_orders: Vec<Alert>,
    events: u64,
    is_loud: bool,
    /// Time at which the events are sent.
    due: Option<Instant>,
}

/// Message that is being sent or waits for its next try.
#[derive(Clone, Debug)]
struct Attempt {
    message: AlertMessage,
    /// Condition that the event of the message began and that has not ended.
    open_condition: Option<AlertCondition>,
    /// Time of the first try.
    begun: Instant,
    failures: u32,
    rejections: u32,
}

/// Queue and state of one channel.
#[derive(Debug)]
pub struct AlertOutbox {
    quiet: Option<QuietHours>,
    /// Minimum time between two messages.
    min_interval: Duration,
    orders: OrderBatch,
    waiting: VecDeque<WaitingAlert>,
    /// Events that did not fit into `waiting`.
    overflow: u64,
    /// Time for which the next events about orders are collected.
    batch_window: Duration,
    /// End of a wait that the channel has requested, which the stop respects.
    not_before: Option<Instant>,
    /// End of the wait after a failure.
    retry_at: Option<Instant>,
    /// End of `min_interval` after the last message.
    paced_until: Option<Instant>,
    attempt: Option<Attempt>,
    is_sending: bool,
    is_closing: bool,
    is_disabled: bool,
    /// `true` if an event that waits arrived in the quiet hours.
    has_event_in_quiet_hours: bool,
    is_failing: bool,
    has_reported_loss: bool,
    undelivered: u64,
}

impl Moment {
    pub const fn local(self) -> OffsetTime {
        OffsetTime { at: self.wall, offset_s: self.utc_offset_s }
    }

    /// Returns the minute of the local day.
    pub fn minute(self) -> u16 {
        u16::try_from(self.local().shifted().0.rem_euclid(86_400_000) / 60_000).unwrap_or(0)
    }

    /// Returns the local time of day of another moment, such as `03:12`.
    fn time_of(self, at: UnixMs) -> TimeOfDay {
        TimeOfDay(Self { wall: at, ..self }.minute())
    }

    /// Returns the time until the end of the quiet hours, if the moment is in them.
    fn quiet_left(self, quiet: Option<QuietHours>) -> Option<Duration> {
        let minutes = quiet?.minutes_left(self.minute())?;
        let into_minute = self.local().shifted().0.rem_euclid(60_000);
        let into_minute = Duration::from_millis(u64::try_from(into_minute).unwrap_or(0));
        Some(Duration::from_secs(u64::from(minutes) * 60).saturating_sub(into_minute))
    }
}

impl AlertOutbox {
    pub const fn new(quiet: Option<QuietHours>, min_interval: Duration) -> Self {
        Self {
            quiet,
            min_interval,
            orders: OrderBatch::new(),
            waiting: VecDeque::new(),
            overflow: 0,
            batch_window: BATCH_WINDOW,
            not_before: None,
            retry_at: None,
            paced_until: None,
            attempt: None,
            is_sending: false,
            is_closing: false,
            is_disabled: false,
            has_event_in_quiet_hours: false,
            is_failing: false,
            has_reported_loss: false,
            undelivered: 0,
        }
    }

    /// Uses other quiet hours from now on.
    pub const fn set_quiet(&mut self, quiet: Option<QuietHours>) {
        self.quiet = quiet;
    }

    /// Adds an event with the loudness that the channel's settings give it.
    pub fn push(&mut self, alert: &Alert, loudness: Loudness, now: Moment) {
        if let AlertTransition::Resolved(condition) = alert.event.transition()
            && self.mark_resolved(condition, alert.at, now)
        {
            return;
        }
        if loudness == Loudness::Off {
            return;
        }
        if self.is_disabled {
            self.undelivered = self.undelivered.saturating_add(1);
            return;
        }
        self.has_event_in_quiet_hours |= now.quiet_left(self.quiet).is_some();
        let is_loud = loudness == Loudness::On;
        if let Some((order, word)) = alert.event.order() {
            self.orders.due =
                self.orders.due.or_else(|| now.instant.checked_add(self.batch_window));
            return self.orders.add(alert, (word, order.price), is_loud);
        }
        let new = WaitingAlert { alert: alert.clone(), is_loud, resolved_at: None };
        if WAITING_MAX <= self.waiting.len() {
            self.overflow = self.overflow.saturating_add(1);
            // The oldest of the least important events.
            let ranks = self.waiting.iter().map(WaitingAlert::rank).enumerate().rev();
            let last = ranks.max_by_key(|(_, rank)| *rank).filter(|(_, rank)| new.rank() < *rank);
            let Some((at, _)) = last else { return };
            self.waiting.remove(at);
        }
        self.waiting.push_back(new);
    }

    /// Marks the event that began a condition, if it waits to be sent or sent again. Returns
    /// `false` if none does.
    fn mark_resolved(&mut self, condition: AlertCondition, at: UnixMs, now: Moment) -> bool {
        let mut found = false;
        if let Some(attempt) = self.attempt.as_mut().filter(|_attempt| !self.is_sending)
            && attempt.open_condition.take_if(|open| *open == condition).is_some()
        {
            attempt.message.set_resolved(at, now);
            found = true;
        }
        for waiting in &mut self.waiting {
            if waiting.open_condition() == Some(condition) {
                waiting.resolved_at = Some(at);
                found = true;
            }
        }
        found
    }

    /// Returns `true` if the service has rejected the channel for good.
    pub const fn is_disabled(&self) -> bool {
        self.is_disabled
    }

    /// Returns when [`take`](Self::take) may return a message; `None` if nothing waits.
    pub fn next_due(&self, now: Moment) -> Option<Instant> {
        if self.is_sending || self.is_disabled {
            return None;
        }
        let is_ready = self.attempt.is_some() || !self.waiting.is_empty();
        let mut due = if is_ready { now.instant } else { self.orders.due? };
        if self.is_closing {
            // The pace would take longer than the stop may.
            due = now.instant;
        } else {
            if let Some(left) = now.quiet_left(self.quiet) {
                due = due.max(now.instant.checked_add(left).unwrap_or(due));
            }
            due = due.max(self.paced_until.unwrap_or(due));
        }
        Some([self.not_before, self.retry_at].into_iter().flatten().fold(due, Instant::max))
    }

    /// Returns the message to send now, if there is one. [`on_result`](Self::on_result) must
    /// follow.
    pub fn take(&mut self, now: Moment) -> Option<AlertMessage> {
        if self.next_due(now).is_none_or(|due| now.instant < due) {
            return None;
        }
        if self.attempt.is_none() {
            let (mut message, open_condition) = self.compose(now);
            // At the stop, nothing can be held until the end of the quiet hours.
            message.is_silent |= now.quiet_left(self.quiet).is_some();
            let begun = now.instant;
            self.attempt =
                Some(Attempt { message, open_condition, begun, failures: 0, rejections: 0 });
        }
        self.is_sending = true;
        self.attempt.as_ref().map(|attempt| attempt.message.clone())
    }

    /// Returns the next message, and the condition that its event began and that has not ended.
    fn compose(&mut self, now: Moment) -> (AlertMessage, Option<AlertCondition>) {
        if std::mem::take(&mut self.has_event_in_quiet_hours) {
            let title = self.quiet.map(|quiet| format!("During the quiet hours {quiet}"));
            return (self.digest(title, now), None);
        }
        let (waiting, orders) = (self.waiting.len(), self.orders.events);
        if self.is_closing && 0 < waiting && (1 < waiting || 0 < orders) {
            // The stop is a message of its own, after the rest.
            let last = self.waiting.back().map(|it| it.alert.event.kind());
            let stop = (last == Some(AlertKind::Stopped)).then(|| self.waiting.pop_back());
            let digest = self.digest(None, now);
            self.waiting.extend(stop.flatten());
            return (digest, None);
        }
        let is_many = SINGLE_MAX < self.waiting.len() || self.overflow > 0;
        if !is_many && let Some(waiting) = self.waiting.pop_front() {
            let open_condition = waiting.open_condition();
            return (waiting.message(now), open_condition);
        }
        if self.waiting.is_empty() && self.orders.events == 1 {
            self.batch_window = BATCH_WINDOW;
            let batch = std::mem::take(&mut self.orders);
            if let Some(alert) = batch.first_orders.first() {
                return (alert.message(!batch.is_loud), None);
            }
        }
        if self.waiting.is_empty() {
            self.batch_window = self.batch_window.saturating_mul(2).min(BATCH_WINDOW_MAX);
        }
        (self.digest(None, now), None)
    }

    /// Puts everything that waits into one message. A channel may cut off its end, so what needs
    /// the user comes first.
    fn digest(&mut self, title: Option<String>, now: Moment) -> AlertMessage {
        let orders = std::mem::take(&mut self.orders);
        let mut waiting = Vec::from(std::mem::take(&mut self.waiting));
        let overflow = std::mem::take(&mut self.overflow);
        let events = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        let events = events.saturating_add(overflow).saturating_add(orders.events);
        waiting.sort_by_key(|waiting| (waiting.open_condition().is_none(), waiting.rank()));
        let lasting = waiting.partition_point(|waiting| waiting.open_condition().is_some());
        let mut lines: Vec<String> = waiting.iter().map(|waiting| waiting.line(now)).collect();
        let others = lines.split_off(lasting);
        let counts = orders.counts_text();
        let title = title.unwrap_or_else(|| {
            let has_orders_only = waiting.is_empty() && orders.events > 0;
            if has_orders_only { counts.clone() } else { format!("{events} events") }
        });
        if orders.events > 0 && title != counts {
            lines.push(counts);
        }
        if overflow > 0 {
            lines.push(format!("{overflow} more events, not listed"));
        }
        lines.extend(others);
        lines.extend(orders.lines());
        let mut data = Map::new();
        data.insert("title".to_owned(), title.as_str().into());
        data.insert("counts".to_owned(), orders.counts_json());
        data.insert("events".to_owned(), lines.as_slice().into());
        let is_loud = orders.is_loud || waiting.iter().any(|waiting| waiting.is_loud);
        let text = lines.join("\n");
        let (kind, at) = (DIGEST, now.wall);
        AlertMessage { kind, at, title, text, is_silent: !is_loud, data, events }
    }

    /// Handles the result of a try. `entropy` is a random number.
    pub fn on_result(
        &mut self,
        result: Delivery,
        now: Moment,
        entropy: u64,
    ) -> Option<ChannelStateChange> {
        self.is_sending = false;
        let mut attempt = self.attempt.take()?;
        let (after, is_requested, is_rejected) = match result {
            Delivery::Retry { after, is_requested, .. } => (after, is_requested, false),
            Delivery::PossiblyRejected { .. } => (None, false, true),
            Delivery::Delivered | Delivery::Rejected { .. } | Delivery::Disabled { .. } => {
                (None, false, false)
            }
        };
        attempt.rejections = attempt.rejections.saturating_add(u32::from(is_rejected));
        match result {
            Delivery::Delivered => {
                self.paced_until = now.instant.checked_add(self.min_interval);
                self.has_reported_loss = false;
                let undelivered = self.undelivered;
                std::mem::take(&mut self.is_failing)
                    .then_some(ChannelStateChange::Recovered { undelivered })
            }
            Delivery::PossiblyRejected { why } if REJECTIONS_MAX <= attempt.rejections => {
                self.count_undelivered(&attempt, why, now)
            }
            Delivery::Rejected { why } => self.count_undelivered(&attempt, why, now),
            Delivery::Retry { why, .. } | Delivery::PossiblyRejected { why } => {
                let backoff = || with_jitter(BACKOFF.wait(attempt.failures), JITTER, entropy);
                let wait = after.map_or_else(backoff, |after| after.min(WAIT_MAX));
                let until = if is_requested { &mut self.not_before } else { &mut self.retry_at };
                *until = now.instant.checked_add(wait);
                attempt.failures = attempt.failures.saturating_add(1);
                let age = now.instant.saturating_duration_since(attempt.begun);
                if MESSAGE_AGE_MAX <= age {
                    return self.count_undelivered(&attempt, why, now);
                }
                self.attempt = Some(attempt);
                // A short wait because of a rate limit is not a failure.
                let is_failure = after.is_none_or(|after| LONG_WAIT <= after);
                let is_new = is_failure && !std::mem::replace(&mut self.is_failing, true);
                is_new.then_some(ChannelStateChange::Failing { why })
            }
            Delivery::Disabled { why } => {
                self.is_disabled = true;
                let lost = self.waiting().saturating_add(attempt.message.events);
                self.undelivered = self.undelivered.saturating_add(lost);
                self.waiting.clear();
                (self.orders, self.overflow) = (OrderBatch::new(), 0);
                Some(ChannelStateChange::Disabled { why })
            }
        }
    }

    /// Sends no message for at least this long.
    pub fn hold_for(&mut self, wait: Duration, now: Moment) {
        self.not_before = self.not_before.max(now.instant.checked_add(wait.min(WAIT_MAX)));
    }

    fn count_undelivered(
        &mut self,
        attempt: &Attempt,
        why: String,
        now: Moment,
    ) -> Option<ChannelStateChange> {
        self.paced_until = now.instant.checked_add(self.min_interval);
        self.undelivered = self.undelivered.saturating_add(attempt.message.events);
        let is_new = !std::mem::replace(&mut self.has_reported_loss, true);
        is_new.then_some(ChannelStateChange::Undelivered { why })
    }

    /// Handles an event of the queue, or its end (`None`). After the end, nothing waits for further
    /// events, for the pace of the channel or for the end of the quiet hours, and a message that
    /// waits after a failure is tried once more at once.
    pub fn receive(&mut self, event: Option<(&Alert, Loudness)>, now: Moment) {
        match event {
            Some((alert, loudness)) => self.push(alert, loudness, now),
            None => (self.is_closing, self.retry_at) = (true, None),
        }
    }

    pub const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Returns `true` if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.attempt.is_none() && self.waiting.is_empty() && self.orders.events == 0
    }

    /// Returns the number of events that will never be delivered.
    pub const fn undelivered(&self) -> u64 {
        self.undelivered
    }

    /// Returns `true` while the last try has failed, and others follow.
    pub const fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Returns the number of events that wait or are being sent.
    pub fn waiting(&self) -> u64 {
        let attempt = self.attempt.as_ref().map_or(0, |attempt| attempt.message.events);
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        [attempt, waiting, self.orders.events, self.overflow]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl AlertMessage {
    /// Adds the time to the title of an event that is sent late. A digest has the times in its
    /// lines.
    #[must_use]
    pub fn dated(mut self, now: Moment) -> Self {
        if self.kind != DIGEST && LATE <= now.wall.since(self.at) {
            self.title.insert_str(0, &format!("{} ", now.time_of(self.at)));
        }
        self
    }

    /// Adds the time at which the condition of its event ended.
    fn set_resolved(&mut self, resolved_at: UnixMs, now: Moment) {
        self.title.push_str(&format!(" (over since {})", now.time_of(resolved_at)));
        self.data.insert("over_at".to_owned(), resolved_at.to_string().into());
    }
}

impl Alert {
    /// Returns the message about this event alone.
    pub fn message(&self, is_silent: bool) -> AlertMessage {
        AlertMessage {
            kind: self.event.kind().name(),
            at: self.at,
            title: self.event.title(),
            text: self.event.text(),
            is_silent,
            data: self.event.data(),
            events: 1,
        }
    }
}

impl WaitingAlert {
    /// Returns the place in a flood: a halt, the beginning or the end of another condition, an
    /// event, a condition that has ended.
    fn rank(&self) -> u8 {
        match (self.alert.event.transition(), self.resolved_at) {
            (_, Some(_)) => 3,
            (AlertTransition::Firing(AlertCondition::Halt), None) => 0,
            (AlertTransition::Firing(_) | AlertTransition::Resolved(_), None) => 1,
            (AlertTransition::None, None) => 2,
        }
    }

    /// Returns the condition that the event began and that has not ended.
    fn open_condition(&self) -> Option<AlertCondition> {
        match (self.alert.event.transition(), self.resolved_at) {
            (AlertTransition::Firing(condition), None) => Some(condition),
            _ => None,
        }
    }

    fn message(self, now: Moment) -> AlertMessage {
        let mut message = self.alert.message(!self.is_loud);
        if let Some(resolved_at) = self.resolved_at {
            message.set_resolved(resolved_at, now);
        }
        message
    }

    /// Returns a line such as `03:12 Feed down (over since 03:20): No listings for 1 min 0 s`.
    fn line(&self, now: Moment) -> String {
        let event = &self.alert.event;
        let over = match self.resolved_at {
            Some(resolved_at) => format!(" (over since {})", now.time_of(resolved_at)),
            None if self.open_condition().is_some() => " (not over)".to_owned(),
            None => String::new(),
        };
        let text = event.text();
        let text = text.lines().next().unwrap_or_default();
        format!("{} {}{over}: {text}", now.time_of(self.alert.at), event.title())
    }
}

impl OrderBatch {
    const fn new() -> Self {
        Self { counts: Vec::new(), first_orders: Vec::new(), events: 0, is_loud: false, due: None }
    }

    fn add(&mut self, alert: &Alert, (word, price): (&'static str, Amount), is_loud: bool) {
        match self.counts.iter_mut().find(|(of, ..)| *of == word) {
            Some((_, count, coins)) => {
                *count = count.saturating_add(1);
                *coins = coins.saturating_add(price);
            }
            None => self.counts.push((word, 1, price)),
        }
        if self.first_orders.len() < NAMED_MAX {
            self.first_orders.push(alert.clone());
        }
        self.events = self.events.saturating_add(1);
        self.is_loud |= is_loud;
    }

    /// Returns a text such as `12 bought, 96.40 coins; 3 rejected, 20.00 coins`.
    fn counts_text(&self) -> String {
        let counts = self.counts.iter();
        let counts =
            counts.map(|(word, count, coins)| format!("{count} {word}, {coins} {}", unit::name()));
        counts.collect::<Vec<_>>().join("; ")
    }

    fn counts_json(&self) -> Value {
        let counts = self.counts.iter().map(|(word, count, coins)| {
            json!({"event": word, "count": count, "coins": coins.to_string()})
        });
        counts.collect()
    }

    /// Returns the first orders, each after its event if there are several kinds.
    fn lines(&self) -> Vec<String> {
        let is_one_kind = self.counts.len() == 1;
        let mut lines: Vec<String> = self
            .first_orders
            .iter()
            .filter_map(|alert| {
                let line = alert.event.order()?.0.line();
                Some(if is_one_kind { line } else { format!("{}: {line}", alert.event.title()) })
            })
            .collect();
        let named = u64::try_from(self.first_orders.len()).unwrap_or(u64::MAX);
        if let more @ 1.. = self.events.saturating_sub(named) {
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alerts::{
            event::{AlertEvent, AlertOrder, BudgetLeft},
            format::request,
            response::delivery,
        },
        config::alerts::{ChannelConfig, ChannelKind, ChannelTarget, SecretUrl},
        domain::outcome::RejectReason,
        ledger::HaltReason,
        net::{http_head::ResponseHead, http_message::HttpResponse},
    };

    const PACE: Duration = Duration::from_secs(2);
    const SECOND: Duration = Duration::from_secs(1);
    /// 2026-03-01 in the middle of the day.
    const NOON: UnixMs = UnixMs(1_772_366_400_000);
    const SINCE: OffsetTime = OffsetTime { at: NOON, offset_s: 0 };

    /// An outbox, and its clocks.
    struct TestOutbox {
        channel: ChannelConfig,
        outbox: AlertOutbox,
        now: Moment,
    }

    impl TestOutbox {
        fn new(loudness: &[(AlertKind, Loudness)], quiet: Option<QuietHours>) -> Self {
            let url = SecretUrl::parse("http://127.0.0.1:1/api/webhooks/1/t").unwrap();
            let target = ChannelTarget::Discord { url };
            let channel = ChannelConfig { target, loudness: loudness.to_vec() };
            let now = Moment { instant: Instant::now(), wall: NOON, utc_offset_s: 0 };
            Self { channel, outbox: AlertOutbox::new(quiet, PACE), now }
        }

        fn wait(&mut self, time: Duration) {
            self.now.instant += time;
            self.now.wall = self.now.wall.plus(time);
        }

        fn push(&mut self, event: AlertEvent) {
            let loudness = self.channel.loudness(event.kind());
            self.outbox.push(&Alert { at: self.now.wall, event }, loudness, self.now);
        }

        fn take(&mut self) -> Option<AlertMessage> {
            self.outbox.take(self.now)
        }

        fn result(&mut self, result: Delivery) -> Option<ChannelStateChange> {
            self.outbox.on_result(result, self.now, 0)
        }

        /// Waits until a message is due, and delivers it.
        fn deliver(&mut self) -> AlertMessage {
            let due = self.outbox.next_due(self.now).expect("nothing waits");
            self.wait(due.saturating_duration_since(self.now.instant));
            let message = self.take().expect("nothing is due");
            self.result(Delivery::Delivered);
            message
        }

        /// Delivers all that waits, and returns the titles.
        fn titles(&mut self) -> Vec<String> {
            let mut titles = Vec::new();
            while self.outbox.next_due(self.now).is_some() {
                titles.push(self.deliver().title);
            }
            titles
        }
    }

    fn bought(cents: i64) -> AlertEvent {
        let order = AlertOrder { item: Some("AK-47".into()), price: Amount::from_cents(cents) };
        AlertEvent::Bought { order, left: Some(BudgetLeft::default()) }
    }

    fn rejected() -> AlertEvent {
        let order = AlertOrder { item: Some("M4".into()), price: Amount::from_cents(100) };
        AlertEvent::Rejected { order, reason: RejectReason::Taken }
    }

    fn halted() -> AlertEvent {
        let (reason, text) = (HaltReason::OtherAccount, "another account".to_owned());
        AlertEvent::Halted { since: SINCE, reason, text }
    }

    fn feed_down() -> AlertEvent {
        AlertEvent::FeedDown { after: 60 * SECOND, cause: None }
    }

    fn feed_back() -> AlertEvent {
        AlertEvent::FeedBack { after: 120 * SECOND, was_flapping: false }
    }

    fn retry(requested: Option<Duration>) -> Delivery {
        let is_requested = requested.is_some();
        Delivery::Retry { after: requested, is_requested, why: "HTTP 500".to_owned() }
    }

    #[test]
    fn one_purchase_is_sent_silently_after_it_was_collected() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(bought(1_250));
        assert_eq!(clock.take(), None);
        clock.wait(BATCH_WINDOW);
        let message = clock.take().unwrap();
        assert_eq!(
            (message.title.as_str(), message.is_silent, message.events),
            ("Bought", true, 1)
        );
        assert!(message.text.starts_with("12.50  AK-47\n"), "{}", message.text);
        assert_eq!(clock.take(), None, "it is being sent");
        clock.result(Delivery::Delivered);
        assert!(clock.outbox.is_empty());
    }

    #[test]
    fn a_flood_is_one_digest_and_the_next_one_is_collected_for_longer() {
        let mut clock = TestOutbox::new(&[(AlertKind::Rejected, Loudness::On)], None);
        for _ in 0..12 {
            clock.push(bought(803));
        }
        let message = clock.deliver();
        assert_eq!((message.title.as_str(), message.kind), ("12 bought, 96.36 coins", "digest"));
        assert_eq!(message.text.lines().count(), NAMED_MAX + 1);
        assert!(message.text.ends_with("and 2 more") && message.is_silent, "{message:?}");
        assert_eq!(message.events, 12);
        for _ in 0..2 {
            clock.push(bought(500));
            clock.push(rejected());
        }
        clock.wait(BATCH_WINDOW);
        assert_eq!(clock.take(), None, "the flood goes on");
        clock.wait(BATCH_WINDOW);
        let message = clock.take().unwrap();
        assert_eq!(message.title, "2 bought, 10.00 coins; 2 rejected, 2.00 coins");
        assert!(!message.is_silent, "a loud event is in it");
        assert_eq!(message.data["counts"][1]["count"], 2);
        clock.result(Delivery::Delivered);
        clock.push(bought(500));
        clock.deliver();
        assert_eq!(clock.outbox.batch_window, BATCH_WINDOW, "the flood is over");
    }

    #[test]
    fn trouble_is_loud_and_does_not_wait_for_purchases() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(bought(500));
        clock.push(halted());
        let message = clock.take().unwrap();
        assert_eq!((message.kind, message.is_silent), ("halted", false));
        clock.result(Delivery::Delivered);
        assert_eq!(clock.titles(), ["Bought"]);
    }

    #[test]
    fn a_channel_sends_what_its_settings_demand() {
        let loudness = [(AlertKind::Halted, Loudness::Silent), (AlertKind::Bought, Loudness::Off)];
        let mut clock = TestOutbox::new(&loudness, None);
        clock.push(bought(500));
        clock.push(rejected());
        assert!(clock.outbox.is_empty());
        clock.push(halted());
        assert!(clock.deliver().is_silent);
    }

    #[test]
    fn many_other_events_are_one_digest_and_never_more_than_the_bound_wait() {
        let mut clock = TestOutbox::new(&[], None);
        for _ in 0..WAITING_MAX + 5 {
            clock.push(feed_down());
        }
        let message = clock.deliver();
        assert_eq!(message.title, format!("{} events", WAITING_MAX + 5));
        assert!(message.text.contains("12:00 Feed down (not over): No listings for 1 min 0 s"));
        assert!(message.text.ends_with("\n5 more events, not listed"), "{}", message.text);
        clock.push(feed_down());
        clock.push(halted());
        assert_eq!(clock.titles(), ["Feed down", "Ordering halted"]);
        for _ in 0..WAITING_MAX + 5 {
            clock.push(feed_down());
        }
        clock.push(halted());
        let text = clock.deliver().text;
        assert!(text.starts_with("12:00 Ordering halted (not over): "), "{text}");
        assert!(text.ends_with("\n6 more events, not listed"), "{text}");
    }

    #[test]
    fn messages_keep_the_pace_of_the_channel() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(feed_down());
        clock.push(halted());
        clock.take().unwrap();
        clock.result(Delivery::Delivered);
        clock.wait(PACE - SECOND);
        assert_eq!(clock.take(), None);
        clock.wait(SECOND);
        assert!(clock.take().is_some());
    }

    #[test]
    fn a_wait_that_the_channel_asks_for_is_obeyed_and_the_message_is_the_same() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        let message = clock.take().unwrap();
        assert_eq!(clock.result(retry(Some(64 * SECOND))), None, "no failure");
        clock.push(feed_down());
        clock.wait(63 * SECOND);
        assert_eq!(clock.take(), None);
        clock.wait(SECOND);
        assert_eq!(clock.take(), Some(message));
        clock.result(Delivery::Delivered);
        assert_eq!(clock.titles(), ["Feed down"]);
        clock.push(halted());
        clock.wait(PACE);
        clock.take().unwrap();
        let news = clock.result(retry(Some(3_600 * SECOND)));
        assert!(matches!(news, Some(ChannelStateChange::Failing { .. })), "the user has to know");
    }

    #[test]
    fn failures_are_retried_with_growing_waits_and_logged_once() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        let mut waits = Vec::new();
        let state = crate::alerts::ChannelState::default();
        let is_failing = |outbox: &AlertOutbox| {
            state.publish(outbox);
            state.is_failing.load(std::sync::atomic::Ordering::Relaxed)
        };
        for failure in 0..10 {
            assert_eq!(is_failing(&clock.outbox), failure > 0);
            assert!(clock.take().is_some());
            let news = clock.result(retry(None));
            assert_eq!(news.is_some(), failure == 0, "{news:?}");
            let due = clock.outbox.next_due(clock.now).unwrap();
            waits.push(due.saturating_duration_since(clock.now.instant).as_secs());
            clock.wait(due.saturating_duration_since(clock.now.instant));
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(clock.take().is_some());
        let news = clock.result(Delivery::Delivered);
        assert_eq!(news, Some(ChannelStateChange::Recovered { undelivered: 0 }));
        assert!(!is_failing(&clock.outbox));
    }

    #[test]
    fn what_cannot_be_delivered_is_counted_and_logged_once() {
        let mut clock = TestOutbox::new(&[], None);
        let rejected = || Delivery::Rejected { why: "HTTP 400".to_owned() };
        for count in 1..=3 {
            clock.push(halted());
            clock.wait(PACE);
            assert!(clock.take().is_some());
            let news = clock.result(rejected());
            let why = "HTTP 400".to_owned();
            let expected = (count == 1).then_some(ChannelStateChange::Undelivered { why });
            assert_eq!(news, expected);
            assert_eq!(clock.outbox.undelivered(), count);
        }
        clock.push(halted());
        clock.push(feed_down());
        clock.wait(PACE);
        assert!(clock.take().is_some());
        let why = "HTTP 410".to_owned();
        let news = clock.result(Delivery::Disabled { why: why.clone() });
        assert_eq!(news, Some(ChannelStateChange::Disabled { why }));
        clock.push(halted());
        assert_eq!((clock.outbox.undelivered(), clock.take()), (6, None));
    }

    #[test]
    fn a_message_that_fails_for_a_day_is_given_up() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        clock.take().unwrap();
        clock.result(retry(None));
        clock.wait(MESSAGE_AGE_MAX);
        clock.take().unwrap();
        assert!(matches!(clock.result(retry(None)), Some(ChannelStateChange::Undelivered { .. })));
        assert!(clock.outbox.is_empty());
    }

    #[test]
    fn an_event_that_is_over_before_it_was_sent_says_so() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        clock.take().unwrap();
        clock.push(feed_down());
        clock.wait(180 * SECOND);
        clock.push(feed_back());
        clock.result(Delivery::Delivered);
        assert_eq!(clock.titles(), ["Feed down (over since 12:03)"]);
        clock.push(feed_back());
        assert_eq!(clock.titles(), ["Feed back"], "its begin was sent before");
    }

    #[test]
    fn an_event_that_is_over_before_it_could_be_delivered_says_so_once_with_its_time() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(feed_down());
        clock.take().unwrap();
        clock.result(retry(None));
        clock.push(AlertEvent::Resumed);
        clock.wait(180 * SECOND);
        for _ in 0..2 {
            clock.push(feed_back());
        }
        let message = clock.take().unwrap();
        assert_eq!(message.data["over_at"], "2026-03-01T12:03:00.000Z");
        let title = message.dated(clock.now).title;
        assert_eq!(title, "12:00 Feed down (over since 12:03)");
        clock.result(Delivery::Delivered);
        assert_eq!(
            clock.titles(),
            ["Ordering resumed", "Feed back"],
            "the second one ends nothing"
        );

        clock.push(feed_down());
        clock.wait(PACE);
        let sending = clock.take().unwrap();
        clock.push(feed_back());
        clock.result(retry(None));
        assert_eq!(clock.deliver(), sending, "it may have been delivered");
        assert_eq!(sending.clone().dated(clock.now), sending, "it is not late");
        assert_eq!(clock.titles(), ["Feed back"]);
    }

    #[test]
    fn quiet_hours_hold_everything_and_report_afterwards_what_is_over() {
        // From 11:00 to 13:00 UTC, which are 13:00 to 15:00 local time.
        let quiet = QuietHours { from: 13 * 60, until: 15 * 60 };
        let mut clock = TestOutbox::new(&[], Some(quiet));
        clock.now.utc_offset_s = 2 * 3_600;
        clock.push(feed_down());
        clock.push(bought(500));
        clock.wait(60 * SECOND);
        clock.push(halted());
        clock.push(feed_back());
        clock.push(bought(700));
        assert_eq!(clock.take(), None);
        let due = clock.outbox.next_due(clock.now).unwrap();
        assert_eq!(due.saturating_duration_since(clock.now.instant), 59 * 60 * SECOND);
        let message = clock.deliver();
        assert_eq!(message.title, "During the quiet hours 13:00-15:00");
        let lines: Vec<&str> = message.text.lines().collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[0].starts_with("14:01 Ordering halted (not over): "), "{lines:#?}");
        assert_eq!(lines[1], "2 bought, 12.00 coins");
        assert!(lines[2].starts_with("14:00 Feed down (over since 14:01): "), "{lines:#?}");
        assert!(!message.is_silent && clock.outbox.is_empty());
        clock.push(halted());
        assert_eq!(clock.titles(), ["Ordering halted"]);
    }

    #[test]
    fn a_long_digest_shows_what_needs_the_user_and_how_much_was_cut_off() {
        let quiet = QuietHours { from: 11 * 60, until: 13 * 60 };
        let mut clock = TestOutbox::new(&[], Some(quiet));
        for _ in 0..20 {
            let cause = Some("x".repeat(100));
            clock.push(AlertEvent::FeedDown { after: 60 * SECOND, cause });
            clock.push(feed_back());
            clock.push(bought(500));
        }
        clock.push(halted());
        let message = clock.deliver();
        let request = request(&clock.channel.target, &message, "id", None, clock.now.wall);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let lines: Vec<&str> = body["content"].as_str().unwrap().lines().collect();
        assert!(lines[1].contains("Ordering halted"), "{lines:#?}");
        assert_eq!(lines[2], "20 bought, 100.00 coins");
        let cut = format!("and {} more lines", 1 + 1 + 20 + 11 - (lines.len() - 2));
        assert_eq!(lines.last(), Some(&&*cut), "{lines:#?}");
    }

    #[test]
    fn a_halt_that_waits_gives_way_to_no_other_event() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        for _ in 0..WAITING_MAX {
            clock.push(AlertEvent::Started { is_live: true, entries: 1 });
        }
        clock.push(feed_down());
        clock.push(AlertEvent::Halted {
            since: SINCE,
            reason: HaltReason::Rejected(RejectReason::Challenge),
            text: "second".to_owned(),
        });
        let text = clock.deliver().text;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("another account") && lines[1].contains("second"), "{text}");
        assert!(lines[2].contains("Feed down"), "{text}");
    }

    #[test]
    fn a_flood_leaves_no_end_of_a_condition_out_and_lists_what_lasts_first() {
        let mut clock = TestOutbox::new(&[(AlertKind::Resumed, Loudness::Silent)], None);
        for _ in 0..WAITING_MAX {
            clock.push(AlertEvent::Started { is_live: true, entries: 1 });
        }
        for event in [AlertEvent::Resumed, feed_back(), feed_down(), bought(500)] {
            clock.push(event);
        }
        let text = clock.deliver().text;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("Feed down (not over)"), "{text}");
        assert_eq!(lines[1..3], ["1 bought, 5.00 coins", "3 more events, not listed"], "{text}");
        assert!(lines[3].contains("Ordering resumed") && lines[4].contains("Feed back"), "{text}");
    }

    #[test]
    fn only_rejections_count_as_rejections() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        let rejected = || Delivery::PossiblyRejected { why: "HTTP 422".to_owned() };
        for result in [retry(None), retry(None), rejected(), rejected()] {
            let due = clock.outbox.next_due(clock.now).unwrap();
            clock.wait(due.saturating_duration_since(clock.now.instant));
            clock.take().unwrap();
            clock.result(result);
        }
        assert_eq!(clock.deliver().kind, "halted");
    }

    #[test]
    fn a_message_that_is_rejected_three_times_makes_room_for_the_next() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(AlertEvent::Resumed);
        clock.push(halted());
        for tries in 1..=REJECTIONS_MAX {
            let due = clock.outbox.next_due(clock.now).unwrap();
            clock.wait(due.saturating_duration_since(clock.now.instant));
            assert_eq!(clock.take().unwrap().kind, "resumed", "{tries}");
            clock.result(Delivery::PossiblyRejected { why: "HTTP 422".to_owned() });
        }
        assert_eq!((clock.outbox.undelivered(), clock.outbox.waiting()), (1, 1));
        assert_eq!(clock.deliver().kind, "halted");
    }

    #[test]
    fn at_the_stop_the_rest_is_one_message_that_waits_for_no_pace_but_for_a_rate_limit() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(feed_down());
        clock.deliver();
        clock.push(bought(500));
        clock.push(bought(700));
        clock.push(AlertEvent::Stopped { reason: "SIGTERM".to_owned(), is_failure: false });
        clock.outbox.receive(None, clock.now);
        let message = clock.take().expect("it waits for the pace");
        assert_eq!(message.title, "2 bought, 12.00 coins");
        clock.result(Delivery::Delivered);
        assert_eq!(clock.take().expect("it waits for the pace").kind, "stopped");
        clock.result(retry(Some(60 * SECOND)));
        assert_eq!(clock.take(), None, "the channel has requested a wait");
    }

    #[test]
    fn at_the_stop_a_message_that_waits_after_failures_is_tried_once_more_at_once() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(halted());
        for _ in 0..8 {
            let due = clock.outbox.next_due(clock.now).unwrap();
            clock.wait(due.saturating_duration_since(clock.now.instant));
            clock.take().unwrap();
            clock.result(retry(None));
        }
        assert_eq!(clock.take(), None);
        clock.outbox.receive(None, clock.now);
        assert_eq!(clock.take().expect("it waits after its failures").kind, "halted");
        clock.result(retry(None));
        clock.wait(60 * SECOND);
        assert_eq!(clock.take(), None, "one more try");
    }

    #[test]
    fn at_the_stop_a_wait_that_the_channel_has_not_requested_does_not_hold_the_last_try() {
        let responses = [
            (ChannelKind::Telegram, 403, ""),
            (ChannelKind::Discord, 401, ""),
            (ChannelKind::Ntfy, 404, ""),
            (ChannelKind::Webhook, 429, ""),
            (ChannelKind::Discord, 429, "60"),
        ];
        for (kind, status, retry_after) in responses {
            let headers = Some(("Retry-After", retry_after.as_bytes()));
            let headers = headers.filter(|(_, value)| !value.is_empty());
            let head = ResponseHead::parse(status, headers.into_iter());
            let failed = delivery(kind, &HttpResponse { head, body: Vec::new() });
            let mut clock = TestOutbox::new(&[], None);
            clock.push(halted());
            clock.take().unwrap();
            clock.result(failed.clone());
            clock.wait(SECOND);
            assert_eq!(clock.take(), None, "{status}: it waits before the stop");
            clock.outbox.receive(None, clock.now);
            let last = clock.take();
            assert_eq!(last.is_some(), retry_after.is_empty(), "{kind:?} {status}");
            if last.is_some() {
                clock.result(failed);
                assert_eq!(clock.take(), None, "one more try");
            }
        }
    }

    #[test]
    fn at_the_stop_everything_is_sent_at_once_and_silently_in_the_quiet_hours() {
        let mut clock = TestOutbox::new(&[], None);
        clock.push(bought(500));
        clock.outbox.receive(None, clock.now);
        assert!(clock.take().is_some());
        let quiet = QuietHours { from: 11 * 60, until: 13 * 60 };
        let mut clock = TestOutbox::new(&[], Some(quiet));
        clock.push(AlertEvent::Stopped { reason: "SIGTERM".to_owned(), is_failure: false });
        assert_eq!(clock.take(), None);
        clock.outbox.receive(None, clock.now);
        assert!(clock.take().unwrap().is_silent);
    }
}
