//! Finds the listings of wanted items in a message without reading the others.
//!
//! In a burst, a wanted listing waits until the messages before it are handled. Reading one takes
//! 1.3 µs; [`scan`] takes a tenth of that, because it only searches for the names, and for the
//! prices of items that an entry wants at some price.
//!
//! # Invariants
//!
//! 1. [`Scan::CanWait`] is returned only for a message without other events than new listings.
//!    Those of wanted items among them were passed to the sink.
//! 2. If in doubt, the message is read in full. It is then [`Scan::ReadNow`]. A price that is not
//!    written as usual counts as wanted.
//! 3. A listing is passed to the sink only after its own object was read to its end as in
//!    [`listing::read`].

use std::sync::LazyLock;

use memchr::{
    memchr, memchr2, memchr3,
    memmem::{self, Finder},
    memrchr, memrchr3,
};

use super::{feed::NextPayload, listing};
use crate::{
    config::Generation,
    domain::money::Amount,
    domain::trade::{Trade, TradeEvent, TradeId, TradeStatus},
    domain::wanted_items::WantedItems,
    json::{Cursor, Elements, FromCursor as _},
    markets::Scan,
    protocol::{FeedMessage, FeedProtocol as _, GraphqlTransportWs, Incoming},
};

const BATCH_HEAD: &[u8] = br#"{"data":{"createTrades":{"trades":["#;
const UPDATE_HEAD: &[u8] = br#"{"data":{"updateTrade":{"#;
const SINGLE_HEAD: &[u8] = br#"{"data":{"createTrade":{"trade":{"#;
/// Number of characters that strings have in common with an id, with the quotation mark.
const SIMILAR_START: usize = 9;
/// Maximum number of such strings in a batch. If there are more, each id is searched for.
const SIMILAR_MAX: usize = 512;
/// End of a message with a batch: the array, `createTrades`, `data`, `payload`, message.
const BATCH_TAIL: &[u8] = b"]}}}}";

static NAME_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""marketName""#));
static PRICE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""totalValue":"#));
/// Start of the items of a listing.
const ITEMS_HEAD: &[u8] = br#""tradeItems":["#;
/// Prefix of the events for updates, and of the key `updatedAt` of a listing.
static UPDATE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""update"#));

/// Scans the rest of a message from its payload on. Listings of wanted items of a batch are passed
/// to `sink`.
#[inline]
pub fn scan<'a>(payload: &'a [u8], wanted: &WantedItems, sink: &mut impl FnMut(Trade<'a>)) -> Scan {
    let batch = payload.strip_prefix(BATCH_HEAD);
    if batch.is_none() && !payload.starts_with(SINGLE_HEAD) {
        return Scan::ReadNow;
    }
    // An escape of either kind could hide an id.
    if memchr2(b'\\', b'%', payload).is_some() || !has_no_update(payload) {
        return Scan::ReadNow;
    }
    match (first_wanted(payload, wanted), batch) {
        (FirstWanted::Nowhere, _) => Scan::CanWait,
        (FirstWanted::At(first), Some(batch))
            if has_several_names(batch) && payload.ends_with(BATCH_TAIL) =>
        {
            scan_batch(batch, first.saturating_sub(BATCH_HEAD.len()), wanted, sink)
        }
        (FirstWanted::At(_) | FirstWanted::Unclear, _) => Scan::ReadNow,
    }
}

/// Position of the name of the first wanted listing.
enum FirstWanted {
    At(usize),
    Nowhere,
    /// The text has no name, or one before it that is not written as usual.
    Unclear,
}

#[inline]
fn first_wanted(text: &[u8], wanted: &WantedItems) -> FirstWanted {
    let mut found = FirstWanted::Unclear;
    for at in NAME_KEY.find_iter(text) {
        match is_wanted(text, at, wanted) {
            Some(true) => return FirstWanted::At(at),
            Some(false) => found = FirstWanted::Nowhere,
            None => return FirstWanted::Unclear,
        }
    }
    found
}

fn has_several_names(text: &[u8]) -> bool {
    NAME_KEY.find_iter(text).nth(1).is_some()
}

