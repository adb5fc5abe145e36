//! Validated network addresses: scheme, host, port and path.

use std::fmt;

/// Protocol of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `ws://` or `wss://`
    WebSocket,
    /// `http://` or `https://`
    Http,
}

/// Validated address. `ws://` and `http://` are accepted for loopback only, so a credential is
/// never sent unencrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Cause of a rejected address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Missing or unsupported scheme.
    #[error("must begin with {expected}")]
    Scheme { expected: &'static str },
    /// Missing host, or one with invalid characters.
    #[error("has no usable host name")]
    Host,
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    #[error("must not contain a user name or password")]
    UserInfo,
    /// White space, a control character or a fragment.
    #[error("contains a character that is not allowed in an address")]
    Character,
    /// Unencrypted address that is not loopback.
    #[error(
        "is unencrypted; plain ws:// and http:// are accepted for this machine only (127.0.0.1, [::1], localhost)"
    )]
    PlainText,
}

impl Endpoint {
    /// Parses and validates an address.
    ///
    /// # Errors
    ///
    /// Returns an [`EndpointError`] if the address is invalid or unencrypted.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, EndpointError> {
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'#' | b'"' | b'\\'))
        {
            return Err(EndpointError::Character);
        }
        let (secure, plain, expected) = match scheme {
            Scheme::WebSocket => ("wss://", "ws://", "wss://"),
            Scheme::Http => ("https://", "http://", "https://"),
        };
        let (tls, rest) = if let Some(rest) = text.strip_prefix(secure) {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix(plain) {
            (false, rest)
        } else {
            return Err(EndpointError::Scheme { expected });
        };
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(path_at).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(EndpointError::Port)?,
            None if tls => 443,
            None => 80,
        };
        if !tls && !is_loopback(host) {
            return Err(EndpointError::PlainText);
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { scheme, tls, host: host.to_ascii_lowercase(), port, path })
    }

    /// Returns `true` for `wss://` and `https://`.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns `true` if the host is this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Returns the host name or IP address, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns path and query, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns scheme and host, without a path.
    pub fn origin(&self) -> String {
        let scheme = match (self.scheme, self.tls) {
            (Scheme::WebSocket, true) => "wss",
            (Scheme::WebSocket, false) => "ws",
            (Scheme::Http, true) => "https",
            (Scheme::Http, false) => "http",
        };
        format!("{scheme}://{}", self.authority())
    }

    /// Returns the value of the `Host` header: without the port if it is the default of the scheme.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

pub(super) fn split_port(authority: &str) -> Result<(&str, Option<&str>), EndpointError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(EndpointError::Host)?;
            let host = host.parse::<std::net::Ipv6Addr>().map(|_valid| host);
            let host = host.map_err(|_not_an_address| EndpointError::Host)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(EndpointError::Port),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let usable =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(usable) {
        return Err(EndpointError::Host);
    }
    Ok((host, port))
}

pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, scheme: Scheme, expected: Result<&str, EndpointError>) {
        let shown = Endpoint::parse(text, scheme).map(|endpoint| endpoint.to_string());
        assert_eq!(shown.as_deref().map_err(|error| *error), expected, "text: {text:?}");
    }

    #[test]
    fn addresses_are_parsed() {
        check(
            "wss://router.csgoroll.com/ws",
            Scheme::WebSocket,
            Ok("wss://router.csgoroll.com/ws"),
        );
        check("https://Example.com:443", Scheme::Http, Ok("https://example.com/"));
        check("ws://127.0.0.1:8099/ws?a=b", Scheme::WebSocket, Ok("ws://127.0.0.1:8099/ws?a=b"));
        check("http://[::1]:80/graphql", Scheme::Http, Ok("http://[::1]/graphql"));
    }

    #[test]
    fn unencrypted_addresses_are_accepted_for_loopback_only() {
        check("ws://example.com/", Scheme::WebSocket, Err(EndpointError::PlainText));
        check("http://10.0.0.1/", Scheme::Http, Err(EndpointError::PlainText));
        check("http://127.0.0.1.example.com/", Scheme::Http, Err(EndpointError::PlainText));
        check("http://localhost.example.com/", Scheme::Http, Err(EndpointError::PlainText));
    }

    #[test]
    fn invalid_addresses_are_rejected_with_their_cause() {
        let ws = |text, error| check(text, Scheme::WebSocket, Err(error));
        ws("", EndpointError::Scheme { expected: "wss://" });
        ws("https://example.com", EndpointError::Scheme { expected: "wss://" });
        ws("wss://", EndpointError::Host);
        ws("wss://:443/", EndpointError::Host);
        ws("wss://[::1/", EndpointError::Host);
        ws("wss://[nonsense]/", EndpointError::Host);
        ws("wss://example.com:0/", EndpointError::Port);
        ws("wss://example.com:http/", EndpointError::Port);
        ws("wss://example.com:70000/", EndpointError::Port);
        ws("wss://user:pass@example.com/", EndpointError::UserInfo);
        ws("wss://example.com/a b", EndpointError::Character);
        ws("wss://example.com/\r\nX: y", EndpointError::Character);
    }
}
