//! Price sources over HTTP: each source with each fault of the file server.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sniper::{
    account::prices::{
        PriceFailure, PricePublisher, PriceReader, PriceReading, PriceStore, SourceAttempt,
        StoredAs, refresh_prices,
    },
    config::{
        Credential,
        endpoint::{Endpoint, Scheme},
        prices::{PriceLocation, PriceSource, PricesConfig, SourceCurrency},
    },
    net::tls::Tls,
    prices::{ItemKey, PriceSnapshot, PriceTable, SourceKind},
    sim::prices::{PriceFault, PriceFile, PriceServer, default_items},
};
use tempfile::TempDir;
use tokio::sync::mpsc::Sender;

struct Rig {
    server: PriceServer,
    folder: TempDir,
    config: PricesConfig,
}

impl Rig {
    fn new(file: PriceFile) -> Self {
        let server = PriceServer::start().unwrap();
        let kind = SourceKind::parse(file.kind()).unwrap();
        let url = Endpoint::parse(&server.url(file), Scheme::Http).unwrap();
        let source = PriceSource {
            name: "s".to_owned(),
            kind,
            location: PriceLocation::Url(url),
            max_age: kind.max_age(),
            currency: SourceCurrency::Usd,
            key: kind.needs_key().then(|| Credential::from_key("0123456789abcdef").unwrap()),
        };
        let config = PricesConfig { sources: vec![source], ..PricesConfig::default() };
        Self { server, folder: TempDir::new().unwrap(), config }
    }

    /// A reader as after a restart.
    fn reader(&self) -> PriceReader {
        PriceReader::new(&self.config, self.folder.path(), &Tls::new().unwrap()).unwrap()
    }

    fn stored(&self, stored: StoredAs) -> Option<PriceTable> {
        let store = PriceStore::new(self.folder.path());
        store.load(&self.config.sources[0], stored).unwrap().map(|stored| stored.table)
    }

    async fn read(&self) -> Result<PriceReading, PriceFailure> {
        self.reader().read(0, false).await
    }

    /// Forgets the wait that the server asked for.
    fn forget_attempt(&self) {
        std::fs::remove_file(self.folder.path().join("prices/s.attempt.json")).unwrap();
    }
}

fn ask(table: &PriceTable, name: &str) -> Option<String> {
    let key = ItemKey::parse(name).unwrap().into_owned();
    Some(table.get(&key)?.ask?.price.to_string())
}

#[tokio::test]
async fn each_source_is_read_with_the_same_prices() {
    for file in PriceFile::ALL {
        let rig = Rig::new(file);
        let reading = rig.read().await.unwrap();
        assert!(matches!(reading, PriceReading::New { items, .. } if items >= 20), "{reading:?}");
        let table = rig.stored(StoredAs::Current).unwrap();
        let ask = |name| ask(&table, name);
        assert_eq!(ask("AK-47 | Redline (Field-Tested)").as_deref(), Some("31.40"), "{file:?}");
        let stattrak = ask("StatTrak™ AK-47 | Redline (Field-Tested)");
        assert_eq!(stattrak.as_deref(), Some("69.00"), "{file:?}");
        assert_eq!(ask("★ Karambit").as_deref(), Some("800.00"), "{file:?}");
        let has_phases = matches!(
            file,
            PriceFile::CsgoTraderBuff163 | PriceFile::CsgoTraderCsFloat | PriceFile::Waxpeer
        );
        let gem = ask("★ Karambit | Ruby (Factory New)");
        assert_eq!(gem.as_deref(), has_phases.then_some("5000.00"), "{file:?}");
        assert_eq!(ask("★ Karambit | Doppler Phase 4 (Factory New)"), None, "{file:?}");
    }
}

#[tokio::test]
async fn no_fault_replaces_the_last_good_table() {
    for file in PriceFile::ALL {
        let rig = Rig::new(file);
        rig.read().await.unwrap();
        let good = rig.stored(StoredAs::Current).unwrap();
        for (name, fault) in PriceFault::ALL {
            // It takes a second to write, and is the same for each file.
            if fault == PriceFault::Bomb {
                continue;
            }
            rig.server.set_fault(fault);
            let result = rig.read().await;
            let is_harmless = matches!(
                fault,
                PriceFault::None
                    | PriceFault::UnannouncedGzip
                    | PriceFault::Brotli
                    | PriceFault::ByteOrderMark
            );
            assert_eq!(result.is_ok(), is_harmless, "{file:?} with {name}: {result:?}");
            assert_eq!(rig.stored(StoredAs::Current), Some(good.clone()), "{file:?} with {name}");
            rig.forget_attempt();
        }
    }
}

