//! Latency of each address of a host name: TCP connect, TLS handshake, and one request.
//!
//! Every sample opens a connection, writes one request without side effects, waits for the first
//! byte of the response and closes the connection. The addresses take turns, so that a change of
//! the network affects all of them. Their number, the samples and the time are bounded.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::{
    deadline, dial,
    tls::{self, Tls, TlsError},
};
use crate::config::endpoint::Endpoint;

/// Number of samples per address, each with a connection of its own.
pub const SAMPLES: u32 = 5;

/// Maximum time of one sample.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time after which no further sample begins.
const MEASURE_MAX: Duration = Duration::from_secs(60);

/// Minimum time by which an address must be faster than another one, beside a fifth: less is noise.
const FASTER_BY_MIN: Duration = Duration::from_millis(1);

/// Server to measure, at every address of its host.
#[derive(Clone, Copy, Debug)]
pub struct LatencyTarget<'a> {
    pub endpoint: &'a Endpoint,
    pub tls: &'a Tls,
    /// Complete HTTP request without side effects.
    pub request: &'a [u8],
}

/// Durations of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    pub connect: Duration,
    /// `None` for a connection without TLS.
    pub tls: Option<Duration>,
    /// From the write of the request to the first byte of the response.
    pub round_trip: Duration,
}

/// Cause of a failed sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error(transparent)]
    Name(#[from] TlsError),
    #[error("no TLS handshake")]
    Tls(#[source] io::Error),
    #[error("no response")]
    Request(#[source] io::Error),
    #[error("not finished within {} s", SAMPLE_TIMEOUT.as_secs())]
    Late,
}

/// Samples of one address.
#[derive(Debug)]
pub struct MeasuredAddress {
    pub address: SocketAddr,
    pub samples: Vec<LatencySample>,
    /// Error that ended the samples of this address.
    pub error: Option<SampleError>,
}

/// Median and extremes of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySpread {
    pub p50: Duration,
    pub min: Duration,
    pub max: Duration,
}

impl LatencySpread {
    /// Returns `None` without values.
    pub fn of(values: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut values: Vec<Duration> = values.into_iter().collect();
        values.sort_unstable();
        let p50 = *values.get(values.len().saturating_sub(1) / 2)?;
        Some(Self { p50, min: *values.first()?, max: *values.last()? })
    }
}

impl MeasuredAddress {
    pub fn connect(&self) -> Option<LatencySpread> {
        LatencySpread::of(self.samples.iter().map(|sample| sample.connect))
    }

    pub fn tls(&self) -> Option<LatencySpread> {
        LatencySpread::of(self.samples.iter().filter_map(|sample| sample.tls))
    }

    pub fn round_trip(&self) -> Option<LatencySpread> {
        LatencySpread::of(self.samples.iter().map(|sample| sample.round_trip))
    }

    /// Returns the median of the round trip; `None` if a sample failed.
    pub fn usable_round_trip(&self) -> Option<Duration> {
        self.round_trip().filter(|_spread| self.error.is_none()).map(|spread| spread.p50)
    }
}

/// Returns `true` if a latency is below another one by more than a fifth and [`FASTER_BY_MIN`].
pub fn is_faster(latency: Duration, than: Duration) -> bool {
    let saved = than.saturating_sub(latency);
    saved > FASTER_BY_MIN && saved > than / 5
}

/// Measures each address with `samples` connections. An address that fails once is not dialed
/// again.
///
/// # Cancel safety
///
/// Safe: open connections are closed.
pub async fn measure(
    target: LatencyTarget<'_>,
    addresses: &[SocketAddr],
    samples: u32,
) -> Vec<MeasuredAddress> {
    let started = Instant::now();
    let new = |address: &SocketAddr| MeasuredAddress {
        address: *address,
        samples: Vec::new(),
        error: None,
    };
    let mut measured: Vec<MeasuredAddress> = addresses.iter().map(new).collect();
    for _round in 0..samples {
        for address in measured.iter_mut().filter(|address| address.error.is_none()) {
            if started.elapsed() >= MEASURE_MAX {
                return measured;
            }
            match deadline::timeout(SAMPLE_TIMEOUT, sample(target, address.address)).await {
                Ok(Ok(sample)) => address.samples.push(sample),
                Ok(Err(error)) => address.error = Some(error),
                Err(deadline::Late) => address.error = Some(SampleError::Late),
            }
        }
    }
    measured
}

async fn sample(
    LatencyTarget { endpoint, tls, request }: LatencyTarget<'_>,
    address: SocketAddr,
) -> Result<LatencySample, SampleError> {
    let begun = Instant::now();
    let stream = dial::tcp_to(address).await.map_err(SampleError::Connect)?;
    let connected = Instant::now();
    let connect = connected.saturating_duration_since(begun);
    if !endpoint.is_tls() {
        let round_trip = exchange(stream, request).await.map_err(SampleError::Request)?;
        return Ok(LatencySample { connect, tls: None, round_trip });
    }
    let name = tls::server_name(endpoint.host())?;
    let connector = TlsConnector::from(tls.config());
    let stream = connector.connect(name, stream).await.map_err(SampleError::Tls)?;
    let tls = Some(connected.elapsed());
    let round_trip = exchange(stream, request).await.map_err(SampleError::Request)?;
    Ok(LatencySample { connect, tls, round_trip })
}

/// Returns the time from the write of the request to the first byte of the response.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> io::Result<Duration> {
    let written = Instant::now();
    stream.write_all(request).await?;
    stream.flush().await?;
    stream.read_u8().await?;
    Ok(written.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_spread_is_the_median_between_the_extremes() {
        let spread = |ms: &[u32]| LatencySpread::of(ms.iter().map(|ms| *ms * MS));
        assert_eq!(spread(&[]), None);
        let of = |p50: u32, min: u32, max: u32| {
            Some(LatencySpread { p50: p50 * MS, min: min * MS, max: max * MS })
        };
        assert_eq!(spread(&[7]), of(7, 7, 7));
        assert_eq!(spread(&[9, 1, 5, 90, 4]), of(5, 1, 90));
        assert_eq!(spread(&[4, 1]), of(1, 1, 4));
    }

    #[test]
    fn faster_needs_more_than_a_fifth_and_more_than_a_millisecond() {
        let us = Duration::from_micros;
        assert!(!is_faster(us(80_000), us(100_000)), "exactly a fifth");
        assert!(is_faster(us(79_999), us(100_000)));
        assert!(!is_faster(us(1_000), us(2_000)), "exactly a millisecond");
        assert!(is_faster(us(999), us(2_000)));
        assert!(!is_faster(us(100), us(900)), "a fraction of a millisecond");
        assert!(!is_faster(us(5_000), us(5_000)) && !is_faster(us(9_000), us(5_000)));
    }
}
