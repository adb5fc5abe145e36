//! Tests of [`super`]: the traps of each source.

use proptest::prelude::*;

use super::*;
use crate::{
    domain::percent_rule::QuoteSide,
    prices::{item_key::ItemKey, source::CsgoTraderFile},
};

const REDLINE: &str = "AK-47 | Redline (Field-Tested)";
const BUFF: SourceKind = SourceKind::CsgoTrader(CsgoTraderFile::Buff163);

fn read(kind: SourceKind, text: &str) -> PriceTable {
    parse(kind, PriceUnit::Whole, text.as_bytes()).unwrap()
}

fn fails(kind: SourceKind, text: &str) -> TableError {
    parse(kind, PriceUnit::Whole, text.as_bytes()).unwrap_err()
}

/// Formats an item's prices as `ask/bid`, with `xN` for the number of offers; `-` is no price.
fn shown(table: &PriceTable, name: &str) -> String {
    let key = ItemKey::parse(name).unwrap().into_owned();
    let quote = table.get(&key).copied().unwrap_or_default();
    let side = |side| match quote.side(side) {
        None => "-".to_owned(),
        Some(offer) => match offer.count() {
            Some(count) => format!("{}x{count}", offer.price),
            None => offer.price.to_string(),
        },
    };
    format!("{}/{}", side(QuoteSide::Ask), side(QuoteSide::Bid))
}

#[track_caller]
fn check(kind: SourceKind, text: &str, rows: &[(&str, &str)]) {
    let table = read(kind, text);
    for (name, expected) in rows {
        assert_eq!(shown(&table, name), *expected, "{name} in {text}");
    }
}

#[test]
fn buff_has_asks_bids_and_phases_that_are_never_the_phase_less_price() {
    let text = r#"{"AK-47 | Redline (Field-Tested)":{"starting_at":{"price":31.4},"highest_order":{"price":29.85}},
        "★ Karambit | Doppler (Factory New)":{"starting_at":{"price":1010.5,"doppler":{"Phase 1":1040,"Phase 2":"1205.5","Ruby":null}},"highest_order":{"price":960}},
        "★ Karambit":{"starting_at":{"price":800},"highest_order":{"price":700}}}"#;
    check(
        BUFF,
        text,
        &[
            (REDLINE, "31.40/29.85"),
            ("StatTrak™ AK-47 | Redline (Field-Tested)", "-/-"),
            ("Souvenir AK-47 | Redline (Field-Tested)", "-/-"),
            ("AK-47 | Redline (Minimal Wear)", "-/-"),
            ("★ Karambit | Doppler (Factory New)", "1010.50/960.00"),
            ("★ Karambit | Doppler Phase 1 (Factory New)", "1040.00/-"),
            ("★ Karambit | Doppler Phase 2 (Factory New)", "1205.50/-"),
            ("★ Karambit | Doppler Phase 3 (Factory New)", "-/-"),
            ("★ Karambit | Ruby (Factory New)", "-/-"),
            ("★ Karambit", "800.00/700.00"),
            ("★ StatTrak™ Karambit", "-/-"),
        ],
    );
}

#[test]
fn what_is_no_price_in_a_csgotrader_file_gives_none() {
    for value in [
        r#"null"#,
        r#""null""#,
        "0",
        r#""""#,
        "-3.5",
        "1e6",
        "1000000",
        r#""abc""#,
        "true",
        "[3]",
        r#"{"other":3}"#,
    ] {
        let text = format!(
            r#"{{"x":{{"starting_at":{{"price":1}}}},"{REDLINE}":{{"starting_at":{{"price":{value}}},"highest_order":{{"price":5}},"suggested":7}}}}"#
        );
        check(BUFF, &text, &[(REDLINE, "-/5.00")]);
    }
    // Neither another number of the entry nor an old spelling is taken for a price.
    let text = format!(
        r#"{{"x":{{"starting_at":{{"price":1}}}},"{REDLINE}":{{"startingAt":{{"price":3}},"highets_offer":2,"n":1}}}}"#
    );
    check(BUFF, &text, &[(REDLINE, "-/-")]);
}

