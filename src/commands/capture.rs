//! `sniper capture`: from its words to a recording.

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

/// Captures what is asked for until told to stop. Settings are read only where the marketplace is
/// among the sources.
///
/// # Errors
///
/// An [`AppError`] if it cannot begin, or what came of it cannot be printed.
pub fn run(shared: &SharedArgs, args: &CaptureArgs, output: Output) -> Result<ExitCode, AppError> {
    let sources = args.sources().map_err(CaptureError::from)?;
    let wants_marketplace =
        sources.iter().any(|source| source.speaks == SourceProtocol::Marketplace);
    let (marketplace, log) = if wants_marketplace {
        let loaded = report::load(shared, false)?;
        let log = output.log(&loaded)?;
        (Some(loaded.config), log)
    } else {
        (None, output.log_filtered(process_environment("RUST_LOG").as_deref())?)
    };
    let usual = marketplace.as_ref().map(|config| config.reconnection).unwrap_or_default();
    let plan = CapturePlan {
        rotate: args.rotate,
        compress: args.compress,
        policy: policy(args, usual)?,
        marketplace,
        ..CapturePlan::new(sources, &args.out)
    };
    let quit = SecondSignal::watch()?;
    let outcome = block_on(async {
        let mut stop = Shutdown::counted(&quit, args.lasting).or_when(log.reader_gone());
        let because = async {
            let because = stop.wait().await.to_string();
            quit.stopping();
            because
        };
        Ok(capture::run(plan, RealDisk, because).await?)
    })?;
    output.result(log.finish(), &outcome, || outcome.to_json(), outcome.exit_code())
}

/// The usual policy with what is asked for instead.
fn policy(args: &CaptureArgs, usual: ReconnectPolicy) -> Result<ReconnectPolicy, CaptureError> {
    let usual = *usual.limits();
    let limits = ReconnectionLimits {
        idle_timeout: args.idle.unwrap_or(usual.idle_timeout),
        max_retries: args.max_retries.or(usual.max_retries),
        ..usual
    };
    Ok(ReconnectPolicy::new(limits)?)
}
