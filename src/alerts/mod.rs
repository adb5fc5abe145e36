//! Alerts on the user's phone, a heartbeat for another machine, and notifications of systemd.
//!
//! - [`event`]: events and their texts. [`outbox`]: queue, digests and retries of one channel.
//!   [`mod@format`], [`response`]: requests and responses of each kind of channel. [`watch`]: the
//!   feed, the disk and the hour of the summary. All pure.
//! - [`service`]: the thread that delivers. [`channel`], [`heartbeat`], [`systemd`]: its parts.
//!
//! # Invariants
//!
//! 1. No alert delays an order. After an order was sent, the engine calls [`AlertSender::emit`],
//!    which tries once to put a value into a bounded queue. The thread of the alerts polls the
//!    queue, so the engine makes no system call to wake it.
//! 2. Every queue is bounded. An event that does not fit, or cannot be delivered, is counted and
//!    logged once.
//! 3. An address or token is sent to its own host only, and redirects are not followed.
//! 4. Text from the market is escaped for each channel.

pub mod channel;
pub mod event;
pub mod format;
pub mod heartbeat;
pub mod outbox;
pub mod response;
pub mod service;
pub mod systemd;
pub mod watch;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc::{Receiver, SyncSender, sync_channel},
};

use self::outbox::AlertOutbox;
pub use self::{
    event::{Alert, AlertEvent, AlertOrder, BudgetLeft, SessionFigures},
    service::{AlertChange, AlertControl, AlertService, AlertStartError},
};
use crate::{clock, threads::lock};

/// Capacity of the queue from the engine to the thread of the alerts.
pub const QUEUED_MAX: usize = 512;

/// Emits the engine's events and publishes its figures, without waiting. The default does nothing.
#[derive(Clone, Debug, Default)]
pub struct AlertSender(Option<Arc<AlertState>>);

#[derive(Debug)]
struct AlertState {
    queue: SyncSender<Alert>,
    has_channels: AtomicBool,
    /// `true` if a new channel has not received the conditions that hold.
    has_new_channel: AtomicBool,
    /// Number of events for which a queue was full.
    lost: AtomicU64,
    /// Number of iterations of the engine's event loop.
    iterations: AtomicU64,
    figures: Mutex<SessionFigures>,
    /// State of each channel, for the status; removed ones included, because their tasks may still
    /// deliver.
    channels: Mutex<Vec<Arc<ChannelState>>>,
    /// Alerts that removed channels have not delivered.
    undelivered_before: AtomicU64,
    /// Free space below the data directory in MB; `u64::MAX` while unknown.
    free_mb: AtomicU64,
    is_stopping: AtomicBool,
}

impl AlertSender {
    /// Returns a sender, and the queue that the thread would read.
    #[cfg(test)]
    pub(crate) fn with_queue() -> (Self, Receiver<Alert>) {
        let (state, receiver) = AlertState::new(true);
        (Self(Some(state)), receiver)
    }

    /// Acts as if a channel was added.
    #[cfg(test)]
    pub(crate) fn add_channel(&self) {
        self.0.as_ref().unwrap().has_new_channel.store(true, Ordering::Release);
    }

