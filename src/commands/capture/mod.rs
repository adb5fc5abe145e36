//! `sniper capture`: records feeds to disk.
//!
//! Each source is received by its own [`Handle`], with the reconnection policy of the feed, and
//! written to an [`ActiveRecording`]. Nothing here sends orders. Public feeds need neither settings
//! nor a credential.
//!
//! - [`source`]: the supported sources.
//! - `outcome`: progress, sources without data, and the outcome.

mod outcome;
pub mod source;

use std::{
    collections::BTreeSet,
    fmt,
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval_at};
use tracing::{error, info, warn};

pub use self::outcome::{CaptureEndReason, CaptureOutcome, NoDataReason};
use self::{
    outcome::{CaptureMonitor, CaptureProgress},
    source::{
        CaptureSource, PERP_MARKET_URL, PERP_PUBLIC_URL, SPOT_URL, SourceError, SourceProtocol,
        SourceUrls, deduplicate_names,
    },
};
use super::{
    AppError, CommandContext, block_on, exit_code,
    progress::{Progress, ProgressCount},
    replay::{ReplayDecision, ReplayResult, ReplayRules, market_names, replay},
};
use crate::{
    config::{
        Config, Market,
        endpoint::Endpoint,
        load::process_environment,
        market::{CredentialVariables, MarketSettings},
    },
    markets::Marketplace,
    net::tls::Tls,
    protocol::{PlainJson, Subscription},
    recording::{
        self, ActiveRecording, Disk, QUEUE_BYTES_MAX, RealDisk, Recording, RecordingEnd,
        RecordingError, RecordingReadError,
    },
    secret,
    shutdown::{SecondSignal, Shutdown, parse_duration},
    ws::{
        FeedMetrics, Hosts, RetriesExhausted, SettingNames,
        connect::TcpDial,
        handle::{Handle, HandleEvent, Options, StopReason, Target},
        policy::{PolicyError, ReconnectPolicy, ReconnectionLimits},
    },
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper capture --out recordings
  sniper capture --out recordings --for 1h --compress
  sniper capture --out recordings binance-spot:BTCUSDT@bookTicker";

/// Interval of the progress lines.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Time after which a source without recorded messages causes a warning.
const NO_DATA_WARNING_AFTER: Duration = Duration::from_secs(5);

/// Arguments of `capture`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CaptureArgs {
    #[arg(value_name = "SOURCE", help = sources_help())]
    pub sources: Vec<String>,
    /// Directory for the recordings, each in its own subdirectory
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Stop after this duration, such as 60s, 5m or 1h30m [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Start a new file for each stream after this duration
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub rotate: Option<Duration>,
    /// Compress with zstd
    #[arg(long)]
    pub compress: bool,
    /// Subscribe again if a busy feed delivers nothing for this long [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub idle: Option<Duration>,
    /// Give up after this many consecutive failures [default: never]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    pub max_retries: Option<u32>,
    /// Record any WebSocket with JSON messages; ws:// only for this machine
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Message to send to --url after connecting; repeatable
    #[arg(long, value_name = "JSON", requires = "url")]
    pub subscribe: Vec<String>,
    /// Address of the book tickers and depth of perpetuals
    #[arg(long, value_name = "URL", default_value = PERP_PUBLIC_URL)]
    pub binance_perp_public: String,
    /// Address of the mark prices of perpetuals
    #[arg(long, value_name = "URL", default_value = PERP_MARKET_URL)]
    pub binance_perp_market: String,
    /// Address of the spot streams
    #[arg(long, value_name = "URL", default_value = SPOT_URL)]
    pub binance_spot: String,
}

fn sources_help() -> String {
    let market = Market::default().name();
    format!(
        "Feed to record: {market}, binance-perp:BTCUSDT@bookTicker (or @depth, @markPrice), \
         binance-spot:BTCUSDT@bookTicker [default: {market}]"
    )
}

fn parse_count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_not_a_count| "must be a whole number from 0 to 4294967295")
}

