//! Start and end of a trading session, and the tasks beside the feed.
//!
//! All work between a received frame and its order runs on one thread and never waits for another.
//! Account reads and the log have their own threads.

use std::{
    fmt, iter,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
};
use tracing::{error, info, warn};

use super::{
    AppError,
    background::{self, BackgroundThread},
    check::check_supported,
    dashboard::{self, DashboardAccess},
    ledger::operator_name,
    prices,
    reload::{self, ReloadHandles, Reloader, SettingsSource},
    run::{self, RunArgs},
    sharing::{self, SharingThread},
    summary::{FeedCounts, Summary, UnmatchedEntries},
};
use crate::{
    account::RefreshRequests,
    alerts::{AlertEvent, AlertService},
    clock,
    config::{Config, Mode},
    dashboard::Dashboard,
    domain::{money::Amount, server_clock::ServerClock},
    execution::{self, ConnectionConfig, OrderClient, response::OrderReport},
    ledger::{
        Halt, Ledger, LedgerError, LedgerLocation, LiveOpen, NewLedger, Operator, OrderTotals,
        Sequence,
        control::{ControlAddress, ControlServer, Instance, PENDING_REQUESTS_MAX, PendingRequest},
        pauses::{PauseFile, PauseWriter, PausedNames},
        status::PAUSED_SHOWN_MAX,
    },
    log::ALWAYS_SHOWN,
    markets::Marketplace,
    net::tls::Tls,
    shared::exchanger::MemoryGroup,
    shutdown::{Shutdown, ShutdownReason},
    sniper::{Engine, EngineInputs, Executor, Now, Sniper, near_misses::NearMisses},
    text::{Escaped, counted},
    threads::{Alarm, affinity},
    whitelist::{Whitelist, WhitelistEntry},
    ws::{BackfillSender, Feed, RetriesExhausted},
};

/// Maximum time to collect the unresolved orders when the process is ended by a second signal.
const UNRESOLVED_MAX: Duration = Duration::from_millis(200);

/// Cause of the end of a session.
#[derive(Debug)]
pub enum SessionEnd {
    /// A signal, `--for`, or the closed log output.
    Stopped(ShutdownReason),
    /// The balance is below `min_balance`, the second amount.
    BelowMinBalance(Amount, Amount),
    /// The feed reached its retry limit.
    GaveUp(RetriesExhausted),
    /// The ledger cannot be used for this account.
    LedgerRejected(Arc<LedgerError>),
}

impl SessionEnd {
    /// Returns the error with which the program exits, if any.
    pub fn error(&self) -> Option<AppError> {
        match self {
            Self::LedgerRejected(error) => Some(AppError::LedgerRejected(Arc::clone(error))),
            Self::Stopped(_) | Self::BelowMinBalance(..) | Self::GaveUp(_) => None,
        }
    }

    /// Returns `false` if the session ended because of a failure.
    pub const fn is_success(&self) -> bool {
        !matches!(self, Self::GaveUp(_) | Self::LedgerRejected(_))
    }

    /// Returns the instruction to quit without waiting for orders in flight.
    const fn quit_hint(&self) -> &'static str {
        match self {
            Self::Stopped(ShutdownReason::Interrupt) => "press Ctrl-C again to quit now",
            Self::Stopped(ShutdownReason::Terminate | ShutdownReason::Hangup) => {
                "a second signal quits now"
            }
            Self::Stopped(ShutdownReason::ReaderGone | ShutdownReason::TimeLimit(_))
            | Self::BelowMinBalance(..)
            | Self::GaveUp(_)
            | Self::LedgerRejected(_) => "press Ctrl-C twice to quit now",
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(reason) => reason.fmt(f),
            Self::BelowMinBalance(is, min) => {
                write!(f, "balance {is} below min_balance {min}; deposit, then start the bot again")
            }
            Self::GaveUp(gave_up) => gave_up.fmt(f),
            Self::LedgerRejected(error) => error.fmt(f),
        }
    }
}

