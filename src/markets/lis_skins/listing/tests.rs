//! A complete listing, each field alone, and hostile listings.

use std::borrow::Cow;

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::domain::item_name::Wear;

pub(in super::super) fn listing() -> Value {
    json!({
        "id": 900_000_123_u64, "name": "AK-47 | Redline (Field-Tested)", "price": 27.44,
        "name_tag": null,
        "stickers": [{"name": "Sticker | Example", "image": "https://example.invalid/s.png",
            "wear": 0, "slot": 0}],
        "unlock_at": null, "created_at": "2026-03-01T10:00:00.000000Z", "item_float": "0.2143321",
        "item_class_id": "310776560", "item_paint_seed": 231, "item_paint_index": 282,
        "event": "obtained_skin_added"
    })
}

fn read_text(text: &str) -> Option<Trade<'static>> {
    let mut cursor = Cursor::new(text);
    let skin = Skin::read(&mut cursor).unwrap();
    cursor.end().unwrap();
    skin?.into_trade(TradeEvent::Listed, false).map(Trade::into_owned)
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

#[track_caller]
fn defects(trade: &Trade<'_>, expected: &[Defect]) {
    assert_eq!(trade.defects.iter().collect::<Vec<_>>(), expected, "{trade:?}");
}

#[test]
fn a_complete_listing_is_read_without_defects() {
    let trade = read_text(&listing().to_string()).unwrap();
    defects(&trade, &[]);
    assert_eq!(trade.id.as_str(), "900000123");
    assert_eq!(trade.market_name, "AK-47 | Redline (Field-Tested)");
    assert_eq!((trade.item.as_ref(), trade.wear), ("AK-47 | Redline", Some(Wear::FieldTested)));
    assert_eq!(trade.total_value, Some(Amount::from_cents(2_744)));
    assert_eq!(trade.float, PaintWear::parse("0.2143321"));
    assert_eq!(trade.created_at, UnixMs::parse("2026-03-01T10:00:00Z"));
    assert_eq!((trade.status, trade.items, trade.can_join), (TradeStatus::Listed, 1, None));
    assert_eq!((trade.markup_percent, trade.base_value, trade.expires_at), (None, None, None));
    assert!(!trade.is_own && !trade.is_stattrak && !trade.is_souvenir);
}

#[test]
fn reading_a_listing_copies_no_text() {
    let text = listing().to_string();
    let skin = Skin::read(&mut Cursor::new(&text)).unwrap().unwrap();
    let trade = skin.into_trade(TradeEvent::Listed, false).unwrap();
    assert!(matches!((&trade.market_name, &trade.item), (Cow::Borrowed(_), Cow::Borrowed(_))));
    let mut doppler = listing();
    doppler["name"] = json!("★ Karambit | Doppler (Factory New)");
    doppler["item_paint_index"] = json!(420);
    let text = doppler.to_string();
    let skin = Skin::read(&mut Cursor::new(&text)).unwrap().unwrap();
    let trade = skin.into_trade(TradeEvent::Listed, false).unwrap();
    assert!(matches!(trade.item, Cow::Borrowed("Karambit | Doppler Phase 3")), "{trade:?}");
    assert_eq!(trade.market_name, "★ Karambit | Doppler (Factory New)");
    assert_eq!(trade.full_name(), "★ Karambit | Doppler Phase 3 (Factory New)");
    doppler["item_paint_index"] = json!(415);
    let ruby = read_text(&doppler.to_string()).unwrap();
    assert_eq!(ruby.full_name(), "★ Karambit | Ruby (Factory New)");
}

#[test]
fn stattrak_souvenir_and_wear_are_read_from_the_name() {
    let trade = with("name", json!("StatTrak™ AWP | Neo-Noir (Minimal Wear)"));
    assert!(trade.is_stattrak && !trade.is_souvenir);
    assert_eq!((trade.item.as_ref(), trade.wear), ("AWP | Neo-Noir", Some(Wear::MinimalWear)));
    let trade = with("name", json!("Souvenir AWP | Dragon Lore (Well-Worn)"));
    assert!(trade.is_souvenir && trade.wear == Some(Wear::WellWorn));
    let escaped = listing().to_string().replace("AK-47", r"\u2605 StatTrak\u2122 Karambit");
    let trade = read_text(&escaped).unwrap();
    assert!(trade.is_stattrak && trade.item == "Karambit | Redline");
}

#[test]
fn an_id_may_exceed_32_bits() {
    assert_eq!(with("id", json!(u64::MAX)).id.as_str(), u64::MAX.to_string());
    for id in ["\"900000123\"", "null", "-1", "1.0", "1e3", "18446744073709551616", "[1]"] {
        let text = listing().to_string().replace("900000123", id);
        assert_eq!(read_text(&text), None, "{id}");
    }
    assert_eq!(read_text("{}"), None);
    assert_eq!(read_text("[1]"), None);
}

