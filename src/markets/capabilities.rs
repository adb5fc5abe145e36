//! Properties of a marketplace, as plain data.

use crate::net::http_message::Auth;

/// Properties of a marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Name in commands and recordings, in lower case.
    pub name: &'static str,
    /// `true` if one id may be listed again at another price.
    pub reprices: bool,
    /// `true` if an order carries an own id, by which it can be looked up.
    pub has_own_order_id: bool,
    /// Part of a request in which the credential is expected.
    pub auth: Auth,
    pub environment: EnvironmentNames,
}

/// Names of the environment variables of a marketplace, for advice to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvironmentNames {
    /// Address of the feed.
    pub feed: &'static str,
    /// Address for account reads and orders.
    pub http: &'static str,
    pub credential: &'static str,
    /// Whole `Cookie` header; `None` if the credential is a key.
    pub cookie: Option<&'static str>,
}

impl EnvironmentNames {
    /// Words that replace the names where no marketplace is known.
    pub const UNKNOWN: Self = Self {
        feed: "the address of the feed",
        http: "the address of the API",
        credential: "the credential",
        cookie: None,
    };
}
