//! Parser of one listing: JSON object → [`Trade`], in one pass and without allocation.
//!
//! # Invariants
//!
//! 1. A required key that is missing, of a wrong type, out of range or repeated becomes a
//!    [`Defect`]. The listing is still returned, so that it can be counted and logged.
//! 2. Only a listing without a valid id is dropped.
//! 3. Other keys are skipped for any value that is valid JSON.
//! 4. Generation B sends `canJoin` for each listing, so it is required there.
//! 5. If one message or page contains different listings with one id, all of them are unbuyable
//!    ([`mark_conflicts`]).

use super::DECIMALS;
use crate::{
    config::Generation,
    domain::item_name::ItemName,
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::{
        Defect, Defects, PaintWear, RarityWord, Trade, TradeEvent, TradeId, TradeStatus,
    },
    json::{Cursor, JsonError, JsonStr, ValueKind},
    markets::listing_field::{ListingField, field, market_name, number, required, text, value},
};

/// Maximum number of listings that are compared pairwise. Larger batches are sorted, which
/// allocates.
const PAIRWISE_MAX: usize = 16;

/// Fields of a listing during parsing.
#[derive(Default)]
struct ListingDraft<'a> {
    id: ListingField<TradeId>,
    status: ListingField<TradeStatus>,
    markup_percent: ListingField<Percent>,
    total_value: ListingField<Amount>,
    can_join: ListingField<bool>,
    can_join_after: ListingField<UnixMs>,
    suspected_trader_can_join_after: ListingField<UnixMs>,
    created_at: ListingField<UnixMs>,
    expires_at: ListingField<UnixMs>,
    float: ListingField<PaintWear>,
    float_range: ListingField<(PaintWear, PaintWear)>,
    /// Any value but null means that the listing is our own: the market sends the seller only to
    /// themselves.
    depositor: ListingField<()>,
    items: ListingField<ListedItems<'a>>,
    defects: Defects,
    seen: u16,
}

/// Items of a listing.
#[derive(Clone, Copy)]
struct ListedItems<'a> {
    count: u32,
    market_name: Option<JsonStr<'a>>,
    base_value: Option<Amount>,
    rarity: Option<RarityWord>,
}

/// Parses one listing of this generation. Returns `None` for a value that is not an object or has
/// no valid id.
///
/// # Errors
///
/// Returns a [`JsonError`] if the text is not JSON.
#[inline]
pub fn read<'a>(
    cursor: &mut Cursor<'a>,
    event: TradeEvent,
    generation: Generation,
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
    Ok(draft.finish(event, generation))
}

/// Marks different listings with one id in a message or page as unbuyable, because it is unknown
/// which of them is current: one may be listed and the other one taken. Equal copies are not
/// marked; all but the first are dropped later as duplicates.
pub fn mark_conflicts<'a>(first: Option<&mut Trade<'a>>, rest: &mut [Trade<'a>]) {
    if let Some(first) = first {
        rest.iter_mut().for_each(|other| mark_if_different(first, other));
    }
    if rest.len() <= PAIRWISE_MAX {
        let mut left = rest;
        while let Some((one, others)) = left.split_first_mut() {
            others.iter_mut().for_each(|other| mark_if_different(one, other));
            left = others;
        }
        return;
    }
    let mut order: Vec<(TradeId, usize)> =
        rest.iter().enumerate().map(|(at, trade)| (trade.id, at)).collect();
    order.sort_unstable();
    for same in order.chunk_by(|(one, _), (other, _)| one == other) {
        let head = same.first().and_then(|(_, at)| rest.get(*at));
        if same.iter().any(|(_, at)| rest.get(*at) != head) {
            for (_, at) in same {
                if let Some(trade) = rest.get_mut(*at) {
                    trade.defects.add(Defect::Conflict);
                }
            }
        }
    }
}

/// Marks both listings if they have one id and differ. A marked listing differs from every unmarked
/// one, so that all copies are marked.
fn mark_if_different<'a>(one: &mut Trade<'a>, other: &mut Trade<'a>) {
    if one.id == other.id && one != other {
        one.defects.add(Defect::Conflict);
        other.defects.add(Defect::Conflict);
    }
}

