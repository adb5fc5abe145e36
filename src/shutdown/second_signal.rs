//! A second signal ends the process at once, whatever the rest of it is doing.
//!
//! A thread of its own counts the signals, so that nothing that blocks (a disk, a terminal that
//! takes nothing, a name server) keeps a person from ending the program. It hands the first signal to
//! [`Shutdown`](super::Stop), so a signal that is sent once that was said is always a second one. At the
//! second it says on standard error
//! which orders are without an answer, and exits with 128 and the number of the signal, as a shell
//! does. The ledger is made for that: it holds every order before it is sent.

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

/// How long the program may take from the first signal, or from whatever else ends it, to its exit.
///
/// It is more than all that has a bound of its own together: answers 11 s, the recording 10 s, the
/// ledger 10 s, the log 1 s, the summary 2 s.
pub const STOP_MAX: Duration = Duration::from_secs(45);

/// How long the last words may take to be written.
pub const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

/// A signal that comes so soon after the first is the same wish: `timeout` sends SIGTERM to its child
/// and to the child's process group. The first is handed on after this time.
const ECHO_MAX: Duration = Duration::from_millis(10);

/// A terminal that closes sends SIGHUP more than once: the system does, and the shell does.
const HANGUP_ECHO_MAX: Duration = Duration::from_secs(1);

/// The exit code of an end that took longer than [`STOP_MAX`] and was asked for by no signal.
const EXIT_LATE: u8 = 74;

/// Ends the process at a second signal. Goes on when it is dropped.
#[derive(Clone)]
pub struct SecondSignal(Arc<QuitState>);

#[derive(Default)]
struct QuitState {
    /// Says what is unresolved.
    unresolved: Mutex<Option<Box<dyn Fn() -> String + Send>>>,
    stopping: Notify,
    /// The first signal.
    first: watch::Sender<Option<ShutdownReason>>,
}

impl fmt::Debug for SecondSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Quit").finish()
    }
}

impl SecondSignal {
    /// Begins to count signals; the first one is for a [`Shutdown`](super::Stop).
    ///
    /// # Errors
    ///
    /// What the system says when it refuses.
    pub fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _entered = runtime.enter();
            Signals::listen()?
        };
        let shared = Arc::<QuitState>::default();
        let quit = Self(Arc::clone(&shared));
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let forced = runtime.block_on(count(signals, &shared));
            end(&shared, forced);
        })?;
        Ok(quit)
    }

    /// The first signal, once there is one.
    pub(super) fn first(&self) -> watch::Receiver<Option<ShutdownReason>> {
        self.0.first.subscribe()
    }

    /// What says which orders are unresolved. It must answer within a moment, also while every
    /// other thread is stuck.
    pub fn says_unresolved(&self, say: impl Fn() -> String + Send + 'static) {
        let mut unresolved = self.0.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        *unresolved = Some(Box::new(say));
    }

    /// The program has begun to end by itself; from now on it has [`STOP_MAX`].
    pub fn stopping(&self) {
        self.0.stopping.notify_one();
    }
}

/// Why the process is ended at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForcedExit {
    /// By a second signal.
    Again(ShutdownReason),
    /// Its end took too long; the signal that had asked for it, if one had.
    Late(Option<ShutdownReason>),
}

impl ForcedExit {
    const fn exit_code(self) -> u8 {
        match self {
            Self::Again(why) | Self::Late(Some(why)) => match why {
                ShutdownReason::Interrupt => 130,
                ShutdownReason::Terminate => 143,
                ShutdownReason::Hangup => 129,
                ShutdownReason::ReaderGone | ShutdownReason::Over(_) => EXIT_LATE,
            },
            Self::Late(None) => EXIT_LATE,
        }
    }
}

impl fmt::Display for ForcedExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again(why) => write!(f, "Quit at once (second signal: {why})"),
            Self::Late(_) => write!(f, "Quit: stopping took longer than {} s", STOP_MAX.as_secs()),
        }
    }
}

/// Whether a signal that came so long after the first is a second wish.
fn is_second(why: ShutdownReason, after: Duration) -> bool {
    let echo = if why == ShutdownReason::Hangup { HANGUP_ECHO_MAX } else { ECHO_MAX };
    echo <= after
}

/// Waits until the process is to be ended at once.
async fn count(mut signals: Signals, shared: &QuitState) -> ForcedExit {
    let mut first: Option<(ShutdownReason, Instant)> = None;
    let mut is_handed_on = false;
    let mut deadline = None;
    loop {
        let late = at(deadline);
        let echoes_are_over =
            at(first.filter(|_| !is_handed_on).and_then(|(_, came)| came.checked_add(ECHO_MAX)));
        tokio::select! {
            why = signals.wait() => match first {
                Some((_, came)) if is_second(why, came.elapsed()) => return ForcedExit::Again(why),
                Some(_) => {}
                None => first = Some((why, Instant::now())),
            },
            () = echoes_are_over => {
                is_handed_on = true;
                shared.first.send_replace(first.map(|(why, _)| why));
            }
            () = shared.stopping.notified() => {}
            () = late => return ForcedExit::Late(first.map(|(why, _)| why)),
        }
        deadline = deadline.or_else(|| Instant::now().checked_add(STOP_MAX));
    }
}

/// Waits until a moment, for ever where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn end(shared: &QuitState, forced: ForcedExit) {
    let unresolved = shared.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
    let unresolved = unresolved.as_ref().map_or_else(String::new, |say| format!(" {}", say()));
    // Where nobody reads it, the exit code says it, and the ledger holds what is unresolved.
    drop(print_within(
        OutputStream::Stderr,
        &format!("sniper: {forced}.{unresolved}\n"),
        LAST_WORDS_MAX,
    ));
    std::process::exit(forced.exit_code().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_counts_and_its_echo_does_not() {
        let second = |why, after_ms| is_second(why, Duration::from_millis(after_ms));
        assert!(!second(ShutdownReason::Interrupt, 2));
        assert!(second(ShutdownReason::Interrupt, 10));
        assert!(second(ShutdownReason::Terminate, 10));
        assert!(!second(ShutdownReason::Hangup, 900));
        assert!(second(ShutdownReason::Hangup, 1_000));
    }

    #[test]
    fn the_exit_code_is_that_of_the_signal() {
        let codes = [ShutdownReason::Interrupt, ShutdownReason::Terminate, ShutdownReason::Hangup]
            .map(|why| {
                (ForcedExit::Again(why).exit_code(), ForcedExit::Late(Some(why)).exit_code())
            });
        assert_eq!(codes, [(130, 130), (143, 143), (129, 129)]);
        assert_eq!(ForcedExit::Late(None).exit_code(), 74);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_takes_too_long_is_ended() {
        let shared = QuitState::default();
        shared.stopping.notify_one();
        let begun = Instant::now();
        assert_eq!(count(Signals::listen().unwrap(), &shared).await, ForcedExit::Late(None));
        assert_eq!(begun.elapsed(), STOP_MAX);
    }
}
