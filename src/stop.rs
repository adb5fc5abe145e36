//! When to stop: a person says so, the system says so, or the time asked for is over.

use std::{fmt, io, time::Duration};

/// The longest `--for`: ten years, in seconds.
const SECONDS_MAX: u64 = 315_360_000;

/// Why the program stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or what Windows has instead: the window was closed, the machine shuts down.
    Terminate,
    /// `--for` is over.
    Over(Duration),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt => f.write_str("Ctrl-C"),
            Self::Terminate => f.write_str("told to terminate"),
            Self::Over(after) => write!(f, "the {} of --for are over", Shown(*after)),
        }
    }
}

/// Listens for the wish to stop. From the moment it exists, Ctrl-C and SIGTERM no longer kill the
/// process by themselves.
#[derive(Debug)]
pub struct Stop {
    signals: Signals,
    /// When `--for` is over, and how long it was.
    over: Option<(tokio::time::Instant, Duration)>,
}

impl Stop {
    /// Begins to listen; the time of `--for` begins now. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// What the system says when it refuses.
    pub fn listen(after: Option<Duration>) -> io::Result<Self> {
        let moment = |after| tokio::time::Instant::now().checked_add(after).map(|at| (at, after));
        Ok(Self { signals: Signals::listen()?, over: after.and_then(moment) })
    }

    /// Waits until it is time to stop, and says why. May be asked again: a second Ctrl-C is another
    /// answer, while a time that is over is always over.
    ///
    /// # Cancel safety
    ///
    /// Safe: a signal that comes while nobody waits is kept for the next who does.
    pub async fn wait(&mut self) -> Why {
        let over = self.over;
        let time_is_over = async move {
            match over {
                Some((at, after)) => {
                    tokio::time::sleep_until(at).await;
                    Why::Over(after)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = self.signals.wait() => why,
            why = time_is_over => why,
        }
    }
}

#[cfg(unix)]
#[derive(Debug)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> Why {
        tokio::select! {
            _ = self.interrupt.recv() => Why::Interrupt,
            _ = self.terminate.recv() => Why::Terminate,
        }
    }
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

    async fn wait(&mut self) -> Why {
        tokio::select! {
            _ = self.interrupt.recv() => Why::Interrupt,
            _ = self.r#break.recv() => Why::Interrupt,
            _ = self.close.recv() => Why::Terminate,
            _ = self.shutdown.recv() => Why::Terminate,
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
    #[error("is too long; leave it out to go on for ever")]
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
struct Shown(Duration);

impl fmt::Display for Shown {
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
            prop_assert_eq!(parse_duration(&Shown(duration).to_string()), Ok(duration));
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
        let mut stop = Stop::listen(Some(after)).unwrap();
        assert_eq!(stop.wait().await, Why::Over(after));
        assert_eq!(begun.elapsed(), after);
        assert_eq!(stop.wait().await, Why::Over(after));
        assert_eq!(stop.wait().await.to_string(), "the 1m of --for are over");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_it_waits_for_ever() {
        let mut stop = Stop::listen(None).unwrap();
        let year = Duration::from_secs(SECONDS_MAX / 10);
        assert!(tokio::time::timeout(year, stop.wait()).await.is_err());
    }
}
