//! Commands from the owner of a handle: topics, messages to send, stop.
//!
//! The topics are a set, not a queue, so many changes during an outage leave only the final set.
//! The messages are a bounded queue. No call blocks.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;

use super::{event::HandleError, options::Options};
use crate::protocol::Subscription;

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
struct State {
    /// In the order of subscription.
    topics: Vec<RequestedTopic>,
    /// Incremented on each change of the topics.
    version: u64,
    sends: VecDeque<String>,
    is_stopped: bool,
}

#[derive(Debug)]
pub(in crate::ws) struct CommandQueue {
    state: Mutex<State>,
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
        commands.lock().topics = options
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, HandleError> {
        let state = self.lock();
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
        self.lock().is_stopped = true;
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
        let state = self.lock();
        if *seen == Some(state.version) {
            return None;
        }
        *seen = Some(state.version);
        Some(state.topics.clone())
    }

    pub(super) fn next_send(&self) -> Option<String> {
        self.lock().sends.pop_front()
    }

    /// Takes all queued messages.
    pub(super) fn take_sends(&self) -> VecDeque<String> {
        std::mem::take(&mut self.lock().sends)
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
    use super::*;

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
