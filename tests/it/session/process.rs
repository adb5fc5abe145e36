//! The binary at the simulated market, with its files and its captured output.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use sniper::sim::{
    SimServer,
    repricing::server::{RepricingServer, WireFormat},
};
use tempfile::TempDir;

use super::harness::{AMPLE_LIMITS, until};

/// A running program with its working directory and its captured output. It is killed on drop.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) directory: TempDir,
    output: TempDir,
}

impl Program {
    /// Starts the program with these arguments and settings in a new directory.
    pub(crate) fn start(market: &SimServer, policy: &str, args: &[&str]) -> Self {
        Self::start_with((market, policy), args, &[])
    }

    /// Like [`start`](Self::start), with further environment variables.
    pub(crate) fn start_with(
        (market, policy): (&SimServer, &str),
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("sniper.toml"), policy).unwrap();
        let dotenv = format!(
            "CSGOROLL_WS_URL={}\nCSGOROLL_HTTP_URL={}\nCSGOROLL_SESSION={}\n",
            market.ws_url(),
            market.http_url(),
            market.session()
        );
        fs::write(directory.path().join(".env"), dotenv).unwrap();
        Self::spawn(directory, args, &[&[("RUST_LOG", "info")], variables].concat())
    }

    /// Starts the program on a market with an API key, in a new directory.
    pub(crate) fn start_on<W: WireFormat>(
        name: &str,
        market: &RepricingServer<W>,
        args: &[&str],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let policy = format!("market = \"{name}\"\n{AMPLE_LIMITS}");
        fs::write(directory.path().join("sniper.toml"), policy).unwrap();
        let variables = market.environment().into_iter();
        let lines = variables.map(|(name, value)| format!("{name}={value}\n"));
        fs::write(directory.path().join(".env"), lines.collect::<String>()).unwrap();
        Self::at(directory, args, "info")
    }

    /// Starts the program in this directory.
    pub(crate) fn at(directory: TempDir, args: &[&str], log: &str) -> Self {
        Self::spawn(directory, args, &[("RUST_LOG", log)])
    }

    pub(crate) fn spawn(directory: TempDir, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let output = tempfile::tempdir().unwrap();
        let file = |name: &str| Stdio::from(File::create(output.path().join(name)).unwrap());
        // Without a terminal, and with the signals of a service: `nohup` would ignore SIGHUP. Each
        // of these programs becomes the next one.
        let detached: &[&str] = match cfg!(target_os = "linux") {
            true => &["setsid", "env", "--default-signal=HUP"],
            false => &["env"],
        };
        let (first, rest) = detached.split_first().unwrap();
        let child = Command::new(first)
            .args(rest)
            .arg(env!("CARGO_BIN_EXE_sniper"))
            .args(args)
            .current_dir(directory.path())
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(variables.iter().copied())
            // Keeps the program out of the user's home directory.
            .env("XDG_STATE_HOME", directory.path().join("state"))
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, directory, output }
    }

    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.output.path().join("out")).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        fs::read_to_string(self.output.path().join("err")).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for the exit and returns the exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        until(|| self.child.try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }

    /// Parses the last line of standard output.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        let out = self.out();
        serde_json::from_str(out.lines().last().unwrap_or_default()).expect(&out)
    }

    /// Returns all output and the content of all files except `.env`.
    pub(crate) fn all_output(&self) -> String {
        fn read(folder: &Path, seen: &mut String) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, seen);
                } else if path.is_file() && !path.ends_with(".env") {
                    seen.push_str(&path.display().to_string());
                    seen.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
                }
            }
        }
        let mut seen = String::new();
        read(self.output.path(), &mut seen);
        read(self.directory.path(), &mut seen);
        seen
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until the program is subscribed, has read the account and has opened its connections.
#[track_caller]
pub(crate) fn ready(program: &Program, market: &SimServer) -> impl Future<Output = ()> {
    until(|| {
        // Two reads (user and own purchases), and ten connections: eight for orders, one for reads
        // and one for the feed.
        let visits = market.stats();
        assert!(visits.feeds <= 1 || !program.err().is_empty());
        visits.feeds_subscribed == 1 && visits.requests >= 2 && visits.connections >= 10
    })
}
