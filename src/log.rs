//! Non-blocking log: lines with timestamps, written by a background thread. The times are local on
//! a terminal, and UTC elsewhere.
//!
//! Logging appends a line to a buffer in memory; the thread writes the buffer in batches. The lock
//! on the buffer is held only to append or to swap it, never during I/O. Logging does not wake the
//! thread, which polls. `RUST_LOG` selects the lines; other crates are logged from level WARN on,
//! because their lower levels may contain headers.
//!
//! A slow or stopped reader loses lines: those below level WARN first, errors last. A reader that
//! closes the output is detected, and [`Log::reader_gone`] completes.
//!
//! # Invariants
//!
//! 1. Logging never waits for the reader of the log.
//! 2. The buffer contains at most [`BUFFER_BYTES_MAX`]; a line that does not fit is dropped whole
//!    and counted. The last [`ERROR_BYTES`] are reserved for errors, so no error is dropped because
//!    of lines of a lower level.
//! 3. Below level WARN, only lines of this crate are written.
//! 4. No credential is written: the thread masks every [known one](crate::secret).
//! 5. Errors of this crate pass every filter.

mod filter;
mod reader;

use std::{
    fmt,
    io::{self, Write},
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::{FilterExt as _, filter_fn},
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
};

use self::{filter::is_ours, reader::ReaderState};
pub use self::{
    filter::{ALWAYS_SHOWN, LogFilter},
    reader::{OutputStream, print_within},
};
use crate::{
    clock, secret,
    threads::{Alarm, ThreadGuard, ThreadName, failpoint, lock, priority},
};

/// Set while a line of progress is on the terminal.
static CLEARS_LINE: AtomicBool = AtomicBool::new(false);

/// Set if the log goes to a terminal.
static IS_ON_TERMINAL: AtomicBool = AtomicBool::new(false);

/// Returns to the start of a terminal's line and empties it.
const CLEAR_LINE: &[u8] = b"\r\x1b[2K";

/// Empties the line of the terminal before each line of the log, because it shows progress.
pub fn clear_line_before_output(is_shown: bool) {
    CLEARS_LINE.store(is_shown && IS_ON_TERMINAL.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Capacity of the buffer in bytes, about 15,000 lines.
const BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Part of the buffer that is reserved for errors, in bytes.
const ERROR_BYTES: usize = 256 * 1024;

/// Part of the buffer that is reserved for warnings and errors, in bytes.
const WARNING_BYTES: usize = 256 * 1024 + ERROR_BYTES;

/// Interval between writes of the buffer.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// Maximum time to write the remaining lines at the end of the program.
pub const FINISH_MAX: Duration = Duration::from_secs(1);

/// Failure to start the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is invalid.
    #[error("RUST_LOG is not a valid filter; write error, warn, info, debug or trace")]
    Filter,
    /// `RUST_LOG` contains a misspelled level. It would be taken for a module, which disables all
    /// others.
    #[error("RUST_LOG is not a valid filter; did you mean `{level}`?")]
    Misspelled { level: &'static str },
    /// `RUST_LOG` is in quotes and would be taken for the name of a module.
    #[error(
        "RUST_LOG is in quotes; remove the quotes around the value (docker --env-file keeps them)"
    )]
    Quoted,
    #[error("cannot start the log thread")]
    Thread(#[source] io::Error),
    #[error("the log is already started")]
    Twice,
}

/// Handle of the running log. On drop, it writes the remaining lines.
#[derive(Debug)]
pub struct Log {
    shared: Arc<LogState>,
    thread: thread::Thread,
    finished: mpsc::Receiver<()>,
    stopped: bool,
}

/// Result of a finished log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Total number of lost lines.
    pub lost: u64,
    /// `true` if the reader has closed the output.
    pub is_reader_gone: bool,
}

