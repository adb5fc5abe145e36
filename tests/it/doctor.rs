//! `sniper doctor` against the simulated market, without a failure and with each common one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{process::Command, time::Duration};

use serde_json::Value;
use sniper::{
    clock,
    commands::doctor::{
        run_checks,
        step::{DoctorReport, STEPS, StepResult},
    },
    config::{Budget, Config, Credential, Endpoints, TradeUrl},
    domain::money::Amount,
    ledger::{
        LedgerState,
        control::{ControlAddress, ControlReply, ControlServer, Instance, PendingRequest},
        status::{LIVE, LedgerStatus},
    },
    markets::{Marketplace, lis_skins::LisSkins, waxpeer::Waxpeer},
    sim::{LisSkinsSim, Rate, SimServer, SimSettings, WaxpeerSim},
    threads::Alarm,
    ws::Feed,
};
use tempfile::TempDir;

use crate::{
    buyer::market::{Market, Reaction, answer},
    feed::feed_of,
};

const WAIT: Duration = Duration::from_secs(60);

fn market() -> SimServer {
    SimServer::start(SimSettings { rate: Rate::per_second(50), ..SimSettings::default() }).unwrap()
}

fn config(market: &SimServer, data: &TempDir) -> Config {
    let endpoints = Endpoints::new(&market.ws_url(), &market.http_url()).unwrap();
    Config {
        credential: Some(Credential::from_session(&market.session()).unwrap()),
        ..Config::new(endpoints, data.path().join("data"))
    }
}

/// Returns the steps that are not green, and `true` for those that were tried.
fn failed_steps(report: &DoctorReport) -> Vec<(&'static str, bool)> {
    let names: Vec<&str> = report.steps.iter().map(|step| step.name).collect();
    assert_eq!(names, STEPS, "every step is reported, in order");
    let failed_steps = report.steps.iter().filter(|step| !step.is_ok());
    failed_steps.map(|step| (step.name, step.result != StepResult::Skipped)).collect()
}

#[tokio::test]
async fn a_healthy_market_passes_every_step_without_an_order() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let mut shown = Vec::new();
    let report = run_checks(&feed_of(config(&market, &data)), WAIT, |step| {
        shown.push(step.line(false));
    })
    .await;
    assert_eq!(failed_steps(&report), [], "{shown:#?}");
    assert_eq!((report.is_ok(), report.exit_code()), (true, 0));
    assert_eq!(shown.len(), STEPS.len());
    assert!(!shown.concat().contains(&market.session()), "{shown:#?}");
    assert_eq!(market.history().purchases().count(), 0);
    assert_eq!(market.history().orders().count(), 0);
    assert!(std::fs::read_dir(data.path().join("data")).unwrap().next().is_none());
}

/// A control channel answers in place of a live bot.
#[tokio::test]
async fn a_live_bot_that_is_not_reconciled_30_s_after_its_start_fails_the_last_step() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let config = config(&market, &data);
    let address =
        ControlAddress::new(&config.data_dir, config.state_dir.as_deref(), Instance::Live);
    let (requests, mut pending) = tokio::sync::mpsc::channel(1);
    let _server = ControlServer::start(&address, &requests, &Alarm::default()).unwrap();
    let feed = feed_of(config);
    for (running_ms, failed) in [(29_999, &[][..]), (30_000, &[("bot", true)])] {
        let now = clock::now();
        let snapshot = LedgerState::new(Budget::default(), true).snapshot(now);
        let mut status = LedgerStatus::from_snapshot(&snapshot, LIVE, None, now);
        let running = Duration::from_millis(running_ms);
        let facts = sniper::ledger::OrderingFacts::of_ledger(&snapshot, LIVE, true);
        status.set_obstacle(sniper::ledger::OrderingFacts { running, ..facts }.obstacle());
        let answer = async {
            let request: PendingRequest = pending.recv().await.unwrap();
            request.reply.send(ControlReply::Done(Box::new(status))).unwrap();
        };
        let (report, ()) = tokio::join!(run_checks(&feed, WAIT, |_step| {}), answer);
        assert_eq!(failed_steps(&report), failed, "{running_ms} ms");
        assert_eq!(report.exit_code(), u8::from(!failed.is_empty()));
        let seen = report.steps.last().unwrap().line(false);
        assert!(failed.is_empty() || seen.contains("not reconciled"), "{seen}");
    }
}

