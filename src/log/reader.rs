//! Who reads a standard stream: whether a write to it is taken, would stop this process, or fails;
//! and writes that end in time whatever the reader does.

use std::{
    io::{self, Write as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::secret;

/// How often a stream is looked at to which nothing can be written just now.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output: the log is what the command is for.
    Stdout,
    /// Standard error: standard output carries something else.
    Stderr,
}

/// The reader of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), expect(dead_code, reason = "only Unix tells"))]
pub(super) enum ReaderState {
    /// It takes what is written, sooner or later.
    Reads,
    /// A terminal with `stty tostop` whose foreground is another process group: a write would stop
    /// this process with SIGTTOU, and nothing would answer signals any more.
    WouldStopUs,
    /// There is none any more.
    Gone,
}

impl OutputStream {
    /// Looks at the reader without writing.
    pub(super) fn reader(self) -> ReaderState {
        match self {
            Self::Stdout => look_at(&io::stdout()),
            Self::Stderr => look_at(&io::stderr()),
        }
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

/// Writes a text, and waits at most `within` until it is taken. Where that is too late the text may
/// still be taken in part.
///
/// # Errors
///
/// What the system says, or `TimedOut`.
pub fn print_within(to: OutputStream, text: &str, within: Duration) -> io::Result<()> {
    let begun = Instant::now();
    let late = || {
        let message = format!("{} took nothing for {within:?}", to.name());
        io::Error::new(io::ErrorKind::TimedOut, message)
    };
    loop {
        match to.reader() {
            ReaderState::Reads => break,
            ReaderState::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
            ReaderState::WouldStopUs if within <= begun.elapsed() => return Err(late()),
            ReaderState::WouldStopUs => thread::sleep(LOOK_EVERY),
        }
    }
    let (done, is_done) = mpsc::sync_channel(1);
    let text = secret::mask(text).into_owned();
    thread::Builder::new().name("print".to_owned()).spawn(move || {
        // Nobody may wait for it any more.
        drop(done.try_send(to.write(text.as_bytes())));
    })?;
    is_done.recv_timeout(within.saturating_sub(begun.elapsed())).unwrap_or_else(|_late| Err(late()))
}

/// Whether an error says that there is no reader any more: a closed pipe, or a closed terminal.
pub(super) fn is_gone(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_hung_up = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    #[cfg(not(unix))]
    let is_hung_up = false;
    error.kind() == io::ErrorKind::BrokenPipe || is_hung_up
}

#[cfg(unix)]
fn look_at(stream: &impl std::os::fd::AsFd) -> ReaderState {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::getpgrp,
        termios::{LocalModes, tcgetattr, tcgetpgrp},
    };

    // Asked for no event, it still tells an error and a hang-up.
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_polled = poll(&mut polled, Some(&at_once)).is_ok();
    let [polled] = polled;
    if is_polled && polled.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        return ReaderState::Gone;
    }
    let stops_writers = tcgetattr(stream)
        .is_ok_and(|terminal| terminal.local_modes.contains(LocalModes::TOSTOP))
        // Of a terminal that does not control this process nothing is known, and it stops nobody.
        && tcgetpgrp(stream).is_ok_and(|foreground| foreground != getpgrp());
    if stops_writers { ReaderState::WouldStopUs } else { ReaderState::Reads }
}

#[cfg(not(unix))]
const fn look_at<S>(_stream: &S) -> ReaderState {
    ReaderState::Reads
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_noticed_without_a_write() {
        let (near, far) = UnixStream::pair().unwrap();
        assert_eq!(look_at(&near), ReaderState::Reads);
        drop(far);
        assert_eq!(look_at(&near), ReaderState::Gone);
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(look_at(&writer), ReaderState::Reads);
        drop(reader);
        assert_eq!(look_at(&writer), ReaderState::Gone);
    }

    #[test]
    fn a_file_always_reads() {
        assert_eq!(look_at(&tempfile::tempfile().unwrap()), ReaderState::Reads);
    }

    #[test]
    fn a_full_disk_is_no_reader_that_has_gone() {
        assert!(is_gone(&io::ErrorKind::BrokenPipe.into()));
        assert!(is_gone(&io::Error::from_raw_os_error(5)), "EIO");
        assert!(!is_gone(&io::ErrorKind::StorageFull.into()));
    }
}
