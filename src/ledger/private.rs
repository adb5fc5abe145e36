//! Opens and locks files that only their owner may access, and detects that they were replaced or
//! changed.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::Uid,
};

use super::error::LedgerError;

/// Maximum time to wait for a lock that this process itself held before. A child process that is
/// being started holds a copy of its file descriptor until it executes its program.
const INHERITED_MAX: Duration = Duration::from_millis(500);
const INHERITED_INTERVAL: Duration = Duration::from_millis(5);

/// Identity of a file, independent of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Returns the identity of the file at this path. Symbolic links are not followed.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// Length and modification time; they differ after another program wrote to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

/// File with a single writer: its identity, and its state after the last write.
#[derive(Debug)]
pub(super) struct TrackedFile {
    path: PathBuf,
    identity: Option<FileIdentity>,
    stamp: Option<Stamp>,
}

impl TrackedFile {
    /// Tracks the file that is at this path now.
    pub(super) fn at(path: PathBuf) -> Self {
        let identity = FileIdentity::at(&path).ok();
        let mut file = Self { path, identity, stamp: None };
        file.note();
        file
    }

    /// Records the state after a write.
    pub(super) fn note(&mut self) {
        self.stamp = self.now();
    }

    /// Returns `true` if another program wrote to the file since the last write. Always `false`
    /// while the path names another file or none, and if it did at the last write.
    pub(super) fn is_changed(&self) -> bool {
        matches!((self.stamp, self.now()), (Some(noted), Some(now)) if noted != now)
    }

    /// Returns the length in bytes; zero if the path names another file or none.
    pub(super) fn len(&self) -> u64 {
        self.now().map_or(0, |stamp| stamp.len)
    }

    fn now(&self) -> Option<Stamp> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        let stamp = Stamp { len: metadata.len(), modified: metadata.modified().ok() };
        (Some(FileIdentity::of(&metadata)) == self.identity).then_some(stamp)
    }
}

/// Opens a file for reading and writing, and creates it if missing. Restricts it to its owner, and
/// fails for a symbolic link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(opened.map_err(|error| match error {
        Errno::LOOP => io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a symbolic link; replace it with the file itself",
        ),
        error => error.into(),
    })?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Fails if others than this user and root may write to a directory. Its owner always may.
pub(super) fn check_writers(directory: &Path, user: Uid) -> Result<(), LedgerError> {
    let metadata = fs::metadata(directory).map_err(LedgerError::file("access", directory))?;
    let (folder, owner, user) = (directory.to_owned(), metadata.uid(), user.as_raw());
    if owner != user && owner != Uid::ROOT.as_raw() {
        return Err(LedgerError::OtherOwner { folder, owner, user });
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(LedgerError::OthersMayWrite { folder });
    }
    Ok(())
}

/// File name of the lock.
pub(super) const LOCK_FILE: &str = "ledger.lock";
/// Maximum number of bytes read from another process's lock file.
const PID_BYTES_MAX: u64 = 32;

/// Lock that is held while the ledger is open. The system releases it when the process ends.
#[derive(Debug)]
pub(super) struct LedgerLock {
    _file: File,
}

impl LedgerLock {
    /// Locks the ledger in this folder.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::Locked`] if another process holds the lock, and [`LedgerError::File`]
    /// if the file cannot be written.
    pub(super) fn take(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(LOCK_FILE);
        let failed = |action| LedgerError::file(action, &path);
        let mut file = open(&path).map_err(failed("open"))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let pid = file.rewind().ok().and_then(|()| pid_in(&mut file));
                    if pid != Some(std::process::id()) || INHERITED_MAX <= begun.elapsed() {
                        return Err(LedgerError::Locked { folder: folder.to_owned(), pid });
                    }
                    thread::sleep(INHERITED_INTERVAL);
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_and_existing_files_are_restricted_to_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::write(&old, "kept").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o644)).unwrap();
        drop((open(&new).unwrap(), open(&old).unwrap()));
        assert_eq!((mode(&new), mode(&old)), (0o600, 0o600));
        assert_eq!(fs::read_to_string(&old).unwrap(), "kept");
    }

    #[test]
    fn a_symbolic_link_and_a_directory_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        symlink(&target, &link).unwrap();
        assert!(open(&link).unwrap_err().to_string().contains("symbolic link"));
        assert!(!target.exists(), "nothing was created behind the link");
        open(folder.path()).unwrap_err();
    }

    #[test]
    fn a_replaced_file_has_another_identity_and_a_moved_one_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = open(&path).unwrap();
        let identity = FileIdentity::of(&file.metadata().unwrap());
        assert_eq!(FileIdentity::at(&path).unwrap(), identity);
        let moved = folder.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "").unwrap();
        assert_ne!(FileIdentity::at(&path).unwrap(), identity);
        assert_eq!(FileIdentity::at(&moved).unwrap(), identity);
    }

    #[test]
    fn others_may_write_to_a_folder_of_their_own_or_by_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let owner = fs::metadata(folder.path()).unwrap().uid();
        for (mode, expected) in [(0o700, false), (0o755, false), (0o775, true), (0o702, true)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let checked = check_writers(folder.path(), Uid::from_raw(owner));
            let is_rejected = matches!(checked, Err(LedgerError::OthersMayWrite { .. }));
            assert_eq!((checked.is_err(), is_rejected), (expected, expected), "{mode:o}");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        if owner == 0 {
            // Root can change everything anyway.
            check_writers(folder.path(), Uid::from_raw(4_711)).unwrap();
            std::os::unix::fs::chown(folder.path(), Some(4_712), None).unwrap();
        }
        let owner = fs::metadata(folder.path()).unwrap().uid();
        let error = check_writers(folder.path(), Uid::from_raw(4_711)).unwrap_err().to_string();
        assert!(error.contains(&format!("user {owner}")), "{error}");
        assert!(error.contains("`chown -R 4711`") && error.contains("SNIPER_DATA"), "{error}");
    }
}
