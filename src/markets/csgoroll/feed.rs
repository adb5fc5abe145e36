//! Parser of subscription events: payload of a `next` message → listings and balance.
//!
//! | event | path | source |
//! |---|---|---|
//! | generation A | `data.createTrade.trade`, one listing | recordings of 2023–2025 |
//! | generation B | `data.createTrades.trades[]`, a batch | client code of 2026 |
//! | update | `data.updateTrade.trade` | client code |
//! | balance | `data.updateWallet.wallet` named `MAIN` | client code |
//!
//! Both generations are parsed, regardless of the subscription. A payload may contain `errors`
//! beside its data, which do not end the subscription.

use std::{mem, vec};

use super::{super::MarketEvent, account, listing, object};
use crate::{
    config::Generation,
    domain::money::Amount,
    domain::trade::{Defect, Trade, TradeEvent},
    json::{Cursor, FromCursor, JsonError, RawValue, ValueKind},
    protocol::{FeedProtocol as _, GraphqlTransportWs},
};

/// Contents of one `next` message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NextPayload<'a> {
    first: Option<Trade<'a>>,
    /// Rest of a batch. Most messages contain one listing, which needs no allocation.
    rest: Vec<Trade<'a>>,
    unreadable: u32,
    is_known: bool,
    /// Balance of the wallet `MAIN`, rounded down.
    wallet: Option<Amount>,
    /// GraphQL errors beside the data.
    errors: Option<RawValue<'a>>,
    /// `true` if a key was repeated, or there were several events with listings.
    is_repeated: bool,
}

impl<'a> NextPayload<'a> {
    /// Returns the listings in the order of the message.
    pub fn into_trades(self) -> impl Iterator<Item = Trade<'a>> {
        self.first.into_iter().chain(self.rest)
    }

    /// Returns the number of dropped listings, which are not an object or have no valid id.
    pub const fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// Returns `true` if the event is known.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Makes the listings unbuyable that do not state `canJoin`, which generation B sends for each.
    pub(super) fn require_can_join(&mut self) {
        for trade in self.first.iter_mut().chain(&mut self.rest) {
            if trade.can_join.is_none() {
                trade.defects.add(Defect::CanJoin);
            }
        }
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
            // Updates of generation A have no `canJoin`. Where generation B is configured, it is
            // required afterwards.
            let (list, event, generation) = match key {
                "createTrade" => ("trade", TradeEvent::Listed, Generation::A),
                "createTrades" => ("trades", TradeEvent::Listed, Generation::B),
                "updateTrade" => ("trade", TradeEvent::Updated, Generation::A),
                "updateWallet" => {
                    self.is_known = true;
                    return self.wallet_event(cursor);
                }
                _ => return cursor.skip().map(drop),
            };
            // A payload with two events is ambiguous.
            self.is_repeated |= *seen;
            *seen = true;
            self.is_known = true;
            self.listings(cursor, list, event, generation)
        })
        .map(drop)
    }

    fn listings(
        &mut self,
        cursor: &mut Cursor<'a>,
        list: &str,
        event: TradeEvent,
        generation: Generation,
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
            self.wallet = account::pushed_balance(cursor.skip()?);
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

/// Events of a payload: the listings in the order of the message, then everything else.
#[derive(Debug)]
pub struct PayloadEvents<'a> {
    first: Option<Trade<'a>>,
    rest: vec::IntoIter<Trade<'a>>,
    unreadable: u32,
    is_unknown: bool,
    wallet: Option<Amount>,
    errors: Option<RawValue<'a>>,
}

impl<'a> IntoIterator for NextPayload<'a> {
    type Item = MarketEvent<'a>;
    type IntoIter = PayloadEvents<'a>;

    #[inline]
    fn into_iter(self) -> PayloadEvents<'a> {
        PayloadEvents {
            first: self.first,
            rest: self.rest.into_iter(),
            unreadable: self.unreadable,
            is_unknown: !self.is_known && self.errors.is_none(),
            wallet: self.wallet,
            errors: self.errors,
        }
    }
}

impl<'a> Iterator for PayloadEvents<'a> {
    type Item = MarketEvent<'a>;

