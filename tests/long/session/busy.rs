//! Bursts of wanted listings on a busy machine with a busy disk.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::Value;
use sniper::sim::SimServer;

use super::{
    assert_json_agrees,
    harness::{AMPLE_LIMITS, quiet, redline, until},
    process::Program,
};

const BURSTS: usize = 12;
const BURST: usize = 40;

/// Threads that run until this is dropped.
struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Load {
    /// Starts two threads that compute and one that syncs a file, all without pause.
    fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let run = |mut step: Box<dyn FnMut() + Send>| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let mut steps = 0;
                while !is_over.load(Ordering::Relaxed) {
                    step();
                    steps += 1;
                }
                steps
            })
        };
        let mut file: File = tempfile::tempfile().unwrap();
        let sync = move || {
            file.rewind().unwrap();
            file.write_all(&[0; 64 * 1024]).unwrap();
            file.sync_all().unwrap();
        };
        let compute = || {
            for number in 0..10_000_u32 {
                let _same = std::hint::black_box(number);
            }
        };
        let threads = vec![run(Box::new(compute)), run(Box::new(compute)), run(Box::new(sync))];
        Self { is_over, threads }
    }

    /// Stops the threads and returns the number of steps of each.
    fn stop(mut self) -> Vec<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().unwrap()).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_listing_is_missed_beside_busy_processes_and_a_busy_disk() {
    let market = SimServer::start(quiet()).unwrap();
    let load = Load::start();
    let mut program = Program::start(&market, AMPLE_LIMITS, &["run", "--live", "--json"]);
    until(|| market.stats().feeds_subscribed == 1).await;
    let all = BURSTS * BURST;
    for burst in 1..=BURSTS {
        market.list_items((0..BURST).map(|_| redline(100)).collect());
        until(|| market.history().purchases().count() == burst * BURST).await;
    }
    until(|| program.err().matches(" BOUGHT ").count() == all).await;
    let steps = load.stop();
    assert!(steps.iter().all(|steps| 0 < *steps), "{steps:?}");
    program.signal("-TERM");
    assert_eq!(program.ended().await, Some(0), "{}", program.err());
    let summary = program.summary();
    assert_json_agrees(&summary, &market);
    let counts = ["matched", "bought", "skipped", "not_sent"].map(|key| &summary[key]);
    let expected: [Value; 4] = [all, all, 0, 0].map(Value::from);
    assert_eq!(counts, expected.each_ref(), "{summary}");
    println!("latency with the wait in the queue: {}", summary["latency_us"]);
}
