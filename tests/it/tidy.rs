//! Source rules that no compiler lint covers.
//!
//! Each rule is a function from one source file to its complaints. One test per rule applies it to
//! the whole repository. `each_rule_detects_a_violation` applies each rule to a file that breaks
//! it.
#![expect(clippy::unwrap_used, reason = "a repository that cannot be read fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Maximum length of a file, in lines before its tests.
const LINES_MAX: usize = 800;
/// Maximum length of `main.rs`, in lines.
const MAIN_LINES_MAX: usize = 136;

/// Words that a pure module must not contain: async runtime, I/O, clocks, randomness.
const IMPURE: &[&str] = &[
    "tokio::",
    "reqwest::",
    "rusqlite::",
    "fastrand::",
    "env::",
    "fs::",
    "io::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "thread::",
    "process::",
    "clock::",
    "SystemTime",
    "Instant::now",
];

/// Files that may read a credential in plain text, in order to write it into a header.
const REVEALING: &[&str] = &[
    "src/execution/request.rs",
    "src/config/credential.rs",
    "src/config/trade_url.rs",
    "src/config/shared.rs",
    "src/shared/store/connect.rs",
    "src/dashboard/token.rs",
    "src/secret.rs",
    "src/net/http_message.rs",
    "src/alerts/format.rs",
    "src/alerts/heartbeat.rs",
    "src/markets/lis_skins/api.rs",
    "src/markets/waxpeer/api.rs",
    "src/protocol/centrifugo.rs",
];

/// Tests that may sleep: tests of time-dependent behavior, and helpers that poll a condition.
const SLEEPING: &[&str] = &[
    "tests/dashboard/harness.rs",
    "tests/dashboard/streams.rs",
    "tests/dashboard/webdriver.rs",
    "tests/it/account.rs",
    "tests/it/address_latency.rs",
    "tests/it/alerts/delivery.rs",
    "tests/it/alerts/heartbeat.rs",
    "tests/it/alerts/program.rs",
    "tests/it/alerts/receiver.rs",
    "tests/it/buyer.rs",
    "tests/it/buyer/attribution.rs",
    "tests/it/buyer/market.rs",
    "tests/it/buyer/script.rs",
    "tests/it/filters.rs",
    "tests/it/capture/mod.rs",
    "tests/it/command.rs",
    "tests/it/feed/gaps.rs",
    "tests/it/feed/harness.rs",
    "tests/it/feed/hours.rs",
    "tests/it/feed/managed.rs",
    "tests/it/feed/memory.rs",
    "tests/it/feed/modes.rs",
    "tests/it/feed/peer.rs",
    "tests/it/feed/rejections.rs",
    "tests/it/session/harness.rs",
    "tests/it/terminal.rs",
    "tests/long/feed.rs",
    "tests/shared/database.rs",
    "tests/long/session/mod.rs",
    "tests/long/session/roll_back.rs",
    "tests/long/session/standstill.rs",
    "tests/long/session/volume.rs",
];

/// Files that use the timeout of tokio, because what they wait for is no response.
const LOCAL_WAITS: &[&str] = &[
    "src/alerts/service.rs",
    "src/execution/driver.rs",
    "src/execution/mod.rs",
    "src/net/deadline.rs",
    "src/sim",
    "src/sniper/view.rs",
    "src/ws/session/mod.rs",
    "src/ws/supervisor.rs",
];

/// Module names without meaning.
const VAGUE_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Maximum width of a comment line, which rustfmt does not check.
const COLUMNS_MAX: usize = 100;

/// Pronouns that do not say who or what is meant.
const VAGUE_WORDS: &[&str] =
    &["whoever", "whom", "nobody", "somebody", "anybody", "whatever", "whichever", "wherever"];

/// "Refused" as a stored word, a key or an error of the system. Elsewhere the word is "rejected".
const REFUSED: &[&str] = &[
    "\"refused",
    "\".refused\"",
    "'refused'",
    "`refused`",
    "bought refused unknown",
    "credential_refused",
    "CredentialRefused",
    "priority_refused",
    "shared_refused",
    "onnection refused",
    "ConnectionRefused",
    "pub refused: ",
    "self.refused",
    "refused: rejection",
];

