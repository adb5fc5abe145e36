//! When to stop: a person says so, the system says so, the reader of the log has gone, or the time
//! asked for is over.
//!
//! The first signal asks for an end in order ([`Shutdown`]). A second one ends the process at once,
//! whatever it is doing ([`SecondSignal`]), and so does an end in order that takes longer than [`STOP_MAX`].

pub mod second_signal;

use std::{fmt, io, time::Duration};

use tokio::sync::watch;

pub use self::second_signal::{LAST_WORDS_MAX, STOP_MAX, SecondSignal};
use crate::log::{OutputStream, ReaderGone, print_within};

/// The longest `--for`: ten years, in seconds.
const SECONDS_MAX: u64 = 315_360_000;

/// Why the program stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or what Windows has instead: the window was closed, the machine shuts down.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
    /// Nobody can read the log any more.
    ReaderGone,
    /// `--for` is over.
    Over(Duration),
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt => f.write_str("Ctrl-C"),
            Self::Terminate => f.write_str("told to terminate"),
            Self::Hangup => f.write_str("the terminal was closed"),
            Self::ReaderGone => f.write_str("the reader of the log has gone"),
            Self::Over(after) => write!(f, "the {} of --for are over", DurationText(*after)),
        }
    }
}

/// Where signals come from.
#[derive(Debug)]
enum SignalSource {
    System(Signals),
    /// From what counts them.
    Counted(watch::Receiver<Option<ShutdownReason>>),
}

impl SignalSource {
    async fn wait(&mut self) -> ShutdownReason {
        let first = match self {
            Self::System(signals) => return signals.wait().await,
            Self::Counted(first) => first.wait_for(Option::is_some).await.map(|first| *first),
        };
        match first {
            Ok(Some(why)) => why,
            // What counts them lives as long as the process.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// Listens for the wish to stop. From the moment it exists, Ctrl-C, SIGTERM and SIGHUP no longer
/// kill the process by themselves.
#[derive(Debug)]
pub struct Shutdown {
    wishes: SignalSource,
    reader_gone: Option<ReaderGone>,
    has_said_reader_gone: bool,
    /// When `--for` is over, and how long it was.
    over: Option<(tokio::time::Instant, Duration)>,
}

impl Shutdown {
    /// Begins to listen; the time of `--for` begins now. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// What the system says when it refuses.
    pub fn listen(after: Option<Duration>) -> io::Result<Self> {
        Ok(Self::new(SignalSource::System(Signals::listen()?), after))
    }

    /// The same where signals are counted: a second one ends the process at once.
    pub fn counted(quit: &SecondSignal, after: Option<Duration>) -> Self {
        Self::new(SignalSource::Counted(quit.first()), after)
    }

    fn new(wishes: SignalSource, after: Option<Duration>) -> Self {
        let moment = |after| tokio::time::Instant::now().checked_add(after).map(|at| (at, after));
        let over = after.and_then(moment);
        Self { wishes, reader_gone: None, has_said_reader_gone: false, over }
    }

    /// Stops too when the reader of the log has gone.
    #[must_use]
    pub fn or_when(self, reader_gone: ReaderGone) -> Self {
        Self { reader_gone: Some(reader_gone), ..self }
    }

    /// Says once on standard error why it stops, for the log cannot be read any more.
    fn say_reader_gone(&mut self) {
        if !std::mem::replace(&mut self.has_said_reader_gone, true) {
            let line = "sniper: the reader of the log has gone: stopping as on SIGTERM, with exit \
                        code 74\n";
            // Where this cannot be said either, the exit code says it.
            drop(print_within(OutputStream::Stderr, line, LAST_WORDS_MAX));
        }
    }

    /// Waits until it is time to stop, and says why. May be asked again: a second Ctrl-C is another
    /// answer, while a time that is over is always over.
    ///
    /// # Cancel safety
    ///
    /// Safe: a signal that comes while nobody waits is kept for the next who does.
    pub async fn wait(&mut self) -> ShutdownReason {
        let Self { wishes, reader_gone, over, .. } = self;
        let over = *over;
        let time_is_over = async move {
            match over {
                Some((at, after)) => {
                    tokio::time::sleep_until(at).await;
                    ShutdownReason::Over(after)
                }
                None => std::future::pending().await,
            }
        };
        let reader_gone = async move {
            match reader_gone {
                Some(reader_gone) => reader_gone.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = wishes.wait() => why,
            () = reader_gone => {
                self.say_reader_gone();
                ShutdownReason::ReaderGone
            }
            why = time_is_over => why,
        }
    }
}

#[cfg(unix)]
#[derive(Debug)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// `None`: it is ignored, as `nohup` asks for.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    async fn wait(&mut self) -> ShutdownReason {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => ShutdownReason::Interrupt,
            _ = self.terminate.recv() => ShutdownReason::Terminate,
            _ = hangup => ShutdownReason::Hangup,
        }
    }
}

/// Whether SIGHUP was ignored when this process started. Where the system does not say so in
/// `/proc`, it was not.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Reads `SigIgn:`, a mask of signals in hexadecimal, of which SIGHUP is the lowest bit.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(windows)]
#[derive(Debug)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    r#break: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self {
            interrupt: ctrl_c()?,
            r#break: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    async fn wait(&mut self) -> ShutdownReason {
        tokio::select! {
            _ = self.interrupt.recv() => ShutdownReason::Interrupt,
            _ = self.r#break.recv() => ShutdownReason::Interrupt,
            _ = self.close.recv() => ShutdownReason::Terminate,
            _ = self.shutdown.recv() => ShutdownReason::Terminate,
        }
    }
}

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a whole number with a unit.
    #[error("is not a duration; write a whole number with its unit: 500ms, 60s, 5m, 8h")]
    Form,
    /// No time at all.
    #[error("is no time at all; leave it out, or write at least 1ms")]
    Zero,
    /// More than ten years.
    #[error("is too long; write at most 3650d, or leave it out to go on for ever")]
    TooLong,
}

