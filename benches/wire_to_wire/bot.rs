//! The sniper, assembled as in its `main`: settings from files, a durable ledger and a log.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use sniper::{
    commands::{
        block_on_busy_polling,
        session::{SessionEnd, SessionStart, TradingSession},
    },
    config::{Config, Market as MarketName, Sources},
    domain::money::Decimals,
    markets::{Marketplace, csgoroll::Csgoroll, lis_skins::LisSkins, waxpeer::Waxpeer},
    shared::{exchanger::MemoryGroup, store::Store},
    shutdown::{Shutdown, ShutdownReason},
    sniper::stats::BoughtItem,
    ws::{self, Feed},
};
use tokio::sync::oneshot;

use crate::{
    database::Server,
    frames::WANTED,
    hindrance::Hindrance,
    observers::{AlertReceiver, Observers},
    run::{Client, Environment, Running},
    wire,
};

/// Where the group of a shared budget is.
pub(crate) enum SharedBudget {
    InMemory,
    Database { url: String, _server: Option<Server> },
}

impl SharedBudget {
    /// Returns the PostgreSQL that `SNIPER_TEST_DATABASE_URL` names, or one of this machine with
    /// its durable defaults.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub(crate) fn in_database() -> Result<Self, String> {
        if let Ok(url) = std::env::var("SNIPER_TEST_DATABASE_URL") {
            return Ok(Self::Database { url, _server: None });
        }
        let server = Server::start(&[])?;
        Ok(Self::Database { url: server.url("postgres"), _server: Some(server) })
    }
}

/// Number of groups in a database so far. A member belongs to the ledger of one run.
static GROUPS: AtomicUsize = AtomicUsize::new(0);

/// The sniper as a benchmark client.
pub(crate) struct Bot {
    /// Connects over TLS; the market must serve TLS too.
    pub(crate) tls: bool,
    /// Number of whitelist entries.
    pub(crate) whitelist: usize,
    /// Further settings in TOML.
    pub(crate) settings: &'static str,
    /// Table of reference prices, for an entry for every item at 80 % of them.
    pub(crate) prices: Option<String>,
    pub(crate) hindrance: Option<Hindrance>,
    pub(crate) shared: Option<SharedBudget>,
    /// As [`Client::settling_time`].
    pub(crate) settling_time: Duration,
    /// Its page is open, its metrics are read each second, and it sends alerts.
    pub(crate) is_observed: bool,
    /// Name in the table.
    pub(crate) name: &'static str,
}

impl Client for Bot {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_tls(&self) -> bool {
        self.tls
    }

    fn settling_time(&self) -> Duration {
        self.settling_time
    }

    fn start(&self, env: &Environment) -> Running {
        let alerts = self.is_observed.then(AlertReceiver::start);
        let config = self.config(env, alerts.as_ref());
        if matches!(self.shared, Some(SharedBudget::Database { .. })) {
            create_group(&config, env.market);
        }
        match env.market {
            MarketName::Csgoroll => {
                self.run(Feed::new(Csgoroll::new(&config), config), env, alerts)
            }
            MarketName::LisSkins => {
                self.run(Feed::new(LisSkins::new(&config), config), env, alerts)
            }
            MarketName::Waxpeer => self.run(Feed::new(Waxpeer::new(&config), config), env, alerts),
        }
    }
}

impl Bot {
    fn run<M: Marketplace>(
        &self,
        feed: Feed<M>,
        env: &Environment,
        alerts: Option<AlertReceiver>,
    ) -> Running {
        let hindrance = self.hindrance.map(|it| it.start(&feed, &env.directory));
        let (stop, stopped) = oneshot::channel::<()>();
        let is_in_memory = matches!(self.shared, Some(SharedBudget::InMemory));
        let group = is_in_memory.then(|| MemoryGroup::new(GROUP_TOTAL, GROUP_TERM_MS));
        let options = SessionStart { shared_group: group, ..SessionStart::default() };
        let thread = thread::spawn(move || {
            let spin = feed.config.speed.spin;
            block_on_busy_polling(spin, async { Ok(session(feed, stopped, options, alerts).await) })
                .unwrap()
        });
        Running::new(move || {
            // The session may have ended already.
            let _gone = stop.send(());
            let bought = thread.join().unwrap();
            drop(hindrance);
            bought
        })
    }

