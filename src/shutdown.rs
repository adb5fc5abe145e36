//! Shutdown on a signal, after the duration of `--for`, or when the log output is closed.
//!
//! The first signal starts a graceful shutdown ([`Shutdown`]). A second signal ends the process
//! immediately ([`SecondSignal`]), and so does a shutdown that takes longer than [`STOP_MAX`].

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    time::Instant,
};
use tracing::info;

use crate::{
    log::{OutputStream, ReaderGone, print_within},
    threads::{Alarm, ThreadGuard, ThreadName, lock, wait_for_failpoint},
};

/// Maximum of `--for` in seconds: ten years.
const SECONDS_MAX: u64 = 315_360_000;

/// Cause of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
    /// The reader of the log closed its end.
    ReaderGone,
    /// The duration of `--for` has elapsed.
    TimeLimit(Duration),
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt => f.write_str("Ctrl-C"),
            Self::Terminate => f.write_str("SIGTERM"),
            Self::Hangup => f.write_str("SIGHUP (terminal closed)"),
            Self::ReaderGone => f.write_str("the log output was closed"),
            Self::TimeLimit(after) => write!(f, "--for {} elapsed", DurationText(*after)),
        }
    }
}

/// Waits for the end of a session.
#[derive(Debug)]
pub struct Shutdown {
    /// The first signal, forwarded by a [`SecondSignal`].
    signal: Option<watch::Receiver<Option<ShutdownReason>>>,
    reader_gone: Option<ReaderGone>,
    is_reader_gone_reported: bool,
    /// End and duration of `--for`.
    deadline: Option<(Instant, Duration)>,
}

impl Shutdown {
    /// Stops at the first signal of a [`SecondSignal`], which ends the process at the second one.
    /// Starts the duration of `--for`.
    pub fn from_signals(quit: &SecondSignal, after: Option<Duration>) -> Self {
        Self { signal: Some(quit.first()), ..Self::without_signals(after) }
    }

    /// Leaves the signals to the caller. Starts the duration of `--for`.
    pub fn without_signals(after: Option<Duration>) -> Self {
        let moment = |after| Instant::now().checked_add(after).map(|at| (at, after));
        let deadline = after.and_then(moment);
        Self { signal: None, reader_gone: None, is_reader_gone_reported: false, deadline }
    }

    /// Stops the session also when the reader of the log closes its end.
    #[must_use]
    pub fn or_reader_gone(self, reader_gone: ReaderGone) -> Self {
        Self { reader_gone: Some(reader_gone), ..self }
    }

    /// Reports the cause once on stderr, because the log is closed.
    fn report_reader_gone(&mut self) {
        if !std::mem::replace(&mut self.is_reader_gone_reported, true) {
            let line =
                "sniper: the log output was closed: stopping as on SIGTERM, with exit code 74\n";
            // If stderr is closed too, the exit code reports the cause.
            drop(print_within(OutputStream::Stderr, line, PRINT_MAX));
        }
    }

    /// Waits for the shutdown and returns its cause. May be called again, and then returns at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: a signal that arrives in between is returned by the next call.
    pub async fn wait(&mut self) -> ShutdownReason {
        let Self { signal, reader_gone, deadline, .. } = self;
        let deadline = *deadline;
        let signaled = async move {
            let first = match signal {
                Some(signal) => signal.wait_for(Option::is_some).await.ok().and_then(|it| *it),
                None => None,
            };
            match first {
                Some(reason) => reason,
                // The sender lives as long as the process.
                None => std::future::pending().await,
            }
        };
        let elapsed = async move {
            match deadline {
                Some((at, after)) => {
                    tokio::time::sleep_until(at).await;
                    ShutdownReason::TimeLimit(after)
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
            reason = signaled => reason,
            () = reader_gone => {
                self.report_reader_gone();
                ShutdownReason::ReaderGone
            }
            reason = elapsed => reason,
        }
    }
}

/// Handlers of the shutdown signals. While they exist, Ctrl-C, SIGTERM and SIGHUP do not kill the
/// process.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if SIGHUP is ignored, as with `nohup`.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
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

/// Returns `true` if SIGHUP was ignored when this process started. Without `/proc`, returns
/// `false`.
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Parses `SigIgn:`, a hexadecimal mask of signals. SIGHUP is the lowest bit.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Cause of a rejected duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sequence of whole numbers with units.
    #[error("is not a duration; write a number with its unit, such as 500ms, 60s, 5m or 1h30m")]
    Form,
    #[error("must be longer than zero; omit the option, or write at least 1ms")]
    Zero,
    /// More than ten years.
    #[error("is too long; write at most 3650d, or omit the option for no limit")]
    TooLong,
}

/// Parses a duration such as `500ms`, `60s`, `5m`, `8h`, `2d` or `1h30m`. A number without a unit
/// is in seconds.
///
/// # Errors
///
/// Returns a [`DurationError`] if the text is invalid or the duration out of range.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    const MS_MAX: u64 = SECONDS_MAX.saturating_mul(1_000);
    let is_digit = |char: char| char.is_ascii_digit();
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|char| !is_digit(char)).unwrap_or(rest.len());
        let (digits, after) = rest.split_at_checked(digits).ok_or(DurationError::Form)?;
        let unit = after.find(is_digit).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit).ok_or(DurationError::Form)?;
        let unit_ms: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if digits.len() == text.trim().len() => 1_000,
            _ => return Err(DurationError::Form),
        };
        if digits.is_empty() {
            return Err(DurationError::Form);
        }
        let count: u64 = digits.parse().map_err(|_too_large| DurationError::TooLong)?;
        let ms = count.checked_mul(unit_ms).and_then(|ms| total_ms.checked_add(ms));
        total_ms = ms.filter(|ms| *ms <= MS_MAX).ok_or(DurationError::TooLong)?;
        rest = after;
    }
    match total_ms {
        0 if text.trim().is_empty() => Err(DurationError::Form),
        0 => Err(DurationError::Zero),
        ms => Ok(Duration::from_millis(ms)),
    }
}