#[tokio::test]
async fn no_fault_is_accepted_as_a_first_table() {
    for (name, fault) in PriceFault::ALL.into_iter().filter(|(_, fault)| {
        !matches!(
            fault,
            PriceFault::None
                | PriceFault::UnannouncedGzip
                | PriceFault::Brotli
                | PriceFault::ByteOrderMark
                | PriceFault::Bomb
                // Six of the well-known items at their usual prices.
                | PriceFault::FewNames
        )
    }) {
        let rig = Rig::new(PriceFile::CsFloat);
        rig.server.set_fault(fault);
        rig.read().await.unwrap_err();
        assert_eq!(rig.stored(StoredAs::Current), None, "{name}");
    }
}

#[tokio::test]
async fn each_fault_has_its_own_reason() {
    let rig = Rig::new(PriceFile::CsgoTraderBuff163);
    rig.read().await.unwrap();
    for (fault, expected) in [
        ("html", "it is no price table: it is a web page, not prices"),
        ("xml", "it is no price table: it is an XML document, not prices"),
        ("redirect", "the site redirects (HTTP 301); the file may not exist any more"),
        ("too-many-requests", "the site asks to wait (HTTP 429): 1 min 30 s"),
        ("truncated-body", "it is no price table: it ends in the middle"),
        ("cut-connection", "the download failed: "),
        ("bomb", "the download failed: it is longer than 67108864 bytes"),
        ("few-names", "the table was refused: it has "),
        ("wrong-unit", "the table was refused: the median of its asks is 100.00 times"),
    ] {
        rig.server.set_fault(PriceFault::parse(fault).unwrap());
        let failure = rig.read().await.unwrap_err().to_string();
        assert!(failure.starts_with(expected), "{fault}: {failure}");
        rig.forget_attempt();
    }
}

