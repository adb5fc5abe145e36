//! Bots as processes that share one budget in a real PostgreSQL: they are killed, their database is
//! killed, the disks of both are full for a while, and the connections between are cut, stalled,
//! slowed down and rejected. The books of their simulated markets decide: together the bots never
//! spend more than the total.
//!
//! `SNIPER_TEST_SHARED_BOTS` sets the number of bots (default: 4), and `SNIPER_TEST_SHARED_FAULTS`
//! the number of faults (default: 30).

mod proxy;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sniper::{
    domain::{money::Amount, trade::TradeId},
    ledger::{LedgerState, OrderState, reader::LedgerReader},
    sim::{Delivery, Fault, Rate, SimServer, SimSettings, random},
};
use tempfile::TempDir;

use self::proxy::{Proxy, Traffic};
use super::{
    database::{
        Server, USE_LOG, connect, disk::SmallDisk, server, server_on_small_disk, small_disk,
    },
    kills::{report, setting},
};

/// Number of bots of the group, and of faults, unless the environment sets another one.
const BOTS: u64 = 4;
const FAULTS_DEFAULT: u64 = 30;
/// Listings per second of all markets.
const LISTINGS: u32 = 80;
/// Size of the disk of a bot's data.
const DISK_MIB: u32 = 64;
/// Amount that each fault adds to the total, so that the budget never stays exhausted.
const TOTAL_STEP: i64 = 4_000;
/// Term of a role, in seconds.
const TERM_S: u64 = 5;
/// Faults of the markets, most of which leave an order unknown.
const MARKET_FAULTS: [&str; 4] =
    ["cut-after-commit:1%", "5xx-after-commit:1%", "half-body:1%", "slow:3%"];

/// A bot of the group with its market and its folder.
struct Bot {
    name: String,
    folder: TempDir,
    process: Option<Child>,
    /// File system of its data that the test can fill.
    disk: Option<SmallDisk>,
}

impl Bot {
    fn new(name: &str, standby: Option<&str>, total: Amount) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bot = Self { name: name.to_owned(), folder, process: None, disk: None };
        bot.write_settings(standby, total);
        bot
    }

    /// Gives its data a small disk, if this process may mount one.
    fn on_small_disk(mut self) -> Self {
        let data = self.folder.path().join("data");
        fs::create_dir(&data).unwrap();
        self.disk = small_disk(&data, DISK_MIB);
        self
    }

    fn write_settings(&self, standby: Option<&str>, total: Amount) {
        let standby = standby.map_or_else(String::new, |name| format!("standby = \"{name}\"\n"));
        let settings = format!(
            "[budget]\nmax_price = 5\ntotal = 100000\nmin_balance = 0\nmax_buys_per_minute = 3000\n\
             max_in_flight = 8\n[reconnection]\ninitial_delay_ms = 250\n\
             [shared]\ngroup = \"main\"\ntotal = {total}\nunit = \"coins\"\nmember = \"{}\"\n\
             term_s = {TERM_S}\n{standby}\
             [[whitelist]]\nname = \"cheap\"\nitem = \"*\"\nmax_price = 5\n\
             max_markup_percent = 1000\nmax_quantity = 100000\n",
            self.name
        );
        fs::write(self.folder.path().join("sniper.toml"), settings).unwrap();
    }

    fn command(&self, market: &SimServer, url: &str, args: &[&str]) -> Command {
        let log = File::options().append(true).create(true).open(self.folder.path().join("log"));
        let log = log.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(market.environment())
            .env("SNIPER_SHARED_URL", url)
            .env("SNIPER_DATA", "data")
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    #[track_caller]
    fn run(&self, market: &SimServer, url: &str, args: &[&str]) {
        let status = self.command(market, url, args).status().unwrap();
        assert!(status.success(), "{args:?}: {}", self.log());
    }

    fn start(&mut self, market: &SimServer, url: &str) {
        let args = ["run", "--live", "--resume"];
        self.process = Some(self.command(market, url, &args).spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Returns `true` if its process has ended by itself.
    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_some())
    }

    fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Stops the bot as a user does, and waits for its end.
    fn stop(&mut self) {
        if self.process.is_none() {
            return;
        }
        self.signal("-TERM");
        let mut process = self.process.take().unwrap();
        let began = Instant::now();
        while process.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Verifies the ledger. Returns the coins that it counts, and the listings of purchases that it
    /// does not count.
    fn counted(&self, market: &SimServer) -> (Amount, Vec<String>) {
        let reader = LedgerReader::open(&self.folder.path().join("data")).unwrap();
        reader.verify().unwrap();
        let state = reader.state();
        let is_counted = |id: &str| {
            let id = TradeId::new(id).unwrap();
            state.intent(&id).is_some_and(|intent| intent.state.counts())
        };
        let forgotten = market.with_history(|history| {
            let bought = history.purchases().filter(|(_, purchase)| !purchase.is_refunded());
            let ids = bought.map(|(listing, _)| listing.id.clone());
            ids.filter(|id| !is_counted(id)).collect()
        });
        (counted(state), forgotten)
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.kill();
        // Before the folder is removed.
        self.disk = None;
    }
}

fn counted(state: &LedgerState) -> Amount {
    let counting = state.intents().iter().filter(|intent| intent.state.counts());
    counting.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.price))
}

