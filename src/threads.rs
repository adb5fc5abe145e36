//! Stops ordering when a thread of the bot panics or ends.
//!
//! Each thread holds a [`ThreadGuard`]. A guard that is dropped before [`ThreadGuard::finished`]
//! was called, by a panic or by an early return, sets the thread's bit in the [`Alarm`]. The ledger
//! reads the alarm with one atomic load before each approval, so no order is sent after a thread
//! was lost.
//!
//! # Invariants
//!
//! 1. A bit of a thread is never cleared: a lost thread is not restarted within a process.
//! 2. Raising and reading an alarm never waits.
//!
//! [`priority`]: the threads that may wait yield the processor to the feed. [`affinity`]: the feed
//! on a CPU of its own.

pub mod affinity;
pub mod priority;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Locks a mutex, also after a panic of its holder. Use it only for data that is consistent at any
/// time.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lowest bit of a thread. The bits below belong to the ledger.
const THREAD_BIT_MIN: u32 = 16;

/// A thread that a live bot depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadName {
    /// Writes the ledger's database.
    Ledger,
    /// Compares the ledger's files with their paths.
    Files,
    /// Reads balance and purchases.
    Account,
    /// Serves `sniper halt` and `sniper status`.
    Control,
    Log,
    Recorder,
    /// Delivers alerts and heartbeats.
    Alerts,
    /// Serves the dashboard.
    Dashboard,
    /// Talks to the database of a shared budget.
    Sharing,
    /// Reloads the settings.
    Reload,
    /// Stores the paused entries.
    Pauses,
    /// Waits for signals.
    Signals,
    /// Reads the price sources.
    Prices,
    /// Any other thread, or a task of the main thread.
    Other,
}

impl ThreadName {
    pub const ALL: [Self; 14] = [
        Self::Ledger,
        Self::Files,
        Self::Account,
        Self::Control,
        Self::Log,
        Self::Recorder,
        Self::Alerts,
        Self::Dashboard,
        Self::Sharing,
        Self::Reload,
        Self::Pauses,
        Self::Signals,
        Self::Prices,
        Self::Other,
    ];

