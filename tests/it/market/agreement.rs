//! Cross-check of two independent implementations: the simulated market and the bot's market
//! module must agree on every message.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, value::RawValue};
use sniper::{
    config::{Config, Generation, Sources},
    domain::item_name::ItemName,
    domain::time::UnixMs,
    domain::trade::{PaintWear, RarityWord, TradeStatus},
    json,
    markets::csgoroll::{feed::NextPayload, operations},
    sim::{
        SimSettings,
        catalogue::ListingDefect,
        csgoroll::{
            feed::ProtocolSession,
            listing::Listing,
            market::{MarketEvent, MarketState},
            operations::parse_request,
        },
        demo,
        model::{FeedOutput, MarketModel as _},
    },
    whitelist::{Decision, Whitelist},
};

#[derive(serde::Deserialize)]
struct Message<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Returns a session with all subscriptions of the bot.
fn session(generation: Generation) -> ProtocolSession {
    let mut session = ProtocolSession::new(true);
    session.receive(r#"{"type":"connection_init"}"#);
    for operation in operations::subscriptions(generation) {
        let payload = operation.to_json();
        let name = operation.name;
        let text = format!(r#"{{"id":"{name}","type":"subscribe","payload":{payload}}}"#);
        assert_eq!(session.receive(&text), [], "{name}");
    }
    session
}

/// Returns all events of the first two minutes of a market.
fn history() -> Vec<MarketEvent> {
    let mut state = MarketState::new(&SimSettings::default(), UnixMs(1_772_366_400_000));
    let mut events = Vec::new();
    while let Some(due) = state.next_due().filter(|due| *due < Duration::from_secs(120)) {
        state.advance(due, &mut events);
    }
    events
}

fn texts(session: &ProtocolSession, event: &MarketEvent) -> Vec<String> {
    let replies = session.event_messages(event);
    replies.iter().filter_map(FeedOutput::text).map(str::to_owned).collect()
}

/// Loads the demo's whitelist from a file.
fn whitelist() -> Whitelist {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sniper.toml"), demo::WHITELIST).unwrap();
    let sources = Sources {
        lookup: &|_| None,
        directory: directory.path(),
        config_file: None,
        live: false,
        decimals: |_market| sniper::markets::csgoroll::DECIMALS,
    };
    let loaded = Config::load(&sources).unwrap();
    Whitelist::new(loaded.config.whitelist.to_vec())
}

/// Asserts that the bot parsed a listing as the market defined it.
#[track_caller]
fn compare(listing: &Listing, trade: &sniper::domain::trade::Trade<'_>, whitelist: &Whitelist) {
    let item = &*listing.item;
    let wanted = match whitelist.decide(trade) {
        Decision::Matched(index) => Some(whitelist.entries()[index].label().to_owned()),
        _ => None,
    };
    assert_eq!(wanted.as_deref(), item.wanted, "{item:?}");
    assert_eq!((trade.status, trade.total_value), (listing.status, Some(item.total)));
    assert_eq!(trade.markup_percent, Some(item.markup));
    assert_eq!(trade.can_join_after, listing.can_join_after());
    assert_eq!(trade.suspected_trader_can_join_after, Some(listing.suspected_can_join_after()));
    assert_eq!(trade.created_at, Some(listing.created_at));
    assert_eq!(trade.expires_at, Some(listing.expires_at()));
    let is_own = item.defect == Some(ListingDefect::Own);
    assert_eq!(trade.is_own, is_own, "{item:?}");
    if matches!(
        item.defect,
        Some(ListingDefect::NoItems | ListingDefect::NullItems | ListingDefect::NoVariant)
    ) {
        assert!(!trade.defects.is_empty() || trade.items != 1, "{item:?}");
        return;
    }
    assert_eq!(trade.items, if item.defect == Some(ListingDefect::TwoItems) { 2 } else { 1 });
    let name = ItemName::parse(&item.market_name);
    assert_eq!((&*trade.market_name, &trade.item), (&*item.market_name, &name.base));
    assert_eq!((trade.is_stattrak, trade.is_souvenir), (name.is_stattrak, name.is_souvenir));
    assert_eq!((trade.wear, trade.base_value), (name.wear, Some(item.base)));
    assert_eq!(trade.rarity, RarityWord::new(item.rarity));
}

/// Feeds all events in this generation to the bot's parser. Returns the number of compared
/// listings.
fn compare_all(generation: Generation) -> usize {
    let (session, whitelist) = (session(generation), whitelist());
    let mut compared = 0;
    for event in history() {
        let listed: BTreeMap<String, &Listing> = match &event {
            MarketEvent::Created(listings) => {
                listings.iter().map(|one| (one.id(), &**one)).collect()
            }
            MarketEvent::Updated(_) | MarketEvent::Wallet { .. } => BTreeMap::new(),
        };
        for text in texts(&session, &event) {
            let message: Message<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(message.r#type, "next");
            let payload: NextPayload<'_> = json::read(message.payload.get()).unwrap();
            assert!(payload.is_known() && payload.unreadable() == 0, "{text}");
            for trade in payload.into_trades() {
                let Some(listing) = listed.get(trade.id.as_str()) else { continue };
                compare(listing, &trade, &whitelist);
                let is_b = generation == Generation::B;
                let can_join = is_b.then_some(
                    listing.status == TradeStatus::Listed
                        && listing.item.defect != Some(ListingDefect::CannotJoin),
                );
                assert_eq!(trade.can_join, can_join);
                let range = listing.item.float.as_ref().and_then(|float| float.only_range);
                assert_eq!(trade.float_range.is_some(), is_b && range.is_some());
                let float = listing.item.float.as_ref().map(|float| &*float.text);
                let expected =
                    float.filter(|_| !is_b || range.is_none()).and_then(PaintWear::parse);
                assert_eq!(trade.float, expected);
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn the_bot_parses_every_listing_of_the_simulated_market() {
    for generation in [Generation::A, Generation::B] {
        assert!(compare_all(generation) > 2_000);
    }
}

#[test]
fn the_simulated_market_parses_every_request_of_the_bot() {
    let requests = [
        operations::current_user(),
        operations::open_listings(Generation::A, 250, None),
        operations::open_listings(Generation::B, 250, Some("Y3Vyc29yOjE")),
        operations::own_purchases("VXNlcjo0MjQyNDI", 50, None).unwrap(),
    ];
    let (before_id, after_id) = (operations::ORDER_BEFORE_ID, operations::ORDER_AFTER_ID);
    let buy = format!("{before_id}VHJhZGU6MQ{after_id}");
    for body in requests.iter().map(operations::GraphqlOperation::to_json).chain([buy]) {
        let read = parse_request(body.as_bytes());
        assert!(read.is_ok(), "{body}: {read:?}");
    }
}

#[test]
fn every_operation_of_the_bot_is_valid_json() {
    for operation in operations::subscriptions(Generation::B) {
        let read: Value = serde_json::from_str(&operation.to_json()).unwrap();
        assert!(read["query"].is_string());
    }
}
