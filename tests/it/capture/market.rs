//! The marketplace's own feed, recorded from the practice market.

use std::{
    cell::RefCell,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use sniper::{
    capture::source::CaptureSource,
    commands::{record::SessionRecording as Beside, session::TradingSession},
    config::{Config, Credential, Endpoints, Mode, Sources},
    domain::trade::TradeEvent,
    recording::{
        ActiveRecording, Disk, RealDisk, Recording, RecordingConfig, ReplayRules, StreamSource,
        disk::DiskFile, play,
    },
    sim::{self, Rate, SimServer, SimSettings},
    ws,
};
use tempfile::TempDir;

use super::*;

/// The settings of somebody who wants what the practice market sells.
fn config(market: &SimServer, desk: &TempDir) -> Config {
    fs::write(desk.path().join("sniper.toml"), sim::cli::whitelist()).unwrap();
    let lookup = |name: &str| match name {
        "CSGOROLL_WS_URL" => Some(market.ws_url()),
        "CSGOROLL_HTTP_URL" => Some(market.http_url()),
        "CSGOROLL_SESSION" => Some(market.session()),
        _ => None,
    };
    let sources =
        Sources { lookup: &lookup, directory: desk.path(), config_file: None, live: false };
    Config::load(&sources).unwrap().config
}

#[tokio::test]
async fn the_marketplace_is_recorded_without_wallet_and_without_the_credential() {
    let settings = SimSettings { rate: Rate::per_second(50), ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let endpoints = Endpoints::new(&market.ws_url(), &market.http_url()).unwrap();
    let directory = TempDir::new().unwrap();
    let config = Config {
        credential: Some(Credential::from_session(&market.session()).unwrap()),
        ..Config::new(endpoints, "unused")
    };
    let plan = CapturePlan {
        marketplace: Some(config),
        ..plan(vec![CaptureSource::marketplace()], quick(), &directory)
    };
    let outcome =
        until(plan, &directory, |manifest| manifest["sources"][0]["messages"].as_u64() > Some(20))
            .await;
    assert!(outcome.is_complete);
    let raws = raws(&outcome.directory);
    assert!(raws.iter().any(|raw| raw.contains("createTrades")), "{raws:?}");
    assert!(raws.iter().all(|raw| !raw.contains("updateWallet")), "{raws:?}");
    assert!(outcome.directory.join("CSGOROLL/listings.jsonl").is_file());
    let everything = fs::read_to_string(outcome.directory.join("CSGOROLL/listings.jsonl")).unwrap()
        + &fs::read_to_string(outcome.directory.join(MANIFEST_FILE)).unwrap();
    assert!(!everything.contains(&market.session()), "the credential was recorded");
}

/// A dry session beside the real feed code, cut once, and then the same from its recording.
#[tokio::test]
async fn the_same_recording_and_the_same_rules_give_the_same_decisions() {
    let settings =
        SimSettings { rate: Rate::per_second(200), held_permille: 0, ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let desk = TempDir::new().unwrap();
    let mut config = Config { credential: None, ..config(&market, &desk) };
    let filler = config.fill_gaps();
    // What is fetched over HTTP does not come from the feed, so no recording of it holds it.
    config.backfill = None;
    let session = TradingSession::start(&config, filler).unwrap();
    let recording = Beside::start(&config, true).unwrap();
    let sniper = session.sniper();
    let decided = RefCell::new(Vec::new());
    let feed = ws::run_with_reconnect(&config, |trade| {
        if trade.event != TradeEvent::Updated {
            let verdict = config.whitelist.decide(&trade);
            decided.borrow_mut().push((trade.id.to_string(), format!("{verdict:?}")));
        }
        sniper.consider(trade);
    });
    let enough = async {
        while decided.borrow().len() < 100 {
            soon().await;
        }
        market.close_feeds(1_001, "on purpose");
        while decided.borrow().len() < 400 {
            soon().await;
        }
    };
    tokio::select! {
        gave_up = feed => panic!("{gave_up}"),
        reached = tokio::time::timeout(DEADLINE, enough) => reached.unwrap(),
    }
    recording.finish("enough".to_owned(), true);
    let lived = sniper.look(|core| core.tally().clone());

    let directory = sessions(&desk.path().join("data/recordings")).pop().unwrap();
    let recording = Recording::open(&directory).unwrap();
    assert!(recording.is_complete());
    let rules =
        ReplayRules { whitelist: Arc::clone(&config.whitelist), budget: config.budget.clone() };
    let again = || {
        let mut decided = Vec::new();
        let played = play(&recording, &rules, |decision| {
            decided.push((decision.trade.id.to_string(), format!("{:?}", decision.verdict)));
        });
        (decided, played.unwrap())
    };
    let (first, second) = (again(), again());
    assert_eq!(first.0, decided.into_inner());
    assert_eq!(first.0, second.0);
    for played in [first.1.tally, second.1.tally] {
        assert_eq!(played.listings, lived.listings);
        assert_eq!((played.matched, played.would_buy), (lived.matched, lived.would_buy));
        assert_eq!((played.would_spend, &played.skipped), (lived.would_spend, &lived.skipped));
        assert!(played.would_buy > 0, "nothing was wanted: {played:?}");
    }
    let written = manifest(&directory).unwrap();
    assert_eq!(written["total_reconnects"], 1);
    assert_eq!(written["connection_gaps"].as_array().unwrap().len(), 1);
    assert_eq!(written["connection_gaps"][0]["open"], false);
}

/// A disk that takes nothing until it is let.
#[derive(Clone, Default)]
struct StuckDisk(Arc<(Mutex<bool>, Condvar)>);

struct StuckFile(fs::File, StuckDisk);

impl StuckDisk {
    fn let_go(&self) {
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

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.cut(len)
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_up_no_buy() {
    let settings =
        SimSettings { rate: Rate::per_second(100), rivals: None, ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let desk = TempDir::new().unwrap();
    let mut config = Config { mode: Mode::Live, ..config(&market, &desk) };
    let filler = config.fill_gaps();
    let (disk, source) = (StuckDisk::default(), CaptureSource::marketplace());
    let source = StreamSource {
        name: source.name,
        address: config.endpoints.ws.to_string(),
        symbol: source.symbol,
        stream: source.stream,
    };
    let setup = RecordingConfig::new(desk.path().join("rec"), vec![source]);
    let tape = ActiveRecording::start(setup, disk.clone()).unwrap();
    assert!(config.taps.let_hear(tape.recorder(0)));
    let mut session = TradingSession::start(&config, filler).unwrap();
    let sniper = session.sniper();
    let mut stop = sniper::shutdown::Shutdown::listen(None).unwrap();
    let feed = ws::run_with_reconnect(&config, |trade| sniper.consider(trade));
    let enough = async {
        while sniper.look(|core| core.tally().bought) < 5 {
            soon().await;
        }
    };
    tokio::select! {
        ended = session.run(&mut stop) => panic!("{ended}"),
        gave_up = feed => panic!("{gave_up}"),
        reached = tokio::time::timeout(DEADLINE, enough) => reached.unwrap(),
    }
    let written = manifest(tape.directory()).unwrap();
    assert_eq!(written["sources"][0]["messages"], 0, "the disk took something");
    disk.let_go();
    let (directory, ended) = (
        tape.directory().to_path_buf(),
        sniper::recording::RecordingEnd { because: "enough".to_owned(), as_asked: true },
    );
    assert!(tape.finish(ended).unwrap());
    assert!(raws(&directory).len() > 5, "what waited is written when the disk is back");
}