/// Formats a duration for [`parse_duration`], in the largest unit without a fraction.
struct DurationText(Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let unit = units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit));
        let (unit, name) = unit.unwrap_or((1, "ms"));
        write!(f, "{}{name}", ms / unit)
    }
}

/// Maximum time from the start of the shutdown to the exit.
///
/// Exceeds the sum of the usual limits: order responses 36 s on the slowest market, alerts 5 s,
/// ledger 10 s, paused entries 1 s, log 1 s, summary 2 s. A recording adds 10 s, a shared budget
/// 5 s, and the watcher of the ledger's files 10 s, so the process is ended early if too many of
/// these take their full time. Less than the 60 s after which systemd and Docker kill it.
pub const STOP_MAX: Duration = Duration::from_secs(56);

/// Maximum time to print the final message.
pub const PRINT_MAX: Duration = Duration::from_millis(500);

/// A signal within this time of the first counts as the same: `timeout` sends SIGTERM to its child
/// and to the process group of the child. The first signal is forwarded after this time.
const ECHO_MAX: Duration = Duration::from_millis(10);

/// Same for SIGHUP: when a terminal closes, both the system and the shell send one.
const HANGUP_ECHO_MAX: Duration = Duration::from_secs(1);

/// Exit code of a shutdown that exceeded [`STOP_MAX`] and was not caused by a signal.
const EXIT_LATE: u8 = 74;

/// Ends the process at a second signal, also after this handle is dropped.
#[derive(Clone)]
pub struct SecondSignal(Arc<QuitState>);

#[derive(Default)]
struct QuitState {
    /// Describes the unresolved orders.
    unresolved: Mutex<Option<Box<dyn Fn() -> String + Send>>>,
    hangup: Mutex<HangupAction>,
    stopping: Notify,
    first: watch::Sender<Option<ShutdownReason>>,
}

/// Effect of SIGHUP.
#[derive(Default)]
enum HangupAction {
    #[default]
    Stop,
    /// The action is not known yet. Contains whether a signal has arrived.
    Later(bool),
    Call(Box<dyn Fn() + Send>),
}

impl QuitState {
    /// Returns `false` if SIGHUP has to end the process. After another signal, a request to reload
    /// has no effect.
    fn handle_hangup(&self, is_stopping: bool) -> bool {
        match &mut *lock(&self.hangup) {
            HangupAction::Stop => return false,
            _ if is_stopping => info!("SIGHUP ignored: the program is stopping"),
            HangupAction::Later(has_arrived) => *has_arrived = true,
            HangupAction::Call(action) => action(),
        }
        true
    }
}

/// Returns `true` if this process has a terminal whose end SIGHUP would announce.
fn has_controlling_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

impl fmt::Debug for SecondSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecondSignal").finish()
    }
}

impl SecondSignal {
    /// Starts counting signals. The first one is forwarded to a [`Shutdown`].
    ///
    /// # Errors
    ///
    /// Returns the system error if the handlers or the thread cannot be created.
    pub fn watch() -> io::Result<Self> {
        Self::watch_as(HangupAction::Stop)
    }

