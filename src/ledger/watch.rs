//! Thread that compares the ledger's files with their paths while a bot runs.
//!
//! The ledger writes through files that it opened at its start. If their folder is deleted,
//! replaced or restored from an older copy, these writes still succeed but are lost for the next
//! start. Therefore this thread checks every [`CHECK_INTERVAL`]. A [`StorageFault`] stops ordering
//! immediately through the [`Alarm`](crate::threads::Alarm) that every approval reads.
//!
//! # Invariants
//!
//! 1. A fault is cleared only when every path names the open file again and the intent file
//!    contains the last record. Its halt lasts until the operator resumes.
//! 2. [`StorageFault::Changed`] is never cleared: the overwritten data is missing from the ledger.

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

use rustix::io::Errno;

use super::{
    event::StorageFault,
    mark::MarkError,
    private::{self, FileIdentity},
    write_ahead_log::WriteAheadLog,
    writer::WriterState,
};
use crate::threads::{ThreadGuard, ThreadName, failpoint};

/// Interval of the checks.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of records that one check reads.
const RECORDS_CHECKED_MAX: u64 = 1_024;

/// Number of checks per test write to the folder.
pub(super) const CHECKS_PER_PROBE: u32 = 2;

/// File that is created and removed to test if the folder accepts writes.
const PROBE: &str = "ledger.probe";

/// Faults that clear when the files are restored.
const CLEARABLE: [StorageFault; 3] =
    [StorageFault::Gone, StorageFault::Replaced, StorageFault::Unwritable];

/// Watches the files of one ledger.
#[derive(Debug)]
pub(super) struct FileWatch {
    folder: PathBuf,
    held: Vec<(PathBuf, FileIdentity)>,
    intent_log: WriteAheadLog,
    shared: Arc<WriterState>,
    has_warned_of_mark: bool,
    has_warned_of_open_files: bool,
    checks: u32,
    /// Last record that a check has found.
    found: u64,
}

impl FileWatch {
    /// Watches the given files, as far as they exist now.
    pub(super) fn new(
        folder: &Path,
        names: &[&str],
        intent_log: WriteAheadLog,
        shared: Arc<WriterState>,
    ) -> Self {
        let paths = names.iter().map(|name| folder.join(name));
        let held = paths.filter_map(|path| Some((path.clone(), FileIdentity::at(&path).ok()?)));
        let held = held.collect();
        Self {
            folder: folder.to_owned(),
            held,
            intent_log,
            shared,
            has_warned_of_mark: false,
            has_warned_of_open_files: false,
            checks: 0,
            found: 0,
        }
    }

    /// Checks until the sender of `until` is dropped.
    pub(super) fn run(mut self, until: &Receiver<()>, guard: ThreadGuard) {
        while until.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if failpoint(ThreadName::Files) {
                return;
            }
            self.checks = self.checks.wrapping_add(1);
            self.check();
            self.update_mark();
        }
        guard.finished();
    }

    fn check(&mut self) {
        let bits = CLEARABLE.iter().fold(0, |bits, fault| bits | fault.bit());
        let known = self.shared.alarm().bits() & bits;
        let is_lost = known & !StorageFault::Unwritable.bit() != 0;
        match self.fault() {
            // A file may be deleted and then replaced; that causes one halt.
            Some((fault, _)) if is_lost && bits & fault.bit() != 0 => {}
            Some((fault, _)) if known & fault.bit() != 0 => {}
            Some((fault, path)) => self.shared.raise(fault, &path),
            None => {
                if self.shared.alarm().clear(bits) {
                    let folder = &self.folder;
                    tracing::warn!(
                        "Ledger files restored: {folder:?}; halted until `sniper resume`"
                    );
                }
            }
        }
    }

    /// Returns the first fault, and the path that shows it.
    fn fault(&mut self) -> Option<(StorageFault, PathBuf)> {
        for (path, identity) in &self.held {
            let fault = match FileIdentity::at(path) {
                Ok(found) if found == *identity => continue,
                Ok(_other) => StorageFault::Replaced,
                Err(error) if is_absent(&error) => StorageFault::Gone,
                Err(_unreachable) => StorageFault::Unwritable,
            };
            return Some((fault, path.clone()));
        }
        if !self.is_intent_file_intact() {
            return Some((StorageFault::Changed, self.folder.clone()));
        }
        // Most checks skip the test write, which costs the file system more.
        let is_unwritable = self.shared.alarm().bits() & StorageFault::Unwritable.bit() != 0;
        if !self.checks.is_multiple_of(CHECKS_PER_PROBE) && !is_unwritable {
            return None;
        }
        let probed = self.probe();
        let has_too_many_open = probed.as_ref().is_err_and(has_too_many_open_files);
        if has_too_many_open && !self.has_warned_of_open_files {
            tracing::warn!("Too many open files, ledger folder not checked; raise `ulimit -n`");
        }
        self.has_warned_of_open_files = has_too_many_open;
        // An earlier fault lasts until a test write succeeds.
        let lasting = (has_too_many_open && is_unwritable).then_some(StorageFault::Unwritable);
        let fault = lasting.or(probed.err().and_then(|error| probe_fault(&error)))?;
        Some((fault, self.folder.clone()))
    }

    /// Returns `true` if the intent file contains every record from the last one of the previous
    /// check: an older copy lacks one of them, also if further ones were written behind it since.
    fn is_intent_file_intact(&mut self) -> bool {
        let last = self.shared.written.load(Ordering::Acquire);
        // Cache warming writes the last record again, which would hide a change of it.
        let begin = self.found.min(last.saturating_sub(1)).max(self.shared.first());
        let begin = begin.max(last.saturating_sub(RECORDS_CHECKED_MAX));
        let is_intact = (begin..=last).all(|at| {
            // A failed read is no evidence of a change; writes then fail too.
            let found = self.intent_log.read_slot(at);
            found.map_or(true, |found| found.is_some_and(|found| at <= found.position))
        });
        if is_intact {
            self.found = last;
        }
        is_intact
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.folder.join(PROBE);
        drop(private::open(&path)?);
        fs::remove_file(&path)
    }

    /// Updates the mark, and locks it again if its file was deleted.
    fn update_mark(&mut self) {
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
            Some(Err(MarkError::Locked(holder))) => {
                let data = holder.map(|holder| PathBuf::from(holder.data)).unwrap_or_default();
                self.shared.raise(StorageFault::AccountTaken, &data);
            }
            Some(Err(MarkError::Io(_))) if self.has_warned_of_mark => {}
            Some(Err(MarkError::Io(error))) => {
                self.has_warned_of_mark = true;
                tracing::warn!(
                    "A second bot for this account may no longer be detected: {error}. What to do: \
                     make the state folder writable"
                );
            }
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the fault that a failed test write shows.
fn probe_fault(error: &io::Error) -> Option<StorageFault> {
    match error.kind() {
        // A full disk stops the writer, which resumes by itself once there is space.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => None,
        // The files that the ledger writes are open already.
        _ if has_too_many_open_files(error) => None,
        _ if is_absent(error) => Some(StorageFault::Gone),
        _ => Some(StorageFault::Unwritable),
    }
}

fn has_too_many_open_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_too_many_open_files_are_no_fault_of_the_folder() {
        let fault = |error: Errno| probe_fault(&error.into());
        for transient in [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE] {
            assert_eq!(fault(transient), None, "{transient}");
        }
        assert_eq!(fault(Errno::NOENT), Some(StorageFault::Gone));
        for error in [Errno::ROFS, Errno::ACCESS, Errno::IO] {
            assert_eq!(fault(error), Some(StorageFault::Unwritable), "{error}");
        }
    }
}
