//! Events of each kind, and the scan against the full reader.

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{
        money::Amount,
        trade::Trade,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    markets::lis_skins::listing::tests::listing,
    whitelist::tests::entry,
};

const WANTED: &str = "AK-47 | Redline";

/// Wants one item up to 12.50.
fn wanted() -> WantedItems {
    let items = [WANTED, "Sticker | J\u{f6}rg"].map(|item| ItemPattern::Named(item.to_owned()));
    WantedItems::of(&items.map(|item| WhitelistEntry { item, ..entry() }))
}

/// Returns the data of an event with these keys first, as the market writes it.
fn event(kind: &str, name: &str, price: &str) -> String {
    let mut rest = listing();
    let object = rest.as_object_mut().unwrap();
    for key in ["id", "name", "price", "event"] {
        object.remove(key);
    }
    let rest = rest.to_string();
    let rest = rest.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    format!(r#"{{"id":900000123,"name":"{name}","price":{price},{rest},"event":"{kind}"}}"#)
}

fn read_data(data: &str) -> Decoded<Option<MarketEvent<'_>>> {
    let mut cursor = Cursor::new(data);
    let decoded = read(&mut cursor).unwrap();
    cursor.end().unwrap();
    decoded
}

fn trade(data: &str) -> Trade<'_> {
    match read_data(data).events {
        Some(MarketEvent::Trade(trade)) => trade,
        other => panic!("{data}: {other:?}"),
    }
}

#[track_caller]
fn notice(data: &Value, expected: TradeNotice) {
    let data = data.to_string();
    let expected = Decoded { events: Some(MarketEvent::Notice(expected)), is_data: true };
    assert_eq!(read_data(&data), expected, "{data}");
}

#[test]
fn an_addition_and_a_new_price_are_listings() {
    for (kind, expected) in [(ADDED, TradeEvent::Listed), (REPRICED, TradeEvent::Repriced)] {
        let data = event(kind, "AK-47 | Redline (Field-Tested)", "27.44");
        assert_eq!(trade(&data).event, expected);
        assert_eq!(trade(&data).total_value, Some(Amount::from_cents(2_744)));
        assert!(trade(&data).defects.is_empty() && read_data(&data).is_data);
    }
}

#[test]
fn a_deletion_may_contain_the_id_only() {
    let removed = TradeNotice::Removed { id: TradeId::from_number(7) };
    notice(&json!({"id": 7, "event": DELETED}), removed);
    notice(&json!({"event": DELETED, "id": 7, "name": "AK-47 | Redline", "price": null}), removed);
}

#[test]
fn a_purchase_event_asks_for_a_read_and_tells_at_most_a_status() {
    let id = TradeId::from_number(7);
    for (status, expected) in [
        (json!("accepted"), TradeStatus::CompletedProtected),
        (json!("return"), TradeStatus::Cancelled),
        (json!("new"), TradeStatus::Other),
        (json!(null), TradeStatus::Other),
    ] {
        let data = json!({"event": PURCHASE, "id": 7, "status": status});
        notice(&data, TradeNotice::Purchase { id, status: expected });
    }
    // The id of a purchase is not that of a listing.
    for data in [
        json!({"event": PURCHASE, "purchase_id": 1, "skins": [{"id": 7, "status": "return"}]}),
        json!({"event": PURCHASE, "id": 7, "status": "return", "skins": [{"id": 8}]}),
        json!({"event": PURCHASE, "status": "return"}),
    ] {
        notice(&data, TradeNotice::AccountChanged);
    }
}

#[test]
fn other_events_and_shapes_are_no_data() {
    for (data, expected) in [
        (json!({"event": "something_new", "id": 7}), MarketEvent::Unknown),
        (json!({"id": 7, "name": "x"}), MarketEvent::Unknown),
        (json!({"event": 7}), MarketEvent::Unknown),
        (json!([]), MarketEvent::Unreadable(1)),
        (json!(null), MarketEvent::Unreadable(1)),
    ] {
        let data = data.to_string();
        let expected = Decoded { events: Some(expected), is_data: false };
        assert_eq!(read_data(&data), expected, "{data}");
    }
    for kind in [ADDED, REPRICED, DELETED] {
        for id in [json!(null), json!("7"), json!(-7)] {
            let data = json!({"event": kind, "id": id}).to_string();
            assert_eq!(read_data(&data).events, Some(MarketEvent::Unreadable(1)), "{data}");
        }
    }
}

