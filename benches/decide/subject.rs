//! The measured code: parsing of a feed message and the whitelist decision.

use std::time::{Duration, Instant};

use sniper::{
    domain::money::{Amount, Percent},
    domain::trade::Trade,
    domain::wanted_items::WantedItems,
    json::FromCursor as _,
    markets::{
        Scan,
        csgoroll::{feed::NextPayload, scan::scan},
    },
    protocol::{FeedMessage, GraphqlTransportWs, ProtocolEvent, Subscription, SubscriptionState},
    whitelist::{Decision, ItemPattern, Whitelist, WhitelistEntry},
};

/// A subscribed feed session with a whitelist.
pub(crate) struct Subject {
    machine: SubscriptionState<GraphqlTransportWs>,
    whitelist: Whitelist,
    wanted: WantedItems,
    now: Instant,
}

/// Returns an entry for an item, without an effective price limit.
pub(crate) fn entry(item: &str) -> WhitelistEntry {
    WhitelistEntry {
        item: ItemPattern::Named(item.to_owned()),
        max_price: Amount::from_cents(1_000_000_000),
        max_markup: Some(Percent::from_hundredths(1_000_000)),
        max_quantity: 1,
        ..WhitelistEntry::default()
    }
}

/// Returns a whitelist that matches none of the listings.
pub(crate) fn whitelist(entries: usize) -> Whitelist {
    Whitelist::new((0..entries).map(|number| entry(&format!("Glock-18 | Item {number}"))).collect())
}

impl Subject {
    /// Creates a subscribed session and a whitelist with this number of entries.
    pub(crate) fn new(entries: usize) -> Self {
        let whitelist = whitelist(entries);
        let wanted = WantedItems::of(whitelist.entries());
        Self::with(whitelist, wanted)
    }

    /// Creates a subscribed session with this whitelist.
    pub(crate) fn with(whitelist: Whitelist, wanted: WantedItems) -> Self {
        let now = Instant::now();
        let retry_after = Duration::from_secs(1);
        let mut machine = SubscriptionState::new(GraphqlTransportWs, retry_after, retry_after);
        machine.subscribe(Subscription { topic: "{}".to_owned(), is_optional: false }, now);
        machine.open();
        let acked = machine.receive(
            FeedMessage::Text(r#"{"type":"connection_ack"}"#),
            now,
            NextPayload::from_cursor,
        );
        assert!(matches!(acked, Ok(ProtocolEvent::Acked)), "connection_init was not acknowledged");
        while machine.due(now).is_some() {}
        Self { machine, whitelist, wanted, now }
    }

    /// Parses one message and passes each listing to `on_trade`.
    #[inline]
    pub(crate) fn read<'a>(&mut self, text: &'a str, mut on_trade: impl FnMut(Trade<'a>)) {
        if let Ok(ProtocolEvent::Data { payload, .. }) =
            self.machine.receive(FeedMessage::Text(text), self.now, NextPayload::from_cursor)
        {
            for trade in payload.into_trades() {
                on_trade(trade);
            }
        }
    }

    /// Scans one message. Returns `true` if it contains no listing of a wanted item.
    #[inline]
    pub(crate) fn scan(&self, text: &str) -> bool {
        let Some(payload) = self.machine.peek_event(text.as_bytes()) else { return false };
        scan(payload, &self.wanted, &mut |_| {}) == Scan::CanWait
    }

    /// Returns the whitelist's decision about a listing.
    #[inline]
    pub(crate) fn decide(&self, trade: &Trade<'_>) -> Decision {
        self.whitelist.decide(trade)
    }

    /// Parses one message and decides its listing; `None` if it has no listing.
    #[inline]
    pub(crate) fn read_and_decide(&mut self, text: &str) -> Option<Decision> {
        let event = self
            .machine
            .receive(FeedMessage::Text(text), self.now, NextPayload::from_cursor)
            .ok()?;
        let ProtocolEvent::Data { payload, .. } = event else { return None };
        let mut decision = None;
        for trade in payload.into_trades() {
            decision = Some(self.whitelist.decide(&trade));
        }
        decision
    }
}