/// Starts the global log.
///
/// # Errors
///
/// Returns a [`LogError`] if a log is already started or the thread cannot be created.
pub fn start(filter: LogFilter, destination: OutputStream) -> Result<Log, LogError> {
    // With the log on stderr, the result goes to stdout: without its reader it would be lost.
    let poll_reader = move || match (destination, OutputStream::Stdout.reader()) {
        (OutputStream::Stderr, ReaderState::Reads | ReaderState::WouldStopUs) => {
            OutputStream::Stderr.reader()
        }
        (_, stdout) => stdout,
    };
    let (log, lines) = match destination {
        OutputStream::Stdout => spawn_with_reader(io::stdout(), poll_reader)?,
        OutputStream::Stderr => spawn_with_reader(io::stderr(), poll_reader)?,
    };
    IS_ON_TERMINAL.store(destination.is_terminal(), Ordering::Relaxed);
    let is_local = destination.is_terminal() && !clock::shows_utc();
    let look = LineFormat { has_colors: destination.has_colors(), is_local };
    let subscriber = subscriber(filter, lines, look);
    tracing::subscriber::set_global_default(subscriber).map_err(|_set| LogError::Twice)?;
    Ok(log)
}

/// Format of the lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineFormat {
    pub has_colors: bool,
    /// Shows the time in the zone of this machine.
    pub is_local: bool,
}

/// Creates the subscriber that formats events as lines.
pub fn subscriber(
    filter: LogFilter,
    lines: LogQueue,
    format: LineFormat,
) -> impl Subscriber + Send + Sync {
    let ours = filter_fn(|metadata| *metadata.level() <= Level::WARN || is_ours(metadata.target()));
    let errors = filter_fn(|metadata| {
        *metadata.level() == Level::ERROR && is_ours(metadata.target())
            || metadata.target() == ALWAYS_SHOWN
    });
    let filter = filter
        .into_inner()
        .and(ours.with_max_level_hint(LevelFilter::TRACE))
        .or(errors.with_max_level_hint(LevelFilter::WARN));
    let format = tracing_subscriber::fmt::layer()
        .with_timer(LogTime { is_local: format.is_local })
        .with_target(false)
        .with_ansi(format.has_colors)
        .with_writer(lines);
    tracing_subscriber::registry().with(format.with_filter(filter))
}

/// Formats timestamps as `2026-03-01T10:00:00.120Z`, or with the offset of the zone.
struct LogTime {
    is_local: bool,
}

impl FormatTime for LogTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = clock::wall();
        if self.is_local { write!(w, "{}", clock::local(now)) } else { write!(w, "{now}") }
    }
}

#[derive(Debug, Default)]
struct LogState {
    buffer: Mutex<Vec<u8>>,
    dropped: AtomicU64,
    /// Number of lines that the thread is writing.
    in_progress: AtomicU64,
    stopping: AtomicBool,
    is_reader_gone: watch::Sender<bool>,
}

impl LogState {
    /// Appends a line unless the buffer would exceed `bytes_max`.
    fn append(&self, line: &[u8], bytes_max: usize) {
        let mut buffer = lock(&self.buffer);
        if buffer.len().saturating_add(line.len()) > bytes_max {
            drop(buffer);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            buffer.extend_from_slice(line);
        }
    }

    /// Swaps the buffer with an empty one.
    fn take(&self, empty: &mut Vec<u8>) {
        let mut buffer = lock(&self.buffer);
        mem::swap(&mut *buffer, empty);
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    u64::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u64::MAX)
}

/// Non-blocking writer that appends lines to the buffer.
#[derive(Clone, Debug)]
pub struct LogQueue {
    shared: Arc<LogState>,
    /// Maximum buffer size for lines of this level, in bytes.
    bytes_max: usize,
}

