//! Runs the shell blocks of `README.md`, word for word, in their order, in one directory that has
//! the files of a fresh clone which they use.
//!
//! The blocks run in `sh -e`, with a `cargo` in the path that has one rule: `cargo run --release --
//! X` becomes `sniper X`, with the binary of this test, because building is the business of Cargo.
//! `cargo test` succeeds at once there: it is what runs this test.
//!
//! A simulated market stands in for the real one, and a server on loopback for ntfy, because no
//! test may reach them: before each program, the host of the topic in `.env` is replaced by that of
//! the server. A command that runs until it is stopped gets a Ctrl-C once it has printed the text
//! below, as a user would do it. `.ci/run` takes about 35 minutes on two quiet cores and runs this
//! test, so only its syntax is checked.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use sniper::sim::{SimServer, SimSettings};
use tempfile::TempDir;

use crate::{
    alerts::receiver::{OK, Receiver},
    tidy::top,
};

/// Maximum time until a command has printed its text.
const DEADLINE: Duration = Duration::from_secs(60);

/// Way of running a block.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// It ends by itself.
    Ends,
    /// Its first command gets a Ctrl-C after it has printed this.
    StopAfter(&'static str),
    /// The same, but the next block runs before the Ctrl-C.
    During(&'static str),
    /// Only its syntax is checked.
    Syntax(&'static str),
}

/// All shell blocks, each by its whole text.
const BLOCKS: [(&str, Plan); 10] = [
    ("cargo run --release -- demo --for 20s\n", Plan::StopAfter("Signed in")),
    (
        "cargo run --release -- demo        # no account, no .env: a simulated market on this machine\n\
         cargo test                         # under a minute after building; needs nothing else installed\n",
        Plan::StopAfter("Connected"),
    ),
    ("cp .env.example .env\nchmod 600 .env\ncp sniper.example.toml sniper.toml\n", Plan::Ends),
    ("cargo run --release -- check\n", Plan::Ends),
    ("cargo run --release -- run --practice\n", Plan::StopAfter("BOUGHT")),
    (
        "echo \"NTFY_URL=https://ntfy.sh/sniper-$(od -An -N12 -tx1 /dev/urandom | tr -d ' ')\" >> .env\n\
         printf '\\n[[alerts]]\\nkind = \"ntfy\"\\nurl_env = \"NTFY_URL\"\\n' >> sniper.toml\n\
         grep NTFY_URL .env\n\
         cargo run --release -- alert test\n",
        Plan::Ends,
    ),
    ("cargo run --release -- run --dashboard\n", Plan::During("Connected")),
    ("cargo run --release -- dashboard\n", Plan::Ends),
    ("cargo run --release -- run --live\n", Plan::StopAfter("Signed in")),
    ("bash .ci/run\n", Plan::Syntax(".ci/run")),
];

/// The `cargo` of the blocks. It leaves its process id, which is that of the program. The program
/// reads the address of the topic from the line that the block has added to `.env`.
const CARGO: &str = r#"#!/bin/sh
echo "$$" > "$PID_FILE"
case "$*" in
    test) exit 0 ;;
    "run --release -- "*)
        shift 3
        [ ! -f .env ] || sed -i "s|https://ntfy.sh/|$RECEIVER|" .env
        exec "$SNIPER" "$@" ;;
    *) echo "cargo $*: the test has no rule for it" >&2; exit 99 ;;
esac
"#;

/// Returns the text of each shell block, without the indentation of a list, and the command of each
/// block that shows its output.
fn shell_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, bool)> = None;
    for line in text.lines() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            if let Some((indent, block, _is_shell)) = &mut open {
                block.push_str(line.get(*indent..).unwrap_or_default());
                block.push('\n');
            }
            continue;
        };
        match open.take() {
            Some((_, block, true)) => blocks.push(block),
            Some((_, block, false)) => {
                let command = block.lines().next().and_then(|line| line.strip_prefix("$ "));
                blocks.extend(command.map(|command| format!("{command}\n")));
            }
            None => {
                let is_shell = matches!(language.trim(), "sh" | "bash" | "shell" | "console");
                open = Some((line.len() - line.trim_start().len(), String::new(), is_shell));
            }
        }
    }
    blocks
}

