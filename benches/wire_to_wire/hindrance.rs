//! Interference that must not delay the sniper: a slow log, a busy disk and a slow recording.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sniper::{
    markets::Marketplace,
    recording::{ActiveRecording, Disk, DiskFile, RecordingConfig, StreamSource},
    ws::Feed,
};

/// Duration of one slow write.
const SLOW: Duration = Duration::from_millis(500);
/// Bytes of each synced write of the busy disk.
const BALLAST: usize = 1024 * 1024;

/// Set while writes to the log are slow.
static LOG_IS_SLOW: AtomicBool = AtomicBool::new(false);

/// Kind of interference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    SlowLog,
    BusyDisk,
    SlowRecording,
}

/// Interference in progress, which ends when it is dropped.
pub(crate) enum ActiveHindrance {
    Log,
    Disk(BusyDisk),
    Recording(#[expect(dead_code, reason = "dropping it ends the recording")] Box<ActiveRecording>),
}

impl Hindrance {
    pub(crate) fn start<M: Marketplace>(self, feed: &Feed<M>, folder: &Path) -> ActiveHindrance {
        match self {
            Self::SlowLog => {
                LOG_IS_SLOW.store(true, Ordering::Relaxed);
                ActiveHindrance::Log
            }
            Self::BusyDisk => ActiveHindrance::Disk(BusyDisk::start(folder)),
            Self::SlowRecording => {
                let [name, address, symbol, stream] =
                    ["bench", "ws://127.0.0.1", "all", "trades"].map(str::to_owned);
                let source = StreamSource { name, address, symbol, stream };
                let config = RecordingConfig::new(folder.join("recording"), vec![source]);
                let recording = ActiveRecording::start(config, SlowDisk).unwrap();
                assert!(
                    feed.metrics.set_recorder(Arc::new(recording.recorder(0))),
                    "a recorder is already set"
                );
                ActiveHindrance::Recording(Box::new(recording))
            }
        }
    }
}

impl Drop for ActiveHindrance {
    fn drop(&mut self) {
        match self {
            Self::Log => LOG_IS_SLOW.store(false, Ordering::Relaxed),
            Self::Disk(disk) => disk.stop(),
            Self::Recording(_) => {}
        }
    }
}

/// Log output that discards everything, slowly under [`Hindrance::SlowLog`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if LOG_IS_SLOW.load(Ordering::Relaxed) {
            thread::sleep(SLOW);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes and syncs continuously on the ledger's disk.
pub(crate) struct BusyDisk {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl BusyDisk {
    fn start(folder: &Path) -> Self {
        let (is_over, path) = (Arc::new(AtomicBool::new(false)), folder.join("ballast"));
        let stopped = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let ballast = vec![7; BALLAST];
            while !stopped.load(Ordering::Relaxed) {
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(&ballast).unwrap();
                file.sync_all().unwrap();
            }
        });
        Self { is_over, thread: Some(thread) }
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A recording disk with slow writes that stores nothing.
struct SlowDisk;

struct SlowFile;

impl Disk for SlowDisk {
    type File = SlowFile;

    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_directories(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_file(&self, _path: &Path) -> io::Result<SlowFile> {
        Ok(SlowFile)
    }

    fn replace(&self, _path: &Path, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SlowFile {
    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        thread::sleep(SLOW);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        thread::sleep(SLOW);
        Ok(())
    }

    fn truncate(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
