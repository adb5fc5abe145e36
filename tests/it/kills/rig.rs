//! A simulated market with a bot that is started on it again and again, and what their books say
//! about each other.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sniper::{
    clock,
    domain::money::Amount,
    ledger::{HaltReason, OrderState, reader::LedgerReader},
    sim::{Delivery, Fault, Rate, SimServer, SimSettings},
};
use tempfile::TempDir;

use super::{
    audit::{self, BALANCE, Limits, Violation},
    report,
};

/// How long a bot may take to end by itself at most.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the honest phase lasts: four reads of the account.
const HONEST: Duration = Duration::from_secs(200);
/// How long a bot needs to order something once it may.
const ORDERS_WITHIN: Duration = Duration::from_secs(8);

pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64())
}

/// A market, and a bot that is started on it again and again.
pub(super) struct Rig {
    pub(super) seed: u64,
    pub(super) market: SimServer,
    limits: Limits,
    desk: Desk,
    /// When the bot was started last, since the market opened.
    session_from: std::cell::Cell<Duration>,
}

/// The bot's folder, which goes away unless there is something to look into.
enum Desk {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Rig {
    /// A market whose every cheap listing is wanted.
    pub(super) fn new(seed: u64, limits: Limits, faults: Vec<Fault>) -> Self {
        let market = SimServer::start(SimSettings {
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
        });
        let desk = tempfile::tempdir().unwrap();
        fs::write(desk.path().join("sniper.toml"), limits.policy()).unwrap();
        let session_from = std::cell::Cell::default();
        let desk = Desk::Temporary(desk);
        Self { seed, market: market.unwrap(), limits, desk, session_from }
    }

    fn folder(&self) -> PathBuf {
        match &self.desk {
            Desk::Temporary(folder) => folder.path().to_owned(),
            Desk::Kept(folder) => folder.clone(),
        }
    }

    /// Keeps the bot's folder, with the market's books, to be looked into.
    pub(super) fn keep(&mut self) -> PathBuf {
        let folder = self.folder();
        if let Desk::Temporary(temporary) =
            std::mem::replace(&mut self.desk, Desk::Kept(folder.clone()))
        {
            let _kept = temporary.keep();
        }
        fs::write(folder.join("books"), self.market.look(audit::written)).unwrap();
        folder
    }

