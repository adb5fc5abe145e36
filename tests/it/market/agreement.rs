//! Cross-check of two independent implementations: the simulated market and the bot's market
//! module must agree on every message.

use std::{collections::BTreeMap, fs, slice, sync::Arc, time::Duration};

use serde_json::{Value, json, value::RawValue};
use sniper::{
    config::{Config, Endpoints, Generation, Sources},
    domain::item_name::ItemName,
    domain::time::UnixMs,
    domain::trade::{
        Defects, PaintWear, RarityWord, Trade, TradeEvent, TradeId, TradeNotice, TradeStatus,
    },
    json,
    markets::{
        self, Decoded, Marketplace,
        csgoroll::{DECIMALS, feed::NextPayload, operations},
        lis_skins::LisSkins,
        waxpeer::Waxpeer,
    },
    prices::item_key::ItemKey,
    protocol::{FeedMessage, FeedProtocol as _, Incoming},
    sim::{
        Rate, RepricingSettings, SimSettings,
        catalogue::ListingDefect,
        csgoroll::{
            feed::ProtocolSession,
            listing::Listing,
            market::{MarketEvent, MarketState},
            operations::parse_request,
        },
        demo,
        lis_skins::{LisSkinsWire, token},
        model::{FeedOutput, FeedSession as _, MarketModel as _},
        random,
        repricing::{
            listing::{SimEvent, SimListing},
            market::RepricingModel,
            query::Query,
            server::{AccountKeys, FeedOpening, WireFormat},
        },
        waxpeer::WaxpeerWire,
    },
    whitelist::{Decision, Whitelist},
};

const OPENED_AT: UnixMs = UnixMs(1_772_366_400_000);

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
    let mut state = MarketState::new(&SimSettings::default(), OPENED_AT);
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
        decimals: |_market| DECIMALS,
    };
    let loaded = Config::load(&sources).unwrap();
    Whitelist::new(loaded.config.whitelist.to_vec())
}

/// Asserts that the bot parsed a listing as the market defined it.
#[track_caller]
fn compare(listing: &Listing, trade: &Trade<'_>, whitelist: &Whitelist) {
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

/// Settings with many listings of each kind.
fn repricing_settings() -> SimSettings {
    let repricing = RepricingSettings {
        locked_permille: 100,
        foreign_permille: 300,
        ..RepricingSettings::default()
    };
    SimSettings { rate: Rate::per_second(30), repricing, ..SimSettings::default() }
}

/// Returns all events of the first two minutes of a market with changing prices.
fn repricing_events<W: WireFormat>(settings: &SimSettings) -> Vec<Arc<SimEvent>> {
    let mut market = RepricingModel::new(settings, W::DECIMALS, W::FIRST_ID, OPENED_AT);
    let mut events = Vec::new();
    while let Some(due) = market.next_due().filter(|due| *due < Duration::from_secs(120)) {
        market.advance(due, &mut events);
    }
    events.into_iter().map(Arc::new).collect()
}

/// Asserts that the bot parsed a listing as the market defined it.
#[track_caller]
fn compare_repriced(listing: &SimListing, trade: &Trade<'_>) {
    let (item, full_name) = (&*listing.item, trade.full_name());
    assert_eq!(
        (trade.id, trade.total_value),
        (TradeId::from_number(listing.id), Some(listing.price))
    );
    assert_eq!((trade.status, trade.items), (TradeStatus::Listed, 1), "{item:?}");
    assert_eq!(trade.defects, Defects::default(), "{item:?}");
    // Each market writes phases and gems in its own way.
    assert_eq!(ItemKey::parse(&full_name), ItemKey::parse(&item.market_name), "{item:?}");
    let name = ItemName::parse(&item.market_name);
    assert_eq!((trade.is_stattrak, trade.is_souvenir), (name.is_stattrak, name.is_souvenir));
    assert_eq!(trade.wear, name.wear);
    let float = item.float.as_ref().map(|float| {
        // One of the markets writes it as a number.
        let rounded = float.text.parse::<f64>().unwrap().to_string();
        [float.text.clone(), rounded].map(|text| PaintWear::parse(&text))
    });
    match float {
        Some(either) => assert!(either.contains(&trade.float), "{item:?}: {:?}", trade.float),
        None => assert_eq!(trade.float, None, "{item:?}"),
    }
    assert_eq!(trade.can_join == Some(false), listing.unlock_at.is_some(), "{item:?}");
    assert!(trade.created_at.is_none_or(|at| at == listing.created_at), "{item:?}");
}

/// Feeds all events to the bot's parser, on a connection on which the client has sent these
/// messages. Returns the number of events of each kind.
fn compare_all_repriced<W: WireFormat, M: Marketplace>(
    market: &M,
    query: &str,
    sent: &[String],
) -> BTreeMap<&'static str, u32> {
    let settings = repricing_settings();
    let account = AccountKeys { key: "k".to_owned(), user_id: "4711".to_owned(), seed: 7 };
    let opening = FeedOpening {
        account: &account,
        settings: &settings,
        query: &Query::parse(query),
        authorization: None,
        opened_at: OPENED_AT,
        rng: random::stream(7, 1),
    };
    let (mut session, _greeting) = W::open_feed(opening, Duration::ZERO).unwrap();
    for message in sent {
        session.receive(message, Duration::ZERO);
    }
    let (mut protocol, mut counts) = (M::Protocol::of_recording(), BTreeMap::new());
    for event in repricing_events::<W>(&settings) {
        for output in session.send_events(slice::from_ref(&event)) {
            let text = output.text().unwrap();
            let (message, rest) = protocol.split_first(FeedMessage::Text(text));
            assert!(rest.is_none(), "{text}");
            let Ok(Incoming::Data { payload: Decoded { events, .. }, .. }) =
                protocol.read(message, |input| market.decode(input))
            else {
                panic!("{text}")
            };
            let read: Vec<_> = events.into_iter().collect();
            let [read] = &read[..] else { panic!("{read:?}: {text}") };
            for kind in compare_repricing_event(&event, read) {
                *counts.entry(kind).or_default() += 1;
            }
        }
    }
    counts
}

