//! Tables of price sources on disk, so that a start without a network has prices of a known age.
//!
//! One file per source: a line of JSON about the table, and a line of JSON per item. A file is
//! replaced as a whole. A file that is cut, or that belongs to another address or unit than the
//! source has now, counts as absent.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::{
    config::load::make_directory,
    config::prices::{PriceLocation, PriceSource, PricesConfig},
    domain::time::UnixMs,
    prices::{PriceBook, PriceTable, rows},
};

/// Folder below `SNIPER_DATA`.
const FOLDER: &str = "prices";

/// Version of the format.
const FORMAT: u32 = 1;

/// Version of the parsers, to increase when they read the same file differently. A table of an
/// earlier version, such as one whose time was not understood, must not be confirmed again and
/// again, so the source is asked for the whole file.
const PARSER: u32 = 1;

/// Maximum length of a stored table, in bytes.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Maximum length of a stored request, in bytes: an address and two times.
const ATTEMPT_BYTES_MAX: u64 = 16 * 1024;

/// Start of the names of files that are not complete yet.
const TEMPORARY_PREFIX: &str = ".unfinished-";

/// Age from which such a file was left by a process that was killed. Another process may be writing
/// a newer one, which takes seconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(3_600);

/// Maximum number of files that are examined for abandoned ones.
const EXAMINED_MAX: usize = 10_000;

/// Folder with the tables of all sources.
#[derive(Clone, Debug)]
pub struct PriceStore {
    folder: PathBuf,
}

/// Role of a stored table of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// The last good table.
    Current,
    /// The one before.
    Previous,
    /// The last one that was rejected, until a good one arrives.
    Rejected,
}

/// A table with its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredTable {
    pub table: PriceTable,
    /// Time of the prices.
    pub at: UnixMs,
    /// Time at which the source was last asked successfully.
    pub checked_at: UnixMs,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// `true` if the source states the time of its prices.
    pub is_dated: bool,
}

/// Last request to a source. It is stored, so that a restart does not send the next one too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceAttempt {
    pub at: UnixMs,
    /// Time before which the source asked not to be read.
    pub retry_at: Option<UnixMs>,
}

/// First line of a file.
#[derive(Serialize, Deserialize)]
struct FileHead {
    format: u32,
    /// [`PARSER`] of the program that read the table.
    #[serde(default)]
    parser: u32,
    /// Kind, place and unit of the source.
    origin: String,
    at_ms: i64,
    checked_at_ms: i64,
    etag: Option<String>,
    last_modified: Option<String>,
    is_dated: bool,
    /// Number of lines that follow.
    items: usize,
}

impl PriceStore {
    /// Uses the folder `prices` below `data_dir`, which is `SNIPER_DATA`.
    pub fn new(data_dir: &Path) -> Self {
        Self::at(data_dir.join(FOLDER))
    }

    /// Uses this folder, such as a copy of `prices` below `SNIPER_DATA`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Combines the last good tables of all sources. A table that cannot be read counts as absent.
    pub fn book(&self, config: &PricesConfig) -> PriceBook {
        let load = |source| self.load(source, StoredAs::Current).ok().flatten();
        let stored: Vec<Option<StoredTable>> = config.sources.iter().map(load).collect();
        let tables = stored.iter().map(|stored| stored.as_ref().map(|it| (&it.table, it.at)));
        config.book(&tables.collect::<Vec<_>>())
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(&self.folder)
    }

    /// Removes the incomplete files of processes that were killed.
    pub fn remove_abandoned(&self) {
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        for file in files.take(EXAMINED_MAX).flatten() {
            let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = modified.and_then(|modified| modified.elapsed().ok());
            if file.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
                && age.is_some_and(|age| ABANDONED_AFTER < age)
            {
                // A file that cannot be removed disturbs nothing.
                let _removed = fs::remove_file(file.path());
            }
        }
    }

    fn path(&self, source: &PriceSource, stored: StoredAs) -> PathBuf {
        let suffix = match stored {
            StoredAs::Current => "",
            StoredAs::Previous => ".previous",
            StoredAs::Rejected => ".refused",
        };
        self.folder.join(format!("{}{suffix}.jsonl", source.name))
    }

    fn attempt_path(&self, source: &PriceSource) -> PathBuf {
        self.folder.join(format!("{}.attempt.json", source.name))
    }

    /// Returns the last request to a source as it is configured, by this or another process.
    pub fn attempt(&self, source: &PriceSource) -> Option<SourceAttempt> {
        let file = File::open(self.attempt_path(source)).ok()?;
        let (of, at, retry_at): (String, i64, Option<i64>) =
            serde_json::from_reader(file.take(ATTEMPT_BYTES_MAX)).ok()?;
        let attempt = SourceAttempt { at: UnixMs(at), retry_at: retry_at.map(UnixMs) };
        (of == origin(source)).then_some(attempt)
    }

