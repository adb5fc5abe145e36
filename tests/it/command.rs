//! The binary as a user starts it: arguments, exit codes, output and secrecy.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::{
    fs::{self, DirBuilder, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::sim::{Rate, SimServer, SimSettings};
use tempfile::TempDir;

/// Credential that must not appear in any output.
const PLANTED: &str = "s%3Aplanted-7d21aa";

/// Maximum duration of a step of a test.
const DEADLINE: Duration = Duration::from_secs(20);

/// Interval between two checks for the end of the program.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A working directory and environment for the program.
struct Workspace {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Workspace {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    fn file(self, name: &str, content: &str) -> Self {
        fs::write(self.directory.path().join(name), content).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Configures a local market that closes every connection.
    fn with_closing_market(self) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The thread ends with the test process.
        thread::spawn(move || listener.incoming().for_each(drop));
        self.variable("CSGOROLL_WS_URL", &format!("ws://{address}/ws"))
            .variable("CSGOROLL_HTTP_URL", &format!("http://{address}/graphql"))
    }

    /// Configures this simulated market.
    fn at(self, market: &SimServer) -> Self {
        self.variable("CSGOROLL_WS_URL", &market.ws_url())
            .variable("CSGOROLL_HTTP_URL", &market.http_url())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

/// A running program that is killed on drop.
struct Running(Child);

impl Running {
    /// Reads standard output up to a line that contains `text`, and returns what it read.
    fn read_until(&mut self, text: &str) -> String {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut seen = String::new();
        while !seen.contains(text) {
            let read = out.read_line(&mut seen).unwrap();
            assert!(read > 0, "it ended without printing {text:?}: {seen}");
        }
        self.0.stdout = Some(out.into_inner());
        seen
    }

    /// Waits for the exit. Returns its code, or `None` after a signal or after [`DEADLINE`].
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(POLL_INTERVAL);
        }
        None
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn rest_of_stderr(&mut self) -> String {
        let mut rest = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
        rest
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until the condition holds, at most [`DEADLINE`].
#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never held");
        thread::sleep(POLL_INTERVAL);
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn last_object(output: &Output) -> Value {
    let out = out(output);
    serde_json::from_str(out.lines().last().unwrap_or_default()).expect(&out)
}

#[test]
fn invalid_settings_exit_with_78_and_invalid_arguments_with_2() {
    let workspace = Workspace::new();
    assert_eq!(workspace.run(&["check"]).status.code(), Some(0));
    assert_eq!(workspace.run(&["check", "--live"]).status.code(), Some(78));
    assert_eq!(workspace.run(&["--live"]).status.code(), Some(78));
    assert_eq!(workspace.run(&["run", "--config", "none.toml"]).status.code(), Some(78));
    assert_eq!(workspace.run(&["--for", "soon"]).status.code(), Some(2));
    assert_eq!(workspace.run(&["nonsense"]).status.code(), Some(2));
    let workspace = workspace.file("sniper.toml", "[budget]\n");
    let output = workspace.run(&["--for", "1ms"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).starts_with("sniper.toml: the whitelist is empty"), "{}", err(&output));
    let workspace = Workspace::new().variable("RUST_LOG", "sniper=loud");
    assert_eq!(workspace.run(&["--for", "1ms"]).status.code(), Some(78));
}

#[test]
fn invalid_settings_are_reported_as_a_json_object() {
    let output = Workspace::new().run(&["--live", "--json"]);
    let object = last_object(&output);
    assert_eq!((&object["ok"], &object["bought"]), (&false.into(), &0.into()));
    assert_eq!(object["problems"].as_array().map(Vec::len), Some(2));
    assert!(err(&output).contains("command line: live mode needs a credential"));
}

#[test]
fn the_for_option_ends_the_run_with_a_summary() {
    let workspace = Workspace::new().with_closing_market();
    let output = workspace.run(&["--for", "300ms"]);
    assert_eq!(output.status.code(), Some(0));
    let text = out(&output);
    for expected in ["Mode: DRY RUN", "To begin: copy sniper.example.toml"] {
        assert!(text.contains(expected), "expected: {expected}\noutput: {text}");
    }
    let summary = text.split_once("Ran for ").expect(&text).1;
    let (seconds, end) = summary.split_once(" s. ").expect(&text);
    assert!(seconds.parse::<f64>().unwrap() >= 0.3, "{text}");
    assert!(end.starts_with("Stopped: --for 300ms elapsed."), "{text}");
    assert!(end.contains("\nFeed:    never connected"), "{text}");
    let output = workspace.run(&["run", "--for", "300ms", "--json"]);
    assert_eq!(last_object(&output)["mode"], "dry");
    assert!(err(&output).contains("Mode: DRY RUN"), "{}", err(&output));
    assert_eq!(out(&output).lines().count(), 1);
}

#[test]
fn without_settings_every_listing_is_logged_with_a_setup_hint() {
    let market =
        SimServer::start(SimSettings { rate: Rate::per_second(50), ..SimSettings::default() });
    let market = market.unwrap();
    let workspace = Workspace::new()
        .variable("CSGOROLL_WS_URL", &market.ws_url())
        .variable("CSGOROLL_HTTP_URL", &market.http_url());
    let mut running = workspace.start(&[]);
    let text = running.read_until("INFO [trade] id=");
    for expected in ["Mode: DRY RUN", "To begin: copy sniper.example.toml", "INFO Connected"] {
        assert!(text.contains(expected), "expected: {expected}\noutput: {text}");
    }
    assert_eq!(market.history().orders().count(), 0);
}

#[test]
fn exhausted_retries_exit_with_69_after_the_summary() {
    let workspace = Workspace::new().with_closing_market().file(
        "sniper.toml",
        concat!(
            "[reconnection]\ninitial_delay_ms = 250\nmax_retries = 1\n",
            "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 1\n"
        ),
    );
    let output = workspace.run(&["run", "--json"]);
    assert_eq!(output.status.code(), Some(69), "{}", err(&output));
    let ended = last_object(&output)["ended"].as_str().unwrap().to_owned();
    assert!(ended.contains("gave up"), "{ended}");
}

#[test]
fn a_signal_ends_the_run_with_a_summary_and_exit_code_0() {
    let signals = [("-TERM", "SIGTERM"), ("-INT", "Ctrl-C")];
    for (signal, reason) in signals {
        let mut running = Workspace::new().with_closing_market().start(&["run"]);
        running.read_until("Reconnecting in");
        running.signal(signal);
        assert_eq!(running.ended(), Some(0), "{signal}");
        let rest = running.rest();
        assert!(rest.contains(&format!("Stopped: {reason}.")), "{signal}: {rest}");
    }
}

/// `nohup` ignores SIGHUP so that a program survives the end of its terminal.
#[cfg(target_os = "linux")]
#[test]
fn an_inherited_sighup_ignore_is_kept() {
    let workspace = Workspace::new().with_closing_market();
    let sniper = workspace.command(&["run"]);
    let mut command = Command::new("nohup");
    command
        .arg(sniper.get_program())
        .args(sniper.get_args())
        .current_dir(workspace.directory.path());
    command.envs(sniper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(piped.spawn().unwrap());
    running.read_until("Reconnecting in");
    running.signal("-HUP");
    running.read_until("Reconnecting in");
    running.signal("-TERM");
    assert_eq!(running.ended(), Some(0));
    assert!(running.rest().contains("Stopped: SIGTERM."));
}

/// The same situation as `sniper | head`.
#[test]
fn a_closed_stdout_stops_the_program_with_exit_code_74() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    for args in [&["run"][..], &["demo"], &["capture", "--out", "rec"]] {
        let workspace = Workspace::new().at(&market);
        let mut running = workspace.start(args);
        running.read_until(" INFO ");
        drop(running.0.stdout.take());
        assert_eq!(running.ended(), Some(74), "{args:?}");
        let text = running.rest_of_stderr();
        let line = "sniper: the log output was closed: stopping as on SIGTERM";
        assert!(text.starts_with(line), "{args:?}: {text}");
        // The summary repeats the line.
        assert_eq!(text.matches("the log output was closed").count(), 2, "{args:?}: {text}");
    }
}

/// With `--json` the log goes to standard error, and standard output still gets the summary.
#[test]
fn a_closed_stderr_stops_a_json_run_with_exit_code_74() {
    let workspace = Workspace::new().with_closing_market();
    let mut running = workspace.start(&["run", "--json"]);
    let mut line = String::new();
    BufReader::new(running.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("Mode: DRY RUN"), "{line}");
    assert_eq!(running.ended(), Some(74));
    let summary: Value = serde_json::from_str(&running.rest()).unwrap();
    assert_eq!(summary["ended"], "the log output was closed");
}

/// Returns a full pipe.
#[cfg(target_os = "linux")]
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    // Default capacity of a pipe on Linux.
    const PIPE_BYTES: usize = 65_536;
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &[b'x'; PIPE_BYTES]).unwrap();
    (reader, writer)
}

/// Write timeouts of log and summary, plus a margin for a busy machine.
#[cfg(target_os = "linux")]
const STOPPED_IN_TIME: Duration = Duration::from_secs(10);

/// Returns `true` once the signal thread runs. Before that, a signal kills the process.
#[cfg(target_os = "linux")]
fn handles_signals(running: &Running) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.0.id())).unwrap();
    let mut names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    names.any(|name| name.is_ok_and(|name| name == "signals\n"))
}

