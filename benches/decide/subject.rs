//! What is measured: a message of the feed → its listing → the whitelist's verdict.

use std::time::{Duration, Instant};

use sniper::{
    domain::money::{Amount, Percent},
    domain::trade::Trade,
    markets::csgoroll::feed::NextPayload,
    whitelist::{Decision, ItemPattern, WearSet, Whitelist, WhitelistEntry},
    ws::protocol::{GraphqlTransportWs, ProtocolEvent, Subscription, SubscriptionState},
};

/// The socket's conversation, as it stands when listings come: acknowledged and subscribed.
pub(crate) struct Subject {
    machine: SubscriptionState<GraphqlTransportWs>,
    whitelist: Whitelist,
    now: Instant,
}

/// An entry for an item, at a price that nothing of it is above.
pub(crate) fn entry(item: &str) -> WhitelistEntry {
    WhitelistEntry {
        name: None,
        item: ItemPattern::Named(item.to_owned()),
        wears: WearSet::ANY,
        stattrak: false,
        souvenir: false,
        float_min: None,
        float_max: None,
        min_price: Amount::ZERO,
        max_price: Amount::from_cents(1_000_000_000),
        max_markup: Percent::from_hundredths(1_000_000),
        max_quantity: 1,
        max_total: None,
        max_age: None,
    }
}

/// So many entries, of which none is about an item that is listed here.
pub(crate) fn whitelist(entries: usize) -> Whitelist {
    Whitelist::new((0..entries).map(|number| entry(&format!("Glock-18 | Wish {number}"))).collect())
}

impl Subject {
    /// A conversation in which listings come, and somebody with so many wishes.
    pub(crate) fn new(entries: usize) -> Self {
        let now = Instant::now();
        let heal_after = Duration::from_secs(1);
        let mut machine = SubscriptionState::new(GraphqlTransportWs, heal_after, heal_after);
        machine.want(Subscription { topic: "{}".to_owned(), is_optional: false }, now);
        machine.open();
        let acked = machine.receive::<NextPayload<'_>>(r#"{"type":"connection_ack"}"#, now);
        assert!(matches!(acked, Ok(ProtocolEvent::Acked)), "the greeting was not acknowledged");
        while machine.due(now).is_some() {}
        Self { machine, whitelist: whitelist(entries), now }
    }

    /// Reads one message, and hands each listing to the caller.
    #[inline]
    pub(crate) fn read<'a>(&mut self, text: &'a str, mut on_trade: impl FnMut(Trade<'a>)) {
        if let Ok(ProtocolEvent::Data { payload, .. }) =
            self.machine.receive::<NextPayload<'_>>(text, self.now)
        {
            for trade in payload.into_trades() {
                on_trade(trade);
            }
        }
    }

    /// What the whitelist says of a listing.
    #[inline]
    pub(crate) fn decide(&self, trade: &Trade<'_>) -> Decision {
        self.whitelist.decide(trade)
    }

    /// Both in a row; `None` where the message brought no listing.
    #[inline]
    pub(crate) fn read_and_decide(&mut self, text: &str) -> Option<Decision> {
        let event = self.machine.receive::<NextPayload<'_>>(text, self.now).ok()?;
        let ProtocolEvent::Data { payload, .. } = event else { return None };
        let mut verdict = None;
        for trade in payload.into_trades() {
            verdict = Some(self.whitelist.decide(&trade));
        }
        verdict
    }
}
