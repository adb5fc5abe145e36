//! A TCP stream that can busy-poll its socket for reads.
//!
//! The event loop adds latency to received bytes: it queries the system, wakes the task, and only
//! then is the socket read. With a spare CPU core, the task can read the socket in a loop instead.

use std::{
    io::{self, Read as _},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[derive(Debug)]
pub struct BusyPollStream {
    stream: TcpStream,
    is_busy_polling: bool,
}

impl BusyPollStream {
    /// Wraps a stream. With `is_busy_polling`, each read queries the socket directly, and a read
    /// without data wakes its task again after the other tasks of the thread had their turn; this
    /// keeps the thread fully busy. Otherwise reads wait for readiness as usual.
    pub const fn new(stream: TcpStream, is_busy_polling: bool) -> Self {
        Self { stream, is_busy_polling }
    }

    /// Returns the address of the server.
    pub fn peer(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip())
    }
}

impl AsyncRead for BusyPollStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_busy_polling {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        match (&*SockRef::from(&self.stream)).read(buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => Poll::Ready(Err(error)),
            },
        }
    }
}

impl AsyncWrite for BusyPollStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn data_and_the_end_of_the_stream_are_read_in_both_modes() {
        for is_busy_polling in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut near, mut far) =
                (BusyPollStream::new(near.unwrap(), is_busy_polling), far.unwrap().0);
            let mut bytes = [0; 5];
            let write_peer = async {
                // A busy-polling read lets other tasks run while there is no data.
                tokio::task::yield_now().await;
                far.write_all(b"hello").await.unwrap();
                far
            };
            let (read, far) = tokio::join!(near.read_exact(&mut bytes), write_peer);
            assert_eq!((read.unwrap(), &bytes), (5, b"hello"));
            drop(far);
            assert_eq!(near.read(&mut bytes).await.unwrap(), 0, "busy polling: {is_busy_polling}");
        }
    }
}
