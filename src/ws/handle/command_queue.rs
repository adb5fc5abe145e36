//! What a handle's owner wants: the set of topics, the messages to send, whether to stop.
//!
//! The topics are a state, not a queue: a storm of changes during an outage leaves only the final
//! set. The messages are a queue with a bound. Whoever asks is never kept waiting.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;

use super::event::HandleError;

/// A topic that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedTopic {
    pub(super) topic: Arc<str>,
    pub(super) request_id: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were first wanted.
    topics: Vec<WantedTopic>,
    /// Counts changes of the topics.
    version: u64,
    sends: VecDeque<String>,
    is_stopped: bool,
}

/// What the owner wants.
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is inside is whole between any two lines, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, HandleError> {
        let state = self.lock();
        if state.is_stopped { Err(HandleError::Stopped) } else { Ok(state) }
    }

    /// Wants a topic. Says whether that is news.
    pub(super) fn want(&self, topic: String, request_id: Option<u64>) -> Result<bool, HandleError> {
        let mut state = self.open()?;
        if state.topics.iter().any(|wanted| *wanted.topic == *topic) {
            return Ok(false);
        }
        if state.topics.len() >= self.topics_max {
            return Err(HandleError::Busy);
        }
        state.topics.push(WantedTopic { topic: topic.into(), request_id });
        state.version = state.version.wrapping_add(1);
        drop(state);
        self.waker.wake();
        Ok(true)
    }

    /// Wants it no more. Says whether it was wanted.
    pub(super) fn unwant(&self, topic: &str) -> Result<bool, HandleError> {
        let mut state = self.open()?;
        let Some(at) = state.topics.iter().position(|wanted| *wanted.topic == *topic) else {
            return Ok(false);
        };
        state.topics.remove(at);
        state.version = state.version.wrapping_add(1);
        drop(state);
        self.waker.wake();
        Ok(true)
    }

    /// Sends a message, at most once.
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

    /// Ends everything.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.stop.send_replace(true);
        self.waker.wake();
    }

    /// Waits until it was stopped.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _never_closed = stop.wait_for(|is_stopped| *is_stopped).await;
    }

    /// The topics, if they have changed since this version.
    pub(super) fn topics(&self, seen: &mut Option<u64>) -> Option<Vec<WantedTopic>> {
        let state = self.lock();
        if *seen == Some(state.version) {
            return None;
        }
        *seen = Some(state.version);
        Some(state.topics.clone())
    }

    /// The next message to send.
    pub(super) fn next_send(&self) -> Option<String> {
        self.lock().sends.pop_front()
    }

    /// Everything that was to be sent.
    pub(super) fn take_sends(&self) -> VecDeque<String> {
        std::mem::take(&mut self.lock().sends)
    }

    /// Wakes this task when something changes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

/// Which topics must be asked for and which given back, to get from one set to the other.
pub(super) fn difference<T: Copy>(
    live: &HashMap<Arc<str>, T>,
    wanted: &[WantedTopic],
) -> (Vec<WantedTopic>, Vec<(Arc<str>, T)>) {
    let new = wanted.iter().filter(|wanted| !live.contains_key(&wanted.topic)).cloned().collect();
    let gone = live
        .iter()
        .filter(|(topic, _)| !wanted.iter().any(|wanted| wanted.topic == **topic))
        .map(|(topic, operation)| (Arc::clone(topic), *operation))
        .collect();
    (new, gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_wanted_once_and_in_order() {
        let orders = CommandQueue::new(8, 2);
        assert_eq!(orders.want("b".to_owned(), Some(7)), Ok(true));
        assert_eq!(orders.want("b".to_owned(), None), Ok(false));
        assert_eq!(orders.want("a".to_owned(), None), Ok(true));
        assert_eq!(orders.want("c".to_owned(), None), Err(HandleError::Busy));
        assert_eq!(orders.unwant("x"), Ok(false));
        assert_eq!(orders.unwant("a"), Ok(true));
        assert_eq!(orders.want("c".to_owned(), None), Ok(true));
        let mut seen = None;
        let topics = orders.topics(&mut seen).unwrap();
        assert_eq!(topics.iter().map(|wanted| &*wanted.topic).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(orders.topics(&mut seen), None);
    }

    #[test]
    fn a_storm_of_changes_leaves_the_final_set() {
        let orders = CommandQueue::new(8, 8);
        for _ in 0..1_000 {
            orders.want("a".to_owned(), None).unwrap();
            orders.want("b".to_owned(), None).unwrap();
            orders.unwant("a").unwrap();
        }
        let live = HashMap::from([(Arc::from("a"), 1), (Arc::from("b"), 2)]);
        let (new, gone) = difference(&live, &orders.topics(&mut None).unwrap());
        assert!(new.is_empty());
        assert_eq!(gone, [(Arc::from("a"), 1)]);
    }

    #[test]
    fn the_bound_on_messages_bounds() {
        let orders = CommandQueue::new(256, 8);
        for number in 0..256 {
            orders.send(number.to_string()).unwrap();
        }
        assert_eq!(orders.send("one more".to_owned()), Err(HandleError::Busy));
        assert_eq!(orders.next_send().unwrap(), "0");
        assert_eq!(orders.send("one more".to_owned()), Ok(()));
    }

    #[test]
    fn nothing_is_taken_after_the_stop() {
        let orders = CommandQueue::new(8, 8);
        orders.stop();
        assert_eq!(orders.want("a".to_owned(), None), Err(HandleError::Stopped));
        assert_eq!(orders.unwant("a"), Err(HandleError::Stopped));
        assert_eq!(orders.send("a".to_owned()), Err(HandleError::Stopped));
    }
}
