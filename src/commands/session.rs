//! A session's beginning and end, and what runs beside the feed.
//!
//! Everything between frame and order happens on one thread, so that nothing there waits for
//! another; only cold reads of the account and the log have threads of their own.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{self, Receiver},
    task::JoinHandle,
};
use tracing::{error, warn};

use super::{
    AppError,
    background::{self, BackgroundThread},
    report,
};
use crate::{
    cli::RunArgs,
    clock,
    config::{Config, Mode},
    domain::server_clock::ServerClock,
    execution::{
        self, ConnectionConfig, OrderClient,
        answer::OrderReport,
        request::{BodyTemplate, RequestIdentity},
    },
    ledger::{
        Halt, Ledger, LedgerError, LedgerLocation, LiveOpen, NewLedger, Operator, OrderTotals,
        Sequence,
        cli::person,
        control::{ControlAddress, ControlServer, Instance, PendingRequest},
    },
    log::ALWAYS_SHOWN,
    markets::csgoroll::operations,
    net::tls::Tls,
    shutdown::{Shutdown, ShutdownReason},
    sniper::{Engine, EngineInputs, Executor, Now, Sniper},
    summary::{FeedCounts, Summary},
    threads::Alarm,
    ws::{BackfillSender, RetriesExhausted},
};

/// How long buys in flight get when the bot stops.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long whoever ends the program at once waits to learn what is unresolved.
const UNRESOLVED_MAX: Duration = Duration::from_millis(200);

/// How many questions of a person may wait.
const ASKS_QUEUED_MAX: usize = 16;

/// Why a session ended.
#[derive(Debug)]
pub enum SessionEnd {
    /// Somebody, or the clock, said so.
    Stopped(ShutdownReason),
    /// The balance was read and is below its floor.
    BelowFloor,
    /// The feed was given up.
    GaveUp(RetriesExhausted),
    /// The ledger may not be used for the account.
    Refused(Arc<LedgerError>),
}

impl SessionEnd {
    /// The error that the program ends with, if it is one.
    pub fn error(&self) -> Option<AppError> {
        match self {
            Self::Refused(error) => Some(AppError::Refused(Arc::clone(error))),
            Self::Stopped(_) | Self::BelowFloor | Self::GaveUp(_) => None,
        }
    }
}

impl SessionEnd {
    /// What ends the wait for answers.
    const fn way_out(&self) -> &'static str {
        match self {
            Self::Stopped(ShutdownReason::Interrupt) => "press Ctrl-C again to quit now",
            Self::Stopped(ShutdownReason::Terminate | ShutdownReason::Hangup) => {
                "a second signal quits now"
            }
            Self::Stopped(ShutdownReason::ReaderGone | ShutdownReason::Over(_))
            | Self::BelowFloor
            | Self::GaveUp(_)
            | Self::Refused(_) => "press Ctrl-C twice to quit now",
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(why) => why.fmt(f),
            Self::BelowFloor => f.write_str("the balance is below min_balance"),
            Self::GaveUp(gave_up) => gave_up.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// One session: what considers the listings, and what it needs beside the feed.
#[derive(Debug)]
pub struct TradingSession<'c> {
    config: &'c Config,
    sniper: Sniper,
    buyer: Option<Arc<OrderClient>>,
    inbox: EngineInputs,
    _background: BackgroundThread,
    _control: Option<ControlServer>,
    spinning: Option<CoreSpinner>,
    started: Instant,
    /// The number of the session's first order.
    first_order: Sequence,
}

impl<'c> TradingSession<'c> {
    /// Begins a session. In dry mode nothing that could send a buy is built. `filler` is the other
    /// end of what `config` has for the feed's gaps.
    ///
    /// # Errors
    ///
    /// An [`AppError`] if what it needs cannot be set up.
    pub fn start(config: &'c Config, filler: BackfillSender) -> Result<Self, AppError> {
        Self::start_with(config, filler, SessionStart::default())
    }

