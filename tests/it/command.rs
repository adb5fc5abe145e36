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
use sniper::sim::{Market, Rate, Settings};
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
    let market = Market::start(Settings { rate: Rate::per_second(50), ..Settings::default() });
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
    for (signal, why) in [("-TERM", "told to terminate"), ("-INT", "Ctrl-C")] {
        let mut running = Desk::new().with_rude_market().start(&["run"]);
        running.read_until("Reconnecting in");
        let pid = running.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(running.ended(), Some(0), "{signal}");
        let rest = running.rest();
        assert!(rest.contains(&format!("and ended: {why}.")), "{signal}: {rest}");
    }
}

/// Whoever reads the log may stop doing so, as `sniper | head` does; the bot goes on.
#[test]
fn a_reader_that_goes_away_ends_nothing() {
    let mut running = Desk::new().with_rude_market().start(&["--for", "1s"]);
    running.read_until("Mode:");
    drop(running.0.stdout.take());
    assert_eq!(running.ended(), Some(0));
    let mut said = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
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
