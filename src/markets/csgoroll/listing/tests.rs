//! Tests of [`super`]: recorded examples, special cases, and a comparison with `serde_json`.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::{item_filter::NamePattern, item_name::Wear};

fn listing() -> Value {
    json!({
        "id": "VHJhZGU6OTAwMDAwMDI", "status": "LISTED", "markupPercent": 1.5, "totalValue": 10.15,
        "canJoin": true, "canJoinAfter": null,
        "suspectedTraderCanJoinAfter": "2026-03-01T10:00:01.300Z",
        "createdAt": "2026-03-01T10:00:00.300Z", "expiresAt": "2026-03-03T10:00:00.301Z",
        "depositor": null, "avgPaintWear": null, "avgPaintWearRange": {"min": 0.15, "max": 0.18},
        "tradeItems": [{"id": "x", "marketName": "AK-47 | Redline (Field-Tested)", "value": 10.15,
            "itemVariant": {"brand": "AK-47", "name": "Redline", "value": 10}, "stickers": []}],
        "steamAppName": "CSGO", "trackingType": "API_KEY_DEPOSITOR"
    })
}

fn read_text(text: &str) -> Option<Trade<'static>> {
    read_as(Generation::A, text)
}

fn read_as(generation: Generation, text: &str) -> Option<Trade<'static>> {
    let mut cursor = Cursor::new(text);
    let trade = read(&mut cursor, TradeEvent::Listed, generation).unwrap();
    cursor.end().unwrap();
    trade.map(Trade::into_owned)
}

fn with(key: &str, value: Value) -> Trade<'static> {
    let mut listing = listing();
    listing[key] = value;
    read_text(&listing.to_string()).unwrap()
}

fn without(key: &str) -> Trade<'static> {
    let mut listing = listing();
    listing.as_object_mut().unwrap().remove(key).unwrap();
    read_text(&listing.to_string()).unwrap()
}

fn named(name: &str) -> Trade<'static> {
    let mut listing = listing();
    listing["tradeItems"][0]["marketName"] = json!(name);
    read_text(&listing.to_string()).unwrap()
}

