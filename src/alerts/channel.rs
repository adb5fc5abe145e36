//! One channel: its HTTP client, its rate limit, and a check that sends no message.

use std::time::Duration;

use tracing::warn;

use super::{
    format,
    outbox::{AlertMessage, Delivery},
    response::{delivery, moved_chat, without_response},
};
use crate::{
    clock,
    config::alerts::{ChannelConfig, ChannelKind, ChannelTarget},
    net::{
        deadline::timeout,
        dial,
        http_client::{CONNECT_TIMEOUT, HttpClient, HttpError},
        tls::Tls,
    },
    text::error_chain,
};

/// Sends messages to one channel.
#[derive(Debug)]
pub struct AlertChannel {
    config: ChannelConfig,
    http: HttpClient,
    /// New id of a Telegram group that has moved.
    moved_to: Option<String>,
    /// Wait that the last response asked for, although it may have accepted the message.
    rate_limit_wait: Option<Duration>,
}

/// Cause and remedy of a failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFailure {
    pub why: String,
    pub remedy: String,
}

impl AlertChannel {
    /// Creates a channel without sending anything.
    ///
    /// # Errors
    ///
    /// Returns an [`HttpError`] if the client cannot be created.
    pub fn new(config: &ChannelConfig, tls: &Tls) -> Result<Self, HttpError> {
        let http = HttpClient::new(config.target.endpoint(), tls)?;
        Ok(Self { config: config.clone(), http, moved_to: None, rate_limit_wait: None })
    }

    pub const fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// Returns kind and server, such as `discord (discord.com)`.
    pub fn name(&self) -> String {
        let target = &self.config.target;
        format!("{} ({})", target.kind().name(), target.endpoint().authority())
    }

    /// Returns the minimum time between two messages, within the limits that the services document.
    pub fn min_interval(&self) -> Duration {
        match &self.config.target {
            ChannelTarget::Discord { .. } => Duration::from_secs(2),
            // 20 a minute in a group, one a second in a chat.
            ChannelTarget::Telegram { chat_id, .. } if chat_id.starts_with(['-', '@']) => {
                Duration::from_secs(3)
            }
            ChannelTarget::Telegram { .. } => Duration::from_secs(1),
            ChannelTarget::Ntfy { .. } => Duration::from_secs(5),
            ChannelTarget::Webhook { .. } => Duration::from_millis(200),
        }
    }

    /// Sends a message, and once more to the new id of a Telegram group that has moved. `id` is the
    /// same for every try.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the message may have been delivered.
    pub async fn send(&mut self, message: &AlertMessage, id: &str) -> Delivery {
        loop {
            let (target, chat_id) = (&self.config.target, self.moved_to.as_deref());
            let request = format::request(target, message, id, chat_id, clock::wall());
            let response = match self.http.send(&request).await {
                Ok(reply) => reply.response,
                Err(error) => return without_response(&error),
            };
            self.rate_limit_wait = response.head.rate_limit_reset_after;
            let Some(chat) = moved_chat(&response).filter(|_chat| self.moved_to.is_none()) else {
                return delivery(self.config.target.kind(), &response);
            };
            warn!("Telegram group moved; set chat_id = {chat} in its [[alerts]] section");
            self.moved_to = Some(chat.to_string());
        }
    }

    /// Takes the wait that the headers of the last response asked for. Discord asks for one when it
    /// accepts the last message that its rate limit permits.
    pub const fn take_rate_limit_wait(&mut self) -> Option<Duration> {
        self.rate_limit_wait.take()
    }

    /// Checks the address and the token without sending a message. Returns the result as text.
    ///
    /// # Errors
    ///
    /// Returns a [`CheckFailure`].
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn check(&self) -> Result<String, CheckFailure> {
        let Some(request) = format::check_request(&self.config.target) else {
            return self.connect().await;
        };
        let kind = self.config.target.kind();
        let result = match self.http.send(&request).await {
            // The token may be permitted to write only.
            Ok(reply) if kind == ChannelKind::Ntfy && reply.response.head.status == 403 => {
                return Ok("reachable, its topic cannot be read; to check that messages arrive: \
                           sniper alert test"
                    .to_owned());
            }
            Ok(reply) => delivery(kind, &reply.response),
            Err(error) => without_response(&error),
        };
        let (why, remedy) = match result {
            Delivery::Delivered => return Ok("reachable and accepted".to_owned()),
            Delivery::Retry { after: None, why, .. } => {
                (why, "check the network and the address in .env".to_owned())
            }
            Delivery::Retry { why, .. }
            | Delivery::PossiblyRejected { why }
            | Delivery::Rejected { why }
            | Delivery::Disabled { why } => (why, self.remedy()),
        };
        Err(CheckFailure { why, remedy })
    }

    async fn connect(&self) -> Result<String, CheckFailure> {
        let endpoint = self.config.target.endpoint();
        let why = match timeout(CONNECT_TIMEOUT, dial::tcp(endpoint)).await {
            Ok(Ok(_connected)) => return Ok("reachable".to_owned()),
            Ok(Err(error)) => error_chain(&error),
            Err(_elapsed) => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        let remedy = "check the network and the address in .env".to_owned();
        Err(CheckFailure { why, remedy })
    }

    fn remedy(&self) -> String {
        match &self.config.target {
            ChannelTarget::Discord { .. } => {
                "create a webhook in the settings of the channel, and copy its address into .env"
            }
            ChannelTarget::Telegram { .. } => {
                "check the token in .env, write to the bot once from the chat, and check chat_id"
            }
            ChannelTarget::Ntfy { .. } => "check the address of the topic and the token in .env",
            ChannelTarget::Webhook { .. } => "check the address in .env",
        }
        .to_owned()
    }
}
