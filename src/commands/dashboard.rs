//! The dashboard of a session, and `sniper dashboard`, which prints an address that signs in a
//! browser.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use serde_json::json;
use tokio::sync::mpsc::Sender;
use tracing::error;

use super::{AppError, CommandContext, report, run, status::request_status};
use crate::{
    clock,
    dashboard::{
        Dashboard, DashboardSource, DashboardTimes, PageFacts,
        token::{self, ADDRESS_FILE},
    },
    ledger::control::{ControlAddress, ControlRequest, Instance, PendingRequest},
    markets::Marketplace,
    sniper::Sniper,
    text::error_chain,
    threads::Alarm,
    ws::Feed,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper run --dashboard
  sniper dashboard        in another terminal";

/// Starts the dashboard of a session. A failure is logged, and the bot runs without it.
pub fn start<M: Marketplace>(
    feed: &Feed<M>,
    sniper: &Sniper,
    requests: Sender<PendingRequest>,
    alarm: &Alarm,
) -> Option<Dashboard> {
    let config = &feed.config;
    let source = DashboardSource {
        facts: PageFacts {
            market: config.market.title().to_owned(),
            mode: run::mode_text(config).to_owned(),
        },
        watch: sniper.watch(),
        metrics: feed.metrics.clone(),
        requests,
    };
    let place = (&config.dashboard, config.data_dir.as_path());
    Dashboard::start(place, source, DashboardTimes::default(), alarm)
        .inspect_err(|error| {
            error!("Dashboard not available: {}. The bot runs without it.", error_chain(error));
        })
        .ok()
}

/// Prints the address of the running bot's dashboard with a one-time code.
///
/// # Errors
///
/// Returns an [`AppError`] if no bot with a dashboard runs, or the code cannot be written.
pub fn run(context: CommandContext<'_>) -> Result<ExitCode, AppError> {
    // Other settings may have become invalid while the bot runs.
    let (data_dir, state_dir) = context.data_directories();
    let address = address(&data_dir, state_dir.as_deref())?;
    let code = token::write_code(&data_dir, clock::wall())
        .map_err(|error| AppError::start("a sign-in: its code cannot be written", error))?;
    let url = format!("http://{}/#code={code}", browsable(address));
    if context.output.is_json() {
        context.output.json(&json!({ "address": address.to_string(), "url": url }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let minutes = token::CODE_LIFETIME.as_secs() / 60;
    report::print(&format!(
        "{url}\n\nOpen it in a browser within {minutes} minutes. It signs in one browser, once.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the address of the dashboard of a running bot.
fn address(data_dir: &Path, state_dir: Option<&Path>) -> Result<SocketAddr, AppError> {
    const WHAT: &str = "a sign-in";
    let bot = |instance| ControlAddress::new(data_dir, state_dir, instance);
    let mut is_running = false;
    for instance in [Instance::Live, Instance::Dry] {
        is_running |= request_status(&bot(instance), &ControlRequest::Status)?.is_some();
    }
    if !is_running {
        return Err(AppError::start(WHAT, "no bot is running with this SNIPER_DATA"));
    }
    let path = data_dir.join(ADDRESS_FILE);
    let text = token::read(&path).map_err(|error| AppError::start(WHAT, error))?;
    let address = text.and_then(|text| text.trim().parse().ok());
    address.ok_or_else(|| {
        AppError::start(
            WHAT,
            "the running bot has no dashboard; start it with: sniper run --dashboard",
        )
    })
}

/// Replaces an unspecified address (`0.0.0.0`, `::`), which a browser cannot open, with loopback.
const fn browsable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
