//! Parser of events of the feed.
//!
//! | `event` | meaning |
//! |---|---|
//! | `obtained_skin_added` | a new listing |
//! | `obtained_skin_price_changed` | a new price under the same id |
//! | `obtained_skin_deleted` | the listing is gone; it may return |
//! | `purchase_skin_info_updated` | a purchase of the account has changed, so the account is read |
//!
//! An event of the account has no documented shape: an id and a status at its top level are read.
//! With a list of items, or without an id, the account is read.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use super::{account, listing::Skin, phase};
use crate::{
    domain::{
        trade::{TradeEvent, TradeId, TradeNotice, TradeStatus},
        wanted_items::WantedItems,
    },
    json::{Cursor, JsonError},
    markets::{Decoded, MarketEvent, Scan},
    protocol::{Centrifugo, FeedMessage, FeedProtocol as _, Incoming},
};

const ADDED: &str = "obtained_skin_added";
const REPRICED: &str = "obtained_skin_price_changed";
const DELETED: &str = "obtained_skin_deleted";
const PURCHASE: &str = "purchase_skin_info_updated";

static EVENT_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""event":"#));

/// Reads the data of a publication.
///
/// # Errors
///
/// Returns a [`JsonError`] if the text is not JSON.
#[inline]
pub(super) fn read<'a>(
    cursor: &mut Cursor<'a>,
) -> Result<Decoded<Option<MarketEvent<'a>>>, JsonError> {
    let Some(skin) = Skin::read(cursor)? else {
        return Ok(Decoded { events: Some(MarketEvent::Unreadable(1)), is_data: false });
    };
    let Some(event) = skin.event else {
        return Ok(Decoded { events: Some(MarketEvent::Unknown), is_data: false });
    };
    let (event, is_data) = match event.decode().as_ref() {
        ADDED => (listed(skin, TradeEvent::Listed), true),
        REPRICED => (listed(skin, TradeEvent::Repriced), true),
        DELETED => (skin.id().map(|id| MarketEvent::Notice(TradeNotice::Removed { id })), true),
        // The look-up of the purchase finds the rest.
        PURCHASE => return Ok(Decoded { events: Some(purchase(&skin)), is_data: true }),
        _ => (Some(MarketEvent::Unknown), false),
    };
    Ok(Decoded { events: event.or(Some(MarketEvent::Unreadable(1))), is_data })
}

#[inline]
fn listed(skin: Skin<'_>, event: TradeEvent) -> Option<MarketEvent<'_>> {
    skin.into_trade(event, false).map(MarketEvent::Trade)
}

fn purchase(skin: &Skin<'_>) -> MarketEvent<'static> {
    let status =
        skin.status().map_or(TradeStatus::Other, |word| account::status_of(&word.decode()));
    MarketEvent::Notice(match skin.id() {
        // With a list of items, the id is that of the purchase.
        Some(id) if !skin.has_items => TradeNotice::Purchase { id, status },
        Some(_) | None => TradeNotice::AccountChanged,
    })
}

/// Returns [`Scan::CanWait`] for a new listing of an item that no entry wants. Those of a wanted
/// item are read in their order at any price, because it may change under one id. `payload` begins
/// with the data of the publication.
#[inline]
pub(super) fn scan(payload: &[u8], wanted: &WantedItems) -> Scan {
    if is_unwanted(payload, wanted) == Some(true) { Scan::CanWait } else { Scan::ReadNow }
}

/// Returns `true` for a new listing of an item that no entry wants, and `None` for an event that is
/// not written as usual, or is not a new listing.
#[inline]
fn is_unwanted(payload: &[u8], wanted: &WantedItems) -> Option<bool> {
    let rest = payload.strip_prefix(br#"{"id":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..)?.strip_prefix(br#","name":""#)?;
    let (name, rest) = rest.split_at_checked(memchr::memchr2(b'"', b'\\', rest)?)?;
    let (name, rest) = (str::from_utf8(name).ok()?, rest.strip_prefix(br#"","price":"#)?);
    let event = EVENT_KEY.find(rest)?;
    let behind = rest.get(event.saturating_add(EVENT_KEY.needle().len())..)?;
    let is_added =
        behind.strip_prefix(b"\"")?.strip_prefix(ADDED.as_bytes())?.first() == Some(&b'"');
    if !is_added || EVENT_KEY.find(behind).is_some() || phase::may_have_phase(name) {
        return None;
    }
    Some(wanted.max_price(name).is_none())
}

/// Returns the new status of a listing if a message contains its deletion.
#[inline]
pub(super) fn removal(message: &[u8], id: &TradeId) -> Option<TradeStatus> {
    memmem::find(message, id.as_str().as_bytes())?;
    memmem::find(message, DELETED.as_bytes())?;
    let (mut protocol, mut rest) = (Centrifugo::default(), Some(str::from_utf8(message).ok()?));
    while let Some(text) = rest {
        let (first, behind) = protocol.split_first(FeedMessage::Text(text));
        let removed = MarketEvent::Notice(TradeNotice::Removed { id: *id });
        if let Ok(Incoming::Data { payload, .. }) = protocol.read(first, read)
            && payload.events == Some(removed)
        {
            return Some(TradeStatus::Cancelled);
        }
        rest = behind.and_then(|behind| behind.text().ok());
    }
    None
}

#[cfg(test)]
mod tests;
