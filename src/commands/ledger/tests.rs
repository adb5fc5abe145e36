//! Tests of the ledger commands with and without a running bot.

use std::{fs, path::PathBuf, time::Duration};

use clap::Parser;
use tokio::sync::mpsc;

use serde_json::Value;

use super::*;
use crate::config::Market;
use crate::ledger::{
    OrderedItem,
    control::{BotLocation, ControlReply, ControlServer, PENDING_REQUESTS_MAX, SettingsPaths},
    item::tests::item,
    tests::{
        T0, UNKNOWN, after, budget, coins,
        disk::{location, reserve, wait_until},
        id, order_request,
    },
};

const CONFIRMED: bool = true;

/// Runs a command on the ledger in a directory and returns its output.
fn run_command(
    folder: &Path,
    as_json: bool,
    command: impl FnOnce(&mut LedgerCommands<'_>) -> Result<(), LedgerCommandError>,
) -> Result<String, LedgerCommandError> {
    let mut out = Vec::new();
    command(&mut LedgerCommands {
        folder,
        state: None,
        as_json,
        who: "eve",
        now: after(10),
        out: &mut out,
        stored_prices: &|| vec![PriceStatus { name: "buff".to_owned(), ..PriceStatus::default() }],
        confirm: &mut |_question| false,
    })?;
    Ok(String::from_utf8(out).unwrap())
}

fn resolve(
    commands: &mut LedgerCommands<'_>,
    id: &str,
    bought: bool,
    yes: bool,
) -> Result<(), LedgerCommandError> {
    let (id, not_bought, returned) = (id.to_owned(), !bought, false);
    let args = ResolveArgs { id, bought, not_bought, returned, yes };
    commands.ledger(&LedgerArgs { command: Some(LedgerCommand::Resolve(args)) })
}

fn command(command: LedgerCommand) -> LedgerArgs {
    LedgerArgs { command: Some(command) }
}

fn start(
    folder: &Path,
    requests: mpsc::Sender<control::PendingRequest>,
) -> Result<ControlServer, ControlError> {
    serve_as(Instance::Live, folder, requests)
}

fn serve_as(
    instance: Instance,
    folder: &Path,
    requests: mpsc::Sender<control::PendingRequest>,
) -> Result<ControlServer, ControlError> {
    let address = ControlAddress::new(folder, None, instance);
    ControlServer::start(&address, &requests, &crate::threads::Alarm::default())
}

#[test]
fn commands_find_the_bot_after_its_settings_were_edited_and_a_live_one_first() {
    let top = tempfile::tempdir().unwrap();
    let [old, new, state] = ["old", "new", "state"].map(|name| top.path().join(name));
    let settings = top.path().join("sniper.toml");
    let paths = SettingsPaths { state_dir: &state, settings: &settings };
    let (requests, _received) = mpsc::channel(1);
    let market = Some(Market::Waxpeer);
    let serve = |data: &Path, instance| {
        BotLocation { data: data.to_owned(), market }.store(paths, instance).unwrap();
        let address = ControlAddress::new(data, Some(&state), instance);
        ControlServer::start(&address, &requests, &crate::threads::Alarm::default()).unwrap()
    };
    let found = || BotLocation::find(&new, paths).map(|bot| bot.data);
    assert_eq!(found(), None);
    let dry = serve(&old, Instance::Dry);
    assert_eq!(found(), Some(old.clone()));
    drop(dry);
    assert_eq!(found(), None, "it has ended");
    let dry = serve(&new, Instance::Dry);
    assert_eq!(found(), Some(new.clone()));
    let live = serve(&old, Instance::Live);
    assert_eq!(found(), Some(old.clone()), "before the dry run of the new settings");
    let address = ControlAddress::new(&new, Some(&state), Instance::Live);
    let other = ControlServer::start(&address, &requests, &crate::threads::Alarm::default());
    assert_eq!(found(), None, "a bot of other settings in the same folder");
    drop((other, live));
    let new_live = serve(&new, Instance::Live);
    let bot = BotLocation { data: new.clone(), market };
    assert_eq!(BotLocation::find(&new, paths), Some(bot.clone()));
    drop((new_live, dry));
    assert_eq!(BotLocation::find(&new, paths), Some(bot), "its ledger is still there");
    assert_eq!(BotLocation::find(&old, paths), None);
}

#[test]
fn the_place_of_a_bot_of_an_earlier_version_is_read() {
    let top = tempfile::tempdir().unwrap();
    let (state, settings) = (top.path().join("state"), top.path().join("sniper.toml"));
    let paths = SettingsPaths { state_dir: &state, settings: &settings };
    let bot = BotLocation { data: PathBuf::from("/a"), market: None };
    bot.store(paths, Instance::Live).unwrap();
    let file = fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    fs::write(file, "/a").unwrap();
    assert_eq!(BotLocation::find(Path::new("/a"), paths), Some(bot));
}

#[test]
fn the_file_that_names_the_running_bots_folder_follows_no_symbolic_link_and_is_private() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let top = tempfile::tempdir().unwrap();
    let (state, settings) = (top.path().join("state"), top.path().join("sniper.toml"));
    let paths = SettingsPaths { state_dir: &state, settings: &settings };
    let market = Some(Market::Csgoroll);
    let store =
        |data: &str| BotLocation { data: PathBuf::from(data), market }.store(paths, Instance::Live);
    store("/a/long/path").unwrap();
    let files = fs::read_dir(&state).unwrap();
    let [file] = files.map(|file| file.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    store("/a").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "/a\0csgoroll");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let other = top.path().join("other");
    fs::rename(&file, &other).unwrap();
    symlink(&other, &file).unwrap();
    store("/b").unwrap_err();
    assert_eq!(fs::read_to_string(&other).unwrap(), "/a\0csgoroll", "the target is unchanged");
}

