//! The program at a terminal that takes nothing: it goes on, and ends in time.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long anything here may take at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// The bounds of the log, of the summary and of the line that says that it was not taken, on a busy
/// machine.
const STOPPED_IN_TIME: Duration = Duration::from_secs(10);

/// `O_NOCTTY` of Linux: a terminal of the test must not become that of the test.
const NO_CONTROL: i32 = 0o400;

/// A terminal: the side of the person, and that of the program.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
    let program =
        OpenOptions::new().read(true).write(true).custom_flags(NO_CONTROL).open(name).unwrap();
    (File::from(person), program)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts these words at a terminal.
fn start(words: &[&str], directory: &std::path::Path, terminal: &File) -> Running {
    let side = || Stdio::from(terminal.try_clone().unwrap());
    let (program, words) = words.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(words).current_dir(directory).env_clear().env("NO_COLOR", "1");
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    Running(command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap())
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Reads lines until one has this text, and returns it.
fn line_with(text: &str, lines: &mut BufReader<File>) -> String {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended without saying {text:?}");
        if line.contains(text) {
            return line;
        }
    }
}

#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What the system says that a process does: `S` it sleeps, `T` it was stopped, `Z` it has ended.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('Z')
}

#[test]
fn a_terminal_that_was_paused_with_ctrl_s_holds_up_no_end() {
    let (person, program) = terminal();
    let directory = tempfile::tempdir().unwrap();
    let words = [env!("CARGO_BIN_EXE_sniper"), "demo", "--rate", "500", "--for", "1h"];
    let mut running = start(&words, directory.path(), &program);
    let mut lines = BufReader::new(person.try_clone().unwrap());
    line_with(" Mode: LIVE on a market on this machine", &mut lines);
    (&person).write_all(b"\x13").unwrap();
    signal("-INT", running.0.id());
    let signalled = Instant::now();
    until(|| running.0.try_wait().unwrap().is_some());
    assert!(signalled.elapsed() < STOPPED_IN_TIME, "{:?}", signalled.elapsed());
    assert_eq!(running.0.wait().unwrap().code(), Some(74));
}

/// A process that the terminal has stopped answers no signal, and no order is settled in it.
#[test]
fn in_the_background_of_a_terminal_with_tostop_it_is_not_stopped() {
    let (person, program) = terminal();
    let directory = tempfile::tempdir().unwrap();
    // The shell stays: where it ends, the system wakes what was stopped.
    let script = r#"stty tostop; set -m; "$0" demo --rate 500 --for 1h & echo "pid=$!"
        while :; do wait; sleep 0.1; done"#;
    let words = ["setsid", "--ctty", "sh", "-c", script, env!("CARGO_BIN_EXE_sniper")];
    let _shell = start(&words, directory.path(), &program);
    let mut lines = BufReader::new(person);
    let line = line_with("pid=", &mut lines);
    let pid: u32 = line.trim().strip_prefix("pid=").unwrap().parse().unwrap();
    // It counts signals, and has had something to say for a while.
    until(|| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name == "signals\n"))
    });
    thread::sleep(Duration::from_millis(500));
    assert!(matches!(state(pid), 'S' | 'R'), "{}", state(pid));
    signal("-TERM", pid);
    let signalled = Instant::now();
    until(|| state(pid) == 'Z');
    assert!(signalled.elapsed() < STOPPED_IN_TIME, "{:?}", signalled.elapsed());
}