impl CaptureArgs {
    /// Parses the sources; without any, returns the default market.
    ///
    /// # Errors
    ///
    /// Returns a [`SourceError`] if a source is invalid or duplicated.
    pub fn sources(&self) -> Result<Vec<CaptureSource>, SourceError> {
        let bases = SourceUrls {
            perp_public: self.binance_perp_public.clone(),
            perp_market: self.binance_perp_market.clone(),
            spot: self.binance_spot.clone(),
        };
        let named = self.sources.iter().map(|name| CaptureSource::parse(name, &bases));
        let own = self.url.iter().map(|url| CaptureSource::from_url(url, &self.subscribe));
        let sources: Vec<CaptureSource> = named.chain(own).collect::<Result<_, _>>()?;
        if sources.is_empty() {
            return Ok(vec![CaptureSource::marketplace(Market::default())]);
        }
        deduplicate_names(sources)
    }
}

/// Records the sources until shutdown. The settings are read only if a market is among the sources;
/// then `market` creates the source of the configured one.
///
/// # Errors
///
/// Returns an [`AppError`] if the capture cannot start or its result cannot be printed.
pub fn run(
    context: CommandContext<'_>,
    args: &CaptureArgs,
    market: impl FnOnce(&Config) -> MarketSource,
) -> Result<ExitCode, AppError> {
    let output = context.output;
    let mut sources = args.sources().map_err(CaptureError::from)?;
    let needs_marketplace =
        sources.iter().any(|source| source.protocol == SourceProtocol::Marketplace);
    let (marketplace, base, log) = if needs_marketplace {
        let loaded = context.load_for_feed(false)?;
        if args.sources.is_empty() {
            sources = vec![CaptureSource::marketplace(loaded.config.market)];
        }
        check_market(&sources, loaded.config.market)?;
        let log = output.log(&loaded)?;
        (Some(market(&loaded.config)), loaded.config.reconnection, log)
    } else {
        let log = output.log_filtered(process_environment("RUST_LOG").as_deref())?;
        (None, ReconnectPolicy::default(), log)
    };
    let plan = CapturePlan {
        rotate: args.rotate,
        compress: args.compress,
        policy: policy(args, base)?,
        marketplace,
        shows_progress: !output.is_json(),
        ..CapturePlan::new(sources, &args.out)
    };
    let quit = SecondSignal::watch()?;
    let outcome = block_on(async {
        let mut shutdown =
            Shutdown::from_signals(&quit, args.duration).or_reader_gone(log.reader_gone());
        let stop = async {
            let reason = shutdown.wait().await.to_string();
            quit.stopping();
            reason
        };
        Ok(record(plan, RealDisk, stop).await?)
    })?;
    output.result(log.finish(), &outcome, || outcome.to_json(), outcome.exit_code())
}

/// Checks that the settings are those of the market to record.
fn check_market(sources: &[CaptureSource], configured: Market) -> Result<(), CaptureError> {
    let is_other = |source: &&CaptureSource| {
        source.protocol == SourceProtocol::Marketplace && source.name != configured.name()
    };
    match sources.iter().find(is_other) {
        Some(source) => Err(CaptureError::OtherMarket {
            named: source.name.clone(),
            configured: configured.name(),
        }),
        None => Ok(()),
    }
}

/// Returns the base policy, overridden by the command line.
fn policy(args: &CaptureArgs, base: ReconnectPolicy) -> Result<ReconnectPolicy, CaptureError> {
    let base = *base.limits();
    let limits = ReconnectionLimits {
        idle_timeout: args.idle.unwrap_or(base.idle_timeout),
        max_retries: args.max_retries.or(base.max_retries),
        ..base
    };
    Ok(ReconnectPolicy::new(limits)?)
}

/// Sources and options of a capture.
#[derive(Clone, Debug)]
pub struct CapturePlan {
    pub sources: Vec<CaptureSource>,
    /// Parent directory of the recordings.
    pub directory: PathBuf,
    /// Duration after which each stream starts a new file.
    pub rotate: Option<Duration>,
    pub compress: bool,
    /// Reconnection policy and retry limit.
    pub policy: ReconnectPolicy,
    /// The market, required if it is among the sources.
    pub marketplace: Option<MarketSource>,
    /// Shows the number of recorded messages on a terminal.
    pub shows_progress: bool,
    /// TLS configuration; `None` uses Mozilla's root certificates.
    pub tls: Option<Tls>,
}

