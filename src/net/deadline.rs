//! Deadlines that read first: data already in a socket is read before a deadline counts as passed.
//!
//! A suspended process (SIGSTOP, a frozen machine) resumes with expired timers and with sockets
//! that received data meanwhile. The stop interrupts `epoll_wait`, which then returns no event, so
//! tokio fires the timers while it still considers every socket empty. A deadline therefore counts
//! only after the runtime has polled its I/O driver again ([`DriverTick`]), and after a short
//! wait if the timer itself was late.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{task::yield_now, time::Instant};

/// Timer delay that indicates a suspended process. A busy machine delays a timer as much, which
/// costs a wait of at most [`CATCH_UP_MAX`].
const SUSPEND_DELAY_MIN: Duration = Duration::from_millis(50);

/// Maximum wait of a resumed process for data that the system has not delivered yet.
pub(crate) const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// Ticks of the runtime for a result to travel from a socket through other tasks.
const TICKS: u32 = 3;

/// One tick of the runtime, in which it polls its I/O driver for every socket.
#[derive(Debug)]
pub(crate) struct DriverTick(Arc<Woken>);

#[derive(Debug)]
struct Woken {
    is_over: AtomicBool,
    waker: Waker,
}

/// Only the runtime wakes this, after it has polled its I/O driver.
impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

impl DriverTick {
    fn begin(cx: &Context<'_>) -> Self {
        let woken = Arc::new(Woken { is_over: AtomicBool::new(false), waker: cx.waker().clone() });
        // The first poll registers this waker with the runtime. The task's own waker is unsuitable:
        // other events wake the task too, before the I/O driver was polled.
        let waker = Waker::from(Arc::clone(&woken));
        let _pending = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        Self(woken)
    }

    /// Starts a tick if there is none, and is ready when it is over. The caller then clears it.
    pub(crate) fn poll(tick: &mut Option<Self>, cx: &Context<'_>) -> Poll<()> {
        match tick {
            Some(Self(woken)) if woken.is_over.load(Ordering::Acquire) => Poll::Ready(()),
            Some(Self(woken)) if woken.waker.will_wake(cx.waker()) => Poll::Pending,
            _ => {
                *tick = Some(Self::begin(cx));
                Poll::Pending
            }
        }
    }
}

/// Waits until the runtime has polled its I/O driver once.
async fn tick() {
    let mut tick = None;
    poll_fn(|cx| DriverTick::poll(&mut tick, cx)).await;
}

/// Polls a future again after its deadline `due`. Returns `None` if it is still pending.
///
/// # Cancel safety
///
/// As safe as the future.
pub(crate) async fn poll_after_deadline<F: Future>(due: Instant, future: F) -> Option<F::Output> {
    let is_late = SUSPEND_DELAY_MIN <= Instant::now().saturating_duration_since(due);
    let mut future = pin!(future);
    for _ in 0..TICKS {
        tick().await;
        if let Poll::Ready(output) = poll_once(future.as_mut()).await {
            return Some(output);
        }
    }
    if !is_late {
        return None;
    }
    tokio::time::timeout(CATCH_UP_MAX, future).await.ok()
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// The deadline passed, and no data in the sockets would have met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

/// Limits a future like `tokio::time::timeout`, but data that arrived in time is read even after a
/// suspend of the process.
///
/// # Errors
///
/// Returns [`Late`] after the deadline.
///
/// # Cancel safety
///
/// As safe as the future.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Late> {
    let start = Instant::now();
    let due = start.checked_add(limit).unwrap_or(start);
    let mut future = pin!(future);
    match tokio::time::timeout(limit, future.as_mut()).await {
        Ok(output) => Ok(output),
        Err(_elapsed) => poll_after_deadline(due, future).await.ok_or(Late),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, io};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_millis(60);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// The runtime considers a socket empty until its I/O driver was polled, as after a suspend.
    #[tokio::test]
    async fn data_in_the_socket_is_read_before_the_deadline_counts() {
        let (mut near, far) = pair().await;
        let far = far.into_std().unwrap();
        let mut byte = [0];
        let reading = near.read_exact(&mut byte);
        tokio::pin!(reading);
        assert!(poll_once(reading.as_mut()).await.is_pending());
        assert_eq!(io::Write::write(&mut &far, b"x").unwrap(), 1);
        assert!(
            poll_once(reading.as_mut()).await.is_pending(),
            "the I/O driver was not polled yet"
        );
        let read = poll_after_deadline(Instant::now(), reading).await;
        assert!(read.is_some_and(|read| read.is_ok()));
        assert_eq!(&byte, b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn data_that_arrives_just_after_a_suspend_is_waited_for() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let due = Instant::now();
        tokio::time::advance(LIMIT).await;
        let mut byte = [0];
        let late = async {
            for _ in 0..TICKS * 10 {
                yield_now().await;
            }
            far.write_all(b"x").await.unwrap();
        };
        let (read, ()) = tokio::join!(poll_after_deadline(due, near.read_exact(&mut byte)), late);
        assert!(read.is_some_and(|read| read.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_fires_on_time_adds_no_wait() {
        let start = Instant::now();
        assert_eq!(timeout(LIMIT, pending::<()>()).await, Err(Late));
        assert_eq!(start.elapsed(), LIMIT);
        assert_eq!(timeout(LIMIT, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_after_a_suspend_is_bounded() {
        let due = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        assert_eq!(poll_after_deadline(due, pending::<()>()).await, None);
        assert_eq!(start.elapsed(), CATCH_UP_MAX);
    }

    /// Another event that wakes the task does not complete the tick.
    #[tokio::test]
    async fn a_tick_ends_only_after_the_runtime_has_polled_its_driver() {
        let mut slot = None;
        poll_fn(|cx| {
            assert!(DriverTick::poll(&mut slot, cx).is_pending());
            assert!(DriverTick::poll(&mut slot, cx).is_pending(), "woken by another event");
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        poll_fn(|cx| DriverTick::poll(&mut slot, cx)).await;
    }
}