/// A trading session: the engine that evaluates listings, and the tasks that it needs.
#[derive(Debug)]
pub struct TradingSession<'c, M> {
    feed: &'c Feed<M>,
    sniper: Sniper,
    orders: Option<Arc<OrderClient>>,
    inputs: EngineInputs,
    _background: BackgroundThread,
    _control: Option<ControlServer>,
    tls: Tls,
    alerts: AlertService,
    /// `None` unless the budget is shared.
    sharing: Option<SharingThread>,
    dashboard: Option<Dashboard>,
    _pauses: PauseWriter,
    warming: Option<CacheWarmer>,
    started: Instant,
    /// Sequence number of the first order of this session.
    first_order: Sequence,
    /// Totals of the orders before it, at the start.
    earlier: OrderTotals,
}

impl<'c, M: Marketplace> TradingSession<'c, M> {
    /// Starts a session. In dry mode, nothing that could send an order is constructed. `backfill`
    /// is the handle returned by [`Feed::fill_gaps`].
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if a part of the session cannot be started.
    pub fn start(
        feed: &'c Feed<M>,
        backfill: BackfillSender,
        options: SessionStart,
    ) -> Result<Self, AppError> {
        let (config, started) = (&feed.config, Instant::now());
        check_supported::<M>(config)?;
        let (alarm, near_misses) = (options.alarm.clone(), options.near_misses);
        let (has_dashboard, group) = (options.dashboard, options.shared_group.clone());
        let tls = Tls::from_config(config).map_err(|error| AppError::start("TLS", error))?;
        // First, because its drop reports a start that fails.
        let mut alerts = AlertService::start(config, &feed.metrics, &tls)
            .map_err(|error| AppError::start("the alerts", error))?;
        // Without a ledger no connection to the market may be opened.
        let mut ledger = open_ledger::<M>(config, options, &mut alerts)?;
        let looks_up_orders = looks_up_orders::<M>(&mut ledger);
        let (first_order, earlier) = (ledger.next_sequence(), ledger.totals_since(Sequence(0)));
        let clock = Arc::new(Mutex::new(ServerClock::new(started)));
        let is_live = config.mode == Mode::Live;
        let refresh_requests = Arc::new(RefreshRequests::new(looks_up_orders));
        let mut inputs = EngineInputs { refresh_requests, ..EngineInputs::default() };
        let (executor, orders) = if is_live {
            let (client, reports) = start_order_client(&feed.market, config, tls.clone())?;
            inputs.reports = Some(reports);
            let client = Arc::new(client);
            (Executor::Live(Arc::clone(&client)), Some(client))
        } else {
            (Executor::Dry, None)
        };
        let requests = Arc::clone(&inputs.refresh_requests);
        requests.set_oldest_open(ledger.oldest_open());
        let watch = orders.as_deref().map(OrderClient::address_watch);
        let market = (feed.market.clone(), config);
        let (background, updates) =
            background::start(market, (&tls, watch), requests, backfill, &alarm)?;
        inputs.account_updates = Some(updates);
        let (control, requests, control_requests) = control_channel(config, &alarm);
        (inputs.control_requests, inputs.started) = (Some(control_requests), Some(started));
        let whitelist = Arc::new(Whitelist::new(config.whitelist.to_vec()));
        let mut engine = Engine::new(whitelist, ledger, executor, M::CAPABILITIES.keyed_by, clock);
        engine.set_max_wait(config.orders.max_wait);
        engine.set_near_misses(near_misses);
        inputs.wanted = Some(feed.wanted.clone());
        if let Some((stored, snapshots)) = prices::start(config, &tls)? {
            engine.set_prices(stored.book);
            feed.wanted.send_replace(stored.wanted);
            inputs.prices = Some(snapshots);
        }
        let pauses = restore_pauses(config, &mut engine)?;
        report_start(config, &mut engine, &alerts);
        let watched = (alerts.sender(), &alarm);
        let shared = sharing::share::<M>(config, &mut engine, watched, group)?;
        let (sharing, shared_updates) = shared.unzip();
        inputs.shared = shared_updates;
        let sniper = Sniper::new(engine);
        forward_notices(feed, &sniper);
        let is_enabled = has_dashboard || config.dashboard.listen.is_some();
        let access = DashboardAccess { is_enabled, is_reachable: control.is_some() };
        let dashboard = dashboard::start(access, feed, &sniper, requests, &alarm);
        let warming = CacheWarmer::start(config, &sniper);
        Ok(Self {
            feed,
            sniper,
            tls,
            warming,
            orders,
            inputs,
            _background: background,
            _control: control,
            alerts,
            sharing,
            dashboard,
            _pauses: pauses,
            started,
            first_order,
            earlier,
        })
    }

