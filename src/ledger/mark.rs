//! Account mark: a file outside of the ledger's folder that records which ledger an account uses.
//!
//! There is one mark per market and account, in the user's state directory. It contains the
//! ledger's id and the number of its last order, and is locked while a live bot trades for the
//! account. This prevents a second bot for the account in any `SNIPER_DATA`, and detects a ledger
//! that was deleted or restored from an older copy. The mark contains no secret; the account id
//! appears only in the file name, hashed.
//!
//! # Invariants
//!
//! 1. The database contains the last order of the mark, so neither a kill nor a power loss makes
//!    the ledger look older than its mark.
//! 2. The lock is held as long as the [`AccountMark`] exists.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::{
    error::LedgerError,
    private::{self, FileIdentity},
};
use crate::{config::load::make_directory, text::truncated};

/// File size in bytes: one sector, so that a write is atomic.
const BYTES: usize = 512;
/// Maximum length of the stored folder name, in bytes.
const DIRECTORY_BYTES_MAX: usize = 256;
/// Maximum length of the host in the file name, in bytes.
const HOST_BYTES_MAX: usize = 80;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MarkContent {
    version: u32,
    pub(super) ledger: String,
    /// Number of the last order that the ledger certainly contains.
    pub(super) last: u64,
    pub(super) pid: u32,
    /// `SNIPER_DATA` of that process, for display.
    pub(super) data: String,
}

/// Mark that this process has locked.
#[derive(Debug)]
pub(super) struct AccountMark {
    file: File,
    path: PathBuf,
    content: MarkContent,
    /// A power loss no longer makes the file empty.
    is_synced: bool,
}

/// Error of [`AccountMark::acquire`].
#[derive(Debug)]
pub(super) enum MarkError {
    /// Another bot holds the lock, or held it while this one had lost it.
    Locked(Option<MarkContent>),
    Io(io::Error),
}

/// Content of the file of a mark.
#[derive(Debug)]
pub(super) enum MarkState {
    Absent,
    Content(MarkContent),
    /// Not written by any version of this program.
    Damaged,
}

/// Parameters of a live start for its mark.
#[derive(Clone, Debug)]
pub(super) struct MarkClaim {
    /// State directory, if there is one.
    pub(super) state_dir: Option<PathBuf>,
    pub(super) host: String,
    pub(super) data: PathBuf,
    pub(super) ledger: String,
    pub(super) is_new: bool,
}

impl MarkClaim {
    /// Locks the account's mark for this ledger, whose last order is `last`. Returns `None` if
    /// marks cannot be written on this system; a warning was logged then.
    ///
    /// # Errors
    ///
    /// [`LedgerError::AccountInUse`] if another bot trades for the account, and
    /// [`LedgerError::OtherLedger`], [`LedgerError::OlderCopy`] or [`LedgerError::MarkDamaged`] if
    /// the mark records orders that the ledger does not contain.
    pub(super) fn acquire(
        &self,
        user: &str,
        last: u64,
    ) -> Result<Option<AccountMark>, LedgerError> {
        let Some(state) = &self.state_dir else {
            warn_unavailable(&"neither XDG_STATE_HOME nor HOME is set");
            return Ok(None);
        };
        let path = path(state, &self.host, user);
        let ours = MarkContent::of(self.ledger.clone(), last, &self.data);
        let (mut mark, found) = match AccountMark::acquire(path, ours) {
            Ok(taken) => taken,
            Err(MarkError::Locked(holder)) => return Err(LedgerError::account_in_use(holder)),
            Err(MarkError::Io(error)) => {
                warn_unavailable(&error);
                return Ok(None);
            }
        };
        self.check(&found, last, &mark.path)?;
        if private::check_writers(state, geteuid()).is_err() {
            warn_unavailable(&format!("other users may write to {}", state.display()));
        }
        if let Err(error) = mark.write() {
            warn_unavailable(&error);
            return Ok(None);
        }
        Ok(Some(mark))
    }

