//! Settings of a session, waits for its state, and comparisons with the history of its market.

use std::{
    fs,
    panic::Location,
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    commands::session::{SessionEnd, SessionStart, TradingSession},
    commands::summary::Summary,
    config::{Config, Generation, Sources},
    domain::money::Amount,
    domain::trade::Trade,
    markets::csgoroll::Csgoroll,
    shared::exchanger::MemoryGroup,
    shutdown::{Shutdown, ShutdownReason},
    sim::{Delivery, ListedItem, Rate, SimServer, SimSettings},
    sniper::{Now, Sniper, stats::SessionStats},
    ws::{self, Feed, policy::ReconnectPolicy, policy::ReconnectionLimits, policy::Thousandths},
};
use tempfile::TempDir;

/// Maximum wait for an expected event.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// Item that most tests offer.
pub(crate) const REDLINE: &str = "AK-47 | Redline (Field-Tested)";

/// Settings whose limits do not bind.
pub(crate) const AMPLE_LIMITS: &str = r#"
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

/// Returns settings of a market that lists, sells and delivers nothing by itself.
pub(crate) fn quiet() -> SimSettings {
    let never = Duration::from_secs(3_600);
    let delivery = Delivery { confirm: (never, never), ..Delivery::default() };
    SimSettings { rate: Rate::NONE, rivals: None, delivery, ..SimSettings::default() }
}

pub(crate) const fn cents(cents: i64) -> Amount {
    Amount::from_cents(cents)
}

/// Returns a listing that [`AMPLE_LIMITS`] matches, at this price.
pub(crate) fn redline(price: i64) -> ListedItem {
    ListedItem::plain(REDLINE, cents(price), cents(price))
}

/// Settings of a session, with a temporary directory.
pub(crate) struct TestBot {
    pub(crate) config: Config,
    /// Group of a shared budget.
    group: Option<MemoryGroup>,
    _directory: TempDir,
}

impl TestBot {
    /// Returns live settings with a credential and short reconnect delays.
    pub(crate) fn live(market: &SimServer, policy: &str) -> Self {
        Self::new((&market.ws_url(), &market.http_url()), Some(&market.session()), policy, true)
    }

    /// Returns the settings of a dry run, with or without a credential.
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
            // Of a group in memory.
            "SNIPER_SHARED_URL" => Some("postgres://me@localhost/bots".to_owned()),
            _ => None,
        };
        let sources = Sources {
            lookup: &lookup,
            directory: directory.path(),
            config_file: None,
            live,
            decimals: |_market| sniper::markets::csgoroll::DECIMALS,
        };
        let config = Config::load(&sources).map_err(|problems| format!("{problems:?}")).unwrap();
        let limits = ReconnectionLimits {
            initial_delay: Duration::from_millis(250),
            jitter: Thousandths(0),
            ..ReconnectionLimits::DEFAULT
        };
        let config =
            Config { reconnection: ReconnectPolicy::new(limits).unwrap(), ..config.config };
        Self { config, group: None, _directory: directory }
    }

    /// Shares its budget, as its settings say, in this group.
    pub(crate) fn with_group(mut self, group: &MemoryGroup) -> Self {
        self.group = Some(group.clone());
        self
    }

    pub(crate) fn with_generation(mut self, generation: Generation) -> Self {
        self.config.feed.generation = generation;
        self
    }

    /// Runs a session until `scenario` completes, and returns its summary.
    pub(crate) async fn run(&self, scenario: impl AsyncFnOnce(&Sniper)) -> Summary {
        self.run_observed(|_| {}, scenario).await
    }

    /// Like [`Self::run`], and passes each received listing to `observe`.
    pub(crate) async fn run_observed(
        &self,
        mut observe: impl FnMut(&Trade<'_>),
        scenario: impl AsyncFnOnce(&Sniper),
    ) -> Summary {
        let mut stop = Shutdown::without_signals(None);
        let mut feed = Feed::new(Csgoroll::new(&self.config), self.config.clone());
        let filler = feed.fill_gaps();
        let options = SessionStart { shared_group: self.group.clone(), ..SessionStart::default() };
        let mut session = TradingSession::start(&feed, filler, options).unwrap();
        let sniper = session.sniper();
        let on_trade = |trade: Trade<'_>| {
            observe(&trade);
            sniper.consider(trade);
        };
        let ended = {
            let trading = std::pin::pin!(ws::run_with_reconnect(&feed, on_trade));
            tokio::select! {
                biased;
                ended = session.run_with(trading, &mut stop) => ended,
                () = scenario(&sniper) => SessionEnd::Stopped(ShutdownReason::TimeLimit(Duration::ZERO)),
            }
        };
        session.finish(ended).await
    }
}

