//! Instruction counts from valgrind's callgrind, which do not depend on the load of the machine.
//!
//! The program runs itself twice under callgrind with different amounts of work. The difference
//! excludes startup and the construction of the whitelist.

use std::{env, hint::black_box, process::Command};

use sniper::config::Generation;

use super::{frames::frame, subject::Subject};

/// Frames of the shorter run; the longer one has three times as many.
const PIECES: u64 = 2_000;
/// Number of different frames.
const FRAMES: u64 = 64;

/// Runs the measured work, in the process started with `--work GENERATION BYTES ENTRIES PIECES`.
pub(crate) fn work(generation: Generation, bytes: usize, entries: usize, pieces: u64) {
    let frames: Vec<String> = (0..FRAMES).map(|number| frame(generation, number, bytes)).collect();
    let mut subject = Subject::new(entries);
    let pieces = usize::try_from(pieces).unwrap_or(usize::MAX);
    for text in frames.iter().cycle().take(pieces) {
        black_box(subject.read_and_decide(black_box(text)));
    }
}

/// Returns the instructions per frame, in tenths, or `None` if callgrind cannot be run.
pub(crate) fn tenths(generation: Generation, bytes: usize, entries: usize) -> Option<u64> {
    let count = |pieces| run(generation, bytes, entries, pieces);
    let (short, long) = (count(PIECES)?, count(PIECES * 3)?);
    Some(long.saturating_sub(short) * 10 / (PIECES * 2))
}

fn run(generation: Generation, bytes: usize, entries: usize, pieces: u64) -> Option<u64> {
    let name = match generation {
        Generation::A => "A",
        Generation::B => "B",
    };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args(["--work", name, &bytes.to_string(), &entries.to_string(), &pieces.to_string()])
        .output()
        .ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, collected) = stderr.rsplit_once("Collected :")?;
    collected.split_whitespace().next()?.parse().ok()
}