    /// The same, with what only a program decides.
    ///
    /// # Errors
    ///
    /// As for [`TradingSession::start`].
    pub fn start_with(
        config: &'c Config,
        filler: BackfillSender,
        beginning: SessionStart,
    ) -> Result<Self, AppError> {
        let alarm = beginning.alarm.clone();
        // First of all: without a ledger nothing is dialled.
        let ledger = open_ledger(config, beginning)?;
        let first_order = ledger.next_sequence();
        let started = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(started)));
        let tls = match &config.tls {
            Some(tls) => tls.clone(),
            None => Tls::new().map_err(|error| AppError::start("TLS", error))?,
        };
        let is_live = config.mode == Mode::Live;
        let mut inbox = EngineInputs::default();
        let (hand, buyer) = if is_live {
            let (buyer, reports) = start_buyer(config, tls.clone())?;
            inbox.reports = Some(reports);
            let buyer = Arc::new(buyer);
            (Executor::Live(Arc::clone(&buyer)), Some(buyer))
        } else {
            (Executor::Dry, None)
        };
        let requests = Arc::clone(&inbox.requests);
        requests.oldest_open(ledger.oldest_open());
        let (background, news) = background::start(config, &tls, requests, filler, &alarm)?;
        inbox.news = Some(news);
        let (control, asked) = control_channel(config, &alarm);
        inbox.asks = Some(asked);
        inbox.started = Some(started);
        let core = Engine::new(Arc::clone(&config.whitelist), ledger, hand, clock);
        let sniper = Sniper::new(core);
        let spinning = config.speed.spin.then(|| CoreSpinner(tokio::spawn(sniper.clone().spin())));
        Ok(Self {
            config,
            sniper,
            spinning,
            buyer,
            inbox,
            _background: background,
            _control: control,
            started,
            first_order,
        })
    }

    /// Lifts the halts of the last session: a person has looked.
    pub fn resume(&self) {
        self.sniper.look(|core| core.ledger().resume(Operator::new(&person()), clock::now()));
    }

    /// Says what this session is, and what still stops it from buying.
    pub fn announce(&self) {
        report::announce(self.config);
        let halts = self.sniper.look(|core| core.ledger().snapshot(clock::now()).halts);
        for Halt { at, reason, .. } in halts {
            let remedy = reason.remedy();
            error!(
                "BUYING IS STOPPED since {at}: {reason}. What to do: {remedy}{}",
                if remedy.contains("sniper resume") { "" } else { "; then `sniper resume`" }
            );
        }
    }

    /// What considers the listings.
    pub fn sniper(&self) -> Sniper {
        self.sniper.clone()
    }

    /// Says which orders are unresolved, within a moment whatever this session is doing.
    pub fn unresolved(&self) -> impl Fn() -> String + Send + 'static {
        // The signal thread keeps this to the end of the process; the ledger is closed before.
        let sniper = self.sniper.downgrade();
        move || {
            let Some(sniper) = sniper() else {
                return "The ledger is closed; `sniper ledger` shows the orders.".to_owned();
            };
            let unresolved =
                sniper.look_within(UNRESOLVED_MAX, |core| core.unresolved(clock::now()));
            unresolved.map_or_else(
                || "Which orders have no answer is unknown; see `sniper ledger`.".to_owned(),
                |unresolved| unresolved.to_string(),
            )
        }
    }

    /// Does what a session does beside the feed, until there is a reason to end it.
    ///
    /// # Cancel safety
    ///
    /// Safe: answers that were not taken in yet are kept for [`finish`](Self::finish).
    pub async fn run(&mut self, stop: &mut Shutdown) -> SessionEnd {
        let taps = &self.config.taps;
        tokio::select! {
            biased;
            why = stop.wait() => SessionEnd::Stopped(why),
            () = below_floor(&self.sniper, self.config.mode) => SessionEnd::BelowFloor,
            refusal = self.sniper.run(&mut self.inbox, taps) => SessionEnd::Refused(Arc::new(refusal)),
        }
    }

    /// Ends a session: no new buys, those in flight get up to [`GRACE`], then the summary.
    ///
    /// # Cancel safety
    ///
    /// Not safe: answers that are due would be lost.
    pub async fn finish(mut self, ended: SessionEnd) -> Summary {
        self.sniper.stop();
        if let Some(mut spinning) = self.spinning.take() {
            spinning.end().await;
        }
        if let Some(buyer) = &self.buyer {
            let waiting = buyer.in_flight_count();
            if waiting > 0 {
                let orders = if waiting == 1 { "order" } else { "orders" };
                warn!(
                    target: ALWAYS_SHOWN,
                    "Stopping ({ended}): waiting up to {} s for {waiting} {orders} in flight; {}",
                    GRACE.as_secs(),
                    ended.way_out()
                );
            }
            buyer.stop(GRACE).await;
        }
        if let Some(mut reports) = self.inbox.reports.take() {
            reports.close();
            while let Some(report) = reports.recv().await {
                self.sniper.look(|core| core.settle(&report, Now::read()));
            }
        }
        self.summary(&ended)
    }

    fn summary(&self, ended: &SessionEnd) -> Summary {
        let taps = &self.config.taps;
        let downtime = taps.downtime(Instant::now());
        let feed = FeedCounts {
            reconnects: taps.reconnects.load(Ordering::Relaxed),
            gaps: downtime.gaps,
            without_listings: downtime.total,
            longest_gap: downtime.longest,
            unreadable: taps.errors(),
        };
        let (tally, balance, orders, halts) = self.sniper.look(|core| {
            let orders = match self.config.mode {
                Mode::Dry => OrderTotals::default(),
                Mode::Live => core.ledger().totals_since(self.first_order),
            };
            let snapshot = core.ledger().snapshot(Now::read().wall);
            // A dry run spends in thought only.
            let balance = match self.config.mode {
                Mode::Dry => snapshot.balance,
                Mode::Live => snapshot.balance_likely,
            };
            (core.tally().clone(), balance, orders, snapshot.halts)
        });
        Summary {
            mode: match self.config.mode {
                Mode::Dry => "dry",
                Mode::Live => "live",
            },
            lasted: self.started.elapsed(),
            feed,
            tally,
            orders,
            halts,
            balance,
            log_lines_dropped: 0,
            ended: ended.to_string(),
            is_given_up: matches!(ended, SessionEnd::GaveUp(_)),
            market: None,
        }
    }
}

