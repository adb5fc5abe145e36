//! The listings of a run, framed and ready to be written: one a frame, 1.45 kB in the median.

use std::sync::Arc;

use sniper::{
    clock,
    config::Generation,
    domain::item_name::ItemName,
    sim::{
        ListedItem, Rate, SimSettings,
        catalogue::Catalogue,
        listing::{Listing, specimen},
    },
};

use crate::market::PRICE;

/// What is wanted.
pub(crate) const WANTED: &str = "AK-47 | Redline (Field-Tested)";
/// The numbers of listings have nine digits, so that all ids are equally long.
const FIRST_NUMBER: u64 = 500_000_000;

/// One listing, ready to be written.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Its id, if it is wanted.
    pub(crate) wanted: Option<String>,
}

/// Makes frames; no two of them have the same id.
pub(crate) struct Frames {
    ordinary: Vec<ListedItem>,
    wanted: Arc<ListedItem>,
    next: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        let settings =
            SimSettings { rate: Rate::per_second(20), odd_permille: 0, ..SimSettings::default() };
        let base = ItemName::parse(WANTED).base.into_owned();
        let other = |offer: &ListedItem| ItemName::parse(&offer.market_name).base != base;
        let ordinary = Catalogue::new(&settings).filter(other).take(1_000);
        // Listings that are held back belong to another test.
        let ordinary = ordinary.map(|offer| ListedItem { can_join_after: None, ..offer }).collect();
        let mut wanted = ListedItem::plain(WANTED, PRICE, PRICE);
        wanted.rarity = "classified";
        Self { ordinary, wanted: Arc::new(wanted), next: FIRST_NUMBER }
    }

    /// So many listings, each so-manieth of them wanted, for the subscription with this id.
    pub(crate) fn make(
        &mut self,
        subscription: &str,
        count: usize,
        wanted_every: usize,
    ) -> Vec<Frame> {
        (1..=count).map(|n| self.one(subscription, n % wanted_every == 0)).collect()
    }

    fn one(&mut self, subscription: &str, is_wanted: bool) -> Frame {
        let number = self.next;
        self.next += 1;
        let index = usize::try_from(number).unwrap() % self.ordinary.len();
        let offer = if is_wanted {
            Arc::clone(&self.wanted)
        } else {
            Arc::new(self.ordinary[index].clone())
        };
        let now = clock::now();
        let listing =
            Listing { number, offer, created_at: now, updated_at: now, buyer: None, ..specimen() };
        let mut text = format!(
            r#"{{"id":"{subscription}","type":"next","payload":{{"data":{{"createTrades":{{"trades":["#
        );
        listing.json(Generation::B).write(&mut text);
        text.push_str("]}}}}");
        Frame { bytes: frame(&text), wanted: is_wanted.then(|| listing.id()) }
    }
}

/// A whole text message in one frame, as servers write it: not masked.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    assert!(length > 125, "a listing is longer than that");
    let mut bytes = vec![0x81, 126];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
