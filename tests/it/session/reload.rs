//! `sniper reload` and SIGHUP: changed settings in a running program.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use sniper::sim::{ListedItem, SimServer};

use super::{
    AMPLE_LIMITS, REDLINE, cents,
    process::{Program, ready},
    quiet, redline, until,
};

/// Runs a command in the directory of a program.
fn command(program: &Program, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(args)
        .current_dir(program.directory.path())
        .env_clear()
        .env("XDG_STATE_HOME", program.directory.path().join("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a command that prints JSON.
fn json(program: &Program, args: &[&str]) -> Value {
    serde_json::from_slice(&command(program, args).stdout).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn write_settings(program: &Program, policy: &str) {
    fs::write(program.directory.path().join("sniper.toml"), policy).unwrap();
}

/// Lists one item and waits until it was bought.
async fn buy(market: &SimServer, price: i64) {
    let before = market.history().purchases().count();
    market.list_items(vec![redline(price)]);
    until(|| market.history().purchases().count() > before).await;
}

#[tokio::test]
async fn a_reload_applies_the_whitelist_and_the_budget_and_names_what_needs_a_restart() {
    let market = SimServer::start(quiet()).unwrap();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live"]);
    ready(&program, &market).await;
    buy(&market, 1_015).await;
    let changed = AMPLE_LIMITS
        .replace("max_price = 500", "max_price = 11")
        .replace("total = 100000", "total = 30")
        + "\n[[whitelist]]\nitem = \"Fracture Case\"\nmax_price = 1\nmax_quantity = 1\n\
           \n[feed]\nconnections = 2\n";
    write_settings(&program, &changed);
    let dotenv = program.directory.path().join(".env");
    let renewed = fs::read_to_string(&dotenv).unwrap().replace(&market.session(), "renewed");
    fs::write(&dotenv, renewed).unwrap();
    let done = command(&program, &["reload"]);
    let out = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{out}{}", text(&done.stderr));
    for line in [
        "Settings of the live bot reloaded.",
        "  Whitelist: 2 entries (1 added, 1 changed, 0 removed)",
        "  Budget: total 100000.00 → 30.00",
        "  Not applied: [feed] cannot change while the bot runs; restart it",
        "  Not applied: the credential cannot change while the bot runs; restart it",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
    // Above the new max_price: not ordered. The next one is, and then the new total is reached.
    market.list_items(vec![redline(1_200)]);
    buy(&market, 1_000).await;
    market.list_items(vec![redline(1_050)]);
    until(|| program.out().contains("would exceed total 30.00")).await;
    assert_eq!(market.history().orders().count(), 2);
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let ledger = command(&program, &["ledger", "verify"]);
    assert_eq!(ledger.status.code(), Some(0), "{}", text(&ledger.stdout));
}

#[tokio::test]
async fn a_mistake_changes_nothing_and_is_named_with_its_line() {
    let market = SimServer::start(quiet()).unwrap();
    let program = Program::start(&market, AMPLE_LIMITS, &["run", "--live"]);
    ready(&program, &market).await;
    write_settings(
        &program,
        &AMPLE_LIMITS.replace("max_price = 500", "max_price = \"cheap\"\nbogus = 1"),
    );
    let done = command(&program, &["reload"]);
    let err = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{err}");
    assert!(err.contains("nothing was changed, because the settings are invalid"), "{err}");
    assert!(err.contains("sniper.toml:11:") && err.contains("sniper.toml:12:"), "{err}");
    buy(&market, 1_015).await;
    write_settings(&program, AMPLE_LIMITS);
    let value = json(&program, &["reload", "--json"]);
    assert_eq!(value["changes"][0], "Nothing changed", "{value}");
}

#[tokio::test]
async fn an_unnamed_entry_with_purchases_is_replaced_only_with_a_name_or_on_request() {
    let unnamed = AMPLE_LIMITS.replace("name = \"redline\"\n", "");
    let market = SimServer::start(quiet()).unwrap();
    let program = Program::start(&market, &unnamed, &["run", "--live"]);
    ready(&program, &market).await;
    buy(&market, 1_015).await;
    let changed = unnamed.replace("max_price = 500", "max_price = 400");
    write_settings(&program, &changed);
    let done = command(&program, &["reload"]);
    let err = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{err}");
    assert!(err.contains("sniper.toml:8:1: AK-47 | Redline (1 bought for 10.15)"), "{err}");
    let line = "name = \"AK-47 | Redline\"";
    assert!(err.contains(&format!("add this line to it: {line}")), "{err}");
    let named = changed.replace("[[whitelist]]", &format!("[[whitelist]]\n{line}"));
    write_settings(&program, &named.replace("max_quantity = 1000", "max_quantity = 1"));
    let done = command(&program, &["reload"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let continued = "Entry AK-47 | Redline continues the count of the removed entry item AK-47";
    assert!(text(&done.stdout).contains(continued), "{}", text(&done.stdout));
    market.list_items(vec![redline(1_015)]);
    until(|| {
        program.out().contains("its entry has reached max_quantity: 1 of 1 bought or in flight")
    })
    .await;
    write_settings(&program, &changed.replace("max_price = 400", "max_price = 300"));
    let done = command(&program, &["reload", "--new-entries"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    buy(&market, 1_015).await;
}

#[tokio::test]
async fn without_a_terminal_sighup_reloads_and_without_a_bot_a_reload_fails() {
    let market = SimServer::start(quiet()).unwrap();
    let program = Program::start(&market, AMPLE_LIMITS, &["run"]);
    until(|| market.stats().feeds_subscribed == 1).await;
    if cfg!(target_os = "linux") {
        write_settings(&program, &AMPLE_LIMITS.replace("total = 100000", "total = 20"));
        program.signal("-HUP");
        until(|| program.out().contains("Budget: total 100000.00 → 20.00")).await;
        assert!(program.out().contains("Settings reloaded (requested by SIGHUP)"));
    }
    let mut stopped = program;
    stopped.signal("-TERM");
    assert_eq!(stopped.ended().await, Some(0), "{}", stopped.err());
    let done = command(&stopped, &["reload"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("no bot is running"), "{}", text(&done.stderr));
}

/// A service manager may send the signal right after the start.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn sighup_before_the_session_runs_is_not_lost() {
    let market = SimServer::start(quiet()).unwrap();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run"]);
    let tasks = format!("/proc/{}/task", program.child.id());
    until(|| {
        let tasks = fs::read_dir(&tasks).into_iter().flatten();
        let mut names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name == "signals\n"))
    })
    .await;
    program.signal("-HUP");
    until(|| program.out().contains("Settings reloaded (requested by SIGHUP)")).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
}

/// Amounts of another market are in another unit.
#[tokio::test]
async fn another_market_or_data_directory_changes_nothing_and_commands_still_reach_the_bot() {
    let market = SimServer::start(quiet()).unwrap();
    let debug = [("RUST_LOG", "debug")];
    let program = Program::start_with((&market, AMPLE_LIMITS), &["run", "--live"], &debug);
    ready(&program, &market).await;
    let dotenv = program.directory.path().join(".env");
    let variables = fs::read_to_string(&dotenv).unwrap()
        + "WAXPEER_KEY=0123456789abcdef\nSTEAM_TRADE_URL=https://steamcommunity.com/tradeoffer/new/?partner=12345678&token=AbCdEfGh\n";
    fs::write(&dotenv, &variables).unwrap();
    let other = AMPLE_LIMITS.replace("max_price = 500", "max_price = 1");
    write_settings(&program, &format!("market = \"waxpeer\"\n{other}"));
    let rejected = "nothing was changed: `market` cannot change while the bot runs";
    let done = command(&program, &["reload"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains(rejected), "{}", text(&done.stderr));
    if cfg!(target_os = "linux") {
        let before = program.out().matches("Settings not reloaded").count();
        program.signal("-HUP");
        until(|| program.out().matches("Settings not reloaded").count() > before).await;
    }
    buy(&market, 1_015).await;
    // The same for another data directory, in which no bot runs.
    write_settings(&program, &other);
    fs::write(&dotenv, format!("{variables}SNIPER_DATA=elsewhere\n")).unwrap();
    let done = command(&program, &["reload"]);
    let rejected = "nothing was changed: the data directory (SNIPER_DATA) cannot change";
    assert!(text(&done.stderr).contains(rejected), "{}", text(&done.stderr));
    buy(&market, 1_015).await;
    assert_eq!(command(&program, &["health"]).status.code(), Some(0));
    let status = json(&program, &["status", "--json"]);
    assert_eq!(status["mode"], "live", "{status}");
    let halted = command(&program, &["halt"]);
    assert_eq!(text(&halted.stdout), "Ordering halted. Resume with: sniper resume\n");
    assert!(text(&halted.stderr).contains("its data is in"), "{}", text(&halted.stderr));
    market.list_items(vec![redline(1_015)]);
    until(|| program.out().contains(": ordering halted")).await;
    assert_eq!(market.history().orders().count(), 2);
    // A directory that the environment names is used, although a bot runs with another one.
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .arg("health")
        .current_dir(program.directory.path())
        .env_clear()
        .env("XDG_STATE_HOME", program.directory.path().join("state"))
        .env("SNIPER_DATA", "elsewhere")
        .output();
    assert_eq!(elsewhere.unwrap().status.code(), Some(1));
}

#[tokio::test]
async fn without_a_bot_an_entry_is_paused_for_the_next_run() {
    let market = SimServer::start(quiet()).unwrap();
    let mut checked = Program::start(&market, AMPLE_LIMITS, &["check"]);
    assert_eq!(checked.ended().await, Some(0));
    let whitelist = |args: &[&str]| command(&checked, &[&["whitelist"], args].concat());
    let list = || json(&checked, &["whitelist", "list", "--json"]);
    let state = || list()["entries"][0]["state"].clone();
    let paused = text(&whitelist(&["pause", "redline"]).stdout);
    assert!(paused.ends_with("No bot is running: this applies to the next run.\n"), "{paused}");
    assert_eq!((state(), whitelist(&["pause", "blue"]).status.code()), ("paused".into(), Some(1)));
    let list = text(&whitelist(&["list"]).stdout);
    assert!(list.contains("state\n") && list.contains("paused\n"), "{list}");
    let directory = std::mem::replace(&mut checked.directory, tempfile::tempdir().unwrap());
    let mut program = Program::at(directory, &["run", "--live"], "info");
    until(|| program.out().contains("1 entry is paused since an earlier run: redline.")).await;
    until(|| market.stats().feeds_subscribed == 1).await;
    assert_eq!(command(&program, &["whitelist", "enable", "redline"]).status.code(), Some(0));
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let list = || text(&command(&program, &["whitelist", "list"]).stdout);
    assert!(list().contains(" on\n"), "{}", list());
}

#[tokio::test]
async fn changed_files_are_named_until_they_are_reloaded() {
    let market = SimServer::start(quiet()).unwrap();
    let program = Program::start(&market, AMPLE_LIMITS, &["run"]);
    until(|| market.stats().feeds_subscribed == 1).await;
    let is_named = || json(&program, &["status", "--json"])["settings_changed"] == true;
    // The thread that compares the files has read them once the first reload is done.
    assert_eq!(command(&program, &["reload"]).status.code(), Some(0));
    assert!(!is_named());
    let list = || text(&command(&program, &["whitelist", "list"]).stdout);
    assert!(list().contains("A dry run is running") && !list().contains("on disk"), "{}", list());
    write_settings(&program, &format!("{AMPLE_LIMITS}\n# a comment\n"));
    until(|| program.out().contains("Settings changed on disk and not applied")).await;
    assert!(is_named());
    assert!(list().contains("the running bot does not use yet: sniper reload"), "{}", list());
    let shown = || text(&command(&program, &["config", "show"]).stdout);
    let earlier = "The running bot (dry) uses earlier settings; apply these with: sniper reload\n";
    assert!(shown().starts_with(earlier), "{}", shown());
    assert_eq!(command(&program, &["reload"]).status.code(), Some(0));
    assert!(!is_named());
    assert!(shown().starts_with("The running bot (dry) has read these files\n"), "{}", shown());
    assert_eq!(program.out().matches("Settings changed on disk").count(), 1);
    let paused = text(&command(&program, &["whitelist", "pause", "redline"]).stdout);
    assert!(paused.ends_with("this applies to the dry run.\n"), "{paused}");
    // A change that is undone needs no reload.
    write_settings(&program, &AMPLE_LIMITS.replace("total = 100000", "total = 20"));
    until(|| program.out().matches("Settings changed on disk").count() == 2).await;
    assert!(is_named());
    write_settings(&program, &format!("{AMPLE_LIMITS}\n# a comment\n"));
    until(|| program.out().contains("Settings on disk are those in force again")).await;
    assert!(!is_named());
}

#[tokio::test]
async fn an_entry_is_paused_and_enabled_in_a_running_bot_and_listed_with_its_count() {
    let market = SimServer::start(quiet()).unwrap();
    let debug = [("RUST_LOG", "debug")];
    let program = Program::start_with((&market, AMPLE_LIMITS), &["run", "--live"], &debug);
    ready(&program, &market).await;
    buy(&market, 1_015).await;
    let whitelist = |args: &[&str]| command(&program, &[&["whitelist"], args].concat());
    assert_eq!(whitelist(&["pause", "redline"]).status.code(), Some(0));
    // The pause survives a reload.
    write_settings(&program, &AMPLE_LIMITS.replace("max_quantity = 1000", "max_quantity = 3"));
    assert_eq!(command(&program, &["reload"]).status.code(), Some(0));
    market.list_items(vec![redline(900)]);
    until(|| program.out().contains("it is paused")).await;
    let status = json(&program, &["status", "--json"]);
    assert_eq!(status["paused_entries"], serde_json::json!(["redline"]));
    let unknown = whitelist(&["pause", "blueline"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stdout));
    assert_eq!(market.history().orders().count(), 1);
    assert_eq!(whitelist(&["enable", "redline"]).status.code(), Some(0));
    buy(&market, 1_000).await;
    let lines = || text(&whitelist(&["list"]).stdout);
    until(|| lines().contains("redline     500.00       2          1        20.15")).await;
    let entry = &json(&program, &["whitelist", "list", "--json"])["entries"][0];
    assert_eq!((&entry["bought"], &entry["left"]), (&2.into(), &1.into()));
}

#[tokio::test]
async fn a_group_limits_its_entries_in_a_running_bot_and_is_paused_and_listed() {
    let market = SimServer::start(quiet()).unwrap();
    let grouped = AMPLE_LIMITS
        .replace("max_quantity = 1000", "max_quantity = 1000\ngroup = \"rifles\"")
        + "\n[groups.rifles]\nmax_total = 40\nmax_quantity = 9\n";
    let debug = [("RUST_LOG", "debug")];
    let program = Program::start_with((&market, &grouped), &["run", "--live"], &debug);
    ready(&program, &market).await;
    buy(&market, 1_500).await;
    let whitelist = |args: &[&str]| command(&program, &[&["whitelist"], args].concat());
    assert_eq!(whitelist(&["pause", "--group", "rifles"]).status.code(), Some(0));
    market.list_items(vec![redline(900)]);
    until(|| program.out().contains("it is paused")).await;
    let unknown = whitelist(&["enable", "--group", "knives"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stdout));
    assert_eq!(whitelist(&["enable", "--group", "rifles"]).status.code(), Some(0));
    buy(&market, 1_400).await;
    market.list_items(vec![redline(1_200)]);
    until(|| program.out().contains("would exceed its group's max_total 40.00")).await;
    // The count survives that the entry is replaced by another one of the group.
    write_settings(&program, &grouped.replace("\"redline\"", "\"other\""));
    let reloaded = command(&program, &["reload", "--new-entries"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", text(&reloaded.stderr));
    let lines = || text(&whitelist(&["list"]).stdout);
    until(|| lines().contains("rifles       2          7        29.00 of 40.00, 11.00 left")).await;
    let list = json(&program, &["whitelist", "list", "--json"]);
    let bought = (&list["entries"][0]["bought"], &list["groups"][0]["bought"]);
    assert_eq!(bought, (&0.into(), &2.into()));
    market.list_items(vec![redline(1_300)]);
    until(|| {
        let skipped = "SKIPPED      13.00  AK-47 | Redline (FT): 29.00 spent and 13.00 more would \
                       exceed its group's max_total";
        program.out().contains(skipped)
    })
    .await;
    assert_eq!(market.history().orders().count(), 2);
}

#[tokio::test]
async fn a_paused_entry_stays_paused_after_a_restart() {
    let market = SimServer::start(quiet()).unwrap();
    let grouped = AMPLE_LIMITS
        .replace("max_quantity = 1000", "max_quantity = 1000\ngroup = \"rifles\"")
        + "\n[groups.rifles]\nmax_quantity = 9\n";
    let mut first = Program::start(&market, &grouped, &["run", "--live"]);
    ready(&first, &market).await;
    assert_eq!(command(&first, &["whitelist", "pause", "redline"]).status.code(), Some(0));
    first.signal("-TERM");
    assert_eq!(first.ended().await, Some(0), "{}", first.err());
    let restart = |first: &mut Program| {
        let directory = std::mem::replace(&mut first.directory, tempfile::tempdir().unwrap());
        Program::at(directory, &["run", "--live"], "debug")
    };
    let is_subscribed = |feeds| {
        let stats = market.stats();
        stats.feeds == feeds && stats.feeds_subscribed == 1
    };
    let mut second = restart(&mut first);
    until(|| second.out().contains("Signed in: ") && is_subscribed(2)).await;
    let line =
        "1 entry is paused since an earlier run: redline. To buy: sniper whitelist enable NAME";
    assert!(second.out().contains(line), "{}", second.out());
    assert!(!second.out().contains("Groups paused before"), "{}", second.out());
    market.list_items(vec![redline(900)]);
    until(|| second.out().contains("it is paused")).await;
    let status = text(&command(&second, &["status"]).stdout);
    assert!(status.to_lowercase().contains("paused") && status.contains("redline"), "{status}");
    assert_eq!(market.history().orders().count(), 0);
    assert_eq!(command(&second, &["whitelist", "enable", "redline"]).status.code(), Some(0));
    second.signal("-TERM");
    assert_eq!(second.ended().await, Some(0), "{}", second.err());
    let mut third = restart(&mut second);
    until(|| third.out().contains("Signed in: ") && is_subscribed(3)).await;
    assert!(!third.out().contains("since an earlier run"), "{}", third.out());
    buy(&market, 1_000).await;
    third.signal("-TERM");
    assert_eq!(third.ended().await, Some(0), "{}", third.err());
    // With an unreadable file the bot does not start, because it might buy what is paused.
    fs::write(third.directory.path().join("data/paused.json"), "{").unwrap();
    let rejected = command(&third, &["run", "--live", "--for", "5s"]);
    assert_eq!(rejected.status.code(), Some(71), "{}", text(&rejected.stderr));
    assert!(text(&rejected.stderr).contains("paused.json"), "{}", text(&rejected.stderr));
}

#[tokio::test]
async fn a_paused_entry_stays_paused_when_it_is_edited_or_removed_and_added_again() {
    let market = SimServer::start(quiet()).unwrap();
    let unnamed = AMPLE_LIMITS.replace("name = \"redline\"\n", "");
    let debug = [("RUST_LOG", "debug")];
    let program = Program::start_with((&market, &unnamed), &["run", "--live"], &debug);
    ready(&program, &market).await;
    let reload = |policy: &str| {
        write_settings(&program, policy);
        let reloaded = command(&program, &["reload"]);
        assert_eq!(reloaded.status.code(), Some(0), "{}", text(&reloaded.stderr));
    };
    let paused = || json(&program, &["status", "--json"])["paused_entries"].clone();
    let label = "AK-47 | Redline";
    assert_eq!(command(&program, &["whitelist", "pause", label]).status.code(), Some(0));
    // Without a name, an entry is identified by its conditions, so the edited one is another one.
    reload(&unnamed.replace("max_price = 500", "max_price = 501"));
    assert_eq!(paused(), serde_json::json!([label]));
    reload(&unnamed.replace("item = \"AK-47 | Redline\"", "item = \"Other | Item\""));
    assert_eq!(paused(), serde_json::json!([]));
    reload(&unnamed);
    assert_eq!(paused(), serde_json::json!([label]));
    market.list_items(vec![redline(900)]);
    until(|| program.out().contains("it is paused")).await;
    assert_eq!(market.history().orders().count(), 0);
    assert_eq!(command(&program, &["whitelist", "enable", label]).status.code(), Some(0));
    buy(&market, 1_000).await;
}

#[tokio::test]
async fn the_address_of_the_page_is_printed_although_the_settings_have_become_invalid() {
    let market = SimServer::start(quiet()).unwrap();
    let policy = format!("{AMPLE_LIMITS}\n[dashboard]\nlisten = \"127.0.0.1:0\"\n");
    let program = Program::start(&market, &policy, &["run"]);
    until(|| program.out().contains("Dashboard: http://127.0.0.1:")).await;
    until(|| market.stats().feeds_subscribed == 1).await;
    write_settings(&program, "[budget\nmax_price = many\n");
    let printed = command(&program, &["dashboard"]);
    let shown = text(&printed.stdout);
    assert_eq!(printed.status.code(), Some(0), "{shown}{}", text(&printed.stderr));
    assert!(shown.starts_with("http://127.0.0.1:") && shown.contains("/#code="), "{shown}");
}

#[tokio::test]
async fn a_reload_says_how_the_prices_change_and_which_file_is_missing() {
    let market = SimServer::start(quiet()).unwrap();
    let prices = "\n[prices]\ncoin_usd = 0.65\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\n\
                  path = \"prices.csv\"\nunit = \"usd\"\n";
    let policy = format!("{AMPLE_LIMITS}{prices}");
    let program = Program::start(&market, &policy, &["run"]);
    until(|| market.stats().feeds_subscribed == 1).await;
    write_settings(&program, &policy.replace("0.65", "0.66"));
    let done = command(&program, &["reload"]);
    let out = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{out}{}", text(&done.stderr));
    assert!(out.contains("  Prices: coin_usd 0.65 → 0.66\n"), "{out}");
    assert!(!out.contains("Prices: 1 source"), "{out}");
    assert!(out.contains("  Prices: the file of own is missing: "), "{out}");
    fs::write(program.directory.path().join("prices.csv"), "name,ask\nFracture Case,1\n").unwrap();
    let done = command(&program, &["reload"]);
    assert!(text(&done.stdout).contains("Nothing changed"), "{}", text(&done.stdout));
}

#[tokio::test]
async fn after_a_reload_that_swaps_price_sources_each_rule_has_its_own_source() {
    let market = SimServer::start(quiet()).unwrap();
    let program = Program::start(&market, AMPLE_LIMITS, &["run", "--live"]);
    ready(&program, &market).await;
    for (file, price) in [("low.csv", 10), ("high.csv", 100)] {
        let prices = format!("name,ask\n{REDLINE},{price}\nFracture Case,{price}\n");
        fs::write(program.directory.path().join(file), prices).unwrap();
    }
    let source = |name| {
        format!(
            "[[prices.source]]\nname = \"{name}\"\nkind = \"file\"\npath = \"{name}.csv\"\n\
             unit = \"usd\"\n"
        )
    };
    for (orders, sources) in [(1, ["low", "high"]), (2, ["high", "low"])] {
        let prices = sources.map(source).concat();
        let rules = "max_percent = 80\nreference = \"high.ask\"\n[[whitelist]]\n\
                     item = \"Fracture Case\"\nmax_price = 500\nmax_quantity = 9\n\
                     max_percent = 80\nreference = \"low.ask\"\n";
        write_settings(&program, &format!("{AMPLE_LIMITS}{rules}[prices]\ncoin_usd = 1\n{prices}"));
        let done = command(&program, &["reload"]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        // 20.00 is 200 % of the low price of the case, which the bot decides about first.
        market.list_items(vec![ListedItem::plain("Fracture Case", cents(2_000), cents(2_000))]);
        buy(&market, 2_000).await;
        assert_eq!(market.history().orders().count(), orders, "{}", program.out());
    }
}
