//! The program at a blocked terminal: it keeps running and exits in time.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sniper::{
    clock,
    config::{Config, Sources},
    domain::{
        money::{Amount, Decimals},
        outcome::{Outcome, RejectReason},
        trade::{KeyedBy, TradeId},
    },
    ledger::{AccountReading, Ledger, LedgerLocation, OrderRequest},
    sim::{SimServer, SimSettings},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Maximum duration of a step of a test.
const DEADLINE: Duration = Duration::from_secs(20);

/// Write timeouts of log, summary and final error line, plus a margin for a busy machine.
const STOPPED_IN_TIME: Duration = Duration::from_secs(10);

/// `O_NOCTTY` on Linux: the pseudoterminal must not become the controlling terminal of the test.
const NO_CONTROL: i32 = 0o400;

/// Opens a pseudoterminal. Returns the controlling side and the program's side.
pub(crate) fn terminal() -> (File, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let program =
        OpenOptions::new().read(true).write(true).custom_flags(NO_CONTROL).open(name).unwrap();
    (File::from(controller), program)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a command with the terminal as its standard input, output and error.
fn start(args: &[&str], directory: &Path, terminal: &File) -> Running {
    let side = || Stdio::from(terminal.try_clone().unwrap());
    let (program, args) = args.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(args).current_dir(directory).env_clear().env("NO_COLOR", "1").env("TERM", "xterm");
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    Running(command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap())
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Reads lines up to one that contains `text`, and returns that line.
fn line_with(text: &str, lines: &mut BufReader<File>) -> String {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended without printing {text:?}");
        if line.contains(text) {
            return line;
        }
    }
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never held");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the state of a process from `/proc`: `S` sleeping, `T` stopped, `Z` ended.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('Z')
}

#[test]
fn a_terminal_paused_with_ctrl_s_does_not_delay_the_exit() {
    let (controller, program) = terminal();
    let directory = tempfile::tempdir().unwrap();
    let args = [env!("CARGO_BIN_EXE_sniper"), "demo", "--rate", "500", "--for", "1h"];
    let mut running = start(&args, directory.path(), &program);
    let mut lines = BufReader::new(controller.try_clone().unwrap());
    line_with(" Mode: LIVE (local market, play money)", &mut lines);
    (&controller).write_all(b"\x13").unwrap();
    signal("-INT", running.0.id());
    let signaled = Instant::now();
    until(|| running.0.try_wait().unwrap().is_some());
    assert!(signaled.elapsed() < STOPPED_IN_TIME, "{:?}", signaled.elapsed());
    assert_eq!(running.0.wait().unwrap().code(), Some(74));
}

#[test]
fn sighup_of_a_closed_terminal_ends_the_run() {
    let (controller, program) = terminal();
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join(".env"),
        "CSGOROLL_WS_URL=ws://127.0.0.1:9/\nCSGOROLL_HTTP_URL=http://127.0.0.1:9/\n",
    )
    .unwrap();
    // `nohup` would ignore the signal.
    let default = ["env", "--default-signal=HUP"];
    let args = [&default[..], &["setsid", "--ctty", env!("CARGO_BIN_EXE_sniper"), "run"]].concat();
    let mut running = start(&args, directory.path(), &program);
    let mut lines = BufReader::new(controller);
    line_with("Reconnecting in", &mut lines);
    signal("-HUP", running.0.id());
    line_with("Stopped: SIGHUP (terminal closed).", &mut lines);
    until(|| running.0.try_wait().unwrap().is_some());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

/// A process that is stopped by its terminal handles no signal and settles no order.
#[test]
fn a_background_process_is_not_stopped_by_tostop() {
    let (controller, program) = terminal();
    let directory = tempfile::tempdir().unwrap();
    // The shell keeps running, since its exit would wake a stopped process.
    let script = r#"stty tostop; set -m; "$0" demo --rate 500 --for 1h & echo "pid=$!"
        while :; do wait; sleep 0.1; done"#;
    let args = ["setsid", "--ctty", "sh", "-c", script, env!("CARGO_BIN_EXE_sniper")];
    let _shell = start(&args, directory.path(), &program);
    let mut lines = BufReader::new(controller);
    let line = line_with("pid=", &mut lines);
    let pid: u32 = line.trim().strip_prefix("pid=").unwrap().parse().unwrap();
    // Waits until the signal thread runs and log lines were written.
    until(|| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name == "signals\n"))
    });
    thread::sleep(Duration::from_millis(500));
    assert!(!matches!(state(pid), 'T' | 'Z'), "{}", state(pid));
    signal("-TERM", pid);
    let signaled = Instant::now();
    until(|| state(pid) == 'Z');
    assert!(signaled.elapsed() < STOPPED_IN_TIME, "{:?}", signaled.elapsed());
}

