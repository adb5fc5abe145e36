//! Recording and reference prices of a replay.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use super::ReplayPrices;
use crate::{
    account::prices::{PriceStore, read_table},
    commands::{AppError, run::DIRECTORY},
    config::Config,
    domain::time::UnixMs,
    prices::PriceBook,
    recording::{RecordedPrices, Recording},
    text::{Escaped, counted},
};

/// A recording, and the prices by which it is replayed.
#[derive(Clone, Debug)]
pub struct ReplayInput {
    pub recording: Recording,
    pub prices: ReplayPrices,
    origin: PriceOrigin,
    /// Name of each source, and the time of its first table.
    tables: Vec<(String, Option<UnixMs>)>,
}

/// Source of the prices of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PriceOrigin {
    /// The settings have no source.
    None,
    /// The recording: number of its snapshots, and the time of the last one if later ones could not
    /// be recorded.
    Recorded { snapshots: usize, until: Option<UnixMs> },
    /// A folder with stored tables.
    Folder(PathBuf),
    /// A file with the prices of the only source.
    File(PathBuf),
}

impl ReplayInput {
    /// Opens a recording, by default the newest one of `sniper run --record`. Its prices are those
    /// in `given`, a folder or a file, else the recorded ones, else the stored ones.
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if there is no recording or its prices cannot be read.
    pub fn open(
        config: &Config,
        path: Option<&Path>,
        given: Option<&Path>,
    ) -> Result<Self, AppError> {
        const WHAT: &str = "read the recording";
        let path = match path {
            Some(path) => path.to_owned(),
            None => newest(&config.data_dir.join(DIRECTORY))
                .map_err(|error| AppError::failed(WHAT, &error))?,
        };
        let recording = Recording::open(path).map_err(|error| AppError::failed(WHAT, &error))?;
        let recorded = match given {
            Some(_) => None,
            None => recording.prices().map_err(|error| AppError::failed(WHAT, &error))?,
        };
        let sources = &config.prices.sources;
        let (prices, origin, tables) = match (recorded, given) {
            _ if sources.is_empty() => (ReplayPrices::None, PriceOrigin::None, Vec::new()),
            (Some(recorded), _) => {
                let (origin, tables) = recorded_tables(&recorded);
                (ReplayPrices::Recorded(recorded, config.prices.clone()), origin, tables)
            }
            (None, given) => {
                let (book, origin) = match given {
                    Some(path) if path.is_file() => file_book(config, path)
                        .map_err(|error| AppError::failed("read the price file", &*error))?,
                    _ => {
                        let default = || PriceStore::new(&config.data_dir);
                        let store = given.map_or_else(default, PriceStore::at);
                        let origin = PriceOrigin::Folder(store.folder().to_owned());
                        (store.book(&config.prices), origin)
                    }
                };
                let book = book.accepting_later_prices();
                let tables = stored_tables(config, &book);
                (ReplayPrices::Fixed(Arc::new(book)), origin, tables)
            }
        };
        Ok(Self { recording, prices, origin, tables })
    }

    /// Opens the newest recording of `sniper run --record`.
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if there is none, or it cannot be read.
    pub fn newest(config: &Config) -> Result<Recording, AppError> {
        const WHAT: &str = "read the recording";
        let path = newest(&config.data_dir.join(DIRECTORY))
            .map_err(|error| AppError::failed(WHAT, &error))?;
        Recording::open(path).map_err(|error| AppError::failed(WHAT, &error))
    }

