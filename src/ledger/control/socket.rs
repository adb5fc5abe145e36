//! The channel on Unix: a socket in a folder that only its owner may enter.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::{self, JoinHandle},
};

use tokio::sync::mpsc::Sender;

use super::{Ask, ControlError, Instance, LINE_BYTES_MAX, Reply, Request, WAIT};

/// The folder within `SNIPER_DATA`.
const FOLDER: &str = "control";

/// The socket in it.
const fn socket(instance: Instance) -> &'static str {
    match instance {
        Instance::Live => "bot.sock",
        Instance::Dry => "dry.sock",
    }
}

/// Listens for as long as it is held.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in this folder, and hands on what is asked.
    ///
    /// # Errors
    ///
    /// A [`ControlError`]; the bot can do without.
    pub fn start(folder: &Path, asks: Sender<Ask>) -> Result<Self, ControlError> {
        Self::start_as(Instance::Live, folder, asks)
    }

    /// The same for either of the two bots that may run on this folder.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_as(
        instance: Instance,
        folder: &Path,
        asks: Sender<Ask>,
    ) -> Result<Self, ControlError> {
        let path = prepare(folder, instance)?;
        let failed = |what| move |source| ControlError::Io { what, source };
        let listener = UnixListener::bind(&path).map_err(failed("open"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).map_err(failed("protect"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                let served = stream.and_then(|stream| serve(stream, &asks));
                if let Err(error) = served {
                    tracing::debug!("a request over the control channel failed: {error}");
                }
            }
        });
        let thread = thread.map_err(failed("listen to"))?;
        Ok(Self { path, is_over, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // It waits for the next caller; be that one.
        if let Err(error) = UnixStream::connect(&self.path) {
            tracing::debug!("the control channel was gone already: {error}");
        } else if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the control channel ended badly");
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("the control channel's socket stays behind: {error}");
        }
    }
}

/// Makes the folder, and removes the socket of a bot that is gone.
fn prepare(folder: &Path, instance: Instance) -> Result<PathBuf, ControlError> {
    let inner = folder.join(FOLDER);
    let failed = |what| move |source| ControlError::Io { what, source };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&inner);
    made.map_err(failed("make a folder for"))?;
    check(&inner)?;
    let path = inner.join(socket(instance));
    match UnixStream::connect(&path) {
        Ok(_somebody) => Err(ControlError::Taken),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
        Err(_nobody_behind_it) => {
            fs::remove_file(&path).map_err(failed("clear"))?;
            Ok(path)
        }
    }
}

/// Nobody else may enter the folder.
fn check(inner: &Path) -> Result<(), ControlError> {
    let metadata = fs::symlink_metadata(inner);
    let metadata = metadata.map_err(|source| ControlError::Io { what: "look at", source })?;
    if metadata.is_dir() && metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(ControlError::Open { path: inner.to_owned() })
}

fn serve(stream: UnixStream, asks: &Sender<Ask>) -> io::Result<()> {
    let mut stream = stream;
    limit(&stream)?;
    let line = read_line(&mut stream)?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => pass_on(request, asks),
        Err(error) => Reply::Cannot(format!("this is no request: {error}")),
    };
    let mut text = serde_json::to_string(&reply).map_err(io::Error::other)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

fn pass_on(request: Request, asks: &Sender<Ask>) -> Reply {
    let (reply, answered) = sync_channel(1);
    if asks.try_send(Ask { request, reply }).is_err() {
        return Reply::Cannot("the bot is too busy, or stopping".to_owned());
    }
    answered.recv_timeout(WAIT).unwrap_or_else(|_late| {
        Reply::Cannot("the bot does not answer; it may still do what was asked".to_owned())
    })
}

/// Sends a line to whoever listens in this folder, and returns the line that comes back.
pub(super) fn exchange(
    folder: &Path,
    instance: Instance,
    line: &str,
) -> Result<String, ControlError> {
    let inner = folder.join(FOLDER);
    if !inner.exists() {
        return Err(ControlError::NotRunning);
    }
    check(&inner)?;
    let mut stream = match UnixStream::connect(inner.join(socket(instance))) {
        Ok(stream) => stream,
        Err(_nobody) => return Err(ControlError::NotRunning),
    };
    let exchanged = limit(&stream)
        .and_then(|()| stream.write_all(line.as_bytes()))
        .and_then(|()| stream.write_all(b"\n"))
        .and_then(|()| read_line(&mut stream));
    exchanged.map_err(|source| ControlError::Io { what: "talk over", source })
}

fn limit(stream: &UnixStream) -> io::Result<()> {
    // The other side may wait this long for the bot before it answers.
    stream.set_read_timeout(Some(WAIT.saturating_mul(2)))?;
    stream.set_write_timeout(Some(WAIT))
}

/// Reads up to the end of the line, and no further than a line may be long.
fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    let mut reader = io::BufReader::new(stream);
    while line.len() < LINE_BYTES_MAX {
        reader.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return String::from_utf8(line).map_err(io::Error::other);
        }
        line.extend_from_slice(&byte);
    }
    Err(io::ErrorKind::FileTooLarge.into())
}
