//! A small file system that a test can fill, so that a program finds its disk full.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

const FILLER: &str = "filler";

/// A file system in memory, which is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size on an empty folder. Fails unless this process may mount.
    pub(crate) fn mount(folder: &Path, mebibytes: u32) -> Result<Self, String> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "tmpfs"]);
        let done = command.arg(folder).output().map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(Self(folder.to_owned())),
            false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
        }
    }

    /// Takes all of its space.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.0.join(FILLER)).unwrap();
        for size in [1 << 20, 1 << 12] {
            let block = vec![1; size];
            let error = loop {
                if let Err(error) = file.write(&block) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Gives the space back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join(FILLER)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process may still use it: it is removed with the last one.
        let _done = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