/// Asserts that the bot read an event as the market meant it. Returns the kinds of the event.
#[track_caller]
fn compare_repricing_event(event: &SimEvent, read: &markets::MarketEvent<'_>) -> Vec<&'static str> {
    match (event, read) {
        (
            SimEvent::Added(listing) | SimEvent::Repriced(listing),
            markets::MarketEvent::Trade(trade),
        ) => {
            let is_added = matches!(event, SimEvent::Added(_));
            let expected = if is_added { TradeEvent::Listed } else { TradeEvent::Repriced };
            assert_eq!(trade.event, expected);
            compare_repriced(listing, trade);
            let has_phase = ItemKey::parse(&listing.item.market_name)
                .is_some_and(|key| key.variant.phase().is_some());
            let kinds = [
                (is_added, "added"),
                (!is_added, "repriced"),
                (listing.unlock_at.is_some(), "locked"),
                (has_phase, "with a phase"),
                (trade.is_stattrak, "StatTrak"),
                (trade.float.is_some(), "with a float"),
            ];
            kinds.into_iter().filter_map(|(is, kind)| is.then_some(kind)).collect()
        }
        (SimEvent::Removed(listing), markets::MarketEvent::Notice(notice)) => {
            assert_eq!(*notice, TradeNotice::Removed { id: TradeId::from_number(listing.id) });
            vec!["removed"]
        }
        (SimEvent::Foreign(listing), markets::MarketEvent::Trade(trade)) => {
            assert_eq!((trade.id, trade.can_join), (TradeId::from_number(listing.id), Some(false)));
            vec!["of another game"]
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_bot_parses_every_listing_of_the_markets_with_changing_prices() {
    let endpoints = Endpoints::new("ws://127.0.0.1:1/", "http://127.0.0.1:1/v1").unwrap();
    let config = Config::new(endpoints, "unused");
    let token = token::issue(7, "4711", OPENED_AT.plus(Duration::from_secs(3_600)));
    let connect = json!({"id": 1, "connect": {"token": token}}).to_string();
    let subscribe = json!({"id": 2, "subscribe": {"channel": "public:obtained-skins"}}).to_string();
    let lis_skins =
        compare_all_repriced::<LisSkinsWire, _>(&LisSkins::new(&config), "", &[connect, subscribe]);
    let sent = ["40".to_owned(), r#"42["sub",{"name":"csgo"}]"#.to_owned()];
    let query = "EIO=4&transport=websocket";
    let waxpeer = compare_all_repriced::<WaxpeerWire, _>(&Waxpeer::new(&config), query, &sent);
    for counts in [&lis_skins, &waxpeer] {
        for kind in ["added", "repriced", "removed", "locked", "with a phase", "StatTrak"] {
            assert!(counts.get(kind).is_some_and(|count| *count > 20), "{kind}: {counts:?}");
        }
        assert!(counts["added"] > 2_000 && counts["with a float"] > 2_000, "{counts:?}");
    }
    assert!(lis_skins["of another game"] > 500, "{lis_skins:?}");
}
