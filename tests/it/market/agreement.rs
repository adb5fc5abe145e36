//! The practice market and the bot's room for the marketplace were written apart from each other:
//! here they meet, and must understand each other to the letter.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, value::RawValue};
use sniper::{
    config::{Config, Generation, Sources},
    domain::item_name::ItemName,
    domain::time::UnixMs,
    domain::trade::{PaintWear, TradeStatus},
    json,
    markets::csgoroll::{feed::NextPayload, operations},
    sim::{
        SimSettings, demo, graphql,
        listing::Listing,
        market_state::{MarketEvent, MarketState},
        offer::ListingDefect,
        protocol::{ProtocolReply, ProtocolSession, Viewer},
    },
    whitelist::{Decision, Whitelist},
};

#[derive(serde::Deserialize)]
struct Message<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// A session that has subscribed to everything that the bot subscribes to.
fn session(generation: Generation) -> ProtocolSession {
    let mut session = ProtocolSession::new(Viewer { signed_in: true });
    session.receive(r#"{"type":"connection_init"}"#);
    for operation in operations::subscriptions(generation) {
        let payload = operation.to_json();
        let name = operation.name;
        let text = format!(r#"{{"id":"{name}","type":"subscribe","payload":{payload}}}"#);
        assert_eq!(session.receive(&text), [], "{name}");
    }
    session
}

/// Everything that happens on a market in its first two minutes.
fn history() -> Vec<MarketEvent> {
    let mut exchange = MarketState::new(&SimSettings::default(), UnixMs(1_772_366_400_000));
    let mut events = Vec::new();
    while let Some(due) = exchange.next_due().filter(|due| *due < Duration::from_secs(120)) {
        exchange.advance(due, &mut events);
    }
    events
}

fn texts(session: &ProtocolSession, event: &MarketEvent) -> Vec<String> {
    let text = |reply| match reply {
        ProtocolReply::Text(text) => Some(text),
        ProtocolReply::Close(..) => None,
    };
    session.tell(event).into_iter().filter_map(text).collect()
}

/// The demo's whitelist, read as a person's file is read.
fn whitelist() -> Whitelist {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sniper.toml"), demo::WHITELIST).unwrap();
    let sources =
        Sources { lookup: &|_| None, directory: directory.path(), config_file: None, live: false };
    let loaded = Config::load(&sources).unwrap();
    (*loaded.config.whitelist).clone()
}

/// What the bot must find out about a listing, from what the market knows.
#[track_caller]
fn compare(listing: &Listing, trade: &sniper::domain::trade::Trade<'_>, whitelist: &Whitelist) {
    let offer = &listing.offer;
    let wanted = match whitelist.decide(trade) {
        Decision::Wanted(index) => Some(whitelist.entries()[index].label().to_owned()),
        _ => None,
    };
    assert_eq!(wanted.as_deref(), offer.wanted, "{offer:?}");
    assert_eq!((trade.status, trade.total_value), (listing.status, Some(offer.total)));
    assert_eq!(trade.markup_percent, Some(offer.markup));
    assert_eq!(trade.can_join_after, listing.can_join_after());
    assert_eq!(trade.suspected_trader_can_join_after, Some(listing.suspected_can_join_after()));
    assert_eq!(trade.created_at, Some(listing.created_at));
    assert_eq!(trade.expires_at, Some(listing.expires_at()));
    let is_own = offer.oddity == Some(ListingDefect::Own);
    assert_eq!(trade.is_own, is_own, "{offer:?}");
    if matches!(
        offer.oddity,
        Some(ListingDefect::NoItems | ListingDefect::NullItems | ListingDefect::NoVariant)
    ) {
        assert!(!trade.defects.is_empty() || trade.items != 1, "{offer:?}");
        return;
    }
    assert_eq!(trade.items, if offer.oddity == Some(ListingDefect::TwoItems) { 2 } else { 1 });
    let name = ItemName::parse(&offer.market_name);
    assert_eq!((&*trade.market_name, &trade.item), (&*offer.market_name, &name.base));
    assert_eq!((trade.is_stattrak, trade.is_souvenir), (name.is_stattrak, name.is_souvenir));
    assert_eq!((trade.wear, trade.base_value), (name.wear, Some(offer.base)));
}

/// Tells all that happens to the bot's reader, in this generation; returns how much was compared.
fn meet(generation: Generation) -> usize {
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
                        && listing.offer.oddity != Some(ListingDefect::CannotJoin),
                );
                assert_eq!(trade.can_join, can_join);
                let range = listing.offer.float.as_ref().and_then(|float| float.only_range);
                assert_eq!(trade.float_range.is_some(), is_b && range.is_some());
                let float = listing.offer.float.as_ref().map(|float| &*float.text);
                let told = float.filter(|_| !is_b || range.is_none()).and_then(PaintWear::parse);
                assert_eq!(trade.float, told);
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn the_bot_reads_of_each_listing_what_the_market_means() {
    for generation in [Generation::A, Generation::B] {
        assert!(meet(generation) > 2_000);
    }
}

#[test]
fn the_market_understands_every_request_of_the_bot() {
    let requests = [
        operations::current_user(),
        operations::open_listings(Generation::A, 250, None),
        operations::open_listings(Generation::B, 250, Some("Y3Vyc29yOjE")),
        operations::own_purchases("VXNlcjo0MjQyNDI", 50, None).unwrap(),
    ];
    let id = sniper::domain::trade::TradeId::new("VHJhZGU6MQ").unwrap();
    let buy = operations::buy_template().body(&id);
    for body in requests.iter().map(operations::GraphqlOperation::to_json).chain([buy]) {
        let read = graphql::read(body.as_bytes());
        assert!(read.is_ok(), "{body}: {read:?}");
    }
}

#[test]
fn every_operation_of_the_bot_is_json() {
    for operation in operations::subscriptions(Generation::B) {
        let read: Value = serde_json::from_str(&operation.to_json()).unwrap();
        assert!(read["query"].is_string());
    }
}
