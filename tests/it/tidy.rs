//! The rules of the house that no lint of the compiler knows.
//!
//! Each rule is a function from one source file to its complaints. One test per rule applies it to
//! the whole repository; `each_rule_bites` shows each of them a file that breaks it, so that none
//! passes because it has gone blind.
#![expect(clippy::unwrap_used, reason = "a repository that cannot be read fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The longest file, in lines before its tests.
const LINES_MAX: usize = 800;
/// The longest `main.rs`, in lines.
const MAIN_LINES_MAX: usize = 100;

/// Modules that decide. A folder stands for every file in it.
const PURE: &[&str] = &[
    "src/account/look_back.rs",
    "src/account/health.rs",
    "src/account/rate_limiter.rs",
    "src/account/purchases.rs",
    "src/execution/answer.rs",
    "src/execution/answer_reader",
    "src/execution/answer_reader.rs",
    "src/execution/attribution.rs",
    "src/execution/chunked_body.rs",
    "src/execution/redial.rs",
    "src/execution/request.rs",
    "src/capture/outcome.rs",
    "src/capture/source.rs",
    "src/config/credential.rs",
    "src/config/document.rs",
    "src/config/entries.rs",
    "src/config/environment.rs",
    "src/config/fields.rs",
    "src/config/policy",
    "src/config/policy.rs",
    "src/config/problem.rs",
    "src/markets",
    "src/doctor/step.rs",
    "src/http_head.rs",
    "src/domain/item_name.rs",
    "src/json",
    "src/json.rs",
    "src/latency.rs",
    "src/ledger/account.rs",
    "src/ledger/order_request.rs",
    "src/ledger/approved.rs",
    "src/ledger/state.rs",
    "src/ledger/check.rs",
    "src/ledger/rejection.rs",
    "src/ledger/entries.rs",
    "src/ledger/event.rs",
    "src/ledger/fault.rs",
    "src/ledger/intent.rs",
    "src/ledger/durable_limit.rs",
    "src/ledger/reconcile.rs",
    "src/ledger/record",
    "src/ledger/record.rs",
    "src/ledger/snapshot.rs",
    "src/ledger/status.rs",
    "src/ledger/prealloc.rs",
    "src/ledger/steps.rs",
    "src/ledger/window.rs",
    "src/domain/money.rs",
    "src/domain/outcome.rs",
    "src/cache.rs",
    "src/domain/server_clock.rs",
    "src/sim/arrivals.rs",
    "src/sim/market_books.rs",
    "src/sim/catalogue.rs",
    "src/sim/demo.rs",
    "src/sim/dice.rs",
    "src/sim/market_state.rs",
    "src/sim/faults.rs",
    "src/sim/graphql",
    "src/sim/graphql.rs",
    "src/sim/items.rs",
    "src/sim/listing.rs",
    "src/sim/offer.rs",
    "src/sim/protocol.rs",
    "src/sim/query.rs",
    "src/sim/value.rs",
    "src/sniper/eligibility.rs",
    "src/sniper/held.rs",
    "src/sniper/stats.rs",
    "src/summary.rs",
    "src/recording/line.rs",
    "src/recording/manifest.rs",
    "src/recording/names.rs",
    "src/text.rs",
    "src/domain/time.rs",
    "src/trade",
    "src/domain/trade.rs",
    "src/whitelist",
    "src/ws/frames.rs",
    "src/ws/watchdog.rs",
    "src/ws/policy",
    "src/ws/protocol",
    "src/ws/upgrade.rs",
];

/// What a pure module never says: asynchrony, the outside world, clocks, randomness.
const IMPURE: &[&str] = &[
    "tokio::",
    "reqwest::",
    "rusqlite::",
    "fastrand::",
    "env::",
    "fs::",
    "io::",
    "net::",
    "thread::",
    "process::",
    "clock::",
    "SystemTime",
    "Instant::now",
];

/// Where a credential may be read in plain: on its way into a header, and nowhere else.
const REVEALING: &[&str] = &[
    "src/execution/request.rs",
    "src/config/credential.rs",
    "src/secret.rs",
    "src/ws/upgrade.rs",
    "src/net/http_client.rs",
];

/// Tests that may sleep: those whose subject is time, and the helper that waits on a condition.
const SLEEPING: &[&str] = &[
    "tests/it/account.rs",
    "tests/it/buyer.rs",
    "tests/it/buyer/market.rs",
    "tests/it/buyer/script.rs",
    "tests/it/capture/mod.rs",
    "tests/it/command.rs",
    "tests/it/feed.rs",
    "tests/it/feed/gaps.rs",
    "tests/it/feed/long.rs",
    "tests/it/feed/managed.rs",
    "tests/it/feed/modes.rs",
    "tests/it/feed/peer.rs",
    "tests/it/feed/refusals.rs",
    "tests/it/filters.rs",
    "tests/it/session/mod.rs",
    "tests/it/session/standstill.rs",
    "tests/it/session/volume.rs",
    "tests/it/terminal.rs",
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// A file of the repository.
pub(crate) struct Source {
    /// Its path from the top of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether the whole file is tests.
    fn is_tests(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The lines before the module of tests.
    fn program(&self) -> impl Iterator<Item = &str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair == ["#[cfg(test)]", "mod tests {"])
            .unwrap_or(lines.len());
        lines.into_iter().take(if self.is_tests() { 0 } else { tests })
    }

    /// The program without its comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.program().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// The lines from the module of tests on, or all of them where the whole file is tests.
    fn tests(&self) -> impl Iterator<Item = &str> {
        self.text.lines().skip(self.program().count())
    }

    pub(crate) fn is_under(&self, place: &str) -> bool {
        self.path == place || self.path.starts_with(&format!("{place}/"))
    }

    /// A complaint about this file.
    fn complain(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.path)
    }
}

pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with this extension, in a stable order.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&top().join(folder), &mut found);
    found.sort();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    let name = |path: &Path| {
        let parts = path.strip_prefix(top()).unwrap().components();
        parts.map(|part| part.as_os_str().to_str().unwrap()).collect::<Vec<_>>().join("/")
    };
    found
        .iter()
        .map(|path| Source { path: name(path), text: fs::read_to_string(path).unwrap() })
        .collect()
}

/// All that is compiled, but for this file, which has to name what it forbids.
pub(crate) fn sources() -> Vec<Source> {
    let mut all: Vec<Source> = ["src", "tests", "benches", "examples"]
        .into_iter()
        .flat_map(|folder| files(folder, "rs"))
        .filter(|source| source.path != "tests/it/tidy.rs")
        .collect();
    assert!(all.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    for source in &mut all {
        source.text = source.text.replace("\r\n", "\n");
    }
    all
}

type Rule = fn(&Source) -> Vec<String>;

/// Applies a rule to every source and shows all complaints at once.
#[track_caller]
fn check(rule: Rule) {
    let complaints: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn header(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![source.complain("starts without `//! ` and what it answers")]
}

fn length(source: &Source) -> Vec<String> {
    let (lines, bound) = match source.path.as_str() {
        "src/main.rs" => (source.program().count(), MAIN_LINES_MAX),
        _ => (source.program().count(), LINES_MAX),
    };
    if lines <= bound || !source.is_under("src") {
        return Vec::new();
    }
    vec![source.complain(format!("{lines} lines before its tests, {bound} at most: split it"))]
}

/// Whether `text` has `word` where no longer name ends in it.
fn says(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|char| char.is_alphanumeric() || char == '_')
    })
}

/// Looks for paths such as `fs::`, and for what is imported from `std` by name, in one piece or in
/// braces, whatever the formatting.
fn purity(source: &Source) -> Vec<String> {
    if !PURE.iter().any(|place| source.is_under(place)) {
        return Vec::new();
    }
    let code = source.code().collect::<Vec<_>>().join("\n");
    let mut said: Vec<&str> = IMPURE.iter().copied().filter(|word| says(&code, word)).collect();
    for statement in code.split(';') {
        let Some((_, imported)) = statement.split_once("use std::") else { continue };
        said.extend(
            imported
                .split(|char: char| !char.is_alphanumeric() && char != '_')
                .filter(|name| ["env", "fs", "io", "net", "thread", "process"].contains(name)),
        );
    }
    said.iter().map(|word| source.complain(format!("is pure, and says `{word}`"))).collect()
}

fn cancel_safety(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.program().map(str::trim_start).collect();
    let mut complaints = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !line.starts_with("pub async fn ") {
            continue;
        }
        let above = lines.iter().take(at).rev();
        let documented = above
            .take_while(|line| line.starts_with("///") || line.starts_with("#["))
            .any(|line| line.trim() == "/// # Cancel safety");
        if !documented {
            complaints.push(source.complain(format!("no `# Cancel safety` on `{line}`")));
        }
    }
    complaints
}

fn test_names(source: &Source) -> Vec<String> {
    let names = source.tests().filter_map(|line| line.trim_start().strip_prefix("fn test_"));
    names
        .map(|name| source.complain(format!("`test_{name}`: a test's name is a sentence")))
        .collect()
}

fn test_manners(source: &Source) -> Vec<String> {
    let said = |word: &str| source.tests().any(|line| line.contains(word));
    let mut complaints = Vec::new();
    for word in ["#[ignore", "#[should_panic", "todo!("] {
        if said(word) {
            complaints.push(source.complain(format!("`{word}` in a test")));
        }
    }
    let sleeps = source.tests().any(|line| says(line, "sleep("));
    if sleeps && !SLEEPING.contains(&source.path.as_str()) {
        complaints.push(source.complain("a test sleeps: wait on a condition with a deadline"));
    }
    complaints
}

fn revealing(source: &Source) -> Vec<String> {
    let reveals = source.is_under("src") && source.code().any(|line| line.contains("reveal()"));
    if !reveals || REVEALING.contains(&source.path.as_str()) {
        return Vec::new();
    }
    vec![source.complain("calls `reveal()` and is not among those that may")]
}