/// Starts the program with a full pipe as standard output.
#[cfg(target_os = "linux")]
fn start_with_full_stdout(
    workspace: &Workspace,
    args: &[&str],
    is_stderr_full: bool,
) -> (Running, std::io::PipeReader) {
    let (reader, writer) = full_pipe();
    let mut command = workspace.command(args);
    let stderr =
        if is_stderr_full { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::piped() };
    let running = Running(command.stdout(writer).stderr(stderr).spawn().unwrap());
    (running, reader)
}

#[cfg(target_os = "linux")]
const WITH_SIGNALS: [&[&str]; 3] =
    [&["run"], &["demo", "--rate", "500", "--for", "1h"], &["capture", "--out", "rec"]];

#[cfg(target_os = "linux")]
#[test]
fn a_blocked_stdout_does_not_delay_the_exit() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    thread::scope(|scope| {
        for args in WITH_SIGNALS {
            for is_stderr_full in [false, true] {
                let market = &market;
                scope.spawn(move || check_exit_with_full_stdout(market, args, is_stderr_full));
            }
        }
    });
}

#[cfg(target_os = "linux")]
fn check_exit_with_full_stdout(market: &SimServer, args: &[&str], is_stderr_full: bool) {
    let workspace = Workspace::new().at(market);
    let (mut running, _reader) = start_with_full_stdout(&workspace, args, is_stderr_full);
    until(|| handles_signals(&running));
    running.signal("-INT");
    let signaled = Instant::now();
    assert_eq!(running.ended(), Some(74), "{args:?}, stderr is full: {is_stderr_full}");
    assert!(signaled.elapsed() < STOPPED_IN_TIME, "{args:?}: {:?}", signaled.elapsed());
    if !is_stderr_full {
        let text = running.rest_of_stderr();
        assert_eq!(
            text, "error: cannot write the output: standard output was blocked for 2s\n",
            "{args:?}"
        );
    }
}

/// Signals are handled on a separate thread, so a second one ends a blocked program.
#[cfg(target_os = "linux")]
#[test]
fn a_second_signal_ends_every_command_immediately() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        for args in WITH_SIGNALS {
            let workspace = Workspace::new().at(&market);
            let (mut running, _reader) = start_with_full_stdout(&workspace, args, false);
            until(|| handles_signals(&running));
            // A signal that is sent before the previous one was handled is lost.
            until(|| {
                running.signal(signal);
                running.0.try_wait().unwrap().is_some()
            });
            assert_eq!(running.ended(), Some(code), "{args:?}");
            let text = running.rest_of_stderr();
            assert!(
                text.starts_with("sniper: Quit immediately (second signal: "),
                "{args:?}: {text}"
            );
        }
    }
}

/// Commands without state to save keep the default action of a signal.
#[cfg(target_os = "linux")]
#[test]
fn doctor_and_sim_are_killed_by_the_first_signal() {
    use std::os::unix::process::ExitStatusExt as _;
    // The listener accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let workspace = Workspace::new()
        .variable("CSGOROLL_WS_URL", &format!("ws://{address}/ws"))
        .variable("CSGOROLL_HTTP_URL", &format!("http://{address}/graphql"));
    for args in [&["doctor"][..], &["sim", "--listen", "127.0.0.1:0"]] {
        let (mut running, _reader) = start_with_full_stdout(&workspace, args, false);
        let pid = running.0.id();
        until(|| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sniper\n");
        running.signal("-INT");
        assert_eq!(running.ended(), None, "{args:?}");
        assert_eq!(running.0.wait().unwrap().signal(), Some(2), "{args:?}");
    }
}

#[test]
fn an_unknown_log_filter_target_is_reported_and_hides_nothing() {
    for (filter, word) in [("foo", "`foo`"), ("snipper=debug", "`snipper`")] {
        let workspace = Workspace::new().with_closing_market().variable("RUST_LOG", filter);
        let mut running = workspace.start(&[]);
        let mut text = running.read_until("INFO Reconnecting in");
        running.signal("-TERM");
        assert_eq!(running.ended(), Some(0));
        text += &running.rest();
        let report = format!(
            " WARN RUST_LOG contains words that are neither levels nor modules: {word}, \
             ignored; write error, warn, "
        );
        assert_eq!(text.matches(&report).count(), 1, "{text}");
        let text = out(&workspace.run(&["check"])) + &err(&workspace.run(&["check"]));
        assert!(text.contains("RUST_LOG contains words that are neither"), "{text}");
    }
}

/// Giving up the feed is an error, which is logged even with `RUST_LOG=off`.
#[test]
fn errors_are_logged_under_every_filter() {
    let workspace = Workspace::new().with_closing_market().variable("RUST_LOG", "off").file(
        "sniper.toml",
        concat!(
            "[reconnection]\ninitial_delay_ms = 250\nmax_retries = 1\n",
            "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 1\n"
        ),
    );
    let text = out(&workspace.run(&["run"]));
    assert!(text.contains(" ERROR Giving up after "), "{text}");
    assert!(!text.contains(" INFO ") && !text.contains(" WARN "), "{text}");
}

#[test]
fn an_out_of_range_number_is_rejected_with_the_valid_range() {
    let cases: [(&[&str], &str); 9] = [
        (&["demo", "--rate", "1e18"], "from 0 to 100000"),
        (&["demo", "--rate", "100001"], "from 0 to 100000"),
        (&["demo", "--rate", "99999999999999999999"], "from 0 to 100000"),
        (&["sim", "--rate", "100000.01"], "from 0 to 100000"),
        (&["demo", "--for", "99999999999999999999s"], "at most 3650d"),
        (&["run", "--for", "3651d"], "at most 3650d"),
        (&["demo", "--seed", "99999999999999999999"], "18446744073709551615"),
        (&["capture", "--out", "rec", "--max-retries", "4294967296"], "from 0 to 4294967295"),
        (&["sim", "--balance", "99999999999999999999"], "to 1000000000000"),
    ];
    for (args, range) in cases {
        let output = Workspace::new().run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(range), "{args:?}: {}", err(&output));
    }
}

