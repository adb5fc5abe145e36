//! Why a ledger cannot be used, and what a person can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{intent::InvalidTransition, mark::MarkContent};

/// A ledger that cannot be used. Nothing is bought then.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it.
    #[error(
        "the ledger in {folder:?} is in use by {}; stop that one first",
        process(*pid)
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process, where it left its number.
        pid: Option<u32>,
    },
    /// Another bot orders for the same account.
    #[error(
        "another bot already orders for this account: {}, with SNIPER_DATA {data:?}; stop that \
         one first",
        process(*pid)
    )]
    AccountInUse {
        /// The other process, where it left its number.
        pid: Option<u32>,
        /// Its directory, where it left that.
        data: String,
    },
    /// The account ordered with another ledger before.
    #[error(
        "this account has sent {last} orders with another ledger, of which the one in {folder:?} \
         knows nothing; {}, or start with --new-ledger, which begins a new ledger and counts the \
         account's purchases of the last 24 hours against `total`",
        restoring(copy.as_deref())
    )]
    Forgotten {
        /// The folder.
        folder: PathBuf,
        /// How many orders the other ledger has at least.
        last: u64,
        /// A copy of it that a bot saved when its directory was lost.
        copy: Option<PathBuf>,
    },
    /// The ledger is an older copy of itself.
    #[error(
        "the ledger in {folder:?} is an older copy: it ends with order {found}, and order {last} \
         was sent; restore the newer one, or start with --new-ledger, which begins a new ledger \
         and counts the account's purchases of the last 24 hours against `total`"
    )]
    Older {
        /// The folder.
        folder: PathBuf,
        /// Its last order.
        found: u64,
        /// The last order that was sent.
        last: u64,
    },
    /// Nothing can be read from the mark.
    #[error(
        "the account's mark {path:?} is damaged, so whether this ledger knows every order cannot \
         be told; compare `sniper ledger` with the site, then start with --new-ledger, or remove \
         that file if the ledger is complete"
    )]
    MarkGarbled {
        /// The file.
        path: PathBuf,
    },
    /// A new ledger was asked for, and the old one is whole.
    #[error(
        "the ledger in {folder:?} is complete, and --new-ledger would forget what it counts; start \
         without --new-ledger"
    )]
    NotNeeded {
        /// The folder.
        folder: PathBuf,
    },
    /// Other users may change the files.
    #[error("other users may write to {folder:?}; run `chmod go-w` on it")]
    OthersMayWrite {
        /// The folder.
        folder: PathBuf,
    },
    /// The database's write-ahead log has no room.
    #[error(
        "the write-ahead log of {path:?} is full, because another program keeps reading the \
         database; end that program"
    )]
    LogFull {
        /// The database.
        path: PathBuf,
    },
    /// A file could not be opened, read or written.
    #[error("cannot {what} {path:?}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database said no.
    #[error("the database {path:?} cannot be {what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// What is in the files is not what this program wrote.
    #[error(
        "the ledger {path:?} is damaged: {what}; restore a copy of its folder, or start with --new-ledger"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The events on file do not fit together.
    #[error(
        "the ledger {path:?} contradicts itself; restore a copy of its folder, or start with --new-ledger"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// How.
        source: InvalidTransition,
    },
    /// A later version of this program wrote it.
    #[error("the ledger {path:?} has format {found}, and this version knows up to {known}: update")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// It belongs to another marketplace.
    #[error(
        "the ledger {path:?} belongs to {ledger}, not to {asked}; set SNIPER_DATA to another folder"
    )]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        ledger: String,
        /// Who was asked for.
        asked: String,
    },
    /// It belongs to another account.
    #[error(
        "the ledger belongs to account {ledger}, and you are signed in as {asked}; set SNIPER_DATA to another folder"
    )]
    OtherAccount {
        /// Whose it is.
        ledger: String,
        /// Who is signed in.
        asked: String,
    },
    /// There is none yet.
    #[error("there is no ledger in {folder:?}; a live run begins one")]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The thread that writes it is gone.
    #[error("the ledger's writer has stopped; start again")]
    Stopped,
}

impl LedgerError {
    pub(super) fn account_in_use(holder: Option<MarkContent>) -> Self {
        let (pid, data) = holder.map(|holder| (holder.pid, holder.data)).unzip();
        Self::AccountInUse { pid, data: data.unwrap_or_default() }
    }
}

fn restoring(copy: Option<&Path>) -> String {
    match copy {
        Some(copy) => format!("move its copy {copy:?} into that folder as ledger.db"),
        None => "restore the directory of that ledger".to_owned(),
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
