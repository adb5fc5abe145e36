//! Feeds recorded to disk: `sniper capture`, and the same as a call.
//!
//! Each source is [listened to](crate::ws::recording_loop) over a connection of its own, under the policy
//! of the feed; what it says goes to a [`ActiveRecording`]. Nothing here buys, and nothing
//! public needs a setting or a credential.
//!
//! - [`source`]: what can be captured.
//! - [`cli`]: the words of the command.

pub mod cli;
mod no_data;
mod outcome;
pub mod source;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval_at};
use tracing::{error, info, warn};

use self::{
    no_data::CaptureMonitor,
    outcome::CaptureProgress,
    source::{CaptureSource, SourceError, SourceProtocol},
};
pub use self::{
    no_data::NoDataReason,
    outcome::{CaptureEndReason, CaptureOutcome},
};
use crate::{
    config::{Config, USER_AGENT},
    markets::csgoroll::operations,
    net::tls::Tls,
    recording::{self, ActiveRecording, Disk, QUEUE_BYTES_MAX, RecordingError},
    secret,
    ws::{
        RecordedFeed, RetriesExhausted, SettingNames,
        host_cooldown::Hosts,
        listen,
        policy::{PolicyError, ReconnectPolicy},
        protocol::{GraphqlTransportWs, PlainJson, Subscription},
    },
};

/// How often a line says how it goes.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// After this long a source of which nothing was recorded is warned of.
pub const NOTHING_WARNED_AFTER: Duration = Duration::from_secs(5);

/// What to capture, and how.
#[derive(Clone, Debug)]
pub struct CapturePlan {
    /// The sources.
    pub sources: Vec<CaptureSource>,
    /// Where sessions are kept.
    pub directory: PathBuf,
    /// A new file for each stream after this long.
    pub rotate: Option<Duration>,
    /// Compress with zstd.
    pub compress: bool,
    /// When to dial again, and when to give up.
    pub policy: ReconnectPolicy,
    /// How the marketplace is reached, where it is among the sources.
    pub marketplace: Option<Config>,
    /// How TLS is spoken; `None`: with Mozilla's roots.
    pub tls: Option<Tls>,
}

impl CapturePlan {
    /// Captures these under the usual policy, into plain files.
    pub fn new(sources: Vec<CaptureSource>, directory: impl Into<PathBuf>) -> Self {
        Self {
            sources,
            directory: directory.into(),
            rotate: None,
            compress: false,
            policy: ReconnectPolicy::default(),
            marketplace: None,
            tls: None,
        }
    }
}

/// Why a capture cannot begin, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A source is none.
    #[error("what to capture makes no sense")]
    Source(#[from] SourceError),
    /// A duration cannot be what it was set to.
    #[error("the policy makes no sense")]
    Policy(#[from] PolicyError),
    /// The recording cannot begin.
    #[error("the recording cannot begin")]
    Tape(#[from] RecordingError),
    /// The marketplace is among the sources, and nobody said how it is reached.
    #[error("the settings of the marketplace are missing")]
    NoMarketplace,
}

impl CaptureError {
    /// The exit code, after `sysexits.h`.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Source(_) | Self::Policy(_) => 2,
            Self::Tape(_) => 73,
            Self::NoMarketplace => 78,
        }
    }
}