/// Returns the status of a listing if a message contains an update that ends it.
#[inline]
pub fn removal(message: &[u8], id: &TradeId) -> Option<TradeStatus> {
    let (_, payload) = GraphqlTransportWs.peek_event(message)?;
    if !payload.starts_with(UPDATE_HEAD) || !may_contain(payload, id) {
        return None;
    }
    let text = FeedMessage::Text(str::from_utf8(message).ok()?);
    let read = GraphqlTransportWs.read(text, NextPayload::from_cursor).ok()?;
    let Incoming::Data { payload, .. } = read else { return None };
    let mut updates = payload.into_trades().filter(|trade| trade.id == *id);
    let status = updates.next()?.status;
    (!matches!(status, TradeStatus::Listed | TradeStatus::Other)).then_some(status)
}

/// Returns the name behind the key at this position.
#[inline]
fn name_at(text: &[u8], at: usize) -> Option<&str> {
    let value = at.saturating_add(NAME_KEY.needle().len());
    text.get(value..)?.starts_with(b":\"").then(|| string_at(text, value.saturating_add(2)))?
}

/// Returns `true` if the listing of the name behind the key at this position may be wanted, and
/// `None` if the name is not written as usual.
#[inline]
fn is_wanted(text: &[u8], at: usize, wanted: &WantedItems) -> Option<bool> {
    let Some(max_price) = wanted.max_price(name_at(text, at)?) else { return Some(false) };
    Some(price_of(text, at).is_none_or(|price| price <= max_price))
}

/// Returns the price of the listing whose first item has the name behind the key at this position.
///
/// This is the first price in the object that contains the items. There must be no other bracket
/// between the brace of that object and its items, and none between the brace of the first item and
/// its name: then the price belongs to the listing, and the name to its first item. A bracket
/// within a string counts, too. Returns `None` in any other case.
#[inline]
fn price_of(text: &[u8], at: usize) -> Option<Amount> {
    let before = text.get(..at)?;
    let item = memrchr(b'{', before)?;
    if memchr3(b'}', b'[', b']', before.get(item..)?).is_some() {
        return None;
    }
    let listing = before.get(..item)?.strip_suffix(ITEMS_HEAD)?;
    let start = memrchr3(b'{', b'}', b']', listing)?;
    let fields = listing.get(start..).filter(|fields| fields.starts_with(b"{"))?;
    let price = fields.get(PRICE_KEY.find(fields)?.saturating_add(PRICE_KEY.needle().len())..)?;
    let price = price.get(..memchr(b',', price)?)?;
    listing::positive(str::from_utf8(price).ok()?)
}

#[inline]
fn has_no_update(text: &[u8]) -> bool {
    let after = |at: usize| text.get(at.saturating_add(UPDATE_KEY.needle().len())..);
    UPDATE_KEY.find_iter(text).all(|at| after(at).is_some_and(|rest| rest.starts_with(b"dAt\"")))
}

/// Passes the wanted listings of a batch to `sink`, each as soon as it is found. No name before
/// `first` is wanted.
fn scan_batch<'a>(
    batch: &'a [u8],
    first: usize,
    wanted: &WantedItems,
    sink: &mut impl FnMut(Trade<'a>),
) -> Scan {
    let is_wanted = |at: &usize| is_wanted(batch, *at, wanted).unwrap_or(true);
    let names = NAME_KEY.find_iter(batch.get(first..).unwrap_or_default());
    let places = names.map(|at| first.saturating_add(at)).filter(is_wanted);
    let (mut elements, mut end) = (Elements::new(batch), 0_usize);
    let mut ids = SimilarStrings::new(batch);
    for place in places {
        // Two names in one listing.
        if place < end {
            continue;
        }
        let element = loop {
            let Some(element) = elements.next() else { return Scan::ReadNow };
            end = elements.offset();
            if place < end {
                break element;
            }
        };
        let Some(trade) = read(element).filter(|trade| ids.contain_once(&trade.id)) else {
            return Scan::ReadNow;
        };
        sink(trade);
    }
    Scan::CanWait
}

