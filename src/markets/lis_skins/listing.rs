//! Parser of one listing: JSON object → [`Skin`], in one pass and without allocation.
//!
//! # Invariants
//!
//! 1. A required key that is missing, of a wrong type, out of range or repeated becomes a
//!    [`Defect`]. The listing is still returned, so that it can be counted and logged.
//! 2. Only a listing without a valid id is dropped.
//! 3. Other keys are skipped for any value that is valid JSON.
//! 4. A listing that is locked, or that is not certainly one of this game, cannot be bought.

use super::{DECIMALS, phase};
use crate::{
    domain::item_filter::ItemCategory,
    domain::item_name::ItemName,
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{Defect, Defects, PaintWear, Trade, TradeEvent, TradeId, TradeStatus},
    json::{Cursor, JsonError, JsonStr, ValueKind},
    markets::listing_field::{ListingField, market_name, number, required, text, value},
};

/// Number of this game in `game_id`.
const GAME_ID: u32 = 1;

/// Suffixes of the names of containers, keys, passes and pins of this game. Such a name has no
/// wear, star or bar that shows the game.
const NAME_SUFFIXES: [&str; 14] = [
    " Case",
    " Case Key",
    " Capsule",
    " Capsule Key",
    " Package",
    " Pin",
    " Legends",
    " Challengers",
    " Contenders",
    " Music Kit Box",
    " Patch Pack",
    " Graffiti Box",
    " Viewer Pass",
    " Operation Pass",
];

/// Parts of such names that can be followed by more text, such as a number.
const NAME_PARTS: [&str; 8] = [
    "Weapon Case ",
    "Sticker Capsule ",
    "Pins Capsule ",
    " Legends (",
    " Challengers (",
    " Contenders (",
    "Sticker Pack",
    " Souvenir Package",
];

/// Names of tools of this game.
const TOOLS: [&str; 3] = ["Name Tag", "Storage Unit", "Swap Tool"];

/// Fields of a listing, or of an event that names one.
#[derive(Debug, Default)]
pub(super) struct Skin<'a> {
    /// `event`, which only the feed sends.
    pub(super) event: Option<JsonStr<'a>>,
    id: ListingField<TradeId>,
    name: ListingField<JsonStr<'a>>,
    price: ListingField<Amount>,
    /// Any value but null locks the listing.
    unlock_at: ListingField<()>,
    created_at: ListingField<UnixMs>,
    float: ListingField<PaintWear>,
    paint_index: ListingField<u32>,
    game: ListingField<u32>,
    status: ListingField<JsonStr<'a>>,
    /// `true` for a purchase that lists its items.
    pub(super) has_items: bool,
    defects: Defects,
    seen: u16,
}

impl<'a> Skin<'a> {
    /// Reads a listing. Returns `None` for a value that is not an object.
    ///
    /// # Errors
    ///
    /// Returns a [`JsonError`] if the text is not JSON.
    #[inline]
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Option<Self>, JsonError> {
        if cursor.peek()? != ValueKind::Object {
            return cursor.skip().map(|_other| None);
        }
        let mut skin = Self::default();
        cursor.object(|key, cursor| match key.plain() {
            Some(key) => skin.read_field(key, cursor),
            None => skin.read_field(&key.decode(), cursor),
        })?;
        Ok(Some(skin))
    }