/// A ledger with one unknown order.
fn ledger(folder: &Path) -> Ledger {
    let entries = [crate::ledger::entries::tests::entry(Some("=first"))];
    let mut ledger = Ledger::open(&location(folder, "boot"), budget(), &entries, T0).unwrap();
    ledger.bind("account-1").unwrap();
    ledger.set_look_ups_min(1);
    let reading = crate::ledger::AccountReading { trades: &[], complete: true, started: T0 };
    let _effects = ledger.reconcile(&reading, Some(coins(1_000)), T0);
    let approved = reserve(&mut ledger, order_request(1, 10), T0);
    ledger.sent(approved.key(), T0).unwrap();
    let _effects = ledger.settle(approved.key(), &UNKNOWN, T0).unwrap();
    ledger
}

#[test]
fn without_a_ledger_status_succeeds_and_other_commands_fail() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), false, |commands| commands.status().map(drop)).unwrap();
    assert!(output.contains("no ledger yet"), "{output}");
    let error =
        run_command(folder.path(), false, |commands| commands.ledger(&LedgerArgs::default()));
    assert!(matches!(error, Err(LedgerCommandError::Ledger(LedgerError::Missing { .. }))));
}

#[test]
fn the_table_shows_what_was_spent_and_what_is_left_of_each_limit() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let table =
        run_command(folder.path(), false, |commands| commands.ledger(&LedgerArgs::default()))
            .unwrap();
    let total = table.lines().find(|line| line.starts_with("total")).unwrap();
    let columns: Vec<&str> = total.split_whitespace().collect();
    assert_eq!(columns, ["total", "10.00", "1000000.00", "999990.00"]);
    let unknown = table.lines().find(|line| line.starts_with("unknown")).unwrap();
    assert_eq!(unknown.split_whitespace().collect::<Vec<_>>(), ["unknown", "1", "1", "1"]);
    let json = run_command(folder.path(), true, |commands| commands.ledger(&LedgerArgs::default()))
        .unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["everything"]["unknown_coins"], "10.00");
    assert_eq!(json["entries"][0]["quantity"], 1);
}

