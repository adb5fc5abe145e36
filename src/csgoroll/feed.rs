//! The events of the subscriptions: the payload of a `next` message → listings and balance.
//!
//! | event | path | source |
//! |---|---|---|
//! | generation A | `data.createTrade.trade`, one listing | recordings of 2023–2025 |
//! | generation B | `data.createTrades.trades[]`, a batch | client code of 2026 |
//! | a change | `data.updateTrade.trade` | client code |
//! | the balance | `data.updateWallet.wallet`, of which `MAIN` counts | client code |
//!
//! Both generations are read wherever they occur, whichever was asked for. A payload may carry
//! `errors` beside its data without ending anything.

use super::{account, listing, object};
use crate::{
    json::{Cursor, FromCursor, JsonError, Kind, Raw},
    money::Coins,
    trade::{Defect, Event, Trade},
};

/// What one `next` message brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload<'a> {
    first: Option<Trade<'a>>,
    /// The rest of a batch. Most messages bring one listing, for which nothing is allocated.
    rest: Vec<Trade<'a>>,
    unreadable: u32,
    is_known: bool,
    wallet: Option<Coins>,
    errors: Option<Raw<'a>>,
    is_repeated: bool,
}

impl<'a> Payload<'a> {
    /// The listings, in the order sent.
    pub fn into_trades(self) -> impl Iterator<Item = Trade<'a>> {
        self.first.into_iter().chain(self.rest)
    }

    /// How many listings it brought.
    pub fn len(&self) -> usize {
        self.rest.len().saturating_add(usize::from(self.first.is_some()))
    }

    /// Whether it brought no listing.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many listings had to be dropped: no object, or no usable id.
    pub const fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// Whether it is one of the events that this program knows.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// The balance of the wallet `MAIN`, where it was pushed, rounded down.
    pub const fn wallet(&self) -> Option<Coins> {
        self.wallet
    }

    /// The GraphQL errors beside the data, as they stand.
    pub fn errors(&self) -> Option<&'a str> {
        self.errors.map(|errors| errors.0)
    }

    fn push(&mut self, trade: Option<Trade<'a>>) {
        match trade {
            Some(trade) if self.first.is_none() => self.first = Some(trade),
            Some(trade) => self.rest.push(trade),
            None => self.unreadable = self.unreadable.saturating_add(1),
        }
    }

    fn data(&mut self, cursor: &mut Cursor<'a>, seen: &mut bool) -> Result<(), JsonError> {
        object(cursor, |key, cursor| {
            let (list, event) = match key {
                "createTrade" => ("trade", Event::Listed),
                "createTrades" => ("trades", Event::Listed),
                "updateTrade" => ("trade", Event::Updated),
                "updateWallet" => {
                    self.is_known = true;
                    return self.wallet_event(cursor);
                }
                _ => return cursor.skip().map(drop),
            };
            // One event has one kind; two would leave open which of them is meant.
            self.is_repeated |= *seen;
            *seen = true;
            self.is_known = true;
            self.listings(cursor, list, event)
        })
        .map(drop)
    }

    fn listings(
        &mut self,
        cursor: &mut Cursor<'a>,
        list: &str,
        event: Event,
    ) -> Result<(), JsonError> {
        let mut seen = false;
        let is_null = cursor.peek()? == Kind::Null;
        let is_object = object(cursor, |key, cursor| {
            if key != list {
                return cursor.skip().map(drop);
            }
            self.is_repeated |= seen;
            seen = true;
            match cursor.peek()? {
                Kind::Null => cursor.skip().map(drop),
                Kind::Array => cursor
                    .array(|cursor| listing::read(cursor, event).map(|trade| self.push(trade))),
                _ => listing::read(cursor, event).map(|trade| self.push(trade)),
            }
        })?;
        if !is_object && !is_null {
            self.push(None);
        }
        Ok(())
    }

    fn wallet_event(&mut self, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        object(cursor, |key, cursor| {
            if key != "wallet" {
                return cursor.skip().map(drop);
            }
            let wallet = account::wallet(cursor)?;
            self.wallet = wallet.filter(account::Wallet::is_main).and_then(|wallet| wallet.amount);
            Ok(())
        })
        .map(drop)
    }
}

