//! What waits for a handle's owner: bounded, in order, and exact about what was dropped.
//!
//! Messages are dropped when they are too many or too large, the oldest first, and counted; notices
//! never are, short of [`NOTICES_MAX`] of them. The task that fills it waits for nobody.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::event::{HandleEvent, ServerMessage};

/// How many notices can wait. They come a few per reconnect, which takes a quarter of a second.
pub const NOTICES_MAX: usize = 4_096;

/// Events on their way to the owner.
#[derive(Debug)]
pub(in crate::ws) struct EventQueue {
    state: Mutex<State>,
    news: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<(u64, ServerMessage)>,
    notices: VecDeque<(u64, HandleEvent)>,
    bytes: usize,
    lagged: u64,
    /// The number of the next event; order is by it.
    next: u64,
    is_closed: bool,
}

impl EventQueue {
    pub(in crate::ws) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            messages_max: messages_max.max(1),
            bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is inside is whole between any two lines, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in, and the oldest out while there are too many.
    pub(in crate::ws) fn message(&self, message: ServerMessage) {
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
        self.news.notify_one();
    }

    /// Puts a notice in.
    pub(in crate::ws) fn notice(&self, event: HandleEvent) {
        let mut state = self.lock();
        let number = state.number();
        if state.notices.len() >= NOTICES_MAX {
            state.notices.pop_front();
        }
        state.notices.push_back((number, event));
        drop(state);
        self.news.notify_one();
    }

    /// Nothing more comes; what is there can still be fetched.
    pub(in crate::ws) fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_waiters();
        self.news.notify_one();
    }

    /// Nothing more comes, and what is there is dropped.
    pub(in crate::ws) fn discard(&self) {
        let next = self.lock().next;
        *self.lock() = State { next, is_closed: true, ..State::default() };
        self.news.notify_waiters();
        self.news.notify_one();
    }

    /// The next event, if there is one now. `Err`: nothing comes any more.
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

    /// Whether there is an event now.
    pub(in crate::ws) fn has_event(&self) -> bool {
        let state = self.lock();
        state.lagged != 0 || !state.messages.is_empty() || !state.notices.is_empty()
    }

    /// The next event; `None` when nothing comes any more.
    pub(in crate::ws) async fn fetch(&self) -> Option<HandleEvent> {
        loop {
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            match self.try_fetch() {
                Ok(Some(event)) => {
                    // Another one may wait for the same news.
                    self.news.notify_one();
                    return Some(event);
                }
                Ok(None) => news.await,
                Err(()) => {
                    self.news.notify_one();
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

    fn drained(mailbox: &EventQueue) -> Vec<String> {
        std::iter::from_fn(|| mailbox.try_fetch().unwrap_or(None))
            .map(|event| match event {
                HandleEvent::Message(message) => message.text,
                HandleEvent::Reconnecting { attempt, .. } => format!("notice {attempt}"),
                HandleEvent::Lagged(count) => format!("lagged {count}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_oldest_are_dropped_and_counted_exactly_and_notices_are_kept() {
        let mailbox = EventQueue::new(3, usize::MAX);
        mailbox.notice(notice(1));
        for number in 0..5 {
            mailbox.message(message(number));
        }
        mailbox.notice(notice(2));
        assert_eq!(drained(&mailbox), ["lagged 2", "notice 1", "2", "3", "4", "notice 2"]);
        mailbox.message(message(9));
        assert_eq!(drained(&mailbox), ["9"]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mailbox = EventQueue::new(1_000, 4);
        for number in 10..20 {
            mailbox.message(message(number));
        }
        assert_eq!(drained(&mailbox), ["lagged 8", "18", "19"]);
    }

    #[test]
    fn a_closed_mailbox_is_emptied_and_a_discarded_one_is_empty() {
        let mailbox = EventQueue::new(10, usize::MAX);
        mailbox.message(message(1));
        mailbox.close();
        assert_eq!(drained(&mailbox), ["1"]);
        assert!(mailbox.try_fetch().is_err());
        let mailbox = EventQueue::new(10, usize::MAX);
        mailbox.message(message(1));
        mailbox.discard();
        assert!(mailbox.try_fetch().is_err());
    }

    proptest! {
        /// Whatever is put in and taken out: fetched and lagged add up, in order.
        #[test]
        fn nothing_is_lost_without_being_counted(
            moves in prop::collection::vec(any::<bool>(), 0..300),
            capacity in 1_usize..20,
        ) {
            let mailbox = EventQueue::new(capacity, usize::MAX);
            let (mut put, mut accounted) = (0_u64, 0_u64);
            for fill in moves.into_iter().chain(vec![false; 400]) {
                if fill {
                    mailbox.message(message(put));
                    put += 1;
                    continue;
                }
                match mailbox.try_fetch().unwrap() {
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
