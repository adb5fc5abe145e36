//! The program itself, as a person starts it: its words, its exit codes, and what it never says.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sniper::sim::{Rate, SimServer, SimSettings};
use tempfile::TempDir;

/// A secret that must not be seen anywhere.
const PLANTED: &str = "s%3Aplanted-7d21aa";

/// How long anything here may take at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often the end of the program is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A directory to start the program in, and what is in its environment.
struct Desk {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Desk {
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

    /// A market on this machine that hangs up on whoever comes.
    fn with_rude_market(self) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the process of the test.
        thread::spawn(move || listener.incoming().for_each(drop));
        self.variable("CSGOROLL_WS_URL", &format!("ws://{address}/ws"))
            .variable("CSGOROLL_HTTP_URL", &format!("http://{address}/graphql"))
    }

    /// A practice market on this machine.
    fn at(self, market: &SimServer) -> Self {
        self.variable("CSGOROLL_WS_URL", &market.ws_url())
            .variable("CSGOROLL_HTTP_URL", &market.http_url())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command
            .args(words)
            .current_dir(self.directory.path())
            .env_clear()
            // Without it, Windows has no sockets.
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

/// A program that runs, and is ended if a test forgets to.
struct Running(Child);

impl Running {
    /// Reads its output until a line holds this text.
    fn read_until(&mut self, text: &str) -> String {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut seen = String::new();
        while !seen.contains(text) {
            let read = out.read_line(&mut seen).unwrap();
            assert!(read > 0, "it ended without saying {text:?}: {seen}");
        }
        self.0.stdout = Some(out.into_inner());
        seen
    }

    /// Waits for its end and returns its exit code.
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(LOOK_EVERY);
        }
        None
    }

    #[cfg(unix)]
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
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until something is so.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::sleep(LOOK_EVERY);
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
fn wrong_settings_exit_with_78_and_wrong_words_with_2() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["check"]).status.code(), Some(0));
    assert_eq!(desk.run(&["check", "--live"]).status.code(), Some(78));
    assert_eq!(desk.run(&["--live"]).status.code(), Some(78));
    assert_eq!(desk.run(&["run", "--config", "none.toml"]).status.code(), Some(78));
    assert_eq!(desk.run(&["--for", "3"]).status.code(), Some(2));
    assert_eq!(desk.run(&["nonsense"]).status.code(), Some(2));
    let desk = desk.file("sniper.toml", "[budget]\n");
    let output = desk.run(&["--for", "1ms"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).starts_with("sniper.toml: the whitelist is empty"), "{}", err(&output));
    let desk = Desk::new().variable("RUST_LOG", "sniper=loud");
    assert_eq!(desk.run(&["--for", "1ms"]).status.code(), Some(78));
}

#[test]
fn wrong_settings_are_an_object_too() {
    let output = Desk::new().run(&["--live", "--json"]);
    let object = last_object(&output);
    assert_eq!((&object["ok"], &object["bought"]), (&false.into(), &0.into()));
    assert_eq!(object["problems"].as_array().map(Vec::len), Some(2));
    assert!(err(&output).contains("command line: live mode needs a credential"));
}

#[test]
fn after_the_time_asked_for_it_says_what_came_of_it() {
    let desk = Desk::new().with_rude_market();
    let output = desk.run(&["--for", "300ms"]);
    assert_eq!(output.status.code(), Some(0));
    let said = out(&output);
    for expected in ["Mode: DRY RUN", "To begin: copy sniper.example.toml", "Reconnecting in"] {
        assert!(said.contains(expected), "expected: {expected}\nsaid: {said}");
    }
    assert!(said.contains("The session lasted 0.3 s and ended: the 300ms of --for are over."));
    let output = desk.run(&["run", "--for", "300ms", "--json"]);
    assert_eq!(last_object(&output)["mode"], "dry");
    assert!(err(&output).contains("Mode: DRY RUN"), "{}", err(&output));
    assert_eq!(out(&output).lines().count(), 1);
}

