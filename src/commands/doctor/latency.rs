//! `sniper doctor --latency`: latency of each address of the market's host names, as a table and as
//! JSON.

use std::{net::SocketAddr, process::ExitCode};

use serde_json::{Value, json};

use crate::{
    commands::{AppError, block_on, exit_code, report::Output, summary::decimal},
    config::{Config, endpoint::Endpoint},
    domain::latency::format_latency,
    execution::request::{RequestError, WarmRequest},
    markets::Marketplace,
    net::{
        address_latency::{
            LatencySpread, LatencyTarget, MeasuredAddress, SAMPLES, is_faster, measure,
        },
        dial,
        http_message::HttpRequest,
        tls::Tls,
    },
    text::{Escaped, error_chain},
};

/// Measurements of one host name.
#[derive(Debug)]
pub struct HostLatency {
    /// `feed`, `orders`, or both if they have one host.
    pub uses: Vec<&'static str>,
    /// Host and port.
    pub authority: String,
    /// The addresses, or the error that prevented the measurement.
    pub result: Result<Vec<MeasuredAddress>, String>,
}

/// Comparison of the addresses of one host name, by the median of the round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyVerdict {
    /// No address could be measured.
    Failed,
    /// There is one address only.
    Single,
    /// Several addresses, of which one could be measured.
    OneUsable,
    /// No difference exceeds the noise.
    Equal,
    /// An address is faster than at least one other.
    Fastest { fastest: SocketAddr, slowest: SocketAddr },
}

/// Measures and prints the latency of the feed's and of the orders' addresses. The exit code is 0
/// if every address was measured.
///
/// # Errors
///
/// Returns [`AppError`] if the measurement cannot be prepared or the result cannot be printed.
pub fn check<M: Marketplace>(
    market: &M,
    config: &Config,
    output: Output,
) -> Result<ExitCode, AppError> {
    let hosts = block_on(async {
        measure_hosts(market, config).await.map_err(|error| AppError::start("the requests", error))
    })?;
    let tables: String = hosts.iter().map(HostLatency::table).collect();
    output.print(&tables, || to_json(&hosts))?;
    Ok(ExitCode::from(if hosts.iter().all(HostLatency::is_ok) {
        0
    } else {
        exit_code::UNAVAILABLE
    }))
}

/// Measures the addresses of the feed and of the orders. One request without side effects is sent
/// per connection: for orders it is the one that keeps their connections open.
///
/// # Errors
///
/// Returns a [`RequestError`] if a request cannot be prepared.
///
/// # Cancel safety
///
/// Safe: open connections are closed.
async fn measure_hosts<M: Marketplace>(
    market: &M,
    config: &Config,
) -> Result<Vec<HostLatency>, RequestError> {
    let (feed, orders) = (&config.endpoints.ws, &config.endpoints.http);
    let keep_warm = M::authenticated(config.credential.as_ref(), market.keep_warm_request());
    let order_request = WarmRequest::new(&keep_warm, &orders.authority())?;
    let is_one = (feed.host(), feed.port(), feed.is_tls())
        == (orders.host(), orders.port(), orders.is_tls());
    let mut hosts = Vec::new();
    if !is_one {
        let request = HttpRequest::get(feed.path());
        let request = request.with_header("User-Agent", config.endpoints.user_agent.clone());
        let request = WarmRequest::new(&request, &feed.authority())?;
        hosts.push(measure_host(vec!["feed"], (feed, config), request.bytes()).await);
    }
    let uses = if is_one { vec!["feed", "orders"] } else { vec!["orders"] };
    hosts.push(measure_host(uses, (orders, config), order_request.bytes()).await);
    Ok(hosts)
}

async fn measure_host(
    uses: Vec<&'static str>,
    (endpoint, config): (&Endpoint, &Config),
    request: &[u8],
) -> HostLatency {
    let authority = endpoint.authority();
    let tls = match Tls::from_config(config) {
        Ok(tls) => tls,
        Err(error) => return HostLatency { uses, authority, result: Err(error_chain(&error)) },
    };
    let result = match dial::lookup(endpoint).await {
        Ok(addresses) => {
            let target = LatencyTarget { endpoint, tls: &tls, request };
            Ok(measure(target, &addresses, SAMPLES).await)
        }
        Err(error) => Err(error_chain(&error)),
    };
    HostLatency { uses, authority, result }
}

