//! Settings of alerts: `[[alerts]]`, `[alert_rules]` and `[heartbeat]`.

use std::{fmt, time::Duration};

use super::endpoint::{Endpoint, EndpointError, Scheme};
use crate::{
    domain::alert_kind::{AlertKind, Loudness},
    secret::{self, Secret},
};

/// Minimum length of a part of an address that is masked by itself, in bytes. Shorter parts are
/// words such as `webhooks`.
const SEGMENT_BYTES_MIN: usize = 16;

/// Default of `feed_down_after_s`.
const FEED_DOWN_AFTER: Duration = Duration::from_secs(60);

/// Default of `silent_after_s`.
const SILENT_AFTER: Duration = Duration::from_secs(900);

/// Address of the Telegram Bot API.
pub const TELEGRAM_API: &str = "https://api.telegram.org";

/// Content of `[[alerts]]`, `[alert_rules]` and `[heartbeat]`. Nothing is sent by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertsConfig {
    pub channels: Vec<ChannelConfig>,
    pub rules: AlertRules,
    pub heartbeat: Option<HeartbeatConfig>,
}

/// One `[[alerts]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    pub target: ChannelTarget,
    /// Kinds whose loudness is not the default.
    pub loudness: Vec<(AlertKind, Loudness)>,
}

/// Service that delivers the alerts, and its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelTarget {
    Discord {
        url: SecretUrl,
    },
    Telegram {
        api: Endpoint,
        token: Secret,
        chat_id: String,
    },
    Ntfy {
        /// Address of the topic.
        url: SecretUrl,
        token: Option<Secret>,
    },
    Webhook {
        url: SecretUrl,
        /// Secret of Standard Webhooks: `whsec_` and base64.
        secret: Secret,
    },
}

/// Name of a [`ChannelTarget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    Discord,
    Telegram,
    Ntfy,
    Webhook,
}

/// Address that is a credential: everything after the host is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Endpoint);

/// `[alert_rules]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertRules {
    /// Time without listings after which the feed counts as down.
    pub feed_down_after: Duration,
    /// Time without a listing after which a connected feed that has delivered some counts as down.
    pub silent_after: Duration,
    /// Minute of the local day.
    pub daily_summary_at: u16,
    pub quiet_hours: Option<QuietHours>,
}

/// Local time of day during which nothing is delivered, as minutes of the day. May pass midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    pub from: u16,
    pub until: u16,
}

/// `[heartbeat]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    pub url: SecretUrl,
    pub style: HeartbeatStyle,
    pub every: Duration,
}

/// How a heartbeat reports trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeartbeatStyle {
    /// `POST …/fail` with the reason.
    #[default]
    Healthchecks,
    /// `?status=down&msg=…`.
    Push,
}

/// Eight in the morning, no quiet hours.
impl Default for AlertRules {
    fn default() -> Self {
        Self {
            feed_down_after: FEED_DOWN_AFTER,
            silent_after: SILENT_AFTER,
            daily_summary_at: 8 * 60,
            quiet_hours: None,
        }
    }
}

impl AlertsConfig {
    /// Returns `true` if anything may be sent.
    pub fn is_used(&self) -> bool {
        !self.channels.is_empty() || self.heartbeat.is_some()
    }
}

impl ChannelConfig {
    pub fn loudness(&self, kind: AlertKind) -> Loudness {
        let set = self.loudness.iter().find(|(of, _)| *of == kind);
        set.map_or_else(|| kind.default_loudness(), |(_, loudness)| *loudness)
    }
}

impl ChannelTarget {
    pub const fn kind(&self) -> ChannelKind {
        match self {
            Self::Discord { .. } => ChannelKind::Discord,
            Self::Telegram { .. } => ChannelKind::Telegram,
            Self::Ntfy { .. } => ChannelKind::Ntfy,
            Self::Webhook { .. } => ChannelKind::Webhook,
        }
    }

