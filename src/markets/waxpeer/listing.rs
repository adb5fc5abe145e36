//! Parser of the listing in a `new` or `update` event: JSON object → [`Trade`], in one pass and
//! without allocation, except for a phase that is not a part of the name.
//!
//! # Invariants
//!
//! 1. A required key that is missing, of a wrong type, out of range or repeated becomes a
//!    [`Defect`]. The listing is still returned, so that it can be counted and logged.
//! 2. Only a listing without a valid id is dropped.
//! 3. Other keys are skipped for any value that is valid JSON. The holder's Steam id is among them.
//! 4. A listing of another game, and one that is locked, cannot be joined.

use crate::{
    domain::item_name::ItemName,
    domain::money::Amount,
    domain::trade::{Defect, Defects, PaintWear, Trade, TradeEvent, TradeId, TradeStatus},
    json::{Cursor, JsonError, JsonStr, ValueKind},
    markets::listing_field::market_name,
};

/// The game whose listings are bought.
const GAME: &str = "csgo";

/// Fields of a listing during parsing. A required one that is missing or unreadable is `None`.
#[derive(Default)]
struct ListingDraft<'a> {
    id: Option<TradeId>,
    name: Option<JsonStr<'a>>,
    price: Option<Amount>,
    is_game: bool,
    is_locked: bool,
    float: Option<PaintWear>,
    phase: Option<JsonStr<'a>>,
    defects: Defects,
    seen: u8,
}

/// Parses one listing. Returns `None` for a value that is not an object or has no valid id.
///
/// # Errors
///
/// Returns a [`JsonError`] if the text is not JSON.
#[inline]
pub fn read<'a>(
    cursor: &mut Cursor<'a>,
    event: TradeEvent,
) -> Result<Option<Trade<'a>>, JsonError> {
    if cursor.peek()? != ValueKind::Object {
        cursor.skip()?;
        return Ok(None);
    }
    let mut draft = ListingDraft::default();
    cursor.object(|key, cursor| match key.plain() {
        Some(key) => draft.read_field(key, cursor),
        None => draft.read_field(&key.decode(), cursor),
    })?;
    Ok(draft.finish(event))
}

/// Parses the id of an item: a string or a number of digits.
#[inline]
pub(super) fn id(cursor: &mut Cursor<'_>) -> Result<Option<TradeId>, JsonError> {
    Ok(match cursor.peek()? {
        ValueKind::String => {
            let text = cursor.string()?;
            text.plain().map_or_else(|| super::item_id(&text.decode()), super::item_id)
        }
        _ => super::item_id(cursor.skip()?),
    })
}

impl<'a> ListingDraft<'a> {
    #[inline]
    fn read_field(&mut self, key: &str, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        let bit = match key {
            "item_id" => {
                self.id = id(cursor)?;
                1
            }
            "name" => {
                self.name = string(cursor)?;
                2
            }
            "price" => {
                self.price = super::price(cursor.skip()?);
                4
            }
            "game" => {
                self.is_game = string(cursor)?.is_some_and(|game| game.plain() == Some(GAME));
                8
            }
            "float" => {
                self.float(cursor)?;
                16
            }
            "phase" => {
                self.phase = match cursor.peek()? {
                    ValueKind::Null => cursor.skip().map(|_null| None)?,
                    _ => string(cursor)?.or_else(|| {
                        self.defects.add(Defect::MarketName);
                        None
                    }),
                };
                32
            }
            "unlock_at" | "send_until" => {
                self.is_locked |= cursor.peek()? != ValueKind::Null;
                return cursor.skip().map(drop);
            }
            _ => return cursor.skip().map(drop),
        };
        if self.seen & bit != 0 {
            self.defects.add(Defect::RepeatedKey);
        }
        self.seen |= bit;
        Ok(())
    }

    /// Parses the float: a number, the same as a string, or null.
    #[inline]
    fn float(&mut self, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        self.float = match cursor.peek()? {
            ValueKind::Null => return cursor.skip().map(drop),
            ValueKind::String => cursor.string()?.plain().and_then(PaintWear::parse),
            _ => PaintWear::parse(cursor.skip()?),
        };
        if self.float.is_none() {
            self.defects.add(Defect::PaintWear);
        }
        Ok(())
    }

    #[inline]
    fn finish(self, event: TradeEvent) -> Option<Trade<'a>> {
        let id = self.id?;
        let mut defects = self.defects;
        if self.price.is_none() {
            defects.add(Defect::TotalValue);
        }
        if self.name.is_none() {
            defects.add(Defect::MarketName);
        }
        let market_name = market_name(self.name);
        let mut name = ItemName::parse_cow(&market_name);
        if let Some(phase) = self.phase
            && name.add_phase(&phase.decode()).is_err()
        {
            defects.add(Defect::MarketName);
        }
        Some(Trade {
            id,
            event,
            status: TradeStatus::Listed,
            item: name.base,
            is_stattrak: name.is_stattrak,
            is_souvenir: name.is_souvenir,
            wear: name.wear,
            rarity: None,
            items: 1,
            markup_percent: None,
            total_value: self.price,
            base_value: None,
            can_join: Some(self.is_game && !self.is_locked),
            can_join_after: None,
            suspected_trader_can_join_after: None,
            created_at: None,
            expires_at: None,
            float: self.float,
            float_range: None,
            is_own: false,
            market_name,
            defects,
            arrival: None,
        })
    }
}

