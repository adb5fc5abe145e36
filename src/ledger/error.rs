//! Errors of opening, reading and writing a ledger, with the action that resolves each.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{intent::InvalidTransition, mark::MarkContent};

/// Failure that makes a ledger unusable. Nothing is ordered then.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the ledger's lock.
    #[error(
        "the ledger in {folder:?} is in use by {}; stop that process first",
        process(*pid)
    )]
    Locked {
        folder: PathBuf,
        /// The other process, if it recorded its pid.
        pid: Option<u32>,
    },
    /// Another bot places orders for the same account.
    #[error(
        "another bot already trades for this account: {}, with SNIPER_DATA {data:?}; stop it \
         first",
        process(*pid)
    )]
    AccountInUse {
        /// The other process, if it recorded its pid.
        pid: Option<u32>,
        /// The other bot's data folder; empty if not recorded.
        data: String,
    },
    /// The account has placed orders with another ledger.
    #[error(
        "this account has sent {last} orders with another ledger, which are missing from the one \
         in {folder:?}; {}, or start with --new-ledger, which begins a new ledger and counts the \
         account's purchases of the last 24 hours against `total` where they can be listed",
        restoring(copy.as_deref())
    )]
    OtherLedger {
        folder: PathBuf,
        /// Minimum number of orders in the other ledger.
        last: u64,
        /// Copy that a bot saved when the other ledger's folder was lost.
        copy: Option<PathBuf>,
    },
    /// The ledger is an older copy of itself.
    #[error(
        "the ledger in {folder:?} is an older copy: it ends with order {found}, but order {last} \
         was sent; restore the newer copy, or start with --new-ledger, which begins a new ledger \
         and counts the account's purchases of the last 24 hours against `total` where they can be \
         listed"
    )]
    OlderCopy {
        folder: PathBuf,
        /// Number of the ledger's last order.
        found: u64,
        /// Number of the last order that was sent.
        last: u64,
    },
    /// The account's mark file is corrupt.
    #[error(
        "{path:?}, which names the last order of this account, is damaged, so orders may be missing \
         from this ledger; compare `sniper ledger` with the market, then remove that file if the \
         ledger is complete, or start with --new-ledger"
    )]
    MarkDamaged { path: PathBuf },
    /// A new ledger was requested although the existing one is complete.
    #[error(
        "the ledger in {folder:?} is complete, and --new-ledger would discard its counts; start \
         without --new-ledger"
    )]
    LedgerComplete { folder: PathBuf },
    /// A new ledger was to count purchases that cannot be listed.
    #[error(
        "the account's purchases cannot be listed on this market; check by hand what it bought, \
         lower `total` by what that cost, and start with --new-ledger --not-counted"
    )]
    NotCountable,
    /// Other users may change the files.
    #[error("other users may write to {folder:?}; run `chmod go-w` on it")]
    OthersMayWrite { folder: PathBuf },
    /// The owner of the folder may change the files.
    #[error(
        "{folder:?} belongs to the user {owner}; run the bot as that user, run `chown -R {user}` on \
         the folder, or set SNIPER_DATA to another one"
    )]
    OtherOwner { folder: PathBuf, owner: u32, user: u32 },
    /// SQLite's write-ahead log has reached its maximum size.
    #[error(
        "the log file of {path:?} is full, because another program keeps reading the database; stop \
         that program"
    )]
    LogFull { path: PathBuf },
    /// A file operation failed.
    #[error("cannot {action} {path:?}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action} the database {path:?}")]
    Database { action: &'static str, path: PathBuf, source: rusqlite::Error },
    /// The files do not contain what this program wrote.
    #[error(
        "the ledger {path:?} is damaged: {damage}; restore a copy of its folder, or start with \
         --new-ledger"
    )]
    Damaged { path: PathBuf, damage: String },
    /// The recorded events contradict each other.
    #[error(
        "the ledger {path:?} is inconsistent; restore a copy of its folder, or start with \
         --new-ledger"
    )]
    Contradiction { path: PathBuf, source: InvalidTransition },
    /// A newer version of this program wrote the ledger.
    #[error(
        "the ledger {path:?} has format {found}, but this version supports only up to \
         {supported}; update sniper"
    )]
    TooNew { path: PathBuf, found: u32, supported: u32 },
    /// The ledger belongs to another market.
    #[error(
        "the ledger {path:?} belongs to {ledger}, not to {requested}; set SNIPER_DATA to another \
         folder"
    )]
    OtherHost { path: PathBuf, ledger: String, requested: String },
    /// The ledger belongs to another account.
    #[error(
        "the ledger belongs to account {ledger}, but the credential is of account {requested}; set \
         SNIPER_DATA to another folder"
    )]
    OtherAccount { ledger: String, requested: String },
    /// The folder does not contain a ledger.
    #[error(
        "there is no ledger in {folder:?} yet; the first `sniper run --live` creates it (another \
         folder: --config or SNIPER_DATA)"
    )]
    Missing { folder: PathBuf },
    /// The writer thread has ended.
    #[error("the ledger can no longer be written; restart the bot")]
    Stopped,
}

impl LedgerError {
    /// Returns the conversion of the error of a file operation.
    pub(super) fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path: path.clone(), source }
    }

    /// Returns the conversion of an error of SQLite.
    pub(super) fn database(
        action: &'static str,
        path: &Path,
    ) -> impl Fn(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Database { action, path: path.clone(), source }
    }

    pub(super) fn account_in_use(holder: Option<MarkContent>) -> Self {
        let (pid, data) = holder.map(|holder| (holder.pid, holder.data)).unzip();
        Self::AccountInUse { pid, data: data.unwrap_or_default() }
    }
}

fn restoring(copy: Option<&Path>) -> String {
    match copy {
        Some(copy) => format!("move its copy {copy:?} into that folder as ledger.db"),
        None => "restore the folder of that ledger".to_owned(),
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
