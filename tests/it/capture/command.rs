//! `sniper capture` as a process.

use std::{
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

use sniper::sim::{Rate, SimServer, SimSettings};

use super::*;

/// A running program that is killed on drop.
pub(super) struct Running(Child);

impl Running {
    /// Waits for the exit without blocking the servers of the test.
    pub(super) async fn ended(mut self) -> Output {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < DEADLINE, "it does not end");
            poll_delay().await;
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        std::io::Read::read_to_end(&mut self.0.stdout.take().unwrap(), &mut out).unwrap();
        std::io::Read::read_to_end(&mut self.0.stderr.take().unwrap(), &mut err).unwrap();
        Output { status: self.0.wait().unwrap(), stdout: out, stderr: err }
    }
}

impl Running {
    /// Interrupts the program and waits for its exit.
    async fn interrupted(self) -> Output {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.ended().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(super) fn start(directory: &TempDir, args: &[&str]) -> Running {
    start_with(directory, &[&["capture"], args].concat(), &[])
}

fn start_with(directory: &TempDir, args: &[&str], variables: &[(&str, String)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
    command
        .args(args)
        .current_dir(directory.path())
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running(command.spawn().unwrap())
}

pub(super) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(super) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn ticking() -> Server {
    Server::start(|mut peer: Peer| async move {
        for number in 0_u64.. {
            peer.send_text(&format!("{{\"n\":{number}}}")).await;
            if number % 5 == 0 {
                poll_delay().await;
            }
        }
    })
    .await
}

/// Waits until the condition holds for the manifest of the only session in `rec`. Returns the
/// directory of the session.
async fn wait_for_session(directory: &TempDir, is_reached: impl Fn(&Value) -> bool) -> PathBuf {
    let (begun, recordings) = (Instant::now(), directory.path().join("rec"));
    loop {
        assert!(begun.elapsed() < DEADLINE, "never reached");
        if recordings.is_dir()
            && let Some(session) = sessions(&recordings).pop()
            && manifest(&session).is_some_and(|manifest| is_reached(&manifest))
        {
            return session;
        }
        poll_delay().await;
    }
}

#[tokio::test]
async fn capture_needs_no_settings_and_ends_with_one_json_object() {
    let server = ticking().await;
    let directory = TempDir::new().unwrap();
    // A public source is recorded even if the settings are invalid.
    fs::write(directory.path().join("sniper.toml"), "nonsense").unwrap();
    let args = ["--out", "rec", "--for", "1s", "--json", "--url", &server.url("/ticks")];
    let output = start(&directory, &args).ended().await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let last: Value = serde_json::from_str(out(&output).lines().last().unwrap()).unwrap();
    assert_eq!(last["mode"], "capture");
    assert_eq!(last["complete"], true);
    assert_eq!((&last["lost"], &last["gaps"]), (&Value::from(0), &Value::from(0)));
    let session = sessions(&directory.path().join("rec")).pop().unwrap();
    assert_eq!(last["messages"], u64::try_from(raws(&session).len()).unwrap());
    assert!(last["messages"].as_u64() > Some(10), "{last}");
    assert!(session.join("127.0.0.1/ticks.jsonl").is_file());
    assert_eq!(manifest(&session).unwrap()["ended_because"], "--for 1s elapsed");
}

#[tokio::test]
async fn exhausted_retries_set_the_exit_code_and_the_manifest() {
    let server = Server::start(|_peer: Peer| async {}).await;
    let directory = TempDir::new().unwrap();
    let args = ["--out", "rec", "--max-retries", "0", "--url", &server.url("/x")];
    let output = start(&directory, &args).ended().await;
    assert_eq!(output.status.code(), Some(69), "{}", out(&output));
    assert!(out(&output).contains("INCOMPLETE"), "{}", out(&output));
    let session = sessions(&directory.path().join("rec")).pop().unwrap();
    assert_eq!(manifest(&session).unwrap()["complete"], false);
}

#[tokio::test]
async fn invalid_arguments_are_rejected_before_anything_is_written() {
    let directory = TempDir::new().unwrap();
    for args in [
        &["--out", "rec", "binance-prep:BTCUSDT@depth"][..],
        &["--out", "rec", "--url", "ws://example.com/x"],
        &["--out", "rec", "--url", "ws://127.0.0.1:1/", "--subscribe", "{"],
        &["--out", "rec", "csgoroll", "csgoroll"],
        &["--out", "rec", "--subscribe", "{}"],
        &["csgoroll"],
        &["--out", "rec", "--for", "soon"],
    ] {
        let output = start(&directory, args).ended().await;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert!(!directory.path().join("rec").exists(), "{args:?}");
    }
}

#[tokio::test]
async fn a_kill_leaves_files_that_are_complete_up_to_the_last_line() {
    let server = ticking().await;
    for more in [&[][..], &["--compress"]] {
        let directory = TempDir::new().unwrap();
        let url = server.url("/ticks");
        let args = [&["--out", "rec", "--url", &url][..], more].concat();
        let mut running = start(&directory, &args);
        let session = wait_for_session(&directory, |manifest| {
            manifest["sources"][0]["messages"].as_u64() > Some(100)
        })
        .await;
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        let written = manifest(&session).unwrap();
        assert_eq!((&written["running"], &written["complete"]), (&true.into(), &false.into()));
        let raws = raws(&session);
        let counted = written["sources"][0]["messages"].as_u64().unwrap();
        assert!(u64::try_from(raws.len()).unwrap() >= counted, "{} {counted}", raws.len());
        for (number, raw) in raws.iter().enumerate() {
            assert_eq!(raw, &format!("{{\"n\":{number}}}"));
        }
    }
}

#[tokio::test]
async fn ctrl_c_ends_a_capture_that_is_complete() {
    let server = ticking().await;
    let directory = TempDir::new().unwrap();
    let running = start(&directory, &["--out", "rec", "--url", &server.url("/ticks")]);
    let session = wait_for_session(&directory, |manifest| {
        manifest["sources"][0]["messages"].as_u64() > Some(0)
    })
    .await;
    let output = running.interrupted().await;
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let written = manifest(&session).unwrap();
    assert_eq!((&written["complete"], &written["ended_because"]), (&true.into(), &"Ctrl-C".into()));
}

/// Binance closes so if a pong was late.
#[tokio::test]
async fn a_close_1008_after_a_good_session_is_an_ordinary_reconnect() {
    let server = Server::start(|mut peer: Peer| async move {
        let messages = if peer.number == 1 { 20 } else { 1 };
        for _ in 0..messages {
            peer.send_text("{}").await;
        }
        match peer.number {
            1 => peer.close(1008, "Pong timeout").await,
            _ => peer.wait_for_disconnect().await,
        }
    })
    .await;
    let directory = TempDir::new().unwrap();
    let running = start(&directory, &["--out", "rec", "--json", "--url", &server.url("/x")]);
    let session =
        wait_for_session(&directory, |manifest| manifest["sources"][0]["messages"] == 21).await;
    let log = err(&running.interrupted().await);
    assert!(log.contains("closed by the server (1008, Pong timeout)"), "{log}");
    assert!(!log.contains("next attempt in") && !log.contains("ERROR"), "{log}");
    let gaps = manifest(&session).unwrap()["connection_gaps"].clone();
    assert_eq!(gaps.as_array().unwrap().len(), 1, "{gaps}");
    assert!(gaps[0]["duration_ms"].as_u64() < Some(5_000), "{gaps}");
}

#[tokio::test]
async fn a_bot_records_its_feed_without_the_credential() {
    let settings = SimSettings { rate: Rate::per_second(50), ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let directory = TempDir::new().unwrap();
    let variables = [
        ("CSGOROLL_WS_URL", market.ws_url()),
        ("CSGOROLL_HTTP_URL", market.http_url()),
        ("CSGOROLL_SESSION", market.session()),
    ];
    let args = ["run", "--record", "--for", "2s", "--json"];
    let output = start_with(&directory, &args, &variables).ended().await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let session = sessions(&directory.path().join("data/recordings")).pop().unwrap();
    let written = manifest(&session).unwrap();
    assert_eq!(written["complete"], true, "{written}");
    assert!(raws(&session).len() > 10, "{written}");
    let recorded =
        fs::read_to_string(session.join("CSGOROLL/listings.jsonl")).unwrap() + &written.to_string();
    assert!(!recorded.contains(&market.session()));
}