    /// Reads the value of one key. Each key has a bit that detects repetitions.
    #[inline]
    fn read_field(&mut self, key: &str, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        let bit = match key {
            "id" => {
                self.id = number(cursor, |text| text.parse().ok().map(TradeId::from_number))?;
                0
            }
            "name" => {
                self.name = text(cursor, Some)?;
                1
            }
            "price" => {
                self.price = number(cursor, positive)?;
                2
            }
            "event" => {
                let event = text(cursor, Some)?;
                self.event = value(event);
                3
            }
            "unlock_at" => {
                self.unlock_at = text(cursor, |_time| Some(()))?;
                4
            }
            "created_at" => {
                self.created_at = text(cursor, |time| UnixMs::parse(&time.decode()))?;
                5
            }
            "item_float" => {
                self.float = text(cursor, |float| PaintWear::parse(&float.decode()))?;
                6
            }
            "item_paint_index" => {
                self.paint_index = number(cursor, |text| text.parse().ok())?;
                7
            }
            "game_id" => {
                self.game = number(cursor, |text| text.parse().ok())?;
                8
            }
            "status" => {
                self.status = text(cursor, Some)?;
                9
            }
            "skins" => {
                self.has_items = true;
                return cursor.skip().map(drop);
            }
            _ => return cursor.skip().map(drop),
        };
        let mask = 1 << bit;
        if self.seen & mask != 0 {
            self.defects.add(Defect::RepeatedKey);
        }
        self.seen |= mask;
        Ok(())
    }

    /// Returns the id of the listing.
    pub(super) fn id(&self) -> Option<TradeId> {
        value(self.id)
    }

    pub(super) fn status(&self) -> Option<JsonStr<'a>> {
        value(self.status)
    }

    /// Returns the listing; `None` without an id. `is_of_game` is `true` if only listings of this
    /// game were requested.
    #[inline]
    pub(super) fn into_trade(self, event: TradeEvent, is_of_game: bool) -> Option<Trade<'a>> {
        let ListingField::Value(id) = self.id else { return None };
        let mut defects = self.defects;
        let total_value = required(self.price, Defect::TotalValue, &mut defects);
        let market_name = market_name(required(self.name, Defect::MarketName, &mut defects));
        let name = ItemName::parse_cow(&market_name);
        let is_foreign = match self.game {
            ListingField::Value(GAME_ID) => false,
            ListingField::Value(_) => true,
            ListingField::Unreadable | ListingField::Missing | ListingField::Null => {
                !is_of_game && !is_of_this_game(&name)
            }
        };
        // Without the field it is unknown whether the listing is locked.
        if matches!(self.unlock_at, ListingField::Missing) {
            defects.add(Defect::CanJoin);
        }
        let is_locked = self.unlock_at != ListingField::Null;
        if matches!(self.created_at, ListingField::Unreadable) {
            defects.add(Defect::CreatedAt);
        }
        if matches!(self.float, ListingField::Unreadable) {
            defects.add(Defect::PaintWear);
        }
        Some(Trade {
            id,
            event,
            status: TradeStatus::Listed,
            item: phase::with_phase(name.base, value(self.paint_index)),
            is_stattrak: name.is_stattrak,
            is_souvenir: name.is_souvenir,
            wear: name.wear,
            rarity: None,
            items: 1,
            markup_percent: None,
            total_value,
            base_value: None,
            can_join: (is_locked || is_foreign).then_some(false),
            can_join_after: None,
            suspected_trader_can_join_after: None,
            created_at: value(self.created_at),
            expires_at: None,
            float: value(self.float),
            float_range: None,
            is_own: false,
            market_name,
            defects,
            arrival: None,
        })
    }
}

/// Parses a price, which is above zero, and rounds it up.
#[inline]
pub(super) fn positive(text: &str) -> Option<Amount> {
    Amount::parse_ceil(text, DECIMALS).ok().filter(|price| Amount::ZERO < *price)
}

/// Returns `true` for a name that has a part which only names of this game have. The names of all
/// games arrive in one channel.
#[inline]
fn is_of_this_game(name: &ItemName<'_>) -> bool {
    name.is_star
        || name.wear.is_some()
        || name.is_stattrak
        || name.base.contains(" | ")
        || NAME_SUFFIXES.iter().any(|suffix| name.base.ends_with(suffix))
        || NAME_PARTS.iter().any(|part| name.base.contains(part))
        || TOOLS.contains(&&*name.base)
        || ItemCategory::of(&name.base, name.is_star) != ItemCategory::Other
}

#[cfg(test)]
pub(super) mod tests;
