//! What a person asks, and what they are told: with a bot, and without one.

use std::time::Duration;

use clap::Parser;
use tokio::sync::mpsc;

use super::*;
use crate::ledger::{
    control::{ASKS_MAX, ControlReply, ControlServer},
    tests::{
        LOST as NO_ANSWER, T0, after, budget, coins,
        disk::{place, reserve, wait_until},
        id, want,
    },
};

const SURE: bool = true;

/// Asks something of the ledger in a folder and returns what was printed.
fn at_desk(
    folder: &Path,
    as_json: bool,
    ask: impl FnOnce(&mut LedgerCommands<'_>) -> Result<(), LedgerCommandError>,
) -> Result<String, LedgerCommandError> {
    let mut out = Vec::new();
    ask(&mut LedgerCommands {
        folder,
        state: None,
        as_json,
        who: "eve",
        now: after(10),
        out: &mut out,
        confirm: &mut |_question| false,
    })?;
    Ok(String::from_utf8(out).unwrap())
}

fn resolve(
    desk: &mut LedgerCommands<'_>,
    id: &str,
    bought: bool,
    yes: bool,
) -> Result<(), LedgerCommandError> {
    let (id, not_bought, returned) = (id.to_owned(), !bought, false);
    let args = ResolveArgs { id, bought, not_bought, returned, yes };
    desk.ledger(&LedgerArgs { command: Some(LedgerCommand::Resolve(args)) })
}

fn command(command: LedgerCommand) -> LedgerArgs {
    LedgerArgs { command: Some(command) }
}

fn start(
    folder: &Path,
    asks: mpsc::Sender<control::PendingRequest>,
) -> Result<ControlServer, ControlError> {
    serve_as(Instance::Live, folder, asks)
}

fn serve_as(
    instance: Instance,
    folder: &Path,
    asks: mpsc::Sender<control::PendingRequest>,
) -> Result<ControlServer, ControlError> {
    let address = ControlAddress::of(folder, None, instance);
    ControlServer::start(&address, &asks, &crate::threads::Alarm::default())
}

/// A ledger with one unknown buy.
fn ledger(folder: &Path) -> Ledger {
    let entries = [crate::ledger::entries::tests::entry(Some("=first"))];
    let mut ledger = Ledger::open(&place(folder, "boot"), budget(), &entries, T0).unwrap();
    ledger.bind("account-1").unwrap();
    let reading = crate::ledger::AccountReading { trades: &[], complete: true, started: T0 };
    let _nothing = ledger.reconcile(&reading, Some(coins(1_000)), T0);
    let approved = reserve(&mut ledger, want(1, 10), T0);
    ledger.sent(approved.id(), T0).unwrap();
    let _nothing = ledger.settle(approved.id(), &NO_ANSWER, T0).unwrap();
    ledger
}

#[test]
fn without_a_ledger_status_says_so_and_the_rest_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let said = at_desk(folder.path(), false, |desk| desk.status().map(drop)).unwrap();
    assert!(said.contains("no ledger yet"), "{said}");
    let error = at_desk(folder.path(), false, |desk| desk.ledger(&LedgerArgs::default()));
    assert!(matches!(error, Err(LedgerCommandError::Ledger(LedgerError::Missing { .. }))));
}

#[test]
fn the_table_shows_what_was_spent_and_what_is_left_of_each_limit() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let table = at_desk(folder.path(), false, |desk| desk.ledger(&LedgerArgs::default())).unwrap();
    let total = table.lines().find(|line| line.starts_with("total")).unwrap();
    let columns: Vec<&str> = total.split_whitespace().collect();
    assert_eq!(columns, ["total", "10.00", "1000000.00", "999990.00"]);
    let unknown = table.lines().find(|line| line.starts_with("unknown")).unwrap();
    assert_eq!(unknown.split_whitespace().collect::<Vec<_>>(), ["unknown", "1", "1", "1"]);
    let json = at_desk(folder.path(), true, |desk| desk.ledger(&LedgerArgs::default())).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["everything"]["unknown_coins"], "10.00");
    assert_eq!(json["entries"][0]["quantity"], 1);
}

