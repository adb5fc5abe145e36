//! Opens TCP connections: DNS on every dial, several addresses raced, Nagle's algorithm off.
//!
//! A name is resolved on each dial, so that the next dial finds a server that moved. Its addresses
//! are tried in turn with a head start for each, both families alternating: one dead address costs
//! [`HEAD_START`], not the whole deadline. The caller sets the deadline.
//!
//! Without TLS only loopback addresses are dialed, under any host name ([`AllowedAddresses`]): a
//! name such as `localhost` can resolve to another machine, and a credential would be sent to it
//! unencrypted. Every outgoing connection of the program resolves its host name here.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::net::{TcpStream, lookup_host};

use crate::config::{endpoint::Endpoint, shared::DatabaseUrl};

/// Time for which an address is tried alone before the next one is tried too.
pub const HEAD_START: Duration = Duration::from_millis(250);

/// Maximum number of addresses per name.
const ADDRESSES_MAX: usize = 8;

/// Cause of a failed dial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the host name {host} could not be looked up; check it and the network")]
    Lookup { host: String, source: io::Error },
    #[error("the host name has no address; check it")]
    NoAddress,
    /// Without TLS, and no address of the name is a loopback address. No connection was attempted.
    #[error(
        "connections without TLS are limited to loopback addresses, but the host name resolves to {address}; use wss:// or https://, or correct the name's entry in the hosts file"
    )]
    NotLoopback {
        /// First address of the name.
        address: IpAddr,
    },
    /// Every address failed; the source is the last error.
    #[error("the server could not be reached; check the network")]
    Connect(#[source] io::Error),
}

/// Addresses that may be dialed: any with TLS, and loopback addresses only without. The field is
/// private, so that a value can only come from a configured address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedAddresses {
    is_tls: bool,
}

impl AllowedAddresses {
    /// Returns the addresses that a connection to this endpoint may use.
    pub const fn of_endpoint(endpoint: &Endpoint) -> Self {
        Self { is_tls: endpoint.is_tls() }
    }

    /// Returns the addresses that a connection to this database may use.
    pub const fn of_database(url: &DatabaseUrl) -> Self {
        Self { is_tls: url.is_tls }
    }

    /// Returns the addresses that may be dialed, at most [`ADDRESSES_MAX`].
    ///
    /// # Errors
    ///
    /// Returns [`DialError::NoAddress`] if there are no addresses, and [`DialError::NotLoopback`]
    /// if none may be dialed.
    pub fn permitted(
        self,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let mut addresses = addresses.peekable();
        let address = addresses.peek().ok_or(DialError::NoAddress)?.ip();
        // An IPv4-mapped IPv6 address is dialed as IPv4.
        let permits = |at: &SocketAddr| self.is_tls || at.ip().to_canonical().is_loopback();
        let permitted: Vec<_> = addresses.filter(permits).take(ADDRESSES_MAX).collect();
        if permitted.is_empty() { Err(DialError::NotLoopback { address }) } else { Ok(permitted) }
    }
}

/// Which address of a host name is tried first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressOrder {
    /// Order of the system.
    #[default]
    System,
    /// This address first, if the name has it.
    Prefer(IpAddr),
    /// This address last.
    Avoid(IpAddr),
}

impl AddressOrder {
    fn apply(self, addresses: &mut VecDeque<SocketAddr>) {
        let is_last = |address: &SocketAddr| match self {
            Self::System => false,
            Self::Prefer(first) => address.ip() != first,
            Self::Avoid(last) => address.ip() == last,
        };
        addresses.make_contiguous().sort_by_key(is_last);
    }
}

/// Resolves the host name of an endpoint to the addresses that may be dialed.
///
/// # Errors
///
/// Returns a [`DialError`] if there is none.
///
/// # Cancel safety
///
/// Safe: it only reads.
pub async fn lookup(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, DialError> {
    lookup_name(endpoint.host(), endpoint.port(), AllowedAddresses::of_endpoint(endpoint)).await
}

/// Does the same as [`lookup`] for a host name without an endpoint.
///
/// # Errors
///
/// Returns the same as [`lookup`].
///
/// # Cancel safety
///
/// Safe: it only reads.
pub async fn lookup_name(
    host: &str,
    port: u16,
    allowed: AllowedAddresses,
) -> Result<Vec<SocketAddr>, DialError> {
    let addresses = lookup_host((host, port)).await;
    let failed = |source| DialError::Lookup { host: host.to_owned(), source };
    allowed.permitted(addresses.map_err(failed)?)
}

/// Connects to one of the addresses of an endpoint's host.
///
/// # Errors
///
/// Returns a [`DialError`] for the failed step.
///
/// # Cancel safety
///
/// Safe: pending connections are closed.
pub async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, DialError> {
    tcp_in_order(endpoint, AddressOrder::System).await
}

/// Does the same as [`tcp`], with this order of the addresses.
///
/// # Errors
///
/// Returns the same as [`tcp`].
///
/// # Cancel safety
///
/// Safe: pending connections are closed.
pub async fn tcp_in_order(
    endpoint: &Endpoint,
    order: AddressOrder,
) -> Result<TcpStream, DialError> {
    let mut addresses = interleave_families(lookup(endpoint).await?.into_iter());
    order.apply(&mut addresses);
    race(addresses).await
}

/// Connects to one address.
///
/// # Errors
///
/// Returns the error of the system.
///
/// # Cancel safety
///
/// Safe: a pending connection is closed.
pub async fn tcp_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects to the first address that accepts, each with a head start of [`HEAD_START`].
///
/// # Errors
///
/// Returns [`DialError::NoAddress`] for an empty list, otherwise the last error.
///
/// # Cancel safety
///
/// Safe: pending connections are closed.
pub async fn race(mut addresses: VecDeque<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut pending = FuturesUnordered::new();
    let mut last = DialError::NoAddress;
    loop {
        if let Some(address) = addresses.pop_front() {
            pending.push(TcpStream::connect(address));
        } else if pending.is_empty() {
            return Err(last);
        }
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::select! {
            biased;
            Some(done) = pending.next() => match done {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(DialError::Connect)?;
                    return Ok(stream);
                }
                Err(error) => last = DialError::Connect(error),
            },
            () = head_start, if !addresses.is_empty() => {}
        }
    }
}

