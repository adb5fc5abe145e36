//! The thread that delivers alerts: passes events to the channels, watches the feed and the disk,
//! calls the heartbeat and notifies systemd.

use std::{
    io,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{info, warn};

use super::{
    AlertSender, SenderState,
    channel::AlertChannel,
    event::{Alert, AlertEvent},
    heartbeat::{self, Health},
    outbox::{AlertMessage, AlertOutbox, ChannelNews, Delivery, Moment},
    systemd::{self, ServiceManager, status_line},
    watch::{AlertWatch, FeedBlock, FeedObservation},
};
use crate::{
    clock,
    config::Config,
    log::ALWAYS_SHOWN,
    net::{http_client::HttpError, tls::Tls},
    text::counted,
    threads::{ThreadName, priority},
    ws::FeedMetrics,
};

/// Interval in which the queue is read.
const POLL: Duration = Duration::from_millis(200);
/// Interval of the observations of the feed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the observations of the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum time to deliver what waits when the session stops.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Maximum number of events between the thread and one channel.
const CHANNEL_QUEUED_MAX: usize = 64;

/// Cause of alerts that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AlertStartError {
    #[error("the thread or its runtime could not be created")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Client(#[from] HttpError),
}

/// Handle of the thread. Dropping it ends the thread without delivering what waits.
#[derive(Debug, Default)]
pub struct AlertService {
    sender: AlertSender,
    /// Stops the thread, and the signal of its end.
    running: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

impl AlertService {
    /// Starts the thread if a channel or a heartbeat is configured, or systemd waits for a
    /// notification.
    ///
    /// # Errors
    ///
    /// Returns an [`AlertStartError`] if the thread or a client cannot be created.
    pub fn start(
        config: &Config,
        metrics: &Arc<FeedMetrics>,
        tls: &Tls,
    ) -> Result<Self, AlertStartError> {
        if !config.alerts.is_used() && !systemd::is_present() {
            return Ok(Self::default());
        }
        let channels = config.alerts.channels.iter();
        let channels = channels.map(|channel| AlertChannel::new(channel, tls));
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        let (sender, events) = AlertSender::new(!channels.is_empty());
        let Some(state) = sender.0.clone() else { return Ok(Self::default()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (done, end) = oneshot::channel();
        let parts = Parts {
            config: config.clone(),
            tls: tls.clone(),
            metrics: Arc::clone(metrics),
            state,
            events,
        };
        let work = move || {
            priority::lower(ThreadName::Alerts);
            runtime.block_on(run(parts, channels, stopped));
            // A name look-up may still block a thread.
            runtime.shutdown_background();
            // The session may not wait any more.
            let _is_awaited = done.send(()).is_ok();
        };
        thread::Builder::new().name(ThreadName::Alerts.to_string()).spawn(work)?;
        Ok(Self { sender, running: Some((stop, end)) })
    }

    /// Returns the engine's end.
    pub fn sender(&self) -> AlertSender {
        self.sender.clone()
    }

    /// Delivers what waits, for at most [`FLUSH_MAX`], and ends the thread.
    ///
    /// # Cancel safety
    ///
    /// Safe: the thread ends by itself.
    pub async fn finish(self) {
        if let Some((stop, end)) = self.running
            && stop.send(()).is_ok()
        {
            // The thread keeps the time limit; this one is for a thread that gets no time.
            let limit = FLUSH_MAX.saturating_add(POLL);
            let _is_in_time = tokio::time::timeout(limit, end).await.is_ok();
        }
    }
}

/// What the thread reads.
struct Parts {
    config: Config,
    tls: Tls,
    metrics: Arc<FeedMetrics>,
    state: Arc<SenderState>,
    events: Receiver<Alert>,
}

/// Reads the clocks and the time zone.
fn moment() -> Moment {
    let wall = clock::wall();
    Moment { instant: Instant::now(), wall, utc_offset_s: clock::utc_offset_s(wall) }
}

/// Queue of one channel's task, and its count of undelivered events.
struct ChannelHandle {
    name: String,
    queue: mpsc::Sender<Arc<Alert>>,
    undelivered: Arc<AtomicU64>,
}

async fn run(parts: Parts, channels: Vec<AlertChannel>, mut stop: oneshot::Receiver<()>) {
    let mut tasks = JoinSet::new();
    let quiet = parts.config.alerts.rules.quiet_hours;
    let handles: Vec<ChannelHandle> = channels
        .into_iter()
        .map(|channel| {
            let (queue, events) = mpsc::channel(CHANNEL_QUEUED_MAX);
            let undelivered = Arc::<AtomicU64>::default();
            let name = channel.name();
            let outbox = AlertOutbox::new(channel.config().clone(), quiet, channel.pace());
            let task = ChannelTask {
                channel,
                outbox,
                events,
                undelivered: Arc::clone(&undelivered),
                is_open: true,
            };
            tasks.spawn(task.run());
            ChannelHandle { name, queue, undelivered }
        })
        .collect();
    let (health, heard) = watch::channel::<Health>(None);
    let beat = parts.config.alerts.heartbeat.clone().map(|config| {
        let tls = parts.tls.clone();
        tokio::spawn(async move { heartbeat::run(config, tls, heard).await })
    });
    let mut manager = ServiceManager::from_environment();
    manager.ready();
    let interval = manager.interval().map_or(POLL, |interval| interval.min(POLL));
    let mut dispatcher = Dispatcher::new(parts, handles, health, manager);
    let is_stopped = loop {
        tokio::select! {
            stopped = &mut stop => break stopped.is_ok(),
            () = tokio::time::sleep(interval) => dispatcher.tick(),
        }
    };
    if let Some(beat) = beat {
        beat.abort();
    }
    if is_stopped {
        dispatcher.close(&mut tasks).await;
    }
}

/// Passes events to the channels.
struct Dispatcher {
    parts: Parts,
    channels: Vec<ChannelHandle>,
    health: watch::Sender<Health>,
    manager: ServiceManager,
    watch: AlertWatch,
    watched: Option<Instant>,
    disk_watched: Option<Instant>,
    feed: FeedObservation,
    has_reported_loss: bool,
    is_stopping: bool,
}

impl Dispatcher {
    fn new(
        parts: Parts,
        channels: Vec<ChannelHandle>,
        health: watch::Sender<Health>,
        manager: ServiceManager,
    ) -> Self {
        let watch = AlertWatch::new(parts.config.alerts.rules, moment());
        Self {
            parts,
            channels,
            health,
            manager,
            watch,
            watched: None,
            disk_watched: None,
            feed: FeedObservation::default(),
            has_reported_loss: false,
            is_stopping: false,
        }
    }

    fn tick(&mut self) {
        let now = moment();
        self.drain();
        let is_due = |last: Option<Instant>, interval| {
            last.is_none_or(|last| interval <= now.instant.saturating_duration_since(last))
        };
        if is_due(self.watched, WATCH_INTERVAL) {
            self.watched = Some(now.instant);
            self.watch_feed(now);
        }
        if is_due(self.disk_watched, DISK_INTERVAL) {
            self.disk_watched = Some(now.instant);
            self.watch_disk(now);
        }
        if self.parts.state.is_stopping.load(Ordering::Acquire) {
            if !std::mem::replace(&mut self.is_stopping, true) {
                self.manager.stopping();
            }
            return;
        }
        let (state, is_up) = (&self.parts.state, self.feed.is_up);
        let turns = state.turns.load(Ordering::Relaxed);
        self.manager.tick(turns, || status_line(&state.figures(), is_up), now.instant);
    }

    /// Passes on what the engine has emitted.
    fn drain(&mut self) {
        while let Ok(alert) = self.parts.events.try_recv() {
            self.dispatch(alert);
        }
        let lost = self.parts.state.lost.load(Ordering::Relaxed);
        if lost > 0 && !std::mem::replace(&mut self.has_reported_loss, true) {
            warn!("Alerts lost: more than the queue holds; further ones are only counted");
        }
    }

    fn dispatch(&mut self, alert: Alert) {
        let alert = Arc::new(alert);
        for channel in &self.channels {
            if channel.queue.try_send(Arc::clone(&alert)).is_err() {
                self.parts.state.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn watch_feed(&mut self, now: Moment) {
        let Parts { metrics, state, .. } = &self.parts;
        let feed = observe(metrics, state.turns.load(Ordering::Relaxed), now.instant);
        let figures = state.figures();
        self.feed = feed;
        let metrics = Arc::clone(metrics);
        let change = self.watch.observe_feed(feed, || metrics.last_gap_cause(), now);
        let summary = self.watch.observe_day(figures, feed, now);
        for event in change.into_iter().chain(summary) {
            self.dispatch(Alert { at: now.wall, event });
        }
        if let Ok(trouble) = self.watch.health(now.instant) {
            let new = trouble.map_or(Ok(()), Err);
            // A longer duration in the reason is no change.
            self.health.send_if_modified(|known| {
                let is_same = known.as_ref().is_some_and(|known| known.is_ok() == new.is_ok());
                *known = Some(new);
                !is_same
            });
        }
    }

    fn watch_disk(&mut self, now: Moment) {
        let Some(free_mb) = free_mb(&self.parts.config.data_dir) else { return };
        if let Some(event) = self.watch.observe_disk(free_mb) {
            match &event {
                AlertEvent::DiskLow { .. } => {
                    warn!("Disk almost full: {free_mb} MB free below SNIPER_DATA");
                }
                _ => info!("Disk has space again: {free_mb} MB free below SNIPER_DATA"),
            }
            self.dispatch(Alert { at: now.wall, event });
        }
    }

    /// Delivers what waits, for at most [`FLUSH_MAX`], and logs what was not delivered.
    async fn close(mut self, tasks: &mut JoinSet<()>) {
        if !self.is_stopping {
            self.manager.stopping();
        }
        self.drain();
        let counts: Vec<_> = std::mem::take(&mut self.channels)
            .into_iter()
            .map(|ChannelHandle { name, undelivered, .. }| (name, undelivered))
            .collect();
        let flush = async { while tasks.join_next().await.is_some() {} };
        let _is_complete = tokio::time::timeout(FLUSH_MAX, flush).await.is_ok();
        for (name, undelivered) in counts {
            let undelivered = undelivered.load(Ordering::Relaxed);
            if undelivered > 0 {
                let alerts = counted(undelivered, "alert", "alerts");
                warn!(target: ALWAYS_SHOWN, "Not delivered to {name}: {alerts}");
            }
        }
        let lost = self.parts.state.lost.load(Ordering::Relaxed);
        if lost > 0 {
            warn!(target: ALWAYS_SHOWN, "Alerts lost because a queue was full: {lost}");
        }
    }
}

fn observe(metrics: &FeedMetrics, turns: u64, now: Instant) -> FeedObservation {
    let downtime = metrics.downtime(now);
    let is_blocked = metrics.is_blocked.load(Ordering::Acquire);
    let is_challenged = metrics.is_challenged.load(Ordering::Acquire);
    FeedObservation {
        is_up: metrics.connected_since().is_some() && !downtime.is_open,
        block: is_blocked.then_some(if is_challenged {
            FeedBlock::Challenge
        } else {
            FeedBlock::Credential
        }),
        gaps: downtime.gaps,
        down: downtime.total,
        turns,
    }
}

/// Free space of the file system that contains a directory, which may not exist yet.
fn free_mb(directory: &Path) -> Option<u64> {
    let existing = directory.ancestors().find(|directory| directory.is_dir())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize).map(|bytes| bytes / 1_000_000)
}

/// Task of one channel.
struct ChannelTask {
    channel: AlertChannel,
    outbox: AlertOutbox,
    events: mpsc::Receiver<Arc<Alert>>,
    undelivered: Arc<AtomicU64>,
    /// `false` once the queue is closed and empty.
    is_open: bool,
}

impl ChannelTask {
    /// Delivers the events of the channel until its queue is closed and nothing waits.
    async fn run(mut self) {
        let name = self.channel.name();
        // A message has the same id for every try.
        let mut last: Option<(AlertMessage, String)> = None;
        while self.is_open || !self.outbox.is_empty() {
            self.publish();
            let now = moment();
            if let Some(message) = self.outbox.take(now) {
                let known = last.take().filter(|(sent, _id)| *sent == message);
                let (message, id) = known.unwrap_or_else(|| (message, new_id()));
                let result = self.send(&message, &id).await;
                report(&name, self.outbox.on_result(result, moment(), fastrand::u64(..)));
                last = Some((message, id));
                continue;
            }
            let due = self.outbox.next_due(now);
            let flushed = now.instant.checked_add(FLUSH_MAX);
            if !self.is_open && due.is_none_or(|due| flushed.is_some_and(|end| end < due)) {
                break;
            }
            let due = due.or_else(|| now.instant.checked_add(FLUSH_MAX)).unwrap_or(now.instant);
            tokio::select! {
                event = self.events.recv(), if self.is_open => self.on_event(event.as_deref()),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
        self.publish();
    }

    /// Sends a message, and meanwhile takes in further events.
    async fn send(&mut self, message: &AlertMessage, id: &str) -> Delivery {
        let Self { channel, outbox, events, is_open, .. } = self;
        let mut sending = pin!(channel.send(message, id));
        loop {
            tokio::select! {
                biased;
                result = &mut sending => return result,
                event = events.recv(), if *is_open => match event {
                    Some(alert) => outbox.push(&alert, moment()),
                    None => {
                        *is_open = false;
                        outbox.close();
                    }
                },
            }
        }
    }

    fn on_event(&mut self, event: Option<&Alert>) {
        match event {
            Some(alert) => self.outbox.push(alert, moment()),
            None => {
                self.is_open = false;
                self.outbox.close();
            }
        }
    }

    fn publish(&self) {
        self.undelivered.store(self.outbox.undelivered(), Ordering::Relaxed);
    }
}

fn new_id() -> String {
    format!("msg_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

fn report(name: &str, news: Option<ChannelNews>) {
    match news {
        None => {}
        Some(ChannelNews::Failing { why }) => {
            warn!("Alerts not accepted: {name}, {why}; trying again");
        }
        Some(ChannelNews::Recovered { undelivered: 0 }) => {
            info!("Alerts accepted again: {name}");
        }
        Some(ChannelNews::Recovered { undelivered }) => {
            info!("Alerts accepted again: {name}; {undelivered} were not delivered so far");
        }
        Some(ChannelNews::Undelivered { why }) => {
            warn!("Alert not delivered: {name}, {why}; further ones are only counted");
        }
        Some(ChannelNews::Stopped { why }) => {
            warn!("Alerts stopped: {name}, {why}; fix its settings and restart the bot");
        }
    }
}
