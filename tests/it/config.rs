//! Settings read from real files: what a person writes, and what the program makes of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

use std::{collections::HashMap, fs, path::Path};

use sniper::config::{
    Config, ConfigErrors, Loaded, Mode, Sources, check,
    environment::VARIABLES,
    load::FILE_BYTES_MAX,
    problem::{Problem, SourceLocation},
};
use tempfile::TempDir;

/// A secret that must not be seen anywhere.
const PLANTED: &str = "s%3Aplanted-0f9c3e";

/// A working directory with its files, and an environment.
struct Desk {
    directory: TempDir,
    environment: HashMap<String, String>,
    config_file: Option<String>,
    live: bool,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, environment: HashMap::new(), config_file: None, live: false }
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        only_mine(&path);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn named(mut self, file: &str) -> Self {
        self.config_file = Some(file.to_owned());
        self
    }

    fn live(mut self) -> Self {
        self.live = true;
        self
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(&Sources {
            lookup: &|name| self.environment.get(name).cloned(),
            directory: self.directory.path(),
            config_file: self.config_file.as_deref().map(Path::new),
            live: self.live,
        })
    }

    #[track_caller]
    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The problems, each as one line.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        lines(self.load().expect_err("there are problems").list())
    }
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

#[cfg(unix)]
fn only_mine(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn only_mine(_path: &Path) {}

#[track_caller]
fn check_problems(desk: &Desk, expected: &[&str]) {
    let told = desk.problems();
    let fits = told.len() == expected.len()
        && told.iter().zip(expected).all(|(told, expected)| told.starts_with(expected));
    assert!(fits, "told: {told:#?}\nexpected: {expected:#?}");
}

const POLICY: &str =
    "[budget]\nmax_price = 5\ntotal = 9\n[[whitelist]]\nitem = \"x\"\nmax_price = 4\n";

#[test]
fn without_any_file_it_is_a_dry_run_that_wants_nothing() {
    let loaded = Desk::new().loaded();
    assert_eq!(loaded.config.mode, Mode::Dry);
    assert_eq!(loaded.config.endpoints.ws.to_string(), "wss://router.csgoroll.com/ws");
    assert_eq!(loaded.config.endpoints.http.to_string(), "https://router.csgoroll.com/graphql");
    assert!(loaded.config.whitelist.entries().is_empty());
    assert_eq!((loaded.config.credential, loaded.config_file), (None, None));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn both_examples_can_be_copied_as_they_are() {
    let desk = Desk::new()
        .file(".env", include_str!("../../.env.example"))
        .file("sniper.toml", include_str!("../../sniper.example.toml"));
    let loaded = desk.loaded();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.mode, Mode::Dry);
    assert_eq!(loaded.config.endpoints, Desk::new().loaded().config.endpoints);
    assert_eq!(loaded.config.whitelist.entries().len(), 1);
}

#[test]
fn the_example_names_each_variable_and_no_other() {
    let mut shown: Vec<&str> = include_str!("../../.env.example")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('=').map(|(name, _value)| name))
        .collect();
    let mut read = VARIABLES.to_vec();
    shown.sort_unstable();
    read.sort_unstable();
    assert_eq!(shown, read);
}

#[test]
fn the_environment_wins_and_an_empty_value_is_none() {
    let desk = Desk::new()
        .file(".env", "CSGOROLL_ORIGIN=https://a.example\nSNIPER_DATA=there\nRUST_LOG=debug\n")
        .variable("CSGOROLL_ORIGIN", "https://b.example/")
        .variable("SNIPER_DATA", " ");
    let loaded = desk.loaded();
    assert_eq!(loaded.config.endpoints.origin, "https://b.example");
    assert_eq!(loaded.config.data_dir, desk.directory.path().join("there"));
    assert_eq!(loaded.log_filter.as_deref(), Some("debug"));
}

#[test]
fn a_live_run_needs_a_credential_limits_and_a_whitelist() {
    check_problems(
        &Desk::new().live(),
        &[
            "command line: there is no file sniper.toml; copy sniper.example.toml",
            "command line: live mode needs a credential, and none is set; ",
        ],
    );
    let desk = Desk::new().file("sniper.toml", "[budget]\nmax_price = 5\n").live();
    check_problems(
        &desk,
        &[
            "sniper.toml: the whitelist is empty",
            "sniper.toml:1:1: [budget] has no `total`",
            "command line: live mode needs a credential",
        ],
    );
    let desk = Desk::new()
        .file("sniper.toml", POLICY)
        .file(".env", format!("SNIPER_LIVE=true\nCSGOROLL_SESSION={PLANTED}\n"));
    let loaded = desk.loaded();
    assert_eq!(loaded.config.mode, Mode::Live);
    let header = loaded.config.credential.unwrap();
    assert_eq!(header.header().reveal(), format!("session={PLANTED}"));
    let place = SourceLocation::Line { file: ".env".into(), line: 2 };
    assert_eq!(loaded.credential_source, Some(("CSGOROLL_SESSION", place)));
}

