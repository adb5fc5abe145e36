//! The bounded queues between a handle's owner and its task. No call blocks.
//!
//! Events go to the owner, in order. If messages are too many or too large, the oldest are dropped
//! and counted. Notices are kept, up to [`NOTICES_MAX`].
//!
//! Commands go to the task: topics, messages to send, stop. The topics are a set, not a queue, so
//! many changes during an outage leave only the final set. The messages are a queue.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::Context,
};

use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, mpsc::error::TryRecvError, watch};

use super::{HandleError, HandleEvent, Options, ServerMessage};
use crate::{protocol::Subscription, threads::lock};

/// Maximum number of queued notices; beyond it the oldest is dropped. A reconnect takes at least
/// 250 ms and produces a few.
pub const NOTICES_MAX: usize = 4_096;

#[derive(Debug)]
pub(super) struct EventQueue {
    state: Mutex<EventState>,
    notify: Notify,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct EventState {
    messages: VecDeque<(u64, ServerMessage)>,
    notices: VecDeque<(u64, HandleEvent)>,
    bytes: usize,
    lagged: u64,
    /// Number of the next event; defines the order.
    next: u64,
    is_closed: bool,
}

impl EventQueue {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { state: Mutex::default(), notify: Notify::new(), messages_max, bytes_max }
    }

    pub(super) const fn takes_messages(&self) -> bool {
        self.messages_max > 0
    }

    /// Queues a message and drops the oldest ones beyond the limits.
    pub(super) fn push_message(&self, message: ServerMessage) {
        let mut state = lock(&self.state);
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

    pub(super) fn push_notice(&self, event: HandleEvent) {
        let mut state = lock(&self.state);
        let number = state.number();
        if state.notices.len() >= NOTICES_MAX {
            state.notices.pop_front();
        }
        state.notices.push_back((number, event));
        drop(state);
        self.notify.notify_one();
    }

    /// Closes the queue; the remaining events can still be fetched.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.notify.notify_waiters();
        self.notify.notify_one();
    }

    /// Closes the queue and drops the remaining events.
    pub(super) fn discard(&self) {
        *lock(&self.state) = EventState { is_closed: true, ..EventState::default() };
        self.notify.notify_waiters();
        self.notify.notify_one();
    }

    /// Returns the next event, [`TryRecvError::Disconnected`] once the queue is closed and empty.
    pub(super) fn try_recv(&self) -> Result<HandleEvent, TryRecvError> {
        let mut state = lock(&self.state);
        if state.lagged != 0 {
            return Ok(HandleEvent::Lagged(std::mem::take(&mut state.lagged)));
        }
        let notice = state.notices.front().map(|(number, _)| *number);
        let message = state.messages.front().map(|(number, _)| *number);
        let next = match (notice, message) {
            (Some(notice), message) if message.is_none_or(|message| notice < message) => {
                state.notices.pop_front().map(|(_, event)| event)
            }
            _ => state.messages.pop_front().map(|(_, message)| {
                state.bytes = state.bytes.saturating_sub(message.text.len());
                HandleEvent::Message(message)
            }),
        };
        let is_closed = state.is_closed;
        next.ok_or(if is_closed { TryRecvError::Disconnected } else { TryRecvError::Empty })
    }

    pub(super) fn has_event(&self) -> bool {
        let state = lock(&self.state);
        state.lagged != 0 || !state.messages.is_empty() || !state.notices.is_empty()
    }

    /// Returns the next event, or `None` once the queue is closed and empty.
    pub(super) async fn recv(&self) -> Option<HandleEvent> {
        loop {
            let mut notify = pin!(self.notify.notified());
            notify.as_mut().enable();
            match self.try_recv() {
                Ok(event) => {
                    // Wakes another waiting task, if there is one.
                    self.notify.notify_one();
                    return Some(event);
                }
                Err(TryRecvError::Empty) => notify.await,
                Err(TryRecvError::Disconnected) => {
                    self.notify.notify_one();
                    return None;
                }
            }
        }
    }
}