    fn watch_as(hangup: HangupAction) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _entered = runtime.enter();
            Signals::listen()?
        };
        let shared = Arc::new(QuitState { hangup: Mutex::new(hangup), ..QuitState::default() });
        let quit = Self(Arc::clone(&shared));
        let guard = ThreadGuard::new(ThreadName::Signals, Alarm::global());
        thread::Builder::new().name(ThreadName::Signals.to_string()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    forced = count_signals(signals, &shared) => exit(&shared, forced),
                    () = wait_for_failpoint(ThreadName::Signals) => {}
                }
            });
            drop(guard);
        })?;
        Ok(quit)
    }

    /// Subscribes to the first signal.
    fn first(&self) -> watch::Receiver<Option<ShutdownReason>> {
        self.0.first.subscribe()
    }

    /// Sets the function that describes the unresolved orders. It must return within a fraction of
    /// a second, also while other threads are blocked.
    pub fn set_unresolved_report(&self, describe: impl Fn() -> String + Send + 'static) {
        *lock(&self.0.unresolved) = Some(Box::new(describe));
    }

    /// Does the same as [`watch`](Self::watch), for a session that reloads its settings at SIGHUP,
    /// also if the signal arrives before [`set_hangup_action`](Self::set_hangup_action). In a
    /// process with a controlling terminal the signal means that it was closed.
    ///
    /// # Errors
    ///
    /// Same as [`watch`](Self::watch).
    pub fn watch_with_reloads() -> io::Result<Self> {
        let is_closing = has_controlling_terminal();
        Self::watch_as(if is_closing { HangupAction::Stop } else { HangupAction::Later(false) })
    }

    /// Sets what SIGHUP does instead of a shutdown, and does it for an earlier signal.
    pub fn set_hangup_action(&self, action: impl Fn() + Send + 'static) {
        let mut hangup = lock(&self.0.hangup);
        match *hangup {
            HangupAction::Stop => return,
            HangupAction::Later(true) => action(),
            HangupAction::Later(false) | HangupAction::Call(_) => {}
        }
        *hangup = HangupAction::Call(Box::new(action));
    }

    /// Starts the time limit [`STOP_MAX`] of a shutdown without a signal.
    pub fn stopping(&self) {
        self.0.stopping.notify_one();
    }
}

/// Cause of an immediate exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForcedExit {
    SecondSignal(ShutdownReason),
    /// The shutdown exceeded [`STOP_MAX`]; contains the signal that caused it, if any.
    Timeout(Option<ShutdownReason>),
}

impl ForcedExit {
    const fn exit_code(self) -> u8 {
        match self {
            Self::SecondSignal(reason) | Self::Timeout(Some(reason)) => match reason {
                ShutdownReason::Interrupt => 130,
                ShutdownReason::Terminate => 143,
                ShutdownReason::Hangup => 129,
                ShutdownReason::ReaderGone | ShutdownReason::TimeLimit(_) => EXIT_LATE,
            },
            Self::Timeout(None) => EXIT_LATE,
        }
    }
}

impl fmt::Display for ForcedExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecondSignal(reason) => write!(f, "Quit immediately (second signal: {reason})"),
            Self::Timeout(_) => {
                write!(f, "Quit: shutdown took longer than {} s", STOP_MAX.as_secs())
            }
        }
    }
}

/// Returns `true` if a signal this long after the first counts as a second one.
fn is_second(reason: ShutdownReason, after: Duration) -> bool {
    let echo = if reason == ShutdownReason::Hangup { HANGUP_ECHO_MAX } else { ECHO_MAX };
    echo <= after
}

/// Counts the signals and returns the cause to exit immediately.
async fn count_signals(mut signals: Signals, shared: &QuitState) -> ForcedExit {
    let mut first: Option<(ShutdownReason, Instant)> = None;
    let mut is_forwarded = false;
    let mut deadline = None;
    loop {
        let timeout = at(deadline);
        let echo_time_elapsed =
            at(first.filter(|_| !is_forwarded).and_then(|(_, came)| came.checked_add(ECHO_MAX)));
        tokio::select! {
            reason = signals.wait() => match first {
                _ if reason == ShutdownReason::Hangup && shared.handle_hangup(first.is_some()) => continue,
                Some((_, came)) if is_second(reason, came.elapsed()) => return ForcedExit::SecondSignal(reason),
                Some(_) => {}
                None => first = Some((reason, Instant::now())),
            },
            () = echo_time_elapsed => {
                is_forwarded = true;
                shared.first.send_replace(first.map(|(reason, _)| reason));
            }
            () = shared.stopping.notified() => {}
            () = timeout => return ForcedExit::Timeout(first.map(|(reason, _)| reason)),
        }
        deadline = deadline.or_else(|| Instant::now().checked_add(STOP_MAX));
    }
}

