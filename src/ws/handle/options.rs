//! What a handle may be told: bounds, pace, policy, and who asks.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{Credential, CredentialSource},
    ws::{FeedMetrics, host_cooldown::Hosts, policy::ReconnectPolicy},
};

/// How a handle behaves. Everything has a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many messages wait for the owner before the oldest are dropped and counted.
    pub channel_capacity: usize,
    /// How many bytes of messages wait for the owner before the oldest are dropped and counted.
    pub channel_bytes: usize,
    /// How many messages of the owner's wait to be sent before a call is refused.
    pub command_capacity: usize,
    /// How many topics can be subscribed to at once.
    pub topics_max: usize,
    /// How long between two subscriptions after a reconnect; zero: all at once.
    pub replay_pace: Duration,
    /// When to dial again.
    pub policy: ReconnectPolicy,
    /// What the connection is called in lines and by [`Source::name`](crate::ws::source::Source).
    pub name: String,
    /// The `Origin` header of the upgrade.
    pub origin: Option<String>,
    /// The `User-Agent` header of the upgrade.
    pub user_agent: Option<String>,
    /// The `Cookie` header of the upgrade.
    pub credential: Option<Credential>,
    /// Where a fresh credential comes from when the old one was refused.
    pub credential_source: Option<CredentialSource>,
    /// The hosts whose circuit breakers it shares.
    pub hosts: Hosts,
    /// What can be seen of it from elsewhere.
    pub taps: Arc<FeedMetrics>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            channel_capacity: 10_000,
            channel_bytes: 64 * 1024 * 1024,
            command_capacity: 256,
            topics_max: 1_024,
            replay_pace: Duration::ZERO,
            policy: ReconnectPolicy::default(),
            name: String::new(),
            origin: None,
            user_agent: Some(crate::config::USER_AGENT.to_owned()),
            credential: None,
            credential_source: None,
            hosts: Hosts::default(),
            taps: Arc::default(),
        }
    }
}

/// Sets one option after the other: `Options::builder().name("x").replay_pace(…).build()`.
#[derive(Clone, Debug, Default)]
pub struct OptionsBuilder(Options);

impl Options {
    /// Every option at its default, to be changed one by one.
    pub fn builder() -> OptionsBuilder {
        OptionsBuilder::default()
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)?) => {
        impl OptionsBuilder {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, $name: $kind) -> Self {
                    self.0.$name = $name;
                    self
                }
            )*

            /// The options.
            pub fn build(self) -> Options {
                self.0
            }
        }
    };
}

setters! {
    /// Sets [`Options::channel_capacity`].
    channel_capacity: usize,
    /// Sets [`Options::channel_bytes`].
    channel_bytes: usize,
    /// Sets [`Options::command_capacity`].
    command_capacity: usize,
    /// Sets [`Options::topics_max`].
    topics_max: usize,
    /// Sets [`Options::replay_pace`].
    replay_pace: Duration,
    /// Sets [`Options::policy`].
    policy: ReconnectPolicy,
    /// Sets [`Options::name`].
    name: String,
    /// Sets [`Options::origin`].
    origin: Option<String>,
    /// Sets [`Options::user_agent`].
    user_agent: Option<String>,
    /// Sets [`Options::credential`].
    credential: Option<Credential>,
    /// Sets [`Options::credential_source`].
    credential_source: Option<CredentialSource>,
    /// Sets [`Options::hosts`].
    hosts: Hosts,
    /// Sets [`Options::taps`].
    taps: Arc<FeedMetrics>,
}
