//! Reads a recording: every message unchanged, in the order of arrival.
//!
//! The files are authoritative, not the manifest: parts are found by their names, since a crash may
//! have come between a new part and the manifest. A torn last line, as a crash leaves it, is
//! skipped; any other malformed line is an error, because a modified recording cannot be trusted.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    iter,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    format::{self, COMPRESSED_EXTENSION, PLAIN_EXTENSION, RecordLine},
    manifest::MANIFEST_FILE,
};

/// Maximum length of a line, in bytes: a message of the maximum size, each byte of it escaped.
pub const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Maximum length of a manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Cause of a failed read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingReadError {
    #[error("could not read {}{}", path.display(), advice(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("invalid recording manifest {}; specify the directory of one session", path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },
    /// The manifest names a file outside of its session.
    #[error(
        "invalid recording manifest: {file:?} is outside the session directory; the recording was modified"
    )]
    Outside { file: String },
    #[error("invalid recording: line {line} of {} is malformed; the recording was modified", path.display())]
    Line {
        path: PathBuf,
        /// Line number, counted from 1.
        line: u64,
    },
}

/// Returns the advice for a file that cannot be read. A directory without a manifest is not that of
/// a session.
fn advice(path: &Path) -> &'static str {
    if path.ends_with(MANIFEST_FILE) { "; specify the directory of one session" } else { "" }
}

/// One message of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedMessage {
    /// Index of the source.
    pub source: usize,
    /// Time of receipt, in nanoseconds since 1970.
    pub ns: u64,
    /// Number of the connection, counted from 1.
    pub conn: u32,
    /// `true` if the next message of the connection arrived in the same read.
    pub more: bool,
    pub raw: String,
}

/// Manifest entry of one source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedSource {
    /// Source as given on the command line.
    pub source: String,
    pub symbol: String,
    pub stream: String,
    file: String,
}

#[derive(Deserialize)]
struct ManifestContent {
    sources: Vec<RecordedSource>,
    complete: bool,
}

/// A recorded session on disk, opened for reading.
#[derive(Clone, Debug)]
pub struct Recording {
    directory: PathBuf,
    sources: Vec<RecordedSource>,
    is_complete: bool,
}

impl Recording {
    /// Opens the directory of one session.
    ///
    /// # Errors
    ///
    /// Returns a [`RecordingReadError`] when there is no valid manifest.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, RecordingReadError> {
        let directory = directory.into();
        let path = directory.join(MANIFEST_FILE);
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text))
            .map_err(|source| RecordingReadError::Read { path: path.clone(), source })?;
        let content: ManifestContent = serde_json::from_str(&text)
            .map_err(|source| RecordingReadError::Manifest { path, source })?;
        for source in &content.sources {
            let is_inside =
                source.file.split('/').all(|part| format::sanitize_file_name(part) == part);
            if !is_inside || split_file_name(&source.file).is_none() {
                return Err(RecordingReadError::Outside { file: source.file.clone() });
            }
        }
        Ok(Self { directory, sources: content.sources, is_complete: content.complete })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn sources(&self) -> &[RecordedSource] {
        &self.sources
    }

    /// Returns `true` if the session ended as requested, at least one message was recorded, and
    /// none was lost on the way to the disk.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the messages of all sources in the order of receipt; messages of the same time are
    /// in the order of their sources. An error is the last item.
    pub fn messages(
        &self,
    ) -> impl Iterator<Item = Result<RecordedMessage, RecordingReadError>> + use<> {
        let sources = self.sources.iter().enumerate();
        let mut streams: Vec<_> = sources
            .map(|(source, recorded)| {
                let (directory, file) = (self.directory.clone(), recorded.file.clone());
                let mut parts = PartFiles { directory, file, source, part: 0, open: None };
                iter::from_fn(move || parts.read().transpose()).peekable()
            })
            .collect();
        iter::from_fn(move || {
            // An error comes first, at the time 0.
            let times = streams.iter_mut().enumerate().filter_map(|(index, stream)| {
                let ns = stream.peek()?.as_ref().map_or(0, |message| message.ns);
                Some((ns, index))
            });
            let (_ns, index) = times.min()?;
            let next = streams.get_mut(index)?.next();
            if matches!(next, Some(Err(_))) {
                streams.clear();
            }
            next
        })
    }
}

/// Splits a file name such as `BTCUSDT/bookTicker.jsonl`. Returns the name without its extension,
/// and `true` if the file is compressed.
fn split_file_name(file: &str) -> Option<(&str, bool)> {
    let strip = |end: &str| file.strip_suffix(end)?.strip_suffix('.');
    match strip(COMPRESSED_EXTENSION) {
        Some(stream) => Some((stream, true)),
        None => strip(PLAIN_EXTENSION).map(|stream| (stream, false)),
    }
}

/// Reads the parts of one source in order, up to the first number without a file.
struct PartFiles {
    directory: PathBuf,
    file: String,
    source: usize,
    part: u32,
    open: Option<PartFile>,
}

struct PartFile {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    line: u64,
}

impl PartFiles {
    fn read(&mut self) -> Result<Option<RecordedMessage>, RecordingReadError> {
        loop {
            if let Some(part) = &mut self.open
                && let Some(message) = part.read(self.source)?
            {
                return Ok(Some(message));
            }
            let Some((stream, is_compressed)) = split_file_name(&self.file) else {
                return Ok(None);
            };
            self.part = self.part.saturating_add(1);
            let path =
                self.directory.join(format::part_file_name(stream, self.part, is_compressed));
            match PartFile::open(&path, is_compressed) {
                Ok(part) => self.open = Some(part),
                Err(error) if self.part > 1 && error.kind() == io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                Err(source) => return Err(RecordingReadError::Read { path, source }),
            }
        }
    }
}

impl PartFile {
    fn open(path: &Path, is_compressed: bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let lines: Box<dyn BufRead + Send> = if is_compressed {
            Box::new(BufReader::new(zstd::stream::read::Decoder::new(file)?))
        } else {
            Box::new(BufReader::new(file))
        };
        Ok(Self { path: path.to_path_buf(), lines, line: 0 })
    }

    /// Reads the next message; `None` at the end, and at a torn line there.
    fn read(&mut self, source: usize) -> Result<Option<RecordedMessage>, RecordingReadError> {
        let mut bytes = Vec::new();
        match (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
            Ok(_count) => {}
            // A compressed frame that was torn by a crash.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => {
                return Err(RecordingReadError::Read { path: self.path.clone(), source });
            }
        }
        self.line = self.line.saturating_add(1);
        if bytes.last() != Some(&b'\n') && !is_too_long(&bytes) {
            return Ok(None);
        }
        let Some(RecordLine { ns, conn, more, raw }) =
            str::from_utf8(&bytes).ok().and_then(RecordLine::read)
        else {
            return Err(RecordingReadError::Line { path: self.path.clone(), line: self.line });
        };
        Ok(Some(RecordedMessage { source, ns, conn, more, raw: Cow::into_owned(raw) }))
    }
}

fn is_too_long(bytes: &[u8]) -> bool {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX) >= LINE_BYTES_MAX
}
