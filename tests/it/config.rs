//! Loading of settings from real files: precedence, validation, warnings and secrecy.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

use std::{collections::HashMap, fs, path::Path, time::Duration};

use sniper::{
    commands::check::{self, CheckResult},
    config::{
        Config, ConfigErrors, Loaded, Market, Mode, Sources,
        environment::VARIABLES,
        load::FILE_BYTES_MAX,
        prices::PriceLocation,
        problem::{Problem, SourceLocation},
    },
    domain::alert_kind::{AlertKind, Loudness},
    domain::money::{Amount, Decimals},
    markets::csgoroll::Csgoroll,
};
use tempfile::TempDir;

/// Credential that must not appear in any output.
const PLANTED: &str = "s%3Aplanted-0f9c3e";

/// A working directory and environment to load settings from.
pub(crate) struct Workspace {
    pub(crate) directory: TempDir,
    environment: HashMap<String, String>,
    config_file: Option<String>,
    live: bool,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, environment: HashMap::new(), config_file: None, live: false }
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        make_private(&path);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn named(mut self, file: &str) -> Self {
        self.config_file = Some(file.to_owned());
        self
    }

    pub(crate) fn live(mut self) -> Self {
        self.live = true;
        self
    }

    pub(crate) fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(&Sources {
            lookup: &|name| self.environment.get(name).cloned(),
            directory: self.directory.path(),
            config_file: self.config_file.as_deref().map(Path::new),
            live: self.live,
            decimals: |_market| sniper::markets::csgoroll::DECIMALS,
        })
    }

    #[track_caller]
    pub(crate) fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Returns the configuration errors, one line each.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        lines(self.load().expect_err("there are problems").list())
    }
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[track_caller]
fn check_problems(workspace: &Workspace, expected: &[&str]) {
    let actual = workspace.problems();
    let fits = actual.len() == expected.len()
        && actual.iter().zip(expected).all(|(actual, expected)| actual.starts_with(expected));
    assert!(fits, "actual: {actual:#?}\nexpected: {expected:#?}");
}

const POLICY: &str =
    "[budget]\nmax_price = 5\ntotal = 9\n[[whitelist]]\nitem = \"x\"\nmax_price = 4\n";

#[test]
fn without_files_the_defaults_are_a_dry_run_with_an_empty_whitelist() {
    let loaded = Workspace::new().loaded();
    assert_eq!(loaded.config.mode, Mode::Dry);
    assert_eq!(loaded.config.endpoints.ws.to_string(), "wss://router.csgoroll.com/ws");
    assert_eq!(loaded.config.endpoints.http.to_string(), "https://router.csgoroll.com/graphql");
    assert!(loaded.config.whitelist.is_empty());
    assert_eq!((loaded.config.credential, loaded.config_file), (None, None));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn both_example_files_are_valid_without_changes() {
    let workspace = Workspace::new()
        .file(".env", include_str!("../../.env.example"))
        .file("sniper.toml", include_str!("../../sniper.example.toml"));
    let loaded = workspace.loaded();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.mode, Mode::Dry);
    assert_eq!(loaded.config.endpoints, Workspace::new().loaded().config.endpoints);
    assert_eq!(loaded.config.whitelist.len(), 1);
}

