//! The whole bot at a market, over real sockets: feed, decision, ledger, buyer, summary.
//!
//! A session is put together here as `main.rs` does it; what only a process has, its exit code and
//! its outputs, is shown by the program itself. The market's books are the witness: they say what
//! was asked for, when, over which connection, and what it cost.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod buying;
mod clock;
mod dry;
mod hostile;
mod limits;
mod losses;
mod program;
mod refusals;
mod standing;
#[cfg(target_os = "linux")]
mod standstill;
mod unknown;
mod volume;

use std::{
    fs,
    panic::Location,
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    commands::session::{SessionEnd, TradingSession},
    config::{Config, Generation, Sources},
    domain::money::Amount,
    domain::trade::Trade,
    shutdown::{Shutdown, ShutdownReason},
    sim::{Delivery, ListedItem, Rate, SimServer, SimSettings},
    sniper::{Now, Sniper, stats::SessionStats},
    summary::Summary,
    ws::{self, policy::ReconnectPolicy, policy::ReconnectionLimits, policy::Thousandths},
};
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What is on offer in most tests.
pub(crate) const REDLINE: &str = "AK-47 | Redline (Field-Tested)";

/// A policy that stands in nobody's way.
pub(crate) const PLENTY: &str = r#"
[budget]
max_price = 1000
total = 100000
min_balance = 0
max_buys_per_minute = 10000

[[whitelist]]
name = "redline"
item = "AK-47 | Redline"
max_price = 500
max_quantity = 1000
"#;

/// A market on which nothing happens but what a test does.
pub(crate) fn quiet() -> SimSettings {
    let never = Duration::from_secs(3_600);
    let delivery = Delivery { confirm: (never, never), ..Delivery::default() };
    SimSettings { rate: Rate::NONE, rivals: None, delivery, ..SimSettings::default() }
}

pub(crate) const fn cents(cents: i64) -> Amount {
    Amount::from_cents(cents)
}

/// A listing that [`PLENTY`] wants, at this price.
pub(crate) fn redline(price: i64) -> ListedItem {
    ListedItem::plain(REDLINE, cents(price), cents(price))
}

/// Somebody who trades: their settings, and a folder of their own.
pub(crate) struct Trader {
    pub(crate) config: Config,
    _directory: TempDir,
}

impl Trader {
    /// With a credential, live, and in a hurry to reconnect.
    pub(crate) fn live(market: &SimServer, policy: &str) -> Self {
        Self::new((&market.ws_url(), &market.http_url()), Some(&market.session()), policy, true)
    }

    /// Dry; with a credential or without one.
    pub(crate) fn dry(market: &SimServer, session: Option<&str>, policy: &str) -> Self {
        Self::new((&market.ws_url(), &market.http_url()), session, policy, false)
    }

    pub(crate) fn new(
        (ws, http): (&str, &str),
        session: Option<&str>,
        policy: &str,
        live: bool,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if !policy.is_empty() {
            fs::write(directory.path().join("sniper.toml"), policy).unwrap();
        }
        let lookup = |name: &str| match name {
            "CSGOROLL_WS_URL" => Some(ws.to_owned()),
            "CSGOROLL_HTTP_URL" => Some(http.to_owned()),
            "CSGOROLL_SESSION" => session.map(str::to_owned),
            _ => None,
        };
        let sources =
            Sources { lookup: &lookup, directory: directory.path(), config_file: None, live };
        let config = Config::load(&sources).map_err(|problems| format!("{problems:?}")).unwrap();
        let limits = ReconnectionLimits {
            initial_delay: Duration::from_millis(250),
            jitter: Thousandths(0),
            ..ReconnectionLimits::DEFAULT
        };
        let config =
            Config { reconnection: ReconnectPolicy::new(limits).unwrap(), ..config.config };
        Self { config, _directory: directory }
    }

    pub(crate) fn asking_for(mut self, generation: Generation) -> Self {
        self.config.feed.generation = generation;
        self
    }

    /// Runs a session until `scenario` is over, and returns what it came to.
    pub(crate) async fn trades(&self, scenario: impl AsyncFnOnce(&Sniper)) -> Summary {
        self.trades_heard(|_| {}, scenario).await
    }

