//! Ends the process at a second signal.
//!
//! A separate thread counts the signals, so that a blocking operation (a disk, a terminal, a DNS
//! lookup) cannot prevent the user from ending the program. It forwards the first signal to
//! [`Shutdown`](super::Shutdown). At the second signal it prints the unresolved orders to stderr
//! and exits with 128 plus the signal number, as a shell does. This is safe for the ledger, which
//! contains every order before it is sent.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{ShutdownReason, Signals};
use crate::log::{OutputStream, print_within};

/// Maximum time from the start of the shutdown to the exit.
///
/// Exceeds the sum of the individual limits: order responses 11 s, recording 10 s, ledger 10 s, log
/// 1 s, summary 2 s.
pub const STOP_MAX: Duration = Duration::from_secs(45);

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
    stopping: Notify,
    first: watch::Sender<Option<ShutdownReason>>,
}

impl fmt::Debug for SecondSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecondSignal").finish()
    }
}

impl SecondSignal {
    /// Starts counting signals. The first one is forwarded to a [`Shutdown`](super::Shutdown).
    ///
    /// # Errors
    ///
    /// Returns the system error if the handlers or the thread cannot be created.
    pub fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _entered = runtime.enter();
            Signals::listen()?
        };
        let shared = Arc::<QuitState>::default();
        let quit = Self(Arc::clone(&shared));
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let forced = runtime.block_on(count_signals(signals, &shared));
            exit(&shared, forced);
        })?;
        Ok(quit)
    }

    /// Subscribes to the first signal.
    pub(super) fn first(&self) -> watch::Receiver<Option<ShutdownReason>> {
        self.0.first.subscribe()
    }

    /// Sets the function that describes the unresolved orders. It must return within a fraction of
    /// a second, also while other threads are blocked.
    pub fn set_unresolved_report(&self, describe: impl Fn() -> String + Send + 'static) {
        let mut unresolved = self.0.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        *unresolved = Some(Box::new(describe));
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
    let unresolved = shared.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
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
