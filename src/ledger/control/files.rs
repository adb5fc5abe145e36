//! The channel where there are no Unix sockets: two files in a folder of the user's own.
//!
//! Who may read or write them is what the user's folders grant. A request is written under another
//! name and renamed, so that it is seen whole or not at all. A third file is locked while a bot
//! listens.

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
    ControlError, ControlReply, ControlRequest, Instance, LINE_BYTES_MAX, PendingRequest, TALK,
    WAIT,
};
use crate::{
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

/// The directory of one bot's files: each has its own.
fn directory_of(directory: &Path, instance: Instance) -> PathBuf {
    match instance {
        Instance::Live => directory.to_owned(),
        Instance::Dry => directory.join("dry"),
    }
}

const ALIVE: &str = "alive";
const REQUEST: &str = "request";
const REPLY: &str = "reply";
/// How often either side looks.
const PERIOD: Duration = Duration::from_millis(100);

/// Listens for as long as it is held.
#[derive(Debug)]
pub(super) struct Listener {
    folder: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _alive: File,
}

impl Listener {
    /// Listens in this folder, and hands on what is asked.
    ///
    /// # Errors
    ///
    /// A [`ControlError`]; the bot can do without.
    pub(super) fn start(
        folder: &Path,
        instance: Instance,
        asks: Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let folder = directory_of(folder, instance);
        let failed = |what| move |source| ControlError::Io { what, source };
        fs::create_dir_all(&folder).map_err(failed("make a folder for"))?;
        let alive = open_alive(&folder).map_err(failed("open"))?;
        if !is_free(&alive).map_err(failed("lock"))? {
            return Err(ControlError::Taken);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let (seen, inner) = (Arc::clone(&is_over), folder.clone());
        let guard = ThreadGuard::new(ThreadName::Control, alarm.clone());
        let builder = thread::Builder::new().name(ThreadName::Control.to_string());
        let thread = builder.spawn(move || {
            while !seen.load(Ordering::Acquire) {
                failpoint(ThreadName::Control);
                if let Err(error) = serve(&inner, &asks) {
                    tracing::debug!("a request over the control channel failed: {error}");
                }
                thread::sleep(PERIOD);
            }
            guard.finished();
        });
        let thread = thread.map_err(failed("listen to"))?;
        Ok(Self { folder, is_over, thread: Some(thread), _alive: alive })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the control channel ended badly");
        }
        if let Err(error) = take(&self.folder.join(REQUEST)) {
            tracing::debug!("a request stays behind: {error}");
        }
    }
}

fn open_alive(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(ALIVE))
}

/// Takes the lock if nobody has it.
fn is_free(alive: &File) -> io::Result<bool> {
    match alive.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn serve(folder: &Path, asks: &Sender<PendingRequest>) -> io::Result<()> {
    let Some(line) = take(&folder.join(REQUEST))? else { return Ok(()) };
    let reply = match serde_json::from_str::<ControlRequest>(&line) {
        Ok(request) => pass_on(request, asks),
        Err(error) => ControlReply::Cannot(format!("this is no request: {error}")),
    };
    let text = secret::own_json(serde_json::to_string(&reply).map_err(io::Error::other)?);
    put(folder, REPLY, &text)
}

fn pass_on(request: ControlRequest, asks: &Sender<PendingRequest>) -> ControlReply {
    let (reply, answered) = sync_channel(1);
    if asks.try_send(PendingRequest { request, reply }).is_err() {
        return ControlReply::Cannot("the bot is too busy, or stopping".to_owned());
    }
    answered.recv_timeout(WAIT).unwrap_or_else(|_late| {
        ControlReply::Cannot("the bot does not answer; it may still do what was asked".to_owned())
    })
}

/// Sends a line to whoever listens in this folder, and returns the line that comes back.
pub(super) fn exchange(
    folder: &Path,
    instance: Instance,
    line: &str,
) -> Result<String, ControlError> {
    let folder = &directory_of(folder, instance);
    let is_running = folder.join(ALIVE).exists()
        && open_alive(folder)
            .and_then(|alive| is_free(&alive))
            .map_err(|source| ControlError::Io { what: "look at", source })
            .map(|is_free| !is_free)?;
    if !is_running {
        return Err(ControlError::NotRunning);
    }
    let exchanged = (|| {
        take(&folder.join(REPLY))?;
        put(folder, REQUEST, line)?;
        let began = Instant::now();
        while began.elapsed() < WAIT.saturating_mul(2) {
            if let Some(answer) = take(&folder.join(REPLY))? {
                return Ok(Some(answer));
            }
            thread::sleep(PERIOD);
        }
        take(&folder.join(REQUEST)).map(|_taken_back| None)
    })();
    match exchanged {
        Ok(answer) => answer.ok_or(ControlError::NotRunning),
        Err(source) => Err(ControlError::Io { what: TALK, source }),
    }
}

/// Reads a file and removes it; `None`: there is none.
fn take(path: &Path) -> io::Result<Option<String>> {
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

fn put(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let whole = folder.join(format!("{name}.part"));
    fs::write(&whole, text)?;
    fs::rename(whole, folder.join(name))
}