const TRADE_URL: &str =
    "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";

/// Checks a market with an API key.
async fn check_with_key<M: Marketplace>(
    (ws, http): (String, String),
    (key, trade_url): (&str, &str),
    new: impl FnOnce(&Config) -> M,
) -> DoctorReport {
    let data = TempDir::new().unwrap();
    let endpoints = Endpoints::new(&ws, &http).unwrap();
    let credential = Some(Credential::from_key(key).unwrap());
    let trade_url = Some(TradeUrl::parse(trade_url).unwrap());
    let config =
        Config { credential, trade_url, ..Config::new(endpoints, data.path().join("data")) };
    run_checks(&Feed::new(new(&config), config), WAIT, |_step| {}).await
}

#[tokio::test]
async fn the_markets_with_a_key_pass_every_step() {
    let settings = || SimSettings { rate: Rate::per_second(50), ..SimSettings::default() };
    let market = WaxpeerSim::start(settings()).unwrap();
    let addresses = (market.ws_url(), market.http_url());
    let key = &market.account().key;
    let report = check_with_key(addresses.clone(), (key, TRADE_URL), Waxpeer::new).await;
    assert_eq!(failed_steps(&report), [], "{report:?}");
    let own_trades = report.steps.iter().find(|step| step.name == "own trades").unwrap();
    assert_eq!(own_trades.detail, "this market has no list of them");
    let other = TRADE_URL.replace("AbCdEf12", "AbCdEf13");
    let report = check_with_key(addresses, (key, &other), Waxpeer::new).await;
    assert_eq!(failed_steps(&report), [("trade URL", true)]);
    let trade_url = report.steps.iter().find(|step| step.name == "trade URL").unwrap();
    assert!(trade_url.detail.contains("Your trade link is invalid"), "{trade_url:?}");
    assert!(!format!("{trade_url:?}").contains("AbCdEf13"), "{trade_url:?}");

    let market = LisSkinsSim::start(settings()).unwrap();
    let addresses = (market.ws_url(), market.http_url());
    let key = &market.account().key;
    let report = check_with_key(addresses.clone(), (key, TRADE_URL), LisSkins::new).await;
    assert_eq!(failed_steps(&report), [], "{report:?}");

    let wrong = ("not-the-key-of-the-account", TRADE_URL);
    let report = check_with_key(addresses, wrong, LisSkins::new).await;
    for name in ["upgrade", "HTTP"] {
        let step = report.steps.iter().find(|step| step.name == name).unwrap();
        let StepResult::Failed { remedy } = &step.result else { panic!("{step:?}") };
        assert!(remedy.contains("LIS_SKINS_KEY") && !remedy.contains("cookie"), "{remedy}");
    }
}

#[tokio::test]
async fn an_unreachable_server_fails_at_tcp_and_dependent_steps_are_skipped() {
    let data = TempDir::new().unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints =
        Endpoints::new(&format!("ws://{gone}/ws"), &format!("http://{gone}/graphql")).unwrap();
    let report = run_checks(&feed_of(Config::new(endpoints, data.path())), WAIT, |_step| {}).await;
    let expected = [
        ("TCP", true),
        ("TLS", false),
        ("upgrade", false),
        ("ack", false),
        ("first listing", false),
        ("HTTP", true),
        ("sign-in", false),
        ("balance", false),
        ("own trades", false),
        ("trade URL", false),
        ("clock interval", false),
    ];
    assert_eq!(failed_steps(&report), expected);
    assert_eq!(report.exit_code(), 69);
}

