//! Start and end of a recording, and the thread that writes it.
//!
//! The thread appends the queued messages, and once [`SYNC_EVERY`] has passed it syncs the files
//! and replaces the manifest. A disk failure ends the recording and nothing else: data on disk
//! stays, the manifest records the failure if it can still be written, and the owner of the
//! [`ActiveRecording`] is notified.

use std::{
    borrow::Cow,
    io,
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
    disk::{Disk, StreamFile},
    format::{self, RecordLine},
    manifest::{MANIFEST_FILE, Manifest, SourceEntry},
    prices::{PriceFiles, PriceRecorder},
    queue::{
        MessageBatch, QUEUE_BYTES_MAX, QueuedMessage, RecorderState, RecordingStatus,
        SourceRecorder,
    },
    steam_ids,
};
use crate::{
    clock,
    config::prices::PriceSource,
    domain::time::UnixMs,
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint, priority},
};

/// Interval between syncs of data and manifest.
pub const SYNC_EVERY: Duration = Duration::from_millis(500);
/// Maximum number of sources per session.
pub const SOURCES_MAX: usize = 64;
/// Interval between polls of the queue.
const WAKE_EVERY: Duration = Duration::from_millis(20);
/// Maximum wait for the disk at the end.
const FINISH_MAX: Duration = Duration::from_secs(10);
/// Maximum number of sessions that start in the same second.
const NAMES_MAX: u32 = 1_000;

/// One stream to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSource {
    /// Source as given on the command line.
    pub name: String,
    /// Address. Its query is not recorded.
    pub address: String,
    /// Symbol: the name of the directory.
    pub symbol: String,
    /// Stream: the name of the file.
    pub stream: String,
}

/// Settings of a recording.
#[derive(Clone, Debug)]
pub struct RecordingConfig {
    /// Parent directory of the sessions; created if it does not exist.
    pub directory: PathBuf,
    pub sources: Vec<StreamSource>,
    /// Interval between new files of a stream; `None` for a single file.
    pub rotate: Option<Duration>,
    /// Compresses the files with zstd.
    pub compress: bool,
    /// Capacity of the queue, in bytes.
    pub queue_bytes_max: usize,
}

impl RecordingConfig {
    /// Records these sources, uncompressed and in one file each.
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

/// Reads the progress of a recording, also after its end.
#[derive(Clone, Debug)]
pub struct RecordingObserver(Arc<RecorderState>);

impl RecordingObserver {
    pub fn status(&self) -> RecordingStatus {
        self.0.status()
    }
}

/// End of a session, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingEnd {
    /// Reason of the end, for display.
    pub reason: String,
    /// `true` if the session ended as requested.
    pub is_success: bool,
}

/// A session that is being recorded. If it is dropped without [`finish`](Self::finish), the
/// recording is incomplete.
#[derive(Debug)]
pub struct ActiveRecording {
    shared: Arc<RecorderState>,
    directory: PathBuf,
    end_sender: mpsc::SyncSender<RecordingEnd>,
    thread: thread::Thread,
    finished: mpsc::Receiver<bool>,
}

impl ActiveRecording {
    /// Starts a session: creates its directory, a file for each source, the manifest and the
    /// thread.
    ///
    /// # Errors
    ///
    /// Returns a [`RecordingError`] when one of these cannot be created.
    pub fn start<D: Disk>(config: RecordingConfig, disk: D) -> Result<Self, RecordingError> {
        if config.sources.len() > SOURCES_MAX {
            return Err(RecordingError::Sources { max: SOURCES_MAX });
        }
        let started_ns = clock::now_ns();
        let (directory, session) = create_session(&disk, &config.directory, clock::wall())?;
        let shared = Arc::new(RecorderState::new(config.sources.len(), config.queue_bytes_max));
        let mut streams = Vec::with_capacity(config.sources.len());
        for source in &config.sources {
            let below = directory.join(format::sanitize_file_name(&source.symbol));
            let name = format::sanitize_file_name(&source.stream);
            streams.push(StreamFile::create(&disk, below, name, config.compress)?);
        }
        let (end_sender, end_receiver) = mpsc::sync_channel(1);
        let (finish, finished) = mpsc::sync_channel(1);
        let writer = RecordingThread {
            shared: Arc::clone(&shared),
            manifest_path: directory.join(MANIFEST_FILE),
            config,
            session,
            started_ns,
            prices: PriceFiles::new(&directory),
            disk,
            streams,
        };
        writer.write_manifest(None)?;
        info!("Recording to {}", directory.display());
        let thread = thread::Builder::new()
            .name(ThreadName::Recorder.to_string())
            .spawn(move || {
                let guard = ThreadGuard::new(ThreadName::Recorder, Alarm::global());
                priority::lower(ThreadName::Recorder);
                let is_whole = writer.run(&end_receiver, guard);
                // The owner may have been dropped.
                let _owner_dropped = finish.send(is_whole);
            })
            .map_err(RecordingError::Thread)?;
        let thread = thread.thread().clone();
        Ok(Self { shared, directory, end_sender, thread, finished })
    }