#[test]
fn live_is_true_or_false() {
    let desk = |value| Desk::new().variable("SNIPER_LIVE", value);
    assert_eq!(desk("false").loaded().config.mode, Mode::Dry);
    for value in ["yes", "1", "TRUE"] {
        check_problems(&desk(value), &["environment: SNIPER_LIVE is neither true nor false; "]);
    }
}

#[test]
fn a_cookie_wins_over_a_session() {
    let desk = Desk::new().file(
        ".env",
        format!("CSGOROLL_SESSION=other\nCSGOROLL_COOKIE='a=$b; session={PLANTED}'\n"),
    );
    let loaded = desk.loaded();
    let header = loaded.config.credential.unwrap();
    assert_eq!(header.header().reveal(), format!("a=$b; session={PLANTED}"));
    assert_eq!(
        lines(&loaded.warnings),
        [
            ".env:2: CSGOROLL_COOKIE is set beside CSGOROLL_SESSION (.env:1) and wins; \
             keep one of the two",
            ".env:2: CSGOROLL_COOKIE holds a cookie whose value is shorter than 8 bytes, too short \
             to be replaced in logs and recordings where the site repeats it; nothing, if they are \
             settings such as a language; leave out what the site does not need"
        ]
    );
}

#[test]
fn a_session_that_is_too_short_to_be_replaced_is_warned_about() {
    let warnings =
        |session: &str| lines(&Desk::new().variable("CSGOROLL_SESSION", session).loaded().warnings);
    assert_eq!(
        warnings("s%3Aabc"),
        [
            "environment: CSGOROLL_SESSION is shorter than 8 bytes, too short to be replaced in logs \
          and recordings where the site repeats it; copy the whole value of the `session` cookie"
        ]
    );
    assert_eq!(warnings("s%3Aabcd"), Vec::<String>::new());
}

/// `docker --env-file` keeps quotes, and so does a `.env` file that has two pairs of them.
#[test]
fn a_value_that_keeps_its_quotes_is_refused_wherever_it_stands() {
    let quoted = "environment: SNIPER_DATA is in quotes; remove the quotes around the value";
    check_problems(&Desk::new().variable("SNIPER_DATA", "'data/'"), &[quoted]);
    let desk = Desk::new().file(".env", format!("\nCSGOROLL_SESSION=\"'{PLANTED}'\"\n"));
    check_problems(&desk, &[".env:2: CSGOROLL_SESSION is in quotes; remove the quotes"]);
    let desk = Desk::new().file(".env", format!("CSGOROLL_SESSION='{PLANTED}'\n"));
    assert_eq!(lines(&desk.loaded().warnings), Vec::<String>::new());
}

/// A person who was logged out pastes a new cookie into `.env` while the bot runs.
#[test]
fn a_credential_is_read_again_from_where_it_can_change() {
    let again = |desk: &Desk, now: &str| {
        let source = desk.loaded().config.credential_source.unwrap();
        fs::write(desk.directory.path().join(".env"), now).unwrap();
        assert!(!format!("{source:?}").contains("planted"));
        source.read().map(|credential| credential.header().reveal().to_owned())
    };
    let desk = || Desk::new().file(".env", format!("CSGOROLL_SESSION={PLANTED}\n"));
    let check = |desk: Desk, now: &str, expected: Option<&str>| {
        assert_eq!(again(&desk, now).as_deref(), expected, "now: {now}");
    };
    check(desk(), "CSGOROLL_SESSION=new\n", Some("session=new"));
    check(desk(), "CSGOROLL_COOKIE='a=b; c=d'\n", Some("a=b; c=d"));
    check(desk(), "CSGOROLL_SESSION='\n", None);
    let session = || desk().variable("CSGOROLL_SESSION", "fixed");
    check(session(), "CSGOROLL_SESSION=new\n", Some("session=fixed"));
    check(session(), "CSGOROLL_COOKIE=a=b\n", Some("a=b"));
    check(session().variable("CSGOROLL_COOKIE", "c=d"), "CSGOROLL_COOKIE=a=b\n", Some("c=d"));
}

