//! Opening a TCP connection: DNS asked every time, several addresses raced, no Nagle.
//!
//! A name is looked up afresh on each dial, so that a moved server is found by the next one. Its
//! addresses are tried in turn with a head start for each, both families alternating: one dead
//! address costs [`HEAD_START`], not the whole deadline. The deadline itself is the caller's, who
//! has more to do within it.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::net::{TcpStream, lookup_host};

/// How long an address is tried alone before the next one joins in.
pub const HEAD_START: Duration = Duration::from_millis(250);

/// How many addresses of one name are tried.
pub const ADDRESSES_MAX: usize = 8;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be looked up.
    #[error("the host name could not be looked up; check the address and the network")]
    Lookup(#[source] io::Error),
    /// The name has no address.
    #[error("the host name has no address; check it")]
    NoAddress,
    /// Every address failed; this is what the last one said.
    #[error("the server could not be reached; check the network")]
    Connect(#[source] io::Error),
}

/// Connects to one of the addresses of `host`.
///
/// # Errors
///
/// A [`DialError`] that says how far it got.
///
/// # Cancel safety
///
/// Safe: whatever was under way is closed.
pub async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = lookup_host((host, port)).await.map_err(DialError::Lookup)?;
    race(in_order(addresses)).await
}

/// Connects to the first of these that answers, each with a head start of [`HEAD_START`].
///
/// # Errors
///
/// [`DialError::NoAddress`] if there is none, else what the last one said.
///
/// # Cancel safety
///
/// Safe: whatever was under way is closed.
pub async fn race(mut waiting: VecDeque<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut under_way = FuturesUnordered::new();
    let mut last = DialError::NoAddress;
    loop {
        if let Some(address) = waiting.pop_front() {
            under_way.push(TcpStream::connect(address));
        } else if under_way.is_empty() {
            return Err(last);
        }
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::select! {
            biased;
            Some(done) = under_way.next() => match done {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(DialError::Connect)?;
                    return Ok(stream);
                }
                Err(error) => last = DialError::Connect(error),
            },
            () = head_start, if !waiting.is_empty() => {}
        }
    }
}

/// The families in turn, the system's first choice first.
fn in_order(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let all: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
    let six_first = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        all.into_iter().partition(|address| address.is_ipv6() == six_first);
    let mut ordered = VecDeque::with_capacity(ADDRESSES_MAX);
    while !first.is_empty() || !second.is_empty() {
        ordered.extend(first.pop_front());
        ordered.extend(second.pop_front());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &[&str], expected: &[&str]) {
        let given = given.iter().map(|text| text.parse().unwrap());
        let shown: Vec<String> = in_order(given).iter().map(SocketAddr::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_families_alternate_and_the_systems_choice_comes_first() {
        check(
            &["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1"],
            &["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1"],
        );
        check(&["127.0.0.1:1", "127.0.0.2:1"], &["127.0.0.1:1", "127.0.0.2:1"]);
        check(&[], &[]);
    }
}