fn market(seed: u64, rate: u32) -> SimServer {
    SimServer::start(SimSettings {
        rate: Rate::per_second(rate),
        seed,
        balance: Amount::from_cents(1_000_000),
        faults: MARKET_FAULTS.iter().map(|text| text.parse::<Fault>().unwrap()).collect(),
        delivery: Delivery { fail_permille: 0, ..Delivery::default() },
        ..SimSettings::default()
    })
    .unwrap()
}

fn spent(markets: &[SimServer]) -> Amount {
    let spent = markets.iter().map(|market| market.with_history(|history| history.spent()));
    spent.fold(Amount::ZERO, Amount::saturating_add)
}

/// Address of the database through the proxy.
fn url(server: &Server, proxy: &Proxy) -> String {
    let direct = format!(":{}/", server.port);
    server.url("postgres").replace(&direct, &format!(":{}/", proxy.port))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GroupFault {
    KillBot,
    KillDatabase,
    Cut,
    Slow,
    Stall,
    Reject,
    /// The disk of a bot is full, and sometimes the bot is killed meanwhile.
    FullBot,
    FullDatabase,
    /// A bot is stopped by a signal, and continues with its connections.
    Suspend,
}

const GROUP_FAULTS: [GroupFault; 10] = [
    GroupFault::KillBot,
    GroupFault::KillBot,
    GroupFault::KillDatabase,
    GroupFault::Cut,
    GroupFault::Slow,
    GroupFault::Stall,
    GroupFault::Reject,
    GroupFault::FullBot,
    GroupFault::FullDatabase,
    GroupFault::Suspend,
];

struct Chaos {
    server: Server,
    proxy: Proxy,
    url: String,
    markets: Vec<SimServer>,
    bots: Vec<Bot>,
    total: Amount,
    rng: random::Rng,
    /// Number of faults of each kind.
    done: BTreeMap<GroupFault, u32>,
    /// Number of bots that ended by themselves.
    ended: u32,
}

impl Chaos {
    fn new(server: Server, seed: u64, count: u64) -> Self {
        let proxy = Proxy::start(server.port);
        let url = url(&server, &proxy);
        let total = Amount::from_cents(TOTAL_STEP);
        let rate = LISTINGS / u32::try_from(count).unwrap();
        let markets: Vec<SimServer> =
            (0..count).map(|number| market(seed + number, rate)).collect();
        let bot = |number| Bot::new(&format!("bot-{number}"), None, total).on_small_disk();
        let bots: Vec<Bot> = (0..count).map(bot).collect();
        bots[0].run(&markets[0], &url, &["shared", "init"]);
        let rng = random::stream(seed, 7);
        let (done, ended) = (BTreeMap::new(), 0);
        let mut chaos = Self { server, proxy, url, markets, bots, total, rng, done, ended };
        for number in 0..chaos.bots.len() {
            chaos.bots[number].start(&chaos.markets[number], &chaos.url);
        }
        chaos
    }

    /// Raises the total, while the database can be reached.
    fn raise_total(&mut self) {
        self.total = self.total.saturating_add(Amount::from_cents(TOTAL_STEP));
        self.bots[0].write_settings(None, self.total);
        self.bots[0].run(&self.markets[0], &self.url, &["shared", "set"]);
    }

    /// Watches the books for this time.
    #[track_caller]
    fn watch(&self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            let spent = spent(&self.markets);
            assert!(spent <= self.total, "{spent} spent of {}", self.total);
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn start(&mut self, number: usize) {
        self.bots[number].start(&self.markets[number], &self.url);
    }

    /// Starts the bots again that ended by themselves, as a supervisor does.
    fn start_ended(&mut self) {
        for number in 0..self.bots.len() {
            if self.bots[number].has_ended() {
                self.ended += 1;
                self.start(number);
            }
        }
    }

    fn fill_disk_of_bot(&mut self, time: Duration) {
        let number = self.rng.usize(..self.bots.len());
        let is_killed = self.rng.bool();
        self.bots[number].disk.as_ref().unwrap().fill();
        self.watch(time);
        if is_killed {
            self.bots[number].kill();
            // It cannot start before there is space.
            self.start(number);
            self.watch(time / 2);
        }
        self.bots[number].disk.as_ref().unwrap().free();
    }

    fn fill_disk_of_database(&mut self, time: Duration) {
        let url = self.server.url("postgres");
        self.server.disk.as_ref().unwrap().fill();
        let use_log = async {
            let client = connect(&url).await;
            while client.batch_execute(USE_LOG).await.is_ok() {}
        };
        tokio::runtime::Runtime::new().unwrap().block_on(use_log);
        self.watch(time);
        self.server.disk.as_ref().unwrap().free();
        self.server.recover();
        self.proxy.set_target(self.server.port);
    }

    /// Returns the fault with this number. Without the right to mount disks, those of disks are
    /// kills.
    fn fault(&self, number: u64) -> GroupFault {
        let index = usize::try_from(number).unwrap() % GROUP_FAULTS.len();
        match GROUP_FAULTS[index] {
            GroupFault::FullBot if self.bots[0].disk.is_none() => GroupFault::KillBot,
            GroupFault::FullDatabase if self.server.disk.is_none() => GroupFault::KillDatabase,
            fault => fault,
        }
    }

    fn apply(&mut self, fault: GroupFault) {
        *self.done.entry(fault).or_default() += 1;
        let time = Duration::from_millis(self.rng.u64(200..3_000));
        match fault {
            GroupFault::KillBot => {
                let number = self.rng.usize(..self.bots.len());
                self.bots[number].kill();
                self.watch(time / 2);
                self.start(number);
            }
            GroupFault::KillDatabase => {
                self.server.kill();
                self.watch(time);
                self.server.run();
                self.proxy.set_target(self.server.port);
            }
            GroupFault::Cut => self.proxy.cut(),
            GroupFault::Slow => self.disturb(Traffic::Slow, time),
            GroupFault::Stall => self.disturb(Traffic::Stalls, time),
            GroupFault::Reject => {
                self.proxy.cut();
                self.disturb(Traffic::Rejected, time);
            }
            GroupFault::FullBot => self.fill_disk_of_bot(time),
            GroupFault::FullDatabase => self.fill_disk_of_database(time),
            GroupFault::Suspend => {
                let number = self.rng.usize(..self.bots.len());
                self.bots[number].signal("-STOP");
                self.watch(time);
                self.bots[number].signal("-CONT");
            }
        }
    }

    fn disturb(&self, traffic: Traffic, time: Duration) {
        self.proxy.set(traffic);
        self.watch(time);
        self.proxy.set(Traffic::Passes);
    }
}

#[test]
fn bots_that_are_killed_with_their_database_never_spend_more_than_the_total_together() {
    let name = "bots_that_are_killed_with_their_database_never_spend_more_than_the_total_together";
    let Some(server) = server_on_small_disk(name) else { return };
    let faults = setting("SNIPER_TEST_SHARED_FAULTS").unwrap_or(FAULTS_DEFAULT);
    let bots = setting("SNIPER_TEST_SHARED_BOTS").unwrap_or(BOTS);
    let mut chaos = Chaos::new(server, 5, bots);
    let began = Instant::now();
    while spent(&chaos.markets) == Amount::ZERO {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", chaos.bots[0].log());
        chaos.watch(Duration::from_millis(100));
    }
    for number in 0..faults {
        chaos.apply(chaos.fault(number));
        chaos.start_ended();
        chaos.raise_total();
        chaos.watch(Duration::from_millis(500));
    }
    // Every bot reads its account and reconciles.
    chaos.start_ended();
    chaos.watch(Duration::from_secs(10));
    chaos.bots.iter_mut().for_each(Bot::stop);
    let all = spent(&chaos.markets);
    report(&format!(
        "shared budget: {bots} bots, {faults} faults {:?}, {all} spent of {}, {} connections to the \
         database, {} bots ended by themselves",
        chaos.done,
        chaos.total,
        chaos.proxy.accepted(),
        chaos.ended
    ));
    let half = Amount::from_thousandths(chaos.total.thousandths() / 2);
    assert!(half < all && all <= chaos.total, "{all} of {}", chaos.total);
    for (bot, market) in chaos.bots.iter().zip(&chaos.markets) {
        let (counted, forgotten) = bot.counted(market);
        let spent = market.with_history(|history| history.spent());
        assert!(spent <= counted, "{} forgot {spent} - {counted}: {}", bot.name, bot.log());
        assert_eq!(forgotten, Vec::<String>::new(), "{} forgot these: {}", bot.name, bot.log());
        assert_eq!(market.with_history(|history| history.ordered_twice().count()), 0);
    }
}

#[test]
fn a_standby_takes_over_within_the_term_and_orders_no_listing_a_second_time() {
    let name = "a_standby_takes_over_within_the_term_and_orders_no_listing_a_second_time";
    const TAKEOVERS: usize = 4;
    let Some(server) = server(name) else { return };
    let proxy = Proxy::start(server.port);
    let url = url(&server, &proxy);
    let market = market(9, 20);
    let total = Amount::from_cents(1_000_000);
    let mut bots = [0, 1].map(|number| Bot::new(&format!("bot-{number}"), Some("one"), total));
    bots[0].run(&market, &url, &["shared", "init"]);
    let orders = || market.with_history(|history| history.orders().count());
    let wait_for_order = |bot: &Bot, max: Duration| {
        let (before, began) = (orders(), Instant::now());
        while orders() == before {
            assert!(began.elapsed() < max, "no order within {max:?}: {}", bot.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        began.elapsed()
    };
    let takeovers = |bot: &Bot| bot.log().matches("Active now: ").count();
    bots[0].start(&market, &url);
    wait_for_order(&bots[0], Duration::from_secs(30));
    bots[1].start(&market, &url);
    let (mut slowest, mut latest, mut returned) = (Duration::ZERO, Duration::ZERO, 0);
    for number in 0..TAKEOVERS {
        // The other one is warm, and its account is read.
        std::thread::park_timeout(Duration::from_secs(8));
        let (active, standby) = (number % 2, (number + 1) % 2);
        let before = takeovers(&bots[standby]);
        assert_eq!(before, returned, "the bot that was active before stays a standby");
        // The last two are suspended instead of killed.
        let is_suspended = number >= 2;
        match is_suspended {
            true => bots[active].signal("-STOP"),
            false => bots[active].kill(),
        }
        let began = Instant::now();
        // An order that left before the kill may arrive after it.
        std::thread::park_timeout(Duration::from_millis(50));
        let orders_between = orders();
        while takeovers(&bots[standby]) == before {
            assert!(began.elapsed() < Duration::from_secs(30), "{}", bots[standby].log());
            assert_eq!(orders(), orders_between, "no member is active");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        slowest = slowest.max(began.elapsed());
        wait_for_order(&bots[standby], Duration::from_secs(10));
        latest = latest.max(began.elapsed());
        returned = takeovers(&bots[active]);
        match is_suspended {
            true => bots[active].signal("-CONT"),
            false => bots[active].start(&market, &url),
        }
    }
    bots.iter_mut().for_each(Bot::stop);
    report(&format!(
        "takeover: {TAKEOVERS} times, within {slowest:?}, with the first order after {latest:?}"
    ));
    assert!(slowest < Duration::from_secs(TERM_S + 2), "{slowest:?}");
    assert_eq!(market.with_history(|history| history.ordered_twice().count()), 0);
    for bot in &bots {
        let reader = LedgerReader::open(&bot.folder.path().join("data")).unwrap();
        let open = reader.state().intents().iter();
        let in_flight = open.filter(|intent| intent.state == OrderState::Reserved).count();
        assert!(in_flight <= 8, "{}", bot.log());
    }
}