    /// Clears the halts of the last session.
    pub fn resume(&self) {
        self.sniper.with_engine(|engine| {
            engine.ledger().resume(Operator::new(&operator_name()), clock::now());
        });
    }

    /// Lets `sniper reload` replace whitelist, limits and prices. Returns a function that requests
    /// a reload, for SIGHUP.
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if the thread that reads the settings cannot be started.
    pub fn allow_reload(
        &mut self,
        source: SettingsSource,
    ) -> Result<impl Fn() + Send + 'static, AppError> {
        let config = &self.feed.config;
        if let Err(error) = source.store_data_dir(config, instance_of(config)) {
            warn!(
                "State directory not written: {error}; if `market` or SNIPER_DATA is edited, commands do not reach this bot"
            );
        }
        let ReloadHandles { requests, rules } = reload::start(Reloader {
            source,
            config: config.clone(),
            tls: self.tls.clone(),
            sniper: Box::new(self.sniper.downgrade()),
            alerts: self.alerts.control(),
            renew_filters: Box::new(self.feed.renewal()),
            check_supported: check_supported::<M>,
        })?;
        self.inputs.rules = Some(rules);
        self.inputs.reloads = Some(requests.clone());
        Ok(move || reload::request(&requests))
    }

    /// Logs the settings of this session and the current halts.
    pub fn announce(&self) {
        let snapshot = self.sniper.with_engine(|engine| engine.ledger().snapshot(clock::now()));
        run::announce::<M>(&self.feed.config, snapshot.spent);
        let halts = self.sniper.with_engine(|engine| engine.describe_halts(snapshot.halts));
        if let Some(dashboard) = &self.dashboard {
            info!("Dashboard: http://{}", dashboard.address());
        }
        for (Halt { at, reason, .. }, text) in halts {
            let (at, remedy) = (clock::format_local(at), reason.remedy());
            error!(
                "Ordering halted since {at}: {text}. What to do: {remedy}{}",
                if remedy.contains("sniper resume") { "" } else { ", then run `sniper resume`" }
            );
        }
    }

    /// Returns the address of the dashboard, if it runs.
    pub fn dashboard_address(&self) -> Option<SocketAddr> {
        self.dashboard.as_ref().map(Dashboard::address)
    }

    /// Returns a handle of the engine that evaluates listings.
    pub fn sniper(&self) -> Sniper {
        self.sniper.clone()
    }

    /// Returns a function that describes the unresolved orders. It returns within a fraction of a
    /// second, even if the engine is blocked.
    pub fn unresolved(&self) -> impl Fn() -> String + Send + 'static {
        // A weak handle, because the signal thread keeps the function until the process ends, and
        // the ledger must be closed before.
        let sniper = self.sniper.downgrade();
        move || {
            let Some(sniper) = sniper() else {
                return "The ledger is closed; run `sniper ledger` to see the orders.".to_owned();
            };
            let unresolved = sniper
                .with_engine_timeout(UNRESOLVED_MAX, |engine| engine.unresolved(clock::now()));
            unresolved.map_or_else(
                || {
                    "Unresolved orders could not be listed; run `sniper ledger` to see them."
                        .to_owned()
                },
                |unresolved| unresolved.to_string(),
            )
        }
    }

    /// Runs the tasks beside the feed until the session has to end. Binds this thread to the CPU of
    /// the settings, if there is one.
    ///
    /// # Cancel safety
    ///
    /// Safe: unprocessed order responses stay queued for [`finish`](Self::finish).
    pub async fn run(&mut self, shutdown: &mut Shutdown) -> SessionEnd {
        // Not earlier: the threads that were started before keep their CPUs.
        if let Some(cpu) = self.feed.config.speed.pin_cpu
            && let Err(error) = affinity::pin(cpu)
        {
            warn!("Feed not bound to CPU {cpu}: {error}; it runs on any CPU");
        }
        let metrics = &self.feed.metrics;
        tokio::select! {
            biased;
            reason = shutdown.wait() => SessionEnd::Stopped(reason),
            end = below_min_balance(&self.sniper, self.feed.config.mode) => end,
            error = self.sniper.run(&mut self.inputs, metrics) => SessionEnd::LedgerRejected(Arc::new(error)),
        }
    }

    /// Runs the feed, and the tasks beside it, until the session has to end. The feed has priority:
    /// everything else can wait until an order is written. It is pinned by the caller, because its
    /// state is large and would be stored twice here.
    ///
    /// # Cancel safety
    ///
    /// Safe if `feed` is: see [`run`](Self::run).
    pub async fn run_with(
        &mut self,
        feed: Pin<&mut impl Future<Output = RetriesExhausted>>,
        shutdown: &mut Shutdown,
    ) -> SessionEnd {
        run_beside(feed, self.run(shutdown)).await
    }

    /// Ends a session: sends no new orders, waits for orders in flight as long as the market may
    /// take for one, and returns the summary.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: responses of orders in flight would be lost.
    pub async fn finish(mut self, ended: SessionEnd) -> Summary {
        self.sniper.stop();
        self.alerts.sender().stopping();
        if let Some(mut warming) = self.warming.take() {
            warming.stop().await;
        }
        if let Some(orders) = &self.orders {
            let (waiting, grace) = (orders.in_flight_count(), M::CAPABILITIES.order_timeout);
            if waiting > 0 {
                let waiting = counted(waiting, "order", "orders");
                warn!(
                    target: ALWAYS_SHOWN,
                    "Stopping ({ended}): waiting up to {} s for {waiting} in flight; {}",
                    grace.as_secs(),
                    ended.quit_hint()
                );
            }
            orders.stop(grace).await;
        }
        if let Some(mut reports) = self.inputs.reports.take() {
            reports.close();
            while let Some(report) = reports.recv().await {
                self.sniper.with_engine(|engine| engine.on_order_report(&report, Now::read()));
            }
        }
        if let (Some(sharing), Some(updates)) = (self.sharing.take(), self.inputs.shared.take()) {
            sharing.finish(&self.sniper, updates).await;
        }
        let (reason, is_failure) = (ended.to_string(), !ended.is_success());
        let alerts = std::mem::take(&mut self.alerts);
        alerts.sender().emit(|| AlertEvent::Stopped { reason, is_failure });
        alerts.finish().await;
        self.summary(&ended)
    }

    fn summary(&self, ended: &SessionEnd) -> Summary {
        let metrics = &self.feed.metrics;
        let downtime = metrics.downtime(Instant::now());
        let feed = FeedCounts {
            has_connected: metrics.has_connected.load(Ordering::Relaxed),
            reconnects: metrics.reconnects.load(Ordering::Relaxed),
            gaps: downtime.gaps,
            without_listings: downtime.total,
            longest_gap: downtime.longest,
            unreadable: metrics.errors(),
            handled_later: metrics.waited.load(Ordering::Relaxed),
            connections: metrics.connection_counts().into_iter().map(Into::into).collect(),
        };
        let (stats, unmatched, balance, totals, halts) = self.sniper.with_engine(|engine| {
            engine.count_unnamed(metrics.take_unnamed());
            let orders = match self.feed.config.mode {
                Mode::Dry => OrderTotals::default(),
                Mode::Live => engine.ledger().totals_since(self.first_order),
            };
            let earlier = engine.ledger().totals_before(self.first_order);
            let earlier = earlier.settled_since(&self.earlier);
            let snapshot = engine.ledger().snapshot(Now::read().wall);
            // A dry run spends nothing, so its balance is the last reading.
            let balance = match self.feed.config.mode {
                Mode::Dry => snapshot.balance,
                Mode::Live => snapshot.available_estimate,
            };
            let labels = engine.unmatched_entries().map(WhitelistEntry::label);
            let unmatched = UnmatchedEntries::new(labels, engine.entries_count());
            let halts = engine.describe_halts(snapshot.halts);
            (engine.stats().clone(), unmatched, balance, (orders, earlier), halts)
        });
        let (orders, earlier) = totals;
        Summary {
            mode: match self.feed.config.mode {
                Mode::Dry => "dry",
                Mode::Live => "live",
            },
            duration: self.started.elapsed(),
            feed,
            stats,
            unmatched,
            orders,
            earlier,
            halts,
            balance,
            log_lines_dropped: 0,
            ended: ended.to_string(),
            is_given_up: matches!(ended, SessionEnd::GaveUp(_)),
            market: None,
            format_time: clock::format_local,
        }
    }
}