    /// Returns the directory of the session.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the recorder of the source with this index.
    pub fn recorder(&self, source: usize) -> SourceRecorder {
        SourceRecorder { shared: Arc::clone(&self.shared), source }
    }

    pub fn status(&self) -> RecordingStatus {
        self.shared.status()
    }

    /// Returns the recorder of the reference prices of these sources.
    pub fn price_recorder(&self, sources: &[PriceSource]) -> PriceRecorder {
        self.shared.set_price_sources(sources);
        PriceRecorder(Arc::clone(&self.shared))
    }

    /// Returns an observer that stays valid after the end.
    pub fn observer(&self) -> RecordingObserver {
        RecordingObserver(Arc::clone(&self.shared))
    }

    /// Returns the disk error, if the disk has failed.
    pub fn failure(&self) -> Option<Arc<RecordingError>> {
        self.shared.failure.borrow().clone()
    }

    /// Waits until the disk fails; pending forever if it does not.
    ///
    /// # Cancel safety
    ///
    /// Safe: a failure is kept.
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

    /// Ends the session: writes the queued messages and the manifest. Returns `true` if the
    /// recording is complete. Waits at most [`FINISH_MAX`] for the disk.
    ///
    /// # Errors
    ///
    /// Returns the [`RecordingError`] that ended it early, or [`RecordingError::Late`].
    pub fn finish(self, ended: RecordingEnd) -> Result<bool, Arc<RecordingError>> {
        // The channel is empty; if its receiver is gone, the disk has failed, which is reported
        // below.
        drop(self.end_sender.try_send(ended));
        self.signal_stop();
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

    fn signal_stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for ActiveRecording {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

/// Creates the session's directory under a free name.
fn create_session<D: Disk>(
    disk: &D,
    directory: &Path,
    now: UnixMs,
) -> Result<(PathBuf, String), RecordingError> {
    let create = |path: &Path, source| RecordingError::Create { path: path.to_path_buf(), source };
    disk.create_directories(directory).map_err(|source| create(directory, source))?;
    for attempt in 1..=NAMES_MAX {
        let name = format::session_name(now, attempt);
        let path = directory.join(&name);
        match disk.create_directory(&path) {
            Ok(()) => return Ok((path, name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(create(&path, error)),
        }
    }
    Err(RecordingError::NoName { directory: directory.to_path_buf() })
}

/// State of the recording thread.
struct RecordingThread<D: Disk> {
    shared: Arc<RecorderState>,
    config: RecordingConfig,
    session: String,
    started_ns: u64,
    manifest_path: PathBuf,
    prices: PriceFiles<D>,
    disk: D,
    streams: Vec<StreamFile<D>>,
}

impl<D: Disk> RecordingThread<D> {
    /// Writes until the session ends or the disk fails. Returns `true` if the recording is
    /// complete.
    fn run(mut self, end_receiver: &mpsc::Receiver<RecordingEnd>, guard: ThreadGuard) -> bool {
        let written = self.write(end_receiver);
        // A disk failure ends the recording and nothing else.
        if written.is_err() || self.shared.is_stopping.load(Ordering::Acquire) {
            guard.finished();
        }
        written.unwrap_or_else(|error| {
            self.on_disk_failure(error);
            false
        })
    }

    fn write(
        &mut self,
        end_receiver: &mpsc::Receiver<RecordingEnd>,
    ) -> Result<bool, RecordingError> {
        let mut batch = MessageBatch::default();
        let mut synced = Instant::now();
        loop {
            if failpoint(ThreadName::Recorder) {
                return Ok(false);
            }
            // Read before the buffer is taken, so that no message is missed.
            let is_stopping = self.shared.is_stopping.load(Ordering::Acquire);
            if is_stopping {
                self.shared.close(&mut batch);
            } else {
                self.shared.swap_batch(&mut batch);
            }
            self.write_batch(&batch)?;
            self.write_prices()?;
            let was_empty = batch.is_empty();
            batch.clear();
            if is_stopping {
                self.sync()?;
                let ended = end_receiver.try_recv().ok();
                return self.write_manifest(Some(&ended.unwrap_or_else(|| RecordingEnd {
                    reason: "dropped".to_owned(),
                    is_success: false,
                })));
            }
            if synced.elapsed() >= SYNC_EVERY {
                self.sync()?;
                self.write_manifest(None)?;
                synced = Instant::now();
                self.rotate()?;
            }
            if was_empty {
                thread::park_timeout(WAKE_EVERY);
            }
        }
    }

    fn write_batch(&mut self, batch: &MessageBatch) -> Result<(), RecordingError> {
        let Self { shared, streams, .. } = self;
        for (entry, message) in batch.messages() {
            let Some(stream) = streams.get_mut(entry.source) else { continue };
            let masked = secret::mask(message);
            if matches!(masked, Cow::Owned(_)) {
                stream.count_redacted();
            }
            let masked = steam_ids::mask(masked);
            let QueuedMessage { ns, conn, has_successor: more, .. } = entry;
            let appended = stream.add(&RecordLine { ns, conn, more, raw: masked })?;
            shared.disk_bytes.fetch_add(appended, Ordering::Relaxed);
            shared.messages.fetch_add(1, Ordering::Relaxed);
            let bytes = u64::try_from(message.len()).unwrap_or(u64::MAX);
            shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_prices(&mut self) -> Result<(), RecordingError> {
        let waiting = self.shared.take_prices();
        self.prices.write(&self.disk, &waiting)
    }

    /// Appends and syncs all collected messages.
    fn sync(&mut self) -> Result<(), RecordingError> {
        for stream in &mut self.streams {
            let appended = stream.append()?;
            self.shared.disk_bytes.fetch_add(appended, Ordering::Relaxed);
        }
        self.streams.iter_mut().try_for_each(StreamFile::sync)
    }

    fn rotate(&mut self) -> Result<(), RecordingError> {
        let Some(every) = self.config.rotate else { return Ok(()) };
        let disk = &self.disk;
        self.streams.iter_mut().try_for_each(|stream| stream.rotate(disk, every))
    }

    /// Handles a disk failure: closes the queue and publishes the error.
    fn on_disk_failure(&mut self, error: RecordingError) {
        self.shared.close(&mut MessageBatch::default());
        for (stream, counters) in self.streams.iter_mut().zip(&self.shared.sources) {
            // Messages appended before may still be synced.
            drop(stream.sync());
            let lost =
                counters.accepted.load(Ordering::Relaxed).saturating_sub(stream.synced.messages);
            counters.lost.fetch_add(lost, Ordering::Relaxed);
        }
        let source = std::error::Error::source(&error);
        let reason = source.map_or(error.to_string(), |source| format!("{error}: {source}"));
        error!("Recording stopped: {reason}");
        // This may fail like the rest; the last complete manifest then still marks the session as
        // running.
        drop(self.write_manifest(Some(&RecordingEnd { reason, is_success: false })));
        self.shared.failure.send_replace(Some(Arc::new(error)));
    }

    /// Replaces the manifest. Returns `true` if the recording is complete.
    fn write_manifest(&self, ended: Option<&RecordingEnd>) -> Result<bool, RecordingError> {
        let sources = self.config.sources.iter().zip(&self.streams).zip(&self.shared.sources);
        let sources = sources.map(|((source, stream), counters)| {
            let symbol = format::sanitize_file_name(&source.symbol);
            let file = format::part_file_name(
                &format::sanitize_file_name(&source.stream),
                1,
                self.config.compress,
            );
            SourceEntry {
                name: without_query(&source.name),
                address: without_query(&source.address),
                symbol: &source.symbol,
                stream: &source.stream,
                file: format!("{symbol}/{file}"),
                counts: stream.synced,
                lost: counters.lost.load(Ordering::Relaxed),
                binary_skipped: counters.binary_skipped.load(Ordering::Relaxed),
                too_long: counters.too_long.load(Ordering::Relaxed),
                connections: counters.connections().clone(),
            }
        });
        let manifest = Manifest {
            session: &self.session,
            started_ns: self.started_ns,
            now_ns: clock::now_ns(),
            ended,
            sources: sources.collect(),
        };
        let path = &self.manifest_path;
        // Causes of gaps contain text of the server.
        let mut json = manifest.to_json();
        secret::mask_own_json(&mut json);
        let written = self.disk.replace(path, &json);
        written.map_err(|source| RecordingError::Write { path: path.clone(), source })?;
        Ok(manifest.is_complete())
    }
}

/// Queries can contain keys.
fn without_query(address: &str) -> &str {
    address.split('?').next().unwrap_or_default()
}

/// Cause of a recording that could not start, or that stopped early.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("could not create {}; check the permissions and the free space of the directory", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("could not write {}; check the free space; the data written before is kept", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Too many sessions started in the same second.
    #[error("no free session name in {}; start the recording again", directory.display())]
    NoName { directory: PathBuf },
    #[error("too many sources: at most {max} per session; record the rest in another session")]
    Sources { max: usize },
    #[error("could not start the recording thread")]
    Thread(#[source] io::Error),
    #[error("the disk was too slow to finish the recording; its end is missing")]
    Late,
}