    /// Returns the thread's name in the system.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Files => "ledger-files",
            Self::Account => "account",
            Self::Control => "control",
            Self::Log => "log",
            Self::Recorder => "recorder",
            Self::Alerts => "alerts",
            Self::Dashboard => "dashboard",
            Self::Sharing => "sharing",
            Self::Reload => "reload",
            Self::Pauses => "pauses",
            Self::Signals => "signals",
            Self::Prices => "prices",
            // Also the name for tasks: the runtime catches their panics.
            Self::Other => "main",
        }
    }

    /// Describes the thread's task.
    pub const fn task(self) -> &'static str {
        match self {
            Self::Ledger => "it writes the ledger's database",
            Self::Files => "it compares the ledger's files with their paths",
            Self::Account => "it reads the account",
            Self::Control => "it serves `sniper halt` and `sniper status`",
            Self::Log => "it writes the log",
            Self::Recorder => "it writes the recording",
            Self::Alerts => "it delivers alerts",
            Self::Dashboard => "it serves the dashboard",
            Self::Sharing => "it talks to the database of the shared budget",
            Self::Reload => "it reloads the settings",
            Self::Pauses => "it stores the paused entries",
            Self::Signals => "it stops the bot on a signal",
            Self::Prices => "it reads the price sources",
            Self::Other => "the main thread, or a task that it runs",
        }
    }

    /// Returns the number that records and alarms use, from 1.
    pub const fn code(self) -> u32 {
        match self {
            Self::Ledger => 1,
            Self::Files => 2,
            Self::Account => 3,
            Self::Control => 4,
            Self::Log => 5,
            Self::Recorder => 6,
            Self::Other => 7,
            Self::Alerts => 8,
            Self::Dashboard => 9,
            Self::Sharing => 10,
            Self::Reload => 11,
            Self::Pauses => 12,
            Self::Signals => 13,
            Self::Prices => 14,
        }
    }

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|thread| thread.code() == code)
    }

    fn current() -> Self {
        let current = std::thread::current();
        let is_current = |thread: &Self| current.name() == Some(thread.as_str());
        Self::ALL.into_iter().find(is_current).unwrap_or(Self::Other)
    }

    const fn bit(self) -> u32 {
        1 << THREAD_BIT_MIN.saturating_add(self.code())
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reasons to approve no order, as bits. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Alarm(Arc<AlarmBits>);

#[derive(Debug, Default)]
struct AlarmBits {
    raised: AtomicU32,
    /// Bits raised since the last [`Alarm::take_raised`], also if they were cleared since.
    unreported: AtomicU32,
}

impl Alarm {
    /// Returns the alarm of this process. The log and the panic hook raise it; a bot that is alone
    /// in its process uses it.
    pub fn global() -> Self {
        static GLOBAL: OnceLock<Alarm> = OnceLock::new();
        GLOBAL.get_or_init(Self::default).clone()
    }

    #[inline]
    pub fn is_raised(&self) -> bool {
        self.bits() != 0
    }

    #[inline]
    pub fn bits(&self) -> u32 {
        self.0.raised.load(Ordering::Acquire)
    }

    /// Adds reasons. Returns `true` if one of them is new.
    pub fn raise(&self, bits: u32) -> bool {
        let new = bits & !self.0.raised.fetch_or(bits, Ordering::AcqRel);
        self.0.unreported.fetch_or(new, Ordering::AcqRel);
        new != 0
    }

    /// Returns the reasons that were added since the last call, also those that were removed since.
    pub fn take_raised(&self) -> u32 {
        self.0.unreported.swap(0, Ordering::AcqRel)
    }

    /// Removes reasons. Returns `true` if one of them was set.
    pub fn clear(&self, bits: u32) -> bool {
        self.0.raised.fetch_and(!bits, Ordering::AcqRel) & bits != 0
    }

    /// Raises the alarm for a lost thread.
    pub fn mark_lost(&self, thread: ThreadName) {
        self.raise(thread.bit());
    }

    /// Returns the lost threads among these bits.
    pub fn lost_threads(bits: u32) -> impl Iterator<Item = ThreadName> {
        ThreadName::ALL.into_iter().filter(move |thread| bits & thread.bit() != 0)
    }
}

/// Held by a thread for as long as it runs.
#[derive(Debug)]
#[must_use = "dropping the guard stops ordering"]
pub struct ThreadGuard {
    thread: ThreadName,
    alarm: Alarm,
    is_finished: bool,
}

impl ThreadGuard {
    pub const fn new(thread: ThreadName, alarm: Alarm) -> Self {
        Self { thread, alarm, is_finished: false }
    }

    /// Marks the end of the thread as intended.
    pub fn finished(mut self) {
        self.is_finished = true;
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if !self.is_finished {
            self.alarm.mark_lost(self.thread);
        }
    }
}

/// Makes every panic in this process stop ordering, also one in a task whose runtime catches it.
pub fn stop_ordering_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        Alarm::global().mark_lost(ThreadName::current());
        print(panic);
    }));
}

/// Ends this thread on request of a test: with `SNIPER_TEST_THREAD=account:panic:/some/file`, the
/// thread `account` panics once that file exists; with `return`, the caller must return early if
/// the result is `true`. Not in release builds.
#[cfg(debug_assertions)]
pub fn failpoint(thread: ThreadName) -> bool {
    static REQUEST: OnceLock<Option<(String, String, std::path::PathBuf)>> = OnceLock::new();
    let request = REQUEST.get_or_init(|| {
        let text = std::env::var("SNIPER_TEST_THREAD").ok()?;
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.next()?.into()))
    });
    let Some((name, end, file)) = request else { return false };
    let is_requested = name == thread.as_str() && file.exists();
    assert!(!is_requested || end != "panic", "SNIPER_TEST_THREAD");
    is_requested
}

/// Returns `false` in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn failpoint(_thread: ThreadName) -> bool {
    false
}