/// Warns of entries that are paused in dry runs only.
fn warn_of_dry_pauses(config: &Config, live: &PausedNames) {
    let dry = PauseFile::new(&config.data_dir, Instance::Dry).load().unwrap_or_default();
    let mut only_dry = dry.entries.iter().filter(|name| !live.entries.contains(*name));
    if let Some(first) = only_dry.next() {
        let count = counted(only_dry.count().saturating_add(1), "entry is", "entries are");
        let first = Escaped(first);
        warn!("{count} paused in dry runs only. To pause: sniper whitelist pause \"{first}\"");
    }
}

/// Pauses the entries and groups that were paused in an earlier run, and starts the thread that
/// stores later changes.
fn restore_pauses(
    config: &Config,
    engine: &mut Engine<Arc<OrderClient>>,
) -> Result<PauseWriter, AppError> {
    const WHAT: &str = "with the paused entries of the last run";
    let file = PauseFile::new(&config.data_dir, instance_of(config));
    let names = file.load().map_err(|error| AppError::start(WHAT, error))?;
    let writer = PauseWriter::start(file).map_err(|error| AppError::start(WHAT, error))?;
    let unknown = engine.restore_pauses(&names, writer.recorder());
    if config.mode == Mode::Live {
        warn_of_dry_pauses(config, &names);
    }
    let shown = |names: &[String]| {
        let shown = names.iter().take(PAUSED_SHOWN_MAX).map(|name| Escaped(name).to_string());
        let more = names.len().saturating_sub(PAUSED_SHOWN_MAX);
        let more = (more > 0).then(|| format!("and {more} more"));
        shown.chain(more).collect::<Vec<_>>().join(", ")
    };
    if !names.entries.is_empty() {
        let (count, all) = (names.entries.len(), shown(&names.entries));
        let count = counted(count, "entry is", "entries are");
        warn!("{count} paused since an earlier run: {all}. To buy: sniper whitelist enable NAME");
    }
    if !names.groups.is_empty() {
        let all = shown(&names.groups);
        warn!("Groups paused before: {all}. To buy: sniper whitelist enable --group NAME");
    }
    if !unknown.is_empty() {
        warn!("Paused in an earlier run, and not on the whitelist: {}", shown(&unknown));
    }
    Ok(writer)
}