#[test]
fn one_buy_is_shown_with_everything_that_happened_to_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let show = |as_json, id: &str| {
        let show = command(LedgerCommand::Show { id: id.to_owned() });
        at_desk(folder.path(), as_json, |desk| desk.ledger(&show))
    };
    let said = show(false, "listing-1").unwrap();
    assert!(said.contains("state           unknown"), "{said}");
    assert!(said.contains("answer          no answer in time"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&show(true, "listing-1").unwrap()).unwrap();
    assert_eq!((&json["price"], &json["state"]), (&"10.00".into(), &"unknown".into()));
    assert!(matches!(show(false, "listing-2"), Err(LedgerCommandError::NoSuchListing(_))));
    assert!(matches!(show(false, "no such thing"), Err(LedgerCommandError::NoSuchListing(_))));
}

#[test]
fn an_export_has_a_line_for_each_buy_and_no_formula_in_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let export = command(LedgerCommand::Export { csv: false });
    let csv = at_desk(folder.path(), false, |desk| desk.ledger(&export)).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with("1,listing-1,\"'=first\",10.00,10.00,unknown,"), "{csv}");
    let json = at_desk(folder.path(), true, |desk| desk.ledger(&export)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["intents"][0]["listing"], "listing-1");
}

#[test]
fn a_correction_asks_first_and_records_who_made_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let unsure = at_desk(folder.path(), false, |desk| resolve(desk, "listing-1", false, !SURE));
    assert!(matches!(unsure, Err(LedgerCommandError::NotConfirmed)));
    let sure = |id: &str| at_desk(folder.path(), false, |desk| resolve(desk, id, false, SURE));
    assert_eq!(sure("listing-1").unwrap(), "Recorded as not bought.\n");
    let again = sure("listing-1").unwrap_err().to_string();
    assert_eq!(again, "listing-1 is not_bought; only an unknown order can be resolved so");
    assert!(sure("listing-9").unwrap_err().to_string().contains("no buy of a listing"));
    assert!(sure("lost").unwrap_err().to_string().contains("no loss"));

    let show = command(LedgerCommand::Show { id: "listing-1".to_owned() });
    let said = at_desk(folder.path(), false, |desk| desk.ledger(&show)).unwrap();
    assert!(said.contains("corrected") && said.contains("eve: not bought"), "{said}");
    let verify = command(LedgerCommand::Verify);
    let said = at_desk(folder.path(), false, |desk| desk.ledger(&verify)).unwrap();
    assert!(said.starts_with("All is well: 1 intents"), "{said}");
}

#[test]
fn a_halt_without_a_bot_waits_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    at_desk(folder.path(), false, |desk| desk.halt()).unwrap();
    let status = at_desk(folder.path(), false, |desk| desk.status().map(drop)).unwrap();
    assert!(status.contains("buying          halted") && status.contains("eve stopped it"));
    at_desk(folder.path(), false, |desk| desk.resume()).unwrap();
    let status = at_desk(folder.path(), true, |desk| desk.status().map(drop)).unwrap();
    let status: LedgerStatus = serde_json::from_str(&status).unwrap();
    assert_eq!((status.mode.as_str(), status.buying.as_str()), ("not running", "off"));
    assert_eq!(status.halts, []);
}

#[test]
fn a_new_budget_frees_the_total() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    let new = command(LedgerCommand::NewBudget { yes: SURE });
    at_desk(folder.path(), false, |desk| desk.ledger(&new)).unwrap();
    let status = at_desk(folder.path(), true, |desk| desk.status().map(drop)).unwrap();
    let status: LedgerStatus = serde_json::from_str(&status).unwrap();
    assert_eq!(status.limits[0].used, "0.00");
}

