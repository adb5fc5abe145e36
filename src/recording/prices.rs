//! The reference prices of a recording: which tables were in force, and since when.
//!
//! A session records each snapshot that its engine uses, at the time from which it uses it. A table
//! is written once, compressed, and only if it differs from the last one of its source:
//!
//! ```text
//! prices/index.jsonl         {"ns":…,"sources":[{"name":"buff","at_ms":…,"file":"buff.1.jsonl.zst",…}]}
//! prices/buff.1.jsonl.zst    a line for each item
//! ```
//!
//! Ages, the value of a coin and the rules come from the settings of the replay.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    Recording, RecordingError, RecordingReadError,
    disk::{COMPRESSION_LEVEL, Disk, DiskFile as _},
    format,
    queue::RecorderState,
};
use crate::{
    clock,
    config::prices::{PriceSource, PricesConfig},
    domain::time::UnixMs,
    prices::{PriceBook, PriceTable, rows},
};

/// Directory of the prices below that of the session.
const DIRECTORY: &str = "prices";
const INDEX_FILE: &str = "index.jsonl";

/// Maximum size of all tables of a recording, in bytes on disk.
const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Maximum number of snapshots that wait for the recording thread.
pub(super) const WAITING_MAX: usize = 8;

/// Maximum size of an index, and of a table without compression, in bytes.
const INDEX_BYTES_MAX: u64 = 64 * 1024 * 1024;
const TABLE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Line of the index: the tables in force from a time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceChange {
    /// Time from which they were used, in nanoseconds since 1970.
    pub ns: u64,
    pub sources: Vec<RecordedTable>,
    /// `true` if later tables were not recorded.
    #[serde(default)]
    pub is_last: bool,
}

/// Table of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTable {
    /// Name of the source in the settings.
    pub name: String,
    kind: String,
    unit: String,
    /// Time of the prices, in milliseconds since 1970.
    pub at_ms: i64,
    pub items: usize,
    /// `None` if the source had no table.
    pub file: Option<String>,
}

/// Snapshots that wait for the recording thread.
#[derive(Debug, Default)]
pub(super) struct WaitingPrices {
    pub(super) sources: Arc<[PriceSource]>,
    pub(super) changes: Vec<(u64, Arc<PriceBook>)>,
    /// `true` after a snapshot that did not fit.
    pub(super) is_incomplete: bool,
}

/// Records the reference prices of a session. Never waits.
#[derive(Clone, Debug)]
pub struct PriceRecorder(pub(super) Arc<RecorderState>);

impl PriceRecorder {
    /// Records a snapshot that is used from now on.
    pub fn record(&self, book: &Arc<PriceBook>) {
        self.0.add_prices(clock::now_ns(), book);
    }
}

/// Last table of a source that was written.
#[derive(Debug, Default)]
struct WrittenTable {
    number: u32,
    file: String,
    bytes: Vec<u8>,
}

/// Files of the prices, as the recording thread writes them.
pub(super) struct PriceFiles<D: Disk> {
    directory: PathBuf,
    index: Option<D::File>,
    /// For each source, in the order of the settings.
    written: Vec<WrittenTable>,
    /// Size of all tables on disk.
    bytes: u64,
    /// `true` after the last snapshot that is recorded.
    is_ended: bool,
}

impl<D: Disk> PriceFiles<D> {
    /// Creates no file yet. `session` is the directory of the recording.
    pub(super) fn new(session: &Path) -> Self {
        Self {
            directory: session.join(DIRECTORY),
            index: None,
            written: Vec::new(),
            bytes: 0,
            is_ended: false,
        }
    }

    /// Writes the tables that are new, then a line of the index for each snapshot.
    pub(super) fn write(
        &mut self,
        disk: &D,
        waiting: &WaitingPrices,
    ) -> Result<(), RecordingError> {
        for (ns, book) in &waiting.changes {
            if self.is_ended {
                return Ok(());
            }
            let mut sources = Vec::with_capacity(waiting.sources.len());
            for (index, source) in waiting.sources.iter().enumerate() {
                sources.push(self.write_table(disk, source, book, index)?);
            }
            self.is_ended = waiting.is_incomplete || BYTES_MAX <= self.bytes;
            self.append(disk, &PriceChange { ns: *ns, sources, is_last: self.is_ended })?;
            if self.is_ended {
                warn!("Prices no longer recorded: {}", self.directory.display());
            }
        }
        Ok(())
    }