    /// Locks the mark of the account's recipient against bots that lock it alone. Other accounts
    /// may have the same recipient, so its content is checked only for a ledger that may be bound
    /// to it: `last` is the last order of such a ledger.
    pub(super) fn share(
        &self,
        recipient: &str,
        last: Option<u64>,
    ) -> Result<Option<File>, LedgerError> {
        let Some(state) = &self.state_dir else { return Ok(None) };
        let path = path(state, &self.host, recipient);
        match lock(&path, File::try_lock_shared) {
            Ok((file, found)) => {
                last.map_or(Ok(()), |last| self.check(&found, last, &path)).map(|()| Some(file))
            }
            Err(MarkError::Locked(holder)) => Err(LedgerError::account_in_use(holder)),
            Err(MarkError::Io(_)) => Ok(None),
        }
    }

    /// Empties the mark of a recipient if it is that of this ledger, which has the mark of its
    /// account now. Its content would forbid other accounts.
    pub(super) fn clear(&self, file: &mut File) {
        let found = MarkContent::read(file);
        let is_ours = matches!(found, Ok(MarkState::Content(mark)) if mark.ledger == self.ledger);
        let _cleared = is_ours && file.set_len(0).is_ok();
    }

    /// Returns the path of the copy that is saved if the ledger's files are lost.
    pub(super) fn copy_path(&self) -> Option<PathBuf> {
        self.state_dir.as_ref().map(|state| copy_path(state, &self.data))
    }

    fn check(&self, found: &MarkState, last: u64, path: &Path) -> Result<(), LedgerError> {
        let folder = self.data.clone();
        match found {
            _ if self.is_new => Ok(()),
            MarkState::Absent => Ok(()),
            MarkState::Damaged => Err(LedgerError::MarkDamaged { path: path.to_owned() }),
            MarkState::Content(mark) if mark.ledger != self.ledger => {
                let copy = self.copy_path().filter(|copy| copy.exists());
                Err(LedgerError::OtherLedger { folder, last: mark.last, copy })
            }
            MarkState::Content(mark) if last < mark.last => {
                Err(LedgerError::OlderCopy { folder, found: last, last: mark.last })
            }
            MarkState::Content(_) => Ok(()),
        }
    }
}

fn warn_unavailable(cause: &dyn std::fmt::Display) {
    tracing::warn!(
        "A second bot for this account, or a ledger that was deleted or restored from an older \
         copy, may not be detected: {cause}. What to do: set XDG_STATE_HOME to a folder that only \
         this user can write"
    );
}

impl MarkContent {
    /// Creates the content that this process writes.
    pub(super) fn of(ledger: String, last: u64, data: &Path) -> Self {
        let data = std::path::absolute(data).unwrap_or_else(|_none| data.to_owned());
        let data = data.to_string_lossy();
        let data = truncated(&data, DIRECTORY_BYTES_MAX).to_owned();
        Self { version: 1, ledger, last, pid: std::process::id(), data }
    }

    fn to_bytes(&self) -> io::Result<[u8; BYTES]> {
        let mut bytes = [b' '; BYTES];
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        // A path with many escaped characters may be too long. It is only for display.
        let json = if json.len() < BYTES {
            json
        } else {
            let short = Self { data: String::new(), ..self.clone() };
            serde_json::to_vec(&short).map_err(io::Error::other)?
        };
        let too_long = || io::Error::from(io::ErrorKind::FileTooLarge);
        bytes.get_mut(..json.len()).ok_or_else(too_long)?.copy_from_slice(&json);
        if let Some(last) = bytes.last_mut() {
            *last = b'\n';
        }
        Ok(bytes)
    }

    fn read(file: &mut File) -> io::Result<MarkState> {
        let mut text = Vec::with_capacity(BYTES);
        file.rewind()?;
        let bound = u64::try_from(BYTES).unwrap_or(u64::MAX);
        file.take(bound).read_to_end(&mut text)?;
        if text.is_empty() {
            return Ok(MarkState::Absent);
        }
        Ok(match serde_json::from_slice::<Self>(&text) {
            Ok(content) if content.version == 1 => MarkState::Content(content),
            _ => MarkState::Damaged,
        })
    }
}