#[tokio::test]
async fn a_missing_or_expired_session_fails_at_sign_in() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let guest = Config { credential: None, ..config(&market, &data) };
    let report = run_checks(&feed_of(guest), WAIT, |_step| {}).await;
    assert_eq!(
        failed_steps(&report),
        [("sign-in", true), ("balance", false), ("own trades", false), ("trade URL", false)]
    );

    let known = config(&market, &data);
    market.replace_session("another-session-altogether");
    let report = run_checks(&feed_of(known), WAIT, |_step| {}).await;
    assert!(failed_steps(&report).contains(&("sign-in", true)), "{report:?}");
}

#[tokio::test]
async fn a_failed_tls_setup_is_not_reported_as_a_missing_credential() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let trusted_root = Some(b"not a certificate".to_vec());
    let config = Config { trusted_root, ..config(&market, &data) };
    let report = run_checks(&feed_of(config), WAIT, |_step| {}).await;
    let step = report.steps.iter().find(|step| step.name == "HTTP").unwrap();
    let StepResult::Failed { remedy } = &step.result else { panic!("{step:?}") };
    assert!(step.detail.starts_with("the trusted certificate could not be read"), "{step:?}");
    assert!(
        !step.detail.contains("credential") && !remedy.contains("CSGOROLL_SESSION"),
        "{step:?}"
    );
    for name in ["sign-in", "balance", "own trades", "trade URL", "clock interval"] {
        assert!(failed_steps(&report).contains(&(name, false)), "{name}: {report:?}");
    }
}

#[tokio::test]
async fn a_balance_below_min_balance_fails_the_check() {
    let settings = SimSettings {
        rate: Rate::per_second(50),
        balance: Amount::from_cents(499),
        ..SimSettings::default()
    };
    let (market, data) = (SimServer::start(settings).unwrap(), TempDir::new().unwrap());
    let report = run_checks(&feed_of(config(&market, &data)), WAIT, |_step| {}).await;
    assert_eq!(failed_steps(&report), [("balance", true)]);
}

#[tokio::test]
async fn unreadable_own_trades_fail_with_their_cause_and_remedy() {
    const USER: &str = r#"{"data":{"currentUser":{"id":"VXNlcjox","wallets":[
        {"id":"1","name":"MAIN","amount":1000.5}]}}}"#;
    const STUCK: &str = r#"{"data":{"trades":{"edges":[],
        "pageInfo":{"hasNextPage":true,"endCursor":"same"}}}}"#;
    const NULL: &str = r#"{"data":{"trades":{"edges":[null,{"node":null}],
        "pageInfo":{"hasNextPage":false}}},"errors":[{"message":"Cannot return null"}]}"#;
    let feed = market();
    for (list, cause) in
        [(STUCK, "the pages repeat"), (NULL, "2 entries of the list could not be read")]
    {
        let http = Market::plain(move |request| {
            let body = if request.body.contains("CurrentUser") { USER } else { list };
            let now = Duration::from_millis(clock::wall().0.cast_unsigned());
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + now);
            Reaction::Answer(answer(200, &format!("Date: {date}\r\n"), body))
        })
        .await;
        let data = TempDir::new().unwrap();
        let mut settings = config(&feed, &data);
        settings.endpoints.http = http.endpoints.http.clone();
        let report = run_checks(&feed_of(settings), WAIT, |_step| {}).await;
        assert_eq!(failed_steps(&report), [("own trades", true)], "{report:?}");
        let step = report.steps.iter().find(|step| step.name == "own trades").unwrap();
        assert!(step.detail.contains(cause), "{step:?}");
        let StepResult::Failed { remedy } = &step.result else { panic!("{step:?}") };
        assert!(!remedy.is_empty(), "{step:?}");
        assert!(!report.is_ok(), "{report:?}");
    }
}

#[tokio::test]
async fn a_market_without_listings_fails_only_at_the_first_listing() {
    let settings = SimSettings { rate: Rate::NONE, rivals: None, ..SimSettings::default() };
    let (market, data) = (SimServer::start(settings).unwrap(), TempDir::new().unwrap());
    let wait = Duration::from_millis(200);
    let report = run_checks(&feed_of(config(&market, &data)), wait, |_step| {}).await;
    assert_eq!(failed_steps(&report), [("first listing", true)]);
}