#[cfg(unix)]
#[test]
fn without_any_settings_it_shows_every_listing_and_says_how_to_begin() {
    let market =
        SimServer::start(SimSettings { rate: Rate::per_second(50), ..SimSettings::default() });
    let market = market.unwrap();
    let desk = Desk::new()
        .variable("CSGOROLL_WS_URL", &market.ws_url())
        .variable("CSGOROLL_HTTP_URL", &market.http_url());
    let mut running = desk.start(&[]);
    let said = running.read_until("INFO [trade] id=");
    for expected in ["Mode: DRY RUN", "To begin: copy sniper.example.toml", "INFO Connected"] {
        assert!(said.contains(expected), "expected: {expected}\nsaid: {said}");
    }
    assert_eq!(market.books().requests().count(), 0);
}

#[test]
fn a_feed_that_was_given_up_is_told_by_its_exit_code_after_the_summary() {
    let desk = Desk::new().with_rude_market().file(
        "sniper.toml",
        concat!(
            "[reconnection]\ninitial_delay_ms = 250\nmax_retries = 1\n",
            "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 1\n"
        ),
    );
    let output = desk.run(&["run", "--json"]);
    assert_eq!(output.status.code(), Some(69), "{}", err(&output));
    let ended = last_object(&output)["ended"].as_str().unwrap().to_owned();
    assert!(ended.contains("given up"), "{ended}");
}

#[test]
fn a_signal_ends_it_with_a_summary_and_0() {
    let signals =
        [("-TERM", "told to terminate"), ("-INT", "Ctrl-C"), ("-HUP", "the terminal was closed")];
    for (signal, why) in signals {
        let mut running = Desk::new().with_rude_market().start(&["run"]);
        running.read_until("Reconnecting in");
        running.signal(signal);
        assert_eq!(running.ended(), Some(0), "{signal}");
        let rest = running.rest();
        assert!(rest.contains(&format!("and ended: {why}.")), "{signal}: {rest}");
    }
}

/// Who starts it with `nohup` wants it to go on when the terminal is closed.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_was_ignored_from_the_start_stays_ignored() {
    let desk = Desk::new().with_rude_market();
    let sniper = desk.command(&["run"]);
    let mut command = Command::new("nohup");
    command.arg(sniper.get_program()).args(sniper.get_args()).current_dir(desk.directory.path());
    command.envs(sniper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(piped.spawn().unwrap());
    running.read_until("Reconnecting in");
    running.signal("-HUP");
    running.read_until("Reconnecting in");
    running.signal("-TERM");
    assert_eq!(running.ended(), Some(0));
    assert!(running.rest().contains("and ended: told to terminate."));
}

/// As `sniper | head` does.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_stops_it_with_a_line_on_stderr_and_74() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    for words in [&["run"][..], &["demo"], &["capture", "--out", "rec"]] {
        let desk = Desk::new().at(&market);
        let mut running = desk.start(words);
        running.read_until(" INFO ");
        drop(running.0.stdout.take());
        assert_eq!(running.ended(), Some(74), "{words:?}");
        let said = running.rest_of_stderr();
        let line = "sniper: the reader of the log has gone: stopping as on SIGTERM";
        assert!(said.starts_with(line), "{words:?}: {said}");
        // The summary too.
        assert_eq!(said.matches("the reader of the log has gone").count(), 2, "{words:?}: {said}");
    }
}

/// With `--json` the log is on standard error, and what is on standard output is still printed.
#[cfg(unix)]
#[test]
fn a_reader_of_the_log_that_goes_away_stops_a_run_with_json_too() {
    let desk = Desk::new().with_rude_market();
    let mut running = desk.start(&["run", "--json"]);
    let mut line = String::new();
    BufReader::new(running.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("Mode: DRY RUN"), "{line}");
    assert_eq!(running.ended(), Some(74));
    let summary: Value = serde_json::from_str(&running.rest()).unwrap();
    assert_eq!(summary["ended"], "the reader of the log has gone");
}