impl LogQueue {
    fn for_level(&self, level: Level) -> Self {
        let bytes_max = match level {
            Level::ERROR => BUFFER_BYTES_MAX,
            Level::WARN => BUFFER_BYTES_MAX.saturating_sub(ERROR_BYTES),
            _ => BUFFER_BYTES_MAX.saturating_sub(WARNING_BYTES),
        };
        Self { shared: Arc::clone(&self.shared), bytes_max }
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.append(line, self.bytes_max);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self {
        self.for_level(*metadata.level())
    }
}

/// Starts the log thread.
///
/// # Errors
///
/// Returns [`LogError::Thread`] if the thread cannot be created.
pub fn spawn(sink: impl Write + Send + 'static) -> Result<(Log, LogQueue), LogError> {
    spawn_with_reader(sink, || ReaderState::Reads)
}

/// Does the same as [`spawn`], for an output whose reader can be polled with `poll_reader`.
fn spawn_with_reader(
    sink: impl Write + Send + 'static,
    poll_reader: impl FnMut() -> ReaderState + Send + 'static,
) -> Result<(Log, LogQueue), LogError> {
    let shared = Arc::new(LogState {
        buffer: Mutex::new(Vec::with_capacity(BUFFER_BYTES_MAX)),
        ..LogState::default()
    });
    // Nothing is sent: the disconnected channel signals the end of the thread.
    let (finish, finished) = mpsc::sync_channel(0);
    let writer = LogWriter { shared: Arc::clone(&shared), sink, poll_reader };
    let thread = thread::Builder::new()
        .name(ThreadName::Log.to_string())
        .spawn(move || {
            let guard = ThreadGuard::new(ThreadName::Log, Alarm::global());
            priority::lower(ThreadName::Log);
            writer.run(guard);
            drop(finish);
        })
        .map_err(LogError::Thread)?;
    let thread = thread.thread().clone();
    let log = Log { shared: Arc::clone(&shared), thread, finished, stopped: false };
    Ok((log, LogQueue { shared, bytes_max: BUFFER_BYTES_MAX }))
}

/// State of the log thread.
struct LogWriter<S, L> {
    shared: Arc<LogState>,
    sink: S,
    poll_reader: L,
}

impl<S: Write, L: FnMut() -> ReaderState> LogWriter<S, L> {
    fn run(mut self, guard: ThreadGuard) {
        let mut taken = Vec::with_capacity(BUFFER_BYTES_MAX);
        loop {
            if failpoint(ThreadName::Log) {
                return;
            }
            // Read before the buffer is swapped, so that no line is missed.
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let reader = (self.poll_reader)();
            if reader == ReaderState::Gone {
                self.report_reader_gone();
            }
            if reader == ReaderState::WouldStopUs {
                thread::park_timeout(WRITE_EVERY);
                continue;
            }
            self.shared.take(&mut taken);
            if taken.is_empty() && stopping {
                return guard.finished();
            }
            self.write(&mut taken);
            if !stopping {
                thread::park_timeout(WRITE_EVERY);
            }
        }
    }

    fn write(&mut self, taken: &mut Vec<u8>) {
        if taken.is_empty() {
            return;
        }
        secret::mask_bytes(taken);
        let lines = lines_in(taken);
        self.shared.in_progress.store(lines, Ordering::Release);
        if CLEARS_LINE.load(Ordering::Relaxed) {
            taken.splice(..0, CLEAR_LINE.iter().copied());
        }
        if let Err(error) = self.sink.write_all(taken).and_then(|()| self.sink.flush()) {
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
            if reader::is_closed(&error) {
                self.report_reader_gone();
            }
        }
        self.shared.in_progress.store(0, Ordering::Release);
        taken.clear();
    }

    fn report_reader_gone(&self) {
        self.shared.is_reader_gone.send_if_modified(|is_gone| !mem::replace(is_gone, true));
    }
}

/// Notification that the reader of the log has closed the output.
#[derive(Clone, Debug)]
pub struct ReaderGone(watch::Receiver<bool>);

impl ReaderGone {
    /// Waits until the reader has closed the output.
    ///
    /// # Cancel safety
    ///
    /// Safe: the state does not change back.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|is_gone| *is_gone).await.is_err() {
            // The log has ended with its reader present.
            std::future::pending::<()>().await;
        }
    }
}

impl Log {
    /// Returns a notification for a closed output.
    pub fn reader_gone(&self) -> ReaderGone {
        ReaderGone(self.shared.is_reader_gone.subscribe())
    }

