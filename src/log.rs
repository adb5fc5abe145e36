//! The log: lines for a person who watches, in UTC, that never make anybody wait.
//!
//! Whoever logs appends its line to a buffer in memory and goes on; a thread of its own writes the
//! buffer out, many lines at a time. The lock on the buffer is held to append or to take it, never
//! while a terminal, a pipe or a disk is busy, and no line wakes the thread: it looks by itself.
//! Which lines are worth it is said in `RUST_LOG`; other crates are heard only when they warn, for
//! what they say below that may hold headers.
//!
//! The reader of the log may be slow, stopped or gone. Slow and stopped readers lose lines, debug
//! lines first; that the reader is gone is noticed and told to whoever waits for
//! [`Log::reader_gone`].
//!
//! # Invariants
//!
//! 1. Nobody who logs waits for whoever reads the log.
//! 2. At most [`BUFFER_BYTES_MAX`] wait to be written; a line that does not fit is dropped whole and
//!    counted. The last [`ERROR_BYTES`] are for errors alone, so no error is dropped because of
//!    lines of a lower level.
//! 3. Below warnings, only this program's own words are written.
//! 4. No credential is written: the thread that writes replaces every [known one](crate::secret).
//! 5. This program's errors pass every filter.

mod filter;
mod reader;

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    mem,
    sync::{
        Arc, Mutex, PoisonError,
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
    threads::{Alarm, ThreadGuard, ThreadName, failpoint},
};

/// How much may wait to be written, in bytes: some 15,000 lines.
pub const BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What of it only errors may use.
pub const ERROR_BYTES: usize = 256 * 1024;

/// What of it only warnings and errors may use.
pub const WARNING_BYTES: usize = 256 * 1024 + ERROR_BYTES;

