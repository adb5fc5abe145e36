//! The listings of a run as WebSocket frames, one listing per frame, with a median of 1.45 kB.

use std::sync::Arc;

use serde_json::json;
use sniper::{
    clock,
    domain::item_name::ItemName,
    sim::{
        ListedItem, Rate, SimSettings,
        catalogue::Catalogue,
        csgoroll::{
            feed::ProtocolSession,
            listing::{ALL_FIELDS, Listing, complete_listing},
            market::MarketEvent,
        },
    },
};

use crate::market::PRICE;

/// Name of the item that matches the whitelist.
pub(crate) const WANTED: &str = "AK-47 | Redline (Field-Tested)";
/// First number of the listings. Nine digits, so that all ids have the same length.
const FIRST_NUMBER: u64 = 500_000_000;

/// A frame with one listing.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Id of the listing, if it matches the whitelist.
    pub(crate) wanted: Option<String>,
}

/// Generates frames with unique ids.
pub(crate) struct Frames {
    ordinary: Vec<ListedItem>,
    wanted: Arc<ListedItem>,
    next: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        let settings = SimSettings {
            rate: Rate::per_second(20),
            defect_permille: 0,
            ..SimSettings::default()
        };
        let base = ItemName::parse(WANTED).base.into_owned();
        let other = |item: &ListedItem| ItemName::parse(&item.market_name).base != base;
        let ordinary = Catalogue::new(&settings).filter(other).take(1_000);
        // Held listings are not part of this benchmark.
        let ordinary = ordinary.map(|item| ListedItem { can_join_after: None, ..item }).collect();
        let mut wanted = ListedItem::plain(WANTED, PRICE, PRICE);
        wanted.rarity = "classified";
        Self { ordinary, wanted: Arc::new(wanted), next: FIRST_NUMBER }
    }

    /// Generates listings for a subscription; every `wanted_every`-th matches the whitelist.
    pub(crate) fn make(
        &mut self,
        subscription: &str,
        count: usize,
        wanted_every: usize,
    ) -> Vec<Frame> {
        let mut session = ProtocolSession::new(false);
        session.receive(r#"{"type":"connection_init"}"#);
        let query = format!("subscription {{ createTrades {{ trades {ALL_FIELDS} }} }}");
        let payload = json!({ "query": query });
        let subscribe = json!({"id": subscription, "type": "subscribe", "payload": payload});
        assert_eq!(session.receive(&subscribe.to_string()), []);
        (1..=count).map(|n| self.one(&session, n % wanted_every == 0)).collect()
    }

    fn one(&mut self, session: &ProtocolSession, is_wanted: bool) -> Frame {
        let number = self.next;
        self.next += 1;
        let index = usize::try_from(number).unwrap() % self.ordinary.len();
        let item = if is_wanted {
            Arc::clone(&self.wanted)
        } else {
            Arc::new(self.ordinary[index].clone())
        };
        let now = clock::now();
        let listing = Listing {
            number,
            item,
            created_at: now,
            updated_at: now,
            buyer: None,
            ..complete_listing()
        };
        let id = listing.id();
        let event = MarketEvent::Created(vec![Arc::new(listing)]);
        let message = session.event_messages(&event).pop().unwrap();
        let text = message.text().unwrap();
        Frame { bytes: frame(text), wanted: is_wanted.then_some(id) }
    }
}

/// Returns a text message in one unmasked frame, as servers send it.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    assert!(length > 125, "the length must need 16 bits");
    let mut bytes = vec![0x81, 126];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
