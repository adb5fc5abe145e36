//! Gaps of a feed, intervals in which no connection could deliver listings, and their back-fill.
//!
//! A connection can deliver while it is up and subscribed to the listings. A gap begins at the last
//! sign of life of the last such connection, not when its loss is detected. It ends when a
//! connection can deliver again. If that one is lost before it delivers anything and before
//! `stable_after`, the gap continues: a server that accepts and closes delivers no listings either.
//!
//! At the end of a gap, after it has subscribed, the feed sends a [`BackfillRequest`] to the task
//! that reads the open listings, so no listing is missed in between. That task runs on another
//! thread and sends the listings that it finds; the feed delivers each of them once, in its own
//! task. A new gap cancels the back-fill of an older one.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tracing::info;

use super::{
    metrics::{FeedMetrics, Gap, add},
    session::now,
};
use crate::{
    clock,
    domain::{time::UnixMs, trade::Trade, wanted_items::WantedItems},
    threads::lock,
};

#[derive(Debug)]
pub(super) struct GapTracker {
    metrics: Arc<FeedMetrics>,
    tag: String,
    stable_after: Duration,
    started: Instant,
    /// `true` from the end of a gap until the first data.
    awaits_data: AtomicBool,
    backfill: Option<Arc<Backfill>>,
    sweep_at_start: bool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GapEnd {
    Connected,
    /// A new subscription on a live connection.
    Subscribed,
}

/// A gap that has ended, with a back-fill in progress.
#[derive(Clone, Copy, Debug)]
struct PendingBackfill {
    number: u64,
    by: GapEnd,
    duration: Duration,
    attempts: u32,
    found: u32,
}

#[derive(Debug, Default)]
struct State {
    pending: Option<PendingBackfill>,
    /// Number of connections that are up.
    connections: usize,
    /// Number of connections that can deliver listings.
    delivering: usize,
    alive_until: Option<Instant>,
    /// Time since which listings can arrive, or could before the current gap.
    since: Option<Instant>,
    attempts: u32,
    /// Number of the last requested back-fill.
    backfills: u64,
}

impl GapTracker {
    pub(super) fn new(metrics: Arc<FeedMetrics>, tag: String, stable_after: Duration) -> Self {
        Self {
            metrics,
            tag,
            stable_after,
            started: now(),
            awaits_data: AtomicBool::new(false),
            backfill: None,
            sweep_at_start: false,
            state: Mutex::default(),
        }
    }

    /// Requests a back-fill after every gap, and one at start if `sweep_at_start`.
    pub(super) fn with_backfill(
        self,
        backfill: Option<Arc<Backfill>>,
        sweep_at_start: bool,
    ) -> Self {
        Self { backfill, sweep_at_start, ..self }
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.metrics.gap_list()
    }

    pub(super) fn on_dial(&self) {
        add(&self.metrics.dials, 1);
        let mut state = lock(&self.state);
        state.attempts = state.attempts.saturating_add(1);
        let attempts = state.attempts;
        drop(state);
        self.metrics.set_gap_attempts(attempts);
        if let Some(recorder) = self.metrics.recorder() {
            recorder.on_dial();
        }
    }

    /// Reports a failed dial to the recorder. Needed before the first connection only: no gap is
    /// open then, although nothing can be recorded.
    pub(super) fn on_dial_failed(&self, cause: &str) {
        let state = lock(&self.state);
        let (is_first, is_down) = (state.alive_until.is_none(), state.delivering == 0);
        drop(state);
        if is_first
            && is_down
            && let Some(recorder) = self.metrics.recorder()
        {
            recorder.on_disconnected(self.started, cause);
        }
    }

    /// Handles a connection that is up and subscribed. Returns the gap that it ended.
    pub(super) fn on_connected(&self) -> Option<Gap> {
        let mut state = lock(&self.state);
        state.connections = state.connections.saturating_add(1);
        if state.connections == 1 {
            self.metrics.set_connected_since(Some(clock::now()));
            self.metrics.has_connected.store(true, Ordering::Relaxed);
        }
        self.on_delivering(&mut state, GapEnd::Connected)
    }

    /// Handles a new listings subscription on a live connection.
    pub(super) fn on_resubscribed(&self) {
        let _gap = self.on_delivering(&mut lock(&self.state), GapEnd::Subscribed);
    }