/// The demo shows a new user why a listing is bought by its percent rule.
#[test]
fn the_demo_buys_by_a_percentage_of_a_reference_price() {
    let output = Workspace::new().run(&["demo", "--for", "4s", "--rate", "200"]);
    let log = out(&output);
    let by_percent =
        log.lines().find(|line| line.contains("BUY sent") && line.contains(" % of reference 4.4"));
    assert!(by_percent.is_some_and(|line| line.contains("[slate]")), "{log}");
}

/// Settings with one entry about any knife, and prices for some of the simulated market's knives.
const KNIVES: (&str, &str) = (
    concat!(
        "[budget]\nmax_price = 100000\ntotal = 10000000\nmax_buys_per_minute = 60000\n",
        "[prices]\ncoin_usd = 0.65\n[[prices.source]]\nname = \"buff\"\nkind = \"file\"\n",
        "path = \"p.csv\"\nunit = \"usd\"\n[[whitelist]]\nitem = \"*\"\ncategory = \"knife\"\n",
        "max_percent = 80\nreference = \"buff.bid\"\nmax_price = 50000\nmax_quantity = 1000\n",
    ),
    "name,bid\n★ Ursus Knife,500\n★ Classic Knife,60\n★ Navaja Knife,150\n",
);

/// The reasons that each of the demo, a dry run and a replay must show: below the share, above it,
/// without a price.
#[track_caller]
fn assert_reasons(text: &str, order: &str, parts: [&str; 2]) {
    let line = |word: &str, part: &str| {
        text.lines().any(|line| line.contains(word) && line.contains(part))
    };
    assert!(line(order, " % of reference "), "{text}");
    for part in parts {
        assert!(line("NO MATCH", part), "{part}: {text}");
    }
    assert!(!text.contains("category is"), "{text}");
}

#[test]
fn the_demo_shows_why_each_knife_was_ordered_or_not() {
    let output = Workspace::new().run(&["demo", "--for", "8s", "--rate", "500", "--explain"]);
    let log = out(&output);
    assert_reasons(
        &log,
        "BUY sent",
        [", above 80.00 %  [knives]", "example.bid has no price for this item  [knives]"],
    );
    let ordered = log.lines().filter(|line| line.contains("BUY sent") && line.contains("[knives]"));
    assert!(ordered.count() >= 1, "{log}");
    assert!(!log.contains("Desert Eagle | Blaze"), "an entry about knives is not about it: {log}");
}

#[test]
fn a_dry_run_and_its_replay_show_why_each_knife_was_ordered_or_not() {
    let rate = Rate::per_second(400);
    let market = SimServer::start(SimSettings { rate, held_permille: 0, ..SimSettings::default() });
    let market = market.unwrap();
    let workspace = Workspace::new().file("sniper.toml", KNIVES.0).file("p.csv", KNIVES.1);
    let workspace = workspace.at(&market);
    let parts = [" % of buff.bid ", "buff.bid has no price for this item  [*]"];
    let output = workspace.run(&["run", "--for", "5s", "--record", "--explain"]);
    assert_reasons(&out(&output), "WOULD BUY", parts);

    // The replay needs none of the files by which the session decided.
    fs::remove_file(workspace.directory.path().join("p.csv")).unwrap();
    fs::remove_dir_all(workspace.directory.path().join("data/prices")).unwrap();
    let replayed = workspace.run(&["replay"]);
    let text = out(&replayed);
    assert_eq!(replayed.status.code(), Some(0), "{}", err(&replayed));
    assert_reasons(&text, "WOULD BUY", parts);
    assert!(text.contains("Prices: as recorded, buff of 20"), "{text}");
    let object = last_object(&workspace.run(&["replay", "--json"]));
    let matched = object["matched"].as_u64().unwrap();
    assert!(matched > 0 && object["would_buy"].as_u64() <= Some(matched), "{object}");
    assert_eq!(object["prices"]["from"], "recording");
    let orders: Vec<&Value> = object["decisions"].as_array().unwrap().iter().collect();
    let order = orders.iter().find(|line| line["decision"] == "WOULD BUY").unwrap();
    assert!(order["reference"].is_string() && order["percent"].is_string(), "{order}");
    let all = out(&workspace.run(&["replay", "--all"]));
    assert!(all.contains("category is rifle"), "{all}");

    // Without recorded prices, the stored tables are used, of which there are none here.
    let sessions = fs::read_dir(workspace.directory.path().join("data/recordings")).unwrap();
    let session = sessions.last().unwrap().unwrap().path();
    fs::remove_dir_all(session.join("prices")).unwrap();
    let text = out(&workspace.run(&["replay", session.to_str().unwrap()]));
    assert!(
        text.contains("buff has none") && text.contains("buff.bid has no prices yet"),
        "{text}"
    );
    let nowhere = Workspace::new().run(&["replay"]);
    assert!(err(&nowhere).contains("record with `sniper run --record`"), "{}", err(&nowhere));
    assert_eq!(nowhere.status.code(), Some(1), "{}", err(&nowhere));
}

/// Writes a recording by hand: three listings of one knife and one of another.
fn write_recording(directory: &std::path::Path) {
    let folder = directory.join("CSGOROLL");
    fs::create_dir_all(&folder).unwrap();
    let manifest = r#"{"complete":true,"sources":[{"source":"csgoroll","symbol":"CSGOROLL","stream":"listings","file":"CSGOROLL/listings.jsonl"}]}"#;
    fs::write(directory.join("session_manifest.json"), manifest).unwrap();
    let rows = [
        ("a", "★ Ursus Knife", "200.00"),
        ("b", "★ Ursus Knife", "240.00"),
        ("b", "★ Ursus Knife", "240.00"),
        ("c", "★ Ursus Knife", "300.00"),
        ("d", "★ Classic Knife", "100.00"),
        ("e", "★ Navaja Knife", "1.00"),
    ];
    let mut lines = String::new();
    for (number, (id, name, price)) in rows.iter().enumerate() {
        let raw = listing_message(id, name, price);
        let ns = 1_772_352_000_000_000_000_u64 + u64::try_from(number).unwrap() * 1_000_000_000;
        lines += &serde_json::json!({"ns": ns, "conn": 1, "raw": raw}).to_string();
        lines.push('\n');
    }
    fs::write(folder.join("listings.jsonl"), lines).unwrap();
}

/// LIS-SKINS may send several events in one message.
#[test]
fn a_removal_behind_its_listing_in_one_message_prevents_the_order() {
    let entry = "market = \"lis-skins\"\n[budget]\nmax_price = 50\ntotal = 90\n[[whitelist]]\n\
                 item = \"AK-47 | Redline\"\nmax_price = 30\n";
    let workspace = Workspace::new().file("sniper.toml", entry);
    let workspace = workspace.file(".env", "LIS_SKINS_KEY=0123456789abcdef\n");
    let push = |data: Value| {
        let event = serde_json::json!({"channel": "public:obtained-skins", "pub": {"data": data}});
        serde_json::json!({"push": event}).to_string()
    };
    let listing = |id: u32| {
        push(serde_json::json!({
            "id": id, "name": "AK-47 | Redline (Field-Tested)", "price": 27.44, "unlock_at": null,
            "created_at": "2026-03-01T10:00:00.000000Z", "item_float": "0.2143321",
            "item_class_id": "310776560", "item_paint_seed": 231, "item_paint_index": 282,
            "event": "obtained_skin_added",
        }))
    };
    let removal = push(serde_json::json!({"id": 7, "event": "obtained_skin_deleted"}));
    let directory = workspace.directory.path().join("rec");
    let folder = directory.join("LIS");
    fs::create_dir_all(&folder).unwrap();
    let manifest = r#"{"complete":true,"sources":[{"source":"lis-skins","symbol":"LIS","stream":"listings","file":"LIS/listings.jsonl"}]}"#;
    fs::write(directory.join("session_manifest.json"), manifest).unwrap();
    let raw = format!("{}\n{removal}\n{}", listing(7), listing(8));
    let line = serde_json::json!({"ns": 1_772_352_000_000_000_000_u64, "conn": 1, "raw": raw});
    fs::write(folder.join("listings.jsonl"), format!("{line}\n")).unwrap();
    let replayed = workspace.run(&["replay", "rec"]);
    let text = out(&replayed);
    let orders = || text.lines().filter(|line| line.contains("WOULD BUY"));
    assert_eq!(orders().count(), 1, "{text}{}", err(&replayed));
    assert!(text.contains("SKIPPED"), "{text}");
    let checked = out(&workspace.run(&["check", "--json"]));
    assert!(checked.contains("for 0.00 to 30.00, 1 at most"), "a market without markup: {checked}");
}

