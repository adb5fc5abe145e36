//! Stops ordering when a thread of the bot panics or ends.
//!
//! Each thread holds a [`ThreadGuard`]. A guard that is dropped before [`ThreadGuard::finished`] was called,
//! by a panic or by an early return, sets the thread's bit in the [`Alarm`]. The ledger reads the
//! alarm with one atomic load before each approval, so no order is sent after a thread was lost.
//!
//! # Invariants
//!
//! 1. A bit of a thread is never cleared: a lost thread does not come back within a process.
//! 2. Raising and reading an alarm never waits.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The lowest bit that stands for a thread. Those below it belong to the ledger.
const FIRST_BIT: u32 = 16;

/// A thread that a live bot cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadName {
    /// Writes the ledger's database.
    Ledger,
    /// Compares the ledger's files with their paths.
    Files,
    /// Reads the account.
    Account,
    /// Answers `sniper halt` and `sniper status`.
    Control,
    /// Writes the log.
    Log,
    /// Writes the recording.
    Recorder,
    /// Any other thread, or a task of the main thread.
    Other,
}

impl ThreadName {
    /// Every thread.
    pub const ALL: [Self; 7] = [
        Self::Ledger,
        Self::Files,
        Self::Account,
        Self::Control,
        Self::Log,
        Self::Recorder,
        Self::Other,
    ];

    /// The name that the system shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Files => "ledger-files",
            Self::Account => "account",
            Self::Control => "control",
            Self::Log => "log",
            Self::Recorder => "tape",
            // Of its tasks, too: the runtime catches their panics.
            Self::Other => "main",
        }
    }

    /// What the thread does.
    pub const fn task(self) -> &'static str {
        match self {
            Self::Ledger => "it writes the ledger's database",
            Self::Files => "it compares the ledger's files with their paths",
            Self::Account => "it reads the account",
            Self::Control => "it answers `sniper halt` and `sniper status`",
            Self::Log => "it writes the log",
            Self::Recorder => "it writes the recording",
            Self::Other => "or a task that it runs",
        }
    }

    /// The number that records and alarms use, from 1.
    pub const fn code(self) -> u32 {
        match self {
            Self::Ledger => 1,
            Self::Files => 2,
            Self::Account => 3,
            Self::Control => 4,
            Self::Log => 5,
            Self::Recorder => 6,
            Self::Other => 7,
        }
    }

    /// The thread with this number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|thread| thread.code() == code)
    }

    /// The current thread.
    fn current() -> Self {
        let current = std::thread::current();
        let is_current = |thread: &Self| current.name() == Some(thread.as_str());
        Self::ALL.into_iter().find(is_current).unwrap_or(Self::Other)
    }

    const fn bit(self) -> u32 {
        1 << FIRST_BIT.saturating_add(self.code())
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why no order may be approved, as bits. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Alarm(Arc<AtomicU32>);

impl Alarm {
    /// The alarm of this process: the log and the panic hook raise it, and a bot that runs alone in
    /// its process uses it.
    pub fn of_process() -> Self {
        static OF_PROCESS: OnceLock<Alarm> = OnceLock::new();
        OF_PROCESS.get_or_init(Self::default).clone()
    }

    /// Whether there is any reason.
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.bits() != 0
    }

    /// Every reason.
    #[inline]
    pub fn bits(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Adds reasons. Returns whether one of them is new.
    pub fn raise(&self, bits: u32) -> bool {
        self.0.fetch_or(bits, Ordering::AcqRel) & bits != bits
    }

    /// Removes reasons. Returns whether there was one of them.
    pub fn clear(&self, bits: u32) -> bool {
        self.0.fetch_and(!bits, Ordering::AcqRel) & bits != 0
    }

    /// A thread was lost.
    pub fn lose(&self, thread: ThreadName) {
        self.raise(thread.bit());
    }

    /// The threads that were lost, of these bits.
    pub fn lost(bits: u32) -> impl Iterator<Item = ThreadName> {
        ThreadName::ALL.into_iter().filter(move |thread| bits & thread.bit() != 0)
    }
}

/// Held by a thread for as long as it runs.
#[derive(Debug)]
#[must_use = "a guard that is dropped at once stops ordering at once"]
pub struct ThreadGuard {
    thread: ThreadName,
    alarm: Alarm,
    is_finished: bool,
}

impl ThreadGuard {
    /// A guard for this thread.
    pub const fn new(thread: ThreadName, alarm: Alarm) -> Self {
        Self { thread, alarm, is_finished: false }
    }

    /// The thread was asked to end, and ends.
    pub fn finished(mut self) {
        self.is_finished = true;
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if !self.is_finished {
            self.alarm.lose(self.thread);
        }
    }
}

/// Makes every panic in this process stop ordering, also one in a task whose runtime catches it.
pub fn stop_ordering_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        Alarm::of_process().lose(ThreadName::current());
        print(panic);
    }));
}

