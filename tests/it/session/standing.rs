//! `sniper status` and `sniper doctor` beside a running bot, beside a dry run, and after both.

use std::process::{Command, Output};

use serde_json::Value;
use sniper::sim::{Rate, SimServer, SimSettings};

use super::{PLENTY, program::Program, quiet, redline, until};

/// Runs a command in the folder of this program.
fn ask(program: &Program, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.args(words).current_dir(program.desk.path()).env_clear();
    // Without it, Windows has no sockets.
    command.envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)));
    command.output().unwrap()
}

/// The object that a command ends with, and its exit code.
fn object(program: &Program, words: &[&str]) -> (Value, Option<i32>) {
    let output = ask(program, &[words, &["--json"]].concat());
    let out = String::from_utf8(output.stdout).unwrap();
    let last = out.lines().last().unwrap_or_default();
    let value = serde_json::from_str(last).expect(&out);
    (value, output.status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_knows_the_feed_of_a_dry_run_and_of_a_live_bot() {
    let all =
        [("dry", &["run"][..]), ("live", &["run", "--live"][..])].map(async |(mode, words)| {
            let market = SimServer::start(quiet()).unwrap();
            let program = Program::start(&market, PLENTY, words);
            let feed = || object(&program, &["status"]).0["feed"].clone();
            until(|| feed()["state"] == "connected").await;
            assert_eq!((&feed()["last_listing"], &feed()["gaps"]), (&Value::Null, &0.into()));
            until(|| {
                market.offer(vec![redline(1_015)]);
                feed()["listings"].as_u64() > Some(0)
            })
            .await;
            market.close_feeds(1_001, "restarting");
            until(|| feed()["reconnects"] == 1 && feed()["state"] == "connected").await;
            let (status, code) = object(&program, &["status"]);
            assert_eq!((&status["mode"], code), (&Value::from(mode), Some(0)), "{status}");
            let feed = &status["feed"];
            assert!(
                feed["connected_since"].is_string() && feed["last_listing"].is_string(),
                "{feed}"
            );
            assert!(feed["last_listing_ms"].as_u64() >= feed["connected_ms"].as_u64(), "{feed}");
            assert_eq!((&feed["gaps"], &feed["gap_is_open"]), (&1.into(), &false.into()));
            // A second of backoff less a fifth of jitter.
            assert!(feed["longest_gap_ms"].as_u64() >= Some(800), "{feed}");
            assert_eq!(feed["gap_ms"], feed["longest_gap_ms"]);
            assert!(status["running_ms"].as_u64() > Some(800), "{status}");
            let text = String::from_utf8(ask(&program, &["status"]).stdout).unwrap();
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
async fn status_and_doctor_exit_with_1_while_a_bot_is_halted_and_while_its_ledger_is() {
    let market =
        SimServer::start(SimSettings { rate: Rate::per_second(50), ..SimSettings::default() });
    let market = market.unwrap();
    let mut program = Program::start(&market, PLENTY, &["run", "--live"]);
    until(|| object(&program, &["status"]).0["reconciled"] == true).await;
    assert_eq!(object(&program, &["status"]).1, Some(0));
    assert_eq!(object(&program, &["doctor"]).1, Some(0));

    let is_halted = |program: &Program, mode: &str| {
        let (status, code) = object(program, &["status"]);
        assert_eq!((&status["mode"], code), (&Value::from(mode), Some(1)), "{status}");
        let (doctor, code) = object(program, &["doctor"]);
        let bot = doctor["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&bot["step"], &bot["state"], code), (&"bot".into(), &"red".into(), Some(1)));
        assert!(bot["seen"].as_str().unwrap().contains("stopped it"), "{bot}");
    };
    assert!(ask(&program, &["halt"]).status.success());
    is_halted(&program, "live");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    is_halted(&program, "not running");
    assert!(ask(&program, &["resume"]).status.success());
    assert_eq!(object(&program, &["status"]).1, Some(0));
    assert_eq!(object(&program, &["doctor"]).1, Some(0));
}