#[test]
fn the_env_example_lists_exactly_the_known_variables() {
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
fn the_environment_overrides_dotenv_and_empty_values_are_ignored() {
    let workspace = Workspace::new()
        .file(".env", "CSGOROLL_ORIGIN=https://a.example\nSNIPER_DATA=there\nRUST_LOG=debug\n")
        .variable("CSGOROLL_ORIGIN", "https://b.example/")
        .variable("SNIPER_DATA", " ");
    let loaded = workspace.loaded();
    assert_eq!(loaded.config.endpoints.origin, "https://b.example");
    assert_eq!(loaded.config.data_dir, workspace.directory.path().join("there"));
    assert_eq!(loaded.log_filter.as_deref(), Some("debug"));
}

#[test]
fn a_live_run_needs_a_credential_limits_and_a_whitelist() {
    check_problems(
        &Workspace::new().live(),
        &[
            "command line: file not found: sniper.toml; copy sniper.example.toml",
            "command line: live mode needs a credential; ",
        ],
    );
    let workspace = Workspace::new().file("sniper.toml", "[budget]\nmax_price = 5\n").live();
    check_problems(
        &workspace,
        &[
            "sniper.toml: the whitelist is empty",
            "sniper.toml:1:1: [budget] has no `total`",
            "command line: live mode needs a credential",
        ],
    );
    let workspace = Workspace::new()
        .file("sniper.toml", POLICY)
        .file(".env", format!("SNIPER_LIVE=true\nCSGOROLL_SESSION={PLANTED}\n"));
    let loaded = workspace.loaded();
    assert_eq!(loaded.config.mode, Mode::Live);
    let header = loaded.config.credential.unwrap();
    assert_eq!(header.value().reveal(), format!("session={PLANTED}"));
    let place = SourceLocation::Line { file: ".env".into(), line: 2 };
    assert_eq!(loaded.credential_source, Some(("CSGOROLL_SESSION", place)));
}

#[test]
fn sniper_live_accepts_yes_and_no_in_common_notations() {
    let workspace = |value| Workspace::new().variable("SNIPER_LIVE", value);
    assert_eq!(workspace("false").loaded().config.mode, Mode::Dry);
    for value in ["0", "No", "FALSE"] {
        assert_eq!(workspace(value).loaded().config.mode, Mode::Dry, "{value}");
    }
    let live = |value| {
        let workspace = workspace(value).file("sniper.toml", POLICY);
        workspace.variable("CSGOROLL_SESSION", PLANTED).loaded().config.mode
    };
    for value in ["true", "True", "1", "yes"] {
        assert_eq!(live(value), Mode::Live, "{value}");
    }
    check_problems(&workspace("2"), &["environment: SNIPER_LIVE is neither true nor false; "]);
}

#[test]
fn a_cookie_overrides_a_session() {
    let workspace = Workspace::new().file(
        ".env",
        format!("CSGOROLL_SESSION=other\nCSGOROLL_COOKIE='a=$b; session={PLANTED}'\n"),
    );
    let loaded = workspace.loaded();
    let header = loaded.config.credential.unwrap();
    assert_eq!(header.value().reveal(), format!("a=$b; session={PLANTED}"));
    assert_eq!(
        lines(&loaded.warnings),
        [
            ".env:2: CSGOROLL_COOKIE is used instead of CSGOROLL_SESSION (.env:1); \
             remove one of them",
            ".env:2: CSGOROLL_COOKIE contains a cookie whose value is shorter than 8 bytes, too short \
             to be masked in logs and recordings if the server repeats it; ignore this for settings \
             such as a language; remove cookies that the market does not need"
        ]
    );
}

#[test]
fn a_session_too_short_to_redact_is_warned_about() {
    let warnings = |session: &str| {
        lines(&Workspace::new().variable("CSGOROLL_SESSION", session).loaded().warnings)
    };
    assert_eq!(
        warnings("s%3Aabc"),
        [
            "environment: CSGOROLL_SESSION is shorter than 8 bytes, too short to be masked in logs and \
          recordings if the server repeats it; copy the whole value of the `session` cookie"
        ]
    );
    assert_eq!(warnings("s%3Aabcd"), Vec::<String>::new());
}

#[test]
fn every_secret_too_short_to_redact_is_warned_about() {
    const SETTINGS: &str = "[shared]\ngroup = \"main\"\nmember = \"a\"\ntotal = 9\n\
        [prices]\ncoin_usd = 0.65\n\
        [[prices.source]]\nname = \"list\"\nkind = \"csgotrader-csfloat\"\n\
        url = \"https://prices.test/?key=PRICE_QUERY\"\n\
        [[prices.source]]\nname = \"paid\"\nkind = \"pricempire\"\nkey_env = \"PRICE_KEY\"\n\
        [[alerts]]\nkind = \"telegram\"\ntoken_env = \"TELEGRAM_TOKEN\"\nchat_id = 1\n\
        [[alerts]]\nkind = \"ntfy\"\nurl_env = \"NTFY_URL\"\ntoken_env = \"NTFY_TOKEN\"\n\
        [heartbeat]\nurl_env = \"HEARTBEAT_URL\"\n";
    let templates = [
        ("SNIPER_SHARED_URL", "postgres://me:{}@localhost/b", "SNIPER_SHARED_URL"),
        ("CSGOROLL_WS_URL", "wss://market.test/ws?key={}", "CSGOROLL_WS_URL"),
        ("CSGOROLL_HTTP_URL", "https://market.test/graphql?token={}", "CSGOROLL_HTTP_URL"),
        ("PRICE_QUERY", "{}", "`url`"),
        ("PRICE_KEY", "{}", "PRICE_KEY"),
        ("TELEGRAM_TOKEN", "{}", "TELEGRAM_TOKEN"),
        ("NTFY_TOKEN", "{}", "NTFY_TOKEN"),
        ("HEARTBEAT_URL", "https://beat.test/push/long-enough-path?token={}", "HEARTBEAT_URL"),
    ];
    let warnings = |short: Option<&str>| {
        let named = POLICY.replace("item = ", "name = \"x\"\nitem = ");
        let mut settings = format!("{SETTINGS}{named}");
        let topic = "https://ntfy.test/topic-of-the-test";
        let mut workspace = Workspace::new().variable("NTFY_URL", topic);
        for (name, template, _) in templates {
            let secret = if short == Some(name) { "short-1" } else { "long-enough" };
            let value = template.replace("{}", secret);
            if name == "PRICE_QUERY" {
                settings = settings.replace(name, &value);
            }
            workspace = workspace.variable(name, &value);
        }
        lines(&workspace.file("sniper.toml", settings).loaded().warnings)
    };
    assert_eq!(warnings(None), Vec::<String>::new());
    for (name, _, shown) in templates {
        let warnings = warnings(Some(name));
        let expected = format!("{shown} contains a secret shorter than 8 bytes, too short to be");
        assert!(warnings.len() == 1 && warnings[0].contains(&expected), "{name}: {warnings:?}");
        assert!(!warnings[0].contains("short-1"), "{warnings:?}");
    }
}

/// `docker --env-file` keeps quotes, and so does a `.env` value with two pairs of quotes.
#[test]
fn a_quoted_value_is_rejected_from_every_source() {
    let quoted = "environment: SNIPER_DATA is in quotes; remove the quotes around the value";
    check_problems(&Workspace::new().variable("SNIPER_DATA", "'data/'"), &[quoted]);
    let workspace = Workspace::new().file(".env", format!("\nCSGOROLL_SESSION=\"'{PLANTED}'\"\n"));
    check_problems(&workspace, &[".env:2: CSGOROLL_SESSION is in quotes; remove the quotes"]);
    let workspace = Workspace::new().file(".env", format!("CSGOROLL_SESSION='{PLANTED}'\n"));
    assert_eq!(lines(&workspace.loaded().warnings), Vec::<String>::new());
}

/// After a logout, the user pastes a new cookie into `.env` while the bot runs.
#[test]
fn a_credential_is_reread_from_the_dotenv_file() {
    let again = |workspace: &Workspace, now: &str| {
        let source = workspace.loaded().config.credential_source.unwrap();
        fs::write(workspace.directory.path().join(".env"), now).unwrap();
        assert!(!format!("{source:?}").contains("planted"));
        source.read().map(|credential| credential.value().reveal().to_owned())
    };
    let workspace = || Workspace::new().file(".env", format!("CSGOROLL_SESSION={PLANTED}\n"));
    let check = |workspace: Workspace, now: &str, expected: Option<&str>| {
        assert_eq!(again(&workspace, now).as_deref(), expected, "now: {now}");
    };
    check(workspace(), "CSGOROLL_SESSION=new\n", Some("session=new"));
    check(workspace(), "CSGOROLL_COOKIE='a=b; c=d'\n", Some("a=b; c=d"));
    check(workspace(), "CSGOROLL_SESSION='\n", None);
    let session = || workspace().variable("CSGOROLL_SESSION", "fixed");
    check(session(), "CSGOROLL_SESSION=new\n", Some("session=fixed"));
    check(session(), "CSGOROLL_COOKIE=a=b\n", Some("a=b"));
    check(session().variable("CSGOROLL_COOKIE", "c=d"), "CSGOROLL_COOKIE=a=b\n", Some("c=d"));
}

#[test]
fn an_invalid_credential_is_reported_without_its_value() {
    for (name, value, expected) in [
        ("CSGOROLL_SESSION", "\"pl\\nanted\"", "contains a line break"),
        ("CSGOROLL_SESSION", "'planted; a=b'", "contains a space"),
        ("CSGOROLL_SESSION", "plänted", "contains a character that is not ASCII"),
        ("CSGOROLL_COOKIE", "planted", "contains no `name=value`"),
        ("CSGOROLL_COOKIE", "a=planted$b", "contains a $"),
    ] {
        let actual = Workspace::new().file(".env", format!("\n{name}={value}\n")).problems();
        let start = format!(".env:2: {name} {expected}");
        assert!(actual.len() == 1 && actual[0].starts_with(&start), "{actual:?}");
        assert!(!actual[0].contains("planted"), "{actual:?}");
    }
}

#[test]
fn an_unreadable_dotenv_line_is_reported_by_number_only() {
    let workspace =
        Workspace::new().file(".env", format!("A=1\nCSGOROLL_SESSION {PLANTED}\nB='\n"));
    check_problems(&workspace, &[".env:2: invalid line", ".env:3: invalid line"]);
    assert!(!format!("{:?}", workspace.load()).contains("planted"));
}

#[test]
fn invalid_urls_are_rejected() {
    let workspace = Workspace::new()
        .variable("CSGOROLL_WS_URL", "ws://example.com/ws")
        .variable("CSGOROLL_HTTP_URL", "ftp://example.com")
        .variable("CSGOROLL_ORIGIN", "https://example.com/page")
        .variable("CSGOROLL_USER_AGENT", "a\nb");
    check_problems(
        &workspace,
        &[
            "environment: CSGOROLL_WS_URL is unencrypted; ",
            "environment: CSGOROLL_HTTP_URL must begin with https://; write an address such as",
            "environment: CSGOROLL_ORIGIN contains a path; ",
            "environment: CSGOROLL_USER_AGENT is too long or not plain ASCII; ",
        ],
    );
}

#[test]
fn an_invalid_log_filter_is_rejected_with_a_hint() {
    let workspace = Workspace::new().variable("RUST_LOG", "sniper=loud");
    check_problems(
        &workspace,
        &["environment: RUST_LOG is not a valid filter; write error, warn, info"],
    );
    let workspace = Workspace::new().file(".env", "RUST_LOG=inof\n");
    check_problems(&workspace, &[".env:1: RUST_LOG is not a valid filter; did you mean `info`?"]);
}

#[test]
fn live_mode_rejects_feed_and_http_urls_of_different_markets() {
    let workspace = Workspace::new()
        .file("sniper.toml", POLICY)
        .variable("CSGOROLL_SESSION", PLANTED)
        .variable("CSGOROLL_WS_URL", "ws://127.0.0.1:1/ws");
    workspace.loaded();
    check_problems(
        &workspace.live(),
        &["command line: CSGOROLL_WS_URL and CSGOROLL_HTTP_URL are different markets"],
    );
}

#[test]
fn limits_of_unnamed_entries_that_a_shared_budget_does_not_share_are_warned_about() {
    let entry = |name: &str| {
        format!("[[whitelist]]\n{name}item = \"Fracture Case {}\"\nmax_price = 1\n", name.len())
    };
    let warnings = |entries: &str| {
        let shared = "[shared]\ngroup = \"main\"\ntotal = 5\nunit = \"coins\"\n";
        let policy = format!("[budget]\nmax_price = 1\ntotal = 5\n{shared}{entries}");
        let workspace = Workspace::new()
            .file("sniper.toml", policy)
            .variable("SNIPER_SHARED_URL", "postgres://me@localhost/b");
        lines(&workspace.loaded().warnings)
    };
    let (named, unnamed) = (entry("name = \"a\"\n"), entry(""));
    assert_eq!(warnings(&named), Vec::<String>::new());
    let shown = warnings(&format!("{named}{unnamed}"));
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].contains("1 entry without a `name`: each bot counts"), "{shown:?}");
}