impl EventState {
    const fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestedTopic {
    pub(super) topic: Arc<str>,
    pub(super) request_id: Option<u64>,
    pub(super) is_optional: bool,
}

impl RequestedTopic {
    pub(super) fn subscription(&self) -> Subscription {
        Subscription { topic: self.topic.to_string(), is_optional: self.is_optional }
    }
}

#[derive(Debug, Default)]
struct CommandState {
    /// In the order of subscription.
    topics: Vec<RequestedTopic>,
    /// Incremented on each change of the topics.
    version: u64,
    sends: VecDeque<String>,
    is_stopped: bool,
}

#[derive(Debug)]
pub(super) struct CommandQueue {
    state: Mutex<CommandState>,
    waker: AtomicWaker,
    stop: watch::Sender<bool>,
    sends_max: usize,
    topics_max: usize,
}

impl CommandQueue {
    pub(super) fn new(sends_max: usize, topics_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            stop: watch::Sender::new(false),
            sends_max,
            topics_max,
        }
    }

    /// Creates the queue of a handle with these options and their topics.
    pub(super) fn from_options(options: &Options) -> Self {
        let commands = Self::new(options.command_capacity, options.topics_max);
        lock(&commands.state).topics = options
            .topics
            .iter()
            .map(|Subscription { topic, is_optional }| RequestedTopic {
                topic: topic.as_str().into(),
                request_id: None,
                is_optional: *is_optional,
            })
            .collect();
        commands
    }

    fn open(&self) -> Result<MutexGuard<'_, CommandState>, HandleError> {
        let state = lock(&self.state);
        if state.is_stopped { Err(HandleError::Stopped) } else { Ok(state) }
    }

    /// Adds a topic. Returns `true` if it is new.
    pub(super) fn subscribe(
        &self,
        topic: String,
        request_id: Option<u64>,
    ) -> Result<bool, HandleError> {
        let mut state = self.open()?;
        if state.topics.iter().any(|requested| *requested.topic == *topic) {
            return Ok(false);
        }
        if state.topics.len() >= self.topics_max {
            return Err(HandleError::Busy);
        }
        state.topics.push(RequestedTopic { topic: topic.into(), request_id, is_optional: false });
        state.version = state.version.wrapping_add(1);
        drop(state);
        self.waker.wake();
        Ok(true)
    }

    /// Removes a topic. Returns `true` if it was present.
    pub(super) fn unsubscribe(&self, topic: &str) -> Result<bool, HandleError> {
        let mut state = self.open()?;
        let Some(at) = state.topics.iter().position(|requested| *requested.topic == *topic) else {
            return Ok(false);
        };
        state.topics.remove(at);
        state.version = state.version.wrapping_add(1);
        drop(state);
        self.waker.wake();
        Ok(true)
    }

    /// Queues a message that is sent at most once.
    pub(super) fn send(&self, text: String) -> Result<(), HandleError> {
        let mut state = self.open()?;
        if state.sends.len() >= self.sends_max {
            return Err(HandleError::Busy);
        }
        state.sends.push_back(text);
        drop(state);
        self.waker.wake();
        Ok(())
    }

    pub(super) fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.stop.send_replace(true);
        self.waker.wake();
    }

    /// Waits for the stop.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _never_closed = stop.wait_for(|is_stopped| *is_stopped).await;
    }

    /// Returns the topics if they have changed since the version in `seen`.
    pub(super) fn topics(&self, seen: &mut Option<u64>) -> Option<Vec<RequestedTopic>> {
        let state = lock(&self.state);
        if *seen == Some(state.version) {
            return None;
        }
        *seen = Some(state.version);
        Some(state.topics.clone())
    }

    pub(super) fn next_send(&self) -> Option<String> {
        lock(&self.state).sends.pop_front()
    }

    /// Takes all queued messages.
    pub(super) fn take_sends(&self) -> VecDeque<String> {
        std::mem::take(&mut lock(&self.state).sends)
    }

    /// Wakes this task on each command.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

