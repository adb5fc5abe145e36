//! `ledger list`, `profit` and `status` beside a running bot and after it.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value;
use sniper::{clock, sim::SimServer};

use super::{
    harness::{AMPLE_LIMITS, quiet, redline, until},
    process::{Program, ready},
};

/// Runs a command in the directory of a program, in a zone nine hours ahead. The simulated market
/// is no address of the command, and there is no other network.
fn command(directory: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(words)
        .current_dir(directory)
        .env_clear()
        .env("XDG_STATE_HOME", directory.join("state"))
        .env("TZ", "JST-9")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn json(directory: &Path, words: &[&str]) -> Value {
    let (_code, text) = command(directory, &[words, &["--json"]].concat());
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Writes two price files, one of them two hours old, and returns settings that use both.
fn policy(prices: &Path) -> String {
    let file = |name: &str, text: &str| {
        let path = prices.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let fresh = file("fresh.csv", "name,ask,bid,count\nAK-47 | Redline (Field-Tested),10,9,40\n");
    let old = file("old.csv", "name,ask,bid,count\nFracture Case,1,1,40\n");
    let now = Duration::from_millis(u64::try_from(clock::wall().0).unwrap());
    let two_hours_ago = UNIX_EPOCH + now - Duration::from_secs(7_200);
    File::options().write(true).open(&old).unwrap().set_modified(two_hours_ago).unwrap();
    let source = |name: &str, path: &str| {
        format!(
            "[[prices.source]]\nname = \"{name}\"\nkind = \"file\"\npath = \"{path}\"\n\
             unit = \"usd\"\nmax_age_minutes = 60\n"
        )
    };
    format!(
        "{AMPLE_LIMITS}max_percent = 80\nreference = \"fresh.ask\"\n\n[[whitelist]]\n\
         item = \"Fracture Case\"\nmax_price = 5\nmax_percent = 80\nreference = \"old.bid\"\n\n\
         [prices]\ncoin_usd = 0.5\nsell_on = \"fresh\"\nsell_fee_percent = 2.5\n\n{}\n{}",
        source("fresh", &fresh),
        source("old", &old)
    )
}

/// What the purchase cost, compared with its reference.
const REFERENCE: &str = "50.8 % of fresh.ask 20.00, margin 92.11 %";

fn first_order(directory: &Path) -> Value {
    json(directory, &["ledger", "list", "--since", "7d"])["orders"][0].clone()
}

/// Checks the output of the commands after one purchase.
fn check(directory: &Path) {
    let order = first_order(directory);
    for (key, value) in [
        ("state", "bought"),
        ("price", "10.15"),
        ("item", "AK-47 | Redline (Field-Tested)"),
        ("wear", "Field-Tested"),
        ("entry", "redline"),
        ("reference", "fresh.ask"),
        ("reference_price", "10.00"),
        ("reference_currency", "USD"),
        ("coin_usd", "0.50"),
        ("percent", "50.75"),
        ("margin", "92.11"),
    ] {
        assert_eq!(order[key], value, "{key}: {order}");
    }
    assert!(order["time"].as_str().unwrap().ends_with('Z'), "{order}");
    let (code, text) = command(directory, &["ledger", "list"]);
    let line = text.lines().nth(1).unwrap();
    assert!(code == Some(0) && line.contains(" +09:00  bought"), "{text}");
    assert!(line.ends_with(REFERENCE), "{text}");
    let (_, utc) = command(directory, &["ledger", "list", "--utc"]);
    assert!(utc.contains(" +00:00  bought"), "{utc}");
    let (_, shown) = command(directory, &["ledger", "show", "1"]);
    assert!(shown.contains("\napproved at     2") && shown.contains(" +09:00\n"), "{shown}");
    let (_, totals) = command(directory, &["ledger"]);
    assert!(totals.starts_with("(UTC+09:00) "), "{totals}");
    let profit = json(directory, &["profit"]);
    let compared = &profit["compared"];
    assert_eq!((&compared["paid"], &compared["worth"]), (&"10.15".into(), &"19.50".into()));
    assert_eq!((&profit["coin_usd"], &profit["prices"]["stale"]), (&"0.50".into(), &false.into()));
    let (code, text) = command(directory, &["profit", "--since", "1h"]);
    assert!(code == Some(0) && text.contains("+9.35  +92.11 %"), "{text}");
    let (_, status) = command(directory, &["status"]);
    assert!(status.contains("\nprices          fresh "), "{status}");
    assert!(status.contains(" +09:00") && !status.contains("Z)"), "{status}");
    let stale = "old too old (2 h 0 min, limit 1 h 0 min): 1 entry that needs it sends no orders";
    assert!(status.contains(stale), "{status}");
    let prices = &json(directory, &["status"])["prices"];
    assert_eq!((&prices[0]["stale"], &prices[1]["stale"]), (&false.into(), &true.into()));
}

#[tokio::test]
async fn purchases_are_listed_and_compared_with_prices_beside_a_bot_and_after_it() {
    let prices = tempfile::tempdir().unwrap();
    let market = SimServer::start(quiet()).unwrap();
    let args = ["run", "--live", "--json"];
    let mut program = Program::start(&market, &policy(prices.path()), &args);
    ready(&program, &market).await;
    market.list_items(vec![redline(1_015)]);
    until(|| program.err().contains(" BOUGHT ")).await;
    let log = program.err();
    let bought = log.lines().find(|line| line.contains(" BOUGHT ")).unwrap();
    assert!(bought.contains(REFERENCE), "{bought}");
    let directory = program.directory.path().to_owned();
    until(|| first_order(&directory)["item"].is_string()).await;
    check(&directory);
    let warnings = log.lines().filter(|line| line.contains("Prices too old: old, 2 h 0 min"));
    assert_eq!(warnings.count(), 1, "{log}");
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let purchase = program.summary()["purchases"][0].clone();
    assert_eq!((&purchase["percent"], &purchase["margin"]), (&"50.75".into(), &"92.11".into()));
    assert_eq!(purchase["entry"], "redline");
    drop(market);
    check(&directory);
    let (code, text) = command(&directory, &["ledger", "verify"]);
    assert_eq!(code, Some(0), "{text}");
    let directory = std::mem::replace(&mut program.directory, tempfile::tempdir().unwrap());
    let again = Program::at(directory, &["run", "--live"], "info");
    until(|| again.out().contains(" total (10.15 of it spent before), keep ")).await;
}

#[tokio::test]
async fn a_start_names_the_local_time_of_a_halt() {
    let market = SimServer::start(quiet()).unwrap();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live"]);
    ready(&program, &market).await;
    let directory = program.directory.path().to_owned();
    assert_eq!(command(&directory, &["halt"]).0, Some(0));
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let (_code, text) = command(&directory, &["run", "--live", "--for", "100ms"]);
    let line = text.lines().find(|line| line.contains("Ordering halted since 20")).expect(&text);
    assert!(line.contains(" +09:00: "), "{line}");
}