/// A price site whose answer takes a second.
fn slow_site() -> std::net::SocketAddr {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The thread ends with the test process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4_096];
            let _read = stream.read(&mut request).unwrap();
            thread::sleep(Duration::from_secs(1));
            stream.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    address
}

/// Writes a recording whose replay takes a while.
fn write_long_recording(directory: &Path) {
    let folder = directory.join("CSGOROLL");
    fs::create_dir_all(&folder).unwrap();
    let manifest = r#"{"complete":true,"sources":[{"source":"csgoroll","symbol":"CSGOROLL","stream":"listings","file":"CSGOROLL/listings.jsonl"}]}"#;
    fs::write(directory.join("session_manifest.json"), manifest).unwrap();
    let line = |number: u64| format!("{{\"ns\":{number},\"conn\":1,\"raw\":\"{{}}\"}}\n");
    let lines: String = (1..=50_000).map(line).collect();
    fs::write(folder.join("listings.jsonl"), lines).unwrap();
}

/// Writes a ledger whose orders do not fit into a pipe.
fn write_orders(directory: &Path) {
    let sources = Sources {
        lookup: &|_name| None,
        directory,
        config_file: None,
        live: false,
        decimals: |_market| Decimals::Two,
    };
    let Config { budget, whitelist, data_dir, .. } = Config::load(&sources).unwrap().config;
    let (place, start) = (LedgerLocation::new(&data_dir, "market.example"), clock::now());
    let mut ledger = Ledger::open(&place, budget, &whitelist, start).unwrap();
    ledger.bind("account").unwrap();
    let nothing = AccountReading { trades: &[], complete: true, started: start };
    drop(ledger.reconcile(&nothing, Some(Amount::from_cents(100_000)), start));
    for number in 0..600_u32 {
        let now = start.plus(Duration::from_secs(60) * number);
        let id = TradeId::new(&format!("{number:0>60}")).unwrap();
        let (keyed_by, price) = (KeyedBy::Id, Amount::from_cents(100));
        let request = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
        let deadline = Instant::now() + DEADLINE;
        while let Err(rejection) = ledger.reserve(request, now) {
            assert!(Instant::now() < deadline, "{rejection}");
            thread::sleep(Duration::from_millis(1));
        }
        ledger.sent(&request.key(), now).unwrap();
        let rejected = Outcome::Rejected(RejectReason::Taken);
        drop(ledger.settle(&request.key(), &rejected, now).unwrap());
    }
}