/// Returns all measurements as one JSON object.
pub fn to_json(hosts: &[HostLatency]) -> Value {
    json!({
        "mode": "doctor",
        "ok": hosts.iter().all(HostLatency::is_ok),
        "latency": hosts.iter().map(HostLatency::to_json).collect::<Vec<_>>(),
    })
}

impl HostLatency {
    /// Returns `true` if every address was measured.
    pub fn is_ok(&self) -> bool {
        self.result.as_ref().is_ok_and(|addresses| {
            addresses.iter().all(|address| address.usable_round_trip().is_some())
        })
    }

    pub fn verdict(&self) -> LatencyVerdict {
        let addresses = self.result.as_deref().unwrap_or_default();
        let usable =
            |address: &MeasuredAddress| Some((address.usable_round_trip()?, address.address));
        let mut usable: Vec<_> = addresses.iter().filter_map(usable).collect();
        usable.sort_unstable();
        match (usable.first(), usable.last()) {
            (Some((best, fastest)), Some((worst, slowest))) if usable.len() > 1 => {
                if is_faster(*best, *worst) {
                    LatencyVerdict::Fastest { fastest: *fastest, slowest: *slowest }
                } else {
                    LatencyVerdict::Equal
                }
            }
            (Some(_), _) if addresses.len() > 1 => LatencyVerdict::OneUsable,
            (Some(_), _) => LatencyVerdict::Single,
            (None, _) => LatencyVerdict::Failed,
        }
    }

    fn conclusion(&self) -> String {
        match self.verdict() {
            LatencyVerdict::Failed => "No address could be measured.".to_owned(),
            LatencyVerdict::Single => "One address: there is no other to choose.".to_owned(),
            LatencyVerdict::OneUsable => "Only one address could be measured.".to_owned(),
            LatencyVerdict::Equal => {
                "All addresses are equally fast: the differences are noise (up to 20 % or 1 ms)."
                    .to_owned()
            }
            LatencyVerdict::Fastest { fastest, slowest } => {
                format!(
                    "{} has the shortest round trip, {} the longest.",
                    fastest.ip(),
                    slowest.ip()
                )
            }
        }
    }

    /// Formats the measurements of this host.
    pub fn table(&self) -> String {
        let mut title = self.uses.join(" and ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let mut text = format!("{title}: {}, {SAMPLES} samples per address\n", self.authority);
        let addresses = match &self.result {
            Ok(addresses) => addresses,
            Err(error) => return text + &format!("  not measured: {}\n\n", Escaped(error)),
        };
        let header = ["address", "connect", "TLS", "round trip"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(header).chain(addresses.iter().map(row)).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = width(column);
                format!("  {cell:<width$}")
            });
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        for address in addresses {
            if let Some(error) = &address.error {
                let (ip, error) = (address.address.ip(), error_chain(error));
                text.push_str(&format!("  {ip} failed: {}\n", Escaped(&error)));
            }
        }
        text + &format!("  {}\n\n", self.conclusion())
    }

    fn to_json(&self) -> Value {
        let addresses = self.result.as_deref().unwrap_or_default();
        let verdict = match self.verdict() {
            LatencyVerdict::Failed => "failed",
            LatencyVerdict::Single => "one address",
            LatencyVerdict::OneUsable => "one usable",
            LatencyVerdict::Equal => "equal",
            LatencyVerdict::Fastest { .. } => "different",
        };
        let fastest = match self.verdict() {
            LatencyVerdict::Fastest { fastest, .. } => Some(fastest.ip().to_string()),
            _ => None,
        };
        json!({
            "uses": self.uses,
            "host": self.authority,
            "error": self.result.as_ref().err(),
            "verdict": verdict,
            "fastest": fastest,
            "addresses": addresses.iter().map(address_json).collect::<Vec<_>>(),
        })
    }
}

/// Returns the cells of an address in the table: median, lowest and highest value.
fn row(address: &MeasuredAddress) -> [String; 4] {
    let cell = |spread: Option<LatencySpread>| {
        spread.map_or_else(
            || "-".to_owned(),
            |LatencySpread { p50, min, max }| {
                let [p50, min, max] = [p50, min, max].map(format_latency);
                format!("{p50} ({min} to {max})")
            },
        )
    };
    let MeasuredAddress { address: socket, .. } = address;
    let (connect, tls) = (address.connect(), address.tls());
    [socket.ip().to_string(), cell(connect), cell(tls), cell(address.round_trip())]
}

