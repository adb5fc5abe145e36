//! What a recording asks of a disk: so little that a test can be one, and be full.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// A place for files.
pub trait Disk: Send + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a directory that must not exist.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and those above it, where they do not exist.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that must not exist.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create_file(&self, path: &Path) -> io::Result<Self::File>;

    /// Replaces a file in one step: whoever reads it sees the old or the new, also after a crash.
    ///
    /// # Errors
    ///
    /// What the system says. The old one is whole then.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
}

/// An open file that only grows.
pub trait DiskFile: Send {
    /// Writes all of this at the end.
    ///
    /// # Errors
    ///
    /// What the system says. A part may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off what stands behind this length.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// The disk of this machine.
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
        let fresh = path.with_extension("tmp");
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&fresh, path)?;
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

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// A new name is on disk when the directory that holds it is.
#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Windows writes names by itself, and gives nobody a handle on a directory.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "its Unix twin can fail")]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}
