//! Parser of the listing in a `new` or `update` event: JSON object → [`Trade`], in one pass and without
//! allocation, except for a phase that is not a part of the name.
//!
//! # Invariants
//!
//! 1. A required key that is missing, of a wrong type, out of range or repeated becomes a [`Defect`].
//!    The listing is still returned, so that it can be counted and logged.
//! 2. Only a listing without a valid id is dropped.
//! 3. Other keys are skipped for any value that is valid JSON. The holder's Steam id is among them.
//! 4. A listing of another game, and one that is locked, cannot be joined.

use crate::{
    domain::item_name::ItemName,
    domain::money::Amount,
    domain::trade::{Defect, Defects, PaintWear, Trade, TradeEvent, TradeId, TradeStatus},
    json::{Cursor, JsonError, JsonStr, ValueKind},
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
        let market_name = self.name.map(JsonStr::decode).unwrap_or_default();
        let mut name = ItemName::parse_cow(&market_name);
        if let Some(phase) = self.phase {
            if name.add_phase(&phase.decode()).is_err() {
                defects.add(Defect::MarketName);
            }
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