fn report_start(config: &Config, engine: &mut Engine<Arc<OrderClient>>, alerts: &AlertService) {
    let sources = config.prices.sources.iter().map(|source| source.name.clone());
    engine.set_alerts(alerts.sender(), sources.collect());
    let (entries, is_live) = (config.whitelist.len(), config.mode == Mode::Live);
    alerts.sender().emit(|| AlertEvent::Started { is_live, entries });
}

/// Passes the events of the feed that are not listings to the engine.
fn forward_notices<M>(feed: &Feed<M>, sniper: &Sniper) {
    // A weak handle, because the feed may outlive the session and its ledger.
    let weak = sniper.downgrade();
    let is_new = feed.notices.set(move |notice| {
        if let Some(sniper) = weak() {
            sniper.on_notice(notice);
        }
    });
    if !is_new {
        warn!("This feed has had a session before, which receives its notices");
    }
}

pub(super) const fn instance_of(config: &Config) -> Instance {
    match config.mode {
        Mode::Dry => Instance::Dry,
        Mode::Live => Instance::Live,
    }
}

/// Serves `sniper status`, `halt` and `resume`. A dry run has its own socket, separate from that of
/// a live bot.
fn control_channel(
    config: &Config,
    alarm: &Alarm,
) -> (Option<ControlServer>, Sender<PendingRequest>, Receiver<PendingRequest>) {
    let (requests, receiver) = mpsc::channel(PENDING_REQUESTS_MAX);
    let instance = instance_of(config);
    let address = ControlAddress::new(&config.data_dir, config.state_dir.as_deref(), instance);
    let server = ControlServer::start(&address, &requests, alarm).inspect_err(|error| {
        let cause = crate::text::error_chain(error);
        warn!("Control socket not available: {cause}. `sniper halt` and `sniper status` cannot reach this bot; to stop it, use Ctrl-C or SIGTERM");
    });
    (server.ok(), requests, receiver)
}