    /// Returns the number of lines dropped so far, because the buffer was full or the output
    /// closed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes the remaining lines, for at most [`FINISH_MAX`], before the caller writes its own.
    pub fn finish(mut self) -> Finished {
        self.stop();
        let mut left = Vec::new();
        self.shared.take(&mut left);
        let in_progress = self.shared.in_progress.load(Ordering::Acquire);
        let lost = self.dropped().saturating_add(lines_in(&left)).saturating_add(in_progress);
        Finished { lost, is_reader_gone: *self.shared.is_reader_gone.borrow() }
    }

    fn stop(&mut self) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        self.shared.stopping.store(true, Ordering::Release);
        self.thread.unpark();
        // The program ends now, even after a timeout.
        let _timeout = self.finished.recv_timeout(FINISH_MAX);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Sink that stores its input, and blocks each write until permitted.
    struct Gate {
        permits: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A closed channel also permits the write.
            let _permit = self.permits.recv();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (SyncSender<()>, Arc<Mutex<Vec<u8>>>, Gate) {
        let (open, permits) = sync_channel(1);
        let taken = Arc::new(Mutex::new(Vec::new()));
        (open, Arc::clone(&taken), Gate { permits, taken })
    }

    /// Waits until the condition holds for the output.
    fn wait_for(taken: &Mutex<Vec<u8>>, condition: impl Fn(&[u8]) -> bool) {
        let started = std::time::Instant::now();
        while !condition(&taken.lock().unwrap()) {
            assert!(started.elapsed() < Duration::from_secs(60), "never written");
            thread::park_timeout(WRITE_EVERY);
        }
    }

