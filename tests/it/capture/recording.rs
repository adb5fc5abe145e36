//! The content of a recording, and its manifest with gaps and losses.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sniper::{
    clock,
    commands::capture::{self, CaptureEndReason, CapturePlan},
    recording::{Disk, RealDisk, RecordingError, disk::DiskFile},
    ws::policy::ReconnectionLimits,
};
use tempfile::TempDir;

use super::*;

const TICKER: &str = r#"{"e":"bookTicker","u":400900217,"s":"BTCUSDT","b":"25.35190000","B":"31.21","a":"25.36520000","A":"40.66","T":1568014460891,"E":1568014460893}"#;

#[tokio::test]
async fn each_source_is_recorded_exactly_into_a_separate_file() {
    let server = Server::start(|mut peer: Peer| async move {
        let path = peer.path.clone();
        peer.send_text(TICKER).await;
        peer.send_text(&format!("{{\"path\":\"{path}\"}}")).await;
        peer.wait_for_disconnect().await;
    })
    .await;
    let bases = SourceUrls {
        perp_public: server.url("/public/ws"),
        perp_market: server.url("/market/ws"),
        spot: server.url("/ws"),
    };
    let names = [
        "binance-perp:BTCUSDT@bookTicker",
        "binance-perp:BTCUSDT@depth",
        "binance-perp:ETHUSDT@markPrice",
        "binance-spot:SOLUSDT@bookTicker",
    ];
    let sources = names.map(|name| CaptureSource::parse(name, &bases).unwrap()).to_vec();
    let directory = TempDir::new().unwrap();
    let before_ns = clock::now_ns();
    let outcome = until(plan(sources, quick(), &directory), &directory, |manifest| {
        manifest["sources"].as_array().unwrap().iter().all(|source| source["messages"] == 2)
    })
    .await;
    assert!(outcome.is_complete, "{outcome}");
    assert_eq!(outcome.exit_code(), 0);
    let session = &sessions(directory.path())[0];
    assert_eq!(session, &outcome.directory);
    for (file, path) in [
        ("BTCUSDT/bookTicker.jsonl", "/public/ws/btcusdt@bookTicker"),
        ("BTCUSDT/depth.jsonl", "/public/ws/btcusdt@depth"),
        ("ETHUSDT/markPrice.jsonl", "/market/ws/ethusdt@markPrice"),
        ("SOLUSDT/bookTicker.jsonl", "/ws/solusdt@bookTicker"),
    ] {
        let text = fs::read_to_string(session.join(file)).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["raw"], TICKER);
        assert_eq!(lines[1]["raw"], format!("{{\"path\":\"{path}\"}}"));
        assert_eq!(lines[0]["conn"], 1);
        let ns = lines[0]["ns"].as_u64().unwrap();
        assert!((before_ns..clock::now_ns()).contains(&ns), "{ns}");
        assert!(ns <= lines[1]["ns"].as_u64().unwrap());
    }
    let manifest = manifest(session).unwrap();
    assert_eq!(manifest["complete"], true);
    assert_eq!(manifest["total_reconnects"], 0);
    assert_eq!(manifest["connection_gaps"].as_array().unwrap().len(), 0);
    let first = &manifest["sources"][0];
    assert_eq!(first["symbol"], "BTCUSDT");
    assert_eq!(first["stream"], "bookTicker");
    let bytes = TICKER.len() + "{\"path\":\"/public/ws/btcusdt@bookTicker\"}".len();
    assert_eq!(first["bytes"], bytes);
    assert!(first["first_ns"].as_u64() <= first["last_ns"].as_u64());
}