#[test]
fn a_credential_that_is_none_is_told_without_its_value() {
    for (name, value, expected) in [
        ("CSGOROLL_SESSION", "\"pl\\nanted\"", "holds a line break"),
        ("CSGOROLL_SESSION", "'planted; a=b'", "holds a space"),
        ("CSGOROLL_SESSION", "plänted", "holds a character that is not ASCII"),
        ("CSGOROLL_COOKIE", "planted", "holds no `name=value`"),
        ("CSGOROLL_COOKIE", "a=planted$b", "holds a $"),
    ] {
        let told = Desk::new().file(".env", format!("\n{name}={value}\n")).problems();
        let start = format!(".env:2: {name} {expected}");
        assert!(told.len() == 1 && told[0].starts_with(&start), "{told:?}");
        assert!(!told[0].contains("planted"), "{told:?}");
    }
}

#[test]
fn a_line_of_the_variables_file_that_cannot_be_read_is_named_and_not_shown() {
    let desk = Desk::new().file(".env", format!("A=1\nCSGOROLL_SESSION {PLANTED}\nB='\n"));
    check_problems(
        &desk,
        &[".env:2: this line cannot be read", ".env:3: this line cannot be read"],
    );
    assert!(!format!("{:?}", desk.load()).contains("planted"));
}

#[test]
fn addresses_are_checked() {
    let desk = Desk::new()
        .variable("CSGOROLL_WS_URL", "ws://example.com/ws")
        .variable("CSGOROLL_HTTP_URL", "ftp://example.com")
        .variable("CSGOROLL_ORIGIN", "https://example.com/page")
        .variable("CSGOROLL_USER_AGENT", "a\nb");
    check_problems(
        &desk,
        &[
            "environment: CSGOROLL_WS_URL is unencrypted; ",
            "environment: CSGOROLL_HTTP_URL must begin with https://; write an address such as",
            "environment: CSGOROLL_ORIGIN holds a path; ",
            "environment: CSGOROLL_USER_AGENT is too long or no plain text; ",
        ],
    );
}

#[test]
fn a_log_filter_that_is_none_or_misspelt_is_told() {
    let desk = Desk::new().variable("RUST_LOG", "sniper=loud");
    check_problems(&desk, &["environment: RUST_LOG is not a filter; write error, warn, info"]);
    let desk = Desk::new().file(".env", "RUST_LOG=inof\n");
    check_problems(&desk, &[".env:1: RUST_LOG is not a filter; did you mean `info`?"]);
}

#[test]
fn a_live_run_does_not_watch_one_market_and_buy_at_another() {
    let desk = Desk::new()
        .file("sniper.toml", POLICY)
        .variable("CSGOROLL_SESSION", PLANTED)
        .variable("CSGOROLL_WS_URL", "ws://127.0.0.1:1/ws");
    desk.loaded();
    check_problems(
        &desk.live(),
        &["command line: CSGOROLL_WS_URL and CSGOROLL_HTTP_URL are of different"],
    );
}

#[test]
fn names_that_are_nearly_ours_are_warned_about() {
    let desk = Desk::new().file(".env", "CSGOROLL_SESION=x\nSNIPER_LIVE=false\nHOME=x\n");
    assert_eq!(
        lines(&desk.loaded().warnings),
        [".env:1: CSGOROLL_SESION is not read; did you mean CSGOROLL_SESSION?"]
    );
    let desk = Desk::new().file(".env", "SNIPER_DATA=a\nSNIPER_DATA=b\n");
    check_problems(&desk, &[".env:2: SNIPER_DATA is set in line 1 already; "]);
}

#[test]
fn a_named_file_must_be_there_and_readable() {
    check_problems(&Desk::new().named("my.toml"), &["command line: there is no file my.toml; "]);
    let desk = Desk::new().file(".env", "\nSNIPER_CONFIG=my.toml\n");
    check_problems(&desk, &[".env:2: there is no file my.toml; "]);
    check_problems(&Desk::new().named("."), &[".: cannot be read ("]);
    check_problems(
        &Desk::new().file("sniper.toml", b"a = 1\nb = \"\xff\"\n"),
        &["sniper.toml:2: is not UTF-8"],
    );
    let loaded = Desk::new()
        .file("conf/my.toml", POLICY)
        .variable("SNIPER_CONFIG", "conf/other.toml")
        .named("conf/my.toml")
        .loaded();
    assert!(loaded.config_file.unwrap().ends_with("conf/my.toml"));
}