    /// Returns the server. Its path may be secret.
    pub const fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Discord { url } | Self::Ntfy { url, .. } | Self::Webhook { url, .. } => &url.0,
            Self::Telegram { api, .. } => api,
        }
    }
}

impl ChannelKind {
    pub const ALL: [Self; 4] = [Self::Discord, Self::Telegram, Self::Ntfy, Self::Webhook];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Discord => "discord",
            Self::Telegram => "telegram",
            Self::Ntfy => "ntfy",
            Self::Webhook => "webhook",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl HeartbeatStyle {
    pub const ALL: [Self; 2] = [Self::Healthchecks, Self::Push];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthchecks => "healthchecks",
            Self::Push => "push",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|style| style.name() == name)
    }
}

impl SecretUrl {
    /// Parses an address, and registers its secret parts to be masked in all output.
    ///
    /// # Errors
    ///
    /// Returns an [`EndpointError`] if the address is invalid, or unencrypted and not loopback.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(text.trim(), Scheme::Http)?;
        let path = endpoint.path().split('?').next().unwrap_or_default().trim_matches('/');
        secret::register(path);
        let segments = path.split('/').filter(|segment| SEGMENT_BYTES_MIN <= segment.len());
        segments.for_each(secret::register);
        secret::register_query(endpoint.path());
        Ok(Self(endpoint))
    }

    /// Returns the address, for use on the wire only.
    pub const fn reveal(&self) -> &Endpoint {
        &self.0
    }

    /// Returns `true` if the address has a path and no query.
    pub fn is_topic(&self) -> bool {
        let path = self.0.path();
        !path.trim_matches('/').is_empty() && !path.contains('?')
    }

    /// Returns scheme and host.
    pub fn origin(&self) -> String {
        self.0.origin()
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({}/…)", self.origin())
    }
}

impl QuietHours {
    /// Returns the minutes until the end of the quiet hours, if `minute` of the day is in them.
    pub const fn minutes_left(self, minute: u16) -> Option<u16> {
        const DAY: u16 = 24 * 60;
        let length = (self.until.saturating_add(DAY).saturating_sub(self.from)) % DAY;
        let passed = (minute.saturating_add(DAY).saturating_sub(self.from)) % DAY;
        if passed < length { Some(length.saturating_sub(passed)) } else { None }
    }
}

/// Formats a minute of the day as `08:00`.
#[derive(Clone, Copy, Debug)]
pub struct TimeOfDay(pub u16);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", TimeOfDay(self.from), TimeOfDay(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_may_pass_midnight() {
        let night = QuietHours { from: 23 * 60, until: 7 * 60 };
        assert_eq!(night.minutes_left(23 * 60), Some(8 * 60));
        assert_eq!(night.minutes_left(6 * 60 + 59), Some(1));
        assert_eq!(night.minutes_left(7 * 60), None);
        assert_eq!(night.minutes_left(22 * 60 + 59), None);
        let noon = QuietHours { from: 12 * 60, until: 13 * 60 };
        assert_eq!((noon.minutes_left(12 * 60 + 30), noon.minutes_left(13 * 60)), (Some(30), None));
        assert_eq!(night.to_string(), "23:00-07:00");
    }

    #[test]
    fn the_secret_parts_of_an_address_are_shown_nowhere() {
        let text = "https://discord.com/api/webhooks/123456789012345678/aToken-of_the-alerts-test";
        let url = SecretUrl::parse(text).unwrap();
        assert_eq!(format!("{url:?}"), "SecretUrl(https://discord.com/…)");
        let line = format!("failed: {text} and aToken-of_the-alerts-test");
        let masked = secret::mask(&line);
        assert!(!masked.contains("aToken-of") && !masked.contains("123456789"), "{masked}");
        assert!(secret::mask("webhooks of discord.com").contains("webhooks"));
        assert_eq!(SecretUrl::parse("http://example.com/x"), Err(EndpointError::PlainText));
        assert!(SecretUrl::parse("http://127.0.0.1:1/x").is_ok());
    }
}
