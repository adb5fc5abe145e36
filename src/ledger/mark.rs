//! The mark: which ledger an account orders with, kept outside of that ledger's directory.
//!
//! There is one per market and account, in the user's state directory. It holds the ledger's id and
//! the number of its last order, and it is locked while a live bot orders for the account. So a
//! second bot for the account does not start, whatever its `SNIPER_DATA`, and a ledger that was
//! deleted or restored from an older copy is noticed. It holds no secret; the account's id is only
//! in the name of the file, hashed.
//!
//! # Invariants
//!
//! 1. The last order in the mark is one that the ledger's database has, so that neither a kill nor
//!    power loss makes a ledger look older than its mark.
//! 2. The lock is held for as long as the [`AccountMark`] is.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    error::LedgerError,
    private::{self, FileIdentity},
};

/// The size of the file, in bytes: one sector, so that it is written whole or not at all.
const BYTES: usize = 512;
/// The longest directory that is named in it, in bytes.
const DIRECTORY_BYTES_MAX: usize = 256;
/// The longest part of a host that is in a file's name, in bytes.
const HOST_BYTES_MAX: usize = 80;

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MarkContent {
    version: u32,
    /// The ledger's id.
    pub(super) ledger: String,
    /// The number of the last order that is surely in it.
    pub(super) last: u64,
    /// The process that wrote this.
    pub(super) pid: u32,
    /// Its `SNIPER_DATA`, for people.
    pub(super) data: String,
}

/// A mark that is locked for this process.
#[derive(Debug)]
pub(super) struct AccountMark {
    file: File,
    path: PathBuf,
    content: MarkContent,
}

/// Why a mark cannot be had.
#[derive(Debug)]
pub(super) enum MarkError {
    /// Another bot has it.
    Taken(Option<MarkContent>),
    /// The system said no.
    Io(io::Error),
}

/// What a mark says when it is taken.
#[derive(Debug)]
pub(super) enum MarkState {
    /// There was none.
    Nothing,
    /// This.
    Content(MarkContent),
    /// Something that no version of this program wrote.
    Garbled,
}

/// What a live start brings to its mark.
#[derive(Clone, Debug)]
pub(super) struct MarkClaim {
    /// The state directory; `None`: there is none.
    pub(super) state: Option<PathBuf>,
    /// The market's host.
    pub(super) host: String,
    /// `SNIPER_DATA`.
    pub(super) data: PathBuf,
    /// The ledger's id.
    pub(super) ledger: String,
    /// Whether the user asked for a new ledger.
    pub(super) is_new: bool,
}

impl MarkClaim {
    /// Takes the account's mark for this ledger, whose last order is `last`. `None`: marks cannot be
    /// written here, which was logged.
    ///
    /// # Errors
    ///
    /// [`LedgerError::AccountInUse`] if another bot orders for the account, and
    /// [`LedgerError::Forgotten`], [`LedgerError::Older`] or [`LedgerError::MarkGarbled`] if the
    /// mark knows of orders that the ledger does not have.
    pub(super) fn make(&self, user: &str, last: u64) -> Result<Option<AccountMark>, LedgerError> {
        let Some(state) = &self.state else {
            warn_absent(&"neither XDG_STATE_HOME nor HOME is set");
            return Ok(None);
        };
        let path = path(state, &self.host, user);
        let ours = MarkContent::of(self.ledger.clone(), last, &self.data);
        let (mut mark, found) = match AccountMark::take(path, ours) {
            Ok(taken) => taken,
            Err(MarkError::Taken(holder)) => return Err(LedgerError::account_in_use(holder)),
            Err(MarkError::Io(error)) => {
                warn_absent(&error);
                return Ok(None);
            }
        };
        if !self.is_new {
            self.check(&found, last, &mark.path)?;
        }
        if let Err(error) = mark.write() {
            warn_absent(&error);
            return Ok(None);
        }
        Ok(Some(mark))
    }

    /// Where a copy of the ledger is kept if its files are lost.
    pub(super) fn copy(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|state| copy_path(state, &self.data))
    }

    fn check(&self, found: &MarkState, last: u64, path: &Path) -> Result<(), LedgerError> {
        let folder = self.data.clone();
        match found {
            MarkState::Nothing => Ok(()),
            MarkState::Garbled => Err(LedgerError::MarkGarbled { path: path.to_owned() }),
            MarkState::Content(mark) if mark.ledger != self.ledger => {
                let copy = self.copy().filter(|copy| copy.exists());
                Err(LedgerError::Forgotten { folder, last: mark.last, copy })
            }
            MarkState::Content(mark) if last < mark.last => {
                Err(LedgerError::Older { folder, found: last, last: mark.last })
            }
            MarkState::Content(_) => Ok(()),
        }
    }
}