    /// Counts a connection that can deliver. Returns the gap that it ended.
    fn on_delivering(&self, state: &mut State, by: GapEnd) -> Option<Gap> {
        state.delivering = state.delivering.saturating_add(1);
        if state.delivering != 1 {
            return None;
        }
        let at = now();
        state.since = Some(at);
        self.metrics.is_up.store(true, Ordering::Release);
        self.metrics.is_blocked.store(false, Ordering::Release);
        if by == GapEnd::Connected
            && let Some(recorder) = self.metrics.recorder()
        {
            recorder.on_connected();
        }
        let attempts = std::mem::take(&mut state.attempts);
        if state.alive_until.is_none() {
            if let Some(backfill) = self.backfill.as_ref().filter(|_| self.sweep_at_start) {
                backfill.request(BackfillRequest { number: 0, since: None });
            }
            return None;
        }
        if by == GapEnd::Connected {
            add(&self.metrics.reconnects, 1);
        }
        let ended = self.metrics.close_gap(attempts, (at, clock::now()));
        self.awaits_data.store(true, Ordering::Relaxed);
        state.backfills = state.backfills.saturating_add(1);
        let duration = ended.as_ref().map_or(Duration::ZERO, |gap| gap.duration);
        let number = state.backfills;
        let pending = PendingBackfill { number, by, duration, attempts, found: 0 };
        match &self.backfill {
            Some(backfill) => {
                state.pending = Some(pending);
                backfill
                    .request(BackfillRequest { number, since: ended.as_ref().map(|gap| gap.from) });
            }
            None => self.log_recovered(pending),
        }
        ended
    }

    fn log_recovered(&self, pending: PendingBackfill) {
        let PendingBackfill { by, duration, attempts, found, .. } = pending;
        let (tag, gap) = (&self.tag, Seconds(duration));
        let recovered = match (&self.backfill, found) {
            (None, _) => String::new(),
            (Some(_), 1) => ", 1 missed listing recovered".to_owned(),
            (Some(_), found) => format!(", {found} missed listings recovered"),
        };
        match (by, attempts) {
            (GapEnd::Connected, 1) => info!("Feed back after {gap} (1 attempt){recovered}{tag}"),
            (GapEnd::Connected, attempts) => {
                info!("Feed back after {gap} ({attempts} attempts){recovered}{tag}");
            }
            (GapEnd::Subscribed, _) => info!("Resubscribed after {gap}{recovered}{tag}"),
        }
    }

    /// Counts a listing that a back-fill found.
    pub(super) fn on_backfilled(&self) {
        add(&self.metrics.backfilled, 1);
        if let Some(recorder) = self.metrics.recorder() {
            recorder.on_backfilled();
        }
        if let Some(pending) = &mut lock(&self.state).pending {
            pending.found = pending.found.saturating_add(1);
        }
    }

    /// Handles the end of the back-fill with this number.
    pub(super) fn on_backfill_done(&self, number: u64) {
        let mut state = lock(&self.state);
        if let Some(pending) = state.pending.take_if(|pending| pending.number == number) {
            drop(state);
            self.log_recovered(pending);
        }
    }

    /// Handles data. Reads one flag, unless it is the first data after a gap.
    #[inline]
    pub(super) fn on_data(&self) {
        if self.awaits_data.load(Ordering::Relaxed) {
            self.awaits_data.store(false, Ordering::Relaxed);
            self.metrics.mark_gap_data(clock::now());
        }
    }

    /// Handles the loss of a connection; `alive` is the last time at which it was known to work.
    pub(super) fn on_disconnected(&self, alive: Instant, cause: &str) {
        self.on_disconnected_while_silent();
        self.on_silent(alive, cause);
    }

    /// Handles the loss of a connection whose listings subscription had already ended.
    pub(super) fn on_disconnected_while_silent(&self) {
        let mut state = lock(&self.state);
        state.connections = state.connections.saturating_sub(1);
        if state.connections == 0 {
            self.metrics.set_connected_since(None);
        }
    }

    /// Handles a connection that can no longer deliver listings, because it is lost or its
    /// subscription has ended; `alive` is the last time at which it was known to deliver.
    pub(super) fn on_silent(&self, alive: Instant, cause: &str) {
        let mut state = lock(&self.state);
        state.delivering = state.delivering.saturating_sub(1);
        let alive = state.alive_until.map_or(alive, |before| before.max(alive));
        state.alive_until = Some(alive);
        if state.delivering != 0 {
            return;
        }
        let uptime =
            state.since.map_or(Duration::ZERO, |since| alive.saturating_duration_since(since));
        let has_delivered = !self.awaits_data.swap(false, Ordering::Relaxed);
        let reopened = if has_delivered || uptime >= self.stable_after {
            None
        } else {
            self.metrics.reopen_gap()
        };
        state.attempts = reopened.as_ref().map_or(0, |gap| gap.attempts);
        let unfinished = state.pending.take();
        drop(state);
        if let Some(pending) = unfinished {
            self.log_recovered(pending);
        }
        if let Some(backfill) = &self.backfill {
            backfill.cancel();
        }
        self.metrics.is_up.store(false, Ordering::Release);
        if let Some(recorder) = self.metrics.recorder() {
            recorder.on_disconnected(alive, cause);
        }
        if reopened.is_some() {
            return;
        }
        let ago = now().saturating_duration_since(alive);
        let gap = Gap {
            from: clock::now().minus(ago),
            until: None,
            data_at: None,
            duration: ago,
            attempts: 0,
            cause: cause.to_owned(),
        };
        self.metrics.open_gap(gap, alive);
    }
}

/// Formats seconds as `3.4s`: rounded down to hundredths, without trailing zeros.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0.as_secs(), self.0.subsec_millis() / 10);
        match (hundredths / 10, hundredths % 10) {
            (0, 0) => write!(f, "{whole}s"),
            (tenths, 0) => write!(f, "{whole}.{tenths}s"),
            _ => write!(f, "{whole}.{hundredths:02}s"),
        }
    }
}

