//! The observer that records the raw messages of a feed.

use std::{fmt, time::Instant};

/// Receives every message and every change of the connection. Called in the feed's task after the
/// message was handled; must not block.
pub trait MessageRecorder: fmt::Debug + Send + Sync {
    /// A text message arrived over the connection with this number, counted from 1. `is_data` is
    /// `true` if it belongs to a subscription.
    fn on_message(&self, connection: u32, text: &str, at: Instant, is_data: bool);

    /// A binary message arrived; its content is not passed on.
    fn on_binary(&self);

    /// A message exceeded the size limit; the connection was closed because of it.
    fn on_oversized(&self);

    fn on_dial(&self);

    /// The connection is up, for the first time or again.
    fn on_connected(&self);

    /// No data can arrive from now on; `alive` is the last time at which the connection was known
    /// to work. Repeated calls during the same outage have no effect.
    fn on_disconnected(&self, alive: Instant, cause: &str);

    /// The server ended an essential subscription on a live connection: no data can arrive until it
    /// is subscribed to again.
    fn on_unsubscribed(&self, at: Instant, cause: &str) {
        self.on_disconnected(at, cause);
    }

    /// A back-fill found a listing of the last gap.
    fn on_backfilled(&self);
}
