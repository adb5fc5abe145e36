//! File with the highest sequence number that a bot has seen of its group, by which it recognizes a
//! restored database.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use tempfile::NamedTempFile;
use tracing::warn;

pub(super) const SEEN_FILE: &str = "shared.seen";

/// Reads the number of this group; 0 if it was not kept.
pub(super) fn read(data_dir: &Path, group: &str) -> u64 {
    let text = match fs::read_to_string(data_dir.join(SEEN_FILE)) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!("{SEEN_FILE} cannot be read: {error}; a restored database may go unnoticed");
            }
            return 0;
        }
    };
    match text.trim().rsplit_once(' ').map(|(group, number)| (group, number.parse())) {
        Some((found, Ok(number))) if found == group => number,
        Some((_other_group, Ok(_number))) => 0,
        _ => {
            warn!("{SEEN_FILE} is damaged; a restored database may go unnoticed");
            0
        }
    }
}

/// Replaces the file as a whole, so that a crash of the program leaves the old one or the new one.
///
/// It does not wait for the disk, because the same task renews the role, and a slow disk could cost
/// the term. So a power loss may leave an older or an empty file; an empty one is reported.
pub(super) fn write(data_dir: &Path, group: &str, seen: u64) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(data_dir)?;
    file.write_all(format!("{group} {seen}\n").as_bytes())?;
    file.persist(data_dir.join(SEEN_FILE)).map_err(|error| error.error)?;
    Ok(())
}
