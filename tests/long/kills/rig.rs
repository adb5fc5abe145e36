//! A simulated market, a bot that is restarted on it repeatedly, and the comparison of its ledger
//! with the market's history.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sniper::{
    clock,
    config::Market,
    domain::{money::Amount, trade::TradeId},
    ledger::{HaltReason, Intent, OrderState, reader::LedgerReader},
    sim::{
        Delivery, Fault, LisSkinsSim, MarketHistory, Rate, RepricingSettings, SimServer,
        SimSettings, WaxpeerSim, repricing::books::SalesBooks,
    },
};
use tempfile::TempDir;

use super::{
    audit::{self, BALANCE, Limits, Violation},
    report,
};

/// Maximum time for a bot to exit by itself.
const DEADLINE: Duration = Duration::from_secs(30);
/// Duration of the honest phase, which allows for four reads of the account.
const HONEST: Duration = Duration::from_secs(200);
/// Duration of the honest phase on Waxpeer, which is asked about each order three times, one by
/// one.
const HONEST_WAXPEER: Duration = Duration::from_secs(420);
/// Duration of the honest phase on LIS-SKINS, whose look-up proves an absence only after 10 min.
const HONEST_LIS_SKINS: Duration = Duration::from_secs(720);
/// Maximum wait for an order of a resumed bot.
const ORDERS_WITHIN: Duration = Duration::from_secs(8);
/// The same on LIS-SKINS, where a dozen pages of purchases and the open listings are read before.
const ORDERS_WITHIN_LIS_SKINS: Duration = Duration::from_secs(30);

pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64())
}

/// A running simulated market of any kind.
pub(super) enum RigMarket {
    Csgoroll(SimServer),
    LisSkins(LisSkinsSim),
    Waxpeer(WaxpeerSim),
}

/// Evaluates an expression with the simulator of a [`RigMarket`].
macro_rules! with_market {
    ($market:expr, $server:ident => $run:expr) => {
        match $market {
            RigMarket::Csgoroll($server) => $run,
            RigMarket::LisSkins($server) => $run,
            RigMarket::Waxpeer($server) => $run,
        }
    };
}

impl RigMarket {
    fn start(market: Market, settings: SimSettings) -> Self {
        match market {
            Market::Csgoroll => Self::Csgoroll(SimServer::start(settings).unwrap()),
            Market::LisSkins => Self::LisSkins(LisSkinsSim::start(settings).unwrap()),
            Market::Waxpeer => Self::Waxpeer(WaxpeerSim::start(settings).unwrap()),
        }
    }

    pub(super) fn with_history<T>(&self, read: impl FnOnce(&MarketHistory) -> T) -> T {
        with_market!(self, server => server.with_history(read))
    }

    fn history(&self) -> MarketHistory {
        with_market!(self, server => server.history())
    }

    pub(super) fn set_faults(&self, faults: &[Fault]) {
        with_market!(self, server => server.set_faults(faults));
    }

    fn opened_at(&self) -> Instant {
        with_market!(self, server => server.opened_at())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        with_market!(self, server => server.environment().into_iter().collect())
    }

    /// Returns the sales by own id, on a market that knows own ids.
    fn books(&self) -> Option<SalesBooks> {
        match self {
            Self::Csgoroll(_) => None,
            Self::LisSkins(server) => Some(server.books()),
            Self::Waxpeer(server) => Some(server.books()),
        }
    }

    const fn orders_within(&self) -> Duration {
        match self {
            Self::Csgoroll(_) | Self::Waxpeer(_) => ORDERS_WITHIN,
            Self::LisSkins(_) => ORDERS_WITHIN_LIS_SKINS,
        }
    }

    const fn honest_phase(&self) -> Duration {
        match self {
            Self::Csgoroll(_) => HONEST,
            Self::LisSkins(_) => HONEST_LIS_SKINS,
            Self::Waxpeer(_) => HONEST_WAXPEER,
        }
    }
}

/// A market, and a bot that is restarted on it repeatedly.
pub(super) struct Rig {
    pub(super) seed: u64,
    pub(super) market: RigMarket,
    limits: Limits,
    directory: BotDirectory,
    /// Last start of the bot, as time since the market opened.
    session_from: std::cell::Cell<Duration>,
}

