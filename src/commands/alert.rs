//! `sniper alert test`: sends messages to each channel and prints the responses.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{AppError, CommandContext, block_on, report};
use crate::{
    alerts::{
        Alert, AlertEvent, AlertOrder, BudgetLeft, SessionFigures,
        channel::AlertChannel,
        outbox::{AlertMessage, Delivery},
    },
    clock,
    domain::{
        alert_kind::{AlertKind, Loudness},
        money::Amount,
        outcome::RejectReason,
    },
    ledger::HaltReason,
    net::tls::Tls,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper alert test
  sniper alert test --all";

/// Maximum wait that a channel may ask for during a test.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Arguments of `alert`.
#[derive(Clone, Debug, Args)]
pub struct AlertArgs {
    #[command(subcommand)]
    pub command: AlertCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum AlertCommand {
    /// Send one loud and one silent message to each channel, and print what came back
    Test {
        /// Send an example of every event, as loud as the settings say, at the rate of each channel
        #[arg(long)]
        all: bool,
    },
}

/// Runs `sniper alert`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid, or the result cannot be printed.
pub fn run(context: CommandContext<'_>, args: &AlertArgs) -> Result<ExitCode, AppError> {
    let AlertCommand::Test { all } = args.command;
    let config = context.load()?.config;
    let tls = Tls::from_config(&config).map_err(|error| AppError::start("TLS", error))?;
    let output = context.output;
    let print = |line: &str| if output.is_json() { Ok(()) } else { report::print(line) };
    let (mut rows, mut is_success) = (Vec::new(), true);
    for channel in &config.alerts.channels {
        let channel = AlertChannel::new(channel, &tls);
        let mut channel = channel.map_err(|error| AppError::start("the HTTP client", error))?;
        let messages = if all { samples(&channel) } else { test_messages() };
        let name = channel.name();
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                std::thread::sleep(channel.min_interval());
            }
            let result = block_on(async { Ok(send(&mut channel, message).await) })?;
            is_success &= result.is_ok();
            let sound = if message.is_silent { "silent" } else { "loud" };
            let text = result.as_ref().map_or_else(|why| why.as_str(), |()| "delivered");
            print(&format!("{name}: {} ({sound}): {text}\n", message.kind))?;
            rows.push(json!({
                "channel": name,
                "event": message.kind,
                "silent": message.is_silent,
                "delivered": result.is_ok(),
                "error": result.err(),
            }));
        }
    }
    if rows.is_empty() {
        is_success = false;
        print("There is no channel; add [[alerts]] to sniper.toml, as in sniper.example.toml.\n")?;
    }
    if output.is_json() {
        output.json(&json!({"messages": rows}))?;
    }
    Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends a message, and once more after the wait that the channel asks for.
async fn send(channel: &mut AlertChannel, message: &AlertMessage) -> Result<(), String> {
    let id = format!("msg_{:032x}", fastrand::u128(..));
    let mut result = channel.send(message, &id).await;
    if let Delivery::Retry { after: Some(wait), .. } = result
        && wait <= WAIT_MAX
    {
        tokio::time::sleep(wait).await;
        result = channel.send(message, &id).await;
    }
    match result {
        Delivery::Delivered => Ok(()),
        Delivery::Retry { why, .. }
        | Delivery::PossiblyRejected { why }
        | Delivery::Rejected { why }
        | Delivery::Disabled { why } => Err(why),
    }
}

fn test_messages() -> Vec<AlertMessage> {
    let message = |title: &str, text: &str, is_silent| {
        let mut data = Map::new();
        data.insert("title".to_owned(), title.into());
        data.insert("text".to_owned(), text.into());
        let (title, text) = (title.to_owned(), text.to_owned());
        AlertMessage { kind: "test", at: clock::wall(), title, text, is_silent, data, events: 1 }
    };
    vec![
        message("Test of a loud alert", "Trouble is reported like this.", false),
        message("Test of a silent alert", "Purchases are reported like this.", true),
    ]
}

/// Returns an example of each event. Those that the channel switches off are silent, and their text
/// states it.
fn samples(channel: &AlertChannel) -> Vec<AlertMessage> {
    let at = clock::wall();
    let with_loudness = |event: AlertEvent| {
        let loudness = channel.config().loudness(event.kind());
        let mut message = Alert { at, event }.message(loudness != Loudness::On);
        let is_off = loudness == Loudness::Off;
        message.title.push_str(if is_off {
            " (example of an event that is off)"
        } else {
            " (example)"
        });
        message.data.insert("example".to_owned(), Value::Bool(true));
        message
    };
    AlertKind::ALL.into_iter().map(sample).map(with_loudness).collect()
}

fn sample(kind: AlertKind) -> AlertEvent {
    let order = || AlertOrder {
        item: Some("AK-47 | Redline (Field-Tested)".to_owned()),
        price: Amount::from_cents(1_250),
    };
    let left = BudgetLeft {
        spent: Amount::from_cents(6_120),
        total: Amount::from_cents(40_000),
        balance: Some(Amount::from_cents(43_880)),
    };
    let since = clock::local(clock::wall());
    let halted =
        |reason: HaltReason| AlertEvent::Halted { since, reason, text: reason.to_string() };
    let hour = Duration::from_secs(3_600);
    match kind {
        AlertKind::Started => AlertEvent::Started { is_live: true, entries: 12 },
        AlertKind::Stopped => {
            AlertEvent::Stopped { reason: "SIGTERM".to_owned(), is_failure: false }
        }
        AlertKind::Bought => AlertEvent::Bought { order: order(), left: Some(left) },
        AlertKind::Rejected => AlertEvent::Rejected { order: order(), reason: RejectReason::Taken },
        AlertKind::Unknown => {
            AlertEvent::Unknown { order: order(), reason: "no response in time".to_owned() }
        }
        AlertKind::Returned => AlertEvent::Refunded { order: order() },
        AlertKind::Halted => halted(HaltReason::Unknowns { count: 5 }),
        AlertKind::Resumed => AlertEvent::Resumed,
        AlertKind::CredentialRefused => halted(HaltReason::Rejected(RejectReason::Unauthenticated)),
        AlertKind::Challenge => halted(HaltReason::Rejected(RejectReason::Challenge)),
        AlertKind::FeedDown => AlertEvent::FeedDown {
            after: Duration::from_secs(60),
            cause: Some("the connection was dropped".to_owned()),
        },
        AlertKind::FeedBack => {
            AlertEvent::FeedBack { after: Duration::from_secs(200), was_flapping: false }
        }
        AlertKind::LimitReached => AlertEvent::LimitReached {
            limit: "per_day",
            text: "95.00 spent within a day and 12.50 more would exceed per_day 100.00".to_owned(),
            item: "AK-47 | Redline (Field-Tested)".to_owned(),
        },
        AlertKind::BalanceLow => AlertEvent::BalanceLow {
            balance: Amount::from_cents(450),
            min: Amount::from_cents(500),
        },
        AlertKind::Disk => AlertEvent::DiskLow { free_mb: 120 },
        AlertKind::PricesStale => AlertEvent::PricesStale {
            source: 0,
            name: "buff".to_owned(),
            age: Some(hour.saturating_mul(7)),
            max_age: hour.saturating_mul(6),
        },
        AlertKind::Shared => {
            let cause = "the database could not be reached".to_owned();
            AlertEvent::SharedDown { cause, has_slice: true }
        }
        AlertKind::DailySummary => AlertEvent::DailySummary {
            day: SessionFigures { is_live: true, bought: 12, left, ..SessionFigures::default() },
            period: hour.saturating_mul(24),
            gaps: 1,
            down: Duration::from_secs(200),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_example_of_every_event() {
        for kind in AlertKind::ALL {
            let event = sample(kind);
            assert_eq!(event.kind(), kind);
            assert!(!event.title().is_empty() && !event.text().is_empty(), "{event:?}");
        }
    }
}
