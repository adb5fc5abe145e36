//! A recording, read back: every message as it was, in the order in which it came.
//!
//! It reads what is there and trusts nothing else: parts are found by their names, since a crash may
//! have come between a new part and the manifest; a torn last line, which a crash leaves, is not
//! read; any other line that is none is an error, for a recording that was changed proves nothing.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    line::RecordLine,
    manifest::MANIFEST_FILE,
    names::{self, COMPRESSED, PLAIN},
};

/// The longest line that is read, in bytes: a message of the largest size, each byte of it escaped.
pub const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The largest manifest that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingReadError {
    /// A file cannot be read.
    #[error("cannot read {}; give the directory of one session", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is none.
    #[error("{} is not the manifest of a recording", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A source whose file lies elsewhere.
    #[error("the manifest names {file:?}, which is not a file of its session")]
    Outside {
        /// The name.
        file: String,
    },
    /// A line that is none.
    #[error("line {line} of {} is not a line of a recording", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: u64,
    },
}

/// One message of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedMessage {
    /// The index of its source.
    pub source: usize,
    /// When it was received, in nanoseconds since 1970.
    pub ns: u64,
    /// The number of its connection.
    pub conn: u32,
    /// The message.
    pub raw: String,
}

/// What was recorded of one source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RecordedSource {
    /// What was asked for.
    pub source: String,
    /// The symbol.
    pub symbol: String,
    /// The stream.
    pub stream: String,
    file: String,
}

#[derive(Deserialize)]
struct ManifestContent {
    sources: Vec<RecordedSource>,
    complete: bool,
}

/// A recorded session.
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
    /// A [`RecordingReadError`] when there is none.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, RecordingReadError> {
        let directory = directory.into();
        let path = directory.join(MANIFEST_FILE);
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text))
            .map_err(|source| RecordingReadError::Read { path: path.clone(), source })?;
        let written: ManifestContent = serde_json::from_str(&text)
            .map_err(|source| RecordingReadError::Manifest { path, source })?;
        for source in &written.sources {
            let is_inside = source.file.split('/').all(|part| names::harmless(part) == part);
            if !is_inside || stream_of(&source.file).is_none() {
                return Err(RecordingReadError::Outside { file: source.file.clone() });
            }
        }
        Ok(Self { directory, sources: written.sources, is_complete: written.complete })
    }

    /// What was recorded.
    pub fn sources(&self) -> &[RecordedSource] {
        &self.sources
    }

    /// Whether nothing is missing at its end or was lost on the way to the disk.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Every message, over all sources, in the order in which they were received.
    pub fn frames(
        &self,
    ) -> impl Iterator<Item = Result<RecordedMessage, RecordingReadError>> + use<> {
        let sources = self.sources.iter().enumerate();
        let streams = sources.map(|(source, recorded)| PartFiles {
            directory: self.directory.clone(),
            file: recorded.file.clone(),
            source,
            part: 0,
            open: None,
        });
        MergedSources { streams: streams.map(|stream| (stream, None)).collect(), is_begun: false }
    }
}

/// `BTCUSDT/bookTicker` and whether it is compressed.
fn stream_of(file: &str) -> Option<(&str, bool)> {
    let strip = |end: &str| file.strip_suffix(end)?.strip_suffix('.');
    match strip(COMPRESSED) {
        Some(stream) => Some((stream, true)),
        None => strip(PLAIN).map(|stream| (stream, false)),
    }
}

/// One source's parts, one after the other.
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
                && let Some(frame) = part.read(self.source)?
            {
                return Ok(Some(frame));
            }
            let Some((stream, is_compressed)) = stream_of(&self.file) else { return Ok(None) };
            self.part = self.part.saturating_add(1);
            let path = self.directory.join(names::part(stream, self.part, is_compressed));
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

    /// The next message; `None` at the end, and at a torn line there.
    fn read(&mut self, source: usize) -> Result<Option<RecordedMessage>, RecordingReadError> {
        let mut bytes = Vec::new();
        match (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
            Ok(_count) => {}
            // A frame that a crash has torn.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => {
                return Err(RecordingReadError::Read { path: self.path.clone(), source });
            }
        }
        self.line = self.line.saturating_add(1);
        if bytes.last() != Some(&b'\n') && !is_too_long(&bytes) {
            return Ok(None);
        }
        let Some(RecordLine { ns, conn, raw }) =
            str::from_utf8(&bytes).ok().and_then(RecordLine::read)
        else {
            return Err(RecordingReadError::Line { path: self.path.clone(), line: self.line });
        };
        Ok(Some(RecordedMessage { source, ns, conn, raw: Cow::into_owned(raw) }))
    }
}

fn is_too_long(bytes: &[u8]) -> bool {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX) >= LINE_BYTES_MAX
}

/// Sources merged by time; among equals the first source first.
struct MergedSources {
    streams: Vec<(PartFiles, Option<RecordedMessage>)>,
    is_begun: bool,
}

impl MergedSources {
    fn begin(&mut self) -> Result<(), RecordingReadError> {
        for (parts, next) in &mut self.streams {
            *next = parts.read()?;
        }
        Ok(())
    }
}

impl Iterator for MergedSources {
    type Item = Result<RecordedMessage, RecordingReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.is_begun {
            self.is_begun = true;
            if let Err(error) = self.begin() {
                self.streams.clear();
                return Some(Err(error));
            }
        }
        let waiting = self.streams.iter_mut().filter(|(_parts, next)| next.is_some());
        let (parts, next) =
            waiting.min_by_key(|(_parts, next)| next.as_ref().map(|frame| frame.ns))?;
        let frame = next.take()?;
        match parts.read() {
            Ok(following) => {
                *next = following;
                Some(Ok(frame))
            }
            Err(error) => {
                self.streams.clear();
                Some(Err(error))
            }
        }
    }
}
