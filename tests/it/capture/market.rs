//! Recording of the market feed, from the simulated market.

use crate::feed::feed_of;
use std::{
    cell::RefCell,
    io,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Condvar, Mutex, atomic::Ordering::Relaxed},
};

use sniper::{
    commands::{
        capture::source::CaptureSource,
        replay::{ReplayOutcome, ReplayRules, replay},
        run::SessionRecording,
        session::{SessionStart, TradingSession},
    },
    config::{Config, Credential, Endpoints, Mode, Sources},
    domain::trade::TradeEvent,
    markets::csgoroll::Csgoroll,
    recording::{
        ActiveRecording, Disk, RealDisk, Recording, RecordingConfig, StreamSource, disk::DiskFile,
    },
    sim::{self, Rate, SimServer, SimSettings},
    sniper::stats::SessionStats,
    whitelist::Whitelist,
    ws,
};
use tempfile::TempDir;

use super::*;

/// Loads settings for this market with the simulator's whitelist.
fn config(market: &SimServer, workspace: &TempDir) -> Config {
    fs::write(workspace.path().join("sniper.toml"), sim::demo::WHITELIST).unwrap();
    let lookup = |name: &str| match name {
        "CSGOROLL_WS_URL" => Some(market.ws_url()),
        "CSGOROLL_HTTP_URL" => Some(market.http_url()),
        "CSGOROLL_SESSION" => Some(market.session()),
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

#[tokio::test]
async fn a_marketplace_recording_contains_neither_wallet_nor_credential() {
    let settings = SimSettings { rate: Rate::per_second(50), ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let endpoints = Endpoints::new(&market.ws_url(), &market.http_url()).unwrap();
    let directory = TempDir::new().unwrap();
    let config = Config {
        credential: Some(Credential::from_session(&market.session()).unwrap()),
        ..Config::new(endpoints, "unused")
    };
    let plan = CapturePlan {
        marketplace: Some(market_source(&config)),
        ..plan(vec![CaptureSource::marketplace(Market::Csgoroll)], quick(), &directory)
    };
    let outcome =
        until(plan, &directory, |manifest| manifest["sources"][0]["messages"].as_u64() > Some(20))
            .await;
    assert!(outcome.is_complete);
    let raws = raws(&outcome.directory);
    assert!(raws.iter().any(|raw| raw.contains("createTrades")), "{raws:?}");
    assert!(raws.iter().all(|raw| !raw.contains("updateWallet")), "{raws:?}");
    assert!(outcome.directory.join("CSGOROLL/listings.jsonl").is_file());
    let recorded = fs::read_to_string(outcome.directory.join("CSGOROLL/listings.jsonl")).unwrap()
        + &fs::read_to_string(outcome.directory.join(MANIFEST_FILE)).unwrap();
    assert!(!recorded.contains(&market.session()), "the credential was recorded");
}

/// Closes the feed and waits until all of its messages are decided and recorded: until the number
/// of decisions no longer grows. Ends before the reconnect, which is at least 800 ms later.
pub(super) async fn end_feed(market: &SimServer, decided: impl Fn() -> usize) {
    market.close_feeds(1_001, "at the end");
    let (mut before, mut unchanged) = (decided(), 0);
    while unchanged < 20 {
        poll_delay().await;
        let now = decided();
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
}

/// Runs a dry session with one disconnect, then replays its recording.
#[tokio::test]
async fn a_replay_with_the_same_rules_repeats_the_decisions() {
    let settings =
        SimSettings { rate: Rate::per_second(200), held_permille: 0, ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let workspace = TempDir::new().unwrap();
    let config = Config { credential: None, ..config(&market, &workspace) };
    let whitelist = Arc::new(Whitelist::new(config.whitelist.to_vec()));
    let budget = config.budget.clone();
    let mut feed = feed_of(config);
    let filler = feed.fill_gaps();
    // Back-filled listings arrive over HTTP and are not part of a recording of the feed.
    feed.backfill = None;
    let session = TradingSession::start(&feed, filler, SessionStart::default()).unwrap();
    let recording = SessionRecording::start(&feed, true).unwrap();
    let sniper = session.sniper();
    let decided = RefCell::new(Vec::new());
    let running = ws::run_with_reconnect(&feed, |trade| {
        if trade.event != TradeEvent::Updated {
            let decision = whitelist.decide(&trade);
            decided.borrow_mut().push((trade.id.to_string(), format!("{decision:?}")));
        }
        sniper.consider(trade);
    });
    let enough = async {
        while decided.borrow().len() < 100 {
            poll_delay().await;
        }
        market.close_feeds(1_001, "on purpose");
        while decided.borrow().len() < 400 || feed.metrics.reconnects.load(Relaxed) == 0 {
            poll_delay().await;
        }
        end_feed(&market, || decided.borrow().len()).await;
        while feed.metrics.gaps.load(Relaxed) < 2 {
            poll_delay().await;
        }
    };
    tokio::select! {
        gave_up = running => panic!("{gave_up}"),
        reached = tokio::time::timeout(DEADLINE, enough) => reached.unwrap(),
    }
    recording.finish("enough".to_owned(), true);
    let expected = sniper.with_engine(|engine| engine.stats().clone());

    let directory = sessions(&workspace.path().join("data/recordings")).pop().unwrap();
    let recording = Recording::open(&directory).unwrap();
    assert!(recording.is_complete());
    let rules = ReplayRules::new(whitelist.clone(), budget);
    let replay = || {
        let mut decided = Vec::new();
        let played = replay(&Csgoroll::new(&feed.config), &recording, &rules, |decision| {
            decided.push((decision.trade.id.to_string(), format!("{:?}", decision.verdict)));
            ControlFlow::Continue(())
        });
        (decided, played.unwrap())
    };
    let (first, second) = (replay(), replay());
    assert_eq!(first.0, second.0);
    let (mut repeated, mut decided) = (first.0, decided.into_inner());
    // Unwanted listings may have been decided later than they arrived.
    repeated.sort();
    decided.sort();
    assert_eq!(repeated, decided);
    let totals = |stats: &SessionStats| {
        let bought = (stats.would_buy, stats.would_spend);
        (stats.listings, stats.matched, bought, stats.skipped.clone())
    };
    for played in [first.1.stats, second.1.stats] {
        assert_eq!(totals(&played), totals(&expected));
        assert!(played.would_buy > 0, "nothing was wanted: {played:?}");
    }
    let written = manifest(&directory).unwrap();
    assert_eq!(written["total_reconnects"], 1);
    assert_eq!(written["connection_gaps"].as_array().unwrap().len(), 2, "the end is the second");
    assert_eq!(written["connection_gaps"][0]["open"], false);
}

/// A disk whose writes block until [`StuckDisk::release`].
#[derive(Clone, Default)]
struct StuckDisk(Arc<(Mutex<bool>, Condvar)>);

struct StuckFile(fs::File, StuckDisk);

impl StuckDisk {
    fn release(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Disk for StuckDisk {
    type File = StuckFile;

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directory(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directories(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<StuckFile> {
        Ok(StuckFile(RealDisk.create_file(path)?, self.clone()))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        RealDisk.replace(path, bytes)
    }
}

impl DiskFile for StuckFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (is_free, changed) = &*self.1.0;
        drop(changed.wait_while(is_free.lock().unwrap(), |is_free| !*is_free).unwrap());
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

#[tokio::test]
async fn a_blocked_disk_does_not_delay_orders() {
    let settings =
        SimSettings { rate: Rate::per_second(100), rivals: None, ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let workspace = TempDir::new().unwrap();
    let mut feed = feed_of(Config { mode: Mode::Live, ..config(&market, &workspace) });
    let filler = feed.fill_gaps();
    let (disk, source) = (StuckDisk::default(), CaptureSource::marketplace(Market::Csgoroll));
    let source = StreamSource {
        name: source.name,
        address: feed.config.endpoints.ws.to_string(),
        symbol: source.symbol,
        stream: source.stream,
    };
    let setup = RecordingConfig::new(workspace.path().join("rec"), vec![source]);
    let recording = ActiveRecording::start(setup, disk.clone()).unwrap();
    assert!(feed.metrics.set_recorder(Arc::new(recording.recorder(0))));
    let mut session = TradingSession::start(&feed, filler, SessionStart::default()).unwrap();
    let sniper = session.sniper();
    let mut stop = sniper::shutdown::Shutdown::without_signals(None);
    let running = ws::run_with_reconnect(&feed, |trade| sniper.consider(trade));
    let enough = async {
        while sniper.with_engine(|engine| engine.stats().bought) < 5 {
            poll_delay().await;
        }
    };
    tokio::select! {
        ended = session.run(&mut stop) => panic!("{ended}"),
        gave_up = running => panic!("{gave_up}"),
        reached = tokio::time::timeout(DEADLINE, enough) => reached.unwrap(),
    }
    let written = manifest(recording.directory()).unwrap();
    assert_eq!(written["sources"][0]["messages"], 0, "the disk accepted a write");
    disk.release();
    let (directory, ended) = (
        recording.directory().to_path_buf(),
        sniper::recording::RecordingEnd { reason: "enough".to_owned(), is_success: true },
    );
    assert!(recording.finish(ended).unwrap());
    assert!(raws(&directory).len() > 5, "queued messages are written after the release");
}

/// The recording has two compressed parts of one file, two connections and no marks of reads.
#[test]
fn a_recording_of_version_0_1_0_is_read_and_replayed() {
    const RULES: &str = "[[whitelist]]\nitem = \"AK-47 | Redline\"\nmax_price = 12\n\
                         max_markup_percent = 2\nmax_quantity = 10\n";
    let workspace = TempDir::new().unwrap();
    fs::write(workspace.path().join("sniper.toml"), RULES).unwrap();
    let sources = Sources {
        lookup: &|_name| None,
        directory: workspace.path(),
        config_file: None,
        live: false,
        decimals: |_market| sniper::markets::csgoroll::DECIMALS,
    };
    let config = Config::load(&sources).unwrap().config;
    let recording = Recording::open("tests/fixtures/recording-0.1.0").unwrap();
    assert!(recording.is_complete());
    assert_eq!(recording.sources()[0].symbol, "CSGOROLL");
    let messages: Vec<_> = recording.messages().map(Result::unwrap).collect();
    let arrived: Vec<_> = messages.iter().map(|message| (message.conn, message.more)).collect();
    assert_eq!(arrived, [(1, false), (1, false), (1, false), (2, false), (2, false)]);
    assert_eq!(messages[0].ns, 1_772_359_200_120_000_000);
    let rules = ReplayRules::new(
        Arc::new(Whitelist::new(config.whitelist.to_vec())),
        config.budget.clone(),
    );
    let mut decided = Vec::new();
    let played = replay(&Csgoroll::new(&config), &recording, &rules, |decision| {
        decided.push((decision.trade.id.to_string(), decision.result));
        ControlFlow::Continue(())
    })
    .unwrap();
    let id = |last: char| format!("VHJhZGU6OTAwMDAwMD{last}");
    assert_eq!(
        decided,
        [
            (id('E'), ReplayOutcome::Ordered),
            (id('I'), ReplayOutcome::NoMatch),
            (id('M'), ReplayOutcome::NoMatch),
            (id('Q'), ReplayOutcome::Ordered),
        ]
    );
    assert_eq!((played.messages, played.duplicates, played.unreadable), (5, 1, 0));
    assert_eq!(played.stats.would_spend.to_string(), "19.65");
    let stopped =
        replay(&Csgoroll::new(&config), &recording, &rules, |_decision| ControlFlow::Break(()));
    // The second message has the first listing.
    assert_eq!(stopped.unwrap().messages, 2);
}
