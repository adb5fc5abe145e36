//! The binary at the simulated market: signals, exit codes, output and files.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    sim::{Fault, ListedItem, SimServer, SimSettings, faults::FaultKind},
    text::is_safe_to_print,
};

use super::{
    AMPLE_LIMITS, REDLINE, assert_adds_up, cents,
    process::{Program, ready},
    quiet, redline, until,
};

/// Credential that must not appear in any output.
const PLANTED: &str = "s%3Aplanted-9f27c4";

fn failing(kind: FaultKind) -> SimServer {
    SimServer::start(SimSettings { faults: vec![Fault::always(kind)], ..quiet() }).unwrap()
}

/// Returns settings whose `total` allows only one order of 10.15.
fn one_order() -> String {
    AMPLE_LIMITS.replace("total = 100000", "total = 15")
}

/// Starts a program and waits until one order is in flight.
async fn start_with_order_in_flight(market: &SimServer, args: &[&str]) -> Program {
    let program = Program::start(market, &one_order(), args);
    ready(&program, market).await;
    until(|| {
        if market.history().orders().count() == 0 {
            market.list_items(vec![redline(1_015)]);
        }
        market.history().orders().count() > 0
    })
    .await;
    program
}

#[tokio::test]
async fn a_second_signal_ends_the_wait_and_names_unresolved_orders() {
    let cases = [("-INT", 130, "Ctrl-C"), ("-TERM", 143, "SIGTERM")];
    let all = cases.map(async |(signal, code, reason)| {
        let market = failing(FaultKind::Hang);
        let mut program = start_with_order_in_flight(&market, &["run", "--live", "--json"]).await;
        program.signal(signal);
        until(|| program.err().contains("waiting up to 10 s for 1 order in flight; ")).await;
        let signaled = Instant::now();
        program.signal(signal);
        assert_eq!(program.ended().await, Some(code), "{}", program.err());
        assert!(signaled.elapsed() < Duration::from_secs(8), "{:?}", signaled.elapsed());
        let text = program.err();
        let id = market.history().orders().next().unwrap().0.id.clone();
        let line = format!(
            "sniper: Quit immediately (second signal: {reason}). 1 order has no response: 10.15 \"{REDLINE}\" \
             (id {id}); 10.15 coins in total. They count as spent until your account shows the \
             result."
        );
        assert_eq!(text.lines().last(), Some(line.as_str()), "{text}");
        // The order is in the ledger.
        let directory = std::mem::replace(&mut program.directory, tempfile::tempdir().unwrap());
        let mut ledger = Program::at(directory, &["ledger", "show", &id], "info");
        assert_eq!(ledger.ended().await, Some(0), "{}", ledger.err());
        assert!(ledger.out().contains("10.15"), "{}", ledger.out());
    });
    futures_util::future::join_all(all).await;
}

/// Without a terminal, SIGHUP asks for a reload and is no second signal. It is sent for longer than
/// the time in which a second signal counts as an echo of the first.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn sighup_during_the_shutdown_of_a_service_is_ignored_and_the_response_is_awaited() {
    let market = failing(FaultKind::Slow);
    let mut program = start_with_order_in_flight(&market, &["run", "--live", "--json"]).await;
    program.signal("-TERM");
    until(|| {
        program.signal("-HUP");
        program.child.try_wait().unwrap().is_some()
    })
    .await;
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    assert_eq!(program.summary()["bought"], 1, "{}", program.err());
    assert!(program.err().contains("SIGHUP ignored: the program is stopping"), "{}", program.err());
}

/// Standard output closes while an order is in flight, as in `sniper run --live | head`.
#[tokio::test]
async fn a_live_bot_with_a_closed_stdout_waits_for_responses_and_exits_with_74() {
    let market = failing(FaultKind::Slow);
    let prepared = Program::start(&market, &one_order(), &["check"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["run", "--live"])
        .current_dir(prepared.directory.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| {
        if market.stats().feeds_subscribed == 1 && market.history().orders().count() == 0 {
            market.list_items(vec![redline(1_015)]);
        }
        market.history().orders().count() > 0
    })
    .await;
    drop(reader);
    until(|| child.try_wait().unwrap().is_some()).await;
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{text}");
    assert!(text.starts_with("sniper: the log output was closed: stopping as on "), "{text}");
    assert!(text.contains("1  bought for 10.15 coins"), "the answer was awaited: {text}");
}

#[tokio::test]
async fn a_balance_below_min_balance_ends_the_program_cleanly() {
    let market = SimServer::start(SimSettings { balance: cents(499), ..quiet() }).unwrap();
    let policy = AMPLE_LIMITS.replace("min_balance = 0", "min_balance = 5");
    let mut program = Program::start(&market, &policy, &["--live"]);
    assert_eq!(program.ended().await, Some(0));
    let text = program.out();
    assert!(
        text.contains(
            "Stopped: balance 4.99 below min_balance 5.00; deposit, then start the bot again."
        ),
        "{text}"
    );
    assert!(text.contains("Balance: about 4.99 coins"), "{text}");
    assert_eq!(program.err(), "");
}

/// Checks the log of a run, from its first line to the summary.
#[tokio::test]
async fn a_run_logs_its_main_events_in_order() {
    let market = SimServer::start(quiet()).unwrap();
    let mut program = Program::start(&market, &one_order(), &["run", "--live"]);
    ready(&program, &market).await;
    until(|| program.out().contains("Signed in: ")).await;
    until(|| {
        market.list_items(vec![redline(1_015)]);
        program.out().contains("BOUGHT ")
    })
    .await;
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0));
    let text = program.out();
    let mut rest = text.as_str();
    for line in [
        "Mode: LIVE (local market, play money)",
        "Feed: ws://127.0.0.1:",
        "Whitelist: 1 ent",
        "Limits: 1000.00 per item",
        "Signed in: practice, balance 500.00 coins (server clock known to within ",
        "BUY sent     10.15  AK-47 | Redline (FT)  float ",
        "  limit ",
        "  [redline]  ",
        "BOUGHT       10.15  AK-47 | Redline (FT)  (total 10.15 of ",
        "Stopped: SIGTERM.",
        "bought for ",
        "Latency: receive-to-order p50 ",
        "Balance: ",
        "Feed:    received 100.0 % of the time, 0 reconnects\n",
    ] {
        let (_, after) = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?} in {text}"));
        rest = after;
    }
}