/// Waits until an instant; without one, never returns.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn exit(shared: &QuitState, forced: ForcedExit) {
    let unresolved = lock(&shared.unresolved);
    let unresolved =
        unresolved.as_ref().map_or_else(String::new, |describe| format!(" {}", describe()));
    // If stderr is closed, the exit code reports the cause; the ledger contains the orders.
    drop(print_within(
        OutputStream::Stderr,
        &format!("sniper: {forced}.{unresolved}\n"),
        PRINT_MAX,
    ));
    std::process::exit(forced.exit_code().into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Result<u64, DurationError>) {
        assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "text: {text:?}");
    }

    #[test]
    fn durations_are_parsed_with_and_without_units() {
        check("500ms", Ok(500));
        check("60s", Ok(60_000));
        check(" 5 m ", Ok(300_000));
        check("8h", Ok(28_800_000));
        check("3650d", Ok(SECONDS_MAX * 1_000));
        check("1h30m", Ok(5_400_000));
        check("90", Ok(90_000));
        for text in ["", "s", "-5s", "1.5h", "5 minutes", "1h30", "٣s"] {
            check(text, Err(DurationError::Form));
        }
        check("0s", Err(DurationError::Zero));
        check("3651d", Err(DurationError::TooLong));
        check("99999999999999999999s", Err(DurationError::TooLong));
    }

    proptest! {
        #[test]
        fn a_formatted_duration_parses_to_the_same_value(ms in 1..=SECONDS_MAX * 1_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&DurationText(duration).to_string()), Ok(duration));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,30}") {
            prop_assert!(parse_duration(&text).is_ok_and(|read| !read.is_zero()) || parse_duration(&text).is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_elapsed_duration_is_reported_on_every_call() {
        let after = Duration::from_secs(60);
        let begun = Instant::now();
        let mut stop = Shutdown::without_signals(Some(after));
        assert_eq!(stop.wait().await, ShutdownReason::TimeLimit(after));
        assert_eq!(begun.elapsed(), after);
        assert_eq!(stop.wait().await, ShutdownReason::TimeLimit(after));
        assert_eq!(stop.wait().await.to_string(), "--for 1m elapsed");
    }

    #[test]
    fn an_ignored_sighup_is_detected() {
        assert!(ignores_hangup("Name:\tsniper\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("Name:\tsniper\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_duration_it_waits_indefinitely() {
        let mut stop = Shutdown::without_signals(None);
        let year = Duration::from_secs(SECONDS_MAX / 10);
        assert!(tokio::time::timeout(year, stop.wait()).await.is_err());
    }

    #[test]
    fn an_echo_of_the_first_signal_is_not_a_second_signal() {
        let second = |reason, after_ms| is_second(reason, Duration::from_millis(after_ms));
        assert!(!second(ShutdownReason::Interrupt, 2));
        assert!(second(ShutdownReason::Interrupt, 10));
        assert!(second(ShutdownReason::Terminate, 10));
        assert!(!second(ShutdownReason::Hangup, 900));
        assert!(second(ShutdownReason::Hangup, 1_000));
    }

    #[test]
    fn the_exit_code_is_128_plus_the_signal_number() {
        let codes = [ShutdownReason::Interrupt, ShutdownReason::Terminate, ShutdownReason::Hangup]
            .map(|reason| {
                (
                    ForcedExit::SecondSignal(reason).exit_code(),
                    ForcedExit::Timeout(Some(reason)).exit_code(),
                )
            });
        assert_eq!(codes, [(130, 130), (143, 143), (129, 129)]);
        assert_eq!(ForcedExit::Timeout(None).exit_code(), 74);
    }

    #[test]
    fn a_hangup_before_its_action_is_set_is_remembered() {
        let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let quit = |hangup| {
            SecondSignal(Arc::new(QuitState { hangup: Mutex::new(hangup), ..QuitState::default() }))
        };
        let count = || {
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let waiting = quit(HangupAction::Later(false));
        assert!(waiting.0.handle_hangup(false) && waiting.0.handle_hangup(false));
        waiting.set_hangup_action(count());
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(waiting.0.handle_hangup(false) && waiting.0.handle_hangup(true));
        assert_eq!(
            calls.load(std::sync::atomic::Ordering::Relaxed),
            2,
            "it is not called at a stop"
        );
        let stopping = quit(HangupAction::Stop);
        stopping.set_hangup_action(count());
        assert!(!stopping.0.handle_hangup(false) && !stopping.0.handle_hangup(true));
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_that_takes_too_long_is_ended() {
        let shared = QuitState::default();
        shared.stopping.notify_one();
        let begun = Instant::now();
        assert_eq!(
            count_signals(Signals::listen().unwrap(), &shared).await,
            ForcedExit::Timeout(None)
        );
        assert_eq!(begun.elapsed(), STOP_MAX);
    }
}
