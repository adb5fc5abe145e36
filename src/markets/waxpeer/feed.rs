//! Parser of events: name and payload → listings, removals, balance and purchases.
//!
//! | event | payload | meaning |
//! |---|---|---|
//! | `new` | a listing | new, or back under its old id |
//! | `update` | a listing | re-priced, in either direction |
//! | `removed` | a listing without most fields | sold, withdrawn or about to return |
//! | `change_user` | `{"wallet":n}` | balance of the account |
//! | `steamTrade` | `{"data":{"items":[…]}}` | purchases and sales of the account |
//! | `handshake` | `{"id":…}` | `id` is null without a valid key |
//! | `subscribed` | `{"name":…}` | confirms the subscription |

use std::{borrow::Cow, vec};

use super::{
    super::{Decoded, MarketEvent},
    listing,
};
use crate::{
    domain::money::Amount,
    domain::trade::{TradeEvent, TradeNotice, TradeStatus},
    json::{Cursor, JsonError, ValueKind},
    protocol::SocketIoEvent,
};

/// Maximum number of items of one trade that are reported. A trade of the bot has one.
const ITEMS_MAX: usize = 64;

/// Events of one message. All but trades of the account have at most one, which needs no allocation.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a box would allocate for every listing")]
pub enum FeedEvents<'a> {
    #[default]
    Nothing,
    One(MarketEvent<'a>),
    Purchases(Vec<TradeNotice>),
}

/// Iterator over [`FeedEvents`].
#[derive(Debug)]
pub struct FeedEventsIter<'a> {
    one: Option<MarketEvent<'a>>,
    purchases: vec::IntoIter<TradeNotice>,
}

impl<'a> IntoIterator for FeedEvents<'a> {
    type Item = MarketEvent<'a>;
    type IntoIter = FeedEventsIter<'a>;

    #[inline]
    fn into_iter(self) -> FeedEventsIter<'a> {
        let (one, purchases) = match self {
            Self::Nothing => (None, Vec::new()),
            Self::One(event) => (Some(event), Vec::new()),
            Self::Purchases(notices) => (None, notices),
        };
        FeedEventsIter { one, purchases: purchases.into_iter() }
    }
}

impl<'a> Iterator for FeedEventsIter<'a> {
    type Item = MarketEvent<'a>;

    #[inline]
    fn next(&mut self) -> Option<MarketEvent<'a>> {
        self.one.take().or_else(|| self.purchases.next().map(MarketEvent::Notice))
    }
}

/// Parses an event. `has_key` is `true` if the connection was opened with a key.
///
/// # Errors
///
/// Returns a [`JsonError`] if the payload is not JSON.
#[inline]
pub fn read<'a>(
    event: &mut SocketIoEvent<'a>,
    has_key: bool,
) -> Result<Decoded<FeedEvents<'a>>, JsonError> {
    let cursor = &mut event.argument;
    let kind = match &*event.name.decode() {
        "update" => TradeEvent::Repriced,
        "new" => TradeEvent::Listed,
        "removed" => {
            let event = removed(cursor)?;
            return Ok(Decoded { events: FeedEvents::One(event), is_data: true });
        }
        other => {
            return Ok(Decoded { events: read_other(other, cursor, has_key)?, is_data: false });
        }
    };
    let event = match listing::read(cursor, kind)? {
        Some(trade) => MarketEvent::Trade(trade),
        None => MarketEvent::Unreadable(1),
    };
    Ok(Decoded { events: FeedEvents::One(event), is_data: true })
}

/// Parses an event that is not about a listing.
#[inline(never)]
fn read_other<'a>(
    name: &str,
    cursor: &mut Cursor<'a>,
    has_key: bool,
) -> Result<FeedEvents<'a>, JsonError> {
    Ok(match name {
        "change_user" => match wallet(cursor)? {
            Some(balance) => FeedEvents::One(MarketEvent::Balance(balance)),
            None => FeedEvents::Nothing,
        },
        "steamTrade" => FeedEvents::Purchases(purchases(cursor)?),
        "handshake" => match handshake(cursor)? {
            Some(message) if has_key => FeedEvents::One(MarketEvent::ServerError(message)),
            _ => FeedEvents::Nothing,
        },
        "subscribed" => cursor.skip().map(|_name| FeedEvents::Nothing)?,
        _ => cursor.skip().map(|_payload| FeedEvents::One(MarketEvent::Unknown))?,
    })
}

/// Iterates over the entries of an object. Skips any other value.
fn object<'a>(
    cursor: &mut Cursor<'a>,
    mut on_entry: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    if cursor.peek()? != ValueKind::Object {
        return cursor.skip().map(drop);
    }
    cursor.object(|key, cursor| on_entry(&key.decode(), cursor))
}

fn removed<'a>(cursor: &mut Cursor<'a>) -> Result<MarketEvent<'a>, JsonError> {
    let mut id = None;
    object(cursor, |key, cursor| match key {
        "item_id" => listing::id(cursor).map(|read| id = read),
        _ => cursor.skip().map(drop),
    })?;
    Ok(match id {
        Some(id) => MarketEvent::Notice(TradeNotice::Removed { id }),
        None => MarketEvent::Unreadable(1),
    })
}

fn wallet(cursor: &mut Cursor<'_>) -> Result<Option<Amount>, JsonError> {
    let mut balance = None;
    object(cursor, |key, cursor| {
        let value = cursor.skip()?;
        if key == "wallet" {
            balance = super::balance(value);
        }
        Ok(())
    })?;
    Ok(balance)
}

/// Returns the error of a handshake that names no account.
fn handshake<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, JsonError> {
    let (mut is_known, mut message) = (false, None);
    object(cursor, |key, cursor| {
        match key {
            "id" => is_known = listing::string(cursor)?.is_some(),
            "message" => message = listing::string(cursor)?,
            _ => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    let message = message.map_or(Cow::Borrowed("the key was not accepted"), |text| text.decode());
    Ok((!is_known).then_some(message))
}

/// Reads the items of a trade of the account.
fn purchases(cursor: &mut Cursor<'_>) -> Result<Vec<TradeNotice>, JsonError> {
    let mut notices = Vec::new();
    object(cursor, |key, cursor| match key {
        "data" => object(cursor, |key, cursor| match (key, cursor.peek()?) {
            ("items", ValueKind::Array) => cursor.array(|cursor| {
                let notice = purchase(cursor)?;
                notices.extend(notice.filter(|_notice| notices.len() < ITEMS_MAX));
                Ok(())
            }),
            _ => cursor.skip().map(drop),
        }),
        _ => cursor.skip().map(drop),
    })?;
    Ok(notices)
}

/// Reads an item of a trade. An unknown status is reported, because it asks for a read.
fn purchase(cursor: &mut Cursor<'_>) -> Result<Option<TradeNotice>, JsonError> {
    let (mut id, mut status) = (None, TradeStatus::Other);
    object(cursor, |key, cursor| {
        match key {
            "item_id" => id = listing::id(cursor)?,
            "status" => {
                let code = cursor.skip()?.parse().ok();
                status =
                    code.map_or(TradeStatus::Other, |code| super::purchase_status(code, false));
            }
            _ => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    Ok(id.map(|id| TradeNotice::Purchase { id, status }))
}
