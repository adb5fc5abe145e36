//! Deadlines that read first: what already lies in a socket is read before anything is called late.
//!
//! A process that stood still (SIGSTOP, a frozen machine) wakes to timers that have fired and to
//! sockets that hold what came meanwhile. The stop interrupts `epoll_wait`, which then returns no
//! event, so tokio fires the timers while it still takes every socket for empty. A deadline is
//! therefore believed only after the runtime has asked the system about its sockets once more
//! ([`Turn`]), and after a short wait where the timer itself came late.

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

/// A timer that fires this much too late shows that the process stood still.
pub(crate) const STOOD_STILL: Duration = Duration::from_millis(50);

/// How long a process that stood still waits for what may still be on its way through the system.
pub(crate) const CATCH_UP_MAX: Duration = Duration::from_millis(500);

/// How many turns of the runtime a result gets to travel from a socket through other tasks.
const TURNS: u32 = 3;

/// One turn of the runtime, in which it asks the system about every socket.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Woken>);

#[derive(Debug)]
struct Woken {
    is_over: AtomicBool,
    waker: Waker,
}

/// The runtime wakes this only after its driver has asked the system, and nothing else does.
impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

impl Turn {
    fn begin(cx: &Context<'_>) -> Self {
        let woken = Arc::new(Woken { is_over: AtomicBool::new(false), waker: cx.waker().clone() });
        // Its first poll hands this waker to the runtime. The task's own waker would not do: other
        // events wake the task too, before any socket was asked.
        let waker = Waker::from(Arc::clone(&woken));
        let _pending = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        Self(woken)
    }

    /// Begins a turn where there is none, and is ready when it is over. The caller then clears it.
    pub(crate) fn poll(turn: &mut Option<Self>, cx: &Context<'_>) -> Poll<()> {
        match turn {
            Some(Self(woken)) if woken.is_over.load(Ordering::Acquire) => Poll::Ready(()),
            Some(Self(woken)) if woken.waker.will_wake(cx.waker()) => Poll::Pending,
            _ => {
                *turn = Some(Self::begin(cx));
                Poll::Pending
            }
        }
    }
}

/// Waits until the runtime has asked the system about every socket once.
async fn turn() {
    let mut turn = None;
    poll_fn(|cx| Turn::poll(&mut turn, cx)).await;
}

/// Polls a future that is due at `due` once more after its deadline; `None`: it is late.
///
/// # Cancel safety
///
/// As safe as the future.
pub(crate) async fn once_more<F: Future>(due: Instant, future: F) -> Option<F::Output> {
    let is_late = STOOD_STILL <= Instant::now().saturating_duration_since(due);
    let mut future = pin!(future);
    for _ in 0..TURNS {
        turn().await;
        if let Poll::Ready(output) = look(future.as_mut()).await {
            return Some(output);
        }
    }
    if !is_late {
        return None;
    }
    tokio::time::timeout(CATCH_UP_MAX, future).await.ok()
}

/// Polls once.
async fn look<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// The time is over, and nothing lay in the sockets that would have changed that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late;

/// As `tokio::time::timeout`, but what came in time is read also by a process that stood still.
///
/// # Errors
///
/// [`Late`] when the time is over.
///
/// # Cancel safety
///
/// As safe as the future.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Late> {
    let begun = Instant::now();
    let due = begun.checked_add(limit).unwrap_or(begun);
    let mut future = pin!(future);
    match tokio::time::timeout(limit, future.as_mut()).await {
        Ok(output) => Ok(output),
        Err(_elapsed) => once_more(due, future).await.ok_or(Late),
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

    /// The runtime takes a socket for empty until its driver was polled, as after a stop.
    #[tokio::test]
    async fn what_lies_in_the_socket_is_read_before_it_is_called_late() {
        let (mut near, far) = pair().await;
        let far = far.into_std().unwrap();
        let mut byte = [0];
        let reading = near.read_exact(&mut byte);
        tokio::pin!(reading);
        assert!(look(reading.as_mut()).await.is_pending());
        assert_eq!(io::Write::write(&mut &far, b"x").unwrap(), 1);
        assert!(look(reading.as_mut()).await.is_pending(), "nothing has polled the driver");
        let read = once_more(Instant::now(), reading).await;
        assert!(read.is_some_and(|read| read.is_ok()));
        assert_eq!(&byte, b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_just_after_a_standstill_is_waited_for() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let due = Instant::now();
        tokio::time::advance(LIMIT).await;
        let mut byte = [0];
        let late = async {
            for _ in 0..TURNS * 10 {
                yield_now().await;
            }
            far.write_all(b"x").await.unwrap();
        };
        let (read, ()) = tokio::join!(once_more(due, near.read_exact(&mut byte)), late);
        assert!(read.is_some_and(|read| read.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_seen_in_time_adds_no_wait() {
        let begun = Instant::now();
        assert_eq!(timeout(LIMIT, pending::<()>()).await, Err(Late));
        assert_eq!(begun.elapsed(), LIMIT);
        assert_eq!(timeout(LIMIT, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_standstill_the_wait_has_a_bound() {
        let due = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        assert_eq!(once_more(due, pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), CATCH_UP_MAX);
    }

    /// Another event that wakes the task does not count as the turn.
    #[tokio::test]
    async fn a_turn_is_over_only_when_the_runtime_says_so() {
        let mut slot = None;
        poll_fn(|cx| {
            assert!(Turn::poll(&mut slot, cx).is_pending());
            assert!(Turn::poll(&mut slot, cx).is_pending(), "polled again by something else");
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        poll_fn(|cx| Turn::poll(&mut slot, cx)).await;
    }
}