/// Listens for `sniper status`, `halt` and `resume`. A dry run has a channel of its own beside that
/// of a live bot.
fn control_channel(
    config: &Config,
    alarm: &Alarm,
) -> (Option<ControlServer>, Receiver<PendingRequest>) {
    let (asks, asked) = mpsc::channel(ASKS_QUEUED_MAX);
    let instance = match config.mode {
        Mode::Dry => Instance::Dry,
        Mode::Live => Instance::Live,
    };
    let address = ControlAddress::of(&config.data_dir, config.state_dir.as_deref(), instance);
    let server = ControlServer::start(&address, &asks, alarm).inspect_err(|error| {
        let why = crate::text::error_chain(error);
        warn!("`sniper halt` and `sniper status` cannot reach this bot: {why}");
    });
    (server.ok(), asked)
}

/// What keeps a core awake, until it is dropped.
#[derive(Debug)]
struct CoreSpinner(JoinHandle<()>);

impl CoreSpinner {
    /// Ends it, and waits until it has let go of the ledger.
    async fn end(&mut self) {
        self.0.abort();
        // It never ends by itself, so this says that it was aborted.
        let _aborted = (&mut self.0).await.is_err();
    }
}

impl Drop for CoreSpinner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until the balance is known to be below its floor. A dry run spends nothing, so whoever has
/// an empty account may look on.
async fn below_floor(sniper: &Sniper, mode: Mode) {
    sniper.below_floor().await;
    if mode == Mode::Dry {
        warn!("The balance is below min_balance: a live run would stop here");
        std::future::pending::<()>().await;
    }
}

/// What a session begins with that is no setting.
#[derive(Clone, Debug, Default)]
pub struct SessionStart {
    /// Whether a live ledger is begun anew.
    pub new_ledger: Option<NewLedger>,
    /// What stops ordering when a thread is lost.
    pub alarm: Alarm,
}

impl SessionStart {
    /// As the command line says, for a bot that is alone in its process.
    pub fn of(args: &RunArgs) -> Self {
        let how = if args.not_counted { NewLedger::NotCounted } else { NewLedger::Counted };
        Self { new_ledger: args.new_ledger.then_some(how), alarm: Alarm::of_process() }
    }
}

/// A dry run's ledger starts empty and is kept nowhere. A live one is kept, and where it cannot be,
/// there is no live run.
fn open_ledger(config: &Config, beginning: SessionStart) -> Result<Ledger, AppError> {
    let (budget, entries) = (config.budget.clone(), config.whitelist.entries());
    if config.mode == Mode::Dry {
        return Ok(Ledger::in_memory(budget, entries, false));
    }
    let place = LedgerLocation::new(&config.data_dir, config.endpoints.http.authority());
    let SessionStart { new_ledger, alarm } = beginning;
    let live = LiveOpen { state: config.state_dir.clone(), new_ledger, alarm };
    Ok(Ledger::open_live(&place, &live, budget, entries, clock::now())?)
}

fn start_buyer(
    config: &Config,
    tls: Tls,
) -> Result<(OrderClient, Receiver<OrderReport>), AppError> {
    let Some(credential) = &config.credential else {
        return Err(AppError::start("live buying", "no credential is set"));
    };
    let template = operations::buy_template();
    let setup = execution::OrderClientConfig {
        identity: RequestIdentity { endpoints: &config.endpoints, credential },
        body: BodyTemplate { before_id: template.before_id, after_id: template.after_id },
        warm_body: &operations::current_user().to_json(),
        tls,
        connections: execution::connections_for(config.budget.max_in_flight),
        habits: ConnectionConfig::default(),
    };
    OrderClient::start(setup).map_err(|error| AppError::start("the buyer", error))
}
