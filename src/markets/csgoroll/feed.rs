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
    config::Generation,
    domain::money::Amount,
    domain::trade::{Defect, Trade, TradeEvent},
    json::{Cursor, FromCursor, JsonError, RawValue, ValueKind},
};

/// What one `next` message brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NextPayload<'a> {
    first: Option<Trade<'a>>,
    /// The rest of a batch. Most messages bring one listing, for which nothing is allocated.
    rest: Vec<Trade<'a>>,
    unreadable: u32,
    is_known: bool,
    wallet: Option<Amount>,
    errors: Option<RawValue<'a>>,
    is_repeated: bool,
}

impl<'a> NextPayload<'a> {
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
    pub const fn wallet(&self) -> Option<Amount> {
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
            // A change is asked for without `canJoin`, as generation A is.
            let (list, kind) = match key {
                "createTrade" => ("trade", (TradeEvent::Listed, Generation::A)),
                "createTrades" => ("trades", (TradeEvent::Listed, Generation::B)),
                "updateTrade" => ("trade", (TradeEvent::Updated, Generation::A)),
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
            self.listings(cursor, list, kind)
        })
        .map(drop)
    }

    fn listings(
        &mut self,
        cursor: &mut Cursor<'a>,
        list: &str,
        (event, generation): (TradeEvent, Generation),
    ) -> Result<(), JsonError> {
        let mut seen = false;
        let is_null = cursor.peek()? == ValueKind::Null;
        let is_object = object(cursor, |key, cursor| {
            if key != list {
                return cursor.skip().map(drop);
            }
            self.is_repeated |= seen;
            seen = true;
            match cursor.peek()? {
                ValueKind::Null => cursor.skip().map(drop),
                ValueKind::Array => cursor.array(|cursor| {
                    listing::read(cursor, event, generation).map(|trade| self.push(trade))
                }),
                _ => listing::read(cursor, event, generation).map(|trade| self.push(trade)),
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

impl<'a> FromCursor<'a> for NextPayload<'a> {
    #[inline]
    fn from_cursor(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut payload = NextPayload::default();
        let (mut seen_data, mut seen_listings) = (false, false);
        object(cursor, |key, cursor| match key {
            "data" => {
                payload.is_repeated |= seen_data;
                seen_data = true;
                payload.data(cursor, &mut seen_listings)
            }
            "errors" => {
                let is_null = cursor.peek()? == ValueKind::Null;
                let raw = cursor.skip()?;
                payload.errors = (!is_null).then_some(RawValue(raw));
                Ok(())
            }
            _ => cursor.skip().map(drop),
        })?;
        if !payload.rest.is_empty() {
            listing::mark_conflicts(payload.first.as_mut(), &mut payload.rest);
        }
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

    fn payload(text: &str) -> NextPayload<'_> {
        json::read(text).unwrap()
    }

    fn ids(text: &str) -> Vec<String> {
        payload(text).into_trades().map(|trade| trade.id.to_string()).collect()
    }

    #[test]
    fn generation_a_brings_one_listing() {
        let text = format!(r#"{{"data":{{"createTrade":{{"trade":{LISTING}}}}}}}"#);
        assert_eq!(ids(&text), ["VHJhZGU6MQ"]);
        assert!(payload(&text).into_trades().all(|trade| trade.event == TradeEvent::Listed));
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
        assert!(payload(text).into_trades().all(|trade| trade.event == TradeEvent::Updated));
    }

    #[test]
    fn only_the_main_wallet_is_the_balance_and_it_is_rounded_down() {
        let push = |name, amount| {
            let text = format!(
                r#"{{"data":{{"updateWallet":{{"wallet":{{"id":"w","amount":{amount},"name":"{name}"}}}}}}}}"#
            );
            payload(&text).wallet()
        };
        assert_eq!(push("MAIN", "123.456"), Some(Amount::from_cents(12_345)));
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

    fn batch(listings: &[&str]) -> String {
        format!(r#"{{"data":{{"createTrades":{{"trades":[{}]}}}}}}"#, listings.join(","))
    }

    #[test]
    fn a_listing_that_is_taken_in_the_same_batch_is_unbuyable_whichever_comes_first() {
        let listed = r#"{"id":"VHJhZGU6MQ","status":"LISTED"}"#;
        let other = r#"{"id":"VHJhZGU6Mg","status":"LISTED"}"#;
        for taken in [
            r#"{"id":"VHJhZGU6MQ","status":"JOINED"}"#,
            r#"{"id":"VHJhZGU6MQ==","status":"JOINED"}"#,
            r#"{"id":"VHJhZGU6MQ","status":"COMPLETED"}"#,
            r#"{"id":"VHJhZGU6MQ","status":7}"#,
            r#"{"id":"VHJhZGU6MQ","status":"LISTED","totalValue":1}"#,
        ] {
            for text in [batch(&[listed, other, taken]), batch(&[taken, other, listed])] {
                let marked: Vec<(String, bool)> = payload(&text)
                    .into_trades()
                    .map(|trade| (trade.id.to_string(), trade.defects.contains(Defect::Conflict)))
                    .collect();
                let are_marked = marked.iter().map(|(_, is_marked)| *is_marked);
                assert_eq!(are_marked.collect::<Vec<_>>(), [true, false, true], "{marked:?}");
            }
        }
    }

    #[test]
    fn equal_copies_in_one_batch_leave_a_listing_buyable() {
        let text = batch(&[LISTING, LISTING]);
        assert!(
            payload(&text).into_trades().all(|trade| !trade.defects.contains(Defect::Conflict))
        );
    }

    #[test]
    fn an_update_beside_a_listing_in_one_message_makes_both_unbuyable() {
        let listed = r#""createTrades":{"trades":[{"id":"a","status":"LISTED"}]}"#;
        let taken = r#""updateTrade":{"trade":{"id":"a","status":"JOINED"}}"#;
        for text in [
            format!(r#"{{"data":{{{listed},{taken}}}}}"#),
            format!(r#"{{"data":{{{taken},{listed}}}}}"#),
            format!(r#"{{"data":{{{listed}}},"data":{{{taken}}}}}"#),
        ] {
            assert!(payload(&text).into_trades().all(|trade| !trade.defects.is_empty()), "{text}");
        }
    }

    #[test]
    fn the_generation_of_a_listing_is_that_of_its_path() {
        let a = format!(r#"{{"data":{{"createTrade":{{"trade":{LISTING}}}}}}}"#);
        let b = batch(&[LISTING]);
        let lacks = |text| {
            let mut trades = payload(text).into_trades();
            trades.next().unwrap().defects.contains(Defect::CanJoin)
        };
        assert!(!lacks(&a) && lacks(&b));
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
