//! The channel on Unix: a socket in a folder that only its owner may enter.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
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

use super::{
    ControlError, ControlReply, ControlRequest, Instance, LINE_BYTES_MAX, PendingRequest, TALK,
    WAIT,
};
use crate::{
    ledger::private::{self, FileIdentity},
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

/// The socket in its directory.
const fn socket(instance: Instance) -> &'static str {
    match instance {
        Instance::Live => "bot.sock",
        Instance::Dry => "dry.sock",
    }
}

/// Listens in one directory for as long as it is held.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddress,
    /// Which file the socket is: another bot's at the same path is left alone.
    identity: Option<FileIdentity>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The path of a socket. The system takes about a hundred bytes at most, so it is reached over a
/// handle of its directory where the system has paths for handles.
#[derive(Debug)]
struct SocketAddress {
    path: PathBuf,
    _directory: Option<fs::File>,
}

impl SocketAddress {
    fn within(directory: &Path, instance: Instance) -> io::Result<Self> {
        let name = socket(instance);
        if cfg!(target_os = "linux") {
            let handle = fs::File::open(directory)?;
            let path = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
            if fs::symlink_metadata(Path::new(&path).parent().unwrap_or(directory)).is_ok() {
                return Ok(Self { path: path.into(), _directory: Some(handle) });
            }
        }
        Ok(Self { path: directory.join(name), _directory: None })
    }

    /// The socket's file, if there is one. A symbolic link is none.
    fn identity(&self) -> Option<FileIdentity> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        metadata.file_type().is_socket().then(|| FileIdentity::of(&metadata))
    }
}

impl Listener {
    /// Listens in this directory, and hands on what is asked.
    ///
    /// # Errors
    ///
    /// A [`ControlError`]; the bot can do without.
    pub(super) fn start(
        directory: &Path,
        instance: Instance,
        asks: Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let address = prepare(directory, instance)?;
        let failed = |what| move |source| ControlError::Io { what, source };
        let listener = UnixListener::bind(&address.path).map_err(failed("open"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&address.path, mode).map_err(failed("protect"))?;
        let identity = address.identity();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let guard = ThreadGuard::new(ThreadName::Control, alarm.clone());
        let builder = thread::Builder::new().name(ThreadName::Control.to_string());
        let thread = builder.spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::Acquire) {
                    return guard.finished();
                }
                failpoint(ThreadName::Control);
                let served = stream.and_then(|stream| serve(stream, &asks));
                if let Err(error) = served {
                    tracing::debug!("a request over the control channel failed: {error}");
                }
            }
        });
        let thread = thread.map_err(failed("listen to"))?;
        Ok(Self { address, identity, is_over, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // It waits for the next caller; be that one.
        if let Err(error) = UnixStream::connect(&self.address.path) {
            tracing::debug!("the control channel was gone already: {error}");
        } else if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the control channel ended badly");
        }
        if self.identity.is_some() && self.address.identity() == self.identity {
            let removed = fs::remove_file(&self.address.path);
            if let Err(error) = removed {
                tracing::debug!("the control channel's socket stays behind: {error}");
            }
        }
    }
}

/// Makes the directory, and removes the socket of a bot that is gone.
fn prepare(directory: &Path, instance: Instance) -> Result<SocketAddress, ControlError> {
    let failed = |what| move |source| ControlError::Io { what, source };
    private::make_directory(directory).map_err(failed("make a directory for"))?;
    check(directory)?;
    let address = SocketAddress::within(directory, instance).map_err(failed("look at"))?;
    let metadata = match fs::symlink_metadata(&address.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(address),
        metadata => metadata.map_err(failed("look at"))?,
    };
    // A link is not followed: what it leads to is none of ours.
    let is_socket = metadata.file_type().is_socket();
    if is_socket && UnixStream::connect(&address.path).is_ok() {
        return Err(ControlError::Taken);
    }
    fs::remove_file(&address.path).map_err(failed("clear"))?;
    Ok(address)
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

fn serve(stream: UnixStream, asks: &Sender<PendingRequest>) -> io::Result<()> {
    let mut stream = stream;
    limit(&stream)?;
    let line = read_line(&mut stream)?;
    let reply = match serde_json::from_str::<ControlRequest>(&line) {
        Ok(request) => pass_on(request, asks),
        Err(error) => ControlReply::Cannot(format!("this is no request: {error}")),
    };
    let mut text = secret::own_json(serde_json::to_string(&reply).map_err(io::Error::other)?);
    text.push('\n');
    stream.write_all(text.as_bytes())
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
    directory: &Path,
    instance: Instance,
    line: &str,
) -> Result<String, ControlError> {
    if !directory.exists() {
        return Err(ControlError::NotRunning);
    }
    check(directory)?;
    let failed = |what| move |source| ControlError::Io { what, source };
    let address = SocketAddress::within(directory, instance).map_err(failed("look at"))?;
    if address.identity().is_none() {
        return Err(ControlError::NotRunning);
    }
    let mut stream = match UnixStream::connect(&address.path) {
        Ok(stream) => stream,
        Err(_nobody) => return Err(ControlError::NotRunning),
    };
    let exchanged = limit(&stream)
        .and_then(|()| stream.write_all(line.as_bytes()))
        .and_then(|()| stream.write_all(b"\n"))
        .and_then(|()| read_line(&mut stream));
    exchanged.map_err(|source| ControlError::Io { what: TALK, source })
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
