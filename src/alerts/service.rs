//! The thread that delivers alerts: passes events to the channels, watches the feed and the disk,
//! calls the heartbeat and notifies systemd.

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use tracing::{error, info, warn};

use super::{
    AlertSender, AlertState, ChannelState, QUEUED_MAX,
    channel::AlertChannel,
    event::{Alert, AlertEvent, AlertTransition, FeedBlock},
    heartbeat::{self, Health},
    outbox::{AlertMessage, AlertOutbox, ChannelStateChange, Delivery, Moment},
    systemd::{ServiceManager, status_line},
    watch::{AlertWatch, FeedHealth, FeedObservation},
};
use crate::{
    clock,
    config::{
        Config,
        alerts::{AlertRules, AlertsConfig, ChannelConfig, HeartbeatConfig, QuietHours},
    },
    domain::{alert_kind::Loudness, time::UnixMs},
    ledger::obstacle::SILENT_REMEDY,
    log::ALWAYS_SHOWN,
    net::{
        http_client::{HttpClient, HttpError},
        tls::Tls,
    },
    text::counted,
    threads::{Alarm, ThreadGuard, ThreadName, lock, priority, wait_for_failpoint},
    ws::{FeedCondition, FeedMetrics},
};

/// Interval at which the queue is read.
const POLL: Duration = Duration::from_millis(200);
/// Interval of the observations of the feed.
const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the observations of the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum time to deliver the waiting messages when the session stops.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Maximum number of removed channels without waiting events whose undelivered ones are reported by
/// name at the stop.
const REMOVED_MAX: usize = 32;