/// Task that keeps the code of an order in the CPU caches, aborted on drop.
#[derive(Debug)]
struct CacheWarmer(JoinHandle<()>);

impl CacheWarmer {
    fn start(config: &Config, sniper: &Sniper) -> Option<Self> {
        let sniper = sniper.clone();
        if config.speed.spin {
            return Some(Self(tokio::spawn(sniper.spin())));
        }
        config.warms_caches().then(|| Self(tokio::spawn(sniper.keep_caches_warm())))
    }

    /// Aborts the task and waits until it has released the ledger.
    async fn stop(&mut self) {
        self.0.abort();
        // The task never completes, so the result is always the abort.
        let _aborted = (&mut self.0).await.is_err();
    }
}

impl Drop for CacheWarmer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs the feed and the tasks beside it. The tasks are polled only if one of them was woken, not
/// with each message of the feed; then the feed is polled once more.
async fn run_beside(
    feed: Pin<&mut impl Future<Output = RetriesExhausted>>,
    tasks: impl Future<Output = SessionEnd>,
) -> SessionEnd {
    let mut tasks: FuturesUnordered<_> = iter::once(tasks).collect();
    tokio::select! {
        biased;
        gave_up = feed => SessionEnd::GaveUp(gave_up),
        Some(ended) = tasks.next() => ended,
    }
}

/// Waits until the balance is below `min_balance`. A dry run continues, because it spends nothing.
async fn below_min_balance(sniper: &Sniper, mode: Mode) -> SessionEnd {
    sniper.below_min_balance().await;
    if mode == Mode::Dry {
        warn!("Balance below min_balance: a live run would stop now");
        std::future::pending::<()>().await;
    }
    let snapshot = sniper.with_engine(|engine| engine.ledger().snapshot(clock::now()));
    let balance = snapshot.balance.unwrap_or_default();
    SessionEnd::BelowMinBalance(balance, snapshot.budget.min_balance)
}