#[test]
fn show_prints_the_state_and_the_response_of_an_order() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let show = |as_json, id: &str| {
        let show = command(LedgerCommand::Show { id: id.to_owned() });
        run_command(folder.path(), as_json, |commands| commands.ledger(&show))
    };
    let output = show(false, "listing-1").unwrap();
    assert!(output.contains("state           unknown"), "{output}");
    assert!(output.contains("response        no response in time"), "{output}");
    let own_id = output.lines().find_map(|line| line.strip_prefix("own order id    ")).unwrap();
    let json: Value = serde_json::from_str(&show(true, "listing-1").unwrap()).unwrap();
    assert_eq!((&json["price"], &json["state"]), (&"10.00".into(), &"unknown".into()));
    assert_eq!((own_id.len(), &json["own_id"]), (36, &own_id.into()));
    assert_eq!(show(false, "1").unwrap(), output, "by its number");
    assert!(matches!(show(false, "2"), Err(LedgerCommandError::NoSuchListing(_))));
    assert!(matches!(show(false, "listing-2"), Err(LedgerCommandError::NoSuchListing(_))));
    assert!(matches!(show(false, "no such thing"), Err(LedgerCommandError::NoSuchListing(_))));
}

#[test]
fn an_export_has_one_row_per_order_and_no_formula() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let export = command(LedgerCommand::Export { csv: false });
    let csv = run_command(folder.path(), false, |commands| commands.ledger(&export)).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with("1,listing-1,\"'=first\",10.00,10.00,unknown,"), "{csv}");
    let json = run_command(folder.path(), true, |commands| commands.ledger(&export)).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["intents"][0]["listing"], "listing-1");
}

/// A ledger with an unknown order of a hostile item, and a bought order with a reference.
fn ledger_with_items(folder: &Path) {
    let mut ledger = ledger(folder);
    let hostile = OrderedItem {
        name: "=1+1\u{1b}[2J\u{202e},\"x\"".to_owned(),
        entry: "\u{9b}entry".to_owned(),
        ..OrderedItem::default()
    };
    assert!(ledger.record_item(&ledger.state().intents()[0].key(), hostile));
    let approved = reserve(&mut ledger, order_request(2, 20), after(5));
    ledger.sent(approved.key(), after(5)).unwrap();
    let bought = crate::domain::outcome::Outcome::Bought { price: None, server_time: None };
    let _effects = ledger.settle(approved.key(), &bought, after(5)).unwrap();
    assert!(ledger.record_item(approved.key(), item("AK-47 | Redline (Field-Tested)")));
    let _in_flight = reserve(&mut ledger, order_request(3, 30), after(6));
}

fn list(folder: &Path, as_json: bool, since: Option<u64>, csv: bool) -> String {
    let since = since.map(Duration::from_secs);
    let list = command(LedgerCommand::List { since, csv });
    run_command(folder, as_json, |commands| commands.ledger(&list)).unwrap()
}

#[test]
fn list_prints_each_order_with_its_item_and_the_reference_that_decided() {
    let folder = tempfile::tempdir().unwrap();
    ledger_with_items(folder.path());
    let text = list(folder.path(), false, None, false);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("time") && lines[0].ends_with("reference"), "{text}");
    let time = clock::format_local(after(5));
    let bought = lines[2];
    assert!(
        bought.starts_with(&format!("{time}  bought     20.00  AK-47 | Redline (Field-Tested)")),
        "{text}"
    );
    assert!(
        bought.ends_with("0.215  redline      84.1 % of buff.bid 2.74, margin -2.50 %"),
        "{text}"
    );
    assert!(lines[3].contains("in flight  30.00  listing listing-3"), "{text}");
    assert_eq!(lines[5], "3 orders, 1 of them bought for 20.00 coins");
    let json: Value = serde_json::from_str(&list(folder.path(), true, None, false)).unwrap();
    let orders = json["orders"].as_array().unwrap();
    assert_eq!(orders.len(), 3);
    let expected = json!({
        "number": 2, "listing": "listing-2", "time": after(5).to_string(), "state": "bought",
        "price": "20.00", "entry": "redline", "item": "AK-47 | Redline (Field-Tested)",
        "wear": "Field-Tested", "float": "0.215", "reference": "buff.bid",
        "reference_price": "1.7855", "reference_currency": "USD", "coin_usd": "0.65",
        "percent": "84.10", "margin": "-2.50",
    });
    assert_eq!(orders[1], expected);
    assert_eq!((&orders[2]["item"], &orders[2]["percent"]), (&Value::Null, &Value::Null));
}