#[tokio::test]
async fn a_gap_lasts_from_the_last_activity_to_the_first_message() {
    let server = Server::start(|mut peer: Peer| async move {
        if peer.number == 2 {
            // A connection without a message is one more attempt within the same gap.
            return;
        }
        peer.send_text(&format!("{{\"n\":{}}}", peer.number)).await;
        if peer.number == 3 {
            peer.wait_for_disconnect().await;
        }
    })
    .await;
    let directory = TempDir::new().unwrap();
    let outcome =
        until(plan(own(&server.url("/x")), quick(), &directory), &directory, |manifest| {
            manifest["sources"][0]["messages"] == 2
        })
        .await;
    let frames = frames(&outcome.directory);
    let connections: Vec<u32> = frames.iter().map(|frame| frame.conn).collect();
    assert_eq!(connections, [1, 3]);
    let manifest = manifest(&outcome.directory).unwrap();
    let gaps = manifest["sources"][0]["connection_gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0];
    assert_eq!((&gap["open"], &gap["attempts"]), (&Value::Bool(false), &Value::from(2)));
    assert_eq!(gap["to_ns"], frames[1].ns);
    let from = gap["from_ns"].as_u64().unwrap();
    assert!(from >= frames[0].ns, "{gap}");
    let lasted = Duration::from_nanos(frames[1].ns - from);
    assert_eq!(gap["duration_ms"], u64::try_from(lasted.as_millis()).unwrap());
    assert!(lasted >= Duration::from_millis(500), "{lasted:?}");
    assert!(!gap["cause"].as_str().unwrap().is_empty());
    assert_eq!(manifest["total_reconnects"], 2);
    assert_eq!(manifest["connection_gaps"][0]["stream"], "x");
    assert_eq!(outcome.status.gaps, 1);
}

#[tokio::test]
async fn a_server_that_was_never_reached_is_an_open_gap() {
    let directory = TempDir::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/x", listener.local_addr().unwrap());
    drop(listener);
    let outcome = until(plan(own(&url), quick(), &directory), &directory, |manifest| {
        manifest["sources"][0]["connection_gaps"][0]["attempts"] == 2
    })
    .await;
    let manifest = manifest(&outcome.directory).unwrap();
    let gap = &manifest["connection_gaps"][0];
    assert_eq!((&gap["open"], &gap["to_ns"]), (&Value::Bool(true), &Value::Null));
    let since = gap["from_ns"].as_u64().unwrap();
    assert!(since < manifest["started_ns"].as_u64().unwrap() + 5_000_000_000);
    assert_eq!(outcome.status.open_gaps, 1);
}

#[tokio::test]
async fn subscriptions_are_sent_first_on_every_connection() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&received);
    let server = Server::start(move |mut peer: Peer| {
        let sink = Arc::clone(&sink);
        async move {
            for _ in 0..2 {
                let text = peer.recv_text().await.unwrap();
                sink.lock().unwrap().push((peer.number, text));
            }
            peer.send_text(r#"{"result":null,"id":1}"#).await;
            if peer.number == 2 {
                peer.wait_for_disconnect().await;
            }
        }
    })
    .await;
    let directory = TempDir::new().unwrap();
    let subscribe = [r#"{"op":"a"}"#, r#"{"op":"b","key":"not to be written"}"#].map(String::from);
    let sources = vec![CaptureSource::from_url(&server.url("/x"), &subscribe).unwrap()];
    let outcome = until(plan(sources, quick(), &directory), &directory, |manifest| {
        manifest["sources"][0]["messages"] == 2
    })
    .await;
    let expected: Vec<(usize, String)> =
        (1..=2).flat_map(|number| subscribe.clone().map(|text| (number, text))).collect();
    assert_eq!(*received.lock().unwrap(), expected);
    let manifest = manifest(&outcome.directory).unwrap().to_string();
    assert!(!manifest.contains("not to be written"), "{manifest}");
}

#[tokio::test]
async fn binary_frames_are_counted_and_invalid_json_is_recorded_verbatim() {
    let server = Server::start(|mut peer: Peer| async move {
        peer.send_binary(b"\x00\x01").await;
        peer.send_text("not \u{1}JSON").await;
        peer.send_text("{}").await;
        peer.wait_for_disconnect().await;
    })
    .await;
    let directory = TempDir::new().unwrap();
    let outcome =
        until(plan(own(&server.url("/x")), quick(), &directory), &directory, |manifest| {
            manifest["sources"][0]["messages"] == 2
        })
        .await;
    assert_eq!(raws(&outcome.directory), ["not \u{1}JSON", "{}"]);
    assert_eq!(manifest(&outcome.directory).unwrap()["sources"][0]["binary_skipped"], 1);
}

#[tokio::test]
async fn a_failed_source_does_not_stop_the_others_but_makes_the_capture_incomplete() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dials);
    let server = Server::start(move |mut peer: Peer| {
        let dials = Arc::clone(&counter);
        async move {
            if peer.path == "/gone" {
                dials.fetch_add(1, Ordering::SeqCst);
            } else if peer.number <= 2 {
                while dials.load(Ordering::SeqCst) < 2 {
                    poll_delay().await;
                }
                peer.send_text("{}").await;
            }
        }
    })
    .await;
    let directory = TempDir::new().unwrap();
    let sources = [own(&server.url("/gone")), own(&server.url("/here"))].concat();
    let limits = ReconnectionLimits { max_retries: Some(1), ..quick() };
    let plan = plan(sources, limits, &directory);
    let captured = capture::record(plan, RealDisk, std::future::pending());
    let outcome = tokio::time::timeout(DEADLINE, captured).await.unwrap().unwrap();
    assert!(matches!(outcome.ending, CaptureEndReason::NothingLeft));
    assert_eq!(outcome.gave_up.len(), 2);
    assert_eq!((outcome.exit_code(), outcome.is_complete), (69, false));
    assert_eq!(raws(&outcome.directory), ["{}"]);
    let manifest = manifest(&outcome.directory).unwrap();
    assert_eq!(manifest["complete"], false);
    assert!(manifest["ended_because"].as_str().unwrap().contains("/gone"), "{manifest}");
}

