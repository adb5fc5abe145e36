//! Recordings of scripted servers, over real sockets and onto a real disk.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;
mod market;
mod nothing;
mod prices;
mod recording;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use sniper::{
    commands::capture::{
        self, CaptureOutcome, CapturePlan, MarketSource,
        source::{CaptureSource, SourceUrls},
    },
    config::{Config, Market},
    markets::csgoroll::Csgoroll,
    recording::{MANIFEST_FILE, RealDisk, RecordedMessage, Recording},
    ws::policy::{ReconnectPolicy, ReconnectionLimits, Thousandths},
};
use tempfile::TempDir;

use self::server::{DEADLINE, Peer, Server};

/// Short delays without jitter.
fn quick() -> ReconnectionLimits {
    ReconnectionLimits {
        initial_delay: Duration::from_millis(250),
        jitter: Thousandths(0),
        connect_timeout: Duration::from_secs(5),
        ..ReconnectionLimits::DEFAULT
    }
}

/// Returns the market of these settings.
fn market_source(config: &Config) -> MarketSource {
    MarketSource::new(&Csgoroll::new(config), config)
}

/// Waits between two checks of a condition.
async fn poll_delay() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn own(url: &str) -> Vec<CaptureSource> {
    vec![CaptureSource::from_url(url, &[]).unwrap()]
}

fn plan(
    sources: Vec<CaptureSource>,
    limits: ReconnectionLimits,
    directory: &TempDir,
) -> CapturePlan {
    CapturePlan {
        policy: ReconnectPolicy::new(limits).unwrap(),
        ..CapturePlan::new(sources, directory.path())
    }
}

/// Captures until the condition holds for the manifest on disk.
async fn until(
    plan: CapturePlan,
    directory: &TempDir,
    is_reached: impl Fn(&Value) -> bool,
) -> CaptureOutcome {
    let directory = directory.path().to_path_buf();
    let reached = async move {
        loop {
            poll_delay().await;
            if sessions(&directory)
                .last()
                .and_then(|path| manifest(path))
                .is_some_and(|m| is_reached(&m))
            {
                return "reached".to_owned();
            }
        }
    };
    let captured = capture::record(plan, RealDisk, reached);
    tokio::time::timeout(DEADLINE, captured).await.expect("never reached").unwrap()
}

fn sessions(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut sessions: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    sessions.sort();
    sessions
}

fn manifest(session: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(session.join(MANIFEST_FILE)).ok()?).ok()
}

fn frames(session: &Path) -> Vec<RecordedMessage> {
    Recording::open(session).unwrap().messages().map(Result::unwrap).collect()
}

fn raws(session: &Path) -> Vec<String> {
    frames(session).into_iter().map(|frame| frame.raw).collect()
}
