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
    domain::trade::{TradeEvent, TradeId, TradeNotice, TradeStatus},
    json::{Cursor, JsonError, ValueKind},
    protocol::SocketIoEvent,
};

/// Maximum number of items of one trade that are reported. A trade of the bot has one.
const ITEMS_MAX: usize = 64;

/// Events of one message. All but trades of the account have at most one, which needs no
/// allocation.
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
            let id = removed_id(cursor)?;
            let removed = |id| MarketEvent::Notice(TradeNotice::Removed { id });
            let event = id.map_or(MarketEvent::Unreadable(1), removed);
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

/// Parses the id in the payload of a removal.
pub(super) fn removed_id(cursor: &mut Cursor<'_>) -> Result<Option<TradeId>, JsonError> {
    let mut id = None;
    object(cursor, |key, cursor| match key {
        "item_id" => listing::id(cursor).map(|read| id = read),
        _ => cursor.skip().map(drop),
    })?;
    Ok(id)
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

/// Reads an item of a trade. An unknown status is reported, so that the account is read.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{FeedMessage, FeedProtocol as _, Incoming, SocketIo};

    const LISTING: &str = r#"{"item_id":"7","name":"Fracture Case","price":500,"game":"csgo"}"#;

    fn try_read(message: &str, has_key: bool) -> Option<(Vec<MarketEvent<'_>>, bool)> {
        let mut protocol = SocketIo::default();
        let open = protocol.read(FeedMessage::Text("0{}"), |_event| Ok(()));
        assert!(matches!(open, Ok(Incoming::Reply(_))));
        let read = protocol.read(FeedMessage::Text(message), |event| read(event, has_key));
        let Ok(Incoming::Data { payload, .. }) = read else { return None };
        Some((payload.events.into_iter().collect(), payload.is_data))
    }

    fn events(message: &str) -> Vec<MarketEvent<'_>> {
        try_read(message, true).unwrap().0
    }

    fn id(number: u64) -> TradeId {
        TradeId::from_number(number)
    }

    #[test]
    fn a_new_listing_and_a_new_price_are_listings() {
        for (name, expected) in [("new", TradeEvent::Listed), ("update", TradeEvent::Repriced)] {
            let text = format!(r#"42["{name}",{LISTING}]"#);
            let (events, is_data) = try_read(&text, false).unwrap();
            let [MarketEvent::Trade(trade)] = events.as_slice() else { panic!("{events:?}") };
            assert_eq!((trade.event, trade.id, is_data), (expected, id(7), true));
        }
        let escaped = format!(r#"42["n\u0065w",{LISTING}]"#);
        assert!(matches!(events(&escaped)[..], [MarketEvent::Trade(_)]));
    }

    #[test]
    fn a_removal_is_a_notice() {
        let removed = MarketEvent::Notice(TradeNotice::Removed { id: id(7) });
        assert_eq!(events(r#"42["removed",{"game":"csgo","item_id":"7","price":1}]"#), [removed]);
        for payload in ["{}", r#"{"item_id":null}"#, "null", "[]", "7"] {
            for event in ["removed", "new", "update"] {
                let text = format!(r#"42["{event}",{payload}]"#);
                assert_eq!(events(&text), [MarketEvent::Unreadable(1)], "{text}");
            }
        }
    }

    #[test]
    fn a_balance_is_rounded_down_and_never_guessed() {
        let balance = |wallet: &str| {
            let text = format!(r#"42["change_user",{{"name":"x","wallet":{wallet}}}]"#);
            let (events, is_data) = try_read(&text, true).unwrap();
            assert!(!is_data);
            events.iter().map(|event| format!("{event:?}")).collect::<Vec<_>>()
        };
        let expected = format!("{:?}", MarketEvent::Balance(Amount::from_thousandths(53_300)));
        assert_eq!(balance("53300"), [expected.as_str()]);
        assert_eq!(balance("53300.9"), [expected.as_str()]);
        for wallet in ["null", "\"53300\"", "-1", "[]", "1e5"] {
            assert!(balance(wallet).is_empty(), "{wallet}");
        }
        assert!(events(r#"42["change_user",{"name":"x"}]"#).is_empty());
    }

    #[test]
    fn the_items_of_a_trade_are_reported_with_their_status() {
        let text = r#"42["steamTrade",{"type":"update","data":{"id":1,"stage":2,"costum_id":"x","done":false,
            "items":[{"id":9,"price":6,"name":"a","status":4,"item_id":"7","trade_id":"3"},{"item_id":8,"status":6},
            {"item_id":"9","status":"?"},{"status":4},null,7]}}]"#;
        let purchase =
            |number, status| MarketEvent::Notice(TradeNotice::Purchase { id: id(number), status });
        let expected = [
            purchase(7, TradeStatus::Processing),
            purchase(8, TradeStatus::Cancelled),
            purchase(9, TradeStatus::Other),
        ];
        assert_eq!(events(text), expected);
        for data in ["null", "{}", r#"{"data":null}"#, r#"{"data":{"items":{}}}"#, r#"{"data":[]}"#]
        {
            assert!(events(&format!(r#"42["steamTrade",{data}]"#)).is_empty(), "{data}");
        }
        let many = format!(
            r#"42["steamTrade",{{"data":{{"items":[{}{{}}]}}}}]"#,
            r#"{"item_id":"7"},"#.repeat(10_000)
        );
        assert_eq!(events(&many).len(), ITEMS_MAX);
    }

    #[test]
    fn a_handshake_without_an_account_is_an_error_only_with_a_key() {
        let anonymous = r#"42["handshake",{"id":null,"message":"No authentication or session"}]"#;
        let error = MarketEvent::ServerError(Cow::Borrowed("No authentication or session"));
        assert_eq!(try_read(anonymous, true), Some((vec![error], false)));
        assert_eq!(try_read(anonymous, false), Some((vec![], false)));
        let known = r#"42["handshake",{"id":"11d6f117-1ad2-47e1-aca1-bcasdf9e37fa"}]"#;
        assert_eq!(try_read(known, true), Some((vec![], false)));
        assert_eq!(events(r#"42["handshake",{}]"#).len(), 1);
    }

    #[test]
    fn an_unknown_event_is_counted_and_a_malformed_one_is_an_error() {
        assert_eq!(events(r#"42["notification",{"a":[1]}]"#), [MarketEvent::Unknown]);
        assert_eq!(events(r#"42["bare"]"#), [MarketEvent::Unknown]);
        assert!(events(r#"42["subscribed",{"name":"csgo"}]"#).is_empty());
        for text in [r#"42["new",{"item_id":"7",}]"#, r#"42["new",{]"#, r#"42["removed",{"a":]"#] {
            assert_eq!(try_read(text, true), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_rejected_without_panic(
            name in prop::sample::select(vec!["new", "update", "removed", "change_user", "steamTrade", "handshake", "x"]),
            tokens in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"item_id\"", "\"7\"", "\"data\"", "\"items\"", "\"wallet\"", "1", "null",
                "\"status\"", "\"id\"", "\"name\"", "\"price\"", "\"\\u0061\"",
            ]), 0..14),
        ) {
            let payload = tokens.concat();
            let text = format!(r#"42["{name}",{payload}]"#);
            let is_json = serde_json::from_str::<serde_json::Value>(&format!("[0,{payload}]"));
            prop_assert_eq!(try_read(&text, true).is_some(), is_json.is_ok(), "{}", text);
        }
    }
}