impl<'a> ListingDraft<'a> {
    /// Parses the value of one key. Each required key has a bit that detects repetitions.
    #[inline]
    fn read_field(&mut self, key: &str, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        let bit = match key {
            "id" => {
                self.id = text(cursor, |id| TradeId::new(&id.decode()))?;
                0
            }
            "status" => {
                self.status = text(cursor, |word| Some(TradeStatus::from_market(&word.decode())))?;
                1
            }
            "markupPercent" => {
                self.markup_percent = number(cursor, |text| Percent::parse(text).ok())?;
                2
            }
            "totalValue" => {
                self.total_value = number(cursor, positive)?;
                3
            }
            "canJoin" => {
                self.can_join =
                    field(cursor, ValueKind::Bool, |cursor| cursor.boolean().map(Some))?;
                4
            }
            "canJoinAfter" => {
                self.can_join_after = moment(cursor)?;
                5
            }
            "suspectedTraderCanJoinAfter" => {
                self.suspected_trader_can_join_after = moment(cursor)?;
                6
            }
            "createdAt" => {
                self.created_at = moment(cursor)?;
                7
            }
            "expiresAt" => {
                self.expires_at = moment(cursor)?;
                8
            }
            "avgPaintWear" => {
                self.float = number(cursor, PaintWear::parse)?;
                9
            }
            "avgPaintWearRange" => {
                let defects = &mut self.defects;
                self.float_range =
                    field(cursor, ValueKind::Object, |cursor| float_range(cursor, defects))?;
                10
            }
            "depositor" => {
                let is_null = cursor.peek()? == ValueKind::Null;
                cursor.skip()?;
                self.depositor = if is_null { ListingField::Null } else { ListingField::Value(()) };
                11
            }
            "tradeItems" => {
                let defects = &mut self.defects;
                self.items = field(cursor, ValueKind::Array, |cursor| items(cursor, defects))?;
                12
            }
            _ => return cursor.skip().map(drop),
        };
        mark_seen(&mut self.seen, bit, &mut self.defects);
        Ok(())
    }

    #[inline]
    fn finish(self, event: TradeEvent, generation: Generation) -> Option<Trade<'a>> {
        let ListingField::Value(id) = self.id else { return None };
        let mut defects = self.defects;
        let items = required(self.items, Defect::TradeItems, &mut defects);
        let sold = items.filter(|items| items.count > 0);
        if sold.is_some_and(|items| items.market_name.is_none()) {
            defects.add(Defect::MarketName);
        }
        if sold.is_some_and(|items| items.base_value.is_none()) {
            defects.add(Defect::BaseValue);
        }
        let market_name = market_name(sold.and_then(|items| items.market_name));
        let name = ItemName::parse_cow(&market_name);
        Some(Trade {
            id,
            event,
            status: required(self.status, Defect::Status, &mut defects)
                .unwrap_or(TradeStatus::Other),
            item: name.base,
            is_stattrak: name.is_stattrak,
            is_souvenir: name.is_souvenir,
            wear: name.wear,
            rarity: sold.and_then(|items| items.rarity),
            items: sold.map_or(0, |items| items.count),
            markup_percent: required(self.markup_percent, Defect::MarkupPercent, &mut defects),
            total_value: required(self.total_value, Defect::TotalValue, &mut defects),
            base_value: sold.and_then(|items| items.base_value),
            can_join: match generation {
                Generation::A => optional(self.can_join, Defect::CanJoin, &mut defects),
                Generation::B => required(self.can_join, Defect::CanJoin, &mut defects),
            },
            can_join_after: nullable(self.can_join_after, Defect::CanJoinAfter, &mut defects),
            suspected_trader_can_join_after: nullable(
                self.suspected_trader_can_join_after,
                Defect::SuspectedTraderCanJoinAfter,
                &mut defects,
            ),
            created_at: required(self.created_at, Defect::CreatedAt, &mut defects),
            expires_at: required(self.expires_at, Defect::ExpiresAt, &mut defects),
            float: optional(self.float, Defect::PaintWear, &mut defects),
            float_range: optional(self.float_range, Defect::PaintWear, &mut defects),
            is_own: nullable(self.depositor, Defect::Depositor, &mut defects).is_some(),
            market_name,
            defects,
            arrival: None,
        })
    }
}

