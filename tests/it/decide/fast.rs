//! The production parser, from a message to its listings.

use std::time::{Duration, Instant};

use sniper::{
    domain::money::{Amount, Percent},
    domain::trade::{PaintWear, Trade},
    json::FromCursor as _,
    markets::csgoroll::feed::NextPayload,
    protocol::{FeedMessage, GraphqlTransportWs, ProtocolEvent, Subscription, SubscriptionState},
    whitelist::{ItemPattern, Whitelist, WhitelistEntry},
};

use super::plain::ParsedMessage;

/// Parser state of one connection, with a single subscription of id 1.
pub(crate) struct Reader {
    machine: SubscriptionState<GraphqlTransportWs>,
    now: Instant,
}

impl Default for Reader {
    fn default() -> Self {
        let now = Instant::now();
        let mut machine = SubscriptionState::new(
            GraphqlTransportWs,
            Duration::from_secs(1),
            Duration::from_secs(1),
        );
        machine.subscribe(Subscription { topic: "{}".to_owned(), is_optional: false }, now);
        machine.open();
        let acked = machine.receive(
            FeedMessage::Text(r#"{"type":"connection_ack"}"#),
            now,
            NextPayload::from_cursor,
        );
        assert!(matches!(acked, Ok(ProtocolEvent::Acked)), "connection_init was not acknowledged");
        while machine.due(now).is_some() {}
        Self { machine, now }
    }
}

impl Reader {
    /// Calls `on_trade` for each listing of a message. Returns the number of dropped listings, or
    /// `None` if the whole message is unreadable.
    pub(crate) fn each<'a>(
        &mut self,
        text: &'a str,
        mut on_trade: impl FnMut(Trade<'a>),
    ) -> Option<u32> {
        let ProtocolEvent::Data { payload, .. } = self
            .machine
            .receive(FeedMessage::Text(text), self.now, NextPayload::from_cursor)
            .ok()?
        else {
            return Some(0);
        };
        let unreadable = payload.unreadable();
        for trade in payload.into_trades() {
            on_trade(trade);
        }
        Some(unreadable)
    }

    /// Returns the content of a message, or `None` if the whole message is unreadable.
    pub(crate) fn read(&mut self, text: &str) -> Option<ParsedMessage> {
        let mut trades = Vec::new();
        let unreadable = self.each(text, |trade| trades.push(trade.into_owned()))?;
        Some(ParsedMessage { trades, unreadable })
    }
}

/// Returns a whitelist that the test messages match or narrowly miss.
pub(crate) fn whitelist() -> Whitelist {
    let entry = |item: &str, max_price| WhitelistEntry {
        item: ItemPattern::Named(item.to_owned()),
        float_max: PaintWear::parse("0.2"),
        min_price: Amount::from_cents(100),
        max_price: Amount::from_cents(max_price),
        max_markup: Some(Percent::from_hundredths(500)),
        max_quantity: 1,
        ..WhitelistEntry::default()
    };
    Whitelist::new(vec![entry("AK-47 | Redline", 1_250), entry("AWP | Neo-Noir", 5_000)])
}