#[test]
fn misspelled_variable_names_are_warned_about() {
    let workspace = Workspace::new().file(".env", "CSGOROLL_SESION=x\nSNIPER_LIVE=false\nHOME=x\n");
    assert_eq!(
        lines(&workspace.loaded().warnings),
        [".env:1: unknown variable CSGOROLL_SESION; did you mean CSGOROLL_SESSION?"]
    );
    let workspace = Workspace::new().file(".env", "SNIPER_DATA=a\nSNIPER_DATA=b\n");
    check_problems(&workspace, &[".env:2: SNIPER_DATA is already set in line 1; delete line 1"]);
    let workspace = Workspace::new().file(".env", "SNIPER_DATA=\nSNIPER_DATA=b\n");
    assert!(workspace.loaded().config.data_dir.ends_with("b"));
}

#[test]
fn an_explicit_config_file_must_exist_and_be_readable() {
    check_problems(
        &Workspace::new().named("my.toml"),
        &["command line: file not found: my.toml; "],
    );
    let workspace = Workspace::new().file(".env", "\nSNIPER_CONFIG=my.toml\n");
    check_problems(&workspace, &[".env:2: file not found: my.toml; "]);
    check_problems(&Workspace::new().named("."), &[".: cannot be read ("]);
    check_problems(
        &Workspace::new().file("sniper.toml", b"a = 1\nb = \"\xff\"\n"),
        &["sniper.toml:2: is not UTF-8"],
    );
    let loaded = Workspace::new()
        .file("conf/my.toml", POLICY)
        .variable("SNIPER_CONFIG", "conf/other.toml")
        .named("conf/my.toml")
        .loaded();
    assert!(loaded.config_file.unwrap().ends_with("conf/my.toml"));
}

