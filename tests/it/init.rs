//! `sniper init` as a user starts it: with options, and with questions at a terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// Credential that must not appear in any output.
const PLANTED: &str = "s%3Aplanted-in-init-3c9e";

/// A complete set of options except for the secret.
const OPTIONS: [&str; 9] = [
    "init",
    "--total",
    "30",
    "--max-price",
    "10",
    "--item",
    "AK-47 | Redline (Field-Tested)",
    "--entry-max-price",
    "9.50",
];

fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.args(args).current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

/// Runs the program with this standard input.
fn run(directory: &Path, args: &[&str], input: &str) -> Output {
    let mut command = command(directory, args);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A program that does not read it has closed it.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

/// Returns standard output and error, in which the secret must not appear.
#[track_caller]
fn text(output: &Output) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains("planted-in-init"), "{text}");
    text
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Checks that both files exist and that the program accepts them for a live run.
#[track_caller]
fn assert_is_ready(directory: &Path) -> String {
    assert_eq!(names(directory), [".env", "sniper.toml"]);
    assert_eq!(mode(&directory.join(".env")), 0o600);
    let checked = command(directory, &["check", "--live"]).output().unwrap();
    let shown = text(&checked);
    assert_eq!(checked.status.code(), Some(0), "{shown}");
    assert!(!shown.contains("Warnings"), "{shown}");
    shown
}

#[test]
fn init_writes_private_settings_that_check_accepts() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let done = run(directory, &OPTIONS, &format!("Cookie: session={PLANTED}\n"));
    let shown = text(&done);
    assert_eq!(done.status.code(), Some(0), "{shown}");
    assert!(shown.contains("sniper doctor") && shown.contains("sniper run"), "{shown}");
    let checked = assert_is_ready(directory);
    assert!(checked.contains("ak-47-redline-field-tested"), "{checked}");
    let secrets = fs::read_to_string(directory.join(".env")).unwrap();
    assert!(secrets.ends_with(&format!("\nCSGOROLL_SESSION={PLANTED}\n")), "{secrets}");
    let settings = fs::read_to_string(directory.join("sniper.toml")).unwrap();
    assert!(settings.contains("\nname = \"ak-47-redline-field-tested\"\n"), "{settings}");
}

#[test]
fn init_reads_the_session_from_a_file_and_a_percentage_has_a_price_source() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = other.path().join("cookie.txt");
    fs::write(&file, format!("lang=english1; session={PLANTED}; cf_clearance=planted-in-init-c"))
        .unwrap();
    let file = ["--session-file", file.to_str().unwrap(), "--json", "--yes"];
    let percent = ["init", "--total=30", "--max-price=10", "--item=*", "--max-percent=88"];
    let args = [&percent[..], &["--coin-usd=0.65", "--max-quantity=2"], &file].concat();
    let done = run(directory.path(), &args, "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["written"], serde_json::json!([".env", "sniper.toml"]));
    assert_eq!(json["warnings"], serde_json::json!([]));
    let checked = assert_is_ready(directory.path());
    assert!(checked.contains("CSGOROLL_COOKIE") && checked.contains("every item"), "{checked}");
}

#[test]
fn init_never_overwrites_a_file() {
    for existing in [".env", "sniper.toml", "dangling"] {
        let directory = TempDir::new().unwrap();
        let directory = directory.path();
        let name = if existing == "dangling" {
            std::os::unix::fs::symlink("nowhere", directory.join("sniper.toml")).unwrap();
            "sniper.toml"
        } else {
            fs::write(directory.join(existing), "# mine\n").unwrap();
            existing
        };
        let done = run(directory, &OPTIONS, PLANTED);
        let shown = text(&done);
        assert_eq!(done.status.code(), Some(1), "{shown}");
        assert!(shown.contains(&format!("{name} exists already")), "{shown}");
        assert_eq!(names(directory), [name]);
        if existing != "dangling" {
            assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), "# mine\n");
        }
    }
}