#[test]
fn names_of_a_price_file_are_known_before_the_first_start() {
    let settings = "[prices]\ncoin_usd = 0.65\n[[prices.source]]\nname = \"mine\"\nkind = \"file\"\npath = \"prices.json\"\nunit = \"usd\"\n\
                    [[whitelist]]\nitem = \"AK-47 | Redlien\"\nmax_price = 5\n";
    let prices = r#"{"AK-47 | Redline (Field-Tested)": 10}"#;
    let workspace = Workspace::new().file("sniper.toml", settings).file("prices.json", prices);
    let output = workspace.run(&["check"]);
    let text = out(&output) + &err(&output);
    let expected = "`AK-47 | Redlien` is not a known item; did you mean `AK-47 | Redline`?";
    assert_eq!((output.status.code(), text.matches(expected).count()), (Some(0), 1), "{text}");
}

/// `check` knows the items of the newest recording of `run --record`.
#[test]
fn names_of_an_own_recording_are_known() {
    let entry = |name, item| {
        format!("[[whitelist]]\nname = \"{name}\"\nitem = \"AK-47 | {item}\"\nmax_price = 5\n")
    };
    // Known names use up no search.
    let known: String = (0..1_000).map(|number| entry(number, "Redline")).collect();
    let workspace = Workspace::new().file("sniper.toml", &(known + &entry(1_000, "Redlien")));
    let checked = |workspace: &Workspace| {
        let output = workspace.run(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output) + &err(&output)
    };
    assert!(!checked(&workspace).contains("is not a known item"));
    let directory = workspace.directory.path().join("data/recordings/session");
    write_recording(&directory);
    let raw = listing_message("n", "AK-47 | Redline (Field-Tested)", "1.00");
    let line = serde_json::json!({"ns": 1_772_352_000_000_000_000_u64, "conn": 1, "raw": raw});
    fs::write(directory.join("CSGOROLL/listings.jsonl"), format!("{line}\n")).unwrap();
    let text = checked(&workspace);
    assert_eq!(text.matches("did you mean `AK-47 | Redline`?").count(), 1, "{text}");
    let stickers = (0..1_000).map(|number| format!("Sticker | Number {number}"));
    let names = stickers.chain(["StatTrak™ AK-47 | Redline (Field-Tested)".to_owned()]);
    let mut lines = String::new();
    for (number, name) in names.enumerate() {
        let raw = listing_message(&format!("n{number}"), &name, "1.00");
        let ns = 1_772_352_000_000_000_000_u64 + u64::try_from(number).unwrap();
        lines += &serde_json::json!({"ns": ns, "conn": 1, "raw": raw}).to_string();
        lines.push('\n');
    }
    fs::write(directory.join("CSGOROLL/listings.jsonl"), lines).unwrap();
    let text = checked(&workspace);
    let expected = "`AK-47 | Redlien` is not a known item; did you mean `AK-47 | Redline`?";
    assert!(text.contains(expected), "{text}");
    // That the recording has no plain one says nothing.
    assert_eq!(text.matches("AK-47 | Redline`").count(), 1, "{text}");
}

/// Settings of one entry, as in the tests of recordings.
const ONE_ENTRY: &str = "[budget]\nmax_price = 500\ntotal = 1000\nmin_balance = 0\n\
                         max_buys_per_minute = 9\n[[whitelist]]\nname = \"knife\"\n\
                         item = \"Ursus Knife\"\nmax_price = 250\n";

/// Runs a command whose standard output has no reader. Returns its exit code and standard error.
fn run_without_reader(workspace: &Workspace, args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = workspace.command(args);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    // The command holds the writing end.
    drop(command);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), err(&output))
}

#[test]
fn the_settings_and_the_whitelist_are_shown_with_a_bot_that_does_not_answer() {
    let workspace = Workspace::new().file("sniper.toml", ONE_ENTRY);
    let folder = workspace.directory.path().join("data/control");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let socket = UnixListener::bind(folder.join("bot.sock")).unwrap();
    let bot = thread::spawn(move || {
        for connection in socket.incoming().take(3) {
            let mut reply = connection.unwrap();
            writeln!(reply, "no answer").unwrap();
            // Until the client has read it.
            reply.read_to_end(&mut Vec::new()).unwrap();
        }
    });
    let shown = out(&workspace.run(&["config", "show"]));
    assert!(shown.starts_with("The running bot may use earlier settings: cannot"), "{shown}");
    let list = out(&workspace.run(&["whitelist", "list"]));
    assert!(list.contains("\nA running bot may use other settings: cannot"), "{list}");
    let list: Value =
        serde_json::from_str(&out(&workspace.run(&["whitelist", "list", "--json"]))).unwrap();
    assert_eq!((&list["settings_changed"], &list["dry_run"]), (&Value::Null, &false.into()));
    bot.join().unwrap();
}

/// As in `sniper check | head -1`.
#[test]
fn a_closed_pipe_is_no_error_of_a_command_that_only_reads() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    let workspace = Workspace::new()
        .file("sniper.toml", ONE_ENTRY)
        .at(&market)
        .variable("CSGOROLL_SESSION", &market.session());
    assert_eq!(workspace.run(&["run", "--live", "--for", "1s"]).status.code(), Some(0));
    write_recording(&workspace.directory.path().join("data/recordings/session"));
    for args in [
        &["check"][..],
        &["check", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["markets"],
        &["whitelist", "list"],
        &["whitelist", "export"],
        &["prices", "status"],
        &["profit"],
        &["status"],
        &["health"],
        &["ledger"],
        &["ledger", "list"],
        &["ledger", "export"],
        &["ledger", "export", "--json"],
        &["ledger", "verify"],
        &["replay"],
        &["replay", "--all"],
        &["replay", "--all", "--json"],
        &["completions", "bash"],
        &["man"],
        &["help"],
    ] {
        let open = workspace.run(args);
        let (code, error) = run_without_reader(&workspace, args);
        assert_eq!(code, open.status.code(), "{args:?}: {error}");
        assert!(!error.contains("cannot ") && !error.contains("panic"), "{args:?}: {error}");
    }
}

/// The result of `--json` is the last line of standard output, and would be lost.
#[test]
fn with_json_a_run_ends_if_standard_output_has_no_reader() {
    let workspace = Workspace::new();
    let (code, error) = run_without_reader(&workspace, &["demo", "--for", "1h", "--json"]);
    assert_eq!(code, Some(74), "{error}");
    assert!(error.contains("the log output was closed"), "{error}");
}

