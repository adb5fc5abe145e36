//! Positioned reads and writes of a file, as a trait so that tests can simulate disk failures.

use std::{fmt, fs::File, io, os::unix::fs::FileExt};

/// File of fixed length with positioned reads and writes.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Fills `bytes` from the file, starting at `offset`.
    ///
    /// # Errors
    ///
    /// An I/O error; also if the file ends earlier.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `bytes`, or a prefix of them, at `offset`. Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// An I/O error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Waits until every write is on disk.
    ///
    /// # Errors
    ///
    /// An I/O error.
    fn sync(&self) -> io::Result<()>;

    /// Returns the length of the file in bytes.
    ///
    /// # Errors
    ///
    /// An I/O error.
    fn len(&self) -> io::Result<u64>;

    /// Returns `true` if the length is zero.
    ///
    /// # Errors
    ///
    /// An I/O error.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

impl Storage for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}