/// Returns the topics to subscribe to and to unsubscribe from, to get from `live` to `requested`.
pub(super) fn difference<T: Copy>(
    live: &HashMap<Arc<str>, T>,
    requested: &[RequestedTopic],
) -> (Vec<RequestedTopic>, Vec<(Arc<str>, T)>) {
    let new = requested
        .iter()
        .filter(|requested| !live.contains_key(&requested.topic))
        .cloned()
        .collect();
    let gone = live
        .iter()
        .filter(|(topic, _)| !requested.iter().any(|requested| requested.topic == **topic))
        .map(|(topic, operation)| (Arc::clone(topic), *operation))
        .collect();
    (new, gone)
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
        std::iter::from_fn(|| events.try_recv().ok())
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
        assert!(matches!(events.try_recv(), Err(TryRecvError::Disconnected)));
        let events = EventQueue::new(10, usize::MAX);
        events.push_message(message(1));
        events.discard();
        assert!(matches!(events.try_recv(), Err(TryRecvError::Disconnected)));
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
                match events.try_recv() {
                    Ok(HandleEvent::Lagged(count)) => accounted += count,
                    Ok(HandleEvent::Message(message)) => {
                        prop_assert_eq!(message.text, accounted.to_string());
                        accounted += 1;
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(accounted, put);
        }
    }

    #[test]
    fn topics_are_unique_and_ordered() {
        let commands = CommandQueue::new(8, 2);
        assert_eq!(commands.subscribe("b".to_owned(), Some(7)), Ok(true));
        assert_eq!(commands.subscribe("b".to_owned(), None), Ok(false));
        assert_eq!(commands.subscribe("a".to_owned(), None), Ok(true));
        assert_eq!(commands.subscribe("c".to_owned(), None), Err(HandleError::Busy));
        assert_eq!(commands.unsubscribe("x"), Ok(false));
        assert_eq!(commands.unsubscribe("a"), Ok(true));
        assert_eq!(commands.subscribe("c".to_owned(), None), Ok(true));
        let mut seen = None;
        let topics = commands.topics(&mut seen).unwrap();
        assert_eq!(
            topics.iter().map(|requested| &*requested.topic).collect::<Vec<_>>(),
            ["b", "c"]
        );
        assert_eq!(commands.topics(&mut seen), None);
    }

    #[test]
    fn many_changes_leave_only_the_final_set() {
        let commands = CommandQueue::new(8, 8);
        for _ in 0..1_000 {
            commands.subscribe("a".to_owned(), None).unwrap();
            commands.subscribe("b".to_owned(), None).unwrap();
            commands.unsubscribe("a").unwrap();
        }
        let live = HashMap::from([(Arc::from("a"), 1), (Arc::from("b"), 2)]);
        let (new, gone) = difference(&live, &commands.topics(&mut None).unwrap());
        assert!(new.is_empty());
        assert_eq!(gone, [(Arc::from("a"), 1)]);
    }

    #[test]
    fn queued_messages_are_bounded() {
        let commands = CommandQueue::new(256, 8);
        for number in 0..256 {
            commands.send(number.to_string()).unwrap();
        }
        assert_eq!(commands.send("one more".to_owned()), Err(HandleError::Busy));
        assert_eq!(commands.next_send().unwrap(), "0");
        assert_eq!(commands.send("one more".to_owned()), Ok(()));
    }

    #[test]
    fn commands_are_rejected_after_the_stop() {
        let commands = CommandQueue::new(8, 8);
        commands.stop();
        assert_eq!(commands.subscribe("a".to_owned(), None), Err(HandleError::Stopped));
        assert_eq!(commands.unsubscribe("a"), Err(HandleError::Stopped));
        assert_eq!(commands.send("a".to_owned()), Err(HandleError::Stopped));
    }
}