/// Options of a session that are not settings.
#[derive(Clone, Debug, Default)]
pub struct SessionStart {
    /// Creates a new ledger for a live run.
    pub new_ledger: Option<NewLedger>,
    /// Stops ordering when a thread ends unexpectedly.
    pub alarm: Alarm,
    /// Listings without a match that are logged.
    pub near_misses: NearMisses,
    /// Starts the dashboard, also without its setting.
    pub dashboard: bool,
    /// Group of a shared budget in memory, instead of the database of the settings.
    pub shared_group: Option<MemoryGroup>,
}

impl SessionStart {
    /// Creates the options from the command line, for a process with one bot.
    pub fn of(args: &RunArgs) -> Self {
        let how = if args.not_counted { NewLedger::NotCounted } else { NewLedger::Counted };
        let new_ledger = args.new_ledger.then_some(how);
        let near_misses = if args.explain { NearMisses::All } else { NearMisses::Sampled };
        let (alarm, dashboard) = (Alarm::global(), args.dashboard);
        Self { new_ledger, alarm, near_misses, dashboard, shared_group: None }
    }
}

/// Opens the ledger: in memory for a dry run, on disk for a live run. A live run without a ledger
/// on disk is an error.
fn open_ledger<M: Marketplace>(
    config: &Config,
    options: SessionStart,
    alerts: &mut AlertService,
) -> Result<Ledger, AppError> {
    let (budget, entries) = (config.budget.clone(), &*config.whitelist);
    if config.mode == Mode::Dry {
        return Ok(Ledger::in_memory(budget, entries, false));
    }
    let place = LedgerLocation::new(&config.data_dir, config.endpoints.http.authority());
    let SessionStart { new_ledger, alarm, .. } = options;
    let (state_dir, listed_within) = (config.state_dir.clone(), M::CAPABILITIES.listed_within());
    let live = LiveOpen { state_dir, new_ledger, listed_within, alarm };
    let opened = Ledger::open_live(&place, &live, budget, entries, clock::now());
    if let Err(LedgerError::Locked { .. } | LedgerError::AccountInUse { .. }) = opened {
        alerts.discard();
    }
    Ok(opened?)
}

/// Sets how long orders may be absent from the account. Returns `true` if they are looked up: on a
/// market that accepts own ids, with a stored ledger.
fn looks_up_orders<M: Marketplace>(ledger: &mut Ledger) -> bool {
    let Some(support) = M::CAPABILITIES.own_order_ids else { return false };
    ledger.set_listed_within(support.visible_within);
    ledger.set_look_ups_min(support.look_ups_min);
    ledger.id().is_some()
}

fn start_order_client<M: Marketplace>(
    market: &M,
    config: &Config,
    tls: Tls,
) -> Result<(OrderClient, Receiver<OrderReport>), AppError> {
    let Some(credential) = &config.credential else {
        return Err(AppError::start("live ordering", "no credential is set"));
    };
    let credential = Some(credential);
    let setup = execution::OrderClientConfig {
        endpoint: &config.endpoints.http,
        order: &M::authenticated(credential, market.order_template()),
        keep_warm: &M::authenticated(credential, market.keep_warm_request()),
        tls,
        connections: execution::connections_for(config.budget.max_in_flight),
        connection_config: ConnectionConfig {
            order_timeout: M::CAPABILITIES.order_timeout,
            ..ConnectionConfig::default()
        },
    };
    OrderClient::start(market, setup).map_err(|error| AppError::start("the order client", error))
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test]
    async fn the_tasks_beside_the_feed_are_polled_only_when_they_are_woken() {
        let (mut messages, mut polls) = (0, 0);
        let feed = std::pin::pin!(poll_fn(|cx| {
            messages += 1;
            cx.waker().wake_by_ref();
            if messages < 100 {
                return Poll::Pending;
            }
            Poll::Ready(RetriesExhausted { attempts: 0, last: None })
        }));
        let tasks = poll_fn(|cx| {
            polls += 1;
            if polls < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        assert!(matches!(run_beside(feed, tasks).await, SessionEnd::GaveUp(_)));
        assert_eq!((messages, polls), (100, 3));
    }
}