/// A pipe that nobody reads, with no room left.
#[cfg(target_os = "linux")]
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    // What a pipe holds where nobody has asked for another size.
    const PIPE_BYTES: usize = 65_536;
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &[b'x'; PIPE_BYTES]).unwrap();
    (reader, writer)
}

/// The bounds of the log and of the summary, on a busy machine.
#[cfg(target_os = "linux")]
const STOPPED_IN_TIME: Duration = Duration::from_secs(8);

/// Whether a process counts signals by now: until then they kill it.
#[cfg(target_os = "linux")]
fn counts_signals(running: &Running) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.0.id())).unwrap();
    let mut names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    names.any(|name| name.is_ok_and(|name| name == "signals\n"))
}

/// Starts a command whose standard output takes nothing.
#[cfg(target_os = "linux")]
fn stuck(desk: &Desk, words: &[&str], is_stderr_full: bool) -> (Running, std::io::PipeReader) {
    let (reader, writer) = full_pipe();
    let mut command = desk.command(words);
    let stderr =
        if is_stderr_full { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::piped() };
    let running = Running(command.stdout(writer).stderr(stderr).spawn().unwrap());
    (running, reader)
}

#[cfg(target_os = "linux")]
const WITH_SIGNALS: [&[&str]; 3] =
    [&["run"], &["demo", "--rate", "100000", "--for", "1h"], &["capture", "--out", "rec"]];

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_does_not_read_holds_up_no_end() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    for (words, is_stderr_full) in
        WITH_SIGNALS.into_iter().flat_map(|words| [(words, false), (words, true)])
    {
        let desk = Desk::new().at(&market);
        let (mut running, _reader) = stuck(&desk, words, is_stderr_full);
        until(|| counts_signals(&running));
        running.signal("-INT");
        let signalled = Instant::now();
        assert_eq!(running.ended(), Some(74), "{words:?}, stderr is full: {is_stderr_full}");
        assert!(signalled.elapsed() < STOPPED_IN_TIME, "{words:?}: {:?}", signalled.elapsed());
        if !is_stderr_full {
            let said = running.rest_of_stderr();
            assert_eq!(said, "cannot print: standard output took nothing for 2s\n", "{words:?}");
        }
    }
}

/// The signals have a thread of their own, so a second one ends what is stuck.
#[cfg(target_os = "linux")]
#[test]
fn a_second_signal_ends_every_command_at_once() {
    let market = SimServer::start(SimSettings::default()).unwrap();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        for words in WITH_SIGNALS {
            let desk = Desk::new().at(&market);
            let (mut running, _reader) = stuck(&desk, words, false);
            until(|| counts_signals(&running));
            running.signal(signal);
            thread::sleep(Duration::from_millis(100));
            running.signal(signal);
            let signalled = Instant::now();
            assert_eq!(running.ended(), Some(code), "{words:?}");
            assert!(signalled.elapsed() < Duration::from_secs(2), "{words:?}");
            let said = running.rest_of_stderr();
            assert!(said.starts_with("sniper: Quit at once (second signal: "), "{words:?}: {said}");
        }
    }
}

