//! Entries and groups that the user has paused, stored in a file so that a restart keeps them.
//!
//! The session passes the current names to a thread, which writes them. A live bot and a dry run
//! with the same data directory have a file each.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tracing::warn;

use super::control::Instance;
use crate::{
    config::load::make_directory,
    text::error_chain,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint, lock, priority},
};

/// Maximum length of the file, in bytes.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Version of the format.
const FORMAT: u32 = 1;
/// Time after which a failed write is repeated, unless a further change repeats it earlier.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time that the end of a session waits for the last write.
const LAST_WRITE_MAX: Duration = Duration::from_secs(1);

/// Names of the paused entries and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PausedNames {
    /// Labels of the paused entries, including those in paused groups.
    pub entries: Vec<String>,
    /// Groups that are paused as a whole. An entry that is added to such a group is paused too.
    pub groups: Vec<String>,
}

impl PausedNames {
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.groups.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
struct FileContent {
    format: u32,
    entries: Vec<String>,
    groups: Vec<String>,
}

/// Error of the file. It must not be ignored, because the bot would then buy items of paused
/// entries.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    #[error("{path} cannot be read; delete it to begin without pauses")]
    Read { path: String, source: io::Error },
    #[error("{path} is damaged or of a newer version; delete it to begin without pauses")]
    Content { path: String },
    #[error("the list of paused entries has more than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("{path} cannot be written")]
    Write { path: String, source: io::Error },
}

/// File that stores the names.
#[derive(Clone, Debug)]
pub struct PauseFile {
    path: PathBuf,
}

impl PauseFile {
    pub fn new(data_dir: &Path, instance: Instance) -> Self {
        let name = match instance {
            Instance::Live => "paused.json",
            Instance::Dry => "paused-dry.json",
        };
        Self { path: data_dir.join(name) }
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads the names; without a file nothing is paused.
    ///
    /// # Errors
    ///
    /// Returns a [`PauseError`] if there is a file that cannot be used.
    pub fn load(&self) -> Result<PausedNames, PauseError> {
        let path = || self.shown();
        let is_long = |length: u64| usize::try_from(length).is_ok_and(|it| FILE_BYTES_MAX < it);
        let text = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(PausedNames::default());
            }
            Ok(metadata) if is_long(metadata.len()) => {
                return Err(PauseError::Content { path: path() });
            }
            Ok(_) => fs::read(&self.path),
            Err(error) => Err(error),
        };
        let text = text.map_err(|source| PauseError::Read { path: path(), source })?;
        let content = serde_json::from_slice::<FileContent>(&text).ok();
        let content = content.filter(|content| content.format == FORMAT);
        let FileContent { entries, groups, .. } =
            content.ok_or_else(|| PauseError::Content { path: path() })?;
        Ok(PausedNames { entries, groups })
    }

    /// Replaces the file as a whole. Only for the bot that uses it, or while none runs.
    ///
    /// # Errors
    ///
    /// Returns a [`PauseError`] if it cannot be written.
    pub fn store(&self, names: &PausedNames) -> Result<(), PauseError> {
        let PausedNames { entries, groups } = names.clone();
        let content = FileContent { format: FORMAT, entries, groups };
        let written = serde_json::to_vec(&content).map_err(io::Error::from);
        let written = written.map(|text| (text.len() <= FILE_BYTES_MAX).then_some(text));
        let failed = |source| PauseError::Write { path: self.shown(), source };
        let text = written.map_err(failed)?.ok_or(PauseError::TooLong)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let write = || {
            make_directory(directory)?;
            let mut file = NamedTempFile::new_in(directory)?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(failed)
    }
}

/// Records the paused names for the writer. Without a writer, nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct PauseRecorder(Option<Arc<SharedNames>>);