    /// Writes the table of the source at this position, unless it is the last one that was written.
    fn write_table(
        &mut self,
        disk: &D,
        source: &PriceSource,
        book: &PriceBook,
        index: usize,
    ) -> Result<RecordedTable, RecordingError> {
        let state = book.sources().get(index);
        let mut recorded = RecordedTable {
            name: source.name.clone(),
            kind: source.kind.name().to_owned(),
            unit: source.currency.as_str().to_owned(),
            at_ms: state.map_or(0, |state| state.at.0),
            items: 0,
            file: None,
        };
        if !state.is_some_and(|state| state.has_table()) {
            return Ok(recorded);
        }
        let mut text = String::new();
        for (key, quote) in book.table_of(index) {
            text.push_str(&rows::format_row(&key, &quote));
            text.push('\n');
            recorded.items = recorded.items.saturating_add(1);
        }
        let failed = |path: &Path, source| RecordingError::Write { path: path.to_owned(), source };
        let bytes = zstd::bulk::compress(text.as_bytes(), COMPRESSION_LEVEL)
            .map_err(|source| failed(&self.directory, source))?;
        self.written.resize_with(self.written.len().max(index.saturating_add(1)), Default::default);
        let Some(last) = self.written.get_mut(index) else { return Ok(recorded) };
        if last.number == 0 || last.bytes != bytes {
            last.number = last.number.saturating_add(1);
            last.file = format!("{}.{}.jsonl.zst", source.name, last.number);
            let path = self.directory.join(&last.file);
            let create = |source| RecordingError::Create { path: path.clone(), source };
            disk.create_directories(&self.directory).map_err(create)?;
            disk.replace(&path, &bytes).map_err(|source| failed(&path, source))?;
            self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            last.bytes = bytes;
        }
        recorded.file = Some(last.file.clone());
        Ok(recorded)
    }

    /// Appends a line to the index, which is created with the first one.
    fn append(&mut self, disk: &D, change: &PriceChange) -> Result<(), RecordingError> {
        let path = self.directory.join(INDEX_FILE);
        let create = |source| RecordingError::Create { path: path.clone(), source };
        let index = match &mut self.index {
            Some(index) => index,
            None => {
                disk.create_directories(&self.directory).map_err(create)?;
                self.index.insert(disk.create_file(&path).map_err(create)?)
            }
        };
        // Text and numbers can always be written.
        let mut line = serde_json::to_vec(change).unwrap_or_default();
        line.push(b'\n');
        let written = index.append(&line).and_then(|()| index.sync());
        written.map_err(|source| RecordingError::Write { path: path.clone(), source })
    }
}

/// The prices of a recording.
#[derive(Clone, Debug)]
pub struct RecordedPrices {
    directory: PathBuf,
    changes: Arc<[PriceChange]>,
}

impl RecordedPrices {
    /// Reads the index of a recording. Returns `None` if it has no prices. A torn last line, as a
    /// crash leaves it, is skipped.
    pub(super) fn open(session: &Path) -> Result<Option<Self>, RecordingReadError> {
        let directory = session.join(DIRECTORY);
        let path = directory.join(INDEX_FILE);
        let mut text = String::new();
        match File::open(&path)
            .and_then(|file| file.take(INDEX_BYTES_MAX).read_to_string(&mut text))
        {
            Ok(_bytes) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordingReadError::Read { path, source }),
        }
        let mut changes: Vec<PriceChange> = Vec::new();
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let Some(line) = line.strip_suffix('\n') else { break };
            let change: PriceChange = serde_json::from_str(line).map_err(|_malformed| {
                RecordingReadError::Line { path: path.clone(), line: number }
            })?;
            for file in change.sources.iter().filter_map(|source| source.file.as_ref()) {
                if format::sanitize_file_name(file) != *file {
                    return Err(RecordingReadError::Outside { file: file.clone() });
                }
            }
            changes.push(change);
        }
        let changes: Arc<[PriceChange]> = changes.into();
        Ok((!changes.is_empty()).then_some(Self { directory, changes }))
    }

    /// Returns the snapshots, oldest first. There is at least one.
    pub fn changes(&self) -> &[PriceChange] {
        &self.changes
    }

    /// Returns the snapshots one after the other, for these sources.
    pub fn history(&self, config: &PricesConfig) -> PriceHistory {
        PriceHistory { recorded: self.clone(), config: config.clone(), next: 0, tables: Vec::new() }
    }
}