/// The bot's directory, which is deleted unless it is kept as evidence.
enum BotDirectory {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Rig {
    /// Starts a market and writes settings that match every cheap listing.
    pub(super) fn new(market: Market, seed: u64, limits: Limits, faults: Vec<Fault>) -> Self {
        let repricing =
            RepricingSettings { rollback_permille: 100, ..RepricingSettings::default() };
        let running = RigMarket::start(
            market,
            SimSettings {
                repricing,
                rate: Rate::per_second(60),
                seed,
                balance: BALANCE,
                faults,
                delivery: Delivery {
                    confirm: (Duration::from_secs(1), Duration::from_secs(4)),
                    deliver: (Duration::from_secs(2), Duration::from_secs(20)),
                    fail_permille: 250,
                    refund: (Duration::from_secs(1), Duration::from_secs(12)),
                },
                ..SimSettings::default()
            },
        );
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sniper.toml"), limits.policy(market)).unwrap();
        let session_from = std::cell::Cell::default();
        let directory = BotDirectory::Temporary(directory);
        Self { seed, market: running, limits, directory, session_from }
    }

    fn folder(&self) -> PathBuf {
        match &self.directory {
            BotDirectory::Temporary(folder) => folder.path().to_owned(),
            BotDirectory::Kept(folder) => folder.clone(),
        }
    }

    /// Keeps the bot's directory as evidence and adds the market's history.
    pub(super) fn keep(&mut self) -> PathBuf {
        let folder = self.folder();
        if let BotDirectory::Temporary(temporary) =
            std::mem::replace(&mut self.directory, BotDirectory::Kept(folder.clone()))
        {
            let _kept = temporary.keep();
        }
        fs::write(folder.join("history"), self.market.with_history(audit::describe_all)).unwrap();
        folder
    }

