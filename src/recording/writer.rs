//! The thread that writes, and its beginning and end.
//!
//! It takes what waits, appends it, and at least every [`SYNC_EVERY`] waits until the disk has it
//! and replaces the manifest. A disk that fails ends the recording and nothing else: what is on it
//! stays, the manifest says so if it still can, and whoever owns the [`ActiveRecording`] is told.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{
    disk::Disk,
    error::RecordingError,
    manifest::{MANIFEST_FILE, Manifest, SourceEntry},
    names,
    queue::{MessageBatch, QUEUE_BYTES_MAX, RecorderState, RecordingStatus, SourceRecorder},
    stream::StreamFile,
};
use crate::{
    clock,
    domain::time::UnixMs,
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

/// How often data and manifest are made sure of.
pub const SYNC_EVERY: Duration = Duration::from_millis(500);
/// The most sources of one session.
pub const SOURCES_MAX: usize = 64;
/// How often the thread looks for messages.
const WAKE_EVERY: Duration = Duration::from_millis(20);
/// How long the end waits for the disk.
const FINISH_MAX: Duration = Duration::from_secs(10);
/// How many sessions can begin in the same second.
const NAMES_MAX: u32 = 1_000;

/// One stream to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSource {
    /// What was asked for, as on the command line.
    pub name: String,
    /// The address. Its query is not written down.
    pub address: String,
    /// The symbol: the directory.
    pub symbol: String,
    /// The stream: the file.
    pub stream: String,
}

/// What to record, and where.
#[derive(Clone, Debug)]
pub struct RecordingConfig {
    /// Where sessions are kept; made if it does not exist.
    pub directory: PathBuf,
    /// What is recorded.
    pub sources: Vec<StreamSource>,
    /// A new file for each stream after this long; `None`: one file.
    pub rotate: Option<Duration>,
    /// Compress with zstd.
    pub compress: bool,
    /// How much may wait to be written, in bytes.
    pub queue_bytes_max: usize,
}

impl RecordingConfig {
    /// Records these, plain and in one file each.
    pub fn new(directory: impl Into<PathBuf>, sources: Vec<StreamSource>) -> Self {
        Self {
            directory: directory.into(),
            sources,
            rotate: None,
            compress: false,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }
}

/// Says how a recording goes.
#[derive(Clone, Debug)]
pub struct RecordingObserver(Arc<RecorderState>);

impl RecordingObserver {
    /// How it goes.
    pub fn status(&self) -> RecordingStatus {
        self.0.status()
    }
}

/// How a session ended, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingEnd {
    /// Why, for a person.
    pub because: String,
    /// Whether everything that was asked for was done.
    pub as_asked: bool,
}

/// A session that is being recorded. Dropped, it ends as one that was not ended.
#[derive(Debug)]
pub struct ActiveRecording {
    shared: Arc<RecorderState>,
    directory: PathBuf,
    orders: mpsc::SyncSender<RecordingEnd>,
    thread: thread::Thread,
    finished: mpsc::Receiver<bool>,
}

impl ActiveRecording {
    /// Begins a session: its directory, a file for each source, the manifest, the thread.
    ///
    /// # Errors
    ///
    /// A [`RecordingError`] when the disk does not take as much as that.
    pub fn start<D: Disk>(setup: RecordingConfig, disk: D) -> Result<Self, RecordingError> {
        if setup.sources.len() > SOURCES_MAX {
            return Err(RecordingError::Sources { max: SOURCES_MAX });
        }
        let began_ns = clock::now_ns();
        let (directory, session) = make_session(&disk, &setup.directory, clock::wall())?;
        let shared = Arc::new(RecorderState::new(setup.sources.len(), setup.queue_bytes_max));
        let mut streams = Vec::with_capacity(setup.sources.len());
        for source in &setup.sources {
            let below = directory.join(names::harmless(&source.symbol));
            let name = names::harmless(&source.stream);
            streams.push(StreamFile::create(&disk, below, name, setup.compress)?);
        }
        let (orders, orders_taken) = mpsc::sync_channel(1);
        let (finish, finished) = mpsc::sync_channel(1);
        let writer = RecordingThread {
            shared: Arc::clone(&shared),
            manifest_path: directory.join(MANIFEST_FILE),
            setup,
            session,
            began_ns,
            disk,
            streams,
        };
        writer.manifest(None)?;
        info!("Recording to {}", directory.display());
        let thread = thread::Builder::new()
            .name(ThreadName::Recorder.to_string())
            .spawn(move || {
                let guard = ThreadGuard::new(ThreadName::Recorder, Alarm::of_process());
                let is_whole = writer.run(&orders_taken);
                // A disk that fails ends the recording and nothing else.
                guard.finished();
                // Nobody may wait for it any more.
                let _nobody_waits = finish.send(is_whole);
            })
            .map_err(RecordingError::Thread)?;
        let thread = thread.thread().clone();
        Ok(Self { shared, directory, orders, thread, finished })
    }