/// A disk that can be filled at any time.
#[derive(Clone, Default)]
struct FullDisk(Arc<AtomicBool>);

struct FullFile {
    file: fs::File,
    disk: FullDisk,
}

impl Disk for FullDisk {
    type File = FullFile;

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directory(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directories(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<FullFile> {
        Ok(FullFile { file: RealDisk.create_file(path)?, disk: self.clone() })
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        RealDisk.replace(path, bytes)
    }
}

impl DiskFile for FullFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.disk.0.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_capture_with_an_error() {
    let server = Server::start(|mut peer: Peer| async move {
        loop {
            peer.send_text("{}").await;
            poll_delay().await;
        }
    })
    .await;
    let directory = TempDir::new().unwrap();
    let disk = FullDisk::default();
    let (path, full) = (directory.path().to_path_buf(), disk.clone());
    tokio::spawn(async move {
        let has_lines = |path: &Path| {
            let session = sessions(path).pop();
            let written = session.and_then(|session| manifest(&session));
            written.is_some_and(|written| written["sources"][0]["messages"].as_u64() > Some(0))
        };
        while !has_lines(&path) {
            poll_delay().await;
        }
        full.0.store(true, Ordering::SeqCst);
    });
    let plan = plan(own(&server.url("/x")), quick(), &directory);
    let captured = capture::record(plan, disk, std::future::pending());
    let outcome = tokio::time::timeout(DEADLINE, captured).await.unwrap().unwrap();
    assert!(
        matches!(&outcome.ending, CaptureEndReason::Disk(error) if matches!(&**error, RecordingError::Write { .. }))
    );
    assert_eq!(outcome.exit_code(), 74);
    let written = manifest(&outcome.directory).unwrap();
    assert_eq!(
        (&written["complete"], &written["running"]),
        (&Value::Bool(false), &Value::Bool(false))
    );
    let recorded = u64::try_from(raws(&outcome.directory).len()).unwrap();
    assert_eq!(written["sources"][0]["messages"], recorded);
    assert!(outcome.status.lost > 0);
}

#[tokio::test]
async fn a_capture_that_cannot_start_returns_its_exit_code() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let plan = CapturePlan::new(own("ws://127.0.0.1:9/x"), &file);
    let rejected = capture::record(plan, RealDisk, std::future::pending()).await;
    assert_eq!(rejected.unwrap_err().exit_code(), 73);
    let plan =
        CapturePlan::new(vec![CaptureSource::marketplace(Market::Csgoroll)], directory.path());
    let rejected = capture::record(plan, RealDisk, std::future::pending()).await;
    assert_eq!(rejected.unwrap_err().exit_code(), 78);
}

/// None of ten thousand messages in a burst is lost or reordered.
#[tokio::test]
async fn a_burst_is_recorded_completely() {
    const COUNT: u64 = 10_000;
    let server = Server::start(|mut peer: Peer| async move {
        for number in 0..COUNT {
            peer.send_text(&number.to_string()).await;
        }
        peer.wait_for_disconnect().await;
    })
    .await;
    let directory = TempDir::new().unwrap();
    let plan = CapturePlan {
        compress: true,
        rotate: Some(Duration::from_secs(1)),
        ..plan(own(&server.url("/x")), quick(), &directory)
    };
    let begun = Instant::now();
    let outcome =
        until(plan, &directory, |manifest| manifest["sources"][0]["messages"] == COUNT).await;
    let expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    assert_eq!(raws(&outcome.directory), expected, "{:?}", begun.elapsed());
    assert_eq!(outcome.status.lost, 0);
}