/// Where nothing is to be put in order a signal ends the process by itself.
#[cfg(target_os = "linux")]
#[test]
fn what_waits_without_having_anything_to_lose_is_killed_by_a_signal() {
    use std::os::unix::process::ExitStatusExt as _;
    // It accepts and answers nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let desk = Desk::new()
        .variable("CSGOROLL_WS_URL", &format!("ws://{address}/ws"))
        .variable("CSGOROLL_HTTP_URL", &format!("http://{address}/graphql"));
    for words in [&["doctor"][..], &["sim", "--listen", "127.0.0.1:0"]] {
        let (mut running, _reader) = stuck(&desk, words, false);
        let pid = running.0.id();
        until(|| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sniper\n");
        running.signal("-INT");
        assert_eq!(running.ended(), None, "{words:?}");
        assert_eq!(running.0.wait().unwrap().signal(), Some(2), "{words:?}");
    }
}

#[test]
fn a_word_that_names_nothing_hides_nothing_and_is_reported() {
    for (filter, word) in [("foo", "`foo`"), ("snipper=debug", "`snipper`")] {
        let desk = Desk::new().with_rude_market().variable("RUST_LOG", filter);
        let output = desk.run(&["--for", "300ms"]);
        assert_eq!(output.status.code(), Some(0));
        let said = out(&output);
        let report = format!(
            " WARN RUST_LOG names what is no level and no module of this program: {word}; it \
             selects nothing: write error, warn, "
        );
        assert_eq!(said.matches(&report).count(), 1, "{said}");
        assert!(said.contains("INFO Reconnecting in"), "{said}");
        let said = out(&desk.run(&["check"])) + &err(&desk.run(&["check"]));
        assert!(said.contains("RUST_LOG names what is no level"), "{said}");
    }
}

/// The feed is given up, which is an error, under a filter that shows nothing.
#[test]
fn errors_are_shown_whatever_the_filter_says() {
    let desk = Desk::new().with_rude_market().variable("RUST_LOG", "off").file(
        "sniper.toml",
        concat!(
            "[reconnection]\ninitial_delay_ms = 250\nmax_retries = 1\n",
            "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 1\n"
        ),
    );
    let said = out(&desk.run(&["run"]));
    assert!(said.contains(" ERROR Giving up after "), "{said}");
    assert!(!said.contains(" INFO ") && !said.contains(" WARN "), "{said}");
}

#[test]
fn a_number_out_of_range_is_answered_with_the_range() {
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
    for (words, range) in cases {
        let output = Desk::new().run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(err(&output).contains(range), "{words:?}: {}", err(&output));
    }
}

/// Everything that a run writes, on its outputs and in its directory.
fn everything(desk: &Desk, words: &[&str]) -> String {
    let output = desk.run(words);
    let mut seen = out(&output) + &err(&output);
    let mut folders = vec![desk.directory.path().to_path_buf()];
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
fn a_planted_secret_is_seen_nowhere() {
    let policy = include_str!("../../sniper.example.toml");
    let session = format!("CSGOROLL_SESSION={PLANTED}\n");
    let cookie = format!("CSGOROLL_COOKIE='cf_clearance={PLANTED}; session={PLANTED}'\n");
    let broken = format!("CSGOROLL_SESSION={PLANTED} {PLANTED}\n{PLANTED}\n");
    for dotenv in [&session, &cookie, &broken] {
        let desk = Desk::new()
            .file(".env", dotenv)
            .file("sniper.toml", policy)
            .variable("RUST_LOG", "trace")
            .with_rude_market();
        for words in [
            ["check", "--json"].as_slice(),
            &["check", "--live"],
            &["run", "--for", "400ms"],
            &["run", "--live", "--for", "400ms", "--json"],
        ] {
            let seen = everything(&desk, words);
            assert!(!seen.is_empty());
            assert!(!seen.contains("planted"), "{words:?}: {seen}");
        }
    }
}

#[test]
fn a_check_opens_no_connection_and_writes_no_file() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let desk = Desk::new()
        .file("sniper.toml", include_str!("../../sniper.example.toml"))
        .variable("CSGOROLL_SESSION", PLANTED)
        .variable("CSGOROLL_WS_URL", &format!("ws://{address}/ws"))
        .variable("CSGOROLL_HTTP_URL", &format!("http://{address}/graphql"));
    assert_eq!(desk.run(&["check", "--live"]).status.code(), Some(0));
    assert!(listener.accept().is_err(), "somebody came");
    let files: Vec<_> = fs::read_dir(desk.directory.path()).unwrap().collect();
    assert_eq!(files.len(), 1);
}