#[test]
fn each_csgotrader_file_is_read_in_its_own_shape() {
    let kind = SourceKind::CsgoTrader;
    let of = |value: &str| format!(r#"{{"{REDLINE}":{value}}}"#);
    for file in [
        CsgoTraderFile::CsFloat,
        CsgoTraderFile::CsMoney,
        CsgoTraderFile::CsgoTrader,
        CsgoTraderFile::CsTrade,
        CsgoTraderFile::LisSkins,
    ] {
        check(kind(file), &of(r#"{"price":31.4}"#), &[(REDLINE, "31.40/-")]);
    }
    for file in [
        CsgoTraderFile::LootFarm,
        CsgoTraderFile::CsgoTm,
        CsgoTraderFile::CsgoEmpire,
        CsgoTraderFile::SwapGg,
        CsgoTraderFile::Youpin,
    ] {
        check(kind(file), &of("31.4"), &[(REDLINE, "31.40/-")]);
        check(kind(file), &of(r#""31.4""#), &[(REDLINE, "31.40/-")]);
    }
    let skinport =
        r#"{"suggested_price":40,"steam_price":50,"instant_price":20,"starting_at":31.4}"#;
    check(kind(CsgoTraderFile::Skinport), &of(skinport), &[(REDLINE, "31.40/-")]);
    let bitskins = r#"{"price":"31.4","instant_sale_price":"29.85"}"#;
    check(kind(CsgoTraderFile::BitSkins), &of(bitskins), &[(REDLINE, "31.40/29.85")]);
}

#[test]
fn skinport_prices_are_dollars_and_the_currency_is_checked() {
    let row = |name: &str, currency: &str, price: &str, quantity: u32| {
        format!(
            r#"{{"market_hash_name":"{name}","currency":"{currency}","suggested_price":33.1,"min_price":{price},"max_price":210,"mean_price":36.2,"median_price":34.05,"quantity":{quantity},"created_at":1535988253}}"#
        )
    };
    let text =
        format!("[{}]", [row(REDLINE, "USD", "30.99", 412), row("x", "USD", "null", 0)].join(","));
    check(SourceKind::Skinport, &text, &[(REDLINE, "30.99x412/-"), ("x", "-/-")]);
    assert_eq!(read(SourceKind::Skinport, &text).at, None);
    let twice = [row(REDLINE, "USD", "900", 1), row(REDLINE, "USD", "30.99", 412)].join(",");
    check(SourceKind::Skinport, &format!("[{twice}]"), &[(REDLINE, "30.99x412/-")]);
    let euro = format!("[{}]", row(REDLINE, "EUR", "30.99", 412));
    assert_eq!(fails(SourceKind::Skinport, &euro), TableError::Currency("EUR".to_owned()));
}

#[test]
fn a_skinport_price_that_did_not_change_is_as_new_as_the_newest_one() {
    let row = |name: &str, updated_at: u32| {
        format!(r#"{{"market_hash_name":"{name}","min_price":30.99,"updated_at":{updated_at}}}"#)
    };
    let rows = [row(REDLINE, 1_740_000_000), row("x", 1_772_352_000), row("y", 1_535_988_253)];
    let table = read(SourceKind::Skinport, &format!("[{}]", rows.join(",")));
    assert_eq!(table.at, UnixMs::parse("2026-03-01T08:00:00Z"));
    let at = table.at.unwrap();
    assert!(table.iter().all(|(_, quote)| quote.ask.unwrap().time_in(at) == at), "{table:?}");
}

#[test]
fn pricempire_prices_are_cents_of_both_sides() {
    let text = format!(
        r#"[{{"market_hash_name":"{REDLINE}","liquidity":91.2,"prices":[
            {{"provider_key":"csfloat","price":1,"count":1}},
            {{"provider_key":"buff163","price":3142,"count":1810,"updated_at":"2026-03-01T10:00:00.000Z"}},
            {{"count":77,"price":2990,"provider_key":"buff163_buy"}}]}},
           {{"market_hash_name":"x","prices":[{{"provider_key":"buff163","price":0}},{{"provider_key":"buff163_buy","price":null}}]}}]"#
    );
    check(SourceKind::Pricempire, &text, &[(REDLINE, "31.42x1810/29.90x77"), ("x", "-/-")]);
    let ask = read(SourceKind::Pricempire, &text).iter().next().unwrap().1.ask.unwrap();
    assert_eq!(ask.at(), UnixMs::parse("2026-03-01T10:00:00Z"));
}

/// Returns the time of the Redline in a Pricempire answer that states this one.
fn pricempire_time(time: &str) -> Option<Option<UnixMs>> {
    let text = format!(
        r#"[{{"market_hash_name":"{REDLINE}","prices":[{{"provider_key":"buff163","price":3142{time}}}]}},
            {{"market_hash_name":"x","prices":[{{"provider_key":"buff163","price":1}}]}}]"#
    );
    let table = read(SourceKind::Pricempire, &text);
    let quote = table.get(&ItemKey::parse(REDLINE).unwrap().into_owned())?;
    Some(quote.ask?.at())
}

const TIMES: [&str; 11] = [
    "1772352000",
    "1772352000.5",
    r#""1772352000.999999""#,
    "1772352000999.25",
    r#""1772352000""#,
    "1772352000999",
    r#""1772352000000""#,
    r#""2026-03-01T08:00:00Z""#,
    r#""2026-03-01T08:00:00.123456Z""#,
    r#""2026-03-01T08:00:00+00:00""#,
    r#""2026-03-01 09:00:00.5+01:00""#,
];

const UNREADABLE_TIMES: [&str; 12] = [
    "-5",
    "-0.5",
    "1772352000.5e3",
    "1772352000000000000",
    "1e99",
    "true",
    "[1772352000]",
    r#""""#,
    r#""null""#,
    r#""yesterday""#,
    r#""2026-03-01T08:00:00""#,
    r#""0001-01-01T00:00:00Z""#,
];

#[test]
fn a_pricempire_price_whose_time_cannot_be_read_is_none() {
    let at = UnixMs::parse("2026-03-01T08:00:00Z");
    for time in TIMES {
        assert_eq!(pricempire_time(&format!(r#","updated_at":{time}"#)), Some(at), "{time}");
    }
    for absent in ["", r#","updated_at":null"#, r#","updated_at":0"#, r#","updated_at":"0.0""#] {
        assert_eq!(pricempire_time(absent), Some(None), "{absent}");
    }
    for time in UNREADABLE_TIMES {
        for key in ["updated_at", "createdAt"] {
            assert_eq!(pricempire_time(&format!(r#","{key}":{time}"#)), None, "{time}");
        }
    }
}

#[test]
fn a_file_whose_time_cannot_be_read_is_an_error() {
    let lis_skins = |time: &str| {
        let row = format!(r#"{{"name":"{REDLINE}","price":28.9,"count":7}}"#);
        format!(r#"{{"status":"success","last_update":{time},"items":[{row}]}}"#)
    };
    let market_csgo = |time: &str| {
        let row = format!(r#"{{"market_hash_name":"{REDLINE}","price":"29.871"}}"#);
        format!(r#"{{"success":true,"items":[{row}],"time":{time}}}"#)
    };
    let skinport = |time: &str| {
        let row = |time| {
            format!(r#"{{"market_hash_name":"{REDLINE}","min_price":3,"updated_at":{time}}}"#)
        };
        format!("[{},{}]", row(time), row("null"))
    };
    let at = |text: &str| UnixMs::parse(text);
    for time in TIMES {
        for (kind, text) in [
            (SourceKind::LisSkins, lis_skins(time)),
            (SourceKind::MarketCsgo, market_csgo(time)),
            (SourceKind::Skinport, skinport(time)),
        ] {
            let seconds = read(kind, &text).at.map(|at| UnixMs(at.0 / 1_000 * 1_000));
            assert_eq!(seconds, at("2026-03-01T08:00:00Z"), "{text}");
        }
    }
    for time in UNREADABLE_TIMES {
        for (kind, text) in [
            (SourceKind::LisSkins, lis_skins(time)),
            (SourceKind::MarketCsgo, market_csgo(time)),
            (SourceKind::Skinport, skinport(time)),
        ] {
            assert_eq!(fails(kind, &text), TableError::Shape, "{text}");
        }
    }
    for absent in ["null", "0"] {
        assert_eq!(read(SourceKind::LisSkins, &lis_skins(absent)).at, None);
        assert_eq!(read(SourceKind::Skinport, &skinport(absent)).at, None);
    }
    // Another row states when the newest price changed.
    let text = skinport(r#""yesterday""#).replace("null", "1772352000");
    assert_eq!(read(SourceKind::Skinport, &text).at, at("2026-03-01T08:00:00Z"));
}

#[test]
fn an_older_pricempire_answer_is_read_and_inflated_prices_are_none() {
    let text = format!(
        r#"{{"{REDLINE}":{{"liquidity":91,"buff":{{"price":3142,"count":1810,"avg30":1,"isInflated":true}},"buff_buy":{{"price":2990,"count":77,"isInflated":false}}}}}}"#
    );
    check(SourceKind::Pricempire, &text, &[(REDLINE, "-/29.90x77")]);
}

#[test]
fn csfloat_prices_are_cents_with_or_without_an_object_around_them() {
    let rows = format!(
        r#"[{{"market_hash_name":"{REDLINE}","min_price":3121,"quantity":96}},
            {{"market_hash_name":"★ Karambit | Doppler (Factory New)","phase_name":"Ruby","min_price":500000}},
            {{"market_hash_name":"★ Flip Knife | Doppler (Factory New)","phase_name":"Phase 9","min_price":500000}}]"#
    );
    let expected = [
        (REDLINE, "31.21x96/-"),
        ("★ Karambit | Ruby (Factory New)", "5000.00/-"),
        ("★ Karambit | Doppler (Factory New)", "-/-"),
        ("★ Flip Knife | Doppler (Factory New)", "-/-"),
    ];
    check(SourceKind::CsFloat, &rows, &expected);
    check(SourceKind::CsFloat, &format!(r#"{{"data":{rows}}}"#), &expected);
}

#[test]
fn waxpeer_prices_are_thousandths() {
    let text = format!(
        r#"{{"success":true,"items":[{{"name":"{REDLINE}","count":12,"min":29450,"steam_price":"36310"}},{{"name":"★ Karambit | Doppler Phase 3 (Factory New)","count":1,"min":1000000}}]}}"#
    );
    let phase = ("★ Karambit | Doppler Phase 3 (Factory New)", "1000.00x1/-");
    check(SourceKind::Waxpeer, &text, &[(REDLINE, "29.45x12/-"), phase]);
    let failed = text.replace("true", "false");
    assert_eq!(fails(SourceKind::Waxpeer, &failed), TableError::Failure);
}

#[test]
fn market_csgo_prices_are_decimal_strings_and_its_volume_is_no_count() {
    let text = format!(
        r#"{{"success":true,"time":1772352000,"currency":"USD","items":[{{"market_hash_name":"{REDLINE}","volume":"41","price":"29.871"}}]}}"#
    );
    check(SourceKind::MarketCsgo, &text, &[(REDLINE, "29.871/-")]);
    let table = read(SourceKind::MarketCsgo, &text);
    assert_eq!(table.at, UnixMs::parse("2026-03-01T08:00:00Z"));
    let rubles = text.replace("USD", "RUB");
    assert_eq!(fails(SourceKind::MarketCsgo, &rubles), TableError::Currency("RUB".to_owned()));
}

#[test]
fn lis_skins_lists_are_read_bare_and_wrapped() {
    let rows = format!(r#"[{{"name":"{REDLINE}","price":28.9,"unlocked_price":29.3,"count":7}}]"#);
    check(SourceKind::LisSkins, &rows, &[(REDLINE, "28.90x7/-")]);
    let wrapped = format!(r#"{{"status":"success","last_update":1772352000,"items":{rows}}}"#);
    check(SourceKind::LisSkins, &wrapped, &[(REDLINE, "28.90x7/-")]);
    assert_eq!(read(SourceKind::LisSkins, &wrapped).at, UnixMs::parse("2026-03-01T08:00:00Z"));
    let failed = wrapped.replace("success", "error");
    assert_eq!(fails(SourceKind::LisSkins, &failed), TableError::Failure);
}

#[test]
fn an_own_file_is_json_or_csv_in_the_unit_of_its_setting() {
    let json =
        format!(r#"{{"{REDLINE}":31.4,"Fracture Case":{{"ask":"0.6","bid":0.5,"count":9}}}}"#);
    check(SourceKind::File, &json, &[(REDLINE, "31.40/-"), ("Fracture Case", "0.60x9/0.50x9")]);
    let csv = format!(
        "\u{feff}name,ask,bid,count\r\n{REDLINE},31.4,,\r\n\"Fracture Case\",0.6,0.5,9\r\n\r\n\"Sticker | Well, \"\"Played\"\"\",1,,\r\n"
    );
    check(
        SourceKind::File,
        &csv,
        &[
            (REDLINE, "31.40/-"),
            ("Fracture Case", "0.60x9/0.50x9"),
            ("Sticker | Well, \"Played\"", "1.00/-"),
        ],
    );
    let cents = parse(SourceKind::File, PriceUnit::Cents, b"price,name\n3140,AK-47 | Redline\n");
    assert_eq!(shown(&cents.unwrap(), "AK-47 | Redline"), "31.40/-");
}

#[test]
fn an_invalid_csv_file_names_the_line() {
    let error = |text: &str| fails(SourceKind::File, text).to_string();
    assert_eq!(
        error("name,ask\nFracture Case,0.6,9\n"),
        "line 2 does not have as many cells as the header"
    );
    assert_eq!(error("name,ask\n\"Fracture"), "line 2 has a quote that is not closed");
    assert_eq!(error("name,count\nx,1"), "line 1 lacks the column `name`, or both `ask` and `bid`");
    assert_eq!(error("name,ask,ask\nx,1,1"), "line 1 has a column twice");
    assert!(error("item,ask\nx,1").starts_with("line 1 has a column other than `name`"));
    assert_eq!(error("name,ask\nx,\n"), "it has no price");
}

#[test]
fn what_is_not_the_file_of_its_source_is_an_error_as_a_whole() {
    for (kind, _name) in SourceKind::ALL {
        assert_eq!(fails(kind, ""), TableError::Empty, "{kind:?}");
        assert_eq!(fails(kind, " \n"), TableError::Empty);
        let html = "\u{feff} <!DOCTYPE html><html><body>Just a moment…</body></html>";
        assert_eq!(fails(kind, html), TableError::Html);
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>";
        assert_eq!(fails(kind, xml), TableError::Xml);
        assert_eq!(parse(kind, PriceUnit::Whole, b"{\"\xff\":1}"), Err(TableError::NotText));
        if kind != SourceKind::File {
            assert_eq!(fails(kind, "3"), TableError::Shape);
            assert!(matches!(fails(kind, "hello"), TableError::NotJson { at: 0 }));
        }
    }
    assert_eq!(fails(SourceKind::Waxpeer, "{\"success\":true}"), TableError::Shape);
    assert_eq!(fails(BUFF, "[]"), TableError::Shape);
    assert_eq!(fails(BUFF, "{}"), TableError::NoPrices);
}

/// A valid file of each kind.
fn files() -> Vec<(SourceKind, String)> {
    let file = |kind: SourceKind| {
        let text = match kind {
            SourceKind::File => format!(r#"{{"{REDLINE}":31.4,"★ Karambit":{{"ask":800}}}}"#),
            SourceKind::CsgoTrader(_) => format!(
                r#"{{"{REDLINE}":{{"price":1,"starting_at":{{"price":31.4,"doppler":{{"Ruby":1}}}}}},"★ Karambit":3}}"#
            ),
            SourceKind::Pricempire => format!(
                r#"[{{"market_hash_name":"{REDLINE}","prices":[{{"provider_key":"buff163","price":3142}}]}}]"#
            ),
            _ => format!(
                r#"[{{"name":"{REDLINE}","market_hash_name":"{REDLINE}","price":3,"min_price":3,"min":3000,"count":2}}]"#
            ),
        };
        (kind, text)
    };
    SourceKind::ALL.into_iter().map(|(kind, _name)| file(kind)).collect()
}

/// A file of a kind in which only the Redline has a price, which is this value.
fn with_price(kind: SourceKind, value: &str) -> String {
    let entry = match kind {
        SourceKind::CsgoTrader(file) => match file {
            CsgoTraderFile::Buff163 => format!(r#"{{"starting_at":{{"price":{value}}}}}"#),
            CsgoTraderFile::Skinport => format!(r#"{{"starting_at":{value}}}"#),
            CsgoTraderFile::LootFarm
            | CsgoTraderFile::CsgoTm
            | CsgoTraderFile::CsgoEmpire
            | CsgoTraderFile::SwapGg
            | CsgoTraderFile::Youpin => value.to_owned(),
            _ => format!(r#"{{"price":{value}}}"#),
        },
        SourceKind::File => value.to_owned(),
        SourceKind::Pricempire => {
            return format!(
                r#"[{{"market_hash_name":"{REDLINE}","prices":[{{"provider_key":"buff163","price":{value}}}]}}]"#
            );
        }
        _ => {
            return format!(
                r#"[{{"name":"{REDLINE}","market_hash_name":"{REDLINE}","price":{value},"min_price":{value},"min":{value}}}]"#
            );
        }
    };
    format!(r#"{{"{REDLINE}":{entry}}}"#)
}

#[test]
fn what_is_no_price_gives_none_in_the_file_of_any_kind() {
    for (kind, _name) in SourceKind::ALL {
        assert_eq!(read(kind, &with_price(kind, "3140")).len(), 1, "{kind:?}");
        for value in ["null", r#""null""#, r#""""#, "0", "-3.5", "1e12", "true", "[3]"] {
            assert_eq!(
                fails(kind, &with_price(kind, value)),
                TableError::NoPrices,
                "{kind:?} {value}"
            );
        }
    }
}

/// A name that is cut may be that of another item.
#[test]
fn a_csv_file_with_the_name_last_that_is_cut_anywhere_is_an_error() {
    let parse = |text: &str| parse(SourceKind::File, PriceUnit::Whole, text.as_bytes());
    let text = "bid,name\n0.5,Fracture Case\n1084,★ Karambit | Ruby (Factory New)\n";
    assert_eq!(parse(text).unwrap().len(), 2);
    let last_line = text.find("1084").unwrap();
    for end in (last_line + 1..text.len()).filter(|end| text.is_char_boundary(*end)) {
        assert!(parse(&text[..end]).is_err(), "cut at {end}");
    }
    let cut = parse(text.trim_end()).unwrap_err().to_string();
    assert_eq!(cut, "line 3 does not end in a line break, so its name may be cut off; add one");
    assert!(parse("name,bid\nFracture Case,0.5").is_ok());
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    for (kind, text) in files() {
        read(kind, &text);
        for end in 1..text.len() {
            let cut = parse(kind, PriceUnit::Whole, &text.as_bytes()[..end]);
            assert!(cut.is_err(), "{kind:?} cut at {end}: {cut:?}");
        }
        let half = &text.as_bytes()[..text.len() - 1];
        let cut = parse(kind, PriceUnit::Whole, half);
        assert_eq!(cut, Err(TableError::CutOff { bytes: half.len() }), "{kind:?}");
    }
}

#[test]
fn too_many_items_are_an_error() {
    let mut text = String::from("name,ask\n");
    for number in 0..=ITEMS_MAX {
        text.push_str(&format!("Item {number},1\n"));
    }
    assert_eq!(fails(SourceKind::File, &text), TableError::TooManyItems);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (kind, _name) in SourceKind::ALL {
            let _result = parse(kind, PriceUnit::Cents, &bytes).is_ok();
        }
    }

    #[test]
    fn a_changed_file_is_read_or_rejected_without_a_panic(
        which in 0..20_usize,
        at in any::<prop::sample::Index>(),
        replacement in "[\\PC]{0,4}|null|\\{|\\[|\"|1e9|-1|,",
    ) {
        let (kind, mut text) = files().swap_remove(which);
        let mut start = at.index(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let end = text[start..].chars().next().map_or(start, |char| start + char.len_utf8());
        text.replace_range(start..end, &replacement);
        if let Ok(table) = parse(kind, PriceUnit::Whole, text.as_bytes()) {
            prop_assert!(!table.is_empty());
            prop_assert!(table.iter().all(|(_, quote)| !quote.is_empty()));
        }
    }
}
