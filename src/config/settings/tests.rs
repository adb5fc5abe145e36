//! Tests of parsing `sniper.toml`.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    domain::item_name::Wear,
    domain::money::{Amount, Decimals, Percent},
    domain::trade::PaintWear,
    domain::whitelist_entry::{ItemPattern, WearSet, WhitelistEntry},
};

mod prices;

const EXAMPLE: &str = include_str!("../../../sniper.example.toml");

fn document(text: &str) -> ConfigDocument<'_> {
    ConfigDocument::new("f", text, Decimals::Two)
}

/// Parses a file and returns its problems, each as `line:column: message`.
#[track_caller]
fn parse(text: &str) -> (TomlSettings, Vec<String>) {
    let mut diagnostics = Diagnostics::default();
    let policy = read("f", text, |_market| Decimals::Two, &mut diagnostics);
    (policy, messages(diagnostics))
}

fn messages(diagnostics: Diagnostics) -> Vec<String> {
    let strip = |problem: &Problem| problem.to_string().trim_start_matches("f:").to_owned();
    match diagnostics.into_warnings() {
        Ok(_warnings) => Vec::new(),
        Err(problems) => problems.list().iter().map(strip).collect(),
    }
}

/// Checks that each problem of a text starts with the expected text, in order.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let (_policy, problems) = parse(text);
    let fits = problems.len() == expected.len()
        && problems.iter().zip(expected).all(|(problem, expected)| problem.starts_with(expected));
    assert!(fits, "text: {text}\nproblems: {problems:#?}\nexpected: {expected:#?}");
}

/// Parses a valid entry.
#[track_caller]
fn entry(keys: &str) -> WhitelistEntry {
    let (policy, problems) = parse(&format!("[[whitelist]]\nmax_price = 1\n{keys}"));
    assert_eq!(problems, [""; 0], "keys: {keys}");
    policy.entries.found.into_iter().next().unwrap().entry
}

/// Checks the problems of an entry whose keys begin in line 3.
#[track_caller]
fn check_entry(keys: &str, expected: &[&str]) {
    check(&format!("[[whitelist]]\nmax_price = 1\n{keys}"), expected);
}

#[test]
fn the_example_contains_the_defaults() {
    let (policy, problems) = parse(EXAMPLE);
    assert_eq!(problems, [""; 0]);
    assert_eq!(policy.budget, Budget::default());
    assert_eq!(policy.orders, OrdersConfig::default());
    assert_eq!(policy.feed, FeedConfig::default());
    assert_eq!(policy.reconnection, ReconnectPolicy::default());
    assert_eq!(policy.speed, SpeedConfig::default());
    assert_eq!(policy.missing_for_live, []);
    let expected = WhitelistEntry {
        name: Some("redline".to_owned()),
        item: ItemPattern::Named("AK-47 | Redline".to_owned()),
        wears: WearSet::ANY.with(Wear::FieldTested),
        float_min: PaintWear::parse("0.15"),
        float_max: PaintWear::parse("0.22"),
        min_price: Amount::from_cents(100),
        max_price: Amount::from_cents(1_250),
        max_markup: Some(Percent::default()),
        max_quantity: 1,
        ..WhitelistEntry::default()
    };
    let entries: Vec<WhitelistEntry> =
        policy.entries.found.into_iter().map(|found| found.entry).collect();
    assert_eq!(entries, [expected]);
}

/// Checks that the example contains exactly the keys that the program reads, including those
/// commented out, which must be valid.
#[test]
fn the_example_contains_every_key_and_no_other() {
    let mut section = "";
    let mut shown: Vec<(&str, &str)> = Vec::new();
    for line in EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']);
            if section.starts_with("groups.") {
                // The user chooses the name.
                section = "groups.NAME";
                shown.push(("", "groups"));
                continue;
            }
            shown.push(section.rsplit_once('.').unwrap_or(("", section)));
        } else if let Some((key, _value)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            shown.push((section, key));
        }
    }
    let mut read: Vec<(&str, &str)> = SECTIONS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)))
        .collect();
    shown.sort_unstable();
    // The sections of several sources show their keys again.
    shown.dedup();
    read.sort_unstable();
    assert_eq!(shown, read);
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            Some(rest) if rest.starts_with('[') => rest,
            _ => line,
        })
        .collect();
    check(&uncommented.join("\n"), &[]);
}

