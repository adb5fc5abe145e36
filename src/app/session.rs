//! A session's beginning and end, and what runs beside the feed.
//!
//! Everything between frame and order happens on one thread, so that nothing there waits for
//! another; only cold reads of the account and the log have threads of their own.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::Receiver;
use tracing::info;

use super::AppError;
use crate::{
    buyer::{
        self, Buyer, Habits,
        answer::Report,
        request::{BodyTemplate, Identity},
    },
    config::{Config, Mode},
    csgoroll::operations,
    ledger::Ledger,
    net::tls::Tls,
    server_clock::ServerClock,
    sniper::{Core, Hand, Now, Sniper},
    stop::{Stop, Why},
    summary::{FeedCounts, Summary},
    ws::GaveUp,
};

/// How long buys in flight get when the bot stops.
pub const GRACE: Duration = Duration::from_secs(10);

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
    reports: Option<Receiver<Report>>,
    started: Instant,
}

impl<'c> Session<'c> {
    /// Begins a session. In dry mode nothing that could send a buy is built.
    ///
    /// # Errors
    ///
    /// An [`AppError`] if what it needs cannot be set up.
    pub fn start(config: &'c Config) -> Result<Self, AppError> {
        let started = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(started)));
        let is_live = config.mode == Mode::Live;
        let (hand, buyer, reports) = if is_live {
            let (buyer, reports) = start_buyer(config)?;
            let buyer = Arc::new(buyer);
            (Hand::Live(Arc::clone(&buyer)), Some(buyer), Some(reports))
        } else {
            (Hand::Dry, None, None)
        };
        let entries = config.whitelist.entries();
        let ledger = Ledger::in_memory(config.budget.clone(), entries, is_live);
        let core = Core::new(Arc::clone(&config.whitelist), ledger, hand, clock);
        Ok(Self { config, sniper: Sniper::new(core), buyer, reports, started })
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
            () = self.sniper.below_floor() => Ended::BelowFloor,
            () = self.sniper.run(&mut self.reports, taps) => Ended::BelowFloor,
        }
    }

    /// Ends a session: no new buys, those in flight get up to [`GRACE`], then the summary.
    ///
    /// # Cancel safety
    ///
    /// Not safe: answers that are due would be lost.
    pub async fn finish(mut self, ended: Ended) -> Summary {
        self.sniper.stop();
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
        if let Some(mut reports) = self.reports.take() {
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
        let (tally, balance) = self.sniper.look(|core| {
            let snapshot = core.ledger().snapshot(Now::read().wall);
            (core.tally().clone(), snapshot.balance_least)
        });
        Summary {
            mode: match self.config.mode {
                Mode::Dry => "dry",
                Mode::Live => "live",
            },
            lasted: self.started.elapsed(),
            feed,
            tally,
            balance,
            log_lines_dropped: 0,
            ended: ended.to_string(),
            market: None,
        }
    }
}

fn start_buyer(config: &Config) -> Result<(Buyer, Receiver<Report>), AppError> {
    let start = |what, source| AppError::Start { what, source };
    let Some(credential) = &config.credential else {
        return Err(start("live buying", "no credential is set".into()));
    };
    let tls = match &config.tls {
        Some(tls) => tls.clone(),
        None => Tls::new().map_err(|error| start("TLS", error.into()))?,
    };
    let template = operations::buy_template();
    let setup = buyer::Setup {
        identity: Identity { endpoints: &config.endpoints, credential },
        body: BodyTemplate { before_id: template.before_id, after_id: template.after_id },
        warm_body: &operations::current_user().to_json(),
        tls,
        connections: config.budget.max_in_flight,
        habits: Habits::default(),
    };
    Buyer::start(setup).map_err(|error| start("the buyer", error.into()))
}
