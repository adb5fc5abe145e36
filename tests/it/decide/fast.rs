//! The way that a running bot goes, from a message to its listings.

use std::time::{Duration, Instant};

use sniper::{
    domain::money::{Amount, Percent},
    domain::trade::{PaintWear, Trade},
    markets::csgoroll::feed::NextPayload,
    whitelist::{ItemPattern, WearSet, Whitelist, WhitelistEntry},
    ws::protocol::{GraphqlTransportWs, ProtocolEvent, Subscription, SubscriptionState},
};

use super::plain::Brought;

/// A socket's conversation, whose only subscription has the id 1.
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
        machine.want(Subscription { topic: "{}".to_owned(), is_optional: false }, now);
        machine.open();
        let acked = machine.receive::<NextPayload<'_>>(r#"{"type":"connection_ack"}"#, now);
        assert!(matches!(acked, Ok(ProtocolEvent::Acked)), "the greeting was not acknowledged");
        while machine.due(now).is_some() {}
        Self { machine, now }
    }
}

impl Reader {
    /// Hands each listing of a message to the caller. Returns how many had to be dropped; `None`:
    /// the message cannot be read and is dropped whole.
    pub(crate) fn each<'a>(
        &mut self,
        text: &'a str,
        mut on_trade: impl FnMut(Trade<'a>),
    ) -> Option<u32> {
        let ProtocolEvent::Data { payload, .. } =
            self.machine.receive::<NextPayload<'a>>(text, self.now).ok()?
        else {
            return Some(0);
        };
        let unreadable = payload.unreadable();
        for trade in payload.into_trades() {
            on_trade(trade);
        }
        Some(unreadable)
    }

    /// All that a message brings; `None`: it cannot be read and is dropped whole.
    pub(crate) fn read(&mut self, text: &str) -> Option<Brought> {
        let mut trades = Vec::new();
        let unreadable = self.each(text, |trade| trades.push(trade.into_owned()))?;
        Some(Brought { trades, unreadable })
    }
}

/// Wishes that the messages of these tests meet, or just do not.
pub(crate) fn whitelist() -> Whitelist {
    let entry = |item: &str, max_price| WhitelistEntry {
        name: None,
        item: ItemPattern::Named(item.to_owned()),
        wears: WearSet::ANY,
        stattrak: false,
        souvenir: false,
        float_min: None,
        float_max: PaintWear::parse("0.2"),
        min_price: Amount::from_cents(100),
        max_price: Amount::from_cents(max_price),
        max_markup: Percent::from_hundredths(500),
        max_quantity: 1,
        max_total: None,
        max_age: None,
    };
    Whitelist::new(vec![entry("AK-47 | Redline", 1_250), entry("AWP | Neo-Noir", 5_000)])
}
