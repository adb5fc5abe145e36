//! The bot on markets with an API key.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use sniper::{
    account::{
        AccountReader, AccountUpdate, PollConfig, ReadFailure, RefreshRequests, poll_account,
    },
    config::{Config, Credential},
    domain::money::Amount,
    markets::{MarketApi as _, lis_skins::LisSkins, waxpeer::Waxpeer},
    net::http_client::try_acquire_quota,
    sim::{
        Fault, LisSkinsSim, SimSettings, WaxpeerSim,
        faults::FaultKind,
        repricing::server::{RepricingServer, WireFormat},
    },
    ws::{self, Feed, FeedError},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    buyer::market::{Market, Reaction, Request, WAIT_MAX, answer},
    session::{AMPLE_LIMITS, process::Program, quiet, redline, until},
};

/// Waits until the bot can order.
#[track_caller]
fn ready<W: WireFormat>(bot: &Program, market: &RepricingServer<W>) -> impl Future<Output = ()> {
    until(|| {
        let log = bot.out() + &bot.err();
        assert!(!log.contains("ERROR"), "{log}");
        log.contains("Signed in") && market.stats().feeds_subscribed > 0
    })
}

#[tokio::test]
async fn nothing_is_reconciled_without_a_readable_balance() {
    let reads = AtomicU32::new(0);
    let market = Market::plain(move |_| {
        let wallet = if reads.fetch_add(1, Ordering::Relaxed) == 0 { "null" } else { "53300" };
        let body = format!(r#"{{"success":true,"user":{{"id":"a","wallet":{wallet}}}}}"#);
        Reaction::Answer(answer(200, "", &body))
    })
    .await;
    let credential = Credential::from_key("key-of-the-test-without-list").unwrap();
    let waxpeer = Waxpeer::new(&Config::new(market.endpoints.clone(), "unused"));
    let reader =
        AccountReader::new(waxpeer, &market.endpoints.http, Some(&credential), &market.tls)
            .unwrap()
            .with_min_interval(Duration::ZERO);
    let (sender, mut updates) = mpsc::channel(16);
    let requests = RefreshRequests::default();
    let poll_config = PollConfig { interval_min: Duration::ZERO, ..PollConfig::default() };
    let consumer = async {
        for balance in [None, Some(Amount::from_thousandths(53_300))] {
            let update = updates.recv().await.unwrap();
            let AccountUpdate::User(reading) = update else { panic!("{update:?}") };
            assert_eq!(reading.user.balance, balance);
            requests.request_refresh();
        }
        // The ledger was compared with nothing before.
        let update = updates.recv().await.unwrap();
        assert!(matches!(update, AccountUpdate::NoPurchases { .. }), "{update:?}");
        drop(updates);
    };
    let watched = poll_account(&reader, poll_config, &requests, &sender);
    timeout(WAIT_MAX, async { tokio::join!(watched, consumer) }).await.unwrap();
}

#[tokio::test]
async fn a_read_that_was_asked_to_wait_delays_the_token_of_the_feed() {
    let too_many = |_: &Request| Reaction::Answer(answer(429, "Retry-After: 30\r\n", "{}"));
    let market = Market::plain(too_many).await;
    let credential = Credential::from_key("key-of-the-test-of-waits").unwrap();
    let mut config = Config::new(market.endpoints.clone(), "unused");
    config.credential = Some(credential.clone());
    let lis_skins = LisSkins::new(&config);
    let http = &market.endpoints.http;
    let reader =
        AccountReader::new(lis_skins.clone(), http, Some(&credential), &market.tls).unwrap();
    let failure = reader.current_user().await.unwrap_err();
    assert!(matches!(failure, ReadFailure::Wait { status: 429, .. }), "{failure:?}");
    let ended = ws::connect_once(&Feed::new(lis_skins, config), |_trade| {}).await;
    let Err(FeedError::TokenRejected(head)) = ended else { panic!("{ended:?}") };
    assert_eq!(head.status, 429);
    assert!(Some(Duration::from_secs(20)) < head.retry_after, "{head:?}");
    assert_eq!(market.requests().len(), 1, "a token was requested");
}

#[tokio::test]
async fn reads_and_tokens_wait_for_the_documented_limit_that_other_requests_have_used() {
    let balance =
        |_: &Request| Reaction::Answer(answer(200, "", r#"{"data":{"balance":1.5,"token":"t"}}"#));
    let market = Market::plain(balance).await;
    let mut config = Config::new(market.endpoints.clone(), "unused");
    config.credential = Some(Credential::from_key("key-of-the-test-of-limits").unwrap());
    let (lis_skins, http) = (LisSkins::new(&config), &market.endpoints.http);
    let (credential, reads) = (config.credential.clone(), LisSkins::CAPABILITIES.reads);
    let reader = AccountReader::new(lis_skins.clone(), http, credential.as_ref(), &market.tls);
    let reader = reader.unwrap().with_min_interval(Duration::ZERO);
    let exhaust = |quota| {
        let began = Instant::now();
        let wait = std::iter::repeat_with(|| try_acquire_quota(&http.origin(), quota))
            .find_map(Result::err);
        (began, wait.unwrap())
    };
    let (began, wait) = exhaust(reads.read_quota());
    reader.current_user().await.unwrap();
    assert!(wait <= began.elapsed(), "the read did not wait {wait:?}");

    let (began, wait) = exhaust(reads.other_quota());
    let ended = ws::connect_once(&Feed::new(lis_skins, config), |_trade| {}).await;
    assert!(wait <= began.elapsed(), "the token did not wait {wait:?}: {ended:?}");
    assert!(2 <= market.requests().len(), "no token was requested");
}

#[tokio::test]
async fn a_token_that_is_rejected_with_429_without_a_wait_delays_the_next_token() {
    let market = Market::plain(|_: &Request| Reaction::Answer(answer(429, "", "{}"))).await;
    let mut config = Config::new(market.endpoints.clone(), "unused");
    config.credential = Some(Credential::from_key("key-of-the-test-of-tokens").unwrap());
    let feed = Feed::new(LisSkins::new(&config), config);
    for is_asked_to_wait in [false, true] {
        let ended = ws::connect_once(&feed, |_trade| {}).await;
        let Err(FeedError::TokenRejected(head)) = ended else { panic!("{ended:?}") };
        assert_eq!((head.status, head.retry_after.is_some()), (429, is_asked_to_wait));
    }
    assert_eq!(market.requests().len(), 1, "the second token was requested");
}

#[tokio::test]
async fn a_lost_ledger_is_replaced_only_without_counting_the_purchases() {
    let market = WaxpeerSim::start(quiet()).unwrap();
    let mut counted = Program::start_on("waxpeer", &market, &["run", "--live", "--new-ledger"]);
    assert_eq!(counted.ended().await, Some(73));
    let log = counted.out() + &counted.err();
    assert!(log.contains("purchases cannot be listed on this market; check by hand"), "{log}");
    assert!(log.contains("lower `total` by what that cost"), "{log}");
    assert!(log.contains("start with --new-ledger --not-counted"), "{log}");
    let args = ["run", "--live", "--new-ledger", "--not-counted"];
    let directory = std::mem::replace(&mut counted.directory, tempfile::tempdir().unwrap());
    let started = Program::at(directory, &args, "info");
    ready(&started, &market).await;
}

#[tokio::test]
async fn a_stop_waits_as_long_as_the_market_may_take_for_an_order() {
    let faults = vec![Fault::always(FaultKind::Hang)];
    let market = LisSkinsSim::start(SimSettings { faults, ..quiet() }).unwrap();
    let mut bot = Program::start_on("lis-skins", &market, &["run", "--live"]);
    ready(&bot, &market).await;
    market.list_items(vec![redline(1_015)]);
    until(|| market.history().orders().count() == 1).await;
    bot.signal("-TERM");
    let waits = "waiting up to 35 s for 1 order in flight; ";
    until(|| (bot.out() + &bot.err()).contains(waits)).await;
    bot.signal("-TERM");
    assert_eq!(bot.ended().await, Some(143), "{}", bot.err());
}

#[tokio::test]
async fn amounts_of_a_bot_have_its_unit_after_its_settings_name_another_market() {
    let market = WaxpeerSim::start(quiet()).unwrap();
    let bot = Program::start_on("waxpeer", &market, &["run", "--live"]);
    ready(&bot, &market).await;
    market.list_items(vec![redline(1_015)]);
    until(|| (bot.out() + &bot.err()).contains("BOUGHT")).await;
    let policy = bot.directory.path().join("sniper.toml");
    fs::write(policy, format!("market = \"csgoroll\"\n{AMPLE_LIMITS}")).unwrap();
    let list = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["ledger", "list"])
        .current_dir(bot.directory.path())
        .env_clear()
        .env("XDG_STATE_HOME", bot.directory.path().join("state"))
        .output()
        .unwrap();
    let text = String::from_utf8(list.stdout).unwrap();
    assert!(text.ends_with("1 order, 1 of them bought for 10.15 USD\n"), "{text}");
}