/// Strings of a batch that begin like an id. Ids begin alike, so that one search finds all listings
/// with the same id as one of the wanted ones.
struct SimilarStrings<'a> {
    batch: &'a [u8],
    /// Opening quotation mark and first characters.
    start: [u8; SIMILAR_START],
    /// Positions behind the opening quotation marks.
    places: [usize; SIMILAR_MAX],
    count: usize,
}

impl<'a> SimilarStrings<'a> {
    const fn new(batch: &'a [u8]) -> Self {
        Self { batch, start: [0; SIMILAR_START], places: [0; SIMILAR_MAX], count: 0 }
    }

    /// Returns `true` if the id occurs once as a string, in any spelling. Another listing with the
    /// same id would be a conflict, which the full reader finds.
    fn contain_once(&mut self, id: &TradeId) -> bool {
        let Some(common) = common_start(id) else { return false };
        if !self.find(common) {
            let places = memmem::find_iter(self.batch, common);
            return is_one(places.filter(|at| is_string_of(self.batch, *at, id)));
        }
        is_one(self.places.iter().copied().take(self.count).filter(|at| {
            let text = self.batch.get(*at..).and_then(|text| text.get(..common.len()));
            // Ids differ at their ends.
            let ends_alike = text.is_some_and(|text| end_of(text) == end_of(common));
            ends_alike && text == Some(common) && is_string_of(self.batch, *at, id)
        }))
    }

    /// Finds the strings that begin like this one. Returns `false` if it is too short, or there are
    /// too many.
    fn find(&mut self, text: &[u8]) -> bool {
        let Some(first) = text.first_chunk::<{ SIMILAR_START - 1 }>() else { return false };
        if self.start.get(1..) == Some(first) {
            return self.count <= SIMILAR_MAX;
        }
        self.start = [b'"'; SIMILAR_START];
        self.start.iter_mut().skip(1).zip(first).for_each(|(to, from)| *to = *from);
        self.count = 0;
        for at in memmem::find_iter(self.batch, &self.start) {
            let place = self.places.get_mut(self.count);
            self.count = self.count.saturating_add(1);
            let Some(place) = place else { break };
            *place = at.saturating_add(1);
        }
        self.count <= SIMILAR_MAX
    }
}

/// Returns the last eight bytes, which are compared as one number.
fn end_of(text: &[u8]) -> Option<&[u8; 8]> {
    text.last_chunk()
}

fn is_one(mut found: impl Iterator<Item = usize>) -> bool {
    found.next().is_some() && found.next().is_none()
}

fn is_string_of(batch: &[u8], at: usize, id: &TradeId) -> bool {
    let is_string = at.checked_sub(1).and_then(|at| batch.get(at)) == Some(&b'"');
    is_string && string_at(batch, at).and_then(TradeId::new) == Some(*id)
}

/// Returns `false` if a message certainly does not contain the id in any spelling.
fn may_contain(message: &[u8], id: &TradeId) -> bool {
    let may_hide_it = memchr2(b'\\', b'%', message).is_some();
    may_hide_it || common_start(id).is_none_or(|start| memmem::find(message, start).is_some())
}

/// Returns the text with which all spellings of an id without escapes begin: the last character may
/// differ in the bits that a decoder drops. `None` for an id with characters that the two alphabets
/// of base64 write differently.
fn common_start(id: &TradeId) -> Option<&[u8]> {
    let text = id.as_str().trim_end_matches('=').as_bytes();
    let is_plain = |byte: &u8| !matches!(byte, b'+' | b'/' | b'-' | b'_' | b'%');
    text.split_last().map(|(_last, start)| start).filter(|_start| text.iter().all(is_plain))
}

/// Returns the text from this position to the next quote.
fn string_at(text: &[u8], at: usize) -> Option<&str> {
    let value = text.get(at..)?;
    str::from_utf8(value.get(..memchr(b'"', value)?)?).ok()
}

