//! Decides from the name of an item whether an event must be read in its turn, later, or not at
//! all.
//!
//! # Invariants
//!
//! 1. [`Scan::CanWait`] and [`Scan::Unnamed`] are returned only for a listing or a removal of an
//!    item that no entry wants. All events of a wanted item are read in their order, because a
//!    price may change under one id.
//! 2. [`Scan::Unnamed`] is returned only for an item that no entry names, so that reading it would
//!    only count it. The market sends a few hundred of these a second.
//! 3. If in doubt, the message is read: an escape, a second name, a Doppler whose name shows no
//!    phase, keys in another order than recorded.

use std::sync::LazyLock;

use memchr::{
    memchr,
    memmem::{self, Finder, FinderRev},
};

use super::feed;
use crate::{
    domain::trade::{TradeEvent, TradeId, TradeStatus},
    domain::wanted_items::WantedItems,
    json::Cursor,
    markets::{Scan, UnnamedEvent},
};

const NAME_KEY: &[u8] = br#""name":""#;
const REMOVED: &[u8] = br#"42["removed","#;

static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME_KEY));
static DOPPLER: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(b"Doppler"));

/// A listing as it is written in its event, divided at its name.
struct NamedListing<'a> {
    before: &'a str,
    name: &'a str,
    after: &'a str,
}

/// Scans the rest of a message from the event's name on.
#[inline]
pub fn scan(payload: &[u8], wanted: &WantedItems) -> Scan {
    let Some((event, listing)) = event_of(payload) else { return Scan::ReadNow };
    let Some(listing) = NamedListing::find(listing) else { return Scan::ReadNow };
    if lacks_phase(listing.name) {
        return Scan::ReadNow;
    }
    if wanted.names(listing.name) {
        return match wanted.max_price(listing.name) {
            Some(_) => Scan::ReadNow,
            None => Scan::CanWait,
        };
    }
    listing.unnamed_event(event).map_or(Scan::CanWait, Scan::Unnamed)
}

/// Returns `true` for a name that ends in the finish, up to the wear. A phase beside any other name
/// does not belong to the item's name.
#[inline]
fn lacks_phase(name: &str) -> bool {
    let end = |at: usize| name.get(at.saturating_add(DOPPLER.needle().len())..);
    let behind = DOPPLER.rfind(name).and_then(end).map(|behind| behind.trim_start_matches(' '));
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('('))
}