impl CapturePlan {
    /// Creates a plan with the default policy and uncompressed files.
    pub fn new(sources: Vec<CaptureSource>, directory: impl Into<PathBuf>) -> Self {
        Self {
            sources,
            directory: directory.into(),
            rotate: None,
            compress: false,
            policy: ReconnectPolicy::default(),
            marketplace: None,
            shows_progress: false,
            tls: None,
        }
    }
}

/// The feed of a market: its public subscriptions, without the private balance; and the decisions
/// about a recording of it.
#[derive(Clone)]
pub struct MarketSource {
    address: Endpoint,
    start: Arc<StartMarket>,
    replay: Arc<ReplayMarket>,
    names: Arc<NamesOfMarket>,
}

type StartMarket = dyn Fn(Target<TcpDial>, Options) -> Handle + Send + Sync;
type NamesOfMarket = dyn Fn(&Recording) -> BTreeSet<String> + Send + Sync;
type ReplayMarket = dyn Fn(
        &Recording,
        &ReplayRules,
        &mut dyn FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
    ) -> Result<ReplayResult, RecordingReadError>
    + Send
    + Sync;

impl MarketSource {
    pub fn new<M: Marketplace>(market: &M, config: &Config) -> Self
    where
        M::Protocol: Clone + Send,
    {
        let public = market.subscriptions(None).into_iter().filter(|topic| !topic.is_private);
        let topics: Vec<Subscription> = public.map(|topic| topic.subscription).collect();
        let address = config.endpoints.ws.clone();
        let (feed, mut config) = (market.clone(), config.clone());
        let MarketSettings { feed_needs_credential, credential, .. } = config.market.settings();
        // A key that the feed does not need only adds private messages of the account. Cookies
        // cause none, and may be needed to pass a browser check.
        if !feed_needs_credential && matches!(credential, CredentialVariables::Key(_)) {
            (config.credential, config.credential_source) = (None, None);
        }
        let start = move |target, options| {
            let options = Options {
                topics: topics.clone(),
                credential: config.credential.clone(),
                credential_source: config.credential_source.clone(),
                setting_names: SettingNames::of::<M>(),
                ..options
            };
            Handle::start_on_market(target, (&feed, &config), options)
        };
        let market = market.clone();
        let named = market.clone();
        let names = move |recording: &Recording| market_names(&named, recording);
        let replay = move |recording: &Recording,
                           rules: &ReplayRules,
                           on_decision: &mut dyn FnMut(
            ReplayDecision<'_, '_>,
        ) -> ControlFlow<()>| {
            replay(&market, recording, rules, on_decision)
        };
        let (start, replay, names) = (Arc::new(start), Arc::new(replay), Arc::new(names));
        Self { address, start, replay, names }
    }

    /// Returns the market names of the listings in a recording, as far as it can be read.
    pub fn names(&self, recording: &Recording) -> BTreeSet<String> {
        (self.names)(recording)
    }

    /// Replays a recording of the market under these rules.
    ///
    /// # Errors
    ///
    /// Returns a [`RecordingReadError`] when the recording cannot be read to its end.
    pub fn replay(
        &self,
        recording: &Recording,
        rules: &ReplayRules,
        on_decision: &mut dyn FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
    ) -> Result<ReplayResult, RecordingReadError> {
        (self.replay)(recording, rules, on_decision)
    }
}

impl fmt::Debug for MarketSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarketSource").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Failure to start a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Invalid `--idle` or `--max-retries`.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("cannot start the recording")]
    Recording(#[from] RecordingError),
    /// The market is among the sources, but the plan has no configuration of it.
    #[error("the settings of the market are missing")]
    NoMarketplace,
    /// A market is to be recorded that is not that of the settings.
    #[error(
        "the settings are those of {configured}; write market = \"{named}\" into the settings file"
    )]
    OtherMarket { named: String, configured: &'static str },
}

