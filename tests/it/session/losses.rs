//! The program after the loss of its directory, its ledger or a thread, and next to a second bot.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    clock,
    domain::time::UnixMs,
    ledger::{HaltReason, reader::LedgerReader},
    sim::SimServer,
    threads::ThreadName,
};
use tempfile::TempDir;

use super::{AMPLE_LIMITS, quiet, redline, until};

/// Time for which listings are offered to a halted bot.
const OFFERED_FOR: Duration = Duration::from_secs(1);
/// Interval of further listings while a bot starts.
const RELIST_INTERVAL: Duration = Duration::from_millis(500);

/// A simulated market, and directories that outlive a bot.
struct Machine {
    market: SimServer,
    top: TempDir,
}

/// A running bot that is killed on drop.
struct Bot {
    child: Child,
    log_file: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("sniper.toml"), AMPLE_LIMITS).unwrap();
        Self { market: SimServer::start(quiet()).unwrap(), top }
    }

    fn data(&self) -> PathBuf {
        self.top.path().join("data")
    }

    fn command(&self, data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(args)
            .current_dir(self.top.path())
            .env_clear()
            .env("CSGOROLL_WS_URL", self.market.ws_url())
            .env("CSGOROLL_HTTP_URL", self.market.http_url())
            .env("CSGOROLL_SESSION", self.market.session())
            .env("SNIPER_DATA", data)
            .env("XDG_STATE_HOME", self.top.path().join("state"))
            .stdin(Stdio::null());
        command
    }

    fn start(&self, data: &Path, args: &[&str], thread_end: &str) -> Bot {
        let number = fs::read_dir(self.top.path()).unwrap().count();
        let log_file = self.top.path().join(format!("log-{number}"));
        let out = File::create(&log_file).unwrap();
        let args = [&["run", "--live"], args].concat();
        let mut command = self.command(data, &args);
        command.env("SNIPER_TEST_THREAD", thread_end);
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Bot { child, log_file }
    }

    /// Starts a bot and waits until it has bought a listing.
    async fn start_and_buy(&self, args: &[&str], thread_end: &str) -> Bot {
        let bot = self.start(&self.data(), args, thread_end);
        let (before, mut listed) = (self.bought(), None::<Instant>);
        until(|| {
            // A listing from before the account was read is bought after that. More of them would
            // use up the balance.
            if listed.is_none_or(|at| at.elapsed() > RELIST_INTERVAL) {
                self.market.list_items(vec![redline(1_015)]);
                listed = Some(Instant::now());
            }
            self.bought() > before
        })
        .await;
        bot
    }

    fn bought(&self) -> usize {
        self.market.history().purchases().count()
    }

    /// Runs a command. Returns its exit code and its output.
    fn run_command(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(&self.data(), args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    fn status(&self) -> Value {
        // The exit code depends on the health of the bot and is ignored here.
        let output = self.command(&self.data(), &["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Offers listings for [`OFFERED_FOR`]. Returns how many of them were bought. Orders for
    /// earlier ones may still be in flight.
    async fn count_purchases(&self) -> usize {
        let (mut offered, began) = (Vec::new(), Instant::now());
        until(|| {
            offered.extend(self.market.list_items(vec![redline(1_015)]));
            began.elapsed() > OFFERED_FOR
        })
        .await;
        let history = self.market.history();
        let purchases: Vec<&str> = history.purchases().map(|(entry, _)| &*entry.id).collect();
        offered.iter().filter(|id| purchases.contains(&id.as_str())).count()
    }

    fn halts(&self) -> Vec<HaltReason> {
        let state = self.top.path().join("state/sniper");
        let mut reader = LedgerReader::open_or_copy(&self.data(), Some(&state)).unwrap();
        let halts = reader.state_mut().snapshot(UnixMs(i64::MAX)).halts;
        halts.iter().map(|halt| halt.reason).collect()
    }
}

impl Bot {
    fn log(&self) -> String {
        fs::read_to_string(&self.log_file).unwrap()
    }

    async fn ended(&mut self) -> Option<i32> {
        until(|| self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        // The bot may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_deleted_directory_stops_orders_and_loses_nothing() {
    let machine = Machine::new();
    let mut bot = machine.start_and_buy(&[], "").await;
    fs::remove_dir_all(machine.data()).unwrap();
    let deleted = Instant::now();
    until(|| {
        assert!(deleted.elapsed() < Duration::from_secs(10), "{}", bot.log());
        machine.market.list_items(vec![redline(1_015)]);
        bot.log().contains("Ordering halted: the ledger's files were deleted")
    })
    .await;
    assert_eq!(machine.count_purchases().await, 0);
    let status = machine.status();
    assert_eq!((&status["mode"], &status["buying"]), (&"live".into(), &"halted".into()));
    assert!(status["halts"][0]["reason"].as_str().unwrap().contains("deleted"), "{status}");
    let (code, text) = machine.run_command(&["halt"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(machine.status()["halts"].as_array().unwrap().len(), 2);
    assert!(!machine.data().exists(), "the directory is not created again");

    bot.kill();
    let (code, text) = machine.run_command(&["ledger", "export"]);
    assert_eq!(code, Some(0), "{text}");
    for (entry, _purchase) in machine.market.history().purchases() {
        assert!(text.contains(&entry.id), "{} is forgotten: {text}", entry.id);
    }
    let mut next = machine.start(&machine.data(), &[], "");
    assert_eq!(next.ended().await, Some(73), "{}", next.log());
    assert!(next.log().contains("--new-ledger"), "{}", next.log());
}

/// Makes the data directory unusable for a bot that runs.
fn spoil(data: &Path, older: &Path, fault: &str) {
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            // The index of the log is mapped into memory.
            if entry.is_file() && !entry.ends_with("ledger.db-shm") {
                // In place, so that an existing file stays the same one.
                fs::write(to.join(entry.file_name().unwrap()), fs::read(&entry).unwrap()).unwrap();
            }
        }
    };
    match fault {
        "copied" => {
            fs::create_dir(older).unwrap();
            copy(data, older);
        }
        "deleted" => fs::remove_dir_all(data).unwrap(),
        "replaced" => {
            let away = older.with_extension("away");
            fs::rename(data, &away).unwrap();
            fs::create_dir(data).unwrap();
            copy(&away, data);
        }
        "restored" => copy(older, data),
        // Not even root can create the file of the test write where a directory exists.
        _ => while fs::create_dir(data.join("ledger.probe")).is_err() {},
    }
}

#[tokio::test]
async fn a_spoiled_directory_stops_orders_within_a_second_and_halt_and_status_still_work() {
    let all = ["deleted", "replaced", "restored", "unwritable"].map(async |fault| {
        let machine = Machine::new();
        let (data, older) = (machine.data(), machine.top.path().join("older"));
        let bot = machine.start_and_buy(&[], "").await;
        spoil(&data, &older, "copied");
        // The restored copy lacks this purchase.
        let sent = |log: &str| log.matches("BUY sent").count();
        let before = sent(&bot.log());
        until(|| {
            machine.market.list_items(vec![redline(1_015)]);
            sent(&bot.log()) > before
        })
        .await;
        spoil(&data, &older, fault);
        let spoiled = clock::wall();
        // How late a thread of this machine is when it wakes.
        let (mut delay, mut polled) = (Duration::ZERO, Instant::now());
        until(|| {
            delay = delay.max(polled.elapsed());
            polled = Instant::now();
            machine.market.list_items(vec![redline(1_015)]);
            bot.log().contains("Ordering halted")
        })
        .await;
        let log = bot.log();
        let time_of = |line: &str| UnixMs::parse(line.split(' ').next().unwrap());
        let halted = log.lines().find(|line| line.contains("Ordering halted")).unwrap();
        let limit = spoiled.plus(Duration::from_secs(1) + 2 * delay);
        assert!(time_of(halted) <= Some(limit), "{fault} at {spoiled}: {halted}");
        assert_eq!(machine.count_purchases().await, 0, "{fault}");
        for line in bot.log().lines().filter(|line| line.contains("BUY sent")) {
            assert!(time_of(line) <= Some(limit), "{fault} at {spoiled}: {line}");
        }
        assert_eq!(machine.status()["buying"], "halted", "{fault}");
        let (code, text) = machine.run_command(&["halt"]);
        assert_eq!(code, Some(0), "{fault}: {text}");
        assert_eq!(machine.status()["halts"].as_array().unwrap().len(), 2, "{fault}");
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_second_bot_exits_and_names_the_first_in_any_directory() {
    let machine = Machine::new();
    let first = machine.start_and_buy(&[], "").await;
    let other = machine.top.path().join("other");
    for (data, args) in [(machine.data(), "is in use by"), (other, "already trades for this")] {
        let mut second = machine.start(&data, &[], "");
        assert_eq!(second.ended().await, Some(73), "{}", second.log());
        let text = second.log();
        assert!(text.contains(args) && text.contains(&first.child.id().to_string()), "{text}");
        assert!(!text.contains("another folder") && !text.contains("--new-ledger"), "{text}");
    }
    let before = machine.bought();
    machine.market.list_items(vec![redline(1_015)]);
    until(|| machine.bought() > before).await;
    assert_eq!(machine.market.history().ordered_twice().count(), 0);
}

#[tokio::test]
async fn a_lost_ledger_is_replaced_only_on_request_and_counts_recent_purchases() {
    let machine = Machine::new();
    let policy = AMPLE_LIMITS.replace("total = 100000", "total = 30.00");
    fs::write(machine.top.path().join("sniper.toml"), policy).unwrap();
    machine.start_and_buy(&[], "").await.kill();
    fs::remove_dir_all(machine.data()).unwrap();
    let mut rejected = machine.start(&machine.data(), &[], "");
    assert_eq!(rejected.ended().await, Some(73), "{}", rejected.log());
    assert!(rejected.log().contains("start with --new-ledger"), "{}", rejected.log());
    // Of `total` 30.00, at least one purchase for 10.15 is counted.
    let before = machine.bought();
    assert!((1..=2).contains(&before), "{before}");
    let bot = machine.start(&machine.data(), &["--new-ledger"], "");
    until(|| bot.log().contains("Signed in")).await;
    until(|| {
        machine.market.list_items(vec![redline(1_015)]);
        bot.log().contains("would exceed total 30.00") && machine.bought() >= 2
    })
    .await;
    assert_eq!(machine.bought(), 2);
}

/// Threads that an order needs.
const ORDER_THREADS: [ThreadName; 7] = [
    ThreadName::Ledger,
    ThreadName::Files,
    ThreadName::Account,
    ThreadName::Control,
    ThreadName::Log,
    ThreadName::Recorder,
    ThreadName::Other,
];

/// Returns every other thread, except that of a shared budget, which has a test of its own.
fn other_threads() -> impl Iterator<Item = ThreadName> {
    let is_other = |thread: &ThreadName| !ORDER_THREADS.contains(thread);
    ThreadName::ALL.into_iter().filter(is_other).filter(|thread| *thread != ThreadName::Sharing)
}

/// The panic hook marks the thread. Only a thread that returns early needs its guard for that.
#[tokio::test]
async fn a_panicking_thread_stops_orders_and_is_named() {
    let all =
        ORDER_THREADS.map(async |thread| stops_without(&Machine::new(), thread, "panic").await);
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_thread_that_returns_early_stops_orders_and_is_named() {
    // The main thread has no early return.
    let threads = ORDER_THREADS.into_iter().filter(|thread| *thread != ThreadName::Other);
    let all = threads.map(async |thread| stops_without(&Machine::new(), thread, "return").await);
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_panicking_thread_that_no_order_needs_stops_orders_and_is_named() {
    stops_without_other_threads("panic").await;
}

#[tokio::test]
async fn a_thread_that_no_order_needs_and_returns_early_stops_orders_and_is_named() {
    stops_without_other_threads("return").await;
}

async fn stops_without_other_threads(end: &str) {
    let all = other_threads().map(async |thread| {
        let machine = Machine::new();
        let write = |name: &str, text: &str| fs::write(machine.top.path().join(name), text).unwrap();
        write("own.csv", "name,ask,bid,count\nFracture Case,1,1,40\n");
        write(".env", "ALERT_URL=http://127.0.0.1:9/api/webhooks/1/secret-token-of-the-thread-test\n");
        let settings = "[prices]\ncoin_usd = 1\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\n\
                        path = \"own.csv\"\nunit = \"usd\"\n\
                        [[alerts]]\nkind = \"discord\"\nurl_env = \"ALERT_URL\"\n\
                        [dashboard]\nlisten = \"127.0.0.1:0\"\n";
        write("sniper.toml", &format!("{AMPLE_LIMITS}{settings}"));
        stops_without(&machine, thread, end).await;
    });
    futures_util::future::join_all(all).await;
}

/// Loses a thread by a panic or an early return, and asserts that a halt names it and nothing is
/// ordered.
async fn stops_without(machine: &Machine, thread: ThreadName, end: &str) {
    let trigger = machine.top.path().join("trigger");
    let thread_end = format!("{thread}:{end}:{}", trigger.display());
    let bot = machine.start_and_buy(&["--record"], &thread_end).await;
    fs::write(&trigger, "").unwrap();
    if thread == ThreadName::Control {
        // This thread ends when it handles a request.
        let (code, text) = machine.run_command(&["status"]);
        assert_ne!(code, Some(0), "{text}");
    }
    if thread == ThreadName::Pauses {
        // This thread ends when it has something to store.
        let (code, text) = machine.run_command(&["whitelist", "pause", "redline"]);
        assert_eq!(code, Some(0), "{text}");
    }
    let is_named = |halt: &HaltReason| halt.to_string().contains(&format!("`{thread}`"));
    until(|| machine.halts().iter().any(is_named)).await;
    assert_eq!(machine.count_purchases().await, 0, "{thread}");
    let named = machine.halts().into_iter().filter(|halt| matches!(halt, HaltReason::Thread(_)));
    assert_eq!(named.count(), 1, "{thread}: one cause is one halt");
    fs::remove_file(&trigger).unwrap();
    // The ledger holds the lock, not the thread.
    let mut second = machine.start(&machine.data(), &[], "");
    assert_eq!(second.ended().await, Some(73), "{thread}: {}", second.log());
    drop(bot);
}

#[tokio::test]
async fn halt_works_with_a_long_directory_path() {
    let machine = Machine::new();
    let data = machine.top.path().join("a-long-name-".repeat(12)).join("data");
    let bot = machine.start(&data, &[], "");
    until(|| bot.log().contains("Signed in")).await;
    let halt = machine.command(&data, &["halt"]).output().unwrap();
    assert!(halt.status.success(), "{halt:?}");
    assert!(!bot.log().contains("cannot reach this bot"), "{}", bot.log());
    until(|| bot.log().contains("Ordering halted: requested by")).await;
}

#[tokio::test]
async fn a_directory_writable_by_others_is_rejected_with_the_command_to_fix_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let machine = Machine::new();
    fs::create_dir(machine.data()).unwrap();
    fs::set_permissions(machine.data(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut bot = machine.start(&machine.data(), &[], "");
    assert_eq!(bot.ended().await, Some(73));
    assert!(bot.log().contains("chmod go-w"), "{}", bot.log());
}

#[tokio::test]
async fn an_unwritable_account_mark_is_logged_once_and_the_bot_buys() {
    let machine = Machine::new();
    fs::write(machine.top.path().join("state"), "a file").unwrap();
    let bot = machine.start_and_buy(&[], "").await;
    until(|| bot.log().contains("Signed in")).await;
    let text = bot.log();
    assert_eq!(text.matches("may not be detected: ").count(), 1, "{text}");
}