impl AccountMark {
    /// Locks the mark at this path and reads its content. Nothing is written yet.
    pub(super) fn acquire(
        path: PathBuf,
        content: MarkContent,
    ) -> Result<(Self, MarkState), MarkError> {
        let (file, found) = lock(&path, File::try_lock)?;
        Ok((Self { file, path, content, is_synced: false }, found))
    }

    /// Returns the file, which stays locked.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Reads the mark without locking it.
    pub(super) fn read(state: &Path, host: &str, user: &str) -> io::Result<MarkState> {
        match File::open(path(state, host, user)) {
            Ok(mut file) => MarkContent::read(&mut file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(MarkState::Absent),
            Err(error) => Err(error),
        }
    }

    /// Records that the database contains this order. Numbers only grow.
    pub(super) fn advance(&mut self, last: u64) -> io::Result<()> {
        if last <= self.content.last {
            return Ok(());
        }
        self.content.last = last;
        self.write()
    }

    /// Locks and writes the mark again if its file was deleted or replaced. Otherwise syncs it
    /// once.
    pub(super) fn renew(&mut self) -> Result<(), MarkError> {
        let held = self.file.metadata().map(|metadata| FileIdentity::of(&metadata));
        if let (Ok(held), Ok(named)) = (held, FileIdentity::at(&self.path))
            && held == named
        {
            return self.sync_once().map_err(MarkError::Io);
        }
        let (mut mark, found) = Self::acquire(self.path.clone(), self.content.clone())?;
        if let MarkState::Content(other) = found
            && (other.ledger != self.content.ledger || self.content.last < other.last)
        {
            return Err(MarkError::Locked(Some(other)));
        }
        mark.write().map_err(MarkError::Io)?;
        *self = mark;
        Ok(())
    }

    fn sync_once(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.file.sync_data()?;
            if let Some(directory) = self.path.parent() {
                File::open(directory)?.sync_all()?;
            }
            self.is_synced = true;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let bytes = self.content.to_bytes()?;
        self.file.rewind()?;
        self.file.write_all(&bytes)
    }
}

/// Locks the mark at this path and reads its content.
fn lock(
    path: &Path,
    try_lock: impl FnOnce(&File) -> Result<(), TryLockError>,
) -> Result<(File, MarkState), MarkError> {
    let opened = path.parent().map_or(Ok(()), make_directory);
    let mut file = opened.and_then(|()| private::open(path)).map_err(MarkError::Io)?;
    let locked = try_lock(&file);
    if let Err(TryLockError::Error(error)) = locked {
        return Err(MarkError::Io(error));
    }
    let found = MarkContent::read(&mut file).map_err(MarkError::Io);
    match (locked, found) {
        (Ok(()), found) => Ok((file, found?)),
        (Err(_), Ok(MarkState::Content(holder))) => Err(MarkError::Locked(Some(holder))),
        (Err(_), _) => Err(MarkError::Locked(None)),
    }
}

/// Returns the path of an account's mark at a market.
pub(super) fn path(state: &Path, host: &str, user: &str) -> PathBuf {
    let is_plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-');
    let plain = host.chars().map(|char| if is_plain(&char) { char } else { '_' });
    let plain: String = plain.take(HOST_BYTES_MAX).collect();
    let key = fnv(host.bytes().chain([b'\n']).chain(user.bytes()));
    state.join(format!("{plain}-{key:016x}.mark"))
}

/// Returns the path of the copy for the ledger of this `SNIPER_DATA`, saved if its folder is lost.
pub(super) fn copy_path(state: &Path, data: &Path) -> PathBuf {
    state.join(format!("ledger-{:016x}.db", data_key(data)))
}

/// Hashes the path of a `SNIPER_DATA`, independent of its spelling and of its existence.
pub(super) fn data_key(data: &Path) -> u64 {
    fnv(resolved(data).to_string_lossy().bytes())
}

/// Canonicalizes a path whose last components may not exist.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_none| path.to_owned());
    let mut missing = PathBuf::new();
    let mut above = path.as_path();
    while let (Some(parent), Some(name)) = (above.parent(), above.file_name()) {
        missing = if missing.as_os_str().is_empty() {
            PathBuf::from(name)
        } else {
            Path::new(name).join(missing)
        };
        if let Ok(real) = parent.canonicalize() {
            return real.join(missing);
        }
        above = parent;
    }
    path
}