    /// Describes recording and prices. `span_ns` has the receive times of the first and last
    /// message, in nanoseconds since 1970.
    pub fn describe(&self, span_ns: Option<(u64, u64)>) -> String {
        let mut text = format!("Recording: {}", self.recording.directory().display());
        if let Some((first, last)) = span_ns {
            let [first, last] = [first, last].map(UnixMs::from_nanos);
            text.push_str(&format!(", {first} to {last}"));
        }
        if !self.recording.is_complete() {
            text.push_str(" (incomplete)");
        }
        let tables = self.tables.iter().map(|(name, at)| match at {
            Some(at) => format!("{} of {at}", Escaped(name)),
            None => format!("{} has none", Escaped(name)),
        });
        let tables = tables.collect::<Vec<_>>().join(", ");
        text.push_str("\nPrices: ");
        text.push_str(&match &self.origin {
            PriceOrigin::None => "the settings have no source".to_owned(),
            PriceOrigin::Recorded { snapshots, until } => {
                let until =
                    until.map(|until| format!("; recorded only until {until}")).unwrap_or_default();
                let changes = snapshots.saturating_sub(1);
                let changes = counted(changes, "later change", "later changes");
                format!("as recorded, {tables}; {changes}{until}")
            }
            PriceOrigin::Folder(path) => {
                format!("not recorded; taken from {}, {tables}", path.display())
            }
            PriceOrigin::File(path) => format!("taken from {}, {tables}", path.display()),
        });
        if self.are_later_than(span_ns) {
            text.push_str("\n  They are newer than the recording, so their age is not checked.");
        }
        text.push('\n');
        text
    }

    /// Returns `true` if prices are newer than the first listing for which they are used.
    fn are_later_than(&self, span_ns: Option<(u64, u64)>) -> bool {
        let first = span_ns.map(|(first, _)| UnixMs::from_nanos(first));
        let is_later = |at: &UnixMs| first.is_some_and(|first| first < *at);
        matches!(self.origin, PriceOrigin::Folder(_) | PriceOrigin::File(_))
            && self.tables.iter().filter_map(|(_, at)| at.as_ref()).any(is_later)
    }

    pub fn to_json(&self, span_ns: Option<(u64, u64)>) -> Value {
        let tables = self
            .tables
            .iter()
            .map(|(name, at)| json!({"name": name, "at": at.map(|at| at.to_string())}));
        let tables: Vec<Value> = tables.collect();
        json!({
            "from": match &self.origin {
                PriceOrigin::None => "none",
                PriceOrigin::Recorded { .. } => "recording",
                PriceOrigin::Folder(_) => "folder",
                PriceOrigin::File(_) => "file",
            },
            "sources": tables,
            "without_age": self.are_later_than(span_ns),
        })
    }
}

/// Returns the origin of recorded prices, and the first table of each source.
fn recorded_tables(recorded: &RecordedPrices) -> (PriceOrigin, Vec<(String, Option<UnixMs>)>) {
    let changes = recorded.changes();
    let last = changes.last().filter(|change| change.is_last);
    let until = last.map(|change| UnixMs::from_nanos(change.ns));
    let tables = changes.first().into_iter().flat_map(|change| &change.sources);
    let tables =
        tables.map(|table| (table.name.clone(), table.file.as_ref().map(|_| UnixMs(table.at_ms))));
    (PriceOrigin::Recorded { snapshots: changes.len(), until }, tables.collect())
}

/// Returns the prices of a file for the only source of the settings.
fn file_book(
    config: &Config,
    path: &Path,
) -> Result<(PriceBook, PriceOrigin), Box<dyn Error + Send + Sync>> {
    let [source] = config.prices.sources.as_slice() else {
        return Err("with several price sources, name a folder with stored tables".into());
    };
    let (table, at) = read_table(path, source.unit())?;
    Ok((config.prices.book(&[Some((&table, at))]), PriceOrigin::File(path.to_owned())))
}

fn stored_tables(config: &Config, book: &PriceBook) -> Vec<(String, Option<UnixMs>)> {
    let sources = config.prices.sources.iter().zip(book.sources());
    sources
        .map(|(source, table)| (source.name.clone(), table.has_table().then_some(table.at)))
        .collect()
}

/// Returns the session in this folder whose manifest was written last.
fn newest(folder: &Path) -> io::Result<PathBuf> {
    let missing = |error: io::Error| {
        let message =
            format!("no recording in {}; record with `sniper run --record`", folder.display());
        io::Error::new(error.kind(), message)
    };
    let mut newest: Option<(std::time::SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(folder).map_err(missing)? {
        let path = entry?.path();
        let manifest = fs::metadata(path.join(crate::recording::MANIFEST_FILE));
        let Ok(written) = manifest.and_then(|metadata| metadata.modified()) else { continue };
        newest = newest.max(Some((written, path)));
    }
    newest.map(|(_, path)| path).ok_or_else(|| missing(io::ErrorKind::NotFound.into()))
}
