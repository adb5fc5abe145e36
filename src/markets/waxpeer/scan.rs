//! Decides from the name alone whether an event can wait until messages that arrived with it are read.
//!
//! # Invariants
//!
//! 1. [`Scan::CanWait`] is returned only for a listing or a removal of an item that no entry wants. All
//!    events of a wanted item are read in their order, because a price may change under one id.
//! 2. If in doubt, the message is read in its turn.

use memchr::{memchr, memmem};

use crate::{
    domain::trade::{TradeId, TradeStatus},
    domain::wanted_items::WantedItems,
    markets::Scan,
};

const NAME_KEY: &[u8] = br#""name":""#;
const REMOVED: &[u8] = br#"42["removed",{"#;

/// Scans the rest of a message from the event's name on.
#[inline]
pub fn scan(payload: &[u8], wanted: &WantedItems) -> Scan {
    let events = [&br#""update",{"#[..], br#""new",{"#, br#""removed",{"#];
    let listing = events.iter().find_map(|event| payload.strip_prefix(*event));
    match listing.and_then(|listing| is_wanted(listing, wanted)) {
        Some(false) => Scan::CanWait,
        Some(true) | None => Scan::ReadNow,
    }
}

/// Returns `true` if an entry may want the item. Fails if its name is not written as usual.
#[inline]
fn is_wanted(listing: &[u8], wanted: &WantedItems) -> Option<bool> {
    // An escape could hide a name or its end.
    if memchr(b'\\', listing).is_some() {
        return None;
    }
    let mut names = memmem::find_iter(listing, NAME_KEY);
    let name = listing.get(names.next()?.checked_add(NAME_KEY.len())?..)?;
    let name = str::from_utf8(name.get(..memchr(b'"', name)?)?).ok()?;
    // A second name may be that of the listing. The phase may be outside of the name.
    names.next().is_none().then(|| wanted.ceiling(name).is_some() || name.contains("Doppler"))
}

/// Returns the status of a listing if a message says that it was removed.
#[inline]
pub fn removal(message: &[u8], id: &TradeId) -> Option<TradeStatus> {
    let listing = message.strip_prefix(REMOVED)?;
    let at = memmem::find(listing, id.as_str().as_bytes())?;
    let (before, after) = (listing.get(..at)?, listing.get(at.checked_add(id.as_str().len())?)?);
    (before.ends_with(br#""item_id":""#) && *after == b'"').then_some(TradeStatus::Cancelled)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;
    use crate::{
        domain::whitelist_entry::{ItemPattern, WhitelistEntry},
        markets::{Decoded, MarketEvent, waxpeer::feed},
        protocol::{FeedMessage, FeedProtocol as _, Incoming, SocketIo},
        whitelist::tests::entry,
    };

    const REDLINE: &str = "AK-47 | Redline (Field-Tested)";
    const CASE: &str = "Fracture Case";

    fn wanted() -> WantedItems {
        let named =
            |item: &str| WhitelistEntry { item: ItemPattern::Named(item.to_owned()), ..entry() };
        WantedItems::of(&[named("AK-47 | Redline"), named("Karambit | Ruby")])
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
    fn events_of_unwanted_items_can_wait() {
        for event in ["new", "update", "removed"] {
            assert_eq!(scanned(&message(event, CASE)), Scan::CanWait, "{event}");
            assert_eq!(scanned(&message(event, REDLINE)), Scan::ReadNow, "{event}");
        }
        for event in ["steamTrade", "change_user", "handshake", "new2"] {
            assert_eq!(scanned(&message(event, CASE)), Scan::ReadNow, "{event}");
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
        assert_eq!(status(&removed, 7), Some(TradeStatus::Cancelled));
        for (text, id) in [
            (removed.clone(), 70),
            (removed.replace("\"7\"", "\"77\""), 7),
            (removed.replace("\"7\"", "7"), 7),
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
            "★ Karambit | Doppler (Factory New)",
            "}]}{[",
        ]);
        let change = select(vec![
            ("", ""),
            (r#""phase":"""#, r#""phase":"Ruby""#),
            (r#""phase":"""#, r#""phase":"","name":"AK-47 | Redline""#),
            (r#""phase":"""#, r#""x":{"name":"AK-47 | Redline"}"#),
            (r#""name""#, r#""nam\u0065""#),
            (r#"{"item_id""#, r#"{ "item_id""#),
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
            }
        }

        #[test]
        fn any_bytes_can_be_scanned(bytes in prop::collection::vec(any::<u8>(), 0..80), id in any::<u64>()) {
            scan(&bytes, &wanted());
            prop_assert_eq!(removal(&bytes, &TradeId::from_number(id)), None);
        }
    }
}