#[test]
fn a_config_file_without_whitelist_entries_is_rejected() {
    check_problems(
        &Workspace::new().file("sniper.toml", ""),
        &["sniper.toml: the whitelist is empty, "],
    );
    let workspace =
        Workspace::new().file("sniper.toml", "whitelist_file = \"w.json\"").file("w.json", "[]");
    check_problems(&workspace, &["sniper.toml: the whitelist is empty, "]);
}

#[test]
fn a_json_whitelist_is_appended_and_resolved_relative_to_the_config_file() {
    let workspace = Workspace::new()
        .file("conf/my.toml", format!("whitelist_file = \"w/w.json\"\n{POLICY}"))
        .file("conf/w/w.json", r#"{"whitelist": [{"item": "y", "max_price": 6}]}"#)
        .named("conf/my.toml");
    let loaded = workspace.loaded();
    let labels: Vec<&str> = loaded.config.whitelist.iter().map(|entry| entry.label()).collect();
    assert_eq!(labels, ["x", "y"]);
    assert_eq!(
        lines(&loaded.warnings),
        ["conf/w/w.json:1:16: `max_price` 6.00 is above the 5.00 of [budget]; \
          the lower one applies; raise the one in [budget], or lower this one"]
    );
}

/// A whitelist entry with a percent rule, and a price source with these lines.
fn percent_policy(source: &str) -> String {
    format!(
        "{POLICY}max_quantity = 3\nmax_percent = 80\n[prices]\ncoin_usd = 0.65\n\
         [[prices.source]]\nname = \"own\"\n{source}"
    )
}

#[test]
fn a_price_file_is_resolved_relative_to_the_config_file_and_its_rule_is_shown() {
    let policy = percent_policy("kind = \"file\"\npath = \"p.csv\"\nunit = \"usd\"\n");
    let workspace = Workspace::new().file("conf/my.toml", policy).named("conf/my.toml");
    let location = &workspace.loaded().config.prices.sources[0].location;
    let expected = workspace.directory.path().join("conf/p.csv");
    assert!(matches!(location, PriceLocation::File(path) if *path == expected), "{location:?}");
    let CheckResult { text, json, .. } = workspace.check();
    let row = "  -     x     any   any         4.00     any         3  80.00 % of own.bid or ask\n";
    assert!(text.contains(row), "{text}");
    let entry = "x for 0.00 to 4.00, any markup, 3 at most at 80.00 % of own.bid or ask";
    assert_eq!(json["settings"]["whitelist"][0], entry);
}

#[test]
fn a_missing_or_quoted_key_of_a_price_source_is_a_problem_at_its_name() {
    let workspace =
        || Workspace::new().file("sniper.toml", percent_policy("kind = \"pricempire\"\n"));
    check_problems(
        &workspace(),
        &[
            "sniper.toml:11:1: PRICEMPIRE_KEY is not set; write the key of this source into .env as \
           PRICEMPIRE_KEY",
        ],
    );
    let quoted = workspace().variable("PRICEMPIRE_KEY", "'0123456789abcdef'");
    check_problems(
        &quoted,
        &["sniper.toml:11:1: PRICEMPIRE_KEY is not a key; remove the quotes around the value"],
    );
    let loaded = workspace().variable("PRICEMPIRE_KEY", "0123456789abcdef").loaded();
    assert!(loaded.config.prices.sources[0].key.is_some());
}

#[test]
fn only_a_live_bot_warms_caches_unless_the_settings_turn_it_off() {
    let warms = |mode: Mode, setting: &str| {
        let settings = format!("{POLICY}\n[speed]\n{setting}\n");
        let config = Workspace::new().file("sniper.toml", settings).loaded().config;
        Config { mode, ..config }.warms_caches()
    };
    assert!(warms(Mode::Live, ""));
    assert!(!warms(Mode::Live, "cache_warming = false"));
    assert!(!warms(Mode::Dry, "cache_warming = true"));
}

/// CPU 1023 does not exist on a machine that runs tests.
#[cfg(target_os = "linux")]
#[test]
fn a_cpu_that_does_not_exist_is_a_warning_with_its_place() {
    let speed = |cpu: &str| {
        Workspace::new().file("sniper.toml", format!("{POLICY}\n[speed]\npin_cpu = {cpu}\n"))
    };
    let loaded = speed("1023").loaded();
    let at = POLICY.lines().count() + 3;
    assert_eq!(
        lines(&loaded.warnings),
        [format!(
            "sniper.toml:{at}:1: CPU 1023 does not exist, or this process may not use it; the feed \
             is not bound to a CPU; CPUs are numbered from 0"
        )]
    );
    let shown = check::format_summary(&loaded, None);
    assert!(shown.contains("Speed        the feed's thread runs on CPU 1023 only\n"), "{shown}");
    let available = (0..1_024).find(|cpu| sniper::threads::affinity::is_available(*cpu)).unwrap();
    let loaded = speed(&available.to_string()).loaded();
    assert_eq!((loaded.warnings, loaded.config.speed.pin_cpu), (Vec::new(), Some(available)));
    check_problems(&speed("1024"), &[&format!("sniper.toml:{at}:11: `pin_cpu` is out of range")]);
}

#[test]
fn errors_of_all_files_are_reported_together() {
    let workspace = Workspace::new()
        .file(".env", "nonsense\nSNIPER_LIVE=perhaps\n")
        .file("sniper.toml", "whitelist_file = \"w.json\"\n[feed]\ngeneration = 3\n")
        .file("w.json", "[{\"item\": \"x\"}]")
        .variable("CSGOROLL_WS_URL", "x");
    check_problems(
        &workspace,
        &[
            ".env:1: invalid line",
            ".env:2: SNIPER_LIVE is neither true nor false",
            "environment: CSGOROLL_WS_URL must begin with wss://",
            "sniper.toml:3:14: `generation` must be text, not a number",
            "w.json:1:2: missing `max_price`",
        ],
    );
}

#[test]
fn a_byte_order_mark_and_crlf_line_ends_are_accepted() {
    let workspace = Workspace::new()
        .file(".env", "\u{feff}CSGOROLL_ORIGIN=https://a.example\r\n")
        .file(
            "sniper.toml",
            format!("\u{feff}whitelist_file = \"w.json\"\n{POLICY}").replace('\n', "\r\n"),
        )
        .file("w.json", "\u{feff}[]\r\n");
    let loaded = workspace.loaded();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.endpoints.origin, "https://a.example");
    assert_eq!(loaded.config.whitelist.len(), 1);
}

