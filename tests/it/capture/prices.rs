//! A recording of a dry run contains the prices by which it decided, and a replay uses them.

use std::{cell::RefCell, collections::HashSet, ops::ControlFlow, sync::Arc};

use sniper::{
    clock,
    commands::{
        replay::{ReplayPrices, ReplayResult, ReplayRules, input::ReplayInput, replay},
        run::SessionRecording,
        session::{SessionStart, TradingSession},
    },
    config::{Config, Sources},
    domain::trade::TradeEvent,
    prices::{PriceUnit, SourceKind, parse::parse},
    recording::{Recording, RecordingReadError},
    sim::{Rate, SimServer, SimSettings, catalogue::Catalogue},
    sniper::Now,
    whitelist::{Decision, Whitelist},
    ws,
};

use super::{market::end_feed, *};
use crate::feed::feed_of;

const SETTINGS: &str = r#"
[budget]
max_price = 100000
total = 10000000

[prices]
coin_usd = 0.65

[[prices.source]]
name = "buff"
kind = "file"
path = "prices.csv"
unit = "usd"

[[whitelist]]
name = "knives"
item = "*"
category = "knife"
max_percent = 80
reference = "buff.bid"
max_price = 50000
max_quantity = 1000
"#;

/// The simulated market asks about 710 coins for the first, 1520 for the second and 104 for the
/// third; other knives have no price.
const PRICES: &str = "name,bid
★ M9 Bayonet | Lore (Factory New),9000
★ M9 Bayonet | Lore (Minimal Wear),9000
★ M9 Bayonet | Lore (Field-Tested),9000
★ M9 Bayonet | Lore (Well-Worn),9000
★ M9 Bayonet | Lore (Battle-Scarred),9000
★ Butterfly Knife | Tiger Tooth (Factory New),600
★ Butterfly Knife | Tiger Tooth (Minimal Wear),600
★ Ursus Knife,120
";

fn config(market: &SimServer, workspace: &TempDir) -> Config {
    fs::write(workspace.path().join("sniper.toml"), SETTINGS).unwrap();
    fs::write(workspace.path().join("prices.csv"), PRICES).unwrap();
    let lookup = |name: &str| match name {
        "CSGOROLL_WS_URL" => Some(market.ws_url()),
        "CSGOROLL_HTTP_URL" => Some(market.http_url()),
        _ => None,
    };
    let sources = Sources {
        lookup: &lookup,
        directory: workspace.path(),
        config_file: None,
        live: false,
        decimals: |_market| sniper::markets::csgoroll::DECIMALS,
    };
    Config::load(&sources).unwrap().config
}

/// Listing and decision, sorted: unwanted listings may be decided later than they arrived.
type Decisions = Vec<(String, String)>;

fn describe(whitelist: &Whitelist, decision: &Decision) -> String {
    match decision {
        Decision::Mismatched { entry, mismatch } => whitelist.reason(*entry, mismatch),
        other => format!("{other:?}"),
    }
}

fn decisions_of(config: &Config, directory: &Path, prices: ReplayPrices) -> Decisions {
    let (mut decided, _) = try_replay(config, directory, prices).unwrap();
    decided.sort();
    decided
}

fn try_replay(
    config: &Config,
    directory: &Path,
    prices: ReplayPrices,
) -> Result<(Decisions, ReplayResult), RecordingReadError> {
    let rules = ReplayRules::of(config, prices);
    let mut decided = Vec::new();
    let recording = Recording::open(directory).unwrap();
    let result = replay(&Csgoroll::new(config), &recording, &rules, |decision| {
        let described = describe(&rules.whitelist, &decision.verdict);
        decided.push((decision.trade.id.to_string(), described));
        ControlFlow::Continue(())
    })?;
    Ok((decided, result))
}

/// Lists 1,500 items, and waits until all of them are decided.
async fn list(market: &SimServer, catalogue: &mut Catalogue, decided: &RefCell<Decisions>) {
    // Until the feed is subscribed, no listing arrives.
    while decided.borrow().is_empty() {
        market.list_items(catalogue.take(1).collect());
        poll_delay().await;
    }
    let mut expected = HashSet::new();
    for _ in 0..15 {
        expected.extend(market.list_items(catalogue.take(100).collect()));
        poll_delay().await;
    }
    while !expected.is_empty() {
        poll_delay().await;
        decided.borrow().iter().for_each(|(id, _decision)| {
            expected.remove(id);
        });
    }
}