/// `net::dial` decides which addresses may be connected to, so nothing else looks names up or
/// connects over TCP, and the HTTP client is given its resolver.
fn dialling(source: &Source) -> Vec<String> {
    if !source.is_under("src") || source.path == "src/net/dial.rs" {
        return Vec::new();
    }
    let code = source.code().collect::<Vec<_>>().join("\n");
    let direct = ["lookup_host(", "TcpStream::connect(", "TcpSocket::", "to_socket_addrs("];
    let mut complaints: Vec<String> = direct
        .iter()
        .filter(|call| says(&code, call))
        .map(|call| source.complain(format!("calls `{call}`: use net::dial")))
        .collect();
    if says(&code, "Client::builder(") && !code.contains(".dns_resolver(") {
        complaints.push(source.complain("builds an HTTP client without a resolver of net::dial"));
    }
    complaints
}

fn naming(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    parts
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| source.complain(format!("`{part}` says nothing about what is in it")))
        .collect()
}

/// `main.rs` shows the whole bot as one call.
fn one_call(source: &Source) -> Vec<String> {
    const CALL: &str = "ws::run_with_reconnect(&config, |trade| sniper.consider(trade))";
    let calls = source.code().filter(|line| line.contains(CALL)).count();
    if source.path != "src/main.rs" || calls == 1 {
        return Vec::new();
    }
    vec![source.complain(format!("makes the call `{CALL}` {calls} times and not once"))]
}

#[test]
fn main_makes_the_one_call() {
    check(one_call);
}

#[test]
fn every_file_says_what_it_answers() {
    check(header);
}

#[test]
fn no_file_is_longer_than_one_concept() {
    check(length);
}

#[test]
fn what_decides_reaches_for_no_clock_no_chance_and_no_outside_world() {
    check(purity);
}

#[test]
fn every_public_async_function_says_what_cancelling_it_does() {
    check(cancel_safety);
}

#[test]
fn the_name_of_a_test_is_a_sentence() {
    check(test_names);
}

#[test]
fn no_test_is_skipped_and_none_sleeps_for_luck() {
    check(test_manners);
}

#[test]
fn a_credential_is_revealed_on_its_way_to_the_wire_only() {
    check(revealing);
}

#[test]
fn only_one_module_decides_which_addresses_are_connected_to() {
    check(dialling);
}

#[test]
fn no_module_is_called_utilities() {
    check(naming);
}

/// A list that names a file which is gone protects nothing.
#[test]
fn the_lists_of_these_rules_name_files_that_exist() {
    for place in PURE.iter().chain(REVEALING).chain(SLEEPING) {
        assert!(top().join(place).exists(), "{place} is listed in tidy.rs and does not exist");
    }
}

#[test]
fn each_rule_bites() {
    let bites = |rule: Rule, path: &str, text: &str| {
        assert_ne!(rule(&Source::new(path, text)), Vec::<String>::new(), "{path}: {text}");
    };
    let long = "//! Long.\n".repeat(LINES_MAX + 1);
    bites(header, "src/a.rs", "use std::fmt;\n");
    bites(length, "src/a.rs", &long);
    bites(length, "src/main.rs", &"\n".repeat(MAIN_LINES_MAX + 1));
    for text in [
        "let socket = tokio::net::TcpStream::connect(address);",
        "use std::{\n    env,\n    fmt,\n};",
        "use std::{fmt, fs};",
        "use std::io;",
        "let now = Instant::now();",
        "let now = std::time::SystemTime::now();",
        "let now = crate::clock::now();",
        "let chance = fastrand::u64(..);",
    ] {
        bites(purity, "src/domain/money.rs", text);
        assert_eq!(purity(&Source::new("src/clock.rs", text)), Vec::<String>::new());
    }
    bites(cancel_safety, "src/a.rs", "/// Waits.\n///\n/// # Errors\npub async fn wait() {}\n");
    bites(test_names, "tests/it/a.rs", "#[test]\nfn test_it_works() {}\n");
    bites(test_names, "src/a.rs", "#[cfg(test)]\nmod tests {\n    fn test_a() {}\n");
    bites(test_manners, "tests/it/a.rs", "#[ignore = \"slow\"]\n");
    bites(test_manners, "tests/it/a.rs", "#[should_panic]\n");
    bites(test_manners, "src/a.rs", "#[cfg(test)]\nmod tests {\n    thread::sleep(LUCK);\n");
    bites(revealing, "src/a.rs", "info!(\"{}\", secret.reveal());\n");
    bites(
        one_call,
        "src/main.rs",
        "fn main() {\n    // ws::run_with_reconnect(&config, |trade| …)\n}",
    );
    bites(dialling, "src/a.rs", "let stream = TcpStream::connect(address).await?;");
    bites(dialling, "src/a.rs", "let found = lookup_host((host, port)).await?;");
    bites(dialling, "src/a.rs", "let client = Client::builder().no_proxy().build()?;");
    bites(naming, "src/utils/a.rs", "");
    bites(naming, "src/helpers.rs", "");
}