/// Returns the 64-bit FNV-1a hash, which is the same on all machines and in all versions.
pub(super) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn claim(state: &Path, ledger: &str) -> MarkClaim {
        MarkClaim {
            state_dir: Some(state.to_owned()),
            host: "market.example:443".to_owned(),
            data: PathBuf::from("/some/data"),
            ledger: ledger.to_owned(),
            is_new: false,
        }
    }

    #[test]
    fn a_mark_that_others_may_replace_is_taken_with_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;

        let top = tempfile::tempdir().unwrap();
        let state = top.path().join("sniper");
        let warnings = |mode| {
            fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
            let log = top.path().join("log");
            let file = File::create(&log).unwrap();
            let subscriber = tracing_subscriber::fmt().with_writer(file).finish();
            tracing::subscriber::with_default(subscriber, || {
                assert!(claim(&state, "a").acquire("account", 1).unwrap().is_some());
            });
            fs::read_to_string(&log).unwrap().matches("may write to").count()
        };
        make_directory(&state).unwrap();
        // Another test that logs the same line for the first time may disable it for the subscriber
        // of this moment, but not for later ones.
        let _registered = warnings(0o770);
        assert_eq!([0o700, 0o770, 0o702, 0o755].map(warnings), [0, 1, 1, 0]);
    }

    /// Source: the test vectors of the FNV authors.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv(b"".iter().copied()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn neither_name_nor_content_contains_the_account_id() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "VXNlcjox");
        let mark = claim(state.path(), "a").acquire("VXNlcjox", 3).unwrap();
        assert!(mark.is_some() && path.exists());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("market.example_443-"), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(!name.contains("VXN") && !text.contains("VXN"), "{name}: {text}");
        assert_eq!(text.len(), BYTES);
    }

    #[test]
    fn a_second_bot_for_an_account_fails_with_the_pid_of_the_first() {
        let state = tempfile::tempdir().unwrap();
        let first = claim(state.path(), "a").acquire("user", 3).unwrap();
        let error = claim(state.path(), "b").acquire("user", 0).unwrap_err();
        let (pid, text) = (std::process::id(), error.to_string());
        assert!(text.contains(&format!("process {pid}")) && text.contains("/some/data"), "{text}");
        assert!(claim(state.path(), "b").acquire("other", 0).unwrap().is_some());
        drop(first);
        assert!(claim(state.path(), "a").acquire("user", 3).unwrap().is_some());
    }

    #[test]
    fn a_ledger_without_the_orders_of_its_mark_is_an_error_unless_a_new_one_is_requested() {
        let state = tempfile::tempdir().unwrap();
        let mut mark = claim(state.path(), "a").acquire("user", 3).unwrap().unwrap();
        mark.advance(7).unwrap();
        mark.advance(5).unwrap();
        drop(mark);
        let error = claim(state.path(), "a").acquire("user", 6).unwrap_err();
        assert!(matches!(error, LedgerError::OlderCopy { found: 6, last: 7, .. }), "{error}");
        let error = claim(state.path(), "b").acquire("user", 9).unwrap_err();
        assert!(matches!(error, LedgerError::OtherLedger { last: 7, .. }), "{error}");
        assert!(error.to_string().contains("--new-ledger"), "{error}");
        assert!(claim(state.path(), "a").acquire("user", 7).unwrap().is_some());
        let new = MarkClaim { is_new: true, ..claim(state.path(), "b") };
        assert!(new.acquire("user", 0).unwrap().is_some());
        assert!(claim(state.path(), "b").acquire("user", 0).unwrap().is_some());
    }

    #[test]
    fn a_damaged_mark_is_an_error_and_an_empty_one_is_not() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "user");
        fs::write(&path, "garbage").unwrap();
        let error = claim(state.path(), "a").acquire("user", 0).unwrap_err();
        assert!(matches!(error, LedgerError::MarkDamaged { .. }), "{error}");
        // The machine lost power after creating the file and before writing it.
        fs::write(&path, "").unwrap();
        assert!(claim(state.path(), "a").acquire("user", 0).unwrap().is_some());
    }

    #[test]
    fn a_folder_has_one_key_for_every_spelling_even_after_its_removal() {
        let top = tempfile::tempdir().unwrap();
        let data = top.path().join("deep/data");
        fs::create_dir_all(&data).unwrap();
        let key = data_key(&data);
        assert_eq!(data_key(&top.path().join("deep/./data")), key);
        assert_eq!(data_key(&top.path().join("deep/../deep/data")), key);
        assert_ne!(data_key(&top.path().join("deep/other")), key);
        fs::remove_dir(&data).unwrap();
        assert_eq!(data_key(&data), key);
        fs::remove_dir(top.path().join("deep")).unwrap();
        assert_eq!(data_key(&data), key);
    }

    #[test]
    fn the_bot_runs_without_a_mark_that_cannot_be_written() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(claim(&file, "a").acquire("user", 0).unwrap().is_none());
        let nowhere = MarkClaim { state_dir: None, ..claim(&file, "a") };
        assert!(nowhere.acquire("user", 0).unwrap().is_none());
    }

    #[test]
    fn a_deleted_mark_is_locked_again_unless_another_bot_holds_it() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "user");
        let mut mark = claim(state.path(), "a").acquire("user", 3).unwrap().unwrap();
        mark.renew().unwrap();
        fs::remove_file(&path).unwrap();
        mark.renew().unwrap();
        claim(state.path(), "b").acquire("user", 0).unwrap_err();
        fs::remove_file(&path).unwrap();
        let other = claim(state.path(), "b").acquire("user", 0).unwrap();
        assert!(matches!(mark.renew(), Err(MarkError::Locked(Some(_)))));
        drop(other);
    }

    #[test]
    fn a_deleted_mark_does_not_replace_that_of_a_bot_that_has_run_since() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "user");
        for (ledger, last, is_other) in [("a", 3, false), ("a", 4, true), ("b", 0, true)] {
            let mut mark = claim(state.path(), "a").acquire("user", 3).unwrap().unwrap();
            fs::remove_file(&path).unwrap();
            drop(claim(state.path(), ledger).acquire("user", last).unwrap());
            for _check in 0..2 {
                let renewed = mark.renew();
                assert_eq!(
                    matches!(renewed, Err(MarkError::Locked(Some(_)))),
                    is_other,
                    "{ledger}"
                );
            }
            fs::remove_file(&path).unwrap();
            mark.renew().unwrap();
        }
    }

    #[test]
    fn a_mark_is_synced_once_after_it_was_locked() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "user");
        let mut mark = claim(state.path(), "a").acquire("user", 3).unwrap().unwrap();
        for _locked_again in 0..2 {
            assert!(!mark.is_synced, "the caller does not wait for the disk");
            mark.renew().unwrap();
            assert!(mark.is_synced);
            fs::remove_file(&path).unwrap();
            mark.renew().unwrap();
        }
    }

    #[test]
    fn a_long_path_with_escaped_characters_fits_into_the_mark() {
        let data = PathBuf::from(format!("/{}", "\u{1}".repeat(300)));
        let content = MarkContent::of("a".repeat(32), u64::MAX, &data);
        let bytes = content.to_bytes().unwrap();
        let read: MarkContent = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((read.last, read.data.as_str()), (u64::MAX, ""));
    }
}
