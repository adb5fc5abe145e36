//! The listings of a run as WebSocket frames, one listing per frame, with a median of 1.45 kB.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::json;
use sniper::{
    clock,
    config::Market as MarketName,
    domain::item_name::ItemName,
    domain::money::Amount,
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

use crate::{market::PRICE, wire};

/// Name of the item that matches the whitelist.
pub(crate) const WANTED: &str = "AK-47 | Redline (Field-Tested)";

/// A frame with one or more listings.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Ids of the listings that match the whitelist.
    pub(crate) wanted: Vec<String>,
}

/// Listings of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) listings: usize,
    /// One of this many listings matches the whitelist.
    pub(crate) wanted_every: usize,
    /// Which one of each `wanted_every` listings matches: a random one, or else the last.
    pub(crate) is_random: bool,
    /// Listings per message.
    pub(crate) per_message: usize,
}

/// Generates frames with unique ids.
pub(crate) struct Frames {
    ordinary: Vec<ListedItem>,
    wanted: Arc<ListedItem>,
    next: u64,
    market: MarketName,
}

impl Frames {
    pub(crate) fn new(market: MarketName) -> Self {
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
        Self { ordinary, wanted: Arc::new(wanted), next: wire::first_number(market), market }
    }

    /// Returns a table of prices of which 80 % are below the price of every listing. The highest
    /// one of an item must not allow a lower listing of it.
    pub(crate) fn prices(&self) -> String {
        let mut lowest: BTreeMap<String, Amount> = BTreeMap::new();
        for item in self.ordinary.iter().chain([&*self.wanted]) {
            let base = ItemName::parse(&item.market_name).base.into_owned();
            let price = lowest.entry(base).or_insert(item.total);
            *price = item.total.min(*price);
        }
        let items = self.ordinary.iter().chain([&*self.wanted]);
        let names: BTreeSet<_> = items.map(|item| item.market_name.as_str()).collect();
        let row = |name: &str| {
            let price = lowest.get(ItemName::parse(name).base.as_ref()).unwrap();
            format!("{}:{price}", json!(name))
        };
        format!("{{{}}}", names.into_iter().map(row).collect::<Vec<_>>().join(","))
    }

    /// Generates listings for a subscription.
    pub(crate) fn make(&mut self, subscription: &str, content: Content) -> Vec<Frame> {
        let Content { listings, wanted_every, is_random, per_message } = content;
        let mut place = wanted_every - 1;
        let is_wanted = |number: usize| {
            if is_random && number.is_multiple_of(wanted_every) {
                place = fastrand::usize(..wanted_every);
            }
            number % wanted_every == place
        };
        let wanted: Vec<bool> = (0..listings).map(is_wanted).collect();
        if self.market != MarketName::Csgoroll {
            assert_eq!(per_message, 1, "no batches on this market");
            return wanted.into_iter().map(|is_wanted| self.frame(is_wanted)).collect();
        }
        let mut session = ProtocolSession::new(false);
        session.receive(r#"{"type":"connection_init"}"#);
        let query = format!("subscription {{ createTrades {{ trades {ALL_FIELDS} }} }}");
        let payload = json!({ "query": query });
        let subscribe = json!({"id": subscription, "type": "subscribe", "payload": payload});
        assert_eq!(session.receive(&subscribe.to_string()), []);
        wanted.chunks(per_message).map(|wanted| self.message(&session, wanted)).collect()
    }

    fn message(&mut self, session: &ProtocolSession, wanted: &[bool]) -> Frame {
        let listings: Vec<_> = wanted.iter().map(|wanted| self.listing(*wanted)).collect();
        let is_wanted = listings.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        let ids = is_wanted.map(|(listing, _)| listing.id()).collect();
        let event = MarketEvent::Created(listings);
        let message = session.event_messages(&event).pop().unwrap();
        Frame { bytes: frame(message.text().unwrap()), wanted: ids }
    }

    /// Returns the frame of a listing of a market other than CSGORoll.
    fn frame(&mut self, is_wanted: bool) -> Frame {
        let id = self.next;
        self.next += 1;
        let index = usize::try_from(id).unwrap() % self.ordinary.len();
        let item = if is_wanted { &*self.wanted } else { &self.ordinary[index] };
        let text = wire::listing(self.market, id, &item.market_name, item.total);
        let wanted = is_wanted.then(|| id.to_string());
        Frame { bytes: frame(&text), wanted: wanted.into_iter().collect() }
    }

    fn listing(&mut self, is_wanted: bool) -> Arc<Listing> {
        let number = self.next;
        self.next += 1;
        let index = usize::try_from(number).unwrap() % self.ordinary.len();
        let item = if is_wanted {
            Arc::clone(&self.wanted)
        } else {
            Arc::new(self.ordinary[index].clone())
        };
        let now = clock::now();
        Arc::new(Listing {
            number,
            item,
            created_at: now,
            updated_at: now,
            buyer: None,
            ..complete_listing()
        })
    }
}

/// Returns a text message in one unmasked frame, as servers send it.
fn frame(text: &str) -> Vec<u8> {
    assert!(text.len() > 125, "the length must need 16 bits");
    let mut bytes = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) => {
            bytes.push(126);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(127);
            bytes.extend_from_slice(&u64::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
