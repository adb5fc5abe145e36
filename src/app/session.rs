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
use tracing::{error, info, warn};

use super::{
    AppError,
    background::{self, Background},
    chain, report,
};
use crate::{
    buyer::{
        self, Buyer, Habits,
        answer::Report,
        request::{BodyTemplate, Identity},
    },
    clock,
    config::{Config, Mode},
    csgoroll::operations,
    ledger::{Halt, Ledger, Place, Who, cli::person, control::Server},
    net::tls::Tls,
    server_clock::ServerClock,
    sniper::{Core, Hand, Inbox, Now, Sniper},
    stop::{Stop, Why},
    summary::{FeedCounts, Summary},
    time::UnixMs,
    ws::{Filler, GaveUp},
};

/// How long buys in flight get when the bot stops.
pub const GRACE: Duration = Duration::from_secs(10);

/// How many questions of a person may wait.
const ASKS_QUEUED_MAX: usize = 16;

/// Why a session ended.
#[derive(Debug)]
pub enum Ended {
    /// Somebody, or the clock, said so.
    Stopped(Why),
    /// The balance was read and is below its floor.
    BelowFloor,
    /// The feed was given up.
    GaveUp(GaveUp),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(why) => why.fmt(f),
            Self::BelowFloor => f.write_str("the balance is below min_balance"),
            Self::GaveUp(gave_up) => gave_up.fmt(f),
        }
    }
}

/// One session: what considers the listings, and what it needs beside the feed.
#[derive(Debug)]
pub struct Session<'c> {
    config: &'c Config,
    sniper: Sniper,
    buyer: Option<Arc<Buyer>>,
    inbox: Inbox,
    _background: Background,
    _control: Option<Server>,
    spinning: Option<Spinning>,
    started: Instant,
    started_at: UnixMs,
}

impl<'c> Session<'c> {
    /// Begins a session. In dry mode nothing that could send a buy is built. `filler` is the other
    /// end of what `config` has for the feed's gaps.
    ///
    /// # Errors
    ///
    /// An [`AppError`] if what it needs cannot be set up.
    pub fn start(config: &'c Config, filler: Filler) -> Result<Self, AppError> {
        let (started, started_at) = (Instant::now(), clock::now());
        let clock = Arc::new(Mutex::new(ServerClock::new(started)));
        let tls = match &config.tls {
            Some(tls) => tls.clone(),
            None => Tls::new().map_err(|error| AppError::start("TLS", error))?,
        };
        let is_live = config.mode == Mode::Live;
        let mut inbox = Inbox::default();
        let (hand, buyer) = if is_live {
            let (buyer, reports) = start_buyer(config, tls.clone())?;
            inbox.reports = Some(reports);
            let buyer = Arc::new(buyer);
            (Hand::Live(Arc::clone(&buyer)), Some(buyer))
        } else {
            (Hand::Dry, None)
        };
        let requests = Arc::clone(&inbox.requests);
        let (background, news) = background::start(config, &tls, requests, filler)?;
        inbox.news = Some(news);
        let ledger = open_ledger(config);
        let mut control = None;
        if is_live {
            let (asks, asked) = mpsc::channel(ASKS_QUEUED_MAX);
            inbox.asks = Some(asked);
            control = match Server::start(&config.data_dir, asks) {
                Ok(server) => Some(server),
                Err(error) => {
                    warn!(
                        "`sniper halt` and `sniper status` cannot reach this bot: {}",
                        chain(&error)
                    );
                    None
                }
            };
        }
        let core = Core::new(Arc::clone(&config.whitelist), ledger, hand, clock);
        let sniper = Sniper::new(core);
        let spinning = config.speed.spin.then(|| Spinning(tokio::spawn(sniper.clone().spin())));
        Ok(Self {
            config,
            sniper,
            spinning,
            buyer,
            inbox,
            _background: background,
            _control: control,
            started,
            started_at,
        })
    }

    /// Lifts the halts of the last session: a person has looked.
    pub fn resume(&self) {
        self.sniper.look(|core| core.ledger().resume(Who::new(&person()), clock::now()));
    }

    /// Says what this session is, and what still stops it from buying.
    pub fn announce(&self) {
        report::announce(self.config);
        let halts = self.sniper.look(|core| core.ledger().snapshot(clock::now()).halts);
        for Halt { at, reason } in halts {
            let remedy = reason.remedy();
            error!(
                "BUYING IS STOPPED since {at}: {reason}. What to do: {remedy}; then `sniper resume`"
            );
        }
    }