#[test]
fn a_file_without_entries_is_a_mistake_and_no_file_is_none() {
    check_problems(
        &Desk::new().file("sniper.toml", ""),
        &["sniper.toml: the whitelist is empty, "],
    );
    let desk = Desk::new().file("sniper.toml", "whitelist_file = \"w.json\"").file("w.json", "[]");
    check_problems(&desk, &["sniper.toml: the whitelist is empty, "]);
}

#[test]
fn a_whitelist_of_json_follows_the_entries_and_lies_beside_its_file() {
    let desk = Desk::new()
        .file("conf/my.toml", format!("whitelist_file = \"w/w.json\"\n{POLICY}"))
        .file("conf/w/w.json", r#"{"whitelist": [{"item": "y", "max_price": 6}]}"#)
        .named("conf/my.toml");
    let loaded = desk.loaded();
    let labels: Vec<&str> =
        loaded.config.whitelist.entries().iter().map(|entry| entry.label()).collect();
    assert_eq!(labels, ["x", "y"]);
    assert_eq!(
        lines(&loaded.warnings),
        ["conf/w/w.json:1:16: `max_price` 6.00 is above the 5.00 of [budget]; \
          the lower one decides; raise the one of [budget] if that is not meant"]
    );
}

#[test]
fn mistakes_of_all_files_are_told_in_one_go() {
    let desk = Desk::new()
        .file(".env", "nonsense\nSNIPER_LIVE=perhaps\n")
        .file("sniper.toml", "whitelist_file = \"w.json\"\n[feed]\ngeneration = 3\n")
        .file("w.json", "[{\"item\": \"x\"}]")
        .variable("CSGOROLL_WS_URL", "x");
    check_problems(
        &desk,
        &[
            ".env:1: this line cannot be read",
            ".env:2: SNIPER_LIVE is neither true nor false",
            "environment: CSGOROLL_WS_URL must begin with wss://",
            "sniper.toml:3:14: `generation` is a number",
            "w.json:1:2: an entry without `max_price`",
        ],
    );
}

#[test]
fn the_mark_and_the_line_ends_of_windows_are_no_mistakes() {
    let desk = Desk::new()
        .file(".env", "\u{feff}CSGOROLL_ORIGIN=https://a.example\r\n")
        .file(
            "sniper.toml",
            format!("\u{feff}whitelist_file = \"w.json\"\n{POLICY}").replace('\n', "\r\n"),
        )
        .file("w.json", "\u{feff}[]\r\n");
    let loaded = desk.loaded();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.endpoints.origin, "https://a.example");
    assert_eq!(loaded.config.whitelist.entries().len(), 1);
}

#[test]
fn the_mistakes_that_the_documents_show_are_told_so() {
    let document = include_str!("../../docs/configuration.md");
    let shown: Vec<&str> = document
        .split("```text\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .map(|block| block.lines().collect())
        .unwrap();
    let policy = "whitelist_file = \"whitelist.json\"\n[budget]\ntotl = 200\n\n[[whitelist]]\n\
                  item = \"x\"\nmax_price = 1\n\nwear = [\"Field Testd\"]\n\
                  [[whitelist]]\nitem = \"y\"\nmax_price = 12.505\n";
    let whitelist = "[\n  {\"item\": \"z\",      \"max_price\": -1}\n]";
    let desk = Desk::new()
        .file(".env", "\nSNIPER_LIVE=perhaps\n")
        .file("sniper.toml", policy)
        .file("whitelist.json", whitelist);
    assert_eq!(desk.problems(), shown);
}

#[test]
fn a_file_beyond_the_bound_is_refused() {
    let desk = Desk::new();
    let file = fs::File::create(desk.directory.path().join("sniper.toml")).unwrap();
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    check_problems(&desk, &["sniper.toml: is too large; keep it below 64 MiB"]);
}

#[cfg(unix)]
#[test]
fn a_variables_file_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new().file(".env", "");
    let path = desk.directory.path().join(".env");
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let warnings = lines(&desk.loaded().warnings);
        assert_eq!(warnings, [".env: others can read this file; run: chmod 600 .env"]);
    }
}

