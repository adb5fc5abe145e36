//! Settings of each market: credentials, addresses, data directories, and what a market cannot
//! honor.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use sniper::{
    commands::simulated_market::settings_file,
    config::{Config, Market, Sources, load::BotPaths},
    domain::money::Decimals,
    recording::Recording,
    secret,
    sim::{LisSkinsSim, Rate, SimSettings, WaxpeerSim},
};

use crate::{
    config::Workspace,
    market::{client::until, lis_skins, waxpeer},
};

const TRADE_URL: &str =
    "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=Zq9-xW_3";

const POLICY: &str =
    "[budget]\nmax_price = 5\ntotal = 9\n[[whitelist]]\nitem = \"x\"\nmax_price = 4\n";

/// Creates a directory with a `sniper.toml` for a market.
fn workspace(market: Market, policy: &str) -> Workspace {
    let settings = format!("market = \"{}\"\n{policy}", market.name());
    Workspace::new().file("sniper.toml", settings)
}

impl Workspace {
    #[track_caller]
    fn config(&self) -> Config {
        self.loaded().config
    }

    #[track_caller]
    fn check_problems(&self, expected: &[&str]) {
        let actual: Vec<String> = match self.load() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.list().iter().map(ToString::to_string).collect(),
        };
        let fits = actual.len() == expected.len()
            && actual.iter().zip(expected).all(|(actual, expected)| actual.contains(expected));
        assert!(fits, "actual: {actual:#?}\nexpected: {expected:#?}");
    }
}

#[test]
fn each_market_has_its_own_addresses_and_data_directory() {
    for (market, ws, http, data) in [
        (
            Market::Csgoroll,
            "wss://router.csgoroll.com/ws",
            "https://router.csgoroll.com/graphql",
            "data",
        ),
        (
            Market::LisSkins,
            "wss://ws.lis-skins.com/connection/websocket",
            "https://api.lis-skins.com/v1",
            "data/lis-skins",
        ),
        (
            Market::Waxpeer,
            "wss://waxpeer.com/socket.io/?EIO=4&transport=websocket",
            "https://api.waxpeer.com/v1",
            "data/waxpeer",
        ),
    ] {
        let made = workspace(market, POLICY).variable("LIS_SKINS_KEY", "key-of-a-test-1");
        let config = made.config();
        assert_eq!(config.market, market);
        assert_eq!(config.endpoints.ws.to_string(), ws);
        assert_eq!(config.endpoints.http.to_string(), http);
        assert_eq!(config.endpoints.origin.is_empty(), market != Market::Csgoroll);
        let directory = made.directory.path();
        assert_eq!(config.data_dir, directory.join(data));
        let named = |name: &str| (name == "SNIPER_DATA").then(|| "elsewhere".to_owned());
        // The commands on a ledger find the same directory, even with other settings invalid.
        fs::write(
            directory.join("sniper.toml"),
            format!("market = \"{}\"\n[budget]\ntotal = x\n", market.name()),
        )
        .unwrap();
        let found = |lookup: &dyn Fn(&str) -> Option<String>, config_file: Option<&str>| {
            let config_file = config_file.map(Path::new);
            let decimals = |_market: Market| Decimals::Two;
            BotPaths::of(&Sources { lookup, directory, config_file, live: false, decimals }).data
        };
        assert_eq!(found(&|_| None, None), directory.join(data));
        assert_eq!(found(&named, None), directory.join("elsewhere"));
        assert_eq!(found(&|_| None, Some("other.toml")), directory.join("data"));
    }
}