#[test]
fn list_shows_only_orders_since_a_time() {
    let folder = tempfile::tempdir().unwrap();
    ledger_with_items(folder.path());
    // The command runs at 10 s, the orders are of 0 s, 5 s and 6 s.
    for (since, count) in [(3, 0), (4, 1), (5, 2), (9, 2), (10, 3)] {
        let csv = list(folder.path(), false, Some(since), true);
        assert_eq!(csv.lines().count(), count + 1, "{since} s: {csv}");
    }
    assert!(list(folder.path(), false, Some(3), false).starts_with("No orders since "));
}

#[test]
fn hostile_names_reach_no_terminal_and_no_spreadsheet() {
    let folder = tempfile::tempdir().unwrap();
    ledger_with_items(folder.path());
    let show = |as_json| {
        let show = command(LedgerCommand::Show { id: "listing-1".to_owned() });
        run_command(folder.path(), as_json, |commands| commands.ledger(&show)).unwrap()
    };
    let export = |as_json| {
        let export = command(LedgerCommand::Export { csv: false });
        run_command(folder.path(), as_json, |commands| commands.ledger(&export)).unwrap()
    };
    let csv = list(folder.path(), false, None, true);
    assert!(csv.contains(",\"'=1+1\u{fffd}[2J\u{fffd},\"\"x\"\"\","), "{csv}");
    let outputs = [
        list(folder.path(), false, None, false),
        list(folder.path(), true, None, false),
        csv,
        show(false),
        show(true),
        export(false),
        export(true),
    ];
    for output in outputs {
        let is_safe = |char| char == '\n' || crate::text::is_safe_to_print(char);
        assert!(output.contains("=1+1") && output.chars().all(is_safe), "{output:?}");
    }
    let header = export(false).lines().next().unwrap().to_owned();
    assert!(
        header.ends_with(",words,item,wear,float,reference,reference_price,reference_currency,coin_usd,percent,margin"),
        "{header}"
    );
}

#[test]
fn a_correction_needs_confirmation_and_records_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let unconfirmed = run_command(folder.path(), false, |commands| {
        resolve(commands, "listing-1", false, !CONFIRMED)
    });
    assert!(matches!(unconfirmed, Err(LedgerCommandError::NotConfirmed)));
    let resolve_confirmed = |id: &str| {
        run_command(folder.path(), false, |commands| resolve(commands, id, false, CONFIRMED))
    };
    assert_eq!(
        resolve_confirmed("listing-1").unwrap(),
        "Recorded order listing-1 as not bought.\nIts coins count as free again, because you declared it.\n"
    );
    let again = resolve_confirmed("listing-1").unwrap_err().to_string();
    let reason = "--not-bought applies to unknown orders, and to purchases that the market's own \
                  records have not shown";
    assert_eq!(again, format!("order listing-1 is not bought, nothing was changed: {reason}"));
    assert!(
        resolve_confirmed("listing-9").unwrap_err().to_string().contains("no order for listing")
    );
    assert!(
        resolve_confirmed("lost").unwrap_err().to_string().contains("no power loss is on record")
    );

    let show = command(LedgerCommand::Show { id: "listing-1".to_owned() });
    let output = run_command(folder.path(), false, |commands| commands.ledger(&show)).unwrap();
    assert!(output.contains("corrected") && output.contains("eve: not bought"), "{output}");
    let verify = command(LedgerCommand::Verify);
    let output = run_command(folder.path(), false, |commands| commands.ledger(&verify)).unwrap();
    assert!(output.starts_with("OK: 1 order verified"), "{output}");
}

#[test]
fn a_halt_without_a_bot_is_kept_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let halt = || run_command(folder.path(), false, |commands| commands.halt()).unwrap();
    assert!(halt().starts_with("Ordering halted. Resume with: sniper resume\n"));
    assert!(halt().starts_with("Ordering was halted already, "));
    let status = run_command(folder.path(), false, |commands| commands.status().map(drop)).unwrap();
    assert!(status.contains("last run        stopped normally; last record "), "{status}");
    assert!(status.contains("prices          buff has no prices yet"), "{status}");
    assert!(status.contains("ordering        halted") && status.contains("requested by eve"));
    let resume = || run_command(folder.path(), false, |commands| commands.resume()).unwrap();
    assert!(resume().starts_with("Ordering resumed.\n"));
    assert!(resume().starts_with("Nothing to resume: ordering was not halted.\n"));
    let status = run_command(folder.path(), true, |commands| commands.status().map(drop)).unwrap();
    let status: LedgerStatus = serde_json::from_str(&status).unwrap();
    assert_eq!((status.mode.as_str(), status.buying.as_str()), ("not running", "off"));
    assert_eq!(status.halts, []);
}