#[test]
fn an_empty_file_has_the_defaults_and_lists_the_settings_missing_for_live() {
    let (policy, problems) = parse("");
    assert_eq!(problems, [""; 0]);
    assert_eq!(policy.budget, Budget::default());
    assert_eq!(policy.entries.count, 0);
    let missing: Vec<String> = policy.missing_for_live.iter().map(Problem::to_string).collect();
    assert_eq!(missing.len(), 2);
    assert!(missing[0].starts_with("f: [budget] has no `max_price`"), "{missing:?}");
    assert!(missing[1].starts_with("f: [budget] has no `total`"), "{missing:?}");
}

#[test]
fn every_mistake_is_reported_at_once() {
    check(
        "[budget]\n\
         max_price = -1\n\
         totl = 5\n\
         min_balance = \"5\"\n\
         [feed]\n\
         generation = \"C\"\n\
         [[whitelist]]\n\
         item = \"x\"\n\
         wear = [\"Field-Testd\", 3]\n\
         max_price = nan\n\
         [nonsense]\n",
        &[
            "2:13: `max_price` is negative; ",
            "3:1: unknown key `totl` in [budget]; did you mean `total`?",
            "4:15: `min_balance` must be a number, not text; write min_balance = 5",
            "6:1: `generation` cannot be \"C\"; write one of: A, B",
            "9:9: unknown wear \"Field-Testd\"; did you mean `Field-Tested`?",
            "9:24: `wear` must contain texts, not a number; ",
            "10:13: `max_price` is nan, which is not an amount; ",
            "11:2: unknown setting `nonsense`; ",
        ],
    );
}

#[test]
fn syntax_errors_are_reported_with_their_location_beside_other_problems() {
    check(
        "[budget]\nmax_price = \ntotal = true\n[[whitelist]]\nitem = \"x\nmax_price = 1\n",
        &[
            "2:13: not TOML",
            "3:9: `total` must be a number, not true or false; write a number",
            "5:10: not TOML: invalid basic string, expected `\"`; ",
        ],
    );
}

#[test]
fn an_amount_with_a_comma_or_a_currency_is_reported_with_its_correction() {
    for (value, expected) in [
        ("12,50", "2:11: `total` contains a comma; write a decimal point: total = 12.50"),
        ("$12 # a", "2:9: `total` contains a currency or unit; write a plain number: total = 12"),
        ("\"12.5 coins\"", "2:9: `total` must be a number, not text; write total = 12.5"),
    ] {
        check(&format!("[budget]\ntotal = {value}\n"), &[expected]);
    }
}

#[test]
fn a_key_in_the_wrong_section_is_reported_with_the_right_one() {
    check(
        "total = 1\nfloat_min = 0\njitter = 0\n",
        &[
            "1:1: unknown setting `total`; write it below [budget]",
            "2:1: unknown setting `float_min`; write it below [[whitelist]]",
            "3:1: unknown setting `jitter`; write it below [reconnection]",
        ],
    );
    check("budget = 3\n", &["1:10: [budget] must be a table, not a number"]);
    check("whitelist = 3\n", &["1:13: the whitelist must be a list, not a number"]);
    check("whitelist = [3]\n", &["1:14: [[whitelist]] must be a table, not a number"]);
}

#[test]
fn amounts_are_exact_or_rejected() {
    let budget = |line: &str| parse(&format!("[budget]\n{line}\n")).0.budget;
    assert_eq!(budget("total = 1_000_000_000").total, Amount::from_cents(100_000_000_000));
    assert_eq!(budget("total = 1000000000.01").total, Amount::from_cents(100_000_000_001));
    assert_eq!(budget("total = +0.07").total, Amount::from_cents(7));
    assert_eq!(budget("total = 1e9").total, Amount::from_cents(100_000_000_000));
    assert_eq!(budget("min_balance = -0.0").min_balance, Amount::ZERO);
    for (value, expected) in [
        ("1.005", "2:9: `total` has more than two decimals; write at most two decimals"),
        ("1e400", "2:9: `total` is out of range; "),
        ("inf", "2:9: `total` is inf, which is not an amount; "),
        ("-inf", "2:9: `total` is -inf, which is not an amount; "),
        ("0", "2:9: `total` is zero, so nothing can be bought; "),
        ("0x10", "2:9: `total` must be a number, not a number that is not decimal; "),
        ("2026-01-01", "2:9: `total` must be a number, not a date; "),
        ("[]", "2:9: `total` must be a number, not a list; "),
        ("{}", "2:9: `total` must be a number, not a table; "),
    ] {
        check(&format!("[budget]\ntotal = {value}\n"), &[expected]);
    }
}

