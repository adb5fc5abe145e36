//! Bounded, ordered queue of events for the owner of a handle.
//!
//! If messages are too many or too large, the oldest are dropped and counted. Notices are kept, up
//! to [`NOTICES_MAX`]. The task that fills the queue never blocks.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::event::{HandleEvent, ServerMessage};

/// Maximum number of queued notices. A reconnect takes 250 ms and produces a few.
pub const NOTICES_MAX: usize = 4_096;

#[derive(Debug)]
pub(in crate::ws) struct EventQueue {
    state: Mutex<State>,
    notify: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<(u64, ServerMessage)>,
    notices: VecDeque<(u64, HandleEvent)>,
    bytes: usize,
    lagged: u64,
    /// Number of the next event; defines the order.
    next: u64,
    is_closed: bool,
}

impl EventQueue {
    pub(in crate::ws) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { state: Mutex::default(), notify: Notify::new(), messages_max, bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::ws) const fn takes_messages(&self) -> bool {
        self.messages_max > 0
    }

    /// Queues a message and drops the oldest ones beyond the limits.
    pub(in crate::ws) fn push_message(&self, message: ServerMessage) {
        let mut state = self.lock();
        let number = state.number();
        state.bytes = state.bytes.saturating_add(message.text.len());
        state.messages.push_back((number, message));
        while state.messages.len() > self.messages_max
            || (state.bytes > self.bytes_max && state.messages.len() > 1)
        {
            let Some((_, dropped)) = state.messages.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(dropped.text.len());
            state.lagged = state.lagged.saturating_add(1);
        }
        drop(state);
        self.notify.notify_one();
    }

    pub(in crate::ws) fn push_notice(&self, event: HandleEvent) {
        let mut state = self.lock();
        let number = state.number();
        if state.notices.len() >= NOTICES_MAX {
            state.notices.pop_front();
        }
        state.notices.push_back((number, event));
        drop(state);
        self.notify.notify_one();
    }

    /// Closes the queue; the remaining events can still be fetched.
    pub(in crate::ws) fn close(&self) {
        self.lock().is_closed = true;
        self.notify.notify_waiters();
        self.notify.notify_one();
    }

    /// Closes the queue and drops the remaining events.
    pub(in crate::ws) fn discard(&self) {
        let next = self.lock().next;
        *self.lock() = State { next, is_closed: true, ..State::default() };
        self.notify.notify_waiters();
        self.notify.notify_one();
    }

    /// Returns the next event if there is one. `Err` if the queue is closed and empty.
    pub(in crate::ws) fn try_fetch(&self) -> Result<Option<HandleEvent>, ()> {
        let mut state = self.lock();
        if state.lagged != 0 {
            return Ok(Some(HandleEvent::Lagged(std::mem::take(&mut state.lagged))));
        }
        let notice = state.notices.front().map(|(number, _)| *number);
        let message = state.messages.front().map(|(number, _)| *number);
        match (notice, message) {
            (None, None) if state.is_closed => Err(()),
            (None, None) => Ok(None),
            (Some(notice), message) if message.is_none_or(|message| notice < message) => {
                Ok(state.notices.pop_front().map(|(_, event)| event))
            }
            _ => Ok(state.messages.pop_front().map(|(_, message)| {
                state.bytes = state.bytes.saturating_sub(message.text.len());
                HandleEvent::Message(message)
            })),
        }
    }

    pub(in crate::ws) fn has_event(&self) -> bool {
        let state = self.lock();
        state.lagged != 0 || !state.messages.is_empty() || !state.notices.is_empty()
    }

    /// Returns the next event, or `None` once the queue is closed and empty.
    pub(in crate::ws) async fn fetch(&self) -> Option<HandleEvent> {
        loop {
            let mut notify = pin!(self.notify.notified());
            notify.as_mut().enable();
            match self.try_fetch() {
                Ok(Some(event)) => {
                    // Wakes another waiting task, if there is one.
                    self.notify.notify_one();
                    return Some(event);
                }
                Ok(None) => notify.await,
                Err(()) => {
                    self.notify.notify_one();
                    return None;
                }
            }
        }
    }
}

impl State {
    const fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn message(number: u64) -> ServerMessage {
        ServerMessage {
            text: number.to_string(),
            topic: None,
            request_id: None,
            connection: 1,
            received: Instant::now(),
            received_ns: 0,
        }
    }

    fn notice(attempt: u32) -> HandleEvent {
        HandleEvent::Reconnecting { attempt, wait: Duration::ZERO, cause: String::new() }
    }

    fn drained(events: &EventQueue) -> Vec<String> {
        std::iter::from_fn(|| events.try_fetch().unwrap_or(None))
            .map(|event| match event {
                HandleEvent::Message(message) => message.text,
                HandleEvent::Reconnecting { attempt, .. } => format!("notice {attempt}"),
                HandleEvent::Lagged(count) => format!("lagged {count}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_oldest_messages_are_dropped_and_counted_and_notices_are_kept() {
        let events = EventQueue::new(3, usize::MAX);
        events.push_notice(notice(1));
        for number in 0..5 {
            events.push_message(message(number));
        }
        events.push_notice(notice(2));
        assert_eq!(drained(&events), ["lagged 2", "notice 1", "2", "3", "4", "notice 2"]);
        events.push_message(message(9));
        assert_eq!(drained(&events), ["9"]);
    }

    #[test]
    fn the_size_in_bytes_is_bounded() {
        let events = EventQueue::new(1_000, 4);
        for number in 10..20 {
            events.push_message(message(number));
        }
        assert_eq!(drained(&events), ["lagged 8", "18", "19"]);
    }

    #[test]
    fn a_closed_queue_can_be_drained_and_a_discarded_one_is_empty() {
        let events = EventQueue::new(10, usize::MAX);
        events.push_message(message(1));
        events.close();
        assert_eq!(drained(&events), ["1"]);
        assert!(events.try_fetch().is_err());
        let events = EventQueue::new(10, usize::MAX);
        events.push_message(message(1));
        events.discard();
        assert!(events.try_fetch().is_err());
    }

    proptest! {
        /// Fetched and dropped messages add up, in order.
        #[test]
        fn no_message_is_lost_without_being_counted(
            moves in prop::collection::vec(any::<bool>(), 0..300),
            capacity in 1_usize..20,
        ) {
            let events = EventQueue::new(capacity, usize::MAX);
            let (mut put, mut accounted) = (0_u64, 0_u64);
            for fill in moves.into_iter().chain(vec![false; 400]) {
                if fill {
                    events.push_message(message(put));
                    put += 1;
                    continue;
                }
                match events.try_fetch().unwrap() {
                    Some(HandleEvent::Lagged(count)) => accounted += count,
                    Some(HandleEvent::Message(message)) => {
                        prop_assert_eq!(message.text, accounted.to_string());
                        accounted += 1;
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(accounted, put);
        }
    }
}