#[test]
fn a_price_is_exact_and_rounded_up() {
    let price = |text: &str| {
        let text = listing().to_string().replace("27.44", text);
        read_text(&text).unwrap().total_value.map(Amount::thousandths)
    };
    for (text, thousandths) in [
        ("27.44", 27_440),
        ("27.4401", 27_450),
        ("27", 27_000),
        ("0.01", 10),
        ("0.001", 10),
        ("2.744e1", 27_440),
    ] {
        assert_eq!(price(text), Some(thousandths), "{text}");
    }
    for text in ["0", "-1", "\"27.44\"", "null", "1e99", "[]", "true"] {
        assert_eq!(price(text), None, "{text}");
        let listing = listing().to_string().replace("27.44", text);
        defects(&read_text(&listing).unwrap(), &[Defect::TotalValue]);
    }
    defects(&without("price"), &[Defect::TotalValue]);
}

#[test]
fn a_locked_listing_cannot_be_bought() {
    assert_eq!(with("unlock_at", json!("2026-03-08T10:00:00.000000Z")).can_join, Some(false));
    for value in [json!("soon"), json!(""), json!(0), json!(false), json!({})] {
        assert_eq!(with("unlock_at", value.clone()).can_join, Some(false), "{value}");
    }
    let unknown = without("unlock_at");
    defects(&unknown, &[Defect::CanJoin]);
    assert_eq!(unknown.can_join, Some(false));
}

#[test]
fn a_listing_of_another_game_cannot_be_bought() {
    for (game, expected) in [
        (json!(1), None),
        (json!(null), None),
        (json!(2), Some(false)),
        (json!(3), Some(false)),
        (json!(730), Some(false)),
        // A value that cannot be read proves nothing, and the name is one of this game.
        (json!("1"), None),
    ] {
        assert_eq!(with("game_id", game.clone()).can_join, expected, "{game}");
    }
    for name in [
        "★ Ursus Knife",
        "Fracture Case",
        "Stockholm 2021 Legends Sticker Capsule",
        "Paris 2023 Nuke Souvenir Package",
        "Howl Pin",
        "CS:GO Weapon Case 2",
        "Sticker Capsule 2",
        "Collectible Pins Capsule Series 1",
        "MLG Columbus 2016 Legends (Holo-Foil)",
        "DreamHack Cluj-Napoca 2015 Challengers (Foil)",
        "Prisma Case Key",
        "Masterminds Music Kit Box",
        "Name Tag",
        "Music Kit | Example, One",
        "Sticker | Example (Holo)",
        "Michael Syfers  | FBI Sniper",
    ] {
        assert_eq!(with("name", json!(name)).can_join, None, "{name}");
    }
    for name in ["Exalted Dragonclaw Hook", "Inscribed Golden Staff", "Tempered AK47", ""] {
        assert_eq!(with("name", json!(name)).can_join, Some(false), "{name}");
        let mut listing = listing();
        listing["name"] = json!(name);
        listing["game_id"] = json!(1);
        assert_eq!(read_text(&listing.to_string()).unwrap().can_join, None, "{name}");
    }
}

#[test]
fn a_field_that_is_unreadable_is_a_defect_and_a_missing_optional_one_is_not() {
    for (key, value, defect) in [
        ("name", json!(7), Defect::MarketName),
        ("name", json!(null), Defect::MarketName),
        ("created_at", json!("yesterday"), Defect::CreatedAt),
        ("created_at", json!(1), Defect::CreatedAt),
        ("item_float", json!("2"), Defect::PaintWear),
        ("item_float", json!(0.5), Defect::PaintWear),
    ] {
        assert!(with(key, value.clone()).defects.contains(defect), "{key} {value}");
    }
    assert!(without("name").defects.contains(Defect::MarketName));
    for key in ["created_at", "item_float", "item_paint_index", "stickers", "name_tag"] {
        defects(&without(key), &[]);
        defects(&with(key, json!(null)), &[]);
    }
    let index = with("item_paint_index", json!("420"));
    defects(&index, &[]);
}

#[test]
fn a_repeated_key_makes_a_listing_unbuyable() {
    for (key, value) in
        [("id", "7"), ("name", "\"x\""), ("price", "1"), ("unlock_at", "null"), ("game_id", "1")]
    {
        let text = listing().to_string();
        let twice = text.replacen('{', &format!("{{\"{key}\":{value},\"{key}\":{value},"), 1);
        assert!(read_text(&twice).unwrap().defects.contains(Defect::RepeatedKey), "{key}");
    }
}

proptest! {
    #[test]
    fn a_listing_with_any_values_is_read_or_dropped_without_panic(
        key in select(vec!["id", "name", "price", "unlock_at", "created_at", "item_float",
            "item_paint_index", "game_id", "event", "status"]),
        value in select(vec!["null", "true", "0", "-0.0", "1e400", "\"\"", "\"\\u0000\"", "[[]]",
            "{\"a\":{}}", "99999999999999999999999", "\"★ ★ StatTrak™ \""]),
    ) {
        let mut object = listing();
        object.as_object_mut().unwrap().remove(key);
        let text = object.to_string().replacen('{', &format!("{{\"{key}\":{value},"), 1);
        if let Some(trade) = read_text(&text) {
            let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert!(is_number(trade.id.as_str()));
            prop_assert!(trade.total_value.is_none_or(|price| Amount::ZERO < price));
        }
    }
}

#[test]
fn a_decomposed_name_is_composed() {
    assert_eq!(with("name", json!("Sticker | Jo\u{308}rg")).item, "Sticker | J\u{f6}rg");
}