#[derive(Debug, Default)]
struct SharedNames {
    state: Mutex<RecordedNames>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RecordedNames {
    /// Names that are not written yet.
    new: Option<PausedNames>,
    is_stopping: bool,
}

impl PauseRecorder {
    /// Passes names to the writer. Never waits for the disk.
    pub fn record(&self, names: impl FnOnce() -> PausedNames) {
        if let Some(shared) = &self.0 {
            lock(&shared.state).new = Some(names());
            shared.changed.notify_one();
        }
    }
}

/// Handle of the thread that writes. Dropping it waits for the last write, for a limited time.
#[derive(Debug)]
pub struct PauseWriter {
    shared: Arc<SharedNames>,
    done: Receiver<()>,
}

impl PauseWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be created.
    pub fn start(file: PauseFile) -> io::Result<Self> {
        let shared = Arc::<SharedNames>::default();
        let (ended, done) = sync_channel(1);
        let names = Arc::clone(&shared);
        let guard = ThreadGuard::new(ThreadName::Pauses, Alarm::global());
        thread::Builder::new().name(ThreadName::Pauses.to_string()).spawn(move || {
            priority::lower(ThreadName::Pauses);
            write_changes(&file, &names, guard);
            // The session may not wait any more.
            let _is_awaited = ended.send(()).is_ok();
        })?;
        Ok(Self { shared, done })
    }

    pub fn recorder(&self) -> PauseRecorder {
        PauseRecorder(Some(Arc::clone(&self.shared)))
    }
}

impl Drop for PauseWriter {
    fn drop(&mut self) {
        lock(&self.shared.state).is_stopping = true;
        self.shared.changed.notify_one();
        if self.done.recv_timeout(LAST_WRITE_MAX).is_err() {
            warn!("Paused entries not stored in time: a restart may forget the last change");
        }
    }
}

fn write_changes(file: &PauseFile, shared: &SharedNames, guard: ThreadGuard) {
    loop {
        let mut state = lock(&shared.state);
        while state.new.is_none() && !state.is_stopping {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(names) = state.new.take() else { return guard.finished() };
        drop(state);
        if failpoint(ThreadName::Pauses) {
            return;
        }
        if let Err(error) = file.store(&names) {
            let cause = error_chain(&error);
            warn!(
                "Paused entries not stored: {cause}; until they are, a restart forgets the change"
            );
            let mut state = lock(&shared.state);
            if state.is_stopping {
                return guard.finished();
            }
            state.new.get_or_insert(names);
            drop(shared.changed.wait_timeout(state, RETRY_INTERVAL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[&str], groups: &[&str]) -> PausedNames {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        PausedNames { entries: owned(entries), groups: owned(groups) }
    }

    #[test]
    fn the_last_names_are_on_disk_when_the_writer_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let file = PauseFile::new(&directory.path().join("data"), Instance::Live);
        assert!(file.load().unwrap().is_empty());
        let writer = PauseWriter::start(file.clone()).unwrap();
        for count in 0..50 {
            writer.recorder().record(|| names(&[&count.to_string()], &["knives"]));
        }
        drop(writer);
        assert_eq!(file.load().unwrap(), names(&["49"], &["knives"]));
        let dry = PauseFile::new(&directory.path().join("data"), Instance::Dry);
        assert!(dry.load().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = PauseFile::new(directory.path(), Instance::Live);
        for content in ["", "{}", r#"{"format":2,"entries":[],"groups":[]}"#] {
            fs::write(directory.path().join("paused.json"), content).unwrap();
            let error = file.load().unwrap_err().to_string();
            assert!(error.contains("paused.json") && error.contains("delete it"), "{error}");
        }
    }

    #[test]
    fn a_list_beyond_the_maximum_length_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = PauseFile::new(directory.path(), Instance::Live);
        let long = names(&[&"x".repeat(FILE_BYTES_MAX)], &[]);
        assert!(matches!(file.store(&long), Err(PauseError::TooLong)));
        assert!(file.load().unwrap().is_empty());
    }

    #[test]
    fn without_a_writer_nothing_is_composed() {
        PauseRecorder::default().record(|| panic!("it was composed"));
    }
}
