//! Why a ledger cannot be used, and what a person can do about it.

use std::{io, path::PathBuf};

use super::intent::Contradiction;

/// A ledger that cannot be used. Nothing is bought then.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it.
    #[error(
        "the ledger in {folder:?} is in use by {}; stop that one first, or set SNIPER_DATA to another folder",
        process(*pid)
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process, where it left its number.
        pid: Option<u32>,
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
        "the ledger {path:?} is damaged: {what}; restore a copy of its folder, or move it away and begin a new one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The events on file do not fit together.
    #[error(
        "the ledger {path:?} contradicts itself; restore a copy of its folder, or move it away and begin a new one"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// How.
        source: Contradiction,
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

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
