//! Errors of a recording.

use std::{io, path::PathBuf};

/// Cause of a recording that could not start, or that stopped early.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("could not create {}; check the permissions and the free space of the directory", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("could not write {}; check the free space; the data written before is kept", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Too many sessions started in the same second.
    #[error("no free session name in {}; start the recording again", directory.display())]
    NoName { directory: PathBuf },
    #[error("too many sources: at most {max} per session; record the rest in another session")]
    Sources { max: usize },
    #[error("could not start the recording thread")]
    Thread(#[source] io::Error),
    #[error("the disk was too slow to finish the recording; its end is missing")]
    Late,
}
