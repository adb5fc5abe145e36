//! Whole sessions that take ten seconds or more.

mod busy;
#[expect(dead_code, reason = "shared with the other tests of sessions")]
#[path = "../../it/session/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the other tests of sessions")]
#[path = "../../it/session/process.rs"]
mod process;
mod roll_back;
#[cfg(target_os = "linux")]
mod standstill;
mod volume;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::sim::{Fault, SimServer, SimSettings, faults::FaultKind};

use self::{
    harness::{AMPLE_LIMITS, assert_adds_up, quiet, redline, until},
    process::{Program, ready},
};

/// Asserts that a printed summary agrees with the history of its market.
#[track_caller]
fn assert_json_agrees(summary: &Value, market: &SimServer) {
    let history = market.history();
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert_adds_up(summary);
    let bought = count("bought") + count("returned");
    let orders = bought + count("refused") + count("unknown") + count("not_bought");
    assert_eq!(usize::try_from(orders).unwrap(), history.orders().count(), "{summary}");
    assert_eq!(history.ordered_twice().count(), 0, "a listing was ordered twice");
    let sold: u64 = history.purchases().count().try_into().unwrap();
    assert!(bought <= sold && sold <= bought + count("unknown"), "{summary}");
}

#[tokio::test]
async fn a_signal_waits_up_to_ten_seconds_for_responses() {
    let cases = [("-TERM", FaultKind::Slow, "SIGTERM"), ("-INT", FaultKind::Hang, "Ctrl-C")];
    let all = cases.map(async |(signal, kind, ended)| {
        let market =
            SimServer::start(SimSettings { faults: vec![Fault::always(kind)], ..quiet() }).unwrap();
        let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live", "--json"]);
        ready(&program, &market).await;
        until(|| {
            market.list_items(vec![redline(1_015)]);
            market.history().orders().count() > 0
        })
        .await;
        program.signal(signal);
        let signaled = Instant::now();
        market.list_items(vec![redline(1_015)]);
        assert_eq!(program.ended().await, Some(0), "{}", program.err());
        let (waited, summary) = (signaled.elapsed(), program.summary());
        assert_eq!(summary["ended"], ended);
        // SQLite removes its write-ahead log when the last connection is closed.
        let data = program.directory.path().join("data");
        assert!(data.join("ledger.db").exists());
        assert!(!data.join("ledger.db-wal").exists(), "the ledger was not closed in order");
        assert_json_agrees(&summary, &market);
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

/// Standard output is blocked, so only the second signal's line on standard error can name the
/// order.
#[tokio::test]
async fn a_second_signal_names_the_order_in_flight_while_stdout_is_blocked() {
    let faults = vec![Fault::always(FaultKind::Hang)];
    let market = SimServer::start(SimSettings { faults, ..quiet() }).unwrap();
    let limits = AMPLE_LIMITS.replace("total = 100000", "total = 15");
    let prepared = Program::start(&market, &limits, &["check"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    // The capacity of a pipe.
    writer.write_all(&vec![b'\n'; 65_536]).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["run", "--live"])
        .current_dir(prepared.directory.path())
        .env_clear()
        .env("XDG_STATE_HOME", prepared.directory.path().join("state"))
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
    let pid = child.id().to_string();
    let interrupt = || Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(interrupt().success());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(child.try_wait().unwrap().is_none(), "the program did not wait for the response");
    assert!(interrupt().success());
    let signaled = Instant::now();
    until(|| child.try_wait().unwrap().is_some()).await;
    assert!(signaled.elapsed() < Duration::from_secs(5), "{:?}", signaled.elapsed());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    let line = "Quit immediately (second signal: Ctrl-C). 1 order has no response: 10.15 ";
    assert!(text.contains(line), "{text}");
    drop(reader);
}
