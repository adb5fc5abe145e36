//! The program is suspended (SIGSTOP) for longer than its deadlines while answers arrive. It must
//! read them before it reports a timeout.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sniper::sim::{Fault, Rate, SimServer, SimSettings, faults::FaultKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    assert_json_agrees,
    harness::{AMPLE_LIMITS, quiet, redline, until},
    process::{Program, ready},
};

fn kill(signal: &str, pid: u32) {
    let done = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(done.success(), "kill {signal}");
}

/// Suspends a process and waits until it is stopped.
async fn stop(pid: u32) {
    kill("-STOP", pid);
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    until(is_stopped).await;
}

/// The answer takes 2 s and its deadline is 10 s, but the process is suspended for 12 s meanwhile.
/// The feed keeps sending listings.
#[tokio::test]
async fn a_response_received_while_suspended_settles_its_order() {
    let faults = vec![Fault::always(FaultKind::Slow)];
    let settings = SimSettings { rate: Rate::per_second(40), wanted_permille: 0, ..quiet() };
    let market = SimServer::start(SimSettings { faults, ..settings }).unwrap();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live", "--json"]);
    ready(&program, &market).await;
    until(|| {
        if market.history().orders().count() == 0 {
            market.list_items(vec![redline(1_015)]);
        }
        market.history().orders().count() > 0
    })
    .await;
    stop(program.child.id()).await;
    assert!(!program.err().contains("BOUGHT"), "the answer came before the process was suspended");
    tokio::time::sleep(Duration::from_secs(12)).await;
    program.signal("-CONT");
    until(|| program.err().contains("BOUGHT")).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let (summary, text) = (program.summary(), program.err());
    assert_json_agrees(&summary, &market);
    assert_eq!((&summary["unknown"], &summary["reconnects"]), (&0.into(), &0.into()), "{text}");
    assert!(
        !text.contains("UNKNOWN")
            && !text.contains("Feed lost")
            && !text.contains("Could not connect"),
        "{text}"
    );
}

/// A running program that is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Reads one frame of the client and returns its first byte.
async fn next_frame(stream: &mut TcpStream) -> u8 {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let length = usize::from(head[1] & 0x7f);
    let mut masked = vec![0; 4 + length];
    stream.read_exact(&mut masked).await.unwrap();
    head[0]
}

/// After a ping, the process is suspended for longer than the pong timeout.
#[tokio::test]
async fn a_pong_received_while_suspended_keeps_the_connection() {
    const PING: u8 = 0x89;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_sniper"))
        .args(["capture", "--out", "rec", "--url", &url])
        .current_dir(directory.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let program = Running(child);
    let (stream, _from) = listener.accept().await.unwrap();
    let mut stream = tokio_tungstenite::accept_async(stream).await.unwrap().into_inner();
    assert_eq!(next_frame(&mut stream).await, PING);
    stop(program.0.id()).await;
    // A pong, and a text message of two characters.
    stream.write_all(&[0x8a, 0, 0x81, 2, b'4', b'2']).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    kill("-CONT", program.0.id());
    assert_eq!(next_frame(&mut stream).await, PING, "the next ping uses the same connection");
}
