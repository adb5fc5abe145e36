//! Faults of the ledger's files while a bot runs. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

/// Reason for which the files are no longer reliable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StorageFault {
    #[error("the ledger's files were deleted or moved while the bot ran")]
    Gone,
    /// The path names another file.
    #[error("the ledger's files were replaced while the bot ran")]
    Replaced,
    /// The file does not contain the bytes written last.
    #[error("another program wrote to the ledger's files, or restored an older copy of them")]
    Changed,
    /// The directory rejects writes.
    #[error("the ledger's folder is no longer writable")]
    Unwritable,
    /// SQLite's write-ahead log cannot be checkpointed.
    #[error("the ledger's write-ahead log is full, because another program keeps reading it")]
    LogFull,
    /// Another bot holds the lock of this account.
    #[error("another bot took over this account's lock, because the lock file was deleted")]
    AccountTaken,
}

impl StorageFault {
    /// All faults, causes before their consequences.
    pub const ALL: [Self; 6] = [
        Self::Gone,
        Self::Replaced,
        Self::Changed,
        Self::Unwritable,
        Self::LogFull,
        Self::AccountTaken,
    ];

    /// Returns the action that the operator must take.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Gone | Self::Replaced => {
                "move the original files back and run `sniper resume`; if they are lost, stop the \
                 bot and start it with --new-ledger"
            }
            Self::Changed => "restart the bot; if it does not start, follow its error message",
            Self::Unwritable => "make SNIPER_DATA writable for this user, then run `sniper resume`",
            Self::LogFull => {
                "stop the program that reads ledger.db (`fuser ledger.db` shows it), then run \
                 `sniper resume`"
            }
            Self::AccountTaken => "stop one of the two bots, then run `sniper resume`",
        }
    }

    /// Returns the number used in records and alarms, from 1.
    pub const fn code(self) -> u32 {
        match self {
            Self::Gone => 1,
            Self::Replaced => 2,
            Self::Changed => 3,
            Self::Unwritable => 4,
            Self::LogFull => 5,
            Self::AccountTaken => 6,
        }
    }

    /// Returns the fault with this number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.code() == code)
    }

    /// Returns the alarm bit of the fault.
    pub(super) const fn bit(self) -> u32 {
        1 << self.code()
    }

    /// Iterates over the faults whose bits are set.
    pub(super) fn among(bits: u32) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |fault| bits & fault.bit() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_unique_code_and_bit() {
        for fault in StorageFault::ALL {
            assert_eq!(StorageFault::from_code(fault.code()), Some(fault));
            assert_eq!(StorageFault::among(fault.bit()).collect::<Vec<_>>(), [fault]);
            assert!((1..16).contains(&fault.code()), "the other bits are taken");
        }
        assert_eq!(StorageFault::from_code(0), None);
    }
}
