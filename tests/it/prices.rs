//! Price sources over HTTP: each source with each fault of the file server.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod file_server;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    thread,
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
    net::{
        http_client::{
            HttpClient,
            download::{DownloadError, DownloadLimits},
        },
        http_message::HttpRequest,
        tls::Tls,
    },
    prices::{ItemKey, PriceSnapshot, PriceTable, SourceKind},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc::Sender,
};

use self::file_server::{PriceFault, PriceFile, PriceServer, default_items};
use crate::{feed::Log, session::until};

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
    let served = PriceFile::ALL.map(PriceFile::kind);
    for (kind, name) in SourceKind::ALL {
        assert!(served.contains(&name) || kind == SourceKind::File, "{name}");
    }
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
        let gem = ask("★ Karambit | Ruby (Factory New)");
        assert_eq!(gem.as_deref(), file.has_phases().then_some("5000.00"), "{file:?}");
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
                | PriceFault::FewItems
        )
    }) {
        for file in PriceFile::ALL {
            let rig = Rig::new(file);
            rig.server.set_fault(fault);
            rig.read().await.unwrap_err();
            assert_eq!(rig.stored(StoredAs::Current), None, "{file:?} with {name}");
        }
    }
}

#[tokio::test]
async fn each_fault_has_its_own_reason() {
    let rig = Rig::new(PriceFile::BUFF163);
    rig.read().await.unwrap();
    for (fault, expected) in [
        ("html", "it is no price table: it is a web page, not prices"),
        ("xml", "it is no price table: it is an XML document, not prices"),
        ("redirect", "the site redirects (HTTP 301); the file may not exist any more"),
        ("too-many-requests", "the site asks to wait (HTTP 429): 1 min 30 s"),
        ("truncated-body", "it is no price table: it ends in the middle"),
        ("cut-connection", "the download failed: "),
        ("bomb", "the download failed: it is longer than 67108864 bytes"),
        ("few-names", "table rejected: it has "),
        ("wrong-unit", "table rejected: the median of its asks is 100.00 times"),
    ] {
        rig.server.set_fault(PriceFault::parse(fault).unwrap());
        let failure = rig.read().await.unwrap_err().to_string();
        assert!(failure.starts_with(expected), "{fault}: {failure}");
        rig.forget_attempt();
    }
}

