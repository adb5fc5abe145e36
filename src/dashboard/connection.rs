//! Accepted connections: bounded in number, and closed when their client does not read, or does not
//! complete a request.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Maximum number of open connections. Further ones wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 32;

/// Size of the send buffer of a connection, in bytes: the most that a client that does not read can
/// occupy.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Pause after a failed `accept`, such as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionTimes {
    /// Maximum time for which a client accepts no byte.
    pub(super) write_stall: Duration,
    /// Maximum time in which nothing is sent to the client. Bytes from the client do not prolong
    /// it, because a request that arrives slowly would hold its place.
    pub(super) idle: Duration,
}

/// Listener with at most [`CONNECTIONS_MAX`] connections.
#[derive(Debug)]
pub(super) struct BoundedListener {
    pub(super) listener: TcpListener,
    pub(super) permits: Arc<Semaphore>,
    pub(super) times: ConnectionTimes,
}

/// Address of the client of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, BoundedListener>> for ClientAddress {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Listener for BoundedListener {
    type Io = TimedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let permits = Arc::clone(&self.permits);
            let (Ok(permit), accepted) =
                (permits.acquire_owned().await, self.listener.accept().await)
            else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match accepted {
                Ok((stream, address)) => {
                    // The connection also works if these options cannot be set.
                    drop(stream.set_nodelay(true));
                    drop(socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES));
                    return (TimedStream::new(stream, permit, self.times), address);
                }
                Err(_error) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Connection whose reads and writes fail after a time without progress.
#[derive(Debug)]
pub(super) struct TimedStream {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    times: ConnectionTimes,
    last_written: Instant,
    /// Fires when a pending write has made no progress.
    stall: Option<Pin<Box<Sleep>>>,
    idle: Pin<Box<Sleep>>,
}

impl TimedStream {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, times: ConnectionTimes) -> Self {
        let idle = Box::pin(sleep(times.idle));
        let last_written = Instant::now();
        Self { stream, _permit: permit, times, last_written, stall: None, idle }
    }

    /// Returns ready once nothing was written for the maximum time.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.idle.as_mut().poll(context).is_ready() {
            let due = self.last_written.checked_add(self.times.idle);
            let Some(due) = due.filter(|due| Instant::now() < *due) else { return Poll::Ready(()) };
            self.idle.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Fails a write that is pending for the maximum time.
    fn after_write(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            self.last_written = Instant::now();
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(self.times.write_stall)));
        match stall.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => this.poll_idle(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.after_write(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.after_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