impl<'a> FromCursor<'a> for Payload<'a> {
    #[inline]
    fn from_cursor(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut payload = Payload::default();
        let (mut seen_data, mut seen_listings) = (false, false);
        object(cursor, |key, cursor| match key {
            "data" => {
                payload.is_repeated |= seen_data;
                seen_data = true;
                payload.data(cursor, &mut seen_listings)
            }
            "errors" => {
                let is_null = cursor.peek()? == Kind::Null;
                let raw = cursor.skip()?;
                payload.errors = (!is_null).then_some(Raw(raw));
                Ok(())
            }
            _ => cursor.skip().map(drop),
        })?;
        if payload.is_repeated {
            for trade in payload.first.iter_mut().chain(&mut payload.rest) {
                trade.defects.add(Defect::RepeatedKey);
            }
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    const LISTING: &str = r#"{"id":"VHJhZGU6MQ","status":"LISTED"}"#;

    fn payload(text: &str) -> Payload<'_> {
        json::read(text).unwrap()
    }

    fn ids(text: &str) -> Vec<String> {
        payload(text).into_trades().map(|trade| trade.id.to_string()).collect()
    }

    #[test]
    fn generation_a_brings_one_listing() {
        let text = format!(r#"{{"data":{{"createTrade":{{"trade":{LISTING}}}}}}}"#);
        assert_eq!(ids(&text), ["VHJhZGU6MQ"]);
        assert!(payload(&text).into_trades().all(|trade| trade.event == Event::Listed));
    }

    #[test]
    fn generation_b_brings_a_batch_in_order() {
        let text = r#"{"data":{"createTrades":{"trades":[{"id":"a"},{"id":"b"},{"id":"c"}]}}}"#;
        assert_eq!(ids(text), ["a", "b", "c"]);
        assert_eq!(payload(text).len(), 3);
    }

    #[test]
    fn a_listing_without_id_is_counted_and_the_rest_of_the_batch_stands() {
        let text = r#"{"data":{"createTrades":{"trades":[{"id":7},null,"x",{"id":"b"},{}]}}}"#;
        assert_eq!(ids(text), ["b"]);
        assert_eq!(payload(text).unreadable(), 4);
    }

    #[test]
    fn a_change_is_told_from_a_new_listing() {
        let text = r#"{"data":{"updateTrade":{"trade":{"id":"a","status":"JOINED"}}}}"#;
        assert!(payload(text).into_trades().all(|trade| trade.event == Event::Updated));
    }

    #[test]
    fn only_the_main_wallet_is_the_balance_and_it_is_rounded_down() {
        let push = |name, amount| {
            let text = format!(
                r#"{{"data":{{"updateWallet":{{"wallet":{{"id":"w","amount":{amount},"name":"{name}"}}}}}}}}"#
            );
            payload(&text).wallet()
        };
        assert_eq!(push("MAIN", "123.456"), Some(Coins::from_cents(12_345)));
        assert_eq!(push("VAULT", "123.45"), None);
        assert_eq!(push("MAIN", "\"123\""), None);
    }

    #[test]
    fn errors_beside_data_end_nothing() {
        let text = format!(
            r#"{{"errors":[{{"message":"partly"}}],"data":{{"createTrade":{{"trade":{LISTING}}}}}}}"#
        );
        assert_eq!(payload(&text).len(), 1);
        assert_eq!(payload(&text).errors(), Some(r#"[{"message":"partly"}]"#));
    }

    #[test]
    fn other_events_and_other_shapes_bring_nothing() {
        for text in ["null", "[]", "7", "{}", r#"{"data":null}"#, r#"{"data":{"other":{}}}"#] {
            assert!(payload(text).is_empty() && !payload(text).is_known(), "{text}");
        }
        let empty = r#"{"data":{"createTrades":{"trades":null}}}"#;
        assert!(payload(empty).is_empty() && payload(empty).is_known());
    }

    #[test]
    fn a_repeated_key_on_the_way_makes_its_listings_unbuyable() {
        for text in [
            r#"{"data":{"createTrade":{"trade":{"id":"a"},"trade":{"id":"b"}}}}"#,
            r#"{"data":{"createTrade":{"trade":{"id":"a"}},"createTrade":{"trade":{"id":"b"}}}}"#,
            r#"{"data":{"createTrade":{"trade":{"id":"a"}}},"data":{}}"#,
        ] {
            let mut trades = payload(text).into_trades().peekable();
            assert!(trades.peek().is_some(), "{text}");
            assert!(trades.all(|trade| trade.defects.contains(Defect::RepeatedKey)), "{text}");
        }
    }
}
