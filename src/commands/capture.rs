//! `sniper capture`: records feeds to disk.

use std::process::ExitCode;

use super::{
    AppError, block_on,
    report::{self, Output},
};
use crate::{
    capture::{self, CaptureError, CapturePlan, cli::CaptureArgs, source::SourceProtocol},
    cli::SharedArgs,
    config::load::process_environment,
    recording::RealDisk,
    shutdown::{SecondSignal, Shutdown},
    ws::policy::{ReconnectPolicy, ReconnectionLimits},
};

/// Records the sources until shutdown. Settings are read only if the market is among the
/// sources.
///
/// # Errors
///
/// Returns an [`AppError`] if the capture cannot start or its result cannot be printed.
pub fn run(shared: &SharedArgs, args: &CaptureArgs, output: Output) -> Result<ExitCode, AppError> {
    let sources = args.sources().map_err(CaptureError::from)?;
    let needs_marketplace =
        sources.iter().any(|source| source.protocol == SourceProtocol::Marketplace);
    let (marketplace, log) = if needs_marketplace {
        let loaded = report::load(shared, false)?;
        let log = output.log(&loaded)?;
        (Some(loaded.config), log)
    } else {
        (None, output.log_filtered(process_environment("RUST_LOG").as_deref())?)
    };
    let default_policy = marketplace.as_ref().map(|config| config.reconnection).unwrap_or_default();
    let plan = CapturePlan {
        rotate: args.rotate,
        compress: args.compress,
        policy: policy(args, default_policy)?,
        marketplace,
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
        Ok(capture::run(plan, RealDisk, stop).await?)
    })?;
    output.result(log.finish(), &outcome, || outcome.to_json(), outcome.exit_code())
}

/// Returns the base policy with the values of the command line.
fn policy(args: &CaptureArgs, base: ReconnectPolicy) -> Result<ReconnectPolicy, CaptureError> {
    let base = *base.limits();
    let limits = ReconnectionLimits {
        idle_timeout: args.idle.unwrap_or(base.idle_timeout),
        max_retries: args.max_retries.or(base.max_retries),
        ..base
    };
    Ok(ReconnectPolicy::new(limits)?)
}
