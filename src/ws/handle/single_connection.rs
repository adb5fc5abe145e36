//! One connection without a safety net: it reads when it is asked for an event, and ends once.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use super::{
    Options, Target,
    command_queue::CommandQueue,
    event::{HandleError, HandleEvent, StopReason},
    event_queue::EventQueue,
    session::HandleSession,
    task::{HandleTask, LiveSession},
};
use crate::ws::{FeedError, connect::Dial, protocol::FeedProtocol, source::EventSource};

/// One connection. Nothing is read, and no ping is answered, but while an event is waited for.
pub struct SingleConnection<D: Dial, L> {
    task: HandleTask<D, L>,
    live: Option<LiveSession<D, L>>,
}

impl<D: Dial, L: FeedProtocol + Clone + Send> SingleConnection<D, L> {
    /// A connection that is yet to be made.
    pub fn new(target: Target<D>, dialect: L, options: Options) -> Self {
        let mailbox = Arc::new(EventQueue::new(options.channel_capacity, options.channel_bytes));
        let orders = Arc::new(CommandQueue::new(options.command_capacity, options.topics_max));
        Self { task: HandleTask::new(target, dialect, options, mailbox, orders), live: None }
    }

    /// Reads until there is an event or the session has ended.
    async fn read(&mut self) {
        let Some(live) = &mut self.live else { return };
        let HandleTask { mailbox, orders, options, link, rhythm, connections, .. } = &mut self.task;
        let mut hearer: HandleSession<'_, fn()> = HandleSession {
            mailbox,
            orders,
            taps: &options.taps,
            link,
            connection: *connections,
            pace: options.replay_pace,
            proves_by_delivery: false,
            proved: None,
            progress: &mut live.progress,
        };
        let ended = {
            let mut run = pin!(live.session.run(&mut hearer, rhythm));
            poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if mailbox.has_event() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let Some(ended) = ended else { return };
        for (text, written) in live.session.unwritten() {
            mailbox.notice(HandleEvent::NotSent { text, written });
        }
        link.down(live.session.alive_until(&ended), &ended.chain());
        mailbox.notice(HandleEvent::Disconnected(StopReason::Ended(Some(ended))));
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
        self.task.link.up();
        self.task.rhythm.interrupt();
        self.task.connections = self.task.connections.saturating_add(1);
        Ok(())
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError> {
        self.task.orders.want(topic.to_owned(), None).map(drop)
    }

    async fn next_event(&mut self) -> Option<HandleEvent> {
        loop {
            match self.task.mailbox.try_fetch() {
                Ok(Some(event)) => return Some(event),
                Ok(None) if self.live.is_some() => {
                    self.read().await;
                }
                Ok(None) | Err(()) => return None,
            }
        }
    }
}