/// Runs a dry session whose prices fall to a tenth in the middle, and returns its decisions.
async fn record(market: &SimServer, config: Config) -> (Decisions, PathBuf) {
    let whitelist = Arc::new(Whitelist::new(config.whitelist.to_vec()));
    let mut feed = feed_of(config);
    let filler = feed.fill_gaps();
    // Back-filled listings arrive over HTTP and are not part of a recording of the feed.
    feed.backfill = None;
    let session = TradingSession::start(&feed, filler, SessionStart::default()).unwrap();
    let recording = SessionRecording::start(&feed, true).unwrap();
    let sniper = session.sniper();
    recording.record_prices(&feed.config.prices.sources, &sniper);
    let decided = RefCell::new(Vec::new());
    let running = ws::run_with_reconnect(&feed, |trade| {
        if trade.event != TradeEvent::Updated {
            let decision = sniper.with_engine(|engine| {
                whitelist.decide_with(&trade, engine.price_view(Now::read()))
            });
            decided.borrow_mut().push((trade.id.to_string(), describe(&whitelist, &decision)));
        }
        sniper.consider(trade);
    });
    let mut catalogue = Catalogue::new(&SimSettings::default());
    let enough = async {
        // No listing waits to be read when the prices change.
        list(market, &mut catalogue, &decided).await;
        let fallen = PRICES.replace(",9000", ",900").replace(",600", ",60").replace(",120", ",12");
        let table = parse(SourceKind::File, PriceUnit::Whole, fallen.as_bytes()).unwrap();
        let book = feed.config.prices.book(&[Some((&table, clock::wall()))]);
        sniper.with_engine(|engine| engine.set_prices(Arc::new(book)));
        list(market, &mut catalogue, &decided).await;
        end_feed(market, || decided.borrow().len()).await;
    };
    tokio::select! {
        gave_up = running => panic!("{gave_up}"),
        reached = tokio::time::timeout(DEADLINE, enough) => reached.unwrap(),
    }
    assert!(market.history().orders().next().is_none(), "a dry run ordered");
    recording.finish("enough".to_owned(), true);
    let mut decided = decided.into_inner();
    decided.sort();
    (decided, sessions(&feed.config.data_dir.join("recordings")).pop().unwrap())
}

#[tokio::test]
async fn a_replay_decides_by_the_prices_that_were_in_force() {
    let settings = SimSettings { rate: Rate::NONE, held_permille: 0, ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let workspace = TempDir::new().unwrap();
    let config = config(&market, &workspace);
    let (expected, directory) = record(&market, config.clone()).await;
    for part in [
        "Matched(0)",
        " % of buff.bid 1384.61, above 80.00 %",
        " % of buff.bid 92.30, above 80.00 %",
        "buff.bid has no price for this item",
        "category is rifle",
    ] {
        assert!(expected.iter().any(|(_, decision)| decision.contains(part)), "{part}");
    }

    // Neither the settings' own file nor the stored tables play a part.
    fs::write(workspace.path().join("prices.csv"), "name,bid\nx,1\n").unwrap();
    fs::remove_dir_all(config.data_dir.join("prices")).unwrap();
    let input = ReplayInput::open(&config, None, None).unwrap();
    assert_eq!(input.recording.directory(), directory);
    assert!(matches!(input.prices, ReplayPrices::Recorded(..)));
    for _ in 0..2 {
        assert_eq!(decisions_of(&config, &directory, input.prices.clone()), expected);
    }
    let recorded = input.recording.prices().unwrap().unwrap();
    let files: Vec<_> = recorded.changes().iter().map(|change| &change.sources[0].file).collect();
    assert_eq!(files.first().unwrap().as_deref(), Some("buff.1.jsonl.zst"));
    assert_eq!(files.last().unwrap().as_deref(), Some("buff.2.jsonl.zst"));

    // A lost table is an error and not a decision by other prices.
    let prices = directory.join("prices");
    fs::remove_file(prices.join("buff.2.jsonl.zst")).unwrap();
    let lost = try_replay(&config, &directory, input.prices).unwrap_err().to_string();
    assert!(lost.contains("buff.2.jsonl.zst"), "{lost}");
    // A recording from before prices were recorded is replayed without them.
    fs::remove_dir_all(prices).unwrap();
    let old = ReplayInput::open(&config, Some(&directory), None).unwrap();
    assert!(old.describe(None).contains("Prices: not recorded; taken from "), "{old:?}");
    let decided = decisions_of(&config, &directory, old.prices);
    assert_eq!(decided.len(), expected.len());
    assert!(!decided.iter().any(|(_, decision)| decision == "Matched(0)"));
}

#[test]
fn without_recorded_prices_newer_tables_count_without_their_age_and_older_ones_with_it() {
    use sniper::account::prices::{PriceStore, StoredAs, StoredTable};
    let market = SimServer::start(SimSettings::default()).unwrap();
    let workspace = TempDir::new().unwrap();
    let config = config(&market, &workspace);
    let table = parse(SourceKind::File, PriceUnit::Whole, PRICES.as_bytes()).unwrap();
    let at = clock::wall();
    let stored = StoredTable { table, at, checked_at: at, ..StoredTable::default() };
    let folder = workspace.path().join("copy");
    let store = PriceStore::at(&folder);
    store.save(&config.prices.sources[0], StoredAs::Current, &stored).unwrap();
    let book = store.book(&config.prices).accepting_later_prices();
    let listing = sniper::prices::ItemKey::parse("★ Ursus Knife").unwrap();
    let rule = config.whitelist[0].percent.clone().unwrap();
    let quotes = book.quotes(&listing).unwrap();
    let week = Duration::from_secs(7 * 24 * 3_600);
    assert!(book.choose(&rule, quotes, at.minus(week * 9)).is_ok(), "newer than the listing");
    assert!(book.choose(&rule, quotes, at.plus(week)).is_ok());
    assert!(book.choose(&rule, quotes, at.plus(week + Duration::from_secs(60))).is_err());
    let strict = store.book(&config.prices);
    assert!(strict.choose(&rule, quotes, at.minus(week * 9)).is_err(), "a session rejects it");
}