#[track_caller]
fn defects(trade: &Trade<'_>, expected: &[Defect]) {
    assert_eq!(trade.defects.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_complete_listing_is_read_without_defects() {
    let trade = read_text(&listing().to_string()).unwrap();
    defects(&trade, &[]);
    assert_eq!(trade.id.as_str(), "VHJhZGU6OTAwMDAwMDI");
    assert_eq!(trade.status, TradeStatus::Listed);
    assert_eq!(trade.item, "AK-47 | Redline");
    assert_eq!(trade.wear, Some(Wear::FieldTested));
    assert_eq!(trade.total_value, Some(Amount::from_cents(1_015)));
    assert_eq!(trade.base_value, Some(Amount::from_cents(1_000)));
    assert_eq!(trade.markup_percent, Some(Percent::from_hundredths(150)));
    assert_eq!(trade.can_join, Some(true));
    assert_eq!(trade.can_join_after, None);
    assert_eq!(trade.created_at, UnixMs::parse("2026-03-01T10:00:00.300Z"));
    assert_eq!(trade.float, None);
    assert_eq!(trade.float_range, PaintWear::parse("0.15").zip(PaintWear::parse("0.18")));
    assert_eq!((trade.items, trade.is_own), (1, false));
}

#[test]
fn a_plain_frame_is_borrowed_and_not_copied() {
    let text = listing().to_string();
    let trade = read(&mut Cursor::new(&text), TradeEvent::Listed, Generation::B).unwrap().unwrap();
    assert!(matches!(trade.market_name, Cow::Borrowed(_)));
    assert!(matches!(trade.item, Cow::Borrowed(_)));
}

#[test]
fn a_missing_required_field_makes_a_listing_unbuyable() {
    for (key, defect) in [
        ("status", Defect::Status),
        ("markupPercent", Defect::MarkupPercent),
        ("totalValue", Defect::TotalValue),
        ("canJoinAfter", Defect::CanJoinAfter),
        ("suspectedTraderCanJoinAfter", Defect::SuspectedTraderCanJoinAfter),
        ("createdAt", Defect::CreatedAt),
        ("expiresAt", Defect::ExpiresAt),
        ("depositor", Defect::Depositor),
        ("tradeItems", Defect::TradeItems),
    ] {
        defects(&without(key), &[defect]);
    }
    for key in ["canJoin", "avgPaintWear", "avgPaintWearRange", "steamAppName"] {
        defects(&without(key), &[]);
    }
}

#[test]
fn a_listing_of_generation_b_that_does_not_state_can_join_is_unbuyable() {
    let mut absent = listing();
    absent.as_object_mut().unwrap().remove("canJoin").unwrap();
    let mut is_null = listing();
    is_null["canJoin"] = json!(null);
    let mut text = listing();
    text["canJoin"] = json!("true");
    for (listing, of_a) in [(absent, &[][..]), (is_null, &[]), (text, &[Defect::CanJoin])] {
        let listing = listing.to_string();
        defects(&read_as(Generation::B, &listing).unwrap(), &[Defect::CanJoin]);
        defects(&read_as(Generation::A, &listing).unwrap(), of_a);
    }
    defects(&read_as(Generation::B, &listing().to_string()).unwrap(), &[]);
}

fn numbered(id: usize, price: usize) -> Trade<'static> {
    let mut listing = listing();
    listing["id"] = json!(format!("id-{id}"));
    listing["totalValue"] = json!(price);
    read_text(&listing.to_string()).unwrap()
}

proptest! {
    /// Pairwise comparison of small batches and sorting of large ones both mark exactly the
    /// listings that differ from another one with the same id.
    #[test]
    fn conflicting_listings_of_one_id_are_all_marked_and_no_others(
        drawn in prop::collection::vec((0_usize..12, 1_usize..4), 1..40),
        has_first: bool,
    ) {
        let mut all: Vec<Trade<'_>> = drawn.iter().map(|(id, price)| numbered(*id, *price)).collect();
        let (head, tail) = all.split_at_mut(usize::from(has_first));
        mark_conflicts(head.first_mut(), tail);
        for ((id, price), trade) in drawn.iter().zip(&all) {
            let differs = drawn.iter().any(|(other, other_price)| other == id && other_price != price);
            prop_assert_eq!(trade.defects.contains(Defect::Conflict), differs, "{} {}", id, price);
        }
    }
}

#[test]
fn a_required_field_of_a_wrong_type_makes_a_listing_unbuyable() {
    for (key, value, defect) in [
        ("status", json!(1), Defect::Status),
        ("markupPercent", json!("1.5"), Defect::MarkupPercent),
        ("markupPercent", json!(1.555), Defect::MarkupPercent),
        ("totalValue", json!("10.15"), Defect::TotalValue),
        ("totalValue", json!(10.155), Defect::TotalValue),
        ("totalValue", json!(-1), Defect::TotalValue),
        ("totalValue", json!(0), Defect::TotalValue),
        ("totalValue", json!(1e300), Defect::TotalValue),
        ("totalValue", json!(null), Defect::TotalValue),
        ("canJoin", json!("true"), Defect::CanJoin),
        ("canJoinAfter", json!(0), Defect::CanJoinAfter),
        ("canJoinAfter", json!("soon"), Defect::CanJoinAfter),
        ("createdAt", json!(null), Defect::CreatedAt),
        ("expiresAt", json!([]), Defect::ExpiresAt),
        ("avgPaintWear", json!("0.2"), Defect::PaintWear),
        ("avgPaintWear", json!(1.2), Defect::PaintWear),
        ("avgPaintWearRange", json!([0.1, 0.2]), Defect::PaintWear),
        ("avgPaintWearRange", json!({"min": 0.2, "max": 0.1}), Defect::PaintWear),
        ("avgPaintWearRange", json!({"min": 0.2}), Defect::PaintWear),
        ("tradeItems", json!(null), Defect::TradeItems),
        ("tradeItems", json!({}), Defect::TradeItems),
        ("tradeItems", json!(["x"]), Defect::TradeItems),
    ] {
        defects(&with(key, value), &[defect]);
    }
}

#[test]
fn missing_items_and_item_fields_are_defects() {
    let trade = with("tradeItems", json!([]));
    assert_eq!(trade.items, 0);
    defects(&with("tradeItems", json!([{"itemVariant": {"value": 1}}])), &[Defect::MarketName]);
    for item in [
        json!({"marketName": "x"}),
        json!({"marketName": "x", "itemVariant": null}),
        json!({"marketName": "x", "itemVariant": {}}),
        json!({"marketName": "x", "itemVariant": {"value": "1"}}),
    ] {
        defects(&with("tradeItems", json!([item])), &[Defect::BaseValue]);
    }
    let two = listing()["tradeItems"][0].clone();
    assert_eq!(with("tradeItems", json!([two, two])).items, 2);
}

#[test]
fn a_listing_with_a_depositor_is_our_own() {
    assert!(with("depositor", json!({"id": "me"})).is_own);
    assert!(with("depositor", json!("me")).is_own);
}

#[test]
fn integer_and_decimal_amounts_are_equal() {
    assert_eq!(with("totalValue", json!(10)).total_value, Some(Amount::from_cents(1_000)));
    assert_eq!(with("totalValue", json!(10.0)).total_value, Some(Amount::from_cents(1_000)));
    assert_eq!(with("markupPercent", json!(0)).markup_percent, Some(Percent::default()));
}

#[test]
fn an_unknown_status_is_other() {
    assert_eq!(with("status", json!("LISTED_SOON")).status, TradeStatus::Other);
}

#[test]
fn unusual_market_names_are_parsed() {
    let knife = named("★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)");
    assert_eq!((knife.item.as_ref(), knife.is_stattrak), ("Karambit | Doppler Phase 3", true));
    assert_eq!(named("★ Ursus Knife").wear, None);
    assert_eq!(named("Michael Syfers  | FBI Sniper").item, "Michael Syfers | FBI Sniper");
    assert_eq!(named("M4A4 | 龍王 (Dragon King) (Factory New)").item, "M4A4 | 龍王 (Dragon King)");
}

#[test]
fn a_decomposed_name_is_that_of_the_whitelist_and_is_excluded_by_its_pattern() {
    let trade = named("Sticker | Jo\u{308}rg (Holo)");
    assert_eq!(trade.item, "Sticker | J\u{f6}rg (Holo)");
    let pattern = NamePattern::parse("Sticker | J\u{f6}*").unwrap();
    assert!(pattern.matches(&trade));
}

#[test]
fn escaped_names_and_keys_are_decoded() {
    let text = listing()
        .to_string()
        .replace(
            "\"AK-47 | Redline (Field-Tested)\"",
            "\"\\u0041K-47 | Redline (Field\\u002dTested)\"",
        )
        .replace("\"totalValue\"", "\"total\\u0056alue\"");
    let trade = read_text(&text).unwrap();
    defects(&trade, &[]);
    assert_eq!(trade.item, "AK-47 | Redline");
    assert_eq!(trade.wear, Some(Wear::FieldTested));
}

#[test]
fn a_repeated_key_makes_a_listing_unbuyable() {
    let text = listing().to_string();
    for (from, to) in [
        ("\"status\":", "\"totalValue\":1,\"status\":"),
        ("\"status\":", "\"total\\u0056alue\":1,\"status\":"),
        ("\"marketName\":", "\"marketName\":\"cheap\",\"marketName\":"),
        ("\"name\":", "\"value\":99,\"name\":"),
        ("\"min\":", "\"min\":0.9,\"min\":"),
        ("\"max\":", "\"max\":0.16,\"max\":"),
    ] {
        defects(&read_text(&text.replacen(from, to, 1)).unwrap(), &[Defect::RepeatedKey]);
    }
}

#[test]
fn a_listing_without_a_usable_id_is_dropped() {
    for id in [json!(null), json!(7), json!(""), json!("a\"b"), json!("x".repeat(100))] {
        let mut listing = listing();
        listing["id"] = id;
        assert_eq!(read_text(&listing.to_string()), None);
    }
    for text in ["null", "[]", "7", "\"x\"", "{}"] {
        assert_eq!(read_text(text), None);
    }
}

/// Fields that the reference parser compares.
type PlainListing = (TradeId, Option<Amount>, Option<Percent>, TradeStatus, u32, String);

/// Reference parser on top of `serde_json`.
fn reference_parse(value: &Value) -> Option<PlainListing> {
    let number = |value: &Value| match value {
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let id = TradeId::new(value.get("id")?.as_str()?)?;
    let total = value.get("totalValue").and_then(number);
    let markup = value.get("markupPercent").and_then(number);
    let items = value.get("tradeItems").and_then(Value::as_array);
    let items = items.filter(|items| items.first().is_none_or(Value::is_object));
    let name = items.and_then(|items| items.first()?.get("marketName")?.as_str());
    Some((
        id,
        total
            .and_then(|text| Amount::parse(&text, DECIMALS).ok())
            .filter(|coins| Amount::ZERO < *coins),
        markup.and_then(|text| Percent::parse(&text).ok()),
        value
            .get("status")
            .and_then(Value::as_str)
            .map_or(TradeStatus::Other, TradeStatus::from_market),
        items.map_or(0, |items| u32::try_from(items.len()).unwrap()),
        crate::text::composed(name.unwrap_or_default()).into_owned(),
    ))
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-100_000_i64..100_000).prop_map(Value::from),
        (0_u32..10_000_000).prop_map(|cents| json!(
            Amount::from_cents(i64::from(cents)).to_string().parse::<f64>().unwrap()
        )),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("LISTED")),
        Just(json!("2026-03-01T10:00:00.300Z")),
        Just(json!("★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,6}", inner.clone(), 0..3)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
            prop::collection::hash_map("(marketName|itemVariant|value)", inner, 0..3).prop_map(
                |map| json!([Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())])
            ),
        ]
    })
}

proptest! {
    /// Both parsers agree on listings with arbitrary values in any field.
    #[test]
    fn the_parser_agrees_with_serde_json(
        changes in prop::collection::vec(
            (prop::sample::select(vec!["id", "status", "markupPercent", "totalValue", "tradeItems", "canJoin", "avgPaintWear", "x"]), any_value()),
            0..4,
        ),
    ) {
        let mut listing = listing();
        for (key, value) in changes {
            listing[key] = value;
        }
        let fast = read_text(&listing.to_string());
        let fast = fast.map(|trade| (trade.id, trade.total_value, trade.markup_percent, trade.status, trade.items, trade.market_name.into_owned()));
        prop_assert_eq!(fast, reference_parse(&listing));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        let read = read(&mut Cursor::new(&text), TradeEvent::Listed, Generation::B);
        prop_assert_eq!(read.is_ok(), Cursor::new(&text).skip().is_ok());
    }
}