impl Desk {
    /// Runs `sniper check`: its exit code, standard output and standard error.
    fn check(&self, as_json: bool) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let sources = Sources {
            lookup: &|name| self.environment.get(name).cloned(),
            directory: self.directory.path(),
            config_file: self.config_file.as_deref().map(Path::new),
            live: self.live,
        };
        let code = check::run(&sources, as_json, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

#[test]
fn a_check_says_what_the_bot_would_do() {
    let entries: String = (1..25)
        .map(|index| format!("[[whitelist]]\nitem = \"Item {index}\"\nmax_price = 6\n"))
        .collect();
    let desk = Desk::new()
        .file("sniper.toml", format!("{POLICY}{entries}"))
        .variable("CSGOROLL_SESSION", PLANTED)
        .live();
    let (code, out, err) = desk.check(false);
    assert_eq!((code, err.as_str()), (0, ""));
    for expected in [
        "The settings are fine.",
        "LIVE: it buys",
        "wss://router.csgoroll.com/ws, generation B",
        "CSGOROLL_SESSION (environment), not shown",
        "at most 5.00 for one and 9.00 in all, balance not below 5.00, 10 buys a minute, 8 at once",
        "25 entries",
        "           1 x for 0.00 to 4.00, markup up to 0.00 %, 1 at most",
        "… and 5 more",
        "sniper.toml:7:1: `max_price` 6.00 is above the 5.00 of [budget]",
    ] {
        assert!(out.contains(expected), "expected: {expected}\nout: {out}");
    }
    let (code, out, err) = desk.check(true);
    assert_eq!((code, err.contains("LIVE")), (0, true));
    let object: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(object["ok"], true);
    assert_eq!(object["mode"], "live");
    assert_eq!(object["settings"]["budget"]["max_price"], "5.00");
    assert_eq!(object["settings"]["credential"], "CSGOROLL_SESSION");
    for key in [
        "seconds",
        "listings",
        "matched",
        "bought",
        "refused",
        "unknown",
        "skipped",
        "spent",
        "balance",
        "reconnects",
        "gaps",
        "errors",
    ] {
        assert!(object.get(key).is_some(), "no {key}: {object}");
    }
    for key in ["count", "p50", "p90", "p99", "max"] {
        assert_eq!(object["latency_us"][key], 0);
    }
}

#[test]
fn a_check_of_wrong_settings_says_so_with_its_exit_code() {
    let desk = Desk::new().file("sniper.toml", "[budgt]\n");
    let (code, out, _err) = desk.check(false);
    assert_eq!(code, 78);
    let expected = "sniper.toml:1:2: `budgt` is no setting; did you mean `budget`?\n";
    assert!(out.starts_with(expected), "{out}");
    assert!(out.ends_with("\n2 problems in the settings. Nothing was started.\n"), "{out}");
    let (code, out, _err) = desk.check(true);
    let object: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((code, &object["ok"]), (78, &false.into()));
    assert_eq!(object["problems"][0]["place"], "sniper.toml:1:2");
    assert_eq!(object["problems"][1]["place"], "sniper.toml");
}

#[test]
fn a_planted_secret_is_seen_nowhere() {
    let whole = format!("cf_clearance={PLANTED}; session={PLANTED}");
    let desks = [
        Desk::new().variable("CSGOROLL_SESSION", PLANTED),
        Desk::new().variable("CSGOROLL_COOKIE", &whole),
        Desk::new().variable("CSGOROLL_COOKIE", &whole).variable("CSGOROLL_SESSION", PLANTED),
        Desk::new().variable("CSGOROLL_SESSION", &whole),
        Desk::new()
            .variable("CSGOROLL_SESSION", &format!("{PLANTED}\n"))
            .variable("SNIPER_LIVE", "x"),
        Desk::new().variable("CSGOROLL_COOKIE", &format!("{PLANTED}\u{1b}")),
        Desk::new().file(".env", format!("CSGOROLL_SESSION={PLANTED} {PLANTED}\n")),
        Desk::new().file(".env", format!("CSGOROLL_SESSION='{PLANTED}\n")),
        Desk::new().file(".env", format!("CSGOROLL_SESION={PLANTED}\n{PLANTED}=1\n")),
        Desk::new().file(".env", format!("CSGOROLL_SESSION={PLANTED}$x\n")),
        Desk::new().file("sniper.toml", "x").variable("CSGOROLL_SESSION", PLANTED).live(),
    ];
    for desk in desks {
        let mut seen = format!("{:?}", desk.load());
        for as_json in [false, true] {
            let (_code, out, err) = desk.check(as_json);
            seen = format!("{seen}\n{out}\n{err}");
        }
        assert!(!seen.contains("planted"), "{seen}");
    }
}
