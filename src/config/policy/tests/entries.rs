//! Tests of whitelist entries: accepted values and reported problems.

use super::*;

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
    crate::config::entries::check_distinct(&policy.entries.found, &mut diagnostics);
    let problems = messages(diagnostics);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[0].starts_with("5:1: duplicate name \"a\", also defined at f:1:1; "),
        "{problems:?}"
    );
    assert!(problems[1].starts_with("12:1: duplicate entry, also defined at f:9:1; "));
    assert!(problems[2].starts_with("15:1: duplicate name \"a\", also defined at f:1:1; "));
}