    /// Stores the last request to a source.
    ///
    /// # Errors
    ///
    /// Returns the error of the failed write.
    pub fn save_attempt(&self, source: &PriceSource, attempt: SourceAttempt) -> io::Result<()> {
        make_directory(&self.folder)?;
        let mut file = self.temporary()?;
        let retry_at = attempt.retry_at.map(|at| at.0);
        serde_json::to_writer(&mut file, &(origin(source), attempt.at.0, retry_at))?;
        file.persist(self.attempt_path(source)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Returns the time at which the current table was written.
    pub fn written_at(&self, source: &PriceSource) -> Option<SystemTime> {
        fs::metadata(self.path(source, StoredAs::Current)).ok()?.modified().ok()
    }

    /// Reads a table. Returns `None` if there is none for the source as it is configured.
    ///
    /// # Errors
    ///
    /// Returns the error of reading an existing file.
    pub fn load(&self, source: &PriceSource, stored: StoredAs) -> io::Result<Option<StoredTable>> {
        let path = self.path(source, stored);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Ok(None),
            Ok(_) => {}
        }
        let text = String::from_utf8(fs::read(path)?).unwrap_or_default();
        Ok(read(&text, &origin(source)))
    }

    /// Reads the last good table, with which a new one is compared: the current one, or the one
    /// before if that is damaged.
    ///
    /// # Errors
    ///
    /// Returns the error of reading an existing file.
    pub fn last_good(&self, source: &PriceSource) -> io::Result<Option<StoredTable>> {
        match self.load(source, StoredAs::Current)? {
            None => self.load(source, StoredAs::Previous),
            current => Ok(current),
        }
    }

    /// Replaces the current table, which becomes the previous one.
    ///
    /// # Errors
    ///
    /// Returns the error of the failed write; the current table is then unchanged.
    pub fn replace(&self, source: &PriceSource, table: &StoredTable) -> io::Result<()> {
        match File::open(self.path(source, StoredAs::Current)) {
            // A copy keeps the file in place until the new one replaces it. Not every file system
            // has hard links, and another process may do the same at this time.
            Ok(mut current) => {
                let mut copy = self.temporary()?;
                io::copy(&mut current, &mut copy)?;
                copy.as_file().sync_all()?;
                let previous = self.path(source, StoredAs::Previous);
                copy.persist(previous).map_err(|error| error.error)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.save(source, StoredAs::Current, table)
    }

    /// Writes one table.
    ///
    /// # Errors
    ///
    /// Returns the error of the failed write; the old file is then unchanged.
    pub fn save(
        &self,
        source: &PriceSource,
        stored: StoredAs,
        table: &StoredTable,
    ) -> io::Result<()> {
        make_directory(&self.folder)?;
        let mut file = self.temporary()?;
        write(&mut BufWriter::new(&mut file), &origin(source), table)?;
        file.as_file().sync_all()?;
        file.persist(self.path(source, stored)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes a table, if there is one.
    ///
    /// # Errors
    ///
    /// Returns the error of the failed removal.
    pub fn remove(&self, source: &PriceSource, stored: StoredAs) -> io::Result<()> {
        match fs::remove_file(self.path(source, stored)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns kind, place and unit of a source, without its key.
fn origin(source: &PriceSource) -> String {
    let place = match &source.location {
        // The query may contain a key of the user.
        PriceLocation::Url(endpoint) => {
            let path = endpoint.path().split('?').next().unwrap_or_default();
            format!("{}{path}", endpoint.origin())
        }
        PriceLocation::File(path) => path.display().to_string(),
    };
    format!("{} {} {place}", source.kind.name(), source.currency.as_str())
}

fn write(out: &mut impl io::Write, origin: &str, stored: &StoredTable) -> io::Result<()> {
    let head = FileHead {
        format: FORMAT,
        parser: PARSER,
        origin: origin.to_owned(),
        at_ms: stored.at.0,
        checked_at_ms: stored.checked_at.0,
        etag: stored.etag.clone(),
        last_modified: stored.last_modified.clone(),
        is_dated: stored.is_dated,
        items: stored.table.len(),
    };
    serde_json::to_writer(&mut *out, &head)?;
    for (key, quote) in stored.table.iter() {
        writeln!(out)?;
        out.write_all(rows::format_row(key, quote).as_bytes())?;
    }
    out.flush()
}

/// Parses a stored table. Returns `None` if it has another origin or format, or is not complete.
/// One of an earlier [`PARSER`] has no validators.
fn read(text: &str, origin: &str) -> Option<StoredTable> {
    let mut lines = text.lines();
    let head: FileHead = serde_json::from_str(lines.next()?).ok()?;
    if head.format != FORMAT || head.origin != origin {
        return None;
    }
    let mut table = PriceTable::default();
    for line in lines {
        let (key, quote) = rows::parse_row(line)?;
        table.insert(key, quote);
    }
    let is_current = head.parser == PARSER;
    (table.len() == head.items).then_some(StoredTable {
        table,
        at: UnixMs(head.at_ms),
        checked_at: UnixMs(head.checked_at_ms),
        etag: head.etag.filter(|_| is_current),
        last_modified: head.last_modified.filter(|_| is_current),
        is_dated: head.is_dated,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        config::prices::SourceCurrency,
        prices::{PriceUnit, SourceKind, parse::parse},
    };

    fn source(path: &str, currency: SourceCurrency) -> PriceSource {
        PriceSource {
            name: "own".to_owned(),
            kind: SourceKind::File,
            location: PriceLocation::File(path.into()),
            max_age: SourceKind::File.max_age(),
            currency,
            key: None,
        }
    }

    fn stored(text: &str) -> StoredTable {
        let table = parse(SourceKind::File, PriceUnit::Whole, text.as_bytes()).unwrap();
        StoredTable {
            table,
            at: UnixMs(1_000),
            checked_at: UnixMs(2_000),
            etag: Some("\"a\"".to_owned()),
            last_modified: None,
            is_dated: true,
        }
    }

    const TEXT: &str =
        "name,ask,bid,count\nFracture Case,0.6,0.51,7\n★ Karambit | Ruby (Factory New),9000,,\n";

    #[test]
    fn a_table_is_read_as_it_was_written_and_the_one_before_is_kept() {
        let folder = TempDir::new().unwrap();
        let (store, source) = (PriceStore::new(folder.path()), source("p", SourceCurrency::Usd));
        assert_eq!(store.load(&source, StoredAs::Current).unwrap(), None);
        let (first, second) = (stored(TEXT), stored("name,bid\nx,3\n"));
        store.replace(&source, &first).unwrap();
        assert_eq!(store.load(&source, StoredAs::Current).unwrap(), Some(first.clone()));
        assert_eq!(store.load(&source, StoredAs::Previous).unwrap(), None);
        store.replace(&source, &second).unwrap();
        assert_eq!(store.load(&source, StoredAs::Current).unwrap(), Some(second));
        assert_eq!(store.load(&source, StoredAs::Previous).unwrap(), Some(first));
        store.remove(&source, StoredAs::Previous).unwrap();
        store.remove(&source, StoredAs::Previous).unwrap();
        assert_eq!(store.load(&source, StoredAs::Previous).unwrap(), None);
    }

    #[test]
    fn the_table_before_is_the_last_good_one_if_the_current_one_is_damaged() {
        let folder = TempDir::new().unwrap();
        let (store, source) = (PriceStore::new(folder.path()), source("p", SourceCurrency::Usd));
        assert_eq!(store.last_good(&source).unwrap(), None);
        let (first, second) = (stored(TEXT), stored("name,bid\nx,3\n"));
        store.replace(&source, &first).unwrap();
        store.replace(&source, &second).unwrap();
        assert_eq!(store.last_good(&source).unwrap(), Some(second));
        fs::write(store.path(&source, StoredAs::Current), "{").unwrap();
        assert_eq!(store.last_good(&source).unwrap(), Some(first));
    }

    #[test]
    fn only_own_unfinished_files_of_earlier_runs_are_removed() {
        let folder = TempDir::new().unwrap();
        let store = PriceStore::at(folder.path());
        let kept = store.temporary().unwrap();
        let now = kept.as_file().metadata().unwrap().modified().unwrap();
        let old = now - ABANDONED_AFTER - Duration::from_secs(60);
        for name in [".unfinished-a", ".tmpx", "own.jsonl"] {
            File::create(folder.path().join(name)).unwrap().set_modified(old).unwrap();
        }
        store.remove_abandoned();
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!([".unfinished-a", ".tmpx", "own.jsonl"].map(left), [false, true, true]);
        assert!(kept.path().exists(), "another process may be writing it");
        store.save(&source("p", SourceCurrency::Usd), StoredAs::Current, &stored(TEXT)).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left of a write");
    }

    #[test]
    fn two_processes_may_replace_a_table_at_the_same_time() {
        let folder = TempDir::new().unwrap();
        let (store, source) = (PriceStore::new(folder.path()), source("p", SourceCurrency::Usd));
        let table = stored(TEXT);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..50).for_each(|_| store.replace(&source, &table).unwrap()));
            }
        });
        assert_eq!(store.load(&source, StoredAs::Previous).unwrap(), Some(table));
    }

    #[test]
    fn a_table_of_another_place_or_unit_counts_as_absent() {
        let folder = TempDir::new().unwrap();
        let store = PriceStore::new(folder.path());
        store.save(&source("p", SourceCurrency::Usd), StoredAs::Current, &stored(TEXT)).unwrap();
        for other in [source("q", SourceCurrency::Usd), source("p", SourceCurrency::UsdCents)] {
            assert_eq!(store.load(&other, StoredAs::Current).unwrap(), None);
        }
    }

    #[test]
    fn a_file_that_is_cut_anywhere_counts_as_absent() {
        let mut bytes = Vec::new();
        write(&mut bytes, "o", &stored(TEXT)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(read(&text, "o").is_some());
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(read(&text[..end], "o"), None, "cut at {end}");
        }
    }
}
