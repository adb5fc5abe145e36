//! What can happen to a ledger's files while a bot runs. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

/// Why the files cannot be relied on any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StorageFault {
    /// A file is not there any more.
    #[error("the ledger's files were deleted or moved while the bot ran")]
    Gone,
    /// Another file is in its place.
    #[error("the ledger's files were replaced while the bot ran")]
    Replaced,
    /// A file holds something other than what was written last.
    #[error("another program wrote to the ledger's files, or restored an older copy of them")]
    Changed,
    /// The directory does not accept a write.
    #[error("the ledger's directory cannot be written any more")]
    Unwritable,
    /// The database's write-ahead log cannot be emptied.
    #[error("the ledger's write-ahead log is full, because another program keeps reading it")]
    LogFull,
    /// Another bot has taken the lock of this account.
    #[error("another bot took over this account's lock, because the lock file was deleted")]
    AccountTaken,
}

impl StorageFault {
    /// Every fault, the one that explains the others first.
    pub const ALL: [Self; 6] = [
        Self::Gone,
        Self::Replaced,
        Self::Changed,
        Self::Unwritable,
        Self::LogFull,
        Self::AccountTaken,
    ];

    /// What a person can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Gone | Self::Replaced => {
                "move the original files back and run `sniper resume`; if they are lost, stop the \
                 bot and start it with --new-ledger"
            }
            Self::Changed => {
                "stop the bot and start it again; if the start is refused, follow its message"
            }
            Self::Unwritable => "make SNIPER_DATA writable for this user, then run `sniper resume`",
            Self::LogFull => {
                "end the program that reads ledger.db (`fuser ledger.db` names it), then run \
                 `sniper resume`"
            }
            Self::AccountTaken => "stop one of the two bots, then run `sniper resume`",
        }
    }

    /// The number that records and alarms use, from 1.
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

    /// The fault with this number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.code() == code)
    }

    /// The bit that stands for it in an alarm.
    pub(super) const fn bit(self) -> u32 {
        1 << self.code()
    }

    /// The faults among these bits.
    pub(super) fn among(bits: u32) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |fault| bits & fault.bit() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_code_and_a_bit_of_its_own() {
        for fault in StorageFault::ALL {
            assert_eq!(StorageFault::from_code(fault.code()), Some(fault));
            assert_eq!(StorageFault::among(fault.bit()).collect::<Vec<_>>(), [fault]);
            assert!((1..16).contains(&fault.code()), "the other bits are taken");
        }
        assert_eq!(StorageFault::from_code(0), None);
    }
}
