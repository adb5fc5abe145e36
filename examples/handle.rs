//! A handle for any feed with topics, which reconnects and resubscribes.
//!
//! `cargo run --example handle -- wss://example.com/ws '{"op":"subscribe","topic":"trades"}' …`
//! sends each further argument as a subscription, also after every reconnect, and prints the
//! messages.

use std::{env, error::Error, io::Write as _};

use sniper::{
    config::endpoint::{Endpoint, Scheme},
    protocol::PlainJson,
    text::Escaped,
    ws::handle::{Handle, HandleEvent, Options, Target},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let address = args.next().ok_or("missing address: pass one, such as wss://example.com/ws")?;
    let target = Target::tcp(Endpoint::parse(&address, Scheme::WebSocket)?, None)?;
    let options = Options::builder().name("example".to_owned()).build();
    let handle = Handle::connect(target, PlainJson::VERBATIM, options).await?;
    for topic in args {
        handle.subscribe(&topic)?;
    }
    let mut out = std::io::stdout().lock();
    while let Some(event) = handle.recv().await {
        match event {
            HandleEvent::Message(message) => writeln!(out, "{}", Escaped(&message.text))?,
            HandleEvent::Lagged(count) => writeln!(out, "(lagged: {count} messages dropped)")?,
            HandleEvent::Reconnecting { wait, cause, .. } => {
                writeln!(out, "(disconnected: {cause}; reconnecting in {wait:?})")?;
            }
            HandleEvent::Reconnected { gap } => {
                writeln!(out, "(reconnected after {:?})", gap.duration)?;
            }
            other => writeln!(out, "({other:?})")?,
        }
    }
    Ok(())
}
