//! The thread that compares the ledger's files with their paths while a bot runs.
//!
//! The ledger writes through files that it opened at its start. If their directory is deleted,
//! replaced or restored from an older copy, these writes still succeed and reach nothing that the
//! next start would find. So this thread looks every [`EVERY`], and a [`StorageFault`] that it
//! finds stops ordering at once through the [`Alarm`](crate::threads::Alarm) that every approval
//! reads.
//!
//! # Invariants
//!
//! 1. A fault is cleared only when every path names the file that is held again, and the intents
//!    file holds what was written last. Its halt stays until a person resumes.
//! 2. [`StorageFault::Changed`] is never cleared: what was written over is not in the ledger.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    fault::StorageFault,
    mark::MarkError,
    private::{self, FileIdentity},
    write_ahead_log::WriteAheadLog,
    writer::WriterState,
};
use crate::threads::{ThreadGuard, ThreadName, failpoint};

/// How often the files are looked at.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// How many looks it takes until the directory is written to once.
pub(super) const LOOKS_PER_PROBE: u32 = 2;

/// The file that is written and removed to see whether the directory accepts a write.
const PROBE: &str = "ledger.probe";

/// What clears when the files are back as they were.
const PASSING: [StorageFault; 3] =
    [StorageFault::Gone, StorageFault::Replaced, StorageFault::Unwritable];

/// Watches the files of one ledger.
#[derive(Debug)]
pub(super) struct FileWatch {
    folder: PathBuf,
    held: Vec<(PathBuf, FileIdentity)>,
    ring: WriteAheadLog,
    shared: Arc<WriterState>,
    has_warned_of_mark: bool,
    looks: u32,
}

impl FileWatch {
    /// Watches those of these files that exist now.
    pub(super) fn new(
        folder: &Path,
        names: &[&str],
        ring: WriteAheadLog,
        shared: Arc<WriterState>,
    ) -> Self {
        let paths = names.iter().map(|name| folder.join(name));
        let held = paths.filter_map(|path| Some((path.clone(), FileIdentity::at(&path).ok()?)));
        let held = held.collect();
        Self { folder: folder.to_owned(), held, ring, shared, has_warned_of_mark: false, looks: 0 }
    }

    /// Looks until the sender of `until` is gone.
    pub(super) fn run(mut self, until: &Receiver<()>, guard: ThreadGuard) {
        while until.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            failpoint(ThreadName::Files);
            self.looks = self.looks.wrapping_add(1);
            self.look();
            self.look_after_mark();
        }
        guard.finished();
    }

    fn look(&self) {
        let bits = PASSING.iter().fold(0, |bits, fault| bits | fault.bit());
        let is_known = self.shared.alarm().bits() & bits != 0;
        match self.fault() {
            // Deleted, and then replaced: one cause is one halt.
            Some((fault, _)) if is_known && bits & fault.bit() != 0 => {}
            Some((fault, path)) => self.shared.raise(fault, &path),
            None => {
                if self.shared.alarm().clear(bits) {
                    tracing::warn!(
                        "The ledger's files are as they were again: {:?}. Buying stays halted \
                         until `sniper resume`",
                        self.folder
                    );
                }
            }
        }
    }

    /// The first fault, and the path that shows it.
    fn fault(&self) -> Option<(StorageFault, PathBuf)> {
        for (path, identity) in &self.held {
            let fault = match FileIdentity::at(path) {
                Ok(found) if found == *identity => continue,
                Ok(_other) => StorageFault::Replaced,
                Err(error) if is_absent(&error) => StorageFault::Gone,
                Err(_unreachable) => StorageFault::Unwritable,
            };
            return Some((fault, path.clone()));
        }
        if !self.ring_is_as_written() {
            return Some((StorageFault::Changed, self.folder.clone()));
        }
        // Writing costs the file system more than looking.
        if !self.looks.is_multiple_of(LOOKS_PER_PROBE) && !self.is_unwritable() {
            return None;
        }
        match self.probe() {
            Ok(()) => None,
            // A full disk stops the writer, which goes on by itself when there is room again.
            Err(error) if is_full(&error) => None,
            Err(error) if is_absent(&error) => Some((StorageFault::Gone, self.folder.clone())),
            Err(_refused) => Some((StorageFault::Unwritable, self.folder.clone())),
        }
    }

    /// Whether the intents file still holds the last two records. An approval that is rehearsed
    /// writes the last one again, so that one alone would prove nothing.
    fn ring_is_as_written(&self) -> bool {
        let (first, last) = (self.shared.first(), self.shared.written.load(Ordering::Acquire));
        [last.checked_sub(1), Some(last)].into_iter().flatten().filter(|at| first <= *at).all(
            |at| {
                // A read that fails says nothing about what is there; writes fail then, too.
                let found = self.ring.in_slot_of(at);
                found.map_or(true, |found| found.is_some_and(|found| at <= found.position))
            },
        )
    }

    fn is_unwritable(&self) -> bool {
        self.shared.alarm().bits() & StorageFault::Unwritable.bit() != 0
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.folder.join(PROBE);
        drop(private::open(&path)?);
        fs::remove_file(&path)
    }

    /// Brings the mark up to date, and takes it again if its file was deleted.
    fn look_after_mark(&mut self) {
        let renewed = self.shared.with_mark(|mark| {
            mark.renew()?;
            let last = self.shared.last_order.load(Ordering::Acquire);
            mark.advance(last).map_err(MarkError::Io)
        });
        match renewed {
            None => {}
            Some(Ok(())) => {
                self.has_warned_of_mark = false;
                self.shared.alarm().clear(StorageFault::AccountTaken.bit());
            }
            Some(Err(MarkError::Taken(holder))) => {
                let data = holder.map(|holder| PathBuf::from(holder.data)).unwrap_or_default();
                self.shared.raise(StorageFault::AccountTaken, &data);
            }
            Some(Err(MarkError::Io(_))) if self.has_warned_of_mark => {}
            Some(Err(MarkError::Io(error))) => {
                self.has_warned_of_mark = true;
                tracing::warn!(
                    "The account's mark cannot be written any more: {error}. A second bot for \
                     this account will not be noticed; make the state directory writable"
                );
            }
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