/// Parses a string; any other value is `None`.
#[inline]
pub(super) fn string<'a>(cursor: &mut Cursor<'a>) -> Result<Option<JsonStr<'a>>, JsonError> {
    if cursor.peek()? == ValueKind::String {
        return cursor.string().map(Some);
    }
    cursor.skip()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::item_name::Wear;

    fn listing() -> Value {
        json!({
            "item_id": "40000000123", "name": "★ Karambit | Doppler Phase 3 (Factory New)",
            "price": 912_340, "game": "csgo", "auto": true, "float": 0.0213, "paint_index": 420,
            "phase": "Phase 3", "sticker_names": null, "classid": null, "instance_id": null,
            "steam_id": "76561198000000000", "steam_price": 1_004_500,
        })
    }

    fn with(key: &str, value: Value) -> String {
        let mut listing = listing();
        listing[key] = value;
        listing.to_string()
    }

    fn without(key: &str) -> String {
        let mut listing = listing();
        listing.as_object_mut().unwrap().remove(key);
        listing.to_string()
    }

    fn try_read(text: &str) -> Option<Trade<'_>> {
        read(&mut Cursor::new(text), TradeEvent::Listed).unwrap()
    }

    fn trade(text: &str) -> Trade<'_> {
        try_read(text).unwrap()
    }

    fn defects(text: &str) -> Vec<Defect> {
        trade(text).defects.iter().collect()
    }

    #[test]
    fn a_decomposed_name_is_composed() {
        let text = with("name", json!("Sticker | Jo\u{308}rg"));
        assert_eq!(trade(&text).item, "Sticker | J\u{f6}rg");
    }

    #[test]
    fn a_listing_is_read_completely_and_without_allocation() {
        let text = listing().to_string();
        let trade = trade(&text);
        assert_eq!(trade.id.as_str(), "40000000123");
        assert_eq!(trade.market_name, "★ Karambit | Doppler Phase 3 (Factory New)");
        assert_eq!(trade.item, "Karambit | Doppler Phase 3");
        assert_eq!((trade.is_stattrak, trade.is_souvenir), (false, false));
        assert_eq!(trade.wear, Some(Wear::FactoryNew));
        assert_eq!(trade.total_value, Some(Amount::from_thousandths(912_340)));
        assert_eq!(trade.float, PaintWear::parse("0.0213"));
        assert_eq!((trade.status, trade.items), (TradeStatus::Listed, 1));
        assert_eq!(trade.can_join, Some(true));
        assert_eq!((trade.markup_percent, trade.base_value, trade.expires_at), (None, None, None));
        assert!(trade.defects.is_empty());
        assert!(matches!((&trade.market_name, &trade.item), (Cow::Borrowed(_), Cow::Borrowed(_))));
        assert!(!format!("{trade:?}").contains("76561198000000000"), "the holder is dropped");
    }

    #[test]
    fn a_name_shows_stattrak_souvenir_and_wear() {
        let read = |name: &str| {
            let text = with("name", json!(name)).replace("Phase 3\"", "\"");
            let trade = trade(&text);
            let wear = trade.wear.map(Wear::short);
            (trade.item.into_owned(), trade.is_stattrak, trade.is_souvenir, wear)
        };
        let item =
            |item: &str, stattrak, souvenir, wear| (item.to_owned(), stattrak, souvenir, wear);
        assert_eq!(
            read("StatTrak™ AWP | Neo-Noir (Minimal Wear)"),
            item("AWP | Neo-Noir", true, false, Some("MW"))
        );
        assert_eq!(
            read("Souvenir AWP | Pit Viper (Battle-Scarred)"),
            item("AWP | Pit Viper", false, true, Some("BS"))
        );
        assert_eq!(read("★ Ursus Knife"), item("Ursus Knife", false, false, None));
    }

    #[test]
    fn a_phase_is_read_from_the_field_and_the_name() {
        let read = |name: &str, phase: Value| {
            let mut listing = listing();
            listing["name"] = json!(name);
            listing["phase"] = phase;
            let text = listing.to_string();
            let trade = trade(&text);
            (trade.item.into_owned(), trade.defects.is_empty())
        };
        let doppler = "★ Karambit | Doppler (Factory New)";
        for (name, phase, item, is_readable) in [
            (doppler, json!("Phase 2"), "Karambit | Doppler Phase 2", true),
            (doppler, json!("Ruby"), "Karambit | Ruby", true),
            (doppler, json!(""), "Karambit | Doppler", true),
            (doppler, json!(null), "Karambit | Doppler", true),
            (doppler, json!(3), "Karambit | Doppler", false),
            ("★ Karambit | Doppler Ruby (Factory New)", json!("Ruby"), "Karambit | Ruby", true),
            ("★ Karambit | Doppler Ruby (Factory New)", json!(""), "Karambit | Ruby", true),
            (
                "★ Karambit | Doppler Phase 1 (Factory New)",
                json!("Phase 2"),
                "Karambit | Doppler Phase 1",
                false,
            ),
            ("AK-47 | Redline (Field-Tested)", json!("Ruby"), "AK-47 | Redline", false),
        ] {
            assert_eq!(read(name, phase.clone()), (item.to_owned(), is_readable), "{name} {phase}");
        }
    }

    #[test]
    fn a_locked_listing_and_one_of_another_game_cannot_be_joined() {
        let date = json!("2026-03-09T10:00:00.000Z");
        for text in [
            with("unlock_at", date.clone()),
            with("send_until", date),
            with("unlock_at", json!(1)),
            with("game", json!("rust")),
            with("game", json!("CSGO")),
            with("game", json!(null)),
            without("game"),
        ] {
            assert_eq!(trade(&text).can_join, Some(false), "{text}");
        }
        for key in ["unlock_at", "send_until"] {
            assert_eq!(trade(&with(key, json!(null))).can_join, Some(true), "{key}");
        }
    }

    #[test]
    fn a_float_is_a_number_a_string_or_absent() {
        for (value, expected) in [
            (json!(0.0213), Some("0.0213")),
            (json!("0.021300000000000001"), Some("0.021300000000000001")),
            (json!(null), None),
        ] {
            let text = with("float", value);
            let trade = trade(&text);
            assert_eq!(trade.float.map(|float| float.to_string()).as_deref(), expected);
            assert!(trade.defects.is_empty());
        }
        assert!(trade(&without("float")).defects.is_empty());
        for value in [json!(1.5), json!(-0.1), json!("x"), json!(""), json!([0.1]), json!(true)] {
            assert_eq!(defects(&with("float", value.clone())), [Defect::PaintWear], "{value}");
        }
    }

    #[test]
    fn an_unreadable_price_or_name_is_a_defect() {
        for value in [json!(0), json!(-1), json!(1.5), json!("912340"), json!(null), json!({})] {
            assert_eq!(defects(&with("price", value.clone())), [Defect::TotalValue], "{value}");
            let name = if value.is_string() { json!(7) } else { value };
            assert!(defects(&with("name", name)).contains(&Defect::MarketName));
        }
        assert_eq!(defects(&without("price")), [Defect::TotalValue]);
        assert!(defects(&without("name")).contains(&Defect::MarketName));
        let large =
            with("price", json!(0)).replace(r#""price":0"#, r#""price":99999999999999999999"#);
        assert_eq!(defects(&large), [Defect::TotalValue]);
    }

    #[test]
    fn a_repeated_key_is_a_defect() {
        for key in ["item_id", "name", "price", "game", "float", "phase"] {
            let value = listing()[key].to_string();
            let text = listing().to_string();
            let text = text.replacen('{', &format!(r#"{{"{key}":{value},"#), 1);
            assert_eq!(defects(&text), [Defect::RepeatedKey], "{text}");
        }
    }

    #[test]
    fn a_listing_without_an_id_is_dropped() {
        assert_eq!(trade(&with("item_id", json!(40_000_000_123_u64))).id.as_str(), "40000000123");
        for value in [json!(null), json!(""), json!("a"), json!("7&price=1"), json!(-7), json!([7])]
        {
            assert_eq!(try_read(&with("item_id", value.clone())), None, "{value}");
        }
        assert_eq!(try_read(&without("item_id")), None);
        for text in ["null", "[]", "7", "\"x\""] {
            assert_eq!(try_read(text), None, "{text}");
        }
    }

    proptest! {
        /// For all values, the listing has defects unless a strict reader accepts it, too.
        #[test]
        fn no_listing_with_other_values_is_buyable(
            key in prop::sample::select(vec!["item_id", "name", "price", "game", "float", "phase"]),
            value in prop_oneof![
                Just(json!(null)), Just(json!([])), any::<i64>().prop_map(|value| json!(value)),
                any::<f64>().prop_map(|value| json!(value)), "\\PC{0,12}".prop_map(|text| json!(text)),
            ],
        ) {
            let text = with(key, value.clone());
            let Some(trade) = try_read(&text) else { return Ok(()) };
            let is_buyable = trade.defects.is_empty() && trade.can_join == Some(true);
            let is_price = value.as_i64().is_some_and(|price| 0 < price && price <= Amount::MAX.thousandths());
            let is_right = match key {
                "item_id" => value.as_str().or(Some(&value.to_string())) == Some(trade.id.as_str()),
                "name" => value.is_string(),
                "price" => is_price,
                "game" => value == json!("csgo"),
                "float" => value.is_null() || value.is_number() || value.is_string(),
                _ => value.is_null() || value.is_string(),
            };
            prop_assert!(!is_buyable || is_right, "{}", text);
            if key == "price" {
                prop_assert_eq!(trade.total_value.is_some(), is_price);
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "\\PC{0,80}") {
            let _read = read(&mut Cursor::new(&text), TradeEvent::Listed);
        }
    }
}