#[tokio::test]
async fn an_unwritable_data_directory_fails_the_check() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let file = data.path().join("data");
    std::fs::write(&file, "").unwrap();
    let report = run_checks(&feed_of(config(&market, &data)), WAIT, |_step| {}).await;
    assert_eq!(failed_steps(&report), [("disk", true)]);
}

#[test]
fn the_data_directory_that_doctor_creates_is_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;

    let (market, directory) = (market(), TempDir::new().unwrap());
    let output = Command::new("sh")
        .args(["-c", "umask 002; exec \"$0\" doctor", env!("CARGO_BIN_EXE_sniper")])
        .current_dir(directory.path())
        .env_clear()
        .env("SNIPER_DATA", "deep/data")
        .env("CSGOROLL_WS_URL", market.ws_url())
        .env("CSGOROLL_HTTP_URL", market.http_url())
        .env("CSGOROLL_SESSION", market.session())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for folder in ["deep", "deep/data"] {
        let mode = std::fs::metadata(directory.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn doctor_ends_with_one_json_object_and_its_exit_code() {
    let (market, directory) = (market(), TempDir::new().unwrap());
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sniper"))
            .arg("doctor")
            .args(args)
            .current_dir(directory.path())
            .env_clear()
            .env("CSGOROLL_WS_URL", market.ws_url())
            .env("CSGOROLL_HTTP_URL", market.http_url())
            .env("CSGOROLL_SESSION", market.session())
            .output()
            .unwrap()
    };
    let output = run(&["--json"]);
    let out = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["ok"], true, "{out}");
    assert_eq!(output.status.code(), Some(0));
    let output = run(&[]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.ends_with("All steps succeeded.\n"), "{out}");
    assert!(!out.contains('\u{1b}'), "colors are for terminals: {out:?}");
    assert!(!out.contains(&market.session()), "{out}");
    std::fs::write(directory.path().join("sniper.toml"), "[budget]\nmax_pric = 1\n").unwrap();
    let output = run(&["--json"]);
    let out = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["ok"], output.status.code()), (&Value::Bool(false), Some(78)));
    assert_eq!(last["steps"][0]["state"], "red");
}

#[test]
fn doctor_latency_measures_the_one_address_of_a_local_market() {
    let (market, directory) = (market(), TempDir::new().unwrap());
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sniper"))
            .args(["doctor", "--latency"])
            .args(args)
            .current_dir(directory.path())
            .env_clear()
            .env("CSGOROLL_WS_URL", market.ws_url())
            .env("CSGOROLL_HTTP_URL", market.http_url().replace("127.0.0.1", "localhost"))
            .env("CSGOROLL_SESSION", market.session())
            .output()
            .unwrap()
    };
    let output = run(&[]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.starts_with("Feed: 127.0.0.1:"), "{out}");
    assert!(out.contains("\nOrders: localhost:"), "{out}");
    assert!(out.contains("  One address: there is no other to choose.\n"), "{out}");
    assert!(!out.contains(&market.session()), "{out}");
    let output = run(&["--json"]);
    let out = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let feed = &last["latency"][0];
    assert_eq!((&feed["uses"][0], &feed["verdict"]), (&"feed".into(), &"one address".into()));
    assert_eq!(feed["addresses"][0]["samples"], 5, "{out}");
    assert!(feed["addresses"][0]["round_trip_ms"]["p50"].as_f64() > Some(0.0), "{out}");
    assert_eq!(last["latency"][1]["uses"][0], "orders");
    assert_eq!(market.history().orders().count(), 0);
}

#[tokio::test]
async fn a_dashboard_that_other_machines_reach_is_warned_of() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let mut config = config(&market, &data);
    for (listen, is_warned) in [("127.0.0.1:0", false), ("0.0.0.0:0", true)] {
        config.dashboard.listen = Some(listen.parse().unwrap());
        let report = run_checks(&feed_of(config.clone()), WAIT, |_step| {}).await;
        let seen = &report.steps.iter().find(|step| step.name == "settings").unwrap().detail;
        let warning =
            format!("warning: the dashboard at {listen} is reachable from other machines");
        assert_eq!(seen.contains(&warning), is_warned, "{seen}");
    }
}