/// Maximum number of found listings that wait for delivery. A slow closure only slows the
/// back-fill.
pub const BACKFILL_QUEUED_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillRequest {
    /// Number of the gap; 0 is the sweep at start.
    pub number: u64,
    /// Start of the missed interval, by the wall clock; `None` requests all open listings.
    pub since: Option<UnixMs>,
}

/// The feed's end, stored in [`Feed`](super::Feed).
#[derive(Debug)]
pub struct Backfill {
    requests: watch::Sender<Option<BackfillRequest>>,
    receiver: Mutex<Option<BackfillReceiver>>,
}

/// The feed's end of the data channels.
#[derive(Debug)]
pub(super) struct BackfillReceiver {
    listings: mpsc::Receiver<Trade<'static>>,
    /// Numbers of the completed back-fills.
    done: mpsc::Receiver<u64>,
}

/// The reader's end.
#[derive(Debug)]
pub struct BackfillSender {
    requests: watch::Receiver<Option<BackfillRequest>>,
    listings: mpsc::Sender<Trade<'static>>,
    done: mpsc::Sender<u64>,
    wanted: watch::Receiver<Arc<WantedItems>>,
}

/// Creates a connected pair.
pub fn backfill(wanted: watch::Receiver<Arc<WantedItems>>) -> (Backfill, BackfillSender) {
    let (requests, requests_rx) = watch::channel(None);
    let (listings, listings_rx) = mpsc::channel(BACKFILL_QUEUED_MAX);
    let (done, done_rx) = mpsc::channel(1);
    let receiver = Mutex::new(Some(BackfillReceiver { listings: listings_rx, done: done_rx }));
    let sender = BackfillSender { requests: requests_rx, listings, done, wanted };
    (Backfill { requests, receiver }, sender)
}

impl Backfill {
    /// Requests a back-fill and replaces one in progress.
    pub(super) fn request(&self, request: BackfillRequest) {
        self.requests.send_replace(Some(request));
    }

    /// Cancels the back-fill in progress, because a new gap has begun.
    pub(super) fn cancel(&self) {
        self.requests.send_replace(None);
    }

    /// Takes the receiver. Only the first call returns it.
    pub(super) fn take_receiver(&self) -> Option<BackfillReceiver> {
        lock(&self.receiver).take()
    }
}

pub(super) enum BackfillMessage {
    Listing(Box<Trade<'static>>),
    /// All listings for the gap with this number have been sent.
    All(u64),
}

impl BackfillReceiver {
    /// Returns the next message, or `None` once the sender is dropped.
    pub(super) async fn next(&mut self) -> Option<BackfillMessage> {
        tokio::select! {
            biased;
            Some(trade) = self.listings.recv() => Some(BackfillMessage::Listing(Box::new(trade))),
            Some(number) = self.done.recv() => Some(BackfillMessage::All(number)),
            else => None,
        }
    }
}

impl BackfillSender {
    /// Waits for a request. Returns `None` once the feed is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a request that was not returned is returned by the next call.
    pub async fn next_request(&mut self) -> Option<BackfillRequest> {
        self.requests.wait_for(Option::is_some).await.ok().and_then(|request| *request)
    }

    /// Waits until this request is obsolete because of a new gap or a dropped feed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future has no effect.
    pub async fn superseded(&self, request: BackfillRequest) {
        let mut requests = self.requests.clone();
        // An error means that the feed was dropped, which makes every request obsolete.
        let _gone = requests.wait_for(|now| *now != Some(request)).await.is_err();
    }

    /// Returns the items that are wanted now.
    pub fn wanted(&self) -> Arc<WantedItems> {
        Arc::clone(&self.wanted.borrow())
    }

    /// Returns the channel for found listings.
    pub const fn listings(&self) -> &mpsc::Sender<Trade<'static>> {
        &self.listings
    }

    /// Reports the end of the work on this request, then waits for the next one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the report is either sent or not.
    pub async fn done(&self, request: BackfillRequest) {
        // If the feed is dropped, the report has no receiver.
        let _gone = self.done.send(request.number).await.is_err();
        self.superseded(request).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ms: u64, expected: &str) {
        assert_eq!(Seconds(Duration::from_millis(ms)).to_string(), expected);
    }

    #[test]
    fn waits_are_formatted_in_seconds() {
        check(2_000, "2s");
        check(3_400, "3.4s");
        check(2_340, "2.34s");
        check(250, "0.25s");
        check(1_050, "1.05s");
        check(300_000, "300s");
    }
}
