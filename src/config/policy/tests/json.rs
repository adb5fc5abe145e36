//! Tests of JSON whitelists.

use super::*;

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