/// Without prices of the item nothing corrects it, so that the user has to.
#[test]
fn an_item_in_another_case_is_named() {
    let entry = "[[whitelist]]\nitem = \"ak-47 | REDLINE\"\nmax_price = 5\n";
    let workspace = Workspace::new().file("sniper.toml", entry);
    let text = |args: &[&str]| {
        let output = workspace.run(args);
        out(&output) + &err(&output)
    };
    let expected = "`ak-47 | REDLINE` matches no listing: names begin with a capital letter";
    assert!(text(&["check"]).contains(expected), "{}", text(&["check"]));
    assert!(text(&["run", "--for", "1ms"]).contains(expected));
    let directory = workspace.directory.path().join("data/recordings/session");
    write_recording(&directory);
    let raw = listing_message("n", "AK-47 | Redline (Field-Tested)", "1.00");
    let line = serde_json::json!({"ns": 1_772_352_000_000_000_000_u64, "conn": 1, "raw": raw});
    fs::write(directory.join("CSGOROLL/listings.jsonl"), format!("{line}\n")).unwrap();
    let expected = "`ak-47 | REDLINE` matches no listing: the market writes `AK-47 | Redline`";
    assert!(text(&["check"]).contains(expected), "{}", text(&["check"]));
    // A stored price corrects it for every command, also if it is the only one.
    let prices = "[prices]\ncoin_usd = 1\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\n\
                  path = \"prices.csv\"\nunit = \"usd\"\n";
    let csv = "name,ask\nAK-47 | Redline (Field-Tested),1\n";
    let workspace = Workspace::new().file("sniper.toml", &format!("{prices}{entry}"));
    fs::write(workspace.directory.path().join("prices.csv"), csv).unwrap();
    assert_eq!(workspace.run(&["prices", "update"]).status.code(), Some(0));
    let exported = out(&workspace.run(&["whitelist", "export"]));
    assert!(exported.contains("AK-47 | Redline"), "{exported}");
    let checked = out(&workspace.run(&["check"]));
    assert!(!checked.contains("matches no listing"), "{checked}");
}

/// A listing as the market sends it.
fn listing_message(id: &str, name: &str, price: &str) -> String {
    let price: Value = serde_json::from_str(price).unwrap();
    let trade = serde_json::json!({
        "id": id, "createdAt": "2026-03-01T08:00:00.000Z", "status": "LISTED", "canJoin": true,
        "canJoinAfter": null, "suspectedTraderCanJoinAfter": null,
        "expiresAt": "2026-03-03T08:00:00.000Z", "markupPercent": 0, "totalValue": price,
        "depositor": null,
        "tradeItems": [{"id": "i", "value": price, "marketName": name, "markupPercent": 0,
            "itemVariant": {"id": "v", "externalId": name, "brand": name, "name": name,
                "color": null, "rarity": "covert", "value": price}}],
    });
    let payload = serde_json::json!({"data": {"createTrade": {"trade": trade}}});
    serde_json::json!({"id": "1", "type": "next", "payload": payload}).to_string()
}