/// Captures until `stop` is ready, with the words for why; or until nothing is left to hear, or the
/// disk fails.
///
/// # Errors
///
/// A [`CaptureError`] when it cannot begin. What went wrong later is in the [`CaptureOutcome`].
///
/// # Cancel safety
///
/// Safe: dropped, the session ends as one that was not ended.
pub async fn run(
    plan: CapturePlan,
    disk: impl Disk,
    stop: impl Future<Output = String>,
) -> Result<CaptureOutcome, CaptureError> {
    let begun = Instant::now();
    let tape = ActiveRecording::start(setup(&plan)?, disk)?;
    let hosts = Hosts::default();
    let indexes = 0..plan.sources.len();
    let monitors: Vec<CaptureMonitor> =
        indexes.map(|at| CaptureMonitor::new(tape.recorder(at))).collect();
    let mut listening: FuturesUnordered<_> = plan
        .sources
        .iter()
        .zip(&monitors)
        .map(|(source, monitor)| hear(&plan, source, &hosts, monitor))
        .collect();
    let mut tick = interval_at(later(PROGRESS_EVERY), PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = CaptureProgress::new(begun);
    let mut gave_up: Vec<(String, RetriesExhausted)> = Vec::new();
    tokio::pin!(stop);
    let ending = loop {
        tokio::select! {
            biased;
            error = tape.failed() => break CaptureEndReason::Disk(error),
            because = &mut stop => break CaptureEndReason::Stopped(because),
            Some((name, given_up)) = listening.next() => {
                gave_up.push((name, given_up));
                if listening.is_empty() {
                    break CaptureEndReason::NothingLeft;
                }
            }
            _ = tick.tick() => {
                info!("{}", progress.line(&tape.status(), Instant::now()));
                if begun.elapsed() >= NOTHING_WARNED_AFTER {
                    warn_of_silence(&plan.sources, &monitors, begun.elapsed());
                }
            }
        }
    };
    drop(listening);
    let empty =
        plan.sources.iter().zip(&monitors).filter_map(|(source, monitor)| {
            monitor.absence().map(|absence| (source.clone(), absence))
        });
    let ended = CaptureEnd { ending, gave_up, empty: empty.collect(), sources: plan.sources.len() };
    Ok(finish(tape, ended, begun))
}

/// Warns of each source of which nothing was recorded, once for each cause.
fn warn_of_silence(sources: &[CaptureSource], monitors: &[CaptureMonitor], after: Duration) {
    for (source, monitor) in sources.iter().zip(monitors) {
        if let Some(absence) = monitor.news() {
            let (name, seconds, advice) = (&source.name, after.as_secs(), source.advice(&absence));
            warn!("Nothing recorded in {seconds}s: {name}, {absence}. {advice}");
        }
    }
}

/// How a capture ended, before its recording is.
struct CaptureEnd {
    ending: CaptureEndReason,
    gave_up: Vec<(String, RetriesExhausted)>,
    /// The sources of which nothing was recorded.
    empty: Vec<(CaptureSource, NoDataReason)>,
    /// How many sources there were.
    sources: usize,
}

/// Ends the recording, and says what came of it.
fn finish(tape: ActiveRecording, ended: CaptureEnd, begun: Instant) -> CaptureOutcome {
    let CaptureEnd { ending, gave_up, empty, sources } = ended;
    let is_empty = empty.len() == sources;
    for (source, absence) in &empty {
        let (name, advice) = (&source.name, source.advice(absence));
        if is_empty {
            error!("Nothing was recorded: {name}, {absence}. {advice}");
        } else {
            warn!("Nothing was recorded: {name}, {absence}. {advice}");
        }
    }
    let directory = tape.directory().to_path_buf();
    let observer = tape.observer();
    let given_up = gave_up.iter().map(|(name, given_up)| format!("{name}: {given_up}"));
    let nothing = is_empty.then(|| "nothing was recorded".to_owned());
    let because: Vec<String> =
        std::iter::once(ending.to_string()).chain(given_up).chain(nothing).collect();
    // A recording of nothing is not what was asked for.
    let as_asked =
        gave_up.is_empty() && matches!(ending, CaptureEndReason::Stopped(_)) && !is_empty;
    let finished = tape.finish(recording::RecordingEnd { because: because.join("; "), as_asked });
    let (is_complete, ending) = match finished {
        Ok(is_complete) => (is_complete, ending),
        Err(error) => (false, CaptureEndReason::Disk(error)),
    };
    if let CaptureEndReason::Disk(error) = &ending {
        error!("The capture is incomplete: {error}");
    }
    let status = observer.status();
    let empty = empty.into_iter().map(|(source, absence)| (source.name, absence)).collect();
    let lasted = begun.elapsed();
    CaptureOutcome { directory, status, lasted, is_complete, is_empty, ending, gave_up, empty }
}

fn setup(plan: &CapturePlan) -> Result<recording::RecordingConfig, CaptureError> {
    let mut sources = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        let address = match (&source.speaks, &plan.marketplace) {
            (SourceProtocol::Plain { endpoint, .. }, _) => {
                secret::remember_query(endpoint.path());
                endpoint.to_string()
            }
            (SourceProtocol::Marketplace, Some(config)) => config.endpoints.ws.to_string(),
            (SourceProtocol::Marketplace, None) => return Err(CaptureError::NoMarketplace),
        };
        sources.push(recording::StreamSource {
            name: source.name.clone(),
            address,
            symbol: source.symbol.clone(),
            stream: source.stream.clone(),
        });
    }
    Ok(recording::RecordingConfig {
        directory: plan.directory.clone(),
        sources,
        rotate: plan.rotate,
        compress: plan.compress,
        queue_bytes_max: QUEUE_BYTES_MAX,
    })
}

/// Listens to one source for as long as its policy allows.
async fn hear(
    plan: &CapturePlan,
    source: &CaptureSource,
    hosts: &Hosts,
    monitor: &CaptureMonitor,
) -> (String, RetriesExhausted) {
    let tag = match plan.sources.len() {
        0 | 1 => String::new(),
        _ => format!(" [{}]", source.name),
    };
    let gave_up = match (&source.speaks, &plan.marketplace) {
        (SourceProtocol::Plain { endpoint, subscribe }, _) => {
            let topics = subscribe
                .iter()
                .map(|message| Subscription { topic: message.clone(), is_optional: false });
            let station = RecordedFeed {
                endpoint: endpoint.clone(),
                dialect: PlainJson::VERBATIM,
                topics: topics.collect(),
                origin: None,
                user_agent: Some(USER_AGENT.to_owned()),
                credential: None,
                credential_source: None,
                policy: plan.policy,
                tls: plan.tls.clone(),
                tag,
                origins: SettingNames { address: source.setting, has_cookie: false },
            };
            listen(&station, hosts, monitor).await
        }
        (SourceProtocol::Marketplace, Some(config)) => {
            let station = marketplace(plan, config, tag);
            listen(&station, hosts, monitor).await
        }
        (SourceProtocol::Marketplace, None) => RetriesExhausted { attempts: 0, last: None },
    };
    (source.name.clone(), gave_up)
}

/// The marketplace's listings, without the wallet: a balance is nobody's business.
fn marketplace(
    plan: &CapturePlan,
    config: &Config,
    tag: String,
) -> RecordedFeed<GraphqlTransportWs> {
    let operations = operations::subscriptions(config.feed.generation);
    let public = operations.into_iter().filter(|operation| !operation.is_private);
    let topics = public.map(|operation| Subscription {
        topic: operation.to_json(),
        is_optional: !operation.is_essential,
    });
    RecordedFeed {
        endpoint: config.endpoints.ws.clone(),
        dialect: GraphqlTransportWs,
        topics: topics.collect(),
        origin: Some(config.endpoints.origin.clone()),
        user_agent: Some(config.endpoints.user_agent.clone()),
        credential: config.credential.clone(),
        credential_source: config.credential_source.clone(),
        policy: plan.policy,
        tls: config.tls.clone(),
        tag,
        origins: SettingNames::MARKETPLACE,
    }
}

fn later(wait: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