pub(crate) struct Source {
    /// Path relative to the repository root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Returns `true` if the whole file is test code.
    fn is_tests(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// Returns the lines before the `tests` module.
    fn program(&self) -> impl Iterator<Item = &str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair == ["#[cfg(test)]", "mod tests {"])
            .unwrap_or(lines.len());
        lines.into_iter().take(if self.is_tests() { 0 } else { tests })
    }

    /// Returns the lines of [`Self::program`] without comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.program().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// Returns the lines from the `tests` module on, or all lines of a test file.
    fn tests(&self) -> impl Iterator<Item = &str> {
        self.text.lines().skip(self.program().count())
    }

    pub(crate) fn is_under(&self, place: &str) -> bool {
        self.path == place || self.path.starts_with(&format!("{place}/"))
    }

    fn complain(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.path)
    }
}

pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file below a folder with this extension, sorted by path.
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

/// Returns all Rust sources except this file, which contains the forbidden words.
pub(crate) fn sources() -> Vec<Source> {
    let all: Vec<Source> = ["src", "tests", "benches", "examples"]
        .into_iter()
        .flat_map(|folder| files(folder, "rs"))
        .filter(|source| source.path != "tests/it/tidy.rs")
        .collect();
    assert!(all.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    all
}

type Rule = fn(&Source) -> Vec<String>;

/// Applies a rule to every source and reports all complaints together.
#[track_caller]
fn check(rule: Rule) {
    let complaints: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn header(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![source.complain("does not start with a `//! ` header")]
}

fn length(source: &Source) -> Vec<String> {
    let bound = if source.path == "src/main.rs" { MAIN_LINES_MAX } else { LINES_MAX };
    let lines = source.program().count();
    if lines <= bound || !source.is_under("src") {
        return Vec::new();
    }
    vec![source.complain(format!("{lines} lines before its tests, {bound} at most: split it"))]
}

/// Returns `true` if `text` contains `word` other than as the end of a longer name.
fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|char| char.is_alphanumeric() || char == '_')
    })
}

/// Returns `true` if the module documentation, without its list of other modules, says that the
/// module is pure.
fn is_documented_as_pure(source: &Source) -> bool {
    let documentation = source.text.lines().map_while(|line| line.strip_prefix("//!"));
    let own: Vec<&str> = documentation.take_while(|line| !line.starts_with(" - ")).collect();
    let text = own.concat();
    ["Pure.", "Pure:", "Pure,", "Pure and"].iter().any(|mark| text.contains(mark))
}

/// Returns the sources that are documented as pure, by themselves or by a module that contains
/// them.
fn pure_sources(sources: &[Source]) -> Vec<&Source> {
    let places: Vec<&str> = sources
        .iter()
        .filter(|source| is_documented_as_pure(source))
        .map(|source| source.path.trim_end_matches(".rs").trim_end_matches("/mod"))
        .collect();
    let is_pure = |source: &&Source| {
        let rest = |place: &&str| source.path.strip_prefix(*place);
        places.iter().filter_map(rest).any(|rest| rest.starts_with(['.', '/']))
    };
    sources.iter().filter(is_pure).collect()
}

/// Detects paths such as `fs::` and imports from `std` by name, in any formatting.
fn impurities(source: &Source) -> Vec<String> {
    let code = source.code().collect::<Vec<_>>().join("\n");
    let mut found: Vec<&str> =
        IMPURE.iter().copied().filter(|word| contains_word(&code, word)).collect();
    found.extend(code.contains(".await").then_some(".await"));
    for statement in code.split(';') {
        let Some((_, imported)) = statement.split_once("use std::") else { continue };
        found.extend(
            imported
                .split(|char: char| !char.is_alphanumeric() && char != '_')
                .filter(|name| ["env", "fs", "io", "thread", "process"].contains(name)),
        );
    }
    found.iter().map(|word| source.complain(format!("is pure and uses `{word}`"))).collect()
}

