//! Control channel: a socket in a directory that only its owner can enter.

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
    ControlError, ControlReply, ControlRequest, EXCHANGE, Instance, LINE_BYTES_MAX, PendingRequest,
    REPLY_TIMEOUT,
};
use crate::{
    ledger::private::{self, FileIdentity},
    secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

const fn socket_name(instance: Instance) -> &'static str {
    match instance {
        Instance::Live => "bot.sock",
        Instance::Dry => "dry.sock",
    }
}

/// Listens in one directory until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddress,
    /// Identity of the socket's file. On drop, a different file at the same path is not removed: it
    /// belongs to another bot.
    identity: Option<FileIdentity>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Path of a socket. Socket paths are limited to about 100 bytes, so on Linux the path goes through
/// the open directory's entry in `/proc/self/fd`.
#[derive(Debug)]
struct SocketAddress {
    path: PathBuf,
    _directory: Option<fs::File>,
}

impl SocketAddress {
    fn within(directory: &Path, instance: Instance) -> io::Result<Self> {
        let name = socket_name(instance);
        if cfg!(target_os = "linux") {
            let handle = fs::File::open(directory)?;
            let path = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
            if fs::symlink_metadata(Path::new(&path).parent().unwrap_or(directory)).is_ok() {
                return Ok(Self { path: path.into(), _directory: Some(handle) });
            }
        }
        Ok(Self { path: directory.join(name), _directory: None })
    }

    /// Returns the identity of the socket's file, or `None` if it does not exist or is not a
    /// socket, such as a symbolic link.
    fn identity(&self) -> Option<FileIdentity> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        metadata.file_type().is_socket().then(|| FileIdentity::of(&metadata))
    }
}

impl Listener {
    /// Listens in this directory and forwards the requests.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be used or another bot listens there.
    pub(super) fn start(
        directory: &Path,
        instance: Instance,
        requests: Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let address = prepare(directory, instance)?;
        let failed = |action| move |source| ControlError::Io { action, source };
        let listener = UnixListener::bind(&address.path).map_err(failed("open"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&address.path, mode).map_err(failed("set the permissions of"))?;
        let identity = address.identity();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let guard = ThreadGuard::new(ThreadName::Control, alarm.clone());
        let builder = thread::Builder::new().name(ThreadName::Control.to_string());
        let thread = builder.spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return guard.finished();
                }
                failpoint(ThreadName::Control);
                let served = stream.and_then(|stream| serve(stream, &requests));
                if let Err(error) = served {
                    tracing::debug!("Control request failed: {error}");
                }
            }
        });
        let thread = thread.map_err(failed("listen to"))?;
        Ok(Self { address, identity, is_stopped, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // The thread blocks in `accept`; this connection wakes it.
        if let Err(error) = UnixStream::connect(&self.address.path) {
            tracing::debug!("The control channel was already closed: {error}");
        } else if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("The control channel's thread panicked");
        }
        if self.identity.is_some() && self.address.identity() == self.identity {
            let removed = fs::remove_file(&self.address.path);
            if let Err(error) = removed {
                tracing::debug!("Could not remove the control socket: {error}");
            }
        }
    }
}

/// Creates the directory and removes the socket of a bot that has ended.
fn prepare(directory: &Path, instance: Instance) -> Result<SocketAddress, ControlError> {
    let failed = |action| move |source| ControlError::Io { action, source };
    private::make_directory(directory).map_err(failed("create a directory for"))?;
    check_permissions(directory)?;
    let address = SocketAddress::within(directory, instance).map_err(failed("access"))?;
    let metadata = match fs::symlink_metadata(&address.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(address),
        metadata => metadata.map_err(failed("access"))?,
    };
    // A symbolic link is removed and never followed.
    let is_socket = metadata.file_type().is_socket();
    if is_socket && UnixStream::connect(&address.path).is_ok() {
        return Err(ControlError::AlreadyRunning);
    }
    fs::remove_file(&address.path).map_err(failed("remove the old socket of"))?;
    Ok(address)
}

/// Fails if other users have any permission on the directory.
fn check_permissions(inner: &Path) -> Result<(), ControlError> {
    let metadata = fs::symlink_metadata(inner);
    let metadata = metadata.map_err(|source| ControlError::Io { action: "access", source })?;
    if metadata.is_dir() && metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(ControlError::NotPrivate { path: inner.to_owned() })
}

fn serve(stream: UnixStream, requests: &Sender<PendingRequest>) -> io::Result<()> {
    let mut stream = stream;
    set_timeouts(&stream)?;
    let line = read_line(&mut stream)?;
    let reply = match serde_json::from_str::<ControlRequest>(&line) {
        Ok(request) => forward(request, requests),
        Err(error) => ControlReply::Cannot(format!("invalid request: {error}")),
    };
    let mut text =
        secret::mask_own_json_string(serde_json::to_string(&reply).map_err(io::Error::other)?);
    text.push('\n');
    stream.write_all(text.as_bytes())
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
    directory: &Path,
    instance: Instance,
    line: &str,
) -> Result<String, ControlError> {
    if !directory.exists() {
        return Err(ControlError::NotRunning);
    }
    check_permissions(directory)?;
    let failed = |action| move |source| ControlError::Io { action, source };
    let address = SocketAddress::within(directory, instance).map_err(failed("access"))?;
    if address.identity().is_none() {
        return Err(ControlError::NotRunning);
    }
    let mut stream = match UnixStream::connect(&address.path) {
        Ok(stream) => stream,
        Err(_error) => return Err(ControlError::NotRunning),
    };
    let exchanged = set_timeouts(&stream)
        .and_then(|()| stream.write_all(line.as_bytes()))
        .and_then(|()| stream.write_all(b"\n"))
        .and_then(|()| read_line(&mut stream));
    exchanged.map_err(|source| ControlError::Io { action: EXCHANGE, source })
}

fn set_timeouts(stream: &UnixStream) -> io::Result<()> {
    // The listener itself may wait up to REPLY_TIMEOUT for the bot before it replies.
    stream.set_read_timeout(Some(REPLY_TIMEOUT.saturating_mul(2)))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))
}

/// Reads up to the newline, at most [`LINE_BYTES_MAX`] bytes.
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