/// Reads `500ms`, `60s`, `5m`, `8h`, `2d`.
///
/// # Errors
///
/// A [`DurationError`] that says what to write.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let unit_at = text.find(|char: char| !char.is_ascii_digit()).ok_or(DurationError::Form)?;
    let (digits, unit) = text.split_at_checked(unit_at).ok_or(DurationError::Form)?;
    let unit_ms: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationError::Form),
    };
    if digits.is_empty() {
        return Err(DurationError::Form);
    }
    let count: u64 = digits.parse().map_err(|_too_large| DurationError::TooLong)?;
    let ms = count.checked_mul(unit_ms).filter(|ms| *ms <= SECONDS_MAX.saturating_mul(1_000));
    match ms {
        Some(0) => Err(DurationError::Zero),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(DurationError::TooLong),
    }
}

/// A duration as [`parse_duration`] reads it, in the largest unit that fits.
struct DurationText(Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let fits = units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit));
        let (unit, name) = fits.unwrap_or((1, "ms"));
        write!(f, "{}{name}", ms / unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<u64, DurationError>) {
        assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "text: {text:?}");
    }

    #[test]
    fn durations_have_a_unit() {
        check("500ms", Ok(500));
        check("60s", Ok(60_000));
        check(" 5 m ", Ok(300_000));
        check("8h", Ok(28_800_000));
        check("3650d", Ok(SECONDS_MAX * 1_000));
        for text in ["", "60", "s", "-5s", "1.5h", "5 minutes", "1h30m", "٣s"] {
            check(text, Err(DurationError::Form));
        }
        check("0s", Err(DurationError::Zero));
        check("3651d", Err(DurationError::TooLong));
        check("99999999999999999999s", Err(DurationError::TooLong));
    }

    proptest! {
        #[test]
        fn a_duration_is_shown_as_it_is_written(ms in 1..=SECONDS_MAX * 1_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&DurationText(duration).to_string()), Ok(duration));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,30}") {
            prop_assert!(parse_duration(&text).is_ok_and(|read| !read.is_zero()) || parse_duration(&text).is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_asked_for_ends_and_stays_over() {
        let after = Duration::from_secs(60);
        let begun = tokio::time::Instant::now();
        let mut stop = Shutdown::listen(Some(after)).unwrap();
        assert_eq!(stop.wait().await, ShutdownReason::Over(after));
        assert_eq!(begun.elapsed(), after);
        assert_eq!(stop.wait().await, ShutdownReason::Over(after));
        assert_eq!(stop.wait().await.to_string(), "the 1m of --for are over");
    }

    #[cfg(unix)]
    #[test]
    fn nohup_is_obeyed() {
        assert!(ignores_hangup("Name:\tsniper\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("Name:\tsniper\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_it_waits_for_ever() {
        let mut stop = Shutdown::listen(None).unwrap();
        let year = Duration::from_secs(SECONDS_MAX / 10);
        assert!(tokio::time::timeout(year, stop.wait()).await.is_err());
    }
}
