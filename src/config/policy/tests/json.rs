//! A whitelist of JSON.

use super::*;

/// Reads a whitelist of JSON.
#[track_caller]
fn json(text: &str) -> (Vec<WhitelistEntry>, Vec<String>) {
    let mut findings = Diagnostics::default();
    let entries = read_whitelist("f", text, &mut findings);
    (entries.found.into_iter().map(|found| found.entry).collect(), told(findings))
}

#[test]
fn json_says_the_same_as_toml() {
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
fn mistakes_of_json_have_their_place() {
    let (_entries, told) =
        json("[\n  {\"itm\": \"x\",\n   \"max_price\": null, \"max_price\": 1}\n]");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("2:3: an entry without `item`"), "{told:?}");
    assert!(told[1].starts_with("2:4: [[whitelist]] has no key `itm`; did you mean `item`?"));
    assert!(told[2].starts_with("3:23: `max_price` stands twice in one object"), "{told:?}");
    for (text, expected) in [
        ("", "1:1: not JSON"),
        ("[{\"item\" \"x\"}]", "1:10: not JSON"),
        ("[] []", "1:4: not JSON"),
        ("3", "1:1: the whitelist is a number where a list belongs"),
        ("{\"entries\": []}", "1:2: the file has no key `entries`; "),
    ] {
        let (_entries, told) = json(text);
        assert!(told.len() == 1 && told[0].starts_with(expected), "text: {text}: {told:?}");
    }
    let (_entries, told) = json(&"[".repeat(1_000));
    assert!(told[0].contains("nested too deeply"), "{told:?}");
}

#[test]
fn a_hundred_thousand_entries_are_read() {
    let entries: Vec<String> = (0..100_000)
        .map(|index| format!("{{\"item\":\"Item | {index}\",\"max_price\":{}.5}}", index + 1))
        .collect();
    let (entries, told) = json(&format!("[{}]", entries.join(",\n")));
    assert_eq!((entries.len(), told.len()), (100_000, 0));
}
