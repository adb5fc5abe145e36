//! Tests of a whole recording, with a disk that can be full, slow or torn.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    config::Credential,
    ws::{HandledMessage, MessageRecorder as _},
};

/// Maximum wait for a condition.
const DEADLINE: Duration = Duration::from_secs(20);

/// A disk with little space, or one that blocks until it is opened.
#[derive(Clone, Default)]
struct FailingDisk {
    left: Option<Arc<AtomicU64>>,
    gate: Option<Arc<(Mutex<bool>, Condvar)>>,
}

impl FailingDisk {
    fn with_space(bytes: u64) -> Self {
        Self { left: Some(Arc::new(AtomicU64::new(bytes))), gate: None }
    }

    fn closed() -> Self {
        Self { left: None, gate: Some(Arc::default()) }
    }

    fn open(&self) {
        let (is_open, changed) = &**self.gate.as_ref().unwrap();
        *is_open.lock().unwrap() = true;
        changed.notify_all();
    }
}

struct FailingFile {
    file: File,
    disk: FailingDisk,
}

impl Disk for FailingDisk {
    type File = FailingFile;

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directory(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_directories(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<FailingFile> {
        Ok(FailingFile { file: RealDisk.create_file(path)?, disk: self.clone() })
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        RealDisk.replace(path, bytes)
    }
}

impl DiskFile for FailingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(gate) = &self.disk.gate {
            let is_open = gate.0.lock().unwrap();
            drop(gate.1.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
        let len = u64::try_from(bytes.len()).unwrap();
        if let Some(left) = &self.disk.left {
            let room = left.load(Ordering::Relaxed).min(len);
            left.fetch_sub(room, Ordering::Relaxed);
            self.file.append(&bytes[..usize::try_from(room).unwrap()])?;
            if room < len {
                return Err(io::ErrorKind::StorageFull.into());
            }
            return Ok(());
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

fn source(symbol: &str, stream: &str) -> StreamSource {
    StreamSource {
        name: format!("{symbol}@{stream}"),
        address: "ws://127.0.0.1:1/ws?key=hidden".to_owned(),
        symbol: symbol.to_owned(),
        stream: stream.to_owned(),
    }
}

fn config(directory: &TempDir) -> RecordingConfig {
    RecordingConfig::new(
        directory.path(),
        vec![source("BTCUSDT", "depth"), source("BTCUSDT", "bookTicker")],
    )
}

fn ended_as_requested() -> RecordingEnd {
    RecordingEnd { reason: "the time is over".to_owned(), is_success: true }
}

fn manifest(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join(MANIFEST_FILE)).unwrap()).unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "timed out: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn read(directory: &Path) -> Vec<(usize, u32, String)> {
    let messages = Recording::open(directory).unwrap().messages();
    messages
        .map(Result::unwrap)
        .map(|message| (message.source, message.conn, message.raw))
        .collect()
}

#[test]
fn messages_are_read_back_unchanged_and_in_order() {
    for compress in [false, true] {
        let directory = TempDir::new().unwrap();
        let recording =
            ActiveRecording::start(RecordingConfig { compress, ..config(&directory) }, RealDisk)
                .unwrap();
        let recorders = [recording.recorder(0), recording.recorder(1)];
        let mut expected = Vec::new();
        for number in 0..1_000_usize {
            let raw = format!("{{\"n\":{number},\"s\":\"★\\n\u{1}\"}}\n");
            let source = number % 3 % 2;
            recorders[source].on_message(1, &raw, HandledMessage::new(Instant::now(), true));
            expected.push((source, 1, raw));
        }
        let session = recording.directory().to_path_buf();
        assert!(recording.finish(ended_as_requested()).unwrap());
        assert_eq!(read(&session), expected, "compress: {compress}");
        assert!(Recording::open(&session).unwrap().is_complete());
        let written = manifest(&session);
        assert_eq!(written["complete"], true);
        assert_eq!(written["running"], false);
        let sum = |key: &str| -> u64 {
            written["sources"].as_array().unwrap().iter().map(|s| s[key].as_u64().unwrap()).sum()
        };
        assert_eq!(sum("messages"), 1_000);
        let bytes: usize = expected.iter().map(|(_, _, raw)| raw.len()).sum();
        assert_eq!(sum("bytes"), u64::try_from(bytes).unwrap());
        assert_eq!(sum("lost"), 0);
    }
}

#[test]
fn files_and_manifest_exist_from_the_start() {
    let directory = TempDir::new().unwrap();
    let recording = ActiveRecording::start(config(&directory), RealDisk).unwrap();
    assert!(recording.directory().join("BTCUSDT/depth.jsonl").is_file());
    let written = manifest(recording.directory());
    assert_eq!(written["complete"], false);
    assert_eq!(written["running"], true);
    assert_eq!(written["sources"][1]["symbol"], "BTCUSDT");
    assert_eq!(written["sources"][1]["stream"], "bookTicker");
    assert_eq!(written["sources"][1]["file"], "BTCUSDT/bookTicker.jsonl");
    assert!(!written.to_string().contains("hidden"), "{written}");
}

#[test]
fn messages_are_on_disk_while_the_recording_runs() {
    for compress in [false, true] {
        let directory = TempDir::new().unwrap();
        let recording =
            ActiveRecording::start(RecordingConfig { compress, ..config(&directory) }, RealDisk)
                .unwrap();
        let recorder = recording.recorder(0);
        recorder.on_message(1, "first", HandledMessage::new(Instant::now(), true));
        wait_until("the manifest to count it", || {
            manifest(recording.directory())["sources"][0]["messages"] == 1
        });
        assert_eq!(read(recording.directory()), [(0, 1, "first".to_owned())]);
        let source_entry = &manifest(recording.directory())["sources"][0];
        assert_eq!(source_entry["first_ns"], source_entry["last_ns"]);
        recorder.on_message(1, "second", HandledMessage::new(Instant::now(), true));
        wait_until("the second line", || read(recording.directory()).len() == 2);
    }
}

#[test]
fn a_session_never_overwrites_another() {
    let directory = TempDir::new().unwrap();
    let recordings: Vec<ActiveRecording> = (0..5)
        .map(|_index| ActiveRecording::start(config(&directory), RealDisk).unwrap())
        .collect();
    let mut paths: Vec<PathBuf> =
        recordings.iter().map(|recording| recording.directory().to_owned()).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 5);
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(
        matches!(RealDisk.create_file(&file), Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
    );
}

#[test]
fn directories_and_files_are_private_to_the_owner() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = TempDir::new().unwrap();
    let [deep, inner] = ["deep", "deep/inner"].map(|name| directory.path().join(name));
    RealDisk.create_directories(&inner).unwrap();
    let single = deep.join("single");
    RealDisk.create_directory(&single).unwrap();
    let [created, replaced] = ["created", "replaced"].map(|name| single.join(name));
    drop(RealDisk.create_file(&created).unwrap());
    RealDisk.replace(&replaced, b"text").unwrap();
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([&deep, &inner, &single].map(mode), [0o700; 3]);
    assert_eq!([&created, &replaced].map(mode), [0o600; 2]);
}

#[test]
fn a_full_disk_ends_the_recording_and_every_line_is_accounted_for() {
    let directory = TempDir::new().unwrap();
    let recording =
        ActiveRecording::start(config(&directory), FailingDisk::with_space(10_000)).unwrap();
    let recorder = recording.recorder(0);
    let mut sent = 0_u64;
    wait_until("the disk to be full", || {
        recorder.on_message(1, &"x".repeat(100), HandledMessage::new(Instant::now(), true));
        sent += 1;
        recording.failure().is_some()
    });
    for _late in 0..10 {
        recorder.on_message(1, "too late", HandledMessage::new(Instant::now(), true));
        sent += 1;
    }
    let (session, status) = (recording.directory().to_path_buf(), recording.status());
    let error = recording.finish(ended_as_requested()).unwrap_err();
    assert!(matches!(&*error, RecordingError::Write { .. }), "{error:?}");
    let read = u64::try_from(read(&session).len()).unwrap();
    let written = manifest(&session);
    assert_eq!(written["complete"], false);
    assert!(written["ended_because"].as_str().unwrap().contains("depth.jsonl"), "{written}");
    let safe = written["sources"][0]["messages"].as_u64().unwrap();
    assert!(safe <= read, "{safe} {read}");
    assert_eq!(safe + status.lost, sent);
}

#[test]
fn a_slow_disk_does_not_block_and_lost_messages_are_counted() {
    let directory = TempDir::new().unwrap();
    let disk = FailingDisk::closed();
    let queue_bytes_max = 64 * 1024;
    let recording = ActiveRecording::start(
        RecordingConfig { queue_bytes_max, ..config(&directory) },
        disk.clone(),
    )
    .unwrap();
    let recorder = recording.recorder(0);
    let (begun, mut sent) = (Instant::now(), 0_usize);
    while recording.status().lost < 100 {
        assert!(begun.elapsed() < DEADLINE);
        recorder.on_message(1, &"x".repeat(1_000), HandledMessage::new(Instant::now(), true));
        sent += 1;
    }
    disk.open();
    let session = recording.directory().to_path_buf();
    let lost = usize::try_from(recording.status().lost).unwrap();
    assert!(
        !recording.finish(ended_as_requested()).unwrap(),
        "a recording with lost messages is not complete"
    );
    assert_eq!(read(&session).len() + lost, sent);
    assert_eq!(manifest(&session)["sources"][0]["lost"], lost);
}

#[test]
fn a_gap_reaches_from_the_last_proof_of_life_to_the_first_data() {
    let directory = TempDir::new().unwrap();
    let recording = ActiveRecording::start(config(&directory), RealDisk).unwrap();
    let recorder = recording.recorder(1);
    recorder.on_dial();
    recorder.on_connected();
    recorder.on_message(1, "data", HandledMessage::new(Instant::now(), true));
    let alive = Instant::now();
    recorder.on_disconnected(alive, "the connection was cut");
    recorder.on_dial();
    recorder.on_disconnected(Instant::now(), "refused");
    recorder.on_dial();
    wait_until("the open gap in the manifest", || {
        let gaps = &manifest(recording.directory())["sources"][1]["connection_gaps"];
        gaps[0]["open"] == true && gaps[0]["attempts"] == 2
    });
    recorder.on_connected();
    recorder.on_message(2, "an acknowledgment", HandledMessage::new(Instant::now(), false));
    assert!(recorder.connections().is_down(), "only data ends a gap");
    recorder.on_message(2, "data", HandledMessage::new(Instant::now(), true));
    recorder.on_backfilled();
    recorder.on_backfilled();
    let session = recording.directory().to_path_buf();
    assert!(recording.finish(ended_as_requested()).unwrap());
    let written = manifest(&session);
    let gap = &written["connection_gaps"][0];
    assert_eq!(written["total_reconnects"], 1);
    assert_eq!(written["connection_gaps"].as_array().unwrap().len(), 1);
    assert_eq!(gap["cause"], "the connection was cut");
    assert_eq!((&gap["open"], &gap["attempts"]), (&Value::Bool(false), &Value::from(2)));
    assert_eq!((&gap["back_filled"], &gap["symbol"]), (&Value::from(2), &Value::from("BTCUSDT")));
    let messages = Recording::open(&session).unwrap().messages();
    let messages: Vec<RecordedMessage> = messages.map(Result::unwrap).collect();
    assert_eq!(gap["to_ns"], messages[2].ns);
    assert!(gap["from_ns"].as_u64().unwrap() <= messages[1].ns);
}

#[test]
fn listed_gaps_are_bounded_and_all_gaps_are_counted() {
    let mut connections = manifest::ConnectionCounts::default();
    let total = u64::try_from(GAPS_MAX).unwrap() + 5;
    for at in 0..total {
        connections.begin_gap(manifest::RecordedGap {
            from_ns: at,
            to_ns: None,
            attempts: 0,
            cause: String::new(),
            back_filled: 0,
        });
        assert!(connections.is_down());
        connections.open_gap().unwrap().to_ns = Some(at);
    }
    assert_eq!(connections.gaps.len(), GAPS_MAX);
    assert_eq!(connections.gap_count(), total);
    assert_eq!(connections.gaps.last().unwrap().from_ns, total - 1);
}

#[test]
fn a_credential_is_replaced_at_the_same_length_in_messages_and_in_the_manifest() {
    let directory = TempDir::new().unwrap();
    Credential::from_cookie("a=1; session=s%3Ahunter2hunter2").unwrap();
    let recording = ActiveRecording::start(config(&directory), RealDisk).unwrap();
    let recorder = recording.recorder(0);
    recorder.on_message(
        1,
        r#"{"echo":"Cookie: session=s%3Ahunter2hunter2"}"#,
        HandledMessage::new(Instant::now(), true),
    );
    recorder.on_message(1, r#"{"a":1}"#, HandledMessage::new(Instant::now(), true));
    recorder.on_message(
        1,
        r#"{"echo":"s:hunter2hunter2"}"#,
        HandledMessage::new(Instant::now(), true),
    );
    recorder.on_disconnected(
        Instant::now(),
        "closed by the server with 4403: session=s%3Ahunter2hunter2",
    );
    let session = recording.directory().to_path_buf();
    assert!(recording.finish(ended_as_requested()).unwrap());
    let expected = [
        r#"{"echo":"Cookie: session=******************"}"#,
        r#"{"a":1}"#,
        r#"{"echo":"****************"}"#,
    ];
    assert_eq!(read(&session), expected.map(|raw| (0, 1, raw.to_owned())));
    let written = manifest(&session);
    assert_eq!(written["sources"][0]["redacted"], 2);
    let cause = &written["connection_gaps"][0]["cause"];
    assert_eq!(cause, "closed by the server with 4403: session=******************");
}

#[test]
fn binary_messages_are_counted_and_skipped() {
    let directory = TempDir::new().unwrap();
    let recording = ActiveRecording::start(config(&directory), RealDisk).unwrap();
    recording.recorder(0).on_binary();
    let session = recording.directory().to_path_buf();
    assert!(
        !recording.finish(ended_as_requested()).unwrap(),
        "a recording of nothing is not complete"
    );
    assert_eq!(manifest(&session)["sources"][0]["binary_skipped"], 1);
    assert_eq!(read(&session), []);
}

#[test]
fn a_dropped_recording_is_not_complete() {
    let directory = TempDir::new().unwrap();
    let recording = ActiveRecording::start(config(&directory), RealDisk).unwrap();
    recording.recorder(0).on_message(1, "a", HandledMessage::new(Instant::now(), true));
    let session = recording.directory().to_path_buf();
    drop(recording);
    wait_until("the thread to end", || manifest(&session)["running"] == false);
    assert_eq!(manifest(&session)["complete"], false);
    assert_eq!(read(&session).len(), 1);
}

#[test]
fn rotated_parts_are_read_as_one_stream() {
    for compress in [false, true] {
        let directory = TempDir::new().unwrap();
        let rotate = Some(Duration::from_millis(1));
        let recording = ActiveRecording::start(
            RecordingConfig { rotate, compress, ..config(&directory) },
            RealDisk,
        )
        .unwrap();
        let recorder = recording.recorder(0);
        let mut sent = 0_usize;
        wait_until("three parts", || {
            recorder.on_message(1, &sent.to_string(), HandledMessage::new(Instant::now(), true));
            sent += 1;
            manifest(recording.directory())["sources"][0]["parts"].as_u64() >= Some(3)
        });
        let session = recording.directory().to_path_buf();
        assert!(recording.finish(ended_as_requested()).unwrap());
        let lines: Vec<String> = read(&session).into_iter().map(|(_, _, raw)| raw).collect();
        let expected: Vec<String> = (0..sent).map(|number| number.to_string()).collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_torn_last_line_is_skipped_and_a_modified_line_is_an_error() {
    for compress in [false, true] {
        let directory = TempDir::new().unwrap();
        let recording =
            ActiveRecording::start(RecordingConfig { compress, ..config(&directory) }, RealDisk)
                .unwrap();
        let recorder = recording.recorder(0);
        recorder.on_message(1, "first", HandledMessage::new(Instant::now(), true));
        wait_until("the first line", || {
            manifest(recording.directory())["sources"][0]["messages"] == 1
        });
        let session = recording.directory().to_path_buf();
        let end = if compress { "jsonl.zst" } else { "jsonl" };
        let path = session.join(format!("BTCUSDT/depth.{end}"));
        let whole = fs::read(&path).unwrap().len();
        recorder.on_message(1, "second", HandledMessage::new(Instant::now(), true));
        recording.finish(ended_as_requested()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for len in whole..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert_eq!(read(&session), [(0, 1, "first".to_owned())], "{len} of {}", bytes.len());
        }
        if !compress {
            let changed = String::from_utf8(bytes).unwrap().replacen("\"ns\"", "\"n?\"", 1);
            fs::write(&path, changed).unwrap();
            let mut messages = Recording::open(&session).unwrap().messages();
            assert!(matches!(messages.next(), Some(Err(RecordingReadError::Line { line: 1, .. }))));
            assert!(messages.next().is_none());
        }
    }
}

#[test]
fn a_manifest_with_an_outside_path_is_rejected() {
    let directory = TempDir::new().unwrap();
    let text = r#"{"complete":true,"sources":[
        {"source":"x","symbol":"x","stream":"x","file":"../../etc/passwd.jsonl"}]}"#;
    fs::write(directory.path().join(MANIFEST_FILE), text).unwrap();
    assert!(matches!(Recording::open(directory.path()), Err(RecordingReadError::Outside { .. })));
    assert!(matches!(Recording::open("nowhere"), Err(RecordingReadError::Read { .. })));
}

#[test]
fn only_a_missing_manifest_is_reported_as_a_wrong_directory() {
    let directory = TempDir::new().unwrap();
    let advice = "; specify the directory of one session";
    let missing = Recording::open(directory.path()).unwrap_err().to_string();
    assert!(missing.ends_with(&format!("{MANIFEST_FILE}{advice}")), "{missing}");
    let text = r#"{"complete":true,"sources":[
        {"source":"x","symbol":"x","stream":"x","file":"x/y.jsonl"}]}"#;
    fs::write(directory.path().join(MANIFEST_FILE), text).unwrap();
    let recording = Recording::open(directory.path()).unwrap();
    let missing = recording.messages().next().unwrap().unwrap_err().to_string();
    assert!(missing.ends_with("x/y.jsonl"), "{missing}");
}

#[test]
fn an_unwritable_directory_is_an_error_at_the_start() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let result =
        ActiveRecording::start(RecordingConfig::new(&file, vec![source("A", "b")]), RealDisk);
    assert!(matches!(result, Err(RecordingError::Create { .. })), "{result:?}");
    let many = vec![source("A", "b"); SOURCES_MAX + 1];
    let result = ActiveRecording::start(RecordingConfig::new(directory.path(), many), RealDisk);
    assert!(matches!(result, Err(RecordingError::Sources { .. })), "{result:?}");
}