#[test]
fn the_documented_error_messages_are_exact() {
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
    let workspace = Workspace::new()
        .file(".env", "\nSNIPER_LIVE=perhaps\n")
        .file("sniper.toml", policy)
        .file("whitelist.json", whitelist);
    assert_eq!(workspace.problems(), shown);
}

#[test]
fn an_oversized_file_is_rejected() {
    let workspace = Workspace::new();
    let file = fs::File::create(workspace.directory.path().join("sniper.toml")).unwrap();
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    check_problems(&workspace, &["sniper.toml: is too large; reduce it to at most 64 MiB"]);
}

#[test]
fn a_dotenv_file_readable_by_others_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let workspace = Workspace::new().file(".env", "");
    let path = workspace.directory.path().join(".env");
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let warnings = lines(&workspace.loaded().warnings);
        assert_eq!(warnings, [".env: other users can read this file; run: chmod 600 .env"]);
    }
}

impl Workspace {
    /// Returns the result of `sniper check`.
    fn check(&self) -> CheckResult {
        let loaded = self.load();
        let measure = |Loaded { config, .. }: &Loaded| {
            check::check_market(&Csgoroll::new(config), config).unwrap()
        };
        CheckResult::of(&loaded, loaded.as_ref().ok().map(measure).as_ref())
    }
}