    /// Emits an event, which is created only if there is a channel. Never waits.
    pub fn emit(&self, event: impl FnOnce() -> AlertEvent) {
        if !self.try_emit(event)
            && let Some(state) = &self.0
        {
            state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Emits an event like [`emit`](Self::emit). Returns `false` if there is a channel and the
    /// queue is full; the event is not counted as lost, because the caller tries again.
    pub fn try_emit(&self, event: impl FnOnce() -> AlertEvent) -> bool {
        let has_channels = |state: &&Arc<AlertState>| state.has_channels.load(Ordering::Relaxed);
        let Some(state) = self.0.as_ref().filter(has_channels) else { return true };
        state.queue.try_send(Alert { at: clock::wall(), event: event() }).is_ok()
    }

    /// Returns `true` once after a channel was added: the lasting conditions must be emitted again.
    pub fn take_new_channel(&self) -> bool {
        let state = self.0.as_ref();
        state.is_some_and(|state| state.has_new_channel.swap(false, Ordering::AcqRel))
    }

    /// Counts an iteration of the event loop, and publishes the figures of the session. Never
    /// waits.
    pub fn publish_figures(&self, figures: impl FnOnce() -> SessionFigures) {
        let Some(state) = &self.0 else { return };
        state.iterations.fetch_add(1, Ordering::Relaxed);
        // If the other thread is copying the figures, the next iteration publishes them.
        if let Ok(mut published) = state.figures.try_lock() {
            *published = figures();
        }
    }

    /// Reports that the session stops: its event loop may make no more iterations.
    pub fn stopping(&self) {
        if let Some(state) = &self.0 {
            state.is_stopping.store(true, Ordering::Release);
        }
    }
}

/// Counters of a channel, which its task publishes.
#[derive(Debug, Default)]
struct ChannelState {
    name: String,
    /// Alerts that will never be delivered.
    undelivered: AtomicU64,
    /// Alerts that the task has not received yet.
    in_queue: AtomicU64,
    /// Alerts that the task has received and not delivered yet.
    in_outbox: AtomicU64,
    /// `true` if the service has rejected the channel for good.
    is_disabled: AtomicBool,
    /// `true` while the last try has failed, and others follow.
    is_failing: AtomicBool,
    /// `true` if a reload has removed the channel.
    is_removed: AtomicBool,
}

impl ChannelState {
    fn publish(&self, outbox: &AlertOutbox) {
        self.is_failing.store(outbox.is_failing(), Ordering::Relaxed);
        self.undelivered.store(outbox.undelivered(), Ordering::Relaxed);
        self.in_outbox.store(outbox.waiting(), Ordering::Relaxed);
        self.is_disabled.store(outbox.is_disabled(), Ordering::Relaxed);
    }

    /// Returns `true` if no alert waits.
    fn is_empty(&self) -> bool {
        [&self.in_queue, &self.in_outbox].iter().all(|it| it.load(Ordering::Relaxed) == 0)
    }

    /// Counts the remaining alerts as undelivered after the end of the task. Returns the new total
    /// of undelivered alerts.
    fn give_up(&self) -> u64 {
        let counters = [&self.in_queue, &self.in_outbox].into_iter();
        let waiting = counters.map(|it| it.swap(0, Ordering::Relaxed)).fold(0, u64::saturating_add);
        self.undelivered.fetch_add(waiting, Ordering::Relaxed).saturating_add(waiting)
    }
}

/// Delivery of alerts, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertDelivery {
    /// Names of the channels that deliver nothing until the next reload.
    pub disabled: Vec<String>,
    /// Names of the channels whose alerts wait after a failed try.
    pub failing: Vec<String>,
    /// Alerts that will never be delivered. It never falls.
    pub undelivered: u64,
    /// Free space below the data directory in MB, if it is known.
    pub free_mb: Option<u64>,
}

impl AlertSender {
    pub fn delivery(&self) -> AlertDelivery {
        let Some(state) = &self.0 else { return AlertDelivery::default() };
        let channels = lock(&state.channels);
        let named = |is: fn(&ChannelState) -> &AtomicBool| {
            let of = |it: &&Arc<ChannelState>| {
                is(it).load(Ordering::Relaxed) && !it.is_removed.load(Ordering::Relaxed)
            };
            channels.iter().filter(of).map(|it| it.name.clone()).collect()
        };
        let counters = channels.iter().map(|channel| &channel.undelivered);
        let counters = counters.chain([&state.lost, &state.undelivered_before]);
        let free_mb = state.free_mb.load(Ordering::Relaxed);
        AlertDelivery {
            disabled: named(|it| &it.is_disabled),
            failing: named(|it| &it.is_failing),
            undelivered: counters.map(|it| it.load(Ordering::Relaxed)).fold(0, u64::saturating_add),
            free_mb: Some(free_mb).filter(|free_mb| *free_mb != u64::MAX),
        }
    }
}

impl AlertState {
    fn new(has_channels: bool) -> (Arc<Self>, Receiver<Alert>) {
        let (queue, receiver) = sync_channel(QUEUED_MAX);
        let state = Self {
            queue,
            has_channels: AtomicBool::new(has_channels),
            has_new_channel: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            iterations: AtomicU64::new(0),
            figures: Mutex::default(),
            channels: Mutex::default(),
            undelivered_before: AtomicU64::new(0),
            free_mb: AtomicU64::new(u64::MAX),
            is_stopping: AtomicBool::new(false),
        };
        (Arc::new(state), receiver)
    }

    fn figures(&self) -> SessionFigures {
        *lock(&self.figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_finds_no_room_is_counted_and_nothing_waits() {
        let (sender, _events) = AlertSender::with_queue();
        for _ in 0..QUEUED_MAX + 3 {
            sender.emit(|| AlertEvent::Resumed);
        }
        assert!(!sender.try_emit(|| AlertEvent::Resumed));
        let lost = sender.0.unwrap().lost.load(Ordering::Relaxed);
        assert_eq!(lost, 3, "an event that is tried again is not lost");
    }

    #[test]
    fn without_a_channel_no_event_is_created() {
        let (without_channels, _events) = AlertState::new(false);
        for sender in [AlertSender::default(), AlertSender(Some(without_channels))] {
            sender.emit(|| panic!("it was created"));
        }
    }
}