#[test]
fn only_the_credential_of_the_chosen_market_is_used() {
    let with_all = |market| {
        workspace(market, POLICY)
            .variable("CSGOROLL_SESSION", "s%3Amarket-settings")
            .variable("LIS_SKINS_KEY", "key-of-lis-skins")
            .variable("WAXPEER_KEY", "key-of-waxpeer")
            .variable("LIS_SKINS_USER_ID", "4711")
            .variable("STEAM_TRADE_URL", TRADE_URL)
            .live()
    };
    for (market, credential, account, has_trade_url) in [
        (Market::Csgoroll, "session=s%3Amarket-settings", None, false),
        (Market::LisSkins, "key-of-lis-skins", Some("4711"), true),
        (Market::Waxpeer, "key-of-waxpeer", None, true),
    ] {
        let config = with_all(market).config();
        assert_eq!(config.credential.unwrap().value().reveal(), credential);
        assert_eq!(config.account_id.as_deref(), account);
        assert_eq!(config.trade_url.is_some(), has_trade_url);
    }
    // All are masked, for each market.
    for value in ["key-of-lis-skins", "key-of-waxpeer", "Zq9-xW_3"] {
        assert!(secret::appears_in(&format!("echo {value}")), "{value}");
    }
}

#[test]
fn live_mode_needs_the_key_and_the_trade_url_of_its_market() {
    let live = |market| workspace(market, POLICY).live();
    live(Market::LisSkins).check_problems(&[
        "live mode on LIS-SKINS needs STEAM_TRADE_URL",
        "live mode on LIS-SKINS needs LIS_SKINS_USER_ID, by which the ledger knows its account",
        "live mode needs a credential; create an API key in your profile at LIS-SKINS and copy it \
         into .env as LIS_SKINS_KEY",
    ]);
    live(Market::Waxpeer)
        .variable("LIS_SKINS_KEY", "key-of-lis-skins")
        .variable("STEAM_TRADE_URL", TRADE_URL)
        .check_problems(&["live mode needs a credential; create an API key in your profile at \
                           Waxpeer and copy it into .env as WAXPEER_KEY"]);
    live(Market::Waxpeer)
        .variable("WAXPEER_KEY", "key-of-waxpeer")
        .variable("WAXPEER_WS_URL", "ws://127.0.0.1:1/")
        .variable("STEAM_TRADE_URL", "https://example.com/?partner=1&token=hunter12")
        .check_problems(&[
            "STEAM_TRADE_URL does not begin with https://steamcommunity.com/tradeoffer/new/?; copy \
             it from Steam",
            "WAXPEER_WS_URL and WAXPEER_HTTP_URL are different markets",
        ]);
}

#[test]
fn a_dry_run_works_without_a_key_where_the_feed_does() {
    assert!(workspace(Market::Waxpeer, POLICY).config().credential.is_none());
    workspace(Market::LisSkins, POLICY)
        .check_problems(&["the feed of LIS-SKINS needs a key, in a dry run too"]);
    let invalid = workspace(Market::LisSkins, POLICY)
        .variable("LIS_SKINS_KEY", "two words")
        .variable("LIS_SKINS_USER_ID", "me");
    invalid.check_problems(&[
        "LIS_SKINS_KEY contains a space, a quote, a comma or a semicolon, so it is not an API key",
        "LIS_SKINS_USER_ID is not the number of an account",
    ]);
}

#[test]
fn only_a_command_that_dials_the_feed_or_checks_a_run_needs_the_key_of_the_feed() {
    let directory = tempfile::tempdir().unwrap();
    let settings = format!("market = \"lis-skins\"\n{POLICY}");
    fs::write(directory.path().join("sniper.toml"), settings).unwrap();
    let names_key = |args: &[&str]| {
        let output = sniper(directory.path(), &[], args);
        let text = [&*output.stdout, &*output.stderr].concat();
        let is_named = String::from_utf8_lossy(&text).contains("LIS-SKINS needs a key");
        (is_named, output.status.code() == Some(78))
    };
    for args in [&["run", "--for", "1s"][..], &["check"], &["capture", "lis-skins", "--out", "rec"]]
    {
        assert_eq!(names_key(args), (true, true), "{args:?}");
    }
    assert!(names_key(&["doctor"]).0);
    for args in [
        &["replay", "rec"][..],
        &["profit"],
        &["prices", "status"],
        &["whitelist", "list"],
        &["whitelist", "suggest", "rec"],
        &["whitelist", "export"],
        &["config", "show"],
        &["alert", "test"],
        &["ledger"],
        &["status"],
    ] {
        assert_eq!(names_key(args), (false, false), "{args:?}");
    }
    let add = ["whitelist", "add", "AWP | Asiimov (Field-Tested)", "--max-price", "4"];
    assert_eq!(names_key(&add), (false, false));
}