/// The directory in which the blocks run.
struct Clone {
    directory: TempDir,
    market: SimServer,
    /// Address of the server in place of ntfy.
    receiver: String,
}

/// A block that runs.
struct RunningBlock {
    block: &'static str,
    child: Child,
    out: BufReader<ChildStdout>,
    seen: String,
}

impl RunningBlock {
    #[track_caller]
    fn read_until(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.seen.contains(text) {
            let read = self.out.read_line(&mut self.seen).unwrap();
            let is_in_time = 0 < read && Instant::now() < end;
            assert!(is_in_time, "{} did not print {text}: {}", self.block, self.seen);
        }
    }

    /// Waits for the end, and returns what it printed.
    #[track_caller]
    fn ended(mut self) -> String {
        self.out.read_to_string(&mut self.seen).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{} ended with {status}: {}", self.block, self.seen);
        self.seen
    }
}

impl Clone {
    fn new(receiver: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in [".env.example", "sniper.example.toml"] {
            fs::copy(top().join(name), directory.path().join(name)).unwrap();
        }
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let cargo = bin.join("cargo");
        fs::write(&cargo, CARGO).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        let market = SimServer::start(SimSettings::default()).unwrap();
        Self { directory, market, receiver }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, block: &'static str) -> RunningBlock {
        let mut child = Command::new("sh")
            .args(["-e", "-c", block])
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("bin").display()))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("SNIPER", env!("CARGO_BIN_EXE_sniper"))
            .env("PID_FILE", self.path("pid"))
            .env("RECEIVER", &self.receiver)
            .envs(self.market.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        RunningBlock { block, child, out, seen: String::new() }
    }

    /// Returns the process id of the last program.
    fn pid(&self) -> String {
        fs::read_to_string(self.path("pid")).unwrap().trim().to_owned()
    }
}

fn interrupt(pid: &str) {
    assert!(Command::new("kill").args(["-INT", pid]).status().unwrap().success());
}

fn check_syntax(script: &Path) {
    let checked = Command::new("bash").arg("-n").arg(script).status().unwrap();
    assert!(checked.success(), "{}", script.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_shell_block_of_the_readme_runs_word_for_word() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let blocks = shell_blocks(&readme);
    let known: Vec<&str> = BLOCKS.iter().map(|(block, _)| *block).collect();
    assert_eq!(blocks, known, "a block was added or changed: say here how it is run");
    let ntfy = Receiver::start(&[OK]).await;
    let clone = Clone::new(ntfy.url("/"));
    let mut before: Option<(RunningBlock, String)> = None;
    for (block, plan) in BLOCKS {
        if let Plan::Syntax(script) = plan {
            check_syntax(&top().join(script));
            continue;
        }
        let mut running = clone.start(block);
        if let Plan::StopAfter(text) | Plan::During(text) = plan {
            running.read_until(text);
            let pid = clone.pid();
            if matches!(plan, Plan::During(_)) {
                before = Some((running, pid));
                continue;
            }
            interrupt(&pid);
        }
        let seen = running.ended();
        if let Some((running, pid)) = before.take() {
            assert!(seen.starts_with("http://127.0.0.1:") && seen.contains("/#code="), "{seen}");
            interrupt(&pid);
            running.ended();
        }
        if block.starts_with("cp ") {
            // The default port may be in use on the machine of the test.
            let settings = fs::read_to_string(clone.path("sniper.toml")).unwrap();
            let settings = format!("{settings}\n[dashboard]\nlisten = \"127.0.0.1:0\"\n");
            fs::write(clone.path("sniper.toml"), settings).unwrap();
        }
    }
    let received = ntfy.received();
    let topic = received[0].json()["topic"].as_str().unwrap().to_owned();
    let random = topic.strip_prefix("sniper-").unwrap();
    assert!(random.len() == 24 && random.bytes().all(|it| it.is_ascii_hexdigit()), "{topic}");
    let mode = fs::metadata(clone.path(".env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(0 < clone.market.stats().feeds, "the simulated market was not used");
}

#[test]
fn only_shell_blocks_are_found_without_their_indentation() {
    let text = "```sh\na  # b\n```\n```text\n$ no\n```\n   ```console\n   c\n     d\n   ```\n";
    assert_eq!(shell_blocks(text), ["a  # b\n", "no\n", "c\n  d\n"]);
}