/// Item name with terminal escapes, a forged log line, and bidi and zero-width characters.
const EVIL: &str = "AK-47 | \u{1b}[2J\u{1b}]0;owned\u{7}\r\n2026 INFO BOUGHT \u{9b}31m\u{202e}\u{200b} \"Redline\\ (Field-Tested)";

#[tokio::test]
async fn terminal_control_characters_are_escaped_in_every_output() {
    let policy = AMPLE_LIMITS.replace("item = \"AK-47 | Redline\"", "item = \"*\"");
    let args = [&["run", "--live"][..], &["--live", "--json"]];
    let all = args.map(async |args| {
        let market = SimServer::start(quiet()).unwrap();
        let session = Program::start(&market, &policy, &["check"]);
        let directory = tempfile::tempdir().unwrap();
        for name in [".env", "sniper.toml"] {
            fs::copy(session.directory.path().join(name), directory.path().join(name)).unwrap();
        }
        let mut program = Program::at(directory, args, "trace");
        until(|| market.stats().feeds_subscribed == 1).await;
        market.send_raw(&format!("\"{EVIL}\u{1b}"));
        market.close_feeds(4_999, "\u{1b}[2J");
        until(|| {
            market.list_items(vec![ListedItem::plain(EVIL, cents(100), cents(100))]);
            (program.out() + &program.err()).contains(" BOUGHT        1.00  ")
        })
        .await;
        program.signal("-TERM");
        assert_eq!(program.ended().await, Some(0));
        for text in [program.out(), program.err()] {
            let evil: Vec<char> =
                text.chars().filter(|char| *char != '\n' && !is_safe_to_print(*char)).collect();
            assert!(evil.is_empty(), "{args:?}: {evil:?}");
            let forged = text.lines().filter(|line| line.starts_with("2026 INFO")).count();
            assert_eq!(forged, 0);
        }
        let text = program.out() + &program.err();
        assert!(
            text.contains("BOUGHT        1.00  AK-47 | \\u{1b}[2J\\u{1b}]0;owned\\u{7}"),
            "{text}"
        );
        if args.contains(&"--json") {
            assert_eq!(program.summary()["purchases"][0]["item"], EVIL, "the text is the same");
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn no_output_contains_the_credential_under_any_fault() {
    let all = [FaultKind::Doubled, FaultKind::Unauthenticated, FaultKind::CutAfterCommit].map(
        async |kind| {
            let market = failing(kind);
            market.replace_session(PLANTED);
            let args = ["run", "--live", "--for", "4s"];
            let first = Program::start(&market, AMPLE_LIMITS, &["check", "--live"]);
            let directory = tempfile::tempdir().unwrap();
            let dotenv = fs::read_to_string(first.directory.path().join(".env")).unwrap();
            assert!(dotenv.contains(PLANTED));
            let cookie = format!("CSGOROLL_COOKIE='cf_clearance={PLANTED}; session={PLANTED}'\n");
            fs::write(directory.path().join(".env"), dotenv + &cookie).unwrap();
            fs::write(directory.path().join("sniper.toml"), AMPLE_LIMITS).unwrap();
            let mut program = Program::at(directory, &args, "trace");
            until(|| {
                market.list_items(vec![redline(1_015)]);
                market.history().orders().count() > 0
            })
            .await;
            market.replace_session("another-session");
            market.close_feeds(4_403, "Forbidden");
            assert_eq!(program.ended().await, Some(0), "{}", program.out());
            let mut seen = first.all_output() + &program.all_output();
            assert!(seen.contains("BUY sent "), "{seen}");
            for args in [&["status"][..], &["ledger", "show"], &["ledger", "verify"], &["check"]] {
                let directory =
                    std::mem::replace(&mut program.directory, tempfile::tempdir().unwrap());
                program = Program::at(directory, args, "trace");
                program.ended().await;
                seen += &program.all_output();
            }
            for secret in ["planted", "9f27c4"] {
                assert!(!seen.contains(secret), "{kind}");
            }
        },
    );
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn with_json_every_command_ends_with_one_object() {
    let commands: [&[&str]; 6] = [
        &["run", "--live", "--for", "2s"],
        &["--for", "200ms"],
        &["demo", "--for", "6s", "--rate", "60", "--seed", "11"],
        &["sim", "--listen", "127.0.0.1:0", "--for", "200ms"],
        &["check"],
        &["check", "--live"],
    ];
    let all = commands.map(async |args| {
        let market = SimServer::start(quiet()).unwrap();
        let mut program = Program::start(&market, AMPLE_LIMITS, &[args, &["--json"]].concat());
        assert_eq!(program.ended().await, Some(0), "{args:?}: {}", program.err());
        let summary = program.summary();
        assert!(summary.is_object(), "{args:?}: {summary}");
        match args[0] {
            "check" => {}
            "demo" => assert_agrees_with_its_market(&summary, &program, &market),
            _ => assert_has_every_field(&summary),
        }
    });
    futures_util::future::join_all(all).await;
}

#[track_caller]
fn assert_has_every_field(summary: &Value) {
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
        assert_adds_up(summary);
    }
}

#[track_caller]
fn assert_agrees_with_its_market(summary: &Value, program: &Program, other_market: &SimServer) {
    assert_has_every_field(summary);
    let market = &summary["market"];
    assert_eq!(summary["mode"], "demo");
    assert!(summary["bought"].as_u64() > Some(0), "{summary}");
    assert_eq!((&summary["bought"], &market["asked_twice"]), (&market["sold"], &0.into()));
    assert_eq!(other_market.stats().connections, 0, "a demo uses its own market");
    let left: Vec<_> = fs::read_dir(program.directory.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "no file is left behind: {left:?}");
}

/// Reads a file of a thread in `/proc`.
#[cfg(target_os = "linux")]
fn thread_file(program: &Program, thread: &str, file: &str) -> Option<String> {
    fs::read_dir(format!("/proc/{}/task", program.child.id())).unwrap().find_map(|task| {
        let task = task.unwrap().path();
        // A thread may end in between.
        let name = fs::read_to_string(task.join("comm")).ok()?;
        (name.trim_end() == thread).then(|| fs::read_to_string(task.join(file)).ok())?
    })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_threads_that_may_wait_have_a_lower_priority_than_the_feed() {
    let market = SimServer::start(quiet()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("own.csv");
    fs::write(&prices, "name,ask,bid,count\nFracture Case,1,1,40\n").unwrap();
    let policy = format!(
        "{AMPLE_LIMITS}[prices]\ncoin_usd = 1\n[[prices.source]]\nname = \"own\"\n\
         kind = \"file\"\npath = {prices:?}\nunit = \"usd\"\n"
    );
    let program = Program::start(&market, &policy, &["run", "--live", "--record"]);
    ready(&program, &market).await;
    let nice_of = |thread: &str| -> Option<i32> {
        let stat = thread_file(&program, thread, "stat")?;
        stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
    };
    let feed = nice_of("sniper").unwrap();
    let others = ["ledger-files", "account", "log", "recorder", "reload", "pauses", "prices"];
    for (thread, more) in others.map(|thread| (thread, 10)).into_iter().chain([("ledger", 5)]) {
        until(|| nice_of(thread) == Some((feed + more).min(19))).await;
    }
    assert_eq!(["control", "signals"].map(nice_of), [Some(feed); 2]);
    let status = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["status", "--json"])
        .current_dir(program.directory.path())
        .env_clear()
        .env("XDG_STATE_HOME", program.directory.path().join("state"))
        .output()
        .unwrap();
    let text = String::from_utf8(status.stdout).unwrap();
    let status: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(status["priority_refused"], Value::Array(Vec::new()), "{text}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn pin_cpu_binds_the_feed_and_no_other_thread() {
    let cpus = |thread: &str, program: &Program| {
        let status = thread_file(program, thread, "status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some(list.trim().to_owned())
    };
    let cpu = (0..1_024).find(|cpu| sniper::threads::affinity::is_available(*cpu)).unwrap();
    let market = SimServer::start(quiet()).unwrap();
    let policy = format!("{AMPLE_LIMITS}\n[speed]\npin_cpu = {cpu}\n");
    let program = Program::start(&market, &policy, &["run", "--live", "--record"]);
    ready(&program, &market).await;
    until(|| cpus("sniper", &program) == Some(cpu.to_string())).await;
    let own = fs::read_to_string("/proc/thread-self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    for thread in ["ledger", "ledger-files", "account", "control", "log", "recorder"] {
        assert_eq!(cpus(thread, &program).as_deref(), Some(own.trim()), "{thread}");
    }
}