#[test]
fn the_market_is_a_setting_and_its_decimals_apply_to_every_file() {
    let entries = r#"[{"item": "x", "max_price": 1.505}]"#;
    let workspace = Workspace::new()
        .file("sniper.toml", "market = \"csgoroll\"\nwhitelist_file = \"list.json\"\n")
        .file("list.json", entries);
    assert_eq!(workspace.problems().len(), 1);
    let sources = Sources {
        lookup: &|_name| None,
        directory: workspace.directory.path(),
        config_file: None,
        live: false,
        decimals: |market| match market {
            Market::Csgoroll => Decimals::Three,
            Market::LisSkins | Market::Waxpeer => Decimals::Two,
        },
    };
    let config = Config::load(&sources).unwrap().config;
    assert_eq!(config.market, Market::Csgoroll);
    assert_eq!(config.whitelist[0].max_price, Amount::from_thousandths(1_505));
}

#[test]
fn check_prints_the_effective_settings() {
    let entries: String = (1..25)
        .map(|index| format!("[[whitelist]]\nitem = \"Item {index}\"\nmax_price = 6\n"))
        .collect();
    let workspace = Workspace::new()
        .file("sniper.toml", format!("{POLICY}{entries}"))
        .variable("CSGOROLL_SESSION", PLANTED)
        .live();
    let CheckResult { text: out, json: object, code } = workspace.check();
    assert_eq!(code, 0);
    for expected in [
        "The settings are valid.",
        "LIVE: spends real money",
        "wss://router.csgoroll.com/ws, generation B",
        "CSGOROLL_SESSION (environment), not shown",
        "  price per item              5.00\n  total                       9.00\n",
        "25 entries",
        "  -     x        any   any         4.00  0.00 %         1\n",
        "… and 5 more",
        "Order size   5",
        " bytes with TLS, in one TCP segment (1428 bytes)\n",
        "sniper.toml:7:1: `max_price` 6.00 is above the 5.00 of [budget]",
    ] {
        assert!(out.contains(expected), "expected: {expected}\nout: {out}");
    }
    assert_eq!(object["ok"], true);
    assert_eq!(object["mode"], "live");
    assert_eq!(object["settings"]["budget"]["max_price"], "5.00");
    assert_eq!(object["settings"]["whitelist"].as_array().unwrap().len(), 25);
    let order = &object["order_request"];
    assert_eq!((&order["tls"], &order["excess_bytes"]), (&true.into(), &0.into()), "{order}");
    let long = workspace.variable("CSGOROLL_COOKIE", &format!("session={}", "x".repeat(2_000)));
    let out = long.check().text;
    let line = out.lines().find(|line| line.starts_with("Order size")).unwrap();
    assert!(
        line.contains(" more than one TCP segment (1428 bytes): Cookie 2018 bytes, "),
        "{line}"
    );
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
fn check_exits_with_78_for_invalid_settings() {
    let workspace = Workspace::new().file("sniper.toml", "[budgt]\n");
    let CheckResult { text: out, json: object, code } = workspace.check();
    assert_eq!((code, &object["ok"]), (78, &false.into()));
    let expected = "sniper.toml:1:2: unknown setting `budgt`; did you mean `budget`?\n";
    assert!(out.starts_with(expected), "{out}");
    assert!(out.ends_with("\n2 errors in the settings\n"), "{out}");
    assert_eq!(object["problems"][0]["place"], "sniper.toml:1:2");
    assert_eq!(object["problems"][1]["place"], "sniper.toml");
}

#[test]
fn a_credential_appears_in_no_output() {
    let whole = format!("cf_clearance={PLANTED}; session={PLANTED}");
    let workspaces = [
        Workspace::new().variable("CSGOROLL_SESSION", PLANTED),
        Workspace::new().variable("CSGOROLL_COOKIE", &whole),
        Workspace::new().variable("CSGOROLL_COOKIE", &whole).variable("CSGOROLL_SESSION", PLANTED),
        Workspace::new().variable("CSGOROLL_SESSION", &whole),
        Workspace::new()
            .variable("CSGOROLL_SESSION", &format!("{PLANTED}\n"))
            .variable("SNIPER_LIVE", "x"),
        Workspace::new().variable("CSGOROLL_COOKIE", &format!("{PLANTED}\u{1b}")),
        Workspace::new().file(".env", format!("CSGOROLL_SESSION={PLANTED} {PLANTED}\n")),
        Workspace::new().file(".env", format!("CSGOROLL_SESSION='{PLANTED}\n")),
        Workspace::new().file(".env", format!("CSGOROLL_SESION={PLANTED}\n{PLANTED}=1\n")),
        Workspace::new().file(".env", format!("CSGOROLL_SESSION={PLANTED}$x\n")),
        Workspace::new().file("sniper.toml", "x").variable("CSGOROLL_SESSION", PLANTED).live(),
    ];
    for workspace in workspaces {
        let mut seen = format!("{:?}", workspace.load());
        let CheckResult { text, json, .. } = workspace.check();
        seen.push_str(&format!("{text}\n{json}"));
        assert!(!seen.contains("planted"), "{seen}");
    }
}

const CHANNELS: &str = r#"
[[alerts]]
kind = "discord"
url_env = "DISCORD_WEBHOOK_URL"
silent = ["halted"]
off = ["bought"]
[[alerts]]
kind = "telegram"
token_env = "TELEGRAM_TOKEN"
chat_id = -1001234
[[alerts]]
kind = "ntfy"
url_env = "NTFY_URL"
[[alerts]]
kind = "webhook"
url_env = "HOOK_URL"
secret_env = "HOOK_SECRET"
[alert_rules]
quiet_hours = "23:00-07:00"
[heartbeat]
url_env = "HEARTBEAT_URL"
style = "push"
every_s = 30
"#;

#[test]
fn alert_channels_take_their_secrets_from_the_environment_and_show_none() {
    let dotenv = "DISCORD_WEBHOOK_URL=https://discord.com/api/webhooks/1/discord-token-0001\n\
                  TELEGRAM_TOKEN=123:telegram-token-0001\nNTFY_URL=https://ntfy.sh/topic-of-tests-1\n\
                  HOOK_URL=https://example.com/hook-of-tests-01\n\
                  HOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n\
                  HEARTBEAT_URL=https://hc-ping.com/heartbeat-uuid-01\n";
    let loaded = Workspace::new()
        .file("sniper.toml", format!("{POLICY}{CHANNELS}"))
        .file(".env", dotenv)
        .loaded();
    let alerts = &loaded.config.alerts;
    let kinds: Vec<_> =
        alerts.channels.iter().map(|channel| channel.target.kind().name()).collect();
    assert_eq!(kinds, ["discord", "telegram", "ntfy", "webhook"]);
    let [discord, telegram, ..] = &alerts.channels[..] else { panic!() };
    assert_eq!(discord.loudness(AlertKind::Bought), Loudness::Off);
    assert_eq!(discord.loudness(AlertKind::Halted), Loudness::Silent);
    assert_eq!(telegram.loudness(AlertKind::Bought), Loudness::Silent);
    assert_eq!(telegram.loudness(AlertKind::Halted), Loudness::On);
    assert_eq!(alerts.rules.feed_down_after, Duration::from_secs(60));
    assert_eq!(alerts.heartbeat.as_ref().unwrap().every, Duration::from_secs(30));
    let shown = format!("{alerts:?} {}", check::format_summary(&loaded, None));
    for secret in ["token-0001", "topic-of", "hook-of", "MfKQ9r8G", "heartbeat-uuid"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn a_missing_or_invalid_secret_of_an_alert_channel_is_a_problem_at_its_name() {
    let dotenv = "DISCORD_WEBHOOK_URL=http://discord.com/api/webhooks/1/discord-token-0002\n\
                  NTFY_URL=https://ntfy.sh/\nHOOK_URL='https://example.com/hook-of-tests-02'\n\
                  HOOK_SECRET=whsec_short\nHEARTBEAT_URL=https://hc-ping.com/heartbeat-uuid-02\n";
    let workspace =
        Workspace::new().file("sniper.toml", format!("{POLICY}{CHANNELS}")).file(".env", dotenv);
    check_problems(
        &workspace,
        &[
            "sniper.toml:10:1: DISCORD_WEBHOOK_URL is unencrypted; ",
            "sniper.toml:15:1: TELEGRAM_TOKEN is not set; write it into .env as TELEGRAM_TOKEN=…",
            "sniper.toml:19:1: NTFY_URL names no topic; ",
            "sniper.toml:23:1: HOOK_SECRET is not a secret of Standard Webhooks; ",
        ],
    );
}

#[test]
fn a_variable_of_an_alert_channel_that_env_sets_twice_is_one_problem_at_its_line() {
    let channel = "[[alerts]]\nkind = \"ntfy\"\nurl_env = \"HOOK_URL\"\n";
    let policy = format!("{POLICY}{channel}{channel}[heartbeat]\nurl_env = \"HOOK_URL\"\n");
    let workspace = |first: &str| {
        let dotenv = format!("HOOK_URL={first}\n\nHOOK_URL=https://ntfy.sh/topic\n");
        Workspace::new().file("sniper.toml", &policy).file(".env", dotenv)
    };
    let expected = ".env:3: HOOK_URL is already set in line 1; delete line 1 to use this value";
    check_problems(&workspace("https://ntfy.sh/old"), &[expected]);
    assert_eq!(workspace("").loaded().config.alerts.channels.len(), 2);
}

#[test]
fn mistakes_in_alert_channels_are_reported_with_their_line_and_a_suggestion() {
    let channels = r#"
[[alerts]]
kind = "discrod"
[[alerts]]
kind = "ntfy"
url_env = "https://ntfy.sh/a-topic-in-the-wrong-place"
chat_id = 1
silent = ["baught"]
[alert_rules]
daily_summary_at = "8"
quiet_hours = "07:00-07:00"
feed_down_after = 60
[heartbeat]
every_s = 1
"#;
    let workspace = Workspace::new().file("sniper.toml", format!("{POLICY}{channels}"));
    check_problems(
        &workspace,
        &[
            "sniper.toml:9:1: `kind` cannot be \"discrod\"; did you mean `discord`?",
            "sniper.toml:12:1: `url_env` is not the name of a variable in upper case; ",
            "sniper.toml:13:1: `chat_id` does not belong to kind \"ntfy\"; ",
            "sniper.toml:14:11: unknown event \"baught\"; did you mean `bought`?",
            "sniper.toml:16:1: `daily_summary_at` is not a time of day; ",
            "sniper.toml:17:1: `quiet_hours` is not a range of times; ",
            "sniper.toml:18:1: unknown key `feed_down_after` in [alert_rules]; did you mean `feed_down_after_s`?",
            "sniper.toml:19:1: missing `url_env`; ",
            "sniper.toml:20:11: `every_s` is out of range; ",
        ],
    );
}

#[test]
fn a_secret_in_the_place_of_the_name_of_its_variable_is_not_shown() {
    for (channel, value) in [
        ("kind = \"ntfy\"\nurl_env = \"NTFY_URL\"\ntoken_env", "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"),
        (
            "kind = \"webhook\"\nurl_env = \"HOOK_URL\"\nsecret_env",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZI",
        ),
    ] {
        let policy = format!("{POLICY}\n[[alerts]]\n{channel} = \"{value}\"\n");
        let workspace = Workspace::new().file("sniper.toml", policy);
        let problems = workspace.problems().join("\n");
        assert!(problems.contains("is not the name of a variable in upper case; "), "{problems}");
        assert!(!problems.contains(value), "{problems}");
        assert!(!sniper::secret::mask(&format!("read {value}")).contains(value));
    }
}