/// Panics in this thread if a test asks for it: with `SNIPER_TEST_PANIC=account:/some/file`, the
/// thread `account` panics once that file exists. Release builds have none of this.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "tests ask for it")]
pub fn failpoint(thread: ThreadName) {
    static ASKED: OnceLock<Option<(String, std::path::PathBuf)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("SNIPER_TEST_PANIC").ok()?;
        let (name, file) = text.split_once(':')?;
        Some((name.to_owned(), file.into()))
    });
    if let Some((name, file)) = asked
        && name == thread.as_str()
        && file.exists()
    {
        panic!("SNIPER_TEST_PANIC");
    }
}

/// Does nothing: only debug builds can be asked to panic.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn failpoint(_thread: ThreadName) {}

/// Waits until a test asks this thread to panic, and panics; never returns.
///
/// # Cancel safety
///
/// Safe: nothing is under way at a wait.
pub async fn wait_for_failpoint(thread: ThreadName) {
    /// How often it is asked.
    const EVERY: std::time::Duration = std::time::Duration::from_millis(20);
    if cfg!(not(debug_assertions)) {
        return std::future::pending().await;
    }
    loop {
        failpoint(thread);
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_or_returns_early_is_named_and_one_that_finishes_is_not() {
        let alarm = Alarm::default();
        let run = |thread, body: fn(ThreadGuard)| {
            let guard = ThreadGuard::new(thread, alarm.clone());
            let ended = std::thread::spawn(move || body(guard)).join();
            (ended.is_ok(), Alarm::lost(alarm.bits()).collect::<Vec<_>>())
        };
        assert_eq!(run(ThreadName::Log, ThreadGuard::finished), (true, vec![]));
        let (is_ok, lost) = run(ThreadName::Account, |_guard| panic!("a test"));
        assert_eq!((is_ok, lost), (false, vec![ThreadName::Account]));
        let (is_ok, lost) = run(ThreadName::Ledger, drop);
        assert_eq!((is_ok, lost), (true, vec![ThreadName::Ledger, ThreadName::Account]));
    }

    #[test]
    fn every_thread_has_a_code_and_a_bit_of_its_own() {
        let mut bits = 0;
        for thread in ThreadName::ALL {
            assert_eq!(ThreadName::from_code(thread.code()), Some(thread));
            assert_eq!(bits & thread.bit(), 0, "{thread}");
            bits |= thread.bit();
            assert_eq!(Alarm::lost(thread.bit()).collect::<Vec<_>>(), [thread]);
        }
        assert_eq!(bits & ((1 << FIRST_BIT) - 1), 0, "those belong to the ledger");
    }

    #[test]
    fn a_reason_is_new_once_and_is_cleared_alone() {
        let alarm = Alarm::default();
        assert!(alarm.raise(0b01) && !alarm.raise(0b01) && alarm.raise(0b10));
        assert!(alarm.clear(0b01) && !alarm.clear(0b01));
        assert_eq!(alarm.bits(), 0b10);
        assert!(alarm.is_raised());
    }
}
