//! Exit codes of the commands. Those from 64 are defined by `sysexits.h`; [`USAGE`] is that of
//! clap.

/// The command was carried out and reports a problem, or changed nothing.
pub const FAILURE: u8 = 1;

/// Invalid arguments.
pub const USAGE: u8 = 2;

/// The feed was given up, a server does not answer, or nothing was recorded (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;

/// A thread, a socket, the log or a file of the settings failed (`EX_OSERR`).
pub const OS: u8 = 71;

/// The ledger or the recording cannot be used (`EX_CANTCREAT`).
pub const CANNOT_CREATE: u8 = 73;

/// Output or recorded data could not be written (`EX_IOERR`).
pub const IO: u8 = 74;

/// Invalid settings (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