    /// The same, and says what the feed brought.
    pub(crate) async fn trades_heard(
        &self,
        mut hear: impl FnMut(&Trade<'_>),
        scenario: impl AsyncFnOnce(&Sniper),
    ) -> Summary {
        let mut stop = Shutdown::listen(None).unwrap();
        let mut config = self.config.clone();
        let filler = config.fill_gaps();
        let mut session = TradingSession::start(&config, filler).unwrap();
        let sniper = session.sniper();
        let on_trade = |trade: Trade<'_>| {
            hear(&trade);
            sniper.consider(trade);
        };
        let ended = tokio::select! {
            biased;
            gave_up = ws::run_with_reconnect(&config, on_trade) => SessionEnd::GaveUp(gave_up),
            ended = session.run(&mut stop) => ended,
            () = scenario(&sniper) => SessionEnd::Stopped(ShutdownReason::Over(Duration::ZERO)),
        };
        session.finish(ended).await
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain: {caller}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Waits until what was counted so far is so.
#[track_caller]
pub(crate) fn counted(
    sniper: &Sniper,
    is_so: impl Fn(&SessionStats) -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !sniper.look(|core| is_so(core.tally())) {
            let is_late = deadline < Instant::now();
            let tally = || sniper.look(|core| core.tally().clone());
            assert!(!is_late, "{caller}: {:?}", tally());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Waits until the bot hears this market, knows the account and may buy.
#[track_caller]
pub(crate) fn ready(sniper: &Sniper, market: &SimServer) -> impl Future<Output = ()> {
    until(|| knows_the_account(sniper) && market.visits().feeds_subscribed == 1)
}

/// Whether the account has been read and compared with the ledger.
pub(crate) fn knows_the_account(sniper: &Sniper) -> bool {
    let snapshot = sniper.look(|core| core.ledger().snapshot(Now::read().wall));
    snapshot.reconciled && snapshot.balance.is_some()
}

/// How often a wanted listing was left alone for this reason.
pub(crate) fn skipped(summary: &Summary, why: &str) -> u64 {
    summary.tally.skipped.get(why).copied().unwrap_or_default()
}

/// Holds a live session against the books of its market: every match went one way, nothing was
/// asked for twice, and the money is the same on both sides.
#[track_caller]
pub(crate) fn agree(summary: &Summary, market: &SimServer) {
    let (tally, books) = (&summary.tally, market.books());
    let asked = tally.bought + tally.refused + tally.unknown;
    assert_eq!(tally.matched, asked + tally.not_sent + tally.skipped_total(), "{tally:?}");
    assert_eq!(usize::try_from(asked).unwrap(), books.requests().count(), "{tally:?}");
    assert_eq!(books.doubled().count(), 0, "asked for twice");
    assert_eq!(books.stray().len(), 0, "asked for what was never listed");
    let sold: u64 = books.purchases().count().try_into().unwrap();
    assert!(tally.bought <= sold && sold <= tally.bought + tally.unknown, "{sold}: {tally:?}");
    if tally.unknown == 0 {
        let paid =
            books.purchases().fold(Amount::ZERO, |sum, (_, one)| sum.saturating_add(one.price));
        let by_the_ledger = summary.orders.spent.saturating_add(summary.orders.returned_coins);
        assert_eq!(by_the_ledger, paid);
    }
}

/// Holds the object that a program printed against the books of its market.
#[track_caller]
pub(crate) fn agree_on(summary: &Value, market: &SimServer) {
    let books = market.books();
    let count = |key: &str| summary[key].as_u64().unwrap();
    adds_up(summary);
    let bought = count("bought") + count("returned");
    let asked = bought + count("refused") + count("unknown") + count("not_bought");
    assert_eq!(usize::try_from(asked).unwrap(), books.requests().count(), "{summary}");
    assert_eq!(books.doubled().count(), 0, "asked for twice");
    let sold: u64 = books.purchases().count().try_into().unwrap();
    assert!(bought <= sold && sold <= bought + count("unknown"), "{summary}");
}

/// Every match went one way.
#[track_caller]
pub(crate) fn adds_up(summary: &Value) {
    let by_the_ledger = ["bought", "returned", "not_bought", "unknown"];
    let ends = ["refused", "not_sent", "skipped", "would_buy"];
    let all: u64 =
        ends.iter().chain(&by_the_ledger).map(|key| summary[key].as_u64().unwrap()).sum();
    assert_eq!(summary["matched"].as_u64(), Some(all), "{summary}");
}