#[test]
fn the_ledger_shows_the_unit_of_its_market_while_another_setting_is_invalid() {
    let directory = tempfile::tempdir().unwrap();
    let settings = SimSettings { rate: Rate::per_second(100), ..SimSettings::default() };
    let market = LisSkinsSim::start(settings).unwrap();
    let path = directory.path().join("sniper.toml");
    fs::write(&path, settings_file(Market::LisSkins)).unwrap();
    let run = |args: &[&str]| {
        let output = sniper(directory.path(), &market.environment(), args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["run", "--live", "--for", "4s"]);
    fs::write(&path, "market = \"lis-skins\"\n[budget]\ntotal = x\n").unwrap();
    let text = run(&["ledger", "list"]);
    let last = text.lines().last().unwrap();
    assert!(last.contains(" of them bought for ") && last.ends_with(" USD"), "{text}");
}

#[test]
fn settings_that_the_market_does_not_have_are_errors() {
    let feed = "[feed]\ngeneration = \"B\"\nserver_filters = true\nsweep_at_start = true\n\
                [prices]\ncoin_usd = 0.65\n";
    let waxpeer = workspace(Market::Waxpeer, &format!("{feed}{POLICY}"));
    waxpeer.check_problems(&[
        "`generation` has no meaning on Waxpeer; remove it",
        "`server_filters` has no meaning on Waxpeer; remove it",
        "`sweep_at_start` has no meaning on Waxpeer; remove it",
        "`coin_usd` has no meaning on Waxpeer; remove it",
    ]);
    let off = "[feed]\nserver_filters = false\nsweep_at_start = false\n";
    workspace(Market::Waxpeer, &format!("{off}{POLICY}")).check_problems(&[]);
    workspace(Market::Csgoroll, &format!("{feed}{POLICY}")).check_problems(&[]);
}

#[test]
fn an_entry_has_a_bound_on_the_markup_by_default_only_where_there_is_a_markup() {
    let markup = |market, policy: &str| {
        let made = workspace(market, policy).variable("LIS_SKINS_KEY", "key-of-a-test-1");
        made.config().whitelist[0].max_markup
    };
    assert!(markup(Market::Csgoroll, POLICY).is_some());
    assert_eq!(markup(Market::LisSkins, POLICY), None);
    assert_eq!(markup(Market::Waxpeer, POLICY), None);
    // One that is set stays, so that `check` can report it.
    let set = format!("{POLICY}max_markup_percent = 1\n");
    assert!(markup(Market::Waxpeer, &set).is_some());
}

#[test]
fn a_percent_rule_needs_no_value_of_a_coin_on_a_market_in_dollars() {
    let policy = format!(
        "[prices]\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\npath = \"p.csv\"\nunit = \
         \"usd\"\n{POLICY}max_percent = 88\nmax_quantity = 1\n"
    );
    workspace(Market::Waxpeer, &policy).check_problems(&[]);
    workspace(Market::Csgoroll, &policy).check_problems(&["missing `coin_usd`"]);
}

/// Runs the program in a directory, with these environment variables and no others.
fn sniper(directory: &Path, environment: &[(&str, String)], args: &[&str]) -> Output {
    command(directory, environment, args).output().unwrap()
}

fn command(directory: &Path, environment: &[(&str, String)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.env_clear().current_dir(directory).args(args);
    command.env("XDG_STATE_HOME", directory.join("state"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

#[test]
fn check_run_and_reload_name_the_entry_whose_setting_the_market_does_not_have() {
    let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
    let market = WaxpeerSim::start(settings).unwrap();
    let (directory, environment) = (tempfile::tempdir().unwrap(), market.environment());
    let run = |args: &[&str]| sniper(directory.path(), &environment, args);
    let write = |policy: &str| {
        let settings = format!("market = \"waxpeer\"\n{policy}");
        fs::write(directory.path().join("sniper.toml"), settings).unwrap();
    };
    let markup = format!("{POLICY}max_markup_percent = 1\n");
    write(&markup);
    for args in [&["check"][..], &["run", "--for", "1s"]] {
        let output = run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{args:?}: {error}");
        assert!(error.contains("max_markup_percent of \"x\""), "{args:?}: {error}");
    }
    write(&format!("{POLICY}max_age_s = 60\n"));
    let output = run(&["check"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.contains("max_age_s of \"x\""), "{error}");
    write(POLICY);
    let mut bot = command(directory.path(), &environment, &["run", "--for", "20s"]);
    let mut bot = bot.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !run(&["reload"]).status.success() {
        assert!(bot.try_wait().unwrap().is_none(), "the bot has ended");
    }
    write(&markup);
    let output = run(&["reload"]);
    bot.kill().unwrap();
    bot.wait().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("nothing was changed: this market cannot honor"), "{error}");
    assert!(error.contains("max_markup_percent of \"x\""), "{error}");
}

#[test]
fn the_demo_buys_on_each_market_and_shows_its_unit() {
    for (market, unit) in [("csgoroll", "coins"), ("lis-skins", "USD"), ("waxpeer", "USD")] {
        let directory = tempfile::tempdir().unwrap();
        let args = ["demo", "--market", market, "--for", "6s", "--rate", "200", "--explain"];
        let output = sniper(directory.path(), &[], &args);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{market}: {text}");
        for parts in [
            ["BUY sent", " % of reference 4.4", "[slate]"],
            ["BOUGHT", " % of example.bid 4.4", "margin "],
            ["NO MATCH", " % of example.bid ", ", above 80.00 %  [knives]"],
            ["  AK-47 | Slate (", " % of example.bid 4.4", "[slate]  20"],
        ] {
            let is_shown = |line: &str| parts.iter().all(|part| line.contains(part));
            assert!(text.lines().any(is_shown), "{market}: {parts:?}: {text}");
        }
        let bought = |line: &&str| line.contains("  bought for ") && line.ends_with(unit);
        assert_eq!(text.lines().filter(bought).count(), 1, "{market}: {text}");
        let simulator = text.lines().find(|line| line.starts_with("Simulator: ")).unwrap();
        assert!(!simulator.contains(", 0 sold to you"), "{market}: {simulator}");
        assert!(simulator.ends_with(", 0 ordered twice."), "{market}: {simulator}");
    }
}

/// Settings of a simulator with this fault of every order.
fn failing(fault: &str) -> SimSettings {
    let faults = vec![fault.parse().unwrap()];
    SimSettings { rate: Rate::per_second(100), faults, ..SimSettings::default() }
}

/// Runs a live bot with the simulator's settings and returns its output.
fn log_of_live_run(market: Market, environment: &[(&str, String)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sniper.toml"), settings_file(market)).unwrap();
    let output = sniper(directory.path(), environment, &["run", "--live", "--for", "5s"]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{market:?}: {text}");
    text
}

#[test]
fn a_key_that_is_bound_to_another_address_halts_once_with_what_to_do() {
    let lis_skins = LisSkinsSim::start(failing("address-not-bound")).unwrap();
    let waxpeer = WaxpeerSim::start(failing("address-not-bound")).unwrap();
    for (market, environment) in
        [(Market::LisSkins, lis_skins.environment()), (Market::Waxpeer, waxpeer.environment())]
    {
        let text = log_of_live_run(market, &environment);
        let halts: Vec<&str> =
            text.lines().filter(|line| line.contains(" ERROR Ordering halted: ")).collect();
        let [halt] = halts[..] else { panic!("{market:?}: {halts:?}\n{text}") };
        assert!(halt.contains("bound to the IP address of this machine"), "{market:?}: {halt}");
    }
}

/// Returns the address of a proxy to a market, and all that its clients have sent.
fn recording_proxy(market: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let recorded = Arc::clone(&sent);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(market).unwrap());
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let recorded = Arc::clone(&recorded);
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || {
                let mut bytes = [0; 4_096];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    let read = bytes.get(..count).unwrap();
                    recorded.lock().unwrap().extend(read);
                    server.write_all(read).unwrap();
                }
            });
        }
    });
    (address, sent)
}

#[test]
fn an_unknown_message_of_waxpeer_is_quoted_and_the_order_is_looked_up_by_its_own_id() {
    let market = WaxpeerSim::start(failing("unknown-error")).unwrap();
    let (proxy, sent) = recording_proxy(market.address());
    let mut environment = market.environment();
    let http = environment.iter_mut().find(|(name, _)| *name == "WAXPEER_HTTP_URL").unwrap();
    http.1 = format!("http://{proxy}/v1");
    let text = log_of_live_run(Market::Waxpeer, &environment);
    let unknown = text.lines().find(|line| line.contains("UNKNOWN ")).unwrap();
    assert!(unknown.contains(r#": "Something unexpected happened ("#), "{unknown}");
    let sent = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
    let (_before, own_id) = sent.split_once("&project_id=").unwrap();
    let own_id = own_id.split([' ', '&']).next().unwrap();
    let is_look_up = |line: &&str| line.starts_with("GET /v1/check-many-project-id?");
    let mut look_ups = sent.lines().filter(is_look_up);
    assert!(look_ups.any(|line| line.contains(&format!("id={own_id}"))), "{own_id}: {sent}");
}

#[test]
fn a_directory_with_the_ledger_of_another_market_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let settings = || SimSettings { rate: Rate::NONE, ..SimSettings::default() };
    let run = |market: Market, mut environment: Vec<(&'static str, String)>| {
        fs::write(directory.path().join("sniper.toml"), settings_file(market)).unwrap();
        environment.push(("SNIPER_DATA", "shared".to_owned()));
        sniper(directory.path(), &environment, &["run", "--live", "--for", "2s"])
    };
    let waxpeer = WaxpeerSim::start(settings()).unwrap();
    let output = run(Market::Waxpeer, waxpeer.environment());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let lis_skins = LisSkinsSim::start(settings()).unwrap();
    let output = run(Market::LisSkins, lis_skins.environment());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{error}");
    assert!(error.contains("belongs to"), "{error}");
}

#[test]
fn a_directory_with_the_ledger_of_another_account_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
    let market = LisSkinsSim::start(settings).unwrap();
    fs::write(directory.path().join("sniper.toml"), settings_file(Market::LisSkins)).unwrap();
    let run = |account: &str| {
        let mut environment = market.environment();
        let id = environment.iter_mut().find(|(name, _)| *name == "LIS_SKINS_USER_ID").unwrap();
        id.1 = account.to_owned();
        sniper(directory.path(), &environment, &["run", "--live", "--for", "2s"])
    };
    let output = run(&market.account().user_id);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let output = run("90210");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{error}");
    assert!(error.contains("belongs to"), "{error}");
}

#[test]
fn a_recording_of_each_market_is_replayed() {
    let settings = || SimSettings { rate: Rate::per_second(100), ..SimSettings::default() };
    let (lis_skins, waxpeer) =
        (LisSkinsSim::start(settings()).unwrap(), WaxpeerSim::start(settings()).unwrap());
    for (market, environment) in
        [(Market::LisSkins, lis_skins.environment()), (Market::Waxpeer, waxpeer.environment())]
    {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sniper.toml"), settings_file(market)).unwrap();
        let run = |args: &[&str]| {
            let output = sniper(directory.path(), &environment, args);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{market:?} {args:?}: {error}");
            let text = String::from_utf8(output.stdout).unwrap();
            let json = text.lines().last().unwrap();
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        };
        run(&["run", "--for", "5s", "--record", "--json"]);
        let replayed = run(&["replay", "--json"]);
        for key in ["listings", "matched", "would_buy"] {
            assert!(replayed[key].as_u64() > Some(0), "{market:?}: {key} is {}", replayed[key]);
        }
    }
}

/// LIS-SKINS requires a token for each connection. With a key, Waxpeer sends the account's messages
/// on every connection.
#[test]
fn the_feed_of_each_market_is_recorded_without_the_bot() {
    let settings =
        || SimSettings { rate: Rate::per_second(50), rivals: None, ..SimSettings::default() };
    let (lis_skins, waxpeer) =
        (LisSkinsSim::start(settings()).unwrap(), WaxpeerSim::start(settings()).unwrap());
    for (market, environment) in
        [(Market::LisSkins, lis_skins.environment()), (Market::Waxpeer, waxpeer.environment())]
    {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sniper.toml"), settings_file(market)).unwrap();
        let args = ["capture", market.name(), "--out", "rec", "--for", "3s", "--json"];
        let mut capture = command(directory.path(), &environment, &args);
        let capture = capture.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let is_subscribed = || match market {
            Market::LisSkins => lis_skins.stats().feeds_subscribed > 0,
            _ => waxpeer.stats().feeds_subscribed > 0,
        };
        until("the capture is subscribed", is_subscribed);
        let (id, answer) = match market {
            Market::LisSkins => {
                let id = lis_skins::list_one(&lis_skins);
                (id, lis_skins::buy(&lis_skins, id, "by-hand").unwrap())
            }
            _ => {
                let id = waxpeer::list_one(&waxpeer);
                (id, waxpeer::buy(&waxpeer, id, "by-hand").unwrap())
            }
        };
        assert!(answer.body.contains(r#""id":"#), "{answer:?}");
        let output = capture.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{market:?}: {error}");
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(result["messages"].as_u64() > Some(20), "{market:?}: {result} {error}");
        let session = fs::read_dir(directory.path().join("rec")).unwrap().next().unwrap().unwrap();
        let recording = Recording::open(session.path()).unwrap();
        let lines: Vec<String> = recording.messages().map(|line| line.unwrap().raw).collect();
        assert!(lines.iter().any(|line| line.contains(&id.to_string())), "{market:?}");
        for line in lines {
            let is_private = ["change_user", "steamTrade", "private:"]
                .iter()
                .any(|private| line.contains(private))
                || (line.contains("handshake") && !line.contains(r#""id":null"#));
            assert!(!is_private, "{market:?}: {line}");
        }
    }
}

#[test]
fn a_recording_of_another_market_than_that_of_the_settings_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let output = sniper(directory.path(), &[], &["capture", "waxpeer", "--out", "rec"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.contains("write market = \"waxpeer\" into the settings file"), "{error}");
}

#[test]
fn the_market_s_limit_on_orders_applies() {
    let policy = POLICY.replace("total = 9\n", "total = 9\nmax_buys_per_minute = 600\n");
    let limit = |market| {
        let workspace = workspace(market, &policy).variable("LIS_SKINS_KEY", "key-of-a-test-1");
        let loaded = workspace.load().unwrap();
        (loaded.config.budget.max_buys_per_minute, loaded.warnings.len())
    };
    assert_eq!(limit(Market::LisSkins), (500, 1));
    assert_eq!(limit(Market::Waxpeer), (600, 0));
}
