//! The program itself at a market: its signals, its exit codes, and all that it prints and writes.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    sim::{Fault, ListedItem, SimServer, SimSettings, faults::FaultKind},
    text::is_harmless,
};
use tempfile::TempDir;

use super::{PLENTY, REDLINE, adds_up, agree_on, cents, quiet, redline, until};

/// What must be seen nowhere.
const PLANTED: &str = "s%3Aplanted-9f27c4";

/// A running program, its folder, and what it has said. It is ended if a test forgets to.
pub(super) struct Program {
    pub(super) child: Child,
    pub(super) desk: TempDir,
    said: TempDir,
}

impl Program {
    /// Starts the program with these words, in a folder of its own with these settings.
    pub(super) fn start(market: &SimServer, policy: &str, words: &[&str]) -> Self {
        let desk = tempfile::tempdir().unwrap();
        fs::write(desk.path().join("sniper.toml"), policy).unwrap();
        let dotenv = format!(
            "CSGOROLL_WS_URL={}\nCSGOROLL_HTTP_URL={}\nCSGOROLL_SESSION={}\n",
            market.ws_url(),
            market.http_url(),
            market.session()
        );
        fs::write(desk.path().join(".env"), dotenv).unwrap();
        Self::at(desk, words, "info")
    }

    /// Starts the program in this folder.
    fn at(desk: TempDir, words: &[&str], log: &str) -> Self {
        let said = tempfile::tempdir().unwrap();
        let file = |name: &str| Stdio::from(File::create(said.path().join(name)).unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_sniper"))
            .args(words)
            .current_dir(desk.path())
            .env_clear()
            // Without it, Windows has no sockets.
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .env("RUST_LOG", log)
            // Nothing is written to the home directory of whoever tests.
            .env("XDG_STATE_HOME", desk.path().join("state"))
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, desk, said }
    }

    pub(super) fn out(&self) -> String {
        fs::read_to_string(self.said.path().join("out")).unwrap()
    }

    pub(super) fn err(&self) -> String {
        fs::read_to_string(self.said.path().join("err")).unwrap()
    }

    #[cfg(unix)]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    #[cfg(unix)]
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for its end; its exit code.
    pub(super) async fn ended(&mut self) -> Option<i32> {
        until(|| self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }

    /// The JSON object that is the last line of its output.
    #[track_caller]
    pub(super) fn summary(&self) -> Value {
        let out = self.out();
        serde_json::from_str(out.lines().last().unwrap_or_default()).expect(&out)
    }

    /// Everything that it has printed and written, but for the settings that it was given.
    fn everything(&self) -> String {
        fn read(folder: &Path, seen: &mut String) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, seen);
                } else if path.is_file() && !path.ends_with(".env") {
                    seen.push_str(&path.display().to_string());
                    seen.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
                }
            }
        }
        let mut seen = String::new();
        read(self.said.path(), &mut seen);
        read(self.desk.path(), &mut seen);
        seen
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until the program is subscribed and knows the account.
#[track_caller]
pub(super) fn ready(program: &Program, market: &SimServer) -> impl Future<Output = ()> {
    until(|| {
        // The account, what it bought, and nine connections: eight for buys and the feed's.
        let visits = market.visits();
        assert!(visits.feeds <= 1 || !program.err().is_empty());
        visits.feeds_subscribed == 1 && visits.requests >= 2 && visits.connections >= 10
    })
}

