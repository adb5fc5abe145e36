//! State of the reader of a standard stream, and writes with a time limit.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::getpgrp,
    termios::{LocalModes, tcgetattr, tcgetpgrp},
};

use crate::secret;

/// Polling interval while a stream cannot be written.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// State of the reader of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReaderState {
    /// Writes are possible.
    Reads,
    /// The terminal has `tostop` set and another process group is in the foreground: a write would
    /// stop this process with SIGTTOU.
    WouldStopUs,
    /// The reader has closed the stream.
    Gone,
}

impl OutputStream {
    /// Returns the state of the reader without writing.
    pub(super) fn reader(self) -> ReaderState {
        match self {
            Self::Stdout => poll_state(&io::stdout()),
            Self::Stderr => poll_state(&io::stderr()),
        }
    }

    /// Returns `true` if the reader has closed the stream.
    pub fn is_reader_gone(self) -> bool {
        self.reader() == ReaderState::Gone
    }

    pub fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Returns `true` if text may contain colors: on a terminal without `NO_COLOR`, unless
    /// `--color` decides it.
    pub fn has_colors(self) -> bool {
        let choice = match self {
            Self::Stdout => AutoStream::choice(&io::stdout()),
            Self::Stderr => AutoStream::choice(&io::stderr()),
        };
        choice != ColorChoice::Never
    }

    fn write(self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text).and_then(|()| out.flush())
            }
            Self::Stderr => io::stderr().lock().write_all(text),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        }
    }
}

/// Writes a text within a time limit. After a timeout, a part of the text may still be written.
///
/// # Errors
///
/// Returns the system error, or `TimedOut`.
pub fn print_within(to: OutputStream, text: &str, within: Duration) -> io::Result<()> {
    let started = Instant::now();
    let timeout = || {
        let message = format!("{} was blocked for {within:?}", to.name());
        io::Error::new(io::ErrorKind::TimedOut, message)
    };
    loop {
        match to.reader() {
            ReaderState::Reads => break,
            ReaderState::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
            ReaderState::WouldStopUs if within <= started.elapsed() => return Err(timeout()),
            ReaderState::WouldStopUs => thread::sleep(POLL_INTERVAL),
        }
    }
    let (done, is_done) = mpsc::sync_channel(1);
    let text = secret::mask(text).into_owned();
    thread::Builder::new().name("print".to_owned()).spawn(move || {
        // The receiver is dropped after a timeout.
        drop(done.try_send(to.write(text.as_bytes())));
    })?;
    is_done
        .recv_timeout(within.saturating_sub(started.elapsed()))
        .unwrap_or_else(|_late| Err(timeout()))
}

/// Returns `true` if an error means a closed pipe or terminal.
pub(super) fn is_closed(error: &io::Error) -> bool {
    let is_hung_up = error.raw_os_error() == Some(Errno::IO.raw_os_error());
    error.kind() == io::ErrorKind::BrokenPipe || is_hung_up
}

fn poll_state(stream: &impl AsFd) -> ReaderState {
    // Without requested events, poll still reports errors and hang-ups.
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_polled = poll(&mut polled, Some(&no_wait)).is_ok();
    let [polled] = polled;
    if is_polled && polled.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        return ReaderState::Gone;
    }
    let stops_writers = tcgetattr(stream)
        .is_ok_and(|terminal| terminal.local_modes.contains(LocalModes::TOSTOP))
        // Fails for a terminal that does not control this process, which never stops it.
        && tcgetpgrp(stream).is_ok_and(|foreground| foreground != getpgrp());
    if stops_writers { ReaderState::WouldStopUs } else { ReaderState::Reads }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_closed_reader_is_detected_without_a_write() {
        let (near, far) = UnixStream::pair().unwrap();
        assert_eq!(poll_state(&near), ReaderState::Reads);
        drop(far);
        assert_eq!(poll_state(&near), ReaderState::Gone);
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(poll_state(&writer), ReaderState::Reads);
        drop(reader);
        assert_eq!(poll_state(&writer), ReaderState::Gone);
    }

    #[test]
    fn a_file_is_always_writable() {
        assert_eq!(poll_state(&tempfile::tempfile().unwrap()), ReaderState::Reads);
    }

    #[test]
    fn a_full_disk_is_not_a_closed_reader() {
        assert!(is_closed(&io::ErrorKind::BrokenPipe.into()));
        assert!(is_closed(&io::Error::from_raw_os_error(5)), "EIO");
        assert!(!is_closed(&io::ErrorKind::StorageFull.into()));
    }
}
