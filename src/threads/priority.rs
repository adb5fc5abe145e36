//! Lower scheduling priority for the threads that may wait.
//!
//! On a busy machine the system divides a core between the feed's thread and those that write the
//! ledger, the log or a recording. A thread may raise its own nice value without privileges, so
//! these threads do that when they start. Their share stays above zero: the ledger's writer, on
//! which orders depend, keeps about a quarter of a core beside a feed that never sleeps.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use tracing::info;

use super::ThreadName;

/// Added to the nice value of the ledger's writer.
const LEDGER_NICE: i32 = 5;

/// Added to the nice value of the other threads that may wait.
const OTHER_NICE: i32 = 10;

/// Highest nice value of the system.
#[cfg(target_os = "linux")]
const NICE_MAX: i32 = 19;

/// Threads of this process whose priority could not be lowered.
static NOT_LOWERED: PriorityFailures = PriorityFailures::new();

/// Lowers the priority of the calling thread if it may wait. Logs the first failure; all of them
/// are in [`not_lowered`].
pub fn lower(thread: ThreadName) {
    // The log's own thread starts before the log, and its line would be lost.
    if let Some(error) = NOT_LOWERED.lower(thread, add_to_nice_value)
        && thread != ThreadName::Log
        && NOT_LOWERED.is_first()
    {
        info!(
            "Thread priority not lowered: {thread}, {error}; it competes with the feed for a core"
        );
    }
}

/// Returns the threads of this process whose priority could not be lowered.
pub fn not_lowered() -> Vec<ThreadName> {
    NOT_LOWERED.threads()
}

#[derive(Debug)]
struct PriorityFailures {
    /// Bits of the threads.
    threads: AtomicU32,
    is_logged: AtomicBool,
}

impl PriorityFailures {
    const fn new() -> Self {
        Self { threads: AtomicU32::new(0), is_logged: AtomicBool::new(false) }
    }

    /// Calls `add` with the value for this thread. Returns its error.
    fn lower(
        &self,
        thread: ThreadName,
        add: impl FnOnce(i32) -> io::Result<()>,
    ) -> Option<io::Error> {
        let error = add(nice_of(thread)?).err()?;
        self.threads.fetch_or(thread.bit(), Ordering::Relaxed);
        Some(error)
    }

    /// Returns `true` the first time.
    fn is_first(&self) -> bool {
        !self.is_logged.swap(true, Ordering::Relaxed)
    }

    fn threads(&self) -> Vec<ThreadName> {
        let bits = self.threads.load(Ordering::Relaxed);
        ThreadName::ALL.into_iter().filter(|thread| bits & thread.bit() != 0).collect()
    }
}

/// Returns the value to add for this thread; `None` for one that must not wait.
const fn nice_of(thread: ThreadName) -> Option<i32> {
    match thread {
        ThreadName::Ledger => Some(LEDGER_NICE),
        ThreadName::Files
        | ThreadName::Account
        | ThreadName::Log
        | ThreadName::Recorder
        | ThreadName::Alerts
        | ThreadName::Dashboard
        | ThreadName::Sharing
        | ThreadName::Reload
        | ThreadName::Pauses
        | ThreadName::Prices => Some(OTHER_NICE),
        // `sniper halt` and Ctrl-C must take effect on a busy machine, too.
        ThreadName::Control | ThreadName::Signals | ThreadName::Other => None,
    }
}

/// Adds to the nice value of the calling thread: to set an absolute one would need privileges in a
/// process that was started with a higher one.
#[cfg(target_os = "linux")]
fn add_to_nice_value(add: i32) -> io::Result<()> {
    use rustix::{
        process::{getpriority_process, setpriority_process},
        thread::gettid,
    };
    // On Linux the call takes the id of a thread.
    let thread = Some(gettid());
    let nice = getpriority_process(thread)?.saturating_add(add).min(NICE_MAX);
    Ok(setpriority_process(thread, nice)?)
}

/// Changes nothing: elsewhere the nice value belongs to the whole process, with the feed.
#[cfg(not(target_os = "linux"))]
fn add_to_nice_value(_add: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_priority_is_reported_by_thread_and_logged_once() {
        let failures = PriorityFailures::new();
        let reject = |_add| Err(io::ErrorKind::PermissionDenied.into());
        assert!(failures.lower(ThreadName::Ledger, |_add| Ok(())).is_none());
        assert_eq!(failures.threads(), []);
        assert!(failures.lower(ThreadName::Account, reject).is_some());
        assert!(failures.lower(ThreadName::Ledger, reject).is_some());
        assert_eq!(failures.threads(), [ThreadName::Ledger, ThreadName::Account]);
        assert_eq!((failures.is_first(), failures.is_first()), (true, false));
        let never = |_add| panic!("the feed's thread keeps its priority");
        assert!(failures.lower(ThreadName::Other, never).is_none());
    }

    /// A feed that never sleeps and the ledger's writer share one core.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_ledgers_writer_gets_less_than_half_of_a_busy_core_but_gets_its_time() {
        use std::{
            sync::{Arc, Barrier},
            thread,
            time::{Duration, Instant},
        };

        use rustix::{
            thread::{CpuSet, sched_getaffinity, sched_setaffinity},
            time::{ClockId, clock_gettime},
        };

        let cpu_time = || {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
        };
        let allowed = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap();
        let start = Arc::new(Barrier::new(2));
        let spawn = |thread: ThreadName| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                let mut one = CpuSet::new();
                one.set(cpu);
                sched_setaffinity(None, &one).unwrap();
                assert!(NOT_LOWERED.lower(thread, add_to_nice_value).is_none());
                start.wait();
                let (began, until) = (cpu_time(), Instant::now() + Duration::from_secs(1));
                while Instant::now() < until {}
                cpu_time() - began
            })
        };
        let [feed, writer] = [ThreadName::Other, ThreadName::Ledger].map(spawn);
        let [feed, writer] = [feed, writer].map(|thread| thread.join().unwrap());
        assert!(writer < feed, "{writer:?} of the writer, {feed:?} of the feed");
        assert!(feed < 20 * writer, "{writer:?} of the writer, {feed:?} of the feed");
    }
}