#[test]
fn without_questions_init_names_what_is_missing_or_wrong_and_writes_nothing() {
    let missing = [
        (&["init"][..], "--total, --max-price, --item, --entry-max-price;"),
        (&["init", "--item=*", "--max-percent=88"], "--total, --max-price, --coin-usd, --entry-m"),
        (&["init", "--yes", "--total=1x"], "--total: \"1x\" is not a number"),
        (&["init", "--total=0"], "--total: `total` is zero"),
        (&["init", "--item=AK-47 | Redline (Feld-Tested)"], "did you mean `(Field-Tested)`?"),
    ];
    for (args, expected) in missing {
        let directory = TempDir::new().unwrap();
        let done = run(directory.path(), args, PLANTED);
        let shown = text(&done);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {shown}");
        assert!(shown.contains(expected), "{args:?}: {shown}");
        assert_eq!(names(directory.path()), [""; 0]);
    }
    let sessions = [
        (&[][..], "", 2, "--session-file (or --guest)"),
        (&[], "lang=planted-in-init-1", 1, "contains no `session` cookie"),
        (&["--session-file", PLANTED], "", 1, "cannot read the session cookie"),
        // The secret is no value of an option.
        (&["--session", PLANTED], "", 2, "--session"),
    ];
    for (more, input, code, expected) in sessions {
        let directory = TempDir::new().unwrap();
        let done = run(directory.path(), &[&OPTIONS, more].concat(), input);
        let shown = text(&done);
        assert_eq!(done.status.code(), Some(code), "{more:?}: {shown}");
        assert!(shown.contains(expected), "{more:?}: {shown}");
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

#[test]
fn the_item_of_init_is_compared_with_the_known_names() {
    let directory = TempDir::new().unwrap();
    let mut options = OPTIONS;
    options[6] = "ak-47 | redline";
    let done = run(directory.path(), &options, PLANTED);
    let shown = text(&done);
    assert_eq!(done.status.code(), Some(0), "{shown}");
    assert!(shown.contains("`ak-47 | redline` matches no listing"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_written_leaves_none() {
    let directory = TempDir::new().unwrap();
    let args = [&OPTIONS[..], &["--config", "absent/sniper.toml"]].concat();
    let done = run(directory.path(), &args, PLANTED);
    assert_eq!(done.status.code(), Some(71), "{}", text(&done));
    assert!(text(&done).contains("absent/sniper.toml"), "{}", text(&done));
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn init_writes_the_variables_of_the_chosen_market() {
    let other = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = other.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = file("key.txt", "planted-in-init-key-0123456789\n");
    let url = "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=PlAnTed1";
    let url = file("url.txt", url);
    let secrets = ["--key-file", &key, "--trade-url-file", &url];
    for (market, user) in [("waxpeer", &[][..]), ("lis-skins", &["--user-id", "4711"])] {
        let directory = TempDir::new().unwrap();
        let directory = directory.path();
        let args = [&OPTIONS[..], &["--market", market, "--yes"], &secrets, user].concat();
        let done = run(directory, &args, "");
        let shown = text(&done);
        assert_eq!(done.status.code(), Some(0), "{market}: {shown}");
        assert!(!shown.contains("PlAnTed1"), "{shown}");
        assert_is_ready(directory);
        let settings = fs::read_to_string(directory.join("sniper.toml")).unwrap();
        assert!(settings.contains(&format!("market = \"{market}\"")), "{settings}");
        assert!(settings.contains("in USD") && !settings.contains("coin_usd"), "{settings}");
    }
    for (args, expected) in [
        (
            &["--market=lis-skins", "--guest"][..],
            "--guest: a dry run needs a key, too, at LIS-SKINS",
        ),
        (&["--trade-url-file", &url], "--trade-url-file: orders name no trade URL at CSGORoll"),
        (&["--market=waxpeer", "--user-id=1"], "--user-id: no number of an account is needed at"),
        (&["--market=lis-skins", "--key-file", &key, "--user-id=x"], "is not the number of an acc"),
        (&["--market=waxpeer", "--key-file", &key, "--coin-usd=1", "--max-percent=8"], "coin_usd"),
        (&["--guest", "--coin-usd=0.65"], "--max-percent <PERCENT>"),
    ] {
        let directory = TempDir::new().unwrap();
        let done = run(directory.path(), &[&OPTIONS[..], args, &["--yes"]].concat(), "");
        let shown = text(&done);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {shown}");
        assert!(shown.contains(expected), "{args:?}: {shown}");
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn at_a_terminal_init_asks_again_after_a_mistake_and_does_not_show_the_secret() {
    let directory = TempDir::new().unwrap();
    let (controller, program) = crate::terminal::terminal();
    let side = || Stdio::from(program.try_clone().unwrap());
    let mut command = command(directory.path(), &["init"]);
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    drop(command);
    drop(program);
    let mut shown = String::new();
    for (question, answer) in [
        ("Session cookie (Enter", "lang=planted-in-init-1"),
        ("copy it again.\r\nSession cookie (Enter", PLANTED),
        ("Budget: coins to spend in all", "30 coins"),
        ("is not a number; write digits", "30"),
        ("Maximum price of one order", "10"),
        ("go below [5.00]", ""),
        ("First item", "AK-47 | Redline"),
        ("no percentage)", ""),
        ("Maximum price of this item", "9.50"),
        ("Maximum number of this item [1]", ""),
    ] {
        read_until(&controller, question, &mut shown);
        (&controller).write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    read_until(&controller, "sniper run", &mut shown);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!shown.contains("planted"), "{shown}");
    assert_is_ready(directory.path());
}

/// Reads what the program shows after the last answer, up to a text and the end of its prompt.
#[cfg(target_os = "linux")]
fn read_until(mut controller: &fs::File, text: &str, shown: &mut String) {
    use std::io::Read as _;
    let from = shown.len();
    let mut buffer = [0; 256];
    while !shown[from..].split_once(text).is_some_and(|(_, rest)| rest.contains([':', '\n'])) {
        let count = controller.read(&mut buffer).unwrap();
        shown.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap()));
    }
}