#[test]
fn a_running_bot_is_asked_and_answers_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = ledger(folder.path());
    let (asks, mut asked) = mpsc::channel(ASKS_MAX);
    let server = start(folder.path(), asks).unwrap();
    let bot = std::thread::spawn(move || {
        while let Some(ask) = asked.blocking_recv() {
            let reply = control::answer(&mut ledger, &ask.request, "live", after(10));
            ask.reply.send(reply).unwrap();
        }
        ledger
    });
    let status = || -> LedgerStatus {
        let said = at_desk(folder.path(), true, |desk| desk.status().map(drop)).unwrap();
        serde_json::from_str(&said).unwrap()
    };
    assert_eq!((status().mode, status().buying), ("live".to_owned(), "on".to_owned()));
    at_desk(folder.path(), false, |desk| desk.halt()).unwrap();
    assert_eq!(status().buying, "halted");
    at_desk(folder.path(), false, |desk| resolve(desk, "listing-1", true, SURE)).unwrap();
    assert_eq!((status().unknown, status().undelivered), (0, 1));
    let refused = at_desk(folder.path(), false, |desk| resolve(desk, "listing-1", true, SURE));
    assert!(matches!(refused, Err(LedgerCommandError::Refused(_))));
    // Reading works beside the bot.
    let table = at_desk(folder.path(), false, |desk| desk.ledger(&LedgerArgs::default()));
    assert!(table.unwrap().contains("Halted since"));

    let second = start(folder.path(), mpsc::channel(1).0).unwrap_err();
    assert!(matches!(second, ControlError::Taken), "{second}");
    drop(server);
    let ledger = bot.join().unwrap();
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state.as_str(), "bought");
    wait_until(|| ledger.is_durable());
    let gone = control::ask(
        &ControlAddress::of(folder.path(), None, Instance::Live),
        &ControlRequest::Status,
    );
    assert!(matches!(gone, Err(ControlError::NotRunning)));
}

/// A bot that answers over its own channel, until it is dropped.
struct FakeBot {
    server: Option<ControlServer>,
    bot: Option<std::thread::JoinHandle<Ledger>>,
}