impl CaptureError {
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Source(_) | Self::Policy(_) => exit_code::USAGE,
            Self::Recording(_) => exit_code::CANNOT_CREATE,
            Self::NoMarketplace | Self::OtherMarket { .. } => exit_code::CONFIG,
        }
    }
}

/// Captures until `stop` completes with the reason, every source has given up, or the disk fails.
///
/// # Errors
///
/// Returns a [`CaptureError`] if the capture cannot start. Later failures are part of the
/// [`CaptureOutcome`].
///
/// # Cancel safety
///
/// Safe: if dropped, the recording is left without an end mark.
pub async fn record(
    plan: CapturePlan,
    disk: impl Disk,
    stop: impl Future<Output = String>,
) -> Result<CaptureOutcome, CaptureError> {
    let started = Instant::now();
    let recording = ActiveRecording::start(recording_config(&plan)?, disk)?;
    let _progress = plan.shows_progress.then(|| {
        let observer = recording.observer();
        let read = move || observer.status().messages;
        Progress::start_reading("Recording", &ProgressCount::Of("messages"), read)
    });
    let hosts = Hosts::default();
    let indexes = 0..plan.sources.len();
    let monitors: Vec<Arc<CaptureMonitor>> =
        indexes.map(|at| Arc::new(CaptureMonitor::new(recording.recorder(at)))).collect();
    let (mut handles, mut gave_up) = (Vec::new(), Vec::new());
    for (source, monitor) in plan.sources.iter().zip(&monitors) {
        match start_source(&plan, source, &hosts, monitor) {
            Ok(handle) => handles.push((source.name.clone(), handle)),
            Err(failed) => gave_up.push((source.name.clone(), failed)),
        }
    }
    let mut running: FuturesUnordered<_> =
        handles.iter().map(|(name, handle)| wait_for_end(name, handle)).collect();
    let mut tick = interval_at(from_now(PROGRESS_EVERY), PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = CaptureProgress::new(started);
    tokio::pin!(stop);
    let ending = loop {
        if running.is_empty() && !gave_up.is_empty() {
            break CaptureEndReason::NothingLeft;
        }
        tokio::select! {
            biased;
            error = recording.failed() => break CaptureEndReason::Disk(error),
            reason = &mut stop => break CaptureEndReason::Stopped(reason),
            Some(given_up) = running.next() => gave_up.push(given_up),
            _ = tick.tick() => {
                info!("{}", progress.line(&recording.status(), Instant::now()));
                if started.elapsed() >= NO_DATA_WARNING_AFTER {
                    warn_about_missing_data(&plan.sources, &monitors, started.elapsed());
                }
            }
        }
    };
    drop(running);
    // A message that arrived after the end of the recording would be counted as lost.
    join_all(handles.iter().map(|(_name, handle)| handle.stop())).await;
    let empty = plan.sources.iter().zip(&monitors).filter_map(|(source, monitor)| {
        monitor.no_data_reason().map(|reason| (source.clone(), reason))
    });
    let ended = CaptureEnd { ending, gave_up, empty: empty.collect(), sources: plan.sources.len() };
    Ok(finish(recording, ended, started))
}

/// Warns about each source without recorded messages, once per cause.
fn warn_about_missing_data(
    sources: &[CaptureSource],
    monitors: &[Arc<CaptureMonitor>],
    after: Duration,
) {
    for (source, monitor) in sources.iter().zip(monitors) {
        if let Some(cause) = monitor.new_cause() {
            let (name, seconds, advice) = (&source.name, after.as_secs(), source.advice(&cause));
            warn!("Nothing recorded in {seconds}s: {name}, {cause}. {advice}");
        }
    }
}

/// End of a capture, before its recording is closed.
struct CaptureEnd {
    ending: CaptureEndReason,
    gave_up: Vec<(String, RetriesExhausted)>,
    /// Sources without recorded messages.
    empty: Vec<(CaptureSource, NoDataReason)>,
    /// Number of sources, including those with data.
    sources: usize,
}

/// Closes the recording and returns the outcome.
fn finish(recording: ActiveRecording, ended: CaptureEnd, started: Instant) -> CaptureOutcome {
    let CaptureEnd { ending, gave_up, empty, sources } = ended;
    let is_empty = empty.len() == sources;
    for (source, cause) in &empty {
        let (name, advice) = (&source.name, source.advice(cause));
        if is_empty {
            error!("Nothing was recorded: {name}, {cause}. {advice}");
        } else {
            warn!("Nothing was recorded: {name}, {cause}. {advice}");
        }
    }
    let directory = recording.directory().to_path_buf();
    let observer = recording.observer();
    let given_up = gave_up.iter().map(|(name, given_up)| format!("{name}: {given_up}"));
    let nothing = is_empty.then(|| "nothing was recorded".to_owned());
    let reasons: Vec<String> =
        std::iter::once(ending.to_string()).chain(given_up).chain(nothing).collect();
    let is_success =
        gave_up.is_empty() && matches!(ending, CaptureEndReason::Stopped(_)) && !is_empty;
    let finished = recording.finish(RecordingEnd { reason: reasons.join("; "), is_success });
    let (is_complete, ending) = match finished {
        Ok(is_complete) => (is_complete, ending),
        Err(error) => (false, CaptureEndReason::Disk(error)),
    };
    if let CaptureEndReason::Disk(error) = &ending {
        error!("Capture incomplete: {}, {error}", directory.display());
    }
    let status = observer.status();
    let empty = empty.into_iter().map(|(source, cause)| (source.name, cause)).collect();
    let duration = started.elapsed();
    CaptureOutcome { directory, status, duration, is_complete, is_empty, ending, gave_up, empty }
}

fn recording_config(plan: &CapturePlan) -> Result<recording::RecordingConfig, CaptureError> {
    let mut sources = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        let address = match (&source.protocol, &plan.marketplace) {
            (SourceProtocol::Plain { endpoint, .. }, _) => {
                secret::register_query(endpoint.path());
                endpoint.to_string()
            }
            (SourceProtocol::Marketplace, Some(market)) => market.address.to_string(),
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

/// Starts to record one source.
fn start_source(
    plan: &CapturePlan,
    source: &CaptureSource,
    hosts: &Hosts,
    monitor: &Arc<CaptureMonitor>,
) -> Result<Handle, RetriesExhausted> {
    let failed = |last| RetriesExhausted { attempts: 0, last };
    let target = |endpoint: &Endpoint| {
        Target::tcp(endpoint.clone(), plan.tls.clone()).map_err(|error| failed(Some(error)))
    };
    let metrics = FeedMetrics::recorded(Arc::<CaptureMonitor>::clone(monitor));
    let name = if plan.sources.len() > 1 { source.name.clone() } else { String::new() };
    let options = Options {
        // The recorder receives the messages.
        channel_capacity: 0,
        policy: plan.policy,
        name,
        setting_names: SettingNames { address: source.setting, has_cookie: false, key: None },
        hosts: hosts.clone(),
        metrics: Arc::new(metrics),
        ..Options::default()
    };
    match (&source.protocol, &plan.marketplace) {
        (SourceProtocol::Plain { endpoint, subscribe }, _) => {
            let topics = subscribe.iter().cloned();
            let topics = topics.map(|topic| Subscription { topic, is_optional: false }).collect();
            let options = Options { topics, ..options };
            Ok(Handle::start_retrying(target(endpoint)?, PlainJson::VERBATIM, options))
        }
        (SourceProtocol::Marketplace, Some(market)) => {
            Ok((market.start)(target(&market.address)?, options))
        }
        (SourceProtocol::Marketplace, None) => Err(failed(None)),
    }
}

/// Waits for the last event of the source. Returns the reason for which it has given up.
async fn wait_for_end(name: &str, handle: &Handle) -> (String, RetriesExhausted) {
    let mut ended = RetriesExhausted { attempts: 0, last: None };
    while let Some(event) = handle.recv().await {
        if let HandleEvent::Disconnected(StopReason::GaveUp(gave_up)) = event {
            ended = gave_up;
        }
    }
    (name.to_owned(), ended)
}

fn from_now(wait: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