    fn command(&self, words: &[&str]) -> Command {
        let log = File::options().append(true).create(true).open(self.folder().join("log"));
        let log = log.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(words)
            .current_dir(self.folder())
            .env_clear()
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .env("CSGOROLL_WS_URL", self.market.ws_url())
            .env("CSGOROLL_HTTP_URL", self.market.http_url())
            .env("CSGOROLL_SESSION", self.market.session())
            .env("XDG_STATE_HOME", self.folder().join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Starts the bot; what halted it before is lifted.
    pub(super) fn start(&self, crash: &str, lasting: &str) -> Running {
        self.session_from.set(self.market.opened().elapsed());
        let mut command = self.command(&["run", "--live", "--resume", "--for", lasting]);
        Running(command.env("SNIPER_TEST_CRASH", crash).spawn().unwrap())
    }

    /// Runs a command to its end; its exit code.
    fn run(&self, words: &[&str]) -> Option<i32> {
        Running(self.command(words).spawn().unwrap()).ended_within(DEADLINE).flatten()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap()
    }

    pub(super) fn requests(&self) -> usize {
        self.market.look(|books| books.requests().count())
    }

    /// Tells where each order stands by the ledger.
    pub(super) fn states(&self, tell: impl FnMut(OrderState)) {
        if let Ok(archive) = LedgerReader::open(&self.folder().join("data")) {
            archive.book().intents().iter().map(|intent| intent.state).for_each(tell);
        }
    }

    /// Lifts the halts of a running bot, if it has any.
    pub(super) fn resume_if_halted(&self) {
        let Ok(mut archive) = LedgerReader::open(&self.folder().join("data")) else { return };
        if !archive.book_mut().snapshot(clock::now()).halts.is_empty() {
            let _maybe_nothing_to_resume = self.run(&["resume"]);
        }
    }

    /// What must be true whenever one looks, and is not. The bot is dead.
    pub(super) fn check(&self) -> Vec<Violation> {
        let archive = match LedgerReader::open(&self.folder().join("data")) {
            Ok(archive) => archive,
            Err(error) => return vec![Violation::wrong(format!("{error}"))],
        };
        if let Err(error) = archive.verify() {
            return vec![Violation::wrong(format!("not verified: {error}"))];
        }
        let (ledger, from) = (archive.book(), self.session_from.get());
        self.market.look(|books| audit::violations(&self.limits, books, ledger, from))
    }

    /// Lets the bot run for a moment on an honest market; it ends by itself, and well.
    #[track_caller]
    pub(super) fn ends_well(&self) {
        let ended = self.start("", "4s").ended();
        assert_eq!(ended, Some(Some(0)), "{}", self.log());
    }

    /// Lets a bot that orders nothing read the honest market's account for a while; then ledger
    /// and books must agree unless a halt names what does not, and ordering goes on. Says what is
    /// not so.
    pub(super) fn agrees(&self) -> Option<String> {
        if self.run(&["halt"]) != Some(0) {
            return Some("the bot's ledger could not be halted".to_owned());
        }
        let lasting = format!("{}s", HONEST.as_secs());
        self.session_from.set(self.market.opened().elapsed());
        let began = Instant::now();
        let run = self.command(&["run", "--live", "--for", &lasting]).spawn();
        let ended = Running(run.unwrap()).ended_within(HONEST + DEADLINE);
        let books = self.market.books();
        if books.balance < self.limits.min_balance() && began.elapsed() < HONEST {
            report(&format!(
                "seed {}: charged more than was approved, to below min_balance",
                self.seed
            ));
            return None;
        }
        if ended != Some(Some(0)) || began.elapsed() < HONEST {
            return Some(format!("the bot ended with {ended:?} after {:?}", began.elapsed()));
        }
        let mut archive = LedgerReader::open(&self.folder().join("data")).unwrap();
        let halts = archive.book_mut().snapshot(clock::now()).halts;
        let other = halts.iter().find(|halt| !matches!(halt.reason, HaltReason::Person(_)));
        let counted = archive.book().intents().iter().filter(|intent| intent.state.counts());
        let counted = counted.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.price));
        let spent = books.spent();
        if let Some(halt) = other {
            report(&format!(
                "seed {}: {counted} counted, {spent} spent, halted: {}",
                self.seed, halt.reason
            ));
            return (counted < spent).then(|| format!("{counted} counted, {spent} spent"));
        }
        let open = archive.book().intents().iter().filter(|intent| {
            intent.state.is_in_flight()
                || matches!(intent.state, OrderState::Unknown | OrderState::Returning)
        });
        let open: Vec<String> =
            open.map(|intent| format!("{} is {}", intent.id, intent.state)).collect();
        if counted != spent || !open.is_empty() {
            return Some(format!("{counted} counted, {spent} spent; {open:?}"));
        }
        self.orders_again()
    }

    /// If the limits leave room, the bot orders something once it is resumed.
    fn orders_again(&self) -> Option<String> {
        let has_room = self.market.look(|books| self.limits.has_room(books));
        let before = self.requests();
        let mut bot = self.start("", "60s");
        let began = Instant::now();
        while self.requests() == before && began.elapsed() < ORDERS_WITHIN {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bot.kill();
        let is_stuck = has_room && self.requests() == before;
        is_stuck.then(|| "the limits leave room, and nothing was ordered".to_owned())
    }
}

/// A bot that runs. It is killed when this is dropped.
pub(super) struct Running(Child);

impl Running {
    /// Waits for its end: `None`, it does not come; else its exit code, if it had one.
    pub(super) fn ended(&mut self) -> Option<Option<i32>> {
        self.ended_within(DEADLINE)
    }

    fn ended_within(&mut self, patience: Duration) -> Option<Option<i32>> {
        let began = Instant::now();
        while began.elapsed() < patience {
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
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