fn address_json(address: &MeasuredAddress) -> Value {
    let spread = |spread: Option<LatencySpread>| {
        spread.map(|LatencySpread { p50, min, max }| {
            let [p50, min, max] = [p50, min, max].map(|time| decimal(time.as_micros(), 3));
            json!({ "p50": p50, "min": min, "max": max })
        })
    };
    json!({
        "address": address.address.ip().to_string(),
        "samples": address.samples.len(),
        "connect_ms": spread(address.connect()),
        "tls_ms": spread(address.tls()),
        "round_trip_ms": spread(address.round_trip()),
        "error": address.error.as_ref().map(|error| error_chain(error)),
    })
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;
    use crate::net::address_latency::{LatencySample, SampleError};

    fn measured(last: u8, round_trips_ms: &[u64], error: Option<SampleError>) -> MeasuredAddress {
        let sample = |ms: &u64| LatencySample {
            connect: Duration::from_millis(10),
            tls: Some(Duration::from_millis(20)),
            round_trip: Duration::from_millis(*ms),
        };
        let samples = round_trips_ms.iter().map(sample).collect();
        MeasuredAddress { address: SocketAddr::from(([192, 0, 2, last], 443)), samples, error }
    }

    fn host(addresses: Vec<MeasuredAddress>) -> HostLatency {
        let authority = "router.example:443".to_owned();
        HostLatency { uses: vec!["feed", "orders"], authority, result: Ok(addresses) }
    }

    #[test]
    fn the_table_has_one_row_per_address_and_says_which_is_faster() {
        let host = host(vec![
            measured(1, &[30, 31, 29, 90, 30], None),
            measured(2, &[12, 11, 13, 12, 12], None),
        ]);
        assert_eq!(
            host.table(),
            "Feed and orders: router.example:443, 5 samples per address\n\
             \x20 address    connect                       TLS                           round trip\n\
             \x20 192.0.2.1  10.0 ms (10.0 ms to 10.0 ms)  20.0 ms (20.0 ms to 20.0 ms)  30.0 ms (29.0 ms to 90.0 ms)\n\
             \x20 192.0.2.2  10.0 ms (10.0 ms to 10.0 ms)  20.0 ms (20.0 ms to 20.0 ms)  12.0 ms (11.0 ms to 13.0 ms)\n\
             \x20 192.0.2.2 has the shortest round trip, 192.0.2.1 the longest.\n\n"
        );
        let json = to_json(&[host]);
        assert_eq!(json["ok"], true);
        let host = &json["latency"][0];
        assert_eq!(
            (&host["verdict"], &host["fastest"]),
            (&"different".into(), &"192.0.2.2".into())
        );
        assert_eq!(host["addresses"][0]["round_trip_ms"]["max"].to_string(), "90.0");
    }

    #[test]
    fn one_address_equal_ones_and_failed_ones_are_reported_as_such() {
        let conclude = |addresses| {
            let host = host(addresses);
            let table = host.table();
            (table.lines().rev().nth(1).unwrap().trim().to_owned(), host.is_ok())
        };
        let (single, is_ok) = conclude(vec![measured(1, &[5; 5], None)]);
        assert_eq!((single.as_str(), is_ok), ("One address: there is no other to choose.", true));
        let (equal, is_ok) =
            conclude(vec![measured(1, &[50; 5], None), measured(2, &[41; 5], None)]);
        assert!(equal.starts_with("All addresses are equally fast") && is_ok, "{equal}");
        let broken = || Some(SampleError::Connect(io::ErrorKind::ConnectionRefused.into()));
        let one = vec![measured(1, &[50; 5], None), measured(2, &[1, 1], broken())];
        let (one, is_ok) = conclude(one);
        assert_eq!((one.as_str(), is_ok), ("Only one address could be measured.", false));
        let host = host(vec![measured(1, &[], broken())]);
        let table = host.table();
        assert!(table.contains("192.0.2.1 failed: no connection: connection refused\n"), "{table}");
        assert!(table.ends_with("No address could be measured.\n\n"), "{table}");
        assert_eq!(to_json(&[host])["latency"][0]["addresses"][0]["tls_ms"], Value::Null);
    }
}