/// Waits until the condition holds, at most [`WAIT_MAX`].
#[track_caller]
pub(crate) fn until(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + WAIT_MAX;
        while !condition() {
            assert!(Instant::now() < deadline, "the condition never held: {caller}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Waits until the condition holds for the session's statistics, at most [`WAIT_MAX`].
#[track_caller]
pub(crate) fn wait_for_stats(
    sniper: &Sniper,
    condition: impl Fn(&SessionStats) -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + WAIT_MAX;
        while !sniper.with_engine(|engine| condition(engine.stats())) {
            let is_late = deadline < Instant::now();
            let stats = || sniper.with_engine(|engine| engine.stats().clone());
            assert!(!is_late, "{caller}: {:?}", stats());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Waits until the bot is subscribed to this market and reconciled with the account.
#[track_caller]
pub(crate) fn ready(sniper: &Sniper, market: &SimServer) -> impl Future<Output = ()> {
    let can_order =
        || is_reconciled(sniper) && sniper.with_engine(|engine| engine.ledger().is_limit_durable());
    until(move || can_order() && market.stats().feeds_subscribed == 1)
}

/// Returns `true` once the account was read and reconciled with the ledger.
pub(crate) fn is_reconciled(sniper: &Sniper) -> bool {
    let snapshot = sniper.with_engine(|engine| engine.ledger().snapshot(Now::read().wall));
    snapshot.reconciled && snapshot.balance.is_some()
}

/// Returns the number of matches that were skipped for this reason.
pub(crate) fn skipped(summary: &Summary, reason: &str) -> u64 {
    summary.stats.skipped.get(reason).copied().unwrap_or_default()
}

/// Asserts that a live session agrees with the history of its market: every match has one outcome,
/// no listing was ordered twice, and the amounts are equal.
#[track_caller]
pub(crate) fn assert_agrees(summary: &Summary, market: &SimServer) {
    let (stats, history) = (&summary.stats, market.history());
    let orders = stats.bought + stats.rejected + stats.unknown;
    assert_eq!(stats.matched, orders + stats.not_sent + stats.skipped_total(), "{stats:?}");
    assert_eq!(usize::try_from(orders).unwrap(), history.orders().count(), "{stats:?}");
    assert_eq!(history.ordered_twice().count(), 0, "a listing was ordered twice");
    assert_eq!(history.unmatched_orders().len(), 0, "an unknown listing was ordered");
    let sold: u64 = history.purchases().count().try_into().unwrap();
    assert!(stats.bought <= sold && sold <= stats.bought + stats.unknown, "{sold}: {stats:?}");
    if stats.unknown == 0 {
        let paid =
            history.purchases().fold(Amount::ZERO, |sum, (_, one)| sum.saturating_add(one.price));
        let by_the_ledger = summary.orders.spent.saturating_add(summary.orders.returned_coins);
        assert_eq!(by_the_ledger, paid);
    }
}

/// Asserts that every match has exactly one outcome.
#[track_caller]
pub(crate) fn assert_adds_up(summary: &Value) {
    let by_the_ledger = ["bought", "returned", "not_bought", "unknown"];
    let ends = ["refused", "not_sent", "skipped", "would_buy"];
    let all: u64 =
        ends.iter().chain(&by_the_ledger).map(|key| summary[key].as_u64().unwrap()).sum();
    assert_eq!(summary["matched"].as_u64(), Some(all), "{summary}");
}