fn read(element: &[u8]) -> Option<Trade<'_>> {
    let mut cursor = Cursor::new(str::from_utf8(element).ok()?);
    let trade = listing::read(&mut cursor, TradeEvent::Listed, Generation::B).ok()??;
    cursor.end().ok()?;
    Some(trade)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};

    use super::*;
    use crate::{
        domain::whitelist_entry::{ItemPattern, WhitelistEntry},
        markets::MarketEvent,
        whitelist::tests::entry,
    };

    const WANTED: &str = "AK-47 | Redline";

    fn wanted() -> WantedItems {
        let items = [WANTED, "Sticker | J\u{f6}rg"].map(|item| ItemPattern::Named(item.to_owned()));
        WantedItems::of(&items.map(|item| WhitelistEntry { item, ..entry() }))
    }

    fn listing(id: &str, name: &str) -> String {
        format!(
            r#"{{"id":"{id}","status":"LISTED","markupPercent":1.5,"totalValue":10.15,"canJoin":true,"canJoinAfter":null,"suspectedTraderCanJoinAfter":null,"createdAt":"2026-03-01T10:00:00.300Z","updatedAt":"2026-03-01T10:00:00.300Z","expiresAt":"2026-03-03T10:00:00.301Z","depositor":null,"tradeItems":[{{"id":"x","marketName":"{name}","itemVariant":{{"value":10}},"stickers":[]}}]}}"#
        )
    }

    fn single(listing: &str) -> String {
        format!(r#"{{"data":{{"createTrade":{{"trade":{listing}}}}}}}}}"#)
    }

    fn batch(listings: &[String]) -> String {
        format!(r#"{{"data":{{"createTrades":{{"trades":[{}]}}}}}}}}"#, listings.join(","))
    }

    fn scanned(payload: &str) -> (Scan, Vec<Trade<'_>>) {
        let mut trades = Vec::new();
        let scan = scan(payload.as_bytes(), &wanted(), &mut |trade| trades.push(trade));
        (scan, trades)
    }

    /// Returns the events of the full reader, or `None` if it rejects the payload.
    fn read_fully(payload: &str) -> Option<Vec<MarketEvent<'_>>> {
        let mut cursor = Cursor::new(payload);
        let read = NextPayload::from_cursor(&mut cursor).ok()?;
        Some(read.into_iter().collect())
    }

    #[test]
    fn a_listing_of_an_unwanted_item_can_wait() {
        let payload = single(&listing("a", "AWP | Neo-Noir (Field-Tested)"));
        assert_eq!(scanned(&payload), (Scan::CanWait, vec![]));
        let two = [listing("a", "Fracture Case"), listing("b", "★ Ursus Knife")];
        assert_eq!(scanned(&batch(&two)), (Scan::CanWait, vec![]));
        assert_eq!(scanned(&batch(&two[..1])), (Scan::CanWait, vec![]));
    }

    #[test]
    fn a_message_with_one_wanted_listing_is_read_at_once() {
        let one = listing("a", "StatTrak™ AK-47 | Redline (Well-Worn)");
        assert_eq!(scanned(&single(&one)), (Scan::ReadNow, vec![]));
        assert_eq!(scanned(&batch(&[one])), (Scan::ReadNow, vec![]));
    }

    #[test]
    fn a_wanted_listing_whose_name_is_decomposed_is_read_before_the_others() {
        let decomposed = listing("b", "Sticker | Jo\u{308}rg");
        assert_eq!(scanned(&single(&decomposed)), (Scan::ReadNow, vec![]));
        let payload = batch(&[listing("a", "Fracture Case"), decomposed]);
        let (scan, trades) = scanned(&payload);
        assert_eq!((scan, trades.len()), (Scan::CanWait, 1));
    }

    #[test]
    fn the_wanted_listings_of_a_batch_are_read_before_the_others() {
        let redline = "AK-47 | Redline (Field-Tested)";
        let payload = batch(&[
            listing("a", "Fracture Case"),
            listing("b", redline),
            // Broken inside, which only the full reader finds.
            listing("c", "Fracture Case").replace("10.15", "10.15.1"),
            listing("d", redline),
        ]);
        let (scan, trades) = scanned(&payload);
        let ids: Vec<_> = trades.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!((scan, ids), (Scan::CanWait, vec!["b", "d"]));
        assert!(trades.iter().all(|trade| trade.defects.is_empty()));
    }

    #[test]
    fn two_states_of_a_wanted_listing_in_one_batch_are_left_to_the_full_reader() {
        let one = listing("a", "AK-47 | Redline (Field-Tested)");
        let payload = batch(&[one.clone(), one.replace("LISTED", "JOINED")]);
        assert_eq!(scanned(&payload), (Scan::ReadNow, vec![]));
        let Some(events) = read_fully(&payload) else { panic!("not JSON") };
        let is_conflict = |event: &MarketEvent<'_>| match event {
            MarketEvent::Trade(trade) => !trade.defects.is_empty(),
            _ => false,
        };
        assert!(events.iter().all(is_conflict) && events.len() == 2);
    }

    #[test]
    fn two_spellings_of_one_id_are_one_listing() {
        let name = "AK-47 | Redline (Field-Tested)";
        for other in ["VHJhZGU6MQ==", "VHJhZGU6MQ", "VHJhZGU6MR", "VHJhZGU6MQ%3D%3D"] {
            for [one, other] in [["VHJhZGU6MQ", other], [other, "VHJhZGU6MQ"]] {
                let taken = listing(other, "Fracture Case").replace("LISTED", "JOINED");
                let payload = batch(&[listing(one, name), taken]);
                assert_eq!(scanned(&payload), (Scan::ReadNow, vec![]), "{payload}");
                let message = |trade: &str| {
                    format!(
                        r#"{{"id":"2","type":"next","payload":{{"data":{{"updateTrade":{{"trade":{trade}}}}}}}}}"#
                    )
                };
                let joined = message(&format!(r#"{{"id":"{other}","status":"JOINED"}}"#));
                let removal = removal(joined.as_bytes(), &TradeId::new(one).unwrap());
                assert_eq!(removal, Some(TradeStatus::Joined), "{joined}");
            }
        }
        // Ids of successive numbers begin alike.
        let payload = batch(&[listing("VHJhZGU6MTA", name), listing("VHJhZGU6MTE", name)]);
        assert_eq!(scanned(&payload).1.len(), 2);
        let escaped = r#"{"id":"2","type":"next","payload":{"data":{"updateTrade":{"trade":{"id":"VHJhZGU6M\u0051","status":"JOINED"}}}}}"#;
        let id = TradeId::new("VHJhZGU6MQ").unwrap();
        assert_eq!(removal(escaped.as_bytes(), &id), Some(TradeStatus::Joined));
    }

    #[test]
    fn a_repeated_id_is_found_among_few_and_many_listings() {
        let name = "AK-47 | Redline (Field-Tested)";
        for count in [2, SIMILAR_MAX - 1, SIMILAR_MAX, SIMILAR_MAX + 1] {
            let id = |number: usize| format!("VHJhZGU6{number:04}MTA");
            let mut listings = vec![listing(&id(0), name), listing(&id(1), name)];
            listings.extend((2..count).map(|number| listing(&id(number), "Fracture Case")));
            let (scan, trades) = (scanned(&batch(&listings)).0, scanned(&batch(&listings)).1.len());
            assert_eq!((scan, trades), (Scan::CanWait, 2), "{count}");
            listings.push(listing(&id(1), "Fracture Case"));
            let payload = batch(&listings);
            let (scan, trades) = scanned(&payload);
            let ids: Vec<_> = trades.iter().map(|trade| trade.id.to_string()).collect();
            assert_eq!((scan, ids), (Scan::ReadNow, vec![id(0)]), "{count}");
        }
    }

    #[test]
    fn whatever_is_not_written_as_usual_is_read_at_once() {
        let case = listing("a", "Fracture Case");
        for payload in [
            single(&case.replace("marketName", r"market\u004eame")),
            single(&case.replace("Fracture", r"Fr\u0061cture")),
            single(&case.replace(r#""marketName":"#, r#""marketName" :"#)),
            single(&case.replace(r#""Fracture Case""#, "null")),
            single(&case).replace("createTrade", "updateTrade"),
            single(&case).replace("\"data\":", "\"errors\":[],\"data\":"),
            single(&case).replace(r#"}}}"#, r#"}},"updateWallet":{"wallet":null}}"#),
            batch(&[]),
        ] {
            assert_eq!(scanned(&payload), (Scan::ReadNow, vec![]), "{payload}");
        }
    }

    #[test]
    fn a_wanted_item_above_its_maximum_price_can_wait() {
        let at = |price: &str| {
            let one = listing("a", "AK-47 | Redline (Field-Tested)");
            one.replace("10.15", price)
        };
        let case = listing("b", "Fracture Case");
        for (price, expected) in [("12.50", Scan::ReadNow), ("12.51", Scan::CanWait)] {
            assert_eq!(scanned(&single(&at(price))), (expected, vec![]), "{price}");
        }
        let payload = batch(&[at("12.51"), case.clone(), at("99")]);
        assert_eq!(scanned(&payload), (Scan::CanWait, vec![]));
        let payload = batch(&[at("12.51"), case, at("12.5").replace("\"a\"", "\"c\"")]);
        let (scan, trades) = scanned(&payload);
        let ids: Vec<_> = trades.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!((scan, ids), (Scan::CanWait, vec!["c"]));
    }

    #[test]
    fn a_price_that_is_not_written_as_usual_counts_as_wanted() {
        let dear = listing("a", "AK-47 | Redline (Field-Tested)").replace("10.15", "99");
        for (from, to) in [
            (r#""totalValue":99"#, r#""totalValue": 99"#),
            (r#""totalValue":99"#, r#""totalValue":"99""#),
            (r#""totalValue":99"#, r#""totalValue":-99"#),
            (r#""totalValue":99,"#, ""),
            (r#""depositor":null"#, r#""depositor":{"id":"x"}"#),
            (r#""canJoinAfter":null"#, r#""canJoinAfter":[]"#),
            (r#""tradeItems":["#, r#""tradeItems":[ "#),
            (r#""tradeItems":[{"#, r#""tradeItems":[{"x":{},"#),
            (r#""id":"x""#, r#""id":"[""#),
            (r#""tradeItems":[{"#, r#""items":[{"#),
            (r#""tradeItems":[{"#, r#""tradeItems":[{"marketName":"Fracture Case"},{"#),
            // The price of another object.
            (r#""tradeItems":["#, r#""x":{"totalValue":99},"tradeItems":["#),
        ] {
            let payload = single(&dear.replacen(from, to, 1));
            assert_eq!(scanned(&payload), (Scan::ReadNow, vec![]), "{payload}");
        }
    }

    /// A listing with one change that a hostile or faulty market could make.
    fn mutated() -> impl Strategy<Value = String> {
        let names = select(vec![
            "AK-47 | Redline (Field-Tested)",
            "StatTrak™ AK-47 | Redline (Well-Worn)",
            "AK-47  | Redline",
            "Fracture Case",
            "AWP | Neo-Noir (Field-Tested)",
            r#"A\",\"marketName\":\"AK-47 | Redline"#,
            r"AK-47 \u007c Redline",
            "}]}{[",
        ]);
        let change = select(vec![
            (r#""marketName""#, r#""market\u004eame""#),
            (r#""marketName""#, r#""marketName":"AK-47 | Redline","marketName""#),
            (r#""stickers":[]"#, r#""marketName":"AK-47 | Redline""#),
            (r#""stickers":[]"#, r#""stickers":[{"id":"z","marketName":"AK-47 | Redline"}]"#),
            (r#""tradeItems":["#, r#""tradeItems":[{"marketName":"AK-47 | Redline"},"#),
            (r#""tradeItems":["#, r#""tradeItems" : [ "#),
            (r#""tradeItems":["#, r#""tradeItems":[],"other":["#),
            (r#""status":"LISTED""#, r#""status":"JOINED""#),
            (r#""canJoin":true"#, r#""canJoin":false,"canJoin":true"#),
            (r#""totalValue":10.15"#, r#""totalValue":"10.15""#),
            (r#""totalValue":10.15"#, r#""totalValue":9,"totalValue":10.15"#),
            (r#""totalValue":10.15"#, r#""totalValue":99"#),
            (r#""totalValue":10.15"#, r#""x":{"totalValue":99},"totalValue":10.15"#),
            (r#""totalValue":10.15"#, r#""totalValue":99,"tradeItems":[{"totalValue":9}]"#),
            (
                r#""tradeItems":["#,
                r#""x":{"totalValue":99,"tradeItems":[{"marketName":"AK-47 | Redline"}]},"tradeItems":["#,
            ),
            (r#"{"id":"#, r#"{"status":"LISTED","id":"#),
            (r#"{"id":"#, r#"{ "id" : "#),
        ]);
        let change = prop_oneof![5 => Just(("", "")), 1 => change];
        // Two spellings of each of two ids, which differ only in their last character.
        let id =
            select(vec!["VHJhZGU6MQ", "VHJhZGU6MQ==", "VHJhZGU6Mg", "VHJhZGU6Mh", "abc", "abd"]);
        (id, names, change)
            .prop_map(|(id, name, (from, to))| listing(id, name).replacen(from, to, 1))
    }

    fn payload() -> impl Strategy<Value = String> {
        let change = select(vec![
            (r#""createTrades""#, r#""updateTrade":{"trade":null},"createTrades""#),
            ("]}}}}", r#"]},"updateTrade":{"trade":[]}}}}"#),
            ("}}}}}", r#"}},"updateWallet":{"wallet":{"name":"MAIN","amount":1}}}}}"#),
            ("{\"data\"", "{\"errors\":[{\"message\":\"x\"}],\"data\""),
            ("]}}}}", "]}}},"),
        ]);
        let change = prop_oneof![5 => Just(("", "")), 1 => change];
        let listings = prop::collection::vec(mutated(), 1..5);
        (listings, any::<bool>(), change).prop_map(|(listings, is_batch, (from, to))| {
            let payload = match listings.first() {
                Some(first) if !is_batch => single(first),
                _ => batch(&listings),
            };
            payload.replacen(from, to, 1)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn the_scan_overlooks_no_wanted_listing_and_no_other_event(payload in payload()) {
            let (scan, early) = scanned(&payload);
            let Some(events) = read_fully(&payload) else { return Ok(()) };
            let mut trades = Vec::new();
            for event in events {
                match event {
                    MarketEvent::Trade(trade) => trades.push(trade),
                    MarketEvent::Unreadable(_) => {}
                    other => prop_assert!(scan == Scan::ReadNow, "passed over: {other:?}"),
                }
            }
            if scan == Scan::ReadNow {
                prop_assert!(early.iter().all(|one| trades.contains(one)));
                return Ok(());
            }
            prop_assert!(trades.iter().all(|trade| trade.event == TradeEvent::Listed));
            trades.retain(|trade| {
                let is_wanted = trade.defects.is_empty() && wanted().wants(trade);
                is_wanted || early.iter().any(|one| one.id == trade.id)
            });
            prop_assert_eq!(early, trades);
        }
    }

    #[test]
    fn the_generated_payloads_reach_every_result() {
        let mut runner = TestRunner::deterministic();
        let (mut now, mut early, mut unwanted) = (0_u32, 0_u32, 0_u32);
        for _ in 0..2_000 {
            let payload = payload().new_tree(&mut runner).unwrap().current();
            match scanned(&payload) {
                (Scan::ReadNow, _) => now += 1,
                (Scan::CanWait, trades) if trades.is_empty() => unwanted += 1,
                (Scan::CanWait, _) => early += 1,
                (Scan::Unnamed(event), _) => panic!("{event:?}"),
            }
        }
        assert!(
            [now, early, unwanted].into_iter().all(|count| count > 50),
            "{now} {early} {unwanted}"
        );
    }
}
