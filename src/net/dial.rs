//! Opening a TCP connection: DNS asked every time, several addresses raced, no Nagle.
//!
//! A name is looked up afresh on each dial, so that a moved server is found by the next one. Its
//! addresses are tried in turn with a head start for each, both families alternating: one dead
//! address costs [`HEAD_START`], not the whole deadline. The deadline itself is the caller's, who
//! has more to do within it.
//!
//! Without TLS only loopback addresses are dialled, whatever name they were found under
//! ([`Reach`]): a name such as `localhost` can resolve to another machine, and a credential would be
//! sent to it unencrypted. Every way out of the program looks its names up here.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::net::{TcpStream, lookup_host};

use crate::config::endpoint::Endpoint;

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
    /// Without TLS, and none of the name's addresses is a loopback address. Nothing was dialled.
    #[error(
        "without TLS only loopback addresses are connected to, and the host name resolves to {address}; use wss:// or https://, or correct the name's entry in the hosts file"
    )]
    NotLoopback {
        /// The first address of the name.
        address: IpAddr,
    },
    /// Every address failed; this is what the last one said.
    #[error("the server could not be reached; check the network")]
    Connect(#[source] io::Error),
}

/// Which addresses may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any: the connection is encrypted.
    Anywhere,
    /// Loopback addresses alone: it is not.
    Loopback,
}

impl Reach {
    /// How far a connection with or without TLS reaches.
    pub const fn of(is_tls: bool) -> Self {
        if is_tls { Self::Anywhere } else { Self::Loopback }
    }

    /// Those of a name's addresses that may be dialled, at most [`ADDRESSES_MAX`].
    ///
    /// # Errors
    ///
    /// [`DialError::NoAddress`] if the name has none, [`DialError::NotLoopback`] if none of them may.
    pub fn within(
        self,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let mut addresses = addresses.peekable();
        let address = addresses.peek().ok_or(DialError::NoAddress)?.ip();
        let permits = |address: &SocketAddr| match self {
            Self::Anywhere => true,
            // An IPv4 address in IPv6 form is dialled as IPv4.
            Self::Loopback => address.ip().to_canonical().is_loopback(),
        };
        let permitted: Vec<_> = addresses.filter(permits).take(ADDRESSES_MAX).collect();
        if permitted.is_empty() { Err(DialError::NotLoopback { address }) } else { Ok(permitted) }
    }
}

/// The addresses of an endpoint's host that may be dialled.
///
/// # Errors
///
/// A [`DialError`] if there is none.
///
/// # Cancel safety
///
/// Safe: it only asks.
pub async fn lookup(host: &str, port: u16, reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
    reach.within(lookup_host((host, port)).await.map_err(DialError::Lookup)?)
}

/// Connects to one of the addresses of an endpoint's host.
///
/// # Errors
///
/// A [`DialError`] that says how far it got.
///
/// # Cancel safety
///
/// Safe: whatever was under way is closed.
pub async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, DialError> {
    let reach = Reach::of(endpoint.is_tls());
    let addresses = lookup(endpoint.host(), endpoint.port(), reach).await?;
    race(in_order(addresses.into_iter())).await
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
    let all: Vec<SocketAddr> = addresses.collect();
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

    fn within(reach: Reach, given: &[&str]) -> Result<Vec<String>, String> {
        let addresses = reach.within(given.iter().map(|text| text.parse().unwrap()));
        let shown = |list: Vec<SocketAddr>| list.iter().map(SocketAddr::to_string).collect();
        addresses.map(shown).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn without_tls_only_loopback_addresses_are_dialled_whatever_else_the_name_has() {
        let mixed = ["192.0.2.1:80", "127.0.0.1:80", "[2001:db8::1]:80", "[::1]:80", "0.0.0.0:80"];
        let kept = within(Reach::Loopback, &mixed).unwrap();
        assert_eq!(kept, ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(within(Reach::Anywhere, &mixed).unwrap(), mixed);
        let mapped = ["[::ffff:127.0.0.1]:80", "[::ffff:192.0.2.1]:80", "127.9.9.9:80"];
        let kept = within(Reach::Loopback, &mapped).unwrap();
        assert_eq!(kept, ["[::ffff:127.0.0.1]:80", "127.9.9.9:80"]);
        for other in ["192.0.2.1:80", "10.0.0.1:80", "0.0.0.0:80", "[::]:80", "[fe80::1]:80"] {
            let refused = within(Reach::Loopback, &[other]).unwrap_err();
            assert!(refused.starts_with("NotLoopback"), "{other}: {refused}");
        }
        assert_eq!(within(Reach::Loopback, &[]).unwrap_err(), "NoAddress");
    }

    #[test]
    fn no_more_addresses_are_tried_than_the_bound() {
        let many: Vec<String> = (0..20).map(|host| format!("127.0.0.{host}:80")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(within(Reach::Loopback, &many).unwrap().len(), ADDRESSES_MAX);
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
