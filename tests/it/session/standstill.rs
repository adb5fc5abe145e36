//! The program stands still (SIGSTOP) for longer than its deadlines while answers arrive, and reads
//! them before it calls anything late.

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
    PLENTY, agree_on,
    program::{Program, ready},
    quiet, redline, until,
};

fn kill(signal: &str, pid: u32) {
    let done = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(done.success(), "kill {signal}");
}

/// Stops a process, and waits until the system has stopped it.
async fn stop(pid: u32) {
    kill("-STOP", pid);
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    until(is_stopped).await;
}

/// The answer takes 2 s and may take 10 s; the process stands still for 12 s in between, and the
/// feed goes on all the while.
#[tokio::test]
async fn an_answer_that_came_during_a_standstill_settles_its_order() {
    let faults = vec![Fault::always(FaultKind::Slow)];
    let settings = SimSettings { rate: Rate::per_second(40), wanted_permille: 0, ..quiet() };
    let market = SimServer::start(SimSettings { faults, ..settings }).unwrap();
    let mut program = Program::start(&market, PLENTY, &["run", "--live", "--json"]);
    ready(&program, &market).await;
    until(|| {
        if market.books().requests().count() == 0 {
            market.offer(vec![redline(1_015)]);
        }
        market.books().requests().count() > 0
    })
    .await;
    stop(program.pid()).await;
    assert!(!program.err().contains("BOUGHT"), "it was answered before the standstill");
    tokio::time::sleep(Duration::from_secs(12)).await;
    program.signal("-CONT");
    until(|| program.err().contains("BOUGHT")).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let (summary, said) = (program.summary(), program.err());
    agree_on(&summary, &market);
    assert_eq!((&summary["unknown"], &summary["reconnects"]), (&0.into(), &0.into()), "{said}");
    assert!(!said.contains("UNKNOWN") && !said.contains("Connection error"), "{said}");
}

/// A program that runs, and is ended if a test forgets to.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Reads frames of the client until one of this kind comes, and returns its first byte; any other
/// that ends the connection ends the wait.
async fn next_frame(stream: &mut TcpStream) -> u8 {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let length = usize::from(head[1] & 0x7f);
    let mut masked = vec![0; 4 + length];
    stream.read_exact(&mut masked).await.unwrap();
    head[0]
}

/// The feed asks whether the server lives, and stands still for longer than the answer may take.
#[tokio::test]
async fn a_pong_that_came_during_a_standstill_keeps_the_feed() {
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
    // A pong, and a text of two characters.
    stream.write_all(&[0x8a, 0, 0x81, 2, b'4', b'2']).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    kill("-CONT", program.0.id());
    assert_eq!(next_frame(&mut stream).await, PING, "it asks again over the same connection");
}