#[test]
fn amounts_have_the_decimals_of_the_market() {
    let text = "[budget]\ntotal = 12.505\nper_day = 1.0005\nmin_balance = \"1,505 coins\"\n";
    let mut diagnostics = Diagnostics::default();
    let budget = read("f", text, |_market| Decimals::Three, &mut diagnostics).budget;
    assert_eq!(budget.total, Amount::from_thousandths(12_505));
    let problems = messages(diagnostics);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].ends_with("more than three decimals; write at most three decimals"));
    assert!(problems[1].ends_with("write min_balance = 1.505"), "{problems:#?}");
    // A percentage has two decimals on every market.
    let text = "[[whitelist]]\nitem = \"x\"\nmax_price = 1.005\nmax_markup_percent = 1.005\n";
    let mut diagnostics = Diagnostics::default();
    let _entries = read("f", text, |_market| Decimals::Three, &mut diagnostics);
    let problems = messages(diagnostics);
    assert_eq!(
        problems,
        ["4:22: `max_markup_percent` has more than two decimals; write at most two decimals"]
    );
}

#[test]
fn the_market_is_chosen_by_name_and_decides_the_decimals() {
    let (settings, problems) = parse("market = \"csgoroll\"\n[budget]\ntotal = 12.50\n");
    assert_eq!((settings.market, problems), (Market::Csgoroll, vec![]));
    check(
        "market = \"csgorol\"\n[budget]\ntotal = 12.505\n",
        &[
            "1:1: `market` cannot be \"csgorol\"; did you mean `csgoroll`?",
            "3:9: `total` has more than two decimals; ",
        ],
    );
    check("market = 1\n", &["1:10: `market` must be text, not a number; "]);
    check("[feed]\nmarket = \"csgoroll\"\n", &["2:1: unknown key `market` in [feed]; "]);
    // The decimals are those of the market in the file, at any place in it.
    let decimals: fn(Market) -> Decimals = |market| match market {
        Market::Csgoroll => Decimals::Three,
        Market::LisSkins | Market::Waxpeer => Decimals::Two,
    };
    for text in ["total = 12.505", "total = \"12,505\""] {
        let mut diagnostics = Diagnostics::default();
        read("f", &format!("[budget]\n{text}\n"), decimals, &mut diagnostics);
        let problems = messages(diagnostics);
        assert!(problems.iter().all(|it| it.ends_with("write total = 12.505")), "{problems:?}");
    }
}

#[test]
fn a_limit_that_cannot_be_reached_causes_a_warning() {
    let mut diagnostics = Diagnostics::default();
    let text = "[budget]\nmax_price = 9\ntotal = 8\nper_hour = 7\nper_day = 6\n\
                [[whitelist]]\nitem = \"x\"\nmax_price = 5\nmax_total = 4\n";
    read("f", text, |_market| Decimals::Two, &mut diagnostics);
    let warnings = diagnostics.into_warnings().unwrap();
    let problems: Vec<String> = warnings.iter().map(Problem::to_string).collect();
    let starts = [
        "f:2:1: `max_price` 9.00 is above `per_day` 6.00; ",
        "f:2:1: `max_price` 9.00 is above `per_hour` 7.00; ",
        "f:2:1: `max_price` 9.00 is above `total` 8.00; ",
        "f:4:1: `per_hour` 7.00 is above `per_day` 6.00; ",
        "f:8:1: `max_price` 5.00 is above `max_total` 4.00; ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    assert!(
        problems.iter().zip(starts).all(|(problems, start)| problems.starts_with(start)),
        "{problems:#?}"
    );
}

