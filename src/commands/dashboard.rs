//! The dashboard of a session, and `sniper dashboard`, which prints an address that signs in a
//! browser.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use serde_json::json;
use tokio::sync::mpsc::Sender;
use tracing::error;

use super::{AppError, CommandContext, run, session::instance_of, status::request_status};
use crate::{
    clock,
    dashboard::{Dashboard, DashboardSource, DashboardTimes, PageFacts, token},
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

/// Whether a session has a dashboard, and whether `sniper dashboard` can reach the session.
#[derive(Clone, Copy, Debug)]
pub struct DashboardAccess {
    pub is_enabled: bool,
    /// `false` if another bot owns the control socket.
    pub is_reachable: bool,
}

/// Starts the dashboard of a session, if it is enabled. A failure is logged, and the bot runs
/// without it. The address file is written only for a session that `sniper dashboard` can reach.
pub fn start<M: Marketplace>(
    access: DashboardAccess,
    feed: &Feed<M>,
    sniper: &Sniper,
    requests: Sender<PendingRequest>,
    alarm: &Alarm,
) -> Option<Dashboard> {
    let config = &feed.config;
    let address_file = token::address_file(&config.data_dir, instance_of(config));
    let address_file = access.is_reachable.then_some(address_file);
    // Removes the address file of a killed bot; a missing file is ignored.
    drop(address_file.as_ref().map(fs::remove_file));
    if !access.is_enabled {
        return None;
    }
    let source = DashboardSource {
        facts: PageFacts {
            market: config.market.title().to_owned(),
            mode: run::mode_text(config).to_owned(),
        },
        address_file,
        watch: sniper.watch(),
        metrics: feed.metrics.clone(),
        requests,
    };
    let settings = (&config.dashboard, config.data_dir.as_path());
    Dashboard::start(settings, source, DashboardTimes::default(), alarm)
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
    let (address, name) = address(&data_dir, state_dir.as_deref())?;
    let code = token::write_code(&data_dir, clock::wall())
        .map_err(|error| AppError::start("a sign-in: its code cannot be written", error))?;
    let url = format!("http://{}/#code={code}", browsable(address, name));
    let minutes = token::CODE_LIFETIME.as_secs() / 60;
    let text = format!(
        "{url}\n\nOpen it in a browser within {minutes} minutes. It signs in one browser, once.\n"
    );
    context.output.print(&text, || json!({ "address": address.to_string(), "url": url }))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the address of the dashboard of a running bot, preferably of a live one, and the first
/// of its `allowed_hosts`.
fn address(
    data_dir: &Path,
    state_dir: Option<&Path>,
) -> Result<(SocketAddr, Option<String>), AppError> {
    const WHAT: &str = "a sign-in";
    let mut missing = "no bot is running here; start one with: sniper run --dashboard";
    for instance in [Instance::Live, Instance::Dry] {
        let bot = ControlAddress::new(data_dir, state_dir, instance);
        if request_status(&bot, &ControlRequest::Status)?.is_none() {
            continue;
        }
        let text = token::read(&token::address_file(data_dir, instance));
        let text = text.map_err(|error| AppError::start(WHAT, error))?;
        let text = text.unwrap_or_default();
        let mut lines = text.lines().map(str::to_owned);
        if let Some(address) = lines.next().and_then(|line| line.parse().ok()) {
            return Ok((address, lines.next().filter(|name| !name.is_empty())));
        }
        missing = "the running bot has no dashboard; start it with: sniper run --dashboard";
    }
    Err(AppError::Failed(missing.to_owned()))
}

/// Replaces an unspecified address (`0.0.0.0`, `::`), which a browser cannot open, with the name by
/// which other machines reach the page, or without one with loopback.
fn browsable(address: SocketAddr, name: Option<String>) -> String {
    if let Some(name) = name.filter(|_| address.ip().is_unspecified()) {
        return name;
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_other_machines_has_the_name_by_which_they_reach_it() {
        let shown = |address: &str, name: Option<&str>| {
            browsable(address.parse().unwrap(), name.map(str::to_owned))
        };
        assert_eq!(shown("0.0.0.0:8098", Some("sniper:8098")), "sniper:8098");
        assert_eq!(shown("0.0.0.0:8098", None), "127.0.0.1:8098");
        assert_eq!(shown("[::]:8098", None), "[::1]:8098");
        assert_eq!(shown("127.0.0.1:8098", Some("sniper:8098")), "127.0.0.1:8098");
    }
}