/// Progress is for the user at the terminal, also while the result goes to a file.
#[test]
fn capture_replay_and_export_show_progress_while_their_output_goes_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let market = SimServer::start(SimSettings::default()).unwrap();
    let settings = "[budget]\nmax_price = 500\ntotal = 1000\nmin_balance = 0\n\
                    max_buys_per_minute = 9\n[[whitelist]]\nitem = \"Ursus Knife\"\nmax_price = 250\n";
    fs::write(directory.path().join("sniper.toml"), settings).unwrap();
    let dotenv = market.environment().into_iter().map(|(name, value)| format!("{name}={value}\n"));
    fs::write(directory.path().join(".env"), dotenv.collect::<String>()).unwrap();
    // Starts a command with a terminal as its standard error, and a pipe without a reader.
    let start = |args: &[&str]| {
        let (controller, program) = terminal();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command.args(args).current_dir(directory.path()).env_clear().env("TERM", "xterm");
        let running = command.stdin(Stdio::null()).stdout(writer).stderr(program).spawn().unwrap();
        (Running(running), controller, reader)
    };
    let shows = |text: &str, (mut running, controller, reader): (Running, File, _)| {
        let (mut seen, mut bytes) = (Vec::new(), [0; 256]);
        while !String::from_utf8_lossy(&seen).contains(text) {
            let read = std::io::Read::read(&mut &controller, &mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..read]);
        }
        running.0.kill().unwrap();
        drop::<std::io::PipeReader>(reader);
    };
    shows("Recording", start(&["capture", "--out", "recordings", "--for", "1h"]));
    write_long_recording(&directory.path().join("data/recordings/session"));
    shows("Replaying", start(&["replay"]));
    write_orders(directory.path());
    shows("Exporting", start(&["ledger", "export"]));
}

/// Long work shows its progress on a terminal, and nothing of it where there is none.
#[test]
fn a_download_shows_progress_on_a_terminal_only() {
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        "[prices]\ncoin_usd = 0.65\n[[prices.source]]\nname = \"slow\"\n\
         kind = \"csgotrader-buff163\"\nurl = \"http://{}/prices.json\"\n\
         [[whitelist]]\nitem = \"Fracture Case\"\nmax_price = 1\n",
        slow_site()
    );
    fs::write(directory.path().join("sniper.toml"), settings).unwrap();
    let (controller, program) = terminal();
    let args = [env!("CARGO_BIN_EXE_sniper"), "prices", "update"];
    let mut running = start(&args, directory.path(), &program);
    drop(program);
    let mut lines = BufReader::new(controller);
    let line = line_with("slow: ", &mut lines);
    // The line of the progress is removed before the result.
    let (before, result) = line.split_once("slow: ").unwrap();
    assert!(before.contains("Reading slow") && before.ends_with("\u{1b}[2K"), "{line:?}");
    assert!(result.contains("HTTP 404"), "{line:?}");
    until(|| running.0.try_wait().unwrap().is_some());
    let mut piped = Command::new(args[0]);
    piped.args(&args[1..]).current_dir(directory.path()).env_clear();
    let piped = piped.output().unwrap();
    assert!(piped.stderr.is_empty(), "{}", String::from_utf8_lossy(&piped.stderr));
    assert!(piped.stdout.starts_with(b"slow: "), "{}", String::from_utf8_lossy(&piped.stdout));
}

/// Times are local and lines that need attention are colored, unless the user decides otherwise.
#[test]
fn times_and_colors_on_a_terminal_follow_the_options() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join(".env"),
        "CSGOROLL_WS_URL=ws://127.0.0.1:9/\nCSGOROLL_HTTP_URL=http://127.0.0.1:9/\n",
    )
    .unwrap();
    let line_of = |args: &[&str], text: &str| {
        let (controller, program) = terminal();
        let all = [&["env", "TZ=JST-9", env!("CARGO_BIN_EXE_sniper")], args].concat();
        let _running = start(&all, directory.path(), &program);
        line_with(text, &mut BufReader::new(controller))
    };
    let time = |args: &[&str]| line_of(args, " Mode: ").split(' ').next().unwrap().to_owned();
    assert!(time(&["run"]).ends_with("+09:00"), "{}", time(&["run"]));
    let utc = time(&["run", "--utc"]);
    assert!(sniper::domain::time::UnixMs::parse(&utc).is_some(), "{utc}");
    let valid = "The settings are valid.";
    assert_eq!(line_of(&["check"], valid), format!("{valid}\r\n"));
    let colored = line_of(&["check", "--color", "always"], valid);
    assert_eq!(colored, format!("\u{1b}[32m{valid}\u{1b}[0m\r\n"));
}