fn cancel_safety(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.program().map(str::trim_start).collect();
    let mut complaints = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let above = lines.iter().take(at).rev();
        let is_documented = above
            .take_while(|line| line.starts_with("///") || line.starts_with("#["))
            .any(|line| line.trim() == "/// # Cancel safety");
        if line.starts_with("pub async fn ") && !is_documented {
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

fn test_rules(source: &Source) -> Vec<String> {
    let found = |word: &str| source.tests().any(|line| line.contains(word));
    let mut complaints = Vec::new();
    for word in ["#[ignore", "#[should_panic", "todo!("] {
        if found(word) {
            complaints.push(source.complain(format!("`{word}` in a test")));
        }
    }
    let sleeps = source.tests().any(|line| contains_word(line, "sleep("));
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

/// `net::dial` decides which addresses are allowed, so no other module resolves names or connects
/// over TCP, and the HTTP client uses its resolver.
fn direct_dials(source: &Source) -> Vec<String> {
    if !source.is_under("src") || source.path == "src/net/dial.rs" {
        return Vec::new();
    }
    let code = source.code().collect::<Vec<_>>().join("\n");
    let direct = ["lookup_host(", "TcpStream::connect(", "TcpSocket::", "to_socket_addrs("];
    let mut complaints: Vec<String> = direct
        .iter()
        .filter(|call| contains_word(&code, call))
        .map(|call| source.complain(format!("calls `{call}`: use net::dial")))
        .collect();
    if contains_word(&code, "Client::builder(") && !code.contains(".dns_resolver(") {
        complaints.push(source.complain("builds an HTTP client without a resolver of net::dial"));
    }
    complaints
}

/// A live start rejects a data directory that others may write, so nothing creates one by the
/// umask.
fn private_directories(source: &Source) -> Vec<String> {
    let calls = ["create_dir(", "create_dir_all("];
    let is_called = source.code().any(|line| calls.iter().any(|call| contains_word(line, call)));
    if !source.is_under("src") || !is_called {
        return Vec::new();
    }
    vec![source.complain("creates a directory by the umask: use config::load::make_directory")]
}

/// A process that stood still reads what its sockets hold before it calls a response late.
fn deadlines(source: &Source) -> Vec<String> {
    let is_plain = source.code().any(|line| {
        line.contains("time::timeout") || (line.contains("time::{") && line.contains("timeout"))
    });
    if !source.is_under("src") || !is_plain || LOCAL_WAITS.iter().any(|of| source.is_under(of)) {
        return Vec::new();
    }
    vec![source.complain("uses the timeout of tokio for a response: use net::deadline::timeout")]
}

fn module_names(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    parts
        .filter(|part| VAGUE_NAMES.contains(part))
        .map(|part| source.complain(format!("`{part}` does not describe its content")))
        .collect()
}

/// Rows of tables and examples may be wider than other comments.
fn comments(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut is_example = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
        let comment = comment.trim_start_matches(['/', '!']).trim();
        is_example ^= comment.starts_with("```");
        let is_wide = line.chars().count() > COLUMNS_MAX;
        if is_wide && !is_example && !comment.starts_with('|') {
            complaints
                .push(source.complain(format!("line {number} exceeds {COLUMNS_MAX} columns")));
        }
        let mut words = comment.split(|char: char| !char.is_alphanumeric());
        if let Some(word) = words.find(|word| VAGUE_WORDS.contains(&&*word.to_lowercase())) {
            complaints.push(source.complain(format!("line {number} has the vague word `{word}`")));
        }
    }
    complaints
}

fn refusals(source: &Source) -> Vec<String> {
    let text = REFUSED.iter().fold(source.text.clone(), |text, allowed| text.replace(allowed, ""));
    let lines = text.lines().filter(|line| line.to_lowercase().contains("refus"));
    lines.map(|line| source.complain(format!("the word is \"rejected\": {line}"))).collect()
}

/// `main.rs` runs the whole bot with one call.
fn one_call(source: &Source) -> Vec<String> {
    const CALL: &str = "ws::run_with_reconnect(&feed, |trade| sniper.consider(trade))";
    let calls = source.code().filter(|line| line.contains(CALL)).count();
    if source.path != "src/main.rs" || calls == 1 {
        return Vec::new();
    }
    vec![source.complain(format!("makes the call `{CALL}` {calls} times and not once"))]
}

#[test]
fn main_calls_run_with_reconnect_once() {
    check(one_call);
}

#[test]
fn every_file_starts_with_a_header() {
    check(header);
}

#[test]
fn no_file_exceeds_the_line_limit() {
    check(length);
}

#[test]
fn pure_modules_use_no_clock_randomness_or_io() {
    let sources = sources();
    let pure = pure_sources(&sources);
    assert!(150 < pure.len(), "{} modules are documented as pure", pure.len());
    let complaints: Vec<String> = pure.into_iter().flat_map(impurities).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_public_async_function_documents_its_cancel_safety() {
    check(cancel_safety);
}

#[test]
fn no_test_name_starts_with_test() {
    check(test_names);
}

#[test]
fn no_test_is_ignored_and_only_listed_tests_sleep() {
    check(test_rules);
}

#[test]
fn what_the_market_or_the_bot_rejects_is_never_called_refused() {
    check(refusals);
}

#[test]
fn only_listed_files_reveal_a_credential() {
    check(revealing);
}

#[test]
fn only_net_dial_opens_connections() {
    check(direct_dials);
}

#[test]
fn every_directory_is_private() {
    check(private_directories);
}

#[test]
fn no_response_is_late_before_the_sockets_were_read() {
    check(deadlines);
}

#[test]
fn no_comment_is_too_wide_or_leaves_open_who_is_meant() {
    check(comments);
}

#[test]
fn no_module_has_a_vague_name() {
    check(module_names);
}

/// An entry for a file that does not exist would disable the rule for the renamed file.
#[test]
fn the_files_listed_in_these_rules_exist() {
    for place in REVEALING.iter().chain(SLEEPING).chain(LOCAL_WAITS) {
        assert!(top().join(place).exists(), "{place} is listed in tidy.rs and does not exist");
    }
}

#[test]
fn each_rule_detects_a_violation() {
    let assert_detects = |rule: Rule, path: &str, text: &str| {
        assert_ne!(rule(&Source::new(path, text)), Vec::<String>::new(), "{path}: {text}");
    };
    let long = "//! Long.\n".repeat(LINES_MAX + 1);
    assert_detects(header, "src/a.rs", "use std::fmt;\n");
    assert_detects(length, "src/a.rs", &long);
    assert_detects(length, "src/main.rs", &"\n".repeat(MAIN_LINES_MAX + 1));
    for text in [
        "let socket = tokio::net::TcpStream::connect(address);",
        "use std::{\n    env,\n    fmt,\n};",
        "use std::{fmt, fs};",
        "use std::io;",
        "use std::net::{IpAddr, UdpSocket};",
        "let page = answer.await;",
        "let now = Instant::now();",
        "let now = std::time::SystemTime::now();",
        "let now = crate::clock::now();",
        "let chance = fastrand::u64(..);",
    ] {
        assert_detects(impurities, "src/domain/money.rs", text);
    }
    assert_detects(
        cancel_safety,
        "src/a.rs",
        "/// Waits.\n///\n/// # Errors\npub async fn wait() {}\n",
    );
    assert_detects(test_names, "tests/it/a.rs", "#[test]\nfn test_it_works() {}\n");
    assert_detects(test_names, "src/a.rs", "#[cfg(test)]\nmod tests {\n    fn test_a() {}\n");
    assert_detects(test_rules, "tests/it/a.rs", "#[ignore = \"slow\"]\n");
    assert_detects(test_rules, "tests/it/a.rs", "#[should_panic]\n");
    assert_detects(test_rules, "src/a.rs", "#[cfg(test)]\nmod tests {\n    thread::sleep(LUCK);\n");
    assert_detects(refusals, "src/a.rs", "/// The order was refused.\n");
    assert_detects(revealing, "src/a.rs", "info!(\"{}\", secret.reveal());\n");
    assert_detects(
        one_call,
        "src/main.rs",
        "fn main() {\n    // ws::run_with_reconnect(&feed, |trade| …)\n}",
    );
    assert_detects(direct_dials, "src/a.rs", "let stream = TcpStream::connect(address).await?;");
    assert_detects(direct_dials, "src/a.rs", "let found = lookup_host((host, port)).await?;");
    assert_detects(direct_dials, "src/a.rs", "let client = Client::builder().no_proxy().build()?;");
    assert_detects(private_directories, "src/a.rs", "fs::create_dir_all(&folder)?;");
    assert_detects(deadlines, "src/a.rs", "let done = tokio::time::timeout(LIMIT, read).await;");
    assert_detects(deadlines, "src/a.rs", "    time::{sleep, timeout},");
    let wide = format!("    /// {}\n", "word ".repeat(COLUMNS_MAX / 5));
    assert_detects(comments, "src/a.rs", &wide);
    assert_detects(comments, "src/a.rs", "/// Whatever is written.\n");
    assert_detects(module_names, "src/utils/a.rs", "");
    assert_detects(module_names, "src/helpers.rs", "");
}