    /// Where it is recorded to.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The recorder of the source with this index.
    pub fn recorder(&self, source: usize) -> SourceRecorder {
        SourceRecorder { shared: Arc::clone(&self.shared), source }
    }

    /// How it goes.
    pub fn status(&self) -> RecordingStatus {
        self.shared.status()
    }

    /// What says how it goes, also after the end.
    pub fn observer(&self) -> RecordingObserver {
        RecordingObserver(Arc::clone(&self.shared))
    }

    /// Why the disk failed, if it has.
    pub fn failure(&self) -> Option<Arc<RecordingError>> {
        self.shared.failure.borrow().clone()
    }

    /// Waits until the disk fails, for ever if it does not.
    ///
    /// # Cancel safety
    ///
    /// Safe: a failure stays.
    pub async fn failed(&self) -> Arc<RecordingError> {
        let mut failure = self.shared.failure.subscribe();
        loop {
            if let Some(error) = failure.borrow_and_update().clone() {
                return error;
            }
            // The sender lives as long as `self`.
            let _changed = failure.changed().await;
        }
    }

    /// Ends the session: writes what waits, and the manifest. Says whether the recording is
    /// complete. Waits for the disk, though not for ever.
    ///
    /// # Errors
    ///
    /// The [`RecordingError`] that ended it early, or [`RecordingError::Late`].
    pub fn finish(self, ended: RecordingEnd) -> Result<bool, Arc<RecordingError>> {
        // It is the only order; if nobody takes it, the disk has failed, which is said below.
        drop(self.orders.try_send(ended));
        self.stop();
        let finished = self.finished.recv_timeout(FINISH_MAX);
        if let Some(error) = self.failure() {
            return Err(error);
        }
        match finished {
            Ok(is_complete) => Ok(is_complete),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(Arc::new(RecordingError::Late))
            }
        }
    }

    fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for ActiveRecording {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Finds a free name and takes it.
fn make_session<D: Disk>(
    disk: &D,
    directory: &Path,
    now: UnixMs,
) -> Result<(PathBuf, String), RecordingError> {
    let create = |path: &Path, source| RecordingError::Create { path: path.to_path_buf(), source };
    disk.create_directories(directory).map_err(|source| create(directory, source))?;
    for attempt in 1..=NAMES_MAX {
        let name = names::session(now, attempt);
        let path = directory.join(&name);
        match disk.create_directory(&path) {
            Ok(()) => return Ok((path, name)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(create(&path, error)),
        }
    }
    Err(RecordingError::NoName { directory: directory.to_path_buf() })
}

/// What the thread has.
struct RecordingThread<D: Disk> {
    shared: Arc<RecorderState>,
    setup: RecordingConfig,
    session: String,
    began_ns: u64,
    manifest_path: PathBuf,
    disk: D,
    streams: Vec<StreamFile<D>>,
}

impl<D: Disk> RecordingThread<D> {
    /// Writes until told to stop, or until the disk fails. Says whether the recording is complete.
    fn run(mut self, orders: &mpsc::Receiver<RecordingEnd>) -> bool {
        match self.write(orders) {
            Ok(is_complete) => is_complete,
            Err(error) => {
                self.give_up(error);
                false
            }
        }
    }

    fn write(&mut self, orders: &mpsc::Receiver<RecordingEnd>) -> Result<bool, RecordingError> {
        let mut batch = MessageBatch::default();
        let mut synced = Instant::now();
        loop {
            failpoint(ThreadName::Recorder);
            // Read before the buffer is taken, so that no message falls between.
            let is_stopping = self.shared.is_stopping.load(Ordering::Acquire);
            if is_stopping {
                self.shared.close(&mut batch);
            } else {
                self.shared.take(&mut batch);
            }
            self.take_in(&batch)?;
            let was_empty = batch.is_empty();
            batch.clear();
            if is_stopping {
                self.sync()?;
                let ended = orders.try_recv().ok();
                return self.manifest(Some(&ended.unwrap_or_else(|| RecordingEnd {
                    because: "dropped".to_owned(),
                    as_asked: false,
                })));
            }
            if synced.elapsed() >= SYNC_EVERY {
                self.sync()?;
                self.manifest(None)?;
                synced = Instant::now();
                self.rotate()?;
            }
            if was_empty {
                thread::park_timeout(WAKE_EVERY);
            }
        }
    }

    fn take_in(&mut self, batch: &MessageBatch) -> Result<(), RecordingError> {
        let Self { shared, streams, .. } = self;
        for (entry, message) in batch.messages() {
            let Some(stream) = streams.get_mut(entry.source) else { continue };
            let masked = secret::mask(message);
            if matches!(masked, Cow::Owned(_)) {
                stream.note_redacted();
            }
            let appended = stream.add(entry.ns, entry.conn, &masked)?;
            shared.disk_bytes.fetch_add(appended, Ordering::Relaxed);
            shared.messages.fetch_add(1, Ordering::Relaxed);
            let bytes = u64::try_from(message.len()).unwrap_or(u64::MAX);
            shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes sure that the disk has everything.
    fn sync(&mut self) -> Result<(), RecordingError> {
        for stream in &mut self.streams {
            let appended = stream.append()?;
            self.shared.disk_bytes.fetch_add(appended, Ordering::Relaxed);
        }
        self.streams.iter_mut().try_for_each(StreamFile::sync)
    }

    fn rotate(&mut self) -> Result<(), RecordingError> {
        let Some(every) = self.setup.rotate else { return Ok(()) };
        let disk = &self.disk;
        self.streams.iter_mut().try_for_each(|stream| stream.rotate(disk, every))
    }

    /// The disk failed: nothing is taken any more, and everybody is told.
    fn give_up(&mut self, error: RecordingError) {
        self.shared.close(&mut MessageBatch::default());
        for (stream, tally) in self.streams.iter_mut().zip(&self.shared.sources) {
            // What was appended before may still be saved.
            drop(stream.sync());
            let lost = tally.accepted.load(Ordering::Relaxed).saturating_sub(stream.safe.messages);
            tally.lost.fetch_add(lost, Ordering::Relaxed);
        }
        let source = std::error::Error::source(&error);
        let because = source.map_or(error.to_string(), |source| format!("{error}: {source}"));
        error!("Recording stopped: {because}");
        // It may fail like the rest; the last whole one still says that the session runs.
        drop(self.manifest(Some(&RecordingEnd { because, as_asked: false })));
        self.shared.failure.send_replace(Some(Arc::new(error)));
    }

    /// Replaces the manifest. Says whether the recording is complete.
    fn manifest(&self, ended: Option<&RecordingEnd>) -> Result<bool, RecordingError> {
        let sources = self.setup.sources.iter().zip(&self.streams).zip(&self.shared.sources);
        let sources = sources.map(|((source, stream), tally)| {
            let symbol = names::harmless(&source.symbol);
            let file = names::part(&names::harmless(&source.stream), 1, self.setup.compress);
            SourceEntry {
                name: without_query(&source.name),
                address: without_query(&source.address),
                symbol: &source.symbol,
                stream: &source.stream,
                file: format!("{symbol}/{file}"),
                counts: stream.safe,
                lost: tally.lost.load(Ordering::Relaxed),
                binary_skipped: tally.binary_skipped.load(Ordering::Relaxed),
                too_long: tally.too_long.load(Ordering::Relaxed),
                connections: tally.connections().clone(),
            }
        });
        let manifest = Manifest {
            session: &self.session,
            began_ns: self.began_ns,
            now_ns: clock::now_ns(),
            ended: ended.map(|ended| (ended.because.as_str(), ended.as_asked)),
            sources: sources.collect(),
        };
        let path = &self.manifest_path;
        // Causes of gaps hold the server's words.
        let mut json = manifest.to_json();
        secret::mask_own_json(&mut json);
        let written = self.disk.replace(path, &json);
        written.map_err(|source| RecordingError::Write { path: path.clone(), source })?;
        Ok(manifest.is_complete())
    }
}

/// Keys travel in queries.
fn without_query(address: &str) -> &str {
    address.split('?').next().unwrap_or_default()
}