/// How often the buffer is written out.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// How long the end of the program waits for the last lines to be written.
pub const FINISH_MAX: Duration = Duration::from_secs(1);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` cannot be read.
    #[error("RUST_LOG is not a filter; write error, warn, info, debug or trace")]
    Filter,
    /// `RUST_LOG` names a module of which alone would be logged, and no such module can be meant.
    #[error("RUST_LOG is not a filter; did you mean `{level}`?")]
    Misspelt {
        /// What it looks like.
        level: &'static str,
    },
    /// `RUST_LOG` is in quotes, and would be taken for the name of a module.
    #[error(
        "RUST_LOG is in quotes; remove the quotes around the value (docker --env-file keeps them)"
    )]
    Quoted,
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
    /// There is one already.
    #[error("the log was set up already")]
    Twice,
}

/// The log while it runs. Dropped, it writes out what is left.
#[derive(Debug)]
pub struct Log {
    shared: Arc<LogState>,
    thread: thread::Thread,
    finished: mpsc::Receiver<()>,
    stopped: bool,
}

/// How a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How many lines were lost in all.
    pub lost: u64,
    /// Whether its reader has gone.
    pub is_reader_gone: bool,
}

/// Sets the log up for the whole program.
///
/// # Errors
///
/// A [`LogError`] when there is one already or its thread cannot be started.
pub fn start(filter: LogFilter, destination: OutputStream) -> Result<Log, LogError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let look = move || destination.reader();
    let (log, lines, is_terminal) = match destination {
        OutputStream::Stdout => {
            let (log, lines) = spawn_for(io::stdout(), look)?;
            (log, lines, io::stdout().is_terminal())
        }
        OutputStream::Stderr => {
            let (log, lines) = spawn_for(io::stderr(), look)?;
            (log, lines, io::stderr().is_terminal())
        }
    };
    let subscriber = subscriber(filter, lines, is_terminal && !no_color);
    tracing::subscriber::set_global_default(subscriber).map_err(|_set| LogError::Twice)?;
    Ok(log)
}

/// What turns events into lines.
pub fn subscriber(
    filter: LogFilter,
    lines: LogQueue,
    colors: bool,
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
        .with_timer(Utc)
        .with_target(false)
        .with_ansi(colors)
        .with_writer(lines);
    tracing_subscriber::registry().with(format.with_filter(filter))
}

/// `2026-03-01T10:00:00.120Z`
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", clock::wall())
    }
}

#[derive(Debug, Default)]
struct LogState {
    buffer: Mutex<Vec<u8>>,
    dropped: AtomicU64,
    /// How many lines the thread has taken and not yet written.
    in_hand: AtomicU64,
    stopping: AtomicBool,
    is_reader_gone: watch::Sender<bool>,
}

impl LogState {
    /// Appends a line unless more than `bytes_max` would wait then.
    fn append(&self, line: &[u8], bytes_max: usize) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len().saturating_add(line.len()) > bytes_max {
            drop(buffer);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            buffer.extend_from_slice(line);
        }
    }

    /// Exchanges the buffer for an empty one.
    fn take(&self, empty: &mut Vec<u8>) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut *buffer, empty);
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    u64::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u64::MAX)
}

/// Takes lines and never waits.
#[derive(Clone, Debug)]
pub struct LogQueue {
    shared: Arc<LogState>,
    /// How much may wait once a line of this level was appended.
    bytes_max: usize,
}

impl LogQueue {
    fn of(&self, level: Level) -> Self {
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
        self.of(*metadata.level())
    }
}

/// Starts the thread that writes.
///
/// # Errors
///
/// [`LogError::Thread`] when it cannot be started.
pub fn spawn(sink: impl Write + Send + 'static) -> Result<(Log, LogQueue), LogError> {
    spawn_for(sink, || ReaderState::Reads)
}

/// The same for a reader that can be looked at.
fn spawn_for(
    sink: impl Write + Send + 'static,
    look: impl FnMut() -> ReaderState + Send + 'static,
) -> Result<(Log, LogQueue), LogError> {
    let shared = Arc::new(LogState {
        buffer: Mutex::new(Vec::with_capacity(BUFFER_BYTES_MAX)),
        ..LogState::default()
    });
    // Nothing is ever sent; that the other end is gone says that the thread has ended.
    let (finish, finished) = mpsc::sync_channel(0);
    let writing = Writing { shared: Arc::clone(&shared), sink, look };
    let thread = thread::Builder::new()
        .name(ThreadName::Log.to_string())
        .spawn(move || {
            let guard = ThreadGuard::new(ThreadName::Log, Alarm::of_process());
            writing.run();
            guard.finished();
            drop(finish);
        })
        .map_err(LogError::Thread)?;
    let thread = thread.thread().clone();
    let log = Log { shared: Arc::clone(&shared), thread, finished, stopped: false };
    Ok((log, LogQueue { shared, bytes_max: BUFFER_BYTES_MAX }))
}

/// What the thread has.
struct Writing<S, L> {
    shared: Arc<LogState>,
    sink: S,
    look: L,
}

impl<S: Write, L: FnMut() -> ReaderState> Writing<S, L> {
    fn run(mut self) {
        let mut taken = Vec::with_capacity(BUFFER_BYTES_MAX);
        loop {
            failpoint(ThreadName::Log);
            // Read before the buffer is taken, so that no line falls between.
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let reader = (self.look)();
            if reader == ReaderState::Gone {
                self.gone();
            }
            if reader == ReaderState::WouldStopUs {
                thread::park_timeout(WRITE_EVERY);
                continue;
            }
            self.shared.take(&mut taken);
            if taken.is_empty() && stopping {
                return;
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
        self.shared.in_hand.store(lines, Ordering::Release);
        if let Err(error) = self.sink.write_all(taken).and_then(|()| self.sink.flush()) {
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
            if reader::is_gone(&error) {
                self.gone();
            }
        }
        self.shared.in_hand.store(0, Ordering::Release);
        taken.clear();
    }

    fn gone(&self) {
        self.shared.is_reader_gone.send_if_modified(|is_gone| !mem::replace(is_gone, true));
    }
}

/// That the reader of a log has gone.
#[derive(Clone, Debug)]
pub struct ReaderGone(watch::Receiver<bool>);

impl ReaderGone {
    /// Waits until the reader has gone, for ever if it does not.
    ///
    /// # Cancel safety
    ///
    /// Safe: a reader that has gone does not come back.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|is_gone| *is_gone).await.is_err() {
            // The log has ended before its reader did.
            std::future::pending::<()>().await;
        }
    }
}

impl Log {
    /// Says when the reader has gone.
    pub fn reader_gone(&self) -> ReaderGone {
        ReaderGone(self.shared.is_reader_gone.subscribe())
    }

    /// How many lines were dropped so far: because they came faster than they could be written,
    /// or because nobody takes them any more.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes out what is left, for at most [`FINISH_MAX`]. What is printed afterwards comes after
    /// it.
    pub fn finish(mut self) -> Finished {
        self.stop();
        let mut left = Vec::new();
        self.shared.take(&mut left);
        let in_hand = self.shared.in_hand.load(Ordering::Acquire);
        let lost = self.dropped().saturating_add(lines_in(&left)).saturating_add(in_hand);
        Finished { lost, is_reader_gone: *self.shared.is_reader_gone.borrow() }
    }

    fn stop(&mut self) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        self.shared.stopping.store(true, Ordering::Release);
        self.thread.unpark();
        // Late or not: the program ends now.
        let _late_or_not = self.finished.recv_timeout(FINISH_MAX);
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

    /// A sink that keeps what it gets, and waits for leave before it takes anything.
    struct Gate {
        leave: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error is leave too: the other end has gone.
            let _leave = self.leave.recv();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (SyncSender<()>, Arc<Mutex<Vec<u8>>>, Gate) {
        let (open, leave) = sync_channel(1);
        let taken = Arc::new(Mutex::new(Vec::new()));
        (open, Arc::clone(&taken), Gate { leave, taken })
    }

    /// What is written when `body` runs under this filter.
    fn written(filter: &str, colors: bool, body: impl FnOnce()) -> String {
        let (open, taken, sink) = gate();
        drop(open);
        let (log, lines) = spawn(sink).unwrap();
        let filter = LogFilter::parse(Some(filter)).unwrap();
        tracing::subscriber::with_default(subscriber(filter, lines, colors), body);
        assert_eq!(log.finish(), Finished { lost: 0, is_reader_gone: false });
        String::from_utf8(taken.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_has_its_time_in_utc_its_level_and_its_words() {
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
    fn the_filter_decides_and_others_are_heard_only_when_they_warn() {
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
    fn a_sink_that_takes_nothing_delays_nobody_and_what_is_lost_is_counted() {
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
        assert_eq!(usize::try_from(log.finish().lost).unwrap(), dropped);
        assert_eq!(taken.lock().unwrap().len(), (count - dropped) * line.len());
    }

    #[test]
    fn a_sink_that_never_takes_anything_does_not_hold_up_the_end() {
        let (_open, _taken, sink) = gate();
        let (log, mut lines) = spawn(sink).unwrap();
        lines.write_all(b"1\n").unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(log.finish().lost, 1);
        assert!(begun.elapsed() < FINISH_MAX * 5);
    }

    #[test]
    fn lines_that_nobody_takes_any_more_are_counted() {
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
    fn an_error_finds_room_behind_any_number_of_other_lines() {
        let (open, taken, sink) = gate();
        let (log, lines) = spawn(sink).unwrap();
        let filter = LogFilter::parse(Some("debug")).unwrap();
        let padding = "x".repeat(1_000);
        tracing::subscriber::with_default(subscriber(filter, lines, false), || {
            for _line in 0..3 * BUFFER_BYTES_MAX / padding.len() {
                tracing::debug!("{padding}");
                tracing::warn!("{padding}");
            }
            tracing::error!("{padding}{padding} BUYING STOPPED");
        });
        assert!(log.dropped() > 0);
        drop(open);
        log.finish();
        let written = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(written.ends_with(" BUYING STOPPED\n"), "{}", written.len());
        assert!(written.len() <= 2 * BUFFER_BYTES_MAX, "what waits, and what was in hand");
    }

    #[test]
    fn errors_of_this_program_pass_every_filter() {
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
    fn a_filter_without_debug_lines_costs_none() {
        let (_open, _taken, sink) = gate();
        let (_log, lines) = spawn(sink).unwrap();
        let filter = LogFilter::parse(Some("info")).unwrap();
        let hint = subscriber(filter, lines, false).max_level_hint();
        assert_eq!(hint, Some(LevelFilter::INFO));
    }

    #[test]
    fn a_terminal_that_would_stop_this_process_is_written_to_later() {
        let (open, taken, sink) = gate();
        drop(open);
        let is_ours = Arc::new(AtomicBool::new(false));
        let (looked, looks) = sync_channel(0);
        let looked_at = Arc::clone(&is_ours);
        let look = move || {
            // Once nobody counts any more it looks without waiting.
            let _nobody_counts = looked.send(());
            if looked_at.load(Ordering::Acquire) {
                ReaderState::Reads
            } else {
                ReaderState::WouldStopUs
            }
        };
        let (log, mut lines) = spawn_for(sink, look).unwrap();
        lines.write_all(b"1\n").unwrap();
        assert_eq!(looks.iter().take(3).count(), 3);
        assert_eq!(taken.lock().unwrap().len(), 0);
        is_ours.store(true, Ordering::Release);
        drop(looks);
        assert_eq!(log.finish().lost, 0);
        assert_eq!(*taken.lock().unwrap(), b"1\n");
    }

    #[test]
    fn whoever_waits_is_told_that_the_reader_has_gone() {
        let (_open, _taken, sink) = gate();
        let (log, _lines) = spawn_for(sink, || ReaderState::Gone).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(log.reader_gone().wait());
        assert!(log.finish().is_reader_gone);
    }
}
