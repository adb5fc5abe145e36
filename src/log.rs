//! The log: lines for a person who watches, in UTC, that never make anybody wait.
//!
//! Whoever logs appends its line to a buffer in memory and goes on; a thread of its own writes the
//! buffer out, many lines at a time. The lock on the buffer is held to append or to take it, never
//! while a terminal, a pipe or a disk is busy, and no line wakes the thread: it looks by itself.
//! Which lines are worth it is said in `RUST_LOG`; other crates are heard only when they warn, for
//! what they say below that may hold headers.
//!
//! # Invariants
//!
//! 1. Nobody who logs waits for whoever reads the log.
//! 2. At most [`BUFFER_BYTES_MAX`] wait to be written; a line that does not fit is dropped whole and
//!    counted.
//! 3. Below warnings, only this program's own words are written.
//! 4. No credential is written: the thread that writes replaces every [known one](crate::secret).

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

use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    filter::filter_fn,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
};

use crate::{
    clock,
    config::environment::is_quoted,
    secret,
    text::nearest,
    threads::{Alarm, Guard, ThreadName, failpoint},
};

/// How much may wait to be written, in bytes: some 15,000 lines.
pub const BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How often the buffer is written out.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// How long the end of the program waits for the last lines to be written.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// The words for how much is logged.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

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

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output: the log is what the command is for.
    Stdout,
    /// Standard error: standard output carries something else.
    Stderr,
}

/// What a text of `RUST_LOG` says.
#[derive(Debug)]
pub struct Filter(EnvFilter);

impl Filter {
    /// Reads a filter; `None`: everything from `info`.
    ///
    /// # Errors
    ///
    /// [`LogError::Filter`] if it is none, [`LogError::Misspelt`] if it can hardly be meant,
    /// [`LogError::Quoted`] if it is in quotes.
    pub fn parse(text: Option<&str>) -> Result<Self, LogError> {
        let text = text.unwrap_or("info");
        if is_quoted(text) {
            return Err(LogError::Quoted);
        }
        if let Some(level) = text.split(',').find_map(misspelt) {
            return Err(LogError::Misspelt { level });
        }
        EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .parse(text)
            .map(Self)
            .map_err(|_said_in_our_words| LogError::Filter)
    }
}

/// A bare word in a filter is the name of a module, of which everything is shown, and nothing of
/// any other: someone who writes `inof` would see nothing at all, this remark included.
fn misspelt(directive: &str) -> Option<&'static str> {
    let word = directive.trim().to_lowercase();
    if word.contains(['=', ':', '[']) || LEVELS.contains(&word.as_str()) {
        return None;
    }
    nearest(&word, &LEVELS)
}

/// The log while it runs. Dropped, it writes out what is left.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    thread: thread::Thread,
    finished: mpsc::Receiver<()>,
    stopped: bool,
}

/// Sets the log up for the whole program.
///
/// # Errors
///
/// A [`LogError`] when there is one already or its thread cannot be started.
pub fn start(filter: Filter, destination: Destination) -> Result<Log, LogError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (log, lines, is_terminal) = match destination {
        Destination::Stdout => {
            let (log, lines) = spawn(io::stdout())?;
            (log, lines, io::stdout().is_terminal())
        }
        Destination::Stderr => {
            let (log, lines) = spawn(io::stderr())?;
            (log, lines, io::stderr().is_terminal())
        }
    };
    let subscriber = subscriber(filter, lines, is_terminal && !no_color);
    tracing::subscriber::set_global_default(subscriber).map_err(|_set| LogError::Twice)?;
    Ok(log)
}

/// What turns events into lines.
pub fn subscriber(filter: Filter, lines: Lines, colors: bool) -> impl Subscriber + Send + Sync {
    let ours = filter_fn(|metadata| {
        *metadata.level() <= Level::WARN || metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    });
    let format = tracing_subscriber::fmt::layer()
        .with_timer(Utc)
        .with_target(false)
        .with_ansi(colors)
        .with_writer(lines);
    tracing_subscriber::registry().with(filter.0).with(ours).with(format)
}