/// Returns the event, `None` for a removal, and its listing from the first key on.
#[inline]
fn event_of(payload: &[u8]) -> Option<(Option<TradeEvent>, &[u8])> {
    if let Some(listing) = payload.strip_prefix(br#""update",{"#) {
        return Some((Some(TradeEvent::Repriced), listing));
    }
    if let Some(listing) = payload.strip_prefix(br#""new",{"#) {
        return Some((Some(TradeEvent::Listed), listing));
    }
    payload.strip_prefix(br#""removed",{"#).map(|listing| (None, listing))
}

impl<'a> NamedListing<'a> {
    /// Finds the name. Returns `None` if it is not written as usual.
    #[inline]
    fn find(listing: &'a [u8]) -> Option<Self> {
        // An escape could hide a name or its end.
        if memchr(b'\\', listing).is_some() {
            return None;
        }
        let at = NAME.find(listing)?;
        let listing = str::from_utf8(listing).ok()?;
        let (before, name) = listing.split_at_checked(at)?;
        let name = name.get(NAME_KEY.len()..)?;
        let (name, after) = name.split_at_checked(memchr(b'"', name.as_bytes())?)?;
        // A second name may be that of the listing.
        NAME.find(after.as_bytes()).is_none().then_some(Self { before, name, after })
    }

    /// Returns the event to count, or `None` if a key is not at its usual place.
    #[inline]
    fn unnamed_event(&self, event: Option<TradeEvent>) -> Option<UnnamedEvent> {
        let id = self.before.strip_prefix(r#""game":"csgo","#).unwrap_or(self.before);
        let id = id.strip_prefix(r#""item_id":""#)?.strip_suffix(r#"","#)?;
        let id = super::item_id(id)?;
        let rest = self.after.strip_prefix(r#"","price":"#)?.strip_suffix("}]")?;
        let Some(event) = event else { return Some(UnnamedEvent::Removed { id }) };
        let price = super::price(rest.split(',').next()?)?;
        Some(UnnamedEvent::Listing { id, price, event })
    }
}

/// Returns the status of a listing if a message says that it was removed.
#[inline]
pub fn removal(message: &[u8], id: &TradeId) -> Option<TradeStatus> {
    let listing = message.strip_prefix(REMOVED)?;
    // An escape could hide the digits.
    if memmem::find(listing, id.as_str().as_bytes()).is_none() && memchr(b'\\', listing).is_none() {
        return None;
    }
    let mut cursor = Cursor::new(str::from_utf8(listing).ok()?);
    let is_removed = feed::removed_id(&mut cursor).ok()? == Some(*id);
    is_removed.then_some(TradeStatus::Cancelled)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;
    use crate::{
        domain::{
            money::Amount,
            trade::{Trade, TradeNotice},
            whitelist_entry::{ItemPattern, WhitelistEntry},
        },
        markets::{Decoded, MarketEvent},
        protocol::{FeedMessage, FeedProtocol as _, Incoming, SocketIo},
        whitelist::tests::{entry, percent_entry},
    };

    const REDLINE: &str = "AK-47 | Redline (Field-Tested)";
    const CASE: &str = "Fracture Case";

    fn wanted() -> WantedItems {
        let named =
            |item: &str| WhitelistEntry { item: ItemPattern::Named(item.to_owned()), ..entry() };
        WantedItems::of(&[
            named("AK-47 | Redline"),
            named("Karambit | Ruby"),
            named("Sticker | J\u{f6}rg"),
        ])
    }

    fn message(event: &str, name: &str) -> String {
        format!(
            r#"42["{event}",{{"item_id":"7","name":"{name}","price":10150,"game":"csgo","phase":""}}]"#
        )
    }

    fn opened() -> SocketIo {
        let mut protocol = SocketIo::default();
        let open = protocol.read(FeedMessage::Text("0{}"), |_event| Ok(()));
        assert!(matches!(open, Ok(Incoming::Reply(_))));
        protocol
    }

    fn scanned(text: &str) -> Scan {
        let payload = opened().peek_event(text.as_bytes()).map(|(_, payload)| payload);
        payload.map_or(Scan::ReadNow, |payload| scan(payload, &wanted()))
    }

    #[test]
    fn events_of_unnamed_items_are_counted() {
        let (id, price) = (TradeId::from_number(7), Amount::from_thousandths(10_150));
        let listing = |event| Scan::Unnamed(UnnamedEvent::Listing { id, price, event });
        for (event, expected) in [
            ("new", listing(TradeEvent::Listed)),
            ("update", listing(TradeEvent::Repriced)),
            ("removed", Scan::Unnamed(UnnamedEvent::Removed { id })),
        ] {
            assert_eq!(scanned(&message(event, CASE)), expected, "{event}");
            assert_eq!(scanned(&message(event, REDLINE)), Scan::ReadNow, "{event}");
        }
        for event in ["steamTrade", "change_user", "handshake", "new2"] {
            assert_eq!(scanned(&message(event, CASE)), Scan::ReadNow, "{event}");
        }
    }

    #[test]
    fn a_wanted_item_whose_name_is_decomposed_is_read_in_its_turn() {
        assert_eq!(scanned(&message("new", "Sticker | Jo\u{308}rg")), Scan::ReadNow);
    }

    #[test]
    fn an_item_that_an_entry_names_without_wanting_it_is_read_later() {
        let (text, unnamed) = (message("new", REDLINE), message("new", CASE));
        let scan = |text: &str, entries: &[WhitelistEntry]| {
            let (_, payload) = opened().peek_event(text.as_bytes()).unwrap();
            scan(payload, &WantedItems::of(entries))
        };
        let item = ItemPattern::Named("AK-47 | Redline".to_owned());
        let named = WhitelistEntry { item, ..percent_entry() };
        assert_eq!(
            scan(&text, std::slice::from_ref(&named)),
            Scan::CanWait,
            "without a reference price"
        );
        assert!(matches!(scan(&unnamed, &[named]), Scan::Unnamed(_)));
        assert_eq!(scan(&text, &[percent_entry()]), Scan::CanWait);
        assert_eq!(scan(&text, &[]), Scan::CanWait, "without entries every listing is logged");
    }

    #[test]
    fn an_unnamed_item_with_keys_at_other_places_is_read_later() {
        let case = message("new", CASE);
        for text in [
            case.replace(r#""item_id":"7""#, r#""item_id":7"#),
            case.replace(r#""item_id":"7""#, r#""item_id":"x""#),
            case.replace(r#""item_id":"7","#, ""),
            case.replace(r#","price":10150"#, ""),
            case.replace("10150", "-1"),
            case.replace("10150", "null"),
            case.replace("}]", "}] "),
            case.replace("}]", ""),
        ] {
            assert_eq!(scanned(&text), Scan::CanWait, "{text}");
        }
    }

    #[test]
    fn a_doppler_is_counted_if_its_name_shows_the_phase_and_read_otherwise() {
        for name in ["★ Karambit | Doppler Phase 3 (Factory New)", "★ Bayonet | Doppler Ruby"] {
            let text = message("new", name).replace(r#""phase":"""#, r#""phase":"Ruby""#);
            assert!(matches!(scanned(&text), Scan::Unnamed(_)), "{text}");
        }
        for name in ["★ Bayonet | Doppler (Factory New)", "★ Bayonet | Gamma Doppler  "] {
            assert_eq!(scanned(&message("new", name)), Scan::ReadNow, "{name}");
        }
    }

    #[test]
    fn whatever_is_not_written_as_usual_is_read_in_its_turn() {
        let case = message("new", CASE);
        for text in [
            case.replace(CASE, r"Fr\u0061cture Case"),
            case.replace(r#""name":"#, r#""name" :"#),
            case.replace(r#""name""#, r#""nam\u0065""#),
            case.replace(r#""phase":"""#, &format!(r#""name":"{REDLINE}""#)),
            case.replace(r#""new",{"#, r#""new", {"#),
            case.replace(r#""name":"Fracture Case","#, ""),
            case.replace(CASE, "Fracture  Case"),
            case.replace(CASE, "★ Karambit | Doppler (Factory New)"),
            case.replace(CASE, "★ Karambit | Doppler Ruby (Factory New)"),
            "2".to_owned(),
        ] {
            assert_eq!(scanned(&text), Scan::ReadNow, "{text}");
        }
    }

    #[test]
    fn only_a_removal_of_the_listing_ends_it() {
        let removed = message("removed", REDLINE);
        let status = |text: &str, id| removal(text.as_bytes(), &TradeId::from_number(id));
        for written in [r#""7""#, "7", r#""07""#, r#" "7""#, r#""\u0037""#] {
            let removed = removed.replace("\"7\"", written);
            assert_eq!(status(&removed, 7), Some(TradeStatus::Cancelled), "{removed}");
        }
        for (text, id) in [
            (removed.clone(), 70),
            (removed.replace("\"7\"", "\"77\""), 7),
            (removed.replace("\"7\"", "-7"), 7),
            (removed.replace("item_id", "id"), 7),
            (message("update", REDLINE), 7),
            (removed.replace("10150", "\"7\""), 10_150),
        ] {
            assert_eq!(status(&text, id), None, "{text} {id}");
        }
    }

    fn any_message() -> impl Strategy<Value = String> {
        let event = select(vec!["new", "update", "removed", "steamTrade"]);
        let name = select(vec![
            REDLINE,
            "StatTrak™ AK-47 | Redline (Well-Worn)",
            "AK-47  | Redline",
            r#"A\",\"name\":\"AK-47 | Redline"#,
            r"AK-47 \u007c Redline",
            CASE,
            CASE,
            "★ Karambit | Doppler (Factory New)",
            "Karambit | Doppler",
            "Karambit | Doppler Ruby",
            "★ Karambit | Doppler Phase 3 (Factory New)",
            "Doppler | Doppler (Factory New) ",
            "}]}{[",
        ]);
        let change = select(vec![
            ("", ""),
            (r#""phase":"""#, r#""phase":"Ruby""#),
            (r#""phase":"""#, r#""phase":"","name":"AK-47 | Redline""#),
            (r#""phase":"""#, r#""x":{"name":"AK-47 | Redline"}"#),
            (r#""name""#, r#""nam\u0065""#),
            (r#"{"item_id""#, r#"{ "item_id""#),
            ("10150", "0"),
            ("10150", "1e3"),
            ("10150", "10151.5"),
            (r#""phase":"""#, r#""price":7"#),
            (r#""phase":"""#, r#""item_id":"8""#),
        ]);
        (event, name, change)
            .prop_map(|(event, name, (from, to))| message(event, name).replacen(from, to, 1))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_048))]

        #[test]
        fn the_scan_overlooks_no_wanted_listing_and_no_other_event(text in any_message()) {
            let read = opened().read(FeedMessage::Text(&text), |event| feed::read(event, true));
            let Ok(Incoming::Data { payload: Decoded { events, .. }, .. }) = read else {
                return Ok(());
            };
            for event in events {
                let is_urgent = match &event {
                    MarketEvent::Trade(trade) => trade.defects.is_empty() && wanted().wants(trade),
                    MarketEvent::Notice(_) => text.contains("steamTrade"),
                    _ => true,
                };
                prop_assert!(!is_urgent || scanned(&text) == Scan::ReadNow, "{text}");
                // The scan counts the same listings as the full read.
                let read = match event {
                    MarketEvent::Trade(Trade { id, total_value: Some(price), event, .. }) => {
                        Some(UnnamedEvent::Listing { id, price, event })
                    }
                    MarketEvent::Notice(TradeNotice::Removed { id }) => {
                        Some(UnnamedEvent::Removed { id })
                    }
                    _ => None,
                };
                // Of a repeated key, which makes a listing unbuyable, the first value is counted.
                let is_repeated = |key| text.matches(key).nth(1).is_some();
                if let Scan::Unnamed(counted) = scanned(&text)
                    && !is_repeated("\"item_id\"")
                    && !is_repeated("\"price\"")
                {
                    prop_assert_eq!(Some(counted), read, "{}", text);
                }
            }
        }

        #[test]
        fn any_bytes_can_be_scanned(bytes in prop::collection::vec(any::<u8>(), 0..80), id in any::<u64>()) {
            scan(&bytes, &wanted());
            prop_assert_eq!(removal(&bytes, &TradeId::from_number(id)), None);
        }
    }
}
