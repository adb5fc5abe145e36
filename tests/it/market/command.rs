//! `sniper sim` as a process.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use sniper::{
    config::{Config, Market, Sources},
    sim::faults::FaultChannel,
};

fn sim(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.arg("sim").args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    sim(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// A running process that is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The printed settings contain the address of the market that printed them.
#[test]
fn the_bot_loads_the_printed_settings() {
    let mut child = sim(&["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _running = Running(child);
    let directory = tempfile::tempdir().unwrap();
    let mut dotenv = String::new();
    for line in lines {
        let line = line.unwrap();
        dotenv.push_str(&format!("{line}\n"));
        if line.starts_with("SNIPER_DATA=") {
            break;
        }
    }
    std::fs::write(directory.path().join(".env"), dotenv).unwrap();
    let whitelist = run(&["--print-whitelist"]);
    std::fs::write(directory.path().join("sniper.toml"), whitelist.stdout).unwrap();
    let sources = Sources {
        lookup: &|_| None,
        directory: directory.path(),
        config_file: None,
        live: true,
        decimals: |_market| sniper::markets::csgoroll::DECIMALS,
    };
    let loaded = Config::load(&sources).unwrap();
    let ws = &loaded.config.endpoints.ws;
    assert_eq!((ws.host(), ws.path()), ("127.0.0.1", "/ws"));
    assert!(!loaded.config.whitelist.is_empty());
    assert!(std::net::TcpStream::connect((ws.host(), ws.port())).is_ok());
}

#[test]
fn a_bot_buys_with_the_printed_settings_of_each_market_whose_books_are_printed_at_the_end() {
    for market in [Market::LisSkins, Market::Waxpeer] {
        let args = ["--market", market.name(), "--listen", "127.0.0.1:0", "--rate", "100"];
        let mut child = sim(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut running = Running(child);
        let directory = tempfile::tempdir().unwrap();
        let mut dotenv = String::new();
        while !dotenv.contains("\nSNIPER_DATA=") {
            dotenv.push_str(&format!("{}\n", lines.next().unwrap()));
        }
        std::fs::write(directory.path().join(".env"), dotenv).unwrap();
        let whitelist = run(&["--market", market.name(), "--print-whitelist"]).stdout;
        std::fs::write(directory.path().join("sniper.toml"), whitelist).unwrap();
        let bot = Command::new(env!("CARGO_BIN_EXE_sniper"))
            .args(["run", "--live", "--for", "4s"])
            .current_dir(directory.path())
            .env_clear()
            .output()
            .unwrap();
        assert!(bot.status.success(), "{market:?}: {}", text(&bot.stderr));
        let signal = ["-TERM", &running.0.id().to_string()];
        assert!(Command::new("kill").args(signal).status().unwrap().success());
        let books: Vec<String> = lines.collect();
        assert!(running.0.wait().unwrap().success());
        assert!(books.iter().any(|line| line.starts_with("sold ")), "{market:?}: {books:?}");
        let total = " sales; 0 own ids ordered more than once, 0 booked more than once";
        assert!(books.iter().any(|line| line.ends_with(total)), "{market:?}: {books:?}");
    }
}

#[test]
fn sim_on_an_occupied_port_exits_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("--listen"), "{stderr}");
    let elsewhere = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(elsewhere.status.code(), Some(78));
}

#[test]
fn an_unknown_fault_is_rejected_with_the_list_of_faults() {
    let output = run(&["--fault", "explode"]);
    assert_eq!(output.status.code(), Some(2));
    for kind in sniper::sim::faults::FaultKind::all() {
        assert!(text(&output.stderr).contains(&kind.name()), "{kind}");
    }
}

#[test]
fn with_json_the_last_line_is_an_object_and_the_log_goes_to_stderr() {
    let args = ["--listen", "127.0.0.1:0", "--for", "1s", "--rate", "200", "--json"];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(0));
    let last: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&last["mode"], &last["balance"]), (&"sim".into(), &"500.00".into()));
    assert!(last["listings"].as_u64().unwrap() > 20, "{last}");
    for key in ["seconds", "matched", "bought", "refused", "unknown", "skipped", "spent"] {
        assert!(!last[key].is_null(), "{key}");
    }
    assert!(text(&output.stderr).contains("Simulator listening: 127.0.0.1:"));
    assert!(!text(&output.stdout).contains("INFO"));
}

#[test]
fn the_simulator_page_explains_every_fault() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/simulator.md");
    let page = std::fs::read_to_string(path).unwrap();
    for kind in sniper::sim::faults::FaultKind::all() {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("`{kind}` is not explained"));
        let bought = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let expected = match (kind.channel() == FaultChannel::Orders, kind.commits()) {
            (false, _) => "",
            (true, true) => "yes",
            (true, false) => "no",
        };
        assert_eq!(bought, expected, "{kind}");
    }
}
