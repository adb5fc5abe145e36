//! A connection without reconnects that is read only while its owner waits for an event.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use super::{
    Options, Target,
    command_queue::CommandQueue,
    event::{HandleError, HandleEvent, StopReason},
    event_queue::EventQueue,
    session::HandleSession,
    task::{HandleTask, LiveSession},
};
use crate::{
    protocol::FeedProtocol,
    ws::{FeedError, connect::Dial, source::EventSource},
};

/// One connection. It reads and answers pings only while an event is awaited.
pub struct SingleConnection<D: Dial, L> {
    task: HandleTask<D, L>,
    live: Option<LiveSession<D, L>>,
}

impl<D: Dial, L: FeedProtocol + Clone + Send> SingleConnection<D, L> {
    pub fn new(target: Target<D>, protocol: L, options: Options) -> Self {
        let events = Arc::new(EventQueue::new(options.channel_capacity, options.channel_bytes));
        let commands = Arc::new(CommandQueue::from_options(&options));
        Self { task: HandleTask::new(target, protocol, options, events, commands), live: None }
    }

    /// Reads until there is an event or the session has ended.
    async fn read(&mut self) {
        let Some(live) = &mut self.live else { return };
        let HandleTask {
            events,
            commands,
            options,
            gap_tracker,
            reconnector,
            arrival_stats,
            connections,
            malformed_shown,
            ..
        } = &mut self.task;
        let mut handler: HandleSession<'_, fn()> = HandleSession {
            events,
            commands,
            metrics: &options.metrics,
            gap_tracker,
            tag: reconnector.tag(),
            malformed_shown,
            connection: *connections,
            pace: options.replay_pace,
            healthy_on_delivery: false,
            mark_healthy: None,
            progress: &mut live.progress,
        };
        let ended = {
            let mut run = pin!(live.session.run(&mut handler, arrival_stats));
            poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if events.has_event() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let Some(ended) = ended else { return };
        for (text, written) in live.session.unwritten() {
            events.push_notice(HandleEvent::NotSent { text, written });
        }
        options.metrics.record_end(&ended);
        gap_tracker.on_disconnected(live.session.alive_until(&ended), &ended.chain());
        events.push_notice(HandleEvent::Disconnected(StopReason::Ended(Some(ended))));
        self.live = None;
    }
}

impl<D: Dial, L: FeedProtocol + Clone + Send + Sync> EventSource for SingleConnection<D, L> {
    fn name(&self) -> &str {
        &self.task.options.name
    }

    async fn connect(&mut self) -> Result<(), FeedError> {
        self.live = None;
        self.live = Some(self.task.connect().await?);
        self.task.gap_tracker.on_connected();
        self.task.arrival_stats.interrupt();
        self.task.connections = self.task.connections.saturating_add(1);
        Ok(())
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError> {
        self.task.commands.subscribe(topic.to_owned(), None).map(drop)
    }

    async fn next_event(&mut self) -> Option<HandleEvent> {
        loop {
            match self.task.events.try_fetch() {
                Ok(Some(event)) => return Some(event),
                Ok(None) if self.live.is_some() => {
                    self.read().await;
                }
                Ok(None) | Err(()) => return None,
            }
        }
    }
}
