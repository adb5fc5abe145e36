//! The program when its directory, its ledger or one of its threads is lost, and beside another bot.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    domain::time::UnixMs,
    ledger::{HaltReason, reader::LedgerReader},
    sim::SimServer,
};
use tempfile::TempDir;

use super::{PLENTY, quiet, redline, until};

/// The longest time from a loss to the last order.
const STOPS_WITHIN: Duration = Duration::from_secs(1);

/// A user's machine: a market, and directories that outlive a bot.
struct Machine {
    market: SimServer,
    top: TempDir,
}

/// A bot that runs. It is killed if a test forgets to end it.
struct Bot {
    child: Child,
    said: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("sniper.toml"), PLENTY).unwrap();
        Self { market: SimServer::start(quiet()).unwrap(), top }
    }

    fn data(&self) -> PathBuf {
        self.top.path().join("data")
    }

    fn command(&self, data: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(words)
            .current_dir(self.top.path())
            .env_clear()
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .env("CSGOROLL_WS_URL", self.market.ws_url())
            .env("CSGOROLL_HTTP_URL", self.market.http_url())
            .env("CSGOROLL_SESSION", self.market.session())
            .env("SNIPER_DATA", data)
            .env("XDG_STATE_HOME", self.top.path().join("state"))
            .stdin(Stdio::null());
        command
    }

    fn start(&self, data: &Path, words: &[&str], panics: &str) -> Bot {
        let number = fs::read_dir(self.top.path()).unwrap().count();
        let said = self.top.path().join(format!("said-{number}"));
        let out = File::create(&said).unwrap();
        let words = [&["run", "--live"], words].concat();
        let mut command = self.command(data, &words);
        command.env("SNIPER_TEST_PANIC", panics);
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Bot { child, said }
    }

    /// A bot that has ordered once.
    async fn ordering(&self, words: &[&str], panics: &str) -> Bot {
        let bot = self.start(&self.data(), words, panics);
        let before = self.bought();
        until(|| {
            self.market.offer(vec![redline(1_015)]);
            self.bought() > before
        })
        .await;
        bot
    }

    fn bought(&self) -> usize {
        self.market.books().purchases().count()
    }

    /// What a command prints, and its exit code.
    fn ask(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.command(&self.data(), words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    fn status(&self) -> Value {
        // Its exit code says whether all is well.
        let output = self.command(&self.data(), &["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Offers listings for a while; returns how many were bought.
    async fn offers_taken(&self) -> usize {
        let (before, began) = (self.bought(), Instant::now());
        until(|| {
            self.market.offer(vec![redline(1_015)]);
            began.elapsed() > STOPS_WITHIN
        })
        .await;
        self.bought() - before
    }

    fn halts(&self) -> Vec<HaltReason> {
        let state = self.top.path().join("state/sniper");
        let mut archive = LedgerReader::open_or_copy(&self.data(), Some(&state)).unwrap();
        let halts = archive.book_mut().snapshot(UnixMs(i64::MAX)).halts;
        halts.iter().map(|halt| halt.reason).collect()
    }
}

impl Bot {
    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
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
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_deleted_directory_stops_orders_while_halt_and_status_still_work_and_nothing_is_forgotten()
 {
    let machine = Machine::new();
    let mut bot = machine.ordering(&[], "").await;
    fs::remove_dir_all(machine.data()).unwrap();
    let deleted = Instant::now();
    until(|| {
        assert!(deleted.elapsed() < Duration::from_secs(10), "{}", bot.said());
        machine.market.offer(vec![redline(1_015)]);
        bot.said().contains("BUYING STOPPED: the ledger's files were deleted")
    })
    .await;
    assert_eq!(machine.offers_taken().await, 0);
    let status = machine.status();
    assert_eq!((&status["mode"], &status["buying"]), (&"live".into(), &"halted".into()));
    assert!(status["halts"][0]["reason"].as_str().unwrap().contains("deleted"), "{status}");
    let (code, said) = machine.ask(&["halt"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(machine.status()["halts"].as_array().unwrap().len(), 2);
    assert!(!machine.data().exists(), "nothing is created in its place");

    bot.kill();
    let (code, said) = machine.ask(&["ledger", "export"]);
    assert_eq!(code, Some(0), "{said}");
    for (entry, _purchase) in machine.market.books().purchases() {
        assert!(said.contains(&entry.id), "{} is forgotten: {said}", entry.id);
    }
    let mut next = machine.start(&machine.data(), &[], "");
    assert_eq!(next.ended().await, Some(73), "{}", next.said());
    assert!(next.said().contains("--new-ledger"), "{}", next.said());
}

#[tokio::test]
async fn a_second_bot_exits_at_once_and_names_the_first_whatever_its_directory() {
    let machine = Machine::new();
    let first = machine.ordering(&[], "").await;
    let other = machine.top.path().join("other");
    for (data, words) in [(machine.data(), "is in use by"), (other, "already orders for this")] {
        let mut second = machine.start(&data, &[], "");
        assert_eq!(second.ended().await, Some(73), "{}", second.said());
        let said = second.said();
        assert!(said.contains(words) && said.contains(&first.child.id().to_string()), "{said}");
        assert!(!said.contains("another folder") && !said.contains("--new-ledger"), "{said}");
    }
    let before = machine.bought();
    machine.market.offer(vec![redline(1_015)]);
    until(|| machine.bought() > before).await;
    assert_eq!(machine.market.books().doubled().count(), 0);
}

#[tokio::test]
async fn a_lost_ledger_is_begun_anew_only_on_request_and_counts_the_purchases_of_a_day() {
    let machine = Machine::new();
    let policy = PLENTY.replace("total = 100000", "total = 30.00");
    fs::write(machine.top.path().join("sniper.toml"), policy).unwrap();
    machine.ordering(&[], "").await.kill();
    fs::remove_dir_all(machine.data()).unwrap();
    let mut refused = machine.start(&machine.data(), &[], "");
    assert_eq!(refused.ended().await, Some(73), "{}", refused.said());
    assert!(refused.said().contains("start with --new-ledger"), "{}", refused.said());
    // Of `total` 30.00, at least one purchase for 10.15 is counted.
    let before = machine.bought();
    assert!((1..=2).contains(&before), "{before}");
    let bot = machine.start(&machine.data(), &["--new-ledger"], "");
    until(|| bot.said().contains("Signed in")).await;
    until(|| {
        machine.market.offer(vec![redline(1_015)]);
        bot.said().contains("would exceed total 30.00")
    })
    .await;
    assert_eq!(machine.bought(), 2);
}

#[tokio::test]
async fn a_thread_that_panics_stops_orders_and_is_named() {
    let threads = ["ledger", "ledger-files", "account", "control", "log", "tape", "main"];
    let all = threads.map(async |thread| {
        let machine = Machine::new();
        let trigger = machine.top.path().join("trigger");
        let panics = format!("{thread}:{}", trigger.display());
        let bot = machine.ordering(&["--record"], &panics).await;
        fs::write(&trigger, "").unwrap();
        if thread == "control" {
            // It waits for a caller.
            let (code, said) = machine.ask(&["status"]);
            assert_ne!(code, Some(0), "{said}");
        }
        let is_named = |halt: &HaltReason| halt.to_string().contains(&format!("`{thread}`"));
        until(|| machine.halts().iter().any(is_named)).await;
        assert_eq!(machine.offers_taken().await, 0, "{thread}");
        assert_eq!(machine.halts().len(), 1, "{thread}: one cause is one halt");
        fs::remove_file(&trigger).unwrap();
        // The lock belongs to the ledger, and not to a thread.
        let mut second = machine.start(&machine.data(), &[], "");
        assert_eq!(second.ended().await, Some(73), "{thread}: {}", second.said());
        drop(bot);
    });
    futures_util::future::join_all(all).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_long_path_of_the_directory_is_no_obstacle_to_halt() {
    let machine = Machine::new();
    let data = machine.top.path().join("a-long-name-".repeat(12)).join("data");
    let bot = machine.start(&data, &[], "");
    until(|| bot.said().contains("Signed in")).await;
    let halt = machine.command(&data, &["halt"]).output().unwrap();
    assert!(halt.status.success(), "{halt:?}");
    assert!(!bot.said().contains("cannot reach this bot"), "{}", bot.said());
    until(|| bot.said().contains("BUYING STOPPED by")).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_others_may_write_is_refused_with_the_command_to_run() {
    use std::os::unix::fs::PermissionsExt as _;

    let machine = Machine::new();
    fs::create_dir(machine.data()).unwrap();
    fs::set_permissions(machine.data(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut bot = machine.start(&machine.data(), &[], "");
    assert_eq!(bot.ended().await, Some(73));
    assert!(bot.said().contains("chmod go-w"), "{}", bot.said());
}

#[tokio::test]
async fn where_no_mark_can_be_written_one_line_says_so_and_the_bot_buys() {
    let machine = Machine::new();
    fs::write(machine.top.path().join("state"), "a file").unwrap();
    let bot = machine.ordering(&[], "").await;
    until(|| bot.said().contains("Signed in")).await;
    let said = bot.said();
    assert_eq!(said.matches("The account's mark cannot be written").count(), 1, "{said}");
}