#[test]
fn a_new_budget_frees_the_total() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let new = command(LedgerCommand::NewBudget { yes: CONFIRMED });
    run_command(folder.path(), false, |commands| commands.ledger(&new)).unwrap();
    let status = run_command(folder.path(), true, |commands| commands.status().map(drop)).unwrap();
    let status: LedgerStatus = serde_json::from_str(&status).unwrap();
    assert_eq!(status.limits[0].used, "0.00");
}

#[test]
fn a_running_bot_applies_the_commands_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = ledger(folder.path());
    let (requests, mut received) = mpsc::channel(PENDING_REQUESTS_MAX);
    let server = start(folder.path(), requests).unwrap();
    let bot = std::thread::spawn(move || {
        while let Some(pending) = received.blocking_recv() {
            let (reply, _effects) =
                control::handle_request(&mut ledger, &pending.request, "live", after(10));
            pending.reply.send(reply).unwrap();
        }
        ledger
    });
    let status = || -> LedgerStatus {
        let output =
            run_command(folder.path(), true, |commands| commands.status().map(drop)).unwrap();
        serde_json::from_str(&output).unwrap()
    };
    assert_eq!((status().mode, status().buying), ("live".to_owned(), "on".to_owned()));
    assert_eq!(status().prices, [], "the bot reports its own");
    run_command(folder.path(), false, |commands| commands.halt()).unwrap();
    assert_eq!(status().buying, "halted");
    run_command(folder.path(), false, |commands| resolve(commands, "listing-1", true, CONFIRMED))
        .unwrap();
    assert_eq!((status().unknown, status().undelivered), (0, 1));
    let rejected = run_command(folder.path(), false, |commands| {
        resolve(commands, "listing-1", true, CONFIRMED)
    });
    assert!(matches!(rejected, Err(LedgerCommandError::Rejected(_))));
    // Reads work while the bot runs.
    let table =
        run_command(folder.path(), false, |commands| commands.ledger(&LedgerArgs::default()));
    assert!(table.unwrap().contains("Ordering halted "));

    let second = start(folder.path(), mpsc::channel(1).0).unwrap_err();
    assert!(matches!(second, ControlError::AlreadyRunning), "{second}");
    drop(server);
    let ledger = bot.join().unwrap();
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state.as_str(), "bought");
    wait_until(|| ledger.is_durable());
    let reply = control::send_request(
        &ControlAddress::new(folder.path(), None, Instance::Live),
        &ControlRequest::Status,
    );
    assert!(matches!(reply, Err(ControlError::NotRunning)));
}

/// A bot that replies over its own control channel until [`FakeBot::end`].
struct FakeBot {
    server: Option<ControlServer>,
    bot: Option<std::thread::JoinHandle<Ledger>>,
}

impl FakeBot {
    fn start(folder: &Path, instance: Instance, ledger: Ledger, running: Duration) -> Self {
        let (requests, mut received) =
            mpsc::channel::<control::PendingRequest>(PENDING_REQUESTS_MAX);
        let server = serve_as(instance, folder, requests).unwrap();
        let mode = match instance {
            Instance::Live => "live",
            Instance::Dry => "dry",
        };
        let bot = std::thread::spawn(move || {
            let mut ledger = ledger;
            while let Some(pending) = received.blocking_recv() {
                let (mut reply, _effects) =
                    control::handle_request(&mut ledger, &pending.request, mode, after(10));
                if let ControlReply::Done(status) = &mut reply {
                    status.running_ms = Some(u64::try_from(running.as_millis()).unwrap());
                    let snapshot = ledger.snapshot(after(10));
                    let facts = crate::ledger::OrderingFacts::of_ledger(&snapshot, mode, true);
                    status
                        .set_obstacle(crate::ledger::OrderingFacts { running, ..facts }.obstacle());
                }
                pending.reply.send(reply).unwrap();
            }
            ledger
        });
        Self { server: Some(server), bot: Some(bot) }
    }

