//! A plain connection and a reconnecting one behind the same trait.
//!
//! `cargo run --example source -- wss://example.com/ws` reads ten messages over a plain connection,
//! with `--reconnect` over one that reconnects. The function that reads them is the same.

use std::{env, error::Error, io::Write as _};

use sniper::{
    config::endpoint::{Endpoint, Scheme},
    protocol::PlainJson,
    text::Escaped,
    ws::{
        Hosts,
        connect::Dial as _,
        handle::{HandleEvent, Options, SingleConnection, Target},
        policy::ReconnectPolicy,
        source::{EventSource, ReconnectingSource},
    },
};

/// Reads ten messages from any source.
async fn read_ten(mut source: impl EventSource) -> Result<(), Box<dyn Error>> {
    source.connect().await?;
    let mut out = std::io::stdout().lock();
    let mut count = 0_u32;
    while let Some(event) = source.next_event().await {
        match event {
            HandleEvent::Message(message) => {
                writeln!(out, "{}", Escaped(&message.text))?;
                count = count.saturating_add(1);
            }
            other => writeln!(out, "({other:?})")?,
        }
        if count == 10 {
            break;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address =
        env::args().nth(1).ok_or("missing address: pass one, such as wss://example.com/ws")?;
    let target = Target::tcp(Endpoint::parse(&address, Scheme::WebSocket)?, None)?;
    let host = target.dial.host();
    let bare = SingleConnection::new(target, PlainJson::SILENT, Options::default());
    if env::args().any(|arg| arg == "--reconnect") {
        let policy = ReconnectPolicy::default();
        let host = Hosts::default().host(&host, &policy);
        return read_ten(ReconnectingSource::new(bare, policy, host)).await;
    }
    read_ten(bare).await
}
