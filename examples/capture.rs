//! Records any feed to disk with the library call behind `sniper capture`.
//!
//! `cargo run --example capture -- recordings wss://stream.binance.com:9443/ws/btcusdt@bookTicker`
//! records for ten seconds and then reads the recording.

use std::{env, error::Error, io::Write as _, time::Duration};

use sniper::{
    commands::capture::{self, CapturePlan, source::CaptureSource},
    recording::{RealDisk, Recording},
    text::Escaped,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let directory = args.next().unwrap_or_else(|| "recordings".to_owned());
    let address = args.next().unwrap_or_else(|| "ws://127.0.0.1:8099/ws".to_owned());
    let plan = CapturePlan::new(vec![CaptureSource::from_url(&address, &[])?], directory);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        "ten seconds elapsed".to_owned()
    };
    let outcome = capture::record(plan, RealDisk, stop).await?;
    let mut out = std::io::stdout().lock();
    write!(out, "{outcome}")?;
    for frame in Recording::open(outcome.directory)?.messages().take(10) {
        let frame = frame?;
        writeln!(out, "{} {}", frame.ns, Escaped(&frame.raw))?;
    }
    Ok(())
}
