//! Binds the feed's thread to one CPU.
//!
//! A new thread inherits the CPUs of the thread that starts it, so a thread that the feed's thread
//! starts afterwards calls [`unpin`].

use std::io;

/// Highest number of a CPU in the affinity mask of Linux.
pub const CPU_MAX: u32 = 1_023;

/// Returns `true` if this process may use this CPU.
pub fn is_available(cpu: u32) -> bool {
    system::is_available(cpu)
}

/// Binds the calling thread to this CPU.
///
/// # Errors
///
/// Returns an error if the process may not use this CPU, or the system does not support it.
pub fn pin(cpu: u32) -> io::Result<()> {
    system::pin(cpu)
}

/// Lets the calling thread use the CPUs that [`pin`] took from the thread that started it.
pub fn unpin() {
    system::unpin();
}

#[cfg(target_os = "linux")]
mod system {
    use std::{io, sync::OnceLock};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// CPUs of the first pinned thread before it was pinned.
    static UNPINNED: OnceLock<CpuSet> = OnceLock::new();

    pub(super) fn is_available(cpu: u32) -> bool {
        let all = sched_getaffinity(None);
        all.is_ok_and(|all| index(cpu).is_some_and(|index| all.is_set(index)))
    }

    pub(super) fn pin(cpu: u32) -> io::Result<()> {
        let all = sched_getaffinity(None)?;
        let index = index(cpu).filter(|index| all.is_set(*index));
        let mut one = CpuSet::new();
        one.set(index.ok_or(io::ErrorKind::InvalidInput)?);
        UNPINNED.get_or_init(|| all);
        Ok(sched_setaffinity(None, &one)?)
    }

    pub(super) fn unpin() {
        if let Some(all) = UNPINNED.get() {
            // A failure costs only speed: the thread shares the CPU of the feed.
            let _is_unpinned = sched_setaffinity(None, all).is_ok();
        }
    }

    /// Returns `None` for a number at which [`CpuSet`] would panic.
    fn index(cpu: u32) -> Option<usize> {
        usize::try_from(cpu).ok().filter(|index| *index < CpuSet::MAX_CPU)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    pub(super) const fn is_available(_cpu: u32) -> bool {
        false
    }

    pub(super) fn pin(_cpu: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) const fn unpin() {}
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::thread;

    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn a_pinned_thread_has_one_cpu_and_a_thread_that_it_starts_gets_all_back() {
        let all = sched_getaffinity(None).unwrap();
        let cpu = (0..=CPU_MAX).find(|cpu| is_available(*cpu)).unwrap();
        let (pinned, inherited, unpinned) = thread::spawn(move || {
            pin(cpu).unwrap();
            let pinned = sched_getaffinity(None).unwrap();
            let child = thread::spawn(|| {
                let inherited = sched_getaffinity(None).unwrap();
                unpin();
                (inherited, sched_getaffinity(None).unwrap())
            });
            let (inherited, unpinned) = child.join().unwrap();
            (pinned, inherited, unpinned)
        })
        .join()
        .unwrap();
        assert!(pinned.count() == 1 && pinned.is_set(usize::try_from(cpu).unwrap()));
        assert!(inherited == pinned, "a thread inherits its CPUs");
        assert!(unpinned == all);
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error() {
        let missing = (0..=CPU_MAX).rev().find(|cpu| !is_available(*cpu)).unwrap();
        let results = thread::spawn(move || [missing, CPU_MAX + 1, u32::MAX].map(pin));
        for result in results.join().unwrap() {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(!is_available(u32::MAX));
    }
}