/// Reads the snapshots of a recording in order. Only the tables of the current one are in memory.
#[derive(Debug)]
pub struct PriceHistory {
    recorded: RecordedPrices,
    config: PricesConfig,
    next: usize,
    tables: Vec<(String, Arc<PriceTable>)>,
}

impl PriceHistory {
    /// Returns `true` before the first snapshot.
    pub const fn is_at_start(&self) -> bool {
        self.next == 0
    }

    /// Returns the time of the next snapshot.
    pub fn next_ns(&self) -> Option<u64> {
        self.recorded.changes.get(self.next).map(|change| change.ns)
    }

    /// Reads the next snapshot. A source of another kind or unit than in the settings has no table.
    ///
    /// # Errors
    ///
    /// Returns a [`RecordingReadError`] if a table is missing or malformed.
    pub fn advance(&mut self) -> Result<Option<PriceBook>, RecordingReadError> {
        let Self { recorded, config, next, tables } = self;
        let Some(change) = recorded.changes.get(*next) else { return Ok(None) };
        *next = next.saturating_add(1);
        let mut current = Vec::with_capacity(config.sources.len());
        for source in &config.sources {
            let table = change.sources.iter().find(|table| table.is_of(source));
            let Some((table, file)) = table.and_then(|table| Some((table, table.file.as_ref()?)))
            else {
                current.push(None);
                continue;
            };
            let known = tables.iter().find(|(name, _)| name == file);
            let content = match known {
                Some((_, content)) => Arc::clone(content),
                None => Arc::new(read_table(&recorded.directory.join(file))?),
            };
            current.push(Some((file.clone(), content, UnixMs(table.at_ms))));
        }
        let of_source = |table: &Option<(String, Arc<PriceTable>, UnixMs)>| {
            table.clone().map(|(file, content, _)| (file, content))
        };
        *tables = current.iter().filter_map(of_source).collect();
        let current: Vec<Option<(&PriceTable, UnixMs)>> = current
            .iter()
            .map(|table| table.as_ref().map(|(_, content, at)| (content.as_ref(), *at)))
            .collect();
        Ok(Some(config.book(&current)))
    }
}

impl RecordedTable {
    fn is_of(&self, source: &PriceSource) -> bool {
        self.name == source.name
            && self.kind == source.kind.name()
            && self.unit == source.currency.as_str()
    }
}

fn read_table(path: &Path) -> Result<PriceTable, RecordingReadError> {
    let failed = |source| RecordingReadError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let text = zstd::stream::read::Decoder::new(file).map_err(failed)?;
    let mut table = PriceTable::default();
    for (number, line) in (1..).zip(BufReader::new(text.take(TABLE_BYTES_MAX)).lines()) {
        let line = line.map_err(failed)?;
        let (key, quote) = rows::parse_row(&line)
            .ok_or(RecordingReadError::Line { path: path.to_owned(), line: number })?;
        table.insert(key, quote);
    }
    Ok(table)
}

impl Recording {
    /// Returns the prices that were in force; `None` if they were not recorded.
    ///
    /// # Errors
    ///
    /// Returns a [`RecordingReadError`] if the index is malformed.
    pub fn prices(&self) -> Result<Option<RecordedPrices>, RecordingReadError> {
        RecordedPrices::open(self.directory())
    }
}
