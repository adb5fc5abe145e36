//! What is measured: a message of the feed → its listing → the whitelist's verdict.

use std::time::{Duration, Instant};

use sniper::{
    csgoroll::feed::Payload,
    money::{Coins, Percent},
    trade::Trade,
    whitelist::{Entry, ItemPattern, Verdict, Wears, Whitelist},
    ws::protocol::{Event, GraphqlTransportWs, Machine, Wanted},
};

/// The socket's conversation, as it stands when listings come: acknowledged and subscribed.
pub(crate) struct Subject {
    machine: Machine<GraphqlTransportWs>,
    whitelist: Whitelist,
    now: Instant,
}

/// An entry for an item, at a price that nothing of it is above.
pub(crate) fn entry(item: &str) -> Entry {
    Entry {
        name: None,
        item: ItemPattern::Named(item.to_owned()),
        wears: Wears::ANY,
        stattrak: false,
        souvenir: false,
        float_min: None,
        float_max: None,
        min_price: Coins::ZERO,
        max_price: Coins::from_cents(1_000_000_000),
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
        let mut machine = Machine::new(GraphqlTransportWs, heal_after, heal_after);
        machine.want(Wanted { topic: "{}".to_owned(), is_optional: false }, now);
        machine.open();
        let acked = machine.receive::<Payload<'_>>(r#"{"type":"connection_ack"}"#, now);
        assert!(matches!(acked, Ok(Event::Acked)), "the greeting was not acknowledged");
        while machine.due(now).is_some() {}
        Self { machine, whitelist: whitelist(entries), now }
    }

    /// Reads one message, and hands each listing to the caller.
    #[inline]
    pub(crate) fn read<'a>(&mut self, text: &'a str, mut on_trade: impl FnMut(Trade<'a>)) {
        if let Ok(Event::Data { payload, .. }) = self.machine.receive::<Payload<'_>>(text, self.now)
        {
            for trade in payload.into_trades() {
                on_trade(trade);
            }
        }
    }

    /// What the whitelist says of a listing.
    #[inline]
    pub(crate) fn decide(&self, trade: &Trade<'_>) -> Verdict {
        self.whitelist.decide(trade)
    }

    /// Both in a row; `None` where the message brought no listing.
    #[inline]
    pub(crate) fn read_and_decide(&mut self, text: &str) -> Option<Verdict> {
        let event = self.machine.receive::<Payload<'_>>(text, self.now).ok()?;
        let Event::Data { payload, .. } = event else { return None };
        let mut verdict = None;
        for trade in payload.into_trades() {
            verdict = Some(self.whitelist.decide(&trade));
        }
        verdict
    }
}