#[test]
fn reconnection_is_checked_as_a_whole() {
    check(
        "[reconnection]\ninitial_delay_ms = 5000\nmax_delay_ms = 4000\nbackoff_multiplier = 0.5\n\
         jitter = 1.5\nping_interval_ms = 0\nmax_retries = -1\n",
        &[
            "2:1: `initial_delay_ms` 5000 is above `max_delay_ms` 4000; ",
            "4:22: `backoff_multiplier` is out of range; write a number from 1.00 to 100.00",
            "5:10: `jitter` is out of range; ",
            "6:20: `ping_interval_ms` is out of range; ",
            "7:15: `max_retries` is negative; ",
        ],
    );
    let mut diagnostics = Diagnostics::default();
    let text = "[reconnection]\ninitial_delay_ms = 10\nmax_delay_ms = 99\n";
    let policy = read("f", text, |_market| Decimals::Two, &mut diagnostics);
    assert_eq!(policy.reconnection.limits().max_delay, Duration::from_millis(250));
    assert_eq!(diagnostics.into_warnings().map(|warnings| warnings.len()), Ok(2));
    let (policy, _told) = parse("[reconnection]\nidle_timeout_ms = 0\nmax_retries = 3\n");
    let limits = policy.reconnection.limits();
    assert_eq!((limits.idle_timeout, limits.max_retries), (Duration::ZERO, Some(3)));
}

#[test]
fn counts_are_whole_numbers() {
    assert_eq!(entry("item = \"x\"\nmax_quantity = 1_000_000_000").max_quantity, 1_000_000_000);
    assert_eq!(entry("item = \"x\"\nmax_quantity = 4.0").max_quantity, 4);
    for value in ["0", "1.5", "5e9", "99999999999999999999"] {
        check_entry(&format!("item = \"x\"\nmax_quantity = {value}"), &["4:16: `max_quantity` is"]);
    }
}

#[test]
fn an_entry_needs_an_item_and_a_price() {
    check(
        "[[whitelist]]\n\n[[whitelist]]\nitem = \"\"\nmax_price = 0\n",
        &[
            "1:1: missing `item`; ",
            "1:1: missing `max_price`; ",
            "4:1: `item` is empty; ",
            "5:13: `max_price` is zero",
        ],
    );
}

#[test]
fn a_minimum_above_the_maximum_is_rejected() {
    check_entry(
        "item = \"x\"\nmin_price = 1.01\nfloat_min = 0.3\nfloat_max = 0.2",
        &[
            "4:1: `min_price` 1.01 is above `max_price` 1.00; ",
            "5:1: `float_min` 0.3 is above `float_max` 0.2; ",
        ],
    );
    check_entry("item = \"x\"\nfloat_max = 1.01", &["4:13: `float_max` is not a float value; "]);
    check_entry("item = \"x\"\nfloat_min = -0.1", &["4:13: `float_min` is negative; "]);
    check_entry("item = \"x\"\nfloat_min = nan", &["4:13: `float_min` is nan"]);
    let wide = entry("item = \"x\"\nfloat_min = 0\nfloat_max = 1.0");
    assert_eq!((wide.float_min, wide.float_max), (PaintWear::parse("0"), PaintWear::parse("1")));
}

#[test]
fn a_market_name_determines_stattrak_souvenir_and_wear() {
    let decided = |item: &str| {
        let entry = entry(&format!("item = \"{item}\""));
        let wears: Vec<&str> = entry.wears.iter().map(Wear::short).collect();
        (entry.item, entry.stattrak, entry.souvenir, wears.join(" "))
    };
    let named = |name: &str| ItemPattern::Named(name.to_owned());
    assert_eq!(
        decided("StatTrak™ AK-47 | Redline (Field-Tested)"),
        (named("AK-47 | Redline"), true, false, "FT".into())
    );
    assert_eq!(
        decided("Souvenir AWP | Dragon Lore (Well-Worn)"),
        (named("AWP | Dragon Lore"), false, true, "WW".into())
    );
    assert_eq!(
        decided("★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)"),
        (named("Karambit | Doppler Phase 3"), true, false, "FN".into())
    );
    assert_eq!(decided("★ StatTrak™ Ursus Knife"), (named("Ursus Knife"), true, false, "".into()));
    assert_eq!(decided("*"), (ItemPattern::Any, false, false, "".into()));
}