    fn end(mut self) -> Ledger {
        drop(self.server.take());
        self.bot.take().unwrap().join().unwrap()
    }
}

fn problems(folder: &Path) -> Vec<String> {
    DataDirStatus::read(folder, None, after(10)).unwrap().problems()
}

/// Returns the JSON of `sniper status` and its number of problems.
fn status_at(folder: &Path) -> (Value, usize) {
    let mut count = usize::MAX;
    let output = run_command(folder, true, |commands| {
        count = commands.status()?.0.len();
        Ok(())
    });
    (serde_json::from_str(&output.unwrap()).unwrap(), count)
}

#[test]
fn status_reports_a_problem_only_if_the_user_is_needed() {
    let minute = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    assert_eq!(problems(folder.path()), <[String; 0]>::default(), "no bot, no halt");
    run_command(folder.path(), false, |commands| commands.halt()).unwrap();
    assert_eq!(problems(folder.path()).len(), 1, "no bot, halted");
    run_command(folder.path(), false, |commands| commands.resume()).unwrap();

    let live =
        FakeBot::start(folder.path(), Instance::Live, ledger(&folder.path().join("x")), minute);
    assert_eq!(status_at(folder.path()).1, 0, "live and reconciled");
    run_command(folder.path(), false, |commands| commands.halt()).unwrap();
    let (status, count) = status_at(folder.path());
    assert_eq!((&status["mode"], &status["buying"], count), (&"live".into(), &"halted".into(), 1));
    assert!(
        status["problems"][0].as_str().unwrap().contains("ordering halted: requested by eve"),
        "{status}"
    );
    live.end();

    let fresh = |running| {
        let unreconciled = Ledger::in_memory(budget(), &[], true);
        let live = FakeBot::start(folder.path(), Instance::Live, unreconciled, running);
        let count = status_at(folder.path()).1;
        live.end();
        count
    };
    assert_eq!(fresh(Duration::from_secs(29)), 0, "just started");
    assert_eq!(fresh(Duration::from_secs(30)), 1, "not reconciled in time");
}

#[test]
fn a_dry_run_and_a_live_bot_use_separate_control_channels() {
    let folder = tempfile::tempdir().unwrap();
    let second = Duration::from_secs(1);
    let in_memory = || Ledger::in_memory(budget(), &[], false);
    let dry = FakeBot::start(folder.path(), Instance::Dry, in_memory(), second);
    let (status, count) = status_at(folder.path());
    assert_eq!((&status["mode"], count), (&"dry".into(), 0));
    run_command(folder.path(), false, |commands| commands.halt()).unwrap();
    assert_eq!(status_at(folder.path()).0["buying"], "halted", "the halt is in memory");

    // A live bot can start, and requests go to it first.
    drop(ledger(folder.path()));
    let own = tempfile::tempdir().unwrap();
    let live = FakeBot::start(folder.path(), Instance::Live, ledger(own.path()), second);
    let (status, count) = status_at(folder.path());
    assert_eq!(
        (&status["mode"], &status["dry"]["mode"], count),
        (&"live".into(), &"dry".into(), 0)
    );
    assert_eq!((&status["buying"], &status["dry"]["buying"]), (&"on".into(), &"halted".into()));
    run_command(folder.path(), false, |commands| commands.resume()).unwrap();
    assert_eq!(status_at(folder.path()).0["dry"]["buying"], "halted", "only the live bot resumed");
    let text = run_command(folder.path(), false, |commands| commands.status().map(drop)).unwrap();
    assert!(text.contains("Dry run:"), "{text}");
    let another = serve_as(Instance::Dry, folder.path(), mpsc::channel(1).0);
    assert!(matches!(another, Err(ControlError::AlreadyRunning)), "only one dry run can listen");
    live.end();

    // Without a live bot, a halt applies to the ledger and to the dry run.
    run_command(folder.path(), false, |commands| commands.resume()).unwrap();
    let done = run_command(folder.path(), false, |commands| commands.halt()).unwrap();
    assert!(done.contains("to the next live run and to the dry run"), "{done}");
    let (status, count) = status_at(folder.path());
    assert_eq!((&status["mode"], &status["buying"], count), (&"dry".into(), &"halted".into(), 1));
    assert_eq!(status["ledger"]["buying"], "halted");
    dry.end();
    assert_eq!(problems(folder.path()).len(), 1, "the halt remains after the dry run");
}

