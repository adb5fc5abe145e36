//! Why a recording cannot begin, or cannot go on.

use std::{io, path::PathBuf};

/// Why a recording cannot begin, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A directory or a file could not be made.
    #[error("cannot make {}; check the directory, its rights and the space left", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}; what was written before is kept", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too many sessions began in the same second.
    #[error("no free name for a session in {}", directory.display())]
    NoName {
        /// Where.
        directory: PathBuf,
    },
    /// More sources than one session can hold.
    #[error("one session holds at most {max} sources; start another for the rest")]
    Sources {
        /// How many.
        max: usize,
    },
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes the recording")]
    Thread(#[source] io::Error),
    /// The disk did not take the rest in time.
    #[error("the disk did not take the rest of the recording in time; its end is missing")]
    Late,
}
