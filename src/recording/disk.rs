//! File operations of a recording, behind a trait so that tests can simulate a full or slow disk,
//! and the files of one stream.
//!
//! Lines are collected in memory and appended in whole chunks; with compression, each append is a
//! complete zstd frame, so that everything on disk can be read without the data after it.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    RecordingError,
    format::{self, RecordLine},
    manifest::StreamCounts,
};
use crate::config::load::make_directory;

/// The file operations that a recording needs.
pub trait Disk: Send + 'static {
    type File: DiskFile;

    /// Creates a directory that must not exist.
    ///
    /// # Errors
    ///
    /// Returns the error of the system; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its parents, if they do not exist.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist.
    ///
    /// # Errors
    ///
    /// Returns the error of the system; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create_file(&self, path: &Path) -> io::Result<Self::File>;

    /// Replaces a file atomically: readers see the old or the new content, even after a crash.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. The old content is then unchanged.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
}

/// An open append-only file.
pub trait DiskFile: Send {
    /// Appends all bytes to the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. Some of the bytes may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits until all appended bytes are on the disk.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    fn sync(&mut self) -> io::Result<()>;

    /// Truncates the file to `len` bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        sync_parent(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        make_directory(path)?;
        sync_parent(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        sync_parent(path)?;
        Ok(file)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        sync_parent(path)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Syncs the directory of a path: only then is a new entry of it durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Size at which collected lines are appended without waiting for the next sync.
const CHUNK_BYTES: usize = 512 * 1024;

/// The default of zstd.
pub(super) const COMPRESSION_LEVEL: i32 = 3;

/// The current file of a stream, and the lines that it does not contain yet.
pub(super) struct StreamFile<D: Disk> {
    directory: PathBuf,
    name: String,
    file: D::File,
    path: PathBuf,
    opened: Instant,
    /// Length of the file up to the last complete append.
    len: u64,
    lines: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    /// `true` if appended bytes are not synced yet.
    is_dirty: bool,
    /// `true` if the file is not empty.
    has_lines: bool,
    /// Counters of received messages.
    received: StreamCounts,
    /// Counters of appended messages.
    appended: StreamCounts,
    /// Counters of synced messages.
    pub(super) synced: StreamCounts,
}

impl<D: Disk> StreamFile<D> {
    /// Creates the stream's first file.
    pub(super) fn create(
        disk: &D,
        directory: PathBuf,
        name: String,
        is_compressed: bool,
    ) -> Result<Self, RecordingError> {
        let created = disk.create_directories(&directory);
        created.map_err(|source| RecordingError::Create { path: directory.clone(), source })?;
        let path = directory.join(format::part_file_name(&name, 1, is_compressed));
        let create = |source| RecordingError::Create { path: path.clone(), source };
        let file = disk.create_file(&path).map_err(create)?;
        let compressor =
            is_compressed.then(|| zstd::bulk::Compressor::new(COMPRESSION_LEVEL)).transpose();
        let counts = StreamCounts { parts: 1, ..StreamCounts::default() };
        Ok(Self {
            compressor: compressor.map_err(create)?,
            directory,
            name,
            file,
            path,
            opened: Instant::now(),
            len: 0,
            lines: Vec::new(),
            is_dirty: false,
            has_lines: false,
            received: counts,
            appended: counts,
            synced: counts,
        })
    }

    /// Adds one message. Returns the number of bytes appended to the file.
    pub(super) fn add(&mut self, line: &RecordLine<'_>) -> Result<u64, RecordingError> {
        let RecordLine { ns, ref raw, .. } = *line;
        line.write(&mut self.lines);
        let received = &mut self.received;
        received.messages = received.messages.saturating_add(1);
        let bytes = u64::try_from(raw.len()).unwrap_or(u64::MAX);
        received.bytes = received.bytes.saturating_add(bytes);
        received.first_ns.get_or_insert(ns);
        received.last_ns = Some(ns);
        if self.lines.len() >= CHUNK_BYTES { self.append() } else { Ok(0) }
    }

    /// Counts a message in which a credential was replaced.
    pub(super) const fn count_redacted(&mut self) {
        self.received.redacted = self.received.redacted.saturating_add(1);
    }

    /// Appends the collected lines. Returns the number of bytes appended.
    pub(super) fn append(&mut self) -> Result<u64, RecordingError> {
        if self.lines.is_empty() {
            self.appended = self.received;
            return Ok(0);
        }
        let bytes = match &mut self.compressor {
            Some(compressor) => {
                Cow::Owned(compressor.compress(&self.lines).map_err(write_error(&self.path))?)
            }
            None => Cow::Borrowed(self.lines.as_slice()),
        };
        if let Err(error) = self.file.append(&bytes) {
            // Complete appends stay; a torn end is truncated if the disk still allows it.
            drop(self.file.truncate(self.len));
            return Err(write_error(&self.path)(error));
        }
        let appended = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.len = self.len.saturating_add(appended);
        self.lines.clear();
        self.appended = self.received;
        self.is_dirty = true;
        self.has_lines = true;
        Ok(appended)
    }

    /// Waits until the appended bytes are on the disk.
    pub(super) fn sync(&mut self) -> Result<(), RecordingError> {
        if self.is_dirty {
            self.file.sync().map_err(write_error(&self.path))?;
            self.is_dirty = false;
        }
        self.synced = self.appended;
        Ok(())
    }

    /// Continues in a new file if this one has reached its maximum age and is not empty. Call after
    /// [`sync`](Self::sync).
    pub(super) fn rotate(&mut self, disk: &D, every: Duration) -> Result<(), RecordingError> {
        if !self.has_lines || self.opened.elapsed() < every || !self.lines.is_empty() {
            return Ok(());
        }
        let part = self.received.parts.saturating_add(1);
        let name = format::part_file_name(&self.name, part, self.compressor.is_some());
        let path = self.directory.join(name);
        let create = |source| RecordingError::Create { path: path.clone(), source };
        self.file = disk.create_file(&path).map_err(create)?;
        self.path = path;
        // Parts start at multiples of the interval since the start of the recording.
        let since = self.opened.elapsed().as_nanos().checked_div(every.as_nanos().max(1));
        let intervals = u32::try_from(since.unwrap_or(1)).unwrap_or(u32::MAX);
        self.opened =
            self.opened.checked_add(every.saturating_mul(intervals)).unwrap_or(self.opened);
        self.len = 0;
        self.has_lines = false;
        for counts in [&mut self.received, &mut self.appended, &mut self.synced] {
            counts.parts = part;
        }
        Ok(())
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> RecordingError + use<> {
    let path = path.to_path_buf();
    move |source| RecordingError::Write { path: path.clone(), source }
}