/// Cause of alerts that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AlertStartError {
    #[error("the thread or its runtime could not be created")]
    Thread(#[from] io::Error),
    #[error(transparent)]
    Client(#[from] HttpError),
}

/// Handle of the thread. Dropping it without [`finish`](Self::finish) means that the session could
/// not start or panicked: it reports that, and blocks until it is delivered, for at most
/// [`FLUSH_MAX`].
#[derive(Debug, Default)]
pub struct AlertService {
    sender: AlertSender,
    control: Option<AlertControl>,
    running: Option<RunningThread>,
}

#[derive(Debug)]
struct RunningThread {
    /// Stops the thread.
    stop: oneshot::Sender<()>,
    /// Receives a value when the thread ends.
    end: oneshot::Receiver<()>,
}

impl AlertService {
    /// Starts the thread. Without channels and heartbeat it has nothing to send until a
    /// [change](AlertControl::apply).
    ///
    /// # Errors
    ///
    /// Returns an [`AlertStartError`] if the thread or a client cannot be created.
    pub fn start(
        config: &Config,
        metrics: &Arc<FeedMetrics>,
        tls: &Tls,
    ) -> Result<Self, AlertStartError> {
        let (requests, changes) = sync_channel(1);
        let control = AlertControl { requests, tls: tls.clone() };
        let first = control.prepare(&config.alerts)?;
        let (state, events) = AlertState::new(!first.channels.is_empty());
        let sender = AlertSender(Some(Arc::clone(&state)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (done, end) = oneshot::channel();
        let parts = ThreadParts {
            data_dir: config.data_dir.clone(),
            has_filters: config.feed.server_filters,
            tls: tls.clone(),
            metrics: Arc::clone(metrics),
            state,
            events,
            changes,
        };
        let guard = ThreadGuard::new(ThreadName::Alerts, Alarm::global());
        let work = move || {
            priority::lower(ThreadName::Alerts);
            runtime.block_on(async {
                tokio::select! {
                    () = run(parts, first, stopped) => guard.finished(),
                    () = wait_for_failpoint(ThreadName::Alerts) => {}
                }
            });
            // A name look-up may still block a thread.
            runtime.shutdown_background();
            // Fails if the session does not wait any more.
            let _is_awaited = done.send(()).is_ok();
        };
        thread::Builder::new().name(ThreadName::Alerts.to_string()).spawn(work)?;
        Ok(Self { sender, control: Some(control), running: Some(RunningThread { stop, end }) })
    }

    /// Returns the handle that replaces the settings; `None` if the service does not run.
    pub fn control(&self) -> Option<AlertControl> {
        self.control.clone()
    }

    /// Ends the service without an event: another bot goes on.
    pub fn discard(&mut self) {
        self.running = None;
    }

    /// Returns the sender for the engine.
    pub fn sender(&self) -> AlertSender {
        self.sender.clone()
    }

    /// Delivers the waiting messages, for at most [`FLUSH_MAX`], and ends the thread.
    ///
    /// # Cancel safety
    ///
    /// Safe: the thread ends by itself.
    pub async fn finish(mut self) {
        if let Some(RunningThread { stop, end }) = self.running.take()
            && stop.send(()).is_ok()
        {
            // The thread has the same time limit; this one is for a thread that does not run.
            let limit = FLUSH_MAX.saturating_add(POLL);
            let _is_in_time = tokio::time::timeout(limit, end).await.is_ok();
        }
    }
}

impl Drop for AlertService {
    fn drop(&mut self) {
        let Some(RunningThread { stop, mut end }) = self.running.take() else { return };
        let reason = "it could not start, or panicked; its log has the cause".to_owned();
        self.sender.emit(|| AlertEvent::Stopped { reason, is_failure: true });
        let (limit, begun) = (FLUSH_MAX.saturating_add(POLL), Instant::now());
        // Not a blocking receive, which panics within a runtime.
        let mut is_running = stop.send(()).is_ok();
        while is_running && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(10));
            is_running = matches!(end.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        }
    }
}

/// Replaces the settings of a running service.
#[derive(Clone, Debug)]
pub struct AlertControl {
    requests: SyncSender<AlertChange>,
    tls: Tls,
}

/// Settings with the clients that they need.
#[derive(Debug)]
pub struct AlertChange {
    config: AlertsConfig,
    /// One per channel of the settings.
    channels: Vec<AlertChannel>,
    heartbeat_client: Option<HttpClient>,
}

impl AlertControl {
    /// Creates the clients of these settings. Nothing changes yet.
    ///
    /// # Errors
    ///
    /// Returns the [`HttpError`] of a client that cannot be created.
    pub fn prepare(&self, config: &AlertsConfig) -> Result<AlertChange, HttpError> {
        let channel = |channel| AlertChannel::new(channel, &self.tls);
        let channels = config.channels.iter().map(channel).collect::<Result<_, HttpError>>()?;
        let client = |heartbeat| heartbeat::client(heartbeat, &self.tls);
        let heartbeat_client = config.heartbeat.as_ref().map(client).transpose()?;
        Ok(AlertChange { config: config.clone(), channels, heartbeat_client })
    }

    /// Uses other settings from now on. The waiting messages of a removed channel are still
    /// delivered.
    pub fn apply(&self, change: AlertChange) {
        // The thread ends with the session.
        let _is_running = self.requests.send(change).is_ok();
    }
}

/// What the thread shares with the rest of the program.
struct ThreadParts {
    data_dir: PathBuf,
    /// `true` if the server sends wanted listings only.
    has_filters: bool,
    tls: Tls,
    metrics: Arc<FeedMetrics>,
    state: Arc<AlertState>,
    events: Receiver<Alert>,
    changes: Receiver<AlertChange>,
}

/// Reads the clocks and the time zone.
fn moment() -> Moment {
    let wall = clock::wall();
    Moment { instant: Instant::now(), wall, utc_offset_s: clock::utc_offset_s(wall) }
}

/// Queue and counter of a channel's task.
struct ChannelHandle {
    config: ChannelConfig,
    queue: mpsc::Sender<(Arc<Alert>, Loudness)>,
    state: Arc<ChannelState>,
}

impl ChannelHandle {
    fn is_disabled(&self) -> bool {
        self.state.is_disabled.load(Ordering::Relaxed)
    }
}

async fn run(parts: ThreadParts, first: AlertChange, mut stop: oneshot::Receiver<()>) {
    let manager = ServiceManager::from_environment();
    let interval = manager.interval().map_or(POLL, |interval| interval.min(POLL));
    let mut dispatcher = Dispatcher::new(parts, first, manager);
    let is_stopped = loop {
        tokio::select! {
            stopped = &mut stop => break stopped.is_ok(),
            () = tokio::time::sleep(interval) => dispatcher.tick().await,
        }
    };
    dispatcher.stop_heartbeat();
    if is_stopped {
        dispatcher.close().await;
    }
}

/// Passes events to the channels.
struct Dispatcher {
    parts: ThreadParts,
    channels: Vec<ChannelHandle>,
    removed: Vec<Arc<ChannelState>>,
    /// Quiet hours of all channels.
    quiet: watch::Sender<Option<QuietHours>>,
    tasks: JoinSet<()>,
    heartbeat: Option<HeartbeatConfig>,
    heartbeat_task: Option<JoinHandle<()>>,
    health: watch::Sender<Health>,
    manager: ServiceManager,
    watch: AlertWatch,
    feed_watched_at: Option<Instant>,
    disk_watched_at: Option<Instant>,
    has_reported_loss: bool,
    is_stopping: bool,
}

impl Dispatcher {
    fn new(parts: ThreadParts, first: AlertChange, manager: ServiceManager) -> Self {
        let rules = first.config.rules;
        let mut dispatcher = Self {
            parts,
            channels: Vec::new(),
            removed: Vec::new(),
            quiet: watch::Sender::new(rules.quiet_hours),
            tasks: JoinSet::new(),
            heartbeat: None,
            heartbeat_task: None,
            health: watch::Sender::new(None),
            manager,
            watch: AlertWatch::new(rules, moment()),
            feed_watched_at: None,
            disk_watched_at: None,
            has_reported_loss: false,
            is_stopping: false,
        };
        dispatcher.replace(first);
        dispatcher
    }

    /// Uses other settings. A channel whose address and secrets stay the same keeps its waiting
    /// messages, unless the service has rejected it: it is tried again.
    fn replace(&mut self, change: AlertChange) {
        let AlertChange { config, channels, heartbeat_client } = change;
        let mut old = std::mem::take(&mut self.channels);
        let mut has_new_channel = false;
        self.quiet.send_replace(config.rules.quiet_hours);
        for channel in channels {
            let config = channel.config();
            let is_same =
                |it: &ChannelHandle| it.config.target == config.target && !it.is_disabled();
            let same = old.iter().position(is_same).map(|at| old.swap_remove(at));
            has_new_channel |= same.as_ref().is_none_or(|handle| handle.config != *config);
            let handle = match same {
                Some(handle) => ChannelHandle { config: config.clone(), ..handle },
                None => self.spawn(channel),
            };
            self.channels.push(handle);
        }
        self.remove(old);
        let has_channels = !self.channels.is_empty();
        self.parts.state.has_channels.store(has_channels, Ordering::Relaxed);
        if has_new_channel {
            self.watch.report_again();
            self.parts.state.has_new_channel.store(true, Ordering::Release);
        }
        let silent_after = silent_after(&config.rules, self.parts.has_filters);
        self.parts.metrics.set_silent_after(silent_after);
        self.watch.set_rules(config.rules, moment());
        if self.heartbeat != config.heartbeat {
            self.stop_heartbeat();
            self.heartbeat.clone_from(&config.heartbeat);
            let health = self.health.subscribe();
            let calls = config.heartbeat.zip(heartbeat_client);
            self.heartbeat_task =
                calls.map(|(config, http)| tokio::spawn(heartbeat::run(config, http, health)));
        }
    }

    fn stop_heartbeat(&mut self) {
        if let Some(task) = self.heartbeat_task.take() {
            task.abort();
        }
    }

    fn spawn(&mut self, channel: AlertChannel) -> ChannelHandle {
        let (queue, events) = mpsc::channel(QUEUED_MAX);
        let (name, config) = (channel.name(), channel.config().clone());
        let state = Arc::new(ChannelState { name, ..ChannelState::default() });
        let quiet = self.quiet.subscribe();
        let outbox = AlertOutbox::new(*quiet.borrow(), channel.min_interval());
        let task = ChannelTask { channel, outbox, events, quiet, state: Arc::clone(&state) };
        self.tasks.spawn(task.run());
        ChannelHandle { config, queue, state }
    }

    /// Closes channels, which still deliver their waiting messages, and lists the states of all.
    fn remove(&mut self, channels: Vec<ChannelHandle>) {
        while self.tasks.try_join_next().is_some() {}
        let removed = channels.into_iter().map(|handle| handle.state);
        self.removed.extend(removed.inspect(|it| it.is_removed.store(true, Ordering::Relaxed)));
        let mut above = self.removed.len().saturating_sub(REMOVED_MAX);
        // No reader may count a channel twice or not at all.
        let mut published = lock(&self.parts.state.channels);
        self.removed.retain(|state| {
            // The count of a channel that still has something to deliver may rise.
            let is_over = 0 < above && state.is_empty();
            above = above.saturating_sub(is_over.into());
            let undelivered = if is_over { state.undelivered.load(Ordering::Relaxed) } else { 0 };
            self.parts.state.undelivered_before.fetch_add(undelivered, Ordering::Relaxed);
            !is_over
        });
        let states = self.channels.iter().map(|channel| &channel.state).chain(&self.removed);
        *published = states.cloned().collect();
    }

    async fn tick(&mut self) {
        let now = moment();
        self.restart_ended();
        self.drain().await;
        while let Ok(change) = self.parts.changes.try_recv() {
            self.replace(change);
        }
        let is_due = |last: Option<Instant>, interval| {
            last.is_none_or(|last| interval <= now.instant.saturating_duration_since(last))
        };
        if is_due(self.feed_watched_at, FEED_INTERVAL) {
            self.feed_watched_at = Some(now.instant);
            self.watch_feed(now);
        }
        if is_due(self.disk_watched_at, DISK_INTERVAL) {
            self.disk_watched_at = Some(now.instant);
            self.watch_disk(now);
        }
        if self.parts.state.is_stopping.load(Ordering::Acquire) {
            if !std::mem::replace(&mut self.is_stopping, true) {
                self.manager.stopping();
            }
            return;
        }
        let state = &self.parts.state;
        let iterations = state.iterations.load(Ordering::Relaxed);
        self.manager.tick(iterations, || status_line(&state.figures()), now.instant);
    }

    /// Starts the channels again whose tasks have panicked.
    fn restart_ended(&mut self) {
        for at in 0..self.channels.len() {
            let ended = self.channels.get(at).filter(|channel| channel.queue.is_closed());
            let Some(ended) = ended else { continue };
            let name = &ended.state.name;
            error!("Alert channel failed: {name}; its alerts are lost, and it starts again");
            // The client was created before with the same settings.
            let Ok(channel) = AlertChannel::new(&ended.config, &self.parts.tls) else { continue };
            let started = self.spawn(channel);
            if let Some(channel) = self.channels.get_mut(at) {
                let ended = std::mem::replace(channel, started);
                ended.state.give_up();
                self.remove(vec![ended]);
            }
        }
    }

    /// Passes the events of the engine on to the channels.
    async fn drain(&mut self) {
        while let Ok(alert) = self.parts.events.try_recv() {
            self.dispatch(alert);
            // The channels receive it meanwhile, so their queues stay short.
            tokio::task::yield_now().await;
        }
        let lost = self.parts.state.lost.load(Ordering::Relaxed);
        if lost > 0 && !std::mem::replace(&mut self.has_reported_loss, true) {
            warn!("Alerts lost: more than the queue holds; further ones are only counted");
        }
    }

    fn dispatch(&mut self, alert: Alert) {
        let alert = Arc::new(alert);
        // The end of a condition is passed on, because the message about its beginning states it.
        let is_end = matches!(alert.event.transition(), AlertTransition::Resolved(_));
        let kind = alert.event.kind();
        for channel in &self.channels {
            let loudness = channel.config.loudness(kind);
            let is_wanted = is_end || loudness != Loudness::Off;
            if is_wanted && channel.queue.try_send((Arc::clone(&alert), loudness)).is_err() {
                self.parts.state.lost.fetch_add(1, Ordering::Relaxed);
            } else {
                let is_message = u64::from(loudness != Loudness::Off);
                channel.state.in_queue.fetch_add(is_message, Ordering::Relaxed);
            }
        }
    }

    fn watch_feed(&mut self, now: Moment) {
        let ThreadParts { metrics, state, .. } = &self.parts;
        let feed =
            observe(metrics, state.iterations.load(Ordering::Relaxed), now.instant, clock::now());
        let figures = state.figures();
        let metrics = Arc::clone(metrics);
        let cause = || {
            if feed.silent.is_some() {
                return Some(format!("connected. What to do: {SILENT_REMEDY}"));
            }
            // While connected, the feed is down because its subscription has ended: the cause of
            // the gap. While disconnected, it is down because the last dial failed.
            let is_connected = metrics.connected_since().is_some() && feed.block.is_none();
            let ended = metrics.last_gap_cause().filter(|_cause| is_connected);
            ended.or_else(|| metrics.last_failure().map(|(cause, _remedy)| cause))
        };
        let change = self.watch.observe_feed(feed, cause, now);
        let summary = self.watch.observe_day(figures, feed, now);
        for event in change.into_iter().chain(summary) {
            self.dispatch(Alert { at: now.wall, event });
        }
        let new = match self.watch.health(now.instant) {
            FeedHealth::Pending => return,
            FeedHealth::Healthy => Ok(()),
            FeedHealth::Unhealthy(reason) => Err(reason),
        };
        // The reason contains a duration, which is different each time.
        self.health.send_if_modified(|known| {
            let is_same = known.as_ref().is_some_and(|known| known.is_ok() == new.is_ok());
            *known = Some(new);
            !is_same
        });
    }

    fn watch_disk(&mut self, now: Moment) {
        let Some(free) = free_bytes(&self.parts.data_dir) else { return };
        let free_mb = free / 1_000_000;
        self.parts.state.free_mb.store(free_mb, Ordering::Relaxed);
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

    /// Delivers the waiting messages, for at most [`FLUSH_MAX`], and logs how many were not
    /// delivered.
    async fn close(mut self) {
        if !self.is_stopping {
            self.manager.stopping();
        }
        self.drain().await;
        let channels = std::mem::take(&mut self.channels);
        self.remove(channels);
        let flush = async { while self.tasks.join_next().await.is_some() {} };
        let _is_complete = tokio::time::timeout(FLUSH_MAX, flush).await.is_ok();
        for state in std::mem::take(&mut self.removed) {
            let (name, undelivered) = (&state.name, state.give_up());
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

fn observe(metrics: &FeedMetrics, iterations: u64, now: Instant, at: UnixMs) -> FeedObservation {
    let (downtime, silent) = (metrics.downtime(now), metrics.silence(at));
    let block = || {
        if metrics.is_challenged.load(Ordering::Acquire) {
            FeedBlock::Challenge
        } else if metrics.is_web_page.load(Ordering::Acquire) {
            FeedBlock::WebPage
        } else {
            FeedBlock::Credential
        }
    };
    FeedObservation {
        is_up: metrics.state(at) == FeedCondition::Connected,
        silent,
        block: metrics.is_blocked.load(Ordering::Acquire).then(block),
        gaps: downtime.gaps,
        down: downtime.total,
        iterations,
    }
}

/// Returns the free space of the file system that contains a directory, which may not exist yet.
pub(crate) fn free_bytes(directory: &Path) -> Option<u64> {
    let existing = directory.ancestors().find(|directory| directory.is_dir())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Task of one channel.
struct ChannelTask {
    channel: AlertChannel,
    outbox: AlertOutbox,
    events: mpsc::Receiver<(Arc<Alert>, Loudness)>,
    quiet: watch::Receiver<Option<QuietHours>>,
    state: Arc<ChannelState>,
}

impl ChannelTask {
    /// Delivers the events of the channel until its queue is closed and nothing waits.
    async fn run(mut self) {
        let name = self.channel.name();
        // A message that is sent again keeps its id, by which a receiver can recognize it.
        let mut last: Option<(AlertMessage, String)> = None;
        while !self.outbox.is_closing() || !self.outbox.is_empty() {
            self.state.publish(&self.outbox);
            self.outbox.set_quiet(*self.quiet.borrow_and_update());
            let now = moment();
            if let Some(message) = self.outbox.take(now) {
                let known = last.take().filter(|(sent, _id)| *sent == message);
                let (message, id) = known.unwrap_or_else(|| (message, new_id()));
                let result = self.send(&message.clone().dated(now), &id).await;
                report(&name, self.outbox.on_result(result, moment(), fastrand::u64(..)));
                if let Some(wait) = self.channel.take_rate_limit_wait() {
                    self.outbox.hold_for(wait, moment());
                }
                last = Some((message, id));
                continue;
            }
            let due = self.outbox.next_due(now);
            let flush_end = now.instant.checked_add(FLUSH_MAX);
            if self.outbox.is_closing()
                && due.is_none_or(|due| flush_end.is_some_and(|end| end < due))
            {
                break;
            }
            let due = due.or(flush_end).unwrap_or(now.instant);
            tokio::select! {
                event = self.events.recv(), if !self.outbox.is_closing() => {
                    receive(&mut self.outbox, &self.state, event);
                }
                Ok(()) = self.quiet.changed() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
        self.state.publish(&self.outbox);
        self.state.give_up();
    }

    /// Sends a message, and meanwhile receives further events.
    async fn send(&mut self, message: &AlertMessage, id: &str) -> Delivery {
        let Self { channel, outbox, events, state, .. } = self;
        let mut sending = pin!(channel.send(message, id));
        loop {
            tokio::select! {
                biased;
                result = &mut sending => return result,
                event = events.recv(), if !outbox.is_closing() => {
                    receive(outbox, state, event);
                }
            }
        }
    }
}

/// Handles an event of the queue. At the stop, the task may end before its next turn, so the
/// counters are published here.
fn receive(outbox: &mut AlertOutbox, state: &ChannelState, event: Option<(Arc<Alert>, Loudness)>) {
    outbox.receive(event.as_ref().map(|(alert, loudness)| (&**alert, *loudness)), moment());
    state.publish(outbox);
    let is_message = event.is_some_and(|(_alert, loudness)| loudness != Loudness::Off);
    state.in_queue.fetch_sub(is_message.into(), Ordering::Relaxed);
}

fn new_id() -> String {
    format!("msg_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

fn report(name: &str, change: Option<ChannelStateChange>) {
    match change {
        None => {}
        Some(ChannelStateChange::Failing { why }) => {
            warn!("Alerts not accepted: {name}, {why}; trying again");
        }
        Some(ChannelStateChange::Recovered { undelivered: 0 }) => {
            info!("Alerts accepted again: {name}");
        }
        Some(ChannelStateChange::Recovered { undelivered }) => {
            info!("Alerts accepted again: {name}; {undelivered} were not delivered so far");
        }
        Some(ChannelStateChange::Undelivered { why }) => {
            warn!("Alert not delivered: {name}, {why}; further ones are only counted");
        }
        Some(ChannelStateChange::Disabled { why }) => {
            warn!(
                "Alerts stopped: {name}, {why}; fix it there or in its settings, then: sniper reload"
            );
        }
    }
}

/// Returns the time without a listing after which the feed counts as silent; zero if the server
/// sends wanted listings only, because silence is ordinary then.
const fn silent_after(rules: &AlertRules, has_filters: bool) -> Duration {
    if has_filters { Duration::ZERO } else { rules.silent_after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alerts::{AlertDelivery, event::AlertOrder},
        config::alerts::{ChannelTarget, SecretUrl},
        domain::{alert_kind::AlertKind, money::Amount, outcome::RejectReason},
        ledger::HaltReason,
        secret::Secret,
    };

    type Events = mpsc::Receiver<(Arc<Alert>, Loudness)>;

    fn change() -> AlertChange {
        let url = SecretUrl::parse("http://127.0.0.1:1/hook").unwrap();
        let target = ChannelTarget::Webhook { url, secret: Secret::new("key") };
        let config = ChannelConfig { target, loudness: Vec::new() };
        let channel = AlertChannel::new(&config, &Tls::new().unwrap()).unwrap();
        let mut config = AlertsConfig::default();
        config.rules.daily_summary_at = (moment().minute() + 720) % 1_440;
        AlertChange { config, channels: vec![channel], heartbeat_client: None }
    }

    /// A dispatcher with one channel, whose queue with this capacity the test reads.
    fn dispatcher(capacity: usize) -> (Dispatcher, AlertSender, Events) {
        let (sender, events) = AlertSender::with_queue();
        let parts = ThreadParts {
            data_dir: std::env::temp_dir(),
            has_filters: false,
            tls: Tls::new().unwrap(),
            metrics: Arc::default(),
            state: sender.0.clone().unwrap(),
            events,
            changes: sync_channel(1).1,
        };
        let mut dispatcher = Dispatcher::new(parts, change(), ServiceManager::from_environment());
        let (queue, received) = mpsc::channel(capacity);
        dispatcher.channels[0].queue = queue;
        (dispatcher, sender, received)
    }

    fn kinds(received: &mut Events) -> Vec<&'static str> {
        std::iter::from_fn(|| received.try_recv().ok()).map(|it| it.0.event.kind().name()).collect()
    }

    #[test]
    fn silence_of_a_filtered_feed_is_ordinary() {
        let rules = AlertsConfig::default().rules;
        assert!(!rules.silent_after.is_zero());
        assert_eq!(silent_after(&rules, false), rules.silent_after);
        assert_eq!(silent_after(&rules, true), Duration::ZERO);
    }

    #[tokio::test]
    async fn events_that_are_off_take_no_room_of_a_halt() {
        let (mut dispatcher, sender, mut received) = dispatcher(2);
        let order = AlertOrder { item: None, price: Amount::from_cents(100) };
        let rejected = AlertEvent::Rejected { order, reason: RejectReason::Taken };
        for _ in 0..100 {
            sender.emit(|| rejected.clone());
        }
        let (since, reason) = (clock::local(clock::wall()), HaltReason::OtherAccount);
        sender.emit(|| AlertEvent::Halted { since, reason, text: reason.to_string() });
        sender.emit(|| AlertEvent::Resumed);
        dispatcher.drain().await;
        assert_eq!(kinds(&mut received), ["halted", "resumed"]);
        assert_eq!(dispatcher.parts.state.lost.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_channel_whose_task_has_ended_starts_again() {
        let (mut dispatcher, sender, received) = dispatcher(1);
        drop(received);
        let ended =
            ChannelState { in_outbox: 2.into(), in_queue: 3.into(), ..ChannelState::default() };
        dispatcher.channels[0].state = Arc::new(ended);
        sender.emit(|| AlertEvent::Resumed);
        dispatcher.tick().await;
        assert!(!dispatcher.channels[0].queue.is_closed());
        assert_eq!(sender.delivery().undelivered, 5, "what was in the outbox or the queue is lost");
        dispatcher.channels[0].state.undelivered.store(1, Ordering::Relaxed);
        assert_eq!(sender.delivery().undelivered, 6, "the new task is counted too");
        assert_eq!(dispatcher.parts.state.lost.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_channel_that_the_service_has_rejected_is_tried_again_with_the_same_settings() {
        let (mut dispatcher, sender, received) = dispatcher(8);
        assert_eq!(sender.delivery().disabled, [""; 0]);
        dispatcher.replace(change());
        assert!(!dispatcher.channels[0].queue.is_closed(), "it keeps its queue");
        dispatcher.channels[0].state.is_failing.store(true, Ordering::Relaxed);
        assert_eq!(sender.delivery().failing, ["webhook (127.0.0.1:1)"]);
        dispatcher.channels[0].state.is_disabled.store(true, Ordering::Relaxed);
        dispatcher.channels[0].state.undelivered.store(3, Ordering::Relaxed);
        let AlertDelivery { disabled, undelivered, .. } = sender.delivery();
        assert_eq!((disabled, undelivered), (vec!["webhook (127.0.0.1:1)".to_owned()], 3));
        drop(received);
        assert!(sender.take_new_channel());
        dispatcher.replace(change());
        assert!(!dispatcher.channels[0].queue.is_closed(), "a new channel");
        assert_eq!(sender.delivery().disabled, [""; 0]);
        for _ in 0..=REMOVED_MAX {
            assert_eq!(sender.delivery().undelivered, 3, "a counter never falls");
            dispatcher.channels[0].state.is_disabled.store(true, Ordering::Relaxed);
            dispatcher.replace(change());
        }
        assert!(sender.take_new_channel(), "it receives the conditions that hold");
    }

    #[tokio::test]
    async fn what_is_queued_for_a_task_that_ends_is_counted_until_the_task_has_received_it() {
        let (mut dispatcher, sender, mut received) = dispatcher(8);
        let state = Arc::clone(&dispatcher.channels[0].state);
        // The task whose queue the test has replaced ends.
        tokio::task::yield_now().await;
        sender.emit(|| AlertEvent::Resumed);
        sender.emit(|| AlertEvent::Resumed);
        dispatcher.drain().await;
        assert_eq!(state.in_queue.load(Ordering::Relaxed), 2);
        let mut outbox = AlertOutbox::new(None, Duration::ZERO);
        let event = received.try_recv().ok();
        receive(&mut outbox, &state, event);
        let counts = [&state.in_queue, &state.in_outbox].map(|it| it.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 1]);
        drop(received);
        dispatcher.restart_ended();
        assert_eq!(sender.delivery().undelivered, 2);
        assert_eq!(state.in_queue.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_removed_channel_is_counted_while_it_has_something_to_deliver() {
        let (mut dispatcher, sender, _received) = dispatcher(8);
        let state = Arc::clone(&dispatcher.channels[0].state);
        state.in_outbox.store(1, Ordering::Relaxed);
        for _ in 0..=REMOVED_MAX + 1 {
            dispatcher.channels[0].state.is_disabled.store(true, Ordering::Relaxed);
            dispatcher.replace(change());
        }
        assert_eq!(dispatcher.removed.len(), REMOVED_MAX);
        assert_eq!(sender.delivery().undelivered, 0);
        state.give_up();
        assert_eq!(sender.delivery().undelivered, 1, "it was not delivered after all");
    }

    #[tokio::test]
    async fn a_new_channel_is_told_of_what_lasts() {
        let (mut dispatcher, sender, mut received) = dispatcher(8);
        assert!(sender.take_new_channel() && !sender.take_new_channel());
        let start = moment();
        let later = |seconds| {
            let after = Duration::from_secs(seconds);
            let (instant, wall) = (start.instant + after, start.wall.plus(after));
            Moment { instant, wall, ..start }
        };
        dispatcher.watch_feed(later(70));
        dispatcher.watch_feed(later(80));
        assert_eq!(kinds(&mut received), ["feed_down"]);
        let mut second = change();
        second.channels.push(change().channels.remove(0));
        dispatcher.replace(second);
        assert!(sender.take_new_channel());
        dispatcher.watch_feed(later(90));
        assert_eq!(kinds(&mut received), ["feed_down"]);
        dispatcher.watch_feed(later(86_400));
        assert_eq!(kinds(&mut received), ["daily_summary"]);
        let mut quiet = change();
        quiet.channels.push(change().channels.remove(0));
        quiet.config.rules.quiet_hours = Some(QuietHours { from: 1_380, until: 420 });
        dispatcher.replace(quiet);
        assert!(!sender.take_new_channel(), "the channels are the same");
        let mut silent = change();
        let mut config = silent.channels[0].config().clone();
        config.loudness = vec![(AlertKind::Halted, Loudness::Silent)];
        silent.channels = vec![AlertChannel::new(&config, &Tls::new().unwrap()).unwrap()];
        dispatcher.replace(silent);
        let (since, reason) = (clock::local(clock::wall()), HaltReason::OtherAccount);
        sender.emit(|| AlertEvent::Halted { since, reason, text: reason.to_string() });
        dispatcher.drain().await;
        let (alert, loudness) = received.try_recv().expect("the task goes on");
        assert_eq!((alert.event.kind(), loudness), (AlertKind::Halted, Loudness::Silent));
    }
}
