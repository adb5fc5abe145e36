//! Instruction counts from valgrind's callgrind, which do not depend on the load of the machine.
//!
//! The program runs itself twice under callgrind with different amounts of work. The difference
//! excludes startup and the construction of the whitelist.

use std::{env, hint::black_box, process::Command};

use sniper::config::Generation;

use super::{frames::frame, subject::Subject};

/// Frames of the shorter run; the longer one has three times as many.
const FRAMES: u64 = 2_000;
/// Number of different frames.
const DISTINCT: u64 = 64;

/// Runs the measured work, in the process started with `--work GENERATION BYTES ENTRIES FRAMES`.
pub(crate) fn work(generation: Generation, bytes: usize, entries: usize, frames: usize) {
    let distinct: Vec<_> = (0..DISTINCT).map(|number| frame(generation, number, bytes)).collect();
    let mut subject = Subject::new(entries);
    for text in distinct.iter().cycle().take(frames) {
        black_box(subject.read_and_decide(black_box(text)));
    }
}

/// Returns the instructions per frame, in tenths, or `None` if callgrind cannot be run.
pub(crate) fn tenths(generation: Generation, bytes: usize, entries: usize) -> Option<u64> {
    let count = |frames| instructions(generation, bytes, entries, frames);
    let (short, long) = (count(FRAMES)?, count(FRAMES * 3)?);
    Some(long.saturating_sub(short) * 10 / (FRAMES * 2))
}

/// Returns the instructions of a process that does the work for this many frames.
fn instructions(generation: Generation, bytes: usize, entries: usize, frames: u64) -> Option<u64> {
    let name = match generation {
        Generation::A => "A",
        Generation::B => "B",
    };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args(["--work", name, &bytes.to_string(), &entries.to_string(), &frames.to_string()])
        .output()
        .ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = stderr.rsplit_once("Collected :")?;
    collected.split_whitespace().next()?.parse().ok()
}
