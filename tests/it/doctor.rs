//! The doctor against the practice market: well, and ill in each way that a person may meet.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{process::Command, time::Duration};

use serde_json::Value;
use sniper::{
    config::{Config, Credential, Endpoints},
    doctor::{
        examine,
        step::{DoctorReport, STEPS, StepResult},
    },
    domain::money::Amount,
    sim::{Rate, SimServer, SimSettings},
};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(10);

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

/// The steps that are not green, and whether each was tried.
fn ill(examination: &DoctorReport) -> Vec<(&'static str, bool)> {
    let names: Vec<&str> = examination.steps.iter().map(|step| step.name).collect();
    assert_eq!(names, STEPS, "every step is reported, in order");
    let ill = examination.steps.iter().filter(|step| !step.is_green());
    ill.map(|step| (step.name, step.finding != StepResult::Untried)).collect()
}

#[tokio::test]
async fn a_market_that_is_well_is_green_in_every_step_and_nothing_is_bought() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let mut shown = Vec::new();
    let examination =
        examine(&config(&market, &data), WAIT, |step| shown.push(step.line(false).to_string()))
            .await;
    assert_eq!(ill(&examination), [], "{shown:#?}");
    assert_eq!((examination.is_well(), examination.exit_code()), (true, 0));
    assert_eq!(shown.len(), STEPS.len());
    assert!(!shown.concat().contains(&market.session()), "{shown:#?}");
    assert_eq!(market.books().purchases().count(), 0);
    assert_eq!(market.books().requests().count(), 0);
    assert!(std::fs::read_dir(data.path().join("data")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_found_at_tcp_and_what_follows_is_not_tried() {
    let data = TempDir::new().unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints =
        Endpoints::new(&format!("ws://{gone}/ws"), &format!("http://{gone}/graphql")).unwrap();
    let examination = examine(&Config::new(endpoints, data.path()), WAIT, |_step| {}).await;
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
        ("clock interval", false),
    ];
    assert_eq!(ill(&examination), expected);
    assert_eq!(examination.exit_code(), 69);
}

#[tokio::test]
async fn a_guest_and_an_expired_session_are_told_to_sign_in() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let guest = Config { credential: None, ..config(&market, &data) };
    let examination = examine(&guest, WAIT, |_step| {}).await;
    assert_eq!(ill(&examination), [("sign-in", true), ("balance", false), ("own trades", false)]);

    let known = config(&market, &data);
    market.replace_session("another-session-altogether");
    let examination = examine(&known, WAIT, |_step| {}).await;
    assert!(ill(&examination).contains(&("sign-in", true)), "{examination:?}");
}

#[tokio::test]
async fn a_balance_below_its_floor_is_red() {
    let settings = SimSettings {
        rate: Rate::per_second(50),
        balance: Amount::from_cents(499),
        ..SimSettings::default()
    };
    let (market, data) = (SimServer::start(settings).unwrap(), TempDir::new().unwrap());
    let examination = examine(&config(&market, &data), WAIT, |_step| {}).await;
    assert_eq!(ill(&examination), [("balance", true)]);
}

#[tokio::test]
async fn a_market_on_which_nothing_is_listed_is_told_from_one_that_is_not_there() {
    let settings = SimSettings { rate: Rate::NONE, rivals: None, ..SimSettings::default() };
    let (market, data) = (SimServer::start(settings).unwrap(), TempDir::new().unwrap());
    let wait = Duration::from_millis(200);
    let examination = examine(&config(&market, &data), wait, |_step| {}).await;
    assert_eq!(ill(&examination), [("first listing", true)]);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_red() {
    let (market, data) = (market(), TempDir::new().unwrap());
    let file = data.path().join("data");
    std::fs::write(&file, "").unwrap();
    let examination = examine(&config(&market, &data), WAIT, |_step| {}).await;
    assert_eq!(ill(&examination), [("disk", true)]);
}

#[test]
fn the_command_ends_with_one_json_object_and_its_exit_code() {
    let (market, desk) = (market(), TempDir::new().unwrap());
    let run = |words: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sniper"))
            .arg("doctor")
            .args(words)
            .current_dir(desk.path())
            .env_clear()
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
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
    assert!(out.ends_with("All is well.\n"), "{out}");
    assert!(!out.contains('\u{1b}'), "colors are for terminals: {out:?}");
    assert!(!out.contains(&market.session()), "{out}");
    std::fs::write(desk.path().join("sniper.toml"), "[budget]\nmax_pric = 1\n").unwrap();
    let output = run(&["--json"]);
    let out = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["ok"], output.status.code()), (&Value::Bool(false), Some(78)));
    assert_eq!(last["steps"][0]["state"], "red");
}
