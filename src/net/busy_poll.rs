//! A TCP connection whose reader does not sleep.
//!
//! Being told that bytes have come takes longer than they did: the event loop asks the system what
//! there is, the task is called, and only then is the socket read. Whoever has a core to spare asks
//! the socket itself, again and again, and has the bytes when they are there.

use std::{
    io::{self, Read as _},
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection, and how it is read.
#[derive(Debug)]
pub struct BusyPollStream {
    stream: TcpStream,
    is_eager: bool,
}

impl BusyPollStream {
    /// If `is_eager`, each read asks the system at once, and whoever finds nothing is woken to ask
    /// again after everybody else had a turn; so it keeps the whole thread busy. Otherwise it reads
    /// as any other does, and sleeps until there is something.
    pub const fn new(stream: TcpStream, is_eager: bool) -> Self {
        Self { stream, is_eager }
    }
}

impl AsyncRead for BusyPollStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_eager {
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
    async fn what_comes_is_read_and_so_is_the_end_eagerly_or_not() {
        for is_eager in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut near, mut far) =
                (BusyPollStream::new(near.unwrap(), is_eager), far.unwrap().0);
            let mut bytes = [0; 5];
            let talk = async {
                // Whoever is eager lets others have their turn while there is nothing.
                tokio::task::yield_now().await;
                far.write_all(b"hello").await.unwrap();
                far
            };
            let (read, far) = tokio::join!(near.read_exact(&mut bytes), talk);
            assert_eq!((read.unwrap(), &bytes), (5, b"hello"));
            drop(far);
            assert_eq!(near.read(&mut bytes).await.unwrap(), 0, "eager: {is_eager}");
        }
    }
}
