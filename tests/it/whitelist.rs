//! `sniper whitelist add` and `remove` as a user starts them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const SETTINGS: &str = "\
# My limits.
[budget]
max_price = 20.00   # per item
total = 100

# Cheap ones.
[[whitelist]]
name = \"redline\"
item = \"AK-47 | Redline\"
max_price = 12.50

# Everything else stays as it is.
[feed]
connections = 2
";

fn settings(text: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sniper.toml"), text).unwrap();
    directory
}

fn run(directory: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.arg("whitelist").args(args).current_dir(directory.path());
    command.env_clear().stdin(Stdio::null()).output().unwrap()
}

fn shown(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn read(directory: &TempDir) -> String {
    fs::read_to_string(directory.path().join("sniper.toml")).unwrap()
}

/// Runs a command that must change nothing, and checks its exit code and message.
#[track_caller]
fn assert_rejected(directory: &TempDir, args: &[&str], (code, message): (i32, &str)) {
    let before = read(directory);
    let output = run(directory, args);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(message), "{text}");
    assert_eq!(read(directory), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn an_entry_is_added_with_every_key_and_removed_again() {
    let directory = settings(SETTINGS);
    let path = directory.path().join("sniper.toml");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let knives = [
        "--wear=FN,MW",
        "--stattrak",
        "--float-min=0.01",
        "--float-max=0.08",
        "--min-price=1",
        "--max-price=15.50",
        "--max-markup-percent=2.5",
        "--max-quantity=3",
        "--max-total=40",
        "--max-age-s=60",
        "--category=knife,gloves",
        "--rarity=covert",
        "--exclude=* | Night",
        "--exclude=* | Safari Mesh",
    ];
    let args = [&["add", "*", "--name", "good knives"], &knives[..]].concat();
    let output = run(&directory, &args);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("Entry \"good knives\" added to ./sniper.toml"), "{text}");
    assert!(text.contains("sniper reload"), "{text}");
    let added = "
[[whitelist]]
name = \"good knives\"
item = \"*\"
wear = [\"FN\", \"MW\"]
stattrak = true
float_min = 0.01
float_max = 0.08
min_price = 1
max_price = 15.50
max_markup_percent = 2.5
max_quantity = 3
max_total = 40
max_age_s = 60
category = [\"knife\", \"gloves\"]
rarity = [\"covert\"]
exclude = [\"* | Night\", \"* | Safari Mesh\"]
";
    let (before, after) = SETTINGS.split_at(SETTINGS.find("\n# Everything").unwrap());
    assert_eq!(read(&directory), format!("{before}{added}{after}"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let exported = shown(&run(&directory, &["export"]));
    assert!(exported.contains("\"max_markup_percent\":2.5"), "{exported}");
    assert_eq!(run(&directory, &["remove", "good knives"]).status.code(), Some(0));
    assert_eq!(read(&directory), SETTINGS);
}

#[test]
fn a_name_is_derived_from_the_item_and_a_second_one_needs_another() {
    let directory = settings(SETTINGS);
    let item = ["add", "AWP | Asiimov", "--max-price=25", "--json"];
    let output = run(&directory, &item);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["entry"], "awp-asiimov");
    assert!(json["warnings"].to_string().contains("above the 20.00 of [budget]"), "{json}");
    assert_rejected(&directory, &item, (1, "--name awp-asiimov-2"));
}

#[test]
fn an_edit_that_would_make_the_settings_invalid_changes_nothing() {
    let directory = settings(SETTINGS);
    let check = |args: &[&str], expected| assert_rejected(&directory, args, expected);
    check(&["add", "AK-47 | Redline (Feld-Tested)", "--max-price=1"], (78, "(Field-Tested)"));
    check(&["add", "x", "--max-price=0"], (78, "`max_price` is zero"));
    check(&["add", "x", "--max-price=1,50"], (2, "\"1,50\" is not a number"));
    check(&["add", "x", "--max-price=5", "--wear=FX"], (78, "unknown wear \"FX\""));
    check(&["add", "x", "--max-price=5", "--max-percent=80"], (78, "prices"));
    check(&["remove", "redlin"], (1, "did you mean \"redline\"?"));
    // Only entry.
    check(&["remove", "redline"], (78, "the whitelist is empty"));
    let broken = settings("[budget\n");
    assert_rejected(&broken, &["add", "x", "--max-price=5"], (1, "sniper check"));
    let empty = TempDir::new().unwrap();
    let output = run(&empty, &["remove", "x"]);
    assert_eq!(output.status.code(), Some(78), "{}", shown(&output));
    assert!(shown(&output).contains("sniper init"));
}

#[test]
fn entries_without_a_name_and_of_another_file_are_told_apart() {
    let unnamed = "\n[[whitelist]]\nitem = \"Fracture Case\"\nmax_price = 2\n";
    let directory = settings(&format!("{SETTINGS}{unnamed}"));
    assert_eq!(run(&directory, &["remove", "Fracture Case"]).status.code(), Some(0));
    assert_eq!(read(&directory), SETTINGS);
    let other = settings(&format!("whitelist_file = \"list.json\"\n{SETTINGS}"));
    let list = "[{\"name\": \"case\", \"item\": \"Fracture Case\", \"max_price\": 2}]";
    fs::write(other.path().join("list.json"), list).unwrap();
    let output = run(&other, &["remove", "case"]);
    assert!(shown(&output).contains("entries of list.json are edited there"), "{}", shown(&output));
    let taken = run(&other, &["add", "x", "--name=case", "--max-price=1"]);
    assert_eq!(taken.status.code(), Some(78), "{}", shown(&taken));
    assert!(shown(&taken).contains("duplicate name \"case\""));
}

#[test]
fn a_link_to_the_settings_stays_a_link() {
    let directory = settings(SETTINGS);
    let target = directory.path().join("real.toml");
    fs::rename(directory.path().join("sniper.toml"), &target).unwrap();
    symlink(Path::new("real.toml"), directory.path().join("sniper.toml")).unwrap();
    assert_eq!(run(&directory, &["add", "x", "--max-price=5"]).status.code(), Some(0));
    assert!(fs::read_link(directory.path().join("sniper.toml")).is_ok());
    assert!(fs::read_to_string(target).unwrap().contains("name = \"x\""));
}

#[test]
fn check_shows_the_limits_of_groups() {
    let groups = "[groups.rifles]\nmax_total = 40\nmax_quantity = 3\n";
    let grouped = SETTINGS.replace("12.50", "12.50\ngroup = \"rifles\"");
    let directory = settings(&format!("{groups}{grouped}"));
    let text = check(&directory);
    assert!(text.contains("Groups\n  rifles              total 40.00, quantity 3\n"), "{text}");
    assert!(text.contains("group rifles\n") && !text.contains("Warnings"), "{text}");
    let added = ["add", "AWP | Asiimov", "--max-price=9", "--group"];
    let unknown = [&added[..], &["rifle"]].concat();
    assert_rejected(&directory, &unknown, (78, "unknown group \"rifle\"; did you mean `rifles`?"));
    assert_eq!(run(&directory, &[&added[..], &["rifles"]].concat()).status.code(), Some(0));
}

/// As in a running bot.
#[test]
fn without_a_bot_an_entry_that_was_added_to_a_paused_group_stays_paused() {
    let grouped = SETTINGS.replace("12.50\n", "12.50\ngroup = \"rifles\"\n")
        + "\n[groups.rifles]\nmax_quantity = 9\n";
    let directory = settings(&grouped);
    let done = |args: &[&str]| {
        let output = run(&directory, args);
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        shown(&output)
    };
    done(&["pause", "--group", "rifles"]);
    done(&["add", "AWP | Asiimov", "--max-price=15", "--group=rifles"]);
    done(&["enable", "redline"]);
    let list = done(&["list"]);
    let is = |name: &str, state: &str| {
        list.lines().any(|line| line.starts_with(name) && line.ends_with(state))
    };
    assert!(is("redline", " on") && is("awp-asiimov", " paused"), "{list}");
    done(&["remove", "awp-asiimov"]);
    // Its pause is kept until it is enabled.
    done(&["enable", "awp-asiimov"]);
    let unknown = run(&directory, &["enable", "awp-asiimov"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", shown(&unknown));
}

/// Settings with a price list of all items, as far as the program can tell.
fn with_prices(entries: &str) -> TempDir {
    let directory = settings(&format!(
        "[prices]\ncoin_usd = 1\n\n[[prices.source]]\nname = \"own\"\nkind = \"file\"\n\
         path = \"prices.csv\"\nunit = \"usd\"\n\n{entries}"
    ));
    let mut prices = "name,ask\n".to_owned();
    for number in 0..1_000 {
        prices.push_str(&format!("Sticker | Number {number},1\n"));
    }
    for wear in ["Minimal Wear", "Field-Tested", "Battle-Scarred"] {
        prices.push_str(&format!("AK-47 | Redline ({wear}),10\n"));
    }
    fs::write(directory.path().join("prices.csv"), prices).unwrap();
    let mut update = Command::new(env!("CARGO_BIN_EXE_sniper"));
    update.args(["prices", "update"]).current_dir(directory.path()).env_clear();
    let updated = update.stdin(Stdio::null()).output().unwrap();
    assert_eq!(updated.status.code(), Some(0), "{}", shown(&updated));
    directory
}

fn check(directory: &TempDir) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command.arg("check").current_dir(directory.path()).env_clear();
    let checked = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));
    shown(&checked)
}

#[test]
fn items_that_no_price_source_knows_are_warned_of_and_their_case_is_corrected() {
    let entry = |keys: &str| format!("[[whitelist]]\nmax_price = 5\n{keys}\n\n");
    let entries = [
        entry("item = \"AK-47 | Redlien\""),
        entry("name = \"lower\"\nitem = \"ak-47|redline\""),
        entry("name = \"new\"\nitem = \"AK-47 | Redline\"\nwear = [\"FN\", \"MW\"]"),
        entry("name = \"st\"\nitem = \"AK-47 | Redline\"\nstattrak = true"),
        entry("name = \"all\"\nitem = \"*\"\nexclude = [\"sticker|number 1*\", \"Stickers | *\"]"),
        entry("name = \"count\"\nitem = \"Sticker | Number 1\"\nmax_percent = 80\nmin_count = 3"),
    ];
    let directory = with_prices(&entries.concat());
    let text = check(&directory);
    let misspelled = "`AK-47 | Redlien` is not a known item; did you mean `AK-47 | Redline`?";
    for expected in [
        misspelled,
        "there is no Factory New `AK-47 | Redline`: it is known in MW, FT, BS; correct `wear`",
        "no price source knows a StatTrak™ `AK-47 | Redline`; the entry matches no listing",
        "every item but StatTrak™ and Souvenir",
        "`exclude` \"Stickers | *\" leaves out no known item",
        "\"own.ask\" states no number of offers; remove `min_count`, which allows no order by it",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text.matches("sniper.toml:").count(), 5, "{text}");
    let exported = shown(&run(&directory, &["export"]));
    assert_eq!(exported.matches("\"AK-47 | Redline\"").count(), 3, "{exported}");
    // A new entry is warned of when it is added, the others are not again.
    let added = shown(&run(&directory, &["add", "AK-47 | Redliine", "--max-price=5"]));
    assert!(
        added.contains("did you mean `AK-47 | Redline`?") && !added.contains(misspelled),
        "{added}"
    );
}

#[test]
fn an_imported_name_that_no_price_source_knows_is_named_with_a_similar_one() {
    let directory = with_prices("[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 5\n");
    fs::write(directory.path().join("items.csv"), "name,price\nAK-47 | Redlien,5\n").unwrap();
    let text = shown(&run(&directory, &["import", "items.csv"]));
    let named = "No price source knows AK-47 | Redlien; did you mean AK-47 | Redline?\n";
    assert!(text.contains(named), "{text}");
    let output = run(&directory, &["import", "items.csv", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!([{"name": "AK-47 | Redlien", "similar": "AK-47 | Redline"}]);
    assert_eq!(json["unknown"], expected, "{json}");
}

/// An import of one row for the item of an entry of `sniper.toml`.
struct OwnEntry {
    directory: TempDir,
}

const OWN: &str = "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 20\n";

impl OwnEntry {
    fn new(price: u32) -> Self {
        let directory = settings(OWN);
        let row = format!("name,price\nAK-47 | Redline,{price}\n");
        fs::write(directory.path().join("items.csv"), row).unwrap();
        Self { directory }
    }

    fn settings(&self, text: &str) {
        fs::write(self.directory.path().join("sniper.toml"), text).unwrap();
    }

    /// Imports the row, and checks that the same is shown as without `--write`.
    #[track_caller]
    fn import(&self, more: &[&str], row: &str) -> (Option<i32>, String) {
        let named = format!(
            "1 new\n  AK-47 | Redline\n0 changed\n0 repeated in the file, left out\n1 also in \
             sniper.toml, whose entry is tried first: the row applies to what it does not accept; \
             remove the entry there to use the row alone\n  {row}\n0 unchanged\n"
        );
        let import =
            |more: &[&str]| run(&self.directory, &[&["import", "items.csv"], more].concat());
        let json: Value = serde_json::from_slice(&import(&["--json"]).stdout).unwrap();
        let (dry, written) = (import(&[]), import(more));
        for output in [&dry, &written] {
            assert!(shown(output).starts_with(&named), "{}", shown(output));
        }
        assert_eq!(
            (&json["in_settings"], &json["added"]),
            (&json!([row]), &json!(["AK-47 | Redline"]))
        );
        (written.status.code(), shown(&written))
    }

    /// Checks the settings. Returns the exit code and the prices that decide, first to last.
    fn checked(&self) -> (Option<i32>, String, Vec<String>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command.args(["check", "--json"]).current_dir(self.directory.path()).env_clear();
        let output = command.stdin(Stdio::null()).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let entries = json["settings"]["whitelist"].as_array().cloned().unwrap_or_default();
        let entries = entries.iter().map(|entry| entry.as_str().unwrap().to_owned());
        (output.status.code(), json.to_string(), entries.collect())
    }
}

const NAMED: &str = "whitelist_file = \"w.json\"\n";

#[test]
fn an_import_says_which_entry_of_the_settings_is_tried_before_its_row() {
    let own = OwnEntry::new(12);
    let (code, text) = own.import(&["--write", "w.json"], "AK-47 | Redline: max_price 20 -> 12");
    assert_eq!(code, Some(0), "{text}");
    let hint = "1 entry written to w.json; it is used once sniper.toml names it as whitelist_file; \
                remove the [[whitelist]] entries named above then\n";
    assert!(text.ends_with(hint), "{text}");
    // Without the removal, the entry of the settings decides.
    own.settings(&format!("{NAMED}{OWN}"));
    let (code, text, entries) = own.checked();
    assert!(code == Some(0) && entries[0].contains("to 20.00") && entries.len() == 2, "{text}");
    own.settings(NAMED);
    let (code, text, entries) = own.checked();
    assert!(code == Some(0) && entries[0].contains("to 12.00") && entries.len() == 1, "{text}");
}

#[test]
fn an_import_says_which_entries_would_make_the_settings_invalid() {
    let own = OwnEntry::new(20);
    let (code, text) = own.import(&["--write", "w.json"], "AK-47 | Redline");
    assert_eq!(code, Some(0), "{text}");
    let conflict = "Invalid with the entries of sniper.toml: w.json:2:3: duplicate entry, also \
                    defined at sniper.toml:1:1";
    assert!(text.contains(conflict) && text.contains("named above then\n"), "{text}");
    own.settings(&format!("{NAMED}{OWN}"));
    let (code, text, _) = own.checked();
    assert!(code == Some(78) && text.contains("duplicate entry"), "{text}");
    own.settings(NAMED);
    let (code, text, entries) = own.checked();
    assert!(code == Some(0) && entries.len() == 1, "{text}");
}

#[test]
fn an_import_into_the_file_in_use_names_rows_that_the_settings_decide() {
    let other = "[{\"item\": \"Fracture Case\", \"max_price\": 2}]";
    for (price, row, is_valid) in
        [(12, "AK-47 | Redline: max_price 20 -> 12", true), (20, "AK-47 | Redline", false)]
    {
        let own = OwnEntry::new(price);
        own.settings(&format!("{NAMED}{OWN}"));
        let path = own.directory.path().join("w.json");
        fs::write(&path, other).unwrap();
        let (code, text) = own.import(&["--write", "w.json"], row);
        assert_eq!(code, Some(i32::from(!is_valid)), "{text}");
        assert_eq!(text.contains("duplicate entry"), !is_valid, "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap() != other, is_valid, "{text}");
        let (code, text, entries) = own.checked();
        assert!(code == Some(0) && entries[0].contains("to 20.00"), "{text}");
        assert_eq!(entries.len(), if is_valid { 3 } else { 2 }, "{text}");
    }
}