/// Records that a key was seen. A repetition is a defect.
fn mark_seen(seen: &mut u16, bit: u16, defects: &mut Defects) {
    let mask = 1 << bit;
    if *seen & mask != 0 {
        defects.add(Defect::RepeatedKey);
    }
    *seen |= mask;
}

/// Parses a price, which is above zero.
#[inline]
pub(super) fn positive(text: &str) -> Option<Amount> {
    Amount::parse(text, DECIMALS).ok().filter(|coins| Amount::ZERO < *coins)
}

fn items<'a>(
    cursor: &mut Cursor<'a>,
    defects: &mut Defects,
) -> Result<Option<ListedItems<'a>>, JsonError> {
    let mut items = ListedItems { count: 0, market_name: None, base_value: None, rarity: None };
    let mut is_readable = true;
    cursor.array(|cursor| {
        items.count = items.count.saturating_add(1);
        if items.count > 1 {
            return cursor.skip().map(drop);
        }
        let mut seen = 0;
        is_readable = super::object(cursor, |key, cursor| match key {
            "marketName" => {
                mark_seen(&mut seen, 0, defects);
                text(cursor, Some).map(|name| items.market_name = value(name))
            }
            "itemVariant" => {
                mark_seen(&mut seen, 1, defects);
                let variant = item_variant(cursor, defects)?;
                (items.base_value, items.rarity) = variant;
                Ok(())
            }
            _ => cursor.skip().map(drop),
        })?;
        Ok(())
    })?;
    Ok(is_readable.then_some(items))
}

/// Reads the base price and the rarity.
fn item_variant(
    cursor: &mut Cursor<'_>,
    defects: &mut Defects,
) -> Result<(Option<Amount>, Option<RarityWord>), JsonError> {
    let (mut coins, mut rarity, mut seen) = (None, None, 0);
    super::object(cursor, |key, cursor| match key {
        "value" => {
            mark_seen(&mut seen, 0, defects);
            number(cursor, positive).map(|read| coins = value(read))
        }
        "rarity" => {
            mark_seen(&mut seen, 1, defects);
            text(cursor, |word| RarityWord::new(&word.decode())).map(|read| rarity = value(read))
        }
        _ => cursor.skip().map(drop),
    })?;
    Ok((coins, rarity))
}

fn float_range(
    cursor: &mut Cursor<'_>,
    defects: &mut Defects,
) -> Result<Option<(PaintWear, PaintWear)>, JsonError> {
    let (mut least, mut greatest, mut seen) = (None, None, 0);
    super::object(cursor, |key, cursor| {
        let (side, bit) = match key {
            "min" => (&mut least, 0),
            "max" => (&mut greatest, 1),
            _ => return cursor.skip().map(drop),
        };
        mark_seen(&mut seen, bit, defects);
        number(cursor, PaintWear::parse).map(|read| *side = value(read))
    })?;
    Ok(least.zip(greatest).filter(|(least, greatest)| least <= greatest))
}

#[inline]
fn moment(cursor: &mut Cursor<'_>) -> Result<ListingField<UnixMs>, JsonError> {
    text(cursor, |text| UnixMs::parse(&text.decode()))
}

/// Returns a required field that may be null.
fn nullable<T>(field: ListingField<T>, defect: Defect, defects: &mut Defects) -> Option<T> {
    if matches!(field, ListingField::Missing | ListingField::Unreadable) {
        defects.add(defect);
    }
    value(field)
}

/// Returns an optional field.
fn optional<T>(field: ListingField<T>, defect: Defect, defects: &mut Defects) -> Option<T> {
    if matches!(field, ListingField::Unreadable) {
        defects.add(defect);
    }
    value(field)
}

#[cfg(test)]
mod tests;