#[tokio::test]
async fn a_rejected_table_is_kept_and_accepted_on_request() {
    let rig = Rig::new(PriceFile::Skinport);
    rig.read().await.unwrap();
    let mut items = default_items();
    items.iter_mut().for_each(|item| item.ask_cents *= 2);
    rig.server.set_items(items);
    assert!(matches!(rig.read().await, Err(PriceFailure::Rejected(_))));
    let redline = "AK-47 | Redline (Field-Tested)";
    let rejected = rig.stored(StoredAs::Rejected).unwrap();
    assert_eq!(ask(&rejected, redline).as_deref(), Some("62.80"));
    rig.reader().read(0, true).await.unwrap();
    assert_eq!(rig.stored(StoredAs::Current), Some(rejected));
    assert_eq!(rig.stored(StoredAs::Rejected), None);
    let previous = rig.stored(StoredAs::Previous).unwrap();
    assert_eq!(ask(&previous, redline).as_deref(), Some("31.40"));
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again_and_keeps_its_age() {
    let rig = Rig::new(PriceFile::BUFF163);
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
async fn without_an_etag_an_unchanged_file_is_asked_for_by_its_last_modified() {
    let rig = Rig::new(PriceFile::BUFF163);
    rig.server.remove_etag();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_352_000);
    rig.server.set_modified(Some(modified));
    let PriceReading::New { at, .. } = rig.read().await.unwrap() else { panic!("not new") };
    assert_eq!(at.0, 1_772_352_000_000);
    assert_eq!(rig.read().await.unwrap(), PriceReading::Unchanged { at });
    let request = rig.server.requests()[1].to_ascii_lowercase();
    assert!(request.contains("if-modified-since: sun, 01 mar 2026 08:00:00 gmt"), "{request}");
    assert!(!request.contains("if-none-match"), "{request}");
    rig.server.set_modified(Some(modified + Duration::from_secs(60)));
    assert!(matches!(rig.read().await.unwrap(), PriceReading::New { .. }));
}

#[tokio::test]
async fn a_confirmed_table_without_a_time_is_as_new_as_its_confirmation() {
    let rig = Rig::new(PriceFile::CsFloat);
    rig.read().await.unwrap();
    let (store, source) = (PriceStore::new(rig.folder.path()), &rig.config.sources[0]);
    let mut stored = store.load(source, StoredAs::Current).unwrap().unwrap();
    assert!(!stored.is_dated);
    stored.at = stored.at.minus(Duration::from_secs(3_600));
    store.save(source, StoredAs::Current, &stored).unwrap();
    let before = sniper::clock::wall();
    let PriceReading::Unchanged { at } = rig.read().await.unwrap() else { panic!("new") };
    assert!(before <= at, "{before} {at}");
    assert_eq!(store.load(source, StoredAs::Current).unwrap().unwrap().at, at);
}

/// Such a table may have a time that the source never stated, and with 304 it would keep it.
#[tokio::test]
async fn a_table_whose_time_cannot_be_trusted_is_not_confirmed_but_downloaded_again() {
    type Change = fn(&str) -> String;
    let of_earlier_version: Change = |text| text.replacen(r#""parser":1,"#, "", 1);
    let changes: [(Change, bool); 3] =
        [(str::to_owned, false), (of_earlier_version, true), (str::to_owned, true)];
    for (index, (change, is_new)) in changes.into_iter().enumerate() {
        let rig = Rig::new(PriceFile::LisSkins);
        // The last one states a time that the local clock has not reached.
        let ahead = Duration::from_secs(if index == 2 { 3_600 } else { 0 });
        let now = Duration::from_millis(u64::try_from(sniper::clock::now().0).unwrap());
        let modified = SystemTime::UNIX_EPOCH + now - Duration::from_secs(600) + ahead;
        rig.server.set_modified(Some(modified));
        rig.read().await.unwrap();
        let path = rig.folder.path().join("prices/s.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_eq!(changed != text, index == 1);
        std::fs::write(&path, changed).unwrap();
        let again = rig.read().await.unwrap();
        assert_eq!(matches!(again, PriceReading::New { .. }), is_new, "{again:?}");
        let request = rig.server.requests()[1].to_ascii_lowercase();
        let is_conditional = request.contains("if-none-match") || request.contains("if-modified");
        assert_eq!(is_conditional, !is_new, "{request}");
    }
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
    assert_eq!(wait_after(&reader, &failure), interval / 2);
}

#[tokio::test]
async fn a_ban_is_named_and_its_wait_obeyed() {
    let rig = Rig::new(PriceFile::CsFloat);
    rig.server.set_fault(PriceFault::Banned { retry_after_s: 7_200 });
    let failure = rig.read().await.unwrap_err();
    let text = "the site answers with HTTP 418 (this IP address is banned for too many requests";
    assert!(failure.to_string().starts_with(text), "{failure}");
    let failure = rig.read().await.unwrap_err();
    assert!(matches!(failure, PriceFailure::Waiting { .. }), "{failure}");
    assert_eq!(rig.server.requests().len(), 1);
}

#[tokio::test]
async fn after_a_useless_download_the_next_one_comes_before_the_prices_are_too_old() {
    let rig = Rig::new(PriceFile::CsFloat);
    rig.read().await.unwrap();
    let interval = rig.config.interval(&rig.config.sources[0]);
    let (source, now) = (&rig.config.sources[0], std::time::Instant::now());
    assert_eq!(source.max_age, interval * 2);
    for (fault, is_useless) in
        [("html", true), ("redirect", true), ("wrong-unit", true), ("cut-connection", false)]
    {
        rig.server.set_fault(PriceFault::parse(fault).unwrap());
        let reader = rig.reader();
        let failure = reader.read(0, false).await.unwrap_err();
        let wait = reader.delay_after(&failure, 0, now);
        assert_eq!(wait == interval / 2, is_useless, "{fault}: {wait:?}");
        rig.forget_attempt();
    }
}

#[tokio::test]
async fn a_table_that_another_process_stored_is_published_without_an_own_download() {
    let rig = Rig::new(PriceFile::CsFloat);
    rig.read().await.unwrap();
    let (books, mut receiver) = tokio::sync::mpsc::channel(1);
    let refreshing = tokio::spawn(refresh_prices(rig.reader(), publisher(books)));
    let key = ItemKey::parse("Fracture Case").unwrap();
    let price = |snapshot: PriceSnapshot| snapshot.book.quotes(&key).unwrap()[0].ask.unwrap();
    assert_eq!(price(receiver.recv().await.unwrap()).price.to_string(), "0.60");
    let mut items = default_items();
    items.iter_mut().for_each(|item| item.ask_cents *= 2);
    rig.server.set_items(items);
    rig.reader().read(0, true).await.unwrap();
    let requests = rig.server.requests().len();
    // The clock advances to the next check, because nothing else happens.
    tokio::time::pause();
    assert_eq!(price(receiver.recv().await.unwrap()).price.to_string(), "1.20");
    assert_eq!(rig.server.requests().len(), requests);
    drop(receiver);
    refreshing.await.unwrap();
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
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
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

/// Starts reading the source from a new listener, with the table of the rig as the last good one.
async fn read_from_listener(rig: &mut Rig) -> (ReadingTask, tokio::net::TcpStream) {
    rig.read().await.unwrap();
    let store = PriceStore::new(rig.folder.path());
    let good = store.load(&rig.config.sources[0], StoredAs::Current).unwrap().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    rig.config.sources[0].location =
        PriceLocation::Url(Endpoint::parse(&url, Scheme::Http).unwrap());
    store.save(&rig.config.sources[0], StoredAs::Current, &good).unwrap();
    let reader = rig.reader();
    let reading = tokio::spawn(async move { reader.read(0, false).await });
    let (mut peer, _) = listener.accept().await.unwrap();
    assert!(peer.read(&mut [0; 4_096]).await.unwrap() > 0);
    (reading, peer)
}

type ReadingTask = tokio::task::JoinHandle<Result<PriceReading, PriceFailure>>;

#[tokio::test]
async fn a_download_that_stalls_ends_at_its_deadline_and_the_last_good_table_stays() {
    let mut rig = Rig::new(PriceFile::CsFloat);
    let (reading, mut peer) = read_from_listener(&mut rig).await;
    let good = rig.stored(StoredAs::Current).unwrap();
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[{\"market_hash_name\":\"AK-47";
    peer.write_all(half).await.unwrap();
    // The clock advances to the deadline, because nothing else happens.
    tokio::time::pause();
    let failure = reading.await.unwrap().unwrap_err();
    let limit = match &failure {
        PriceFailure::Download(DownloadError::Timeout(limit)) => *limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure.to_string(), "the download failed: it was not complete within 300 s");
    assert_eq!(limit, Duration::from_secs(300));
    assert_eq!(rig.stored(StoredAs::Current), Some(good));
    drop(peer);
}

/// Downloads 40 MB within a limit of 4 MB. Returns the result and the most memory in use at a time.
fn download_40_mb(headers: &'static str, body: Vec<u8>) -> (Result<usize, DownloadError>, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        assert!(peer.read(&mut [0; 4_096]).unwrap() > 0);
        write!(peer, "HTTP/1.1 200 OK\r\n{headers}Connection: close\r\n\r\n").unwrap();
        // The client closes the connection before the end of a plain body.
        peer.write_all(&body).is_ok()
    });
    let limits = DownloadLimits { body_bytes_max: 4 << 20, timeout: Duration::from_secs(60) };
    let endpoint = Endpoint::parse(&url, Scheme::Http).unwrap();
    let client = HttpClient::new(&endpoint, &Tls::new().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut result = None;
    let memory = allocation_counter::measure(|| {
        let request = HttpRequest::get("/");
        let download = client.download(&request, limits);
        result = Some(runtime.block_on(download).map(|download| download.body.len()));
    });
    drop((client, runtime));
    server.join().unwrap();
    (result.unwrap(), memory.bytes_max)
}

#[test]
fn a_long_body_is_rejected_at_its_limit_and_never_in_memory_as_a_whole() {
    let long = vec![b' '; 40 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&long).unwrap();
    let bomb = encoder.finish().unwrap();
    for (headers, body) in
        [("", long), ("Content-Encoding: gzip\r\n", bomb.clone()), ("X-Unannounced: 1\r\n", bomb)]
    {
        let (result, bytes_max) = download_40_mb(headers, body);
        assert!(matches!(result, Err(DownloadError::TooLong(4_194_304))), "{headers}: {result:?}");
        // A vector that grows is in memory twice, with up to twice its length.
        assert!(bytes_max < 16 << 20, "{headers}: {bytes_max} bytes");
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_written_leaves_the_old_one_in_force_and_has_one_log_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("p.csv");
    let prices = |text: &str| std::fs::write(&path, text).unwrap();
    let config = PricesConfig { refresh: Duration::ZERO, ..PricesConfig::default() };
    let config = config.with_file(path.clone(), SourceCurrency::Usd);
    let reader = || PriceReader::new(&config, folder.path(), &Tls::new().unwrap()).unwrap();
    prices("name,ask\nFracture Case,0.61\n");
    reader().read(0, false).await.unwrap();
    // The old table is to be kept at this path.
    let obstacle = folder.path().join("prices/file.previous.jsonl");
    std::fs::create_dir(&obstacle).unwrap();
    prices("name,ask\nFracture Case,0.65\n");
    let failure = reader().read(0, false).await.unwrap_err();
    assert!(matches!(failure, PriceFailure::Store(_)), "{failure:?}");

    let log = Log::capture();
    let logged = |text: &str| log.text().matches(text).count();
    let (books, mut receiver) = tokio::sync::mpsc::channel(1);
    let refreshing = tokio::spawn(refresh_prices(reader(), publisher(books)));
    let case = ItemKey::parse("Fracture Case").unwrap();
    let price = |snapshot: Option<PriceSnapshot>| {
        snapshot.unwrap().book.quotes(&case).unwrap()[0].ask.unwrap().price.to_string()
    };
    assert_eq!(price(receiver.recv().await), "0.61");
    let line = "Prices not updated: file, the table cannot be stored: ";
    until(|| logged(line) == 1).await;
    assert!(receiver.try_recv().is_err(), "no other table is in force");
    std::fs::remove_dir(obstacle).unwrap();
    until(|| logged("Prices updated: file, 1 item") == 1).await;
    assert_eq!(price(receiver.recv().await), "0.65");
    assert_eq!((logged(line), logged("The last good table stays in use.")), (1, 1));
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