    fn command(&self, args: &[&str]) -> Command {
        let log = File::options().append(true).create(true).open(self.folder().join("log"));
        let log = log.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(args)
            .current_dir(self.folder())
            .env_clear()
            .envs(self.market.environment())
            .env("SNIPER_DATA", "data")
            .env("XDG_STATE_HOME", self.folder().join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Starts the bot and lifts its earlier halts.
    pub(super) fn start(&self, crash: &str, duration: &str) -> Running {
        self.session_from.set(self.market.opened_at().elapsed());
        let mut command = self.command(&["run", "--live", "--resume", "--for", duration]);
        Running(command.env("SNIPER_TEST_CRASH", crash).spawn().unwrap())
    }

    /// Runs a command to its end and returns its exit code.
    fn run(&self, args: &[&str]) -> Option<i32> {
        Running(self.command(args).spawn().unwrap()).ended_within(DEADLINE).flatten()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap()
    }

    pub(super) fn requests(&self) -> usize {
        self.market.with_history(|history| history.orders().count())
    }

    /// Calls `visit` with the state of each order in the ledger.
    pub(super) fn states(&self, visit: impl FnMut(OrderState)) {
        if let Ok(reader) = LedgerReader::open(&self.folder().join("data")) {
            reader.state().intents().iter().map(|intent| intent.state).for_each(visit);
        }
    }

    /// Resumes a running bot if it is halted.
    pub(super) fn resume_if_halted(&self) {
        let Ok(mut reader) = LedgerReader::open(&self.folder().join("data")) else { return };
        if !reader.state_mut().snapshot(clock::now()).halts.is_empty() {
            let _maybe_nothing_to_resume = self.run(&["resume"]);
        }
    }

    /// Returns the violated invariants. The bot must not be running.
    pub(super) fn check(&self) -> Vec<Violation> {
        let reader = match LedgerReader::open(&self.folder().join("data")) {
            Ok(reader) => reader,
            Err(error) => return vec![Violation::wrong(format!("{error}"))],
        };
        if let Err(error) = reader.verify() {
            return vec![Violation::wrong(format!("not verified: {error}"))];
        }
        let from = self.session_from.get();
        let mut found = self
            .market
            .with_history(|history| audit::violations(&self.limits, history, &reader, from));
        if let Some(books) = self.market.books() {
            found.extend(audit::reused_own_ids(&books));
        }
        found
    }

    /// Runs the bot for 4 s without faults and asserts that it exits with 0.
    #[track_caller]
    pub(super) fn assert_clean_run(&self) {
        let ended = self.start("", "4s").ended();
        assert_eq!(ended, Some(Some(0)), "{}", self.log());
    }

    /// Lets a halted bot read the account without faults for the honest phase. Then ledger and
    /// history must agree, unless a halt names the difference, and a resumed bot must order again.
    /// Returns the first disagreement.
    pub(super) fn find_disagreement(&self) -> Option<String> {
        if self.run(&["halt"]) != Some(0) {
            return Some("the bot's ledger could not be halted".to_owned());
        }
        let honest = self.market.honest_phase();
        let duration = format!("{}s", honest.as_secs());
        self.session_from.set(self.market.opened_at().elapsed());
        let began = Instant::now();
        let run = self.command(&["run", "--live", "--for", &duration]).spawn();
        let ended = Running(run.unwrap()).ended_within(honest + DEADLINE);
        let history = self.market.history();
        if history.balance < self.limits.min_balance() && began.elapsed() < honest {
            report(&format!(
                "seed {}: charged more than was approved, to below min_balance",
                self.seed
            ));
            return None;
        }
        if ended != Some(Some(0)) || began.elapsed() < honest {
            return Some(format!("the bot ended with {ended:?} after {:?}", began.elapsed()));
        }
        let mut reader = LedgerReader::open(&self.folder().join("data")).unwrap();
        let halts = reader.state_mut().snapshot(clock::now()).halts;
        let other = halts.iter().find(|halt| !matches!(halt.reason, HaltReason::Operator(_)));
        let counted = reader.state().intents().iter().filter(|intent| intent.state.counts());
        let counted = counted.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.price));
        let spent = history.spent();
        let open = |is_open: &dyn Fn(&Intent) -> bool| -> Vec<String> {
            let open = reader.state().intents().iter().filter(|intent| is_open(intent));
            open.map(|intent| format!("{} is {}", intent.id, intent.state)).collect()
        };
        let is_unsettled =
            |intent: &Intent| intent.state.is_in_flight() || intent.state == OrderState::Unknown;
        if let Some(halt) = other {
            report(&format!(
                "seed {}: {counted} counted, {spent} spent, halted: {}",
                self.seed, halt.reason
            ));
            // A halt does not stop the look-ups. An order stays unknown only if coins are missing,
            // or if what the market shows of it cannot be true.
            let may_be_unknown =
                halts.iter().any(|halt| is_about_purchases_or_balance(&halt.reason));
            let unsettled = if may_be_unknown { Vec::new() } else { open(&is_unsettled) };
            let is_wrong = counted < spent || !unsettled.is_empty();
            return is_wrong.then(|| format!("{counted} counted, {spent} spent; {unsettled:?}"));
        }
        // A refund that the bot has not read yet counts as spent.
        let refunded = self.unread_refunds(&reader, &history);
        let open = open(&|intent| {
            let is_refunded = refunded.contains(&intent.id.as_str());
            let is_returning = intent.state == OrderState::Returning && !is_refunded;
            is_unsettled(intent) || is_returning
        });
        let unread = reader
            .state()
            .intents()
            .iter()
            .filter(|intent| intent.state.counts() && refunded.contains(&intent.id.as_str()));
        let unread = unread.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.price));
        if counted.saturating_sub(unread) != spent || !open.is_empty() {
            return Some(format!(
                "{counted} counted, {unread} of it refunded, {spent} spent; {open:?}"
            ));
        }
        self.check_orders_again()
    }

    /// Returns the ids of the purchases that the market has refunded, on a market whose bot looks
    /// up its purchases one by one, and those that were delivered at most once an hour.
    fn unread_refunds<'a>(
        &self,
        reader: &LedgerReader,
        history: &'a MarketHistory,
    ) -> Vec<&'a str> {
        if !matches!(self.market, RigMarket::Waxpeer(_)) {
            return Vec::new();
        }
        let refunded = history.purchases().filter(|(_, purchase)| purchase.is_refunded());
        let ids = refunded.map(|(listing, _)| listing.id.as_str());
        ids.filter(|id| {
            TradeId::new(id).is_some_and(|id| reader.state().orders_of(&id).next().is_some())
        })
        .collect()
    }

    /// Checks that a resumed bot orders, if the limits allow an order.
    fn check_orders_again(&self) -> Option<String> {
        let allow_order = self.market.with_history(|history| self.limits.allow_order(history));
        let before = self.requests();
        let mut bot = self.start("", "60s");
        let began = Instant::now();
        while self.requests() == before && began.elapsed() < self.market.orders_within() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bot.kill();
        let is_idle = allow_order && self.requests() == before;
        is_idle.then(|| "the limits allow an order, and none was sent".to_owned())
    }
}

/// Returns `true` for a halt because account and ledger differ, which may leave an order unknown.
const fn is_about_purchases_or_balance(reason: &HaltReason) -> bool {
    matches!(
        reason,
        HaltReason::BalanceDrop { .. }
            | HaltReason::UnexpectedPurchase { .. }
            | HaltReason::Contradiction { .. }
            | HaltReason::Price { .. }
            | HaltReason::Disagreement { .. }
            | HaltReason::ImplausiblePrice { .. }
    )
}

/// A running bot that is killed on drop.
pub(super) struct Running(Child);

impl Running {
    /// Waits for the exit. Returns `None` after [`DEADLINE`], otherwise the exit code if there is
    /// one.
    pub(super) fn ended(&mut self) -> Option<Option<i32>> {
        self.ended_within(DEADLINE)
    }

    fn ended_within(&mut self, limit: Duration) -> Option<Option<i32>> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.code());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    }

    pub(super) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The bot may have exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
