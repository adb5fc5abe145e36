//! Options of a handle.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{Credential, CredentialSource},
    protocol::Subscription,
    ws::{FeedMetrics, SettingNames, host_cooldown::Hosts, policy::ReconnectPolicy},
};

/// Options of a handle, each with a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of queued messages before the oldest are dropped and counted. With zero, the
    /// messages only reach the recorder of `metrics`, and the notices are still queued.
    pub channel_capacity: usize,
    /// Maximum size of the queued messages in bytes before the oldest are dropped and counted.
    pub channel_bytes: usize,
    /// Maximum number of texts that wait to be sent.
    pub command_capacity: usize,
    /// Topics that every connection begins with. An optional one does not show whether the feed
    /// works: its silence is normal, and its end is no gap.
    pub topics: Vec<Subscription>,
    /// Maximum number of subscribed topics.
    pub topics_max: usize,
    /// Delay between two subscriptions after a reconnect; zero subscribes at once.
    pub replay_pace: Duration,
    pub policy: ReconnectPolicy,
    /// Name of the connection in log lines and of
    /// [`EventSource::name`](crate::ws::source::EventSource::name).
    pub name: String,
    /// The `Origin` header of the upgrade.
    pub origin: Option<String>,
    /// The `User-Agent` header of the upgrade.
    pub user_agent: Option<String>,
    /// The `Cookie` header of the upgrade.
    pub credential: Option<Credential>,
    /// Source of a new credential after a rejection.
    pub credential_source: Option<CredentialSource>,
    /// Names of the settings in advice.
    pub setting_names: SettingNames,
    /// Hosts whose circuit breakers are shared.
    pub hosts: Hosts,
    pub metrics: Arc<FeedMetrics>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            channel_capacity: 10_000,
            channel_bytes: 64 * 1024 * 1024,
            command_capacity: 256,
            topics: Vec::new(),
            topics_max: 1_024,
            replay_pace: Duration::ZERO,
            policy: ReconnectPolicy::default(),
            name: String::new(),
            origin: None,
            user_agent: Some(crate::config::USER_AGENT.to_owned()),
            credential: None,
            credential_source: None,
            setting_names: SettingNames::CALLER,
            hosts: Hosts::default(),
            metrics: Arc::default(),
        }
    }
}

/// Builder of options: `Options::builder().name("x").replay_pace(…).build()`.
#[derive(Clone, Debug, Default)]
pub struct OptionsBuilder(Options);

impl Options {
    /// Returns a builder with all defaults.
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
    /// Sets [`Options::topics`].
    topics: Vec<Subscription>,
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
    /// Sets [`Options::setting_names`].
    setting_names: SettingNames,
    /// Sets [`Options::hosts`].
    hosts: Hosts,
    /// Sets [`Options::metrics`].
    metrics: Arc<FeedMetrics>,
}
