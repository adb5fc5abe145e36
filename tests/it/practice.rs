//! `sniper run --practice` as a user starts it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Credential that must be neither sent nor shown.
const PLANTED: &str = "s%3Aplanted-practice-51ac";

/// Settings with channels whose variables are not set, and with items at prices that differ by
/// market.
fn settings(market: &str) -> String {
    format!(
        r#"market = "{market}"

[budget]
max_price = 50.00
total = 200.00
min_balance = 5.00
max_buys_per_minute = 300

[[alerts]]
kind = "discord"
url_env = "DISCORD_WEBHOOK_URL"

[heartbeat]
url_env = "HEARTBEAT_URL"

[[whitelist]]
item = "AK-47 | Redline"
wear = ["FT"]
max_price = 12.50

[[whitelist]]
item = "Kukri Knife"
max_price = 40.00

[[whitelist]]
item = "Fracture Case"
max_price = 0.55
"#
    )
}

fn workspace(settings: Option<&str>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    if let Some(settings) = settings {
        fs::write(directory.path().join("sniper.toml"), settings).unwrap();
    }
    // An error if it were read.
    fs::write(directory.path().join(".env"), format!("CSGOROLL_SESSION='{PLANTED}\n")).unwrap();
    directory
}

fn command(directory: &Path, args: &[&str]) -> Command {
    let state = directory.join("real-state");
    fs::create_dir_all(&state).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command
        .args(args)
        .current_dir(directory)
        .env_clear()
        .envs(["CSGOROLL_SESSION", "LIS_SKINS_KEY", "WAXPEER_KEY"].map(|name| (name, PLANTED)))
        .env("CSGOROLL_WS_URL", "not an address")
        .env("XDG_STATE_HOME", &state);
    command
}

fn run(directory: &Path, args: &[&str]) -> Output {
    command(directory, args).output().unwrap()
}

/// Practices until something was bought. Returns the exit code, the log and standard output.
fn run_practice(directory: &Path) -> (Option<i32>, String, String) {
    let mut command = command(directory, &["run", "--practice", "--for", "60s", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut log, mut out) = (String::new(), String::new());
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while !log.contains("BOUGHT") {
        assert!(0 < lines.read_line(&mut log).unwrap(), "nothing was bought: {log}");
    }
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    lines.read_to_string(&mut log).unwrap();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    (child.wait().unwrap().code(), log, out)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

/// Practices on a market, and checks that something was bought there and that nothing real was
/// used.
#[track_caller]
fn check_practice_run(market: &str) {
    let directory = workspace(Some(&settings(market)));
    let (code, log, out) = run_practice(directory.path());
    assert_eq!(code, Some(0), "{log}{out}");
    let summary: Value = serde_json::from_str(out.lines().next_back().unwrap()).unwrap();
    assert_eq!(summary["mode"], "practice");
    assert!(0 < summary["bought"].as_u64().unwrap(), "{log}{summary}");
    assert_eq!(summary["market"]["sold"], summary["bought"], "{log}{summary}");
    assert!(!log.contains(PLANTED) && !out.contains(PLANTED));
    let mode = "Mode: LIVE (local market, play money)";
    let place = format!("data/practice/{market}");
    for expected in [mode, &place, "Alerts and heartbeat are not sent"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert_eq!(names(&directory.path().join("data")), ["practice"]);
    assert_eq!(names(&directory.path().join("data/practice")), [market]);
    assert_eq!(names(&directory.path().join("real-state")), Vec::<String>::new());
}

#[test]
fn a_practice_run_buys_on_a_simulated_csgoroll_with_the_settings_of_the_user() {
    check_practice_run("csgoroll");
}

#[test]
fn a_practice_run_buys_on_a_simulated_lis_skins_with_the_settings_of_the_user() {
    check_practice_run("lis-skins");
}

#[test]
fn a_practice_run_buys_on_a_simulated_waxpeer_with_the_settings_of_the_user() {
    check_practice_run("waxpeer");
}

#[test]
fn a_practice_run_without_settings_names_the_ways_to_make_them() {
    let directory = workspace(None);
    let output = run(directory.path(), &["run", "--practice", "--for", "1s"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.contains("sniper init") && error.contains("sniper.example.toml"), "{error}");
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_practice_run_is_not_a_live_run() {
    let directory = workspace(Some(&settings("csgoroll")));
    let output = run(directory.path(), &["run", "--practice", "--live"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_practice_run_names_what_it_lacks_and_downloads_nothing() {
    let settings = r#"
[budget]
max_price = 50.00
total = 200.00

[prices]
coin_usd = 0.65
[[prices.source]]
name = "buff"
kind = "csgotrader-buff163"
url = "http://127.0.0.1:9/prices.json"

[[whitelist]]
item = "AK-47 | Redline"
max_price = 12.50
max_percent = 88
"#;
    let directory = workspace(Some(settings));
    let output = run(directory.path(), &["run", "--practice", "--for", "1s"]);
    let log = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{log}");
    for line in [
        "No prices of buff: none are on disk; read them with: sniper prices update",
        "The simulated market has none of the items of the whitelist",
        "nothing is downloaded",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("Prices not updated"), "{log}");
}