/// Another program listens at the target of each link.
#[test]
fn neither_bot_nor_client_follows_a_link_in_place_of_the_socket_or_its_directory() {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use crate::config::load::make_directory;

    let top = tempfile::tempdir().unwrap();
    let foreign = top.path().join("foreign");
    make_directory(&foreign).unwrap();
    let listener = UnixListener::bind(foreign.join("bot.sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let send = |data: &Path| {
        let address = ControlAddress::new(data, None, Instance::Live);
        control::send_request(&address, &ControlRequest::Status).unwrap_err()
    };

    let data = top.path().join("linked-directory");
    make_directory(&data).unwrap();
    symlink(&foreign, data.join("control")).unwrap();
    let error = start(&data, mpsc::channel(1).0).unwrap_err();
    assert!(matches!(error, ControlError::NotPrivate { .. }), "{error}");
    assert!(matches!(send(&data), ControlError::NotPrivate { .. }));

    let data = top.path().join("linked-socket");
    make_directory(&data.join("control")).unwrap();
    let socket = data.join("control/bot.sock");
    symlink(foreign.join("bot.sock"), &socket).unwrap();
    assert!(matches!(send(&data), ControlError::NotRunning));
    let (state, settings) = (top.path().join("state"), top.path().join("sniper.toml"));
    let paths = SettingsPaths { state_dir: &state, settings: &settings };
    let bot = BotLocation { data: data.clone(), market: None };
    bot.store(paths, Instance::Live).unwrap();
    assert_eq!(BotLocation::find(top.path(), paths), None, "a foreign program is no bot");
    let server = start(&data, mpsc::channel(1).0).unwrap();
    assert!(!socket.is_symlink() && socket.exists(), "the link is replaced");
    drop(server);
    assert!(foreign.join("bot.sock").exists());
    assert!(listener.accept().is_err(), "nothing has connected to the foreign program");
}

#[test]
fn a_control_directory_accessible_to_others_is_not_used() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("control");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
    let error = start(folder.path(), mpsc::channel(1).0).unwrap_err();
    assert!(matches!(error, ControlError::NotPrivate { .. }), "{error}");
    let error = control::send_request(
        &ControlAddress::new(folder.path(), None, Instance::Live),
        &ControlRequest::Status,
    )
    .unwrap_err();
    assert!(matches!(error, ControlError::NotPrivate { .. }), "{error}");
}

#[test]
fn the_socket_is_private_and_limits_the_length_of_a_request() {
    use std::{io::Read as _, os::unix::fs::PermissionsExt};

    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), mpsc::channel(1).0).unwrap();
    let path = folder.path().join("control/bot.sock");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let long = vec![b'x'; control::LINE_BYTES_MAX + 1];
    // The server may close the connection during this write.
    drop(stream.write_all(&long));
    let mut output = String::new();
    drop(stream.read_to_string(&mut output));
    assert_eq!(output, "");
    assert!(matches!(
        control::send_request(&ControlAddress::new(folder.path(), None, Instance::Live), &ControlRequest::Status),
        Ok(ControlReply::Rejected(reason)) if reason.contains("stopping")
    ));
    drop(server);
    assert!(!path.exists());
}

#[derive(Debug, Parser)]
struct ParsedArgs {
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[test]
fn resolve_needs_exactly_one_outcome() {
    let parse =
        |words: &[&str]| ParsedArgs::try_parse_from(std::iter::once(&"ledger").chain(words));
    assert!(parse(&["resolve", "x", "--bought"]).is_ok());
    assert!(parse(&["resolve", "x", "--not-bought", "--yes"]).is_ok());
    assert!(parse(&["resolve", "x"]).is_err());
    assert!(parse(&["resolve", "x", "--bought", "--not-bought"]).is_err());
    assert!(parse(&["resolve", "--bought"]).is_err());
    assert!(parse(&[]).unwrap().ledger.command.is_none());
}