#[test]
fn a_key_that_agrees_with_the_market_name_is_accepted() {
    entry("item = \"StatTrak™ AK-47 | Redline (Field-Tested)\"\nstattrak = true\nwear = [\"FT\"]");
    entry("item = \"★ Karambit | Doppler\"\nstattrak = true\nwear = [\"FN\"]");
    entry("item = \"StatTrak™ AK-47 | Redline\"\nwear = [\"FN\", \"MW\"]");
}

#[test]
fn a_key_that_contradicts_the_market_name_is_reported_with_both() {
    check_entry(
        "item = \"StatTrak™ AK-47 | Redline (Field-Tested)\"\n\
         stattrak = false\nsouvenir = true\nwear = [\"FN\"]",
        &[
            "4:1: `stattrak` = false contradicts `item` = \"StatTrak™ AK-47 | Redline (Field-Tested)\"",
            "5:1: `souvenir` = true contradicts `item` = ",
            "6:1: `wear` contradicts `item` = \"StatTrak™ AK-47 | Redline (Field-Tested)\" (Field-Tested)",
        ],
    );
    check_entry(
        "item = \"AK-47 | Redline (Field-Tested)\"\nstattrak = true",
        &["4:1: `stattrak` = true contradicts"],
    );
    check_entry(
        "item = \"AK-47 | Redline (Field-Tested)\"\nwear = [\"FT\", \"MW\"]",
        &["4:1: `wear` contradicts"],
    );
    check_entry(
        "item = \"★ Ursus Knife\"\nwear = [\"FN\"]\nstattrak = true",
        &["4:1: `wear` contradicts `item` = \"★ Ursus Knife\" (no wear)", "5:1: `stattrak` = true"],
    );
    check_entry("item = \"x\"\nstattrak = true\nsouvenir = true", &["5:1: `stattrak` and"]);
}

#[test]
fn a_misspelled_name_is_rejected_and_an_unusual_one_accepted() {
    for (item, remedy) in [
        ("AK-47 | Redline (Field Tested)", "did you mean `(Field-Tested)`?"),
        ("AK-47 | Redline (FT)", "did you mean `(Field-Tested)`?"),
        ("StatTrak AK-47 | Redline", "write StatTrak™ with the ™ sign"),
        ("souvenir AWP | Dragon Lore", "write Souvenir with a capital S"),
    ] {
        let (_policy, problems) =
            parse(&format!("[[whitelist]]\nmax_price = 1\nitem = \"{item}\"\n"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(remedy), "{problems:?}");
    }
    for wear in ["(field-tested)", "( FIELD-TESTED )"] {
        let read = entry(&format!("item = \"AK-47 | Redline {wear}\""));
        assert_eq!(read, entry("item = \"AK-47 | Redline (Field-Tested)\""));
    }
    for item in [
        "M4A4 | 龍王 (Dragon King)",
        "Sticker | Example (Holo) | 2020 RMR",
        "Sticker | Example (Holo)",
        "Paris 2023 Nuke Souvenir Package",
        "Michael Syfers  | FBI Sniper",
    ] {
        entry(&format!("item = \"{item}\""));
    }
    check_entry("item = \"a\\u001b[2Jb\"", &["3:1: `item` is too long or contains invisible"]);
}

#[test]
fn duplicate_entries_are_reported() {
    let text = "[[whitelist]]\nname = \"a\"\nitem = \"x\"\nmax_price = 1\n\
                [[whitelist]]\nname = \"a\"\nitem = \"y\"\nmax_price = 1\n\
                [[whitelist]]\nitem = \"x\"\nmax_price = 1\n\
                [[whitelist]]\nitem = \"x\"\nmax_price = 1.0\n\
                [[whitelist]]\nname = \"a\"\nitem = \"z\"\nmax_price = 1\n";
    let (policy, problems) = parse(text);
    assert_eq!(problems, [""; 0]);
    let mut diagnostics = Diagnostics::default();
    check_distinct(&policy.entries.found, &mut diagnostics);
    let problems = messages(diagnostics);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[0].starts_with("5:1: duplicate name \"a\", also defined at f:1:1; "),
        "{problems:?}"
    );
    assert!(problems[1].starts_with("12:1: duplicate entry, also defined at f:9:1; "));
    assert!(problems[2].starts_with("15:1: duplicate name \"a\", also defined at f:1:1; "));
}

