//! Roll-backs of delivered purchases, on markets with own order ids.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::{
    domain::trade::TradeStatus,
    sim::{
        Delivery, RepricingSettings, SimSettings,
        lis_skins::LisSkinsWire,
        repricing::{
            purchase::ReturnReason,
            server::{RepricingServer, WireFormat},
        },
        waxpeer::WaxpeerWire,
    },
};

use super::{
    harness::{quiet, redline},
    process::Program,
};

/// A balance is evidence 60 s after a charge, and the account is read every 60 s.
const WAIT_MAX: Duration = Duration::from_secs(240);

#[track_caller]
fn wait(bot: &Program, is_reached: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let log = bot.out() + &bot.err();
        assert!(!log.contains("ERROR") && Instant::now() < deadline, "{log}");
        if is_reached(&log) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the last line that a command prints in the directory of the bot.
fn ask(bot: &Program, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(words)
        .current_dir(bot.directory.path())
        .env_clear()
        .env("XDG_STATE_HOME", bot.directory.path().join("state"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

/// Checks the state of the only order, and what counts against `total`.
#[track_caller]
fn check(bot: &Program, states: &[&str], spent: &str) {
    let list = ask(bot, &["ledger", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).expect(&list);
    assert_eq!(list["orders"].as_array().map(Vec::len), Some(1), "{list}");
    assert!(states.contains(&list["orders"][0]["state"].as_str().unwrap()), "{list}");
    let status = ask(bot, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).expect(&status);
    let limits = status["limits"].as_array().unwrap();
    let total = limits.iter().find(|limit| limit["name"] == "total").unwrap();
    assert_eq!(total["used"], spent, "{status}");
}

/// The seller takes a delivered item back, and the money returns only later.
fn roll_back<W: WireFormat>(name: &str) {
    let (soon, never) = (Duration::from_millis(20), Duration::from_secs(3_600));
    let (confirm, deliver, refund) = ((soon, soon), (soon, soon), (never, never));
    let delivery = Delivery { confirm, deliver, fail_permille: 0, refund };
    let repricing = RepricingSettings {
        visible_after: (Duration::ZERO, Duration::ZERO),
        rollback_permille: 0,
        ..RepricingSettings::default()
    };
    let market =
        RepricingServer::<W>::start(SimSettings { delivery, repricing, ..quiet() }).unwrap();
    let bot = Program::start_on(name, &market, &["run", "--live"]);
    wait(&bot, |log| log.contains("Signed in") && market.stats().feeds_subscribed > 0);
    market.list_items(vec![redline(1_015)]);
    wait(&bot, |log| log.contains("BOUGHT"));
    let is_delivered = || {
        let history = market.history();
        history.purchases().any(|(_, purchase)| purchase.status == TradeStatus::Completed)
    };
    wait(&bot, |_log| is_delivered());
    check(&bot, &["bought", "completed"], "10.15");

    let number = market.books().sales().next().unwrap().number;
    market.return_purchase(number, ReturnReason::RolledBackBySupplier);
    wait(&bot, |log| log.contains("counts as spent until the balance shows the refund"));
    check(&bot, &["returning"], "10.15");

    market.refund(number);
    wait(&bot, |log| log.contains("Purchase returned: "));
    check(&bot, &["returned"], "0.00");
    assert_eq!(ask(&bot, &["ledger", "list"]), "1 order, 0 of them bought for 0.00 USD");
    assert_eq!(market.history().orders().count(), 1, "it was ordered again");
}

#[test]
fn a_roll_back_on_lis_skins_counts_as_spent_until_its_money_is_back() {
    roll_back::<LisSkinsWire>("lis-skins");
}

#[test]
fn a_roll_back_on_waxpeer_counts_as_spent_until_its_money_is_back() {
    roll_back::<WaxpeerWire>("waxpeer");
}