/// Aborts the process on request of a test, as if by `kill -9`: with
/// `SNIPER_TEST_CRASH=recorded:3`, at the third time that a step `recorded` is reached. Not in
/// release builds.
///
/// The steps of an order: `decided` (approved; not recorded), `recorded` (not sent), `left` (sent;
/// the sending is not recorded), `left-recorded`, `answered` (the response is not recorded) and
/// `answered-recorded`. Of the ledger's writer: `staged` (the events were read, not written) and
/// `committed` (written; the result is not published).
#[cfg(debug_assertions)]
pub fn abort_point(step: &str) {
    static REQUEST: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static HITS: AtomicU32 = AtomicU32::new(0);
    let request = REQUEST.get_or_init(|| {
        let text = std::env::var("SNIPER_TEST_CRASH").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    if let Some((name, times)) = request
        && name == step
        && HITS.fetch_add(1, Ordering::Relaxed).saturating_add(1) == *times
    {
        std::process::abort();
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn abort_point(_step: &str) {}

/// Delays this thread on request of a test: with `SNIPER_TEST_SLOW=sync:300`, each step `sync`
/// takes 300 ms longer. Not in release builds.
///
/// The only step is `sync`, a commit of the ledger's writer.
#[cfg(debug_assertions)]
pub fn slow_point(step: &str) {
    static REQUEST: OnceLock<Option<(String, u64)>> = OnceLock::new();
    let request = REQUEST.get_or_init(|| {
        let text = std::env::var("SNIPER_TEST_SLOW").ok()?;
        let (name, ms) = text.split_once(':')?;
        Some((name.to_owned(), ms.parse().ok()?))
    });
    if let Some((name, ms)) = request
        && name == step
    {
        std::thread::sleep(std::time::Duration::from_millis(*ms));
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn slow_point(_step: &str) {}

/// Waits until a test requests the end of this thread, and panics or returns.
///
/// # Cancel safety
///
/// Safe: it holds no state across an await.
pub async fn wait_for_failpoint(thread: ThreadName) {
    const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);
    if cfg!(not(debug_assertions)) {
        return std::future::pending().await;
    }
    while !failpoint(thread) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_or_returns_early_is_lost_and_one_that_finishes_is_not() {
        let alarm = Alarm::default();
        let run = |thread, body: fn(ThreadGuard)| {
            let guard = ThreadGuard::new(thread, alarm.clone());
            let ended = std::thread::spawn(move || body(guard)).join();
            (ended.is_ok(), Alarm::lost_threads(alarm.bits()).collect::<Vec<_>>())
        };
        assert_eq!(run(ThreadName::Log, ThreadGuard::finished), (true, vec![]));
        let (is_ok, lost) = run(ThreadName::Account, |_guard| panic!("a test"));
        assert_eq!((is_ok, lost), (false, vec![ThreadName::Account]));
        let (is_ok, lost) = run(ThreadName::Ledger, drop);
        assert_eq!((is_ok, lost), (true, vec![ThreadName::Ledger, ThreadName::Account]));
    }

    #[test]
    fn every_thread_has_a_unique_code_and_bit() {
        let mut bits = 0;
        for thread in ThreadName::ALL {
            assert_eq!(ThreadName::from_code(thread.code()), Some(thread));
            assert_eq!(bits & thread.bit(), 0, "{thread}");
            bits |= thread.bit();
            assert_eq!(Alarm::lost_threads(thread.bit()).collect::<Vec<_>>(), [thread]);
        }
        assert_eq!(bits & ((1 << THREAD_BIT_MIN) - 1), 0, "these bits belong to the ledger");
    }

    #[test]
    fn reasons_are_raised_and_cleared_independently() {
        let alarm = Alarm::default();
        assert!(alarm.raise(0b01) && !alarm.raise(0b01) && alarm.raise(0b10));
        assert!(alarm.clear(0b01) && !alarm.clear(0b01));
        assert_eq!(alarm.bits(), 0b10);
        assert!(alarm.is_raised());
    }
}