fn failing(kind: FaultKind) -> SimServer {
    SimServer::start(SimSettings { faults: vec![Fault::always(kind)], ..quiet() }).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_waits_for_an_answer_that_comes_and_for_ten_seconds_where_none_does() {
    let cases =
        [("-TERM", FaultKind::Slow, "told to terminate"), ("-INT", FaultKind::Hang, "Ctrl-C")];
    let all = cases.map(async |(signal, kind, ended)| {
        let market = failing(kind);
        let mut program = Program::start(&market, PLENTY, &["run", "--live", "--json"]);
        ready(&program, &market).await;
        until(|| {
            market.offer(vec![redline(1_015)]);
            market.books().requests().count() > 0
        })
        .await;
        program.signal(signal);
        let signalled = Instant::now();
        market.offer(vec![redline(1_015)]);
        assert_eq!(program.ended().await, Some(0), "{}", program.err());
        let (waited, summary) = (signalled.elapsed(), program.summary());
        assert_eq!(summary["ended"], ended);
        // SQLite removes its write-ahead log when the last connection is closed.
        let data = program.desk.path().join("data");
        assert!(data.join("ledger.db").exists());
        assert!(!data.join("ledger.db-wal").exists(), "the ledger was not closed in order");
        agree_on(&summary, &market);
        assert!(program.err().contains("waiting up to 10 s for "), "{}", program.err());
        match kind {
            FaultKind::Slow => {
                assert!(summary["bought"].as_u64() > Some(0), "{summary}");
                assert_eq!(summary["unknown"], 0);
                assert!(waited < Duration::from_secs(9), "{waited:?}");
            }
            _ => {
                assert!(summary["unknown"].as_u64() > Some(0), "{summary}");
                assert!(waited > Duration::from_secs(7), "{waited:?}");
                assert!(waited < Duration::from_secs(14), "{waited:?}");
            }
        }
    });
    futures_util::future::join_all(all).await;
}

/// Coins for one order of 10.15 and no other.
#[cfg(unix)]
fn one_order() -> String {
    PLENTY.replace("total = 100000", "total = 15")
}

/// One order is in flight and its answer never comes.
#[cfg(unix)]
async fn waiting_for_an_answer(market: &SimServer, words: &[&str]) -> Program {
    let program = Program::start(market, &one_order(), words);
    ready(&program, market).await;
    until(|| {
        if market.books().requests().count() == 0 {
            market.offer(vec![redline(1_015)]);
        }
        market.books().requests().count() > 0
    })
    .await;
    program
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_the_wait_and_names_what_is_unresolved() {
    let cases = [("-INT", 130, "Ctrl-C"), ("-TERM", 143, "told to terminate")];
    let all = cases.map(async |(signal, code, why)| {
        let market = failing(FaultKind::Hang);
        let mut program = waiting_for_an_answer(&market, &["run", "--live", "--json"]).await;
        program.signal(signal);
        until(|| program.err().contains("waiting up to 10 s for 1 order in flight; ")).await;
        let signalled = Instant::now();
        program.signal(signal);
        assert_eq!(program.ended().await, Some(code), "{}", program.err());
        assert!(signalled.elapsed() < Duration::from_secs(2), "{:?}", signalled.elapsed());
        let said = program.err();
        let id = market.books().requests().next().unwrap().0.id.clone();
        let line = format!(
            "sniper: Quit at once (second signal: {why}). 1 order has no answer: \"{REDLINE}\" for \
             10.15 (id {id}); 10.15 coins in all. They count as spent until the account shows what \
             became of them."
        );
        assert_eq!(said.lines().last(), Some(line.as_str()), "{said}");
        // It was not lost: the ledger holds it.
        let desk = std::mem::replace(&mut program.desk, tempfile::tempdir().unwrap());
        let mut ledger = Program::at(desk, &["ledger", "show", &id], "info");
        assert_eq!(ledger.ended().await, Some(0), "{}", ledger.err());
        assert!(ledger.out().contains("10.15"), "{}", ledger.out());
    });
    futures_util::future::join_all(all).await;
}

/// The reader goes away while an answer is waited for, as in `sniper run --live | head`.
#[cfg(unix)]
#[tokio::test]
async fn a_live_bot_whose_reader_goes_away_waits_for_answers_and_exits_with_74() {
    let market = failing(FaultKind::Slow);
    let prepared = Program::start(&market, &one_order(), &["check"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["run", "--live"])
        .current_dir(prepared.desk.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| {
        if market.visits().feeds_subscribed == 1 && market.books().requests().count() == 0 {
            market.offer(vec![redline(1_015)]);
        }
        market.books().requests().count() > 0
    })
    .await;
    drop(reader);
    until(|| child.try_wait().unwrap().is_some()).await;
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.starts_with("sniper: the reader of the log has gone: stopping as on "), "{said}");
    assert!(said.contains("1  bought, for 10.15 coins"), "its answer was waited for: {said}");
}

#[tokio::test]
async fn below_its_floor_the_program_ends_cleanly() {
    let market = SimServer::start(SimSettings { balance: cents(499), ..quiet() }).unwrap();
    let policy = PLENTY.replace("min_balance = 0", "min_balance = 5");
    let mut program = Program::start(&market, &policy, &["--live"]);
    assert_eq!(program.ended().await, Some(0));
    let said = program.out();
    assert!(said.contains("and ended: the balance is below min_balance."), "{said}");
    assert!(said.contains("Balance: 4.99 coins."), "{said}");
    assert_eq!(program.err(), "");
}

/// What a person sees of a run, from its first line to its last.
#[tokio::test]
async fn a_run_tells_its_story_in_lines() {
    let market = SimServer::start(quiet()).unwrap();
    let words = ["run", "--live", "--for", "4s"];
    let mut program = Program::start(&market, PLENTY, &words);
    ready(&program, &market).await;
    until(|| program.out().contains("Signed in: ")).await;
    until(|| {
        market.offer(vec![redline(1_015)]);
        market.books().purchases().count() > 0
    })
    .await;
    assert_eq!(program.ended().await, Some(0));
    let said = program.out();
    let mut rest = said.as_str();
    for line in [
        "Mode: LIVE on a market on this machine",
        "Feed: ws://127.0.0.1:",
        "Whitelist: 1 ent",
        "Limits: 1000.00 a buy",
        "Signed in: balance 500.00; the server's clock is known to ",
        "[match] buying for \"redline\", asked in ",
        "[buy] BOUGHT \"AK-47 | Redline (Field-Tested)\" for 10.15",
        "and ended: the 4s of --for are over.",
        "bought, for ",
        "Speed:   from listing received to buy sent ",
        "Balance: ",
        "Feed:    0 reconnects, 0 gaps, 0 errors.",
    ] {
        let (_, after) = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?} in {said}"));
        rest = after;
    }
}

/// A name with everything in it that could repaint a terminal, forge a line or turn a text around.
const EVIL: &str = "AK-47 | \u{1b}[2J\u{1b}]0;owned\u{7}\r\n2026 INFO [buy] BOUGHT \u{9b}31m\u{202e}\u{200b} \"Redline\\ (Field-Tested)";

#[tokio::test]
async fn what_could_repaint_a_terminal_is_harmless_in_every_output() {
    let policy = PLENTY.replace("item = \"AK-47 | Redline\"", "item = \"*\"");
    let words = [&["run", "--live", "--for", "3s"][..], &["--live", "--for", "3s", "--json"]];
    let all = words.map(async |words| {
        let market = SimServer::start(quiet()).unwrap();
        let session = Program::start(&market, &policy, &["check"]);
        let desk = tempfile::tempdir().unwrap();
        for name in [".env", "sniper.toml"] {
            fs::copy(session.desk.path().join(name), desk.path().join(name)).unwrap();
        }
        let mut program = Program::at(desk, words, "trace");
        until(|| market.visits().feeds_subscribed == 1).await;
        market.say(&format!("\"{EVIL}\u{1b}"));
        market.close_feeds(4_999, "\u{1b}[2J");
        until(|| {
            market.offer(vec![ListedItem::plain(EVIL, cents(100), cents(100))]);
            market.books().purchases().count() > 0
        })
        .await;
        assert_eq!(program.ended().await, Some(0));
        for said in [program.out(), program.err()] {
            let evil: Vec<char> =
                said.chars().filter(|char| *char != '\n' && !is_harmless(*char)).collect();
            assert!(evil.is_empty(), "{words:?}: {evil:?}");
            let forged = said.lines().filter(|line| line.starts_with("2026 INFO")).count();
            assert_eq!(forged, 0);
        }
        let said = program.out() + &program.err();
        assert!(said.contains("BOUGHT \"AK-47 | \\u{1b}[2J\\u{1b}]0;owned\\u{7}"), "{said}");
        if words.contains(&"--json") {
            assert_eq!(program.summary()["purchases"][0]["item"], EVIL, "the text is the same");
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_planted_secret_is_nowhere_whatever_the_market_does() {
    let all = [FaultKind::Doubled, FaultKind::Unauthenticated, FaultKind::CutAfterCommit].map(
        async |kind| {
            let market = failing(kind);
            market.replace_session(PLANTED);
            let words = ["run", "--live", "--for", "4s"];
            let first = Program::start(&market, PLENTY, &["check", "--live"]);
            let desk = tempfile::tempdir().unwrap();
            let dotenv = fs::read_to_string(first.desk.path().join(".env")).unwrap();
            assert!(dotenv.contains(PLANTED));
            let cookie = format!("CSGOROLL_COOKIE='cf_clearance={PLANTED}; session={PLANTED}'\n");
            fs::write(desk.path().join(".env"), dotenv + &cookie).unwrap();
            fs::write(desk.path().join("sniper.toml"), PLENTY).unwrap();
            let mut program = Program::at(desk, &words, "trace");
            until(|| {
                market.offer(vec![redline(1_015)]);
                market.books().requests().count() > 0
            })
            .await;
            market.replace_session("somebody else's");
            market.close_feeds(4_403, "Forbidden");
            assert_eq!(program.ended().await, Some(0), "{}", program.out());
            let mut seen = first.everything() + &program.everything();
            assert!(seen.contains("[match] buying"), "{seen}");
            for words in [&["status"][..], &["ledger", "show"], &["ledger", "verify"], &["check"]] {
                let desk = std::mem::replace(&mut program.desk, tempfile::tempdir().unwrap());
                program = Program::at(desk, words, "trace");
                program.ended().await;
                seen += &program.everything();
            }
            for secret in ["planted", "9f27c4"] {
                assert!(!seen.contains(secret), "{kind}");
            }
        },
    );
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn every_command_ends_with_one_object_where_that_is_wanted() {
    let commands: [&[&str]; 6] = [
        &["run", "--live", "--for", "2s"],
        &["--for", "200ms"],
        &["demo", "--for", "4s", "--rate", "60", "--seed", "11"],
        &["sim", "--listen", "127.0.0.1:0", "--for", "200ms"],
        &["check"],
        &["check", "--live"],
    ];
    let all = commands.map(async |words| {
        let market = SimServer::start(quiet()).unwrap();
        let mut program = Program::start(&market, PLENTY, &[words, &["--json"]].concat());
        assert_eq!(program.ended().await, Some(0), "{words:?}: {}", program.err());
        let summary = program.summary();
        assert!(summary.is_object(), "{words:?}: {summary}");
        match words[0] {
            "check" => {}
            "demo" => agrees_with_its_market(&summary, &program, &market),
            _ => has_every_field(&summary),
        }
    });
    futures_util::future::join_all(all).await;
}

#[track_caller]
fn has_every_field(summary: &Value) {
    let numbers = "seconds listings matched bought refused unknown skipped reconnects gaps errors";
    for key in numbers.split(' ') {
        assert!(summary[key].is_number(), "{key} in {summary}");
    }
    for key in ["count", "p50", "p90", "p99", "max"] {
        assert!(summary["latency_us"].get(key).is_some(), "{key} in {summary}");
    }
    assert!(summary["mode"].is_string() && summary["spent"].is_string(), "{summary}");
    assert!(summary["balance"].is_string() || summary["balance"].is_null(), "{summary}");
    if summary["mode"] != "sim" {
        adds_up(summary);
    }
}

#[track_caller]
fn agrees_with_its_market(summary: &Value, program: &Program, elsewhere: &SimServer) {
    has_every_field(summary);
    let books = &summary["market"];
    assert_eq!(summary["mode"], "demo");
    assert!(summary["bought"].as_u64() > Some(0), "{summary}");
    assert_eq!((&summary["bought"], &books["asked_twice"]), (&books["sold"], &0.into()));
    assert_eq!(elsewhere.visits().connections, 0, "a demo has a market of its own");
    let left: Vec<_> = fs::read_dir(program.desk.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "it leaves nothing behind: {left:?}");
}
