//! An address on the network, taken apart and checked: where to dial, and what to ask for there.

use std::fmt;

/// Which protocol an address speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `ws://` or `wss://`
    WebSocket,
    /// `http://` or `https://`
    Http,
}

/// A checked address. Plain text (`ws://`, `http://`) exists for loopback only, so a credential
/// can never travel unencrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Why a text is not an address that this program will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Another scheme, or none.
    #[error("must begin with {expected}")]
    Scheme {
        /// The schemes that fit.
        expected: &'static str,
    },
    /// No host, or one with characters that cannot stand there.
    #[error("has no usable host name")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// It holds a user name or password.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// It holds white space, control characters or a fragment.
    #[error("holds a character that cannot stand in an address")]
    Character,
    /// Plain text to a host that is not this machine.
    #[error(
        "is unencrypted; plain ws:// and http:// are accepted for this machine only (127.0.0.1, [::1], localhost)"
    )]
    PlainText,
}

impl Endpoint {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// An [`EndpointError`] that says what is wrong with it.
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

    /// Whether the connection is encrypted.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The host name or address, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path with its query, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What goes into a `Host` header: the port only where it is not the usual one.
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
        let scheme = match (self.scheme, self.tls) {
            (Scheme::WebSocket, true) => "wss",
            (Scheme::WebSocket, false) => "ws",
            (Scheme::Http, true) => "https",
            (Scheme::Http, false) => "http",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), EndpointError> {
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

fn is_loopback(host: &str) -> bool {
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
    fn addresses_are_taken_apart() {
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
    fn plain_text_is_for_this_machine_only() {
        check("ws://example.com/", Scheme::WebSocket, Err(EndpointError::PlainText));
        check("http://10.0.0.1/", Scheme::Http, Err(EndpointError::PlainText));
        check("http://127.0.0.1.example.com/", Scheme::Http, Err(EndpointError::PlainText));
        check("http://localhost.example.com/", Scheme::Http, Err(EndpointError::PlainText));
    }

    #[test]
    fn wrong_addresses_are_refused_with_their_reason() {
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