    #[inline]
    fn next(&mut self) -> Option<MarketEvent<'a>> {
        if let Some(trade) = self.first.take().or_else(|| self.rest.next()) {
            return Some(MarketEvent::Trade(trade));
        }
        if self.unreadable != 0 {
            return Some(MarketEvent::Unreadable(mem::take(&mut self.unreadable)));
        }
        if mem::take(&mut self.is_unknown) {
            return Some(MarketEvent::Unknown);
        }
        if let Some(balance) = self.wallet.take() {
            return Some(MarketEvent::Balance(balance));
        }
        let RawValue(errors) = self.errors.take()?;
        Some(MarketEvent::ServerError(GraphqlTransportWs::error_message(errors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Endpoints,
        json,
        markets::{Marketplace as _, csgoroll::Csgoroll},
    };

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
        assert_eq!(payload(text).into_trades().count(), 3);
    }

    #[test]
    fn a_listing_without_id_is_counted_and_the_rest_of_the_batch_is_kept() {
        let text = r#"{"data":{"createTrades":{"trades":[{"id":7},null,"x",{"id":"b"},{}]}}}"#;
        assert_eq!(ids(text), ["b"]);
        assert_eq!(payload(text).unreadable(), 4);
    }

    #[test]
    fn an_update_is_distinguished_from_a_new_listing() {
        let text = r#"{"data":{"updateTrade":{"trade":{"id":"a","status":"JOINED"}}}}"#;
        assert!(payload(text).into_trades().all(|trade| trade.event == TradeEvent::Updated));
    }

    #[test]
    fn only_the_main_wallet_is_the_balance_and_it_is_rounded_down() {
        let push = |name, amount| {
            let text = format!(
                r#"{{"data":{{"updateWallet":{{"wallet":{{"id":"w","amount":{amount},"name":"{name}"}}}}}}}}"#
            );
            payload(&text).wallet
        };
        assert_eq!(push("MAIN", "123.456"), Some(Amount::from_cents(12_345)));
        assert_eq!(push("VAULT", "123.45"), None);
        assert_eq!(push("MAIN", "\"123\""), None);
    }

    #[test]
    fn errors_beside_data_do_not_discard_the_data() {
        let text = format!(
            r#"{{"errors":[{{"message":"partly"}}],"data":{{"createTrade":{{"trade":{LISTING}}}}}}}"#
        );
        assert_eq!(payload(&text).into_trades().count(), 1);
        assert_eq!(payload(&text).errors, Some(RawValue(r#"[{"message":"partly"}]"#)));
    }

    #[test]
    fn unknown_events_and_shapes_contain_no_listings() {
        for text in ["null", "[]", "7", "{}", r#"{"data":null}"#, r#"{"data":{"other":{}}}"#] {
            assert!(payload(text).first.is_none() && !payload(text).is_known(), "{text}");
        }
        let empty = r#"{"data":{"createTrades":{"trades":null}}}"#;
        assert!(payload(empty).first.is_none() && payload(empty).is_known());
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
    fn a_listings_generation_follows_from_its_path() {
        let a = format!(r#"{{"data":{{"createTrade":{{"trade":{LISTING}}}}}}}"#);
        let b = batch(&[LISTING]);
        let lacks = |text| {
            let mut trades = payload(text).into_trades();
            trades.next().unwrap().defects.contains(Defect::CanJoin)
        };
        assert!(!lacks(&a) && lacks(&b));
    }

    #[test]
    fn where_generation_b_is_configured_every_event_must_state_can_join() {
        let address = "127.0.0.1:1";
        let endpoints =
            Endpoints::new(&format!("ws://{address}/ws"), &format!("http://{address}/graphql"));
        let endpoints = endpoints.unwrap();
        let lacks = |generation, text: &str| {
            let market = Csgoroll::at(&endpoints, generation);
            let mut trades =
                market.decode(&mut Cursor::new(text)).unwrap().events.into_trades().peekable();
            assert!(trades.peek().is_some(), "{text}");
            trades.all(|trade| trade.defects.contains(Defect::CanJoin))
        };
        let stated = LISTING.replace('}', r#","canJoin":true}"#);
        for (path, list) in [("createTrade", "trade"), ("updateTrade", "trade")] {
            let event = |listing| format!(r#"{{"data":{{"{path}":{{"{list}":{listing}}}}}}}"#);
            assert!(lacks(Generation::B, &event(LISTING)), "{path}");
            assert!(!lacks(Generation::B, &event(&stated)), "{path}");
            assert!(!lacks(Generation::A, &event(LISTING)), "{path}");
        }
        let both = format!(r#"{{"data":{{"updateTrade":{{"trade":[{LISTING},{LISTING}]}}}}}}"#);
        assert!(lacks(Generation::B, &both));
    }

    #[test]
    fn a_repeated_key_in_the_path_makes_its_listings_unbuyable() {
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