#[test]
fn suggestions_are_those_of_the_recording_and_can_be_imported() {
    let workspace = Workspace::new()
        .file("sniper.toml", &KNIVES.0.replace("coin_usd = 0.65", "coin_usd = 0.5"))
        .file("p.csv", "name,bid\n★ Ursus Knife,150\n★ Classic Knife,60\n");
    let recording = workspace.directory.path().join("rec");
    write_recording(&recording);
    assert_eq!(workspace.run(&["prices", "update"]).status.code(), Some(0));
    let words = ["whitelist", "suggest", "--percent", "85", "--budget", "500"];
    let with = |more: &[&str]| workspace.run(&[&words[..], &["--recording", "rec"], more].concat());
    let output = with(&["--write", "items.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    let (described, table) = text.split_once("Listed at").expect(&text);
    assert!(described.contains("so their age is not checked"), "{text}");
    let expected = concat!(
        " or below 85.00 % of buff.bid or ask:\n",
        " matches       of      price  percent   margin  number     profit  item\n",
        "       2        3     200.00    66.67    50.00       2     200.00  ★ Ursus Knife\n",
        "       1        1     100.00    83.34    20.00       1      20.00  ★ Classic Knife\n",
        "500.00 of 500.00 coins, expected profit 220.00\n",
        "Written to items.csv; see `sniper whitelist import items.csv`\n",
    );
    assert_eq!(table, expected);
    let csv = fs::read_to_string(workspace.directory.path().join("items.csv")).unwrap();
    let expected = concat!(
        "name,percent,price,quantity,max_total,reference\n",
        "\"★ Ursus Knife\",85.00,240.00,2,400.00,\n",
        "\"★ Classic Knife\",85.00,100.00,1,100.00,\n",
    );
    assert_eq!(csv, expected);
    let imported = workspace.run(&["whitelist", "import", "items.csv", "--write", "w.json"]);
    assert!(
        out(&imported).contains("2 entries written to w.json; it is used once"),
        "{}",
        out(&imported)
    );
    let written = workspace.directory.path().join("w.json");
    assert!(fs::read_to_string(&written).unwrap().contains("\"max_total\":400"));
    let mode = || fs::metadata(&written).unwrap().permissions().mode() & 0o777;
    // A new file has the mode that the umask gives, and an existing one keeps its own.
    for kept in [mode(), 0o640, 0o600] {
        fs::set_permissions(&written, fs::Permissions::from_mode(kept)).unwrap();
        let again = ["whitelist", "import", "items.csv", "--write", "w.json"];
        assert_eq!(workspace.run(&again).status.code(), Some(0));
        assert_eq!(mode(), kept);
    }
    let first = out(&with(&["--json", "--reference", "buff.bid"]));
    let object: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(object["suggestions"][1]["percent"], "83.34");
    assert_eq!((&object["spent"], &object["profit"]), (&"500.00".into(), &"220.00".into()));
    assert_eq!(out(&with(&["--json", "--reference", "buff.bid"])), first);
    // Without an ask where the items are sold, only the margin is unknown.
    let sold = KNIVES.0.replace("coin_usd = 0.65", "coin_usd = 0.5\nsell_on = \"buff\"");
    fs::write(workspace.directory.path().join("sniper.toml"), sold).unwrap();
    let text = out(&with(&[]));
    let row = "       2        3     200.00    66.67        -       0       0.00  ★ Ursus Knife\n";
    assert!(text.contains(row), "{text}");
    let object: Value = serde_json::from_str(&out(&with(&["--json"]))).unwrap();
    assert_eq!(object["suggestions"][0]["margin_percent"], Value::Null);
    let wrong = with(&["--reference", "buf.bid"]);
    assert!(err(&wrong).contains("write .bid or .ask behind one of: buff"), "{}", err(&wrong));
    let none = workspace.run(&["whitelist", "suggest", "--percent", "0", "--budget", "1"]);
    assert_eq!(none.status.code(), Some(2));
}

/// The prices are 450 and 120 dollars, at half a dollar a coin.
#[test]
fn suggestions_can_use_a_file_with_other_prices_in_another_unit() {
    let workspace = Workspace::new()
        .file("sniper.toml", &KNIVES.0.replace("coin_usd = 0.65", "coin_usd = 0.5"))
        .file("q.csv", "name,bid\n★ Ursus Knife,45000\n★ Classic Knife,12000\n");
    write_recording(&workspace.directory.path().join("rec"));
    let words = ["whitelist", "suggest", "--percent", "85", "--budget", "500"];
    let file = ["--recording", "rec", "--prices", "q.csv", "--unit", "cents"];
    let suggested = workspace.run(&[&words[..], &file].concat());
    let text = out(&suggested);
    assert!(text.contains("\nPrices: taken from q.csv, file of 20"), "{text}{}", err(&suggested));
    assert!(text.contains("\nListed at or below 85.00 % of file.bid or ask:\n"), "{text}");
    assert!(text.contains("       3        3     240.00    26.67   275.00 "), "{text}");
    // Entries with the file as reference need it as a source.
    let written = out(&workspace.run(&[&words[..], &file, &["--write", "found.csv"]].concat()));
    assert!(written.contains("this source as the first one in the settings"), "{written}");
    assert!(written.ends_with("/q.csv\"\nunit = \"cents\"\n"), "{written}");
    // Without a source in the settings, and with the prices in coins.
    let other = Workspace::new()
        .file("sniper.toml", "[[whitelist]]\nitem = \"Glove Case\"\nmax_price = 5\n")
        .file("q.json", r#"{"★ Ursus Knife": {"ask": 900, "bid": 400}}"#);
    write_recording(&other.directory.path().join("rec"));
    let file = ["--recording", "rec", "--prices", "q.json", "--unit", "coins"];
    let text = out(&other.run(&[&words[..], &file, &["--reference", "file.bid"]].concat()));
    assert!(text.contains("       3        3     240.00    60.00    66.66 "), "{text}");
    let wrong = other.file("q.json", "<html>");
    let failed = wrong.run(&[&words[..], &file].concat());
    assert!(err(&failed).contains("it is no price table: it is a web page"), "{}", err(&failed));
}

#[test]
fn a_listing_that_a_limit_skips_is_shown_with_its_share_of_the_reference() {
    let rate = Rate::per_second(400);
    let market = SimServer::start(SimSettings { rate, ..SimSettings::default() }).unwrap();
    let settings = KNIVES.0.replace("total = 10000000", "total = 1");
    let workspace =
        Workspace::new().file("sniper.toml", &settings).file("p.csv", KNIVES.1).at(&market);
    let text = out(&workspace.run(&["run", "--for", "4s"]));
    let skipped = text.lines().find(|line| line.contains("SKIPPED")).expect(&text);
    assert!(skipped.contains(" % of reference "), "{skipped}");
}

/// By default each reason has one line per minute.
#[test]
fn without_explain_each_reason_has_one_line() {
    let rate = Rate::per_second(400);
    let market = SimServer::start(SimSettings { rate, ..SimSettings::default() }).unwrap();
    let workspace =
        Workspace::new().file("sniper.toml", KNIVES.0).file("p.csv", KNIVES.1).at(&market);
    let path = workspace.directory.path().join("log");
    let mut command = workspace.command(&["run"]);
    let mut running = Running(command.stdout(File::create(&path).unwrap()).spawn().unwrap());
    let reasons = [" % of buff.bid ", "buff.bid has no price for this item"];
    let log = || fs::read_to_string(&path).unwrap();
    let listed = || market.with_history(|history| history.listings().count());
    let has = |log: &str, reason| {
        log.lines().any(|line| line.contains("NO MATCH") && line.contains(reason))
    };
    while !reasons.iter().all(|reason| has(&log(), reason)) {
        thread::sleep(POLL_INTERVAL);
    }
    // Each reason occurs again among these.
    let enough = listed() + 1_600;
    while listed() < enough {
        thread::sleep(POLL_INTERVAL);
    }
    running.signal("-TERM");
    assert_eq!(running.ended(), Some(0));
    let log = log();
    assert!(log.contains("--explain logs all"), "{log}");
    for part in reasons {
        let lines = log.lines().filter(|line| line.contains("NO MATCH") && line.contains(part));
        assert_eq!(lines.count(), 1, "{part}: {log}");
    }
}

/// The price commands show the table of a local file, and an item of it.
#[test]
fn the_price_commands_read_and_show_a_local_file() {
    let workspace = Workspace::new();
    let source = "[prices]\ncoin_usd = 0.5\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\npath = \"p.csv\"\nunit = \"usd\"\n";
    let entry = "[[whitelist]]\nitem = \"Fracture Case\"\nmax_price = 5\nmax_percent = 80\n";
    fs::write(workspace.directory.path().join("sniper.toml"), format!("{source}{entry}")).unwrap();
    let prices = |text| fs::write(workspace.directory.path().join("p.csv"), text).unwrap();
    let run = |words: &[&str]| {
        let output = workspace.run(&[&["prices"], words].concat());
        (output.status.code(), out(&output))
    };
    assert_eq!(
        run(&["status"]),
        (Some(1), "own: no prices yet; run `sniper prices update`\n".to_owned())
    );
    let (_, text) = run(&["diff"]);
    assert_eq!(text, "own: no prices yet; run `sniper prices update`\n");
    prices("name,ask,bid,count\nFracture Case,0.60,0.50,9\nx,1,,\n");
    let (code, text) = run(&["update"]);
    assert!(code == Some(0) && text.starts_with("own: updated, 2 items, "), "{text}");
    assert_eq!(run(&["diff"]).1, "own: nothing to compare: only one table is stored\n");
    for subcommand in ["update", "diff"] {
        let (code, text) = run(&[subcommand, "other", "--json"]);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &object["sources"][0]["name"]), (Some(1), &"other".into()), "{text}");
        assert_eq!(object["sources"][0]["error"], "no such source; the settings have own");
    }
    let (code, text) = run(&["status"]);
    assert!(code == Some(0) && text.starts_with("own: file, 2 items, "), "{text}");
    let (code, text) = run(&["show", "Fracture Case"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("own.bid") && text.contains("0.50 USD = 1.00 coins, 9 offers"), "{text}");
    let (code, text) = run(&["show", "Fractur Case"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("did you mean Fracture Case?"), "{text}");
    prices("name,ask,bid,count\nFracture Case,60,50,9\nx,100,,\n");
    let (code, text) = run(&["update"]);
    assert!(code == Some(1) && text.contains("table rejected"), "{text}");
    let (_, text) = run(&["diff"]);
    assert!(text.contains("Fracture Case ask: 0.60 to 60.00"), "{text}");
    assert_eq!(run(&["update", "own", "--accept"]).0, Some(0));
    let (_, text) = run(&["diff", "own"]);
    assert!(text.starts_with("own: last good table, 2 items, was 2; 3 prices differ"), "{text}");
    let checked = workspace.run(&["check"]);
    assert!(out(&checked).contains("80.00 % of own.bid or ask"), "{}", out(&checked));
}

/// Without the value of a coin, prices in dollars are shown, but nothing is computed from them.
#[test]
fn prices_in_dollars_have_no_value_in_coins_without_coin_usd() {
    let workspace = Workspace::new().file("p.csv", "name,ask\nFracture Case,0.60\n").file(
        "sniper.toml",
        "[prices]\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\npath = \"p.csv\"\n\
             unit = \"usd\"\n[[whitelist]]\nitem = \"Fracture Case\"\nmax_price = 5\n",
    );
    assert_eq!(workspace.run(&["prices", "update"]).status.code(), Some(0));
    let shown = out(&workspace.run(&["prices", "show", "Fracture Case"]));
    assert!(shown.contains("0.60 USD = unknown coins without `coin_usd`"), "{shown}");
    let remedy = "the prices of own are in USD; add below [prices]";
    let profit = workspace.run(&["profit"]);
    assert_eq!(profit.status.code(), Some(1));
    assert!(out(&profit).contains(remedy), "{}", out(&profit));
    let suggest = ["whitelist", "suggest", "--percent", "85", "--budget", "5"];
    let suggested = workspace.run(&suggest);
    assert!(err(&suggested).contains(remedy), "{}", err(&suggested));
}

/// An import changes nothing without `--write`, and what it writes is a whitelist.
#[test]
fn an_imported_whitelist_can_be_exported_and_read_again() {
    let workspace = Workspace::new();
    let path = |name: &str| workspace.directory.path().join(name);
    let entry = "[[whitelist]]\nname = \"x\"\nitem = \"Glove Case\"\nmax_price = 5\n";
    fs::write(path("sniper.toml"), format!("whitelist_file = \"w.json\"\n{entry}")).unwrap();
    fs::write(path("w.json"), "[]").unwrap();
    let csv = "name,price,wear,quantity\nAK-47 | Redline,12.50,FT,3\nFracture Case,0.45,,100\nFracture Case,0.5,,\n";
    fs::write(path("items.csv"), csv).unwrap();
    let run = |words: &[&str]| {
        let output = workspace.run(&[&["whitelist"], words].concat());
        (output.status.code(), out(&output))
    };
    let (code, text) = run(&["import", "items.csv"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 new\n") && text.contains("Nothing was written"), "{text}");
    assert!(text.contains("1 repeated in the file, left out\n  Fracture Case"), "{text}");
    assert_eq!(fs::read_to_string(path("w.json")).unwrap(), "[]");
    assert_eq!(run(&["import", "items.csv", "--write", "w.json"]).0, Some(0));
    let (code, text) = run(&["import", "items.csv", "--write", "w.json"]);
    assert!(code == Some(0) && text.contains("2 unchanged"), "{text}");
    let (code, exported) = run(&["export"]);
    assert_eq!(code, Some(0));
    fs::write(path("w.json"), &exported).unwrap();
    fs::write(path("sniper.toml"), "whitelist_file = \"w.json\"\n").unwrap();
    assert_eq!(run(&["export"]), (Some(0), exported));
    fs::write(path("items.csv"), "name,price\nAK-47 | Redline (FT),1\n").unwrap();
    let (code, text) = run(&["import", "items.csv", "--write", "w.json"]);
    assert!(code == Some(1) && text.contains("did you mean `(Field-Tested)`?"), "{text}");
}

#[test]
fn an_export_that_is_imported_into_an_empty_file_gives_the_same_entries() {
    let settings = r#"
[prices]
coin_usd = 0.65
[[prices.source]]
name = "own"
kind = "file"
path = "p.csv"
unit = "usd"
[groups.knives]
max_total = 900
[[whitelist]]
name = "good knives"
item = "*"
category = "knife"
exclude = ["* | Night", "Gut Knife*"]
rarity = ["covert"]
max_percent = 80
reference = ["own.bid", "own.ask"]
reference_rule = "first"
min_count = 3
min_reference = 20
min_price = 10.50
max_price = 50
max_quantity = 2
group = "knives"
[[whitelist]]
item = "AK-47 | Redline"
stattrak = true
wear = ["FT", "MW"]
float_max = 0.069999999999999999
max_price = 12.50
max_markup_percent = 2.5
max_age_s = 60
max_total = 30
"#;
    let workspace = Workspace::new().file("sniper.toml", settings);
    let exported = out(&workspace.run(&["whitelist", "export"]));
    assert!(exported.contains("\"category\""), "{exported}");
    assert!(exported.contains("\"float_max\":0.069999999999999999,"), "{exported}");
    fs::write(workspace.directory.path().join("a.json"), &exported).unwrap();
    let imported = workspace.run(&["whitelist", "import", "a.json", "--write", "b.json"]);
    assert!(out(&imported).contains("2 entries written"), "{}{}", out(&imported), err(&imported));
    assert_eq!(fs::read_to_string(workspace.directory.path().join("b.json")).unwrap(), exported);
}

/// Rows about an entry of the settings are compared with it, and each import is checked as the
/// settings will be.
#[test]
fn an_import_is_compared_with_the_whitelist_and_checked_with_the_settings() {
    let entry = "[[whitelist]]\nname = \"case\"\nitem = \"Glove Case\"\nmax_price = 5\n";
    let workspace = Workspace::new().file("sniper.toml", entry);
    let import = |csv: &str, more: &[&str]| {
        fs::write(workspace.directory.path().join("items.csv"), csv).unwrap();
        let output = workspace.run(&[&["whitelist", "import", "items.csv"], more].concat());
        (output.status.code(), out(&output))
    };
    let (code, text) = import("name,price\nGlove Case,5\nFracture Case,1\n", &[]);
    assert!(code == Some(0) && text.contains("2 new\n  Glove Case\n  Fracture Case\n"), "{text}");
    assert!(text.contains("to use the row alone\n  Glove Case\n0 unchanged\n"), "{text}");
    let (code, text) = import("name,price,quantity,note\nGlove Case,50,2,x\n", &[]);
    let changed = "  Glove Case: max_price 5 -> 50, max_quantity 1 -> 2\n";
    assert!(code == Some(0) && text.contains(changed), "{text}");
    assert!(text.contains("Ignored columns: note\n"), "{text}");
    let write = ["--write", "w.json"];
    let percent = "name,price,percent\nFracture Case,1,80\n";
    let (code, text) = import(percent, &write);
    assert!(code == Some(1) && text.contains("`max_percent` needs a price source"), "{text}");
    assert!(!workspace.directory.path().join("w.json").exists());
    let (code, text) = import("name,price\nFracture Case,60\n", &write);
    let warning = "Warning: w.json:2:3: `max_price` 60.00 is above the 50.00 of [budget]";
    assert!(code == Some(0) && text.contains(warning), "{text}");
    // A new file replaces the entries of the settings, also those without a name.
    let unnamed = entry.replace("name = \"case\"\n", "");
    fs::write(workspace.directory.path().join("sniper.toml"), unnamed).unwrap();
    let (code, text) = import("name,price\nGlove Case,5\n", &["--write", "new.json"]);
    assert!(code == Some(0) && text.contains("1 entry written to new.json"), "{text}");
    let missing = err(&workspace.run(&["whitelist", "import", "missing.csv"]));
    assert!(missing.contains("missing.csv: No such file"), "{missing}");
}

#[test]
fn a_command_that_cannot_use_its_input_names_the_mistake_and_fails() {
    let workspace = Workspace::new()
        .file("sniper.toml", ONE_ENTRY)
        .file("b.csv", "name,price\nGlove Case,5\n")
        .file("coins.csv", "name,price\nGlove Case,12 coins\n")
        .file("list.json", r#"[{"name": "Glove Case", "price": [5]}]"#)
        .file("broken.json", "[");
    let import = |more: &'static [&str]| [&["whitelist", "import"], more].concat();
    let number = "`max_price` must be a number";
    for (args, code, text) in [
        (import(&["b.csv", "--max-price", "abc"]), 2, "must be a number, such as 50"),
        (import(&["b.csv", "--max-price", "88%"]), 2, "must be a number, such as 50"),
        (import(&["list.json"]), 1, &*format!("list.json: row 1: {number}, not a list")),
        (import(&["coins.csv"]), 1, &format!("cannot import coins.csv: row 1: {number}: 12\n")),
        (import(&["broken.json"]), 1, "broken.json: it is neither CSV with a header nor"),
        (import(&["b.csv", "--write", "broken.json"]), 1, "cannot import broken.json: EOF"),
        (import(&["absent.csv"]), 1, "cannot import absent.csv: No such file"),
        (vec!["replay"], 1, "cannot read the recording: "),
        (vec!["replay", "absent"], 1, "cannot read the recording: "),
        (
            vec!["dashboard"],
            1,
            "error: no bot is running here; start one with: sniper run --dashboard\n",
        ),
    ] {
        let output = workspace.run(&args);
        assert!(err(&output).contains(text), "{args:?}: {}", err(&output));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", err(&output));
    }
}

/// Returns everything that a run writes: its output and its files except `.env`.
fn all_output(workspace: &Workspace, args: &[&str]) -> String {
    let output = workspace.run(args);
    let mut seen = out(&output) + &err(&output);
    let mut folders = vec![workspace.directory.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(".env") {
                seen += &String::from_utf8_lossy(&fs::read(&path).unwrap());
            }
        }
    }
    seen
}

#[test]
fn a_credential_appears_in_no_output() {
    let policy = include_str!("../../sniper.example.toml");
    let session = format!("CSGOROLL_SESSION={PLANTED}\n");
    let cookie = format!("CSGOROLL_COOKIE='cf_clearance={PLANTED}; session={PLANTED}'\n");
    let broken = format!("CSGOROLL_SESSION={PLANTED} {PLANTED}\n{PLANTED}\n");
    for dotenv in [&session, &cookie, &broken] {
        let workspace = Workspace::new()
            .file(".env", dotenv)
            .file("sniper.toml", policy)
            .variable("RUST_LOG", "trace")
            .with_closing_market();
        for args in [
            ["check", "--json"].as_slice(),
            &["check", "--live"],
            &["run", "--for", "400ms"],
            &["run", "--live", "--for", "400ms", "--json"],
        ] {
            let seen = all_output(&workspace, args);
            assert!(!seen.is_empty());
            assert!(!seen.contains("planted"), "{args:?}: {seen}");
        }
    }
}

#[test]
fn a_check_opens_no_connection_and_writes_no_file() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let workspace = Workspace::new()
        .file("sniper.toml", include_str!("../../sniper.example.toml"))
        .variable("CSGOROLL_SESSION", PLANTED)
        .variable("CSGOROLL_WS_URL", &format!("ws://{address}/ws"))
        .variable("CSGOROLL_HTTP_URL", &format!("http://{address}/graphql"));
    assert_eq!(workspace.run(&["check", "--live"]).status.code(), Some(0));
    assert!(listener.accept().is_err(), "a connection was opened");
    let files: Vec<_> = fs::read_dir(workspace.directory.path()).unwrap().collect();
    assert_eq!(files.len(), 1);
}

#[test]
fn a_watched_status_repeats_until_its_reader_goes() {
    let workspace = Workspace::new();
    let mut running = workspace.start(&["status", "--watch", "500ms"]);
    let twice = {
        let first = running.read_until("No bot is running");
        format!("{first}{}", running.read_until("No bot is running"))
    };
    assert_eq!(twice.matches("No bot is running").count(), 2, "{twice}");
    drop(running.0.stdout.take());
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn the_color_option_decides_about_a_pipe() {
    let workspace = Workspace::new().with_closing_market();
    let colored = |args: &[&str]| {
        out(&workspace.run(&[&["--for", "100ms"], args].concat())).contains("\u{1b}[")
    };
    assert!(colored(&["--color", "always"]));
    assert!(!colored(&["--color", "never"]) && !colored(&[]));
}

/// Waits until a status request of this workspace is answered by as many bots.
fn until_bots_answer(workspace: &Workspace, live: bool, dry: bool) {
    until(|| {
        let status = last_object(&workspace.run(&["status", "--json"]));
        let mode = status.get("mode").and_then(|mode| mode.as_str());
        let has_dry = status.get("dry").is_some_and(Value::is_object);
        (mode == Some("live")) == live && (has_dry || mode == Some("dry") && !live) == dry
    });
}

#[test]
fn the_address_of_a_page_is_that_of_the_bot_that_runs_now() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    let with_page = format!("{ONE_ENTRY}[dashboard]\nlisten = \"127.0.0.1:0\"\n");
    let workspace = Workspace::new()
        .file("sniper.toml", &with_page)
        .at(&market)
        .variable("CSGOROLL_SESSION", &market.session());
    let mut killed = workspace.start(&["run"]);
    killed.read_until("Dashboard: http://127.0.0.1:");
    killed.signal("-KILL");
    assert_eq!(killed.ended(), None);
    let workspace = workspace.file("sniper.toml", ONE_ENTRY);
    let dry = workspace.start(&["run"]);
    until_bots_answer(&workspace, false, true);
    let printed = workspace.run(&["dashboard"]);
    assert!(err(&printed).contains("the running bot has no dashboard"), "{}", out(&printed));
    let workspace = workspace.file("sniper.toml", &with_page);
    let live = workspace.start(&["run", "--live"]);
    until_bots_answer(&workspace, true, true);
    until(|| workspace.run(&["dashboard"]).status.success());
    dry.signal("-TERM");
    until_bots_answer(&workspace, true, false);
    assert!(workspace.run(&["dashboard"]).status.success(), "the other one's address is kept");
    drop(live);
}

#[test]
fn a_second_dry_run_does_not_change_the_address_of_the_first_one_s_page() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    let with_page = format!("{ONE_ENTRY}[dashboard]\nlisten = \"127.0.0.1:0\"\n");
    let workspace = Workspace::new().file("sniper.toml", &with_page).at(&market);
    let address = || last_object(&workspace.run(&["dashboard", "--json"]))["address"].clone();
    let first = workspace.start(&["run"]);
    until(|| workspace.run(&["dashboard"]).status.success());
    let of_first = address();
    let mut second = workspace.start(&["run"]);
    second.read_until("Dashboard: http://127.0.0.1:");
    assert_eq!(address(), of_first, "while the second one runs");
    second.signal("-TERM");
    assert_eq!(second.ended(), Some(0));
    assert_eq!(address(), of_first, "after its end");
    drop(first);
}

#[test]
fn a_pause_and_a_reload_reach_each_bot_although_one_rejects_them() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    let workspace = Workspace::new()
        .file("sniper.toml", ONE_ENTRY)
        .at(&market)
        .variable("CSGOROLL_SESSION", &market.session());
    let dry = workspace.start(&["run"]);
    until_bots_answer(&workspace, false, true);
    let more = "[[whitelist]]\nname = \"gloves\"\nitem = \"Sport Gloves\"\nmax_price = 9\n";
    let workspace = workspace.file("sniper.toml", &format!("{ONE_ENTRY}{more}"));
    let live = workspace.start(&["run", "--live"]);
    until_bots_answer(&workspace, true, true);
    let states = |workspace: &Workspace| {
        let list = last_object(&workspace.run(&["whitelist", "list", "--json"]));
        list["entries"].as_array().unwrap().iter().map(|it| it["state"].clone()).collect::<Vec<_>>()
    };

    let paused = workspace.run(&["whitelist", "pause", "gloves"]);
    let expected = "Entry paused until it is enabled, also after a restart.\n\
                    The dry run stays as it was: no whitelist entry is named \"gloves\"\n";
    assert_eq!((out(&paused).as_str(), paused.status.code()), (expected, Some(0)));
    until(|| states(&workspace) == ["on", "paused"]);
    let unknown = workspace.run(&["whitelist", "pause", "boots"]);
    assert_eq!(unknown.status.code(), Some(1));
    for bot in ["live bot", "dry run"] {
        let line = format!("{bot}: no whitelist entry is named \"boots\"");
        assert!(err(&unknown).contains(&line), "{}", err(&unknown));
    }

    // A live bot needs limits.
    let workspace = workspace.file("sniper.toml", more);
    let reloaded = workspace.run(&["reload"]);
    assert_eq!(reloaded.status.code(), Some(1));
    assert!(out(&reloaded).contains("Settings of the dry run reloaded."), "{}", out(&reloaded));
    assert!(err(&reloaded).contains("live bot: "), "{}", err(&reloaded));
    let only_dry = workspace.run(&["whitelist", "enable", "gloves"]);
    assert_eq!(only_dry.status.code(), Some(0), "{}", err(&only_dry));

    // The list shows the pauses of the bot that runs.
    live.signal("-TERM");
    until_bots_answer(&workspace, false, true);
    let paused = workspace.run(&["whitelist", "pause", "gloves"]);
    assert!(out(&paused).ends_with("this applies to the dry run.\n"), "{}", out(&paused));
    until(|| states(&workspace) == ["paused"]);
    dry.signal("-TERM");
    until_bots_answer(&workspace, false, false);
    assert_eq!(states(&workspace), ["on"], "in the next live run");
}

#[test]
fn a_watched_status_goes_on_after_a_request_that_is_not_answered() {
    let workspace = Workspace::new();
    let folder = workspace.directory.path().join("data/control");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let socket = UnixListener::bind(folder.join("bot.sock")).unwrap();
    let mut running = workspace.start(&["status", "--watch", "500ms"]);
    let mut reply = socket.accept().unwrap().0;
    writeln!(reply, "no answer").unwrap();
    // Until the client has read it.
    reply.read_to_end(&mut Vec::new()).unwrap();
    drop(socket);
    running.read_until("No bot is running");
    running.signal("-KILL");
    let error = running.rest_of_stderr();
    assert!(error.contains("cannot reach the running bot"), "{error}");
}
