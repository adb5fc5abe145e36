//! Progress of long work, on the last line of a terminal.
//!
//! A thread of its own draws it, because a terminal can block for any time: the work only counts.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log;

/// Interval between two drawings.
const DRAW_EVERY: Duration = Duration::from_millis(150);
/// Maximum time to wait until the line is removed.
const END_MAX: Duration = Duration::from_millis(500);

/// Unit of the progress.
#[derive(Clone, Debug)]
pub enum ProgressCount {
    /// Nothing: only the time is shown.
    Time,
    /// This unit, without a known end.
    Of(&'static str),
    /// This unit, up to a number.
    UpTo(u64, &'static str),
}

/// Number of steps done so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ProgressCounter(Arc<AtomicU64>);

impl ProgressCounter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A shown progress, removed on drop. Nothing is shown unless standard error is a terminal.
#[derive(Debug, Default)]
pub struct Progress(Option<RunningProgress>);

#[derive(Debug)]
struct RunningProgress {
    is_done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

impl Progress {
    /// Shows this text, such as `Replaying`, with the value of the counter.
    pub fn start(text: &str, count: &ProgressCount, counter: ProgressCounter) -> Self {
        Self::start_reading(text, count, move || counter.read())
    }

    /// Does the same as [`start`](Self::start), with a function that returns the number of steps
    /// done so far.
    pub fn start_reading(
        text: &str,
        count: &ProgressCount,
        read: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        if !io::stderr().is_terminal() {
            return Self::default();
        }
        let bar = bar(text, count);
        let is_done = Arc::new(AtomicBool::new(false));
        let (done, (end, ended)) = (Arc::clone(&is_done), sync_channel(1));
        let draw = move || {
            log::clear_line_before_output(true);
            while !done.load(Ordering::Acquire) {
                bar.set_position(read());
                bar.tick();
                thread::park_timeout(DRAW_EVERY);
            }
            bar.finish_and_clear();
            log::clear_line_before_output(false);
            // The work may not wait any more.
            let _is_awaited = end.send(()).is_ok();
        };
        let started = thread::Builder::new().name("progress".to_owned()).spawn(draw);
        // Without a thread nothing is shown, and the work goes on.
        Self(started.ok().map(|thread| RunningProgress { is_done, thread, ended }))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(RunningProgress { is_done, thread, ended }) = self.0.take() {
            is_done.store(true, Ordering::Release);
            thread.thread().unpark();
            // A blocked terminal keeps the line.
            let _is_removed = ended.recv_timeout(END_MAX).is_ok();
        }
    }
}

fn bar(text: &str, count: &ProgressCount) -> ProgressBar {
    let (total, template) = match count {
        ProgressCount::Time => (None, "{spinner} {msg} {elapsed}".to_owned()),
        ProgressCount::Of(unit) => {
            (None, format!("{{spinner}} {{msg}} {{human_pos}} {unit}, {{elapsed}}"))
        }
        ProgressCount::UpTo(total, unit) => (
            Some(*total),
            format!("{{msg}} [{{bar:30}}] {{human_pos}} of {{human_len}} {unit}, {{elapsed}}"),
        ),
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(&template);
    let style = style.unwrap_or_else(|_invalid| ProgressStyle::default_spinner());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(text.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for count in
            [ProgressCount::Time, ProgressCount::Of("rows"), ProgressCount::UpTo(9, "rows")]
        {
            let bar = bar("Working", &count);
            assert_eq!(bar.message(), "Working", "{count:?}");
            assert_eq!(
                bar.length(),
                if matches!(count, ProgressCount::UpTo(..)) { Some(9) } else { None }
            );
        }
    }

    #[test]
    fn without_a_terminal_no_thread_draws() {
        // The standard error of a test is captured or not; that of CI is no terminal.
        if !io::stderr().is_terminal() {
            let progress = Progress::start("x", &ProgressCount::Time, ProgressCounter::default());
            assert!(progress.0.is_none());
        }
    }
}
