//! Lock file that limits a ledger to one process and contains its pid.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use super::{error::LedgerError, private};

/// File name of the lock.
pub(super) const NAME: &str = "ledger.lock";
/// Maximum number of bytes read from another process's lock file.
const PID_BYTES_MAX: u64 = 32;

/// Held while the ledger is open. The system releases it when the process dies.
#[derive(Debug)]
pub(super) struct LedgerLock {
    _file: File,
}

impl LedgerLock {
    /// Locks the ledger in this folder.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Locked`] if another process holds the lock, [`LedgerError::File`] if the file
    /// cannot be written.
    pub(super) fn take(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(NAME);
        let failed = |action| {
            let path = path.clone();
            move |source| LedgerError::File { action, path, source }
        };
        let mut file = private::open(&path).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (folder, pid) = (folder.to_owned(), pid_in(&mut file));
                return Err(LedgerError::Locked { folder, pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed("write"))?;
        Ok(Self { _file: file })
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
