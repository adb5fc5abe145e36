//! One stream's files.
//!
//! Lines gather in memory and are appended in whole; where they are compressed, each append is a
//! zstd frame of its own, so that everything on disk can be read without what comes after.

use std::{
    borrow::Cow,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    disk::{Disk, DiskFile},
    error::RecordingError,
    line::RecordLine,
    manifest::StreamCounts,
    names,
};

/// So many bytes of lines are appended without waiting for the next turn.
const CHUNK_BYTES: usize = 512 * 1024;

/// How hard it is compressed: zstd's own default.
const LEVEL: i32 = 3;

/// One stream.
pub(super) struct StreamFile<D: Disk> {
    directory: PathBuf,
    name: String,
    file: D::File,
    path: PathBuf,
    opened: Instant,
    /// How long the file is, as far as it is whole.
    len: u64,
    lines: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    is_dirty: bool,
    has_lines: bool,
    /// What was taken in.
    taken: StreamCounts,
    /// What was appended.
    appended: StreamCounts,
    /// What is on disk.
    pub(super) safe: StreamCounts,
}

impl<D: Disk> StreamFile<D> {
    /// Makes the stream's first file.
    pub(super) fn create(
        disk: &D,
        directory: PathBuf,
        name: String,
        is_compressed: bool,
    ) -> Result<Self, RecordingError> {
        let made = disk.create_directories(&directory);
        made.map_err(|source| RecordingError::Create { path: directory.clone(), source })?;
        let path = directory.join(names::part(&name, 1, is_compressed));
        let create = |source| RecordingError::Create { path: path.clone(), source };
        let file = disk.create_file(&path).map_err(create)?;
        let compressor = is_compressed.then(|| zstd::bulk::Compressor::new(LEVEL)).transpose();
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
            taken: counts,
            appended: counts,
            safe: counts,
        })
    }

    /// Takes one message in. Returns how many bytes were appended to the file.
    pub(super) fn add(&mut self, ns: u64, conn: u32, raw: &str) -> Result<u64, RecordingError> {
        RecordLine { ns, conn, raw: Cow::Borrowed(raw) }.write(&mut self.lines);
        let taken = &mut self.taken;
        taken.messages = taken.messages.saturating_add(1);
        let bytes = u64::try_from(raw.len()).unwrap_or(u64::MAX);
        taken.bytes = taken.bytes.saturating_add(bytes);
        taken.first_ns.get_or_insert(ns);
        taken.last_ns = Some(ns);
        if self.lines.len() >= CHUNK_BYTES { self.append() } else { Ok(0) }
    }

    /// A credential was replaced in a message.
    pub(super) const fn note_redacted(&mut self) {
        self.taken.redacted = self.taken.redacted.saturating_add(1);
    }

    /// Appends what has gathered. Returns how many bytes that were.
    pub(super) fn append(&mut self) -> Result<u64, RecordingError> {
        if self.lines.is_empty() {
            self.appended = self.taken;
            return Ok(0);
        }
        let bytes = match &mut self.compressor {
            Some(compressor) => {
                Cow::Owned(compressor.compress(&self.lines).map_err(fail(&self.path))?)
            }
            None => Cow::Borrowed(self.lines.as_slice()),
        };
        if let Err(error) = self.file.append(&bytes) {
            // What is whole stays; a torn end is cut off as far as the disk still obeys.
            drop(self.file.cut(self.len));
            return Err(fail(&self.path)(error));
        }
        let appended = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.len = self.len.saturating_add(appended);
        self.lines.clear();
        self.appended = self.taken;
        self.is_dirty = true;
        self.has_lines = true;
        Ok(appended)
    }

    /// Waits until what was appended is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), RecordingError> {
        if self.is_dirty {
            self.file.sync().map_err(fail(&self.path))?;
            self.is_dirty = false;
        }
        self.safe = self.appended;
        Ok(())
    }

    /// Goes on in a new file if this one is as old as it may be and holds anything. Call after
    /// [`sync`](Self::sync).
    pub(super) fn rotate(&mut self, disk: &D, every: Duration) -> Result<(), RecordingError> {
        if !self.has_lines || self.opened.elapsed() < every || !self.lines.is_empty() {
            return Ok(());
        }
        let part = self.taken.parts.saturating_add(1);
        let name = names::part(&self.name, part, self.compressor.is_some());
        let path = self.directory.join(name);
        let create = |source| RecordingError::Create { path: path.clone(), source };
        self.file = disk.create_file(&path).map_err(create)?;
        self.path = path;
        // The hour is the recording's, not the file's: parts begin at even distances.
        let since = self.opened.elapsed().as_nanos().checked_div(every.as_nanos().max(1));
        let turns = u32::try_from(since.unwrap_or(1)).unwrap_or(u32::MAX);
        self.opened = self.opened.checked_add(every.saturating_mul(turns)).unwrap_or(self.opened);
        self.len = 0;
        self.has_lines = false;
        for counts in [&mut self.taken, &mut self.appended, &mut self.safe] {
            counts.parts = part;
        }
        Ok(())
    }
}

fn fail(path: &std::path::Path) -> impl Fn(io::Error) -> RecordingError + use<> {
    let path = path.to_path_buf();
    move |source| RecordingError::Write { path: path.clone(), source }
}
