//! Settings of the dashboard: section `[dashboard]` and `SNIPER_DASHBOARD_TOKEN`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::secret::Secret;

/// Address of `sniper run --dashboard` without `listen`.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8_098);

/// Minimum length of a token that the user sets, in bytes.
pub const TOKEN_BYTES_MIN: usize = 32;

/// Settings of the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DashboardConfig {
    /// Address of the page; `None` without one.
    pub listen: Option<SocketAddr>,
    /// Permits an address that other machines can reach. Reading then needs the token, too.
    pub allow_remote: bool,
    /// Values of the `Host` header that are accepted besides those of the address.
    pub allowed_hosts: Vec<String>,
    /// Token of the user; `None` for a generated one.
    pub token: Option<Secret>,
}

impl DashboardConfig {
    /// Returns `true` if other machines can reach the page.
    pub fn is_remote(&self) -> bool {
        self.listen.is_some_and(|listen| !listen.ip().is_loopback())
    }
}
