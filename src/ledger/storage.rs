//! Positioned reads and writes of a file, as a trait so that tests can simulate disk failures.

use std::{fmt, fs::File, io};

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

#[cfg(unix)]
impl Storage for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}

#[cfg(windows)]
impl Storage for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(self, bytes, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes = bytes.get_mut(read..).unwrap_or_default();
            offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}