impl FakeBot {
    fn start(folder: &Path, instance: Instance, ledger: Ledger, running: Duration) -> Self {
        let (asks, mut asked) = mpsc::channel::<control::PendingRequest>(ASKS_MAX);
        let server = serve_as(instance, folder, asks).unwrap();
        let mode = match instance {
            Instance::Live => "live",
            Instance::Dry => "dry",
        };
        let bot = std::thread::spawn(move || {
            let mut ledger = ledger;
            while let Some(ask) = asked.blocking_recv() {
                let mut reply = control::answer(&mut ledger, &ask.request, mode, after(10));
                if let ControlReply::Done(status) = &mut reply {
                    status.running_ms = Some(u64::try_from(running.as_millis()).unwrap());
                }
                ask.reply.send(reply).unwrap();
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
    Standing::of(folder, None, after(10)).unwrap().problems()
}

/// What `sniper status` prints, and how many problems it ends with.
fn status_at(folder: &Path) -> (serde_json::Value, usize) {
    let mut count = usize::MAX;
    let said = at_desk(folder, true, |desk| {
        count = desk.status()?.0.len();
        Ok(())
    });
    (serde_json::from_str(&said.unwrap()).unwrap(), count)
}

#[test]
fn status_ends_with_a_problem_where_the_user_is_needed_and_only_there() {
    let minute = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    drop(ledger(folder.path()));
    assert_eq!(problems(folder.path()), <[String; 0]>::default(), "at rest, without a halt");
    at_desk(folder.path(), false, |desk| desk.halt()).unwrap();
    assert_eq!(problems(folder.path()).len(), 1, "the ledger of a stopped bot holds a halt");
    at_desk(folder.path(), false, |desk| desk.resume()).unwrap();

    let live =
        FakeBot::start(folder.path(), Instance::Live, ledger(&folder.path().join("x")), minute);
    assert_eq!(status_at(folder.path()).1, 0, "live and reconciled");
    at_desk(folder.path(), false, |desk| desk.halt()).unwrap();
    let (status, count) = status_at(folder.path());
    assert_eq!((&status["mode"], &status["buying"], count), (&"live".into(), &"halted".into(), 1));
    assert!(status["problems"][0].as_str().unwrap().contains("eve stopped it"), "{status}");
    live.end();

    let fresh = |running| {
        let unreconciled = Ledger::in_memory(budget(), &[], true);
        let live = FakeBot::start(folder.path(), Instance::Live, unreconciled, running);
        let count = status_at(folder.path()).1;
        live.end();
        count
    };
    assert_eq!(fresh(Duration::from_secs(29)), 0, "it has just started");
    assert_eq!(fresh(Duration::from_secs(30)), 1, "it should have been reconciled by now");
}

#[test]
fn a_dry_run_answers_beside_a_live_bot_and_takes_nothing_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let second = Duration::from_secs(1);
    let in_memory = || Ledger::in_memory(budget(), &[], false);
    let dry = FakeBot::start(folder.path(), Instance::Dry, in_memory(), second);
    let (status, count) = status_at(folder.path());
    assert_eq!((&status["mode"], count), (&"dry".into(), 0));
    at_desk(folder.path(), false, |desk| desk.halt()).unwrap();
    assert_eq!(status_at(folder.path()).0["buying"], "halted", "a dry run is halted in memory");

    // A live bot starts beside it all the same, and is asked first.
    drop(ledger(folder.path()));
    let own = tempfile::tempdir().unwrap();
    let live = FakeBot::start(folder.path(), Instance::Live, ledger(own.path()), second);
    let (status, count) = status_at(folder.path());
    assert_eq!(
        (&status["mode"], &status["dry"]["mode"], count),
        (&"live".into(), &"dry".into(), 0)
    );
    assert_eq!((&status["buying"], &status["dry"]["buying"]), (&"on".into(), &"halted".into()));
    at_desk(folder.path(), false, |desk| desk.resume()).unwrap();
    assert_eq!(status_at(folder.path()).0["dry"]["buying"], "halted", "the live bot was meant");
    let text = at_desk(folder.path(), false, |desk| desk.status().map(drop)).unwrap();
    assert!(text.contains("A dry run beside it:"), "{text}");
    let another = serve_as(Instance::Dry, folder.path(), mpsc::channel(1).0);
    assert!(matches!(another, Err(ControlError::Taken)), "one dry run answers");
    live.end();

    // Without a live bot, a halt is kept in the ledger as well as in the dry run.
    at_desk(folder.path(), false, |desk| desk.resume()).unwrap();
    let done = at_desk(folder.path(), false, |desk| desk.halt()).unwrap();
    assert!(done.contains("for the ledger and for the dry run"), "{done}");
    let (status, count) = status_at(folder.path());
    assert_eq!((&status["mode"], &status["buying"], count), (&"dry".into(), &"halted".into(), 1));
    assert_eq!(status["ledger"]["buying"], "halted");
    dry.end();
    assert_eq!(problems(folder.path()).len(), 1, "the halt outlives the dry run");
}

#[cfg(unix)]
#[test]
fn a_channel_that_others_could_open_is_not_used() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("control");
    std::fs::create_dir(&inner).unwrap();
    std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = start(folder.path(), mpsc::channel(1).0).unwrap_err();
    assert!(matches!(error, ControlError::Open { .. }), "{error}");
    let error = control::ask(
        &ControlAddress::of(folder.path(), None, Instance::Live),
        &ControlRequest::Status,
    )
    .unwrap_err();
    assert!(matches!(error, ControlError::Open { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn the_socket_is_for_its_owner_alone_and_bounds_what_it_reads() {
    use std::{io::Read as _, os::unix::fs::PermissionsExt};

    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), mpsc::channel(1).0).unwrap();
    let path = folder.path().join("control/bot.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let long = vec![b'x'; control::LINE_BYTES_MAX + 1];
    // It may hang up in the middle of this.
    drop(stream.write_all(&long));
    let mut said = String::new();
    drop(stream.read_to_string(&mut said));
    assert_eq!(said, "");
    assert!(matches!(
        control::ask(&ControlAddress::of(folder.path(), None, Instance::Live), &ControlRequest::Status),
        Ok(ControlReply::Cannot(why)) if why.contains("stopping")
    ));
    drop(server);
    assert!(!path.exists());
}

#[derive(Debug, Parser)]
struct Output {
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[test]
fn resolve_needs_exactly_one_verdict() {
    let parse = |words: &[&str]| Output::try_parse_from(std::iter::once(&"ledger").chain(words));
    assert!(parse(&["resolve", "x", "--bought"]).is_ok());
    assert!(parse(&["resolve", "x", "--not-bought", "--yes"]).is_ok());
    assert!(parse(&["resolve", "x"]).is_err());
    assert!(parse(&["resolve", "x", "--bought", "--not-bought"]).is_err());
    assert!(parse(&["resolve", "--bought"]).is_err());
    assert!(parse(&[]).unwrap().ledger.command.is_none());
}