fn warn_absent(why: &dyn std::fmt::Display) {
    tracing::warn!(
        "The account's mark cannot be written: {why}. A second bot for this account, or a ledger \
         that was deleted or restored from an older copy, will not be noticed; set XDG_STATE_HOME \
         to a directory that this user can write"
    );
}

impl MarkContent {
    /// What this process says.
    pub(super) fn of(ledger: String, last: u64, data: &Path) -> Self {
        let data = std::path::absolute(data).unwrap_or_else(|_none| data.to_owned());
        let data = data.to_string_lossy();
        let ends = (0..=DIRECTORY_BYTES_MAX.min(data.len())).rev();
        let data = ends.filter_map(|end| data.get(..end)).next().unwrap_or_default().to_owned();
        Self { version: 1, ledger, last, pid: std::process::id(), data }
    }

    fn to_bytes(&self) -> io::Result<[u8; BYTES]> {
        let mut bytes = [b' '; BYTES];
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        // A path full of characters that need escapes may be too long; it is for people only.
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
            return Ok(MarkState::Nothing);
        }
        Ok(match serde_json::from_slice::<Self>(&text) {
            Ok(content) if content.version == 1 => MarkState::Content(content),
            _ => MarkState::Garbled,
        })
    }
}

impl AccountMark {
    /// Takes the mark at this path, and says what was in it. Nothing is written yet.
    pub(super) fn take(
        path: PathBuf,
        content: MarkContent,
    ) -> Result<(Self, MarkState), MarkError> {
        let opened = path.parent().map_or(Ok(()), private::make_directory);
        let mut file = opened.and_then(|()| private::open(&path)).map_err(MarkError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = match MarkContent::read(&mut file) {
                    Ok(MarkState::Content(holder)) => Some(holder),
                    _ => None,
                };
                return Err(MarkError::Taken(holder));
            }
            Err(TryLockError::Error(error)) => return Err(MarkError::Io(error)),
        }
        let found = MarkContent::read(&mut file).map_err(MarkError::Io)?;
        Ok((Self { file, path, content }, found))
    }

    /// What the mark at this path says, whether it is locked or not.
    pub(super) fn look(state: &Path, host: &str, user: &str) -> io::Result<MarkState> {
        match File::open(path(state, host, user)) {
            Ok(mut file) => MarkContent::read(&mut file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(MarkState::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Notes that the ledger's database has this order. Numbers only grow.
    pub(super) fn advance(&mut self, last: u64) -> io::Result<()> {
        if last <= self.content.last {
            return Ok(());
        }
        self.content.last = last;
        self.write()
    }

    /// Takes the mark again if its file was deleted or replaced.
    pub(super) fn renew(&mut self) -> Result<(), MarkError> {
        let held = self.file.metadata().map(|metadata| FileIdentity::of(&metadata));
        if let (Ok(held), Ok(named)) = (held, FileIdentity::at(&self.path))
            && held == named
        {
            return Ok(());
        }
        let (mut mark, _found) = Self::take(self.path.clone(), self.content.clone())?;
        mark.write().map_err(MarkError::Io)?;
        *self = mark;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let bytes = self.content.to_bytes()?;
        self.file.rewind()?;
        self.file.write_all(&bytes)
    }
}

/// Where the mark of an account at a market is.
pub(super) fn path(state: &Path, host: &str, user: &str) -> PathBuf {
    let is_plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-');
    let plain = host.chars().map(|char| if is_plain(&char) { char } else { '_' });
    let plain: String = plain.take(HOST_BYTES_MAX).collect();
    let key = fnv(host.bytes().chain([b'\n']).chain(user.bytes()));
    state.join(format!("{plain}-{key:016x}.mark"))
}

/// Where a copy of the ledger of this `SNIPER_DATA` is kept, if its directory was lost.
pub(super) fn copy_path(state: &Path, data: &Path) -> PathBuf {
    state.join(format!("ledger-{:016x}.db", data_key(data)))
}

/// What a `SNIPER_DATA` is known by in the state directory, however its path is written and whether
/// it still exists or not.
pub(super) fn data_key(data: &Path) -> u64 {
    fnv(resolved(data).to_string_lossy().bytes())
}

/// The same path for every way to write it, whether its last part exists or not.
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

/// FNV-1a of 64 bits: the same on every machine and in every version.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
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
            state: Some(state.to_owned()),
            host: "market.example:443".to_owned(),
            data: PathBuf::from("/some/data"),
            ledger: ledger.to_owned(),
            is_new: false,
        }
    }

    /// Source: the test vectors of the FNV authors.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv(b"".iter().copied()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn neither_name_nor_content_holds_the_account() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "VXNlcjox");
        let mark = claim(state.path(), "a").make("VXNlcjox", 3).unwrap();
        assert!(mark.is_some() && path.exists());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("market.example_443-"), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(!name.contains("VXN") && !text.contains("VXN"), "{name}: {text}");
        assert_eq!(text.len(), BYTES);
    }

    #[test]
    fn a_second_bot_for_the_account_is_told_who_the_first_is_and_one_for_another_is_not() {
        let state = tempfile::tempdir().unwrap();
        let first = claim(state.path(), "a").make("user", 3).unwrap();
        let error = claim(state.path(), "b").make("user", 0).unwrap_err();
        let (pid, text) = (std::process::id(), error.to_string());
        assert!(text.contains(&format!("process {pid}")) && text.contains("/some/data"), "{text}");
        assert!(claim(state.path(), "b").make("other", 0).unwrap().is_some());
        drop(first);
        assert!(claim(state.path(), "a").make("user", 3).unwrap().is_some());
    }

    #[test]
    fn a_ledger_that_lacks_orders_of_the_mark_is_refused_unless_a_new_one_is_asked_for() {
        let state = tempfile::tempdir().unwrap();
        let mut mark = claim(state.path(), "a").make("user", 3).unwrap().unwrap();
        mark.advance(7).unwrap();
        mark.advance(5).unwrap();
        drop(mark);
        let error = claim(state.path(), "a").make("user", 6).unwrap_err();
        assert!(matches!(error, LedgerError::Older { found: 6, last: 7, .. }), "{error}");
        let error = claim(state.path(), "b").make("user", 9).unwrap_err();
        assert!(matches!(error, LedgerError::Forgotten { last: 7, .. }), "{error}");
        assert!(error.to_string().contains("--new-ledger"), "{error}");
        assert!(claim(state.path(), "a").make("user", 7).unwrap().is_some());
        let new = MarkClaim { is_new: true, ..claim(state.path(), "b") };
        assert!(new.make("user", 0).unwrap().is_some());
        assert!(claim(state.path(), "b").make("user", 0).unwrap().is_some());
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_no_proof_that_nothing_was_ordered() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "user");
        fs::write(&path, "garbage").unwrap();
        let error = claim(state.path(), "a").make("user", 0).unwrap_err();
        assert!(matches!(error, LedgerError::MarkGarbled { .. }), "{error}");
        // It was created, and the machine lost power before it was written.
        fs::write(&path, "").unwrap();
        assert!(claim(state.path(), "a").make("user", 0).unwrap().is_some());
    }

    #[test]
    fn a_directory_has_one_key_however_it_is_written_and_also_when_it_is_gone() {
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
    fn where_no_mark_can_be_written_the_bot_goes_on_without() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(claim(&file, "a").make("user", 0).unwrap().is_none());
        let nowhere = MarkClaim { state: None, ..claim(&file, "a") };
        assert!(nowhere.make("user", 0).unwrap().is_none());
    }

    #[test]
    fn a_mark_whose_file_was_deleted_is_taken_again_unless_another_bot_was_faster() {
        let state = tempfile::tempdir().unwrap();
        let path = path(state.path(), "market.example:443", "user");
        let mut mark = claim(state.path(), "a").make("user", 3).unwrap().unwrap();
        mark.renew().unwrap();
        fs::remove_file(&path).unwrap();
        mark.renew().unwrap();
        claim(state.path(), "b").make("user", 0).unwrap_err();
        fs::remove_file(&path).unwrap();
        let other = claim(state.path(), "b").make("user", 0).unwrap();
        assert!(matches!(mark.renew(), Err(MarkError::Taken(Some(_)))));
        drop(other);
    }

    #[test]
    fn a_long_directory_with_characters_that_need_escapes_still_fits() {
        let data = PathBuf::from(format!("/{}", "\u{1}".repeat(300)));
        let content = MarkContent::of("a".repeat(32), u64::MAX, &data);
        let bytes = content.to_bytes().unwrap();
        let read: MarkContent = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((read.last, read.data.as_str()), (u64::MAX, ""));
    }
}
