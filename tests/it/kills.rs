//! The real program against the practice market, killed at every step of a buy and at any instant.
//! The market's own books are the truth.
//!
//! `SNIPER_TEST_KILLS` sets how many random kills there are; a few, unless somebody asks for more.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sniper::{
    ledger::{State, archive::Archive},
    money::Coins,
    sim::{Decision, Market, Rate, Settings},
};
use tempfile::TempDir;

/// The dearest thing that is bought.
const MAX_PRICE: i64 = 500;
/// How long anything here may take at most.
const DEADLINE: Duration = Duration::from_secs(30);

/// Everything that can go wrong with a buy and leave it unknown, and more.
const FAULTS: [&str; 10] = [
    "cut-before-commit:4%",
    "cut-after-commit:4%",
    "hang:2%",
    "5xx-after-commit:4%",
    "5xx-before-commit:4%",
    "half-body:4%",
    "doubled:4%",
    "late-rejection:8%",
    "slow:4%",
    "empty:4%",
];

/// A market, and a bot that is started on it again and again.
struct Rig {
    market: Market,
    desk: TempDir,
    total: i64,
}

impl Rig {
    /// A market whose every cheap listing is wanted, with this much to spend.
    fn new(seed: u64, total: i64) -> Self {
        let market = Market::start(Settings {
            rate: Rate::per_second(60),
            seed,
            balance: Coins::from_cents(10_000_000),
            faults: FAULTS.map(|fault| fault.parse().unwrap()).to_vec(),
            ..Settings::default()
        });
        let policy = format!(
            "[budget]\nmax_price = {MAX_PRICE}e-2\ntotal = {total}e-2\nmax_buys_per_minute = 3000\n\
             [reconnection]\ninitial_delay_ms = 250\n\
             [[whitelist]]\nname = \"cheap\"\nitem = \"*\"\nmax_price = {MAX_PRICE}e-2\n\
             max_markup_percent = 1000\nmax_quantity = 100000\n"
        );
        let policy = policy
            .replace(&format!("{MAX_PRICE}e-2"), &Coins::from_cents(MAX_PRICE).to_string())
            .replace(&format!("{total}e-2"), &Coins::from_cents(total).to_string());
        let desk = tempfile::tempdir().unwrap();
        fs::write(desk.path().join("sniper.toml"), policy).unwrap();
        Self { market: market.unwrap(), desk, total }
    }

    fn start(&self, crash: &str, lasting: &str) -> Running {
        let log = File::options().append(true).create(true).open(self.desk.path().join("log"));
        let log = log.unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sniper"))
            .args(["run", "--live", "--resume", "--for", lasting])
            .current_dir(self.desk.path())
            .env_clear()
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .env("CSGOROLL_WS_URL", self.market.ws_url())
            .env("CSGOROLL_HTTP_URL", self.market.http_url())
            .env("CSGOROLL_SESSION", self.market.session())
            .env("SNIPER_TEST_CRASH", crash)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Running(child.unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.desk.path().join("log")).unwrap()
    }

    fn requests(&self) -> usize {
        self.market.books().requests().count()
    }

    /// What must be true whenever one looks, the bot dead or alive.
    #[track_caller]
    fn check(&self) {
        // The books first: what the market has seen, the ledger must know.
        let books = self.market.books();
        let archive = Archive::open(&self.desk.path().join("data")).unwrap();
        archive.verify().unwrap();
        assert_eq!(books.doubled().count(), 0, "two requests for one listing");
        assert!(books.stray().is_empty());
        assert!(books.spent() <= Coins::from_cents(self.total), "over the limit");
        for (entry, request) in books.requests() {
            let intent = archive.book().intents().iter().find(|i| i.id.as_str() == entry.id);
            let intent = intent.expect("a request that the ledger does not know");
            if request.decision == Decision::Sold && intent.state != State::Returned {
                let purchase = entry.purchase.as_ref().unwrap();
                assert!(
                    intent.state.counts() || purchase.is_returned(),
                    "{} is {} and was sold to us",
                    entry.id,
                    intent.state
                );
            }
        }
        let snapshot_spent = archive
            .book()
            .intents()
            .iter()
            .filter(|intent| intent.state.counts())
            .fold(Coins::ZERO, |sum, intent| sum.saturating_add(intent.price));
        assert!(snapshot_spent <= Coins::from_cents(self.total), "over the limit by its own books");
    }

    /// Lets the bot run to its end, and checks that it knows what became of every purchase.
    fn finish(&self) {
        let mut last = self.start("", "4s");
        let ended = last.ended();
        assert_eq!(ended, Some(Some(0)), "{}", self.log());
        self.check();
        let books = self.market.books();
        let archive = Archive::open(&self.desk.path().join("data")).unwrap();
        assert!(books.purchases().count() > 0, "nothing was ever bought: {}", self.log());
        for (entry, _purchase) in books.purchases() {
            let intent = archive.book().intents().iter().find(|i| i.id.as_str() == entry.id);
            let state = intent.unwrap().state;
            let is_settled = matches!(state, State::Bought | State::Completed | State::Returned);
            // One that was bought in the last moments may still be unknown.
            assert!(is_settled || state == State::Unknown, "{} is {state}", entry.id);
        }
    }
}

struct Running(Child);

impl Running {
    /// Waits for its end: `None`, it does not come; else its exit code, if it had one.
    fn ended(&mut self) -> Option<Option<i32>> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.code());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    }

    fn kill(&mut self) {
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

#[test]
fn killed_at_each_step_of_a_buy_it_never_overspends_doubles_or_forgets() {
    let steps = [
        "decided",
        "recorded",
        "left",
        "left-recorded",
        "answered",
        "answered-recorded",
        "staged",
        "committed",
    ];
    let rig = Rig::new(11, 15_000);
    for (round, step) in steps.iter().enumerate() {
        let mut bot = rig.start(&format!("{step}:{}", 1 + round % 3), "30s");
        let ended = bot.ended().unwrap_or_else(|| panic!("{step}: {}", rig.log()));
        // It died by itself, by a signal where there are signals.
        assert_ne!(ended, Some(0), "{step}: {}", rig.log());
        rig.check();
    }
    rig.finish();
}

#[test]
fn killed_at_any_instant_it_never_overspends_doubles_or_forgets() {
    let asked = std::env::var("SNIPER_TEST_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills: u32 = asked.unwrap_or(5);
    let rig = Rig::new(12, 4_000 * i64::from(kills));
    let (mut overtaken, began) = (0, Instant::now());
    for kill in 0..kills {
        let mut bot = rig.start("", "30s");
        let before = rig.requests();
        // Not before it buys, if it still may, and then at any time within a third of a second.
        let patience = Instant::now() + Duration::from_secs(5);
        while rig.requests() == before && Instant::now() < patience {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let random = u64::from(kill).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        std::thread::park_timeout(Duration::from_micros(random % 300_000));
        bot.kill();
        overtaken += usize::from(rig.requests() > before);
        rig.check();
    }
    rig.finish();
    let books = rig.market.books();
    println!(
        "{kills} kills in {:.0?}, {overtaken} of them while buying: {} requests, {} purchases, \
         {} spent of {}; doubled {}, overspent 0.00",
        began.elapsed(),
        books.requests().count(),
        books.purchases().count(),
        books.spent(),
        Coins::from_cents(rig.total),
        books.doubled().count(),
    );
}
