//! `sniper run`: its arguments, its first log lines, and the recording of its feed.
//!
//! With `--record`, a message is recorded after the orders that it caused were sent. A slow, full
//! or missing disk ends the recording only.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use tracing::{error, info, warn};

use super::{
    AppError, CommandContext, block_on_busy_polling,
    capture::{CaptureError, source::LISTINGS},
    known_names, practice,
    reload::SettingsSource,
    summary::Summary,
};
use crate::{
    config::{Config, Generation, Mode, prices::PriceSource},
    domain::money::Amount,
    log::ReaderGone,
    markets::Marketplace,
    recording::{ActiveRecording, RealDisk, RecordingConfig, RecordingEnd, StreamSource},
    shutdown::{SecondSignal, parse_duration},
    sniper::Sniper,
    text::counted,
    ws::Feed,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper run               log what it would buy
  sniper run --practice    practice with play money on a simulated market
  sniper run --live        buy with real money
  sniper run --live --for 8h --record

Times in the log are local on a terminal, else UTC. Ctrl-C stops the bot and prints a summary.";

/// Arguments of `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// Buy with real money
    #[arg(long)]
    pub live: bool,
    /// Practice: buy with play money on a simulated market in this process, with the settings of
    /// sniper.toml and data of its own
    #[arg(long, conflicts_with_all = ["live", "resume", "new_ledger"])]
    pub practice: bool,
    /// Clear halts left by the last run
    #[arg(long, requires = "live")]
    pub resume: bool,
    /// Replace a lost or outdated ledger by a new one; what the account bought in the last 24 hours
    /// counts against `total`
    #[arg(long, requires = "live")]
    pub new_ledger: bool,
    /// With --new-ledger: do not count earlier purchases; required on a market that cannot list
    /// them
    #[arg(long, requires = "new_ledger")]
    pub not_counted: bool,
    /// Serve a web page with the state of the bot and its controls, at `listen` of the settings or
    /// 127.0.0.1:8098
    #[arg(long)]
    pub dashboard: bool,
    /// Log each listing that an entry is about but does not match, with the reason
    #[arg(long)]
    pub explain: bool,
    /// Also save the raw feed and the reference prices below `SNIPER_DATA`, in recordings/
    #[arg(long)]
    pub record: bool,
    /// Stop after this duration, such as 60s, 5m or 1h30m [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
}

/// Sources of the requests to end a trading session.
pub type StopSignals = (ReaderGone, SecondSignal);

/// Result of a trading session.
pub type SessionResult = Result<Summary, AppError>;

/// Trades until `trade` ends, and prints the summary.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid, the session fails, or the summary cannot be
/// printed.
pub fn run<F: Future<Output = SessionResult>>(
    context: CommandContext<'_>,
    args: RunArgs,
    trade: impl FnOnce(Config, RunArgs, StopSignals, Option<SettingsSource>) -> F,
) -> Result<ExitCode, AppError> {
    // Before the settings are read, so that no signal is lost.
    let quit = SecondSignal::watch_with_reloads()?;
    if args.practice {
        return practice::run(context, args, quit, trade);
    }
    let mut loaded = context.load_for_feed(args.live)?;
    known_names::apply(&mut loaded);
    practice::reject_other_runs(&loaded.config.data_dir)?;
    let log = context.output.log(&loaded)?;
    let spin = loaded.config.speed.spin;
    let source = SettingsSource::new(&context, args.live, &loaded);
    let session = trade(loaded.config, args, (log.reader_gone(), quit), Some(source));
    let summary = block_on_busy_polling(spin, session)?;
    context.output.summary(summary, log)
}

/// Folder of recordings below `SNIPER_DATA`.
pub const DIRECTORY: &str = "recordings";

/// Recording of a session, if requested.
#[derive(Debug)]
pub struct SessionRecording(Option<ActiveRecording>);

impl SessionRecording {
    /// Starts recording if `is_requested`.
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if the files cannot be created.
    pub fn start<M: Marketplace>(feed: &Feed<M>, is_requested: bool) -> Result<Self, AppError> {
        if !is_requested {
            return Ok(Self(None));
        }
        let name = M::CAPABILITIES.name;
        let source = StreamSource {
            name: name.to_owned(),
            address: feed.config.endpoints.ws.to_string(),
            symbol: name.to_ascii_uppercase(),
            stream: LISTINGS.to_owned(),
        };
        let setup = RecordingConfig::new(feed.config.data_dir.join(DIRECTORY), vec![source]);
        let recording = ActiveRecording::start(setup, RealDisk).map_err(CaptureError::from)?;
        if !feed.metrics.set_recorder(Arc::new(recording.recorder(0))) {
            warn!("Recording not started: this feed is already recorded");
        }
        Ok(Self(Some(recording)))
    }

    /// Adds the reference prices by which the session decides to the recording.
    pub fn record_prices(&self, sources: &[PriceSource], sniper: &Sniper) {
        if let (Some(recording), false) = (&self.0, sources.is_empty()) {
            let recorder = recording.price_recorder(sources);
            sniper.with_engine(|engine| engine.record_prices(recorder));
        }
    }

    /// Ends the recording and logs its result. Waits for the disk for a limited time.
    pub fn finish(self, reason: String, is_success: bool) {
        let Some(recording) = self.0 else { return };
        let (observer, directory) = (recording.observer(), recording.directory().to_path_buf());
        let end = RecordingEnd { reason, is_success };
        let finished = recording.finish(end);
        let status = observer.status();
        let (messages, lost) = (status.messages, status.lost);
        match finished {
            Ok(_is_complete) => {
                let messages = counted(messages, "message", "messages");
                info!("Recording saved: {}, {messages}, {lost} lost", directory.display());
            }
            Err(error) => error!("Recording incomplete: {}, {error}", directory.display()),
        }
    }
}

/// Describes the mode.
pub fn mode_text(config: &Config) -> &'static str {
    match config.mode {
        Mode::Dry => "DRY RUN (sends no orders; add --live to buy)",
        Mode::Live if config.endpoints.http.is_loopback() => "LIVE (local market, play money)",
        Mode::Live => "LIVE (spends real money)",
    }
}

/// Logs mode, feed, whitelist and limits at the start of a session. `spent` is the amount that
/// already counts against `total`.
pub fn announce<M: Marketplace>(config: &Config, spent: Amount) {
    let generation = match config.feed.generation {
        _ if !config.market.settings().has_feed_key("generation") => "",
        Generation::A => " (generation A)",
        Generation::B => " (generation B)",
    };
    info!("Mode: {}", mode_text(config));
    info!("Feed: {}{generation}", config.endpoints.ws);
    let budget = &config.budget;
    match config.whitelist.len() {
        0 => {
            info!("Whitelist: empty, logging every listing");
            info!("To begin: copy sniper.example.toml to sniper.toml, edit it, run `sniper check`");
        }
        count => {
            info!("Whitelist: {}", counted(count, "entry", "entries"));
            let spent = match spent {
                Amount::ZERO => String::new(),
                spent => format!(" ({spent} of it spent before)"),
            };
            info!(
                "Limits: {} per item, {} total{spent}, keep {}, {} orders/min",
                budget.max_price, budget.total, budget.min_balance, budget.max_buys_per_minute
            );
        }
    }
    if config.whitelist.iter().any(|entry| entry.percent.is_some()) {
        info!(
            "Reference prices: each reason without a match is logged once a minute; --explain logs all"
        );
    }
    if config.credential.is_none() {
        let variable = M::CAPABILITIES.environment.credential;
        info!("No credential: connecting as a guest, balance unknown; set {variable} in .env");
    }
}