    fn config(&self, env: &Environment, alerts: Option<&AlertReceiver>) -> Config {
        fs::write(env.directory.join("sniper.toml"), self.policy(env.market)).unwrap();
        if let Some(prices) = &self.prices {
            fs::write(env.directory.join("prices.json"), prices).unwrap();
        }
        let (ws, http) = if self.tls { ("wss", "https") } else { ("ws", "http") };
        let url =
            |scheme: &str, port: u16, path: &str| format!("{scheme}://127.0.0.1:{port}/{path}");
        let lookup = |name: &str| match name {
            "CSGOROLL_WS_URL" | "LIS_SKINS_WS_URL" | "WAXPEER_WS_URL" => {
                Some(url(ws, env.ws.port(), wire::feed_path(env.market)))
            }
            "CSGOROLL_HTTP_URL" | "LIS_SKINS_HTTP_URL" | "WAXPEER_HTTP_URL" => {
                Some(url(http, env.http.port(), wire::http_path(env.market)))
            }
            "CSGOROLL_SESSION" => Some("bench".to_owned()),
            "LIS_SKINS_KEY" | "WAXPEER_KEY" => Some("key-of-the-bench".to_owned()),
            "LIS_SKINS_USER_ID" => Some("4711".to_owned()),
            "STEAM_TRADE_URL" if env.market != MarketName::Csgoroll => Some(TRADE_URL.to_owned()),
            "NTFY_URL" => alerts.map(|alerts| format!("http://{}/bench", alerts.address)),
            "SNIPER_SHARED_URL" => Some(match &self.shared {
                Some(SharedBudget::Database { url, .. }) => url.clone(),
                // Not used.
                _ => "postgres://bench@localhost/bench".to_owned(),
            }),
            _ => None,
        };
        let sources = Sources {
            lookup: &lookup,
            directory: &env.directory,
            config_file: None,
            live: true,
            decimals: |_market| Decimals::Two,
        };
        let mut config = Config::load(&sources).unwrap().config;
        config.trusted_root = env.root.as_ref().map(|root| root.to_vec());
        config
    }

    /// Returns a policy with one entry that matches; the others are for items that are never
    /// listed.
    fn policy(&self, market: MarketName) -> String {
        let markup = if market.settings().has_markup { "max_markup_percent = 0\n" } else { "" };
        let mut policy = format!(
            "market = \"{}\"\n{}\n[budget]\nmax_price = 100000\ntotal = 90000000\nmin_balance = 0\nmax_buys_per_minute = 1000000\n",
            market.name(),
            self.settings
        );
        for n in 1..self.whitelist {
            policy.push_str(&format!(
                "[[whitelist]]\nitem = \"Nothing {n} | Of The Kind\"\nmax_price = 1\n"
            ));
        }
        policy.push_str(&format!(
            "[[whitelist]]\nname = \"bench\"\nitem = \"{WANTED}\"\nmax_price = 12.50\n{markup}max_quantity = 1000000\n"
        ));
        if self.prices.is_some() {
            policy.push_str(STAR);
        }
        if self.shared.is_some() {
            let number = GROUPS.fetch_add(1, Ordering::Relaxed);
            let group = format!("bench-{}-{number}", std::process::id());
            policy.push_str(&format!("[shared]\ngroup = \"{group}\"\n{SHARED}"));
        }
        if self.is_observed {
            policy.push_str(OBSERVED);
        }
        policy
    }
}

/// Recipient of the items.
const TRADE_URL: &str =
    "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";
/// A shared budget that the benchmark does not exhaust.
const SHARED: &str = r#"
total = 90000000.00
unit = "coins"
member = "bench"
"#;
/// Its total, in thousandths.
const GROUP_TOTAL: i64 = 90_000_000_000;
const GROUP_TERM_MS: i64 = 5_000;

/// A page at a free port, and a channel for alerts.
const OBSERVED: &str = r#"
[dashboard]
listen = "127.0.0.1:0"
[[alerts]]
kind = "ntfy"
url_env = "NTFY_URL"
"#;

/// An entry for every item.
const STAR: &str = r#"
[prices]
coin_usd = 1
[[prices.source]]
name = "bench"
kind = "file"
path = "prices.json"
unit = "coins"
[[whitelist]]
item = "*"
max_percent = 80
max_price = 100000
max_quantity = 1000000
"#;

fn create_group(config: &Config, market: MarketName) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut store = Store::new(config.shared.as_ref().unwrap(), market.name()).unwrap();
        store.initialize(GROUP_TOTAL, GROUP_TERM_MS).await.unwrap();
    });
}

async fn session<M: Marketplace>(
    mut feed: Feed<M>,
    stopped: oneshot::Receiver<()>,
    options: SessionStart,
    alerts: Option<AlertReceiver>,
) -> Vec<BoughtItem> {
    let mut stop = Shutdown::without_signals(None);
    let filler = feed.fill_gaps();
    let mut session = TradingSession::start(&feed, filler, options).unwrap();
    let has_prices = !feed.config.prices.sources.is_empty();
    let max_prices = feed.wanted.borrow().max_prices().count();
    assert!(!has_prices || max_prices > feed.config.whitelist.len(), "only {max_prices} items");
    let observers = alerts.map(|alerts| {
        let dashboard = session.dashboard_address().expect("the page is served");
        Observers::start(dashboard, alerts)
    });
    let sniper = session.sniper();
    let ended = {
        let trading = std::pin::pin!(ws::run_with_reconnect(&feed, |trade| sniper.consider(trade)));
        tokio::select! {
            biased;
            _ = stopped => SessionEnd::Stopped(ShutdownReason::Terminate),
            ended = session.run_with(trading, &mut stop) => ended,
        }
    };
    drop(observers);
    session.finish(ended).await.stats.purchases
}