/// Parses a JSON whitelist.
#[track_caller]
fn json(text: &str) -> (Vec<WhitelistEntry>, Vec<String>) {
    let mut diagnostics = Diagnostics::default();
    let entries = read_whitelist(&document(text), &mut diagnostics);
    (entries.found.into_iter().map(|found| found.entry).collect(), messages(diagnostics))
}

#[test]
fn a_json_entry_equals_the_same_entry_in_toml() {
    let keys = r#"{"item": "AK-47 | Redline", "wear": ["FT"], "float_max": 2.2e-1,
        "max_price": 12.5, "max_total": 30, "max_age_s": 60}"#;
    let expected = entry(
        "item = \"AK-47 | Redline\"\nwear = [\"FT\"]\nfloat_max = 0.22\nmax_total = 30\n\
         max_age_s = 60",
    );
    let expected = WhitelistEntry { max_price: Amount::from_cents(1_250), ..expected };
    for text in [format!("[{keys}]"), format!("{{\"whitelist\": [{keys}]}}")] {
        assert_eq!(json(&text), (vec![expected.clone()], vec![]), "text: {text}");
    }
}

#[test]
fn json_problems_have_a_location() {
    let (_entries, problems) =
        json("[\n  {\"itm\": \"x\",\n   \"max_price\": null, \"max_price\": 1}\n]");
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("2:3: missing `item`"), "{problems:?}");
    assert!(
        problems[1].starts_with("2:4: unknown key `itm` in [[whitelist]]; did you mean `item`?")
    );
    assert!(
        problems[2].starts_with("3:23: `max_price` is duplicated in one object"),
        "{problems:?}"
    );
    for (text, expected) in [
        ("", "1:1: not JSON"),
        ("[{\"item\" \"x\"}]", "1:10: not JSON"),
        ("[] []", "1:4: not JSON"),
        ("3", "1:1: the whitelist must be a list, not a number"),
        ("{\"entries\": []}", "1:2: unknown key `entries` in the file; "),
    ] {
        let (_entries, problems) = json(text);
        assert!(
            problems.len() == 1 && problems[0].starts_with(expected),
            "text: {text}: {problems:?}"
        );
    }
    let (_entries, problems) = json(&"[".repeat(1_000));
    assert!(problems[0].contains("nested too deeply"), "{problems:?}");
}

#[test]
fn a_hundred_thousand_entries_are_parsed() {
    let entries: Vec<String> = (0..100_000)
        .map(|index| format!("{{\"item\":\"Item | {index}\",\"max_price\":{}.5}}", index + 1))
        .collect();
    let (entries, problems) = json(&format!("[{}]", entries.join(",\n")));
    assert_eq!((entries.len(), problems.len()), (100_000, 0));
}

/// Generates text similar to TOML, so that validation is reached and not only the parser.
fn nearly_toml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("[budget]"),
        Just("[[whitelist]]"),
        Just("[feed]"),
        Just("[reconnection]"),
        Just("item"),
        Just("max_price"),
        Just("wear"),
        Just("total"),
        Just("generation"),
        Just("jitter"),
        Just("whitelist"),
        Just("float_min"),
        Just("stattrak"),
        Just(" = "),
        Just("\n"),
        Just("\n"),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just("\"x\""),
        Just("\"★ StatTrak™ A | B (Factory New)\""),
        Just("-1.5e3"),
        Just("nan"),
        Just("0.155"),
        Just("true"),
        Just("1979-05-27"),
        Just("."),
        Just(","),
        Just("'"),
        Just("\"\"\""),
        Just("0x1_f"),
        Just("#"),
        Just("\u{0}"),
        Just("é"),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn parsing_never_panics_and_each_problem_has_a_location(
        text in prop_oneof![nearly_toml(), "\\PC{0,80}", any::<String>()],
    ) {
        for read_as_json in [false, true] {
            let mut diagnostics = Diagnostics::default();
            if read_as_json {
                read_whitelist(&document(&text), &mut diagnostics);
            } else {
                read("f", &text, |_market| Decimals::Two, &mut diagnostics);
            }
            let lines = text.split('\n').count();
            if let Err(problems) = diagnostics.into_warnings() {
                for problem in problems.list() {
                    let SourceLocation::Column { line, column, .. } = problem.place else {
                        return Err(TestCaseError::fail(format!("no location: {problem}")));
                    };
                    prop_assert!((1..=lines).contains(&line) && column > 0, "{problem}");
                    prop_assert!(problem.to_string().chars().all(is_safe_to_print));
                }
            }
        }
    }
}