    /// What considers the listings.
    pub fn sniper(&self) -> Sniper {
        self.sniper.clone()
    }

    /// Does what a session does beside the feed, until there is a reason to end it.
    ///
    /// # Cancel safety
    ///
    /// Safe: answers that were not taken in yet are kept for [`finish`](Self::finish).
    pub async fn run(&mut self, stop: &mut Stop) -> Ended {
        let taps = &self.config.taps;
        tokio::select! {
            biased;
            why = stop.wait() => Ended::Stopped(why),
            () = below_floor(&self.sniper, self.config.mode) => Ended::BelowFloor,
            () = self.sniper.run(&mut self.inbox, taps) => Ended::BelowFloor,
        }
    }

    /// Ends a session: no new buys, those in flight get up to [`GRACE`], then the summary.
    ///
    /// # Cancel safety
    ///
    /// Not safe: answers that are due would be lost.
    pub async fn finish(mut self, ended: Ended) -> Summary {
        self.sniper.stop();
        if let Some(mut spinning) = self.spinning.take() {
            spinning.end().await;
        }
        if let Some(buyer) = &self.buyer {
            let waiting = buyer.in_flight_count();
            if waiting > 0 {
                info!(
                    "Stopping ({ended}): waiting up to {}s for {waiting} answers",
                    GRACE.as_secs()
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

    fn summary(&self, ended: &Ended) -> Summary {
        let taps = &self.config.taps;
        let feed = FeedCounts {
            reconnects: taps.reconnects.load(Ordering::Relaxed),
            gaps: taps.gaps.load(Ordering::Relaxed),
            unreadable: taps.errors(),
        };
        let (tally, balance, returned) = self.sniper.look(|core| {
            let returned = core.ledger().returned_since(self.started_at);
            let snapshot = core.ledger().snapshot(Now::read().wall);
            // A dry run spends in thought only.
            let balance = match self.config.mode {
                Mode::Dry => snapshot.balance,
                Mode::Live => snapshot.balance_likely,
            };
            let mut tally = core.tally().clone();
            // The account has shown of some since what became of them.
            tally.in_doubt = tally.in_doubt.min(snapshot.unknown_coins);
            (tally, balance, returned)
        });
        Summary {
            mode: match self.config.mode {
                Mode::Dry => "dry",
                Mode::Live => "live",
            },
            lasted: self.started.elapsed(),
            feed,
            tally,
            returned,
            balance,
            log_lines_dropped: 0,
            ended: ended.to_string(),
            is_given_up: matches!(ended, Ended::GaveUp(_)),
            market: None,
        }
    }
}

/// What keeps a core awake, until it is dropped.
#[derive(Debug)]
struct Spinning(JoinHandle<()>);

impl Spinning {
    /// Ends it, and waits until it has let go of the ledger.
    async fn end(&mut self) {
        self.0.abort();
        // It never ends by itself, so this says that it was aborted.
        let _aborted = (&mut self.0).await.is_err();
    }
}

impl Drop for Spinning {
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

/// A dry run's ledger starts empty and is kept nowhere. A live one is kept; where it cannot be,
/// nothing is bought, and the feed goes on.
fn open_ledger(config: &Config) -> Ledger {
    let (budget, entries) = (config.budget.clone(), config.whitelist.entries());
    if config.mode == Mode::Dry {
        return Ledger::in_memory(budget, entries, false);
    }
    let place = Place::new(&config.data_dir, config.endpoints.http.authority());
    Ledger::open(&place, budget.clone(), entries, clock::now()).unwrap_or_else(|error| {
        let why = AppError::Ledger(error).chain();
        error!("BUYING STOPPED: {why}. The feed goes on.");
        Ledger::closed(budget, entries, why)
    })
}

fn start_buyer(config: &Config, tls: Tls) -> Result<(Buyer, Receiver<Report>), AppError> {
    let Some(credential) = &config.credential else {
        return Err(AppError::start("live buying", "no credential is set"));
    };
    let template = operations::buy_template();
    let setup = buyer::Setup {
        identity: Identity { endpoints: &config.endpoints, credential },
        body: BodyTemplate { before_id: template.before_id, after_id: template.after_id },
        warm_body: &operations::current_user().to_json(),
        tls,
        connections: buyer::connections_for(config.budget.max_in_flight),
        habits: Habits::default(),
    };
    Buyer::start(setup).map_err(|error| AppError::start("the buyer", error))
}