/// Alternates the address families, starting with the system's first choice.
fn interleave_families(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
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
    use crate::config::endpoint::Scheme;

    #[track_caller]
    fn check(given: &[&str], expected: &[&str]) {
        let given = given.iter().map(|text| text.parse().unwrap());
        let text: Vec<String> =
            interleave_families(given).iter().map(SocketAddr::to_string).collect();
        assert_eq!(text, expected);
    }

    const LOOPBACK: AllowedAddresses = AllowedAddresses { is_tls: false };

    fn permitted(allowed: AllowedAddresses, given: &[&str]) -> Result<Vec<String>, String> {
        let addresses = allowed.permitted(given.iter().map(|text| text.parse().unwrap()));
        let text = |list: Vec<SocketAddr>| list.iter().map(SocketAddr::to_string).collect();
        addresses.map(text).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn without_tls_only_loopback_addresses_are_dialed() {
        let mixed = ["192.0.2.1:80", "127.0.0.1:80", "[2001:db8::1]:80", "[::1]:80", "0.0.0.0:80"];
        let kept = permitted(LOOPBACK, &mixed).unwrap();
        assert_eq!(kept, ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(permitted(AllowedAddresses { is_tls: true }, &mixed).unwrap(), mixed);
        let mapped = ["[::ffff:127.0.0.1]:80", "[::ffff:192.0.2.1]:80", "127.9.9.9:80"];
        let kept = permitted(LOOPBACK, &mapped).unwrap();
        assert_eq!(kept, ["[::ffff:127.0.0.1]:80", "127.9.9.9:80"]);
        for other in ["192.0.2.1:80", "10.0.0.1:80", "0.0.0.0:80", "[::]:80", "[fe80::1]:80"] {
            let error = permitted(LOOPBACK, &[other]).unwrap_err();
            assert!(error.starts_with("NotLoopback"), "{other}: {error}");
        }
        assert_eq!(permitted(LOOPBACK, &[]).unwrap_err(), "NoAddress");
    }

    #[test]
    fn only_an_address_with_tls_reaches_other_machines() {
        let remote = ["192.0.2.1:80"];
        for (address, scheme, is_tls) in [
            ("ws://localhost:1/", Scheme::WebSocket, false),
            ("wss://localhost:1/", Scheme::WebSocket, true),
            ("http://localhost:1/", Scheme::Http, false),
            ("https://localhost:1/", Scheme::Http, true),
        ] {
            let allowed = AllowedAddresses::of_endpoint(&Endpoint::parse(address, scheme).unwrap());
            assert_eq!(permitted(allowed, &remote).is_ok(), is_tls, "{address}");
        }
        for (parameter, is_tls) in
            [("", false), ("?sslmode=disable", false), ("?sslmode=require", true)]
        {
            let url = DatabaseUrl::parse(&format!("postgres://me@localhost/b{parameter}")).unwrap();
            assert_eq!(
                permitted(AllowedAddresses::of_database(&url), &remote).is_ok(),
                is_tls,
                "{parameter}"
            );
        }
    }

    #[test]
    fn the_number_of_tried_addresses_is_bounded() {
        let many: Vec<String> = (0..20).map(|host| format!("127.0.0.{host}:80")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(permitted(LOOPBACK, &many).unwrap().len(), ADDRESSES_MAX);
    }

    #[test]
    fn address_families_alternate_and_the_systems_choice_comes_first() {
        check(
            &["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1"],
            &["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1"],
        );
        check(&["127.0.0.1:1", "127.0.0.2:1"], &["127.0.0.1:1", "127.0.0.2:1"]);
        check(&[], &[]);
    }

    #[test]
    fn an_address_is_moved_to_the_front_or_to_the_end_and_the_others_keep_their_order() {
        let ordered = |order: AddressOrder| {
            let all = ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"];
            let mut all: VecDeque<SocketAddr> = all.map(|text| text.parse().unwrap()).into();
            order.apply(&mut all);
            all.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")
        };
        let ip = |text: &str| text.parse().unwrap();
        assert_eq!(ordered(AddressOrder::System), "127.0.0.1 127.0.0.2 127.0.0.3");
        let order = AddressOrder::Prefer(ip("127.0.0.2"));
        assert_eq!(ordered(order), "127.0.0.2 127.0.0.1 127.0.0.3");
        let order = AddressOrder::Avoid(ip("127.0.0.1"));
        assert_eq!(ordered(order), "127.0.0.2 127.0.0.3 127.0.0.1");
        for order in [AddressOrder::Prefer(ip("::1")), AddressOrder::Avoid(ip("::1"))] {
            assert_eq!(ordered(order), ordered(AddressOrder::System), "not an address of the name");
        }
    }
}