/// `2026-03-01T10:00:00.120Z`
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", clock::wall())
    }
}

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Vec<u8>>,
    dropped: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    fn append(&self, line: &[u8]) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len().saturating_add(line.len()) > BUFFER_BYTES_MAX {
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

/// Takes lines and never waits.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Starts the thread that writes.
///
/// # Errors
///
/// [`LogError::Thread`] when it cannot be started.
pub fn spawn(sink: impl Write + Send + 'static) -> Result<(Log, Lines), LogError> {
    let shared = Arc::new(Shared {
        buffer: Mutex::new(Vec::with_capacity(BUFFER_BYTES_MAX)),
        ..Shared::default()
    });
    // Nothing is ever sent; that the other end is gone says that the thread has ended.
    let (finish, finished) = mpsc::sync_channel(0);
    let theirs = Arc::clone(&shared);
    let thread = thread::Builder::new()
        .name(ThreadName::Log.to_string())
        .spawn(move || {
            let guard = Guard::new(ThreadName::Log, Alarm::of_process());
            write_out(&theirs, sink);
            guard.finished();
            drop(finish);
        })
        .map_err(LogError::Thread)?;
    let thread = thread.thread().clone();
    let log = Log { shared: Arc::clone(&shared), thread, finished, stopped: false };
    Ok((log, Lines(shared)))
}

fn write_out(shared: &Shared, mut sink: impl Write) {
    let mut taken = Vec::with_capacity(BUFFER_BYTES_MAX);
    loop {
        failpoint(ThreadName::Log);
        // Read before the buffer is taken, so that no line falls between.
        let stopping = shared.stopping.load(Ordering::Acquire);
        shared.take(&mut taken);
        if taken.is_empty() {
            if stopping {
                return;
            }
            thread::park_timeout(WRITE_EVERY);
            continue;
        }
        secret::mask_bytes(&mut taken);
        if sink.write_all(&taken).and_then(|()| sink.flush()).is_err() {
            let lost = memchr::memchr_iter(b'\n', &taken).count();
            shared.dropped.fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        taken.clear();
        if !stopping {
            thread::park_timeout(WRITE_EVERY);
        }
    }
}

impl Log {
    /// How many lines were dropped so far: because they came faster than they could be written,
    /// or because nobody takes them any more.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes out what is left, for at most a second, and says how many lines were lost in all.
    /// What is printed afterwards comes after it.
    pub fn finish(mut self) -> u64 {
        self.stop();
        let mut left = Vec::new();
        self.shared.take(&mut left);
        let lost = memchr::memchr_iter(b'\n', &left).count();
        self.dropped().saturating_add(u64::try_from(lost).unwrap_or(u64::MAX))
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
        let filter = Filter::parse(Some(filter)).unwrap();
        tracing::subscriber::with_default(subscriber(filter, lines, colors), body);
        assert_eq!(log.finish(), 0);
        String::from_utf8(taken.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_has_its_time_in_utc_its_level_and_its_words() {
        let line = written("info", false, || tracing::info!("Connected"));
        let (time, words) = line.split_once(' ').unwrap();
        assert!(crate::time::UnixMs::parse(time).is_some(), "{line:?}");
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
    fn a_filter_that_is_none_or_misspelt_is_an_error() {
        assert!(matches!(Filter::parse(Some("sniper=loud")), Err(LogError::Filter)));
        assert!(matches!(Filter::parse(Some("a=b=c")), Err(LogError::Filter)));
        let misspelt = Filter::parse(Some("inof")).unwrap_err();
        assert_eq!(misspelt.to_string(), "RUST_LOG is not a filter; did you mean `info`?");
        for text in ["DEBUG", "sniper::ws=trace,info", "off", "sniper", ""] {
            assert!(Filter::parse(Some(text)).is_ok(), "{text}");
        }
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
        assert_eq!(usize::try_from(log.finish()).unwrap(), dropped);
        assert_eq!(taken.lock().unwrap().len(), (count - dropped) * line.len());
    }

    #[test]
    fn a_sink_that_never_takes_anything_does_not_hold_up_the_end() {
        let (_open, _taken, sink) = gate();
        let (log, mut lines) = spawn(sink).unwrap();
        lines.write_all(b"1\n").unwrap();
        let begun = std::time::Instant::now();
        drop(log);
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
        assert_eq!(log.finish(), 2);
    }
}
