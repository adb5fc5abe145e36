//! `sniper status` and `sniper doctor` during a live session, during a dry run, and afterwards.

use std::process::{Command, Output};

use serde_json::Value;
use sniper::sim::{Rate, SimServer, SimSettings};

use super::{AMPLE_LIMITS, process::Program, quiet, redline, until};

/// Runs a command in the directory of this program.
fn run_command(program: &Program, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.args(args).current_dir(program.directory.path()).env_clear();
    command.output().unwrap()
}

/// Runs a command with `--json`. Returns its last line as JSON, and its exit code.
fn run_json(program: &Program, args: &[&str]) -> (Value, Option<i32>) {
    let output = run_command(program, &[args, &["--json"]].concat());
    let out = String::from_utf8(output.stdout).unwrap();
    let last = out.lines().last().unwrap_or_default();
    let value = serde_json::from_str(last).expect(&out);
    (value, output.status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_the_feed_of_a_dry_run_and_of_a_live_bot() {
    let all =
        [("dry", &["run"][..]), ("live", &["run", "--live"][..])].map(async |(mode, args)| {
            let market = SimServer::start(quiet()).unwrap();
            let program = Program::start(&market, AMPLE_LIMITS, args);
            let feed = || run_json(&program, &["status"]).0["feed"].clone();
            until(|| feed()["state"] == "connected").await;
            assert_eq!((&feed()["last_listing"], &feed()["gaps"]), (&Value::Null, &0.into()));
            until(|| {
                market.list_items(vec![redline(1_015)]);
                feed()["listings"].as_u64() > Some(0)
            })
            .await;
            market.close_feeds(1_001, "restarting");
            until(|| feed()["reconnects"] == 1 && feed()["state"] == "connected").await;
            let (status, code) = run_json(&program, &["status"]);
            assert_eq!((&status["mode"], code), (&Value::from(mode), Some(0)), "{status}");
            let (list, _code) = run_json(&program, &["whitelist", "list"]);
            assert_eq!(
                (&list["dry_run"], &list["settings_changed"]),
                (&(mode == "dry").into(), &false.into())
            );
            let list = run_command(&program, &["whitelist", "list"]).stdout;
            let has_dry_run_note =
                String::from_utf8(list).unwrap().contains("what it bought is not counted here");
            assert_eq!(has_dry_run_note, mode == "dry");
            let feed = &status["feed"];
            assert!(
                feed["connected_since"].is_string() && feed["last_listing"].is_string(),
                "{feed}"
            );
            assert!(feed["last_listing_ms"].as_u64() >= feed["connected_ms"].as_u64(), "{feed}");
            assert_eq!((&feed["gaps"], &feed["gap_is_open"]), (&1.into(), &false.into()));
            // One second of backoff minus 20 % of jitter.
            assert!(feed["longest_gap_ms"].as_u64() >= Some(800), "{feed}");
            assert_eq!(feed["gap_ms"], feed["longest_gap_ms"]);
            assert!(status["running_ms"].as_u64() > Some(800), "{status}");
            let text = String::from_utf8(run_command(&program, &["status"]).stdout).unwrap();
            for line in [
                "feed            connected, connection since ",
                "last listing    ",
                " without listings, ",
            ] {
                assert!(text.contains(line), "{text}");
            }
        });
    futures_util::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_asks_a_running_bot_and_needs_neither_orders_nor_valid_settings() {
    let market = SimServer::start(quiet()).unwrap();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live"]);
    let health = |program: &Program| {
        let (health, code) = run_json(program, &["health"]);
        (health["healthy"].clone(), health["mode"].clone(), code)
    };
    let healthy = (true.into(), "live".into(), Some(0));
    until(|| health(&program) == healthy).await;
    assert!(run_command(&program, &["halt"]).status.success());
    assert_eq!(run_command(&program, &["status"]).status.code(), Some(1));
    std::fs::write(program.directory.path().join("sniper.toml"), "[budget\n").unwrap();
    assert_eq!(run_command(&program, &["check"]).status.code(), Some(78));
    assert_eq!(health(&program), healthy);

    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0));
    assert_eq!(health(&program), (false.into(), "not running".into(), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_doctor_exit_with_1_while_halted() {
    let market =
        SimServer::start(SimSettings { rate: Rate::per_second(50), ..SimSettings::default() });
    let market = market.unwrap();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live"]);
    until(|| run_json(&program, &["status"]).0["reconciled"] == true).await;
    assert_eq!(run_json(&program, &["status"]).1, Some(0));
    assert_eq!(run_json(&program, &["doctor"]).1, Some(0));

    let is_halted = |program: &Program, mode: &str| {
        let (status, code) = run_json(program, &["status"]);
        assert_eq!((&status["mode"], code), (&Value::from(mode), Some(1)), "{status}");
        let (doctor, code) = run_json(program, &["doctor"]);
        let bot = doctor["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&bot["step"], &bot["state"], code), (&"bot".into(), &"red".into(), Some(1)));
        assert!(bot["seen"].as_str().unwrap().contains("halted: requested by"), "{bot}");
    };
    assert!(run_command(&program, &["halt"]).status.success());
    is_halted(&program, "live");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    is_halted(&program, "not running");
    assert!(run_command(&program, &["resume"]).status.success());
    assert_eq!(run_json(&program, &["status"]).1, Some(0));
    assert_eq!(run_json(&program, &["doctor"]).1, Some(0));
}