/// Returns the rest of a message from its data on.
fn payload(data: &str) -> String {
    format!(r#"{data},"offset":17}}}}}}"#)
}

#[track_caller]
fn check_scan(data: &str, expected: Scan) {
    assert_eq!(scan(payload(data).as_bytes(), &wanted()), expected, "{data}");
}

#[test]
fn only_a_new_listing_of_an_item_that_no_entry_wants_can_wait() {
    let redline = "AK-47 | Redline (Field-Tested)";
    check_scan(&event(ADDED, "AWP | Neo-Noir (Field-Tested)", "1"), Scan::CanWait);
    check_scan(&event(ADDED, "Sticker | Jo\u{308}rg", "99"), Scan::ReadNow);
    // A change of its price may follow, and is read in its turn.
    for price in ["12.51", "12.50", "999", "\"99\"", "null", "-99", " 99"] {
        check_scan(&event(ADDED, redline, price), Scan::ReadNow);
    }
    for kind in [REPRICED, DELETED, PURCHASE, "x"] {
        check_scan(&event(kind, "AWP | Neo-Noir (Field-Tested)", "1"), Scan::ReadNow);
    }
    let phase = "★ Karambit | Doppler (Factory New)";
    check_scan(&event(ADDED, phase, "1"), Scan::ReadNow);
    let unwanted = event(ADDED, "AWP | Neo-Noir (Field-Tested)", "1");
    for (from, to) in [
        (r#"{"id":"#, r#"{ "id":"#),
        (r#""name":"#, r#""name": "#),
        ("AWP", r"\u0041WP"),
        (r#""event":"#, r#""event": "#),
        (r#""event":"#, r#""x":1,"event":7,"event":"#),
        (r#""event":"#, r#""other":"#),
    ] {
        check_scan(&unwanted.replacen(from, to, 1), Scan::ReadNow);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn the_scan_overlooks_no_wanted_listing_and_no_other_event(
        kind in select(vec![ADDED, REPRICED, DELETED, "x"]),
        name in select(vec!["AK-47 | Redline (Field-Tested)", "AK-47  | Redline", "Fracture Case",
            "★ Karambit | Doppler (Factory New)", r"AK-47 \u007c Redline", r#"A\",\"event\":\"x"#]),
        price in select(vec!["1", "12.5", "12.51", "99", "\"1\"", "null"]),
        (from, to) in select(vec![("", ""), ("\"event\"", "\"name\":\"Fracture Case\",\"event\""),
            ("\"price\"", "\"price\":99,\"price\""), ("\"name\"", "\"event\":\"x\",\"name\""),
            ("\"event\"", "\"ev\\u0065nt\":\"obtained_skin_deleted\",\"event\""),
            ("\"stickers\":[{", "\"stickers\":[{\"event\":\"obtained_skin_added\",")]),
    ) {
        let data = event(kind, name, price).replacen(from, to, 1);
        if scan(payload(&data).as_bytes(), &wanted()) == Scan::CanWait {
            match read_data(&data).events {
                Some(MarketEvent::Trade(trade)) => {
                    prop_assert_eq!(trade.event, TradeEvent::Listed);
                    prop_assert!(!trade.defects.is_empty() || !wanted().wants(&trade), "{}", data);
                }
                other => prop_assert!(data.contains("\\u0065"), "{}: {:?}", data, other),
            }
        }
    }
}

#[test]
fn a_deletion_in_any_object_of_a_message_is_found() {
    let push = |data: &str| {
        format!(r#"{{"push":{{"channel":"public:obtained-skins","pub":{{"data":{data}}}}}}}"#)
    };
    let deleted = push(&json!({"event": DELETED, "id": 7}).to_string());
    let added = push(&event(ADDED, "Fracture Case", "7"));
    let (id, other) = (TradeId::from_number(7), TradeId::from_number(8));
    for message in [
        deleted.clone(),
        format!("{added}\n{deleted}"),
        format!("{deleted}{added}"),
        format!("{{}}\nbroken\n{deleted}"),
    ] {
        assert_eq!(removal(message.as_bytes(), &id), Some(TradeStatus::Cancelled), "{message}");
        assert_eq!(removal(message.as_bytes(), &other), None);
    }
    for message in
        [added, push(&json!({"event": DELETED, "id": 77}).to_string()), DELETED.to_owned()]
    {
        assert_eq!(removal(message.as_bytes(), &id), None, "{message}");
    }
    assert_eq!(removal(b"7 obtained_skin_deleted \xff", &id), None);
}
