//! Control channel without Unix sockets: a request file and a reply file in a user's directory.
//!
//! Access is controlled by the permissions of the user's directories. A file is written under
//! another name and renamed, so that a reader sees it complete or not at all. A third file is
//! locked while a bot listens.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::Sender;

use super::{
    ControlError, ControlReply, ControlRequest, EXCHANGE, Instance, LINE_BYTES_MAX, PendingRequest,
    REPLY_TIMEOUT,
};
use crate::{
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

fn directory_of(directory: &Path, instance: Instance) -> PathBuf {
    match instance {
        Instance::Live => directory.to_owned(),
        Instance::Dry => directory.join("dry"),
    }
}

const LOCK_FILE: &str = "alive";
const REQUEST: &str = "request";
const REPLY: &str = "reply";
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    folder: PathBuf,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _lock_file: File,
}

impl Listener {
    /// Listens in this directory and forwards the requests.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be used or another bot listens there.
    pub(super) fn start(
        folder: &Path,
        instance: Instance,
        requests: Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let folder = directory_of(folder, instance);
        let failed = |action| move |source| ControlError::Io { action, source };
        fs::create_dir_all(&folder).map_err(failed("create a directory for"))?;
        let lock_file = open_lock_file(&folder).map_err(failed("open"))?;
        if !try_lock(&lock_file).map_err(failed("lock"))? {
            return Err(ControlError::AlreadyRunning);
        }
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (stopped, inner) = (Arc::clone(&is_stopped), folder.clone());
        let guard = ThreadGuard::new(ThreadName::Control, alarm.clone());
        let builder = thread::Builder::new().name(ThreadName::Control.to_string());
        let thread = builder.spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                failpoint(ThreadName::Control);
                if let Err(error) = serve(&inner, &requests) {
                    tracing::debug!("Control request failed: {error}");
                }
                thread::sleep(POLL_INTERVAL);
            }
            guard.finished();
        });
        let thread = thread.map_err(failed("listen to"))?;
        Ok(Self { folder, is_stopped, thread: Some(thread), _lock_file: lock_file })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("The control channel's thread panicked");
        }
        if let Err(error) = read_and_remove(&self.folder.join(REQUEST)) {
            tracing::debug!("Could not remove a pending control request: {error}");
        }
    }
}

fn open_lock_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(LOCK_FILE))
}

/// Takes the lock; returns `false` if another process holds it.
fn try_lock(lock_file: &File) -> io::Result<bool> {
    match lock_file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn serve(folder: &Path, requests: &Sender<PendingRequest>) -> io::Result<()> {
    let Some(line) = read_and_remove(&folder.join(REQUEST))? else { return Ok(()) };
    let reply = match serde_json::from_str::<ControlRequest>(&line) {
        Ok(request) => forward(request, requests),
        Err(error) => ControlReply::Cannot(format!("invalid request: {error}")),
    };
    let text =
        secret::mask_own_json_string(serde_json::to_string(&reply).map_err(io::Error::other)?);
    write_atomically(folder, REPLY, &text)
}

fn forward(request: ControlRequest, requests: &Sender<PendingRequest>) -> ControlReply {
    let (reply, replied) = sync_channel(1);
    if requests.try_send(PendingRequest { request, reply }).is_err() {
        return ControlReply::Cannot("the bot is busy or stopping; try again".to_owned());
    }
    replied.recv_timeout(REPLY_TIMEOUT).unwrap_or_else(|_late| {
        ControlReply::Cannot(
            "no reply from the bot in time; it may still apply the request, check with: sniper status"
                .to_owned(),
        )
    })
}

/// Sends a line to the bot that listens in this directory and returns its reply.
pub(super) fn exchange(
    folder: &Path,
    instance: Instance,
    line: &str,
) -> Result<String, ControlError> {
    let folder = &directory_of(folder, instance);
    let is_running = folder.join(LOCK_FILE).exists()
        && open_lock_file(folder)
            .and_then(|lock_file| try_lock(&lock_file))
            .map_err(|source| ControlError::Io { action: "access", source })
            .map(|is_free| !is_free)?;
    if !is_running {
        return Err(ControlError::NotRunning);
    }
    let exchanged = (|| {
        read_and_remove(&folder.join(REPLY))?;
        write_atomically(folder, REQUEST, line)?;
        let start = Instant::now();
        while start.elapsed() < REPLY_TIMEOUT.saturating_mul(2) {
            if let Some(answer) = read_and_remove(&folder.join(REPLY))? {
                return Ok(Some(answer));
            }
            thread::sleep(POLL_INTERVAL);
        }
        read_and_remove(&folder.join(REQUEST)).map(|_removed| None)
    })();
    match exchanged {
        Ok(answer) => answer.ok_or(ControlError::NotRunning),
        Err(source) => Err(ControlError::Io { action: EXCHANGE, source }),
    }
}

/// Reads and removes a file. Returns `None` if it does not exist.
fn read_and_remove(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) => {
            let is_short = usize::try_from(metadata.len()).is_ok_and(|len| len <= LINE_BYTES_MAX);
            if !is_short {
                fs::remove_file(path)?;
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }
    let text = fs::read_to_string(path)?;
    fs::remove_file(path)?;
    Ok(Some(text))
}

fn write_atomically(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let whole = folder.join(format!("{name}.part"));
    fs::write(&whole, text)?;
    fs::rename(whole, folder.join(name))
}
