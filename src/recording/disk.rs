//! File operations of a recording, behind a trait so that tests can simulate a full or slow disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// The file operations that a recording needs.
pub trait Disk: Send + 'static {
    type File: DiskFile;

    /// Creates a directory that must not exist.
    ///
    /// # Errors
    ///
    /// Returns the error of the system; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its parents, if they do not exist.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that must not exist.
    ///
    /// # Errors
    ///
    /// Returns the error of the system; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create_file(&self, path: &Path) -> io::Result<Self::File>;

    /// Replaces a file atomically: readers see the old or the new content, even after a crash.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. The old content is then unchanged.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
}

/// An open append-only file.
pub trait DiskFile: Send {
    /// Appends all bytes to the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. Some of the bytes may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits until all appended bytes are on the disk.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    fn sync(&mut self) -> io::Result<()>;

    /// Truncates the file to `len` bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        sync_parent(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        sync_parent(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        sync_parent(path)?;
        Ok(file)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        sync_parent(path)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// A new directory entry is durable once its directory is synced.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
