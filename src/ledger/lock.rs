//! One process per ledger: a locked file that says who has it.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use super::{error::LedgerError, private};

/// The lock's name in its folder.
pub(super) const NAME: &str = "ledger.lock";
/// The most that is read of what another process left, in bytes.
const PID_BYTES_MAX: u64 = 32;

/// Held for as long as the ledger is open. The system lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct LedgerLock {
    _file: File,
}

impl LedgerLock {
    /// Takes the lock of the ledger in this folder.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Locked`] when another process has it, [`LedgerError::File`] when the file
    /// cannot be written.
    pub(super) fn take(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(NAME);
        let failed = |what| {
            let path = path.clone();
            move |source| LedgerError::File { what, path, source }
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
        let said = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        said.map_err(failed("write"))?;
        Ok(Self { _file: file })
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
