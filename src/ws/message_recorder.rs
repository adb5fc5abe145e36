//! Who hears everything that a feed says, as it is: whoever records it.

use std::{fmt, time::Instant};

/// Hears every message and every change of the connection. Called in the feed's own task, after a
/// message was dealt with, so it must neither wait nor block.
pub trait MessageRecorder: fmt::Debug + Send + Sync {
    /// A text message came over the connection of this number, counted from 1. `is_data` says
    /// whether a subscription delivered it.
    fn message(&self, connection: u32, text: &str, at: Instant, is_data: bool);

    /// A binary message came, which is of no use to anybody.
    fn binary(&self);

    /// A message came that is longer than may be; the connection was closed because of it.
    fn too_long(&self);

    /// Somebody dials.
    fn dials(&self);

    /// It is up: for the first time, or again after it had been down.
    fn up(&self);

    /// From now on nothing can arrive; `alive` was the last proof of life. Said again while that
    /// lasts, it changes nothing.
    fn down(&self, alive: Instant, cause: &str);

    /// The server has ended the subscription for which the feed is listened to, on the live
    /// connection: from now on nothing can arrive until it is asked for again.
    fn unsubscribed(&self, at: Instant, cause: &str) {
        self.down(at, cause);
    }

    /// Something that the last gap had hidden was found elsewhere.
    fn back_filled(&self);
}