    /// Returns the output of `body` with this filter.
    fn written(filter: &str, has_colors: bool, body: impl FnOnce()) -> String {
        let format = LineFormat { has_colors, is_local: false };
        let (open, taken, sink) = gate();
        drop(open);
        let (log, lines) = spawn(sink).unwrap();
        let filter = LogFilter::parse(Some(filter)).unwrap();
        tracing::subscriber::with_default(subscriber(filter, lines, format), body);
        assert_eq!(log.finish(), Finished { lost: 0, is_reader_gone: false });
        String::from_utf8(taken.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_has_a_utc_timestamp_a_level_and_a_message() {
        let line = written("info", false, || tracing::info!("Connected"));
        let (time, words) = line.split_once(' ').unwrap();
        assert!(crate::domain::time::UnixMs::parse(time).is_some(), "{line:?}");
        assert_eq!(words, " INFO Connected\n");
    }

    #[test]
    fn colors_are_only_for_terminals() {
        assert!(!written("info", false, || tracing::warn!("x")).contains('\u{1b}'));
        assert!(written("info", true, || tracing::warn!("x")).contains('\u{1b}'));
    }

    #[test]
    fn lines_of_other_crates_are_written_from_level_warn_on() {
        let seen = written("debug", false, || {
            tracing::debug!("a");
            tracing::trace!("b");
            tracing::info!(target: "hyper", "Cookie: c");
            tracing::warn!(target: "hyper", "d");
        });
        let words: Vec<&str> =
            seen.lines().filter_map(|line| line.split(' ').next_back()).collect();
        assert_eq!(words, ["a", "d"]);
    }

    #[test]
    fn a_blocked_sink_does_not_block_logging_and_lost_lines_are_counted() {
        let (open, taken, sink) = gate();
        let (log, mut lines) = spawn(sink).unwrap();
        let line = [b"x".repeat(1_023), b"\n".to_vec()].concat();
        let count = 3 * BUFFER_BYTES_MAX / line.len();
        for _line in 0..count {
            lines.write_all(&line).unwrap();
        }
        let dropped = usize::try_from(log.dropped()).unwrap();
        assert!(dropped >= count / 3, "{dropped} of {count}");
        drop(open);
        wait_for(&taken, |taken| taken.len() >= (count - dropped) * line.len());
        assert_eq!(usize::try_from(log.finish().lost).unwrap(), dropped);
        assert_eq!(taken.lock().unwrap().len(), (count - dropped) * line.len());
    }

    #[test]
    fn finish_returns_in_time_although_the_sink_is_blocked() {
        let (_open, _taken, sink) = gate();
        let (log, mut lines) = spawn(sink).unwrap();
        lines.write_all(b"1\n").unwrap();
        let started = std::time::Instant::now();
        assert_eq!(log.finish().lost, 1);
        assert!(started.elapsed() < FINISH_MAX * 5);
    }

    #[test]
    fn lines_for_a_closed_output_are_counted_as_lost() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (log, mut lines) = spawn(Closed).unwrap();
        lines.write_all(b"1\n2\n").unwrap();
        assert_eq!(log.finish(), Finished { lost: 2, is_reader_gone: true });
    }

    #[test]
    fn an_error_is_written_although_lines_of_other_levels_fill_the_buffer() {
        let (open, taken, sink) = gate();
        let (log, lines) = spawn(sink).unwrap();
        let filter = LogFilter::parse(Some("debug")).unwrap();
        let padding = "x".repeat(1_000);
        tracing::subscriber::with_default(subscriber(filter, lines, LineFormat::default()), || {
            for _line in 0..3 * BUFFER_BYTES_MAX / padding.len() {
                tracing::debug!("{padding}");
                tracing::warn!("{padding}");
            }
            tracing::error!("{padding}{padding} ORDERING HALTED");
        });
        assert!(log.dropped() > 0);
        drop(open);
        wait_for(&taken, |taken| taken.ends_with(b" ORDERING HALTED\n"));
        log.finish();
        let written = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(written.len() <= 2 * BUFFER_BYTES_MAX, "the buffer and the batch being written");
    }

    #[test]
    fn errors_of_this_crate_pass_every_filter() {
        for filter in ["off", "hyper=warn", "sniper::ws=error", "foo"] {
            let seen = written(filter, false, || {
                tracing::error!("a");
                tracing::error!(target: "sniper::elsewhere", "b");
                tracing::warn!(target: ALWAYS_SHOWN, "c");
            });
            let words: Vec<&str> =
                seen.lines().filter_map(|line| line.split(' ').next_back()).collect();
            assert_eq!(words, ["a", "b", "c"], "{filter}");
        }
        let seen = written("off", false, || {
            tracing::warn!("a");
            tracing::error!(target: "hyper", "b");
        });
        assert_eq!(seen, "");
    }

    #[test]
    fn the_filter_sets_the_maximum_level_hint() {
        let (_open, _taken, sink) = gate();
        let (_log, lines) = spawn(sink).unwrap();
        let filter = LogFilter::parse(Some("info")).unwrap();
        let hint = subscriber(filter, lines, LineFormat::default()).max_level_hint();
        assert_eq!(hint, Some(LevelFilter::INFO));
    }

    #[test]
    fn writing_waits_while_the_terminal_would_stop_this_process() {
        let (open, taken, sink) = gate();
        drop(open);
        let is_ours = Arc::new(AtomicBool::new(false));
        let (polled, polls) = sync_channel(0);
        let is_foreground = Arc::clone(&is_ours);
        let poll_reader = move || {
            // Does not block once the receiver is dropped.
            let _receiver_dropped = polled.send(());
            if is_foreground.load(Ordering::Acquire) {
                ReaderState::Reads
            } else {
                ReaderState::WouldStopUs
            }
        };
        let (log, mut lines) = spawn_with_reader(sink, poll_reader).unwrap();
        lines.write_all(b"1\n").unwrap();
        assert_eq!(polls.iter().take(3).count(), 3);
        assert_eq!(taken.lock().unwrap().len(), 0);
        is_ours.store(true, Ordering::Release);
        drop(polls);
        assert_eq!(log.finish().lost, 0);
        assert_eq!(*taken.lock().unwrap(), b"1\n");
    }

    #[test]
    fn a_closed_output_is_notified() {
        let (_open, _taken, sink) = gate();
        let (log, _lines) = spawn_with_reader(sink, || ReaderState::Gone).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(log.reader_gone().wait());
        assert!(log.finish().is_reader_gone);
    }
}