#[test]
fn automatic_connections_are_two_and_other_words_are_a_problem() {
    let connections = |value: &str| {
        let (policy, problems) = parse(&format!("[feed]\nconnections = {value}\n"));
        (policy.feed.connections, problems)
    };
    assert_eq!(connections("\"auto\""), (2, Vec::new()));
    assert_eq!(connections("3"), (3, Vec::new()));
    check(
        "[feed]\nconnections = \"many\"\n",
        &["2:15: `connections` is neither a number nor \"auto\""],
    );
    check("[feed]\nconnections = 5\n", &["2:15: `connections` is out of range"]);
}

#[test]
fn a_page_that_other_machines_can_reach_must_be_permitted() {
    let entry = "[[whitelist]]\nitem = \"*\"\nmax_price = 1\n";
    let of = |lines: &str| parse(&format!("[dashboard]\n{lines}\n{entry}"));
    let (policy, problems) = of("listen = \"127.0.0.1:8098\"\nallowed_hosts = [\"Sniper:8098\"]");
    assert_eq!(problems, [""; 0]);
    assert_eq!(policy.dashboard.listen, "127.0.0.1:8098".parse().ok());
    assert_eq!(policy.dashboard.allowed_hosts, ["sniper:8098"]);
    for (lines, expected) in [
        ("listen = \"0.0.0.0:8098\"", "`listen` is reachable from other machines"),
        ("listen = \"8098\"", "`listen` is not an address with a port"),
        ("allowed_hosts = [\"*\"]", "`allowed_hosts` has a value that is not a host name"),
        ("allowed_hosts = \"sniper\"", "`allowed_hosts` must be a list, not text"),
    ] {
        let (_policy, problems) = of(lines);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{lines}: {problems:?}");
    }
    let (policy, problems) = of("listen = \"0.0.0.0:8098\"\nallow_remote = true");
    assert!(policy.dashboard.is_remote() && policy.dashboard.allow_remote);
    assert!(problems.iter().all(|problem| problem.contains("not encrypted")), "{problems:?}");
}

#[test]
fn blanks_around_a_bar_are_those_of_market_names() {
    for item in ["AK-47|Redline", "AK-47 |Redline", " AK-47  |  Redline ", "AK-47 | Redline"] {
        let named = entry(&format!("item = \"{item}\""));
        assert_eq!(named.item, ItemPattern::Named("AK-47 | Redline".to_owned()), "{item}");
    }
    let sticker = entry("item = \"Sticker|Example (Holo) |2020 RMR\"");
    assert_eq!(sticker.item, ItemPattern::Named("Sticker | Example (Holo) | 2020 RMR".to_owned()));
}

/// Checks the only warning of an entry; none if `expected` is empty.
#[track_caller]
fn check_warning(keys: &str, expected: &str) {
    let text = format!("[[whitelist]]\nmax_price = 1\nitem = \"x\"\n{keys}");
    let mut diagnostics = Diagnostics::default();
    let _read = read("f", &text, |_market| Decimals::Two, &mut diagnostics);
    let warnings = diagnostics.into_warnings().unwrap();
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(shown.is_empty(), expected.is_empty(), "{shown:?}");
    assert!(shown.iter().all(|warning| warning.contains(expected)), "{shown:?}");
}

#[test]
fn floats_outside_the_wear_are_warned_of() {
    let nothing = "can match nothing, because its floats are outside its wear";
    check_warning("wear = [\"FN\"]\nfloat_min = 0.07", nothing);
    check_warning("wear = [\"FN\"]\nfloat_min = 0.0699", "");
    check_warning("wear = [\"FT\"]\nfloat_max = 0.149", "Field-Tested is from 0.15 to 0.38");
    check_warning("wear = [\"FT\"]\nfloat_max = 0.15", "");
    check_warning("wear = [\"BS\"]\nfloat_min = 1", "");
    check_warning(
        "wear = [\"MW\", \"FT\"]\nfloat_min = 0.2",
        "no Minimal Wear item has these floats",
    );
    check_warning("float_min = 0.9", "");
}