#[tokio::test]
async fn a_refused_table_is_kept_and_accepted_on_request() {
    let rig = Rig::new(PriceFile::Skinport);
    rig.read().await.unwrap();
    let mut items = default_items();
    items.iter_mut().for_each(|item| item.ask_cents *= 2);
    rig.server.set_items(items);
    assert!(matches!(rig.read().await, Err(PriceFailure::Refused(_))));
    let redline = "AK-47 | Redline (Field-Tested)";
    let refused = rig.stored(StoredAs::Refused).unwrap();
    assert_eq!(ask(&refused, redline).as_deref(), Some("62.80"));
    rig.reader().read(0, true).await.unwrap();
    assert_eq!(rig.stored(StoredAs::Current), Some(refused));
    assert_eq!(rig.stored(StoredAs::Refused), None);
    let previous = rig.stored(StoredAs::Previous).unwrap();
    assert_eq!(ask(&previous, redline).as_deref(), Some("31.40"));
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again_and_keeps_its_age() {
    let rig = Rig::new(PriceFile::CsgoTraderBuff163);
    let now = u64::try_from(sniper::clock::now().0).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(now / 1_000 - 7_200);
    rig.server.set_modified(Some(modified));
    let PriceReading::New { at, .. } = rig.read().await.unwrap() else { panic!("not new") };
    let again = rig.read().await.unwrap();
    assert_eq!(again, PriceReading::Unchanged { at }, "the age is that of Last-Modified");
    let requests = rig.server.requests();
    assert!(requests[1].to_ascii_lowercase().contains("if-none-match: \""), "{requests:?}");
    let seconds = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(at.0 / 1_000, i64::try_from(seconds).unwrap());
}

#[tokio::test]
async fn a_key_is_sent_as_a_header_and_never_stored() {
    let rig = Rig::new(PriceFile::Pricempire);
    let mut items = default_items();
    items[12].name.push_str(" 0123456789abcdef");
    rig.server.set_items(items);
    rig.read().await.unwrap();
    let request = rig.server.requests()[0].to_ascii_lowercase();
    assert!(request.contains("authorization: bearer 0123456789abcdef"), "{request}");
    let file = std::fs::read_to_string(rig.folder.path().join("prices/s.jsonl")).unwrap();
    assert!(!file.contains("0123456789abcdef"), "{file}");
}

#[tokio::test]
async fn after_429_the_next_try_waits_as_long_as_the_site_asks() {
    let rig = Rig::new(PriceFile::CsFloat);
    rig.server.set_fault(PriceFault::TooManyRequests { retry_after_s: 7_200 });
    let wait_after = |reader: &PriceReader, failure: &PriceFailure| {
        reader.delay_after(failure, 0, std::time::Instant::now()).as_secs()
    };
    let reader = rig.reader();
    let failure = reader.read(0, false).await.unwrap_err();
    assert_eq!(wait_after(&reader, &failure), 7_200);
    // Neither this process nor the next one asks again.
    for reader in [reader, rig.reader()] {
        let failure = reader.read(0, true).await.unwrap_err();
        assert!(matches!(failure, PriceFailure::Waiting { .. }), "{failure}");
        assert!((7_100..=7_200).contains(&wait_after(&reader, &failure)), "{failure}");
        let (books, mut receiver) = tokio::sync::mpsc::channel(1);
        let refreshing = tokio::spawn(refresh_prices(reader, publisher(books)));
        assert!(receiver.recv().await.unwrap().book.is_empty());
        tokio::time::timeout(Duration::from_millis(300), receiver.recv()).await.unwrap_err();
        drop(receiver);
        refreshing.await.unwrap();
    }
    assert_eq!(rig.server.requests().len(), 1);
    // The wait is over.
    let reader = rig.reader();
    let now = sniper::clock::wall();
    let attempt = SourceAttempt { at: now, retry_at: Some(now) };
    reader.store().save_attempt(&rig.config.sources[0], attempt).unwrap();
    rig.server.set_fault(PriceFault::Html);
    let failure = reader.read(0, false).await.unwrap_err();
    assert!(matches!(failure, PriceFailure::Table(_)), "{failure}");
    let interval = rig.config.interval(&rig.config.sources[0]).as_secs();
    assert!(wait_after(&reader, &failure) <= interval);
}

fn publisher(snapshots: Sender<PriceSnapshot>) -> PricePublisher {
    PricePublisher::new(Arc::new([]), snapshots)
}

#[tokio::test]
async fn stored_prices_are_published_without_a_network_and_new_ones_after_a_download() {
    let rig = Rig::new(PriceFile::LisSkins);
    let (books, mut receiver) = tokio::sync::mpsc::channel(1);
    let refreshing = tokio::spawn(refresh_prices(rig.reader(), publisher(books)));
    assert!(receiver.recv().await.unwrap().book.is_empty());
    let book = receiver.recv().await.unwrap().book;
    assert!(book.len() >= 20);
    drop(receiver);
    refreshing.await.unwrap();

    rig.server.set_fault(PriceFault::Redirect);
    let (books, mut receiver) = tokio::sync::mpsc::channel(1);
    let refreshing = tokio::spawn(refresh_prices(rig.reader(), publisher(books)));
    assert_eq!(receiver.recv().await.unwrap().book.len(), book.len());
    drop(receiver);
    refreshing.await.unwrap();
    assert_eq!(rig.server.requests().len(), 1, "the table was read a moment ago");
}

#[tokio::test]
async fn a_site_that_never_answers_does_not_delay_the_others() {
    let mut rig = Rig::new(PriceFile::CsFloat);
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let location = PriceLocation::Url(Endpoint::parse(&url, Scheme::Http).unwrap());
    let other = PriceSource { name: "h".into(), location, ..rig.config.sources[0].clone() };
    rig.config.sources.insert(0, other);
    let (books, mut receiver) = tokio::sync::mpsc::channel(1);
    let refreshing = tokio::spawn(refresh_prices(rig.reader(), publisher(books)));
    assert!(receiver.recv().await.unwrap().book.is_empty());
    let book = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await.unwrap();
    assert!(book.unwrap().book.len() >= 20);
    drop(receiver);
    refreshing.await.unwrap();
}

#[tokio::test]
async fn a_local_file_is_read_with_its_own_age() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("p.csv");
    let source = PriceSource {
        name: "own".to_owned(),
        kind: SourceKind::File,
        location: PriceLocation::File(path.clone()),
        max_age: SourceKind::File.max_age(),
        currency: SourceCurrency::UsdCents,
        key: None,
    };
    let config = PricesConfig { sources: vec![source], ..PricesConfig::default() };
    let reader = PriceReader::new(&config, folder.path(), &Tls::new().unwrap()).unwrap();
    let missing = reader.read(0, false).await.unwrap_err().to_string();
    assert!(missing.starts_with("the file cannot be read"), "{missing}");
    std::fs::write(&path, "name,ask\nFracture Case,61\n").unwrap();
    reader.read(0, false).await.unwrap();
    let stored = reader.store().load(&config.sources[0], StoredAs::Current).unwrap().unwrap();
    assert_eq!(ask(&stored.table, "Fracture Case").as_deref(), Some("0.61"));
    std::fs::write(&path, "<html>").unwrap();
    reader.read(0, false).await.unwrap_err();
    assert_eq!(reader.book().len(), 1);
}
